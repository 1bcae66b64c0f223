/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_plan.h"

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_model.h"

/* --- profiles --- */

/* "2, 4" for the values of a shape tensor, and "2x4" for a shape. */
static void range_text(const kiln_shape *shape, const int64_t *values, size_t count, cli_text *text)
{
    char formatted[256];
    cli_text_append(text, "", 0);
    if (values == NULL) {
        (void)kiln_shape_format(shape, formatted, sizeof formatted);
        cli_text_add(text, formatted);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        cli_text_printf(text, "%s%lld", i > 0 ? ", " : "", (long long)values[i]);
    }
}

static void add_range(cli_table *table, const kiln_shape *shape, const int64_t *values,
                      size_t count)
{
    CLI_TEXT_SCOPED text = {NULL, 0, 0};
    range_text(shape, values, count, &text);
    cli_table_add(table, text.data);
}

cli_exit cli_plan_print_profiles(const kiln_engine *engine)
{
    static const char *const headings[] = {"profile", "input", "min", "opt", "max"};
    const size_t count = kiln_engine_profile_count(engine);
    if (count == 0) {
        return CLI_DONE;
    }
    cli_table table;
    cli_table_init(&table, "rllll", headings);
    for (size_t i = 0; i < count; i++) {
        kiln_profile profile;
        if (kiln_engine_profile(engine, i, &profile) != KILN_OK) {
            cli_table_print(&table, 0);
            return cli_fail();
        }
        for (size_t k = 0; k < profile.input_count; k++) {
            const kiln_profile_input *input = &profile.inputs[k];
            if (profile.name != NULL) {
                cli_table_printf(&table, "%zu \"%.200s\"", i, profile.name);
            } else {
                cli_table_printf(&table, "%zu", i);
            }
            cli_table_add(&table, input->name);
            add_range(&table, &input->min, input->min_values, input->value_count);
            add_range(&table, &input->opt, input->opt_values, input->value_count);
            add_range(&table, &input->max, input->max_values, input->value_count);
        }
    }
    (void)fputs("\n", stdout);
    cli_table_print(&table, 0);
    return CLI_DONE;
}

static cJSON *range_json(const kiln_shape *shape, const int64_t *values, size_t count)
{
    if (values == NULL) {
        return cli_json_shape(shape);
    }
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) {
        (void)cJSON_AddItemToArray(array, cJSON_CreateNumber((double)values[i]));
    }
    return array;
}

static cJSON *profile_json(const kiln_profile *profile)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < profile->input_count; i++) {
        const kiln_profile_input *input = &profile->inputs[i];
        const size_t count = input->value_count;
        cJSON *object = cJSON_CreateObject();
        cli_json_add_text(object, "input", input->name);
        (void)cJSON_AddItemToObject(object, "min",
                                    range_json(&input->min, input->min_values, count));
        (void)cJSON_AddItemToObject(object, "opt",
                                    range_json(&input->opt, input->opt_values, count));
        (void)cJSON_AddItemToObject(object, "max",
                                    range_json(&input->max, input->max_values, count));
        (void)cJSON_AddItemToArray(array, object);
    }
    return array;
}

/* --- layers --- */

/* Reads the list of layers in the inspector's output; the rest of that repeats the bindings. */
static cli_exit read_layers(kiln_engine *engine, cJSON **document, cJSON **layers)
{
    const char *json = NULL;
    *document = NULL;
    const kiln_status status = kiln_engine_inspect(engine, &json);
    if (status == KILN_ERROR_UNSUPPORTED) {
        char backend[200];
        cli_model_backend(engine, backend, sizeof backend);
        cli_error(
            "--layers: an engine of %s does not tell its layers; without options of an "
            "engine, the nodes of an ONNX file are listed",
            backend);
        return CLI_FAILED;
    }
    CLI_FAIL_IF_ERROR(status);
    const char *end = NULL;
    *document = cJSON_ParseWithOpts(json, &end, false);
    *layers = cJSON_GetObjectItem(*document, "Layers");
    if (!cJSON_IsArray(*layers)) {
        const size_t byte = *document == NULL && end != NULL ? (size_t)(end - json) : 0;
        SCOPED_HEAP char *found = cli_printable(json + (byte > 40 ? byte - 40 : 0));
        cli_error(
            "what the library tells of the layers is not JSON with a list \"Layers\" from "
            "byte %zu on: %.80s",
            byte, found);
        cJSON_Delete(*document);
        return CLI_FAILED;
    }
    return CLI_DONE;
}

cli_exit cli_plan_print_layers(kiln_engine *engine)
{
    cJSON *document = NULL;
    cJSON *layers = NULL;
    CLI_RETURN_UNLESS_DONE(read_layers(engine, &document, &layers));
    (void)printf("\n%d layer%s\n", cJSON_GetArraySize(layers), CLI_S(cJSON_GetArraySize(layers)));
    const cJSON *layer = NULL;
    cJSON_ArrayForEach(layer, layers)
    {
        char *text = cJSON_IsString(layer) ? NULL : cJSON_PrintUnformatted(layer);
        SCOPED_HEAP char *printable = cli_printable(cJSON_IsString(layer) ? layer->valuestring
                                                    : text != NULL        ? text
                                                                          : "?");
        (void)printf("  %s\n", printable);
        cJSON_free(text);
    }
    cJSON_Delete(document);
    return CLI_DONE;
}

cli_exit cli_plan_add_json(cJSON *document, kiln_engine *engine, bool layers)
{
    const size_t count = kiln_engine_profile_count(engine);
    cJSON *profiles = count > 0 ? cJSON_AddArrayToObject(document, "profiles") : NULL;
    cJSON *names = NULL;
    for (size_t i = 0; i < count; i++) {
        kiln_profile profile;
        CLI_FAIL_IF_ERROR(kiln_engine_profile(engine, i, &profile));
        (void)cJSON_AddItemToArray(profiles, profile_json(&profile));
        if (profile.name != NULL) {
            names = names != NULL ? names : cJSON_AddObjectToObject(document, "profile_names");
            (void)cJSON_AddNumberToObject(names, profile.name, (double)i);
        }
    }
    if (!layers) {
        return CLI_DONE;
    }
    cJSON *inspection = NULL;
    cJSON *list = NULL;
    const cli_exit result = read_layers(engine, &inspection, &list);
    if (result == CLI_DONE) {
        (void)cJSON_AddItemToObject(document, "layers", cJSON_Duplicate(list, true));
        cJSON_Delete(inspection);
    }
    return result;
}
