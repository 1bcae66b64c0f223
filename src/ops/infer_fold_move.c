/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* Folding of operators that move elements: Gather, Concat, Slice, Split, Expand, Tile, Transpose;
 * and the reductions. */

static bool numbers_only(const kln_value *value)
{
    for (size_t i = 0; value != NULL && value->has_shape && i < value->rank; i++) {
        if (value->dims[i].kind != KLN_DIM_NUMBER) {
            return false;
        }
    }
    return value != NULL && value->has_shape;
}

static size_t elements_of(const kln_value *value)
{
    size_t product = 1;
    for (size_t i = 0; i < value->rank; i++) {
        if (__builtin_mul_overflow(product, (size_t)value->dims[i].of.number, &product)) {
            return SIZE_MAX;
        }
    }
    return product;
}

/* Contents that fill their shape, which is all numbers. */
static const kln_dim *whole(kln_rule *rule, size_t input)
{
    size_t count = 0;
    const kln_dim *found = kln_rule_contents(rule, input, &count);
    return found != NULL && numbers_only(rule->in[input]) && elements_of(rule->in[input]) == count
               ? found
               : NULL;
}

static kln_dim *start(kln_rule *rule, size_t output, size_t *count)
{
    return kln_rule_wants(rule, output) && kln_rule_elements(rule, output, count)
               ? kln_rule_fill(rule, output, *count)
               : NULL;
}

static size_t dim_at(const kln_value *value, size_t axis)
{
    return (size_t)value->dims[axis].of.number;
}

/* Product of dims [first, last). */
static size_t span(const kln_value *value, size_t first, size_t last)
{
    size_t product = 1;
    for (size_t i = first; i < last; i++) {
        product *= dim_at(value, i);
    }
    return product;
}

static bool axis_of(const kln_rule *rule, int64_t otherwise, const kln_value *value, size_t *axis)
{
    int64_t given = kln_rule_int(rule, "axis", otherwise);
    given = given < 0 ? given + (int64_t)value->rank : given;
    *axis = (size_t)given;
    return given >= 0 && given < (int64_t)value->rank;
}

void kln_fold_gather(kln_rule *rule)
{
    const kln_dim *data = whole(rule, 0);
    const kln_dim *indices = whole(rule, 1);
    size_t axis = 0;
    size_t count = 0;
    if (data == NULL || indices == NULL || !axis_of(rule, 0, rule->in[0], &axis)) {
        return;
    }
    kln_dim *out = start(rule, 0, &count);
    const size_t places = elements_of(rule->in[1]);
    const size_t inner = span(rule->in[0], axis + 1, rule->in[0]->rank);
    const size_t along = dim_at(rule->in[0], axis);
    for (size_t i = 0; out != NULL && i < count; i++) {
        const size_t outer = i / inner / places;
        const kln_dim index = indices[i / inner % places];
        const int64_t at = index.kind == KLN_DIM_NUMBER && index.of.number < 0
                               ? index.of.number + (int64_t)along
                               : index.of.number;
        if (index.kind == KLN_DIM_NUMBER && (at < 0 || at >= (int64_t)along)) {
            char expected[64];
            char found[32];
            (void)snprintf(expected, sizeof expected, "-%zu to %lld", along, (long long)along - 1);
            (void)kln_dim_format(index, found, sizeof found);
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

void kln_fold_concat(kln_rule *rule)
{
    size_t axis = 0;
    size_t count = 0;
    bool any = false;
    for (size_t i = 0; i < rule->in_count; i++) {
        size_t known = 0;
        if (!numbers_only(rule->in[i]) || elements_of(rule->in[i]) > 65536) {
            return;
        }
        any |= kln_rule_contents(rule, i, &known) != NULL;
    }
    if (!any || !axis_of(rule, 1, rule->in[0], &axis) || !kln_rule_elements(rule, 0, &count)) {
        return;
    }
    kln_dim *out = start(rule, 0, &count);
    const size_t outer = span(rule->in[0], 0, axis);
    const size_t row = outer > 0 ? count / outer : 0;
    size_t offset = 0;
    for (size_t k = 0; out != NULL && k < rule->in_count; k++) {
        const kln_dim *part = whole(rule, k);
        const size_t width = span(rule->in[k], axis, rule->in[k]->rank);
        for (size_t o = 0; o < outer && offset + width <= row; o++) {
            for (size_t i = 0; i < width; i++) {
                out[o * row + offset + i] = part != NULL ? part[o * width + i] : KLN_UNKNOWN_DIM;
            }
        }
        offset += width;
    }
}

/* Where element `i` of a tensor of shape `out` lies along each axis. */
static void unravel(const kln_value *out, size_t element, size_t *index)
{
    for (size_t k = out->rank; k-- > 0;) {
        const size_t dim = dim_at(out, k);
        index[k] = dim > 0 ? element % dim : 0;
        element = dim > 0 ? element / dim : 0;
    }
}

void kln_fold_slice(kln_rule *rule)
{
    const kln_dim *data = whole(rule, 0);
    size_t count = 0;
    if (data == NULL || rule->in[0]->rank > KILN_MAX_RANK) {
        return;
    }
    const size_t rank = rule->in[0]->rank;
    kln_slice_range *ranges = kln_rule_alloc(rule, rank, sizeof *ranges);
    if (ranges == NULL || !kln_slice_ranges(rule, ranges, rank)) {
        return;
    }
    int64_t first[KILN_MAX_RANK] = {0};
    int64_t step[KILN_MAX_RANK] = {0};
    for (size_t i = 0; i < rank; i++) {
        const int64_t n = rule->in[0]->dims[i].of.number;
        step[i] =
            ranges[i].given && ranges[i].step.kind == KLN_DIM_NUMBER ? ranges[i].step.of.number : 1;
        if (!ranges[i].given) {
            continue;
        }
        if (ranges[i].start.kind != KLN_DIM_NUMBER) {
            return;
        }
        int64_t from = ranges[i].start.of.number;
        from = from < 0 ? (from < -n ? 0 : from + n) : from;
        first[i] = from > n - 1 && step[i] < 0 ? n - 1 : from;
    }
    kln_dim *out = start(rule, 0, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        size_t index[KILN_MAX_RANK] = {0};
        unravel(&rule->out[0], i, index);
        size_t place = 0;
        for (size_t k = 0; k < rank; k++) {
            const size_t at = (size_t)(first[k] + (int64_t)index[k] * step[k]);
            place = place * dim_at(rule->in[0], k) + at;
        }
        out[i] = place < elements_of(rule->in[0]) ? data[place] : KLN_UNKNOWN_DIM;
    }
}

void kln_fold_split(kln_rule *rule)
{
    const kln_dim *data = whole(rule, 0);
    size_t offset = 0;
    /* Only lists are divided in computations of shapes. */
    if (data == NULL || rule->in[0]->rank != 1) {
        return;
    }
    for (size_t o = 0; o < rule->out_count; o++) {
        size_t count = 0;
        if (!kln_rule_elements(rule, o, &count) || offset + count > elements_of(rule->in[0])) {
            return;
        }
        kln_dim *out = start(rule, o, &count);
        if (out != NULL && count > 0) {
            memcpy(out, data + offset, count * sizeof *out);
        }
        offset += count;
    }
}

void kln_fold_transpose(kln_rule *rule)
{
    const kln_dim *data = whole(rule, 0);
    size_t count = 0;
    size_t given = 0;
    if (data == NULL || rule->in[0]->rank > KILN_MAX_RANK) {
        return;
    }
    const size_t rank = rule->in[0]->rank;
    const int64_t *order = kln_rule_ints(rule, "perm", &given);
    if (order != NULL && given != rank) {
        return;
    }
    kln_dim *out = start(rule, 0, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        size_t index[KILN_MAX_RANK] = {0};
        size_t from[KILN_MAX_RANK] = {0};
        unravel(&rule->out[0], i, index);
        for (size_t k = 0; k < rank; k++) {
            const int64_t at = order == NULL  ? (int64_t)(rank - 1 - k)
                               : order[k] < 0 ? order[k] + (int64_t)rank
                                              : order[k];
            if (at < 0 || at >= (int64_t)rank) {
                return;
            }
            from[at] = index[k];
        }
        size_t place = 0;
        for (size_t k = 0; k < rank; k++) {
            place = place * dim_at(rule->in[0], k) + from[k];
        }
        out[i] = place < elements_of(rule->in[0]) ? data[place] : KLN_UNKNOWN_DIM;
    }
}

/* Expand and Tile: the input again and again. */
static void repeat(kln_rule *rule)
{
    const kln_dim *data = whole(rule, 0);
    size_t count = 0;
    if (data == NULL || rule->out_count == 0 || !rule->out[0].has_shape ||
        rule->out[0].rank > KILN_MAX_RANK || rule->out[0].rank < rule->in[0]->rank ||
        elements_of(rule->in[0]) == 0) {
        return;
    }
    const size_t pad = rule->out[0].rank - rule->in[0]->rank;
    kln_dim *out = start(rule, 0, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        size_t index[KILN_MAX_RANK] = {0};
        unravel(&rule->out[0], i, index);
        size_t place = 0;
        for (size_t k = 0; k < rule->in[0]->rank; k++) {
            const size_t dim = dim_at(rule->in[0], k);
            place = place * dim + index[k + pad] % dim;
        }
        out[i] = data[place];
    }
}

void kln_fold_expand(kln_rule *rule)
{
    repeat(rule);
}

void kln_fold_tile(kln_rule *rule)
{
    repeat(rule);
}

/* ReduceProd, ReduceSum, ReduceMax, ReduceMin over everything. */
void kln_fold_reduce(kln_rule *rule)
{
    const kln_dim *data = whole(rule, 0);
    size_t count = 0;
    if (data == NULL || !kln_rule_elements(rule, 0, &count) || count != 1 ||
        elements_of(rule->in[0]) == 0) {
        return;
    }
    kln_expressions *pool = &rule->state->pool;
    const char *op = rule->node->op_type + strlen("Reduce");
    kln_dim result = data[0];
    for (size_t i = 1; i < elements_of(rule->in[0]); i++) {
        result = strcmp(op, "Prod") == 0  ? kln_dim_multiply(pool, result, data[i])
                 : strcmp(op, "Sum") == 0 ? kln_dim_add(pool, result, data[i])
                 : strcmp(op, "Max") == 0 ? kln_dim_max(pool, result, data[i])
                                          : kln_dim_min(pool, result, data[i]);
    }
    kln_dim *out = start(rule, 0, &count);
    if (out != NULL) {
        out[0] = result;
    }
}
