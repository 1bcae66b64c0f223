/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "serve_request.h"

const serve_binding *serve_binding_find(const serve_binding *bindings, size_t count,
                                        const char *name, size_t guess)
{
    for (size_t i = 0; i < count; i++) {
        const serve_binding *binding = &bindings[(guess + i) % count];
        if (strcmp(binding->name, name) == 0) {
            return binding;
        }
    }
    return NULL;
}

static bool check_bools(serve_reader *self, const kiln_tensor *tensor)
{
    return tensor->desc.dtype != KILN_DTYPE_BOOL ||
           serve_data_is_bool(tensor->data, tensor->bytes) ||
           serve_refuse(self->problem, 400, "input \"%.200s\": a BOOL is neither 0 nor 1",
                        self->entry.name);
}

/* BYTES: each string follows its length. */
static bool take_strings(serve_reader *self, const serve_entry *read, serve_slice packed,
                         kiln_tensor *tensor)
{
    char sentence[200];
    const size_t count = tensor->bytes / sizeof(kiln_span);
    if (count > packed.size / sizeof(uint32_t)) { /* so that a shape alone allocates no memory */
        return serve_refuse(
            self->problem, 400,
            "input \"%.200s\": its shape asks for %zu strings, each with 4 bytes of "
            "length, and it has %zu bytes",
            read->name, count, packed.size);
    }
    tensor->data = serve_arena_take(self->arena, tensor->bytes);
    if (tensor->data == NULL) {
        return serve_no_memory(self->problem);
    }
    return serve_data_unpack(packed, count, tensor->data, sentence, sizeof sentence) ||
           serve_refuse(self->problem, 400, "input \"%.200s\": %s", read->name, sentence);
}

/* Takes the next binary tensor, in place if it is aligned. */
static bool take_binary(serve_reader *self, const serve_entry *read, kiln_tensor *tensor)
{
    const bool apart = self->tensors != NULL;
    const size_t left = apart ? self->tensors->count - self->taken : self->size - self->at;
    const serve_slice next = !apart      ? (serve_slice){self->body + self->at, left}
                             : left != 0 ? self->tensors->items[self->taken++]
                                         : (serve_slice){NULL, 0};
    const uint64_t given = apart ? next.size : (uint64_t)read->binary_size;
    const bool is_text = tensor->desc.dtype == KILN_DTYPE_STRING;
    if (given != tensor->bytes && !is_text) {
        return serve_refuse(
            self->problem, 400, "input \"%.200s\": %s %llu, its type and shape take %zu bytes",
            read->name, apart ? "the size of its raw contents is" : "binary_data_size is",
            (unsigned long long)given, tensor->bytes);
    }
    if (given > next.size) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\": binary_data_size is %llu, and %zu bytes are left of "
                            "the body",
                            read->name, (unsigned long long)given, left);
    }
    self->at += apart ? 0 : (size_t)given;
    if (is_text) {
        return take_strings(self, read, (serve_slice){next.at, (size_t)given}, tensor);
    }
    tensor->data = (void *)(uintptr_t)next.at; /* a run only reads it */
    if ((uintptr_t)next.at % kiln_dtype_alignment(tensor->desc.dtype) != 0) {
        tensor->data = serve_arena_take(self->arena, tensor->bytes);
        if (tensor->data == NULL) {
            return serve_no_memory(self->problem);
        }
        memcpy(tensor->data, next.at, tensor->bytes);
    }
    return check_bools(self, tensor);
}

/* Copies shared memory, because the client may write to it meanwhile. */
static bool take_shared(serve_reader *self, const serve_entry *read, kiln_tensor *tensor)
{
    serve *server = self->infer->instance->server;
    const bool is_text = tensor->desc.dtype == KILN_DTYPE_STRING;
    if (read->place.size < 0 || (!is_text && (uint64_t)read->place.size != tensor->bytes)) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\": shared_memory_byte_size is %lld, its type and shape "
                            "take %zu bytes",
                            read->name, (long long)read->place.size, tensor->bytes);
    }
    if (!serve_place_check(server, &read->place, read->name, self->problem)) {
        return false; /* before memory is allocated for it */
    }
    const size_t size = (size_t)read->place.size;
    void *copy = serve_arena_take(self->arena, size != 0 ? size : 1);
    if (copy == NULL) {
        return serve_no_memory(self->problem);
    }
    if (!serve_place_read(server, &read->place, read->name, copy, size, self->problem)) {
        return false;
    }
    tensor->data = copy;
    return is_text ? take_strings(self, read, (serve_slice){copy, size}, tensor)
                   : check_bools(self, tensor);
}

static bool check_shape(serve_reader *self, const serve_entry *read, const serve_binding *binding)
{
    const kiln_shape *shape = &read->shape;
    const int64_t limit = self->infer->instance->row_limit;
    bool fits = binding->shape.rank < 0 || binding->shape.rank == shape->rank;
    for (int32_t d = 0; fits && binding->shape.rank >= 0 && d < shape->rank; d++) {
        fits = binding->shape.dims[d] < 0 || binding->shape.dims[d] == shape->dims[d];
    }
    if (!fits) {
        char needed[256];
        char given[256];
        (void)kiln_shape_format(&binding->shape, needed, sizeof needed);
        (void)kiln_shape_format(shape, given, sizeof given);
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\" has the shape %s; the model needs %s", read->name,
                            given, needed);
    }
    return limit == 0 || shape->rank == 0 || shape->dims[0] <= limit ||
           serve_refuse(self->problem, 400,
                        "input \"%.200s\" has %lld rows; the model takes %lld (max_batch_size)",
                        read->name, (long long)shape->dims[0], (long long)limit);
}

/* Checks everything about an input that must be known before its data. */
bool serve_input_prepare(serve_reader *self)
{
    serve_entry *read = &self->entry;
    const serve_instance *model = self->infer->instance;
    const size_t count = self->infer->input_count;
    const serve_binding *binding =
        serve_binding_find(model->inputs, model->input_count, read->name, count);
    const kiln_dtype dtype = serve_type_of(read->datatype);
    kiln_tensor *tensor = &read->input.tensor;
    if (binding == NULL || count == model->input_count) {
        return serve_refuse(self->problem, 400,
                            binding == NULL ? "the model has no input \"%.200s\""
                                            : "more inputs are given than the model has, "
                                              "\"%.200s\" among them",
                            read->name);
    }
    if (!read->has_shape || !read->has_datatype) {
        return serve_refuse(self->problem, 400, "input \"%.200s\" has no %s", read->name,
                            read->has_shape ? "datatype" : "shape");
    }
    if (dtype != binding->dtype) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\" has the datatype \"%s\"; the model needs %s",
                            read->name, read->datatype, serve_type_name(binding->dtype));
    }
    if (!check_shape(self, read, binding)) {
        return false;
    }
    read->input = (kiln_named_tensor){.name = binding->name};
    tensor->desc = (kiln_tensor_desc){.dtype = dtype, .shape = read->shape};
    int64_t elements = 0;
    return (kiln_shape_elements(&read->shape, &elements) == KILN_OK &&
            kiln_tensor_bytes(dtype, &read->shape, &tensor->bytes) == KILN_OK) ||
           serve_refuse(self->problem, 400, "input \"%.200s\": its shape is too large", read->name);
}

/* --- numbers --- */

static bool refuse_numbers(serve_reader *self, const serve_json *json, const char *sentence)
{
    return json->reason != NULL && json == &self->json
               ? serve_read_broken(self, "\"data\"")
               : serve_refuse(self->problem, 400, "input \"%.200s\": %s", self->entry.name,
                              sentence);
}

bool serve_input_begin(serve_reader *self, serve_json *json)
{
    kiln_tensor *tensor = &self->entry.input.tensor;
    char sentence[300];
    int64_t elements = 0;
    if (json->open && tensor->desc.dtype == KILN_DTYPE_STRING) {
        return false; /* a string may contain a comma: the whole body is needed */
    }
    (void)!kiln_shape_elements(&tensor->desc.shape, &elements);
    if (elements > json->end - json->at + (ptrdiff_t)self->behind) {
        /* so that a shape alone allocates no memory */
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\": its shape asks for %lld elements, and its data has "
                            "fewer",
                            self->entry.name, (long long)elements);
    }
    tensor->data = serve_arena_take(self->arena, tensor->bytes);
    if (tensor->data == NULL) {
        return serve_no_memory(self->problem);
    }
    return serve_numbers_begin(&self->numbers, json, tensor, self->arena, sentence,
                               sizeof sentence) ||
           refuse_numbers(self, json, sentence);
}

bool serve_input_go_on(serve_reader *self, serve_json *json)
{
    char sentence[300];
    return serve_numbers_read(&self->numbers, json, sentence, sizeof sentence) ||
           refuse_numbers(self, json, sentence);
}

bool serve_input_take(serve_reader *self)
{
    serve_entry *read = &self->entry;
    serve_json late;
    if (read->input.name == NULL && !serve_input_prepare(self)) {
        return false;
    }
    if (read->place.region != NULL) {
        return !read->has_data && read->binary_size < 0
                   ? take_shared(self, read, &read->input.tensor)
                   : serve_refuse(self->problem, 400,
                                  "input \"%.200s\" has data, and is in shared memory", read->name);
    }
    const bool apart = self->tensors != NULL && self->tensors->count != 0;
    if ((read->binary_size >= 0 || apart) && read->has_data) {
        return serve_refuse(
            self->problem, 400, "input \"%.200s\" has both %s", read->name,
            apart ? "contents and raw contents" : "\"data\" and a binary_data_size");
    }
    if (read->binary_size >= 0 || apart) {
        return take_binary(self, read, &read->input.tensor);
    }
    if (!read->has_data) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\" has neither \"data\" nor a binary_data_size",
                            read->name);
    }
    if (read->data.at == NULL) {
        return true;
    }
    serve_json_init(&late, read->data.at, read->data.size);
    return serve_input_begin(self, &late) && serve_input_go_on(self, &late);
}
