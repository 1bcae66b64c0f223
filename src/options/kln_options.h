/* SPDX-License-Identifier: Apache-2.0 */
/* The table of build options: what each is, which backends take it, and its text. */
#ifndef KLN_OPTIONS_H
#define KLN_OPTIONS_H

#include <kiln/options.h>

#include "base/kln_base.h"

/* Which backends accept an option (kiln_backend.options). */
typedef enum kln_option_group {
#define KILN_OPTION_GROUP(name, bits, title) KLN_OPTIONS_##name = (bits),
#include <kiln/build_options.inc>
} kln_option_group;

/* One row. */
typedef struct kln_option {
    kiln_build_option shown;
    unsigned groups; /* bits of kln_option_group */
    size_t offset;   /* of the member in kiln_build_options */
    size_t size;
    size_t count_offset; /* of the count, for a list */
    bool shapes;         /* the plan depends on it */
} kln_option;

/* Terminated by a row without a name. */
extern const kln_option kln_options[];

/* The row of that name, or NULL. */
const kln_option *kln_option_find(const char *name);

/* The words of a choice or flag, in the order of their values, NULL-terminated; or NULL. */
const char *const *kln_option_words(const kln_option *option);

/* "0 to 5", or "default (0), on (1) or off (2)". */
#define KLN_OPTION_RANGE 160
void kln_option_range(const kln_option *option, char text[KLN_OPTION_RANGE]);

/* --- values (option_values.c) --- */

/* Checks and copies a caller's build options. */
KILN_MUST_CHECK kiln_status kln_build_options_read(const kiln_build_options *options,
                                                   kiln_build_options *copy);

/* Copies everything that the options point to into the arena, with absolute paths, which stay right
 * if the process changes its folder. OUT_OF_MEMORY; as kln_path_absolute. */
KILN_MUST_CHECK kiln_status kln_build_options_copy(kln_arena *arena, kiln_build_options *options);

/* The options without pointers to the caller's memory. */
kiln_build_options kln_build_options_plain(const kiln_build_options *options);

bool kln_option_is_set(const kln_option *option, const kiln_build_options *options);

void kln_option_reset(const kln_option *option, kiln_build_options *options);

/* For kinds below KILN_OPTION_TEXT. */
int64_t kln_option_number(const kln_option *option, const kiln_build_options *options);
void kln_option_set_number(const kln_option *option, int64_t number, kiln_build_options *options);

/* The items of a list and their number, or a text with a count of 0. */
const void *kln_option_items(const kln_option *option, const kiln_build_options *options,
                             size_t *count);
void kln_option_set_items(const kln_option *option, const void *items, size_t count,
                          kiln_build_options *options);

/* The first option that is set but in none of these groups, or NULL. */
const kln_option *kln_options_beyond(const kiln_build_options *options, unsigned groups);

/* The most bytes that the names of all profiles may take, each followed by one more. */
#define KLN_PROFILE_NAMES 2048

/* --- text (option_text.c) --- */

/* Sets the option from text. Data that must stay is in the arena, which may be NULL for numbers,
 * choices and flags. On INVALID_ARGUMENT, with the accepted values, nothing has changed. */
KILN_MUST_CHECK kiln_status kln_option_parse(const kln_option *option, const char *text,
                                             kln_arena *arena, kiln_build_options *options);
KILN_MUST_CHECK kiln_status kln_option_format(const kln_option *option,
                                              const kiln_build_options *options, kln_text *text);

/* --- profiles as text (option_profiles.c) --- */

KILN_MUST_CHECK kiln_status kln_profile_parse(const char *text, kln_arena *arena,
                                              kiln_profile *profile);
KILN_MUST_CHECK kiln_status kln_profile_format(const kiln_profile *profile, kln_text *text);

#endif
