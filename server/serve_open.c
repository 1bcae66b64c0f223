/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "serve_data.h"
#include "serve_generate.h"

static bool open_bindings(const kiln_engine *engine, bool are_inputs, serve_binding **bindings,
                          size_t *count, serve_problem *problem)
{
    const size_t all =
        are_inputs ? kiln_engine_input_count(engine) : kiln_engine_output_count(engine);
    *bindings = calloc(all + 1, sizeof **bindings);
    for (size_t i = 0; *bindings != NULL && i < all; i++) {
        kiln_binding found = {.struct_size = sizeof found};
        const kiln_status status = are_inputs ? kiln_engine_input(engine, i, &found)
                                              : kiln_engine_output(engine, i, &found);
        if (status != KILN_OK) {
            return serve_refuse(problem, 500, "%s", kiln_error_message());
        }
        if (serve_type_name(found.dtype) == NULL) {
            return serve_refuse(
                problem, 400, "%s \"%.200s\" is %s, which the protocol has no word for",
                are_inputs ? "input" : "output", found.name, kiln_dtype_name(found.dtype));
        }
        (*bindings)[i] = (serve_binding){found.name, found.dtype, found.shape};
        *count = i + 1;
    }
    return *bindings != NULL || serve_no_memory(problem);
}

/* On a CPU the time of a run is roughly proportional to its rows: a large batch delays the first
 * requests and gains little. */
#define CPU_BATCH 4
#define MOST_ROWS 65536 /* in one request */
#define MOMENT 50       /* milliseconds between checks whether the server is stopping */

/* The scheduler's options, from the model's configuration or those for all models. */
static kiln_scheduler_options scheduler_options(const serve_instance *instance,
                                                const serve_tuning *tuning)
{
    const serve_options *wanted = instance->server->options;
    kiln_scheduler_options options = KILN_SCHEDULER_OPTIONS_INIT;
    const uint64_t delay = (uint64_t)(wanted->delay * 1e6);
    options.contexts = (int32_t)wanted->contexts;
    const bool on_gpu = instance->on_gpu;
    options.max_batch = on_gpu && wanted->max_batch > 1 ? wanted->max_batch
                        : on_gpu                        ? 0
                                                        : MOST_ROWS;
    options.join_rows = wanted->max_batch > 1 ? wanted->max_batch : on_gpu ? 0 : CPU_BATCH;
    options.join_measured = wanted->max_batch == 0;
    options.batch_axis = wanted->max_batch == 1 ? -1 : 0;
    options.queue_limit = (size_t)wanted->queue_limit;
    options.delay_nanoseconds = delay;
    if (tuning->given) {
        options.contexts = wanted->contexts != 0 ? options.contexts : tuning->contexts;
        options.max_batch = tuning->joins ? tuning->max_batch : 0;
        options.join_rows = 0;
        options.join_measured = false;
        options.batch_axis = tuning->joins ? 0 : -1;
        options.queue_limit = tuning->queue_limit != 0 ? tuning->queue_limit : options.queue_limit;
        options.delay_nanoseconds = delay != 0 ? delay : tuning->delay;
    }
    options.schedule =
        options.delay_nanoseconds != 0 ? KILN_SCHEDULE_THROUGHPUT : KILN_SCHEDULE_LATENCY;
    return options;
}

/* Options for all models may not suit each one: requests that cannot be joined run alone. */
static bool open_scheduler(serve_instance *instance, const serve_tuning *tuning,
                           serve_problem *problem)
{
    kiln_context_options context = KILN_CONTEXT_OPTIONS_INIT;
    kiln_scheduler_options options = scheduler_options(instance, tuning);
    context.graphs =
        tuning->graphs >= 0 ? (kiln_graph_policy)tuning->graphs : instance->server->options->graphs;
    options.context = &context;
    kiln_status status = kiln_scheduler_create(instance->engines, instance->engine_count, &options,
                                               &instance->scheduler);
    if (status == KILN_ERROR_UNSUPPORTED && options.max_batch != 0) {
        if (instance->server->options->max_batch > 1 || tuning->joins) {
            serve_say(instance->server, "%s: requests are not joined: %s", instance->name,
                      kiln_error_message());
        }
        options.max_batch = 0;
        options.join_rows = 0;
        status = kiln_scheduler_create(instance->engines, instance->engine_count, &options,
                                       &instance->scheduler);
    }
    kiln_scheduler_counters counters = {.struct_size = sizeof counters};
    if (status != KILN_OK ||
        kiln_scheduler_get_counters(instance->scheduler, &counters) != KILN_OK) {
        return serve_refuse_status(problem, status, kiln_error_message());
    }
    instance->max_batch = counters.max_batch;
    instance->delay = options.delay_nanoseconds;
    instance->contexts = options.contexts > 0 ? options.contexts : instance->on_gpu ? 2 : 1;
    return true;
}

static void describe(serve_instance *instance, const char *file)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    instance->platform = serve_is_onnx(file) ? "onnxruntime_onnx" : "tensorrt_plan";
    if (kiln_engine_backend(instance->engines[0], &info) == KILN_OK) {
        (void)snprintf(instance->backend, sizeof instance->backend, "%.40s %.30s", info.name,
                       info.version);
    }
}

SCOPED_POINTER(kiln_build, kiln_build_destroy)

/* Builds in a job that a stop can cancel. */
static kiln_status build_engine(const serve *server, const char *file,
                                const kiln_build_options *options, kiln_engine **engine)
{
    SCOPED(kiln_build_destroy_at) kiln_build *build = NULL;
    kiln_status status = kiln_build_start_load(file, options, NULL, &build);
    while (build != NULL && (status = kiln_build_wait(build, MOMENT, engine)) == KILN_ERROR_BUSY) {
        if (atomic_load(&server->stopping)) {
            kiln_build_cancel(build);
        }
    }
    return status;
}

/* Loads directly if that does not take long: with a thread per load, memory would spread over the C
 * library's arenas and stay there. */
static bool load_engine(const serve *server, const char *file, const kiln_build_options *options,
                        kiln_engine **engine, serve_problem *problem)
{
    if (atomic_load(&server->stopping)) {
        return serve_refuse(problem, 503, "the server is stopping");
    }
    const kiln_status status = serve_builds_long(file, options)
                                   ? build_engine(server, file, options, engine)
                                   : kiln_engine_load(file, options, engine);
    if (status == KILN_ERROR_SHAPE && options->profile_rows > 0) {
        return serve_refuse(problem, 400,
                            "%s, here by dims in " SERVE_CONFIG_FILE
                            " or as a plan of kiln build --profile",
                            kiln_error_message());
    }
    return status == KILN_OK || (status == KILN_ERROR_CANCELLED
                                     ? serve_refuse(problem, 503, "the server is stopping")
                                     : serve_refuse_status(problem, status, kiln_error_message()));
}

/* One engine for each device in the configuration, else a single one. */
static bool open_engines(serve_instance *instance, const char *file, const serve_config *config,
                         const serve_tuning *tuning, serve_problem *problem)
{
    SCOPED_HEAP kiln_shape_hint *hints = NULL;
    const kiln_build_options *wanted = instance->server->options->build;
    kiln_build_options build = KILN_BUILD_OPTIONS_INIT;
    const size_t count = tuning->device_count > 0 ? tuning->device_count : 1;
    build = wanted != NULL ? *wanted : build;
    build.backend = build.backend != NULL ? build.backend : tuning->backend;
    build.provider = build.provider != KILN_PROVIDER_DEFAULT ? build.provider : tuning->provider;
    build.threads = build.threads != 0 ? build.threads : (int32_t)tuning->threads;
    bool opened = serve_profile_make(config, instance->server->options->max_batch, file, &build,
                                     &hints, problem);
    for (size_t i = 0; opened && i < count; i++) {
        build.device = tuning->device_count > 0 ? tuning->devices[i] : build.device;
        opened = load_engine(instance->server, file, &build, &instance->engines[i], problem);
        instance->engine_count += opened ? 1 : 0;
    }
    instance->on_gpu = opened && kiln_engine_device(instance->engines[0]) >= 0;
    return opened;
}

void serve_instance_close(serve_instance *instance)
{
    serve_figures_keep(instance);
    serve_language_close(instance);
    kiln_scheduler_destroy(instance->scheduler);
    for (size_t i = 0; i < instance->engine_count; i++) {
        kiln_engine_release(instance->engines[i]);
    }
    for (size_t i = 0; instance->labels != NULL && i < instance->output_count; i++) {
        free(instance->labels[i].items);
        free(instance->labels[i].text);
    }
    serve_text_finish(&instance->version_policy);
    free(instance->labels);
    free(instance->inputs);
    free(instance->outputs);
    free(instance);
}

static bool open_parts(serve_instance *instance, const serve_model *model,
                       const serve_version *version, serve_config *config, serve_problem *problem)
{
    serve_tuning tuning;
    return serve_config_read(instance->server, model->root, model->place, config, problem) &&
           serve_config_tune(config, model->name, &tuning, problem) &&
           open_engines(instance, version->file, config, &tuning, problem) &&
           open_bindings(instance->engines[0], true, &instance->inputs, &instance->input_count,
                         problem) &&
           open_bindings(instance->engines[0], false, &instance->outputs, &instance->output_count,
                         problem) &&
           serve_config_apply(config, model, instance, problem) &&
           serve_config_tell(config, instance, problem) &&
           open_scheduler(instance, &tuning, problem) &&
           serve_language_open(instance, &tuning, problem) &&
           serve_warmup(config, model, instance, problem);
}

serve_instance *serve_instance_open(struct serve *server, const serve_model *model,
                                    serve_version *version, serve_problem *problem)
{
    SCOPED(serve_config_finish) serve_config config = {.given = false};
    serve_instance *instance = calloc(1, sizeof *instance);
    if (instance == NULL) {
        (void)serve_no_memory(problem);
        return NULL;
    }
    instance->server = server;
    atomic_init(&instance->references, 1);
    (void)snprintf(instance->name, sizeof instance->name, "%s", model->name);
    (void)snprintf(instance->version, sizeof instance->version, "%s", version->version);
    if (!open_parts(instance, model, version, &config, problem)) {
        serve_instance_close(instance);
        return NULL;
    }
    instance->counts = &version->counts;
    describe(instance, version->file);
    return instance;
}
