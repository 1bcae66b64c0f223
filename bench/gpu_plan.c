/* SPDX-License-Identifier: Apache-2.0 */
/* One plan of TensorRT's, from and to memory of the host: through Kiln and by direct calls in every
 * form, in turns, at several batch sizes.
 *
 *     bench_gpu_plan LIBNVINFER PLAN SECONDS BATCHES NAME=DIMS...
 *
 * BATCHES as 1,8,32; DIMS as Nx3x224x224, N for the batch. SECONDS is what all of it may take.
 */
#include <kiln/kiln.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_times.h"
#include "gpu_compare.h"
#include "plan_feed.h"
#include "raw_trt.h"

#define ROUNDS 15
#define KILN_WAYS 3
#define WAYS (KILN_WAYS + RAW_TRT_FORMS)

static void run_raw(void *user)
{
    raw_context_run(user);
}

static double difference(const feed *fed, const raw_context *raw)
{
    double most = 0;
    for (size_t i = 0; i < fed->output_count; i++) {
        const double one = feed_difference(fed, i, raw_context_output(raw, i));
        most = one > most || isnan(one) ? one : most;
    }
    return most;
}

/* The fastest of the direct forms that begin and end in memory of the host. */
static size_t best_raw(const way *ways)
{
    size_t best = KILN_WAYS;
    for (size_t i = KILN_WAYS; i < WAYS; i++) {
        if (i - KILN_WAYS != RAW_TRT_DEVICE && ways[i].median_us < ways[best].median_us) {
            best = i;
        }
    }
    return best;
}

static void print(const char *what, const way *ways, double off, uint64_t graphs, bool is_first)
{
    const size_t best = best_raw(ways);
    print_ways(what, ways, WAYS);
    (void)fprintf(stderr, "  best direct %s: ratio %.4f [%.4f, %.4f], outputs differ by %.2g\n",
                  ways[best].name, ways[best].ratio, ways[best].ratio_low, ways[best].ratio_high,
                  off);
    (void)printf("%s\n  ", is_first ? "" : ",");
    print_ways_json(what, ways, WAYS);
    (void)printf(
        ", \"best_direct\": \"%s\", \"ratio\": [%.4f, %.4f, %.4f], \"difference\": %.3g, "
        "\"graphs\": %llu}",
        ways[best].name, ways[best].ratio_low, ways[best].ratio, ways[best].ratio_high, off,
        (unsigned long long)graphs);
}

static void measure(kiln_engine *engine, raw_plan *plan, int64_t batch, char **shapes, size_t count,
                    double seconds, bool is_first)
{
    static const kiln_location places[KILN_WAYS] = {KILN_LOCATION_PINNED, KILN_LOCATION_HOST,
                                                    KILN_LOCATION_DEVICE};
    static const char *const names[KILN_WAYS] = {"kiln_pinned", "kiln_host", "kiln_device"};
    const uint64_t begin = bench_now();
    char what[32];
    way ways[WAYS];
    feed feeds[KILN_WAYS];
    uint64_t graphs[KILN_WAYS];
    (void)snprintf(what, sizeof what, "batch %lld", (long long)batch);
    for (size_t i = 0; i < KILN_WAYS; i++) {
        feed_open(&feeds[i], engine, places[i], batch, shapes, count);
        graphs[i] = feed_warm_up(&feeds[i], names[i]);
        ways[i] = (way){.name = names[i], .run = feed_run, .user = &feeds[i]};
    }
    raw_tensor inputs[FEED_MOST];
    raw_tensor outputs[FEED_MOST];
    feed_raw(&feeds[1], inputs, outputs);
    for (size_t i = 0; i < RAW_TRT_FORMS; i++) {
        raw_context *context = raw_context_create(
            plan, (raw_trt_form)i, inputs, feeds[1].input_count, outputs, feeds[1].output_count);
        ways[KILN_WAYS + i] = (way){.name = raw_trt_names[i], .run = run_raw, .user = context};
    }
    const double spent = (double)(bench_now() - begin) / 1e9;
    const double left = seconds > spent + 0.5 ? seconds - spent : 0.5;
    compare_ways(ways, WAYS, ROUNDS, 2000, left * 1e3 / (ROUNDS * WAYS));
    /* The device's way has left its outputs there; the pinned one's can be read. */
    feed_run(&feeds[0]);
    raw_context_run(ways[KILN_WAYS + RAW_TRT_COPIES].user);
    print(what, ways, difference(&feeds[0], ways[KILN_WAYS + RAW_TRT_COPIES].user), graphs[0],
          is_first);
    for (size_t i = 0; i < RAW_TRT_FORMS; i++) {
        raw_context_destroy(ways[KILN_WAYS + i].user);
    }
    for (size_t i = 0; i < KILN_WAYS; i++) {
        feed_close(&feeds[i]);
    }
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        (void)fprintf(stderr, "usage: %s LIBNVINFER PLAN SECONDS BATCHES NAME=DIMS...\n", argv[0]);
        return 2;
    }
    int64_t batches[FEED_BATCHES];
    const size_t count = feed_batches(argv[4], batches);
    kiln_device_info device = {.struct_size = sizeof device};
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = argv[1]);
    bench_require(kiln_device_get(0, &device));
    bench_require(kiln_engine_load(argv[2], &options, &engine));
    raw_trt *trt = raw_trt_open(argv[1]);
    raw_plan *plan = raw_plan_load(trt, argv[2], RAW_TRT_READ);
    (void)printf(
        "{\"bench\": \"gpu_plan\", \"device\": \"%s\", \"tensorrt\": %d, \"plan\": \"%s\", "
        "\"results\": [",
        device.name, raw_trt_version(trt), argv[2]);
    for (size_t i = 0; i < count; i++) {
        measure(engine, plan, batches[i], argv + 5, (size_t)argc - 5,
                strtod(argv[3], NULL) / (double)count, i == 0);
    }
    (void)printf("\n]}\n");
    raw_plan_unload(plan);
    kiln_engine_release(engine);
    return 0;
}
