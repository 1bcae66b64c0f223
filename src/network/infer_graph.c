/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rule.h"
#include "validate_issues.h"

#define CONTENT_LIMIT ((size_t)4096)
#define CONTENTS_TOGETHER ((size_t)4000000)

kln_graph_walk *kln_walk_create(kln_infer_state *state, const kln_onnx_graph *graph,
                                kln_graph_inference *parent, const kln_scope *scope)
{
    kln_graph_walk *walk = kln_arena_alloc_zeroed(state->arena, 1, sizeof *walk);
    if (walk == NULL) {
        kln_state_check(state, false);
        return NULL;
    }
    kln_names_init(&walk->inference.names);
    kln_names_init(&walk->declared);
    walk->inference.graph = graph;
    walk->inference.parent = parent;
    walk->scope = scope;
    walk->next = state->walks;
    state->walks = walk;
    return walk;
}

static void missing_output(kln_infer_state *state, const char *name)
{
    kln_state_issue(state, KILN_SEVERITY_ERROR, KILN_ISSUE_MISSING_OUTPUT, "", name,
                    "a tensor that is computed", "none",
                    "output \"%.200s\" is neither computed by a node nor given", name);
}

static void link_outputs(kln_infer_state *state, kln_graph_walk *walk, const char *const *names,
                         size_t count)
{
    kln_graph_inference *graph = &walk->inference;
    uint32_t *outputs = kln_arena_alloc_zeroed(state->arena, count, sizeof *outputs);
    if (outputs == NULL) {
        kln_state_check(state, false);
        return;
    }
    for (size_t i = 0; i < count && state->status == KILN_OK; i++) {
        const char *name = names != NULL ? names[i] : graph->graph->outputs[i].name;
        outputs[i] = kln_walk_resolve(state, walk, name);
        if (outputs[i] == KLN_NO_VALUE) {
            if (i >= walk->outputs_done) {
                missing_output(state, name);
            }
        } else if (i >= walk->outputs_done) {
            graph->values[outputs[i]]->consumers++;
        }
    }
    graph->outputs = outputs;
    graph->output_count = count;
    walk->outputs_done = count;
}

void kln_walk_graph(kln_infer_state *state, kln_graph_walk *walk, const kln_value *const *bound,
                    size_t bound_count, const char *const *outputs, size_t output_count)
{
    kln_walk_declare(state, walk);
    kln_walk_inputs(state, walk, bound, bound_count);
    const size_t first = walk->nodes_done;
    if (state->status == KILN_OK) {
        kln_walk_order(state, walk, first);
    }
    const size_t count = walk->inference.graph->node_count;
    for (size_t i = first; i < count && state->status == KILN_OK; i++) {
        const uint32_t *order = walk->inference.order;
        kln_infer_node(state, walk, order != NULL ? order[i] : (uint32_t)i);
    }
    walk->nodes_done = count;
    if (state->status == KILN_OK) {
        link_outputs(state, walk, outputs,
                     outputs != NULL ? output_count : walk->inference.graph->output_count);
    }
}

static kiln_status start(kln_inference *inference, const kln_infer_options *options)
{
    static const kln_scope model_scope = {.parent = NULL};
    kln_infer_state *state = kln_arena_alloc_zeroed(&inference->arena, 1, sizeof *state);
    if (state == NULL) {
        return kln_fail_memory(sizeof *state, "shape inference");
    }
    inference->state = state;
    state->inference = inference;
    state->arena = &inference->arena;
    kln_keys_init(&state->operators);
    kln_onnx_index_init(&state->index, inference->model);
    kln_names_init(&state->aliases);
    kln_names_init(&state->input_names);
    if (options != NULL) {
        state->options = *options;
    }
    if (state->options.content_limit == 0) {
        state->options.content_limit = CONTENT_LIMIT;
    }
    state->contents_left = CONTENTS_TOGETHER;
    state->nodes_left = KLN_NODES_MOST;
    kln_expressions_init(&state->pool, state->arena);
    KLN_RETURN_IF_ERROR(kln_issues_create(&inference->issues));
    KLN_RETURN_IF_ERROR(kln_issues_create(&inference->doubts));
    KLN_RETURN_IF_ERROR(kln_state_options(state));
    state->main = kln_walk_create(state, &inference->model->graph, NULL, &model_scope);
    if (state->main == NULL) {
        return state->status;
    }
    inference->graph = &state->main->inference;
    return KILN_OK;
}

kiln_status kln_infer_more(kln_inference *inference)
{
    KLN_RETURN_IF_NULL(inference);
    kln_infer_state *state = inference->state;
    if (state->status != KILN_OK) {
        return kln_fail(KILN_ERROR_STATE, "inference failed before and cannot go on");
    }
    state->status = kln_onnx_index_update(&state->index);
    KLN_RETURN_IF_ERROR(state->status);
    kln_walk_graph(state, state->main, NULL, 0, NULL, 0);
    kln_state_check(state, !state->pool.failed);
    return state->status;
}

kiln_status kln_infer(const kln_onnx_model *model, const kln_infer_options *options,
                      kln_inference **out)
{
    KLN_RETURN_IF_NULL(out);
    *out = NULL;
    KLN_RETURN_IF_NULL(model);
    kln_inference *inference = kln_alloc_zeroed(1, sizeof *inference);
    if (inference == NULL) {
        return kln_fail_memory(sizeof *inference, "shape inference");
    }
    kln_arena_init(&inference->arena);
    inference->model = model;
    kiln_status status = start(inference, options);
    if (status == KILN_OK) {
        status = kln_infer_more(inference);
    }
    if (status != KILN_OK) {
        kln_inference_destroy(inference);
        return status;
    }
    /* The caller's array of shapes need not live on; kln_infer_more adds no shape for old inputs.
     */
    inference->state->options.inputs = NULL;
    inference->state->options.input_count = 0;
    *out = inference;
    return KILN_OK;
}

void kln_inference_destroy(kln_inference *inference)
{
    if (inference == NULL) {
        return;
    }
    kln_infer_state *state = inference->state;
    if (state != NULL) {
        for (kln_graph_walk *walk = state->walks; walk != NULL; walk = walk->next) {
            kln_names_finish(&walk->inference.names);
            kln_names_finish(&walk->declared);
        }
        kln_keys_finish(&state->operators);
        kln_onnx_index_finish(&state->index);
        kln_names_finish(&state->aliases);
        kln_names_finish(&state->input_names);
    }
    kiln_issue_list_destroy(inference->issues);
    kiln_issue_list_destroy(inference->doubts);
    kln_arena_finish(&inference->arena);
    kln_free(inference);
}
