/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_gpu.h"
#include "cli_layers.h"
#include "cli_list.h"
#include "cli_model.h"
#include "cli_raw.h"
#include "cli_statistics.h"

typedef struct bench_settings {
    cli_model_settings model;
    cli_input_settings inputs;
    double duration; /* seconds */
    double warmup;   /* milliseconds */
    int64_t iterations;
    bool json;
    bool compare_raw;
    bool layers;
} bench_settings;

/* What was measured. */
typedef struct measurement {
    uint64_t *times; /* of each inference, in nanoseconds */
    size_t count;
    size_t capacity;
    uint64_t wall; /* from the first one's start to the last one's end */
    uint64_t warmup_runs;
    uint64_t warmup_wall;
    uint64_t first;                 /* the very first inference, which is part of the warmup */
    unsigned long long allocations; /* Kiln's own, while it was measured */
    cli_gpu_times gpu;              /* nothing for an engine on the CPU */
    cli_raw_times raw;              /* nothing unless it is asked for */
} measurement;

/* --- measuring --- */

/* Room for as many times as are likely, so that none is made while the clock runs. */
static void make_room(measurement *found)
{
    if (found->count == found->capacity) {
        found->capacity = found->capacity == 0 ? (size_t)1 << 18 : found->capacity * 2;
        found->times = cli_grow(found->times, found->capacity * sizeof *found->times);
        memset(found->times + found->count, 0,
               (found->capacity - found->count) * sizeof *found->times);
    }
}

static kiln_status warm_up(kiln_context *context, const bench_settings *settings,
                           measurement *found)
{
    const uint64_t begin = cli_now();
    const double limit = settings->warmup * 1e6;
    kiln_status status = KILN_OK;
    do {
        const uint64_t start = cli_now();
        status = kiln_context_run(context);
        const uint64_t end = cli_now();
        found->first = found->warmup_runs == 0 ? end - start : found->first;
        found->warmup_runs++;
        found->warmup_wall = end - begin;
    } while (status == KILN_OK && (double)found->warmup_wall < limit);
    return status;
}

static kiln_status measure(kiln_context *context, const bench_settings *settings,
                           measurement *found)
{
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    const double limit = settings->duration * 1e9;
    const double enough = (double)settings->iterations;
    make_room(found);
    kiln_get_allocation_counters(&before);
    const uint64_t begin = cli_now();
    uint64_t end = begin;
    while ((double)(end - begin) < limit || (double)found->count < enough) {
        make_room(found);
        const uint64_t start = cli_now();
        const kiln_status status = kiln_context_run(context);
        end = cli_now();
        if (status != KILN_OK) {
            return status;
        }
        found->times[found->count++] = end - start;
        const double by_time = limit > 0 ? (double)(end - begin) / limit : 1;
        const double by_count = enough > 0 ? (double)found->count / enough : 1;
        cli_progress_set(by_time < by_count ? by_time : by_count);
    }
    found->wall = end - begin;
    kiln_get_allocation_counters(&after);
    found->allocations = after.allocations - before.allocations;
    return KILN_OK;
}

/* --- showing --- */

static double throughput(const measurement *found)
{
    return (double)found->count / ((double)found->wall / 1e9);
}

static void print_inputs(const kiln_engine *engine, kiln_context *context)
{
    cli_table table;
    cli_table_init(&table, "llll", NULL);
    for (size_t i = 0; i < kiln_engine_input_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        if (kiln_engine_input(engine, i, &binding) != KILN_OK ||
            kiln_context_tensor(context, binding.name, &tensor) != KILN_OK) {
            continue;
        }
        char shape[256];
        (void)kiln_shape_format(&tensor.desc.shape, shape, sizeof shape);
        cli_table_add(&table, "input");
        cli_table_add(&table, binding.name);
        cli_table_add(&table, kiln_dtype_name(binding.dtype));
        cli_table_add(&table, shape);
    }
    cli_table_print(&table, 0);
}

/* Sorts the times. */
static void print_gpu(const cli_gpu_times *gpu)
{
    static const char *const headings[] = {"GPU", "mean", "median", "p90",
                                           "p95", "p99",  "p99.9",  "max"};
    cli_table table;
    cli_table_init(&table, "lrrrrrrr", headings);
    for (size_t part = 0; part < CLI_GPU_PARTS; part++) {
        cli_statistics found;
        cli_statistics_make(gpu->times[part], gpu->count, &found);
        const double values[] = {found.mean, found.median, found.p90,    found.p95,
                                 found.p99,  found.p999,   found.maximum};
        cli_table_add(&table, cli_gpu_names[part]);
        for (size_t i = 0; i < CLI_ARRAY_LENGTH(values); i++) {
            char text[32];
            cli_duration_format(values[i], text, sizeof text);
            cli_table_add(&table, text);
        }
    }
    (void)puts("");
    cli_table_print(&table, 0);
}

static void print_text(const char *path, const kiln_engine *engine, kiln_context *context,
                       measurement *found)
{
    char backend[200];
    char text[5][32];
    char *printable = cli_printable(path);
    cli_statistics statistics;
    cli_statistics_make(found->times, found->count, &statistics);
    cli_model_backend(engine, backend, sizeof backend);
    (void)printf("%s\n%s\n\n", printable, backend);
    free(printable);
    print_inputs(engine, context);
    cli_duration_format((double)found->warmup_wall, text[0], sizeof text[0]);
    cli_duration_format((double)found->first, text[1], sizeof text[1]);
    cli_duration_format((double)found->wall, text[2], sizeof text[2]);
    (void)printf("\nwarmup      %llu inference%s in %s, the first took %s\n",
                 (unsigned long long)found->warmup_runs, found->warmup_runs == 1 ? "" : "s",
                 text[0], text[1]);
    (void)printf("measured    %zu inference%s in %s\n", found->count, found->count == 1 ? "" : "s",
                 text[2]);
    (void)printf("throughput  %.*f inferences/s\n\n", throughput(found) < 100 ? 2 : 0,
                 throughput(found));
    const struct {
        const char *name;
        double value;
    } rows[] = {
        {"min", statistics.minimum}, {"mean", statistics.mean},   {"median", statistics.median},
        {"p90", statistics.p90},     {"p95", statistics.p95},     {"p99", statistics.p99},
        {"p99.9", statistics.p999},  {"max", statistics.maximum},
    };
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(rows); i++) {
        cli_duration_format(rows[i].value, text[0], sizeof text[0]);
        (void)printf("%-10s  %-8s %9s\n", i == 0 ? "latency" : "", rows[i].name, text[0]);
    }
    (void)puts("");
    cli_histogram_print(found->times, found->count);
    if (found->gpu.count != 0) {
        print_gpu(&found->gpu);
    }
    if (found->raw.count != 0) {
        cli_raw_print(&found->raw, backend);
    }
}

static cJSON *times_json(uint64_t *times, size_t count)
{
    cli_statistics statistics;
    cli_statistics_make(times, count, &statistics);
    const struct {
        const char *name;
        double value;
    } rows[] = {
        {"min", statistics.minimum}, {"mean", statistics.mean},   {"median", statistics.median},
        {"p90", statistics.p90},     {"p95", statistics.p95},     {"p99", statistics.p99},
        {"p99.9", statistics.p999},  {"max", statistics.maximum},
    };
    cJSON *latency = cJSON_CreateObject();
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(rows); i++) {
        (void)cJSON_AddNumberToObject(latency, rows[i].name, rows[i].value / 1e6);
    }
    (void)cJSON_AddNumberToObject(latency, "coefficient_of_variation", statistics.deviation);
    return latency;
}

/* Before the times are sorted. */
static void add_raw(cJSON *document, cli_raw_times *raw)
{
    double ratio = 0;
    double difference = 0;
    cli_raw_between(raw, &ratio, &difference);
    cJSON *object = cJSON_AddObjectToObject(document, "compare_raw");
    (void)cJSON_AddNumberToObject(object, "pairs", (double)raw->count);
    (void)cJSON_AddNumberToObject(object, "ratio", ratio);
    (void)cJSON_AddNumberToObject(object, "difference_ms", difference / 1e6);
    (void)cJSON_AddItemToObject(object, "kiln_ms", times_json(raw->kiln, raw->count));
    (void)cJSON_AddItemToObject(object, "raw_ms", times_json(raw->raw, raw->count));
}

static cli_exit print_json(const char *path, const kiln_engine *engine, kiln_context *context,
                           bool layers, measurement *found)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    cJSON *document = cJSON_CreateObject();
    cli_json_add_text(document, "model", path);
    if (kiln_engine_backend(engine, &info) == KILN_OK) {
        (void)cJSON_AddItemToObject(document, "backend", cli_json_backend(&info));
    }
    cJSON *inputs = cJSON_AddArrayToObject(document, "inputs");
    for (size_t i = 0; i < kiln_engine_input_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        if (kiln_engine_input(engine, i, &binding) != KILN_OK ||
            kiln_context_tensor(context, binding.name, &tensor) != KILN_OK) {
            continue;
        }
        cJSON *object = cJSON_CreateObject();
        cli_json_add_text(object, "name", binding.name);
        cli_json_add_text(object, "dtype", kiln_dtype_name(binding.dtype));
        (void)cJSON_AddItemToObject(object, "shape", cli_json_shape(&tensor.desc.shape));
        (void)cJSON_AddItemToArray(inputs, object);
    }
    cJSON *warmup = cJSON_AddObjectToObject(document, "warmup");
    (void)cJSON_AddNumberToObject(warmup, "inferences", (double)found->warmup_runs);
    (void)cJSON_AddNumberToObject(warmup, "seconds", (double)found->warmup_wall / 1e9);
    (void)cJSON_AddNumberToObject(warmup, "first_ms", (double)found->first / 1e6);
    (void)cJSON_AddNumberToObject(document, "inferences", (double)found->count);
    (void)cJSON_AddNumberToObject(document, "seconds", (double)found->wall / 1e9);
    (void)cJSON_AddNumberToObject(document, "inferences_per_second", throughput(found));
    (void)cJSON_AddNumberToObject(document, "allocations", (double)found->allocations);
    (void)cJSON_AddItemToObject(document, "latency_ms", times_json(found->times, found->count));
    if (found->gpu.count != 0) {
        cJSON *gpu = cJSON_AddObjectToObject(document, "gpu_ms");
        for (size_t part = 0; part < CLI_GPU_PARTS; part++) {
            (void)cJSON_AddItemToObject(gpu, cli_gpu_names[part],
                                        times_json(found->gpu.times[part], found->gpu.count));
        }
    }
    if (found->raw.count != 0) {
        add_raw(document, &found->raw);
    }
    if (layers) {
        cli_layers_add(document, context);
    }
    return cli_json_print(document);
}

/* --- the command --- */

static kiln_status measure_raw(kiln_engine *engine, kiln_context *context,
                               const bench_settings *settings, cli_raw_times *found)
{
    const size_t least = (size_t)settings->iterations;
    cli_progress_begin("comparing");
    const kiln_status status =
        kiln_engine_device(engine) >= 0
            ? cli_gpu_compare_raw(engine, context, (kiln_graph_policy)settings->model.graph,
                                  settings->duration, least, found)
            : cli_raw_measure(context, settings->duration, least, found);
    cli_progress_end();
    return status;
}

static cli_exit bench(const cli_command *self, const char *path, const bench_settings *settings,
                      kiln_engine *engine, kiln_context *context, cli_inputs *inputs,
                      measurement *found)
{
    cli_exit result = cli_inputs_bind(self, &settings->inputs, engine, context, inputs);
    if (result != CLI_DONE) {
        return result;
    }
    cli_progress_begin("warming up");
    kiln_status status = warm_up(context, settings, found);
    cli_progress_end();
    if (status == KILN_OK) {
        cli_progress_begin("measuring");
        status = measure(context, settings, found);
        cli_progress_end();
    }
    if (status == KILN_OK && kiln_engine_device(engine) >= 0) {
        cli_progress_begin("measuring the GPU");
        status = cli_gpu_measure(engine, context, (kiln_graph_policy)settings->model.graph,
                                 settings->duration, (size_t)settings->iterations, &found->gpu);
        cli_progress_end();
    }
    if (status == KILN_OK && settings->compare_raw) {
        status = measure_raw(engine, context, settings, &found->raw);
    }
    if (status == KILN_OK && settings->layers) {
        cli_progress_begin("measuring layers");
        status = cli_layers_measure(context, settings->duration, (size_t)settings->iterations);
        cli_progress_end();
    }
    if (status != KILN_OK) {
        return cli_fail();
    }
    if (settings->json) {
        return print_json(path, engine, context, settings->layers, found);
    }
    print_text(path, engine, context, found);
    return settings->layers ? cli_layers_print(context) : CLI_DONE;
}

static cli_exit run(const cli_command *self, int count, char **arguments)
{
    bench_settings settings = {.duration = 3, .warmup = 200, .iterations = 10};
    const char *operands[1] = {NULL};
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    cli_inputs inputs = {NULL, 0};
    measurement found = {.times = NULL};
    cli_exit result = CLI_DONE;
    if (!cli_options_read(self, count, arguments, &settings, operands, &result)) {
        return result;
    }
    result = cli_model_open(self, operands[0], &settings.model, &engine);
    if (result == CLI_DONE) {
        result = cli_model_context(&settings.model, engine, &context);
    }
    if (result == CLI_DONE) {
        result = bench(self, operands[0], &settings, engine, context, &inputs, &found);
    }
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    cli_inputs_finish(&inputs);
    free(found.times);
    cli_gpu_finish(&found.gpu);
    cli_raw_finish(&found.raw);
    cli_options_finish(self, &settings);
    return result;
}

static const cli_option options[] = {
    {"duration", 0, "SECONDS", CLI_REAL, offsetof(bench_settings, duration), 0, 86400, NULL,
     "Measure for at least this long. Default 3."},
    {"iterations", 'n', "N", CLI_INTEGER, offsetof(bench_settings, iterations), 1, 1000000000, NULL,
     "Measure at least N inferences, even if that takes longer. Default 10."},
    {"warmup", 0, "MS", CLI_REAL, offsetof(bench_settings, warmup), 0, 86400000, NULL,
     "Run this many milliseconds before measuring, and at least once. Default 200."},
    {"compare-raw", 0, NULL, CLI_FLAG, offsetof(bench_settings, compare_raw), 0, 0, NULL,
     "Then measure the backend's library called directly beside Kiln, in turns, on the same "
     "memory."},
    {"layers", 'l', NULL, CLI_FLAG, offsetof(bench_settings, layers), 0, 0, NULL,
     "Then measure the layers of a plan of TensorRT, in runs of their own."},
    {"json", 'j', NULL, CLI_FLAG, offsetof(bench_settings, json), 0, 0, NULL,
     "Write the figures as JSON; latency is in milliseconds."},
    {0},
};

static const cli_group groups[] = {
    {"Measurement", options, 0},
    {"Inputs", cli_input_options, offsetof(bench_settings, inputs)},
    {"Engine", cli_model_options, offsetof(bench_settings, model)},
    {0},
};

static const cli_example examples[] = {
    {"kiln bench model.onnx", "three seconds with random inputs"},
    {"kiln bench model.onnx -s tokens=8x128 -t 4", "a batch of 8, on four threads"},
    {"kiln bench model.onnx --compare-raw", "what Kiln adds to the library under it"},
    {"kiln bench model.onnx --json | jq .latency_ms.p99", "one figure for a script"},
    {0},
};

const cli_command cli_command_bench = {
    .name = "bench",
    .operands = "MODEL",
    .least = 1,
    .most = 1,
    .summary = "measure the latency and throughput of a model",
    .description =
        "Runs MODEL again and again, one inference after the other, and shows how long one took "
        "and how many were done in a second.\n\n"
        "The latency of an inference is the time from handing it over until its outputs are "
        "there. p99 is the latency that all but the slowest hundredth of the inferences stayed "
        "within. The throughput is the number of inferences by the time from the start of the "
        "first to the end of the last.",
    .groups = groups,
    .examples = examples,
    .run = run,
};
