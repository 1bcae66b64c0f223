/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_precision.h"

struct kiln_precision_report {
    kln_arena arena;
    kiln_precision_summary summary;
    kiln_precision_node *nodes;
    size_t capacity;
};

static const char *const reasons[] = {
    "converted",
    "no floating-point type is involved",
    "its operator does not take the type in this operator set",
    "its operator or a type is not known",
    "stays: its operator loses too much",
    "stays, as was asked",
    "stays: the range of a tensor is too wide",
    "stays: positions and sizes are whole numbers",
    "stays: sums squares",
    "stays: a loop carries float32",
    "stays: the range of a tensor is not known",
    "stays: its weights are no constants",
    "is part of the convolution before it",
    "stays: a gate of one number for each channel",
};

const char *kiln_precision_reason_text(kiln_precision_reason reason)
{
    return (size_t)reason < KLN_ARRAY_LENGTH(reasons) ? reasons[reason] : "?";
}

kiln_status kln_precision_report_create(kiln_precision_report **report)
{
    *report = kln_alloc_zeroed(1, sizeof **report);
    if (*report == NULL) {
        return kln_fail_memory(sizeof **report, "a report");
    }
    kln_arena_init(&(*report)->arena);
    (*report)->summary.struct_size = sizeof(*report)->summary;
    return KILN_OK;
}

void kiln_precision_report_destroy(kiln_precision_report *report)
{
    if (report != NULL) {
        kln_arena_finish(&report->arena);
        kln_free(report);
    }
}

uint64_t kln_precision_constant_bytes(const kln_onnx_graph *graph)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        bytes += graph->initializers[i].data.size;
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_attribute *value = kln_onnx_find_attribute(&graph->nodes[i], "value");
        bytes += value != NULL && value->tensor != NULL ? value->tensor->data.size : 0;
    }
    return bytes;
}

kiln_precision_summary *kln_precision_report_totals(kiln_precision_report *report)
{
    return &report->summary;
}

kiln_status kln_precision_report_add(kiln_precision_report *report, const kiln_precision_node *node)
{
    kiln_precision_node copy = *node;
    const char **const texts[] = {&copy.name, &copy.operator_type, &copy.graph, &copy.output,
                                  &copy.detail};
    KLN_RETURN_IF_ERROR(kln_array_grow(&report->arena, &report->nodes, report->summary.node_count,
                                       &report->capacity, sizeof copy));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(texts); i++) {
        *texts[i] = kln_arena_strdup(&report->arena, *texts[i]);
        if (*texts[i] == NULL) {
            return kln_fail_memory(sizeof copy, "a report");
        }
    }
    report->nodes[report->summary.node_count++] = copy;
    return KILN_OK;
}

const char *kln_precision_report_first_reason(const kiln_precision_report *report)
{
    for (size_t i = 0; i < report->summary.node_count; i++) {
        const kiln_precision_node *node = &report->nodes[i];
        if (node->reason != KILN_PRECISION_CONVERTED && node->reason != KILN_PRECISION_NO_FLOATS) {
            return kiln_precision_reason_text(node->reason);
        }
    }
    return "";
}

kiln_status kiln_precision_report_summary(const kiln_precision_report *report,
                                          kiln_precision_summary *summary)
{
    KLN_RETURN_IF_NULL(report);
    return kln_info_write(__func__, summary, &report->summary, sizeof report->summary);
}

kiln_status kiln_precision_report_node(const kiln_precision_report *report, size_t index,
                                       kiln_precision_node *node)
{
    KLN_RETURN_IF_NULL(report);
    if (index >= report->summary.node_count) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_precision_report_node: index is %zu, there are %zu nodes", index,
                        report->summary.node_count);
    }
    return kln_info_write(__func__, node, &report->nodes[index], sizeof report->nodes[index]);
}
