/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "infer_rules.h"

/* Every exporter uses ends this large to mean "to the end". */
#define TO_THE_END ((int64_t)INT32_MAX)

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* The number of elements from start to end by step, of a dimension of `n`. */
static int64_t count_slice(int64_t n, int64_t start, int64_t end, int64_t step)
{
    start = start < 0 ? (start < -n ? -1 : start + n) : start;
    end = end < 0 ? (end < -n ? -1 : end + n) : end;
    if (step > 0) {
        start = clamp(start, 0, n);
        end = clamp(end, 0, n);
        return end > start ? (end - start - 1) / step + 1 : 0;
    }
    start = clamp(start, 0, n - 1);
    end = clamp(end, -1, n - 1);
    if (n <= 0 || start <= end) {
        return 0;
    }
    /* INT64_MIN cannot be negated; no dimension is that long. */
    return step < -n ? 1 : (start - end - 1) / -step + 1;
}

static kln_dim at_least_0(kln_expressions *pool, kln_dim dim)
{
    return kln_dim_max(pool, dim, KLN_DIM_OF_NUMBER(0));
}

/* The same for a dimension that is an expression, if the result is exact. */
static kln_dim symbolic_slice(kln_expressions *pool, kln_dim n, kln_dim start, kln_dim end)
{
    const kln_dim zero = KLN_DIM_OF_NUMBER(0);
    const bool to_end =
        kln_dim_equal(end, n) || (end.kind == KLN_DIM_NUMBER && end.of.number >= TO_THE_END);
    const bool from_back = start.kind == KLN_DIM_NUMBER && start.of.number < 0;
    const bool to_back = end.kind == KLN_DIM_NUMBER && end.of.number < 0;
    if (from_back && to_end) {
        return kln_dim_min(pool, n, kln_dim_subtract(pool, zero, start));
    }
    if (from_back && to_back) {
        return kln_dim_min(pool, at_least_0(pool, kln_dim_add(pool, n, end)),
                           at_least_0(pool, kln_dim_subtract(pool, end, start)));
    }
    if (from_back || !kln_dim_not_negative(start)) {
        return KLN_UNKNOWN_DIM;
    }
    if (to_end) {
        return at_least_0(pool, kln_dim_subtract(pool, n, start));
    }
    if (to_back) {
        return at_least_0(pool, kln_dim_subtract(pool, kln_dim_add(pool, n, end), start));
    }
    if (!kln_dim_not_negative(end)) {
        return KLN_UNKNOWN_DIM;
    }
    return kln_dim_min(pool, at_least_0(pool, kln_dim_subtract(pool, n, start)),
                       at_least_0(pool, kln_dim_subtract(pool, end, start)));
}

static kln_dim slice_dim(kln_rule *rule, kln_dim n, kln_dim start, kln_dim end, kln_dim step)
{
    if (step.kind != KLN_DIM_NUMBER || step.of.number == 0) {
        return KLN_UNKNOWN_DIM;
    }
    if (n.kind == KLN_DIM_NUMBER && start.kind == KLN_DIM_NUMBER && end.kind == KLN_DIM_NUMBER) {
        return KLN_DIM_OF_NUMBER(
            count_slice(n.of.number, start.of.number, end.of.number, step.of.number));
    }
    if (step.of.number < 0) {
        const bool all = kln_rule_is(step, -1) && kln_rule_is(start, -1) &&
                         end.kind == KLN_DIM_NUMBER && end.of.number < -TO_THE_END;
        return all ? n : KLN_UNKNOWN_DIM;
    }
    return kln_dim_ceil_divide(&rule->state->pool,
                               symbolic_slice(&rule->state->pool, n, start, end), step);
}

static const kln_dim *list_of(kln_rule *rule, const char *name, size_t input, size_t *count,
                              bool *given)
{
    if (rule->since >= 10) {
        *given = kln_rule_has(rule, input);
        return kln_rule_contents(rule, input, count);
    }
    *given = kln_rule_ints(rule, name, count) != NULL;
    return kln_rule_ints_as_contents(rule, name, count);
}

/* The range that is taken along one axis. */
typedef struct slice_range {
    bool given;
    kln_dim start, end, step;
} slice_range;

/* Reads the ranges by axis, for any version; false if they are not known. */
static bool slice_ranges(kln_rule *rule, slice_range *ranges, size_t rank)
{
    size_t starts_count = 0;
    size_t ends_count = 0;
    size_t axes_count = 0;
    size_t steps_count = 0;
    bool given = false;
    bool has_axes = false;
    bool has_steps = false;
    const kln_dim *starts = list_of(rule, "starts", 1, &starts_count, &given);
    const kln_dim *ends = list_of(rule, "ends", 2, &ends_count, &given);
    const kln_dim *axes = list_of(rule, "axes", 3, &axes_count, &has_axes);
    const kln_dim *steps = list_of(rule, "steps", 4, &steps_count, &has_steps);
    if (starts == NULL || ends == NULL || (has_axes && axes == NULL) ||
        (has_steps && steps == NULL)) {
        return false;
    }
    if (starts_count != ends_count || (has_axes && axes_count != starts_count) ||
        (has_steps && steps_count != starts_count)) {
        char found[128];
        int length =
            snprintf(found, sizeof found, "%zu starts, %zu ends", starts_count, ends_count);
        if (has_axes) {
            length +=
                snprintf(found + length, sizeof found - (size_t)length, ", %zu axes", axes_count);
        }
        if (has_steps) {
            (void)snprintf(found + length, sizeof found - (size_t)length, ", %zu steps",
                           steps_count);
        }
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "starts", "one of each for each axis", found,
                       "\"%.100s\" is sliced with %s; one of each is needed for each axis",
                       rule->node->inputs[0], found);
        return false;
    }
    for (size_t i = 0; i < starts_count; i++) {
        size_t axis = i;
        if (has_axes) {
            if (axes[i].kind != KLN_DIM_NUMBER) {
                return false;
            }
            if (!kln_rule_axis(rule, axes[i].of.number, rank, &axis)) {
                return false;
            }
        } else if (i >= rank) {
            return false;
        }
        if (ranges[axis].given) {
            kln_rule_fault(rule, KILN_ISSUE_VALUE, "axes", "each axis once", "one twice",
                           "axis %zu is named twice", axis);
            return false;
        }
        ranges[axis] =
            (slice_range){true, starts[i], ends[i], has_steps ? steps[i] : KLN_DIM_OF_NUMBER(1)};
        if (kln_rule_is(ranges[axis].step, 0)) {
            kln_rule_fault(rule, KILN_ISSUE_VALUE, "steps", "not 0", "0",
                           "the step along axis %zu is 0", axis);
        }
    }
    return true;
}

static void rule_slice(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    slice_range *ranges = kln_rule_alloc(rule, rank, sizeof *ranges);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (ranges == NULL || dims == NULL || !slice_ranges(rule, ranges, rank)) {
        return;
    }
    for (size_t i = 0; i < rank; i++) {
        const kln_dim n = kln_rule_dim(rule, 0, i);
        dims[i] = ranges[i].given
                      ? slice_dim(rule, n, ranges[i].start, ranges[i].end, ranges[i].step)
                      : n;
    }
}

static void fold_slice(kln_rule *rule)
{
    const kln_dim *data = kln_fold_whole(rule, 0);
    size_t count = 0;
    if (data == NULL || rule->in[0]->rank > KILN_MAX_RANK) {
        return;
    }
    const size_t rank = rule->in[0]->rank;
    slice_range *ranges = kln_rule_alloc(rule, rank, sizeof *ranges);
    if (ranges == NULL || !slice_ranges(rule, ranges, rank)) {
        return;
    }
    int64_t first[KILN_MAX_RANK] = {0};
    int64_t step[KILN_MAX_RANK] = {0};
    for (size_t i = 0; i < rank; i++) {
        const int64_t n = rule->in[0]->dims[i].of.number;
        step[i] =
            ranges[i].given && ranges[i].step.kind == KLN_DIM_NUMBER ? ranges[i].step.of.number : 1;
        if (!ranges[i].given) {
            continue;
        }
        if (ranges[i].start.kind != KLN_DIM_NUMBER) {
            return;
        }
        int64_t from = ranges[i].start.of.number;
        from = from < 0 ? (from < -n ? 0 : from + n) : from;
        first[i] = from > n - 1 && step[i] < 0 ? n - 1 : from;
    }
    kln_dim *out = kln_fold_start(rule, 0, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        size_t index[KILN_MAX_RANK] = {0};
        kln_fold_unravel(&rule->out[0], i, index);
        size_t place = 0;
        for (size_t k = 0; k < rank; k++) {
            const size_t at = (size_t)(first[k] + (int64_t)index[k] * step[k]);
            place = place * kln_fold_dim(rule->in[0], k) + at;
        }
        out[i] = place < kln_fold_elements(rule->in[0]) ? data[place] : KLN_UNKNOWN_DIM;
    }
}

/* The axes in a list are valid for the input. */
static bool fit_slice(kln_rule *rule)
{
    size_t count = 0;
    size_t axis = 0;
    const int64_t *axes = kln_rule_numbers(rule, 3, &count);
    for (size_t i = 0; axes != NULL && kln_rule_ranked(rule, 0) && i < count; i++) {
        if (!kln_rule_axis(rule, axes[i], kln_rule_rank(rule, 0), &axis)) {
            return false;
        }
    }
    const kln_dim starts = kln_rule_dim(rule, 1, 0);
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_has(rule, 3) && kln_rule_ranked(rule, 0) && starts.kind == KLN_DIM_NUMBER &&
        starts.of.number > (int64_t)rank) {
        const char *found = KLN_DIM_PRINTED(starts);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1],
                       KLN_PRINTED("at most %zu", rank), found,
                       "\"%.100s\" has %s starts without axes, but \"%.100s\" has %zu dimensions",
                       rule->node->inputs[1], found, rule->node->inputs[0], rank);
        return false;
    }
    return true;
}

const kln_op_rule kln_rules_slice[] = {OP("Slice", rule_slice, .ranked = true, .fold = fold_slice,
                                          .form = "10: _+ (_) (_) (_) (_)", .fit = fit_slice),
                                       OP_END};
