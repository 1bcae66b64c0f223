/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_internal.h"

float ref_narrow(double value)
{
    float narrow = (float)value;
    if (isfinite(value) && isfinite(narrow) && (double)narrow != value) {
        uint32_t bits = 0;
        memcpy(&bits, &narrow, sizeof bits);
        if ((bits & 1U) == 0U) {
            const double reach = fabs((double)narrow);
            bits = reach < fabs(value) ? bits + 1 : bits - 1;
            memcpy(&narrow, &bits, sizeof bits);
        }
    }
    return narrow;
}

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Converts eight at a time if the processor can. NaNs keep the same bits as with the plain
 * functions. */

#if defined(__x86_64__)

/* Rounds to odd at a float's last bit, in integer arithmetic, so that the second rounding is
 * correct. Anything below the normal floats is below the half type as well. */
__attribute__((target("avx2,f16c"))) static inline __m128 to_odd(__m256d value)
{
    const __m256i rest = _mm256_set1_epi64x((1LL << 29) - 1);
    const __m256i bits = _mm256_castpd_si256(value);
    const __m256i some = _mm256_add_epi64(_mm256_and_si256(bits, rest), rest);
    return _mm256_cvtpd_ps(
        _mm256_castsi256_pd(_mm256_andnot_si256(rest, _mm256_or_si256(bits, some))));
}

__attribute__((target("avx2,f16c"))) static int64_t store_wide(const double *in, int64_t n,
                                                               uint16_t *out)
{
    int64_t done = 0;
    for (; done + 8 <= n; done += 8) {
        const __m128 low = to_odd(_mm256_loadu_pd(in + done));
        const __m128 high = to_odd(_mm256_loadu_pd(in + done + 4));
        const __m256 floats = _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
        if (_mm256_movemask_ps(_mm256_cmp_ps(floats, floats, _CMP_UNORD_Q)) != 0) {
            break;
        }
        const __m128i halves =
            _mm256_cvtps_ph(floats, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        memcpy(out + done, &halves, sizeof halves);
    }
    return done;
}

__attribute__((target("avx,f16c"))) static int64_t load_wide(const uint16_t *in, int64_t n,
                                                             double *out)
{
    int64_t done = 0;
    for (; done + 8 <= n; done += 8) {
        __m128i halves;
        memcpy(&halves, in + done, sizeof halves);
        const __m256 floats = _mm256_cvtph_ps(halves);
        if (_mm256_movemask_ps(_mm256_cmp_ps(floats, floats, _CMP_UNORD_Q)) != 0) {
            break;
        }
        _mm256_storeu_pd(out + done, _mm256_cvtps_pd(_mm256_castps256_ps128(floats)));
        _mm256_storeu_pd(out + done + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(floats, 1)));
    }
    return done;
}

static bool is_wide(void)
{
    /* Every processor with AVX2 has F16C, a name that some compilers do not know. */
    return __builtin_cpu_supports("avx2");
}

#else

static int64_t store_wide(const double *in, int64_t n, uint16_t *out)
{
    (void)in;
    (void)n;
    (void)out;
    return 0;
}

static int64_t load_wide(const uint16_t *in, int64_t n, double *out)
{
    (void)in;
    (void)n;
    (void)out;
    return 0;
}

static bool is_wide(void)
{
    return false;
}

#endif

void ref_halves_store(const double *in, int64_t n, uint16_t *out)
{
    const bool wide = is_wide();
    for (int64_t i = 0; i < n;) {
        i += wide ? store_wide(in + i, n - i, out + i) : 0;
        for (int64_t end = i + 8; i < n && i < end; i++) {
            out[i] = kln_half_from_float(ref_narrow(in[i]));
        }
    }
}

void ref_halves_load(const uint16_t *in, int64_t n, double *out)
{
    const bool wide = is_wide();
    for (int64_t i = 0; i < n;) {
        i += wide ? load_wide(in + i, n - i, out + i) : 0;
        for (int64_t end = i + 8; i < n && i < end; i++) {
            out[i] = (double)kln_float_from_half(in[i]);
        }
    }
}

#define TOGETHER 64

/* Converts by way of floats, rounding first to odd, then to even; returns whether all values are
 * zero or normal. */
REF_WIDE static bool round_together(const double *in, uint16_t *out)
{
    const uint64_t rest = (UINT64_C(1) << 29) - 1;
    int64_t strange = 0;
    for (int64_t i = 0; i < TOGETHER; i++) {
        const double size = fabs(in[i]);
        uint64_t bits = 0;
        double odd = 0.0;
        memcpy(&bits, &in[i], sizeof bits);
        bits = (bits | ((bits & rest) + rest)) & ~rest;
        memcpy(&odd, &bits, sizeof odd);
        const float narrow = (float)odd;
        uint32_t word = 0;
        memcpy(&word, &narrow, sizeof word);
        out[i] = (uint16_t)((word + 0x7fffU + (word >> 16 & 1U)) >> 16);
        strange |= !(size == 0.0 || (size >= 0x1p-126 && size < 0x1p127));
    }
    return strange == 0;
}

void ref_bfloats_store(const double *in, int64_t n, uint16_t *out)
{
    for (int64_t at = 0; at < n; at += TOGETHER) {
        if (n - at >= TOGETHER && round_together(in + at, out + at)) {
            continue;
        }
        for (int64_t i = at; i < n && i < at + TOGETHER; i++) {
            out[i] = kln_bfloat16_from_float(ref_narrow(in[i]));
        }
    }
}
