/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* One output like the first input. */
void kln_rule_same(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
}

/* The same, with an axis that must be there. */
void kln_rule_same_axis(kln_rule *rule)
{
    const kln_onnx_attribute *axis = kln_rule_attribute(rule, "axis");
    size_t place = 0;
    kln_rule_same_shape(rule, 0, 0);
    if (axis != NULL && axis->type == KLN_ONNX_ATTRIBUTE_INT && kln_rule_ranked(rule, 0)) {
        (void)kln_rule_axis(rule, axis->i, kln_rule_rank(rule, 0), &place);
    }
}

void kln_rule_identity(kln_rule *rule)
{
    kln_rule_same_type(rule, 0, 0);
    kln_rule_same_shape(rule, 0, 0);
    if (rule->in_count > 0 && rule->in[0] != NULL && rule->out_count > 0) {
        rule->out[0].initializer = rule->in[0]->initializer;
    }
}

/* Before version 7 broadcasting was asked for, and went one way: the result is like the first. */
void kln_rule_binary(kln_rule *rule)
{
    if (rule->since < 7 && rule->resolved->domain[0] == '\0') {
        if (kln_rule_ranked(rule, 0)) {
            kln_rule_same_shape(rule, 0, 0);
        }
        return;
    }
    kln_rule_broadcast(rule, 0, 0, 1);
}

void kln_rule_variadic(kln_rule *rule)
{
    if (rule->in_count == 0) {
        return;
    }
    if (rule->since < 8) {
        kln_rule_same_shape(rule, 0, 0);
        return;
    }
    kln_rule_broadcast(rule, 0, 0, rule->in_count - 1);
}

void kln_rule_where(kln_rule *rule)
{
    kln_rule_broadcast(rule, 0, 0, 2);
}

void kln_rule_clip(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    for (size_t i = 1; i <= 2 && rule->since >= 11; i++) {
        (void)kln_rule_need_rank(rule, i, 0, 1);
    }
}

void kln_rule_prelu(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
}

/* Two inputs of one shape; nothing broadcasts. */
void kln_rule_swiglu(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) ||
        !kln_rule_need_rank(rule, 1, rank, rank)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = kln_rule_unify(rule, kln_rule_dim(rule, 0, i), kln_rule_dim(rule, 1, i),
                                 "the dimensions of both inputs");
    }
}

/* Gives output 0 the type that an attribute names, which must be one of ONNX. */
static void set_named_type(kln_rule *rule, const char *attribute, int64_t type)
{
    if (type > KLN_WIRE_NEWEST || type < KLN_WIRE_FLOAT) {
        char found[32];
        (void)snprintf(found, sizeof found, "%lld", (long long)type);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, attribute, "a data type of ONNX", found,
                       "attribute \"%s\" is %s, which is no data type of ONNX", attribute, found);
        return;
    }
    kln_rule_set_dtype(rule, 0, (int32_t)type);
}

static int64_t cast_target(kln_rule *rule, const char *name)
{
    const char *text = kln_rule_string(rule, name, NULL);
    if (text == NULL) {
        return kln_rule_int(rule, name, 0);
    }
    /* Version 1 spelled the type out, "FLOAT16". */
    static const char *const names[] = {"",        "FLOAT",  "UINT8",  "INT8",   "UINT16",
                                        "INT16",   "INT32",  "INT64",  "STRING", "BOOL",
                                        "FLOAT16", "DOUBLE", "UINT32", "UINT64"};
    for (size_t i = 1; i < KLN_ARRAY_LENGTH(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (int64_t)i;
        }
    }
    return 0;
}

void kln_rule_cast(kln_rule *rule)
{
    if (kln_rule_attribute(rule, "to") != NULL) {
        set_named_type(rule, "to", cast_target(rule, "to"));
    }
    kln_rule_same_shape(rule, 0, 0);
}

void kln_rule_cast_like(kln_rule *rule)
{
    if (rule->in_count > 1 && rule->in[1] != NULL) {
        kln_rule_set_dtype(rule, 0, rule->in[1]->wire_dtype);
    }
    kln_rule_same_shape(rule, 0, 0);
}

void kln_rule_bit_cast(kln_rule *rule)
{
    if (kln_rule_attribute(rule, "to") != NULL) {
        const int64_t to = kln_rule_int(rule, "to", 0);
        set_named_type(rule, "to", to);
        const kiln_dtype from =
            rule->in_count > 0 && rule->in[0] != NULL ? rule->in[0]->dtype : KILN_DTYPE_UNDEFINED;
        const unsigned given = kiln_dtype_bits(from);
        const unsigned wanted =
            to > 0 && to < 1000 ? kiln_dtype_bits(kln_onnx_dtype((int32_t)to)) : 0;
        if (given != wanted && given != 0 && wanted != 0) {
            char expected[40];
            char found[40];
            (void)snprintf(expected, sizeof expected, "%u bits", wanted);
            (void)snprintf(found, sizeof found, "%u bits", given);
            kln_rule_fault(
                rule, KILN_ISSUE_DTYPE, rule->node->inputs[0], expected, found,
                "\"%.100s\" is %s, %s an element; they cannot be read as %s, which has %s",
                rule->node->inputs[0], kiln_dtype_name(from), found,
                kiln_dtype_name(kln_onnx_dtype((int32_t)to)), expected);
        }
    }
    kln_rule_same_shape(rule, 0, 0);
}

void kln_rule_dropout(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    kln_rule_same_shape(rule, 0, 1);
    if (rule->since >= 10) {
        kln_rule_set_dtype(rule, 1, KLN_WIRE_BOOL);
    }
}

void kln_rule_batch_norm(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    kln_dim channels = kln_rule_rank(rule, 0) > 1 ? kln_rule_dim(rule, 0, 1)
                       : kln_rule_ranked(rule, 0) ? KLN_DIM_OF_NUMBER(1)
                                                  : KLN_UNKNOWN_DIM;
    for (size_t i = 1; i < 5 && rule->since >= 7; i++) {
        if (!kln_rule_need_rank(rule, i, 1, 1)) {
            return;
        }
        channels = kln_rule_unify(rule, channels, kln_rule_dim(rule, i, 0),
                                  "the channels of the input and of its statistics");
    }
    const bool trains = kln_rule_int(rule, "training_mode", 0) != 0;
    const size_t outputs = trains ? 3 : 1;
    if (rule->since >= 14 && rule->out_count != outputs) {
        char expected[32];
        char found[32];
        (void)snprintf(expected, sizeof expected, "%zu", outputs);
        (void)snprintf(found, sizeof found, "%zu", rule->out_count);
        kln_rule_fault(rule, KILN_ISSUE_ARITY, "training_mode", expected, found,
                       "with \"training_mode\" %d there must be %s outputs, but there are %s",
                       trains ? 1 : 0, expected, found);
    }
    for (size_t i = 1; i < rule->out_count; i++) {
        kln_dim *dims = kln_rule_new_shape(rule, i, 1);
        if (dims != NULL) {
            dims[0] = channels;
        }
    }
}

void kln_rule_layer_norm(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    size_t axis = 0;
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_ranked(rule, 0) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", -1), rank, &axis)) {
        return;
    }
    for (size_t o = 1; o < rule->out_count; o++) {
        kln_rule_set_dtype(rule, o, (int32_t)kln_rule_int(rule, "stash_type", KLN_WIRE_FLOAT));
        kln_dim *dims = kln_rule_new_shape(rule, o, rank);
        for (size_t i = 0; dims != NULL && i < rank; i++) {
            dims[i] = i < axis ? kln_rule_dim(rule, 0, i) : KLN_DIM_OF_NUMBER(1);
        }
    }
}

/* The type that an attribute gives, else the input's, else `otherwise`. */
static void type_from(kln_rule *rule, const char *attribute, int32_t otherwise)
{
    if (kln_rule_attribute(rule, attribute) != NULL) {
        set_named_type(rule, attribute, kln_rule_int(rule, attribute, 0));
        return;
    }
    int64_t type = 0;
    if (rule->in_count > 0 && rule->in[0] != NULL && otherwise == 0) {
        type = rule->in[0]->wire_dtype;
    }
    kln_rule_set_dtype(rule, 0, type != 0 ? (int32_t)type : otherwise);
}

void kln_rule_like(kln_rule *rule)
{
    type_from(rule, "dtype", 0);
    kln_rule_same_shape(rule, 0, 0);
}

void kln_rule_bernoulli(kln_rule *rule)
{
    kln_rule_like(rule);
}

void kln_rule_eye_like(kln_rule *rule)
{
    if (kln_rule_need_rank(rule, 0, 2, 2)) {
        kln_rule_like(rule);
    }
}

void kln_rule_random(kln_rule *rule)
{
    type_from(rule, "dtype", KLN_WIRE_FLOAT);
    size_t rank = 0;
    const int64_t *shape = kln_rule_ints(rule, "shape", &rank);
    kln_dim *dims = shape != NULL ? kln_rule_new_shape(rule, 0, rank) : NULL;
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = shape[i] >= 0 ? KLN_DIM_OF_NUMBER(shape[i]) : KLN_UNKNOWN_DIM;
    }
}

void kln_rule_multinomial(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, (int32_t)kln_rule_int(rule, "dtype", KLN_WIRE_INT32));
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, 2)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, 2);
    if (dims != NULL) {
        dims[0] = kln_rule_dim(rule, 0, 0);
        dims[1] = KLN_DIM_OF_NUMBER(kln_rule_int(rule, "sample_size", 1));
    }
}

/* --- quantization --- */

static const kln_value_quantization *describe(kln_rule *rule)
{
    kln_value_quantization *q = kln_rule_alloc(rule, 1, sizeof *q);
    if (q == NULL || rule->in_count < 2) {
        return NULL;
    }
    q->scale = rule->node->inputs[1];
    q->zero_point = kln_rule_has(rule, 2) ? rule->node->inputs[2] : NULL;
    q->block_size = kln_rule_int(rule, "block_size", 0);
    q->axis = -1;
    size_t axis = 0;
    const bool single = kln_rule_ranked(rule, 1) && kln_rule_rank(rule, 1) == 0;
    const bool one = kln_rule_rank(rule, 1) == 1 && kln_rule_is(kln_rule_dim(rule, 1, 0), 1);
    if (kln_rule_ranked(rule, 0) && kln_rule_ranked(rule, 1) && !single && !one &&
        kln_rule_axis(rule, kln_rule_int(rule, "axis", 1), kln_rule_rank(rule, 0), &axis)) {
        q->axis = (int64_t)axis;
    }
    return q;
}

static void check_scale(kln_rule *rule, const kln_value_quantization *q)
{
    if (q == NULL || !kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) ||
        kln_rule_rank(rule, 1) == 0 || q->axis < 0) {
        return;
    }
    const char *name = rule->node->inputs[1];
    const kln_dim wide = kln_rule_dim(rule, 0, (size_t)q->axis);
    kln_dim needed = wide;
    kln_dim given = kln_rule_dim(rule, 1, 0);
    if (q->block_size > 0) {
        if (kln_rule_rank(rule, 1) != kln_rule_rank(rule, 0)) {
            kln_rule_fault(rule, KILN_ISSUE_QUANTIZATION, name, "the rank of the tensor",
                           "another rank",
                           "blocked scales \"%s\" need as many dimensions as the "
                           "tensor, %zu, but have %zu",
                           name, kln_rule_rank(rule, 0), kln_rule_rank(rule, 1));
            return;
        }
        needed = kln_dim_ceil_divide(&rule->state->pool, wide, KLN_DIM_OF_NUMBER(q->block_size));
        given = kln_rule_dim(rule, 1, (size_t)q->axis);
    }
    if (needed.kind == KLN_DIM_NUMBER && given.kind == KLN_DIM_NUMBER &&
        needed.of.number != given.of.number) {
        char expected[32];
        char found[32];
        (void)kln_dim_format(needed, expected, sizeof expected);
        (void)kln_dim_format(given, found, sizeof found);
        kln_rule_fault(rule, KILN_ISSUE_QUANTIZATION, name, expected, found,
                       "\"%s\" has %s scales, but dimension %lld of \"%s\" needs %s", name, found,
                       (long long)q->axis, rule->node->inputs[0], expected);
    }
}

static void check_zero_point(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 1) || !kln_rule_ranked(rule, 2)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 1);
    bool same = rank == kln_rule_rank(rule, 2);
    for (size_t i = 0; same && i < rank; i++) {
        const kln_dim a = kln_rule_dim(rule, 1, i);
        const kln_dim b = kln_rule_dim(rule, 2, i);
        same = a.kind != KLN_DIM_NUMBER || b.kind != KLN_DIM_NUMBER || kln_dim_equal(a, b);
    }
    const bool scalars = rank <= 1 && kln_rule_rank(rule, 2) <= 1 &&
                         (rank == 0 || kln_rule_is(kln_rule_dim(rule, 1, 0), 1)) &&
                         (kln_rule_rank(rule, 2) == 0 || kln_rule_is(kln_rule_dim(rule, 2, 0), 1));
    if (!same && !scalars) {
        char expected[160];
        char found[160];
        (void)kln_value_format(rule->in[1], expected, sizeof expected);
        (void)kln_value_format(rule->in[2], found, sizeof found);
        kln_rule_fault(rule, KILN_ISSUE_QUANTIZATION, rule->node->inputs[2], expected, found,
                       "scales \"%.60s\" are %.60s, but zero points \"%.60s\" are %.60s",
                       rule->node->inputs[1], expected, rule->node->inputs[2], found);
    }
}

void kln_rule_quantize(kln_rule *rule)
{
    int32_t type = (int32_t)kln_rule_int(rule, "output_dtype", 0);
    if (rule->in_count > 2 && rule->in[2] != NULL) {
        type = rule->in[2]->wire_dtype;
    }
    kln_rule_set_dtype(rule, 0, type != 0 || kln_rule_has(rule, 2) ? type : KLN_WIRE_UINT8);
    kln_rule_same_shape(rule, 0, 0);
    const kln_value_quantization *q = describe(rule);
    check_scale(rule, q);
    check_zero_point(rule);
    if (kln_rule_wants(rule, 0)) {
        rule->out[0].quantization = q;
    }
}

void kln_rule_dequantize(kln_rule *rule)
{
    int32_t type = rule->in_count > 1 && rule->in[1] != NULL ? rule->in[1]->wire_dtype : 0;
    if (rule->since < 19) {
        type = KLN_WIRE_FLOAT;
    }
    const int64_t wanted = kln_rule_int(rule, "output_dtype", 0);
    kln_rule_set_dtype(rule, 0, wanted != 0 ? (int32_t)wanted : type);
    kln_rule_same_shape(rule, 0, 0);
    const kln_value_quantization *q = describe(rule);
    check_scale(rule, q);
    check_zero_point(rule);
    if (rule->in_count > 0 && rule->in[0] != NULL && rule->in[0]->quantization == NULL) {
        rule->in[0]->quantization = q;
    }
}

void kln_rule_dynamic_quantize(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, KLN_WIRE_UINT8);
    kln_rule_set_dtype(rule, 1, KLN_WIRE_FLOAT);
    kln_rule_set_dtype(rule, 2, KLN_WIRE_UINT8);
    kln_rule_same_shape(rule, 0, 0);
    (void)kln_rule_new_shape(rule, 1, 0);
    (void)kln_rule_new_shape(rule, 2, 0);
}
