/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* The same where neighbours are neighbours, in the type itself: what two floats give in double, and
 * what is rounded to float of it, is what they give in float, because a double has more than twice
 * the digits; what integers give wraps likewise. */

#define DEFINE_LEAN(name, in, result, expression)                                     \
    REF_WIDE static void lean_##in##_##name(int64_t n, const void *a, int64_t a_step, \
                                            const void *b, int64_t b_step, void *out) \
    {                                                                                 \
        const in *left = a;                                                           \
        const in *right = b;                                                          \
        result *to = out;                                                             \
        for (int64_t i = 0; a_step == 1 && b_step == 1 && i < n; i++) {               \
            const in x = left[i];                                                     \
            const in y = right[i];                                                    \
            to[i] = (result)(expression);                                             \
        }                                                                             \
        const in second = right[0];                                                   \
        for (int64_t i = 0; a_step == 1 && b_step == 0 && i < n; i++) {               \
            const in x = left[i];                                                     \
            const in y = second;                                                      \
            to[i] = (result)(expression);                                             \
        }                                                                             \
        const in first = left[0];                                                     \
        for (int64_t i = 0; a_step == 0 && i < n; i++) {                              \
            const in x = first;                                                       \
            const in y = right[i * b_step];                                           \
            to[i] = (result)(expression);                                             \
        }                                                                             \
    }
#define LEAN_FLOATS(X)                \
    X(Add, x + y)                     \
    X(Sub, x - y)                     \
    X(Mul, x *y)                      \
    X(Div, x / y)                     \
    X(Max, isnan(x) || x > y ? x : y) \
    X(Min, isnan(x) || x < y ? x : y) \
    X(PRelu, x < 0 ? x * y : x)
#define LEAN_INTS(X)                  \
    X(Add, (uint64_t)x + (uint64_t)y) \
    X(Sub, (uint64_t)x - (uint64_t)y) \
    X(Mul, (uint64_t)x *(uint64_t)y)  \
    X(Max, x > y ? x : y)             \
    X(Min, x < y ? x : y)             \
    X(BitwiseAnd, x &y)               \
    X(BitwiseOr, x | y)               \
    X(BitwiseXor, x ^ y)
#define DEFINE_FLOAT(name, expression)          \
    DEFINE_LEAN(name, float, float, expression) \
    DEFINE_LEAN(name, double, double, expression)
LEAN_FLOATS(DEFINE_FLOAT)
#define DEFINE_INTS(name, expression)               \
    DEFINE_LEAN(name, int8_t, int8_t, expression)   \
    DEFINE_LEAN(name, uint8_t, uint8_t, expression) \
    DEFINE_LEAN(name, int32_t, int32_t, expression) \
    DEFINE_LEAN(name, int64_t, int64_t, expression)
LEAN_INTS(DEFINE_INTS)
#define DEFINE_LEAN_COMPARE(name, since, expression) \
    DEFINE_LEAN(name, float, uint8_t, expression)    \
    DEFINE_LEAN(name, double, uint8_t, expression)   \
    DEFINE_LEAN(name, int8_t, uint8_t, expression)   \
    DEFINE_LEAN(name, int32_t, uint8_t, expression)  \
    DEFINE_LEAN(name, int64_t, uint8_t, expression)
REF_COMPARE_LIST(DEFINE_LEAN_COMPARE)
#define DEFINE_BYTES(name, since, expression) DEFINE_LEAN(name, uint8_t, uint8_t, expression)
REF_COMPARE_LIST(DEFINE_BYTES)

/* In which type; of bool only what looks at truth. */
typedef enum lean_type {
    LEAN_FLOAT,
    LEAN_DOUBLE,
    LEAN_INT8,
    LEAN_UINT8,
    LEAN_INT32,
    LEAN_INT64,
    LEAN_BOOL,
    LEAN_TYPES
} lean_type;

static lean_type lean_type_of(kiln_dtype dtype)
{
    switch (dtype) {
        case KILN_DTYPE_FLOAT32: return LEAN_FLOAT;
        case KILN_DTYPE_FLOAT64: return LEAN_DOUBLE;
        case KILN_DTYPE_INT8: return LEAN_INT8;
        case KILN_DTYPE_UINT8: return LEAN_UINT8;
        case KILN_DTYPE_INT32: return LEAN_INT32;
        case KILN_DTYPE_INT64: return LEAN_INT64;
        case KILN_DTYPE_BOOL: return LEAN_BOOL;
        default: return LEAN_TYPES;
    }
}

/* By variant; NULL for what has no such form. */
#define LIST_FLOAT(name, expression)                     \
    [REF_BINARY_##name][LEAN_FLOAT] = lean_float_##name, \
    [REF_BINARY_##name][LEAN_DOUBLE] = lean_double_##name,
#define LIST_INTS(name, expression)                        \
    [REF_BINARY_##name][LEAN_INT8] = lean_int8_t_##name,   \
    [REF_BINARY_##name][LEAN_UINT8] = lean_uint8_t_##name, \
    [REF_BINARY_##name][LEAN_INT32] = lean_int32_t_##name, \
    [REF_BINARY_##name][LEAN_INT64] = lean_int64_t_##name,
static const ref_lean_function binary_leans[][LEAN_TYPES] = {LEAN_FLOATS(LIST_FLOAT)
                                                                 LEAN_INTS(LIST_INTS)};
#define LIST_LEAN_COMPARE(name, since, expression)          \
    [REF_COMPARE_##name][LEAN_FLOAT] = lean_float_##name,   \
    [REF_COMPARE_##name][LEAN_DOUBLE] = lean_double_##name, \
    [REF_COMPARE_##name][LEAN_INT8] = lean_int8_t_##name,   \
    [REF_COMPARE_##name][LEAN_UINT8] = lean_uint8_t_##name, \
    [REF_COMPARE_##name][LEAN_BOOL] = lean_uint8_t_##name,  \
    [REF_COMPARE_##name][LEAN_INT32] = lean_int32_t_##name, \
    [REF_COMPARE_##name][LEAN_INT64] = lean_int64_t_##name,
static const ref_lean_function compare_leans[][LEAN_TYPES] = {REF_COMPARE_LIST(LIST_LEAN_COMPARE)};

ref_lean_function ref_lean_binary(int variant, kiln_dtype dtype)
{
    const lean_type type = lean_type_of(dtype);
    const bool some = type != LEAN_TYPES && (size_t)variant < KLN_ARRAY_LENGTH(binary_leans);
    return some ? binary_leans[variant][type] : NULL;
}

ref_lean_function ref_lean_compare(int variant, kiln_dtype dtype)
{
    const lean_type type = lean_type_of(dtype);
    return type != LEAN_TYPES ? compare_leans[variant][type] : NULL;
}
