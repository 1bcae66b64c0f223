/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_data.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"

typedef struct type_row {
    kiln_dtype dtype;
    const char *name;
    const char *config;
    int64_t least; /* for integers */
    uint64_t most; /* 0: not an integer */
} type_row;

static const type_row types[] = {
    {KILN_DTYPE_FLOAT32, "FP32", "TYPE_FP32", 0, 0},
    {KILN_DTYPE_FLOAT64, "FP64", "TYPE_FP64", 0, 0},
    {KILN_DTYPE_FLOAT16, "FP16", "TYPE_FP16", 0, 0},
    {KILN_DTYPE_BFLOAT16, "BF16", "TYPE_BF16", 0, 0},
    {KILN_DTYPE_BOOL, "BOOL", "TYPE_BOOL", 0, 1},
    {KILN_DTYPE_INT8, "INT8", "TYPE_INT8", INT8_MIN, INT8_MAX},
    {KILN_DTYPE_INT16, "INT16", "TYPE_INT16", INT16_MIN, INT16_MAX},
    {KILN_DTYPE_INT32, "INT32", "TYPE_INT32", INT32_MIN, INT32_MAX},
    {KILN_DTYPE_INT64, "INT64", "TYPE_INT64", INT64_MIN, INT64_MAX},
    {KILN_DTYPE_UINT8, "UINT8", "TYPE_UINT8", 0, UINT8_MAX},
    {KILN_DTYPE_UINT16, "UINT16", "TYPE_UINT16", 0, UINT16_MAX},
    {KILN_DTYPE_UINT32, "UINT32", "TYPE_UINT32", 0, UINT32_MAX},
    {KILN_DTYPE_UINT64, "UINT64", "TYPE_UINT64", 0, UINT64_MAX},
    {KILN_DTYPE_STRING, "BYTES", "TYPE_STRING", 0, 0},
};

static const type_row *row_of(kiln_dtype dtype)
{
    for (size_t i = 0; i < SERVE_LENGTH(types); i++) {
        if (types[i].dtype == dtype) {
            return &types[i];
        }
    }
    return NULL;
}

const char *serve_type_name(kiln_dtype dtype)
{
    const type_row *row = row_of(dtype);
    return row != NULL ? row->name : NULL;
}

const char *serve_config_type(kiln_dtype dtype)
{
    const type_row *row = row_of(dtype);
    return row != NULL ? row->config : "TYPE_INVALID";
}

kiln_dtype serve_type_of(const char *name)
{
    for (size_t i = 0; i < SERVE_LENGTH(types); i++) {
        if (strcmp(types[i].name, name) == 0) {
            return types[i].dtype;
        }
    }
    return KILN_DTYPE_UNDEFINED;
}

bool serve_data_is_bool(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    unsigned char all = 0;
    for (size_t i = 0; i < size; i++) {
        all |= bytes[i];
    }
    return all <= 1;
}

/* --- reading --- */

/* On little-endian machines only: the low bytes are the narrower integer. */
static void put_integer(kiln_tensor *tensor, size_t index, uint64_t value)
{
    const size_t size = kiln_dtype_bits(tensor->desc.dtype) / 8;
    memcpy((char *)tensor->data + index * size, &value, size);
}

/* Returns how many fit, up to the first that overflows the type, which JSON allows. */
static size_t put_reals(kiln_tensor *tensor, size_t index, double *values, size_t count)
{
    size_t fit = 0;
    if (tensor->desc.dtype == KILN_DTYPE_FLOAT32) {
        float *narrow = (float *)tensor->data + index;
        bool all = true;
        for (size_t i = 0; i < count; i++) {
            narrow[i] = (float)values[i];
            all &= fabsf(narrow[i]) <= FLT_MAX;
        }
        for (fit = all ? count : 0; fit < count && isfinite(narrow[fit]); fit++) {
        }
        return fit;
    }
    if (kiln_tensor_write(tensor, (int64_t)index, count, values) != KILN_OK ||
        kiln_tensor_read(tensor, (int64_t)index, count, values) != KILN_OK) {
        return 0;
    }
    for (; fit < count && isfinite(values[fit]); fit++) {
    }
    return fit;
}

#define PORTION 256 /* elements that are converted to double at a time */

typedef enum fault { FITS, NO_NUMBER, NO_FIT, NO_TEXT, NO_ROOM } fault;

/* Copies a string at json->at: its source may be gone when the model runs. */
static fault read_string(serve_json *json, serve_arena *arena, kiln_span *span)
{
    serve_slice inside;
    if (!serve_json_text(json, &inside)) {
        return NO_TEXT;
    }
    char *plain = serve_arena_take(arena, inside.size + 1);
    if (plain == NULL) {
        return NO_ROOM;
    }
    *span = (kiln_span){plain, serve_json_plain(&inside, plain)};
    return FITS;
}

/* Reads an integer or bool at json->at. */
static fault read_element(serve_json *json, const type_row *row, kiln_tensor *tensor, size_t index)
{
    serve_number number;
    uint64_t value = 0;
    if (row->dtype == KILN_DTYPE_BOOL && (*json->at == 't' || *json->at == 'f')) {
        bool is = false;
        const bool read = serve_json_bool(json, &is);
        put_integer(tensor, index, is ? 1 : 0);
        return read ? FITS : NO_NUMBER;
    }
    if (!serve_number_read(json->at, json->end, &number)) {
        return NO_NUMBER;
    }
    if (!serve_number_integer(&number, row->least, row->most, &value)) {
        return NO_FIT;
    }
    put_integer(tensor, index, value);
    json->at += number.length;
    return FITS;
}

/* Reads as far as numbers follow each other; the caller handles anything else. */
static fault read_run(serve_json *json, const type_row *row, kiln_tensor *tensor, int64_t count,
                      int64_t *index)
{
    double values[PORTION];
    const size_t most = count - *index < PORTION ? (size_t)(count - *index) : PORTION;
    if (row->most != 0) {
        const fault found = read_element(json, row, tensor, (size_t)*index);
        *index += found == FITS;
        return found;
    }
    const size_t found = serve_number_run(&json->at, json->end, values, most);
    const size_t fit = put_reals(tensor, (size_t)*index, values, found);
    *index += (int64_t)fit;
    if (fit != found) {
        return NO_FIT;
    }
    return found != 0 ? FITS : NO_NUMBER;
}

bool serve_numbers_begin(serve_numbers *self, serve_json *json, const kiln_tensor *tensor,
                         serve_arena *arena, char *sentence, size_t size)
{
    *self = (serve_numbers){.tensor = *tensor, .arena = arena, .depth = 1};
    (void)snprintf(sentence, size, "its data is no array");
    return row_of(tensor->desc.dtype) != NULL &&
           kiln_shape_elements(&tensor->desc.shape, &self->count) == KILN_OK &&
           serve_json_enter(json, '[');
}

bool serve_numbers_read(serve_numbers *self, serve_json *json, char *sentence, size_t size)
{
    static const char *const faults[] = {NULL, "is no number", "does not fit the type",
                                         "is no string", "finds no memory"};
    const type_row *row = row_of(self->tensor.desc.dtype);
    while (self->depth > 0) {
        if (json->open && !json->fresh && serve_json_peek(json) == 0 && json->at == json->end) {
            return true;
        }
        if (!serve_json_element(json)) {
            self->depth--;
            if (json->reason != NULL) {
                return false;
            }
        } else if (*json->at == '[') {
            if (++self->depth > SERVE_JSON_DEPTH) {
                return serve_json_fail(json, "it is nested more than 64 levels deep");
            }
            (void)serve_json_enter(json, '[');
        } else if (self->index >= self->count) {
            (void)snprintf(sentence, size,
                           "its data has more than %lld elements, its shape asks for %lld",
                           (long long)self->count, (long long)self->count);
            return false;
        } else {
            const fault found =
                row->dtype == KILN_DTYPE_STRING
                    ? read_string(json, self->arena, (kiln_span *)self->tensor.data + self->index)
                    : read_run(json, row, &self->tensor, self->count, &self->index);
            self->index += found == FITS && row->dtype == KILN_DTYPE_STRING;
            if (found != FITS) {
                (void)snprintf(sentence, size, "element %lld of its data %s (%s)",
                               (long long)self->index, faults[found], row->name);
                return false;
            }
        }
    }
    if (self->index != self->count) {
        (void)snprintf(sentence, size, "its data has %lld elements, its shape asks for %lld",
                       (long long)self->index, (long long)self->count);
    }
    return self->index == self->count;
}

/* --- writing --- */

static void write_integer(const type_row *row, const char *at, size_t bytes, serve_text *text)
{
    uint64_t value = 0;
    memcpy(&value, at, bytes);
    if (row->dtype == KILN_DTYPE_BOOL) {
        serve_text_string(text, value != 0 ? "true" : "false");
    } else if (row->least == 0 && value > INT64_MAX) {
        serve_text_printf(text, "%" PRIu64, value);
    } else {
        const unsigned unused = 64 - (unsigned)bytes * 8;
        const int64_t wide = row->least < 0 ? (int64_t)(value << unused) >> unused : (int64_t)value;
        serve_text_integer(text, wide);
    }
}

/* Digits with which a value of the type reads back exactly. */
static int digits_of(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_FLOAT64   ? 17
           : dtype == KILN_DTYPE_FLOAT32 ? 9
           : dtype == KILN_DTYPE_FLOAT16 ? 5
                                         : 4;
}

/* Uses the C library, but writes a point in every locale. */
static void write_slowly(double value, int digits, serve_text *text)
{
    char written[40];
    (void)snprintf(written, sizeof written, "%.*g", digits, value);
    char *comma = strchr(written, ',');
    if (comma != NULL) {
        *comma = '.';
    }
    serve_text_string(text, written);
}

/* Writes `value` as digits.digits times 10 to the power, without trailing zeros. */
static void put_decimal(uint64_t digits, int count, int power, serve_text *text)
{
    char written[24];
    for (; count > 1 && digits % 10 == 0; count--) {
        digits /= 10;
    }
    for (int i = count; i-- > 0; digits /= 10) {
        written[i] = (char)('0' + digits % 10);
    }
    const bool scientific = power < -4 || power >= count;
    const int whole = scientific ? 1 : power + 1;
    if (whole <= 0) {
        serve_text_append(text, "0.000", (size_t)(2 - whole));
        serve_text_append(text, written, (size_t)count);
        return;
    }
    serve_text_append(text, written, (size_t)whole);
    serve_text_append(text, ".", count > whole);
    serve_text_append(text, written + whole, (size_t)(count - whole));
    serve_text_append(text, "e", scientific);
    if (scientific) {
        serve_text_integer(text, power);
    }
}

/* A value with up to 9 digits is scaled to an integer by one product or quotient of doubles. Its
 * error is at most 2^-52, while a float's neighbours are 6e-8 away. */
static void write_real(double value, int digits, serve_text *text)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const double magnitude = fabs(value);
    if (value == floor(value) && magnitude < 1e6 && !(value == 0 && signbit(value))) {
        serve_text_integer(text, (int64_t)value);
        serve_text_string(text, ".0");
        return;
    }
    if (digits > 9 || !(magnitude >= 1e-12 && magnitude < 1e22)) {
        write_slowly(value, digits, text);
        return;
    }
    int power =
        (ilogb(magnitude) * 78913) >> 18; /* log10(2), rounded down: exact, or 1 too small */
    power += power + 1 <= 22 && power + 1 >= 0 ? magnitude >= powers[power + 1]
             : power + 1 < 0                   ? magnitude * powers[-power - 1] >= 1
                                               : 0;
    const int shift = digits - 1 - power;
    const double scaled = shift >= 0 ? magnitude * powers[shift] : magnitude / powers[-shift];
    uint64_t whole = (uint64_t)(scaled + 0.5);
    if (whole >= (uint64_t)powers[digits]) {
        whole /= 10;
        power++;
    }
    serve_text_append(text, "-", value < 0);
    put_decimal(whole, digits, power, text);
}

static bool write_strings(const kiln_tensor *tensor, int64_t count, serve_text *text,
                          char *sentence, size_t size)
{
    const kiln_span *strings = tensor->data;
    for (int64_t i = 0; i < count; i++) {
        if (!kln_utf8_is_valid(strings[i].data, strings[i].size)) {
            (void)snprintf(sentence, size,
                           "element %lld is not UTF-8, which JSON is; ask for binary_data",
                           (long long)i);
            return false;
        }
        serve_text_append(text, ",", i != 0);
        serve_text_json_bytes(text, strings[i].data, strings[i].size);
    }
    serve_text_append(text, "]", 1);
    return true;
}

bool serve_data_write(const kiln_tensor *tensor, serve_text *text, char *sentence, size_t size)
{
    const type_row *row = row_of(tensor->desc.dtype);
    const size_t bytes = kiln_dtype_bits(tensor->desc.dtype) / 8;
    const int digits = digits_of(tensor->desc.dtype);
    double values[PORTION] = {0};
    int64_t count = 0;
    if (row == NULL || kiln_shape_elements(&tensor->desc.shape, &count) != KILN_OK) {
        (void)snprintf(sentence, size, "its type has no JSON");
        return false;
    }
    serve_text_append(text, "[", 1);
    if (row->dtype == KILN_DTYPE_STRING) {
        return write_strings(tensor, count, text, sentence, size);
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t within = i % PORTION;
        if (i != 0) {
            serve_text_append(text, ",", 1);
        }
        if (row->most != 0) {
            write_integer(row, (const char *)tensor->data + (size_t)i * bytes, bytes, text);
            continue;
        }
        const int64_t portion = count - i < PORTION ? count - i : PORTION;
        if (within == 0 && kiln_tensor_read(tensor, i, (size_t)portion, values) != KILN_OK) {
            (void)snprintf(sentence, size, "%s", kiln_error_message());
            return false;
        }
        if (!isfinite(values[within])) {
            (void)snprintf(sentence, size,
                           "element %lld is %s, which JSON has no word for; ask for binary_data",
                           (long long)i, isnan(values[within]) ? "NaN" : "infinite");
            return false;
        }
        write_real(values[within], digits, text);
    }
    serve_text_append(text, "]", 1);
    return true;
}

/* --- strings, binary --- */

bool serve_data_unpack(serve_slice packed, size_t count, kiln_span *spans, char *sentence,
                       size_t size)
{
    const char *at = packed.at;
    size_t left = packed.size;
    for (size_t i = 0; i < count; i++) {
        uint32_t length = 0;
        if (left >= sizeof length) {
            memcpy(&length, at, sizeof length);
        }
        if (left < sizeof length || length > left - sizeof length) {
            (void)snprintf(sentence, size,
                           "its %zu bytes end in string %zu of the %zu that its shape asks for",
                           packed.size, i, count);
            return false;
        }
        spans[i] = (kiln_span){at + sizeof length, length};
        at += sizeof length + length;
        left -= sizeof length + length;
    }
    if (left != 0) {
        (void)snprintf(sentence, size,
                       "the strings that its shape asks for take %zu of its %zu bytes",
                       packed.size - left, packed.size);
    }
    return left == 0;
}

bool serve_data_pack(const kiln_tensor *tensor, serve_text *text)
{
    const kiln_span *strings = tensor->data;
    for (size_t i = 0; i < tensor->bytes / sizeof *strings; i++) {
        const uint32_t length = (uint32_t)strings[i].size;
        if (strings[i].size > UINT32_MAX) {
            return false;
        }
        serve_text_append(text, &length, sizeof length);
        serve_text_append(text, strings[i].data, length);
    }
    return true;
}

/* --- classes --- */

typedef struct ranked {
    double value;
    int64_t index;
} ranked;

/* NaN comes last. */
static int by_rank(const void *a, const void *b)
{
    const ranked *left = a;
    const ranked *right = b;
    const bool lost = isnan(left->value) || isnan(right->value);
    const int order = lost ? (isnan(left->value) ? 1 : 0) - (isnan(right->value) ? 1 : 0)
                           : (left->value < right->value) - (left->value > right->value);
    return order != 0 ? order : (left->index > right->index) - (left->index < right->index);
}

bool serve_data_classes(const kiln_tensor *tensor, int64_t first, int64_t length, int64_t count,
                        bool binary, char *const *labels, size_t label_count, serve_text *text)
{
    ranked *all = malloc((size_t)length * sizeof *all + 1);
    bool read = all != NULL;
    for (int64_t i = 0; read && i < length; i++) {
        all[i].index = i;
        read = kiln_tensor_read(tensor, first + i, 1, &all[i].value) == KILN_OK;
    }
    if (read) {
        qsort(all, (size_t)length, sizeof *all, by_rank);
    }
    for (int64_t i = 0; read && i < count; i++) {
        char class[300];
        const char *label = (size_t)all[i].index < label_count ? labels[all[i].index] : NULL;
        (void)snprintf(class, sizeof class, "%f:%lld%s%.200s", all[i].value,
                       (long long)all[i].index, label != NULL ? ":" : "",
                       label != NULL ? label : "");
        const uint32_t size = (uint32_t)strlen(class);
        if (binary) {
            serve_text_append(text, &size, sizeof size);
            serve_text_append(text, class, size);
        } else {
            serve_text_string(text, i > 0 ? "," : "");
            serve_text_json(text, class);
        }
    }
    free(all);
    return read;
}
