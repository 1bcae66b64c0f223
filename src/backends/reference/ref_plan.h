/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the files that make plans. */
#ifndef REF_PLAN_H
#define REF_PLAN_H

#include "ref_internal.h"

/* What a function's body sees of its call; for the model itself, `call` is NULL. */
typedef struct ref_environment {
    const ref_node *call;
    const kln_onnx_function *function;
    int depth;
} ref_environment;

KILN_MUST_CHECK kiln_status ref_fail_arena(void);
/* The node's attributes, references resolved by what is `around` it, and room for their bodies.
 * (ref_attributes.c) */
KILN_MUST_CHECK kiln_status ref_resolve_attributes(kln_arena *arena, const ref_environment *around,
                                                   ref_node *node);

#endif
