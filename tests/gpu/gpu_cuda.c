/* SPDX-License-Identifier: Apache-2.0 */
/* src/cuda and src/memory on a real driver and GPU. */
#include <time.h>

#include "kiln_test.h"
#include "memory/kln_memory.h"

#define BYTES ((size_t)1 << 20)
static const kiln_location locations[] = {KILN_LOCATION_HOST, KILN_LOCATION_PINNED,
                                          KILN_LOCATION_MANAGED, KILN_LOCATION_DEVICE};

TEST(the_device_is_described)
{
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
    assert_fails(KILN_ERROR_OUT_OF_MEMORY,
                 kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, 2 * total, &memory),
                 "CUDA_ERROR_OUT_OF_MEMORY");
    print_message("%s\n", kiln_error_message());
}

static kiln_buffer *make_pattern(kiln_location location, unsigned seed)
{
    unsigned char *bytes = test_malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = (unsigned char)(i * seed >> 3);
    }
    kiln_buffer *buffer = new_buffer(location, 0, BYTES);
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

TEST_EACH(bytes_survive_every_way, i, KLN_ARRAY_LENGTH(locations))
{
    for (size_t j = 0; j < KLN_ARRAY_LENGTH(locations); j++) {
        const unsigned seed = (unsigned)(17 + i * 4 + j);
        owned_buffer from = make_pattern(locations[i], seed);
        owned_buffer to = make_pattern(locations[j], 1);
        assert_ok(kiln_buffer_copy(to, 0, from, 0, BYTES, NULL));
        check_pattern(to, seed);
    }
}

static void wait_a_while(void *user)
{
    const struct timespec time = {.tv_nsec = 50000000};
    (void)nanosleep(&time, NULL);
    ++*(int *)user;
}

TEST(streams_and_events_keep_order)
{
    int count = 0;
    bool done = true;
    double took = 0.0;
    owned_buffer source = make_pattern(KILN_LOCATION_PINNED, 5);
    owned_buffer middle = make_pattern(KILN_LOCATION_DEVICE, 1);
    owned_buffer target = make_pattern(KILN_LOCATION_PINNED, 2);
    owned_stream first = stream_on(0);
    owned_stream second = new_stream(0, -1);
    owned_event begin = new_event(0, true);
    owned_event end = new_event(0, true);
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

TEST(graphs_replay_and_are_replaced)
{
    owned_graph graph = NULL;
    bool in_place = false;
    owned_buffer device = make_pattern(KILN_LOCATION_DEVICE, 1);
    owned_buffer pinned = make_pattern(KILN_LOCATION_PINNED, 1);
    const unsigned char *seen = kiln_buffer_data(pinned);
    owned_stream stream = stream_on(0);
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
}

TEST(the_pool_puts_streams_behind_each_other)
{
    kiln_pool_options options = KILN_POOL_OPTIONS(.location = KILN_LOCATION_DEVICE,
                                                  .max_bytes = BYTES, .first_bytes = BYTES);
    int count = 0;
    owned_pool pool = new_pool(&options);
    owned_stream first = stream_on(0);
    owned_stream second = stream_on(0);
    kiln_block block = block_of(pool, BYTES, first);
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
}

TEST(ordered_memory_works)
{
    void *memory = NULL;
    unsigned char byte = 0;
    SKIP_IF(!kln_cuda_has(KLN_CUDA_STREAM_ORDERED, 0));
    owned_stream stream = stream_on(0);
    assert_ok(kiln_stream_allocate(stream, BYTES, &memory));
    assert_ok(kln_cuda_fill(0, memory, 0x5A, BYTES, stream));
    assert_ok(kln_cuda_copy(0, &byte, (unsigned char *)memory + BYTES - 1, 1, stream));
    assert_ok(kiln_stream_release(stream, memory));
    assert_ok(kiln_stream_synchronize(stream));
    assert_int_equal(byte, 0x5A);
}

/* --- copies by Kiln's kernel --- */

#define ENDS 32 /* bytes on each side of a piece that must stay as they are */

/* Where a copy goes: pinned source, device memory, pinned target. */
typedef struct gathering {
    kiln_stream *stream;
    unsigned char *source;
    unsigned char *device;
    unsigned char *target;
} gathering;

static gathering begin_gathering(void)
{
    gathering all = {.stream = NULL};
    void *memory = NULL;
    assert_true(kln_cuda_has(KLN_CUDA_KERNELS, 0));
    assert_ok(kiln_stream_create(0, 0, &all.stream));
    assert_ok(kln_cuda_allocate(KILN_LOCATION_PINNED, 0, BYTES, &memory));
    all.source = memory;
    assert_ok(kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, BYTES, &memory));
    all.device = memory;
    assert_ok(kln_cuda_allocate(KILN_LOCATION_PINNED, 0, BYTES, &memory));
    all.target = memory;
    for (size_t i = 0; i < BYTES; i++) {
        all.source[i] = (unsigned char)(i * 2654435761u >> 13);
    }
    return all;
}

static void end_gathering(gathering *all)
{
    kiln_stream_destroy(all->stream);
    kln_cuda_release(KILN_LOCATION_PINNED, 0, all->source);
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, all->device);
    kln_cuda_release(KILN_LOCATION_PINNED, 0, all->target);
}

/* Up to 16 pieces of `bytes`, to addresses that go through all alignments, from `from` on. */
static size_t lay_out(const gathering *all, size_t bytes, size_t from, kln_cuda_piece *in,
                      kln_cuda_piece *out)
{
    const size_t room = (bytes + 2 * ENDS + 31) / 32 * 32;
    size_t count = 0;
    while (count < KLN_CUDA_PIECES && (count + 1) * room <= BYTES) {
        const size_t to = count * room + ENDS + count % 16;
        in[count] = (kln_cuda_piece){all->device + to, all->source + from, bytes};
        out[count] = (kln_cuda_piece){all->target + to, all->device + to, bytes};
        count++;
    }
    return count;
}

static void clear_and_go(const gathering *all, kiln_graph *graph, const kln_cuda_piece *in,
                         const kln_cuda_piece *out, size_t count)
{
    memset(all->target, 0xEE, BYTES);
    assert_ok(kln_cuda_fill(0, all->device, 0x77, BYTES, all->stream));
    if (graph != NULL) {
        assert_ok(kiln_graph_launch(graph, all->stream));
    } else {
        assert_ok(kln_cuda_gather(all->stream, in, count));
        assert_ok(kln_cuda_gather(all->stream, out, count));
    }
    assert_ok(kiln_stream_synchronize(all->stream));
}

/* The pieces have what they should, all between is as it was, on the device too. */
static void check_gathered(const gathering *all, const kln_cuda_piece *in,
                           const kln_cuda_piece *out, size_t count)
{
    unsigned char *expected = test_malloc(BYTES);
    unsigned char *found = test_malloc(BYTES);
    memset(expected, 0xEE, BYTES);
    for (size_t i = 0; i < count; i++) {
        memcpy(expected + ((unsigned char *)out[i].to - all->target), in[i].from, in[i].bytes);
    }
    assert_memory_equal(all->target, expected, BYTES);
    memset(expected, 0x77, BYTES);
    for (size_t i = 0; i < count; i++) {
        memcpy(expected + ((unsigned char *)in[i].to - all->device), in[i].from, in[i].bytes);
    }
    assert_ok(kln_cuda_copy(0, found, all->device, BYTES, NULL));
    assert_memory_equal(found, expected, BYTES);
    test_free(expected);
    test_free(found);
}

TEST(a_kernel_copies_any_bytes)
{
    static const size_t sizes[] = {
        0,    1,    2,     3,     4,     7,     15,    16,     17,     31,     32,     33,   48,
        63,   64,   65,    255,   256,   257,   271,   1000,   4080,   4095,   4096,   4097, 4111,
        4112, 8192, 10007, 50000, 65535, 65536, 65537, 150528, 602112, 602117, 1000000};
    gathering all = begin_gathering();
    kln_cuda_piece in[KLN_CUDA_PIECES];
    kln_cuda_piece out[KLN_CUDA_PIECES];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(sizes); i++) {
        for (size_t from = 0; from <= 16; from++) {
            const size_t count = lay_out(&all, sizes[i], from, in, out);
            assert_true(count > 0);
            clear_and_go(&all, NULL, in, out, count);
            check_gathered(&all, in, out, count);
        }
    }
    /* Pieces of different sizes and alignments in one launch, empty ones among them. */
    size_t at = ENDS;
    for (size_t i = 0; i < KLN_CUDA_PIECES; i++) {
        const size_t bytes = sizes[(i * 7) % 34];
        in[i] = (kln_cuda_piece){all.device + at, all.source + (i % 3 != 0 ? at : i), bytes};
        out[i] = (kln_cuda_piece){all.target + at, all.device + at, bytes};
        at = (at + bytes + 47) / 16 * 16 + (i % 4 == 3 ? 5 : 0);
    }
    assert_true(at < BYTES);
    clear_and_go(&all, NULL, in, out, KLN_CUDA_PIECES);
    check_gathered(&all, in, out, KLN_CUDA_PIECES);
    end_gathering(&all);
}

/* What the host wrote since the last replay is what the next one reads. */
TEST(a_captured_kernel_reads_anew)
{
    gathering all = begin_gathering();
    owned_graph graph = NULL;
    kln_cuda_piece in[KLN_CUDA_PIECES];
    kln_cuda_piece out[KLN_CUDA_PIECES];
    const size_t count = lay_out(&all, 50003, 0, in, out);
    clear_and_go(&all, NULL, in, out, count);
    assert_ok(kln_stream_capture_begin_relaxed(all.stream));
    assert_ok(kln_cuda_gather(all.stream, in, count));
    assert_ok(kln_cuda_gather(all.stream, out, count));
    assert_ok(kiln_stream_capture_end(all.stream, &graph));
    assert_int_equal(kiln_graph_node_count(graph), 2);
    for (unsigned round = 1; round <= 20; round++) {
        for (size_t i = 0; i < BYTES; i++) {
            all.source[i] = (unsigned char)(i * (2 * round + 1) >> 3);
        }
        clear_and_go(&all, graph, in, out, count);
        check_gathered(&all, in, out, count);
    }
    end_gathering(&all);
}

/* Past 32 bits of bytes: both ends of each, and what lies behind. */
TEST(a_kernel_copies_more_than_4_gib)
{
    const size_t bytes = ((size_t)4 << 30) + 37;
    static const size_t places[] = {0, ((size_t)4 << 30) - 16, ((size_t)4 << 30) + 5};
    void *from = NULL;
    void *to = NULL;
    unsigned char seen[64];
    unsigned char pattern[32];
    if (kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, bytes, &from) != KILN_OK ||
        kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, bytes + 64, &to) != KILN_OK) {
        kln_cuda_release(KILN_LOCATION_DEVICE, 0, from);
        skip();
    }
    kiln_stream *stream = stream_on(0);
    assert_ok(kln_cuda_fill(0, from, 0x11, bytes, NULL));
    assert_ok(kln_cuda_fill(0, to, 0x22, bytes + 64, NULL));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(places); i++) {
        memset(pattern, (int)(0x60 + i), sizeof pattern);
        assert_ok(kln_cuda_copy(0, (unsigned char *)from + places[i], pattern, 32, NULL));
    }
    const kln_cuda_piece piece = {to, from, bytes};
    assert_ok(kln_cuda_gather(stream, &piece, 1));
    assert_ok(kiln_stream_synchronize(stream));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(places); i++) {
        unsigned char expected[32];
        assert_ok(kln_cuda_copy(0, expected, (unsigned char *)from + places[i], 32, NULL));
        assert_ok(kln_cuda_copy(0, seen, (unsigned char *)to + places[i], 32, NULL));
        assert_memory_equal(seen, expected, 32);
    }
    assert_ok(kln_cuda_copy(0, seen, (unsigned char *)to + bytes, 64, NULL));
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(seen[i], 0x22);
    }
    kiln_stream_destroy(stream);
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, from);
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, to);
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
    owned_stream stream = NULL;
    owned_buffer seen = NULL;
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
    return NULL;
}

TEST(threads_share_device_memory)
{
    kiln_pool_options options =
        KILN_POOL_OPTIONS(.location = KILN_LOCATION_DEVICE, .first_bytes = 16384);
    share shares[THREADS];
    owned_pool pool = new_pool(&options);
    for (size_t i = 0; i < THREADS; i++) {
        shares[i] = (share){pool, (uint8_t)(i + 1), false};
    }
    kiln_test_in_threads(THREADS, fill_and_look, shares, sizeof *shares);
    for (size_t i = 0; i < THREADS; i++) {
        assert_true(shares[i].good);
    }
    kiln_pool_counters counters = {.struct_size = sizeof counters};
    assert_ok(kiln_pool_get_counters(pool, &counters));
    assert_int_equal(counters.allocations, THREADS * ROUNDS);
    assert_int_equal(counters.bytes_in_use, 0);
    print_message("%llu allocations, %llu slabs, %llu stream waits\n",
                  (unsigned long long)counters.allocations, (unsigned long long)counters.slabs_made,
                  (unsigned long long)counters.stream_waits);
}

static bool has_gpu(void)
{
    if (kln_cuda_open() == KILN_OK) {
        return true;
    }
    print_message("skipped: %s\n", kiln_error_message());
    return false;
}

TESTS_BEGIN(has_gpu)
