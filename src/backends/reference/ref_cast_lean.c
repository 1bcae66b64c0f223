/* SPDX-License-Identifier: Apache-2.0 */
/* Direct casts, with the same results as casts through doubles or 64-bit integers. */
#include "ref_ops.h"

/* The target types of numbers. */
#define TO_INTS(X, ...)                       \
    X(KILN_DTYPE_INT8, int8_t, __VA_ARGS__)   \
    X(KILN_DTYPE_INT16, int16_t, __VA_ARGS__) \
    X(KILN_DTYPE_INT32, int32_t, __VA_ARGS__) \
    X(KILN_DTYPE_INT64, int64_t, __VA_ARGS__)

typedef uint16_t bfloat;

/* Rounds to nearest even; NaN keeps its sign and its leading bits. */
static inline bfloat bfloat_of(float v)
{
    uint32_t bits = 0;
    memcpy(&bits, &v, sizeof bits);
    const uint32_t near = (bits + 0x7fffU + (bits >> 16 & 1U)) >> 16;
    return (bfloat)((bits & 0x7fffffffU) > 0x7f800000U ? bits >> 16 | 0x40U : near);
}

/* From integers; to fewer bits they wrap. */
#define DEFINE_CAST(from, to, expression)                                  \
    REF_WIDE static bool from##_as_##to(const void *x, int64_t n, void *y) \
    {                                                                      \
        for (int64_t i = 0; i < n; i++) {                                  \
            const from v = ((const from *)x)[i];                           \
            ((to *)y)[i] = (to)(expression);                               \
        }                                                                  \
        return true;                                                       \
    }
#define DEFINE_TO_INT(dtype, to, from) DEFINE_CAST(from, to, v)
#define DEFINE_OF_INT(dtype, from, unused)                               \
    TO_INTS(DEFINE_TO_INT, from)                                         \
    DEFINE_CAST(from, bool, v != 0)                                      \
    DEFINE_CAST(from, float, sizeof v < 8 ? (float)v : (float)(double)v) \
    DEFINE_CAST(from, double, v)
REF_INTS(DEFINE_OF_INT, 0)
DEFINE_CAST(float, double, v)
DEFINE_CAST(float, bool, v != 0)
DEFINE_CAST(double, bool, v != 0)
DEFINE_CAST(double, float, v)
DEFINE_CAST(float, bfloat, bfloat_of(v))

/* Truncates towards zero if all values fit into 32 bits; else returns false. */
#define DEFINE_SMALL(from, lane, size)                                 \
    REF_WIDE static bool from##_small(const from *x, int64_t n)        \
    {                                                                  \
        lane large = 0;                                                \
        for (int64_t i = 0; i < n; i++) {                              \
            large |= !(size(x[i]) < (from)2147483648.0); /* NaN too */ \
        }                                                              \
        return large == 0;                                             \
    }
DEFINE_SMALL(float, int32_t, fabsf)
DEFINE_SMALL(double, int64_t, fabs)
#define DEFINE_TRUNCATE(dtype, to, from)                                  \
    REF_WIDE static void from##_cut_##to(const from *x, int64_t n, to *y) \
    {                                                                     \
        for (int64_t i = 0; i < n; i++) {                                 \
            y[i] = (to)(int32_t)x[i];                                     \
        }                                                                 \
    }                                                                     \
    static bool from##_as_##to(const void *x, int64_t n, void *y)         \
    {                                                                     \
        const bool small = from##_small(x, n);                            \
        if (small) {                                                      \
            from##_cut_##to(x, n, y);                                     \
        }                                                                 \
        return small;                                                     \
    }
TO_INTS(DEFINE_TRUNCATE, float)
TO_INTS(DEFINE_TRUNCATE, double)

/* The signed integer type of the same size. */
static kiln_dtype wrapped(kiln_dtype dtype)
{
    switch (dtype) {
        case KILN_DTYPE_UINT8: return KILN_DTYPE_INT8;
        case KILN_DTYPE_UINT16: return KILN_DTYPE_INT16;
        case KILN_DTYPE_UINT32: return KILN_DTYPE_INT32;
        case KILN_DTYPE_UINT64: return KILN_DTYPE_INT64;
        default: return dtype;
    }
}

ref_lean_cast ref_lean_cast_of(kiln_dtype from, kiln_dtype to)
{
#define LIST_TO_INT(dtype, to, from) [dtype] = from##_as_##to,
#define LIST_OF(from) TO_INTS(LIST_TO_INT, from)[KILN_DTYPE_BOOL] = from##_as_bool,
#define LIST_OF_INT(dtype, from, unused)                                                   \
    [dtype] = {LIST_OF(from)[KILN_DTYPE_FLOAT32] = from##_as_float, [KILN_DTYPE_FLOAT64] = \
                                                                        from##_as_double},
    static const ref_lean_cast casts[][KILN_DTYPE_BOOL + 1] = {
        REF_INTS(LIST_OF_INT, 0)[KILN_DTYPE_FLOAT32] =
            {LIST_OF(float)[KILN_DTYPE_FLOAT64] = float_as_double, [KILN_DTYPE_BFLOAT16] =
                                                                       float_as_bfloat},
        [KILN_DTYPE_FLOAT64] = {LIST_OF(double)[KILN_DTYPE_FLOAT32] = double_as_float}};
    const kiln_dtype type = from == KILN_DTYPE_BOOL ? KILN_DTYPE_UINT8 : from;
    const bool some = type < KILN_DTYPE_BOOL && to <= KILN_DTYPE_BOOL;
    return some ? casts[type][wrapped(to)] : NULL;
}
