/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "infer_rules.h"

static const kln_dim *pads_of(kln_rule *rule, size_t *count)
{
    if (rule->since >= 11) {
        return kln_rule_contents(rule, 1, count);
    }
    const int64_t *pads = kln_rule_ints(rule, rule->since < 2 ? "paddings" : "pads", count);
    kln_dim *dims = pads != NULL ? kln_rule_alloc(rule, *count, sizeof *dims) : NULL;
    for (size_t i = 0; dims != NULL && i < *count; i++) {
        dims[i] = KLN_DIM_OF_NUMBER(pads[i]);
    }
    return dims;
}

void kln_rule_pad(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    size_t count = 0;
    size_t axis_count = rank;
    const kln_dim *pads = pads_of(rule, &count);
    const int64_t *axes = NULL;
    const bool has_axes = rule->since >= 18 && kln_rule_has(rule, 3);
    if (has_axes) {
        axes = kln_rule_numbers(rule, 3, &axis_count);
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (dims == NULL || pads == NULL || (has_axes && axes == NULL)) {
        return;
    }
    if (count != axis_count * 2) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "pads", "two for each dimension", "another number",
                       "%zu pads are given for %zu dimensions", count, axis_count);
        return;
    }
    for (size_t i = 0; i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    for (size_t i = 0; i < axis_count; i++) {
        size_t axis = i;
        if (axes != NULL && !kln_rule_axis(rule, axes[i], rank, &axis)) {
            return;
        }
        kln_expressions *pool = &rule->state->pool;
        const kln_dim sum = kln_dim_add(pool, pads[i], pads[i + axis_count]);
        const kln_dim dim = kln_dim_add(pool, dims[axis], sum);
        dims[axis] = dim.kind == KLN_DIM_NUMBER && dim.of.number < 0 ? KLN_UNKNOWN_DIM : dim;
    }
}

void kln_rule_tile(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
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

void kln_rule_expand(kln_rule *rule)
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
        if (to.kind == KLN_DIM_NUMBER && to.of.number < 0) {
            to = KLN_UNKNOWN_DIM;
        }
        dims[i] = kln_rule_broadcast_dim(rule, in, to);
    }
}

/* --- moving blocks --- */

static bool block_size(kln_rule *rule, int64_t *size)
{
    *size = kln_rule_int(rule, "blocksize", 0);
    if (*size > 0 && *size < INT32_MAX) {
        return kln_rule_ranked(rule, 0) && kln_rule_need_rank(rule, 0, 4, 4);
    }
    kln_rule_fault(rule, KILN_ISSUE_VALUE, "blocksize", "a positive number", "another number",
                   "\"blocksize\" is %lld, but must be positive", (long long)*size);
    return false;
}

void kln_rule_depth_to_space(kln_rule *rule)
{
    int64_t size = 0;
    kln_dim *dims = block_size(rule, &size) ? kln_rule_new_shape(rule, 0, 4) : NULL;
    if (dims != NULL) {
        kln_expressions *pool = &rule->state->pool;
        dims[0] = kln_rule_dim(rule, 0, 0);
        dims[1] =
            kln_dim_floor_divide(pool, kln_rule_dim(rule, 0, 1), KLN_DIM_OF_NUMBER(size * size));
        dims[2] = kln_dim_times(pool, kln_rule_dim(rule, 0, 2), size);
        dims[3] = kln_dim_times(pool, kln_rule_dim(rule, 0, 3), size);
    }
}

void kln_rule_space_to_depth(kln_rule *rule)
{
    int64_t size = 0;
    kln_dim *dims = block_size(rule, &size) ? kln_rule_new_shape(rule, 0, 4) : NULL;
    if (dims != NULL) {
        kln_expressions *pool = &rule->state->pool;
        const kln_dim block = KLN_DIM_OF_NUMBER(size);
        dims[0] = kln_rule_dim(rule, 0, 0);
        dims[1] = kln_dim_times(pool, kln_rule_dim(rule, 0, 1), size * size);
        dims[2] = kln_dim_floor_divide(pool, kln_rule_dim(rule, 0, 2), block);
        dims[3] = kln_dim_floor_divide(pool, kln_rule_dim(rule, 0, 3), block);
    }
}

void kln_rule_center_crop_pad(kln_rule *rule)
{
    size_t count = 0;
    size_t axis_count = 0;
    const kln_dim *sizes = kln_rule_contents(rule, 1, &count);
    const int64_t *axes = kln_rule_ints(rule, "axes", &axis_count);
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    bool *marked = kln_rule_alloc(rule, rank, sizeof *marked);
    if (dims == NULL || marked == NULL) {
        return;
    }
    if (axes != NULL && !kln_mark_axes(rule, axes, axis_count, rank, marked)) {
        return;
    }
    for (size_t i = 0; i < rank; i++) {
        dims[i] = axes != NULL && !marked[i] ? kln_rule_dim(rule, 0, i) : KLN_UNKNOWN_DIM;
    }
    if (sizes == NULL || count != (axes != NULL ? axis_count : rank)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t axis = i;
        if (axes == NULL || kln_rule_axis(rule, axes[i], rank, &axis)) {
            dims[axis] = sizes[i];
        }
    }
}
