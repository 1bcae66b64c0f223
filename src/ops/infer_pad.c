/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_pad(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    size_t count = 0;
    size_t axis_count = rank;
    const char *name = rule->since < 2 ? "paddings" : "pads";
    const kln_dim *pads = rule->since >= 11 ? kln_rule_contents(rule, 1, &count)
                                            : kln_rule_ints_as_contents(rule, name, &count);
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

/* A dimension without elements can only be padded with constants. */
static bool fit_pad(kln_rule *rule)
{
    size_t count = 0;
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t *pads = kln_rule_numbers(rule, 1, &count);
    if (pads == NULL || count != 2 * rank || kln_rule_has(rule, 3) ||
        strcmp(kln_rule_string(rule, "mode", "constant"), "constant") == 0) {
        return true;
    }
    for (size_t i = 0; i < rank; i++) {
        if ((pads[i] > 0 || pads[i + rank] > 0) && !kln_fit_not_empty(rule, 0, i)) {
            return false;
        }
    }
    return true;
}

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

/* Moves channels to blocks of the image, or blocks to channels. */
static void rule_blocks(kln_rule *rule)
{
    const bool to_space = strcmp(rule->node->op_type, "DepthToSpace") == 0;
    int64_t size = 0;
    kln_dim *dims = block_size(rule, &size) ? kln_rule_new_shape(rule, 0, 4) : NULL;
    for (size_t i = 0; dims != NULL && i < 4; i++) {
        const kln_dim dim = kln_rule_dim(rule, 0, i);
        const int64_t factor = i == 1 ? size * size : size;
        dims[i] = i == 0 ? dim
                  : to_space == (i == 1)
                      ? kln_dim_floor_divide(&rule->state->pool, dim, KLN_DIM_OF_NUMBER(factor))
                      : kln_dim_times(&rule->state->pool, dim, factor);
    }
}

/* Channels, or both sides of an image, divide into whole blocks. */
static bool fit_blocks(kln_rule *rule)
{
    const int64_t size = kln_rule_int(rule, "blocksize", 1);
    if (kln_rule_rank(rule, 0) != 4 || size < 1 || size > INT32_MAX) {
        return true; /* the rule reports these */
    }
    if (strcmp(rule->node->op_type, "DepthToSpace") == 0) {
        return kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 1), size * size, "channels");
    }
    return kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 2), size, "rows") &&
           kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 3), size, "columns");
}

static void rule_center_crop_pad(kln_rule *rule)
{
    size_t count = 0;
    size_t axis_count = 0;
    const kln_dim *sizes = kln_rule_contents(rule, 1, &count);
    const int64_t *axes = kln_rule_ints(rule, "axes", &axis_count);
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

/* One size per axis. */
static bool fit_center_crop_pad(kln_rule *rule)
{
    size_t count = 0;
    (void)kln_rule_ints(rule, "axes", &count);
    if (count == 0 && !kln_rule_ranked(rule, 0)) {
        return true;
    }
    count = count > 0 ? count : kln_rule_rank(rule, 0);
    return kln_fit_dim(rule, 1, 0, KLN_DIM_OF_NUMBER((int64_t)count), "the sizes and the axes");
}

static bool fit_reverse_sequence(kln_rule *rule)
{
    const int64_t batch = kln_rule_int(rule, "batch_axis", 1);
    const int64_t time = kln_rule_int(rule, "time_axis", 0);
    if (batch < 0 || batch > 1 || time != 1 - batch) {
        kln_rule_fault(
            rule, KILN_ISSUE_VALUE, "batch_axis", "0 and 1", "others",
            "the axes of batch and time are %lld and %lld, but must be 0 and 1, or 1 and 0",
            (long long)batch, (long long)time);
        return false;
    }
    return !kln_rule_ranked(rule, 0) ||
           kln_fit_dim(rule, 1, 0, kln_rule_dim(rule, 0, (size_t)batch),
                       "the batches and the lengths");
}

const kln_op_rule kln_rules_pad[] = {
    OP("CenterCropPad", rule_center_crop_pad, .form = "18: - _", .fit = fit_center_crop_pad,
       .ranked = true),
    OP("DepthToSpace", rule_blocks, .form = "1: -", .fit = fit_blocks),
    OP("Pad", rule_pad, .ranked = true, .form = "11: - _ (1) _", .fit = fit_pad),
    OP("ReverseSequence", kln_rule_same, .form = "10: __+ _", .fit = fit_reverse_sequence),
    OP("SpaceToDepth", rule_blocks, .form = "1: -", .fit = fit_blocks),
    OP_END};
