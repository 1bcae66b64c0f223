/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "infer_rules.h"

bool kln_rule_list(kln_rule *rule, const char *name, const int64_t *list, size_t count,
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
        if (!kln_fit_at_least(rule, name, list[i], least)) {
            return false;
        }
    }
    return true;
}

bool kln_windows_read(kln_rule *rule, size_t rank, kln_windows *w)
{
    size_t count = 0;
    const char *mode = kln_rule_string(rule, "auto_pad", "NOTSET");
    *w = (kln_windows){.spatial = rank - 2};
    w->same_upper = strcmp(mode, "SAME_UPPER") == 0;
    w->same_lower = strcmp(mode, "SAME_LOWER") == 0;
    w->valid = strcmp(mode, "VALID") == 0;
    w->ceil = kln_rule_int(rule, "ceil_mode", 0) != 0;
    const struct {
        const char *name;
        const int64_t **list;
    } lists[] = {
        {"kernel_shape", &w->kernel}, {"strides", &w->strides}, {"dilations", &w->dilations}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(lists); i++) {
        *lists[i].list = kln_rule_ints(rule, lists[i].name, &count);
        if (!kln_rule_list(rule, lists[i].name, *lists[i].list, count, w->spatial, 1)) {
            return false;
        }
    }
    w->pads = kln_rule_ints(rule, "pads", &count);
    return kln_rule_list(rule, "pads", w->pads, count, w->spatial * 2, 0);
}

static kln_window window_of(const kln_windows *w, size_t i)
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

kln_dim kln_windows_places(kln_rule *rule, const kln_windows *w, size_t i, kln_dim in,
                           kln_dim kernel)
{
    const kln_window one = window_of(w, i);
    const kln_dim places = kln_window_places(&rule->state->pool, &one, in, kernel);
    if (places.kind != KLN_DIM_NUMBER || places.of.number >= 0) {
        return places;
    }
    const int64_t reach = (kernel.of.number - 1) * one.dilation + 1;
    const int64_t padded = in.of.number + one.before + one.after;
    const char *expected = KLN_PRINTED("%lld", (long long)reach);
    const char *found = KLN_PRINTED("%lld", (long long)padded);
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], expected, found,
                   "a window of %s does not fit into spatial dimension %zu of \"%.100s\", which is "
                   "%s with its padding",
                   expected, i, rule->node->inputs[0], found);
    return KLN_UNKNOWN_DIM;
}

kln_dim kln_windows_span(kln_rule *rule, const kln_windows *w, size_t i, kln_dim in, kln_dim kernel,
                         int64_t output_padding)
{
    const kln_window one = window_of(w, i);
    kln_dim out = kln_window_span(&rule->state->pool, &one, in, kernel);
    if (!one.same) {
        out = kln_dim_plus(&rule->state->pool, out, output_padding);
    }
    if (out.kind == KLN_DIM_NUMBER && out.of.number < 0) {
        kln_rule_fault(
            rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "at least 0", "less",
            "spatial dimension %zu would be %lld: the padding is larger than what the windows span",
            i, (long long)out.of.number);
        return KLN_UNKNOWN_DIM;
    }
    return out;
}

static kln_dim kernel_of(const kln_rule *rule, const kln_windows *w, size_t i, size_t weights)
{
    return w->kernel != NULL ? KLN_DIM_OF_NUMBER(w->kernel[i]) : kln_rule_dim(rule, weights, i + 2);
}

/* A window whose size comes from the weights has to have elements. */
static bool check_kernel(kln_rule *rule, const kln_windows *w, size_t weights)
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
        const char *expected = KLN_PRINTED("%lld", (long long)needed);
        const char *found = KLN_PRINTED("%lld", (long long)channels.of.number);
        kln_rule_fault(
            rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], expected, found,
            "\"%.80s\" has %s channels, but the weights \"%.80s\" in %lld group(s) take %s",
            rule->node->inputs[0], found, rule->node->inputs[weights], (long long)group, expected);
    }
}

static void rule_conv(kln_rule *rule)
{
    const size_t weights = weights_input(rule);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, weights)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_windows w;
    if (!kln_rule_need_rank(rule, 0, 2, SIZE_MAX) ||
        !kln_rule_need_rank(rule, weights, rank, rank) || !kln_windows_read(rule, rank, &w) ||
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
        dims[i + 2] = kln_windows_places(rule, &w, i, kln_rule_dim(rule, 0, i + 2),
                                         kernel_of(rule, &w, i, weights));
    }
}

static bool fit_conv(kln_rule *rule)
{
    return !kln_rule_ranked(rule, 1) || (kln_fit_shares(rule, 1, kln_rule_dim(rule, 1, 0),
                                                        kln_rule_int(rule, "group", 1), "maps") &&
                                         kln_fit_dim(rule, 2, 0, kln_rule_dim(rule, 1, 0),
                                                     "the biases and the channels that come out"));
}

/* One zero point or scale for all, or one for each output channel of the weights. */
static bool fit_each(kln_rule *rule, size_t input, size_t weights)
{
    if (!kln_rule_ranked(rule, input) || kln_rule_rank(rule, input) == 0 ||
        (kln_rule_rank(rule, input) == 1 && kln_rule_is(kln_rule_dim(rule, input, 0), 1))) {
        return true;
    }
    return kln_rule_need_rank(rule, input, 0, 1) &&
           kln_fit_dim(rule, input, 0, kln_rule_dim(rule, weights, 0),
                       "what there is for each map");
}

static bool fit_conv_integer(kln_rule *rule)
{
    const bool linear = strcmp(rule->node->op_type, "QLinearConv") == 0;
    const size_t weights = linear ? 3 : 1;
    if (!kln_rule_ranked(rule, weights)) {
        return true;
    }
    const kln_dim maps = kln_rule_dim(rule, weights, 0);
    return kln_fit_shares(rule, weights, maps, kln_rule_int(rule, "group", 1), "maps") &&
           fit_each(rule, linear ? 5 : 3, weights) && (!linear || fit_each(rule, 4, weights)) &&
           kln_fit_dim(rule, 8, 0, maps, "the biases and the channels that come out");
}

static bool check_groups(kln_rule *rule)
{
    const int64_t groups = kln_rule_int(rule, "group", 1);
    const kln_dim channels = kln_rule_dim(rule, 0, 1);
    char found[48];
    if (!kln_fit_at_least(rule, "group", groups, 1)) {
        return false;
    }
    if (channels.kind == KLN_DIM_NUMBER && channels.of.number % groups != 0) {
        (void)kln_dim_format(channels, found, sizeof found);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0],
                       KLN_PRINTED("a multiple of %lld", (long long)groups), found,
                       "\"%.100s\" has %s channels, which %lld groups cannot share equally",
                       rule->node->inputs[0], found, (long long)groups);
        return false;
    }
    return true;
}

static void rule_conv_transpose(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_windows w;
    if (!kln_rule_need_rank(rule, 0, 2, SIZE_MAX) || !kln_rule_need_rank(rule, 1, rank, rank) ||
        !kln_windows_read(rule, rank, &w) || !check_kernel(rule, &w, 1) || !check_groups(rule)) {
        return;
    }
    size_t padding_count = 0;
    size_t shape_count = 0;
    const int64_t *padding = kln_rule_ints(rule, "output_padding", &padding_count);
    const int64_t *shape = kln_rule_ints(rule, "output_shape", &shape_count);
    if (!kln_rule_list(rule, "output_padding", padding, padding_count, w.spatial, 0)) {
        return;
    }
    for (size_t i = 0; padding != NULL && i < w.spatial; i++) {
        const int64_t stride = w.strides != NULL ? w.strides[i] : 1;
        const int64_t dilation = w.dilations != NULL ? w.dilations[i] : 1;
        if (padding[i] >= stride && padding[i] >= dilation) {
            const char *found = KLN_PRINTED("%lld", (long long)padding[i]);
            kln_rule_fault(rule, KILN_ISSUE_VALUE, "output_padding", "less than the stride", found,
                           "\"output_padding\"[%zu] is %s; it must be less than the stride %lld or "
                           "the dilation %lld",
                           i, found, (long long)stride, (long long)dilation);
            return;
        }
    }
    /* Some exporters include the batch and the channels in output_shape. */
    const size_t skip = shape != NULL && shape_count == rank ? 2 : 0;
    if (skip == 0 && !kln_rule_list(rule, "output_shape", shape, shape_count, w.spatial, 0)) {
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
        dims[i + 2] = shape != NULL ? KLN_DIM_OF_NUMBER(shape[i + skip])
                                    : kln_windows_span(rule, &w, i, kln_rule_dim(rule, 0, i + 2),
                                                       kernel_of(rule, &w, i, 1),
                                                       padding != NULL ? padding[i] : 0);
    }
}

static bool fit_conv_transpose(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return true;
    }
    const kln_dim maps =
        kln_dim_times(&rule->state->pool, kln_rule_dim(rule, 1, 1), kln_rule_int(rule, "group", 1));
    return kln_fit_dim(rule, 1, 0, kln_rule_dim(rule, 0, 1),
                       "the channels and those of the weights") &&
           kln_fit_dim(rule, 2, 0, maps, "the biases and the channels that come out");
}

static kln_dim fit_places(kln_rule *rule, size_t i, kln_dim kernel)
{
    kln_windows w;
    return kln_windows_read(rule, kln_rule_rank(rule, 0), &w)
               ? kln_windows_places(rule, &w, i, kln_rule_dim(rule, 0, i + 2), kernel)
               : KLN_UNKNOWN_DIM;
}

/* For each group, two offsets and one mask factor per element of a window. */
static bool fit_deform_conv(kln_rule *rule)
{
    kln_expressions *pool = &rule->state->pool;
    const int64_t groups = kln_rule_int(rule, "offset_group", 1);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) || kln_rule_rank(rule, 0) != 4 ||
        kln_rule_rank(rule, 1) != 4) {
        return kln_rule_need_rank(rule, 0, 4, 4) && kln_rule_need_rank(rule, 1, 4, 4);
    }
    if (!kln_fit_shares(rule, 0, kln_rule_dim(rule, 0, 1), groups, "channels") ||
        !kln_fit_shares(rule, 1, kln_rule_dim(rule, 1, 0), kln_rule_int(rule, "group", 1),
                        "maps") ||
        !kln_fit_dim(rule, 3, 0, kln_rule_dim(rule, 1, 0),
                     "the biases and the channels that come out")) {
        return false;
    }
    size_t count = 0;
    const int64_t *kernel = kln_rule_ints(rule, "kernel_shape", &count);
    const kln_dim sides[2] = {kln_rule_dim(rule, 1, 2), kln_rule_dim(rule, 1, 3)};
    for (size_t i = 0; kernel != NULL && i < 2 && i < count; i++) {
        if (!kln_fit_same(rule, KLN_DIM_OF_NUMBER(kernel[i]), sides[i],
                          "\"kernel_shape\" and the weights")) {
            return false;
        }
    }
    const kln_dim wanted[2] = {fit_places(rule, 0, sides[0]), fit_places(rule, 1, sides[1])};
    const kln_dim taps = kln_dim_times(pool, kln_rule_product(rule, sides, 0, 2), groups);
    static const size_t inputs[2] = {2, 4};
    for (size_t i = 0; i < 2; i++) {
        if (!kln_rule_ranked(rule, inputs[i])) {
            continue;
        }
        if (!kln_rule_need_rank(rule, inputs[i], 4, 4) ||
            !kln_fit_dim(rule, inputs[i], 0, kln_rule_dim(rule, 0, 0), "the batches") ||
            !kln_fit_dim(rule, inputs[i], 1, kln_dim_times(pool, taps, i == 0 ? 2 : 1),
                         "the elements of windows and what is given for them") ||
            !kln_fit_dim(rule, inputs[i], 2, wanted[0], "the rows of places of the windows") ||
            !kln_fit_dim(rule, inputs[i], 3, wanted[1], "the columns of places of the windows")) {
            return false;
        }
    }
    return true;
}

const kln_op_rule kln_rules_conv[] = {
    OP("Conv", rule_conv, .form = "1: nc+ __+ _", .fit = fit_conv),
    OP("ConvInteger", rule_conv, .form = "10: nc+ __+ (1)", .fit = fit_conv_integer),
    OP("ConvTranspose", rule_conv_transpose, .form = "1: nc+ c_+ _", .fit = fit_conv_transpose),
    OP("DeformConv", rule_conv, .form = "19: ____ ____ ____ _ ____", .fit = fit_deform_conv),
    OP("QLinearConv", rule_conv, .form = "10: - (1) (1) - - - (1) (1) _", .fit = fit_conv_integer),
    OP_MS("FusedConv", rule_conv, .form = "1: nc+ __+ _", .fit = fit_conv),
    OP_END};
