/* SPDX-License-Identifier: Apache-2.0 */
/* Valid networks at random, with how far two executors may be apart in each tensor: a running
 * bound of the error, worked out layer by layer from how large the numbers can be and how much a
 * layer makes of an error in its input. */
#ifndef RANDOM_LAYERS_H
#define RANDOM_LAYERS_H

#include <kiln/kiln.h>

#include "ops/kln_ops.h"

#define RANDOM_MOST 128

typedef struct random_tensor {
    kiln_tensor_id id;
    kiln_dtype dtype;
    kiln_shape shape;
    double most;  /* no element is larger */
    double error; /* nor further away in the other executor; 0: exact */
} random_tensor;

typedef struct random_network {
    uint64_t state;
    kiln_network *network;
    random_tensor tensors[RANDOM_MOST];
    size_t count;
    size_t inputs; /* the first ones */
    kiln_status status;
    const char *layer; /* the one that was added last */
} random_network;

uint64_t random_next(uint64_t *state);

/* A network of `layers` random steps; the same for the same seed, and that of fewer steps is its
 * beginning. On a failure `status` says so. */
void random_network_make(random_network *r, uint64_t seed, size_t layers);
void random_network_finish(random_network *r);

#endif
