/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_layers.h"

#include <cJSON.h>
#include <stdlib.h>

/* Opens a context of `engine`; KILN_ERROR_STATE if the engine was not built for profiling. */
static kiln_status open_context(kiln_engine *engine, kiln_context **context)
{
    /* A CUDA graph replays what was enqueued without a profiler. */
    const kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
    const kiln_status status = kiln_context_create(engine, &options, context);
    return status == KILN_OK ? kiln_context_profile_layers(*context, true) : status;
}

cli_exit cli_layers_open(const cli_command *command, const char *path,
                         const cli_model_settings *model, const cli_input_settings *inputs,
                         kiln_engine *engine, cli_layers *layers)
{
    cli_model_settings settings = *model;
    *layers = (cli_layers){.context = NULL};
    kiln_status status = open_context(engine, &layers->context);
    if (status == KILN_ERROR_STATE) {
        kiln_context_destroy(layers->context);
        layers->context = NULL;
        settings.profile_nodes = true;
        CLI_RETURN_UNLESS_DONE(cli_model_open(command, path, &settings, &layers->engine));
        engine = layers->engine;
        status = open_context(engine, &layers->context);
    }
    CLI_FAIL_IF_ERROR(status);
    CLI_FAIL_IF_ERROR(kiln_context_profile_layers(layers->context, false));
    CLI_RETURN_UNLESS_DONE(
        cli_inputs_bind(command, inputs, engine, layers->context, &layers->inputs));
    CLI_FAIL_IF_ERROR(kiln_context_warmup(layers->context, 0, 0, NULL));
    return CLI_DONE;
}

void cli_layers_close(cli_layers *layers)
{
    kiln_context_destroy(layers->context);
    kiln_engine_release(layers->engine);
    cli_inputs_finish(&layers->inputs);
    *layers = (cli_layers){.context = NULL};
}

kiln_status cli_layers_measure(kiln_context *context, double seconds, size_t least)
{
    kiln_status status = kiln_context_profile_layers(context, true);
    const uint64_t begin = kiln_clock_now();
    for (size_t run = 0; status == KILN_OK; run++) {
        if (run >= least && (double)(kiln_clock_now() - begin) >= seconds * 1e9) {
            break;
        }
        status = kiln_context_run(context);
    }
    return status;
}

/* Gets layer `index`; false after the last one. */
static bool layer_at(kiln_context *context, size_t index, kiln_layer_time *layer)
{
    *layer = (kiln_layer_time){.struct_size = sizeof *layer};
    return kiln_context_layer(context, index, layer) == KILN_OK && layer->runs > 0;
}

static double each(const kiln_layer_time *layer)
{
    return layer->milliseconds / (double)layer->runs;
}

static int by_time(const void *left, const void *right)
{
    const double a = ((const kiln_layer_time *)left)->milliseconds;
    const double b = ((const kiln_layer_time *)right)->milliseconds;
    return a < b ? 1 : a > b ? -1 : 0;
}

cli_exit cli_layers_print(kiln_context *context)
{
    SCOPED_HEAP kiln_layer_time *layers = NULL;
    kiln_layer_time layer;
    size_t count = 0;
    double total = 0;
    while (layer_at(context, count, &layer)) {
        layers = cli_grow(layers, (count + 1) * sizeof *layers);
        layers[count++] = layer;
        total += layer.milliseconds;
    }
    if (count == 0) {
        return cli_fail();
    }
    qsort(layers, count, sizeof *layers, by_time);
    static const char *const typed[] = {"layer", "type", "ms", "%"};
    static const char *const untyped[] = {"layer", "ms", "%"};
    const bool has_types = layers[0].type[0] != '\0';
    cli_table table;
    cli_table_init(&table, has_types ? "llrr" : "lrr", has_types ? typed : untyped);
    for (size_t i = 0; i < count; i++) {
        cli_table_add(&table, layers[i].name);
        if (has_types) {
            cli_table_add(&table, layers[i].type);
        }
        cli_table_printf(&table, "%.4f", each(&layers[i]));
        cli_table_printf(&table, "%.1f", total > 0 ? 100.0 * layers[i].milliseconds / total : 0.0);
    }
    (void)printf("\n");
    cli_table_print(&table, 0);
    return CLI_DONE;
}

void cli_layers_add(struct cJSON *document, kiln_context *context)
{
    cJSON *list = cJSON_AddArrayToObject(document, "layers");
    kiln_layer_time layer;
    for (size_t i = 0; layer_at(context, i, &layer); i++) {
        cJSON *item = cJSON_CreateObject();
        cli_json_add_text(item, "name", layer.name);
        if (layer.type[0] != '\0') {
            cli_json_add_text(item, "type", layer.type);
        }
        (void)cJSON_AddNumberToObject(item, "ms", each(&layer));
        (void)cJSON_AddItemToArray(list, item);
    }
}
