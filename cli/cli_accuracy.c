/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_accuracy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double cli_decibels(const cli_deviation *of)
{
    return of->noise > 0 ? 10 * log10(of->signal / of->noise) : (double)INFINITY;
}

static double difference_of(double expected, double found)
{
    if (expected == found || (isnan(expected) && isnan(found))) {
        return 0;
    }
    const double difference = fabs(expected - found);
    return isnan(difference) ? (double)INFINITY : difference;
}

void cli_deviation_add(cli_deviation *of, cli_numbers expected, cli_numbers found)
{
    for (size_t i = 0; i < expected.count && i < found.count; i++) {
        const double number = (double)expected.values[i];
        const double difference = difference_of(number, (double)found.values[i]);
        of->largest = fmax(of->largest, fabs(number));
        of->worst = fmax(of->worst, difference);
        of->signal += isfinite(number) ? number * number : 0;
        of->noise += difference * difference;
    }
    of->noise = expected.count == found.count ? of->noise : (double)INFINITY;
}

/* --- running --- */

static bool has_input(const kiln_engine *engine, const char *name)
{
    for (size_t i = 0; i < kiln_engine_input_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        if (kiln_engine_input(engine, i, &binding) == KILN_OK && strcmp(binding.name, name) == 0) {
            return true;
        }
    }
    return false;
}

kiln_status cli_accuracy_run(kiln_context *context, const kiln_engine *engine,
                             const kiln_named_tensor *inputs, size_t count,
                             kiln_named_tensor *outputs, size_t output_count)
{
    SCOPED_HEAP kiln_named_tensor *taken = calloc(count + 1, sizeof *taken);
    kiln_binding first = {.struct_size = sizeof first};
    const bool is_single = count == 1 && kiln_engine_input_count(engine) == 1 &&
                           kiln_engine_input(engine, 0, &first) == KILN_OK;
    size_t taken_count = 0;
    if (taken == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        if (is_single || (inputs[i].name != NULL && has_input(engine, inputs[i].name))) {
            taken[taken_count] = inputs[i];
            taken[taken_count++].name = is_single ? first.name : inputs[i].name;
        }
    }
    for (size_t i = 0; i < output_count; i++) {
        outputs[i].tensor = (kiln_tensor){.data = NULL};
    }
    return kiln_context_run_tensors(context, taken, taken_count, outputs, output_count);
}

kiln_status cli_accuracy_read(const kiln_tensor *tensor, cli_numbers *numbers)
{
    int64_t elements = 0;
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&tensor->desc.shape, &elements));
    const size_t count = (size_t)elements;
    SCOPED_HEAP double *read = malloc((count + 1) * sizeof *read);
    *numbers = (cli_numbers){.values = malloc((count + 1) * sizeof(float)), .count = count};
    if (read == NULL || numbers->values == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    KLN_RETURN_IF_ERROR(kiln_tensor_read(tensor, 0, count, read));
    for (size_t i = 0; i < count; i++) {
        numbers->values[i] = (float)read[i];
    }
    return KILN_OK;
}

static kiln_status keep_outputs(cli_accuracy *accuracy, const kiln_named_tensor *outputs)
{
    const size_t first = accuracy->batch_count * accuracy->output_count;
    cli_numbers *grown =
        realloc(accuracy->expected, (first + accuracy->output_count) * sizeof *grown);
    if (grown == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    accuracy->expected = grown;
    memset(&grown[first], 0, accuracy->output_count * sizeof *grown);
    accuracy->batch_count++;
    for (size_t i = 0; i < accuracy->output_count; i++) {
        KLN_RETURN_IF_ERROR(cli_accuracy_read(&outputs[i].tensor, &grown[first + i]));
    }
    return KILN_OK;
}

/* Compares the maxima along the last axis, which for classes or characters is the axis of the
 * candidates. */
static void compare_rows(cli_output_error *error, const kiln_shape *shape, const float *expected,
                         const float *found, size_t count)
{
    const size_t size = shape->rank > 0 ? (size_t)shape->dims[shape->rank - 1] : 0;
    for (size_t begin = 0; size > 1 && begin + size <= count; begin += size) {
        size_t largest[2] = {0, 0};
        for (size_t i = 1; i < size; i++) {
            largest[0] = expected[begin + i] > expected[begin + largest[0]] ? i : largest[0];
            largest[1] = found[begin + i] > found[begin + largest[1]] ? i : largest[1];
        }
        error->rows++;
        error->alike += largest[0] == largest[1];
    }
}

static kiln_status compare_outputs(cli_accuracy *accuracy, const kiln_named_tensor *outputs,
                                   size_t batch)
{
    for (size_t i = 0; i < accuracy->output_count; i++) {
        cli_output_error *error = &accuracy->outputs[i];
        const cli_numbers expected = accuracy->expected[batch * accuracy->output_count + i];
        SCOPED(cli_numbers_finish) cli_numbers found = {.values = NULL};
        KLN_RETURN_IF_ERROR(cli_accuracy_read(&outputs[i].tensor, &found));
        cli_deviation_add(&error->of, expected, found);
        if (expected.count == found.count) {
            compare_rows(error, &outputs[i].tensor.desc.shape, expected.values, found.values,
                         found.count);
        }
        error->misshapen += expected.count != found.count;
    }
    return KILN_OK;
}

/* Runs all batches through `engine`: the results of the original model are kept, and all others are
 * compared with them. */
static kiln_status run_all(cli_accuracy *accuracy, kiln_engine *engine)
{
    CLI_OWNED(context) context = NULL;
    CLI_OWNED(batch_folder) folder = NULL;
    const bool keeps = engine == accuracy->before;
    const size_t most = keeps || accuracy->most_batches == 0 ? SIZE_MAX : accuracy->most_batches;
    SCOPED_HEAP kiln_named_tensor *outputs = calloc(accuracy->output_count + 1, sizeof *outputs);
    if (outputs == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    KLN_RETURN_IF_ERROR(kiln_batch_folder_open(accuracy->batches, &folder));
    KLN_RETURN_IF_ERROR(kiln_context_create(engine, NULL, &context));
    for (size_t i = 0; i < accuracy->output_count; i++) {
        outputs[i].name = accuracy->outputs[i].name;
    }
    const kiln_batch_source source = kiln_batch_folder_source(folder);
    for (size_t batch = 0; batch < most; batch++) {
        const kiln_named_tensor *inputs = NULL;
        size_t count = 0;
        KLN_RETURN_IF_ERROR(source.next(source.user, &inputs, &count));
        if (count == 0) {
            break;
        }
        KLN_RETURN_IF_ERROR(
            cli_accuracy_run(context, engine, inputs, count, outputs, accuracy->output_count));
        KLN_RETURN_IF_ERROR(keeps ? keep_outputs(accuracy, outputs)
                                  : compare_outputs(accuracy, outputs, batch));
    }
    return KILN_OK;
}

/* --- setup and cleanup --- */

/* A search builds many engines, so a backend that takes seconds to build one, and builds it for a
 * range of shapes, is unsuitable. */
static void choose_backend(kiln_build_options *build)
{
    const kiln_build_options none = KILN_BUILD_OPTIONS_INIT;
    kiln_backend_info best = {.struct_size = sizeof best};
    kiln_backend_info info = {.struct_size = sizeof info};
    *build = none;
    if (kiln_backend_choose(NULL, &best) != KILN_OK ||
        (best.capabilities & KILN_CAPABILITY_PROFILES) == 0) {
        return;
    }
    best.score = 0;
    for (size_t i = 0; i < kiln_backend_count(); i++) {
        if (kiln_backend_get(i, &info) == KILN_OK && info.score > best.score &&
            (info.capabilities & KILN_CAPABILITY_PROFILES) == 0) {
            best = info;
            build->backend = info.name;
        }
    }
}

kiln_status cli_accuracy_begin(cli_accuracy *accuracy)
{
    choose_backend(&accuracy->build);
    KLN_RETURN_IF_ERROR(
        kiln_engine_build_file(accuracy->path, &accuracy->build, &accuracy->before));
    accuracy->output_count = kiln_engine_output_count(accuracy->before);
    accuracy->outputs = calloc(accuracy->output_count + 1, sizeof *accuracy->outputs);
    if (accuracy->outputs == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < accuracy->output_count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        KLN_RETURN_IF_ERROR(kiln_engine_output(accuracy->before, i, &binding));
        accuracy->outputs[i].name = binding.name;
    }
    return run_all(accuracy, accuracy->before);
}

static void forget(cli_accuracy *accuracy)
{
    for (size_t i = 0; i < accuracy->batch_count * accuracy->output_count; i++) {
        free(accuracy->expected[i].values);
    }
    free(accuracy->expected);
    accuracy->expected = NULL;
    accuracy->batch_count = 0;
}

kiln_status cli_accuracy_again(cli_accuracy *accuracy)
{
    forget(accuracy);
    return run_all(accuracy, accuracy->before);
}

void cli_accuracy_finish(cli_accuracy *accuracy)
{
    forget(accuracy);
    free(accuracy->outputs);
    free(accuracy->nodes);
    free(accuracy->layers);
    kiln_engine_release(accuracy->before);
}

/* --- measuring --- */

kiln_status cli_accuracy_build(const cli_accuracy *accuracy, kiln_network *network,
                               kiln_precision precision, kiln_engine **engine)
{
    const kiln_build_options by = KILN_BUILD_OPTIONS(.backend = "reference");
    const bool is_half = precision == KILN_PRECISION_FP16 || precision == KILN_PRECISION_BF16;
    return kiln_engine_build(network, is_half ? &by : &accuracy->build, engine);
}

static kiln_status convert_and_run(cli_accuracy *accuracy, const kiln_precision_options *how)
{
    CLI_OWNED(network) network = NULL;
    CLI_OWNED(engine) engine = NULL;
    KLN_RETURN_IF_ERROR(kiln_network_from_onnx(accuracy->path, &network));
    KLN_RETURN_IF_ERROR(kiln_network_convert(network, how, NULL));
    KLN_RETURN_IF_ERROR(cli_accuracy_build(accuracy, network, how->precision, &engine));
    return run_all(accuracy, engine);
}

cli_target cli_accuracy_reached(const cli_accuracy *accuracy)
{
    cli_target reached = {(double)INFINITY, 100};
    for (size_t i = 0; i < accuracy->output_count; i++) {
        const cli_output_error *error = &accuracy->outputs[i];
        reached.decibels = fmin(reached.decibels, cli_decibels(&error->of));
        if (error->rows != 0) {
            const double alike = 100 * (double)error->alike / (double)error->rows;
            reached.agreement = fmin(reached.agreement, alike);
        }
    }
    return reached;
}

bool cli_accuracy_suffices(const cli_accuracy *accuracy, cli_target target)
{
    const cli_target reached = cli_accuracy_reached(accuracy);
    return reached.decibels >= target.decibels && reached.agreement >= target.agreement;
}

kiln_status cli_accuracy_measure(cli_accuracy *accuracy, const char *const *kept, size_t count)
{
    kiln_precision_options how = accuracy->how;
    SCOPED_HEAP const char **names = calloc(how.keep_node_count + count + 1, sizeof *names);
    if (names == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < how.keep_node_count + count; i++) {
        names[i] = i < count ? kept[i] : how.keep_nodes[i - count];
    }
    how.keep_nodes = names;
    how.keep_node_count += count;
    for (size_t i = 0; i < accuracy->output_count; i++) {
        accuracy->outputs[i] = (cli_output_error){.name = accuracy->outputs[i].name};
    }
    const kiln_status status = convert_and_run(accuracy, &how);
    /* If all of these are kept, nothing is left to convert, which costs no accuracy. */
    return status == KILN_ERROR_UNSUPPORTED && count > 0 ? KILN_OK : status;
}

/* --- results --- */

#define MOST_SHOWN 10

void cli_accuracy_print(const cli_accuracy *accuracy)
{
    for (size_t i = 0; i < accuracy->output_count; i++) {
        const cli_output_error *o = &accuracy->outputs[i];
        SCOPED_HEAP char *name = cli_printable(o->name);
        (void)printf(
            "\"%s\": signal to noise %.1f dB, largest difference %.4g of %.4g, on %zu batch%s\n",
            name, cli_decibels(&o->of), o->of.worst, o->of.largest, accuracy->batch_count,
            CLI_ES(accuracy->batch_count));
        if (o->misshapen > 0) {
            (void)printf("\"%s\": its shape is another for %zu of %zu batches\n", name,
                         o->misshapen, accuracy->batch_count);
        }
    }
    for (size_t i = 0, shown = 0; i < accuracy->node_count && shown < MOST_SHOWN; i++) {
        const cli_node_cost *node = &accuracy->nodes[i];
        if (!isfinite(node->decibels)) {
            continue;
        }
        SCOPED_HEAP char *name = cli_printable(node->name);
        (void)printf("%s%s (%s) alone: %.1f dB%s\n", shown++ == 0 ? "those that hurt most: " : "  ",
                     name, node->operator_type, node->decibels, node->is_kept ? ", kept" : "");
    }
}
