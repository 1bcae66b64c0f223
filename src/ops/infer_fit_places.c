/* What inputs that name places, blocks and regions must be beside the data.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* Indices reach no further than the data but along the axis. */
bool kln_fit_elements(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t given = kln_rule_int(rule, "axis", 0);
    if (!kln_rule_ranked(rule, 0) || kln_rule_rank(rule, 1) != rank) {
        return true; /* the rule tells another rank */
    }
    for (size_t i = 0; i < rank; i++) {
        const kln_dim dim = kln_rule_dim(rule, 1, i);
        const kln_dim most = kln_rule_dim(rule, 0, i);
        if ((int64_t)i == (given < 0 ? given + (int64_t)rank : given) ||
            dim.kind != KLN_DIM_NUMBER || most.kind != KLN_DIM_NUMBER ||
            dim.of.number <= most.of.number) {
            continue;
        }
        char expected[48];
        char found[32];
        (void)snprintf(expected, sizeof expected, "at most %lld", (long long)most.of.number);
        (void)kln_dim_format(dim, found, sizeof found);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[1], expected, found,
                       "dimension %zu of the indices \"%.80s\" is %s, but that of the data is %lld",
                       i, rule->node->inputs[1], found, (long long)most.of.number);
        return false;
    }
    return true;
}

/* `input` broadcasts to these dimensions, which stay as they are. */
static bool gives_way(kln_rule *rule, size_t input, const kln_dim *dims, size_t rank,
                      const char *what)
{
    const size_t own = kln_rule_rank(rule, input);
    if (!kln_rule_ranked(rule, input)) {
        return true;
    }
    bool fits = kln_rule_need_rank(rule, input, 0, rank);
    for (size_t i = 0; fits && i < own; i++) {
        const kln_dim dim = kln_rule_dim(rule, input, i);
        fits = kln_rule_is(dim, 1) || kln_fit_same(rule, dim, dims[rank - own + i], what);
    }
    return fits;
}

bool kln_fit_gemm(kln_rule *rule)
{
    if (rule->since < 7 || !kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return true;
    }
    const bool across = kln_rule_int(rule, "transA", 0) != 0;
    const bool down = kln_rule_int(rule, "transB", 0) != 0;
    const kln_dim dims[2] = {kln_rule_dim(rule, 0, across ? 1 : 0),
                             kln_rule_dim(rule, 1, down ? 0 : 1)};
    return gives_way(rule, 2, dims, 2, "C and the product");
}

bool kln_fit_prelu(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    if (rule->since < 7 || !kln_rule_ranked(rule, 0)) {
        return true;
    }
    kln_dim dims[KLN_RANK_MOST];
    for (size_t i = 0; i < rank && i < KLN_RANK_MOST; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    return rank > KLN_RANK_MOST || gives_way(rule, 1, dims, rank, "the slope and the input");
}

/* Dimension `axis` of an input must not be 0. */
static bool has_elements(kln_rule *rule, size_t input, size_t axis)
{
    if (!kln_rule_is(kln_rule_dim(rule, input, axis), 0)) {
        return true;
    }
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[input], "at least 1", "0",
                   "dimension %zu of \"%.100s\" is 0; there is nothing to read from", axis,
                   rule->node->inputs[input]);
    return false;
}

bool kln_fit_grid_sample(kln_rule *rule)
{
    for (size_t i = 2; i < kln_rule_rank(rule, 0); i++) {
        if (!has_elements(rule, 0, i)) {
            return false;
        }
    }
    return true;
}

bool kln_fit_roi_align(kln_rule *rule)
{
    for (size_t i = 0; i < kln_rule_rank(rule, 0); i++) {
        if (!has_elements(rule, 0, i)) {
            return false;
        }
    }
    return true;
}

bool kln_fit_max_unpool(kln_rule *rule)
{
    bool fits = true;
    const size_t rank = kln_rule_rank(rule, 0);
    fits = !kln_rule_ranked(rule, 0) || kln_rule_need_rank(rule, 1, rank, rank);
    for (size_t i = 0; fits && i < rank; i++) {
        fits = kln_fit_dim(rule, 1, i, kln_rule_dim(rule, 0, i), "the elements and their indices");
    }
    return fits;
}

bool kln_fit_reverse_sequence(kln_rule *rule)
{
    const int64_t batch = kln_rule_int(rule, "batch_axis", 1);
    const int64_t time = kln_rule_int(rule, "time_axis", 0);
    if (batch < 0 || batch > 1 || time != 1 - batch) {
        kln_rule_fault(
            rule, KILN_ISSUE_VALUE, "batch_axis", "0 and 1", "others",
            "the axes of batch and time are %lld and %lld, but must be 0 and 1, or 1 and "
            "0",
            (long long)batch, (long long)time);
        return false;
    }
    return !kln_rule_ranked(rule, 0) ||
           kln_fit_dim(rule, 1, 0, kln_rule_dim(rule, 0, (size_t)batch),
                       "the batches and the lengths");
}

/* Channels, or both sides of an image, fall into whole blocks. */
bool kln_fit_blocks(kln_rule *rule)
{
    const int64_t size = kln_rule_int(rule, "blocksize", 1);
    if (kln_rule_rank(rule, 0) != 4 || size < 1 || size > INT32_MAX) {
        return true; /* the rule tells these */
    }
    if (strcmp(rule->node->op_type, "DepthToSpace") == 0) {
        return kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 1), size * size, "channels");
    }
    return kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 2), size, "rows") &&
           kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 3), size, "columns");
}

/* One of scales and sizes is needed, and two numbers of a region for each axis. */
bool kln_fit_resize(kln_rule *rule)
{
    if (rule->since < 11) {
        return true;
    }
    if (!kln_rule_has(rule, 2) && !kln_rule_has(rule, 3)) {
        kln_rule_fault(rule, KILN_ISSUE_ARITY, "sizes", "sizes or scales", "neither",
                       "neither sizes nor scales are given; one of them is needed");
        return false;
    }
    size_t count = 0;
    (void)kln_rule_ints(rule, "axes", &count);
    count = count > 0 ? count : kln_rule_rank(rule, 0);
    const kln_dim region = kln_rule_dim(rule, 1, 0);
    if (kln_rule_ranked(rule, 0) && !kln_rule_is(kln_rule_dim(rule, 2, 0), 0) &&
        !kln_fit_dim(rule, 2, 0, KLN_DIM_OF_NUMBER((int64_t)count), "the scales and the axes")) {
        return false;
    }
    return !kln_rule_ranked(rule, 0) || kln_rule_is(region, 0) ||
           kln_fit_dim(rule, 1, 0, KLN_DIM_OF_NUMBER(2 * (int64_t)count),
                       "the numbers of the region and twice the axes");
}

/* Channels are those of whole windows; there is a column for each place of them. */
bool kln_fit_col2im(kln_rule *rule)
{
    size_t count = 0;
    size_t block_count = 0;
    const int64_t *image = kln_rule_numbers(rule, 1, &count);
    const int64_t *block = kln_rule_numbers(rule, 2, &block_count);
    if (block == NULL || image == NULL || count != block_count) {
        return true;
    }
    size_t lists[3] = {0};
    const int64_t *strides = kln_rule_ints(rule, "strides", &lists[0]);
    const int64_t *dilations = kln_rule_ints(rule, "dilations", &lists[1]);
    const int64_t *pads = kln_rule_ints(rule, "pads", &lists[2]);
    int64_t area = 1;
    int64_t columns = 1;
    for (size_t i = 0; i < count; i++) {
        const int64_t step = strides != NULL && lists[0] == count ? strides[i] : 1;
        const int64_t apart = dilations != NULL && lists[1] == count ? dilations[i] : 1;
        const bool padded = pads != NULL && lists[2] == 2 * count;
        int64_t room = 0;
        if (block[i] < 1 || step < 1 || block[i] > INT32_MAX || image[i] > INT32_MAX ||
            apart > INT32_MAX || __builtin_mul_overflow(area, block[i], &area)) {
            return true;
        }
        room = image[i] + (padded ? pads[i] + pads[i + count] : 0) - apart * (block[i] - 1) - 1;
        if (room < 0 || __builtin_mul_overflow(columns, room / step + 1, &columns)) {
            kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[2], "a block that fits",
                           "a larger one",
                           "a block of %lld does not fit into dimension %zu of the image",
                           (long long)block[i], i);
            return false;
        }
    }
    return kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 1), area, "channels") &&
           kln_fit_dim(rule, 0, 2, KLN_DIM_OF_NUMBER(columns),
                       "the columns and the places of a block");
}

/* A size for each axis. */
bool kln_fit_center_crop_pad(kln_rule *rule)
{
    size_t count = 0;
    (void)kln_rule_ints(rule, "axes", &count);
    if (count == 0 && !kln_rule_ranked(rule, 0)) {
        return true;
    }
    count = count > 0 ? count : kln_rule_rank(rule, 0);
    return kln_fit_dim(rule, 1, 0, KLN_DIM_OF_NUMBER((int64_t)count), "the sizes and the axes");
}

/* Indices and updates of the old Scatter are alike, as those of ScatterElements. */
bool kln_fit_scatter(kln_rule *rule)
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
    return kln_fit_elements(rule);
}

/* The last dimension holds a real number, or the two parts of one. */
bool kln_fit_dft(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    const kln_dim parts = kln_rule_dim(rule, 0, rank - 1);
    if (rank < 2 || parts.kind != KLN_DIM_NUMBER || kln_rule_is(parts, 1) ||
        kln_rule_is(parts, 2)) {
        int64_t length = 1;
        if (!kln_rule_has(rule, 1) || !kln_rule_single(rule, 1, &length) || length > 0) {
            return true;
        }
        kln_rule_fault(rule, KILN_ISSUE_VALUE, rule->node->inputs[1], "at least 1", "less",
                       "a transform of %lld points", (long long)length);
        return false;
    }
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "1 or 2", "another number",
                   "the last dimension of \"%.100s\" is %lld, but a number has 1 part or 2",
                   rule->node->inputs[0], (long long)parts.of.number);
    return false;
}

/* Parts that are given come to the whole dimension. */
bool kln_fit_split(kln_rule *rule)
{
    size_t count = 0;
    bool known = false;
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t given = kln_rule_int(rule, "axis", 0);
    const int64_t *parts = kln_rule_ints_or_input(rule, "split", 1, &count, &known);
    if (parts == NULL || given < -(int64_t)rank || given >= (int64_t)rank) {
        return true;
    }
    const kln_dim whole =
        kln_rule_dim(rule, 0, (size_t)(given < 0 ? given + (int64_t)rank : given));
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (__builtin_add_overflow(sum, parts[i], &sum)) {
            return true;
        }
    }
    return kln_fit_same(rule, whole, KLN_DIM_OF_NUMBER(sum),
                        "the dimension and the sum of its parts");
}

/* One scale and zero point for each block; those of an axis are looked at with the weights. */
bool kln_fit_quantize(kln_rule *rule)
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

/* Axes that an attribute names, or its default, are those of the input. */
bool kln_fit_axes(kln_rule *rule)
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

/* The axis of a running sum or product, where it is known. */
bool kln_fit_running(kln_rule *rule)
{
    int64_t axis = 0;
    size_t found = 0;
    return !kln_rule_ranked(rule, 0) || !kln_rule_single(rule, 1, &axis) ||
           kln_rule_axis(rule, axis, kln_rule_rank(rule, 0), &found);
}

/* Batches of indices are those of the data. */
bool kln_fit_gather_nd(kln_rule *rule)
{
    const int64_t batch = kln_rule_int(rule, "batch_dims", 0);
    bool fits = kln_rule_ranked(rule, 0) && kln_rule_ranked(rule, 1);
    for (size_t i = 0; fits && (int64_t)i < batch && i < kln_rule_rank(rule, 1); i++) {
        fits = kln_fit_dim(rule, 1, i, kln_rule_dim(rule, 0, i), "the batches of data and indices");
    }
    return fits || !kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1);
}

/* The axes that a list names are those of the input. */
bool kln_fit_slice(kln_rule *rule)
{
    size_t count = 0;
    size_t axis = 0;
    const int64_t *axes = kln_rule_numbers(rule, 3, &count);
    for (size_t i = 0; axes != NULL && kln_rule_ranked(rule, 0) && i < count; i++) {
        if (!kln_rule_axis(rule, axes[i], kln_rule_rank(rule, 0), &axis)) {
            return false;
        }
    }
    return true;
}

/* Only constants stand beside a dimension without elements. */
bool kln_fit_pad(kln_rule *rule)
{
    size_t count = 0;
    const size_t rank = kln_rule_rank(rule, 0);
    const int64_t *pads = kln_rule_numbers(rule, 1, &count);
    if (pads == NULL || count != 2 * rank || kln_rule_has(rule, 3) ||
        strcmp(kln_rule_string(rule, "mode", "constant"), "constant") == 0) {
        return true;
    }
    for (size_t i = 0; i < rank; i++) {
        if ((pads[i] > 0 || pads[i + rank] > 0) && !has_elements(rule, 0, i)) {
            return false;
        }
    }
    return true;
}
