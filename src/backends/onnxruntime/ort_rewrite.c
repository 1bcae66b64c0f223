/* SPDX-License-Identifier: Apache-2.0 */
#include "ort_rewrite.h"
#include "graph/kln_graph.h"

/* Tile size of a transposition, so that both sides fit in the L1 cache. */
#define TILE 32

/* From this opset on, Gemm's third input is optional. */
#define FIRST_OPSET 11

static kiln_status no_memory(size_t bytes)
{
    return kln_fail_memory(bytes, "a rewritten product");
}

/* --- products --- */

static void transpose_tile(const kln_onnx_tensor *from, unsigned char *to, size_t row,
                           size_t column, size_t size)
{
    const size_t rows = (size_t)from->dims[0];
    const size_t columns = (size_t)from->dims[1];
    const unsigned char *source = from->data.data;
    for (size_t r = row; r < rows && r < row + TILE; r++) {
        for (size_t c = column; c < columns && c < column + TILE; c++) {
            memcpy(to + (c * rows + r) * size, source + (r * columns + c) * size, size);
        }
    }
}

/* Adds the transposed matrix; NULL if memory runs out. */
static const kln_onnx_tensor *add_transposed(kln_graph_edit *edit, const char *stem,
                                             const kln_onnx_tensor *matrix)
{
    const int64_t dims[] = {matrix->dims[1], matrix->dims[0]};
    const size_t size = kiln_dtype_bits(matrix->dtype) / 8;
    kln_onnx_tensor *made =
        kln_graph_edit_add_weights(edit, stem, "transposed_matrix", matrix->dtype, 2, dims);
    for (size_t r = 0; made != NULL && r < (size_t)matrix->dims[0]; r += TILE) {
        for (size_t c = 0; c < (size_t)matrix->dims[1]; c += TILE) {
            transpose_tile(matrix, (unsigned char *)(uintptr_t)made->data.data, r, c, size);
        }
    }
    return made;
}

static bool has_int(const kln_onnx_node *node, const char *name, int64_t wanted)
{
    const kln_onnx_attribute *attribute = kln_onnx_find_attribute(node, name);
    return attribute == NULL ? wanted == 0 : attribute->i == wanted;
}

/* The constant right-hand matrix of a product, or NULL. */
static const kln_onnx_tensor *matrix_of(const kln_graph_edit *edit, const kln_onnx_node *node)
{
    const bool fits =
        (kln_onnx_node_is(node, "MatMul") && node->input_count == 2) ||
        (kln_onnx_node_is(node, "Gemm") && node->input_count >= 2 && has_int(node, "transB", 0) &&
         node->attribute_count < KLN_GRAPH_EDIT_ATTRIBUTES);
    const kln_onnx_tensor *matrix =
        fits && node->output_count == 1 ? kln_graph_edit_constant(edit, node->inputs[1], 2) : NULL;
    return matrix != NULL && kln_graph_edit_readers(edit, matrix->name) == 1 &&
                   (matrix->dtype == KILN_DTYPE_FLOAT32 || matrix->dtype == KILN_DTYPE_FLOAT16)
               ? matrix
               : NULL;
}

static kiln_status transpose_product(kln_graph_edit *edit, size_t index,
                                     const kln_onnx_tensor *matrix)
{
    const kln_onnx_node *node = &edit->graph->nodes[index];
    const bool is_gemm = kln_onnx_node_is(node, "Gemm");
    const kln_onnx_tensor *transposed = add_transposed(edit, node->outputs[0], matrix);
    KLN_FAIL_IF(transposed == NULL, no_memory(matrix->data.size));
    const char *inputs[3] = {node->inputs[0], transposed->name,
                             node->input_count > 2 ? node->inputs[2] : ""};
    kln_onnx_node *made = kln_graph_edit_add_node(edit, index, is_gemm ? "" : ORT_DOMAIN,
                                                  is_gemm ? "Gemm" : "FusedMatMul", inputs,
                                                  node->input_count, node->outputs, 1);
    KLN_FAIL_IF(made == NULL, no_memory(sizeof *made));
    for (size_t i = 0; is_gemm && i < node->attribute_count; i++) {
        if (strcmp(node->attributes[i].name, "transB") != 0) {
            made->attributes[made->attribute_count++] = node->attributes[i];
        }
    }
    kln_graph_edit_set_int(made, "transB", 1);
    kln_graph_edit_drop(edit, index);
    return KILN_OK;
}

/* Tensor cores of newer GPUs read both factors along the sum: weights that are not transposed use
 * slower kernels, especially in TF32. */
static kiln_status transpose_products(kln_graph_edit *edit, size_t *count)
{
    for (size_t i = 0; i < edit->graph->node_count; i++) {
        const kln_onnx_tensor *matrix = matrix_of(edit, &edit->graph->nodes[i]);
        if (matrix != NULL) {
            KLN_RETURN_IF_ERROR(transpose_product(edit, i, matrix));
            ++*count;
        }
    }
    return KILN_OK;
}

/* --- attention --- */

/* Dimensions that the profile fixes are numbers; the others stay dynamic. */
static kiln_status infer(const kln_onnx_model *model, const kiln_profile *profile,
                         kln_inference **inference)
{
    const size_t most = profile != NULL ? profile->input_count : 0;
    size_t count = 0;
    KLN_SCOPED_FREE kln_input_shape *shapes = kln_alloc_zeroed(most + 1, sizeof *shapes);
    KLN_FAIL_IF(shapes == NULL, no_memory(most * sizeof *shapes));
    for (size_t i = 0; i < most; i++) {
        const kiln_profile_input *input = &profile->inputs[i];
        if (input->value_count != 0) {
            continue;
        }
        shapes[count] = (kln_input_shape){.name = input->name, .shape = input->max};
        for (int32_t k = 0; k < input->max.rank; k++) {
            if (input->min.dims[k] != input->max.dims[k]) {
                shapes[count].shape.dims[k] = KILN_DYNAMIC;
            }
        }
        count++;
    }
    const kln_infer_options options = {.inputs = shapes, .input_count = count};
    return kln_infer(model, &options, inference);
}

static kiln_status fuse_attention(kln_graph_edit *edit, const kiln_profile *profile, size_t *count)
{
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    KLN_RETURN_IF_ERROR(infer(edit->model, profile, &inference));
    return ort_fuse_attention(edit, inference, count);
}

kiln_status ort_rewrite(kln_onnx_model *model, ort_rewrite_kind kind, const kiln_profile *profile,
                        size_t *count)
{
    kln_graph_edit edit;
    size_t found = 0;
    *count = 0;
    if (kln_onnx_opset_version(model, "") < FIRST_OPSET || !kln_graph_edit_suits(model)) {
        return KILN_OK;
    }
    kiln_status status = kln_graph_edit_begin(model, &edit);
    if (status == KILN_OK) {
        kln_graph_edit_import(&edit, ORT_DOMAIN, 1);
        status = kind == ORT_REWRITE_ATTENTION ? fuse_attention(&edit, profile, &found)
                                               : transpose_products(&edit, &found);
    }
    if (status == KILN_OK && found != 0) {
        status = kln_graph_edit_commit(&edit);
    }
    kln_graph_edit_end(&edit);
    *count = status == KILN_OK ? found : 0;
    return status;
}
