/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_list.h"

#define MIB 1048576.0

typedef struct quantize_settings {
    const char *output;
    int precision; /* of `precisions` */
    int rest;      /* likewise, or -1 */
    int64_t block;
    const char *ranges;
    cli_list keep_operators;
    cli_list keep_nodes;
    bool bindings;
    bool external;
    bool nodes;
} quantize_settings;

static const char *const precisions[] = {"fp16", "bf16", "int8", "fp8", "int4", NULL};
static const kiln_precision values[] = {KILN_PRECISION_FP16, KILN_PRECISION_BF16,
                                        KILN_PRECISION_INT8, KILN_PRECISION_FP8,
                                        KILN_PRECISION_INT4};

static const char *const rests[] = {"fp16", "bf16", NULL};

/* --- what came of it --- */

static void print_nodes(const kiln_precision_report *report, size_t count)
{
    cli_table table;
    static const char *const headings[] = {"node", "operator", "computes in", "why"};
    cli_table_init(&table, "llll", headings);
    for (size_t i = 0; i < count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        char why[400];
        if (kiln_precision_report_node(report, i, &node) != KILN_OK) {
            continue;
        }
        (void)snprintf(why, sizeof why, "%s%s%s", kiln_precision_reason_text(node.reason),
                       node.detail[0] != '\0' ? ": " : "", node.detail);
        cli_table_add(&table, node.name[0] != '\0' ? node.name : node.output);
        cli_table_add(&table, node.operator_type);
        cli_table_add(&table,
                      node.dtype == KILN_DTYPE_UNDEFINED ? "-" : kiln_dtype_name(node.dtype));
        cli_table_add(&table, why);
    }
    cli_table_print(&table, 0);
    (void)printf("\n");
}

static void print_report(const quantize_settings *settings, const kiln_precision_report *report)
{
    kiln_precision_summary s = {.struct_size = sizeof s};
    if (kiln_precision_report_summary(report, &s) != KILN_OK) {
        return;
    }
    if (settings->nodes) {
        print_nodes(report, s.node_count);
    }
    char *output = cli_printable(settings->output);
    (void)printf(
        "%s\n%zu nodes in %s, %zu stay in float32, %zu casts were added\n"
        "weights: %.2f MiB, before %.2f MiB\n",
        output, s.converted_count, precisions[settings->precision], s.kept_count, s.cast_count,
        (double)s.bytes_after / MIB, (double)s.bytes_before / MIB);
    free(output);
    if (s.saturated + s.vanished != 0) {
        (void)printf("numbers of them: %" PRIu64
                     " were beyond the type and are its largest now, "
                     "%" PRIu64 " became zero\n",
                     s.saturated, s.vanished);
    }
}

/* --- the command --- */

static kiln_status convert(const quantize_settings *settings, const char *path,
                           const kiln_range_table *ranges, kiln_network **network,
                           kiln_precision_report **report)
{
    kiln_precision_options how = KILN_PRECISION_OPTIONS_INIT;
    how.precision = values[settings->precision];
    how.rest = settings->rest < 0 ? KILN_PRECISION_DEFAULT : values[settings->rest];
    how.block_size = (int32_t)settings->block;
    how.keep_operators = settings->keep_operators.items;
    how.keep_operator_count = settings->keep_operators.count;
    how.keep_nodes = settings->keep_nodes.items;
    how.keep_node_count = settings->keep_nodes.count;
    how.ranges = ranges;
    how.convert_bindings = settings->bindings;
    kiln_status status = kiln_network_from_onnx(path, network);
    status = status == KILN_OK ? kiln_network_convert(*network, &how, report) : status;
    return status == KILN_OK ? kiln_network_save_onnx(
                                   *network, settings->output,
                                   settings->external ? KILN_WEIGHTS_EXTERNAL : KILN_WEIGHTS_INLINE)
                             : status;
}

static cli_exit quantize(const quantize_settings *settings, const char *path)
{
    kiln_range_table *ranges = NULL;
    kiln_network *network = NULL;
    kiln_precision_report *report = NULL;
    kiln_status status =
        settings->ranges != NULL ? kiln_range_table_load(settings->ranges, &ranges) : KILN_OK;
    status = status == KILN_OK ? convert(settings, path, ranges, &network, &report) : status;
    cli_exit result = CLI_DONE;
    if (status != KILN_OK) {
        result = cli_fail();
        result = status == KILN_ERROR_NAME ? CLI_MISUSED : result;
    } else {
        print_report(settings, report);
    }
    kiln_precision_report_destroy(report);
    kiln_network_destroy(network);
    kiln_range_table_destroy(ranges);
    return result;
}

static cli_exit run(const cli_command *self, int count, char **arguments)
{
    quantize_settings settings = {.precision = -1, .rest = -1};
    const char *operands[1] = {NULL};
    cli_exit result = CLI_DONE;
    if (!cli_options_read(self, count, arguments, &settings, operands, &result)) {
        return result;
    }
    result = settings.output == NULL
                 ? cli_misuse(self, "--output is missing: it names the file that is written")
             : settings.precision < 0
                 ? cli_misuse(self, "--precision is missing: the type to compute in")
                 : quantize(&settings, operands[0]);
    cli_options_finish(self, &settings);
    return result;
}

#define AT(field) offsetof(quantize_settings, field)

static const cli_option options[] = {
    {"output", 'o', "MODEL", CLI_TEXT, AT(output), 0, 0, NULL, "Write the new model here."},
    {"precision", 'p', "TYPE", CLI_CHOICE, AT(precision), 0, 0, precisions,
     "The type to compute in: fp16, bf16, int8, fp8 (float8e4m3fn), or int4, which is for weights "
     "alone."},
    {"rest", 0, "TYPE", CLI_CHOICE, AT(rest), 0, 0, rests,
     "With int8, fp8 and int4: what is not quantized computes in fp16 or bf16, instead of as it "
     "did."},
    {"block", 0, "N", CLI_INTEGER, AT(block), 0, 128, NULL,
     "With int4: so many weights share a scale: 32, 64 or 128. Default: 64."},
    {"ranges", 'r', "FILE", CLI_TEXT, AT(ranges), 0, 0, NULL,
     "Ranges of tensors, as JSON or a calibration cache of TensorRT's (kiln calibrate): int8 and "
     "fp8 need them, and with fp16 nodes whose tensors come near its end stay in float32."},
    {"keep-operator", 0, "NAME", CLI_LIST, AT(keep_operators), 0, 0, NULL,
     "Nodes of this operator stay in float32. May be given several times."},
    {"keep-node", 0, "NAME", CLI_LIST, AT(keep_nodes), 0, 0, NULL,
     "This node, or the one that makes this tensor, stays in float32. May be given several times."},
    {"bindings", 0, NULL, CLI_FLAG, AT(bindings), 0, 0, NULL,
     "Inputs and outputs get the type too, instead of keeping theirs."},
    {"external", 0, NULL, CLI_FLAG, AT(external), 0, 0, NULL,
     "Write large weights to a file beside the model: past 2 GiB they must be."},
    {"nodes", 'n', NULL, CLI_FLAG, AT(nodes), 0, 0, NULL,
     "List every node, the type that it computes in, and why."},
    {0},
};

static const cli_group groups[] = {
    {"Quantize", options, 0},
    {0},
};

static const cli_example examples[] = {
    {"kiln quantize a.onnx -o a.fp16.onnx -p fp16", "in half precision"},
    {"kiln quantize a.onnx -o a.fp16.onnx -p fp16 --keep-operator Softmax --nodes",
     "all but some, with a list of what became of each node"},
    {0},
};

const cli_command cli_command_quantize = {
    .name = "quantize",
    .operands = "MODEL",
    .least = 1,
    .most = 1,
    .summary = "rewrite a model so that it computes in a smaller type",
    .description =
        "Reads the ONNX file MODEL and writes one that computes in another type: an ordinary "
        "model, which TensorRT, ONNX Runtime and every other tool take. Inputs and outputs keep "
        "their names and types. Nodes that the type would spoil stay as they are: their "
        "operator does not take it, they count positions, or they sum squares.",
    .groups = groups,
    .examples = examples,
    .run = run,
};
