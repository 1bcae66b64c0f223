/* SPDX-License-Identifier: Apache-2.0 */
/* Control flow, and operators by name. */
#include <string.h>

#include "build_layer.h"

static void check_branch(kln_layer *layer, const kiln_network *branch, const char *what,
                         size_t inputs, size_t outputs)
{
    if (layer->status != KILN_OK) {
        return;
    }
    if (branch == NULL) {
        layer->status = kln_fail_null(layer->function, what);
        return;
    }
    kln_layer_need(layer, branch->parent == layer->network,
                   "`%s` is no branch that kiln_network_create_branch made of this network", what);
    if (branch->is_used) {
        kln_layer_fail(layer, KILN_ERROR_STATE, "`%s` is part of an If or Loop already", what);
    }
    kln_layer_need(layer, branch->graph->input_count == inputs,
                   "`%s` has %zu inputs, %zu are needed", what, branch->graph->input_count, inputs);
    kln_layer_need(layer, branch->graph->output_count == outputs,
                   "`%s` has %zu outputs, %zu are needed", what, branch->graph->output_count,
                   outputs);
}

static kln_layer_output *make_outputs(kln_layer *layer, kiln_tensor_id *ids, size_t count)
{
    return kln_layer_outputs(layer, ids, count, KILN_DTYPE_UNDEFINED, KLN_RANK_OPEN);
}

static int32_t rank_of(const kln_onnx_value *value)
{
    return value->type.has_shape && value->type.rank <= KILN_MAX_RANK ? (int32_t)value->type.rank
                                                                      : KLN_RANK_OPEN;
}

kiln_status kiln_network_add_if(kiln_network *network, const char *name, kiln_tensor_id condition,
                                kiln_network *then, kiln_network *otherwise,
                                kiln_tensor_id *outputs, size_t count)
{
    KLN_RETURN_IF_NULL(outputs);
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "If");
    kln_layer_input(&layer, condition);
    kln_layer_need(&layer, count > 0, "it has no outputs");
    check_branch(&layer, then, "then", 0, count);
    check_branch(&layer, otherwise, "otherwise", 0, count);
    kln_layer_need(&layer, then != otherwise, "both branches are one");
    kln_layer_output *each = make_outputs(&layer, outputs, count);
    for (size_t i = 0; each != NULL && i < count; i++) {
        const kln_onnx_value *a = &then->graph->outputs[i];
        const int32_t rank = rank_of(a);
        each[i].dtype = a->type.dtype;
        each[i].rank = rank == rank_of(&otherwise->graph->outputs[i]) ? rank : KLN_RANK_OPEN;
    }
    if (each != NULL) {
        kln_layer_graph(&layer, "then_branch", then->graph);
        kln_layer_graph(&layer, "else_branch", otherwise->graph);
    }
    KLN_RETURN_IF_ERROR(kln_layer_finish(&layer, each, count));
    then->is_used = true;
    otherwise->is_used = true;
    return KILN_OK;
}

kiln_status kiln_network_add_loop(kiln_network *network, const char *name, kiln_tensor_id trips,
                                  kiln_tensor_id condition, const kiln_tensor_id *carried,
                                  size_t carried_count, kiln_network *body, kiln_tensor_id *outputs,
                                  size_t count)
{
    KLN_RETURN_IF_NULL(outputs);
    if (carried == NULL && carried_count != 0) {
        return kln_fail_null(__func__, "carried");
    }
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "Loop");
    kln_layer_optional(&layer, trips);
    kln_layer_optional(&layer, condition);
    kln_layer_need(
        &layer, count > 0 && count >= carried_count,
        "%zu outputs are asked for; 1 or more is needed, and no fewer than the %zu carried tensors",
        count, carried_count);
    check_branch(&layer, body, "body", carried_count + 2, count + 1);
    for (size_t i = 0; layer.status == KILN_OK && i < carried_count; i++) {
        kln_layer_input(&layer, carried[i]);
    }
    kln_layer_output *each = make_outputs(&layer, outputs, count);
    for (size_t i = 0; each != NULL && i < count; i++) {
        const kln_onnx_value *value = &body->graph->outputs[i + 1];
        const int32_t rank = rank_of(value);
        each[i].dtype = value->type.dtype;
        each[i].rank = rank < 0 || i < carried_count ? rank : rank + 1;
    }
    if (each != NULL) {
        kln_layer_graph(&layer, "body", body->graph);
    }
    KLN_RETURN_IF_ERROR(kln_layer_finish(&layer, each, count));
    body->is_used = true;
    return KILN_OK;
}

/* --- operators by name --- */

static void put_attribute(kln_layer *layer, const kiln_attribute *attribute)
{
    if (layer->status != KILN_OK) {
        return;
    }
    if (attribute->name == NULL || (attribute->kind == KILN_ATTRIBUTE_STRING && !attribute->s) ||
        (attribute->count != 0 && attribute->kind == KILN_ATTRIBUTE_INTS && !attribute->ints) ||
        (attribute->count != 0 && attribute->kind == KILN_ATTRIBUTE_FLOATS && !attribute->floats)) {
        layer->status = kln_fail_null(layer->function, "attributes[].name or value");
        return;
    }
    const char *name = kln_arena_strdup(&layer->network->model->arena, attribute->name);
    if (name == NULL) {
        kln_layer_fail(layer, KILN_ERROR_OUT_OF_MEMORY, "the name of an attribute");
        return;
    }
    switch (attribute->kind) {
        case KILN_ATTRIBUTE_INT: kln_layer_int(layer, name, attribute->i); break;
        case KILN_ATTRIBUTE_FLOAT: kln_layer_float(layer, name, attribute->f); break;
        case KILN_ATTRIBUTE_STRING: kln_layer_string(layer, name, attribute->s); break;
        case KILN_ATTRIBUTE_INTS:
            kln_layer_ints(layer, name, attribute->ints, attribute->count);
            break;
        case KILN_ATTRIBUTE_FLOATS:
            kln_layer_floats(layer, name, attribute->floats, attribute->count);
            break;
        default:
            kln_layer_need(layer, false,
                           "attribute \"%s\" is of kind %d, which is none of kiln_attribute_kind",
                           name, (int)attribute->kind);
    }
}

static void take_domain(kln_layer *layer, const char *domain, int32_t version)
{
    if (layer->status != KILN_OK || domain == NULL || domain[0] == '\0') {
        return;
    }
    kln_layer_need(layer, version >= 0, "version %d of domain \"%s\"; 0 or more is needed",
                   (int)version, domain);
    layer->domain = kln_arena_strdup(&layer->network->model->arena, domain);
    if (layer->domain == NULL) {
        layer->domain = "";
        kln_layer_fail(layer, KILN_ERROR_OUT_OF_MEMORY, "the name of a domain");
    } else if (layer->status == KILN_OK) {
        layer->status =
            kln_network_import(layer->network, layer->domain, version != 0 ? version : 1);
    }
}

kiln_status kiln_network_add_plugin(kiln_network *network, const char *name, const char *domain,
                                    int32_t version, const char *operation,
                                    const kiln_tensor_id *inputs, size_t input_count,
                                    const kiln_attribute *attributes, size_t attribute_count,
                                    kiln_tensor_id *outputs, size_t output_count)
{
    KLN_RETURN_IF_NULL(operation);
    KLN_RETURN_IF_NULL(outputs);
    if ((inputs == NULL && input_count != 0) || (attributes == NULL && attribute_count != 0)) {
        return kln_fail_null(__func__,
                             input_count != 0 && inputs == NULL ? "inputs" : "attributes");
    }
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, operation);
    kln_layer_need(&layer, operation[0] != '\0', "the operator has no name");
    take_domain(&layer, domain, version);
    for (size_t i = 0; layer.status == KILN_OK && i < input_count; i++) {
        kln_layer_optional(&layer, inputs[i]);
    }
    for (size_t i = 0; layer.status == KILN_OK && i < attribute_count; i++) {
        put_attribute(&layer, &attributes[i]);
    }
    if (layer.status == KILN_OK) {
        layer.op_type = kln_arena_strdup(&network->model->arena, operation);
        if (layer.op_type == NULL) {
            kln_layer_fail(&layer, KILN_ERROR_OUT_OF_MEMORY, "the name of an operator");
        }
    }
    kln_layer_need(&layer, output_count > 0, "it has no outputs");
    return kln_layer_finish(&layer, make_outputs(&layer, outputs, output_count), output_count);
}
