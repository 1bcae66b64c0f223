/* Models that would end the process inside ONNX Runtime are refused before it sees them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ops/kln_ops.h"
#include "ort_engine.h"

#define DEEPEST 64

/* Whether the graph has an operator whose kernel does not check what it is given: the equation of
 * an Einsum is followed out of bounds. */
static bool has_trusting(const kln_onnx_graph *graph, int depth)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        if (strcmp(node->op_type, "Einsum") == 0) {
            return true;
        }
        for (size_t k = 0; k < node->attribute_count && depth < DEEPEST; k++) {
            const kln_onnx_attribute *attribute = &node->attributes[k];
            if (attribute->graph != NULL && has_trusting(attribute->graph, depth + 1)) {
                return true;
            }
        }
    }
    return false;
}

static kiln_status check_equations(const kln_onnx_model *model, const char *name)
{
    kln_inference *inference = NULL;
    bool trusting = has_trusting(&model->graph, 0);
    for (size_t i = 0; i < model->function_count; i++) {
        trusting = trusting || has_trusting(&model->functions[i].body, 0);
    }
    kiln_status status = trusting ? kln_infer(model, NULL, &inference) : KILN_OK;
    if (!trusting || status != KILN_OK) {
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    const kiln_issue_list *const lists[] = {inference->issues, inference->doubts};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(lists); k++) {
        for (size_t i = 0; i < kiln_issue_list_count(lists[k]) && status == KILN_OK; i++) {
            const kiln_issue *issue = kiln_issue_list_get(lists[k], i);
            if (strcmp(issue->tensor, "equation") == 0) {
                status = kln_fail(KILN_ERROR_INVALID_NETWORK, "\"%s\": %s", name, issue->sentence);
            }
        }
    }
    kln_inference_destroy(inference);
    return status;
}

/* --- initializers that are inputs too --- */

static bool can_be_fed(const kln_onnx_type *type)
{
    return type->kind == KLN_ONNX_KIND_TENSOR && kiln_dtype_bits(type->dtype) > 0 &&
           type->has_shape && type->rank <= KILN_MAX_RANK;
}

static kiln_status add_optional(ort_engine *engine, const kln_onnx_value *input)
{
    kiln_binding *binding = &engine->optional[engine->optional_count];
    *binding = (kiln_binding){.struct_size = sizeof *binding,
                              .name = kln_arena_strdup(&engine->arena, input->name),
                              .is_input = true,
                              .dtype = input->type.dtype};
    if (binding->name == NULL) {
        return kln_fail_memory(strlen(input->name) + 1, "the name of a binding");
    }
    binding->shape.rank = (int32_t)input->type.rank;
    for (size_t i = 0; i < input->type.rank; i++) {
        const int64_t dim = input->type.dims[i].value;
        binding->shape.dims[i] = dim >= 0 ? dim : KILN_DYNAMIC;
    }
    engine->optional_count++;
    return KILN_OK;
}

static kiln_status find_optional(ort_engine *engine, const kln_onnx_graph *graph)
{
    kln_names weights;
    kiln_status status = KILN_OK;
    engine->optional =
        kln_arena_alloc_zeroed(&engine->arena, graph->input_count + 1, sizeof *engine->optional);
    if (engine->optional == NULL) {
        return kln_fail_memory(graph->input_count * sizeof *engine->optional, "the bindings");
    }
    kln_names_init(&weights);
    for (size_t i = 0; i < graph->initializer_count && status == KILN_OK; i++) {
        status = kln_names_set(&weights, graph->initializers[i].name, (uint32_t)i);
    }
    for (size_t i = 0; i < graph->input_count && status == KILN_OK; i++) {
        const kln_onnx_value *input = &graph->inputs[i];
        if (kln_names_get(&weights, input->name) != KLN_NAMES_NONE && can_be_fed(&input->type)) {
            status = add_optional(engine, input);
        }
    }
    kln_names_finish(&weights);
    return status;
}

static kiln_status look(ort_engine *engine, const kln_onnx_model *model, const char *name,
                        const kiln_build_options *options)
{
    KLN_RETURN_IF_ERROR(check_equations(model, name));
    const bool on_gpu = options->provider == KILN_PROVIDER_CUDA;
    return model->ir_version >= KLN_ONNX_IR_OF_OPTIONAL_INPUTS &&
                   model->graph.initializer_count > 0 && !on_gpu
               ? find_optional(engine, &model->graph)
               : KILN_OK;
}

kiln_status ort_guard(ort_engine *engine, const kln_model *model, const kiln_build_options *options)
{
    if (model->graph != NULL) {
        return look(engine, model->graph, kln_model_name(model), options);
    }
    kln_onnx_model *read = NULL;
    kiln_status status = kln_onnx_read_bytes(model->bytes, NULL, &read);
    if (status != KILN_OK) {
        /* ONNX Runtime has its own words for it. */
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    status = look(engine, read, kln_model_name(model), options);
    kln_onnx_model_destroy(read);
    return status;
}
