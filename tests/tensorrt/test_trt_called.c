/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callbacks that the real libraries make without running anything: logger, error recorder, progress
 * monitor, stream writer, and a parser's errors.
 */
#include "backends/kln_backends.h"
#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_library.h"
#include "backends/tensorrt/trt_progress.h"
#include "cuda/kln_cuda.h"
#include "trt_test.h"

/* A builder with a network read from a node model. */
typedef struct bench {
    trt_library *library;
    const trt_abi *abi;
    trt_error_recorder recorder;
    trt_Builder *builder;
    trt_BuilderConfig *config;
    trt_NetworkDefinition *network;
    trt_Parser *parser;
} bench;

static void set_up(bench *b, const char *path)
{
    assert_ok(trt_library_open(path, &b->library));
    assert_ok(trt_library_need_parser(b->library));
    trt_library *library = b->library;
    b->abi = &library->abi;
    trt_error_recorder_init(&b->recorder, &library->tables);
    b->builder = library->core.createInferBuilder_INTERNAL(&library->logger, b->abi->version);
    assert_false(trt_is_null(b->builder));
    trt_Builder_setErrorRecorder(b->abi, b->builder, &b->recorder.object);
    b->config = trt_Builder_createBuilderConfig(b->abi, b->builder);
    if (!TRT_TEST_ON_GPU) {
        assert_true(trt_BuilderConfig_setNbComputeCapabilities(b->abi, b->config, 1));
        assert_true(trt_BuilderConfig_setComputeCapability(
            b->abi, b->config, trt_value(b->abi, TRT_V_ComputeCapability_SM89), 0));
    }
    const int32_t strong = trt_value(b->abi, TRT_V_NetworkDefinitionCreationFlag_STRONGLY_TYPED);
    b->network = trt_Builder_createNetworkV2(b->abi, b->builder, 1U << (unsigned)strong);
    b->parser =
        library->parser.createNvOnnxParser_INTERNAL(b->network, &library->logger, b->abi->version);
    assert_false(trt_is_null(b->parser));
}

static void tear_down(bench *b)
{
    trt_Parser_D0(b->abi, b->parser);
    trt_NetworkDefinition_destroy(b->network);
    trt_BuilderConfig_destroy(b->config);
    trt_Builder_destroy(b->builder);
    assert_int_equal(b->recorder.references, 0);
    trt_error_recorder_finish(&b->recorder);
}

static const char *node(const char *name)
{
    const char *path = trt_test_node(name);
    if (path == NULL) {
        trt_test_absent(name);
    }
    return path;
}

/* Calls `body` for each version of RTX that is installed. */
static void each_version(void (*body)(const char *library))
{
    int count = 0;
    for (size_t v = 0; trt_test_rtx[v] != NULL; v++) {
        const char *library = trt_test_library("rtx", trt_test_rtx[v]);
        if (library != NULL) {
            body(library);
            count++;
        }
    }
    SKIP_IF(count == 0);
}

/* --- logger --- */

static int logged;

static void count_lines(void *user, kiln_log_level level, const char *component, const char *text)
{
    logged += strcmp(component, "tensorrt") == 0 && text[0] != '\0' ? 1 : 0;
}

static void build_logs(const char *library)
{
    bench b;
    logged = 0;
    kiln_log_set_sink(count_lines, NULL, KILN_LOG_DEBUG);
    set_up(&b, library);
    assert_true(trt_Parser_parseFromFile(b.abi, b.parser, node("test_sigmoid"), 4));
    kiln_log_set_sink(NULL, NULL, KILN_LOG_WARNING);
    tear_down(&b);
    assert_true(logged > 3);
}

TEST(the_logger_is_called)
{
    each_version(build_logs);
}

/* --- error recorder --- */

static void report_errors(const char *library)
{
    bench b;
    set_up(&b, library);
    assert_true(b.recorder.references >= 1);
    /* No outputs, and level 99: both are errors. */
    trt_BuilderConfig_setBuilderOptimizationLevel(b.abi, b.config, 99);
    trt_HostMemory *plan =
        trt_Builder_buildSerializedNetwork(b.abi, b.builder, b.network, b.config);
    assert_true(trt_is_null(plan));
    assert_true(b.recorder.count >= 1);
    assert_true(b.recorder.codes[0] > 0 && b.recorder.codes[0] < 16);
    assert_true(strlen(b.recorder.texts[0]) > 10);
    assert_fails(KILN_ERROR_BACKEND, trt_fail(KILN_ERROR_BACKEND, &b.recorder, "it"),
                 b.recorder.texts[0]);
    tear_down(&b);
}

TEST(the_error_recorder_is_called)
{
    each_version(report_errors);
}

/* --- progress monitor --- */

static int steps;

static bool count_steps(void *user, const kiln_phase *now)
{
    assert_non_null(now->phase);
    assert_true(now->depth >= 0 && now->step >= 0 && (now->steps <= 0 || now->step <= now->steps));
    return ++steps < 100000;
}

static void report_progress(const char *library)
{
    bench b;
    set_up(&b, library);
    steps = 0;
    const kiln_monitor monitor = {NULL, count_steps};
    trt_progress_monitor progress;
    trt_progress_monitor_init(&progress, &b.library->tables, &monitor);
    trt_BuilderConfig_setProgressMonitor(b.abi, b.config, &progress.object);
    assert_true(trt_Parser_parseFromFile(b.abi, b.parser, node("test_sigmoid"), 2));
    trt_HostMemory *plan =
        trt_Builder_buildSerializedNetwork(b.abi, b.builder, b.network, b.config);
    assert_false(trt_is_null(plan));
    assert_true(steps > 3);
    assert_int_equal(progress.count, 0); /* each phase that began is over */
    trt_HostMemory_destroy(plan);
    tear_down(&b);
    trt_progress_monitor_finish(&progress);
}

TEST(the_progress_monitor_is_called)
{
    each_version(report_progress);
}

/* --- the parser's errors --- */

static void refuse_model(const char *library)
{
    bench b;
    set_up(&b, library);
    assert_false(trt_Parser_parseFromFile(b.abi, b.parser, node("test_det_2d"), 2));
    assert_true(trt_Parser_getNbErrors(b.abi, b.parser) >= 1);
    /* What calls it is const; the object is the parser's. */
    union {
        const trt_ParserError *given;
        trt_ParserError *called;
    } error = {.given = trt_Parser_getError(b.abi, b.parser, 0)};
    assert_false(trt_is_null(error.given));
    assert_true(trt_ParserError_code(b.abi, error.called) > 0);
    assert_true(trt_ParserError_desc(b.abi, error.called)[0] != '\0');
    assert_string_equal(trt_ParserError_nodeOperator(b.abi, error.called), "Det");
    assert_int_equal(trt_ParserError_node(b.abi, error.called), 0);
    assert_true(trt_ParserError_line(b.abi, error.called) > 0);
    assert_non_null(strstr(trt_ParserError_file(b.abi, error.called), ".cpp"));
    trt_Parser_clearErrors(b.abi, b.parser);
    assert_int_equal(trt_Parser_getNbErrors(b.abi, b.parser), 0);
    tear_down(&b);
}

TEST(the_parser_names_what_it_refuses)
{
    each_version(refuse_model);
}

/* --- versions that nobody knows --- */

#define UNKNOWN "tensorrt/unknown/"

TEST(a_library_of_an_unknown_version_is_refused)
{
    trt_test_not_on_gpu();
    static const struct {
        const char *file;
        const char *name;
    } unknown[] = {{UNKNOWN "libnvinfer.so.9", "TensorRT 9.3.0"},
                   {UNKNOWN "libnvinfer.so.12", "TensorRT 12.0.0"},
                   {UNKNOWN "libtensorrt_rtx.so.2", "TensorRT-RTX 1.8.0"}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(unknown); i++) {
        const kiln_build_options options = trt_test_options(kiln_test_built(unknown[i].file));
        kiln_engine *engine = NULL;
        assert_fails(KILN_ERROR_LIBRARY_VERSION,
                     kiln_engine_build_file(node("test_sigmoid"), &options, &engine),
                     unknown[i].name,
                     "TensorRT 10.0 to 10.16, TensorRT 11.0 to 11.4 and TensorRT-RTX 1.3 to 1.7");
        assert_null(engine);
    }
}

/* On a played GPU: it is there for plans, but no model goes to it unasked. */
TEST(a_lean_runtime_gets_no_model_unasked)
{
    trt_test_not_on_gpu();
    assert_int_equal(setenv("KILN_CUDA_DRIVER", kiln_test_built("fake/cuda/libcuda.so.1"), 1), 0);
    kln_cuda_close();
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kln_backend_tensorrt.probe(kiln_test_built(UNKNOWN "libnvinfer_lean.so.11"), &info));
    assert_int_equal(unsetenv("KILN_CUDA_DRIVER"), 0);
    kln_cuda_close();
    assert_int_equal(info.score, 1);
    assert_false(info.available);
    assert_true((info.capabilities & KILN_CAPABILITY_RUN) != 0);
    assert_true((info.capabilities & KILN_CAPABILITY_BUILD) == 0);
    assert_non_null(strstr(info.reason, "runs version-compatible plans on a GPU"));
}

TESTS_BEGIN(trt_test_begin)
