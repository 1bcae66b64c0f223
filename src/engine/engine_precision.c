/* SPDX-License-Identifier: Apache-2.0 */
/* A model in another precision on its way to a backend. */
#include "kln_engine.h"
#include "precision/kln_precision.h"

/* What stays in float32 is no failure, but nothing that one should not hear of. */
static void tell(const char *source, const kiln_precision_report *report)
{
    kiln_precision_summary totals = {.struct_size = sizeof totals};
    if (kiln_precision_report_summary(report, &totals) != KILN_OK) {
        return;
    }
    kln_log(KILN_LOG_INFO, "precision",
            "%s: %zu nodes of %zu converted, %zu stay in float32, %zu casts; weights: %llu bytes, "
            "%llu before; %llu numbers saturated, %llu became zero",
            source, totals.converted_count, totals.node_count, totals.kept_count, totals.cast_count,
            (unsigned long long)totals.bytes_after, (unsigned long long)totals.bytes_before,
            (unsigned long long)totals.saturated, (unsigned long long)totals.vanished);
    for (size_t i = 0; i < totals.node_count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        if (kiln_precision_report_node(report, i, &node) == KILN_OK &&
            node.dtype == KILN_DTYPE_FLOAT32) {
            kln_log(KILN_LOG_DEBUG, "precision", "%s: node \"%s\" (%s) %s%s%s", source,
                    node.name[0] != '\0' ? node.name : node.output, node.operator_type,
                    kiln_precision_reason_text(node.reason), node.detail[0] != '\0' ? ": " : "",
                    node.detail);
        }
    }
}

kiln_status kln_engine_convert(const kiln_model *model, const kiln_build_options *options,
                               kln_onnx_model **converted)
{
    kiln_precision_options how = KILN_PRECISION_OPTIONS_INIT;
    kiln_precision_report *report = NULL;
    kiln_range_table *ranges = NULL;
    kln_onnx_model *made = NULL;
    *converted = NULL;
    if (options->precision == KILN_PRECISION_DEFAULT) {
        return KILN_OK;
    }
    how.precision = options->precision;
    how.rest = options->precision_rest;
    if (options->ranges != NULL) {
        KLN_RETURN_IF_ERROR(kiln_range_table_load(options->ranges, &ranges));
    }
    how.ranges = ranges;
    kiln_status status = model->graph != NULL ? kln_onnx_model_share(model->graph, &made)
                                              : kln_model_read_anew(model, &made);
    status = status == KILN_OK ? kln_precision_convert(made, &how, &report) : status;
    kiln_range_table_destroy(ranges);
    if (status != KILN_OK) {
        kln_onnx_model_destroy(made);
        return kln_fail_within(status, "%s", kln_model_name(model));
    }
    tell(kln_model_name(model), report);
    kiln_precision_report_destroy(report);
    *converted = made;
    return KILN_OK;
}
