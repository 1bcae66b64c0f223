/*
 * operator_run.c [[check:]BACKEND] - checks, infers and runs models that another program sends, for
 * random_operators.py: it lives on where an executor that is compared with would end the process.
 * "check:" neither builds nor runs, and says that building refused.
 *
 * A request: the model's size and bytes; the number of inputs; for each its TensorProto.DataType,
 * rank, dimensions, size and bytes, in the order of the engine's inputs. A reply: the stage that
 * refused (0: none, 1: reading, 2: building, 3: running) and its sentence; how many errors the
 * check found and the first one's sentence; what was inferred of each output of the graph; and
 * what came out, as the inputs went in. Numbers are int64_t of this machine, a text is its size and
 * its bytes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kiln/kiln.h>

#include "ops/kln_ops.h"

#define MOST_INPUTS 64
#define LARGEST ((int64_t)1 << 30)

enum { STAGE_NONE, STAGE_READ, STAGE_BUILD, STAGE_RUN };

static const char *backend = "reference";
static bool only_checks;

static void end(const char *why)
{
    (void)fprintf(stderr, "operator_run: %s\n", why);
    exit(1);
}

static void receive(void *to, size_t size)
{
    if (size > 0 && fread(to, 1, size, stdin) != size) {
        end("a request ends early");
    }
}

static int64_t receive_number(void)
{
    int64_t number = 0;
    receive(&number, sizeof number);
    return number;
}

static void *receive_bytes(int64_t *size)
{
    *size = receive_number();
    if (*size < 0 || *size > LARGEST) {
        end("a size makes no sense");
    }
    void *bytes = calloc((size_t)*size + 1, 1);
    if (bytes == NULL) {
        end("no memory");
    }
    receive(bytes, (size_t)*size);
    return bytes;
}

static void send(const void *from, size_t size)
{
    if (size > 0 && fwrite(from, 1, size, stdout) != size) {
        end("nobody reads the reply");
    }
}

static void send_number(int64_t number)
{
    send(&number, sizeof number);
}

static void send_text(const char *text)
{
    send_number((int64_t)strlen(text));
    send(text, strlen(text));
}

/* --- what is known without a run --- */

static void send_check(kiln_span model)
{
    kiln_issue_list *issues = NULL;
    kiln_check_options options = KILN_CHECK_OPTIONS(.backend = backend);
    const char *first = "";
    int64_t errors = 0;
    if (kiln_check_bytes(model, NULL, &options, &issues) != KILN_OK) {
        send_number(1);
        send_text(kiln_error_message());
        return;
    }
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, i);
        if (issue->severity == KILN_SEVERITY_ERROR) {
            first = errors++ == 0 ? issue->sentence : first;
        }
    }
    send_number(errors);
    send_text(first);
    kiln_issue_list_destroy(issues);
}

static void send_inferred(const kln_value *value)
{
    send_number(value != NULL ? value->wire_dtype : 0);
    send_number(value != NULL && value->has_shape ? (int64_t)value->rank : -1);
    for (size_t i = 0; value != NULL && value->has_shape && i < value->rank; i++) {
        char text[512];
        (void)kln_dim_format(value->dims[i], text, sizeof text);
        send_text(value->dims[i].kind == KLN_DIM_UNKNOWN ? "" : text);
    }
}

static void send_inference(kiln_span bytes)
{
    kln_onnx_model *model = NULL;
    kln_inference *inference = NULL;
    if (kln_onnx_read_bytes(bytes, NULL, &model) != KILN_OK ||
        kln_infer(model, NULL, &inference) != KILN_OK) {
        send_number(0);
    } else {
        const kln_graph_inference *graph = inference->graph;
        send_number((int64_t)graph->output_count);
        for (size_t i = 0; i < graph->output_count; i++) {
            const uint32_t index = graph->outputs[i];
            send_inferred(index != KLN_NO_VALUE ? graph->values[index] : NULL);
        }
    }
    kln_inference_destroy(inference);
    kln_onnx_model_destroy(model);
}

/* --- a run --- */

typedef struct request {
    kiln_tensor inputs[MOST_INPUTS];
    size_t input_count;
    kiln_engine *engine;
    kiln_context *context;
} request;

static void receive_inputs(request *r)
{
    const int64_t count = receive_number();
    if (count < 0 || count > MOST_INPUTS) {
        end("too many inputs");
    }
    for (r->input_count = 0; r->input_count < (size_t)count; r->input_count++) {
        kiln_tensor *input = &r->inputs[r->input_count];
        memset(input, 0, sizeof *input);
        input->desc.dtype = kln_onnx_dtype((int32_t)receive_number());
        input->desc.shape.rank = (int32_t)receive_number();
        if (input->desc.shape.rank < 0 || input->desc.shape.rank > KILN_MAX_RANK) {
            end("a rank makes no sense");
        }
        receive(input->desc.shape.dims, (size_t)input->desc.shape.rank * sizeof(int64_t));
        int64_t size = 0;
        input->data = receive_bytes(&size);
        input->bytes = (size_t)size;
    }
}

/* Sequences and strings cannot. */
static bool can_be_shown(const request *r)
{
    for (size_t i = 0; i < kiln_engine_output_count(r->engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor output;
        if (kiln_engine_output(r->engine, i, &binding) != KILN_OK ||
            kiln_context_tensor(r->context, binding.name, &output) != KILN_OK) {
            return false;
        }
    }
    return true;
}

static int run(request *r, kiln_span model)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 1);
    if (only_checks) {
        return STAGE_BUILD;
    }
    if (kiln_engine_build_bytes(model, &options, &r->engine) != KILN_OK ||
        kiln_context_create(r->engine, NULL, &r->context) != KILN_OK) {
        return STAGE_BUILD;
    }
    const size_t required = kiln_engine_input_count(r->engine);
    for (size_t i = 0; i < r->input_count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        const kiln_status found = i < required
                                      ? kiln_engine_input(r->engine, i, &binding)
                                      : kiln_engine_optional(r->engine, i - required, &binding);
        if (found != KILN_OK ||
            kiln_context_bind(r->context, binding.name, &r->inputs[i]) != KILN_OK) {
            return STAGE_RUN;
        }
    }
    return kiln_context_run(r->context) == KILN_OK && can_be_shown(r) ? STAGE_NONE : STAGE_RUN;
}

static void send_outputs(const request *r)
{
    const size_t count = kiln_engine_output_count(r->engine);
    send_number((int64_t)count);
    for (size_t i = 0; i < count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor output;
        size_t bytes = 0;
        if (kiln_engine_output(r->engine, i, &binding) != KILN_OK ||
            kiln_context_tensor(r->context, binding.name, &output) != KILN_OK ||
            kiln_tensor_bytes(output.desc.dtype, &output.desc.shape, &bytes) != KILN_OK) {
            end(kiln_error_message());
        }
        send_number(kln_onnx_wire_dtype(output.desc.dtype));
        send_number(output.desc.shape.rank);
        send(output.desc.shape.dims, (size_t)output.desc.shape.rank * sizeof(int64_t));
        send_number((int64_t)bytes);
        send(output.data, bytes);
    }
}

static void serve(void)
{
    request r = {.input_count = 0};
    int64_t size = 0;
    void *bytes = receive_bytes(&size);
    const kiln_span model = {bytes, (size_t)size};
    receive_inputs(&r);
    const int stage = run(&r, model);
    send_number(stage);
    send_text(stage != STAGE_NONE ? kiln_error_message() : "");
    send_check(model);
    send_inference(model);
    if (stage == STAGE_NONE) {
        send_outputs(&r);
    }
    (void)fflush(stdout);
    kiln_context_destroy(r.context);
    kiln_engine_release(r.engine);
    for (size_t i = 0; i < r.input_count; i++) {
        free(r.inputs[i].data);
    }
    free(bytes);
}

int main(int argc, char **argv)
{
    static const char check[] = "check:";
    backend = argc > 1 ? argv[1] : backend;
    if (strncmp(backend, check, sizeof check - 1) == 0) {
        only_checks = true;
        backend += sizeof check - 1;
    }
    for (int next = getc(stdin); next != EOF; next = getc(stdin)) {
        (void)ungetc(next, stdin);
        serve();
    }
    return 0;
}
