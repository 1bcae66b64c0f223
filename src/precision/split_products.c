/* SPDX-License-Identifier: Apache-2.0 */
/* Rewrites float32 products as products of numbers that TF32 represents exactly, which tensor cores
 * multiply several times as fast and without error.
 *
 * TF32 keeps 11 of float32's 24 significant bits. A number is split into its upper 11 bits, `high`,
 * and the rest, `low`. Of the four products of the halves of two numbers, low times low is below
 * what float32 rounds away (Ootomo and Yokota, Recovering single precision accuracy from Tensor
 * Cores while surpassing the FP32 theoretical peak performance, 2022,
 * doi:10.1177/10943420221090256). The split is Veltkamp's (Dekker, A floating-point technique for
 * extending the available precision, 1971), with 2^13 x + x instead of (2^13 + 1) x: multiplying by
 * a power of two is exact, so a compiler may fuse it with the addition that follows.
 *
 * Products of many rows are bound by arithmetic. They become three products, computed as one that
 * is three times as long,
 *
 *     [low(a) high(a) high(a)] [high(b); low(b); high(b)].
 *
 * Products of few rows are bound by reading constants, which this form with four products reads
 * once:
 *
 *     [low(a); high(a)] [high(b) low(b)]. */
#include <math.h>

#include "kln_precision.h"

#define SPLITTER 8192.0F

/* From this operator set on, axes and sizes of Unsqueeze and Split are inputs. */
#define STACK_OPSET 13

/* Suffixes of names. */
#define MATRIX "/matrix_halves"
#define OTHER "/other_halves"
#define STEM "split_products"

enum { ZERO, ONE, AXIS };

typedef struct halved {
    const char *name, *high, *low;
    const char *stacked; /* both halves; NULL until needed */
} halved;

typedef struct splitter {
    kln_graph_edit edit;
    bool few_rows;
    const char *factor;     /* the constant SPLITTER, once it is needed, */
    const char *numbers[3]; /* other constants */
    halved *halves;         /* of computed tensors */
    size_t halved_count;
    size_t split;
} splitter;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "products in parts");
}

/* --- constants --- */

static float high_of(float value)
{
    const float scaled = SPLITTER * value;
    const float sum = scaled + value;
    return sum - scaled;
}

/* Data in a file may be unaligned. */
static float constant(const kln_onnx_tensor *matrix, size_t index)
{
    float value;
    memcpy(&value, (const char *)matrix->data.data + index * sizeof value, sizeof value);
    return value;
}

/* Splitting overflows beyond 2^115. */
static bool has_halves(const kln_onnx_tensor *matrix)
{
    bool has = matrix->dtype == KILN_DTYPE_FLOAT32;
    for (size_t i = 0; has && i < matrix->data.size / sizeof(float); i++) {
        has = isfinite(high_of(constant(matrix, i)));
    }
    return has;
}

/* High, low and, for three `parts`, high again, of a matrix: stacked vertically, or horizontally if
 * `beside`. */
static const char *add_matrix(splitter *self, const char *stem, const kln_onnx_tensor *from,
                              size_t parts, bool beside)
{
    const size_t rows = (size_t)from->dims[0];
    const size_t columns = (size_t)from->dims[1];
    const int64_t dims[2] = {from->dims[0] * (beside ? 1 : (int64_t)parts),
                             from->dims[1] * (beside ? (int64_t)parts : 1)};
    const kln_onnx_tensor *made =
        kln_graph_edit_add_weights(&self->edit, stem, &MATRIX[1], KILN_DTYPE_FLOAT32, 2, dims);
    if (made == NULL) {
        return NULL;
    }
    const size_t length = beside ? columns : rows * columns; /* elements that stay contiguous */
    float *target = (float *)(uintptr_t)made->data.data;
    for (size_t i = 0; i < rows * columns; i++) {
        float *to = target + i / length * parts * length + i % length;
        const float value = constant(from, i);
        to[0] = to[(parts - 1) * length] = high_of(value);
        to[length] = value - high_of(value);
    }
    return made->name;
}

/* Integer constants: the scalars 0 and 1, and the axis 0. */
static const char *number(splitter *self, size_t which)
{
    if (self->numbers[which] == NULL) {
        static const char *const names[] = {"zero", "one", "axis"};
        const int64_t one = 1;
        const kln_onnx_tensor *made = kln_graph_edit_add_weights(
            &self->edit, STEM, names[which], KILN_DTYPE_INT64, which == AXIS ? 1 : 0, &one);
        if (made != NULL) {
            *(int64_t *)(uintptr_t)made->data.data = which == ONE;
            self->numbers[which] = made->name;
        }
    }
    return self->numbers[which];
}

/* --- computed tensors --- */

static const char *add(splitter *self, size_t before, const char *stem, const char *what,
                       const char *op, const char *a, const char *b)
{
    const char *const inputs[] = {a, b};
    const char *name = kln_arena_printf(&self->edit.model->arena, "%s/%s", stem, what);
    return name != NULL && a != NULL && b != NULL &&
                   kln_graph_edit_add_node(&self->edit, before, "", op, inputs, 2, &name, 1) != NULL
               ? name
               : NULL;
}

static const char *factor(splitter *self)
{
    if (self->factor == NULL) {
        const kln_onnx_tensor *made =
            kln_graph_edit_add_weights(&self->edit, STEM, "factor", KILN_DTYPE_FLOAT32, 0, NULL);
        if (made != NULL) {
            *(float *)(uintptr_t)made->data.data = SPLITTER;
            self->factor = made->name;
        }
    }
    return self->factor;
}

/* The halves of `name`, added once, before the first node that needs them. */
static halved *halve(splitter *self, size_t before, const char *name)
{
    for (size_t i = 0; i < self->halved_count; i++) {
        if (strcmp(self->halves[i].name, name) == 0) {
            return &self->halves[i];
        }
    }
    halved *made = &self->halves[self->halved_count];
    const char *scaled = add(self, before, name, "scaled", "Mul", name, factor(self));
    const char *sum = add(self, before, name, "sum", "Add", scaled, name);
    made->name = name;
    made->high = add(self, before, name, "high", "Sub", sum, scaled);
    made->low = add(self, before, name, "low", "Sub", name, made->high);
    self->halved_count += made->low != NULL;
    return made->low != NULL ? made : NULL;
}

static const char *add_concat(splitter *self, size_t before, const char *const *inputs,
                              size_t count, const char *output, int64_t axis)
{
    kln_onnx_node *node =
        output != NULL
            ? kln_graph_edit_add_node(&self->edit, before, "", "Concat", inputs, count, &output, 1)
            : NULL;
    if (node == NULL) {
        return NULL;
    }
    kln_graph_edit_set_int(node, "axis", axis);
    return output;
}

/* Concatenates three halves of `name` along `axis`: low, high, high, or high, low, high. */
static const char *join(splitter *self, size_t before, const char *name, const char *stem,
                        int64_t axis)
{
    const halved *of = halve(self, before, name);
    if (of == NULL) {
        return NULL;
    }
    const char *const inputs[] = {axis == -1 ? of->low : of->high, axis == -1 ? of->high : of->low,
                                  of->high};
    return add_concat(
        self, before, inputs, 3,
        kln_arena_printf(&self->edit.model->arena, "%s%s", stem, axis == -1 ? "/halves" : OTHER),
        axis);
}

/* Stacks low and high of `name` along a new first dimension. */
static const char *stack(splitter *self, size_t before, const char *name)
{
    halved *of = halve(self, before, name);
    if (of != NULL && of->stacked == NULL) {
        const char *const inputs[] = {
            add(self, before, name, "low_one", "Unsqueeze", of->low, number(self, AXIS)),
            add(self, before, name, "high_one", "Unsqueeze", of->high, number(self, AXIS))};
        of->stacked =
            inputs[0] != NULL && inputs[1] != NULL
                ? add_concat(self, before, inputs, 2,
                             kln_arena_printf(&self->edit.model->arena, "%s/stacked", name), 0)
                : NULL;
    }
    return of != NULL ? of->stacked : NULL;
}

/* --- products --- */

static bool is_set(const kln_onnx_node *node, const char *attribute)
{
    bool is = false;
    for (size_t i = 0; i < node->attribute_count; i++) {
        is |= strcmp(node->attributes[i].name, attribute) == 0 && node->attributes[i].i != 0;
    }
    return is;
}

/* Whether the product's second input was made here. */
static bool is_split(const kln_onnx_node *node)
{
    const char *name = strrchr(node->inputs[1], '/');
    return name != NULL && (strcmp(name, MATRIX) == 0 || strcmp(name, OTHER) == 0);
}

/* The product's constant matrix, or NULL. */
static const kln_onnx_tensor *matrix_of(const splitter *self, const kln_onnx_node *node)
{
    const bool is_product = kln_onnx_node_is(node, "MatMul") ||
                            (kln_onnx_node_is(node, "Gemm") && !is_set(node, "transA"));
    const kln_onnx_tensor *matrix = is_product && node->input_count >= 2
                                        ? kln_graph_edit_constant(&self->edit, node->inputs[1], 2)
                                        : NULL;
    return matrix != NULL && !is_split(node) && has_halves(matrix) ? matrix : NULL;
}

static kiln_status split_stacked(splitter *self, size_t index, const kln_onnx_tensor *matrix)
{
    const kln_onnx_node *node = &self->edit.graph->nodes[index];
    const char *stem = node->outputs[0];
    const char *products =
        add(self, index, stem, "products", "MatMul", stack(self, index, node->inputs[0]),
            add_matrix(self, stem, matrix, 2, true));
    const char *rows[2] = {
        add(self, index, stem, "of_low", "Gather", products, number(self, ZERO)),
        add(self, index, stem, "of_high", "Gather", products, number(self, ONE))};
    const char *sum = add(self, index, stem, "both", "Add", rows[0], rows[1]);
    const kln_onnx_tensor *sizes =
        kln_graph_edit_add_weights(&self->edit, stem, "sizes", KILN_DTYPE_INT64, 1, &(int64_t){2});
    const char *const halves[] = {kln_arena_printf(&self->edit.model->arena, "%s/by_high", stem),
                                  kln_arena_printf(&self->edit.model->arena, "%s/by_low", stem)};
    KLN_FAIL_IF(sum == NULL || sizes == NULL || halves[0] == NULL || halves[1] == NULL,
                no_memory());
    ((int64_t *)(uintptr_t)sizes->data.data)[0] = matrix->dims[1];
    ((int64_t *)(uintptr_t)sizes->data.data)[1] = matrix->dims[1];
    const char *const inputs[] = {sum, sizes->name};
    kln_onnx_node *apart =
        kln_graph_edit_add_node(&self->edit, index, "", "Split", inputs, 2, halves, 2);
    KLN_FAIL_IF(apart == NULL, no_memory());
    kln_graph_edit_set_int(apart, "axis", -1);
    const char *const ends[] = {halves[1], halves[0]};
    kln_onnx_node *last =
        kln_graph_edit_add_node(&self->edit, index, "", "Add", ends, 2, node->outputs, 1);
    KLN_FAIL_IF(last == NULL, no_memory());
    last->name = node->name;
    return KILN_OK;
}

static kiln_status split_joined(splitter *self, size_t index, const kln_onnx_tensor *matrix)
{
    const kln_onnx_node *node = &self->edit.graph->nodes[index];
    const char *stem = node->outputs[0];
    const char *left = join(self, index, node->inputs[0], stem, -1);
    const char *right = matrix != NULL ? add_matrix(self, stem, matrix, 3, is_set(node, "transB"))
                                       : join(self, index, node->inputs[1], stem, -2);
    KLN_FAIL_IF(left == NULL || right == NULL, no_memory());
    const char *const inputs[] = {left, right, node->input_count > 2 ? node->inputs[2] : ""};
    kln_onnx_node *made = kln_graph_edit_add_node(&self->edit, index, "", node->op_type, inputs,
                                                  node->input_count, node->outputs, 1);
    KLN_FAIL_IF(made == NULL, no_memory());
    made->name = node->name;
    made->attributes = node->attributes;
    made->attribute_count = node->attribute_count;
    return KILN_OK;
}

static kiln_status split(splitter *self, size_t index, const kln_onnx_tensor *matrix)
{
    const bool stacks = self->few_rows && matrix != NULL &&
                        kln_onnx_node_is(&self->edit.graph->nodes[index], "MatMul") &&
                        kln_onnx_opset_version(self->edit.model, "") >= STACK_OPSET;
    KLN_RETURN_IF_ERROR(stacks ? split_stacked(self, index, matrix)
                               : split_joined(self, index, matrix));
    kln_graph_edit_drop(&self->edit, index);
    self->split++;
    return KILN_OK;
}

/* `computed[i]`: node i multiplies two computed float32 tensors. */
static kiln_status split_all(splitter *self, kln_onnx_model *model, const bool *computed)
{
    KLN_RETURN_IF_ERROR(kln_graph_edit_begin(model, &self->edit));
    self->halves = kln_alloc_zeroed(2 * model->graph.node_count, sizeof *self->halves);
    KLN_FAIL_IF(self->halves == NULL, no_memory());
    for (size_t i = 0; i < model->graph.node_count; i++) {
        const kln_onnx_tensor *matrix = matrix_of(self, &model->graph.nodes[i]);
        if (matrix != NULL || computed[i]) {
            KLN_RETURN_IF_ERROR(split(self, i, matrix));
        }
    }
    return self->split != 0 ? kln_graph_edit_commit(&self->edit) : KILN_OK;
}

/* --- the whole model --- */

/* Whether `name` is a float32 matrix, or a batch of them, that is not a constant. */
static bool is_computed(const kln_graph_inference *known, const char *name)
{
    const kln_value *value = kln_inference_find(known, name);
    return value != NULL && value->initializer == NULL && value->dtype == KILN_DTYPE_FLOAT32 &&
           value->rank >= 2;
}

static kiln_status find_computed(const kln_onnx_model *model, bool *computed)
{
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    const kln_onnx_graph *graph = &model->graph;
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &inference));
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        computed[i] = kln_onnx_node_is(node, "MatMul") && node->input_count == 2 &&
                      !is_split(node) && is_computed(inference->graph, node->inputs[0]) &&
                      is_computed(inference->graph, node->inputs[1]);
    }
    return KILN_OK;
}

kiln_status kln_split_products(kln_onnx_model *model, bool few_rows, size_t *count)
{
    splitter self = {.few_rows = few_rows};
    KLN_RETURN_IF(!kln_graph_edit_suits(model), KILN_ERROR_UNSUPPORTED,
                  "splitting products: the network is empty, or has graphs inside nodes");
    KLN_SCOPED_FREE bool *computed = kln_alloc_zeroed(model->graph.node_count, sizeof *computed);
    KLN_FAIL_IF(computed == NULL, no_memory());
    if (!few_rows) {
        KLN_RETURN_IF_ERROR(find_computed(model, computed));
    }
    const kln_onnx_graph before = model->graph;
    const kiln_status status = split_all(&self, model, computed);
    kln_free(self.halves);
    kln_graph_edit_end(&self.edit);
    if (status != KILN_OK) {
        model->graph = before;
    }
    *count = status == KILN_OK ? self.split : 0;
    return status;
}

kiln_status kiln_network_split_products(kiln_network *network, bool few_rows, size_t *count)
{
    kln_onnx_model *model = NULL;
    size_t split = 0;
    KLN_RETURN_IF_NULL(network);
    if (count != NULL) {
        *count = 0;
    }
    KLN_RETURN_IF_ERROR(kln_network_whole(network));
    KLN_RETURN_IF_ERROR(kln_network_rewrite(network, &model));
    const kln_onnx_graph before = model->graph;
    KLN_RETURN_IF_ERROR(kln_split_products(model, few_rows, &split));
    const kiln_status status = kln_network_rewritten(network);
    if (status != KILN_OK) {
        model->graph = before;
        return status;
    }
    if (count != NULL) {
        *count = split;
    }
    return KILN_OK;
}
