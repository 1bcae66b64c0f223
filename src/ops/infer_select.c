/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_one_hot(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0) + 1;
    size_t axis = 0;
    if (!kln_rule_axis(rule, kln_rule_int(rule, "axis", -1), rank, &axis)) {
        return;
    }
    kln_dim depth = kln_rule_scalar(rule, 1);
    depth = depth.kind == KLN_DIM_REAL ? KLN_DIM_OF_NUMBER((int64_t)depth.of.real) : depth;
    if (depth.kind == KLN_DIM_NUMBER &&
        !kln_fit_at_least(rule, rule->node->inputs[1], depth.of.number, 0)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i == axis ? depth : kln_rule_dim(rule, 0, i < axis ? i : i - 1);
    }
}

/* As many elements as are selected, along the axis or of all. */
static void rule_compress(kln_rule *rule)
{
    const kln_onnx_attribute *axis = kln_rule_attribute(rule, "axis");
    size_t place = 0;
    if (axis == NULL) {
        (void)kln_rule_new_shape(rule, 0, 1);
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_axis(rule, axis->i, rank, &place)) {
        return;
    }
    kln_dim *dims = kln_rule_shape_like(rule, 0, rank);
    if (dims != NULL) {
        dims[place] = KLN_UNKNOWN_DIM;
    }
}

static void rule_non_zero(kln_rule *rule)
{
    /* A scalar counts as one-dimensional. */
    const size_t rank = kln_rule_rank(rule, 0);
    kln_rule_give(rule, 0, rank > 0 ? KLN_DIM_OF_NUMBER((int64_t)rank) : KLN_UNKNOWN_DIM,
                  KLN_UNKNOWN_DIM);
}

static void rule_unique(kln_rule *rule)
{
    for (size_t o = 1; o < rule->out_count; o++) {
        (void)kln_rule_new_shape(rule, o, 1);
    }
    rule_compress(rule);
}

static void rule_nms(kln_rule *rule)
{
    const bool is_none = kln_rule_is(kln_rule_dim(rule, 0, 1), 0);
    kln_rule_give(rule, 0, is_none ? KLN_DIM_OF_NUMBER(0) : KLN_UNKNOWN_DIM, KLN_DIM_OF_NUMBER(3));
}

static void rule_topk(kln_rule *rule)
{
    size_t axis = 0;
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_axis(rule, kln_rule_int(rule, "axis", -1), rank, &axis)) {
        return;
    }
    kln_dim count = rule->since < 10 ? KLN_DIM_OF_NUMBER(kln_rule_int(rule, "k", -1))
                                     : kln_rule_scalar(rule, 1);
    const kln_dim whole = kln_rule_dim(rule, 0, axis);
    if (count.kind == KLN_DIM_NUMBER && whole.kind == KLN_DIM_NUMBER &&
        (count.of.number > whole.of.number || count.of.number < 0)) {
        const char *found = KLN_DIM_PRINTED(count);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0],
                       KLN_PRINTED("at most %lld", (long long)whole.of.number), found,
                       "the %s largest of %lld elements are asked for", found,
                       (long long)whole.of.number);
        count = KLN_UNKNOWN_DIM;
    }
    for (size_t o = 0; o < 2; o++) {
        kln_dim *dims = kln_rule_shape_like(rule, o, rank);
        if (dims != NULL) {
            dims[axis] = count;
        }
    }
}

const kln_op_rule kln_rules_select[] = {
    OP("Compress", rule_compress, .form = "9: _+ _"),
    OP("NonMaxSuppression", rule_nms, .form = "10: nb4 n_b (1) (1) (1)"),
    OP("NonZero", rule_non_zero),
    OP("OneHot", rule_one_hot, .ranked = true, .form = "9: _+ (1) 2"),
    OP("TopK", rule_topk, .ranked = true, .form = "10: _+ 1"),
    OP("Unique", rule_unique),
    OP_END};
