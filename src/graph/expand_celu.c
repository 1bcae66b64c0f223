/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_graph.h"
#include "tensor/kln_tensor.h"

/* The expansion of one Celu. Names are NULL if memory ran out. */
typedef struct expansion {
    kln_graph_edit *edit;
    size_t index;  /* of the node */
    const char *y; /* its output, the prefix of all added names */
    kiln_dtype dtype;
} expansion;

static const char *add_number(const expansion *self, const char *what, float value)
{
    const kln_onnx_tensor *made =
        kln_graph_edit_add_weights(self->edit, self->y, what, self->dtype, 0, NULL);
    if (made == NULL) {
        return NULL;
    }
    *(uint16_t *)(uintptr_t)made->data.data = self->dtype == KILN_DTYPE_FLOAT16
                                                  ? kln_half_from_float(value)
                                                  : kln_bfloat16_from_float(value);
    return made->name;
}

/* `what` NULL: its output is the expansion's. `b` and `alpha` may be NULL. */
static const char *add_node(const expansion *self, const char *op, const char *a, const char *b,
                            const float *alpha, const char *what)
{
    const char *inputs[2] = {a, b};
    const char *output = what == NULL
                             ? self->y
                             : kln_arena_printf(&self->edit->model->arena, "%s/%s", self->y, what);
    kln_onnx_node *made = a == NULL || output == NULL
                              ? NULL
                              : kln_graph_edit_add_node(self->edit, self->index, "", op, inputs,
                                                        b != NULL ? 2 : 1, &output, 1);
    if (made != NULL && alpha != NULL) {
        kln_graph_edit_set_float(made, "alpha", *alpha);
    }
    return made != NULL ? output : NULL;
}

/* max(0, x) + min(0, alpha (exp(x / alpha) - 1)), as the operator is defined; the second part is
 * Elu's where x is negative. https://onnx.ai/onnx/operators/onnx__Celu.html */
static bool expand(const expansion *self, const char *x, float alpha)
{
    const char *divisor = add_number(self, "alpha", alpha);
    const char *zero = add_number(self, "zero", 0);
    if (divisor == NULL || zero == NULL) {
        return false;
    }
    const char *scaled = add_node(self, "Div", x, divisor, NULL, "scaled");
    const char *elu = add_node(self, "Elu", scaled, NULL, &alpha, "elu");
    const char *below = add_node(self, "Min", elu, zero, NULL, "below");
    const char *above = add_node(self, "Relu", x, NULL, NULL, "above");
    if (below == NULL || add_node(self, "Add", above, below, NULL, NULL) == NULL) {
        return false;
    }
    kln_graph_edit_drop(self->edit, self->index);
    return true;
}

/* Whether `node` is a Celu of a half type, and which. */
static bool is_half_celu(const kln_inference *inference, const kln_onnx_node *node,
                         kiln_dtype *dtype)
{
    if (!kln_onnx_node_is(node, "Celu") || node->input_count != 1 || node->output_count != 1) {
        return false;
    }
    const kln_value *value = kln_inference_find(inference->graph, node->inputs[0]);
    *dtype = value != NULL ? value->dtype : KILN_DTYPE_UNDEFINED;
    return *dtype == KILN_DTYPE_FLOAT16 || *dtype == KILN_DTYPE_BFLOAT16;
}

static kiln_status expand_all(kln_graph_edit *edit, const kln_inference *inference,
                              size_t *expanded)
{
    for (size_t i = 0; i < edit->graph->node_count; i++) {
        const kln_onnx_node *node = &edit->graph->nodes[i];
        expansion one = {.edit = edit, .index = i};
        if (!is_half_celu(inference, node, &one.dtype)) {
            continue;
        }
        const kln_onnx_attribute *alpha = kln_onnx_find_attribute(node, "alpha");
        one.y = node->outputs[0];
        KLN_FAIL_IF(!expand(&one, node->inputs[0], alpha != NULL ? alpha->f : 1.0F),
                    kln_fail_memory(sizeof *node, "an operator in parts"));
        ++*expanded;
    }
    return *expanded != 0 ? kln_graph_edit_commit(edit) : KILN_OK;
}

kiln_status kln_expand_celu(kln_onnx_model *model, size_t *expanded)
{
    *expanded = 0;
    if (!kln_graph_has(&model->graph, "Celu") || !kln_graph_edit_suits(model)) {
        return KILN_OK;
    }
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &inference));
    KLN_SCOPED(kln_graph_edit_end) kln_graph_edit edit = {0};
    KLN_RETURN_IF_ERROR(kln_graph_edit_begin(model, &edit));
    return expand_all(&edit, inference, expanded);
}
