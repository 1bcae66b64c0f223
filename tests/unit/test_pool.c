/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_cuda_test.h"
#include "memory/memory_pool.h"

static kiln_pool *make_pool(kiln_location location, size_t max_bytes, size_t first_bytes)
{
    kiln_pool_options options =
        KILN_POOL_OPTIONS(.location = location, .max_bytes = max_bytes, .first_bytes = first_bytes);
    return new_pool(&options);
}

static kiln_pool_counters pool_counters(kiln_pool *pool)
{
    kiln_pool_counters counters = {.struct_size = sizeof counters};
    assert_ok(kiln_pool_get_counters(pool, &counters));
    return counters;
}

FAKE_TEST(classes_are_tight_and_in_order)
{
    for (uint32_t c = 0; c < POOL_CLASSES; c++) {
        const size_t size = pool_class_bytes(c);
        assert_int_equal(pool_class_of(size), c);
        assert_int_equal(size % KLN_MEMORY_ALIGNMENT, 0);
        if (c > 0) {
            assert_int_equal(pool_class_of(pool_class_bytes(c - 1) + 1), c);
            assert_true(size <= 2 * pool_class_bytes(c - 1));
        }
        if (c > 4) {
            assert_true(size - pool_class_bytes(c - 1) <= pool_class_bytes(c - 1) / 4);
        }
    }
    assert_int_equal(pool_class_of(1), 0);
    assert_int_equal(pool_class_bytes(POOL_CLASSES - 1), POOL_MAX_BYTES);
}

FAKE_TEST(pieces_come_back_without_new_memory)
{
    owned_pool pool = make_pool(KILN_LOCATION_HOST, 0, 0);
    kiln_block blocks[50];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(blocks); i++) {
            assert_ok(kiln_pool_allocate(pool, 100 * (i + 1), NULL, &blocks[i]));
            assert_true(blocks[i].bytes >= 100 * (i + 1));
            assert_int_equal((uintptr_t)blocks[i].data % 256, 0);
            memset(blocks[i].data, (int)i, blocks[i].bytes);
        }
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(blocks); i++) {
            assert_int_equal(((unsigned char *)blocks[i].data)[blocks[i].bytes - 1], i);
            assert_ok(kiln_pool_release(pool, &blocks[i], NULL));
            assert_null(blocks[i].data);
        }
        static uint64_t slabs;
        const kiln_pool_counters counters = pool_counters(pool);
        assert_int_equal(counters.bytes_in_use, 0);
        assert_int_equal(counters.allocations, 50 * (round + 1));
        assert_int_equal(counters.releases, 50 * (round + 1));
        slabs = round == 0 ? counters.slabs_made : slabs;
        assert_int_equal(counters.slabs_made, slabs);
    }
    kiln_pool_destroy(NULL);
}

FAKE_TEST(counters_add_up)
{
    owned_pool pool = make_pool(KILN_LOCATION_HOST, 0, 0);
    for (uint64_t i = 0; i < 5; i++) {
        kiln_block kept = block_of(pool, 256, NULL);
        kiln_block given = block_of(pool, 256, NULL);
        assert_status(KILN_ERROR_SIZE, kiln_pool_allocate(pool, 0, NULL, &given));
        assert_status(KILN_ERROR_LIMIT, kiln_pool_allocate(pool, SIZE_MAX, NULL, &given));
        kiln_block again = kept;
        assert_ok(kiln_pool_release(pool, &kept, NULL));
        assert_status(KILN_ERROR_STATE, kiln_pool_release(pool, &again, NULL));
        const kiln_pool_counters counters = pool_counters(pool);
        assert_int_equal(counters.allocations, 2 * (i + 1));
        assert_int_equal(counters.failed_allocations, 2 * (i + 1));
        assert_int_equal(counters.releases, i + 1);
        assert_int_equal(counters.bytes_in_use, 256 * (counters.allocations - counters.releases));
    }
}

FAKE_TEST(slabs_grow_by_the_factor)
{
    kiln_pool_options options = KILN_POOL_OPTIONS(.first_bytes = 1024, .growth = 3.0);
    kiln_pool *pool = new_pool(&options);
    static const size_t held[] = {1024, 4096, 4096, 4096, 13312};
    static const int until[] = {4, 5, 8, 16, 17};
    int count = 0;
    kiln_block block;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(held); i++) {
        for (; count < until[i]; count++) {
            assert_ok(kiln_pool_allocate(pool, 256, NULL, &block));
        }
        assert_int_equal(pool_counters(pool).bytes_held, held[i]);
        assert_int_equal(pool_counters(pool).bytes_in_use, 256 * count);
    }
    kiln_pool_destroy(pool);
    options.growth = 0.5;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_pool_create(&options, &pool), "growth is 0.5");
}

FAKE_TEST(the_cap_is_kept)
{
    owned_pool pool = make_pool(KILN_LOCATION_HOST, 10000, 4096);
    kiln_block large;
    kiln_block small = block_of(pool, 300, NULL);
    assert_fails(KILN_ERROR_LIMIT, kiln_pool_allocate(pool, 8000, NULL, &large),
                 "a piece of 8192 bytes was asked for; the pool holds 4096 of the 10000 bytes");
    assert_null(large.owner);
    assert_ok(kiln_pool_release(pool, &small, NULL));
    /* The free slab of the small class makes room. */
    assert_ok(kiln_pool_allocate(pool, 8000, NULL, &large));
    assert_int_equal(pool_counters(pool).bytes_held, 8192);
    assert_int_equal(pool_counters(pool).bytes_held_peak, 8192);
    /* A first slab that does not fit is cut to what does. */
    assert_ok(kiln_pool_allocate(pool, 256, NULL, &small));
    assert_int_equal(pool_counters(pool).bytes_held, 8192 + 1792);
    assert_status(KILN_ERROR_LIMIT, kiln_pool_allocate(pool, 20000, NULL, &large));
    assert_status(KILN_ERROR_LIMIT, kiln_pool_allocate(pool, SIZE_MAX, NULL, &large));
    assert_status(KILN_ERROR_SIZE, kiln_pool_allocate(pool, 0, NULL, &large));
}

FAKE_TEST(trimming_gives_free_slabs_back)
{
    owned_pool pool = make_pool(KILN_LOCATION_DEVICE, 0, 1024);
    kiln_block blocks[6];
    kiln_block out = block_of(pool, 256, NULL);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(blocks); i++) {
        assert_ok(kiln_pool_allocate(pool, 100000, NULL, &blocks[i]));
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(blocks); i++) {
        assert_ok(kiln_pool_release(pool, &blocks[i], NULL));
    }
    const size_t held = pool_counters(pool).bytes_held;
    assert_int_equal(held, fake_number("fake_cuda_bytes", ""));
    assert_ok(kiln_pool_trim(pool, held));
    assert_int_equal(pool_counters(pool).bytes_held, held);
    assert_ok(kiln_pool_trim(pool, held - 1));
    assert_true(pool_counters(pool).bytes_held < held);
    assert_ok(kiln_pool_trim(pool, 0));
    assert_int_equal(pool_counters(pool).bytes_held, 1024);
    assert_int_equal(fake_number("fake_cuda_bytes", ""), 1024);
    assert_ok(kiln_pool_release(pool, &out, NULL));
    assert_ok(kiln_pool_allocate(pool, 256, NULL, &out));
    assert_ok(kiln_pool_release(pool, &out, NULL));
    assert_ok(kiln_pool_trim(pool, 0));
    assert_int_equal(pool_counters(pool).bytes_held, 0);
}

FAKE_TEST(exhausted_device_memory_is_made_free_or_told)
{
    set("FAKE_CUDA_MEMORY", "10000");
    owned_pool pool = make_pool(KILN_LOCATION_DEVICE, 0, 8192);
    kiln_block large;
    kiln_block small = block_of(pool, 256, NULL);
    assert_fails(KILN_ERROR_OUT_OF_MEMORY, kiln_pool_allocate(pool, 4096, NULL, &large),
                 "CUDA_ERROR_OUT_OF_MEMORY");
    assert_ok(kiln_pool_release(pool, &small, NULL));
    assert_ok(kiln_pool_allocate(pool, 4096, NULL, &large));
    /* Two pieces, as many as first_bytes holds, did not fit beside the old slab; one did in its
     * place. */
    assert_int_equal(pool_counters(pool).bytes_held, 4096);
}

FAKE_TEST(a_stream_gets_its_own_piece_at_once)
{
    owned_pool pool = make_pool(KILN_LOCATION_DEVICE, 256, 256);
    int number = 1;
    owned_stream first = stream_on(0);
    owned_stream second = stream_on(0);
    set("FAKE_CUDA_BUSY", "1");
    kiln_block block = block_of(pool, 200, first);
    void *const data = block.data;
    assert_ok(kln_cuda_copy(0, data, &number, sizeof number, first));
    assert_ok(kiln_pool_release(pool, &block, first));
    const unsigned long waits = calls("cuStreamWaitEvent");
    assert_ok(kiln_pool_allocate(pool, 200, first, &block));
    assert_ptr_equal(block.data, data);
    assert_int_equal(calls("cuStreamWaitEvent"), waits);
    assert_int_equal(pool_counters(pool).stream_waits, 0);
    /* The cap allows no other piece: the second stream is put behind the first. */
    assert_ok(kiln_pool_release(pool, &block, first));
    assert_ok(kiln_pool_allocate(pool, 200, second, &block));
    assert_ptr_equal(block.data, data);
    assert_int_equal(calls("cuStreamWaitEvent"), waits + 1);
    assert_int_equal(pool_counters(pool).stream_waits, 1);
    /* The host has to wait. */
    assert_ok(kln_cuda_copy(0, data, &number, sizeof number, second));
    assert_ok(kiln_pool_release(pool, &block, second));
    const unsigned long syncs = calls("cuStreamSynchronize");
    assert_ok(kiln_pool_allocate(pool, 200, NULL, &block));
    assert_int_equal(calls("cuStreamSynchronize"), syncs + 1);
    assert_int_equal(pool_counters(pool).stream_waits, 2);
    assert_ok(kiln_pool_release(pool, &block, NULL));
}

FAKE_TEST(busy_pieces_are_left_alone_while_there_is_room)
{
    owned_pool pool = make_pool(KILN_LOCATION_DEVICE, 0, 256);
    owned_stream first = stream_on(0);
    owned_stream second = stream_on(0);
    set("FAKE_CUDA_BUSY", "1");
    kiln_block block = block_of(pool, 200, first);
    void *const data = block.data;
    assert_ok(kln_cuda_fill(0, data, 1, 200, first));
    assert_ok(kiln_pool_release(pool, &block, first));
    const kiln_block other = block_of(pool, 200, second);
    assert_ptr_not_equal(other.data, data);
    /* Once the work is done, anybody may have it, with no wait. */
    assert_ok(kiln_stream_synchronize(first));
    const kiln_block again = block_of(pool, 200, second);
    const kiln_block third = block_of(pool, 200, second);
    assert_true(again.data == data || third.data == data);
    assert_int_equal(pool_counters(pool).stream_waits, 0);
}

FAKE_TEST(a_destroyed_stream_leaves_its_pieces_free)
{
    owned_pool pool = make_pool(KILN_LOCATION_PINNED, 256, 256);
    kiln_stream *stream = stream_on(0);
    kiln_block block = block_of(pool, 10, stream);
    assert_ok(kiln_pool_release(pool, &block, stream));
    const unsigned long syncs = calls("cuStreamSynchronize");
    kiln_stream_destroy(stream);
    assert_int_equal(calls("cuStreamSynchronize"), syncs + 1);
    assert_ok(kiln_pool_allocate(pool, 10, NULL, &block));
    assert_int_equal(pool_counters(pool).stream_waits, 0);
    assert_ok(kiln_pool_release(pool, &block, NULL));
}

FAKE_TEST(misuse_is_told)
{
    owned_pool pool = make_pool(KILN_LOCATION_HOST, 0, 0);
    owned_pool other = make_pool(KILN_LOCATION_HOST, 0, 0);
    kiln_block block = block_of(pool, 10, NULL);
    kiln_block copy = block;
    assert_fails(KILN_ERROR_STATE, kiln_pool_release(other, &copy, NULL),
                 "belongs to another pool");
    assert_ok(kiln_pool_release(pool, &block, NULL));
    assert_fails(KILN_ERROR_STATE, kiln_pool_release(pool, &copy, NULL), "it was released before");
    assert_ok(kiln_pool_release(pool, &block, NULL));
    kiln_pool_counters counters = {.struct_size = 8};
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_pool_get_counters(pool, &counters));
}

/* --- threads --- */

#define THREADS 8

typedef struct exchange {
    kiln_pool *pool;
    kiln_stream *streams[2];
    pthread_mutex_t guard;
    kiln_block passed[16]; /* from thread to thread, so that shards take back what others gave */
    unsigned seeds;
    size_t refused;
} exchange;

static bool step(exchange *shared, unsigned *seed, kiln_block *mine)
{
    *seed = *seed * 1664525U + 1013904223U;
    kiln_stream *stream = shared->streams[(*seed >> 8) % 2];
    const size_t bytes = (*seed >> 10) % 5 == 0 ? 40000 : 1 + (*seed >> 16) % 2000;
    if (mine->owner == NULL) {
        const kiln_status status = kiln_pool_allocate(shared->pool, bytes, stream, mine);
        if (status != KILN_OK) {
            return status == KILN_ERROR_LIMIT;
        }
        memset(mine->data, (int)(*seed & 0xFF), mine->bytes);
        return true;
    }
    const unsigned char *data = mine->data;
    if (data[0] != data[mine->bytes - 1]) {
        return false;
    }
    (void)pthread_mutex_lock(&shared->guard);
    kiln_block *place = &shared->passed[(*seed >> 20) % 16];
    const kiln_block taken = *place;
    *place = *mine;
    (void)pthread_mutex_unlock(&shared->guard);
    *mine = taken;
    return kiln_pool_release(shared->pool, mine, stream) == KILN_OK;
}

/* Returns `user` where something failed. */
static void *hammer(void *user)
{
    exchange *shared = user;
    (void)pthread_mutex_lock(&shared->guard);
    unsigned seed = ++shared->seeds;
    (void)pthread_mutex_unlock(&shared->guard);
    kiln_block mine = {0};
    for (int i = 0; i < 3000; i++) {
        if (!step(shared, &seed, &mine)) {
            return user;
        }
        if (i % 500 == 0 && kiln_pool_trim(shared->pool, 0) != KILN_OK) {
            return user;
        }
    }
    return kiln_pool_release(shared->pool, &mine, NULL) == KILN_OK ? NULL : user;
}

FAKE_TEST(threads_share_a_pool)
{
    exchange shared = {.pool = make_pool(KILN_LOCATION_DEVICE, 1 << 20, 4096),
                       .guard = PTHREAD_MUTEX_INITIALIZER};
    assert_ok(kiln_stream_create(0, 0, &shared.streams[0]));
    assert_ok(kiln_stream_create(0, 0, &shared.streams[1]));
    kiln_test_in_threads(THREADS, hammer, &shared, 0);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(shared.passed); i++) {
        assert_ok(kiln_pool_release(shared.pool, &shared.passed[i], NULL));
    }
    const kiln_pool_counters counters = pool_counters(shared.pool);
    assert_int_equal(counters.bytes_in_use, 0);
    assert_int_equal(counters.allocations, counters.releases);
    assert_true(counters.allocations > 1000);
    assert_true(counters.bytes_held_peak <= 1 << 20);
    kiln_stream_destroy(shared.streams[0]);
    kiln_stream_destroy(shared.streams[1]);
    assert_ok(kiln_pool_trim(shared.pool, 0));
    assert_int_equal(pool_counters(shared.pool).bytes_held, 0);
    kiln_pool_destroy(shared.pool);
}
