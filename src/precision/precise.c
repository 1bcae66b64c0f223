/* SPDX-License-Identifier: Apache-2.0 */
#include "precise_parts.h"
#include "quantize_parts.h"

/* https://en.wikipedia.org/wiki/Half-precision_floating-point_format and
 * https://en.wikipedia.org/wiki/Bfloat16_floating-point_format */
static void set_type(precise_pass *pass)
{
    const bool is_fp16 = pass->options->precision == KILN_PRECISION_FP16;
    pass->half = is_fp16 ? KILN_DTYPE_FLOAT16 : KILN_DTYPE_BFLOAT16;
    pass->half_wire = kln_onnx_wire_dtype(pass->half);
    pass->half_name = kiln_dtype_name(pass->half);
    pass->half_most = is_fp16 ? 65504.0 : 0x1.fep127;
    pass->half_least = is_fp16 ? 0x1p-14 : 0x1p-126;
}

/* --- options --- */

static bool is_half(kiln_precision precision)
{
    return precision == KILN_PRECISION_FP16 || precision == KILN_PRECISION_BF16;
}

static kiln_status check_options(const kiln_precision_options *options)
{
    if (options->keep_operator_count != 0) {
        KLN_RETURN_IF_NULL(options->keep_operators);
    }
    if (options->keep_node_count != 0) {
        KLN_RETURN_IF_NULL(options->keep_nodes);
    }
    if ((options->precision != KILN_PRECISION_DEFAULT || options->binding_count == 0) &&
        (options->precision < KILN_PRECISION_FP16 || options->precision > KILN_PRECISION_INT4)) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_precision_options: precision is %d; 1 (fp16) to 5 (int4) is needed, "
                        "or 0 beside bindings",
                        (int)options->precision);
    }
    if (options->rest != KILN_PRECISION_DEFAULT &&
        (!is_half(options->rest) || is_half(options->precision))) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_precision_options.rest goes with int8, fp8 and int4, and is fp16 (1) "
                        "or bf16 (2): it is %d, and the precision %d",
                        (int)options->rest, (int)options->precision);
    }
    if (options->block_size != 0 && options->block_size != 16 && options->block_size != 32 &&
        options->block_size != 64 && options->block_size != 128) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_precision_options: block_size is %d; 16, 32, 64 or 128 is needed",
                        (int)options->block_size);
    }
    const bool has_blocks = options->precision == KILN_PRECISION_INT4;
    KLN_RETURN_IF(options->zero_points && !has_blocks, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_options.zero_points is for int4 weights alone");
    KLN_RETURN_IF(options->block_size != 0 && !has_blocks, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_options.block_size is for int4 weights alone");
    KLN_RETURN_IF(options->reduce_range && options->precision != KILN_PRECISION_INT8,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_options.reduce_range is for int8 alone");
    return KILN_OK;
}

/* --- report --- */

static kiln_status report_node(const precise_pass *pass, const precise_graph *graph, size_t index)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    const precise_node *decided = &graph->nodes[index];
    kiln_precision_summary *totals = kln_precision_report_totals(pass->report);
    kiln_precision_node line = {
        .struct_size = sizeof line,
        .name = node->name,
        .operator_type = node->op_type,
        .graph = graph->label,
        .output = node->output_count != 0 ? node->outputs[0] : "",
        .dtype = decided->is_half                              ? pass->half
                 : decided->reason == KILN_PRECISION_NO_FLOATS ? KILN_DTYPE_UNDEFINED
                                                               : KILN_DTYPE_FLOAT32,
        .reason = decided->reason,
        .detail = decided->detail,
        .multiplications = kln_precision_multiplications(node, graph->known)};
    totals->converted_count += decided->is_half;
    totals->kept_count += !decided->is_half && decided->reason != KILN_PRECISION_NO_FLOATS;
    return kln_precision_report_add(pass->report, &line);
}

static kiln_status fill_report(const precise_pass *pass)
{
    kiln_precision_summary *totals = kln_precision_report_totals(pass->report);
    totals->precision = pass->options->precision;
    /* The list starts with the innermost graphs. */
    for (const precise_graph *g = pass->graphs; g != NULL; g = g->next) {
        totals->bytes_before += kln_precision_constant_bytes(g->graph);
        totals->bytes_after += kln_precision_constant_bytes(g->made);
        for (size_t i = 0; i < g->graph->node_count; i++) {
            KLN_RETURN_IF_ERROR(report_node(pass, g, i));
        }
    }
    return KILN_OK;
}

/* A conversion that converts nothing is an error, not a success. */
static kiln_status check_achieved(const precise_pass *pass)
{
    const kiln_precision_summary *totals = kln_precision_report_totals(pass->report);
    if (totals->converted_count != 0 || totals->kept_count == 0) {
        return KILN_OK;
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "none of the %zu nodes that compute in float32 can do so in %s: %s; the model "
                    "has operator set %lld",
                    totals->kept_count, pass->half_name,
                    kln_precision_report_first_reason(pass->report),
                    (long long)kln_onnx_opset_version(pass->model, ""));
}

/* A model whose operators are all from other domains does not import ONNX's own operator set,
 * which Cast needs. IR version 7 came with operator set 12, version 3 with 8
 * (onnx/docs/Versioning.md). */
static kiln_status import_casts(kln_onnx_model *model)
{
    return kln_onnx_import(model, "", model->ir_version >= 7 ? 12 : 8);
}

/* Before operator set 6, Cast's `to` was a string. */
#define OLDEST_OPSET 6

static kiln_status check_model(const kln_onnx_model *model)
{
    const int64_t opset = kln_onnx_opset_version(model, "");
    return opset == 0 || opset >= OLDEST_OPSET
               ? KILN_OK
               : kln_fail(KILN_ERROR_UNSUPPORTED,
                          "the model has operator set %lld; %d is the oldest that is converted to "
                          "another precision",
                          (long long)opset, OLDEST_OPSET);
}

static kiln_status run(precise_pass *pass)
{
    KLN_RETURN_IF_ERROR(check_model(pass->model));
    KLN_RETURN_IF_ERROR(kln_infer(pass->model, NULL, &pass->inference));
    KLN_RETURN_IF_ERROR(
        precise_look(pass, &pass->model->graph, pass->inference->graph, NULL, "", &pass->main));
    KLN_RETURN_IF_ERROR(precise_decide_main(pass));
    KLN_RETURN_IF_ERROR(precise_write(pass, pass->main));
    KLN_RETURN_IF_ERROR(fill_report(pass));
    KLN_RETURN_IF_ERROR(check_achieved(pass));
    KLN_RETURN_IF_ERROR(import_casts(pass->model));
    pass->model->graph = *pass->main->made;
    return KILN_OK;
}

/* The parts of a model that a conversion changes. */
typedef struct saved_model {
    kln_onnx_graph graph;
    kln_onnx_function *functions;
    size_t function_count;
    kln_onnx_opset *opsets;
    size_t opset_count;
    int64_t ir_version;
} saved_model;

static saved_model save(const kln_onnx_model *model)
{
    return (saved_model){model->graph,  model->functions,   model->function_count,
                         model->opsets, model->opset_count, model->ir_version};
}

static void restore(kln_onnx_model *model, const saved_model *saved)
{
    model->graph = saved->graph;
    model->functions = saved->functions;
    model->function_count = saved->function_count;
    model->opsets = saved->opsets;
    model->opset_count = saved->opset_count;
    model->ir_version = saved->ir_version;
}

static kiln_status to_half(kln_onnx_model *model, const kiln_precision_options *options,
                           kiln_precision_report *report)
{
    KLN_SCOPED(precise_finish)
    precise_pass pass = {.model = model, .options = options, .report = report};
    set_type(&pass);
    return run(&pass);
}

/* The first operator set whose QuantizeLinear and DequantizeLinear take scales of half types. */
#define HALF_SCALES 19

/* Converts the nodes that were not quantized to a half type. */
static kiln_status convert_rest(kln_onnx_model *model, const kiln_precision_options *options,
                                kiln_precision_report *report)
{
    kiln_precision_options rest = *options;
    KLN_SCOPED(kiln_precision_report_destroy_at) kiln_precision_report *aside = NULL;
    rest.precision = options->rest;
    rest.keep_node_count = 0;
    KLN_RETURN_IF_ERROR(kln_raise_opset(model, HALF_SCALES));
    KLN_RETURN_IF_ERROR(kln_precision_report_create(&aside));
    kiln_status status = to_half(model, &rest, aside);
    KLN_THEN(status, kln_precision_report_rest(report, aside));
    kiln_precision_summary *totals = kln_precision_report_totals(report);
    const kiln_precision_summary *added = kln_precision_report_totals(aside);
    totals->bytes_after = added->bytes_after;
    totals->cast_count += added->cast_count;
    totals->saturated = added->saturated;
    totals->vanished = added->vanished;
    return status;
}

/* The first operator set in which convolutions and poolings take bfloat16. */
#define BFLOAT16_OPSET 22

/* If the operator set cannot be raised, the nodes that lack the type stay float32 and are
 * reported. */
static kiln_status raise_where_possible(kln_onnx_model *model)
{
    kln_message before;
    kln_message_keep(&before);
    const kiln_status status = kln_raise_opset(model, BFLOAT16_OPSET);
    if (status != KILN_ERROR_UNSUPPORTED) {
        return status;
    }
    kln_log(KILN_LOG_INFO, "precision", "%s", kiln_error_message());
    kln_message_restore(&before);
    return KILN_OK;
}

/* Everything except inputs and outputs. */
static kiln_status convert_inside(kln_onnx_model *model, const kiln_precision_options *options,
                                  kiln_precision_report *report)
{
    kiln_precision_options filled = *options;
    if (options->precision == KILN_PRECISION_DEFAULT) {
        return KILN_OK;
    }
    if (options->precision == KILN_PRECISION_BF16) {
        KLN_RETURN_IF_ERROR(raise_where_possible(model));
    }
    if (is_half(options->precision)) {
        const bool takes_convolutions = options->precision == KILN_PRECISION_FP16 ||
                                        kln_onnx_opset_version(model, "") >= BFLOAT16_OPSET;
        KLN_RETURN_IF_ERROR(takes_convolutions ? kln_even_out(model, &filled, report) : KILN_OK);
        return to_half(model, &filled, report);
    }
    KLN_RETURN_IF_ERROR(kln_quantize(model, &filled, report));
    return options->rest != KILN_PRECISION_DEFAULT ? convert_rest(model, &filled, report) : KILN_OK;
}

static kiln_status convert(kln_onnx_model *model, const kiln_precision_options *options,
                           kiln_precision_report *report)
{
    kiln_precision_options filled = *options;
    KLN_SCOPED(kiln_range_table_destroy_at) kiln_range_table *ranges = NULL;
    size_t inlined = 0;
    filled.block_size = options->block_size != 0 ? options->block_size : 64;
    KLN_RETURN_IF_ERROR(kln_inline_functions(model, &inlined));
    KLN_RETURN_IF_ERROR(quantize_keep(model, &filled));
    KLN_RETURN_IF_ERROR(kln_precision_unalias(model, &filled));
    KLN_RETURN_IF_ERROR(quantize_binding_ranges(options, &ranges));
    filled.ranges = ranges != NULL ? ranges : options->ranges;
    kiln_status status = convert_inside(model, &filled, report);
    return status == KILN_OK ? quantize_bindings(model, &filled) : status;
}

kiln_status kln_precision_convert(kln_onnx_model *model, const kiln_precision_options *options,
                                  kiln_precision_report **report)
{
    KLN_SCOPED(kiln_precision_report_destroy_at) kiln_precision_report *made = NULL;
    const saved_model saved = save(model);
    KLN_RETURN_IF_ERROR(check_options(options));
    KLN_RETURN_IF_ERROR(kln_precision_report_create(&made));
    const kiln_status status = convert(model, options, made);
    if (status != KILN_OK) {
        restore(model, &saved);
    } else if (report != NULL) {
        *report = KLN_TAKE(made);
    }
    return status;
}

kiln_status kiln_network_convert(kiln_network *network, const kiln_precision_options *options,
                                 kiln_precision_report **report)
{
    kiln_precision_options read = KILN_PRECISION_OPTIONS_INIT;
    KLN_SCOPED(kiln_precision_report_destroy_at) kiln_precision_report *made = NULL;
    kln_onnx_model *model = NULL;
    if (report != NULL) {
        *report = NULL;
    }
    KLN_RETURN_IF_NULL(network, options);
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_precision_options", options, &read, sizeof read));
    KLN_RETURN_IF_ERROR(kln_network_whole(network));
    KLN_RETURN_IF_ERROR(kln_network_rewrite(network, &model));
    const saved_model saved = save(model);
    KLN_RETURN_IF_ERROR(kln_precision_convert(model, &read, &made));
    const kiln_status status = kln_network_rewritten(network);
    if (status != KILN_OK) {
        restore(model, &saved);
    } else if (report != NULL) {
        *report = KLN_TAKE(made);
    }
    return status;
}
