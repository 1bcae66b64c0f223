/* What the shapes of Attention and RotaryEmbedding must be beside each other.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* --- attention --- */

static kln_dim heads(kln_rule *rule, size_t input, const char *attribute)
{
    return kln_rule_rank(rule, input) == 4 ? kln_rule_dim(rule, input, 1)
                                           : KLN_DIM_OF_NUMBER(kln_rule_int(rule, attribute, 0));
}

/* What was before is of the same batch, heads and size. */
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

/* A mask broadcasts to queries by keys of each head of each batch; its last dimension may be short.
 */
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

bool kln_fit_attention(kln_rule *rule)
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

/* Tables of angles for each place, or, where places are given, for each that there is. */
static bool fit_angles(kln_rule *rule, kln_dim half, bool flat)
{
    const kln_dim lead[2] = {kln_rule_dim(rule, 0, 0), kln_rule_dim(rule, 0, flat ? 1 : 2)};
    const bool placed = kln_rule_has(rule, 3);
    const size_t rank = placed ? 2 : 3;
    for (size_t input = 1; input <= 2; input++) {
        if (!kln_rule_ranked(rule, input)) {
            continue;
        }
        if (!kln_rule_need_rank(rule, input, rank, rank) ||
            !kln_fit_dim(rule, input, rank - 1, half, "half a head and the tables of angles") ||
            !kln_fit_dim(rule, input, 0, placed ? kln_rule_dim(rule, 1, 0) : lead[0],
                         "the tables of angles")) {
            return false;
        }
    }
    for (size_t i = 0; i < 2; i++) {
        if (placed ? !kln_fit_dim(rule, 3, i, lead[i], "the tokens and their places")
                   : i == 1 && (!kln_fit_dim(rule, 1, 1, lead[1], "the tokens and the cosines") ||
                                !kln_fit_dim(rule, 2, 1, lead[1], "the tokens and the sines"))) {
            return false;
        }
    }
    return true;
}

bool kln_fit_rotary(kln_rule *rule)
{
    const int64_t turned = kln_rule_int(rule, "rotary_embedding_dim", 0);
    const int64_t count = kln_rule_int(rule, "num_heads", 0);
    if (!kln_rule_ranked(rule, 0) || kln_rule_rank(rule, 0) < 3) {
        return true;
    }
    const bool flat = kln_rule_rank(rule, 0) == 3;
    kln_dim size = kln_rule_dim(rule, 0, flat ? 2 : 3);
    if (flat && (count <= 0 || !kln_fit_shares(rule, 0, size, count, "elements"))) {
        return count <= 0; /* the rule tells that there are no heads */
    }
    size = flat ? kln_dim_floor_divide(&rule->state->pool, size, KLN_DIM_OF_NUMBER(count)) : size;
    if (kln_rule_is(size, 0) || (!flat && kln_rule_is(kln_rule_dim(rule, 0, 1), 0))) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 1", "0",
                       "\"%.100s\" has no heads, or heads of no elements", rule->node->inputs[0]);
        return false;
    }
    char expected[48];
    char found[32];
    if (size.kind == KLN_DIM_NUMBER && turned > size.of.number) {
        (void)snprintf(expected, sizeof expected, "at most %lld", (long long)size.of.number);
        (void)snprintf(found, sizeof found, "%lld", (long long)turned);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "rotary_embedding_dim", expected, found,
                       "\"rotary_embedding_dim\" is %s, but a head has %lld elements", found,
                       (long long)size.of.number);
        return false;
    }
    const kln_dim wide = turned > 0 ? KLN_DIM_OF_NUMBER(turned) : size;
    const kln_dim half = kln_dim_floor_divide(&rule->state->pool, wide, KLN_DIM_OF_NUMBER(2));
    return fit_angles(rule, half, flat);
}
