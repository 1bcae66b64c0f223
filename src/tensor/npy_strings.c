/* SPDX-License-Identifier: Apache-2.0 */
#include "npy_strings.h"

#include <stdio.h>

bool npy_strings_code(kiln_span code, npy_strings *of)
{
    const char *letters = code.data;
    *of = (npy_strings){.part = code.size < 2                            ? 0
                                : letters[0] == 'U'                      ? 4
                                : letters[0] == 'S' || letters[0] == 'a' ? 1
                                                                         : 0};
    for (size_t i = 1; of->part != 0 && i < code.size; i++) {
        const bool fits = letters[i] >= '0' && letters[i] <= '9' && of->width <= (size_t)INT32_MAX;
        of->width = fits ? of->width * 10 + (size_t)(letters[i] - '0') : 0;
        of->part = fits ? of->part : 0;
    }
    return of->part != 0;
}

static uint32_t point_at(const unsigned char *at, bool is_big)
{
    return (uint32_t)at[is_big ? 3 : 0] | (uint32_t)at[is_big ? 2 : 1] << 8 |
           (uint32_t)at[is_big ? 1 : 2] << 16 | (uint32_t)at[is_big ? 0 : 3] << 24;
}

/* Reads one string without its padding; SIZE_MAX if it has an invalid character. */
static size_t take(const npy_strings *of, const unsigned char *from, char *to)
{
    size_t used = 0;
    for (size_t i = 0; i < of->width; i++, from += of->part) {
        const uint32_t point = of->part == 4 ? point_at(from, of->is_big) : 0;
        if (of->part == 1) {
            to[used++] = (char)*from;
        } else if (kln_utf8_is_point(point)) {
            used += kln_utf8_write(point, to + used);
        } else {
            return SIZE_MAX;
        }
    }
    while (used > 0 && to[used - 1] == '\0') {
        used--;
    }
    return used;
}

/* The characters follow the spans in the same allocation: UTF-8 needs no more bytes for a character
 * than the file. */
kiln_status npy_strings_read(const npy_strings *of, const kiln_shape *shape, kiln_span data,
                             kiln_tensor *tensor)
{
    const unsigned char *from = data.data;
    size_t spans_bytes = 0;
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(KILN_DTYPE_STRING, shape, &spans_bytes));
    const size_t count = spans_bytes / sizeof(kiln_span);
    KLN_RETURN_IF(__builtin_mul_overflow(count, of->width * of->part, &bytes) || bytes != data.size,
                  KILN_ERROR_MALFORMED,
                  "the shape is of %zu strings with %zu bytes each, %zu bytes follow the header",
                  count, of->width * of->part, data.size);
    /* With a width of 0, a tiny file could ask for any amount of memory by its shape. */
    KLN_RETURN_IF(of->width == 0 && count != 0, KILN_ERROR_MALFORMED,
                  "the strings have no width (\"U0\" or \"S0\")");
    kiln_span *spans = kln_alloc(spans_bytes + bytes);
    KLN_RETURN_IF_NO_MEMORY(spans, spans_bytes + bytes, "the array");
    char *to = (char *)(spans + count);
    for (size_t i = 0; i < count; i++, from += of->width * of->part) {
        spans[i] = (kiln_span){to, take(of, from, to)};
        if (spans[i].size == SIZE_MAX) {
            kln_free(spans);
            return kln_fail(KILN_ERROR_MALFORMED,
                            "string %zu has a number that is no character's (past U+10FFFF, or "
                            "half of a pair)",
                            i);
        }
        to += spans[i].size;
    }
    *tensor = KILN_HOST_TENSOR(KILN_DTYPE_STRING, *shape, spans, spans_bytes);
    return KILN_OK;
}

/* Counts the characters of a string; SIZE_MAX if it is not UTF-8. */
static size_t count_points(kiln_span string)
{
    const char *text = string.data;
    size_t points = 0;
    for (size_t at = 0; at < string.size; points++) {
        uint32_t point = 0;
        const size_t size = kln_utf8_read(text + at, string.size - at, &point);
        if (size == 0) {
            return SIZE_MAX;
        }
        at += size;
    }
    return points;
}

static kiln_status measure(const kiln_span *strings, size_t count, npy_strings *as)
{
    size_t most_bytes = 1;
    size_t most_points = 1;
    for (size_t i = 0; i < count; i++) {
        const size_t size = strings[i].size;
        KLN_RETURN_IF(size != 0 && ((const char *)strings[i].data)[size - 1] == '\0',
                      KILN_ERROR_UNSUPPORTED,
                      "string %zu has a zero byte at its end, which NumPy takes for filling", i);
        const size_t points = most_points != SIZE_MAX ? count_points(strings[i]) : 0;
        most_points = points > most_points ? points : most_points;
        most_bytes = size > most_bytes ? size : most_bytes;
    }
    *as = most_points == SIZE_MAX ? (npy_strings){most_bytes, 1, false}
                                  : (npy_strings){most_points, 4, false};
    return KILN_OK;
}

static void put(const npy_strings *as, kiln_span string, char *to)
{
    const char *text = string.data;
    if (as->part == 1 && string.size != 0) {
        memcpy(to, text, string.size);
    }
    for (size_t at = 0; as->part == 4 && at < string.size; to += 4) {
        uint32_t point = 0;
        at += kln_utf8_read(text + at, string.size - at, &point);
        memcpy(to, &point, sizeof point);
    }
}

kiln_status npy_strings_fill(const kiln_span *strings, size_t count, char code[32], void **filled,
                             size_t *bytes)
{
    npy_strings as = {.width = 1, .part = 1};
    KLN_RETURN_IF_ERROR(measure(strings, count, &as));
    const size_t each = as.width * as.part;
    KLN_RETURN_IF(each / as.part != as.width || __builtin_mul_overflow(count, each, bytes),
                  KILN_ERROR_OUT_OF_MEMORY,
                  "%zu strings that are all as wide as the longest, %zu, take too much", count,
                  as.width);
    char *to = kln_alloc_zeroed(*bytes + 1, 1);
    KLN_RETURN_IF_NO_MEMORY(to, *bytes, "strings of one width");
    for (size_t i = 0; i < count; i++) {
        put(&as, strings[i], to + i * each);
    }
    (void)snprintf(code, 32, "%c%zu", as.part == 4 ? 'U' : 'S', as.width);
    *filled = to;
    return KILN_OK;
}
