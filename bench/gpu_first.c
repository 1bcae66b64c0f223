/* SPDX-License-Identifier: Apache-2.0 */
/* From a plan's file to the first answer, through Kiln and by direct calls (deserialize, create a
 * context, one run from and to ordinary memory), in turns within one process, where libraries and
 * driver are ready.
 *
 *     bench_gpu_first LIBNVINFER PLAN ROUNDS BATCH NAME=DIMS...
 */
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"
#include "plan_feed.h"
#include "raw_trt.h"

#define MOST_ROUNDS 64

typedef struct job {
    const char *library;
    const char *plan;
    int64_t batch;
    char **shapes;
    size_t shape_count;
    raw_trt *trt;
    kiln_named_tensor tensors[FEED_MOST]; /* of the inputs, in ordinary memory */
    /* The request: filled and measured out beforehand, where there is a beforehand. */
    raw_tensor inputs[FEED_MOST];
    raw_tensor outputs[FEED_MOST];
    size_t input_count;
    size_t output_count;
} job;

static kiln_engine *load(const job *work)
{
    kiln_engine *engine = NULL;
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = work->library);
    bench_require(kiln_engine_load(work->plan, &options, &engine));
    return engine;
}

/* Milliseconds from the beginning on. */
typedef struct steps {
    double loaded; /* there is an engine */
    double ready;  /* and a context */
    double answered;
} steps;

static steps through_kiln(const job *work)
{
    steps took;
    kiln_context *context = NULL;
    kiln_named_tensor outputs[FEED_MOST];
    const double begin = bench_milliseconds();
    kiln_engine *engine = load(work);
    took.loaded = bench_milliseconds() - begin;
    bench_require(kiln_context_create(engine, NULL, &context));
    took.ready = bench_milliseconds() - begin;
    for (size_t i = 0; i < work->output_count; i++) {
        outputs[i] = (kiln_named_tensor){.name = work->outputs[i].name};
    }
    bench_require(kiln_context_run_tensors(context, work->tensors, work->input_count, outputs,
                                           work->output_count));
    took.answered = bench_milliseconds() - begin;
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    return took;
}

/* `ready` is not told apart from the answer. */
static steps directly(const job *work, raw_trt_load way)
{
    const double begin = bench_milliseconds();
    raw_plan *plan = raw_plan_load(work->trt, work->plan, way);
    steps took = {.ready = 0, .loaded = bench_milliseconds() - begin};
    raw_context *context = raw_context_create(plan, RAW_TRT_PAGEABLE, work->inputs,
                                              work->input_count, work->outputs, work->output_count);
    took.answered = bench_milliseconds() - begin;
    raw_context_destroy(context);
    raw_plan_unload(plan);
    return took;
}

/* The request, and its memory, which stays with `fed`. */
static void prepare(job *work, feed *fed)
{
    kiln_engine *engine = load(work);
    feed_open(fed, engine, KILN_LOCATION_HOST, work->batch, work->shapes, work->shape_count);
    feed_raw(fed, work->inputs, work->outputs);
    work->input_count = fed->input_count;
    work->output_count = fed->output_count;
    for (size_t i = 0; i < fed->input_count; i++) {
        work->tensors[i] = (kiln_named_tensor){fed->inputs[i].name, fed->inputs[i].tensor};
    }
    kiln_engine_release(engine);
}

static double median_of(const steps *rounds, size_t count, size_t offset)
{
    double values[MOST_ROUNDS];
    for (size_t i = 0; i < count; i++) {
        memcpy(&values[i], (const char *)&rounds[i] + offset, sizeof values[i]);
    }
    return bench_median(values, count);
}

static void in_turns(job *work, size_t rounds)
{
    steps kiln[MOST_ROUNDS];
    steps raw[RAW_TRT_LOADS][MOST_ROUNDS];
    double ratios[MOST_ROUNDS];
    feed fed;
    prepare(work, &fed);
    work->trt = raw_trt_open(work->library);
    (void)through_kiln(work);
    (void)directly(work, RAW_TRT_READ);
    for (size_t i = 0; i < rounds; i++) {
        for (size_t turn = 0; turn <= RAW_TRT_LOADS; turn++) {
            const size_t which = (i + turn) % (RAW_TRT_LOADS + 1);
            if (which == RAW_TRT_LOADS) {
                kiln[i] = through_kiln(work);
            } else {
                raw[which][i] = directly(work, (raw_trt_load)which);
            }
        }
        ratios[i] = kiln[i].answered / raw[RAW_TRT_READ][i].answered;
    }
    const double ratio = bench_median(ratios, rounds);
    (void)printf(
        "{\"batch\": %lld, \"rounds\": %zu, \"kiln_ms\": %.3f, \"direct_ms\": %.3f, \"ratio\": "
        "[%.4f, %.4f, %.4f], \"kiln_loaded_ms\": %.3f, \"kiln_ready_ms\": %.3f, "
        "\"direct_loaded_ms\": %.3f, \"mapped_loaded_ms\": %.3f}\n",
        (long long)work->batch, rounds, median_of(kiln, rounds, offsetof(steps, answered)),
        median_of(raw[RAW_TRT_READ], rounds, offsetof(steps, answered)), ratios[0], ratio,
        ratios[rounds - 1], median_of(kiln, rounds, offsetof(steps, loaded)),
        median_of(kiln, rounds, offsetof(steps, ready)),
        median_of(raw[RAW_TRT_READ], rounds, offsetof(steps, loaded)),
        median_of(raw[RAW_TRT_MAP], rounds, offsetof(steps, loaded)));
    feed_close(&fed);
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        (void)fprintf(stderr, "usage: %s LIBNVINFER PLAN ROUNDS BATCH NAME=DIMS...\n", argv[0]);
        return 2;
    }
    job work = {.library = argv[1],
                .plan = argv[2],
                .batch = strtoll(argv[4], NULL, 10),
                .shapes = argv + 5,
                .shape_count = (size_t)argc - 5};
    const long rounds = strtol(argv[3], NULL, 10);
    in_turns(&work, rounds < 1 ? 1 : rounds > MOST_ROUNDS ? MOST_ROUNDS : (size_t)rounds);
    return 0;
}
