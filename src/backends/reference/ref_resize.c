/* Resize and Upsample: each axis is interpolated separately.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

typedef struct resizing {
    char mode;           /* nearest, linear, cubic */
    const char *place;   /* coordinate_transformation_mode */
    const char *nearest; /* nearest_mode */
    double cubic;        /* the coefficient a */
    bool exclude_outside;
    bool antialias;
    bool ceils_down; /* "nearest" of version 10, without nearest_mode: up when shrinking */
    double extrapolation;
    double scales[REF_RANK];
    double roi[2 * REF_RANK];
    int64_t dims[REF_RANK];
} resizing;

/* The input elements along one axis that contribute to an output element. */
typedef struct taps {
    int64_t first;
    int64_t count;
    bool outside; /* the extrapolation value is used */
} taps;

/* The coordinate in an input of `length` that output `i` maps to. */
static double original(const resizing *r, int axis, int rank, int64_t i, int64_t length)
{
    const double scale = r->scales[axis];
    const double x = (double)i;
    const double out = scale * (double)length;
    const double last = (double)(length - 1);
    if (strcmp(r->place, "align_corners") == 0) {
        return out == 1.0 ? 0.0 : x * last / (out - 1.0);
    }
    if (strcmp(r->place, "asymmetric") == 0) {
        return x / scale;
    }
    if (strcmp(r->place, "tf_crop_and_resize") == 0) {
        const double begin = r->roi[axis];
        const double end = r->roi[axis + rank];
        return r->dims[axis] > 1
                   ? begin * last + x * (end - begin) * last / (double)(r->dims[axis] - 1)
                   : 0.5 * (begin + end) * last;
    }
    if (strcmp(r->place, "pytorch_half_pixel") == 0 && r->dims[axis] <= 1) {
        return 0.0; /* for every mode, as the specification says */
    }
    if (strcmp(r->place, "tf_half_pixel_for_nn") == 0) {
        return (x + 0.5) / scale;
    }
    if (strcmp(r->place, "half_pixel_symmetric") == 0) {
        const double adjustment = (double)r->dims[axis] / out;
        return (double)length / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5;
    }
    return (x + 0.5) / scale - 0.5;
}

double ref_cubic_weight(double x, double a)
{
    x = fabs(x);
    if (x <= 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    }
    return x < 2.0 ? ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a : 0.0;
}

static int64_t nearest_index(const resizing *r, double x)
{
    if (strcmp(r->nearest, "floor") == 0) {
        return (int64_t)floor(x);
    }
    if (strcmp(r->nearest, "ceil") == 0) {
        return (int64_t)ceil(x);
    }
    return (int64_t)(strcmp(r->nearest, "round_prefer_ceil") == 0 ? floor(x + 0.5) : ceil(x - 0.5));
}

/* Computes the weights of the elements around `x`; `weights` has room for most_taps(). */
static taps make_taps(const resizing *r, double scale, double x, int64_t length, double *weights)
{
    taps t = {.first = 0, .count = 1, .outside = false};
    weights[0] = 1.0;
    if (r->mode == 'n') {
        t.first = r->ceils_down && scale < 1.0 ? (int64_t)ceil(x) : nearest_index(r, x);
        return t;
    }
    const double stretch = r->antialias && scale < 1.0 ? scale : 1.0;
    const int64_t reach = r->mode == 'c' ? 2 : 1;
    const int64_t side = (int64_t)ceil((double)reach / stretch);
    double sum = 0.0;
    t.first = (int64_t)floor(x) - side + 1;
    t.count = 2 * side;
    for (int64_t i = 0; i < t.count; i++) {
        const double distance = ((double)(t.first + i) - x) * stretch;
        weights[i] =
            r->mode == 'c' ? ref_cubic_weight(distance, r->cubic) : fmax(0.0, 1.0 - fabs(distance));
        if (r->exclude_outside && (t.first + i < 0 || t.first + i >= length)) {
            weights[i] = 0.0;
        }
        sum += weights[i];
    }
    for (int64_t i = 0; sum != 0.0 && i < t.count; i++) {
        weights[i] /= sum;
    }
    return t;
}

static size_t most_taps(const resizing *r, double scale)
{
    const double stretch = r->antialias && scale < 1.0 ? scale : 1.0;
    return 2 * (size_t)ceil(2.0 / stretch) + 2;
}

/* Resizes `axis` of `in`, whose dimensions are `dims`; dims[axis] becomes the new length. */
static kiln_status resize_axis(ref_call *call, const resizing *r, int rank, int axis, int64_t *dims,
                               const double *in, double *out)
{
    const int64_t length = dims[axis];
    const int64_t outer = ref_product(dims, 0, axis);
    const int64_t inner = ref_product(dims, axis + 1, rank);
    double *weights = NULL;
    const bool crops = strcmp(r->place, "tf_crop_and_resize") == 0;
    KLN_RETURN_IF_ERROR(
        ref_scratch(call, most_taps(r, r->scales[axis]), sizeof *weights, &weights));
    KLN_RETURN_IF_ERROR(
        ref_spend(call, (double)outer * (double)r->dims[axis] * (double)(inner + 1) *
                            (double)most_taps(r, r->scales[axis])));
    for (int64_t i = 0; i < r->dims[axis]; i++) {
        const double place = original(r, axis, rank, i, length);
        const double x = fabs(place) < 1e12 ? place : 0.0; /* a roi may also make it NaN */
        const taps t = make_taps(r, r->scales[axis], x, length, weights);
        const bool outside = crops && (x < 0.0 || x > (double)(length - 1));
        for (int64_t o = 0; o < outer; o++) {
            double *to = out + (o * r->dims[axis] + i) * inner;
            for (int64_t k = 0; k < inner; k++) {
                to[k] = outside ? r->extrapolation : 0.0;
            }
            for (int64_t j = 0; !outside && j < t.count; j++) {
                int64_t at = t.first + j;
                if (weights[j] == 0.0) {
                    continue; /* skipped, because the element may be infinite */
                }
                at = at < 0 ? 0 : at >= length ? length - 1 : at;
                const double *from = in + (o * length + at) * inner;
                for (int64_t k = 0; k < inner; k++) {
                    to[k] += weights[j] * from[k];
                }
            }
        }
    }
    dims[axis] = r->dims[axis];
    call->scratch_count--;
    ref_buffer_release(&call->context->memory, call->scratch[call->scratch_count]);
    return KILN_OK;
}

/* --- reading the node --- */

static kiln_status read_numbers(const ref_call *call, size_t index, const char *name, int rank,
                                const uint32_t *order, int entries, double *values, bool *found)
{
    const ref_tensor *tensor = ref_input(call, index);
    const kln_onnx_attribute *list = name != NULL ? ref_attribute(call, name) : NULL;
    *found = (tensor != NULL && tensor->count > 0) ||
             (list != NULL && list->type == KLN_ONNX_ATTRIBUTE_FLOATS);
    if (!*found) {
        return KILN_OK;
    }
    const int64_t count = tensor != NULL ? tensor->count : (int64_t)list->count;
    KLN_RETURN_IF(count % entries != 0 || count / entries > rank ||
                      (tensor != NULL && ref_domain_of(tensor->dtype) == REF_DOMAIN_NONE),
                  KILN_ERROR_INVALID_NETWORK, "input %zu has %lld entries for %d dimensions", index,
                  (long long)count, rank);
    const int64_t each = count / entries;
    for (int64_t i = 0; i < count; i++) {
        const int64_t to = (int64_t)order[i % each] + i / each * rank;
        values[to] = tensor != NULL ? ref_get_float(tensor, i) : (double)list->floats[i];
    }
    return KILN_OK;
}

/* Reads the given axes, in order, or all axes if none are given. */
static kiln_status read_order(const ref_call *call, int rank, uint32_t order[REF_RANK],
                              size_t *count)
{
    const int64_t *axes = ref_attribute_ints(call, "axes", count);
    if (axes == NULL) {
        *count = (size_t)rank;
    }
    KLN_RETURN_IF(*count > (size_t)rank, KILN_ERROR_INVALID_NETWORK, "%zu axes of %d dimensions",
                  *count, rank);
    for (size_t i = 0; i < REF_RANK; i++) {
        int axis = (int)i;
        if (axes != NULL && i < *count) {
            KLN_RETURN_IF_ERROR(ref_axis(call, axes[i], rank, &axis));
        }
        order[i] = (uint32_t)axis;
    }
    return KILN_OK;
}

/* Computes the scales from the given sizes; all axes share one scale if the aspect ratio is to be
 * kept. */
static kiln_status scales_from_sizes(const ref_call *call, const ref_tensor *x, const double *sizes,
                                     const uint32_t *order, size_t count, resizing *r)
{
    const char *policy = ref_attribute_string(call, "keep_aspect_ratio_policy", "stretch");
    const bool larger = strcmp(policy, "not_smaller") == 0;
    double common = larger ? 0.0 : HUGE_VAL;
    for (size_t i = 0; i < count; i++) {
        const uint32_t axis = order[i];
        KLN_RETURN_IF(!(sizes[axis] >= 0.0 && sizes[axis] < 1e12), KILN_ERROR_SHAPE,
                      "dimension %u would be %g", axis, sizes[axis]);
        r->scales[axis] = sizes[axis] / (double)x->dims[axis];
        r->dims[axis] = ref_to_int(sizes[axis]);
        common = larger ? fmax(common, r->scales[axis]) : fmin(common, r->scales[axis]);
    }
    for (size_t i = 0; strcmp(policy, "stretch") != 0 && i < count; i++) {
        r->scales[order[i]] = common;
        r->dims[order[i]] = ref_to_int(floor(common * (double)x->dims[order[i]] + 0.5));
    }
    return KILN_OK;
}

static kiln_status read_sizes(const ref_call *call, const ref_tensor *x, resizing *r)
{
    uint32_t order[REF_RANK];
    size_t count = 0;
    double sizes[REF_RANK] = {0};
    bool has_roi = false;
    bool has_scales = false;
    bool has_sizes = false;
    const bool modern = call->node->version >= 11 && call->variant == 0;
    KLN_RETURN_IF_ERROR(read_order(call, x->rank, order, &count));
    for (int i = 0; i < x->rank; i++) {
        r->scales[i] = 1.0;
        r->dims[i] = x->dims[i];
        r->roi[i + x->rank] = 1.0;
    }
    if (modern) {
        KLN_RETURN_IF_ERROR(read_numbers(call, 1, NULL, x->rank, order, 2, r->roi, &has_roi));
        KLN_RETURN_IF_ERROR(read_numbers(call, 3, NULL, x->rank, order, 1, sizes, &has_sizes));
    }
    KLN_RETURN_IF_ERROR(
        read_numbers(call, modern ? 2 : 1, "scales", x->rank, order, 1, r->scales, &has_scales));
    if (has_sizes) {
        return scales_from_sizes(call, x, sizes, order, count, r);
    }
    for (int i = 0; i < x->rank; i++) {
        const double size = floor((double)x->dims[i] * r->scales[i] + 1e-9);
        KLN_RETURN_IF(!has_scales || !(r->scales[i] > 0.0) || !(size < 1e12),
                      KILN_ERROR_INVALID_NETWORK, "dimension %d has no usable scale", i);
        r->dims[i] = (int64_t)size;
    }
    return KILN_OK;
}

static void read_mode(const ref_call *call, resizing *r)
{
    const bool old = call->node->version < 11 || call->variant != 0;
    r->mode = ref_attribute_string(call, "mode", "nearest")[0];
    r->place = old ? "asymmetric"
                   : ref_attribute_string(call, "coordinate_transformation_mode", "half_pixel");
    r->nearest = old ? "floor" : ref_attribute_string(call, "nearest_mode", "round_prefer_floor");
    r->ceils_down = old && call->variant == 0;
    r->cubic = ref_attribute_float(call, "cubic_coeff_a", -0.75);
    r->exclude_outside = ref_attribute_int(call, "exclude_outside", 0) != 0;
    r->antialias = ref_attribute_int(call, "antialias", 0) != 0;
    r->extrapolation = ref_attribute_float(call, "extrapolation_value", 0.0);
    r->mode = r->mode == 'b' ? 'l' : r->mode; /* "bilinear" before version 9 */
}

/* Whether an axis keeps its length and its elements, whatever coordinates the mode would
 * compute. */
static bool keeps(const resizing *r, int axis, int rank, int64_t length)
{
    const bool crops = strcmp(r->place, "tf_crop_and_resize") == 0;
    return length == r->dims[axis] && r->scales[axis] == 1.0 &&
           !(crops && (r->roi[axis] != 0.0 || r->roi[axis + rank] != 1.0));
}

/* Lists the input position of each output element along one axis, or -1 if it is outside. */
static void list_places(const resizing *r, const ref_tensor *x, int axis, int64_t step,
                        int64_t *places)
{
    const int64_t length = x->dims[axis];
    const bool crops = strcmp(r->place, "tf_crop_and_resize") == 0;
    const bool kept = keeps(r, axis, x->rank, length);
    for (int64_t i = 0; i < r->dims[axis]; i++) {
        double weight = 0.0;
        const double place = original(r, axis, x->rank, i, length);
        const double near = fabs(place) < 1e12 ? place : 0.0; /* also replaces NaN */
        const bool outside = crops && (near < 0.0 || near > (double)(length - 1));
        const int64_t at =
            kept ? i
                 : ref_clamp_int(make_taps(r, r->scales[axis], near, length, &weight).first, 0,
                                 length - 1);
        places[i] = !kept && outside ? -1 : at * step;
    }
}

/* Computes a row of the output from the input row `from`, which is NULL if it is outside the
 * input. */
static void take_row(const resizing *r, const int64_t *places, int64_t length, bool cut,
                     const char *from, int64_t to, ref_tensor *y)
{
    const size_t size = ref_element_size(y->dtype);
    char *row = (char *)y->data + (size_t)to * size;
    if (from != NULL && !cut) {
        ref_take_elements(size, length, row, from, places);
        return;
    }
    for (int64_t k = 0; k < length; k++) {
        if (from == NULL || places[k] < 0) {
            ref_put_float(y, to + k, r->extrapolation);
        } else {
            memcpy(row + (size_t)k * size, from + (size_t)places[k] * size, size);
        }
    }
}

/* Copies elements unchanged, so that integers keep all their digits. */
static kiln_status take_nearest(ref_call *call, const resizing *r, const ref_tensor *x,
                                ref_tensor *y)
{
    int64_t steps[REF_RANK];
    int64_t at[REF_RANK] = {0};
    int64_t *places[REF_RANK] = {NULL};
    const int64_t zero = 0;
    const size_t size = ref_element_size(x->dtype);
    const int last = x->rank - 1;
    const int64_t length = x->rank > 0 ? r->dims[last] : 1;
    bool cut = false; /* whether positions along the last axis are outside the input */
    ref_dense_strides(x->rank, x->dims, steps);
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)y->count * (double)(x->rank + 1)));
    for (int i = 0; i < x->rank; i++) {
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)r->dims[i], sizeof *places[i], &places[i]));
        list_places(r, x, i, steps[i], places[i]);
        for (int64_t k = 0; i == last && k < length; k++) {
            cut = cut || places[i][k] < 0;
        }
    }
    const char *before = NULL; /* the input row that the previous output row came from */
    for (int64_t to = 0; to < y->count; to += length) {
        const char *from = x->data;
        for (int i = 0; i < last; i++) {
            const int64_t place = places[i][at[i]];
            from = from == NULL || place < 0 ? NULL : from + (size_t)place * size;
        }
        if (from != NULL && from == before) {
            char *row = (char *)y->data + (size_t)to * size;
            memcpy(row, row - (size_t)length * size, (size_t)length * size);
        } else {
            take_row(r, last >= 0 ? places[last] : &zero, length, cut, from, to, y);
        }
        before = from;
        for (int i = last - 1; i >= 0 && ++at[i] == r->dims[i]; i--) {
            at[i] = 0;
        }
    }
    return KILN_OK;
}

/* Resize, and Upsample as variant 1. */
static kiln_status ref_op_resize(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    resizing r = {0};
    int64_t dims[REF_RANK];
    read_mode(call, &r);
    KLN_RETURN_IF_ERROR(read_sizes(call, x, &r));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, r.dims, &y));
    if (y->count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF(x->count == 0, KILN_ERROR_SHAPE, "an empty tensor cannot be enlarged");
    if (r.mode == 'n') {
        return take_nearest(call, &r, x, y);
    }
    double *values = NULL;
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &values));
    memcpy(dims, x->dims, sizeof dims);
    for (int i = x->rank - 1; i >= 0; i--) {
        if (keeps(&r, i, x->rank, dims[i])) {
            continue;
        }
        double *next = NULL;
        const int64_t others = ref_product(dims, 0, i) * ref_product(dims, i + 1, x->rank);
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(others * r.dims[i]), sizeof *next, &next));
        KLN_RETURN_IF_ERROR(resize_axis(call, &r, x->rank, i, dims, values, next));
        values = next;
    }
    ref_store_float(y, 0, 1, y->count, values);
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_resize[] = {
    REF_OP("Resize", 10, resize, 0, "n"),
    REF_OP("Upsample", 7, resize, 1, "n"),
    REF_KERNELS_END
};
/* clang-format on */
