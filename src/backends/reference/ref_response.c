/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* The neighbouring channels that are summed, `first` to `end` - 1 relative to the element's own,
 * and the parameters. */
typedef struct local_response {
    int64_t first, end, channel; /* elements from one channel to the next */
    double alpha, beta, bias;
} local_response;

/* Raises to the usual power for floats, within DOUBT of what pow returns. Returns true if every
 * quotient rounds to the same float either way. */
#define DOUBT 0x1p-46

REF_WIDE static bool normalize_by_roots(const local_response *how, const float *x, int64_t n,
                                        float *y)
{
    double sums[REF_CHUNK] = {0};
    int32_t unsure = 0;
    for (int64_t k = how->first; k < how->end; k++) {
        const float *row = x + k * how->channel;
        for (int64_t i = 0; i < n; i++) {
            sums[i] += (double)row[i] * (double)row[i];
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const double root = sqrt(how->bias + how->alpha * sums[i]);
        const double quotient = (double)x[i] / (root * sqrt(root));
        y[i] = (float)(quotient * (1.0 - DOUBT));
        unsure |= y[i] != (float)(quotient * (1.0 + DOUBT));
    }
    return unsure == 0;
}

#if defined(__x86_64__)

#define WIDE __attribute__((target("avx512f,avx512dq")))
#define LANES 8

/* b^(-3/4) within 2^-49: z approximates b^(-1/4) to 13 bits, and with e = 1 - b z^4 the result is
 * z^3 (1 - e)^(-3/4). */
static inline WIDE __m512d power_of(__m512d b)
{
    const __m512d root = _mm512_rsqrt14_pd(b);
    const __m512d z = _mm512_mul_pd(root, _mm512_rsqrt14_pd(root));
    const __m512d square = _mm512_mul_pd(z, z);
    const __m512d e = _mm512_fnmadd_pd(_mm512_mul_pd(square, square), b, _mm512_set1_pd(1.0));
    __m512d sum = _mm512_set1_pd(1155.0 / 2048.0);
    sum = _mm512_fmadd_pd(sum, e, _mm512_set1_pd(77.0 / 128.0));
    sum = _mm512_fmadd_pd(sum, e, _mm512_set1_pd(21.0 / 32.0));
    sum = _mm512_fmadd_pd(sum, e, _mm512_set1_pd(3.0 / 4.0));
    const __m512d cube = _mm512_mul_pd(square, z);
    return _mm512_fmadd_pd(_mm512_mul_pd(cube, e), sum, cube);
}

/* Processes whole vectors of LANES elements and returns how many elements. `*unsure` says whether
 * any result is not certain. */
WIDE static int64_t normalize_lanes(const local_response *how, const float *x, int64_t n, float *y,
                                    bool *unsure)
{
    __mmask8 sure = 0xff;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m512d sum = _mm512_setzero_pd();
        for (int64_t k = how->first; k < how->end; k++) {
            const __m512d v = _mm512_cvtps_pd(_mm256_loadu_ps(x + k * how->channel + i));
            sum = _mm512_fmadd_pd(v, v, sum);
        }
        const __m512d scaled = _mm512_mul_pd(_mm512_set1_pd(how->alpha), sum);
        const __m512d base = _mm512_add_pd(_mm512_set1_pd(how->bias), scaled);
        const __m512d v = _mm512_cvtps_pd(_mm256_loadu_ps(x + i));
        const __m512d found = _mm512_mul_pd(v, power_of(base));
        const __m256 low = _mm512_cvtpd_ps(_mm512_mul_pd(found, _mm512_set1_pd(1.0 - DOUBT)));
        const __m256 high = _mm512_cvtpd_ps(_mm512_mul_pd(found, _mm512_set1_pd(1.0 + DOUBT)));
        sure &= (__mmask8)_mm256_movemask_ps(_mm256_cmp_ps(low, high, _CMP_EQ_OQ));
        _mm256_storeu_ps(y + i, low);
    }
    *unsure = sure != 0xff;
    return i;
}

#endif

static bool normalize_floats(const local_response *how, const float *x, int64_t n, float *y)
{
    int64_t done = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
        bool unsure = false;
        done = normalize_lanes(how, x, n, y, &unsure);
        if (unsure) {
            return false;
        }
    }
#endif
    return done == n || normalize_by_roots(how, x + done, n - done, y + done);
}

/* Normalizes `n` elements of one channel. */
static void normalize_piece(const local_response *how, const ref_tensor *x, int64_t start,
                            int64_t n, ref_tensor *y)
{
    if (x->dtype == KILN_DTYPE_FLOAT32 && how->beta == 0.75 &&
        normalize_floats(how, (const float *)x->data + start, n, (float *)y->data + start)) {
        return;
    }
    double sums[REF_CHUNK] = {0};
    double row[REF_CHUNK];
    for (int64_t k = how->first; k < how->end; k++) {
        ref_load_float(x, start + k * how->channel, 1, n, row);
        for (int64_t i = 0; i < n; i++) {
            sums[i] += row[i] * row[i];
        }
    }
    ref_load_float(x, start, 1, n, row);
    for (int64_t i = 0; i < n; i++) {
        row[i] /= pow(how->bias + how->alpha * sums[i], how->beta);
    }
    ref_store_float(y, start, 1, n, row);
}

static kiln_status ref_op_lrn(ref_call *call)
{
    const ref_tensor *x = NULL;
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &x));
    KLN_RETURN_IF(x->rank < 2, KILN_ERROR_RANK,
                  "2 dimensions or more are needed, batch and channels");
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const double alpha = (double)ref_attribute_float(call, "alpha", (double)0.0001F);
    const double beta = ref_attribute_float(call, "beta", 0.75);
    const double bias = ref_attribute_float(call, "bias", 1.0);
    const int64_t size = ref_attribute_int(call, "size", 1);
    const int64_t channels = x->dims[1];
    const int64_t inner = ref_product(x->dims, 2, x->rank);
    KLN_RETURN_IF(size <= 0, KILN_ERROR_INVALID_NETWORK, "a size of %lld", (long long)size);
    KLN_RETURN_IF_ERROR(
        ref_spend(call, (double)x->count * (double)(size < channels ? size : channels)));
    for (int64_t i = 0; x->count > 0 && i < x->dims[0] * channels; i++) {
        const int64_t c = i % channels;
        const int64_t first = c - (size - 1) / 2 > 0 ? c - (size - 1) / 2 : 0;
        const int64_t end = c + size / 2 + 1 < channels ? c + size / 2 + 1 : channels;
        const local_response how = {first - c, end - c, inner, alpha / (double)size, beta, bias};
        for (int64_t k = 0; k < inner; k += REF_CHUNK) {
            normalize_piece(&how, x, i * inner + k, inner - k < REF_CHUNK ? inner - k : REF_CHUNK,
                            y);
        }
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_response[] = {
    REF_OP("LRN", 1, lrn, 0),
    REF_KERNELS_END
};
/* clang-format on */
