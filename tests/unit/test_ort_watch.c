/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors that are shown while ONNX Runtime runs (kln_watch): slots 0, 26, 27, 28, 86, 90, 91 and
 * 101 of its table. */
#include <math.h>

#include "engine/kln_engine.h"
#include "ort_test.h"

static float seen[6];
static int64_t last_run;
static size_t calls;
static kiln_status answer;

static kiln_status see(void *user, size_t index, int64_t run, const kiln_tensor *tensor)
{
    assert_ptr_equal(user, seen);
    assert_int_equal(index, 7);
    assert_int_equal(tensor->desc.dtype, KILN_DTYPE_FLOAT32);
    assert_int_equal(tensor->desc.shape.rank, 2);
    assert_int_equal(tensor->bytes, tensor->desc.shape.dims[0] * 3 * (int64_t)sizeof *seen);
    if (tensor->bytes > 0) {
        memcpy(seen, tensor->data, tensor->bytes);
    }
    last_run = run;
    calls++;
    return answer == KILN_OK ? KILN_OK : kln_fail(answer, "who watches has seen enough");
}

static kiln_status make_watched(kiln_engine **engine)
{
    static const kln_watch watch = {see, seen};
    owned_maker m;
    kln_onnx_opset sets[] = {{.domain = "", .version = 17},
                             {.domain = KLN_WATCH_DOMAIN, .version = 1}};
    const kiln_build_options how = backend_options("onnxruntime");
    maker_model(&m, 17,
                "in x float32[n,3]; in run int64[]; r=Relu(x); w=Watch(r,run) index=7; y=Neg(r); "
                "out y float32[n,3]; out w int64[]");
    TRY(m.status);
    m.graph->nodes[1].domain = KLN_WATCH_DOMAIN;
    m.model->opsets = sets;
    m.model->opset_count = 2;
    const kiln_model model = {.graph = m.model, .watch = &watch};
    return kln_engine_make(&model, &how, false, NULL, engine);
}

TEST(what_is_watched_is_shown_while_it_runs)
{
    float x[6] = {1, -2, 3, -4, 5, -6};
    int64_t run = 0;
    owned_engine engine = NULL;
    assert_ok(make_watched(&engine));
    owned_context context = context_on(engine);
    bind(context, "run", KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE_SCALAR, &run, sizeof run));
    for (int64_t rows = 0; rows <= 2; rows++) {
        bind(context, "x",
             KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(rows, 3), x,
                              (size_t)rows * 3 * sizeof *x));
        run = 40 + rows;
        assert_ok(kiln_context_run(context));
        assert_int_equal(last_run, run);
        for (size_t i = 0; i < (size_t)rows * 3; i++) {
            assert_true(seen[i] == fmaxf(x[i], 0));
        }
    }
    assert_int_equal(calls, 3);
    answer = KILN_ERROR_STATE;
    assert_fails(KILN_ERROR_BACKEND, kiln_context_run(context), "who watches has seen enough");
    answer = KILN_OK;
    assert_ok(kiln_context_run(context));
}

static kiln_status make_once(void *user)
{
    (void)user;
    owned_engine engine = NULL;
    return make_watched(&engine);
}

TEST(every_allocation_may_fail)
{
    kiln_test_each_allocation(make_once, NULL);
}
