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

/* Opens the driver and counts its devices, once; later calls repeat the first answer. */
KILN_MUST_CHECK kiln_status kln_cuda_open(void);

/* For the system report: what came of looking for the driver. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_cuda_library(kln_library_use *use);

/* The CUDA version that the driver speaks, 12080 for 12.8; 0 where there is none. */
int kln_cuda_version(void);

/* What absent functions switch off. */
typedef enum kln_cuda_feature {
    KLN_CUDA_STREAM_ORDERED, /* allocation in stream order: driver 11.2, and the device's word */
    KLN_CUDA_GRAPHS,         /* capture and replay: driver 11.0 */
    KLN_CUDA_GRAPH_UPDATE,   /* a captured graph replaced in place: driver 11.0 */
    KLN_CUDA_KERNELS         /* copies by a kernel: what loads and launches one */
} kln_cuda_feature;

bool kln_cuda_has(kln_cuda_feature feature, int32_t device);

/* Gives the primary contexts back and forgets what was found, so that the next call looks anew. For
 * tests; nobody may be inside, and no object of a device may be alive. */
void kln_cuda_close(void);

/* --- devices (cuda_device.c) --- */

/* 0 where there is no driver or no device; why not is the sentence of kln_cuda_open. */
int32_t kln_cuda_device_count(void);

/* Fills in all of `info` but struct_size; its strings are the process's. */
KILN_MUST_CHECK kiln_status kln_cuda_device_info(int32_t device, kiln_device_info *info);

/* Bytes that are free and bytes there are, as the driver says at this moment. */
KILN_MUST_CHECK kiln_status kln_cuda_memory_info(int32_t device, size_t *free_bytes,
                                                 size_t *total_bytes);

/* A device's primary context is this thread's current one between enter and leave, which come in
 * pairs. Scopes nest. */
typedef struct kln_cuda_scope {
    bool pushed;
} kln_cuda_scope;

KILN_MUST_CHECK kiln_status kln_cuda_enter(int32_t device, kln_cuda_scope *scope);
void kln_cuda_leave(kln_cuda_scope *scope);
/* Enters to the end of the scope, or returns. */
#define KLN_CUDA_ENTER(device)                                                     \
    KLN_SCOPED(kln_cuda_leave) kln_cuda_scope kln_cuda_scope_ = {.pushed = false}; \
    KLN_RETURN_IF_ERROR(kln_cuda_enter((device), &kln_cuda_scope_))

/* As kiln_graph_launch and kiln_stream_synchronize, where the device was entered already: asking
 * for the current context again and again is the most that a short run pays beside its work. */
KILN_MUST_CHECK kiln_status kln_graph_launch(const kiln_graph *graph, const kiln_stream *stream);
KILN_MUST_CHECK kiln_status kln_stream_wait(const kiln_stream *stream);

/* Memory of the host's in which the device writes once the work before that is done: a host that
 * looks there knows of the end a microsecond sooner than the driver says it. */
typedef struct kln_fence {
    void *word; /* NULL: there is none */
    int32_t device;
    bool ahead; /* what writes there may be launched ahead of its turn */
} kln_fence;

/* None where memory is short, the device is older than compute capability 7.0, or the process wants
 * threads that wait to yield or to sleep. */
void kln_fence_make(int32_t device, kln_fence *fence);
void kln_fence_drop(kln_fence *fence);

/* The device writes there at this place of the stream, or of each replay where it is captured:
 * behind a replay whose graph has copies in it, a write of its own comes late. */
KILN_MUST_CHECK kiln_status kln_fence_enqueue(const kln_fence *fence, kiln_stream *stream);
/* Before the work is launched, when none is under way that writes there. */
void kln_fence_arm(const kln_fence *fence);
bool kln_fence_is_passed(const kln_fence *fence);
/* Until the device wrote there; where it does not come to that, until the driver says that the
 * stream is done, or why not. One thread at a time. */
KILN_MUST_CHECK kiln_status kln_fence_wait(const kln_fence *fence, const kiln_stream *stream);

/* Waits until all work on the device is done, whoever enqueued it. Fails while a stream of this
 * thread is captured: DEVICE. */
KILN_MUST_CHECK kiln_status kln_cuda_wait(int32_t device);

/* --- memory (cuda_memory.c) --- */

/* `bytes` (not 0) in PINNED, MANAGED or DEVICE memory, aligned to 256 at least. Pinned memory is
 * portable and mapped: every device may use its address. OUT_OF_MEMORY; UNSUPPORTED for managed
 * memory on a device that has none; INVALID_ARGUMENT for another location. */
KILN_MUST_CHECK kiln_status kln_cuda_allocate(kiln_location location, int32_t device, size_t bytes,
                                              void **memory);
/* Waits for the device first, as the driver does. A failure is logged: nothing can be done about
 * it. */
void kln_cuda_release(kiln_location location, int32_t device, void *memory);

/* Copies between any two places of `device` and host. With a stream it is enqueued, and pageable
 * host memory may make the call wait; with NULL it is done on return. */
KILN_MUST_CHECK kiln_status kln_cuda_copy(int32_t device, void *to, const void *from, size_t bytes,
                                          kiln_stream *stream);

/* One piece of memory that is copied. The two ends do not overlap, nor do the targets of pieces
 * that are copied together. */
typedef struct kln_cuda_piece {
    void *to;
    const void *from;
    size_t bytes; /* 0: nothing */
} kln_cuda_piece;

/* As kln_cuda_copy with a stream, of any number of pieces, which are copied in no order among
 * themselves: with one call where the driver has it (12.8), so that the device need not end one
 * before it begins the next. `from` NULL: zeros. */
KILN_MUST_CHECK kiln_status kln_cuda_copy_pieces(kiln_stream *stream, const kln_cuda_piece *pieces,
                                                 size_t count);

/* Copies from memory of device `from_device` to memory of device `to_device`, connected or not. */
KILN_MUST_CHECK kiln_status kln_cuda_copy_peer(int32_t to_device, void *to, int32_t from_device,
                                               const void *from, size_t bytes, kiln_stream *stream);

/* Sets each byte to `value`; as kln_cuda_copy. */
KILN_MUST_CHECK kiln_status kln_cuda_fill(int32_t device, void *memory, uint8_t value, size_t bytes,
                                          kiln_stream *stream);

/* --- copies by a kernel (cuda_gather.c) --- */

#define KLN_CUDA_PIECES 16

/* Copies up to KLN_CUDA_PIECES pieces with one launch of a kernel, in the order of the stream,
 * which may be captured. Both ends of each are memory that the stream's device reaches by its
 * address: its own, managed, or pinned and mapped as kln_cuda_allocate makes it; pageable memory
 * would end the process's use of the device. Any number of bytes at any alignment: 16 at a time
 * where both ends are aligned to 16, else one by one, which is slow over the bus. `pieces` may go
 * on return.
 *
 * The kernel is loaded on a device's first call, which compiles it for the device: let that be one
 * that is not captured. UNSUPPORTED without KLN_CUDA_KERNELS; SIZE for more pieces, or more bytes
 * (about 8 TiB, 512 GiB unaligned) than one launch takes; OUT_OF_MEMORY; DEVICE where the device is
 * too old for the kernel (compute capability 5.0 is needed). */
KILN_MUST_CHECK kiln_status kln_cuda_gather(kiln_stream *stream, const kln_cuda_piece *pieces,
                                            size_t count);

/* Rows of one block of memory that are copied to another one's; rows of neither overlap. */
typedef struct kln_cuda_rows {
    void *to;
    const void *from;
    size_t to_step, from_step; /* from a row to the next, in bytes */
    size_t bytes;              /* of a row */
    size_t count;              /* of rows */
} kln_cuda_rows;

/* Copies any number of such blocks, 32 with one launch of a kernel, as kln_cuda_gather does; where
 * the driver lacks what that needs, row by row. OUT_OF_MEMORY, DEVICE; SIZE past 2^31 pieces of 16
 * bytes (1, where a part is not aligned to 16) in a block. (cuda_rows.c) */
KILN_MUST_CHECK kiln_status kln_cuda_copy_rows(kiln_stream *stream, const kln_cuda_rows *blocks,
                                               size_t count);

/* --- histograms by kernels (cuda_observe.c) --- */

/* Of a tensor's finite numbers, as keys: a float's bits, all but the sign's inverted where it is
 * below 0, so that keys order as the numbers do. */
typedef struct kln_cuda_bounds {
    int32_t least, greatest; /* INT32_MAX and INT32_MIN of none, which is how to begin */
    uint32_t nans, infinities;
} kln_cuda_bounds;

#define KLN_CUDA_NO_BOUNDS ((kln_cuda_bounds){INT32_MAX, INT32_MIN, 0, 0})

/* Bins of magnitudes above 0, then of those below, then how many are 0. */
#define KLN_CUDA_SIDE 2048
#define KLN_CUDA_BINS (2 * KLN_CUDA_SIDE + 1)

/* Adds `count` (below 2^32) numbers in device memory to what is in device memory already: to
 * `*found`, and to the KLN_CUDA_BINS counters of `bins`, where a number falls into the bin of
 * |number| * scale, rounded down, the last where that is past it; NaN and infinities into none. In
 * the order of the stream. Errors as kln_cuda_gather's. */
KILN_MUST_CHECK kiln_status kln_cuda_find_bounds(kiln_stream *stream, const float *values,
                                                 uint64_t count, kln_cuda_bounds *found);
KILN_MUST_CHECK kiln_status kln_cuda_count_bins(kiln_stream *stream, const float *values,
                                                uint64_t count, float scale, uint32_t *bins);

/* --- streams, events, graphs (cuda_stream.c, cuda_graph.c) --- */

/* A stream outlives kiln_stream_destroy as an empty shell where a pool still remembers that memory
 * was released on it. Lock order: `guard` comes before the driver's mutex. */
struct kiln_stream {
    atomic_size_t references;
    pthread_mutex_t guard; /* against destroying while another thread orders itself behind it */
    atomic_bool finished;  /* destroyed by its owner: all its work is done, `handle` is gone */
    int32_t device;
    bool owned; /* made by Kiln, not wrapped */
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
    size_t host_calls; /* nodes that call a function on the host; not kept up by updates */
    void *executable;
};

/* What it takes of the device's and the host's memory: an estimate, since the driver does not tell.
 */
uint64_t kln_graph_bytes(const kiln_graph *graph);

/* Makes a stream on the same device, of the same priority: work that is captured has that of the
 * stream where it was. */
KILN_MUST_CHECK kiln_status kln_stream_create_beside(const kiln_stream *other,
                                                     kiln_stream **stream);
/* Makes `*priority` the next more urgent one that the device has, for every second one of several
 * streams that run one network at once: of the same priority they run the same kernels in step, and
 * wait for the same part of the GPU; one that is ahead leaves to the other what it does not fill.
 */
KILN_MUST_CHECK kiln_status kln_stream_priority_ahead(int32_t device, int32_t *priority);
void kln_stream_retain(kiln_stream *stream);
void kln_stream_release(kiln_stream *stream);

/* As kiln_stream_capture_begin, and this thread may allocate, free and wait on other streams
 * meanwhile, as libraries do that look after memory of their own while they enqueue. */
KILN_MUST_CHECK kiln_status kln_stream_capture_begin_relaxed(kiln_stream *stream);

/* What is enqueued on `later` from now on runs after what is on `earlier` now. `later` NULL: the
 * calling thread waits. */
KILN_MUST_CHECK kiln_status kln_stream_order(kiln_stream *earlier, kiln_stream *later);

/* Whether all of its work is done; a finished stream has none. */
KILN_MUST_CHECK kiln_status kln_stream_is_idle(kiln_stream *stream, bool *idle);

#endif
