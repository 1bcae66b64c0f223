/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_window(kln_rule *rule)
{
    kln_rule_named_dtype(rule, "output_datatype",
                         kln_rule_int(rule, "output_datatype", KLN_WIRE_FLOAT));
    const kln_dim size = kln_rule_scalar(rule, 0);
    kln_rule_give(rule, 0,
                  size.kind == KLN_DIM_NUMBER && size.of.number < 0 ? KLN_UNKNOWN_DIM : size);
}

/* The number of frequencies of a real signal of that length. */
static kln_dim one_sided(kln_expressions *pool, kln_dim length)
{
    return kln_dim_plus(pool, kln_dim_floor_divide(pool, length, KLN_DIM_OF_NUMBER(2)), 1);
}

static void rule_mel(kln_rule *rule)
{
    kln_rule_named_dtype(rule, "output_datatype",
                         kln_rule_int(rule, "output_datatype", KLN_WIRE_FLOAT));
    kln_expressions *pool = &rule->state->pool;
    kln_rule_give(rule, 0, one_sided(pool, kln_rule_scalar(rule, 1)), kln_rule_scalar(rule, 0));
}

/* The dimension that a DFT transforms; false if it is unknown, or was reported as wrong. */
static bool dft_axis(kln_rule *rule, size_t rank, size_t *axis)
{
    kln_dim given = KLN_DIM_OF_NUMBER(rule->since >= 20 ? -2 : kln_rule_int(rule, "axis", 1));
    if (rule->since >= 20 && kln_rule_has(rule, 2)) {
        given = kln_rule_scalar(rule, 2);
    }
    if (given.kind != KLN_DIM_NUMBER || !kln_rule_axis(rule, given.of.number, rank, axis)) {
        return false;
    }
    if (*axis + 1 == rank) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "axis", "not the last dimension", "the last one",
                       "axis %lld is the last dimension, which holds the parts of a number",
                       (long long)given.of.number);
        return false;
    }
    return true;
}

static void rule_dft(kln_rule *rule)
{
    const bool half = kln_rule_int(rule, "onesided", 0) != 0;
    const bool inverse = kln_rule_int(rule, "inverse", 0) != 0;
    const bool real_output = half && inverse;
    const bool as_long = !half && !kln_rule_has(rule, 1);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, SIZE_MAX)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    size_t axis = 0;
    if (dims == NULL) {
        return;
    }
    const int64_t parts = half ? (inverse ? 2 : 1) : 0;
    const kln_dim last = kln_rule_dim(rule, 0, rank - 1);
    if (parts > 0 && last.kind == KLN_DIM_NUMBER && last.of.number != parts) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], inverse ? "2" : "1",
                       "another number",
                       "a one-sided %s takes %s numbers: the last dimension must be %lld, not %lld",
                       inverse ? "inverse" : "transform", inverse ? "complex" : "real",
                       (long long)parts, (long long)last.of.number);
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const bool known = dft_axis(rule, rank, &axis);
    for (size_t i = 0; (known || as_long) && i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    if (known && !kln_rule_has(rule, 1) && kln_rule_is(dims[axis], 0)) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 1", "0",
                       "dimension %zu of \"%.100s\" is 0; a transform takes at least 1 point", axis,
                       rule->node->inputs[0]);
    }
    if (known && kln_rule_has(rule, 1)) {
        dims[axis] = kln_rule_scalar(rule, 1);
    }
    if (known && half && !inverse) {
        dims[axis] = one_sided(pool, dims[axis]);
    } else if (known && real_output && !kln_rule_has(rule, 1)) {
        dims[axis] = kln_dim_times(pool, kln_dim_plus(pool, dims[axis], -1), 2);
    }
    dims[rank - 1] = KLN_DIM_OF_NUMBER(real_output ? 1 : 2);
}

static bool wrong_parts(kln_rule *rule, kln_dim parts)
{
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "1 or 2", "another number",
                   "the last dimension of \"%.100s\" is %lld, but a number has 1 part or 2",
                   rule->node->inputs[0], (long long)parts.of.number);
    return false;
}

/* The last dimension holds a real number, or the two parts of a complex one. */
static bool fit_dft(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const kln_dim parts = kln_rule_dim(rule, 0, rank - 1);
    if (rank < 2 || parts.kind != KLN_DIM_NUMBER || kln_rule_is(parts, 1) ||
        kln_rule_is(parts, 2)) {
        int64_t length = 1;
        if (!kln_rule_has(rule, 1) || !kln_rule_single(rule, 1, &length) || length > 0) {
            return true;
        }
        return kln_fit_at_least(rule, rule->node->inputs[1], length, 1);
    }
    return wrong_parts(rule, parts);
}

static void rule_stft(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, 3)) {
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const kln_dim step = kln_rule_scalar(rule, 1);
    kln_dim length = kln_rule_has(rule, 3) ? kln_rule_scalar(rule, 3) : kln_rule_dim(rule, 2, 0);
    const kln_dim room = kln_dim_subtract(pool, kln_rule_dim(rule, 0, 1), length);
    if (kln_rule_int(rule, "onesided", 1) != 0) {
        length = one_sided(pool, length);
    }
    kln_rule_give(rule, 0, kln_rule_dim(rule, 0, 0),
                  kln_dim_plus(pool, kln_dim_floor_divide(pool, room, step), 1), length,
                  KLN_DIM_OF_NUMBER(2));
}

static bool fit_stft(kln_rule *rule)
{
    if (!kln_rule_has(rule, 2) && !kln_rule_has(rule, 3)) {
        kln_rule_fault(rule, KILN_ISSUE_ARITY, "frame_length", "a window or a length", "neither",
                       "how long a frame is must be told by a window or a length");
        return false;
    }
    const kln_dim parts = kln_rule_dim(rule, 0, 2);
    if (kln_rule_rank(rule, 0) == 3 && parts.kind == KLN_DIM_NUMBER && !kln_rule_is(parts, 1) &&
        !kln_rule_is(parts, 2)) {
        return wrong_parts(rule, parts);
    }
    size_t count = 0;
    const kln_dim *given = kln_rule_contents(rule, 3, &count);
    const bool single = given != NULL && count == 1;
    const kln_dim window = kln_rule_dim(rule, 2, 0);
    const kln_dim whole = kln_rule_dim(rule, 0, 1);
    const kln_dim frame = single ? given[0] : !kln_rule_has(rule, 3) ? window : KLN_UNKNOWN_DIM;
    const char *found = KLN_DIM_PRINTED(frame);
    if (frame.kind == KLN_DIM_NUMBER &&
        (frame.of.number < 1 ||
         (whole.kind == KLN_DIM_NUMBER && frame.of.number > whole.of.number) ||
         (window.kind == KLN_DIM_NUMBER && window.of.number > frame.of.number))) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "a frame that fits", found,
                       "a frame of %s does not fit the signal \"%.100s\" and the window", found,
                       rule->node->inputs[0]);
        return false;
    }
    return true;
}

const kln_op_rule kln_rules_signal[] = {
    OP("BlackmanWindow", rule_window, .form = "17: (1)"),
    OP("DFT", rule_dft, .form = "17: - (1) (1)", .fit = fit_dft),
    OP("HammingWindow", rule_window, .form = "17: (1)"),
    OP("HannWindow", rule_window, .form = "17: (1)"),
    OP("MelWeightMatrix", rule_mel, .form = "17: () () () () ()"),
    OP("STFT", rule_stft, .form = "17: - (1) _ (1)", .fit = fit_stft),
    OP_END};
