/* SPDX-License-Identifier: Apache-2.0 */
#include "build_layer.h"

static void put_options(kln_layer *layer, kiln_recurrent kind,
                        const kiln_recurrent_options *options)
{
    static const char *const directions[] = {"forward", "reverse", "bidirectional"};
    kln_layer_need(layer, options->hidden_size > 0, "hidden_size is %lld; 1 or more is needed",
                   (long long)options->hidden_size);
    kln_layer_need(layer, kind == KILN_RECURRENT_GRU || !options->reset_after,
                   "reset_after is for a GRU");
    kln_layer_need(layer, kind == KILN_RECURRENT_LSTM || options->initial_cell == KILN_NO_TENSOR,
                   "initial_cell is for an LSTM");
    if (layer->status != KILN_OK) {
        return;
    }
    kln_layer_optional(layer, options->bias);
    kln_layer_optional(layer, options->lengths);
    kln_layer_optional(layer, options->initial_hidden);
    if (kind == KILN_RECURRENT_LSTM) {
        kln_layer_optional(layer, options->initial_cell);
    }
    kln_layer_choice(layer, "direction", "direction", KLN_NAMES(directions),
                     (size_t)options->direction, "kiln_direction");
    kln_layer_int(layer, "hidden_size", options->hidden_size);
    if (options->reset_after) {
        kln_layer_int(layer, "linear_before_reset", 1);
    }
}

kiln_status kiln_network_add_recurrent(kiln_network *network, const char *name, kiln_recurrent kind,
                                       kiln_tensor_id input, kiln_tensor_id weights,
                                       kiln_tensor_id recurrence,
                                       const kiln_recurrent_options *options,
                                       kiln_tensor_id *output, kiln_tensor_id *last_hidden,
                                       kiln_tensor_id *last_cell)
{
    static const char *const names[] = {"RNN", "GRU", "LSTM"};
    KLN_RETURN_IF_NULL(options, output);
    kln_layer layer;
    kiln_recurrent_options read = KILN_RECURRENT_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_recurrent_options", options, &read, sizeof read));
    kln_layer_begin_kind(&layer, network, __func__, name, KLN_NAMES(names), (size_t)kind,
                         "kiln_recurrent");
    kln_layer_need(&layer, kind == KILN_RECURRENT_LSTM || last_cell == NULL,
                   "only an LSTM has a cell");
    kln_layer_inputs(&layer, input, weights, recurrence);
    put_options(&layer, kind, &read);
    kiln_tensor_id *const outputs[] = {output, last_hidden, last_cell};
    return kln_layer_finish(&layer, outputs, 3);
}
