/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_fourier.h"
#include "ref_ops.h"

#define PI 3.14159265358979323846

/* Several transforms at once. */
typedef struct transform {
    int64_t n, bins; /* input and output points */
    int64_t parts;   /* numbers per bin: 2, or 1 if only the real part is wanted */
    bool inverse;
    ref_tensor *y;
    int64_t step; /* from one bin to the next in y */
    int64_t beside;
    ref_points in;
    double *row;             /* 2 n numbers, for the caller */
    double *cosines, *sines; /* of the roots of unity, for sums directly from the definition */
    bool has_roots;
    ref_fourier fast;
} transform;

/* How many rows to transform at a time: no more than there are, and one if more would fill the
 * cache. */
static int64_t rows_beside(int64_t rows, int64_t n)
{
    return rows == 1 || n >= (1 << 16) ? 1 : rows <= REF_FOURIER_ROWS / 2 ? 4 : REF_FOURIER_ROWS;
}

static kiln_status make_transform(ref_call *call, int64_t rows, transform *t)
{
    t->beside = rows_beside(rows, t->n);
    const int64_t all = t->n * t->beside;
    const int64_t fast = ref_fourier_room(t->n, t->beside);
    double *room = NULL;
    KLN_RETURN_IF_ERROR(
        ref_scratch(call, (size_t)(4 * t->n + 2 * all + fast), sizeof *room, &room));
    t->in = (ref_points){room, room + all};
    memset(t->in.re, 0, (size_t)(2 * all) * sizeof *t->in.re);
    ref_fourier_make(&t->fast, t->n, t->beside, room + 2 * all);
    t->row = room + 2 * all + fast;
    t->cosines = t->row + 2 * t->n;
    t->sines = t->row + 3 * t->n;
    return ref_spend(call, (double)rows * (double)t->fast.m * 64.0);
}

static void make_roots(transform *t)
{
    for (int64_t k = 0; k < t->n && !t->has_roots; k++) {
        const double angle = 2.0 * PI * (double)k / (double)t->n;
        t->cosines[k] = cos(angle);
        t->sines[k] = t->inverse ? sin(angle) : -sin(angle);
    }
    t->has_roots = true;
}

/* Computes one bin directly from the definition. The angle is reduced as an integer, so that late
 * bins are as exact as early ones. */
static void define_bin(const transform *t, int64_t row, int64_t k, double *re, double *im)
{
    int64_t turn = 0; /* k * i modulo n */
    *re = 0.0;
    *im = 0.0;
    for (int64_t i = 0; i < t->n; i++) {
        const double in_re = t->in.re[i * t->beside + row];
        const double in_im = t->in.im[i * t->beside + row];
        *re += in_re * t->cosines[turn] - in_im * t->sines[turn];
        *im += in_re * t->sines[turn] + in_im * t->cosines[turn];
        turn += k;
        turn -= turn >= t->n ? t->n : 0;
    }
}

/* Whether no sum of a row's numbers times roots of unity can be infinite or NaN. */
REF_WIDE static bool is_tame(const transform *t, int64_t row)
{
    bool tame = true;
    for (int64_t i = row; i < t->n * t->beside; i += t->beside) {
        tame &= fabs(t->in.re[i]) < 0x1p900 && fabs(t->in.im[i]) < 0x1p900;
    }
    return tame;
}

/* Transforms `rows` rows of t->in and stores them in y, the first bin of each at `starts`. A number
 * that is not finite would spread to all bins in the first stages, so such a row is computed
 * directly from the definition. */
static void run_transforms(transform *t, int64_t rows, const int64_t *starts)
{
    const ref_points in = t->inverse ? (ref_points){t->in.im, t->in.re} : t->in;
    const ref_points found = ref_fourier_transform(&t->fast, in);
    const ref_points out = t->inverse ? (ref_points){found.im, found.re} : found;
    const double scale = t->inverse ? 1.0 / (double)t->n : 1.0;
    const int64_t together = t->step == t->parts ? t->bins : 1; /* stored at once */
    for (int64_t row = 0; row < rows; row++) {
        const bool tame = is_tame(t, row);
        if (!tame) {
            make_roots(t);
        }
        for (int64_t k = 0; k < t->bins; k++) {
            double re = out.re[k * t->beside + row];
            double im = out.im[k * t->beside + row];
            if (!tame) {
                define_bin(t, row, k, &re, &im);
            }
            t->row[k * t->parts] = re * scale + 0.0; /* 0, not -0 */
            if (t->parts == 2) {
                t->row[k * t->parts + 1] = im * scale + 0.0;
            }
        }
        for (int64_t k = 0; k < t->bins; k += together) {
            ref_store_float(t->y, starts[row] + k * t->step, 1, together * t->parts,
                            t->row + k * t->parts);
        }
    }
}

static kiln_status read_fourier(const ref_call *call, transform *t, int *at, int64_t *parts)
{
    const ref_tensor *x = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &x));
    const ref_tensor *length = ref_input(call, 1);
    const ref_tensor *axis = ref_input(call, 2);
    const int64_t usual = call->node->version < 20 ? 1 : -2;
    *parts = x->rank > 1 ? x->dims[x->rank - 1] : 0;
    KLN_RETURN_IF(*parts != 1 && *parts != 2, KILN_ERROR_SHAPE,
                  "the last dimension must be 1 (real) or 2 (complex)");
    KLN_RETURN_IF_ERROR(
        ref_axis(call, axis != NULL ? ref_get_int(axis, 0) : ref_attribute_int(call, "axis", usual),
                 x->rank, at));
    t->inverse = ref_attribute_int(call, "inverse", 0) != 0;
    const bool onesided = ref_attribute_int(call, "onesided", 0) != 0;
    t->n = t->inverse && onesided ? 2 * (x->dims[*at] - 1) : x->dims[*at];
    /* A single bin has no output, unless a length is given. */
    const bool may_be_empty = t->inverse && onesided && length == NULL;
    if (length != NULL) {
        t->n = ref_get_int(length, 0);
    }
    KLN_RETURN_IF(t->n < (may_be_empty ? 0 : 1) || t->n > (INT64_C(1) << 31) || *at == x->rank - 1,
                  KILN_ERROR_SHAPE, "a transform of %lld points along axis %d", (long long)t->n,
                  *at);
    t->bins = onesided && !t->inverse ? t->n / 2 + 1 : t->n;
    t->parts = onesided && t->inverse ? 1 : 2;
    return KILN_OK;
}

/* Loads the points of one row, cut or padded with zeros to n; a one-sided spectrum is mirrored. */
static void load_points(transform *t, const ref_tensor *x, int64_t have, int64_t start,
                        int64_t step, int64_t parts, int64_t row)
{
    const int64_t taken = have < t->n ? have : t->n;
    const bool onesided = t->inverse && t->parts == 1;
    for (int64_t part = 0; part < parts; part++) {
        double *to = (part == 0 ? t->in.re : t->in.im) + row;
        ref_load_float(x, start + part, step, taken, t->row);
        for (int64_t i = 0; i < t->n; i++) {
            const bool mirrored = onesided && i > t->n / 2;
            const int64_t at = mirrored ? t->n - i : i;
            const double value = at < taken ? t->row[at] : 0.0;
            to[i * t->beside] = mirrored && part == 1 ? -value : value;
        }
    }
}

static kiln_status ref_op_dft(ref_call *call)
{
    transform t = {0};
    int axis = 0;
    int64_t parts = 0;
    const ref_tensor *x = ref_input(call, 0);
    KLN_RETURN_IF_ERROR(read_fourier(call, &t, &axis, &parts));
    int64_t dims[REF_RANK];
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = t.bins;
    dims[x->rank - 1] = t.parts;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &t.y));
    const int64_t inner = ref_product(dims, axis + 1, x->rank - 1);
    const int64_t rows = ref_product(dims, 0, axis) * inner;
    t.step = inner * t.parts;
    KLN_RETURN_IF_ERROR(make_transform(call, rows, &t));
    for (int64_t i = 0; i < rows && t.n > 0; i += t.beside) {
        const int64_t count = rows - i < t.beside ? rows - i : t.beside;
        int64_t starts[REF_FOURIER_ROWS];
        for (int64_t r = 0; r < count; r++) {
            const int64_t from = (i + r) / inner * x->dims[axis] * inner + (i + r) % inner;
            starts[r] = ((i + r) / inner * t.bins * inner + (i + r) % inner) * t.parts;
            load_points(&t, x, x->dims[axis], from * parts, inner * parts, parts, r);
        }
        KLN_RETURN_IF_ERROR(ref_spend(call, 0));
        run_transforms(&t, count, starts);
    }
    return KILN_OK;
}

/* Loads a window's weight for each point of a frame; a shorter window is centred. */
static void load_window(const ref_tensor *window, int64_t n, double *weights)
{
    const int64_t lead = window != NULL ? (n - window->count) / 2 : 0;
    for (int64_t i = 0; i < n; i++) {
        weights[i] = window == NULL ? 1.0 : 0.0;
    }
    if (window != NULL) {
        ref_load_float(window, 0, 1, window->count, weights + lead);
    }
}

static kiln_status ref_op_stft(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *hop = ref_input(call, 1);
    const ref_tensor *window = ref_input(call, 2);
    const ref_tensor *length = ref_input(call, 3);
    double *weights = NULL;
    const int64_t step = ref_get_int(hop, 0);
    const int64_t n = length != NULL ? ref_get_int(length, 0) : window != NULL ? window->count : 0;
    const int64_t parts = x->rank == 3 ? x->dims[2] : x->rank == 2 ? 1 : 0;
    KLN_RETURN_IF(
        step <= 0 || n <= 0 || parts < 1 || parts > 2 || x->dims[1] < n ||
            (window != NULL && window->count > n),
        KILN_ERROR_SHAPE,
        "frames of %lld, %lld apart: both must be above 0, and a frame no longer than the "
        "signal, no shorter than the window",
        (long long)n, (long long)step);
    const bool onesided = ref_attribute_int(call, "onesided", 1) != 0;
    const int64_t frames = (x->dims[1] - n) / step + 1;
    transform t = {.n = n, .bins = onesided ? n / 2 + 1 : n, .parts = 2, .step = 2};
    const int64_t dims[4] = {x->dims[0], frames, t.bins, 2};
    const int64_t rows = x->dims[0] * frames;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, 4, dims, &t.y));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *weights, &weights));
    KLN_RETURN_IF_ERROR(make_transform(call, rows, &t));
    load_window(window, n, weights);
    for (int64_t i = 0; i < rows; i += t.beside) {
        const int64_t count = rows - i < t.beside ? rows - i : t.beside;
        int64_t starts[REF_FOURIER_ROWS];
        for (int64_t r = 0; r < count; r++) {
            const int64_t from = (i + r) / frames * x->dims[1] + (i + r) % frames * step;
            starts[r] = (i + r) * t.bins * 2;
            load_points(&t, x, n, from * parts, parts, parts, r);
            for (int64_t k = 0; k < n * parts; k++) {
                (k < n ? t.in.re : t.in.im)[k % n * t.beside + r] *= weights[k % n];
            }
        }
        KLN_RETURN_IF_ERROR(ref_spend(call, 0));
        run_transforms(&t, count, starts);
    }
    return KILN_OK;
}

static kiln_dtype output_type(const ref_call *call)
{
    const int64_t wanted = ref_attribute_int(call, "output_datatype", 1);
    return wanted > 0 && wanted < 1000 ? kln_onnx_dtype((int32_t)wanted) : KILN_DTYPE_UNDEFINED;
}

/* By the operator's definition, the symmetric window of one element divides by 0 and is NaN. */
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
    const int64_t dims[1] = {ref_get_int(size, 0)};
    KLN_FAIL_IF(ref_domain_of(dtype) == REF_DOMAIN_NONE, ref_fail_dtype(call, dtype));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, 1, dims, &y));
    const bool periodic = ref_attribute_int(call, "periodic", 1) != 0;
    const double n = (double)(periodic ? dims[0] : dims[0] - 1);
    const bool whole = ref_domain_of(dtype) != REF_DOMAIN_FLOAT;
    for (int64_t i = 0; i < y->count; i++) {
        const double value = window_value((ref_window)call->variant, 2.0 * PI * (double)i / n);
        /* By the operator's definition, in single precision, the middle of a window is exactly
         * 1. */
        ref_put_float(y, i, whole ? (double)(float)value : value);
    }
    return KILN_OK;
}

/* The spectrogram bin that contains edge `i` of the mel bands. */
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
        v[i] = ref_get_float(ref_input(call, i), 0);
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
    REF_OP("DFT", 17, dft, 0, "f??"),
    REF_OP("STFT", 17, stft, 0, "f1-?"),
    REF_OP("MelWeightMatrix", 17, mel, 0, "11111"),
    REF_OP("HannWindow", 17, window, REF_WINDOW_HANN, "1"),
    REF_OP("HammingWindow", 17, window, REF_WINDOW_HAMMING, "1"),
    REF_OP("BlackmanWindow", 17, window, REF_WINDOW_BLACKMAN, "1"),
    REF_KERNELS_END
};
/* clang-format on */
