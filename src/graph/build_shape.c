/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that move elements without computing on them. */
#include "build_layer.h"

static void check_shape(kln_layer *layer, const kiln_shape *shape)
{
    kln_layer_need(layer, shape->rank >= 0 && shape->rank <= KILN_MAX_RANK,
                   "the shape has rank %d, 0 to 8 are allowed", (int)shape->rank);
}

kiln_status kiln_network_add_reshape(kiln_network *network, const char *name, kiln_tensor_id input,
                                     const kiln_shape *shape, kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(shape);
    KLN_LAYER(layer, network, name, "Reshape", input);
    check_shape(&layer, shape);
    if (layer.status == KILN_OK) {
        kln_layer_input_ints(&layer, "shape", shape->dims, (size_t)shape->rank, false);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_reshape_to(kiln_network *network, const char *name,
                                        kiln_tensor_id input, kiln_tensor_id shape,
                                        kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Reshape", input, shape);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_transpose(kiln_network *network, const char *name,
                                       kiln_tensor_id input, const int64_t *permutation,
                                       size_t rank, kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(permutation);
    KLN_LAYER(layer, network, name, "Transpose", input);
    kln_layer_need(&layer, rank <= KILN_MAX_RANK, "the permutation has %zu numbers, 8 at most",
                   rank);
    if (layer.status == KILN_OK) {
        int64_t order[KILN_MAX_RANK];
        for (size_t i = 0; i < rank; i++) { /* the operator does not count from the end */
            order[i] = permutation[i] < 0 ? permutation[i] + (int64_t)rank : permutation[i];
        }
        kln_layer_ints(&layer, "perm", order, rank);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_flatten(kiln_network *network, const char *name, kiln_tensor_id input,
                                     int64_t axis, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Flatten", input);
    kln_layer_int(&layer, "axis", axis);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_squeeze(kiln_network *network, const char *name, kiln_tensor_id input,
                                     const int64_t *axes, size_t count, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Squeeze", input);
    if (count != 0) {
        kln_layer_input_ints(&layer, "axes", axes, count, false);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_unsqueeze(kiln_network *network, const char *name,
                                       kiln_tensor_id input, const int64_t *axes, size_t count,
                                       kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Unsqueeze", input);
    kln_layer_need(&layer, count > 0 && count <= KILN_MAX_RANK, "%zu axes are given, 1 to 8 can be",
                   count);
    kln_layer_input_ints(&layer, "axes", axes, count, false);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_concat(kiln_network *network, const char *name,
                                    const kiln_tensor_id *inputs, size_t count, int64_t axis,
                                    kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(inputs);
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "Concat");
    kln_layer_list(&layer, inputs, count);
    kln_layer_int(&layer, "axis", axis);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_split(kiln_network *network, const char *name, kiln_tensor_id input,
                                   int64_t axis, const int64_t *sizes, size_t count,
                                   kiln_tensor_id *outputs)
{
    KLN_RETURN_IF_NULL(outputs);
    KLN_LAYER(layer, network, name, "Split", input);
    kln_layer_int(&layer, "axis", axis);
    if (sizes != NULL) {
        kln_layer_input_ints(&layer, "sizes", sizes, count, false);
    } else {
        kln_layer_int(&layer, "num_outputs", (int64_t)count);
    }
    return kln_layer_finish_all(&layer, outputs, count);
}

kiln_status kiln_network_add_slice(kiln_network *network, const char *name, kiln_tensor_id input,
                                   const int64_t *starts, const int64_t *ends, const int64_t *axes,
                                   const int64_t *steps, size_t count, kiln_tensor_id *output)
{
    static const int64_t first[KILN_MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
    KLN_LAYER(layer, network, name, "Slice", input);
    kln_layer_need(&layer, count > 0 && count <= KILN_MAX_RANK, "%zu axes are given, 1 to 8 can be",
                   count);
    kln_layer_input_ints(&layer, "starts", starts, count, false);
    kln_layer_input_ints(&layer, "ends", ends, count, false);
    const int64_t *along = axes != NULL ? axes : first;
    kln_layer_input_ints(&layer, "axes", along, count, false);
    if (steps != NULL) {
        kln_layer_input_ints(&layer, "steps", steps, count, false);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_pad(kiln_network *network, const char *name, kiln_tensor_id input,
                                 const int64_t *before, const int64_t *after, size_t rank,
                                 kiln_pad_mode mode, float value, kiln_tensor_id *output)
{
    static const char *const names[] = {"constant", "reflect", "edge", "wrap"};
    int64_t pads[2 * KILN_MAX_RANK] = {0};
    KLN_RETURN_IF_NULL(before, after);
    KLN_LAYER(layer, network, name, "Pad", input);
    kln_layer_need(&layer, rank >= 1 && rank <= KILN_MAX_RANK,
                   "the rank is %zu; 1 to 8 is possible", rank);
    if (layer.status != KILN_OK) {
        return kln_layer_finish_one(&layer, output);
    }
    for (size_t i = 0; i < rank; i++) {
        pads[i] = before[i];
        pads[rank + i] = after[i];
    }
    if (mode == KILN_PAD_WRAP && kln_network_opset_of(network) < 19) {
        kln_layer_fail(&layer, KILN_ERROR_UNSUPPORTED,
                       "KILN_PAD_WRAP needs operator set 19, the network has %lld",
                       (long long)kln_network_opset_of(network));
    }
    kln_layer_input_ints(&layer, "pads", pads, 2 * rank, false);
    const bool is_zero = value >= 0.0F && value <= 0.0F; /* the default */
    if (mode == KILN_PAD_CONSTANT && !is_zero) {
        const kiln_dtype type = kln_layer_tensor(&layer, input).dtype;
        kln_layer_input(&layer, kln_layer_scalar(&layer, "value", type, value));
    }
    kln_layer_choice(&layer, "mode", "mode", KLN_NAMES(names), (size_t)mode, "kiln_pad_mode");
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_tile(kiln_network *network, const char *name, kiln_tensor_id input,
                                  const int64_t *repeats, size_t rank, kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(repeats);
    KLN_LAYER(layer, network, name, "Tile", input);
    kln_layer_input_ints(&layer, "repeats", repeats, rank, false);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_expand(kiln_network *network, const char *name, kiln_tensor_id input,
                                    const kiln_shape *shape, kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(shape);
    KLN_LAYER(layer, network, name, "Expand", input);
    check_shape(&layer, shape);
    if (layer.status == KILN_OK) {
        kln_layer_input_ints(&layer, "shape", shape->dims, (size_t)shape->rank, false);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_shape(kiln_network *network, const char *name, kiln_tensor_id input,
                                   kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Shape", input);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_range(kiln_network *network, const char *name, kiln_tensor_id start,
                                   kiln_tensor_id limit, kiln_tensor_id step,
                                   kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Range", start, limit, step);
    return kln_layer_finish_one(&layer, output);
}
