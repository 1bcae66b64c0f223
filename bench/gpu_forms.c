/* SPDX-License-Identifier: Apache-2.0 */
/* What a small network costs on a GPU, from and to memory of the host, through Kiln and in each of
 * the forms that direct calls can have. gpu_forms LIBONNXRUNTIME
 */
#include <kiln/kiln.h>
#include <stdio.h>
#include <string.h>

#include "bench_times.h"
#include "gpu_compare.h"
#include "models.h"
#include "raw_cuda.h"

#define ROUNDS 7
#define LARGEST 131072
#define FLOAT_TYPE 1U

static void run_kiln(void *user)
{
    bench_require(kiln_context_run(user));
}

static void run_raw(void *user)
{
    raw_cuda_run(user);
}

/* A context bound to buffers of `location`, warm. */
static kiln_context *bound(kiln_engine *engine, kiln_location location, int64_t count,
                           kiln_buffer *buffers[2])
{
    static const char *const names[] = {"x", "y"};
    static float values[LARGEST];
    const kiln_shape shape = KILN_SHAPE(count);
    kiln_context *context = NULL;
    bench_require(kiln_context_create(engine, NULL, &context));
    for (size_t i = 0; i < 2; i++) {
        kiln_tensor tensor;
        const size_t bytes = (size_t)count * sizeof(float);
        bench_require(kiln_buffer_create(location, 0, bytes, &buffers[i]));
        for (int64_t k = 0; k < count; k++) {
            values[k] = i == 0 ? (float)k : 0.0F;
        }
        bench_require(kiln_buffer_write(buffers[i], 0, (kiln_span){values, bytes}, NULL));
        bench_require(kiln_buffer_tensor(buffers[i], 0, KILN_DTYPE_FLOAT32, &shape, &tensor));
        bench_require(kiln_context_bind(context, names[i], &tensor));
    }
    bench_require(kiln_context_warmup(context, 20, 0, NULL));
    return context;
}

static void report_graph(kiln_context *context, const char *what)
{
    kiln_context_counters counters = {.struct_size = sizeof counters};
    bench_require(kiln_context_get_counters(context, &counters));
    if (counters.graph_captures != 1) {
        (void)fprintf(stderr, "%s: no graph: %s\n", what, counters.graph_reason);
    }
}

static void measure(raw_cuda *raw, kiln_engine *engine, const char *path, const char *name,
                    int64_t count, int *is_first)
{
    static const raw_form forms[] = {RAW_DEFAULT, RAW_COPIES, RAW_MAPPED, RAW_DEVICE};
    static float values[LARGEST];
    char what[64];
    way ways[7] = {{.name = "kiln_pinned"}, {.name = "kiln_host"},  {.name = "kiln_device"},
                   {.name = "raw_plain"},   {.name = "raw_copies"}, {.name = "raw_mapped"},
                   {.name = "raw_device"}};
    const kiln_location places[] = {KILN_LOCATION_PINNED, KILN_LOCATION_HOST, KILN_LOCATION_DEVICE};
    kiln_buffer *buffers[3][2];
    raw_binding x = {.name = "x",
                     .type = FLOAT_TYPE,
                     .dims = {count},
                     .rank = 1,
                     .bytes = (size_t)count * sizeof(float),
                     .data = values};
    raw_binding y = x;
    y.name = "y";
    y.data = NULL;
    for (int64_t i = 0; i < count; i++) {
        values[i] = (float)i;
    }
    (void)snprintf(what, sizeof what, "%s %lld", name, (long long)count);
    for (size_t i = 0; i < 3; i++) {
        ways[i].run = run_kiln;
        ways[i].user = bound(engine, places[i], count, buffers[i]);
        report_graph(ways[i].user, what);
    }
    for (size_t i = 0; i < 4; i++) {
        ways[3 + i].run = run_raw;
        ways[3 + i].user = raw_cuda_load(raw, path, forms[i], NULL, &x, 1, &y, 1);
    }
    compare_ways(ways, 7, ROUNDS, 1000, 60.0);
    print_ways(what, ways, 7);
    (void)printf("%s\n  ", *is_first ? "" : ",");
    print_ways_json(what, ways, 7);
    (void)printf("}");
    *is_first = 0;
    for (size_t i = 0; i < 3; i++) {
        kiln_context_destroy(ways[i].user);
        kiln_buffer_destroy(buffers[i][0]);
        kiln_buffer_destroy(buffers[i][1]);
    }
    for (size_t i = 0; i < 4; i++) {
        raw_cuda_unload(ways[3 + i].user);
    }
}

int main(int argc, char **argv)
{
    static const int64_t counts[] = {64, 1024, 16384, LARGEST};
    static const struct {
        const char *name;
        const char *path;
        kiln_activation kind;
    } models[] = {{"identity", "/tmp/kiln_bench_identity.onnx", KILN_ACTIVATION_IDENTITY},
                  {"relu", "/tmp/kiln_bench_relu.onnx", KILN_ACTIVATION_RELU}};
    if (argc != 2) {
        (void)fprintf(stderr, "usage: gpu_forms LIBONNXRUNTIME\n");
        return 2;
    }
    int is_first = 1;
    raw_cuda *raw = raw_cuda_open(argv[1]);
    kiln_device_info device = {.struct_size = sizeof device};
    bench_require(kiln_device_get(0, &device));
    (void)printf(
        "{\"bench\": \"gpu_forms\", \"device\": \"%s\", \"onnxruntime\": \"%s\", \"results\": [",
        device.name, raw_cuda_version(raw));
    for (size_t m = 0; m < 2; m++) {
        kiln_engine *engine = NULL;
        kiln_build_options options =
            KILN_BUILD_OPTIONS(.backend = "onnxruntime", .library = argv[1],
                               .provider = KILN_PROVIDER_CUDA);
        model_unary(models[m].path, models[m].kind);
        bench_require(kiln_engine_build_file(models[m].path, &options, &engine));
        for (size_t i = 0; i < 4; i++) {
            measure(raw, engine, models[m].path, models[m].name, counts[i], &is_first);
        }
        kiln_engine_release(engine);
    }
    (void)printf("\n]}\n");
    return 0;
}
