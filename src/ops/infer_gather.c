/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_gather(kln_rule *rule)
{
    size_t axis = 0;
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) ||
        !kln_rule_need_rank(rule, 0, 1, SIZE_MAX) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", 0), kln_rule_rank(rule, 0), &axis)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    const size_t indices = kln_rule_rank(rule, 1);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank - 1 + indices);
    for (size_t i = 0; dims != NULL && i < rank - 1 + indices; i++) {
        dims[i] = i < axis             ? kln_rule_dim(rule, 0, i)
                  : i < axis + indices ? kln_rule_dim(rule, 1, i - axis)
                                       : kln_rule_dim(rule, 0, i - indices + 1);
    }
}

static void fold_gather(kln_rule *rule)
{
    const kln_dim *data = kln_fold_whole(rule, 0);
    const kln_dim *indices = kln_fold_whole(rule, 1);
    size_t axis = 0;
    size_t count = 0;
    if (data == NULL || indices == NULL || !kln_fold_axis(rule, 0, rule->in[0], &axis)) {
        return;
    }
    kln_dim *out = kln_fold_start(rule, 0, &count);
    const size_t places = kln_fold_elements(rule->in[1]);
    const size_t inner = kln_fold_span(rule->in[0], axis + 1, rule->in[0]->rank);
    const size_t along = kln_fold_dim(rule->in[0], axis);
    for (size_t i = 0; out != NULL && i < count; i++) {
        const size_t outer = i / inner / places;
        const kln_dim index = indices[i / inner % places];
        const int64_t at = index.kind == KLN_DIM_NUMBER && index.of.number < 0
                               ? index.of.number + (int64_t)along
                               : index.of.number;
        if (index.kind == KLN_DIM_NUMBER && (at < 0 || at >= (int64_t)along)) {
            const char *expected = KLN_PRINTED("-%zu to %lld", along, (long long)along - 1);
            const char *found = KLN_DIM_PRINTED(index);
            kln_rule_fault(rule, KILN_ISSUE_VALUE, rule->node->inputs[1], expected, found,
                           "index %s is outside %s, the %zu elements along axis %zu", found,
                           expected, along, axis);
            return;
        }
        out[i] = index.kind == KLN_DIM_NUMBER && at >= 0 && at < (int64_t)along
                     ? data[(outer * along + (size_t)at) * inner + i % inner]
                     : KLN_UNKNOWN_DIM;
    }
}

bool kln_fit_places(kln_rule *rule, size_t first, size_t last)
{
    const size_t rank = kln_rule_rank(rule, 1);
    if (!kln_rule_ranked(rule, 1)) {
        return true;
    }
    const kln_dim places = kln_rule_product(rule, rule->in[1]->dims, 0, rank);
    for (size_t i = first; i < last && places.kind == KLN_DIM_NUMBER && places.of.number > 0; i++) {
        if (!kln_fit_not_empty(rule, 0, i)) {
            return false;
        }
    }
    return true;
}

static bool fit_axis(kln_rule *rule)
{
    size_t axis = 0;
    return !kln_rule_ranked(rule, 0) || !kln_fold_axis(rule, 0, rule->in[0], &axis) ||
           kln_fit_places(rule, axis, axis + 1);
}

/* An index for each element: indices have the rank of the data, and the axis is valid. */
static void check_elements(kln_rule *rule)
{
    size_t axis = 0;
    const size_t rank = kln_rule_rank(rule, 0);
    (void)(kln_rule_ranked(rule, 0) &&
           kln_rule_axis(rule, kln_rule_int(rule, "axis", 0), rank, &axis) &&
           kln_rule_need_rank(rule, 1, rank, rank));
}

static void rule_gather_elements(kln_rule *rule)
{
    check_elements(rule);
    kln_rule_same_shape(rule, 1, 0);
}

static void rule_scatter_elements(kln_rule *rule)
{
    check_elements(rule);
    if (kln_rule_ranked(rule, 1) &&
        kln_rule_need_rank(rule, 2, kln_rule_rank(rule, 1), kln_rule_rank(rule, 1))) {
        for (size_t i = 0; i < kln_rule_rank(rule, 2); i++) {
            (void)kln_rule_unify(rule, kln_rule_dim(rule, 1, i), kln_rule_dim(rule, 2, i),
                                 "the dimensions of indices and updates");
        }
    }
    kln_rule_same_shape(rule, 0, 0);
}

/* Indices are no larger than the data, except along the axis. */
static bool fit_elements(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t given = kln_rule_int(rule, "axis", 0);
    if (!kln_rule_ranked(rule, 0) || kln_rule_rank(rule, 1) != rank) {
        return true; /* the rule reports another rank */
    }
    for (size_t i = 0; i < rank; i++) {
        const kln_dim dim = kln_rule_dim(rule, 1, i);
        const kln_dim most = kln_rule_dim(rule, 0, i);
        if ((int64_t)i == (given < 0 ? given + (int64_t)rank : given) ||
            dim.kind != KLN_DIM_NUMBER || most.kind != KLN_DIM_NUMBER ||
            dim.of.number <= most.of.number) {
            continue;
        }
        const char *found = KLN_DIM_PRINTED(dim);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1],
                       KLN_PRINTED("at most %lld", (long long)most.of.number), found,
                       "dimension %zu of the indices \"%.80s\" is %s, but that of the data is %lld",
                       i, rule->node->inputs[1], found, (long long)most.of.number);
        return false;
    }
    return fit_axis(rule);
}

/* Indices and updates of the old Scatter have the same shape, as with ScatterElements. */
static bool fit_scatter(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    size_t axis = 0;
    if (!kln_rule_ranked(rule, 0) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", 0), rank, &axis) ||
        !kln_rule_need_rank(rule, 1, rank, rank) || !kln_rule_need_rank(rule, 2, rank, rank)) {
        return !kln_rule_ranked(rule, 0);
    }
    for (size_t i = 0; i < rank; i++) {
        if (!kln_fit_dim(rule, 2, i, kln_rule_dim(rule, 1, i), "the indices and the updates")) {
            return false;
        }
    }
    return fit_elements(rule);
}

static void rule_gather_nd(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const size_t indices = kln_rule_rank(rule, 1);
    const int64_t batch = kln_rule_int(rule, "batch_dims", 0);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return;
    }
    if (indices < 1 || rank < 1 || batch < 0 || (size_t)batch >= rank || (size_t)batch >= indices) {
        kln_rule_fault(
            rule, KILN_ISSUE_RANK, rule->node->inputs[1], "at least 1 dimension", "fewer",
            "data with %zu dimensions, indices with %zu and batch_dims %lld do not go together",
            rank, indices, (long long)batch);
        return;
    }
    const kln_dim last = kln_rule_dim(rule, 1, indices - 1);
    if (last.kind != KLN_DIM_NUMBER) {
        return;
    }
    if (last.of.number < 1 || last.of.number > (int64_t)rank - batch) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1], "at most the rank", "more",
                       "each index has %lld numbers, but there are %zu dimensions to index",
                       (long long)last.of.number, rank - (size_t)batch);
        return;
    }
    const size_t taken = (size_t)batch + (size_t)last.of.number;
    const size_t out = indices - 1 + rank - taken;
    kln_dim *dims = kln_rule_new_shape(rule, 0, out);
    for (size_t i = 0; dims != NULL && i < out; i++) {
        dims[i] = i < indices - 1 ? kln_rule_dim(rule, 1, i)
                                  : kln_rule_dim(rule, 0, i - (indices - 1) + taken);
    }
}

/* The batch dimensions of the indices are those of the data. */
static bool fit_gather_nd(kln_rule *rule)
{
    const int64_t batch = kln_rule_int(rule, "batch_dims", 0);
    bool fits = kln_rule_ranked(rule, 0) && kln_rule_ranked(rule, 1);
    for (size_t i = 0; fits && (int64_t)i < batch && i < kln_rule_rank(rule, 1); i++) {
        fits = kln_fit_dim(rule, 1, i, kln_rule_dim(rule, 0, i), "the batches of data and indices");
    }
    if (!fits) {
        return !kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1);
    }
    const size_t indices = kln_rule_rank(rule, 1);
    const kln_dim deep = kln_rule_dim(rule, 1, indices > 0 ? indices - 1 : 0);
    return deep.kind != KLN_DIM_NUMBER || deep.of.number < 1 ||
           kln_fit_places(rule, (size_t)batch, (size_t)(batch + deep.of.number));
}

/* The shape of updates: the indices' dimensions without the last, then those of the slice that each
 * one selects. */
static bool fit_scatter_nd(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const size_t places = kln_rule_rank(rule, 1);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return true;
    }
    if (!kln_rule_need_rank(rule, 0, 1, SIZE_MAX) || !kln_rule_need_rank(rule, 1, 1, SIZE_MAX)) {
        return false;
    }
    const kln_dim last = kln_rule_dim(rule, 1, places - 1);
    if (last.kind != KLN_DIM_NUMBER || !kln_rule_ranked(rule, 2)) {
        return true;
    }
    const size_t deep = (size_t)last.of.number;
    if (deep > rank) {
        const char *found = KLN_PRINTED("%zu", deep);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1],
                       KLN_PRINTED("at most %zu", rank), found,
                       "an index has %s numbers, but the data \"%.100s\" has %zu dimensions", found,
                       rule->node->inputs[0], rank);
        return false;
    }
    const size_t wanted = places - 1 + rank - deep;
    bool fits = kln_rule_need_rank(rule, 2, wanted, wanted);
    for (size_t i = 0; fits && i < wanted; i++) {
        fits = kln_fit_dim(rule, 2, i,
                           i + 1 < places ? kln_rule_dim(rule, 1, i)
                                          : kln_rule_dim(rule, 0, deep + i - (places - 1)),
                           "the updates and the slices that the indices name");
    }
    return fits && kln_fit_places(rule, 0, deep);
}

const kln_op_rule kln_rules_gather[] = {
    OP("Gather", rule_gather, .fold = fold_gather, .form = "1: -", .fit = fit_axis),
    OP("GatherElements", rule_gather_elements, .form = "11: -", .fit = fit_elements),
    OP("GatherND", rule_gather_nd, .form = "12: -", .fit = fit_gather_nd),
    OP("Scatter", kln_rule_same, .form = "9: -", .fit = fit_scatter),
    OP("ScatterElements", rule_scatter_elements, .form = "11: -", .fit = fit_elements),
    OP("ScatterND", kln_rule_same, .form = "11: _+ _+", .fit = fit_scatter_nd),
    OP_END};
