/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_exp.h"

#include "ref_internal.h"
#include "ref_wide.h"

/* --- vectorized by the compiler --- */

#define FARTHEST 150.0 /* beyond it a float is infinite or 0 */

static inline double plain_exp_below(double x) /* x <= FARTHEST */
{
    double power = 0.0;
    const double more = ref_grow(x < -FARTHEST ? -FARTHEST : x, &power);
    return power + power * more;
}

static inline double plain_exp(double x)
{
    return plain_exp_below(x > FARTHEST ? FARTHEST : x);
}

static inline double plain_tanh(double x)
{
    double power = 0.0;
    const double twice = fabs(x) > 20.0 ? 40.0 : 2.0 * fabs(x);
    const double more = ref_grow(twice, &power);
    const double rest = power * more + (power - 1.0); /* e^2|x| - 1 */
    return copysign(rest / (rest + 2.0), x);
}

static inline double plain_logistic(double x)
{
    const double power = plain_exp(x >= 0.0 ? -x : x);
    return (x >= 0.0 ? 1.0 : power) / (1.0 + power);
}

#define DEFINE_PLAIN(name)                                                          \
    REF_WIDE static void plain_##name##_floats(int64_t n, const float *x, float *y) \
    {                                                                               \
        for (int64_t i = 0; i < n; i++) {                                           \
            y[i] = (float)plain_##name((double)x[i]);                               \
        }                                                                           \
    }
DEFINE_PLAIN(exp)
DEFINE_PLAIN(logistic)
DEFINE_PLAIN(tanh)

#define PARTS 16

#define DEFINE_ROW(name, type)                                                    \
    REF_WIDE static double name(int64_t n, const type *x, double less, double *e) \
    {                                                                             \
        double sums[PARTS] = {0};                                                 \
        const int64_t whole = n - n % PARTS;                                      \
        for (int64_t i = 0; i < whole; i += PARTS) {                              \
            for (int64_t k = 0; k < PARTS; k++) {                                 \
                e[i + k] = plain_exp_below((double)x[i + k] - less);              \
                sums[k] += e[i + k];                                              \
            }                                                                     \
        }                                                                         \
        for (int64_t i = whole; i < n; i++) {                                     \
            e[i] = plain_exp_below((double)x[i] - less);                          \
            sums[i - whole] += e[i];                                              \
        }                                                                         \
        for (int64_t k = 1; k < PARTS; k++) {                                     \
            sums[0] += sums[k];                                                   \
        }                                                                         \
        return sums[0];                                                           \
    }
DEFINE_ROW(exp_row, float)
DEFINE_ROW(exp_row_of_doubles, double)

REF_WIDE static void exp_each(int64_t n, const float *x, const double *less, double *e,
                              double *sums)
{
    for (int64_t k = 0; k < n; k++) {
        e[k] = plain_exp_below((double)x[k] - less[k]);
        sums[k] += e[k];
    }
}

/* Clang 14 does not export clones to other files. */
double ref_exp_row(int64_t n, const float *x, double less, double *e)
{
    return exp_row(n, x, less, e);
}

void ref_exp_each(int64_t n, const float *x, const double *less, double *e, double *sums)
{
    exp_each(n, x, less, e, sums);
}

/* --- with a table in registers ---
 *
 * x = k ln 2 / 16 + r: the sixteen fractional powers of 2 are in two vectors. */

#if defined(__x86_64__)

/* e^r - 1 is a polynomial of degree 6 through Chebyshev nodes, with a relative error of 2^-49. The
 * minimum and maximum instructions return the second operand if one is NaN. */
static inline WIDE __m512d wide_exp(__m512d x)
{
    const __m512d shift = _mm512_set1_pd(SHIFT);
    const __m512d shifted = _mm512_fmadd_pd(x, _mm512_set1_pd(0x1.71547652b82fep4), shift);
    const __m512d k = _mm512_sub_pd(shifted, shift);
    __m512d r = _mm512_fnmadd_pd(k, _mm512_set1_pd(0x1.62e42fefap-5), x);
    r = _mm512_fnmadd_pd(k, _mm512_set1_pd(0x1.cf79abc9e3b3ap-44), r);
    const __m512d power = ref_wide_power(shifted);
    const __m512d square = _mm512_mul_pd(r, r);
    __m512d high = _mm512_set1_pd(0x1.555555551893ep-5);
    high = _mm512_fmadd_pd(r, _mm512_set1_pd(0x1.11120c776de24p-7), high);
    high = _mm512_fmadd_pd(square, _mm512_set1_pd(0x1.6c17bcd25df88p-10), high);
    __m512d sum = _mm512_fmadd_pd(r, _mm512_set1_pd(0x1.55555554dbd25p-3), _mm512_set1_pd(0.5));
    sum = _mm512_fmadd_pd(square, high, sum);
    return _mm512_fmadd_pd(power, _mm512_fmadd_pd(square, sum, r), power);
}

static inline WIDE __m512d wide_exp_below(__m512d x)
{
    return wide_exp(_mm512_max_pd(_mm512_set1_pd(-FARTHEST), x));
}

static inline WIDE __m512d wide_logistic(__m512d x)
{
    const __m512d one = _mm512_set1_pd(1.0);
    const __m512d power = wide_exp(_mm512_or_pd(_mm512_set1_pd(-0.0), x));
    const __mmask8 above = _mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_GE_OQ);
    return _mm512_div_pd(_mm512_mask_blend_pd(above, power, one), _mm512_add_pd(one, power));
}

/* x = k ln 2 / 32 + r, and t = tanh r by a polynomial through Chebyshev nodes, with a relative
 * error of 2^-62. With p = 2^(k/16), the tanh of the sum is (p - 1 + t (p + 1)) / (p + 1 + t (p -
 * 1)). Subtracting 1 - p preserves the sign of a zero. */
static inline WIDE __m512d wide_tanh(__m512d x)
{
    const __m512d one = _mm512_set1_pd(1.0);
    const __m512d shift = _mm512_set1_pd(SHIFT);
    const __m512d shifted = _mm512_fmadd_pd(x, _mm512_set1_pd(0x1.71547652b82fep5), shift);
    const __m512d k = _mm512_sub_pd(shifted, shift);
    const __m512d r = _mm512_fnmadd_pd(k, _mm512_set1_pd(0x1.62e42fefa39efp-6), x);
    const __m512d power = ref_wide_power(shifted);
    const __m512d square = _mm512_mul_pd(r, r);
    __m512d t = _mm512_set1_pd(0x1.1111110b40617p-3);
    t = _mm512_fmadd_pd(square, _mm512_set1_pd(-0x1.ba13900697e90p-5), t);
    t = _mm512_fmadd_pd(square, t, _mm512_set1_pd(-0x1.5555555555541p-2));
    t = _mm512_mul_pd(r, _mm512_fmadd_pd(square, t, one));
    const __m512d less = _mm512_sub_pd(one, power);
    const __m512d more = _mm512_add_pd(power, one);
    return _mm512_div_pd(_mm512_fmsub_pd(t, more, less), _mm512_fnmadd_pd(t, less, more));
}

/* A mask with bit k for element i + k, for the last vector of a row. */
static inline __mmask8 lanes_of(int64_t left)
{
    return (__mmask8)(left < LANES ? (1 << left) - 1 : 0xff);
}

static inline WIDE __m512d load_some(__mmask8 lanes, const float *x)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(_mm512_maskz_loadu_ps((__mmask16)lanes, x)));
}

static inline WIDE __m512d load_bounded(__m256 x, float reach)
{
    const __m256 above = _mm256_max_ps(_mm256_set1_ps(-reach), x);
    return _mm512_cvtps_pd(_mm256_min_ps(_mm256_set1_ps(reach), above));
}

/* Beyond `reach` the float result is the same as at `reach`. */
#define DEFINE_WIDE(name, reach)                                                    \
    WIDE static void wide_##name##_floats(int64_t n, const float *x, float *y)      \
    {                                                                               \
        int64_t i = 0;                                                              \
        for (; i + LANES <= n; i += LANES) {                                        \
            const __m512d v = load_bounded(_mm256_loadu_ps(x + i), reach);          \
            _mm256_storeu_ps(y + i, _mm512_cvtpd_ps(wide_##name(v)));               \
        }                                                                           \
        const __mmask8 lanes = lanes_of(n - i);                                     \
        const __m512d v = load_bounded(_mm256_maskz_loadu_ps(lanes, x + i), reach); \
        _mm256_mask_storeu_ps(y + i, lanes, _mm512_cvtpd_ps(wide_##name(v)));       \
    }
DEFINE_WIDE(exp, (float)FARTHEST)
DEFINE_WIDE(logistic, (float)FARTHEST)
DEFINE_WIDE(tanh, 20.0F)

#define DEFINE_WIDE_ROW(name, type, load, some)                                           \
    WIDE static double name(int64_t n, const type *x, double less, double *e)             \
    {                                                                                     \
        const __m512d lessened = _mm512_set1_pd(less);                                    \
        __m512d sum = _mm512_setzero_pd();                                                \
        int64_t i = 0;                                                                    \
        for (; i + LANES <= n; i += LANES) {                                              \
            const __m512d v = load(x + i);                                                \
            const __m512d found = wide_exp_below(_mm512_sub_pd(v, lessened));             \
            _mm512_storeu_pd(e + i, found);                                               \
            sum = _mm512_add_pd(sum, found);                                              \
        }                                                                                 \
        const __mmask8 lanes = lanes_of(n - i);                                           \
        const __m512d rest = wide_exp_below(_mm512_sub_pd(some(lanes, x + i), lessened)); \
        _mm512_mask_storeu_pd(e + i, lanes, rest);                                        \
        return _mm512_reduce_add_pd(_mm512_mask_add_pd(sum, lanes, sum, rest));           \
    }
#define LOAD_FLOATS(x) _mm512_cvtps_pd(_mm256_loadu_ps(x))
DEFINE_WIDE_ROW(wide_row, float, LOAD_FLOATS, load_some)
DEFINE_WIDE_ROW(wide_row_of_doubles, double, _mm512_loadu_pd, _mm512_maskz_loadu_pd)

WIDE static void wide_each(int64_t n, const float *x, const double *less, double *e, double *sums)
{
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask8 lanes = lanes_of(n - i);
        const __m512d rest =
            _mm512_sub_pd(load_some(lanes, x + i), _mm512_maskz_loadu_pd(lanes, less + i));
        const __m512d found = wide_exp_below(rest);
        _mm512_mask_storeu_pd(e + i, lanes, found);
        _mm512_mask_storeu_pd(sums + i, lanes,
                              _mm512_add_pd(_mm512_maskz_loadu_pd(lanes, sums + i), found));
    }
}

#define CHOOSE(wide, plain) (ref_is_wide() ? (wide) : (plain))
#else
#define CHOOSE(wide, plain) (plain)
#endif

/* --- dispatch --- */

void ref_exp_floats(int64_t n, const float *x, float *y)
{
    CHOOSE(wide_exp_floats, plain_exp_floats)(n, x, y);
}

void ref_logistic_floats(int64_t n, const float *x, float *y)
{
    CHOOSE(wide_logistic_floats, plain_logistic_floats)(n, x, y);
}

void ref_tanh_floats(int64_t n, const float *x, float *y)
{
    CHOOSE(wide_tanh_floats, plain_tanh_floats)(n, x, y);
}

double ref_exp_row_near(int64_t n, const float *x, double less, double *e)
{
    return CHOOSE(wide_row, ref_exp_row)(n, x, less, e);
}

double ref_exp_row_of_doubles(int64_t n, const double *x, double less, double *e)
{
    return CHOOSE(wide_row_of_doubles, exp_row_of_doubles)(n, x, less, e);
}

void ref_exp_each_near(int64_t n, const float *x, const double *less, double *e, double *sums)
{
    CHOOSE(wide_each, ref_exp_each)(n, x, less, e, sums);
}
