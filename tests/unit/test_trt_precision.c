/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked of a build against what the layers of its plan say that they compute in. */
#include "fake_tensorrt_test.h"

#include <kiln/precision.h>
#include <kiln/quantize.h>

/* y = relu(convolution "c" of x [1, 4, 16, 16], 32 channels), of which layers of eight bits are
 * made. */
static kiln_network *network_of(void)
{
    static float kernel[32 * 4];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(kernel); i++) {
        kernel[i] = (float)(i % 9) / 8 - 0.5F;
    }
    return made_network(kernel,
                        "in x float32[1,4,16,16]; floats w float32[32,4,1,1]; c=Conv(x,w); "
                        "y=Relu(c); out y");
}

static const char *ranges_of(void)
{
    static char path[4096];
    owned_range_table ranges = NULL;
    assert_ok(kiln_range_table_create(&ranges));
    assert_ok(kiln_range_table_set(ranges, "x", -1, 1));
    assert_ok(kiln_range_table_set(ranges, "c", -2, 2));
    assert_ok(kiln_range_table_set(ranges, "y", 0, 2));
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("ranges.json"));
    assert_ok(kiln_range_table_save(ranges, path));
    return path;
}

static kiln_build_options asking(size_t layout, kiln_precision precision)
{
    kiln_build_options options = fake_options(layout);
    options.precision = precision;
    options.precision_rest =
        precision == KILN_PRECISION_INT8 ? KILN_PRECISION_FP16 : KILN_PRECISION_DEFAULT;
    options.ranges = precision == KILN_PRECISION_INT8 ? ranges_of() : NULL;
    return options;
}

static kiln_status try_build(const kiln_build_options *options, kiln_engine **engine)
{
    owned_network network = network_of();
    const kiln_status status = kiln_engine_build(network, options, engine);
    return status;
}

static kiln_precision_summary summary_of(const kiln_engine *engine)
{
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    assert_ok(kiln_precision_report_summary(kiln_engine_precision(engine), &summary));
    return summary;
}

static kiln_precision_node node_of(const kiln_engine *engine, size_t index)
{
    kiln_precision_node node = {.struct_size = sizeof node};
    assert_ok(kiln_precision_report_node(kiln_engine_precision(engine), index, &node));
    return node;
}

LAYOUTS_TEST(what_was_achieved_is_read_back)
{
    static const kiln_precision asked[] = {KILN_PRECISION_FP16, KILN_PRECISION_INT8};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(asked); k++) {
        kiln_build_options options = asking(i, asked[k]);
        owned_engine engine = NULL;
        options.precision_strict = ON_STAND_IN;
        assert_ok(try_build(&options, &engine));
        const kiln_precision_summary summary = summary_of(engine);
        assert_int_equal(summary.node_count, 2);
        assert_int_equal(summary.converted_count + summary.rest_count, 2);
        assert_int_equal(summary.kept_count, 0);
        assert_true(summary.achieved_count + summary.missed_count > 0);
        if (ON_STAND_IN) {
            assert_int_equal(summary.achieved_count, 2);
            assert_int_equal(summary.missed_count, 0);
            assert_string_equal(node_of(engine, 0).layer, "c");
        }
    }
}

STAND_IN_TEST(what_was_not_achieved_is_told, "a kernel that is lacking")
{
    static const kiln_precision asked[] = {KILN_PRECISION_FP16, KILN_PRECISION_INT8};
    static const kiln_dtype types[] = {KILN_DTYPE_FLOAT16, KILN_DTYPE_INT8};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(asked); k++) {
        kiln_build_options options = asking(SOME_LAYOUT, asked[k]);
        owned_engine engine = NULL;
        set("KILN_FAKE_TENSORRT_WIDE", "c");
        assert_ok(try_build(&options, &engine));
        assert_int_equal(summary_of(engine).missed_count, 1);
        assert_int_equal(summary_of(engine).achieved_count, 1);
        const kiln_precision_node node = node_of(engine, 0);
        assert_string_equal(node.name, "c");
        assert_int_equal(node.dtype, types[k]);
        assert_int_equal(node.achieved, KILN_DTYPE_FLOAT32);
        assert_string_equal(node.layer, "c");
        assert_int_equal(node_of(engine, 1).achieved, KILN_DTYPE_FLOAT16);

        kiln_engine *none = NULL;
        options.precision_strict = true;
        assert_fails(
            KILN_ERROR_UNSUPPORTED, try_build(&options, &none),
            k == 0
                ? "no kernel of the type that was asked for computes 1 of 2 nodes: \"c\" (float32 "
                  "instead of float16)"
                : "\"c\" (float32 instead of int8)");
        assert_null(none);
        set("KILN_FAKE_TENSORRT_WIDE", NULL);
    }
}

STAND_IN_TEST(who_is_not_told_is_strict_or_not, "an engine that is built without asking")
{
    kiln_build_options options = asking(SOME_LAYOUT, KILN_PRECISION_FP16);
    options.profiling_verbosity = KILN_PROFILING_LAYER_NAMES;
    owned_engine engine = NULL;
    assert_ok(try_build(&options, &engine));
    assert_int_equal(summary_of(engine).achieved_count, 0);
    assert_int_equal(summary_of(engine).missed_count, 0);
    options.precision_strict = true;
    kiln_engine *none = NULL;
    assert_fails(KILN_ERROR_UNSUPPORTED, try_build(&options, &none), "\"detailed\"");
    assert_null(none);
    options.precision = KILN_PRECISION_DEFAULT;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, try_build(&options, &none),
                 "precision_strict: it goes with precision");
    options = KILN_BUILD_OPTIONS(.backend = "reference", .precision_rest = KILN_PRECISION_FP16);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, try_build(&options, &none),
                 "precision_rest: it goes with precision");
    options = KILN_BUILD_OPTIONS(.backend = "reference", .ranges = "ranges.json");
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, try_build(&options, &none),
                 "ranges: it goes with precision");
    options = KILN_BUILD_OPTIONS(.backend = "reference", .precision = KILN_PRECISION_FP16);
    owned_engine other = NULL;
    assert_ok(try_build(&options, &other));
    assert_int_equal(summary_of(other).achieved_count, 0);
    options.precision_strict = true;
    assert_fails(KILN_ERROR_UNSUPPORTED, try_build(&options, &none), "\"precision_strict\"");
    options = fake_options(SOME_LAYOUT);
    owned_engine plain = NULL;
    assert_ok(try_build(&options, &plain));
    assert_null(kiln_engine_precision(plain));
}

/* What was rewritten is still called as its file is. */
TENSORRT_TEST(a_refusal_names_the_file)
{
    const kiln_span model = made_model(17, "in x float32[1,2,4,4]; d=Det(x); y=Relu(d); out y");
    const char *path = kiln_test_file("det.onnx", model.data, model.size);
    const kiln_build_options options = asking(SOME_LAYOUT, KILN_PRECISION_FP16);
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(path, &options, &engine),
                 "det.onnx in fp16: node ");
}

/* A plan has no scales any more: its manifest has them, and so has an entry of the cache. */
LAYOUTS_TEST(a_plan_says_how_its_bindings_are_quantized)
{
    static const float scale[1] = {0.0625F};
    const kiln_binding_quantization asked = {"x", {KILN_DTYPE_INT8, -1, 0, 1, scale, NULL}, true};
    owned_range_table ranges = NULL;
    owned_network network = network_of();
    kiln_build_options options = fake_options(i);
    assert_ok(kiln_range_table_load(ranges_of(), &ranges));
    const kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT8, .ranges = ranges,
                               .bindings = &asked, .binding_count = 1);
    assert_ok(kiln_network_convert(network, &how, NULL));
    const char *path = kiln_test_path("int8.plan");
    const char *cache = kiln_test_path("cache");
    assert_ok(kiln_cache_clear(cache, 0, NULL));
    for (size_t k = 0; k < 4; k++) { /* built, loaded, built into a cache, and found there */
        owned_engine engine = NULL;
        options.cache = k < 2 ? NULL : cache;
        assert_ok(k == 1 ? kiln_engine_load(path, &options, &engine)
                         : kiln_engine_build(network, &options, &engine));
        if (k == 0) {
            assert_ok(kiln_engine_save(engine, path));
        }
        kiln_binding binding = input_at(engine, 0);
        assert_int_equal(binding.dtype, KILN_DTYPE_INT8);
        assert_int_equal(binding.quantization.storage, KILN_DTYPE_INT8);
        assert_int_equal(binding.quantization.axis, -1);
        assert_int_equal(binding.quantization.count, 1);
        assert_memory_equal(binding.quantization.scales, scale, sizeof scale);
        assert_null(binding.quantization.zero_points);
        assert_ok(kiln_engine_output(engine, 0, &binding));
        assert_int_equal(binding.quantization.storage, KILN_DTYPE_UNDEFINED);
    }
}

TEST(zero_points_are_refused_by_name)
{
    static float numbers[64 * 8];
    const kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT4, .zero_points = true);
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    const char *path = kiln_test_path("zero_points.onnx");
    owned_engine engine = NULL;
    numbers[5] = 1;
    owned_network network =
        made_network(numbers, "in x float32[4,64]; floats w float32[64,8]; y=MatMul(x,w); out y");
    assert_ok(kiln_network_convert(network, &how, NULL));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                 "kiln_precision_options.zero_points");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(path, &options, &engine),
                 "kiln_precision_options.zero_points");
}
