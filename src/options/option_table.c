/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "kln_options.h"

#define ALL .least = 0
#define RANGE(smallest, largest) .least = (smallest), .most = (largest)
#define MOST(largest) .most = (largest)
#define CHOICES(...)                                     \
    .choices = (const char *const[]){__VA_ARGS__, NULL}, \
    .most = (int64_t)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)) - 1
#define WORDS(...)                   \
    .choices = (const char *const[]) \
    {                                \
        __VA_ARGS__, NULL            \
    }
#define CLI(short_flag, long_flag, value_word) \
    .letter = (short_flag), .flag = (long_flag), .value = (value_word)
#define TRTEXEC(short_flag, long_flag, value_word, there) \
    CLI(short_flag, long_flag, value_word), .trtexec = (there)
#define NO_CLI .flag = NULL

enum { BUILDS = 0, LOADS = 1, SAVED = 2, APART = 4 };

#define KILN_OPTION_GROUP(name, bits, title) static const char title_##name[] = title;
#include <kiln/build_options.inc>

/* For a pointer member, the size of the pointer is intended. */
#define SIZE(name) sizeof(((const kiln_build_options *)0)->name) /* NOLINT(bugprone-sizeof-*) */

/* The trailing arguments are initializers. */
#define ROW(option_kind, member, count, taken_by, use, about, ...) \
    {{.struct_size = sizeof(kiln_build_option),                    \
      .name = #member,                                             \
      .kind = KILN_OPTION_##option_kind,                           \
      .group = title_##taken_by,                                   \
      .loads = ((use)&LOADS) != 0,                                 \
      .saved = ((use)&SAVED) != 0,                                 \
      .help = (about),                                             \
      __VA_ARGS__},                                                \
     KLN_OPTIONS_##taken_by,                                       \
     offsetof(kiln_build_options, member),                         \
     SIZE(member),                                                 \
     (count),                                                      \
     ((use)&APART) == 0},
#define KILN_OPTION(kind, type, name, limits, taken_by, use, cli, help) \
    ROW(kind, name, 0, taken_by, use, help, limits, cli)
#define KILN_OPTION_LIST(kind, type, name, count, limits, taken_by, use, cli, help) \
    ROW(kind, name, offsetof(kiln_build_options, count), taken_by, use, help, limits, cli)

const kln_option kln_options[] = {
#include <kiln/build_options.inc>
    {.groups = 0}};

_Static_assert(sizeof(kiln_switch) == sizeof(int32_t), "an enumeration is read as a number");

const kln_option *kln_option_find(const char *name)
{
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        if (strcmp(option->shown.name, name) == 0) {
            return option;
        }
    }
    return NULL;
}

void kln_option_range(const kln_option *option, char text[KLN_OPTION_RANGE])
{
    const char *const *words = kln_option_words(option);
    size_t used = 0;
    for (size_t i = 0; words != NULL && words[i] != NULL; i++) {
        const char *between = i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ";
        used += (size_t)snprintf(text + used, KLN_OPTION_RANGE - used, "%s%s (%zu)", between,
                                 words[i], i);
    }
    if (words == NULL) {
        (void)snprintf(text, KLN_OPTION_RANGE, "%lld to %lld", (long long)option->shown.least,
                       (long long)option->shown.most);
    }
}

const char *const *kln_option_words(const kln_option *option)
{
    static const char *const flags[] = {"false", "true", NULL};
    return option->shown.kind == KILN_OPTION_FLAG ? flags : option->shown.choices;
}

size_t kiln_build_option_count(void)
{
    return KLN_ARRAY_LENGTH(kln_options) - 1;
}

kiln_status kiln_build_option_get(size_t index, kiln_build_option *option)
{
    KLN_RETURN_IF_NULL(option);
    KLN_RETURN_IF(index >= kiln_build_option_count(), KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_option_get: option %zu was asked for, there are %zu", index,
                  kiln_build_option_count());
    return kln_info_write(__func__, option, &kln_options[index].shown, sizeof *option);
}
