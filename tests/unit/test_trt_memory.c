/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU's memory that Kiln gives the stand-in for TensorRT, counted, limited and from a pool. */
#include "fake_tensorrt_test.h"

static kiln_gpu_memory memory_of(kiln_engine *engine)
{
    kiln_gpu_memory memory = {.struct_size = sizeof memory};
    assert_ok(kiln_engine_gpu_memory(engine, &memory));
    return memory;
}

static void run_once(kiln_context *context)
{
    float x[16];
    for (int i = 0; i < 16; i++) {
        x[i] = 1;
    }
    const kiln_tensor y = run_floats(context, KILN_SHAPE(1, 1, 4, 4), x);
    assert_true(((const float *)y.data)[0] == 19);
}

LAYOUTS_TEST(what_the_library_holds_is_counted)
{
    kiln_build_options options = fake_options(i);
    options.gpu_allocator = KILN_GPU_ALLOCATOR_KILN;
    owned_engine engine = build_network(conv_network(), &options);
    kiln_gpu_memory memory = memory_of(engine);
    const uint64_t weights = memory.bytes_in_use;
    assert_true(weights > 0 && memory.bytes_peak > weights); /* the peak is the build's */
    assert_true(memory.allocations > memory.releases && memory.releases > 0);
    if (ON_STAND_IN) {
        assert_int_equal(weights, 592);
        assert_int_equal(memory.bytes_peak, 6144);
        assert_int_equal(memory.allocations, 7); /* two tactics are tried */
        assert_int_equal(memory.releases, 6);
    }
    assert_int_equal(memory.refused + memory.failed + memory.bytes_limit, 0);
    assert_false(memory.from_pool);
    kiln_context *context = context_on(engine);
    assert_true(memory_of(engine).bytes_in_use >= weights + (ON_STAND_IN ? 1024 : 0));
    run_once(context);
    kiln_context_destroy(context);
    assert_int_equal(memory_of(engine).bytes_in_use, weights);
    memory.struct_size = 4;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_gpu_memory(engine, &memory));
}

/* Unless it is asked for, or limited. */
STAND_IN_LAYOUTS_TEST(a_build_has_the_librarys_memory, "its driver counts no calls")
{
    kiln_build_options options = fake_options(i);
    for (int asked = 0; asked < 3; asked++) {
        options.gpu_memory_bytes = asked == 1 ? 1 << 20 : 0;
        options.gpu_allocator = asked == 2 ? KILN_GPU_ALLOCATOR_KILN : KILN_GPU_ALLOCATOR_DEFAULT;
        options.disable_timing_cache = true;
        const unsigned long before = calls("cuMemAlloc_v2");
        owned_engine engine = build_network(conv_network(), &options);
        assert_int_equal(calls("cuMemAlloc_v2") - before, asked > 0 ? 7 : 1);
        const kiln_gpu_memory memory = memory_of(engine);
        assert_int_equal(memory.bytes_peak, asked > 0 ? 6144 : 592);
        assert_int_equal(memory.allocations, asked > 0 ? 7 : 1);
    }
}

/* Of memory of its own, the library does not say that there was none: the GPU says that it is full.
 */
STAND_IN_TEST(a_full_gpu_is_told_where_the_library_allocates, "gpu_tensorrt_harm fills it")
{
    owned_network network = conv_network();
    for (int full = 0; full < 2; full++) {
        const kiln_build_options options = fake_options(LAYOUT_10);
        kiln_status told[2] = {KILN_OK, KILN_OK};
        for (long call = 1; trt_number(LAYOUT_10, "fault") <= 0 && call < 100; call++) {
            kiln_engine *engine = NULL;
            trt_fail_at(LAYOUT_10, call, 0);
            set("FAKE_CUDA_MEMORY", full == 1 ? "1" : NULL);
            const kiln_status status = kiln_engine_build(network, &options, &engine);
            set("FAKE_CUDA_MEMORY", NULL);
            kiln_engine_release(engine);
            if (trt_number(LAYOUT_10, "fault") <= 0 && status == KILN_ERROR_BACKEND) {
                told[0] = status;
            }
            if (status == KILN_ERROR_OUT_OF_MEMORY &&
                strstr(kiln_error_message(), "has only 0 MiB of memory left") != NULL) {
                told[1] = status;
            }
        }
        trt_fail_at(LAYOUT_10, 0, 0);
        assert_int_equal(told[0], full == 1 ? KILN_OK : KILN_ERROR_BACKEND);
        assert_int_equal(told[1], full == 1 ? KILN_ERROR_OUT_OF_MEMORY : KILN_OK);
    }
}

TENSORRT_TEST(a_pool_serves_build_and_run)
{
    kiln_pool_options how = KILN_POOL_OPTIONS(.location = KILN_LOCATION_DEVICE);
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        owned_pool pool = new_pool(&how);
        kiln_build_options options = fake_options(i);
        options.gpu_allocator = KILN_GPU_ALLOCATOR_KILN;
        options.gpu_pool = pool;
        kiln_pool_counters counters = {.struct_size = sizeof counters};
        uint64_t slabs = 0;
        for (int round = 0; round < 3; round++) {
            kiln_engine *engine = build_network(conv_network(), &options);
            assert_true(memory_of(engine).from_pool);
            kiln_context *context = context_on(engine);
            assert_ok(kiln_pool_get_counters(pool, &counters));
            assert_true(ON_STAND_IN ? counters.bytes_in_use == 768 + 1024
                                    : counters.bytes_in_use > 0);
            run_once(context);
            run_once(context);
            kiln_context_destroy(context);
            kiln_engine_release(engine);
            assert_ok(kiln_pool_get_counters(pool, &counters));
            assert_int_equal(counters.bytes_in_use, 0);
            assert_int_equal(counters.allocations, counters.releases);
            /* A real library tries other kernels each time. */
            assert_true(ON_STAND_IN && round > 0 ? counters.slabs_made == slabs
                                                 : counters.slabs_made >= slabs);
            slabs = counters.slabs_made;
        }
    }
}

/* From the driver and from a pool, whose pieces lie at multiples of 256. */
STAND_IN_TEST(memory_lies_where_it_is_asked_to, "what it asks for is its own affair")
{
    static const char *const alignments[] = {"1", "256", "512", "4096", "65536", "2097152"};
    kiln_pool_options how = KILN_POOL_OPTIONS(.location = KILN_LOCATION_DEVICE);
    for (size_t i = 0; i < FAKE_LAYOUTS * KLN_ARRAY_LENGTH(alignments) * 2; i++) {
        assert_int_equal(
            setenv("KILN_FAKE_TENSORRT_ALIGNMENT", alignments[i / 2 / FAKE_LAYOUTS], 1), 0);
        kiln_build_options options = fake_options(i / 2 % FAKE_LAYOUTS);
        if (i % 2 != 0) {
            assert_ok(kiln_pool_create(&how, &options.gpu_pool));
        }
        kiln_engine *engine = build_network(conv_network(), &options);
        kiln_context *context = context_on(engine);
        run_once(context);
        kiln_context_destroy(context);
        kiln_engine_release(engine);
        kiln_pool_counters counters = {.struct_size = sizeof counters};
        if (i % 2 != 0) {
            assert_ok(kiln_pool_get_counters(options.gpu_pool, &counters));
            assert_int_equal(counters.bytes_in_use, 0);
            kiln_pool_destroy(options.gpu_pool);
        }
    }
    assert_int_equal(unsetenv("KILN_FAKE_TENSORRT_ALIGNMENT"), 0);
}

/* What a build and a load need at least differs by the version; what they were seen to hold is
 * the limit here. */
LAYOUTS_TEST(what_was_held_is_enough_and_less_is_not)
{
    kiln_build_options options = fake_options(i);
    owned_network network = conv_network();
    kiln_engine *engine = NULL;
    options.gpu_memory_bytes = 1;
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_build(network, &options, &engine),
                 "gpu_memory_bytes allows 1 byte, and the library wanted more");
    options.gpu_memory_bytes = (uint64_t)4 << 30;
    assert_ok(kiln_engine_build(network, &options, &engine));
    const char *path = kiln_test_path("held.plan");
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    assert_ok(kiln_engine_load(path, &options, &engine));
    const uint64_t held = memory_of(engine).bytes_peak;
    kiln_engine_release(engine);
    assert_true(held > 0);
    options.gpu_memory_bytes = held;
    assert_ok(kiln_engine_load(path, &options, &engine));
    kiln_engine_release(engine);
    options.gpu_memory_bytes = held - 1;
    assert_status(KILN_ERROR_LIMIT, kiln_engine_load(path, &options, &engine));
}

STAND_IN_LAYOUTS_TEST(a_limit_is_kept_and_named, "the bytes are the stand-in's")
{
    kiln_build_options options = fake_options(i);
    owned_network network = conv_network();
    owned_engine engine = NULL;
    options.gpu_memory_bytes = 6143; /* one less than the build wants */
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_build(network, &options, &engine),
                 "gpu_memory_bytes allows 6143 bytes, and the library wanted more",
                 "no memory to try kernels in");
    options.gpu_memory_bytes = 6144;
    assert_ok(kiln_engine_build(network, &options, &engine));
    const char *path = kiln_test_path("small.plan");
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    options.gpu_memory_bytes = 591;
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_load(path, &options, &engine),
                 "gpu_memory_bytes allows 591 bytes");
    options.gpu_memory_bytes = 592 + 1023;
    assert_ok(kiln_engine_load(path, &options, &engine));
    owned_context context = NULL;
    assert_fails(KILN_ERROR_LIMIT, kiln_context_create(engine, NULL, &context),
                 "no memory for activations");
    assert_int_equal(memory_of(engine).refused, 1);
    assert_int_equal(memory_of(engine).bytes_limit, 592 + 1023);
    kiln_engine_release(engine);
    options.gpu_memory_bytes = 592 + 1024;
    assert_ok(kiln_engine_load(path, &options, &engine));
    assert_ok(kiln_context_create(engine, NULL, &context));
    run_once(context);
}

/* What loads kernels says nothing of memory where it finds none. */
STAND_IN_LAYOUTS_TEST(a_failure_on_a_full_gpu_is_one_of_memory, "gpu_tensorrt_harm fills it")
{
    kiln_build_options options = fake_options(i);
    owned_network network = conv_network();
    kiln_engine *engine = NULL;
    options.gpu_allocator = KILN_GPU_ALLOCATOR_LIBRARY;
    options.error_on_timing_cache_miss = true;
    options.timing_cache = kiln_test_path("none.cache");
    assert_status(KILN_ERROR_BACKEND, kiln_engine_build(network, &options, &engine));
    set("FAKE_CUDA_MEMORY", "1000");
    assert_status(KILN_ERROR_OUT_OF_MEMORY, kiln_engine_build(network, &options, &engine));
    set("FAKE_CUDA_MEMORY", NULL);
    assert_message("of memory left");
    assert_message("kERROR_ON_TIMING_CACHE_MISS");
}

TENSORRT_TEST(a_pool_that_is_full_gives_none)
{
    kiln_pool_options how = KILN_POOL_OPTIONS(.location = KILN_LOCATION_DEVICE, .max_bytes = 4096,
                                              .first_bytes = 256, .growth = 1);
    owned_pool pool = new_pool(&how);
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        kiln_build_options options = fake_options(i);
        options.gpu_pool = pool;
        kiln_network *network = conv_network();
        kiln_engine *engine = NULL;
        assert_status(KILN_ERROR_OUT_OF_MEMORY, kiln_engine_build(network, &options, &engine));
        assert_true(!ON_STAND_IN ||
                    strstr(kiln_error_message(), "no memory to try kernels in") != NULL);
        kiln_network_destroy(network);
        assert_ok(kiln_pool_trim(pool, 0));
    }
}

LAYOUTS_TEST(the_library_may_look_after_itself)
{
    kiln_build_options options = fake_options(i);
    options.gpu_allocator = KILN_GPU_ALLOCATOR_LIBRARY;
    owned_engine engine = build_network(conv_network(), &options);
    kiln_gpu_memory memory = {.struct_size = sizeof memory};
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_gpu_memory(engine, &memory),
                 "the library allocates for itself, as gpu_allocator asked");
    owned_context context = context_on(engine);
    run_once(context);
}

TENSORRT_TEST(what_makes_no_sense_is_refused)
{
    owned_pool pool = new_pool(NULL);
    kiln_build_options options = fake_options(LAYOUT_11);
    owned_network network = conv_network();
    owned_engine engine = NULL;
    options.gpu_pool = pool;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "gpu_pool: a pool of device memory of GPU 0 is needed, this one has host");
    options.gpu_allocator = KILN_GPU_ALLOCATOR_LIBRARY;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "gpu_allocator: with the library's own there is no gpu_pool");
    options.gpu_pool = NULL;
    options.gpu_memory_bytes = 1;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "there is no gpu_memory_bytes");
    options = fake_options(LAYOUT_11);
    options.gpu_allocator = (kiln_gpu_allocator)3;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "gpu_allocator is 3; it must be default (0), kiln (1) or library (2)");
    options = KILN_BUILD_OPTIONS(.backend = "reference", .gpu_pool = pool);
    assert_fails(
        KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
        "\"gpu_pool\" is set, which the backend reference does not take; it is for TensorRT");
    options.gpu_pool = NULL;
    assert_ok(kiln_engine_build(network, &options, &engine));
    kiln_gpu_memory memory = {.struct_size = sizeof memory};
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_gpu_memory(engine, &memory));
}

TENSORRT_TEST(what_is_neither_plan_nor_model_is_told)
{
    static unsigned char garbage[4096];
    for (size_t i = 0; i < sizeof garbage; i++) {
        garbage[i] = (unsigned char)(i * 167 + 13);
    }
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        const kiln_build_options options = fake_options(i);
        owned_engine engine = NULL;
        const char *path = kiln_test_file("garbage.plan", garbage, sizeof garbage);
        assert_fails(KILN_ERROR_MALFORMED, kiln_engine_load(path, &options, &engine),
                     "garbage.plan is neither a plan of TensorRT, which begins with \"ftrt\" or "
                     "\"vtrt\", nor an ONNX model: ");
        kiln_network *network = conv_network();
        assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
        kiln_network_destroy(network);
        assert_ok(kiln_engine_load(path, &options, &engine));
    }
}
