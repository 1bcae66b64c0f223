/* SPDX-License-Identifier: Apache-2.0 */
/* One layer in all its forms: dimensions, padding, groups, types, lengths. */
#include <stdint.h>
#include <stdio.h>

#include "layer_parts.h"

const float layer_numbers[512] = {
    0.11F,  -0.52F, 0.73F,  0.24F,  -0.35F, 0.96F,  -0.17F, 0.48F,  0.59F,  -0.61F, 0.32F,
    -0.83F, 0.94F,  0.05F,  -0.26F, 0.67F,  -0.78F, 0.39F,  0.41F,  -0.92F, 0.13F,  0.54F,
    -0.75F, 0.86F,  -0.97F, 0.28F,  0.69F,  -0.31F, 0.22F,  -0.43F, 0.64F,  0.85F,  -0.16F,
    0.57F,  -0.38F, 0.79F,  0.91F,  -0.12F, 0.33F,  0.84F,  -0.95F, 0.46F,  0.77F,  -0.08F,
    0.49F,  0.81F,  -0.62F, 0.53F,  0.34F,  -0.25F, 0.76F,  0.07F,  -0.98F, 0.19F,  0.71F,
    -0.42F, 0.63F,  0.14F,  -0.55F, 0.36F,  0.27F,  -0.88F, 0.29F,  0.51F};
const float layer_positive[8] = {0.5F, 0.25F, 1.5F, 0.75F, 1.0F, 2.0F, 0.125F, 0.375F};

kiln_status layer_input(kiln_network *n, const char *name, kiln_dtype dtype, kiln_shape shape,
                        kiln_tensor_id *id)
{
    return kiln_network_add_input(n, name, dtype, &shape, NULL, id);
}

kiln_status layer_weights(kiln_network *n, const char *name, kiln_dtype dtype, kiln_shape shape,
                          const void *data, kiln_tensor_id *id)
{
    kiln_weights w = {dtype, shape, {data, 0}};
    TRY(kiln_tensor_bytes(dtype, &shape, &w.data.size));
    return kiln_network_add_constant(n, name, &w, id);
}

/* [batch, channels, 6, 7, 8 as far as there are spatial dimensions] */
static kiln_status field(kiln_network *n, int32_t spatial, kiln_tensor_id *x)
{
    char name[16];
    kiln_shape shape = {.rank = spatial + 2, .dims = {2, 4, 6, 7, 8}};
    (void)snprintf(name, sizeof name, "x%d", (int)spatial);
    return layer_input(n, name, F, shape, x);
}

/* --- windows: 1 to 3 dimensions, each way to pad, strides, dilations, groups --- */

/* ONNX Runtime has no dilation with these. */
static bool is_same(int mode)
{
    return mode == KILN_PADDING_SAME_UPPER || mode == KILN_PADDING_SAME_LOWER;
}

static kiln_convolution_options convolution_form(int mode, int64_t groups, bool wide)
{
    kiln_convolution_options options =
        KILN_CONVOLUTION_OPTIONS(.padding_mode = (kiln_padding_mode)mode, .groups = groups);
    for (int d = 0; d < KILN_MAX_SPATIAL; d++) {
        options.strides[d] = wide ? 1 : 2;
        options.dilations[d] = wide && !is_same(mode) ? 2 : 1;
        if (mode == KILN_PADDING_EXPLICIT) {
            options.before[d] = d % 2;
            options.after[d] = 1;
        }
    }
    return options;
}

static kiln_status windows(kiln_network *n, bool transposed)
{
    for (int32_t spatial = 1; spatial <= 3; spatial++) {
        kiln_tensor_id x, w, y;
        TRY(field(n, spatial, &x));
        for (int form = 0; form < 4; form++) {
            const int64_t groups = form % 2 == 0 ? 1 : 2;
            char name[16];
            (void)snprintf(name, sizeof name, "w%d_%d", (int)spatial, form);
            const kiln_shape kernel = {.rank = spatial + 2, .dims = {4, 4 / groups, 3, 2, 2}};
            TRY(layer_weights(n, name, F, kernel, layer_numbers, &w));
            for (int mode = KILN_PADDING_EXPLICIT; mode <= KILN_PADDING_VALID; mode++) {
                kiln_convolution_options options = convolution_form(mode, groups, form >= 2);
                if (transposed) {
                    TRY(kiln_network_add_deconvolution(n, NULL, x, w, NONE, &options, &y));
                } else {
                    TRY(kiln_network_add_convolution(n, NULL, x, w, NONE, &options, &y));
                }
                TRY(kiln_network_mark_output(n, y));
            }
        }
    }
    return KILN_OK;
}

kiln_status layer_convolution_windows(kiln_network *n)
{
    return windows(n, false);
}

kiln_status layer_deconvolution_windows(kiln_network *n)
{
    return windows(n, true);
}

static kiln_status pools(kiln_network *n, kiln_pooling kind)
{
    for (int32_t spatial = 1; spatial <= 3; spatial++) {
        kiln_tensor_id x, y;
        TRY(field(n, spatial, &x));
        for (int form = 0; form < 8; form++) {
            kiln_pooling_options options = KILN_POOLING_OPTIONS_INIT;
            options.spatial = spatial;
            options.padding_mode = (kiln_padding_mode)(form / 2);
            options.round_up = options.padding_mode == KILN_PADDING_EXPLICIT && form % 2 == 1;
            options.include_padding = kind == KILN_POOLING_AVERAGE && form % 2 == 1;
            for (int d = 0; d < spatial; d++) {
                options.window[d] = 2 + d % 2;
                options.strides[d] = 1 + form % 2;
                options.dilations[d] =
                    kind == KILN_POOLING_MAX && form % 2 == 0 && !is_same(form / 2) ? 2 : 1;
                if (options.padding_mode == KILN_PADDING_EXPLICIT) {
                    options.before[d] = 1;
                    options.after[d] = d % 2;
                }
            }
            OUTPUT(kiln_network_add_pooling(n, NULL, kind, x, &options, &y));
        }
    }
    return KILN_OK;
}

kiln_status layer_max_windows(kiln_network *n)
{
    return pools(n, KILN_POOLING_MAX);
}

kiln_status layer_average_windows(kiln_network *n)
{
    return pools(n, KILN_POOLING_AVERAGE);
}

kiln_status layer_lp_windows(kiln_network *n)
{
    return pools(n, KILN_POOLING_LP);
}

/* --- reductions: each kind over one axis, several, and all --- */

kiln_status layer_reduced_axes(kiln_network *n)
{
    static const int64_t axes[][3] = {{1, 0, 0}, {-1, 0, 0}, {0, 2, 0}, {2, 1, 0}};
    static const size_t counts[] = {1, 1, 2, 3};
    kiln_tensor_id x, y;
    TRY(layer_input(n, "x", F, KILN_SHAPE(3, 4, 5), &x));
    for (int kind = KILN_REDUCE_SUM; kind <= KILN_REDUCE_SUM_SQUARE; kind++) {
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            OUTPUT(kiln_network_add_reduce(n, NULL, (kiln_reduction)kind, x, axes[i], counts[i],
                                           (kind + (int)i) % 2 == 0, &y));
        }
    }
    return KILN_OK;
}

/* --- quantization: each type, for a tensor, along an axis, in blocks --- */

static const struct {
    const char *name;
    kiln_dtype dtype;
    unsigned char zeros[16];
} storages[] = {
    {"int8", KILN_DTYPE_INT8, {3, 0xfd, 0, 5}},
    {"uint8", KILN_DTYPE_UINT8, {100, 128, 0, 7}},
    {"int16", KILN_DTYPE_INT16, {3, 0, 0xfd, 0xff, 0, 0, 5, 1}},
    {"uint16", KILN_DTYPE_UINT16, {3, 9, 0, 0x80, 0, 0, 5, 1}},
    {"int4", KILN_DTYPE_INT4, {0x1e, 0x30}},
    {"uint4", KILN_DTYPE_UINT4, {0x7c, 0x30}},
    {"float8e4m3fn", KILN_DTYPE_FLOAT8E4M3, {0}},
    {"float8e5m2", KILN_DTYPE_FLOAT8E5M2, {0}},
};

kiln_status layer_quantized_types(kiln_network *n)
{
    kiln_tensor_id x, one, four, zero, zeros, q, y;
    TRY(layer_input(n, "x", F, KILN_SHAPE(2, 4, 5), &x));
    TRY(layer_weights(n, "one", F, KILN_SHAPE_SCALAR, layer_positive + 6, &one));
    TRY(layer_weights(n, "four", F, KILN_SHAPE(4), layer_positive, &four));
    for (size_t i = 0; i < sizeof storages / sizeof storages[0]; i++) {
        const kiln_dtype dtype = storages[i].dtype;
        char name[32];
        (void)snprintf(name, sizeof name, "zero_%s", storages[i].name);
        TRY(layer_weights(n, name, dtype, KILN_SHAPE_SCALAR, storages[i].zeros, &zero));
        (void)snprintf(name, sizeof name, "zeros_%s", storages[i].name);
        TRY(layer_weights(n, name, dtype, KILN_SHAPE(4), storages[i].zeros, &zeros));
        TRY(kiln_network_add_quantize(n, NULL, x, one, zero, KILN_DTYPE_UNDEFINED, 1, 0, &q));
        (void)snprintf(name, sizeof name, "tensor_%s", storages[i].name);
        OUTPUT(kiln_network_add_dequantize(n, name, q, one, zero, 1, 0, &y));
        TRY(kiln_network_add_quantize(n, NULL, x, four, zeros, KILN_DTYPE_UNDEFINED, 1, 0, &q));
        (void)snprintf(name, sizeof name, "axis_%s", storages[i].name);
        OUTPUT(kiln_network_add_dequantize(n, name, q, four, zeros, 1, 0, &y));
    }
    return KILN_OK;
}

kiln_status layer_quantized_blocks(kiln_network *n)
{
    static const float scales[] = {0.5F, 0.25F, 1.5F, 0.75F, 1.0F, 2.0F, 0.125F, 0.375F};
    kiln_tensor_id x, s, q, y;
    TRY(layer_input(n, "x", F, KILN_SHAPE(4, 4), &x));
    TRY(layer_weights(n, "s", F, KILN_SHAPE(4, 2), scales, &s));
    for (size_t i = 0; i < 6; i++) {
        char name[32];
        TRY(kiln_network_add_quantize(n, NULL, x, s, NONE, storages[i].dtype, 1, 2, &q));
        (void)snprintf(name, sizeof name, "blocks_%s", storages[i].name);
        OUTPUT(kiln_network_add_dequantize(n, name, q, s, NONE, 1, 2, &y));
    }
    return KILN_OK;
}

/* --- attention with a mask of bool; recurrence with lengths and initial states --- */

kiln_status layer_attention_seen(kiln_network *n)
{
    kiln_tensor_id q, k, v, y;
    static const bool seen[] = {1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1};
    kiln_attention_options options = KILN_ATTENTION_OPTIONS_INIT;
    options.heads = 2;
    TRY(layer_input(n, "q", F, KILN_SHAPE(1, 2, 3, 4), &q));
    TRY(layer_input(n, "k", F, KILN_SHAPE(1, 2, 5, 4), &k));
    TRY(layer_input(n, "v", F, KILN_SHAPE(1, 2, 5, 4), &v));
    TRY(layer_weights(n, "seen", KILN_DTYPE_BOOL, KILN_SHAPE(3, 5), seen, &options.mask));
    OUTPUT(kiln_network_add_attention(n, "seen_only", q, k, v, &options, &y, NULL, NULL));
    options.causal = true;
    options.mask = NONE;
    OUTPUT(kiln_network_add_attention(n, "causal", q, k, v, &options, &y, NULL, NULL));
    options.causal = false;
    options.scale = 0.7F;
    OUTPUT(kiln_network_add_attention(n, "scaled", q, k, v, &options, &y, NULL, NULL));
    return KILN_OK;
}

static kiln_status recurrent_form(kiln_network *n, kiln_tensor_id x, kiln_tensor_id lengths,
                                  kiln_recurrent kind, kiln_direction direction)
{
    static const int64_t gates[] = {1, 3, 4};
    const int64_t ways = direction == KILN_DIRECTION_BOTH ? 2 : 1;
    const int64_t rows = gates[kind] * 4;
    const int form = (int)kind * 3 + (int)direction;
    kiln_recurrent_options options = KILN_RECURRENT_OPTIONS_INIT;
    kiln_tensor_id w, r, y, h, c;
    char name[16];
    options.direction = direction;
    options.hidden_size = 4;
    options.reset_after = kind == KILN_RECURRENT_GRU && direction == KILN_DIRECTION_REVERSE;
    options.lengths = lengths;
    (void)snprintf(name, sizeof name, "w%d", form);
    TRY(layer_weights(n, name, F, KILN_SHAPE(ways, rows, 3), layer_numbers, &w));
    (void)snprintf(name, sizeof name, "r%d", form);
    TRY(layer_weights(n, name, F, KILN_SHAPE(ways, rows, 4), layer_numbers + 5, &r));
    (void)snprintf(name, sizeof name, "h%d", form);
    TRY(layer_weights(n, name, F, KILN_SHAPE(ways, 2, 4), layer_numbers + 9,
                      &options.initial_hidden));
    if (kind == KILN_RECURRENT_LSTM) {
        (void)snprintf(name, sizeof name, "c%d", form);
        TRY(layer_weights(n, name, F, KILN_SHAPE(ways, 2, 4), layer_numbers + 17,
                          &options.initial_cell));
    }
    TRY(kiln_network_add_recurrent(n, NULL, kind, x, w, r, &options, &y, &h,
                                   kind == KILN_RECURRENT_LSTM ? &c : NULL));
    TRY(kiln_network_mark_output(n, y));
    TRY(kiln_network_mark_output(n, h));
    return kind == KILN_RECURRENT_LSTM ? kiln_network_mark_output(n, c) : KILN_OK;
}

kiln_status layer_recurrent_lengths(kiln_network *n)
{
    static const int32_t tokens[] = {5, 2};
    kiln_tensor_id x, lengths;
    TRY(layer_input(n, "x", F, KILN_SHAPE(5, 2, 3), &x));
    TRY(layer_weights(n, "lengths", KILN_DTYPE_INT32, KILN_SHAPE(2), tokens, &lengths));
    for (int kind = KILN_RECURRENT_RNN; kind <= KILN_RECURRENT_LSTM; kind++) {
        for (int way = KILN_DIRECTION_FORWARD; way <= KILN_DIRECTION_BOTH; way++) {
            TRY(recurrent_form(n, x, lengths, (kiln_recurrent)kind, (kiln_direction)way));
        }
    }
    return KILN_OK;
}

/* --- other types: layers that hold constants of their own, or are put together --- */

kiln_status layer_half_type(kiln_network *n)
{
    const kiln_dtype dtype = KILN_DTYPE_FLOAT16;
    static const kiln_activation kinds[] = {KILN_ACTIVATION_CLIP, KILN_ACTIVATION_GELU,
                                            KILN_ACTIVATION_GELU_TANH, KILN_ACTIVATION_SWISH};
    static const int64_t before[] = {0, 0, 1, 0};
    static const int64_t after[] = {0, 0, 0, 2};
    kiln_tensor_id x, w, y;
    kiln_attention_options options = KILN_ATTENTION_OPTIONS_INIT;
    options.heads = 2;
    TRY(layer_input(n, "x", F, KILN_SHAPE(1, 2, 3, 4), &x));
    TRY(kiln_network_add_cast(n, NULL, x, dtype, &x));
    TRY(layer_weights(n, NULL, F, KILN_SHAPE(4), layer_positive, &w));
    TRY(kiln_network_add_cast(n, NULL, w, dtype, &w));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        OUTPUT(kiln_network_add_activation(n, NULL, kinds[i], x, -0.25F, 0.5F, &y));
    }
    OUTPUT(kiln_network_add_pad(n, NULL, x, before, after, 4, KILN_PAD_CONSTANT, 0.5F, &y));
    OUTPUT(kiln_network_add_rms_normalization(n, NULL, x, w, 1e-3F, &y));
    OUTPUT(kiln_network_add_global_pooling(n, NULL, KILN_POOLING_LP, x, &y));
    OUTPUT(kiln_network_add_attention(n, NULL, x, x, x, &options, &y, NULL, NULL));
    return KILN_OK;
}

kiln_status layer_whole_types(kiln_network *n)
{
    static const kiln_dtype dtypes[] = {KILN_DTYPE_INT8, KILN_DTYPE_INT32, KILN_DTYPE_INT64,
                                        KILN_DTYPE_UINT8};
    static const int64_t before[] = {1, 0};
    static const int64_t after[] = {0, 2};
    kiln_tensor_id all, x, y;
    TRY(layer_input(n, "x", I, KILN_SHAPE(3, 4), &all));
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        const float least = dtypes[i] == KILN_DTYPE_UINT8 ? 1.0F : -2.0F;
        TRY(kiln_network_add_cast(n, NULL, all, dtypes[i], &x));
        OUTPUT(kiln_network_add_activation(n, NULL, KILN_ACTIVATION_CLIP, x, least, 3.0F, &y));
        OUTPUT(kiln_network_add_pad(n, NULL, x, before, after, 2, KILN_PAD_CONSTANT, 7.0F, &y));
    }
    return KILN_OK;
}

/* --- attention and recurrence --- */

static kiln_status heads(kiln_network *n, int64_t kv_heads, kiln_tensor_id *q, kiln_tensor_id *k,
                         kiln_tensor_id *v)
{
    TRY(layer_input(n, "q", F, KILN_SHAPE(2, 4, 3, 8), q));
    TRY(layer_input(n, "k", F, KILN_SHAPE(2, kv_heads, 5, 8), k));
    return layer_input(n, "v", F, KILN_SHAPE(2, kv_heads, 5, 6), v);
}

kiln_status layer_attention(kiln_network *n)
{
    kiln_tensor_id q, k, v, y;
    kiln_attention_options options = KILN_ATTENTION_OPTIONS_INIT;
    options.heads = 4;
    TRY(heads(n, 4, &q, &k, &v));
    TRY(layer_input(n, "mask", F, KILN_SHAPE(3, 5), &options.mask));
    OUTPUT(kiln_network_add_attention(n, "y", q, k, v, &options, &y, NULL, NULL));
    return KILN_OK;
}

kiln_status layer_attention_grouped(kiln_network *n)
{
    kiln_tensor_id q, k, v, y;
    kiln_attention_options options = KILN_ATTENTION_OPTIONS_INIT;
    options.heads = 4;
    options.kv_heads = 2;
    options.causal = true;
    options.scale = 0.25F;
    options.softcap = 2.0F;
    TRY(heads(n, 2, &q, &k, &v));
    OUTPUT(kiln_network_add_attention(n, "y", q, k, v, &options, &y, NULL, NULL));
    return KILN_OK;
}

kiln_status layer_attention_with_past(kiln_network *n)
{
    kiln_tensor_id q, k, v, y, keys, values;
    kiln_attention_options options = KILN_ATTENTION_OPTIONS_INIT;
    options.heads = 4;
    options.kv_heads = 2;
    options.causal = true;
    TRY(layer_input(n, "q", F, KILN_SHAPE(1, 4, 2, 8), &q));
    TRY(layer_input(n, "k", F, KILN_SHAPE(1, 2, 2, 8), &k));
    TRY(layer_input(n, "v", F, KILN_SHAPE(1, 2, 2, 8), &v));
    TRY(layer_input(n, "past_k", F, KILN_SHAPE(1, 2, 3, 8), &options.past_key));
    TRY(layer_input(n, "past_v", F, KILN_SHAPE(1, 2, 3, 8), &options.past_value));
    TRY(kiln_network_add_attention(n, "y", q, k, v, &options, &y, &keys, &values));
    TRY(kiln_network_mark_output(n, y));
    TRY(kiln_network_mark_output(n, keys));
    return kiln_network_mark_output(n, values);
}

kiln_status layer_recurrent(kiln_network *n)
{
    static const int64_t gates[] = {1, 3, 4};
    kiln_tensor_id x, w, r, y, h, c;
    char name[32];
    TRY(layer_input(n, "x", F, KILN_SHAPE(5, 2, 3), &x));
    for (int kind = KILN_RECURRENT_RNN; kind <= KILN_RECURRENT_LSTM; kind++) {
        const int64_t rows = gates[kind] * 4;
        const bool is_lstm = kind == KILN_RECURRENT_LSTM;
        kiln_recurrent_options options = KILN_RECURRENT_OPTIONS_INIT;
        options.direction = KILN_DIRECTION_BOTH;
        options.hidden_size = 4;
        options.reset_after = kind == KILN_RECURRENT_GRU;
        (void)snprintf(name, sizeof name, "w%d", kind);
        TRY(layer_weights(n, name, F, KILN_SHAPE(2, rows, 3), layer_numbers, &w));
        (void)snprintf(name, sizeof name, "r%d", kind);
        TRY(layer_weights(n, name, F, KILN_SHAPE(2, rows, 4), layer_numbers, &r));
        (void)snprintf(name, sizeof name, "b%d", kind);
        TRY(layer_weights(n, name, F, KILN_SHAPE(2, 2 * rows), layer_numbers + 7, &options.bias));
        TRY(kiln_network_add_recurrent(n, NULL, (kiln_recurrent)kind, x, w, r, &options, &y, &h,
                                       is_lstm ? &c : NULL));
        TRY(kiln_network_mark_output(n, y));
        TRY(kiln_network_mark_output(n, h));
        if (is_lstm) {
            TRY(kiln_network_mark_output(n, c));
        }
    }
    return KILN_OK;
}
