/* SPDX-License-Identifier: Apache-2.0 */
/* ResNet-50 and BERT-base on a GPU, from and to pinned memory of the host: through Kiln, and
 * through ONNX Runtime called directly as it comes, with its own CUDA graphs, and (ResNet-50, batch
 * 1) as a captured graph over device memory without any copy. gpu_models LIBONNXRUNTIME
 * [resnet|bert]
 */
#include <kiln/kiln.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu_compare.h"
#include "models.h"
#include "raw_cuda.h"

#define ROUNDS 5
#define FLOAT_TYPE 1U
#define INT64_TYPE 7U
#define MOST_INPUTS 3

static void require(kiln_status status)
{
    if (status != KILN_OK) {
        (void)fprintf(stderr, "kiln: %s\n", kiln_error_message());
        exit(1);
    }
}

static void run_kiln(void *user)
{
    require(kiln_context_run(user));
}

static void run_raw(void *user)
{
    raw_cuda_run(user);
}

/* One model at one batch size. */
typedef struct scene {
    const char *name;
    const char *path;
    raw_binding inputs[MOST_INPUTS];
    size_t input_count;
    raw_binding output;
} scene;

static void *values_for(unsigned type, size_t bytes, int64_t most)
{
    void *data = malloc(bytes);
    if (data == NULL) {
        exit(1);
    }
    uint32_t seed = 7;
    const size_t count = bytes / (type == FLOAT_TYPE ? sizeof(float) : sizeof(int64_t));
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525U + 1013904223U;
        if (type == FLOAT_TYPE) {
            ((float *)data)[i] = (float)(seed >> 8) / 8388608.0F - 1.0F;
        } else {
            ((int64_t *)data)[i] = most == 1 ? 1 : (int64_t)(seed >> 8) % most;
        }
    }
    return data;
}

static scene resnet_scene(int64_t batch)
{
    scene made = {.name = "resnet50", .path = "/tmp/kiln_bench_resnet50.onnx", .input_count = 1};
    made.inputs[0] = (raw_binding){.name = "image",
                                   .type = FLOAT_TYPE,
                                   .dims = {batch, 3, 224, 224},
                                   .rank = 4,
                                   .bytes = (size_t)batch * 3 * 224 * 224 * sizeof(float)};
    made.inputs[0].data = values_for(FLOAT_TYPE, made.inputs[0].bytes, 0);
    made.output = (raw_binding){.name = "scores",
                                .type = FLOAT_TYPE,
                                .dims = {batch, 1000},
                                .rank = 2,
                                .bytes = (size_t)batch * 1000 * sizeof(float)};
    return made;
}

static scene bert_scene(int64_t batch)
{
    static const char *const names[] = {"ids", "types", "mask"};
    static const int64_t most[] = {30522, 2, 1};
    scene made = {.name = "bert_base", .path = "/tmp/kiln_bench_bert.onnx", .input_count = 3};
    for (size_t i = 0; i < 3; i++) {
        made.inputs[i] = (raw_binding){.name = names[i],
                                       .type = INT64_TYPE,
                                       .dims = {batch, BERT_TOKENS},
                                       .rank = 2,
                                       .bytes = (size_t)batch * BERT_TOKENS * sizeof(int64_t)};
        made.inputs[i].data = values_for(INT64_TYPE, made.inputs[i].bytes, most[i]);
    }
    made.output = (raw_binding){.name = "hidden",
                                .type = FLOAT_TYPE,
                                .dims = {batch, BERT_TOKENS, 768},
                                .rank = 3,
                                .bytes = (size_t)batch * BERT_TOKENS * 768 * sizeof(float)};
    return made;
}

static kiln_tensor bind_pinned(kiln_context *context, const raw_binding *what, kiln_buffer **buffer)
{
    kiln_tensor tensor;
    kiln_shape shape = {.rank = (int32_t)what->rank};
    for (size_t i = 0; i < what->rank; i++) {
        shape.dims[i] = what->dims[i];
    }
    require(kiln_buffer_create(KILN_LOCATION_PINNED, 0, what->bytes, buffer));
    if (what->data != NULL) {
        memcpy(kiln_buffer_data(*buffer), what->data, what->bytes);
    }
    require(kiln_buffer_tensor(*buffer, 0,
                               what->type == FLOAT_TYPE ? KILN_DTYPE_FLOAT32 : KILN_DTYPE_INT64,
                               &shape, &tensor));
    require(kiln_context_bind(context, what->name, &tensor));
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

static void measure(raw_cuda *raw, kiln_engine *engine, const scene *what, int64_t batch,
                    int *is_first)
{
    way ways[4] = {{.name = "kiln", .run = run_kiln},
                   {.name = "raw_default", .run = run_raw},
                   {.name = "raw_own_graph", .run = run_raw},
                   {.name = "raw_device_graph", .run = run_raw}};
    static const raw_form forms[] = {RAW_DEFAULT, RAW_DEFAULT, RAW_OWN_GRAPH, RAW_DEVICE};
    const size_t count = batch == 1 ? 4 : 3;
    kiln_buffer *buffers[MOST_INPUTS + 1];
    kiln_context *context = NULL;
    char label[64];
    (void)snprintf(label, sizeof label, "%s batch %lld", what->name, (long long)batch);
    require(kiln_context_create(engine, NULL, &context));
    for (size_t i = 0; i < what->input_count; i++) {
        (void)bind_pinned(context, &what->inputs[i], &buffers[i]);
    }
    const kiln_tensor output = bind_pinned(context, &what->output, &buffers[what->input_count]);
    require(kiln_context_warmup(context, 5, 0, NULL));
    kiln_context_counters counters = {.struct_size = sizeof counters};
    require(kiln_context_get_counters(context, &counters));
    if (counters.graph_captures != 1) {
        (void)fprintf(stderr, "%s: no graph: %s\n", label, counters.graph_reason);
    }
    ways[0].user = context;
    for (size_t i = 1; i < count; i++) {
        ways[i].user = raw_cuda_load(raw, what->path, forms[i], what->inputs, what->input_count,
                                     &what->output, 1);
    }
    compare_ways(ways, count, ROUNDS, 400, 500.0);
    print_ways(label, ways, count);
    (void)fprintf(
        stderr, "%-26s  differs by %.2e from raw_default, %.2e from raw_own_graph\n", "",
        difference(output.data, raw_cuda_output(ways[1].user), what->output.bytes / sizeof(float)),
        difference(output.data, raw_cuda_output(ways[2].user), what->output.bytes / sizeof(float)));
    (void)printf("%s\n  ", *is_first ? "" : ",");
    print_ways_json(label, ways, count);
    *is_first = 0;
    for (size_t i = 1; i < count; i++) {
        raw_cuda_unload(ways[i].user);
    }
    kiln_context_destroy(context);
    for (size_t i = 0; i <= what->input_count; i++) {
        kiln_buffer_destroy(buffers[i]);
    }
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
    require(kiln_device_get(0, &device));
    (void)printf(
        "{\"bench\": \"gpu_models\", \"device\": \"%s\", \"onnxruntime\": \"%s\", "
        "\"results\": [",
        device.name, raw_cuda_version(raw));
    for (int m = 0; m < 2; m++) {
        if (argc > 2 && strcmp(argv[2], m == 0 ? "resnet" : "bert") != 0) {
            continue;
        }
        kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
        kiln_engine *engine = NULL;
        options.backend = "onnxruntime";
        options.library = argv[1];
        options.provider = KILN_PROVIDER_CUDA;
        for (size_t i = 0; i < 3; i++) {
            const scene what = m == 0 ? resnet_scene(batches[i]) : bert_scene(batches[i]);
            if (engine == NULL) {
                (m == 0 ? model_resnet50 : model_bert)(what.path);
                require(kiln_engine_build_file(what.path, &options, &engine));
                (void)fprintf(stderr, "%s: %zu nodes on the CPU\n", what.name,
                              kiln_engine_host_node_count(engine));
            }
            measure(raw, engine, &what, batches[i], &is_first);
            for (size_t k = 0; k < what.input_count; k++) {
                free((void *)(uintptr_t)what.inputs[k].data);
            }
        }
        kiln_engine_release(engine);
    }
    (void)printf("\n]}\n");
    return 0;
}
