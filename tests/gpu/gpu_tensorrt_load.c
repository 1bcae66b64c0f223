/* SPDX-License-Identifier: Apache-2.0 */
/* Loading and running plans of a real TensorRT: other versions, other devices, addresses. */
#include "fake_tensorrt_test.h"

static unsigned char bytes[1 << 20];

/* Path of a plan of relu_network; the test's scratch folder keeps it. */
static void save_relu(const char *name, kiln_build_options *options, char path[4096])
{
    const kiln_profile_input input = rows(1, 2, 8);
    ONE_PROFILE(*options, &input, 1);
    owned_engine engine = build_network(relu_network(), options);
    options->profiles = NULL;
    options->profile_count = 0;
    (void)snprintf(path, 4096, "%s", kiln_test_path(name));
    assert_ok(kiln_engine_save(engine, path));
}

static void run_relu(kiln_engine *engine)
{
    float x[8] = {-1, 2, -3, 4, 5, -6, 7, -8};
    owned_context context = context_on(engine);
    const kiln_tensor y = run_floats(context, KILN_SHAPE(2, 4), x);
    for (int i = 0; i < 8; i++) {
        assert_true(((const float *)y.data)[i] == (x[i] > 0 ? x[i] : 0));
    }
    kiln_engine_release(engine);
}

/* A plan of which only the bytes can tell: its version, and the tag of its serialization. */
TENSORRT_TEST(another_version_is_known_by_its_bytes)
{
    char path[4096];
    kiln_build_options options = fake_options(0);
    kiln_engine *engine = NULL;
    save_relu("bytes.plan", &options, path);
    const size_t size = kiln_test_read(path, bytes, sizeof bytes);
    bytes[84] ^= 0x10; /* the tag: the library takes it for another version's */
    char other[4096];
    (void)snprintf(other, sizeof other, "%s", kiln_test_file("tag.plan", bytes, size));
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(other, &options, &engine),
                 "build it again from the model", "Version tag does not match");
    bytes[25] = 3;
    bytes[26] = 7;
    (void)snprintf(other, sizeof other, "%s", kiln_test_file("version.plan", bytes, size));
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(other, &options, &engine),
                 "it was built with TensorRT 10.3.7, found is ");
    bytes[84] ^= 0x10;
    bytes[28] ^= 0x10; /* of another platform */
    (void)snprintf(other, sizeof other, "%s", kiln_test_file("platform.plan", bytes, size));
    assert_status(KILN_ERROR_MISMATCH, kiln_engine_load(other, &options, &engine));
}

/* The manifest with its version changed. */
static void pretend_older(const char *path)
{
    char manifest[4200];
    (void)snprintf(manifest, sizeof manifest, "%s.json", path);
    (void)kiln_test_read(manifest, bytes, sizeof bytes);
    char *at = strstr((char *)bytes, "\"backend_version\"");
    assert_non_null(at);
    at = strstr(at, fake_layouts[0].version);
    assert_non_null(at);
    at[strlen(fake_layouts[0].version) - 1] = '9';
    kiln_test_write(manifest, bytes, strlen((const char *)bytes));
}

TENSORRT_TEST(a_version_compatible_plan_is_judged_by_the_library)
{
    char path[4096];
    kiln_build_options options = fake_options(0);
    kiln_engine *engine = NULL;
    save_relu("own.plan", &options, path);
    pretend_older(path);
    assert_status(KILN_ERROR_MISMATCH, kiln_engine_load(path, &options, &engine));
    options.version_compatible = true;
    options.exclude_lean_runtime = true;
    save_relu("compatible.plan", &options, path);
    options = fake_options(0);
    pretend_older(path);
    assert_ok(kiln_engine_load(path, &options, &engine));
    run_relu(engine);
}

/* One more than there are. */
TENSORRT_TEST(a_device_that_is_not_there_is_no_device)
{
    char path[4096];
    kiln_build_options options = fake_options(0);
    kiln_engine *engine = NULL;
    save_relu("device.plan", &options, path);
    options.device = (int32_t)kiln_device_count();
    for (int i = 0; i < 2; i++) {
        kiln_network *network = conv_network();
        assert_status(KILN_ERROR_NO_DEVICE, kiln_engine_build(network, &options, &engine));
        assert_fails(KILN_ERROR_NO_DEVICE, kiln_engine_load(path, &options, &engine),
                     "counted from 0");
        kiln_network_destroy(network);
        options.gpu_allocator = KILN_GPU_ALLOCATOR_LIBRARY;
    }
}

/* On each GPU there is, from a thread whose current one is the first. */
TENSORRT_TEST(an_engine_is_on_its_device)
{
    for (int32_t device = 0; device < (int32_t)kiln_device_count(); device++) {
        char path[4096];
        kiln_build_options options = fake_options(0);
        options.device = device;
        save_relu("placed.plan", &options, path);
        kiln_engine *engine = loaded_file(path, &options);
        assert_int_equal(kiln_engine_device(engine), device);
        run_relu(engine);
    }
}

/* At each address that is right for a float; the header asks for 256. */
TENSORRT_TEST(device_memory_may_lie_anywhere)
{
    owned_engine engine = build_relu(0);
    const kiln_shape shape = KILN_SHAPE(2, 4);
    owned_context context = context_on(engine);
    owned_buffer buffer = new_buffer(KILN_LOCATION_DEVICE, 0, 8192);
    for (size_t offset = 0; offset <= 512; offset = offset == 0 ? 4 : offset * 2) {
        float values[8] = {-1, 2, -3, 4, 5, -6, 7, (float)offset};
        float found[8];
        kiln_tensor x = buffer_tensor(buffer, offset, KILN_DTYPE_FLOAT32, &shape);
        kiln_tensor y = buffer_tensor(buffer, 4096 + offset, KILN_DTYPE_FLOAT32, &shape);
        assert_ok(kiln_context_bind(context, "x", &x));
        assert_ok(kiln_context_bind(context, "y", &y));
        assert_ok(kiln_buffer_write(buffer, offset, (kiln_span){values, sizeof values}, NULL));
        for (int run = 0; run < 3; run++) {
            assert_ok(kiln_context_run(context));
        }
        const kiln_mutable_span to = {found, sizeof found};
        assert_ok(kiln_buffer_read(buffer, 4096 + offset, to, NULL));
        for (int i = 0; i < 8; i++) {
            assert_true(found[i] == (values[i] > 0 ? values[i] : 0));
        }
    }
}
