/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* The same for contiguous elements, in the type itself. Float arithmetic gives what rounding a
 * double result to float gives, because a double has more than twice the digits; integers wrap in
 * both. */

#define DEFINE_LEAN(clones, name, in, result, expression)                                          \
    clones static void lean_##in##_##name(int64_t n, const void *a, int64_t a_step, const void *b, \
                                          int64_t b_step, void *out)                               \
    {                                                                                              \
        const in *left = a;                                                                        \
        const in *right = b;                                                                       \
        result *to = out;                                                                          \
        for (int64_t i = 0; a_step == 1 && b_step == 1 && i < n; i++) {                            \
            const in x = left[i];                                                                  \
            const in y = right[i];                                                                 \
            to[i] = (result)(expression);                                                          \
        }                                                                                          \
        const in second = right[0];                                                                \
        for (int64_t i = 0; a_step == 1 && b_step == 0 && i < n; i++) {                            \
            const in x = left[i];                                                                  \
            const in y = second;                                                                   \
            to[i] = (result)(expression);                                                          \
        }                                                                                          \
        const in first = left[0];                                                                  \
        for (int64_t i = 0; a_step == 0 && i < n; i++) {                                           \
            const in x = first;                                                                    \
            const in y = right[i * b_step];                                                        \
            to[i] = (result)(expression);                                                          \
        }                                                                                          \
    }
#define LEAN_FLOATS(X)                \
    X(Add, x + y)                     \
    X(Sub, x - y)                     \
    X(Mul, x *y)                      \
    X(Div, x / y)                     \
    X(Max, isnan(x) || x > y ? x : y) \
    X(Min, isnan(x) || x < y ? x : y) \
    X(PRelu, x < 0 ? x * y : x)       \
    X(Fmod, fabs((double)x) < fabs((double)y) ? (double)x : fmod((double)x, (double)y))
/* Operations that do not depend on the sign of the type, and those that do. */
#define LEAN_BITS(X)                  \
    X(Add, (uint64_t)x + (uint64_t)y) \
    X(Sub, (uint64_t)x - (uint64_t)y) \
    X(Mul, (uint64_t)x *(uint64_t)y)  \
    X(BitwiseAnd, x &y)               \
    X(BitwiseOr, x | y)               \
    X(BitwiseXor, x ^ y)
#define LEAN_INTS(X)      \
    X(Max, x > y ? x : y) \
    X(Min, x < y ? x : y)
/* Integer division in a floating-point type with twice the digits, truncated: no other quotient is
 * close enough to an integer to round to it. `rest` has the sign of x; division by zero gives 0. */
#define LEAN_QUOTIENTS(X)              \
    X(Div, quotient)                   \
    X(Mod, rest + (odd ? divisor : 0)) \
    X(Fmod, rest)

#define FLOATS(X, ...)                        \
    X(KILN_DTYPE_FLOAT32, float, __VA_ARGS__) \
    X(KILN_DTYPE_FLOAT64, double, __VA_ARGS__)
/* Types by size, for operations that ignore the sign. */
#define BITS(X, ...)                            \
    X(KILN_DTYPE_UINT8, uint8_t, __VA_ARGS__)   \
    X(KILN_DTYPE_UINT16, uint16_t, __VA_ARGS__) \
    X(KILN_DTYPE_UINT32, uint32_t, __VA_ARGS__) \
    X(KILN_DTYPE_UINT64, uint64_t, __VA_ARGS__)
/* With the type of the quotient, and that of the truncated quotient. */
#define NARROW_INTS(X, ...)                                     \
    X(KILN_DTYPE_INT8, int8_t, float, int32_t, __VA_ARGS__)     \
    X(KILN_DTYPE_UINT8, uint8_t, float, int32_t, __VA_ARGS__)   \
    X(KILN_DTYPE_INT16, int16_t, float, int32_t, __VA_ARGS__)   \
    X(KILN_DTYPE_UINT16, uint16_t, float, int32_t, __VA_ARGS__) \
    X(KILN_DTYPE_INT32, int32_t, double, int64_t, __VA_ARGS__)  \
    X(KILN_DTYPE_UINT32, uint32_t, double, int64_t, __VA_ARGS__)

/* Vectors wider than AVX2's lack instructions for most integer operations. */
#define BROAD KLN_CLONES("avx2", "default")
#define DEFINE_FLOAT(dtype, type, name, expression) \
    DEFINE_LEAN(REF_WIDE, name, type, type, expression)
#define DEFINE_INT(dtype, type, name, expression) DEFINE_LEAN(BROAD, name, type, type, expression)
#define DEFINE_EXTREME(dtype, type, name, expression) \
    DEFINE_LEAN(REF_WIDE, name, type, type, expression)
#define DEFINE_FLOATS(name, expression) FLOATS(DEFINE_FLOAT, name, expression)
#define DEFINE_BITS(name, expression) BITS(DEFINE_INT, name, expression)
#define DEFINE_EXTREMES(name, expression) REF_INTS(DEFINE_EXTREME, name, expression)
LEAN_FLOATS(DEFINE_FLOATS)
LEAN_BITS(DEFINE_BITS)
LEAN_INTS(DEFINE_EXTREMES)

#define DEFINE_QUOTIENT(dtype, type, real, whole, name, expression)                         \
    static inline type type##_##name(type x, type y)                                        \
    {                                                                                       \
        const whole divisor = (whole)y;                                                     \
        const whole quotient = (whole)((real)x / (real)(y == 0 ? 1 : y)) * (whole)(y != 0); \
        const whole rest = (y == 0 ? 0 : (whole)x) - quotient * divisor;                    \
        const bool odd = (rest != 0) & ((rest < 0) != (divisor < 0));                       \
        (void)odd;                                                                          \
        return (type)(expression);                                                          \
    }                                                                                       \
    DEFINE_LEAN(BROAD, name, type, type, type##_##name(x, y))
#define DEFINE_QUOTIENTS(name, expression) NARROW_INTS(DEFINE_QUOTIENT, name, expression)
LEAN_QUOTIENTS(DEFINE_QUOTIENTS)

#define DEFINE_COMPARE_FLOAT(dtype, type, name, expression) \
    DEFINE_LEAN(REF_WIDE, name, type, uint8_t, expression)
#define DEFINE_COMPARE_INT(dtype, type, name, expression) \
    DEFINE_LEAN(BROAD, name, type, uint8_t, expression)
#define DEFINE_COMPARES(name, since, expression)   \
    FLOATS(DEFINE_COMPARE_FLOAT, name, expression) \
    REF_INTS(DEFINE_COMPARE_INT, name, expression)
REF_COMPARE_LIST(DEFINE_COMPARES)

/* By variant and type; NULL if there is none. */
#define LIST_LEAN(dtype, type, name) [REF_BINARY_##name][dtype] = lean_##type##_##name,
#define LIST_FLOATS(name, expression) FLOATS(LIST_LEAN, name)
#define LIST_BIT(dtype, type, name) [REF_BINARY_##name][dtype] = lean_u##type##_##name,
#define LIST_BITS(name, expression)           \
    BITS(LIST_LEAN, name)                     \
    LIST_BIT(KILN_DTYPE_INT8, int8_t, name)   \
    LIST_BIT(KILN_DTYPE_INT16, int16_t, name) \
    LIST_BIT(KILN_DTYPE_INT32, int32_t, name) LIST_BIT(KILN_DTYPE_INT64, int64_t, name)
#define LIST_INTS(name, expression) REF_INTS(LIST_LEAN, name)
#define LIST_QUOTIENT(dtype, type, real, whole, name) \
    [REF_BINARY_##name][dtype] = lean_##type##_##name,
#define LIST_QUOTIENTS(name, expression) NARROW_INTS(LIST_QUOTIENT, name)
static const ref_lean_function binary_leans[][KILN_DTYPE_BOOL] = {LEAN_FLOATS(
    LIST_FLOATS) LEAN_BITS(LIST_BITS) LEAN_INTS(LIST_INTS) LEAN_QUOTIENTS(LIST_QUOTIENTS)};
#define LIST_COMPARE(dtype, type, name) [REF_COMPARE_##name][dtype] = lean_##type##_##name,
#define LIST_COMPARES(name, since, expression) \
    FLOATS(LIST_COMPARE, name)                 \
    REF_INTS(LIST_COMPARE, name)
static const ref_lean_function compare_leans[][KILN_DTYPE_BOOL] = {REF_COMPARE_LIST(LIST_COMPARES)};

ref_lean_function ref_lean_binary(int variant, kiln_dtype dtype)
{
    const bool some = dtype < KILN_DTYPE_BOOL && (size_t)variant < KLN_ARRAY_LENGTH(binary_leans);
    return some ? binary_leans[variant][dtype] : NULL;
}

/* For bool only comparisons that depend on its truth value. */
ref_lean_function ref_lean_compare(int variant, kiln_dtype dtype)
{
    const kiln_dtype type = dtype == KILN_DTYPE_BOOL ? KILN_DTYPE_UINT8 : dtype;
    return type < KILN_DTYPE_BOOL ? compare_leans[variant][type] : NULL;
}
