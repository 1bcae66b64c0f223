/* SPDX-License-Identifier: Apache-2.0 */
/* Layers over spatial dimensions: convolution, pooling, resizing. */
#include "build_layer.h"

/* `count` numbers, each 0 of them taken as 1; left out where all are 1, which is the default. */
static void put_steps(kln_layer *layer, const char *name, const int64_t *steps, size_t count)
{
    int64_t values[KILN_MAX_SPATIAL] = {1, 1, 1};
    bool is_default = true;
    for (size_t i = 0; i < count; i++) {
        values[i] = steps[i] != 0 ? steps[i] : 1;
        is_default = is_default && values[i] == 1;
    }
    if (!is_default) {
        kln_layer_ints(layer, name, values, count);
    }
}

static void put_padding(kln_layer *layer, kiln_padding_mode mode, const int64_t *before,
                        const int64_t *after, size_t count)
{
    static const char *const names[] = {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"};
    int64_t pads[2 * KILN_MAX_SPATIAL];
    bool is_zero = true;
    kln_layer_need(layer, (size_t)mode < KLN_ARRAY_LENGTH(names),
                   "padding_mode is %d, which is none of kiln_padding_mode", (int)mode);
    for (size_t i = 0; i < count; i++) {
        pads[i] = before[i];
        pads[count + i] = after[i];
        is_zero = is_zero && before[i] == 0 && after[i] == 0;
    }
    kln_layer_need(layer, is_zero || mode == KILN_PADDING_EXPLICIT,
                   "padding is given in numbers, but its mode is not KILN_PADDING_EXPLICIT");
    if (layer->status == KILN_OK && mode != KILN_PADDING_EXPLICIT) {
        kln_layer_string(layer, "auto_pad", names[mode]);
    } else if (!is_zero) {
        kln_layer_ints(layer, "pads", pads, 2 * count);
    }
}

static kiln_status add_convolution(kln_layer *layer, kiln_tensor_id input, kiln_tensor_id kernel,
                                   kiln_tensor_id bias, const kiln_convolution_options *options,
                                   bool is_transposed, kiln_tensor_id *output)
{
    kiln_convolution_options read = KILN_CONVOLUTION_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_convolution_options", options, &read, sizeof read));
    kln_layer_inputs(layer, input, kernel);
    kln_layer_optional(layer, bias);
    /* Of one rank; that of the kernel is known more often. */
    const bool is_known = kln_layer_tensor(layer, kernel).rank >= 0;
    const int32_t rank =
        kln_layer_ranked(layer, is_known ? kernel : input, 3, 2 + KILN_MAX_SPATIAL).rank;
    if (layer->status != KILN_OK || layer->is_refused) {
        return kln_layer_finish_one(layer, output);
    }
    const size_t spatial = (size_t)rank - 2;
    put_steps(layer, "strides", read.strides, spatial);
    put_steps(layer, "dilations", read.dilations, spatial);
    put_padding(layer, read.padding_mode, read.before, read.after, spatial);
    kln_layer_int(layer, "group", read.groups != 0 ? read.groups : 1);
    bool has_output_padding = false;
    for (size_t i = 0; i < spatial; i++) {
        has_output_padding = has_output_padding || read.output_padding[i] != 0;
    }
    kln_layer_need(layer, is_transposed || !has_output_padding,
                   "output_padding is for a deconvolution");
    if (has_output_padding) {
        kln_layer_ints(layer, "output_padding", read.output_padding, spatial);
    }
    return kln_layer_finish_one(layer, output);
}

kiln_status kiln_network_add_convolution(kiln_network *network, const char *name,
                                         kiln_tensor_id input, kiln_tensor_id kernel,
                                         kiln_tensor_id bias,
                                         const kiln_convolution_options *options,
                                         kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "Conv");
    return add_convolution(&layer, input, kernel, bias, options, false, output);
}

kiln_status kiln_network_add_deconvolution(kiln_network *network, const char *name,
                                           kiln_tensor_id input, kiln_tensor_id kernel,
                                           kiln_tensor_id bias,
                                           const kiln_convolution_options *options,
                                           kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "ConvTranspose");
    return add_convolution(&layer, input, kernel, bias, options, true, output);
}

kiln_status kiln_network_add_pooling(kiln_network *network, const char *name, kiln_pooling kind,
                                     kiln_tensor_id input, const kiln_pooling_options *options,
                                     kiln_tensor_id *output)
{
    static const char *const names[] = {"MaxPool", "AveragePool", "LpPool"};
    kln_layer layer;
    kiln_pooling_options read = KILN_POOLING_OPTIONS_INIT;
    KLN_RETURN_IF_NULL(options);
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_pooling_options", options, &read, sizeof read));
    const int32_t spatial = read.spatial != 0 ? read.spatial : 2;
    kln_layer_begin_kind(&layer, network, __func__, name, KLN_NAMES(names), (size_t)kind,
                         "kiln_pooling");
    kln_layer_need(&layer, spatial >= 1 && spatial <= KILN_MAX_SPATIAL,
                   "it has %d spatial dimensions, 1 to 3 are possible", (int)spatial);
    kln_layer_input(&layer, input);
    if (layer.status == KILN_OK) {
        const size_t count = (size_t)spatial;
        kln_layer_ints(&layer, "kernel_shape", read.window, count);
        put_steps(&layer, "strides", read.strides, count);
        put_padding(&layer, read.padding_mode, read.before, read.after, count);
        put_steps(&layer, "dilations", read.dilations, count);
    }
    if (read.round_up) {
        kln_layer_int(&layer, "ceil_mode", 1);
    }
    if (read.include_padding && kind == KILN_POOLING_AVERAGE) {
        kln_layer_int(&layer, "count_include_pad", 1);
    }
    return kln_layer_finish_one(&layer, output);
}

/* Few executors have GlobalLpPool; all have the norm over the spatial dimensions. */
static void put_norm(kln_layer *layer, kiln_tensor_id input)
{
    int64_t axes[KILN_MAX_RANK] = {0};
    const kln_known t = kln_layer_ranked(layer, input, 3, KILN_MAX_RANK);
    for (int32_t i = 2; i < t.rank; i++) {
        axes[i - 2] = i;
    }
    if (layer->status == KILN_OK && !layer->is_refused) {
        kln_layer_input_ints(layer, "axes", axes, (size_t)t.rank - 2, false);
        kln_layer_int(layer, "keepdims", 1);
    }
}

kiln_status kiln_network_add_global_pooling(kiln_network *network, const char *name,
                                            kiln_pooling kind, kiln_tensor_id input,
                                            kiln_tensor_id *output)
{
    static const char *const names[] = {"GlobalMaxPool", "GlobalAveragePool", "ReduceL2"};
    kln_layer layer;
    kln_layer_begin_kind(&layer, network, __func__, name, KLN_NAMES(names), (size_t)kind,
                         "kiln_pooling");
    kln_layer_input(&layer, input);
    if (kind == KILN_POOLING_LP) {
        put_norm(&layer, input);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_lrn(kiln_network *network, const char *name, kiln_tensor_id input,
                                 int64_t size, float alpha, float beta, float bias,
                                 kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "LRN", input);
    kln_layer_int(&layer, "size", size);
    kln_layer_float(&layer, "alpha", alpha);
    kln_layer_float(&layer, "beta", beta);
    kln_layer_float(&layer, "bias", bias);
    return kln_layer_finish_one(&layer, output);
}

static void put_resize_modes(kln_layer *layer, const kiln_resize_options *options)
{
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    static const char *const coordinates[] = {"half_pixel", "pytorch_half_pixel", "align_corners",
                                              "asymmetric"};
    static const char *const nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                          "ceil"};
    kln_layer_choice(layer, "mode", "mode", KLN_NAMES(modes), (size_t)options->mode,
                     "kiln_resize_mode");
    kln_layer_choice(layer, "coordinate_transformation_mode", "coordinates", KLN_NAMES(coordinates),
                     (size_t)options->coordinates, "kiln_coordinates");
    kln_layer_need(layer, (size_t)options->nearest < KLN_ARRAY_LENGTH(nearest),
                   "nearest is %d, which is none of kiln_nearest", (int)options->nearest);
    if (options->mode == KILN_RESIZE_NEAREST && layer->status == KILN_OK) {
        kln_layer_string(layer, "nearest_mode", nearest[options->nearest]);
    }
    if (options->mode == KILN_RESIZE_CUBIC && options->cubic_coefficient < 0.0F) {
        kln_layer_float(layer, "cubic_coeff_a", options->cubic_coefficient);
    }
    if (options->antialias && options->mode != KILN_RESIZE_NEAREST) {
        kln_layer_int(layer, "antialias", 1);
    }
}

kiln_status kiln_network_add_resize(kiln_network *network, const char *name, kiln_tensor_id input,
                                    const kiln_resize_options *options, kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(options);
    kln_layer layer;
    kiln_resize_options read = KILN_RESIZE_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_resize_options", options, &read, sizeof read));
    kln_layer_begin(&layer, network, __func__, name, "Resize");
    kln_layer_need(&layer, read.rank >= 1 && read.rank <= KILN_MAX_RANK,
                   "rank is %d; 1 to 8 is possible", (int)read.rank);
    kln_layer_input(&layer, input);
    kln_layer_optional(&layer, KILN_NO_TENSOR); /* roi */
    if (layer.status == KILN_OK) {
        if (read.by_size) {
            kln_layer_optional(&layer, KILN_NO_TENSOR);
            kln_layer_input_ints(&layer, "sizes", read.sizes, (size_t)read.rank, false);
        } else {
            kln_layer_input_floats(&layer, "scales", read.scales, (size_t)read.rank, false);
        }
        put_resize_modes(&layer, &read);
    }
    return kln_layer_finish_one(&layer, output);
}
