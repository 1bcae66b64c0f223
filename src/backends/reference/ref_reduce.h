/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the reductions: which elements are reduced to one. */
#ifndef REF_REDUCE_H
#define REF_REDUCE_H

#include "ref_ops.h"
#include "ref_rows.h"

/* A reduction splits the dimensions of x: `kept` ones index the output, `gone` ones are folded. */
typedef struct ref_folding {
    const ref_tensor *x;
    ref_tensor *y;
    ref_walk kept;
    int rank; /* of the folded dimensions */
    int64_t dims[REF_RANK];
    int64_t strides[REF_RANK];
    int64_t count; /* elements folded into one */
    bool is_dense; /* whether these are neighbours */
} ref_folding;

/* Over the elements of one output, from its first. */
static inline ref_walk ref_walk_folded(const ref_folding *fold)
{
    ref_walk walk;
    ref_walk_init(&walk, fold->rank, fold->dims);
    ref_walk_add(&walk, fold->strides);
    ref_walk_begin(&walk);
    return walk;
}

static inline bool ref_is_extreme(ref_reduce kind)
{
    return kind == REF_REDUCE_MAX || kind == REF_REDUCE_MIN;
}

/* Integers of one output, and of `n` outputs whose elements lie side by side. */
void ref_fold_ints(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to);
void ref_fold_int_columns(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                          int64_t n);
/* Of a row of outputs from `i` on, as many as were found at once, whose elements are neighbours as
 * they are computed; 0 where they are not. */
int64_t ref_fold_int_rows(const ref_folding *fold, ref_reduce kind, int64_t i);
/* Extremes of such, of numbers that have functions in their own type, and of others. */
void ref_find_extremes(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                       int64_t n);
void ref_find_wide_extremes(const ref_folding *fold, ref_reduce kind, int64_t from, int64_t to,
                            int64_t n);

#endif
