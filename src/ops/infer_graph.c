/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rule.h"

#define CONTENT_LIMIT ((size_t)4096)
#define CONTENTS_TOGETHER ((size_t)4000000)

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
    for (; walk->outputs_done < count && state->status == KILN_OK; walk->outputs_done++) {
        const size_t i = walk->outputs_done;
        const char *name = names != NULL ? names[i] : graph->graph->outputs[i].name;
        state->status = KLN_GROW(state->arena, graph->outputs, i, walk->output_capacity);
        const uint32_t place =
            state->status == KILN_OK ? kln_walk_resolve(state, walk, name) : KLN_NO_VALUE;
        if (state->status != KILN_OK) {
            return;
        }
        if (place == KLN_NO_VALUE) {
            missing_output(state, name);
        } else {
            graph->values[place]->consumers++;
        }
        graph->outputs[i] = place;
        graph->output_count = i + 1;
    }
}

/* Processes what is new in the walk's graph. */
static void walk_graph(kln_infer_state *state, kln_graph_walk *walk, const kln_value *const *bound,
                       size_t bound_count, const char *const *outputs, size_t output_count)
{
    const kln_onnx_graph *graph = walk->inference.graph;
    walk->is_started = true;
    if (walk->values_done != graph->value_count || walk->outputs_declared != graph->output_count) {
        kln_walk_declare(state, walk);
    }
    if (walk->inputs_done != graph->input_count ||
        walk->initializers_done != graph->initializer_count ||
        walk->sparse_done != graph->sparse_initializer_count) {
        kln_walk_inputs(state, walk, bound, bound_count);
    }
    const size_t first = walk->nodes_done;
    if (state->status == KILN_OK) {
        kln_walk_order(state, walk, first);
    }
    const size_t count = graph->node_count;
    for (size_t i = first; i < count && state->status == KILN_OK; i++) {
        const uint32_t *order = walk->inference.order;
        kln_infer_node(state, walk, order != NULL ? order[i] : (uint32_t)i);
    }
    walk->nodes_done = count;
    if (state->status == KILN_OK) {
        link_outputs(state, walk, outputs, outputs != NULL ? output_count : graph->output_count);
    }
}

static kiln_status start(kln_inference *inference, const kln_infer_options *options)
{
    static const kln_scope model_scope = {.parent = NULL};
    kln_infer_state *state = kln_arena_alloc_zeroed(&inference->arena, 1, sizeof *state);
    KLN_RETURN_IF_NO_MEMORY(state, sizeof *state, "shape inference");
    inference->state = state;
    state->inference = inference;
    state->walk_graph = walk_graph;
    state->arena = &inference->arena;
    state->index.model = inference->model;
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

/* A graph's inference is the first member of its walk. */
static kln_graph_walk *walk_of(kln_graph_inference *graph)
{
    return (kln_graph_walk *)graph;
}

/* Whether nothing has been added to the model since the graph was walked. */
static bool is_done(const kln_infer_state *state, const kln_graph_walk *walk)
{
    const kln_onnx_graph *graph = walk->inference.graph;
    return walk->is_started && walk->nodes_done == graph->node_count &&
           walk->initializers_done == graph->initializer_count &&
           walk->inputs_done == graph->input_count && walk->outputs_done == graph->output_count &&
           walk->values_done == graph->value_count &&
           walk->outputs_declared == graph->output_count &&
           walk->sparse_done == graph->sparse_initializer_count &&
           state->index.opsets_done == state->index.model->opset_count &&
           state->index.functions_done == state->index.model->function_count;
}

kiln_status kln_infer_more(kln_inference *inference, kln_graph_inference *graph)
{
    KLN_RETURN_IF_NULL(inference, graph);
    kln_infer_state *state = inference->state;
    KLN_RETURN_IF(state->status != KILN_OK, KILN_ERROR_STATE,
                  "inference failed before and cannot go on");
    if (is_done(state, walk_of(graph))) {
        return KILN_OK;
    }
    const kln_onnx_model *model = inference->model;
    if (state->index.opsets_done != model->opset_count ||
        state->index.functions_done != model->function_count) {
        state->status = kln_onnx_index_update(&state->index);
        KLN_RETURN_IF_ERROR(state->status);
    }
    walk_graph(state, walk_of(graph), NULL, 0, NULL, 0);
    kln_state_check(state, !state->pool.failed);
    return state->status;
}

kiln_status kln_infer_branch(kln_inference *inference, const kln_onnx_graph *branch,
                             kln_graph_inference *parent, kln_graph_inference **out)
{
    kln_infer_state *state = inference->state;
    kln_graph_walk *walk = kln_walk_create(state, branch, parent, state->main->scope);
    if (walk == NULL) {
        return state->status;
    }
    *out = &walk->inference;
    return kln_infer_more(inference, *out);
}

kln_infer_mark kln_infer_mark_of(const kln_inference *inference, const kln_graph_inference *graph)
{
    const kln_graph_walk *walk = (const kln_graph_walk *)graph;
    return (kln_infer_mark){.walks = inference->state->walks,
                            .values = graph->value_count,
                            .nodes = walk->nodes_done,
                            .inputs = walk->inputs_done,
                            .initializers = walk->initializers_done,
                            .issues = kiln_issue_list_count(inference->issues),
                            .doubts = kiln_issue_list_count(inference->doubts)};
}

/* Undoes the consumer counts of the nodes from `first` on. */
static void unread(kln_graph_inference *graph, size_t first)
{
    for (size_t i = first; i < graph->node_count; i++) {
        for (size_t k = 0; k < graph->graph->nodes[i].input_count; k++) {
            const uint32_t place = graph->nodes[i].inputs[k];
            if (place != KLN_NO_VALUE) {
                graph->values[place]->consumers--;
            }
        }
    }
}

static void finish_walk(kln_graph_walk *walk)
{
    kln_names_finish(&walk->inference.names);
    kln_names_finish(&walk->declared);
}

void kln_infer_take_back(kln_inference *inference, kln_graph_inference *graph,
                         const kln_infer_mark *mark)
{
    kln_infer_state *state = inference->state;
    kln_graph_walk *walk = walk_of(graph);
    for (; state->walks != mark->walks; state->walks = state->walks->next) {
        kln_graph_inference *inner = &state->walks->inference;
        unread(inner, 0);
        for (size_t i = 0; i < inner->output_count; i++) {
            if (inner->outputs[i] != KLN_NO_VALUE) {
                inner->values[inner->outputs[i]]->consumers--;
            }
        }
        finish_walk(state->walks);
    }
    unread(graph, mark->nodes);
    while (graph->value_count > mark->values) {
        kln_names_forget(&graph->names, graph->values[--graph->value_count]->name);
    }
    graph->node_count = walk->nodes_done = mark->nodes;
    graph->input_count = walk->inputs_done = mark->inputs;
    walk->initializers_done = mark->initializers;
    kln_issues_cut(inference->issues, mark->issues);
    kln_issues_cut(inference->doubts, mark->doubts);
}

kiln_status kln_infer(const kln_onnx_model *model, const kln_infer_options *options,
                      kln_inference **out)
{
    KLN_RETURN_IF_NULL_RESULT(out, model);
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    KLN_NEW(inference, 1, "shape inference");
    inference->model = model;
    KLN_RETURN_IF_ERROR(start(inference, options));
    KLN_RETURN_IF_ERROR(kln_infer_more(inference, inference->graph));
    /* The caller's array of shapes need not outlive this call: kln_infer_more adds no shapes for
     * old inputs. */
    inference->state->options.inputs = NULL;
    inference->state->options.input_count = 0;
    *out = KLN_TAKE(inference);
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
            finish_walk(walk);
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
