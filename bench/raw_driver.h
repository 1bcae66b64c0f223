/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA driver as a peer calls it: no more than the functions that a run from and to memory of
 * the host needs. */
#ifndef BENCH_RAW_DRIVER_H
#define BENCH_RAW_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef unsigned long long raw_address; /* of device memory */

#define RAW_DRIVER_LIST(X)                                                               \
    X(init, "cuInit", (unsigned))                                                        \
    X(retain, "cuDevicePrimaryCtxRetain", (void **, int))                                \
    X(push, "cuCtxPushCurrent_v2", (void *))                                             \
    X(stream_create, "cuStreamCreateWithPriority", (void **, unsigned, int))             \
    X(stream_destroy, "cuStreamDestroy_v2", (void *))                                    \
    X(stream_wait, "cuStreamSynchronize", (void *))                                      \
    X(allocate, "cuMemAlloc_v2", (raw_address *, size_t))                                \
    X(release, "cuMemFree_v2", (raw_address))                                            \
    X(allocate_host, "cuMemHostAlloc", (void **, size_t, unsigned))                      \
    X(release_host, "cuMemFreeHost", (void *))                                           \
    X(copy, "cuMemcpyAsync", (raw_address, raw_address, size_t, void *))                 \
    X(capture_begin, "cuStreamBeginCapture_v2", (void *, int))                           \
    X(capture_end, "cuStreamEndCapture", (void *, void **))                              \
    X(instantiate, "cuGraphInstantiateWithFlags", (void **, void *, unsigned long long)) \
    X(graph_destroy, "cuGraphDestroy", (void *))                                         \
    X(exec_destroy, "cuGraphExecDestroy", (void *))                                      \
    X(launch, "cuGraphLaunch", (void *, void *))

typedef struct raw_driver {
#define MEMBER(member, symbol, parameters) int(*member) parameters;
    RAW_DRIVER_LIST(MEMBER)
#undef MEMBER
} raw_driver;

/* The two flags of cuMemHostAlloc that pinned memory has: portable and mapped. */
#define RAW_PINNED 3U

/* An address of host memory as the driver counts it. */
#define RAW_HOST(pointer) ((raw_address)(uintptr_t)(pointer))

/* Ends the program with `what` where `result` is an error. */
void raw_check_cuda(int result, const char *what);

/* dlopen, or the end of the program with its message. */
void *raw_open_library(const char *path);

/* Opens the driver (KILN_CUDA_DRIVER, or libcuda.so.1) and makes device 0's primary context this
 * thread's. Ends the program with a sentence when something fails. */
void raw_driver_open(raw_driver *cuda);

#endif
