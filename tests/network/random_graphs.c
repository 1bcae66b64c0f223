/* SPDX-License-Identifier: Apache-2.0 */
/* Random networks, each run by the reference executor and by ONNX Runtime with every intermediate
 * tensor as an output.
 *
 *     random_graphs [COUNT [SEED [FOLDER]]]
 *
 * For each: results agree within the bound of random_layers.c; what the network knew as it grew is
 * what is inferred of the whole; inference predicted the type and shape of every tensor; written
 * and read again, the network computes the same bits. One that fails is shrunk to the fewest
 * layers that still fail and saved in FOLDER as seed-N.onnx; a COUNT of 1 saves that one before it
 * runs, should an executor end the process. From 1,000 graphs on, every operator that layers put
 * in (those of layer_cases.c) must have been in one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/kln_graph.h"
#include "layer_cases.h"
#include "random_layers.h"

#define MOST_LAYERS 12
#define MOST_OPERATORS 256
#define ENOUGH_GRAPHS 1000

typedef struct tally {
    unsigned long graphs, tensors, refused, open;
} tally;

/* The operators of the random networks. */
typedef struct operators {
    char names[MOST_OPERATORS][32];
    size_t count;
} operators;

static operators seen;

static bool has_operator(const operators *of, const char *name)
{
    for (size_t i = 0; i < of->count; i++) {
        if (strcmp(of->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void add_operators(operators *to, const kln_onnx_graph *graph)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        if (!has_operator(to, node->op_type) && to->count < MOST_OPERATORS) {
            (void)snprintf(to->names[to->count++], sizeof to->names[0], "%s", node->op_type);
        }
        for (size_t k = 0; k < node->attribute_count; k++) {
            if (node->attributes[k].graph != NULL) {
                add_operators(to, node->attributes[k].graph);
            }
        }
    }
}

/* How many operators of the builder were in no random network; each is printed. */
static size_t count_unseen(void)
{
    static operators all;
    static const int32_t opsets[] = {18, 21, 23};
    size_t unseen = 0;
    for (size_t i = 0; i < layer_case_count * 3; i++) {
        const layer_case *each = &layer_cases[i / 3];
        const kln_onnx_model *model = NULL;
        kiln_network *network = NULL;
        kiln_network_options options = KILN_NETWORK_OPTIONS(.opset = opsets[i % 3]);
        if (options.opset >= each->oldest && strcmp(each->name, "by_name") != 0 &&
            kiln_network_create(&options, &network) == KILN_OK && each->build(network) == KILN_OK &&
            kln_network_model(network, &model) == KILN_OK) {
            add_operators(&all, &model->graph);
        }
        kiln_network_destroy(network);
    }
    for (size_t i = 0; i < all.count; i++) {
        if (!has_operator(&seen, all.names[i])) {
            fprintf(stderr, "%s was in no random network\n", all.names[i]);
            unseen++;
        }
    }
    return unseen;
}

typedef struct problem {
    bool is_there;
    char text[1024];
} problem;

static void complain(problem *p, const char *what, const char *tensor, const char *words)
{
    if (!p->is_there) {
        p->is_there = true;
        (void)snprintf(p->text, sizeof p->text, "%s, tensor \"%s\": %.800s", what, tensor, words);
    }
}

typedef struct run {
    kiln_engine *engine;
    kiln_context *context;
} run;

/* Eighths from -4 to 4, whole numbers, truths. */
static kiln_status fill(kiln_context *context, const char *name, uint64_t seed)
{
    kiln_tensor tensor;
    int64_t count = 0;
    uint64_t state = seed + (uint64_t)name[1];
    kiln_status status = kiln_context_tensor(context, name, &tensor);
    if (status == KILN_OK) {
        status = kiln_shape_elements(&tensor.desc.shape, &count);
    }
    for (int64_t i = 0; i < count && status == KILN_OK; i++) {
        const double eighth = (double)(random_next(&state) % 65) / 8 - 4;
        const double value =
            tensor.desc.dtype == KILN_DTYPE_BOOL ? (double)(eighth > 0)
            : tensor.desc.dtype == KILN_DTYPE_INT32 || tensor.desc.dtype == KILN_DTYPE_INT64
                ? floor(eighth)
                : eighth;
        status = kiln_tensor_write(&tensor, i, 1, &value);
    }
    return status;
}

/* Every fourth network is optimized. ONNX Runtime 1.31 ends the process where a branch or a body
 * reads what comes out of a DequantizeLinear: those are not. */
static kiln_optimization optimization_of(const kiln_network *network, uint64_t seed)
{
    static operators here;
    const kln_onnx_model *model = NULL;
    here.count = 0;
    if (kln_network_model(network, &model) == KILN_OK) {
        add_operators(&here, &model->graph);
    }
    const bool is_nested = has_operator(&here, "If") || has_operator(&here, "Loop");
    return seed % 4 == 0 && !(is_nested && has_operator(&here, "DequantizeLinear"))
               ? KILN_OPTIMIZATION_DEFAULT
               : KILN_OPTIMIZATION_OFF;
}

static kiln_status start(const kiln_network *network, const char *backend, uint64_t seed, run *out)
{
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = backend, .threads = 1,
                           .optimization = strcmp(backend, "reference") == 0
                                               ? KILN_OPTIMIZATION_DEFAULT
                                               : optimization_of(network, seed));
    kiln_status status = kiln_engine_build(network, &options, &out->engine);
    if (status == KILN_OK) {
        status = kiln_context_create(out->engine, NULL, &out->context);
    }
    for (size_t i = 0; i < kiln_engine_input_count(out->engine) && status == KILN_OK; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        status = kiln_engine_input(out->engine, i, &binding);
        if (status == KILN_OK) {
            status = fill(out->context, binding.name, seed);
        }
    }
    return status == KILN_OK ? kiln_context_run(out->context) : status;
}

static void stop(run *of)
{
    kiln_context_destroy(of->context);
    kiln_engine_release(of->engine);
    *of = (run){NULL, NULL};
}

/* What the network knew of the tensor as it grew is what is inferred of it in the end. */
static void check_growth(const random_network *r, const kln_inference *inference, const char *name,
                         problem *p)
{
    kiln_tensor_id id = KILN_NO_TENSOR;
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    kiln_shape grown = {-1, {0}};
    kiln_shape whole = {-1, {0}};
    const kln_value *value = kln_inference_find(inference->graph, name);
    if (value == NULL || kiln_network_find(r->network, name, &id) != KILN_OK ||
        kiln_network_tensor_type(r->network, id, &dtype, &grown) != KILN_OK) {
        complain(p, "growth", name, kiln_error_message());
        return;
    }
    (void)kln_value_shape(value, &whole);
    bool same = dtype == value->dtype && grown.rank == whole.rank;
    for (int32_t i = 0; same && i < grown.rank; i++) {
        same = grown.dims[i] == whole.dims[i];
    }
    if (!same) {
        complain(p, "growth", name, "as it grew, the network knew something else of it");
    }
}

/* What was predicted of the tensor against what it is. */
static void check_prediction(const kln_inference *inference, const char *name,
                             const kiln_tensor *tensor, tally *t, problem *p)
{
    char words[400];
    char text[200];
    const kln_value *value = kln_inference_find(inference->graph, name);
    bool fits = value != NULL && value->dtype == tensor->desc.dtype && value->has_shape &&
                value->rank == (size_t)tensor->desc.shape.rank;
    for (size_t i = 0; fits && i < value->rank; i++) {
        if (value->dims[i].kind == KLN_DIM_NUMBER) {
            fits = value->dims[i].of.number == tensor->desc.shape.dims[i];
        } else {
            t->open++;
        }
    }
    if (!fits) {
        (void)kiln_shape_format(&tensor->desc.shape, words, sizeof words);
        (void)snprintf(text, sizeof text, "nothing");
        if (value != NULL) {
            (void)kln_value_format(value, text, sizeof text);
        }
        char all[700];
        (void)snprintf(all, sizeof all, "%s was predicted, %s %.200s came", text,
                       kiln_dtype_name(tensor->desc.dtype), words);
        complain(p, "inference", name, all);
    }
}

static void check_numbers(const char *name, const kiln_tensor *a, const kiln_tensor *b,
                          double error, problem *p)
{
    int64_t count = 0;
    char words[200];
    if (a->desc.dtype != b->desc.dtype || !kiln_shape_equal(&a->desc.shape, &b->desc.shape)) {
        complain(p, "shapes", name, "the executors give different types or shapes");
        return;
    }
    if (kiln_shape_elements(&a->desc.shape, &count) != KILN_OK) {
        complain(p, "shapes", name, kiln_error_message());
    }
    for (int64_t i = 0; i < count; i++) {
        double x = 0;
        double y = 0;
        if (kiln_tensor_read(a, i, 1, &x) != KILN_OK || kiln_tensor_read(b, i, 1, &y) != KILN_OK) {
            complain(p, "reading", name, kiln_error_message());
            return;
        }
        if (!(x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= error)) {
            (void)snprintf(words, sizeof words,
                           "element %lld: %.9g by reference, %.9g by onnxruntime, %.3g is allowed",
                           (long long)i, x, y, error);
            complain(p, "numbers", name, words);
            return;
        }
    }
}

static double bound_of(const random_network *r, const char *name)
{
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(kiln_network_tensor_name(r->network, r->tensors[i].id), name) == 0) {
            return r->tensors[i].error;
        }
    }
    return (double)INFINITY; /* inside of a layer of several operators */
}

/* Written, read and run once more: the same bits. */
static void check_copy(random_network *r, const kln_onnx_model *model, uint64_t seed,
                       const run *one, problem *p)
{
    kln_text bytes;
    kiln_network *again = NULL;
    run two = {NULL, NULL};
    kln_text_init(&bytes, 1 << 26);
    if (kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &bytes) != KILN_OK ||
        kiln_network_from_bytes((kiln_span){bytes.data, bytes.size}, NULL, &again) != KILN_OK ||
        start(again, "reference", seed, &two) != KILN_OK) {
        complain(p, "a copy", "", kiln_error_message());
    }
    for (size_t i = 0; i < kiln_engine_output_count(one->engine) && !p->is_there; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor a;
        kiln_tensor b;
        if (kiln_engine_output(one->engine, i, &binding) != KILN_OK ||
            kiln_context_tensor(one->context, binding.name, &a) != KILN_OK ||
            kiln_context_tensor(two.context, binding.name, &b) != KILN_OK) {
            complain(p, "a copy", "", kiln_error_message());
        } else if (a.bytes != b.bytes || (a.bytes > 0 && memcmp(a.data, b.data, a.bytes) != 0)) {
            complain(p, "a copy", binding.name, "it computes other bits");
        }
    }
    (void)r;
    stop(&two);
    kiln_network_destroy(again);
    kln_text_finish(&bytes);
}

static void compare(random_network *r, const kln_onnx_model *model, const run *one, const run *two,
                    tally *t, problem *p)
{
    kln_inference *inference = NULL;
    if (kln_infer(model, NULL, &inference) != KILN_OK) {
        complain(p, "inference", "", kiln_error_message());
        return;
    }
    for (size_t i = 0; i < kiln_engine_output_count(one->engine) && !p->is_there; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor a;
        kiln_tensor b;
        if (kiln_engine_output(one->engine, i, &binding) != KILN_OK ||
            kiln_context_tensor(one->context, binding.name, &a) != KILN_OK ||
            (two != NULL && kiln_context_tensor(two->context, binding.name, &b) != KILN_OK)) {
            complain(p, "outputs", "", kiln_error_message());
            break;
        }
        check_growth(r, inference, binding.name, p);
        check_prediction(inference, binding.name, &a, t, p);
        if (two != NULL) {
            check_numbers(binding.name, &a, &b, bound_of(r, binding.name), p);
        }
        t->tensors++;
    }
    kln_inference_destroy(inference);
}

/* Every tensor that a node computes becomes an output. */
static kiln_status show_all(random_network *r, const kln_onnx_model *model)
{
    kiln_status status = r->status;
    for (size_t i = 0; i < model->graph.node_count && status == KILN_OK; i++) {
        const kln_onnx_node *node = &model->graph.nodes[i];
        for (size_t k = 0; k < node->output_count && status == KILN_OK; k++) {
            kiln_tensor_id id = 0;
            if (node->outputs[k][0] != '\0') {
                status = kiln_network_find(r->network, node->outputs[k], &id);
                status = status == KILN_OK ? kiln_network_mark_output(r->network, id) : status;
            }
        }
    }
    return status;
}

static void try_one(uint64_t seed, size_t layers, const char *save, tally *t, problem *p)
{
    random_network r;
    const kln_onnx_model *model = NULL;
    run one = {NULL, NULL};
    run two = {NULL, NULL};
    p->is_there = false;
    random_network_make(&r, seed, layers);
    if (r.status != KILN_OK || kln_network_model(r.network, &model) != KILN_OK ||
        show_all(&r, model) != KILN_OK) {
        complain(p, "building", r.layer != NULL ? r.layer : "", kiln_error_message());
    }
    if (save != NULL && r.network != NULL &&
        kiln_network_save_onnx(r.network, save, KILN_WEIGHTS_INLINE) != KILN_OK) {
        fprintf(stderr, "%s\n", kiln_error_message());
    }
    if (!p->is_there && model->graph.output_count > 0) {
        add_operators(&seen, &model->graph);
        if (start(r.network, "reference", seed, &one) != KILN_OK) {
            complain(p, "reference", r.layer, kiln_error_message());
        } else {
            const kiln_status status = start(r.network, "onnxruntime", seed, &two);
            if (status == KILN_ERROR_UNSUPPORTED) {
                t->refused++;
            } else if (status != KILN_OK) {
                complain(p, "onnxruntime", r.layer, kiln_error_message());
            }
            compare(&r, model, &one, status == KILN_OK ? &two : NULL, t, p);
            check_copy(&r, model, seed, &one, p);
        }
    }
    stop(&one);
    stop(&two);
    random_network_finish(&r);
    t->graphs++;
}

static void name_file(char path[4096], const char *folder, uint64_t seed)
{
    (void)snprintf(path, 4096, "%s/seed-%llu.onnx", folder, (unsigned long long)seed);
}

static void report(uint64_t seed, size_t layers, const char *folder)
{
    problem p = {false, ""};
    tally unused = {0, 0, 0, 0};
    char path[4096];
    size_t least = 0;
    name_file(path, folder, seed);
    do {
        try_one(seed, ++least, NULL, &unused, &p);
    } while (!p.is_there && least < layers);
    try_one(seed, least, path, &unused, &p);
    fprintf(stderr, "seed %llu, %zu of %zu layers, %s: %s\n", (unsigned long long)seed, least,
            layers, path, p.text);
}

int main(int count, char **arguments)
{
    const unsigned long graphs = count > 1 ? strtoul(arguments[1], NULL, 10) : 2000;
    const uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 10) : 1;
    const char *folder = count > 3 ? arguments[3] : ".";
    unsigned long failures = 0;
    tally t = {0, 0, 0, 0};
    for (uint64_t i = seed; i < seed + graphs && failures < 20; i++) {
        problem p = {false, ""};
        const size_t layers = 4 + (size_t)(i % (MOST_LAYERS - 3));
        char path[4096];
        name_file(path, folder, i);
        try_one(i, layers, graphs == 1 ? path : NULL, &t, &p);
        if (p.is_there) {
            failures++;
            report(i, layers, folder);
        }
    }
    const size_t unseen = graphs < ENOUGH_GRAPHS ? 0 : count_unseen();
    printf(
        "%lu graphs of %zu operators, %lu tensors, %lu dynamic dimensions; ONNX Runtime refused "
        "%lu graphs; %lu failures\n",
        t.graphs, seen.count, t.tensors, t.open, t.refused, failures);
    return failures > 0 || unseen > 0 || t.refused * 5 > t.graphs;
}
