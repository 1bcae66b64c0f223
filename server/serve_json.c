/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_json.h"

#include <string.h>

#include "base/words.h"
#include "serve_text.h"

void serve_json_init(serve_json *json, const char *text, size_t size)
{
    *json = (serve_json){.begin = text, .at = text, .end = text + size};
}

bool serve_json_fail(serve_json *json, const char *reason)
{
    if (json->reason == NULL) {
        json->reason = reason;
    }
    return false;
}

static void skip_blanks(serve_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t')) {
        json->at++;
    }
}

char serve_json_peek(serve_json *json)
{
    skip_blanks(json);
    if (json->reason != NULL || json->at == json->end) {
        return 0;
    }
    switch (*json->at) {
        case '{':
        case '[':
        case '"':
        case 't':
        case 'f':
        case 'n':
        case '-': return *json->at;
        default: return *json->at >= '0' && *json->at <= '9' ? *json->at : (char)0;
    }
}

bool serve_json_enter(serve_json *json, char bracket)
{
    if (serve_json_peek(json) != bracket) {
        return serve_json_fail(json, bracket == '{' ? "an object is needed" : "an array is needed");
    }
    json->at++;
    json->fresh = true;
    return true;
}

/* Whether another entry comes before `bracket`; if not, the bracket is taken. */
static bool next_entry(serve_json *json, char bracket)
{
    const bool fresh = json->fresh;
    skip_blanks(json);
    json->fresh = false;
    if (json->reason != NULL) {
        return false;
    }
    if (json->at < json->end && *json->at == bracket) {
        json->at++;
        return false;
    }
    if (!fresh) {
        if (json->at == json->end || *json->at != ',') {
            return serve_json_fail(json, "a comma or a closing bracket is missing");
        }
        json->at++;
        skip_blanks(json);
    }
    return true;
}

bool serve_json_element(serve_json *json)
{
    return next_entry(json, ']') &&
           (serve_json_peek(json) != 0 || serve_json_fail(json, "a value is missing"));
}

static size_t hex4(const char *at, const char *end, unsigned *value)
{
    *value = 0;
    for (size_t i = 0; i < 4; i++) {
        if (end - at <= (ptrdiff_t)i) {
            return 0;
        }
        const char c = at[i];
        const unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                               : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                               : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                      : 16;
        if (digit == 16) {
            return 0;
        }
        *value = *value * 16 + digit;
    }
    return 4;
}

/* Decodes the escape after a backslash, with the second half of a surrogate pair; returns its
 * length, or 0. */
static size_t escape(const char *at, const char *end, unsigned *point)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meant[] = "\"\\/\b\f\n\r\t";
    const char *found = at < end && *at != '\0' ? strchr(letters, *at) : NULL;
    if (found != NULL) {
        *point = (unsigned char)meant[found - letters];
        return 1;
    }
    unsigned low = 0;
    if (at == end || *at != 'u' || hex4(at + 1, end, point) == 0) {
        return 0;
    }
    if (*point < 0xd800 || *point > 0xdfff) {
        return 5;
    }
    if (*point > 0xdbff || end - at < 11 || at[5] != '\\' || at[6] != 'u' ||
        hex4(at + 7, end, &low) == 0 || low < 0xdc00 || low > 0xdfff) {
        return 0;
    }
    *point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
    return 11;
}

/* A character that stands for itself in a string and is a single byte. */
static bool is_plain(char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* Skips a string and its quotes. */
static bool skip_string(serve_json *json, serve_slice *inside)
{
    const char *at = json->at + 1;
    while (at < json->end && *at != '"') {
        uint32_t point = 0;
        if (is_plain(*at)) {
            at++;
            continue;
        }
        const size_t left = (size_t)(json->end - at);
        const size_t length = *at == '\\'                 ? escape(at + 1, json->end, &point)
                              : (unsigned char)*at < 0x20 ? 0
                                                          : kln_utf8_read(at, left, &point);
        if (length == 0) {
            json->at = at;
            return serve_json_fail(json, *at == '\\' ? "an escape in a string is broken"
                                         : (unsigned char)*at < 0x20
                                             ? "a control character stands in a string"
                                             : "a string is not UTF-8");
        }
        at += length + (*at == '\\' ? 1 : 0);
    }
    if (at == json->end) {
        json->at = at;
        return serve_json_fail(json, "a string does not end");
    }
    *inside = (serve_slice){json->at + 1, (size_t)(at - json->at - 1)};
    json->at = at + 1;
    return true;
}

bool serve_json_member(serve_json *json, serve_slice *key)
{
    if (!next_entry(json, '}')) {
        return false;
    }
    if (serve_json_peek(json) != '"') {
        return serve_json_fail(json, "a key in quotes is missing");
    }
    if (!skip_string(json, key)) {
        return false;
    }
    skip_blanks(json);
    if (json->at == json->end || *json->at != ':') {
        return serve_json_fail(json, "a colon is missing");
    }
    json->at++;
    return serve_json_peek(json) != 0 || serve_json_fail(json, "a value is missing");
}

/* Takes the next character of a string's content, with escapes resolved; returns its bytes. */
static size_t take_piece(const char **at, const char *end, char piece[4])
{
    unsigned point = 0;
    piece[0] = *(*at)++;
    if (piece[0] != '\\') {
        return 1;
    }
    *at += escape(*at, end, &point);
    return kln_utf8_write(point, piece);
}

/* False if it does not fit, or contains a NUL. */
static bool decode(const serve_slice *inside, char *text, size_t size)
{
    const char *end = inside->at + inside->size;
    size_t used = 0;
    if (inside->size < size && memchr(inside->at, '\\', inside->size) == NULL) {
        memcpy(text, inside->at, inside->size); /* a raw NUL is refused as a control character */
        text[inside->size] = '\0';
        return true;
    }
    for (const char *at = inside->at; at < end;) {
        char piece[4];
        const size_t length = take_piece(&at, end, piece);
        if (used + length >= size || piece[0] == '\0') {
            return false;
        }
        memcpy(text + used, piece, length);
        used += length;
    }
    text[used] = '\0';
    return true;
}

bool serve_json_means(const serve_slice *key, const char *word)
{
    char text[64];
    return memchr(key->at, '\\', key->size) != NULL && decode(key, text, sizeof text) &&
           strcmp(text, word) == 0;
}

bool serve_json_string(serve_json *json, char *text, size_t size)
{
    serve_slice inside;
    if (serve_json_peek(json) != '"') {
        return serve_json_fail(json, "a string is needed");
    }
    return skip_string(json, &inside) &&
           (decode(&inside, text, size) ||
            serve_json_fail(json, "a string is too long here, or holds a NUL"));
}

bool serve_json_text(serve_json *json, serve_slice *inside)
{
    return serve_json_peek(json) == '"' ? skip_string(json, inside)
                                        : serve_json_fail(json, "a string is needed");
}

size_t serve_json_plain(const serve_slice *inside, char *text)
{
    const char *end = inside->at + inside->size;
    size_t used = 0;
    for (const char *at = inside->at; at < end;) {
        char piece[4];
        const size_t length = take_piece(&at, end, piece);
        memcpy(text + used, piece, length);
        used += length;
    }
    return used;
}

static bool skip_word(serve_json *json)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < SERVE_LENGTH(words); i++) {
        const size_t length = strlen(words[i]);
        if ((size_t)(json->end - json->at) >= length && memcmp(json->at, words[i], length) == 0) {
            json->at += length;
            return true;
        }
    }
    return serve_json_fail(json, "a word is none of true, false and null");
}

static bool skip_number(serve_json *json)
{
    serve_number number;
    if (!serve_number_read(json->at, json->end, &number)) {
        return serve_json_fail(json, "a number is broken");
    }
    json->at += number.length;
    return true;
}

static bool skip_scalar(serve_json *json)
{
    serve_slice inside;
    const char first = serve_json_peek(json);
    return first == 0     ? serve_json_fail(json, "a value is missing")
           : first == '"' ? skip_string(json, &inside)
           : first == 't' || first == 'f' || first == 'n' ? skip_word(json)
                                                          : skip_number(json);
}

bool serve_json_skip(serve_json *json, serve_slice *value)
{
    char open[SERVE_JSON_DEPTH]; /* brackets still to be closed */
    size_t depth = 0;
    serve_slice key;
    (void)serve_json_peek(json);
    const char *begin = json->at;
    do {
        const char first = serve_json_peek(json);
        if (first == '{' || first == '[') {
            if (depth == SERVE_JSON_DEPTH) {
                return serve_json_fail(json, "it is nested more than 64 levels deep");
            }
            open[depth++] = first;
            (void)serve_json_enter(json, first);
        } else if (!skip_scalar(json)) {
            return false;
        }
        while (depth > 0 && !(open[depth - 1] == '{' ? serve_json_member(json, &key)
                                                     : serve_json_element(json))) {
            if (json->reason != NULL) {
                return false;
            }
            depth--;
        }
    } while (depth > 0);
    *value = (serve_slice){begin, (size_t)(json->at - begin)};
    return true;
}

bool serve_json_number(serve_json *json, serve_number *number)
{
    const char first = serve_json_peek(json);
    if (first == 0 || !serve_number_read(json->at, json->end, number)) {
        return serve_json_fail(json, "a number is needed");
    }
    json->at += number->length;
    return true;
}

bool serve_json_integer(serve_json *json, int64_t *value)
{
    serve_number number;
    uint64_t found = 0;
    if (serve_json_peek(json) == 0 || !serve_number_read(json->at, json->end, &number) ||
        !serve_number_integer(&number, INT64_MIN, INT64_MAX, &found)) {
        return serve_json_fail(json, "an integer is needed");
    }
    json->at += number.length;
    *value = (int64_t)found;
    return true;
}

bool serve_json_bool(serve_json *json, bool *value)
{
    const char first = serve_json_peek(json);
    *value = first == 't';
    return (first == 't' || first == 'f') ? skip_word(json)
                                          : serve_json_fail(json, "true or false is needed");
}

bool serve_json_end(serve_json *json)
{
    skip_blanks(json);
    return json->reason == NULL &&
           (json->at == json->end || serve_json_fail(json, "something follows the end"));
}
