/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_list.h"
#include "cli_model.h"
#include "cli_warmup.h"

typedef struct build_settings {
    kiln_build_options *build; /* the library's options */
    const char *output;
    double time_limit;
    double memory_limit; /* MiB */
    bool tune;
    bool warmup;
} build_settings;

/* --- building --- */

static kiln_status wait_for(kiln_build *build, kiln_engine **engine, kiln_build_progress *progress)
{
    kiln_status status = KILN_ERROR_BUSY;
    while (status == KILN_ERROR_BUSY) {
        status = kiln_build_wait(build, 50, engine);
        if (kiln_build_get_progress(build, progress) == KILN_OK && progress->reports > 0) {
            cli_progress_set(progress->fraction);
            cli_progress_phase(progress->phase);
        }
    }
    return status;
}

static void print_result(const build_settings *settings, kiln_engine *engine,
                         const kiln_build_progress *progress)
{
    char backend[200];
    cli_model_backend(engine, backend, sizeof backend);
    SCOPED_HEAP char *output = cli_printable(settings->output);
    (void)printf("%s\nbuilt with %s in %.2f s", output, backend,
                 (double)progress->nanoseconds / 1e9);
    if (progress->reports > 0) {
        (void)printf(", memory grew by %.0f MiB", (double)progress->memory_bytes / CLI_MIB);
    }
    (void)printf("\n\n");
    cli_table table;
    static const char *const headings[] = {"", "name", "type", "shape"};
    cli_table_init(&table, "llll", headings);
    const size_t inputs = kiln_engine_input_count(engine);
    for (size_t i = 0; i < inputs + kiln_engine_output_count(engine); i++) {
        kiln_binding binding;
        char shape[256];
        if (cli_binding_at(engine, i, &binding) == KILN_OK) {
            (void)kiln_shape_format(&binding.shape, shape, sizeof shape);
            CLI_TABLE_ADD(&table, i < inputs ? "input" : "output", binding.name,
                          kiln_dtype_name(binding.dtype), shape);
        }
    }
    cli_table_print(&table, 0);
    kiln_gpu_memory memory = {.struct_size = sizeof memory};
    if (kiln_engine_gpu_memory(engine, &memory) == KILN_OK && memory.bytes_peak > 0) {
        (void)printf("\nof the GPU's memory it held at most %.1f MiB, in %llu allocation%s\n",
                     (double)memory.bytes_peak / CLI_MIB, (unsigned long long)memory.allocations,
                     CLI_S(memory.allocations));
    }
}

/* Prints which nodes compute in another type than requested, if the backend reports this. */
static void print_precision(const kiln_engine *engine)
{
    static const char *const headings[] = {"node", "asked for", "computes in", "layer"};
    const kiln_precision_report *report = kiln_engine_precision(engine);
    kiln_precision_summary totals = {.struct_size = sizeof totals};
    kiln_precision_node node = {.struct_size = sizeof node};
    if (report == NULL || kiln_precision_report_summary(report, &totals) != KILN_OK ||
        totals.achieved_count + totals.missed_count == 0) {
        return;
    }
    (void)printf("\n%zu of %zu nodes compute in the type that was asked for\n",
                 totals.achieved_count, totals.achieved_count + totals.missed_count);
    cli_table table;
    cli_table_init(&table, "llll", headings);
    for (size_t i = 0; i < totals.node_count; i++) {
        if (kiln_precision_report_node(report, i, &node) == KILN_OK &&
            node.achieved != KILN_DTYPE_UNDEFINED && node.achieved != node.dtype) {
            CLI_TABLE_ADD(&table, node.name[0] != '\0' ? node.name : node.output,
                          kiln_dtype_name(node.dtype), kiln_dtype_name(node.achieved), node.layer);
        }
    }
    if (totals.missed_count > 0) {
        cli_table_print(&table, 0);
    } else {
        cli_table_finish(&table);
    }
}

/* Prints which way to build was the fastest. */
static void print_tuning(const kiln_tune_result *tuned)
{
    static const char *const switches[] = {NULL, "on", "off"};
    static const char *const searches[] = {NULL, "exhaustive", "by heuristics", "none"};
    (void)printf("tuned: of %u ways to build, %u failed; a run takes %.1f us, as given %.1f us\n",
                 tuned->tried, tuned->failed, (double)tuned->best_nanoseconds / 1e3,
                 (double)tuned->given_nanoseconds / 1e3);
    if (switches[tuned->prefer_nhwc] != NULL) {
        (void)printf("       images in NHWC: %s\n", switches[tuned->prefer_nhwc]);
    }
    if (searches[tuned->conv_search] != NULL) {
        (void)printf("       search for convolutions: %s\n", searches[tuned->conv_search]);
    }
    if (switches[tuned->fuse_conv_bias] != NULL) {
        (void)printf("       bias fused into convolutions: %s\n", switches[tuned->fuse_conv_bias]);
    }
    if (tuned->merged_products + tuned->fused_attentions + tuned->transposed_products != 0) {
        (void)printf("       products merged: %u, attentions fused: %u, weights transposed: %u\n",
                     tuned->merged_products, tuned->fused_attentions, tuned->transposed_products);
    }
    (void)printf("\n");
}

static kiln_status build_by_job(const build_settings *settings, const char *path,
                                const kiln_build_options *options, kiln_engine **engine,
                                kiln_build_progress *progress)
{
    kiln_build_limits limits = KILN_BUILD_LIMITS_INIT;
    limits.milliseconds = (uint64_t)(settings->time_limit * 1e3);
    limits.memory_bytes = (uint64_t)(settings->memory_limit * CLI_MIB);
    CLI_OWNED(build) build = NULL;
    KLN_RETURN_IF_ERROR(kiln_build_start_file(path, options, &limits, &build));
    return wait_for(build, engine, progress);
}

static cli_exit build_and_save(const build_settings *settings, const char *path)
{
    CLI_OWNED(issue_list) issues = NULL;
    kiln_build_options wanted = KILN_BUILD_OPTIONS_INIT;
    if (settings->build != NULL) {
        wanted = *settings->build;
    }
    wanted.issues = &issues;
    if (wanted.timing_cache != NULL && cli_look_at_output(wanted.timing_cache) != CLI_DONE) {
        return CLI_FAILED;
    }
    CLI_OWNED(engine) engine = NULL;
    kiln_build_progress progress = {.struct_size = sizeof progress};
    kiln_tune_result tuned = {.struct_size = sizeof tuned};
    const uint64_t begin = kiln_clock_now();
    char what[300];
    (void)snprintf(what, sizeof what, "%s %.255s", settings->tune ? "tuning" : "building",
                   cli_file_name(path));
    cli_progress_begin(what);
    const kiln_status status = settings->tune
                                   ? kiln_engine_tune_file(path, &wanted, &tuned, &engine)
                                   : build_by_job(settings, path, &wanted, &engine, &progress);
    cli_progress_end();
    if (status != KILN_OK) {
        return cli_fail_issues(issues);
    }
    if (settings->warmup) {
        CLI_RETURN_UNLESS_DONE(cli_warmup(engine));
    }
    CLI_FAIL_IF_ERROR(kiln_engine_save(engine, settings->output));
    progress.nanoseconds = settings->tune ? kiln_clock_now() - begin : progress.nanoseconds;
    print_result(settings, engine, &progress);
    print_precision(engine);
    if (settings->tune) {
        print_tuning(&tuned);
    }
    return CLI_DONE;
}

/* --- the command --- */

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    const build_settings *settings = given;
    return settings->output == NULL
               ? cli_misuse(self,
                            "--output is missing: it names the file that the plan is written to")
           : settings->tune && (settings->time_limit > 0 || settings->memory_limit > 0)
               ? cli_misuse(self,
                            "--tune builds several times and has no limit; leave out "
                            "--time-limit and --memory-limit")
               : build_and_save(settings, operands[0]);
}

#define AT(field) offsetof(build_settings, field)
#define ROWS(rows)                    \
    (const cli_option[])              \
    {                                 \
        CLI_ROWS_OF(rows, AT(build)), \
        {                             \
            0                         \
        }                             \
    }

static const cli_option options[] = {
    {"output", 'o', "PLAN", CLI_OUTPUT, AT(output), 0, 0, NULL,
     "Write the plan here, and next to it PLAN.json, which records how it was built."},
    CLI_ROWS_OF("all backends", AT(build)),
    {"time-limit", 0, "SECONDS", CLI_REAL, AT(time_limit), 0, 1e6, NULL,
     "Abandon the build "
     "after this time."},
    {"memory-limit", 0, "MIB", CLI_REAL, AT(memory_limit), 0, 1e9, NULL,
     "Abandon the build when the program's memory has grown by more than this."},
    {"warmup", 0, NULL, CLI_FLAG, AT(warmup), 0, 0, NULL,
     "Run the plan with the opt shapes of each profile, measure the fastest way to transfer "
     "inputs and outputs in a captured CUDA graph, and save it in the manifest, so that "
     "programs start with it. Needs the GPU that the plan is for."},
    {0},
};

static const cli_option runtime_group[] = {
    {"tune", 0, NULL, CLI_FLAG, AT(tune), 0, 0, NULL,
     "Build in several ways that give the same results except for rounding, time each with the "
     "first profile's opt shapes, and save the fastest. Needs --provider cuda."},
    CLI_ROWS_OF("ONNX Runtime on a GPU", AT(build)),
    {0},
};

static const cli_group groups[] = {
    {"Build", options, 0},
    {"TensorRT", ROWS("TensorRT"), 0},
    {"ONNX Runtime on a GPU, TensorRT", ROWS("ONNX Runtime on a GPU, TensorRT"), 0},
    {"ONNX Runtime on a GPU", runtime_group, 0},
    {"ONNX Runtime", ROWS("ONNX Runtime"), 0},
    {"Engine", ROWS(CLI_LOADS), 0},
    {0},
};

static const cli_need needs[] = {
    {"rest", "precision"},
    {"ranges", "precision"},
    {"strict", "precision"},
    {"cache-limit", "cache"},
    {0},
};

static const cli_example examples[] = {
    {"kiln build a.onnx -o a.plan -b tensorrt -p 'x=1x8:4x8:8x8'", "a plan for batches of 1 to 8"},
    {"kiln build a.onnx -o a.plan -b tensorrt -c 89,120",
     "for GPUs that are not in this "
     "machine"},
    {"kiln build a.onnx -o fast.onnx --provider cuda --tune -p 'x=8x64:8x64:8x64'",
     "the fastest form of a model for batches of 8 with ONNX Runtime"},
    {0},
};

const cli_command cli_command_build = {
    .name = "build",
    .operands = "MODEL",
    .summary = "build a plan from a model and save it",
    .description =
        "Builds the ONNX file MODEL and saves the result: with TensorRT a plan, which trtexec "
        "loads too; with the other backends, ONNX. An option that the backend or its version "
        "does not have is an error.",
    .groups = groups,
    .needs = needs,
    .examples = examples,
    CLI_SETTINGS(build_settings, .build = NULL),
    .run = run,
};
