/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "compare_parts.h"
#include "kln_engine.h"
#include "network/kln_network.h"

/* Inner tensors are made outputs some at a time, in the order of the nodes, and of a graph that
 * ends where the last of them is computed: memory is bounded, and what comes after the first
 * difference is never run. */

#define DEFAULT_BYTES (UINT64_C(256) << 20)
#define UNKNOWN_BYTES (UINT64_C(1) << 20) /* is assumed of a tensor whose shape is not known */
#define MOST_AT_ONCE ((size_t)256)

typedef struct candidate {
    uint32_t node;
    const kln_value *value;
    uint64_t bytes;
} candidate;

typedef struct search {
    kln_onnx_model *model;
    const kln_compare_builds *builds;
    const kln_compare_inputs *inputs;
    const kiln_compare_options *options;
    kiln_comparison *comparison;
    kln_inference *inference;
    candidate *candidates;
    size_t count;
    kln_onnx_value *outputs; /* room for MOST_AT_ONCE */
    bool is_in_order;        /* the nodes can run as they stand */
} search;

static uint64_t bytes_of(const kln_value *value)
{
    kiln_shape shape;
    size_t bytes = 0;
    if (!kln_value_shape(value, &shape) || !kiln_shape_is_static(&shape) ||
        kiln_tensor_bytes(value->dtype, &shape, &bytes) != KILN_OK) {
        return UNKNOWN_BYTES;
    }
    return bytes;
}

/* The tensors that can be shown, in an order that the nodes can run in. */
static kiln_status collect(search *s)
{
    const kln_graph_inference *graph = s->inference->graph;
    size_t most = 0;
    for (size_t i = 0; i < graph->node_count; i++) {
        most += graph->graph->nodes[i].output_count;
    }
    s->candidates = kln_arena_alloc_zeroed(&s->inference->arena, most + 1, sizeof *s->candidates);
    s->outputs = kln_arena_alloc_zeroed(&s->inference->arena, MOST_AT_ONCE, sizeof *s->outputs);
    if (s->candidates == NULL || s->outputs == NULL) {
        return kln_fail_memory(most * sizeof *s->candidates, "the tensors of a network");
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        const uint32_t node = graph->order != NULL ? graph->order[i] : (uint32_t)i;
        for (size_t k = 0; k < graph->graph->nodes[node].output_count; k++) {
            const uint32_t index = graph->nodes[node].outputs[k];
            const kln_value *value = index != KLN_NO_VALUE ? graph->values[index] : NULL;
            if (value != NULL && value->kind == KLN_ONNX_KIND_TENSOR &&
                kiln_dtype_bits(value->dtype) > 0) {
                s->candidates[s->count++] = (candidate){node, value, bytes_of(value)};
            }
        }
    }
    s->is_in_order = graph->order == NULL;
    return KILN_OK;
}

static kiln_status note(search *s, const candidate *of, const kiln_tensor_difference *difference)
{
    const kln_onnx_node *node = &s->model->graph.nodes[of->node];
    kln_arena *arena = &s->comparison->arena;
    kiln_tensor_difference *first = kln_arena_alloc(arena, sizeof *first);
    if (first == NULL) {
        return kln_fail_memory(sizeof *first, "a comparison");
    }
    *first = *difference;
    first->name = kln_arena_strdup(arena, of->value->name);
    first->operation = kln_arena_strdup(arena, node->op_type);
    first->node = node->name[0] != '\0' ? kln_arena_strdup(arena, node->name)
                                        : kln_arena_printf(arena, "#%u", (unsigned)of->node);
    if (first->name == NULL || first->operation == NULL || first->node == NULL) {
        return kln_fail_memory(1, "a comparison");
    }
    s->comparison->first = first;
    return KILN_OK;
}

static kiln_status compare_all(search *s, size_t begin, size_t end, kiln_engine *const engines[2])
{
    kiln_context *contexts[2] = {NULL, NULL};
    KLN_RETURN_IF_ERROR(kln_compare_run(engines, s->inputs, contexts));
    kiln_status status = KILN_OK;
    for (size_t i = begin; i < end && status == KILN_OK && s->comparison->first == NULL; i++) {
        kiln_tensor_difference difference = {.name = NULL};
        status =
            kln_compare_output(contexts, s->candidates[i].value->name, s->options, &difference);
        s->comparison->inner_count++;
        if (status == KILN_OK && !difference.passes) {
            status = note(s, &s->candidates[i], &difference);
        }
    }
    kiln_context_destroy(contexts[0]);
    kiln_context_destroy(contexts[1]);
    return status;
}

static kiln_status build_and_compare(search *s, size_t begin, size_t end)
{
    const kln_model model = {.graph = s->model};
    kiln_engine *engines[2] = {NULL, NULL};
    kiln_status status = kln_engine_make(&model, &s->builds->found, false, NULL, &engines[0]);
    if (status == KILN_OK) {
        status = kln_engine_make(&model, &s->builds->expected, false, NULL, &engines[1]);
    }
    if (status == KILN_OK) {
        status = compare_all(s, begin, end, engines);
    }
    kiln_engine_release(engines[0]);
    kiln_engine_release(engines[1]);
    return status;
}

/* The candidates from `begin` to before `end` as outputs of a graph that ends with the last. */
static kiln_status show(search *s, size_t begin, size_t end)
{
    kln_onnx_graph *graph = &s->model->graph;
    const kln_onnx_graph as_it_was = *graph;
    for (size_t i = begin; i < end; i++) {
        const kln_value *value = s->candidates[i].value;
        s->outputs[i - begin] = (kln_onnx_value){.name = value->name,
                                                 .type = {.kind = KLN_ONNX_KIND_TENSOR,
                                                          .dtype = value->dtype,
                                                          .wire_dtype = value->wire_dtype}};
    }
    graph->outputs = s->outputs;
    graph->output_count = end - begin;
    graph->output_capacity = MOST_AT_ONCE;
    graph->node_count =
        s->is_in_order ? (size_t)s->candidates[end - 1].node + 1 : as_it_was.node_count;
    const kiln_status status = build_and_compare(s, begin, end);
    graph->outputs = as_it_was.outputs;
    graph->output_count = as_it_was.output_count;
    graph->output_capacity = as_it_was.output_capacity;
    graph->node_count = as_it_was.node_count;
    return status;
}

static kiln_status look(search *s)
{
    const uint64_t limit = s->options->inner_bytes > 0 ? s->options->inner_bytes : DEFAULT_BYTES;
    KLN_RETURN_IF_ERROR(collect(s));
    size_t begin = 0;
    while (begin < s->count && s->comparison->first == NULL) {
        size_t end = begin;
        uint64_t bytes = 0;
        do {
            bytes += s->candidates[end++].bytes;
        } while (end < s->count && end - begin < MOST_AT_ONCE &&
                 bytes + s->candidates[end].bytes <= limit);
        KLN_RETURN_IF_ERROR(show(s, begin, end));
        begin = end;
    }
    return KILN_OK;
}

kiln_status kln_compare_nodes(kln_onnx_model *model, const kln_compare_builds *builds,
                              const kln_compare_inputs *inputs, const kiln_compare_options *options,
                              kiln_comparison *comparison)
{
    search s = {.model = model,
                .builds = builds,
                .inputs = inputs,
                .options = options,
                .comparison = comparison};
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &s.inference));
    kiln_status status = look(&s);
    kln_inference_destroy(s.inference);
    if (status != KILN_OK) {
        status = kln_fail_within(status, "looking for the first difference");
    }
    return status;
}
