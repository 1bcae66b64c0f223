/* SPDX-License-Identifier: Apache-2.0 */
/* Floats in and out of a context, as the tests of every backend use it. */
#ifndef CONTEXT_TEST_H
#define CONTEXT_TEST_H

#include "kiln_test.h"

static inline kiln_tensor floats(float *data, int64_t count)
{
    return KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count), data,
                            (size_t)count * sizeof *data);
}

/* A context over the network on the reference executor; the engine is the caller's. */
static inline kiln_context *open_reference(const kiln_network *network, kiln_engine **engine)
{
    kiln_build_options by = KILN_BUILD_OPTIONS(.backend = "reference");
    assert_ok(kiln_engine_build(network, &by, engine));
    return context_on(*engine);
}

/* Runs with `x`, whose last element becomes `value`; the last element of "y" is `result` then. */
static inline void run_and_expect(kiln_context *context, float *x, int64_t count, float value,
                                  float result)
{
    x[count - 1] = value;
    bind_tensor(context, "x", floats(x, count));
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, "y");
    assert_int_equal(y.desc.shape.dims[0], count);
    assert_true(((float *)y.data)[count - 1] == result);
}

#endif
