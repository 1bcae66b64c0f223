/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context_parts.h"

/* How bytes travel is decided by measuring, for inputs and for outputs: small tensors are fastest
 * where they lie, large ones in copies. Copies of inputs that are enqueued ahead of the graph
 * travel while the host still launches it; those inside cost the host nothing, but the device a few
 * microseconds each; a kernel that gathers all costs those once. */
typedef struct run_form {
    side_way in;
    side_way out;
} run_form;

static const char *const way_names[SIDE_WAYS] = {
    [SIDE_MAPPED] = "mapped",
    [SIDE_COPIED] = "copied",
    [SIDE_AHEAD] = "copied ahead",
    [SIDE_GATHERED] = "gathered by a kernel",
};

/* Past this, reading through the bus element by element never was faster. */
#define LARGEST_MAPPED ((size_t)4 << 20)

/* Past this, what a kernel saves is lost beside the time that the bytes take, and a copy of the
 * driver's own leaves the device's processors to others. */
#define LARGEST_GATHERED ((size_t)16 << 20)

/* A form is timed until this many runs or this time is reached. */
#define TIMED_RUNS 31
#define FEWEST_TIMED_RUNS 3
#define TIMED_NANOSECONDS UINT64_C(60000000)

/* Forms whose first times lie this close are timed once more, in turns: what a device does in the
 * meantime moves a time by more than the forms differ. In a run that is longer than this, a few
 * microseconds do not count. */
#define CLOSE_TIMES 1.05
#define LONG_NANOSECONDS UINT64_C(5000000)
#define TURNS 12
#define FEWEST_TURNS 3
#define RUNS_IN_A_TURN 5

/* What is being tried. */
typedef struct attempt {
    kiln_context *context;
    graph_entry *entry;
    void **expected; /* one for each output: what the plain run gave */
    kiln_graph *best;
    uint64_t best_time;
    run_form best_form;
    size_t bytes_in;  /* that may travel in one way or another */
    size_t bytes_out; /* likewise */
    bool tried[SIDE_WAYS][SIDE_WAYS];
} attempt;

/* --- what the plain run gave --- */

static void drop_expected(attempt *trial)
{
    const size_t count = trial->context->engine->description.output_count;
    for (size_t i = 0; trial->expected != NULL && i < count; i++) {
        kln_free(trial->expected[i]);
    }
    kln_free(trial->expected);
}

static kiln_status keep_expected(attempt *trial)
{
    kiln_context *context = trial->context;
    const kln_description *description = &context->engine->description;
    trial->expected = kln_alloc_zeroed(description->output_count, sizeof *trial->expected);
    if (trial->expected == NULL) {
        return kln_fail_memory(sizeof *trial->expected, "the outputs of a run");
    }
    for (size_t i = 0; i < description->output_count; i++) {
        const size_t index = description->input_count + i;
        const graph_side *side = &trial->entry->sides[index];
        kiln_tensor tensor = context->slots[index].tensor;
        if (context->slots[index].state == SLOT_EMPTY) {
            KLN_RETURN_IF_ERROR(context->engine->backend->output(context->state, index, &tensor));
        }
        trial->expected[i] = kln_alloc(side->bytes);
        if (trial->expected[i] == NULL) {
            return kln_fail_memory(side->bytes, "the outputs of a run");
        }
        if (side->bytes == 0) {
            continue;
        }
        if (side->host != NULL) {
            memcpy(trial->expected[i], tensor.data, side->bytes);
        } else {
            KLN_RETURN_IF_ERROR(kln_cuda_copy(context->queue->device, trial->expected[i],
                                              tensor.data, side->bytes, NULL));
        }
    }
    return KILN_OK;
}

/* --- comparing --- */

static double value_at(kiln_dtype dtype, const void *data, size_t index)
{
    switch (dtype) {
        case KILN_DTYPE_FLOAT32: return (double)((const float *)data)[index];
        case KILN_DTYPE_FLOAT64: return ((const double *)data)[index];
        case KILN_DTYPE_FLOAT16:
            return (double)kln_float_from_half(((const uint16_t *)data)[index]);
        default: return (double)kln_float_from_bfloat16(((const uint16_t *)data)[index]);
    }
}

/* Kernels that add in another order each time differ in the last bits; the rest is another result.
 */
static bool nearly_same(const graph_side *side, const void *expected, const void *found)
{
    const kiln_dtype dtype = side->tensor.desc.dtype;
    const bool is_half = dtype == KILN_DTYPE_FLOAT16 || dtype == KILN_DTYPE_BFLOAT16;
    if (memcmp(expected, found, side->bytes) == 0) {
        return true;
    }
    if (!is_half && dtype != KILN_DTYPE_FLOAT32 && dtype != KILN_DTYPE_FLOAT64) {
        return false;
    }
    const size_t count = side->bytes / (kiln_dtype_bits(dtype) / 8);
    double largest = 0;
    double difference = 0;
    for (size_t i = 0; i < count; i++) {
        const double a = value_at(dtype, expected, i);
        const double b = value_at(dtype, found, i);
        if (isnan(a) || isnan(b) || isinf(a) || isinf(b)) {
            if (!(isnan(a) && isnan(b)) && !(isinf(a) && isinf(b) && a * b > 0)) {
                return false;
            }
            continue;
        }
        largest = fabs(a) > largest ? fabs(a) : largest;
        difference = fabs(a - b) > difference ? fabs(a - b) : difference;
    }
    return difference <= largest * (is_half ? 2e-2 : 2e-3);
}

static kiln_status check_output(const attempt *trial, size_t output)
{
    const kiln_context *context = trial->context;
    const size_t index = context->engine->description.input_count + output;
    const graph_side *side = &trial->entry->sides[index];
    const void *found = side->host;
    void *copy = NULL;
    if (side->bytes == 0) {
        return KILN_OK;
    }
    if (found == NULL) {
        copy = kln_alloc(side->bytes);
        if (copy == NULL) {
            return kln_fail_memory(side->bytes, "the outputs of a run");
        }
        const kiln_status status =
            kln_cuda_copy(context->queue->device, copy, side->tensor.data, side->bytes, NULL);
        if (status != KILN_OK) {
            kln_free(copy);
            return status;
        }
        found = copy;
    }
    const bool same = nearly_same(side, trial->expected[output], found);
    kln_free(copy);
    return same ? KILN_OK
                : kln_fail(KILN_ERROR_UNSUPPORTED,
                           "a replay gives another output \"%s\" than the run before it",
                           context_binding(context, index)->name);
}

/* --- one form --- */

static void set_form(const attempt *trial, run_form form)
{
    const size_t input_count = trial->context->engine->description.input_count;
    for (size_t i = 0; i < trial->context->slot_count; i++) {
        graph_side *side = &trial->entry->sides[i];
        if (side->host != NULL) {
            side->way = i < input_count ? form.in : form.out;
            side->tensor.data = side->way == SIDE_MAPPED ? side->host : side->device;
        }
    }
}

static kiln_status record(const attempt *trial, kiln_graph **graph)
{
    kiln_stream *stream = trial->context->queue->work;
    KLN_RETURN_IF_ERROR(kln_stream_capture_begin_relaxed(stream));
    const kiln_status status = context_enqueue_sides(trial->context, trial->entry, stream);
    if (status != KILN_OK) {
        kiln_stream_capture_abandon(stream);
        return status;
    }
    return kiln_stream_capture_end(stream, graph);
}

/* A library enqueues calls of the host to give memory back once its work is done. Replayed, they
 * give it back twice, and the work reads what is not there any more. */
static kiln_status check_calls(const attempt *trial, const kiln_graph *graph)
{
    if (graph->host_calls == 0 || trial->context->engine->backend->repeats_calls) {
        return KILN_OK;
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "the work calls the host %zu time%s, which a replay must not repeat",
                    graph->host_calls, graph->host_calls == 1 ? "" : "s");
}

/* What was there before must not pass for a result. */
static kiln_status spoil_outputs(const attempt *trial)
{
    const kiln_context *context = trial->context;
    const int32_t device = context->queue->device;
    for (size_t i = context->engine->description.input_count; i < context->slot_count; i++) {
        const graph_side *side = &trial->entry->sides[i];
        if (side->host != NULL) {
            memset(side->host, 0xA5, side->bytes);
        }
        if (side->tensor.data != side->host && side->bytes != 0) {
            KLN_RETURN_IF_ERROR(kln_cuda_fill(device, side->tensor.data, 0xA5, side->bytes, NULL));
        }
    }
    return KILN_OK;
}

static kiln_status replay(const attempt *trial, kiln_graph *graph)
{
    kiln_stream *stream = trial->context->queue->work;
    KLN_RETURN_IF_ERROR(context_enqueue_ahead(trial->context, trial->entry, stream));
    KLN_RETURN_IF_ERROR(kiln_graph_launch(graph, stream));
    return kiln_stream_synchronize(stream);
}

static kiln_status verify(const attempt *trial, kiln_graph *graph)
{
    KLN_RETURN_IF_ERROR(spoil_outputs(trial));
    KLN_RETURN_IF_ERROR(replay(trial, graph));
    for (size_t i = 0; i < trial->context->engine->description.output_count; i++) {
        KLN_RETURN_IF_ERROR(check_output(trial, i));
    }
    return KILN_OK;
}

static int compare_times(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left;
    const uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static kiln_status time_graph(const attempt *trial, kiln_graph *graph, uint64_t *median)
{
    uint64_t times[TIMED_RUNS];
    size_t count = 0;
    const uint64_t begin = kln_now();
    uint64_t now = begin;
    while (count < TIMED_RUNS && (count < FEWEST_TIMED_RUNS || now - begin < TIMED_NANOSECONDS)) {
        const uint64_t start = now;
        KLN_RETURN_IF_ERROR(replay(trial, graph));
        now = kln_now();
        times[count++] = now - start;
    }
    qsort(times, count, sizeof *times, compare_times);
    *median = times[count / 2];
    return KILN_OK;
}

/* One turn of a graph: its runs are added to `times`. */
static kiln_status take_turn(const attempt *trial, kiln_graph *graph, run_form form,
                             uint64_t *times)
{
    set_form(trial, form);
    for (size_t i = 0; i < RUNS_IN_A_TURN; i++) {
        const uint64_t start = kln_now();
        KLN_RETURN_IF_ERROR(replay(trial, graph));
        times[i] = kln_now() - start;
    }
    return KILN_OK;
}

/* The medians of the best graph so far and of another one, timed in turns. */
static kiln_status time_in_turns(attempt *trial, kiln_graph *graph, run_form form, uint64_t *median)
{
    uint64_t best[TURNS * RUNS_IN_A_TURN];
    uint64_t other[TURNS * RUNS_IN_A_TURN];
    size_t count = 0;
    const uint64_t begin = kln_now();
    for (size_t turn = 0;
         turn < TURNS && (turn < FEWEST_TURNS || kln_now() - begin < 2 * TIMED_NANOSECONDS);
         turn++) {
        KLN_RETURN_IF_ERROR(take_turn(trial, trial->best, trial->best_form, best + count));
        KLN_RETURN_IF_ERROR(take_turn(trial, graph, form, other + count));
        count += RUNS_IN_A_TURN;
    }
    qsort(best, count, sizeof *best, compare_times);
    qsort(other, count, sizeof *other, compare_times);
    trial->best_time = best[count / 2];
    *median = other[count / 2];
    return KILN_OK;
}

static kiln_status make_graph(attempt *trial, run_form form, kiln_graph **graph, uint64_t *median)
{
    kiln_stream *stream = trial->context->queue->work;
    set_form(trial, form);
    KLN_RETURN_IF_ERROR(context_bind_sides(trial->context, trial->entry));
    /* Once without a capture: libraries choose kernels and take memory at a first run. */
    KLN_RETURN_IF_ERROR(context_enqueue_ahead(trial->context, trial->entry, stream));
    KLN_RETURN_IF_ERROR(context_enqueue_sides(trial->context, trial->entry, stream));
    KLN_RETURN_IF_ERROR(kiln_stream_synchronize(stream));
    KLN_RETURN_IF_ERROR(record(trial, graph));
    KLN_RETURN_IF_ERROR(check_calls(trial, *graph));
    KLN_RETURN_IF_ERROR(verify(trial, *graph));
    KLN_RETURN_IF_ERROR(time_graph(trial, *graph, median));
    return trial->best != NULL && *median < LONG_NANOSECONDS &&
                   (double)*median < (double)trial->best_time * CLOSE_TIMES
               ? time_in_turns(trial, *graph, form, median)
               : KILN_OK;
}

static kiln_status try_form(attempt *trial, run_form form)
{
    kiln_graph *graph = NULL;
    uint64_t median = 0;
    const kiln_status status = make_graph(trial, form, &graph, &median);
    if (status != KILN_OK) {
        kln_log(KILN_LOG_DEBUG, "engine", "no graph with inputs %s, outputs %s: %s",
                way_names[form.in], way_names[form.out], kiln_error_message());
        kiln_graph_destroy(graph);
        return status;
    }
    kln_log(KILN_LOG_DEBUG, "engine", "a graph of %zu nodes, inputs %s, outputs %s: %.1f us",
            kiln_graph_node_count(graph), way_names[form.in], way_names[form.out],
            (double)median / 1e3);
    if (trial->best == NULL || median < trial->best_time) {
        kiln_graph_destroy(trial->best);
        trial->best = graph;
        trial->best_time = median;
        trial->best_form = form;
    } else {
        kiln_graph_destroy(graph);
    }
    return KILN_OK;
}

/* Bytes of a side that may be copied or not. */
static size_t mappable(const attempt *trial, bool inputs)
{
    const size_t input_count = trial->context->engine->description.input_count;
    size_t bytes = 0;
    for (size_t i = 0; i < trial->context->slot_count; i++) {
        if ((i < input_count) == inputs && trial->entry->sides[i].host != NULL) {
            bytes += trial->entry->sides[i].bytes;
        }
    }
    return bytes;
}

/* A way of nothing is the same as every other. */
static bool is_worth_trying(side_way way, size_t bytes)
{
    switch (way) {
        case SIDE_MAPPED: return bytes <= LARGEST_MAPPED;
        case SIDE_GATHERED: return bytes != 0 && bytes <= LARGEST_GATHERED;
        default: return bytes != 0;
    }
}

/* Where something works already, what does not is no failure. */
static void try_further(attempt *trial, run_form form)
{
    if (!trial->tried[form.in][form.out] && is_worth_trying(form.in, trial->bytes_in) &&
        is_worth_trying(form.out, trial->bytes_out)) {
        trial->tried[form.in][form.out] = true;
        (void)try_form(trial, form);
    }
}

/* From the form with all copies inside on, which every device and library can do: the opposite,
 * then each direction by itself beside the best so far of the other. */
static kiln_status try_forms(attempt *trial)
{
    trial->bytes_in = mappable(trial, true);
    trial->bytes_out = mappable(trial, false);
    const run_form first = {.in = trial->bytes_in != 0 ? SIDE_COPIED : SIDE_MAPPED,
                            .out = trial->bytes_out != 0 ? SIDE_COPIED : SIDE_MAPPED};
    context_copy_in(trial->context, trial->entry);
    trial->tried[first.in][first.out] = true;
    KLN_RETURN_IF_ERROR(try_form(trial, first));
    try_further(trial, (run_form){.in = SIDE_MAPPED, .out = SIDE_MAPPED});
    for (int way = SIDE_MAPPED; way < SIDE_WAYS; way++) {
        try_further(trial, (run_form){.in = (side_way)way, .out = trial->best_form.out});
    }
    for (int way = SIDE_MAPPED; way < SIDE_WAYS; way++) {
        if (way != SIDE_AHEAD) {
            try_further(trial, (run_form){.in = trial->best_form.in, .out = (side_way)way});
        }
    }
    return KILN_OK;
}

/* --- may it be captured at all --- */

/* A run that is repeated with outputs in the memory of its inputs has other inputs. */
static kiln_status check_overlap(const kiln_context *context, const graph_entry *entry)
{
    const size_t input_count = context->engine->description.input_count;
    for (size_t o = input_count; o < context->slot_count; o++) {
        const context_slot *output = &context->slots[o];
        if (output->state == SLOT_EMPTY || entry->sides[o].staging != NULL) {
            continue;
        }
        const uintptr_t begin = (uintptr_t)output->tensor.data;
        for (size_t i = 0; i < input_count; i++) {
            const uintptr_t other = (uintptr_t)context->slots[i].tensor.data;
            if (begin < other + entry->sides[i].bytes && other < begin + entry->sides[o].bytes) {
                return kln_fail(KILN_ERROR_UNSUPPORTED,
                                "output \"%s\" lies in the memory of input \"%s\", so a run cannot "
                                "be repeated to be checked",
                                context_binding(context, o)->name,
                                context_binding(context, i)->name);
            }
        }
    }
    return KILN_OK;
}

static kiln_status attempt_all(attempt *trial)
{
    kiln_context *context = trial->context;
    const kln_backend *backend = context->engine->backend;
    const char *obstacle = backend->enqueue == NULL ? "the backend cannot enqueue its work"
                           : backend->no_capture != NULL
                               ? backend->no_capture(context->engine->state)
                               : NULL;
    if (obstacle != NULL) {
        return kln_fail(KILN_ERROR_UNSUPPORTED, "%s", obstacle);
    }
    if (!trial->entry->has_sides) {
        KLN_RETURN_IF_ERROR(context_make_sides(context, trial->entry));
    }
    KLN_RETURN_IF_ERROR(check_overlap(context, trial->entry));
    KLN_RETURN_IF_ERROR(keep_expected(trial));
    return try_forms(trial);
}

/* Device memory of sides that are not copied. */
static void drop_unused(const attempt *trial)
{
    context_queue *queue = trial->context->queue;
    for (size_t i = 0; i < trial->context->slot_count; i++) {
        graph_side *side = &trial->entry->sides[i];
        if (side->device != NULL && side->way == SIDE_MAPPED) {
            kln_cuda_release(KILN_LOCATION_DEVICE, queue->device, side->device);
            queue->staging_bytes -= side->bytes;
            side->device = NULL;
        }
    }
}

kiln_status context_capture(kiln_context *context, graph_entry *entry)
{
    context_queue *queue = context->queue;
    attempt trial = {.context = context, .entry = entry};
    kiln_status status = attempt_all(&trial);
    /* The backend is bound to the last form's memory, some of which goes now. */
    queue->bound = NULL;
    if (status == KILN_OK) {
        set_form(&trial, trial.best_form);
        drop_unused(&trial);
        entry->graph = trial.best;
        entry->mode = ENTRY_GRAPH;
        queue->captures++;
        queue->graphs++;
        kln_log(KILN_LOG_DEBUG, "engine", "kept: inputs %s, outputs %s",
                way_names[trial.best_form.in], way_names[trial.best_form.out]);
        /* The last form tried may not be the one that is kept: its outputs are where another put
         * them, or spoilt. */
        status = replay(&trial, entry->graph);
    } else {
        (void)snprintf(queue->reason, sizeof queue->reason, "%s", kiln_error_message());
        queue->failures++;
        entry->mode = queue->policy == KILN_GRAPH_REQUIRED ? ENTRY_NEW : ENTRY_PLAIN;
        context_drop_sides(context, entry);
        kln_log(KILN_LOG_INFO, "engine", "runs are not captured into a graph: %s", queue->reason);
        status = queue->policy == KILN_GRAPH_REQUIRED
                     ? kln_fail_within(status, "a captured graph is required")
                     : KILN_OK;
    }
    drop_expected(&trial);
    return status;
}
