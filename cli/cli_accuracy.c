/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_accuracy.h"

#include <math.h>
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
    kiln_named_tensor *taken = calloc(count + 1, sizeof *taken);
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
    const kiln_status status =
        kiln_context_run_tensors(context, taken, taken_count, outputs, output_count);
    free(taken);
    return status;
}

kiln_status cli_accuracy_read(const kiln_tensor *tensor, cli_numbers *numbers)
{
    int64_t elements = 0;
    kiln_status status = kiln_shape_elements(&tensor->desc.shape, &elements);
    const size_t count = (size_t)elements;
    double *read = status == KILN_OK ? malloc((count + 1) * sizeof *read) : NULL;
    float *values = read != NULL ? malloc((count + 1) * sizeof *values) : NULL;
    *numbers = (cli_numbers){.values = values, .count = count};
    if (values != NULL) {
        status = kiln_tensor_read(tensor, 0, count, read);
        for (size_t i = 0; status == KILN_OK && i < count; i++) {
            values[i] = (float)read[i];
        }
    } else if (status == KILN_OK) {
        status = KILN_ERROR_OUT_OF_MEMORY;
    }
    free(read);
    return status;
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
        const kiln_status status = cli_accuracy_read(&outputs[i].tensor, &grown[first + i]);
        if (status != KILN_OK) {
            return status;
        }
    }
    return KILN_OK;
}

/* Along the last axis, which in classes and characters is that of what is told apart. */
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
        cli_numbers found = {.values = NULL};
        const kiln_status status = cli_accuracy_read(&outputs[i].tensor, &found);
        if (status == KILN_OK) {
            cli_deviation_add(&error->of, expected, found);
            if (expected.count == found.count) {
                compare_rows(error, &outputs[i].tensor.desc.shape, expected.values, found.values,
                             found.count);
            }
            error->misshapen += expected.count != found.count;
        }
        free(found.values);
        if (status != KILN_OK) {
            return status;
        }
    }
    return KILN_OK;
}

/* Every batch through `engine`: its results are kept where it is the model's own, else compared. */
static kiln_status run_all(cli_accuracy *accuracy, kiln_engine *engine)
{
    kiln_context *context = NULL;
    kiln_batch_folder *folder = NULL;
    const bool keeps = engine == accuracy->before;
    const size_t most = keeps || accuracy->most_batches == 0 ? SIZE_MAX : accuracy->most_batches;
    kiln_named_tensor *outputs = calloc(accuracy->output_count + 1, sizeof *outputs);
    kiln_status status = outputs != NULL ? kiln_batch_folder_open(accuracy->batches, &folder)
                                         : KILN_ERROR_OUT_OF_MEMORY;
    status = status == KILN_OK ? kiln_context_create(engine, NULL, &context) : status;
    for (size_t i = 0; status == KILN_OK && i < accuracy->output_count; i++) {
        outputs[i].name = accuracy->outputs[i].name;
    }
    const kiln_batch_source source = kiln_batch_folder_source(folder);
    for (size_t batch = 0; status == KILN_OK && batch < most; batch++) {
        const kiln_named_tensor *inputs = NULL;
        size_t count = 0;
        status = source.next(source.user, &inputs, &count);
        if (status != KILN_OK || count == 0) {
            break;
        }
        status = cli_accuracy_run(context, engine, inputs, count, outputs, accuracy->output_count);
        if (status == KILN_OK) {
            status =
                keeps ? keep_outputs(accuracy, outputs) : compare_outputs(accuracy, outputs, batch);
        }
    }
    kiln_context_destroy(context);
    kiln_batch_folder_close(folder);
    free(outputs);
    return status;
}

/* --- begin and end --- */

/* A search builds many engines: one that takes seconds to build, and holds for a range of shapes,
 * is for other work. */
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
    kiln_status status =
        kiln_engine_build_file(accuracy->path, &accuracy->build, &accuracy->before);
    if (status != KILN_OK) {
        return status;
    }
    accuracy->output_count = kiln_engine_output_count(accuracy->before);
    accuracy->outputs = calloc(accuracy->output_count + 1, sizeof *accuracy->outputs);
    if (accuracy->outputs == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; status == KILN_OK && i < accuracy->output_count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        status = kiln_engine_output(accuracy->before, i, &binding);
        accuracy->outputs[i].name = binding.name;
    }
    return status == KILN_OK ? run_all(accuracy, accuracy->before) : status;
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

/* Where the best backend has no kernels for bfloat16, the reference executor has. */
static kiln_status build_any(const cli_accuracy *accuracy, kiln_network *network,
                             kiln_precision precision, kiln_engine **engine)
{
    const kiln_build_options by = KILN_BUILD_OPTIONS(.backend = "reference");
    const kiln_status status = kiln_engine_build(network, &accuracy->build, engine);
    return status != KILN_OK && precision == KILN_PRECISION_BF16
               ? kiln_engine_build(network, &by, engine)
               : status;
}

static kiln_status convert_and_run(cli_accuracy *accuracy, const kiln_precision_options *how)
{
    kiln_network *network = NULL;
    kiln_engine *engine = NULL;
    kiln_status status = kiln_network_from_onnx(accuracy->path, &network);
    status = status == KILN_OK ? kiln_network_convert(network, how, NULL) : status;
    status = status == KILN_OK ? build_any(accuracy, network, how->precision, &engine) : status;
    status = status == KILN_OK ? run_all(accuracy, engine) : status;
    kiln_engine_release(engine);
    kiln_network_destroy(network);
    return status;
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
    const char **names = calloc(how.keep_node_count + count + 1, sizeof *names);
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
    kiln_status status = convert_and_run(accuracy, &how);
    /* With all of these kept nothing is left to convert: that costs nothing. */
    status = status == KILN_ERROR_UNSUPPORTED && count > 0 ? KILN_OK : status;
    free(names);
    return status;
}

static int compare_costs(const void *left, const void *right)
{
    const double a = ((const cli_node_cost *)left)->decibels;
    const double b = ((const cli_node_cost *)right)->decibels;
    return a < b ? -1 : a > b;
}

/* Those that multiply nothing, in the order that they are in, before the others. */
static size_t put_free_first(cli_accuracy *accuracy)
{
    size_t free_count = 0;
    for (size_t i = 0; i < accuracy->node_count; i++) {
        const cli_node_cost node = accuracy->nodes[i];
        if (node.multiplications == 0) {
            memmove(&accuracy->nodes[free_count + 1], &accuracy->nodes[free_count],
                    (i - free_count) * sizeof node);
            accuracy->nodes[free_count++] = node;
        }
    }
    return free_count < accuracy->node_count ? free_count : 0;
}

static kiln_status list_nodes(cli_accuracy *accuracy, const kiln_precision_report *report)
{
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    kiln_status status = kiln_precision_report_summary(report, &summary);
    accuracy->nodes = calloc(summary.node_count + 1, sizeof *accuracy->nodes);
    if (accuracy->nodes == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; status == KILN_OK && i < summary.node_count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        status = kiln_precision_report_node(report, i, &node);
        if (status == KILN_OK && node.reason == KILN_PRECISION_CONVERTED) {
            accuracy->nodes[accuracy->node_count++] =
                (cli_node_cost){.name = node.output[0] != '\0' ? node.output : node.name,
                                .operator_type = node.operator_type,
                                .decibels = (double)INFINITY,
                                .multiplications = node.multiplications};
        }
    }
    return status;
}

/* Batches that are enough to say which node costs more. */
#define RANKED_BY 4

kiln_status cli_accuracy_rank(cli_accuracy *accuracy, const kiln_precision_report *report)
{
    kiln_status status = list_nodes(accuracy, report);
    const kiln_precision precision = accuracy->how.precision;
    const bool is_half = precision == KILN_PRECISION_FP16 || precision == KILN_PRECISION_BF16;
    const size_t first = status == KILN_OK && is_half ? put_free_first(accuracy) : 0;
    const char **others = calloc(accuracy->node_count + 1, sizeof *others);
    accuracy->most_batches = RANKED_BY;
    for (size_t i = first; status == KILN_OK && others != NULL && i < accuracy->node_count; i++) {
        size_t count = 0;
        for (size_t k = 0; k < accuracy->node_count; k++) {
            if (k != i) {
                others[count++] = accuracy->nodes[k].name;
            }
        }
        /* bfloat16's roundings are eight times float16's, node by node, which more backends have.
         */
        accuracy->how.precision =
            precision == KILN_PRECISION_BF16 ? KILN_PRECISION_FP16 : precision;
        status = cli_accuracy_measure(accuracy, others, count);
        accuracy->how.precision = precision;
        accuracy->nodes[i].decibels = cli_accuracy_reached(accuracy).decibels;
        cli_progress_set((double)(i + 1) / (double)accuracy->node_count);
    }
    status = status == KILN_OK && others == NULL ? KILN_ERROR_OUT_OF_MEMORY : status;
    free(others);
    accuracy->most_batches = 0;
    if (status == KILN_OK && accuracy->node_count > first) {
        qsort(accuracy->nodes + first, accuracy->node_count - first, sizeof *accuracy->nodes,
              compare_costs);
    }
    return status;
}

kiln_status cli_accuracy_search(cli_accuracy *accuracy, cli_target target, const char ***names)
{
    const size_t all = accuracy->node_count;
    const char **worst = calloc(all + 1, sizeof *worst);
    size_t least = 0;
    size_t most = all; /* with one left, or nothing would be converted */
    kiln_status status = worst != NULL ? KILN_OK : KILN_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; worst != NULL && i < all; i++) {
        worst[i] = accuracy->nodes[i].name;
    }
    while (status == KILN_OK && least < most) {
        const size_t tried = (least + most) / 2;
        status = cli_accuracy_measure(accuracy, worst, tried);
        if (cli_accuracy_suffices(accuracy, target)) {
            most = tried;
        } else {
            least = tried + 1;
        }
    }
    accuracy->kept = least < all ? least : 0;
    for (size_t i = 0; status == KILN_OK && i < accuracy->kept; i++) {
        accuracy->nodes[i].is_kept = true;
    }
    *names = worst;
    return status;
}
