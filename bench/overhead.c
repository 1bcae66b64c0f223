/* SPDX-License-Identifier: Apache-2.0 */
/* What a run through Kiln costs over the same run of ONNX Runtime with IO binding, in one process,
 * the same library, one thread each, in alternating blocks. overhead [MAGIKA_MODEL]
 */
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"
#include "raw_ort.h"

typedef struct sides {
    kiln_context *context;
    raw_ort *raw;
} sides;

static void run_kiln(void *user, size_t turn)
{
    (void)turn;
    bench_require(kiln_context_run(((const sides *)user)->context));
}

static void run_raw(void *user, size_t turn)
{
    (void)turn;
    raw_run(((const sides *)user)->raw);
}

static void compare(const char *what, kiln_context *context, raw_ort *raw, size_t runs)
{
    sides both = {context, raw};
    double medians[3];
    bench_alternate((void (*const[])(void *, size_t)){run_kiln, run_raw}, &both, runs, medians);
    (void)printf("%-22s kiln %10.0f ns   raw %10.0f ns   difference %+7.0f ns   ratio %.4f\n", what,
                 medians[0], medians[1], medians[2], medians[0] / medians[1]);
}

static kiln_context *make_context(kiln_engine *engine)
{
    kiln_context *context = NULL;
    bench_require(kiln_context_create(engine, NULL, &context));
    kiln_engine_release(engine);
    return context;
}

static void measure_identity(raw_ort *raw, const kiln_build_options *options)
{
    float x[64] = {1};
    float y[64];
    float raw_y[64];
    kiln_engine *engine = NULL;
    bench_require(kiln_engine_build_bytes((kiln_span){identity_model, sizeof identity_model},
                                          options, &engine));
    kiln_context *context = make_context(engine);
    const kiln_tensor input = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(64), x, sizeof x);
    const kiln_tensor output = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(64), y, sizeof y);
    bench_require(kiln_context_bind(context, "x", &input));
    bench_require(kiln_context_bind(context, "y", &output));
    bench_require(kiln_context_warmup(context, 1000, 0, NULL));
    raw_load(raw, NULL, identity_model, sizeof identity_model);
    raw_bind(raw, &(raw_tensor){"x", RAW_FLOAT32, {64}, 1, sizeof x, x},
             &(raw_tensor){"y", RAW_FLOAT32, {64}, 1, sizeof raw_y, raw_y});
    for (int i = 0; i < 1000; i++) {
        raw_run(raw);
    }
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    kiln_get_allocation_counters(&before);
    compare("identity, 64 floats", context, raw, 8000);
    kiln_get_allocation_counters(&after);
    (void)printf("%-22s %llu in 800,000 runs\n", "allocations by kiln",
                 after.allocations - before.allocations);
    raw_unload(raw);
    kiln_context_destroy(context);
}

static void measure_magika(raw_ort *raw, const kiln_build_options *options, const char *path)
{
    static int32_t bytes[2048];
    static float scores[214];
    static float raw_scores[214];
    for (int i = 0; i < 2048; i++) {
        bytes[i] = (i * 37) % 257;
    }
    kiln_engine *engine = NULL;
    bench_require(kiln_engine_build_file(path, options, &engine));
    kiln_context *context = make_context(engine);
    const kiln_tensor input =
        KILN_HOST_TENSOR(KILN_DTYPE_INT32, KILN_SHAPE(1, 2048), bytes, sizeof bytes);
    const kiln_tensor output =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 214), scores, sizeof scores);
    bench_require(kiln_context_bind(context, "bytes", &input));
    bench_require(kiln_context_bind(context, "target_label", &output));
    bench_require(kiln_context_warmup(context, 5, 0, NULL));
    raw_load(raw, path, NULL, 0);
    raw_bind(
        raw, &(raw_tensor){"bytes", RAW_INT32, {1, 2048}, 2, sizeof bytes, bytes},
        &(raw_tensor){"target_label", RAW_FLOAT32, {1, 214}, 2, sizeof raw_scores, raw_scores});
    for (int i = 0; i < 5; i++) {
        raw_run(raw);
    }
    compare("magika", context, raw, 2);
    if (memcmp(scores, raw_scores, sizeof scores) != 0) {
        (void)fprintf(stderr, "magika: the two results differ\n");
        exit(1);
    }
    raw_unload(raw);
    kiln_context_destroy(context);
}

int main(int count, char **arguments)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime", .threads = 1);
    kiln_backend_info info = {.struct_size = sizeof info};
    bench_require(kiln_backend_choose("onnxruntime", &info));
    (void)printf("Kiln %s against ONNX Runtime %s, RunWithBinding, one thread, medians\n",
                 kiln_version_string(), info.version);
    raw_ort *raw = raw_open(info.library);
    measure_identity(raw, &options);
    if (count > 1) {
        measure_magika(raw, &options, arguments[1]);
    }
    return 0;
}
