/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_model.h"

static const char *const graphs[] = {"auto", "off", "required", NULL};

const cli_option cli_model_options[] = {
    CLI_ROWS_OF(CLI_LOADS, offsetof(cli_model_settings, build)),
    {"graph", 0, "POLICY", CLI_CHOICE, offsetof(cli_model_settings, graph), 0, 0, graphs,
     "Whether runs on a GPU are captured into CUDA graphs: auto, off, or required, which fails "
     "and says why if that cannot be done. Default auto."},
    {"refit-from", 0, "MODEL", CLI_TEXT, offsetof(cli_model_settings, refit), 0, 0, NULL,
     "Refit a TensorRT plan with the weights of this ONNX file; for a stripped plan, the model "
     "it was built from."},
    {"no-cache", 0, NULL, CLI_FLAG, offsetof(cli_model_settings, no_cache), 0, 0, NULL,
     "Do not use the cache: neither look for a TensorRT plan in it nor store the one that is "
     "built. Without this option and --cache, the cache is \"default\"."},
    {0},
};

/* An unknown backend name is a usage error, and the message suggests the closest name. CLI_DONE if
 * the name is known. */
static cli_exit check_backend(const cli_command *command, const char *name)
{
    const char *names[32];
    size_t count = 0;
    for (size_t i = 0; i < kiln_backend_count() && count < CLI_ARRAY_LENGTH(names); i++) {
        kiln_backend_info info = {.struct_size = sizeof info};
        if (kiln_backend_get(i, &info) == KILN_OK) {
            names[count++] = info.name;
            if (strcmp(info.name, name) == 0) {
                return CLI_DONE;
            }
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

kiln_build_options cli_model_build(const cli_model_settings *settings)
{
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    if (settings->build != NULL) {
        options = *settings->build;
    }
    options.profile_nodes = settings->profile_nodes;
    return options;
}

cli_exit cli_model_cache(const cli_command *command, const cli_model_settings *settings,
                         kiln_build_options *options)
{
    if (settings->no_cache && options->cache != NULL) {
        return cli_misuse(command, "--cache and --no-cache exclude each other");
    }
    /* Unlike the library, the program caches by default: it belongs to its user. With plugins
     * nothing is cached, because a plan does not record which plugin library it needs. */
    options->cache = settings->no_cache || options->plugin_count > 0 ? NULL
                     : options->cache != NULL                        ? options->cache
                                                                     : "default";
    return CLI_DONE;
}

/* Only a backend that uses profiles makes it worthwhile to read the model beforehand. */
static bool wants_hints(const cli_input_settings *shapes, const kiln_build_options *options)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    if (shapes == NULL ||
        (shapes->shapes.count + shapes->inputs.count == 0 && shapes->largest == 0)) {
        return false;
    }
    return options->library != NULL || (kiln_backend_choose(options->backend, &info) == KILN_OK &&
                                        (info.capabilities & KILN_CAPABILITY_PROFILES) != 0);
}

/* A plan only finds its layers in TensorRT's registry. */
static cli_exit load_plugins(kiln_build_options *options)
{
    for (size_t i = 0; i < options->plugin_count; i++) {
        CLI_FAIL_IF_ERROR(kiln_plugin_load(options->library, options->plugins[i]));
    }
    options->plugin_count = 0;
    options->plugins = NULL;
    return CLI_DONE;
}

static void finish_hints(cli_hints *hints)
{
    free(hints->items);
}

/* Takes the hints at the largest batch, and makes a profile from the smallest batch to it. */
static cli_exit take_batches(const cli_command *command, kiln_network *network,
                             const cli_input_settings *shapes, cli_loading *loading)
{
    cli_input_settings sized = *shapes;
    cli_hints most = {NULL, 0};
    SCOPED(finish_hints) cli_hints least = {NULL, 0};
    sized.batch = shapes->smallest;
    CLI_RETURN_UNLESS_DONE(cli_hints_read(command, &sized, network, &least));
    sized.batch = shapes->largest;
    const cli_exit result = cli_hints_read(command, &sized, network, &most);
    loading->hints = most.items;
    if (result == CLI_DONE && most.count > 0) {
        loading->ranges = cli_allocate(most.count * sizeof *loading->ranges);
        for (size_t i = 0; i < most.count; i++) {
            loading->ranges[i] = (kiln_profile_input){.name = most.items[i].name,
                                                      .min = least.items[i].shape,
                                                      .opt = most.items[i].shape,
                                                      .max = most.items[i].shape};
        }
        loading->profile = (kiln_profile){.inputs = loading->ranges, .input_count = most.count};
        loading->options.profiles = &loading->profile;
        loading->options.profile_count = 1;
    }
    return result;
}

/* Determines the input shapes for a build. */
static cli_exit take_hints(const cli_command *command, const char *path, kiln_network *network,
                           const cli_input_settings *shapes, cli_loading *loading)
{
    cli_hints hints = {NULL, 0};
    if (network == NULL && kiln_network_from_onnx(path, &loading->network) != KILN_OK) {
        return CLI_DONE; /* a plan, or something that loading reports more about */
    }
    network = network != NULL ? network : loading->network;
    if (shapes->largest > 0) {
        return take_batches(command, network, shapes, loading);
    }
    const cli_exit result = cli_hints_read(command, shapes, network, &hints);
    loading->hints = hints.items;
    loading->options.shape_hints = hints.items;
    loading->options.shape_hint_count = hints.count;
    return result;
}

cli_exit cli_loading_begin(const cli_command *command, const char *path, kiln_network *network,
                           const cli_model_settings *settings, cli_loading *loading)
{
    *loading = (cli_loading){.options = cli_model_build(settings)};
    kiln_build_options *options = &loading->options;
    options->issues = &loading->issues;
    CLI_RETURN_UNLESS_DONE(cli_model_cache(command, settings, options));
    CLI_RETURN_UNLESS_DONE(load_plugins(options));
    return wants_hints(settings->shapes, options)
               ? take_hints(command, path, network, settings->shapes, loading)
               : CLI_DONE;
}

cli_exit cli_loading_end(const cli_command *command, cli_loading *loadings, size_t count,
                         kiln_status status)
{
    cli_exit result = CLI_DONE;
    const kiln_issue_list *issues = NULL;
    for (size_t i = 0; i < count; i++) {
        if (status == KILN_ERROR_NAME && loadings[i].options.backend != NULL &&
            result == CLI_DONE) {
            result = check_backend(command, loadings[i].options.backend);
        }
        issues = issues != NULL ? issues : loadings[i].issues;
    }
    if (status != KILN_OK && result == CLI_DONE) {
        result = cli_fail_issues(issues);
    }
    for (size_t i = 0; i < count; i++) {
        kiln_issue_list_destroy(loadings[i].issues);
        kiln_network_destroy(loadings[i].network);
        free(loadings[i].hints);
        free(loadings[i].ranges);
    }
    return result;
}

void cli_model_progress(const char *path)
{
    char what[300];
    (void)snprintf(what, sizeof what, "building %.255s", cli_file_name(path));
    cli_progress_begin(what);
}

static bool takes(const char *backend, const char *path)
{
    const kiln_check_options options = KILN_CHECK_OPTIONS(.backend = backend);
    CLI_OWNED(issue_list) issues = NULL;
    return kiln_check_file(path, &options, &issues) == KILN_OK &&
           kiln_issue_list_errors(issues) == 0;
}

/* If the best backend here rejects a model, the next one may accept it. */
static void name_another(const char *path, const kiln_build_options *options, kiln_status status)
{
    kiln_backend_info first = {.struct_size = sizeof first};
    kiln_backend_info next = {.struct_size = sizeof next};
    if ((status != KILN_ERROR_UNSUPPORTED && status != KILN_ERROR_BACKEND) ||
        options->backend != NULL || options->library != NULL || getenv("KILN_BACKEND") != NULL ||
        kiln_backend_choose(NULL, &first) != KILN_OK) {
        return;
    }
    for (size_t i = 0; i < kiln_backend_count(); i++) {
        if (kiln_backend_get(i, &next) == KILN_OK && next.score > 0 && next.score < first.score &&
            takes(next.name, path)) {
            cli_error("%s was tried, the best backend here; --backend %s takes this model",
                      first.name, next.name);
            return;
        }
    }
}

cli_exit cli_model_open(const cli_command *command, const char *path,
                        const cli_model_settings *settings, kiln_engine **engine)
{
    cli_loading loading;
    cli_exit result = cli_loading_begin(command, path, NULL, settings, &loading);
    if (result != CLI_DONE) {
        (void)cli_loading_end(command, &loading, 1, KILN_OK);
        return result;
    }
    cli_model_progress(path);
    const kiln_status status = kiln_engine_load(path, &loading.options, engine);
    cli_progress_end();
    result = cli_loading_end(command, &loading, 1, status);
    name_another(path, &loading.options, status);
    /* A plan that was stripped elsewhere does not record what its weights were. */
    const kiln_refit_options refit = KILN_REFIT_OPTIONS(.allow_nonfinite = true);
    return result == CLI_DONE && settings->refit != NULL &&
                   kiln_engine_refit_file(*engine, settings->refit, &refit) != KILN_OK
               ? cli_fail()
               : result;
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

void cli_model_print(const char *path, const kiln_engine *engine)
{
    char backend[200];
    SCOPED_HEAP char *printable = cli_printable(path);
    cli_model_backend(engine, backend, sizeof backend);
    (void)printf("%s\n%s\n\n", printable, backend);
}
