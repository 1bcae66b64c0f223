/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

/* total / product, where dimensions that occur in both cancel even if they are unknown. */
static kln_dim remaining(kln_rule *rule, const kln_dim *in, bool *in_gone, size_t in_rank,
                         const kln_dim *out, const bool *out_gone, size_t out_rank, size_t skip)
{
    kln_expressions *pool = &rule->state->pool;
    kln_dim below = KLN_DIM_OF_NUMBER(1);
    for (size_t i = 0; i < out_rank; i++) {
        bool gone = i == skip || out_gone[i];
        for (size_t k = 0; !gone && k < in_rank; k++) {
            if (!in_gone[k] && kln_dim_equal(in[k], out[i]) && !kln_rule_is(in[k], 0)) {
                in_gone[k] = true;
                gone = true;
            }
        }
        if (!gone) {
            below = kln_dim_multiply(pool, below, out[i]);
        }
    }
    kln_dim above = KLN_DIM_OF_NUMBER(1);
    for (size_t k = 0; k < in_rank; k++) {
        if (!in_gone[k]) {
            above = kln_dim_multiply(pool, above, in[k]);
        }
    }
    if (above.kind == KLN_DIM_NUMBER && below.kind == KLN_DIM_NUMBER && below.of.number > 0 &&
        above.of.number % below.of.number != 0) {
        const char *found = KLN_PRINTED("%lld", (long long)above.of.number);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0],
                       KLN_PRINTED("a multiple of %lld", (long long)below.of.number), found,
                       "%s elements cannot be divided among dimensions of %lld together", found,
                       (long long)below.of.number);
        return KLN_UNKNOWN_DIM;
    }
    return kln_dim_floor_divide(pool, above, below);
}

static void check_elements(kln_rule *rule)
{
    kln_dim before = kln_rule_product(rule, rule->in[0]->dims, 0, rule->in[0]->rank);
    kln_dim after = kln_rule_product(rule, rule->out[0].dims, 0, rule->out[0].rank);
    if (before.kind == KLN_DIM_NUMBER && after.kind == KLN_DIM_NUMBER &&
        before.of.number != after.of.number) {
        const char *expected = KLN_DIM_PRINTED(before);
        const char *found = KLN_DIM_PRINTED(after);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], expected, found,
                       "\"%.100s\" has %s elements, but the new shape has %s",
                       rule->node->inputs[0], expected, found);
    }
}

static bool has_zero(const kln_dim *dims, size_t rank)
{
    for (size_t i = 0; i < rank; i++) {
        if (kln_rule_is(dims[i], 0)) {
            return true;
        }
    }
    return false;
}

static void reshape_to(kln_rule *rule, const kln_dim *target, size_t rank)
{
    const bool keep_zero = kln_rule_int(rule, "allowzero", 0) != 0;
    const size_t in_rank = kln_rule_rank(rule, 0);
    const bool ranked = kln_rule_ranked(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    bool *out_gone = kln_rule_alloc(rule, rank, sizeof *out_gone);
    bool *in_gone = kln_rule_alloc(rule, in_rank, sizeof *in_gone);
    if (dims == NULL || out_gone == NULL || in_gone == NULL) {
        return;
    }
    size_t open = rank;
    size_t open_count = 0;
    size_t asked = 0;
    for (size_t i = 0; i < rank; i++) {
        if (kln_rule_is(target[i], 0) && !keep_zero) {
            dims[i] = kln_rule_dim(rule, 0, i);
            out_gone[i] = i < in_rank;
            if (i < in_rank) {
                in_gone[i] = true;
            } else if (ranked) {
                kln_rule_fault(
                    rule, KILN_ISSUE_VALUE, "shape", "a dimension to copy", "none",
                    "element %zu of the new shape is 0, but the input has only %zu dimensions", i,
                    in_rank);
            }
        } else if (target[i].kind == KLN_DIM_NUMBER && target[i].of.number < 0) {
            (void)kln_fit_at_least(rule, "shape", target[i].of.number, -1);
            asked++;
            open = i;
            open_count++;
        } else {
            dims[i] = target[i].kind == KLN_DIM_REAL ? KLN_UNKNOWN_DIM : target[i];
            if (dims[i].kind == KLN_DIM_UNKNOWN) {
                open = i;
                open_count++;
            }
        }
    }
    if (asked > 1) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "shape", "one -1 at most", "several",
                       "%zu elements of the new shape are -1; one can be", asked);
        return;
    }
    if (asked == 1 && has_zero(dims, rank)) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "shape", "no dimension of 0 beside a -1", "both",
                       "the new shape has a -1 and a dimension of 0: any number would do");
        return;
    }
    if (ranked && open_count == 1) {
        dims[open] =
            remaining(rule, rule->in[0]->dims, in_gone, in_rank, dims, out_gone, rank, open);
    } else if (ranked && open_count == 0) {
        check_elements(rule);
    }
}

static void rule_reshape(kln_rule *rule)
{
    size_t count = 0;
    if (rule->since < 5) {
        const kln_dim *target = kln_rule_ints_as_contents(rule, "shape", &count);
        if (target != NULL) {
            reshape_to(rule, target, count);
        }
        return;
    }
    if (!kln_rule_need_rank(rule, 1, 1, 1)) {
        return;
    }
    const kln_dim *target = kln_rule_contents(rule, 1, &count);
    const kln_dim length = kln_rule_dim(rule, 1, 0);
    if (target != NULL) {
        reshape_to(rule, target, count);
    } else if (length.kind == KLN_DIM_NUMBER && length.of.number <= 64) {
        (void)kln_rule_new_shape(rule, 0, (size_t)length.of.number);
    }
}

static void rule_transpose(kln_rule *rule)
{
    size_t count = 0;
    const int64_t *order = kln_rule_ints(rule, "perm", &count);
    const size_t rank = kln_rule_rank(rule, 0);
    if (order != NULL && count != rank) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "perm", "one number for each dimension",
                       "another number",
                       "\"perm\" has %zu numbers, but the input has %zu dimensions", count, rank);
        return;
    }
    bool *seen = kln_rule_alloc(rule, rank, sizeof *seen);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; seen != NULL && dims != NULL && i < rank; i++) {
        size_t from = rank - 1 - i;
        if (order != NULL && (!kln_fit_at_least(rule, "perm", order[i], 0) ||
                              !kln_rule_axis(rule, order[i], rank, &from))) {
            return;
        }
        if (seen[from]) {
            kln_rule_fault(rule, KILN_ISSUE_VALUE, "perm", "each dimension once", "one twice",
                           "\"perm\" names dimension %zu twice", from);
            return;
        }
        seen[from] = true;
        dims[i] = kln_rule_dim(rule, 0, from);
    }
}

static void fold_transpose(kln_rule *rule)
{
    const kln_dim *data = kln_fold_whole(rule, 0);
    size_t count = 0;
    size_t given = 0;
    if (data == NULL || rule->in[0]->rank > KILN_MAX_RANK) {
        return;
    }
    const size_t rank = rule->in[0]->rank;
    const int64_t *order = kln_rule_ints(rule, "perm", &given);
    if (order != NULL && given != rank) {
        return;
    }
    kln_dim *out = kln_fold_start(rule, 0, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        size_t index[KILN_MAX_RANK] = {0};
        size_t from[KILN_MAX_RANK] = {0};
        kln_fold_unravel(&rule->out[0], i, index);
        for (size_t k = 0; k < rank; k++) {
            const int64_t at = order == NULL  ? (int64_t)(rank - 1 - k)
                               : order[k] < 0 ? order[k] + (int64_t)rank
                                              : order[k];
            if (at < 0 || at >= (int64_t)rank) {
                return;
            }
            from[at] = index[k];
        }
        size_t place = 0;
        for (size_t k = 0; k < rank; k++) {
            place = place * kln_fold_dim(rule->in[0], k) + from[k];
        }
        out[i] = place < kln_fold_elements(rule->in[0]) ? data[place] : KLN_UNKNOWN_DIM;
    }
}

static void rule_flatten(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    int64_t axis = kln_rule_int(rule, "axis", 1);
    axis = axis < 0 ? axis + (int64_t)rank : axis;
    if (axis < 0 || axis > (int64_t)rank) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "axis", "0 to the rank", "another number",
                       "axis %lld is outside the %zu dimensions there are",
                       (long long)kln_rule_int(rule, "axis", 1), rank);
        return;
    }
    const kln_dim *dims = rule->in[0]->dims;
    kln_rule_give(rule, 0, kln_rule_product(rule, dims, 0, (size_t)axis),
                  kln_rule_product(rule, dims, (size_t)axis, rank));
}

/* Marks each axis of a list; reports a fault and returns false if one is out of range or
 * repeated. */
bool kln_mark_axes(kln_rule *rule, const int64_t *axes, size_t count, size_t rank, bool *marks)
{
    for (size_t i = 0; i < count; i++) {
        size_t axis = 0;
        if (!kln_rule_axis(rule, axes[i], rank, &axis)) {
            return false;
        }
        if (marks[axis]) {
            kln_rule_fault(rule, KILN_ISSUE_VALUE, "axes", "each axis once", "one twice",
                           "axis %zu is named twice", axis);
            return false;
        }
        marks[axis] = true;
    }
    return true;
}

static void rule_squeeze(kln_rule *rule)
{
    size_t count = 0;
    bool known = false;
    const int64_t *axes = kln_rule_ints_or_input(rule, "axes", 1, &count, &known);
    if (!known || !kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    bool *gone = kln_rule_alloc(rule, rank, sizeof *gone);
    if (gone == NULL || (axes != NULL && !kln_mark_axes(rule, axes, count, rank, gone))) {
        return;
    }
    size_t left = 0;
    for (size_t i = 0; i < rank; i++) {
        const kln_dim dim = kln_rule_dim(rule, 0, i);
        if (axes == NULL) {
            if (dim.kind != KLN_DIM_NUMBER) {
                return;
            }
            gone[i] = dim.of.number == 1;
        } else if (gone[i] && dim.kind == KLN_DIM_NUMBER && dim.of.number != 1) {
            const char *found = KLN_DIM_PRINTED(dim);
            kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "1", found,
                           "dimension %zu of \"%.100s\" is %s; only a 1 can be taken out", i,
                           rule->node->inputs[0], found);
            return;
        }
        left += gone[i] ? 0 : 1;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, left);
    for (size_t i = 0, place = 0; dims != NULL && i < rank; i++) {
        if (!gone[i]) {
            dims[place++] = kln_rule_dim(rule, 0, i);
        }
    }
}

static void rule_unsqueeze(kln_rule *rule)
{
    size_t count = 0;
    bool known = false;
    const int64_t *axes = kln_rule_ints_or_input(rule, "axes", 1, &count, &known);
    if (!kln_rule_ranked(rule, 0) || axes == NULL) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0) + count;
    bool *fresh = kln_rule_alloc(rule, rank, sizeof *fresh);
    if (fresh == NULL || !kln_mark_axes(rule, axes, count, rank, fresh)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0, place = 0; dims != NULL && i < rank; i++) {
        dims[i] = fresh[i] ? KLN_DIM_OF_NUMBER(1) : kln_rule_dim(rule, 0, place++);
    }
}

const kln_op_rule kln_rules_reshape[] = {
    OP("Flatten", rule_flatten, .ranked = true, .fold = kln_fold_copy),
    OP("Reshape", rule_reshape, .fold = kln_fold_copy),
    OP("Squeeze", rule_squeeze, .fold = kln_fold_copy, .form = "13: - (_)"),
    OP("Transpose", rule_transpose, .ranked = true, .fold = fold_transpose),
    OP("Unsqueeze", rule_unsqueeze, .fold = kln_fold_copy, .form = "13: - (_)"),
    OP_END};
