/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_options.h"

static const void *member_of(const kln_option *option, const kiln_build_options *options)
{
    return (const unsigned char *)options + option->offset;
}

int64_t kln_option_number(const kln_option *option, const kiln_build_options *options)
{
    const unsigned char *member = member_of(option, options);
    int64_t large = 0;
    int32_t small = 0;
    switch (option->size) {
        case sizeof large: memcpy(&large, member, sizeof large); return large;
        case sizeof small: memcpy(&small, member, sizeof small); return small;
        default: return *member != 0; /* a flag */
    }
}

void kln_option_set_number(const kln_option *option, int64_t number, kiln_build_options *options)
{
    unsigned char *member = (unsigned char *)options + option->offset;
    const int32_t small = (int32_t)number;
    switch (option->size) {
        case sizeof number: memcpy(member, &number, sizeof number); break;
        case sizeof small: memcpy(member, &small, sizeof small); break;
        default: *member = number != 0;
    }
}

const void *kln_option_items(const kln_option *option, const kiln_build_options *options,
                             size_t *count)
{
    const void *items = NULL;
    *count = 0;
    memcpy(&items, member_of(option, options), sizeof items);
    if (option->count_offset != 0) {
        memcpy(count, (const unsigned char *)options + option->count_offset, sizeof *count);
    }
    return items;
}

void kln_option_set_items(const kln_option *option, const void *items, size_t count,
                          kiln_build_options *options)
{
    memcpy((unsigned char *)options + option->offset, &items, sizeof items);
    if (option->count_offset != 0) {
        memcpy((unsigned char *)options + option->count_offset, &count, sizeof count);
    }
}

bool kln_option_is_set(const kln_option *option, const kiln_build_options *options)
{
    static const unsigned char zero[sizeof(kiln_span)];
    size_t count = 0;
    return memcmp(member_of(option, options), zero, option->size) != 0 ||
           (option->count_offset != 0 && kln_option_items(option, options, &count) == NULL &&
            count != 0);
}

const kln_option *kln_options_beyond(const kiln_build_options *options, unsigned groups)
{
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        if ((option->groups & groups) == 0 && kln_option_is_set(option, options)) {
            return option;
        }
    }
    return NULL;
}

void kln_option_reset(const kln_option *option, kiln_build_options *options)
{
    memset((unsigned char *)options + option->offset, 0, option->size);
    if (option->count_offset != 0) {
        kln_option_set_items(option, NULL, 0, options);
    }
}

kiln_build_options kln_build_options_plain(const kiln_build_options *options)
{
    kiln_build_options plain = *options;
    plain.owner = NULL;
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        if (option->shown.kind >= KILN_OPTION_TEXT) {
            kln_option_reset(option, &plain);
        }
    }
    return plain;
}

/* --- checks --- */

static kiln_status check_number(const kln_option *option, const kiln_build_options *options)
{
    const int64_t value = kln_option_number(option, options);
    char possible[KLN_OPTION_RANGE];
    if (value >= option->shown.least && value <= option->shown.most) {
        return KILN_OK;
    }
    kln_option_range(option, possible);
    return kln_fail(KILN_ERROR_INVALID_ARGUMENT, "kiln_build_options: %s is %lld; it must be %s",
                    option->shown.name, (long long)value, possible);
}

static kiln_status check_list(const kln_option *option, const kiln_build_options *options)
{
    const char *name = option->shown.name;
    size_t count = 0;
    const void *items = kln_option_items(option, options, &count);
    KLN_RETURN_IF(count > 0 && items == NULL, KILN_ERROR_NULL_ARGUMENT,
                  "kiln_build_options: %zu %s are promised, and the pointer to them is NULL", count,
                  name);
    KLN_RETURN_IF(count > (uint64_t)option->shown.most, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_options: %zu %s are given, %lld are the limit", count, name,
                  (long long)option->shown.most);
    const bool texts =
        option->shown.kind == KILN_OPTION_TEXTS || option->shown.kind == KILN_OPTION_PATHS;
    for (size_t i = 0; texts && i < count; i++) {
        KLN_RETURN_IF(((const char *const *)items)[i] == NULL, KILN_ERROR_NULL_ARGUMENT,
                      "kiln_build_options: %s[%zu] is NULL", name, i);
    }
    return KILN_OK;
}

static kiln_status check_profile_name(size_t index, const char *name)
{
    KLN_RETURN_IF(name[0] == '\0', KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_options: profile %zu has the empty name; NULL leaves it without one",
                  index);
    for (const char *at = name; *at != '\0'; at++) {
        KLN_RETURN_IF(
            (unsigned char)*at < ' ', KILN_ERROR_INVALID_ARGUMENT,
            "kiln_build_options: the name of profile %zu has the control character %d at byte %td",
            index, *at, at - name);
    }
    return KILN_OK;
}

static kiln_status check_profile_names(const kiln_profile *profiles, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (profiles[i].name == NULL) {
            bytes++;
            continue;
        }
        KLN_RETURN_IF_ERROR(check_profile_name(i, profiles[i].name));
        bytes += strlen(profiles[i].name) + 1;
        KLN_RETURN_IF(
            bytes > KLN_PROFILE_NAMES - 1, KILN_ERROR_LIMIT,
            "kiln_build_options: the names of the profiles have more than %d bytes together",
            KLN_PROFILE_NAMES - 1);
        for (size_t k = 0; k < i; k++) {
            KLN_RETURN_IF(
                profiles[k].name != NULL && strcmp(profiles[k].name, profiles[i].name) == 0,
                KILN_ERROR_NAME, "kiln_build_options: profiles %zu and %zu are both named \"%s\"",
                k, i, profiles[i].name);
        }
    }
    return KILN_OK;
}

static kiln_status check_shape_hints(const kiln_build_options *options)
{
    KLN_RETURN_IF(options->shape_hint_count > 0 && options->profile_count > 0,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_options: shape_hints make a profile where there is none, and %zu "
                  "profiles are given; leave one of the two out",
                  options->profile_count);
    KLN_RETURN_IF(options->profile_rows > 0 && options->profile_count > 0,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_options: profile_rows is %d and makes a profile where there is none, "
                  "and %zu profiles are given; leave one of the two out",
                  options->profile_rows, options->profile_count);
    for (size_t i = 0; i < options->shape_hint_count; i++) {
        const kiln_shape_hint *hint = &options->shape_hints[i];
        char text[256];
        KLN_FAIL_IF(hint->name == NULL, kln_fail_null("kiln_build_options", "shape_hints[].name"));
        if (hint->shape.rank < 0 || hint->shape.rank > KILN_MAX_RANK ||
            !kiln_shape_is_static(&hint->shape)) {
            (void)kiln_shape_format(&hint->shape, text, sizeof text);
            return kln_fail(KILN_ERROR_SHAPE,
                            "kiln_build_options: the shape hint of \"%s\" is %s; one without a "
                            "dynamic dimension is needed",
                            hint->name, text);
        }
    }
    return KILN_OK;
}

kiln_status kln_build_options_read(const kiln_build_options *options, kiln_build_options *copy)
{
    *copy = KILN_BUILD_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_build_options", options, copy, sizeof *copy));
    copy->owner = NULL;
    if (copy->issues != NULL) {
        *copy->issues = NULL;
    }
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        if (option->shown.kind < KILN_OPTION_TEXT) {
            KLN_RETURN_IF_ERROR(check_number(option, copy));
        } else if (option->count_offset != 0) {
            KLN_RETURN_IF_ERROR(check_list(option, copy));
        }
    }
    KLN_RETURN_IF_ERROR(check_profile_names(copy->profiles, copy->profile_count));
    return check_shape_hints(copy);
}

/* --- copies --- */

/* Copies `data` into the arena; NULL stays NULL. A failure is reported in `*status`. */
static void *copy_bytes(kln_arena *arena, const void *data, size_t size, kiln_status *status)
{
    if (data == NULL || *status != KILN_OK) {
        return NULL;
    }
    void *copy = kln_arena_alloc(arena, size > 0 ? size : 1);
    if (copy == NULL) {
        *status = kln_fail_memory(size, "a copy of the build options");
    } else if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

static const char *copy_text(kln_arena *arena, const char *text, bool path, kiln_status *status)
{
    char absolute[PATH_MAX];
    if (path && text != NULL && text[0] != '\0' && *status == KILN_OK) {
        *status = kln_path_absolute(text, absolute);
        text = absolute;
    }
    return text != NULL ? copy_bytes(arena, text, strlen(text) + 1, status) : NULL;
}

static void copy_profile(kln_arena *arena, kiln_profile *profile, kiln_status *status)
{
    const size_t count = profile->input_count;
    kiln_profile_input *inputs = copy_bytes(arena, profile->inputs, count * sizeof *inputs, status);
    for (size_t i = 0; inputs != NULL && i < count; i++) {
        const size_t bytes = inputs[i].value_count * sizeof(int64_t);
        inputs[i].name = copy_text(arena, inputs[i].name, false, status);
        inputs[i].min_values = copy_bytes(arena, inputs[i].min_values, bytes, status);
        inputs[i].opt_values = copy_bytes(arena, inputs[i].opt_values, bytes, status);
        inputs[i].max_values = copy_bytes(arena, inputs[i].max_values, bytes, status);
    }
    profile->inputs = inputs;
    profile->name = copy_text(arena, profile->name, false, status);
}

/* Whether it is a path, rather than a keyword or a library's short name. */
static bool is_path(const kln_option *option, const char *text)
{
    const char *const *words = option->shown.choices;
    if (option->shown.kind == KILN_OPTION_LIBRARY) {
        return text != NULL && kln_is_path(text);
    }
    while (words != NULL && *words != NULL && text != NULL && strcmp(*words, text) != 0) {
        words++;
    }
    return option->shown.kind == KILN_OPTION_PATH && (words == NULL || *words == NULL);
}

/* Copies the items of a list, according to `kind`; NULL if there are none. */
static void *copy_list(kln_arena *arena, kiln_option_kind kind, const void *items, size_t count,
                       kiln_status *status)
{
    const size_t size = kind == KILN_OPTION_INTEGERS   ? sizeof(int32_t)
                        : kind == KILN_OPTION_PROFILES ? sizeof(kiln_profile)
                        : kind == KILN_OPTION_SHAPES   ? sizeof(kiln_shape_hint)
                                                       : sizeof(const char *);
    void *copy = copy_bytes(arena, items, count * size, status);
    for (size_t i = 0; copy != NULL && i < count; i++) {
        if (kind == KILN_OPTION_PROFILES) {
            copy_profile(arena, (kiln_profile *)copy + i, status);
        } else if (kind == KILN_OPTION_SHAPES) {
            kiln_shape_hint *hint = (kiln_shape_hint *)copy + i;
            hint->name = copy_text(arena, hint->name, false, status);
        } else if (kind != KILN_OPTION_INTEGERS) {
            const char **text = (const char **)copy + i;
            *text = copy_text(arena, *text, kind == KILN_OPTION_PATHS, status);
        }
    }
    return copy;
}

kiln_status kln_build_options_copy(kln_arena *arena, kiln_build_options *options)
{
    kiln_status status = KILN_OK;
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        const kiln_option_kind kind = option->shown.kind;
        if (kind == KILN_OPTION_SPAN) {
            kiln_span *span = (void *)((unsigned char *)options + option->offset);
            span->data = copy_bytes(arena, span->data, span->size, &status);
        } else if (kind >= KILN_OPTION_TEXT && kind != KILN_OPTION_POINTER) {
            size_t count = 0;
            const void *items = kln_option_items(option, options, &count);
            items = option->count_offset != 0
                        ? copy_list(arena, kind, items, count, &status)
                        : copy_text(arena, items, is_path(option, items), &status);
            kln_option_set_items(option, items, count, options);
        }
    }
    return status;
}
