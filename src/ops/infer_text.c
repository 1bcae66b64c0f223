/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_tfidf(kln_rule *rule)
{
    size_t count = 0;
    const int64_t *indexes = kln_rule_ints(rule, "ngram_indexes", &count);
    if (!kln_rule_ranked(rule, 0) || indexes == NULL || !kln_rule_need_rank(rule, 0, 1, 2)) {
        return;
    }
    int64_t most = -1;
    for (size_t i = 0; i < count; i++) {
        if (!kln_fit_at_least(rule, "ngram_indexes", indexes[i], 0)) {
            return;
        }
        most = indexes[i] > most ? indexes[i] : most;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = most < INT64_MAX ? kln_rule_new_shape(rule, 0, rank) : NULL;
    if (dims != NULL) {
        dims[0] = kln_rule_dim(rule, 0, 0);
        dims[rank - 1] = KLN_DIM_OF_NUMBER(most + 1);
    }
}

/* The pool's start for each length of n-grams is valid, and the pool contains whole n-grams. */
static bool fit_tfidf(kln_rule *rule)
{
    size_t count = 0;
    const kln_onnx_attribute *strings = kln_rule_attribute(rule, "pool_strings");
    size_t pool = strings != NULL ? strings->count : 0;
    const int64_t *starts = kln_rule_ints(rule, "ngram_counts", &count);
    size_t index_count = 0;
    (void)kln_rule_ints(rule, "ngram_indexes", &index_count);
    if (strings == NULL) {
        (void)kln_rule_ints(rule, "pool_int64s", &pool);
    }
    size_t grams = 0;
    bool fits = starts != NULL;
    for (size_t i = 0; fits && i < count; i++) {
        const int64_t end = i + 1 < count ? starts[i + 1] : (int64_t)pool;
        fits = starts[i] >= 0 && end >= starts[i] && end <= (int64_t)pool &&
               (end - starts[i]) % (int64_t)(i + 1) == 0;
        grams += fits ? (size_t)(end - starts[i]) / (i + 1) : 0;
    }
    const int64_t shortest = kln_rule_int(rule, "min_gram_length", 1);
    const int64_t longest = kln_rule_int(rule, "max_gram_length", 1);
    if (shortest < 1 || longest < shortest || longest > (int64_t)count ||
        kln_rule_int(rule, "max_skip_count", 0) < 0) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "max_gram_length", "lengths of the pool", "others",
                       "n-grams of %lld to %lld are asked for, but the pool has lengths 1 to %zu",
                       (long long)shortest, (long long)longest, count);
        return false;
    }
    const char *found = KLN_PRINTED("%zu", pool);
    if (!fits) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "ngram_counts", "where each length begins", found,
                       "\"ngram_counts\" does not divide the pool of %s into whole n-grams", found);
    } else if (grams != index_count) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "ngram_indexes", "one for each n-gram", found,
                       "\"ngram_indexes\" has %zu numbers for %zu n-grams", index_count, grams);
        fits = false;
    }
    return fits;
}

static void rule_string_normalizer(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    if (rank < 1 || rank > 2 ||
        (rank == 2 && kln_rule_dim(rule, 0, 0).kind == KLN_DIM_NUMBER &&
         !kln_rule_is(kln_rule_dim(rule, 0, 0), 1))) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "[n] or [1,n]",
                       "another shape", "\"%.100s\" must have the shape [n] or [1,n]",
                       rule->node->inputs[0]);
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (dims != NULL && rank == 2) {
        dims[0] = KLN_DIM_OF_NUMBER(1);
    }
}

static void rule_string_split(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 1);
    (void)kln_rule_shape_like(rule, 0, kln_rule_rank(rule, 0) + 1);
}

static void rule_image_decoder(kln_rule *rule)
{
    const char *format = kln_rule_string(rule, "pixel_format", "RGB");
    kln_rule_give(rule, 0, KLN_UNKNOWN_DIM, KLN_UNKNOWN_DIM,
                  KLN_DIM_OF_NUMBER(strcmp(format, "Grayscale") == 0 ? 1 : 3));
}

const kln_op_rule kln_rules_text[] = {
    OP("ImageDecoder", rule_image_decoder, .form = "20: _"),
    OP("StringNormalizer", rule_string_normalizer, .ranked = true),
    OP("StringSplit", rule_string_split, .ranked = true),
    OP("TfIdfVectorizer", rule_tfidf, .form = "9: -", .fit = fit_tfidf), OP_END};
