/* Refuses models that would end the process inside ONNX Runtime, before it sees them, and finds
 * which optimizations it must not make.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "graph/kln_graph.h"
#include "ops/kln_ops.h"
#include "ort_engine.h"
#include "ort_lacks.h"

#define DEEPEST 64

static bool expands(const kln_onnx_node *node)
{
    return strcmp(node->op_type, "Expand") == 0;
}

/* Whether the graph or one of its subgraphs has such a node. */
static bool has_node(const kln_onnx_graph *graph, bool (*is)(const kln_onnx_node *), int depth)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        if (is(node)) {
            return true;
        }
        for (size_t k = 0; k < node->attribute_count && depth < DEEPEST; k++) {
            const kln_onnx_graph *inner = node->attributes[k].graph;
            if (inner != NULL && has_node(inner, is, depth + 1)) {
                return true;
            }
        }
    }
    return false;
}

static bool model_has(const kln_onnx_model *model, bool (*is)(const kln_onnx_node *))
{
    bool has = has_node(&model->graph, is, 0);
    for (size_t i = 0; !has && i < model->function_count; i++) {
        has = has_node(&model->functions[i].body, is, 0);
    }
    return has;
}

/* Finds the first node that would end the process if it runs; a node in a branch may not. */
static kiln_status find_end(kln_inference *inference, const kln_graph_inference *graph,
                            const char *name, int depth)
{
    for (uint32_t i = 0; i < graph->node_count; i++) {
        char why[256];
        const kln_node_inference *known = &graph->nodes[i];
        if (known->resolved == NULL) {
            continue;
        }
        const kln_node_view view = kln_view_of(inference, graph, i);
        if (ort_ends(&view, why, sizeof why) != KLN_LACK_NONE) {
            return kln_fail(KILN_ERROR_UNSUPPORTED, "\"%s\": node \"%s\" (%s): %s", name,
                            KLN_NODE_LABEL(view.node, i), view.node->op_type, why);
        }
        for (size_t k = 0; k < known->graph_count && depth < DEEPEST; k++) {
            if (known->graphs[k] != NULL) {
                KLN_RETURN_IF_ERROR(find_end(inference, known->graphs[k], name, depth + 1));
            }
        }
    }
    return KILN_OK;
}

/* The Einsum kernel does not check the equation, and a wrong one makes it read out of bounds. */
static kiln_status check_equations(const kln_inference *inference, const char *name)
{
    const kiln_issue_list *const lists[] = {inference->issues, inference->doubts};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(lists); k++) {
        for (size_t i = 0; i < kiln_issue_list_count(lists[k]); i++) {
            const kiln_issue *issue = kiln_issue_list_get(lists[k], i);
            KLN_RETURN_IF(strcmp(issue->tensor, "equation") == 0, KILN_ERROR_INVALID_NETWORK,
                          "\"%s\": %s", name, issue->sentence);
        }
    }
    return KILN_OK;
}

static bool is_empty(const kln_value *value)
{
    bool empty = false;
    for (size_t i = 0; value != NULL && value->has_shape && i < value->rank; i++) {
        empty = empty || (value->dims[i].kind == KLN_DIM_NUMBER && value->dims[i].of.number == 0);
    }
    return empty;
}

/* Whether a node expands a tensor to one without elements. */
static bool empties(kln_inference *inference, const kln_graph_inference *graph, int depth)
{
    bool found = false;
    for (uint32_t i = 0; i < graph->node_count && !found; i++) {
        const kln_node_inference *known = &graph->nodes[i];
        if (known->resolved == NULL) {
            continue;
        }
        const kln_node_view view = kln_view_of(inference, graph, i);
        found = expands(view.node) && is_empty(kln_view_output(&view, 0)) &&
                !is_empty(kln_view_input(&view, 0));
        for (size_t k = 0; k < known->graph_count && depth < DEEPEST && !found; k++) {
            found = known->graphs[k] != NULL && empties(inference, known->graphs[k], depth + 1);
        }
    }
    return found;
}

/* `keeps_expands` may be NULL; set if Expand nodes must not be optimized away. */
static kiln_status check_ends(const kln_onnx_model *model, const kln_infer_options *options,
                              const char *name, bool *keeps_expands)
{
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    kiln_status status = kln_infer(model, options, &inference);
    if (status != KILN_OK) {
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    if (keeps_expands != NULL) {
        *keeps_expands = empties(inference, inference->graph, 0);
    }
    KLN_RETURN_IF_ERROR(check_equations(inference, name));
    return find_end(inference, inference->graph, name, 0);
}

/* Whether the main graph dequantizes to float16. */
static kiln_status find_half_scales(const kln_onnx_graph *graph, bool *found)
{
    KLN_SCOPED(kln_names_finish) kln_names halves = {0};
    for (size_t i = 0; i < graph->initializer_count; i++) {
        if (graph->initializers[i].dtype == KILN_DTYPE_FLOAT16) {
            KLN_RETURN_IF_ERROR(kln_names_set(&halves, graph->initializers[i].name, 0));
        }
    }
    for (size_t i = 0; i < graph->node_count && !*found; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        *found = kln_onnx_node_is(node, "DequantizeLinear") && node->input_count > 1 &&
                 kln_names_get(&halves, node->inputs[1]) != KLN_NAMES_NONE;
    }
    return KILN_OK;
}

/* --- sums that saturate in 16 bits --- */

/* With weights up to this, a sum of two products with 255 stays below 2^15. */
#define WIDEST 64

static bool is_narrow(void *user, const kln_onnx_tensor *tensor)
{
    const signed char *numbers = tensor->data.data;
    (void)user;
    for (size_t i = 0; tensor->dtype == KILN_DTYPE_INT8 && numbers != NULL && i < tensor->data.size;
         i++) {
        if (numbers[i] > WIDEST || numbers[i] < -WIDEST) {
            return false;
        }
    }
    return true;
}

static bool is_any(const kln_onnx_node *node, const char *const *names, size_t count)
{
    bool found = false;
    for (size_t i = 0; i < count && !found; i++) {
        found = strcmp(node->op_type, names[i]) == 0;
    }
    return found;
}

static bool quantizes(const kln_onnx_node *node)
{
    return kln_onnx_node_is(node, "QuantizeLinear");
}

static bool dequantizes(const kln_onnx_node *node)
{
    return kln_onnx_node_is(node, "DequantizeLinear");
}

/* 8-bit products with integer or float results. */
static bool multiplies_bytes(const kln_onnx_node *node)
{
    static const char *const names[] = {"MatMulInteger", "MatMulIntegerToFloat",
                                        "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"};
    return is_any(node, names, KLN_ARRAY_LENGTH(names));
}

/* 8-bit products with 8-bit results. */
static bool gives_bytes(const kln_onnx_node *node)
{
    static const char *const names[] = {"QLinearConv", "QLinearMatMul", "QGemm", "QAttention"};
    return is_any(node, names, KLN_ARRAY_LENGTH(names));
}

/* Products between QuantizeLinear and DequantizeLinear can be computed in float32 instead. For
 * other products the library can convert weights to unsigned, which avoids the saturation; but then
 * DequantizeLinear with per-channel scales and no zero points fails, and so does QLinearMatMul of
 * signed numbers (docs/onnxruntime.md). */
static void find_cut_sums(ort_engine *engine, const kln_onnx_model *model, const char *name)
{
    const kln_onnx_tensor *wide = kln_onnx_visit_tensors(&model->graph, is_narrow, NULL);
    if (wide == NULL) {
        return;
    }
    const bool multiplies = model_has(model, multiplies_bytes);
    const bool has_others = model_has(model, gives_bytes);
    engine->keeps_floats = model_has(model, quantizes);
    engine->lifts_bytes = multiplies && !has_others && !model_has(model, dequantizes);
    if ((multiplies || has_others) && !engine->lifts_bytes) {
        kln_log(KILN_LOG_WARNING, "onnxruntime",
                "\"%s\": this processor, x86 without VNNI, cuts off sums of products of 8-bit "
                "weights like \"%s\": results may be wrong; quantize the model with weights of "
                "seven bits (reduce_range), or run it on the reference executor",
                name, wide->name);
    }
}

/* --- initializers that are also inputs --- */

static bool can_be_fed(const kln_onnx_type *type)
{
    return type->kind == KLN_ONNX_KIND_TENSOR && kln_dtype_is_bindable(type->dtype) &&
           type->has_shape && type->rank <= KILN_MAX_RANK;
}

static kiln_status add_optional(ort_engine *engine, const kln_onnx_value *input)
{
    kiln_binding *binding = &engine->optional[engine->optional_count];
    *binding = (kiln_binding){.struct_size = sizeof *binding,
                              .name = kln_arena_strdup(&engine->arena, input->name),
                              .is_input = true,
                              .dtype = input->type.dtype};
    KLN_RETURN_IF_NO_MEMORY(binding->name, strlen(input->name) + 1, "the name of a binding");
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
    KLN_SCOPED(kln_names_finish) kln_names weights = {0};
    KLN_ARENA_NEW(&engine->arena, engine->optional, graph->input_count + 1, "the bindings");
    KLN_RETURN_IF_ERROR(kln_onnx_name_initializers(graph, &weights));
    for (size_t i = 0; i < graph->input_count; i++) {
        const kln_onnx_value *input = &graph->inputs[i];
        if (kln_names_get(&weights, input->name) != KLN_NAMES_NONE && can_be_fed(&input->type)) {
            KLN_RETURN_IF_ERROR(add_optional(engine, input));
        }
    }
    return KILN_OK;
}

static kiln_status look(ort_engine *engine, const kln_onnx_model *model,
                        const kiln_build_options *options, const char *name)
{
    if (options->provider != KILN_PROVIDER_CUDA && kln_processor_cuts_sums()) {
        find_cut_sums(engine, model, name);
    }
    engine->is_risky = model_has(model, ort_may_end);
    KLN_RETURN_IF_ERROR(find_half_scales(&model->graph, &engine->keeps_biases));
    if (engine->is_risky || model_has(model, expands)) {
        KLN_RETURN_IF_ERROR(check_ends(model, NULL, name, &engine->keeps_expands));
    }
    return model->ir_version >= KLN_ONNX_IR_OF_OPTIONAL_INPUTS && model->graph.initializer_count > 0
               ? find_optional(engine, &model->graph)
               : KILN_OK;
}

kiln_status ort_guard(ort_engine *engine, const kiln_model *model,
                      const kiln_build_options *options)
{
    if (model->graph != NULL) {
        return look(engine, model->graph, options, kln_model_name(model));
    }
    kln_onnx_model *read = NULL;
    kiln_status status = kln_model_read(model, &read);
    if (status != KILN_OK) {
        /* ONNX Runtime reports what is wrong. */
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    status = look(engine, read, options, kln_model_name(model));
    if (status == KILN_OK && read->mapping_count > 1 && options->provider != KILN_PROVIDER_CUDA) {
        engine->external = read;
    } else {
        kln_onnx_model_destroy(read);
    }
    return status;
}

kiln_status ort_guard_run(const ort_engine *engine, const kln_input_shape *inputs, size_t count)
{
    const kln_infer_options options = {.inputs = inputs, .input_count = count};
    const kln_onnx_model *kept =
        engine->handover.model != NULL ? engine->handover.model : engine->external;
    if (kept != NULL) {
        return check_ends(kept, &options, "the run", NULL);
    }
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *read = NULL;
    kiln_status status = kln_onnx_read_bytes(engine->bytes, NULL, &read);
    if (status != KILN_OK) {
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    return check_ends(read, &options, "the run", NULL);
}
