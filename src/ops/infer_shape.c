/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "infer_rules.h"

static void shape_bounds(const kln_rule *rule, size_t *first, size_t *last)
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

static void rule_shape(kln_rule *rule)
{
    size_t first = 0;
    size_t last = 0;
    shape_bounds(rule, &first, &last);
    kln_rule_give(
        rule, 0,
        kln_rule_ranked(rule, 0) ? KLN_DIM_OF_NUMBER((int64_t)(last - first)) : KLN_UNKNOWN_DIM);
}

static void fold_shape(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    size_t first = 0;
    size_t last = 0;
    shape_bounds(rule, &first, &last);
    kln_dim *out = kln_rule_fill(rule, 0, last - first);
    for (size_t i = first; out != NULL && i < last; i++) {
        out[i - first] = kln_rule_dim(rule, 0, i);
    }
}

static void fold_size(kln_rule *rule)
{
    kln_dim *out = kln_rule_ranked(rule, 0) ? kln_rule_fill(rule, 0, 1) : NULL;
    if (out != NULL) {
        out[0] = kln_rule_product(rule, rule->in[0]->dims, 0, rule->in[0]->rank);
    }
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
    kln_rule_put_shape(rule, 0, &KLN_DIM_OF_NUMBER((int64_t)count), scalar ? 0 : 1);
}

/* The value is one of a few attributes; a file may contain any number of others. */
#define ATTRIBUTES_MOST 16

static void rule_constant(kln_rule *rule)
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

static void fold_constant(kln_rule *rule)
{
    const kln_onnx_attribute *one = kln_rule_attribute(rule, "value_int");
    const kln_onnx_attribute *many = kln_rule_attribute(rule, "value_ints");
    const kln_onnx_attribute *real = kln_rule_attribute(rule, "value_float");
    const kln_onnx_attribute *reals = kln_rule_attribute(rule, "value_floats");
    size_t count = 0;
    if (one == NULL && many == NULL && real == NULL && reals == NULL) {
        return;
    }
    kln_dim *out = kln_fold_start(rule, 0, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        if (one != NULL) {
            out[i] = KLN_DIM_OF_NUMBER(one->i);
        } else if (many != NULL && i < many->count) {
            out[i] = KLN_DIM_OF_NUMBER(many->ints[i]);
        } else if (real != NULL) {
            out[i] = (kln_dim){.kind = KLN_DIM_REAL, .of.real = (double)real->f};
        } else if (reals != NULL && i < reals->count) {
            out[i] = (kln_dim){.kind = KLN_DIM_REAL, .of.real = (double)reals->floats[i]};
        }
    }
}

static void rule_constant_of_shape(kln_rule *rule)
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

static void fold_constant_of_shape(kln_rule *rule)
{
    const kln_onnx_attribute *value = kln_rule_attribute(rule, "value");
    const kln_onnx_tensor *tensor = value != NULL ? value->tensor : NULL;
    size_t count = 0;
    if (tensor == NULL || !kln_rule_elements(rule, 0, &count) ||
        count > rule->state->options.content_limit) {
        return;
    }
    kln_value single = {.name = "", .initializer = tensor};
    size_t one = 0;
    const kln_dim *element = kln_value_contents(rule->state->inference, &single, &one);
    kln_dim *out = element != NULL && one == 1 ? kln_rule_fill(rule, 0, count) : NULL;
    for (size_t i = 0; out != NULL && i < count; i++) {
        out[i] = element[0];
    }
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
    const kln_dim start = kln_rule_scalar(rule, 0);
    const kln_dim limit = kln_rule_scalar(rule, 1);
    const kln_dim step = kln_rule_scalar(rule, 2);
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

static void rule_range(kln_rule *rule)
{
    kln_rule_give(rule, 0, range_length(rule));
}

static void fold_range(kln_rule *rule)
{
    size_t count = 0;
    size_t one = 0;
    const kln_dim *start = kln_rule_contents(rule, 0, &one);
    const kln_dim *step = kln_rule_contents(rule, 2, &one);
    if (start == NULL || step == NULL || one != 1 || step[0].kind == KLN_DIM_REAL ||
        !kln_rule_elements(rule, 0, &count)) {
        return;
    }
    kln_dim *out = kln_rule_fill(rule, 0, count);
    kln_dim next = start[0];
    for (size_t i = 0; out != NULL && i < count; i++) {
        out[i] = next;
        next = kln_dim_add(&rule->state->pool, next, step[0]);
    }
}

const kln_op_rule kln_rules_shape[] = {
    OP("Constant", rule_constant, .fold = fold_constant),
    OP("ConstantOfShape", rule_constant_of_shape, .fold = fold_constant_of_shape),
    OP("Range", rule_range, .fold = fold_range, .form = "11: (1) (1) (1)"),
    OP("Shape", rule_shape, .fold = fold_shape),
    OP("Size", kln_rule_scalar_out, .fold = fold_size),
    OP_END};
