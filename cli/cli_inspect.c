/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_list.h"
#include "cli_model.h"
#include "cli_network.h"
#include "cli_plan.h"

typedef struct inspect_settings {
    cli_model_settings model;
    cli_input_settings inputs;
    bool json;
    bool layers;
} inspect_settings;

/* The subject: an engine, or a network from which none was built. */
typedef struct inspect_subject {
    const char *path;
    kiln_engine *engine; /* if NULL: */
    cli_network network;
} inspect_subject;

static size_t binding_count(const inspect_subject *subject, bool is_input)
{
    const kiln_inspection_info *info = &subject->network.info;
    if (subject->engine == NULL) {
        return is_input ? info->input_count : info->output_count;
    }
    return is_input ? kiln_engine_input_count(subject->engine)
                    : kiln_engine_output_count(subject->engine);
}

static cli_exit binding_at(const inspect_subject *subject, bool is_input, size_t index,
                           kiln_binding *binding)
{
    const kiln_inspection *inspection = subject->network.inspection;
    *binding = (kiln_binding){.struct_size = sizeof *binding};
    kiln_status status = KILN_OK;
    if (subject->engine == NULL) {
        status = is_input ? kiln_inspection_get_input(inspection, index, binding)
                          : kiln_inspection_get_output(inspection, index, binding);
    } else {
        status = is_input ? kiln_engine_input(subject->engine, index, binding)
                          : kiln_engine_output(subject->engine, index, binding);
    }
    return status == KILN_OK ? CLI_DONE : cli_fail();
}

static size_t metadata_count(const inspect_subject *subject)
{
    return subject->engine != NULL ? kiln_engine_metadata_count(subject->engine)
                                   : subject->network.info.metadata_count;
}

static cli_exit metadata_at(const inspect_subject *subject, size_t index, kiln_metadata *metadata)
{
    const kiln_status status =
        subject->engine != NULL
            ? kiln_engine_metadata(subject->engine, index, metadata)
            : kiln_inspection_get_metadata(subject->network.inspection, index, metadata);
    return status == KILN_OK ? CLI_DONE : cli_fail();
}

/* --- text --- */

/* For example "0: batch, 2: time". */
static void named_dims(const kiln_binding *binding, cli_text *text)
{
    cli_text_append(text, "", 0);
    for (int32_t i = 0; i < binding->shape.rank && i < KILN_MAX_RANK; i++) {
        if (binding->dim_names[i] != NULL && binding->dim_names[i][0] != '\0') {
            cli_text_printf(text, "%s%d: %s", text->size > 0 ? ", " : "", i, binding->dim_names[i]);
        }
    }
}

/* For example "int8, scale 0.02, zero point 3", or the number of scales and their axis. */
static void add_quantization(const kiln_binding *binding, cli_text *text)
{
    const kiln_quantization *q = &binding->quantization;
    cli_text_append(text, "", 0);
    if (q->storage == KILN_DTYPE_UNDEFINED || q->count < 1) {
        return;
    }
    cli_text_printf(text, "%s, ", kiln_dtype_name(q->storage));
    if (q->count == 1) {
        cli_text_printf(text, "scale %.6g", (double)q->scales[0]);
        if (q->zero_points != NULL) {
            cli_text_printf(text, ", zero point %d", (int)q->zero_points[0]);
        }
        return;
    }
    float least = q->scales[0];
    float most = q->scales[0];
    for (int64_t i = 1; i < q->count; i++) {
        least = q->scales[i] < least ? q->scales[i] : least;
        most = q->scales[i] > most ? q->scales[i] : most;
    }
    cli_text_printf(text, "%lld scale%s along axis %d", (long long)q->count, CLI_S(q->count),
                    (int)q->axis);
    if (q->block_size > 0) {
        cli_text_printf(text, " in blocks of %lld", (long long)q->block_size);
    }
    cli_text_printf(text, ", %.6g to %.6g%s", (double)least, (double)most,
                    q->zero_points != NULL ? ", with zero points" : "");
}

static cli_exit print_bindings(const inspect_subject *subject)
{
    static const char *const headings[] = {
        "", "name", "type", "shape", "dynamic dimensions", "quantized"};
    cli_table table;
    cli_exit result = CLI_DONE;
    const size_t inputs = binding_count(subject, true);
    const size_t count = inputs + binding_count(subject, false);
    cli_table_init(&table, "llllll", headings);
    bool has_names = false;
    bool has_scales = false;
    for (size_t i = 0; i < count && result == CLI_DONE; i++) {
        kiln_binding binding;
        result = binding_at(subject, i < inputs, i < inputs ? i : i - inputs, &binding);
        if (result != CLI_DONE) {
            break;
        }
        char shape[256];
        CLI_TEXT_SCOPED names = {NULL, 0, 0};
        CLI_TEXT_SCOPED scales = {NULL, 0, 0};
        (void)kiln_shape_format(&binding.shape, shape, sizeof shape);
        named_dims(&binding, &names);
        add_quantization(&binding, &scales);
        has_names = has_names || names.size > 0;
        has_scales = has_scales || scales.size > 0;
        CLI_TABLE_ADD(&table, binding.is_input ? "input" : "output", binding.name,
                      kiln_dtype_name(binding.dtype), shape, names.data, scales.data);
    }
    table.cells[4][0] = has_names ? table.cells[4][0] : '\0';
    table.cells[5][0] = has_scales ? table.cells[5][0] : '\0';
    cli_table_print(&table, 0);
    return result;
}

#define WIDTH 79
#define VALUE_BYTES 200
#define KEY_COLUMNS 24

/* A value, shortened if it is too long to read. */
static char *shown_value(const char *value)
{
    const size_t length = strlen(value);
    const size_t kept = cli_utf8_cut(value, length, VALUE_BYTES);
    CLI_TEXT_SCOPED copy = {NULL, 0, 0};
    cli_text_append(&copy, value, kept);
    SCOPED_HEAP char *printable = cli_printable(copy.data);
    cli_text text = {NULL, 0, 0};
    cli_text_add(&text, printable);
    if (kept < length) {
        cli_text_printf(&text, "... (%zu bytes; --json shows all)", length);
    }
    return text.data;
}

static void print_entry(const kiln_metadata *metadata, size_t indent)
{
    SCOPED_HEAP char *key = cli_printable(metadata->key);
    SCOPED_HEAP char *value = shown_value(metadata->value);
    const size_t columns = cli_columns(key);
    CLI_TEXT_SCOPED line = {NULL, 0, 0};
    cli_text_add(&line, key);
    if (columns + 2 > indent) {
        cli_text_printf(&line, "\n%*s", (int)indent, "");
    } else {
        cli_text_printf(&line, "%*s", (int)(indent - columns), "");
    }
    cli_text_wrap(&line, value, indent, WIDTH);
    (void)puts(line.data);
}

static cli_exit print_metadata(const inspect_subject *subject)
{
    const size_t count = metadata_count(subject);
    size_t indent = 0;
    kiln_metadata metadata;
    for (size_t i = 0; i < count; i++) {
        CLI_RETURN_UNLESS_DONE(metadata_at(subject, i, &metadata));
        const size_t columns = cli_columns(metadata.key) + 2;
        indent = columns > indent && columns <= KEY_COLUMNS ? columns : indent;
    }
    (void)fputs(count > 0 ? "\n" : "", stdout);
    for (size_t i = 0; i < count; i++) {
        CLI_RETURN_UNLESS_DONE(metadata_at(subject, i, &metadata));
        print_entry(&metadata, indent > 0 ? indent : KEY_COLUMNS);
    }
    return CLI_DONE;
}

static cli_exit print_text(const inspect_subject *subject, bool layers)
{
    if (subject->engine != NULL) {
        cli_model_print(subject->path, subject->engine);
    } else {
        CLI_RETURN_UNLESS_DONE(cli_network_print_head(subject->path, &subject->network));
    }
    CLI_RETURN_UNLESS_DONE(print_bindings(subject));
    if (subject->engine != NULL) {
        CLI_RETURN_UNLESS_DONE(cli_plan_print_profiles(subject->engine));
    }
    CLI_RETURN_UNLESS_DONE(print_metadata(subject));
    return !layers                   ? CLI_DONE
           : subject->engine != NULL ? cli_plan_print_layers(subject->engine)
                                     : cli_network_print_layers(&subject->network);
}

/* --- JSON --- */

static void add_quantization_json(const kiln_quantization *q, cJSON *to)
{
    if (q->storage == KILN_DTYPE_UNDEFINED) {
        return;
    }
    cJSON *object = cJSON_AddObjectToObject(to, "quantization");
    cli_json_add_text(object, "dtype", kiln_dtype_name(q->storage));
    (void)cJSON_AddItemToObject(object, "axis",
                                q->axis >= 0 ? cJSON_CreateNumber(q->axis) : cJSON_CreateNull());
    (void)cJSON_AddNumberToObject(object, "block_size", (double)q->block_size);
    cJSON *scales = cJSON_AddArrayToObject(object, "scales");
    cJSON *zeros = cJSON_AddArrayToObject(object, "zero_points");
    for (int64_t i = 0; i < q->count; i++) {
        const int32_t zero = q->zero_points != NULL ? q->zero_points[i] : 0;
        (void)cJSON_AddItemToArray(scales, cJSON_CreateNumber((double)q->scales[i]));
        (void)cJSON_AddItemToArray(zeros, cJSON_CreateNumber(zero));
    }
}

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
    add_quantization_json(&binding->quantization, object);
    return object;
}

static cli_exit add_bindings(cJSON *document, const char *key, const inspect_subject *subject,
                             bool is_input)
{
    cJSON *array = cJSON_AddArrayToObject(document, key);
    const size_t count = binding_count(subject, is_input);
    for (size_t i = 0; i < count; i++) {
        kiln_binding binding;
        CLI_RETURN_UNLESS_DONE(binding_at(subject, is_input, i, &binding));
        (void)cJSON_AddItemToArray(array, binding_json(&binding));
    }
    return CLI_DONE;
}

static cli_exit add_metadata(cJSON *document, const inspect_subject *subject)
{
    cJSON *entries = cJSON_AddObjectToObject(document, "metadata");
    for (size_t i = 0; i < metadata_count(subject); i++) {
        kiln_metadata metadata;
        CLI_RETURN_UNLESS_DONE(metadata_at(subject, i, &metadata));
        cJSON *key = cli_json_text(metadata.key);
        cli_json_add_text(entries, key != NULL ? cJSON_GetStringValue(key) : "", metadata.value);
        cJSON_Delete(key);
    }
    return CLI_DONE;
}

static cli_exit add_backend(cJSON *document, const kiln_engine *engine)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    CLI_FAIL_IF_ERROR(kiln_engine_backend(engine, &info));
    (void)cJSON_AddItemToObject(document, "backend", cli_json_backend(&info));
    return CLI_DONE;
}

static cli_exit add_all(cJSON *document, const inspect_subject *subject, bool layers)
{
    cli_json_add_text(document, "model", subject->path);
    CLI_RETURN_UNLESS_DONE(subject->engine != NULL
                               ? add_backend(document, subject->engine)
                               : cli_network_add_head(document, &subject->network));
    CLI_RETURN_UNLESS_DONE(add_bindings(document, "inputs", subject, true));
    CLI_RETURN_UNLESS_DONE(add_bindings(document, "outputs", subject, false));
    CLI_RETURN_UNLESS_DONE(add_metadata(document, subject));
    return subject->engine != NULL ? cli_plan_add_json(document, subject->engine, layers)
           : layers                ? cli_network_add_layers(document, &subject->network)
                                   : CLI_DONE;
}

static cli_exit print_json(const inspect_subject *subject, bool layers)
{
    cJSON *document = cJSON_CreateObject();
    const cli_exit result = add_all(document, subject, layers);
    if (result != CLI_DONE) {
        cJSON_Delete(document);
        return result;
    }
    return cli_json_print(document);
}

/* --- the command --- */

/* Whether an option requires an engine, which is then built. */
static bool wants_engine(const cli_model_settings *settings)
{
    return settings->build != NULL || settings->refit != NULL || settings->graph != 0 ||
           settings->shapes->shapes.count != 0;
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    inspect_settings *settings = given;
    cli_exit result = CLI_DONE;
    inspect_subject subject = {.path = operands[0]};
    settings->model.shapes = &settings->inputs;
    /* A file that cannot be read as ONNX is a plan, or something that loading reports more
     * about. */
    if (wants_engine(&settings->model) ||
        !cli_network_open(operands[0], settings->layers, &subject.network, &result)) {
        result = cli_model_open(self, operands[0], &settings->model, &subject.engine);
    }
    if (result == CLI_DONE) {
        result = settings->json ? print_json(&subject, settings->layers)
                                : print_text(&subject, settings->layers);
    }
    kiln_engine_release(subject.engine);
    cli_network_close(&subject.network);
    return result;
}

static const cli_option options[] = {
    {"json", 'j', NULL, CLI_FLAG, offsetof(inspect_settings, json), 0, 0, NULL,
     "Write JSON: model, inputs, outputs (name, dtype, shape with null for a dynamic dimension, "
     "dim_names) and metadata; for an ONNX file also ir_version, opsets, nodes, initializers "
     "(count, bytes), functions and issues (missing external files); for an engine the backend; "
     "for a plan the profiles; and layers if requested."},
    {"shape", 's', "[NAME=]SHAPE", CLI_LIST, offsetof(inspect_settings, inputs.shapes), 0, 0, NULL,
     "The shape of input NAME, like 1x3x224x224: a TensorRT engine is built for it if MODEL has "
     "a dynamic dimension. Without NAME it applies to all that are not named."},
    {"layers", 'l', NULL, CLI_FLAG, offsetof(inspect_settings, layers), 0, 0, NULL,
     "Show the layers too. For an ONNX file these are its nodes: name, operator, inputs and "
     "outputs with their inferred types. For a plan they are what TensorRT reports: names, or "
     "everything if it was built with --verbosity detailed."},
    {0},
};

static const cli_group groups[] = {
    {"Output", options, 0},
    {"Engine", cli_model_options, offsetof(inspect_settings, model)},
    {0},
};

static const cli_example examples[] = {
    {"kiln inspect model.onnx", "its inputs and outputs"},
    {"kiln inspect model.onnx --layers", "its nodes and the types of all tensors"},
    {"kiln inspect model.onnx --backend tensorrt", "the engine that TensorRT builds from it"},
    {"kiln inspect model.onnx --json | jq -r '.inputs[].name'", "the names of its inputs"},
    {0},
};

const cli_command cli_command_inspect = {
    .name = "inspect",
    .operands = "MODEL",
    .summary = "show the inputs, outputs and metadata of a model",
    .description =
        "Shows the name, type and shape of each input and output of MODEL, with ? for a dynamic "
        "dimension, the optimization profiles of a plan, and the model's metadata.\n\nAn ONNX "
        "file is read and its shapes are inferred; no backend is needed, and nothing is built "
        "unless an engine option is given. A plan is loaded.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(inspect_settings, .json = false),
    .run = run,
};
