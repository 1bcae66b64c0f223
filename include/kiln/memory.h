/*
 * memory.h - where Kiln's memory comes from.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_MEMORY_H
#define KILN_MEMORY_H

#include <stddef.h>

#include <kiln/export.h>
#include <kiln/status.h>

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

#ifdef __cplusplus
}
#endif

#endif
