/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of new weights share, on ONNX Runtime and the reference executor: y = x * w + b.
 */
#ifndef REFIT_TEST_H
#define REFIT_TEST_H

#include "graph_maker.h"
#include "kiln_test.h"

#define N 1024
#define THREADS 8

static const char *const backends[] = {"reference", "onnxruntime"};
#define BACKENDS KLN_ARRAY_LENGTH(backends)

/* y = x * w + b, x and w [N], b [1]. */
static inline kiln_span model_of(float w, float b)
{
    static float values[N];
    owned_maker m;
    for (int i = 0; i < N; i++) {
        values[i] = w + (float)i;
    }
    kiln_test_pause_failures(true);
    maker_model(&m, 17, "in x float32[1024]");
    maker_floats(&m, "w", N, values);
    maker_floats(&m, "b", 1, &b);
    maker_text(&m, "m=Mul(x,w); y=Add(m,b); out y float32[1024]");
    assert_ok(m.status);
    const kiln_span span = maker_span(m.model);
    kiln_test_pause_failures(false);
    return span;
}

enum { FROM_BYTES, FROM_FILE, FROM_NETWORK, WAYS };

static inline kiln_engine *build_from(const char *backend, int way)
{
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 1);
    const kiln_span model = model_of(1, 10);
    const char *path = kiln_test_file("model.onnx", model.data, model.size);
    if (way == FROM_BYTES) {
        assert_ok(kiln_engine_build_bytes(model, &options, &engine));
    } else if (way == FROM_FILE) {
        assert_ok(kiln_engine_build_file(path, &options, &engine));
    } else {
        owned_network network = network_file(path);
        assert_ok(kiln_engine_build(network, &options, &engine));
    }
    return engine;
}

static inline kiln_engine *build(const char *backend)
{
    return build_from(backend, FROM_BYTES);
}

static float ones[N];
static float new_w[N], answers[N];
static float new_b[1];

static inline kiln_named_tensor named(const char *name, float *data, int64_t count)
{
    return (kiln_named_tensor){name, KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count), data,
                                                      (size_t)count * sizeof(float))};
}

/* New weights, and what comes of ones with them. */
static inline void prepare(float w, float b, kiln_named_tensor weights[2])
{
    for (int i = 0; i < N; i++) {
        ones[i] = 1;
        new_w[i] = w + (float)i;
        answers[i] = new_w[i] + b;
    }
    new_b[0] = b;
    weights[0] = named("w", new_w, N);
    weights[1] = named("b", new_b, 1);
}

static inline kiln_refit_options checked(kiln_refit_sample *sample, kiln_named_tensor tensors[2])
{
    tensors[0] = named("x", ones, N);
    tensors[1] = named("y", answers, N);
    *sample = (kiln_refit_sample){&tensors[0], 1, &tensors[1], 1};
    return KILN_REFIT_OPTIONS(.samples = sample, .sample_count = 1);
}

/* y of ones is w + i + b. */
static inline void check_run(kiln_context *context, float w, float b)
{
    const kiln_named_tensor x = named("x", ones, N);
    kiln_named_tensor y = {"y", {.data = NULL}};
    assert_ok(kiln_context_run_tensors(context, &x, 1, &y, 1));
    const float *found = y.tensor.data;
    for (int i = 0; i < N; i++) {
        if (found[i] != w + (float)i + b) {
            fail_msg("element %d is %g, %g + %d + %g was expected", i, (double)found[i], (double)w,
                     i, (double)b);
        }
    }
}

#endif
