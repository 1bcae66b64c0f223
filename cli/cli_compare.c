/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_list.h"
#include "cli_model.h"

typedef struct compare_settings {
    cli_model_settings model;
    cli_input_settings inputs;
    const char *backends;
    double absolute;
    double relative;
    double steps;
    bool first;
    bool tf32;
    bool json;
} compare_settings;

/* The state of one call of `kiln compare`. */
typedef struct job {
    const cli_command *command;
    compare_settings settings;
    const char *path;
    char names[2][64]; /* of the backends; "" for the best one */
    kiln_engine *engines[2];
    kiln_context *context; /* of the second engine; holds the inputs */
    cli_inputs inputs;
    kiln_named_tensor *tensors;
    size_t tensor_count;
    cli_exit fed;          /* the result of setting the inputs */
    kiln_network *network; /* of MODEL; NULL if that is not an ONNX file */
    kiln_comparison *comparison;
} job;

/* --- comparing --- */

static cli_exit split_backends(job *work)
{
    const char *text = work->settings.backends;
    const char *comma = text != NULL ? strchr(text, ',') : NULL;
    if (text == NULL) {
        (void)snprintf(work->names[1], sizeof work->names[1], "reference");
        return CLI_DONE;
    }
    if (comma == NULL || comma == text || comma[1] == '\0' || strchr(comma + 1, ',') != NULL ||
        (size_t)(comma - text) >= sizeof work->names[0] ||
        strlen(comma + 1) >= sizeof work->names[1]) {
        return cli_misuse(work->command,
                          "--backends: \"%.80s\" is not two names, as in onnxruntime,reference",
                          text);
    }
    (void)snprintf(work->names[0], sizeof work->names[0], "%.*s", (int)(comma - text), text);
    (void)snprintf(work->names[1], sizeof work->names[1], "%s", comma + 1);
    return CLI_DONE;
}

static bool is_tensorrt(const job *work, size_t which)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    const char *name = work->names[which][0] != '\0' ? work->names[which] : NULL;
    return kiln_backend_choose(name, &info) == KILN_OK && strcmp(info.name, "tensorrt") == 0;
}

/* Of the two backends only TensorRT supports TF32, optimization levels and GPUs. float32 computed
 * in TF32 does not meet the tolerance of float32. */
static kiln_build_options build_options(const job *work, size_t which)
{
    kiln_build_options options = cli_model_build(&work->settings.model);
    options.backend = work->names[which][0] != '\0' ? work->names[which] : NULL;
    if (!is_tensorrt(work, which)) {
        options.builder_optimization_level = 0;
        options.device = is_tensorrt(work, 1 - which) ? 0 : options.device;
    } else if (!work->settings.tf32) {
        options.tf32 = KILN_SWITCH_OFF;
    }
    return options;
}

/* Sets every input according to the options. */
static cli_exit take_inputs(job *work)
{
    CLI_FAIL_IF_ERROR(kiln_context_create(work->engines[1], NULL, &work->context));
    const cli_exit result = cli_inputs_bind(work->command, &work->settings.inputs, work->engines[1],
                                            work->context, &work->inputs);
    work->tensors = cli_allocate(work->inputs.count * sizeof *work->tensors);
    for (size_t i = 0; i < work->inputs.count && result == CLI_DONE; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_named_tensor *tensor = &work->tensors[work->tensor_count];
        if (!work->inputs.is_bound[i]) {
            continue;
        }
        CLI_FAIL_IF_ERROR(cli_input_at(work->engines[1], i, &binding));
        CLI_FAIL_IF_ERROR(cli_tensor_of(work->context, &binding, &tensor->tensor));
        tensor->name = binding.name;
        work->tensor_count++;
    }
    return result;
}

/* Called once both engines exist: sets their inputs. */
static kiln_status feed(void *user, kiln_engine *found, kiln_engine *expected,
                        kiln_compare_options *options)
{
    job *work = user;
    cli_progress_end();
    work->engines[0] = kiln_engine_retain(found);
    work->engines[1] = kiln_engine_retain(expected);
    work->fed = take_inputs(work);
    options->inputs = work->tensors;
    options->input_count = work->tensor_count;
    cli_progress_begin("comparing");
    return work->fed == CLI_DONE ? KILN_OK : KILN_ERROR_CANCELLED;
}

static cli_exit compare_as(job *work, const kiln_build_options *found,
                           const kiln_build_options *expected, kiln_status *status)
{
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    options.absolute = work->settings.absolute;
    options.relative = work->settings.relative;
    options.steps = work->settings.steps;
    options.first_difference = work->settings.first;
    options.network = work->network;
    options.built = feed;
    options.user = work;
    cli_model_progress(work->path);
    *status = kiln_compare_file(work->path, found, expected, &options, &work->comparison);
    cli_progress_end();
    return work->fed;
}

static cli_exit compare(job *work)
{
    cli_loading loadings[2] = {{.network = NULL}, {.network = NULL}};
    kiln_status status = KILN_OK;
    cli_exit result = CLI_DONE;
    /* The network is read once for both; if that fails, loading the engine reports why. */
    if (kiln_network_from_onnx(work->path, &work->network) != KILN_OK) {
        work->network = NULL;
    }
    for (size_t i = 0; i < 2 && result == CLI_DONE; i++) {
        kiln_build_options build = build_options(work, i);
        const cli_model_settings settings = {.build = &build, .shapes = &work->settings.inputs};
        result =
            cli_loading_begin(work->command, work->path, work->network, &settings, &loadings[i]);
    }
    if (result == CLI_DONE) {
        result = compare_as(work, &loadings[0].options, &loadings[1].options, &status);
    }
    const cli_exit ended =
        cli_loading_end(work->command, loadings, 2, result == CLI_DONE ? status : KILN_OK);
    return result == CLI_DONE ? ended : result;
}

/* --- text --- */

static void add_numbers(cli_table *table, const kiln_tensor_difference *of)
{
    char numbers[4][32];
    char where[200] = "-";
    cli_number_format(of->largest_absolute, numbers[0]);
    cli_number_format(of->largest_relative, numbers[1]);
    cli_number_format(of->mean_absolute, numbers[2]);
    (void)snprintf(numbers[3], sizeof numbers[3], "%.7f", of->cosine);
    if (of->largest_absolute > 0) {
        cli_index_format(&of->found_shape, of->largest_at, where, sizeof where);
    }
    cli_table_printf(table, "%" PRId64 " of %" PRId64, of->different, of->count);
    cli_table_add(table, numbers[0]);
    cli_table_add(table, where);
    for (size_t i = 1; i < CLI_ARRAY_LENGTH(numbers); i++) {
        cli_table_add(table, numbers[i]);
    }
    cli_table_printf(table, "%g + %g x", of->absolute, of->relative);
}

static void add_row(cli_table *table, cli_text *notes, const kiln_tensor_difference *of)
{
    char shapes[2][256];
    SCOPED_HEAP char *name = cli_printable(of->name);
    CLI_TABLE_ADD(table, of->name, kiln_dtype_name(of->expected_dtype));
    if (of->is_comparable) {
        add_numbers(table, of);
    } else {
        (void)kiln_shape_format(&of->found_shape, shapes[0], sizeof shapes[0]);
        (void)kiln_shape_format(&of->expected_shape, shapes[1], sizeof shapes[1]);
        for (size_t i = 2; i < table->columns; i++) {
            cli_table_add(table, "-");
        }
        cli_text_printf(notes, "\"%s\" cannot be compared: %s %s was found, %s %s was expected\n",
                        name, kiln_dtype_name(of->found_dtype), shapes[0],
                        kiln_dtype_name(of->expected_dtype), shapes[1]);
    }
    if (of->found_nans + of->expected_nans > 0) {
        cli_text_printf(
            notes, "\"%s\": of %" PRId64 " elements %" PRId64 " NaN found, %" PRId64 " expected\n",
            name, of->count, of->found_nans, of->expected_nans);
    }
    if (of->found_infinities + of->expected_infinities > 0) {
        cli_text_printf(notes,
                        "\"%s\": of %" PRId64 " elements %" PRId64 " infinite found, %" PRId64
                        " expected\n",
                        name, of->count, of->found_infinities, of->expected_infinities);
    }
    if (of->stepped > 0) {
        cli_text_printf(notes,
                        "\"%s\" is quantized in steps of %.6g: %" PRId64 " of %" PRId64
                        " elements are off by %.3g step%s at most, %.3g %s allowed\n",
                        name, of->step, of->stepped, of->count, of->largest_steps,
                        of->largest_steps < 1.5 ? "" : "s", of->steps,
                        of->steps == 1 ? "is" : "are");
    }
}

static void print_table(const kiln_tensor_difference *const *rows, size_t count)
{
    static const char *const headings[] = {"tensor",   "type", "different", "largest", "at",
                                           "relative", "mean", "cosine",    "allowed"};
    cli_table table;
    CLI_TEXT_SCOPED notes = {NULL, 0, 0};
    cli_table_init(&table, "llrrlrrrl", headings);
    for (size_t i = 0; i < count; i++) {
        add_row(&table, &notes, rows[i]);
    }
    cli_table_print(&table, 2);
    if (notes.data != NULL) {
        (void)printf("%s", notes.data);
    }
}

static void print_first(const kiln_comparison *comparison)
{
    const kiln_tensor_difference *first = kiln_comparison_first(comparison);
    const size_t count = kiln_comparison_intermediate_count(comparison);
    if (first == NULL) {
        (void)printf("\nnone of %zu intermediate tensor%s differs by itself\n", count,
                     CLI_S(count));
        return;
    }
    SCOPED_HEAP char *node = cli_printable(first->node);
    (void)printf("\nthe first node that differs is \"%s\" (%s), after %zu intermediate tensor%s\n",
                 node, first->operation, count - 1, CLI_S(count - 1));
    print_table(&first, 1);
}

static void print_text(const job *work)
{
    char backends[2][200];
    const size_t count = kiln_comparison_count(work->comparison);
    SCOPED_HEAP const kiln_tensor_difference **rows =
        cli_allocate((count + 1) * sizeof(kiln_tensor_difference *));
    SCOPED_HEAP char *path = cli_printable(work->path);
    for (size_t i = 0; i < 2; i++) {
        cli_model_backend(work->engines[i], backends[i], sizeof backends[i]);
    }
    (void)printf("%s\nfound: %s, expected: %s\n\n", path, backends[0], backends[1]);
    size_t failed = 0;
    for (size_t i = 0; i < count; i++) {
        rows[i] = kiln_comparison_get(work->comparison, i);
        failed += !rows[i]->passes;
    }
    print_table(rows, count);
    if (failed > 0 && work->settings.first) {
        print_first(work->comparison);
    }
    (void)printf("\n%zu of %zu outputs pass\n", count - failed, count);
}

/* --- JSON --- */

static cJSON *json_difference(const kiln_tensor_difference *of)
{
    cJSON *item = cJSON_CreateObject();
    cli_json_add_text(item, "name", of->name);
    if (of->operation[0] != '\0') {
        cli_json_add_text(item, "node", of->node);
        cli_json_add_text(item, "operator", of->operation);
    }
    (void)cJSON_AddBoolToObject(item, "passes", of->passes);
    (void)cJSON_AddBoolToObject(item, "comparable", of->is_comparable);
    cli_json_add_text(item, "found_dtype", kiln_dtype_name(of->found_dtype));
    cli_json_add_text(item, "expected_dtype", kiln_dtype_name(of->expected_dtype));
    (void)cJSON_AddItemToObject(item, "found_shape", cli_json_shape(&of->found_shape));
    (void)cJSON_AddItemToObject(item, "expected_shape", cli_json_shape(&of->expected_shape));
    const struct {
        const char *key;
        double number;
    } numbers[] = {
        {"absolute_tolerance", of->absolute},
        {"relative_tolerance", of->relative},
        {"elements", (double)of->count},
        {"different", (double)of->different},
        {"largest_absolute", of->largest_absolute},
        {"largest_relative", of->largest_relative},
        {"mean_absolute", of->mean_absolute},
        {"cosine", of->cosine},
        {"largest_at", (double)of->largest_at},
        {"found", of->found},
        {"expected", of->expected},
        {"found_nans", (double)of->found_nans},
        {"expected_nans", (double)of->expected_nans},
        {"found_infinities", (double)of->found_infinities},
        {"expected_infinities", (double)of->expected_infinities},
        {"step", of->step},
        {"steps_allowed", of->step > 0 ? of->steps : 0},
        {"largest_steps", of->largest_steps},
        {"stepped", (double)of->stepped},
    };
    for (size_t i = 0; of->is_comparable && i < CLI_ARRAY_LENGTH(numbers); i++) {
        (void)cJSON_AddNumberToObject(item, numbers[i].key, numbers[i].number);
    }
    return item;
}

static cli_exit print_json(const job *work)
{
    static const char *const keys[] = {"found", "expected"};
    const kiln_tensor_difference *first = kiln_comparison_first(work->comparison);
    cJSON *document = cJSON_CreateObject();
    cli_json_add_text(document, "model", work->path);
    for (size_t i = 0; i < 2; i++) {
        kiln_backend_info info = {.struct_size = sizeof info};
        if (kiln_engine_backend(work->engines[i], &info) == KILN_OK) {
            (void)cJSON_AddItemToObject(document, keys[i], cli_json_backend(&info));
        }
    }
    (void)cJSON_AddBoolToObject(document, "passes", kiln_comparison_passes(work->comparison));
    cJSON *outputs = cJSON_AddArrayToObject(document, "outputs");
    for (size_t i = 0; i < kiln_comparison_count(work->comparison); i++) {
        (void)cJSON_AddItemToArray(outputs,
                                   json_difference(kiln_comparison_get(work->comparison, i)));
    }
    if (work->settings.first) {
        (void)cJSON_AddNumberToObject(document, "intermediate_tensors",
                                      (double)kiln_comparison_intermediate_count(work->comparison));
        (void)cJSON_AddItemToObject(document, "first_difference",
                                    first != NULL ? json_difference(first) : cJSON_CreateNull());
    }
    return cli_json_print(document);
}

/* --- the command --- */

static void finish(job *work)
{
    kiln_comparison_destroy(work->comparison);
    kiln_network_destroy(work->network);
    kiln_context_destroy(work->context);
    kiln_engine_release(work->engines[0]);
    kiln_engine_release(work->engines[1]);
    cli_inputs_finish(&work->inputs);
    free(work->tensors);
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    SCOPED(finish)
    job work = {.command = self, .settings = *(const compare_settings *)given, .path = operands[0]};
    CLI_RETURN_UNLESS_DONE(split_backends(&work));
    CLI_RETURN_UNLESS_DONE(compare(&work));
    if (work.settings.json) {
        CLI_RETURN_UNLESS_DONE(print_json(&work));
    } else {
        print_text(&work);
    }
    return kiln_comparison_passes(work.comparison) ? CLI_DONE : CLI_FAILED;
}

static const cli_option options[] = {
    {"backends", 'b', "A,B", CLI_TEXT, offsetof(compare_settings, backends), 0, 0, NULL,
     "The two backends: the results of A are compared with those of B. Default: the best one "
     "here and reference."},
    {"atol", 0, "X", CLI_REAL, offsetof(compare_settings, absolute), 0, 1e300, NULL,
     "Allow a difference of X. Default: by the data type, 1e-5 for float32."},
    {"rtol", 0, "X", CLI_REAL, offsetof(compare_settings, relative), 0, 1e300, NULL,
     "Allow a difference of X times the expected number, in addition. Default: by the data type, "
     "1e-3 for float32."},
    {"steps", 0, "X", CLI_REAL, offsetof(compare_settings, steps), 0, 1e300, NULL,
     "Allow elements of a quantized output, one that a DequantizeLinear produces or that is "
     "quantized to small integers, to be off by X steps of their quantization. Default 1, or 0 "
     "with --atol."},
    {"first-difference", 'f', NULL, CLI_FLAG, offsetof(compare_settings, first), 0, 0, NULL,
     "If an output does not pass, compare intermediate tensors in the order of the nodes and "
     "show the first that does not pass either."},
    {"tf32", 0, NULL, CLI_FLAG, offsetof(compare_settings, tf32), 0, 0, NULL,
     "Let TensorRT compute float32 in TF32, as its builds do; without this option, a comparison "
     "uses full precision."},
    {"json", 'j', NULL, CLI_FLAG, offsetof(compare_settings, json), 0, 0, NULL,
     "Write JSON: model, found, expected, passes, outputs, first_difference."},
    {0},
};

static const cli_option engine_options[] = {
    CLI_ROWS_OF("device threads optimization builder_optimization_level",
                offsetof(cli_model_settings, build)),
    {0},
};

static const cli_group groups[] = {
    {"Inputs", cli_input_options, offsetof(compare_settings, inputs)},
    {"Comparison", options, 0},
    {"Engines", engine_options, offsetof(compare_settings, model)},
    {0},
};

static const cli_example examples[] = {
    {"kiln compare model.onnx", "the best backend here against the reference executor"},
    {"kiln compare model.onnx -b tensorrt,onnxruntime -i image=cat.npy --rtol 1e-2",
     "with your own input and tolerance"},
    {"kiln compare model.onnx --first-difference", "and the first node that differs"},
    {0},
};

const cli_command cli_command_compare = {
    .name = "compare",
    .operands = "MODEL",
    .summary = "run a model on two backends and compare the results",
    .description =
        "Builds the ONNX file MODEL with two backends, runs both on the same inputs and shows "
        "for each output how many elements exceed the tolerance, the largest error and where it "
        "is, the largest error relative to the expected number, the mean error, and the cosine "
        "similarity. NaN equals NaN.\n\nAn element passes if |found - expected| <= ATOL + RTOL "
        "x |expected|. The default tolerance depends on the data type; integers and bool must "
        "be equal. An element of a quantized output may be off by one step (--steps). The exit "
        "status is 1 if an output does not pass.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(compare_settings, .absolute = KILN_BY_DTYPE, .relative = KILN_BY_DTYPE,
                 .steps = KILN_BY_DTYPE),
    .run = run,
};
