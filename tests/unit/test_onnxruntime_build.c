/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>

#include "backends/kln_backends.h"
#include "backends/onnxruntime/ort_runtime.h"
#include "onnx/kln_onnx.h"
#include "ort_test.h"
#include "precision/kln_precision.h"

/* --- building --- */

TEST(every_option_builds_the_same_network)
{
    for (int optimization = KILN_OPTIMIZATION_DEFAULT; optimization <= KILN_OPTIMIZATION_ALL;
         optimization++) {
        for (int threads = 0; threads < 3; threads++) {
            kiln_build_options other = options;
            other.optimization = (kiln_optimization)optimization;
            other.threads = threads;
            other.parallel_nodes = threads;
            other.spinning = (kiln_switch)threads;
            kiln_engine *engine = built_bytes(unary_model("Neg", "n"), &other);
            owned_context context = context_on(engine);
            kiln_engine_release(engine);
            float x[] = {1, 2};
            bind(context, "x", floats(x, 2));
            assert_ok(kiln_context_run(context));
            expect(context, "y", (const float[]){-1, -2}, 2);
        }
    }
}

/* y = x + w; `w` says whence its two floats come. */
#define SUM_MODEL(w) made_model(17, "in x float32[2]; " w "; y=Add(x,w); out y float32[2]")

TEST(external_weights_lie_beside_the_file)
{
    static const float weights[] = {10, 20};
    const kiln_span model = SUM_MODEL("file w float32[2] weights.bin");
    owned_engine engine = NULL;
    (void)unlink(kiln_test_path("weights.bin"));
    const char *path = kiln_test_file("external.onnx", model.data, model.size);
    assert_int_not_equal(kiln_engine_build_file(path, &options, &engine), KILN_OK);
    assert_message("weights.bin");
    assert_null(engine);
    (void)kiln_test_file("weights.bin", weights, sizeof weights);
    assert_ok(kiln_engine_build_file(kiln_test_path("external.onnx"), &options, &engine));
    kiln_context *context = context_on(engine);
    kiln_engine_release(engine);
    float x[] = {1, 2};
    bind(context, "x", floats(x, 2));
    assert_ok(kiln_context_run(context));
    expect(context, "y", (const float[]){11, 22}, 2);
    kiln_context_destroy(context);

    /* Its message alone would be no model. */
    assert_ok(kiln_engine_build_file(kiln_test_path("external.onnx"), &options, &engine));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_save(engine, kiln_test_path("saved.onnx")),
                 "the weight \"w\" lies in the file \"weights.bin\"");
    assert_false(kln_file_exists(kiln_test_path("saved.onnx")));
}

TEST(a_network_in_memory_is_built)
{
    kln_onnx_model *network = NULL;
    assert_ok(kln_onnx_read_bytes(SUM_MODEL("w={10.0,20.0}"), NULL, &network));
    const kiln_model source = {.graph = network};
    const kiln_backend *backend = &kln_backend_onnxruntime;
    void *engine = NULL;
    void *context = NULL;
    kiln_span bytes = {NULL, 0};
    assert_ok(backend->engine.build(&source, &options, NULL, &engine));
    kln_onnx_model_destroy(network);
    assert_ok(backend->engine.serialize(engine, &bytes));
    assert_true(bytes.size > sizeof(float[2]));
    float x[] = {1, 2};
    float y[] = {0, 0};
    const kiln_tensor input = floats(x, 2);
    const kiln_tensor output = floats(y, 2);
    assert_ok(backend->context.create(engine, NULL, &context));
    assert_ok(backend->context.bind(context, 0, &input));
    assert_ok(backend->context.bind(context, 1, &output));
    assert_ok(backend->context.run(context));
    assert_memory_equal(y, ((const float[]){11, 22}), sizeof y);
    backend->context.destroy(context);
    backend->engine.destroy(engine);
}

/* Its optimizer takes an expansion of 1 to 0 for one that changes nothing, next to other 1s. */
TEST(what_is_expanded_to_nothing_is_nothing)
{
    static const char *const backends[] = {"reference", "onnxruntime"};
    owned_network network =
        made_network(NULL,
                     "in x float32[1,2]; axis={1}; none={0,1,2}; wide=Unsqueeze(x,axis); "
                     "empty=Expand(wide,none); y=Neg(empty); out y");
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(backends); i++) {
        const kiln_build_options chosen = KILN_BUILD_OPTIONS(.backend = backends[i]);
        owned_engine engine = built_network(network, &chosen);
        owned_context context = context_on(engine);
        float data[] = {1, 2};
        kiln_tensor input = floats(data, 2);
        input.desc.shape = KILN_SHAPE(1, 2);
        assert_ok(kiln_context_bind(context, "x", &input));
        assert_ok(kiln_context_run(context));
        kiln_tensor output = tensor_in(context, "y");
        assert_true(kiln_shape_equal(&output.desc.shape, &KILN_SHAPE(0, 1, 2)));
    }
}

/* Its optimizer would round biases to whole multiples of the product of two scales, 4e-4
 * and 1.5e-4, of which float16 has one digit. */
TEST(biases_beside_scales_of_half_stay)
{
    static const char *const backends[] = {"reference", "onnxruntime"};
    owned_range_table ranges = NULL;
    double found[2][4];
    owned_maker m;
    maker_model(&m, 19,
                "in x float32[1,1,2,2]; const w float32[1,1,1,1]={0.024}; "
                "const b float32[1]={0.01}; const v float32[1,1,1,1]={1}; a=Conv(x,w,b); "
                "y=Conv(a,v); out y float32");
    assert_ok(kiln_range_table_create(&ranges));
    assert_ok(kiln_range_table_set(ranges, "x", -0.06, 0.06));
    assert_ok(kiln_range_table_set(ranges, "a", -0.016, 0.016));
    const kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT8, .rest = KILN_PRECISION_FP16,
                               .ranges = ranges);
    assert_ok(kln_precision_convert(m.model, &how, NULL));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(backends); i++) {
        const kiln_build_options chosen = KILN_BUILD_OPTIONS(.backend = backends[i]);
        owned_engine engine = built_bytes(maker_span(m.model), &chosen);
        owned_context context = context_on(engine);
        float data[] = {0.05F, -0.05F, 0, 0.02F};
        kiln_tensor input = floats(data, 4);
        input.desc.shape = KILN_SHAPE(1, 1, 2, 2);
        assert_ok(kiln_context_bind(context, "x", &input));
        assert_ok(kiln_context_run(context));
        const kiln_tensor output = tensor_in(context, "y");
        assert_ok(kiln_tensor_read(&output, 0, 4, found[i]));
    }
    for (size_t i = 0; i < 4; i++) {
        assert_float_equal(found[1][i], found[0][i], 3e-4);
    }
}

TEST(what_is_saved_is_what_was_built)
{
    const kiln_span model = unary_model("Neg", "n");
    void *copy = kln_alloc(model.size);
    assert_non_null(copy);
    memcpy(copy, model.data, model.size);
    const kiln_model source = {.bytes = {copy, model.size}};
    void *engine = NULL;
    kiln_span bytes = {NULL, 0};
    assert_ok(kln_backend_onnxruntime.engine.build(&source, &options, NULL, &engine));
    memset(copy, 0, model.size);
    kln_free(copy);
    assert_ok(kln_backend_onnxruntime.engine.serialize(engine, &bytes));
    assert_int_equal(bytes.size, model.size);
    assert_memory_equal(bytes.data, model.data, model.size);
    kln_backend_onnxruntime.engine.destroy(engine);
}

static bool refuse_to_go_on(void *user, const kiln_phase *now)
{
    assert_string_equal(now->phase, "session");
    assert_int_equal(now->depth, 0);
    assert_in_range(now->step, 0, now->steps - 1);
    assert_true(now->fraction == (double)now->step / (double)now->steps);
    return now->step < *(int64_t *)user;
}

TEST(a_monitor_stops_a_build)
{
    const kiln_model source = {.bytes = unary_model("Neg", "n")};
    for (int64_t stop = 0; stop < 3; stop++) {
        const kiln_monitor monitor = {&stop, refuse_to_go_on};
        void *engine = NULL;
        const kiln_status status =
            kln_backend_onnxruntime.engine.build(&source, &options, &monitor, &engine);
        assert_int_equal(status, stop < 2 ? KILN_ERROR_CANCELLED : KILN_OK);
        if (status == KILN_OK) {
            kln_backend_onnxruntime.engine.destroy(engine);
        }
    }
}

/* --- refusals --- */

static void expect_refusal(kiln_span model, kiln_status status, const char *words)
{
    kiln_engine *engine = NULL;
    assert_status(status, kiln_engine_build_bytes(model, &options, &engine));
    assert_null(engine);
    assert_message(words);
}

TEST(a_bad_model_gets_its_status)
{
    static const unsigned char text[] = "this is no model, whatever it may say about itself";
    expect_refusal((kiln_span){text, sizeof text}, KILN_ERROR_MALFORMED, "byte 0");
    const kiln_span whole = unary_model("Neg", "n");
    for (size_t size = 1; size < whole.size; size++) {
        kiln_engine *engine = NULL;
        const kiln_status status =
            kiln_engine_build_bytes((kiln_span){whole.data, size}, &options, &engine);
        if (status == KILN_OK) {
            /* A message may end after any of its fields: what was lost is metadata. */
            assert_true(size > whole.size / 2);
            kiln_engine_release(engine);
        } else {
            assert_non_null(strstr(kiln_error_message(), "a model in memory"));
            assert_true(status != KILN_ERROR_MALFORMED ||
                        strstr(kiln_error_message(), "byte ") != NULL ||
                        strstr(kiln_error_message(), "graph is missing") != NULL);
        }
    }
    expect_refusal(unary_model("NoSuchOperator", "n"), KILN_ERROR_UNSUPPORTED, "NoSuchOperator");
    expect_refusal(made_model(17, "in x bool[n]; y=Neg(x); out y bool[n]"),
                   KILN_ERROR_INVALID_NETWORK, "Neg");
    expect_refusal(unary_model("Neg", "1,1,1,1,1,1,1,1,1"), KILN_ERROR_LIMIT,
                   "\"x\" has 9 dimensions, 8 are possible");
    expect_refusal(made_model(17, "in x float32[n]; y=Neg(x); out elsewhere float32[n]"),
                   KILN_ERROR_INVALID_NETWORK, "elsewhere");
}

/* The library says neither where a file breaks off nor what to do. */
TEST(a_file_that_is_cut_short_is_told_by_the_byte)
{
    const kiln_span whole = unary_model("Neg", "n");
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_MALFORMED,
                 kiln_engine_build_file(kiln_test_file("short.onnx", whole.data, whole.size / 2),
                                        &options, &engine),
                 "short.onnx", "byte ", "ModelProto.graph", "cut short", "export it again");
}

TEST(a_bad_file_gets_its_status)
{
    kiln_engine *engine = NULL;
    assert_status(KILN_ERROR_NOT_FOUND,
                  kiln_engine_build_file(kiln_test_path("absent.onnx"), &options, &engine));
    assert_status(KILN_ERROR_NOT_A_FILE, kiln_engine_build_file("/tmp", &options, &engine));
    assert_status(KILN_ERROR_EMPTY,
                  kiln_engine_build_file(kiln_test_file("e.onnx", "", 0), &options, &engine));
    assert_fails(KILN_ERROR_MALFORMED,
                 kiln_engine_build_file(kiln_test_file("t.onnx", "\x08", 1), &options, &engine),
                 "t.onnx");

    const char *path = kiln_test_path("large.onnx");
    const int file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0666);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, INT64_C(3) << 30), 0);
    (void)close(file);
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_build_file(path, &options, &engine),
                 "3221225472 bytes", "external file");
    (void)unlink(kiln_test_path("large.onnx"));
}

/* Neither hashed nor read: the test would not end. */
TEST(a_file_that_is_a_hole_is_refused)
{
    kiln_engine *engine = NULL;
    const char *path = kiln_test_path("hole.onnx");
    const int file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0666);
    assert_true(file >= 0);
    assert_int_equal(5, write(file, "\x08\x08:\x01\n", 5));
    assert_int_equal(ftruncate(file, INT64_C(1) << 40), 0);
    (void)close(file);
    (void)kiln_test_file("hole.onnx.kiln.json", "{\"kiln\": 1}", 11);
    path = kiln_test_path("hole.onnx");
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_load(path, &options, &engine),
                 "1099511627776 bytes long", "the file is not whole");
    kiln_network *network = NULL;
    assert_status(KILN_ERROR_LIMIT, kiln_network_from_onnx(path, &network));
    (void)unlink(path);
}

/* --- bytes --- */

#define BYTES(weight)                                                                          \
    "in x float32[1,4]; const s float32[]={1}; const z int8[]={0}; const v int8[4,2]={" weight \
    "," weight "," weight "," weight "," weight "," weight "," weight "," weight "}; "

/* Sums of products of numbers that are as large as bytes can be, whatever the processor. */
TEST_EACH(sums_of_bytes_are_whole, i, 4)
{
    static const char *const models[] = {
        "q=QuantizeLinear(x,s,z); d=DequantizeLinear(q,s,z); w=DequantizeLinear(v,s,z); "
        "y=MatMul(d,w); out y float32[1,2]",
        "q=QuantizeLinear(x,s,z); d=DequantizeLinear(q,s,z); w=DequantizeLinear(v,s,z); "
        "y=Gemm(d,w); out y float32[1,2]",
        "q=QuantizeLinear(x,s,z); d=DequantizeLinear(q,s,z); w=DequantizeLinear(v,s,z); "
        "n=Constant() value_ints=[1,4,1,1]; k=Constant() value_ints=[2,4,1,1]; "
        "e=Reshape(d,n); t=Transpose(w); f=Reshape(t,k); a=Conv(e,f); "
        "r=Constant() value_ints=[1,2]; y=Reshape(a,r); out y float32[1,2]",
        "const h float32[]={0.5}; a=Add(x,x); b=Cast(a) to=2; c=MatMulInteger(b,v); d=Cast(c) "
        "to=1; "
        "y=Mul(d,h); out y float32[1,2]"};
    owned_context context = open_context(made_model(21, BYTES("127") "%s", models[i]));
    float x[] = {127, 127, 127, 127};
    const kiln_tensor input = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4), x, sizeof x);
    bind(context, "x", input);
    assert_ok(kiln_context_run(context));
    const float *y = tensor_in(context, "y").data;
    assert_true(y[0] == 4 * 127 * 127);
    assert_true(y[1] == 4 * 127 * 127);
}

static void count_lines(void *user, kiln_log_level level, const char *component,
                        const char *message)
{
    (void)level;
    (void)component;
    *(size_t *)user += strstr(message, "without VNNI") != NULL && strstr(message, "\"v\"") != NULL;
}

/* Nodes that give bytes are computed in bytes: where sums of them are cut off, that is told. */
TEST(sums_that_are_cut_off_are_told)
{
#define GIVES_BYTES \
    "const u uint8[]={0}; a=Cast(x) to=2; y=QLinearMatMul(a,s,u,v,s,z,s,u); out y uint8[1,2]"
    size_t lines = 0;
    kiln_log_set_sink(count_lines, &lines, KILN_LOG_WARNING);
    kiln_engine_release(build(made_model(21, BYTES("64") GIVES_BYTES)));
    assert_int_equal(lines, 0);
    kiln_engine_release(build(made_model(21, BYTES("-65") GIVES_BYTES)));
    kiln_log_set_sink(NULL, NULL, KILN_LOG_WARNING);
    assert_int_equal(lines, kln_processor_cuts_sums());
}

TEST(a_failed_run_says_why_and_harms_nothing)
{
    owned_context context = open_context(
        made_model(17, "in a float32[n]; in b float32[m]; y=Add(a,b); out y float32[k]"));
    float a[] = {1, 2, 3};
    float b[] = {4, 5, 6};
    kiln_tensor y;
    bind(context, "a", floats(a, 3));
    bind(context, "b", floats(b, 2));
    assert_fails(KILN_ERROR_BACKEND, kiln_context_run(context), "ONNX Runtime", "Add");
    assert_status(KILN_ERROR_STATE, kiln_context_tensor(context, "y", &y));
    bind(context, "b", floats(b, 3));
    assert_ok(kiln_context_run(context));
    expect(context, "y", (const float[]){5, 7, 9}, 3);
}

TEST(failures_are_told_apart_by_code_and_words)
{
    assert_int_equal(ort_classify(ORT_CODE_NO_SUCHFILE, "x"), KILN_ERROR_NOT_FOUND);
    assert_int_equal(ort_classify(ORT_CODE_INVALID_PROTOBUF, "x"), KILN_ERROR_MALFORMED);
    assert_int_equal(ort_classify(ORT_CODE_NO_MODEL, "x"), KILN_ERROR_MALFORMED);
    assert_int_equal(ort_classify(ORT_CODE_NOT_IMPLEMENTED, "x"), KILN_ERROR_UNSUPPORTED);
    assert_int_equal(ort_classify(ORT_CODE_INVALID_GRAPH, "x"), KILN_ERROR_INVALID_NETWORK);
    assert_int_equal(ort_classify(ORT_CODE_MODEL_LOAD_CANCELED, "x"), KILN_ERROR_CANCELLED);
    assert_int_equal(ort_classify(ORT_CODE_FAIL, "x"), KILN_ERROR_BACKEND);
    assert_int_equal(ort_classify(99, "x"), KILN_ERROR_BACKEND);
    assert_int_equal(ort_classify(ORT_CODE_RUNTIME_EXCEPTION, "std::bad_alloc"),
                     KILN_ERROR_OUT_OF_MEMORY);
    assert_int_equal(ort_classify(ORT_CODE_FAIL,
                                  "Unsupported model IR version: 99, max supported "
                                  "IR version: 13"),
                     KILN_ERROR_UNSUPPORTED);
}

/* --- the library --- */

TEST(the_backend_says_where_its_library_is)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kiln_backend_choose("onnxruntime", &info));
    assert_true(info.available);
    assert_int_equal(info.score, 50);
    assert_non_null(strstr(info.library, "libonnxruntime.so"));
    assert_non_null(strstr(info.reason, info.version));
    assert_true((info.capabilities & KILN_CAPABILITY_DYNAMIC_SHAPES) != 0);
    kln_library_use use;
    assert_true(kln_backend_onnxruntime.library(0, &use));
    assert_string_equal(use.version, info.version);
    assert_int_equal(kln_library_state(use.library), KILN_LIBRARY_FOUND);
    assert_true(kln_backend_onnxruntime.library(1, &use));
    assert_int_equal(kln_library_state(use.library), KILN_LIBRARY_ABSENT);
    assert_non_null(
        strstr(kln_library_place(use.library, 0), "/libonnxruntime_providers_cuda.so: not there"));
    assert_false(kln_backend_onnxruntime.library(2, &use));
}

TEST(another_library_may_be_named)
{
    kiln_build_options other = options;
    other.library = kiln_test_deps("onnxruntime");
    kiln_engine *engine = built_bytes(unary_model("Neg", "n"), &other);
    kiln_engine_release(engine);
    other.library = "/nowhere/libonnxruntime.so";
    assert_fails(KILN_ERROR_LIBRARY_ABSENT,
                 kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine),
                 "/nowhere/libonnxruntime.so");
    other.library = kiln_test_built("fake/oldort");
    assert_fails(KILN_ERROR_LIBRARY_VERSION,
                 kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine),
                 "version 1.10.0 is too old, 1.23 (API level 23) or later is needed");
    other.library = kiln_test_built("fake/part/libfakepart.so");
    assert_fails(KILN_ERROR_LIBRARY_SYMBOL,
                 kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine),
                 "OrtGetApiBase");
    other.library = kiln_test_file("libonnxruntime.so", "not a library", 13);
    assert_fails(KILN_ERROR_LIBRARY_BROKEN,
                 kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine),
                 "it has no ELF header");
    (void)unlink(other.library);
    other.library = kiln_test_binary_folder;
    assert_status(KILN_ERROR_LIBRARY_ABSENT,
                  kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine));
    assert_null(engine);
}

TEST(a_gpu_is_refused_where_the_library_has_no_provider)
{
    owned_engine engine = NULL;
    kiln_build_options other = options;
    other.provider = KILN_PROVIDER_CUDA;
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine),
                 "without the CUDA provider");
    other.provider = (kiln_provider)3;
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine));
    other.provider = KILN_PROVIDER_CPU;
    assert_ok(kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine));
    assert_int_equal(kiln_engine_device(engine), -1);
}

/* What only the CUDA provider has is not passed over. */
TEST(options_of_the_cuda_provider_need_it)
{
    static const char *const names[] = {"tf32",          "gpu_memory_bytes", "arena_growth",
                                        "conv_search",   "prefer_nhwc",      "gpu_only",
                                        "fuse_conv_bias"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(names); i++) {
        kiln_engine *engine = NULL;
        kiln_build_options other = options;
        other.tf32 = i == 0 ? KILN_SWITCH_OFF : KILN_SWITCH_DEFAULT;
        other.gpu_memory_bytes = i == 1 ? 1 : 0;
        other.arena_growth = i == 2 ? KILN_ARENA_AS_NEEDED : KILN_ARENA_DEFAULT;
        other.conv_search = i == 3 ? KILN_CONV_SEARCH_NONE : KILN_CONV_SEARCH_DEFAULT;
        other.prefer_nhwc = i == 4 ? KILN_SWITCH_ON : KILN_SWITCH_DEFAULT;
        other.gpu_only = i == 5;
        other.fuse_conv_bias = i == 6 ? KILN_SWITCH_ON : KILN_SWITCH_DEFAULT;
        assert_fails(KILN_ERROR_UNSUPPORTED,
                     kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine), names[i]);
        other.backend = "reference";
        assert_fails(KILN_ERROR_UNSUPPORTED,
                     kiln_engine_build_bytes(unary_model("Neg", "n"), &other, &engine), names[i]);
    }
}

static kiln_log_level heard_level;
static char heard[256];

static void hear(void *user, kiln_log_level level, const char *component, const char *message)
{
    if (strcmp(component, "onnxruntime") == 0 && strstr(message, "unused_weight") != NULL) {
        heard_level = level;
        (void)snprintf(heard, sizeof heard, "%s", message);
    }
}

TEST(its_log_goes_to_the_sink)
{
    kiln_log_set_sink(hear, NULL, KILN_LOG_WARNING);
    kiln_engine_release(build(
        made_model(17, "in x float32[n]; unused_weight={1.0,2.0}; y=Neg(x); out y float32[n]")));
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    assert_int_equal(heard_level, KILN_LOG_WARNING);
    assert_non_null(strstr(heard, "unused_weight"));
}

int main(void)
{
    options = KILN_BUILD_OPTIONS(.backend = "onnxruntime", .threads = 1);
    return kiln_test_run();
}
