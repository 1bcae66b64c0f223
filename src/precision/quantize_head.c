/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns a classifier's last product, after a pool that leaves one pixel, into a convolution of that
 * pixel. TensorRT puts the pool and a matrix product into two parts of the plan that exchange
 * floats; the pool and a convolution exchange bytes.
 */
#include "quantize_parts.h"

/* A product to rewrite. */
typedef struct head {
    const kln_onnx_node *product;
    size_t index;
    const char *pixel;              /* [n, ins, 1, 1] */
    const kln_onnx_tensor *weights; /* [ins, outs], or transposed */
    bool turned;
    int64_t ins, outs;
    size_t moves[4]; /* nodes in between, the last one first */
    size_t move_count;
} head;

static bool is_one(const kln_onnx_node *node, const char *name)
{
    const kln_onnx_attribute *attribute = kln_onnx_find_attribute(node, name);
    return attribute == NULL || attribute->f == 1.0F;
}

static bool is_number(const kln_dim *dim, int64_t number)
{
    return dim->kind == KLN_DIM_NUMBER && dim->of.number == number;
}

/* Whether the product's input is a global average pool's output, through reshapes only. */
static bool find_pixel(const kln_graph_edit *edit, const kln_graph_inference *known, head *of)
{
    const char *name = of->product->inputs[0];
    for (;;) {
        size_t index = 0;
        const kln_onnx_node *node = kln_graph_edit_producer(edit, name, NULL, &index);
        const kln_value *value = kln_inference_find(known, name);
        if (node == NULL || value == NULL || !value->has_shape ||
            kln_graph_edit_readers(edit, name) != 1) {
            return false;
        }
        if (kln_onnx_node_is(node, "GlobalAveragePool")) {
            of->pixel = name;
            return value->rank == 4 && is_number(&value->dims[1], of->ins);
        }
        if (!quantize_is_move(node) || kln_onnx_node_is(node, "Transpose") ||
            of->move_count == KLN_ARRAY_LENGTH(of->moves)) {
            return false;
        }
        of->moves[of->move_count++] = index;
        name = node->inputs[0];
    }
}

static bool find_head(const kln_graph_edit *edit, const kln_graph_inference *known, size_t index,
                      head *found)
{
    const kln_onnx_node *node = &edit->graph->nodes[index];
    const kln_onnx_attribute *turned = kln_onnx_find_attribute(node, "transB");
    const kln_onnx_attribute *first = kln_onnx_find_attribute(node, "transA");
    const kln_value *result =
        node->output_count == 1 ? kln_inference_find(known, node->outputs[0]) : NULL;
    if (!KLN_ONNX_NODE_IS_ANY(node, "Gemm", "MatMul") || !is_one(node, "alpha") ||
        !is_one(node, "beta") || (first != NULL && first->i != 0) || result == NULL ||
        !result->has_shape || result->rank != 2) {
        return false;
    }
    const kln_onnx_tensor *weights = kln_graph_edit_constant(edit, node->inputs[1], 2);
    const bool has_bias = node->input_count > 2 && node->inputs[2][0] != '\0';
    const kln_onnx_tensor *bias =
        has_bias ? kln_graph_edit_constant(edit, node->inputs[2], 1) : NULL;
    if (weights == NULL || weights->dtype != KILN_DTYPE_FLOAT32 || (has_bias && bias == NULL)) {
        return false;
    }
    *found = (head){.product = node,
                    .index = index,
                    .weights = weights,
                    .turned = turned != NULL && turned->i != 0};
    found->outs = weights->dims[!found->turned];
    found->ins = weights->dims[found->turned];
    return find_pixel(edit, known, found) && found->move_count != 0 &&
           (bias == NULL || bias->dims[0] == found->outs);
}

/* The weights as [outs, ins, 1, 1]. */
static const char *add_weights(kln_graph_edit *edit, const head *of)
{
    const int64_t dims[] = {of->outs, of->ins, 1, 1};
    kln_onnx_tensor *made = kln_graph_edit_add_weights(edit, of->product->inputs[1], "pixel",
                                                       KILN_DTYPE_FLOAT32, 4, dims);
    if (made == NULL) {
        return NULL;
    }
    char *to = (char *)(uintptr_t)made->data.data;
    const char *from = of->weights->data.data;
    const size_t outs = (size_t)of->outs;
    const size_t ins = (size_t)of->ins;
    for (size_t o = 0; o < outs; o++) {
        for (size_t i = 0; i < ins; i++) {
            const size_t at = of->turned ? o * ins + i : i * outs + o;
            memcpy(to + (o * ins + i) * sizeof(float), from + at * sizeof(float), sizeof(float));
        }
    }
    return made->name;
}

static bool rewrite(kln_graph_edit *edit, const head *of)
{
    const kln_onnx_node *node = of->product;
    const char *weights = add_weights(edit, of);
    const char *result =
        kln_arena_printf(&edit->model->arena, "%s" QUANTIZE_PIXEL, node->outputs[0]);
    if (weights == NULL || result == NULL) {
        return false;
    }
    const size_t count = node->input_count > 2 && node->inputs[2][0] != '\0' ? 3 : 2;
    const char *const inputs[] = {of->pixel, weights, count == 3 ? node->inputs[2] : ""};
    kln_onnx_node *made =
        kln_graph_edit_add_node(edit, of->index, "", "Conv", inputs, count, &result, 1);
    if (made == NULL) {
        return false;
    }
    made->name = node->name;
    kln_onnx_node *flat =
        kln_graph_edit_add_node(edit, of->index, "", "Flatten", &result, 1, node->outputs, 1);
    if (flat == NULL) {
        return false;
    }
    flat->name = edit->graph->nodes[of->moves[0]].name;
    kln_graph_edit_drop(edit, of->index);
    for (size_t i = 0; i < of->move_count; i++) {
        kln_graph_edit_drop(edit, of->moves[i]);
    }
    return true;
}

static kiln_status rewrite_all(kln_graph_edit *edit, const kiln_precision_options *options)
{
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    bool any = false;
    KLN_RETURN_IF_ERROR(kln_infer(edit->model, NULL, &inference));
    kiln_status status = KILN_OK;
    for (size_t i = 0; status == KILN_OK && i < edit->graph->node_count; i++) {
        head found;
        if (find_head(edit, inference->graph, i, &found) &&
            !quantize_is_kept(options, found.product)) {
            any = true;
            status = rewrite(edit, &found)
                         ? KILN_OK
                         : kln_fail_memory(sizeof(kln_onnx_node), "a convolution of a pixel");
        }
    }
    return status == KILN_OK && any ? kln_graph_edit_commit(edit) : status;
}

kiln_status quantize_head(kln_onnx_model *model, const kiln_precision_options *options)
{
    KLN_SCOPED(kln_graph_edit_end) kln_graph_edit edit = {0};
    if (!kln_graph_edit_suits(model)) {
        return KILN_OK;
    }
    kiln_status status = kln_graph_edit_begin(model, &edit);
    return status == KILN_OK ? rewrite_all(&edit, options) : status;
}
