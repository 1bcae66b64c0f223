/* SPDX-License-Identifier: Apache-2.0 */
/* A model, its engine and its context on ONNX Runtime, as the tests of that backend use them. */
#ifndef ORT_TEST_H
#define ORT_TEST_H

#include "context_test.h"
#include "graph_maker.h"

static kiln_build_options options;

static inline kiln_engine *build(kiln_span model)
{
    return built_bytes(model, &options);
}

static inline kiln_context *open_context(kiln_span model)
{
    owned_engine engine = build(model);
    return context_on(engine);
}

static inline void bind(kiln_context *context, const char *name, kiln_tensor tensor)
{
    assert_ok(kiln_context_bind(context, name, &tensor));
}

/* Output `name` has these values now. */
static inline void expect(kiln_context *context, const char *name, const float *values,
                          int64_t count)
{
    const kiln_tensor found = tensor_in(context, name);
    assert_int_equal(found.desc.dtype, KILN_DTYPE_FLOAT32);
    assert_int_equal(found.desc.shape.rank, 1);
    assert_int_equal(found.desc.shape.dims[0], count);
    assert_memory_equal(found.data, values, (size_t)count * sizeof *values);
}

#endif
