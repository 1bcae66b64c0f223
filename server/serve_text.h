/* SPDX-License-Identifier: Apache-2.0 */
/* Text that grows, and memory that is given back in one piece. */
#ifndef KILN_SERVE_TEXT_H
#define KILN_SERVE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scoped.h"

#define SERVE_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#define SERVE_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Once memory was short, `failed` is set and nothing is appended any more. */
typedef struct serve_text {
    char *data; /* malloc's; ended by NUL once anything was appended */
    size_t size;
    size_t capacity;
    bool failed;
} serve_text;

void serve_text_append(serve_text *text, const void *data, size_t size);
void serve_text_string(serve_text *text, const char *string);
void serve_text_printf(serve_text *text, const char *format, ...) SERVE_PRINTF(2, 3);
/* In quotes, as JSON writes it; bytes that are not UTF-8 become U+FFFD. */
void serve_text_json(serve_text *text, const char *string);
void serve_text_json_bytes(serve_text *text, const char *string, size_t size);
/* With & < > " written as HTML's entities. */
void serve_text_html(serve_text *text, const char *string);
void serve_text_integer(serve_text *text, int64_t value);
void serve_text_finish(serve_text *text);

/* --- an arena --- */

typedef struct serve_block {
    struct serve_block *next;
    size_t size, used;
} serve_block;

typedef struct serve_arena {
    serve_block *first;
} serve_arena;

/* Aligned to 64 bytes; NULL where memory is short. */
void *serve_arena_take(serve_arena *arena, size_t size);
/* A string of the arena's own. */
char *serve_arena_string(serve_arena *arena, const char *string);
/* All is given back; the first block stays, if it is small, for the next request. */
void serve_arena_reset(serve_arena *arena);
void serve_arena_finish(serve_arena *arena);

#endif
