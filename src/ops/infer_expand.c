/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_expand(kln_rule *rule)
{
    size_t count = 0;
    const kln_dim *target = kln_rule_contents(rule, 1, &count);
    const kln_dim length = kln_rule_dim(rule, 1, 0);
    if (target == NULL && length.kind == KLN_DIM_NUMBER && length.of.number <= 64) {
        count = (size_t)length.of.number;
    } else if (target == NULL) {
        return;
    }
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 1, 1, 1)) {
        return;
    }
    const size_t in_rank = kln_rule_rank(rule, 0);
    const size_t rank = count > in_rank ? count : in_rank;
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        const kln_dim one = KLN_DIM_OF_NUMBER(1);
        const kln_dim in = i + in_rank >= rank ? kln_rule_dim(rule, 0, i + in_rank - rank) : one;
        kln_dim to =
            i + count >= rank ? (target != NULL ? target[i + count - rank] : KLN_UNKNOWN_DIM) : one;
        if (to.kind == KLN_DIM_NUMBER &&
            !kln_fit_at_least(rule, rule->node->inputs[1], to.of.number, 0)) {
            to = KLN_UNKNOWN_DIM;
        }
        dims[i] = kln_rule_broadcast_dim(rule, in, to);
    }
}

static void rule_tile(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    size_t count = 0;
    const kln_dim *repeats = rule->since >= 6 ? kln_rule_contents(rule, 1, &count) : NULL;
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (dims == NULL || repeats == NULL) {
        return;
    }
    if (count != rank) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "repeats", "one for each dimension",
                       "another number", "%zu repeats are given for %zu dimensions", count, rank);
        return;
    }
    for (size_t i = 0; i < rank; i++) {
        dims[i] = kln_dim_multiply(&rule->state->pool, kln_rule_dim(rule, 0, i), repeats[i]);
    }
}

/* Expand and Tile: repeats the input. */
static void fold_repeat(kln_rule *rule)
{
    const kln_dim *data = kln_fold_whole(rule, 0);
    size_t count = 0;
    if (data == NULL || rule->out_count == 0 || !rule->out[0].has_shape ||
        rule->out[0].rank > KILN_MAX_RANK || rule->out[0].rank < rule->in[0]->rank ||
        kln_fold_elements(rule->in[0]) == 0) {
        return;
    }
    const size_t pad = rule->out[0].rank - rule->in[0]->rank;
    kln_dim *out = kln_fold_start(rule, 0, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        size_t index[KILN_MAX_RANK] = {0};
        kln_fold_unravel(&rule->out[0], i, index);
        size_t place = 0;
        for (size_t k = 0; k < rule->in[0]->rank; k++) {
            const size_t dim = kln_fold_dim(rule->in[0], k);
            place = place * dim + index[k + pad] % dim;
        }
        out[i] = data[place];
    }
}

const kln_op_rule kln_rules_expand[] = {
    OP("Expand", rule_expand, .fold = fold_repeat, .form = "8: - _"),
    OP("Tile", rule_tile, .ranked = true, .fold = fold_repeat, .form = "6: - _"), OP_END};
