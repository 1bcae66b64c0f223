/* SPDX-License-Identifier: Apache-2.0 */
#include "exec_parts.h"

/* The default for graph_bytes, which limits the staging buffers and graphs of a context:
 * 1/DEFAULT_SHARE of the device's memory, but at least DEFAULT_LEAST. */
#define DEFAULT_SHARE 16
#define DEFAULT_LEAST ((uint64_t)256 << 20)

/* --- which stream --- */

static kiln_status check_options(const kln_exec *exec, const kiln_context_options *options)
{
    const kln_shared *shared = exec->shared;
    const int policy = (int)options->graphs;
    KLN_RETURN_IF(
        policy < KILN_GRAPH_AUTOMATIC || policy > KILN_GRAPH_REQUIRED, KILN_ERROR_INVALID_ARGUMENT,
        "kiln_context_options: graphs is %d, one of kiln_graph_policy (0 to %d) is needed", policy,
        KILN_GRAPH_REQUIRED);
    const char *name = options->stream != NULL                  ? "stream"
                       : options->graph_bytes != 0              ? "graph_bytes"
                       : options->graphs == KILN_GRAPH_REQUIRED ? "graphs"
                       : options->overlap_copies                ? "overlap_copies"
                       : options->priority != 0                 ? "priority"
                                                                : NULL;
    KLN_RETURN_IF(shared->device < 0 && name != NULL, KILN_ERROR_UNSUPPORTED,
                  "kiln_context_options: \"%s\" is set, and this engine of the %s backend computes "
                  "on the CPU",
                  name, shared->info.name);
    KLN_RETURN_IF(options->stream != NULL && options->stream->device != shared->device,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_context_options: the stream is of device %d, the engine of device %d",
                  options->stream->device, shared->device);
    const char *other = options->stream != NULL        ? "it has the caller's `stream`"
                        : shared->stream != NULL       ? "the engine has one for all its contexts"
                        : options->share_device_memory ? "with share_device_memory it shares one"
                                                       : NULL;
    KLN_RETURN_IF(options->priority != 0 && other != NULL, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_context_options: priority %d is for a stream of the context's own, and %s",
                  options->priority, other);
    return KILN_OK;
}

/* Contexts that share device memory also share a stream, which orders their use of it. */
static kiln_status get_sharing_stream(kln_shared *shared, kiln_stream **stream)
{
    kiln_status status = KILN_OK;
    KLN_LOCKED(&shared->order);
    if (shared->sharing == NULL) {
        status = kiln_stream_create(shared->device, 0, &shared->sharing);
    }
    *stream = shared->sharing;
    return status;
}

/* Chooses the stream for the work: the engine's if it has one, then the caller's, then the
 * context's own. */
static kiln_status choose_stream(exec_gpu *gpu, kln_shared *shared,
                                 const kiln_context_options *options)
{
    const bool shares_memory = options->share_device_memory;
    gpu->takes_turns = shared->stream != NULL || shares_memory;
    if (shared->stream != NULL) {
        gpu->work = shared->stream;
        return KILN_OK;
    }
    if (gpu->caller == NULL && shares_memory) {
        return get_sharing_stream(shared, &gpu->work);
    }
    if (gpu->caller != NULL) {
        gpu->work = gpu->caller;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kiln_stream_create(shared->device, options->priority, &gpu->work));
    gpu->owns_work = true;
    return KILN_OK;
}

/* --- streams for copies --- */

static kiln_status make_lane(kln_shared *shared, const kiln_stream *work, kln_lane **lane)
{
    kln_lane *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "streams for copies");
    kiln_status status = kiln_stream_create(shared->device, 0, &made->in);
    KLN_THEN(status, kiln_stream_create(shared->device, 0, &made->out));
    if (status != KILN_OK) {
        kiln_stream_destroy(made->in);
        kln_free(made);
        return status;
    }
    made->work = work;
    made->next = shared->lanes;
    shared->lanes = made;
    *lane = made;
    return KILN_OK;
}

static kiln_status take_lane(kln_shared *shared, const kiln_stream *work, kln_lane **lane)
{
    kiln_status status = KILN_OK;
    (void)pthread_mutex_lock(&shared->order);
    kln_lane *found = shared->lanes;
    while (found != NULL && found->work != work) {
        found = found->next;
    }
    if (found == NULL) {
        status = make_lane(shared, work, &found);
    }
    if (status == KILN_OK) {
        found->users++;
        *lane = found;
    }
    (void)pthread_mutex_unlock(&shared->order);
    return status;
}

static void leave_lane(kln_shared *shared, kln_lane *lane)
{
    if (lane == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&shared->order);
    lane->users--;
    if (lane->users == 0) {
        kln_lane **at = &shared->lanes;
        while (*at != lane) {
            at = &(*at)->next;
        }
        *at = lane->next;
        kiln_stream_destroy(lane->in);
        kiln_stream_destroy(lane->out);
        kln_free(lane);
    }
    (void)pthread_mutex_unlock(&shared->order);
}

/* --- create and destroy --- */

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

kiln_status exec_gpu_create(kln_exec *exec, const kiln_context_options *options)
{
    uint64_t most = 0;
    KLN_RETURN_IF_ERROR(check_options(exec, options));
    if (exec->shared->device < 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(most_bytes_of(exec->shared->device, options, &most));
    exec_gpu *gpu = kln_alloc_zeroed(1, sizeof *gpu);
    KLN_RETURN_IF_NO_MEMORY(gpu, sizeof *gpu, "a context's work on a GPU");
    exec->gpu = gpu;
    gpu->device = exec->shared->device;
    gpu->policy = options->graphs;
    gpu->asked = options->graphs;
    gpu->caller = options->stream;
    graph_cache_init(&gpu->cache, most);
    KLN_RETURN_IF_ERROR(choose_stream(gpu, exec->shared, options));
    KLN_RETURN_IF_ERROR(kiln_event_create(gpu->device, false, &gpu->before));
    if (options->overlap_copies) {
        KLN_RETURN_IF_ERROR(take_lane(exec->shared, gpu->work, &gpu->lane));
        KLN_RETURN_IF_ERROR(kiln_event_create(gpu->device, false, &gpu->computed));
    }
    KLN_RETURN_IF_ERROR(kiln_event_create(gpu->device, false, &gpu->copied));
    return kiln_event_create(gpu->device, false, &gpu->after);
}

kiln_stream *exec_gpu_destroy(kln_exec *exec)
{
    exec_gpu *gpu = exec->gpu;
    if (gpu == NULL) {
        return NULL;
    }
    if (gpu->is_under_way && kiln_stream_synchronize(gpu->target) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "engine", "destroying a context: %s", kiln_error_message());
    }
    exec_end_under_way(exec);
    graph_cache_finish(exec);
    kln_fence_drop(&gpu->fence);
    kiln_event_destroy(gpu->after);
    kiln_event_destroy(gpu->copied);
    kiln_event_destroy(gpu->before);
    kiln_event_destroy(gpu->computed);
    leave_lane(exec->shared, gpu->lane);
    kiln_stream *work = gpu->owns_work ? gpu->work : NULL;
    kln_free(gpu);
    exec->gpu = NULL;
    return work;
}

void kln_exec_allow_graphs(kln_exec *exec, bool allowed)
{
    exec_gpu *gpu = exec->gpu;
    exec->has_results = false;
    if (gpu == NULL) {
        return;
    }
    graph_cache_drop_all(exec);
    /* The backend may still be bound to memory that was just released. */
    exec->ready = false;
    for (size_t i = 0; i < exec->slot_count; i++) {
        exec->slots[i].pending = true;
    }
    gpu->policy = allowed ? gpu->asked : KILN_GRAPH_OFF;
}

void kln_exec_forget(kln_exec *exec)
{
    kln_exec_allow_graphs(exec, exec->gpu == NULL || exec->gpu->policy == exec->gpu->asked);
}

void exec_gpu_lock(kln_exec *exec)
{
    if (exec->gpu->takes_turns) {
        (void)pthread_mutex_lock(&exec->shared->order);
    }
}

void exec_gpu_unlock(kln_exec *exec)
{
    if (exec->gpu->takes_turns) {
        (void)pthread_mutex_unlock(&exec->shared->order);
    }
}

/* --- copies that overlap runs --- */

/* On a lane, copies overlap the kernels of other contexts. */
static kiln_stream *stream_of_copies(const exec_gpu *gpu)
{
    return gpu->lane != NULL ? gpu->lane->in : gpu->work;
}

kiln_status kln_exec_copy(kln_exec *exec, const kln_cuda_piece *pieces, size_t count)
{
    exec_gpu_lock(exec);
    const kiln_status status = kln_cuda_copy_pieces(stream_of_copies(exec->gpu), pieces, count);
    exec_gpu_unlock(exec);
    return status;
}

kiln_status kln_exec_end_copies(kln_exec *exec)
{
    exec_gpu *gpu = exec->gpu;
    exec_gpu_lock(exec);
    const kiln_status status = kiln_event_record(gpu->copied, stream_of_copies(gpu));
    exec_gpu_unlock(exec);
    gpu->has_copies = status == KILN_OK;
    return status;
}

kiln_status kln_exec_wait_copies(kln_exec *exec)
{
    exec_gpu *gpu = exec->gpu;
    if (gpu == NULL || !gpu->has_copies) {
        return KILN_OK;
    }
    gpu->has_copies = false;
    return kiln_event_synchronize(gpu->copied);
}
