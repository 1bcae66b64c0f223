/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing tokens, beside a plain way to do the same: sort all, and add up. */
#include "kiln_test.h"
#include "stream/stream_parts.h"

#define MOST 600

static double uniform(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) * 0x1p-53;
}

/* --- the plain way --- */

typedef struct entry {
    double score;
    size_t token;
} entry;

static int by_score(const void *a, const void *b)
{
    const entry *x = a;
    const entry *y = b;
    return x->score != y->score  ? (x->score < y->score) - (x->score > y->score)
           : x->token < y->token ? -1
                                 : 1;
}

/* SplitMix64, as sampler.c says that it does. */
static uint64_t split_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static double random_of(uint64_t seed, uint64_t index)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    return (double)(split_mix(split_mix(seed + step) + (index + 1) * step) >> 11) * 0x1p-53;
}

/* How far a random number lies from where another token begins goes to `*margin`. */
static size_t plainly(const float *logits, size_t count, const int64_t *tokens, size_t token_count,
                      const kiln_sampling *how, uint64_t index, double *margin)
{
    entry all[MOST];
    double weights[MOST];
    double total = 0;
    double sum = 0;
    size_t kept = how->top_k != 0 && (size_t)how->top_k < count ? (size_t)how->top_k : count;
    for (size_t i = 0; i < count; i++) {
        bool seen = false;
        for (size_t t = 0; t < token_count; t++) {
            seen |= tokens[t] == (int64_t)i;
        }
        float score = logits[i];
        if (seen && how->repetition_penalty > 0) {
            score = score > 0 ? score / how->repetition_penalty : score * how->repetition_penalty;
        }
        all[i] = (entry){(double)score, i};
    }
    *margin = 1;
    qsort(all, count, sizeof *all, by_score);
    if (how->temperature <= 0 || kept == 1) {
        return all[0].token;
    }
    for (size_t i = 0; i < kept; i++) {
        weights[i] = exp((all[i].score - all[0].score) / (double)how->temperature);
        total += weights[i];
    }
    if (how->top_p > 0 && how->top_p < 1) {
        size_t n = 0;
        for (double reached = 0; n < kept && reached < (double)how->top_p * total;) {
            reached += weights[n++];
            *margin = fmin(*margin, fabs(reached / total - (double)how->top_p));
        }
        kept = n;
        total = 0;
        for (size_t i = 0; i < kept; i++) {
            total += weights[i];
        }
    } else if (kept == count) { /* in the order of tokens */
        for (size_t i = 0; i < count; i++) {
            all[i] = (entry){all[i].score, all[i].token};
        }
        entry ordered[MOST];
        double ordered_weights[MOST];
        for (size_t i = 0; i < count; i++) {
            ordered[all[i].token] = all[i];
            ordered_weights[all[i].token] = weights[i];
        }
        memcpy(all, ordered, sizeof ordered);
        memcpy(weights, ordered_weights, sizeof ordered_weights);
    }
    const double target = random_of(how->seed, index) * total;
    size_t chosen = kept;
    for (size_t i = 0; i < kept; i++) {
        sum += weights[i];
        *margin = fmin(*margin, fabs(sum - target) / total);
        if (chosen == kept && sum > target) {
            chosen = i;
        }
    }
    return all[chosen < kept ? chosen : kept - 1].token;
}

TEST(tokens_are_those_that_the_plain_way_gives)
{
    static const float temperatures[] = {0, 0.3F, 1, 2.5F};
    static const float parts[] = {0, 0.05F, 0.5F, 0.93F, 1};
    static const float penalties[] = {0, 1, 1.3F, 0.8F};
    float logits[MOST];
    uint64_t random = 1;
    size_t near = 0;
    size_t tried = 0;
    for (int round = 0; round < 6000; round++) {
        const size_t count = 1 + (size_t)(uniform(&random) * (round % 10 == 0 ? MOST - 1 : 60));
        int64_t tokens[20];
        for (size_t i = 0; i < count; i++) {
            /* Many of them alike. */
            const double value = (uniform(&random) - 0.5) * 12;
            logits[i] = (float)(round % 3 == 0 ? floor(value) : value);
            logits[i] = uniform(&random) < 0.05 && i > 0 ? -INFINITY : logits[i];
        }
        for (size_t i = 0; i < 20; i++) {
            tokens[i] = (int64_t)(uniform(&random) * (double)count);
        }
        const size_t k = (size_t)(uniform(&random) * 12);
        const kiln_sampling how =
            KILN_SAMPLING(.temperature = temperatures[round % 4],
                          .top_k = round % 2 == 0 ? 0 : (int32_t)k, .top_p = parts[round % 5],
                          .repetition_penalty = penalties[round / 7 % 4],
                          .seed = (uint64_t)round * 17);
        int64_t token = -1;
        double margin = 0;
        assert_ok(kiln_sample(logits, count, tokens, (size_t)round % 20, &how, (uint64_t)round % 9,
                              &token));
        const size_t expected =
            plainly(logits, count, tokens, (size_t)round % 20, &how, (uint64_t)round % 9, &margin);
        tried++;
        if (margin < 1e-12) {
            near++; /* rounding may decide */
        } else {
            assert_int_equal(token, expected);
        }
        /* And the same again. */
        int64_t again = -1;
        assert_ok(kiln_sample(logits, count, tokens, (size_t)round % 20, &how, (uint64_t)round % 9,
                              &again));
        assert_int_equal(again, token);
    }
    assert_true(near * 100 < tried);
}

/* What the sampler takes of a model's candidates alone is what it takes of all logits. */
TEST(candidates_give_the_same_token_or_none)
{
    float logits[MOST];
    uint64_t random = 3;
    size_t told = 0;
    sampler self = {.scores = NULL};
    assert_ok(sampler_make(MOST, &self));
    for (int round = 0; round < 3000; round++) {
        candidate largest[16];
        entry all[MOST];
        int64_t tokens[20];
        for (size_t i = 0; i < MOST; i++) {
            const double value = (uniform(&random) - 0.5) * 12;
            logits[i] = (float)(round % 4 == 0 ? floor(value) : value);
            all[i] = (entry){(double)logits[i], i};
        }
        for (size_t i = 0; i < 20; i++) {
            tokens[i] = (int64_t)(uniform(&random) * MOST);
        }
        qsort(all, MOST, sizeof *all, by_score);
        for (size_t i = 0; i < 16; i++) {
            largest[i] = (candidate){(float)all[i].score, (uint32_t)all[i].token};
        }
        tokens[3] = (int64_t)all[0].token;
        tokens[4] = (int64_t)all[2].token;
        const kiln_sampling how =
            KILN_SAMPLING(.temperature = round % 3 == 0 ? 0 : 0.8F, .top_k = round % 19,
                          .top_p = round % 2 == 0 ? 0 : 0.7F,
                          .repetition_penalty = round % 5 == 0 ? 1.2F : 0, .seed = (uint64_t)round);
        int64_t of_few = -1;
        int64_t of_all = -1;
        assert_ok(kiln_sample(logits, MOST, tokens, 20, &how, 1, &of_all));
        if (sampler_choose_of(&self, largest, 16, tokens, 20, &how, 1, &of_few)) {
            assert_int_equal(of_few, of_all);
            told++;
        }
    }
    sampler_finish(&self);
    assert_true(told > 1000 && told < 3000);
}

TEST(logits_of_half_precision_become_the_same_numbers)
{
    static uint16_t halves[65536];
    static const kiln_dtype dtypes[] = {KILN_DTYPE_FLOAT16, KILN_DTYPE_BFLOAT16};
    sampler self = {.scores = NULL};
    assert_ok(sampler_make(65536, &self));
    for (size_t i = 0; i < 65536; i++) {
        halves[i] = (uint16_t)i;
    }
    for (size_t d = 0; d < 2; d++) {
        sampler_load(&self, dtypes[d], halves);
        for (size_t i = 0; i < 65536; i++) {
            const float expected =
                d == 0 ? kln_float_from_half(halves[i]) : kln_float_from_bfloat16(halves[i]);
            assert_true(isnan(expected) ? isnan(self.scores[i])
                                        : memcmp(&expected, &self.scores[i], 4) == 0);
        }
    }
    sampler_finish(&self);
}

/* The share of each token is its probability. */
TEST(tokens_come_as_often_as_they_should)
{
    enum { DRAWS = 200000 };
    static const float logits[] = {1, 0, -1, 2, -INFINITY};
    const kiln_sampling how = KILN_SAMPLING(.temperature = 1, .seed = 99);
    size_t counts[5] = {0};
    double total = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        int64_t token = -1;
        assert_ok(kiln_sample(logits, 5, NULL, 0, &how, i, &token));
        counts[token]++;
    }
    for (size_t i = 0; i < 5; i++) {
        total += exp((double)logits[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        const double share = exp((double)logits[i]) / total;
        const double deviation = sqrt(share * (1 - share) / DRAWS);
        assert_true(fabs((double)counts[i] / DRAWS - share) <= 5 * deviation);
    }
}

TEST(a_seed_gives_these_tokens_on_every_machine)
{
    static const int64_t expected[] = {59, 37, 54, 97, 86, 81, 89, 62,
                                       97, 13, 27, 29, 27, 5,  40, 16};
    float logits[100];
    for (size_t i = 0; i < 100; i++) {
        logits[i] = (float)((i * 37) % 100) / 25.0F;
    }
    const kiln_sampling how =
        KILN_SAMPLING(.temperature = 0.9F, .top_k = 50, .top_p = 0.95F, .seed = 1234);
    for (uint64_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        int64_t token = -1;
        assert_ok(kiln_sample(logits, 100, NULL, 0, &how, i, &token));
        assert_int_equal(token, expected[i]);
    }
}

TEST(what_cannot_be_chosen_from_is_refused)
{
    float logits[4] = {0, 1, 2, 3};
    int64_t token = -1;
    const int64_t outside = 4;
    const kiln_sampling good = KILN_SAMPLING(.temperature = 1);
    const kiln_sampling bad[] = {KILN_SAMPLING(.temperature = NAN),
                                 KILN_SAMPLING(.temperature = INFINITY), KILN_SAMPLING(.top_k = -1),
                                 KILN_SAMPLING(.top_p = 1.5F),
                                 KILN_SAMPLING(.repetition_penalty = -1)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                     kiln_sample(logits, 4, NULL, 0, &bad[i], 0, &token), "kiln_sampling: ");
    }
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_sample(logits, 0, NULL, 0, &good, 0, &token),
                 "a vocabulary of 0 tokens");
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_sample(logits, 4, &outside, 1, &good, 0, &token),
                 "token 0 is 4");
    static const float wrong[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < 4; k++) {
            logits[k] = i == 3 || k == 1 ? wrong[i] : 0;
        }
        for (int greedy = 0; greedy < 2; greedy++) {
            assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                         kiln_sample(logits, 4, NULL, 0, greedy ? NULL : &good, 0, &token),
                         i < 2    ? "the logit of token 1 is not a number"
                         : i == 2 ? "infinity"
                                  : "no token is possible");
        }
    }
}
