/* SPDX-License-Identifier: Apache-2.0 */
/* If the moments of their inputs are known, weights are already rounded here, before they are
 * quantized: quantization then finds them on its grid. */
#include <math.h>

#include "quantize_fit.h"
#include "smooth_parts.h"

#define RIDGE 1e-4

/* A channel's largest weight is left as it is: it defines the scale, which quantization has to find
 * again. */
typedef struct fitted_row {
    float scale, largest;
    size_t at;
} fitted_row;

typedef struct fitted_rows {
    const quantize_format *format;
    const fitted_row *rows;
} fitted_rows;

static float round_weight(const quantize_fit *fit, size_t row, size_t index, float number)
{
    const fitted_rows *rows = fit->user;
    const fitted_row *of = &rows->rows[row];
    return index == of->at ? of->largest : quantize_round(rows->format, number, of->scale);
}

static bool is_half(const quantize_format *format)
{
    return format->storage == KILN_DTYPE_FLOAT16 || format->storage == KILN_DTYPE_BFLOAT16;
}

/* The state for rounding one group of a node. */
typedef struct group_fit {
    smooth_pass *pass;
    smooth_node *node;
    double *moments;  /* of 1 and the summed inputs */
    double *centered; /* the same about the means */
    float *weights;
    fitted_row *rows;
    size_t size, row_count;
    bool has_bias; /* absorbs the mean error or, in a half type, is rounded first */
} group_fit;

/* Adapts the moments to the channels' new scales and shifts. */
static void even_out_moments(const group_fit *of, size_t group)
{
    const smooth_node *node = of->node;
    const size_t n = of->size + 1;
    const size_t elements = node->products->patch.elements;
    double *m = of->moments;
    for (size_t i = n; node->scale != NULL && i-- > 0;) {
        const size_t c = group * node->ins + (i == 0 ? 0 : (i - 1) / elements);
        const double scale = i == 0 ? 1 : (double)node->scale[c];
        const double shift = i == 0 || node->shift == NULL ? 0 : (double)node->shift[c];
        /* Row and column i of (x - shift) / scale, from the moments of x. */
        for (size_t k = 0; k < n; k++) {
            if (k != i) {
                m[i * n + k] = m[k * n + i] = (m[i * n + k] - shift * m[k]) / scale;
            } else {
                m[i * n + i] = (m[i * n + i] - 2 * shift * m[i] + shift * shift) / scale / scale;
            }
        }
    }
}

static size_t weight_at(const smooth_node *node, size_t out, size_t index)
{
    return node->out_stride == 1 ? index * node->outs + out : out * node->out_stride + index;
}

static void take_rows(const group_fit *of, size_t group, size_t fixed)
{
    const smooth_node *node = of->node;
    for (size_t r = 0; r < of->row_count; r++) {
        const size_t out = group * of->row_count + r;
        float *row = of->weights + r * (of->size + fixed);
        fitted_row *to = &of->rows[r];
        *to = (fitted_row){.at = SIZE_MAX};
        row[0] = fixed != 0 ? node->bias[out] : 0;
        float most = 0;
        for (size_t i = 0; i < of->size; i++) {
            const float weight = node->weights[weight_at(node, out, i)];
            row[fixed + i] = weight;
            to->at = fabsf(weight) > most ? fixed + i : to->at;
            most = fmaxf(most, fabsf(weight));
        }
        to->scale = quantize_channel_scale(of->pass->format, most);
        if (is_half(of->pass->format) || to->at == SIZE_MAX) {
            to->at = SIZE_MAX;
        } else {
            to->largest = row[to->at];
        }
    }
}

/* Stores the rounded weights and bias. A bias that stays float32 absorbs the mean error. */
static void put_rows(const group_fit *of, size_t group, size_t fixed)
{
    smooth_node *node = of->node;
    for (size_t r = 0; r < of->row_count; r++) {
        const size_t out = group * of->row_count + r;
        const float *row = of->weights + r * (of->size + fixed);
        double change = 0;
        for (size_t i = 0; i < of->size; i++) {
            float *weight = &node->weights[weight_at(node, out, i)];
            change += ((double)row[fixed + i] - (double)*weight) * of->moments[i + 1];
            *weight = row[fixed + i];
        }
        if (fixed != 0) {
            node->bias[out] = row[0];
        } else if (of->has_bias) {
            node->bias[out] = (float)((double)node->bias[out] - change);
        }
    }
}

static kiln_status fit_group(const group_fit *of, size_t group)
{
    const size_t n = of->size + 1;
    const bool rounds_bias = of->has_bias && is_half(of->pass->format);
    const size_t fixed = rounds_bias ? 1 : 0;
    if (!kln_products_read(of->node->products, group, of->moments)) {
        return KILN_OK;
    }
    even_out_moments(of, group);
    for (size_t i = 0; !rounds_bias && i < of->size; i++) {
        for (size_t k = 0; k < of->size; k++) {
            const double means = of->has_bias ? of->moments[i + 1] * of->moments[k + 1] : 0;
            of->centered[i * of->size + k] = of->moments[(i + 1) * n + k + 1] - means;
        }
    }
    take_rows(of, group, fixed);
    const fitted_rows rows = {of->pass->format, of->rows};
    const quantize_fit fit = {.moments = rounds_bias ? of->moments : of->centered,
                              .size = of->size + fixed,
                              .fixed = fixed,
                              .samples = of->node->products->count,
                              .ridge = RIDGE,
                              .weights = of->weights,
                              .rows = of->row_count,
                              .round = round_weight,
                              .user = &rows};
    KLN_RETURN_IF_ERROR(quantize_fit_round(&fit));
    put_rows(of, group, fixed);
    return KILN_OK;
}

kiln_status smooth_fit(smooth_pass *pass, size_t index)
{
    smooth_node *node = &pass->nodes[index];
    const size_t groups = node->products->patch.groups;
    group_fit of = {.pass = pass,
                    .node = node,
                    .size = node->products->size - 1,
                    .row_count = node->outs / groups};
    const size_t n = of.size + 1;
    const bool has_one = smooth_has_bias(pass, index);
    of.has_bias = node->takes_bias && (has_one || !is_half(pass->format));
    KLN_RETURN_IF_ERROR(smooth_own(pass, index));
    KLN_RETURN_IF_ERROR(of.has_bias ? smooth_own_bias(pass, index) : KILN_OK);
    of.moments = kln_alloc_zeroed(n * n, sizeof *of.moments);
    of.centered = kln_alloc_zeroed(n * n, sizeof *of.centered);
    of.weights = kln_alloc_zeroed(of.row_count * n, sizeof *of.weights);
    of.rows = kln_alloc_zeroed(of.row_count, sizeof *of.rows);
    const bool has_room =
        of.moments != NULL && of.centered != NULL && of.weights != NULL && of.rows != NULL;
    kiln_status status = has_room ? KILN_OK : smooth_no_memory();
    for (size_t g = 0; has_room && status == KILN_OK && g < groups; g++) {
        status = fit_group(&of, g);
    }
    kln_free(of.rows);
    kln_free(of.weights);
    kln_free(of.centered);
    kln_free(of.moments);
    return status;
}
