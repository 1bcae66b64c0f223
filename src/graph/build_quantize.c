/* SPDX-License-Identifier: Apache-2.0 */
#include "build_layer.h"

/* 0: nothing is quantized to it. */
static int64_t opset_of_dtype(kiln_dtype dtype)
{
    switch (dtype) {
        case KILN_DTYPE_INT8:
        case KILN_DTYPE_UINT8: return 10;
        case KILN_DTYPE_FLOAT8E4M3:
        case KILN_DTYPE_FLOAT8E5M2: return 19;
        case KILN_DTYPE_INT16:
        case KILN_DTYPE_UINT16:
        case KILN_DTYPE_INT4:
        case KILN_DTYPE_UINT4: return 21;
        case KILN_DTYPE_FLOAT4E2M1: return 23;
        default: return 0;
    }
}

static void put_granularity(kln_layer *layer, kiln_tensor_id scale, int64_t axis,
                            int64_t block_size)
{
    const kln_known s = kln_layer_tensor(layer, scale);
    kln_layer_need(layer, block_size >= 0, "block_size is %lld; 0 (no blocks) or more is needed",
                   (long long)block_size);
    if (block_size > 0) {
        kln_layer_need_opset(layer, 21, "block quantization");
        kln_layer_int(layer, "block_size", block_size);
    } else if (s.rank > 1) {
        kln_layer_fail(layer, KILN_ERROR_RANK,
                       "\"%s\" has rank %d; a scale is a scalar, or a vector along the axis",
                       s.name, (int)s.rank);
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
        kln_layer_need_opset(&layer, 21, "a type without a zero point");
        kln_layer_int(&layer, "output_dtype", kln_onnx_wire_dtype(dtype));
    }
    kln_layer_need(&layer,
                   zero == KILN_DTYPE_UNDEFINED || dtype == KILN_DTYPE_UNDEFINED || zero == dtype,
                   "the zero point is of type %s, %s is asked for", kiln_dtype_name(zero),
                   kiln_dtype_name(dtype));
    const kiln_dtype type = zero != KILN_DTYPE_UNDEFINED    ? zero
                            : dtype != KILN_DTYPE_UNDEFINED ? dtype
                                                            : KILN_DTYPE_UINT8;
    if (layer.status == KILN_OK && opset_of_dtype(type) == 0) {
        kln_layer_fail(&layer, KILN_ERROR_DTYPE, "%s is no type to quantize to",
                       kiln_dtype_name(type));
    }
    kln_layer_need_opset(&layer, opset_of_dtype(type), kiln_dtype_name(type));
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
