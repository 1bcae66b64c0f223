/* SPDX-License-Identifier: Apache-2.0 */
/* The internals of a pool.
 *
 * A pool has two layers. A thread works on one of a few shards, each with a lock that is rarely
 * contended and a list of free blocks for each class. Behind them is the centre, which knows every
 * slab and moves blocks between shards. Lock order: the centre's mutex, then one shard after the
 * other. A thread that holds a shard takes no further lock. */
#ifndef KLN_MEMORY_POOL_H
#define KLN_MEMORY_POOL_H

#include <sched.h>
#include <stdatomic.h>

#include "kln_memory.h"

#define POOL_SHARDS 16U
#define POOL_CLASSES 148U
/* The largest block: the size of the last class. */
#define POOL_MAX_BYTES ((size_t)1 << 46)
/* At most this many blocks of a list are searched for one of the right stream. */
#define POOL_SCAN 8
#define POOL_LINE 64

/* On its own cache line, because different threads write neighbouring blocks. */
typedef struct pool_block {
    _Alignas(POOL_LINE) void *data;
    struct pool_block *next; /* while it is free */
    struct pool_slab *slab;
    kiln_stream *stream; /* retained; its work may still use a free block. NULL: none does */
    atomic_bool is_out;
} pool_block;

typedef struct pool_slab {
    kiln_pool *pool;
    struct pool_slab *next;
    void *memory;
    size_t bytes;
    uint32_t class_index;
    size_t count;
    size_t free_count; /* only while trimming */
    bool leaving;      /* only while trimming */
    pool_block blocks[];
} pool_slab;

typedef struct pool_shard {
    _Alignas(128) atomic_bool locked; /* on its own cache line and the next, which is prefetched */
    uint64_t allocations;
    uint64_t failed_allocations;
    uint64_t releases;
    int64_t bytes_out; /* given minus taken back by this shard: negative if blocks move between
                          shards */
    pool_block *lists[POOL_CLASSES];
    uint32_t counts[POOL_CLASSES];
} pool_shard;

struct kiln_pool {
    pool_shard shards[POOL_SHARDS];
    kiln_pool_options options;
    pthread_mutex_t guard; /* guards everything below */
    pool_block *lists[POOL_CLASSES];
    size_t next_bytes[POOL_CLASSES]; /* of the class's next slab; 0: its first */
    pool_slab *slabs;
    size_t held;
    size_t held_peak;
    uint64_t slabs_made;
    uint64_t stream_waits;
};

uint32_t pool_class_of(size_t bytes);

/* Takes a block from anywhere but `shard`'s own list: the centre, other shards, a new slab. Moves
 * some of the centre's blocks to `shard`. */
KILN_MUST_CHECK kiln_status pool_take_slowly(kiln_pool *pool, pool_shard *shard,
                                             uint32_t class_index, kiln_stream *stream,
                                             pool_block **block);

/* Gives a list of free blocks to the centre. */
void pool_return_list(kiln_pool *pool, uint32_t class_index, pool_block *list);

/* Frees entirely unused slabs, until `keep` bytes are left. The guard is held. */
void pool_trim_locked(kiln_pool *pool, size_t keep);

/* Waits for work that may use the slab's memory, and frees it. */
void pool_drop_slab(kiln_pool *pool, pool_slab *slab);

static inline void pool_lock_shard(pool_shard *shard)
{
    while (atomic_exchange_explicit(&shard->locked, true, memory_order_acquire)) {
        /* The holder is in a few instructions of ours, or was put aside there by the scheduler. */
        for (int i = 0; atomic_load_explicit(&shard->locked, memory_order_relaxed); i++) {
            if (i > 64) {
                (void)sched_yield();
            }
        }
    }
}

static inline void pool_unlock_shard(pool_shard *shard)
{
    atomic_store_explicit(&shard->locked, false, memory_order_release);
}

static inline bool pool_is_ready(const pool_block *block, const kiln_stream *stream)
{
    return block->stream == NULL || block->stream == stream ||
           atomic_load_explicit(&block->stream->finished, memory_order_acquire);
}

/* Takes the first of the first few blocks that work on `stream` may use as it is, or NULL. */
static inline pool_block *pool_take_ready(pool_block **list, const kiln_stream *stream)
{
    for (int i = 0; *list != NULL && i < POOL_SCAN; i++) {
        pool_block *block = *list;
        if (pool_is_ready(block, stream)) {
            *list = block->next;
            return block;
        }
        list = &block->next;
    }
    return NULL;
}

/* Bytes of a class, and the class of a size from 1 to POOL_MAX_BYTES. */
static inline size_t pool_class_bytes(uint32_t class_index)
{
    if (class_index < 4) {
        return (class_index + 1) * KLN_MEMORY_ALIGNMENT;
    }
    const uint32_t shift = (class_index - 4) / 4;
    const size_t quarters = 5 + (class_index - 4) % 4;
    return (quarters << shift) * KLN_MEMORY_ALIGNMENT;
}

#endif
