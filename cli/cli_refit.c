/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_list.h"
#include "cli_model.h"

typedef struct refit_settings {
    cli_model_settings model;
    const char *output;
    cli_list checks; /* folders */
    double absolute, relative;
    bool allow_rounding;
    bool ignore_unknown;
} refit_settings;

/* One sample: the tensors of a folder. */
typedef struct sample {
    kiln_named_tensor *inputs;
    kiln_named_tensor *expected;
    size_t input_count, expected_count;
} sample;

static cli_exit load_tensor(const char *folder, const kiln_binding *binding, bool needed,
                            kiln_named_tensor *tensors, size_t *count)
{
    char *path = cli_tensor_path(folder, binding->name);
    const bool is_there = needed || access(path, F_OK) == 0;
    kiln_named_tensor *tensor = &tensors[*count];
    const kiln_status status =
        is_there ? cli_tensor_load(path, binding->dtype, &tensor->tensor) : KILN_OK;
    free(path);
    if (status != KILN_OK) {
        return cli_fail();
    }
    if (is_there) {
        tensor->name = binding->name;
        (*count)++;
    }
    return CLI_DONE;
}

static cli_exit load_sample(const kiln_engine *engine, const char *folder, sample *loaded)
{
    const size_t inputs = kiln_engine_input_count(engine);
    const size_t outputs = kiln_engine_output_count(engine);
    cli_exit result = CLI_DONE;
    loaded->inputs = cli_allocate((inputs + 1) * sizeof *loaded->inputs);
    loaded->expected = cli_allocate((outputs + 1) * sizeof *loaded->expected);
    for (size_t i = 0; i < inputs + outputs && result == CLI_DONE; i++) {
        kiln_binding binding;
        result =
            cli_binding_at(engine, i, &binding) != KILN_OK ? cli_fail()
            : i < inputs
                ? load_tensor(folder, &binding, true, loaded->inputs, &loaded->input_count)
                : load_tensor(folder, &binding, false, loaded->expected, &loaded->expected_count);
    }
    if (result == CLI_DONE && loaded->expected_count == 0) {
        cli_error(
            "--check: \"%s\" has no output to compare with: NAME.npy is missing for each of "
            "the %zu output%s",
            folder, outputs, CLI_S(outputs));
        result = CLI_FAILED;
    }
    return result;
}

static void finish_sample(sample *loaded)
{
    for (size_t i = 0; i < loaded->input_count; i++) {
        kiln_tensor_free(&loaded->inputs[i].tensor);
    }
    for (size_t i = 0; i < loaded->expected_count; i++) {
        kiln_tensor_free(&loaded->expected[i].tensor);
    }
    free(loaded->inputs);
    free(loaded->expected);
}

static void print_report(const refit_settings *settings, const kiln_refit_report *report)
{
    char *output = cli_printable(settings->output);
    (void)printf("%s\n", output);
    free(output);
    if (report->replaced > 0) {
        (void)printf("%zu weight%s replaced", report->replaced, CLI_S(report->replaced));
    } else {
        (void)printf("weights replaced"); /* by TensorRT's own reader, which does not count */
    }
    if (report->ignored > 0) {
        (void)printf(", %zu passed over", report->ignored);
    }
    if (report->converted > 0) {
        (void)printf(", %zu converted", report->converted);
    }
    if (report->rounded > 0) {
        (void)printf(", %llu element%s rounded", (unsigned long long)report->rounded,
                     CLI_S(report->rounded));
    }
    if (report->samples > 0) {
        (void)printf("; %zu sample%s passed, the largest difference is %g", report->samples,
                     CLI_S(report->samples), report->largest);
    }
    (void)printf("\n");
}

static cli_exit refit(const refit_settings *settings, const char *weights, kiln_engine *engine,
                      sample *loaded, kiln_refit_sample *samples)
{
    kiln_refit_options options = KILN_REFIT_OPTIONS_INIT;
    kiln_refit_report report = {.struct_size = sizeof report};
    const size_t count = settings->checks.count;
    for (size_t i = 0; i < count; i++) {
        if (load_sample(engine, settings->checks.items[i], &loaded[i]) != CLI_DONE) {
            return CLI_FAILED;
        }
        samples[i] = (kiln_refit_sample){loaded[i].inputs, loaded[i].input_count,
                                         loaded[i].expected, loaded[i].expected_count};
    }
    options.samples = samples;
    options.sample_count = count;
    options.absolute = settings->absolute;
    options.relative = settings->relative;
    options.allow_rounding = settings->allow_rounding;
    options.ignore_unknown = settings->ignore_unknown;
    options.report = &report;
    CLI_FAIL_IF_ERROR(kiln_engine_refit_file(engine, weights, &options));
    CLI_FAIL_IF_ERROR(kiln_engine_save(engine, settings->output));
    print_report(settings, &report);
    return CLI_DONE;
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    refit_settings *settings = given;
    kiln_engine *engine = NULL;
    cli_exit result = CLI_DONE;
    const size_t checks = settings->checks.count;
    sample *loaded = cli_allocate((checks + 1) * sizeof *loaded);
    kiln_refit_sample *samples = cli_allocate((checks + 1) * sizeof *samples);
    memset(loaded, 0, (checks + 1) * sizeof *loaded);
    if (settings->output == NULL) {
        result = cli_misuse(self,
                            "--output is missing: it names the file that the engine with the "
                            "new weights is written to");
    } else {
        result = cli_model_open(self, operands[0], &settings->model, &engine);
    }
    if (result == CLI_DONE) {
        result = refit(settings, operands[1], engine, loaded, samples);
    }
    kiln_engine_release(engine);
    for (size_t i = 0; i < checks; i++) {
        finish_sample(&loaded[i]);
    }
    free(loaded);
    free(samples);
    return result;
}

#define AT(field) offsetof(refit_settings, field)

static const cli_option options[] = {
    {"output", 'o', "FILE", CLI_CHANGED, AT(output), 0, 0, NULL,
     "Write the engine with the new weights here; it may be ENGINE itself."},
    {"check", 'c', "DIR", CLI_LIST, AT(checks), 0, 0, NULL,
     "Try the weights first: run them on DIR/NAME.npy for each input, and compare with "
     "DIR/NAME.npy for the outputs that are there, at least one. May be given several times."},
    {"atol", 0, "X", CLI_REAL, AT(absolute), 0, 1e300, NULL, "Allow a difference of X. Default 0."},
    {"rtol", 0, "X", CLI_REAL, AT(relative), 0, 1e300, NULL,
     "Allow a difference of X times the expected number, in addition. Default 0."},
    {"allow-rounding", 0, NULL, CLI_FLAG, AT(allow_rounding), 0, 0, NULL,
     "Round weights to the narrower type that the engine has them in; without it, what would lose "
     "something is refused."},
    {"ignore-unknown", 0, NULL, CLI_FLAG, AT(ignore_unknown), 0, 0, NULL,
     "Pass over weights that the engine does not have."},
    {0},
};

static const cli_option engine_options[] = {
    CLI_ROWS_OF(CLI_LOADS, offsetof(cli_model_settings, build)), {0}};

static const cli_group groups[] = {
    {"Weights", options, 0},
    {"Engine", engine_options, AT(model)},
    {0},
};

static const cli_example examples[] = {
    {"kiln refit net.plan new.safetensors -o net.plan --check sample --rtol 1e-3",
     "new weights, if what they give is near what is expected"},
    {"kiln refit net.plan trained.onnx -o new.plan", "those of a model that was trained further"},
    {0},
};

const cli_command cli_command_refit = {
    .name = "refit",
    .operands = "ENGINE WEIGHTS",
    .least = 2,
    .most = 2,
    .summary = "give an engine new weights",
    .description =
        "Replaces weights of ENGINE, a plan of TensorRT that was built with --refit or an ONNX "
        "file, by those of the same names in WEIGHTS, a .safetensors or ONNX file, and saves it. "
        "Where a check fails, nothing is written.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(refit_settings, .output = NULL),
    .run = run,
};
