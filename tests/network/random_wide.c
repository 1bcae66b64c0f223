/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "random_parts.h"

static bool quantized(const random_tensor *t)
{
    return t->dtype == KILN_DTYPE_UINT8;
}

bool random_convolution(random_network *r, const random_tensor *t)
{
    kiln_convolution_options options = KILN_CONVOLUTION_OPTIONS_INIT;
    kiln_tensor_id y = 0;
    if (t->shape.dims[1] > 8) {
        return false;
    }
    const int64_t channels = t->shape.dims[1];
    const bool is_transposed = random_upto(r, 4) == 0;
    options.groups = random_upto(r, 2) == 0 ? 1 : channels;
    options.padding_mode = (kiln_padding_mode)random_upto(r, 4);
    const int64_t inside = is_transposed ? channels : channels / options.groups;
    const int64_t outside =
        is_transposed ? 1 + random_upto(r, 2) : options.groups * (1 + random_upto(r, 2));
    kiln_shape shape = {t->shape.rank, {0}};
    shape.dims[0] = is_transposed ? inside : outside;
    shape.dims[1] = is_transposed ? outside : inside;
    double taps = (double)channels;
    for (int32_t i = 2; i < t->shape.rank; i++) {
        const int64_t size = t->shape.dims[i];
        shape.dims[i] = 1 + random_upto(r, size < 3 ? size : 3);
        taps *= (double)shape.dims[i];
        options.strides[i - 2] = 1 + random_upto(r, 2);
        options.dilations[i - 2] =
            shape.dims[i] * 2 <= size && !is_transposed ? 1 + random_upto(r, 2) : 1;
        if (options.padding_mode == KILN_PADDING_EXPLICIT && !is_transposed) {
            options.before[i - 2] = random_upto(r, 2);
            options.after[i - 2] = random_upto(r, 2);
        }
        if (options.padding_mode == KILN_PADDING_SAME_UPPER ||
            options.padding_mode == KILN_PADDING_SAME_LOWER) {
            options.dilations[i - 2] = 1;
            options.strides[i - 2] = is_transposed ? 1 : options.strides[i - 2];
        }
    }
    const kiln_tensor_id w = random_weights(r, shape);
    const kiln_tensor_id b =
        random_upto(r, 2) == 0
            ? KILN_NO_TENSOR
            : random_weights(r, KILN_SHAPE(is_transposed ? outside * options.groups : outside));
    if (is_transposed) {
        DO(kiln_network_add_deconvolution(r->network, NULL, t->id, w, b, &options, &y));
    } else {
        DO(kiln_network_add_convolution(r->network, NULL, t->id, w, b, &options, &y));
    }
    const double most = taps * t->most + 1;
    random_add(r, y, most, taps * t->error + 0x1p-23 * (taps + 2) * most);
    return true;
}

bool random_pooling(random_network *r, const random_tensor *t)
{
    kiln_pooling_options options = KILN_POOLING_OPTIONS_INIT;
    kiln_tensor_id y = 0;
    const kiln_pooling kind = (kiln_pooling)random_upto(r, 3);
    if (kind != KILN_POOLING_LP &&
        random_upto(r, 3) == 0) { /* which needs a rank that the builder knows */
        DO(kiln_network_add_global_pooling(r->network, NULL, kind, t->id, &y));
    } else {
        options.spatial = t->shape.rank - 2;
        options.include_padding = random_upto(r, 2) == 0;
        options.round_up = random_upto(r, 2) == 0;
        for (int32_t i = 0; i < options.spatial; i++) {
            const int64_t size = t->shape.dims[i + 2];
            options.window[i] = 1 + random_upto(r, size < 3 ? size : 3);
            options.strides[i] = options.round_up ? 1 : 1 + random_upto(r, 2);
            options.before[i] = options.window[i] > 1 ? random_upto(r, 2) : 0;
        }
        DO(kiln_network_add_pooling(r->network, NULL, kind, t->id, &options, &y));
    }
    const double count = (double)random_elements(t);
    const double most = kind == KILN_POOLING_LP ? count * t->most : t->most;
    const double error = kind == KILN_POOLING_LP ? count * t->error : t->error;
    random_add(r, y, most, kind == KILN_POOLING_MAX ? error : error + 0x1p-23 * (count + 4) * most);
    return true;
}

/* One of the ten, and what it makes of the numbers and of an error. */
static void reduce(random_network *r, const random_tensor *t, int64_t axis)
{
    kiln_tensor_id x = t->id;
    kiln_tensor_id y = 0;
    const kiln_reduction kind = (kiln_reduction)random_upto(r, KILN_REDUCE_SUM_SQUARE + 1);
    const double count = (double)random_elements(t);
    double most = count * t->most + 16;
    double error = count * t->error;
    size_t axes = random_upto(r, 3) == 0 ? 0 : 1;
    if (kind == KILN_REDUCE_SUM_SQUARE) {
        error *= 2 * t->most + t->error;
        most *= t->most + 1;
    } else if (kind == KILN_REDUCE_PROD || kind == KILN_REDUCE_LOG_SUM) { /* of 0 to 1 */
        DO(kiln_network_add_activation(r->network, NULL, KILN_ACTIVATION_SIGMOID, x, 0, 0, &x));
        error = 64 * (count * t->error + 1e-6 * count);
        axes = 1;
    }
    if (kind == KILN_REDUCE_LOG_SUM) { /* of 1 to 2 */
        static const float one = 1.0F;
        const kiln_tensor_id c = random_constant(r, F, KILN_SHAPE_SCALAR, &one);
        DO(kiln_network_add_elementwise(r->network, NULL, KILN_ELEMENTWISE_ADD, x, c, &x));
    }
    DO(kiln_network_add_reduce(r->network, NULL, kind, x, &axis, axes, random_upto(r, 2) == 0, &y));
    random_add(r, y, most, error + 0x1p-23 * (count + 8) * most);
}

bool random_reduction(random_network *r, const random_tensor *t)
{
    kiln_tensor_id y = 0;
    kiln_tensor_id z = 0;
    const int64_t axis = random_upto(r, t->shape.rank);
    const double count = (double)random_elements(t);
    const double sum = count * t->most;
    const double rounding = 0x1p-23 * (count + 8);
    const int64_t which = random_upto(r, 9);
    if (which < 6) {
        reduce(r, t, axis);
    } else if (which == 6) {
        DO(kiln_network_add_softmax(r->network, NULL, t->id, axis, random_upto(r, 2) == 0, &y));
        random_add(r, y, 2 * t->most + 16, 2 * t->error + rounding * (16 + 4 * t->most) + 1e-6);
    } else if (which == 7) {
        DO(kiln_network_add_cumulative_sum(r->network, NULL, t->id, axis, random_upto(r, 2) == 0,
                                           random_upto(r, 2) == 0, &y));
        random_add(r, y, sum, count * t->error + rounding * sum);
    } else if (t->error > 0) {
        return false;
    } else if (random_upto(r, 2) == 0) {
        DO(kiln_network_add_arg(r->network, NULL, t->id, axis, random_upto(r, 2) == 0,
                                random_upto(r, 2) == 0, &y));
        random_add(r, y, (double)t->shape.dims[axis], 0);
    } else {
        DO(kiln_network_add_top_k(r->network, NULL, t->id, 1 + random_upto(r, t->shape.dims[axis]),
                                  axis, random_upto(r, 2) == 0, &y, &z));
        const double most = t->most;
        const double size = (double)t->shape.dims[axis];
        random_add(r, y, most, 0);
        random_add(r, z, size, 0);
    }
    return true;
}

bool random_normalization(random_network *r, const random_tensor *t)
{
    kiln_tensor_id y = 0;
    const int64_t channels = t->shape.dims[1];
    const int64_t last = t->shape.dims[t->shape.rank - 1];
    const kiln_tensor_id scale = random_weights(r, KILN_SHAPE(channels));
    const kiln_tensor_id bias = random_weights(r, KILN_SHAPE(channels));
    const kiln_tensor_id row = random_weights(r, KILN_SHAPE(last));
    const double cost = 8 * t->error + 0x1p-23 * 64 * (1 + t->most * t->most) *
                                           (8 + (double)random_elements(t) / 8);
    /* ONNX Runtime has LRN for images of two dimensions only. */
    switch (random_upto(r, t->shape.rank == 4 ? 5 : 4)) {
        case 0:
            DO(kiln_network_add_layer_normalization(r->network, NULL, t->id, row,
                                                    random_upto(r, 2) == 0 ? row : KILN_NO_TENSOR,
                                                    -1, 0.25F, &y));
            break;
        case 1:
            DO(kiln_network_add_instance_normalization(r->network, NULL, t->id, scale, bias, 0.25F,
                                                       &y));
            break;
        case 2:
            if (kiln_network_opset(r->network) < 21) {
                return false; /* it is put together then, of a rank that the builder must know */
            }
            DO(kiln_network_add_group_normalization(r->network, NULL, t->id, scale, bias,
                                                    random_upto(r, 2) == 0 ? 1 : channels, 0.25F,
                                                    &y));
            break;
        case 3:
            DO(kiln_network_add_rms_normalization(r->network, NULL, t->id, row, 0.25F, &y));
            break;
        default: DO(kiln_network_add_lrn(r->network, NULL, t->id, 3, 0.1F, 0.75F, 1.0F, &y)); break;
    }
    random_add(r, y, 2 * t->most + 64, cost);
    return true;
}

bool random_moving(random_network *r, const random_tensor *t)
{
    kiln_tensor_id y = 0;
    kiln_tensor_id parts[2] = {0, 0};
    const int32_t rank = t->shape.rank;
    const int64_t axis = random_upto(r, rank);
    const int64_t size = t->shape.dims[axis];
    int64_t order[KILN_MAX_RANK] = {0};
    int64_t twice[KILN_MAX_RANK] = {0};
    for (int32_t i = 0; i < rank; i++) {
        const int64_t k = random_upto(r, i + 1);
        order[i] = order[k];
        order[k] = i;
        twice[i] = i == axis ? 2 : 1;
    }
    const double most = t->most;
    const double error = t->error;
    const kiln_tensor_id both[] = {t->id, t->id};
    const int64_t sizes[] = {size / 2, size - size / 2};
    const int64_t from = random_upto(r, 2) == 0 ? -1 : size / 3;
    const int64_t to = from < 0 ? -size - 1 : size;
    const int64_t step = from < 0 ? -1 - random_upto(r, 2) : 1 + random_upto(r, 2);
    switch (random_upto(r, 9)) {
        case 0:
            DO(kiln_network_add_transpose(r->network, NULL, t->id, order, (size_t)rank, &y));
            break;
        case 1:
            DO(kiln_network_add_reshape(r->network, NULL, t->id,
                                        &KILN_SHAPE(t->shape.dims[0], KILN_DYNAMIC), &y));
            break;
        case 2: DO(kiln_network_add_flatten(r->network, NULL, t->id, axis, &y)); break;
        case 3:
            if (rank >= 5) {
                return false;
            }
            DO(kiln_network_add_unsqueeze(r->network, NULL, t->id, &axis, 1, &y));
            break;
        case 4: DO(kiln_network_add_squeeze(r->network, NULL, t->id, NULL, 0, &y)); break;
        case 5: DO(kiln_network_add_concat(r->network, NULL, both, 2, axis, &y)); break;
        case 6:
            if (size < 2) {
                return false;
            }
            DO(kiln_network_add_split(r->network, NULL, t->id, axis, sizes, 2, parts));
            random_add(r, parts[1], most, error);
            y = parts[0];
            break;
        case 7:
            DO(kiln_network_add_slice(r->network, NULL, t->id, &from, &to, &axis, &step, 1, &y));
            break;
        default: DO(kiln_network_add_tile(r->network, NULL, t->id, twice, (size_t)rank, &y)); break;
    }
    random_add(r, y, most, error);
    return true;
}

bool random_filling(random_network *r, const random_tensor *t)
{
    kiln_tensor_id y = 0;
    int64_t before[KILN_MAX_RANK];
    int64_t after[KILN_MAX_RANK];
    kiln_resize_options options = KILN_RESIZE_OPTIONS_INIT;
    const int64_t axis = random_upto(r, t->shape.rank);
    bool is_wide = true;
    for (int32_t i = 0; i < t->shape.rank; i++) {
        before[i] = random_upto(r, 2);
        after[i] = random_upto(r, 2);
        is_wide = is_wide && t->shape.dims[i] > 1;
        options.scales[i] = i < 2 ? 1.0F : 2.0F;
    }
    options.rank = t->shape.rank;
    const int64_t which = random_upto(r, 4);
    const int64_t modes = kiln_network_opset(r->network) < 19 ? KILN_PAD_WRAP : KILN_PAD_WRAP + 1;
    if (which < 2 || (which == 2 && t->shape.rank != 4)) {
        DO(kiln_network_add_pad(r->network, NULL, t->id, before, after, (size_t)t->shape.rank,
                                (kiln_pad_mode)(is_wide ? random_upto(r, modes) : 0), 0.5F, &y));
        random_add(r, y, t->most + 1, t->error);
    } else if (which == 2) {
        options.mode = (kiln_resize_mode)random_upto(r, 2);
        options.coordinates = options.mode == KILN_RESIZE_NEAREST ? KILN_COORDINATES_ASYMMETRIC
                                                                  : KILN_COORDINATES_HALF_PIXEL;
        options.nearest = KILN_NEAREST_FLOOR;
        DO(kiln_network_add_resize(r->network, NULL, t->id, &options, &y));
        random_add(
            r, y, t->most,
            options.mode == KILN_RESIZE_NEAREST ? t->error : 2 * t->error + 1e-6 * (1 + t->most));
    } else {
        /* Every index below the smallest dimension of 1 is 0. */
        static const int64_t zeros[8];
        const kiln_tensor_id where = random_constant(
            r, KILN_DTYPE_INT64, KILN_SHAPE(3), t->shape.dims[axis] > 2 ? random_indices : zeros);
        DO(kiln_network_add_gather(r->network, NULL, t->id, where, axis, &y));
        random_add(r, y, t->most, t->error);
    }
    return true;
}

bool random_quantization(random_network *r, const random_tensor *none)
{
    static const float scale = 0.125F;
    static const uint8_t zero = 128;
    random_tensor *q = random_pick(r, quantized);
    random_tensor *t = random_pick(r, random_f32_exact);
    kiln_tensor_id y = 0;
    if (q == NULL && t == NULL) {
        return false;
    }
    const kiln_tensor_id s = random_constant(r, F, KILN_SHAPE_SCALAR, &scale);
    const kiln_tensor_id z = random_constant(r, KILN_DTYPE_UINT8, KILN_SHAPE_SCALAR, &zero);
    if (q != NULL && random_upto(r, 2) == 0) {
        DO(kiln_network_add_dequantize(r->network, NULL, q->id, s, z, 0, 0, &y));
        random_add(r, y, 16, 0);
    } else if (t != NULL) {
        DO(kiln_network_add_quantize(r->network, NULL, t->id, s, z, KILN_DTYPE_UNDEFINED, 0, 0,
                                     &y));
        random_add(r, y, 255, 0);
    } else {
        return false;
    }
    return true;
}

bool random_sequence(random_network *r, const random_tensor *t)
{
    static const int32_t ones[] = {1, 1, 1, 1, 1, 1, 1, 1};
    static const int32_t lengths[] = {2, 1, 2, 2, 1, 1, 2, 1, 2, 2, 2, 1, 1, 2, 1, 2};
    kiln_tensor_id y = 0;
    kiln_tensor_id h = 0;
    if (t->most > 16 || t->shape.rank > 4) {
        return false;
    }
    const int64_t size = t->shape.dims[t->shape.rank - 1];
    if (t->shape.rank == 4) {
        kiln_attention_options options = KILN_ATTENTION_OPTIONS_INIT;
        options.heads = t->shape.dims[1];
        options.causal = random_upto(r, 2) == 0;
        options.scale = 0.125F;
        DO(kiln_network_add_attention(r->network, NULL, t->id, t->id, t->id, &options, &y, NULL,
                                      NULL));
        random_add(r, y, t->most, (4 + t->most * t->most * (double)size) * (t->error + 4e-6));
        return true;
    }
    const int64_t kind = random_upto(r, 3);
    const int64_t rows = (kind == 0 ? 1 : kind == 1 ? 3 : 4) * 2;
    kiln_recurrent_options options = KILN_RECURRENT_OPTIONS_INIT;
    options.direction = (kiln_direction)random_upto(r, 3);
    options.hidden_size = 2;
    options.reset_after = kind == KILN_RECURRENT_GRU && random_upto(r, 2) == 0;
    const int64_t directions = options.direction == KILN_DIRECTION_BOTH ? 2 : 1;
    if (size > 16 || t->shape.dims[0] > 8) {
        return false;
    }
    const kiln_tensor_id w = random_weights(r, KILN_SHAPE(directions, rows, size));
    const kiln_tensor_id u = random_weights(r, KILN_SHAPE(directions, rows, 2));
    const kiln_shape state = KILN_SHAPE(directions, t->shape.dims[1], 2);
    if (random_upto(r, 2) == 0) {
        options.bias = random_weights(r, KILN_SHAPE(directions, 2 * rows));
        options.initial_hidden = random_weights(r, state);
        options.initial_cell =
            kind == KILN_RECURRENT_LSTM ? random_weights(r, state) : KILN_NO_TENSOR;
    }
    if (random_upto(r, 2) == 0 && t->shape.dims[1] <= 8) {
        options.lengths =
            random_constant(r, KILN_DTYPE_INT32, KILN_SHAPE(t->shape.dims[1]),
                            t->shape.dims[0] > 1 ? lengths + random_upto(r, 8) : ones);
    }
    DO(kiln_network_add_recurrent(r->network, NULL, (kiln_recurrent)kind, t->id, w, u, &options, &y,
                                  &h, NULL));
    /* Each token hands the error of the one before on, up to 4 times as large. */
    const double error = ((double)size * t->error + 4e-6) * pow(4, (double)t->shape.dims[0]);
    random_add(r, y, 16, error);
    random_add(r, h, 16, error);
    return true;
}

bool random_branch(random_network *r, const random_tensor *t)
{
    static const uint8_t truths[] = {0, 1};
    kiln_network *sides[2] = {NULL, NULL};
    kiln_tensor_id y = 0;
    const kiln_tensor_id c =
        random_constant(r, KILN_DTYPE_BOOL, KILN_SHAPE_SCALAR, truths + random_upto(r, 2));
    for (size_t i = 0; i < 2; i++) {
        DO(kiln_network_create_branch(r->network, NULL, &sides[i]));
        DO(kiln_network_capture(sides[i], t->id, &y));
        DO(kiln_network_add_unary(sides[i], NULL, i == 0 ? KILN_UNARY_NEG : KILN_UNARY_ABS, y, &y));
        DO(kiln_network_mark_output(sides[i], y));
    }
    DO(kiln_network_add_if(r->network, NULL, c, sides[0], sides[1], &y, 1));
    random_add(r, y, t->most, t->error);
    return true;
}
