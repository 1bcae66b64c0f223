/*
 * memory.h - where Kiln's memory comes from: the heap, buffers on host and GPU, pools, and plans.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_MEMORY_H
#define KILN_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/system.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A heap. Kiln takes all its host memory from one of these; what ONNX Runtime, TensorRT or the CUDA
 * driver allocate for themselves is theirs. All three functions are called from any thread, several
 * at once. */
typedef struct kiln_allocator {
    size_t struct_size; /* sizeof(kiln_allocator) */
    void *user;         /* handed to each call; must live as long as the process uses Kiln */
    /* `size` bytes (never 0), aligned to `alignment` (a power of two, at least 16), or NULL. */
    void *(*allocate)(void *user, size_t size, size_t alignment);
    /* Takes back what `allocate` gave, with the same size and alignment. Never called with NULL. */
    void (*release)(void *user, void *memory, size_t size, size_t alignment);
} kiln_allocator;

/* Replaces the heap, or puts the C library's back (NULL). The struct is copied. Fails with
 * KILN_ERROR_STATE while anything that Kiln allocated is still alive, because it would be released
 * to the wrong heap. Call it before everything else, from one thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_set_allocator(const kiln_allocator *allocator);

typedef struct kiln_allocation_counters {
    unsigned long long allocations; /* calls of `allocate` that worked, since the process began */
    unsigned long long releases;    /* calls of `release` */
    size_t bytes_in_use;            /* allocated and not yet released */
    size_t bytes_peak;              /* the most that were in use at once */
} kiln_allocation_counters;

/* What Kiln took from the heap so far, process-wide. Two reads around a run show what the run
 * allocated. Any thread. Since 0.1. */
KILN_API void kiln_get_allocation_counters(kiln_allocation_counters *counters);

/* --- buffers --- */

/*
 * Memory in one of the four locations. KILN_LOCATION_HOST works everywhere; the others need the
 * NVIDIA driver and a GPU, and fail with LIBRARY_* or NO_DEVICE and the reason where there is none.
 * Those errors, and OUT_OF_MEMORY and DEVICE, are not named again below.
 */
typedef struct kiln_buffer kiln_buffer;

/* `bytes` (at least 1) in `location`, aligned to 256, not initialised. `device`: the GPU, from 0;
 * for HOST it is ignored. Pinned memory may be used by every device. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT; SIZE for 0 bytes; UNSUPPORTED for managed memory on a device without. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_create(kiln_location location, int32_t device,
                                                        size_t bytes, kiln_buffer **buffer);

/* Nothing enqueued may still use it. NULL is allowed. Since 0.1. */
KILN_API void kiln_buffer_destroy(kiln_buffer *buffer);

/* Its address, which the host may follow but for DEVICE; its size in bytes; where it is. NULL and 0
 * for NULL. Any thread. Since 0.1. */
KILN_API void *kiln_buffer_data(const kiln_buffer *buffer);
KILN_API size_t kiln_buffer_bytes(const kiln_buffer *buffer);
KILN_API kiln_location kiln_buffer_location(const kiln_buffer *buffer);

/* Copies host memory to the buffer, from byte `offset` on. With a stream the copy is enqueued and
 * `from` must stay as it is until it is reached; with NULL it is done on return. A stream is
 * refused for HOST buffers (INVALID_ARGUMENT): nothing would order it. Errors: NULL_ARGUMENT; SIZE
 * past the end, with both sizes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_write(kiln_buffer *buffer, size_t offset,
                                                       kiln_span from, kiln_stream *stream);

/* Copies from the buffer to host memory. Otherwise as kiln_buffer_write. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_read(const kiln_buffer *buffer, size_t offset,
                                                      kiln_mutable_span to, kiln_stream *stream);

/* Copies between two buffers, of any locations and devices; they may not overlap. Otherwise as
 * kiln_buffer_write. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_copy(kiln_buffer *to, size_t to_offset,
                                                      const kiln_buffer *from, size_t from_offset,
                                                      size_t bytes, kiln_stream *stream);

/* Sets every byte to `value`. Otherwise as kiln_buffer_write. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_fill(kiln_buffer *buffer, uint8_t value,
                                                      kiln_stream *stream);

/* A dense tensor over the buffer from byte `offset` on: what a context binds. Valid as long as the
 * buffer. Errors: NULL_ARGUMENT; DTYPE, RANK, SHAPE; ALIGNMENT; SIZE when it does not fit. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_tensor(const kiln_buffer *buffer, size_t offset,
                                                        kiln_dtype dtype, const kiln_shape *shape,
                                                        kiln_tensor *tensor);

/* --- pools --- */

/*
 * A pool hands out pieces of one location and takes them back, so that steady work neither asks the
 * heap nor the driver for memory. Any thread may allocate and release.
 *
 * The problem with device memory is that work is enqueued: a piece that the host has done with may
 * still be written by the GPU. So a release names the stream whose work used the piece, and the
 * pool hands it out again at once to the same stream, where order is kept by itself; to others once
 * that work is done. Only where nothing else is left under the cap does it order the taker behind
 * it.
 *
 * Sizes are rounded up to a class (256 bytes apart up to 1 KiB, then four to each doubling). Memory
 * is taken in slabs, cut into pieces of one class.
 */
typedef struct kiln_pool kiln_pool;

typedef struct kiln_pool_options {
    size_t struct_size; /* set by KILN_POOL_OPTIONS_INIT */
    kiln_location location;
    int32_t device;     /* the GPU; ignored for HOST */
    size_t max_bytes;   /* the most the pool ever holds, free pieces included; 0: no limit */
    size_t first_bytes; /* size of a class's first slab, at least one piece; 0: 64 KiB */
    double growth;      /* each further slab of a class is this much larger; 1 or more, 0: 2 */
} kiln_pool_options;

#define KILN_POOL_OPTIONS(...) KILN_INIT_OF_(kiln_pool_options, __VA_ARGS__)
#define KILN_POOL_OPTIONS_INIT KILN_INIT_(kiln_pool_options)

/* One piece. Plain data: copy it as you like, give it back once. */
typedef struct kiln_block {
    void *data;   /* aligned to 256 */
    size_t bytes; /* usable: what was asked for, rounded up to its class */
    void *owner;  /* the pool's */
} kiln_block;

/* Makes a pool; it holds no memory yet. `options` may be NULL: host memory without a limit. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT; those of the location. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_create(const kiln_pool_options *options,
                                                      kiln_pool **pool);

/* Releases everything, pieces not given back included; waits for the work that used them. NULL is
 * allowed. Since 0.1. */
KILN_API void kiln_pool_destroy(kiln_pool *pool);

/* A piece of at least `bytes` for work on `stream`, or for use by the host at once (NULL). Errors:
 * NULL_ARGUMENT; SIZE for 0 bytes; LIMIT when the cap would be passed, with what is in use. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_allocate(kiln_pool *pool, size_t bytes,
                                                        kiln_stream *stream, kiln_block *block);

/* Takes a piece back; zeroes `block`. `stream` is where the last work on it was enqueued, NULL when
 * nothing enqueued uses it. A zeroed block is allowed. Errors: NULL_ARGUMENT; STATE for a piece
 * that is not out, or of another pool. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_release(kiln_pool *pool, kiln_block *block,
                                                       kiln_stream *stream);

/* Gives slabs that are wholly free back until the pool holds `keep_bytes` or less, or none is left.
 * Waits for the work that used them. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_trim(kiln_pool *pool, size_t keep_bytes);

typedef struct kiln_pool_counters {
    size_t struct_size;          /* sizeof(kiln_pool_counters), set by the caller */
    uint64_t allocations;        /* that worked: those not in `releases` are out */
    uint64_t failed_allocations; /* that did not, whatever they failed at */
    uint64_t releases;
    uint64_t slabs_made;   /* times that memory was asked for; does not grow in steady work */
    uint64_t stream_waits; /* times that one stream, or the host, had to be put behind another */
    size_t bytes_in_use;   /* in pieces that are out, rounded up to their classes */
    size_t bytes_held;     /* in slabs, free or not */
    size_t bytes_held_peak;
} kiln_pool_counters;

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_get_counters(kiln_pool *pool,
                                                            kiln_pool_counters *counters);

/* A dense tensor over a piece that is out: what a context binds. Valid until the piece is released.
 * Errors: NULL_ARGUMENT; STATE for a piece that is not out, or of another pool; DTYPE, RANK, SHAPE;
 * SIZE when it does not fit. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_tensor(kiln_pool *pool, const kiln_block *block,
                                                      kiln_dtype dtype, const kiln_shape *shape,
                                                      kiln_tensor *tensor);

/* --- plans --- */

/* A tensor that a plan finds memory for. */
typedef struct kiln_buffer_request {
    const char *name; /* copied */
    kiln_dtype dtype;
    kiln_shape shape; /* static; of a dynamic one the largest that will be used */
} kiln_buffer_request;

/* Two tensors of a plan that lie in the same memory: an output that replaces the input it was made
 * from, as the state of a recurrent model does. A context over them reads the input from a copy,
 * which each run takes. */
typedef struct kiln_buffer_alias {
    const char *name; /* read during the call only */
    const char *of;   /* a tensor that is no alias itself; the larger of the two decides the size */
} kiln_buffer_alias;

typedef struct kiln_buffer_plan_options {
    size_t struct_size; /* set by KILN_BUFFER_PLAN_OPTIONS_INIT */
    kiln_location location;
    int32_t device;     /* the GPU; ignored for HOST */
    size_t small_bytes; /* tensors up to this share one allocation; 0: 1 MiB */
    const kiln_buffer_alias *aliases;
    size_t alias_count;
} kiln_buffer_plan_options;

#define KILN_BUFFER_PLAN_OPTIONS(...) KILN_INIT_OF_(kiln_buffer_plan_options, __VA_ARGS__)
#define KILN_BUFFER_PLAN_OPTIONS_INIT KILN_INIT_(kiln_buffer_plan_options)

/* Persistent memory for a set of tensors, the bindings of an engine say: small ones in one
 * allocation, large ones in one each, every tensor aligned to 256 and filled with zeroes. What is
 * bound once stays where it is, so that captured graphs stay valid. */
typedef struct kiln_buffer_plan kiln_buffer_plan;

/* Makes it. `options` may be NULL: host memory. Errors: NULL_ARGUMENT; INVALID_ARGUMENT, also for
 * an alias of an alias; NAME for one that is given twice, and for an alias of what is not there;
 * DTYPE, RANK, SHAPE with the tensor's name; LIMIT; those of the location. Any thread. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status
kiln_buffer_plan_create(const kiln_buffer_request *requests, size_t count,
                        const kiln_buffer_plan_options *options, kiln_buffer_plan **plan);

/* Nothing enqueued may still use its memory. NULL is allowed. Since 0.1. */
KILN_API void kiln_buffer_plan_destroy(kiln_buffer_plan *plan);

/* The tensors, in the order of the requests; names are the plan's. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT past the end. Any thread. Since 0.1. */
KILN_API size_t kiln_buffer_plan_count(const kiln_buffer_plan *plan);
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_plan_get(const kiln_buffer_plan *plan,
                                                          size_t index, kiln_named_tensor *tensor);

/* The tensor of that name. Errors: NULL_ARGUMENT; NAME. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_plan_find(const kiln_buffer_plan *plan,
                                                           const char *name, kiln_tensor *tensor);

/* The same memory with a smaller shape, for a run that needs less than the most. Errors: as
 * kiln_buffer_plan_find; RANK, SHAPE; SIZE for one that needs more. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_plan_view(const kiln_buffer_plan *plan,
                                                           const char *name,
                                                           const kiln_shape *shape,
                                                           kiln_tensor *tensor);

/* Bytes it holds, in how many allocations. 0 for NULL. Any thread. Since 0.1. */
KILN_API size_t kiln_buffer_plan_bytes(const kiln_buffer_plan *plan);
KILN_API size_t kiln_buffer_plan_allocations(const kiln_buffer_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
