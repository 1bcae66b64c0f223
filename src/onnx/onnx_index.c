/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_onnx.h"

void kln_onnx_index_finish(kln_onnx_index *index)
{
    kln_keys_finish(&index->opsets);
    kln_keys_finish(&index->functions);
}

static kln_key opset_key(const char *domain, size_t owner)
{
    return (kln_key){.text = {kln_onnx_plain_domain(domain), "", ""}, .number = (int64_t)owner};
}

static kln_key function_key(const char *domain, const char *name, const char *overload)
{
    return (kln_key){
        .text = {kln_onnx_plain_domain(domain), name, overload != NULL ? overload : ""}};
}

static kiln_status add(kln_keys *keys, const kln_key *key, size_t place)
{
    return kln_keys_get(keys, key) != KLN_NAMES_NONE ? KILN_OK
                                                     : kln_keys_set(keys, key, (uint32_t)place);
}

static kiln_status add_function(kln_onnx_index *index, size_t place)
{
    const kln_onnx_function *function = &index->model->functions[place];
    const kln_key name = function_key(function->domain, function->name, function->overload);
    KLN_RETURN_IF_ERROR(add(&index->functions, &name, place));
    for (size_t i = 0; i < function->opset_count; i++) {
        const kln_key key = opset_key(function->opsets[i].domain, place + 1);
        KLN_RETURN_IF_ERROR(add(&index->opsets, &key, i));
    }
    return KILN_OK;
}

kiln_status kln_onnx_index_update(kln_onnx_index *index)
{
    const kln_onnx_model *model = index->model;
    for (; index->opsets_done < model->opset_count; index->opsets_done++) {
        const kln_key key = opset_key(model->opsets[index->opsets_done].domain, 0);
        KLN_RETURN_IF_ERROR(add(&index->opsets, &key, index->opsets_done));
    }
    for (; index->functions_done < model->function_count; index->functions_done++) {
        KLN_RETURN_IF_ERROR(add_function(index, index->functions_done));
    }
    return KILN_OK;
}

int64_t kln_onnx_index_opset(const kln_onnx_index *index, const kln_onnx_function *function,
                             const char *domain)
{
    const size_t owner = function != NULL ? (size_t)(function - index->model->functions) + 1 : 0;
    const kln_key key = opset_key(domain, owner);
    const uint32_t place = kln_keys_get(&index->opsets, &key);
    const kln_onnx_opset *opsets = function != NULL ? function->opsets : index->model->opsets;
    return place != KLN_NAMES_NONE ? opsets[place].version : 0;
}

const kln_onnx_function *kln_onnx_index_function(const kln_onnx_index *index,
                                                 const kln_onnx_node *node)
{
    if (index->model->function_count == 0) {
        return NULL;
    }
    const kln_key key = function_key(node->domain, node->op_type, node->overload);
    const uint32_t place = kln_keys_get(&index->functions, &key);
    return place != KLN_NAMES_NONE ? &index->model->functions[place] : NULL;
}
