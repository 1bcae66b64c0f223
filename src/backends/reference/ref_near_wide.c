/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of ref_near.c, eight at a time with AVX-512: tables of sixteen entries are in
 * registers, which keeps polynomials short. The relative error is at most 2^-37, unless a row's
 * condition marks the argument as exceptional. Uncertain results are listed. */
#include "ref_wide.h"

#include "ref_ops.h"

#if defined(__x86_64__)

typedef __m512d lanes;

static inline WIDE lanes all(double c)
{
    return _mm512_set1_pd(c);
}

#define SERIES(z, ...) series((z), (const double[]){__VA_ARGS__}, COUNT(__VA_ARGS__))
#define COUNT(...) ((int)(sizeof(double[]){__VA_ARGS__} / sizeof(double)))

/* c[0] + c[1] z + ..., in two independent halves. */
static inline WIDE lanes series(lanes z, const double *c, int n)
{
    const lanes square = z * z;
    lanes last = all(c[n - 1]);
    lanes other = all(c[n - 2]);
    for (int i = n - 3; i >= 0; i--) {
        const lanes next = all(c[i]) + square * last;
        last = other;
        other = next;
    }
    return other + z * last;
}

static inline WIDE lanes size_of(lanes x)
{
    return _mm512_andnot_pd(all(-0.0), x);
}

static inline WIDE lanes with_sign(lanes size, lanes x)
{
    return _mm512_or_pd(size, _mm512_and_pd(all(-0.0), x));
}

static inline WIDE lanes changed(lanes x, __mmask8 where, lanes other)
{
    return _mm512_mask_mov_pd(x, where, other);
}

#define MORE(a, b) _mm512_cmp_pd_mask((a), (b), _CMP_GT_OQ)

/* --- based on exponentials --- */

/* For x = k ln 2 / 16 + r with |x| < 700: e^x = *power + *power * the result, which is e^r - 1. */
static inline WIDE lanes grow(lanes x, lanes *power)
{
    const lanes shifted = x * all(0x1.71547652b82fep4) + all(SHIFT);
    const lanes r = x - (shifted - all(SHIFT)) * all(0x1.62e42fefa39efp-5);
    *power = ref_wide_power(shifted);
    return r + r * r *
                   SERIES(r, 0x1.ffffffff57e8ep-2, 0x1.55555555254d4p-3, 0x1.5556b330ed658p-5,
                          0x1.1111d8fdb4fbfp-7);
}

static inline WIDE lanes e_to(lanes x)
{
    lanes power;
    const lanes more = grow(x, &power);
    return power + power * more;
}

/* Limits |x| to 690, beyond which no product of two floats is in range again. */
static inline WIDE lanes e_to_some(lanes x)
{
    return e_to(_mm512_min_pd(all(690.0), _mm512_max_pd(all(-690.0), x)));
}

static inline WIDE lanes wide_cosh(lanes x)
{
    const lanes half = e_to(size_of(x) - all(0x1.62e42fefa39efp-1));
    return half + all(0.25) / half;
}

static inline WIDE lanes wide_sinh(lanes x)
{
    lanes power;
    const lanes more = grow(size_of(x), &power);
    const lanes rest = power * more + (power - all(1.0));
    return with_sign(all(0.5) * (rest + rest / (rest + all(1.0))), x);
}

/* x times the logistic function of z. */
static inline WIDE lanes wide_share(lanes x, lanes z)
{
    const lanes power = e_to_some(_mm512_or_pd(all(-0.0), z));
    const __mmask8 below = MORE(_mm512_setzero_pd(), z);
    return changed(x, below, x * power) / (all(1.0) + power);
}

/* --- based on logarithms --- */

/* w = 2^k m, where m, from 0.7 to 1.4, is close to 1 / inverse in the table, which is 1 around 1.
 * Relative error: 2^-49 with `fine`, else 2^-43. */
static inline WIDE lanes log_of(lanes w, bool fine)
{
    static const double inverses[16] = {
        0x1.642c8590b2165p+0, 0x1.5555555555556p+0, 0x1.47ae147ae147bp+0, 0x1.3b13b13b13b14p+0,
        0x1.2f684bda12f69p+0, 0x1.2492492492493p+0, 0x1.1a7b9611a7b96p+0, 0x1.1111111111111p+0,
        0x1.0842108421084p+0, 0x1.0000000000000p+0, 0x1.e1e1e1e1e1e1fp-1, 0x1.c71c71c71c71dp-1,
        0x1.af286bca1af29p-1, 0x1.999999999999ap-1, 0x1.8618618618619p-1, 0x1.745d1745d1746p-1};
    static const double logs[16] = {-0x1.522ae0738a3dap-2, -0x1.269621134db94p-2,
                                    -0x1.f991c6cb3b37ap-3, -0x1.a93ed3c8ad9e5p-3,
                                    -0x1.5bf406b543db7p-3, -0x1.1178e8227e481p-3,
                                    -0x1.9335e5d594988p-4, -0x1.08598b59e3a06p-4,
                                    -0x1.0415d89e74440p-5, 0x0.0p+0,
                                    0x1.f0a30c0116297p-5,  0x1.e27076e2af2e1p-4,
                                    0x1.5ff3070a793d1p-3,  0x1.c8ff7c79a9a20p-3,
                                    0x1.1675cababa60cp-2,  0x1.4618bc21c5ec2p-2};
    static const double six[] = {-0x1.00000000068d8p-1, 0x1.55555553840d9p-2,
                                 -0x1.fffff825bbf95p-3, 0x1.9999e7277279cp-3,
                                 -0x1.55aede4344325p-3, 0x1.2379d48a778a6p-3};
    static const double seven[] = {
        -0x1.000000000004dp-1, 0x1.555555557de2dp-2, -0x1.fffffff89261cp-3, 0x1.99998ec7efba1p-3,
        -0x1.5555b9094d053p-3, 0x1.24eef9569ef6ap-3, -0x1.fdbc96e28f39ep-4};
    const __m512i bits = _mm512_castpd_si512(w);
    const __m512i above = _mm512_sub_epi64(bits, _mm512_set1_epi64(0x3fe6800000000000));
    const __m512i place = _mm512_srli_epi64(above, 48);
    const lanes k = _mm512_cvtepi64_pd(_mm512_srai_epi64(above, 52));
    const lanes m = _mm512_castsi512_pd(_mm512_sub_epi64(
        bits, _mm512_and_si512(above, _mm512_set1_epi64((int64_t)UINT64_C(0xfff0000000000000)))));
    const lanes inverse =
        _mm512_permutex2var_pd(_mm512_loadu_pd(inverses), place, _mm512_loadu_pd(inverses + LANES));
    const lanes base =
        _mm512_permutex2var_pd(_mm512_loadu_pd(logs), place, _mm512_loadu_pd(logs + LANES));
    const lanes r = _mm512_fmsub_pd(m, inverse, all(1.0));
    const lanes more = r + r * r * (fine ? series(r, seven, 7) : series(r, six, 6));
    return (k * all(0x1.62e42fefa39efp-1) + base) + more;
}

static inline WIDE lanes wide_log(lanes w)
{
    return log_of(w, false);
}

static inline WIDE lanes wide_acosh(lanes x)
{
    const lanes less = x - all(1.0);
    return wide_log(x + _mm512_sqrt_pd(less * (less + all(2.0))));
}

#define SMALL 0x1p-12 /* below it, log(1 + x) has lost too many digits of x */

static inline WIDE lanes wide_asinh(lanes x)
{
    const lanes size = size_of(x);
    const lanes square = size * size;
    const lanes found = wide_log(size + _mm512_sqrt_pd(all(1.0) + square));
    const lanes near = size - size * square * all(0x1.5555555555555p-3);
    return with_sign(changed(found, MORE(all(SMALL), size), near), x);
}

static inline WIDE lanes wide_atanh(lanes x)
{
    const lanes size = size_of(x);
    const lanes found = all(0.5) * wide_log((all(1.0) + size) / (all(1.0) - size));
    const lanes near = size + size * size * size * all(0x1.5555555555555p-2);
    return with_sign(changed(found, MORE(all(SMALL), size), near), x);
}

static inline WIDE lanes wide_pow(lanes x, lanes y)
{
    return e_to_some(y * log_of(x, true));
}

/* --- trigonometric functions --- */

#define HALF_PI 0x1.921fb54442d18p+0

/* The sine of x - k pi, negated if k is odd; `shifted` is SHIFT + k, to which `half` is added. |x|
 * <= 32768, so that k times the first part of pi is exact; no float is close enough to a multiple
 * of pi / 2 to lose too many digits. */
static inline WIDE lanes sine_less(lanes x, lanes shifted, double half)
{
    const lanes whole = shifted - all(SHIFT);
    const lanes k = whole + all(half);
    const lanes r = _mm512_fnmadd_pd(k, all(0x1.68c234c4c6629p-38),
                                     _mm512_fnmadd_pd(k, all(0x1.921fb54440000p+1), x));
    const lanes z = r * r;
    const lanes found =
        r + r * z *
                SERIES(z, -0x1.55555555549cbp-3, 0x1.1111110fc0494p-7, -0x1.a01a0011bd390p-13,
                       0x1.71dd8de2f65ecp-19, -0x1.ae20c4de84a14p-26, 0x1.54e75df697023p-33);
    const __m512i odd = _mm512_slli_epi64(_mm512_castpd_si512(shifted), 63);
    return _mm512_xor_pd(found, _mm512_castsi512_pd(odd));
}

static inline WIDE lanes wide_sin(lanes x)
{
    return sine_less(x, x * all(0x1.45f306dc9c883p-2) + all(SHIFT), 0.0);
}

static inline WIDE lanes wide_cos(lanes x) /* the sine of pi / 2 - x */
{
    return sine_less(-x, (all(0.5) - x * all(0x1.45f306dc9c883p-2)) + all(SHIFT), -0.5);
}

static inline WIDE lanes wide_tan(lanes x)
{
    const lanes shifted = x * all(0x1.45f306dc9c883p-1) + all(SHIFT);
    const lanes k = shifted - all(SHIFT);
    const lanes r = _mm512_fnmadd_pd(k, all(0x1.68c234c4c6629p-39),
                                     _mm512_fnmadd_pd(k, all(0x1.921fb54440000p+0), x));
    const lanes z = r * r;
    const lanes p = r * SERIES(z, 1.0, -0x1.f0ee2110df121p-4, 0x1.0a2711b48f1dbp-9);
    const lanes q =
        SERIES(z, 1.0, -0x1.d190dd998da85p-2, 0x1.4bc0f78e7509fp-6, -0x1.97df7f5f44aafp-14);
    const __mmask8 odd = _mm512_test_epi64_mask(_mm512_castpd_si512(shifted), _mm512_set1_epi64(1));
    return changed(p, odd, q) / changed(q, odd, -p);
}

static inline WIDE lanes wide_atan(lanes x)
{
    const lanes size = size_of(x);
    const __mmask8 middle = MORE(size, all(0x1.a827999fcef32p-2)); /* sqrt(2) - 1 */
    const __mmask8 far = MORE(size, all(0x1.3504f333f9de6p+1));    /* sqrt(2) + 1 */
    const lanes above = _mm512_mask_sub_pd(size, middle, size, all(1.0));
    const lanes below = _mm512_mask_add_pd(all(1.0), middle, size, all(1.0));
    const lanes t = changed(above, far, all(-1.0)) / changed(below, far, size);
    const lanes z = t * t;
    const lanes found =
        t + t * z *
                SERIES(z, -0x1.5555555502188p-2, 0x1.99999825954bep-3, -0x1.2491c08b2dc92p-3,
                       0x1.c6f68737bd524p-4, -0x1.71d3c10805063p-4, 0x1.24434e877930bp-4,
                       -0x1.4b3891ff33f60p-5);
    const lanes more = changed(_mm512_maskz_mov_pd(middle, all(HALF_PI / 2)), far, all(HALF_PI));
    return with_sign(found + more, x);
}

/* asin |x| for |x| <= 1/2; beyond that asin(sqrt((1 - |x|) / 2)). */
static inline WIDE lanes half_asin(lanes x, __mmask8 *outer)
{
    const lanes size = size_of(x);
    *outer = MORE(size, all(0.5));
    const lanes z = changed(size * size, *outer, all(0.5) - all(0.5) * size);
    const lanes t = _mm512_mask_sqrt_pd(size, *outer, z);
    return t + t * z *
                   SERIES(z, 0x1.55555554ee47bp-3, 0x1.333334ceb6520p-4, 0x1.6db5cfb6af27cp-5,
                          0x1.f208eb1ddd1cap-6, 0x1.6a9e3262c2fe5p-6, 0x1.3c5053c2b26c9p-6,
                          0x1.64b97e007fbdap-8, 0x1.e0231588b9699p-6);
}

static inline WIDE lanes wide_asin(lanes x)
{
    __mmask8 outer;
    const lanes half = half_asin(x, &outer);
    return with_sign(changed(half, outer, all(HALF_PI) - (half + half)), x);
}

static inline WIDE lanes wide_acos(lanes x)
{
    __mmask8 outer;
    const lanes half = half_asin(x, &outer);
    const lanes inner = all(HALF_PI) - with_sign(half, x);
    const lanes below = changed(all(0.0), MORE(all(0.0), x), all(2.0 * HALF_PI));
    return changed(inner, outer, below + with_sign(half + half, x));
}

/* --- rows --- */

/* An argument is exceptional beyond `reach`, or NaN, or in a class that the instruction tests. */
#define BEYOND(f, reach)                                                                    \
    _mm256_cmp_ps_mask(_mm256_andnot_ps(_mm256_set1_ps(-0.0F), (f)), _mm256_set1_ps(reach), \
                       _CMP_NLE_UQ)
#define BELOW(f, least) _mm256_cmp_ps_mask((f), _mm256_set1_ps(least), _CMP_NGE_UQ)
#define NOT_POSITIVE(f) _mm256_fpclass_ps_mask((f), 0xdf)
#define FINITE 0x1.fffffep127F

#define WIDE_LIST(X)                                                 \
    X(Acos, wide_acos(x), BEYOND(f, 1.0F))                           \
    X(Acosh, wide_acosh(x), BELOW(f, 1.0F) | BEYOND(f, FINITE))      \
    X(Asin, wide_asin(x), BEYOND(f, 1.0F))                           \
    X(Asinh, wide_asinh(x), BEYOND(f, FINITE))                       \
    X(Atan, wide_atan(x), BEYOND(f, FINITE))                         \
    X(Atanh, wide_atanh(x), BEYOND(f, 0x1.fffffep-1F))               \
    X(Cos, wide_cos(x), BEYOND(f, 32768.0F))                         \
    X(Cosh, wide_cosh(x), BEYOND(f, 150.0F))                         \
    X(Log, wide_log(x), NOT_POSITIVE(f))                             \
    X(Pow, wide_pow(x, y), NOT_POSITIVE(f) | BEYOND(second, FINITE)) \
    X(Sin, wide_sin(x), BEYOND(f, 32768.0F))                         \
    X(Sinh, wide_sinh(x), BEYOND(f, 150.0F))                         \
    X(Swish, wide_share(x, x *all(a)), BEYOND(f, FINITE))            \
    X(SwiGLU, wide_share(x, x *all(a)) * y, BEYOND(f, FINITE))       \
    X(Tan, wide_tan(x), BEYOND(f, 32768.0F))

/* Whether rounding to float is uncertain: the 29 bits that it drops are within 2^16 of one half, or
 * the result is 0, infinite, NaN or subnormal. */
static inline WIDE __mmask8 doubtful(lanes near, __m256 rounded)
{
    const __m512i moved =
        _mm512_add_epi64(_mm512_castpd_si512(near), _mm512_set1_epi64(0x10000 - 0x10000000));
    return _mm512_testn_epi64_mask(moved, _mm512_set1_epi64(0x1ffe0000)) |
           _mm256_fpclass_ps_mask(rounded, 0xbf);
}

#define DEFINE_WIDE(name, expression, strange)                                               \
    WIDE static int64_t wide_row_##name(int64_t n, const float *v, const float *w, double a, \
                                        double g, float *to, uint8_t *unsure)                \
    {                                                                                        \
        int64_t count = 0;                                                                   \
        (void)w;                                                                             \
        (void)a;                                                                             \
        (void)g;                                                                             \
        for (int64_t i = 0; i < n; i += LANES) {                                             \
            const __m256 f = _mm256_loadu_ps(v + i);                                         \
            const __m256 second = _mm256_loadu_ps(w + i);                                    \
            const lanes x = _mm512_cvtps_pd(f);                                              \
            const lanes y = _mm512_cvtps_pd(second);                                         \
            const lanes near = (expression);                                                 \
            const __m256 rounded = _mm512_cvtpd_ps(near);                                    \
            (void)y;                                                                         \
            _mm256_storeu_ps(to + i, rounded);                                               \
            unsigned odd = doubtful(near, rounded) | (strange);                              \
            for (; odd != 0; odd &= odd - 1) {                                               \
                unsure[count++] = (uint8_t)(i + __builtin_ctz(odd));                         \
            }                                                                                \
        }                                                                                    \
        return count;                                                                        \
    }
WIDE_LIST(DEFINE_WIDE)

ref_near_row ref_wide_row(int variant)
{
    static const ref_near_row rows[REF_UNARY_COUNT] = {
#define LIST_WIDE(name, expression, strange) [REF_UNARY_##name] = wide_row_##name,
        WIDE_LIST(LIST_WIDE)};
    return ref_is_wide() ? rows[variant] : NULL;
}

#else

ref_near_row ref_wide_row(int variant)
{
    (void)variant;
    return NULL;
}

#endif
