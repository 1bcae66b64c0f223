/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions of integers, and extremes of any numbers. */
#include "ref_reduce.h"

/* Integers wrap: `part` is what a sum so far and a number make, `whole` what two sums do. */
#define INT_LIST(X)                                \
    X(SUM, s + v, s + v)                           \
    X(PROD, s *v, s *v)                            \
    X(L1, s + ((int64_t)v < 0 ? 0 - v : v), s + v) \
    X(SUM_SQUARE, s + v * v, s + v)
#define INT_TYPES(X, ...)   \
    X(int8_t, __VA_ARGS__)  \
    X(uint8_t, __VA_ARGS__) \
    X(int32_t, __VA_ARGS__) \
    X(int64_t, __VA_ARGS__)

#define LANES 32
#define TOGETHER 4
/* `n` numbers of one output, or one of each of n, of TOGETHER rows or one. */
#define DEFINE_INT(type, name, part, whole)                                                 \
    REF_WIDE static void type##_row_##name(const void *from, int64_t n, uint64_t *total)    \
    {                                                                                       \
        const type *x = from;                                                               \
        uint64_t sums[LANES] = {0};                                                         \
        for (int k = 0; REF_REDUCE_##name == REF_REDUCE_PROD && k < LANES; k++) {           \
            sums[k] = 1;                                                                    \
        }                                                                                   \
        int64_t i = 0;                                                                      \
        for (; i + LANES <= n; i += LANES) {                                                \
            for (int k = 0; k < LANES; k++) {                                               \
                const uint64_t s = sums[k];                                                 \
                const uint64_t v = (uint64_t)x[i + k];                                      \
                sums[k] = (part);                                                           \
            }                                                                               \
        }                                                                                   \
        uint64_t s = *total;                                                                \
        for (; i < n; i++) {                                                                \
            const uint64_t v = (uint64_t)x[i];                                              \
            s = (part);                                                                     \
        }                                                                                   \
        for (int k = 0; k < LANES; k++) {                                                   \
            const uint64_t v = sums[k];                                                     \
            s = (whole);                                                                    \
        }                                                                                   \
        *total = s;                                                                         \
    }                                                                                       \
    REF_WIDE static void type##_beside_##name(const void *from, int64_t rows, int64_t step, \
                                              int64_t n, uint64_t *totals)                  \
    {                                                                                       \
        const type *x = from;                                                               \
        for (int64_t i = 0; rows == TOGETHER && i < n; i++) {                               \
            uint64_t s = totals[i];                                                         \
            for (int k = 0; k < TOGETHER; k++) {                                            \
                const uint64_t v = (uint64_t)x[i + k * step];                               \
                s = (part);                                                                 \
            }                                                                               \
            totals[i] = s;                                                                  \
        }                                                                                   \
        for (int64_t i = 0; rows != TOGETHER && i < n; i++) {                               \
            const uint64_t v = (uint64_t)x[i];                                              \
            const uint64_t s = totals[i];                                                   \
            totals[i] = (part);                                                             \
        }                                                                                   \
    }
#define DEFINE_INTS(name, part, whole) INT_TYPES(DEFINE_INT, name, part, whole)
INT_LIST(DEFINE_INTS)

typedef struct int_fold {
    void (*row)(const void *from, int64_t n, uint64_t *total);
    void (*beside)(const void *from, int64_t rows, int64_t step, int64_t n, uint64_t *totals);
} int_fold;

/* Of a type as it lies, or of what is widened to 64 bits. */
static const int_fold *int_fold_of(ref_reduce kind, kiln_dtype dtype)
{
#define LIST_INT(type, name, ...) {type##_row_##name, type##_beside_##name},
#define LIST_INTS(name, part, whole) [REF_REDUCE_##name] = {INT_TYPES(LIST_INT, name, part, whole)},
    static const int_fold folds[][4] = {INT_LIST(LIST_INTS)};
    const bool is_unsigned = ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED;
    const int_fold *of =
        folds[kind == REF_REDUCE_MEAN || (kind == REF_REDUCE_L1 && is_unsigned) ? REF_REDUCE_SUM
                                                                                : kind];
    return dtype == KILN_DTYPE_INT8    ? &of[0]
           : dtype == KILN_DTYPE_UINT8 ? &of[1]
           : dtype == KILN_DTYPE_BOOL  ? &of[1]
           : dtype == KILN_DTYPE_INT32 ? &of[2]
                                       : &of[3];
}

/* The type that integers are folded in: their own, or one of 64 bits. */
static kiln_dtype type_folded(kiln_dtype dtype)
{
    return ref_extremes_of(dtype) != NULL                ? dtype
           : ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED ? KILN_DTYPE_UINT64
                                                         : KILN_DTYPE_INT64;
}

/* `n` elements of x as they are folded: where they lie, or in `room`. */
static const void *ints_at(const ref_tensor *x, int64_t start, int64_t step, int64_t n,
                           int64_t *room)
{
    const kiln_dtype dtype = type_folded(x->dtype);
    const size_t size = ref_element_size(x->dtype);
    const char *from = (const char *)x->data + (size_t)start * size;
    if (dtype != x->dtype) {
        ref_load_int(x, start, step, n, room);
    } else if (step != 1) {
        ref_copy_elements(size, n, room, 1, from, step);
    }
    return dtype != x->dtype || step != 1 ? (const void *)room : from;
}

/* `n` elements of one output, of which `*some` says whether there were others. */
static void fold_row(const ref_folding *fold, ref_reduce kind, int64_t start, int64_t step,
                     int64_t n, bool *some, uint64_t *total)
{
    int64_t room[REF_CHUNK];
    const kiln_dtype dtype = type_folded(fold->x->dtype);
    const void *from = ints_at(fold->x, start, step, n, room);
    if (!ref_is_extreme(kind)) {
        int_fold_of(kind, dtype)->row(from, n, total);
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

static void put_int(const ref_folding *fold, ref_reduce kind, int64_t to, uint64_t total)
{
    const size_t size = ref_element_size(fold->y->dtype);
    if (ref_is_extreme(kind) && fold->count > 0 && type_folded(fold->y->dtype) == fold->y->dtype) {
        memcpy((char *)fold->y->data + (size_t)to * size, &total, size);
    } else {
        ref_put_int(fold->y, to, finish_int(fold, kind, total));
    }
}

void ref_fold_ints(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to)
{
    uint64_t total = kind == REF_REDUCE_PROD;
    bool some = false;
    ref_walk walk = ref_walk_folded(fold);
    while (ref_walk_next(&walk)) {
        const bool lies = walk.step[0] == 1 && type_folded(fold->x->dtype) == fold->x->dtype;
        const int64_t most = lies ? walk.length : REF_CHUNK;
        for (int64_t i = 0; i < walk.length; i += most) {
            const int64_t n = walk.length - i < most ? walk.length - i : most;
            fold_row(fold, kind, from + walk.offset[0] + i * walk.step[0], walk.step[0], n, &some,
                     &total);
        }
    }
    put_int(fold, kind, to, total);
}

/* The extremes of `n` outputs, of numbers as they lie. */
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

/* The same of numbers that are widened first. */
void ref_find_wide_extremes(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                            int64_t n)
{
    int64_t best[REF_COLUMNS];
    int64_t room[REF_COLUMNS];
    const bool is_float = ref_domain_of(fold->x->dtype) == REF_DOMAIN_FLOAT;
    const ref_extremes *of =
        ref_extremes_of(is_float ? KILN_DTYPE_FLOAT64 : type_folded(fold->x->dtype));
    ref_walk walk = ref_walk_folded(fold);
    bool some = false;
    while (ref_walk_next(&walk)) {
        for (int64_t r = 0; r < walk.length; r++, some = true) {
            const int64_t at = from + walk.offset[0] + r * walk.step[0];
            int64_t *row = some ? room : best;
            if (is_float) {
                ref_load_float(fold->x, at, 1, n, (double *)row);
            } else {
                ref_load_int(fold->x, at, 1, n, row);
            }
            of->best[kind == REF_REDUCE_MAX](row, n, best);
        }
    }
    if (is_float) {
        ref_store_float(fold->y, to, 1, n, (const double *)best);
    } else {
        ref_store_int(fold->y, to, 1, n, best);
    }
}

void ref_fold_int_columns(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                          int64_t n)
{
    int64_t room[REF_COLUMNS];
    uint64_t into[REF_COLUMNS];
    const kiln_dtype dtype = type_folded(fold->x->dtype);
    const int_fold *of = int_fold_of(kind, dtype);
    ref_walk walk = ref_walk_folded(fold);
    for (int64_t i = 0; i < n; i++) {
        into[i] = kind == REF_REDUCE_PROD;
    }
    while (ref_walk_next(&walk)) {
        for (int64_t r = 0; r < walk.length;) {
            const bool some = dtype == fold->x->dtype && r + TOGETHER <= walk.length;
            const int64_t at = from + walk.offset[0] + r * walk.step[0];
            of->beside(ints_at(fold->x, at, 1, n, room), some ? TOGETHER : 1, walk.step[0], n,
                       into);
            r += some ? TOGETHER : 1;
        }
    }
    int64_t found[REF_COLUMNS];
    memcpy(found, into, (size_t)n * sizeof *found);
    for (int64_t i = 0; kind == REF_REDUCE_MEAN && i < n; i++) {
        found[i] = finish_int(fold, kind, into[i]);
    }
    ref_store_int(fold->y, to, 1, n, found);
}
