/* SPDX-License-Identifier: Apache-2.0 */
/* Finds maximum and minimum and their positions, in the elements' own type. */
#include "ref_rows.h"

#define LANES(type) (sizeof(type) < 4 ? 64 : 32) /* as many as fit into registers */
/* These are bound by memory, so wider vectors do not help. AVX2 has no 64-bit maximum. */
#define BROAD KLN_CLONES("avx2", "default")

/* A type, the integer type of a lane in its comparison results, and instruction sets. */
#define TYPES(X)                                     \
    X(KILN_DTYPE_FLOAT32, float, int32_t, REF_WIDE)  \
    X(KILN_DTYPE_FLOAT64, double, int64_t, REF_WIDE) \
    X(KILN_DTYPE_INT8, int8_t, int8_t, BROAD)        \
    X(KILN_DTYPE_UINT8, uint8_t, int8_t, BROAD)      \
    X(KILN_DTYPE_INT16, int16_t, int16_t, BROAD)     \
    X(KILN_DTYPE_UINT16, uint16_t, int16_t, BROAD)   \
    X(KILN_DTYPE_INT32, int32_t, int32_t, BROAD)     \
    X(KILN_DTYPE_UINT32, uint32_t, int32_t, BROAD)   \
    X(KILN_DTYPE_INT64, int64_t, int64_t, REF_WIDE)  \
    X(KILN_DTYPE_UINT64, uint64_t, int64_t, REF_WIDE)

/* The extreme of a row, and whether it contains NaN; `beats` decides which of two values stays. For
 * columns, NaN is both the maximum and the minimum. */
#define DEFINE_EXTREME(clones, type, lane, name, beats)                            \
    clones static bool type##_##name(const void *from, int64_t n, void *extreme)   \
    {                                                                              \
        const type *x = from;                                                      \
        type best[LANES(type)];                                                    \
        lane odd[LANES(type)] = {0};                                               \
        const int64_t whole = n - n % LANES(type);                                 \
        for (int k = 0; k < LANES(type); k++) {                                    \
            best[k] = x[0];                                                        \
        }                                                                          \
        for (int64_t i = 0; i < whole; i += LANES(type)) {                         \
            for (int k = 0; k < LANES(type); k++) {                                \
                const type v = x[i + k];                                           \
                best[k] = v beats best[k] ? v : best[k];                           \
                odd[k] |= v != v;                                                  \
            }                                                                      \
        }                                                                          \
        for (int64_t i = whole; i < n; i++) {                                      \
            best[i - whole] = x[i] beats best[i - whole] ? x[i] : best[i - whole]; \
            odd[i - whole] |= x[i] != x[i];                                        \
        }                                                                          \
        for (int half = LANES(type) / 2; half >= 8; half /= 2) {                   \
            for (int k = 0; k < half; k++) {                                       \
                best[k] = best[k + half] beats best[k] ? best[k + half] : best[k]; \
                odd[k] |= odd[k + half];                                           \
            }                                                                      \
        }                                                                          \
        for (int k = 0; k < 4; k++) {                                              \
            best[k] = best[k + 4] beats best[k] ? best[k + 4] : best[k];           \
            odd[k] |= odd[k + 4];                                                  \
        }                                                                          \
        best[0] = best[2] beats best[0] ? best[2] : best[0];                       \
        best[1] = best[3] beats best[1] ? best[3] : best[1];                       \
        best[0] = best[1] beats best[0] ? best[1] : best[0];                       \
        memcpy(extreme, best, sizeof *best);                                       \
        return (odd[0] | odd[1] | odd[2] | odd[3]) != 0;                           \
    }                                                                              \
    clones static void type##_best_##name(const void *from, int64_t n, void *kept) \
    {                                                                              \
        const type *x = from;                                                      \
        type *best = kept;                                                         \
        KLN_INDEPENDENT                                                            \
        for (int64_t i = 0; i < n; i++) {                                          \
            best[i] = ((x[i] beats best[i]) | (x[i] != x[i])) ? x[i] : best[i];    \
        }                                                                          \
    }
#define DEFINE_PLACE(clones, type, name, beats)                                                  \
    clones static void type##_place_##name(const void *from, int64_t n, int32_t row, void *kept, \
                                           int32_t *place, int32_t *odd)                         \
    {                                                                                            \
        const type *x = from;                                                                    \
        type *best = kept;                                                                       \
        KLN_INDEPENDENT                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                        \
            const bool better = x[i] beats best[i];                                              \
            best[i] = better ? x[i] : best[i];                                                   \
            place[i] = better ? row : place[i];                                                  \
            odd[i] |= x[i] != x[i];                                                              \
        }                                                                                        \
    }
/* The position of the first (or last) `value`, which must occur. */
#define DEFINE_EQUAL(clones, type, lane)                                                \
    clones static int64_t type##_equal(const void *from, int64_t n, const void *wanted) \
    {                                                                                   \
        const type *x = from;                                                           \
        type value;                                                                     \
        memcpy(&value, wanted, sizeof value);                                           \
        int64_t i = 0;                                                                  \
        for (; i + LANES(type) <= n; i += LANES(type)) {                                \
            lane some = 0;                                                              \
            for (int64_t k = 0; k < LANES(type); k++) {                                 \
                some |= x[i + k] == value;                                              \
            }                                                                           \
            if (some != 0) {                                                            \
                break;                                                                  \
            }                                                                           \
        }                                                                               \
        while (x[i] != value) {                                                         \
            i++;                                                                        \
        }                                                                               \
        return i;                                                                       \
    }                                                                                   \
    static int64_t type##_last_equal(const void *from, int64_t n, const void *wanted)   \
    {                                                                                   \
        const type *x = from;                                                           \
        type value;                                                                     \
        memcpy(&value, wanted, sizeof value);                                           \
        while (x[n - 1] != value) {                                                     \
            n--;                                                                        \
        }                                                                               \
        return n - 1;                                                                   \
    }
#define DEFINE(dtype, type, lane, clones)           \
    DEFINE_EXTREME(clones, type, lane, greatest, >) \
    DEFINE_EXTREME(clones, type, lane, least, <)    \
    DEFINE_PLACE(clones, type, greatest, >)         \
    DEFINE_PLACE(clones, type, last_greatest, >=)   \
    DEFINE_PLACE(clones, type, least, <)            \
    DEFINE_PLACE(clones, type, last_least, <=)      \
    DEFINE_EQUAL(clones, type, lane)
TYPES(DEFINE)

const ref_extremes *ref_extremes_of(kiln_dtype dtype)
{
#define LIST(dtype, type, lane, clones)                               \
    [dtype] = {{type##_least, type##_greatest},                       \
               {type##_best_least, type##_best_greatest},             \
               {{type##_place_least, type##_place_last_least},        \
                {type##_place_greatest, type##_place_last_greatest}}, \
               {type##_equal, type##_last_equal}},
    static const ref_extremes all[] = {TYPES(LIST)};
    const kiln_dtype type = dtype == KILN_DTYPE_BOOL ? KILN_DTYPE_UINT8 : dtype;
    const bool some = type < KLN_ARRAY_LENGTH(all) && all[type].find[0] != NULL;
    return some ? &all[type] : NULL;
}

bool ref_find_extreme(const float *x, int64_t n, bool most, float *extreme)
{
    return !(most ? float_greatest : float_least)(x, n, extreme);
}

int64_t ref_find_equal(const float *x, int64_t n, float value)
{
    return float_equal(x, n, &value);
}

void ref_place_columns(kiln_dtype dtype, const void *x, int64_t step, int64_t rows, int64_t n,
                       bool most, bool last, int32_t *place)
{
    const ref_extremes *of = ref_extremes_of(dtype);
    const size_t size = ref_element_size(dtype);
    uint64_t best[REF_COLUMNS];
    int32_t odd[REF_COLUMNS] = {0};
    memcpy(best, x, (size_t)n * size);
    memset(place, 0, (size_t)n * sizeof *place);
    for (int32_t r = 0; r < rows; r++) {
        of->place[most][last]((const char *)x + (size_t)(r * step) * size, n, r, best, place, odd);
    }
    for (int64_t i = 0; i < n; i++) {
        place[i] = odd[i] != 0 ? -1 : place[i];
    }
}
