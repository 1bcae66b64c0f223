/* SPDX-License-Identifier: Apache-2.0 */
/* The observed bounds, mean and standard deviation of each channel of a tensor. */
#include <math.h>

#include "kln_precision.h"

/* Few enough terms that a float sum loses nothing that matters, and enough to be worth a loop. */
#define PIECE 256

/* The compiler makes a version for each instruction set, and the loader picks the widest. */
#define WIDE KLN_CLONES("avx512f", "avx2", "default")

/* Sums are kept in separate lanes so that the compiler may vectorize: it may not reorder float
 * additions itself. */
#define LANES 16

typedef struct sums {
    float least[LANES], greatest[LANES], sum[LANES], square[LANES];
} sums;

/* Sums are of differences from `from`, the channel's first value: plain squares would lose the
 * deviation of values far from 0. */
WIDE static void add_lanes(const float *values, size_t count, float from, sums *to)
{
    for (size_t i = 0; i + LANES <= count; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            const float value = values[i + k];
            const float apart = value - from;
            to->least[k] = value < to->least[k] ? value : to->least[k];
            to->greatest[k] = value > to->greatest[k] ? value : to->greatest[k];
            to->sum[k] += apart;
            to->square[k] += apart * apart;
        }
    }
}

static void add_row(kln_channel_observer *channel, const float *values, size_t count)
{
    if (channel->count == 0 && count > 0) {
        channel->from = values[0];
        channel->least = channel->greatest = values[0];
    }
    for (size_t begin = 0; begin < count; begin += PIECE) {
        const size_t size = count - begin < PIECE ? count - begin : PIECE;
        const size_t whole = size - size % LANES;
        sums s = {.sum = {0}};
        for (size_t k = 0; k < LANES; k++) {
            s.least[k] = channel->least;
            s.greatest[k] = channel->greatest;
        }
        add_lanes(values + begin, whole, channel->from, &s);
        for (size_t i = whole; i < size; i++) {
            const float value = values[begin + i];
            const float apart = value - channel->from;
            s.least[0] = fminf(s.least[0], value);
            s.greatest[0] = fmaxf(s.greatest[0], value);
            s.sum[0] += apart;
            s.square[0] += apart * apart;
        }
        for (size_t k = 0; k < LANES; k++) {
            channel->least = fminf(channel->least, s.least[k]);
            channel->greatest = fmaxf(channel->greatest, s.greatest[k]);
            channel->sum += (double)s.sum[k];
            channel->square += (double)s.square[k];
        }
    }
    channel->count += count;
}

/* Channels last: a row holds one value of each channel. */
WIDE static void add_beside(kln_channel_observer *channels, size_t count, const float *values)
{
    for (size_t c = 0; c < count; c++) {
        kln_channel_observer *channel = &channels[c];
        const float value = values[c];
        const double apart = (double)value - (double)channel->from;
        channel->least = value < channel->least ? value : channel->least;
        channel->greatest = value > channel->greatest ? value : channel->greatest;
        channel->sum += apart;
        channel->square += apart * apart;
        channel->count++;
    }
}

void kln_channels_add(kln_channel_observer *channels, size_t count, bool is_last,
                      const kiln_tensor *tensor)
{
    const kiln_shape *shape = &tensor->desc.shape;
    const int32_t axis = is_last ? shape->rank - 1 : 1;
    size_t outer = 1;
    size_t inner = 1;
    if (tensor->desc.dtype != KILN_DTYPE_FLOAT32 || shape->rank <= axis || axis < 0 ||
        shape->dims[axis] != (int64_t)count) {
        return;
    }
    for (int32_t i = 0; i < shape->rank; i++) {
        outer *= i < axis ? (size_t)shape->dims[i] : 1;
        inner *= i > axis ? (size_t)shape->dims[i] : 1;
    }
    const float *values = tensor->data;
    for (size_t o = 0; o < outer && inner != 0; o++, values += count * inner) {
        if (inner == 1 && channels[0].count != 0) {
            add_beside(channels, count, values);
            continue;
        }
        for (size_t c = 0; c < count; c++) {
            add_row(&channels[c], values + c * inner, inner);
        }
    }
}

bool kln_channels_read(const kln_channel_observer *channels, size_t count, kiln_channel *to)
{
    for (size_t c = 0; c < count; c++) {
        const kln_channel_observer *from = &channels[c];
        const double numbers = (double)from->count;
        const double mean = from->count != 0 ? from->sum / numbers : 0;
        const double square = from->count != 0 ? from->square / numbers - mean * mean : 0;
        to[c] = (kiln_channel){(double)from->least, (double)from->greatest,
                               (double)from->from + mean, sqrt(fmax(square, 0))};
        if (from->count == 0 || !isfinite(to[c].least) || !isfinite(to[c].greatest) ||
            !isfinite(to[c].mean) || !isfinite(to[c].deviation)) {
            return false;
        }
    }
    return true;
}

bool kln_precision_summed(const kln_onnx_node *node, const kln_graph_inference *known,
                          kln_summed *summed)
{
    const bool is_conv = kln_onnx_node_is(node, "Conv");
    const bool is_across = kln_onnx_node_is(node, "ConvTranspose");
    const bool is_gemm = kln_onnx_node_is(node, "Gemm") && kln_onnx_int(node, "transA", 0) == 0;
    if (node->input_count < 2 ||
        (!is_conv && !is_across && !is_gemm && !kln_onnx_node_is(node, "MatMul"))) {
        return false;
    }
    const kln_value *weights = kln_inference_find(known, node->inputs[1]);
    if (weights == NULL || !weights->is_constant || !weights->has_shape || weights->rank < 2) {
        return false;
    }
    const size_t axis = is_conv     ? 1
                        : is_across ? 0
                        : is_gemm   ? (size_t)(kln_onnx_int(node, "transB", 0) != 0)
                                    : weights->rank - 2;
    if (weights->dims[axis].kind != KLN_DIM_NUMBER || weights->dims[axis].of.number <= 0) {
        return false;
    }
    const int64_t groups = is_conv ? kln_onnx_int(node, "group", 1) : 1;
    *summed = (kln_summed){.name = node->inputs[0],
                           .count = (size_t)(weights->dims[axis].of.number * groups),
                           .is_last = !is_conv && !is_across};
    return groups >= 1;
}
