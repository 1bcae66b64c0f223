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
    int64_t whole; /* the same for integers */
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

static void fold_int(ref_reduce kind, bool is_unsigned, const int64_t *values, int64_t n, state *s)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t v = values[i];
        const uint64_t total = (uint64_t)s->whole;
        const bool greater = is_unsigned ? (uint64_t)v > total : v > s->whole;
        switch (kind) {
            case REF_REDUCE_PROD: s->whole = (int64_t)(total * (uint64_t)v); break;
            case REF_REDUCE_L1:
                s->whole =
                    (int64_t)(total + (v < 0 && !is_unsigned ? 0 - (uint64_t)v : (uint64_t)v));
                break;
            case REF_REDUCE_SUM_SQUARE:
                s->whole = (int64_t)(total + (uint64_t)v * (uint64_t)v);
                break;
            case REF_REDUCE_MAX: s->whole = s->first || greater ? v : s->whole; break;
            case REF_REDUCE_MIN: s->whole = s->first || !greater ? v : s->whole; break;
            default: s->whole = (int64_t)(total + (uint64_t)v); break;
        }
        s->first = false;
    }
}

static void store_int(const folding *fold, ref_reduce kind, state *s, int64_t to)
{
    const kiln_dtype dtype = fold->y->dtype;
    if (s->first && (kind == REF_REDUCE_MAX || kind == REF_REDUCE_MIN)) {
        s->whole = kind == REF_REDUCE_MAX                        ? (int64_t)ref_least(dtype)
                   : ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED ? -1
                   : dtype == KILN_DTYPE_INT64                   ? INT64_MAX
                                                                 : (int64_t)ref_greatest(dtype);
    }
    if (kind == REF_REDUCE_MEAN) {
        const bool is_unsigned = ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED;
        s->whole = fold->count == 0 ? 0
                   : is_unsigned    ? (int64_t)((uint64_t)s->whole / (uint64_t)fold->count)
                                    : s->whole / fold->count;
    }
    ref_put_int(fold->y, to, s->whole);
}

/* Whether integers are reduced as integers: what has a root or logarithm is not. */
static bool is_whole(ref_reduce kind, kiln_dtype dtype)
{
    return ref_domain_of(dtype) != REF_DOMAIN_FLOAT && kind != REF_REDUCE_L2 &&
           kind != REF_REDUCE_LOG_SUM && kind != REF_REDUCE_LOG_SUM_EXP;
}

static void fold_one(const folding *fold, ref_reduce kind, int64_t from, int64_t to)
{
    state s = {.sum = kind == REF_REDUCE_PROD, .whole = kind == REF_REDUCE_PROD, .first = true};
    const bool whole = is_whole(kind, fold->x->dtype);
    const bool is_unsigned = ref_domain_of(fold->x->dtype) == REF_DOMAIN_UNSIGNED;
    double floats[REF_CHUNK];
    int64_t ints[REF_CHUNK];
    ref_walk walk;
    ref_walk_init(&walk, fold->rank, fold->dims);
    ref_walk_add(&walk, fold->strides);
    ref_walk_begin(&walk);
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i += REF_CHUNK) {
            const int64_t n = walk.length - i < REF_CHUNK ? walk.length - i : REF_CHUNK;
            const int64_t start = from + walk.offset[0] + i * walk.step[0];
            if (whole) {
                ref_load_int(fold->x, start, walk.step[0], n, ints);
                fold_int(kind, is_unsigned, ints, n, &s);
            } else {
                ref_load_float(fold->x, start, walk.step[0], n, floats);
                fold_float(kind, floats, n, &s);
            }
        }
    }
    if (whole) {
        store_int(fold, kind, &s, to);
    } else {
        ref_put_float(fold->y, to, finish_float(kind, &s, fold->count));
    }
}

/* --- reductions of several outputs side by side: each takes its elements in their order --- */

static void fold_row(ref_reduce kind, bool first, int64_t n, const double *row, double *into)
{
    switch (kind) {
        case REF_REDUCE_PROD:
            for (int64_t i = 0; i < n; i++) {
                into[i] *= row[i];
            }
            return;
        case REF_REDUCE_L1:
            for (int64_t i = 0; i < n; i++) {
                into[i] += fabs(row[i]);
            }
            return;
        case REF_REDUCE_L2:
        case REF_REDUCE_SUM_SQUARE:
            for (int64_t i = 0; i < n; i++) {
                into[i] += row[i] * row[i];
            }
            return;
        case REF_REDUCE_MAX:
            for (int64_t i = 0; i < n; i++) {
                into[i] = first || isnan(row[i]) || row[i] > into[i] ? row[i] : into[i];
            }
            return;
        case REF_REDUCE_MIN:
            for (int64_t i = 0; i < n; i++) {
                into[i] = first || isnan(row[i]) || row[i] < into[i] ? row[i] : into[i];
            }
            return;
        default:
            for (int64_t i = 0; i < n; i++) {
                into[i] += row[i];
            }
    }
}

#define TOGETHER 4
/* The elements of one row, or of TOGETHER rows that are `step` apart, one after the other. */
REF_WIDE static void add_floats(const float *x, int64_t rows, int64_t step, int64_t n, double *into)
{
    for (int64_t i = 0; rows == TOGETHER && i < n; i++) {
        const double two = (into[i] + (double)x[i]) + (double)x[i + step];
        into[i] = (two + (double)x[i + 2 * step]) + (double)x[i + 3 * step];
    }
    for (int64_t i = 0; rows == 1 && i < n; i++) {
        into[i] += (double)x[i];
    }
}

#define BESIDE 1024
#define LONG 512 /* a row whose terms need not wait for each other, */
#define FEW 4    /* where there are no others beside it */

/* `n` outputs whose elements lie side by side. */
static void fold_columns(const folding *fold, ref_reduce kind, int64_t from, int64_t to, int64_t n)
{
    double into[BESIDE];
    double row[BESIDE];
    bool first = true;
    ref_walk walk;
    for (int64_t i = 0; i < n; i++) {
        into[i] = kind == REF_REDUCE_PROD;
    }
    ref_walk_init(&walk, fold->rank, fold->dims);
    ref_walk_add(&walk, fold->strides);
    ref_walk_begin(&walk);
    const bool adds = kind == REF_REDUCE_SUM || kind == REF_REDUCE_MEAN;
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i++) {
            const int64_t at = from + walk.offset[0] + i * walk.step[0];
            if (adds && fold->x->dtype == KILN_DTYPE_FLOAT32) {
                const int64_t rows = walk.length - i < TOGETHER ? 1 : TOGETHER;
                add_floats((const float *)fold->x->data + at, rows, walk.step[0], n, into);
                i += rows - 1;
                continue;
            }
            ref_load_float(fold->x, at, 1, n, row);
            fold_row(kind, first, n, row, into);
            first = false;
        }
    }
    for (int64_t i = 0; kind != REF_REDUCE_SUM && i < n; i++) {
        const state s = {.sum = into[i], .extreme = into[i], .first = first};
        into[i] = finish_float(kind, &s, fold->count);
    }
    ref_store_float(fold->y, to, 1, n, into);
}

/* Whether the elements of each output are neighbours. */
static bool is_dense(const folding *fold)
{
    int64_t dense[REF_RANK];
    ref_dense_strides(fold->rank, fold->dims, dense);
    return fold->rank > 0 && memcmp(dense, fold->strides, (size_t)fold->rank * sizeof *dense) == 0;
}

/* The greatest or least of some floats; false where one is no number, or zeros decide, of which the
 * first one counts. */
static bool find_extreme(const float *x, int64_t n, bool most, float *extreme)
{
    return ref_find_extreme(x, n, most, extreme) && *extreme != 0.0F;
}

static ref_term term_of(ref_reduce kind)
{
    return kind == REF_REDUCE_PROD                                  ? REF_TERM_FACTOR
           : kind == REF_REDUCE_L1                                  ? REF_TERM_MAGNITUDE
           : kind == REF_REDUCE_L2 || kind == REF_REDUCE_SUM_SQUARE ? REF_TERM_SQUARE
                                                                    : REF_TERM_PLAIN;
}

/* The logarithm of a sum of exponentials, and how far that in order can be from it: exponentials
 * differ by 2^-49, and each of the terms was multiplied and added. NAN where it is not known. */
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
    *doubt = 0x1p-47 + (double)n * 0x1p-50 + fabs(found) * 0x1p-51;
    return found;
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
    const state ends[2] = {{.sum = near - doubt}, {.sum = near + doubt}};
    const float low = (float)(logs ? ends[0].sum : finish_float(kind, &ends[0], n));
    const float high = (float)(logs ? ends[1].sum : finish_float(kind, &ends[1], n));
    if (low != high || !(fabsf(low) >= FLT_MIN) || isinf(low)) {
        return false;
    }
    ref_put_float(fold->y, to, (double)low);
    return true;
}

/* Outputs from `i` on of a row of them, as many as one step does; 0 where none fits. */
static int64_t fold_several(const folding *fold, ref_reduce kind, int64_t i)
{
    const int64_t left = fold->kept.length - i;
    const int64_t from = fold->kept.offset[1] + i * fold->kept.step[1];
    const int64_t to = fold->kept.offset[0] + i * fold->kept.step[0];
    if (is_whole(kind, fold->x->dtype) || fold->count == 0) {
        return 0;
    }
    if (kind != REF_REDUCE_LOG_SUM_EXP && fold->kept.step[1] == 1 && fold->kept.step[0] == 1 &&
        left >= 8) {
        const int64_t n = left < BESIDE ? left : BESIDE;
        fold_columns(fold, kind, from, to, n);
        return n;
    }
    if (fold->x->dtype != KILN_DTYPE_FLOAT32 || !is_dense(fold)) {
        return 0;
    }
    const float *x = (const float *)fold->x->data + from;
    if (kind == REF_REDUCE_MAX || kind == REF_REDUCE_MIN) {
        float extreme = 0;
        if (!find_extreme(x, fold->count, kind == REF_REDUCE_MAX, &extreme)) {
            return 0;
        }
        ref_put_float(fold->y, to, (double)extreme);
        return 1;
    }
    if ((kind == REF_REDUCE_LOG_SUM_EXP || (left < FEW && fold->count >= LONG)) &&
        fold_near(fold, kind, x, to)) {
        return 1;
    }
    if (kind == REF_REDUCE_LOG_SUM_EXP) {
        return 0;
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
    const bool keep = ref_attribute_int(call, "keepdims", 1) != 0;
    KLN_RETURN_IF_ERROR(begin_folding(call, mask, keep, fold.x->dtype, &fold));
    while (ref_walk_next(&fold.kept)) {
        for (int64_t i = 0; i < fold.kept.length;) {
            const int64_t done = fold_several(&fold, (ref_reduce)call->variant, i);
            if (done == 0) {
                fold_one(&fold, (ref_reduce)call->variant,
                         fold.kept.offset[1] + i * fold.kept.step[1],
                         fold.kept.offset[0] + i * fold.kept.step[0]);
            }
            i += done == 0 ? 1 : done;
        }
    }
    return KILN_OK;
}

/* Whether element `a` of x takes the place of `b`. NaN counts as the extreme. */
static bool beats(const ref_tensor *x, int64_t a, int64_t b, bool most, bool last)
{
    if (ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT) {
        const double va = ref_get_float(x, a);
        const double vb = ref_get_float(x, b);
        if (isnan(vb) || isnan(va)) {
            return isnan(va) && (!isnan(vb) || last);
        }
        return (most ? va > vb : va < vb) || (last && va == vb);
    }
    const int64_t va = ref_get_int(x, a);
    const int64_t vb = ref_get_int(x, b);
    const bool greater =
        ref_domain_of(x->dtype) == REF_DOMAIN_UNSIGNED ? (uint64_t)va > (uint64_t)vb : va > vb;
    return va == vb ? last : greater == most;
}

/* Where the extreme of neighbouring floats is; false where that is not to be had so. */
static bool find_place(const folding *fold, int64_t from, bool most, bool last, int64_t *place)
{
    float extreme = 0;
    const float *x = (const float *)fold->x->data + from;
    if (fold->x->dtype != KILN_DTYPE_FLOAT32 || fold->count == 0 || fold->strides[0] != 1 ||
        !find_extreme(x, fold->count, most, &extreme)) {
        return false;
    }
    *place = last ? fold->count - 1 : ref_find_equal(x, fold->count, extreme);
    while (x[*place] != extreme) {
        --*place;
    }
    return true;
}

/* ArgMax (variant 1) and ArgMin. */
static kiln_status ref_op_arg(ref_call *call)
{
    folding fold = {0};
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_need_number(call, 0, &fold.x));
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), fold.x->rank, &axis));
    const bool keep = ref_attribute_int(call, "keepdims", 1) != 0;
    const bool last = ref_attribute_int(call, "select_last_index", 0) != 0;
    KLN_RETURN_IF_ERROR(begin_folding(call, UINT32_C(1) << axis, keep, KILN_DTYPE_INT64, &fold));
    KLN_RETURN_IF(fold.count == 0 && fold.y->count > 0, KILN_ERROR_SHAPE, "axis %d is empty", axis);
    while (ref_walk_next(&fold.kept)) {
        for (int64_t i = 0; i < fold.kept.length; i++) {
            const int64_t from = fold.kept.offset[1] + i * fold.kept.step[1];
            int64_t best = 0;
            const bool found = find_place(&fold, from, call->variant == 1, last, &best);
            for (int64_t j = 1; !found && j < fold.count; j++) {
                if (beats(fold.x, from + j * fold.strides[0], from + best * fold.strides[0],
                          call->variant == 1, last)) {
                    best = j;
                }
            }
            ((int64_t *)fold.y->data)[fold.kept.offset[0] + i * fold.kept.step[0]] = best;
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
    REF_OP("ArgMax", 1, arg, 1),
    REF_OP("ArgMin", 1, arg, 0),
    REF_KERNELS_END
};
/* clang-format on */
