/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"
#include "pbtxt_lexer.h"

/* --- memory --- */

struct pbtxt_chunk {
    struct pbtxt_chunk *next;
    size_t used, size;
    _Alignas(max_align_t) unsigned char bytes[];
};

void *pbtxt_alloc(pbtxt_memory *memory, size_t bytes)
{
    const size_t needed =
        (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct pbtxt_chunk *chunk = memory->chunks;
    if (chunk == NULL || chunk->size - chunk->used < needed) {
        const size_t size = needed > 4000 ? needed : 4000;
        chunk = calloc(1, sizeof *chunk + size);
        if (chunk == NULL) {
            memory->is_short = true;
            return NULL;
        }
        *chunk = (struct pbtxt_chunk){.next = memory->chunks, .size = size};
        memory->chunks = chunk;
    }
    chunk->used += needed;
    return chunk->bytes + chunk->used - needed;
}

void pbtxt_finish(pbtxt_memory *memory)
{
    while (memory->chunks != NULL) {
        struct pbtxt_chunk *chunk = memory->chunks;
        memory->chunks = chunk->next;
        free(chunk);
    }
    *memory = (pbtxt_memory){.chunks = NULL};
}

bool pbtxt_fail(char error[PBTXT_ERROR_SIZE], pbtxt_place place, const char *format, ...)
{
    va_list arguments;
    const int length =
        snprintf(error, PBTXT_ERROR_SIZE, "line %d, column %d: ", place.line, place.column);
    va_start(arguments, format);
    (void)vsnprintf(error + length, PBTXT_ERROR_SIZE - (size_t)length, format, arguments);
    va_end(arguments);
    kln_agree(error + length);
    return false;
}

/* --- characters --- */

/* ASCII only, independent of the locale. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int hex_value(char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static void advance(pbtxt_reader *reader)
{
    /* Columns count characters: UTF-8 continuation bytes do not count. */
    const unsigned char c = (unsigned char)*reader->at++;
    if (c == '\n') {
        reader->next = (pbtxt_place){reader->next.line + 1, 1};
    } else if ((c & 0xC0) != 0x80) {
        reader->next.column++;
    }
}

static void skip_blanks(pbtxt_reader *reader)
{
    bool comment = false;
    while (reader->at < reader->end) {
        const char c = *reader->at;
        comment = (comment && c != '\n') || c == '#';
        if (!comment && c != ' ' && !(c >= '\t' && c <= '\r')) {
            return;
        }
        advance(reader);
    }
}

static bool take_string(pbtxt_reader *reader)
{
    const char quote = *reader->at;
    advance(reader);
    while (reader->at < reader->end && *reader->at != quote && *reader->at != '\n') {
        const bool escape =
            *reader->at == '\\' && reader->at + 1 < reader->end && reader->at[1] != '\n';
        advance(reader);
        if (escape) {
            advance(reader);
        }
    }
    if (reader->at == reader->end || *reader->at != quote) {
        return pbtxt_fail(reader->error, reader->place,
                          "a text begins here and does not end in "
                          "this line");
    }
    advance(reader);
    return true;
}

/* A number in any form, including `1e-5`, `0x1F` and `1.5f`. */
static bool is_in_number(const pbtxt_reader *reader, char before)
{
    const char c = *reader->at;
    const bool hex = reader->at - reader->start > 1 && (reader->start[1] | 32) == 'x';
    return is_digit(c) || is_letter(c) || c == '.' ||
           ((c == '-' || c == '+') && !hex && (before | 32) == 'e');
}

bool pbtxt_lexer_next(pbtxt_reader *reader)
{
    skip_blanks(reader);
    reader->start = reader->at;
    reader->place = reader->next;
    reader->length = 0;
    if (reader->at == reader->end) {
        reader->kind = PBTXT_END;
        return true;
    }
    const char first = *reader->at;
    const bool dot = first == '.' && reader->at + 1 < reader->end && is_digit(reader->at[1]);
    if (first == '"' || first == '\'') {
        reader->kind = PBTXT_STRING;
        if (!take_string(reader)) {
            return false;
        }
    } else if (is_letter(first)) {
        reader->kind = PBTXT_NAME;
        while (reader->at < reader->end && (is_letter(*reader->at) || is_digit(*reader->at))) {
            advance(reader);
        }
    } else if (is_digit(first) || dot) {
        reader->kind = PBTXT_NUMBER;
        char before = '\0';
        while (reader->at < reader->end && is_in_number(reader, before)) {
            before = *reader->at;
            advance(reader);
        }
    } else if (strchr("{}<>[]:,;-./", first) != NULL && first != '\0') {
        reader->kind = PBTXT_MARK;
        advance(reader);
    } else {
        return pbtxt_fail(reader->error, reader->place, "a byte 0x%02X that means nothing here",
                          (unsigned)(unsigned char)first);
    }
    reader->length = (size_t)(reader->at - reader->start);
    return true;
}

bool pbtxt_lexer_whole(const pbtxt_reader *reader, uint64_t *value, bool *overflows)
{
    const bool hex = reader->length > 2 && reader->start[0] == '0' &&
                     (reader->start[1] == 'x' || reader->start[1] == 'X');
    const uint64_t base = hex ? 16 : reader->start[0] == '0' ? 8 : 10;
    *value = 0;
    *overflows = false;
    for (size_t i = hex ? 2 : 0; i < reader->length; i++) {
        const int digit = hex_value(reader->start[i]);
        if (digit < 0 || (uint64_t)digit >= base) {
            return false;
        }
        *overflows = *overflows || *value > (UINT64_MAX - (uint64_t)digit) / base;
        *value = *value * base + (uint64_t)digit;
    }
    return true;
}

/* --- strings --- */

typedef struct text_writer {
    pbtxt_reader *reader;
    const char *at; /* within a string */
    const char *end;
    char *to;
} text_writer;

/* Reads up to `most` digits of a base at `at`, and returns their number. */
static int take_digits(text_writer *writer, int base, int most, uint32_t *value)
{
    int count = 0;
    *value = 0;
    while (count < most && writer->at < writer->end && hex_value(*writer->at) >= 0 &&
           hex_value(*writer->at) < base) {
        *value = *value * (uint32_t)base + (uint32_t)hex_value(*writer->at++);
        count++;
    }
    return count;
}

/* \u, including surrogate pairs, and \U. */
static bool put_unicode(text_writer *writer, int digits)
{
    uint32_t code = 0;
    uint32_t low = 0;
    bool sound = take_digits(writer, 16, digits, &code) == digits;
    if (sound && code >= 0xD800 && code < 0xDC00 && writer->end - writer->at > 2 &&
        writer->at[0] == '\\' && writer->at[1] == 'u') {
        writer->at += 2;
        sound = take_digits(writer, 16, 4, &low) == 4 && low >= 0xDC00 && low < 0xE000;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (!sound || !kln_utf8_is_point(code) || code == 0) {
        return pbtxt_fail(writer->reader->error, writer->reader->place,
                          "the text has \\%c with no character behind it", digits == 4 ? 'u' : 'U');
    }
    writer->to += kln_utf8_write(code, writer->to);
    return true;
}

static bool put_escape(text_writer *writer)
{
    static const char from[] = "abfnrtv?\\'\"";
    static const char to[] = "\a\b\f\n\r\t\v?\\'\"";
    const char c = *writer->at++;
    const char *simple = c != '\0' ? strchr(from, c) : NULL;
    uint32_t byte = 0;
    if (simple != NULL) {
        *writer->to++ = to[simple - from];
        return true;
    }
    if (c == 'u' || c == 'U') {
        return put_unicode(writer, c == 'u' ? 4 : 8);
    }
    const bool hex = c == 'x' || c == 'X';
    writer->at -= hex ? 0 : 1;
    if (take_digits(writer, hex ? 16 : 8, hex ? 2 : 3, &byte) == 0 || byte > 0xFF) {
        return pbtxt_fail(writer->reader->error, writer->reader->place,
                          "the text has an escape \\%c that the format does not know",
                          c >= ' ' && c < 127 ? c : '?');
    }
    *writer->to++ = (char)byte;
    return true;
}

bool pbtxt_lexer_text(pbtxt_reader *reader, const char **text)
{
    const pbtxt_place begin = reader->place;
    const char *const first = reader->start;
    const pbtxt_reader before = *reader;
    while (reader->kind == PBTXT_STRING) {
        if (!pbtxt_lexer_next(reader)) {
            return false;
        }
    }
    /* No escape sequence is shorter than what it stands for. */
    char *made = pbtxt_alloc(reader->memory, (size_t)(reader->start - first) + 1);
    if (made == NULL) {
        return pbtxt_fail(reader->error, begin, "there is no memory for this text");
    }
    text_writer writer = {.reader = reader, .to = made};
    *reader = before;
    while (reader->kind == PBTXT_STRING) {
        writer.at = reader->start + 1;
        writer.end = reader->start + reader->length - 1;
        while (writer.at < writer.end) {
            if (*writer.at != '\\') {
                *writer.to++ = *writer.at++;
                continue;
            }
            writer.at++;
            if (!put_escape(&writer)) {
                return false;
            }
        }
        if (!pbtxt_lexer_next(reader)) {
            return false;
        }
    }
    const size_t size = (size_t)(writer.to - made);
    if (!kln_utf8_is_valid(made, size) || memchr(made, '\0', size) != NULL) {
        return pbtxt_fail(reader->error, begin, "the text is not UTF-8, or has a zero byte");
    }
    *text = made;
    return true;
}
