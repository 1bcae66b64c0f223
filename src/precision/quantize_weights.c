/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in eight bits with a scale per output channel, or in four bits with one per block. */
#include <math.h>

#include "quantize_blocks.h"

static quantize_view view_of(const kln_onnx_tensor *tensor, int64_t axis)
{
    quantize_view view = {.data = tensor->data.data, .outer = 1, .inner = 1};
    for (size_t i = 0; i < tensor->rank; i++) {
        if ((int64_t)i < axis) {
            view.outer *= (size_t)tensor->dims[i];
        } else if ((int64_t)i > axis) {
            view.inner *= (size_t)tensor->dims[i];
        } else {
            view.size = (size_t)tensor->dims[i];
        }
    }
    return view;
}

static float clipped(const quantize_format *format, float number, float scale)
{
    const float most = (float)format->weight;
    return scale > 0 ? fmaxf(-most, fminf(most, number / scale)) : 0;
}

float quantize_round(const quantize_format *format, float number, float scale)
{
    const float real = clipped(format, number, scale);
    if (format->storage == KILN_DTYPE_FLOAT16) {
        return kln_float_from_half(kln_half_from_float(real));
    }
    if (format->storage == KILN_DTYPE_BFLOAT16) {
        return kln_float_from_bfloat16(kln_bfloat16_from_float(real));
    }
    return format->storage == KILN_DTYPE_FLOAT8E4M3
               ? kln_float_from_e4m3(kln_e4m3_from_float(real, true)) * scale
               : rintf(real) * scale;
}

/* For a channel of zeros any scale but 0 will do. */
float quantize_channel_scale(const quantize_format *format, float largest)
{
    const bool is_half =
        format->storage == KILN_DTYPE_FLOAT16 || format->storage == KILN_DTYPE_BFLOAT16;
    return largest > 0 && !is_half ? largest / (float)format->weight : 1;
}

static void put(const quantize_pass *pass, unsigned char *to, size_t index, float number,
                float scale)
{
    const float real = clipped(pass->format, number, scale);
    if (pass->format->storage == KILN_DTYPE_FLOAT8E4M3) {
        to[index] = kln_e4m3_from_float(real, true);
        return;
    }
    to[index] = (unsigned char)(signed char)lrintf(real);
}

/* One scale for each index along the axis. */
static void fill_channels(const quantize_pass *pass, const quantize_view *view, float *scales,
                          unsigned char *to)
{
    for (size_t c = 0; c < view->size; c++) {
        float most = 0;
        for (size_t o = 0; o < view->outer; o++) {
            for (size_t i = 0; i < view->inner; i++) {
                most = fmaxf(most, fabsf(quantize_number_at(view, o, c, i)));
            }
        }
        scales[c] = quantize_channel_scale(pass->format, most);
        for (size_t o = 0; o < view->outer; o++) {
            for (size_t i = 0; i < view->inner; i++) {
                const size_t index = (o * view->size + c) * view->inner + i;
                put(pass, to, index, quantize_number_at(view, o, c, i), scales[c]);
            }
        }
    }
}

static unsigned char *bytes_of(const kln_onnx_tensor *tensor)
{
    unsigned char *bytes = (unsigned char *)(uintptr_t)tensor->data.data;
    memset(bytes, 0, tensor->data.size);
    return bytes;
}

kiln_status quantize_weights(quantize_pass *pass, const quantize_value *value,
                             const quantize_node *node, const kln_products *products,
                             const char **name)
{
    const kln_onnx_tensor *from = value->weights;
    const quantize_format *format = pass->format;
    const bool blocked = !format->activations;
    const int64_t axis = blocked ? node->depth : node->axis;
    const quantize_view view = view_of(from, axis);
    const size_t block = blocked ? (size_t)pass->options->block_size : 0;
    int64_t dims[KILN_MAX_RANK];
    size_t rank = 1;
    dims[0] = (int64_t)view.size;
    if (blocked) {
        rank = from->rank;
        memcpy(dims, from->dims, rank * sizeof *dims);
        dims[axis] = (int64_t)((view.size + block - 1) / block);
    }
    const bool has_zeros = format->storage == KILN_DTYPE_UINT4;
    const kln_onnx_tensor *quantized = quantize_add_tensor(pass, value->name, format->name,
                                                           format->storage, from->rank, from->dims);
    const kln_onnx_tensor *scales =
        quantize_add_tensor(pass, value->name, "scale", KILN_DTYPE_FLOAT32, rank, dims);
    const kln_onnx_tensor *zeros = has_zeros ? quantize_add_tensor(pass, value->name, "zero_point",
                                                                   format->storage, rank, dims)
                                             : NULL;
    *name = kln_arena_printf(pass->arena, "%s/dequantized", value->name);
    KLN_FAIL_IF(
        quantized == NULL || scales == NULL || (has_zeros && zeros == NULL) || *name == NULL,
        kln_fail_memory(from->data.size, "quantized weights"));
    const quantize_blocks of = {format,
                                products,
                                view,
                                block,
                                (float *)(uintptr_t)scales->data.data,
                                has_zeros ? bytes_of(zeros) : NULL,
                                bytes_of(quantized)};
    if (blocked) {
        KLN_RETURN_IF_ERROR(quantize_fill_blocks(&of));
    } else {
        fill_channels(pass, &view, of.scales, of.to);
    }
    const char *const inputs[] = {quantized->name, scales->name, has_zeros ? zeros->name : NULL};
    return quantize_add_node(pass, "DequantizeLinear", inputs, *name, axis, (int64_t)block);
}
