/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_list.h"
#include "cli_model.h"
#include "cli_plan.h"

typedef struct inspect_settings {
    cli_model_settings model;
    bool json;
    bool layers;
} inspect_settings;

static cli_exit binding_at(const kiln_engine *engine, bool is_input, size_t index,
                           kiln_binding *binding)
{
    *binding = (kiln_binding){.struct_size = sizeof *binding};
    const kiln_status status = is_input ? kiln_engine_input(engine, index, binding)
                                        : kiln_engine_output(engine, index, binding);
    return status == KILN_OK ? CLI_DONE : cli_fail();
}

/* --- text --- */

/* "0: batch, 2: time" */
static void named_dims(const kiln_binding *binding, cli_text *text)
{
    cli_text_append(text, "", 0);
    for (int32_t i = 0; i < binding->shape.rank && i < KILN_MAX_RANK; i++) {
        if (binding->dim_names[i] != NULL && binding->dim_names[i][0] != '\0') {
            cli_text_printf(text, "%s%d: %s", text->size > 0 ? ", " : "", i, binding->dim_names[i]);
        }
    }
}

static void add_quantization(const kiln_binding *binding, cli_text *text)
{
    if (binding->quantization.storage == KILN_DTYPE_UNDEFINED) {
        return;
    }
    cli_text_printf(text, "%squantized as %s", text->size > 0 ? "; " : "",
                    kiln_dtype_name(binding->quantization.storage));
}

static cli_exit print_bindings(const kiln_engine *engine)
{
    static const char *const headings[] = {"", "name", "type", "shape", "open dimensions"};
    cli_table table;
    cli_exit result = CLI_DONE;
    const size_t inputs = kiln_engine_input_count(engine);
    const size_t count = inputs + kiln_engine_output_count(engine);
    cli_table_init(&table, "lllll", headings);
    bool has_notes = false;
    for (size_t i = 0; i < count && result == CLI_DONE; i++) {
        kiln_binding binding;
        result = binding_at(engine, i < inputs, i < inputs ? i : i - inputs, &binding);
        if (result != CLI_DONE) {
            break;
        }
        char shape[256];
        cli_text notes = {NULL, 0, 0};
        (void)kiln_shape_format(&binding.shape, shape, sizeof shape);
        named_dims(&binding, &notes);
        add_quantization(&binding, &notes);
        has_notes = has_notes || notes.size > 0;
        cli_table_add(&table, binding.is_input ? "input" : "output");
        cli_table_add(&table, binding.name);
        cli_table_add(&table, kiln_dtype_name(binding.dtype));
        cli_table_add(&table, shape);
        cli_table_add(&table, notes.data);
        cli_text_finish(&notes);
    }
    if (!has_notes) {
        table.cells[4][0] = '\0';
    }
    cli_table_print(&table, 0);
    return result;
}

#define WIDTH 79
#define VALUE_BYTES 200
#define KEY_COLUMNS 24

/* A value that is not too long to be read. */
static char *shown_value(const char *value)
{
    const size_t length = strlen(value);
    size_t kept = length;
    if (length > VALUE_BYTES) {
        kept = VALUE_BYTES;
        while (kept > 0 && ((unsigned char)value[kept] & 0xc0) == 0x80) {
            kept--;
        }
    }
    char *copy = cli_allocate(kept + 1);
    memcpy(copy, value, kept);
    copy[kept] = '\0';
    char *printable = cli_printable(copy);
    free(copy);
    cli_text text = {NULL, 0, 0};
    cli_text_append(&text, printable, strlen(printable));
    free(printable);
    if (kept < length) {
        cli_text_printf(&text, "... (%zu bytes; --json shows all)", length);
    }
    return text.data;
}

static void print_entry(const kiln_metadata *metadata, size_t indent)
{
    char *key = cli_printable(metadata->key);
    char *value = shown_value(metadata->value);
    const size_t columns = cli_columns(key);
    cli_text line = {NULL, 0, 0};
    cli_text_append(&line, key, strlen(key));
    if (columns + 2 > indent) {
        cli_text_printf(&line, "\n%*s", (int)indent, "");
    } else {
        cli_text_printf(&line, "%*s", (int)(indent - columns), "");
    }
    cli_text_wrap(&line, value, indent, WIDTH);
    (void)puts(line.data);
    cli_text_finish(&line);
    free(key);
    free(value);
}

static cli_exit print_metadata(const kiln_engine *engine)
{
    const size_t count = kiln_engine_metadata_count(engine);
    size_t indent = 0;
    kiln_metadata metadata;
    for (size_t i = 0; i < count; i++) {
        if (kiln_engine_metadata(engine, i, &metadata) != KILN_OK) {
            return cli_fail();
        }
        const size_t columns = cli_columns(metadata.key) + 2;
        indent = columns > indent && columns <= KEY_COLUMNS ? columns : indent;
    }
    (void)fputs(count > 0 ? "\n" : "", stdout);
    for (size_t i = 0; i < count; i++) {
        if (kiln_engine_metadata(engine, i, &metadata) != KILN_OK) {
            return cli_fail();
        }
        print_entry(&metadata, indent > 0 ? indent : KEY_COLUMNS);
    }
    return CLI_DONE;
}

static cli_exit print_text(const char *path, kiln_engine *engine, bool layers)
{
    char backend[200];
    char *printable = cli_printable(path);
    cli_model_backend(engine, backend, sizeof backend);
    (void)printf("%s\n%s\n\n", printable, backend);
    free(printable);
    cli_exit result = print_bindings(engine);
    if (result == CLI_DONE) {
        result = cli_plan_print_profiles(engine);
    }
    if (result == CLI_DONE) {
        result = print_metadata(engine);
    }
    return result == CLI_DONE && layers ? cli_plan_print_layers(engine) : result;
}

/* --- JSON --- */

static cJSON *binding_json(const kiln_binding *binding)
{
    cJSON *object = cJSON_CreateObject();
    cli_json_add_text(object, "name", binding->name);
    cli_json_add_text(object, "dtype", kiln_dtype_name(binding->dtype));
    (void)cJSON_AddItemToObject(object, "shape", cli_json_shape(&binding->shape));
    cJSON *names = cJSON_AddArrayToObject(object, "dim_names");
    for (int32_t i = 0; i < binding->shape.rank && i < KILN_MAX_RANK; i++) {
        const char *name = binding->dim_names[i];
        (void)cJSON_AddItemToArray(names, name != NULL ? cli_json_text(name) : cJSON_CreateNull());
    }
    if (binding->quantization.storage != KILN_DTYPE_UNDEFINED) {
        cli_json_add_text(object, "quantization", kiln_dtype_name(binding->quantization.storage));
    }
    return object;
}

static cli_exit add_bindings(cJSON *document, const char *key, const kiln_engine *engine,
                             bool is_input)
{
    cJSON *array = cJSON_AddArrayToObject(document, key);
    const size_t count =
        is_input ? kiln_engine_input_count(engine) : kiln_engine_output_count(engine);
    for (size_t i = 0; i < count; i++) {
        kiln_binding binding;
        if (binding_at(engine, is_input, i, &binding) != CLI_DONE) {
            return CLI_FAILED;
        }
        (void)cJSON_AddItemToArray(array, binding_json(&binding));
    }
    return CLI_DONE;
}

static cli_exit print_json(const char *path, kiln_engine *engine, bool layers)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    cJSON *document = cJSON_CreateObject();
    cli_json_add_text(document, "model", path);
    if (kiln_engine_backend(engine, &info) != KILN_OK) {
        cJSON_Delete(document);
        return cli_fail();
    }
    (void)cJSON_AddItemToObject(document, "backend", cli_json_backend(&info));
    if (add_bindings(document, "inputs", engine, true) != CLI_DONE ||
        add_bindings(document, "outputs", engine, false) != CLI_DONE) {
        cJSON_Delete(document);
        return CLI_FAILED;
    }
    cJSON *entries = cJSON_AddObjectToObject(document, "metadata");
    for (size_t i = 0; i < kiln_engine_metadata_count(engine); i++) {
        kiln_metadata metadata;
        if (kiln_engine_metadata(engine, i, &metadata) != KILN_OK) {
            cJSON_Delete(document);
            return cli_fail();
        }
        cJSON *key = cli_json_text(metadata.key);
        cli_json_add_text(entries, key != NULL ? cJSON_GetStringValue(key) : "", metadata.value);
        cJSON_Delete(key);
    }
    if (cli_plan_add_json(document, engine, layers) != CLI_DONE) {
        cJSON_Delete(document);
        return CLI_FAILED;
    }
    return cli_json_print(document);
}

/* --- the command --- */

static cli_exit run(const cli_command *self, int count, char **arguments)
{
    inspect_settings settings = {.json = false};
    const char *operands[1] = {NULL};
    kiln_engine *engine = NULL;
    cli_exit result = CLI_DONE;
    if (!cli_options_read(self, count, arguments, &settings, operands, &result)) {
        return result;
    }
    result = cli_model_open(self, operands[0], &settings.model, &engine);
    if (result == CLI_DONE) {
        result = settings.json ? print_json(operands[0], engine, settings.layers)
                               : print_text(operands[0], engine, settings.layers);
    }
    kiln_engine_release(engine);
    cli_options_finish(self, &settings);
    return result;
}

static const cli_option options[] = {
    {"json", 'j', NULL, CLI_FLAG, offsetof(inspect_settings, json), 0, 0, NULL,
     "Write it as JSON: model, backend, inputs, outputs (name, dtype, shape with null for an open "
     "dimension, dim_names) and metadata, and of a plan the profiles and layers."},
    {"layers", 'l', NULL, CLI_FLAG, offsetof(inspect_settings, layers), 0, 0, NULL,
     "Show the layers of a plan too, as TensorRT tells them: names, or all there is where it was "
     "built with --verbosity detailed."},
    {0},
};

static const cli_group groups[] = {
    {"Output", options, 0},
    {"Engine", cli_model_options, offsetof(inspect_settings, model)},
    {0},
};

static const cli_example examples[] = {
    {"kiln inspect model.onnx", "what it takes and gives"},
    {"kiln inspect model.onnx --json | jq -r '.inputs[].name'", "the names of its inputs"},
    {0},
};

const cli_command cli_command_inspect = {
    .name = "inspect",
    .operands = "MODEL",
    .least = 1,
    .most = 1,
    .summary = "show the inputs, outputs and metadata of a model",
    .description =
        "Builds or loads MODEL and shows what it takes and gives: name, type and shape "
        "of each input and output, with ? for a dimension that is open until it runs, "
        "the optimization profiles of a plan, and what the model says about itself.",
    .groups = groups,
    .examples = examples,
    .run = run,
};
