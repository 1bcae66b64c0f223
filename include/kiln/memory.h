/*
 * memory.h - memory: the heap, buffers on host and GPU, pools, and buffer plans.
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

/* A heap. Kiln takes all its host memory from one. Memory that ONNX Runtime, TensorRT or the CUDA
 * driver allocate for themselves does not come from it. Both functions are called from any thread,
 * several at once. */
typedef struct kiln_allocator {
    size_t struct_size; /* sizeof(kiln_allocator) */
    void *user;         /* passed to each call; must live as long as the process uses Kiln */
    /* Returns `size` bytes (never 0), aligned to `alignment` (a power of two, at least 16), or
     * NULL. */
    void *(*allocate)(void *user, size_t size, size_t alignment);
    /* Frees memory from `allocate`, with the same size and alignment. Never called with NULL. */
    void (*release)(void *user, void *memory, size_t size, size_t alignment);
} kiln_allocator;

/* Replaces the heap; NULL restores the C library's. The struct is copied. Call it before any other
 * function of Kiln, from one thread. Fails with KILN_ERROR_STATE while any allocation of Kiln's is
 * alive, because it would be released to the wrong heap. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_set_allocator(const kiln_allocator *allocator);

typedef struct kiln_allocation_counters {
    unsigned long long allocations; /* successful calls of `allocate` since the process started */
    unsigned long long releases;    /* calls of `release` */
    size_t bytes_in_use;            /* allocated and not yet released */
    size_t bytes_peak;              /* the maximum of bytes_in_use */
} kiln_allocation_counters;

/* Gives Kiln's heap use so far, process-wide. Two reads around a run show what the run allocated.
 * Any thread. Since 0.1. */
KILN_API void kiln_get_allocation_counters(kiln_allocation_counters *counters);

/* --- buffers --- */

/*
 * A buffer is memory in one of the four locations. KILN_LOCATION_HOST works everywhere. The others
 * need the NVIDIA driver and a GPU; without them, calls fail with LIBRARY_* or NO_DEVICE and the
 * reason. The descriptions below do not repeat those errors, nor OUT_OF_MEMORY and DEVICE.
 */
typedef struct kiln_buffer kiln_buffer;

/* Allocates `bytes` (at least 1) in `location`, aligned to 256 bytes and uninitialized. `device` is
 * the GPU, from 0; it is ignored for HOST. Every device may use pinned memory. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT; SIZE for 0 bytes; UNSUPPORTED for managed memory on a device
 * without it. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_create(kiln_location location, int32_t device,
                                                        size_t bytes, kiln_buffer **buffer);

/* Frees the buffer. No enqueued work may still use it. NULL is allowed. Since 0.1. */
KILN_API void kiln_buffer_destroy(kiln_buffer *buffer);

/* The buffer's address, which the host may dereference unless the location is DEVICE; its size in
 * bytes; its location. NULL and 0 for NULL. Any thread. Since 0.1. */
KILN_API void *kiln_buffer_data(const kiln_buffer *buffer);
KILN_API size_t kiln_buffer_bytes(const kiln_buffer *buffer);
KILN_API kiln_location kiln_buffer_location(const kiln_buffer *buffer);

/* Copies host memory to the buffer, starting at byte `offset`. With a stream the copy is enqueued,
 * and `from` must stay unchanged until the copy has run. With NULL the copy is complete on return.
 * A stream is refused for HOST buffers (INVALID_ARGUMENT), because nothing would order the copy.
 * Errors: NULL_ARGUMENT; SIZE past the end, with both sizes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_write(kiln_buffer *buffer, size_t offset,
                                                       kiln_span from, kiln_stream *stream);

/* Copies from the buffer to host memory. Otherwise as kiln_buffer_write. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_read(const kiln_buffer *buffer, size_t offset,
                                                      kiln_mutable_span to, kiln_stream *stream);

/* Copies between two buffers of any locations and devices, which must not overlap. Otherwise as
 * kiln_buffer_write. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_copy(kiln_buffer *to, size_t to_offset,
                                                      const kiln_buffer *from, size_t from_offset,
                                                      size_t bytes, kiln_stream *stream);

/* Sets every byte to `value`. Otherwise as kiln_buffer_write. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_fill(kiln_buffer *buffer, uint8_t value,
                                                      kiln_stream *stream);

/* Gives a dense tensor over the buffer, starting at byte `offset`, to bind to a context. Valid as
 * long as the buffer. Errors: NULL_ARGUMENT; DTYPE, RANK, SHAPE; ALIGNMENT; SIZE if it exceeds the
 * buffer. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_tensor(const kiln_buffer *buffer, size_t offset,
                                                        kiln_dtype dtype, const kiln_shape *shape,
                                                        kiln_tensor *tensor);

/* --- pools --- */

/*
 * A pool hands out blocks of memory in one location and takes them back, so that steady work asks
 * neither the heap nor the driver for memory. Any thread may allocate and release.
 *
 * Device memory needs care, because work is enqueued: the GPU may still write a block that the host
 * no longer needs. A release therefore names the stream whose work used the block. The pool reuses
 * the block at once on the same stream, which keeps the order by itself, and on other streams when
 * that work is done. Only if nothing else is left under the cap does it make the new user's stream
 * wait for the old one.
 *
 * Sizes are rounded up to a size class (256 bytes apart up to 1 KiB, then four for each doubling).
 * The pool allocates memory in slabs, each divided into blocks of one class.
 */
typedef struct kiln_pool kiln_pool;

typedef struct kiln_pool_options {
    size_t struct_size; /* set by KILN_POOL_OPTIONS_INIT */
    kiln_location location;
    int32_t device;     /* the GPU; ignored for HOST */
    size_t max_bytes;   /* the most that the pool ever holds, free blocks included; 0: no limit */
    size_t first_bytes; /* size of the first slab of a class, at least one block; 0: 64 KiB */
    double growth;      /* growth factor of each further slab of a class; 1 or more, 0: 2 */
} kiln_pool_options;

#define KILN_POOL_OPTIONS(...) KILN_INIT_OF_(kiln_pool_options, __VA_ARGS__)
#define KILN_POOL_OPTIONS_INIT KILN_INIT_(kiln_pool_options)

/* One block of a pool. Plain data: copy it freely, release it once. */
typedef struct kiln_block {
    void *data;   /* aligned to 256 bytes */
    size_t bytes; /* usable bytes: the request, rounded up to its class */
    void *owner;  /* internal to the pool */
} kiln_block;

/* Creates a pool, which holds no memory yet. `options` may be NULL: host memory without a limit.
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT; those of the location. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_create(const kiln_pool_options *options,
                                                      kiln_pool **pool);

/* Frees all memory of the pool, blocks not given back included. Waits for the work that used
 * released blocks. NULL is allowed. Since 0.1. */
KILN_API void kiln_pool_destroy(kiln_pool *pool);

/* Allocates a block of at least `bytes`, for work on `stream`, or for immediate use by the host
 * (NULL). Errors: NULL_ARGUMENT; SIZE for 0 bytes; LIMIT if the cap would be exceeded, with the
 * bytes in use. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_allocate(kiln_pool *pool, size_t bytes,
                                                        kiln_stream *stream, kiln_block *block);

/* Takes a block back and zeroes `block`. `stream` is the stream of the last work on it; NULL if no
 * enqueued work uses it. A zeroed block is allowed. Errors: NULL_ARGUMENT; STATE for a block that
 * is not allocated, or belongs to another pool. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_release(kiln_pool *pool, kiln_block *block,
                                                       kiln_stream *stream);

/* Frees entirely unused slabs until the pool holds at most `keep_bytes`, or none is left. Waits for
 * the work that used them. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_trim(kiln_pool *pool, size_t keep_bytes);

typedef struct kiln_pool_counters {
    size_t struct_size;          /* sizeof(kiln_pool_counters), set by the caller */
    uint64_t allocations;        /* successful allocations; those not in `releases` are
                                    outstanding */
    uint64_t failed_allocations; /* failed allocations, for whatever reason */
    uint64_t releases;
    uint64_t slabs_made;   /* slabs allocated; does not grow in steady work */
    uint64_t stream_waits; /* times that a stream, or the host, had to wait for another stream */
    size_t bytes_in_use;   /* in outstanding blocks, rounded up to their classes */
    size_t bytes_held;     /* in slabs, used or free */
    size_t bytes_held_peak;
} kiln_pool_counters;

/* Reads the counters. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too small. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_get_counters(kiln_pool *pool,
                                                            kiln_pool_counters *counters);

/* Gives a dense tensor over an allocated block, to bind to a context. Valid until the block is
 * released. Errors: NULL_ARGUMENT; STATE for a block that is not allocated, or belongs to another
 * pool; DTYPE, RANK, SHAPE; SIZE if it exceeds the block. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pool_tensor(kiln_pool *pool, const kiln_block *block,
                                                      kiln_dtype dtype, const kiln_shape *shape,
                                                      kiln_tensor *tensor);

/* --- buffer plans --- */

/* A tensor that needs memory in a buffer plan. */
typedef struct kiln_buffer_request {
    const char *name; /* copied */
    kiln_dtype dtype;
    kiln_shape shape; /* static; for a dynamic shape, the largest that will be used */
} kiln_buffer_request;

/* A tensor that shares the memory of another one in the plan: an output that replaces the input it
 * was computed from, such as the state of a recurrent model. A context bound to both reads the
 * input from a copy, which each run takes. */
typedef struct kiln_buffer_alias {
    const char *name; /* read during the call only */
    const char *of;   /* a tensor that is not an alias itself; the larger of the two sets the
                         size */
} kiln_buffer_alias;

typedef struct kiln_buffer_plan_options {
    size_t struct_size; /* set by KILN_BUFFER_PLAN_OPTIONS_INIT */
    kiln_location location;
    int32_t device;     /* the GPU; ignored for HOST */
    size_t small_bytes; /* tensors up to this size share one allocation; 0: 1 MiB */
    const kiln_buffer_alias *aliases;
    size_t alias_count;
} kiln_buffer_plan_options;

#define KILN_BUFFER_PLAN_OPTIONS(...) KILN_INIT_OF_(kiln_buffer_plan_options, __VA_ARGS__)
#define KILN_BUFFER_PLAN_OPTIONS_INIT KILN_INIT_(kiln_buffer_plan_options)

/* Persistent memory for a set of tensors, such as the inputs and outputs of an engine. Small
 * tensors share one allocation, and large ones have one each. Every tensor is aligned to 256 bytes
 * and zeroed. Addresses never change, so captured graphs stay valid. */
typedef struct kiln_buffer_plan kiln_buffer_plan;

/* Creates a buffer plan. `options` may be NULL: host memory. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT, also for an alias of an alias; NAME for a name given twice, and for an alias of
 * a missing tensor; DTYPE, RANK, SHAPE with the tensor's name; LIMIT; those of the location. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_buffer_plan_create(const kiln_buffer_request *requests, size_t count,
                        const kiln_buffer_plan_options *options, kiln_buffer_plan **plan);

/* Frees the plan and its memory. No enqueued work may still use it. NULL is allowed. Since 0.1. */
KILN_API void kiln_buffer_plan_destroy(kiln_buffer_plan *plan);

/* The number of tensors, and tensor `index` in the order of the requests. Names are owned by the
 * plan. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end. Any thread. Since 0.1. */
KILN_API size_t kiln_buffer_plan_count(const kiln_buffer_plan *plan);
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_plan_get(const kiln_buffer_plan *plan,
                                                          size_t index, kiln_named_tensor *tensor);

/* Gives the tensor of that name. Errors: NULL_ARGUMENT; NAME. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_plan_find(const kiln_buffer_plan *plan,
                                                           const char *name, kiln_tensor *tensor);

/* Gives the same memory with a smaller shape, for a run that needs less than the maximum. Errors:
 * as kiln_buffer_plan_find; RANK, SHAPE; SIZE for a shape that needs more bytes. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_plan_view(const kiln_buffer_plan *plan,
                                                           const char *name,
                                                           const kiln_shape *shape,
                                                           kiln_tensor *tensor);

/* The bytes that the plan holds, and the number of allocations. 0 for NULL. Any thread. Since
 * 0.1. */
KILN_API size_t kiln_buffer_plan_bytes(const kiln_buffer_plan *plan);
KILN_API size_t kiln_buffer_plan_allocations(const kiln_buffer_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
