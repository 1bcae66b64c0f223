/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "kln_base.h"

#define FIRST_CAPACITY ((size_t)256)

void kln_text_init(kln_text *text, size_t limit)
{
    *text = (kln_text){.data = NULL, .size = 0, .capacity = 0, .limit = limit};
}

void kln_text_finish(kln_text *text)
{
    kln_free(text->data);
    kln_text_init(text, text->limit);
}

/* Reserves `more` bytes and a terminator. */
static kiln_status reserve(kln_text *text, size_t more)
{
    KLN_RETURN_IF(more > text->limit || text->size > text->limit - more, KILN_ERROR_LIMIT,
                  "a text of more than %zu bytes was refused", text->limit);
    const size_t needed = text->size + more + 1;
    if (needed <= text->capacity) {
        return KILN_OK;
    }
    size_t capacity = text->capacity == 0 ? FIRST_CAPACITY : text->capacity * 2;
    if (capacity < needed) {
        capacity = needed;
    }
    char *data = kln_realloc(text->data, capacity);
    KLN_RETURN_IF_NO_MEMORY(data, capacity, "a text");
    text->data = data;
    text->capacity = capacity;
    return KILN_OK;
}

const char *kln_printed(char text[KLN_PRINTED_SIZE], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, KLN_PRINTED_SIZE, format, arguments);
    va_end(arguments);
    return text;
}

kiln_status kln_text_append(kln_text *text, const void *data, size_t size)
{
    KLN_RETURN_IF_ERROR(reserve(text, size));
    if (size != 0) {
        memcpy(text->data + text->size, data, size);
        text->size += size;
    }
    text->data[text->size] = '\0';
    return KILN_OK;
}

kiln_status kln_text_printf(kln_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    KLN_RETURN_IF(length < 0, KILN_ERROR_INTERNAL, "a text could not be formatted");
    KLN_RETURN_IF_ERROR(reserve(text, (size_t)length));
    va_start(arguments, format);
    (void)vsnprintf(text->data + text->size, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->size += (size_t)length;
    return KILN_OK;
}

void kln_range_text(char *text, size_t size, size_t least, size_t most, const char *what)
{
    if (least == most) {
        (void)snprintf(text, size, "%zu %s%s", least, what, KLN_S(least));
    } else if (most == SIZE_MAX) {
        (void)snprintf(text, size, "at least %zu %s%s", least, what, KLN_S(least));
    } else {
        (void)snprintf(text, size, "%zu to %zu %ss", least, most, what);
    }
}

/* Space for the text after the names that fit. */
#define AND_MORE (sizeof " and  more" + 20)

size_t kln_list_names(char *text, size_t size, size_t count, kln_name_of *name_of, const void *from)
{
    size_t used = 0;
    size_t total = 0;
    size_t listed = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const char *name = name_of(from, i);
        if (name == NULL) {
            continue;
        }
        if (listed == total && used + strlen(name) + sizeof ", \"\"" + AND_MORE <= size) {
            used += (size_t)snprintf(text + used, size - used, "%s\"%s\"", listed > 0 ? ", " : "",
                                     name);
            listed++;
        }
        total++;
    }
    if (listed < total) {
        (void)snprintf(text + used, size - used, "%s%zu more", listed > 0 ? " and " : "",
                       total - listed);
    }
    return total;
}

const char *kln_there_are(char *text, size_t size, size_t count, kln_name_of *name_of,
                          const void *from)
{
    static const size_t begin = sizeof "there are " - 1;
    const size_t total = kln_list_names(text + begin, size - begin, count, name_of, from);
    if (total == 0) {
        (void)snprintf(text, size, "there is none");
    } else if (total == 1) {
        memmove(text + begin - 1, text + begin, strlen(text + begin) + 1);
        memcpy(text, "there is ", begin - 1);
    } else {
        memcpy(text, "there are ", begin);
    }
    return text;
}
