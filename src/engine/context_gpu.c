/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <time.h>

#include "context_parts.h"

/* What staging buffers and graphs of a context may take without a word of the caller's: this share
 * of the device's memory. */
#define DEFAULT_SHARE 16
#define DEFAULT_LEAST ((uint64_t)256 << 20)

/* --- create and destroy --- */

/* Runs that a call leaves on the GPU are counted in the engine, for whoever changes what they read.
 */
static void begin_under_way(kiln_context *context, bool waits)
{
    context->gpu->is_under_way = true;
    context->gpu->is_waited_for = waits;
    if (!waits) {
        (void)atomic_fetch_add(&context->engine->under_way, 1);
    }
}

/* Once it was waited for. */
static void end_under_way(kiln_context *context)
{
    context_gpu *gpu = context->gpu;
    if (gpu->is_under_way && !gpu->is_waited_for) {
        (void)atomic_fetch_sub(&context->engine->under_way, 1);
    }
    gpu->is_under_way = false;
}

static kiln_status check_options(const kiln_context *context, const kiln_context_options *options)
{
    const kiln_engine *engine = context->engine;
    const int policy = (int)options->graphs;
    if (policy < KILN_GRAPH_AUTOMATIC || policy > KILN_GRAPH_REQUIRED) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_context_options: graphs is %d, one of kiln_graph_policy (0 to %d) is "
                        "needed",
                        policy, KILN_GRAPH_REQUIRED);
    }
    const char *name = options->stream != NULL                  ? "stream"
                       : options->graph_bytes != 0              ? "graph_bytes"
                       : options->graphs == KILN_GRAPH_REQUIRED ? "graphs"
                       : options->overlap_copies                ? "overlap_copies"
                                                                : NULL;
    if (engine->device < 0 && name != NULL) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_context_options: \"%s\" is set, and this engine of the %s backend "
                        "computes on the CPU",
                        name, engine->info.name);
    }
    if (options->stream != NULL && options->stream->device != engine->device) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_context_options: the stream is of device %d, the engine of device %d",
                        options->stream->device, engine->device);
    }
    return KILN_OK;
}

/* Memory that contexts share is ordered by a stream that they share. */
static kiln_status get_sharing_stream(kiln_engine *engine, kiln_stream **stream)
{
    kiln_status status = KILN_OK;
    (void)pthread_mutex_lock(&engine->order);
    if (engine->sharing == NULL) {
        status = kiln_stream_create(engine->device, 0, &engine->sharing);
    }
    *stream = engine->sharing;
    (void)pthread_mutex_unlock(&engine->order);
    return status;
}

/* The stream where the work goes: the engine's, where it has one; the caller's; or an own one. */
static kiln_status choose_stream(context_gpu *gpu, kiln_engine *engine, bool shares_memory)
{
    gpu->shared = engine->stream != NULL || shares_memory;
    if (engine->stream != NULL) {
        gpu->work = engine->stream;
        return KILN_OK;
    }
    if (gpu->caller == NULL && shares_memory) {
        return get_sharing_stream(engine, &gpu->work);
    }
    if (gpu->caller != NULL) {
        gpu->work = gpu->caller;
        return kiln_stream_create(engine->device, 0, &gpu->recording);
    }
    KLN_RETURN_IF_ERROR(kiln_stream_create(engine->device, 0, &gpu->work));
    gpu->owns_work = true;
    return KILN_OK;
}

static kiln_status most_bytes_of(int32_t device, const kiln_context_options *options,
                                 uint64_t *most)
{
    *most = options->graph_bytes;
    if (*most == 0) {
        kiln_device_info info = {.struct_size = sizeof info};
        KLN_RETURN_IF_ERROR(kln_cuda_device_info(device, &info));
        *most = info.total_bytes / DEFAULT_SHARE;
        *most = *most > DEFAULT_LEAST ? *most : DEFAULT_LEAST;
    }
    return KILN_OK;
}

kiln_status context_gpu_create(kiln_context *context, const kiln_context_options *options)
{
    uint64_t most = 0;
    KLN_RETURN_IF_ERROR(check_options(context, options));
    if (context->engine->device < 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(most_bytes_of(context->engine->device, options, &most));
    context_gpu *gpu = kln_alloc_zeroed(1, sizeof *gpu);
    if (gpu == NULL) {
        return kln_fail_memory(sizeof *gpu, "a context's work on a GPU");
    }
    context->gpu = gpu;
    gpu->device = context->engine->device;
    gpu->policy = options->graphs;
    gpu->asked = options->graphs;
    gpu->caller = options->stream;
    graph_cache_init(&gpu->cache, most);
    KLN_RETURN_IF_ERROR(choose_stream(gpu, context->engine, options->share_device_memory));
    KLN_RETURN_IF_ERROR(kiln_event_create(gpu->device, false, &gpu->before));
    if (options->overlap_copies) {
        KLN_RETURN_IF_ERROR(kiln_stream_create(gpu->device, 0, &gpu->copies));
        KLN_RETURN_IF_ERROR(kiln_event_create(gpu->device, false, &gpu->computed));
    }
    return kiln_event_create(gpu->device, false, &gpu->after);
}

kiln_stream *context_gpu_destroy(kiln_context *context)
{
    context_gpu *gpu = context->gpu;
    if (gpu == NULL) {
        return NULL;
    }
    if (gpu->is_under_way && kiln_stream_synchronize(gpu->target) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "engine", "destroying a context: %s", kiln_error_message());
    }
    end_under_way(context);
    graph_cache_finish(context);
    kiln_event_destroy(gpu->after);
    kiln_event_destroy(gpu->before);
    kiln_event_destroy(gpu->computed);
    kiln_stream_destroy(gpu->copies);
    kiln_stream_destroy(gpu->recording);
    kiln_stream *work = gpu->owns_work ? gpu->work : NULL;
    kln_free(gpu);
    context->gpu = NULL;
    return work;
}

void context_gpu_forget(kiln_context *context, bool graphs)
{
    context_gpu *gpu = context->gpu;
    context->has_results = false;
    if (gpu == NULL) {
        return;
    }
    graph_cache_drop_all(context);
    /* The backend may be bound to memory that just went. */
    context->ready = false;
    for (size_t i = 0; i < context->slot_count; i++) {
        context->slots[i].pending = true;
    }
    gpu->policy = graphs ? gpu->asked : KILN_GRAPH_OFF;
}

bool context_gpu_output(const kiln_context *context, size_t index, kiln_tensor *tensor)
{
    const graph_entry *entry = context->gpu != NULL ? context->gpu->shown : NULL;
    if (entry == NULL) {
        return false;
    }
    if (context->slots[index].state == SLOT_CALLER) {
        *tensor = context->slots[index].tensor;
        return true;
    }
    const transfer *way = &entry->transfers[index];
    *tensor = way->tensor;
    tensor->desc.location = KILN_LOCATION_PINNED;
    tensor->data = way->host;
    return true;
}

/* --- a run --- */

static kiln_status order(kiln_event *event, kiln_stream *earlier, kiln_stream *later)
{
    KLN_RETURN_IF_ERROR(kiln_event_record(event, earlier));
    return kiln_stream_wait_event(later, event);
}

static kiln_status finish(kiln_context *context)
{
    context_gpu *gpu = context->gpu;
    const kiln_status status =
        gpu->has_event ? kiln_event_synchronize(gpu->after) : kln_stream_wait(gpu->target);
    end_under_way(context);
    if (status != KILN_OK) {
        context->has_results = false;
        return status;
    }
    if (gpu->shown->works_outside) {
        transfers_copy_out(context, gpu->shown, gpu->is_waited_for);
    }
    return KILN_OK;
}

kiln_status context_gpu_finish(kiln_context *context)
{
    kln_cuda_scope scope;
    kiln_status status = kln_cuda_enter(context->gpu->device, &scope);
    if (status == KILN_OK) {
        status = finish(context);
        kln_cuda_leave(&scope);
    }
    if (status != KILN_OK) {
        /* It was counted as one that worked when it was enqueued. */
        end_under_way(context);
        context->has_results = false;
        context->runs--;
        context->failed_runs++;
        context->gpu->hits -= context->gpu->replayed;
    }
    return status;
}

/* --- a run that is left --- */

/* So often the end of a run is asked for without a pause, for about a millisecond; a pause makes
 * its end known so much later at most. */
#define ASKED_AT_ONCE 1000
#define PAUSE_NANOSECONDS 50000

/* The driver's own wait hears nobody who says that it shall stop. */
static kiln_status wait_or_leave(kiln_context *context)
{
    context_gpu *gpu = context->gpu;
    const struct timespec pause = {.tv_nsec = PAUSE_NANOSECONDS};
    bool done = false;
    for (unsigned asked = 0;; asked += asked < ASKED_AT_ONCE) {
        KLN_RETURN_IF_ERROR(kiln_event_query(gpu->after, &done));
        if (done) {
            return KILN_OK;
        }
        if (context_is_stopped(context)) {
            gpu->left = true;
            context->has_results = false;
            return kln_fail(KILN_ERROR_CANCELLED, "the run was left");
        }
        if (asked >= ASKED_AT_ONCE) {
            (void)nanosleep(&pause, NULL);
        }
    }
}

kiln_status context_gpu_end_left(kiln_context *context, bool waited)
{
    context_gpu *gpu = context->gpu;
    kln_cuda_scope scope;
    KLN_RETURN_IF_ERROR(kln_cuda_enter(gpu->device, &scope));
    bool done = waited;
    const kiln_status status =
        waited ? kiln_event_synchronize(gpu->after) : kiln_event_query(gpu->after, &done);
    kln_cuda_leave(&scope);
    if (status == KILN_OK && !done) {
        return kln_fail(KILN_ERROR_STATE,
                        "a run that was stopped is still under way on the GPU; what is bound must "
                        "stay until kiln_context_wait has waited for its end");
    }
    end_under_way(context);
    gpu->left = false;
    return status;
}

/* --- one run --- */

/* Replays the entry's graph, or enqueues its work anew where it has none. */
static kiln_status launch(kiln_context *context, graph_entry *entry, kiln_stream *stream,
                          bool waits)
{
    context_gpu *gpu = context->gpu;
    kiln_stream *target = stream == NULL || gpu->shared ? gpu->work : stream;
    kiln_stream *copies = gpu->copies != NULL ? gpu->copies : target;
    const bool orders = stream != NULL && target != stream;
    if (entry->works_outside) {
        transfers_copy_in(context, entry, waits);
    }
    if (orders) {
        KLN_RETURN_IF_ERROR(order(gpu->before, stream, target));
    }
    if (entry->graph == NULL) {
        KLN_RETURN_IF_ERROR(transfers_bind(context, entry));
    }
    if (entry->works_outside) {
        KLN_RETURN_IF_ERROR(transfers_enqueue_ahead(context, entry, copies, waits));
    }
    if (copies != target) {
        KLN_RETURN_IF_ERROR(order(gpu->before, copies, target));
    }
    if (entry->graph != NULL) {
        KLN_RETURN_IF_ERROR(kln_graph_launch(entry->graph, target));
        gpu->replayed = true;
    } else {
        KLN_RETURN_IF_ERROR(transfers_enqueue_all(context, entry, target));
    }
    if (copies != target) {
        KLN_RETURN_IF_ERROR(order(gpu->computed, target, copies));
    }
    if (entry->works_outside) {
        KLN_RETURN_IF_ERROR(transfers_enqueue_behind(context, entry, copies, waits));
    }
    gpu->target = copies;
    gpu->shown = entry;
    begin_under_way(context, waits);
    /* Others may capture on a stream that is shared, or go on with work of theirs. */
    gpu->has_event = !waits || gpu->shared || gpu->caller != NULL;
    if (gpu->has_event || orders) {
        KLN_RETURN_IF_ERROR(kiln_event_record(gpu->after, copies));
    }
    return orders ? kiln_stream_wait_event(stream, gpu->after) : KILN_OK;
}

/* What the backend found in a plain run is lost when it is bound to an entry's memory: where that
 * came to nothing, it runs again. */
static kiln_status run_again(kiln_context *context)
{
    context->gpu->shown = NULL;
    return context_run_plainly(context);
}

/* After a plain run of an entry that has no graph yet. */
static kiln_status consider(kiln_context *context, graph_entry *entry)
{
    context_gpu *gpu = context->gpu;
    if (gpu->policy == KILN_GRAPH_OFF) {
        entry->mode = ENTRY_PLAIN;
        return KILN_OK;
    }
    if (gpu->policy == KILN_GRAPH_AUTOMATIC && entry->uses < 2) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(context_capture(context, entry));
    if (entry->mode == ENTRY_GRAPH) {
        gpu->shown = entry;
        transfers_copy_out(context, entry, true);
        return KILN_OK;
    }
    return context->ready ? KILN_OK : run_again(context);
}

static kiln_status run_plain_entry(kiln_context *context, graph_entry *entry, kiln_stream *stream,
                                   bool waits)
{
    context_gpu *gpu = context->gpu;
    if (stream != NULL && stream != gpu->work) {
        KLN_RETURN_IF_ERROR(order(gpu->before, stream, gpu->work));
    }
    gpu->shown = NULL;
    KLN_RETURN_IF_ERROR(context_run_plainly(context));
    if (entry->mode == ENTRY_NEW) {
        return consider(context, entry);
    }
    /* The next one need not wait. */
    if (!waits && !entry->has_transfers && context->engine->backend->enqueue != NULL) {
        if (transfers_make(context, entry) != KILN_OK) {
            kln_log(KILN_LOG_DEBUG, "engine", "runs are not enqueued: %s", kiln_error_message());
        }
        graph_cache_count(context, entry);
    }
    return KILN_OK;
}

static kiln_status run_entry(kiln_context *context, graph_entry *entry, kiln_stream *stream,
                             bool waits)
{
    const bool enqueues = !waits && entry->mode == ENTRY_PLAIN && entry->has_transfers;
    graph_cache_use(&context->gpu->cache, entry);
    context->gpu->replayed = false;
    if (entry->mode != ENTRY_GRAPH && !enqueues) {
        return run_plain_entry(context, entry, stream, waits);
    }
    const kiln_status status = launch(context, entry, stream, waits);
    if ((status == KILN_ERROR_SHAPE || status == KILN_ERROR_UNSUPPORTED) && enqueues) {
        /* Outputs whose shape depends on values, and the like: they cannot be enqueued after all.
         */
        transfers_drop(context, entry);
        graph_cache_count(context, entry);
        return run_again(context);
    }
    return status;
}

/* Work on a stream that the engine shares is enqueued, captured and timed by one thread. */
static void lock_order(kiln_context *context)
{
    if (context->gpu->shared) {
        (void)pthread_mutex_lock(&context->engine->order);
    }
}

static void unlock_order(kiln_context *context)
{
    if (context->gpu->shared) {
        (void)pthread_mutex_unlock(&context->engine->order);
    }
}

static kiln_status run_inside(kiln_context *context, kiln_stream *stream, bool waits)
{
    context_gpu *gpu = context->gpu;
    const unsigned long refits = atomic_load(&context->engine->refits);
    if (refits != gpu->refits) {
        context_gpu_forget(context, gpu->policy == gpu->asked);
        gpu->refits = refits;
    }
    if (gpu->current == NULL) {
        KLN_RETURN_IF_ERROR(graph_cache_find(context, &gpu->current));
    }
    lock_order(context);
    kiln_status status = run_entry(context, gpu->current, stream != NULL ? stream : gpu->caller,
                                   waits && !gpu->leaves);
    unlock_order(context);
    if (status == KILN_OK && waits && gpu->is_under_way) {
        status = gpu->leaves ? wait_or_leave(context) : KILN_OK;
        status = gpu->left ? status : finish(context);
    }
    gpu->hits += status == KILN_OK && gpu->replayed;
    return status;
}

kiln_status context_gpu_run(kiln_context *context, kiln_stream *stream, bool waits)
{
    kln_cuda_scope scope;
    KLN_RETURN_IF_ERROR(context_check_all_bound(context));
    KLN_RETURN_IF_ERROR(kln_cuda_enter(context->gpu->device, &scope));
    const kiln_status status = run_inside(context, stream, waits);
    kln_cuda_leave(&scope);
    return status;
}

kiln_status context_gpu_search(kiln_context *context, uint64_t nanoseconds)
{
    context_gpu *gpu = context->gpu;
    kln_cuda_scope scope;
    if (gpu == NULL || gpu->copies != NULL || gpu->current == NULL ||
        gpu->current->mode != ENTRY_GRAPH || gpu->current->searched) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_cuda_enter(gpu->device, &scope));
    lock_order(context);
    const kiln_status status = graph_search(context, gpu->current, nanoseconds);
    unlock_order(context);
    kln_cuda_leave(&scope);
    if (status == KILN_OK) {
        transfers_copy_out(context, gpu->current, true);
    }
    return status;
}
