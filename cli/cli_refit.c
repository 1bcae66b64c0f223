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
    bool ignore_unknown, allow_nonfinite;
} refit_settings;

/* One sample: the tensors in a folder. */
typedef struct sample {
    kiln_named_tensor *inputs;
    kiln_named_tensor *expected;
    size_t input_count, expected_count;
} sample;

typedef struct samples {
    sample *loaded;
    kiln_refit_sample *shown; /* the same, for the library */
    size_t count;
} samples;

static cli_exit load_tensor(const char *folder, const kiln_binding *binding, bool needed,
                            kiln_named_tensor *tensors, size_t *count)
{
    SCOPED_HEAP char *path = cli_tensor_path(folder, binding->name);
    kiln_named_tensor *tensor = &tensors[*count];
    if (needed || access(path, F_OK) == 0) {
        CLI_FAIL_IF_ERROR(cli_tensor_load(path, binding->dtype, &tensor->tensor));
        tensor->name = binding->name;
        (*count)++;
    }
    return CLI_DONE;
}

static cli_exit load_sample(const kiln_engine *engine, const char *folder, sample *loaded)
{
    const size_t inputs = kiln_engine_input_count(engine);
    const size_t outputs = kiln_engine_output_count(engine);
    loaded->inputs = cli_allocate(inputs * sizeof *loaded->inputs);
    loaded->expected = cli_allocate(outputs * sizeof *loaded->expected);
    for (size_t i = 0; i < inputs + outputs; i++) {
        kiln_binding binding;
        CLI_FAIL_IF_ERROR(cli_binding_at(engine, i, &binding));
        CLI_RETURN_UNLESS_DONE(
            i < inputs
                ? load_tensor(folder, &binding, true, loaded->inputs, &loaded->input_count)
                : load_tensor(folder, &binding, false, loaded->expected, &loaded->expected_count));
    }
    if (loaded->expected_count == 0) {
        cli_error(
            "--check: \"%s\" has no output to compare with: NAME.npy is missing for each of "
            "the %zu output%s",
            folder, outputs, CLI_S(outputs));
        return CLI_FAILED;
    }
    return CLI_DONE;
}

static void finish_samples(samples *all)
{
    for (size_t i = 0; i < all->count; i++) {
        sample *loaded = &all->loaded[i];
        for (size_t k = 0; k < loaded->input_count; k++) {
            kiln_tensor_free(&loaded->inputs[k].tensor);
        }
        for (size_t k = 0; k < loaded->expected_count; k++) {
            kiln_tensor_free(&loaded->expected[k].tensor);
        }
        free(loaded->inputs);
        free(loaded->expected);
    }
    free(all->loaded);
    free(all->shown);
}

static void print_report(const refit_settings *settings, const kiln_refit_report *report)
{
    SCOPED_HEAP char *output = cli_printable(settings->output);
    (void)printf("%s\n", output);
    if (report->replaced > 0) {
        (void)printf("%zu weight%s replaced", report->replaced, CLI_S(report->replaced));
    } else {
        (void)printf("weights replaced"); /* by TensorRT's own parser, which does not count them */
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

static cli_exit refit(const refit_settings *settings, const char *weights, kiln_engine *engine)
{
    kiln_refit_options options = KILN_REFIT_OPTIONS_INIT;
    kiln_refit_report report = {.struct_size = sizeof report};
    const size_t count = settings->checks.count;
    SCOPED(finish_samples)
    samples all = {cli_allocate(count * sizeof *all.loaded),
                   cli_allocate(count * sizeof *all.shown), count};
    for (size_t i = 0; i < count; i++) {
        sample *loaded = &all.loaded[i];
        CLI_RETURN_UNLESS_DONE(load_sample(engine, settings->checks.items[i], loaded));
        all.shown[i] = (kiln_refit_sample){loaded->inputs, loaded->input_count, loaded->expected,
                                           loaded->expected_count};
    }
    options.samples = all.shown;
    options.sample_count = count;
    options.absolute = settings->absolute;
    options.relative = settings->relative;
    options.allow_rounding = settings->allow_rounding;
    options.ignore_unknown = settings->ignore_unknown;
    options.allow_nonfinite = settings->allow_nonfinite;
    options.report = &report;
    CLI_FAIL_IF_ERROR(kiln_engine_refit_file(engine, weights, &options));
    CLI_FAIL_IF_ERROR(kiln_engine_save(engine, settings->output));
    print_report(settings, &report);
    return CLI_DONE;
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    const refit_settings *settings = given;
    CLI_OWNED(engine) engine = NULL;
    if (settings->output == NULL) {
        return cli_misuse(self,
                          "--output is missing: it names the file that the engine with the "
                          "new weights is written to");
    }
    CLI_RETURN_UNLESS_DONE(cli_model_open(self, operands[0], &settings->model, &engine));
    return refit(settings, operands[1], engine);
}

#define AT(field) offsetof(refit_settings, field)

static const cli_option options[] = {
    {"output", 'o', "FILE", CLI_CHANGED, AT(output), 0, 0, NULL,
     "Write the engine with the new weights here; it may be ENGINE itself."},
    {"check", 'c', "DIR", CLI_LIST, AT(checks), 0, 0, NULL,
     "Test the weights first: run them on DIR/NAME.npy for each input, and compare with "
     "DIR/NAME.npy for the outputs that are there, at least one. May be given several times."},
    {"atol", 0, "X", CLI_REAL, AT(absolute), 0, 1e300, NULL, "Allow a difference of X. Default 0."},
    {"rtol", 0, "X", CLI_REAL, AT(relative), 0, 1e300, NULL,
     "Allow a difference of X times the expected number, in addition. Default 0."},
    {"allow-rounding", 0, NULL, CLI_FLAG, AT(allow_rounding), 0, 0, NULL,
     "Round weights to the engine's narrower type; without this option, weights that would lose "
     "precision are refused."},
    {"ignore-unknown", 0, NULL, CLI_FLAG, AT(ignore_unknown), 0, 0, NULL,
     "Skip weights that the engine does not have."},
    {"allow-nonfinite", 0, NULL, CLI_FLAG, AT(allow_nonfinite), 0, 0, NULL,
     "Accept NaN and infinities where the engine's weights are not known to have them; without "
     "this option, they are refused."},
    {0},
};

static const cli_option engine_options[] = {
    CLI_ROWS_OF(CLI_LOADS, offsetof(cli_model_settings, build)), {0}};

static const cli_group groups[] = {
    {"Weights", options, 0},
    {"Engine", engine_options, AT(model)},
    {0},
};

static const cli_need needs[] = {
    {"atol", "check"},
    {"rtol", "check"},
    {0},
};

static const cli_example examples[] = {
    {"kiln refit net.plan new.safetensors -o net.plan --check sample --rtol 1e-3",
     "new weights, if their outputs are close to the expected ones"},
    {"kiln refit net.plan trained.onnx -o new.plan",
     "the weights of a model that was trained "
     "further"},
    {0},
};

const cli_command cli_command_refit = {
    .name = "refit",
    .operands = "ENGINE WEIGHTS",
    .summary = "replace the weights of an engine",
    .description =
        "Replaces weights of ENGINE, a TensorRT plan that was built with --refit or an ONNX "
        "file, by those of the same names in WEIGHTS, a .safetensors or ONNX file, and saves "
        "it. If a check fails, nothing is written.",
    .groups = groups,
    .needs = needs,
    .examples = examples,
    CLI_SETTINGS(refit_settings, .output = NULL),
    .run = run,
};
