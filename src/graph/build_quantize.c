/* SPDX-License-Identifier: Apache-2.0 */
#include "build_layer.h"

static void put_granularity(kln_layer *layer, kiln_tensor_id scale, int64_t axis,
                            int64_t block_size)
{
    const kln_known s = kln_layer_tensor(layer, scale);
    kln_layer_need(layer, block_size >= 0, "block_size is %lld; 0 (no blocks) or more is needed",
                   (long long)block_size);
    if (block_size > 0) {
        kln_layer_int(layer, "block_size", block_size);
    }
    if (block_size > 0 || s.rank != 0) {
        kln_layer_int(layer, "axis", axis);
    }
}

static kiln_dtype type_of_zero(kln_layer *layer, kiln_tensor_id zero_point)
{
    return zero_point != KILN_NO_TENSOR ? kln_layer_tensor(layer, zero_point).dtype
                                        : KILN_DTYPE_UNDEFINED;
}

kiln_status kiln_network_add_quantize(kiln_network *network, const char *name, kiln_tensor_id input,
                                      kiln_tensor_id scale, kiln_tensor_id zero_point,
                                      kiln_dtype dtype, int64_t axis, int64_t block_size,
                                      kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "QuantizeLinear");
    const kiln_dtype zero = type_of_zero(&layer, zero_point);
    kln_layer_inputs(&layer, input, scale);
    kln_layer_optional(&layer, zero_point);
    put_granularity(&layer, scale, axis, block_size);
    if (zero_point == KILN_NO_TENSOR && dtype != KILN_DTYPE_UNDEFINED &&
        dtype != KILN_DTYPE_UINT8) {
        kln_layer_dtype(&layer, "output_dtype", dtype);
    }
    kln_layer_need(&layer,
                   zero == KILN_DTYPE_UNDEFINED || dtype == KILN_DTYPE_UNDEFINED || zero == dtype,
                   "the zero point is of type %s, %s is asked for", kiln_dtype_name(zero),
                   kiln_dtype_name(dtype));
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_dequantize(kiln_network *network, const char *name,
                                        kiln_tensor_id input, kiln_tensor_id scale,
                                        kiln_tensor_id zero_point, int64_t axis, int64_t block_size,
                                        kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "DequantizeLinear", input, scale);
    kln_layer_optional(&layer, zero_point);
    put_granularity(&layer, scale, axis, block_size);
    return kln_layer_finish_one(&layer, output);
}
