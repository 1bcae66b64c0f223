/* SPDX-License-Identifier: Apache-2.0 */
/* Exp, Sigmoid and Tanh of every float, against the C library: most are compared with a reference
 * of their own, made for vectors, which says how far it can be off. */
#include "base/kln_base.h"
#include "reference_test.h"

enum { EXP, SIGMOID, TANH };
#define AT_ONCE (1 << 16)
#define SURE 1024 /* numbers that are compared at once */

/* e^x = (e^(x/256))^256 by the series, within 2^-43 of itself. */
static inline double power_of(double x)
{
    const double r = (x < -150.0 ? -150.0 : x > 150.0 ? 150.0 : x) * 0x1p-8;
    double sum = 1.0;
#define TERM(k) sum = 1.0 + sum * (r * (1.0 / (k)))
    TERM(16), TERM(15), TERM(14), TERM(13), TERM(12), TERM(11), TERM(10), TERM(9);
    TERM(8), TERM(7), TERM(6), TERM(5), TERM(4), TERM(3), TERM(2), TERM(1);
    for (int k = 0; k < 8; k++) {
        sum *= sum;
    }
    return sum;
}

static inline double logistic_of(double x)
{
    const double power = power_of(x >= 0.0 ? -x : x);
    return (x >= 0.0 ? 1.0 : power) / (1.0 + power);
}

/* As sinh over cosh, both by their series, where it is small. */
static inline double tangent_of(double x)
{
    const double size = fabs(x);
    const double r = size < 0.5 ? size : 0.5;
    double sine = 1.0;
    double cosine = 1.0;
#define TERMS(k)                                             \
    sine = 1.0 + sine * (r * r * (1.0 / ((k) * ((k) + 1)))), \
    cosine = 1.0 + cosine * (r * r * (1.0 / ((k) * ((k)-1))))
    TERMS(14), TERMS(12), TERMS(10), TERMS(8), TERMS(6), TERMS(4), TERMS(2);
    const double large = 1.0 - 2.0 / (power_of(2.0 * size) + 1.0);
    return copysign(size < 0.5 ? size * sine / cosine : size >= 0.5 ? large : size, x);
}

/* The floats that a function, found within 2^-42, lies between: nearly always one. The C library's
 * double, which is within a few of its last digits, then rounds to that float too. */
#define BOUNDS(name, function)                                           \
    KLN_CLONES("avx512f", "avx2", "default")                             \
    static void name(int count, const float *x, float *low, float *high) \
    {                                                                    \
        for (int i = 0; i < count; i++) {                                \
            const double found = function((double)x[i]);                 \
            low[i] = (float)(found * (1.0 - 0x1p-42));                   \
            high[i] = (float)(found * (1.0 + 0x1p-42));                  \
        }                                                                \
    }
BOUNDS(bound_exp, power_of)
BOUNDS(bound_logistic, logistic_of)
BOUNDS(bound_tangent, tangent_of)

/* Whether y is the one float that the function has between the first and the last x, which lie in
 * order: all three functions grow. */
static bool is_level(const float low[2], const float high[2], const float *y)
{
    return memcmp(low, high, 2 * sizeof *low) == 0 && memcmp(&low[0], &low[1], sizeof *low) == 0 &&
           memcmp(y, low, sizeof *y) == 0 && memcmp(y, y + 1, (SURE - 1) * sizeof *y) == 0;
}

static float by_library(int function, double x)
{
    const double power = exp(x >= 0.0 ? -x : x);
    return (float)(function == EXP    ? exp(x)
                   : function == TANH ? tanh(x)
                   : x >= 0           ? 1.0 / (1.0 + power)
                                      : power / (1.0 + power));
}

static void (*const bounds[])(int, const float *, float *, float *) = {
    [EXP] = bound_exp, [SIGMOID] = bound_logistic, [TANH] = bound_tangent};

/* Whether all y are what the C library gives, without asking it; in the room of `low` and `high`.
 * tanh x = x - x^3 / 3 + ... */
static bool is_sure(int function, const float *x, const float *y, float low[SURE], float high[SURE])
{
    const float ends[2] = {x[0], x[SURE - 1]};
    const bool small = fabsf(ends[0]) < 0x1p-13F && fabsf(ends[1]) < 0x1p-13F;
    bounds[function](2, ends, low, high);
    if (function == TANH && small ? memcmp(x, y, SURE * sizeof *x) == 0 : is_level(low, high, y)) {
        return true;
    }
    bounds[function](SURE, x, low, high);
    return memcmp(y, low, SURE * sizeof *y) == 0 && memcmp(y, high, SURE * sizeof *y) == 0;
}

/* `step` bits lie between an x and the next; of neighbours the library is asked for one in 64 even
 * where all is sure. */
static void expect_library(int function, uint64_t step, const float *x, const float *y)
{
    float low[SURE];
    float high[SURE];
    const size_t every = step == 1 && is_sure(function, x, y, low, high) ? 64 : 1;
    if (every == 1) {
        bounds[function](SURE, x, low, high);
    }
    for (size_t k = 0; k < SURE; k += every) {
        const float expected = by_library(function, (double)x[k]);
        if (isnan(x[k]) ? !isnan(y[k]) : memcmp(&y[k], &expected, sizeof expected) != 0) {
            fail_msg("function %d of %a is %a, not %a", function, (double)x[k], (double)y[k],
                     (double)expected);
        }
        if (every == 1 &&
            (expected < fminf(low[k], high[k]) || expected > fmaxf(low[k], high[k]))) {
            fail_msg("function %d of %a is not of %a to %a", function, (double)x[k], (double)low[k],
                     (double)high[k]);
        }
    }
}

/* With KILN_EVERY_FLOAT set each there is, else one of 4099. */
TEST(functions_are_the_library_s)
{
    static const char *const ops[] = {[EXP] = "Exp", [SIGMOID] = "Sigmoid", [TANH] = "Tanh"};
    static float a[AT_ONCE];
    const uint64_t step = getenv("KILN_EVERY_FLOAT") != NULL ? 1 : 4099;
    for (int i = EXP; i <= TANH; i++) {
        graph_maker m;
        maker_model(&m, 17, "in a float32[n]");
        maker_node(&m, ops[i], "a", "y");
        maker_output(&m, "y", 1, NULL);
        owned_context context = context_of(bytes_of(&m));
        kiln_tensor y;
        for (uint64_t bits = 0; bits < UINT64_C(1) << 32;) {
            for (size_t k = 0; k < AT_ONCE; k++, bits += step) {
                const uint32_t low = (uint32_t)bits;
                memcpy(&a[k], &low, sizeof low);
            }
            assert_ok(kiln_context_bind(
                context, "a",
                &KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(AT_ONCE), a, sizeof a)));
            assert_ok(kiln_context_run(context));
            assert_ok(kiln_context_tensor(context, "y", &y));
            for (size_t k = 0; k < AT_ONCE; k += SURE) {
                expect_library(i, step, a + k, (const float *)y.data + k);
            }
        }
    }
}
