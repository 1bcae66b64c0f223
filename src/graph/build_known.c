/* SPDX-License-Identifier: Apache-2.0 */
/* Inference of a growing network: each layer is inferred when it is added. */
#include "build_layer.h"

kln_built_tensor *kln_network_tensor(const kiln_network *network, kiln_tensor_id id)
{
    if (id < 0 || id >> KLN_ID_BITS != network->number ||
        (size_t)(id & KLN_ID_MASK) >= network->tensor_count) {
        return NULL;
    }
    return &network->tensors[id & KLN_ID_MASK];
}

void kln_network_forget(kiln_network *network)
{
    kiln_network *root = network->root;
    kln_inference_destroy(root->inference);
    root->inference = NULL;
    for (kiln_network *each = root; each != NULL;
         each = each == root ? root->branches : each->next) {
        each->known = NULL;
        each->is_known = false;
        for (size_t i = 0; i < each->tensor_count; i++) {
            each->tensors[i].value = NULL;
        }
    }
}

static kiln_status know_one(kiln_network *network)
{
    kiln_network *root = network->root;
    if (network->known != NULL) {
        return kln_infer_more(root->inference, network->known);
    }
    if (network->parent != NULL) {
        return kln_infer_branch(root->inference, network->graph, network->parent->known,
                                &network->known);
    }
    KLN_RETURN_IF_ERROR(kln_infer(root->model, NULL, &root->inference));
    root->known = root->inference->graph;
    /* Faults of a file are left to validation. */
    kln_issues_cut(root->inference->issues, 0);
    kln_issues_cut(root->inference->doubts, 0);
    return KILN_OK;
}

kiln_status kln_network_know(kiln_network *network)
{
    const kiln_network *done = NULL;
    while (done != network) { /* from the outside in */
        kiln_network *next = network;
        while (next->parent != done) {
            next = next->parent;
        }
        const kiln_status status = know_one(next);
        if (status != KILN_OK) {
            kln_network_forget(network);
            return status;
        }
        done = next;
    }
    return KILN_OK;
}

kiln_status kln_network_value(kiln_network *network, kiln_tensor_id id, const kln_value **value)
{
    kln_built_tensor *tensor = kln_network_tensor(network, id);
    *value = NULL;
    if (tensor == NULL || tensor->is_refused) {
        return KILN_OK;
    }
    if (tensor->value == NULL) {
        KLN_RETURN_IF_ERROR(kln_network_know(network));
        tensor->place = kln_names_get(&network->known->names, tensor->name);
        tensor->value = tensor->place != KLN_NAMES_NONE
                            ? network->known->values[tensor->place]
                            : kln_inference_find(network->known, tensor->name);
    }
    *value = tensor->value;
    return KILN_OK;
}

kln_known kln_known_of(const char *name, const kln_value *value)
{
    kln_known known = {name, KILN_DTYPE_UNDEFINED, KLN_RANK_OPEN};
    if (value != NULL && value->kind == KLN_ONNX_KIND_TENSOR) {
        known.dtype = value->dtype;
        known.rank =
            value->has_shape && value->rank <= KILN_MAX_RANK ? (int32_t)value->rank : KLN_RANK_OPEN;
    }
    return known;
}

kiln_status kiln_network_tensor_type(kiln_network *network, kiln_tensor_id tensor,
                                     kiln_dtype *dtype, kiln_shape *shape)
{
    KLN_RETURN_IF_NULL(network, dtype, shape);
    *dtype = KILN_DTYPE_UNDEFINED;
    *shape = (kiln_shape){.rank = -1};
    const kln_built_tensor *built = kln_network_tensor(network, tensor);
    const kln_value *value = NULL;
    KLN_RETURN_IF(built == NULL, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_network_tensor_type: %d is no tensor of this network", (int)tensor);
    KLN_RETURN_IF_ERROR(kln_network_value(network, tensor, &value));
    *dtype = kln_known_of(built->name, value).dtype;
    if (value != NULL && value->kind == KLN_ONNX_KIND_TENSOR) {
        (void)kln_value_shape(value, shape);
    }
    return KILN_OK;
}
