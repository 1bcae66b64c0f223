/* TfIdfVectorizer: how often each n-gram of a pool occurs in each row of numbers.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

typedef struct ngrams {
    const int64_t *starts; /* in the pool, for the n-grams of each length */
    size_t start_count;
    const int64_t *pool;
    size_t pool_count;
    const int64_t *columns; /* for each n-gram */
    size_t column_count;
    const kln_onnx_attribute *weights; /* for each column, or NULL */
    int64_t shortest, longest, skips;
    int64_t width; /* number of output columns */
} ngrams;

/* The n-grams of `length`: where they start in the pool, their number, and the index of the
 * first. */
static int64_t of_length(const ngrams *g, int64_t length, int64_t *begin, int64_t *first)
{
    *first = 0;
    for (int64_t i = 1; i <= length; i++) {
        const int64_t from = g->starts[i - 1];
        const int64_t to = (size_t)i < g->start_count ? g->starts[i] : (int64_t)g->pool_count;
        *begin = from;
        if (i == length) {
            return (to - from) / length;
        }
        *first += (to - from) / i;
    }
    return 0;
}

static kiln_status fail_pool(const char *what)
{
    return kln_fail(KILN_ERROR_INVALID_NETWORK, "the pool of n-grams: %s", what);
}

static kiln_status check_pool(ngrams *g)
{
    int64_t all = 0;
    for (size_t i = 0; i < g->start_count; i++) {
        const int64_t to = i + 1 < g->start_count ? g->starts[i + 1] : (int64_t)g->pool_count;
        KLN_FAIL_IF(g->starts[i] < 0 || to < g->starts[i] || to > (int64_t)g->pool_count ||
                        (to - g->starts[i]) % ((int64_t)i + 1) != 0,
                    fail_pool("ngram_counts does not divide it"));
        all += (to - g->starts[i]) / ((int64_t)i + 1);
    }
    KLN_FAIL_IF(g->shortest < 1 || g->longest < g->shortest ||
                    (size_t)g->longest > g->start_count || g->skips < 0 || g->skips > INT32_MAX,
                fail_pool("the lengths are outside it"));
    KLN_FAIL_IF((size_t)all != g->column_count,
                fail_pool("ngram_indexes has not one entry for each n-gram"));
    for (size_t i = 0; i < g->column_count; i++) {
        KLN_FAIL_IF(g->columns[i] < 0 || g->columns[i] > INT32_MAX,
                    fail_pool("ngram_indexes has an entry that is no column"));
        g->width = g->columns[i] >= g->width ? g->columns[i] + 1 : g->width;
    }
    return g->weights == NULL || g->weights->count >= (size_t)g->width
               ? KILN_OK
               : fail_pool("there are fewer weights than columns");
}

static kiln_status read_ngrams(const ref_call *call, ngrams *g)
{
    const kln_onnx_attribute *weights = ref_attribute(call, "weights");
    g->starts = ref_attribute_ints(call, "ngram_counts", &g->start_count);
    g->pool = ref_attribute_ints(call, "pool_int64s", &g->pool_count);
    g->columns = ref_attribute_ints(call, "ngram_indexes", &g->column_count);
    g->weights = weights != NULL && weights->type == KLN_ONNX_ATTRIBUTE_FLOATS ? weights : NULL;
    g->shortest = ref_attribute_int(call, "min_gram_length", 0);
    g->longest = ref_attribute_int(call, "max_gram_length", 0);
    g->skips = ref_attribute_int(call, "max_skip_count", 0);
    return check_pool(g);
}

/* Counts the n-gram of `length` that starts at `row` and takes every `step`-th element. */
static void count_one(const ngrams *g, const int64_t *row, int64_t length, int64_t step,
                      double *counts)
{
    int64_t begin = 0;
    int64_t first = 0;
    const int64_t many = of_length(g, length, &begin, &first);
    for (int64_t i = 0; i < many; i++) {
        const int64_t *gram = g->pool + begin + i * length;
        int64_t same = 0;
        while (same < length && gram[same] == row[same * step]) {
            same++;
        }
        if (same == length) {
            counts[g->columns[first + i]] += 1.0;
        }
    }
}

/* Single elements are the same for every skip, so they count once. */
static void count_row(const ngrams *g, const int64_t *row, int64_t size, double *counts)
{
    for (int64_t step = 1; step <= g->skips + 1 && step <= (size > 1 ? size : 1); step++) {
        for (int64_t length = g->shortest; length <= g->longest; length++) {
            if (length == 1 && step > 1) {
                continue;
            }
            for (int64_t at = 0; at < size && (length - 1) * step < size - at; at++) {
                count_one(g, row + at, length, step, counts);
            }
        }
    }
}

static kiln_status ref_op_ngrams(ref_call *call)
{
    ngrams g = {.width = 0};
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    int64_t *values = NULL;
    double *counts = NULL;
    KLN_RETURN_IF_ERROR(read_ngrams(call, &g));
    KLN_RETURN_IF(x->rank < 1 || x->rank > 2, KILN_ERROR_RANK,
                  "a row or rows are needed, found %d dimensions", x->rank);
    const int64_t size = x->dims[x->rank - 1];
    const int64_t dims[2] = {x->rank == 2 ? x->dims[0] : g.width, g.width};
    const int64_t rows = x->rank == 2 ? x->dims[0] : 1;
    const double steps = fmin((double)g.skips + 1.0, (double)size);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_FLOAT32, x->rank, dims, &y));
    KLN_RETURN_IF_ERROR(ref_spend(
        call, (double)rows * (double)size * steps * (double)(g.pool_count + g.start_count)));
    KLN_RETURN_IF_ERROR(ref_ints(call, x, &values));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)g.width, sizeof *counts, &counts));
    const char *mode = ref_attribute_string(call, "mode", "TF");
    for (int64_t i = 0; i < rows; i++) {
        memset(counts, 0, (size_t)g.width * sizeof *counts);
        count_row(&g, values + i * size, size, counts);
        for (int64_t k = 0; k < g.width; k++) {
            const double weight = g.weights != NULL ? (double)g.weights->floats[k] : 1.0;
            const double count = strcmp(mode, "IDF") == 0 ? (double)(counts[k] > 0.0) : counts[k];
            ref_put_float(y, i * g.width + k, strcmp(mode, "TF") == 0 ? count : count * weight);
        }
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_ngram[] = {
    REF_OP("TfIdfVectorizer", 9, ngrams, 0, "n"),
    REF_KERNELS_END
};
/* clang-format on */
