/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/kln_backends.h"
#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_library.h"
#include "graph_maker.h"
#include "trt_test.h"

static bool has_device(void)
{
    return kiln_device_count() > 0;
}

/* Builds a node model and saves it; the path of the plan. */
static const char *a_plan(const char *library, const char *name)
{
    static char path[4096];
    const kiln_build_options options = trt_test_options(library);
    SKIP_IF(trt_test_node("test_sigmoid") == NULL);
    owned_engine engine = built_file(trt_test_node("test_sigmoid"), &options);
    (void)snprintf(path, sizeof path, "%s", kiln_test_path(name));
    assert_ok(kiln_engine_save(engine, path));
    kiln_context *context = NULL;
    assert_fails(KILN_ERROR_NO_DEVICE, kiln_context_create(engine, NULL, &context),
                 "built ahead of time");
    assert_null(context);
    return path;
}

TEST(a_plan_needs_a_gpu_to_be_loaded)
{
    const char *library = trt_test_newest();
    const char *path = a_plan(library, "sigmoid.plan");
    SKIP_IF(has_device());
    kiln_build_options options = trt_test_options(library);
    options.compute_capability_count = 0;
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_NO_DEVICE, kiln_engine_load(path, &options, &engine),
                 "only where there is a GPU", "CUDA");
    assert_null(engine);
}

TEST(a_plan_of_another_version_is_refused_by_its_manifest)
{
    const char *older = trt_test_library("rtx", "1.4.0.76");
    const char *newest = trt_test_newest();
    SKIP_IF(older == NULL || older == newest);
    const char *path = a_plan(older, "old.plan");
    kiln_build_options options = trt_test_options(newest);
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(path, &options, &engine),
                 "it was built with tensorrt 1.4.0, and tensorrt 1.7.1 is installed here");
}

/* Without a manifest it is the plan that says so, before anything is said of a GPU. */
TEST(a_plan_of_another_version_is_refused_by_its_bytes)
{
    static const char *const older[] = {"1.5.0.114", "1.4.0.76"};
    const char *newest = trt_test_newest();
    bool any = false;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(older); i++) {
        const char *library = trt_test_library("rtx", older[i]);
        if (library == NULL || library == newest) {
            continue;
        }
        any = true;
        owned_mapping mapping;
        assert_ok(kln_mapping_open(a_plan(library, "older.plan"), &mapping));
        const kiln_build_options options = trt_test_options(newest);
        const kiln_model plan = {.bytes = mapping.bytes};
        void *engine = NULL;
        assert_fails(KILN_ERROR_MISMATCH,
                     kln_backend_tensorrt.engine.load(&plan, &options, NULL, &engine),
                     i == 0 ? "it was built with TensorRT-RTX 1.5.0, found is TensorRT-RTX 1.7.1"
                            : "it was built with TensorRT-RTX 1.4.0, found is TensorRT-RTX 1.7.1",
                     "TensorRT says: ");
        assert_null(engine);
    }
    SKIP_IF(!any);
}

TEST(garbage_is_no_plan)
{
    const char *library = trt_test_newest();
    const kiln_build_options options = trt_test_options(library);
    static const char *const words[] = {"none", "vtrt", "ftrt"};
    static unsigned char bytes[4096];
    static const size_t sizes[] = {1, 4, 31, 32, 100, 4096};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(sizes) * KLN_ARRAY_LENGTH(words); i++) {
        const size_t word = i / KLN_ARRAY_LENGTH(sizes);
        const size_t size = sizes[i % KLN_ARRAY_LENGTH(sizes)];
        memcpy(bytes, words[word], 4);
        const kiln_model plan = {.bytes = {bytes, size}};
        void *engine = NULL;
        const kiln_status expected = word == 0 || size < 32 ? KILN_ERROR_MALFORMED
                                     : word == 2            ? KILN_ERROR_MISMATCH
                                     : has_device()         ? KILN_ERROR_MALFORMED
                                                            : KILN_ERROR_NO_DEVICE;
        assert_fails(expected, kln_backend_tensorrt.engine.load(&plan, &options, NULL, &engine),
                     word == 0 || size < 4 ? "neither a plan of TensorRT"
                     : size < 32           ? "are no plan of TensorRT"
                     : word == 2           ? "it was built with TensorRT, found is TensorRT-RTX 1."
                                           : "TensorRT says: ");
        assert_null(engine);
    }
}

TEST(a_model_that_cannot_be_read_is_explained)
{
    const kiln_build_options options = trt_test_options(trt_test_newest());
    static const char text[] = "this is not a model, however long one looks at it";
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_MALFORMED,
                 kiln_engine_build_bytes((kiln_span){text, sizeof text}, &options, &engine),
                 "a model in memory: ");
    assert_status(KILN_ERROR_NOT_FOUND, kiln_engine_build_file("/no/such.onnx", &options, &engine));
}

TEST(what_the_parser_lacks_is_named)
{
    const char *library = trt_test_newest();
    const char *model = trt_test_node("test_det_2d");
    SKIP_IF(model == NULL);
    const kiln_build_options options = trt_test_options(library);
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(model, &options, &engine),
                 "(Det): ", "test_det_2d/model.onnx: node 0");
    assert_null(engine);
}

TEST(the_lean_runtime_says_what_it_is)
{
    bool any = false;
    for (size_t v = 0; trt_test_lean[v] != NULL; v++) {
        const char *library = trt_test_library("lean", trt_test_lean[v]);
        if (library == NULL) {
            continue;
        }
        any = true;
        trt_library *found = NULL;
        assert_ok(trt_library_open(library, &found));
        assert_non_null(strstr(found->name, v == 0 ? "TensorRT 11.4.0" : "TensorRT 10.16.1"));
        assert_fails(KILN_ERROR_UNSUPPORTED, trt_library_need_builder(found), "lean runtime");
        kiln_backend_info info = {.struct_size = sizeof info};
        const kiln_status status = kln_backend_tensorrt.probe(library, &info);
        assert_int_equal(status, has_device() ? KILN_OK : KILN_ERROR_NO_DEVICE);
        assert_non_null(info.reason);
        assert_int_equal(info.score, has_device() ? 1 : 0);
        /* Without a GPU it gives the address 0x228 instead of NULL. */
        static const unsigned char bytes[64] = "ftrt";
        const kiln_model plan = {.bytes = {bytes, sizeof bytes}};
        kiln_build_options options = KILN_BUILD_OPTIONS(.library = library);
        void *engine = NULL;
        const kiln_status loaded = kln_backend_tensorrt.engine.load(&plan, &options, NULL, &engine);
        assert_int_equal(loaded, has_device() ? KILN_ERROR_MALFORMED : KILN_ERROR_NO_DEVICE);
        assert_null(engine);
    }
    SKIP_IF(!any);
}

TEST(the_probe_says_what_can_be_done_here)
{
    const char *library = trt_test_newest();
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kln_backend_tensorrt.probe(library, &info));
    assert_true((info.capabilities & KILN_CAPABILITY_BUILD) != 0);
    assert_true((info.capabilities & KILN_CAPABILITY_NATIVE_PLAN) != 0);
    assert_int_equal(info.available, has_device());
    assert_int_equal(info.score, has_device() ? 100 : 1);
    assert_non_null(strstr(info.reason, has_device() ? "runs on" : "cannot run them"));
    assert_non_null(strstr(info.library, "libtensorrt_rtx.so.1"));
}
