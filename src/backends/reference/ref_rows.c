/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_rows.h"

/* --- sums --- */

#define COLUMNS 64 /* a few rows at a time */
#define FEWEST_ROWS 4
#define FEW_BESIDE 8 /* doubles, which are not transposed first */

/* How the next term v changes a total s; m is the row's mean, d the divisor. */
#define TERM_LIST(X)                 \
    X(PLAIN, s + v)                  \
    X(MAGNITUDE, s + fabs(v))        \
    X(SQUARE, s + (v - m) * (v - m)) \
    X(FACTOR, s *v)                  \
    X(SHARE, s + v / d)              \
    X(SQUARE_SHARE, s + (v - m) * (v - m) / d)

/* Functions for `n` columns of REF_BESIDE terms each, and for one row of terms. */
#define DEFINE_TERM(name, expression)                                                             \
    REF_WIDE static void fold_columns_##name(const float *from, int64_t n, const double *means,   \
                                             double d, double totals[REF_BESIDE])                 \
    {                                                                                             \
        double t[REF_BESIDE];                                                                     \
        double less[REF_BESIDE];                                                                  \
        (void)d;                                                                                  \
        memcpy(t, totals, sizeof t);                                                              \
        memcpy(less, means, sizeof less);                                                         \
        for (int64_t i = 0; i < n; i++) {                                                         \
            for (int k = 0; k < REF_BESIDE; k++) {                                                \
                const double v = (double)from[i * REF_BESIDE + k];                                \
                const double m = less[k];                                                         \
                const double s = t[k];                                                            \
                (void)m;                                                                          \
                t[k] = (expression);                                                              \
            }                                                                                     \
        }                                                                                         \
        memcpy(totals, t, sizeof t);                                                              \
    }                                                                                             \
    static void fold_row_##name(const double *from, int64_t n, double m, double d, double *total) \
    {                                                                                             \
        double s = *total;                                                                        \
        (void)m;                                                                                  \
        (void)d;                                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const double v = from[i];                                                             \
            s = (expression);                                                                     \
        }                                                                                         \
        *total = s;                                                                               \
    }                                                                                             \
    static void fold_strided_##name(const double *from, int64_t stride, int64_t n,                \
                                    const double *means, double d, double *totals)                \
    {                                                                                             \
        double t[FEW_BESIDE];                                                                     \
        (void)means;                                                                              \
        (void)d;                                                                                  \
        memcpy(t, totals, sizeof t);                                                              \
        for (int64_t i = 0; i < n; i++) {                                                         \
            for (int k = 0; k < FEW_BESIDE; k++) {                                                \
                const double v = from[i + k * stride];                                            \
                const double m = means[k];                                                        \
                const double s = t[k];                                                            \
                (void)m;                                                                          \
                t[k] = (expression);                                                              \
            }                                                                                     \
        }                                                                                         \
        memcpy(totals, t, sizeof t);                                                              \
    }
TERM_LIST(DEFINE_TERM)

#define TOGETHER 4
/* Adds the terms of adjacent columns, from one row or from TOGETHER rows. */
#define DEFINE_BESIDE(type, name, expression)                                            \
    REF_WIDE static void type##_beside_##name(const type *x, int64_t rows, int64_t step, \
                                              int64_t n, double *totals)                 \
    {                                                                                    \
        const double m = 0.0;                                                            \
        const double d = 1.0;                                                            \
        (void)m;                                                                         \
        (void)d;                                                                         \
        for (int64_t i = 0; rows == TOGETHER && i < n; i++) {                            \
            double s = totals[i];                                                        \
            for (int k = 0; k < TOGETHER; k++) {                                         \
                const double v = (double)x[i + k * step];                                \
                s = (expression);                                                        \
            }                                                                            \
            totals[i] = s;                                                               \
        }                                                                                \
        for (int64_t i = 0; rows != TOGETHER && i < n; i++) {                            \
            const double v = (double)x[i];                                               \
            const double s = totals[i];                                                  \
            totals[i] = (expression);                                                    \
        }                                                                                \
    }
#define DEFINE_BESIDES(name, expression)   \
    DEFINE_BESIDE(float, name, expression) \
    DEFINE_BESIDE(double, name, expression)
TERM_LIST(DEFINE_BESIDES)

static const struct {
    void (*floats)(const float *x, int64_t rows, int64_t step, int64_t n, double *totals);
    void (*doubles)(const double *x, int64_t rows, int64_t step, int64_t n, double *totals);
    void (*columns)(const float *from, int64_t n, const double *means, double d, double *totals);
    void (*row)(const double *from, int64_t n, double m, double d, double *total);
    void (*strided)(const double *from, int64_t stride, int64_t n, const double *means, double d,
                    double *totals);
} terms[] = {
#define LIST_TERM(name, expression)                                                      \
    [REF_TERM_##name] = {float_beside_##name, double_beside_##name, fold_columns_##name, \
                         fold_row_##name, fold_strided_##name},
    TERM_LIST(LIST_TERM)};

void ref_fold_rows(const ref_block *block, ref_term term, const double *means, double divisor,
                   double totals[REF_BESIDE])
{
    double less[REF_BESIDE] = {0};
    float turned[COLUMNS * REF_BESIDE] = {0};
    const bool beside = block->rows >= FEWEST_ROWS && block->x->dtype == KILN_DTYPE_FLOAT32;
    if (means != NULL) {
        memcpy(less, means, (size_t)block->rows * sizeof *less);
    }
    for (int64_t i = 0; beside && i < block->n; i += COLUMNS) {
        const int64_t count = block->n - i < COLUMNS ? block->n - i : COLUMNS;
        ref_turn_floats(count, block->rows, (const float *)block->x->data + block->start + i,
                        block->stride, turned, REF_BESIDE);
        terms[term].columns(turned, count, less, divisor, totals);
    }
    for (int64_t r = 0; !beside && r < block->rows;) {
        const int64_t some = block->rows - r < FEW_BESIDE ? 1 : FEW_BESIDE;
        const bool lies = block->x->dtype == KILN_DTYPE_FLOAT64;
        const int64_t most = lies ? block->n : REF_CHUNK / FEW_BESIDE;
        for (int64_t i = 0; i < block->n; i += most) {
            const int64_t count = block->n - i < most ? block->n - i : most;
            const int64_t start = block->start + r * block->stride + i;
            double chunk[REF_CHUNK];
            const double *from = lies ? (const double *)block->x->data + start : chunk;
            for (int64_t k = 0; !lies && k < some; k++) {
                ref_load_float(block->x, start + k * block->stride, 1, count, chunk + k * most);
            }
            if (some == 1) {
                terms[term].row(from, count, less[r], divisor, &totals[r]);
            } else {
                terms[term].strided(from, lies ? block->stride : most, count, less + r, divisor,
                                    totals + r);
            }
        }
        r += some;
    }
}

void ref_fold_columns(const ref_tensor *x, int64_t start, int64_t step, int64_t rows, int64_t n,
                      ref_term term, double *totals)
{
    double row[REF_COLUMNS];
    for (int64_t r = 0; r < rows;) {
        const int64_t some = rows - r < TOGETHER ? 1 : TOGETHER;
        const int64_t at = start + r * step;
        if (x->dtype == KILN_DTYPE_FLOAT32) {
            terms[term].floats((const float *)x->data + at, some, step, n, totals);
            r += some;
        } else if (x->dtype == KILN_DTYPE_FLOAT64) {
            terms[term].doubles((const double *)x->data + at, some, step, n, totals);
            r += some;
        } else {
            ref_load_float(x, at, 1, n, row);
            terms[term].doubles(row, 1, 0, n, totals);
            r++;
        }
    }
}

void ref_sum_rows(const ref_tensor *x, int64_t start, int64_t stride, int64_t rows, int64_t n,
                  const double *means, double sums[REF_BESIDE])
{
    const ref_block block = {x, start, stride, rows, n};
    memset(sums, 0, REF_BESIDE * sizeof *sums);
    ref_fold_rows(&block, means != NULL ? REF_TERM_SQUARE : REF_TERM_PLAIN, means, 1.0, sums);
}

/* The sum of some terms, computed in REF_BESIDE parts, and the sum of their magnitudes. */
#define DEFINE_NEAR(name, term)                                                      \
    REF_WIDE static double near_##name(const float *x, int64_t n, double *magnitude) \
    {                                                                                \
        double sums[REF_BESIDE] = {0};                                               \
        double sizes[REF_BESIDE] = {0};                                              \
        const int64_t whole = n - n % REF_BESIDE;                                    \
        for (int64_t i = 0; i < n; i += REF_BESIDE) {                                \
            for (int64_t k = 0; i < whole && k < REF_BESIDE; k++) {                  \
                const double v = (double)x[i + k];                                   \
                sums[k] += (term);                                                   \
                sizes[k] += fabs(term);                                              \
            }                                                                        \
        }                                                                            \
        for (int64_t i = whole; i < n; i++) {                                        \
            const double v = (double)x[i];                                           \
            sums[i - whole] += (term);                                               \
            sizes[i - whole] += fabs(term);                                          \
        }                                                                            \
        for (int k = 1; k < REF_BESIDE; k++) {                                       \
            sums[0] += sums[k];                                                      \
            sizes[0] += sizes[k];                                                    \
        }                                                                            \
        *magnitude = sizes[0];                                                       \
        return sums[0];                                                              \
    }
DEFINE_NEAR(plain, v)
DEFINE_NEAR(size, fabs(v))
DEFINE_NEAR(square, v *v)

double ref_sum_near(const float *x, int64_t n, ref_term term, double *doubt)
{
    double (*const near)(const float *, int64_t, double *) = term == REF_TERM_PLAIN ? near_plain
                                                             : term == REF_TERM_MAGNITUDE
                                                                 ? near_size
                                                                 : near_square;
    double sum = 0.0;
    double partial = 0.0; /* an upper bound of the sum of the magnitudes of all partial sums */
    for (int64_t i = 0; i < n; i += REF_CHUNK) {
        const int64_t count = n - i < REF_CHUNK ? n - i : REF_CHUNK;
        double magnitude = 0.0;
        const double more = near(x + i, count, &magnitude);
        partial += (double)count * (fabs(sum) + magnitude);
        sum += more;
    }
    *doubt = partial * 0x1p-52;
    return sum;
}
