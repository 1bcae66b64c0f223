/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>

#include "kln_options.h"

/* Parses "v1,2,3". All parts must have the same number of values. */
static kiln_status parse_values(const char *text, kln_arena *arena, const int64_t **values,
                                size_t *count, bool *sense)
{
    size_t commas = 0;
    for (const char *at = text; *at != '\0'; at++) {
        commas += *at == ',';
    }
    int64_t *made = kln_arena_alloc_zeroed(arena, commas + 1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, (commas + 1) * sizeof *made, "the values of a profile");
    *sense = *sense && text[0] == 'v' && (*count == 0 || *count == commas + 1);
    for (size_t i = 0; i <= commas && *sense; i++) {
        char *end = NULL;
        made[i] = strtoll(text + 1, &end, 10);
        *sense = end != text + 1 && *end == (i < commas ? ',' : '\0');
        text = end;
    }
    *values = made;
    *count = commas + 1;
    return KILN_OK;
}

/* Parses "NAME=MIN:OPT:MAX", or one shape for all three. Modifies `text`. */
static kiln_status parse_input(char *text, kln_arena *arena, kiln_profile_input *input, bool *sense)
{
    char *parts[3] = {strrchr(text, '='), NULL, NULL};
    *input = (kiln_profile_input){.name = text};
    *sense = parts[0] != NULL && parts[0] != text;
    if (!*sense) {
        return KILN_OK;
    }
    *parts[0]++ = '\0';
    for (size_t i = 1; i < 3 && parts[i - 1] != NULL; i++) {
        parts[i] = strchr(parts[i - 1], ':');
        if (parts[i] != NULL) {
            *parts[i]++ = '\0';
        }
    }
    if (parts[1] == NULL) {
        parts[1] = parts[2] = parts[0];
    }
    *sense = parts[2] != NULL;
    const int64_t **values[] = {&input->min_values, &input->opt_values, &input->max_values};
    kiln_shape *shapes[] = {&input->min, &input->opt, &input->max};
    for (size_t i = 0; i < 3 && *sense; i++) {
        if (parts[0][0] == 'v') {
            KLN_RETURN_IF_ERROR(
                parse_values(parts[i], arena, values[i], &input->value_count, sense));
        } else {
            *sense = kiln_shape_parse(parts[i], shapes[i]) == KILN_OK;
        }
    }
    return KILN_OK;
}

/* The length up to the space after an input's ranges; the name may contain spaces. */
static size_t input_length(const char *text)
{
    size_t length = strcspn(text, " ");
    while (text[length] != '\0') {
        const char *equals = memrchr(text, '=', length);
        const char *ranges = equals != NULL ? equals + 1 : text + length;
        if (ranges < text + length &&
            ranges + strspn(ranges, "0123456789x?,:-vscalar") == text + length) {
            break;
        }
        length += 1 + strcspn(text + length + 1, " ");
    }
    return length;
}

kiln_status kln_profile_parse(const char *text, kln_arena *arena, kiln_profile *profile)
{
    size_t blanks = 0;
    for (const char *at = text; *at != '\0'; at++) {
        blanks += *at == ' ';
    }
    char *copy = kln_arena_strdup(arena, text);
    kiln_profile_input *inputs = kln_arena_alloc_zeroed(arena, blanks + 1, sizeof *inputs);
    KLN_FAIL_IF(copy == NULL || inputs == NULL,
                kln_fail_memory((blanks + 1) * sizeof *inputs, "a profile"));
    bool sense = true;
    *profile = (kiln_profile){.inputs = inputs};
    for (char *item = copy + strspn(copy, " "); *item != '\0' && sense;) {
        char *end = item + input_length(item);
        char *next = end + strspn(end, " ");
        *end = '\0';
        KLN_RETURN_IF_ERROR(parse_input(item, arena, &inputs[profile->input_count++], &sense));
        item = next;
    }
    KLN_RETURN_IF(!sense || profile->input_count == 0, KILN_ERROR_INVALID_ARGUMENT,
                  "\"%.200s\" cannot be read; NAME=MIN:OPT:MAX for each input with a dynamic "
                  "dimension is needed, as in x=1x3x224x224:8x3x224x224:32x3x224x224",
                  text);
    return KILN_OK;
}

kiln_status kln_profile_format(const kiln_profile *profile, kln_text *text)
{
    for (size_t i = 0; i < profile->input_count; i++) {
        const kiln_profile_input *input = &profile->inputs[i];
        const int64_t *const values[] = {input->min_values, input->opt_values, input->max_values};
        const kiln_shape *const shapes[] = {&input->min, &input->opt, &input->max};
        KLN_RETURN_IF_ERROR(kln_text_printf(text, "%s%s", i > 0 ? " " : "", input->name));
        for (size_t part = 0; part < 3; part++) {
            char shape[256];
            (void)kiln_shape_format(shapes[part], shape, sizeof shape);
            KLN_RETURN_IF_ERROR(kln_text_printf(text, "%c%s", part == 0 ? '=' : ':',
                                                input->value_count > 0 ? "v" : shape));
            for (size_t k = 0; k < input->value_count; k++) {
                KLN_RETURN_IF_ERROR(
                    kln_text_printf(text, "%s%" PRId64, k > 0 ? "," : "", values[part][k]));
            }
        }
    }
    return KILN_OK;
}
