/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "graph_maker.h"
#include "kiln_test.h"
#include "tools/compare_parts.h"

/* --- engines that say what they are told to --- */

typedef struct told {
    double numbers[8];
    size_t count;
} told;

static kiln_status say(void *user, kiln_mock_run *run, char message[1024])
{
    const told *what = user;
    const kiln_tensor *output = &run->outputs[0];
    kiln_tensor parts = *output;
    if (output->desc.dtype == KILN_DTYPE_COMPLEX64) {
        parts.desc.dtype = KILN_DTYPE_FLOAT32;
        parts.desc.shape = KILN_SHAPE((int64_t)what->count);
    } else if (output->desc.dtype == KILN_DTYPE_COMPLEX128) {
        parts.desc.dtype = KILN_DTYPE_FLOAT64;
        parts.desc.shape = KILN_SHAPE((int64_t)what->count);
    }
    return kiln_tensor_write(&parts, 0, what->count, what->numbers);
}

static kiln_engine *engine_of(const char *output, kiln_dtype dtype, kiln_shape shape, told *what)
{
    kiln_engine *engine = NULL;
    const kiln_binding input = {sizeof input,  "x",    true, KILN_DTYPE_FLOAT32,
                                KILN_SHAPE(2), {NULL}, {0}};
    const kiln_binding result = {sizeof result, output, false, dtype, shape, {NULL}, {0}};
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = &input, .input_count = 1, .outputs = &result, .output_count = 1,
                          .handler = say, .user = what);
    return kiln_engine_create_mock(&options, &engine) == KILN_OK ? engine : NULL;
}

static kiln_comparison *compare_told(kiln_dtype dtype, kiln_shape shape, told *found,
                                     told *expected, const kiln_compare_options *options)
{
    kiln_comparison *comparison = NULL;
    owned_engine a = engine_of("y", dtype, shape, found);
    owned_engine b = engine_of("y", dtype, shape, expected);
    assert_non_null(a);
    assert_non_null(b);
    assert_ok(kiln_compare_engines(a, b, options, &comparison));
    return comparison;
}

#define assert_near(a, b) assert_true(fabs((a) - (b)) <= 1e-9 * (1 + fabs(b)))

TEST(numbers_are_those_worked_out_by_hand)
{
    told found = {{1.0, 2.5, -4.0, 0.25}, 4};
    told expected = {{1.0, 2.0, -4.0, 0.0}, 4};
    owned_comparison comparison =
        compare_told(KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 2), &found, &expected, NULL);
    assert_int_equal(1, kiln_comparison_count(comparison));
    assert_false(kiln_comparison_passes(comparison));
    assert_null(kiln_comparison_first(comparison));
    assert_null(kiln_comparison_get(comparison, 1));
    assert_int_equal(0, kiln_comparison_intermediate_count(comparison));
    const kiln_tensor_difference *of = kiln_comparison_get(comparison, 0);
    assert_string_equal("y", of->name);
    assert_string_equal("", of->node);
    assert_true(of->is_comparable && !of->passes);
    assert_int_equal(4, of->count);
    assert_int_equal(2, of->different);
    assert_near(of->largest_absolute, 0.5);
    assert_int_equal(1, of->largest_at);
    assert_near(of->found, 2.5);
    assert_near(of->expected, 2.0);
    assert_near(of->largest_relative, 0.25);
    assert_near(of->mean_absolute, 0.75 / 4);
    assert_near(of->cosine, (1 + 5 + 16) / (sqrt(1 + 6.25 + 16 + 0.0625) * sqrt(21)));
    assert_near(of->absolute, 1e-5);
    assert_near(of->relative, 1e-3);
    kiln_comparison_destroy(comparison);
    /* With a tolerance of the caller's that allows just this. */
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    options.absolute = 0.25;
    options.relative = 0.125;
    comparison = compare_told(KILN_DTYPE_FLOAT32, KILN_SHAPE(4), &found, &expected, &options);
    assert_true(kiln_comparison_passes(comparison));
    kiln_comparison_destroy(comparison);
    options.relative = 0.12;
    comparison = compare_told(KILN_DTYPE_FLOAT32, KILN_SHAPE(4), &found, &expected, &options);
    assert_int_equal(1, kiln_comparison_get(comparison, 0)->different);
}

TEST(what_is_no_number_is_counted)
{
    const double inf = (double)INFINITY;
    const double nan = (double)NAN;
    told found = {{nan, inf, -inf, 1.0, nan, 3.0}, 6};
    told expected = {{nan, inf, inf, 1.0, 2.0, 3.0}, 6};
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    options.absolute = 1e30;
    options.relative = 1e30;
    owned_comparison comparison =
        compare_told(KILN_DTYPE_FLOAT32, KILN_SHAPE(6), &found, &expected, &options);
    const kiln_tensor_difference *of = kiln_comparison_get(comparison, 0);
    /* No tolerance allows an infinity of the other sign, or NaN for a number. */
    assert_int_equal(2, of->different);
    assert_true(isinf(of->largest_absolute));
    assert_int_equal(2, of->largest_at);
    assert_int_equal(2, of->found_nans);
    assert_int_equal(1, of->expected_nans);
    assert_int_equal(2, of->found_infinities);
    assert_int_equal(2, of->expected_infinities);
    assert_near(of->mean_absolute, 0.0);
    assert_near(of->cosine, 1.0);
    kiln_comparison_destroy(comparison);
    /* Nothing but zeros, zeros on one side, and nothing at all. */
    told zeros = {{0, 0}, 2};
    told ones = {{1, 1}, 2};
    told nothing = {{0}, 0};
    comparison = compare_told(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), &zeros, &zeros, NULL);
    assert_near(kiln_comparison_get(comparison, 0)->cosine, 1.0);
    kiln_comparison_destroy(comparison);
    comparison = compare_told(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), &ones, &zeros, NULL);
    assert_near(kiln_comparison_get(comparison, 0)->cosine, 0.0);
    assert_near(kiln_comparison_get(comparison, 0)->largest_relative, 0.0);
    kiln_comparison_destroy(comparison);
    comparison = compare_told(KILN_DTYPE_FLOAT32, KILN_SHAPE(0, 3), &nothing, &nothing, NULL);
    assert_true(kiln_comparison_passes(comparison));
    assert_int_equal(-1, kiln_comparison_get(comparison, 0)->largest_at);
}

/* 1 is compared with the next number that the type has. */
TEST(each_type_has_its_tolerance)
{
    static const struct {
        kiln_dtype dtype;
        double passes, fails; /* beside 1 */
    } types[] = {
        {KILN_DTYPE_FLOAT32, 1.0009, 1.0011},
        {KILN_DTYPE_FLOAT64, 1.00000015, 1.00000021},
        {KILN_DTYPE_FLOAT16, 1.00390625, 1.009},
        {KILN_DTYPE_BFLOAT16, 1.03125, 1.0703125},
        {KILN_DTYPE_FLOAT8E4M3, 1.125, 1.25},
        {KILN_DTYPE_FLOAT8E5M2, 1.25, 1.5},
        {KILN_DTYPE_FLOAT4E2M1, 2, 3},
        {KILN_DTYPE_INT8, 1, 2},
        {KILN_DTYPE_UINT8, 1, 2},
        {KILN_DTYPE_INT16, 1, 0},
        {KILN_DTYPE_UINT16, 1, 2},
        {KILN_DTYPE_INT32, 1, 2},
        {KILN_DTYPE_UINT32, 1, 2},
        {KILN_DTYPE_INT64, 1, 2},
        {KILN_DTYPE_UINT64, 1, 0},
        {KILN_DTYPE_BOOL, 1, 0},
        {KILN_DTYPE_INT4, 1, 2},
        {KILN_DTYPE_UINT4, 1, 2},
        {KILN_DTYPE_COMPLEX64, 1.0009, 1.0011},
        {KILN_DTYPE_COMPLEX128, 1.00000015, 1.00000021},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        told one = {{1, 1, 1, 1}, 4};
        told good = {{1, 1, 1, types[i].passes}, 4};
        told bad = {{1, 1, 1, types[i].fails}, 4};
        const bool is_complex =
            types[i].dtype == KILN_DTYPE_COMPLEX64 || types[i].dtype == KILN_DTYPE_COMPLEX128;
        const kiln_shape shape = is_complex ? KILN_SHAPE(2) : KILN_SHAPE(4);
        owned_comparison comparison = compare_told(types[i].dtype, shape, &good, &one, NULL);
        if (!kiln_comparison_passes(comparison)) {
            fail_msg("%s", kiln_dtype_name(types[i].dtype));
        }
        kiln_comparison_destroy(comparison);
        comparison = compare_told(types[i].dtype, shape, &bad, &one, NULL);
        const kiln_tensor_difference *of = kiln_comparison_get(comparison, 0);
        assert_int_equal(4, of->count);
        assert_int_equal(1, of->different);
        assert_int_equal(is_complex ? 1 : 3, of->largest_at);
    }
}

TEST(engines_that_do_not_go_together)
{
    told what = {{1, 2}, 2};
    kiln_comparison *comparison = NULL;
    owned_engine y = engine_of("y", KILN_DTYPE_FLOAT32, KILN_SHAPE(2), &what);
    owned_engine z = engine_of("z", KILN_DTYPE_FLOAT32, KILN_SHAPE(2), &what);
    owned_engine half = engine_of("y", KILN_DTYPE_FLOAT16, KILN_SHAPE(2), &what);
    owned_engine wide = engine_of("y", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 2), &what);
    assert_fails(KILN_ERROR_MISMATCH, kiln_compare_engines(y, z, NULL, &comparison),
                 "output \"y\" is one of the first engine's alone");
    assert_null(comparison);
    kiln_engine *const others[] = {half, wide};
    for (size_t i = 0; i < 2; i++) {
        assert_ok(kiln_compare_engines(y, others[i], NULL, &comparison));
        assert_false(kiln_comparison_passes(comparison));
        assert_false(kiln_comparison_get(comparison, 0)->is_comparable);
        kiln_comparison_destroy(comparison);
    }
    told too_many = {{1, 2, 3}, 3};
    owned_engine broken = engine_of("y", KILN_DTYPE_FLOAT32, KILN_SHAPE(2), &too_many);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_compare_engines(y, broken, NULL, &comparison),
                 "the mock backend");
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_compare_engines(broken, y, NULL, &comparison));
}

/* --- networks --- */

static float matrix[256 * 16];

/* Exact layers, then a product whose sums the two backends round differently, then exact ones. */
static kiln_network *chain(int before, bool is_open)
{
    kiln_tensor_id x, w, y;
    char name[16];
    const kiln_weights weights = {KILN_DTYPE_FLOAT32, KILN_SHAPE(256, 16), {matrix, sizeof matrix}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(matrix); i++) {
        matrix[i] = 1.0F / (float)(i % 251 + 3);
    }
    kiln_network *network = new_network();
    assert_ok(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32,
                                     &KILN_SHAPE(is_open ? KILN_DYNAMIC : 8, 256), NULL, &x));
    assert_ok(kiln_network_add_constant(network, "w", &weights, &w));
    for (int i = 0; i < before; i++) {
        (void)snprintf(name, sizeof name, "neg%d", i);
        assert_ok(kiln_network_add_unary(network, name, KILN_UNARY_NEG, x, &x));
    }
    assert_ok(kiln_network_add_matrix_multiply(network, "product", x, w, &y));
    assert_ok(kiln_network_add_unary(network, "abs", KILN_UNARY_ABS, y, &y));
    assert_ok(kiln_network_add_unary(network, "last", KILN_UNARY_NEG, y, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

TEST(the_first_difference_is_found)
{
    kiln_build_options expected = KILN_BUILD_OPTIONS_INIT;
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    kiln_comparison *comparison = NULL;
    kiln_build_options found = KILN_BUILD_OPTIONS(.backend = "onnxruntime");
    expected.backend = "reference";
    const char *path = kiln_test_path("chain.onnx");
    for (int before = 0; before < 4; before++) {
        owned_network network = chain(before, false);
        options.first_difference = true;
        options.absolute = KILN_BY_DTYPE;
        options.relative = KILN_BY_DTYPE;
        assert_ok(kiln_compare(network, &found, &expected, &options, &comparison));
        assert_true(kiln_comparison_passes(comparison));
        assert_int_equal(0, kiln_comparison_intermediate_count(comparison));
        kiln_comparison_destroy(comparison);
        options.absolute = 0;
        options.relative = 0;
        assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
        for (int way = 0; way < 4; way++) {
            options.intermediate_bytes = way % 2 == 0 ? 0 : 1; /* all at once, and one at a time */
            assert_ok(way < 2 ? kiln_compare(network, &found, &expected, &options, &comparison)
                              : kiln_compare_file(path, &found, &expected, &options, &comparison));
            assert_false(kiln_comparison_passes(comparison));
            const kiln_tensor_difference *first = kiln_comparison_first(comparison);
            assert_non_null(first);
            assert_string_equal("product", first->name);
            assert_string_equal("MatMul", first->operation);
            assert_string_equal("product", first->node);
            assert_true(first->different > 0 && first->largest_absolute < 1e-4);
            assert_int_equal(before + 1, kiln_comparison_intermediate_count(comparison));
            kiln_comparison_destroy(comparison);
        }
        /* The network is as it was. */
        assert_int_equal(1, kiln_network_output_count(network));
        assert_int_equal(before + 3, kiln_network_layer_count(network));
    }
}

/* The file is opened once: nothing needs it any more once its network is read, or both engines are
 * built, which are shown before they are fed. */
static kiln_status take_away(void *user, kiln_engine *found, kiln_engine *expected,
                             kiln_compare_options *options)
{
    assert_int_equal(kiln_engine_input_count(found) + kiln_engine_input_count(expected), 2);
    options->seed = 1;
    return unlink(user) == 0 || errno == ENOENT ? KILN_OK : KILN_ERROR_CANCELLED;
}

TEST(a_file_is_read_once)
{
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    const kiln_build_options found = KILN_BUILD_OPTIONS(.backend = "onnxruntime");
    const kiln_build_options expected = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_network network = chain(2, false);
    char path[4096];
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("once.onnx"));
    options.absolute = options.relative = 0;
    options.first_difference = true;
    options.built = take_away;
    options.user = path;
    for (int is_read = 0; is_read < 2; is_read++) {
        owned_network read = NULL;
        owned_comparison comparison = NULL;
        assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
        if (is_read != 0) {
            assert_ok(kiln_network_from_onnx(path, &read));
            assert_int_equal(unlink(path), 0);
        }
        options.network = read;
        assert_ok(kiln_compare_file(path, &found, &expected, &options, &comparison));
        assert_non_null(kiln_comparison_first(comparison));
        assert_string_equal(kiln_comparison_first(comparison)->name, "product");
    }
    kiln_comparison *none = NULL;
    options.network = network;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_compare_file(path, &found, &expected, &options, &none),
                 "was not read from a file");
}

TEST(inputs_are_given_or_made)
{
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    kiln_comparison *comparison = NULL;
    owned_network network = chain(1, true);
    kiln_build_options build = KILN_BUILD_OPTIONS(.backend = "reference");
    assert_fails(KILN_ERROR_SHAPE, kiln_compare(network, &build, &build, NULL, &comparison),
                 "\"x\" has the shape ?x256");
    static float ones[3 * 256];
    kiln_named_tensor input = {"x",
                               KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(5, 256), NULL, 0)};
    options.inputs = &input;
    options.input_count = 1;
    for (int fill = KILN_FILL_RANDOM; fill <= KILN_FILL_ZEROS; fill++) {
        options.fill = (kiln_compare_fill)fill;
        assert_ok(kiln_compare(network, &build, &build, &options, &comparison));
        const kiln_tensor_difference *of = kiln_comparison_get(comparison, 0);
        assert_int_equal(5, of->found_shape.dims[0]);
        assert_true(of->passes);
        assert_true(fill == KILN_FILL_ZEROS ? of->found == 0 : of->found < 0);
        kiln_comparison_destroy(comparison);
    }
    input.tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(3, 256), ones, sizeof ones);
    assert_ok(kiln_compare(network, &build, &build, &options, &comparison));
    assert_int_equal(3 * 16, kiln_comparison_get(comparison, 0)->count);
    kiln_comparison_destroy(comparison);
    input.tensor.desc.dtype = KILN_DTYPE_INT32;
    assert_status(KILN_ERROR_DTYPE, kiln_compare(network, &build, &build, &options, &comparison));
    input.name = "nobody";
    assert_fails(KILN_ERROR_NAME, kiln_compare(network, &build, &build, &options, &comparison),
                 "\"nobody\"");
    input.name = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_compare(network, &build, &build, &options, &comparison));
}

/* Every type gets numbers that it can hold. */
TEST(each_type_is_filled)
{
    for (int type = KILN_DTYPE_FLOAT32; type <= KILN_DTYPE_COMPLEX128; type++) {
        const kiln_binding input = {sizeof input,     "x",    true, (kiln_dtype)type,
                                    KILN_SHAPE(1500), {NULL}, {0}};
        kln_compare_inputs inputs;
        const kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
        told what = {{0}, 0};
        kiln_mock_options mock =
            KILN_MOCK_OPTIONS(.inputs = &input, .input_count = 1, .handler = say, .user = &what);
        owned_engine engine = new_mock(&mock);
        assert_ok(kln_compare_inputs_make((kiln_engine *[2]){engine, engine}, &options, &inputs));
        const unsigned char *bytes = inputs.tensors[0].tensor.data;
        size_t set = 0;
        for (size_t i = 0; i < inputs.tensors[0].tensor.bytes; i++) {
            set += bytes[i] != 0;
        }
        assert_true(set > 100);
        kln_compare_inputs_finish(&inputs);
    }
}

TEST(arguments_are_checked)
{
    kiln_comparison *comparison = NULL;
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    kiln_build_options build = KILN_BUILD_OPTIONS_INIT;
    told what = {{1, 2}, 2};
    owned_network network = chain(0, false);
    owned_engine engine = engine_of("y", KILN_DTYPE_FLOAT32, KILN_SHAPE(2), &what);
    assert_status(KILN_ERROR_NOT_FOUND,
                  kiln_compare_file("/nowhere.onnx", NULL, NULL, NULL, &comparison));
    kiln_network *branch = new_branch(network, NULL);
    assert_status(KILN_ERROR_STATE, kiln_compare(branch, NULL, NULL, NULL, &comparison));
    build.backend = "nobody";
    assert_status(KILN_ERROR_NAME, kiln_compare(network, &build, NULL, NULL, &comparison));
    options.first_difference = true;
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_compare_engines(engine, engine, &options, &comparison), "kiln_compare_file");
    options.absolute = (double)NAN;
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_compare_engines(engine, engine, &options, &comparison));
    options.absolute = 0;
    options.fill = (kiln_compare_fill)7;
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_compare_engines(engine, engine, &options, &comparison));
    options.fill = KILN_FILL_ZEROS;
    options.input_count = 1;
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_compare_engines(engine, engine, &options, &comparison));
    options.struct_size = 3;
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_compare_engines(engine, engine, &options, &comparison));
    assert_int_equal(0, kiln_comparison_count(NULL));
    assert_int_equal(0, kiln_comparison_intermediate_count(NULL));
    assert_null(kiln_comparison_get(NULL, 0));
    assert_null(kiln_comparison_first(NULL));
    assert_false(kiln_comparison_passes(NULL));
    kiln_comparison_destroy(NULL);
}

/* Looks at every intermediate tensor, because none differs. */
static kiln_status search_once(void *user)
{
    const kln_compare_builds builds = {KILN_BUILD_OPTIONS(.backend = "reference"),
                                       KILN_BUILD_OPTIONS(.backend = "reference")};
    const kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    owned_model model = NULL;
    owned_engine engine = NULL;
    owned_comparison comparison = NULL;
    __attribute__((cleanup(kln_compare_inputs_finish))) kln_compare_inputs inputs = {NULL, NULL, 0};
    TRY(kln_onnx_read_file(user, &model));
    TRY(kiln_engine_load(user, &builds.found, &engine));
    TRY(kln_compare_inputs_make((kiln_engine *[2]){engine, engine}, &options, &inputs));
    TRY(kiln_compare_file(user, &builds.found, &builds.expected, &options, &comparison));
    TRY(kln_compare_nodes(model, &builds, &inputs, &options, comparison));
    return comparison->intermediate_count == 4 && comparison->first == NULL ? KILN_OK
                                                                            : KILN_ERROR_INTERNAL;
}

TEST(each_allocation_may_fail)
{
    kiln_network *network = chain(1, false);
    const char *path = kiln_test_path("compared.onnx");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    kiln_test_each_allocation(search_once, (void *)(uintptr_t)path);
}
