/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in four bits: blocks along the axis that is summed over, each with a scale and, if the
 * format has them, a zero point. */
#include <math.h>

#include "quantize_blocks.h"
#include "quantize_fit.h"

/* LEAST_WEIGHT is the weight of an input that was always zero, relative to the mean: four bits are
 * few, and a scale fitted to the observed inputs alone loses the others. RIDGE is added to the
 * diagonal, relative to its mean, when rounding errors compensate each other. */
#define LEAST_WEIGHT 0.3F
#define RIDGE 0.05

#define SCALES 32
/* Zero points tried on either side of the one that the minimum and maximum give. */
#define ZEROS 2

#define WIDE KLN_CLONES("avx512f", "avx2", "default")
#define LANES 16

/* A weight is `scale` times an integer from `least` to `most`, from which the zero point has been
 * subtracted. */
typedef struct block_steps {
    float scale, least, most;
} block_steps;

typedef struct block_numbers {
    const float *numbers, *weights; /* importance of each; NULL: all 1 */
    size_t count;
} block_numbers;

/* The weighted squared error with these steps; `*fitted` is the scale that minimizes it for the
 * same integers. */
WIDE static double block_error(const block_numbers *of, const block_steps *steps, float *fitted)
{
    float error[LANES] = {0};
    float along[LANES] = {0};
    float square[LANES] = {0};
    for (size_t first = 0; first < of->count; first += LANES) {
        const size_t count = of->count - first < LANES ? of->count - first : LANES;
        float number[LANES] = {0};
        float weight[LANES] = {0};
        for (size_t i = 0; i < count; i++) {
            number[i] = of->numbers[first + i];
            weight[i] = of->weights != NULL ? of->weights[first + i] : 1;
        }
        for (size_t i = 0; i < LANES; i++) {
            float whole = rintf(number[i] / steps->scale);
            whole = whole > steps->most ? steps->most : whole;
            whole = whole < steps->least ? steps->least : whole;
            const float difference = number[i] - whole * steps->scale;
            error[i] += weight[i] * difference * difference;
            along[i] += weight[i] * whole * number[i];
            square[i] += weight[i] * whole * whole;
        }
    }
    double sums[3] = {0};
    for (size_t i = 0; i < LANES; i++) {
        sums[0] += (double)error[i];
        sums[1] += (double)along[i];
        sums[2] += (double)square[i];
    }
    *fitted = sums[2] > 0 && sums[1] > 0 ? (float)(sums[1] / sums[2]) : steps->scale;
    return sums[0];
}

/* The scale with the least error: tries a grid of scales, and refits each for as long as the error
 * falls. `widest` is the smallest scale that clips nothing. */
static void search_scales(const block_numbers *of, float widest, block_steps steps, double *least,
                          block_steps *best)
{
    for (int step = 0; step <= SCALES; step++) {
        steps.scale = widest * (0.5F + (float)step * 0.7F / SCALES);
        float fitted = steps.scale;
        double error = block_error(of, &steps, &fitted);
        for (int turn = 0; turn < 8 && error < *least; turn++) {
            *least = error;
            *best = steps;
            steps.scale = fitted;
            error = block_error(of, &steps, &fitted);
        }
    }
}

static block_steps search_steps(const quantize_format *format, const block_numbers *of)
{
    const bool has_zeros = format->storage == KILN_DTYPE_UINT4;
    const float most = (float)format->weight;
    const float symmetric = has_zeros ? -floorf(most / 2) : -most - 1;
    block_steps best = {1, symmetric, has_zeros ? most + symmetric : most};
    double error = HUGE_VAL;
    float low = 0;
    float high = 0;
    for (size_t i = 0; i < of->count; i++) {
        low = fminf(low, of->numbers[i]);
        high = fmaxf(high, of->numbers[i]);
    }
    if (!(high - low > 0)) {
        return best;
    }
    if (!has_zeros) {
        search_scales(of, fmaxf(-low, high) / (most + 1), best, &error, &best);
        return best;
    }
    const float middle = rintf(low / (high - low) * most);
    for (int i = -ZEROS; i <= ZEROS; i++) {
        const float bottom = fmaxf(-most, fminf(0, middle + (float)i));
        const block_steps steps = {1, bottom, bottom + most};
        const float widest =
            fmaxf(bottom < 0 ? low / bottom : 0, bottom > -most ? high / (bottom + most) : 0);
        if (widest > 0) {
            search_scales(of, widest, steps, &error, &best);
        }
    }
    return best;
}

/* --- rounding --- */

typedef struct block_rows {
    const block_steps *steps; /* for each block of each row */
    size_t blocks, block;
} block_rows;

static float whole_of(const block_steps *steps, float number)
{
    return fmaxf(steps->least, fminf(steps->most, rintf(number / steps->scale)));
}

static float round_block(const quantize_fit *fit, size_t row, size_t index, float number)
{
    const block_rows *rows = fit->user;
    const block_steps *steps = &rows->steps[row * rows->blocks + index / rows->block];
    return whole_of(steps, number) * steps->scale;
}

/* Second moments of the inputs, without the row and column of the constant 1. `*moments` and
 * `*diagonal` are NULL if nothing is known. */
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

/* --- output --- */

static void put_nibble(unsigned char *to, size_t index, float whole)
{
    to[index / 2] |= (unsigned char)(((unsigned)lrintf(whole) & 0xfU) << (index % 2 == 0 ? 0 : 4));
}

static size_t place_of(const quantize_view *view, size_t size, size_t row, size_t at)
{
    return (row / view->inner * size + at) * view->inner + row % view->inner;
}

static void put_row(const quantize_blocks *of, const block_rows *rows, size_t row,
                    const float *numbers)
{
    const float offset = of->format->storage == KILN_DTYPE_UINT4 ? 1 : 0;
    const block_steps *steps = rows->steps + row * rows->blocks;
    for (size_t b = 0; b < rows->blocks; b++) {
        const size_t place = place_of(&of->view, rows->blocks, row, b);
        of->scales[place] = steps[b].scale;
        if (of->zeros != NULL) {
            put_nibble(of->zeros, place, -offset * steps[b].least);
        }
    }
    for (size_t k = 0; k < of->view.size; k++) {
        const block_steps *by = &steps[k / rows->block];
        put_nibble(of->to, place_of(&of->view, of->view.size, row, k),
                   whole_of(by, numbers[k]) - offset * by->least);
    }
}

static void take_row(const quantize_view *view, size_t row, float *numbers)
{
    for (size_t k = 0; k < view->size; k++) {
        numbers[k] = quantize_number_at(view, row / view->inner, k, row % view->inner);
    }
}

kiln_status quantize_fill_blocks(const quantize_blocks *of)
{
    const size_t size = of->view.size;
    const size_t rows = of->view.outer * of->view.inner;
    const size_t blocks = (size + of->block - 1) / of->block;
    double *moments = NULL;
    float *diagonal = NULL;
    float *numbers = kln_alloc(rows * size * sizeof *numbers + 1);
    block_steps *steps = kln_alloc(rows * blocks * sizeof *steps + 1);
    kiln_status status = numbers != NULL && steps != NULL
                             ? read_moments(of->products, size, &moments, &diagonal)
                             : kln_fail_memory(rows * size * sizeof *numbers, "blocks of weights");
    lift_diagonal(diagonal, size);
    for (size_t row = 0; status == KILN_OK && row < rows; row++) {
        take_row(&of->view, row, numbers + row * size);
        for (size_t b = 0; b < blocks; b++) {
            const size_t first = b * of->block;
            const block_numbers in = {numbers + row * size + first,
                                      diagonal != NULL ? diagonal + first : NULL,
                                      size - first < of->block ? size - first : of->block};
            steps[row * blocks + b] = search_steps(of->format, &in);
        }
    }
    const block_rows by = {steps, blocks, of->block};
    if (status == KILN_OK && moments != NULL) {
        const quantize_fit fit = {moments, size,        0,  of->products->count, RIDGE, numbers,
                                  rows,    round_block, &by};
        status = quantize_fit_round(&fit);
    }
    for (size_t row = 0; status == KILN_OK && row < rows; row++) {
        put_row(of, &by, row, numbers + row * size);
    }
    kln_free(steps);
    kln_free(numbers);
    kln_free(diagonal);
    kln_free(moments);
    return status;
}
