/* SPDX-License-Identifier: Apache-2.0 */
#define KILN_UNSTABLE_API
#include <kiln/unstable/backend_table.h>

#include "kln_precision.h"

struct kiln_precision_report {
    kln_arena arena;
    kiln_precision_summary summary;
    kiln_precision_node *nodes;
    size_t capacity;
    kln_names places; /* index of nodes by name, built at the first search */
    bool has_places;
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
    "stays: it costs more to feed it in eight bits than they save",
    "stays: its kernel reads eight bits and computes in float32",
    "its operator is none that is quantized",
};

const char *kiln_precision_reason_text(kiln_precision_reason reason)
{
    return (size_t)reason < KLN_ARRAY_LENGTH(reasons) ? reasons[reason] : "?";
}

kiln_status kln_precision_report_create(kiln_precision_report **report)
{
    KLN_NEW(*report, 1, "a report");
    (*report)->summary.struct_size = sizeof(*report)->summary;
    return KILN_OK;
}

void kiln_precision_report_destroy(kiln_precision_report *report)
{
    if (report != NULL) {
        if (report->has_places) {
            kln_names_finish(&report->places);
        }
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
    copy.layer = "";
    const char **const texts[] = {&copy.name,   &copy.operator_type, &copy.graph,
                                  &copy.output, &copy.detail,        &copy.layer};
    KLN_RETURN_IF_ERROR(
        KLN_GROW(&report->arena, report->nodes, report->summary.node_count, report->capacity));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(texts); i++) {
        *texts[i] = kln_arena_strdup(&report->arena, *texts[i]);
        KLN_RETURN_IF_NO_MEMORY(*texts[i], sizeof copy, "a report");
    }
    report->nodes[report->summary.node_count++] = copy;
    report->summary.multiplications += copy.multiplications;
    report->summary.converted_multiplications +=
        copy.reason == KILN_PRECISION_CONVERTED ? copy.multiplications : 0;
    return KILN_OK;
}

/* --- nodes by name --- */

/* If several nodes share a name, the first keeps it (kln_precision_named). */
static kiln_status put_place(kiln_precision_report *report, const char *name, size_t index)
{
    return name[0] == '\0' || kln_names_get(&report->places, name) != KLN_NAMES_NONE
               ? KILN_OK
               : kln_names_set(&report->places, name, (uint32_t)index);
}

static kiln_status make_places(kiln_precision_report *report)
{
    if (report->has_places) {
        return KILN_OK;
    }
    report->has_places = true;
    for (size_t i = 0; i < report->summary.node_count; i++) {
        const kiln_precision_node *node = &report->nodes[i];
        KLN_RETURN_IF_ERROR(
            put_place(report, node->name[0] != '\0' ? node->name : node->output, i));
    }
    return KILN_OK;
}

static kiln_precision_node *find_node(kiln_precision_report *report, const char *name)
{
    const uint32_t place = kln_names_get(&report->places, name);
    return place != KLN_NAMES_NONE ? &report->nodes[place] : NULL;
}

kiln_status kln_precision_report_rest(kiln_precision_report *report,
                                      const kiln_precision_report *rest)
{
    KLN_SCOPED(kln_names_finish) kln_names outputs = {0};
    for (size_t i = 0; i < report->summary.node_count; i++) {
        const kiln_precision_node *node = &report->nodes[i];
        if (node->dtype == KILN_DTYPE_FLOAT32 && node->output[0] != '\0') {
            KLN_RETURN_IF_ERROR(kln_names_set(&outputs, node->output, (uint32_t)i));
        }
    }
    for (size_t i = 0; i < rest->summary.node_count; i++) {
        const kiln_precision_node *said = &rest->nodes[i];
        const uint32_t place =
            said->graph[0] == '\0' ? kln_names_get(&outputs, said->output) : KLN_NAMES_NONE;
        if (place == KLN_NAMES_NONE) {
            continue;
        }
        kiln_precision_node *node = &report->nodes[place];
        node->dtype = said->dtype;
        if (said->reason == KILN_PRECISION_CONVERTED) {
            report->summary.rest_count++;
            report->summary.kept_count--;
            continue;
        }
        report->summary.kept_count -= said->dtype != KILN_DTYPE_FLOAT32;
        node->reason = said->reason;
        node->detail = kln_arena_strdup(&report->arena, said->detail);
        KLN_RETURN_IF_ERROR(node->detail != NULL ? KILN_OK
                                                 : kln_fail_memory(sizeof *node, "a report"));
    }
    return KILN_OK;
}

/* --- types that layers compute in --- */

#define BIT(dtype) (UINT64_C(1) << (dtype))
#define EIGHT_OR_LESS (BIT(KILN_DTYPE_INT8) | BIT(KILN_DTYPE_FLOAT8E4M3) | BIT(KILN_DTYPE_INT4))

/* A quantized node counts as met if its layer reads the type. A node in a half type may also be
 * fused into a quantized layer. */
static bool is_met(kiln_dtype asked, const kiln_layer_types *layer)
{
    return asked == KILN_DTYPE_FLOAT16 || asked == KILN_DTYPE_BFLOAT16
               ? ((layer->reads | layer->gives) & (BIT(asked) | EIGHT_OR_LESS)) != 0
               : (layer->reads & BIT(asked)) != 0;
}

/* The widest floating-point type that the layer reads or writes, which is taken as the one it
 * computed in; UNDEFINED if there is none. */
static kiln_dtype widest(const kiln_layer_types *layer)
{
    static const kiln_dtype types[] = {KILN_DTYPE_FLOAT32, KILN_DTYPE_BFLOAT16, KILN_DTYPE_FLOAT16};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        if (((layer->reads | layer->gives) & BIT(types[i])) != 0) {
            return types[i];
        }
    }
    return KILN_DTYPE_UNDEFINED;
}

/* Whether the layer contains nodes that the report lacks, such as inserted casts: with casts of its
 * own, a layer that reads and writes only float32 may still compute in a half type. */
static bool has_others(kiln_precision_report *report, const kiln_layer_types *layer)
{
    bool others = false;
    for (size_t i = 0; i < layer->node_count; i++) {
        others = others || find_node(report, layer->nodes[i]) == NULL;
    }
    return others;
}

kiln_status kln_precision_report_layer(kiln_precision_report *report, const kiln_layer_types *layer)
{
    KLN_RETURN_IF_ERROR(make_places(report));
    for (size_t i = 0; i < layer->node_count; i++) {
        kiln_precision_node *node = find_node(report, layer->nodes[i]);
        const bool asked = node != NULL && node->dtype != KILN_DTYPE_UNDEFINED &&
                           node->dtype != KILN_DTYPE_FLOAT32 && node->achieved != node->dtype;
        const bool is_half =
            asked && (node->dtype == KILN_DTYPE_FLOAT16 || node->dtype == KILN_DTYPE_BFLOAT16);
        const bool met = asked && is_met(node->dtype, layer);
        const kiln_dtype found = met ? node->dtype : widest(layer);
        if (!asked || found == KILN_DTYPE_UNDEFINED ||
            (!met &&
             (node->achieved != KILN_DTYPE_UNDEFINED || (is_half && has_others(report, layer))))) {
            continue;
        }
        node->achieved = found;
        node->layer = kln_arena_strdup(&report->arena, layer->name);
        KLN_RETURN_IF_NO_MEMORY(node->layer, sizeof *node, "a report");
    }
    return KILN_OK;
}

void kln_precision_report_count(kiln_precision_report *report)
{
    report->summary.achieved_count = report->summary.missed_count = 0;
    for (size_t i = 0; i < report->summary.node_count; i++) {
        const kiln_precision_node *node = &report->nodes[i];
        const bool told = node->achieved != KILN_DTYPE_UNDEFINED;
        report->summary.achieved_count += told && node->achieved == node->dtype;
        report->summary.missed_count += told && node->achieved != node->dtype;
    }
}

/* --- reading --- */

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
    KLN_RETURN_IF(index >= report->summary.node_count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_report_node: index is %zu, there are %zu nodes", index,
                  report->summary.node_count);
    return kln_info_write(__func__, node, &report->nodes[index], sizeof report->nodes[index]);
}
