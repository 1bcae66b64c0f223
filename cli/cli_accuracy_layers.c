/* SPDX-License-Identifier: Apache-2.0 */
/* The signal-to-noise ratio of every tensor that a network and its conversion have in common. */
#include <stdlib.h>
#include <string.h>

#include "cli_accuracy.h"

/* This many batches are enough: all tensors of a batch are held in memory. */
#define MOST_BATCHES 4

typedef struct side {
    kiln_network *network;
    kiln_engine *engine;
    kiln_context *context;
    kiln_named_tensor *outputs;
} side;

static void close_sides(side (*sides)[2])
{
    for (size_t k = 0; k < 2; k++) {
        side *of = &(*sides)[k];
        kiln_context_destroy(of->context);
        kiln_engine_release(of->engine);
        kiln_network_destroy(of->network);
        free(of->outputs);
    }
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

/* A node that smooths a tensor is reported under the tensor's name too. */
static bool is_listed(const cli_accuracy *accuracy, const char *name)
{
    for (size_t i = 0; i < accuracy->layer_count; i++) {
        if (strcmp(accuracy->layers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Lists the tensors of the main graph that both networks have, in the order of the report, and
 * makes them outputs of both. */
static kiln_status list_layers(cli_accuracy *accuracy, const kiln_precision_report *report,
                               side sides[2])
{
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    KLN_RETURN_IF_ERROR(kiln_precision_report_summary(report, &summary));
    accuracy->layers = calloc(summary.node_count + 1, sizeof *accuracy->layers);
    if (accuracy->layers == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < summary.node_count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        kiln_tensor_id ids[2];
        KLN_RETURN_IF_ERROR(kiln_precision_report_node(report, i, &node));
        /* The tensor of a folded node is now produced by the convolution. */
        if (node.reason == KILN_PRECISION_FOLDED || node.graph[0] != '\0' ||
            node.output[0] == '\0' || !is_float(sides[0].network, node.output, &ids[0]) ||
            !is_float(sides[1].network, node.output, &ids[1]) || is_listed(accuracy, node.output)) {
            continue;
        }
        for (size_t k = 0; k < 2; k++) {
            if (!is_output(sides[k].network, node.output)) {
                KLN_RETURN_IF_ERROR(kiln_network_mark_output(sides[k].network, ids[k]));
            }
        }
        accuracy->layers[accuracy->layer_count++] =
            (cli_layer_error){.name = node.output, .operator_type = node.operator_type};
    }
    return KILN_OK;
}

static kiln_status open_sides(cli_accuracy *accuracy, const kiln_precision_report *report,
                              side sides[2])
{
    for (size_t k = 0; k < 2; k++) {
        KLN_RETURN_IF_ERROR(kiln_network_from_onnx(accuracy->path, &sides[k].network));
    }
    KLN_RETURN_IF_ERROR(kiln_network_convert(sides[1].network, &accuracy->how, NULL));
    KLN_RETURN_IF_ERROR(list_layers(accuracy, report, sides));
    for (size_t k = 0; k < 2; k++) {
        sides[k].outputs = calloc(accuracy->layer_count + 1, sizeof *sides[k].outputs);
        if (sides[k].outputs == NULL) {
            return KILN_ERROR_OUT_OF_MEMORY;
        }
        KLN_RETURN_IF_ERROR(cli_accuracy_build(
            accuracy, sides[k].network, k == 0 ? KILN_PRECISION_DEFAULT : accuracy->how.precision,
            &sides[k].engine));
        KLN_RETURN_IF_ERROR(kiln_context_create(sides[k].engine, NULL, &sides[k].context));
    }
    return KILN_OK;
}

static kiln_status add_difference(const kiln_tensor *expected, const kiln_tensor *found,
                                  cli_layer_error *layer)
{
    SCOPED(cli_numbers_finish) cli_numbers wanted = {.values = NULL};
    SCOPED(cli_numbers_finish) cli_numbers numbers = {.values = NULL};
    KLN_RETURN_IF_ERROR(cli_accuracy_read(expected, &wanted));
    KLN_RETURN_IF_ERROR(cli_accuracy_read(found, &numbers));
    cli_deviation_add(&layer->of, wanted, numbers);
    return KILN_OK;
}

static kiln_status run_both(cli_accuracy *accuracy, side sides[2], const kiln_named_tensor *inputs,
                            size_t count)
{
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < accuracy->layer_count; i++) {
            sides[k].outputs[i] = (kiln_named_tensor){.name = accuracy->layers[i].name};
        }
        KLN_RETURN_IF_ERROR(cli_accuracy_run(sides[k].context, sides[k].engine, inputs, count,
                                             sides[k].outputs, accuracy->layer_count));
    }
    for (size_t i = 0; i < accuracy->layer_count; i++) {
        KLN_RETURN_IF_ERROR(add_difference(&sides[0].outputs[i].tensor, &sides[1].outputs[i].tensor,
                                           &accuracy->layers[i]));
    }
    return KILN_OK;
}

kiln_status cli_accuracy_layers(cli_accuracy *accuracy, const kiln_precision_report *report)
{
    SCOPED(close_sides) side sides[2] = {{.network = NULL}, {.network = NULL}};
    CLI_OWNED(batch_folder) folder = NULL;
    KLN_RETURN_IF_ERROR(open_sides(accuracy, report, sides));
    KLN_RETURN_IF_ERROR(kiln_batch_folder_open(accuracy->batches, &folder));
    const kiln_batch_source source = kiln_batch_folder_source(folder);
    for (size_t batch = 0; batch < MOST_BATCHES; batch++) {
        const kiln_named_tensor *inputs = NULL;
        size_t count = 0;
        KLN_RETURN_IF_ERROR(source.next(source.user, &inputs, &count));
        if (count == 0) {
            break;
        }
        KLN_RETURN_IF_ERROR(run_both(accuracy, sides, inputs, count));
    }
    return KILN_OK;
}
