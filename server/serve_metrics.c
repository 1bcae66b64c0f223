/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "serve_parts.h"

/* --- figures --- */

static void read_times(kiln_scheduler *scheduler, kiln_scheduler_figure figure,
                       kiln_histogram_summary *summary)
{
    kiln_histogram *times = NULL;
    *summary = (kiln_histogram_summary){.struct_size = sizeof *summary};
    if (kiln_histogram_create(&times) == KILN_OK) {
        (void)!kiln_scheduler_get_figure(scheduler, figure, times);
        (void)!kiln_histogram_summarize(times, summary);
    }
    kiln_histogram_destroy(times);
}

/* Adds a scheduler's counters. */
static void add_scheduler(kiln_scheduler *scheduler, serve_figures *figures)
{
    kiln_scheduler_counters counters = {.struct_size = sizeof counters};
    kiln_histogram_summary times;
    if (kiln_scheduler_get_counters(scheduler, &counters) == KILN_OK) {
        figures->executions += counters.batches;
        figures->pending = counters.waiting;
        figures->input_ns += counters.copy_nanoseconds;
        figures->infer_ns += counters.run_nanoseconds;
    }
    read_times(scheduler, KILN_SCHEDULER_QUEUE_TIME, &times);
    figures->queue_ns += (unsigned long long)(times.mean * (double)times.count);
    read_times(scheduler, KILN_SCHEDULER_RUN_TIME, &times);
    figures->median_ns = times.median;
    figures->p99_ns = times.p99;
}

static void add_generator(kiln_generator *generator, serve_figures *figures)
{
    kiln_generator_counters counters = {.struct_size = sizeof counters};
    if (kiln_generator_get_counters(generator, &counters) == KILN_OK) {
        figures->executions += counters.prefills + counters.steps;
        figures->infer_ns += counters.run_nanoseconds;
        figures->output_ns += counters.sample_nanoseconds;
        figures->pending += counters.waiting;
        figures->running += counters.running;
        figures->tokens += counters.tokens;
        figures->prompt_tokens += counters.prompt_tokens;
        figures->cancelled += counters.cancelled;
        figures->cache_bytes += counters.cache_bytes;
    }
}

static void add_instance(const serve_instance *instance, serve_figures *figures)
{
    if (instance->scheduler != NULL) {
        add_scheduler(instance->scheduler, figures);
    }
    for (size_t i = 0; i < instance->generator_count; i++) {
        add_generator(instance->generators[i], figures);
    }
}

void serve_figures_read(const serve_version *version, serve_figures *figures)
{
    const serve_counts *counts = &version->counts;
    *figures = (serve_figures){.success = atomic_load(&counts->success),
                               .failure = atomic_load(&counts->failure),
                               .success_ns = atomic_load(&counts->success_ns),
                               .failure_ns = atomic_load(&counts->failure_ns),
                               .rows = atomic_load(&counts->rows),
                               .last = atomic_load(&counts->last),
                               .executions = atomic_load(&counts->executions),
                               .queue_ns = atomic_load(&counts->queue_ns),
                               .infer_ns = atomic_load(&counts->infer_ns),
                               .input_ns = atomic_load(&counts->input_ns),
                               .output_ns = atomic_load(&counts->output_ns),
                               .tokens = atomic_load(&counts->tokens),
                               .prompt_tokens = atomic_load(&counts->prompt_tokens),
                               .cancelled = atomic_load(&counts->cancelled),
                               .first_tokens = atomic_load(&counts->first_tokens),
                               .first_ns = atomic_load(&counts->first_ns)};
    figures->is_language = figures->prompt_tokens != 0;
    if (version->instance != NULL) {
        add_instance(version->instance, figures);
        figures->is_language |= version->instance->generator_count != 0;
    }
}

void serve_figures_keep(serve_instance *instance)
{
    serve_counts *counts = instance->counts;
    serve_figures figures = {.success = 0};
    if (counts != NULL) {
        add_instance(instance, &figures);
        (void)atomic_fetch_add(&counts->executions, figures.executions);
        (void)atomic_fetch_add(&counts->queue_ns, figures.queue_ns);
        (void)atomic_fetch_add(&counts->infer_ns, figures.infer_ns);
        (void)atomic_fetch_add(&counts->input_ns, figures.input_ns);
        (void)atomic_fetch_add(&counts->output_ns, figures.output_ns);
        (void)atomic_fetch_add(&counts->tokens, figures.tokens);
        (void)atomic_fetch_add(&counts->prompt_tokens, figures.prompt_tokens);
        (void)atomic_fetch_add(&counts->cancelled, figures.cancelled);
    }
}

void serve_count(const serve_connection *at, serve_counts *counts, bool succeeded,
                 unsigned long long rows)
{
    const uint64_t took = kiln_clock_now() - at->received;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    (void)atomic_fetch_add(succeeded ? &counts->success : &counts->failure, 1);
    (void)atomic_fetch_add(succeeded ? &counts->success_ns : &counts->failure_ns, took);
    (void)atomic_fetch_add(&counts->rows, rows);
    atomic_store(&counts->last,
                 (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000);
}

/* --- metrics --- */

typedef struct metric {
    const char *name;
    const char *type;
    const char *help;
    size_t offset; /* in serve_figures */
    unsigned divisor;
} metric;

/* With Triton's names, so that the same tools can read them. */
static const metric metrics[] = {
    {"nv_inference_request_success", "counter", "Number of successful inference requests",
     offsetof(serve_figures, success), 1},
    {"nv_inference_request_failure", "counter", "Number of failed inference requests",
     offsetof(serve_figures, failure), 1},
    {"nv_inference_count", "counter", "Number of inferences performed, rows of a batch each",
     offsetof(serve_figures, rows), 1},
    {"nv_inference_exec_count", "counter", "Number of model executions, a batch each",
     offsetof(serve_figures, executions), 1},
    {"nv_inference_request_duration_us", "counter", "Cumulative time of requests in microseconds",
     offsetof(serve_figures, success_ns), 1000},
    {"nv_inference_queue_duration_us", "counter", "Cumulative time in the queue in microseconds",
     offsetof(serve_figures, queue_ns), 1000},
    {"nv_inference_compute_input_duration_us", "counter",
     "Cumulative time of reading and joining inputs in microseconds",
     offsetof(serve_figures, input_ns), 1000},
    {"nv_inference_compute_infer_duration_us", "counter",
     "Cumulative time of running models in microseconds", offsetof(serve_figures, infer_ns), 1000},
    {"nv_inference_compute_output_duration_us", "counter",
     "Cumulative time of writing outputs in microseconds", offsetof(serve_figures, output_ns),
     1000},
    {"nv_inference_pending_request_count", "gauge", "Number of requests waiting to run",
     offsetof(serve_figures, pending), 1},
};

static const metric text_metrics[] = {
    {"serve_prompt_tokens", "counter", "Prompt tokens processed",
     offsetof(serve_figures, prompt_tokens), 1},
    {"serve_tokens", "counter", "Tokens generated", offsetof(serve_figures, tokens), 1},
    {"serve_first_tokens", "counter", "Texts that had a first token",
     offsetof(serve_figures, first_tokens), 1},
    {"serve_first_token_duration_us", "counter",
     "Cumulative time from requests to first tokens in microseconds",
     offsetof(serve_figures, first_ns), 1000},
    {"serve_cancelled_texts", "counter", "Texts whose client hung up, or that a stop ended",
     offsetof(serve_figures, cancelled), 1},
    {"serve_running_texts", "gauge", "Texts in the batch", offsetof(serve_figures, running), 1},
    {"serve_cache_bytes", "gauge", "Bytes of keys and values", offsetof(serve_figures, cache_bytes),
     1},
};

static unsigned long long value_of(const serve_figures *figures, const metric *row)
{
    unsigned long long value = 0;
    memcpy(&value, (const char *)figures + row->offset, sizeof value);
    return value / row->divisor;
}

static void put_head(serve_text *text, const metric *row)
{
    serve_text_printf(text, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name,
                      row->type);
}

/* Escapes backslashes and quotes for Prometheus; a name has no control characters. */
static void put_labels(serve_text *text, const char *model, const char *version)
{
    serve_text_string(text, "{model=\"");
    for (; *model != '\0'; model++) {
        serve_text_string(text, *model == '"' || *model == '\\' ? "\\" : "");
        serve_text_append(text, model, 1);
    }
    serve_text_printf(text, "\",version=\"%s\"}", version);
}

static void put_rows(serve_models *models, serve_text *text, const metric *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        put_head(text, &rows[i]);
        for (const serve_model *model = models->first; model != NULL; model = model->next) {
            for (const serve_version *version = model->versions; version != NULL;
                 version = version->next) {
                serve_figures figures;
                serve_figures_read(version, &figures);
                if (rows == text_metrics && !figures.is_language) {
                    continue;
                }
                serve_text_string(text, rows[i].name);
                put_labels(text, model->name, version->version);
                serve_text_printf(text, " %llu\n", value_of(&figures, &rows[i]));
            }
        }
    }
}

static void put_gpu_metrics(serve_text *text)
{
    static const metric memory[] = {
        {"nv_gpu_memory_total_bytes", "gauge", "GPU total memory in bytes", 0, 1},
        {"nv_gpu_memory_used_bytes", "gauge", "GPU used memory in bytes", 0, 1},
    };
    const size_t count = kiln_device_count();
    for (size_t i = 0; count != 0 && i < SERVE_LENGTH(memory); i++) {
        put_head(text, &memory[i]);
        for (size_t device = 0; device < count; device++) {
            size_t free_bytes = 0;
            size_t total = 0;
            if (kiln_device_memory((int32_t)device, &free_bytes, &total) == KILN_OK) {
                serve_text_printf(text, "%s{gpu_index=\"%zu\"} %zu\n", memory[i].name, device,
                                  i == 0 ? total : total - free_bytes);
            }
        }
    }
}

static void put_server_metrics(serve *server, serve_text *text)
{
    static const metric own[] = {
        {"serve_requests", "gauge", "Requests in flight", 0, 1},
        {"serve_connections", "gauge", "Open connections", 0, 1},
        {"serve_body_bytes", "gauge", "Bytes of request bodies in memory", 0, 1},
        {"serve_refused_requests", "counter", "Requests refused because of their headers", 0, 1},
    };
    const unsigned long long values[] = {
        atomic_load(&server->requests), atomic_load(&server->sockets),
        atomic_load(&server->body_bytes), atomic_load(&server->refused)};
    for (size_t i = 0; i < SERVE_LENGTH(own); i++) {
        put_head(text, &own[i]);
        serve_text_printf(text, "%s %llu\n", own[i].name, values[i]);
    }
}

serve_result serve_metrics_run(serve_connection *at)
{
    serve_models *models = &at->server->models;
    serve_text text = {.data = NULL};
    (void)pthread_rwlock_rdlock(&models->lock);
    put_rows(models, &text, metrics, SERVE_LENGTH(metrics));
    put_rows(models, &text, text_metrics, SERVE_LENGTH(text_metrics));
    (void)pthread_rwlock_unlock(&models->lock);
    put_gpu_metrics(&text);
    put_server_metrics(at->server, &text);
    (void)serve_answer_text(at, 200, "text/plain; version=0.0.4; charset=utf-8", &text);
    return SERVE_DONE;
}

/* --- statistics --- */

static void put_duration(serve_text *text, const char *name, unsigned long long count,
                         unsigned long long nanoseconds, const char *after)
{
    serve_text_printf(text, "\"%s\":{\"count\":%llu,\"ns\":%llu}%s", name, count, nanoseconds,
                      after);
}

static void put_statistics(serve_text *text, const serve_model *model, const serve_version *version)
{
    serve_figures figures;
    serve_figures_read(version, &figures);
    serve_text_string(text, "{\"name\":");
    serve_text_json(text, model->name);
    serve_text_printf(text,
                      ",\"version\":\"%s\",\"last_inference\":%llu,\"inference_count\":%llu,"
                      "\"execution_count\":%llu,\"inference_stats\":{",
                      version->version, figures.last, figures.rows, figures.executions);
    put_duration(text, "success", figures.success, figures.success_ns, ",");
    put_duration(text, "fail", figures.failure, figures.failure_ns, ",");
    /* Each of these counts a request once, as in Triton; perf_analyzer insists on it. */
    put_duration(text, "queue", figures.success, figures.queue_ns, ",");
    put_duration(text, "compute_input", figures.success, figures.input_ns, ",");
    put_duration(text, "compute_infer", figures.success, figures.infer_ns, ",");
    put_duration(text, "compute_output", figures.success, figures.output_ns, ",");
    put_duration(text, "cache_hit", 0, 0, ",");
    put_duration(text, "cache_miss", 0, 0, "");
    serve_text_string(text, "},\"batch_stats\":[]}");
}

serve_result serve_statistics_run(serve_connection *at)
{
    serve_models *models = &at->server->models;
    const bool all = at->segment_count == 3;
    const char *number = at->segment_count > 4 ? at->segments[4] : NULL;
    serve_text text = {.data = NULL};
    const char *comma = "";
    serve_text_string(&text, "{\"model_stats\":[");
    (void)pthread_rwlock_rdlock(&models->lock);
    for (const serve_model *model = models->first; model != NULL; model = model->next) {
        if (!all && strcmp(model->name, at->segments[2]) != 0) {
            continue;
        }
        for (const serve_version *version = model->versions; version != NULL;
             version = version->next) {
            if (number != NULL ? strcmp(version->version, number) == 0
                               : version->instance != NULL) {
                serve_text_string(&text, comma);
                put_statistics(&text, model, version);
                comma = ",";
            }
        }
    }
    (void)pthread_rwlock_unlock(&models->lock);
    serve_text_string(&text, "]}");
    if (!all && comma[0] == '\0') {
        serve_text_finish(&text);
        (void)serve_refuse(&at->problem, 404, "no such model is ready: \"%.200s\"",
                           at->segments[2]);
        return SERVE_REFUSED;
    }
    (void)serve_answer_text(at, 200, "application/json", &text);
    return SERVE_DONE;
}
