/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_pool(kln_rule *rule)
{
    kln_windows w;
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, SIZE_MAX) ||
        !kln_windows_read(rule, kln_rule_rank(rule, 0), &w) || w.kernel == NULL) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    for (size_t o = 0; o < rule->out_count && o < 2; o++) {
        kln_dim *dims = kln_rule_new_shape(rule, o, rank);
        if (dims == NULL) {
            continue;
        }
        dims[0] = kln_rule_dim(rule, 0, 0);
        dims[1] = kln_rule_dim(rule, 0, 1);
        for (size_t i = 0; i < w.spatial; i++) {
            dims[i + 2] = kln_windows_places(rule, &w, i, kln_rule_dim(rule, 0, i + 2),
                                             KLN_DIM_OF_NUMBER(w.kernel[i]));
        }
    }
}

static void rule_global_pool(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i < 2 ? kln_rule_dim(rule, 0, i) : KLN_DIM_OF_NUMBER(1);
    }
}

/* With channels last the shape is not inferred. */
static void rule_qlinear_pool(kln_rule *rule)
{
    if (kln_rule_int(rule, "channels_last", 0) == 0) {
        rule_pool(rule);
    } else if (kln_rule_ranked(rule, 0)) {
        (void)kln_rule_new_shape(rule, 0, kln_rule_rank(rule, 0));
    }
}

static void rule_qlinear_global_pool(kln_rule *rule)
{
    rule_global_pool(rule);
    const size_t rank = kln_rule_rank(rule, 0);
    if (kln_rule_int(rule, "channels_last", 0) != 0 && rank > 2) {
        kln_dim *dims = kln_rule_shape_like(rule, 0, rank);
        for (size_t i = 1; dims != NULL && i + 1 < rank; i++) {
            dims[i] = KLN_DIM_OF_NUMBER(1);
        }
    }
}

static void rule_max_unpool(kln_rule *rule)
{
    kln_windows w;
    if (!kln_rule_ranked(rule, 0) || !kln_windows_read(rule, kln_rule_rank(rule, 0), &w) ||
        w.kernel == NULL) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    if (kln_rule_has(rule, 2)) {
        size_t count = 0;
        const kln_dim *shape = kln_rule_contents(rule, 2, &count);
        (void)kln_rule_unify(rule, KLN_DIM_OF_NUMBER((int64_t)rank), kln_rule_dim(rule, 2, 0),
                             "the rank and the length of the output's shape");
        if (shape != NULL && count == rank) {
            kln_rule_shape_of(rule, 0, shape, count);
        } else {
            (void)kln_rule_new_shape(rule, 0, rank);
        }
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        const kln_dim in = kln_rule_dim(rule, 0, i);
        dims[i] =
            i < 2 ? in
                  : kln_windows_span(rule, &w, i - 2, in, KLN_DIM_OF_NUMBER(w.kernel[i - 2]), 0);
    }
}

static bool fit_max_unpool(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    bool fits = !kln_rule_ranked(rule, 0) || kln_rule_need_rank(rule, 1, rank, rank);
    for (size_t i = 0; fits && i < rank; i++) {
        fits = kln_fit_dim(rule, 1, i, kln_rule_dim(rule, 0, i), "the elements and their indices");
    }
    return fits;
}

static void rule_roi_pool(kln_rule *rule)
{
    size_t count = 0;
    const int64_t *pooled = kln_rule_ints(rule, "pooled_shape", &count);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) || pooled == NULL ||
        !kln_rule_need_rank(rule, 0, 3, SIZE_MAX) || !kln_rule_need_rank(rule, 1, 2, 2) ||
        !kln_rule_list(rule, "pooled_shape", pooled, count, kln_rule_rank(rule, 0) - 2, 1)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, count + 2);
    if (dims != NULL) {
        dims[0] = kln_rule_dim(rule, 1, 0);
        dims[1] = kln_rule_dim(rule, 0, 1);
        for (size_t i = 0; i < count; i++) {
            dims[i + 2] = KLN_DIM_OF_NUMBER(pooled[i]);
        }
    }
}

/* The attributes for an image of `length` dimensions. */
static bool check_image_lists(kln_rule *rule, kln_dim length)
{
    static const char *const names[] = {"dilations", "strides", "pads"};
    for (size_t i = 0; length.kind == KLN_DIM_NUMBER && i < 3; i++) {
        size_t count = 0;
        const int64_t *list = kln_rule_ints(rule, names[i], &count);
        if (!kln_rule_list(rule, names[i], list, count, (size_t)length.of.number * (i == 2 ? 2 : 1),
                           i == 2 ? 0 : 1)) {
            return false;
        }
    }
    return true;
}

static void rule_col2im(kln_rule *rule)
{
    size_t count = 0;
    size_t block_count = 0;
    const kln_dim *image = kln_rule_contents(rule, 1, &count);
    const kln_dim *block = kln_rule_contents(rule, 2, &block_count);
    const kln_dim length = kln_rule_dim(rule, 1, 0);
    if (!check_image_lists(rule, length)) {
        return;
    }
    if (image == NULL && length.kind == KLN_DIM_NUMBER && length.of.number < 64) {
        count = (size_t)length.of.number;
    } else if (image == NULL) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, count + 2);
    if (dims == NULL) {
        return;
    }
    dims[0] = kln_rule_dim(rule, 0, 0);
    if (block != NULL) {
        dims[1] = kln_dim_floor_divide(&rule->state->pool, kln_rule_dim(rule, 0, 1),
                                       kln_rule_product(rule, block, 0, block_count));
    }
    for (size_t i = 0; image != NULL && i < count; i++) {
        dims[i + 2] = image[i];
    }
}

/* The channels hold whole windows, and there is a column for each position of the window. */
static bool fit_col2im(kln_rule *rule)
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

const kln_op_rule kln_rules_pool[] = {
    OP("AveragePool", rule_pool),
    OP("Col2Im", rule_col2im, .form = "18: ___ s s", .fit = fit_col2im),
    OP("GlobalAveragePool", rule_global_pool, .form = "1: __+", .ranked = true),
    OP("GlobalLpPool", rule_global_pool, .form = "1: __+", .ranked = true),
    OP("GlobalMaxPool", rule_global_pool, .form = "1: __+", .ranked = true),
    OP("LpPool", rule_pool),
    OP("MaxPool", rule_pool),
    OP("MaxRoiPool", rule_roi_pool),
    OP("MaxUnpool", rule_max_unpool, .form = "9: __+ __+ _", .fit = fit_max_unpool),
    OP_MS("QLinearAveragePool", rule_qlinear_pool, .form = "1: - (1) (1) (1) (1)"),
    OP_MS("QLinearGlobalAveragePool", rule_qlinear_global_pool, .form = "1: __+ (1) (1) (1) (1)",
          .ranked = true),
    OP_END};
