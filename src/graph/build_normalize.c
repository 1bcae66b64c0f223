/* SPDX-License-Identifier: Apache-2.0 */
#include "build_layer.h"

static void put_epsilon(kln_layer *layer, float epsilon)
{
    kln_layer_need(layer, epsilon > 0.0F, "epsilon is %g, above 0 is needed", (double)epsilon);
    kln_layer_float(layer, "epsilon", epsilon);
}

kiln_status kiln_network_add_batch_normalization(kiln_network *network, const char *name,
                                                 kiln_tensor_id input, kiln_tensor_id scale,
                                                 kiln_tensor_id bias, kiln_tensor_id mean,
                                                 kiln_tensor_id variance, float epsilon,
                                                 kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "BatchNormalization", input, scale, bias, mean, variance);
    put_epsilon(&layer, epsilon);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_layer_normalization(kiln_network *network, const char *name,
                                                 kiln_tensor_id input, kiln_tensor_id scale,
                                                 kiln_tensor_id bias, int64_t axis, float epsilon,
                                                 kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "LayerNormalization", input, scale);
    kln_layer_optional(&layer, bias);
    kln_layer_int(&layer, "axis", axis);
    put_epsilon(&layer, epsilon);
    return kln_layer_finish_one(&layer, output);
}

/* Before operator set 21 its scale and bias had one element for each group. Here the groups are
 * normalized as channels, and scale and bias follow. */
static void compose_group(kln_layer *layer, kiln_tensor_id input, kiln_tensor_id scale,
                          kiln_tensor_id bias, int64_t groups, float epsilon)
{
    const kln_known t = kln_layer_ranked(layer, input, 2, KILN_MAX_RANK);
    int64_t grouped[] = {0, groups, -1};
    const int64_t per_group[] = {groups};
    int64_t aligned[KILN_MAX_RANK] = {1, -1, 1, 1, 1, 1, 1, 1};
    if (layer->status != KILN_OK || layer->is_refused) {
        return;
    }
    float ones[256];
    const float zeros[256] = {0.0F};
    if (groups < 1 || groups > 256) {
        kln_layer_fail(layer, KILN_ERROR_LIMIT,
                       "%lld groups are asked for; before operator set 21 it can have 1 to 256",
                       (long long)groups);
        return;
    }
    for (size_t i = 0; i < (size_t)groups; i++) {
        ones[i] = 1.0F;
    }
    const kiln_tensor_id shape = kln_layer_simple(layer, "shape", "Shape", input, KILN_NO_TENSOR);
    kln_layer_node(layer, "Reshape", input);
    kln_layer_input_ints(layer, "grouped", grouped, 3, false);
    const kiln_tensor_id flat = kln_layer_emit(layer, "groups");
    const size_t bytes = (size_t)groups * sizeof(float);
    const kiln_tensor_id one =
        kln_layer_constant(layer, "one", KILN_DTYPE_FLOAT32, per_group, 1, ones, bytes);
    const kiln_tensor_id zero =
        kln_layer_constant(layer, "zero", KILN_DTYPE_FLOAT32, per_group, 1, zeros, bytes);
    kln_layer_node(layer, "InstanceNormalization", flat, one, zero);
    put_epsilon(layer, epsilon);
    const kiln_tensor_id normal = kln_layer_emit(layer, "normal");
    const kiln_tensor_id back = kln_layer_simple(layer, "back", "Reshape", normal, shape);
    const int64_t dims[] = {t.rank};
    const kiln_tensor_id where = kln_layer_constant(layer, "aligned", KILN_DTYPE_INT64, dims, 1,
                                                    aligned, (size_t)t.rank * sizeof *aligned);
    const kiln_tensor_id factor = kln_layer_simple(layer, "scale", "Reshape", scale, where);
    const kiln_tensor_id offset = kln_layer_simple(layer, "bias", "Reshape", bias, where);
    const kiln_tensor_id scaled = kln_layer_simple(layer, "scaled", "Mul", back, factor);
    kln_layer_node(layer, "Add", scaled, offset);
}

kiln_status kiln_network_add_group_normalization(kiln_network *network, const char *name,
                                                 kiln_tensor_id input, kiln_tensor_id scale,
                                                 kiln_tensor_id bias, int64_t groups, float epsilon,
                                                 kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "GroupNormalization");
    if (layer.status == KILN_OK && kln_network_opset_of(network) < 21) {
        compose_group(&layer, input, scale, bias, groups, epsilon);
    } else {
        kln_layer_inputs(&layer, input, scale, bias);
        kln_layer_int(&layer, "num_groups", groups);
        put_epsilon(&layer, epsilon);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_instance_normalization(kiln_network *network, const char *name,
                                                    kiln_tensor_id input, kiln_tensor_id scale,
                                                    kiln_tensor_id bias, float epsilon,
                                                    kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "InstanceNormalization", input, scale, bias);
    put_epsilon(&layer, epsilon);
    return kln_layer_finish_one(&layer, output);
}

/* `input` cast to another type, or `input` itself if it has that type or an unknown one. */
static kiln_tensor_id to_type(kln_layer *layer, const char *suffix, kiln_tensor_id input,
                              kiln_dtype to)
{
    const kiln_dtype from = kln_layer_tensor(layer, input).dtype;
    if (from == to || from == KILN_DTYPE_UNDEFINED || to == KILN_DTYPE_UNDEFINED) {
        return input;
    }
    kln_layer_node(layer, "Cast", input);
    kln_layer_dtype(layer, "to", to);
    return kln_layer_emit(layer, suffix);
}

/* Like the operator: normalizes in single precision, scales in the input's own type. */
static void compose_rms(kln_layer *layer, kiln_tensor_id input, kiln_tensor_id scale, float epsilon)
{
    const int64_t last = -1;
    kln_layer_need(layer, epsilon > 0.0F, "epsilon is %g, above 0 is needed", (double)epsilon);
    const kiln_tensor_id x = to_type(layer, "single", input, KILN_DTYPE_FLOAT32);
    const kiln_tensor_id square = kln_layer_simple(layer, "square", "Mul", x, x);
    kln_layer_node(layer, "ReduceMean", square);
    kln_layer_input_ints(layer, "axes", &last, 1, false);
    kln_layer_int(layer, "keepdims", 1);
    kiln_tensor_id mean = kln_layer_emit(layer, "mean");
    kln_layer_node(layer, "Add", mean);
    kln_layer_input_floats(layer, "epsilon", &epsilon, 1, true);
    mean = kln_layer_emit(layer, "above");
    mean = kln_layer_simple(layer, "root", "Sqrt", mean, KILN_NO_TENSOR);
    const kiln_tensor_id normal = kln_layer_simple(layer, "normal", "Div", x, mean);
    const kiln_tensor_id typed =
        to_type(layer, "typed", normal, kln_layer_tensor(layer, input).dtype);
    kln_layer_node(layer, "Mul", typed, scale);
}

kiln_status kiln_network_add_rms_normalization(kiln_network *network, const char *name,
                                               kiln_tensor_id input, kiln_tensor_id scale,
                                               float epsilon, kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "RMSNormalization");
    if (layer.status == KILN_OK && kln_network_opset_of(network) < 23) {
        compose_rms(&layer, input, scale, epsilon);
    } else {
        kln_layer_inputs(&layer, input, scale);
        put_epsilon(&layer, epsilon);
    }
    return kln_layer_finish_one(&layer, output);
}
