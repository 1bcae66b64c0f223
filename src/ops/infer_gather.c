/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

void kln_rule_gather(kln_rule *rule)
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

/* An index for each element: as many dimensions as the data, and an axis among them. */
static void check_elements(kln_rule *rule)
{
    size_t axis = 0;
    if (kln_rule_ranked(rule, 0)) {
        const size_t rank = kln_rule_rank(rule, 0);
        (void)(kln_rule_axis(rule, kln_rule_int(rule, "axis", 0), rank, &axis) &&
               kln_rule_need_rank(rule, 1, rank, rank));
    }
}

void kln_rule_gather_elements(kln_rule *rule)
{
    check_elements(rule);
    kln_rule_same_shape(rule, 1, 0);
}

void kln_rule_scatter_elements(kln_rule *rule)
{
    check_elements(rule);
    if (kln_rule_ranked(rule, 1) &&
        kln_rule_need_rank(rule, 2, kln_rule_rank(rule, 1), kln_rule_rank(rule, 1))) {
        for (size_t i = 0; i < kln_rule_rank(rule, 2); i++) {
            (void)kln_rule_unify(rule, kln_rule_dim(rule, 1, i), kln_rule_dim(rule, 2, i),
                                 "the dimensions of indices and updates");
        }
    }
    kln_rule_same_type(rule, 0, 0);
    kln_rule_same_shape(rule, 0, 0);
}

void kln_rule_gather_nd(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const size_t indices = kln_rule_rank(rule, 1);
    const int64_t batch = kln_rule_int(rule, "batch_dims", 0);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return;
    }
    if (indices < 1 || rank < 1 || batch < 0 || (size_t)batch >= rank || (size_t)batch >= indices) {
        kln_rule_fault(rule, KILN_ISSUE_RANK, rule->node->inputs[1], "at least 1 dimension",
                       "fewer",
                       "data with %zu dimensions, indices with %zu and batch_dims %lld "
                       "do not go together",
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

void kln_rule_one_hot(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0) + 1;
    size_t axis = 0;
    size_t count = 0;
    if (!kln_rule_axis(rule, kln_rule_int(rule, "axis", -1), rank, &axis)) {
        return;
    }
    const kln_dim *depth = kln_rule_contents(rule, 1, &count);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i == axis ? KLN_UNKNOWN_DIM : kln_rule_dim(rule, 0, i < axis ? i : i - 1);
    }
    if (dims != NULL && depth != NULL && count == 1) {
        dims[axis] =
            depth[0].kind == KLN_DIM_REAL ? KLN_DIM_OF_NUMBER((int64_t)depth[0].of.real) : depth[0];
    }
}

void kln_rule_compress(kln_rule *rule)
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
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i == place ? KLN_UNKNOWN_DIM : kln_rule_dim(rule, 0, i);
    }
}

void kln_rule_non_zero(kln_rule *rule)
{
    kln_dim *dims = kln_rule_new_shape(rule, 0, 2);
    if (dims != NULL && kln_rule_ranked(rule, 0)) {
        /* A scalar counts as having one dimension. */
        const size_t rank = kln_rule_rank(rule, 0);
        dims[0] = rank > 0 ? KLN_DIM_OF_NUMBER((int64_t)rank) : KLN_UNKNOWN_DIM;
    }
}

void kln_rule_unique(kln_rule *rule)
{
    const kln_onnx_attribute *axis = kln_rule_attribute(rule, "axis");
    const size_t rank = kln_rule_rank(rule, 0);
    size_t place = 0;
    for (size_t o = 1; o < rule->out_count; o++) {
        (void)kln_rule_new_shape(rule, o, 1);
    }
    if (axis == NULL) {
        (void)kln_rule_new_shape(rule, 0, 1);
        return;
    }
    if (!kln_rule_ranked(rule, 0) || !kln_rule_axis(rule, axis->i, rank, &place)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i == place ? KLN_UNKNOWN_DIM : kln_rule_dim(rule, 0, i);
    }
}

void kln_rule_nms(kln_rule *rule)
{
    kln_dim *dims = kln_rule_new_shape(rule, 0, 2);
    if (dims != NULL) {
        dims[1] = KLN_DIM_OF_NUMBER(3);
    }
}

void kln_rule_topk(kln_rule *rule)
{
    size_t axis = 0;
    const size_t rank = kln_rule_rank(rule, 0);
    kln_rule_set_dtype(rule, 1, KLN_WIRE_INT64);
    if (!kln_rule_ranked(rule, 0) ||
        !kln_rule_axis(rule, kln_rule_int(rule, "axis", -1), rank, &axis)) {
        return;
    }
    kln_dim count;
    size_t length = 0;
    if (rule->since < 10) {
        count = KLN_DIM_OF_NUMBER(kln_rule_int(rule, "k", -1));
    } else {
        const kln_dim *k = kln_rule_contents(rule, 1, &length);
        count = k != NULL && length == 1 ? k[0] : KLN_UNKNOWN_DIM;
    }
    const kln_dim whole = kln_rule_dim(rule, 0, axis);
    if (count.kind == KLN_DIM_NUMBER && whole.kind == KLN_DIM_NUMBER &&
        (count.of.number > whole.of.number || count.of.number < 0)) {
        char expected[48];
        char found[32];
        (void)snprintf(expected, sizeof expected, "at most %lld", (long long)whole.of.number);
        (void)kln_dim_format(count, found, sizeof found);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], expected, found,
                       "the %s largest of %lld elements are asked for", found,
                       (long long)whole.of.number);
        count = KLN_UNKNOWN_DIM;
    }
    for (size_t o = 0; o < 2; o++) {
        kln_dim *dims = kln_rule_new_shape(rule, o, rank);
        for (size_t i = 0; dims != NULL && i < rank; i++) {
            dims[i] = i == axis ? count : kln_rule_dim(rule, 0, i);
        }
    }
}

void kln_rule_grid_sample(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_need_rank(rule, 0, 3, SIZE_MAX) || !kln_rule_need_rank(rule, 1, rank, rank)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i < 2 ? kln_rule_dim(rule, 0, i) : kln_rule_dim(rule, 1, i - 1);
    }
    if (dims != NULL) {
        dims[0] = kln_rule_unify(rule, dims[0], kln_rule_dim(rule, 1, 0), "batches");
        (void)kln_rule_unify(rule, KLN_DIM_OF_NUMBER((int64_t)rank - 2),
                             kln_rule_dim(rule, 1, rank - 1),
                             "the spatial dimensions and the numbers of a place in the grid");
    }
}

void kln_rule_affine_grid(kln_rule *rule)
{
    size_t count = 0;
    const kln_dim *size = kln_rule_contents(rule, 1, &count);
    const kln_dim length = kln_rule_dim(rule, 1, 0);
    if (size == NULL && length.kind == KLN_DIM_NUMBER) {
        count = (size_t)length.of.number;
    }
    if (count != 4 && count != 5) {
        if (size != NULL || length.kind == KLN_DIM_NUMBER) {
            char found[32];
            (void)snprintf(found, sizeof found, "%zu", count);
            kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1], "4 or 5 numbers", found,
                           "the size has %s numbers; 4 are needed in a plane, 5 in space", found);
        }
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, count);
    if (dims == NULL) {
        return;
    }
    dims[count - 1] = KLN_DIM_OF_NUMBER((int64_t)count - 2);
    if (size != NULL) {
        dims[0] = size[0];
        for (size_t i = 2; i < count; i++) {
            dims[i - 1] = size[i];
        }
    }
}

void kln_rule_roi_align(kln_rule *rule)
{
    kln_dim *dims = kln_rule_new_shape(rule, 0, 4);
    if (dims != NULL) {
        dims[0] = kln_rule_unify(rule, kln_rule_dim(rule, 1, 0), kln_rule_dim(rule, 2, 0),
                                 "the numbers of regions");
        dims[1] = kln_rule_dim(rule, 0, 1);
        dims[2] = KLN_DIM_OF_NUMBER(kln_rule_int(rule, "output_height", 1));
        dims[3] = KLN_DIM_OF_NUMBER(kln_rule_int(rule, "output_width", 1));
    }
}
