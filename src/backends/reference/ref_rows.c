/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_rows.h"

/* --- sums --- */

#define COLUMNS 64 /* of some rows at a time */
#define FEWEST_ROWS 4

/* What becomes of a total s with the next term v; m is the row's mean, d the divisor. */
#define TERM_LIST(X)                 \
    X(PLAIN, s + v)                  \
    X(MAGNITUDE, s + fabs(v))        \
    X(SQUARE, s + (v - m) * (v - m)) \
    X(FACTOR, s *v)                  \
    X(SHARE, s + v / d)              \
    X(SQUARE_SHARE, s + (v - m) * (v - m) / d)

/* `n` columns of REF_BESIDE terms each, and one row of terms. */
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
    }
TERM_LIST(DEFINE_TERM)

#define TOGETHER 4
/* Terms of columns that lie side by side, of TOGETHER rows or one. */
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
} terms[] = {
#define LIST_TERM(name, expression) \
    [REF_TERM_##                    \
        name] = {float_beside_##name, double_beside_##name, fold_columns_##name, fold_row_##name},
    TERM_LIST(LIST_TERM)};

void ref_fold_rows(const ref_block *block, ref_term term, const double *means, double divisor,
                   double totals[REF_BESIDE])
{
    double less[REF_BESIDE] = {0};
    float turned[COLUMNS * REF_BESIDE] = {0};
    double chunk[REF_CHUNK];
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
    for (int64_t r = 0; !beside && r < block->rows; r++) {
        for (int64_t i = 0; i < block->n; i += REF_CHUNK) {
            const int64_t count = block->n - i < REF_CHUNK ? block->n - i : REF_CHUNK;
            ref_load_float(block->x, block->start + r * block->stride + i, 1, count, chunk);
            terms[term].row(chunk, count, less[r], divisor, &totals[r]);
        }
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

/* The sum of some terms in 16 parts, and that of their magnitudes. */
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
    double partial = 0.0; /* no less than the magnitudes of all partial sums together */
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
        for (int half = LANES / 2; half >= 16; half /= 2) {                        \
            for (int k = 0; k < half; k++) {                                       \
                best[k] = best[k + half] beats best[k] ? best[k + half] : best[k]; \
                odd[k] |= odd[k + half];                                           \
            }                                                                      \
        }                                                                          \
        int32_t any = odd[0];                                                      \
        *extreme = best[0];                                                        \
        for (int k = 1; k < 16; k++) {                                             \
            *extreme = best[k] beats * extreme ? best[k] : *extreme;               \
            any |= odd[k];                                                         \
        }                                                                          \
        return any != 0;                                                           \
    }
DEFINE_EXTREME(find_greatest, >)
DEFINE_EXTREME(find_least, <)

bool ref_find_extreme(const float *x, int64_t n, bool most, float *extreme)
{
    return !(most ? find_greatest(x, n, extreme) : find_least(x, n, extreme));
}

/* Of columns, where no number is the greatest and the least; and where it is, of the last or first
 * of equal ones. */
#define DEFINE_BEST(type, name, beats)                                          \
    REF_WIDE static void type##_##name(const type *x, int64_t n, type *best)    \
    {                                                                           \
        for (int64_t i = 0; i < n; i++) {                                       \
            best[i] = ((x[i] beats best[i]) | (x[i] != x[i])) ? x[i] : best[i]; \
        }                                                                       \
    }
DEFINE_BEST(float, greatest, >)
DEFINE_BEST(float, least, <)
DEFINE_BEST(double, greatest, >)
DEFINE_BEST(double, least, <)

void ref_best_floats(const float *x, int64_t step, int64_t rows, int64_t n, bool most, float *best)
{
    for (int64_t r = 0; r < rows; r++) {
        (most ? float_greatest : float_least)(x + r * step, n, best);
    }
}

void ref_best_columns(const ref_tensor *x, int64_t start, int64_t step, int64_t rows, int64_t n,
                      bool most, double *best)
{
    double row[REF_COLUMNS];
    for (int64_t r = 0; r < rows; r++) {
        ref_load_float(x, start + r * step, 1, n, row);
        (most ? double_greatest : double_least)(row, n, best);
    }
}

#define DEFINE_PLACE(name, beats)                                                          \
    REF_WIDE static void place_##name(const float *x, int64_t n, int32_t row, float *best, \
                                      int32_t *place, int32_t *odd)                        \
    {                                                                                      \
        for (int64_t i = 0; i < n; i++) {                                                  \
            const bool better = x[i] beats best[i];                                        \
            best[i] = better ? x[i] : best[i];                                             \
            place[i] = better ? row : place[i];                                            \
            odd[i] |= x[i] != x[i];                                                        \
        }                                                                                  \
    }
DEFINE_PLACE(greatest, >)
DEFINE_PLACE(last_greatest, >=)
DEFINE_PLACE(least, <)
DEFINE_PLACE(last_least, <=)

void ref_place_columns(const float *x, int64_t step, int64_t rows, int64_t n, bool most, bool last,
                       int32_t *place)
{
    float best[REF_COLUMNS];
    int32_t odd[REF_COLUMNS] = {0};
    memcpy(best, x, (size_t)n * sizeof *best);
    memset(place, 0, (size_t)n * sizeof *place);
    for (int32_t r = 0; r < rows; r++) {
        (most   ? last ? place_last_greatest : place_greatest
         : last ? place_last_least
                : place_least)(x + r * step, n, r, best, place, odd);
    }
    for (int64_t i = 0; i < n; i++) {
        place[i] = odd[i] != 0 ? -1 : place[i];
    }
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
