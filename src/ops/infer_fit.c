/* What the shapes of several inputs must be beside each other, where no form can say it.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* Both known and not the same is a fault of `what`. */
bool kln_fit_same(kln_rule *rule, kln_dim a, kln_dim b, const char *what)
{
    (void)kln_rule_unify(rule, a, b, what);
    return a.kind != KLN_DIM_NUMBER || b.kind != KLN_DIM_NUMBER || a.of.number == b.of.number;
}

bool kln_fit_dim(kln_rule *rule, size_t input, size_t axis, kln_dim wanted, const char *what)
{
    return !kln_rule_ranked(rule, input) ||
           kln_fit_same(rule, kln_rule_dim(rule, input, axis), wanted, what);
}

/* `parts` share `count` equally. */
bool kln_fit_shares(kln_rule *rule, size_t input, kln_dim count, int64_t parts, const char *what)
{
    char expected[48];
    char found[32];
    if (count.kind != KLN_DIM_NUMBER || (parts > 0 && count.of.number % parts == 0)) {
        return true;
    }
    (void)snprintf(expected, sizeof expected,
                   parts > 0 ? "a multiple of %lld" : "at least 1 of them", (long long)parts);
    (void)snprintf(found, sizeof found, "%lld", (long long)count.of.number);
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[input], expected, found,
                   "\"%.100s\" has %s %s, which %lld groups cannot share equally",
                   rule->node->inputs[input], found, what, (long long)parts);
    return false;
}

static kln_dim number(int64_t value)
{
    return KLN_DIM_OF_NUMBER(value);
}

/* The condition of an If has one element, in however many dimensions. */
bool kln_fit_condition(kln_rule *rule)
{
    for (size_t i = 0; i < kln_rule_rank(rule, 0); i++) {
        if (!kln_fit_dim(rule, 0, i, number(1), "the dimensions of a condition and 1")) {
            return false;
        }
    }
    return true;
}

/* --- recurrences --- */

static int64_t gates_of(const kln_rule *rule)
{
    const char *name = rule->node->op_type;
    return strcmp(name, "LSTM") == 0 ? 4 : strcmp(name, "GRU") == 0 ? 3 : 1;
}

static bool fit_states(kln_rule *rule, kln_dim ways, kln_dim batch, kln_dim hidden,
                       bool batch_first)
{
    static const size_t states[2] = {5, 6};
    for (size_t i = 0; i < 2; i++) {
        const size_t input = states[i];
        if (!kln_rule_ranked(rule, input)) {
            continue;
        }
        if (!kln_rule_need_rank(rule, input, 3, 3) ||
            !kln_fit_dim(rule, input, batch_first ? 1 : 0, ways, "the directions of a state") ||
            !kln_fit_dim(rule, input, batch_first ? 0 : 1, batch, "the batches of a state") ||
            !kln_fit_dim(rule, input, 2, hidden, "the hidden size and a state's")) {
            return false;
        }
    }
    return true;
}

bool kln_fit_recurrent(kln_rule *rule)
{
    kln_expressions *pool = &rule->state->pool;
    const bool batch_first = kln_rule_int(rule, "layout", 0) != 0;
    const int64_t given = kln_rule_int(rule, "hidden_size", -1);
    const kln_dim hidden = given > 0 ? number(given) : kln_rule_dim(rule, 2, 2);
    const bool both = strcmp(kln_rule_string(rule, "direction", "forward"), "bidirectional") == 0;
    const kln_dim ways = number(both ? 2 : 1);
    const kln_dim batch = kln_rule_dim(rule, 0, batch_first ? 0 : 1);
    const kln_dim gates = kln_dim_times(pool, hidden, gates_of(rule));
    if (!kln_fit_dim(rule, 1, 0, ways, "the directions and those of W") ||
        !kln_fit_dim(rule, 2, 0, ways, "the directions and those of R") ||
        !kln_fit_dim(rule, 1, 1, gates, "the gates' elements and those of W") ||
        !kln_fit_dim(rule, 2, 1, gates, "the gates' elements and those of R") ||
        !kln_fit_dim(rule, 2, 2, hidden, "the hidden size and that of R") ||
        !kln_fit_dim(rule, 3, 0, ways, "the directions and those of B") ||
        !kln_fit_dim(rule, 3, 1, kln_dim_times(pool, gates, 2), "the biases of all gates and B")) {
        return false;
    }
    if (kln_rule_ranked(rule, 4) &&
        (!kln_rule_need_rank(rule, 4, 1, 1) ||
         !kln_fit_dim(rule, 4, 0, batch, "the batches and the lengths"))) {
        return false;
    }
    return fit_states(rule, ways, batch, hidden, batch_first) &&
           kln_fit_dim(rule, 7, 0, ways, "the directions and those of P") &&
           kln_fit_dim(rule, 7, 1, kln_dim_times(pool, hidden, 3), "the peepholes and P");
}

/* --- windows --- */

bool kln_fit_conv_transpose(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return true;
    }
    const kln_dim maps =
        kln_dim_times(&rule->state->pool, kln_rule_dim(rule, 1, 1), kln_rule_int(rule, "group", 1));
    return kln_fit_dim(rule, 1, 0, kln_rule_dim(rule, 0, 1),
                       "the channels and those of the weights") &&
           kln_fit_dim(rule, 2, 0, maps, "the biases and the channels that come out");
}

bool kln_fit_conv(kln_rule *rule)
{
    return !kln_rule_ranked(rule, 1) || (kln_fit_shares(rule, 1, kln_rule_dim(rule, 1, 0),
                                                        kln_rule_int(rule, "group", 1), "maps") &&
                                         kln_fit_dim(rule, 2, 0, kln_rule_dim(rule, 1, 0),
                                                     "the biases and the channels that come out"));
}

/* One zero point or scale for all, or one for each map of the weights. */
static bool fit_each(kln_rule *rule, size_t input, size_t weights)
{
    if (!kln_rule_ranked(rule, input) || kln_rule_rank(rule, input) == 0 ||
        (kln_rule_rank(rule, input) == 1 && kln_rule_is(kln_rule_dim(rule, input, 0), 1))) {
        return true;
    }
    return kln_rule_need_rank(rule, input, 0, 1) &&
           kln_fit_dim(rule, input, 0, kln_rule_dim(rule, weights, 0),
                       "what there is for each map");
}

bool kln_fit_conv_integer(kln_rule *rule)
{
    const bool linear = strcmp(rule->node->op_type, "QLinearConv") == 0;
    const size_t weights = linear ? 3 : 1;
    if (!kln_rule_ranked(rule, weights)) {
        return true;
    }
    const kln_dim maps = kln_rule_dim(rule, weights, 0);
    return kln_fit_shares(rule, weights, maps, kln_rule_int(rule, "group", 1), "maps") &&
           fit_each(rule, linear ? 5 : 3, weights) && (!linear || fit_each(rule, 4, weights)) &&
           kln_fit_dim(rule, 8, 0, maps, "the biases and the channels that come out");
}

/* Two offsets and one factor of the mask for each element of a window, in each group of them. */
bool kln_fit_deform_conv(kln_rule *rule)
{
    kln_expressions *pool = &rule->state->pool;
    const int64_t groups = kln_rule_int(rule, "offset_group", 1);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) || kln_rule_rank(rule, 0) != 4 ||
        kln_rule_rank(rule, 1) != 4) {
        return kln_rule_need_rank(rule, 0, 4, 4) && kln_rule_need_rank(rule, 1, 4, 4);
    }
    if (!kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 1), groups, "channels") ||
        !kln_fit_shares(rule, 1, kln_rule_dim(rule, 1, 0), kln_rule_int(rule, "group", 1),
                        "maps") ||
        !kln_fit_dim(rule, 3, 0, kln_rule_dim(rule, 1, 0),
                     "the biases and the channels that come out")) {
        return false;
    }
    size_t count = 0;
    const int64_t *kernel = kln_rule_ints(rule, "kernel_shape", &count);
    const kln_dim sides[2] = {kln_rule_dim(rule, 1, 2), kln_rule_dim(rule, 1, 3)};
    for (size_t i = 0; kernel != NULL && i < 2 && i < count; i++) {
        if (!kln_fit_same(rule, number(kernel[i]), sides[i], "\"kernel_shape\" and the weights")) {
            return false;
        }
    }
    const kln_dim wanted[2] = {kln_fit_places(rule, 0, sides[0]),
                               kln_fit_places(rule, 1, sides[1])};
    const kln_dim taps = kln_dim_times(pool, kln_rule_product(rule, sides, 0, 2), groups);
    static const size_t inputs[2] = {2, 4};
    for (size_t i = 0; i < 2; i++) {
        if (!kln_rule_ranked(rule, inputs[i])) {
            continue;
        }
        if (!kln_rule_need_rank(rule, inputs[i], 4, 4) ||
            !kln_fit_dim(rule, inputs[i], 0, kln_rule_dim(rule, 0, 0), "the batches") ||
            !kln_fit_dim(rule, inputs[i], 1, kln_dim_times(pool, taps, i == 0 ? 2 : 1),
                         "the elements of windows and what is given for them") ||
            !kln_fit_dim(rule, inputs[i], 2, wanted[0], "the rows of places of the windows") ||
            !kln_fit_dim(rule, inputs[i], 3, wanted[1], "the columns of places of the windows")) {
            return false;
        }
    }
    return true;
}

/* --- normalization --- */

/* Scale and bias are broadcast to the dimensions from the axis on. */
bool kln_fit_layer_norm(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t given = kln_rule_int(rule, "axis", -1);
    if (!kln_rule_ranked(rule, 0) || given < -(int64_t)rank || given >= (int64_t)rank) {
        return true; /* the rule tells a wrong axis */
    }
    const size_t axis = (size_t)(given < 0 ? given + (int64_t)rank : given);
    for (size_t input = 1; input <= 2; input++) {
        const size_t own = kln_rule_rank(rule, input);
        if (!kln_rule_ranked(rule, input)) {
            continue;
        }
        if (!kln_rule_need_rank(rule, input, 0, rank - axis)) {
            return false;
        }
        for (size_t i = 0; i < own; i++) {
            const kln_dim dim = kln_rule_dim(rule, input, i);
            if (!kln_rule_is(dim, 1) &&
                !kln_fit_same(rule, dim, kln_rule_dim(rule, 0, rank - own + i),
                              "what is normalized and its scale or bias")) {
                return false;
            }
        }
    }
    return true;
}

bool kln_fit_group_norm(kln_rule *rule)
{
    const int64_t groups = kln_rule_int(rule, "num_groups", 0);
    if (!kln_rule_ranked(rule, 0)) {
        return true;
    }
    if (!kln_rule_need_rank(rule, 0, 2, SIZE_MAX) ||
        !kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 1), groups, "channels")) {
        return false;
    }
    const kln_dim each = rule->since < 21 ? number(groups) : kln_rule_dim(rule, 0, 1);
    return kln_fit_dim(rule, 1, 0, each, "the scales and what they are for") &&
           kln_fit_dim(rule, 2, 0, each, "the biases and what they are for");
}

bool kln_fit_lrn(kln_rule *rule)
{
    const int64_t size = kln_rule_int(rule, "size", 1);
    if (size >= 1) {
        return true;
    }
    kln_rule_fault(rule, KILN_ISSUE_VALUE, "size", "at least 1", "less",
                   "\"size\" is %lld, but at least 1 is needed", (long long)size);
    return false;
}

/* --- places --- */

/* The updates: the indices' dimensions but the last, and what of the data each one names. */
bool kln_fit_scatter_nd(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const size_t places = kln_rule_rank(rule, 1);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return true;
    }
    if (!kln_rule_need_rank(rule, 0, 1, SIZE_MAX) || !kln_rule_need_rank(rule, 1, 1, SIZE_MAX)) {
        return false;
    }
    const kln_dim last = kln_rule_dim(rule, 1, places - 1);
    if (last.kind != KLN_DIM_NUMBER || !kln_rule_ranked(rule, 2)) {
        return true;
    }
    const size_t deep = (size_t)last.of.number;
    char expected[48];
    char found[32];
    if (deep > rank) {
        (void)snprintf(expected, sizeof expected, "at most %zu", rank);
        (void)snprintf(found, sizeof found, "%zu", deep);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1], expected, found,
                       "an index has %s numbers, but the data \"%.100s\" has %zu dimensions", found,
                       rule->node->inputs[0], rank);
        return false;
    }
    const size_t wanted = places - 1 + rank - deep;
    bool fits = kln_rule_need_rank(rule, 2, wanted, wanted);
    for (size_t i = 0; fits && i < wanted; i++) {
        fits = kln_fit_dim(rule, 2, i,
                           i + 1 < places ? kln_rule_dim(rule, 1, i)
                                          : kln_rule_dim(rule, 0, deep + i - (places - 1)),
                           "the updates and the slices that the indices name");
    }
    return fits;
}

/* The scores, and a target for each place of them. */
bool kln_fit_loss(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) || rank < 2) {
        return true;
    }
    bool fits = kln_rule_need_rank(rule, 1, rank - 1, rank - 1);
    const kln_dim batch = kln_rule_dim(rule, 0, 0);
    if (kln_rule_is(kln_rule_dim(rule, 0, 1), 0) && batch.kind == KLN_DIM_NUMBER &&
        !kln_rule_is(batch, 0)) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 1", "0",
                       "\"%.100s\" has scores of 0 classes; a target is one of them",
                       rule->node->inputs[0]);
        return false;
    }
    for (size_t i = 2; fits && i < rank; i++) {
        fits =
            kln_fit_dim(rule, 1, i - 1, kln_rule_dim(rule, 0, i), "the scores and their targets");
    }
    return fits;
}

bool kln_fit_affine_grid(kln_rule *rule)
{
    size_t count = 0;
    const kln_dim *sizes = kln_rule_contents(rule, 1, &count);
    const kln_dim length = kln_rule_dim(rule, 1, 0);
    if (sizes != NULL && count > 0 &&
        !kln_fit_dim(rule, 0, 0, sizes[0], "the batches of theta and of the size")) {
        return false;
    }
    if (!kln_rule_ranked(rule, 0) || length.kind != KLN_DIM_NUMBER) {
        return true;
    }
    return kln_fit_dim(rule, 0, 1, number(length.of.number - 2),
                       "the rows of theta and the dimensions") &&
           kln_fit_dim(rule, 0, 2, number(length.of.number - 1),
                       "the columns of theta and the dimensions");
}

/* --- signals --- */

bool kln_fit_stft(kln_rule *rule)
{
    if (!kln_rule_has(rule, 2) && !kln_rule_has(rule, 3)) {
        kln_rule_fault(rule, KILN_ISSUE_ARITY, "frame_length", "a window or a length", "neither",
                       "how long a frame is must be told by a window or a length");
        return false;
    }
    size_t count = 0;
    const kln_dim *given = kln_rule_contents(rule, 3, &count);
    const bool single = given != NULL && count == 1;
    const kln_dim window = kln_rule_dim(rule, 2, 0);
    const kln_dim whole = kln_rule_dim(rule, 0, 1);
    const kln_dim frame = single ? given[0] : !kln_rule_has(rule, 3) ? window : KLN_UNKNOWN_DIM;
    char found[32];
    (void)kln_dim_format(frame, found, sizeof found);
    if (frame.kind == KLN_DIM_NUMBER &&
        (frame.of.number < 1 ||
         (whole.kind == KLN_DIM_NUMBER && frame.of.number > whole.of.number) ||
         (window.kind == KLN_DIM_NUMBER && window.of.number > frame.of.number))) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "a frame that fits", found,
                       "a frame of %s does not fit the signal \"%.100s\" and the window", found,
                       rule->node->inputs[0]);
        return false;
    }
    return true;
}

/* --- text --- */

/* Where each length of n-grams begins in the pool, and that the pool holds whole ones. */
bool kln_fit_tfidf(kln_rule *rule)
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
    char found[32];
    (void)snprintf(found, sizeof found, "%zu", pool);
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
