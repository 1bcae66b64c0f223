/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of new weights in TensorRT plans share. */
#ifndef TRT_REFIT_TEST_H
#define TRT_REFIT_TEST_H

#include "fake_tensorrt_test.h"

/* The convolution of conv_network with weights that can be replaced. */
static inline kiln_engine *build_refittable(size_t layout, kiln_refit_mode mode)
{
    kiln_build_options options = fake_options(layout);
    options.refit = mode;
    return build_network(conv_network(), &options);
}

/* y[0] of the first kernel (a sum of nine) and of the second (twice the middle), over ones. */
static inline void check_run(kiln_context *context, float first, float second)
{
    static float x[16];
    for (int i = 0; i < 16; i++) {
        x[i] = 1;
    }
    const kiln_tensor y = run_floats(context, KILN_SHAPE(1, 1, 4, 4), x);
    const float *values = y.data;
    assert_true(values[0] == first && values[3] == first);
    assert_true(values[4] == second && values[7] == second);
}

/* What the engine says of the weights `name`; the order is the library's. */
static inline kiln_refit_weight weight_of(kiln_engine *engine, const char *name)
{
    kiln_refit_weight weight = {.struct_size = sizeof weight};
    size_t count = 0;
    assert_ok(kiln_engine_refit_count(engine, &count));
    for (size_t i = 0; i < count; i++) {
        assert_ok(kiln_engine_refit_get(engine, i, &weight));
        if (strcmp(weight.name, name) == 0) {
            return weight;
        }
    }
    fail_msg("there are no weights \"%s\" among %zu", name, count);
    return weight;
}

static float twos[18];
static float biases[2] = {-1, -2};

static inline void prepare(kiln_named_tensor weights[2])
{
    for (int i = 0; i < 18; i++) {
        twos[i] = 2;
    }
    weights[0] = (kiln_named_tensor){"w", host_floats(twos, KILN_SHAPE(2, 1, 3, 3))};
    weights[1] = (kiln_named_tensor){"b", host_floats(biases, KILN_SHAPE(2))};
}

#endif
