/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "infer_rules.h"

void kln_shape_bounds(const kln_rule *rule, size_t *first, size_t *last)
{
    const int64_t rank = (int64_t)kln_rule_rank(rule, 0);
    int64_t start = kln_rule_int(rule, "start", 0);
    int64_t end = kln_rule_int(rule, "end", rank);
    start = start < 0 ? start + rank : start;
    end = end < 0 ? end + rank : end;
    start = start < 0 ? 0 : start > rank ? rank : start;
    end = end < start ? start : end > rank ? rank : end;
    *first = (size_t)start;
    *last = (size_t)end;
}

void kln_rule_shape(kln_rule *rule)
{
    size_t first = 0;
    size_t last = 0;
    kln_dim *dims = kln_rule_new_shape(rule, 0, 1);
    if (dims != NULL && kln_rule_ranked(rule, 0)) {
        kln_shape_bounds(rule, &first, &last);
        dims[0] = KLN_DIM_OF_NUMBER((int64_t)(last - first));
    }
}

void kln_rule_size(kln_rule *rule)
{
    (void)kln_rule_new_shape(rule, 0, 0);
}

static void constant_tensor(kln_rule *rule, const kln_onnx_tensor *tensor)
{
    kln_rule_set_dtype(rule, 0, tensor->wire_dtype);
    kln_dim *dims = kln_rule_new_shape(rule, 0, tensor->rank);
    for (size_t i = 0; dims != NULL && i < tensor->rank; i++) {
        dims[i] = tensor->dims[i] >= 0 ? KLN_DIM_OF_NUMBER(tensor->dims[i]) : KLN_UNKNOWN_DIM;
    }
    if (dims != NULL) {
        rule->out[0].initializer = tensor;
    }
}

static void constant_list(kln_rule *rule, int32_t wire_dtype, size_t count, bool scalar)
{
    kln_rule_set_dtype(rule, 0, wire_dtype);
    kln_dim *dims = kln_rule_new_shape(rule, 0, scalar ? 0 : 1);
    if (dims != NULL && !scalar) {
        dims[0] = KLN_DIM_OF_NUMBER((int64_t)count);
    }
}

/* Its value is one of a few attributes, whatever else a file may put there. */
#define ATTRIBUTES_MOST 16

void kln_rule_constant(kln_rule *rule)
{
    const kln_onnx_node *node = rule->node;
    for (size_t i = 0; i < node->attribute_count && i < ATTRIBUTES_MOST; i++) {
        const kln_onnx_attribute *a = kln_rule_attribute(rule, node->attributes[i].name);
        if (a == NULL) {
            continue;
        }
        const char *name = node->attributes[i].name;
        if (strcmp(name, "value") == 0 && a->tensor != NULL) {
            constant_tensor(rule, a->tensor);
        } else if (strcmp(name, "value_int") == 0 || strcmp(name, "value_ints") == 0) {
            constant_list(rule, KLN_WIRE_INT64, a->count, name[9] == '\0');
        } else if (strcmp(name, "value_float") == 0 || strcmp(name, "value_floats") == 0) {
            constant_list(rule, KLN_WIRE_FLOAT, a->count, name[11] == '\0');
        } else if (strcmp(name, "value_string") == 0 || strcmp(name, "value_strings") == 0) {
            constant_list(rule, KLN_WIRE_STRING, a->count, name[12] == '\0');
        }
    }
}

void kln_rule_constant_of_shape(kln_rule *rule)
{
    const kln_onnx_attribute *value = kln_rule_attribute(rule, "value");
    const bool typed = value != NULL && value->tensor != NULL;
    kln_rule_set_dtype(rule, 0, typed ? value->tensor->wire_dtype : KLN_WIRE_FLOAT);
    size_t count = 0;
    if (!kln_rule_need_rank(rule, 0, 1, 1)) {
        return;
    }
    const kln_dim *shape = kln_rule_contents(rule, 0, &count);
    const kln_dim length = kln_rule_dim(rule, 0, 0);
    if (shape != NULL) {
        kln_rule_shape_of(rule, 0, shape, count);
    } else if (length.kind == KLN_DIM_NUMBER && length.of.number <= 64) {
        (void)kln_rule_new_shape(rule, 0, (size_t)length.of.number);
    }
}

static kln_dim scalar(kln_rule *rule, size_t input)
{
    size_t count = 0;
    const kln_dim *contents = kln_rule_contents(rule, input, &count);
    return contents != NULL && count == 1 ? contents[0] : KLN_UNKNOWN_DIM;
}

static double as_real(kln_dim dim)
{
    return dim.kind == KLN_DIM_REAL     ? dim.of.real
           : dim.kind == KLN_DIM_NUMBER ? (double)dim.of.number
                                        : (double)NAN;
}

static kln_dim range_length(kln_rule *rule)
{
    kln_expressions *pool = &rule->state->pool;
    const kln_dim start = scalar(rule, 0);
    const kln_dim limit = scalar(rule, 1);
    const kln_dim step = scalar(rule, 2);
    if (start.kind == KLN_DIM_REAL || limit.kind == KLN_DIM_REAL || step.kind == KLN_DIM_REAL) {
        const double count = ceil((as_real(limit) - as_real(start)) / as_real(step));
        return count <= 0.0   ? KLN_DIM_OF_NUMBER(0)
               : count < 9e15 ? KLN_DIM_OF_NUMBER((int64_t)count)
                              : KLN_UNKNOWN_DIM;
    }
    if (step.kind != KLN_DIM_NUMBER || step.of.number == 0 || step.of.number == INT64_MIN) {
        return KLN_UNKNOWN_DIM;
    }
    const bool down = step.of.number < 0;
    const kln_dim way = kln_dim_subtract(pool, down ? start : limit, down ? limit : start);
    const kln_dim by = KLN_DIM_OF_NUMBER(down ? -step.of.number : step.of.number);
    return kln_dim_max(pool, kln_dim_ceil_divide(pool, way, by), KLN_DIM_OF_NUMBER(0));
}

void kln_rule_range(kln_rule *rule)
{
    const kln_dim length = range_length(rule);
    kln_dim *dims = kln_rule_new_shape(rule, 0, 1);
    if (dims != NULL) {
        dims[0] = length;
    }
}

void kln_rule_window(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, (int32_t)kln_rule_int(rule, "output_datatype", KLN_WIRE_FLOAT));
    const kln_dim size = scalar(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, 1);
    if (dims != NULL && !(size.kind == KLN_DIM_NUMBER && size.of.number < 0)) {
        dims[0] = size;
    }
}

void kln_rule_mel(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, (int32_t)kln_rule_int(rule, "output_datatype", KLN_WIRE_FLOAT));
    kln_expressions *pool = &rule->state->pool;
    const kln_dim bins = scalar(rule, 0);
    const kln_dim length = scalar(rule, 1);
    kln_dim *dims = kln_rule_new_shape(rule, 0, 2);
    if (dims != NULL) {
        dims[0] = kln_dim_plus(pool, kln_dim_floor_divide(pool, length, KLN_DIM_OF_NUMBER(2)), 1);
        dims[1] = bins;
    }
}

/* --- signals --- */

/* Which dimension a DFT goes along; false when that is not known, or told to be wrong. */
static bool dft_axis(kln_rule *rule, size_t rank, size_t *axis)
{
    kln_dim given = KLN_DIM_OF_NUMBER(rule->since >= 20 ? -2 : kln_rule_int(rule, "axis", 1));
    if (rule->since >= 20 && kln_rule_has(rule, 2)) {
        given = scalar(rule, 2);
    }
    if (given.kind != KLN_DIM_NUMBER || !kln_rule_axis(rule, given.of.number, rank, axis)) {
        return false;
    }
    if (*axis + 1 == rank) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "axis", "not the last dimension", "the last one",
                       "axis %lld is the last dimension, which holds the parts of a number",
                       (long long)given.of.number);
        return false;
    }
    return true;
}

void kln_rule_dft(kln_rule *rule)
{
    const bool one_sided = kln_rule_int(rule, "onesided", 0) != 0;
    const bool inverse = kln_rule_int(rule, "inverse", 0) != 0;
    const bool real_output = one_sided && inverse;
    const bool as_long = !one_sided && !kln_rule_has(rule, 1);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, SIZE_MAX)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    size_t axis = 0;
    if (dims == NULL) {
        return;
    }
    const int64_t parts = one_sided ? (inverse ? 2 : 1) : 0;
    const kln_dim last = kln_rule_dim(rule, 0, rank - 1);
    if (parts > 0 && last.kind == KLN_DIM_NUMBER && last.of.number != parts) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], inverse ? "2" : "1",
                       "another number",
                       "a one-sided %s takes %s numbers: the last dimension must be %lld, not %lld",
                       inverse ? "inverse" : "transform", inverse ? "complex" : "real",
                       (long long)parts, (long long)last.of.number);
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const bool known = dft_axis(rule, rank, &axis);
    for (size_t i = 0; (known || as_long) && i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    if (known && !kln_rule_has(rule, 1) && kln_rule_is(dims[axis], 0)) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 1", "0",
                       "dimension %zu of \"%.100s\" is 0; a transform takes at least 1 point", axis,
                       rule->node->inputs[0]);
    }
    if (known && kln_rule_has(rule, 1)) {
        dims[axis] = scalar(rule, 1);
    }
    if (known && one_sided && !inverse) {
        dims[axis] =
            kln_dim_plus(pool, kln_dim_floor_divide(pool, dims[axis], KLN_DIM_OF_NUMBER(2)), 1);
    } else if (known && real_output && !kln_rule_has(rule, 1)) {
        dims[axis] = kln_dim_times(pool, kln_dim_plus(pool, dims[axis], -1), 2);
    }
    dims[rank - 1] = KLN_DIM_OF_NUMBER(real_output ? 1 : 2);
}

void kln_rule_stft(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, 3)) {
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const kln_dim step = scalar(rule, 1);
    kln_dim length = kln_rule_has(rule, 3) ? scalar(rule, 3) : kln_rule_dim(rule, 2, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, 4);
    if (dims == NULL) {
        return;
    }
    const kln_dim room = kln_dim_subtract(pool, kln_rule_dim(rule, 0, 1), length);
    dims[0] = kln_rule_dim(rule, 0, 0);
    dims[1] = kln_dim_plus(pool, kln_dim_floor_divide(pool, room, step), 1);
    if (kln_rule_int(rule, "onesided", 1) != 0) {
        length = kln_dim_plus(pool, kln_dim_floor_divide(pool, length, KLN_DIM_OF_NUMBER(2)), 1);
    }
    dims[2] = length;
    dims[3] = KLN_DIM_OF_NUMBER(2);
}
