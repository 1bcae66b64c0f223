/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <cJSON.h>

#include "kln_precision.h"

/* Positive steps of a signed 8-bit number, as TensorRT counts them. */
#define LEVELS 127.0

/* --- TensorRT's calibration cache --- */

static bool next_line(kiln_span *text, kiln_span *line)
{
    if (text->size == 0) {
        return false;
    }
    const char *begin = text->data;
    const char *end = memchr(begin, '\n', text->size);
    const size_t length = end != NULL ? (size_t)(end - begin) : text->size;
    const size_t taken = length + (end != NULL);
    *line = (kiln_span){begin, length > 0 && begin[length - 1] == '\r' ? length - 1 : length};
    *text = (kiln_span){begin + taken, text->size - taken};
    return true;
}

static kiln_status fail_line(size_t number, kiln_span line, const char *needed)
{
    return kln_fail(KILN_ERROR_MALFORMED, "line %zu of a calibration cache: %s, this is \"%.*s\"",
                    number, needed, (int)(line.size < 200 ? line.size : 200),
                    (const char *)line.data);
}

/* The bits of a float in up to eight hexadecimal digits; false if it is anything else. */
static bool read_scale(const char *digits, size_t count, double *scale)
{
    uint32_t bits = 0;
    float value = 0;
    if (count == 0 || count > 8) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        static const char hex[] = "0123456789abcdefABCDEF";
        const char *at = digits[i] != '\0' ? strchr(hex, digits[i]) : NULL;
        if (at == NULL) {
            return false;
        }
        bits = bits << 4 | (uint32_t)(at - hex < 16 ? at - hex : at - hex - 6);
    }
    memcpy(&value, &bits, sizeof value);
    *scale = (double)value;
    return isfinite(value) && value >= 0;
}

/* A name may itself contain colons, so the last one counts. */
static kiln_status read_line(kiln_range_table *table, size_t number, kiln_span line, kln_text *name)
{
    const char *begin = line.data;
    size_t colon = line.size;
    double scale = 0;
    while (colon > 0 && begin[colon - 1] != ':') {
        colon--;
    }
    size_t digits = colon;
    while (digits < line.size && begin[digits] == ' ') {
        digits++;
    }
    KLN_FAIL_IF(colon < 2 || memchr(begin, '\0', colon) != NULL ||
                    !read_scale(begin + digits, line.size - digits, &scale),
                fail_line(number, line, "\"name: 3c010a14\" is needed, the bits of a scale"));
    name->size = 0;
    KLN_RETURN_IF_ERROR(kln_text_append(name, begin, colon - 1));
    KLN_FAIL_IF(kiln_range_table_find(table, name->data) != NULL,
                fail_line(number, line, "the tensor has a scale already"));
    return kiln_range_table_set(table, name->data, -LEVELS * scale, LEVELS * scale);
}

/* Reads into an empty table. */
static kiln_status read_cache(kiln_span text, kiln_range_table *table)
{
    kiln_span line = {NULL, 0};
    KLN_SCOPED(kln_text_finish) kln_text word = {0};
    size_t number = 1;
    kln_text_init(&word, KLN_MOST_RANGE_TEXT);
    kiln_status status = KILN_OK;
    if (next_line(&text, &line)) {
        status = kln_text_append(&word, line.data, line.size);
    }
    KLN_THEN(status, line.data != NULL && memchr(line.data, '\0', line.size) == NULL
                         ? kiln_range_table_set_header(table, word.data)
                         : KILN_ERROR_INVALID_ARGUMENT);
    if (status == KILN_ERROR_INVALID_ARGUMENT) {
        status = fail_line(number, line, "a header like " KILN_CACHE_HEADER " is needed");
    }
    while (status == KILN_OK && next_line(&text, &line)) {
        number++;
        status = line.size > 0 ? read_line(table, number, line, &word) : KILN_OK;
    }
    return status;
}

static kiln_status write_line(const kiln_range *range, kln_text *text)
{
    if (strpbrk(range->name, "\r\n") != NULL) {
        return kln_fail(KILN_ERROR_NAME,
                        "tensor \"%.200s\" has a line break in its name, which a calibration cache "
                        "has no room for; write JSON, to a name that ends in .json",
                        range->name);
    }
    const float scale = (float)(fmax(fabs(range->low), fabs(range->high)) / LEVELS);
    if (!isfinite(scale)) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "tensor \"%.200s\" ranges from %g to %g, whose scale no float32 of a "
                        "calibration cache holds; write JSON, to a name that ends in .json",
                        range->name, range->low, range->high);
    }
    uint32_t bits = 0;
    memcpy(&bits, &scale, sizeof bits);
    return kln_text_printf(text, "%s: %" PRIx32 "\n", range->name, bits);
}

kiln_status kln_ranges_write_cache(const kiln_range_table *table, kln_text *text)
{
    KLN_RETURN_IF_ERROR(kln_text_printf(text, "%s\n", kiln_range_table_header(table)));
    for (size_t i = 0; i < kiln_range_table_count(table); i++) {
        KLN_RETURN_IF_ERROR(write_line(kiln_range_table_at(table, i), text));
    }
    return KILN_OK;
}

/* --- JSON --- */

/* A missing key leaves the number unchanged. */
static bool read_number(const cJSON *object, const char *key, double *number)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (cJSON_IsNumber(item)) {
        *number = item->valuedouble;
    }
    return item == NULL || cJSON_IsNumber(item);
}

static bool read_count(const cJSON *object, const char *key, uint64_t *count)
{
    double number = 0;
    const bool fits =
        read_number(object, key, &number) && number >= 0 && number <= KLN_JSON_LARGEST_INTEGER;
    *count = fits ? (uint64_t)number : 0;
    return fits;
}

static bool read_channel(const cJSON *list, kiln_channel *channel)
{
    double numbers[4] = {0};
    size_t count = 0;
    const cJSON *number = NULL;
    cJSON_ArrayForEach(number, list)
    {
        if (count == 4 || !cJSON_IsNumber(number)) {
            return false;
        }
        numbers[count++] = number->valuedouble;
    }
    *channel = (kiln_channel){numbers[0], numbers[1], numbers[2], numbers[3]};
    return count == 4;
}

/* The caller frees `*channels` with kln_free. */
static kiln_status read_channels(const cJSON *item, kiln_channel **channels, size_t *count)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(item, "channels");
    const size_t most = cJSON_IsArray(list) ? (size_t)cJSON_GetArraySize(list) : 0;
    const cJSON *each = NULL;
    bool fits = list == NULL || cJSON_IsArray(list);
    *count = 0;
    *channels = most != 0 ? kln_alloc_zeroed(most, sizeof **channels) : NULL;
    KLN_FAIL_IF(most != 0 && *channels == NULL,
                kln_fail_memory(most * sizeof **channels, "the channels of a range"));
    if (most != 0) {
        cJSON_ArrayForEach(each, list)
        {
            fits = fits && read_channel(each, &(*channels)[(*count)++]);
        }
    }
    return fits ? KILN_OK
                : kln_fail(KILN_ERROR_MALFORMED,
                           "tensor \"%.200s\" of a table of ranges: in \"channels\" four numbers "
                           "are needed for each",
                           item->string);
}

static bool read_range(const cJSON *item, kiln_range *range)
{
    *range = KILN_RANGE(.name = item->string, .low = (double)NAN, .high = (double)NAN);
    if (!cJSON_IsObject(item) || !read_number(item, "low", &range->low) ||
        !read_number(item, "high", &range->high)) {
        return false;
    }
    range->least = range->low;
    range->greatest = range->high;
    return read_number(item, "least", &range->least) &&
           read_number(item, "greatest", &range->greatest) &&
           read_count(item, "count", &range->count) && read_count(item, "nans", &range->nans) &&
           read_count(item, "infinities", &range->infinities);
}

static kiln_status read_ranges(const cJSON *ranges, kiln_range_table *table)
{
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, ranges)
    {
        kiln_range range;
        kiln_channel *channels = NULL;
        KLN_RETURN_IF(
            kiln_range_table_find(table, item->string) != NULL || !read_range(item, &range),
            KILN_ERROR_MALFORMED,
            "tensor \"%.200s\" of a table of ranges: one object with the numbers "
            "\"low\" and \"high\" is needed",
            item->string);
        kiln_status status = read_channels(item, &channels, &range.channel_count);
        range.channels = channels;
        KLN_THEN(status, kiln_range_table_put(table, &range));
        kln_free(channels);
        if (status != KILN_OK) {
            return status == KILN_ERROR_OUT_OF_MEMORY || status == KILN_ERROR_MALFORMED
                       ? status
                       : kln_fail_within(KILN_ERROR_MALFORMED, "a table of ranges");
        }
    }
    return KILN_OK;
}

static kiln_status read_root(const cJSON *root, kiln_range_table *table)
{
    const cJSON *ranges = cJSON_GetObjectItemCaseSensitive(root, "ranges");
    const cJSON *header = cJSON_GetObjectItemCaseSensitive(root, "header");
    KLN_RETURN_IF(!cJSON_IsObject(ranges) || (header != NULL && !cJSON_IsString(header)),
                  KILN_ERROR_MALFORMED,
                  "a table of ranges in JSON has an object \"ranges\" "
                  "and, if it likes, a text \"header\"");
    if (header != NULL) {
        const kiln_status status = kiln_range_table_set_header(table, header->valuestring);
        if (status != KILN_OK) {
            return status == KILN_ERROR_OUT_OF_MEMORY
                       ? status
                       : kln_fail_within(KILN_ERROR_MALFORMED, "\"header\"");
        }
    }
    return read_ranges(ranges, table);
}

static kiln_status read_json(kiln_span text, kiln_range_table *table)
{
    cJSON *root = NULL;
    KLN_RETURN_IF_ERROR(kln_json_parse(text, KLN_MOST_RANGE_TEXT, "a table of ranges", "", &root));
    const kiln_status status = read_root(root, table);
    cJSON_Delete(root);
    return status;
}

/* With as few digits as read back to the same number, which cJSON's own output does not guarantee.
 * The locale may use another decimal point. */
static void write_number(double number, char text[40])
{
    size_t size = 0;
    for (int digits = 15; digits == 15 || (digits < 18 && strtod(text, NULL) != number); digits++) {
        (void)snprintf(text, 40, "%.*g", digits, number);
    }
    for (size_t i = 0; text[i] != '\0'; i++) {
        const bool is_point = strchr("0123456789+-e", text[i]) == NULL;
        if (!is_point || (size > 0 && text[size - 1] != '.')) {
            text[size++] = is_point ? '.' : text[i];
        }
    }
    text[size] = '\0';
}

static bool add_number(cJSON *object, const char *key, double number)
{
    char text[40];
    write_number(number, text);
    return cJSON_AddRawToObject(object, key, text) != NULL;
}

/* As raw text: a cJSON tree of so many numbers is slow and takes much memory. */
static bool add_channels(cJSON *object, const kiln_range *range)
{
    KLN_SCOPED(kln_text_finish) kln_text text = {0};
    kln_text_init(&text, KLN_MOST_RANGE_TEXT);
    kiln_status status = kln_text_printf(&text, "[");
    for (size_t i = 0; status == KILN_OK && i < range->channel_count; i++) {
        const kiln_channel *c = &range->channels[i];
        const double numbers[4] = {c->least, c->greatest, c->mean, c->deviation};
        for (size_t k = 0; status == KILN_OK && k < 4; k++) {
            char number[40];
            write_number(numbers[k], number);
            status = kln_text_printf(&text, "%s%s%s",
                                     k > 0   ? ", "
                                     : i > 0 ? ", ["
                                             : "[",
                                     number, k == 3 ? "]" : "");
        }
    }
    KLN_THEN(status, kln_text_printf(&text, "]"));
    return status == KILN_OK && cJSON_AddRawToObject(object, "channels", text.data) != NULL;
}

static bool add_count(cJSON *object, const char *key, uint64_t count)
{
    return count == 0 || cJSON_AddNumberToObject(object, key, (double)count) != NULL;
}

static bool add_range(cJSON *ranges, const kiln_range *range)
{
    cJSON *object = cJSON_AddObjectToObject(ranges, range->name);
    return object != NULL && add_number(object, "low", range->low) &&
           add_number(object, "high", range->high) && add_number(object, "least", range->least) &&
           add_number(object, "greatest", range->greatest) &&
           add_count(object, "count", range->count) && add_count(object, "nans", range->nans) &&
           add_count(object, "infinities", range->infinities) &&
           (range->channel_count == 0 || add_channels(object, range));
}

kiln_status kln_ranges_write_json(const kiln_range_table *table, kln_text *text)
{
    kln_json_begin();
    cJSON *root = cJSON_CreateObject();
    bool added = root != NULL &&
                 cJSON_AddStringToObject(root, "header", kiln_range_table_header(table)) != NULL;
    cJSON *ranges = added ? cJSON_AddObjectToObject(root, "ranges") : NULL;
    added = ranges != NULL;
    for (size_t i = 0; added && i < kiln_range_table_count(table); i++) {
        added = add_range(ranges, kiln_range_table_at(table, i));
    }
    char *printed = added ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    KLN_RETURN_IF_NO_MEMORY(printed, kiln_range_table_count(table) * 64, "a table of ranges");
    const kiln_status status = kln_text_printf(text, "%s\n", printed);
    cJSON_free(printed);
    return status;
}

static bool is_json(kiln_span bytes)
{
    const char *text = bytes.data;
    size_t at = 0;
    while (at < bytes.size && isspace((unsigned char)text[at])) {
        at++;
    }
    return at < bytes.size && text[at] == '{';
}

kiln_status kiln_range_table_load_bytes(kiln_span bytes, kiln_range_table **table)
{
    KLN_RETURN_IF_NULL_RESULT(table);
    KLN_FAIL_IF(bytes.data == NULL && bytes.size > 0, kln_fail_null(__func__, "bytes.data"));
    if (bytes.size == 0) {
        return kln_fail(KILN_ERROR_EMPTY,
                        "a table of ranges has no bytes; a calibration cache or JSON is needed");
    }
    KLN_RETURN_IF(bytes.size > KLN_MOST_RANGE_TEXT, KILN_ERROR_LIMIT,
                  "a table of ranges of %zu bytes was refused, %zu are "
                  "allowed",
                  bytes.size, KLN_MOST_RANGE_TEXT);
    KLN_SCOPED(kiln_range_table_destroy_at) kiln_range_table *made = NULL;
    KLN_RETURN_IF_ERROR(kiln_range_table_create(&made));
    KLN_RETURN_IF_ERROR(is_json(bytes) ? read_json(bytes, made) : read_cache(bytes, made));
    *table = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kiln_range_table_load(const char *path, kiln_range_table **table)
{
    KLN_RETURN_IF_NULL_RESULT(table, path);
    KLN_SCOPED(kln_mapping_close) kln_mapping mapping = {0};
    KLN_RETURN_IF_ERROR(kln_mapping_open(path, &mapping));
    const kiln_status status = kiln_range_table_load_bytes(mapping.bytes, table);
    return status == KILN_OK ? status : kln_fail_within(status, "\"%s\"", path);
}

kiln_status kiln_range_table_save(const kiln_range_table *table, const char *path)
{
    KLN_RETURN_IF_NULL(table, path);
    const size_t length = strlen(path);
    KLN_SCOPED(kln_text_finish) kln_text text = {0};
    kln_text_init(&text, KLN_MOST_RANGE_TEXT);
    KLN_RETURN_IF_ERROR(length > 5 && strcmp(path + length - 5, ".json") == 0
                            ? kln_ranges_write_json(table, &text)
                            : kln_ranges_write_cache(table, &text));
    const kiln_span whole = {text.data, text.size};
    return kln_file_write(path, &whole, 1, false);
}
