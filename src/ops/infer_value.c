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
        to->has_shape = from->has_shape;
        to->rank = from->rank;
        to->dims = from->dims;
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

static kln_dim number_at(const unsigned char *data, int32_t wire, size_t index)
{
    union {
        int64_t l;
        int32_t i;
        int16_t w;
        uint32_t ui;
        uint64_t ul;
        uint16_t uw;
        float f;
        double d;
    } u = {.l = 0};
    const unsigned char byte = data[wire == 2 || wire == 3 || wire == 9 ? index : 0];
    switch (wire) {
        case 2:
        case 9: return KLN_DIM_OF_NUMBER(byte);
        case 3: return KLN_DIM_OF_NUMBER(byte < 128 ? (int64_t)byte : (int64_t)byte - 256);
        case 4: memcpy(&u.uw, data + index * 2, 2); return KLN_DIM_OF_NUMBER(u.uw);
        case 5: memcpy(&u.w, data + index * 2, 2); return KLN_DIM_OF_NUMBER(u.w);
        case 6: memcpy(&u.i, data + index * 4, 4); return KLN_DIM_OF_NUMBER(u.i);
        case 12: memcpy(&u.ui, data + index * 4, 4); return KLN_DIM_OF_NUMBER(u.ui);
        case 7: memcpy(&u.l, data + index * 8, 8); return KLN_DIM_OF_NUMBER(u.l);
        case 13:
            memcpy(&u.ul, data + index * 8, 8);
            return u.ul <= INT64_MAX ? KLN_DIM_OF_NUMBER((int64_t)u.ul) : KLN_UNKNOWN_DIM;
        case 1:
            memcpy(&u.f, data + index * 4, 4);
            return (kln_dim){.kind = KLN_DIM_REAL, .of.real = (double)u.f};
        case 11:
            memcpy(&u.d, data + index * 8, 8);
            return (kln_dim){.kind = KLN_DIM_REAL, .of.real = u.d};
        case 10:
            memcpy(&u.uw, data + index * 2, 2);
            return (kln_dim){.kind = KLN_DIM_REAL, .of.real = (double)kln_float_from_half(u.uw)};
        default: return KLN_UNKNOWN_DIM;
    }
}

static size_t followed_size(int32_t wire)
{
    switch (wire) {
        case 2:
        case 3:
        case 9: return 1;
        case 4:
        case 5:
        case 10: return 2;
        case 1:
        case 6:
        case 12: return 4;
        case 7:
        case 11:
        case 13: return 8;
        default: return 0;
    }
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
