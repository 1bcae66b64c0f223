/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rule.h"

kln_value *kln_inference_find(const kln_graph_inference *graph, const char *name)
{
    for (; graph != NULL; graph = graph->parent) {
        const uint32_t index = kln_names_get(&graph->names, name);
        if (index != KLN_NAMES_NONE) {
            return graph->values[index];
        }
    }
    return NULL;
}

bool kln_value_shape(const kln_value *value, kiln_shape *shape)
{
    if (!value->has_shape || value->rank > KILN_MAX_RANK) {
        return false;
    }
    *shape = (kiln_shape){.rank = (int32_t)value->rank};
    for (size_t i = 0; i < value->rank; i++) {
        shape->dims[i] =
            value->dims[i].kind == KLN_DIM_NUMBER ? value->dims[i].of.number : KILN_DYNAMIC;
    }
    return true;
}

void kln_value_copy_type(kln_value *to, const kln_value *from, bool shape)
{
    to->kind = from->kind;
    to->dtype = from->dtype;
    to->wire_dtype = from->wire_dtype;
    to->element = from->element;
    if (shape) {
        kln_value_copy_shape(to, from);
    }
}

static void union_shapes(kln_infer_state *state, kln_value *to, const kln_value *from)
{
    if (!to->has_shape || !from->has_shape || to->rank != from->rank) {
        to->has_shape = false;
        to->rank = 0;
        to->dims = NULL;
        return;
    }
    kln_dim *dims = kln_arena_alloc_zeroed(state->arena, to->rank, sizeof *dims);
    if (dims == NULL) {
        state->pool.failed = true;
        to->has_shape = false;
        return;
    }
    for (size_t i = 0; i < to->rank; i++) {
        dims[i] = kln_dim_equal(to->dims[i], from->dims[i]) ? to->dims[i] : KLN_UNKNOWN_DIM;
    }
    to->dims = dims;
}

void kln_value_union(kln_infer_state *state, kln_value *to, const kln_value *from)
{
    to->contents = NULL;
    to->initializer = NULL;
    if (to->kind != from->kind || to->wire_dtype != from->wire_dtype) {
        to->kind = KLN_ONNX_KIND_NONE;
        to->dtype = KILN_DTYPE_UNDEFINED;
        to->wire_dtype = 0;
        to->element = NULL;
        to->has_shape = false;
        return;
    }
    union_shapes(state, to, from);
    if (to->element != NULL && from->element != NULL) {
        kln_value *element = kln_arena_alloc(state->arena, sizeof *element);
        if (element == NULL) {
            state->pool.failed = true;
            return;
        }
        *element = *to->element;
        kln_value_union(state, element, from->element);
        to->element = element;
    }
}

/* --- contents of weights --- */

/* How the elements of a TensorProto.DataType are read: their size, and what they represent. */
static const struct {
    uint8_t size;
    enum { NOT_FOLLOWED, UNSIGNED, SIGNED, HALF, SINGLE, DOUBLE } kind;
} followed[] = {
    [1] = {4, SINGLE}, [2] = {1, UNSIGNED}, [3] = {1, SIGNED},    [4] = {2, UNSIGNED},
    [5] = {2, SIGNED}, [6] = {4, SIGNED},   [7] = {8, SIGNED},    [9] = {1, UNSIGNED},
    [10] = {2, HALF},  [11] = {8, DOUBLE},  [12] = {4, UNSIGNED}, [13] = {8, UNSIGNED},
};

static size_t followed_size(int32_t wire)
{
    return wire > 0 && wire < (int32_t)KLN_ARRAY_LENGTH(followed) ? followed[wire].size : 0;
}

static kln_dim number_at(const unsigned char *data, int32_t wire, size_t index)
{
    const size_t size = followed[wire].size;
    uint64_t bits = 0;
    float single = 0;
    kln_dim real = {.kind = KLN_DIM_REAL, .of.real = 0};
    memcpy(&bits, data + index * size, size);
    switch (followed[wire].kind) {
        case UNSIGNED:
            return bits <= INT64_MAX ? KLN_DIM_OF_NUMBER((int64_t)bits) : KLN_UNKNOWN_DIM;
        case SIGNED: /* shifted up and back down to extend the sign */
            return KLN_DIM_OF_NUMBER((int64_t)(bits << (64 - 8 * size)) >> (64 - 8 * size));
        case HALF: real.of.real = (double)kln_float_from_half((uint16_t)bits); break;
        case DOUBLE: memcpy(&real.of.real, &bits, sizeof bits); break;
        case SINGLE:
            memcpy(&single, &bits, sizeof single);
            real.of.real = (double)single;
            break;
        case NOT_FOLLOWED: return KLN_UNKNOWN_DIM;
    }
    return real;
}

static bool tensor_elements(const kln_onnx_tensor *tensor, size_t limit, size_t *count)
{
    size_t product = 1;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] < 0 ||
            __builtin_mul_overflow(product, (size_t)tensor->dims[i], &product)) {
            return false;
        }
    }
    *count = product;
    return product <= limit;
}

const kln_dim *kln_value_contents(kln_inference *inference, kln_value *value, size_t *count)
{
    *count = 0;
    kln_infer_state *state = inference->state;
    if (value->contents == NULL && value->initializer != NULL && state != NULL) {
        const kln_onnx_tensor *tensor = value->initializer;
        const size_t size = followed_size(tensor->wire_dtype);
        size_t elements = 0;
        if (size == 0 || !tensor_elements(tensor, state->options.content_limit, &elements) ||
            elements > state->contents_left || tensor->data.size < elements * size ||
            (tensor->data.data == NULL && elements > 0)) {
            return NULL;
        }
        kln_dim *contents = kln_arena_alloc(state->arena, elements * sizeof *contents);
        if (contents == NULL) {
            state->pool.failed = true;
            return NULL;
        }
        for (size_t i = 0; i < elements; i++) {
            contents[i] = number_at(tensor->data.data, tensor->wire_dtype, i);
        }
        state->contents_left -= elements;
        value->contents = contents;
        value->content_count = elements;
    }
    *count = value->contents != NULL ? value->content_count : 0;
    return value->contents;
}
