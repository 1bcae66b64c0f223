/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in eight bits with a scale for each output channel, or in four with one for each block.
 */
#include <math.h>
#include <string.h>

#include "quantize_fit.h"

/* A tensor as rows: `outer` times `size` along the axis times `inner`. */
typedef struct weight_view {
    const char *data; /* may be unaligned */
    size_t outer, size, inner;
} weight_view;

static weight_view view_of(const kln_onnx_tensor *tensor, int64_t axis)
{
    weight_view view = {.data = tensor->data.data, .outer = 1, .inner = 1};
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

static float number_at(const weight_view *view, size_t outer, size_t at, size_t inner)
{
    float number;
    memcpy(&number, view->data + ((outer * view->size + at) * view->inner + inner) * sizeof number,
           sizeof number);
    return number;
}

/* Four bits go from -8 to 7, eight from -127 to 127. */
static float least_of(const quantize_format *format)
{
    return format->storage == KILN_DTYPE_INT4 ? -(float)format->most - 1 : -(float)format->most;
}

static float clipped(const quantize_format *format, float number, float scale)
{
    return scale > 0 ? fmaxf(least_of(format), fminf((float)format->most, number / scale)) : 0;
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

/* A channel of zeros may have any scale but 0. */
float quantize_channel_scale(const quantize_format *format, float largest)
{
    const bool is_half =
        format->storage == KILN_DTYPE_FLOAT16 || format->storage == KILN_DTYPE_BFLOAT16;
    return largest > 0 && !is_half ? largest / (float)format->most : 1;
}

static void put(const quantize_pass *pass, unsigned char *to, size_t index, float number,
                float scale)
{
    const float real = clipped(pass->format, number, scale);
    if (pass->format->storage == KILN_DTYPE_FLOAT8E4M3) {
        to[index] = kln_e4m3_from_float(real, true);
        return;
    }
    const int whole = (int)lrintf(real);
    if (pass->format->storage == KILN_DTYPE_INT8) {
        to[index] = (unsigned char)(signed char)whole;
    } else {
        to[index / 2] |= (unsigned char)((unsigned)(whole & 0xf) << (index % 2 == 0 ? 0 : 4));
    }
}

/* One scale for each index along the axis. */
static void fill_channels(const quantize_pass *pass, const weight_view *view, float *scales,
                          unsigned char *to)
{
    for (size_t c = 0; c < view->size; c++) {
        float most = 0;
        for (size_t o = 0; o < view->outer; o++) {
            for (size_t i = 0; i < view->inner; i++) {
                most = fmaxf(most, fabsf(number_at(view, o, c, i)));
            }
        }
        scales[c] = quantize_channel_scale(pass->format, most);
        for (size_t o = 0; o < view->outer; o++) {
            for (size_t i = 0; i < view->inner; i++) {
                const size_t index = (o * view->size + c) * view->inner + i;
                put(pass, to, index, number_at(view, o, c, i), scales[c]);
            }
        }
    }
}

/* The square error of a block by a scale, each number's as often as `weights` says (NULL: once);
 * `*fitted` is the scale that what the numbers come to would have the least with. */
static double block_error(const quantize_format *format, const float *numbers, const float *weights,
                          size_t count, float scale, float *fitted)
{
    double error = 0;
    double along = 0;
    double square = 0;
    for (size_t i = 0; i < count; i++) {
        const float whole =
            fmaxf(least_of(format), fminf((float)format->most, rintf(numbers[i] / scale)));
        const double difference = (double)numbers[i] - (double)whole * (double)scale;
        const double weight = weights != NULL ? (double)weights[i] : 1;
        error += weight * difference * difference;
        along += weight * (double)whole * (double)numbers[i];
        square += weight * (double)whole * (double)whole;
    }
    *fitted = square > 0 && along > 0 ? (float)(along / square) : scale;
    return error;
}

#define SCALES 32

/* The scale with the least error: of many, and then as long as the one that fits what numbers come
 * to is better than the one they came from. */
static float block_scale(const quantize_format *format, const float *numbers, const float *weights,
                         size_t count)
{
    float largest = 0;
    float best = 1;
    double least = HUGE_VAL;
    for (size_t i = 0; i < count; i++) {
        largest = fmaxf(largest, fabsf(numbers[i]));
    }
    if (!(largest > 0)) {
        return 1;
    }
    for (int step = 0; step <= SCALES; step++) {
        float scale = largest / ((float)format->most + 1) * (0.6F + (float)step * 0.6F / SCALES);
        float fitted = scale;
        double error = block_error(format, numbers, weights, count, scale, &fitted);
        for (int turn = 0; turn < 8 && error < least; turn++) {
            least = error;
            best = scale;
            scale = fitted;
            error = block_error(format, numbers, weights, count, scale, &fitted);
        }
    }
    return best;
}

/* --- blocks along the axis that is summed over, each with a scale --- */

/* What a number that was never seen weighs, by the mean: four bits are few, and a scale that suits
 * what was seen alone loses the rest. And what is added to all where numbers make up for each
 * other. */
#define LEAST_WEIGHT 0.3F
#define RIDGE 0.05

typedef struct block_rows {
    const quantize_format *format;
    const float *scales; /* of each block of each row */
    size_t blocks, block;
} block_rows;

static float round_block(const quantize_fit *fit, size_t row, size_t index, float number)
{
    const block_rows *rows = fit->user;
    return quantize_round(rows->format, number,
                          rows->scales[row * rows->blocks + index / rows->block]);
}

/* Products of what is summed over, without those of 1; `*moments` and the diagonal are NULL where
 * nothing is known. */
static kiln_status read_moments(const kln_products *products, size_t size, double **moments,
                                float **diagonal)
{
    const size_t n = size + 1;
    *moments = NULL;
    *diagonal = NULL;
    if (products == NULL || products->size != n || products->patch.groups != 1) {
        return KILN_OK;
    }
    *moments = kln_alloc_zeroed(n * n, sizeof **moments);
    *diagonal = kln_alloc_zeroed(n, sizeof **diagonal);
    if (*moments == NULL || *diagonal == NULL) {
        return kln_fail_memory(n * n * sizeof **moments, "what weights are multiplied by");
    }
    bool is_zero = true;
    if (!kln_products_read(products, 0, *moments)) {
        memset(*moments, 0, n * n * sizeof **moments);
    }
    for (size_t i = 0; i < size; i++) {
        (*diagonal)[i] = (float)(*moments)[(i + 1) * n + i + 1];
        is_zero = is_zero && !((*diagonal)[i] > 0);
        for (size_t k = 0; k < size; k++) {
            (*moments)[i * size + k] = (*moments)[(i + 1) * n + k + 1];
        }
    }
    if (is_zero) {
        kln_free(*moments);
        kln_free(*diagonal);
        *moments = NULL;
        *diagonal = NULL;
    }
    return KILN_OK;
}

static void lift_diagonal(float *diagonal, size_t size)
{
    float sum = 0;
    for (size_t i = 0; diagonal != NULL && i < size; i++) {
        sum += diagonal[i];
    }
    for (size_t i = 0; diagonal != NULL && i < size; i++) {
        diagonal[i] += LEAST_WEIGHT * sum / (float)size;
    }
}

static kiln_status fill_blocks(const quantize_pass *pass, const weight_view *view, size_t block,
                               const kln_products *products, float *scales, unsigned char *to)
{
    const size_t size = view->size;
    const block_rows all = {pass->format, NULL, (size + block - 1) / block, block};
    const size_t rows = view->outer * view->inner;
    double *moments = NULL;
    float *diagonal = NULL;
    float *numbers = kln_alloc(rows * size * sizeof *numbers + 1);
    float *found = kln_alloc(rows * all.blocks * sizeof *found + 1);
    kiln_status status = numbers != NULL && found != NULL
                             ? read_moments(products, size, &moments, &diagonal)
                             : kln_fail_memory(rows * size * sizeof *numbers, "blocks of weights");
    lift_diagonal(diagonal, size);
    for (size_t row = 0; status == KILN_OK && row < rows; row++) {
        for (size_t k = 0; k < size; k++) {
            numbers[row * size + k] = number_at(view, row / view->inner, k, row % view->inner);
        }
        for (size_t b = 0; b < all.blocks; b++) {
            const size_t first = b * block;
            const size_t count = size - first < block ? size - first : block;
            const float scale = block_scale(pass->format, numbers + row * size + first,
                                            diagonal != NULL ? diagonal + first : NULL, count);
            found[row * all.blocks + b] = scale;
            scales[(row / view->inner * all.blocks + b) * view->inner + row % view->inner] = scale;
        }
    }
    if (status == KILN_OK && moments != NULL) {
        const block_rows of = {all.format, found, all.blocks, block};
        const quantize_fit fit = {moments, size,        0,  products->count, RIDGE, numbers,
                                  rows,    round_block, &of};
        status = quantize_fit_round(&fit);
    }
    for (size_t i = 0; status == KILN_OK && i < rows * size; i++) {
        const size_t row = i / size;
        put(pass, to, (row / view->inner * size + i % size) * view->inner + row % view->inner,
            numbers[i], found[row * all.blocks + i % size / block]);
    }
    kln_free(found);
    kln_free(numbers);
    kln_free(diagonal);
    kln_free(moments);
    return status;
}

kiln_status quantize_weights(quantize_pass *pass, const quantize_value *value,
                             const quantize_node *node, const kln_products *products,
                             const char **name)
{
    const kln_onnx_tensor *from = value->weights;
    const bool blocked = !pass->format->activations;
    const int64_t axis = blocked ? node->depth : node->axis;
    const weight_view view = view_of(from, axis);
    const size_t block = blocked ? (size_t)pass->options->block_size : 0;
    int64_t dims[KILN_MAX_RANK];
    size_t rank = 1;
    dims[0] = (int64_t)view.size;
    if (blocked) {
        rank = from->rank;
        memcpy(dims, from->dims, rank * sizeof *dims);
        dims[axis] = (int64_t)((view.size + block - 1) / block);
    }
    kln_onnx_tensor *quantized = quantize_add_tensor(pass, value->name, pass->format->name,
                                                     pass->format->storage, from->rank, from->dims);
    kln_onnx_tensor *scales =
        quantize_add_tensor(pass, value->name, "scale", KILN_DTYPE_FLOAT32, rank, dims);
    *name = kln_arena_printf(pass->arena, "%s/dequantized", value->name);
    KLN_FAIL_IF(quantized == NULL || scales == NULL || *name == NULL,
                kln_fail_memory(from->data.size, "quantized weights"));
    float *numbers = (float *)(uintptr_t)scales->data.data;
    unsigned char *bytes = (unsigned char *)(uintptr_t)quantized->data.data;
    memset(bytes, 0, quantized->data.size);
    if (blocked) {
        KLN_RETURN_IF_ERROR(fill_blocks(pass, &view, block, products, numbers, bytes));
    } else {
        fill_channels(pass, &view, numbers, bytes);
    }
    const char *const inputs[] = {quantized->name, scales->name, NULL};
    return quantize_add_node(pass, "DequantizeLinear", inputs, *name, axis, (int64_t)block);
}
