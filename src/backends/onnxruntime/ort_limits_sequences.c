/* Recurrences, attention, normalization and n-grams that ONNX Runtime's kernels do not support.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ort_limits.h"

/* --- recurrences --- */

ort_refusal ort_limit_recurrence(const kln_node_view *view)
{
    if (kln_view_int(view, "layout", 0) != 0) {
        return ort_no_build("has no layout 1 of recurrences; transpose around a node of layout 0");
    }
    if (strcmp(view->node->op_type, "RNN") != 0 && kln_view_type(view, 0) == DOUBLE) {
        return ort_no_run("does not run it for float64; cast to float32");
    }
    return ort_takes;
}

/* --- normalization --- */

ort_refusal ort_limit_rms(const kln_node_view *view)
{
    const int32_t type = kln_view_type(view, 0);
    const int32_t scale = kln_view_type(view, 1);
    return type != 0 && scale != 0 && type != scale
               ? ort_no_build("takes a scale of the input's own type only")
               : ort_takes;
}

ort_refusal ort_limit_groups(const kln_node_view *view)
{
    return kln_view_count(view, 0) == 0 ? ort_no_run("does not normalize groups of no elements")
                                        : ort_takes;
}

/* --- attention --- */

/* ONNX Runtime runs ONNX's function if it has no kernel, with the limits of that function. */
static ort_refusal limit_mask_type(const kln_node_view *view)
{
    const int32_t type = kln_view_type(view, 0);
    const int32_t mask = kln_view_type(view, 3);
    const int64_t within = kln_view_int(view, "softmax_precision", type);
    if (mask != 0 && mask != BOOL && mask != FLOAT && (mask != FLOAT16 || type != FLOAT16) &&
        (kln_view_int(view, "is_causal", 0) != 0 || kln_view_has(view, 6))) {
        return ort_no_build(
            "has is_causal and lengths of keys beside a mask of truth values or "
            "float32 only; cast it");
    }
    const bool function = type == DOUBLE || (mask != 0 && mask != BOOL && mask != type);
    return function && within != type && type != 0 && view->node->output_count > 3 &&
                   kln_view_int(view, "qk_matmul_output_mode", 0) == 3
               ? ort_no_build(
                     "gives what comes out of the Softmax in its own softmax_precision only")
               : ort_takes;
}

ort_refusal ort_limit_attention(const kln_node_view *view)
{
    for (size_t i = 0; i < 3; i++) {
        if (kln_view_count(view, i) == 0) {
            return ort_no_run("takes no queries, keys or values without elements");
        }
    }
    const int64_t rank = kln_view_rank(view, 3);
    const int64_t flat = kln_view_rank(view, 0) == 3 ? 1 : 2;
    const int64_t queries = kln_view_dim(view, 0, (size_t)flat);
    const int64_t past = kln_view_has(view, 4) ? kln_view_dim(view, 4, 2) : 0;
    const int64_t keys = kln_view_dim(view, 1, (size_t)flat);
    const int64_t rows = rank >= 2 ? kln_view_dim(view, 3, (size_t)rank - 2) : -1;
    const int64_t columns = rank >= 2 ? kln_view_dim(view, 3, (size_t)rank - 1) : -1;
    if (rank == 1 || (rows >= 0 && queries >= 0 && rows != queries) ||
        (columns >= 0 && keys >= 0 && past >= 0 && columns != keys + past)) {
        return ort_no_run("takes a mask with a row for each query and a column for each key only");
    }
    return limit_mask_type(view);
}

/* --- n-grams --- */

static uint64_t hash_gram(const kln_onnx_attribute *pool, size_t first, size_t length)
{
    uint64_t hash = KLN_HASH_SEED;
    for (size_t i = first; i < first + length; i++) {
        hash = pool->strings != NULL
                   ? kln_hash(pool->strings[i].data, pool->strings[i].size, hash + i - first)
                   : kln_hash(&pool->ints[i], sizeof pool->ints[i], hash);
    }
    return hash;
}

/* Each counted n-gram may occur only once in the pool. */
ort_refusal ort_limit_grams(const kln_node_view *view)
{
    size_t lengths = 0;
    const int64_t *starts = kln_view_ints(view, "ngram_counts", &lengths);
    const kln_onnx_attribute *strings = kln_onnx_find_attribute(view->node, "pool_strings");
    const kln_onnx_attribute *pool =
        strings != NULL ? strings : kln_onnx_find_attribute(view->node, "pool_int64s");
    const int64_t least = kln_view_int(view, "min_gram_length", 1);
    const int64_t most = kln_view_int(view, "max_gram_length", 1);
    bool twice = false;
    if (kln_view_dim(view, 0, 0) == 0 && kln_view_rank(view, 0) == 2) {
        return ort_no_run("takes no batch of 0");
    }
    for (size_t n = 1; pool != NULL && n <= lengths && (int64_t)n <= most && !twice; n++) {
        const int64_t end = n < lengths ? starts[n] : (int64_t)pool->count;
        const int64_t count = (end - starts[n - 1]) / (int64_t)n;
        if ((int64_t)n < least || starts[n - 1] < 0 || end > (int64_t)pool->count || count < 2) {
            continue;
        }
        uint64_t *hashes = kln_alloc((size_t)count * sizeof *hashes);
        for (int64_t i = 0; hashes != NULL && i < count; i++) {
            hashes[i] = hash_gram(pool, (size_t)(starts[n - 1] + i * (int64_t)n), n);
        }
        if (hashes != NULL) {
            kln_sort(hashes, (size_t)count);
        }
        for (int64_t i = 1; hashes != NULL && i < count; i++) {
            twice = twice || hashes[i] == hashes[i - 1];
        }
        kln_free(hashes);
    }
    return twice ? ort_no_build("takes each n-gram of its pool once only") : ort_takes;
}
