/* SPDX-License-Identifier: Apache-2.0 */
#include "build_layer.h"

#include <math.h>

/* An attention being composed of other operators. */
typedef struct attention {
    kiln_attention_options options; /* kv_heads set */
    kiln_dtype dtype;
    kiln_tensor_id query, key, value; /* with past and new tokens */
    kiln_tensor_id scores;
} attention;

static kiln_tensor_id join(kln_layer *layer, const char *suffix, kiln_tensor_id past,
                           kiln_tensor_id now)
{
    if (past == KILN_NO_TENSOR) {
        return now;
    }
    kln_layer_node(layer, "Concat", past, now);
    kln_layer_int(layer, "axis", 2);
    return kln_layer_emit(layer, suffix);
}

/* One dimension of a tensor as an int64 vector of one element. */
static kiln_tensor_id dimension(kln_layer *layer, const char *suffix, kiln_tensor_id x,
                                int64_t axis)
{
    kln_layer_node(layer, "Shape", x);
    kln_layer_int(layer, "start", axis);
    kln_layer_int(layer, "end", axis + 1);
    return kln_layer_emit(layer, suffix);
}

/* 0, 1, ... below the dimension, as [count, 1] or [1, count]. */
static kiln_tensor_id positions(kln_layer *layer, const char *suffix, const char *const parts[6],
                                kiln_tensor_id x, int64_t new_axis)
{
    const int64_t zero = 0;
    const int64_t one = 1;
    const kiln_tensor_id none = KILN_NO_TENSOR;
    const kiln_tensor_id size = dimension(layer, parts[0], x, 2);
    const kiln_tensor_id count = kln_layer_simple(layer, parts[1], "Squeeze", size, none);
    kln_layer_operator(layer, "Range");
    kln_layer_input_ints(layer, parts[2], &zero, 1, true);
    kln_layer_input(layer, count);
    kln_layer_input_ints(layer, parts[3], &one, 1, true);
    const kiln_tensor_id range = kln_layer_emit(layer, parts[4]);
    kln_layer_node(layer, "Unsqueeze", range);
    kln_layer_input_ints(layer, parts[5], &new_axis, 1, false);
    return kln_layer_emit(layer, suffix);
}

static kiln_tensor_id keep_where(kln_layer *layer, const char *suffix, const char *constant,
                                 kiln_tensor_id seen, kiln_tensor_id scores, kiln_dtype dtype)
{
    const kiln_tensor_id never = kln_layer_scalar(layer, constant, dtype, -INFINITY);
    kln_layer_node(layer, "Where", seen, scores, never);
    return kln_layer_emit(layer, suffix);
}

/* Query token i is at position past + i and sees the keys up to that position. */
static void hide_later(kln_layer *layer, attention *a)
{
    static const char *const row_parts[] = {"row/size", "row/count", "row/zero",
                                            "row/one",  "row/range", "row/axis"};
    static const char *const column_parts[] = {"column/size", "column/count", "column/zero",
                                               "column/one",  "column/range", "column/axis"};
    kiln_tensor_id rows = positions(layer, "rows", row_parts, a->query, 1);
    const kiln_tensor_id columns = positions(layer, "columns", column_parts, a->key, 0);
    if (a->options.past_key != KILN_NO_TENSOR) {
        const kiln_tensor_id past = dimension(layer, "past", a->options.past_key, 2);
        rows = kln_layer_simple(layer, "places", "Add", rows, past);
    }
    const kiln_tensor_id seen = kln_layer_simple(layer, "seen", "LessOrEqual", columns, rows);
    a->scores = keep_where(layer, "causal", "hidden", seen, a->scores, a->dtype);
}

static void scale_scores(kln_layer *layer, attention *a)
{
    if (a->options.scale > 0.0F) {
        const kiln_tensor_id scale = kln_layer_scalar(layer, "scale", a->dtype, a->options.scale);
        a->scores = kln_layer_simple(layer, "scaled", "Mul", a->scores, scale);
    } else {
        kiln_tensor_id size = dimension(layer, "size", a->query, 3);
        kln_layer_node(layer, "Cast", size);
        kln_layer_dtype(layer, "to", a->dtype);
        size = kln_layer_emit(layer, "real");
        size = kln_layer_simple(layer, "root", "Sqrt", size, KILN_NO_TENSOR);
        a->scores = kln_layer_simple(layer, "scaled", "Div", a->scores, size);
    }
    if (a->options.softcap > 0.0F) {
        const kiln_tensor_id cap = kln_layer_scalar(layer, "softcap", a->dtype, a->options.softcap);
        kiln_tensor_id x = kln_layer_simple(layer, "over", "Div", a->scores, cap);
        x = kln_layer_simple(layer, "tanh", "Tanh", x, KILN_NO_TENSOR);
        a->scores = kln_layer_simple(layer, "capped", "Mul", x, cap);
    }
}

static void mask_scores(kln_layer *layer, attention *a)
{
    if (a->options.causal) {
        hide_later(layer, a);
    }
    if (a->options.mask == KILN_NO_TENSOR) {
        return;
    }
    if (kln_layer_tensor(layer, a->options.mask).dtype == KILN_DTYPE_BOOL) {
        a->scores = keep_where(layer, "masked", "masked_out", a->options.mask, a->scores, a->dtype);
    } else {
        a->scores = kln_layer_simple(layer, "masked", "Add", a->scores, a->options.mask);
    }
}

/* Heads that share keys are put one after the other, as more tokens of one head: so keys and values
 * need not be repeated. */
static void compose(kln_layer *layer, attention *a)
{
    const int64_t four[] = {4};
    const int64_t swapped[] = {0, 1, 3, 2};
    const int64_t by_group[] = {0, a->options.kv_heads, -1, 0};
    const int64_t by_head[] = {0, a->options.heads, -1, 0};
    const bool is_grouped = a->options.heads != a->options.kv_heads;
    kiln_tensor_id groups = KILN_NO_TENSOR;
    kiln_tensor_id heads = KILN_NO_TENSOR;
    kiln_tensor_id query = a->query;
    if (is_grouped) {
        groups = kln_layer_constant(layer, "by_group", KILN_DTYPE_INT64, four, 1, by_group,
                                    sizeof by_group);
        heads = kln_layer_constant(layer, "by_head", KILN_DTYPE_INT64, four, 1, by_head,
                                   sizeof by_head);
        query = kln_layer_simple(layer, "query", "Reshape", query, groups);
    }
    kln_layer_node(layer, "Transpose", a->key);
    kln_layer_ints(layer, "perm", swapped, 4);
    const kiln_tensor_id key = kln_layer_emit(layer, "key");
    a->scores = kln_layer_simple(layer, "scores", "MatMul", query, key);
    if (is_grouped) {
        a->scores = kln_layer_simple(layer, "head_scores", "Reshape", a->scores, heads);
    }
    scale_scores(layer, a);
    mask_scores(layer, a);
    kln_layer_node(layer, "Softmax", a->scores);
    kln_layer_int(layer, "axis", -1);
    kiln_tensor_id weights = kln_layer_emit(layer, "weights");
    if (!is_grouped) {
        kln_layer_node(layer, "MatMul", weights, a->value);
        return;
    }
    weights = kln_layer_simple(layer, "group_weights", "Reshape", weights, groups);
    const kiln_tensor_id sum = kln_layer_simple(layer, "sum", "MatMul", weights, a->value);
    kln_layer_node(layer, "Reshape", sum, heads);
}

static void check(kln_layer *layer, const attention *a)
{
    const kiln_attention_options *o = &a->options;
    kln_layer_need(layer, o->heads > 0 && o->kv_heads > 0 && o->heads % o->kv_heads == 0,
                   "%lld heads cannot share %lld heads of keys", (long long)o->heads,
                   (long long)o->kv_heads);
    kln_layer_need(layer, o->scale >= 0.0F && o->softcap >= 0.0F,
                   "scale is %g and softcap %g; none may be negative", (double)o->scale,
                   (double)o->softcap);
    kln_layer_need(layer, (o->past_key == KILN_NO_TENSOR) == (o->past_value == KILN_NO_TENSOR),
                   "past_key and past_value are given together or not at all");
    (void)kln_layer_ranked(layer, a->query, 4, 4);
    (void)kln_layer_ranked(layer, a->key, 4, 4);
    (void)kln_layer_ranked(layer, a->value, 4, 4);
}

static void put_operator(kln_layer *layer, const attention *a)
{
    kln_layer_inputs(layer, a->query, a->key, a->value);
    kln_layer_optional(layer, a->options.mask);
    kln_layer_int(layer, "is_causal", a->options.causal);
    if (a->options.scale > 0.0F) {
        kln_layer_float(layer, "scale", a->options.scale);
    }
    if (a->options.softcap > 0.0F) {
        kln_layer_float(layer, "softcap", a->options.softcap);
    }
}

kiln_status kiln_network_add_attention(kiln_network *network, const char *name,
                                       kiln_tensor_id query, kiln_tensor_id key,
                                       kiln_tensor_id value, const kiln_attention_options *options,
                                       kiln_tensor_id *output, kiln_tensor_id *present_key,
                                       kiln_tensor_id *present_value)
{
    KLN_RETURN_IF_NULL(options);
    kln_layer layer;
    attention a = {.options = KILN_ATTENTION_OPTIONS_INIT, .query = query, .key = key};
    a.value = value;
    KLN_RETURN_IF_ERROR(
        kln_options_read("kiln_attention_options", options, &a.options, sizeof a.options));
    a.options.kv_heads = a.options.kv_heads != 0 ? a.options.kv_heads : a.options.heads;
    kln_layer_begin(&layer, network, __func__, name, "Attention");
    a.dtype = kln_layer_tensor(&layer, query).dtype;
    a.dtype = a.dtype != KILN_DTYPE_UNDEFINED ? a.dtype : KILN_DTYPE_FLOAT32;
    check(&layer, &a);
    const bool has_past = a.options.past_key != KILN_NO_TENSOR;
    kiln_tensor_id keys = key;
    kiln_tensor_id values = value;
    /* With past tokens Attention counts causality from the first key in one version of the
     * specification and from the past in another; put together, it is what this header says. */
    if (layer.status == KILN_OK && kln_network_opset_of(network) >= 23 && !has_past) {
        put_operator(&layer, &a);
    } else if (layer.status == KILN_OK) {
        keys = a.key = join(&layer, ":1", a.options.past_key, key);
        values = a.value = join(&layer, ":2", a.options.past_value, value);
        compose(&layer, &a);
    }
    KLN_RETURN_IF_ERROR(kln_layer_finish_one(&layer, output));
    if (present_key != NULL) {
        *present_key = keys;
    }
    if (present_value != NULL) {
        *present_value = values;
    }
    return KILN_OK;
}
