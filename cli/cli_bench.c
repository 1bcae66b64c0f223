/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_gpu.h"
#include "cli_layers.h"
#include "cli_list.h"
#include "cli_model.h"
#include "cli_raw.h"
#include "cli_statistics.h"
#include "cli_sweep.h"

typedef struct bench_settings {
    cli_model_settings model;
    cli_input_settings inputs;
    cli_sweep_settings sweep;
    double duration; /* seconds */
    double warmup;   /* milliseconds */
    int64_t iterations;
    bool json;
    bool compare_raw;
    bool layers;
} bench_settings;

/* The results of a measurement. */
typedef struct measurement {
    kiln_histogram *times; /* of every inference, in nanoseconds */
    uint64_t count;
    uint64_t wall; /* from the start of the first to the end of the last */
    kiln_warmup_summary warmup;
    unsigned long long allocations; /* Kiln's own, during the measurement */
    cli_gpu_times gpu;              /* empty for an engine on the CPU */
    cli_raw_times raw;              /* empty unless requested */
    cli_layers layers;              /* empty unless requested */
} measurement;

/* --- measuring --- */

static kiln_status warm_up(kiln_context *context, const bench_settings *settings,
                           measurement *found)
{
    found->warmup = (kiln_warmup_summary){.struct_size = sizeof found->warmup};
    const uint64_t milliseconds = (uint64_t)ceil(settings->warmup);
    return kiln_context_warmup(context, milliseconds == 0 ? 1 : 0, milliseconds, &found->warmup);
}

static kiln_status measure(kiln_context *context, const bench_settings *settings,
                           measurement *found)
{
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    const double limit = settings->duration * 1e9;
    const double enough = (double)settings->iterations;
    found->times = cli_times_create();
    kiln_get_allocation_counters(&before);
    const uint64_t begin = kiln_clock_now();
    uint64_t end = begin;
    while ((double)(end - begin) < limit || (double)found->count < enough) {
        const uint64_t start = kiln_clock_now();
        const kiln_status status = kiln_context_run(context);
        end = kiln_clock_now();
        if (status != KILN_OK) {
            return status;
        }
        kiln_histogram_record(found->times, end - start);
        found->count++;
        const double by_time = limit > 0 ? (double)(end - begin) / limit : 1;
        const double by_count = enough > 0 ? (double)found->count / enough : 1;
        cli_progress_set(by_time < by_count ? by_time : by_count);
    }
    found->wall = end - begin;
    kiln_get_allocation_counters(&after);
    found->allocations = after.allocations - before.allocations;
    return KILN_OK;
}

/* --- output --- */

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
            cli_tensor_of(context, &binding, &tensor) != KILN_OK) {
            continue;
        }
        char shape[256];
        (void)kiln_shape_format(&tensor.desc.shape, shape, sizeof shape);
        CLI_TABLE_ADD(&table, "input", binding.name, kiln_dtype_name(binding.dtype), shape);
    }
    cli_table_print(&table, 0);
}

static void print_gpu(const cli_gpu_times *gpu)
{
    cli_table table;
    cli_times_table(&table, "GPU");
    for (size_t part = 0; part < CLI_GPU_PARTS; part++) {
        cli_times_row(&table, cli_gpu_names[part], gpu->times[part]);
    }
    (void)puts("");
    cli_table_print(&table, 0);
}

static void print_text(const char *path, const kiln_engine *engine, kiln_context *context,
                       measurement *found)
{
    char backend[200];
    char text[3][32];
    double figures[CLI_TIME_FIGURES];
    cli_times_figures(found->times, figures);
    cli_model_backend(engine, backend, sizeof backend);
    cli_model_print(path, engine);
    print_inputs(engine, context);
    cli_duration_format((double)found->warmup.total_nanoseconds, text[0], sizeof text[0]);
    cli_duration_format((double)found->warmup.first_nanoseconds, text[1], sizeof text[1]);
    cli_duration_format((double)found->wall, text[2], sizeof text[2]);
    (void)printf("\nwarmup      %llu inference%s in %s, the first took %s\n",
                 (unsigned long long)found->warmup.runs, CLI_S(found->warmup.runs), text[0],
                 text[1]);
    (void)printf("measured    %llu inference%s in %s\n", (unsigned long long)found->count,
                 CLI_S(found->count), text[2]);
    (void)printf("throughput  %.*f inferences/s\n\n", throughput(found) < 100 ? 2 : 0,
                 throughput(found));
    for (size_t i = 0; i < CLI_TIME_FIGURES; i++) {
        cli_duration_format(figures[i], text[0], sizeof text[0]);
        (void)printf("%-10s  %-8s %9s\n", i == 0 ? "latency" : "", cli_time_names[i], text[0]);
    }
    (void)puts("");
    cli_histogram_print(found->times);
    if (found->gpu.count != 0) {
        print_gpu(&found->gpu);
    }
    if (found->raw.count != 0) {
        cli_raw_print(&found->raw, backend);
    }
}

static void add_raw(cJSON *document, cli_raw_times *raw)
{
    double ratio = 0;
    double difference = 0;
    cli_raw_between(raw, &ratio, &difference);
    cJSON *object = cJSON_AddObjectToObject(document, "compare_raw");
    (void)cJSON_AddNumberToObject(object, "pairs", (double)raw->count);
    (void)cJSON_AddNumberToObject(object, "ratio", ratio);
    (void)cJSON_AddNumberToObject(object, "difference_ms", difference / 1e6);
    (void)cJSON_AddItemToObject(object, "kiln_ms", cli_times_json(raw->kiln));
    (void)cJSON_AddItemToObject(object, "raw_ms", cli_times_json(raw->raw));
}

static void add_inputs(cJSON *document, const kiln_engine *engine, kiln_context *context)
{
    cJSON *inputs = cJSON_AddArrayToObject(document, "inputs");
    for (size_t i = 0; i < kiln_engine_input_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        if (kiln_engine_input(engine, i, &binding) != KILN_OK ||
            cli_tensor_of(context, &binding, &tensor) != KILN_OK) {
            continue;
        }
        cJSON *object = cJSON_CreateObject();
        cli_json_add_text(object, "name", binding.name);
        cli_json_add_text(object, "dtype", kiln_dtype_name(binding.dtype));
        (void)cJSON_AddItemToObject(object, "shape", cli_json_shape(&tensor.desc.shape));
        (void)cJSON_AddItemToArray(inputs, object);
    }
}

static cJSON *new_document(const char *path, const kiln_engine *engine)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    cJSON *document = cJSON_CreateObject();
    cli_json_add_text(document, "model", path);
    if (kiln_engine_backend(engine, &info) == KILN_OK) {
        (void)cJSON_AddItemToObject(document, "backend", cli_json_backend(&info));
    }
    return document;
}

static cli_exit print_json(const char *path, const kiln_engine *engine, kiln_context *context,
                           bool layers, measurement *found)
{
    cJSON *document = new_document(path, engine);
    add_inputs(document, engine, context);
    cJSON *warmup = cJSON_AddObjectToObject(document, "warmup");
    (void)cJSON_AddNumberToObject(warmup, "inferences", (double)found->warmup.runs);
    (void)cJSON_AddNumberToObject(warmup, "seconds", (double)found->warmup.total_nanoseconds / 1e9);
    (void)cJSON_AddNumberToObject(warmup, "first_ms",
                                  (double)found->warmup.first_nanoseconds / 1e6);
    (void)cJSON_AddNumberToObject(document, "inferences", (double)found->count);
    (void)cJSON_AddNumberToObject(document, "seconds", (double)found->wall / 1e9);
    (void)cJSON_AddNumberToObject(document, "inferences_per_second", throughput(found));
    (void)cJSON_AddNumberToObject(document, "allocations", (double)found->allocations);
    (void)cJSON_AddItemToObject(document, "latency_ms", cli_times_json(found->times));
    if (found->gpu.count != 0) {
        cJSON *gpu = cJSON_AddObjectToObject(document, "gpu_ms");
        for (size_t part = 0; part < CLI_GPU_PARTS; part++) {
            (void)cJSON_AddItemToObject(gpu, cli_gpu_names[part],
                                        cli_times_json(found->gpu.times[part]));
        }
    }
    if (found->raw.count != 0) {
        add_raw(document, &found->raw);
    }
    if (layers) {
        cli_layers_add(document, found->layers.context);
    }
    return cli_json_print(document);
}

/* --- the command --- */

static kiln_status measure_all(kiln_engine *engine, kiln_context *context,
                               const bench_settings *settings, measurement *found)
{
    const kiln_graph_policy graphs = (kiln_graph_policy)settings->model.graph;
    const size_t least = (size_t)settings->iterations;
    CLI_WITH_PROGRESS("warming up", warm_up(context, settings, found));
    CLI_WITH_PROGRESS("measuring", measure(context, settings, found));
    if (kiln_engine_device(engine) >= 0) {
        CLI_WITH_PROGRESS(
            "measuring the GPU",
            cli_gpu_measure(engine, context, graphs, settings->duration, least, &found->gpu));
    }
    if (settings->compare_raw) {
        CLI_WITH_PROGRESS("comparing",
                          kiln_engine_device(engine) >= 0
                              ? cli_gpu_compare_raw(engine, context, graphs, settings->duration,
                                                    least, &found->raw)
                              : cli_raw_measure(context, settings->duration, least, &found->raw));
    }
    if (settings->layers) {
        CLI_WITH_PROGRESS("measuring layers",
                          cli_layers_measure(found->layers.context, settings->duration, least));
    }
    return KILN_OK;
}

static cli_exit bench(const cli_command *self, const char *path, const bench_settings *settings,
                      kiln_engine *engine, kiln_context *context, cli_inputs *inputs,
                      measurement *found)
{
    CLI_RETURN_UNLESS_DONE(cli_inputs_bind(self, &settings->inputs, engine, context, inputs));
    /* Impossible requests are rejected before anything is measured. */
    if (settings->layers) {
        CLI_RETURN_UNLESS_DONE(cli_layers_open(self, path, &settings->model, &settings->inputs,
                                               engine, &found->layers));
    }
    CLI_FAIL_IF_ERROR(measure_all(engine, context, settings, found));
    if (settings->json) {
        return print_json(path, engine, context, settings->layers, found);
    }
    print_text(path, engine, context, found);
    return settings->layers ? cli_layers_print(found->layers.context) : CLI_DONE;
}

/* --- under load --- */

static cli_exit plot(const char *file, const char *path, const kiln_engine *engine,
                     const cli_sweep *sweep)
{
    char backend[200];
    SCOPED_HEAP char *title = cli_printable(cli_file_name(path));
    cli_model_backend(engine, backend, sizeof backend);
    return cli_plot_write(file, title, backend, sweep);
}

static cli_exit show_load(const char *path, const kiln_engine *engine,
                          const bench_settings *settings, const cli_sweep *sweep)
{
    if (settings->json) {
        cJSON *document = new_document(path, engine);
        cli_sweep_add(document, sweep);
        return cli_json_print(document);
    }
    cli_model_print(path, engine);
    cli_sweep_print(sweep);
    return CLI_DONE;
}

static cli_exit bench_load(const cli_command *self, const char *path,
                           const bench_settings *settings, kiln_engine *engine)
{
    SCOPED(cli_sweep_finish) cli_sweep sweep = {.points = NULL};
    if (settings->layers || settings->compare_raw) {
        return cli_misuse(self,
                          "--%s looks at one inference after the other: not with --batches, "
                          "--contexts, --streams, --ahead, --callers, --stagger or --plot",
                          settings->layers ? "layers" : "compare-raw");
    }
    CLI_RETURN_UNLESS_DONE(
        cli_sweep_plan(self, &settings->sweep, engine, &settings->inputs, &sweep));
    CLI_RETURN_UNLESS_DONE(cli_sweep_measure(self, &settings->model, &settings->inputs, engine,
                                             settings->warmup, settings->duration,
                                             (uint64_t)settings->iterations, &sweep));
    CLI_RETURN_UNLESS_DONE(show_load(path, engine, settings, &sweep));
    return settings->sweep.plot != NULL ? plot(settings->sweep.plot, path, engine, &sweep)
                                        : CLI_DONE;
}

static void finish(measurement *found)
{
    cli_layers_close(&found->layers);
    kiln_histogram_destroy(found->times);
    cli_gpu_finish(&found->gpu);
    cli_raw_finish(&found->raw);
}

static cli_exit bench_alone(const cli_command *self, const char *path,
                            const bench_settings *settings, kiln_engine *engine)
{
    SCOPED(cli_inputs_finish) cli_inputs inputs = {NULL, NULL, 0};
    CLI_OWNED(context) context = NULL;
    SCOPED(finish) measurement found = {.times = NULL};
    CLI_RETURN_UNLESS_DONE(cli_model_context(&settings->model, engine, &context));
    return bench(self, path, settings, engine, context, &inputs, &found);
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    bench_settings *settings = given;
    CLI_OWNED(engine) engine = NULL;
    settings->model.shapes = &settings->inputs;
    CLI_RETURN_UNLESS_DONE(cli_sweep_batches(self, &settings->sweep, &settings->inputs.smallest,
                                             &settings->inputs.largest));
    CLI_RETURN_UNLESS_DONE(cli_model_open(self, operands[0], &settings->model, &engine));
    return (cli_sweep_is_asked(&settings->sweep) ? bench_load : bench_alone)(self, operands[0],
                                                                             settings, engine);
}

static const cli_option options[] = {
    {"duration", 0, "SECONDS", CLI_REAL, offsetof(bench_settings, duration), 0, 86400, NULL,
     "Measure for at least this long. Default 3."},
    {"iterations", 'n', "N", CLI_INTEGER, offsetof(bench_settings, iterations), 1, 1000000000, NULL,
     "Measure at least N inferences, even if that takes longer. Default 10."},
    {"warmup", 0, "MS", CLI_REAL, offsetof(bench_settings, warmup), 0, 86400000, NULL,
     "Run for this many milliseconds before measuring, and at least once. Default 200."},
    {"compare-raw", 0, NULL, CLI_FLAG, offsetof(bench_settings, compare_raw), 0, 0, NULL,
     "Then also measure direct calls of the backend's library, alternating with Kiln's, on the "
     "same memory."},
    {"layers", 'l', NULL, CLI_FLAG, offsetof(bench_settings, layers), 0, 0, NULL,
     "Then measure each layer or node, in separate runs."},
    {"json", 'j', NULL, CLI_FLAG, offsetof(bench_settings, json), 0, 0, NULL,
     "Write the figures as JSON; latency is in milliseconds."},
    {0},
};

static const cli_group groups[] = {
    {"Measurement", options, 0},
    {"Load", cli_sweep_options, offsetof(bench_settings, sweep)},
    {"Inputs", cli_input_options, offsetof(bench_settings, inputs)},
    {"Engine", cli_model_options, offsetof(bench_settings, model)},
    {0},
};

static const cli_example examples[] = {
    {"kiln bench model.onnx", "three seconds with random inputs"},
    {"kiln bench model.onnx -s tokens=8x128 -t 4", "a batch of 8, on four threads"},
    {"kiln bench model.onnx --batches 1,8,32 --contexts 1,2,4 --plot load.html",
     "latency against throughput, with a plot"},
    {"kiln bench model.onnx --compare-raw", "what Kiln adds to the backend's library"},
    {"kiln bench model.onnx --json | jq .latency_ms.p99", "one figure for a script"},
    {0},
};

const cli_command cli_command_bench = {
    .name = "bench",
    .operands = "MODEL",
    .summary = "measure the latency and throughput of a model",
    .description =
        "Runs MODEL repeatedly, one inference after the other, and shows how long each took and "
        "how many were completed per second.\n\nThe latency of an inference is the time from "
        "submitting it until its outputs are there. p99 is the latency that all but the slowest "
        "hundredth of the inferences stayed within. The throughput is the number of inferences "
        "divided by the time from the start of the first to the end of the last.\n\nWith any of "
        "--batches, --contexts, --streams, --ahead, --callers and --stagger it keeps several "
        "inferences in flight. The latency of one is then measured from the call that starts "
        "it, so it includes waiting behind others; items/s are inferences/s times the batch "
        "size.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(bench_settings, .duration = 3, .warmup = 200, .iterations = 10),
    .run = run,
};
