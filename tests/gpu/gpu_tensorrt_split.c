/* SPDX-License-Identifier: Apache-2.0 */
/* Products of TF32's numbers on tensor cores: nearly as near to the exact ones as TensorRT's own in
 * float32, for tensor cores cut off what they add up; no compiler's algebra may spoil them. */
#include <math.h>

#include "fake_tensorrt_test.h"
#include "graph_maker.h"

enum { ROWS = 64, DEPTH = 768, COLUMNS = 256 };

static float x[ROWS * DEPTH], numbers[DEPTH * COLUMNS];
static double exact[ROWS * COLUMNS];

static void fill(float *values, size_t count, uint32_t state)
{
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525U + 1013904223U;
        values[i] = ldexpf((float)(int32_t)state, -31);
    }
}

/* Root of the mean square of differences from what is exact, by that of the exact ones. */
static double error_of(const kiln_network *network, kiln_switch tf32)
{
    kiln_build_options options = fake_options(SOME_LAYOUT);
    kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(ROWS, DEPTH), x, sizeof x);
    double sum = 0;
    double all = 0;
    options.tf32 = tf32;
    options.builder_optimization_level = 2;
    owned_engine engine = built_network(network, &options);
    owned_context context = context_on(engine);
    const kiln_tensor second =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(DEPTH, COLUMNS), numbers, sizeof numbers);
    assert_ok(kiln_context_bind(context, "x", &tensor));
    if (kiln_engine_input_count(engine) == 2) {
        assert_ok(kiln_context_bind(context, "w", &second));
    }
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &tensor));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(exact); i++) {
        const double difference = (double)((const float *)tensor.data)[i] - exact[i];
        sum += difference * difference;
        all += exact[i] * exact[i];
    }
    return sqrt(sum / all);
}

static void expect(const char *form, bool few_rows)
{
    size_t split = 0;
    fill(x, KLN_ARRAY_LENGTH(x), 1);
    fill(numbers, KLN_ARRAY_LENGTH(numbers), 2);
    for (size_t n = 0; n < KLN_ARRAY_LENGTH(exact); n++) {
        exact[n] = 0;
        for (size_t k = 0; k < DEPTH; k++) {
            exact[n] +=
                (double)x[n / COLUMNS * DEPTH + k] * (double)numbers[k * COLUMNS + n % COLUMNS];
        }
    }
    owned_network network =
        made_network(numbers, "in x float32[%d,%d]; %s w float32[%d,%d]; y=MatMul(x,w); out y",
                     ROWS, DEPTH, form, DEPTH, COLUMNS);
    const double single = error_of(network, KILN_SWITCH_OFF);
    const double rounded = error_of(network, KILN_SWITCH_ON);
    assert_ok(kiln_network_split_products(network, few_rows, &split));
    assert_int_equal(split, 1);
    const double halves = error_of(network, KILN_SWITCH_ON);
    print_message("  float32 %.2g, TF32 %.2g, TF32's halves %.2g\n", single, rounded, halves);
    assert_true(halves <= 8 * single && halves <= rounded / 100);
}

TENSORRT_TEST(halves_are_multiplied_as_float32_is)
{
    expect("floats", true);
    expect("floats", false);
    expect("in", false);
}
