/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_product.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Multiplies one row by a matrix, which is read only once: packing it would cost more than the
 * product. A double represents each product exactly, so this file is compiled for fused
 * multiply-add (src/CMakeLists.txt). */

#define FUSED KLN_CLONES("fma", "default")

#define DEPTH 256
#define BESIDE 16

#define TOGETHER 4 /* rows */

/* Adds rows of floats, weighted by a, to a row of out. */
static void add_rows(int64_t width, const double *a, const float *b, int64_t stride, double *out)
{
    for (int64_t c = 0; c < width; c++) {
        for (int k = 0; k < TOGETHER; k++) {
            out[c] += a[k] * (double)b[c + k * stride];
        }
    }
}

#if defined(__x86_64__)

/* Converts four floats on load: the compiler would load eight and split them. */
__attribute__((target("avx2,fma"))) static void fuse_rows(int64_t width, const double *a,
                                                          const float *b, int64_t stride,
                                                          double *out)
{
    const __m256d w[TOGETHER] = {_mm256_set1_pd(a[0]), _mm256_set1_pd(a[1]), _mm256_set1_pd(a[2]),
                                 _mm256_set1_pd(a[3])};
    int64_t c = 0;
    for (; c + 4 <= width; c += 4) {
        __m256d sum = _mm256_loadu_pd(out + c);
        for (int k = 0; k < TOGETHER; k++) {
            sum = _mm256_fmadd_pd(w[k], _mm256_cvtps_pd(_mm_loadu_ps(b + c + k * stride)), sum);
        }
        _mm256_storeu_pd(out + c, sum);
    }
    add_rows(width - c, a, b + c, stride, out + c);
}

#endif

/* Adds `n` columns of BESIDE floats, weighted by a. */
FUSED static void add_products(int64_t n, const double *a, const float *columns, double out[BESIDE])
{
    double sums[BESIDE];
    memcpy(sums, out, sizeof sums);
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < BESIDE; k++) {
            sums[k] += a[i] * (double)columns[i * BESIDE + k];
        }
    }
    memcpy(out, sums, sizeof sums);
}

/* The part of `out` that stays in the cache while rows of b pass. */
#define WIDTH 1024

static void multiply_rows(int64_t inner, int64_t columns, const double *a, const float *b,
                          int64_t stride, double *out)
{
    void (*add)(int64_t, const double *, const float *, int64_t, double *) = add_rows;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        add = fuse_rows;
    }
#endif
    for (int64_t c = 0; c < columns; c += WIDTH) {
        const int64_t width = columns - c < WIDTH ? columns - c : WIDTH;
        int64_t k = 0;
        for (; k + TOGETHER <= inner; k += TOGETHER) {
            add(width, a + k, b + k * stride + c, stride, out + c);
        }
        for (; k < inner; k++) {
            for (int64_t i = c; i < c + width; i++) {
                out[i] += a[k] * (double)b[k * stride + i];
            }
        }
    }
}

static void multiply_columns(int64_t inner, int64_t columns, const double *a, const float *b,
                             int64_t stride, double *out)
{
    float turned[DEPTH * BESIDE];
    int64_t c = 0;
    for (; c + BESIDE <= columns; c += BESIDE) {
        for (int64_t k = 0; k < inner; k += DEPTH) {
            const int64_t count = inner - k < DEPTH ? inner - k : DEPTH;
            ref_turn_floats(count, BESIDE, b + c * stride + k, stride, turned, BESIDE);
            add_products(count, a + k, turned, out + c);
        }
    }
    for (; c < columns; c++) {
        for (int64_t k = 0; k < inner; k++) {
            out[c] += a[k] * (double)b[c * stride + k];
        }
    }
}

void ref_multiply_row(int64_t inner, int64_t columns, const double *a, const ref_matrix *b,
                      double *out)
{
    if (b->column == 1) {
        multiply_rows(inner, columns, a, b->floats, b->row, out);
    } else {
        multiply_columns(inner, columns, a, b->floats, b->column, out);
    }
}
