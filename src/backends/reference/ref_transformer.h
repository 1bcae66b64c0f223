/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the attention operators of com.microsoft, which are ONNX's attention
 * applied to inputs arranged for it. */
#ifndef REF_TRANSFORMER_H
#define REF_TRANSFORMER_H

#include "ref_step.h"

/* Columns `begin` to `begin` + `width` - 1 of [batch, length, columns]. */
typedef struct ref_columns {
    const ref_tensor *x;
    int64_t begin, width;
    const ref_tensor *bias; /* NULL, or numbers of which those from `bias_begin` on are added */
    int64_t bias_begin;
} ref_columns;

typedef struct ref_attending {
    ref_call *call;
    int64_t batch, queries, keys; /* keys: those of the past too */
    int64_t heads, past;
    double filter;          /* what is added where a key is hidden */
    const ref_tensor *mask; /* lengths, begins and ends, or what is 0 where a key is hidden */
    const ref_tensor *bias; /* of scores, which broadcasts over batches and heads */
    int64_t biased;         /* keys that the bias is for: the first ones */
    bool causal;
    /* NULL, or for each query of each batch the first key that it sees and the one behind the last.
     */
    const int64_t *seen;
    /* NULL, or for each head the score of one more key, which all queries see. */
    const double *sinks;
} ref_attending;

/* Batch, queries and heads of `x`, and what attributes of the node say. */
KILN_MUST_CHECK kiln_status ref_begin_attention(ref_call *call, const ref_tensor *x,
                                                ref_attending *a);
/* As [batch, length, width] or, of `heads`, as [batch, heads, past + length, size] behind what is
 * at `past`. */
KILN_MUST_CHECK kiln_status ref_take_columns(const ref_attending *a, const ref_columns *from,
                                             int64_t heads, const void *past,
                                             const ref_value **value);
/* Gives output 0, of queries of three dimensions, keys and values of four. */
KILN_MUST_CHECK kiln_status ref_attend(const ref_attending *a, const ref_value *q,
                                       const ref_value *k, const ref_value *v);

#endif
