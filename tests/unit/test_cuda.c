/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_cuda_test.h"

/* --- the driver --- */

FAKE_TEST(devices_are_described)
{
    assert_ok(kln_cuda_open());
    assert_int_equal(kln_cuda_version(), 12080);
    assert_int_equal(kiln_device_count(), 4);
    kiln_device_info info = {.struct_size = sizeof info};
    assert_ok(kiln_device_get(2, &info));
    assert_int_equal(info.index, 2);
    assert_string_equal(info.name, "Fake GPU C");
    assert_string_equal(info.pci_address, "0000:a2:00.0");
    assert_int_equal(info.compute_major, 8);
    assert_int_equal(info.compute_minor, 6);
    assert_int_equal(info.multiprocessors, 30);
    assert_int_equal(info.total_bytes, 1 << 30);
    assert_true(info.managed_memory && info.stream_ordered_memory && !info.integrated);
    assert_ok(kiln_device_get(3, &info));
    assert_false(info.managed_memory || info.stream_ordered_memory);
    assert_fails(KILN_ERROR_NO_DEVICE, kiln_device_get(4, &info),
                 "CUDA device 4 was asked for, and there are 4");
    assert_status(KILN_ERROR_NO_DEVICE, kiln_device_get(-1, &info));
    info.struct_size = 8;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_device_get(0, &info));
}

FAKE_TEST(the_report_shows_driver_and_devices)
{
    owned_system_report report = NULL;
    kiln_library_info library = {.struct_size = sizeof library};
    kiln_device_info device = {.struct_size = sizeof device};
    assert_ok(kiln_system_report_create(&report));
    assert_ok(kiln_system_report_library(report, 0, &library));
    assert_string_equal(library.name, "CUDA driver");
    assert_string_equal(library.version, "12.8");
    assert_int_equal(library.state, KILN_LIBRARY_FOUND);
    assert_non_null(strstr(library.path, "libcuda.so.1"));
    assert_int_equal(kiln_system_report_device_count(report), 4);
    assert_ok(kiln_system_report_device(report, 3, &device));
    assert_string_equal(device.name, "Fake GPU D");
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_system_report_device(report, 4, &device));
    kiln_system_report_destroy(report);

    set("KILN_CUDA_DRIVER", "/nowhere/libcuda.so.1");
    kln_cuda_close();
    assert_ok(kiln_system_report_create(&report));
    assert_ok(kiln_system_report_library(report, 0, &library));
    assert_int_equal(library.state, KILN_LIBRARY_ABSENT);
    assert_non_null(strstr(library.advice, "install the NVIDIA driver"));
    assert_non_null(kiln_system_report_place(report, 0, 0));
    assert_int_equal(kiln_system_report_device_count(report), 0);
}

FAKE_TEST(an_absent_driver_says_so_each_time)
{
    set("KILN_CUDA_DRIVER", "/nowhere/libcuda.so.1");
    kiln_stream *stream = NULL;
    size_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        assert_fails(KILN_ERROR_LIBRARY_ABSENT, kln_cuda_open(), "CUDA driver",
                     "/nowhere/libcuda.so.1");
        assert_status(KILN_ERROR_LIBRARY_ABSENT, kiln_stream_create(0, 0, &stream));
        assert_null(stream);
        assert_status(KILN_ERROR_LIBRARY_ABSENT, kiln_device_memory(0, &bytes, &bytes));
        assert_int_equal(kiln_device_count(), 0);
        assert_int_equal(kln_cuda_version(), 0);
    }
}

FAKE_TEST(an_old_driver_is_refused)
{
    set("FAKE_CUDA_VERSION", "10020");
    assert_fails(KILN_ERROR_LIBRARY_VERSION, kln_cuda_open(), "10.2", "11.0 or newer");
}

FAKE_TEST(what_a_driver_is_too_old_for_is_off)
{
    set("FAKE_CUDA_VERSION", "11000");
    assert_ok(kln_cuda_open());
    assert_true(kln_cuda_has(KLN_CUDA_GRAPHS, 0));
    assert_true(kln_cuda_has(KLN_CUDA_GRAPH_UPDATE, 0));
    assert_false(kln_cuda_has(KLN_CUDA_STREAM_ORDERED, 0));
    assert_false(kln_cuda_has(KLN_CUDA_GRAPHS, 9));
    void *memory = NULL;
    owned_stream stream = stream_on(0);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_stream_allocate(stream, 64, &memory),
                 "this driver speaks CUDA 11.0");
}

FAKE_TEST(a_start_that_fails_is_told_in_the_drivers_words)
{
    set("FAKE_CUDA_INIT", "100");
    assert_fails(KILN_ERROR_NO_DEVICE, kln_cuda_open(),
                 "CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected",
                 "CUDA_VISIBLE_DEVICES");
    kln_cuda_close();
    set("FAKE_CUDA_INIT", "34");
    assert_fails(KILN_ERROR_LIBRARY_BROKEN, kln_cuda_open(), "stub");
    kln_library_use use;
    assert_ok(kln_cuda_library(&use));
    assert_int_equal(kln_library_state(use.library), KILN_LIBRARY_REFUSED);
    kln_cuda_close();
    set("FAKE_CUDA_INIT", "12345");
    assert_fails(KILN_ERROR_DEVICE, kln_cuda_open(), "CUDA_ERROR_? (12345)");
    kln_cuda_close();
    set("FAKE_CUDA_INIT", NULL);
    set("FAKE_CUDA_DEVICES", "0");
    assert_status(KILN_ERROR_NO_DEVICE, kln_cuda_open());
    kln_cuda_close();
    set("FAKE_CUDA_DEVICES", "100");
    assert_int_equal(kiln_device_count(), 64);
}

FAKE_TEST(a_lost_device_is_told)
{
    owned_stream stream = stream_on(1);
    set("FAKE_CUDA_LOST", "719");
    assert_fails(KILN_ERROR_DEVICE, kiln_stream_synchronize(stream),
                 "CUDA_ERROR_LAUNCH_FAILED (719): unspecified launch failure",
                 "until the process is started anew");
    set("FAKE_CUDA_LOST", NULL);
}

FAKE_TEST(devices_are_connected_where_they_can_be)
{
    assert_ok(kiln_device_connect(0, 1));
    assert_ok(kiln_device_connect(0, 1));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_device_connect(0, 2),
                 "device 0 cannot reach the memory of device 2");
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_device_connect(1, 1));
    assert_status(KILN_ERROR_NO_DEVICE, kiln_device_connect(0, 7));
}

/* --- memory --- */

FAKE_TEST(memory_of_every_location_works)
{
    static const kiln_location locations[] = {KILN_LOCATION_PINNED, KILN_LOCATION_MANAGED,
                                              KILN_LOCATION_DEVICE};
    const unsigned char pattern[5] = {1, 2, 3, 4, 5};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(locations); i++) {
        void *memory = NULL;
        unsigned char back[5] = {0};
        assert_ok(kln_cuda_allocate(locations[i], 1, 5, &memory));
        assert_non_null(memory);
        assert_ok(kln_cuda_copy(1, memory, pattern, 5, NULL));
        assert_ok(kln_cuda_copy(1, back, memory, 5, NULL));
        assert_memory_equal(back, pattern, 5);
        assert_ok(kln_cuda_fill(1, memory, 9, 5, NULL));
        assert_ok(kln_cuda_copy(1, back, memory, 5, NULL));
        assert_int_equal(back[4], 9);
        kln_cuda_release(locations[i], 1, memory);
    }
    void *memory = NULL;
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kln_cuda_allocate(KILN_LOCATION_HOST, 0, 5, &memory));
    assert_fails(KILN_ERROR_UNSUPPORTED, kln_cuda_allocate(KILN_LOCATION_MANAGED, 3, 5, &memory),
                 "device 3 (Fake GPU D) has no managed memory");
}

FAKE_TEST(exhausted_memory_is_told_with_what_is_left)
{
    set("FAKE_CUDA_MEMORY", "1000");
    void *first = NULL;
    void *second = NULL;
    size_t free_bytes = 0;
    size_t total = 0;
    assert_ok(kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, 600, &first));
    assert_ok(kiln_device_memory(0, &free_bytes, &total));
    assert_int_equal(free_bytes, 400);
    assert_int_equal(total, 1000);
    assert_status(KILN_ERROR_OUT_OF_MEMORY,
                  kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, 500, &second));
    assert_null(second);
    assert_message("500 bytes of device memory, where 400 of 1000 are free on device 0");
    assert_message("CUDA_ERROR_OUT_OF_MEMORY (2)");
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, first);
}

FAKE_TEST(ordered_memory_and_peer_copies)
{
    void *memory = NULL;
    void *other = NULL;
    int number = 77;
    owned_stream stream = new_stream(0, -2);
    assert_ok(kiln_stream_allocate(stream, sizeof number, &memory));
    assert_ok(kln_cuda_copy(0, memory, &number, sizeof number, stream));
    assert_ok(kln_cuda_allocate(KILN_LOCATION_DEVICE, 2, sizeof number, &other));
    assert_ok(kln_cuda_copy_peer(2, other, 0, memory, sizeof number, stream));
    assert_ok(kiln_stream_synchronize(stream));
    number = 0;
    assert_ok(kln_cuda_copy(2, &number, other, sizeof number, NULL));
    assert_int_equal(number, 77);
    assert_ok(kln_cuda_copy_peer(0, memory, 2, other, sizeof number, NULL));
    assert_ok(kiln_stream_release(stream, memory));
    kln_cuda_release(KILN_LOCATION_DEVICE, 2, other);
}

/* --- streams and events --- */

static void count_up(void *user)
{
    ++*(int *)user;
}

FAKE_TEST(streams_run_work)
{
    int count = 0;
    bool done = false;
    owned_stream stream = new_stream(1, -5);
    assert_int_equal(kiln_stream_device(stream), 1);
    assert_non_null(kiln_stream_handle(stream));
    set("FAKE_CUDA_BUSY", "1");
    assert_ok(kiln_stream_call(stream, count_up, &count));
    assert_int_equal(count, 1);
    assert_ok(kiln_stream_query(stream, &done));
    assert_false(done);
    assert_ok(kiln_stream_synchronize(stream));
    assert_ok(kiln_stream_query(stream, &done));
    assert_true(done);

    owned_stream wrapped = NULL;
    assert_ok(kiln_stream_wrap(1, kiln_stream_handle(stream), &wrapped));
    assert_ptr_equal(kiln_stream_handle(wrapped), kiln_stream_handle(stream));
    assert_ok(kiln_stream_call(wrapped, count_up, &count));
    const unsigned long destroyed = calls("cuStreamDestroy_v2");
    kiln_stream_destroy(wrapped);
    assert_int_equal(calls("cuStreamDestroy_v2"), destroyed);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_stream_wrap(0, kiln_stream_handle(stream), &wrapped),
                 "primary context of device 0");
    assert_ok(kiln_stream_wrap(0, NULL, &wrapped));
    assert_ok(kiln_stream_call(wrapped, count_up, &count));
    assert_int_equal(count, 3);
    kiln_stream_destroy(NULL);
}

FAKE_TEST(streams_refuse_what_is_wrong)
{
    owned_stream stream = NULL;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_stream_create(0, 1, &stream),
                 "priority 1 was asked for; device 0 has -5 (the most urgent) to 0");
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_stream_create(0, -6, &stream));
    assert_status(KILN_ERROR_NO_DEVICE, kiln_stream_create(8, 0, &stream));
    assert_null(stream);
    assert_null(kiln_stream_handle(NULL));
    assert_int_equal(kiln_stream_device(NULL), -1);
    assert_ok(kiln_stream_create(0, 0, &stream));
}

FAKE_TEST(events_order_and_measure)
{
    int count = 0;
    double took = -1.0;
    bool done = false;
    owned_stream stream = stream_on(0);
    owned_stream other = stream_on(2);
    owned_event begin = new_event(0, true);
    owned_event end = new_event(0, true);
    owned_event bare = new_event(2, false);
    assert_fails(KILN_ERROR_STATE, kiln_event_elapsed(begin, end, &took),
                 "the first event was never recorded");
    assert_ok(kiln_event_record(begin, stream));
    for (int i = 0; i < 6; i++) {
        assert_ok(kiln_stream_call(stream, count_up, &count));
    }
    assert_ok(kiln_event_record(end, stream));
    assert_ok(kiln_event_elapsed(begin, end, &took));
    assert_true(took > 6.5 && took < 7.5);
    assert_ok(kiln_event_query(end, &done));
    assert_true(done);
    assert_ok(kiln_event_synchronize(end));
    assert_ok(kiln_stream_wait_event(other, end));
    assert_int_equal(calls("cuStreamWaitEvent") > 0, 1);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_event_record(begin, other),
                 "the event is of device 0 and the stream of device 2");
    assert_ok(kiln_event_record(bare, other));
    assert_fails(KILN_ERROR_STATE, kiln_event_elapsed(begin, bare, &took),
                 "the second event was made without timing");
    kiln_event_destroy(NULL);
}

/* --- graphs --- */

static void capture(kiln_stream *stream, int *count, int times)
{
    assert_ok(kiln_stream_capture_begin(stream));
    for (int i = 0; i < times; i++) {
        assert_ok(kiln_stream_call(stream, count_up, count));
    }
}

static void check_graphs(bool update_works)
{
    owned_graph graph = NULL;
    int first = 0;
    int second = 0;
    bool in_place = !update_works;
    owned_stream stream = stream_on(0);
    capture(stream, &first, 3);
    assert_int_equal(first, 0);
    assert_ok(kiln_stream_capture_end(stream, &graph));
    assert_int_equal(kiln_graph_node_count(graph), 3);
    assert_ok(kiln_graph_launch(graph, stream));
    assert_ok(kiln_graph_launch(graph, stream));
    assert_int_equal(first, 6);
    capture(stream, &second, 3);
    assert_ok(kiln_stream_capture_update(stream, graph, &in_place));
    assert_int_equal(in_place, update_works);
    assert_ok(kiln_graph_launch(graph, stream));
    assert_int_equal(first, 6);
    assert_int_equal(second, 3);
    capture(stream, &second, 5);
    assert_ok(kiln_stream_capture_update(stream, graph, &in_place));
    assert_false(in_place);
    assert_int_equal(kiln_graph_node_count(graph), 5);
    assert_ok(kiln_graph_launch(graph, stream));
    assert_int_equal(second, 8);
    capture(stream, &second, 2);
    kiln_stream_capture_abandon(stream);
    kiln_stream_capture_abandon(stream);
    kiln_stream_capture_abandon(NULL);
    assert_ok(kiln_stream_call(stream, count_up, &second));
    assert_int_equal(second, 9);
    kiln_graph_destroy(NULL);
}

FAKE_TEST(graphs_are_captured_updated_and_launched)
{
    check_graphs(true);
    assert_true(calls("cuGraphInstantiateWithFlags") > 0);
    assert_true(calls("cuGraphExecUpdate_v2") > 0);
    set("FAKE_CUDA_UPDATE", "fail");
    check_graphs(false);
}

FAKE_TEST(older_drivers_capture_by_older_calls)
{
    set("FAKE_CUDA_VERSION", "11000");
    const unsigned long newer = calls("cuGraphInstantiateWithFlags");
    check_graphs(true);
    assert_int_equal(calls("cuGraphInstantiateWithFlags"), newer);
    assert_true(calls("cuGraphInstantiate_v2") > 0);
    assert_true(calls("cuGraphExecUpdate") > 0);
}

FAKE_TEST(a_capture_that_fails_leaves_the_stream_usable)
{
    owned_graph graph = NULL;
    int count = 0;
    owned_stream stream = stream_on(0);
    owned_stream other = stream_on(1);
    assert_fails(KILN_ERROR_STATE, kiln_stream_capture_end(stream, &graph), "captures nothing");
    set("FAKE_CUDA_CAPTURE", "fail");
    assert_ok(kiln_stream_capture_begin(stream));
    assert_fails(KILN_ERROR_DEVICE, kiln_stream_call(stream, count_up, &count),
                 "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)");
    assert_fails(KILN_ERROR_DEVICE, kiln_stream_capture_end(stream, &graph),
                 "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED (901)");
    assert_null(graph);
    set("FAKE_CUDA_CAPTURE", NULL);
    assert_ok(kiln_stream_call(stream, count_up, &count));
    assert_int_equal(count, 1);
    capture(stream, &count, 1);
    assert_ok(kiln_stream_capture_end(stream, &graph));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_stream_capture_update(other, graph, NULL));
}

/* --- allocation failures and threads --- */

static kiln_status make_one_of_each(void *user)
{
    owned_stream stream = NULL;
    owned_event event = NULL;
    owned_graph graph = NULL;
    owned_system_report report = NULL;
    int count = 0;
    TRY(kiln_stream_create(0, 0, &stream));
    TRY(kiln_event_create(0, true, &event));
    TRY(kiln_stream_capture_begin(stream));
    TRY(kiln_stream_call(stream, count_up, &count));
    TRY(kiln_stream_capture_end(stream, &graph));
    return kiln_system_report_create(&report);
}

FAKE_TEST(every_failed_allocation_is_survived)
{
    /* What backends keep for good is found before anything is counted. */
    kiln_system_report *report = NULL;
    assert_ok(kiln_system_report_create(&report));
    kiln_system_report_destroy(report);
    kiln_test_each_allocation(make_one_of_each, NULL);
}

/* Returns `user` where something failed. */
static void *open_and_work(void *user)
{
    kiln_stream *stream = NULL;
    int count = 0;
    if (kiln_stream_create(1, 0, &stream) != KILN_OK) {
        return user;
    }
    for (int i = 0; i < 50; i++) {
        if (kiln_stream_call(stream, count_up, &count) != KILN_OK) {
            return user;
        }
    }
    kiln_stream_destroy(stream);
    return count == 50 ? NULL : user;
}

FAKE_TEST(threads_open_the_driver_at_once)
{
    int failure = 0;
    for (int round = 0; round < 8; round++) {
        kiln_test_in_threads(8, open_and_work, &failure, 0);
        kln_cuda_close();
    }
}
