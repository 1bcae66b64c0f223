/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_conv.h"
#include "ref_product.h"

#define BLOCK 4

static bool is_trivial(const ref_window_shape *w, int i)
{
    return w->input[i] == 1 && w->output[i] == 1 && w->kernel[i] == 1 && w->begin[i] == 0;
}

static geometry make_geometry(const ref_window_shape *w)
{
    geometry g;
    int rank = w->rank;
    while (rank > 1 && is_trivial(w, rank - 1)) {
        rank--;
    }
    for (int i = 0; i < 3; i++) {
        const int j = i - (3 - rank);
        g.in[i] = j < 0 ? 1 : w->input[j];
        g.out[i] = j < 0 ? 1 : w->output[j];
        g.kernel[i] = j < 0 ? 1 : w->kernel[j];
        g.stride[i] = j < 0 ? 1 : w->stride[j];
        g.dilation[i] = j < 0 ? 1 : w->dilation[j];
        g.begin[i] = j < 0 ? 0 : w->begin[j];
    }
    return g;
}

static bool is_pointwise(const geometry *g)
{
    for (int i = 0; i < 3; i++) {
        if (g->kernel[i] != 1 || g->stride[i] != 1 || g->begin[i] != 0 || g->out[i] != g->in[i]) {
            return false;
        }
    }
    return true;
}

/* The outputs of a row for which kernel column `k` is inside the input. */
static void columns_inside(const geometry *g, int64_t k, int64_t *first, int64_t *end)
{
    const int64_t shift = k * g->dilation[2] - g->begin[2];
    *first = shift >= 0 ? 0 : (-shift + g->stride[2] - 1) / g->stride[2];
    *end = g->in[2] - shift <= 0 ? 0 : (g->in[2] - 1 - shift) / g->stride[2] + 1;
    *end = *end < g->out[2] ? *end : g->out[2];
}

#define TAPS 4

/* Adds a few neighbouring kernel columns: each output is loaded and stored once for all of them,
 * but still adds them in order. */
static void add_taps(int64_t count, int64_t stride, const double *w, const double *const *x,
                     int64_t first, int64_t end, double *restrict out)
{
    const double *a = x[0];
    const double *b = count > 1 ? x[1] : a;
    const double *c = count > 2 ? x[2] : a;
    const double *d = count > 3 ? x[3] : a;
    switch (count) {
        case 4:
            for (int64_t i = first; i < end; i++) {
                const int64_t j = i * stride;
                out[i] = out[i] + w[0] * a[j] + w[1] * b[j] + w[2] * c[j] + w[3] * d[j];
            }
            break;
        case 3:
            for (int64_t i = first; i < end; i++) {
                const int64_t j = i * stride;
                out[i] = out[i] + w[0] * a[j] + w[1] * b[j] + w[2] * c[j];
            }
            break;
        case 2:
            for (int64_t i = first; i < end; i++) {
                out[i] = out[i] + w[0] * a[i * stride] + w[1] * b[i * stride];
            }
            break;
        default:
            for (int64_t i = first; i < end; i++) {
                out[i] += w[0] * a[i * stride];
            }
            break;
    }
}

/* Outputs that all taps reach are computed together, those at the ends tap by tap. */
static void add_group(int64_t count, int64_t stride, const double *w, const double *const *x,
                      const int64_t *first, const int64_t *end, double *out)
{
    int64_t low = 0;
    int64_t high = INT64_MAX;
    for (int64_t i = 0; i < count; i++) {
        low = first[i] > low ? first[i] : low;
        high = end[i] < high ? end[i] : high;
    }
    high = high > low ? high : low;
    for (int64_t i = 0; i < count; i++) {
        add_taps(1, stride, w + i, x + i, first[i], end[i] < low ? end[i] : low, out);
        add_taps(1, stride, w + i, x + i, first[i] > high ? first[i] : high, end[i], out);
    }
    if (stride == 1) {
        add_taps(count, 1, w, x, low, high, out);
    } else {
        add_taps(count, stride, w, x, low, high, out);
    }
}

/* Adds one row of input, weighted by a row of the kernel, to `maps` rows of output. */
static void add_row(const geometry *g, int64_t maps, const double *w, int64_t w_stride,
                    const double *x, double *out, int64_t out_stride)
{
    for (int64_t k = 0; k < g->kernel[2]; k += TAPS) {
        const int64_t count = g->kernel[2] - k < TAPS ? g->kernel[2] - k : TAPS;
        const double *from[TAPS];
        int64_t first[TAPS];
        int64_t end[TAPS];
        for (int64_t i = 0; i < count; i++) {
            columns_inside(g, k + i, &first[i], &end[i]);
            from[i] = x + (k + i) * g->dilation[2] - g->begin[2];
        }
        for (int64_t m = 0; m < maps; m++) {
            add_group(count, g->stride[2], w + m * w_stride + k, from, first, end,
                      out + m * out_stride);
        }
    }
}

/* Computes `maps` output channels of one group; `out` holds the bias. */
static void convolve_block(const geometry *g, int64_t channels, int64_t maps, const double *w,
                           const double *x, double *out)
{
    const int64_t size = g->in[0] * g->in[1] * g->in[2];
    const int64_t volume = g->kernel[0] * g->kernel[1] * g->kernel[2];
    const int64_t out_size = g->out[0] * g->out[1] * g->out[2];
    for (int64_t row = 0; row < g->out[0] * g->out[1]; row++) {
        double *to = out + row * g->out[2];
        const int64_t z0 = row / g->out[1] * g->stride[0] - g->begin[0];
        const int64_t y0 = row % g->out[1] * g->stride[1] - g->begin[1];
        for (int64_t k = 0; k < channels * g->kernel[0] * g->kernel[1]; k++) {
            const int64_t c = k / (g->kernel[0] * g->kernel[1]);
            const int64_t z = z0 + k / g->kernel[1] % g->kernel[0] * g->dilation[0];
            const int64_t y = y0 + k % g->kernel[1] * g->dilation[1];
            if (z < 0 || z >= g->in[0] || y < 0 || y >= g->in[1]) {
                continue;
            }
            add_row(g, maps, w + k * g->kernel[2], channels * volume,
                    x + c * size + (z * g->in[1] + y) * g->in[2], to, out_size);
        }
    }
}

typedef struct grouping {
    int64_t batch, groups, channels, maps; /* channels and maps per group */
} grouping;

static kiln_status check_groups(const ref_call *call, const ref_tensor *x, const ref_tensor *w,
                                grouping *g)
{
    g->groups = ref_attribute_int(call, "group", 1);
    KLN_RETURN_IF(
        x->rank < 3 || x->rank > 5 || w->rank != x->rank, KILN_ERROR_UNSUPPORTED,
        "1 to 3 spatial dimensions are computed here; the input has %d dimensions, the weights %d",
        x->rank, w->rank);
    KLN_RETURN_IF(
        g->groups <= 0 || w->dims[0] % g->groups != 0 || x->dims[1] % g->groups != 0 ||
            x->dims[1] / g->groups != w->dims[1],
        KILN_ERROR_SHAPE, "%lld channels in %lld groups do not fit weights of %lld x %lld",
        (long long)x->dims[1], (long long)g->groups, (long long)w->dims[0], (long long)w->dims[1]);
    g->batch = x->dims[0];
    g->channels = w->dims[1];
    g->maps = w->dims[0] / g->groups;
    return KILN_OK;
}

static kiln_status convolve(ref_call *call, const ref_tensor *x_shape, const double *x,
                            const ref_tensor *w_shape, const double *w, const double *bias,
                            double **out, int64_t *dims)
{
    grouping group = {0};
    ref_window_shape window = {0};
    KLN_RETURN_IF_ERROR(check_groups(call, x_shape, w_shape, &group));
    KLN_RETURN_IF_ERROR(ref_window_read(call, x_shape, w_shape->dims + 2, &window));
    dims[0] = group.batch;
    dims[1] = w_shape->dims[0];
    memcpy(dims + 2, window.output, (size_t)window.rank * sizeof *dims);
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(ref_count(x_shape->rank, dims, &count));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)count, sizeof **out, out));
    const geometry g = make_geometry(&window);
    const int64_t in_size = g.in[0] * g.in[1] * g.in[2];
    const int64_t out_size = g.out[0] * g.out[1] * g.out[2];
    const int64_t volume = group.channels * g.kernel[0] * g.kernel[1] * g.kernel[2];
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)count * (double)volume));
    for (int64_t i = 0; i < count; i += out_size) {
        const double first = bias != NULL ? bias[i / out_size % dims[1]] : 0.0;
        for (int64_t k = i; k < i + out_size; k++) {
            (*out)[k] = first;
        }
    }
    ref_conv_room room = {.exact = ref_is_exact(x_shape->dtype, w_shape->dtype)};
    const bool pointwise = is_pointwise(&g);
    const bool padded =
        !pointwise && count > 0 && ref_conv_may_pad(dims[1] * volume, w, dims[1], bias);
    for (int64_t n = 0; count > 0 && n < group.batch * group.groups; n++) {
        const double *from = x + n * group.channels * in_size;
        const double *weights = w + n % group.groups * group.maps * volume;
        double *to = *out + n * group.maps * out_size;
        KLN_RETURN_IF_ERROR(ref_spend(call, 0));
        if (padded) {
            KLN_RETURN_IF_ERROR((group.maps >= REF_CONV_MAPS ? ref_conv_panels : ref_conv_rows)(
                call, &g, group.channels, group.maps, &room, weights, from, to));
            continue;
        }
        if (pointwise) {
            const ref_matrix matrix = {
                .doubles = from, .row = in_size, .column = 1, .exact = room.exact};
            ref_multiply_matrix(group.maps, group.channels, in_size, weights, group.channels,
                                &matrix, to, out_size);
            continue;
        }
        for (int64_t m = 0; m < group.maps; m += BLOCK) {
            const int64_t maps = group.maps - m < BLOCK ? group.maps - m : BLOCK;
            convolve_block(&g, group.channels, maps, weights + m * volume, from, to + m * out_size);
        }
    }
    return KILN_OK;
}

static kiln_status read_bias(ref_call *call, const ref_tensor *tensor, int64_t maps, double **bias)
{
    *bias = NULL;
    if (tensor == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(tensor->count != maps, KILN_ERROR_SHAPE,
                  "a bias of %lld elements is given for %lld channels", (long long)tensor->count,
                  (long long)maps);
    return ref_doubles(call, tensor, bias);
}

static kiln_status ref_op_conv(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *w = ref_input(call, 1);
    ref_tensor *y = NULL;
    double *xs = NULL;
    double *ws = NULL;
    double *bias = NULL;
    double *out = NULL;
    int64_t dims[REF_RANK];
    KLN_RETURN_IF_ERROR(read_bias(call, ref_input(call, 2), w->rank > 0 ? w->dims[0] : 0, &bias));
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &xs));
    KLN_RETURN_IF_ERROR(ref_doubles(call, w, &ws));
    KLN_RETURN_IF_ERROR(convolve(call, x, xs, w, ws, bias, &out, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    ref_store_float(y, 0, 1, y->count, out);
    return KILN_OK;
}

/* Values as doubles minus their zero points: a single one, or one for each index of dimension 0. */
static kiln_status centred(ref_call *call, const ref_tensor *x, const ref_tensor *zero,
                           double **values)
{
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, values));
    if (zero == NULL || x->count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF(zero->count != 1 && (x->rank == 0 || zero->count != x->dims[0]), KILN_ERROR_SHAPE,
                  "%lld zero points are given for %lld rows", (long long)zero->count,
                  (long long)(x->rank > 0 ? x->dims[0] : 1));
    const int64_t row = zero->count == 1 ? x->count : x->count / x->dims[0];
    for (int64_t i = 0; i < x->count; i += row) {
        const double less = ref_get_float(zero, i / row);
        for (int64_t k = i; k < i + row; k++) {
            (*values)[k] -= less;
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_conv_integer(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *w = ref_input(call, 1);
    ref_tensor *y = NULL;
    double *xs = NULL;
    double *ws = NULL;
    double *out = NULL;
    int64_t dims[REF_RANK];
    KLN_RETURN_IF_ERROR(centred(call, x, ref_input(call, 2), &xs));
    KLN_RETURN_IF_ERROR(centred(call, w, ref_input(call, 3), &ws));
    KLN_RETURN_IF_ERROR(convolve(call, x, xs, w, ws, NULL, &out, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT32, x->rank, dims, &y));
    ref_store_float(y, 0, 1, y->count, out);
    return KILN_OK;
}

static kiln_status ref_op_qlinear_conv(ref_call *call)
{
    const ref_tensor *t[8];
    ref_tensor *y = NULL;
    double *xs = NULL;
    double *ws = NULL;
    double *bias = NULL;
    double *out = NULL;
    int64_t dims[REF_RANK];
    for (size_t i = 0; i < 8; i++) {
        t[i] = ref_input(call, i);
    }
    const ref_tensor *x = t[0];
    const ref_tensor *w = t[3];
    KLN_RETURN_IF_ERROR(read_bias(call, ref_input(call, 8), w->rank > 0 ? w->dims[0] : 0, &bias));
    KLN_RETURN_IF_ERROR(centred(call, x, t[2], &xs));
    KLN_RETURN_IF_ERROR(centred(call, w, t[5], &ws));
    KLN_RETURN_IF_ERROR(convolve(call, x, xs, w, ws, bias, &out, dims));
    KLN_RETURN_IF(t[4]->count != 1 && t[4]->count != w->dims[0], KILN_ERROR_SHAPE,
                  "the weights have %lld scales; one or %lld are needed", (long long)t[4]->count,
                  (long long)w->dims[0]);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, t[7]->dtype, x->rank, dims, &y));
    const double scale = ref_get_float(t[1], 0) / ref_get_float(t[6], 0);
    const double zero = ref_get_float(t[7], 0);
    const int64_t size = ref_product(dims, 2, x->rank);
    for (int64_t i = 0; i < y->count; i += size) {
        const double weight = ref_get_float(t[4], t[4]->count == 1 ? 0 : i / size % dims[1]);
        for (int64_t k = i; k < i + size; k++) {
            out[k] = out[k] * scale * weight;
        }
        ref_put_quantized(y, i, size, out + i, zero);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_conv[] = {
    REF_OP("Conv", 1, conv, 0, "ff"),
    REF_OP("ConvInteger", 10, conv_integer, 0, "nn?"),
    REF_OP("QLinearConv", 10, qlinear_conv, 0, "n11nnn11"),
    REF_KERNELS_END
};
/* clang-format on */
