/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context_parts.h"

/* Whether bytes travel in copies of their own or the device reads and writes pinned memory itself
 * is decided by measuring: small tensors are faster without copies, large ones with. Copies of
 * inputs that are enqueued ahead of the graph travel while the host still launches it; those inside
 * cost the host nothing. */
enum { COPIES_IN = 1, COPIES_OUT = 2, AHEAD = 4, FORMS = 8 };

/* Past this, reading through the bus element by element never was faster. */
#define LARGEST_MAPPED ((size_t)4 << 20)

/* A form is timed until this many runs or this time is reached. */
#define TIMED_RUNS 31
#define FEWEST_TIMED_RUNS 3
#define TIMED_NANOSECONDS UINT64_C(60000000)

/* What is being tried. */
typedef struct attempt {
    kiln_context *context;
    graph_entry *entry;
    void **expected; /* one for each output: what the plain run gave */
    kiln_graph *best;
    uint64_t best_time;
    unsigned best_form;
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

static void set_form(const attempt *trial, unsigned form)
{
    const size_t input_count = trial->context->engine->description.input_count;
    for (size_t i = 0; i < trial->context->slot_count; i++) {
        graph_side *side = &trial->entry->sides[i];
        if (side->host == NULL) {
            continue;
        }
        side->copies = (form & (i < input_count ? COPIES_IN : COPIES_OUT)) != 0;
        side->ahead = side->copies && i < input_count && (form & AHEAD) != 0;
        side->tensor.data = side->copies ? side->device : side->host;
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

static kiln_status try_form(attempt *trial, unsigned form)
{
    kiln_stream *stream = trial->context->queue->work;
    kiln_graph *graph = NULL;
    uint64_t median = 0;
    set_form(trial, form);
    KLN_RETURN_IF_ERROR(context_bind_sides(trial->context, trial->entry));
    /* Once without a capture: libraries choose kernels and take memory at a first run. */
    KLN_RETURN_IF_ERROR(context_enqueue_ahead(trial->context, trial->entry, stream));
    KLN_RETURN_IF_ERROR(context_enqueue_sides(trial->context, trial->entry, stream));
    KLN_RETURN_IF_ERROR(kiln_stream_synchronize(stream));
    KLN_RETURN_IF_ERROR(record(trial, &graph));
    kiln_status status = check_calls(trial, graph);
    if (status == KILN_OK) {
        status = verify(trial, graph);
    }
    if (status == KILN_OK) {
        status = time_graph(trial, graph, &median);
    }
    if (status != KILN_OK) {
        kiln_graph_destroy(graph);
        return status;
    }
    kln_log(KILN_LOG_DEBUG, "engine", "a graph of %zu nodes, %s, %s: %.1f us",
            kiln_graph_node_count(graph),
            (form & AHEAD) != 0       ? "inputs copied ahead"
            : (form & COPIES_IN) != 0 ? "inputs copied"
                                      : "inputs mapped",
            (form & COPIES_OUT) != 0 ? "outputs copied" : "outputs mapped", (double)median / 1e3);
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

/* A form that copies nothing of a kind there is nothing of is the same as one that does. */
static bool is_worth_trying(unsigned form, size_t in, size_t out)
{
    const bool copies_in = (form & COPIES_IN) != 0;
    const bool copies_out = (form & COPIES_OUT) != 0;
    if ((form & AHEAD) != 0 && !copies_in) {
        return false;
    }
    return (copies_in ? in != 0 : in <= LARGEST_MAPPED) &&
           (copies_out ? out != 0 : out <= LARGEST_MAPPED);
}

static kiln_status try_forms(attempt *trial)
{
    const size_t in = mappable(trial, true);
    const size_t out = mappable(trial, false);
    context_copy_in(trial->context, trial->entry);
    /* From the one with all copies inside on, which every device and library can do. */
    for (unsigned turn = FORMS; turn-- > 0;) {
        const unsigned form = turn ^ AHEAD;
        if (!is_worth_trying(form, in, out)) {
            continue;
        }
        const kiln_status status = try_form(trial, form);
        if (status != KILN_OK && trial->best == NULL) {
            return status;
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
        if (side->device != NULL && !side->copies) {
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
    if (status == KILN_OK) {
        set_form(&trial, trial.best_form);
        drop_unused(&trial);
        entry->graph = trial.best;
        entry->mode = ENTRY_GRAPH;
        queue->captures++;
        queue->graphs++;
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
