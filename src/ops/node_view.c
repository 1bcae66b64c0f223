/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_schema.h"
#include "onnx/kln_look.h"

kln_node_view kln_view_of(kln_inference *inference, const kln_graph_inference *graph,
                          uint32_t index)
{
    const kln_node_inference *known = &graph->nodes[index];
    return (kln_node_view){.inference = inference,
                           .graph = graph,
                           .node = &graph->graph->nodes[index],
                           .known = known,
                           .opset = known->resolved->opset};
}

static kln_value *value_at(const kln_node_view *view, const uint32_t *places, size_t count,
                           size_t index)
{
    return index < count && places != NULL && places[index] != KLN_NO_VALUE
               ? view->graph->values[places[index]]
               : NULL;
}

kln_value *kln_view_input(const kln_node_view *view, size_t input)
{
    return value_at(view, view->known->inputs, view->node->input_count, input);
}

kln_value *kln_view_output(const kln_node_view *view, size_t output)
{
    return value_at(view, view->known->outputs, view->node->output_count, output);
}

bool kln_view_has(const kln_node_view *view, size_t input)
{
    return input < view->node->input_count && view->node->inputs[input][0] != '\0';
}

int32_t kln_view_type(const kln_node_view *view, size_t input)
{
    const kln_value *value = kln_view_input(view, input);
    return value != NULL && value->kind == KLN_ONNX_KIND_TENSOR ? value->wire_dtype : 0;
}

int64_t kln_view_rank(const kln_node_view *view, size_t input)
{
    const kln_value *value = kln_view_input(view, input);
    return value != NULL && value->has_shape ? (int64_t)value->rank : -1;
}

int64_t kln_view_dim(const kln_node_view *view, size_t input, size_t axis)
{
    const kln_value *value = kln_view_input(view, input);
    return value != NULL && value->has_shape && axis < value->rank &&
                   value->dims[axis].kind == KLN_DIM_NUMBER
               ? value->dims[axis].of.number
               : -1;
}

int64_t kln_view_count(const kln_node_view *view, size_t input)
{
    const int64_t rank = kln_view_rank(view, input);
    int64_t count = rank < 0 ? -1 : 1;
    for (size_t i = 0; rank > 0 && i < (size_t)rank; i++) {
        const int64_t dim = kln_view_dim(view, input, i);
        if (dim == 0) {
            return 0;
        }
        if (dim < 0 || count < 0 || __builtin_mul_overflow(count, dim, &count)) {
            count = -1;
        }
    }
    return count;
}

const kln_dim *kln_view_contents(const kln_node_view *view, size_t input, size_t *count)
{
    kln_value *value = kln_view_input(view, input);
    *count = 0;
    return value != NULL ? kln_value_contents(view->inference, value, count) : NULL;
}

static const kln_onnx_attribute *attribute(const kln_node_view *view, const char *name)
{
    const kln_onnx_attribute *found = kln_onnx_find_attribute(view->node, name);
    return found != NULL && (found->reference == NULL || found->reference[0] == '\0') ? found
                                                                                      : NULL;
}

int64_t kln_view_int(const kln_node_view *view, const char *name, int64_t otherwise)
{
    const kln_onnx_attribute *found = attribute(view, name);
    return found != NULL && found->type == KLN_ONNX_ATTRIBUTE_INT ? found->i : otherwise;
}

bool kln_view_is(const kln_node_view *view, const char *name, const char *text, bool otherwise)
{
    const kln_onnx_attribute *found = attribute(view, name);
    return found != NULL && found->type == KLN_ONNX_ATTRIBUTE_STRING
               ? kln_onnx_attribute_is(found, text)
               : otherwise;
}

const int64_t *kln_view_ints(const kln_node_view *view, const char *name, size_t *count)
{
    const kln_onnx_attribute *found = attribute(view, name);
    const bool given = found != NULL && found->type == KLN_ONNX_ATTRIBUTE_INTS;
    *count = given ? found->count : 0;
    return given ? found->ints : NULL;
}

static char letter_of(const kln_value *value, bool *sequence)
{
    if (value == NULL) {
        return 0;
    }
    if (value->kind == KLN_ONNX_KIND_SEQUENCE) {
        *sequence = true;
        return value->element != NULL ? kln_type_letter(value->element->wire_dtype) : 0;
    }
    *sequence = false;
    return value->kind == KLN_ONNX_KIND_TENSOR ? kln_type_letter(value->wire_dtype) : 0;
}

char kln_view_variable(const kln_node_view *view, const char *name, size_t length, bool *sequence)
{
    const kln_schema *schema = view->known->resolved->schema;
    const size_t inputs = view->node->input_count;
    char found = 0;
    for (size_t i = 0; found == 0 && i < inputs + view->node->output_count; i++) {
        const kln_schema_parameter *p =
            i < inputs ? kln_schema_input(schema, i) : kln_schema_output(schema, i - inputs);
        const char *variable =
            p != NULL && p->variable >= 0 ? schema->variables[p->variable].name : "";
        if (strlen(variable) == length && memcmp(variable, name, length) == 0) {
            found = letter_of(
                i < inputs ? kln_view_input(view, i) : kln_view_output(view, i - inputs), sequence);
        }
    }
    return found;
}
