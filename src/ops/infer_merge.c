/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rule.h"

/* --- inferred and declared types ---
 *
 * Backends rely on declared types, but not on declared shapes: they run models that contradict
 * them. */

static kln_dim merge_dim(kln_infer_state *state, kln_dim inferred, const kln_onnx_dim *declared)
{
    if (inferred.kind == KLN_DIM_NUMBER) {
        return inferred;
    }
    const char *name = declared->parameter;
    if (declared->value >= 0 || !kln_onnx_names_dim(name)) {
        return declared->value >= 0 ? KLN_DIM_OF_NUMBER(declared->value) : inferred;
    }
    if (kln_names_get(&state->input_names, name) != KLN_NAMES_NONE ||
        inferred.kind == KLN_DIM_UNKNOWN) {
        return kln_state_named_dim(state, name);
    }
    if (kln_names_get(&state->aliases, name) == KLN_NAMES_NONE) {
        kln_state_set_alias(state, name, inferred);
    }
    return inferred;
}

static void tell(kln_rule *rule, kiln_severity severity, kiln_issue_kind kind,
                 const kln_value *inferred, const kln_onnx_type *type)
{
    kln_value declared = {.name = "", .kind = KLN_ONNX_KIND_NONE};
    kln_value_from_type(rule->state, &declared, type);
    const char *expected = KLN_VALUE_PRINTED(inferred);
    const char *found = KLN_VALUE_PRINTED(&declared);
    kln_rule_tell(rule, severity, kind, inferred->name, expected, found,
                  "\"%.80s\" is %.100s, but is declared as %.100s", inferred->name, expected,
                  found);
}

static void merge_dims(kln_rule *rule, const kln_onnx_type *declared, kln_value *inferred)
{
    kln_infer_state *state = rule->state;
    bool agree = true;
    kln_dim *dims = kln_rule_alloc(rule, inferred->rank, sizeof *dims);
    for (size_t i = 0; dims != NULL && i < inferred->rank; i++) {
        const kln_onnx_dim *dim = &declared->dims[i];
        agree &= inferred->dims[i].kind != KLN_DIM_NUMBER || dim->value < 0 ||
                 inferred->dims[i].of.number == dim->value;
        dims[i] = merge_dim(state, inferred->dims[i], dim);
    }
    if (!agree) {
        tell(rule, KILN_SEVERITY_WARNING, KILN_ISSUE_SHAPE, inferred, declared);
    }
    if (dims != NULL) {
        inferred->dims = dims;
    }
}

/* Whether the declared and the inferred type agree, apart from shapes. */
static bool type_agrees(const kln_onnx_type *type, const kln_value *value)
{
    if (type->kind != value->kind ||
        (type->kind == KLN_ONNX_KIND_TENSOR && type->wire_dtype != 0 && value->wire_dtype != 0 &&
         type->wire_dtype != value->wire_dtype)) {
        return type->kind == KLN_ONNX_KIND_NONE || value->kind == KLN_ONNX_KIND_NONE;
    }
    return type->element == NULL || value->element == NULL ||
           type_agrees(type->element, value->element);
}

void kln_walk_merge(kln_rule *rule, kln_graph_walk *walk, kln_value *value, kln_value *inferred)
{
    const uint32_t place =
        walk->declared.count > 0 ? kln_names_get(&walk->declared, value->name) : KLN_NAMES_NONE;
    if (place == KLN_NAMES_NONE) {
        return;
    }
    const kln_onnx_graph *graph = walk->inference.graph;
    const kln_onnx_type *type = (place & KLN_DECLARED_OUTPUT) != 0
                                    ? &graph->outputs[place & ~KLN_DECLARED_OUTPUT].type
                                    : &graph->values[place].type;
    if (type->kind == KLN_ONNX_KIND_NONE) {
        return;
    }
    if (inferred->kind == KLN_ONNX_KIND_NONE) {
        const char *name = inferred->name;
        kln_value_from_type(rule->state, inferred, type);
        inferred->name = name;
        return;
    }
    if (!type_agrees(type, inferred)) {
        tell(rule, KILN_SEVERITY_ERROR, KILN_ISSUE_DTYPE, inferred, type);
        return;
    }
    if (inferred->wire_dtype == 0) {
        inferred->wire_dtype = type->wire_dtype;
    }
    if (type->element != NULL) {
        kln_value declared = {.name = "", .kind = KLN_ONNX_KIND_NONE};
        kln_value_from_type(rule->state, &declared, type);
        inferred->element = kln_value_complete(rule->state, inferred->element, declared.element);
    }
    if (!type->has_shape) {
        return;
    }
    if (!inferred->has_shape) {
        kln_value declared = {.name = "", .kind = KLN_ONNX_KIND_NONE};
        kln_value_from_type(rule->state, &declared, type);
        kln_value_copy_shape(inferred, &declared);
    } else if (inferred->rank != type->rank) {
        tell(rule, KILN_SEVERITY_WARNING, KILN_ISSUE_RANK, inferred, type);
    } else {
        merge_dims(rule, type, inferred);
    }
}

/* --- shapes that the caller gives --- */

static kiln_status option_dim(kln_infer_state *state, const char *input, size_t axis,
                              const kln_onnx_dim *declared, int64_t given)
{
    int64_t expected = declared->value;
    const char *name = declared->parameter;
    if (expected < 0 && kln_onnx_names_dim(name)) {
        const uint32_t alias = kln_names_get(&state->aliases, name);
        if (alias != KLN_NAMES_NONE) {
            expected = state->alias_dims[alias].of.number;
        } else {
            kln_state_set_alias(state, name, KLN_DIM_OF_NUMBER(given));
            return state->status;
        }
    }
    KLN_RETURN_IF(expected >= 0 && expected != given, KILN_ERROR_SHAPE,
                  "input \"%s\": dimension %zu%s%s is %lld, but %lld was given", input, axis,
                  name != NULL ? ", " : "", name != NULL ? name : "", (long long)expected,
                  (long long)given);
    return KILN_OK;
}

kiln_status kln_state_options(kln_infer_state *state)
{
    for (size_t i = 0; i < state->options.input_count; i++) {
        const kln_input_shape *given = &state->options.inputs[i];
        const kln_onnx_value *input = kln_onnx_find_input(state->inference->model, given->name);
        KLN_RETURN_IF(input == NULL, KILN_ERROR_NAME,
                      "a shape was given for \"%s\", but no input of the network has that name",
                      given->name);
        const int32_t rank = given->shape.rank;
        KLN_RETURN_IF(rank < 0 || rank > KILN_MAX_RANK ||
                          (input->type.has_shape && input->type.rank != (size_t)rank),
                      KILN_ERROR_RANK,
                      "input \"%s\" has %zu dimensions, but a shape of %d was given", given->name,
                      input->type.rank, (int)rank);
        for (size_t k = 0; input->type.has_shape && k < (size_t)rank; k++) {
            if (given->shape.dims[k] >= 0) {
                KLN_RETURN_IF_ERROR(
                    option_dim(state, given->name, k, &input->type.dims[k], given->shape.dims[k]));
            }
        }
    }
    return KILN_OK;
}
