/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_product.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* --- kernels --- */

static void sum_plainly(int64_t count, const int64_t *offsets, const double *const rows[REF_ROWS],
                        const double *panel, double *tile, int row_count)
{
    for (int r = 0; r < row_count; r++) {
        double *out = tile + (ptrdiff_t)r * REF_SIDE;
        for (int64_t k = 0; k < count; k++) {
            const double a = rows[r][offsets != NULL ? offsets[k] : k];
            const double *b = panel + k * REF_SIDE;
            for (int c = 0; c < REF_SIDE; c++) {
                out[c] += a * b[c];
            }
        }
    }
}

#if defined(__x86_64__)

/* Each product is rounded before it is added: no fused multiply-add here. */
#define DEFINE_KERNEL(name, isa, vector, lanes, load, store, spread, add, multiply)             \
    __attribute__((target(isa))) static void name##_four(int64_t count, const int64_t *offsets, \
                                                         const double *const rows[REF_ROWS],    \
                                                         const double *panel, double *tile)     \
    {                                                                                           \
        vector s[REF_ROWS][3];                                                                  \
        for (int r = 0; r < REF_ROWS; r++) {                                                    \
            for (int i = 0; i < 3; i++) {                                                       \
                s[r][i] = load(tile + (int64_t)r * REF_SIDE + (int64_t)i * (lanes));            \
            }                                                                                   \
        }                                                                                       \
        for (int64_t k = 0; k < count; k++) {                                                   \
            const int64_t at = offsets != NULL ? offsets[k] : k;                                \
            const vector b0 = load(panel + k * REF_SIDE);                                       \
            const vector b1 = load(panel + k * REF_SIDE + (lanes));                             \
            const vector b2 = load(panel + k * REF_SIDE + (int64_t)2 * (lanes));                \
            for (int r = 0; r < REF_ROWS; r++) {                                                \
                const vector a = spread(rows[r][at]);                                           \
                s[r][0] = add(s[r][0], multiply(a, b0));                                        \
                s[r][1] = add(s[r][1], multiply(a, b1));                                        \
                s[r][2] = add(s[r][2], multiply(a, b2));                                        \
            }                                                                                   \
        }                                                                                       \
        for (int r = 0; r < REF_ROWS; r++) {                                                    \
            for (int i = 0; i < 3; i++) {                                                       \
                store(tile + (int64_t)r * REF_SIDE + (int64_t)i * (lanes), s[r][i]);            \
            }                                                                                   \
        }                                                                                       \
    }                                                                                           \
    __attribute__((target(isa))) static void name##_one(int64_t count, const int64_t *offsets,  \
                                                        const double *row, const double *panel, \
                                                        double *tile)                           \
    {                                                                                           \
        vector s0 = load(tile);                                                                 \
        vector s1 = load(tile + (lanes));                                                       \
        vector s2 = load(tile + (int64_t)2 * (lanes));                                          \
        for (int64_t k = 0; k < count; k++) {                                                   \
            const vector a = spread(row[offsets != NULL ? offsets[k] : k]);                     \
            const double *b = panel + k * REF_SIDE;                                             \
            s0 = add(s0, multiply(a, load(b)));                                                 \
            s1 = add(s1, multiply(a, load(b + (lanes))));                                       \
            s2 = add(s2, multiply(a, load(b + (int64_t)2 * (lanes))));                          \
        }                                                                                       \
        store(tile, s0);                                                                        \
        store(tile + (lanes), s1);                                                              \
        store(tile + (int64_t)2 * (lanes), s2);                                                 \
    }

DEFINE_KERNEL(sum_256, "avx2", __m256d, 4, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd,
              _mm256_add_pd, _mm256_mul_pd)
DEFINE_KERNEL(sum_512, "avx512f", __m512d, 8, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd,
              _mm512_add_pd, _mm512_mul_pd)

static void sum_wide(int64_t count, const int64_t *offsets, const double *const rows[REF_ROWS],
                     const double *panel, double *tile, int row_count)
{
    if (row_count == REF_ROWS) {
        sum_512_four(count, offsets, rows, panel, tile);
        return;
    }
    for (int r = 0; r < row_count; r++) {
        sum_512_one(count, offsets, rows[r], panel, tile + (ptrdiff_t)r * REF_SIDE);
    }
}

/* Half a panel at a time. */
static void sum_half(int64_t count, const int64_t *offsets, const double *const rows[REF_ROWS],
                     const double *panel, double *tile, int row_count)
{
    for (int half = 0; half < REF_SIDE; half += REF_SIDE / 2) {
        if (row_count == REF_ROWS) {
            sum_256_four(count, offsets, rows, panel + half, tile + half);
            continue;
        }
        for (int r = 0; r < row_count; r++) {
            sum_256_one(count, offsets, rows[r], panel + half,
                        tile + (ptrdiff_t)r * REF_SIDE + half);
        }
    }
}

#endif

size_t ref_sum_kernels(ref_sum_function kernels[REF_SUM_KERNELS])
{
    size_t count = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        kernels[count++] = sum_wide;
    }
    if (__builtin_cpu_supports("avx2")) {
        kernels[count++] = sum_half;
    }
#endif
    kernels[count++] = sum_plainly;
    return count;
}

/* --- matrices --- */

#define DEPTH 128 /* rows of b in a panel: 24 KiB */

/* `count` rows of b from `k` on, `width` columns from `c` on; zeros fill the panel up. */
static void pack(const ref_matrix *b, int64_t k, int64_t count, int64_t c, int64_t width,
                 double *panel)
{
    const int64_t from = k * b->row + c * b->column;
    if (width < REF_SIDE) {
        memset(panel, 0, (size_t)count * REF_SIDE * sizeof *panel);
    }
    /* Along what lies together. */
    if (b->row == 1) {
        for (int64_t j = 0; j < width; j++) {
            const int64_t column = from + j * b->column;
            for (int64_t i = 0; i < count; i++) {
                panel[i * REF_SIDE + j] =
                    b->floats != NULL ? (double)b->floats[column + i] : b->doubles[column + i];
            }
        }
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = from + i * b->row;
        for (int64_t j = 0; j < width; j++) {
            panel[i * REF_SIDE + j] = b->floats != NULL ? (double)b->floats[row + j * b->column]
                                                        : b->doubles[row + j * b->column];
        }
    }
}

/* Up to four rows of out, `width` columns. */
static void add_block(ref_sum_function sum, int64_t count, const double *a, int64_t a_stride,
                      int row_count, const double *panel, int64_t width, double *out,
                      int64_t out_stride)
{
    double tile[REF_ROWS * REF_SIDE];
    const double *rows[REF_ROWS];
    for (int r = 0; r < REF_ROWS; r++) {
        rows[r] = a + (r < row_count ? r : 0) * a_stride;
    }
    memset(tile, 0, sizeof tile);
    for (int r = 0; r < row_count; r++) {
        memcpy(tile + (ptrdiff_t)r * REF_SIDE, out + r * out_stride, (size_t)width * sizeof *tile);
    }
    sum(count, NULL, rows, panel, tile, row_count);
    for (int r = 0; r < row_count; r++) {
        memcpy(out + r * out_stride, tile + (ptrdiff_t)r * REF_SIDE, (size_t)width * sizeof *tile);
    }
}

/* --- one row: the matrix is read once, so a copy of it would cost more than the product --- */

/* Adds four rows of floats, weighted by a, to a row of out. */
static void add_four_plainly(int64_t width, const double *a, const float *b, int64_t stride,
                             double *out)
{
    for (int64_t c = 0; c < width; c++) {
        const double half = out[c] + a[0] * (double)b[c] + a[1] * (double)b[c + stride];
        out[c] = half + a[2] * (double)b[c + 2 * stride] + a[3] * (double)b[c + 3 * stride];
    }
}

/* Sums of `count` products in each of eight rows of b, which are `stride` apart. */
static void sum_eight_plainly(int64_t count, const double *a, const float *b, int64_t stride,
                              double *out)
{
    for (int c = 0; c < 8; c++) {
        double sum = out[c];
        for (int64_t k = 0; k < count; k++) {
            sum += a[k] * (double)b[c * stride + k];
        }
        out[c] = sum;
    }
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) static void add_four_wide(int64_t width, const double *a,
                                                          const float *b, int64_t stride,
                                                          double *out)
{
    int64_t c = 0;
    for (; c + 4 <= width; c += 4) {
        __m256d sum = _mm256_loadu_pd(out + c);
        for (int k = 0; k < 4; k++) {
            const __m256d row = _mm256_cvtps_pd(_mm_loadu_ps(b + c + k * stride));
            sum = _mm256_add_pd(sum, _mm256_mul_pd(_mm256_set1_pd(a[k]), row));
        }
        _mm256_storeu_pd(out + c, sum);
    }
    add_four_plainly(width - c, a, b + c, stride, out + c);
}

/* Four elements of each of four rows become four columns. */
__attribute__((target("avx2"))) static __m256d add_column(__m256d sum, double a, __m128 column)
{
    return _mm256_add_pd(sum, _mm256_mul_pd(_mm256_set1_pd(a), _mm256_cvtps_pd(column)));
}

__attribute__((target("avx2"))) static __m256d sum_four_wide(int64_t count, const double *a,
                                                             const float *b, int64_t stride,
                                                             __m256d sum)
{
    for (int64_t k = 0; k < count; k += 4) {
        __m128 r0 = _mm_loadu_ps(b + k);
        __m128 r1 = _mm_loadu_ps(b + k + stride);
        __m128 r2 = _mm_loadu_ps(b + k + 2 * stride);
        __m128 r3 = _mm_loadu_ps(b + k + 3 * stride);
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        sum = add_column(sum, a[k], r0);
        sum = add_column(sum, a[k + 1], r1);
        sum = add_column(sum, a[k + 2], r2);
        sum = add_column(sum, a[k + 3], r3);
    }
    return sum;
}

__attribute__((target("avx2"))) static void sum_eight_wide(int64_t count, const double *a,
                                                           const float *b, int64_t stride,
                                                           double *out)
{
    const int64_t whole = count - count % 4;
    for (int half = 0; half < 8; half += 4) {
        const __m256d sum =
            sum_four_wide(whole, a, b + half * stride, stride, _mm256_loadu_pd(out + half));
        _mm256_storeu_pd(out + half, sum);
    }
    sum_eight_plainly(count - whole, a + whole, b + whole, stride, out);
}

#endif

typedef void (*row_function)(int64_t n, const double *a, const float *b, int64_t stride,
                             double *out);

static row_function choose(row_function plain, row_function wide)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") ? wide : plain;
#else
    (void)wide;
    return plain;
#endif
}

#if !defined(__x86_64__)
#define add_four_wide add_four_plainly
#define sum_eight_wide sum_eight_plainly
#endif

/* Of `out` this much stays in the cache while rows of b pass. */
#define WIDTH 1024

static void multiply_rows(int64_t inner, int64_t columns, const double *a, const float *b,
                          int64_t stride, double *out)
{
    const row_function add_four = choose(add_four_plainly, add_four_wide);
    for (int64_t c = 0; c < columns; c += WIDTH) {
        const int64_t width = columns - c < WIDTH ? columns - c : WIDTH;
        int64_t k = 0;
        for (; k + 4 <= inner; k += 4) {
            add_four(width, a + k, b + k * stride + c, stride, out + c);
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
    const row_function sum_eight = choose(sum_eight_plainly, sum_eight_wide);
    int64_t c = 0;
    for (; c + 8 <= columns; c += 8) {
        sum_eight(inner, a, b + c * stride, stride, out + c);
    }
    for (; c < columns; c++) {
        for (int64_t k = 0; k < inner; k++) {
            out[c] += a[k] * (double)b[c * stride + k];
        }
    }
}

void ref_multiply_matrix(int64_t rows, int64_t inner, int64_t columns, const double *a,
                         int64_t a_stride, const ref_matrix *b, double *out, int64_t out_stride)
{
    if (rows == 1 && b->floats != NULL && (b->row == 1 || b->column == 1)) {
        if (b->column == 1) {
            multiply_rows(inner, columns, a, b->floats, b->row, out);
        } else {
            multiply_columns(inner, columns, a, b->floats, b->column, out);
        }
        return;
    }
    ref_sum_function kernels[REF_SUM_KERNELS];
    (void)ref_sum_kernels(kernels);
    const ref_sum_function sum = kernels[0];
    double panel[DEPTH * REF_SIDE];
    for (int64_t c = 0; c < columns; c += REF_SIDE) {
        const int64_t width = columns - c < REF_SIDE ? columns - c : REF_SIDE;
        for (int64_t k = 0; k < inner; k += DEPTH) {
            const int64_t count = inner - k < DEPTH ? inner - k : DEPTH;
            pack(b, k, count, c, width, panel);
            for (int64_t r = 0; r < rows; r += REF_ROWS) {
                const int row_count = rows - r < REF_ROWS ? (int)(rows - r) : REF_ROWS;
                add_block(sum, count, a + r * a_stride + k, a_stride, row_count, panel, width,
                          out + r * out_stride + c, out_stride);
            }
        }
    }
}
