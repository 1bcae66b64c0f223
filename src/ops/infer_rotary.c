/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

/* The indices of the inputs; `tables` is that of the cosines, which the sines follow. */
typedef struct rotary_inputs {
    size_t tables, places;
    bool own; /* com.microsoft's: tables for all positions, and possibly a single position */
} rotary_inputs;

/* [batch,heads,time,size], or [batch,time,heads*size] with an attribute for the number of heads. */
static void rule_rotary_embedding(kln_rule *rule)
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

/* Without the attribute, the tables determine the width of a head. */
static void rule_rotary_microsoft(kln_rule *rule)
{
    if (kln_rule_need_rank(rule, 0, 3, 4)) {
        kln_rule_same_shape(rule, 0, 0);
    }
}

/* A row of angles for each token or, if positions are given, for each position. */
static bool fit_angles(kln_rule *rule, const rotary_inputs *in, kln_dim half, bool flat)
{
    const kln_dim lead[2] = {kln_rule_dim(rule, 0, 0), kln_rule_dim(rule, 0, flat ? 1 : 2)};
    const bool placed = kln_rule_has(rule, in->places);
    const size_t rank = placed ? 2 : 3;
    for (size_t input = in->tables; input < in->tables + 2; input++) {
        if (!kln_rule_ranked(rule, input)) {
            continue;
        }
        if (!kln_rule_need_rank(rule, input, rank, rank) ||
            !kln_fit_dim(rule, input, rank - 1, half, "half a head and the tables of angles") ||
            !kln_fit_dim(rule, input, 0, placed ? kln_rule_dim(rule, in->tables, 0) : lead[0],
                         "the tables of angles")) {
            return false;
        }
    }
    if (in->own && kln_rule_ranked(rule, in->places) && kln_rule_rank(rule, in->places) < 2) {
        return kln_form_fits(rule, "- (1)");
    }
    for (size_t i = 0; i < 2; i++) {
        if (placed ? !kln_fit_dim(rule, in->places, i, lead[i], "the tokens and their places")
                   : i == 1 && (!kln_fit_dim(rule, 1, 1, lead[1], "the tokens and the cosines") ||
                                !kln_fit_dim(rule, 2, 1, lead[1], "the tokens and the sines"))) {
            return false;
        }
    }
    return !in->own || !kln_rule_ranked(rule, in->places) ||
           kln_rule_need_rank(rule, in->places, 2, 2);
}

/* Finds the width of a head, as far as it is known. */
static bool find_size(kln_rule *rule, const rotary_inputs *in, int64_t count, kln_dim *size)
{
    const bool flat = kln_rule_rank(rule, 0) == 3;
    kln_expressions *pool = &rule->state->pool;
    *size = kln_rule_dim(rule, 0, flat ? 2 : 3);
    if (!flat) {
        return true;
    }
    if (in->own && count == 0) {
        const kln_dim half = kln_rule_dim(rule, in->tables, 1);
        if (kln_rule_int(rule, "rotary_embedding_dim", 0) != 0) {
            return kln_fit_at_least(rule, "num_heads", count, 1);
        }
        if (!kln_fit_not_empty(rule, 0, 2)) {
            return false;
        }
        if (half.kind == KLN_DIM_NUMBER &&
            !kln_fit_shares(rule, 0, *size, 2 * half.of.number, "elements")) {
            return false;
        }
        *size = kln_dim_times(pool, half, 2);
        return true;
    }
    if (in->own && !kln_fit_at_least(rule, "num_heads", count, 0)) {
        return false;
    }
    if (count <= 0 || !kln_fit_shares(rule, 0, *size, count, "elements")) {
        return false;
    }
    *size = kln_dim_floor_divide(pool, *size, KLN_DIM_OF_NUMBER(count));
    return true;
}

static bool fit_turned(kln_rule *rule, const rotary_inputs *in)
{
    const int64_t turned = kln_rule_int(rule, "rotary_embedding_dim", 0);
    const int64_t count = kln_rule_int(rule, "num_heads", 0);
    if (!kln_rule_ranked(rule, 0) || kln_rule_rank(rule, 0) < 3) {
        return true;
    }
    const bool flat = kln_rule_rank(rule, 0) == 3;
    kln_dim size = KLN_UNKNOWN_DIM;
    if (!find_size(rule, in, count, &size)) {
        return !in->own && count <= 0; /* the rule reports missing heads */
    }
    if (kln_rule_is(size, 0) || (!flat && kln_rule_is(kln_rule_dim(rule, 0, 1), 0))) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 1", "0",
                       "\"%.100s\" has no heads, or heads of no elements", rule->node->inputs[0]);
        return false;
    }
    if (size.kind == KLN_DIM_NUMBER && turned > size.of.number) {
        const char *found = KLN_PRINTED("%lld", (long long)turned);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "rotary_embedding_dim",
                       KLN_PRINTED("at most %lld", (long long)size.of.number), found,
                       "\"rotary_embedding_dim\" is %s, but a head has %lld elements", found,
                       (long long)size.of.number);
        return false;
    }
    const kln_dim wide = turned > 0 ? KLN_DIM_OF_NUMBER(turned) : size;
    const kln_dim half = kln_dim_floor_divide(&rule->state->pool, wide, KLN_DIM_OF_NUMBER(2));
    return fit_angles(rule, in, half, flat);
}

static bool fit_rotary(kln_rule *rule)
{
    return fit_turned(rule, &(rotary_inputs){.tables = 1, .places = 3});
}

static bool fit_rotary_microsoft(kln_rule *rule)
{
    /* Packed batches are not inferred. */
    return kln_rule_int(rule, "is_packed_batching", 0) != 0 ||
           fit_turned(rule, &(rotary_inputs){.tables = 2, .places = 1, .own = true});
}

const kln_op_rule kln_rules_rotary[] = {
    OP("RotaryEmbedding", rule_rotary_embedding, .form = "23: - - - __", .fit = fit_rotary),
    OP_MS("RotaryEmbedding", rule_rotary_microsoft, .form = "1: -", .fit = fit_rotary_microsoft),
    OP_END};
