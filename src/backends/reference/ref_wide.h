/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of eight doubles, on machines with AVX-512. */
#ifndef REF_WIDE_H
#define REF_WIDE_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512dq,avx512vl")))
#define LANES 8

static inline bool ref_is_wide(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

/* 2^(j/16) as bits, less j << 48, which comes with k << 48. */
static const uint64_t ref_powers[16] = {
    0x3ff0000000000000, 0x3fefb5586cf9890f, 0x3fef72b83c7d517b, 0x3fef387a6e756238,
    0x3fef06fe0a31b715, 0x3feedea64c123422, 0x3feebfdad5362a27, 0x3feeab07dd485429,
    0x3feea09e667f3bcd, 0x3feea11473eb0187, 0x3feeace5422aa0db, 0x3feec49182a3f090,
    0x3feee89f995ad3ad, 0x3fef199bdd85529c, 0x3fef5818dcfba487, 0x3fefa4afa2a490da};

/* 2^(k/16) of whole numbers k that are added to SHIFT. */
#define SHIFT 0x1.8p52
static inline WIDE __m512d ref_wide_power(__m512d shifted)
{
    const __m512i bits = _mm512_castpd_si512(shifted);
    const __m512i fraction = _mm512_permutex2var_epi64(_mm512_loadu_si512(ref_powers), bits,
                                                       _mm512_loadu_si512(ref_powers + LANES));
    return _mm512_castsi512_pd(_mm512_add_epi64(fraction, _mm512_slli_epi64(bits, 48)));
}
#endif

#endif
