/* SPDX-License-Identifier: Apache-2.0 */
/* ResNet-50 and BERT-base on a GPU, from and to pinned memory of the host: through Kiln as it is
 * built and as it is tuned, and through ONNX Runtime called directly as it comes, with its own CUDA
 * graphs, and as a captured graph over device memory without any copy, with the provider's defaults
 * and with what tuning chose. gpu_models LIBONNXRUNTIME [resnet|bert]
 */
#include <kiln/kiln.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench_times.h"
#include "gpu_compare.h"
#include "gpu_scene.h"
#include "models.h"
#include "raw_cuda.h"

#define ROUNDS 5
#define TUNED_PATH "/tmp/kiln_bench_tuned.onnx"
#define WAYS 6
#define RAW_FIRST 2 /* of the ways, the first that is not Kiln's */

/* Which form of a run was kept, beside its figures. */
static void show_form(void *user, kiln_log_level level, const char *component, const char *message)
{
    (void)user;
    (void)level;
    if (strcmp(component, "engine") == 0 && strncmp(message, "kept:", 5) == 0) {
        (void)fprintf(stderr, "%-26s  %s\n", "", message);
    }
}

static void run_kiln(void *user)
{
    bench_require(kiln_context_run(user));
}

static void run_raw(void *user)
{
    raw_cuda_run(user);
}

static kiln_tensor bind_pinned(kiln_context *context, const raw_binding *what, kiln_buffer **buffer)
{
    kiln_tensor tensor;
    kiln_shape shape = {.rank = (int32_t)what->rank};
    for (size_t i = 0; i < what->rank; i++) {
        shape.dims[i] = what->dims[i];
    }
    bench_require(kiln_buffer_create(KILN_LOCATION_PINNED, 0, what->bytes, buffer));
    if (what->data != NULL) {
        memcpy(kiln_buffer_data(*buffer), what->data, what->bytes);
    }
    bench_require(kiln_buffer_tensor(
        *buffer, 0, what->type == FLOAT_TYPE ? KILN_DTYPE_FLOAT32 : KILN_DTYPE_INT64, &shape,
        &tensor));
    bench_require(kiln_context_bind(context, what->name, &tensor));
    return tensor;
}

/* The largest difference over the largest value. */
static double difference(const float *a, const float *b, size_t count)
{
    double most = 0;
    double scale = 1e-30;
    for (size_t i = 0; i < count; i++) {
        const double off = fabs((double)a[i] - (double)b[i]);
        const double size = fabs((double)b[i]);
        most = off > most || isnan(off) ? off : most;
        scale = size > scale ? size : scale;
    }
    return most / scale;
}

/* One context of Kiln's over pinned memory of its own, warm. */
typedef struct kiln_side {
    kiln_context *context;
    kiln_buffer *buffers[SCENE_INPUTS + 1];
    const float *output;
} kiln_side;

static void open_side(kiln_engine *engine, const scene *what, kiln_side *side)
{
    kiln_log_set_sink(show_form, NULL, KILN_LOG_DEBUG);
    kiln_context_counters counters = {.struct_size = sizeof counters};
    bench_require(kiln_context_create(engine, NULL, &side->context));
    for (size_t i = 0; i < what->input_count; i++) {
        (void)bind_pinned(side->context, &what->inputs[i], &side->buffers[i]);
    }
    side->output =
        bind_pinned(side->context, &what->output, &side->buffers[what->input_count]).data;
    bench_require(kiln_context_warmup(side->context, 5, 0, NULL));
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    bench_require(kiln_context_get_counters(side->context, &counters));
    if (counters.graph_captures != 1) {
        (void)fprintf(stderr, "%s: no graph: %s\n", what->name, counters.graph_reason);
    }
}

static void close_side(const scene *what, kiln_side *side)
{
    kiln_context_destroy(side->context);
    for (size_t i = 0; i <= what->input_count; i++) {
        kiln_buffer_destroy(side->buffers[i]);
    }
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

static kiln_engine *tune(const char *library, const scene *what, kiln_tune_result *result)
{
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    kiln_profile_input inputs[SCENE_INPUTS];
    const kiln_profile profile = {.inputs = inputs, .input_count = what->input_count};
    kiln_engine *engine = NULL;
    for (size_t i = 0; i < what->input_count; i++) {
        kiln_shape shape = {.rank = (int32_t)what->inputs[i].rank};
        memcpy(shape.dims, what->inputs[i].dims, what->inputs[i].rank * sizeof(int64_t));
        inputs[i] = (kiln_profile_input){
            .name = what->inputs[i].name, .min = shape, .opt = shape, .max = shape};
    }
    options.backend = "onnxruntime";
    options.library = library;
    options.provider = KILN_PROVIDER_CUDA;
    options.profiles = &profile;
    options.profile_count = 1;
    *result = (kiln_tune_result){.struct_size = sizeof *result};
    bench_require(kiln_engine_tune_file(what->path, &options, result, &engine));
    return engine;
}

static void print_tuning(const kiln_tune_result *tuned, const way *ways)
{
    static const char *const switches[] = {"default", "on", "off"};
    static const char *const searches[] = {"default", "exhaustive", "heuristic", "none"};
    const double gain = 1 - ways[0].median_us / ways[1].median_us;
    (void)fprintf(stderr,
                  "%-26s  of %u ways %u failed; chosen: nhwc %s, convolution search %s, bias fused "
                  "%s, %u merged products, %u fused attentions, %u transposed products; while "
                  "tuning %.2f of %.2f us; gain here %.1f %%\n",
                  "", tuned->tried, tuned->failed, switches[tuned->prefer_nhwc],
                  searches[tuned->conv_search], switches[tuned->fuse_conv_bias],
                  tuned->merged_products, tuned->fused_attentions, tuned->transposed_products,
                  (double)tuned->best_nanoseconds / 1e3, (double)tuned->given_nanoseconds / 1e3,
                  100 * gain);
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

static void measure(raw_cuda *raw, const char *library, kiln_engine *engine, const scene *what,
                    int64_t batch, int *is_first)
{
    way ways[WAYS] = {
        {.name = "kiln_tuned", .run = run_kiln},      {.name = "kiln", .run = run_kiln},
        {.name = "raw_default", .run = run_raw},      {.name = "raw_own_graph", .run = run_raw},
        {.name = "raw_device_graph", .run = run_raw}, {.name = "raw_device_tuned", .run = run_raw}};
    static const raw_form forms[WAYS] = {0, 0, RAW_DEFAULT, RAW_OWN_GRAPH, RAW_DEVICE, RAW_DEVICE};
    const size_t count = what->output.bytes / sizeof(float);
    kiln_side sides[RAW_FIRST];
    kiln_tune_result tuned;
    const char *settings[8];
    char label[64];
    (void)snprintf(label, sizeof label, "%s batch %lld", what->name, (long long)batch);
    kiln_engine *best = tune(library, what, &tuned);
    /* The peer with the same choices has the same network, too. */
    bench_require(kiln_engine_save(best, TUNED_PATH));
    settings_of(&tuned, settings);
    open_side(best, what, &sides[0]);
    open_side(engine, what, &sides[1]);
    for (size_t i = 0; i < WAYS; i++) {
        ways[i].user = i < RAW_FIRST
                           ? (void *)sides[i].context
                           : raw_cuda_load(raw, i == WAYS - 1 ? TUNED_PATH : what->path, forms[i],
                                           i == WAYS - 1 ? settings : NULL, what->inputs,
                                           what->input_count, &what->output, 1);
    }
    compare_ways(ways, WAYS, ROUNDS, 400, 500.0);
    print_ways(label, ways, WAYS);
    (void)fprintf(stderr, "%-26s  differs by %.2e from raw_default, %.2e from raw_own_graph\n", "",
                  difference(sides[0].output, raw_cuda_output(ways[2].user), count),
                  difference(sides[0].output, raw_cuda_output(ways[3].user), count));
    (void)printf("%s\n  ", *is_first ? "" : ",");
    print_ways_json(label, ways, WAYS);
    print_tuning(&tuned, ways);
    (void)fflush(stdout);
    *is_first = 0;
    for (size_t i = 0; i < WAYS; i++) {
        if (i < RAW_FIRST) {
            close_side(what, &sides[i]);
        } else {
            raw_cuda_unload(ways[i].user);
        }
    }
    kiln_engine_release(best);
}

int main(int argc, char **argv)
{
    static const int64_t batches[] = {1, 8, 32};
    if (argc < 2) {
        (void)fprintf(stderr, "usage: gpu_models LIBONNXRUNTIME [resnet|bert]\n");
        return 2;
    }
    int is_first = 1;
    raw_cuda *raw = raw_cuda_open(argv[1]);
    kiln_device_info device = {.struct_size = sizeof device};
    bench_require(kiln_device_get(0, &device));
    (void)printf(
        "{\"bench\": \"gpu_models\", \"device\": \"%s\", \"onnxruntime\": \"%s\", \"results\": [",
        device.name, raw_cuda_version(raw));
    for (int m = 0; m < 2; m++) {
        if (argc > 2 && strcmp(argv[2], m == 0 ? "resnet" : "bert") != 0) {
            continue;
        }
        kiln_engine *engine = NULL;
        kiln_build_options options =
            KILN_BUILD_OPTIONS(.backend = "onnxruntime", .library = argv[1],
                               .provider = KILN_PROVIDER_CUDA);
        for (size_t i = 0; i < 3; i++) {
            scene what = m == 0 ? resnet_scene(batches[i]) : bert_scene(batches[i]);
            if (engine == NULL) {
                (m == 0 ? model_resnet50 : model_bert)(what.path);
                bench_require(kiln_engine_build_file(what.path, &options, &engine));
                (void)fprintf(stderr, "%s: %zu nodes on the CPU\n", what.name,
                              kiln_engine_host_node_count(engine));
            }
            measure(raw, argv[1], engine, &what, batches[i], &is_first);
            scene_finish(&what);
        }
        kiln_engine_release(engine);
    }
    (void)printf("\n]}\n");
    return 0;
}
