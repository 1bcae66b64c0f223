/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_sweep.h"

#include <cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli_statistics.h"

#define MOST_NUMBERS 64
#define LARGEST_BATCH 1000000

typedef struct numbers {
    int64_t values[MOST_NUMBERS];
    size_t count;
} numbers;

bool cli_sweep_is_asked(const cli_sweep_settings *settings)
{
    return settings->batches != NULL || settings->contexts != NULL || settings->streams != NULL ||
           settings->ahead != 0 || settings->callers != 0 || settings->stagger ||
           settings->plot != NULL;
}

/* --- what to measure --- */

/* Reads a list like "1,2,8"; an empty list if `text` is NULL. */
static cli_exit read_list(const cli_command *command, const char *option, const char *text,
                          int64_t most, numbers *list)
{
    *list = (numbers){.count = 0};
    for (const char *at = text; at != NULL && list->count < MOST_NUMBERS;) {
        char *end = NULL;
        errno = 0;
        const long long value = strtoll(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0') || errno != 0) {
            return cli_misuse(command, "--%s: \"%.80s\" is not a list of numbers, as in 1,2,4",
                              option, text);
        }
        if (value < 1 || value > most) {
            return cli_misuse(command, "--%s: %lld is out of range, 1 to %lld is possible", option,
                              value, (long long)most);
        }
        list->values[list->count++] = value;
        at = *end == ',' ? end + 1 : NULL;
        if (at != NULL && list->count == MOST_NUMBERS) {
            return cli_misuse(command, "--%s: more than %d numbers", option, MOST_NUMBERS);
        }
    }
    return CLI_DONE;
}

cli_exit cli_sweep_batches(const cli_command *command, const cli_sweep_settings *settings,
                           int64_t *smallest, int64_t *largest)
{
    numbers list;
    CLI_RETURN_UNLESS_DONE(read_list(command, "batches", settings->batches, LARGEST_BATCH, &list));
    *smallest = *largest = list.count > 0 ? list.values[0] : 0;
    for (size_t i = 0; i < list.count; i++) {
        *smallest = list.values[i] < *smallest ? list.values[i] : *smallest;
        *largest = list.values[i] > *largest ? list.values[i] : *largest;
    }
    return CLI_DONE;
}

/* The numbers of contexts and streams of one level. */
static cli_exit level_on_gpu(const cli_command *command, int64_t contexts, int64_t streams,
                             int64_t ahead, cli_point *point)
{
    if (contexts == 0) {
        streams = streams == 0 ? 1 : streams;
        contexts = streams * (1 + ahead);
    } else if (streams == 0) {
        if (contexts % (1 + ahead) != 0) {
            return cli_misuse(
                command,
                "--contexts %lld cannot be %lld on each stream, which --ahead %lld asks for",
                (long long)contexts, (long long)ahead + 1, (long long)ahead);
        }
        streams = contexts / (1 + ahead);
    } else if (ahead != 0 || streams > contexts) {
        return cli_misuse(
            command, ahead != 0 ? "--contexts, --streams and --ahead: two of them say the third"
                                : "--streams: a stream without a context has nothing to do");
    }
    if (contexts > CLI_MOST_CONTEXTS) {
        return cli_misuse(command, "%lld contexts are too many, %d are possible",
                          (long long)contexts, CLI_MOST_CONTEXTS);
    }
    point->load.contexts = (size_t)contexts;
    point->load.streams = (size_t)streams;
    point->ahead = (size_t)((contexts + streams - 1) / streams - 1);
    return CLI_DONE;
}

static cli_exit plan_level(const cli_command *command, const cli_sweep_settings *settings,
                           bool on_gpu, int64_t contexts, int64_t streams, cli_point *point)
{
    if (contexts == 0 && streams == 0 && settings->ahead == 0) {
        contexts = settings->callers != 0 ? settings->callers : 1;
    }
    if (on_gpu) {
        CLI_RETURN_UNLESS_DONE(level_on_gpu(command, contexts, streams, settings->ahead, point));
    } else {
        point->load.contexts = (size_t)contexts;
    }
    point->load.staggered = settings->stagger;
    const size_t callers = settings->callers != 0 ? (size_t)settings->callers
                           : on_gpu               ? 1
                                                  : point->load.contexts;
    point->load.callers = callers < point->load.contexts ? callers : point->load.contexts;
    return CLI_DONE;
}

static cli_exit plan_points(const cli_command *command, const cli_sweep_settings *settings,
                            bool on_gpu, const numbers lists[3], cli_sweep *sweep)
{
    const numbers *batches = &lists[0];
    const numbers *contexts = &lists[1];
    const numbers *streams = &lists[2];
    if (contexts->count > 1 && streams->count > 1) {
        return cli_misuse(
            command,
            "--contexts and --streams: one of them may be a list; give one number for the other");
    }
    const size_t sizes = batches->count > 0 ? batches->count : 1;
    const size_t most = contexts->count > streams->count ? contexts->count : streams->count;
    const size_t levels = most > 0 ? most : 1;
    if (sizes * levels > CLI_MOST_POINTS) {
        return cli_misuse(command, "these are %zu measurements, %d are possible", sizes * levels,
                          CLI_MOST_POINTS);
    }
    sweep->levels = levels;
    sweep->points = cli_allocate(sizes * levels * sizeof *sweep->points);
    for (size_t size = 0; size < sizes; size++) {
        for (size_t level = 0; level < levels; level++) {
            cli_point *point = &sweep->points[sweep->count];
            *point = (cli_point){.batch = batches->values[size]};
            CLI_RETURN_UNLESS_DONE(plan_level(
                command, settings, on_gpu,
                contexts->count > 0 ? contexts->values[contexts->count > 1 ? level : 0] : 0,
                streams->count > 0 ? streams->values[streams->count > 1 ? level : 0] : 0, point));
            sweep->count++;
        }
    }
    return CLI_DONE;
}

/* Whether the batch size has any effect. */
static bool takes_batch(const kiln_engine *engine, const cli_input_settings *inputs)
{
    for (size_t i = 0; i < inputs->shapes.count; i++) {
        const char *equals = strrchr(inputs->shapes.items[i], '=');
        if (strchr(equals != NULL ? equals : inputs->shapes.items[i], 'N') != NULL) {
            return true;
        }
    }
    for (size_t i = 0; inputs->shapes.count == 0 && i < kiln_engine_input_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        if (kiln_engine_input(engine, i, &binding) == KILN_OK && binding.shape.rank > 0 &&
            binding.shape.dims[0] == KILN_DYNAMIC) {
            return true;
        }
    }
    return false;
}

cli_exit cli_sweep_plan(const cli_command *command, const cli_sweep_settings *settings,
                        const kiln_engine *engine, const cli_input_settings *inputs,
                        cli_sweep *sweep)
{
    numbers lists[3];
    const bool on_gpu = kiln_engine_device(engine) >= 0;
    *sweep = (cli_sweep){.points = NULL};
    if (!on_gpu && (settings->streams != NULL || settings->ahead != 0 || settings->stagger)) {
        return cli_misuse(command,
                          "--%s is for an engine on a GPU, and this one computes on the CPU: "
                          "--contexts says how many inferences there are at once",
                          settings->streams != NULL ? "streams"
                          : settings->ahead != 0    ? "ahead"
                                                    : "stagger");
    }
    if (settings->plot != NULL && !cli_plot_knows(settings->plot)) {
        return cli_misuse(command, "--plot: \"%.200s\" ends neither with .svg nor with .html",
                          settings->plot);
    }
    CLI_RETURN_UNLESS_DONE(
        read_list(command, "batches", settings->batches, LARGEST_BATCH, &lists[0]));
    CLI_RETURN_UNLESS_DONE(
        read_list(command, "contexts", settings->contexts, CLI_MOST_CONTEXTS, &lists[1]));
    CLI_RETURN_UNLESS_DONE(
        read_list(command, "streams", settings->streams, CLI_MOST_CONTEXTS, &lists[2]));
    if (settings->batches != NULL && !takes_batch(engine, inputs)) {
        return cli_misuse(command,
                          "--batches: no input takes a batch size; write N for it in --shape, and "
                          "make the first dimension of the model dynamic");
    }
    return plan_points(command, settings, on_gpu, lists, sweep);
}

/* --- measuring --- */

/* Measures all levels of one batch, with one context whose inputs the others copy. */
static cli_exit measure_batch(const cli_command *command, const cli_model_settings *model,
                              const cli_input_settings *inputs, kiln_engine *engine, double warmup,
                              double seconds, uint64_t least, cli_point *points, size_t count)
{
    cli_input_settings sized = *inputs;
    SCOPED(cli_inputs_finish) cli_inputs fed = {NULL, NULL, 0};
    CLI_OWNED(context) context = NULL;
    sized.batch = points[0].batch;
    CLI_RETURN_UNLESS_DONE(cli_model_context(model, engine, &context));
    CLI_RETURN_UNLESS_DONE(cli_inputs_bind(command, &sized, engine, context, &fed));
    CLI_FAIL_IF_ERROR(kiln_context_run(context));
    for (size_t i = 0; i < count; i++) {
        CLI_RETURN_UNLESS_DONE(cli_load_measure(engine, context, (kiln_graph_policy)model->graph,
                                                &points[i].load, warmup, seconds, least,
                                                &points[i].result));
    }
    return CLI_DONE;
}

cli_exit cli_sweep_measure(const cli_command *command, const cli_model_settings *model,
                           const cli_input_settings *inputs, kiln_engine *engine, double warmup,
                           double seconds, uint64_t least, cli_sweep *sweep)
{
    for (size_t i = 0; i < sweep->count; i += sweep->levels) {
        CLI_RETURN_UNLESS_DONE(measure_batch(command, model, inputs, engine, warmup, seconds, least,
                                             &sweep->points[i], sweep->levels));
    }
    return CLI_DONE;
}

/* --- output --- */

static void add_rate(cli_table *table, double rate)
{
    cli_table_printf(table, "%.*f", rate < 100 ? 2 : 0, rate);
}

void cli_sweep_print(const cli_sweep *sweep)
{
    static const char *const headings[] = {"batch",        "contexts", "streams", "callers",
                                           "inferences/s", "items/s",  "median",  "p90",
                                           "p99",          "max"};
    cli_table table;
    cli_table_init(&table, "rrrrrrrrrr", headings);
    for (size_t i = 0; i < sweep->count; i++) {
        const cli_point *point = &sweep->points[i];
        const kiln_histogram_summary found = cli_times_summarize(point->result.latency);
        const double values[] = {found.median, found.p90, found.p99, (double)found.maximum};
        if (point->batch > 0) {
            cli_table_printf(&table, "%lld", (long long)point->batch);
        } else {
            cli_table_add(&table, "-");
        }
        cli_table_printf(&table, "%zu", point->load.contexts);
        if (point->load.streams > 0) {
            cli_table_printf(&table, "%zu", point->load.streams);
        } else {
            cli_table_add(&table, "-");
        }
        cli_table_printf(&table, "%zu", point->load.callers);
        add_rate(&table, cli_point_rate(point));
        add_rate(&table, cli_point_items(point));
        for (size_t k = 0; k < CLI_ARRAY_LENGTH(values); k++) {
            char text[32];
            cli_duration_format(values[k], text, sizeof text);
            cli_table_add(&table, text);
        }
    }
    cli_table_print(&table, 0);
}

void cli_sweep_add(cJSON *document, const cli_sweep *sweep)
{
    cJSON *list = cJSON_AddArrayToObject(document, "points");
    for (size_t i = 0; i < sweep->count; i++) {
        const cli_point *point = &sweep->points[i];
        cJSON *item = cJSON_CreateObject();
        if (point->batch > 0) {
            (void)cJSON_AddNumberToObject(item, "batch", (double)point->batch);
        } else {
            (void)cJSON_AddNullToObject(item, "batch");
        }
        (void)cJSON_AddNumberToObject(item, "contexts", (double)point->load.contexts);
        (void)cJSON_AddNumberToObject(item, "streams", (double)point->load.streams);
        (void)cJSON_AddNumberToObject(item, "ahead", (double)point->ahead);
        (void)cJSON_AddNumberToObject(item, "callers", (double)point->load.callers);
        (void)cJSON_AddBoolToObject(item, "staggered", point->load.staggered);
        (void)cJSON_AddNumberToObject(item, "inferences", (double)point->result.count);
        (void)cJSON_AddNumberToObject(item, "seconds", (double)point->result.wall / 1e9);
        (void)cJSON_AddNumberToObject(item, "inferences_per_second", cli_point_rate(point));
        (void)cJSON_AddNumberToObject(item, "items_per_second", cli_point_items(point));
        (void)cJSON_AddItemToObject(item, "latency_ms", cli_times_json(point->result.latency));
        (void)cJSON_AddItemToArray(list, item);
    }
}

void cli_sweep_finish(cli_sweep *sweep)
{
    for (size_t i = 0; i < sweep->count; i++) {
        cli_load_finish(&sweep->points[i].result);
    }
    free(sweep->points);
    *sweep = (cli_sweep){.points = NULL};
}

const cli_option cli_sweep_options[] = {
    {"batches", 0, "LIST", CLI_TEXT, offsetof(cli_sweep_settings, batches), 0, 0, NULL,
     "Measure at these batch sizes, such as 1,8,32: they replace the letter N in --shape or, "
     "without a shape, the first dimension of an input if it is dynamic. TensorRT builds for "
     "the smallest to the largest, and optimizes for the largest."},
    {"contexts", 'c', "LIST", CLI_TEXT, offsetof(cli_sweep_settings, contexts), 0, 0, NULL,
     "Keep this many inferences in flight, each in its own context; several numbers are "
     "measured one after the other. On the CPU each has a thread, besides those of --threads."},
    {"streams", 0, "LIST", CLI_TEXT, offsetof(cli_sweep_settings, streams), 0, 0, NULL,
     "Distribute them over this many CUDA streams, as trtexec does with --infStreams. Default: "
     "one for each context, and without --contexts one context for each stream."},
    {"ahead", 0, "N", CLI_INTEGER, offsetof(cli_sweep_settings, ahead), 0, CLI_MOST_CONTEXTS - 1,
     NULL,
     "Keep N inferences enqueued on each stream behind the one it executes, in contexts of "
     "their own. Default 0."},
    {"callers", 0, "N", CLI_INTEGER, offsetof(cli_sweep_settings, callers), 0, CLI_MOST_CONTEXTS,
     NULL,
     "Let N host threads start inferences and wait for them. Default: on the CPU one for each "
     "context, on a GPU one for all."},
    {"stagger", 0, NULL, CLI_FLAG, offsetof(cli_sweep_settings, stagger), 0, 0, NULL,
     "Give every second stream a priority one step higher, so that streams do not run the same "
     "kernels in step: more inferences at some batch sizes, fewer at others."},
    {"plot", 0, "FILE", CLI_OUTPUT, offsetof(cli_sweep_settings, plot), 0, 0, NULL,
     "Plot latency against throughput: an .svg image, or an .html page that also has the "
     "figures."},
    {0},
};
