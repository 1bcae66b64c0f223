/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "cli_model.h"
#include "cli_statistics.h"

#define WARMUP_RUNS 5

const char *const cli_gpu_names[CLI_GPU_PARTS] = {"latency", "enqueue", "h2d", "compute", "d2h"};

typedef enum place { BEGIN, SENT, COMPUTED, BACK, PLACES } place;

typedef struct side {
    bool is_input;
    kiln_buffer *pinned;
    kiln_buffer *device;
} side;

typedef struct bench {
    kiln_context *context;
    kiln_stream *stream;
    kiln_event *events[PLACES];
    side *sides;
    size_t side_count;
} bench;

static kiln_status fill_side(bench *work, kiln_context *bound, const kiln_binding *binding,
                             size_t index, int32_t device)
{
    side *mine = &work->sides[index];
    kiln_tensor tensor;
    kiln_tensor view;
    size_t bytes = 0;
    mine->is_input = binding->is_input;
    KLN_RETURN_IF_ERROR(cli_tensor_of(bound, binding, &tensor));
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(tensor.desc.dtype, &tensor.desc.shape, &bytes));
    KLN_RETURN_IF_ERROR(kiln_buffer_create(KILN_LOCATION_PINNED, device, bytes, &mine->pinned));
    KLN_RETURN_IF_ERROR(kiln_buffer_create(KILN_LOCATION_DEVICE, device, bytes, &mine->device));
    KLN_RETURN_IF_ERROR(kiln_buffer_write(mine->pinned, 0, (kiln_span){tensor.data, bytes}, NULL));
    KLN_RETURN_IF_ERROR(
        kiln_buffer_tensor(mine->device, 0, tensor.desc.dtype, &tensor.desc.shape, &view));
    return kiln_context_bind(work->context, binding->name, &view);
}

static void finish(bench *work)
{
    kiln_context_destroy(work->context);
    for (size_t i = 0; i < work->side_count; i++) {
        kiln_buffer_destroy(work->sides[i].pinned);
        kiln_buffer_destroy(work->sides[i].device);
    }
    free(work->sides);
    for (size_t i = 0; i < PLACES; i++) {
        kiln_event_destroy(work->events[i]);
    }
    kiln_stream_destroy(work->stream);
}

static kiln_status copy_sides(const bench *work, bool inputs)
{
    for (size_t i = 0; i < work->side_count; i++) {
        const side *mine = &work->sides[i];
        if (mine->is_input == inputs) {
            KLN_RETURN_IF_ERROR(kiln_buffer_copy(inputs ? mine->device : mine->pinned, 0,
                                                 inputs ? mine->pinned : mine->device, 0,
                                                 kiln_buffer_bytes(mine->pinned), work->stream));
        }
    }
    return KILN_OK;
}

static kiln_status run_once(bench *work, uint64_t *enqueue)
{
    KLN_RETURN_IF_ERROR(kiln_event_record(work->events[BEGIN], work->stream));
    KLN_RETURN_IF_ERROR(copy_sides(work, true));
    KLN_RETURN_IF_ERROR(kiln_event_record(work->events[SENT], work->stream));
    const uint64_t before = kiln_clock_now();
    KLN_RETURN_IF_ERROR(kiln_context_enqueue(work->context, NULL));
    *enqueue = kiln_clock_now() - before;
    KLN_RETURN_IF_ERROR(kiln_event_record(work->events[COMPUTED], work->stream));
    KLN_RETURN_IF_ERROR(copy_sides(work, false));
    KLN_RETURN_IF_ERROR(kiln_event_record(work->events[BACK], work->stream));
    KLN_RETURN_IF_ERROR(kiln_context_wait(work->context));
    return kiln_stream_synchronize(work->stream);
}

/* Creates a context with its data in device memory and warms it up. */
static kiln_status begin(bench *work, kiln_engine *engine, kiln_context *bound,
                         kiln_graph_policy graphs)
{
    const int32_t device = kiln_engine_device(engine);
    const size_t inputs = kiln_engine_input_count(engine);
    kiln_context_options options = KILN_CONTEXT_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kiln_stream_create(device, 0, &work->stream));
    for (size_t i = 0; i < PLACES; i++) {
        KLN_RETURN_IF_ERROR(kiln_event_create(device, true, &work->events[i]));
    }
    options.graphs = graphs;
    options.stream = work->stream;
    KLN_RETURN_IF_ERROR(kiln_context_create(engine, &options, &work->context));
    work->side_count = inputs + kiln_engine_output_count(engine);
    work->sides = cli_allocate(work->side_count * sizeof *work->sides);
    for (size_t i = 0; i < work->side_count; i++) {
        kiln_binding binding;
        KLN_RETURN_IF_ERROR(cli_binding_at(engine, i, &binding));
        KLN_RETURN_IF_ERROR(fill_side(work, bound, &binding, i, device));
    }
    for (size_t i = 0; i < WARMUP_RUNS; i++) {
        KLN_RETURN_IF_ERROR(run_once(work, &(uint64_t){0}));
    }
    return KILN_OK;
}

static kiln_status keep(bench *work, cli_gpu_times *found, uint64_t enqueue)
{
    static const struct {
        cli_gpu_part part;
        place from;
        place to;
    } parts[] = {{CLI_GPU_LATENCY, BEGIN, BACK},
                 {CLI_GPU_H2D, BEGIN, SENT},
                 {CLI_GPU_COMPUTE, SENT, COMPUTED},
                 {CLI_GPU_D2H, COMPUTED, BACK}};
    kiln_histogram_record(found->times[CLI_GPU_ENQUEUE], enqueue);
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(parts); i++) {
        double took = 0;
        KLN_RETURN_IF_ERROR(
            kiln_event_elapsed(work->events[parts[i].from], work->events[parts[i].to], &took));
        kiln_histogram_record(found->times[parts[i].part], (uint64_t)(took * 1e6));
    }
    found->count++;
    return KILN_OK;
}

kiln_status cli_gpu_measure(kiln_engine *engine, kiln_context *bound, kiln_graph_policy graphs,
                            double seconds, size_t least, cli_gpu_times *found)
{
    SCOPED(finish) bench work = {.context = NULL};
    uint64_t enqueue = 0;
    KLN_RETURN_IF_ERROR(begin(&work, engine, bound, graphs));
    for (size_t i = 0; i < CLI_GPU_PARTS; i++) {
        found->times[i] = cli_times_create();
    }
    const uint64_t start = kiln_clock_now();
    while (found->count < least || (double)(kiln_clock_now() - start) < seconds * 1e9) {
        KLN_RETURN_IF_ERROR(run_once(&work, &enqueue));
        KLN_RETURN_IF_ERROR(keep(&work, found, enqueue));
    }
    return KILN_OK;
}

kiln_status cli_gpu_compare_raw(kiln_engine *engine, kiln_context *bound, kiln_graph_policy graphs,
                                double seconds, size_t least, cli_raw_times *found)
{
    SCOPED(finish) bench work = {.context = NULL};
    KLN_RETURN_IF_ERROR(begin(&work, engine, bound, graphs));
    return cli_raw_measure(work.context, seconds, least, found);
}

void cli_gpu_finish(cli_gpu_times *found)
{
    for (size_t i = 0; i < CLI_GPU_PARTS; i++) {
        kiln_histogram_destroy(found->times[i]);
    }
    *found = (cli_gpu_times){.count = 0};
}
