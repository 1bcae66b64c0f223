/* SPDX-License-Identifier: Apache-2.0 */
/* Models: what is read is inferred and validated without a crash, in bounded memory, and what is
 * known afterwards keeps its rules. */
#include "fuzz_parts.h"
#include "graph/kln_graph.h"

#define MODEL_LARGEST ((size_t)1 << 16)
/* Far above what a model of that size takes, and far below what would be a way to exhaust memory.
 */
#define MEMORY_LARGEST ((size_t)1 << 28)

static void check_value(const kln_value *value)
{
    char text[64];
    (void)kln_value_format(value, text, sizeof text);
    for (size_t i = 0; value->has_shape && i < value->rank; i++) {
        const kln_dim dim = value->dims[i];
        FAULT_IF(dim.kind == KLN_DIM_REAL || (dim.kind == KLN_DIM_NUMBER && dim.of.number < 0));
    }
}

static void check_graph(const kln_graph_inference *graph)
{
    for (size_t i = 0; i < graph->value_count; i++) {
        check_value(graph->values[i]);
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->graph->nodes[i];
        for (size_t k = 0; k < node->input_count + node->output_count; k++) {
            const uint32_t index = k < node->input_count
                                       ? graph->nodes[i].inputs[k]
                                       : graph->nodes[i].outputs[k - node->input_count];
            FAULT_IF(index != KLN_NO_VALUE && index >= graph->value_count);
        }
    }
}

static void check_issues(const kiln_issue_list *issues)
{
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, i);
        FAULT_IF(issue->sentence[0] == '\0' || strlen(issue->sentence) > 1000);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kln_onnx_model *model = NULL;
    kln_inference *inference = NULL;
    kiln_issue_list *issues = NULL;
    if (size > MODEL_LARGEST ||
        kln_onnx_read_bytes((kiln_span){data, size}, NULL, &model) != KILN_OK) {
        return 0;
    }
    kiln_status status = kln_infer(model, NULL, &inference);
    if (status == KILN_OK) {
        check_graph(inference->graph);
        FAULT_IF(inference->arena.bytes > MEMORY_LARGEST);
        status = kln_validate_inference(inference, NULL, &issues);
        check_issues(issues);
    }
    FAULT_IF(status != KILN_OK && kiln_error_message()[0] == '\0');
    kiln_issue_list_destroy(issues);
    kln_inference_destroy(inference);
    kln_onnx_model_destroy(model);
    return 0;
}
