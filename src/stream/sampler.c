/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing a token. The result does not depend on the machine: sums are made in a fixed order,
 * products are rounded before they are added (src/CMakeLists.txt), and exp is Kiln's own. */
#include <math.h>

#include "stream_parts.h"

/* --- memory --- */

kiln_status sampler_make(size_t vocabulary, sampler *made)
{
    made->vocabulary = vocabulary;
    made->scores = kln_alloc_aligned(vocabulary * sizeof *made->scores, 64);
    made->weights = kln_alloc_aligned(vocabulary * sizeof *made->weights, 64);
    made->candidates = kln_alloc(vocabulary * sizeof *made->candidates);
    made->seen = kln_alloc_zeroed(vocabulary, sizeof *made->seen);
    KLN_FAIL_IF(made->scores == NULL || made->weights == NULL || made->candidates == NULL ||
                    made->seen == NULL,
                kln_fail_memory(vocabulary * (sizeof *made->scores + sizeof *made->weights),
                                "choosing tokens"));
    return KILN_OK;
}

void sampler_finish(sampler *gone)
{
    kln_free(gone->scores);
    kln_free(gone->weights);
    kln_free(gone->candidates);
    kln_free(gone->seen);
}

/* --- options --- */

kiln_status sampler_check(const kiln_sampling *sampling)
{
    /* NaN fails each of these checks. */
    if (!(sampling->temperature >= 0) || isinf(sampling->temperature)) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_sampling: the temperature is %g; it is 0 (the largest logit) or more",
                        (double)sampling->temperature);
    }
    if (sampling->top_k < 0) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_sampling: top_k is %d; it is 0 (all) or more", sampling->top_k);
    }
    if (!(sampling->top_p >= 0 && sampling->top_p <= 1)) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT, "kiln_sampling: top_p is %g; it is 0 to 1",
                        (double)sampling->top_p);
    }
    if (!(sampling->repetition_penalty >= 0) || isinf(sampling->repetition_penalty)) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_sampling: the repetition penalty is %g; it is 0 (none) or more",
                        (double)sampling->repetition_penalty);
    }
    return KILN_OK;
}

static bool has_penalty(const kiln_sampling *sampling)
{
    return sampling->repetition_penalty > 0 &&
           (sampling->repetition_penalty < 1 || sampling->repetition_penalty > 1);
}

static bool has_top_p(const kiln_sampling *sampling)
{
    return sampling->top_p > 0 && sampling->top_p < 1;
}

static float penalized(float score, float penalty)
{
    return score > 0 ? score / penalty : score * penalty;
}

/* Element `index` of SplitMix64's sequence (Steele, Lea and Flood, 2014), whose seed is itself
 * mixed first, as 53 bits in [0, 1). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static double random_at(uint64_t seed, uint64_t index)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    return (double)(mix(mix(seed + step) + (index + 1) * step) >> 11) * 0x1p-53;
}

/* --- the largest --- */

/* The bits of a float as an integer with the same order. */
static int32_t key_of(float score)
{
    int32_t bits = 0;
    score += 0.0F; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits < 0 ? bits ^ INT32_MAX : bits;
}

#define INFINITY_KEY 0x7f800000
#define PIECE ((size_t)1024)
#define LEAST_KEY (-INFINITY_KEY - 1) /* of minus infinity */

/* NaN has keys outside the range between the two infinities. */
KLN_CLONES("avx2", "default")
static void find_range(const float *scores, size_t count, int32_t *least, int32_t *most)
{
    int32_t smallest = INT32_MAX;
    int32_t largest = INT32_MIN;
    for (size_t i = 0; i < count; i++) {
        const int32_t key = key_of(scores[i]);
        smallest = key < smallest ? key : smallest;
        largest = key > largest ? key : largest;
    }
    *least = smallest;
    *most = largest;
}

static size_t find_key(const float *scores, int32_t key)
{
    size_t at = 0;
    while (key_of(scores[at]) != key) {
        at++;
    }
    return at;
}

static kiln_status check_range(const float *scores, int32_t least, int32_t most)
{
    size_t at = 0;
    if (least < LEAST_KEY || most > INFINITY_KEY) {
        while (!isnan(scores[at])) {
            at++;
        }
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT, "the logit of token %zu is not a number", at);
    }
    KLN_RETURN_IF(most == LEAST_KEY || most == INFINITY_KEY, KILN_ERROR_INVALID_ARGUMENT, "%s",
                  most == LEAST_KEY ? "all logits are minus infinity: no token is possible"
                                    : "a logit is infinity: there are no probabilities");
    return KILN_OK;
}

/* Works in pieces, so that only one piece is searched for the largest score. */
static kiln_status find_largest(const float *scores, size_t count, size_t *index)
{
    int32_t least = INT32_MAX;
    int32_t most = INT32_MIN;
    size_t place = 0;
    for (size_t first = 0; first < count; first += PIECE) {
        const size_t left = count - first;
        int32_t smallest = 0;
        int32_t largest = 0;
        find_range(scores + first, left < PIECE ? left : PIECE, &smallest, &largest);
        least = smallest < least ? smallest : least;
        place = largest > most ? first : place;
        most = largest > most ? largest : most;
    }
    KLN_RETURN_IF_ERROR(check_range(scores, least, most));
    *index = place + find_key(scores + place, most);
    return KILN_OK;
}

/* --- candidates, best first --- */

static bool is_before(candidate a, candidate b)
{
    const int32_t ka = key_of(a.score);
    const int32_t kb = key_of(b.score);
    return ka != kb ? ka > kb : a.token < b.token;
}

/* For a heap with the best (or worst) at the top: lets `list[at]` sink into place. */
static void sink(candidate *list, size_t count, size_t at, bool best)
{
    const candidate moved = list[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && is_before(list[child + 1], list[child]) == best) {
            child++;
        }
        if (is_before(list[child], moved) != best) {
            break;
        }
        list[at] = list[child];
        at = child;
    }
    list[at] = moved;
}

static void make_heap(candidate *list, size_t count, bool best)
{
    for (size_t i = count / 2; i-- > 0;) {
        sink(list, count, i, best);
    }
}

/* Sorts a heap with the worst at the top, best first. */
static void sort_heap(candidate *list, size_t count)
{
    for (size_t end = count; end > 1; end--) {
        const candidate worst = list[0];
        list[0] = list[end - 1];
        list[end - 1] = worst;
        sink(list, end - 1, 0, false);
    }
}

/* A model's candidates are already in order, except for ties. */
static void sort(candidate *list, size_t count)
{
    bool in_order = true;
    for (size_t i = 1; i < count && in_order; i++) {
        in_order = !is_before(list[i], list[i - 1]);
    }
    if (!in_order) {
        make_heap(list, count, false);
        sort_heap(list, count);
    }
}

/* Selects the `count` best of all scores, in order. */
static void take_best(const sampler *self, size_t count)
{
    candidate *list = self->candidates;
    for (size_t i = 0; i < count; i++) {
        list[i] = (candidate){self->scores[i], (uint32_t)i};
    }
    make_heap(list, count, false);
    for (size_t i = count; i < self->vocabulary; i++) {
        if (self->scores[i] > list[0].score) { /* of equal scores the first one stays */
            list[0] = (candidate){self->scores[i], (uint32_t)i};
            sink(list, count, 0, false);
        }
    }
    sort_heap(list, count);
}

/* --- weights --- */

/* e^x for x <= 0, accurate to one or two units in the last place. Below e^-700 it is 0, which is
 * negligible compared with the largest weight, 1. */
static inline double exponential(double x)
{
    static const double log2_e = 0x1.71547652b82fep+0;
    static const double ln2_high = 0x1.62e42fee00000p-1;
    static const double ln2_low = 0x1.a39ef35793c76p-33;
    static const double rounds = 0x1.8p52;
    const double kept = x > -700 ? x : -700;
    const double shifted = kept * log2_e + rounds;
    const double power = shifted - rounds;
    const double r = (kept - power * ln2_high) - power * ln2_low;
    double sum = 1.0 / 6227020800.0;
    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;
    uint64_t bits = 0;
    double scale = 0;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    memcpy(&scale, &bits, sizeof scale);
    return x > -700 ? sum * scale : 0;
}

KLN_CLONES("avx2", "default")
static void weigh_all(const float *scores, size_t count, double largest, double temperature,
                      double *weights)
{
    for (size_t i = 0; i < count; i++) {
        weights[i] = exponential(((double)scores[i] - largest) / temperature);
    }
}

/* Computes the weights of ordered candidates, and returns their sum. */
static double weigh(const candidate *list, size_t count, double temperature, double *weights)
{
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        weights[i] = exponential(((double)list[i].score - (double)list[0].score) / temperature);
        total += weights[i];
    }
    return total;
}

/* The first index at which the running sum of weights exceeds `target`. */
static size_t find_weight(const double *weights, size_t count, double target)
{
    double sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < count; i++) {
        sum += weights[i];
        if (sum > target) {
            return i;
        }
        last = weights[i] > 0 ? i : last;
    }
    return last;
}

/* Chooses from ordered candidates, fewer of them if `top_p` cuts them off. */
static int64_t choose_in_order(const candidate *list, size_t count, double *weights,
                               const kiln_sampling *sampling, uint64_t index)
{
    double total = weigh(list, count, (double)sampling->temperature, weights);
    if (has_top_p(sampling)) {
        const double enough = (double)sampling->top_p * total;
        double sum = 0;
        size_t kept = 0;
        while (kept < count && sum < enough) {
            sum += weights[kept++];
        }
        count = kept > 0 ? kept : 1;
        total = sum;
    }
    return list[find_weight(weights, count, random_at(sampling->seed, index) * total)].token;
}

/* Chooses from all tokens, in their own order or, with `top_p`, in descending order as far as it
 * reaches. */
static int64_t choose_of_all(const sampler *self, size_t largest, const kiln_sampling *sampling,
                             uint64_t index)
{
    const size_t count = self->vocabulary;
    double total = 0;
    weigh_all(self->scores, count, (double)self->scores[largest], (double)sampling->temperature,
              self->weights);
    for (size_t i = 0; i < count; i++) {
        total += self->weights[i];
    }
    if (!has_top_p(sampling)) {
        return (int64_t)find_weight(self->weights, count, random_at(sampling->seed, index) * total);
    }
    candidate *list = self->candidates;
    const double enough = (double)sampling->top_p * total;
    double sum = 0;
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        if (self->weights[i] > 0) {
            list[left++] = (candidate){self->scores[i], (uint32_t)i};
        }
    }
    const size_t end = left;
    make_heap(list, left, true);
    while (left > 0 && sum < enough) { /* taken ones follow the heap, the last one first */
        const candidate best = list[0];
        list[0] = list[--left];
        sink(list, left, 0, true);
        list[left] = best;
        sum += self->weights[best.token];
    }
    const double target = random_at(sampling->seed, index) * sum;
    double passed = 0;
    size_t at = end;
    do {
        at--;
        passed += self->weights[list[at].token];
    } while (at > left && passed <= target);
    return list[at].token;
}

/* --- a token --- */

/* Penalizes each token's logit once, however often the sequence contains it. */
static void penalize(sampler *self, const int64_t *tokens, size_t count, float penalty)
{
    if (++self->stamp == 0) {
        memset(self->seen, 0, self->vocabulary * sizeof *self->seen);
        self->stamp = 1;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t token = (size_t)tokens[i];
        if (token < self->vocabulary && self->seen[token] != self->stamp) {
            self->seen[token] = self->stamp;
            self->scores[token] = penalized(self->scores[token], penalty);
        }
    }
}

kiln_status sampler_choose(sampler *self, const int64_t *tokens, size_t token_count,
                           const kiln_sampling *sampling, uint64_t index, int64_t *token)
{
    size_t largest = 0;
    if (has_penalty(sampling)) {
        penalize(self, tokens, token_count, sampling->repetition_penalty);
    }
    KLN_RETURN_IF_ERROR(find_largest(self->scores, self->vocabulary, &largest));
    const size_t best = (size_t)sampling->top_k;
    if (sampling->temperature <= 0 || best == 1) {
        *token = (int64_t)largest;
    } else if (best == 0 || best >= self->vocabulary) {
        *token = choose_of_all(self, largest, sampling, index);
    } else {
        take_best(self, best);
        *token = choose_in_order(self->candidates, best, self->weights, sampling, index);
    }
    return KILN_OK;
}

bool sampler_choose_of(sampler *self, const candidate *largest, size_t count, const int64_t *tokens,
                       size_t token_count, const kiln_sampling *sampling, uint64_t index,
                       int64_t *token)
{
    const size_t wanted = sampling->temperature <= 0 ? 1 : (size_t)sampling->top_k;
    const bool whole = count == self->vocabulary;
    if (wanted == 0 || wanted > count ||
        (has_penalty(sampling) && sampling->repetition_penalty < 1)) {
        return false;
    }
    candidate *list = self->candidates;
    memcpy(list, largest, count * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        if (list[i].token >= self->vocabulary || !isfinite(list[i].score)) {
            return false;
        }
    }
    sort(list, count);
    const float least = list[count - 1].score; /* no other score is larger */
    for (size_t i = 0; has_penalty(sampling) && i < count; i++) {
        for (size_t k = 0; k < token_count; k++) {
            if (tokens[k] == (int64_t)list[i].token) {
                list[i].score = penalized(list[i].score, sampling->repetition_penalty);
                break;
            }
        }
    }
    if (has_penalty(sampling)) {
        sort(list, count);
    }
    if (!whole && list[wanted - 1].score <= least) {
        return false; /* another token may have an equal score */
    }
    *token = wanted == 1 ? (int64_t)list[0].token
                         : choose_in_order(list, wanted, self->weights, sampling, index);
    return true;
}

kiln_status kiln_sample(const float *logits, size_t vocabulary, const int64_t *tokens,
                        size_t token_count, const kiln_sampling *sampling, uint64_t index,
                        int64_t *token)
{
    kiln_sampling how = KILN_SAMPLING_INIT;
    sampler self = {.scores = NULL};
    KLN_RETURN_IF_NULL(logits, token);
    KLN_FAIL_IF(tokens == NULL && token_count != 0, kln_fail_null(__func__, "tokens"));
    KLN_RETURN_IF(vocabulary == 0 || vocabulary > INT32_MAX, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_sample: a vocabulary of %zu tokens was given, 1 to %d can be chosen "
                  "from",
                  vocabulary, INT32_MAX);
    if (sampling != NULL) {
        KLN_RETURN_IF_ERROR(kln_options_read("kiln_sampling", sampling, &how, sizeof how));
    }
    KLN_RETURN_IF_ERROR(sampler_check(&how));
    for (size_t i = 0; i < token_count; i++) {
        KLN_RETURN_IF(tokens[i] < 0 || (uint64_t)tokens[i] >= vocabulary,
                      KILN_ERROR_INVALID_ARGUMENT,
                      "kiln_sample: token %zu is %lld, and the vocabulary has %zu", i,
                      (long long)tokens[i], vocabulary);
    }
    kiln_status status = sampler_make(vocabulary, &self);
    if (status == KILN_OK) {
        memcpy(self.scores, logits, vocabulary * sizeof *logits);
        status = sampler_choose(&self, tokens, token_count, &how, index, token);
    }
    sampler_finish(&self);
    return status;
}
