/* SPDX-License-Identifier: Apache-2.0 */
/* Control flow, and operators by name. */
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
    const size_t count = branch->graph->output_count + branch->refused_outputs;
    kln_layer_need(layer, count == outputs, "`%s` has %zu outputs, %zu are needed", what, count,
                   outputs);
    layer->is_refused |= branch->refused_outputs > 0;
}

kiln_status kiln_network_add_if(kiln_network *network, const char *name, kiln_tensor_id condition,
                                kiln_network *then, kiln_network *otherwise,
                                kiln_tensor_id *outputs, size_t count)
{
    KLN_RETURN_IF_NULL(outputs);
    KLN_LAYER(layer, network, name, "If", condition);
    kln_layer_need(&layer, count > 0, "it has no outputs");
    check_branch(&layer, then, "then", 0, count);
    check_branch(&layer, otherwise, "otherwise", 0, count);
    kln_layer_need(&layer, then != otherwise, "both branches are one");
    if (layer.status == KILN_OK) {
        kln_layer_graph(&layer, "then_branch", then->graph);
        kln_layer_graph(&layer, "else_branch", otherwise->graph);
    }
    KLN_RETURN_IF_ERROR(kln_layer_finish_all(&layer, outputs, count));
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
    KLN_FAIL_IF(carried == NULL && carried_count != 0, kln_fail_null(__func__, "carried"));
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
    if (layer.status == KILN_OK) {
        kln_layer_graph(&layer, "body", body->graph);
    }
    KLN_RETURN_IF_ERROR(kln_layer_finish_all(&layer, outputs, count));
    body->is_used = true;
    return KILN_OK;
}

/* --- any operator by name --- */

static void put_strings(kln_layer *layer, const char *name, const kiln_attribute *attribute)
{
    for (size_t i = 0; i < attribute->count; i++) {
        if (attribute->strings[i] == NULL && layer->status == KILN_OK) {
            layer->status = kln_fail_null(layer->function, "attributes[].strings[]");
        }
    }
    kln_layer_strings(layer, name, attribute->strings, attribute->count);
}

static void put_graph(kln_layer *layer, const char *name, kiln_network *branch)
{
    check_branch(layer, branch, name, branch->graph->input_count,
                 branch->graph->output_count + branch->refused_outputs);
    kln_layer_graph(layer, name, branch->graph);
}

/* What `kind` says that there is. */
static bool has_value(const kiln_attribute *attribute)
{
    switch (attribute->kind) {
        case KILN_ATTRIBUTE_STRING: return attribute->s != NULL;
        case KILN_ATTRIBUTE_INTS: return attribute->count == 0 || attribute->ints != NULL;
        case KILN_ATTRIBUTE_FLOATS: return attribute->count == 0 || attribute->floats != NULL;
        case KILN_ATTRIBUTE_STRINGS: return attribute->count == 0 || attribute->strings != NULL;
        case KILN_ATTRIBUTE_TENSOR: return attribute->tensor != NULL;
        case KILN_ATTRIBUTE_GRAPH: return attribute->graph != NULL;
        case KILN_ATTRIBUTE_INT:
        case KILN_ATTRIBUTE_FLOAT: break;
    }
    return true;
}

static void put_attribute(kln_layer *layer, const kiln_attribute *a)
{
    if (layer->status == KILN_OK && (a->name == NULL || !has_value(a))) {
        layer->status = kln_fail_null(layer->function, "attributes[].name or value");
    }
    if (layer->status != KILN_OK) {
        return;
    }
    const char *name = kln_layer_copy(layer, a->name, strlen(a->name) + 1);
    if (name == NULL) {
        return;
    }
    switch (a->kind) {
        case KILN_ATTRIBUTE_INT: kln_layer_int(layer, name, a->i); break;
        case KILN_ATTRIBUTE_FLOAT: kln_layer_float(layer, name, a->f); break;
        case KILN_ATTRIBUTE_STRING: kln_layer_string(layer, name, a->s); break;
        case KILN_ATTRIBUTE_INTS: kln_layer_ints(layer, name, a->ints, a->count); break;
        case KILN_ATTRIBUTE_FLOATS: kln_layer_floats(layer, name, a->floats, a->count); break;
        case KILN_ATTRIBUTE_STRINGS: put_strings(layer, name, a); break;
        case KILN_ATTRIBUTE_TENSOR: kln_layer_tensor_attribute(layer, name, a->tensor); break;
        case KILN_ATTRIBUTE_GRAPH: put_graph(layer, name, a->graph); break;
        default:
            kln_layer_need(layer, false,
                           "attribute \"%s\" is of kind %d, which is none of kiln_attribute_kind",
                           name, (int)a->kind);
    }
}

static void take_domain(kln_layer *layer, const char *domain, int32_t version)
{
    if (domain == NULL || kln_onnx_plain_domain(domain)[0] == '\0') {
        return;
    }
    kln_layer_need(layer, version >= 0, "version %d of domain \"%s\"; 0 or more is needed",
                   (int)version, domain);
    const char *copy = kln_layer_copy(layer, domain, strlen(domain) + 1);
    if (copy != NULL && layer->status == KILN_OK) {
        layer->domain = copy;
        layer->status = kln_network_import(layer->network, copy, version != 0 ? version : 1);
    }
}

static void put_attributes(kln_layer *layer, const kiln_attribute *attributes, size_t count)
{
    for (size_t i = 0; i < count && layer->status == KILN_OK; i++) {
        kiln_attribute read = KILN_ATTRIBUTE_INIT;
        layer->status = kln_options_read("kiln_attribute", &attributes[i], &read, sizeof read);
        put_attribute(layer, &read);
    }
}

kiln_status kiln_network_add_node(kiln_network *network, const char *name, const char *domain,
                                  int32_t version, const char *op_type,
                                  const kiln_tensor_id *inputs, size_t input_count,
                                  const kiln_attribute *attributes, size_t attribute_count,
                                  kiln_tensor_id *outputs, size_t output_count)
{
    KLN_RETURN_IF_NULL(op_type, outputs);
    KLN_FAIL_IF(
        (inputs == NULL && input_count != 0) || (attributes == NULL && attribute_count != 0),
        kln_fail_null(__func__, input_count != 0 && inputs == NULL ? "inputs" : "attributes"));
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, op_type);
    kln_layer_need(&layer, op_type[0] != '\0', "the operator has no name");
    kln_layer_need(&layer, output_count > 0, "it has no outputs");
    take_domain(&layer, domain, version);
    for (size_t i = 0; layer.status == KILN_OK && i < input_count; i++) {
        kln_layer_optional(&layer, inputs[i]);
    }
    put_attributes(&layer, attributes, attribute_count);
    const char *copy = kln_layer_copy(&layer, op_type, strlen(op_type) + 1);
    layer.op_type = copy != NULL ? copy : "";
    KLN_RETURN_IF_ERROR(kln_layer_finish_all(&layer, outputs, output_count));
    for (size_t i = 0; i < attribute_count; i++) {
        if (attributes[i].kind == KILN_ATTRIBUTE_GRAPH) {
            attributes[i].graph->is_used = true;
        }
    }
    return KILN_OK;
}
