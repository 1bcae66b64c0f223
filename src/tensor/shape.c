/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "kln_tensor.h"

static kiln_status check_rank(int32_t rank)
{
    KLN_RETURN_IF(rank < 0 || rank > KILN_MAX_RANK, KILN_ERROR_RANK,
                  "a shape of %" PRId32 " dimensions was given, 0 to %d are possible", rank,
                  KILN_MAX_RANK);
    return KILN_OK;
}

/* Checks rank and dimensions; `*empty` tells whether one of them is 0, so that there are no
 * elements however large the others are. */
static kiln_status check_static(const kiln_shape *shape, bool *empty)
{
    KLN_RETURN_IF_ERROR(check_rank(shape->rank));
    *empty = false;
    for (int32_t i = 0; i < shape->rank; i++) {
        KLN_RETURN_IF(shape->dims[i] < 0, KILN_ERROR_SHAPE,
                      shape->dims[i] == KILN_DYNAMIC
                          ? "dimension %" PRId32 " is not known yet (%" PRId64
                            "), a number from 0 is needed"
                          : "dimension %" PRId32 " is %" PRId64 ", a number from 0 is needed",
                      i, shape->dims[i]);
        *empty = *empty || shape->dims[i] == 0;
    }
    return KILN_OK;
}

static kiln_status fail_too_large(const kiln_shape *shape)
{
    return kln_fail(KILN_ERROR_LIMIT, "the shape %s has more elements than a 64-bit number counts",
                    KLN_SHAPE_PRINTED(shape));
}

bool kiln_shape_equal(const kiln_shape *a, const kiln_shape *b)
{
    if (a == NULL || b == NULL || a->rank != b->rank) {
        return a == b;
    }
    for (int32_t i = 0; i < a->rank && i < KILN_MAX_RANK; i++) {
        if (a->dims[i] != b->dims[i]) {
            return false;
        }
    }
    return true;
}

bool kiln_shape_is_static(const kiln_shape *shape)
{
    if (shape == NULL || shape->rank < 0) {
        return false;
    }
    for (int32_t i = 0; i < shape->rank && i < KILN_MAX_RANK; i++) {
        if (shape->dims[i] < 0) {
            return false;
        }
    }
    return true;
}

kiln_status kiln_shape_elements(const kiln_shape *shape, int64_t *count)
{
    KLN_RETURN_IF_NULL(shape, count);
    bool empty = false;
    KLN_RETURN_IF_ERROR(check_static(shape, &empty));
    int64_t product = empty ? 0 : 1;
    for (int32_t i = 0; i < shape->rank && !empty; i++) {
        KLN_FAIL_IF(__builtin_mul_overflow(product, shape->dims[i], &product),
                    fail_too_large(shape));
    }
    *count = product;
    return KILN_OK;
}

size_t kiln_shape_format(const kiln_shape *shape, char *text, size_t size)
{
    char whole[KLN_SHAPE_TEXT] = "scalar";
    size_t length = strlen(whole);
    if (shape == NULL || shape->rank < 0 || shape->rank > KILN_MAX_RANK) {
        length = (size_t)snprintf(whole, sizeof whole, "any rank");
    } else if (shape->rank > 0) {
        length = 0;
        for (int32_t i = 0; i < shape->rank; i++) {
            const char *separator = i == 0 ? "" : "x";
            if (shape->dims[i] == KILN_DYNAMIC) {
                length += (size_t)snprintf(whole + length, sizeof whole - length, "%s?", separator);
            } else {
                length += (size_t)snprintf(whole + length, sizeof whole - length, "%s%" PRId64,
                                           separator, shape->dims[i]);
            }
        }
    }
    if (text != NULL && size > 0) {
        const size_t copied = length < size ? length : size - 1;
        memcpy(text, whole, copied);
        text[copied] = '\0';
    }
    return length;
}

/* Parses one dimension at `*place`: a number, "?" or "-1". */
static kiln_status parse_dimension(const char *text, const char **place, int64_t *dimension)
{
    const char *at = *place;
    if (*at == '?') {
        *dimension = KILN_DYNAMIC;
        *place = at + 1;
        return KILN_OK;
    }
    if (at[0] == '-' && at[1] == '1' && (at[2] < '0' || at[2] > '9')) {
        *dimension = KILN_DYNAMIC;
        *place = at + 2;
        return KILN_OK;
    }
    int64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        const int64_t digit = *at - '0';
        KLN_RETURN_IF(value > (INT64_MAX - digit) / 10, KILN_ERROR_SHAPE,
                      "\"%.80s\": the dimension at character %zu is past %" PRId64, text,
                      (size_t)(*place - text) + 1, INT64_MAX);
        value = value * 10 + digit;
    }
    KLN_RETURN_IF(at == *place, KILN_ERROR_SHAPE,
                  "\"%.80s\" is not a shape: a number or ? is needed at character %zu; write "
                  "it like 1x3x224x224",
                  text, (size_t)(at - text) + 1);
    *dimension = value;
    *place = at;
    return KILN_OK;
}

kiln_status kiln_shape_parse(const char *text, kiln_shape *shape)
{
    KLN_RETURN_IF_NULL(text, shape);
    kiln_shape found = KILN_SHAPE_SCALAR;
    if (*text == '\0' || strcmp(text, "scalar") == 0) {
        *shape = found;
        return KILN_OK;
    }
    const char *at = text;
    for (;;) {
        KLN_RETURN_IF(found.rank == KILN_MAX_RANK, KILN_ERROR_RANK,
                      "\"%.80s\" has more than %d dimensions", text, KILN_MAX_RANK);
        KLN_RETURN_IF_ERROR(parse_dimension(text, &at, &found.dims[found.rank]));
        found.rank++;
        if (*at == '\0') {
            *shape = found;
            return KILN_OK;
        }
        KLN_RETURN_IF(*at != 'x' && *at != ',', KILN_ERROR_SHAPE,
                      "\"%.80s\" is not a shape: x or , is needed at character %zu; write it "
                      "like 1x3x224x224",
                      text, (size_t)(at - text) + 1);
        at++;
    }
}

kiln_status kiln_strides_dense(const kiln_shape *shape, kiln_strides *strides)
{
    KLN_RETURN_IF_NULL(shape, strides);
    bool empty = false;
    KLN_RETURN_IF_ERROR(check_static(shape, &empty));
    kiln_strides dense = {shape->rank, {0}};
    int64_t step = 1;
    for (int32_t i = shape->rank - 1; i >= 0; i--) {
        dense.steps[i] = step;
        /* A dimension of 0 counts as 1 for the other strides, as in NumPy. */
        const int64_t dimension = shape->dims[i] > 0 ? shape->dims[i] : 1;
        KLN_FAIL_IF(step > INT64_MAX / dimension, fail_too_large(shape));
        step *= dimension;
    }
    *strides = dense;
    return KILN_OK;
}

bool kln_strides_are_dense(const kiln_shape *shape, const kiln_strides *strides)
{
    if (strides->rank == 0) {
        return true;
    }
    if (strides->rank != shape->rank || strides->rank > KILN_MAX_RANK) {
        return false;
    }
    int64_t step = 1;
    bool dense = true;
    for (int32_t i = shape->rank - 1; i >= 0; i--) {
        const int64_t dimension = shape->dims[i];
        if (dimension == 0) {
            return true;
        }
        /* The stride of a dimension of 1 is never used. */
        dense = dense && (dimension == 1 || strides->steps[i] == step);
        if (dimension < 0 || step > INT64_MAX / dimension) {
            return false;
        }
        step *= dimension;
    }
    return dense;
}
