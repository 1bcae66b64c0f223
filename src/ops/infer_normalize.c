/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_dropout(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    kln_rule_same_shape(rule, 0, 1);
}

static void rule_batch_norm(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    kln_dim channels = kln_rule_rank(rule, 0) > 1 ? kln_rule_dim(rule, 0, 1)
                       : kln_rule_ranked(rule, 0) ? KLN_DIM_OF_NUMBER(1)
                                                  : KLN_UNKNOWN_DIM;
    for (size_t i = 1; i < 5 && rule->since >= 7; i++) {
        if (!kln_rule_need_rank(rule, i, 1, 1)) {
            return;
        }
        channels = kln_rule_unify(rule, channels, kln_rule_dim(rule, i, 0),
                                  "the channels of the input and of its statistics");
    }
    const bool trains = kln_rule_int(rule, "training_mode", 0) != 0;
    const size_t outputs = trains ? 3 : 1;
    if (rule->since >= 14 && rule->out_count != outputs) {
        const char *expected = KLN_PRINTED("%zu", outputs);
        const char *found = KLN_PRINTED("%zu", rule->out_count);
        kln_rule_fault(rule, KILN_ISSUE_ARITY, "training_mode", expected, found,
                       "with \"training_mode\" %d there must be %s outputs, but there are %s",
                       trains ? 1 : 0, expected, found);
    }
    for (size_t i = 1; i < rule->out_count; i++) {
        kln_rule_give(rule, i, channels);
    }
}

static void rule_layer_norm(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    size_t axis = 0;
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_ranked(rule, 0) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", -1), rank, &axis)) {
        return;
    }
    const int64_t stash = kln_rule_int(rule, "stash_type", KLN_WIRE_FLOAT);
    const kln_schema_parameter *kept = kln_schema_output(rule->resolved->schema, 1);
    if (rule->out_count > 1 && !kln_rule_names_one(rule, "stash_type", stash, kept->types.tensor)) {
        return;
    }
    for (size_t o = 1; o < rule->out_count; o++) {
        kln_rule_set_dtype(rule, o, (int32_t)stash);
        kln_dim *dims = kln_rule_new_shape(rule, o, rank);
        for (size_t i = 0; dims != NULL && i < rank; i++) {
            dims[i] = i < axis ? kln_rule_dim(rule, 0, i) : KLN_DIM_OF_NUMBER(1);
        }
    }
}

/* Output 3 is a sum. */
static void rule_skip_norm(kln_rule *rule)
{
    const size_t count = rule->out_count;
    rule->out_count = count < 3 ? count : 3;
    rule_layer_norm(rule);
    rule->out_count = count;
    if (count > 3) {
        kln_rule_same_shape(rule, 0, 3);
    }
}

/* Scale and bias broadcast to the dimensions from the axis on. */
static bool fit_layer_norm(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    size_t axis = 0;
    if (!kln_rule_ranked(rule, 0) || !kln_fold_axis(rule, -1, rule->in[0], &axis)) {
        return true; /* the rule reports a wrong axis */
    }
    static const char what[] = "what is normalized and its scale or bias";
    const kln_dim *dims = rule->in[0]->dims + axis;
    return kln_fit_broadcast(rule, 1, dims, rank - axis, what) &&
           kln_fit_broadcast(rule, 2, dims, rank - axis, what);
}

static bool fit_group_norm(kln_rule *rule)
{
    const int64_t groups = kln_rule_int(rule, "num_groups", 0);
    if (!kln_rule_ranked(rule, 0)) {
        return true;
    }
    if (!kln_rule_need_rank(rule, 0, 2, SIZE_MAX) ||
        !kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 1), groups, "channels")) {
        return false;
    }
    const kln_dim each = rule->since < 21 ? KLN_DIM_OF_NUMBER(groups) : kln_rule_dim(rule, 0, 1);
    return kln_fit_dim(rule, 1, 0, each, "the scales and what they are for") &&
           kln_fit_dim(rule, 2, 0, each, "the biases and what they are for");
}

static bool fit_lrn(kln_rule *rule)
{
    return kln_fit_at_least(rule, "size", kln_rule_int(rule, "size", 1), 1);
}

/* The axes of the attribute, or its defaults, are valid for the input. */
static bool fit_axes(kln_rule *rule)
{
    size_t count = 0;
    const int64_t *axes = kln_rule_ints(rule, "axes", &count);
    static const int64_t defaults[] = {0, 2, 3};
    const size_t rank = kln_rule_rank(rule, 0);
    size_t axis = 0;
    axes = axes != NULL ? axes : defaults;
    count = axes == defaults ? 3 : count;
    for (size_t i = 0; kln_rule_ranked(rule, 0) && i < count; i++) {
        if (!kln_rule_axis(rule, axes[i], rank, &axis)) {
            return false;
        }
    }
    return true;
}

const kln_op_rule kln_rules_normalize[] = {
    OP("BatchNormalization", rule_batch_norm),
    OP("Dropout", rule_dropout, .form = "12: - () ()"),
    OP("GroupNormalization", kln_rule_same, .form = "21: nc+ c c", .fit = fit_group_norm),
    OP("InstanceNormalization", kln_rule_same, .form = "1: nc_+ c c"),
    OP("LRN", kln_rule_same, .form = "1: ___+", .fit = fit_lrn),
    OP("LayerNormalization", rule_layer_norm, .form = "17: _+", .fit = fit_layer_norm),
    OP("LpNormalization", kln_rule_same_axis, .form = "1: _+"),
    OP("MeanVarianceNormalization", kln_rule_same, .form = "9: -", .fit = fit_axes),
    OP("RMSNormalization", kln_rule_same_axis, .form = "23: _+", .fit = fit_layer_norm),
    OP("SimplifiedLayerNormalization", rule_layer_norm, .form = "1: _+", .fit = fit_layer_norm),
    OP_MS("SkipLayerNormalization", rule_skip_norm),
    OP_MS("SkipSimplifiedLayerNormalization", rule_skip_norm),
    OP_END};
