/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the factors of the channels. */
#include <math.h>

#include "smooth_parts.h"

/* A channel counts as at least this share of the largest one. If it were scaled up further, values
 * that were not observed would be clipped. */
#define LEAST_PART 1e-3
/* For large weights only this many output channels are sampled. */
#define MOST_OUTS 256
#define STEPS 10

typedef struct estimate {
    const smooth_pass *pass;
    const uint32_t *readers;
    size_t reader_count, channels;
    float **tables; /* for each reader: largest weight magnitude, by output row and input channel */
    double *reach;  /* largest magnitude of a channel, shifted or not */
    double *spread; /* its variance: the bias corrects the mean's share */
    double *widest,
        *squares; /* of the weights that multiply it: largest magnitude, sum of squares */
    double *factors, *best;
} estimate;

static size_t step_of(const smooth_node *node)
{
    return node->outs <= MOST_OUTS ? 1 : node->outs / MOST_OUTS;
}

static size_t rows_of(const smooth_node *node)
{
    return node->outs / step_of(node);
}

/* The error in a reader's output that rounding its weights causes. */
static double weight_error(const estimate *of, size_t reader, const double *factors)
{
    const smooth_node *node = &of->pass->nodes[of->readers[reader]];
    const double most = of->pass->format->weight;
    const size_t rows = rows_of(node);
    const size_t elements = node->count / node->outs / node->ins;
    const double window = (double)elements;
    double sum = 0;
    double through = 0;
    size_t of_group = SIZE_MAX;
    for (size_t row = 0; row < rows; row++) {
        const size_t group = row * step_of(node) / (node->outs / node->groups);
        const float *table = of->tables[reader] + row * node->ins;
        const size_t first = group * node->ins;
        double largest = 0;
        for (size_t k = 0; k < node->ins; k++) {
            largest = fmax(largest, (double)table[k] * factors[first + k]);
        }
        for (size_t k = 0; group != of_group && k < node->ins; k++) {
            through = (k == 0 ? 0 : through) +
                      of->spread[first + k] / (factors[first + k] * factors[first + k]);
        }
        of_group = group;
        sum += largest * largest / (most * most) * through * window;
    }
    return sum * (double)node->outs / (double)rows;
}

/* The expected squared error of the readers' outputs, if rounding errors are independent and
 * uniform: a step of d has a variance of d * d / 12. The tensor's error is multiplied by the
 * weights, the weights' error by the tensor. */
static double error_of(const estimate *of, const double *factors)
{
    double widest = 0;
    double sum = 0;
    for (size_t c = 0; c < of->channels; c++) {
        widest = fmax(widest, of->reach[c] / factors[c]);
    }
    const double step = widest / of->pass->format->most;
    for (size_t c = 0; c < of->channels; c++) {
        sum += step * step * factors[c] * factors[c] * of->squares[c];
    }
    for (size_t r = 0; r < of->reader_count; r++) {
        sum += weight_error(of, r, factors);
    }
    return sum / 12;
}

static void look_at_weights(const estimate *of, size_t reader)
{
    const smooth_node *node = &of->pass->nodes[of->readers[reader]];
    const size_t step = step_of(node);
    const size_t rows = rows_of(node);
    for (size_t i = 0; i < node->count; i++) {
        const size_t o = i / node->out_stride % node->outs;
        const size_t k = i / node->in_stride % node->ins;
        const size_t c = smooth_channel(node, i);
        const double number = (double)node->weights[i];
        of->widest[c] = fmax(of->widest[c], fabs(number));
        of->squares[c] += number * number;
        if (o % step == 0 && o / step < rows) {
            float *entry = &of->tables[reader][o / step * node->ins + k];
            *entry = fmaxf(*entry, fabsf(node->weights[i]));
        }
    }
}

static double largest_of(const double *numbers, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, numbers[i]);
    }
    return largest;
}

/* Interpolates between evening out the tensor, at `part` 1, and evening out the weights, at 0. */
static bool fill_factors(const estimate *of, double part, bool by_spread, bool by_squares)
{
    const double *x = by_spread ? of->spread : of->reach;
    const double *w = by_squares ? of->squares : of->widest;
    const double least_x =
        largest_of(x, of->channels) * (by_spread ? LEAST_PART * LEAST_PART : LEAST_PART);
    const double least_w =
        largest_of(w, of->channels) * (by_squares ? LEAST_PART * LEAST_PART : LEAST_PART);
    for (size_t c = 0; c < of->channels; c++) {
        of->factors[c] = pow(fmax(x[c], least_x), by_spread ? part / 2 : part) /
                         pow(fmax(w[c], least_w), by_squares ? (1 - part) / 2 : 1 - part);
    }
    const double largest = largest_of(of->factors, of->channels);
    for (size_t c = 0; c < of->channels; c++) {
        of->factors[c] = fmax(of->factors[c] / largest, LEAST_PART);
    }
    return largest > 0 && isfinite(largest) && least_x > 0 && least_w > 0;
}

/* Returns the least error; `of->best` are its factors. */
static double search(estimate *of)
{
    for (size_t c = 0; c < of->channels; c++) {
        of->best[c] = 1;
    }
    double least = error_of(of, of->best);
    for (int kind = 0; kind < 4; kind++) {
        for (int step = 0; step <= STEPS; step++) {
            if (!fill_factors(of, (double)step / STEPS, (kind & 1) != 0, (kind & 2) != 0)) {
                continue;
            }
            const double error = error_of(of, of->factors);
            if (error < least) {
                least = error;
                memcpy(of->best, of->factors, of->channels * sizeof *of->best);
            }
        }
    }
    return least;
}

static void set_reach(estimate *of, const kiln_range *range, bool moved)
{
    for (size_t c = 0; c < of->channels; c++) {
        const kiln_channel *channel = &range->channels[c];
        of->reach[c] = moved ? (channel->greatest - channel->least) / 2
                             : fmax(fabs(channel->least), fabs(channel->greatest));
    }
    const double least = largest_of(of->reach, of->channels) * LEAST_PART;
    for (size_t c = 0; c < of->channels; c++) {
        of->reach[c] = fmax(of->reach[c], least);
    }
}

static double gain_of(double before, double after)
{
    return after > 0 && before > after ? 10 * log10(before / after) : 0;
}

static float *factors_of(const estimate *of)
{
    float *made = kln_arena_alloc(of->pass->arena, of->channels * sizeof *made);
    for (size_t c = 0; made != NULL && c < of->channels; c++) {
        made[c] = (float)of->best[c];
    }
    return made;
}

static bool may_move(const smooth_pass *pass, const uint32_t *readers, size_t count)
{
    bool may = true;
    for (size_t r = 0; r < count; r++) {
        const smooth_node *node = &pass->nodes[readers[r]];
        may = may && !node->is_padded && node->takes_bias;
    }
    return may;
}

static kiln_status choose(estimate *of, smooth_value *value)
{
    const kiln_range *range = value->range;
    for (size_t r = 0; r < of->reader_count; r++) {
        look_at_weights(of, r);
    }
    set_reach(of, range, false);
    for (size_t c = 0; c < of->channels; c++) {
        of->spread[c] = range->channels[c].deviation * range->channels[c].deviation;
        of->factors[c] = 1;
    }
    const double before = error_of(of, of->factors);
    const double after = search(of);
    value->plain_gain = value->gain = gain_of(before, after);
    value->scale = value->plain_scale = factors_of(of);
    if (value->scale != NULL && may_move(of->pass, of->readers, of->reader_count)) {
        set_reach(of, range, true);
        const double moved = search(of);
        if (moved < after) {
            value->gain = gain_of(before, moved);
            value->scale = factors_of(of);
            value->shift = kln_arena_alloc(of->pass->arena, of->channels * sizeof(float));
            for (size_t c = 0; value->shift != NULL && c < of->channels; c++) {
                value->shift[c] =
                    (float)((range->channels[c].least + range->channels[c].greatest) / 2);
            }
            return value->scale != NULL && value->shift != NULL
                       ? KILN_OK
                       : kln_fail_memory(of->channels * sizeof(float), "factors of channels");
        }
    }
    return value->scale != NULL
               ? KILN_OK
               : kln_fail_memory(of->channels * sizeof(float), "factors of channels");
}

kiln_status smooth_choose(const smooth_pass *pass, const uint32_t *readers, size_t count,
                          smooth_value *value)
{
    const size_t channels = value->channels;
    size_t entries = 0;
    for (size_t r = 0; r < count; r++) {
        entries += rows_of(&pass->nodes[readers[r]]) * pass->nodes[readers[r]].ins;
    }
    KLN_SCOPED_FREE double *numbers = kln_alloc_zeroed(6 * channels, sizeof *numbers);
    KLN_SCOPED_FREE float **tables = kln_alloc_zeroed(count, sizeof *tables);
    KLN_SCOPED_FREE float *table = kln_alloc_zeroed(entries, sizeof *table);
    KLN_FAIL_IF(numbers == NULL || tables == NULL || table == NULL,
                kln_fail_memory(6 * channels * sizeof *numbers, "factors of channels"));
    estimate of = {.pass = pass,
                   .readers = readers,
                   .reader_count = count,
                   .channels = channels,
                   .tables = tables,
                   .reach = numbers,
                   .spread = numbers + channels,
                   .widest = numbers + 2 * channels,
                   .squares = numbers + 3 * channels,
                   .factors = numbers + 4 * channels,
                   .best = numbers + 5 * channels};
    tables[0] = table;
    for (size_t r = 1; r < count; r++) {
        const smooth_node *before = &pass->nodes[readers[r - 1]];
        tables[r] = tables[r - 1] + rows_of(before) * before->ins;
    }
    return choose(&of, value);
}
