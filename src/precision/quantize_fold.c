/* SPDX-License-Identifier: Apache-2.0 */
/* Folds nodes into convolutions before quantization, without changing what the network computes. */
#include <math.h>

#include "quantize_parts.h"

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "a folded network");
}

/* --- affine nodes after a convolution --- */

/* Weights and bias of a convolution, with everything folded so far. */
typedef struct fold_conv {
    const kln_onnx_tensor *before;
    float *weights, *bias;
    size_t outs, stride, count;
    bool is_changed;
} fold_conv;

typedef struct fold_pass {
    kln_onnx_model *model;
    kln_arena *arena;
    kln_onnx_graph graph;
    kln_inference *inference;
    kiln_precision_report *report;
    const char **kept; /* names that the caller keeps, updated after each fold */
    kln_names places;  /* index in that list by name */
    kln_names makers;  /* the convolution that makes a tensor */
    fold_conv *convs;  /* one per node */
    float *factors, *terms;
} fold_pass;

/* A copy of a float32 constant in the arena; NULL if it is something else, or without memory. */
static float *floats_of(const fold_pass *pass, const char *name, size_t *count)
{
    const kln_value *value = kln_inference_find(pass->inference->graph, name);
    if (value == NULL || !value->is_constant || value->dtype != KILN_DTYPE_FLOAT32 ||
        value->initializer == NULL || value->initializer->data.data == NULL) {
        return NULL;
    }
    *count = value->initializer->data.size / sizeof(float);
    float *numbers = kln_arena_alloc(&pass->inference->arena, value->initializer->data.size + 1);
    if (numbers != NULL) {
        memcpy(numbers, value->initializer->data.data, value->initializer->data.size);
    }
    return numbers;
}

/* Notes only the convolution: its weights are copied once something is folded into it. */
static kiln_status look_at_conv(fold_pass *pass, size_t index)
{
    const kln_onnx_node *node = &pass->graph.nodes[index];
    const kln_onnx_attribute *group = kln_onnx_find_attribute(node, "group");
    const bool across = kln_onnx_node_is(node, "ConvTranspose");
    fold_conv *conv = &pass->convs[index];
    if ((!across && !kln_onnx_node_is(node, "Conv")) || node->output_count != 1 ||
        (across && group != NULL && group->i != 1)) {
        return KILN_OK;
    }
    const kln_value *weights = kln_inference_find(pass->inference->graph, node->inputs[1]);
    const bool has_bias = node->input_count > 2 && node->inputs[2][0] != '\0';
    const kln_value *bias =
        has_bias ? kln_inference_find(pass->inference->graph, node->inputs[2]) : NULL;
    if (weights == NULL || !weights->is_constant || weights->dtype != KILN_DTYPE_FLOAT32 ||
        weights->initializer == NULL || weights->initializer->data.data == NULL ||
        weights->initializer->rank < 3 ||
        (has_bias && (bias == NULL || !bias->is_constant || bias->initializer == NULL ||
                      bias->initializer->data.data == NULL))) {
        return KILN_OK;
    }
    conv->before = weights->initializer;
    conv->count = conv->before->data.size / sizeof(float);
    conv->outs = (size_t)conv->before->dims[across ? 1 : 0];
    conv->stride = 1;
    for (size_t i = across ? 2 : 1; i < conv->before->rank; i++) {
        conv->stride *= (size_t)conv->before->dims[i];
    }
    return conv->count != 0 ? kln_names_set(&pass->makers, node->outputs[0], (uint32_t)index)
                            : KILN_OK;
}

static kiln_status own_weights(fold_pass *pass, size_t index)
{
    fold_conv *conv = &pass->convs[index];
    const kln_onnx_node *node = &pass->graph.nodes[index];
    size_t count = 0;
    if (conv->is_changed) {
        return KILN_OK;
    }
    conv->weights = kln_arena_alloc(pass->arena, conv->before->data.size);
    conv->bias = kln_arena_alloc_zeroed(pass->arena, conv->outs, sizeof *conv->bias);
    KLN_FAIL_IF(conv->weights == NULL || conv->bias == NULL, no_memory());
    memcpy(conv->weights, conv->before->data.data, conv->before->data.size);
    if (node->input_count > 2 && node->inputs[2][0] != '\0') {
        const float *bias = floats_of(pass, node->inputs[2], &count);
        KLN_FAIL_IF(bias == NULL || count != conv->outs, no_memory());
        memcpy(conv->bias, bias, count * sizeof *bias);
    }
    conv->is_changed = true;
    return KILN_OK;
}

/* Whether a constant is one number, or one per channel of a tensor of that rank. */
static bool is_by_channel(const fold_pass *pass, const char *name, size_t rank, size_t channels)
{
    const kln_value *value = kln_inference_find(pass->inference->graph, name);
    if (value == NULL || !value->has_shape || value->rank > rank) {
        return false;
    }
    for (size_t i = 0; i < value->rank; i++) {
        const size_t axis = rank - value->rank + i;
        const kln_dim dim = value->dims[i];
        if (dim.kind != KLN_DIM_NUMBER ||
            (dim.of.number != 1 && (axis != 1 || dim.of.number != (int64_t)channels))) {
            return false;
        }
    }
    return true;
}

/* Reads the node, which may be a batch normalization, as x * factors + terms; false if it is
 * neither. */
static bool read_affine(fold_pass *pass, const kln_onnx_node *node, size_t input, size_t channels,
                        size_t rank)
{
    const bool is_mul = kln_onnx_node_is(node, "Mul");
    size_t count = 0;
    if (kln_onnx_node_is(node, "BatchNormalization")) {
        const kln_onnx_attribute *training = kln_onnx_find_attribute(node, "training_mode");
        const kln_onnx_attribute *epsilon = kln_onnx_find_attribute(node, "epsilon");
        const float *of[4] = {NULL};
        for (size_t k = 0; k < 4 && node->input_count == 5; k++) {
            of[k] = floats_of(pass, node->inputs[k + 1], &count);
            of[k] = count == channels ? of[k] : NULL;
        }
        if (of[0] == NULL || of[1] == NULL || of[2] == NULL || of[3] == NULL || input != 0 ||
            (training != NULL && training->i != 0)) {
            return false;
        }
        for (size_t c = 0; c < channels; c++) {
            const double deviation =
                sqrt((double)of[3][c] + (double)(epsilon != NULL ? epsilon->f : 1e-5F));
            pass->factors[c] = (float)((double)of[0][c] / deviation);
            pass->terms[c] =
                (float)((double)of[1][c] - (double)of[2][c] * (double)of[0][c] / deviation);
        }
        return true;
    }
    if ((!is_mul && !kln_onnx_node_is(node, "Add")) || node->input_count != 2 ||
        !is_by_channel(pass, node->inputs[1 - input], rank, channels)) {
        return false;
    }
    const float *numbers = floats_of(pass, node->inputs[1 - input], &count);
    for (size_t c = 0; numbers != NULL && c < channels; c++) {
        const float number = numbers[count == 1 ? 0 : c];
        pass->factors[c] = is_mul ? number : 1;
        pass->terms[c] = is_mul ? 0 : number;
    }
    return numbers != NULL;
}

static kiln_status tell(const fold_pass *pass, const kln_onnx_node *node)
{
    const kiln_precision_node line = {.struct_size = sizeof line,
                                      .name = node->name,
                                      .operator_type = node->op_type,
                                      .graph = "",
                                      .output = node->outputs[0],
                                      .dtype = KILN_DTYPE_UNDEFINED,
                                      .reason = KILN_PRECISION_FOLDED,
                                      .detail = ""};
    return kln_precision_report_add(pass->report, &line);
}

/* A kept name is known as `name` from now on. */
static kiln_status keep_as(fold_pass *pass, const char *before, const char *name)
{
    const uint32_t place = kln_names_get(&pass->places, before);
    if (place == KLN_NAMES_NONE) {
        return KILN_OK;
    }
    pass->kept[place] = name;
    return kln_names_set(&pass->places, name, place);
}

/* Folds the node into the convolution before it, if nothing else reads the tensor between them. */
static kiln_status fold(fold_pass *pass, size_t index, bool *folded)
{
    const kln_onnx_node *node = &pass->graph.nodes[index];
    for (size_t input = 0; input < node->input_count && input < 2 && node->output_count == 1;
         input++) {
        const uint32_t maker = kln_names_get(&pass->makers, node->inputs[input]);
        const kln_value *between = kln_inference_find(pass->inference->graph, node->inputs[input]);
        fold_conv *conv = maker != KLN_NAMES_NONE ? &pass->convs[maker] : NULL;
        if (conv == NULL || between == NULL || between->consumers != 1 ||
            !read_affine(pass, node, input, conv->outs, conv->before->rank)) {
            continue;
        }
        KLN_RETURN_IF_ERROR(own_weights(pass, maker));
        for (size_t i = 0; i < conv->count; i++) {
            conv->weights[i] *= pass->factors[i / conv->stride % conv->outs];
        }
        for (size_t o = 0; o < conv->outs; o++) {
            conv->bias[o] = conv->bias[o] * pass->factors[o] + pass->terms[o];
        }
        const char **outputs = kln_arena_alloc_zeroed(pass->arena, 1, sizeof *outputs);
        KLN_FAIL_IF(outputs == NULL, no_memory());
        outputs[0] = node->outputs[0];
        KLN_RETURN_IF_ERROR(keep_as(pass, node->inputs[input], outputs[0]));
        KLN_RETURN_IF_ERROR(keep_as(pass, node->name, outputs[0]));
        pass->graph.nodes[maker].outputs = outputs;
        *folded = true;
        KLN_RETURN_IF_ERROR(kln_names_set(&pass->makers, outputs[0], maker));
        return tell(pass, node);
    }
    return KILN_OK;
}

static kiln_status store(fold_pass *pass, size_t index)
{
    const fold_conv *conv = &pass->convs[index];
    kln_onnx_node *node = &pass->graph.nodes[index];
    const char **names = kln_arena_alloc_zeroed(pass->arena, 3, sizeof *names);
    int64_t *dims = kln_arena_alloc_zeroed(pass->arena, 1, sizeof *dims);
    KLN_FAIL_IF(names == NULL || dims == NULL, no_memory());
    dims[0] = (int64_t)conv->outs;
    names[0] = node->inputs[0];
    names[1] = kln_arena_printf(pass->arena, "%s/folded_weights", node->outputs[0]);
    names[2] = kln_arena_printf(pass->arena, "%s/folded_bias", node->outputs[0]);
    KLN_FAIL_IF(names[1] == NULL || names[2] == NULL, no_memory());
    kln_onnx_tensor made = *conv->before;
    made.name = names[1];
    made.data.data = conv->weights;
    KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(pass->arena, &pass->graph, &made));
    made.name = names[2];
    made.rank = 1;
    made.dims = dims;
    made.data = (kiln_span){conv->bias, conv->outs * sizeof *conv->bias};
    KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(pass->arena, &pass->graph, &made));
    node->inputs = names;
    node->input_count = 3;
    return KILN_OK;
}

static kiln_status fold_all(fold_pass *pass)
{
    const size_t count = pass->graph.node_count;
    const uint32_t *order = pass->inference->graph->order;
    kln_onnx_node *nodes = kln_arena_alloc_zeroed(pass->arena, count + 1, sizeof *nodes);
    bool *folded = kln_arena_alloc_zeroed(&pass->inference->arena, count + 1, sizeof *folded);
    pass->convs = kln_arena_alloc_zeroed(&pass->inference->arena, count + 1, sizeof *pass->convs);
    size_t most = 0;
    size_t kept = 0;
    KLN_FAIL_IF(nodes == NULL || folded == NULL || pass->convs == NULL, no_memory());
    for (size_t i = 0; i < count; i++) {
        nodes[i] = pass->graph.nodes[order != NULL ? order[i] : i];
    }
    pass->graph.nodes = nodes;
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(look_at_conv(pass, i));
        most = pass->convs[i].outs > most ? pass->convs[i].outs : most;
    }
    pass->factors = kln_arena_alloc_zeroed(&pass->inference->arena, most + 1, sizeof(float));
    pass->terms = kln_arena_alloc_zeroed(&pass->inference->arena, most + 1, sizeof(float));
    KLN_FAIL_IF(pass->factors == NULL || pass->terms == NULL, no_memory());
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(fold(pass, i, &folded[i]));
    }
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(pass->convs[i].is_changed ? store(pass, i) : KILN_OK);
    }
    for (size_t i = 0; i < count; i++) {
        if (!folded[i]) {
            nodes[kept++] = nodes[i];
        }
    }
    pass->graph.node_count = pass->graph.node_capacity = kept;
    return KILN_OK;
}

static void finish(fold_pass *pass)
{
    kln_names_finish(&pass->places);
    kln_names_finish(&pass->makers);
    kln_inference_destroy(pass->inference);
}

kiln_status quantize_fold(kln_onnx_model *model, kiln_precision_options *options,
                          kiln_precision_report *report)
{
    KLN_SCOPED(finish)
    fold_pass pass = {.model = model, .arena = &model->arena, .report = report};
    KLN_ARENA_NEW(pass.arena, pass.kept, options->keep_node_count + 1, "a folded network");
    for (size_t i = 0; i < options->keep_node_count; i++) {
        pass.kept[i] = options->keep_nodes[i];
        KLN_RETURN_IF_ERROR(kln_names_set(&pass.places, pass.kept[i], (uint32_t)i));
    }
    KLN_RETURN_IF_ERROR(quantize_hoist_constants(model));
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &pass.inference));
    pass.graph = model->graph;
    KLN_RETURN_IF_ERROR(fold_all(&pass));
    model->graph = pass.graph;
    options->keep_nodes = pass.kept;
    return quantize_sort_kept(pass.arena, &options->keep_nodes, options->keep_node_count);
}
