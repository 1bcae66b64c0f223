/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_internal.h"

void ref_times_finish(ref_context *context)
{
    context->is_timed = false;
    if (context->times != NULL) {
        kln_arena_finish(&context->time_names);
        kln_free(context->times);
        context->times = NULL;
    }
}

/* ONNX allows a node without a name; the name of its first output is used then. */
static const char *name_of(const kln_onnx_node *node)
{
    for (size_t i = 0; node->name[0] == '\0' && i < node->output_count; i++) {
        if (node->outputs[i][0] != '\0') {
            return node->outputs[i];
        }
    }
    return node->name[0] != '\0' ? node->name : node->op_type;
}

static kiln_status begin(ref_context *context)
{
    const ref_plan *plan = context->engine->plan;
    KLN_NEW(context->times, plan->node_count + 1, "the times of nodes");
    for (size_t i = 0; i < plan->node_count; i++) {
        const kln_onnx_node *node = plan->nodes[i].node;
        context->times[i].name = kln_arena_strdup(&context->time_names, name_of(node));
        context->times[i].type = kln_arena_strdup(&context->time_names, node->op_type);
        if (context->times[i].name == NULL || context->times[i].type == NULL) {
            ref_times_finish(context);
            return kln_fail_memory(strlen(node->name), "the name of a node");
        }
    }
    return KILN_OK;
}

kiln_status ref_time_nodes(void *opaque, bool on)
{
    ref_context *context = opaque;
    if (on) {
        ref_times_finish(context);
        KLN_RETURN_IF_ERROR(begin(context));
    }
    context->is_timed = on;
    return KILN_OK;
}

kiln_status ref_node_time(void *opaque, size_t index, kiln_layer_time *layer)
{
    const ref_context *context = opaque;
    const bool ran = context->times != NULL && context->times[0].runs != 0;
    return kln_node_time_show(context->times, ran ? context->engine->plan->node_count : 0, index,
                              layer);
}
