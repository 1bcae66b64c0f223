/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pbtxt.h"
#include "pbtxt_lexer.h"

#define MOST_DEPTH 64 /* of skipped values */
#define SHOWN 60      /* bytes of a text that a message shows */

/* --- error messages --- */

static bool fail_memory(pbtxt_reader *reader)
{
    return pbtxt_fail(reader->error, reader->place, "there is no memory for what follows");
}

static bool warn(pbtxt_reader *reader, pbtxt_place place, const pbtxt_message *message,
                 const char *name, int length, bool known)
{
    pbtxt_memory *memory = reader->memory;
    char sentence[PBTXT_ERROR_SIZE];
    if (memory->warning_count == PBTXT_MOST_WARNINGS) {
        memory->unnamed++;
        return true;
    }
    (void)pbtxt_fail(sentence, place, "%.*s of %s is not %s", length, name, message->name,
                     known ? "acted on" : "known and is ignored");
    const size_t size = strlen(sentence) + 1;
    char *copy = pbtxt_alloc(memory, size);
    if (memory->warnings == NULL) {
        memory->warnings = pbtxt_alloc(memory, PBTXT_MOST_WARNINGS * sizeof(const char *));
    }
    if (copy == NULL || memory->warnings == NULL) {
        return fail_memory(reader);
    }
    memory->warnings[memory->warning_count++] = memcpy(copy, sentence, size);
    return true;
}

static bool fail_expected(pbtxt_reader *reader, const char *expected)
{
    if (reader->kind == PBTXT_END) {
        return pbtxt_fail(reader->error, reader->place, "%s is expected, and the text ends here",
                          expected);
    }
    return pbtxt_fail(reader->error, reader->place, "%s is expected, and here is %.*s", expected,
                      (int)(reader->length < SHOWN ? reader->length : SHOWN), reader->start);
}

static bool is_mark(const pbtxt_reader *reader, char mark)
{
    return reader->kind == PBTXT_MARK && *reader->start == mark;
}

/* --- single values --- */

static bool read_text(pbtxt_reader *reader, const char *name, const char **into)
{
    const char *text = NULL;
    if (reader->kind != PBTXT_STRING) {
        char expected[120];
        (void)snprintf(expected, sizeof expected, "a text in quotes for %s", name);
        return fail_expected(reader, expected);
    }
    if (!pbtxt_lexer_text(reader, &text)) {
        return false;
    }
    *into = text;
    return true;
}

static bool names(const pbtxt_reader *reader, const char *word)
{
    return strlen(word) == reader->length && memcmp(word, reader->start, reader->length) == 0;
}

static bool read_bool(pbtxt_reader *reader, const char *name, bool *into)
{
    static const char *const words[][5] = {{"false", "False", "f", "0", "0x0"},
                                           {"true", "True", "t", "1", "0x1"}};
    const bool is_word = reader->kind == PBTXT_NAME || reader->kind == PBTXT_NUMBER;
    for (size_t i = 0; is_word && i < 10; i++) {
        if (names(reader, words[i % 2][i / 2])) {
            *into = i % 2 == 1;
            return pbtxt_lexer_next(reader);
        }
    }
    char expected[120];
    (void)snprintf(expected, sizeof expected, "true or false for %s", name);
    return fail_expected(reader, expected);
}

/* From `least` to `most`, both as magnitudes. */
static bool read_number(pbtxt_reader *reader, const char *name, uint64_t least, uint64_t most,
                        bool *negative, uint64_t *into)
{
    const pbtxt_place place = reader->place;
    char expected[120];
    (void)snprintf(expected, sizeof expected, "a whole number for %s", name);
    *negative = is_mark(reader, '-');
    if (*negative && !pbtxt_lexer_next(reader)) {
        return false;
    }
    if (reader->kind != PBTXT_NUMBER) {
        return fail_expected(reader, expected);
    }
    bool overflows = false;
    if (!pbtxt_lexer_whole(reader, into, &overflows)) {
        return fail_expected(reader, expected);
    }
    if (overflows || *into > (*negative ? least : most)) {
        return pbtxt_fail(reader->error, place, "%s is %s%.*s; %s%llu to %llu is allowed", name,
                          *negative ? "-" : "",
                          (int)(reader->length < SHOWN ? reader->length : SHOWN), reader->start,
                          least != 0 ? "-" : "", (unsigned long long)least,
                          (unsigned long long)most);
    }
    return pbtxt_lexer_next(reader);
}

static bool read_enum(pbtxt_reader *reader, const pbtxt_field *field, int32_t *into)
{
    const pbtxt_place place = reader->place;
    uint64_t number = 0;
    bool negative = false;
    const bool is_name = reader->kind == PBTXT_NAME;
    if (!is_name && !read_number(reader, field->name, 0, INT32_MAX, &negative, &number)) {
        return false;
    }
    for (const pbtxt_value *value = field->values; value->name != NULL; value++) {
        if (is_name ? names(reader, value->name) : (uint64_t)value->value == number) {
            *into = value->value;
            return !is_name || pbtxt_lexer_next(reader);
        }
    }
    char known[240] = "";
    for (const pbtxt_value *value = field->values; value->name != NULL; value++) {
        const size_t at = strlen(known);
        (void)snprintf(known + at, sizeof known - at, "%s%s", at != 0 ? ", " : "", value->name);
    }
    return is_name ? pbtxt_fail(reader->error, place, "%s is %.*s; known are %s", field->name,
                                (int)(reader->length < SHOWN ? reader->length : SHOWN),
                                reader->start, known)
                   : pbtxt_fail(reader->error, place, "%s is %llu, which stands for none of %s",
                                field->name, (unsigned long long)number, known);
}

static size_t size_of(const pbtxt_field *field)
{
    static const size_t sizes[] = {[PBTXT_TEXT] = sizeof(const char *),
                                   [PBTXT_BOOL] = sizeof(bool),
                                   [PBTXT_INT32] = 4,
                                   [PBTXT_INT64] = 8,
                                   [PBTXT_UINT32] = 4,
                                   [PBTXT_UINT64] = 8,
                                   [PBTXT_ENUM] = 4};
    return field->kind == PBTXT_MESSAGE ? field->message->size : sizes[field->kind];
}

/* Room for a value, in a struct or in a list, whose memory doubles when it is full. */
static void *make_room(pbtxt_reader *reader, const pbtxt_field *field, unsigned char *into)
{
    const size_t size = size_of(field);
    unsigned char *items = NULL;
    size_t count = 0;
    if (!field->repeated && field->kind != PBTXT_MESSAGE) {
        return into + field->offset;
    }
    if (field->repeated) {
        memcpy(&items, into + field->offset, sizeof items);
        memcpy(&count, into + field->count_offset, sizeof count);
    }
    if ((count & (count - 1)) == 0) {
        unsigned char *grown = pbtxt_alloc(reader->memory, (count == 0 ? 1 : 2 * count) * size);
        if (grown == NULL) {
            (void)fail_memory(reader);
            return NULL;
        }
        if (count != 0) {
            memcpy(grown, items, count * size);
        }
        items = grown;
        memcpy(into + field->offset, &items, sizeof items);
    }
    if (field->repeated) {
        count++;
        memcpy(into + field->count_offset, &count, sizeof count);
        items += (count - 1) * size;
    }
    return items;
}

static bool read_fields(pbtxt_reader *reader, const pbtxt_message *message, unsigned char *into,
                        char closes);

static bool read_message(pbtxt_reader *reader, const pbtxt_field *field, pbtxt_place place,
                         unsigned char *into)
{
    const char closes = is_mark(reader, '{') ? '}' : is_mark(reader, '<') ? '>' : '\0';
    if (closes == '\0') {
        char expected[120];
        (void)snprintf(expected, sizeof expected, "{ of %s", field->name);
        return fail_expected(reader, expected);
    }
    memcpy(into, &place, sizeof place);
    return pbtxt_lexer_next(reader) && read_fields(reader, field->message, into, closes) &&
           pbtxt_lexer_next(reader);
}

static bool read_value(pbtxt_reader *reader, const pbtxt_field *field, pbtxt_place place,
                       unsigned char *into)
{
    static const uint64_t limits[][2] = {[PBTXT_INT32] = {(uint64_t)INT32_MAX + 1, INT32_MAX},
                                         [PBTXT_INT64] = {(uint64_t)INT64_MAX + 1, INT64_MAX},
                                         [PBTXT_UINT32] = {0, UINT32_MAX},
                                         [PBTXT_UINT64] = {0, UINT64_MAX}};
    void *to = make_room(reader, field, into);
    bool negative = false;
    uint64_t number = 0;
    if (to == NULL) {
        return false;
    }
    switch (field->kind) {
        case PBTXT_TEXT: return read_text(reader, field->name, to);
        case PBTXT_MESSAGE: return read_message(reader, field, place, to);
        case PBTXT_BOOL: return read_bool(reader, field->name, to);
        case PBTXT_ENUM: return read_enum(reader, field, to);
        default: break;
    }
    const uint64_t most = limits[field->kind][1];
    if (!read_number(reader, field->name, limits[field->kind][0], most, &negative, &number)) {
        return false;
    }
    number = negative ? 0 - number : number;
    const uint32_t half = (uint32_t)number;
    memcpy(to, size_of(field) == sizeof half ? (const void *)&half : (const void *)&number,
           size_of(field));
    return true;
}

/* --- skipped values --- */

/* Skips a scalar with its sign, a message, or a list. */
static bool skip_value(pbtxt_reader *reader)
{
    char closers[MOST_DEPTH];
    size_t depth = 0;
    do {
        const char mark = reader->kind == PBTXT_MARK ? *reader->start : '\0';
        if (reader->kind == PBTXT_END) {
            return fail_expected(reader, "the end of a value that began before");
        }
        if (mark == '{' || mark == '<' || mark == '[') {
            if (depth == MOST_DEPTH) {
                return pbtxt_fail(reader->error, reader->place, "values lie %d deep in each other",
                                  MOST_DEPTH + 1);
            }
            closers[depth++] = mark == '{' ? '}' : mark == '<' ? '>' : ']';
        } else if (mark == '}' || mark == '>' || mark == ']') {
            if (depth == 0 || closers[depth - 1] != mark) {
                return fail_expected(reader, "a value, or the end of another bracket,");
            }
            depth--;
        } else if (depth == 0 && mark == '-') {
            if (!pbtxt_lexer_next(reader)) {
                return false;
            }
        } else if (depth == 0 && mark != '\0') {
            return fail_expected(reader, "a value");
        }
        const bool joins = reader->kind == PBTXT_STRING;
        if (!pbtxt_lexer_next(reader)) {
            return false;
        }
        while (joins && reader->kind == PBTXT_STRING) {
            if (!pbtxt_lexer_next(reader)) {
                return false;
            }
        }
    } while (depth != 0);
    return true;
}

/* --- fields --- */

/* Reads the values of a list, or a single one. */
static bool read_values(pbtxt_reader *reader, const pbtxt_field *field, pbtxt_place place,
                        unsigned char *into)
{
    if (!is_mark(reader, '[')) {
        return read_value(reader, field, place, into);
    }
    if (!field->repeated) {
        return pbtxt_fail(reader->error, reader->place, "%s is one value, and here is a list",
                          field->name);
    }
    if (!pbtxt_lexer_next(reader)) {
        return false;
    }
    while (!is_mark(reader, ']')) {
        if (!read_value(reader, field, reader->place, into)) {
            return false;
        }
        if (is_mark(reader, ',')) {
            if (!pbtxt_lexer_next(reader)) {
                return false;
            }
            if (is_mark(reader, ']')) {
                return fail_expected(reader, "a value behind the comma");
            }
        } else if (!is_mark(reader, ']')) {
            return fail_expected(reader, ", or ] of a list");
        }
    }
    return pbtxt_lexer_next(reader);
}

/* Checks whether a field may be repeated, or combined with those already given. */
static bool check_given(pbtxt_reader *reader, const pbtxt_message *message, size_t index,
                        pbtxt_place place, uint64_t given)
{
    const pbtxt_field *field = &message->fields[index];
    for (size_t i = 0; i < message->field_count; i++) {
        const bool excludes =
            i == index ? !field->repeated
                       : field->choice != 0 && message->fields[i].choice == field->choice;
        if (excludes && (given >> i & 1) != 0) {
            return i == index ? pbtxt_fail(reader->error, place, "%s is given twice in %s",
                                           field->name, message->name)
                              : pbtxt_fail(reader->error, place,
                                           "%s and %s are both given in %s, of which "
                                           "there is one at most",
                                           message->fields[i].name, field->name, message->name);
        }
    }
    return true;
}

/* Reads the name of a field; that of an extension is in brackets. */
static bool read_name(pbtxt_reader *reader, const char **name, int *length)
{
    const bool is_extension = is_mark(reader, '[');
    *name = reader->start;
    *length = (int)(reader->length < SHOWN ? reader->length : SHOWN);
    if (!is_extension) {
        return reader->kind == PBTXT_NAME ? pbtxt_lexer_next(reader)
                                          : fail_expected(reader, "the name of a field");
    }
    if (!skip_value(reader)) {
        return false;
    }
    while (*length < SHOWN && (*name)[*length - 1] != ']') {
        (*length)++;
    }
    return true;
}

static size_t find_field(const pbtxt_reader *reader, const pbtxt_message *message)
{
    size_t i = 0;
    while (i < message->field_count &&
           !(reader->kind == PBTXT_NAME && names(reader, message->fields[i].name))) {
        i++;
    }
    return i;
}

static bool read_field(pbtxt_reader *reader, const pbtxt_message *message, unsigned char *into,
                       uint64_t *given)
{
    const pbtxt_place place = reader->place;
    const size_t index = find_field(reader, message);
    const pbtxt_field *field = index < message->field_count ? &message->fields[index] : NULL;
    const char *name = NULL;
    int length = 0;
    if (!read_name(reader, &name, &length)) {
        return false;
    }
    const bool has_colon = is_mark(reader, ':');
    if (has_colon && !pbtxt_lexer_next(reader)) {
        return false;
    }
    if (!has_colon && !is_mark(reader, '{') && !is_mark(reader, '<') && !is_mark(reader, '[')) {
        return fail_expected(reader, ": or {");
    }
    if (field == NULL || field->kind == PBTXT_IGNORED) {
        return warn(reader, place, message, name, length, field != NULL) && skip_value(reader);
    }
    if (field->kind == PBTXT_REFUSED) {
        return pbtxt_fail(reader->error, place,
                          "%s of %s is not supported, and without it the "
                          "model would do something else",
                          field->name, message->name);
    }
    if (!has_colon && field->kind != PBTXT_MESSAGE) {
        return fail_expected(reader, ":");
    }
    if (!check_given(reader, message, index, place, *given)) {
        return false;
    }
    *given |= (uint64_t)1 << index;
    return read_values(reader, field, place, into);
}

static bool read_fields(pbtxt_reader *reader, const pbtxt_message *message, unsigned char *into,
                        char closes)
{
    uint64_t given = 0;
    while (closes == '\0' ? reader->kind != PBTXT_END : !is_mark(reader, closes)) {
        if (reader->kind == PBTXT_END) {
            char expected[80];
            (void)snprintf(expected, sizeof expected, "%c of %s", closes, message->name);
            return fail_expected(reader, expected);
        }
        if (!read_field(reader, message, into, &given) ||
            ((is_mark(reader, ',') || is_mark(reader, ';')) && !pbtxt_lexer_next(reader))) {
            return false;
        }
    }
    return true;
}

bool pbtxt_read(const char *text, size_t size, const pbtxt_message *message, void *into,
                pbtxt_memory *memory, char error[PBTXT_ERROR_SIZE])
{
    pbtxt_reader reader = {
        .at = text, .end = text + size, .next = {1, 1}, .memory = memory, .error = error};
    if (size > PBTXT_MOST_BYTES) {
        return pbtxt_fail(error, reader.next, "the text has %zu bytes; %zu at most are read", size,
                          PBTXT_MOST_BYTES);
    }
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* as protobuf's parser does */
        reader.at += 3;
    }
    return pbtxt_lexer_next(&reader) && read_fields(&reader, message, into, '\0');
}
