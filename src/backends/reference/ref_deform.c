/* DeformConv: a convolution whose sampling positions are given by a tensor of offsets.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

typedef struct deforming {
    const ref_tensor *x, *w, *offset, *mask;
    ref_window_shape window;
    int64_t groups, offset_groups;
    int64_t taps; /* elements of a kernel */
    int64_t in_size, out_size;
    double *values;  /* of x */
    double *sampled; /* [channel][tap] for one output position */
    double *weights;
} deforming;

static kiln_status check_shapes(const deforming *d, const ref_tensor *bias)
{
    const ref_tensor *x = d->x;
    const ref_tensor *w = d->w;
    const int64_t *out = d->window.output;
    const int64_t lists = d->offset_groups * d->taps;
    const bool fits = d->groups > 0 && d->offset_groups > 0 && x->dims[1] % d->groups == 0 &&
                      x->dims[1] % d->offset_groups == 0 && w->dims[0] % d->groups == 0 &&
                      w->dims[1] == x->dims[1] / d->groups && d->offset->rank == 4 &&
                      d->offset->dims[0] == x->dims[0] && d->offset->dims[1] == 2 * lists &&
                      d->offset->dims[2] == out[0] && d->offset->dims[3] == out[1] &&
                      (bias == NULL || bias->count == w->dims[0]) &&
                      (d->mask == NULL || d->mask->count == x->dims[0] * lists * out[0] * out[1]);
    return fits ? KILN_OK
                : kln_fail(KILN_ERROR_SHAPE,
                           "weights, offsets, mask or bias do not fit an input of %lld channels "
                           "and an output of %lld x %lld",
                           (long long)x->dims[1], (long long)out[0], (long long)out[1]);
}

/* Bilinear interpolation; pixels outside are 0. */
static double between(const deforming *d, const double *plane, double y, double x)
{
    const int64_t height = d->window.input[0];
    const int64_t width = d->window.input[1];
    if (!(y > -1.0 && y < (double)height && x > -1.0 && x < (double)width)) {
        return 0.0;
    }
    const int64_t top = ref_to_int(floor(y));
    const int64_t left = ref_to_int(floor(x));
    double sum = 0.0;
    for (int64_t i = 0; i < 4; i++) {
        const int64_t row = top + i / 2;
        const int64_t column = left + i % 2;
        const double weight = (1.0 - fabs(y - (double)row)) * (1.0 - fabs(x - (double)column));
        if (weight != 0.0 && row >= 0 && row < height && column >= 0 && column < width) {
            sum += weight * plane[row * width + column];
        }
    }
    return sum;
}

/* The values that each tap of each channel reads, for output position `at` of sample `n`. */
static void sample_taps(const deforming *d, int64_t n, int64_t at)
{
    const ref_window_shape *w = &d->window;
    const int64_t channels = d->x->dims[1];
    const int64_t each = channels / d->offset_groups;
    for (int64_t k = 0; k < d->offset_groups * d->taps; k++) {
        const int64_t group = k / d->taps;
        const int64_t tap = k % d->taps;
        const int64_t list = (n * d->offset_groups * d->taps + k) * d->out_size + at;
        const int64_t pair = (n * d->offset_groups * d->taps + k) * 2 * d->out_size + at;
        const int64_t row =
            at / w->output[1] * w->stride[0] - w->begin[0] + tap / w->kernel[1] * w->dilation[0];
        const int64_t column =
            at % w->output[1] * w->stride[1] - w->begin[1] + tap % w->kernel[1] * w->dilation[1];
        const double y = (double)row + ref_get_float(d->offset, pair);
        const double x = (double)column + ref_get_float(d->offset, pair + d->out_size);
        const double weight = d->mask != NULL ? ref_get_float(d->mask, list) : 1.0;
        for (int64_t c = group * each; c < (group + 1) * each; c++) {
            const double *plane = d->values + (n * channels + c) * d->in_size;
            d->sampled[c * d->taps + tap] = weight * between(d, plane, y, x);
        }
    }
}

static kiln_status read_deforming(ref_call *call, deforming *d)
{
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &d->x));
    KLN_RETURN_IF_ERROR(ref_need_float(call, 1, &d->w));
    KLN_RETURN_IF_ERROR(ref_need_float(call, 2, &d->offset));
    d->mask = ref_input(call, 4);
    KLN_RETURN_IF(d->x->rank != 4 || d->w->rank != 4, KILN_ERROR_UNSUPPORTED,
                  "two spatial dimensions are computed here; the input has %d dimensions, "
                  "the weights %d",
                  d->x->rank, d->w->rank);
    KLN_RETURN_IF_ERROR(ref_window_read(call, d->x, d->w->dims + 2, &d->window));
    d->groups = ref_attribute_int(call, "group", 1);
    d->offset_groups = ref_attribute_int(call, "offset_group", 1);
    KLN_RETURN_IF_ERROR(ref_count(2, d->window.kernel, &d->taps));
    KLN_RETURN_IF_ERROR(ref_count(2, d->window.input, &d->in_size));
    KLN_RETURN_IF_ERROR(ref_count(2, d->window.output, &d->out_size));
    KLN_RETURN_IF(d->offset_groups > d->x->dims[1], KILN_ERROR_SHAPE,
                  "%lld groups of offsets for %lld channels", (long long)d->offset_groups,
                  (long long)d->x->dims[1]);
    return check_shapes(d, ref_input(call, 3));
}

static kiln_status ref_op_deform_conv(ref_call *call)
{
    deforming d = {.groups = 1};
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(read_deforming(call, &d));
    const ref_tensor *bias = ref_input(call, 3);
    const int64_t maps = d.w->dims[0];
    const int64_t inner = d.w->dims[1] * d.taps;
    const int64_t dims[4] = {d.x->dims[0], maps, d.window.output[0], d.window.output[1]};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, d.x->dtype, 4, dims, &y));
    KLN_RETURN_IF_ERROR(ref_spend(
        call, (double)d.x->dims[0] * (double)d.out_size *
                  (4.0 * (double)d.x->dims[1] * (double)d.taps + (double)maps * (double)inner)));
    KLN_RETURN_IF_ERROR(ref_doubles(call, d.x, &d.values));
    KLN_RETURN_IF_ERROR(ref_doubles(call, d.w, &d.weights));
    KLN_RETURN_IF_ERROR(
        ref_scratch(call, (size_t)(d.x->dims[1] * d.taps), sizeof *d.sampled, &d.sampled));
    for (int64_t i = 0; maps > 0 && i < d.x->dims[0] * d.out_size; i++) {
        const int64_t n = i / d.out_size;
        const int64_t at = i % d.out_size;
        sample_taps(&d, n, at);
        for (int64_t m = 0; m < maps; m++) {
            const double *from = d.sampled + m / (maps / d.groups) * inner;
            double sum = bias != NULL ? ref_get_float(bias, m) : 0.0;
            for (int64_t k = 0; k < inner; k++) {
                sum += from[k] * d.weights[m * inner + k];
            }
            ref_put_float(y, (n * maps + m) * d.out_size + at, sum);
        }
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_deform[] = {
    REF_OP("DeformConv", 19, deform_conv, 0),
    REF_KERNELS_END
};
/* clang-format on */
