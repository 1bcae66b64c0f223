/* SPDX-License-Identifier: Apache-2.0 */
/* Fast Fourier transforms in double, whose distance from a sum by the definition is known. */
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
    int64_t beside; /* 1 or REF_FOURIER_ROWS */
    bool inverse;   /* without the factor of 1/n */
    /* A result differs from the true sum, and that from one by roots of rounded angles, by less
     * than this times 2^-53 times the sum of the magnitudes of real and imaginary parts. */
    double units;
    double *roots; /* n cosines, n sines */
    ref_points room[2];
} ref_fourier;

/* Whether stages of n points are few enough operations: a large prime is by the definition. */
bool ref_fourier_pays(int64_t n);
/* Doubles that ref_fourier_make needs as `room`. */
int64_t ref_fourier_room(int64_t n, int64_t beside);
void ref_fourier_make(ref_fourier *f, int64_t n, int64_t beside, bool inverse, double *room);
/* The transform of `x`, which is left as it is; valid until the next one. */
ref_points ref_fourier_transform(const ref_fourier *f, ref_points x);

#endif
