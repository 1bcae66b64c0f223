/* SPDX-License-Identifier: Apache-2.0 */
#include "memory_pool.h"

#define DEFAULT_FIRST_BYTES ((size_t)64 << 10)
#define DEFAULT_GROWTH 2.0
/* How much of one class a shard keeps; beyond that, half of it goes to the central lists. */
#define SHARD_BYTES ((size_t)4 << 20)
#define SHARD_LEAST ((size_t)2)
#define SHARD_MOST ((size_t)64)

/* --- size classes, units of 256 bytes: 1 2 3 4, then four per doubling: 5 6 7 8 10 12 14 16 --- */

uint32_t pool_class_of(size_t bytes)
{
    const uint64_t last = (bytes - 1) / KLN_MEMORY_ALIGNMENT;
    if (last < 4) {
        return (uint32_t)last;
    }
    const uint32_t shift = 63U - (uint32_t)__builtin_clzll(last);
    const uint32_t quarter = (uint32_t)(last >> (shift - 2)) & 3U;
    return 4U + (shift - 2) * 4U + quarter;
}

/* --- shards --- */

static atomic_uint next_thread;
static _Thread_local unsigned this_thread; /* counted from 1; 0: not assigned yet */

static pool_shard *own_shard(kiln_pool *pool)
{
    if (this_thread == 0) {
        this_thread = atomic_fetch_add_explicit(&next_thread, 1, memory_order_relaxed) + 1;
    }
    return &pool->shards[this_thread % POOL_SHARDS];
}

static uint32_t shard_limit(size_t bytes)
{
    const size_t fit = SHARD_BYTES / bytes;
    return (uint32_t)(fit < SHARD_LEAST ? SHARD_LEAST : fit > SHARD_MOST ? SHARD_MOST : fit);
}

/* Takes half of a list off, from its cold end: the blocks released longest ago. */
static pool_block *split(pool_shard *shard, uint32_t class_index)
{
    const uint32_t keep = shard->counts[class_index] / 2;
    pool_block **end = &shard->lists[class_index];
    for (uint32_t i = 0; i < keep; i++) {
        end = &(*end)->next;
    }
    pool_block *rest = *end;
    *end = NULL;
    shard->counts[class_index] = keep;
    return rest;
}

/* --- the public calls --- */

static kiln_status take(kiln_pool *pool, size_t bytes, kiln_stream *stream, kiln_block *block)
{
    if (bytes == 0 || bytes > POOL_MAX_BYTES) {
        return bytes == 0
                   ? kln_fail(KILN_ERROR_SIZE, "kiln_pool_allocate: at least 1 byte is needed")
                   : kln_fail(KILN_ERROR_LIMIT,
                              "kiln_pool_allocate: %zu bytes pass the %zu that one piece can have",
                              bytes, POOL_MAX_BYTES);
    }
    const uint32_t class_index = pool_class_of(bytes);
    const size_t size = pool_class_bytes(class_index);
    pool_shard *shard = own_shard(pool);
    pool_lock_shard(shard);
    pool_block *taken = pool_take_ready(&shard->lists[class_index], stream);
    if (taken != NULL) {
        shard->counts[class_index]--;
        shard->allocations++;
        shard->bytes_out += (int64_t)size;
    }
    pool_unlock_shard(shard);
    if (taken == NULL) {
        KLN_RETURN_IF_ERROR(pool_take_slowly(pool, shard, class_index, stream, &taken));
    }
    atomic_store_explicit(&taken->is_out, true, memory_order_relaxed);
    *block = (kiln_block){.data = taken->data, .bytes = size, .owner = taken};
    return KILN_OK;
}

kiln_status kiln_pool_allocate(kiln_pool *pool, size_t bytes, kiln_stream *stream,
                               kiln_block *block)
{
    KLN_RETURN_IF_NULL(pool, block);
    *block = (kiln_block){.data = NULL, .bytes = 0, .owner = NULL};
    const kiln_status status = take(pool, bytes, stream, block);
    if (status != KILN_OK) {
        pool_shard *shard = own_shard(pool);
        pool_lock_shard(shard);
        shard->failed_allocations++;
        pool_unlock_shard(shard);
    }
    return status;
}

static kiln_status check_block(const char *what, const kiln_pool *pool, const kiln_block *block)
{
    const pool_block *owner = block->owner;
    KLN_RETURN_IF(owner->slab->pool != pool, KILN_ERROR_STATE,
                  "%s: the piece at %p belongs to another pool", what, block->data);
    KLN_RETURN_IF(
        owner->data != block->data || !atomic_load_explicit(&owner->is_out, memory_order_relaxed),
        KILN_ERROR_STATE, "%s: the piece at %p is not out: it was released before", what,
        block->data);
    return KILN_OK;
}

kiln_status kiln_pool_tensor(kiln_pool *pool, const kiln_block *block, kiln_dtype dtype,
                             const kiln_shape *shape, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(pool, block, shape, tensor);
    KLN_RETURN_IF(block->owner == NULL, KILN_ERROR_STATE,
                  "kiln_pool_tensor: the piece is empty; allocate it first");
    KLN_RETURN_IF_ERROR(check_block(__func__, pool, block));
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(dtype, shape, &bytes));
    KLN_RETURN_IF(bytes > block->bytes, KILN_ERROR_SIZE,
                  "kiln_pool_tensor: %zu bytes are needed, the piece has %zu", bytes, block->bytes);
    const bool host = pool->options.location == KILN_LOCATION_HOST;
    *tensor = (kiln_tensor){.desc = {.dtype = dtype,
                                     .location = pool->options.location,
                                     .device = host ? 0 : pool->options.device,
                                     .shape = *shape},
                            .data = block->data,
                            .bytes = block->bytes};
    return KILN_OK;
}

kiln_status kiln_pool_release(kiln_pool *pool, kiln_block *block, kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(pool, block);
    pool_block *owner = block->owner;
    if (owner == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(check_block(__func__, pool, block));
    atomic_store_explicit(&owner->is_out, false, memory_order_relaxed);
    if (owner->stream != stream) {
        kiln_stream *before = owner->stream;
        if (stream != NULL) {
            kln_stream_retain(stream);
        }
        owner->stream = stream;
        if (before != NULL) {
            kln_stream_release(before);
        }
    }
    const uint32_t class_index = owner->slab->class_index;
    pool_block *surplus = NULL;
    pool_shard *shard = own_shard(pool);
    pool_lock_shard(shard);
    owner->next = shard->lists[class_index];
    shard->lists[class_index] = owner;
    shard->counts[class_index]++;
    shard->releases++;
    shard->bytes_out -= (int64_t)block->bytes;
    if (shard->counts[class_index] > SHARD_LEAST &&
        shard->counts[class_index] > shard_limit(block->bytes)) {
        surplus = split(shard, class_index);
    }
    pool_unlock_shard(shard);
    if (surplus != NULL) {
        pool_return_list(pool, class_index, surplus);
    }
    *block = (kiln_block){.data = NULL, .bytes = 0, .owner = NULL};
    return KILN_OK;
}

static kiln_status read_options(const kiln_pool_options *options, kiln_pool_options *read)
{
    *read = KILN_POOL_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_pool_create", options, read, sizeof *read));
    read->first_bytes = read->first_bytes != 0 ? read->first_bytes : DEFAULT_FIRST_BYTES;
    read->growth = read->growth != 0.0 ? read->growth : DEFAULT_GROWTH;
    KLN_RETURN_IF(!(read->growth >= 1.0 && read->growth <= 64.0), KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_pool_create: growth is %g; 1 to 64 is needed", read->growth);
    return kln_memory_check(read->location, read->device);
}

kiln_status kiln_pool_create(const kiln_pool_options *options, kiln_pool **pool)
{
    KLN_RETURN_IF_NULL_RESULT(pool);
    kiln_pool_options read;
    KLN_RETURN_IF_ERROR(read_options(options, &read));
    kiln_pool *made = kln_alloc_aligned(sizeof *made, _Alignof(kiln_pool));
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a pool");
    memset(made, 0, sizeof *made);
    for (size_t i = 0; i < POOL_SHARDS; i++) {
        atomic_init(&made->shards[i].locked, false);
    }
    made->options = read;
    (void)pthread_mutex_init(&made->guard, NULL);
    *pool = made;
    return KILN_OK;
}

void kiln_pool_destroy(kiln_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    while (pool->slabs != NULL) {
        pool_slab *slab = pool->slabs;
        pool->slabs = slab->next;
        pool_drop_slab(pool, slab);
    }
    (void)pthread_mutex_destroy(&pool->guard);
    kln_free(pool);
}

kiln_status kiln_pool_trim(kiln_pool *pool, size_t keep_bytes)
{
    KLN_RETURN_IF_NULL(pool);
    KLN_LOCKED(&pool->guard);
    pool_trim_locked(pool, keep_bytes);
    return KILN_OK;
}

kiln_location kln_pool_location(const kiln_pool *pool, int32_t *device)
{
    *device = pool->options.device;
    return pool->options.location;
}

kiln_status kiln_pool_get_counters(kiln_pool *pool, kiln_pool_counters *counters)
{
    KLN_RETURN_IF_NULL(pool);
    kiln_pool_counters found = {.struct_size = sizeof found};
    int64_t out = 0;
    (void)pthread_mutex_lock(&pool->guard);
    for (size_t i = 0; i < POOL_SHARDS; i++) {
        pool_shard *shard = &pool->shards[i];
        pool_lock_shard(shard);
        found.allocations += shard->allocations;
        found.failed_allocations += shard->failed_allocations;
        found.releases += shard->releases;
        out += shard->bytes_out;
        pool_unlock_shard(shard);
    }
    found.slabs_made = pool->slabs_made;
    found.stream_waits = pool->stream_waits;
    found.bytes_held = pool->held;
    found.bytes_held_peak = pool->held_peak;
    (void)pthread_mutex_unlock(&pool->guard);
    /* Counters are read while other threads run: a release may be counted whose allocation was
     * not. */
    found.bytes_in_use = out > 0 ? (size_t)out : 0;
    return kln_info_write(__func__, counters, &found, sizeof found);
}
