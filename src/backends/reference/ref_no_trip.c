/* The stacked outputs of a Loop or Scan without an iteration: empty, but with the type and shape
 * that an iteration would give. The body declares them; what it leaves open is inferred from the
 * inputs that the first iteration would have.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ops/kln_ops.h"
#include "ref_ops.h"

/* Up to this many elements, inference follows the values; of a larger tensor it only knows type and
 * shape. */
#define MOST_FOLLOWED 1024

/* The body as a separate graph, whose inputs are the body's own and the outer values that it
 * reads. */
typedef struct standing_alone {
    kln_arena *arena;
    ref_call *call;
    kln_onnx_model model;
    size_t capacity; /* of the lists of inputs and initializers */
    kln_names known;
} standing_alone;

static kiln_status out_of_memory(void)
{
    return kln_fail(KILN_ERROR_OUT_OF_MEMORY, "memory for the shape of an empty output");
}

static kiln_status add_input(standing_alone *alone, const char *name, const ref_tensor *tensor)
{
    kln_onnx_graph *graph = &alone->model.graph;
    kln_onnx_value *input = &graph->inputs[graph->input_count++];
    *input = (kln_onnx_value){.name = name};
    if (tensor == NULL) {
        return KILN_OK;
    }
    kln_onnx_dim *dims =
        kln_arena_alloc_zeroed(alone->arena, (size_t)tensor->rank + 1, sizeof *dims);
    int64_t *sizes = kln_arena_alloc_zeroed(alone->arena, (size_t)tensor->rank + 1, sizeof *sizes);
    KLN_FAIL_IF(dims == NULL || sizes == NULL, out_of_memory());
    for (int i = 0; i < tensor->rank; i++) {
        dims[i].value = tensor->dims[i];
        sizes[i] = tensor->dims[i];
    }
    const int32_t wire = kln_onnx_wire_dtype(tensor->dtype);
    input->type = (kln_onnx_type){.kind = KLN_ONNX_KIND_TENSOR,
                                  .dtype = tensor->dtype,
                                  .wire_dtype = wire,
                                  .has_shape = true,
                                  .rank = (size_t)tensor->rank,
                                  .dims = dims};
    if (tensor->count <= MOST_FOLLOWED && tensor->dtype != KILN_DTYPE_STRING &&
        !ref_is_packed(tensor->dtype)) {
        const size_t bytes = (size_t)tensor->count * ref_element_size(tensor->dtype);
        graph->input_count--;
        graph->initializers[graph->initializer_count++] =
            (kln_onnx_tensor){.name = name,
                              .dtype = tensor->dtype,
                              .wire_dtype = wire,
                              .rank = (size_t)tensor->rank,
                              .dims = sizes,
                              .data = {tensor->data, bytes}};
    }
    return KILN_OK;
}

static size_t count_sources(const ref_plan *plan)
{
    size_t count = plan->input_count + plan->output_count;
    for (size_t i = 0; i < plan->node_count; i++) {
        const ref_node *node = &plan->nodes[i];
        count += node->input_count;
        for (size_t k = 0; node->kernel != NULL && k < node->attribute_count; k++) {
            count += node->bodies[k] != NULL ? count_sources(node->bodies[k]) : 0;
        }
    }
    return count;
}

/* `depth`: the number of graphs inside the body that enclose the reader. */
static kiln_status add_source(standing_alone *alone, const char *name, const ref_source *source,
                              uint32_t depth)
{
    if (name[0] == '\0' || kln_names_get(&alone->known, name) != KLN_NAMES_NONE ||
        source->level <= depth) {
        return KILN_OK; /* a constant of the body is already one of its initializers or nodes */
    }
    ref_source outside = *source;
    outside.level -= depth + 1;
    const ref_value *value = ref_find_source(alone->call->frame, &outside);
    KLN_RETURN_IF_ERROR(kln_names_set(&alone->known, name, 0));
    return add_input(alone, name,
                     value != NULL && value->kind == REF_TENSOR ? &value->tensor : NULL);
}

static kiln_status add_captured(standing_alone *alone, const ref_plan *plan, uint32_t depth)
{
    for (size_t i = 0; i < plan->node_count; i++) {
        const ref_node *node = &plan->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            KLN_RETURN_IF_ERROR(add_source(alone, node->node->inputs[k], &node->inputs[k], depth));
        }
        for (size_t k = 0; node->kernel != NULL && k < node->attribute_count; k++) {
            if (node->bodies[k] != NULL) {
                KLN_RETURN_IF_ERROR(add_captured(alone, node->bodies[k], depth + 1));
            }
        }
    }
    for (size_t i = 0; i < plan->output_count; i++) {
        KLN_RETURN_IF_ERROR(
            add_source(alone, plan->graph->outputs[i].name, &plan->outputs[i], depth));
    }
    return KILN_OK;
}

static kiln_status stand_alone(standing_alone *alone, const ref_plan *plan, const ref_value *given,
                               size_t given_count)
{
    const kln_onnx_model *whole = alone->call->context->engine->model;
    kln_onnx_graph *graph = &alone->model.graph;
    *graph = *plan->graph;
    alone->model.ir_version = whole->ir_version;
    alone->model.opsets = whole->opsets;
    alone->model.opset_count = whole->opset_count;
    alone->model.functions = whole->functions;
    alone->model.function_count = whole->function_count;
    const size_t room = count_sources(plan) + graph->initializer_count + 1;
    kln_onnx_tensor *initializers =
        kln_arena_alloc_zeroed(alone->arena, room, sizeof *initializers);
    graph->inputs = kln_arena_alloc_zeroed(alone->arena, room, sizeof *graph->inputs);
    graph->input_count = 0;
    KLN_FAIL_IF(initializers == NULL || graph->inputs == NULL, out_of_memory());
    if (graph->initializer_count > 0) {
        memcpy(initializers, graph->initializers, graph->initializer_count * sizeof *initializers);
    }
    graph->initializers = initializers;
    for (size_t i = 0; i < plan->input_count; i++) {
        const bool tensor = i < given_count && given[i].kind == REF_TENSOR;
        KLN_RETURN_IF_ERROR(kln_names_set(&alone->known, plan->input_names[i], 0));
        KLN_RETURN_IF_ERROR(
            add_input(alone, plan->input_names[i], tensor ? &given[i].tensor : NULL));
    }
    return add_captured(alone, plan, 0);
}

/* The known dimensions of output `index`; the others are left unchanged. */
static kiln_status infer_output(ref_call *call, const ref_plan *plan, size_t index,
                                const ref_value *given, size_t given_count, kiln_dtype *dtype,
                                kiln_shape *shape)
{
    KLN_SCOPED(kln_arena_finish) kln_arena arena = {0};
    standing_alone alone = {.arena = &arena, .call = call};
    kln_inference *inference = NULL;
    kiln_status status = stand_alone(&alone, plan, given, given_count);
    KLN_THEN(status, kln_infer(&alone.model, NULL, &inference));
    if (status == KILN_OK && index < inference->graph->output_count &&
        inference->graph->outputs[index] != KLN_NO_VALUE) {
        const kln_value *value = inference->graph->values[inference->graph->outputs[index]];
        kiln_shape found;
        *dtype = value->dtype != KILN_DTYPE_UNDEFINED ? value->dtype : *dtype;
        if (kln_value_shape(value, &found) && (shape->rank < 0 || shape->rank == found.rank)) {
            for (int i = 0; i < found.rank; i++) {
                const bool open = shape->rank < 0 || shape->dims[i] < 0;
                shape->dims[i] = open ? found.dims[i] : shape->dims[i];
            }
            shape->rank = found.rank;
        }
    }
    kln_inference_destroy(inference);
    kln_names_finish(&alone.known);
    return status;
}

static bool is_whole(kiln_dtype dtype, const kiln_shape *shape)
{
    bool whole = dtype != KILN_DTYPE_UNDEFINED && shape->rank >= 0;
    for (int i = 0; whole && i < shape->rank; i++) {
        whole = shape->dims[i] >= 0;
    }
    return whole;
}

kiln_status ref_stack_nothing(ref_call *call, size_t output, const ref_plan *plan, size_t index,
                              int64_t axis, const ref_value *given, size_t given_count)
{
    const kln_onnx_type *type = &plan->graph->outputs[index].type;
    const bool tensor = type->kind == KLN_ONNX_KIND_TENSOR;
    kiln_dtype dtype = tensor ? type->dtype : KILN_DTYPE_UNDEFINED;
    kiln_shape shape = {.rank = -1};
    if (tensor && type->has_shape && type->rank < REF_RANK) {
        shape.rank = (int32_t)type->rank;
        for (size_t i = 0; i < type->rank; i++) {
            shape.dims[i] = type->dims[i].value;
        }
    }
    if (!is_whole(dtype, &shape)) {
        KLN_RETURN_IF_ERROR(infer_output(call, plan, index, given, given_count, &dtype, &shape));
    }
    dtype = dtype != KILN_DTYPE_UNDEFINED ? dtype : KILN_DTYPE_FLOAT32;
    const int rank = shape.rank < 0 ? 0 : shape.rank;
    int64_t dims[REF_RANK + 1] = {0};
    int at = 0;
    KLN_RETURN_IF_ERROR(ref_axis(call, axis, rank + 1, &at));
    for (int i = 0; i < rank; i++) {
        /* Unknown dimensions become 0, as in ONNX Runtime. */
        dims[i < at ? i : i + 1] = shape.dims[i] < 0 ? 0 : shape.dims[i];
    }
    dims[at] = 0;
    ref_tensor *y = NULL;
    return ref_output(call, output, dtype, rank + 1, dims, &y);
}
