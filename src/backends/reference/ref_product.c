/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_product.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* --- kernels --- */

static void sum_plainly(int64_t count, const int64_t *offsets, const double *const rows[REF_ROWS],
                        const double *panel, int width, double *tile, int64_t stride, int row_count)
{
    for (int r = 0; r < row_count; r++) {
        double *out = tile + r * stride;
        for (int64_t k = 0; k < count; k++) {
            const double a = rows[r][offsets != NULL ? offsets[k] : k];
            const double *b = panel + k * REF_SIDE;
            for (int c = 0; c < width; c++) {
                out[c] += a * b[c];
            }
        }
    }
}

static void sum_pixels_plainly(int64_t count, const int64_t *offsets, const double *factors,
                               const double *x, double *tile)
{
    for (int64_t k = 0; k < count; k++) {
        for (int c = 0; c < REF_PIXELS; c++) {
            tile[c] += factors[k] * x[offsets[k] + c];
        }
    }
}

#if defined(__x86_64__)

/* `row_count` rows of `vectors` vectors; `step` is a product and a sum, each rounded, or a fused
 * multiply-add. */
#define DEFINE_KERNEL(name, row_count, vectors, isa, vector, lanes, load, store, spread, step) \
    __attribute__((target(isa))) static void name(                                             \
        int64_t count, const int64_t *offsets, const double *const rows[REF_ROWS],             \
        const double *panel, double *tile, int64_t stride)                                     \
    {                                                                                          \
        vector s[row_count][vectors];                                                          \
        for (int r = 0; r < (row_count); r++) {                                                \
            for (int i = 0; i < (vectors); i++) {                                              \
                s[r][i] = load(tile + r * stride + (int64_t)i * (lanes));                      \
            }                                                                                  \
        }                                                                                      \
        for (int64_t k = 0; k < count; k++) {                                                  \
            const int64_t at = offsets != NULL ? offsets[k] : k;                               \
            vector b[vectors];                                                                 \
            for (int i = 0; i < (vectors); i++) {                                              \
                b[i] = load(panel + k * REF_SIDE + (int64_t)i * (lanes));                      \
            }                                                                                  \
            for (int r = 0; r < (row_count); r++) {                                            \
                const vector a = spread(rows[r][at]);                                          \
                for (int i = 0; i < (vectors); i++) {                                          \
                    s[r][i] = step(s[r][i], a, b[i]);                                          \
                }                                                                              \
            }                                                                                  \
        }                                                                                      \
        for (int r = 0; r < (row_count); r++) {                                                \
            for (int i = 0; i < (vectors); i++) {                                              \
                store(tile + r * stride + (int64_t)i * (lanes), s[r][i]);                      \
            }                                                                                  \
        }                                                                                      \
    }

/* Computes three vectors' worth of a panel's columns at a time, or what is left. */
#define DEFINE_SUM(name, isa, vector, lanes, load, store, spread, step)                            \
    DEFINE_KERNEL(name##_4_3, REF_ROWS, 3, isa, vector, lanes, load, store, spread, step)          \
    DEFINE_KERNEL(name##_4_2, REF_ROWS, 2, isa, vector, lanes, load, store, spread, step)          \
    DEFINE_KERNEL(name##_4_1, REF_ROWS, 1, isa, vector, lanes, load, store, spread, step)          \
    DEFINE_KERNEL(name##_1_3, 1, 3, isa, vector, lanes, load, store, spread, step)                 \
    DEFINE_KERNEL(name##_1_2, 1, 2, isa, vector, lanes, load, store, spread, step)                 \
    DEFINE_KERNEL(name##_1_1, 1, 1, isa, vector, lanes, load, store, spread, step)                 \
    __attribute__((target(isa))) static void pixels_##name(int64_t count, const int64_t *offsets,  \
                                                           const double *factors, const double *x, \
                                                           double *tile)                           \
    {                                                                                              \
        for (int c = 0; c < REF_PIXELS; c += 4 * (lanes)) {                                        \
            vector s[4];                                                                           \
            for (int i = 0; i < 4; i++) {                                                          \
                s[i] = load(tile + c + (ptrdiff_t)i * (lanes));                                    \
            }                                                                                      \
            for (int64_t k = 0; k < count; k++) {                                                  \
                const vector a = spread(factors[k]);                                               \
                for (int i = 0; i < 4; i++) {                                                      \
                    s[i] = step(s[i], a, load(x + offsets[k] + c + (ptrdiff_t)i * (lanes)));       \
                }                                                                                  \
            }                                                                                      \
            for (int i = 0; i < 4; i++) {                                                          \
                store(tile + c + (ptrdiff_t)i * (lanes), s[i]);                                    \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void sum_##name(int64_t count, const int64_t *offsets, const double *const *rows,       \
                           const double *panel, int width, double *tile, int64_t stride,           \
                           int row_count)                                                          \
    {                                                                                              \
        static const kernel four[3] = {name##_4_1, name##_4_2, name##_4_3};                        \
        static const kernel one[3] = {name##_1_1, name##_1_2, name##_1_3};                         \
        for (int c = 0; c < width; c += 3 * (lanes)) {                                             \
            const int vectors = (width - c + (lanes)-1) / (lanes)-1;                               \
            const int which = vectors < 2 ? vectors : 2;                                           \
            for (int r = 0; r < row_count; r += row_count == REF_ROWS ? REF_ROWS : 1) {            \
                (row_count == REF_ROWS ? four : one)[which](count, offsets, rows + r, panel + c,   \
                                                            tile + r * stride + c, stride);        \
            }                                                                                      \
        }                                                                                          \
    }

typedef void (*kernel)(int64_t count, const int64_t *offsets, const double *const rows[REF_ROWS],
                       const double *panel, double *tile, int64_t stride);

#define ROUND_256(sum, a, b) _mm256_add_pd(sum, _mm256_mul_pd(a, b))
#define ROUND_512(sum, a, b) _mm512_add_pd(sum, _mm512_mul_pd(a, b))
#define FUSE_256(sum, a, b) _mm256_fmadd_pd(a, b, sum)
#define FUSE_512(sum, a, b) _mm512_fmadd_pd(a, b, sum)

#define DEFINE_256(name, isa, step) \
    DEFINE_SUM(name, isa, __m256d, 4, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, step)
#define DEFINE_512(name, step) \
    DEFINE_SUM(name, "avx512f", __m512d, 8, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, step)
DEFINE_256(round_256, "avx2", ROUND_256)
DEFINE_256(fuse_256, "avx2,fma", FUSE_256)
DEFINE_512(round_512, ROUND_512)
DEFINE_512(fuse_512, FUSE_512)

#endif

size_t ref_sum_kernels(bool exact, ref_sum_function kernels[REF_SUM_KERNELS])
{
    size_t count = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        kernels[count++] = exact ? sum_fuse_512 : sum_round_512;
    }
    if (__builtin_cpu_supports("avx2")) {
        kernels[count++] = exact && __builtin_cpu_supports("fma") ? sum_fuse_256 : sum_round_256;
    }
#else
    (void)exact;
#endif
    kernels[count++] = sum_plainly;
    return count;
}

ref_sum_function ref_sum_kernel(bool exact)
{
    ref_sum_function kernels[REF_SUM_KERNELS];
    (void)ref_sum_kernels(exact, kernels);
    return kernels[0];
}

ref_pixel_function ref_pixel_kernel(bool exact)
{
#if defined(__x86_64__)
    const bool fused = exact && __builtin_cpu_supports("fma");
    if (__builtin_cpu_supports("avx512f")) {
        return exact ? pixels_fuse_512 : pixels_round_512;
    }
    if (__builtin_cpu_supports("avx2")) {
        return fused ? pixels_fuse_256 : pixels_round_256;
    }
#else
    (void)exact;
#endif
    return sum_pixels_plainly;
}

/* --- matrices --- */

#define DEPTH 128 /* rows of b in a panel: 24 KiB */

/* Packs a whole panel of floats that are contiguous by rows. */
REF_WIDE static void pack_rows(const float *from, int64_t stride, int64_t count, double *panel)
{
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < REF_SIDE; j++) {
            panel[i * REF_SIDE + j] = (double)from[i * stride + j];
        }
    }
}

/* Packs `count` rows of b from `k` on, `width` columns from `c` on; the panel is filled up with
 * zeros. */
static void pack(const ref_matrix *b, int64_t k, int64_t count, int64_t c, int64_t width,
                 double *panel)
{
    const int64_t from = k * b->row + c * b->column;
    if (b->floats != NULL && width == REF_SIDE && b->column == 1) {
        pack_rows(b->floats + from, b->row, count, panel);
        return;
    }
    if (b->floats == NULL && b->column == 1 && width == REF_SIDE) {
        for (int64_t i = 0; i < count; i++) {
            memcpy(panel + i * REF_SIDE, b->doubles + from + i * b->row,
                   (size_t)width * sizeof *panel);
        }
        return;
    }
    if (b->floats != NULL && width == REF_SIDE && b->row == 1) {
        float turned[DEPTH * REF_SIDE];
        ref_turn_floats(count, REF_SIDE, b->floats + from, b->column, turned, REF_SIDE);
        pack_rows(turned, REF_SIDE, count, panel);
        return;
    }
    if (width < REF_SIDE) {
        memset(panel, 0, (size_t)count * REF_SIDE * sizeof *panel);
    }
    for (int64_t j = 0; j < width; j++) {
        const int64_t column = from + j * b->column;
        for (int64_t i = 0; i < count; i++) {
            panel[i * REF_SIDE + j] = b->floats != NULL ? (double)b->floats[column + i * b->row]
                                                        : b->doubles[column + i * b->row];
        }
    }
}

kiln_status ref_matrix_of(ref_call *call, const ref_tensor *tensor, ref_matrix *matrix)
{
    double *doubles = NULL;
    *matrix = (ref_matrix){.floats = NULL};
    if (tensor->dtype == KILN_DTYPE_FLOAT32) {
        matrix->floats = tensor->data;
    } else if (tensor->dtype == KILN_DTYPE_FLOAT64) {
        matrix->doubles = tensor->data;
    } else {
        KLN_RETURN_IF_ERROR(ref_doubles(call, tensor, &doubles));
        matrix->doubles = doubles;
    }
    return KILN_OK;
}

/* Computes up to four rows of out, `width` columns. */
static void add_block(ref_sum_function sum, int64_t count, const double *a, int64_t a_stride,
                      int row_count, const double *panel, int64_t width, double *out,
                      int64_t out_stride)
{
    double tile[REF_ROWS * REF_SIDE];
    const double *rows[REF_ROWS];
    for (int r = 0; r < REF_ROWS; r++) {
        rows[r] = a + (r < row_count ? r : 0) * a_stride;
    }
    if (width % REF_VECTOR == 0) {
        sum(count, NULL, rows, panel, (int)width, out, out_stride, row_count);
        return;
    }
    const size_t bytes = (size_t)width * sizeof *tile;
    memset(tile, 0, sizeof tile);
    for (int r = 0; r < row_count; r++) {
        memcpy(tile + (ptrdiff_t)r * REF_SIDE, out + r * out_stride, bytes);
    }
    sum(count, NULL, rows, panel, (int)width, tile, REF_SIDE, row_count);
    for (int r = 0; r < row_count; r++) {
        memcpy(out + r * out_stride, tile + (ptrdiff_t)r * REF_SIDE, bytes);
    }
}

/* Adds `count` terms of all rows to `width` columns of out. */
static void add_panel(ref_sum_function sum, int64_t count, int64_t rows, const double *a,
                      int64_t a_stride, const double *panel, int64_t width, double *out,
                      int64_t out_stride)
{
    for (int64_t r = 0; r < rows; r += REF_ROWS) {
        const int row_count = rows - r < REF_ROWS ? (int)(rows - r) : REF_ROWS;
        add_block(sum, count, a + r * a_stride, a_stride, row_count, panel, width,
                  out + r * out_stride, out_stride);
    }
}

void ref_multiply_matrix(int64_t rows, int64_t inner, int64_t columns, const double *a,
                         int64_t a_stride, const ref_matrix *b, double *out, int64_t out_stride)
{
    if (rows == 1 && b->exact && b->floats != NULL && (b->row == 1 || b->column == 1)) {
        ref_multiply_row(inner, columns, a, b, out);
        return;
    }
    const ref_sum_function sum = ref_sum_kernel(b->exact);
    double panel[DEPTH * REF_SIDE];
    for (int64_t c = 0; c < columns; c += REF_SIDE) {
        const int64_t width = columns - c < REF_SIDE ? columns - c : REF_SIDE;
        for (int64_t k = 0; k < inner; k += DEPTH) {
            const int64_t count = inner - k < DEPTH ? inner - k : DEPTH;
            pack(b, k, count, c, width, panel);
            add_panel(sum, count, rows, a + k, a_stride, panel, width, out + c, out_stride);
        }
    }
}

int64_t ref_panels_count(int64_t inner, int64_t columns)
{
    return (columns + REF_SIDE - 1) / REF_SIDE * REF_SIDE * inner;
}

void ref_pack_panels(int64_t inner, int64_t columns, const ref_matrix *b, double *panels)
{
    for (int64_t c = 0; c < columns; c += REF_SIDE) {
        const int64_t width = columns - c < REF_SIDE ? columns - c : REF_SIDE;
        for (int64_t k = 0; k < inner; k += DEPTH) {
            const int64_t count = inner - k < DEPTH ? inner - k : DEPTH;
            pack(b, k, count, c, width, panels + c * inner + k * REF_SIDE);
        }
    }
}

void ref_multiply_panels(int64_t rows, int64_t inner, int64_t columns, const double *a,
                         int64_t a_stride, const double *panels, double *out, int64_t out_stride)
{
    const ref_sum_function sum = ref_sum_kernel(false);
    for (int64_t c = 0; c < columns; c += REF_SIDE) {
        const int64_t width = columns - c < REF_SIDE ? columns - c : REF_SIDE;
        add_panel(sum, inner, rows, a, a_stride, panels + c * inner, width, out + c, out_stride);
    }
}
