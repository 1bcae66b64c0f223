/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_rows.h"

/* --- sums --- */

const double ref_magnitudes[REF_BESIDE] = {0};

#define COLUMNS 64 /* of some rows at a time */
#define FEWEST_ROWS 4

/* Adds `n` columns of REF_BESIDE terms each. */
REF_WIDE static void add_columns(const float *from, int64_t n, double sums[REF_BESIDE])
{
    double s[REF_BESIDE];
    memcpy(s, sums, sizeof s);
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < REF_BESIDE; k++) {
            s[k] += (double)from[i * REF_BESIDE + k];
        }
    }
    memcpy(sums, s, sizeof s);
}

REF_WIDE static void add_magnitudes(const float *from, int64_t n, double sums[REF_BESIDE])
{
    double s[REF_BESIDE];
    memcpy(s, sums, sizeof s);
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < REF_BESIDE; k++) {
            s[k] += fabs((double)from[i * REF_BESIDE + k]);
        }
    }
    memcpy(sums, s, sizeof s);
}

REF_WIDE static void add_squares(const float *from, int64_t n, const double means[REF_BESIDE],
                                 double sums[REF_BESIDE])
{
    double s[REF_BESIDE];
    double m[REF_BESIDE];
    memcpy(s, sums, sizeof s);
    memcpy(m, means, sizeof m);
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < REF_BESIDE; k++) {
            const double rest = (double)from[i * REF_BESIDE + k] - m[k];
            s[k] += rest * rest;
        }
    }
    memcpy(sums, s, sizeof s);
}

static void sum_beside(const float *x, int64_t stride, int64_t rows, int64_t n, const double *means,
                       double sums[REF_BESIDE])
{
    float turned[COLUMNS * REF_BESIDE] = {0};
    for (int64_t i = 0; i < n; i += COLUMNS) {
        const int64_t count = n - i < COLUMNS ? n - i : COLUMNS;
        ref_turn_floats(count, rows, x + i, stride, turned, REF_BESIDE);
        if (means == REF_MAGNITUDES) {
            add_magnitudes(turned, count, sums);
        } else if (means != NULL) {
            add_squares(turned, count, means, sums);
        } else {
            add_columns(turned, count, sums);
        }
    }
}

void ref_sum_rows(const ref_tensor *x, int64_t start, int64_t stride, int64_t rows, int64_t n,
                  const double *means, double sums[REF_BESIDE])
{
    memset(sums, 0, REF_BESIDE * sizeof *sums);
    if (rows >= FEWEST_ROWS && x->dtype == KILN_DTYPE_FLOAT32) {
        sum_beside((const float *)x->data + start, stride, rows, n, means, sums);
        return;
    }
    double chunk[REF_CHUNK];
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i += REF_CHUNK) {
            const int64_t count = n - i < REF_CHUNK ? n - i : REF_CHUNK;
            ref_load_float(x, start + r * stride + i, 1, count, chunk);
            for (int64_t k = 0; k < count; k++) {
                const double rest = means != NULL ? chunk[k] - means[r] : 0.0;
                sums[r] += means == REF_MAGNITUDES ? fabs(rest)
                           : means != NULL         ? rest * rest
                                                   : chunk[k];
            }
        }
    }
}

/* --- extremes --- */

#define LANES 64

/* Whether there is a NaN among some floats; `beats` says which of two is kept. */
#define DEFINE_EXTREME(name, beats)                                                \
    REF_WIDE static bool name(const float *x, int64_t n, float *extreme)           \
    {                                                                              \
        float best[LANES];                                                         \
        int32_t odd[LANES] = {0};                                                  \
        const int64_t whole = n - n % LANES;                                       \
        for (int k = 0; k < LANES; k++) {                                          \
            best[k] = x[0];                                                        \
        }                                                                          \
        for (int64_t i = 0; i < whole; i += LANES) {                               \
            for (int k = 0; k < LANES; k++) {                                      \
                const float v = x[i + k];                                          \
                best[k] = v beats best[k] ? v : best[k];                           \
                odd[k] |= v != v;                                                  \
            }                                                                      \
        }                                                                          \
        for (int64_t i = whole; i < n; i++) {                                      \
            best[i - whole] = x[i] beats best[i - whole] ? x[i] : best[i - whole]; \
            odd[i - whole] |= x[i] != x[i];                                        \
        }                                                                          \
        for (int half = LANES / 2; half > 0; half /= 2) {                          \
            for (int k = 0; k < half; k++) {                                       \
                best[k] = best[k + half] beats best[k] ? best[k + half] : best[k]; \
                odd[k] |= odd[k + half];                                           \
            }                                                                      \
        }                                                                          \
        *extreme = best[0];                                                        \
        return odd[0] != 0;                                                        \
    }
DEFINE_EXTREME(find_greatest, >)
DEFINE_EXTREME(find_least, <)

bool ref_find_extreme(const float *x, int64_t n, bool most, float *extreme)
{
    return !(most ? find_greatest(x, n, extreme) : find_least(x, n, extreme));
}

#define SEARCHED 128 /* at once */

/* Where among SEARCHED floats the first of `value` is; SEARCHED: nowhere. */
REF_WIDE static int32_t place_among(const float *x, float value)
{
    int32_t first = SEARCHED;
    for (int32_t k = 0; k < SEARCHED; k++) {
        const int32_t place = x[k] == value ? k : SEARCHED;
        first = place < first ? place : first;
    }
    return first;
}

int64_t ref_find_equal(const float *x, int64_t n, float value)
{
    int64_t i = 0;
    for (; i + SEARCHED <= n; i += SEARCHED) {
        const int32_t place = place_among(x + i, value);
        if (place < SEARCHED) {
            return i + place;
        }
    }
    while (x[i] != value) {
        i++;
    }
    return i;
}
