/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "infer_rules.h"

/* --- shapes as contents --- */

void kln_fold_shape(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    size_t first = 0;
    size_t last = 0;
    kln_shape_bounds(rule, &first, &last);
    kln_dim *out = kln_rule_fill(rule, 0, last - first);
    for (size_t i = first; out != NULL && i < last; i++) {
        out[i - first] = kln_rule_dim(rule, 0, i);
    }
}

void kln_fold_size(kln_rule *rule)
{
    kln_dim *out = kln_rule_ranked(rule, 0) ? kln_rule_fill(rule, 0, 1) : NULL;
    if (out != NULL) {
        out[0] = kln_rule_product(rule, rule->in[0]->dims, 0, rule->in[0]->rank);
    }
}

void kln_fold_constant(kln_rule *rule)
{
    const kln_onnx_attribute *one = kln_rule_attribute(rule, "value_int");
    const kln_onnx_attribute *many = kln_rule_attribute(rule, "value_ints");
    const kln_onnx_attribute *real = kln_rule_attribute(rule, "value_float");
    const kln_onnx_attribute *reals = kln_rule_attribute(rule, "value_floats");
    size_t count = 0;
    if (one == NULL && many == NULL && real == NULL && reals == NULL) {
        return;
    }
    kln_dim *out = kln_rule_elements(rule, 0, &count) ? kln_rule_fill(rule, 0, count) : NULL;
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

void kln_fold_constant_of_shape(kln_rule *rule)
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

void kln_fold_range(kln_rule *rule)
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
