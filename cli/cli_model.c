/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli_model.h"

static const char *const optimizations[] = {"default", "off", "basic", "extended", "all", NULL};

static const char *const providers[] = {"default", "cpu", "cuda", NULL};
static const char *const graphs[] = {"auto", "off", "required", NULL};

const cli_option cli_model_options[] = {
    {"backend", 'b', "NAME", CLI_TEXT, offsetof(cli_model_settings, backend), 0, 0, NULL,
     "Run it on this backend, or not at all: tensorrt, onnxruntime or reference. \"kiln doctor\" "
     "shows which there are. Without it, KILN_BACKEND or the best one here."},
    {"library", 0, "PATH", CLI_TEXT, offsetof(cli_model_settings, library), 0, 0, NULL,
     "Open the backend's library here and nowhere else: a file or a folder."},
    {"device", 'd', "N", CLI_INTEGER, offsetof(cli_model_settings, device), 0, 1023, NULL,
     "The GPU to use, counted from 0. Default 0."},
    {"threads", 't', "N", CLI_INTEGER, offsetof(cli_model_settings, threads), 0, 4096, NULL,
     "CPU threads inside one operator. Default: the backend's."},
    {"parallel-nodes", 0, "N", CLI_INTEGER, offsetof(cli_model_settings, parallel_nodes), 0, 4096,
     NULL, "CPU threads for operators that do not need each other. Default: one after the other."},
    {"optimization", 'O', "LEVEL", CLI_CHOICE, offsetof(cli_model_settings, optimization), 0, 0,
     optimizations,
     "How far the backend may rewrite the network: off, basic, extended, all, or default."},
    {"provider", 0, "NAME", CLI_CHOICE, offsetof(cli_model_settings, provider), 0, 0, providers,
     "Where ONNX Runtime computes: cpu or cuda. Default: as the manifest says, else the CPU."},
    {"graph", 0, "POLICY", CLI_CHOICE, offsetof(cli_model_settings, graph), 0, 0, graphs,
     "Whether runs on a GPU are captured into CUDA graphs: auto, off, or required, which fails and "
     "says why where that cannot be done. Default auto."},
    {"refit-from", 0, "MODEL", CLI_TEXT, offsetof(cli_model_settings, refit), 0, 0, NULL,
     "Give a plan of TensorRT the weights of this ONNX file: a plan that was stripped, the model "
     "it "
     "was built from."},
    {"allow-host-code", 0, NULL, CLI_FLAG, offsetof(cli_model_settings, host_code), 0, 0, NULL,
     "Run the code that a version-compatible plan of TensorRT carries: for plans that are trusted "
     "like programs."},
    {"plugin", 0, "LIBRARY", CLI_LIST, offsetof(cli_model_settings, plugins), 0, 0, NULL,
     "A library of plugin layers of TensorRT, for a model or plan that has such layers. May be "
     "given several times."},
    {0},
};

/* A backend's name that is not known is wrong use, and the closest one may have been meant. */
static cli_exit misuse_backend(const cli_command *command, const char *name)
{
    const char *names[32];
    size_t count = 0;
    for (size_t i = 0; i < kiln_backend_count() && count < CLI_ARRAY_LENGTH(names); i++) {
        kiln_backend_info info = {.struct_size = sizeof info};
        if (kiln_backend_get(i, &info) == KILN_OK) {
            names[count++] = info.name;
        }
    }
    const char *closest = cli_closest(name, names, count);
    if (closest != NULL) {
        return cli_misuse(command, "there is no backend \"%.80s\"; did you mean %s?", name,
                          closest);
    }
    (void)cli_fail();
    return CLI_MISUSED;
}

void cli_model_set(const cli_model_settings *settings, kiln_build_options *options)
{
    options->backend = settings->backend;
    options->library = settings->library;
    options->device = (int32_t)settings->device;
    options->threads = (int32_t)settings->threads;
    options->parallel_nodes = (int32_t)settings->parallel_nodes;
    options->optimization = (kiln_optimization)settings->optimization;
    options->provider = (kiln_provider)settings->provider;
    options->allow_host_code = settings->host_code;
    options->profile_nodes = settings->profile_nodes;
    if (settings->level != 0) {
        options->builder_optimization_level =
            settings->level > 1 ? (int32_t)settings->level - 1 : -1;
    }
    if (settings->full_precision) {
        options->tf32 = KILN_SWITCH_OFF;
    }
}

/* Only a backend that wants profiles is worth reading the model twice. */
static bool wants_hints(const cli_model_settings *settings)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    if (settings->shapes == NULL ||
        settings->shapes->shapes.count + settings->shapes->inputs.count == 0) {
        return false;
    }
    return settings->library != NULL || (kiln_backend_choose(settings->backend, &info) == KILN_OK &&
                                         (info.capabilities & KILN_CAPABILITY_PROFILES) != 0);
}

/* A plan finds its layers in TensorRT's registry only. */
static cli_exit load_plugins(const cli_model_settings *settings)
{
    for (size_t i = 0; i < settings->plugins.count; i++) {
        if (kiln_plugin_load(settings->library, settings->plugins.items[i]) != KILN_OK) {
            return cli_fail();
        }
    }
    return CLI_DONE;
}

cli_exit cli_model_open(const cli_command *command, const char *path,
                        const cli_model_settings *settings, kiln_engine **engine)
{
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    cli_hints hints = {.network = NULL};
    cli_model_set(settings, &options);
    if (load_plugins(settings) != CLI_DONE) {
        return CLI_FAILED;
    }
    if (wants_hints(settings)) {
        const cli_exit read = cli_hints_read(command, settings->shapes, path, &hints);
        if (read != CLI_DONE) {
            cli_hints_finish(&hints);
            return read;
        }
        options.shape_hints = hints.items;
        options.shape_hint_count = hints.count;
    }
    kiln_issue_list *issues = NULL;
    options.issues = &issues;
    const char *slash = strrchr(path, '/');
    char what[300];
    (void)snprintf(what, sizeof what, "building %.255s", slash != NULL ? slash + 1 : path);
    cli_progress_begin(what);
    const kiln_status status = kiln_engine_load(path, &options, engine);
    cli_progress_end();
    cli_exit result = CLI_DONE;
    if (status == KILN_ERROR_NAME && settings->backend != NULL) {
        result = misuse_backend(command, settings->backend);
    } else if (status != KILN_OK) {
        result = cli_fail_issues(issues);
    } else if (settings->refit != NULL &&
               kiln_engine_refit_file(*engine, settings->refit) != KILN_OK) {
        result = cli_fail();
    }
    kiln_issue_list_destroy(issues);
    cli_hints_finish(&hints);
    return result;
}

cli_exit cli_model_context(const cli_model_settings *settings, kiln_engine *engine,
                           kiln_context **context)
{
    kiln_context_options options = KILN_CONTEXT_OPTIONS_INIT;
    options.graphs = (kiln_graph_policy)settings->graph;
    return kiln_context_create(engine, &options, context) == KILN_OK ? CLI_DONE : cli_fail();
}

void cli_model_backend(const kiln_engine *engine, char *text, size_t size)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    if (kiln_engine_backend(engine, &info) != KILN_OK) {
        (void)snprintf(text, size, "?");
        return;
    }
    (void)snprintf(text, size, "%s%s%s", info.name, info.version[0] != '\0' ? " " : "",
                   info.version);
}
