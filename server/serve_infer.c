/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_infer.h"

#include <stdlib.h>
#include <string.h>

#include "serve_data.h"

/* Faster models run in the HTTP thread, because two thread switches would cost more. */
#define QUICK_ALONE 2000000 /* nanoseconds, while no other request is in flight */
#define QUICK 50000
/* Outputs of at least this size are written directly after room for the answer's text. */
#define PLACED ((size_t)16 << 10)
#define HEADROOM ((size_t)4 << 10)

/* --- submitting --- */

static void answered(void *user, kiln_request *request)
{
    (void)request;
    serve_wake(user);
}

static bool runs_here(const serve_infer *infer)
{
    const unsigned long long usual = atomic_load(&infer->instance->run_ns);
    return usual != 0 && usual < (infer->alone ? QUICK_ALONE : QUICK) &&
           infer->instance->delay == 0;
}

static unsigned long long rows_of(const serve_infer *infer)
{
    const serve_instance *model = infer->instance;
    const bool has_rows = model->max_batch + model->row_limit > 0 && infer->input_count > 0 &&
                          infer->inputs[0].tensor.desc.shape.rank > 0;
    return has_rows ? (unsigned long long)infer->inputs[0].tensor.desc.shape.dims[0] : 1;
}

/* The type and shape of an output, if known before the run. */
static bool known_output(const serve_infer *infer, const serve_wish *wish,
                         kiln_named_tensor *output)
{
    const serve_binding *binding = &infer->instance->outputs[wish->index];
    kiln_tensor *tensor = &output->tensor;
    *output = (kiln_named_tensor){.name = binding->name};
    tensor->desc = (kiln_tensor_desc){.dtype = binding->dtype, .shape = binding->shape};
    if (infer->instance->max_batch > 0 && binding->shape.rank > 0) {
        tensor->desc.shape.dims[0] = (int64_t)rows_of(infer);
    }
    return kiln_shape_is_static(&tensor->desc.shape) &&
           kiln_tensor_bytes(binding->dtype, &tensor->desc.shape, &tensor->bytes) == KILN_OK;
}

/* Provides memory in which outputs follow each other after the text, so that the answer is one
 * piece and nothing is copied. Without it the answer is sent in pieces. */
static void place_outputs(serve_connection *at, serve_infer *infer)
{
    size_t total = 0;
    kiln_named_tensor *outputs = serve_arena_take(&at->arena, infer->wish_count * sizeof *outputs);
    if (outputs == NULL || infer->instance->on_gpu) { /* the GPU path uses pinned memory */
        return;
    }
    for (size_t i = 0; i < infer->wish_count; i++) {
        const serve_wish *wish = &infer->wishes[i];
        if (wish->index != i || !wish->binary || wish->classes > 0 || wish->place.region != NULL ||
            infer->instance->outputs[i].dtype == KILN_DTYPE_STRING ||
            !known_output(infer, wish, &outputs[i]) ||
            total % kiln_dtype_alignment(outputs[i].tensor.desc.dtype) != 0 ||
            outputs[i].tensor.bytes > SIZE_MAX / 4 - total) {
            return;
        }
        total += outputs[i].tensor.bytes;
    }
    char *room = total < PLACED ? NULL : aligned_alloc(64, (HEADROOM + total + 63) & ~(size_t)63);
    if (room == NULL) {
        return;
    }
    infer->room = room;
    infer->outputs = outputs;
    infer->output_count = infer->wish_count;
    room += HEADROOM;
    for (size_t i = 0; i < infer->wish_count; i++) {
        outputs[i].tensor.data = room;
        room += outputs[i].tensor.bytes;
    }
}

static bool submit(serve_connection *at, serve_infer *infer)
{
    kiln_request_options options = KILN_REQUEST_OPTIONS_INIT;
    kiln_request *request = NULL;
    infer->alone = atomic_load(&at->server->requests) == 1;
    options.priority = infer->priority;
    const uint64_t timeout = infer->timeout == 0 || infer->instance->keeps_timeout
                                 ? infer->instance->timeout
                                 : (uint64_t)infer->timeout;
    options.deadline_nanoseconds = timeout != 0 ? infer->submitted + timeout * 1000 : 0;
    if (at->deadline != 0 && (timeout == 0 || at->deadline < options.deadline_nanoseconds)) {
        options.deadline_nanoseconds = at->deadline;
    }
    options.answered = answered;
    options.user = at;
    options.run_here = runs_here(infer);
    atomic_store(&at->progress, SERVE_PENDING);
    if (options.run_here) {
        place_outputs(at, infer);
    }
    const kiln_status status =
        kiln_scheduler_submit(infer->instance->scheduler, infer->inputs, infer->input_count,
                              infer->outputs, infer->output_count, &options, &request);
    if (status != KILN_OK) {
        return serve_refuse_status(&at->problem, status, kiln_error_message());
    }
    (void)pthread_mutex_lock(&at->lock);
    at->request = request;
    (void)pthread_mutex_unlock(&at->lock);
    return true;
}

serve_result serve_infer_run(serve_connection *at)
{
    if (!serve_infer_open(at)) {
        return SERVE_REFUSED;
    }
    serve_infer *infer = at->infer;
    if (at->stream != NULL ? !serve_stream_finish(at)
                           : !serve_infer_read(at->body, at->body_size, at->head_size, at->tensors,
                                               &at->arena, infer, &at->problem)) {
        return SERVE_REFUSED;
    }
    infer->submitted = kiln_clock_now();
    (void)atomic_fetch_add(&infer->instance->counts->input_ns,
                           infer->reading + infer->submitted - at->received);
    if (!submit(at, infer)) {
        return SERVE_REFUSED;
    }
    return atomic_load(&at->progress) != SERVE_ANSWERED && serve_sleep(at) ? SERVE_WAITS
                                                                           : serve_infer_again(at);
}

/* --- answering --- */

/* The data of an answer, which lives until its last byte is sent. */
typedef struct answer {
    serve_reply reply;
    serve_text strings; /* of string outputs, and of binary classes */
    kiln_request *request;
    serve_instance *instance;
    char *room; /* for its outputs, or NULL */
    struct MHD_IoVec pieces[];
} answer;

static void answer_free(void *user)
{
    answer *self = user;
    serve_text_finish(&self->reply.text);
    serve_text_finish(&self->strings);
    kiln_request_release(self->request);
    if (self->instance != NULL) {
        serve_instance_release(self->instance);
    }
    free(self->room);
    free(self);
}

static void write_shape(serve_text *text, const kiln_shape *shape)
{
    serve_text_string(text, ",\"shape\":[");
    for (int32_t d = 0; d < shape->rank; d++) {
        serve_text_string(text, d > 0 ? "," : "");
        serve_text_integer(text, shape->dims[d]);
    }
    serve_text_string(text, "]");
}

/* Adds what was appended to `strings` after `before` bytes as the next piece. Its offset is known,
 * its address not yet. */
static void add_strings(answer *self, size_t before)
{
    const size_t size = self->strings.size - before;
    serve_text_printf(&self->reply.text, ",\"parameters\":{\"binary_data_size\":%zu}", size);
    self->reply.pieces[self->reply.count++] = (struct MHD_IoVec){size != 0 ? NULL : "", size};
}

static bool pack_strings(answer *self, const char *name, const kiln_tensor *tensor,
                         serve_problem *problem)
{
    if (!serve_data_pack(tensor, &self->strings)) {
        return serve_refuse(problem, 500, "output \"%.200s\" has a string of 4 GiB or more", name);
    }
    return !self->strings.failed || serve_no_memory(problem);
}

static bool write_strings(answer *self, const char *name, const kiln_tensor *tensor,
                          serve_problem *problem)
{
    const size_t before = self->strings.size;
    const bool packed = pack_strings(self, name, tensor, problem);
    if (packed) {
        add_strings(self, before);
    }
    return packed;
}

/* The largest values of each row, as text: [rows, k], or [k] if the output has no rows. */
static bool write_classes(answer *self, const serve_wish *wish, const kiln_tensor *tensor,
                          serve_problem *problem)
{
    static const serve_labels none = {NULL, 0, NULL};
    const serve_labels *labels =
        self->instance->labels != NULL ? &self->instance->labels[wish->index] : &none;
    const kiln_shape *shape = &tensor->desc.shape;
    int64_t elements = 0;
    (void)!kiln_shape_elements(shape, &elements);
    const int64_t rows = shape->rank > 1 && shape->dims[0] > 0 ? shape->dims[0] : 1;
    const int64_t length = elements / rows;
    const int64_t count = wish->classes < length ? wish->classes : length;
    const kiln_shape found = shape->rank > 1 ? KILN_SHAPE(rows, count) : KILN_SHAPE(count);
    const size_t before = self->strings.size;
    serve_text *text = &self->reply.text;
    serve_text *into = wish->binary ? &self->strings : text;
    write_shape(text, &found);
    serve_text_string(text, wish->binary ? "" : ",\"data\":[");
    for (int64_t row = 0; row < rows; row++) {
        serve_text_string(text, !wish->binary && row > 0 && count > 0 ? "," : "");
        if (!serve_data_classes(tensor, row * length, length, count, wish->binary, labels->items,
                                labels->count, into)) {
            return serve_refuse(problem, 500, "output \"%.200s\" cannot be ranked",
                                self->instance->outputs[wish->index].name);
        }
    }
    if (wish->binary) {
        add_strings(self, before);
    } else {
        serve_text_string(text, "]");
    }
    return true;
}

/* Writes an output where the client expects it. As in Triton's answers no parameter says so: its
 * C++ client takes any parameter for the binary size. With gRPC every output has contents, empty in
 * this case. */
static bool write_shared(answer *self, const serve_wish *wish, const kiln_tensor *tensor,
                         serve_problem *problem)
{
    const char *name = self->instance->outputs[wish->index].name;
    const serve_place *place = &wish->place;
    const void *data = tensor->data;
    size_t bytes = 0;
    if (kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &bytes) != KILN_OK) {
        return serve_refuse(problem, 500, "%s", kiln_error_message());
    }
    if (tensor->desc.dtype == KILN_DTYPE_STRING) {
        const size_t before = self->strings.size;
        if (!pack_strings(self, name, tensor, problem)) {
            return false;
        }
        data = self->strings.data + before;
        bytes = self->strings.size - before;
        self->strings.size = before; /* not part of the answer */
    }
    if (bytes > (size_t)place->size) {
        return serve_refuse(problem, 400,
                            "output \"%.200s\" takes %zu bytes, shared_memory_byte_size is %lld",
                            name, bytes, (long long)place->size);
    }
    if (!serve_place_write(self->instance->server, place, name, data, bytes, problem)) {
        return false;
    }
    if (wish->binary) {
        self->reply.pieces[self->reply.count++] = (struct MHD_IoVec){"", 0};
    }
    return true;
}

static bool write_output(answer *self, const serve_wish *wish, const kiln_tensor *tensor,
                         serve_problem *problem)
{
    const char *name = self->instance->outputs[wish->index].name;
    serve_text *text = &self->reply.text;
    char sentence[300];
    size_t bytes = 0;
    serve_text_string(text, "{\"name\":");
    serve_text_json(text, name);
    serve_text_string(text, ",\"datatype\":\"");
    serve_text_string(text, wish->classes > 0 ? "BYTES" : serve_type_name(tensor->desc.dtype));
    serve_text_string(text, "\"");
    if (wish->classes > 0) {
        return write_classes(self, wish, tensor, problem);
    }
    write_shape(text, &tensor->desc.shape);
    if (wish->place.region != NULL) {
        return write_shared(self, wish, tensor, problem);
    }
    if (!wish->binary) {
        serve_text_string(text, ",\"data\":");
        return serve_data_write(tensor, text, sentence, sizeof sentence) ||
               serve_refuse(problem, 500, "output \"%.200s\": %s", name, sentence);
    }
    if (tensor->desc.dtype == KILN_DTYPE_STRING) {
        return write_strings(self, name, tensor, problem);
    }
    if (kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &bytes) != KILN_OK) {
        return serve_refuse(problem, 500, "%s", kiln_error_message());
    }
    serve_text_string(text, ",\"parameters\":{\"binary_data_size\":");
    serve_text_integer(text, (int64_t)bytes);
    serve_text_string(text, "}");
    self->reply.pieces[self->reply.count++] =
        (struct MHD_IoVec){bytes != 0 ? tensor->data : "", bytes};
    return true;
}

static bool write_answer(answer *self, const serve_infer *infer, serve_problem *problem)
{
    serve_text *text = &self->reply.text;
    serve_text_string(text, "{\"model_name\":");
    serve_text_json(text, self->instance->name);
    serve_text_string(text, ",\"model_version\":\"");
    serve_text_string(text, self->instance->version);
    serve_text_string(text, "\"");
    if (infer->id != NULL) {
        serve_text_string(text, ",\"id\":");
        serve_text_json(text, infer->id);
    }
    serve_text_string(text, ",\"outputs\":[");
    for (size_t i = 0; i < infer->wish_count; i++) {
        kiln_tensor tensor;
        const char *name = self->instance->outputs[infer->wishes[i].index].name;
        serve_text_string(text, i > 0 ? "," : "");
        if (kiln_request_output(self->request, name, &tensor) != KILN_OK) {
            return serve_refuse(problem, 500, "%s", kiln_error_message());
        }
        if (!write_output(self, &infer->wishes[i], &tensor, problem)) {
            return false;
        }
        serve_text_string(text, "}");
    }
    serve_text_string(text, "]}");
    return (!text->failed && !self->strings.failed) || serve_no_memory(problem);
}

/* Sets the addresses of the pieces of `strings`. */
static void place_strings(answer *self)
{
    size_t used = 0;
    for (unsigned i = 1; i < self->reply.count; i++) {
        struct MHD_IoVec *piece = &self->reply.pieces[i];
        if (piece->iov_base == NULL) {
            piece->iov_base = self->strings.data + used;
            used += piece->iov_len;
        }
    }
}

/* Keeps the usual time of runs that had the server to themselves. A thread preempted once
 * says little, so outliers count little. */
static void note_time(serve_instance *model, unsigned long long took)
{
    const unsigned long long usual = atomic_load(&model->run_ns);
    const unsigned long long most = 4 * usual;
    atomic_store(&model->run_ns, usual == 0 ? took
                                 : took < usual
                                     ? (usual + took) / 2
                                     : usual + ((took < most ? took : most) - usual) / 8);
}

static bool take_result(serve_connection *at, serve_infer *infer, uint64_t now)
{
    const kiln_status status = kiln_request_wait(at->request, -1);
    serve_note_run(at->server, infer->instance, status);
    if (status == KILN_OK) {
        if (infer->alone) {
            note_time(infer->instance, now - infer->submitted);
        }
        return true;
    }
    if (at->late) {
        if (at->deadline != 0 && now >= at->deadline) {
            return serve_refuse(&at->problem, 504, "the time that the client gave is over");
        }
        return atomic_load(&at->server->stopping)
                   ? serve_refuse(&at->problem, 503, "the server is stopping")
                   : serve_refuse(&at->problem, 504, "the request took more than %g s",
                                  at->server->options->request_seconds);
    }
    return serve_refuse_status(&at->problem, status, kiln_error_message());
}

serve_result serve_infer_again(serve_connection *at)
{
    serve_infer *infer = at->infer;
    const uint64_t begin = kiln_clock_now();
    if (!take_result(at, infer, begin)) {
        return SERVE_REFUSED;
    }
    answer *made = calloc(1, sizeof *made + (infer->wish_count + 1) * sizeof made->pieces[0]);
    if (made == NULL) {
        (void)serve_no_memory(&at->problem);
        return SERVE_REFUSED;
    }
    made->reply.pieces = made->pieces;
    made->reply.count = 1; /* the first piece is the JSON */
    made->reply.release = answer_free;
    made->instance = infer->instance;
    made->room = infer->room;
    if (infer->room != NULL) {
        made->reply.tensors = infer->room + HEADROOM;
        made->reply.headroom = HEADROOM;
        infer->room = NULL;
    }
    (void)atomic_fetch_add(&infer->instance->references, 1);
    (void)pthread_mutex_lock(&at->lock);
    made->request = at->request;
    at->request = NULL;
    (void)pthread_mutex_unlock(&at->lock);
    if (!write_answer(made, infer, &at->problem)) {
        answer_free(made);
        return SERVE_REFUSED;
    }
    place_strings(made);
    const bool binary = made->reply.count > 1;
    if (!at->transport->answer(at, 200, binary ? "application/octet-stream" : "application/json",
                               &made->reply)) {
        (void)serve_no_memory(&at->problem);
        return SERVE_REFUSED;
    }
    (void)atomic_fetch_add(&infer->instance->counts->output_ns, atomic_load(&at->since) - begin);
    serve_count(at, infer->instance->counts, true, rows_of(infer));
    at->problem.code = 0;
    return SERVE_DONE;
}

void serve_infer_finish(serve_connection *at)
{
    (void)pthread_mutex_lock(&at->lock);
    kiln_request *request = at->request;
    at->request = NULL;
    (void)pthread_mutex_unlock(&at->lock);
    kiln_request_release(request);
    if (at->infer != NULL) {
        free(at->infer->room);
    }
    if (at->infer != NULL && at->infer->instance != NULL) {
        if (at->problem.code != 0) {
            serve_count(at, at->infer->instance->counts, false, 0);
        }
        serve_instance_release(at->infer->instance);
    }
    at->infer = NULL;
}
