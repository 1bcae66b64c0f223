/* SPDX-License-Identifier: Apache-2.0 */
/* Adds nodes that report the observed tensors to the network (kln_watch). */
#include "calibrate_parts.h"

/* A prefix that no name in the network has. */
static const char *free_prefix(kln_calibration *of)
{
    const kln_graph_inference *graph = of->inference->graph;
    const char *prefix = KLN_WATCH_DOMAIN;
    for (size_t i = 0; prefix != NULL && i < graph->value_count; i++) {
        if (strncmp(graph->values[i]->name, prefix, strlen(prefix)) == 0) {
            prefix = kln_arena_printf(&of->arena, "%s_", prefix);
            i = SIZE_MAX; /* start over */
        }
    }
    return prefix;
}

static kln_onnx_value number_named(const char *name)
{
    return (kln_onnx_value){.name = name,
                            .type = {.kind = KLN_ONNX_KIND_TENSOR,
                                     .dtype = KILN_DTYPE_INT64,
                                     .wire_dtype = kln_onnx_wire_dtype(KILN_DTYPE_INT64),
                                     .has_shape = true}};
}

/* Adds the nodes that watch tensors; their outputs become the only ones. ONNX Runtime first runs
 * what the last of the unread nodes needs. That node watches the first tensor, so that tensors are
 * freed early. */
static kiln_status add_watches(kln_calibration *of, kln_graph_edit *edit, const char *prefix)
{
    for (size_t i = of->count; i-- > of->input_count;) {
        const char *name = kln_arena_printf(&edit->model->arena, "%s/%zu", prefix, i);
        kln_onnx_node *node =
            name == NULL
                ? NULL
                : kln_graph_edit_add_node(
                      edit, edit->graph->node_count, KLN_WATCH_DOMAIN, "Watch",
                      (const char *const[]){of->observed[i].name, of->crowd.run_name}, 2, &name, 1);
        KLN_RETURN_IF_NO_MEMORY(node, sizeof *node, "a watch");
        kln_graph_edit_set_int(node, "index", (int64_t)(i - of->input_count));
        of->outputs[i - of->input_count] = number_named(name);
    }
    kln_graph_edit_import(edit, KLN_WATCH_DOMAIN, 1);
    return kln_graph_edit_commit(edit);
}

kiln_status kln_calibration_watch(kln_calibration *of, kln_onnx_model **watched)
{
    const char *prefix = free_prefix(of);
    kln_graph_edit edit;
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *made = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_model_share(of->model, &made));
    kln_onnx_graph *graph = &made->graph;
    kln_onnx_value *inputs =
        kln_arena_alloc_zeroed(&made->arena, graph->input_count + 1, sizeof *inputs);
    of->crowd.run_name = prefix != NULL ? kln_arena_printf(&of->arena, "%s/run", prefix) : NULL;
    KLN_FAIL_IF(inputs == NULL || of->crowd.run_name == NULL,
                kln_fail_memory(sizeof *inputs, "a watch"));
    kiln_status status = kln_graph_edit_begin(made, &edit);
    if (status == KILN_OK) {
        status = add_watches(of, &edit, prefix);
    }
    kln_graph_edit_end(&edit);
    KLN_RETURN_IF_ERROR(status);
    memcpy(inputs, graph->inputs, graph->input_count * sizeof *inputs);
    inputs[graph->input_count] = number_named(of->crowd.run_name);
    graph->inputs = inputs;
    graph->input_count++;
    graph->input_capacity = graph->output_capacity = 0;
    graph->outputs = of->outputs;
    graph->output_count = of->count - of->input_count;
    *watched = made;
    made = NULL;
    return KILN_OK;
}
