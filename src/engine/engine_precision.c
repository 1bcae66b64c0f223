/* SPDX-License-Identifier: Apache-2.0 */
/* Converts a model to another precision on its way to a backend. */
#include "kln_engine.h"
#include "precision/kln_precision.h"

/* Nodes that stay in float32 are not a failure, but worth a log message. */
static void tell(const char *source, const kiln_precision_report *report)
{
    kiln_precision_summary totals = {.struct_size = sizeof totals};
    if (kiln_precision_report_summary(report, &totals) != KILN_OK) {
        return;
    }
    kln_log(KILN_LOG_INFO, "precision",
            "%s: %zu nodes of %zu converted, %zu more by `rest`, %zu stay in float32, %zu casts; "
            "weights: %llu bytes, %llu before; %llu numbers saturated, %llu became zero",
            source, totals.converted_count, totals.node_count, totals.rest_count, totals.kept_count,
            totals.cast_count, (unsigned long long)totals.bytes_after,
            (unsigned long long)totals.bytes_before, (unsigned long long)totals.saturated,
            (unsigned long long)totals.vanished);
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

/* Makes a model of the same content that can be changed. */
static kiln_status share(const kiln_model *model, kln_onnx_model **shared)
{
    return model->graph != NULL ? kln_onnx_model_share(model->graph, shared)
                                : kln_model_read_anew(model, shared);
}

static kiln_status split_products(const kiln_model *model, kiln_split split,
                                  kln_onnx_model **converted)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *made = NULL;
    size_t count = 0;
    if (split == KILN_SPLIT_NONE) {
        return KILN_OK;
    }
    kiln_status status = share(model, &made);
    KLN_THEN(status, kln_split_products(made, split == KILN_SPLIT_FEW, &count));
    KLN_RETURN_WITHIN(status, "%s", kln_model_name(model));
    KLN_FAIL_IF(
        count == 0,
        kln_fail(KILN_ERROR_UNSUPPORTED,
                 "%s: no product of float32 (MatMul, or Gemm with constants) is there to be "
                 "split; leave \"split_products\" out",
                 kln_model_name(model)));
    kln_log(KILN_LOG_INFO, "precision", "%s: %zu products of float32 are split",
            kln_model_name(model), count);
    *converted = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kln_engine_convert(const kiln_model *model, const kiln_build_options *options,
                               kln_onnx_model **converted, kiln_precision_report **report)
{
    kiln_precision_options how = KILN_PRECISION_OPTIONS_INIT;
    KLN_SCOPED(kiln_range_table_destroy_at) kiln_range_table *ranges = NULL;
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *made = NULL;
    *converted = NULL;
    *report = NULL;
    if (options->precision == KILN_PRECISION_DEFAULT) {
        const char *useless = options->precision_strict ? "precision_strict"
                              : options->precision_rest != KILN_PRECISION_DEFAULT ? "precision_rest"
                              : options->ranges != NULL                           ? "ranges"
                                                                                  : NULL;
        return useless == NULL
                   ? split_products(model, options->split_products, converted)
                   : kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                              "kiln_build_options: %s: it goes with precision, which is not set",
                              useless);
    }
    KLN_RETURN_IF(options->split_products != KILN_SPLIT_NONE, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_options: \"split_products\" is set with a \"precision\"; products "
                  "of float32 are split where a model stays in float32");
    how.precision = options->precision;
    how.rest = options->precision_rest;
    if (options->ranges != NULL) {
        KLN_RETURN_IF_ERROR(kiln_range_table_load(options->ranges, &ranges));
    }
    how.ranges = ranges;
    kiln_status status = share(model, &made);
    KLN_THEN(status, kln_precision_convert(made, &how, report));
    KLN_RETURN_WITHIN(status, "%s", kln_model_name(model));
    tell(kln_model_name(model), *report);
    *converted = KLN_TAKE(made);
    return KILN_OK;
}

/* --- achieved precision --- */

static const char *name_of(const kiln_precision_node *node)
{
    return node->name[0] != '\0' ? node->name : node->output;
}

/* Logs every node that missed its precision, and writes the first few to `text`. */
static kiln_status list_missed(const kiln_precision_report *report, kln_text *text)
{
    kiln_precision_summary totals = {.struct_size = sizeof totals};
    kiln_precision_node node = {.struct_size = sizeof node};
    size_t listed = 0;
    KLN_RETURN_IF_ERROR(kiln_precision_report_summary(report, &totals));
    for (size_t i = 0; i < totals.node_count; i++) {
        KLN_RETURN_IF_ERROR(kiln_precision_report_node(report, i, &node));
        if (node.achieved == KILN_DTYPE_UNDEFINED || node.achieved == node.dtype) {
            continue;
        }
        kln_log(KILN_LOG_INFO, "precision", "node \"%s\" (%s) computes in %s, not %s: layer \"%s\"",
                name_of(&node), node.operator_type, kiln_dtype_name(node.achieved),
                kiln_dtype_name(node.dtype), node.layer);
        if (listed++ < 5) {
            KLN_RETURN_IF_ERROR(kln_text_printf(
                text, "%s\"%.200s\" (%s instead of %s)", listed > 1 ? ", " : "", name_of(&node),
                kiln_dtype_name(node.achieved), kiln_dtype_name(node.dtype)));
        }
    }
    return listed > 5 ? kln_text_printf(text, " and others") : KILN_OK;
}

static kiln_status add_layer(void *user, const kiln_layer_types *layer)
{
    return kln_precision_report_layer(user, layer);
}

/* If the backend does not report layer types, only a strict build fails. */
static kiln_status read_back(const kiln_engine *engine, bool strict, kiln_precision_report *report)
{
    const kiln_plan_table *plan = engine->shared.backend->plan;
    const kiln_layer_listener listener = {add_layer, report};
    kln_message before;
    kln_message_keep(&before);
    const kiln_status status =
        plan != NULL ? plan->layer_types(engine->shared.state, &listener) : KILN_OK;
    kln_precision_report_count(report);
    if (strict || (status != KILN_ERROR_UNSUPPORTED && status != KILN_ERROR_STATE)) {
        return status == KILN_OK
                   ? KILN_OK
                   : kln_fail_within(status, "what the layers compute in cannot be read back");
    }
    kln_log(KILN_LOG_INFO, "precision", "what the layers compute in cannot be read back: %s",
            kiln_error_message());
    kln_message_restore(&before);
    return KILN_OK;
}

kiln_status kln_engine_achieve(kiln_engine *engine, kiln_precision_report *report, bool strict)
{
    engine->precision = report;
    kiln_precision_summary totals = {.struct_size = sizeof totals};
    KLN_RETURN_IF_ERROR(read_back(engine, strict, report));
    KLN_RETURN_IF_ERROR(kiln_precision_report_summary(report, &totals));
    if (totals.missed_count == 0) {
        return KILN_OK;
    }
    KLN_SCOPED(kln_text_finish) kln_text text = {0};
    kln_text_init(&text, SIZE_MAX);
    kiln_status status = list_missed(report, &text);
    if (status == KILN_OK && strict) {
        status = kln_fail(
            KILN_ERROR_UNSUPPORTED,
            "no kernel of the type that was asked for computes %zu of %zu nodes: %s; keep them as "
            "they were, or leave precision_strict out",
            totals.missed_count, totals.missed_count + totals.achieved_count, text.data);
    } else if (status == KILN_OK) {
        kln_log(KILN_LOG_WARNING, "precision",
                "%s: no kernel of the type that was asked for computes %zu of %zu nodes: %s",
                engine->source, totals.missed_count, totals.missed_count + totals.achieved_count,
                text.data);
    }
    return status;
}

const kiln_precision_report *kiln_engine_precision(const kiln_engine *engine)
{
    return engine != NULL ? engine->precision : NULL;
}
