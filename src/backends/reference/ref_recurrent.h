/* SPDX-License-Identifier: Apache-2.0 */
/* RNN, GRU and LSTM, 8-bit ones included: reading the node (ref_recurrent.c) and computing it. */
#ifndef REF_RECURRENT_H
#define REF_RECURRENT_H

#include "ref_ops.h"
#include "ref_product.h"

typedef enum ref_gate_function {
    REF_GATE_AFFINE,
    REF_GATE_ELU,
    REF_GATE_HARD_SIGMOID,
    REF_GATE_LEAKY_RELU,
    REF_GATE_RELU,
    REF_GATE_SCALED_TANH,
    REF_GATE_SIGMOID,
    REF_GATE_SOFTPLUS,
    REF_GATE_SOFTSIGN,
    REF_GATE_TANH,
    REF_GATE_THRESHOLDED_RELU
} ref_gate_function;

typedef struct ref_activation {
    ref_gate_function kind;
    double a, b;
} ref_activation;

typedef struct ref_recurrence {
    ref_cell cell;
    int64_t gates, steps, batch, width, hidden, directions;
    bool batch_first, reset_after, input_forget, of_bytes;
    bool backward[2];
    double clip;
    ref_activation f[6];
    double *x, *b, *p; /* b and p may be NULL */
    ref_matrix w, r;   /* of all directions; a gate's weights are a column */
    const ref_tensor *lengths;
    double *h, *c; /* states: [direction][batch][hidden] */
    double *y;     /* [step][direction][batch][hidden] */
    /* Of one direction, sample by sample: what some steps read and what that adds to the gates,
     * and what one step's state adds to them. */
    double *read, *from_x, *from_h;
    int64_t at_once;  /* steps whose inputs are weighed together */
    int64_t together; /* gates whose share of the state is found before any other */
    double *panels;   /* of these gates' recurrent weights, and behind them of the others' */
    /* Where weights are `of_bytes`, w, r and x hold whole numbers, less their zero points, and each
     * gate of a direction has what its products are multiplied by, with the scale of x in w's. */
    double *w_scales, *r_scales;
    double *bytes;  /* what a step's states become: [batch][hidden] */
    bool ends_zero; /* a state counts as 0 once its sample is over */
} ref_recurrence;

/* Fills y, and leaves the last states in h and c. */
KILN_MUST_CHECK kiln_status ref_run_direction(const ref_call *call, const ref_recurrence *n,
                                              int64_t d);

#endif
