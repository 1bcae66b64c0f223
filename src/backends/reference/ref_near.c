/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of floats that the C library does not vectorize.
 *
 * Each is approximated in double by polynomials through Chebyshev nodes, with a relative error of
 * at most DOUBT, and is NAN where these do not apply. If everything within that error rounds to the
 * same float, the C library's result rounds to it too; otherwise the C library is called. So this
 * file is compiled for fused multiply-add (src/CMakeLists.txt). */
#include "ref_exp.h"
#include "ref_ops.h"

#define DOUBT 0x1p-44

#define FOLD(z, c) fold((z), (c), (int)KLN_ARRAY_LENGTH(c))
/* Evaluates an even number of coefficients in two independent halves. */
static inline double fold(double z, const double *c, int n)
{
    const double square = z * z;
    double even = c[n - 2];
    double odd = c[n - 1];
    for (int i = n - 4; i >= 0; i -= 2) {
        even = c[i] + square * even;
        odd = c[i + 1] + square * odd;
    }
    return even + z * odd;
}

/* --- based on exponentials --- */

/* e^x - 1, for |x| < 700. */
static inline double exp_less_one(double x)
{
    double power = 0.0;
    const double more = ref_grow(x, &power);
    return power * more + (power - 1.0);
}

static inline double power_of_e(double x)
{
    double power = 0.0;
    const double more = ref_grow(x, &power);
    return power + power * more;
}

static inline double near_cosh(double x)
{
    const double power = power_of_e(fabs(x) < 300.0 ? fabs(x) : (double)NAN);
    return 0.5 * (power + 1.0 / power);
}

static inline double near_sinh(double x)
{
    const double rest = exp_less_one(fabs(x) < 300.0 ? fabs(x) : (double)NAN);
    return copysign(0.5 * (rest + rest / (rest + 1.0)), x);
}

static inline double near_mish(double x)
{
    const double power = power_of_e(fabs(x) < 80.0 ? x : (double)NAN);
    const double square = power * (power + 2.0);
    return x * square / (square + 2.0);
}

static inline double exp_below(double x)
{
    return exp_less_one(x < 0.0 ? (x > -300.0 ? x : -300.0) : 0.0);
}

/* --- based on logarithms --- */

/* The logarithm of w = 1 + less, which is positive: w = 2^k m with m near 1, and with f = (m - 1) /
 * (m + 1) the logarithm of m is 2 atanh f. */
static inline double near_log_of(double w, double less)
{
    static const double c[] = {0x1.55555555553b8p-2, 0x1.9999999b8677ap-3, 0x1.2492462af84abp-3,
                               0x1.c71fccd953895p-4, 0x1.7382dbfa1ce75p-4, 0x1.546a3155bacbfp-4};
    const uint64_t root = UINT64_C(0x3fe6a09e667f3bcd); /* the square root of one half, as bits */
    const uint64_t bias = UINT64_C(1024);
    const uint64_t whole = UINT64_C(0x4330000000000000); /* 2^52 */
    uint64_t bits = 0;
    double k = 0.0;
    double m = 0.0;
    memcpy(&bits, &w, sizeof bits);
    bits = bits - root + (bias << 52);
    const uint64_t shifted = (bits >> 52) | whole;
    memcpy(&k, &shifted, sizeof k);
    k = k - 0x1p52 - 1024.0;
    bits = (bits & ((UINT64_C(1) << 52) - 1)) + root;
    memcpy(&m, &bits, sizeof m);
    const double rest = k == 0.0 ? less : m - 1.0;
    const double f = rest / (rest + 2.0);
    const double z = f * f;
    const double log_m = 2.0 * f + 2.0 * f * (z * FOLD(z, c));
    return k * 0x1.62e42fefap-1 + (k * 0x1.cf79abc9e3b3ap-40 + log_m);
}

static inline double near_log(double x)
{
    return x > 0.0 ? near_log_of(x, x - 1.0) : (double)NAN;
}

static inline double near_acosh(double x)
{
    const double less = x - 1.0;
    const double more = less + sqrt(less * (less + 2.0));
    return x >= 1.0 ? near_log_of(1.0 + more, more) : (double)NAN;
}

static inline double near_asinh(double x)
{
    const double size = fabs(x);
    const double more = size + size * size / (1.0 + sqrt(1.0 + size * size));
    return copysign(near_log_of(1.0 + more, more), x);
}

static inline double near_atanh(double x)
{
    const double size = fabs(x);
    const double more = 2.0 * size / (1.0 - size);
    return size < 1.0 ? copysign(0.5 * near_log_of(1.0 + more, more), x) : (double)NAN;
}

static inline double near_softplus(double x)
{
    const double power = power_of_e(fabs(x) < 300.0 ? -fabs(x) : -300.0);
    return (x > 0.0 ? x : 0.0) + near_log_of(1.0 + power, power);
}

static inline double near_share(double x, double z)
{
    const double power = power_of_e(fabs(z) < 300.0 ? -fabs(z) : -300.0);
    return (z < 0.0 ? x * power : x) / (1.0 + power);
}

static inline double near_pow(double x, double y)
{
    const double exponent = y * near_log(x);
    return power_of_e(fabs(exponent) < 300.0 ? exponent : (double)NAN);
}

/* --- trigonometric functions --- */

#define HALF_PI 0x1.921fb54442d18p+0

/* x = k pi / 2 + r: the sine and cosine of r; returns k modulo 4. For a large x the subtraction
 * leaves too few digits of r. */
static inline int64_t turn(double x, double *sine, double *cosine)
{
    static const double s[] = {-0x1.5555555555555p-3,  0x1.1111111110bb2p-7,
                               -0x1.a01a019e83aaep-13, 0x1.71de37968a100p-19,
                               -0x1.ae600b02b6262p-26, 0x1.5e0b19f8b1451p-33};
    static const double c[] = {-0x1.0000000000000p-1,  0x1.5555555555551p-5,
                               -0x1.6c16c16c15d79p-10, 0x1.a01a019de131fp-16,
                               -0x1.27e4f8e4a2e74p-22, 0x1.1eea7f259b344p-29,
                               -0x1.8ff9d439a204ap-37, 0.0};
    const double shift = 0x1.8p52;
    const double shifted = x * 0x1.45f306dc9c883p-1 + shift;
    const double k = shifted - shift;
    double r = (x - k * 0x1.921fb544p+0) - k * 0x1.0b4611a626331p-34;
    const bool known = fabs(x) <= 32768.0 && (k == 0.0 || fabs(r) > 0x1p-10);
    r = known ? r : (double)NAN;
    const double z = r * r;
    *sine = r + r * (z * FOLD(z, s));
    *cosine = 1.0 + z * FOLD(z, c);
    int64_t bits = 0;
    memcpy(&bits, &shifted, sizeof bits);
    return bits & 3;
}

static inline double near_sin(double x)
{
    double s = 0.0;
    double c = 0.0;
    const int64_t quarter = turn(x, &s, &c);
    const double found = (quarter & 1) != 0 ? c : s;
    return (quarter & 2) != 0 ? -found : found;
}

static inline double near_cos(double x)
{
    double s = 0.0;
    double c = 0.0;
    const int64_t quarter = turn(x, &s, &c);
    const double found = (quarter & 1) != 0 ? s : c;
    return ((quarter + 1) & 2) != 0 ? -found : found;
}

static inline double near_tan(double x)
{
    double s = 0.0;
    double c = 0.0;
    const bool odd = (turn(x, &s, &c) & 1) != 0;
    return (odd ? -c : s) / (odd ? s : c);
}

static inline double near_atan(double x)
{
    static const double c[] = {-0x1.5555555555546p-2, 0x1.9999999990a9fp-3,  -0x1.2492491dd4b29p-3,
                               0x1.c71c6dd1ca28cp-4,  -0x1.745c7f8421f5cp-4, 0x1.3b068efc532d3p-4,
                               -0x1.105e40d85ead1p-4, 0x1.d5eb9ad0804d0p-5,  -0x1.6f4657797fec4p-5,
                               0x1.74bea059cee82p-6};
    const double size = fabs(x);
    const bool far = size > 0x1.3504f333f9de6p+1; /* 1 + sqrt(2) */
    const bool middle = size > 0x1.a827999fcef32p-2;
    const double above = far ? -1.0 : middle ? size - 1.0 : size;
    const double t = above / (far ? size : middle ? size + 1.0 : 1.0);
    const double z = t * t;
    const double found = t + t * (z * FOLD(z, c));
    return copysign(found + (far ? HALF_PI : middle ? HALF_PI / 2 : 0.0), x);
}

/* asin |x| for |x| <= 1/2; beyond that asin(sqrt((1 - |x|) / 2)). */
static inline double half_asin(double x)
{
    static const double c[] = {0x1.555555555554fp-3, 0x1.3333333336da5p-4,  0x1.6db6db684b6a1p-5,
                               0x1.f1c71f95269afp-6, 0x1.6e8b2b3b10be4p-6,  0x1.1c593c7b1d958p-6,
                               0x1.c87265d47ef49p-7, 0x1.8522ddffa6208p-7,  0x1.ff5fc4d14c735p-8,
                               0x1.06b9d26d10838p-6, -0x1.603991d6060e0p-7, 0x1.cd864394d2ff2p-6};
    const double size = fabs(x);
    const double z = size > 0.5 ? 0.5 * (1.0 - size) : size * size;
    const double t = size > 0.5 ? sqrt(z) : size;
    return t + t * (z * FOLD(z, c));
}

static inline double near_asin(double x)
{
    const double half = half_asin(x);
    return copysign(fabs(x) > 0.5 ? HALF_PI - 2.0 * half : half, x);
}

static inline double near_acos(double x)
{
    const double half = half_asin(x);
    const double outer = x > 0.0 ? 2.0 * half : 2.0 * HALF_PI - 2.0 * half;
    return fabs(x) > 0.5 ? outer : HALF_PI - copysign(half, x);
}

/* --- rows --- */

#define NEAR_LIST(X)                                                    \
    X(Acos, near_acos(x))                                               \
    X(Acosh, near_acosh(x))                                             \
    X(Asin, near_asin(x))                                               \
    X(Asinh, near_asinh(x))                                             \
    X(Atan, near_atan(x))                                               \
    X(Atanh, near_atanh(x))                                             \
    X(Celu, x > 0.0 ? x : a > 0.0 ? a * exp_below(x / a) : (double)NAN) \
    X(Cos, near_cos(x))                                                 \
    X(Cosh, near_cosh(x))                                               \
    X(Elu, x < 0.0 ? a * exp_below(x) : x)                              \
    X(Log, near_log(x))                                                 \
    X(Mish, near_mish(x))                                               \
    X(Pow, near_pow(x, (double)w[i]))                                   \
    X(Selu, x > 0.0 ? g * x : g * a * exp_below(x))                     \
    X(Sin, near_sin(x))                                                 \
    X(Sinh, near_sinh(x))                                               \
    X(Softplus, near_softplus(x))                                       \
    X(SwiGLU, near_share(x, a *x) * (double)w[i])                       \
    X(Swish, near_share(x, a *x))                                       \
    X(Tan, near_tan(x))

/* Unlike those for AVX-512, the compiler's clone for AVX2 has no fused multiply-add. */
#if defined(__x86_64__)
#define FUSED __attribute__((target("avx2,fma")))
static bool is_fused(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           !__builtin_cpu_supports("avx512f");
}
#else
#define FUSED
static bool is_fused(void)
{
    return false;
}
#endif

#define DEFINE_NEAR_AS(name, expression)                                                          \
    static void name(int64_t n, const float *v, const float *w, double a, double g, double *near) \
    {                                                                                             \
        (void)w;                                                                                  \
        (void)a;                                                                                  \
        (void)g;                                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const double x = (double)v[i];                                                        \
            near[i] = (expression);                                                               \
        }                                                                                         \
    }
#define DEFINE_NEAR(name, expression)                \
    REF_WIDE DEFINE_NEAR_AS(near_##name, expression) \
    FUSED DEFINE_NEAR_AS(fused_##name, expression)
NEAR_LIST(DEFINE_NEAR)

/* Zeros go to the C library, because their sign is not handled here. */
REF_WIDE static uint32_t round_near(int64_t n, const float *v, const float *w, const double *near,
                                    float *to, uint32_t *odd)
{
    uint32_t any = 0;
    for (int64_t i = 0; i < n; i++) {
        const float low = (float)(near[i] * (1.0 - DOUBT));
        const float high = (float)(near[i] * (1.0 + DOUBT));
        const float none = (v[i] - v[i]) + (w[i] - w[i]); /* 0 unless an argument is not finite */
        to[i] = low;
        odd[i] = (uint32_t)((low != high) | (low == 0.0F) | (none != 0.0F));
        any |= odd[i];
    }
    return any;
}

#define DEFINE_ROW(name, expression)                                                         \
    static int64_t row_##name(int64_t n, const float *v, const float *w, double a, double g, \
                              float *to, uint8_t *unsure)                                    \
    {                                                                                        \
        double near[REF_CHUNK];                                                              \
        (is_fused() ? fused_##name : near_##name)(n, v, w, a, g, near);                      \
        return list_unsure(n, v, w, near, to, unsure);                                       \
    }

static int64_t list_unsure(int64_t n, const float *v, const float *w, const double *near, float *to,
                           uint8_t *unsure)
{
    uint32_t odd[REF_CHUNK];
    int64_t count = 0;
    const bool any = round_near(n, v, w, near, to, odd) != 0;
    for (int64_t i = 0; any && i < n; i++) {
        unsure[count] = (uint8_t)i;
        count += odd[i] != 0;
    }
    return count;
}

NEAR_LIST(DEFINE_ROW)

static const ref_near_row rows[REF_UNARY_COUNT] = {
#define LIST_ROW(name, expression) [REF_UNARY_##name] = row_##name,
    NEAR_LIST(LIST_ROW)};

bool ref_has_near(int variant)
{
    return rows[variant] != NULL;
}

int64_t ref_near(int variant, double a, double g, int64_t n, const float *v, const float *w,
                 float *to, uint8_t unsure[REF_CHUNK])
{
    const ref_near_row wide = ref_wide_row(variant);
    const int64_t whole = wide != NULL ? n - n % 8 : n;
    const size_t rest = (size_t)(n - whole) * sizeof *v;
    float last[3][8] = {{0}};
    uint8_t odd[8];
    int64_t count = (wide != NULL ? wide : rows[variant])(whole, v, w, a, g, to, unsure);
    if (rest > 0) {
        memcpy(last[0], v + whole, rest);
        memcpy(last[1], w + whole, rest);
        const int64_t more = wide(8, last[0], last[1], a, g, last[2], odd);
        memcpy(to + whole, last[2], rest);
        for (int64_t i = 0; i < more; i++) {
            if (whole + odd[i] < n) {
                unsure[count++] = (uint8_t)(whole + odd[i]);
            }
        }
    }
    return count;
}

REF_WIDE static bool round_within(int64_t n, const double *restrict values,
                                  const double *restrict doubts, double scale, float *restrict y)
{
    uint32_t unsure = 0;
    for (int64_t i = 0; i < n; i++) {
        const float low = (float)((values[i] - doubts[i]) * scale + 0.0);
        const float high = (float)((values[i] + doubts[i]) * scale + 0.0);
        const uint32_t open =
            (uint32_t)(low != high) | ((uint32_t)(low == 0.0F) & (uint32_t)(doubts[i] != 0.0));
        y[i] = open != 0 ? NAN : low;
        unsure |= open;
    }
    return unsure == 0;
}

bool ref_round_within(int64_t n, const double *values, const double doubts[REF_DOUBTS],
                      double scale, float *y)
{
    double all[REF_CHUNK]; /* the error bound, repeated */
    bool sure = true;
    for (int64_t i = 0; i < REF_CHUNK && i < n; i += REF_DOUBTS) {
        memcpy(all + i, doubts, REF_DOUBTS * sizeof *all);
    }
    for (int64_t i = 0; i < n; i += REF_CHUNK) {
        const int64_t count = n - i < REF_CHUNK ? n - i : REF_CHUNK;
        sure &= round_within(count, values + i, all, scale, y + i);
    }
    return sure;
}
