/* Attention and embedding operators of com.microsoft.
 * SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static kln_dim share(kln_rule *rule, kln_dim width, int64_t heads)
{
    return heads > 0 ? kln_dim_floor_divide(&rule->state->pool, width, KLN_DIM_OF_NUMBER(heads))
                     : KLN_UNKNOWN_DIM;
}

/* The keys of this call behind those of the past, which is input `past`. */
static kln_dim keys_behind(kln_rule *rule, size_t past)
{
    const kln_dim keys = kln_rule_dim(rule, 0, 1);
    return kln_rule_has(rule, past)
               ? kln_dim_add(&rule->state->pool, keys, kln_rule_dim(rule, past, 3))
               : keys;
}

/* Queries, keys and values are columns of one product; keys and values of the past share one
 * tensor, input `past`. */
static void joined(kln_rule *rule, size_t past)
{
    size_t count = 0;
    const int64_t heads = kln_rule_int(rule, "num_heads", 0);
    const int64_t *widths = kln_rule_ints(rule, "qkv_hidden_sizes", &count);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 3, 3) ||
        !kln_rule_need_rank(rule, 1, 2, 2)) {
        return;
    }
    (void)kln_rule_unify(rule, kln_rule_dim(rule, 0, 2), kln_rule_dim(rule, 1, 0),
                         "the numbers of a token and the rows of the weights");
    const kln_dim width =
        count == 3 ? KLN_DIM_OF_NUMBER(widths[2]) : share(rule, kln_rule_dim(rule, 1, 1), 3);
    const bool is_shared = kln_rule_int(rule, "past_present_share_buffer", 0) != 0;
    const kln_dim keys = is_shared ? kln_rule_dim(rule, past, 3) : keys_behind(rule, past);
    kln_rule_give(rule, 0, kln_rule_dim(rule, 0, 0), kln_rule_dim(rule, 0, 1), width);
    kln_rule_give(rule, 1, KLN_DIM_OF_NUMBER(2), kln_rule_dim(rule, 0, 0), KLN_DIM_OF_NUMBER(heads),
                  keys, share(rule, width, heads));
}

static void rule_joined_attention(kln_rule *rule)
{
    joined(rule, 4);
}

static void rule_quantized_attention(kln_rule *rule)
{
    joined(rule, 8);
}

/* The only dimension is one of two numbers. */
static bool fit_either(kln_rule *rule, size_t input, kln_dim a, kln_dim b, const char *what)
{
    const kln_dim dim = kln_rule_dim(rule, input, 0);
    return a.kind != KLN_DIM_NUMBER || dim.kind != KLN_DIM_NUMBER || a.of.number == dim.of.number ||
           kln_fit_same(rule, dim, b, what);
}

/* A mask over keys; masks of lengths, and those that only a GPU takes, are not checked. */
static bool fit_mask(kln_rule *rule, size_t mask, kln_dim keys)
{
    const kln_dim batch = kln_rule_dim(rule, 0, 0);
    const size_t rank = kln_rule_rank(rule, mask);
    if (!kln_rule_ranked(rule, mask) || rank == 1 || rank == 4) {
        return true;
    }
    return kln_rule_need_rank(rule, mask, 2, 3) &&
           kln_fit_dim(rule, mask, 0, batch, "the batches and the mask") &&
           kln_fit_dim(rule, mask, rank - 1, keys, "the keys and the mask") &&
           (rank == 2 ||
            kln_fit_dim(rule, mask, 1, kln_rule_dim(rule, 0, 1), "the tokens and the mask"));
}

/* Columns divide evenly among queries, keys and values, and each of those among the heads. */
static bool fit_widths(kln_rule *rule, int64_t heads, kln_dim widths[3])
{
    size_t count = 0;
    const int64_t *given = kln_rule_ints(rule, "qkv_hidden_sizes", &count);
    const kln_dim all = kln_rule_dim(rule, 1, 1);
    int64_t sum = 0;
    if (!kln_fit_at_least(rule, "num_heads", heads, 1) ||
        (count != 3 && !kln_fit_shares(rule, 1, all, 3, "columns"))) {
        return false;
    }
    for (size_t i = 0; i < 3; i++) {
        widths[i] = count == 3 ? KLN_DIM_OF_NUMBER(given[i]) : share(rule, all, 3);
        if ((widths[i].kind == KLN_DIM_NUMBER &&
             !kln_fit_at_least(rule, "qkv_hidden_sizes", widths[i].of.number, 1)) ||
            !kln_fit_shares(rule, 1, widths[i], heads, "columns")) {
            return false;
        }
        sum = count == 3 && given[i] < INT32_MAX ? sum + given[i] : -1;
    }
    return count != 3 ||
           (kln_fit_same(rule, widths[0], widths[1], "the sizes of queries and keys") &&
            kln_fit_same(rule, KLN_DIM_OF_NUMBER(sum), all,
                         "\"qkv_hidden_sizes\" and the columns"));
}

static bool fit_joined(kln_rule *rule, size_t mask, size_t past)
{
    const int64_t heads = kln_rule_int(rule, "num_heads", 0);
    const bool is_shared = kln_rule_int(rule, "past_present_share_buffer", 0) != 0;
    const kln_dim keys = is_shared ? KLN_UNKNOWN_DIM : keys_behind(rule, past);
    kln_dim widths[3];
    return fit_widths(rule, heads, widths) && fit_mask(rule, mask, keys) &&
           kln_fit_dim(rule, past, 2, KLN_DIM_OF_NUMBER(heads),
                       "the heads of now and of the past") &&
           kln_fit_dim(rule, past, 4, share(rule, widths[1], heads),
                       "the sizes of now and of the past");
}

/* A bias is [1 or batches,1 or heads,queries,keys]. */
static bool fit_scores(kln_rule *rule, size_t bias, int64_t heads, kln_dim keys)
{
    return !kln_rule_ranked(rule, bias) ||
           ((kln_rule_is(kln_rule_dim(rule, bias, 0), 1) ||
             kln_fit_dim(rule, bias, 0, kln_rule_dim(rule, 0, 0), "the batches and the bias")) &&
            (kln_rule_is(kln_rule_dim(rule, bias, 1), 1) ||
             kln_fit_dim(rule, bias, 1, KLN_DIM_OF_NUMBER(heads), "the heads and the bias")) &&
            kln_fit_dim(rule, bias, 2, kln_rule_dim(rule, 0, 1), "the tokens and the bias") &&
            kln_fit_dim(rule, bias, 3, keys, "the keys and the bias"));
}

static bool fit_joined_attention(kln_rule *rule)
{
    return fit_joined(rule, 3, 4) &&
           fit_scores(rule, 5, kln_rule_int(rule, "num_heads", 0), keys_behind(rule, 4));
}

/* A scale or zero point of the weights: a single one, or one per column. */
static bool fit_columns(kln_rule *rule, size_t input)
{
    return !kln_rule_ranked(rule, input) ||
           (kln_rule_need_rank(rule, input, 0, 1) &&
            (kln_rule_rank(rule, input) == 0 ||
             fit_either(rule, input, KLN_DIM_OF_NUMBER(1), kln_rule_dim(rule, 1, 1),
                        "the columns of the weights and their scales or zero points")));
}

static bool fit_quantized_attention(kln_rule *rule)
{
    return fit_columns(rule, 4) && fit_columns(rule, 7) && fit_joined(rule, 5, 8);
}

static void rule_embed_norm(kln_rule *rule)
{
    const kln_dim batch = kln_rule_dim(rule, 0, 0);
    const kln_dim width = kln_rule_dim(rule, 2, 1);
    kln_rule_give(rule, 0, batch, kln_rule_dim(rule, 0, 1), width);
    kln_rule_give(rule, 1, batch);
    kln_rule_give(rule, 2, batch, kln_rule_dim(rule, 0, 1), width);
}

/* --- GroupQueryAttention --- */

/* The past grows by the keys of the call, or already has room for them. */
static kln_dim present_length(kln_rule *rule)
{
    const kln_dim added = kln_rule_dim(rule, kln_rule_has(rule, 1) ? 1 : 0, 1);
    const kln_dim room = kln_rule_dim(rule, 3, 2);
    int64_t total = 0;
    if (!kln_rule_has(rule, 3) || kln_rule_is(room, 0)) {
        return added;
    }
    if (kln_rule_int(rule, "sliding_window_cache", 0) != 0) {
        return room;
    }
    if (!kln_rule_single(rule, 6, &total) || room.kind != KLN_DIM_NUMBER) {
        return KLN_UNKNOWN_DIM;
    }
    return KLN_DIM_OF_NUMBER(total > room.of.number ? total : room.of.number);
}

static void rule_grouped_attention(kln_rule *rule)
{
    const int64_t heads = kln_rule_int(rule, "num_heads", 0);
    const int64_t kv_heads = kln_rule_int(rule, "kv_num_heads", 0);
    const bool packed = !kln_rule_has(rule, 1);
    const int64_t most = INT32_MAX; /* heads; a larger number could not divide anything */
    kln_dim width = kln_rule_dim(rule, 0, 2);
    if (heads < 1 || kv_heads < 1 || heads > most || kv_heads > most) {
        return; /* the fit reports it */
    }
    const kln_dim size = share(rule, width, heads + (packed ? 2 * kv_heads : 0));
    width = packed ? kln_dim_times(&rule->state->pool, size, heads) : width;
    kln_rule_give(rule, 0, kln_rule_dim(rule, 0, 0), kln_rule_dim(rule, 0, 1), width);
    for (size_t i = 1; i < 3; i++) {
        kln_rule_give(rule, i, kln_rule_dim(rule, 0, 0), KLN_DIM_OF_NUMBER(kv_heads),
                      present_length(rule),
                      kln_rule_has(rule, 3) ? kln_rule_dim(rule, 3, 3) : size);
        if (!kln_rule_has(rule, 3)) {
            kln_rule_set_dtype(rule, i, kln_rule_dtype(rule, 0));
        }
    }
}

/* Inputs that are only given together. */
static bool both_or_neither(kln_rule *rule, size_t first, const char *what)
{
    if (kln_rule_has(rule, first) == kln_rule_has(rule, first + 1)) {
        return true;
    }
    kln_rule_fault(rule, KILN_ISSUE_ARITY, rule->node->op_type, "both or neither", "one of them",
                   "%s go together, but one of them is left out", what);
    return false;
}

static bool fit_grouped_heads(kln_rule *rule, int64_t heads, int64_t kv_heads)
{
    if (heads < 1 || kv_heads < 1 || heads > INT32_MAX || heads % kv_heads != 0) {
        const char *found = KLN_PRINTED("%lld", (long long)heads);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "num_heads", "a multiple of kv_num_heads", found,
                       "\"num_heads\" is %s and \"kv_num_heads\" %lld; both must be above 0 and "
                       "the first a multiple of the second",
                       found, (long long)kv_heads);
        return false;
    }
    return kln_fit_not_empty(rule, 0, 2) &&
           kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 2),
                          heads + (kln_rule_has(rule, 1) ? 0 : 2 * kv_heads), "elements");
}

/* One length per batch, in any shape, and one for all. */
static bool fit_grouped_lengths(kln_rule *rule, int64_t *total)
{
    const kln_dim added = kln_rule_dim(rule, kln_rule_has(rule, 1) ? 1 : 0, 1);
    const kln_dim room = kln_rule_has(rule, 3) ? kln_rule_dim(rule, 3, 2) : KLN_DIM_OF_NUMBER(0);
    if (kln_rule_ranked(rule, 5) &&
        !kln_fit_same(rule, kln_rule_product(rule, rule->in[5]->dims, 0, kln_rule_rank(rule, 5)),
                      kln_rule_dim(rule, 0, 0), "the batches and their lengths")) {
        return false;
    }
    if (!kln_rule_single(rule, 6, total)) {
        return true;
    }
    const kln_dim grown = kln_dim_add(&rule->state->pool, room, added);
    return kln_fit_at_least(rule, "total_sequence_length", *total, 1) &&
           (kln_rule_int(rule, "sliding_window_cache", 0) != 0 || room.kind != KLN_DIM_NUMBER ||
            *total <= room.of.number ||
            kln_fit_same(rule, KLN_DIM_OF_NUMBER(*total), grown,
                         "the total length and those of the past and the keys"));
}

static bool fit_grouped_seen(kln_rule *rule)
{
    const int64_t causal = kln_rule_int(rule, "causal", 1);
    if (causal == 1 || (causal == 0 && kln_rule_int(rule, "local_window_size", -1) == -1)) {
        return true;
    }
    const char *found = KLN_PRINTED("%lld", (long long)causal);
    kln_rule_fault(rule, KILN_ISSUE_VALUE, "causal", "1, or 0 without a window", found,
                   "\"causal\" is %s; it must be 1, or 0 without a \"local_window_size\"", found);
    return false;
}

static bool fit_grouped(kln_rule *rule)
{
    int64_t total = -1;
    const int64_t heads = kln_rule_int(rule, "num_heads", 0);
    const int64_t kv_heads = kln_rule_int(rule, "kv_num_heads", 0);
    if (!both_or_neither(rule, 1, "keys and values") ||
        !both_or_neither(rule, 3, "past keys and past values") ||
        !both_or_neither(rule, 7, "cosines and sines") ||
        !fit_grouped_heads(rule, heads, kv_heads) || !fit_grouped_seen(rule) ||
        !fit_grouped_lengths(rule, &total) ||
        !fit_scores(rule, 10, heads, total > 0 ? KLN_DIM_OF_NUMBER(total) : KLN_UNKNOWN_DIM)) {
        return false;
    }
    if (!(kln_rule_is(kln_rule_dim(rule, 1, 1), 0) && kln_rule_has(rule, 3)) &&
        !kln_fit_dim(rule, 1, 1, kln_rule_dim(rule, 0, 1), "the tokens of queries and keys")) {
        return false;
    }
    const kln_dim of_kv = KLN_DIM_OF_NUMBER(kv_heads);
    const kln_dim size =
        share(rule, kln_rule_dim(rule, 0, 2), heads + (kln_rule_has(rule, 1) ? 0 : 2 * kv_heads));
    const bool halved = kln_rule_int(rule, "kv_cache_bit_width", 0) == 4; /* two in a byte */
    for (size_t i = 3; i < 5; i++) {
        if (!kln_fit_dim(rule, i, 1, of_kv, "the heads of now and of the past") ||
            (!halved && !kln_fit_dim(rule, i, 3, size, "the sizes of now and of the past"))) {
            return false;
        }
    }
    if (!kln_fit_dim(rule, 1, 2, kln_dim_times(&rule->state->pool, size, kv_heads),
                     "the heads and the keys") ||
        !kln_fit_dim(rule, 11, 0, KLN_DIM_OF_NUMBER(heads), "the heads and their sinks")) {
        return false;
    }
    if (kln_rule_int(rule, "do_rotary", 0) != 0 && !kln_rule_has(rule, 7)) {
        kln_rule_fault(rule, KILN_ISSUE_ARITY, "do_rotary", "cosines and sines", "none",
                       "\"do_rotary\" needs inputs 7 and 8, cosines and sines, which are left out");
        return false;
    }
    return true;
}

const kln_op_rule kln_rules_transformer[] = {
    OP_MS("Attention", rule_joined_attention, .form = "1: bti io o - 2b___ ____",
          .fit = fit_joined_attention),
    OP_MS("EmbedLayerNormalization", rule_embed_norm, .form = "1: __ - __", .ranked = true),
    OP_MS("GroupQueryAttention", rule_grouped_attention, .ranked = true,
          .form = "1: bt_ bkw bkw b_p_ b_p_ - (1) mh mh b_ ____ _", .fit = fit_grouped),
    OP_MS("QAttention", rule_quantized_attention, .form = "1: bti io o (1) - - (1) - 2b___",
          .fit = fit_quantized_attention),
    OP_END};
