/*
 * layers_attention.h - attention and recurrent layers.
 *
 * <kiln/network.h> has the rules for every layer: names, errors, the lifetime of weights, threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LAYERS_ATTENTION_H
#define KILN_LAYERS_ATTENTION_H

#include <kiln/network.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- attention and recurrence --- */

/* Scaled dot-product attention. query: [batch, heads, tokens, size]; key and value: [batch, kv
 * heads, tokens, size]. heads is a multiple of kv heads (grouped-query attention). */
typedef struct kiln_attention_options {
    size_t struct_size;      /* set by KILN_ATTENTION_OPTIONS_INIT */
    int64_t heads;           /* heads of the query */
    int64_t kv_heads;        /* 0: same as `heads` */
    float scale;             /* 0: 1 / sqrt(size) */
    bool causal;             /* a token attends to itself and to earlier tokens */
    float softcap;           /* 0: none; above 0: scores become softcap * tanh(score / softcap) */
    kiln_tensor_id mask;     /* added to the scores, broadcast; or bool, true where attended */
    kiln_tensor_id past_key; /* prepended to `key`; set both past tensors or neither */
    kiln_tensor_id past_value;
} kiln_attention_options;

#define KILN_ATTENTION_OPTIONS_INIT                                                             \
    KILN_INIT_WITH_(kiln_attention_options, .mask = KILN_NO_TENSOR, .past_key = KILN_NO_TENSOR, \
                    .past_value = KILN_NO_TENSOR)

/* Adds attention. output: [batch, heads, tokens, size of `value`]. It is one operator from operator
 * set 23 on. Older operator sets, and past keys, use ordinary operators. `present_key` and
 * `present_value` may be NULL; they receive past and new keys and values concatenated. `options`
 * must set `heads`. Errors: RANK unless query, key and value have rank 4; DTYPE unless the query
 * has a floating-point type. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_attention(
    kiln_network *network, const char *name, kiln_tensor_id query, kiln_tensor_id key,
    kiln_tensor_id value, const kiln_attention_options *options, kiln_tensor_id *output,
    kiln_tensor_id *present_key, kiln_tensor_id *present_value);

typedef enum kiln_recurrent {
    KILN_RECURRENT_RNN = 0,
    KILN_RECURRENT_GRU = 1,
    KILN_RECURRENT_LSTM = 2
} kiln_recurrent;

typedef enum kiln_direction {
    KILN_DIRECTION_FORWARD = 0,
    KILN_DIRECTION_REVERSE = 1,
    KILN_DIRECTION_BOTH = 2
} kiln_direction;

typedef struct kiln_recurrent_options {
    size_t struct_size; /* set by KILN_RECURRENT_OPTIONS_INIT */
    kiln_direction direction;
    int64_t hidden_size;
    bool reset_after;              /* GRU: linear_before_reset, as in cuDNN and PyTorch */
    kiln_tensor_id bias;           /* [directions, 2 * gates * hidden] */
    kiln_tensor_id lengths;        /* int32 [batch] */
    kiln_tensor_id initial_hidden; /* [directions, batch, hidden] */
    kiln_tensor_id initial_cell;   /* LSTM: likewise */
} kiln_recurrent_options;

#define KILN_RECURRENT_OPTIONS_INIT                                                            \
    KILN_INIT_WITH_(kiln_recurrent_options, .bias = KILN_NO_TENSOR, .lengths = KILN_NO_TENSOR, \
                    .initial_hidden = KILN_NO_TENSOR, .initial_cell = KILN_NO_TENSOR)

/* Adds a recurrent layer. input: [tokens, batch, size]; weights: [directions, gates * hidden,
 * size]; recurrence: [directions, gates * hidden, hidden]. Gates are in ONNX's order (LSTM: iofc,
 * GRU: zrh). output: [tokens, directions, batch, hidden]. `last_hidden` and, for an LSTM,
 * `last_cell` are [directions, batch, hidden] and may be NULL. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_recurrent(
    kiln_network *network, const char *name, kiln_recurrent kind, kiln_tensor_id input,
    kiln_tensor_id weights, kiln_tensor_id recurrence, const kiln_recurrent_options *options,
    kiln_tensor_id *output, kiln_tensor_id *last_hidden, kiln_tensor_id *last_cell);

#ifdef __cplusplus
}
#endif

#endif
