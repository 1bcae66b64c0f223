/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "exec_parts.h"

/* --- results of a run --- */

static size_t output_count(const capture_trial *trial)
{
    return trial->exec->shared->description.output_count;
}

static size_t slot_of(const capture_trial *trial, size_t output)
{
    return trial->exec->shared->description.input_count + output;
}

void capture_finish(capture_trial *trial)
{
    for (size_t i = 0; trial->expected != NULL && i < output_count(trial); i++) {
        kln_free(trial->expected[i]);
    }
    kln_free(trial->expected);
    trial->expected = NULL;
}

/* Reads a result from the entry's memory. The caller frees `copy`; it is NULL if the result can be
 * read in place. */
static kiln_status read_result(const capture_trial *trial, size_t output, const void **result,
                               void **copy)
{
    const transfer *way = &trial->entry->transfers[slot_of(trial, output)];
    *copy = NULL;
    *result = way->host;
    if ((way->host != NULL && way->mode != TRANSFER_DIRECT) || way->bytes == 0) {
        return KILN_OK;
    }
    KLN_SCOPED_FREE void *made = kln_alloc(way->bytes);
    KLN_RETURN_IF_NO_MEMORY(made, way->bytes, "the outputs of a run");
    KLN_RETURN_IF_ERROR(
        kln_cuda_copy(trial->exec->gpu->device, made, way->tensor.data, way->bytes, NULL));
    *result = *copy = KLN_TAKE(made);
    return KILN_OK;
}

static kiln_status fill_expected(capture_trial *trial)
{
    KLN_NEW(trial->expected, output_count(trial), "the outputs of a run");
    for (size_t i = 0; i < output_count(trial); i++) {
        const size_t bytes = trial->entry->transfers[slot_of(trial, i)].bytes;
        const void *result = NULL;
        void *copy = NULL;
        KLN_RETURN_IF_ERROR(read_result(trial, i, &result, &copy));
        if (copy == NULL && bytes != 0) {
            copy = kln_alloc(bytes);
            KLN_RETURN_IF_NO_MEMORY(copy, bytes, "the outputs of a run");
            memcpy(copy, result, bytes);
        }
        trial->expected[i] = copy;
    }
    return KILN_OK;
}

static kiln_status keep_expected(capture_trial *trial)
{
    if (trial->expected != NULL) {
        return KILN_OK;
    }
    const kiln_status status = fill_expected(trial);
    if (status != KILN_OK) {
        capture_finish(trial);
    }
    return status;
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

/* Tolerates the rounding differences of kernels that add in a different order each time. */
static bool nearly_same(const transfer *way, const void *expected, const void *found)
{
    const kiln_dtype dtype = way->tensor.desc.dtype;
    const bool is_half = dtype == KILN_DTYPE_FLOAT16 || dtype == KILN_DTYPE_BFLOAT16;
    if (memcmp(expected, found, way->bytes) == 0) {
        return true;
    }
    if (!is_half && dtype != KILN_DTYPE_FLOAT32 && dtype != KILN_DTYPE_FLOAT64) {
        return false;
    }
    const size_t count = way->bytes / (kiln_dtype_bits(dtype) / 8);
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

static kiln_status check_output(const capture_trial *trial, size_t output)
{
    const size_t index = slot_of(trial, output);
    const transfer *way = &trial->entry->transfers[index];
    const void *found = NULL;
    KLN_SCOPED_FREE void *copy = NULL;
    if (way->bytes == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(read_result(trial, output, &found, &copy));
    const bool same = nearly_same(way, trial->expected[output], found);
    return same ? KILN_OK
                : kln_fail(KILN_ERROR_UNSUPPORTED,
                           "a replay gives another output \"%s\" than the run before it",
                           exec_binding(trial->exec, index)->name);
}

/* --- one variant --- */

static kiln_status record_on(const capture_trial *trial, kiln_stream *stream, kiln_graph **graph)
{
    exec_gpu *gpu = trial->exec->gpu;
    KLN_RETURN_IF_ERROR(kln_stream_capture_begin_relaxed(stream));
    kiln_status status = transfers_enqueue_all(trial->exec, trial->entry, stream);
    if (status == KILN_OK && trial->entry->fenced &&
        kln_fence_enqueue(&gpu->fence, stream) != KILN_OK) {
        /* The driver refused it, so do not ask again. Graphs that were captured earlier may still
         * write to the fence. */
        kiln_stream_capture_abandon(stream);
        gpu->refuses_fence = true;
        trial->entry->fenced = false;
        return record_on(trial, stream, graph);
    }
    if (status != KILN_OK) {
        kiln_stream_capture_abandon(stream);
        return status;
    }
    return kiln_stream_capture_end(stream, graph);
}

/* On the caller's stream, other threads may be enqueuing work, so capture on a stream of our
 * own. */
static kiln_status record(const capture_trial *trial, kiln_graph **graph)
{
    const exec_gpu *gpu = trial->exec->gpu;
    kiln_stream *apart = NULL;
    if (gpu->caller == NULL || gpu->work != gpu->caller) {
        return record_on(trial, gpu->work, graph);
    }
    KLN_RETURN_IF_ERROR(kln_stream_create_beside(gpu->work, &apart));
    const kiln_status status = record_on(trial, apart, graph);
    kiln_stream_destroy(apart);
    return status;
}

/* A library may enqueue host callbacks that release memory once its work is done. A replay would
 * release it twice, and the work would read freed memory. */
static kiln_status check_calls(const capture_trial *trial, const kiln_graph *graph)
{
    if (graph->host_calls == 0 || trial->exec->shared->backend->repeats_calls) {
        return KILN_OK;
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "the work calls the host %zu time%s, which a replay must not repeat",
                    graph->host_calls, graph->host_calls == 1 ? "" : "s");
}

/* Overwrites the outputs, so that old contents cannot pass for a result. */
static kiln_status spoil_outputs(const capture_trial *trial)
{
    const kln_exec *exec = trial->exec;
    for (EXEC_EACH_SLOT(i, exec, false)) {
        const transfer *way = &trial->entry->transfers[i];
        if (way->host != NULL) {
            memset(way->host, 0xA5, way->bytes);
        }
        if (way->tensor.data != way->host && way->bytes != 0) {
            KLN_RETURN_IF_ERROR(
                kln_cuda_fill(exec->gpu->device, way->tensor.data, 0xA5, way->bytes, NULL));
        }
    }
    return KILN_OK;
}

kiln_status capture_run(const capture_trial *trial, kiln_graph *graph)
{
    kiln_stream *stream = trial->exec->gpu->work;
    transfers_copy_in(trial->exec, trial->entry, true);
    KLN_RETURN_IF_ERROR(transfers_enqueue_ahead(trial->exec, trial->entry, stream, true));
    const bool fenced = graph != NULL && trial->entry->fenced;
    if (fenced) {
        kln_fence_arm(&trial->exec->gpu->fence);
    }
    KLN_RETURN_IF_ERROR(graph != NULL ? kln_graph_launch(graph, stream)
                                      : transfers_enqueue_all(trial->exec, trial->entry, stream));
    KLN_RETURN_IF_ERROR(transfers_enqueue_behind(trial->exec, trial->entry, stream, true));
    KLN_RETURN_IF_ERROR(fenced ? kln_fence_wait(&trial->exec->gpu->fence, stream)
                               : kln_stream_wait(stream));
    transfers_copy_out(trial->exec, trial->entry, true);
    return KILN_OK;
}

static kiln_status verify(const capture_trial *trial, kiln_graph *graph)
{
    KLN_RETURN_IF_ERROR(spoil_outputs(trial));
    KLN_RETURN_IF_ERROR(capture_run(trial, graph));
    for (size_t i = 0; i < output_count(trial); i++) {
        KLN_RETURN_IF_ERROR(check_output(trial, i));
    }
    return KILN_OK;
}

static kiln_status capture(capture_trial *trial, kiln_graph **graph)
{
    const bool verifies = !trial->exec->shared->backend->documents_capture;
    KLN_RETURN_IF_ERROR(transfers_bind(trial->exec, trial->entry));
    /* Libraries choose kernels and allocate memory at their first run. */
    KLN_RETURN_IF_ERROR(capture_run(trial, NULL));
    if (verifies) {
        KLN_RETURN_IF_ERROR(keep_expected(trial));
    }
    KLN_RETURN_IF_ERROR(record(trial, graph));
    KLN_RETURN_IF_ERROR(check_calls(trial, *graph));
    return verifies ? verify(trial, *graph) : KILN_OK;
}

kiln_status capture_variant(capture_trial *trial, graph_variant variant, kiln_graph **graph)
{
    *graph = NULL;
    transfers_set(trial->exec, trial->entry, variant);
    const kiln_status status = capture(trial, graph);
    if (status != KILN_OK) {
        kln_log(KILN_LOG_DEBUG, "engine", "no graph with inputs %s, outputs %s: %s",
                transfer_mode_name(variant.in), transfer_mode_name(variant.out),
                kiln_error_message());
        kiln_graph_destroy(*graph);
        *graph = NULL;
    }
    return status;
}

/* --- whether capture is possible --- */

static transfer_mode without_kernel(transfer_mode mode)
{
    return mode == TRANSFER_GATHERED ? TRANSFER_COPIED : mode;
}

/* If the chosen variant fails, tries it without Kiln's own kernels, and then with all copies inside
 * the graph, which every device and library supports. */
static kiln_status attempt(capture_trial *trial)
{
    kln_exec *exec = trial->exec;
    graph_entry *entry = trial->entry;
    KLN_RETURN_IF_ERROR(transfers_make(exec, entry));
    const graph_variant chosen = graph_variant_choose(exec, entry);
    const graph_variant variants[] = {
        chosen,
        {.in = without_kernel(chosen.in), .out = without_kernel(chosen.out)},
        {.in = TRANSFER_COPIED, .out = TRANSFER_COPIED},
    };
    graph_variant variant = chosen;
    kiln_status status = capture_variant(trial, variant, &entry->graph);
    for (size_t i = 1; status != KILN_OK && i < KLN_ARRAY_LENGTH(variants); i++) {
        if (variants[i].in != variant.in || variants[i].out != variant.out) {
            variant = variants[i];
            status = capture_variant(trial, variant, &entry->graph);
        }
    }
    if (status == KILN_OK) {
        kln_log(KILN_LOG_DEBUG, "engine", "a graph of %zu nodes, inputs %s, outputs %s",
                kiln_graph_node_count(entry->graph), transfer_mode_name(variant.in),
                transfer_mode_name(variant.out));
    }
    return status;
}

static kiln_status find_obstacle(kln_exec *exec, graph_entry *entry, bool *admitted)
{
    const kiln_backend *backend = exec->shared->backend;
    const char *obstacle = backend->context.enqueue == NULL ? "the backend cannot enqueue its work"
                           : backend->engine.no_capture != NULL
                               ? backend->engine.no_capture(exec->shared->state)
                               : NULL;
    KLN_RETURN_IF(obstacle != NULL, KILN_ERROR_UNSUPPORTED, "%s", obstacle);
    return graph_cache_admit(exec, entry, admitted);
}

static kiln_status give_up(kln_exec *exec, graph_entry *entry, kiln_status status)
{
    exec_gpu *gpu = exec->gpu;
    (void)snprintf(gpu->reason, sizeof gpu->reason, "%s", kiln_error_message());
    gpu->failures++;
    graph_cache_drop(exec, entry);
    kln_log(KILN_LOG_INFO, "engine", "runs are not captured into a graph: %s", gpu->reason);
    KLN_FAIL_IF(gpu->policy == KILN_GRAPH_REQUIRED,
                kln_fail_within(status, "a captured graph is required"));
    entry->mode = ENTRY_PLAIN;
    return KILN_OK;
}

kiln_status graph_capture(kln_exec *exec, graph_entry *entry)
{
    exec_gpu *gpu = exec->gpu;
    bool admitted = false;
    kiln_status status = find_obstacle(exec, entry, &admitted);
    if (status == KILN_OK && !admitted) {
        return gpu->policy == KILN_GRAPH_REQUIRED
                   ? kln_fail(KILN_ERROR_LIMIT, "a captured graph is required: %s", gpu->reason)
                   : KILN_OK;
    }
    capture_trial trial = {.exec = exec, .entry = entry};
    if (status == KILN_OK) {
        if (gpu->owns_work) {
            kln_fence_make(gpu->device, &gpu->fence);
        }
        status = attempt(&trial);
    }
    capture_finish(&trial);
    gpu->bound = NULL;
    if (status != KILN_OK) {
        return give_up(exec, entry, status);
    }
    transfers_trim(exec, entry);
    graph_cache_count(exec, entry);
    entry->mode = ENTRY_GRAPH;
    gpu->captures++;
    return KILN_OK;
}
