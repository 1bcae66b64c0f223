/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions of integers, and minima and maxima of all number types. */
#include "ref_long.h"
#include "ref_reduce.h"

/* Integers wrap around, so sums need no more bits than the numbers, except for means. `part` is how
 * a number is added to a partial sum, `whole` how two sums are combined; a `few` holds the sum of
 * up to MOST numbers. */
#define SUM_LIST(X, type, total)                        \
    X(SUM, type, total, total, s + v, s + v)            \
    X(PROD, type, total, total, 1U * s * v, 1U * s * v) \
    X(SUM_SQUARE, type, total, total, s + 1U * v * v, s + v)

#define LANES 32
#define TOGETHER 4
#define MOST INT64_C(128)
/* Adds `n` numbers to one output, or one number to each of n outputs, from one row or from TOGETHER
 * rows. */
#define DEFINE_INT(name, type, few, total, part, whole)                                     \
    REF_WIDE static void type##_row_##name(const void *from, int64_t n, void *sum)          \
    {                                                                                       \
        const type *restrict x = from;                                                      \
        const few none = REF_REDUCE_##name == REF_REDUCE_PROD;                              \
        total all = *(total *)sum;                                                          \
        for (int64_t i = 0; i < n;) {                                                       \
            const int64_t end = n - i < MOST * LANES ? n : i + MOST * LANES;                \
            few sums[LANES];                                                                \
            for (int k = 0; k < LANES; k++) {                                               \
                sums[k] = none;                                                             \
            }                                                                               \
            for (; i + LANES <= end; i += LANES) {                                          \
                for (int k = 0; k < LANES; k++) {                                           \
                    const few s = sums[k];                                                  \
                    const few v = (few)x[i + k];                                            \
                    sums[k] = (few)(part);                                                  \
                }                                                                           \
            }                                                                               \
            for (int64_t k = 0; i < end; i++, k++) {                                        \
                const few s = sums[k];                                                      \
                const few v = (few)x[i];                                                    \
                sums[k] = (few)(part);                                                      \
            }                                                                               \
            for (int k = 0; k < LANES; k++) {                                               \
                const total s = all;                                                        \
                const total v = (total)sums[k];                                             \
                all = (total)(whole);                                                       \
            }                                                                               \
        }                                                                                   \
        *(total *)sum = all;                                                                \
    }                                                                                       \
    REF_WIDE static void type##_beside_##name(const void *from, int64_t rows, int64_t step, \
                                              int64_t n, void *sums)                        \
    {                                                                                       \
        const type *restrict x = from;                                                      \
        total *restrict totals = sums;                                                      \
        for (int64_t i = 0; i < (rows == TOGETHER ? n : 0); i++) {                          \
            const bool same = sizeof(few) == sizeof(total);                                 \
            few s = same ? (few)totals[i] : 0;                                              \
            for (int k = 0; k < TOGETHER; k++) {                                            \
                const few v = (few)x[i + k * step];                                         \
                s = (few)(part);                                                            \
            }                                                                               \
            totals[i] = (total)(same ? 0 : totals[i]) + (total)s;                           \
        }                                                                                   \
        for (int64_t i = 0; i < (rows == TOGETHER ? 0 : n); i++) {                          \
            const total v = (total)x[i];                                                    \
            const total s = totals[i];                                                      \
            totals[i] = (total)(part);                                                      \
        }                                                                                   \
    }
#define DEFINE_L1(type, total) \
    DEFINE_INT(L1, type, total, total, s + (v > (total)((total)-1 / 2) ? 0 - v : v), s + v)
SUM_LIST(DEFINE_INT, uint8_t, uint8_t)
SUM_LIST(DEFINE_INT, uint16_t, uint16_t)
SUM_LIST(DEFINE_INT, uint32_t, uint32_t)
SUM_LIST(DEFINE_INT, uint64_t, uint64_t)
DEFINE_L1(int8_t, uint8_t)
DEFINE_L1(int16_t, uint16_t)
DEFINE_L1(int32_t, uint32_t)
DEFINE_L1(int64_t, uint64_t)
/* Means: the sum of FEW numbers of up to 16 bits fits into 32 bits. */
#define FEW 32768
#define DEFINE_MEAN(type, few, total) DEFINE_INT(MEAN, type, few, total, s + v, s + v)
DEFINE_MEAN(int8_t, int16_t, int32_t)
DEFINE_MEAN(uint8_t, uint16_t, int32_t)
DEFINE_MEAN(int16_t, int32_t, int32_t)
DEFINE_MEAN(uint16_t, int32_t, int32_t)
DEFINE_MEAN(int32_t, int64_t, int64_t)
DEFINE_MEAN(uint32_t, int64_t, int64_t)
DEFINE_MEAN(uint64_t, uint64_t, uint64_t)

typedef struct int_fold {
    void (*row)(const void *from, int64_t n, void *sum);
    void (*beside)(const void *from, int64_t rows, int64_t step, int64_t n, void *sums);
} int_fold;

/* The functions for an integer type; the sum of a mean has 64 bits, or 32 bits for a narrow
 * type. */
static int_fold int_fold_of(ref_reduce kind, kiln_dtype dtype)
{
#define FOLD(type, name)                        \
    {                                           \
        type##_row_##name, type##_beside_##name \
    }
#define LIST_FOLD(dtype, utype, stype, mean)                      \
    [dtype] = {[REF_REDUCE_SUM] = FOLD(utype, SUM),               \
               [REF_REDUCE_PROD] = FOLD(utype, PROD),             \
               [REF_REDUCE_SUM_SQUARE] = FOLD(utype, SUM_SQUARE), \
               [REF_REDUCE_L1] = stype,                           \
               [REF_REDUCE_MEAN] = FOLD(mean, MEAN)},
    static const int_fold folds[][REF_REDUCE_LOG_SUM_EXP] = {
        LIST_FOLD(KILN_DTYPE_INT8, uint8_t, FOLD(int8_t, L1), int8_t)
            LIST_FOLD(KILN_DTYPE_UINT8, uint8_t, FOLD(uint8_t, SUM), uint8_t)
                LIST_FOLD(KILN_DTYPE_INT16, uint16_t, FOLD(int16_t, L1), int16_t) LIST_FOLD(
                    KILN_DTYPE_UINT16, uint16_t, FOLD(uint16_t, SUM), uint16_t)
                    LIST_FOLD(KILN_DTYPE_INT32, uint32_t, FOLD(int32_t, L1), int32_t) LIST_FOLD(
                        KILN_DTYPE_UINT32, uint32_t, FOLD(uint32_t, SUM), uint32_t)
                        LIST_FOLD(KILN_DTYPE_INT64, uint64_t, FOLD(int64_t, L1), uint64_t)
                            LIST_FOLD(KILN_DTYPE_UINT64, uint64_t, FOLD(uint64_t, SUM), uint64_t)};
    const int_fold found = folds[dtype][kind];
    return found.row != NULL ? found : (int_fold)FOLD(uint64_t, SUM);
}

/* The type that integers are reduced in: their own, or one of 64 bits. Bool and the 4-bit types
 * wrap around differently. */
static kiln_dtype type_folded(ref_reduce kind, kiln_dtype dtype)
{
    const bool lies =
        ref_extremes_of(dtype) != NULL && (dtype != KILN_DTYPE_BOOL || ref_is_extreme(kind));
    return lies                                          ? dtype
           : ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED ? KILN_DTYPE_UINT64
                                                         : KILN_DTYPE_INT64;
}

/* Whether a mean is summed in 32 bits. */
static bool is_narrow(ref_reduce kind, kiln_dtype dtype)
{
    return kind == REF_REDUCE_MEAN && kiln_dtype_bits(dtype) <= 16;
}

/* `n` elements of x in the type in which they are reduced: in place, or converted into `room`. */
static const void *ints_at(const ref_tensor *x, kiln_dtype dtype, int64_t start, int64_t step,
                           int64_t n, int64_t *room)
{
    const size_t size = ref_element_size(x->dtype);
    const char *from = (const char *)x->data + (size_t)start * size;
    if (dtype != x->dtype) {
        ref_load_int(x, start, step, n, room);
    } else if (step != 1) {
        ref_copy_elements(size, n, room, 1, from, step);
    }
    return dtype != x->dtype || step != 1 ? (const void *)room : from;
}

/* Reduces `n` elements of one output; `*some` says whether there were others before. */
static void fold_row(const ref_folding *fold, ref_reduce kind, int64_t start, int64_t step,
                     int64_t n, bool *some, uint64_t *total)
{
    int64_t room[REF_CHUNK];
    const kiln_dtype dtype = type_folded(kind, fold->x->dtype);
    const void *from = ints_at(fold->x, dtype, start, step, n, room);
    if (is_narrow(kind, dtype)) {
        uint32_t sum = 0;
        int_fold_of(kind, dtype).row(from, n, &sum);
        *total += (uint64_t)(int64_t)(int32_t)sum;
    } else if (!ref_is_extreme(kind)) {
        int_fold_of(kind, dtype).row(from, n, total);
    } else if (n > 0) {
        const ref_extremes *of = ref_extremes_of(dtype);
        uint64_t found = 0;
        (void)of->find[kind == REF_REDUCE_MAX](from, n, &found);
        if (*some) {
            of->best[kind == REF_REDUCE_MAX](&found, 1, total);
        } else {
            *total = found;
        }
        *some = true;
    }
}

static int64_t finish_int(const ref_folding *fold, ref_reduce kind, uint64_t total)
{
    const kiln_dtype dtype = fold->y->dtype;
    const bool is_unsigned = ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED;
    if (fold->count == 0 && kind == REF_REDUCE_MAX) {
        return (int64_t)ref_least(dtype);
    }
    if (fold->count == 0 && kind == REF_REDUCE_MIN) {
        return is_unsigned                 ? -1
               : dtype == KILN_DTYPE_INT64 ? INT64_MAX
                                           : (int64_t)ref_greatest(dtype);
    }
    if (kind == REF_REDUCE_MEAN) {
        return fold->count == 0 ? 0
               : is_unsigned    ? (int64_t)(total / (uint64_t)fold->count)
                                : (int64_t)total / fold->count;
    }
    return (int64_t)total;
}

static void finish_one(const ref_folding *fold, ref_reduce kind, int64_t to, uint64_t total)
{
    const size_t size = ref_element_size(fold->y->dtype);
    const bool lies = type_folded(kind, fold->y->dtype) == fold->y->dtype;
    if (lies && fold->count > 0 && kind != REF_REDUCE_MEAN) {
        memcpy((char *)fold->y->data + (size_t)to * size, &total, size);
    } else {
        ref_put_int(fold->y, to, finish_int(fold, kind, total));
    }
}

void ref_fold_ints(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to)
{
    uint64_t total = kind == REF_REDUCE_PROD;
    bool some = false;
    const kiln_dtype dtype = type_folded(kind, fold->x->dtype);
    ref_walk walk = ref_walk_folded(fold);
    while (ref_walk_next(&walk)) {
        const bool lies = walk.step[0] == 1 && dtype == fold->x->dtype;
        const int64_t most = lies ? FEW : REF_CHUNK;
        for (int64_t i = 0; i < walk.length; i += most) {
            const int64_t n = walk.length - i < most ? walk.length - i : most;
            fold_row(fold, kind, from + walk.offset[0] + i * walk.step[0], walk.step[0], n, &some,
                     &total);
        }
    }
    finish_one(fold, kind, to, total);
}

/* The extremes of `n` outputs, compared in the type of the tensor. */
void ref_find_extremes(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                       int64_t n)
{
    const ref_extremes *of = ref_extremes_of(fold->x->dtype);
    const size_t size = ref_element_size(fold->x->dtype);
    const char *x = (const char *)fold->x->data + (size_t)from * size;
    char *y = (char *)fold->y->data + (size_t)to * size;
    ref_walk walk = ref_walk_folded(fold);
    memcpy(y, x, (size_t)n * size);
    while (ref_walk_next(&walk)) {
        for (int64_t r = 0; r < walk.length; r++) {
            const int64_t at = walk.offset[0] + r * walk.step[0];
            of->best[kind == REF_REDUCE_MAX](x + at * (int64_t)size, n, y);
        }
    }
}

/* A row of numbers that were converted to a wider type. */
typedef union wide_row {
    int64_t whole[REF_COLUMNS];
    double real[REF_COLUMNS];
} wide_row;

/* The extremes of `n` outputs, compared in a wider type. */
void ref_find_wide_extremes(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                            int64_t n)
{
    wide_row best;
    wide_row room;
    const bool is_float = ref_domain_of(fold->x->dtype) == REF_DOMAIN_FLOAT;
    const ref_extremes *of =
        ref_extremes_of(is_float ? KILN_DTYPE_FLOAT64 : type_folded(kind, fold->x->dtype));
    ref_walk walk = ref_walk_folded(fold);
    wide_row *row = &best;
    while (ref_walk_next(&walk)) {
        for (int64_t r = 0; r < walk.length; r++, row = &room) {
            const int64_t at = from + walk.offset[0] + r * walk.step[0];
            if (is_float) {
                ref_load_float(fold->x, at, 1, n, row->real);
            } else {
                ref_load_int(fold->x, at, 1, n, row->whole);
            }
            of->best[kind == REF_REDUCE_MAX](row, n, &best);
        }
    }
    if (is_float) {
        ref_store_float(fold->y, to, 1, n, best.real);
    } else {
        ref_store_int(fold->y, to, 1, n, best.whole);
    }
}

/* Adds rows to the totals of `n` adjacent outputs. */
static void add_rows(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t step,
                     int64_t rows, int64_t n, void *totals)
{
    int64_t room[REF_COLUMNS];
    const kiln_dtype dtype = type_folded(kind, fold->x->dtype);
    const int_fold of = int_fold_of(kind, dtype);
    for (int64_t r = 0; r < rows;) {
        const bool some = dtype == fold->x->dtype && r + TOGETHER <= rows;
        of.beside(ints_at(fold->x, dtype, from + r * step, 1, n, room), some ? TOGETHER : 1, step,
                  n, totals);
        r += some ? TOGETHER : 1;
    }
}

/* Divides sums by a count and truncates, if all sums are so small that no quotient rounds up to a
 * whole number; returns whether they are. */
REF_WIDE static bool divide_small(bool is_signed, int64_t n, int64_t count, int64_t *sums)
{
    uint64_t large = 0;
    for (int64_t i = 0; i < n; i++) {
        large |= ref_is_long((uint64_t)sums[i], is_signed);
    }
    for (int64_t i = 0; large == 0 && i < n; i++) {
        sums[i] = (int64_t)ref_long_of(trunc(ref_double_of((uint64_t)sums[i]) / (double)count));
    }
    return large == 0;
}

/* The same in float, for sums of at most FEW numbers. */
REF_WIDE static bool divide_few(int64_t n, int64_t count, int32_t *sums)
{
    uint32_t large = 0;
    for (int64_t i = 0; i < n; i++) {
        large |= ((uint32_t)sums[i] + (1U << 23)) >> 24;
    }
    for (int64_t i = 0; large == 0 && i < n; i++) {
        sums[i] = (int32_t)((float)sums[i] / (float)count);
    }
    return large == 0;
}

/* Stores the means of `n` outputs; the sums are in `few` if it is not NULL, or else in `sums`. */
static void finish_means(const ref_folding *fold, int64_t to, int64_t n, int32_t *few,
                         int64_t *sums)
{
    ref_tensor *y = fold->y;
    char *place = (char *)y->data + (size_t)to * ref_element_size(y->dtype);
    if (few != NULL && divide_few(n, fold->count, few)) {
        (void)ref_lean_cast_of(KILN_DTYPE_INT32, y->dtype)(few, n, place);
        return;
    }
    for (int64_t i = 0; few != NULL && i < n; i++) {
        sums[i] = few[i];
    }
    const bool is_signed = ref_domain_of(y->dtype) == REF_DOMAIN_SIGNED;
    const bool done = divide_small(is_signed, n, fold->count, sums);
    for (int64_t i = 0; !done && i < n; i++) {
        sums[i] = finish_int(fold, REF_REDUCE_MEAN, (uint64_t)sums[i]);
    }
    ref_store_int(y, to, 1, n, sums);
}

static void mean_columns(const ref_folding *fold, int64_t from, int64_t to, int64_t n)
{
    int64_t sums[REF_COLUMNS] = {0};
    int32_t few[REF_COLUMNS] = {0};
    const bool narrow = is_narrow(REF_REDUCE_MEAN, type_folded(REF_REDUCE_MEAN, fold->x->dtype));
    const bool short_sums = narrow && fold->count <= FEW;
    ref_walk walk = ref_walk_folded(fold);
    while (ref_walk_next(&walk)) {
        for (int64_t r = 0; r < walk.length; r += FEW) {
            add_rows(fold, REF_REDUCE_MEAN, from + walk.offset[0] + r * walk.step[0], walk.step[0],
                     walk.length - r < FEW ? walk.length - r : FEW, n,
                     narrow ? (void *)few : (void *)sums);
            for (int64_t i = 0; narrow && !short_sums && i < n; i++) {
                sums[i] += few[i];
                few[i] = 0;
            }
        }
    }
    finish_means(fold, to, n, short_sums ? few : NULL, sums);
}

/* Computes the means of up to REF_COLUMNS contiguous rows with at most FEW elements each. */
static void mean_rows(const ref_folding *fold, const char *x, size_t step, int64_t to, int64_t n)
{
    int64_t sums[REF_COLUMNS] = {0};
    int32_t few[REF_COLUMNS] = {0};
    const bool narrow = is_narrow(REF_REDUCE_MEAN, fold->x->dtype);
    const int_fold of = int_fold_of(REF_REDUCE_MEAN, fold->x->dtype);
    for (int64_t i = 0; i < n; i++) {
        of.row(x + (size_t)i * step, fold->count, narrow ? (void *)&few[i] : (void *)&sums[i]);
    }
    finish_means(fold, to, n, narrow ? few : NULL, sums);
}

int64_t ref_fold_int_rows(const ref_folding *fold, ref_reduce kind, int64_t i)
{
    const kiln_dtype dtype = fold->x->dtype;
    const int64_t left = fold->kept.length - i;
    const int64_t n = left < REF_COLUMNS ? left : REF_COLUMNS;
    const int64_t to = fold->kept.offset[0] + i;
    if (!fold->is_dense || fold->count > FEW || fold->kept.step[0] != 1 ||
        type_folded(kind, dtype) != dtype) {
        return 0;
    }
    const size_t size = ref_element_size(dtype);
    const size_t step = (size_t)fold->kept.step[1] * size;
    const char *x = (const char *)fold->x->data +
                    (size_t)(fold->kept.offset[1] + i * fold->kept.step[1]) * size;
    char *y = (char *)fold->y->data + (size_t)to * size;
    if (kind == REF_REDUCE_MEAN) {
        mean_rows(fold, x, step, to, n);
        return n;
    }
    const uint64_t none = kind == REF_REDUCE_PROD;
    const int_fold of = int_fold_of(kind, dtype);
    ref_copy_elements(size, n, y, 1, &none, 0);
    for (int64_t k = 0; k < n; k++, x += step, y += size) {
        if (ref_is_extreme(kind)) {
            (void)ref_extremes_of(dtype)->find[kind == REF_REDUCE_MAX](x, fold->count, y);
        } else {
            of.row(x, fold->count, y);
        }
    }
    return n;
}

void ref_fold_int_columns(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                          int64_t n)
{
    int64_t into[REF_COLUMNS];
    const uint64_t none = kind == REF_REDUCE_PROD;
    const bool lies = type_folded(kind, fold->x->dtype) == fold->x->dtype;
    const ref_tensor *y = fold->y;
    const size_t size = lies ? ref_element_size(y->dtype) : sizeof *into;
    void *totals = lies ? (char *)y->data + (size_t)to * size : (void *)into;
    if (kind == REF_REDUCE_MEAN) {
        mean_columns(fold, from, to, n);
        return;
    }
    ref_copy_elements(size, n, totals, 1, &none, 0);
    ref_walk walk = ref_walk_folded(fold);
    while (ref_walk_next(&walk)) {
        add_rows(fold, kind, from + walk.offset[0], walk.step[0], walk.length, n, totals);
    }
    if (!lies) {
        ref_store_int(fold->y, to, 1, n, into);
    }
}
