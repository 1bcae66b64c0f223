/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels composed of other kernels, as for fused operators. The result of a step lasts until the
 * kernel returns. */
#ifndef REF_STEP_H
#define REF_STEP_H

#include "ref_ops.h"

/* An operator of ONNX, or else of com.microsoft, with attributes that count before those of the
 * call's node. */
typedef struct ref_operator {
    const char *name;
    int64_t version; /* of its operator set; 0: the newest */
    const kln_onnx_attribute *attributes;
    size_t attribute_count;
} ref_operator;

/* Its output 0; an input of NULL is left out. */
KILN_MUST_CHECK kiln_status ref_step(ref_call *call, const ref_operator *op,
                                     const ref_value *const *inputs, size_t count,
                                     const ref_value **result);
/* The same of two inputs, without attributes. */
#define REF_STEP_OF_TWO(call, op, a, b, result)                                              \
    ref_step((call), &(ref_operator){.name = (op)}, (const ref_value *const[]){(a), (b)}, 2, \
             (result))
/* A tensor that a step is to read, uninitialised; a scalar. */
KILN_MUST_CHECK kiln_status ref_step_tensor(ref_call *call, kiln_dtype dtype, int rank,
                                            const int64_t *dims, ref_value **value);
KILN_MUST_CHECK kiln_status ref_step_number(ref_call *call, kiln_dtype dtype, double number,
                                            const ref_value **value);
/* `*value` transposed: its dimension i was order[i]. */
KILN_MUST_CHECK kiln_status ref_step_turn(ref_call *call, const int64_t *order,
                                          const ref_value **value);
/* Output `index` is what a step gave. */
KILN_MUST_CHECK kiln_status ref_give(ref_call *call, size_t index, const ref_value *value);

#endif
