/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the files of limits. */
#ifndef KLN_ORT_LIMITS_H
#define KLN_ORT_LIMITS_H

#include "ort_lacks.h"

/* TensorProto.DataType. */
enum {
    FLOAT = 1,
    INT32 = 6,
    BOOL = 9,
    FLOAT16 = 10,
    DOUBLE = 11,
    UINT32 = 12,
    UINT64 = 13,
    BFLOAT16 = 16
};

/* Whether its first output is known to have no elements. */
bool ort_gives_nothing(const kln_node_view *view);

/* ort_limits_windows.c */
ort_refusal ort_limit_resize(const kln_node_view *view);
ort_refusal ort_limit_same(const kln_node_view *view);
ort_refusal ort_limit_columns(const kln_node_view *view);
ort_refusal ort_limit_zero_point(const kln_node_view *view);
ort_refusal ort_limit_kernel(const kln_node_view *view);
ort_refusal ort_limit_conv(const kln_node_view *view);
ort_refusal ort_limit_transpose(const kln_node_view *view);
ort_refusal ort_limit_unpool(const kln_node_view *view);
ort_refusal ort_limit_channels(const kln_node_view *view);
ort_refusal ort_limit_window(const kln_node_view *view);
ort_refusal ort_limit_lrn(const kln_node_view *view);
ort_refusal ort_limit_pool(const kln_node_view *view);

/* ort_limits_sequences.c */
ort_refusal ort_limit_recurrence(const kln_node_view *view);
ort_refusal ort_limit_rms(const kln_node_view *view);
ort_refusal ort_limit_attention(const kln_node_view *view);
ort_refusal ort_limit_groups(const kln_node_view *view);
ort_refusal ort_limit_grams(const kln_node_view *view);

#endif
