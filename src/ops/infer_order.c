/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "infer_rule.h"
#include "onnx/kln_look.h"

/* Called for every name that a node reads from this graph, including its subgraphs. */
typedef bool (*visitor)(void *user, const char *name);

static bool visit_reads(const kln_onnx_node *node, size_t depth, visitor visit, void *user)
{
    for (size_t i = 0; i < node->input_count; i++) {
        if (node->inputs[i][0] != '\0' && !visit(user, node->inputs[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < node->attribute_count && depth < KLN_GRAPHS_DEEP; i++) {
        kln_onnx_graph *const *inner = NULL;
        const size_t count = kln_onnx_graphs_of(&node->attributes[i], &inner);
        for (size_t k = 0; k < count; k++) {
            for (size_t n = 0; n < inner[k]->node_count; n++) {
                if (!visit_reads(&inner[k]->nodes[n], depth + 1, visit, user)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* --- linking --- */

static void add_output(kln_infer_state *state, kln_graph_walk *walk, uint32_t index, size_t output,
                       uint32_t *place)
{
    const kln_onnx_node *node = &walk->inference.graph->nodes[index];
    const char *name = node->outputs[output];
    *place = KLN_NO_VALUE;
    if (name[0] == '\0') {
        return;
    }
    uint32_t before = KLN_NAMES_NONE;
    kln_value *value = kln_walk_value(state, walk, name, place, &before);
    if (value == NULL) {
        return;
    }
    value->producer = index;
    if (before != KLN_NAMES_NONE) {
        const char *label = KLN_NODE_LABEL(node, index);
        kln_state_issue(state, KILN_SEVERITY_ERROR, KILN_ISSUE_DUPLICATE_NAME, label, name, "one",
                        "two",
                        "node \"%.120s\" (%.60s): its output \"%.120s\" has a name that "
                        "another tensor of the graph has too",
                        label, node->op_type, name);
    }
}

static bool grow_nodes(kln_infer_state *state, kln_graph_inference *graph, size_t count)
{
    if (count <= graph->node_capacity) {
        return true;
    }
    size_t capacity = graph->node_capacity * 2;
    capacity = capacity > count ? capacity : count;
    kln_node_inference *nodes = capacity > SIZE_MAX / sizeof *nodes
                                    ? NULL
                                    : kln_arena_alloc(state->arena, capacity * sizeof *nodes);
    if (nodes == NULL) {
        kln_state_check(state, false);
        return false;
    }
    if (graph->node_count > 0) {
        memcpy(nodes, graph->nodes, graph->node_count * sizeof *nodes);
    }
    graph->nodes = nodes;
    graph->node_capacity = capacity;
    return true;
}

static void register_node(kln_infer_state *state, kln_graph_walk *walk, uint32_t index)
{
    const kln_onnx_node *node = &walk->inference.graph->nodes[index];
    kln_node_inference *known = &walk->inference.nodes[index];
    const size_t count = node->input_count + node->output_count;
    uint32_t *places = count < SIZE_MAX / sizeof *places
                           ? kln_arena_alloc(state->arena, count * sizeof *places)
                           : NULL;
    if (places == NULL) {
        kln_state_check(state, false);
        return;
    }
    *known = (kln_node_inference){.inputs = places, .outputs = places + node->input_count};
    for (size_t i = 0; i < node->output_count && state->status == KILN_OK; i++) {
        add_output(state, walk, index, i, &known->outputs[i]);
    }
}

static void unknown_name(kln_infer_state *state, const kln_onnx_node *node, uint32_t index,
                         size_t input)
{
    const char *label = KLN_NODE_LABEL(node, index);
    kln_state_issue(state, KILN_SEVERITY_ERROR, KILN_ISSUE_UNKNOWN_NAME, label, node->inputs[input],
                    "a tensor", "none",
                    "node \"%.120s\" (%.60s): input %zu, \"%.120s\", is neither computed nor "
                    "given anywhere",
                    label, node->op_type, input, node->inputs[input]);
}

/* The node of this graph that makes the value, or KLN_NO_NODE. A value of an outer graph has an
 * index in that graph, and its name is a string of another node. */
static uint32_t made_by(const kln_graph_inference *graph, const kln_value *value)
{
    if (value->producer == KLN_NO_NODE || value->producer >= graph->graph->node_count) {
        return KLN_NO_NODE;
    }
    const kln_onnx_node *node = &graph->graph->nodes[value->producer];
    for (size_t i = 0; i < node->output_count; i++) {
        if (node->outputs[i] == value->name) {
            return value->producer;
        }
    }
    return KLN_NO_NODE;
}

typedef struct sorted_check {
    const kln_graph_inference *graph;
    uint32_t index;
} sorted_check;

static bool is_before(void *user, const char *name)
{
    const sorted_check *check = user;
    const uint32_t place = kln_names_get(&check->graph->names, name);
    if (place == KLN_NAMES_NONE) {
        return true;
    }
    const uint32_t producer = made_by(check->graph, check->graph->values[place]);
    return producer == KLN_NO_NODE || producer < check->index;
}

/* Resolves the inputs. Returns whether everything the node reads comes before it. */
static bool link_node(kln_infer_state *state, kln_graph_walk *walk, uint32_t index)
{
    kln_graph_inference *graph = &walk->inference;
    const kln_onnx_node *node = &graph->graph->nodes[index];
    kln_node_inference *known = &graph->nodes[index];
    bool sorted = true;
    const kln_inference *inference = state->inference;
    const size_t placed = inference->placed_node == node ? inference->place_count : 0;
    for (size_t i = 0; i < node->input_count && state->status == KILN_OK; i++) {
        const uint32_t place = i < placed ? inference->places[i] : KLN_NO_VALUE;
        known->inputs[i] = KLN_NO_VALUE;
        if (node->inputs[i][0] == '\0') {
            continue;
        }
        known->inputs[i] =
            place < graph->value_count && graph->values[place]->name == node->inputs[i]
                ? place
                : kln_walk_resolve(state, walk, node->inputs[i]);
        if (known->inputs[i] == KLN_NO_VALUE) {
            unknown_name(state, node, index, i);
            continue;
        }
        kln_value *value = graph->values[known->inputs[i]];
        value->consumers++;
        if (value->producer != KLN_NO_NODE && value->producer >= index) {
            sorted &= made_by(graph, value) == KLN_NO_NODE;
        }
    }
    sorted_check check = {graph, index};
    return sorted && (!kln_onnx_holds_graphs(node) || visit_reads(node, 0, is_before, &check));
}

/* --- sorting --- */

typedef struct sorter {
    kln_graph_inference *graph;
    size_t first, count;
    uint32_t *waits;  /* for each node: inputs not available yet */
    uint32_t *starts; /* index of its readers in `readers` */
    uint32_t *readers;
    uint32_t node; /* the one whose reads are being visited */
    bool counting;
} sorter;

/* The node of [first, first+count) that makes `name`, or KLN_NO_NODE. */
static uint32_t maker(const sorter *s, const char *name)
{
    const uint32_t place = kln_names_get(&s->graph->names, name);
    const uint32_t producer =
        place != KLN_NAMES_NONE ? made_by(s->graph, s->graph->values[place]) : KLN_NO_NODE;
    return producer != KLN_NO_NODE && producer >= s->first ? producer : KLN_NO_NODE;
}

static bool visit_edge(void *user, const char *name)
{
    sorter *s = user;
    const uint32_t producer = maker(s, name);
    if (producer != KLN_NO_NODE) {
        const size_t from = producer - s->first;
        if (s->counting) {
            s->waits[s->node - s->first]++;
            s->starts[from + 1]++;
        } else {
            s->readers[s->starts[from]++] = s->node;
        }
    }
    return true;
}

static void visit_edges(sorter *s)
{
    for (size_t i = 0; i < s->count; i++) {
        s->node = (uint32_t)(s->first + i);
        (void)visit_reads(&s->graph->graph->nodes[s->node], 0, visit_edge, s);
    }
}

typedef struct cycle_step {
    const sorter *s;
    uint32_t next;
} cycle_step;

static bool find_waiting(void *user, const char *name)
{
    cycle_step *step = user;
    const uint32_t producer = maker(step->s, name);
    if (producer != KLN_NO_NODE && step->s->waits[producer - step->s->first] > 0) {
        step->next = producer;
        return false;
    }
    return true;
}

static uint32_t waits_for(const sorter *s, uint32_t node)
{
    cycle_step step = {s, KLN_NO_NODE};
    (void)visit_reads(&s->graph->graph->nodes[node], 0, find_waiting, &step);
    return step.next;
}

static void tell_cycle(kln_infer_state *state, const sorter *s, uint32_t start)
{
    const kln_onnx_node *nodes = s->graph->graph->nodes;
    /* After as many steps as there are nodes, `start` is certainly on the cycle. */
    for (size_t i = 0; i < s->count && waits_for(s, start) != KLN_NO_NODE; i++) {
        start = waits_for(s, start);
    }
    char path[320] = "";
    size_t used = 0;
    uint32_t node = start;
    for (size_t steps = 0; steps < 6 && node != KLN_NO_NODE; steps++) {
        const int length =
            snprintf(path + used, sizeof path - used, "%s\"%.40s\"", used == 0 ? "" : " waits for ",
                     KLN_NODE_LABEL(&nodes[node], node));
        used += length > 0 && (size_t)length < sizeof path - used ? (size_t)length : 0;
        node = steps == 0 || node != start ? waits_for(s, node) : KLN_NO_NODE;
    }
    kln_state_issue(state, KILN_SEVERITY_ERROR, KILN_ISSUE_CYCLE,
                    KLN_NODE_LABEL(&nodes[start], start), "", "no cycle", path,
                    "nodes wait for each other: %s", path);
}

static void tell_order(kln_infer_state *state, const sorter *s, uint32_t index)
{
    const kln_onnx_node *node = &s->graph->graph->nodes[index];
    const char *label = KLN_NODE_LABEL(node, index);
    for (size_t i = 0; i < node->input_count; i++) {
        const uint32_t producer = maker(s, node->inputs[i]);
        if (producer != KLN_NO_NODE && producer >= index) {
            kln_state_issue(state, KILN_SEVERITY_ERROR, KILN_ISSUE_ORDER, label, node->inputs[i],
                            "after its producer", "before",
                            "node \"%.120s\" (%.60s) stands before the node that computes its "
                            "input \"%.120s\"; ONNX wants nodes in the order they run",
                            label, node->op_type, node->inputs[i]);
            return;
        }
    }
}

static void sort_nodes(kln_infer_state *state, sorter *s, uint32_t *order)
{
    size_t ready = 0;
    size_t done = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (s->waits[i] == 0) {
            order[ready++] = (uint32_t)(s->first + i);
        }
    }
    for (; done < ready; done++) {
        const size_t from = order[done] - s->first;
        /* visit_edges moved each start to the end of its list, where the next one begins */
        const uint32_t begin = from == 0 ? 0 : s->starts[from - 1];
        for (uint32_t k = begin; k < s->starts[from]; k++) {
            const uint32_t reader = s->readers[k];
            if (--s->waits[reader - s->first] == 0) {
                order[ready++] = reader;
            }
        }
    }
    if (ready == s->count) {
        for (size_t i = 0; i < s->count; i++) {
            tell_order(state, s, (uint32_t)(s->first + i));
        }
        return;
    }
    bool told = false;
    for (size_t i = 0; i < s->count; i++) {
        if (s->waits[i] > 0) {
            if (!told) {
                tell_cycle(state, s, (uint32_t)(s->first + i));
            }
            told = true;
            order[ready++] = (uint32_t)(s->first + i);
        }
    }
}

static void put_in_order(kln_infer_state *state, kln_graph_walk *walk, size_t first)
{
    kln_graph_inference *graph = &walk->inference;
    const size_t total = graph->graph->node_count;
    sorter s = {.graph = graph, .first = first, .count = total - first, .counting = true};
    uint32_t *order = kln_arena_alloc(state->arena, total * sizeof *order);
    s.waits = kln_arena_alloc_zeroed(state->arena, s.count, sizeof *s.waits);
    s.starts = kln_arena_alloc_zeroed(state->arena, s.count + 1, sizeof *s.starts);
    if (order == NULL || s.waits == NULL || s.starts == NULL) {
        kln_state_check(state, false);
        return;
    }
    visit_edges(&s);
    for (size_t i = 0; i < s.count; i++) {
        s.starts[i + 1] += s.starts[i];
    }
    s.readers = kln_arena_alloc_zeroed(state->arena, s.starts[s.count], sizeof *s.readers);
    if (s.readers == NULL) {
        kln_state_check(state, false);
        return;
    }
    s.counting = false;
    visit_edges(&s);
    for (size_t i = 0; i < first; i++) {
        order[i] = graph->order != NULL ? graph->order[i] : (uint32_t)i;
    }
    sort_nodes(state, &s, order + first);
    graph->order = order;
    walk->order_capacity = total;
}

/* Appends nodes that are already in a runnable order, after others that were not. */
static void keep_order(kln_infer_state *state, kln_graph_walk *walk, size_t first, size_t count)
{
    for (size_t i = first; i < count && state->status == KILN_OK; i++) {
        state->status = KLN_GROW(state->arena, walk->inference.order, i, walk->order_capacity);
        if (state->status == KILN_OK) {
            walk->inference.order[i] = (uint32_t)i;
        }
    }
}

void kln_walk_order(kln_infer_state *state, kln_graph_walk *walk, size_t first)
{
    kln_graph_inference *graph = &walk->inference;
    const size_t count = graph->graph->node_count;
    if (!grow_nodes(state, graph, count)) {
        return;
    }
    for (size_t i = first; i < count && state->status == KILN_OK; i++) {
        register_node(state, walk, (uint32_t)i);
    }
    graph->node_count = count;
    bool sorted = true;
    for (size_t i = first; i < count && state->status == KILN_OK; i++) {
        sorted &= link_node(state, walk, (uint32_t)i);
    }
    if (!sorted && state->status == KILN_OK) {
        put_in_order(state, walk, first);
    } else if (graph->order != NULL) {
        keep_order(state, walk, first, count);
    }
}
