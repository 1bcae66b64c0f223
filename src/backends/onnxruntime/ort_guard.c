/* Models that would end the process inside ONNX Runtime are refused before it sees them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "network/kln_network.h"
#include "ort_engine.h"

#define DEEPEST 64

/* Whether the graph has an operator whose kernel does not check what it is given: the equation of
 * an Einsum is followed out of bounds. */
static bool has_trusting(const kln_onnx_graph *graph, int depth)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        if (strcmp(node->op_type, "Einsum") == 0) {
            return true;
        }
        for (size_t k = 0; k < node->attribute_count && depth < DEEPEST; k++) {
            const kln_onnx_attribute *attribute = &node->attributes[k];
            if (attribute->graph != NULL && has_trusting(attribute->graph, depth + 1)) {
                return true;
            }
        }
    }
    return false;
}

static kiln_status check_equations(const kln_onnx_model *model, const char *name)
{
    kln_inference *inference = NULL;
    bool trusting = has_trusting(&model->graph, 0);
    for (size_t i = 0; i < model->function_count; i++) {
        trusting = trusting || has_trusting(&model->functions[i].body, 0);
    }
    kiln_status status = trusting ? kln_infer(model, NULL, &inference) : KILN_OK;
    if (!trusting || status != KILN_OK) {
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    const kiln_issue_list *const lists[] = {inference->issues, inference->doubts};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(lists); k++) {
        for (size_t i = 0; i < kiln_issue_list_count(lists[k]) && status == KILN_OK; i++) {
            const kiln_issue *issue = kiln_issue_list_get(lists[k], i);
            if (strcmp(issue->tensor, "equation") == 0) {
                status = kln_fail(KILN_ERROR_INVALID_NETWORK, "\"%s\": %s", name, issue->sentence);
            }
        }
    }
    kln_inference_destroy(inference);
    return status;
}

kiln_status ort_guard(const kln_model *model)
{
    if (model->graph != NULL) {
        return check_equations(model->graph, kln_model_name(model));
    }
    kln_onnx_model *read = NULL;
    kiln_status status = kln_onnx_read_bytes(model->bytes, NULL, &read);
    if (status != KILN_OK) {
        /* ONNX Runtime has its own words for it. */
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    status = check_equations(read, kln_model_name(model));
    kln_onnx_model_destroy(read);
    return status;
}
