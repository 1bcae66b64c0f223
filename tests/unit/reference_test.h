/* SPDX-License-Identifier: Apache-2.0 */
/* Models in a few words on the reference executor. */
#ifndef REFERENCE_TEST_H
#define REFERENCE_TEST_H

#include "backends/kln_backends.h"
#include "backends/reference/ref_internal.h"
#include "graph_maker.h"
#include "kiln_test.h"

enum { FLOAT = 1, INT64 = 7, BOOL = 9, INT4 = 22 };

/* The maker's model as bytes outside Kiln's heap; the maker is finished. */
static inline kiln_span bytes_of(graph_maker *m)
{
    assert_ok(m->status);
    const kiln_span bytes = maker_span(m->model);
    maker_end(m);
    return bytes;
}

static inline kiln_status build(kiln_span bytes, kiln_engine **engine)
{
    kiln_build_options options = backend_options("reference");
    return kiln_engine_build_bytes(bytes, &options, engine);
}

static inline kiln_context *context_of(kiln_span bytes)
{
    owned_engine engine = NULL;
    assert_ok(build(bytes, &engine));
    return context_on(engine);
}

static inline void bind_floats(kiln_context *context, const char *name, int64_t count,
                               float *values)
{
    bind_tensor(context, name,
                KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count), values,
                                 (size_t)count * sizeof(float)));
}

static inline void expect_floats(kiln_context *context, const char *name, int64_t count,
                                 const float *values)
{
    const kiln_tensor tensor = tensor_in(context, name);
    assert_int_equal(tensor.desc.dtype, KILN_DTYPE_FLOAT32);
    assert_int_equal(tensor.bytes, (size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) {
        assert_float_equal(((const float *)tensor.data)[i], values[i], 1e-6F);
    }
}

/* y = x + 1 in three steps that nothing else reads. */
static inline kiln_span chain(void)
{
    graph_maker m;
    const float one = 1.0F;
    maker_model(&m, 21, "in x float32[n]");
    maker_floats(&m, "one", 1, &one);
    maker_text(&m, "a=Neg(x); b=Sub(a,one); y=Neg(b); out y float32[n]");
    return bytes_of(&m);
}

/* total = x added to itself `times` times, step by step kept in `steps`; the body sees x from
 * outside. */
static inline kiln_span looped(void)
{
    graph_maker m;
    maker_model(&m, 21,
                "in x float32[n]; in times int64[]; zero=Sub(x,x); "
                "total,steps=Loop(times,,zero) body={in i int64[]; in go bool[]; "
                "in sum float32[n]; still=Identity(go); more=Add(sum,x); kept=Identity(more); "
                "out still bool[]; out more float32[n]; out kept float32[n]}; "
                "out total float32[n]; out steps float32[t,n]");
    return bytes_of(&m);
}

/* y = |x| if the sum of x is negative, else x * x. */
static inline kiln_span branched(void)
{
    graph_maker m;
    const float zero = 0.0F;
    maker_model(&m, 21, "in x float32[n]");
    maker_floats(&m, "zero", 1, &zero);
    maker_text(&m,
               "sum=ReduceSum(x); negative=Less(sum,zero); "
               "y=If(negative) then_branch={then=Abs(x); out then float32[n]} "
               "else_branch={else=Mul(x,x); out else float32[n]}; out y float32[n]");
    return bytes_of(&m);
}

#endif
