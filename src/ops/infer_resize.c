/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "infer_rules.h"

/* floor(dim * scale) in single precision, as in ONNX's own implementation. */
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
    /* Only the inverse of a power of two is exact. */
    int exponent = 0;
    if (!(frexp(inverse, &exponent) < 0.5) && !(frexp(inverse, &exponent) > 0.5) && inverse < 1e9) {
        return kln_dim_floor_divide(&rule->state->pool, dim, KLN_DIM_OF_NUMBER((int64_t)inverse));
    }
    return KLN_UNKNOWN_DIM;
}

static void scale_all(kln_rule *rule, const double *scales, size_t count, const size_t *axes)
{
    kln_dim *dims = kln_rule_shape_like(rule, 0, kln_rule_rank(rule, 0));
    for (size_t i = 0; dims != NULL && i < count; i++) {
        if (!(scales[i] > 0.0)) {
            kln_rule_fault(rule, KILN_ISSUE_VALUE, "scales", "above 0", "less",
                           "dimension %zu is scaled by %g; above 0 is needed", axes[i], scales[i]);
            return;
        }
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

/* The axes that are resized: those of the attribute, or all. */
static size_t *resized_axes(kln_rule *rule, size_t *count)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t *given = kln_rule_ints(rule, "axes", count);
    *count = given != NULL ? *count : rank;
    size_t *axes = kln_rule_alloc(rule, *count, sizeof *axes);
    bool *seen = kln_rule_alloc(rule, rank, sizeof *seen);
    if (axes == NULL || seen == NULL ||
        (given != NULL && !kln_mark_axes(rule, given, *count, rank, seen))) {
        return NULL;
    }
    for (size_t i = 0; i < *count; i++) {
        axes[i] = given == NULL ? i : (size_t)(given[i] < 0 ? given[i] + (int64_t)rank : given[i]);
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

/* Dimensions that are not resized stay known, even if the sizes are not. */
static void resize_unknown(kln_rule *rule, const size_t *axes, size_t count)
{
    kln_dim *dims = kln_rule_shape_like(rule, 0, kln_rule_rank(rule, 0));
    for (size_t i = 0; dims != NULL && i < count; i++) {
        dims[axes[i]] = KLN_UNKNOWN_DIM;
    }
}

/* Uses the sizes as given, or adapts them to keep the aspect ratio. */
static void resize_to(kln_rule *rule, const kln_dim *sizes, size_t count, const size_t *axes)
{
    const char *policy = kln_rule_string(rule, "keep_aspect_ratio_policy", "stretch");
    const bool larger = strcmp(policy, "not_smaller") == 0;
    kln_dim *dims = kln_rule_shape_like(rule, 0, kln_rule_rank(rule, 0));
    if (dims == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (sizes[i].kind == KLN_DIM_NUMBER &&
            (sizes[i].of.number < 0 || (sizes[i].of.number > 0 && kln_rule_is(dims[axes[i]], 0)))) {
            const char *size = KLN_DIM_PRINTED(sizes[i]);
            kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 1", "0",
                           "dimension %zu of \"%.100s\" is %s, which cannot become %s", axes[i],
                           rule->node->inputs[0], KLN_DIM_PRINTED(dims[axes[i]]), size);
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

/* Either scales or sizes are given, with one number per axis; the other may be present but
 * empty. */
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

static void rule_resize(kln_rule *rule)
{
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

/* Either scales or sizes are given, and a region has two numbers per axis. */
static bool fit_resize(kln_rule *rule)
{
    if (rule->since < 11) {
        return true;
    }
    if (!kln_rule_has(rule, 2) && !kln_rule_has(rule, 3)) {
        kln_rule_fault(rule, KILN_ISSUE_ARITY, "sizes", "sizes or scales", "neither",
                       "neither sizes nor scales are given; one of them is needed");
        return false;
    }
    size_t count = 0;
    (void)kln_rule_ints(rule, "axes", &count);
    count = count > 0 ? count : kln_rule_rank(rule, 0);
    const kln_dim region = kln_rule_dim(rule, 1, 0);
    if (kln_rule_ranked(rule, 0) && !kln_rule_is(kln_rule_dim(rule, 2, 0), 0) &&
        !kln_fit_dim(rule, 2, 0, KLN_DIM_OF_NUMBER((int64_t)count), "the scales and the axes")) {
        return false;
    }
    const bool crops = strcmp(kln_rule_string(rule, "coordinate_transformation_mode", "half_pixel"),
                              "tf_crop_and_resize") == 0;
    return !kln_rule_ranked(rule, 0) || (kln_rule_is(region, 0) && !crops) ||
           kln_fit_dim(rule, 1, 0, KLN_DIM_OF_NUMBER(2 * (int64_t)count),
                       "the numbers of the region and twice the axes");
}

static void rule_upsample(kln_rule *rule)
{
    size_t count = 0;
    size_t axis_count = 0;
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

static void rule_grid_sample(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_need_rank(rule, 0, 3, SIZE_MAX) || !kln_rule_need_rank(rule, 1, rank, rank)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i < 2 ? kln_rule_dim(rule, 0, i) : kln_rule_dim(rule, 1, i - 1);
    }
    if (dims != NULL) {
        dims[0] = kln_rule_unify(rule, dims[0], kln_rule_dim(rule, 1, 0), "batches");
        (void)kln_rule_unify(rule, KLN_DIM_OF_NUMBER((int64_t)rank - 2),
                             kln_rule_dim(rule, 1, rank - 1),
                             "the spatial dimensions and the numbers of a place in the grid");
    }
}

/* The dimensions of input 0 from `first` on are not empty. */
static bool fit_from(kln_rule *rule, size_t first)
{
    for (size_t i = first; i < kln_rule_rank(rule, 0); i++) {
        if (!kln_fit_not_empty(rule, 0, i)) {
            return false;
        }
    }
    return true;
}

static bool fit_grid_sample(kln_rule *rule)
{
    return fit_from(rule, 2);
}

static void rule_affine_grid(kln_rule *rule)
{
    size_t count = 0;
    const kln_dim *size = kln_rule_contents(rule, 1, &count);
    const kln_dim length = kln_rule_dim(rule, 1, 0);
    if (size == NULL && length.kind == KLN_DIM_NUMBER) {
        count = (size_t)length.of.number;
    }
    if (count != 4 && count != 5) {
        if (size != NULL || length.kind == KLN_DIM_NUMBER) {
            const char *found = KLN_PRINTED("%zu", count);
            kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1], "4 or 5 numbers", found,
                           "the size has %s numbers; 4 are needed in a plane, 5 in space", found);
        }
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, count);
    if (dims == NULL) {
        return;
    }
    dims[count - 1] = KLN_DIM_OF_NUMBER((int64_t)count - 2);
    if (size != NULL) {
        dims[0] = size[0];
        for (size_t i = 2; i < count; i++) {
            dims[i - 1] = size[i];
        }
    }
}

static bool fit_affine_grid(kln_rule *rule)
{
    size_t count = 0;
    const kln_dim *sizes = kln_rule_contents(rule, 1, &count);
    const kln_dim length = kln_rule_dim(rule, 1, 0);
    if (sizes != NULL && count > 0 &&
        !kln_fit_dim(rule, 0, 0, sizes[0], "the batches of theta and of the size")) {
        return false;
    }
    if (!kln_rule_ranked(rule, 0) || length.kind != KLN_DIM_NUMBER) {
        return true;
    }
    return kln_fit_dim(rule, 0, 1, KLN_DIM_OF_NUMBER(length.of.number - 2),
                       "the rows of theta and the dimensions") &&
           kln_fit_dim(rule, 0, 2, KLN_DIM_OF_NUMBER(length.of.number - 1),
                       "the columns of theta and the dimensions");
}

static void rule_roi_align(kln_rule *rule)
{
    kln_rule_give(rule, 0,
                  kln_rule_unify(rule, kln_rule_dim(rule, 1, 0), kln_rule_dim(rule, 2, 0),
                                 "the numbers of regions"),
                  kln_rule_dim(rule, 0, 1),
                  KLN_DIM_OF_NUMBER(kln_rule_int(rule, "output_height", 1)),
                  KLN_DIM_OF_NUMBER(kln_rule_int(rule, "output_width", 1)));
}

static bool fit_roi_align(kln_rule *rule)
{
    return fit_from(rule, 0);
}

const kln_op_rule kln_rules_resize[] = {
    OP("AffineGrid", rule_affine_grid, .form = "20: n__ _", .fit = fit_affine_grid),
    OP("GridSample", rule_grid_sample, .form = "16: -", .fit = fit_grid_sample),
    OP("Resize", rule_resize, .ranked = true, .form = "11: - _ _ _", .fit = fit_resize),
    OP("RoiAlign", rule_roi_align, .form = "10: ____ n4 n", .fit = fit_roi_align),
    OP("Upsample", rule_upsample, .ranked = true),
    OP_END};
