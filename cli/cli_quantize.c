/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/processor.h"
#include "cli_accuracy.h"
#include "cli_bindings.h"
#include "cli_list.h"

typedef struct quantize_settings {
    const char *output;
    int precision; /* index in `precisions` */
    int rest;      /* likewise, or -1 */
    int64_t block;
    bool zero_points, reduce_range;
    const char *ranges;
    const char *calibration;
    int method;
    const char *check;
    const char *page;
    double target, agreement;
    cli_list keep_operators;
    cli_list keep_nodes;
    cli_bindings edges;
    bool bindings;
    bool external;
    bool nodes;
} quantize_settings;

static const char *const precisions[] = {"fp16", "bf16", "int8", "fp8", "int4", NULL};
static const kiln_precision values[] = {KILN_PRECISION_FP16, KILN_PRECISION_BF16,
                                        KILN_PRECISION_INT8, KILN_PRECISION_FP8,
                                        KILN_PRECISION_INT4};

static kiln_precision precision_of(const quantize_settings *settings)
{
    return settings->precision < 0 ? KILN_PRECISION_DEFAULT : values[settings->precision];
}

static const char *const methods[] = {"entropy", "minmax", "percentile", "mse", NULL};
static const char *const rests[] = {"fp16", "bf16", NULL};

/* --- results --- */

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
        CLI_TABLE_ADD(&table, node.name[0] != '\0' ? node.name : node.output, node.operator_type,
                      node.dtype == KILN_DTYPE_UNDEFINED ? "-" : kiln_dtype_name(node.dtype), why);
    }
    cli_table_print(&table, 0);
    (void)printf("\n");
}

/* `is_rest_alone`: the report is about a conversion to the type of --rest. */
static void print_report(const quantize_settings *settings, const kiln_precision_report *report,
                         bool is_rest_alone)
{
    kiln_precision_summary s = {.struct_size = sizeof s};
    if (kiln_precision_report_summary(report, &s) != KILN_OK) {
        return;
    }
    if (settings->nodes) {
        print_nodes(report, s.node_count);
    }
    SCOPED_HEAP char *output = cli_printable(settings->output);
    (void)printf("%s\n", output);
    if (settings->precision < 0) {
        return;
    }
    const char *name = is_rest_alone ? rests[settings->rest] : precisions[settings->precision];
    if (is_rest_alone) {
        (void)printf("no node is left in %s: %s alone is what the target takes\n",
                     precisions[settings->precision], name);
    }
    (void)printf("%zu node%s in %s, ", s.converted_count, CLI_S(s.converted_count), name);
    if (settings->rest >= 0 && !is_rest_alone) {
        (void)printf("%zu in %s, ", s.rest_count, rests[settings->rest]);
    }
    (void)printf(
        "%zu stay%s in float32, %zu cast%s added\n"
        "weights: %.2f MiB, before %.2f MiB\n",
        s.kept_count, s.kept_count == 1 ? "s" : "", s.cast_count,
        s.cast_count == 1 ? " was" : "s were", (double)s.bytes_after / CLI_MIB,
        (double)s.bytes_before / CLI_MIB);
    if (s.multiplications != 0) {
        (void)printf("arithmetic: %.1f %% of the multiplications are in %s\n",
                     100 * (double)s.converted_multiplications / (double)s.multiplications, name);
    }
    if (s.saturated + s.vanished != 0) {
        (void)printf("numbers of them: %" PRIu64
                     " were beyond the type and are its largest now, %" PRIu64 " became zero\n",
                     s.saturated, s.vanished);
    }
    if (precision_of(settings) == KILN_PRECISION_INT8 && !is_rest_alone &&
        !settings->reduce_range && kln_processor_cuts_sums()) {
        (void)printf(
            "this processor, x86 without VNNI, cuts off sums of such products where other "
            "programs run the model with ONNX Runtime, but not with --reduce-range\n");
    }
}

/* --- the command --- */

typedef struct quantize_job {
    const quantize_settings *settings;
    const char *path;
    kiln_precision_options how;
    kiln_range_table *ranges;
    kiln_network *network;
    kiln_precision_report *report;
    kiln_precision_report *ranked; /* owner of the strings in the accuracy's nodes */
    cli_accuracy accuracy;
    cli_target target;
    const char **kept; /* what the search keeps, followed by what the user asked to keep */
    bool keeps_all;    /* nothing was left to convert */
    bool is_rest_alone;
} quantize_job;

static void set_options(quantize_job *job)
{
    const quantize_settings *settings = job->settings;
    kiln_precision_options *how = &job->how;
    *how = KILN_PRECISION_OPTIONS_INIT;
    how->precision = precision_of(settings);
    how->rest = settings->rest < 0 ? KILN_PRECISION_DEFAULT : values[settings->rest];
    how->block_size = (int32_t)settings->block;
    how->zero_points = settings->zero_points;
    how->reduce_range = settings->reduce_range;
    how->keep_operators = settings->keep_operators.items;
    how->keep_operator_count = settings->keep_operators.count;
    how->keep_nodes = settings->keep_nodes.items;
    how->keep_node_count = settings->keep_nodes.count;
    how->ranges = job->ranges;
    how->convert_bindings = settings->bindings;
    how->bindings = settings->edges.items;
    how->binding_count = settings->edges.count;
}

static kiln_status calibrate(quantize_job *job)
{
    const quantize_settings *settings = job->settings;
    CLI_OWNED(batch_folder) folder = NULL;
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    options.method = (kiln_calibration_method)settings->method;
    options.channels = precision_of(settings) != KILN_PRECISION_INT4;
    options.products = true;
    /* With a half type for the rest, all values that may be too large for it have to be known. */
    options.precision = settings->rest < 0 ? precision_of(settings) : KILN_PRECISION_DEFAULT;
    KLN_RETURN_IF_ERROR(kiln_batch_folder_open(settings->calibration, &folder));
    const kiln_batch_source source = kiln_batch_folder_source(folder);
    CLI_WITH_PROGRESS("calibrating",
                      kiln_calibrate_file(job->path, NULL, &source, &options, &job->ranges));
    return KILN_OK;
}

/* Takes the ranges from a file, or from batches. */
static kiln_status find_ranges(quantize_job *job)
{
    const quantize_settings *settings = job->settings;
    KLN_RETURN_IF_ERROR(settings->ranges != NULL
                            ? kiln_range_table_load(settings->ranges, &job->ranges)
                        : settings->calibration != NULL ? calibrate(job)
                                                        : KILN_OK);
    return cli_bindings_set_ranges(&settings->edges, &job->ranges);
}

static kiln_status convert(quantize_job *job)
{
    kiln_network_destroy(job->network);
    kiln_precision_report_destroy(job->report);
    job->network = NULL;
    job->report = NULL;
    KLN_RETURN_IF_ERROR(kiln_network_from_onnx(job->path, &job->network));
    return kiln_network_convert(job->network, &job->how, &job->report);
}

/* Integer inputs and outputs are measured as floats that are rounded, which costs the same
 * accuracy. */
static void set_measured(quantize_job *job)
{
    job->accuracy.how = job->how;
    job->accuracy.how.bindings = job->settings->edges.rounded;
}

/* The accuracy's nodes use the strings of the first report, which is therefore kept. */
static kiln_status convert_again(quantize_job *job)
{
    if (job->ranked == NULL) {
        job->ranked = job->report;
        job->report = NULL;
    }
    return convert(job);
}

static kiln_status keep(quantize_job *job)
{
    const size_t asked = job->how.keep_node_count;
    const size_t found = job->accuracy.kept;
    const char **names = realloc(job->kept, (found + asked + 1) * sizeof *names);
    if (names == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    job->kept = names;
    for (size_t i = 0; i < asked; i++) {
        names[found + i] = job->how.keep_nodes[i];
    }
    job->how.keep_nodes = names;
    job->how.keep_node_count = found + asked;
    return convert_again(job);
}

/* If 8 bits are not accurate enough for any node, all of them compute in the type of --rest. */
static kiln_status take_rest(quantize_job *job)
{
    const kiln_precision_options before = job->how;
    job->how.precision = before.rest;
    job->how.rest = KILN_PRECISION_DEFAULT;
    job->how.keep_node_count = 0;
    set_measured(job);
    const kiln_status status = cli_accuracy_measure(&job->accuracy, NULL, 0);
    job->is_rest_alone = status == KILN_OK && cli_accuracy_suffices(&job->accuracy, job->target);
    if (job->is_rest_alone) {
        return convert_again(job);
    }
    job->how = before;
    return status;
}

/* Keeps the nodes that are needed to reach the target, and converts again. */
static kiln_status search(quantize_job *job)
{
    const bool has_rest = job->how.rest != KILN_PRECISION_DEFAULT;
    kiln_status status = cli_accuracy_search(&job->accuracy, job->target, &job->kept);
    if (status != KILN_OK || (job->accuracy.kept == 0 && !has_rest)) {
        return status;
    }
    status = job->accuracy.kept != 0 ? keep(job) : KILN_OK;
    job->keeps_all = status == KILN_ERROR_UNSUPPORTED;
    if (has_rest && (job->keeps_all || job->accuracy.kept == 0)) {
        const kiln_status taken = take_rest(job);
        status = job->is_rest_alone || taken != KILN_OK ? taken : status;
    }
    return status;
}

/* The default target for 8 bits if there are batches and no target is given: below it, text that is
 * recognized in images differs in more than one of a hundred characters (bench/precision.py). */
#define USUAL_DECIBELS 28.0

static cli_target target_of(const quantize_settings *settings)
{
    const bool is_asked = settings->target >= 0 || settings->agreement > 0;
    const bool is_usual =
        !is_asked && precision_of(settings) == KILN_PRECISION_INT8 && settings->calibration != NULL;
    return (cli_target){is_usual ? USUAL_DECIBELS : fmax(0, settings->target), settings->agreement};
}

/* Nodes are chosen with the calibration batches, if there are any, because the check batches are
 * meant to show how good the choice is. */
static kiln_status choose(quantize_job *job)
{
    const quantize_settings *settings = job->settings;
    cli_accuracy *accuracy = &job->accuracy;
    const bool aims = job->target.decibels > 0 || job->target.agreement > 0;
    accuracy->batches = settings->calibration != NULL ? settings->calibration : settings->check;
    KLN_RETURN_IF_ERROR(cli_accuracy_begin(accuracy));
    KLN_RETURN_IF_ERROR(cli_accuracy_measure(accuracy, NULL, 0));
    const bool falls_short = aims && !cli_accuracy_suffices(accuracy, job->target);
    if (settings->page != NULL || falls_short) {
        CLI_WITH_PROGRESS("ranking nodes", cli_accuracy_rank(accuracy, job->report));
    }
    return falls_short ? search(job) : KILN_OK;
}

/* Measures the accuracy and, if it is too low, chooses what to keep. */
static kiln_status check(quantize_job *job)
{
    const quantize_settings *settings = job->settings;
    cli_accuracy *accuracy = &job->accuracy;
    accuracy->path = job->path;
    set_measured(job);
    job->target = target_of(settings);
    KLN_RETURN_IF_ERROR(choose(job));
    if (settings->check != NULL && settings->calibration != NULL) {
        accuracy->batches = settings->check;
        KLN_RETURN_IF_ERROR(cli_accuracy_again(accuracy));
    }
    set_measured(job); /* with the nodes that are now kept */
    KLN_RETURN_IF_ERROR(cli_accuracy_measure(accuracy, NULL, 0));
    return settings->page != NULL ? cli_accuracy_layers(accuracy, job->report) : KILN_OK;
}

static cli_exit print_accuracy(const quantize_job *job)
{
    cli_accuracy_print(&job->accuracy);
    const bool is_asked = job->settings->target > 0 || job->settings->agreement > 0;
    if (is_asked && !cli_accuracy_suffices(&job->accuracy, job->target)) {
        const cli_target reached = cli_accuracy_reached(&job->accuracy);
        cli_error(
            "the worst output has %.1f dB and %.2f %% of rows alike; wanted are %.1f dB and "
            "%.2f %% (--target, --agreement): the rest of the network is no nearer",
            reached.decibels, reached.agreement, job->target.decibels, job->target.agreement);
        return CLI_FAILED;
    }
    return CLI_DONE;
}

static cli_exit finish(quantize_job *job)
{
    const quantize_settings *settings = job->settings;
    CLI_FAIL_IF_ERROR(
        kiln_network_save_onnx(job->network, settings->output,
                               settings->external ? KILN_WEIGHTS_EXTERNAL : KILN_WEIGHTS_INLINE));
    print_report(settings, job->report, job->is_rest_alone);
    cli_print_not_finite(job->ranges);
    cli_exit result = job->accuracy.before != NULL ? print_accuracy(job) : CLI_DONE;
    if (settings->page != NULL) {
        const cli_exit page =
            cli_accuracy_page(&job->accuracy, job->report, settings->output, settings->page);
        result = result == CLI_DONE ? page : result;
    }
    return result;
}

static cli_exit fail_short(const quantize_job *job)
{
    cli_error(
        "%.1f dB and %.2f %% of rows alike (--target, --agreement) are reached only with "
        "every node left in float32: ask for less, or, to convert all that can be, for "
        "--target 0",
        job->target.decibels, job->target.agreement);
    return CLI_FAILED;
}

static cli_exit quantize(const quantize_settings *settings, const char *path)
{
    quantize_job job = {.settings = settings, .path = path};
    kiln_status status = find_ranges(&job);
    set_options(&job);
    status = status == KILN_OK ? convert(&job) : status;
    if (status == KILN_OK && (settings->check != NULL || settings->calibration != NULL)) {
        status = check(&job);
    }
    cli_exit result = status == KILN_OK ? finish(&job)
                      : job.keeps_all   ? fail_short(&job)
                                        : cli_fail();
    result = status == KILN_ERROR_NAME ? CLI_MISUSED : result;
    cli_accuracy_finish(&job.accuracy);
    kiln_precision_report_destroy(job.report);
    kiln_precision_report_destroy(job.ranked);
    kiln_network_destroy(job.network);
    kiln_range_table_destroy(job.ranges);
    free(job.kept);
    return result;
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    quantize_settings *settings = given;
    cli_exit result =
        settings->output == NULL
            ? cli_misuse(self, "--output is missing: it names the file that is written")
        : settings->precision < 0 && settings->edges.scales.count == 0 &&
                settings->edges.stored.count == 0
            ? cli_misuse(self, "--precision is missing: the type to compute in")
        : (settings->page != NULL || settings->target > 0 || settings->agreement > 0) &&
                settings->check == NULL && settings->calibration == NULL
            ? cli_misuse(self, "--report, --target and --agreement want batches: --check DIR")
            : cli_bindings_read(self, &settings->edges);
    result = result == CLI_DONE ? quantize(settings, operands[0]) : result;
    cli_bindings_finish(&settings->edges);
    return result;
}

#define AT(field) offsetof(quantize_settings, field)

static const cli_option options[] = {
    {"output", 'o', "MODEL", CLI_CHANGED, AT(output), 0, 0, NULL, "Write the new model here."},
    {"precision", 'p', "TYPE", CLI_CHOICE, AT(precision), 0, 0, precisions,
     "The type to compute in: fp16, bf16, int8, fp8 (float8e4m3fn), or int4, which is only for "
     "weights."},
    {"rest", 0, "TYPE", CLI_CHOICE, AT(rest), 0, 0, rests,
     "With int8, fp8 and int4: compute what is not quantized in fp16 or bf16, instead of its "
     "own type."},
    {"block", 0, "N", CLI_INTEGER, AT(block), 0, 128, NULL,
     "With int4: how many weights share a scale: 16, 32, 64 or 128. Default: 64."},
    {"zero-points", 0, NULL, CLI_FLAG, AT(zero_points), 0, 0, NULL,
     "With int4: give each block a zero point too, which loses less accuracy; TensorRT supports "
     "none."},
    {"reduce-range", 0, NULL, CLI_FLAG, AT(reduce_range), 0, 0, NULL,
     "With int8: keep weights within seven bits, for other programs that run the model with "
     "ONNX Runtime on x86 processors without VNNI, where sums of larger ones saturate."},
    {"ranges", 'r', "FILE", CLI_TEXT, AT(ranges), 0, 0, NULL,
     "Ranges of tensors, as JSON or a TensorRT calibration cache (kiln calibrate): int8 and fp8 "
     "need them, and with fp16, nodes whose tensors come near the end of its range stay in "
     "float32."},
    {"calibration", 'c', "DIR", CLI_TEXT, AT(calibration), 0, 0, NULL,
     "Find the ranges with the batches of this folder, as kiln calibrate does."},
    {"method", 'm', "METHOD", CLI_CHOICE, AT(method), 0, 0, methods,
     "With --calibration: entropy, minmax, percentile or mse. Default mse."},
    {"check", 0, "DIR", CLI_TEXT, AT(check), 0, 0, NULL,
     "Compare the results with the model's own on the batches of this folder, which the "
     "conversion has not seen. Default: those of --calibration."},
    {"report", 0, "FILE.html", CLI_OUTPUT, AT(page), 0, 0, NULL,
     "Write a page with the error of each output, the error that converting each node alone "
     "causes, and what became of every node."},
    {"target", 0, "DB", CLI_REAL, AT(target), 0, 300, NULL,
     "Keep as few nodes in float32, or the type of --rest, as it takes for every output to "
     "reach this signal-to-noise ratio, in decibels. The most harmful nodes are kept, measured "
     "on the batches of --calibration if there are any. Default: 28 for int8 with "
     "--calibration; 0: keep none."},
    {"agreement", 0, "PERCENT", CLI_REAL, AT(agreement), 0, 100, NULL,
     "Keep nodes in float32 until this share of the rows of every output, along its last axis, "
     "have their largest element where it was before: classes, or characters of a text."},
    {"keep-operator", 0, "NAME", CLI_LIST, AT(keep_operators), 0, 0, NULL,
     "Keep nodes of this operator in float32. May be given several times."},
    {"keep-node", 0, "NAME", CLI_LIST, AT(keep_nodes), 0, 0, NULL,
     "Keep this node, or the one that makes this tensor, in float32, or the type of --rest; in "
     "NAME, * matches any text. May be given several times."},
    {"bindings", 0, NULL, CLI_FLAG, AT(bindings), 0, 0, NULL,
     "Convert inputs and outputs too, instead of keeping their types."},
    {"range", 0, "NAME=LOW:HIGH", CLI_LIST, AT(edges.ranges), 0, 0, NULL,
     "The values of tensor NAME lie in this range, whatever --ranges and --calibration say. May "
     "be given several times."},
    {"scale", 0, "NAME=S[:ZERO]", CLI_LIST, AT(edges.scales), 0, 0, NULL,
     "Quantize the input or output NAME with this scale and zero point. May be given several "
     "times, and without --precision if nothing else is to change."},
    {"stored", 0, "NAME[=TYPE]", CLI_LIST, AT(edges.stored), 0, 0, NULL,
     "Give the input or output NAME itself the type TYPE: int8 (the default), uint8 or another. "
     "The program that feeds it rounds the numbers, with the scale of --scale, of the model, or "
     "of the ranges, which kiln inspect shows. May be given several times."},
    {"external", 0, NULL, CLI_FLAG, AT(external), 0, 0, NULL,
     "Write large weights to a file next to the model; beyond 2 GiB this is required."},
    {"nodes", 'n', NULL, CLI_FLAG, AT(nodes), 0, 0, NULL,
     "List every node, the type that it computes in, and the reason."},
    {0},
};

static const cli_group groups[] = {
    {"Quantize", options, 0},
    {0},
};

static const cli_need needs[] = {
    {"method", "calibration"},
    {0},
};

static const cli_example examples[] = {
    {"kiln quantize a.onnx -o a.fp16.onnx -p fp16", "in half precision"},
    {"kiln quantize a.onnx -o b.onnx -p int8 -c batches --target 30 --report b.html",
     "in eight bits except what 30 dB require, with a report"},
    {"kiln quantize a.onnx -o b.onnx -p int8 -c batches --stored image=uint8",
     "in eight bits, with bytes as input"},
    {"kiln quantize a.onnx -o a.fp16.onnx -p fp16 --keep-operator Softmax --nodes",
     "all but some, with a list of what became of each node"},
    {0},
};

const cli_command cli_command_quantize = {
    .name = "quantize",
    .operands = "MODEL",
    .summary = "rewrite a model so that it computes in a smaller type",
    .description =
        "Reads the ONNX file MODEL and writes one that computes in another type: an ordinary "
        "model that TensorRT, ONNX Runtime and every other tool can use. Inputs and outputs "
        "keep their names and types. Nodes that the type would spoil are left as they are: "
        "those whose operator does not support it, those that count positions, and those that "
        "sum squares.",
    .groups = groups,
    .needs = needs,
    .examples = examples,
    CLI_SETTINGS(quantize_settings, .precision = -1, .rest = -1, .method = KILN_CALIBRATE_MSE,
                 .target = -1),
    .run = run,
};
