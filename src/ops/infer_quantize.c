/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static const kln_value_quantization *describe(kln_rule *rule)
{
    kln_value_quantization *q = kln_rule_alloc(rule, 1, sizeof *q);
    if (q == NULL || rule->in_count < 2) {
        return NULL;
    }
    q->scale = rule->node->inputs[1];
    q->zero_point = kln_rule_has(rule, 2) ? rule->node->inputs[2] : NULL;
    q->block_size = kln_rule_int(rule, "block_size", 0);
    q->axis = -1;
    size_t axis = 0;
    const bool single = kln_rule_ranked(rule, 1) && kln_rule_rank(rule, 1) == 0;
    const bool one = kln_rule_rank(rule, 1) == 1 && kln_rule_is(kln_rule_dim(rule, 1, 0), 1);
    if (kln_rule_ranked(rule, 0) && kln_rule_ranked(rule, 1) && !single && !one &&
        kln_rule_axis(rule, kln_rule_int(rule, "axis", 1), kln_rule_rank(rule, 0), &axis)) {
        q->axis = (int64_t)axis;
    }
    return q;
}

static void check_scale(kln_rule *rule, const kln_value_quantization *q)
{
    if (q == NULL || (q->block_size == 0 && !kln_rule_need_rank(rule, 1, 0, 1)) ||
        !kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) || kln_rule_rank(rule, 1) == 0 ||
        q->axis < 0) {
        return;
    }
    const char *name = rule->node->inputs[1];
    const kln_dim wide = kln_rule_dim(rule, 0, (size_t)q->axis);
    kln_dim needed = wide;
    kln_dim given = kln_rule_dim(rule, 1, 0);
    if (q->block_size > 0) {
        if (kln_rule_rank(rule, 1) != kln_rule_rank(rule, 0)) {
            kln_rule_fault(
                rule, KILN_ISSUE_QUANTIZATION, name, "the rank of the tensor", "another rank",
                "blocked scales \"%s\" need as many dimensions as the tensor, %zu, but have %zu",
                name, kln_rule_rank(rule, 0), kln_rule_rank(rule, 1));
            return;
        }
        needed = kln_dim_ceil_divide(&rule->state->pool, wide, KLN_DIM_OF_NUMBER(q->block_size));
        given = kln_rule_dim(rule, 1, (size_t)q->axis);
    }
    if (needed.kind == KLN_DIM_NUMBER && given.kind == KLN_DIM_NUMBER &&
        needed.of.number != given.of.number) {
        const char *expected = KLN_DIM_PRINTED(needed);
        const char *found = KLN_DIM_PRINTED(given);
        kln_rule_fault(rule, KILN_ISSUE_QUANTIZATION, name, expected, found,
                       "\"%s\" has %s scales, but dimension %lld of \"%s\" needs %s", name, found,
                       (long long)q->axis, rule->node->inputs[0], expected);
    }
}

static void check_zero_point(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 1) || !kln_rule_ranked(rule, 2)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 1);
    bool same = rank == kln_rule_rank(rule, 2);
    for (size_t i = 0; same && i < rank; i++) {
        const kln_dim a = kln_rule_dim(rule, 1, i);
        const kln_dim b = kln_rule_dim(rule, 2, i);
        same = a.kind != KLN_DIM_NUMBER || b.kind != KLN_DIM_NUMBER || kln_dim_equal(a, b);
    }
    const bool scalars = rank <= 1 && kln_rule_rank(rule, 2) <= 1 &&
                         (rank == 0 || kln_rule_is(kln_rule_dim(rule, 1, 0), 1)) &&
                         (kln_rule_rank(rule, 2) == 0 || kln_rule_is(kln_rule_dim(rule, 2, 0), 1));
    if (!same && !scalars) {
        const char *expected = KLN_VALUE_PRINTED(rule->in[1]);
        const char *found = KLN_VALUE_PRINTED(rule->in[2]);
        kln_rule_fault(rule, KILN_ISSUE_QUANTIZATION, rule->node->inputs[2], expected, found,
                       "scales \"%.60s\" are %.60s, but zero points \"%.60s\" are %.60s",
                       rule->node->inputs[1], expected, rule->node->inputs[2], found);
    }
}

static void rule_quantize(kln_rule *rule)
{
    const int64_t named = kln_rule_int(rule, "output_dtype", 0);
    const int32_t zero = kln_rule_dtype(rule, 2);
    if (kln_rule_has(rule, 2)) {
        kln_rule_set_dtype(rule, 0, zero);
        if (named != 0 && zero != 0) {
            (void)kln_rule_names_one(rule, "output_dtype", named, UINT32_C(1) << zero);
        }
    } else {
        kln_rule_named_dtype(rule, "output_dtype", named != 0 ? named : KLN_WIRE_UINT8);
    }
    kln_rule_same_shape(rule, 0, 0);
    const kln_value_quantization *q = describe(rule);
    check_scale(rule, q);
    check_zero_point(rule);
    if (kln_rule_wants(rule, 0)) {
        rule->out[0].quantization = q;
    }
}

static void rule_dequantize(kln_rule *rule)
{
    const bool single = rule->since < 19 && rule->resolved->domain[0] == '\0';
    const int64_t named = kln_rule_int(rule, "output_dtype", 0);
    if (named != 0) {
        kln_rule_named_dtype(rule, "output_dtype", named);
    } else {
        kln_rule_set_dtype(rule, 0, single ? KLN_WIRE_FLOAT : kln_rule_dtype(rule, 1));
    }
    kln_rule_same_shape(rule, 0, 0);
    const kln_value_quantization *q = describe(rule);
    check_scale(rule, q);
    check_zero_point(rule);
    if (rule->in_count > 0 && rule->in[0] != NULL && rule->in[0]->quantization == NULL) {
        rule->in[0]->quantization = q;
    }
}

/* One scale and zero point per block; those along an axis are checked with the weights. */
static bool fit_quantize(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t block = kln_rule_int(rule, "block_size", 0);
    const int64_t given = kln_rule_int(rule, "axis", 1);
    if (block <= 0 || !kln_rule_ranked(rule, 0) || given < -(int64_t)rank ||
        given >= (int64_t)rank) {
        return true;
    }
    const size_t axis = (size_t)(given < 0 ? given + (int64_t)rank : given);
    if (kln_rule_ranked(rule, 1) && !kln_rule_need_rank(rule, 1, rank, rank)) {
        return false;
    }
    for (size_t input = 1; input <= 2; input++) {
        for (size_t i = 0; kln_rule_rank(rule, input) == rank && i < rank; i++) {
            const kln_dim dim = kln_rule_dim(rule, 0, i);
            const kln_dim blocks =
                kln_dim_ceil_divide(&rule->state->pool, dim, KLN_DIM_OF_NUMBER(block));
            if (!kln_fit_dim(rule, input, i, i == axis ? blocks : dim,
                             "the blocks and their scales and zero points")) {
                return false;
            }
        }
    }
    return true;
}

static void rule_dynamic_quantize(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    (void)kln_rule_new_shape(rule, 1, 0);
    (void)kln_rule_new_shape(rule, 2, 0);
}

const kln_op_rule kln_rules_quantize[] = {
    OP("DequantizeLinear", rule_dequantize, .form = "10: -", .fit = fit_quantize),
    OP("DynamicQuantizeLinear", rule_dynamic_quantize),
    OP("QuantizeLinear", rule_quantize, .form = "10: -", .fit = fit_quantize),
    OP_MS("DequantizeLinear", rule_dequantize),
    OP_MS("QuantizeLinear", rule_quantize),
    OP_END};
