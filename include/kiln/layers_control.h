/*
 * layers_control.h - branches and loops.
 *
 * <kiln/network.h> has the rules for every layer: names, errors, the lifetime of weights, threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LAYERS_CONTROL_H
#define KILN_LAYERS_CONTROL_H

#include <kiln/network.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- control flow --- */

/* Creates a graph to be used once, as a branch of an If or the body of a Loop. It belongs to
 * `network` and is destroyed with it. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_create_branch(kiln_network *network,
                                                                const char *name,
                                                                kiln_network **branch);
/* Makes a tensor of the enclosing network readable inside `branch`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_capture(kiln_network *branch,
                                                          kiln_tensor_id outer,
                                                          kiln_tensor_id *inner);
/* Runs `then` or `otherwise`, which both have no inputs and `count` outputs. `condition` is one
 * bool. The branches accept no more layers after this call. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_if(kiln_network *network, const char *name,
                                                         kiln_tensor_id condition,
                                                         kiln_network *then,
                                                         kiln_network *otherwise,
                                                         kiln_tensor_id *outputs, size_t count);
/* Runs `body` until its first output is false or `trips` iterations are done (either may be
 * KILN_NO_TENSOR). The body's inputs are the int64 iteration number, the bool condition and the
 * carried tensors. Its outputs are the condition, the carried tensors, and the tensors to stack
 * over the iterations. `outputs` receives the carried tensors and the stacks, `count` in all. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_loop(kiln_network *network, const char *name,
                                                           kiln_tensor_id trips,
                                                           kiln_tensor_id condition,
                                                           const kiln_tensor_id *carried,
                                                           size_t carried_count, kiln_network *body,
                                                           kiln_tensor_id *outputs, size_t count);

#ifdef __cplusplus
}
#endif

#endif
