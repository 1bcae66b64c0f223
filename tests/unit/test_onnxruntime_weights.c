/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that a file holds at any byte, handed to ONNX Runtime. */
#include "kiln_test.h"

#define LARGE 20000
#define SMALL 2000

static float large[LARGE];
static float small[SMALL];

/* y = x * large[0..] in one place and z = x * small; the name moves what follows it by a byte. */
static void write_file(const char *name, const char *path)
{
    kiln_tensor_id x, w, v, y, z;
    const kiln_weights weights[] = {
        {KILN_DTYPE_FLOAT32, KILN_SHAPE(LARGE), {large, sizeof large}},
        {KILN_DTYPE_FLOAT32, KILN_SHAPE(SMALL), {small, sizeof small}},
    };
    owned_network network = new_network();
    assert_ok(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(1), NULL, &x));
    assert_ok(kiln_network_add_constant(network, name, &weights[0], &w));
    assert_ok(kiln_network_add_constant(network, "small", &weights[1], &v));
    assert_ok(kiln_network_add_elementwise(network, "y", KILN_ELEMENTWISE_MUL, x, w, &y));
    assert_ok(kiln_network_add_elementwise(network, "z", KILN_ELEMENTWISE_MUL, x, v, &z));
    assert_ok(kiln_network_mark_output(network, y));
    assert_ok(kiln_network_mark_output(network, z));
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
}

static void check_output(kiln_context *context, const char *name, const float *weights,
                         int64_t count)
{
    const kiln_tensor found = tensor_in(context, name);
    assert_int_equal(found.desc.shape.dims[0], count);
    for (int64_t i = 0; i < count; i++) {
        assert_true(((const float *)found.data)[i] == 3 * weights[i]);
    }
}

static void check_engine(kiln_engine *engine)
{
    float three = 3;
    const kiln_tensor x = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), &three, sizeof three);
    owned_context context = context_on(engine);
    assert_ok(kiln_context_bind(context, "x", &x));
    assert_ok(kiln_context_run(context));
    check_output(context, "y", large, LARGE);
    check_output(context, "z", small, SMALL);
}

/* Four files, of which three at least have them where a float may not be. */
TEST(large_weights_are_used_where_a_file_has_them)
{
    static const char *const names[] = {"w", "ww", "www", "wwww"};
    size_t copied = 0;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime");
    for (size_t i = 0; i < 4; i++) {
        char path[4096];
        kiln_allocation_counters before, after;
        (void)snprintf(path, sizeof path, "%s", kiln_test_path("weights.onnx"));
        write_file(names[i], path);
        options.share_weights = i % 2 == 0 ? KILN_SWITCH_ON : KILN_SWITCH_DEFAULT;
        kiln_network *network = network_file(path);
        kiln_get_allocation_counters(&before);
        owned_engine engine = built_network(network, &options);
        kiln_get_allocation_counters(&after);
        kiln_network_destroy(network);
        const size_t grown = (size_t)(after.bytes_in_use - before.bytes_in_use);
        assert_true(grown < sizeof large);
        copied += grown >= sizeof small;
        check_engine(engine);
        /* What is saved has them too. */
        (void)snprintf(path, sizeof path, "%s", kiln_test_path("weights.saved"));
        assert_ok(kiln_engine_save(engine, path));
        kiln_engine_release(engine);
        assert_ok(kiln_engine_load(path, &options, &engine));
        check_engine(engine);
    }
    assert_true(copied >= 1);
}

int main(void)
{
    for (size_t i = 0; i < LARGE; i++) {
        large[i] = (float)i * 0.5F;
        small[i % SMALL] = -(float)i;
    }
    return kiln_test_run();
}
