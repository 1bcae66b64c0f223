/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "kln_options.h"

static kiln_status parse_number(const kln_option *option, const char *text,
                                kiln_build_options *options)
{
    const char *const *words = kln_option_words(option);
    char possible[KLN_OPTION_RANGE];
    int64_t number = 0;
    bool good = false;
    if (words != NULL) {
        while (words[number] != NULL && strcmp(words[number], text) != 0) {
            number++;
        }
        good = words[number] != NULL;
    } else {
        char *end = NULL;
        errno = 0;
        number = strtoll(text, &end, 10);
        good = end != text && *end == '\0' && errno == 0 && number >= option->shown.least &&
               number <= option->shown.most;
    }
    if (!good) {
        kln_option_range(option, possible);
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT, "%s: \"%.80s\" was given; it must be %s",
                        option->shown.name, text, possible);
    }
    kln_option_set_number(option, number, options);
    return KILN_OK;
}

/* --- appending to a list --- */

static kiln_status append(const kln_option *option, kln_arena *arena, const void *item, size_t size,
                          kiln_build_options *options)
{
    size_t count = 0;
    const void *items = kln_option_items(option, options, &count);
    KLN_RETURN_IF(count >= (uint64_t)option->shown.most, KILN_ERROR_INVALID_ARGUMENT,
                  "%s: %lld are the limit", option->shown.name, (long long)option->shown.most);
    unsigned char *grown = kln_arena_alloc(arena, (count + 1) * size);
    KLN_RETURN_IF_NO_MEMORY(grown, (count + 1) * size, "an option");
    if (count > 0) {
        memcpy(grown, items, count * size);
    }
    memcpy(grown + count * size, item, size);
    kln_option_set_items(option, grown, count + 1, options);
    return KILN_OK;
}

static kiln_status parse_integers(const kln_option *option, const char *text, kln_arena *arena,
                                  kiln_build_options *options)
{
    kiln_build_options made = *options;
    for (const char *at = text; at == text || at[-1] == ',';) {
        char *end = NULL;
        const long value = strtol(at, &end, 10);
        const int32_t item = (int32_t)value;
        KLN_RETURN_IF(end == at || (*end != ',' && *end != '\0') || value < 1 || value > INT32_MAX,
                      KILN_ERROR_INVALID_ARGUMENT,
                      "%s: \"%.80s\" was given; it must be numbers such as 80,89,120",
                      option->shown.name, text);
        KLN_RETURN_IF_ERROR(append(option, arena, &item, sizeof item, &made));
        at = end + 1;
    }
    *options = made;
    return KILN_OK;
}

static kiln_status parse_shape_hint(const kln_option *option, const char *text, kln_arena *arena,
                                    kiln_build_options *options)
{
    const char *equals = strrchr(text, '=');
    kiln_shape_hint hint = {.name = NULL};
    KLN_RETURN_IF(
        equals == NULL || equals == text || kiln_shape_parse(equals + 1, &hint.shape) != KILN_OK,
        KILN_ERROR_INVALID_ARGUMENT,
        "%s: \"%.200s\" cannot be read; NAME=SHAPE is needed, as in x=8x3x224x224",
        option->shown.name, text);
    hint.name = kln_arena_strndup(arena, text, (size_t)(equals - text));
    return hint.name != NULL ? append(option, arena, &hint, sizeof hint, options)
                             : kln_fail_memory((size_t)(equals - text), "an option");
}

static kiln_status parse_profile(const kln_option *option, const char *text, kln_arena *arena,
                                 kiln_build_options *options)
{
    kiln_profile profile;
    const kiln_status status = kln_profile_parse(text, arena, &profile);
    return status != KILN_OK ? kln_fail_within(status, "%s", option->shown.name)
                             : append(option, arena, &profile, sizeof profile, options);
}

static kiln_status parse_text(const kln_option *option, const char *text, kln_arena *arena,
                              kiln_build_options *options)
{
    const char *copy = kln_arena_strdup(arena, text);
    KLN_RETURN_IF_NO_MEMORY(copy, strlen(text), "an option");
    if (option->count_offset != 0) {
        return append(option, arena, &copy, sizeof copy, options);
    }
    kln_option_set_items(option, copy, 0, options);
    return KILN_OK;
}

kiln_status kln_option_parse(const kln_option *option, const char *text, kln_arena *arena,
                             kiln_build_options *options)
{
    switch (option->shown.kind) {
        case KILN_OPTION_FLAG:
        case KILN_OPTION_CHOICE:
        case KILN_OPTION_INTEGER:
        case KILN_OPTION_LEVEL:
        case KILN_OPTION_BYTES: return parse_number(option, text, options);
        case KILN_OPTION_TEXT:
        case KILN_OPTION_PATH:
        case KILN_OPTION_LIBRARY:
        case KILN_OPTION_TEXTS:
        case KILN_OPTION_PATHS: return parse_text(option, text, arena, options);
        case KILN_OPTION_INTEGERS: return parse_integers(option, text, arena, options);
        case KILN_OPTION_PROFILES: return parse_profile(option, text, arena, options);
        case KILN_OPTION_SHAPES: return parse_shape_hint(option, text, arena, options);
        case KILN_OPTION_SPAN:
        case KILN_OPTION_POINTER: break;
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "%s: it is something in memory, which has no text; set the member",
                    option->shown.name);
}

/* --- formatting --- */

static kiln_status format_item(kiln_option_kind kind, const void *items, size_t index,
                               kln_text *text)
{
    char shape[256];
    const kiln_shape_hint *hint = (const kiln_shape_hint *)items + index;
    switch (kind) {
        case KILN_OPTION_INTEGERS:
            return kln_text_printf(text, "%d", ((const int32_t *)items)[index]);
        case KILN_OPTION_PROFILES:
            return kln_profile_format((const kiln_profile *)items + index, text);
        case KILN_OPTION_SHAPES:
            (void)kiln_shape_format(&hint->shape, shape, sizeof shape);
            return kln_text_printf(text, "%s=%s", hint->name, shape);
        default: return kln_text_printf(text, "%s", ((const char *const *)items)[index]);
    }
}

kiln_status kln_option_format(const kln_option *option, const kiln_build_options *options,
                              kln_text *text)
{
    const kiln_option_kind kind = option->shown.kind;
    if (kind < KILN_OPTION_TEXT) {
        const int64_t number = kln_option_number(option, options);
        const char *const *words = kln_option_words(option);
        return words != NULL && number >= 0 && number <= option->shown.most
                   ? kln_text_printf(text, "%s", words[number])
                   : kln_text_printf(text, "%" PRId64, number);
    }
    KLN_RETURN_IF(kind == KILN_OPTION_SPAN || kind == KILN_OPTION_POINTER, KILN_ERROR_UNSUPPORTED,
                  "%s: it is something in memory, which has no text; read the member",
                  option->shown.name);
    size_t count = 0;
    const void *items = kln_option_items(option, options, &count);
    if (option->count_offset == 0) {
        return kln_text_printf(text, "%s", items != NULL ? (const char *)items : "");
    }
    for (size_t i = 0; items != NULL && i < count; i++) {
        KLN_RETURN_IF_ERROR(kln_text_printf(text, "%s", i > 0 ? "\n" : ""));
        KLN_RETURN_IF_ERROR(format_item(kind, items, i, text));
    }
    return KILN_OK;
}

/* --- by name --- */

#define LONGEST_NAME 64

/* The edit distance of two words: letters to change, insert or delete. */
static size_t distance(const char *a, const char *b)
{
    size_t row[LONGEST_NAME + 1];
    const size_t length = strlen(b);
    for (size_t k = 0; k <= length; k++) {
        row[k] = k;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t k = 1; k <= length; k++) {
            const size_t changed = diagonal + (a[i - 1] != b[k - 1]);
            const size_t added = (row[k] < row[k - 1] ? row[k] : row[k - 1]) + 1;
            diagonal = row[k];
            row[k] = changed < added ? changed : added;
        }
    }
    return row[length];
}

static kiln_status find(const char *name, const kln_option **option)
{
    *option = kln_option_find(name);
    if (*option != NULL) {
        return KILN_OK;
    }
    const kln_option *closest = kln_options;
    size_t least = SIZE_MAX;
    for (const kln_option *at = kln_options; at->groups != 0 && strlen(name) <= LONGEST_NAME;
         at++) {
        const size_t found = distance(name, at->shown.name);
        if (found < least) {
            closest = at;
            least = found;
        }
    }
    return least <= strlen(name) / 3 + 1
               ? kln_fail(KILN_ERROR_NAME, "there is no build option \"%s\"; did you mean %s?",
                          name, closest->shown.name)
               : kln_fail(KILN_ERROR_NAME,
                          "there is no build option \"%.80s\"; kiln_build_option_get lists them",
                          name);
}

/* What kiln_build_options_create allocates. */
typedef struct owned_options {
    kiln_build_options options;
    kln_arena arena;
} owned_options;

kiln_status kiln_build_options_create(kiln_build_options **options)
{
    KLN_RETURN_IF_NULL_RESULT(options);
    owned_options *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "build options");
    made->options.struct_size = sizeof made->options;
    made->options.owner = made;
    *options = &made->options;
    return KILN_OK;
}

void kiln_build_options_destroy(kiln_build_options *options)
{
    /* Only the original is owned, not a copy of the struct. */
    if (options != NULL && options->owner == options) {
        kln_arena_finish(&((owned_options *)options->owner)->arena);
        kln_free(options);
    }
}

kiln_status kiln_build_options_set(kiln_build_options *options, const char *name, const char *value)
{
    const kln_option *option = NULL;
    KLN_RETURN_IF_NULL(options, name);
    KLN_RETURN_IF(options->owner != options, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_options_set: these options were not made by "
                  "kiln_build_options_create, and cannot keep what they are given");
    KLN_RETURN_IF_ERROR(find(name, &option));
    if (value != NULL) {
        return kln_option_parse(option, value, &((owned_options *)options->owner)->arena, options);
    }
    kln_option_reset(option, options);
    return KILN_OK;
}

kiln_status kiln_build_options_get(const kiln_build_options *options, const char *name, char *text,
                                   size_t size, size_t *length)
{
    const kln_option *option = NULL;
    kiln_build_options read = KILN_BUILD_OPTIONS_INIT;
    KLN_SCOPED(kln_text_finish) kln_text made = {0};
    KLN_RETURN_IF_NULL_RESULT(length, options, name);
    if (size > 0) {
        KLN_RETURN_IF_NULL(text);
        text[0] = '\0';
    }
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_build_options", options, &read, sizeof read));
    KLN_RETURN_IF_ERROR(find(name, &option));
    kln_text_init(&made, SIZE_MAX / 2);
    KLN_RETURN_IF_ERROR(kln_option_format(option, &read, &made));
    *length = made.size;
    if (size > 0) {
        (void)snprintf(text, size, "%s", made.data != NULL ? made.data : "");
    }
    return KILN_OK;
}
