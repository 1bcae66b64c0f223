/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* Sliding windows over the last dimensions. Lists that are not given are NULL. */
typedef struct windows {
    size_t spatial; /* dimensions that windows slide over */
    const int64_t *kernel, *strides, *dilations, *pads;
    bool ceil, same_upper, same_lower, valid;
} windows;

static bool check_list(kln_rule *rule, const char *name, const int64_t *list, size_t count,
                       size_t needed, int64_t least)
{
    char expected[64];
    char found[32];
    if (list != NULL && count != needed) {
        (void)snprintf(expected, sizeof expected, "%zu numbers", needed);
        (void)snprintf(found, sizeof found, "%zu", count);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, name, expected, found,
                       "attribute \"%s\" has %s numbers, but %zu are needed", name, found, needed);
        return false;
    }
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (list[i] < least) {
            (void)snprintf(expected, sizeof expected, "at least %lld", (long long)least);
            (void)snprintf(found, sizeof found, "%lld", (long long)list[i]);
            kln_rule_fault(rule, KILN_ISSUE_VALUE, name, expected, found,
                           "attribute \"%s\" holds %s, but %s is needed", name, found, expected);
            return false;
        }
    }
    return true;
}

static bool read_windows(kln_rule *rule, size_t rank, windows *w)
{
    size_t count = 0;
    const char *mode = kln_rule_string(rule, "auto_pad", "NOTSET");
    *w = (windows){.spatial = rank - 2};
    w->same_upper = strcmp(mode, "SAME_UPPER") == 0;
    w->same_lower = strcmp(mode, "SAME_LOWER") == 0;
    w->valid = strcmp(mode, "VALID") == 0;
    w->ceil = kln_rule_int(rule, "ceil_mode", 0) != 0;
    w->kernel = kln_rule_ints(rule, "kernel_shape", &count);
    if (!check_list(rule, "kernel_shape", w->kernel, count, w->spatial, 1)) {
        return false;
    }
    w->strides = kln_rule_ints(rule, "strides", &count);
    if (!check_list(rule, "strides", w->strides, count, w->spatial, 1)) {
        return false;
    }
    w->dilations = kln_rule_ints(rule, "dilations", &count);
    if (!check_list(rule, "dilations", w->dilations, count, w->spatial, 1)) {
        return false;
    }
    w->pads = kln_rule_ints(rule, "pads", &count);
    return check_list(rule, "pads", w->pads, count, w->spatial * 2, 0);
}

static kln_window window_of(const windows *w, size_t i)
{
    kln_window one = {.stride = w->strides != NULL ? w->strides[i] : 1,
                      .dilation = w->dilations != NULL ? w->dilations[i] : 1,
                      .same = w->same_upper || w->same_lower,
                      .up = w->ceil};
    if (w->pads != NULL && !w->valid) {
        one.before = w->pads[i];
        one.after = w->pads[i + w->spatial];
    }
    return one;
}

static kln_dim slide(kln_rule *rule, const windows *w, size_t i, kln_dim in, kln_dim kernel)
{
    const kln_window one = window_of(w, i);
    const kln_dim places = kln_window_places(&rule->state->pool, &one, in, kernel);
    if (places.kind != KLN_DIM_NUMBER || places.of.number >= 0) {
        return places;
    }
    char expected[40];
    char found[40];
    const int64_t reach = (kernel.of.number - 1) * one.dilation + 1;
    const int64_t padded = in.of.number + one.before + one.after;
    (void)snprintf(expected, sizeof expected, "%lld", (long long)reach);
    (void)snprintf(found, sizeof found, "%lld", (long long)padded);
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], expected, found,
                   "a window of %s does not fit into spatial dimension %zu of \"%.100s\", "
                   "which is %s with its padding",
                   expected, i, rule->node->inputs[0], found);
    return KLN_UNKNOWN_DIM;
}

kln_dim kln_fit_places(kln_rule *rule, size_t i, kln_dim kernel)
{
    windows w;
    return read_windows(rule, kln_rule_rank(rule, 0), &w)
               ? slide(rule, &w, i, kln_rule_dim(rule, 0, i + 2), kernel)
               : KLN_UNKNOWN_DIM;
}

static bool kernels_known(kln_rule *rule, const windows *w, size_t weights)
{
    return w->kernel != NULL || (weights != SIZE_MAX && kln_rule_ranked(rule, weights));
}

static kln_dim kernel_of(const kln_rule *rule, const windows *w, size_t i, size_t weights)
{
    return w->kernel != NULL ? KLN_DIM_OF_NUMBER(w->kernel[i]) : kln_rule_dim(rule, weights, i + 2);
}

/* A window that weights give must have elements. */
static bool check_kernel(kln_rule *rule, const windows *w, size_t weights)
{
    for (size_t i = 0; i < w->spatial; i++) {
        if (kln_rule_is(kln_rule_dim(rule, weights, i + 2), 0)) {
            kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[weights], "at least 1", "0",
                           "dimension %zu of the weights \"%.100s\" is 0; a window has elements",
                           i + 2, rule->node->inputs[weights]);
            return false;
        }
    }
    return true;
}

static size_t weights_input(const kln_rule *rule)
{
    return strcmp(rule->node->op_type, "QLinearConv") == 0 ? 3 : 1;
}

static void check_channels(kln_rule *rule, size_t weights, int64_t group)
{
    const kln_dim channels = kln_rule_dim(rule, 0, 1);
    const kln_dim each = kln_rule_dim(rule, weights, 1);
    if (channels.kind != KLN_DIM_NUMBER || each.kind != KLN_DIM_NUMBER) {
        return;
    }
    int64_t needed = 0;
    if (__builtin_mul_overflow(each.of.number, group, &needed) || needed != channels.of.number) {
        char expected[32];
        char found[32];
        (void)snprintf(expected, sizeof expected, "%lld", (long long)needed);
        (void)snprintf(found, sizeof found, "%lld", (long long)channels.of.number);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], expected, found,
                       "\"%.80s\" has %s channels, but the weights \"%.80s\" in %lld group(s) "
                       "take %s",
                       rule->node->inputs[0], found, rule->node->inputs[weights], (long long)group,
                       expected);
    }
}

void kln_rule_conv(kln_rule *rule)
{
    const size_t weights = weights_input(rule);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, weights)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    windows w;
    if (!kln_rule_need_rank(rule, 0, 2, SIZE_MAX) ||
        !kln_rule_need_rank(rule, weights, rank, rank) || !read_windows(rule, rank, &w) ||
        !check_kernel(rule, &w, weights)) {
        return;
    }
    check_channels(rule, weights, kln_rule_int(rule, "group", 1));
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (dims == NULL) {
        return;
    }
    dims[0] = kln_rule_dim(rule, 0, 0);
    dims[1] = kln_rule_dim(rule, weights, 0);
    for (size_t i = 0; i < w.spatial; i++) {
        dims[i + 2] =
            slide(rule, &w, i, kln_rule_dim(rule, 0, i + 2), kernel_of(rule, &w, i, weights));
    }
}

void kln_rule_deform_conv(kln_rule *rule)
{
    kln_rule_conv(rule);
}

void kln_rule_pool(kln_rule *rule)
{
    windows w;
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, SIZE_MAX) ||
        !read_windows(rule, kln_rule_rank(rule, 0), &w) || !kernels_known(rule, &w, SIZE_MAX)) {
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
            dims[i + 2] =
                slide(rule, &w, i, kln_rule_dim(rule, 0, i + 2), KLN_DIM_OF_NUMBER(w.kernel[i]));
        }
    }
}

void kln_rule_global_pool(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_need_rank(rule, 0, 2, SIZE_MAX)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = i < 2 ? kln_rule_dim(rule, 0, i) : KLN_DIM_OF_NUMBER(1);
    }
}

static kln_dim unslide(kln_rule *rule, const windows *w, size_t i, kln_dim in, kln_dim kernel,
                       int64_t output_padding)
{
    const kln_window one = window_of(w, i);
    kln_dim out = kln_window_span(&rule->state->pool, &one, in, kernel);
    if (!one.same) {
        out = kln_dim_plus(&rule->state->pool, out, output_padding);
    }
    if (out.kind == KLN_DIM_NUMBER && out.of.number < 0) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 0", "less",
                       "spatial dimension %zu would be %lld: the padding is larger than what the "
                       "windows span",
                       i, (long long)out.of.number);
        return KLN_UNKNOWN_DIM;
    }
    return out;
}

static bool check_groups(kln_rule *rule)
{
    const int64_t groups = kln_rule_int(rule, "group", 1);
    const kln_dim channels = kln_rule_dim(rule, 0, 1);
    char expected[48];
    char found[48];
    if (groups < 1) {
        (void)snprintf(found, sizeof found, "%lld", (long long)groups);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "group", "at least 1", found,
                       "attribute \"group\" is %s, but at least 1 is needed", found);
        return false;
    }
    if (channels.kind == KLN_DIM_NUMBER && channels.of.number % groups != 0) {
        (void)snprintf(expected, sizeof expected, "a multiple of %lld", (long long)groups);
        (void)kln_dim_format(channels, found, sizeof found);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], expected, found,
                       "\"%.100s\" has %s channels, which %lld groups cannot share equally",
                       rule->node->inputs[0], found, (long long)groups);
        return false;
    }
    return true;
}

void kln_rule_conv_transpose(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    windows w;
    if (!kln_rule_need_rank(rule, 0, 2, SIZE_MAX) || !kln_rule_need_rank(rule, 1, rank, rank) ||
        !read_windows(rule, rank, &w) || !check_kernel(rule, &w, 1) || !check_groups(rule)) {
        return;
    }
    size_t padding_count = 0;
    size_t shape_count = 0;
    const int64_t *padding = kln_rule_ints(rule, "output_padding", &padding_count);
    const int64_t *shape = kln_rule_ints(rule, "output_shape", &shape_count);
    if (!check_list(rule, "output_padding", padding, padding_count, w.spatial, 0)) {
        return;
    }
    /* Some exporters give the batch and the channels in output_shape too. */
    const size_t skip = shape != NULL && shape_count == rank ? 2 : 0;
    if (skip == 0 && !check_list(rule, "output_shape", shape, shape_count, w.spatial, 0)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (dims == NULL) {
        return;
    }
    dims[0] = kln_rule_dim(rule, 0, 0);
    dims[1] =
        kln_dim_times(&rule->state->pool, kln_rule_dim(rule, 1, 1), kln_rule_int(rule, "group", 1));
    for (size_t i = 0; i < w.spatial; i++) {
        dims[i + 2] = shape != NULL
                          ? KLN_DIM_OF_NUMBER(shape[i + skip])
                          : unslide(rule, &w, i, kln_rule_dim(rule, 0, i + 2),
                                    kernel_of(rule, &w, i, 1), padding != NULL ? padding[i] : 0);
    }
}

void kln_rule_max_unpool(kln_rule *rule)
{
    windows w;
    if (!kln_rule_ranked(rule, 0) || !read_windows(rule, kln_rule_rank(rule, 0), &w) ||
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
        dims[i] = i < 2 ? in : unslide(rule, &w, i - 2, in, KLN_DIM_OF_NUMBER(w.kernel[i - 2]), 0);
    }
}

void kln_rule_roi_pool(kln_rule *rule)
{
    size_t count = 0;
    const int64_t *pooled = kln_rule_ints(rule, "pooled_shape", &count);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) || pooled == NULL ||
        !kln_rule_need_rank(rule, 0, 3, SIZE_MAX) || !kln_rule_need_rank(rule, 1, 2, 2) ||
        !check_list(rule, "pooled_shape", pooled, count, kln_rule_rank(rule, 0) - 2, 1)) {
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

/* The attributes of an image of `length` dimensions. */
static bool check_image_lists(kln_rule *rule, kln_dim length)
{
    static const char *const names[] = {"dilations", "strides", "pads"};
    for (size_t i = 0; length.kind == KLN_DIM_NUMBER && i < 3; i++) {
        size_t count = 0;
        const int64_t *list = kln_rule_ints(rule, names[i], &count);
        if (!check_list(rule, names[i], list, count, (size_t)length.of.number * (i == 2 ? 2 : 1),
                        i == 2 ? 0 : 1)) {
            return false;
        }
    }
    return true;
}

void kln_rule_col2im(kln_rule *rule)
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

/* --- products --- */

static void matmul(kln_rule *rule, size_t left, size_t right)
{
    if (!kln_rule_ranked(rule, left) || !kln_rule_ranked(rule, right) ||
        !kln_rule_need_rank(rule, left, 1, SIZE_MAX) ||
        !kln_rule_need_rank(rule, right, 1, SIZE_MAX)) {
        return;
    }
    const size_t a = kln_rule_rank(rule, left);
    const size_t b = kln_rule_rank(rule, right);
    (void)kln_rule_unify(rule, kln_rule_dim(rule, left, a - 1),
                         kln_rule_dim(rule, right, b == 1 ? 0 : b - 2),
                         "the dimensions that are multiplied and summed");
    const size_t batch_a = a > 2 ? a - 2 : 0;
    const size_t batch_b = b > 2 ? b - 2 : 0;
    const size_t batch = batch_a > batch_b ? batch_a : batch_b;
    kln_dim *dims = kln_rule_new_shape(rule, 0, batch + (a > 1 ? 1U : 0U) + (b > 1 ? 1U : 0U));
    if (dims == NULL) {
        return;
    }
    for (size_t i = 0; i < batch; i++) {
        const kln_dim one = KLN_DIM_OF_NUMBER(1);
        const kln_dim x =
            i + batch_a >= batch ? kln_rule_dim(rule, left, i + batch_a - batch) : one;
        const kln_dim y =
            i + batch_b >= batch ? kln_rule_dim(rule, right, i + batch_b - batch) : one;
        dims[i] = kln_rule_broadcast_dim(rule, x, y);
    }
    size_t place = batch;
    if (a > 1) {
        dims[place++] = kln_rule_dim(rule, left, a - 2);
    }
    if (b > 1) {
        dims[place] = kln_rule_dim(rule, right, b - 1);
    }
}

void kln_rule_matmul(kln_rule *rule)
{
    matmul(rule, 0, 1);
}

void kln_rule_qlinear_matmul(kln_rule *rule)
{
    matmul(rule, 0, 3);
}

void kln_rule_gemm(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) ||
        !kln_rule_need_rank(rule, 0, 2, 2) || !kln_rule_need_rank(rule, 1, 2, 2)) {
        return;
    }
    const size_t a = kln_rule_int(rule, "transA", 0) != 0 ? 1 : 0;
    const size_t b = kln_rule_int(rule, "transB", 0) != 0 ? 1 : 0;
    (void)kln_rule_unify(rule, kln_rule_dim(rule, 0, 1 - a), kln_rule_dim(rule, 1, b),
                         "the dimensions that are multiplied and summed");
    kln_dim *dims = kln_rule_new_shape(rule, 0, 2);
    if (dims != NULL) {
        dims[0] = kln_rule_dim(rule, 0, a);
        dims[1] = kln_rule_dim(rule, 1, 1 - b);
    }
}
