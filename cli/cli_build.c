/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_list.h"
#include "cli_model.h"
#include "cli_warmup.h"

#define MOST_PROFILES 16
#define MOST_INPUTS 64
#define MOST_VALUES 64
#define MOST_CAPABILITIES 16

typedef struct build_settings {
    cli_model_settings model;
    const char *output;
    cli_list profiles;
    const char *capabilities;
    const char *timing_cache;
    const char *tactic_sources;
    double workspace; /* MiB */
    double time_limit;
    double memory_limit; /* MiB */
    int64_t level;       /* -1: the library's default */
    int refit;
    int hardware;
    int verbosity;
    bool no_tf32, sparse, strip, weight_streaming, version_compatible;
    bool tune;
    bool warmup;

    /* The rarer ones. */
    cli_list pools;
    double gpu_memory;   /* MiB */
    double l2_limit;     /* KiB */
    int64_t aux_streams; /* -1: the library's default */
    int64_t dla_core;    /* -1: none */
    int64_t tiling, tactics, timings;
    int gpu_allocator;
    bool gpu_fallback, serialize_plugins, windows, strict_nans, direct_io;
    bool distributive, exclude_lean, no_timing_cache, no_compilation_cache, need_timing_cache;
} build_settings;

/* What the options were read into; the build's options point here. */
typedef struct plan_options {
    kiln_profile profiles[MOST_PROFILES];
    kiln_profile_input inputs[MOST_INPUTS];
    int64_t values[MOST_INPUTS][3][MOST_VALUES];
    size_t input_count;
    int32_t capabilities[MOST_CAPABILITIES];
    char *texts[MOST_PROFILES];
} plan_options;

/* --- reading --- */

/* "1,2,3" into `values`; how many, or 0 where it cannot be read. */
static size_t read_values(char *text, int64_t values[MOST_VALUES])
{
    size_t count = 0;
    char *rest = NULL;
    for (char *item = strtok_r(text, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest)) {
        char *end = NULL;
        if (count == MOST_VALUES) {
            return 0;
        }
        values[count++] = strtoll(item, &end, 10);
        if (*end != '\0') {
            return 0;
        }
    }
    return count;
}

static bool set_values(kiln_profile_input *input, int64_t lists[3][MOST_VALUES], char *parts[3])
{
    for (size_t i = 0; i < 3; i++) {
        const size_t count = read_values(parts[i] + 1, lists[i]);
        if (count == 0 || (i > 0 && count != input->value_count) || parts[i][0] != 'v') {
            return false;
        }
        input->value_count = count;
    }
    input->min_values = lists[0];
    input->opt_values = lists[1];
    input->max_values = lists[2];
    return true;
}

/* "NAME=MIN:OPT:MAX", or one shape for all three. */
static bool read_input(plan_options *plan, char *text)
{
    char *equals = strrchr(text, '=');
    if (equals == NULL || equals == text || plan->input_count == MOST_INPUTS) {
        return false;
    }
    *equals = '\0';
    char *parts[3] = {equals + 1, NULL, NULL};
    for (size_t i = 1; i < 3; i++) {
        parts[i] = strchr(parts[i - 1], ':');
        if (parts[i] == NULL) {
            break;
        }
        *parts[i]++ = '\0';
    }
    if (parts[1] != NULL && (parts[2] == NULL || strchr(parts[2], ':') != NULL)) {
        return false;
    }
    kiln_profile_input *input = &plan->inputs[plan->input_count];
    *input = (kiln_profile_input){.name = text};
    if (parts[0][0] == 'v') {
        return parts[1] != NULL && set_values(input, plan->values[plan->input_count++], parts);
    }
    plan->input_count++;
    if (parts[1] == NULL) {
        parts[1] = parts[0];
        parts[2] = parts[0];
    }
    return kiln_shape_parse(parts[0], &input->min) == KILN_OK &&
           kiln_shape_parse(parts[1], &input->opt) == KILN_OK &&
           kiln_shape_parse(parts[2], &input->max) == KILN_OK;
}

static cli_exit read_profiles(const cli_command *self, const cli_list *list, plan_options *plan,
                              kiln_build_options *options)
{
    if (list->count > MOST_PROFILES) {
        return cli_misuse(self, "%zu profiles were given, at most %d are allowed", list->count,
                          MOST_PROFILES);
    }
    for (size_t i = 0; i < list->count; i++) {
        const size_t size = strlen(list->items[i]) + 1;
        plan->texts[i] = cli_allocate(size);
        memcpy(plan->texts[i], list->items[i], size);
        plan->profiles[i].inputs = &plan->inputs[plan->input_count];
        char *rest = NULL;
        for (char *item = strtok_r(plan->texts[i], " ", &rest); item != NULL;
             item = strtok_r(NULL, " ", &rest)) {
            if (!read_input(plan, item)) {
                return cli_misuse(self,
                                  "--profile \"%.200s\" cannot be read; NAME=MIN:OPT:MAX for each "
                                  "dynamic input is needed, as in x=1x3x224x224:8x3x224x224:"
                                  "32x3x224x224",
                                  list->items[i]);
            }
            plan->profiles[i].input_count++;
        }
    }
    options->profiles = plan->profiles;
    options->profile_count = list->count;
    return CLI_DONE;
}

static cli_exit read_capabilities(const cli_command *self, const char *text, plan_options *plan,
                                  kiln_build_options *options)
{
    while (text != NULL && *text != '\0') {
        char *end = NULL;
        const long value = strtol(text, &end, 10);
        if (end == text || (*end != ',' && *end != '\0') || value < 1 || value > 999 ||
            options->compute_capability_count == MOST_CAPABILITIES) {
            return cli_misuse(self, "--compute-capabilities takes numbers such as 80,89,120");
        }
        plan->capabilities[options->compute_capability_count++] = (int32_t)value;
        options->compute_capabilities = plan->capabilities;
        text = *end == ',' ? end + 1 : end;
    }
    return CLI_DONE;
}

#define MIB 1048576.0

/* "dla-sram=1.5" */
static cli_exit read_pools(const cli_command *self, const cli_list *list,
                           kiln_build_options *options)
{
    const struct {
        const char *name;
        uint64_t *bytes;
    } pools[] = {{"workspace", &options->workspace_bytes},
                 {"dla-sram", &options->dla_sram_bytes},
                 {"dla-local", &options->dla_local_dram_bytes},
                 {"dla-global", &options->dla_global_dram_bytes},
                 {"tactic-dram", &options->tactic_dram_bytes},
                 {"tactic-shared", &options->tactic_shared_bytes}};
    for (size_t i = 0; i < list->count; i++) {
        const char *item = list->items[i];
        const size_t length = strcspn(item, "=");
        double size = 0;
        bool found = false;
        for (size_t p = 0; p < CLI_ARRAY_LENGTH(pools) && item[length] == '='; p++) {
            if (strlen(pools[p].name) == length && strncmp(pools[p].name, item, length) == 0 &&
                cli_number(item + length + 1, &size) && size > 0 && size <= 1e9) {
                *pools[p].bytes = (uint64_t)(size * MIB);
                found = true;
            }
        }
        if (!found) {
            return cli_misuse(self,
                              "--pool \"%.80s\" cannot be read; POOL=MIB is needed, and the pools "
                              "are workspace, dla-sram, dla-local, dla-global, tactic-dram and "
                              "tactic-shared",
                              item);
        }
    }
    return CLI_DONE;
}

static void read_rare_options(const build_settings *settings, kiln_build_options *options)
{
    options->gpu_memory_bytes = (uint64_t)(settings->gpu_memory * MIB);
    options->gpu_allocator = (kiln_gpu_allocator)settings->gpu_allocator;
    options->l2_limit_for_tiling = (uint64_t)(settings->l2_limit * 1024.0);
    options->tiling_optimization_level = (int32_t)settings->tiling;
    options->max_tactics = (int32_t)settings->tactics;
    options->average_timing_iterations = (int32_t)settings->timings;
    /* The option's 0 is the library's default, so that none at all is -1 there. */
    options->max_aux_streams = settings->aux_streams < 0    ? 0
                               : settings->aux_streams == 0 ? -1
                                                            : (int32_t)settings->aux_streams;
    options->dla_core = settings->dla_core < 0    ? 0
                        : settings->dla_core == 0 ? -1
                                                  : (int32_t)settings->dla_core;
    options->gpu_fallback = settings->gpu_fallback;
    options->plugins = settings->model.plugins.items;
    options->plugin_count = settings->model.plugins.count;
    options->serialize_plugins = settings->serialize_plugins;
    options->windows_runtime = settings->windows;
    options->strict_nans = settings->strict_nans;
    options->direct_io = settings->direct_io;
    options->distributive_independence = settings->distributive;
    options->exclude_lean_runtime = settings->exclude_lean;
    options->disable_timing_cache = settings->no_timing_cache;
    options->disable_compilation_cache = settings->no_compilation_cache;
    options->error_on_timing_cache_miss = settings->need_timing_cache;
}

static cli_exit read_options(const cli_command *self, const build_settings *settings,
                             plan_options *plan, kiln_build_options *options)
{
    cli_model_set(&settings->model, options);
    options->workspace_bytes = (uint64_t)(settings->workspace * MIB);
    /* The option's 0 is the library's default, so that level 0 is -1 there. */
    options->builder_optimization_level = settings->level < 0    ? 0
                                          : settings->level == 0 ? -1
                                                                 : (int32_t)settings->level;
    options->timing_cache = settings->timing_cache;
    options->tactic_sources = settings->tactic_sources;
    options->tf32 = settings->no_tf32 ? KILN_SWITCH_OFF : KILN_SWITCH_DEFAULT;
    options->sparse_weights = settings->sparse;
    options->strip_plan = settings->strip;
    options->weight_streaming = settings->weight_streaming;
    options->version_compatible = settings->version_compatible;
    options->refit = (kiln_refit_mode)settings->refit;
    options->hardware_compatibility = (kiln_hardware_compatibility)settings->hardware;
    options->profiling_verbosity = (kiln_profiling_verbosity)settings->verbosity;
    read_rare_options(settings, options);
    cli_exit result = read_pools(self, &settings->pools, options);
    if (result == CLI_DONE) {
        result = read_capabilities(self, settings->capabilities, plan, options);
    }
    return result == CLI_DONE ? read_profiles(self, &settings->profiles, plan, options) : result;
}

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
    char *output = cli_printable(settings->output);
    (void)printf("%s\nbuilt with %s in %.2f s", output, backend,
                 (double)progress->nanoseconds / 1e9);
    free(output);
    if (progress->reports > 0) {
        (void)printf(", memory grew by %.0f MiB", (double)progress->memory_bytes / MIB);
    }
    (void)printf("\n\n");
    cli_table table;
    static const char *const headings[] = {"", "name", "type", "shape"};
    cli_table_init(&table, "llll", headings);
    const size_t inputs = kiln_engine_input_count(engine);
    for (size_t i = 0; i < inputs + kiln_engine_output_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        const kiln_status status = i < inputs ? kiln_engine_input(engine, i, &binding)
                                              : kiln_engine_output(engine, i - inputs, &binding);
        char shape[256];
        if (status == KILN_OK) {
            (void)kiln_shape_format(&binding.shape, shape, sizeof shape);
            cli_table_add(&table, i < inputs ? "input" : "output");
            cli_table_add(&table, binding.name);
            cli_table_add(&table, kiln_dtype_name(binding.dtype));
            cli_table_add(&table, shape);
        }
    }
    cli_table_print(&table, 0);
    kiln_gpu_memory memory = {.struct_size = sizeof memory};
    if (kiln_engine_gpu_memory(engine, &memory) == KILN_OK && memory.bytes_peak > 0) {
        (void)printf("\nof the GPU's memory it held at most %.1f MiB, in %llu allocations\n",
                     (double)memory.bytes_peak / MIB, (unsigned long long)memory.allocations);
    }
}

/* What of the ways to build was the fastest. */
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
    limits.memory_bytes = (uint64_t)(settings->memory_limit * MIB);
    kiln_build *build = NULL;
    kiln_status status = kiln_build_start_file(path, options, &limits, &build);
    if (status == KILN_OK) {
        status = wait_for(build, engine, progress);
    }
    kiln_build_destroy(build);
    return status;
}

static cli_exit build_and_save(const build_settings *settings, const char *path,
                               const kiln_build_options *options)
{
    kiln_issue_list *issues = NULL;
    kiln_build_options wanted = *options;
    wanted.issues = &issues;
    kiln_engine *engine = NULL;
    kiln_build_progress progress = {.struct_size = sizeof progress};
    kiln_tune_result tuned = {.struct_size = sizeof tuned};
    const uint64_t begin = kiln_clock_now();
    const char *slash = strrchr(path, '/');
    char what[300];
    (void)snprintf(what, sizeof what, "%s %.255s", settings->tune ? "tuning" : "building",
                   slash != NULL ? slash + 1 : path);
    cli_progress_begin(what);
    const kiln_status status = settings->tune
                                   ? kiln_engine_tune_file(path, &wanted, &tuned, &engine)
                                   : build_by_job(settings, path, &wanted, &engine, &progress);
    cli_progress_end();
    cli_exit result = status == KILN_OK ? CLI_DONE : cli_fail_issues(issues);
    if (result == CLI_DONE && settings->warmup) {
        result = cli_warmup(engine);
    }
    if (result == CLI_DONE && kiln_engine_save(engine, settings->output) != KILN_OK) {
        result = cli_fail();
    }
    if (result == CLI_DONE) {
        progress.nanoseconds = settings->tune ? kiln_clock_now() - begin : progress.nanoseconds;
        print_result(settings, engine, &progress);
        if (settings->tune) {
            print_tuning(&tuned);
        }
    }
    kiln_engine_release(engine);
    kiln_issue_list_destroy(issues);
    return result;
}

/* --- the command --- */

static cli_exit run(const cli_command *self, int count, char **arguments)
{
    build_settings settings = {.level = -1, .aux_streams = -1, .dla_core = -1};
    const char *operands[1] = {NULL};
    cli_exit result = CLI_DONE;
    if (!cli_options_read(self, count, arguments, &settings, operands, &result)) {
        return result;
    }
    plan_options *plan = cli_allocate(sizeof *plan);
    memset(plan, 0, sizeof *plan);
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    result =
        settings.output == NULL
            ? cli_misuse(self, "--output is missing: it names the file that the plan is written to")
        : settings.model.graph != 0 || settings.model.refit != NULL
            ? cli_misuse(self, "--graph and --refit-from are for running what was built")
        : settings.tune && (settings.time_limit > 0 || settings.memory_limit > 0)
            ? cli_misuse(self,
                         "--tune builds several times and has no limit; leave out "
                         "--time-limit and --memory-limit")
            : read_options(self, &settings, plan, &options);
    if (result == CLI_DONE) {
        result = build_and_save(&settings, operands[0], &options);
    }
    for (size_t i = 0; i < MOST_PROFILES; i++) {
        free(plan->texts[i]);
    }
    free(plan);
    cli_options_finish(self, &settings);
    return result;
}

static const char *const refit_modes[] = {"none", "all", "identical", NULL};
static const char *const hardware_levels[] = {"none", "ampere+", "same-capability", NULL};
static const char *const allocators[] = {"default", "kiln", "library", NULL};
static const char *const verbosities[] = {"default", "none", "names", "detailed", NULL};

#define AT(field) offsetof(build_settings, field)

static const cli_option options[] = {
    {"output", 'o', "PLAN", CLI_TEXT, AT(output), 0, 0, NULL,
     "Write the plan here, and beside it PLAN.json, which says how it was built."},
    {"profile", 'p', "RANGES", CLI_LIST, AT(profiles), 0, 0, NULL,
     "The shapes that dynamic inputs will have: NAME=MIN:OPT:MAX for each, with blanks between "
     "inputs. "
     "Values of a shape tensor are written with a v: s=v1,64:v1,128:v1,256. May be given several "
     "times, for several profiles."},
    {"compute-capabilities", 'c', "LIST", CLI_TEXT, AT(capabilities), 0, 0, NULL,
     "The GPUs to build for with TensorRT-RTX, as 80,89,120; none of them need be here."},
    {"time-limit", 0, "SECONDS", CLI_REAL, AT(time_limit), 0, 1e6, NULL, "Give up after this."},
    {"memory-limit", 0, "MIB", CLI_REAL, AT(memory_limit), 0, 1e9, NULL,
     "Give up when the program's memory has grown by more than this."},
    {0},
};

static const cli_option plan_group[] = {
    {"workspace", 0, "MIB", CLI_REAL, AT(workspace), 0, 1e9, NULL,
     "Memory of the device that a layer may use while it runs."},
    {"level", 0, "N", CLI_INTEGER, AT(level), 0, 5, NULL,
     "How long TensorRT looks for the fastest kernels, 0 to 5. Default: 3."},
    {"timing-cache", 0, "FILE", CLI_TEXT, AT(timing_cache), 0, 0, NULL,
     "Read what earlier builds measured from here, and write what this one adds."},
    {"tactics", 0, "LIST", CLI_TEXT, AT(tactic_sources), 0, 0, NULL,
     "Kernels to use or not, as -CUDNN,+CUBLAS."},
    {"refit", 0, "MODE", CLI_CHOICE, AT(refit), 0, 0, refit_modes,
     "Which weights can be replaced in the plan: none, all, or identical."},
    {"strip", 0, NULL, CLI_FLAG, AT(strip), 0, 0, NULL,
     "Leave the weights that can be replaced out of the plan."},
    {"weight-streaming", 0, NULL, CLI_FLAG, AT(weight_streaming), 0, 0, NULL,
     "Let weights stay on the host while the plan runs."},
    {"version-compatible", 0, NULL, CLI_FLAG, AT(version_compatible), 0, 0, NULL,
     "Make a plan that later versions run."},
    {"hardware", 0, "LEVEL", CLI_CHOICE, AT(hardware), 0, 0, hardware_levels,
     "Which other GPUs the plan shall run on: none, ampere+ or same-capability."},
    {"verbosity", 0, "LEVEL", CLI_CHOICE, AT(verbosity), 0, 0, verbosities,
     "What the plan tells of its layers: none, names or detailed."},
    {"sparse", 0, NULL, CLI_FLAG, AT(sparse), 0, 0, NULL,
     "Use kernels for weights of which two in four are zero."},
    {"no-tf32", 0, NULL, CLI_FLAG, AT(no_tf32), 0, 0, NULL, "Multiply float32 in full precision."},
    {0},
};

static const cli_option rare_group[] = {
    {"pool", 0, "POOL=MIB", CLI_LIST, AT(pools), 0, 0, NULL,
     "The size of a memory pool: workspace, dla-sram, dla-local, dla-global, tactic-dram or "
     "tactic-shared. May be given for each."},
    {"gpu-memory", 0, "MIB", CLI_REAL, AT(gpu_memory), 0, 1e9, NULL,
     "The most of the GPU's memory that the build may hold."},
    {"gpu-allocator", 0, "WHO", CLI_CHOICE, AT(gpu_allocator), 0, 0, allocators,
     "Who gives TensorRT the GPU's memory: kiln, which counts it, or library. Default: kiln for "
     "the "
     "plan, and for the build where --gpu-memory is given."},
    {"aux-streams", 0, "N", CLI_INTEGER, AT(aux_streams), 0, 1024, NULL,
     "Streams beside the first that one run may use. Default: the library's."},
    {"max-tactics", 0, "N", CLI_INTEGER, AT(tactics), 1, 1e6, NULL,
     "Time this many kernels for a layer at most."},
    {"avg-timing", 0, "N", CLI_INTEGER, AT(timings), 1, 1e4, NULL,
     "Time each kernel so often and take the average."},
    {"tiling", 0, "N", CLI_INTEGER, AT(tiling), 0, 3, NULL,
     "How long TensorRT looks for tilings over layers, 0 to 3."},
    {"l2-limit", 0, "KIB", CLI_REAL, AT(l2_limit), 0, 1e9, NULL,
     "How much of the L2 cache a tiling may count on."},
    {"dla-core", 0, "N", CLI_INTEGER, AT(dla_core), 0, 64, NULL, "Build for this DLA core."},
    {"gpu-fallback", 0, NULL, CLI_FLAG, AT(gpu_fallback), 0, 0, NULL,
     "Run layers on the GPU that the DLA cannot."},
    {"serialize-plugins", 0, NULL, CLI_FLAG, AT(serialize_plugins), 0, 0, NULL,
     "Put the libraries of --plugin into the plan."},
    {"exclude-lean-runtime", 0, NULL, CLI_FLAG, AT(exclude_lean), 0, 0, NULL,
     "Leave the lean runtime out of a version-compatible plan."},
    {"windows", 0, NULL, CLI_FLAG, AT(windows), 0, 0, NULL, "Build for Windows on x86-64."},
    {"strict-nans", 0, NULL, CLI_FLAG, AT(strict_nans), 0, 0, NULL,
     "Keep NaN through every layer."},
    {"distributive-independence", 0, NULL, CLI_FLAG, AT(distributive), 0, 0, NULL,
     "Make the result for an element independent of where in the batch it stands."},
    {"direct-io", 0, NULL, CLI_FLAG, AT(direct_io), 0, 0, NULL,
     "Reformat nothing at inputs and outputs."},
    {"no-timing-cache", 0, NULL, CLI_FLAG, AT(no_timing_cache), 0, 0, NULL,
     "Time every kernel anew."},
    {"no-compilation-cache", 0, NULL, CLI_FLAG, AT(no_compilation_cache), 0, 0, NULL,
     "Compile every kernel anew."},
    {"need-timing-cache", 0, NULL, CLI_FLAG, AT(need_timing_cache), 0, 0, NULL,
     "Fail where the timing cache does not know a kernel: the same plan each time, or none."},
    {"warmup", 0, NULL, CLI_FLAG, AT(warmup), 0, 0, NULL,
     "Run the plan with the opt shapes of each profile, measure how inputs and outputs travel "
     "fastest in a captured CUDA graph, and save that in the manifest, so that programs begin "
     "with it. Needs the GPU that the plan is for."},
    {0},
};

static const cli_option runtime_group[] = {
    {"tune", 0, NULL, CLI_FLAG, AT(tune), 0, 0, NULL,
     "Build in several ways that give the same results but for rounding, time each with the first "
     "profile's opt shapes, and save the fastest. Needs --provider cuda."},
    {0},
};

static const cli_group groups[] = {
    {"Build", options, 0},
    {"Build (ONNX Runtime on a GPU)", runtime_group, 0},
    {"Plan (TensorRT)", plan_group, 0},
    {"Plan, rarer (TensorRT)", rare_group, 0},
    {"Engine", cli_model_options, offsetof(build_settings, model)},
    {0},
};

static const cli_example examples[] = {
    {"kiln build a.onnx -o a.plan -b tensorrt -p 'x=1x8:4x8:8x8'", "a plan for batches of 1 to 8"},
    {"kiln build a.onnx -o a.plan -b tensorrt -c 89,120", "for GPUs that are not here"},
    {"kiln build a.onnx -o fast.onnx --provider cuda --tune -p 'x=8x64:8x64:8x64'",
     "the fastest form of a model for batches of 8 with ONNX Runtime"},
    {0},
};

const cli_command cli_command_build = {
    .name = "build",
    .operands = "MODEL",
    .least = 1,
    .most = 1,
    .summary = "build a plan from a model and save it",
    .description =
        "Builds the ONNX file MODEL and saves what came of it: with TensorRT a plan, which "
        "trtexec loads too; with the other backends, ONNX. An option that the backend or its "
        "version does not have is an error.",
    .groups = groups,
    .examples = examples,
    .run = run,
};
