/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

static void reduce_over(kln_rule *rule, const bool *gone, bool keep)
{
    const size_t rank = kln_rule_rank(rule, 0);
    size_t left = 0;
    for (size_t i = 0; i < rank; i++) {
        left += keep || !gone[i] ? 1 : 0;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, left);
    for (size_t i = 0, place = 0; dims != NULL && i < rank; i++) {
        if (!gone[i]) {
            dims[place++] = kln_rule_dim(rule, 0, i);
        } else if (keep) {
            dims[place++] = KLN_DIM_OF_NUMBER(1);
        }
    }
}

bool kln_reduced_axes(kln_rule *rule, bool *gone, size_t rank)
{
    size_t count = 0;
    bool known = false;
    const int64_t *axes = kln_rule_ints_or_input(rule, "axes", 1, &count, &known);
    if (!known) {
        return false;
    }
    const bool none = count == 0;
    const bool all = none && kln_rule_int(rule, "noop_with_empty_axes", 0) == 0;
    for (size_t i = 0; i < rank; i++) {
        gone[i] = all;
    }
    for (size_t i = 0; i < count; i++) {
        size_t axis = 0;
        if (!kln_rule_axis(rule, axes[i], rank, &axis)) {
            return false;
        }
        gone[axis] = true;
    }
    return true;
}

void kln_rule_reduce(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    const bool keep = kln_rule_int(rule, "keepdims", 1) != 0;
    bool *gone = kln_rule_alloc(rule, rank, sizeof *gone);
    if (gone == NULL) {
        return;
    }
    if (kln_reduced_axes(rule, gone, rank)) {
        reduce_over(rule, gone, keep);
    } else if (keep) {
        (void)kln_rule_new_shape(rule, 0, rank);
    } else {
        const kln_dim length = kln_rule_dim(rule, 1, 0);
        if (length.kind == KLN_DIM_NUMBER && length.of.number > 0 &&
            length.of.number <= (int64_t)rank) {
            (void)kln_rule_new_shape(rule, 0, rank - (size_t)length.of.number);
        }
    }
}

void kln_rule_arg(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, KLN_WIRE_INT64);
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    size_t axis = 0;
    bool *gone = kln_rule_alloc(rule, rank, sizeof *gone);
    if (gone != NULL && kln_rule_axis(rule, kln_rule_int(rule, "axis", 0), rank, &axis)) {
        gone[axis] = true;
        reduce_over(rule, gone, kln_rule_int(rule, "keepdims", 1) != 0);
        bool some = kln_rule_is(kln_rule_dim(rule, 0, axis), 0);
        for (size_t i = 0; i < rank && some; i++) {
            const kln_dim dim = kln_rule_dim(rule, 0, i);
            some = i == axis || (dim.kind == KLN_DIM_NUMBER && dim.of.number > 0);
        }
        if (some) {
            kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 1", "0",
                           "dimension %zu of \"%.100s\" is 0; among no elements none is the "
                           "greatest or least",
                           axis, rule->node->inputs[0]);
        }
    }
}

void kln_rule_cumulative_sum(kln_rule *rule)
{
    int64_t number = 0;
    size_t axis = 0;
    if (kln_rule_ranked(rule, 0) && kln_rule_single(rule, 1, &number)) {
        (void)kln_rule_axis(rule, number, kln_rule_rank(rule, 0), &axis);
    }
    kln_rule_same_shape(rule, 0, 0);
}

/* Scores [N,C,d1,...] against targets [N,d1,...]. */
static void check_targets(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) ||
        !kln_rule_need_rank(rule, 0, 2, SIZE_MAX) ||
        !kln_rule_need_rank(rule, 1, rank - 1, rank - 1) || !kln_rule_need_rank(rule, 2, 1, 1)) {
        return;
    }
    for (size_t i = 0; i + 1 < rank; i++) {
        (void)kln_rule_unify(rule, kln_rule_dim(rule, 0, i == 0 ? 0 : i + 1),
                             kln_rule_dim(rule, 1, i), "the dimensions of scores and targets");
    }
}

/* NegativeLogLikelihoodLoss: the target's shape, or a scalar. */
void kln_rule_loss(kln_rule *rule)
{
    check_targets(rule);
    if (strcmp(kln_rule_string(rule, "reduction", "mean"), "none") == 0) {
        kln_rule_same_shape(rule, 1, 0);
    } else {
        (void)kln_rule_new_shape(rule, 0, 0);
    }
}

void kln_rule_softmax_loss(kln_rule *rule)
{
    kln_rule_loss(rule);
    if (rule->in_count > 0 && rule->in[0] != NULL) {
        kln_rule_set_dtype(rule, 1, rule->in[0]->wire_dtype);
    }
    kln_rule_same_shape(rule, 0, 1);
}

void kln_rule_det(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, SIZE_MAX)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    (void)kln_rule_unify(rule, kln_rule_dim(rule, 0, rank - 2), kln_rule_dim(rule, 0, rank - 1),
                         "the sides of a square matrix");
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank - 2);
    for (size_t i = 0; dims != NULL && i + 2 < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
}

/* --- recurrent --- */

static kln_dim directions(kln_rule *rule)
{
    const char *direction = kln_rule_string(rule, "direction", "forward");
    return KLN_DIM_OF_NUMBER(strcmp(direction, "bidirectional") == 0 ? 2 : 1);
}

static void recurrent(kln_rule *rule, bool cell)
{
    if (!kln_rule_need_rank(rule, 0, 3, 3)) {
        return;
    }
    const bool batch_first = kln_rule_int(rule, "layout", 0) != 0;
    const int64_t given = kln_rule_int(rule, "hidden_size", -1);
    const kln_dim hidden = given > 0 ? KLN_DIM_OF_NUMBER(given) : KLN_UNKNOWN_DIM;
    const kln_dim steps = kln_rule_dim(rule, 0, batch_first ? 1 : 0);
    const kln_dim batch = kln_rule_dim(rule, 0, batch_first ? 0 : 1);
    const kln_dim ways = directions(rule);
    kln_dim *all = kln_rule_new_shape(rule, 0, 4);
    if (all != NULL) {
        all[0] = batch_first ? batch : steps;
        all[1] = batch_first ? steps : ways;
        all[2] = batch_first ? ways : batch;
        all[3] = hidden;
    }
    for (size_t o = 1; o < (cell ? 3U : 2U); o++) {
        kln_dim *last = kln_rule_new_shape(rule, o, 3);
        if (last != NULL) {
            last[0] = batch_first ? batch : ways;
            last[1] = batch_first ? ways : batch;
            last[2] = hidden;
        }
    }
}

void kln_rule_rnn(kln_rule *rule)
{
    /* Version 1 could give sequences of other lengths along the first output. */
    recurrent(rule, false);
}

void kln_rule_lstm(kln_rule *rule)
{
    recurrent(rule, true);
}

/* --- attention --- */

/* Heads and their size as the input gives them, in 3 dimensions or 4. */
static kln_dim length_of(const kln_rule *rule, size_t input)
{
    return kln_rule_dim(rule, input, kln_rule_rank(rule, input) == 4 ? 2 : 1);
}

static kln_dim size_of(kln_rule *rule, size_t input, int64_t heads)
{
    if (kln_rule_rank(rule, input) == 4) {
        return kln_rule_dim(rule, input, 3);
    }
    return kln_dim_floor_divide(&rule->state->pool, kln_rule_dim(rule, input, 2),
                                KLN_DIM_OF_NUMBER(heads));
}

static kln_dim heads_of(kln_rule *rule, size_t input, int64_t heads)
{
    return kln_rule_rank(rule, input) == 4 ? kln_rule_dim(rule, input, 1)
           : heads > 0                     ? KLN_DIM_OF_NUMBER(heads)
                                           : KLN_UNKNOWN_DIM;
}

static void present(kln_rule *rule, size_t output, size_t past, size_t now, kln_dim total,
                    int64_t heads)
{
    kln_dim *dims = kln_rule_new_shape(rule, output, 4);
    if (dims != NULL) {
        const bool has = kln_rule_rank(rule, past) == 4;
        dims[0] = kln_rule_dim(rule, has ? past : now, 0);
        dims[1] = has ? kln_rule_dim(rule, past, 1) : heads_of(rule, now, heads);
        dims[2] = total;
        dims[3] = has ? kln_rule_dim(rule, past, 3) : size_of(rule, now, heads);
    }
}

/* Queries, keys and values of one batch; a value for each key; queries as long as keys. */
static void check_alike(kln_rule *rule, int64_t q_heads, int64_t kv_heads)
{
    const kln_dim batch = kln_rule_unify(rule, kln_rule_dim(rule, 0, 0), kln_rule_dim(rule, 1, 0),
                                         "the batches of queries and keys");
    (void)kln_rule_unify(rule, batch, kln_rule_dim(rule, 2, 0), "the batches of keys and values");
    (void)kln_rule_unify(rule, length_of(rule, 1), length_of(rule, 2),
                         "the lengths of keys and values");
    (void)kln_rule_unify(rule, heads_of(rule, 1, kv_heads), heads_of(rule, 2, kv_heads),
                         "the heads of keys and values");
    (void)kln_rule_unify(rule, size_of(rule, 0, q_heads), size_of(rule, 1, kv_heads),
                         "the sizes of queries and keys");
}

/* Heads share the last of three dimensions equally. */
static bool heads_share(kln_rule *rule, size_t input, int64_t heads, const char *attribute)
{
    const kln_dim dim = kln_rule_dim(rule, input, 2);
    if (kln_rule_rank(rule, input) != 3 || dim.kind != KLN_DIM_NUMBER || heads < 1 ||
        (dim.of.number > 0 && dim.of.number % heads == 0)) {
        return true;
    }
    char expected[48];
    char found[32];
    (void)snprintf(expected, sizeof expected, "a multiple of %lld", (long long)heads);
    (void)snprintf(found, sizeof found, "%lld", (long long)dim.of.number);
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[input], expected, found,
                   "dimension 2 of \"%.100s\" is %s, which the %lld heads of \"%s\" cannot share "
                   "equally",
                   rule->node->inputs[input], found, (long long)heads, attribute);
    return false;
}

void kln_rule_attention(kln_rule *rule)
{
    for (size_t i = 0; i < 3; i++) {
        if (!kln_rule_ranked(rule, i) || !kln_rule_need_rank(rule, i, 3, 4)) {
            return;
        }
    }
    const size_t common = kln_rule_rank(rule, 0);
    if (!kln_rule_need_rank(rule, 1, common, common) ||
        !kln_rule_need_rank(rule, 2, common, common)) {
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const int64_t q_heads = kln_rule_int(rule, "q_num_heads", 0);
    const int64_t kv_heads = kln_rule_int(rule, "kv_num_heads", 0);
    if (kln_rule_rank(rule, 0) == 3 && (q_heads <= 0 || kv_heads <= 0)) {
        kln_rule_fault(rule, KILN_ISSUE_ATTRIBUTE, "q_num_heads", "a positive number", "none",
                       "inputs of 3 dimensions need \"q_num_heads\" and \"kv_num_heads\"");
        return;
    }
    if (kln_rule_rank(rule, 0) == 4 && (q_heads != 0 || kv_heads != 0)) {
        kln_rule_fault(rule, KILN_ISSUE_ATTRIBUTE, "q_num_heads", "none", "a number",
                       "inputs of 4 dimensions have their heads in dimension 1, so "
                       "\"q_num_heads\" and \"kv_num_heads\" have no place");
        return;
    }
    if (!heads_share(rule, 0, q_heads, "q_num_heads") ||
        !heads_share(rule, 1, kv_heads, "kv_num_heads") ||
        !heads_share(rule, 2, kv_heads, "kv_num_heads")) {
        return;
    }
    check_alike(rule, q_heads, kv_heads);
    const size_t rank = common;
    const kln_dim value = size_of(rule, 2, kv_heads);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (dims != NULL) {
        for (size_t i = 0; i + 1 < rank; i++) {
            dims[i] = kln_rule_dim(rule, 0, i);
        }
        dims[rank - 1] = rank == 4 ? value : kln_dim_times(pool, value, q_heads);
    }
    kln_dim total = length_of(rule, 1);
    if (kln_rule_has(rule, 4)) {
        total = kln_dim_add(pool, total, kln_rule_dim(rule, 4, 2));
    }
    present(rule, 1, 4, 1, total, kv_heads);
    present(rule, 2, 5, 2, total, kv_heads);
    kln_dim *scores = kln_rule_new_shape(rule, 3, 4);
    if (scores != NULL) {
        scores[0] = kln_rule_dim(rule, 0, 0);
        scores[1] = heads_of(rule, 0, q_heads);
        scores[2] = length_of(rule, 0);
        scores[3] = total;
    }
    if (rule->in[0] != NULL) {
        kln_rule_set_dtype(rule, 3, rule->in[0]->wire_dtype);
    }
    for (size_t o = 1; o <= 2; o++) {
        const size_t from = kln_rule_has(rule, o + 3) ? o + 3 : o;
        if (from < rule->in_count && rule->in[from] != NULL) {
            kln_rule_set_dtype(rule, o, rule->in[from]->wire_dtype);
        }
    }
}

/* [batch,heads,time,size], or [batch,time,heads*size] with the number of heads. */
void kln_rule_rotary_embedding(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 3, 4)) {
        return;
    }
    if (kln_rule_rank(rule, 0) == 3 && kln_rule_int(rule, "num_heads", 0) < 1) {
        kln_rule_fault(rule, KILN_ISSUE_ATTRIBUTE, "num_heads", "a positive number", "none",
                       "an input of 3 dimensions needs \"num_heads\"");
        return;
    }
    kln_rule_same_shape(rule, 0, 0);
}

/* A cache and what is written into it: alike but along the axis of time. */
void kln_rule_tensor_scatter(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    size_t axis = 0;
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 1, rank, rank) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", -2), rank, &axis)) {
        return;
    }
    for (size_t i = 0; i < rank; i++) {
        if (i != axis) {
            (void)kln_rule_unify(rule, kln_rule_dim(rule, 0, i), kln_rule_dim(rule, 1, i),
                                 "the dimensions of a cache and its update");
        }
    }
    kln_rule_same_shape(rule, 0, 0);
}

void kln_rule_causal_conv(kln_rule *rule)
{
    if (kln_rule_has(rule, 3)) {
        (void)kln_rule_unify(rule, kln_dim_plus(&rule->state->pool, kln_rule_dim(rule, 1, 2), -1),
                             kln_rule_dim(rule, 3, 2), "a kernel's past and the length of a state");
    }
    kln_rule_same_shape(rule, 0, 0);
    if (kln_rule_has(rule, 3)) {
        kln_rule_same_shape(rule, 3, 1);
        return;
    }
    kln_dim *dims = kln_rule_ranked(rule, 0) && kln_rule_ranked(rule, 1)
                        ? kln_rule_new_shape(rule, 1, 3)
                        : NULL;
    if (dims != NULL) {
        dims[0] = kln_rule_dim(rule, 0, 0);
        dims[1] = kln_rule_dim(rule, 0, 1);
        dims[2] = kln_dim_plus(&rule->state->pool, kln_rule_dim(rule, 1, 2), -1);
    }
}

/* Heads that share their keys evenly, and last dimensions that heads share evenly. */
static bool check_heads(kln_rule *rule, int64_t q_heads, int64_t kv_heads)
{
    if (q_heads < 1 || kv_heads < 1 || q_heads % kv_heads != 0) {
        kln_rule_fault(
            rule, KILN_ISSUE_VALUE, "q_num_heads", "a multiple of kv_num_heads", "another number",
            "\"q_num_heads\" is %lld and \"kv_num_heads\" %lld; both must be above 0 and "
            "the first a multiple of the second",
            (long long)q_heads, (long long)kv_heads);
        return false;
    }
    for (size_t i = 0; i < 3; i++) {
        const int64_t heads = i == 0 ? q_heads : kv_heads;
        const kln_dim last = kln_rule_dim(rule, i, 2);
        if (last.kind == KLN_DIM_NUMBER && last.of.number % heads != 0) {
            kln_rule_fault(
                rule, KILN_ISSUE_SHAPE, rule->node->inputs[i], "a multiple of the heads",
                "another number",
                "dimension 2 of \"%.100s\" is %lld, which %lld heads cannot share evenly",
                rule->node->inputs[i], (long long)last.of.number, (long long)heads);
            return false;
        }
    }
    return true;
}

/* A dimension that is one of two numbers. */
static void need_either(kln_rule *rule, size_t input, size_t axis, kln_dim a, kln_dim b)
{
    const kln_dim dim = kln_rule_dim(rule, input, axis);
    if (dim.kind == KLN_DIM_NUMBER && a.kind == KLN_DIM_NUMBER && b.kind == KLN_DIM_NUMBER &&
        dim.of.number != a.of.number && dim.of.number != b.of.number) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[input], "one of two numbers",
                       "another", "dimension %zu of \"%.100s\" is %lld; it must be %lld or %lld",
                       axis, rule->node->inputs[input], (long long)dim.of.number,
                       (long long)a.of.number, (long long)b.of.number);
    }
}

/* Query, key and value packed as [batch,time,heads*size]; the state as [batch,heads,key,value]. */
void kln_rule_linear_attention(kln_rule *rule)
{
    const int64_t q_heads = kln_rule_int(rule, "q_num_heads", 0);
    const int64_t kv_heads = kln_rule_int(rule, "kv_num_heads", 0);
    for (size_t i = 0; i < 3; i++) {
        if (!kln_rule_need_rank(rule, i, 3, 3)) {
            return;
        }
    }
    if (!check_heads(rule, q_heads, kv_heads)) {
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const kln_dim heads = KLN_DIM_OF_NUMBER(kv_heads);
    const kln_dim value = kln_dim_floor_divide(pool, kln_rule_dim(rule, 2, 2), heads);
    kln_dim *dims = kln_rule_new_shape(rule, 0, 3);
    if (dims != NULL) {
        dims[0] = kln_rule_dim(rule, 0, 0);
        dims[1] = kln_rule_dim(rule, 0, 1);
        dims[2] = kln_dim_times(pool, value, q_heads);
    }
    const kln_dim past[4] = {kln_rule_dim(rule, 0, 0), heads,
                             kln_dim_floor_divide(pool, kln_rule_dim(rule, 1, 2), heads), value};
    for (size_t i = 0; kln_rule_ranked(rule, 3) && i < 4; i++) {
        (void)kln_rule_unify(rule, past[i], kln_rule_dim(rule, 3, i), "the dimensions of a state");
    }
    (void)kln_rule_unify(
        rule, kln_dim_floor_divide(pool, kln_rule_dim(rule, 0, 2), KLN_DIM_OF_NUMBER(q_heads)),
        past[2], "the sizes of a query's and a key's head");
    need_either(rule, 4, 2, heads, kln_dim_times(pool, past[2], kv_heads));
    need_either(rule, 5, 2, heads, KLN_DIM_OF_NUMBER(1));
    kln_dim *state = kln_rule_new_shape(rule, 1, 4);
    if (state != NULL) {
        state[0] = kln_rule_dim(rule, 0, 0);
        state[1] = heads;
        state[2] = kln_dim_floor_divide(pool, kln_rule_dim(rule, 1, 2), heads);
        state[3] = value;
    }
    if (!kln_rule_has(rule, 3) && rule->in_count > 0 && rule->in[0] != NULL) {
        kln_rule_set_dtype(rule, 1, rule->in[0]->wire_dtype);
    }
}

/* [batch,heads,time,size] of the query, with the size of the value. */
void kln_rule_flex_attention(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 4, 4) ||
        !kln_rule_need_rank(rule, 2, 4, 4)) {
        return;
    }
    const kln_dim many = kln_rule_dim(rule, 0, 1);
    const kln_dim few = kln_rule_dim(rule, 1, 1);
    if (many.kind == KLN_DIM_NUMBER && few.kind == KLN_DIM_NUMBER && few.of.number > 0 &&
        many.of.number % few.of.number != 0) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0],
                       "a multiple of the keys' heads", "another number",
                       "%lld heads of the query cannot share %lld of the key evenly",
                       (long long)many.of.number, (long long)few.of.number);
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, 4);
    for (size_t i = 0; dims != NULL && i < 3; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    if (dims != NULL) {
        dims[3] = kln_rule_dim(rule, 2, 3);
    }
}
