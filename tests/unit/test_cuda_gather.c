/* SPDX-License-Identifier: Apache-2.0 */
/* Copies by Kiln's kernel, which tests/fake/fake_cuda.h plays thread by thread. */
#include "fake_cuda_test.h"

#define ROOM ((size_t)70000)
#define GUARD 0xEE

static _Alignas(16) unsigned char source[ROOM];
static _Alignas(16) unsigned char target[ROOM];

static kiln_stream *make_stream(void)
{
    kiln_stream *stream = stream_on(0);
    for (size_t i = 0; i < ROOM; i++) {
        source[i] = (unsigned char)(i * 31 >> 2);
    }
    return stream;
}

static void one_copy(kiln_stream *stream, size_t to, size_t from, size_t bytes)
{
    const kln_cuda_piece piece = {target + to, source + from, bytes};
    memset(target, GUARD, to + bytes + 32);
    assert_ok(kln_cuda_gather(stream, &piece, 1));
    for (size_t i = 0; i < to + bytes + 32; i++) {
        const bool inside = i >= to && i < to + bytes;
        const unsigned char expected = inside ? source[from + i - to] : GUARD;
        if (target[i] != expected) {
            fail_msg("%zu bytes from %zu to %zu: byte %zu is %u, not %u", bytes, from, to, i,
                     target[i], expected);
        }
    }
}

FAKE_TEST(every_size_at_every_alignment)
{
    static const size_t sizes[] = {255, 256, 257, 4080, 4095, 4096, 4097, 4112, 65536, 65543};
    owned_stream stream = make_stream();
    for (size_t bytes = 0; bytes <= 70; bytes++) {
        for (size_t to = 0; to < 17; to++) {
            for (size_t from = 0; from < 17; from++) {
                one_copy(stream, to, from, bytes);
            }
        }
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(sizes); i++) {
        one_copy(stream, 0, 0, sizes[i]);
        one_copy(stream, 16, 48, sizes[i]);
        one_copy(stream, 16, 4, sizes[i]);
        one_copy(stream, 3, 3, sizes[i]);
    }
}

/* Sizes 0, 1, 7, ... from one end of the source to the other. */
static size_t make_pieces(kln_cuda_piece pieces[KLN_CUDA_PIECES])
{
    size_t at = 0;
    for (size_t i = 0; i < KLN_CUDA_PIECES; i++) {
        const size_t bytes = i % 5 == 0 ? 0 : i * i * 37 + (i % 3);
        pieces[i] = (kln_cuda_piece){target + at, source + at, bytes};
        at += bytes + (i % 2 == 0 ? 16 - bytes % 16 : 0);
    }
    return at;
}

static void check_pieces(const kln_cuda_piece *pieces, size_t count, size_t end)
{
    static unsigned char expected[ROOM];
    memset(expected, GUARD, end);
    for (size_t i = 0; i < count; i++) {
        memcpy(expected + ((unsigned char *)pieces[i].to - target), pieces[i].from,
               pieces[i].bytes);
    }
    assert_memory_equal(target, expected, end);
}

FAKE_TEST(many_pieces_are_one_launch)
{
    owned_stream stream = make_stream();
    kln_cuda_piece pieces[KLN_CUDA_PIECES + 1];
    const size_t end = make_pieces(pieces) + 32;
    assert_true(end < ROOM);
    for (size_t count = 0; count <= KLN_CUDA_PIECES; count++) {
        const unsigned long launches = calls("cuLaunchKernel");
        memset(target, GUARD, end);
        assert_ok(kln_cuda_gather(stream, pieces, count));
        check_pieces(pieces, count, end);
        /* Nothing, or the first piece, which is empty: no launch at all. */
        assert_int_equal(calls("cuLaunchKernel"), launches + (count > 1));
    }
    pieces[KLN_CUDA_PIECES] = pieces[1];
    assert_fails(KILN_ERROR_SIZE, kln_cuda_gather(stream, pieces, KLN_CUDA_PIECES + 1),
                 "17 pieces were given, one launch takes 16");
}

/* Sizes are 64 bits wide, and refused where a grid cannot hold them. */
FAKE_TEST(what_no_launch_can_hold_is_refused)
{
    owned_stream stream = make_stream();
    const unsigned long launches = calls("cuLaunchKernel");
    kln_cuda_piece pieces[2] = {{target, source, 16}, {target, source, (size_t)1 << 44}};
    assert_fails(KILN_ERROR_SIZE, kln_cuda_gather(stream, pieces, 2),
                 "piece 1 of 2 has 17592186044416 bytes");
    pieces[1].bytes = SIZE_MAX;
    assert_status(KILN_ERROR_SIZE, kln_cuda_gather(stream, pieces, 2));
    /* The blocks of all pieces count together; one byte a thread fills a grid sooner. */
    pieces[0] = (kln_cuda_piece){target + 1, source, (size_t)300 << 30};
    pieces[1] = pieces[0];
    assert_fails(KILN_ERROR_SIZE, kln_cuda_gather(stream, pieces, 2), "piece 1 of 2");
    assert_int_equal(calls("cuLaunchKernel"), launches);
}

FAKE_TEST(a_captured_launch_copies_at_each_replay)
{
    owned_stream stream = make_stream();
    owned_graph graph = NULL;
    kln_cuda_piece pieces[KLN_CUDA_PIECES];
    const size_t end = make_pieces(pieces);
    kln_cuda_piece gone[KLN_CUDA_PIECES];
    memcpy(gone, pieces, sizeof gone);
    memset(target, GUARD, end);
    assert_ok(kln_stream_capture_begin_relaxed(stream));
    assert_ok(kln_cuda_gather(stream, gone, KLN_CUDA_PIECES));
    memset(gone, 0, sizeof gone);
    assert_ok(kiln_stream_capture_end(stream, &graph));
    assert_int_equal(kiln_graph_node_count(graph), 1);
    assert_int_equal(graph->host_calls, 0);
    check_pieces(pieces, 0, end);
    for (unsigned round = 1; round < 4; round++) {
        for (size_t i = 0; i < end; i++) {
            source[i] = (unsigned char)(i * round);
        }
        memset(target, GUARD, end);
        assert_ok(kiln_graph_launch(graph, stream));
        assert_ok(kiln_stream_synchronize(stream));
        check_pieces(pieces, KLN_CUDA_PIECES, end);
    }
}

FAKE_TEST(a_driver_without_kernels_says_so)
{
    assert_true(kln_cuda_has(KLN_CUDA_KERNELS, 0));
    kln_cuda_close();
    set("KILN_CUDA_DRIVER", FAKE_CUDA_PLAIN);
    assert_ok(kln_cuda_open());
    assert_false(kln_cuda_has(KLN_CUDA_KERNELS, 0));
    assert_true(kln_cuda_has(KLN_CUDA_GRAPHS, 0));
    owned_stream stream = make_stream();
    const kln_cuda_piece piece = {target, source, 64};
    assert_fails(KILN_ERROR_UNSUPPORTED, kln_cuda_gather(stream, &piece, 1),
                 "this driver (CUDA 12.8) lacks functions that copies by a kernel need");
}

FAKE_TEST(each_step_may_fail_and_work_later)
{
    static const char *const steps[][2] = {
        {"load",
         "loading the kernel that copies on device 0 (Fake GPU A): CUDA_ERROR_INVALID_IMAGE (200)"},
        {"name",
         "loading the kernel that copies on device 0 (Fake GPU A): CUDA_ERROR_NOT_FOUND (500)"},
        {"launch",
         "copying by a kernel of 1 block on device 0: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)"},
    };
    const kln_cuda_piece piece = {target, source, 64};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(steps); i++) {
        kiln_stream *stream = make_stream();
        const unsigned long objects = fake_number("fake_cuda_objects", "");
        set("FAKE_CUDA_KERNELS", steps[i][0]);
        assert_fails(KILN_ERROR_DEVICE, kln_cuda_gather(stream, &piece, 1), steps[i][1]);
        if (i < 2) {
            assert_int_equal(fake_number("fake_cuda_objects", ""), objects);
        }
        set("FAKE_CUDA_KERNELS", NULL);
        one_copy(stream, 0, 0, 64);
        set("FAKE_CUDA_LOST", "719");
        assert_status(KILN_ERROR_DEVICE, kln_cuda_gather(stream, &piece, 1));
        set("FAKE_CUDA_LOST", NULL);
        kiln_stream_destroy(stream);
        kln_cuda_close();
    }
}

/* Returns `user` where something failed. */
static void *gather_once(void *user)
{
    unsigned char from[100];
    unsigned char to[100] = {0};
    const kln_cuda_piece piece = {to, from, sizeof to};
    kiln_stream *stream = NULL;
    memset(from, 7, sizeof from);
    const bool good = kiln_stream_create(1, 0, &stream) == KILN_OK &&
                      kln_cuda_gather(stream, &piece, 1) == KILN_OK &&
                      memcmp(to, from, sizeof to) == 0;
    kiln_stream_destroy(stream);
    return good ? NULL : user;
}

FAKE_TEST(a_device_loads_the_kernel_once)
{
    int failure = 0;
    for (int round = 0; round < 8; round++) {
        const unsigned long loads = calls("cuModuleLoadData");
        kiln_test_in_threads(8, gather_once, &failure, 0);
        assert_int_equal(calls("cuModuleLoadData"), loads + 1);
        kiln_stream *stream = make_stream(); /* another device */
        one_copy(stream, 0, 0, 100);
        assert_int_equal(calls("cuModuleLoadData"), loads + 2);
        kiln_stream_destroy(stream);
        kln_cuda_close();
    }
}
