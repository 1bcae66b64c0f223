/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_proto.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/words.h"

#define LONGEST_WORD 1024
#define VARINT 0
#define EIGHT 1
#define BYTES 2
#define FOUR 5

/* --- wire format --- */

static bool take_varint(serve_proto_span *from, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && from->size > 0; shift += 7) {
        const uint8_t byte = *from->at++;
        from->size--;
        if (shift == 63 && byte > 1) {
            return false;
        }
        *value |= (uint64_t)(byte & 0x7fU) << shift;
        if (byte < 0x80) {
            return true;
        }
    }
    return false;
}

static bool take_fixed(serve_proto_span *from, size_t size, uint64_t *value)
{
    if (from->size < size) {
        return false;
    }
    *value = 0;
    for (size_t i = size; i > 0; i--) {
        *value = *value << 8 | from->at[i - 1];
    }
    from->at += size;
    from->size -= size;
    return true;
}

bool serve_proto_next(serve_proto_span *message, serve_proto_value *value, const char **reason)
{
    uint64_t tag = 0;
    bool whole = true;
    if (message->size == 0) {
        return false;
    }
    if (!take_varint(message, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX >> 3) {
        *reason = "a field's tag is cut off or out of range";
        return false;
    }
    *value = (serve_proto_value){.number = (uint32_t)(tag >> 3), .type = (unsigned)(tag & 7)};
    switch (value->type) {
        case VARINT: whole = take_varint(message, &value->whole); break;
        case EIGHT: whole = take_fixed(message, 8, &value->whole); break;
        case FOUR: whole = take_fixed(message, 4, &value->whole); break;
        case BYTES:
            whole = take_varint(message, &value->whole) && value->whole <= message->size;
            if (whole) {
                value->bytes = (serve_proto_span){message->at, (size_t)value->whole};
                message->at += value->bytes.size;
                message->size -= value->bytes.size;
            }
            break;
        default: *reason = "a field has a wire type that is not in use"; return false;
    }
    *reason = whole ? *reason : "a field is cut off";
    return whole;
}

static void put_varint(serve_text *into, uint64_t value)
{
    char bytes[10];
    size_t size = 0;
    for (; value >= 0x80; value >>= 7) {
        bytes[size++] = (char)(value | 0x80);
    }
    bytes[size++] = (char)value;
    serve_text_append(into, bytes, size);
}

static void put_tag(serve_text *into, uint32_t number, unsigned type)
{
    put_varint(into, (uint64_t)number << 3 | type);
}

void serve_proto_put_head(serve_text *into, uint32_t number, size_t size)
{
    put_tag(into, number, BYTES);
    put_varint(into, size);
}

static unsigned type_of(serve_proto_kind kind)
{
    static const unsigned types[] = {
        [SERVE_PROTO_STRING] = BYTES, [SERVE_PROTO_TEXT] = BYTES,  [SERVE_PROTO_BOOL] = VARINT,
        [SERVE_PROTO_INT] = VARINT,   [SERVE_PROTO_UINT] = VARINT, [SERVE_PROTO_FLOAT] = FOUR,
        [SERVE_PROTO_DOUBLE] = EIGHT, [SERVE_PROTO_ENUM] = VARINT, [SERVE_PROTO_MESSAGE] = BYTES,
        [SERVE_PROTO_MAP] = BYTES,    [SERVE_PROTO_SELF] = BYTES,  [SERVE_PROTO_RAW] = BYTES};
    return types[kind];
}

/* --- to JSON --- */

static bool write_message(const serve_proto_message *message, serve_proto_span span,
                          serve_text *json, const char **reason);

/* `bytes` is not NUL-terminated, and may contain a NUL, which no name does. */
static bool write_string(serve_proto_span bytes, serve_text *json, const char **reason)
{
    char word[LONGEST_WORD];
    if (bytes.size >= sizeof word ||
        (bytes.size != 0 && memchr(bytes.at, '\0', bytes.size) != NULL)) {
        *reason = "a string holds a NUL or has more than 1023 bytes";
        return false;
    }
    if (bytes.size != 0) {
        memcpy(word, bytes.at, bytes.size);
    }
    word[bytes.size] = '\0';
    serve_text_json(json, word);
    return true;
}

static bool write_text(serve_proto_span bytes, serve_text *json, const char **reason)
{
    const char *text = (const char *)bytes.at;
    if (!kln_utf8_is_valid(text, bytes.size)) {
        *reason = "bytes_contents are not UTF-8: send such bytes as raw_input_contents";
        return false;
    }
    serve_text_json_bytes(json, text, bytes.size);
    return true;
}

/* JSON has no NaN or infinity; the reader of the null reports it. */
static void write_real(serve_text *json, double value, int digits)
{
    if (isfinite(value)) {
        serve_text_printf(json, "%.*g", digits, value);
    } else {
        serve_text_string(json, "null");
    }
}

static void write_number(serve_proto_kind kind, uint64_t whole, serve_text *json)
{
    const uint32_t half = (uint32_t)whole;
    float single = 0;
    double real = 0;
    memcpy(&single, &half, sizeof single);
    memcpy(&real, &whole, sizeof real);
    switch (kind) {
        case SERVE_PROTO_BOOL: serve_text_string(json, whole != 0 ? "true" : "false"); break;
        case SERVE_PROTO_UINT: serve_text_printf(json, "%" PRIu64, whole); break;
        case SERVE_PROTO_FLOAT: write_real(json, (double)single, 9); break;
        case SERVE_PROTO_DOUBLE: write_real(json, real, 17); break;
        default: serve_text_integer(json, (int64_t)whole); break;
    }
}

/* Writes the value of the one field that is set; if a client sets several, the last one. */
static bool write_single(const serve_proto_message *message, serve_proto_span span,
                         serve_text *json, const char **reason);

static bool write_map(const serve_proto_field *field, serve_proto_span entry, serve_text *json,
                      const char **reason)
{
    serve_proto_span key = {entry.at, 0};
    serve_proto_span mapped = {entry.at, 0};
    serve_proto_value value;
    while (serve_proto_next(&entry, &value, reason)) {
        if (value.type == BYTES && value.number <= 2) {
            *(value.number == 1 ? &key : &mapped) = value.bytes;
        }
    }
    if (*reason != NULL || !write_string(key, json, reason)) {
        return false;
    }
    serve_text_string(json, ":");
    return write_single(field->of.message, mapped, json, reason);
}

static bool write_value(const serve_proto_field *field, const serve_proto_value *value,
                        serve_text *json, const char **reason)
{
    switch (field->kind) {
        case SERVE_PROTO_STRING: return write_string(value->bytes, json, reason);
        case SERVE_PROTO_TEXT: return write_text(value->bytes, json, reason);
        case SERVE_PROTO_MESSAGE:
            return write_message(field->of.message, value->bytes, json, reason);
        case SERVE_PROTO_SELF: return write_single(field->of.message, value->bytes, json, reason);
        case SERVE_PROTO_MAP: return write_map(field, value->bytes, json, reason);
        default: write_number(field->kind, value->whole, json); return true;
    }
}

/* A packed list of numbers in one field. */
static bool write_packed(const serve_proto_field *field, serve_proto_span packed, serve_text *json,
                         bool *some, const char **reason)
{
    const unsigned type = type_of(field->kind);
    uint64_t whole = 0;
    while (packed.size != 0) {
        if (!(type == VARINT ? take_varint(&packed, &whole)
                             : take_fixed(&packed, type == FOUR ? 4 : 8, &whole))) {
            *reason = "a list of numbers is cut off";
            return false;
        }
        serve_text_string(json, *some ? "," : "");
        *some = true;
        write_number(field->kind, whole, json);
    }
    return true;
}

/* Writes all occurrences of a field. */
static bool write_field(const serve_proto_field *field, serve_proto_span span, serve_text *json,
                        bool *some, const char **reason)
{
    const unsigned type = type_of(field->kind);
    serve_proto_value value;
    while (serve_proto_next(&span, &value, reason)) {
        if (value.number != field->number) {
            continue;
        }
        if (field->repeated && value.type == BYTES && type != BYTES) {
            if (!write_packed(field, value.bytes, json, some, reason)) {
                return false;
            }
            continue;
        }
        if (value.type != type) {
            *reason = "a field has another type than the protocol's";
            return false;
        }
        if (*some && !field->repeated && field->kind != SERVE_PROTO_MAP) {
            *reason = "a field is given more than once";
            return false;
        }
        serve_text_string(json, *some ? "," : "");
        *some = true;
        if (!write_value(field, &value, json, reason)) {
            return false;
        }
    }
    return *reason == NULL;
}

static const char *bracket_of(const serve_proto_field *field, bool opens)
{
    return field->kind == SERVE_PROTO_MAP ? (opens ? "{" : "}")
           : field->repeated              ? (opens ? "[" : "]")
                                          : "";
}

/* With `single` writes one of the values, or null if none is set. */
static bool write_fields(const serve_proto_message *message, serve_proto_span span,
                         serve_text *json, bool single, const char **reason)
{
    bool any = false;
    for (size_t i = 0; i < message->count && !(single && any); i++) {
        const serve_proto_field *field = &message->fields[i];
        const size_t before = json->size;
        bool some = false;
        if (field->kind == SERVE_PROTO_RAW) {
            continue;
        }
        serve_text_string(json, any ? "," : "");
        if (!single) {
            serve_text_printf(json, "\"%s\":", field->name);
        }
        serve_text_string(json, bracket_of(field, true));
        if (!write_field(field, span, json, &some, reason)) {
            return false;
        }
        serve_text_string(json, bracket_of(field, false));
        any |= some;
        if (!some && !json->failed) {
            json->size = before;
        }
    }
    if (single && !any) {
        serve_text_string(json, "null");
    }
    return true;
}

static bool write_single(const serve_proto_message *message, serve_proto_span span,
                         serve_text *json, const char **reason)
{
    return write_fields(message, span, json, true, reason);
}

static bool write_message(const serve_proto_message *message, serve_proto_span span,
                          serve_text *json, const char **reason)
{
    serve_text_string(json, "{");
    const bool written = write_fields(message, span, json, false, reason);
    serve_text_string(json, "}");
    return written;
}

bool serve_proto_to_json(const serve_proto_message *message, serve_proto_span span,
                         serve_text *json, const char **reason)
{
    *reason = NULL;
    return write_message(message, span, json, reason);
}

/* --- from JSON --- */

static bool read_word(serve_json *json, const serve_proto_field *field, serve_text *into)
{
    char word[LONGEST_WORD];
    if (!serve_json_string(json, word, sizeof word)) {
        return false;
    }
    if (field->kind == SERVE_PROTO_STRING) {
        serve_proto_put_head(into, field->number, strlen(word));
        serve_text_string(into, word);
        return true;
    }
    for (uint64_t i = 0; field->of.words[i] != NULL; i++) {
        if (strcmp(field->of.words[i], word) == 0) {
            put_tag(into, field->number, VARINT);
            put_varint(into, i);
            return true;
        }
    }
    return false;
}

static bool read_number(serve_json *json, const serve_proto_field *field, serve_text *into)
{
    serve_number number;
    uint64_t whole = 0;
    bool is_true = false;
    if (field->kind == SERVE_PROTO_BOOL) {
        if (!serve_json_bool(json, &is_true)) {
            return false;
        }
        whole = is_true;
    } else if (field->kind == SERVE_PROTO_UINT) {
        if (!serve_json_number(json, &number) ||
            !serve_number_integer(&number, 0, UINT64_MAX, &whole)) {
            return false;
        }
    } else {
        int64_t value = 0;
        if (!serve_json_integer(json, &value)) {
            return false;
        }
        whole = (uint64_t)value;
    }
    put_tag(into, field->number, VARINT);
    put_varint(into, whole);
    return true;
}

static bool read_value(serve_json *json, const serve_proto_field *field, serve_text *into)
{
    if (field->kind == SERVE_PROTO_STRING || field->kind == SERVE_PROTO_ENUM) {
        return read_word(json, field, into);
    }
    if (field->kind != SERVE_PROTO_MESSAGE) {
        return read_number(json, field, into);
    }
    serve_text inner = {.data = NULL};
    const bool read = serve_proto_from_json(field->of.message, json, &inner);
    serve_proto_put_head(into, field->number, inner.size);
    serve_text_append(into, inner.data, inner.size);
    into->failed |= inner.failed;
    serve_text_finish(&inner);
    return read;
}

static bool read_member(serve_json *json, const serve_proto_field *field, serve_text *into)
{
    if (!field->repeated) {
        return read_value(json, field, into);
    }
    if (!serve_json_enter(json, '[')) {
        return false;
    }
    while (serve_json_element(json)) {
        if (!read_value(json, field, into)) {
            return false;
        }
    }
    return json->reason == NULL;
}

bool serve_proto_from_json(const serve_proto_message *message, serve_json *json, serve_text *into)
{
    serve_slice key;
    serve_slice value;
    if (!serve_json_enter(json, '{')) {
        return false;
    }
    while (serve_json_member(json, &key)) {
        const serve_proto_field *field = NULL;
        for (size_t i = 0; i < message->count && field == NULL; i++) {
            const serve_proto_field *at = &message->fields[i];
            field = at->name != NULL && serve_json_is(&key, at->name) ? at : NULL;
        }
        if (!(field != NULL ? read_member(json, field, into) : serve_json_skip(json, &value))) {
            return false;
        }
    }
    return json->reason == NULL;
}
