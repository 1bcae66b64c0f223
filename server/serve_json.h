/* SPDX-License-Identifier: Apache-2.0 */
/* JSON read where it lies, value by value.
 *
 * Tensors come as arrays of a million numbers, of which each would be a node of a tree elsewhere,
 * and as 64-bit integers, which a double does not hold. What is read is RFC 8259 and no more: no
 * NaN, no comments, at most SERVE_JSON_DEPTH levels, and nothing recurses.
 *
 *     while (serve_json_member(&json, &member)) {     // after serve_json_enter(&json, '{')
 *         if (serve_json_is(&member, "id")) ...       // reads the member's value
 *     } */
#ifndef KILN_SERVE_JSON_H
#define KILN_SERVE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "serve_number.h"

#define SERVE_JSON_DEPTH 64

typedef struct serve_json {
    const char *begin, *at, *end;
    bool fresh;         /* just behind the bracket that was entered */
    bool open;          /* a comma follows the end, and more that is not here */
    const char *reason; /* why it is no JSON, or not what was asked for; NULL while all is well */
} serve_json;

/* A value or a key as it stands in the text. */
typedef struct serve_slice {
    const char *at;
    size_t size;
} serve_slice;

void serve_json_init(serve_json *json, const char *text, size_t size);
/* The first character of the next value: { [ " t f n - or a digit; 0 where there is none. */
char serve_json_peek(serve_json *json);
/* Goes into an object or an array. False where the next value is none. */
bool serve_json_enter(serve_json *json, char bracket);
/* The next key, behind whose colon it then stands; false at the end of the object and where it is
 * broken. */
bool serve_json_member(serve_json *json, serve_slice *key);
/* Whether the array has a next element, at which it then stands. */
bool serve_json_element(serve_json *json);
/* Whether a key that is longer than this word is the same but for escapes. */
bool serve_json_means(const serve_slice *key, const char *word);
/* Whether a key is this word, which is shorter than any other way to write it. */
static inline bool serve_json_is(const serve_slice *key, const char *word)
{
    const size_t length = strlen(word);
    return key->size == length ? memcmp(key->at, word, length) == 0
                               : key->size > length && serve_json_means(key, word);
}
/* Steps over a value, whatever it is. */
bool serve_json_skip(serve_json *json, serve_slice *value);
/* A string without its escapes, ended by NUL; false where it takes more than `size` bytes or holds
 * one. */
bool serve_json_string(serve_json *json, char *text, size_t size);
/* A string as it stands between its quotes; and its bytes without escapes, which are no more: how
 * many. */
bool serve_json_text(serve_json *json, serve_slice *inside);
size_t serve_json_plain(const serve_slice *inside, char *text);
bool serve_json_number(serve_json *json, serve_number *number);
bool serve_json_integer(serve_json *json, int64_t *value);
bool serve_json_bool(serve_json *json, bool *value);
/* Whether nothing but blanks follows. */
bool serve_json_end(serve_json *json);
bool serve_json_fail(serve_json *json, const char *reason);

#endif
