/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "graph/kln_graph.h"
#include "ort_rewrite.h"

/* From this opset on, Softmax works along one axis rather than over all that follow. */
#define FIRST_OPSET 13

#define MOST_NODES 24
#define MOST_SCALES 4
#define MOST_HEADS ((int64_t)1 << 20) /* also the limit for the size of a head */

/* One attention, with the heads merged afterwards:
 *   softmax(scale * heads(query) * heads(key)^T + mask) * heads(value)
 */
typedef struct attention {
    const char *parts[3]; /* query, key, value: [batch, length, heads * size] */
    const char *mask;     /* [batch or 1, heads or 1, queries or 1, keys], or NULL */
    bool has_one_row;     /* the mask has one row for all queries */
    int64_t heads, size;
    double scale;
    size_t nodes[MOST_NODES]; /* the nodes that it replaces */
    size_t node_count;
    size_t last; /* the index of the node that computes `output` */
    const char *output;
    /* If query, key and value are parts of one product, that product. */
    const kln_onnx_node *product; /* or NULL */
    const kln_onnx_tensor *matrix;
    const char *bias; /* "" if there is none */
} attention;

typedef struct fuser {
    kln_graph_edit *edit;
    kln_inference *inference;
    kln_names expanded; /* masks that have been expanded to all rows */
} fuser;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "an attention in one operator");
}

static kln_value *value_of(const fuser *f, const char *name)
{
    return kln_inference_find(f->inference->graph, name);
}

static bool is_number(kln_dim dim, int64_t wanted)
{
    return dim.kind == KLN_DIM_NUMBER && dim.of.number == wanted;
}

/* --- finding one --- */

static bool keep(attention *a, size_t index)
{
    if (a->node_count == MOST_NODES) {
        return false;
    }
    a->nodes[a->node_count++] = index;
    return true;
}

static bool has_counts(const kln_onnx_node *node, size_t inputs)
{
    return node->input_count == inputs && node->output_count == 1;
}

/* The node that computes `name`, with this number of inputs; nothing else may read `name`. */
static const kln_onnx_node *take(const fuser *f, attention *a, const char *name, const char *op,
                                 size_t inputs)
{
    size_t index = 0;
    const kln_onnx_node *node = kln_graph_edit_producer(f->edit, name, op, &index);
    return node != NULL && has_counts(node, inputs) && kln_graph_edit_readers(f->edit, name) == 1 &&
                   keep(a, index)
               ? node
               : NULL;
}

/* The only node that reads `name`, as its first of this number of inputs. */
static const kln_onnx_node *follow(const fuser *f, attention *a, const char *name, const char *op,
                                   size_t inputs, size_t *index)
{
    const kln_onnx_node *node = kln_graph_edit_consumer(f->edit, name, op, index);
    return node != NULL && has_counts(node, inputs) && strcmp(node->inputs[0], name) == 0 &&
                   keep(a, *index)
               ? node
               : NULL;
}

/* The element of a constant that has just one. */
static bool scalar_of(const fuser *f, const char *name, double *number)
{
    kln_value *value = value_of(f, name);
    size_t count = 0;
    const kln_dim *contents = value != NULL && value->is_constant
                                  ? kln_value_contents(f->inference, value, &count)
                                  : NULL;
    if (contents == NULL || count != 1 || contents[0].kind != KLN_DIM_REAL) {
        return false;
    }
    *number = contents[0].of.real;
    return true;
}

/* Strips multiplications by constants off `name` and moves their factors into the scale. */
static const char *peel(const fuser *f, attention *a, const char *name)
{
    for (int turn = 0; turn < MOST_SCALES; turn++) {
        size_t index = 0;
        double number = 0;
        const kln_onnx_node *node = kln_graph_edit_producer(f->edit, name, NULL, &index);
        const bool divides = node != NULL && kln_onnx_node_is(node, "Div");
        if (node == NULL || (!divides && !kln_onnx_node_is(node, "Mul")) || !has_counts(node, 2) ||
            kln_graph_edit_readers(f->edit, name) != 1) {
            break;
        }
        const size_t side = scalar_of(f, node->inputs[1], &number)               ? 1
                            : !divides && scalar_of(f, node->inputs[0], &number) ? 0
                                                                                 : 2;
        if (side == 2 || number == 0 || !keep(a, index)) {
            break;
        }
        a->scale = divides ? a->scale / number : a->scale * number;
        name = node->inputs[1 - side];
    }
    return name;
}

static bool has_order(const kln_onnx_node *node, const int64_t order[4])
{
    const kln_onnx_attribute *attribute = kln_onnx_find_attribute(node, "perm");
    return attribute != NULL && attribute->type == KLN_ONNX_ATTRIBUTE_INTS &&
           attribute->count == 4 && memcmp(attribute->ints, order, 4 * sizeof *order) == 0;
}

static const int64_t heads_first[] = {0, 2, 1, 3};
static const int64_t keys_last[] = {0, 2, 3, 1};
static const int64_t last_swapped[] = {0, 1, 3, 2};

/* Whether `by_heads` is `whole`, [batch, length, heads * size], split by heads. The first match
 * sets heads and size for the others. */
static bool is_split_by_heads(const fuser *f, attention *a, const char *whole, const char *by_heads)
{
    const kln_value *from = value_of(f, whole);
    const kln_value *to = value_of(f, by_heads);
    if (from == NULL || to == NULL || !from->has_shape || !to->has_shape || from->rank != 3 ||
        to->rank != 4 || to->dims[2].kind != KLN_DIM_NUMBER || to->dims[3].kind != KLN_DIM_NUMBER ||
        (from->dtype != KILN_DTYPE_FLOAT32 && from->dtype != KILN_DTYPE_FLOAT16)) {
        return false;
    }
    if (a->heads == 0) {
        a->heads = to->dims[2].of.number;
        a->size = to->dims[3].of.number;
    }
    return a->heads > 0 && a->heads <= MOST_HEADS && a->size > 0 && a->size <= MOST_HEADS &&
           kln_dim_equal(from->dims[0], to->dims[0]) && kln_dim_equal(from->dims[1], to->dims[1]) &&
           is_number(to->dims[2], a->heads) && is_number(to->dims[3], a->size) &&
           is_number(from->dims[2], a->heads * a->size);
}

/* Finds part `which`; `name` is that part by heads. */
static bool find_part(const fuser *f, attention *a, size_t which, const char *name)
{
    const kln_onnx_node *transpose = take(f, a, name, "Transpose", 1);
    const int64_t *order = which == 1 ? keys_last : heads_first;
    if (transpose != NULL && which == 1 && has_order(transpose, last_swapped)) {
        transpose = take(f, a, transpose->inputs[0], "Transpose", 1);
        order = heads_first;
    }
    if (transpose == NULL || !has_order(transpose, order)) {
        return false;
    }
    const kln_onnx_node *reshape = take(f, a, transpose->inputs[0], "Reshape", 2);
    if (reshape == NULL || !is_split_by_heads(f, a, reshape->inputs[0], reshape->outputs[0])) {
        return false;
    }
    a->parts[which] = reshape->inputs[0];
    return true;
}

/* Finds query and key, whose scaled scores are `name`. */
static bool find_scores(const fuser *f, attention *a, const char *name)
{
    const kln_onnx_node *product = take(f, a, peel(f, a, name), "MatMul", 2);
    return product != NULL && find_part(f, a, 0, peel(f, a, product->inputs[0])) &&
           find_part(f, a, 1, peel(f, a, product->inputs[1]));
}

/* Whether the operator accepts the mask, which is added to [batch, heads, length, keys]. */
static bool check_mask(const fuser *f, attention *a, const char *name)
{
    const kln_value *mask = value_of(f, name);
    const kln_value *query = value_of(f, a->parts[0]);
    const kln_value *key = value_of(f, a->parts[1]);
    if (mask == NULL || !mask->has_shape || mask->rank != 4 || mask->dtype != query->dtype ||
        !kln_dim_equal(mask->dims[3], key->dims[1]) ||
        !(is_number(mask->dims[0], 1) || kln_dim_equal(mask->dims[0], query->dims[0])) ||
        !(is_number(mask->dims[1], 1) || is_number(mask->dims[1], a->heads))) {
        return false;
    }
    a->mask = name;
    a->has_one_row = !kln_dim_equal(mask->dims[2], query->dims[1]);
    return !a->has_one_row ||
           (is_number(mask->dims[2], 1) && query->dims[1].kind == KLN_DIM_NUMBER);
}

/* Finds everything before the softmax, which reads `name`. */
static bool find_before(const fuser *f, attention *a, const char *name)
{
    const attention before = *a;
    const kln_onnx_node *add = take(f, a, name, "Add", 2);
    if (add == NULL) {
        return find_scores(f, a, name);
    }
    const attention with_add = *a;
    for (size_t side = 0; side < 2; side++) {
        *a = with_add;
        if (find_scores(f, a, add->inputs[side]) && check_mask(f, a, add->inputs[1 - side])) {
            return true;
        }
    }
    *a = before;
    return false;
}

/* Finds everything after the softmax. */
static bool find_after(const fuser *f, attention *a, const char *shares)
{
    size_t index = 0;
    const kln_onnx_node *product = follow(f, a, shares, "MatMul", 2, &index);
    if (product == NULL || !find_part(f, a, 2, product->inputs[1])) {
        return false;
    }
    const kln_onnx_node *transpose = follow(f, a, product->outputs[0], "Transpose", 1, &index);
    if (transpose == NULL || !has_order(transpose, heads_first)) {
        return false;
    }
    const kln_onnx_node *reshape = follow(f, a, transpose->outputs[0], "Reshape", 2, &index);
    if (reshape == NULL) {
        return false;
    }
    const kln_value *output = value_of(f, reshape->outputs[0]);
    const kln_value *query = value_of(f, a->parts[0]);
    a->last = index;
    a->output = reshape->outputs[0];
    return output != NULL && output->has_shape && output->rank == 3 &&
           kln_dim_equal(output->dims[0], query->dims[0]) &&
           kln_dim_equal(output->dims[1], query->dims[1]) &&
           is_number(output->dims[2], a->heads * a->size);
}

static bool find_attention(const fuser *f, size_t index, attention *a)
{
    const kln_onnx_node *softmax = &f->edit->graph->nodes[index];
    const kln_onnx_attribute *axis = kln_onnx_find_attribute(softmax, "axis");
    *a = (attention){.scale = 1, .bias = ""};
    return has_counts(softmax, 1) && (axis == NULL || axis->i == -1 || axis->i == 3) &&
           keep(a, index) && find_before(f, a, softmax->inputs[0]) &&
           find_after(f, a, softmax->outputs[0]) && a->scale > 0 && isfinite((float)a->scale);
}

/* --- query, key and value from one product --- */

/* The Split whose three outputs are query, key and value and have no other reader. */
static const kln_onnx_node *find_split(const fuser *f, const attention *a, size_t *index)
{
    const kln_onnx_node *split = kln_graph_edit_producer(f->edit, a->parts[0], "Split", index);
    if (split == NULL || split->output_count != 3 || split->input_count == 0) {
        return NULL;
    }
    const kln_onnx_attribute *axis = kln_onnx_find_attribute(split, "axis");
    bool fits = axis != NULL && (axis->i == -1 || axis->i == 2);
    for (size_t i = 0; i < 3; i++) {
        fits = fits && strcmp(split->outputs[i], a->parts[i]) == 0 &&
               kln_graph_edit_readers(f->edit, a->parts[i]) == 1;
    }
    return fits ? split : NULL;
}

static void find_product(const fuser *f, attention *a)
{
    size_t split_index = 0;
    size_t add_index = 0;
    size_t index = 0;
    const int64_t columns = 3 * a->heads * a->size;
    const kln_onnx_node *split = find_split(f, a, &split_index);
    if (split == NULL || kln_graph_edit_readers(f->edit, split->inputs[0]) != 1 ||
        a->node_count + 3 > MOST_NODES) {
        return;
    }
    const char *whole = split->inputs[0];
    const kln_onnx_tensor *bias = NULL;
    const kln_onnx_node *add = kln_graph_edit_producer(f->edit, whole, "Add", &add_index);
    for (size_t side = 0; add != NULL && has_counts(add, 2) && side < 2 && bias == NULL; side++) {
        bias = kln_graph_edit_constant(f->edit, add->inputs[side], 1);
        whole = add->inputs[1 - side];
    }
    const kln_onnx_node *product = kln_graph_edit_producer(f->edit, whole, "MatMul", &index);
    const kln_onnx_tensor *matrix =
        product != NULL && has_counts(product, 2) && kln_graph_edit_readers(f->edit, whole) == 1
            ? kln_graph_edit_constant(f->edit, product->inputs[1], 2)
            : NULL;
    if (matrix == NULL || matrix->dims[1] != columns || (add != NULL && bias == NULL) ||
        (bias != NULL && (bias->dims[0] != columns || bias->dtype != matrix->dtype))) {
        return;
    }
    a->product = product;
    a->matrix = matrix;
    a->nodes[a->node_count++] = split_index;
    a->nodes[a->node_count++] = index;
    if (bias != NULL) {
        a->bias = bias->name;
        a->nodes[a->node_count++] = add_index;
    }
}

/* --- replacing it --- */

/* Packs the columns of the weights by head: query, key and value side by side. */
static kln_onnx_tensor *add_packed(const fuser *f, const attention *a)
{
    const kln_onnx_tensor *matrix = a->matrix;
    kln_onnx_tensor *made = kln_graph_edit_add_weights(f->edit, a->output, "packed_matrix",
                                                       matrix->dtype, 2, matrix->dims);
    const size_t run = (size_t)a->size * kiln_dtype_bits(matrix->dtype) / 8;
    const size_t heads = (size_t)a->heads;
    const unsigned char *source = matrix->data.data;
    for (size_t row = 0; made != NULL && row < (size_t)matrix->dims[0]; row++) {
        unsigned char *to = (unsigned char *)(uintptr_t)made->data.data + row * 3 * heads * run;
        for (size_t i = 0; i < 3 * heads; i++) {
            memcpy(to + i * run, source + ((row * 3 + i % 3) * heads + i / 3) * run, run);
        }
    }
    return made;
}

static kln_onnx_tensor *add_numbers(const fuser *f, const char *stem, const char *what,
                                    const int64_t *numbers, size_t count)
{
    const int64_t dims[] = {(int64_t)count};
    kln_onnx_tensor *made =
        kln_graph_edit_add_weights(f->edit, stem, what, KILN_DTYPE_INT64, 1, dims);
    if (made != NULL) {
        memcpy((void *)(uintptr_t)made->data.data, numbers, count * sizeof *numbers);
    }
    return made;
}

static const char *add_binary(const fuser *f, const attention *a, const char *op, const char *left,
                              const char *right, const char *stem, const char *what)
{
    const char *const inputs[] = {left, right};
    const char *const output = kln_arena_printf(&f->edit->model->arena, "%s/%s", stem, what);
    return output != NULL &&
                   kln_graph_edit_add_node(f->edit, a->last, "", op, inputs, 2, &output, 1) != NULL
               ? output
               : NULL;
}

/* The product as [batch, length, heads, 3, size]. */
static const char *add_packed_product(const fuser *f, const attention *a)
{
    const int64_t shape[] = {0, 0, a->heads, 3, a->size};
    const kln_onnx_tensor *matrix = add_packed(f, a);
    const kln_onnx_tensor *dims = add_numbers(f, a->output, "packed_shape", shape, 5);
    if (matrix == NULL || dims == NULL) {
        return NULL;
    }
    const char *whole = add_binary(f, a, "MatMul", a->product->inputs[0], matrix->name, a->output,
                                   "packed_product");
    return whole != NULL ? add_binary(f, a, "Reshape", whole, dims->name, a->output, "packed_parts")
                         : NULL;
}

/* The operator broadcasts a mask over batch and heads, but not over queries. So it is expanded
 * here, once for all its readers. */
static kiln_status expand_mask(fuser *f, attention *a)
{
    const kln_value *query = value_of(f, a->parts[0]);
    if (!a->has_one_row) {
        return KILN_OK;
    }
    const char *expanded = kln_arena_printf(&f->edit->model->arena, "%s/all_rows", a->mask);
    KLN_FAIL_IF(expanded == NULL, no_memory());
    if (kln_names_get(&f->expanded, expanded) == KLN_NAMES_NONE) {
        const int64_t shape[] = {1, 1, query->dims[1].of.number, 1};
        const kln_onnx_tensor *dims = add_numbers(f, a->mask, "all_rows_shape", shape, 4);
        KLN_FAIL_IF(dims == NULL || add_binary(f, a, "Expand", a->mask, dims->name, a->mask,
                                               "all_rows") == NULL,
                    no_memory());
        KLN_RETURN_IF_ERROR(kln_names_set(&f->expanded, expanded, 1));
    }
    a->mask = expanded;
    return KILN_OK;
}

static kiln_status fuse(fuser *f, attention *a)
{
    KLN_RETURN_IF_ERROR(expand_mask(f, a));
    const char *inputs[] = {a->parts[0], a->parts[1], a->parts[2],
                            a->bias,     "",          a->mask != NULL ? a->mask : ""};
    if (a->product != NULL) {
        inputs[0] = add_packed_product(f, a);
        inputs[1] = "";
        inputs[2] = "";
    }
    kln_onnx_node *made =
        inputs[0] != NULL
            ? kln_graph_edit_add_node(f->edit, a->last, ORT_DOMAIN, "MultiHeadAttention", inputs,
                                      KLN_ARRAY_LENGTH(inputs), &a->output, 1)
            : NULL;
    KLN_FAIL_IF(made == NULL, no_memory());
    kln_graph_edit_set_int(made, "num_heads", a->heads);
    kln_graph_edit_set_float(made, "scale", (float)a->scale);
    for (size_t i = 0; i < a->node_count; i++) {
        kln_graph_edit_drop(f->edit, a->nodes[i]);
    }
    return KILN_OK;
}

kiln_status ort_fuse_attention(kln_graph_edit *edit, kln_inference *inference, size_t *count)
{
    fuser f = {.edit = edit, .inference = inference};
    kiln_status status = KILN_OK;
    attention found;
    if (kln_onnx_opset_version(edit->model, "") < FIRST_OPSET) {
        return KILN_OK;
    }
    for (size_t i = 0; status == KILN_OK && i < edit->graph->node_count; i++) {
        if (kln_onnx_node_is(&edit->graph->nodes[i], "Softmax") && find_attention(&f, i, &found)) {
            find_product(&f, &found);
            status = fuse(&f, &found);
            ++*count;
        }
    }
    kln_names_finish(&f.expanded);
    return status;
}
