/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* Ends this large mean "to the end" in every exporter. */
#define TO_THE_END ((int64_t)INT32_MAX)

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Elements of dimension `n` from start to end by step, all numbers. */
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
    /* INT64_MIN has no opposite; no dimension is that long. */
    return step < -n ? 1 : (start - end - 1) / -step + 1;
}

static kln_dim at_least_0(kln_expressions *pool, kln_dim dim)
{
    return kln_dim_max(pool, dim, KLN_DIM_OF_NUMBER(0));
}

/* The same for a dimension that is an expression, where the result is exact. */
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
    const int64_t *ints = kln_rule_ints(rule, name, count);
    *given = ints != NULL;
    kln_dim *dims = ints != NULL ? kln_rule_alloc(rule, *count, sizeof *dims) : NULL;
    for (size_t i = 0; dims != NULL && i < *count; i++) {
        dims[i] = KLN_DIM_OF_NUMBER(ints[i]);
    }
    return dims;
}

bool kln_slice_ranges(kln_rule *rule, kln_slice_range *ranges, size_t rank)
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
        ranges[axis] = (kln_slice_range){true, starts[i], ends[i],
                                         has_steps ? steps[i] : KLN_DIM_OF_NUMBER(1)};
        if (kln_rule_is(ranges[axis].step, 0)) {
            kln_rule_fault(rule, KILN_ISSUE_VALUE, "steps", "not 0", "0",
                           "the step along axis %zu is 0", axis);
        }
    }
    return true;
}

void kln_rule_slice(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_slice_range *ranges = kln_rule_alloc(rule, rank, sizeof *ranges);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (ranges == NULL || dims == NULL || !kln_slice_ranges(rule, ranges, rank)) {
        return;
    }
    for (size_t i = 0; i < rank; i++) {
        const kln_dim n = kln_rule_dim(rule, 0, i);
        dims[i] = ranges[i].given
                      ? slice_dim(rule, n, ranges[i].start, ranges[i].end, ranges[i].step)
                      : n;
    }
}

/* --- Resize and Upsample --- */

/* floor(dim * scale), in single precision as the specification's own tools do. */
static kln_dim scaled(kln_rule *rule, kln_dim dim, double scale)
{
    if (!(scale > 0.0) || scale > 1e9) {
        return KLN_UNKNOWN_DIM;
    }
    if (dim.kind == KLN_DIM_NUMBER) {
        const float product = floorf((float)dim.of.number * (float)scale);
        return product < 9e15F ? KLN_DIM_OF_NUMBER((int64_t)product) : KLN_UNKNOWN_DIM;
    }
    const double inverse = 1.0 / scale;
    if (!(scale < floor(scale)) && !(scale > floor(scale))) {
        return kln_dim_times(&rule->state->pool, dim, (int64_t)scale);
    }
    /* Only a power of two is its inverse exactly. */
    int exponent = 0;
    if (!(frexp(inverse, &exponent) < 0.5) && !(frexp(inverse, &exponent) > 0.5) && inverse < 1e9) {
        return kln_dim_floor_divide(&rule->state->pool, dim, KLN_DIM_OF_NUMBER((int64_t)inverse));
    }
    return KLN_UNKNOWN_DIM;
}

static void scale_all(kln_rule *rule, const double *scales, size_t count, const size_t *axes)
{
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    for (size_t i = 0; dims != NULL && i < count; i++) {
        dims[axes[i]] = scaled(rule, dims[axes[i]], scales[i]);
    }
}

static double *reals_of(kln_rule *rule, size_t input, size_t *count)
{
    const kln_dim *contents = kln_rule_contents(rule, input, count);
    double *reals = contents != NULL ? kln_rule_alloc(rule, *count, sizeof *reals) : NULL;
    for (size_t i = 0; reals != NULL && i < *count; i++) {
        if (contents[i].kind == KLN_DIM_REAL) {
            reals[i] = contents[i].of.real;
        } else if (contents[i].kind == KLN_DIM_NUMBER) {
            reals[i] = (double)contents[i].of.number;
        } else {
            return NULL;
        }
    }
    return reals;
}

/* The axes that are resized: all, or those of the attribute. */
static size_t *resized_axes(kln_rule *rule, size_t *count)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t *given = kln_rule_ints(rule, "axes", count);
    *count = given != NULL ? *count : rank;
    size_t *axes = kln_rule_alloc(rule, *count, sizeof *axes);
    for (size_t i = 0; axes != NULL && i < *count; i++) {
        axes[i] = i;
        if (given != NULL && !kln_rule_axis(rule, given[i], rank, &axes[i])) {
            return NULL;
        }
        for (size_t k = 0; k < i; k++) {
            if (axes[k] == axes[i]) {
                kln_rule_fault(rule, KILN_ISSUE_VALUE, "axes", "each axis once", "one twice",
                               "axis %zu is named twice", axes[i]);
                return NULL;
            }
        }
    }
    return axes;
}

static bool count_fits(kln_rule *rule, const char *what, size_t count, size_t needed)
{
    if (count == needed) {
        return true;
    }
    kln_rule_fault(rule, KILN_ISSUE_VALUE, what, "one for each dimension", "another number",
                   "%zu %s are given for %zu dimensions", count, what, needed);
    return false;
}

/* What is not resized stays, also when the sizes are not known. */
static void resize_unknown(kln_rule *rule, const size_t *axes, size_t count)
{
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    for (size_t i = 0; dims != NULL && i < count; i++) {
        dims[axes[i]] = KLN_UNKNOWN_DIM;
    }
}

/* Sizes as they stand, or made so that the proportions stay. */
static void resize_to(kln_rule *rule, const kln_dim *sizes, size_t count, const size_t *axes)
{
    const char *policy = kln_rule_string(rule, "keep_aspect_ratio_policy", "stretch");
    const bool larger = strcmp(policy, "not_smaller") == 0;
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (dims == NULL) {
        return;
    }
    for (size_t i = 0; i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    for (size_t i = 0; i < count; i++) {
        if (kln_rule_is(dims[axes[i]], 0) && sizes[i].kind == KLN_DIM_NUMBER &&
            sizes[i].of.number > 0) {
            kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 1", "0",
                           "dimension %zu of \"%.100s\" is 0, from which none of %lld can be made",
                           axes[i], rule->node->inputs[0], (long long)sizes[i].of.number);
            return;
        }
    }
    if (strcmp(policy, "stretch") == 0) {
        for (size_t i = 0; i < count; i++) {
            const bool usable = sizes[i].kind != KLN_DIM_REAL &&
                                (sizes[i].kind != KLN_DIM_NUMBER || sizes[i].of.number >= 0);
            dims[axes[i]] = usable ? sizes[i] : KLN_UNKNOWN_DIM;
        }
        return;
    }
    float scale = larger ? 0.0F : INFINITY;
    for (size_t i = 0; i < count; i++) {
        if (sizes[i].kind != KLN_DIM_NUMBER || dims[axes[i]].kind != KLN_DIM_NUMBER) {
            scale = NAN;
            break;
        }
        const float each = (float)sizes[i].of.number / (float)dims[axes[i]].of.number;
        scale = larger ? fmaxf(scale, each) : fminf(scale, each);
    }
    for (size_t i = 0; i < count; i++) {
        const kln_dim in = dims[axes[i]];
        const float to = in.kind == KLN_DIM_NUMBER ? roundf((float)in.of.number * scale) : NAN;
        dims[axes[i]] = to >= 0.0F && to < 9e15F ? KLN_DIM_OF_NUMBER((int64_t)to) : KLN_UNKNOWN_DIM;
    }
}

/* One of scales and sizes, one number for each axis; the other may be there without elements. */
static bool check_resized(kln_rule *rule, size_t axis_count)
{
    const kln_dim scales = kln_rule_has(rule, 2) ? kln_rule_dim(rule, 2, 0) : KLN_DIM_OF_NUMBER(0);
    const kln_dim sizes = kln_rule_dim(rule, 3, 0);
    if (!kln_rule_need_rank(rule, 2, 1, 1) || !kln_rule_need_rank(rule, 3, 1, 1)) {
        return false;
    }
    if (kln_rule_has(rule, 3) && sizes.kind == KLN_DIM_NUMBER && scales.kind == KLN_DIM_NUMBER &&
        (sizes.of.number > 0) == (scales.of.number > 0)) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "sizes", "sizes or scales",
                       sizes.of.number > 0 ? "both" : "neither",
                       "%s sizes and scales are given; one of them is needed",
                       sizes.of.number > 0 ? "both" : "neither");
        return false;
    }
    return !kln_rule_has(rule, 3) || sizes.kind != KLN_DIM_NUMBER || sizes.of.number == 0 ||
           count_fits(rule, "sizes", (size_t)sizes.of.number, axis_count);
}

void kln_rule_resize(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    size_t axis_count = 0;
    const size_t *axes = resized_axes(rule, &axis_count);
    const size_t scales_input = rule->since < 11 ? 1 : 2;
    size_t count = 0;
    if (axes == NULL || (rule->since >= 11 && !check_resized(rule, axis_count))) {
        return;
    }
    if (rule->since >= 11 && kln_rule_has(rule, 3)) {
        const kln_dim *sizes = kln_rule_contents(rule, 3, &count);
        if (sizes != NULL && count_fits(rule, "sizes", count, axis_count)) {
            resize_to(rule, sizes, count, axes);
        } else if (sizes == NULL) {
            resize_unknown(rule, axes, axis_count);
        }
        return;
    }
    const double *scales = reals_of(rule, scales_input, &count);
    if (scales == NULL) {
        resize_unknown(rule, axes, axis_count);
    } else if (count_fits(rule, "scales", count, axis_count)) {
        scale_all(rule, scales, count, axes);
    }
}

void kln_rule_upsample(kln_rule *rule)
{
    size_t count = 0;
    size_t axis_count = 0;
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t *axes = resized_axes(rule, &axis_count);
    double *scales = NULL;
    if (rule->since >= 9) {
        scales = reals_of(rule, 1, &count);
    } else if (rule->since >= 7) {
        const kln_onnx_attribute *attribute = kln_rule_attribute(rule, "scales");
        if (attribute != NULL && attribute->type == KLN_ONNX_ATTRIBUTE_FLOATS) {
            count = attribute->count;
            scales = kln_rule_alloc(rule, count, sizeof *scales);
            for (size_t i = 0; scales != NULL && i < count; i++) {
                scales[i] = (double)attribute->floats[i];
            }
        }
    }
    if (scales == NULL || axes == NULL) {
        (void)kln_rule_new_shape(rule, 0, kln_rule_rank(rule, 0));
    } else if (count_fits(rule, "scales", count, axis_count)) {
        scale_all(rule, scales, count, axes);
    }
}
