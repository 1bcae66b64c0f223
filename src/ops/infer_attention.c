/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "infer_rules.h"

/* The sequence length of an input with 3 or 4 dimensions. */
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
    const bool has = kln_rule_rank(rule, past) == 4;
    kln_rule_give(rule, output, kln_rule_dim(rule, has ? past : now, 0),
                  has ? kln_rule_dim(rule, past, 1) : heads_of(rule, now, heads), total,
                  has ? kln_rule_dim(rule, past, 3) : size_of(rule, now, heads));
}

/* Queries, keys and values have the same batch, every key has a value, and queries have the size of
 * keys. */
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

/* The last of three dimensions divides evenly among the heads. */
static bool heads_share(kln_rule *rule, size_t input, int64_t heads, const char *attribute)
{
    const kln_dim dim = kln_rule_dim(rule, input, 2);
    if (kln_rule_rank(rule, input) != 3 || dim.kind != KLN_DIM_NUMBER || heads < 1 ||
        (dim.of.number > 0 && dim.of.number % heads == 0)) {
        return true;
    }
    const char *found = KLN_PRINTED("%lld", (long long)dim.of.number);
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[input],
                   KLN_PRINTED("a multiple of %lld", (long long)heads), found,
                   "dimension 2 of \"%.100s\" is %s, which the %lld heads of \"%s\" cannot share "
                   "equally",
                   rule->node->inputs[input], found, (long long)heads, attribute);
    return false;
}

static void rule_attention(kln_rule *rule)
{
    for (size_t i = 0; i < 3; i++) {
        if (!kln_rule_ranked(rule, i) || !kln_rule_need_rank(rule, i, 3, 4)) {
            return;
        }
    }
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_need_rank(rule, 1, rank, rank) || !kln_rule_need_rank(rule, 2, rank, rank)) {
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const int64_t q_heads = kln_rule_int(rule, "q_num_heads", 0);
    const int64_t kv_heads = kln_rule_int(rule, "kv_num_heads", 0);
    if (rank == 3 && (q_heads <= 0 || kv_heads <= 0)) {
        kln_rule_fault(rule, KILN_ISSUE_ATTRIBUTE, "q_num_heads", "a positive number", "none",
                       "inputs of 3 dimensions need \"q_num_heads\" and \"kv_num_heads\"");
        return;
    }
    if (rank == 4 && (q_heads != 0 || kv_heads != 0)) {
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
    const kln_dim value = size_of(rule, 2, kv_heads);
    kln_dim *dims = kln_rule_shape_like(rule, 0, rank);
    if (dims != NULL) {
        dims[rank - 1] = rank == 4 ? value : kln_dim_times(pool, value, q_heads);
    }
    kln_dim total = length_of(rule, 1);
    if (kln_rule_has(rule, 4)) {
        total = kln_dim_add(pool, total, kln_rule_dim(rule, 4, 2));
    }
    present(rule, 1, 4, 1, total, kv_heads);
    present(rule, 2, 5, 2, total, kv_heads);
    kln_rule_give(rule, 3, kln_rule_dim(rule, 0, 0), heads_of(rule, 0, q_heads), length_of(rule, 0),
                  total);
}

static kln_dim heads(kln_rule *rule, size_t input, const char *attribute)
{
    return kln_rule_rank(rule, input) == 4 ? kln_rule_dim(rule, input, 1)
                                           : KLN_DIM_OF_NUMBER(kln_rule_int(rule, attribute, 0));
}

/* The past has the same batch, heads and size. */
static bool fit_past(kln_rule *rule, size_t past, size_t now, kln_dim of_heads)
{
    if (!kln_rule_ranked(rule, past) || !kln_rule_ranked(rule, now)) {
        return true;
    }
    const bool flat = kln_rule_rank(rule, now) == 3;
    const kln_dim size =
        flat ? kln_dim_floor_divide(&rule->state->pool, kln_rule_dim(rule, now, 2), of_heads)
             : kln_rule_dim(rule, now, 3);
    return kln_rule_need_rank(rule, past, 4, 4) &&
           kln_fit_dim(rule, past, 0, kln_rule_dim(rule, now, 0),
                       "the batches of now and of the past") &&
           kln_fit_dim(rule, past, 1, of_heads, "the heads of now and of the past") &&
           kln_fit_dim(rule, past, 3, size, "the sizes of now and of the past");
}

/* A mask broadcasts to [batch,heads,queries,keys]; its last dimension may be shorter. */
static bool fit_mask(kln_rule *rule, kln_dim q_heads)
{
    const size_t rank = kln_rule_rank(rule, 3);
    if (!kln_rule_ranked(rule, 3)) {
        return true;
    }
    if (!kln_rule_need_rank(rule, 3, 1, 4)) {
        return false;
    }
    const bool flat = kln_rule_rank(rule, 0) == 3;
    const size_t time = flat ? 1 : 2;
    kln_dim keys = kln_rule_dim(rule, 1, time);
    if (kln_rule_has(rule, 4)) {
        keys = kln_dim_add(&rule->state->pool, keys, kln_rule_dim(rule, 4, 2));
    }
    const kln_dim full[4] = {kln_rule_dim(rule, 0, 0), q_heads, kln_rule_dim(rule, 0, time), keys};
    for (size_t i = 0; i < rank; i++) {
        const kln_dim dim = kln_rule_dim(rule, 3, i);
        const kln_dim wanted = full[4 - rank + i];
        const bool is_short = i + 1 == rank && dim.kind == KLN_DIM_NUMBER &&
                              wanted.kind == KLN_DIM_NUMBER && dim.of.number < wanted.of.number;
        if (!kln_rule_is(dim, 1) && !is_short &&
            !kln_fit_same(rule, dim, wanted, "the mask and the queries and keys")) {
            return false;
        }
    }
    return true;
}

static bool fit_attention(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return true;
    }
    const kln_dim q = heads(rule, 0, "q_num_heads");
    const kln_dim kv = heads(rule, 1, "kv_num_heads");
    if (kv.kind == KLN_DIM_NUMBER &&
        !kln_fit_shares(rule, 0, q, kv.of.number, "heads of queries")) {
        return false;
    }
    if (kln_rule_has(rule, 4) != kln_rule_has(rule, 5)) {
        kln_rule_fault(rule, KILN_ISSUE_ARITY, "past_key", "both or neither", "one of them",
                       "past keys and past values go together, but one of them is left out");
        return false;
    }
    if (!fit_mask(rule, q) || !fit_past(rule, 4, 1, kv) || !fit_past(rule, 5, 2, kv) ||
        !kln_fit_dim(rule, 6, 0, kln_rule_dim(rule, 0, 0), "the batches and the lengths")) {
        return false;
    }
    return kln_fit_same(rule, kln_rule_ranked(rule, 4) ? kln_rule_dim(rule, 4, 2) : KLN_UNKNOWN_DIM,
                        kln_rule_ranked(rule, 5) ? kln_rule_dim(rule, 5, 2) : KLN_UNKNOWN_DIM,
                        "the lengths of past keys and past values");
}

/* An update fits into its cache, from the position where it is written; in circular mode it wraps
 * around. */
static void check_written(kln_rule *rule, kln_dim cache, kln_dim update)
{
    size_t count = 0;
    const int64_t *places = kln_rule_numbers(rule, 2, &count);
    const bool circular = strcmp(kln_rule_string(rule, "mode", "linear"), "circular") == 0;
    if (cache.kind != KLN_DIM_NUMBER || update.kind != KLN_DIM_NUMBER) {
        return;
    }
    const int64_t room = cache.of.number - update.of.number;
    char found[32];
    if (room < 0) {
        (void)kln_dim_format(update, found, sizeof found);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1], "no more than the cache has",
                       found, "the update \"%.100s\" has %s places, the cache %lld",
                       rule->node->inputs[1], found, (long long)cache.of.number);
        return;
    }
    for (size_t i = 0; places != NULL && i < count; i++) {
        const int64_t most = circular ? cache.of.number - 1 : room;
        if (places[i] < 0 || places[i] > most) {
            (void)snprintf(found, sizeof found, "%lld", (long long)places[i]);
            kln_rule_fault(rule, KILN_ISSUE_VALUE, rule->node->inputs[2], "inside the cache", found,
                           "update %zu is written from %s on; it must be 0 to %lld", i, found,
                           (long long)most);
            return;
        }
    }
}

/* A cache and its update have the same dimensions, except along the axis of time. */
static void rule_tensor_scatter(kln_rule *rule)
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
    check_written(rule, kln_rule_dim(rule, 0, axis), kln_rule_dim(rule, 1, axis));
}

static void rule_causal_conv(kln_rule *rule)
{
    const kln_dim past = kln_dim_plus(&rule->state->pool, kln_rule_dim(rule, 1, 2), -1);
    kln_rule_same_shape(rule, 0, 0);
    if (kln_rule_has(rule, 3)) {
        (void)kln_rule_unify(rule, past, kln_rule_dim(rule, 3, 2),
                             "a kernel's past and the length of a state");
        kln_rule_same_shape(rule, 3, 1);
    } else if (kln_rule_ranked(rule, 0) && kln_rule_ranked(rule, 1)) {
        kln_rule_give(rule, 1, kln_rule_dim(rule, 0, 0), kln_rule_dim(rule, 0, 1), past);
    }
}

/* Query heads divide evenly among key heads, and last dimensions among their heads. */
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
static void rule_linear_attention(kln_rule *rule)
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
    kln_rule_give(rule, 0, kln_rule_dim(rule, 0, 0), kln_rule_dim(rule, 0, 1),
                  kln_dim_times(pool, value, q_heads));
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
    kln_rule_put_shape(rule, 1, past, 4);
    if (!kln_rule_has(rule, 3)) {
        kln_rule_set_dtype(rule, 1, kln_rule_dtype(rule, 0));
    }
}

/* [batch,heads,time,size]: the query's, with the size of the value. */
static void rule_flex_attention(kln_rule *rule)
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
    kln_dim *dims = kln_rule_shape_like(rule, 0, 4);
    if (dims != NULL) {
        dims[3] = kln_rule_dim(rule, 2, 3);
    }
}

/* --- com.microsoft --- */

static void rule_multi_head_attention(kln_rule *rule)
{
    const int64_t heads = kln_rule_int(rule, "num_heads", 0);
    if (!kln_rule_ranked(rule, 0) || kln_rule_rank(rule, 0) != 3 || !kln_rule_ranked(rule, 1) ||
        !kln_rule_ranked(rule, 2) || !kln_rule_need_rank(rule, 1, 3, 5) ||
        !kln_rule_need_rank(rule, 2, 3, 4) || kln_rule_rank(rule, 1) == 5) {
        return; /* packed inputs are not inferred */
    }
    const kln_dim width = kln_rule_rank(rule, 2) == 3
                              ? kln_rule_dim(rule, 2, 2)
                              : kln_dim_times(&rule->state->pool, kln_rule_dim(rule, 2, 3), heads);
    kln_dim keys = length_of(rule, 1);
    kln_rule_give(rule, 0, kln_rule_dim(rule, 0, 0), kln_rule_dim(rule, 0, 1), width);
    if (kln_rule_has(rule, 6)) {
        keys = kln_dim_add(&rule->state->pool, keys, kln_rule_dim(rule, 6, 2));
    }
    present(rule, 1, 6, 1, keys, heads);
    present(rule, 2, 7, 2, keys, heads);
}

const kln_op_rule kln_rules_attention[] = {
    OP("Attention", rule_attention, .form = "23: - - - - ____ ____ _", .fit = fit_attention),
    OP("CausalConvWithState", rule_causal_conv, .form = "27: bcl c1_ c bc_"),
    OP("LinearAttention", rule_linear_attention, .form = "27: bt_ bt_ bt_ b___ bt_ bt_"),
    OP("TensorScatter", rule_tensor_scatter, .form = "24: n+ n+ n"),
    OP_OF("ai.onnx.preview", "FlexAttention", rule_flex_attention, .form = "1: b__e bhse bhs_"),
    OP_MS("MultiHeadAttention", rule_multi_head_attention),
    OP_END};
