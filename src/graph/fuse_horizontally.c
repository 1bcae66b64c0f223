/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_graph.h"

/* Split takes its sizes as an input from here on. */
#define FIRST_OPSET 13

/* A product of `x` with a matrix of constants, and the bias that is added to it, if any. */
typedef struct product {
    size_t node;
    size_t add; /* where `bias` is given */
    const char *x;
    const char *output;
    const kln_onnx_tensor *matrix;
    const kln_onnx_tensor *bias; /* or NULL */
    bool merged;
} product;

typedef struct merger {
    kln_graph_edit edit;
    product *products;
    size_t count;
    size_t groups;
} merger;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(product), "products in one");
}

/* The bias of a product whose only reader is an Add. */
static void find_bias(const merger *m, product *found)
{
    size_t index = 0;
    const kln_onnx_node *add = kln_graph_edit_consumer(&m->edit, found->output, "Add", &index);
    if (add == NULL || add->input_count != 2 || add->output_count != 1) {
        return;
    }
    const size_t other = strcmp(add->inputs[0], found->output) == 0 ? 1 : 0;
    const kln_onnx_tensor *bias = kln_graph_edit_constant(&m->edit, add->inputs[other], 1);
    if (bias != NULL && bias->dtype == found->matrix->dtype &&
        bias->dims[0] == found->matrix->dims[1]) {
        found->bias = bias;
        found->add = index;
        found->output = add->outputs[0];
    }
}

static void find_products(merger *m)
{
    for (size_t i = 0; i < m->edit.graph->node_count; i++) {
        const kln_onnx_node *node = &m->edit.graph->nodes[i];
        if (!kln_onnx_node_is(node, "MatMul") || node->input_count != 2 ||
            node->output_count != 1) {
            continue;
        }
        const kln_onnx_tensor *matrix = kln_graph_edit_constant(&m->edit, node->inputs[1], 2);
        if (matrix == NULL) {
            continue;
        }
        product *found = &m->products[m->count++];
        *found = (product){
            .node = i, .x = node->inputs[0], .output = node->outputs[0], .matrix = matrix};
        find_bias(m, found);
    }
}

static bool go_together(const product *a, const product *b)
{
    return !b->merged && strcmp(a->x, b->x) == 0 && a->matrix->dtype == b->matrix->dtype &&
           a->matrix->dims[0] == b->matrix->dims[0] && (a->bias == NULL) == (b->bias == NULL);
}

/* --- the new weights and nodes --- */

/* Joins the matrices side by side, row by row. A bias has one row. */
static void copy_columns(const kln_onnx_tensor *from, size_t rows, size_t width, size_t *column,
                         const kln_onnx_tensor *to)
{
    unsigned char *target = (unsigned char *)(uintptr_t)to->data.data;
    const unsigned char *source = from->data.data;
    const size_t own = from->data.size / rows;
    for (size_t r = 0; r < rows; r++) {
        memcpy(target + r * width + *column, source + r * own, own);
    }
    *column += own;
}

/* The matrix, the bias (or NULL) and the sizes of the parts. */
static kiln_status add_weights(merger *m, product *const *group, size_t count,
                               const kln_onnx_tensor *made[3])
{
    const kln_onnx_tensor *first = group[0]->matrix;
    const char *stem = group[0]->output;
    int64_t dims[2] = {first->dims[0], 0};
    const int64_t parts = (int64_t)count;
    for (size_t i = 0; i < count; i++) {
        dims[1] += group[i]->matrix->dims[1];
    }
    made[0] = kln_graph_edit_add_weights(&m->edit, stem, "merged_matrix", first->dtype, 2, dims);
    made[1] = group[0]->bias != NULL ? kln_graph_edit_add_weights(&m->edit, stem, "merged_bias",
                                                                  first->dtype, 1, &dims[1])
                                     : NULL;
    made[2] =
        kln_graph_edit_add_weights(&m->edit, stem, "merged_sizes", KILN_DTYPE_INT64, 1, &parts);
    if (made[0] == NULL || made[2] == NULL || (made[1] == NULL && group[0]->bias != NULL)) {
        return no_memory();
    }
    const size_t rows = (size_t)first->dims[0];
    const size_t width = made[0]->data.size / rows;
    size_t matrix_column = 0;
    size_t bias_column = 0;
    int64_t *sizes = (int64_t *)(uintptr_t)made[2]->data.data;
    for (size_t i = 0; i < count; i++) {
        sizes[i] = group[i]->matrix->dims[1];
        copy_columns(group[i]->matrix, rows, width, &matrix_column, made[0]);
        if (made[1] != NULL) {
            copy_columns(group[i]->bias, 1, width, &bias_column, made[1]);
        }
    }
    return KILN_OK;
}

/* A node with two inputs and an output of its own name, which it gives; or NULL. */
static const char *add_binary(merger *m, const product *first, const char *op, const char *a,
                              const char *b)
{
    const char *const inputs[] = {a, b};
    const char *const output =
        kln_arena_printf(&m->edit.model->arena, "%s/merged_%s", first->output, op);
    return output != NULL && kln_graph_edit_add_node(&m->edit, first->node, "", op, inputs, 2,
                                                     &output, 1) != NULL
               ? output
               : NULL;
}

static kiln_status add_split(merger *m, product *const *group, size_t count, const char *whole,
                             const char *sizes)
{
    const char *const inputs[] = {whole, sizes};
    const char **outputs = kln_alloc_zeroed(count, sizeof *outputs);
    KLN_FAIL_IF(outputs == NULL, no_memory());
    for (size_t i = 0; i < count; i++) {
        outputs[i] = group[i]->output;
    }
    kln_onnx_node *split =
        kln_graph_edit_add_node(&m->edit, group[0]->node, "", "Split", inputs, 2, outputs, count);
    kln_free(outputs);
    KLN_FAIL_IF(split == NULL, no_memory());
    kln_graph_edit_set_int(split, "axis", -1);
    return KILN_OK;
}

static kiln_status merge_group(merger *m, product *const *group, size_t count)
{
    const kln_onnx_tensor *made[3];
    for (size_t i = 0; i < count; i++) {
        group[i]->merged = true;
        kln_graph_edit_drop(&m->edit, group[i]->node);
        if (group[i]->bias != NULL) {
            kln_graph_edit_drop(&m->edit, group[i]->add);
        }
    }
    KLN_RETURN_IF_ERROR(add_weights(m, group, count, made));
    const char *last = add_binary(m, group[0], "MatMul", group[0]->x, made[0]->name);
    if (last != NULL && made[1] != NULL) {
        last = add_binary(m, group[0], "Add", last, made[1]->name);
    }
    KLN_FAIL_IF(last == NULL, no_memory());
    m->groups++;
    return add_split(m, group, count, last, made[2]->name);
}

/* Groups each product with later ones that read the same tensor. */
static kiln_status merge_all(merger *m, product **group)
{
    for (size_t first = 0; first < m->count; first++) {
        size_t count = 0;
        for (size_t i = first; !m->products[first].merged && i < m->count; i++) {
            if (go_together(&m->products[first], &m->products[i])) {
                group[count++] = &m->products[i];
            }
        }
        if (count > 1) {
            KLN_RETURN_IF_ERROR(merge_group(m, group, count));
        }
    }
    return m->groups != 0 ? kln_graph_edit_commit(&m->edit) : KILN_OK;
}

static kiln_status merge(merger *m, kln_onnx_model *model)
{
    KLN_RETURN_IF_ERROR(kln_graph_edit_begin(model, &m->edit));
    m->products = kln_alloc_zeroed(model->graph.node_count, sizeof *m->products);
    KLN_SCOPED_FREE product **group = kln_alloc_zeroed(model->graph.node_count, sizeof(product *));
    KLN_RETURN_IF_ERROR(m->products != NULL && group != NULL ? KILN_OK : no_memory());
    find_products(m);
    return merge_all(m, group);
}

kiln_status kln_fuse_horizontally(kln_onnx_model *model, size_t *merged)
{
    merger m = {.count = 0};
    *merged = 0;
    if (kln_onnx_opset_version(model, "") < FIRST_OPSET || !kln_graph_edit_suits(model)) {
        return KILN_OK;
    }
    const kiln_status status = merge(&m, model);
    *merged = status == KILN_OK ? m.groups : 0;
    kln_free(m.products);
    kln_graph_edit_end(&m.edit);
    return status;
}
