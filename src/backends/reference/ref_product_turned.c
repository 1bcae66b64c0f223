/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_product.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Rows of a times rows of b: the terms of a sum are contiguous, so a vector takes several terms of
 * one sum instead of several sums. The result differs from the sum in order by less than n 2^-52
 * times the sum of the products' magnitudes (each sum of n terms differs from the exact one by half
 * of that). If everything within that bound rounds to the same float, that is the result. The bound
 * first uses the combined bits of all numbers of b, since no number is greater. Results that remain
 * uncertain are checked against the magnitudes themselves, and then summed in order. */

#define MOST_ROWS 4
#define MOST_COLUMNS 8
#define BLOCK 64  /* columns; a multiple of what each kernel takes */
#define STEP 8    /* terms that a kernel takes at a time */
#define DEPTH 512 /* terms of several rows that stay in the cache */
#define FEWEST 16 /* the fewest terms that are worth it; for several rows, the next one */
#define FEWEST_OF_ROWS 256

/* sums[r * BLOCK + c] = a[r] * row c of b, over `steps` steps; bits[c]: those of that row. Columns
 * are in `groups` of the kernel's width. */
typedef void (*dot_function)(int64_t groups, int64_t steps, const double *const *a, const float *b,
                             int64_t stride, double *sums, uint64_t *bits);

typedef struct dot_kernel {
    int rows, columns;
    dot_function dot;
} dot_kernel;

#if defined(__x86_64__)

static inline __attribute__((target("avx2"))) double total(__m256d lanes)
{
    const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(lanes), _mm256_extractf128_pd(lanes, 1));
    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
}

static inline __attribute__((target("avx2"))) uint64_t all_bits(__m256d lanes)
{
    const __m128d half = _mm_or_pd(_mm256_castpd256_pd128(lanes), _mm256_extractf128_pd(lanes, 1));
    const __m128d one = _mm_or_pd(half, _mm_unpackhi_pd(half, half));
    return (uint64_t)_mm_cvtsi128_si64(_mm_castpd_si128(one));
}

#define OR_TWICE(x, y, z) _mm256_or_pd(x, _mm256_or_pd(y, z))
#define OR_ONCE(x, y, z)                                                                          \
    _mm256_castsi256_pd(_mm256_ternarylogic_epi64(_mm256_castpd_si256(x), _mm256_castpd_si256(y), \
                                                  _mm256_castpd_si256(z), 0xfe))

/* Written out, so that every sum is in a register. In kernels for several rows s_c_r is the sum
 * of column c and row r; kernels for one row have two sums per column, so that none waits for
 * itself. */
#define FOUR(X, ...) X(0, __VA_ARGS__) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__)
#define EIGHT(X, ...)    \
    FOUR(X, __VA_ARGS__) \
    X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__) X(7, __VA_ARGS__)
#define TWO_SUMS(X, c) X(c, 0) X(c, 1)
#define FOUR_SUMS(X, c) TWO_SUMS(X, c) X(c, 2) X(c, 3)

#define BEGIN(c, r) __m256d s_##c##_##r = _mm256_setzero_pd();
#define ADD_PART(c, p) \
    s_##c##_##p = _mm256_fmadd_pd(_mm256_loadu_pd(a[0] + k + 4 * (int64_t)(p)), b_##p, s_##c##_##p);
#define ADD_ROW(c, r)                                                           \
    s_##c##_##r = _mm256_fmadd_pd(_mm256_loadu_pd(a[r] + k), b_0, s_##c##_##r); \
    s_##c##_##r = _mm256_fmadd_pd(_mm256_loadu_pd(a[r] + k + 4), b_1, s_##c##_##r);
#define END_PART(c, p) sums[c] = total(_mm256_add_pd(s_##c##_0, s_##c##_1));
#define END_ROW(c, r) sums[(size_t)(r)*BLOCK + (c)] = total(s_##c##_##r);

#define BEGIN_COLUMN(c, sums_of)            \
    __m256d bits_##c = _mm256_setzero_pd(); \
    sums_of(BEGIN, c)
#define ADD_COLUMN(c, sums_of, add, or_of)                                         \
    {                                                                              \
        const __m256d b_0 = _mm256_cvtps_pd(_mm_loadu_ps(b + (c)*stride + k));     \
        const __m256d b_1 = _mm256_cvtps_pd(_mm_loadu_ps(b + (c)*stride + k + 4)); \
        bits_##c = or_of(bits_##c, b_0, b_1);                                      \
        sums_of(add, c)                                                            \
    }
#define END_COLUMN(c, sums_of, end) sums_of(end, c) bits[c] = all_bits(bits_##c);

#define DEFINE_DOT(name, isa, count, columns, sums_of, add, end, or_of)                          \
    __attribute__((target(isa))) static void name(int64_t groups, int64_t steps,                 \
                                                  const double *const *a, const float *b,        \
                                                  int64_t stride, double *sums, uint64_t *bits)  \
    {                                                                                            \
        for (int64_t g = 0; g < groups; g++) {                                                   \
            columns(BEGIN_COLUMN, sums_of) for (int64_t k = 0; k < steps * STEP; k += STEP){     \
                columns(ADD_COLUMN, sums_of, add, or_of)} columns(END_COLUMN, sums_of, end) b += \
                (count)*stride;                                                                  \
            sums += (count);                                                                     \
            bits += (count);                                                                     \
        }                                                                                        \
    }

#define AVX2 "avx2,fma"
#define AVX512 "avx2,fma,avx512f,avx512vl"
DEFINE_DOT(one_by_four, AVX2, 4, FOUR, TWO_SUMS, ADD_PART, END_PART, OR_TWICE)
DEFINE_DOT(two_by_four, AVX2, 4, FOUR, TWO_SUMS, ADD_ROW, END_ROW, OR_TWICE)
DEFINE_DOT(one_by_eight, AVX512, 8, EIGHT, TWO_SUMS, ADD_PART, END_PART, OR_ONCE)
DEFINE_DOT(four_by_four, AVX512, 4, FOUR, FOUR_SUMS, ADD_ROW, END_ROW, OR_ONCE)

#endif

/* The kernels number `index` of this machine, widest first, for one row and for several; false if
 * there are none. */
static bool find_kernels(size_t index, dot_kernel kernels[2])
{
#if defined(__x86_64__)
    static const dot_kernel all[2][2] = {{{1, 8, one_by_eight}, {4, 4, four_by_four}},
                                         {{1, 4, one_by_four}, {2, 4, two_by_four}}};
    const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const size_t first = __builtin_cpu_supports("avx512vl") ? 0 : 1;
    if (has && first + index < KLN_ARRAY_LENGTH(all)) {
        memcpy(kernels, all[first + index], sizeof all[0]);
        return true;
    }
#else
    (void)index;
    (void)kernels;
#endif
    return false;
}

/* --- results --- */

/* The result for a sum. */
static double finish(const ref_turned *p, int64_t at, double sum)
{
    return p->alpha * sum + (p->bias != NULL ? p->beta * p->bias[at] : 0.0);
}

static bool is_one_float(double low, double high)
{
    const float one = (float)low;
    const float other = (float)high;
    return one == other && signbit(one) == signbit(other);
}

/* Rounds `n` sums to y, each with an error of at most `factor` * most. False if any of them may
 * round to another float. */
REF_WIDE static bool round_sums(int64_t n, double alpha, const double *sums, double factor,
                                const double *most, const double *addends, float *y)
{
    uint32_t unsure = 0;
    for (int64_t i = 0; i < n; i++) {
        const double doubt = factor * most[i];
        const float low = (float)(alpha * (sums[i] - doubt) + addends[i]);
        const float high = (float)(alpha * (sums[i] + doubt) + addends[i]);
        uint32_t low_bits = 0;
        uint32_t high_bits = 0;
        memcpy(&low_bits, &low, sizeof low);
        memcpy(&high_bits, &high, sizeof high);
        unsure |= (low_bits ^ high_bits) | (uint32_t)(low != low);
        y[i] = low;
    }
    return unsure == 0;
}

#define PARTS 16

/* The sum of |a|, or of |a * b|, in any order. */
REF_WIDE static double sum_magnitudes(int64_t n, const double *a, const float *b)
{
    double sums[PARTS] = {0};
    int64_t k = 0;
    for (; k + PARTS <= n; k += PARTS) {
        for (int i = 0; i < PARTS; i++) {
            sums[i] += fabs(b != NULL ? a[k + i] * (double)b[k + i] : a[k + i]);
        }
    }
    for (; k < n; k++) {
        sums[0] += fabs(b != NULL ? a[k] * (double)b[k] : a[k]);
    }
    for (int i = 1; i < PARTS; i++) {
        sums[0] += sums[i];
    }
    return sums[0];
}

/* The largest difference between two sums of `n` terms, relative to the sum of magnitudes. */
static double doubt_of(int64_t n)
{
    return (double)(n + 64) * 0x1.02p-52;
}

static const float *row_of_b(const ref_turned *p, int64_t column)
{
    return p->b + column * p->b_stride;
}

#define FEW 4 /* sums that are computed individually */

/* Computes the results of row `r` and `width` columns from `c` on that round_sums left
 * undecided. */
static void decide(const ref_turned *p, int64_t r, int64_t c, int64_t width, const double *doubts)
{
    const double *a = p->a + r * p->inner;
    int64_t open[BLOCK];
    int64_t count = 0;
    for (int64_t i = c; i < c + width; i++) {
        const int64_t at = r * p->columns + i;
        const double sum = p->room[at];
        if (is_one_float(finish(p, at, sum - doubts[i - c]), finish(p, at, sum + doubts[i - c]))) {
            continue;
        }
        const double doubt = doubt_of(p->inner) * sum_magnitudes(p->inner, a, row_of_b(p, i));
        p->y[at] = (float)finish(p, at, sum);
        if (!is_one_float(finish(p, at, sum - doubt), finish(p, at, sum + doubt))) {
            open[count++] = i;
        }
    }
    double sums[BLOCK] = {0};
    const ref_matrix whole = {
        .floats = row_of_b(p, c), .row = 1, .column = p->b_stride, .exact = true};
    if (count > FEW) {
        ref_multiply_row(p->inner, width, a, &whole, sums);
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = r * p->columns + open[i];
        if (count <= FEW) {
            ref_matrix one = whole;
            one.floats = row_of_b(p, open[i]);
            ref_multiply_row(p->inner, 1, a, &one, &sums[open[i] - c]);
        }
        p->y[at] = (float)finish(p, at, sums[open[i] - c]);
    }
}

static void finish_block(const ref_turned *p, int64_t c, int64_t width, const uint64_t *bits)
{
    const double *magnitudes = p->room + p->rows * p->columns;
    double most[BLOCK];
    for (int64_t i = 0; i < width; i++) {
        const uint64_t magnitude = bits[i] & (UINT64_MAX >> 1);
        memcpy(&most[i], &magnitude, sizeof magnitude);
    }
    for (int64_t r = 0; r < p->rows; r++) {
        const int64_t at = r * p->columns + c;
        const double factor = doubt_of(p->inner) * magnitudes[r];
        double addends[BLOCK] = {0};
        for (int64_t i = 0; p->bias != NULL && i < width; i++) {
            addends[i] = p->beta * p->bias[at + i];
        }
        if (!round_sums(width, p->alpha, p->room + at, factor, most, addends, p->y + at)) {
            double doubts[BLOCK];
            for (int64_t i = 0; i < width; i++) {
                doubts[i] = factor * most[i];
            }
            decide(p, r, c, width, doubts);
        }
    }
}

/* --- sums --- */

/* Some rows and columns of the product. */
typedef struct tile {
    int64_t row, rows, column, columns;
} tile;

/* Adds the terms from `k` on that remain of `n` after whole steps. */
static void add_rest(const ref_turned *p, const tile *t, int64_t k, int64_t n, uint64_t *bits)
{
    for (int64_t j = 0; j < t->columns; j++) {
        const float *b = row_of_b(p, t->column + j);
        for (int64_t i = k + n - n % STEP; i < k + n; i++) {
            const double value = (double)b[i];
            uint64_t word = 0;
            memcpy(&word, &value, sizeof word);
            bits[j] |= word;
            for (int64_t r = t->row; r < t->row + t->rows; r++) {
                p->room[r * p->columns + t->column + j] += p->a[r * p->inner + i] * value;
            }
        }
    }
}

/* Adds `n` terms from `k` on. The last columns are computed together with as many before them as
 * the kernel needs. */
static void add_terms(const ref_turned *p, const dot_kernel *kernel, const tile *t, int64_t k,
                      int64_t n, uint64_t *bits)
{
    double sums[MOST_ROWS * BLOCK];
    uint64_t found[BLOCK];
    const double *a[MOST_ROWS];
    for (int64_t i = 0; i < kernel->rows; i++) {
        a[i] = p->a + (t->row + (i < t->rows ? i : 0)) * p->inner + k;
    }
    for (int64_t j = 0; j < t->columns;) {
        const int64_t left = t->columns - j;
        const int64_t groups = left < kernel->columns ? 1 : left / kernel->columns;
        const int64_t back = left < kernel->columns ? kernel->columns - left : 0;
        const int64_t taken = groups * kernel->columns - back;
        kernel->dot(groups, n / STEP, a, row_of_b(p, t->column + j - back) + k, p->b_stride, sums,
                    found);
        for (int64_t i = 0; i < taken; i++) {
            bits[j + i] |= found[back + i];
            for (int64_t r = 0; r < t->rows; r++) {
                p->room[(t->row + r) * p->columns + t->column + j + i] +=
                    sums[r * BLOCK + back + i];
            }
        }
        j += taken;
    }
    add_rest(p, t, k, n, bits);
}

bool ref_multiply_turned(size_t index, const ref_turned *p)
{
    dot_kernel kernels[2];
    if (p->inner < (p->rows > 1 ? FEWEST_OF_ROWS : FEWEST) || p->columns < MOST_COLUMNS ||
        !find_kernels(index, kernels)) {
        return false;
    }
    const dot_kernel *kernel = &kernels[p->rows > 1];
    const int64_t depth = p->rows > 1 ? DEPTH : p->inner;
    memset(p->room, 0, (size_t)(p->rows * p->columns) * sizeof *p->room);
    for (int64_t r = 0; r < p->rows; r++) {
        p->room[p->rows * p->columns + r] = sum_magnitudes(p->inner, p->a + r * p->inner, NULL);
    }
    for (int64_t c = 0; c < p->columns; c += BLOCK) {
        const int64_t width = p->columns - c < BLOCK ? p->columns - c : BLOCK;
        uint64_t bits[BLOCK] = {0};
        for (int64_t k = 0; k < p->inner; k += depth) {
            const int64_t count = p->inner - k < depth ? p->inner - k : depth;
            for (int64_t r = 0; r < p->rows; r += kernel->rows) {
                const tile some = {r, p->rows - r < kernel->rows ? p->rows - r : kernel->rows, c,
                                   width};
                add_terms(p, kernel, &some, k, count, bits);
            }
        }
        finish_block(p, c, width, bits);
    }
    return true;
}
