/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void set_sequence(kln_rule *rule, size_t output, kln_onnx_kind kind,
                         const kln_value *element)
{
    if (kln_rule_wants(rule, output)) {
        rule->out[output].kind = kind;
        rule->out[output].wire_dtype = 0;
        rule->out[output].element = element;
        rule->out[output].has_shape = false;
    }
}

static kln_value *element_copy(kln_rule *rule, const kln_value *value)
{
    kln_value *copy = kln_rule_alloc(rule, 1, sizeof *copy);
    if (copy != NULL) {
        copy->name = "";
        copy->producer = KLN_NO_NODE;
        if (value != NULL) {
            kln_value_copy_type(copy, value, true);
        }
    }
    return copy;
}

static const kln_value *element_of(const kln_rule *rule, size_t input)
{
    return input < rule->in_count && rule->in[input] != NULL ? rule->in[input]->element : NULL;
}

static void rule_sequence_construct(kln_rule *rule)
{
    if (rule->in_count == 0 || rule->in[0] == NULL) {
        return;
    }
    kln_value *element = element_copy(rule, rule->in[0]);
    for (size_t i = 1; element != NULL && i < rule->in_count; i++) {
        if (rule->in[i] != NULL) {
            kln_value_union(rule->state, element, rule->in[i]);
        }
    }
    set_sequence(rule, 0, KLN_ONNX_KIND_SEQUENCE, element);
}

static void rule_sequence_empty(kln_rule *rule)
{
    kln_value *element = element_copy(rule, NULL);
    if (element != NULL) {
        element->kind = KLN_ONNX_KIND_TENSOR;
        const int64_t type = kln_rule_int(rule, "dtype", KLN_WIRE_FLOAT);
        const uint32_t allowed = rule->resolved->schema->outputs->types.sequence;
        element->wire_dtype = kln_rule_names_one(rule, "dtype", type, allowed) ? (int32_t)type : 0;
        element->dtype = kln_onnx_dtype(element->wire_dtype);
    }
    set_sequence(rule, 0, KLN_ONNX_KIND_SEQUENCE, element);
}

static void output_element(kln_rule *rule, const kln_value *element)
{
    if (element != NULL && kln_rule_wants(rule, 0)) {
        kln_value_copy_type(&rule->out[0], element, true);
    }
}

static void rule_sequence_at(kln_rule *rule)
{
    output_element(rule, element_of(rule, 0));
}

static void rule_sequence_insert(kln_rule *rule)
{
    const kln_value *element = element_of(rule, 0);
    if (element == NULL || rule->in_count < 2 || rule->in[1] == NULL) {
        return;
    }
    kln_value *both = element_copy(rule, element);
    if (both != NULL) {
        if (both->wire_dtype != 0 && rule->in[1]->wire_dtype != 0 &&
            both->wire_dtype != rule->in[1]->wire_dtype) {
            kln_rule_fault(rule, KILN_ISSUE_DTYPE, rule->node->inputs[1],
                           kln_onnx_dtype_name(both->wire_dtype),
                           kln_onnx_dtype_name(rule->in[1]->wire_dtype),
                           "a tensor of %s cannot go into a sequence of %s",
                           kln_onnx_dtype_name(rule->in[1]->wire_dtype),
                           kln_onnx_dtype_name(both->wire_dtype));
        }
        kln_value_union(rule->state, both, rule->in[1]);
    }
    set_sequence(rule, 0, KLN_ONNX_KIND_SEQUENCE, both);
}

static void rule_sequence_erase(kln_rule *rule)
{
    if (element_of(rule, 0) != NULL) {
        set_sequence(rule, 0, KLN_ONNX_KIND_SEQUENCE, element_of(rule, 0));
    }
}

static void rule_split_to_sequence(kln_rule *rule)
{
    kln_value *element = element_copy(rule, rule->in_count > 0 ? rule->in[0] : NULL);
    if (element == NULL) {
        return;
    }
    set_sequence(rule, 0, KLN_ONNX_KIND_SEQUENCE, element);
    size_t axis = 0;
    const size_t rank = kln_rule_rank(rule, 0);
    element->has_shape = false;
    if (!kln_rule_ranked(rule, 0) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", 0), rank, &axis)) {
        return;
    }
    size_t count = 0;
    const int64_t *sizes = kln_rule_has(rule, 1) ? kln_rule_numbers(rule, 1, &count) : NULL;
    const bool each_one = !kln_rule_has(rule, 1);
    const bool keep = kln_rule_int(rule, "keepdims", 1) != 0 || !each_one;
    kln_dim part = each_one ? KLN_DIM_OF_NUMBER(1) : KLN_UNKNOWN_DIM;
    if (sizes != NULL && count > 0) {
        const kln_dim whole = kln_rule_dim(rule, 0, axis);
        bool equal = true;
        for (size_t i = 1; i < count; i++) {
            equal &= sizes[i] == sizes[0];
        }
        const bool scalar = kln_rule_ranked(rule, 1) && kln_rule_rank(rule, 1) == 0;
        if (equal && sizes[0] >= 0 &&
            (!scalar ||
             (whole.kind == KLN_DIM_NUMBER && sizes[0] > 0 && whole.of.number % sizes[0] == 0))) {
            part = KLN_DIM_OF_NUMBER(sizes[0]);
        }
    }
    kln_dim *dims = kln_rule_alloc(rule, rank, sizeof *dims);
    size_t place = 0;
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        if (i != axis) {
            dims[place++] = kln_rule_dim(rule, 0, i);
        } else if (keep) {
            dims[place++] = part;
        }
    }
    element->has_shape = dims != NULL;
    element->rank = place;
    element->dims = dims;
}

static void rule_concat_from_sequence(kln_rule *rule)
{
    const kln_value *element = element_of(rule, 0);
    if (element == NULL) {
        return;
    }
    kln_rule_set_dtype(rule, 0, element->wire_dtype);
    if (!element->has_shape) {
        return;
    }
    const bool fresh = kln_rule_int(rule, "new_axis", 0) != 0;
    const size_t rank = element->rank + (fresh ? 1 : 0);
    size_t axis = 0;
    if (!kln_rule_axis(rule, kln_rule_int(rule, "axis", 0), rank, &axis)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i == axis ? KLN_UNKNOWN_DIM : element->dims[fresh && i > axis ? i - 1 : i];
    }
}

static void rule_sequence_map(kln_rule *rule)
{
    const kln_onnx_attribute *body = kln_rule_attribute(rule, "body");
    const kln_value **bound = kln_rule_alloc(rule, rule->in_count, sizeof(kln_value *));
    if (body == NULL || body->graph == NULL || bound == NULL) {
        return;
    }
    for (size_t i = 0; i < rule->in_count; i++) {
        const kln_value *value = rule->in[i];
        const bool sequence = value != NULL && value->kind == KLN_ONNX_KIND_SEQUENCE;
        bound[i] = sequence ? value->element : value;
    }
    const kln_graph_inference *graph =
        kln_infer_subgraph(rule, body->graph, KLN_BRANCH_RUNS, bound, rule->in_count);
    for (size_t o = 0; graph != NULL && o < rule->out_count && o < graph->output_count; o++) {
        if (graph->outputs[o] != KLN_NO_VALUE) {
            set_sequence(rule, o, KLN_ONNX_KIND_SEQUENCE,
                         element_copy(rule, graph->values[graph->outputs[o]]));
        }
    }
}

static void rule_optional(kln_rule *rule)
{
    const kln_onnx_attribute *type = kln_rule_attribute(rule, "type");
    kln_value *element = NULL;
    if (rule->in_count > 0 && rule->in[0] != NULL) {
        element = element_copy(rule, rule->in[0]);
    } else if (type != NULL && type->type == KLN_ONNX_ATTRIBUTE_TYPE && type->types != NULL) {
        /* An empty one declares what it could contain. */
        element = element_copy(rule, NULL);
        if (element != NULL) {
            kln_value_from_type(rule->state, element, type->types);
        }
    }
    if (element != NULL) {
        set_sequence(rule, 0, KLN_ONNX_KIND_OPTIONAL, element);
    } else if (kln_rule_wants(rule, 0)) {
        rule->out[0].kind = KLN_ONNX_KIND_NONE;
    }
}

static void rule_optional_get(kln_rule *rule)
{
    if (rule->in_count == 0 || rule->in[0] == NULL) {
        return;
    }
    const bool optional = rule->in[0]->kind == KLN_ONNX_KIND_OPTIONAL;
    output_element(rule, optional ? rule->in[0]->element : rule->in[0]);
}

const kln_op_rule kln_rules_sequence[] = {
    OP("ConcatFromSequence", rule_concat_from_sequence),
    OP("Optional", rule_optional),
    OP("OptionalGetElement", rule_optional_get),
    OP("OptionalHasElement", kln_rule_scalar_out),
    OP("SequenceAt", rule_sequence_at, .form = "11: - (1)"),
    OP("SequenceConstruct", rule_sequence_construct),
    OP("SequenceEmpty", rule_sequence_empty),
    OP("SequenceErase", rule_sequence_erase, .form = "11: - (1)"),
    OP("SequenceInsert", rule_sequence_insert, .form = "11: - - (1)"),
    OP("SequenceLength", kln_rule_scalar_out),
    OP("SequenceMap", rule_sequence_map),
    OP("SplitToSequence", rule_split_to_sequence),
    OP_END};
