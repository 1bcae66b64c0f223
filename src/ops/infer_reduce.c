/* SPDX-License-Identifier: Apache-2.0 */
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

static bool reduced_axes(kln_rule *rule, bool *gone, size_t rank)
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

static void rule_reduce(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const bool keep = kln_rule_int(rule, "keepdims", 1) != 0;
    bool *gone = kln_rule_alloc(rule, rank, sizeof *gone);
    if (gone == NULL) {
        return;
    }
    if (reduced_axes(rule, gone, rank)) {
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

/* ReduceProd, ReduceSum, ReduceMax and ReduceMin over all elements. */
static void fold_reduce(kln_rule *rule)
{
    const kln_dim *data = kln_fold_whole(rule, 0);
    size_t count = 0;
    if (data == NULL || !kln_rule_elements(rule, 0, &count) || count != 1 ||
        kln_fold_elements(rule->in[0]) == 0) {
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const char *op = rule->node->op_type + strlen("Reduce");
    kln_dim result = data[0];
    for (size_t i = 1; i < kln_fold_elements(rule->in[0]); i++) {
        result = strcmp(op, "Prod") == 0  ? kln_dim_multiply(pool, result, data[i])
                 : strcmp(op, "Sum") == 0 ? kln_dim_add(pool, result, data[i])
                 : strcmp(op, "Max") == 0 ? kln_dim_max(pool, result, data[i])
                                          : kln_dim_min(pool, result, data[i]);
    }
    kln_dim *out = kln_fold_start(rule, 0, &count);
    if (out != NULL) {
        out[0] = result;
    }
}

static void rule_arg(kln_rule *rule)
{
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

static void rule_cumulative_sum(kln_rule *rule)
{
    int64_t number = 0;
    size_t axis = 0;
    if (kln_rule_ranked(rule, 0) && kln_rule_single(rule, 1, &number)) {
        (void)kln_rule_axis(rule, number, kln_rule_rank(rule, 0), &axis);
    }
    kln_rule_same_shape(rule, 0, 0);
}

/* The axis of a cumulative sum or product is valid, if known. */
static bool fit_running(kln_rule *rule)
{
    int64_t axis = 0;
    size_t found = 0;
    return !kln_rule_ranked(rule, 0) || !kln_rule_single(rule, 1, &axis) ||
           kln_rule_axis(rule, axis, kln_rule_rank(rule, 0), &found);
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
static void rule_loss(kln_rule *rule)
{
    check_targets(rule);
    if (strcmp(kln_rule_string(rule, "reduction", "mean"), "none") == 0) {
        kln_rule_same_shape(rule, 1, 0);
    } else {
        (void)kln_rule_new_shape(rule, 0, 0);
    }
}

static void rule_softmax_loss(kln_rule *rule)
{
    rule_loss(rule);
    kln_rule_same_shape(rule, 0, 1);
}

/* The scores, with a target for each position. */
static bool fit_loss(kln_rule *rule)
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

const kln_op_rule kln_rules_reduce[] = {
    OP("ArgMax", rule_arg, .ranked = true),
    OP("ArgMin", rule_arg, .ranked = true),
    OP("CumProd", kln_rule_same, .form = "26: _+ (1)", .fit = fit_running),
    OP("CumSum", rule_cumulative_sum, .form = "11: _+ (1)", .fit = fit_running),
    OP("NegativeLogLikelihoodLoss", rule_loss, .form = "12: nc+ n+ c", .fit = fit_loss),
    OP("ReduceL1", rule_reduce, .ranked = true, .form = "18: - (_)"),
    OP("ReduceL2", rule_reduce, .ranked = true, .form = "18: - (_)"),
    OP("ReduceLogSum", rule_reduce, .ranked = true, .form = "18: - (_)"),
    OP("ReduceLogSumExp", rule_reduce, .ranked = true, .form = "18: - (_)"),
    OP("ReduceMax", rule_reduce, .ranked = true, .fold = fold_reduce, .form = "18: - (_)"),
    OP("ReduceMean", rule_reduce, .ranked = true, .form = "18: - (_)"),
    OP("ReduceMin", rule_reduce, .ranked = true, .fold = fold_reduce, .form = "18: - (_)"),
    OP("ReduceProd", rule_reduce, .ranked = true, .fold = fold_reduce, .form = "18: - (_)"),
    OP("ReduceSum", rule_reduce, .ranked = true, .fold = fold_reduce, .form = "13: - (_)"),
    OP("ReduceSumSquare", rule_reduce, .ranked = true, .form = "18: - (_)"),
    OP("SoftmaxCrossEntropyLoss", rule_softmax_loss, .form = "12: nc+ n+ c", .fit = fit_loss),
    OP_MS("QLinearReduceMean", rule_reduce, .ranked = true, .form = "1: - (1) (1) (1) (1)"),
    OP_END};
