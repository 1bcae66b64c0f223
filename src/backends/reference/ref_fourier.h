/* SPDX-License-Identifier: Apache-2.0 */
/* Fast Fourier transforms in double, of any length. Each input and each root of unity is rounded
 * about log n times, instead of n times as in a sum by the definition. */
#ifndef REF_FOURIER_H
#define REF_FOURIER_H

#include "ref_internal.h"

/* Transforms that are made side by side, where there are several. */
#define REF_FOURIER_ROWS 8

/* Complex numbers: point t of transform r is re[t * beside + r] and im[t * beside + r]. */
typedef struct ref_points {
    double *re, *im;
} ref_points;

typedef struct ref_fourier {
    int64_t n;
    int64_t m; /* points of its stages: n, or those of a convolution */
    int64_t beside;
    double *roots; /* m cosines, m sines */
    double *chirp; /* of a convolution: n cosines, n sines */
    double *spectrum;
    ref_points room[2];
} ref_fourier;

/* Doubles that ref_fourier_make needs as `room`. */
int64_t ref_fourier_room(int64_t n, int64_t beside);
void ref_fourier_make(ref_fourier *f, int64_t n, int64_t beside, double *room);
/* The transform of `x`, which is left as it is; valid until the next one. With real and imaginary
 * parts swapped in both it is the inverse one, times n. */
ref_points ref_fourier_transform(const ref_fourier *f, ref_points x);

#endif
