/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_driver.h"

#define LOG_SIZE 512

static kiln_status need_graphs(int32_t device)
{
    if (kln_cuda_has(KLN_CUDA_GRAPHS, device)) {
        return KILN_OK;
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "this driver (CUDA %d.%d) lacks functions that CUDA graphs need",
                    kln_cuda_version() / 1000, kln_cuda_version() % 1000 / 10);
}

static kiln_status begin_capture(kiln_stream *stream, int mode)
{
    KLN_RETURN_IF_ERROR(need_graphs(stream->device));
    KLN_CUDA_ENTER(stream->device);
    return cuda_check(cuda_functions()->capture_begin(stream->handle, mode),
                      "capturing a stream of device %d", stream->device);
}

kiln_status kiln_stream_capture_begin(kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(stream);
    /* Thread-local: calls of other threads, an allocation for example, must not invalidate the
     * capture. */
    return begin_capture(stream, CU_CAPTURE_THREAD_LOCAL);
}

kiln_status kln_stream_capture_begin_relaxed(kiln_stream *stream)
{
    return begin_capture(stream, CU_CAPTURE_RELAXED);
}

/* Ends the capture and counts its nodes; the stream executes work again. */
static kiln_status end_capture(kiln_stream *stream, void **graph, size_t *nodes)
{
    const cuda_table *cuda = cuda_functions();
    *graph = NULL;
    *nodes = 0;
    int capturing = 0;
    KLN_RETURN_IF_ERROR(cuda_check(cuda->capture_status(stream->handle, &capturing),
                                   "the capture on device %d", stream->device));
    KLN_RETURN_IF(capturing == 0, KILN_ERROR_STATE,
                  "the stream of device %d captures nothing: kiln_stream_capture_begin comes first",
                  stream->device);
    KLN_RETURN_IF_ERROR(cuda_check(
        cuda->capture_end(stream->handle, graph),
        "ending the capture on device %d (what was enqueued cannot be captured)", stream->device));
    const kiln_status status =
        cuda_check(cuda->graph_nodes(*graph, NULL, nodes), "the nodes of a captured graph");
    if (status != KILN_OK) {
        cuda_log_failure(cuda->graph_destroy(*graph), "destroying a graph");
        *graph = NULL;
    }
    return status;
}

static kiln_status count_host_calls(void *graph, size_t nodes, size_t *calls)
{
    KLN_SCOPED_FREE void **list = kln_alloc(nodes * sizeof *list);
    KLN_RETURN_IF_NO_MEMORY(list, nodes * sizeof *list, "the nodes of a graph");
    int result = nodes != 0 ? cuda_functions()->graph_nodes(graph, list, &nodes) : CU_SUCCESS;
    *calls = 0;
    for (size_t i = 0; i < nodes && result == CU_SUCCESS; i++) {
        int type = 0;
        result = cuda_functions()->graph_node_type(list[i], &type);
        *calls += type == CU_NODE_HOST;
    }
    return cuda_check(result, "the kinds of a captured graph's nodes");
}

static kiln_status instantiate(int32_t device, void *graph, void **executable)
{
    const cuda_table *cuda = cuda_functions();
    if (cuda->graph_instantiate_flags != NULL) {
        return cuda_check(cuda->graph_instantiate_flags(executable, graph, 0),
                          "instantiating a graph on device %d", device);
    }
    char log[LOG_SIZE] = "";
    void *node = NULL;
    const int result = cuda->graph_instantiate(executable, graph, &node, log, sizeof log);
    log[sizeof log - 1] = '\0';
    return cuda_check(result, "instantiating a graph on device %d%s%s", device,
                      log[0] != '\0' ? ", " : "", log);
}

static kiln_status make_graph(int32_t device, void *captured, size_t nodes, kiln_graph **graph)
{
    KLN_SCOPED_FREE kiln_graph *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a graph");
    made->device = device;
    made->nodes = nodes;
    KLN_RETURN_IF_ERROR(count_host_calls(captured, nodes, &made->host_calls));
    KLN_RETURN_IF_ERROR(instantiate(device, captured, &made->executable));
    *graph = made;
    made = NULL;
    return KILN_OK;
}

kiln_status kiln_stream_capture_end(kiln_stream *stream, kiln_graph **graph)
{
    KLN_RETURN_IF_NULL(stream, graph);
    *graph = NULL;
    KLN_RETURN_IF_ERROR(need_graphs(stream->device));
    KLN_CUDA_ENTER(stream->device);
    void *captured = NULL;
    size_t nodes = 0;
    KLN_RETURN_IF_ERROR(end_capture(stream, &captured, &nodes));
    const kiln_status status = make_graph(stream->device, captured, nodes, graph);
    cuda_log_failure(cuda_functions()->graph_destroy(captured), "destroying a graph");
    return status;
}

/* Tries to update the executable graph in place with the parameters of the captured one. */
static kiln_status update_in_place(kiln_graph *graph, void *captured, bool *updated)
{
    const cuda_table *cuda = cuda_functions();
    int result = CU_GRAPH_EXEC_UPDATE_FAILURE;
    if (cuda->exec_update_info != NULL) {
        cu_update_result info = {0, NULL, NULL};
        result = cuda->exec_update_info(graph->executable, captured, &info);
    } else if (cuda->exec_update != NULL) {
        void *node = NULL;
        int why = 0;
        result = cuda->exec_update(graph->executable, captured, &node, &why);
    }
    *updated = result == CU_SUCCESS;
    return cuda_check(result == CU_GRAPH_EXEC_UPDATE_FAILURE ? CU_SUCCESS : result,
                      "updating a graph on device %d", graph->device);
}

static kiln_status replace(kiln_graph *graph, void *captured, size_t nodes)
{
    bool updated = false;
    KLN_RETURN_IF_ERROR(update_in_place(graph, captured, &updated));
    if (!updated) {
        void *executable = NULL;
        KLN_RETURN_IF_ERROR(instantiate(graph->device, captured, &executable));
        cuda_log_failure(cuda_functions()->exec_destroy(graph->executable), "destroying a graph");
        graph->executable = executable;
    }
    graph->nodes = nodes;
    graph->updated_in_place = updated;
    return KILN_OK;
}

kiln_status kiln_stream_capture_update(kiln_stream *stream, kiln_graph *graph, bool *in_place)
{
    KLN_RETURN_IF_NULL(stream, graph);
    KLN_RETURN_IF_ERROR(need_graphs(stream->device));
    KLN_RETURN_IF(
        graph->device != stream->device, KILN_ERROR_INVALID_ARGUMENT,
        "kiln_stream_capture_update: the graph is of device %d and the stream of device %d",
        graph->device, stream->device);
    KLN_CUDA_ENTER(stream->device);
    void *captured = NULL;
    size_t nodes = 0;
    KLN_RETURN_IF_ERROR(end_capture(stream, &captured, &nodes));
    const kiln_status status = replace(graph, captured, nodes);
    cuda_log_failure(cuda_functions()->graph_destroy(captured), "destroying a graph");
    if (status == KILN_OK && in_place != NULL) {
        *in_place = graph->updated_in_place;
    }
    return status;
}

void kiln_stream_capture_abandon(kiln_stream *stream)
{
    KLN_SCOPED(kln_cuda_leave) kln_cuda_scope scope = {.pushed = false};
    if (stream == NULL || kln_cuda_enter(stream->device, &scope) != KILN_OK) {
        return;
    }
    const cuda_table *cuda = cuda_functions();
    int capturing = 0;
    if (kln_cuda_has(KLN_CUDA_GRAPHS, stream->device) &&
        cuda->capture_status(stream->handle, &capturing) == CU_SUCCESS && capturing != 0) {
        void *captured = NULL;
        /* An invalidated capture reports its error here once more; there is nothing left to do
         * about it. */
        if (cuda->capture_end(stream->handle, &captured) == CU_SUCCESS && captured != NULL) {
            cuda_log_failure(cuda->graph_destroy(captured), "destroying a graph");
        }
    }
}

kiln_status kln_graph_launch(const kiln_graph *graph, const kiln_stream *stream)
{
    const int result = cuda_functions()->graph_launch(graph->executable, stream->handle);
    return result == CU_SUCCESS ? KILN_OK
                                : cuda_check(result, "launching a graph of %zu nodes on device %d",
                                             graph->nodes, stream->device);
}

kiln_status kiln_graph_launch(kiln_graph *graph, kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(graph, stream);
    KLN_CUDA_ENTER(stream->device);
    return kln_graph_launch(graph, stream);
}

size_t kiln_graph_node_count(const kiln_graph *graph)
{
    return graph != NULL ? graph->nodes : 0;
}

#define GRAPH_BYTES ((uint64_t)256 << 10)
/* Driver 580 on an H200 takes 0.65 MB of device memory and 1 MB of host memory for 110 nodes. */
#define NODE_BYTES ((uint64_t)16 << 10)

uint64_t kln_graph_bytes(const kiln_graph *graph)
{
    return GRAPH_BYTES + graph->nodes * NODE_BYTES;
}

void kiln_graph_destroy(kiln_graph *graph)
{
    if (graph != NULL) {
        cuda_drop(graph->device, cuda_functions()->exec_destroy, graph->executable,
                  "destroying a graph");
        kln_free(graph);
    }
}
