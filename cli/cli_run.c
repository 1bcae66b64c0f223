/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli_list.h"
#include "cli_model.h"
#include "cli_statistics.h"

typedef struct run_settings {
    cli_model_settings model;
    cli_input_settings inputs;
    const char *output;
    const char *compare;
    double absolute;
    double relative;
    int64_t runs;
} run_settings;

/* The state of one call of `kiln run`. */
typedef struct job {
    run_settings settings;
    const char *path;
    kiln_engine *engine;
    kiln_context *context;
    cli_inputs inputs;
    kiln_histogram *times; /* of the runs, in nanoseconds */
    uint64_t first;
} job;

/* --- running --- */

/* Checks this before a run that may take long, and before --output writes to the folder. */
static cli_exit look_at_expected(const cli_command *self, const run_settings *settings)
{
    struct stat expected;
    struct stat written;
    if (settings->compare == NULL) {
        return CLI_DONE;
    }
    const bool is_there = stat(settings->compare, &expected) == 0;
    if (!is_there || !S_ISDIR(expected.st_mode)) {
        cli_error("--compare: the folder \"%s\" cannot be read: %s", settings->compare,
                  strerror(is_there ? ENOTDIR : errno));
        return CLI_FAILED;
    }
    return settings->output != NULL && stat(settings->output, &written) == 0 &&
                   written.st_dev == expected.st_dev && written.st_ino == expected.st_ino
               ? cli_misuse(self,
                            "--output and --compare are the same folder: the outputs would be "
                            "compared with themselves")
               : CLI_DONE;
}

static cli_exit run_all(job *work)
{
    const size_t runs = (size_t)work->settings.runs;
    work->times = cli_times_create();
    cli_progress_begin("running");
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < runs && status == KILN_OK; i++) {
        const uint64_t begin = kiln_clock_now();
        status = kiln_context_run(work->context);
        const uint64_t took = kiln_clock_now() - begin;
        kiln_histogram_record(work->times, took);
        work->first = i == 0 ? took : work->first;
        if (runs > 1) {
            cli_progress_set((double)(i + 1) / (double)runs);
        }
    }
    cli_progress_end();
    return status == KILN_OK ? CLI_DONE : cli_fail();
}

static void print_times(const job *work)
{
    char backend[200];
    char first[32];
    const size_t runs = (size_t)work->settings.runs;
    cli_model_backend(work->engine, backend, sizeof backend);
    cli_duration_format((double)work->first, first, sizeof first);
    SCOPED_HEAP char *path = cli_printable(work->path);
    (void)printf("%s\n%s, ", path, backend);
    if (runs == 1) {
        (void)printf("1 run: %s\n\n", first);
        return;
    }
    char median[32];
    cli_duration_format(cli_times_summarize(work->times).median, median, sizeof median);
    (void)printf("%zu runs: the first %s, median %s\n\n", runs, first, median);
}

/* --- output --- */

/* Appends the first strings of a tensor. */
static void add_strings(const kiln_tensor *tensor, const kiln_binding *binding, cli_text *notes)
{
    enum { FIRST = 4, LONGEST = 40 };
    SCOPED_HEAP char *name = cli_printable(binding->name);
    const size_t count = tensor->bytes / sizeof(kiln_span);
    cli_text_printf(notes, "%s \"%s\":", binding->is_input ? "input" : "output", name);
    for (size_t i = 0; i < count && i < FIRST; i++) {
        cli_text_append(notes, " ", 1);
        cli_string_append(notes, &((const kiln_span *)tensor->data)[i], LONGEST);
    }
    if (count > FIRST) {
        cli_text_printf(notes, " and %zu more", count - FIRST);
    }
    cli_text_append(notes, "\n", 1);
}

static cli_exit add_row(job *work, cli_table *table, const kiln_binding *binding, cli_text *notes)
{
    kiln_tensor tensor;
    const kiln_status status = cli_tensor_of(work->context, binding, &tensor);
    if (status != KILN_OK && status != KILN_ERROR_DTYPE) {
        return cli_fail();
    }
    cli_summary summary = {.has_numbers = false};
    char shape[256] = "-";
    if (status == KILN_OK) {
        CLI_RETURN_UNLESS_DONE(cli_tensor_summarize(&tensor, &summary));
        (void)kiln_shape_format(&tensor.desc.shape, shape, sizeof shape);
    }
    char numbers[3][32] = {"-", "-", "-"};
    if (summary.has_numbers) {
        cli_number_format(summary.minimum, numbers[0]);
        cli_number_format(summary.mean, numbers[1]);
        cli_number_format(summary.maximum, numbers[2]);
    }
    CLI_TABLE_ADD(table, binding->is_input ? "input" : "output", binding->name,
                  kiln_dtype_name(binding->dtype), shape, numbers[0], numbers[1], numbers[2]);
    if (status == KILN_OK && tensor.desc.dtype == KILN_DTYPE_STRING) {
        add_strings(&tensor, binding, notes);
    }
    if (summary.nans > 0) {
        SCOPED_HEAP char *name = cli_printable(binding->name);
        cli_text_printf(notes, "%s \"%s\": %" PRId64 " of %" PRId64 " elements are NaN\n",
                        binding->is_input ? "input" : "output", name, summary.nans, summary.count);
    }
    return CLI_DONE;
}

static cli_exit print_tensors(job *work)
{
    static const char *const headings[] = {"", "name", "type", "shape", "min", "mean", "max"};
    cli_table table;
    CLI_TEXT_SCOPED notes = {NULL, 0, 0};
    cli_table_init(&table, "llllrrr", headings);
    cli_exit result = CLI_DONE;
    const size_t inputs = kiln_engine_input_count(work->engine);
    const size_t count = inputs + kiln_engine_output_count(work->engine);
    for (size_t i = 0; i < count && result == CLI_DONE; i++) {
        kiln_binding binding;
        result = cli_binding_at(work->engine, i, &binding) == KILN_OK
                     ? add_row(work, &table, &binding, &notes)
                     : cli_fail();
    }
    cli_table_print(&table, 0);
    if (notes.data != NULL) {
        (void)printf("\n%s", notes.data);
    }
    return result;
}

/* --- writing and comparing --- */

static cli_exit make_folder(const char *path)
{
    struct stat facts;
    if (mkdir(path, 0777) == 0) {
        return CLI_DONE;
    }
    const int reason = errno;
    if (reason == EEXIST && stat(path, &facts) == 0 && S_ISDIR(facts.st_mode)) {
        return CLI_DONE;
    }
    cli_error("--output: the folder \"%s\" cannot be made: %s", path,
              reason == EEXIST ? "something that is not a folder has this name" : strerror(reason));
    return CLI_FAILED;
}

static cli_exit write_outputs(job *work)
{
    const char *folder = work->settings.output;
    CLI_RETURN_UNLESS_DONE(make_folder(folder));
    for (size_t i = 0; i < kiln_engine_output_count(work->engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        CLI_FAIL_IF_ERROR(kiln_engine_output(work->engine, i, &binding));
        SCOPED_HEAP char *path = cli_tensor_path(folder, binding.name);
        CLI_FAIL_IF_ERROR(cli_tensor_of(work->context, &binding, &tensor));
        CLI_FAIL_IF_ERROR(kiln_tensor_save_npy(&tensor, path));
    }
    return CLI_DONE;
}

static void add_comparison(cli_table *table, const char *name, const kiln_shape *shape,
                           const cli_difference *difference)
{
    char largest[32];
    char where[200] = "-";
    cli_number_format(difference->largest, largest);
    if (difference->largest > 0) {
        cli_index_format(shape, difference->where, where, sizeof where);
    }
    cli_table_add(table, name);
    cli_table_printf(table, "%" PRId64 " of %" PRId64, difference->different, difference->count);
    CLI_TABLE_ADD(table, largest, where, difference->largest > 0 ? difference->found : "-",
                  difference->largest > 0 ? difference->expected : "-");
}

/* Compares output `binding` and remembers the largest difference so far. */
static cli_exit compare_one(job *work, cli_table *table, const kiln_binding *binding,
                            cli_difference *difference, kiln_shape *shape)
{
    kiln_tensor tensor;
    SCOPED(kiln_tensor_free) kiln_tensor reference = {.data = NULL};
    SCOPED_HEAP char *path = cli_tensor_path(work->settings.compare, binding->name);
    CLI_FAIL_IF_ERROR(cli_tensor_load(path, binding->dtype, &reference));
    CLI_FAIL_IF_ERROR(cli_tensor_of(work->context, binding, &tensor));
    *shape = tensor.desc.shape;
    CLI_RETURN_UNLESS_DONE(cli_tensor_compare(binding->name, &tensor, &reference,
                                              work->settings.absolute, work->settings.relative,
                                              difference));
    add_comparison(table, binding->name, shape, difference);
    return CLI_DONE;
}

static cli_exit compare_outputs(job *work)
{
    static const char *const headings[] = {"output", "different", "largest",
                                           "at",     "found",     "expected"};
    cli_table table;
    cli_difference worst = {.where = -1};
    char worst_name[200] = "";
    char worst_place[200] = "";
    size_t failed = 0;
    size_t uncompared = 0;
    const size_t count = kiln_engine_output_count(work->engine);
    cli_table_init(&table, "lrrlrr", headings);
    for (size_t i = 0; i < count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        cli_difference difference = {.where = -1};
        kiln_shape shape = KILN_SHAPE_SCALAR;
        if ((kiln_engine_output(work->engine, i, &binding) != KILN_OK && cli_fail() != CLI_DONE) ||
            compare_one(work, &table, &binding, &difference, &shape) != CLI_DONE) {
            uncompared++;
            continue;
        }
        failed += difference.different > 0;
        if (difference.different > 0 && (worst.where < 0 || difference.largest > worst.largest)) {
            worst = difference;
            (void)snprintf(worst_name, sizeof worst_name, "%s", binding.name);
            cli_index_format(&shape, difference.where, worst_place, sizeof worst_place);
        }
    }
    (void)printf("\ncompared with %s, allowed: ", work->settings.compare);
    if (work->settings.absolute > 0 || work->settings.relative > 0) {
        (void)printf("%g + %g x |expected|\n", work->settings.absolute, work->settings.relative);
    } else {
        (void)printf("no difference\n");
    }
    if (uncompared < count) {
        cli_table_print(&table, 2);
    } else {
        cli_table_finish(&table);
        (void)puts("  no output could be compared");
    }
    (void)fflush(stdout);
    if (failed > 0) {
        cli_error(
            "%zu of %zu outputs %s; the largest difference is %.9g, in \"%s\" at %s: %s was found, "
            "%s was expected",
            failed, count, failed == 1 ? "differs" : "differ", worst.largest, worst_name,
            worst_place, worst.found, worst.expected);
    }
    return failed + uncompared > 0 ? CLI_FAILED : CLI_DONE;
}

/* --- the command --- */

static void finish(job *work)
{
    kiln_context_destroy(work->context);
    kiln_engine_release(work->engine);
    cli_inputs_finish(&work->inputs);
    kiln_histogram_destroy(work->times);
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    SCOPED(finish) job work = {.settings = *(const run_settings *)given, .path = operands[0]};
    run_settings *settings = &work.settings;
    settings->model.shapes = &settings->inputs;
    CLI_RETURN_UNLESS_DONE(look_at_expected(self, settings));
    CLI_RETURN_UNLESS_DONE(cli_model_open(self, work.path, &settings->model, &work.engine));
    CLI_RETURN_UNLESS_DONE(cli_model_context(&settings->model, work.engine, &work.context));
    CLI_RETURN_UNLESS_DONE(
        cli_inputs_bind(self, &settings->inputs, work.engine, work.context, &work.inputs));
    CLI_RETURN_UNLESS_DONE(run_all(&work));
    /* Written before anything is printed: a reader that has seen enough may close the pipe and so
     * end the program. */
    if (settings->output != NULL) {
        CLI_RETURN_UNLESS_DONE(write_outputs(&work));
    }
    print_times(&work);
    CLI_RETURN_UNLESS_DONE(print_tensors(&work));
    return settings->compare != NULL ? compare_outputs(&work) : CLI_DONE;
}

static const cli_option options[] = {
    {"output", 'o', "DIR", CLI_TEXT, offsetof(run_settings, output), 0, 0, NULL,
     "Write each output to DIR/NAME.npy; DIR is created if necessary. Letters, digits, _, -, . "
     "and non-ASCII characters of NAME are kept; every other byte, and a . at the beginning, is "
     "written as %XX: the output \"a/b:0\" goes to a%2Fb%3A0.npy."},
    {"compare", 'c', "DIR", CLI_TEXT, offsetof(run_settings, compare), 0, 0, NULL,
     "Compare each output with DIR/NAME.npy, written by --output or by NumPy; show what "
     "differs, and exit with 1 if anything does."},
    {"atol", 0, "X", CLI_REAL, offsetof(run_settings, absolute), 0, 1e300, NULL,
     "Allow a difference of X. Default 0."},
    {"rtol", 0, "X", CLI_REAL, offsetof(run_settings, relative), 0, 1e300, NULL,
     "Allow a difference of X times the expected number, in addition. Default 0: without --atol "
     "and --rtol outputs must be equal."},
    {"runs", 'n', "N", CLI_INTEGER, offsetof(run_settings, runs), 1, 1000000000, NULL,
     "Run N times with the same inputs; the outputs are those of the last run. Default 1."},
    {0},
};

static const cli_group groups[] = {
    {"Inputs", cli_input_options, offsetof(run_settings, inputs)},
    {"Outputs", options, 0},
    {"Engine", cli_model_options, offsetof(run_settings, model)},
    {0},
};

static const cli_need needs[] = {
    {"atol", "compare"},
    {"rtol", "compare"},
    {0},
};

static const cli_example examples[] = {
    {"kiln run model.onnx", "random inputs; shows the outputs"},
    {"kiln run model.onnx -i image=cat.npy -o results",
     "your own input; the outputs are "
     "written to files"},
    {"kiln run model.onnx -i image=cat.npy -c results --rtol 1e-3",
     "the same on another machine, compared with those files"},
    {"kiln run model.onnx -s tokens=1x128 -i tokens=random:0:30000 -i length=128",
     "token numbers from a range, and one number for all elements"},
    {0},
};

const cli_command cli_command_run = {
    .name = "run",
    .operands = "MODEL",
    .summary = "run a model once and show its outputs",
    .description =
        "Runs MODEL, an ONNX file or a file that Kiln or trtexec saved, and shows for each "
        "input and output its type, its shape and the minimum, mean and maximum of its "
        "elements.\n\nRandom numbers are uniformly distributed: from -1 to 1 for floating "
        "point, integers from 0 to 255 (int8: to 127, int4: to 7, uint4: to 15), 0 and 1 for "
        "bool. Random strings have 1 to 4 digits.",
    .groups = groups,
    .needs = needs,
    .examples = examples,
    CLI_SETTINGS(run_settings, .runs = 1),
    .run = run,
};
