/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>

#include "ref_exp.h"
#include "ref_ops.h"
#include "ref_reduce.h"

/* Whether the elements of each output are contiguous. */
static bool is_dense(const ref_folding *fold)
{
    int64_t dense[REF_RANK];
    ref_dense_strides(fold->rank, fold->dims, dense);
    return fold->rank > 0 && memcmp(dense, fold->strides, (size_t)fold->rank * sizeof *dense) == 0;
}

static kiln_status begin_folding(ref_call *call, uint32_t mask, bool keep, kiln_dtype dtype,
                                 ref_folding *fold)
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
    fold->is_dense = is_dense(fold);
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
                    /* While the maximum is minus infinity, the only terms that count are NaN. */
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

/* Whether integers are reduced as integers; kinds that need a root or a logarithm are computed as
 * floats. */
static bool is_whole(ref_reduce kind, kiln_dtype dtype)
{
    return ref_domain_of(dtype) != REF_DOMAIN_FLOAT && kind != REF_REDUCE_L2 &&
           kind != REF_REDUCE_LOG_SUM && kind != REF_REDUCE_LOG_SUM_EXP;
}

static void fold_one(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to)
{
    state s = {.sum = kind == REF_REDUCE_PROD, .first = true};
    double floats[REF_CHUNK];
    if (is_whole(kind, fold->x->dtype)) {
        ref_fold_ints(fold, kind, from, to);
        return;
    }
    ref_walk walk = ref_walk_folded(fold);
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i += REF_CHUNK) {
            const int64_t n = walk.length - i < REF_CHUNK ? walk.length - i : REF_CHUNK;
            ref_load_float(fold->x, from + walk.offset[0] + i * walk.step[0], walk.step[0], n,
                           floats);
            fold_float(kind, floats, n, &s);
        }
    }
    ref_put_float(fold->y, to, finish_float(kind, &s, fold->count));
}

/* --- reductions of several outputs at a time: each takes its elements in their order --- */

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

/* Reduces the elements of `n` adjacent outputs. */
static void fold_columns(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                         int64_t n)
{
    double into[REF_COLUMNS];
    ref_walk walk = ref_walk_folded(fold);
    for (int64_t i = 0; i < n; i++) {
        into[i] = kind == REF_REDUCE_PROD;
    }
    while (ref_walk_next(&walk)) {
        ref_fold_columns(fold->x, from + walk.offset[0], walk.step[0], walk.length, n,
                         term_of(kind), into);
    }
    finish_columns(kind, fold->count, n, into);
    ref_store_float(fold->y, to, 1, n, into);
}

#define LONG 512 /* length from which the terms of a row are summed independently of each other */

/* How far the logarithm of an in-order sum of n exponentials can be from the one that was computed:
 * the exponentials differ by at most 2^-49, and each term is multiplied and added once. */
static double log_doubt(int64_t n, double found)
{
    return 0x1p-47 + (double)n * 0x1p-50 + fabs(found) * 0x1p-51;
}

/* The logarithm of the sum of the exponentials of floats; NaN if it cannot be determined. `*doubt`
 * is how far it may be from the exact one. */
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

/* Stores the result if both bounds round to the same float; returns whether they do. */
static bool put_sure(ref_tensor *y, int64_t to, double least, double greatest)
{
    const float low = (float)least;
    if (low != (float)greatest || !(fabsf(low) >= FLT_MIN) || isinf(low)) {
        return false;
    }
    ref_put_float(y, to, (double)low);
    return true;
}

/* Computes one output from contiguous floats in any order; false if the order would change the
 * result. */
static bool fold_near(const ref_folding *fold, ref_reduce kind, const float *x, int64_t to)
{
    const int64_t n = fold->count;
    const bool logs = kind == REF_REDUCE_LOG_SUM_EXP;
    double doubt = 0.0;
    if (kind == REF_REDUCE_PROD) {
        return false;
    }
    const double near =
        logs ? log_sum_near(x, n, &doubt) : ref_sum_near(x, n, term_of(kind), &doubt);
    if (kind == REF_REDUCE_LOG_SUM) { /* one logarithm, steepest at the lower end */
        const double found = log(near);
        const double apart = doubt / (near - doubt) + fabs(found) * 0x1p-51;
        return near > doubt && put_sure(fold->y, to, found - apart, found + apart);
    }
    double ends[2] = {near - doubt, near + doubt};
    finish_columns(kind, n, 2, ends);
    return put_sure(fold->y, to, ends[0], ends[1]);
}

/* Columns of adjacent floats; results that are not certain are summed again in order. */
static void fold_log_columns(const ref_folding *fold, int64_t from, int64_t to, int64_t n)
{
    double most[REF_COLUMNS];
    double sums[REF_COLUMNS] = {0};
    double powers[REF_COLUMNS];
    ref_walk walk = ref_walk_folded(fold);
    ref_find_extremes(fold, REF_REDUCE_MAX, from, to, n);
    ref_load_float(fold->y, to, 1, n, most);
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

/* The extreme of contiguous numbers, compared in their own type; returns whether it was found. Of
 * several zeros the first one counts, which this does not determine. */
static bool find_extreme(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to)
{
    const ref_extremes *of = ref_extremes_of(fold->x->dtype);
    const size_t size = ref_element_size(fold->x->dtype);
    const char *x = (const char *)fold->x->data + (size_t)from * size;
    char *y = (char *)fold->y->data + (size_t)to * size;
    return of != NULL && !of->find[kind == REF_REDUCE_MAX](x, fold->count, y) &&
           ref_get_float(fold->y, to) != 0.0;
}

/* Computes several outputs of a row, starting at `i`, in one step; returns how many, or 0 if this
 * is not possible. */
static int64_t fold_several(const ref_folding *fold, ref_reduce kind, int64_t i)
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
        if (ref_is_extreme(kind) && ref_extremes_of(fold->x->dtype) != NULL) {
            ref_find_extremes(fold, kind, from, to, n);
        } else if (ref_is_extreme(kind)) {
            ref_find_wide_extremes(fold, kind, from, to, n);
        } else if (whole) {
            ref_fold_int_columns(fold, kind, from, to, n);
        } else if (logs) {
            fold_log_columns(fold, from, to, n);
        } else {
            fold_columns(fold, kind, from, to, n);
        }
        return n;
    }
    if (fold->count > 0 && whole) {
        return ref_fold_int_rows(fold, kind, i);
    }
    if (fold->count == 0 || (logs && !is_float) || !fold->is_dense) {
        return 0;
    }
    if (ref_is_extreme(kind)) {
        return find_extreme(fold, kind, from, to) ? 1 : 0;
    }
    const float *x = (const float *)fold->x->data + (is_float ? from : 0);
    const bool sure = is_float && (logs || fold->count >= LONG) && fold_near(fold, kind, x, to);
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
    ref_folding fold = {0};
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
