/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_layers.h"

#include <cJSON.h>
#include <stdlib.h>

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

/* Layer `index`, or false past the last. */
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
    kiln_layer_time *layers = NULL;
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
    static const char *const headings[] = {"layer", "ms", "%"};
    cli_table table;
    cli_table_init(&table, "lrr", headings);
    for (size_t i = 0; i < count; i++) {
        char *name = cli_printable(layers[i].name);
        cli_table_add(&table, name);
        cli_table_printf(&table, "%.4f", each(&layers[i]));
        cli_table_printf(&table, "%.1f", total > 0 ? 100.0 * layers[i].milliseconds / total : 0.0);
        free(name);
    }
    (void)printf("\n");
    cli_table_print(&table, 0);
    free(layers);
    return CLI_DONE;
}

void cli_layers_add(struct cJSON *document, kiln_context *context)
{
    cJSON *list = cJSON_AddArrayToObject(document, "layers");
    kiln_layer_time layer;
    for (size_t i = 0; layer_at(context, i, &layer); i++) {
        cJSON *item = cJSON_CreateObject();
        cli_json_add_text(item, "name", layer.name);
        (void)cJSON_AddNumberToObject(item, "ms", each(&layer));
        (void)cJSON_AddItemToArray(list, item);
    }
}
