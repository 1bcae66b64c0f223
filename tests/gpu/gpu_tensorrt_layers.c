/* SPDX-License-Identifier: Apache-2.0 */
/* Every layer of the builder, and every data type in and out, on TensorRT and on the reference
 * executor: the results agree, or TensorRT said what it lacks.
 *
 *     gpu_tensorrt_layers              builds, runs and compares
 *     gpu_tensorrt_layers save FOLDER  builds and saves plans, with the models beside them
 *     gpu_tensorrt_layers load FOLDER  loads those, runs and compares: for compute-sanitizer, under
 *                                      which no build comes to an end
 */
#include "fake_tensorrt_test.h"

#include <sys/stat.h>

#include "../network/layer_cases.h"

/* A GPU's functions are not as exact as the C library's; sums are made in another order. */
#define LEAST_BOUND 2e-5
/* What is sent through once, in each type. */
#define COUNT 24

static const char *folder; /* NULL: nothing is kept */
static bool is_load;

/* What TensorRT 10.6 computes otherwise than ONNX says, through NVIDIA's own bindings as well
 * (node_models.py over what write_layers.py writes): docs/tensorrt.md. */
static const struct {
    const char *name, *output, *what;
} theirs[] = {
#define PADDED "the padding of the convolution before it, which has the same input and weights"
    {"convolution_same", "z", PADDED},
    {"convolution_windows", "Conv.3", PADDED},
#define DIVIDED "a window that goes past the padding is divided by its whole size"
    {"average_windows", "AveragePool.2", DIVIDED},
    {"average_windows", "AveragePool.10", DIVIDED},
    {"average_windows", "AveragePool.18", DIVIDED},
#define ALL_AXES "axes that are an input are not read: all are reduced"
    {"reductions", "ReduceLogSumExp.17", ALL_AXES},
    {"reduced_axes", "ReduceLogSumExp.33", ALL_AXES},
    {"reduced_axes", "ReduceLogSumExp.34", ALL_AXES},
    {"reduced_axes", "ReduceLogSumExp.35", ALL_AXES},
};

typedef struct tally {
    int equal, refused, different, theirs;
} tally;

/* --- one network --- */

static kiln_engine *reference_engine(const kiln_network *network, const char *model)
{
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    if (network != NULL) {
        assert_ok(kiln_engine_build(network, &options, &engine));
    } else {
        assert_ok(kiln_engine_build_file(model, &options, &engine));
    }
    return engine;
}

/* NULL: TensorRT lacks something, and says what. */
static kiln_engine *real_engine(const char *name, const kiln_network *network, const char *plan)
{
    kiln_build_options options = fake_options(SOME_LAYOUT);
    kiln_engine *engine = NULL;
    options.tf32 = is_load ? KILN_SWITCH_DEFAULT : KILN_SWITCH_OFF;
    const kiln_status status = is_load ? kiln_engine_load(plan, &options, &engine)
                                       : kiln_engine_build(network, &options, &engine);
    if (status != KILN_OK) {
        assert_true(strlen(kiln_error_message()) > 10);
        print_message("  %s: %s: %.300s\n", name, kiln_status_name(status), kiln_error_message());
    }
    return engine;
}

static void print_difference(const char *name, const kiln_tensor_difference *d)
{
    if (!d->is_comparable) {
        char found[128];
        char expected[128];
        (void)kiln_shape_format(&d->found_shape, found, sizeof found);
        (void)kiln_shape_format(&d->expected_shape, expected, sizeof expected);
        print_message("  %s, %s: %s %s, the reference has %s %s\n", name, d->name,
                      kiln_dtype_name(d->found_dtype), found, kiln_dtype_name(d->expected_dtype),
                      expected);
        return;
    }
    print_message("  %s, %s: %lld of %lld differ, element %lld is %.9g, expected %.9g\n", name,
                  d->name, (long long)d->different, (long long)d->count, (long long)d->largest_at,
                  d->found, d->expected);
}

/* NULL: it is not known. */
static const char *why_theirs(const char *name, const char *output)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(theirs); i++) {
        if (strcmp(theirs[i].name, name) == 0 && strcmp(theirs[i].output, output) == 0) {
            return theirs[i].what;
        }
    }
    return NULL;
}

static void judge(const char *name, const kiln_comparison *comparison, tally *counts)
{
    int unknown = 0;
    int known = 0;
    for (size_t i = 0; i < kiln_comparison_count(comparison); i++) {
        const kiln_tensor_difference *d = kiln_comparison_get(comparison, i);
        const char *why = why_theirs(name, d->name);
        if (!d->passes) {
            print_difference(name, d);
        } else if (why != NULL) {
            print_message("  %s, %s: listed, and right now (%s)\n", name, d->name, why);
        }
        if (!d->passes && why != NULL) {
            print_message("    TensorRT's own: %s\n", why);
        }
        known += !d->passes && why != NULL;
        unknown += !d->passes && why == NULL;
    }
    counts->different += unknown > 0;
    counts->theirs += unknown == 0 && known > 0;
    counts->equal += unknown == 0 && known == 0;
}

static void compare(const char *name, kiln_engine *found, kiln_engine *expected, double bound,
                    tally *counts)
{
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    owned_comparison comparison = NULL;
    if (bound >= 0) {
        options.absolute = fmax(bound, LEAST_BOUND);
        options.relative = fmax(bound, LEAST_BOUND);
    }
    const kiln_status status = kiln_compare_engines(found, expected, &options, &comparison);
    if (status != KILN_OK) {
        print_message("  %s: %s: %.300s\n", name, kiln_status_name(status), kiln_error_message());
        counts->different++;
        return;
    }
    judge(name, comparison, counts);
}

/* `network` is NULL where the plan and the model are in `folder`. */
static void check(const char *name, const kiln_network *network, double bound, tally *counts)
{
    char plan[4096];
    char model[4096];
    (void)snprintf(plan, sizeof plan, "%s/%s.plan", folder != NULL ? folder : "", name);
    (void)snprintf(model, sizeof model, "%s/%s.onnx", folder != NULL ? folder : "", name);
    struct stat found;
    if (is_load && stat(plan, &found) != 0) {
        return; /* it was not built */
    }
    owned_engine engine = real_engine(name, network, plan);
    counts->refused += engine == NULL;
    if (engine != NULL && folder != NULL && !is_load) {
        assert_ok(kiln_engine_save(engine, plan));
        assert_ok(kiln_network_save_onnx(network, model, KILN_WEIGHTS_INLINE));
        counts->equal++;
    } else if (engine != NULL) {
        owned_engine expected = reference_engine(is_load ? NULL : network, model);
        compare(name, engine, expected, bound, counts);
    }
}

/* --- every layer --- */

TENSORRT_TEST(each_layer)
{
    tally counts = {0};
    for (size_t i = 0; i < layer_case_count; i++) {
        owned_network network = NULL;
        if (!is_load) {
            kiln_network_options options = KILN_NETWORK_OPTIONS(.opset = layer_cases[i].oldest);
            assert_ok(kiln_network_create(&options, &network));
            assert_ok(layer_cases[i].build(network));
        }
        check(layer_cases[i].name, network, layer_cases[i].bound, &counts);
    }
    print_message("layers: %d equal, %d refused, %d different, %d as TensorRT has it\n",
                  counts.equal, counts.refused, counts.different, counts.theirs);
    assert_int_equal(counts.different, 0);
    assert_true(is_load || counts.equal * 2 > (int)layer_case_count);
}

/* --- every type --- */

/* y = |x| in float32 on the way, x and y of `dtype`; bool and integers of 0 or more stay. */
static kiln_network *through(kiln_dtype dtype)
{
    kiln_network *network = new_network();
    kiln_tensor_id t = add_input(network, "x", dtype, KILN_SHAPE(2, COUNT / 2));
    if (dtype != KILN_DTYPE_FLOAT32) {
        assert_ok(kiln_network_add_cast(network, "wide", t, KILN_DTYPE_FLOAT32, &t));
    }
    assert_ok(kiln_network_add_unary(network, dtype == KILN_DTYPE_FLOAT32 ? "y" : "inner",
                                     KILN_UNARY_ABS, t, &t));
    if (dtype != KILN_DTYPE_FLOAT32) {
        assert_ok(kiln_network_add_cast(network, "y", t, dtype, &t));
    }
    assert_ok(kiln_network_mark_output(network, t));
    return network;
}

/* y = x [24] quantized to `dtype` and back. */
static kiln_network *quantized(kiln_dtype dtype)
{
    static const float scale = 0.125F;
    kiln_tensor_id y;
    kiln_network_options options = KILN_NETWORK_OPTIONS(.opset = 21);
    kiln_network *network = network_with(&options);
    const kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(2, COUNT / 2));
    const kiln_tensor_id s = add_floats(network, "s", KILN_SHAPE_SCALAR, &scale);
    assert_ok(kiln_network_add_quantize(network, "q", x, s, KILN_NO_TENSOR, dtype, 1, 0, &y));
    assert_ok(kiln_network_add_dequantize(network, "y", y, s, KILN_NO_TENSOR, 1, 0, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

TENSORRT_TEST(each_type)
{
    static const kiln_dtype types[] = {KILN_DTYPE_FLOAT32, KILN_DTYPE_FLOAT16, KILN_DTYPE_BFLOAT16,
                                       KILN_DTYPE_FLOAT64, KILN_DTYPE_INT32,   KILN_DTYPE_INT64,
                                       KILN_DTYPE_BOOL,    KILN_DTYPE_UINT8};
    static const kiln_dtype narrow[] = {KILN_DTYPE_INT8, KILN_DTYPE_FLOAT8E4M3};
    tally counts = {0};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        owned_network network = is_load ? NULL : through(types[i]);
        check(kiln_dtype_name(types[i]), network, KILN_BY_DTYPE, &counts);
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(narrow); i++) {
        owned_network network = is_load ? NULL : quantized(narrow[i]);
        check(kiln_dtype_name(narrow[i]), network, KILN_BY_DTYPE, &counts);
    }
    print_message("types: %d equal, %d refused, %d different\n", counts.equal, counts.refused,
                  counts.different);
    assert_int_equal(counts.different, 0);
    assert_int_equal(counts.refused, 0);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        folder = argv[2];
        is_load = strcmp(argv[1], "load") == 0;
    }
    return kiln_test_run();
}
