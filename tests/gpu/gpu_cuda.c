/* SPDX-License-Identifier: Apache-2.0 */
/* src/cuda and src/memory on a real driver and GPU. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kiln_test.h"
#include "memory/kln_memory.h"

#define BYTES ((size_t)1 << 20)
#define NO_GPU 77 /* CTest takes it for "skipped" */

static const kiln_location locations[] = {KILN_LOCATION_HOST, KILN_LOCATION_PINNED,
                                          KILN_LOCATION_MANAGED, KILN_LOCATION_DEVICE};

static void the_device_is_described(void **state)
{
    (void)state;
    kiln_device_info info = {.struct_size = sizeof info};
    size_t before = 0;
    size_t after = 0;
    size_t total = 0;
    void *memory = NULL;
    assert_ok(kiln_device_get(0, &info));
    print_message("%s, compute %d.%d, %d multiprocessors, %llu bytes, %s, CUDA %d\n", info.name,
                  info.compute_major, info.compute_minor, info.multiprocessors,
                  (unsigned long long)info.total_bytes, info.pci_address, kln_cuda_version());
    assert_true(info.compute_major >= 5 && info.multiprocessors > 0);
    assert_true(strlen(info.name) > 2 && strchr(info.pci_address, ':') != NULL);
    assert_ok(kiln_device_memory(0, &before, &total));
    assert_true(before > 0 && before <= total && total <= info.total_bytes);
    assert_ok(kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, (size_t)256 << 20, &memory));
    assert_ok(kiln_device_memory(0, &after, &total));
    assert_true(after < before);
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, memory);
    assert_status(KILN_ERROR_OUT_OF_MEMORY,
                  kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, 2 * total, &memory));
    assert_message("CUDA_ERROR_OUT_OF_MEMORY");
    print_message("%s\n", kiln_error_message());
}

static kiln_buffer *make_pattern(kiln_location location, unsigned seed)
{
    kiln_buffer *buffer = NULL;
    unsigned char *bytes = test_malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = (unsigned char)(i * seed >> 3);
    }
    assert_ok(kiln_buffer_create(location, 0, BYTES, &buffer));
    assert_ok(kiln_buffer_write(buffer, 0, (kiln_span){bytes, BYTES}, NULL));
    test_free(bytes);
    return buffer;
}

static void check_pattern(const kiln_buffer *buffer, unsigned seed)
{
    unsigned char *bytes = test_malloc(BYTES);
    assert_ok(kiln_buffer_read(buffer, 0, (kiln_mutable_span){bytes, BYTES}, NULL));
    for (size_t i = 0; i < BYTES; i++) {
        if (bytes[i] != (unsigned char)(i * seed >> 3)) {
            fail_msg("byte %zu is %u", i, bytes[i]);
        }
    }
    test_free(bytes);
}

static void bytes_survive_every_way(void **state)
{
    (void)state;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(locations); i++) {
        for (size_t j = 0; j < KLN_ARRAY_LENGTH(locations); j++) {
            const unsigned seed = (unsigned)(17 + i * 4 + j);
            kiln_buffer *from = make_pattern(locations[i], seed);
            kiln_buffer *to = make_pattern(locations[j], 1);
            assert_ok(kiln_buffer_copy(to, 0, from, 0, BYTES, NULL));
            check_pattern(to, seed);
            kiln_buffer_destroy(from);
            kiln_buffer_destroy(to);
        }
    }
}

static void wait_a_while(void *user)
{
    const struct timespec time = {.tv_nsec = 50000000};
    (void)nanosleep(&time, NULL);
    ++*(int *)user;
}

static void streams_and_events_keep_order(void **state)
{
    (void)state;
    kiln_stream *first = NULL;
    kiln_stream *second = NULL;
    kiln_event *begin = NULL;
    kiln_event *end = NULL;
    int count = 0;
    bool done = true;
    double took = 0.0;
    kiln_buffer *source = make_pattern(KILN_LOCATION_PINNED, 5);
    kiln_buffer *middle = make_pattern(KILN_LOCATION_DEVICE, 1);
    kiln_buffer *target = make_pattern(KILN_LOCATION_PINNED, 2);
    assert_ok(kiln_stream_create(0, 0, &first));
    assert_ok(kiln_stream_create(0, -1, &second));
    assert_ok(kiln_event_create(0, true, &begin));
    assert_ok(kiln_event_create(0, true, &end));
    assert_ok(kiln_event_record(begin, first));
    assert_ok(kiln_stream_call(first, wait_a_while, &count));
    assert_ok(kiln_buffer_copy(middle, 0, source, 0, BYTES, first));
    assert_ok(kiln_event_record(end, first));
    assert_ok(kiln_stream_wait_event(second, end));
    assert_ok(kiln_buffer_copy(target, 0, middle, 0, BYTES, second));
    assert_ok(kiln_stream_query(second, &done));
    assert_false(done);
    assert_ok(kiln_stream_synchronize(second));
    check_pattern(target, 5);
    assert_ok(kiln_event_elapsed(begin, end, &took));
    assert_true(took > 40.0 && took < 5000.0);
    assert_int_equal(count, 1);
    kiln_stream *wrapped = NULL;
    assert_ok(kiln_stream_wrap(0, kiln_stream_handle(first), &wrapped));
    assert_ok(kiln_stream_synchronize(wrapped));
    kiln_stream_destroy(wrapped);
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_stream_create(0, 1, &wrapped));
    kiln_event_destroy(begin);
    kiln_event_destroy(end);
    kiln_stream_destroy(first);
    kiln_stream_destroy(second);
    kiln_buffer_destroy(source);
    kiln_buffer_destroy(middle);
    kiln_buffer_destroy(target);
}

static void capture(kiln_stream *stream, kiln_buffer *device, kiln_buffer *pinned, uint8_t value,
                    bool back)
{
    assert_ok(kiln_stream_capture_begin(stream));
    assert_ok(kiln_buffer_fill(device, value, stream));
    if (back) {
        assert_ok(kiln_buffer_copy(pinned, 0, device, 0, BYTES, stream));
    }
}

static void graphs_replay_and_are_replaced(void **state)
{
    (void)state;
    kiln_stream *stream = NULL;
    kiln_graph *graph = NULL;
    bool in_place = false;
    kiln_buffer *device = make_pattern(KILN_LOCATION_DEVICE, 1);
    kiln_buffer *pinned = make_pattern(KILN_LOCATION_PINNED, 1);
    const unsigned char *seen = kiln_buffer_data(pinned);
    assert_ok(kiln_stream_create(0, 0, &stream));
    capture(stream, device, pinned, 7, true);
    assert_ok(kiln_stream_capture_end(stream, &graph));
    assert_int_equal(kiln_graph_node_count(graph), 2);
    check_pattern(pinned, 1);
    assert_ok(kiln_graph_launch(graph, stream));
    assert_ok(kiln_stream_synchronize(stream));
    assert_int_equal(seen[BYTES - 1], 7);
    capture(stream, device, pinned, 8, true);
    assert_ok(kiln_stream_capture_update(stream, graph, &in_place));
    assert_true(in_place);
    assert_ok(kiln_graph_launch(graph, stream));
    assert_ok(kiln_stream_synchronize(stream));
    assert_int_equal(seen[0], 8);
    capture(stream, device, pinned, 9, false);
    assert_ok(kiln_stream_capture_update(stream, graph, &in_place));
    assert_false(in_place);
    assert_int_equal(kiln_graph_node_count(graph), 1);
    assert_ok(kiln_graph_launch(graph, stream));
    assert_ok(kiln_stream_synchronize(stream));
    assert_int_equal(seen[0], 8);

    /* Waiting cannot be captured. */
    kiln_graph *none = NULL;
    assert_ok(kiln_stream_capture_begin(stream));
    assert_status(KILN_ERROR_DEVICE, kiln_stream_synchronize(stream));
    print_message("%s\n", kiln_error_message());
    assert_status(KILN_ERROR_DEVICE, kiln_stream_capture_end(stream, &none));
    assert_null(none);
    assert_ok(kiln_stream_capture_begin(stream));
    kiln_stream_capture_abandon(stream);
    assert_ok(kiln_buffer_fill(pinned, 3, stream));
    assert_ok(kiln_stream_synchronize(stream));
    assert_int_equal(seen[5], 3);
    kiln_graph_destroy(graph);
    kiln_stream_destroy(stream);
    kiln_buffer_destroy(device);
    kiln_buffer_destroy(pinned);
}

static void the_pool_puts_streams_behind_each_other(void **state)
{
    (void)state;
    kiln_pool_options options = KILN_POOL_OPTIONS_INIT;
    options.location = KILN_LOCATION_DEVICE;
    options.max_bytes = BYTES;
    options.first_bytes = BYTES;
    kiln_pool *pool = NULL;
    kiln_stream *first = NULL;
    kiln_stream *second = NULL;
    kiln_block block;
    int count = 0;
    assert_ok(kiln_pool_create(&options, &pool));
    assert_ok(kiln_stream_create(0, 0, &first));
    assert_ok(kiln_stream_create(0, 0, &second));
    assert_ok(kiln_pool_allocate(pool, BYTES, first, &block));
    void *const data = block.data;
    assert_ok(kiln_stream_call(first, wait_a_while, &count));
    assert_ok(kln_cuda_fill(0, data, 0xAA, BYTES, first));
    assert_ok(kiln_pool_release(pool, &block, first));
    /* The first stream's write is still to come when the second stream gets the memory. */
    assert_ok(kiln_pool_allocate(pool, BYTES, second, &block));
    assert_int_equal(count, 0);
    assert_ptr_equal(block.data, data);
    assert_ok(kln_cuda_fill(0, data, 0xBB, BYTES, second));
    assert_ok(kiln_stream_synchronize(second));
    assert_ok(kiln_stream_synchronize(first));
    unsigned char byte = 0;
    assert_ok(kln_cuda_copy(0, &byte, data, 1, NULL));
    assert_int_equal(byte, 0xBB);
    assert_ok(kiln_pool_release(pool, &block, second));
    kiln_stream_destroy(first);
    kiln_stream_destroy(second);
    kiln_pool_destroy(pool);
}

static void ordered_memory_works(void **state)
{
    (void)state;
    kiln_stream *stream = NULL;
    void *memory = NULL;
    unsigned char byte = 0;
    if (!kln_cuda_has(KLN_CUDA_STREAM_ORDERED, 0)) {
        skip();
    }
    assert_ok(kiln_stream_create(0, 0, &stream));
    assert_ok(kln_cuda_allocate_ordered(stream, BYTES, &memory));
    assert_ok(kln_cuda_fill(0, memory, 0x5A, BYTES, stream));
    assert_ok(kln_cuda_copy(0, &byte, (unsigned char *)memory + BYTES - 1, 1, stream));
    assert_ok(kln_cuda_release_ordered(stream, memory));
    assert_ok(kiln_stream_synchronize(stream));
    assert_int_equal(byte, 0x5A);
    kiln_stream_destroy(stream);
}

/* --- threads: each fills a piece, looks whether it still holds its own value, and passes on --- */

#define THREADS 8
#define ROUNDS 300

typedef struct share {
    kiln_pool *pool;
    uint8_t value;
    bool good;
} share;

static kiln_status one_round(share *mine, kiln_stream *stream, kiln_buffer *seen, int round)
{
    kiln_block block;
    const size_t bytes = (size_t)1000 << (round % 5);
    const unsigned char *data = kiln_buffer_data(seen);
    KLN_RETURN_IF_ERROR(kiln_pool_allocate(mine->pool, bytes, stream, &block));
    KLN_RETURN_IF_ERROR(kln_cuda_fill(0, block.data, mine->value, bytes, stream));
    KLN_RETURN_IF_ERROR(kln_cuda_copy(0, kiln_buffer_data(seen), block.data, bytes, stream));
    KLN_RETURN_IF_ERROR(kiln_pool_release(mine->pool, &block, stream));
    KLN_RETURN_IF_ERROR(kiln_stream_synchronize(stream));
    if (data[0] != mine->value || data[bytes - 1] != mine->value) {
        return kln_fail(KILN_ERROR_INTERNAL, "another thread's value was found");
    }
    return KILN_OK;
}

static void *fill_and_look(void *user)
{
    share *mine = user;
    kiln_stream *stream = NULL;
    kiln_buffer *seen = NULL;
    kiln_status status = kiln_stream_create(0, 0, &stream);
    if (status == KILN_OK) {
        status = kiln_buffer_create(KILN_LOCATION_PINNED, 0, (size_t)16000, &seen);
    }
    for (int round = 0; status == KILN_OK && round < ROUNDS; round++) {
        status = one_round(mine, stream, seen, round);
    }
    if (status != KILN_OK) {
        print_error("%s\n", kiln_error_message());
    }
    mine->good = status == KILN_OK;
    kiln_buffer_destroy(seen);
    kiln_stream_destroy(stream);
    return NULL;
}

static void threads_share_device_memory(void **state)
{
    (void)state;
    kiln_pool_options options = KILN_POOL_OPTIONS_INIT;
    options.location = KILN_LOCATION_DEVICE;
    options.first_bytes = 16384;
    share shares[THREADS];
    pthread_t threads[THREADS];
    kiln_pool *pool = NULL;
    assert_ok(kiln_pool_create(&options, &pool));
    for (size_t i = 0; i < THREADS; i++) {
        shares[i] = (share){pool, (uint8_t)(i + 1), false};
        assert_int_equal(pthread_create(&threads[i], NULL, fill_and_look, &shares[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(shares[i].good);
    }
    kiln_pool_counters counters = {.struct_size = sizeof counters};
    assert_ok(kiln_pool_get_counters(pool, &counters));
    assert_int_equal(counters.allocations, THREADS * ROUNDS);
    assert_int_equal(counters.bytes_in_use, 0);
    print_message("%llu allocations, %llu slabs, %llu stream waits\n",
                  (unsigned long long)counters.allocations, (unsigned long long)counters.slabs_made,
                  (unsigned long long)counters.stream_waits);
    kiln_pool_destroy(pool);
}

int main(void)
{
    if (kln_cuda_open() != KILN_OK) {
        print_message("skipped: %s\n", kiln_error_message());
        return NO_GPU;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_device_is_described),
        cmocka_unit_test(bytes_survive_every_way),
        cmocka_unit_test(streams_and_events_keep_order),
        cmocka_unit_test(graphs_replay_and_are_replaced),
        cmocka_unit_test(the_pool_puts_streams_behind_each_other),
        cmocka_unit_test(ordered_memory_works),
        cmocka_unit_test(threads_share_device_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
