/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdlib.h>

#include "kln_base.h"

#define DEFAULT_ALIGNMENT 16

/* Precedes each piece, because `release` needs its size and alignment. */
typedef struct piece_header {
    size_t size;      /* as requested by the caller */
    size_t alignment; /* of the piece; also the space for the header; LASTING may be set */
} piece_header;

/* A flag: alignments are powers of two far below this. */
#define LASTING ((size_t)1 << 63)

static _Thread_local unsigned lasting_depth;

void kln_lasting_begin(void)
{
    lasting_depth++;
}

void kln_lasting_end(void)
{
    lasting_depth--;
}

static void *libc_allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    if (alignment <= DEFAULT_ALIGNMENT) {
        return malloc(size);
    }
    void *memory = NULL;
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void libc_release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user;
    (void)size;
    (void)alignment;
    free(memory);
}

static const kiln_allocator libc_allocator = {
    .struct_size = sizeof(kiln_allocator),
    .user = NULL,
    .allocate = libc_allocate,
    .release = libc_release,
};

static kiln_allocator current = {
    .struct_size = sizeof(kiln_allocator),
    .user = NULL,
    .allocate = libc_allocate,
    .release = libc_release,
};

static atomic_ullong allocations;
static atomic_ullong releases;
static atomic_size_t bytes_in_use;
static atomic_size_t bytes_peak;

kiln_status kiln_set_allocator(const kiln_allocator *allocator)
{
    if (allocator == NULL) {
        allocator = &libc_allocator;
    }
    KLN_RETURN_IF(allocator->struct_size < sizeof(kiln_allocator), KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_set_allocator: struct_size is %zu, at least %zu is needed",
                  allocator->struct_size, sizeof(kiln_allocator));
    KLN_FAIL_IF(allocator->allocate == NULL || allocator->release == NULL,
                kln_fail_null(__func__, allocator->allocate == NULL ? "allocate" : "release"));
    const size_t alive = atomic_load(&bytes_in_use);
    KLN_RETURN_IF(alive != 0, KILN_ERROR_STATE,
                  "kiln_set_allocator: %zu bytes of the old heap are still in use; set the "
                  "allocator before everything else",
                  alive);
    current = *allocator;
    return KILN_OK;
}

void kiln_get_allocation_counters(kiln_allocation_counters *counters)
{
    if (counters != NULL) {
        counters->allocations = atomic_load(&allocations);
        counters->releases = atomic_load(&releases);
        counters->bytes_in_use = atomic_load(&bytes_in_use);
        counters->bytes_peak = atomic_load(&bytes_peak);
    }
}

static void count_allocation(size_t size)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    const size_t now = atomic_fetch_add_explicit(&bytes_in_use, size, memory_order_relaxed) + size;
    size_t peak = atomic_load_explicit(&bytes_peak, memory_order_relaxed);
    while (now > peak && !atomic_compare_exchange_weak_explicit(
                             &bytes_peak, &peak, now, memory_order_relaxed, memory_order_relaxed)) {
    }
}

void *kln_alloc_aligned(size_t size, size_t alignment)
{
    if (alignment < DEFAULT_ALIGNMENT) {
        alignment = DEFAULT_ALIGNMENT;
    }
    if (size > SIZE_MAX / 2 - alignment) {
        return NULL;
    }
    const bool lasting = lasting_depth != 0;
    const kiln_allocator *heap = lasting ? &libc_allocator : &current;
    unsigned char *block = heap->allocate(heap->user, size + alignment, alignment);
    if (block == NULL) {
        return NULL;
    }
    unsigned char *memory = block + alignment;
    const piece_header header = {size, alignment | (lasting ? LASTING : 0)};
    memcpy(memory - sizeof header, &header, sizeof header);
    if (!lasting) {
        count_allocation(size);
    }
    return memory;
}

void *kln_alloc(size_t size)
{
    return kln_alloc_aligned(size, DEFAULT_ALIGNMENT);
}

void *kln_alloc_zeroed(size_t count, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        return NULL;
    }
    void *memory = kln_alloc(bytes);
    if (memory != NULL) {
        memset(memory, 0, bytes);
    }
    return memory;
}

void kln_free(void *memory)
{
    if (memory == NULL) {
        return;
    }
    piece_header header;
    memcpy(&header, (unsigned char *)memory - sizeof header, sizeof header);
    if ((header.alignment & LASTING) != 0) {
        libc_release(NULL, (unsigned char *)memory - (header.alignment & ~LASTING), 0, 0);
        return;
    }
    atomic_fetch_add_explicit(&releases, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&bytes_in_use, header.size, memory_order_relaxed);
    current.release(current.user, (unsigned char *)memory - header.alignment,
                    header.size + header.alignment, header.alignment);
}

void *kln_realloc(void *memory, size_t size)
{
    if (memory == NULL) {
        return kln_alloc(size);
    }
    piece_header header;
    memcpy(&header, (unsigned char *)memory - sizeof header, sizeof header);
    void *grown = kln_alloc_aligned(size, header.alignment & ~LASTING);
    if (grown != NULL) {
        memcpy(grown, memory, header.size < size ? header.size : size);
        kln_free(memory);
    }
    return grown;
}

char *kln_strdup(const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = kln_alloc(size);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}
