/* SPDX-License-Identifier: Apache-2.0 */
/* Networks that were built in memory, run: each layer on the reference executor and on ONNX
 * Runtime, whose results must agree within the bound that layer_cases.c states; and the hand-over
 * of weights. */

#include "../network/layer_cases.h"
#include "kiln_test.h"
#include "tensor/kln_tensor.h"

#define MOST 64

static const char *const backends[] = {"reference", "onnxruntime"};

typedef struct run {
    kiln_engine *engine;
    kiln_context *context;
    size_t count;
    kiln_tensor outputs[MOST];
} run;

static void fill(const kiln_binding *binding, bool is_small, kiln_tensor *tensor)
{
    int64_t count = 0;
    size_t bytes = 0;
    assert_ok(kiln_shape_elements(&binding->shape, &count));
    assert_ok(kiln_tensor_bytes(binding->dtype, &binding->shape, &bytes));
    void *data = calloc(1, bytes + 1);
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++) {
        /* Between -1 and 1, or 0 and 1 where a function wants that; no two neighbours alike. */
        const double wave = 0.5 + 0.499 * sin(1.7 * (double)i + 0.3);
        switch (binding->dtype) {
            case KILN_DTYPE_FLOAT32:
                ((float *)data)[i] = (float)(is_small ? wave : 2 * wave - 1);
                break;
            case KILN_DTYPE_INT32: ((int32_t *)data)[i] = (int32_t)(i * 5 % 9); break;
            case KILN_DTYPE_INT64: ((int64_t *)data)[i] = i * 5 % 9; break;
            case KILN_DTYPE_BOOL: ((uint8_t *)data)[i] = i % 3 == 0; break;
            default: fail_msg("input of type %s", kiln_dtype_name(binding->dtype));
        }
    }
    *tensor = KILN_HOST_TENSOR(binding->dtype, binding->shape, data, bytes);
}

/* False: the backend does not have an operator of it, by its own word. */
static bool start(const kiln_network *network, const char *backend, bool is_small, run *result)
{
    kiln_build_options options = backend_options(backend);
    options.threads = 1;
    memset(result, 0, sizeof *result);
    const kiln_status built = kiln_engine_build(network, &options, &result->engine);
    if (built == KILN_ERROR_UNSUPPORTED && strcmp(backend, "reference") != 0) {
        print_message("  %s: %s\n", backend, kiln_error_message());
        return false;
    }
    assert_ok(built);
    assert_ok(kiln_context_create(result->engine, NULL, &result->context));
    for (size_t i = 0; i < kiln_engine_input_count(result->engine); i++) {
        kiln_tensor tensor;
        kiln_binding binding = input_at(result->engine, i);
        fill(&binding, is_small, &tensor);
        const kiln_tensor place = tensor_in(result->context, binding.name);
        assert_int_equal(place.bytes, tensor.bytes);
        memcpy(place.data, tensor.data, tensor.bytes);
        free(tensor.data);
    }
    assert_ok(kiln_context_run(result->context));
    result->count = kiln_engine_output_count(result->engine);
    assert_true(result->count > 0 && result->count <= MOST);
    for (size_t i = 0; i < result->count; i++) {
        const kiln_binding binding = output_at(result->engine, i);
        assert_ok(kiln_context_tensor(result->context, binding.name, &result->outputs[i]));
    }
    return true;
}

static void stop(run *result)
{
    kiln_context_destroy(result->context);
    kiln_engine_release(result->engine);
}

static double element(const kiln_tensor *tensor, int64_t i)
{
    double number = 0;
    assert_ok(kiln_tensor_read(tensor, i, 1, &number));
    return number;
}

static void compare(const char *name, size_t output, const kiln_tensor *a, const kiln_tensor *b,
                    double bound)
{
    int64_t count = 0;
    assert_int_equal(a->desc.dtype, b->desc.dtype);
    assert_true(kiln_shape_equal(&a->desc.shape, &b->desc.shape));
    assert_ok(kiln_shape_elements(&a->desc.shape, &count));
    for (int64_t i = 0; i < count; i++) {
        const double x = element(a, i);
        const double y = element(b, i);
        const bool same = x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= bound * (1 + fabs(x));
        if (!same) {
            fail_msg("%s, output %zu, element %lld: %.9g and %.9g, %g is allowed", name, output,
                     (long long)i, x, y, bound);
        }
    }
}

static void run_case(const layer_case *each, int opset)
{
    run runs[2];
    bool ran[2];
    kiln_network_options options = KILN_NETWORK_OPTIONS(.opset = opset);
    kiln_network *network = network_with(&options);
    assert_ok(each->build(network));
    for (size_t i = 0; i < 2; i++) {
        ran[i] = start(network, backends[i], strcmp(each->name, "unary") == 0, &runs[i]);
    }
    /* The engines hold on to what they need. */
    kiln_network_destroy(network);
    if (ran[0] && ran[1]) {
        assert_int_equal(runs[0].count, runs[1].count);
        for (size_t i = 0; i < runs[0].count; i++) {
            compare(each->name, i, &runs[0].outputs[i], &runs[1].outputs[i], each->bound);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        stop(&runs[i]);
    }
}

TEST(each_layer_on_two_executors)
{
    static const int opsets[] = {18, KILN_OPSET_DEFAULT, 23};
    for (size_t i = 0; i < layer_case_count; i++) {
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(opsets); k++) {
            if (layer_cases[i].oldest <= opsets[k]) {
                print_message("%s, operator set %d\n", layer_cases[i].name, opsets[k]);
                run_case(&layer_cases[i], opsets[k]);
            }
        }
    }
}

static float big[256 * 256];

static kiln_network *product(void)
{
    kiln_tensor_id x, w, y;
    const kiln_weights weights = {KILN_DTYPE_FLOAT32, KILN_SHAPE(256, 256), {big, sizeof big}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(big); i++) {
        big[i] = (float)(i % 17) * 0.01F;
    }
    kiln_network *network = new_network();
    assert_ok(
        kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(2, 256), NULL, &x));
    assert_ok(kiln_network_add_constant(network, "w", &weights, &w));
    assert_ok(kiln_network_add_matrix_multiply(network, "y", x, w, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

static float first_output(kiln_engine *engine)
{
    owned_context context = context_on(engine);
    kiln_tensor tensor = tensor_in(context, "x");
    for (size_t i = 0; i < 512; i++) {
        ((float *)tensor.data)[i] = 1.0F;
    }
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &tensor));
    return *(const float *)tensor.data;
}

/* With share_weights the kernels see the caller's array itself: what is changed there counts. */
TEST(weights_are_used_where_they_lie)
{
    owned_network network = product();
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .share_weights = KILN_SWITCH_ON);
    kiln_engine *engine = built_network(network, &options);
    const float before = first_output(engine);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(big); i++) {
        big[i] *= 2.0F;
    }
    assert_true(fabsf(first_output(engine) - 2.0F * before) < 1e-3F);
    kiln_engine_release(engine);
    options.backend = "reference";
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                 "share_weights");
}

/* The reference executor never copies them. */
TEST(the_reference_executor_copies_no_weights)
{
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    kiln_network *network = product();
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    kiln_get_allocation_counters(&before);
    kiln_engine *engine = built_network(network, &options);
    kiln_get_allocation_counters(&after);
    assert_true(after.bytes_in_use - before.bytes_in_use < sizeof big / 4);
    kiln_network_destroy(network);
    const float once = first_output(engine);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(big); i++) {
        big[i] *= 2.0F;
    }
    assert_true(first_output(engine) == 2.0F * once);
    /* A save has them inside. */
    const char *path = kiln_test_path("reference.onnx");
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    memset(big, 0, sizeof big);
    owned_engine again = loaded_file(path, &options);
    assert_true(first_output(again) == 2.0F * once);
}

/* What is saved is the network as it was built, not as it was made to be later. */
TEST(saved_as_it_was_built)
{
    kiln_tensor_id y;
    kiln_network *network = product();
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime");
    owned_engine engine = built_network(network, &options);
    assert_ok(kiln_network_find(network, "y", &y));
    assert_ok(kiln_network_add_unary(network, "z", KILN_UNARY_NEG, y, &y));
    assert_ok(kiln_network_mark_output(network, y));
    kiln_network_destroy(network);
    const char *path = kiln_test_path("built.onnx");
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine *again = loaded_file(path, &options);
    assert_int_equal(kiln_engine_output_count(again), 1);
    assert_true(first_output(engine) == first_output(again));
    kiln_engine_release(engine);
    kiln_engine_release(again);
    /* Read as a network, from its file and from external weights. */
    assert_ok(kiln_network_from_onnx(path, &network));
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL));
    kiln_network_destroy(network);
    assert_ok(kiln_network_from_onnx(path, &network));
    assert_ok(kiln_engine_build(network, &options, &engine));
    kiln_network_destroy(network);
    assert_true(first_output(engine) > 1.0F);
}

TEST(what_cannot_be_built)
{
    kiln_engine *engine = NULL;
    owned_network network = product();
    kiln_network *branch = new_branch(network, NULL);
    assert_status(KILN_ERROR_STATE, kiln_engine_build(branch, NULL, &engine));
    /* Shapes that do not fit are found before any backend is asked. */
    kiln_tensor_id x, y;
    assert_ok(kiln_network_find(network, "x", &x));
    assert_ok(kiln_network_collect_issues(network, true));
    assert_ok(kiln_network_add_matrix_multiply(network, "wrong", x, x, &y));
    assert_fails(KILN_ERROR_INVALID_NETWORK, kiln_engine_build(network, NULL, &engine), "wrong");
    assert_null(engine);
}
