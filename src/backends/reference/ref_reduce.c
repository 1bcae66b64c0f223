/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>

#include "ref_exp.h"
#include "ref_ops.h"
#include "ref_rows.h"

/* A reduction splits the dimensions of x: `kept` ones index the output, `gone` ones are folded. */
typedef struct folding {
    const ref_tensor *x;
    ref_tensor *y;
    ref_walk kept;
    int rank; /* of the folded dimensions */
    int64_t dims[REF_RANK];
    int64_t strides[REF_RANK];
    int64_t count; /* elements folded into one */
} folding;

static kiln_status begin_folding(ref_call *call, uint32_t mask, bool keep, kiln_dtype dtype,
                                 folding *fold)
{
    const ref_tensor *x = fold->x;
    int64_t dense[REF_RANK];
    int64_t dims[REF_RANK];
    int64_t kept[REF_RANK];
    int64_t from[REF_RANK];
    int rank = 0;
    int kept_rank = 0;
    ref_dense_strides(x->rank, x->dims, dense);
    fold->rank = 0;
    fold->count = 1;
    for (int i = 0; i < x->rank; i++) {
        const bool gone = (mask >> i & 1U) != 0;
        if (gone) {
            fold->dims[fold->rank] = x->dims[i];
            fold->strides[fold->rank++] = dense[i];
            fold->count *= x->dims[i];
        } else {
            kept[kept_rank] = x->dims[i];
            from[kept_rank++] = dense[i];
        }
        if (!gone || keep) {
            dims[rank++] = gone ? 1 : x->dims[i];
        }
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, rank, dims, &fold->y));
    int64_t to[REF_RANK];
    ref_dense_strides(kept_rank, kept, to);
    ref_walk_init(&fold->kept, kept_rank, kept);
    ref_walk_add(&fold->kept, to);
    ref_walk_add(&fold->kept, from);
    ref_walk_begin(&fold->kept);
    return KILN_OK;
}

typedef struct state {
    double sum;
    double extreme;
    bool first;
} state;

static void fold_float(ref_reduce kind, const double *values, int64_t n, state *s)
{
    for (int64_t i = 0; i < n; i++) {
        const double v = values[i];
        switch (kind) {
            case REF_REDUCE_PROD: s->sum *= v; break;
            case REF_REDUCE_L1: s->sum += fabs(v); break;
            case REF_REDUCE_L2:
            case REF_REDUCE_SUM_SQUARE: s->sum += v * v; break;
            case REF_REDUCE_MAX:
                s->extreme = s->first || isnan(v) || v > s->extreme ? v : s->extreme;
                break;
            case REF_REDUCE_MIN:
                s->extreme = s->first || isnan(v) || v < s->extreme ? v : s->extreme;
                break;
            case REF_REDUCE_LOG_SUM_EXP:
                if (s->first || v > s->extreme) {
                    /* Below minus infinity there are no terms but what is no number. */
                    s->sum = s->first            ? 0.0
                             : isinf(s->extreme) ? s->sum
                                                 : s->sum * exp(s->extreme - v);
                    s->extreme = v;
                }
                s->sum += isinf(v) ? (v > 0.0) : exp(v - s->extreme);
                break;
            case REF_REDUCE_SUM:
            case REF_REDUCE_MEAN:
            case REF_REDUCE_LOG_SUM: s->sum += v; break;
        }
        s->first = false;
    }
}

static double finish_float(ref_reduce kind, const state *s, int64_t count)
{
    switch (kind) {
        case REF_REDUCE_MEAN: return s->sum / (double)count;
        case REF_REDUCE_L2: return sqrt(s->sum);
        case REF_REDUCE_LOG_SUM: return log(s->sum);
        case REF_REDUCE_MAX: return s->first ? -HUGE_VAL : s->extreme;
        case REF_REDUCE_MIN: return s->first ? HUGE_VAL : s->extreme;
        case REF_REDUCE_LOG_SUM_EXP: return s->first ? -HUGE_VAL : s->extreme + log(s->sum);
        default: return s->sum;
    }
}

/* Integers wrap; those of MOST and LEAST are not signed. */
#define INT_LIST(X)                         \
    X(SUM, s + v)                           \
    X(PROD, s *v)                           \
    X(L1, s + ((int64_t)v < 0 ? 0 - v : v)) \
    X(SUM_SQUARE, s + v * v)                \
    X(MAX, (int64_t)v > (int64_t)s ? v : s) \
    X(MIN, (int64_t)v < (int64_t)s ? v : s) \
    X(MOST, v > s ? v : s)                  \
    X(LEAST, v < s ? v : s)

/* `n` of one output, or one of each of n. */
#define DEFINE_INT(name, expression)                                                              \
    REF_WIDE static void ints_##name(bool beside, const uint64_t *x, int64_t n, uint64_t *totals) \
    {                                                                                             \
        uint64_t s = totals[0];                                                                   \
        for (int64_t i = 0; !beside && i < n; i++) {                                              \
            const uint64_t v = x[i];                                                              \
            s = (expression);                                                                     \
        }                                                                                         \
        totals[0] = s;                                                                            \
        for (int64_t i = 0; beside && i < n; i++) {                                               \
            const uint64_t v = x[i];                                                              \
            s = totals[i];                                                                        \
            totals[i] = (expression);                                                             \
        }                                                                                         \
    }
INT_LIST(DEFINE_INT)

typedef void (*int_function)(bool beside, const uint64_t *x, int64_t n, uint64_t *totals);

static int_function int_function_of(ref_reduce kind, bool is_unsigned)
{
    switch (kind) {
        case REF_REDUCE_PROD: return ints_PROD;
        case REF_REDUCE_L1: return is_unsigned ? ints_SUM : ints_L1;
        case REF_REDUCE_SUM_SQUARE: return ints_SUM_SQUARE;
        case REF_REDUCE_MAX: return is_unsigned ? ints_MOST : ints_MAX;
        case REF_REDUCE_MIN: return is_unsigned ? ints_LEAST : ints_MIN;
        default: return ints_SUM;
    }
}

static void fold_ints(const folding *fold, ref_reduce kind, int64_t start, int64_t step, int64_t n,
                      bool beside, uint64_t *totals)
{
    const kiln_dtype dtype = fold->x->dtype;
    int64_t ints[REF_COLUMNS];
    const void *from = ints;
    if (step == 1 && (dtype == KILN_DTYPE_INT64 || dtype == KILN_DTYPE_UINT64)) {
        from = (const int64_t *)fold->x->data + start;
    } else {
        ref_load_int(fold->x, start, step, n, ints);
    }
    int_function_of(kind, ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED)(beside, from, n, totals);
}

/* What the first term takes the place of. */
static uint64_t first_int(ref_reduce kind, kiln_dtype dtype)
{
    const bool is_unsigned = ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED;
    return kind == REF_REDUCE_MAX   ? (is_unsigned ? 0 : (uint64_t)INT64_MIN)
           : kind == REF_REDUCE_MIN ? (is_unsigned ? UINT64_MAX : (uint64_t)INT64_MAX)
                                    : kind == REF_REDUCE_PROD;
}

static int64_t finish_int(const folding *fold, ref_reduce kind, uint64_t total)
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

/* Whether integers are reduced as integers: what has a root or logarithm is not. */
static bool is_whole(ref_reduce kind, kiln_dtype dtype)
{
    return ref_domain_of(dtype) != REF_DOMAIN_FLOAT && kind != REF_REDUCE_L2 &&
           kind != REF_REDUCE_LOG_SUM && kind != REF_REDUCE_LOG_SUM_EXP;
}

static ref_walk walk_folded(const folding *fold)
{
    ref_walk walk;
    ref_walk_init(&walk, fold->rank, fold->dims);
    ref_walk_add(&walk, fold->strides);
    ref_walk_begin(&walk);
    return walk;
}

static void fold_one(const folding *fold, ref_reduce kind, int64_t from, int64_t to)
{
    state s = {.sum = kind == REF_REDUCE_PROD, .first = true};
    uint64_t total = first_int(kind, fold->x->dtype);
    const bool whole = is_whole(kind, fold->x->dtype);
    double floats[REF_CHUNK];
    ref_walk walk = walk_folded(fold);
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i += REF_CHUNK) {
            const int64_t n = walk.length - i < REF_CHUNK ? walk.length - i : REF_CHUNK;
            const int64_t start = from + walk.offset[0] + i * walk.step[0];
            if (whole) {
                fold_ints(fold, kind, start, walk.step[0], n, false, &total);
            } else {
                ref_load_float(fold->x, start, walk.step[0], n, floats);
                fold_float(kind, floats, n, &s);
            }
        }
    }
    if (whole) {
        ref_put_int(fold->y, to, finish_int(fold, kind, total));
    } else {
        ref_put_float(fold->y, to, finish_float(kind, &s, fold->count));
    }
}

/* --- reductions of several outputs side by side: each takes its elements in their order --- */

static ref_term term_of(ref_reduce kind)
{
    return kind == REF_REDUCE_PROD                                  ? REF_TERM_FACTOR
           : kind == REF_REDUCE_L1                                  ? REF_TERM_MAGNITUDE
           : kind == REF_REDUCE_L2 || kind == REF_REDUCE_SUM_SQUARE ? REF_TERM_SQUARE
                                                                    : REF_TERM_PLAIN;
}

REF_WIDE static void finish_columns(ref_reduce kind, int64_t count, int64_t n, double *into)
{
    for (int64_t i = 0; kind == REF_REDUCE_MEAN && i < n; i++) {
        into[i] /= (double)count;
    }
    for (int64_t i = 0; kind == REF_REDUCE_L2 && i < n; i++) {
        into[i] = sqrt(into[i]);
    }
    for (int64_t i = 0; kind == REF_REDUCE_LOG_SUM && i < n; i++) {
        into[i] = log(into[i]);
    }
}

/* `n` outputs whose elements lie side by side. */
static void fold_columns(const folding *fold, ref_reduce kind, int64_t from, int64_t to, int64_t n)
{
    double into[REF_COLUMNS];
    const bool most = kind == REF_REDUCE_MAX;
    const bool extreme = most || kind == REF_REDUCE_MIN;
    ref_walk walk = walk_folded(fold);
    if (extreme && fold->x->dtype == KILN_DTYPE_FLOAT32) {
        const float *x = (const float *)fold->x->data + from;
        float *y = (float *)fold->y->data + to;
        memcpy(y, x, (size_t)n * sizeof *y);
        while (ref_walk_next(&walk)) {
            ref_best_floats(x + walk.offset[0], walk.step[0], walk.length, n, most, y);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        into[i] = kind == REF_REDUCE_PROD;
    }
    if (extreme) {
        ref_load_float(fold->x, from, 1, n, into);
    }
    while (ref_walk_next(&walk)) {
        const int64_t start = from + walk.offset[0];
        if (extreme) {
            ref_best_columns(fold->x, start, walk.step[0], walk.length, n, most, into);
        } else {
            ref_fold_columns(fold->x, start, walk.step[0], walk.length, n, term_of(kind), into);
        }
    }
    finish_columns(kind, fold->count, n, into);
    ref_store_float(fold->y, to, 1, n, into);
}

static void fold_int_columns(const folding *fold, ref_reduce kind, int64_t from, int64_t to,
                             int64_t n)
{
    uint64_t into[REF_COLUMNS];
    ref_walk walk = walk_folded(fold);
    for (int64_t i = 0; i < n; i++) {
        into[i] = first_int(kind, fold->x->dtype);
    }
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i++) {
            fold_ints(fold, kind, from + walk.offset[0] + i * walk.step[0], 1, n, true, into);
        }
    }
    int64_t found[REF_COLUMNS];
    memcpy(found, into, (size_t)n * sizeof *found);
    for (int64_t i = 0; kind == REF_REDUCE_MEAN && i < n; i++) {
        found[i] = finish_int(fold, kind, into[i]);
    }
    ref_store_int(fold->y, to, 1, n, found);
}

/* Whether the elements of each output are neighbours. */
static bool is_dense(const folding *fold)
{
    int64_t dense[REF_RANK];
    ref_dense_strides(fold->rank, fold->dims, dense);
    return fold->rank > 0 && memcmp(dense, fold->strides, (size_t)fold->rank * sizeof *dense) == 0;
}

#define LONG 512 /* a row whose terms need not wait for each other, */
#define FEW 4    /* where there are no others beside it */

/* How far the logarithm of a sum of n exponentials in order can be from the one found: exponentials
 * differ by 2^-49, and each of the terms was multiplied and added. */
static double log_doubt(int64_t n, double found)
{
    return 0x1p-47 + (double)n * 0x1p-50 + fabs(found) * 0x1p-51;
}

/* The same of floats; NAN where it is not known. */
static double log_sum_near(const float *x, int64_t n, double *doubt)
{
    float most = 0.0F;
    double sum = 0.0;
    if (!ref_find_extreme(x, n, true, &most) || !isfinite(most)) {
        return (double)NAN;
    }
    for (int64_t i = 0; i < n; i += REF_CHUNK) {
        double powers[REF_CHUNK];
        sum += ref_exp_row_near(n - i < REF_CHUNK ? n - i : REF_CHUNK, x + i, (double)most, powers);
    }
    const double found = (double)most + log(sum);
    *doubt = log_doubt(n, found);
    return found;
}

/* Whether all between two numbers is one float, which is stored. */
static bool put_sure(ref_tensor *y, int64_t to, double least, double greatest)
{
    const float low = (float)least;
    if (low != (float)greatest || !(fabsf(low) >= FLT_MIN) || isinf(low)) {
        return false;
    }
    ref_put_float(y, to, (double)low);
    return true;
}

/* One output of neighbouring floats, whatever the order of the terms; false where that decides. */
static bool fold_near(const folding *fold, ref_reduce kind, const float *x, int64_t to)
{
    const int64_t n = fold->count;
    const bool logs = kind == REF_REDUCE_LOG_SUM_EXP;
    double doubt = 0.0;
    if (kind == REF_REDUCE_PROD) {
        return false;
    }
    const double near =
        logs ? log_sum_near(x, n, &doubt) : ref_sum_near(x, n, term_of(kind), &doubt);
    double ends[2] = {near - doubt, near + doubt};
    finish_columns(kind, n, 2, ends);
    return put_sure(fold->y, to, ends[0], ends[1]);
}

/* Columns of floats side by side; what is not sure is summed in order. */
static void fold_log_columns(const folding *fold, int64_t from, int64_t to, int64_t n)
{
    double most[REF_COLUMNS];
    double sums[REF_COLUMNS] = {0};
    double powers[REF_COLUMNS];
    ref_walk walk = walk_folded(fold);
    ref_load_float(fold->x, from, 1, n, most);
    while (ref_walk_next(&walk)) {
        ref_best_columns(fold->x, from + walk.offset[0], walk.step[0], walk.length, n, true, most);
    }
    walk = walk_folded(fold);
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i++) {
            const int64_t at = from + walk.offset[0] + i * walk.step[0];
            ref_exp_each_near(n, (const float *)fold->x->data + at, most, powers, sums);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const double found = most[i] + log(sums[i]);
        const double doubt = log_doubt(fold->count, found);
        if (!isfinite(most[i]) || !put_sure(fold->y, to + i, found - doubt, found + doubt)) {
            fold_one(fold, REF_REDUCE_LOG_SUM_EXP, from + i, to + i);
        }
    }
}

/* Outputs from `i` on of a row of them, as many as one step does; 0 where none fits. */
static int64_t fold_several(const folding *fold, ref_reduce kind, int64_t i)
{
    const int64_t left = fold->kept.length - i;
    const int64_t from = fold->kept.offset[1] + i * fold->kept.step[1];
    const int64_t to = fold->kept.offset[0] + i * fold->kept.step[0];
    const bool whole = is_whole(kind, fold->x->dtype);
    const bool is_float = fold->x->dtype == KILN_DTYPE_FLOAT32;
    const bool logs = kind == REF_REDUCE_LOG_SUM_EXP;
    if (fold->count > 0 && fold->kept.step[1] == 1 && fold->kept.step[0] == 1 && left >= 8 &&
        (is_float || !logs)) {
        const int64_t n = left < REF_COLUMNS ? left : REF_COLUMNS;
        if (whole) {
            fold_int_columns(fold, kind, from, to, n);
        } else if (logs) {
            fold_log_columns(fold, from, to, n);
        } else {
            fold_columns(fold, kind, from, to, n);
        }
        return n;
    }
    if (fold->count == 0 || !is_float || !is_dense(fold)) {
        return 0;
    }
    const float *x = (const float *)fold->x->data + from;
    if (kind == REF_REDUCE_MAX || kind == REF_REDUCE_MIN) {
        float extreme = 0;
        if (!ref_find_extreme(x, fold->count, kind == REF_REDUCE_MAX, &extreme) ||
            extreme == 0.0F) { /* of zeros the first one counts */
            return 0;
        }
        ref_put_float(fold->y, to, (double)extreme);
        return 1;
    }
    const bool sure = (logs || (left < FEW && fold->count >= LONG)) && fold_near(fold, kind, x, to);
    if (sure || logs) {
        return sure ? 1 : 0;
    }
    const ref_block block = {fold->x, from, fold->kept.step[1],
                             left < REF_BESIDE ? left : REF_BESIDE, fold->count};
    double totals[REF_BESIDE];
    for (int k = 0; k < REF_BESIDE; k++) {
        totals[k] = kind == REF_REDUCE_PROD;
    }
    ref_fold_rows(&block, term_of(kind), NULL, 1.0, totals);
    for (int64_t k = 0; k < block.rows; k++) {
        const state s = {.sum = totals[k]};
        ref_put_float(fold->y, to + k * fold->kept.step[0], finish_float(kind, &s, fold->count));
    }
    return block.rows;
}

static kiln_status ref_op_reduce(ref_call *call)
{
    folding fold = {0};
    const int64_t *axes = NULL;
    size_t count = 0;
    uint32_t mask = 0;
    KLN_RETURN_IF_ERROR(ref_need_number(call, 0, &fold.x));
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, "axes", &axes, &count));
    KLN_RETURN_IF_ERROR(ref_axes(call, axes, count, fold.x->rank, &mask));
    if (count == 0) {
        mask = ref_attribute_int(call, "noop_with_empty_axes", 0) != 0
                   ? 0
                   : (UINT32_C(1) << fold.x->rank) - 1;
    }
    const ref_reduce kind = (ref_reduce)call->variant;
    KLN_RETURN_IF_ERROR(begin_folding(call, mask, ref_attribute_int(call, "keepdims", 1) != 0,
                                      fold.x->dtype, &fold));
    while (ref_walk_next(&fold.kept)) {
        for (int64_t i = 0; i < fold.kept.length;) {
            const int64_t done = fold_several(&fold, kind, i);
            if (done == 0) {
                fold_one(&fold, kind, fold.kept.offset[1] + i * fold.kept.step[1],
                         fold.kept.offset[0] + i * fold.kept.step[0]);
            }
            i += done == 0 ? 1 : done;
        }
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_reduce[] = {
    REF_OP("ReduceSum", 1, reduce, REF_REDUCE_SUM),
    REF_OP("ReduceMean", 1, reduce, REF_REDUCE_MEAN),
    REF_OP("ReduceMax", 1, reduce, REF_REDUCE_MAX),
    REF_OP("ReduceMin", 1, reduce, REF_REDUCE_MIN),
    REF_OP("ReduceProd", 1, reduce, REF_REDUCE_PROD),
    REF_OP("ReduceL1", 1, reduce, REF_REDUCE_L1),
    REF_OP("ReduceL2", 1, reduce, REF_REDUCE_L2),
    REF_OP("ReduceSumSquare", 1, reduce, REF_REDUCE_SUM_SQUARE),
    REF_OP("ReduceLogSum", 1, reduce, REF_REDUCE_LOG_SUM),
    REF_OP("ReduceLogSumExp", 1, reduce, REF_REDUCE_LOG_SUM_EXP),
    REF_KERNELS_END
};
/* clang-format on */
