/* SPDX-License-Identifier: Apache-2.0 */
#include "memory_pool.h"

/* How many blocks, and how many bytes, a shard gets from the central lists beyond the block it
 * needs now. */
#define REFILL 16
#define REFILL_BYTES ((size_t)64 << 10)

static void push(pool_block **list, pool_block *block)
{
    block->next = *list;
    *list = block;
}

void pool_return_list(kiln_pool *pool, uint32_t class_index, pool_block *list)
{
    pool_block *last = list;
    while (last->next != NULL) {
        last = last->next;
    }
    KLN_LOCKED(&pool->guard);
    last->next = pool->lists[class_index];
    pool->lists[class_index] = list;
}

/* --- slabs --- */

void pool_drop_slab(kiln_pool *pool, pool_slab *slab)
{
    for (size_t i = 0; i < slab->count; i++) {
        kiln_stream *stream = slab->blocks[i].stream;
        if (stream != NULL) {
            if (kln_stream_order(stream, NULL) != KILN_OK) {
                kln_log(KILN_LOG_WARNING, "memory", "waiting for a stream: %s",
                        kiln_error_message());
            }
            kln_stream_release(stream);
        }
    }
    pool->held -= slab->bytes;
    kln_memory_release(pool->options.location, pool->options.device, slab->memory);
    kln_free(slab);
}

/* How many blocks the next slab of a class has, within the cap but at least one. */
static size_t slab_blocks(const kiln_pool *pool, uint32_t class_index, size_t room)
{
    const size_t size = pool_class_bytes(class_index);
    size_t bytes = pool->next_bytes[class_index];
    bytes = bytes != 0 ? bytes : pool->options.first_bytes;
    bytes = bytes < room ? bytes : room;
    return bytes > size ? bytes / size : 1;
}

static kiln_status make_slab(kiln_pool *pool, uint32_t class_index, size_t blocks)
{
    const size_t size = pool_class_bytes(class_index);
    const size_t record = sizeof(pool_slab) + blocks * sizeof(pool_block);
    pool_slab *slab = kln_alloc_aligned(record, POOL_LINE);
    KLN_RETURN_IF_NO_MEMORY(slab, record, "the record of a slab");
    memset(slab, 0, record);
    const kiln_status status = kln_memory_allocate(pool->options.location, pool->options.device,
                                                   blocks * size, &slab->memory);
    if (status != KILN_OK) {
        kln_free(slab);
        return status;
    }
    slab->pool = pool;
    slab->bytes = blocks * size;
    slab->class_index = class_index;
    slab->count = blocks;
    for (size_t i = blocks; i-- > 0;) {
        pool_block *block = &slab->blocks[i];
        block->slab = slab;
        block->data = (unsigned char *)slab->memory + i * size;
        atomic_init(&block->is_out, false);
        push(&pool->lists[class_index], block);
    }
    slab->next = pool->slabs;
    pool->slabs = slab;
    pool->held += slab->bytes;
    pool->held_peak = pool->held > pool->held_peak ? pool->held : pool->held_peak;
    pool->slabs_made++;
    const double next = (double)slab->bytes * pool->options.growth;
    pool->next_bytes[class_index] = next < (double)POOL_MAX_BYTES ? (size_t)next : POOL_MAX_BYTES;
    return KILN_OK;
}

static kiln_status fail_cap(const kiln_pool *pool, size_t size)
{
    return kln_fail(KILN_ERROR_LIMIT,
                    "a piece of %zu bytes was asked for; the pool holds %zu of the %zu bytes it "
                    "may (max_bytes), and nothing that is free can make room for it",
                    size, pool->held, pool->options.max_bytes);
}

/* Makes a new slab. It releases other slabs only if the class has no free block at all: otherwise
 * one stream can wait for another, which is cheaper than waiting here for the work that uses a
 * slab. */
static kiln_status grow(kiln_pool *pool, uint32_t class_index)
{
    const bool may_trim = pool->lists[class_index] == NULL;
    const size_t size = pool_class_bytes(class_index);
    const size_t cap = pool->options.max_bytes;
    size_t room = cap != 0 ? cap - pool->held : SIZE_MAX;
    if (may_trim && size > room && size <= cap) {
        pool_trim_locked(pool, cap - size);
        room = cap - pool->held;
    }
    KLN_FAIL_IF(size > room, fail_cap(pool, size));
    kiln_status status = make_slab(pool, class_index, slab_blocks(pool, class_index, room));
    if (may_trim && status == KILN_ERROR_OUT_OF_MEMORY) {
        /* Release what other classes do not use, and make only the one block that is needed now. */
        pool_trim_locked(pool, 0);
        status = make_slab(pool, class_index, 1);
    }
    return status;
}

/* --- when the thread's own shard has no block --- */

static void refill(kiln_pool *pool, pool_shard *shard, uint32_t class_index)
{
    const size_t size = pool_class_bytes(class_index);
    const size_t fit = REFILL_BYTES / size;
    pool_lock_shard(shard);
    for (size_t i = 0; i < fit && i < REFILL && pool->lists[class_index] != NULL; i++) {
        pool_block *block = pool->lists[class_index];
        pool->lists[class_index] = block->next;
        push(&shard->lists[class_index], block);
        shard->counts[class_index]++;
    }
    pool_unlock_shard(shard);
}

static pool_block *take_from_shards(kiln_pool *pool, uint32_t class_index,
                                    const kiln_stream *stream)
{
    pool_block *block = NULL;
    for (size_t i = 0; i < POOL_SHARDS && block == NULL; i++) {
        pool_shard *shard = &pool->shards[i];
        pool_lock_shard(shard);
        block = pool_take_ready(&shard->lists[class_index], stream);
        shard->counts[class_index] -= block != NULL;
        pool_unlock_shard(shard);
    }
    return block;
}

/* Moves all free blocks of the class to the central list. */
static void gather(kiln_pool *pool, uint32_t class_index)
{
    for (size_t i = 0; i < POOL_SHARDS; i++) {
        pool_shard *shard = &pool->shards[i];
        pool_lock_shard(shard);
        while (shard->lists[class_index] != NULL) {
            pool_block *block = shard->lists[class_index];
            shard->lists[class_index] = block->next;
            push(&pool->lists[class_index], block);
        }
        shard->counts[class_index] = 0;
        pool_unlock_shard(shard);
    }
}

/* Takes a gathered block whose stream has finished its work. */
static kiln_status take_idle(kiln_pool *pool, uint32_t class_index, pool_block **taken)
{
    for (pool_block **list = &pool->lists[class_index]; *list != NULL; list = &(*list)->next) {
        pool_block *block = *list;
        bool idle = true;
        if (block->stream != NULL) {
            KLN_RETURN_IF_ERROR(kln_stream_is_idle(block->stream, &idle));
        }
        if (idle) {
            *list = block->next;
            *taken = block;
            return KILN_OK;
        }
    }
    return KILN_OK;
}

/* Takes the first free block, and makes `stream`, or the caller, wait for the work that uses it. */
static kiln_status take_behind(kiln_pool *pool, uint32_t class_index, kiln_stream *stream,
                               pool_block **taken)
{
    pool_block *block = pool->lists[class_index];
    if (block == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_stream_order(block->stream, stream));
    pool->stream_waits++;
    pool->lists[class_index] = block->next;
    *taken = block;
    return KILN_OK;
}

static kiln_status take_locked(kiln_pool *pool, pool_shard *shard, uint32_t class_index,
                               kiln_stream *stream, pool_block **taken)
{
    *taken = pool_take_ready(&pool->lists[class_index], stream);
    if (*taken == NULL) {
        *taken = take_from_shards(pool, class_index, stream);
    }
    if (*taken == NULL) {
        gather(pool, class_index);
        KLN_RETURN_IF_ERROR(take_idle(pool, class_index, taken));
    }
    if (*taken == NULL) {
        const kiln_status grown = grow(pool, class_index);
        if (grown == KILN_OK) {
            *taken = pool_take_ready(&pool->lists[class_index], stream);
            refill(pool, shard, class_index);
        } else if (pool->lists[class_index] != NULL) {
            return take_behind(pool, class_index, stream, taken);
        }
        return grown;
    }
    refill(pool, shard, class_index);
    return KILN_OK;
}

kiln_status pool_take_slowly(kiln_pool *pool, pool_shard *shard, uint32_t class_index,
                             kiln_stream *stream, pool_block **block)
{
    KLN_LOCKED(&pool->guard);
    KLN_RETURN_IF_ERROR(take_locked(pool, shard, class_index, stream, block));
    pool_lock_shard(shard);
    shard->allocations++;
    shard->bytes_out += (int64_t)pool_class_bytes(class_index);
    pool_unlock_shard(shard);
    return KILN_OK;
}

/* --- trimming --- */

static void count_free_blocks(kiln_pool *pool)
{
    for (pool_slab *slab = pool->slabs; slab != NULL; slab = slab->next) {
        slab->free_count = 0;
        slab->leaving = false;
    }
    for (uint32_t c = 0; c < POOL_CLASSES; c++) {
        gather(pool, c);
        for (pool_block *block = pool->lists[c]; block != NULL; block = block->next) {
            block->slab->free_count++;
        }
    }
}

static void unlist_leaving(kiln_pool *pool)
{
    for (uint32_t c = 0; c < POOL_CLASSES; c++) {
        pool_block **list = &pool->lists[c];
        while (*list != NULL) {
            if ((*list)->slab->leaving) {
                *list = (*list)->next;
            } else {
                list = &(*list)->next;
            }
        }
    }
}

void pool_trim_locked(kiln_pool *pool, size_t keep)
{
    if (pool->held <= keep) {
        return;
    }
    count_free_blocks(pool);
    size_t left = pool->held;
    for (pool_slab *slab = pool->slabs; slab != NULL && left > keep; slab = slab->next) {
        slab->leaving = slab->free_count == slab->count;
        left -= slab->leaving ? slab->bytes : 0;
    }
    unlist_leaving(pool);
    pool_slab **link = &pool->slabs;
    while (*link != NULL) {
        pool_slab *slab = *link;
        if (slab->leaving) {
            *link = slab->next;
            pool_drop_slab(pool, slab);
        } else {
            link = &slab->next;
        }
    }
}
