/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA driver for the modules above: devices, contexts, memory. Streams, events and graphs are
 * the public objects of <kiln/system.h>; this header has their internals that other modules need.
 *
 * The driver (libcuda.so.1) is opened on first use and stays open. Every call here opens it if
 * necessary, so each can fail with LIBRARY_ABSENT, LIBRARY_BROKEN, LIBRARY_SYMBOL, LIBRARY_VERSION
 * or NO_DEVICE. Errors of the driver become OUT_OF_MEMORY, NO_DEVICE or DEVICE, with the driver's
 * own name and text in the sentence.
 *
 * Everything runs in a device's primary context, which the CUDA runtime (and so TensorRT and ONNX
 * Runtime) uses too. It is retained on first use and kept. Any thread. */
#ifndef KLN_CUDA_H
#define KLN_CUDA_H

#include <stdatomic.h>

#include <kiln/system.h>
#include <kiln/tensor.h>

#include "base/kln_base.h"
#include "loader/kln_loader.h"

/* --- the driver (cuda_driver.c) --- */

/* Opens the driver and counts its devices, once; later calls repeat the first result. */
KILN_MUST_CHECK kiln_status kln_cuda_open(void);

/* For the system report: the result of looking for the driver. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_cuda_library(kln_library_use *use);

/* The CUDA version of the driver, 12080 for 12.8; 0 if there is none. */
int kln_cuda_version(void);

/* Features that depend on functions of the driver. */
typedef enum kln_cuda_feature {
    KLN_CUDA_STREAM_ORDERED, /* stream-ordered allocation: driver 11.2, and a device that supports
                                it */
    KLN_CUDA_GRAPHS,         /* capture and replay: driver 11.0 */
    KLN_CUDA_GRAPH_UPDATE,   /* updating a captured graph in place: driver 11.0 */
    KLN_CUDA_KERNELS         /* copies by a kernel: functions to load and launch one */
} kln_cuda_feature;

bool kln_cuda_has(kln_cuda_feature feature, int32_t device);

/* Releases the primary contexts and forgets what was found, so that the next call looks again. For
 * tests; no thread may be inside, and no object of a device may be alive. */
void kln_cuda_close(void);

/* --- devices (cuda_device.c) --- */

/* 0 without a driver or a device; the sentence of kln_cuda_open says why. */
int32_t kln_cuda_device_count(void);

/* Fills in all of `info` except struct_size; its strings are valid as long as the process. */
KILN_MUST_CHECK kiln_status kln_cuda_device_info(int32_t device, kiln_device_info *info);

/* Free and total memory in bytes, as the driver reports it at present. */
KILN_MUST_CHECK kiln_status kln_cuda_memory_info(int32_t device, size_t *free_bytes,
                                                 size_t *total_bytes);

/* Between enter and leave, which come in pairs, a device's primary context is this thread's current
 * context. Scopes nest. */
typedef struct kln_cuda_scope {
    bool pushed;
} kln_cuda_scope;

KILN_MUST_CHECK kiln_status kln_cuda_enter(int32_t device, kln_cuda_scope *scope);
void kln_cuda_leave(kln_cuda_scope *scope);
/* Enters until the end of the scope, or returns. */
#define KLN_CUDA_ENTER(device)                                                     \
    KLN_SCOPED(kln_cuda_leave) kln_cuda_scope kln_cuda_scope_ = {.pushed = false}; \
    KLN_RETURN_IF_ERROR(kln_cuda_enter((device), &kln_cuda_scope_))

/* Like kiln_graph_launch and kiln_stream_synchronize, for a device that is entered already:
 * querying the current context repeatedly is the largest overhead of a short run. */
KILN_MUST_CHECK kiln_status kln_graph_launch(const kiln_graph *graph, const kiln_stream *stream);
KILN_MUST_CHECK kiln_status kln_stream_wait(const kiln_stream *stream);

/* Host memory that the device writes once the work before is done. A host that polls it learns of
 * the end a microsecond before the driver reports it. */
typedef struct kln_fence {
    void *word; /* NULL: none */
    int32_t device;
    bool ahead; /* work that writes it may be launched ahead of its turn */
} kln_fence;

/* Makes none if memory is short, the device is older than compute capability 7.0, or the process
 * wants waiting threads to yield or to sleep. */
void kln_fence_make(int32_t device, kln_fence *fence);
void kln_fence_drop(kln_fence *fence);

/* Enqueues a write by the device at this place of the stream, or of each replay if it is captured.
 * After a replay of a graph with copies, a separate write would come late. */
KILN_MUST_CHECK kiln_status kln_fence_enqueue(const kln_fence *fence, kiln_stream *stream);
/* Before the work is launched, while no other work that writes there is in flight. */
void kln_fence_arm(const kln_fence *fence);
bool kln_fence_is_passed(const kln_fence *fence);
/* Waits until the device has written; if it never does, until the driver reports that the stream is
 * done, or its error. One thread at a time. */
KILN_MUST_CHECK kiln_status kln_fence_wait(const kln_fence *fence, const kiln_stream *stream);

/* Waits until all work on the device is done, whoever enqueued it. Fails with DEVICE while a stream
 * of this thread is being captured. */
KILN_MUST_CHECK kiln_status kln_cuda_wait(int32_t device);

/* --- memory (cuda_memory.c) --- */

/* Allocates `bytes` (not 0) in PINNED, MANAGED or DEVICE memory, aligned to at least 256. Pinned
 * memory is portable and mapped: every device may use its address. OUT_OF_MEMORY; UNSUPPORTED for
 * managed memory on a device without it; INVALID_ARGUMENT for another location. */
KILN_MUST_CHECK kiln_status kln_cuda_allocate(kiln_location location, int32_t device, size_t bytes,
                                              void **memory);
/* Waits for the device first, as the driver does. An error is only logged, because nothing can be
 * done about it. */
void kln_cuda_release(kiln_location location, int32_t device, void *memory);

/* Copies between any two addresses of `device` and host. With a stream the copy is enqueued, and
 * pageable host memory may block the call; with NULL it is done on return. */
KILN_MUST_CHECK kiln_status kln_cuda_copy(int32_t device, void *to, const void *from, size_t bytes,
                                          kiln_stream *stream);

/* One piece of memory to copy. Its two ends do not overlap, nor do the targets of pieces that are
 * copied together. */
typedef struct kln_cuda_piece {
    void *to;
    const void *from;
    size_t bytes; /* 0: nothing */
} kln_cuda_piece;

/* Like kln_cuda_copy with a stream, for any number of pieces, in no particular order: with one call
 * if the driver has it (12.8), so that copies may overlap. `from` NULL: zeros. */
KILN_MUST_CHECK kiln_status kln_cuda_copy_pieces(kiln_stream *stream, const kln_cuda_piece *pieces,
                                                 size_t count);

/* Copies from memory of device `from_device` to memory of device `to_device`, with or without peer
 * access. */
KILN_MUST_CHECK kiln_status kln_cuda_copy_peer(int32_t to_device, void *to, int32_t from_device,
                                               const void *from, size_t bytes, kiln_stream *stream);

/* Sets each byte to `value`; otherwise like kln_cuda_copy. */
KILN_MUST_CHECK kiln_status kln_cuda_fill(int32_t device, void *memory, uint8_t value, size_t bytes,
                                          kiln_stream *stream);

/* --- copies by a kernel (cuda_gather.c) --- */

#define KLN_CUDA_PIECES 16

/* Copies up to KLN_CUDA_PIECES pieces with one kernel launch, in stream order; the stream may be
 * captured. Both ends of each piece are memory that the stream's device can address: its own,
 * managed, or pinned and mapped as by kln_cuda_allocate. Pageable memory would make the device
 * unusable for the process. Any number of bytes at any alignment: 16 at a time if both ends are
 * aligned to 16, otherwise one by one, which is slow over the bus. `pieces` may be freed on return.
 *
 * The first call on a device loads the kernel, which compiles it: that call must not be captured.
 * UNSUPPORTED without KLN_CUDA_KERNELS; SIZE for more pieces, or more bytes (about 8 TiB, 512 GiB
 * unaligned) than one launch can copy; OUT_OF_MEMORY; DEVICE if the device is too old for the
 * kernel (compute capability 5.0 is needed). */
KILN_MUST_CHECK kiln_status kln_cuda_gather(kiln_stream *stream, const kln_cuda_piece *pieces,
                                            size_t count);

/* Rows to copy from one block of memory to another; the rows of neither overlap. */
typedef struct kln_cuda_rows {
    void *to;
    const void *from;
    size_t to_step, from_step; /* bytes from one row to the next */
    size_t bytes;              /* of a row */
    size_t count;              /* of rows */
} kln_cuda_rows;

/* Copies any number of such blocks, 32 per kernel launch, like kln_cuda_gather; row by row if the
 * driver lacks what that needs. OUT_OF_MEMORY, DEVICE; SIZE above 2^31 pieces of 16 bytes (1, if a
 * part is not aligned to 16) in a block. (cuda_rows.c) */
KILN_MUST_CHECK kiln_status kln_cuda_copy_rows(kiln_stream *stream, const kln_cuda_rows *blocks,
                                               size_t count);

/* --- histograms by kernels (cuda_observe.c) --- */

/* Of a tensor's finite numbers, as keys: the bits of a float, all but the sign inverted if it is
 * negative, so that keys order as the numbers do. */
typedef struct kln_cuda_bounds {
    int32_t least, greatest; /* initially, and without numbers, INT32_MAX and INT32_MIN */
    uint32_t nans, infinities;
} kln_cuda_bounds;

#define KLN_CUDA_NO_BOUNDS ((kln_cuda_bounds){INT32_MAX, INT32_MIN, 0, 0})

/* Bins of positive magnitudes, then of negative ones, then the number of zeros. */
#define KLN_CUDA_SIDE 2048
#define KLN_CUDA_BINS (2 * KLN_CUDA_SIDE + 1)

/* Adds `count` (below 2^32) numbers in device memory to the state in device memory: to `*found`,
 * and to the KLN_CUDA_BINS counters of `bins`. A number counts in the bin |number| * scale, rounded
 * down, or the last bin if that is beyond it; NaN and infinities count in none. In stream order.
 * Errors as kln_cuda_gather. */
KILN_MUST_CHECK kiln_status kln_cuda_find_bounds(kiln_stream *stream, const float *values,
                                                 uint64_t count, kln_cuda_bounds *found);
KILN_MUST_CHECK kiln_status kln_cuda_count_bins(kiln_stream *stream, const float *values,
                                                uint64_t count, float scale, uint32_t *bins);

/* --- streams, events, graphs (cuda_stream.c, cuda_graph.c) --- */

/* A stream outlives kiln_stream_destroy as an empty shell while a pool still remembers that memory
 * was released on it. Lock order: `guard` before the driver's mutex. */
struct kiln_stream {
    atomic_size_t references;
    pthread_mutex_t guard; /* locked while another thread orders work after it */
    atomic_bool finished;  /* destroyed by its owner: all its work is done, `handle` is invalid */
    int32_t device;
    bool owned; /* created by Kiln, not wrapped */
    void *handle;
};

struct kiln_event {
    int32_t device;
    bool timed;
    bool recorded;
    void *handle;
};

struct kiln_graph {
    int32_t device;
    bool updated_in_place; /* by the last update */
    size_t nodes;
    size_t host_calls; /* nodes that call a host function; not maintained by updates */
    void *executable;
};

/* Estimated device and host memory of the graph, which the driver does not report. */
uint64_t kln_graph_bytes(const kiln_graph *graph);

/* Creates a stream on the same device with the same priority: captured work keeps the priority of
 * the stream it was captured on. */
KILN_MUST_CHECK kiln_status kln_stream_create_beside(const kiln_stream *other,
                                                     kiln_stream **stream);
/* Raises `*priority` to the next more urgent one that the device has. For every second one of
 * several streams that run the same network at once: with equal priorities they run the same
 * kernels in step and compete for the same part of the GPU, while a stream that is ahead leaves
 * unused parts to the other. */
KILN_MUST_CHECK kiln_status kln_stream_priority_ahead(int32_t device, int32_t *priority);
void kln_stream_retain(kiln_stream *stream);
void kln_stream_release(kiln_stream *stream);

/* Like kiln_stream_capture_begin, but this thread may allocate, free and wait on other streams
 * meanwhile, as libraries do that manage their own memory while they enqueue. */
KILN_MUST_CHECK kiln_status kln_stream_capture_begin_relaxed(kiln_stream *stream);

/* Orders work enqueued on `later` from now on after the work now on `earlier`. `later` NULL: the
 * calling thread waits. */
KILN_MUST_CHECK kiln_status kln_stream_order(kiln_stream *earlier, kiln_stream *later);

/* Whether all of its work is done; a finished stream has none. */
KILN_MUST_CHECK kiln_status kln_stream_is_idle(kiln_stream *stream, bool *idle);

#endif
