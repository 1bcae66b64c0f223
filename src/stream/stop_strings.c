/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_parts.h"

/* Whether the text ends with the first `size` bytes of the string. */
static bool may_begin(const char *string, const char *text, size_t end, size_t size)
{
    return size <= end && memcmp(text + end - size, string, size) == 0;
}

/* The most bytes at the end of the text that may start a stop string. */
static size_t uncertain(const stop_strings *stops, const char *text, size_t size)
{
    size_t most = 0;
    for (size_t i = 0; i < stops->count; i++) {
        for (size_t part = strlen(stops->strings[i]) - 1; part > most; part--) {
            if (may_begin(stops->strings[i], text, size, part)) {
                most = part;
            }
        }
    }
    return most;
}

/* The first occurrence of the string that ends within the added text. */
static size_t find(const char *string, const char *text, size_t size, size_t added)
{
    const size_t length = strlen(string);
    const size_t old = size - added;
    for (size_t at = old >= length ? old - length + 1 : 0; at + length <= size; at++) {
        if (memcmp(text + at, string, length) == 0) {
            return at;
        }
    }
    return SIZE_MAX;
}

size_t stop_strings_look(const stop_strings *stops, const char *text, size_t size, size_t added,
                         bool *found)
{
    size_t first = SIZE_MAX;
    for (size_t i = 0; added != 0 && i < stops->count; i++) {
        const size_t at = find(stops->strings[i], text, size, added);
        first = at < first ? at : first;
    }
    *found = first != SIZE_MAX;
    if (*found) {
        return first;
    }
    return size != 0 ? size - uncertain(stops, text, size) : 0;
}
