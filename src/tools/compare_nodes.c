/* SPDX-License-Identifier: Apache-2.0 */
#include "compare_parts.h"

/* Intermediate tensors are made outputs a few at a time, in the order of the nodes. This bounds the
 * memory, and nothing after the first difference is ever run. */

#define DEFAULT_BYTES (UINT64_C(256) << 20)
#define UNKNOWN_BYTES (UINT64_C(1) << 20) /* assumed for a tensor of unknown shape */
#define MOST_AT_ONCE ((size_t)256)

typedef struct candidate {
    uint32_t position; /* of its node */
    uint32_t index;    /* of its value */
    uint64_t bytes;
} candidate;

typedef struct search {
    kln_onnx_model *model;
    const kln_compare_builds *builds;
    const kiln_compare_options *options;
    kiln_comparison *comparison;
    kln_inference *inference;
    candidate *candidates;
    size_t count;
    uint32_t *values; /* of the current candidates */
    kln_cut cut;
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

/* Collects the tensors that can be outputs, in an order in which the nodes can run. */
static kiln_status collect(search *s)
{
    const kln_graph_inference *graph = s->inference->graph;
    size_t most = 0;
    for (size_t i = 0; i < graph->node_count; i++) {
        most += graph->graph->nodes[i].output_count;
    }
    s->candidates = kln_arena_alloc_zeroed(&s->inference->arena, most + 1, sizeof *s->candidates);
    s->values = kln_arena_alloc_zeroed(&s->inference->arena, most + 1, sizeof *s->values);
    KLN_FAIL_IF(s->candidates == NULL || s->values == NULL,
                kln_fail_memory(most * sizeof *s->candidates, "the tensors of a network"));
    for (size_t i = 0; i < graph->node_count; i++) {
        const uint32_t node = s->cut.order[i];
        for (size_t k = 0; k < graph->graph->nodes[node].output_count; k++) {
            const uint32_t index = graph->nodes[node].outputs[k];
            const kln_value *value = index != KLN_NO_VALUE ? graph->values[index] : NULL;
            if (value != NULL && value->kind == KLN_ONNX_KIND_TENSOR &&
                kiln_dtype_bits(value->dtype) > 0) {
                s->candidates[s->count++] = (candidate){(uint32_t)i, index, bytes_of(value)};
            }
        }
    }
    return KILN_OK;
}

static const char *name_of(const search *s, const candidate *of)
{
    return s->inference->graph->values[of->index]->name;
}

static kiln_status note(search *s, const candidate *of, const kiln_tensor_difference *difference)
{
    const uint32_t index = s->cut.order[of->position];
    const kln_onnx_node *node = &s->model->graph.nodes[index];
    kln_arena *arena = &s->comparison->arena;
    kiln_tensor_difference *first = kln_arena_alloc(arena, sizeof *first);
    KLN_RETURN_IF_NO_MEMORY(first, sizeof *first, "a comparison");
    *first = *difference;
    first->name = kln_arena_strdup(arena, name_of(s, of));
    first->operation = kln_arena_strdup(arena, node->op_type);
    first->node = kln_arena_strdup(arena, KLN_NODE_LABEL(node, index));
    KLN_FAIL_IF(first->name == NULL || first->operation == NULL || first->node == NULL,
                kln_fail_memory(1, "a comparison"));
    s->comparison->first = first;
    return KILN_OK;
}

static kiln_status compare_all(search *s, size_t begin, size_t end, kiln_context *const contexts[2])
{
    for (size_t i = begin; i < end && s->comparison->first == NULL; i++) {
        const candidate *of = &s->candidates[i];
        kiln_tensor_difference difference = {.name = NULL};
        kln_compare_steps steps;
        KLN_RETURN_IF_ERROR(
            kln_compare_steps_of(s->inference->graph, of->index, &s->inference->arena, &steps));
        KLN_RETURN_IF_ERROR(
            kln_compare_output(contexts, name_of(s, of), s->options, &steps, &difference));
        s->comparison->intermediate_count++;
        KLN_RETURN_IF_ERROR(difference.passes ? kln_cut_keep(&s->cut, of->index, contexts)
                                              : note(s, of, &difference));
    }
    return KILN_OK;
}

static kiln_status run_part(search *s, size_t begin, size_t end, kiln_engine *const engines[2])
{
    const kln_compare_inputs inputs[2] = {
        {.tensors = s->cut.bound[0], .count = s->cut.bound_count[0]},
        {.tensors = s->cut.bound[1], .count = s->cut.bound_count[1]}};
    const kln_compare_inputs *const of[2] = {&inputs[0], &inputs[1]};
    kiln_context *contexts[2] = {NULL, NULL};
    KLN_RETURN_IF_ERROR(kln_compare_run(engines, of, contexts));
    const kiln_status status = compare_all(s, begin, end, contexts);
    kiln_context_destroy(contexts[0]);
    kiln_context_destroy(contexts[1]);
    return status;
}

/* Runs a graph with the candidates from `begin` to before `end` as outputs. */
static kiln_status show(search *s, size_t begin, size_t end)
{
    kiln_engine *engines[2] = {NULL, NULL};
    for (size_t i = begin; i < end; i++) {
        s->values[i - begin] = s->candidates[i].index;
    }
    const uint32_t first = begin > 0 ? s->candidates[begin - 1].position + 1 : 0;
    kiln_status status = kln_cut_build(&s->cut, s->values, end - begin, first,
                                       s->candidates[end - 1].position, s->builds, engines);
    KLN_THEN(status, run_part(s, begin, end, engines));
    kiln_engine_release(engines[0]);
    kiln_engine_release(engines[1]);
    kln_cut_forget(&s->cut);
    return status;
}

/* The outputs of one node stay together, so that it is not computed twice. */
static size_t end_of(const search *s, size_t begin, uint64_t limit)
{
    size_t end = begin;
    uint64_t bytes = 0;
    do {
        bytes += s->candidates[end++].bytes;
    } while (end < s->count &&
             (s->candidates[end].position == s->candidates[end - 1].position ||
              (end - begin < MOST_AT_ONCE && bytes + s->candidates[end].bytes <= limit)));
    return end;
}

static kiln_status look(search *s)
{
    const uint64_t limit =
        s->options->intermediate_bytes > 0 ? s->options->intermediate_bytes : DEFAULT_BYTES;
    KLN_RETURN_IF_ERROR(collect(s));
    for (size_t begin = 0, end = 0; begin < s->count && s->comparison->first == NULL; begin = end) {
        end = end_of(s, begin, limit);
        KLN_RETURN_IF_ERROR(show(s, begin, end));
    }
    return KILN_OK;
}

kiln_status kln_compare_nodes(kln_onnx_model *model, const kln_compare_builds *builds,
                              const kln_compare_inputs *inputs, const kiln_compare_options *options,
                              kiln_comparison *comparison)
{
    search s = {.model = model, .builds = builds, .options = options, .comparison = comparison};
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &s.inference));
    kiln_status status = kln_cut_init(&s.cut, model, s.inference, inputs);
    KLN_THEN(status, look(&s));
    kln_cut_finish(&s.cut);
    kln_inference_destroy(s.inference);
    if (status != KILN_OK) {
        status = kln_fail_within(status, "looking for the first difference");
    }
    return status;
}
