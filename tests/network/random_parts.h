/*
 * random_parts.h - what the two files of random layers share.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef RANDOM_PARTS_H
#define RANDOM_PARTS_H

#include "random_layers.h"

#define F KILN_DTYPE_FLOAT32

#define DO(call)                    \
    do {                            \
        if (r->status == KILN_OK) { \
            r->status = (call);     \
        }                           \
    } while (0)

extern int64_t random_indices[4096]; /* 0 to 2 */

/* A number from 0 to before `limit`. */
int64_t random_upto(random_network *r, int64_t limit);
int64_t random_elements(const random_tensor *t);

/* Something of the pool that fits, or NULL. */
typedef bool (*random_fits)(const random_tensor *t);
random_tensor *random_pick(random_network *r, random_fits wanted);

/* Takes a new tensor in, as inference says it is; one without a fixed shape is used no more. */
void random_add(random_network *r, kiln_tensor_id id, double most, double error);
kiln_tensor_id random_constant(random_network *r, kiln_dtype dtype, kiln_shape shape,
                               const void *data);
kiln_tensor_id random_weights(random_network *r, kiln_shape shape);

/* Layers of whole tensors (random_wide.c); each returns false when nothing fits. */
bool random_convolution(random_network *r);
bool random_pooling(random_network *r);
bool random_reduction(random_network *r);
bool random_normalization(random_network *r);
bool random_moving(random_network *r);
bool random_filling(random_network *r);
bool random_quantization(random_network *r);
bool random_sequence(random_network *r);
bool random_branch(random_network *r);

#endif
