/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"

#define ALIGNMENT 64
#define BLOCK_SIZE ((size_t)16 << 10)

/* Makes room for that many more bytes, or returns NULL; `size` stays the same. */
static char *reserve(serve_text *text, size_t size)
{
    if (text->failed || size > SIZE_MAX / 4 - text->size) {
        text->failed = true;
        return NULL;
    }
    const size_t needed = text->size + size + 1;
    if (needed > text->capacity) {
        const size_t capacity = needed > 2 * text->capacity ? needed + 256 : 2 * text->capacity;
        char *grown = realloc(text->data, capacity);
        if (grown == NULL) {
            text->failed = true;
            return NULL;
        }
        text->data = grown;
        text->capacity = capacity;
    }
    return text->data + text->size;
}

void serve_text_append(serve_text *text, const void *data, size_t size)
{
    char *at = reserve(text, size);
    if (at != NULL && size != 0) {
        memcpy(at, data, size);
    }
    if (at != NULL) {
        text->size += size;
        text->data[text->size] = '\0';
    }
}

void serve_text_string(serve_text *text, const char *string)
{
    serve_text_append(text, string, strlen(string));
}

void serve_text_printf(serve_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *at = length >= 0 ? reserve(text, (size_t)length) : NULL;
    if (at != NULL) {
        va_start(arguments, format);
        (void)vsnprintf(at, (size_t)length + 1, format, arguments);
        va_end(arguments);
        text->size += (size_t)length;
    }
}

void serve_text_integer(serve_text *text, int64_t value)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0) {
        *--at = '-';
    }
    serve_text_append(text, at, (size_t)(digits + sizeof digits - at));
}

void serve_text_json(serve_text *text, const char *string)
{
    serve_text_json_bytes(text, string, strlen(string));
}

void serve_text_json_bytes(serve_text *text, const char *string, size_t size)
{
    const char *end = string + size;
    serve_text_append(text, "\"", 1);
    while (string < end) {
        const char *plain = string;
        while (plain < end && *plain != '"' && *plain != '\\' && (unsigned char)*plain >= 0x20 &&
               (unsigned char)*plain < 0x7f) {
            plain++;
        }
        serve_text_append(text, string, (size_t)(plain - string));
        if (plain == end) {
            break;
        }
        uint32_t point = 0;
        const size_t length = kln_utf8_read(plain, (size_t)(end - plain), &point);
        if (*plain == '"' || *plain == '\\') {
            serve_text_append(text, "\\", 1);
            serve_text_append(text, plain, 1);
        } else if (length > 1) {
            serve_text_append(text, plain, length);
        } else if (length == 1) {
            serve_text_printf(text, "\\u%04x", (unsigned)(unsigned char)*plain);
        } else {
            serve_text_string(text, "\\ufffd");
        }
        string = plain + (length > 1 ? length : 1);
    }
    serve_text_append(text, "\"", 1);
}

void serve_text_html(serve_text *text, const char *string)
{
    for (; *string != '\0'; string++) {
        const char *entity = *string == '&'   ? "&amp;"
                             : *string == '<' ? "&lt;"
                             : *string == '>' ? "&gt;"
                             : *string == '"' ? "&quot;"
                                              : NULL;
        serve_text_append(text, entity != NULL ? entity : string,
                          entity != NULL ? strlen(entity) : 1);
    }
}

void serve_text_finish(serve_text *text)
{
    free(text->data);
    *text = (serve_text){.data = NULL};
}

/* --- an arena --- */

static size_t round_up(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

void *serve_arena_take(serve_arena *arena, size_t size)
{
    const size_t header = round_up(sizeof(serve_block));
    serve_block *block = arena->first;
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = round_up(size == 0 ? 1 : size);
    if (block == NULL || block->size - block->used < size) {
        const size_t room = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        block = aligned_alloc(ALIGNMENT, header + room);
        if (block == NULL) {
            return NULL;
        }
        *block = (serve_block){.next = arena->first, .size = room, .used = 0};
        arena->first = block;
    }
    void *memory = (char *)block + header + block->used;
    block->used += size;
    return memory;
}

char *serve_arena_string(serve_arena *arena, const char *string)
{
    const size_t size = strlen(string) + 1;
    char *copy = serve_arena_take(arena, size);
    return copy != NULL ? memcpy(copy, string, size) : NULL;
}

static void drop_after(serve_arena *arena, const serve_block *kept)
{
    while (arena->first != kept) {
        serve_block *next = arena->first->next;
        free(arena->first);
        arena->first = next;
    }
}

void serve_arena_reset(serve_arena *arena)
{
    serve_block *last = arena->first;
    while (last != NULL && last->next != NULL) {
        last = last->next;
    }
    const bool kept = last != NULL && last->size <= BLOCK_SIZE;
    drop_after(arena, kept ? last : NULL);
    if (kept) {
        last->used = 0;
    }
}

void serve_arena_finish(serve_arena *arena)
{
    drop_after(arena, NULL);
}
