/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_concat(kln_rule *rule)
{
    size_t axis = 0;
    if (!kln_rule_ranked(rule, 0) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", 1), kln_rule_rank(rule, 0), &axis)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    for (size_t i = 1; i < rule->in_count; i++) {
        if (!kln_rule_ranked(rule, i) || !kln_rule_need_rank(rule, i, rank, rank)) {
            return;
        }
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t k = 0; dims != NULL && k < rank; k++) {
        kln_dim dim = kln_rule_dim(rule, 0, k);
        for (size_t i = 1; i < rule->in_count; i++) {
            const kln_dim next = kln_rule_dim(rule, i, k);
            dim = k == axis ? kln_dim_add(&rule->state->pool, dim, next)
                            : kln_rule_unify(rule, dim, next, "all dimensions but the joined one");
        }
        dims[k] = dim;
    }
}

/* Every part is followed by its scale and zero point. */
static void rule_qlinear_concat(kln_rule *rule)
{
    const size_t count = rule->in_count > 2 ? (rule->in_count - 2) / 3 : 0;
    size_t *parts = kln_rule_alloc(rule, count, sizeof *parts);
    for (size_t i = 0; parts != NULL && i < count; i++) {
        parts[i] = 2 + 3 * i;
    }
    if (parts != NULL) {
        kln_rule_with(rule, parts, count, rule_concat);
    }
}

/* Every scale and zero point is a single number; every third input is a part. */
static bool fit_qlinear_concat(kln_rule *rule)
{
    bool fits = true;
    for (size_t i = 0; i < rule->in_count && fits; i++) {
        fits = i % 3 == 2 || !kln_rule_ranked(rule, i) ||
               (kln_rule_need_rank(rule, i, 0, 1) &&
                (kln_rule_rank(rule, i) == 0 ||
                 kln_fit_dim(rule, i, 0, KLN_DIM_OF_NUMBER(1), "a scale or zero point and one")));
    }
    return fits;
}

static bool may_know_any(const kln_rule *rule)
{
    size_t i = 0;
    while (i < rule->in_count && !kln_rule_may_know(rule, i)) {
        i++;
    }
    return i < rule->in_count;
}

static void fold_concat(kln_rule *rule)
{
    size_t axis = 0;
    size_t count = 0;
    bool any = false;
    if (!may_know_any(rule)) {
        return;
    }
    for (size_t i = 0; i < rule->in_count; i++) {
        size_t known = 0;
        if (!kln_fold_is_static(rule->in[i]) || kln_fold_elements(rule->in[i]) > 65536) {
            return;
        }
        any |= kln_rule_contents(rule, i, &known) != NULL;
    }
    if (!any || !kln_fold_axis(rule, 1, rule->in[0], &axis) ||
        !kln_rule_elements(rule, 0, &count)) {
        return;
    }
    kln_dim *out = kln_fold_start(rule, 0, &count);
    const size_t outer = kln_fold_span(rule->in[0], 0, axis);
    const size_t row = outer > 0 ? count / outer : 0;
    size_t offset = 0;
    for (size_t k = 0; out != NULL && k < rule->in_count; k++) {
        const kln_dim *part = kln_fold_whole(rule, k);
        const size_t width = kln_fold_span(rule->in[k], axis, rule->in[k]->rank);
        for (size_t o = 0; o < outer && offset + width <= row; o++) {
            for (size_t i = 0; i < width; i++) {
                out[o * row + offset + i] = part != NULL ? part[o * width + i] : KLN_UNKNOWN_DIM;
            }
        }
        offset += width;
    }
}

static kln_dim split_part(kln_rule *rule, kln_dim whole, size_t part, size_t parts)
{
    kln_expressions *pool = &rule->state->pool;
    const int64_t count = (int64_t)parts;
    if (rule->since < 18) {
        return kln_dim_floor_divide(pool, whole, KLN_DIM_OF_NUMBER(count));
    }
    const kln_dim chunk = kln_dim_ceil_divide(pool, whole, KLN_DIM_OF_NUMBER(count));
    if (part + 1 < parts) {
        return chunk;
    }
    /* With more parts than elements the last part would have a negative size; such a node is in a
     * branch that is never taken. */
    const kln_dim last = kln_dim_subtract(pool, whole, kln_dim_times(pool, chunk, count - 1));
    return last.kind == KLN_DIM_NUMBER && last.of.number < 0 ? KLN_UNKNOWN_DIM : last;
}

static void rule_split(kln_rule *rule)
{
    size_t axis = 0;
    size_t count = 0;
    bool known = false;
    if (rule->out_count == 0 || !kln_rule_ranked(rule, 0) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", 0), kln_rule_rank(rule, 0), &axis)) {
        return;
    }
    const int64_t *sizes = kln_rule_ints_or_input(rule, "split", 1, &count, &known);
    const int64_t asked = kln_rule_int(rule, "num_outputs", 1);
    if (!kln_fit_at_least(rule, "num_outputs", asked, 1)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    const kln_dim whole = kln_rule_dim(rule, 0, axis);
    const int64_t outputs = (int64_t)rule->out_count;
    if (sizes != NULL && count != rule->out_count) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "split", "one size for each output",
                       "another number", "%zu sizes are given for %zu outputs", count,
                       rule->out_count);
        return;
    }
    if (sizes == NULL && known && rule->since < 18 && whole.kind == KLN_DIM_NUMBER &&
        whole.of.number % outputs != 0) {
        kln_rule_fault(
            rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "an equal division", "a rest",
            "dimension %zu of \"%.100s\" is %lld, which %lld outputs cannot share equally", axis,
            rule->node->inputs[0], (long long)whole.of.number, (long long)outputs);
        return;
    }
    for (size_t o = 0; o < rule->out_count; o++) {
        kln_dim *dims = kln_rule_shape_like(rule, o, rank);
        if (dims != NULL) {
            dims[axis] = sizes != NULL && sizes[o] >= 0 ? KLN_DIM_OF_NUMBER(sizes[o])
                         : sizes == NULL && known ? split_part(rule, whole, o, rule->out_count)
                                                  : KLN_UNKNOWN_DIM;
        }
    }
}

static void fold_split(kln_rule *rule)
{
    const kln_dim *data = kln_fold_whole(rule, 0);
    size_t offset = 0;
    /* Shape computations only split lists. */
    if (data == NULL || rule->in[0]->rank != 1) {
        return;
    }
    for (size_t o = 0; o < rule->out_count; o++) {
        size_t count = 0;
        if (!kln_rule_elements(rule, o, &count) ||
            offset + count > kln_fold_elements(rule->in[0])) {
            return;
        }
        kln_dim *out = kln_fold_start(rule, o, &count);
        if (out != NULL && count > 0) {
            memcpy(out, data + offset, count * sizeof *out);
        }
        offset += count;
    }
}

/* The given parts add up to the whole dimension. */
static bool fit_split(kln_rule *rule)
{
    size_t count = 0;
    bool known = false;
    size_t axis = 0;
    const int64_t *parts = kln_rule_ints_or_input(rule, "split", 1, &count, &known);
    if (rule->since >= 18 && !kln_rule_has(rule, 1) &&
        kln_rule_attribute(rule, "num_outputs") == NULL) {
        kln_rule_fault(rule, KILN_ISSUE_ATTRIBUTE, "num_outputs", "sizes or their number",
                       "neither",
                       "it has neither sizes (\"split\") nor their number "
                       "(\"num_outputs\")");
        return false;
    }
    for (size_t i = 0; parts != NULL && i < count; i++) {
        if (!kln_fit_at_least(rule, "split", parts[i], 0)) {
            return false;
        }
    }
    if (parts == NULL || !kln_rule_ranked(rule, 0) || !kln_fold_axis(rule, 0, rule->in[0], &axis)) {
        return true;
    }
    const kln_dim whole = kln_rule_dim(rule, 0, axis);
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (__builtin_add_overflow(sum, parts[i], &sum)) {
            return true;
        }
    }
    return kln_fit_same(rule, whole, KLN_DIM_OF_NUMBER(sum),
                        "the dimension and the sum of its parts");
}

const kln_op_rule kln_rules_concat[] = {
    OP("Concat", rule_concat, .fold = fold_concat),
    OP("Split", rule_split, .fold = fold_split, .form = "13: - (_)", .fit = fit_split),
    OP_MS("QLinearConcat", rule_qlinear_concat, .form = "1: -", .fit = fit_qlinear_concat), OP_END};
