/* SPDX-License-Identifier: Apache-2.0 */
/* The signal to noise of every tensor that a network and its conversion have in common. */
#include <stdlib.h>
#include <string.h>

#include "cli_accuracy.h"

/* Batches that are enough for it: all tensors of one are held. */
#define MOST_BATCHES 4

typedef struct side {
    kiln_network *network;
    kiln_engine *engine;
    kiln_context *context;
    kiln_named_tensor *outputs;
} side;

static void close_side(side *of)
{
    kiln_context_destroy(of->context);
    kiln_engine_release(of->engine);
    kiln_network_destroy(of->network);
    free(of->outputs);
}

static bool is_output(kiln_network *network, const char *name)
{
    for (size_t i = 0; i < kiln_network_output_count(network); i++) {
        kiln_tensor_id id;
        if (kiln_network_output(network, i, &id) == KILN_OK &&
            strcmp(kiln_network_tensor_name(network, id), name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_float(kiln_network *network, const char *name, kiln_tensor_id *id)
{
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    kiln_shape shape;
    return kiln_network_find(network, name, id) == KILN_OK &&
           kiln_network_tensor_type(network, *id, &dtype, &shape) == KILN_OK &&
           (dtype == KILN_DTYPE_FLOAT32 || dtype == KILN_DTYPE_FLOAT16 ||
            dtype == KILN_DTYPE_BFLOAT16);
}

/* What evens a tensor out is reported under the tensor's name, too. */
static bool is_listed(const cli_accuracy *accuracy, const char *name)
{
    for (size_t i = 0; i < accuracy->layer_count; i++) {
        if (strcmp(accuracy->layers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Tensors of the main graph that both have, in the order of the report, as outputs of both. */
static kiln_status list_layers(cli_accuracy *accuracy, const kiln_precision_report *report,
                               side sides[2])
{
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    kiln_status status = kiln_precision_report_summary(report, &summary);
    accuracy->layers = calloc(summary.node_count + 1, sizeof *accuracy->layers);
    if (accuracy->layers == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; status == KILN_OK && i < summary.node_count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        kiln_tensor_id ids[2];
        status = kiln_precision_report_node(report, i, &node);
        /* What was folded has its tensor from the convolution by now. */
        if (status != KILN_OK || node.reason == KILN_PRECISION_FOLDED || node.graph[0] != '\0' ||
            node.output[0] == '\0' || !is_float(sides[0].network, node.output, &ids[0]) ||
            !is_float(sides[1].network, node.output, &ids[1]) || is_listed(accuracy, node.output)) {
            continue;
        }
        for (size_t k = 0; status == KILN_OK && k < 2; k++) {
            status = is_output(sides[k].network, node.output)
                         ? KILN_OK
                         : kiln_network_mark_output(sides[k].network, ids[k]);
        }
        accuracy->layers[accuracy->layer_count++] =
            (cli_layer_error){.name = node.output, .operator_type = node.operator_type};
    }
    return status;
}

static kiln_status open_sides(cli_accuracy *accuracy, const kiln_precision_report *report,
                              side sides[2])
{
    kiln_status status = KILN_OK;
    for (size_t k = 0; status == KILN_OK && k < 2; k++) {
        status = kiln_network_from_onnx(accuracy->path, &sides[k].network);
    }
    status =
        status == KILN_OK ? kiln_network_convert(sides[1].network, &accuracy->how, NULL) : status;
    status = status == KILN_OK ? list_layers(accuracy, report, sides) : status;
    for (size_t k = 0; status == KILN_OK && k < 2; k++) {
        sides[k].outputs = calloc(accuracy->layer_count + 1, sizeof *sides[k].outputs);
        status = sides[k].outputs == NULL
                     ? KILN_ERROR_OUT_OF_MEMORY
                     : cli_accuracy_build(accuracy, sides[k].network,
                                          k == 0 ? KILN_PRECISION_DEFAULT : accuracy->how.precision,
                                          &sides[k].engine);
        status = status == KILN_OK ? kiln_context_create(sides[k].engine, NULL, &sides[k].context)
                                   : status;
    }
    return status;
}

static kiln_status add_difference(const kiln_tensor *expected, const kiln_tensor *found,
                                  cli_layer_error *layer)
{
    cli_numbers numbers[2] = {{.values = NULL}, {.values = NULL}};
    kiln_status status = cli_accuracy_read(expected, &numbers[0]);
    status = status == KILN_OK ? cli_accuracy_read(found, &numbers[1]) : status;
    if (status == KILN_OK) {
        cli_deviation_add(&layer->of, numbers[0], numbers[1]);
    }
    free(numbers[0].values);
    free(numbers[1].values);
    return status;
}

static kiln_status run_both(cli_accuracy *accuracy, side sides[2], const kiln_named_tensor *inputs,
                            size_t count)
{
    kiln_status status = KILN_OK;
    for (size_t k = 0; status == KILN_OK && k < 2; k++) {
        for (size_t i = 0; i < accuracy->layer_count; i++) {
            sides[k].outputs[i] = (kiln_named_tensor){.name = accuracy->layers[i].name};
        }
        status = cli_accuracy_run(sides[k].context, sides[k].engine, inputs, count,
                                  sides[k].outputs, accuracy->layer_count);
    }
    for (size_t i = 0; status == KILN_OK && i < accuracy->layer_count; i++) {
        status = add_difference(&sides[0].outputs[i].tensor, &sides[1].outputs[i].tensor,
                                &accuracy->layers[i]);
    }
    return status;
}

kiln_status cli_accuracy_layers(cli_accuracy *accuracy, const kiln_precision_report *report)
{
    side sides[2] = {{.network = NULL}, {.network = NULL}};
    kiln_batch_folder *folder = NULL;
    kiln_status status = open_sides(accuracy, report, sides);
    status = status == KILN_OK ? kiln_batch_folder_open(accuracy->batches, &folder) : status;
    const kiln_batch_source source = kiln_batch_folder_source(folder);
    for (size_t batch = 0; status == KILN_OK && batch < MOST_BATCHES; batch++) {
        const kiln_named_tensor *inputs = NULL;
        size_t count = 0;
        status = source.next(source.user, &inputs, &count);
        if (status != KILN_OK || count == 0) {
            break;
        }
        status = run_both(accuracy, sides, inputs, count);
    }
    kiln_batch_folder_close(folder);
    close_side(&sides[0]);
    close_side(&sides[1]);
    return status;
}
