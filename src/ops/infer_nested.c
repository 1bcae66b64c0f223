/* SPDX-License-Identifier: Apache-2.0 */
/* Subgraphs of nodes, and the bodies of the model's functions. */
#include "infer_rule.h"

/* A limit of Kiln's own, which also applies in a branch that does not run: nothing deeper is
 * inferred. */
static void too_deep(kln_rule *rule, const char *what)
{
    const kln_branch branch = rule->state->branch;
    rule->state->branch = KLN_BRANCH_RUNS;
    kln_rule_fault(rule, KILN_ISSUE_VALUE, "", "", "", "%s more than %zu deep", what,
                   KLN_GRAPHS_DEEP);
    rule->state->branch = branch;
}

/* Whether this thread's stack has room for one more nested graph, and for later walks over it. */
static bool has_stack(kln_infer_state *state)
{
    if (state->depth < KLN_STACK_GRAPHS || kln_stack_left() >= KLN_STACK_FOR_A_GRAPH) {
        return true;
    }
    state->status = kln_fail(KILN_ERROR_LIMIT,
                             "graphs are nested %zu deep, and this thread has %zu bytes of stack "
                             "left to look further, %zu are needed; do it in a thread with more",
                             state->depth, kln_stack_left(), KLN_STACK_FOR_A_GRAPH);
    return false;
}

void kln_infer_call(kln_rule *rule, const kln_onnx_function *function)
{
    kln_infer_state *state = rule->state;
    kln_scope *scope = kln_rule_alloc(rule, 1, sizeof *scope);
    if (scope == NULL) {
        return;
    }
    *scope = (kln_scope){.parent = rule->scope,
                         .function = function,
                         .call = rule->node,
                         .depth = rule->scope->depth + 1};
    if (state->depth >= KLN_GRAPHS_DEEP) {
        too_deep(rule, "functions call each other");
        return;
    }
    if (!has_stack(state)) {
        return;
    }
    kln_graph_walk *walk = kln_walk_create(state, &function->body, NULL, scope);
    if (walk == NULL) {
        return;
    }
    for (size_t i = 0; i < function->input_count && state->status == KILN_OK; i++) {
        uint32_t place = 0;
        kln_value *value = kln_walk_value(state, walk, function->inputs[i], &place, NULL);
        if (value != NULL && i < rule->in_count && rule->in[i] != NULL) {
            const uint32_t consumers = value->consumers;
            const char *name = value->name;
            *value = *rule->in[i];
            value->name = name;
            value->consumers = consumers;
            value->producer = KLN_NO_NODE;
        }
    }
    state->depth++;
    state->walk_graph(state, walk, NULL, 0, function->outputs, function->output_count);
    state->depth--;
    kln_node_inference *known = &rule->graph->nodes[rule->index];
    known->graphs = kln_rule_alloc(rule, 1, sizeof(kln_graph_inference *));
    if (known->graphs != NULL) {
        known->graphs[0] = &walk->inference;
        known->graph_count = 1;
    }
    for (size_t i = 0; i < rule->out_count && i < function->output_count; i++) {
        const kln_value *inner = kln_inference_find(&walk->inference, function->outputs[i]);
        if (inner != NULL && kln_rule_wants(rule, i)) {
            kln_value_copy_type(&rule->out[i], inner, true);
            rule->out[i].contents = inner->contents;
            rule->out[i].content_count = inner->content_count;
            rule->out[i].initializer = inner->initializer;
        }
    }
}

kln_graph_inference *kln_infer_subgraph(kln_rule *rule, const kln_onnx_graph *graph,
                                        kln_branch branch, const kln_value *const *bound,
                                        size_t bound_count)
{
    kln_infer_state *state = rule->state;
    if (graph == NULL || state->status != KILN_OK) {
        return NULL;
    }
    if (state->depth >= KLN_GRAPHS_DEEP) {
        too_deep(rule, "graphs are nested");
        return NULL;
    }
    if (!has_stack(state)) {
        return NULL;
    }
    kln_node_inference *known = &rule->graph->nodes[rule->index];
    kln_graph_inference **graphs =
        kln_rule_alloc(rule, known->graph_count + 1, sizeof(kln_graph_inference *));
    kln_graph_walk *walk = kln_walk_create(state, graph, rule->graph, rule->scope);
    if (graphs == NULL || walk == NULL) {
        return NULL;
    }
    if (known->graph_count > 0) {
        memcpy(graphs, known->graphs, known->graph_count * sizeof(kln_graph_inference *));
    }
    graphs[known->graph_count] = &walk->inference;
    known->graphs = graphs;
    known->graph_count++;
    const kln_branch outer = state->branch;
    state->branch = branch > outer ? branch : outer;
    state->depth++;
    state->walk_graph(state, walk, bound, bound_count, NULL, 0);
    state->depth--;
    state->branch = outer;
    return &walk->inference;
}
