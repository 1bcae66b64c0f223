/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli_model.h"

const cli_option cli_input_options[] = {
    {"input", 'i', "[NAME=]DATA", CLI_LIST, offsetof(cli_input_settings, inputs), 0, 0, NULL,
     "The data of input NAME: a .npy file, the array of that name in a .npz file, another file "
     "with exactly its bytes, \"random\", \"random:LOW:HIGH\", \"zeros\", or one number for all "
     "elements; for strings a .npy or .npz file, "
     "\"random\", or \"text:WORDS\" for all elements. May be given once for each input; without "
     "NAME it applies to all that are not named. Default: random."},
    {"shape", 's', "[NAME=]SHAPE", CLI_LIST, offsetof(cli_input_settings, shapes), 0, 0, NULL,
     "The shape of input NAME, like 1x3x224x224; needed if a dimension is dynamic and no .npy "
     "file gives it. Without NAME it applies to all that are not named."},
    {"seed", 0, "N", CLI_INTEGER, offsetof(cli_input_settings, seed), 0, 9007199254740992.0, NULL,
     "Seed of the random numbers; the same seed gives the same data on every machine. Default "
     "0."},
    {0},
};

/* --- assigning arguments to inputs --- */

/* The part of "NAME=VALUE" after the name of an engine input; NULL if it does not start with that
 * name. */
static const char *value_for(const char *argument, const char *name)
{
    const size_t length = strlen(name);
    return strncmp(argument, name, length) == 0 && argument[length] == '=' ? argument + length + 1
                                                                           : NULL;
}

kiln_status cli_input_at(const kiln_engine *engine, size_t index, kiln_binding *binding)
{
    const size_t required = kiln_engine_input_count(engine);
    return index < required ? kiln_engine_input(engine, index, binding)
                            : kiln_engine_optional(engine, index - required, binding);
}

kiln_status cli_binding_at(const kiln_engine *engine, size_t index, kiln_binding *binding)
{
    const size_t inputs = kiln_engine_input_count(engine);
    *binding = (kiln_binding){.struct_size = sizeof *binding};
    return index < inputs ? kiln_engine_input(engine, index, binding)
                          : kiln_engine_output(engine, index - inputs, binding);
}

static bool is_named(const cli_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (value_for(list->items[i], name) != NULL) {
            return true;
        }
    }
    return false;
}

/* Advice for files written by NumPy, which their first bytes identify. */
static const char *array_advice(int descriptor)
{
    char head[6] = "";
    if (pread(descriptor, head, sizeof head, 0) != (ssize_t)sizeof head) {
        return NULL;
    }
    return memcmp(head, "\x93NUMPY", 6) == 0
               ? ": this is an array of NumPy's: give the file a name that ends with .npy"
           : memcmp(head, "PK\3\4", 4) == 0
               ? ": this is an archive, as .npz files are: give the file a name that ends with .npz"
               : NULL;
}

static cli_exit input_names(const kiln_engine *engine, const char **names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        CLI_FAIL_IF_ERROR(cli_input_at(engine, i, &binding));
        names[i] = binding.name;
    }
    return CLI_DONE;
}

static cli_exit misuse_name(const cli_command *command, const char *option, const char *argument,
                            const char *const *names, size_t count)
{
    char word[256];
    (void)snprintf(word, sizeof word, "%.*s", (int)strcspn(argument, "="), argument);
    const char *closest = cli_closest(word, names, count);
    if (closest != NULL) {
        return cli_misuse(command, "--%s: there is no input \"%s\"; did you mean \"%.200s\"?",
                          option, word, closest);
    }
    CLI_TEXT_SCOPED known = {NULL, 0, 0};
    for (size_t i = 0; i < count; i++) {
        cli_text_printf(&known, "%s\"%s\"", i > 0 ? ", " : "", names[i]);
    }
    cli_error("--%s: there is no input \"%s\"; there %s %.1000s", option, word,
              count == 1 ? "is" : "are", count > 0 ? known.data : "none");
    return CLI_MISUSED;
}

/* The index of the input that an argument names; if both "a" and "a=b" match, the longer name. */
static size_t named_by(const char *argument, const char *const *names, size_t count)
{
    size_t found = count;
    for (size_t i = 0; i < count; i++) {
        if (value_for(argument, names[i]) != NULL &&
            (found == count || strlen(names[i]) > strlen(names[found]))) {
            found = i;
        }
    }
    return found;
}

/* Finds the argument for each input: the one with its name or, if there is none, the one without a
 * name. */
static cli_exit assign(const cli_command *command, const char *option, const cli_list *list,
                       const char *const *names, size_t count, const char **values)
{
    const char *for_all = NULL;
    for (size_t i = 0; i < list->count; i++) {
        const char *argument = list->items[i];
        const size_t found = named_by(argument, names, count);
        const char **place = found < count ? &values[found] : &for_all;
        if (found == count && strchr(argument, '=') != NULL) {
            return misuse_name(command, option, argument, names, count);
        }
        if (*place != NULL) {
            return cli_misuse(command, "--%s is given twice for %s%.200s", option,
                              found < count ? "input " : "all inputs",
                              found < count ? names[found] : "");
        }
        *place = found < count ? value_for(argument, names[found]) : argument;
    }
    for (size_t i = 0; i < count; i++) {
        values[i] = values[i] != NULL ? values[i] : for_all;
    }
    return CLI_DONE;
}

/* --- shapes --- */

static void set_batch(kiln_shape *shape, int64_t batch)
{
    if (batch > 0 && shape->rank > 0 && shape->dims[0] == KILN_DYNAMIC) {
        shape->dims[0] = batch;
    }
}

/* Reads a shape, with the batch size in place of N. */
static cli_exit read_shape(const cli_command *command, const char *text, int64_t batch,
                           kiln_shape *shape)
{
    CLI_TEXT_SCOPED sized = {NULL, 0, 0};
    for (const char *at = text; *at != '\0'; at++) {
        if (*at != 'N') {
            cli_text_append(&sized, at, 1);
        } else if (batch == 0) {
            return cli_misuse(
                command,
                "--shape %.80s: N stands for the batch sizes that kiln bench --batches lists",
                text);
        } else {
            cli_text_printf(&sized, "%" PRId64, batch);
        }
    }
    if (kiln_shape_parse(sized.data != NULL ? sized.data : "", shape) != KILN_OK) {
        (void)cli_fail();
        return CLI_MISUSED;
    }
    return CLI_DONE;
}

static bool knows_shape(const kiln_binding *binding, const char *text, int64_t batch)
{
    kiln_shape shape = binding->shape;
    set_batch(&shape, batch);
    return text != NULL || (shape.rank >= 0 && kiln_shape_is_static(&shape));
}

/* The shape that was given for the input, or else the one in the model. */
static cli_exit choose_shape(const cli_command *command, const kiln_binding *binding,
                             const char *text, int64_t batch, kiln_shape *shape)
{
    if (text != NULL) {
        return read_shape(command, text, batch, shape);
    }
    *shape = binding->shape;
    set_batch(shape, batch);
    if (knows_shape(binding, text, batch)) {
        return CLI_DONE;
    }
    char is[256];
    char could_be[256];
    const bool any_rank = binding->shape.rank < 0;
    kiln_shape example = any_rank ? KILN_SHAPE(1, 3, 224, 224) : binding->shape;
    for (int32_t i = 0; i < example.rank; i++) {
        example.dims[i] = example.dims[i] == KILN_DYNAMIC ? 1 : example.dims[i];
    }
    (void)kiln_shape_format(&binding->shape, is, sizeof is);
    (void)kiln_shape_format(&example, could_be, sizeof could_be);
    return cli_misuse(
        command, "input \"%.200s\" %s %s: give it a shape, for instance --shape %.200s=%s",
        binding->name, any_rank ? "may have" : "has the shape", is, binding->name, could_be);
}

/* --- data --- */

static void close_data(const int *descriptor)
{
    if (*descriptor >= 0) {
        (void)close(*descriptor);
    }
}

static int take_data(int *descriptor)
{
    const int taken = *descriptor;
    *descriptor = -1;
    return taken;
}

/* Opens a regular file and gets its size; on failure prints the error and returns -1. */
static int open_data(const char *path, int64_t *size)
{
    SCOPED(close_data) int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat facts;
    if (descriptor < 0 || fstat(descriptor, &facts) != 0) {
        if (errno == ENOENT) {
            cli_error("\"%s\": there is no such file", path);
        } else {
            cli_error("\"%s\": it cannot be opened: %s", path, strerror(errno));
        }
        return -1;
    }
    if (!S_ISREG(facts.st_mode)) {
        cli_error("\"%s\": a file is needed, this is %s", path,
                  S_ISDIR(facts.st_mode) ? "a directory" : "a device, pipe or socket");
        return -1;
    }
    *size = facts.st_size;
    return take_data(&descriptor);
}

static cli_exit read_bytes(int descriptor, const char *path, void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        const ssize_t got = read(descriptor, (char *)data + done, size - done);
        if (got <= 0 && !(got < 0 && errno == EINTR)) {
            cli_error("\"%s\": reading failed at byte %zu: %s", path, done,
                      got < 0 ? strerror(errno) : "the file ended");
            return CLI_FAILED;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return CLI_DONE;
}

/* Reports an unsuitable file before it asks for a shape. */
static cli_exit bind_raw(const cli_command *command, kiln_context *context,
                         const kiln_binding *binding, const char *shape_text, int64_t batch,
                         const char *path)
{
    kiln_tensor tensor;
    kiln_shape shape;
    char dims[256];
    int64_t size = 0;
    SCOPED(close_data) int descriptor = open_data(path, &size);
    if (descriptor < 0) {
        return CLI_FAILED;
    }
    const char *advice = array_advice(descriptor);
    if (advice != NULL && !knows_shape(binding, shape_text, batch)) {
        cli_error("\"%s\"%s", path, advice);
        return CLI_FAILED;
    }
    CLI_RETURN_UNLESS_DONE(choose_shape(command, binding, shape_text, batch, &shape));
    CLI_FAIL_IF_ERROR(kiln_context_reshape(context, binding->name, &shape));
    CLI_FAIL_IF_ERROR(cli_tensor_of(context, binding, &tensor));
    if ((uint64_t)size != tensor.bytes) {
        (void)kiln_shape_format(&shape, dims, sizeof dims);
        cli_error("\"%s\": it has %lld byte%s, input \"%.60s\" (%s %s) takes %zu%s", path,
                  (long long)size, CLI_S(size), binding->name, kiln_dtype_name(binding->dtype),
                  dims, tensor.bytes, advice != NULL ? advice : "");
        return CLI_FAILED;
    }
    return read_bytes(descriptor, path, tensor.data, tensor.bytes);
}

static cli_exit bind_array(kiln_context *context, const kiln_binding *binding,
                           const char *shape_text, const char *path, kiln_tensor *loaded)
{
    CLI_RETURN_UNLESS_DONE(cli_array_load(path, binding->name, binding->dtype, loaded));
    if (shape_text != NULL) {
        kiln_shape shape;
        int64_t has = 0;
        int64_t needs = 0;
        CLI_FAIL_IF_ERROR(kiln_shape_parse(shape_text, &shape));
        CLI_FAIL_IF_ERROR(kiln_shape_elements(&shape, &needs));
        CLI_FAIL_IF_ERROR(kiln_shape_elements(&loaded->desc.shape, &has));
        if (has != needs) {
            cli_error("\"%s\": it has %" PRId64 " element%s, the shape %.80s takes %" PRId64, path,
                      has, CLI_S(has), shape_text, needs);
            return CLI_FAILED;
        }
        loaded->desc.shape = shape;
    }
    return kiln_context_bind(context, binding->name, loaded) == KILN_OK ? CLI_DONE : cli_fail();
}

static const char text_prefix[] = "text:";

static bool is_text(const char *data)
{
    return strncmp(data, text_prefix, sizeof text_prefix - 1) == 0;
}

/* Uses one string for all elements; it remains in the arguments. */
static cli_exit bind_text(const cli_command *command, kiln_context *context,
                          const kiln_binding *binding, const kiln_shape *shape, const char *data)
{
    kiln_tensor tensor;
    if (!is_text(data)) {
        return cli_misuse(command,
                          "--input: \"%.80s\" is nothing for input \"%.200s\", which is of "
                          "strings: give a .npy or .npz file, text:WORDS or random",
                          data, binding->name);
    }
    CLI_FAIL_IF_ERROR(kiln_context_reshape(context, binding->name, shape));
    CLI_FAIL_IF_ERROR(cli_tensor_of(context, binding, &tensor));
    const char *words = data + sizeof text_prefix - 1;
    for (size_t i = 0; i < tensor.bytes / sizeof(kiln_span); i++) {
        ((kiln_span *)tensor.data)[i] = (kiln_span){words, strlen(words)};
    }
    return CLI_DONE;
}

static cli_exit bind_one(const cli_command *command, kiln_context *context,
                         const kiln_binding *binding, const char *data, const char *shape_text,
                         const cli_input_settings *settings, kiln_tensor *loaded)
{
    cli_filling how;
    bool is_wrong = false;
    const bool is_filled = cli_filling_read(data, &how, &is_wrong);
    if (is_wrong) {
        return cli_misuse(command, "--input: \"%.80s\" is not random:LOW:HIGH, as in random:0:1",
                          data);
    }
    if (!is_filled && cli_is_array(data)) {
        return bind_array(context, binding, shape_text, data, loaded);
    }
    const bool is_string = binding->dtype == KILN_DTYPE_STRING;
    if (!is_filled && !is_string && is_text(data)) {
        return cli_misuse(command,
                          "--input: \"%.80s\" is for inputs of strings, input \"%.200s\" is of "
                          "type %s; a file of that name is ./%.80s",
                          data, binding->name, kiln_dtype_name(binding->dtype), data);
    }
    if (!is_filled && !is_string) {
        return bind_raw(command, context, binding, shape_text, settings->batch, data);
    }
    kiln_shape shape;
    CLI_RETURN_UNLESS_DONE(choose_shape(command, binding, shape_text, settings->batch, &shape));
    return is_filled ? cli_filling_bind(command, context, binding, &shape, &how, settings->seed)
                     : bind_text(command, context, binding, &shape, data);
}

cli_exit cli_inputs_bind(const cli_command *command, const cli_input_settings *settings,
                         const kiln_engine *engine, kiln_context *context, cli_inputs *inputs)
{
    const size_t required = kiln_engine_input_count(engine);
    const size_t count = required + kiln_engine_optional_count(engine);
    SCOPED_HEAP const char **names = cli_allocate(count * 3 * sizeof *names);
    const char **data = names + count;
    const char **shapes = data + count;
    inputs->count = count;
    inputs->is_bound = cli_allocate(count);
    inputs->loaded = cli_allocate(count * sizeof *inputs->loaded);
    CLI_RETURN_UNLESS_DONE(input_names(engine, names, count));
    CLI_RETURN_UNLESS_DONE(assign(command, "input", &settings->inputs, names, count, data));
    CLI_RETURN_UNLESS_DONE(assign(command, "shape", &settings->shapes, names, count, shapes));
    for (size_t i = 0; i < count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        /* An input that has a default value keeps it unless it is named. */
        if (i >= required && !is_named(&settings->inputs, names[i])) {
            continue;
        }
        CLI_FAIL_IF_ERROR(cli_input_at(engine, i, &binding));
        CLI_RETURN_UNLESS_DONE(
            bind_one(command, context, &binding, data[i], shapes[i], settings, &inputs->loaded[i]));
        inputs->is_bound[i] = true;
    }
    return CLI_DONE;
}

/* The shape of input `name` if an option gives it; otherwise its rank is -1. */
static cli_exit hint_shape(const cli_command *command, const char *name, const char *data,
                           const char *shape_text, const cli_input_settings *settings,
                           kiln_shape *shape)
{
    *shape = (kiln_shape){.rank = -1};
    if (shape_text != NULL) {
        return read_shape(command, shape_text, settings->batch, shape);
    }
    if (data != NULL && cli_is_array(data)) {
        kiln_tensor tensor;
        CLI_RETURN_UNLESS_DONE(cli_array_load(data, name, KILN_DTYPE_UNDEFINED, &tensor));
        *shape = tensor.desc.shape;
        kiln_tensor_free(&tensor);
    }
    return CLI_DONE;
}

/* The shape of a named input, which may be a weight. If the model fixes the shape, that is used,
 * apart from the batch size. */
static void declared_shape(kiln_network *network, size_t index, int64_t batch, kiln_shape *shape)
{
    kiln_tensor_id tensor;
    kiln_dtype dtype;
    if (kiln_network_input(network, index, &tensor) != KILN_OK ||
        kiln_network_tensor_type(network, tensor, &dtype, shape) != KILN_OK) {
        *shape = (kiln_shape){.rank = -1};
        return;
    }
    set_batch(shape, batch);
    if (!kiln_shape_is_static(shape)) {
        *shape = (kiln_shape){.rank = -1};
    }
}

cli_exit cli_hints_read(const cli_command *command, const cli_input_settings *settings,
                        kiln_network *network, cli_hints *hints)
{
    const size_t count = kiln_network_input_count(network);
    SCOPED_HEAP const char **names = cli_allocate(count * 3 * sizeof *names);
    const char **data = names + count;
    const char **shapes = data + count;
    hints->items = cli_allocate(count * sizeof *hints->items);
    for (size_t i = 0; i < count; i++) {
        kiln_tensor_id tensor;
        CLI_FAIL_IF_ERROR(kiln_network_input(network, i, &tensor));
        names[i] = kiln_network_tensor_name(network, tensor);
    }
    CLI_RETURN_UNLESS_DONE(assign(command, "input", &settings->inputs, names, count, data));
    CLI_RETURN_UNLESS_DONE(assign(command, "shape", &settings->shapes, names, count, shapes));
    for (size_t i = 0; i < count; i++) {
        kiln_shape_hint *hint = &hints->items[hints->count];
        *hint = (kiln_shape_hint){.name = names[i]};
        CLI_RETURN_UNLESS_DONE(
            hint_shape(command, names[i], data[i], shapes[i], settings, &hint->shape));
        if (hint->shape.rank < 0 &&
            (settings->batch > 0 || is_named(&settings->inputs, names[i]))) {
            declared_shape(network, i, settings->batch, &hint->shape);
        }
        hints->count += hint->shape.rank >= 0;
    }
    return CLI_DONE;
}

void cli_inputs_finish(cli_inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++) {
        kiln_tensor_free(&inputs->loaded[i]);
    }
    free(inputs->loaded);
    free(inputs->is_bound);
    *inputs = (cli_inputs){NULL, NULL, 0};
}
