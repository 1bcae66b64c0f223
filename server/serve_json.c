/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_json.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

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
    if (json->reason != NULL || json->at == json->end || *json->at == '\0') {
        return 0;
    }
    return strchr("{[\"tfn-0123456789", *json->at) != NULL ? *json->at : (char)0;
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

/* Whether another entry comes before `bracket`, which is taken where not. */
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

/* The code point of the escape behind a backslash; its bytes, or 0. A surrogate has its pair. */
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

/* Steps over a string with its quotes. */
static bool skip_string(serve_json *json, serve_slice *inside)
{
    const char *at = json->at + 1;
    while (at < json->end && *at != '"') {
        unsigned point = 0;
        const size_t length = *at == '\\'                 ? escape(at + 1, json->end, &point)
                              : (unsigned char)*at < 0x20 ? 0
                                                          : serve_utf8_length(at, json->end);
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

static size_t put_utf8(unsigned point, char *text)
{
    if (point < 0x80) {
        text[0] = (char)point;
        return 1;
    }
    const size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; point >>= 6) {
        text[i] = (char)(0x80 | (point & 0x3f));
    }
    text[0] = (char)((0xf00U >> length & 0xff) | point);
    return length;
}

/* False where it does not fit, or holds a NUL. */
static bool decode(const serve_slice *inside, char *text, size_t size)
{
    const char *end = inside->at + inside->size;
    size_t used = 0;
    for (const char *at = inside->at; at < end;) {
        char piece[4] = {*at};
        size_t length = 1;
        if (*at == '\\') {
            unsigned point = 0;
            at += escape(at + 1, end, &point);
            length = put_utf8(point, piece);
        }
        at++;
        if (used + length >= size || piece[0] == '\0') {
            return false;
        }
        memcpy(text + used, piece, length);
        used += length;
    }
    text[used] = '\0';
    return true;
}

bool serve_json_is(const serve_slice *key, const char *word)
{
    char text[64];
    if (memchr(key->at, '\\', key->size) == NULL) {
        return strlen(word) == key->size && memcmp(key->at, word, key->size) == 0;
    }
    return decode(key, text, sizeof text) && strcmp(text, word) == 0;
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
    const size_t length = serve_number_length(json->at, json->end);
    json->at += length;
    return length != 0 || serve_json_fail(json, "a number is broken");
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
    char open[SERVE_JSON_DEPTH]; /* brackets that are to be closed */
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

bool serve_json_integer(serve_json *json, int64_t *value)
{
    const char first = serve_json_peek(json);
    const char *begin = json->at;
    uint64_t found = 0;
    if ((first != '-' && (first < '0' || first > '9')) || !skip_number(json) ||
        !serve_number_integer(begin, (size_t)(json->at - begin), INT64_MIN, INT64_MAX, &found)) {
        return serve_json_fail(json, "an integer is needed");
    }
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

/* --- numbers --- */

static const char *digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return at;
}

size_t serve_number_length(const char *at, const char *end)
{
    const char *begin = at;
    at += at < end && *at == '-' ? 1 : 0;
    const char *whole = at;
    at = digits(at, end);
    if (at == whole || (*whole == '0' && at - whole > 1)) {
        return 0;
    }
    if (at < end && *at == '.') {
        const char *point = ++at;
        at = digits(at, end);
        if (at == point) {
            return 0;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-') ? 1 : 0;
        const char *exponent = at;
        at = digits(at, end);
        if (at == exponent) {
            return 0;
        }
    }
    return (size_t)(at - begin);
}

static locale_t plain;

static void make_locale(void)
{
    plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* By the C library, in the locale "C". */
static double slow_double(const char *at, size_t length)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char shorter[400];
    (void)pthread_once(&once, make_locale);
    char *text = plain == (locale_t)0      ? NULL
                 : length < sizeof shorter ? shorter
                                           : malloc(length + 1);
    if (text == NULL) {
        return (double)NAN;
    }
    memcpy(text, at, length);
    text[length] = '\0';
    const double value = strtod_l(text, NULL, plain);
    if (text != shorter) {
        free(text);
    }
    return value;
}

/* The digits of a number, without its sign: so many of `mantissa` times a power of ten. */
typedef struct decimal {
    uint64_t mantissa;
    int exponent;
    bool cut; /* what follows the 19th digit is left out, and it is not 0 */
} decimal;

static decimal read_decimal(const char *at, const char *end)
{
    decimal read = {.mantissa = 0};
    bool fraction = false;
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (read.mantissa < UINT64_C(1000000000000000000)) {
            read.mantissa = read.mantissa * 10 + (uint64_t)(*at - '0');
            read.exponent -= fraction ? 1 : 0;
        } else {
            read.cut = read.cut || *at != '0';
            read.exponent += fraction ? 0 : 1;
        }
    }
    if (at < end) {
        const bool down = at[1] == '-';
        int written = 0;
        for (at += down || at[1] == '+' ? 2 : 1; at < end && written < 1000; at++) {
            written = written * 10 + (*at - '0');
        }
        read.exponent += down ? -written : written;
    }
    return read;
}

/* Where a long double has 64 bits, it holds the mantissa and 10^27, and their product or quotient
 * is wrong by 2^-64 of it at most, by 2^-59 where digits were cut. If both ends of that are rounded
 * to one double, so is the number. */
static bool wide_double(const decimal *read, double *value)
{
#if LDBL_MANT_DIG >= 64
    static const long double powers[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,
                                         1e7L,  1e8L,  1e9L,  1e10L, 1e11L, 1e12L, 1e13L,
                                         1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L,
                                         1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
    if (read->exponent < -27 || read->exponent > 27) {
        return false;
    }
    const long double whole = (long double)read->mantissa;
    const long double wide =
        read->exponent < 0 ? whole / powers[-read->exponent] : whole * powers[read->exponent];
    const long double off = read->cut ? 0x1p-58L : 0x1p-62L;
    *value = (double)(wide - wide * off);
    return *value == (double)(wide + wide * off);
#else
    (void)read;
    (void)value;
    return false;
#endif
}

/* An integer up to 2^53 times or by a power of ten that a double holds is rounded once, and so
 * right: W. D. Clinger, How to read floating point numbers accurately, 1990. */
double serve_number_double(const char *at, size_t length)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const bool negative = *at == '-';
    const decimal read = read_decimal(at + (negative ? 1 : 0), at + length);
    double value = 0.0;
    if (!read.cut && read.mantissa <= UINT64_C(1) << 53 && read.exponent >= -22 &&
        read.exponent <= 22) {
        value = read.exponent < 0 ? (double)read.mantissa / powers[-read.exponent]
                                  : (double)read.mantissa * powers[read.exponent];
    } else if (!wide_double(&read, &value)) {
        return slow_double(at, length);
    }
    return negative ? -value : value;
}

bool serve_number_integer(const char *at, size_t length, int64_t least, uint64_t most,
                          uint64_t *value)
{
    const char *end = at + length;
    const bool negative = *at == '-';
    const uint64_t limit = negative ? 0 - (uint64_t)least : most;
    const char *here = at + (negative ? 1 : 0);
    uint64_t magnitude = 0;
    for (; here < end && *here >= '0' && *here <= '9'; here++) {
        const uint64_t digit = (uint64_t)(*here - '0');
        if (magnitude > (UINT64_MAX - digit) / 10) {
            return false;
        }
        magnitude = magnitude * 10 + digit;
    }
    if (here < end) { /* 3.0 and 1e3 are integers too */
        const double real = fabs(serve_number_double(at, length));
        if (!(real < 9007199254740992.0) || real != floor(real)) {
            return false;
        }
        magnitude = (uint64_t)real;
    }
    *value = negative ? 0 - magnitude : magnitude;
    return magnitude <= limit;
}
