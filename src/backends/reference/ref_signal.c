/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

#define PI 3.14159265358979323846

/* The n-th roots of one, cosine and sine by turns. */
static kiln_status make_roots(ref_call *call, int64_t n, bool inverse, double **roots)
{
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, 2 * sizeof **roots, roots));
    for (int64_t i = 0; i < n; i++) {
        const double angle = 2.0 * PI * (double)i / (double)n;
        (*roots)[2 * i] = cos(angle);
        (*roots)[2 * i + 1] = inverse ? sin(angle) : -sin(angle);
    }
    return KILN_OK;
}

/* One transform of `n` points by the definition, from complex `in` to the first `bins` of `out`.
 * The angle is reduced in integers, so that it is as exact for a late bin as for an early one. */
static void transform(int64_t n, int64_t bins, bool inverse, const double *roots, const double *in,
                      double *out)
{
    const double scale = inverse ? 1.0 / (double)n : 1.0;
    for (int64_t k = 0; k < bins; k++) {
        double re = 0.0;
        double im = 0.0;
        int64_t turn = 0; /* k * t modulo n */
        for (int64_t t = 0; t < n; t++) {
            const double c = roots[2 * turn];
            const double s = roots[2 * turn + 1];
            turn += k;
            turn -= turn >= n ? n : 0;
            re += in[2 * t] * c - in[2 * t + 1] * s;
            im += in[2 * t] * s + in[2 * t + 1] * c;
        }
        out[2 * k] = re * scale;
        out[2 * k + 1] = im * scale;
    }
}

typedef struct fourier {
    const ref_tensor *x;
    int axis;
    int64_t n;     /* points */
    int64_t bins;  /* that come out */
    int64_t parts; /* 1: real input, 2: complex */
    int64_t wide;  /* numbers an output has: 2, or 1 for the inverse of a one-sided spectrum */
    bool inverse;
    bool onesided;
} fourier;

static kiln_status read_fourier(const ref_call *call, fourier *f)
{
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &f->x));
    const ref_tensor *length = ref_input(call, 1);
    const ref_tensor *axis = ref_input(call, 2);
    const int64_t usual = call->node->version < 20 ? 1 : -2;
    f->parts = f->x->rank > 1 ? f->x->dims[f->x->rank - 1] : 0;
    KLN_RETURN_IF(f->parts != 1 && f->parts != 2, KILN_ERROR_SHAPE,
                  "the last dimension must be 1 (real) or 2 (complex)");
    KLN_RETURN_IF_ERROR(ref_axis(call,
                                 axis != NULL && axis->count > 0
                                     ? ref_get_int(axis, 0)
                                     : ref_attribute_int(call, "axis", usual),
                                 f->x->rank, &f->axis));
    f->inverse = ref_attribute_int(call, "inverse", 0) != 0;
    f->onesided = ref_attribute_int(call, "onesided", 0) != 0;
    f->n = f->inverse && f->onesided ? 2 * (f->x->dims[f->axis] - 1) : f->x->dims[f->axis];
    /* Of one bin nothing comes out, unless a length is given. */
    const bool may_be_empty = f->inverse && f->onesided && (length == NULL || length->count == 0);
    if (length != NULL && length->count > 0) {
        f->n = ref_get_int(length, 0);
    }
    KLN_RETURN_IF(
        f->n < (may_be_empty ? 0 : 1) || f->n > (INT64_C(1) << 31) || f->axis == f->x->rank - 1,
        KILN_ERROR_SHAPE, "a transform of %lld points along axis %d", (long long)f->n, f->axis);
    f->bins = f->onesided && !f->inverse ? f->n / 2 + 1 : f->n;
    f->wide = f->onesided && f->inverse ? 1 : 2;
    return KILN_OK;
}

/* The points of one row: cut or filled with zeros to n; a one-sided spectrum is mirrored. */
static void load_points(const fourier *f, int64_t start, int64_t step, double *in)
{
    const int64_t have = f->x->dims[f->axis];
    memset(in, 0, (size_t)f->n * 2 * sizeof *in);
    for (int64_t i = 0; i < f->n; i++) {
        const bool mirrored = f->inverse && f->onesided && i > f->n / 2;
        const int64_t at = mirrored ? f->n - i : i;
        if (at >= have) {
            continue;
        }
        ref_load_float(f->x, start + at * step, 1, f->parts, in + 2 * i);
        in[2 * i + 1] *= mirrored ? -1.0 : 1.0;
    }
}

static kiln_status ref_op_dft(ref_call *call)
{
    fourier f = {0};
    ref_tensor *y = NULL;
    double *in = NULL;
    double *out = NULL;
    KLN_RETURN_IF_ERROR(read_fourier(call, &f));
    int64_t dims[REF_RANK];
    memcpy(dims, f.x->dims, sizeof dims);
    dims[f.axis] = f.bins;
    dims[f.x->rank - 1] = f.wide;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, f.x->dtype, f.x->rank, dims, &y));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)f.n, 2 * sizeof *in, &in));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)f.n, 2 * sizeof *out, &out));
    const int64_t inner = ref_product(dims, f.axis + 1, f.x->rank - 1);
    const int64_t outer = ref_product(dims, 0, f.axis);
    double *roots = NULL;
    KLN_RETURN_IF_ERROR(make_roots(call, f.n, f.inverse, &roots));
    KLN_RETURN_IF_ERROR(
        ref_spend(call, (double)outer * (double)inner * (double)f.n * (double)f.bins));
    for (int64_t i = 0; i < outer * inner; i++) {
        const int64_t from = (i / inner * f.x->dims[f.axis] * inner + i % inner) * f.parts;
        const int64_t to = (i / inner * f.bins * inner + i % inner) * f.wide;
        load_points(&f, from, inner * f.parts, in);
        transform(f.n, f.bins, f.inverse, roots, in, out);
        for (int64_t k = 0; k < f.bins; k++) {
            ref_store_float(y, to + k * inner * f.wide, 1, f.wide, out + 2 * k);
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_stft(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *hop = ref_input(call, 1);
    const ref_tensor *window = ref_input(call, 2);
    const ref_tensor *length = ref_input(call, 3);
    ref_tensor *y = NULL;
    double *in = NULL;
    double *out = NULL;
    const int64_t step = hop->count > 0 ? ref_get_int(hop, 0) : 0;
    const int64_t n = length != NULL && length->count > 0 ? ref_get_int(length, 0)
                      : window != NULL                    ? window->count
                                                          : 0;
    const int64_t parts = x->rank == 3 ? x->dims[2] : x->rank == 2 ? 1 : 0;
    KLN_RETURN_IF(
        step <= 0 || n <= 0 || parts < 1 || parts > 2 || x->dims[1] < n ||
            (window != NULL && window->count > n),
        KILN_ERROR_SHAPE,
        "frames of %lld, %lld apart: both must be above 0, and a frame no longer than the "
        "signal, no shorter than the window",
        (long long)n, (long long)step);
    const bool onesided = ref_attribute_int(call, "onesided", 1) != 0;
    const int64_t dims[4] = {x->dims[0], (x->dims[1] - n) / step + 1, onesided ? n / 2 + 1 : n, 2};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, 4, dims, &y));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, 2 * sizeof *in, &in));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, 2 * sizeof *out, &out));
    double *roots = NULL;
    KLN_RETURN_IF_ERROR(make_roots(call, n, false, &roots));
    KLN_RETURN_IF_ERROR(
        ref_spend(call, (double)dims[0] * (double)dims[1] * (double)n * (double)dims[2]));
    /* A window that is shorter than a frame stands in its middle. */
    const int64_t lead = window != NULL ? (n - window->count) / 2 : 0;
    for (int64_t i = 0; i < dims[0] * dims[1]; i++) {
        const int64_t from = i / dims[1] * x->dims[1] + i % dims[1] * step;
        memset(in, 0, (size_t)n * 2 * sizeof *in);
        for (int64_t t = 0; t < n; t++) {
            const bool inside = window == NULL || (t >= lead && t < lead + window->count);
            const double weight = window == NULL ? 1.0
                                  : inside       ? ref_get_float(window, t - lead)
                                                 : 0.0;
            ref_load_float(x, (from + t) * parts, 1, parts, in + 2 * t);
            for (int64_t part = 0; part < parts; part++) {
                in[2 * t + part] *= weight;
            }
        }
        transform(n, dims[2], false, roots, in, out);
        ref_store_float(y, i * dims[2] * 2, 1, dims[2] * 2, out);
    }
    return KILN_OK;
}

static kiln_dtype output_type(const ref_call *call)
{
    const int64_t wanted = ref_attribute_int(call, "output_datatype", 1);
    return wanted > 0 && wanted < 1000 ? kln_onnx_dtype((int32_t)wanted) : KILN_DTYPE_UNDEFINED;
}

/* The symmetric window of one element divides by 0 and is no number, as the operator is defined. */
static double window_value(ref_window kind, double angle)
{
    switch (kind) {
        case REF_WINDOW_HANN: return 0.5 - 0.5 * cos(angle);
        case REF_WINDOW_HAMMING: return 25.0 / 46.0 - 21.0 / 46.0 * cos(angle);
        case REF_WINDOW_BLACKMAN: break;
    }
    return 0.42 - 0.5 * cos(angle) + 0.08 * cos(2.0 * angle);
}

static kiln_status ref_op_window(ref_call *call)
{
    const ref_tensor *size = ref_input(call, 0);
    ref_tensor *y = NULL;
    const kiln_dtype dtype = output_type(call);
    const int64_t dims[1] = {size->count > 0 ? ref_get_int(size, 0) : -1};
    KLN_FAIL_IF(ref_domain_of(dtype) == REF_DOMAIN_NONE, ref_fail_dtype(call, dtype));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, 1, dims, &y));
    const bool periodic = ref_attribute_int(call, "periodic", 1) != 0;
    const double n = (double)(periodic ? dims[0] : dims[0] - 1);
    const bool whole = ref_domain_of(dtype) != REF_DOMAIN_FLOAT;
    for (int64_t i = 0; i < y->count; i++) {
        const double value = window_value((ref_window)call->variant, 2.0 * PI * (double)i / n);
        /* In single precision, as the operator is defined, the middle of a window is 1 exactly. */
        ref_put_float(y, i, whole ? (double)(float)value : value);
    }
    return KILN_OK;
}

/* The spectrogram bin that edge `i` of the mel bands lies in. */
static int64_t mel_bin(int64_t i, double low, double step, int64_t dft_length, double rate)
{
    const double hertz = 700.0 * (pow(10.0, ((double)i * step + low) / 2595.0) - 1.0);
    return ref_to_int(floor((double)(dft_length + 1) * hertz / rate));
}

static void mel_band(ref_tensor *y, int64_t band, const int64_t edge[3])
{
    const int64_t bands = y->dims[1];
    for (int64_t j = 0; j < y->dims[0]; j++) {
        double weight = 0.0;
        if (j >= edge[1] && j < edge[2]) {
            weight = (double)(edge[2] - j) / (double)(edge[2] - edge[1]);
        } else if (j >= edge[0] && j <= edge[1]) {
            weight = edge[1] == edge[0] ? 1.0 : (double)(j - edge[0]) / (double)(edge[1] - edge[0]);
        }
        ref_put_float(y, j * bands + band, weight);
    }
}

static kiln_status ref_op_mel(ref_call *call)
{
    double v[5];
    ref_tensor *y = NULL;
    for (size_t i = 0; i < 5; i++) {
        const ref_tensor *tensor = NULL;
        KLN_RETURN_IF_ERROR(ref_need_number(call, i, &tensor));
        KLN_RETURN_IF(tensor->count != 1, KILN_ERROR_SHAPE, "input %zu must be one number", i);
        v[i] = ref_get_float(tensor, 0);
    }
    const kiln_dtype dtype = output_type(call);
    KLN_RETURN_IF(ref_domain_of(dtype) == REF_DOMAIN_NONE || !(v[1] >= 0.0 && v[1] < 1e9) ||
                      !(v[2] > 0.0) || !(v[0] >= 0.0 && v[0] < 1e9) ||
                      !(v[3] >= 0.0 && v[4] >= v[3] && v[4] < 1e12),
                  KILN_ERROR_INVALID_NETWORK, "these numbers describe no filter bank");
    const int64_t length = (int64_t)v[1];
    const int64_t dims[2] = {length / 2 + 1, (int64_t)v[0]};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, 2, dims, &y));
    const double low = 2595.0 * log10(1.0 + v[3] / 700.0);
    const double step = (2595.0 * log10(1.0 + v[4] / 700.0) - low) / (double)(dims[1] + 2);
    for (int64_t i = 0; i < dims[1]; i++) {
        int64_t edge[3];
        for (int64_t j = 0; j < 3; j++) {
            edge[j] = mel_bin(i + j, low, step, length, v[2]);
        }
        mel_band(y, i, edge);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_signal[] = {
    REF_OP("DFT", 17, dft, 0),
    REF_OP("STFT", 17, stft, 0, "fn"),
    REF_OP("MelWeightMatrix", 17, mel, 0),
    REF_OP("HannWindow", 17, window, REF_WINDOW_HANN, "n"),
    REF_OP("HammingWindow", 17, window, REF_WINDOW_HAMMING, "n"),
    REF_OP("BlackmanWindow", 17, window, REF_WINDOW_BLACKMAN, "n"),
    REF_KERNELS_END
};
/* clang-format on */
