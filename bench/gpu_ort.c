/* SPDX-License-Identifier: Apache-2.0 */
/* A model through ONNX Runtime's CUDA provider: through Kiln, tuned and as built, from each kind of
 * memory, and by direct calls in every form that they can have, with the provider's defaults and
 * with what tuning chose; in turns, at several batch sizes.
 *
 *     bench_gpu_ort LIBONNXRUNTIME MODEL BATCHES NAME=DIMS...
 *
 * BATCHES as 1,8,32; DIMS as Nx3x224x224, N for the batch.
 */
#include <kiln/kiln.h>
#include <stdio.h>
#include <string.h>

#include "bench_times.h"
#include "gpu_compare.h"
#include "plan_feed.h"
#include "raw_cuda.h"

#define ROUNDS 7
#define KILN_WAYS 4
#define WAYS 10
#define TUNED_PATH "/tmp/kiln_bench_tuned.onnx"

static void run_raw(void *user)
{
    raw_cuda_run(user);
}

static kiln_build_options options_for(const char *library)
{
    const kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .library = library,
                           .provider = KILN_PROVIDER_CUDA);
    return options;
}

/* Tuned for the shapes of `fed`. */
static kiln_engine *tune(const char *library, const char *path, const feed *fed,
                         kiln_tune_result *result)
{
    kiln_build_options options = options_for(library);
    kiln_profile_input inputs[FEED_MOST];
    const kiln_profile profile = {.inputs = inputs, .input_count = fed->input_count};
    kiln_engine *engine = NULL;
    for (size_t i = 0; i < fed->input_count; i++) {
        const kiln_shape shape = fed->inputs[i].tensor.desc.shape;
        inputs[i] = (kiln_profile_input){
            .name = fed->inputs[i].name, .min = shape, .opt = shape, .max = shape};
    }
    options.profiles = &profile;
    options.profile_count = 1;
    *result = (kiln_tune_result){.struct_size = sizeof *result};
    bench_require(kiln_engine_tune_file(path, &options, result, &engine));
    /* The peer with the same choices has the same network, too. */
    bench_require(kiln_engine_save(engine, TUNED_PATH));
    return engine;
}

/* What tuning chose, in the words of the provider. */
static void settings_of(const kiln_tune_result *tuned, const char **settings)
{
    static const char *const searches[] = {NULL, "EXHAUSTIVE", "HEURISTIC", "DEFAULT"};
    size_t count = 0;
    if (tuned->prefer_nhwc != KILN_SWITCH_DEFAULT) {
        settings[count++] = "prefer_nhwc";
        settings[count++] = tuned->prefer_nhwc == KILN_SWITCH_ON ? "1" : "0";
    }
    if (searches[tuned->conv_search] != NULL) {
        settings[count++] = "cudnn_conv_algo_search";
        settings[count++] = searches[tuned->conv_search];
    }
    if (tuned->fuse_conv_bias != KILN_SWITCH_DEFAULT) {
        settings[count++] = "fuse_conv_bias";
        settings[count++] = tuned->fuse_conv_bias == KILN_SWITCH_ON ? "1" : "0";
    }
    settings[count] = NULL;
}

static void print_tuning(const kiln_tune_result *tuned, double gain)
{
    static const char *const switches[] = {"default", "on", "off"};
    static const char *const searches[] = {"default", "exhaustive", "heuristic", "none"};
    (void)printf(
        ", \"tuned\": {\"tried\": %u, \"failed\": %u, \"given_us\": %.3f, \"best_us\": %.3f, "
        "\"prefer_nhwc\": \"%s\", \"conv_search\": \"%s\", \"fuse_conv_bias\": \"%s\", "
        "\"merged_products\": %u, \"fused_attentions\": %u, \"transposed_products\": %u, \"gain\": "
        "%.4f}}",
        tuned->tried, tuned->failed, (double)tuned->given_nanoseconds / 1e3,
        (double)tuned->best_nanoseconds / 1e3, switches[tuned->prefer_nhwc],
        searches[tuned->conv_search], switches[tuned->fuse_conv_bias], tuned->merged_products,
        tuned->fused_attentions, tuned->transposed_products, gain);
}

static void measure(raw_cuda *raw, const char *library, const char *path, kiln_engine *engine,
                    int64_t batch, char **shapes, size_t count)
{
    static const kiln_location places[KILN_WAYS] = {KILN_LOCATION_PINNED, KILN_LOCATION_PINNED,
                                                    KILN_LOCATION_HOST, KILN_LOCATION_DEVICE};
    static const char *const names[WAYS] = {
        "kiln_tuned",    "kiln_pinned", "kiln_host",  "kiln_device", "raw_default",
        "raw_own_graph", "raw_copies",  "raw_mapped", "raw_device",  "raw_device_tuned"};
    static const raw_form forms[WAYS] = {[4] = RAW_DEFAULT, RAW_OWN_GRAPH, RAW_COPIES,
                                         RAW_MAPPED,        RAW_DEVICE,    RAW_DEVICE};
    char what[32];
    way ways[WAYS];
    feed feeds[KILN_WAYS];
    raw_tensor inputs[FEED_MOST];
    raw_tensor outputs[FEED_MOST];
    kiln_tune_result tuned;
    const char *settings[8];
    (void)snprintf(what, sizeof what, "batch %lld", (long long)batch);
    for (size_t i = KILN_WAYS; i-- > 0;) {
        kiln_engine *best = i == 0 ? tune(library, path, &feeds[1], &tuned) : NULL;
        feed_open(&feeds[i], i == 0 ? best : engine, places[i], batch, shapes, count);
        (void)feed_warm_up(&feeds[i], names[i]);
        ways[i] = (way){.name = names[i], .run = feed_run, .user = &feeds[i]};
        kiln_engine_release(best);
    }
    settings_of(&tuned, settings);
    feed_raw(&feeds[1], inputs, outputs);
    for (size_t i = KILN_WAYS; i < WAYS; i++) {
        const bool as_tuned = i == WAYS - 1;
        ways[i] = (way){.name = names[i], .run = run_raw};
        ways[i].user =
            raw_cuda_load(raw, as_tuned ? TUNED_PATH : path, forms[i], as_tuned ? settings : NULL,
                          inputs, feeds[1].input_count, outputs, feeds[1].output_count);
    }
    compare_ways(ways, WAYS, ROUNDS, 1000, 200.0);
    print_ways(what, ways, WAYS);
    (void)fprintf(stderr, "  tuned differs by %.2e from raw_default, %.2e from raw_own_graph\n",
                  feed_difference(&feeds[0], 0, raw_cuda_output(ways[4].user)),
                  feed_difference(&feeds[0], 0, raw_cuda_output(ways[5].user)));
    print_ways_json(what, ways, WAYS);
    print_tuning(&tuned, 1 - ways[0].median_us / ways[1].median_us);
    for (size_t i = 0; i < WAYS; i++) {
        if (i < KILN_WAYS) {
            feed_close(&feeds[i]);
        } else {
            raw_cuda_unload(ways[i].user);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        (void)fprintf(stderr, "usage: %s LIBONNXRUNTIME MODEL BATCHES NAME=DIMS...\n", argv[0]);
        return 2;
    }
    int64_t batches[FEED_BATCHES];
    const size_t count = feed_batches(argv[3], batches);
    raw_cuda *raw = raw_cuda_open(argv[1]);
    kiln_device_info device = {.struct_size = sizeof device};
    kiln_engine *engine = NULL;
    const kiln_build_options options = options_for(argv[1]);
    bench_require(kiln_device_get(0, &device));
    bench_require(kiln_engine_build_file(argv[2], &options, &engine));
    (void)fprintf(stderr, "%s: %zu nodes on the CPU\n", argv[2],
                  kiln_engine_host_node_count(engine));
    (void)printf(
        "{\"bench\": \"gpu_ort\", \"device\": \"%s\", \"onnxruntime\": \"%s\", "
        "\"model\": \"%s\", \"results\": [",
        device.name, raw_cuda_version(raw), argv[2]);
    for (size_t i = 0; i < count; i++) {
        (void)printf("%s\n  ", i == 0 ? "" : ",");
        measure(raw, argv[1], argv[2], engine, batches[i], argv + 4, (size_t)argc - 4);
        (void)fflush(stdout);
    }
    (void)printf("\n]}\n");
    kiln_engine_release(engine);
    return 0;
}
