/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rounds weights so that the sums they enter change least, given the second moments of their
 * inputs: each weight makes up for the rounding errors before it, as in "GPTQ"
 * (https://arxiv.org/abs/2210.17323). With H = R R' of an upper triangular R, the error d' H d is
 * the squared norm of R' d, whose element i depends only on its own difference and those before it.
 * This is Babai's nearest plane algorithm ("The Geometry of LLM Quantization",
 * https://arxiv.org/abs/2507.18553).
 */
#include <math.h>

#include "quantize_fit.h"

/* Rows that are rounded together, interleaved. */
#define LANES 16

#define WIDE KLN_CLONES("avx512f", "avx2", "default")

/* Moments of few samples overstate correlations. The share by which the off-diagonal ones shrink is
 * from "Shrinkage Algorithms for MMSE Covariance Estimation" (https://arxiv.org/abs/0907.4698,
 * equation 23). */
static double shrinkage(const double *moments, size_t size, uint64_t samples)
{
    double trace = 0;
    double squares = 0;
    for (size_t i = 0; i < size; i++) {
        trace += moments[i * size + i];
        for (size_t k = 0; k < size; k++) {
            squares += moments[i * size + k] * moments[i * size + k];
        }
    }
    const double apart = squares - trace * trace / (double)size;
    return apart > 0 ? fmin(1, (squares + trace * trace) / (((double)samples + 1) * apart)) : 0;
}

/* Replaces the upper triangle by R'; rounding goes from its last row to its first. */
static bool factorize(double *a, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        for (size_t k = i; k < size; k++) {
            double sum = a[i * size + k];
            for (size_t j = 0; j < i; j++) {
                sum -= a[j * size + i] * a[j * size + k];
            }
            if (k == i) {
                if (!(sum > 0)) {
                    return false;
                }
                a[i * size + i] = sqrt(sum);
            } else {
                a[i * size + k] = sum / a[i * size + i];
            }
        }
    }
    return true;
}

/* What the differences so far contribute to the next sum. */
WIDE static void sum_lanes(const double *factors, const double *differences, size_t from,
                           size_t size, double *to)
{
    double sums[LANES] = {0};
    for (size_t b = from; b < size; b++) {
        for (size_t lane = 0; lane < LANES; lane++) {
            sums[lane] += factors[b] * differences[b * LANES + lane];
        }
    }
    memcpy(to, sums, sizeof sums);
}

/* Orders by second moment, largest last, because rounding starts at the end. */
static void order_by_weight(const quantize_fit *fit, uint32_t *order)
{
    for (size_t i = 0; i < fit->size; i++) {
        order[i] = (uint32_t)i;
    }
    const size_t count = fit->size - fit->fixed;
    uint32_t *from = order + fit->fixed;
    for (size_t gap = count / 2; gap > 0; gap /= 2) { /* Shell sort: qsort passes no context */
        for (size_t i = gap; i < count; i++) {
            const uint32_t moved = from[i];
            const double weight = fit->moments[moved * fit->size + moved];
            size_t at = i;
            while (at >= gap &&
                   fit->moments[from[at - gap] * fit->size + from[at - gap]] < weight) {
                from[at] = from[at - gap];
                at -= gap;
            }
            from[at] = moved;
        }
    }
    for (size_t i = 0; i < fit->size / 2; i++) {
        const uint32_t other = order[fit->size - 1 - i];
        order[fit->size - 1 - i] = order[i];
        order[i] = other;
    }
}

static void arrange(const quantize_fit *fit, const uint32_t *order, double *factors)
{
    const size_t n = fit->size;
    const double left = 1 - shrinkage(fit->moments, n, fit->samples);
    double ridge = 0;
    for (size_t i = fit->fixed; i < n; i++) {
        ridge += fit->ridge * fit->moments[i * n + i] / (double)(n - fit->fixed);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            const double moment = fit->moments[order[i] * n + order[k]];
            factors[i * n + k] = i == k ? moment + ridge : moment * left;
        }
    }
}

/* Rounds one panel of rows. A row keeps plain rounding if that has the smaller error. */
static void round_panel(const quantize_fit *fit, const double *factors, const uint32_t *order,
                        size_t first, double *room)
{
    const size_t n = fit->size;
    const size_t rows = fit->rows - first < LANES ? fit->rows - first : LANES;
    double *fitted = room;
    double *plain = room + n * LANES;
    double costs[2][LANES] = {{0}};
    memset(room, 0, 2 * n * LANES * sizeof *room);
    for (size_t a = n; a-- > 0;) {
        const double *line = factors + a * n;
        double sums[2][LANES];
        sum_lanes(line, fitted, a + 1, n, sums[0]);
        sum_lanes(line, plain, a + 1, n, sums[1]);
        for (size_t r = 0; r < rows; r++) {
            const size_t row = first + r;
            const double weight = (double)fit->weights[row * n + order[a]];
            const double wanted = weight + sums[0][r] / line[a];
            fitted[a * LANES + r] = weight - (double)fit->round(fit, row, order[a], (float)wanted);
            plain[a * LANES + r] = weight - (double)fit->round(fit, row, order[a], (float)weight);
            const double errors[2] = {sums[0][r] + line[a] * fitted[a * LANES + r],
                                      sums[1][r] + line[a] * plain[a * LANES + r]};
            costs[0][r] += errors[0] * errors[0];
            costs[1][r] += errors[1] * errors[1];
        }
    }
    for (size_t a = 0; a < n; a++) {
        for (size_t r = 0; r < rows; r++) {
            float *weight = &fit->weights[(first + r) * n + order[a]];
            const double *taken = costs[0][r] <= costs[1][r] ? fitted : plain;
            *weight = (float)((double)*weight - taken[a * LANES + r]);
        }
    }
}

kiln_status quantize_fit_round(const quantize_fit *fit)
{
    const size_t n = fit->size;
    KLN_SCOPED_FREE uint32_t *order = kln_alloc_zeroed(n, sizeof *order);
    KLN_SCOPED_FREE double *factors = kln_alloc_zeroed(n * n, sizeof *factors);
    KLN_SCOPED_FREE double *room = kln_alloc_zeroed(2 * n * LANES, sizeof *room);
    KLN_RETURN_IF_ERROR(order != NULL && factors != NULL && room != NULL
                            ? KILN_OK
                            : kln_fail_memory(n * n * sizeof *factors, "weights that are fitted"));
    order_by_weight(fit, order);
    arrange(fit, order, factors);
    /* If every observed input was zero, any rounding will do. */
    const size_t rows = factorize(factors, n) ? fit->rows : 0;
    for (size_t row = 0; row < rows; row += LANES) {
        round_panel(fit, factors, order, row, room);
    }
    return KILN_OK;
}
