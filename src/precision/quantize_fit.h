/* SPDX-License-Identifier: Apache-2.0 */
/* Rounding by least squares. Private to this module. */
#ifndef QUANTIZE_FIT_H
#define QUANTIZE_FIT_H

#include "quantize_parts.h"

typedef struct quantize_fit quantize_fit;

struct quantize_fit {
    const double *moments; /* `size` times `size`, symmetric */
    size_t size;
    size_t fixed;     /* so many of the first numbers are rounded before all others */
    uint64_t samples; /* that the moments are of */
    double ridge;     /* by the mean, is added to the moment of each number with itself */
    float *weights;   /* rows of `size`, which become rounded ones */
    size_t rows;
    /* The number that may stand there and is nearest. */
    float (*round)(const quantize_fit *fit, size_t row, size_t index, float number);
    const void *user;
};

/* A row that simple rounding serves better, by the moments, is rounded simply. OUT_OF_MEMORY.
 * (quantize_fit.c) */
KILN_MUST_CHECK kiln_status quantize_fit_round(const quantize_fit *fit);

#endif
