/* SPDX-License-Identifier: Apache-2.0 */
/* The values of options, and suggestions for misspelled words. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

/* --- did you mean --- */

#define WORD_LIMIT 64

/* The number of letters to change, insert, delete or swap with a neighbour to turn one word into
 * the other. */
static size_t distance(const char *a, const char *b)
{
    const size_t rows = strlen(a);
    const size_t columns = strlen(b);
    if (rows >= WORD_LIMIT || columns >= WORD_LIMIT) {
        return WORD_LIMIT;
    }
    size_t table[WORD_LIMIT + 1][WORD_LIMIT + 1];
    for (size_t i = 0; i <= rows; i++) {
        for (size_t j = 0; j <= columns; j++) {
            if (i == 0 || j == 0) {
                table[i][j] = i + j;
                continue;
            }
            const size_t changed = table[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            const size_t taken = table[i - 1][j] + 1;
            const size_t added = table[i][j - 1] + 1;
            size_t best = changed < taken ? changed : taken;
            best = best < added ? best : added;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                table[i - 2][j - 2] + 1 < best) {
                best = table[i - 2][j - 2] + 1;
            }
            table[i][j] = best;
        }
    }
    return table[rows][columns];
}

const char *cli_closest(const char *word, const char *const *candidates, size_t count)
{
    const char *closest = NULL;
    /* A third of the letters may be wrong; beyond that it is a different word. */
    size_t least = strlen(word) / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        const size_t found = distance(word, candidates[i]);
        if (found <= least && found < strlen(candidates[i])) {
            closest = candidates[i];
            least = found > 0 ? found - 1 : 0;
        }
    }
    return closest;
}

const char *cli_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

bool cli_has_word(const char *words, const char *word)
{
    const size_t length = strlen(word);
    for (const char *at = words; length > 0 && (at = strstr(at, word)) != NULL; at++) {
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

bool cli_ends_with(const char *text, const char *ending)
{
    const size_t length = strlen(text);
    const size_t wanted = strlen(ending);
    return length >= wanted && strcmp(text + length - wanted, ending) == 0;
}

bool cli_number(const char *text, double *number)
{
    char *end = NULL;
    errno = 0;
    if (*text == '\0' || strchr(" \t\n\r\v\f", *text) != NULL) {
        return false;
    }
    const double found = strtod(text, &end);
    if (*end != '\0' || (errno == ERANGE && isinf(found))) {
        return false;
    }
    *number = found;
    return true;
}

int cli_numbers_read(const char *text, double numbers[2])
{
    char first[64];
    const char *colon = strchr(text, ':');
    const size_t length = colon != NULL ? (size_t)(colon - text) : strlen(text);
    if (length >= sizeof first) {
        return 0;
    }
    (void)snprintf(first, sizeof first, "%.*s", (int)length, text);
    if (!cli_number(first, &numbers[0]) || (colon != NULL && !cli_number(colon + 1, &numbers[1]))) {
        return 0;
    }
    return colon != NULL ? 2 : 1;
}

/* --- values --- */

static cli_exit read_number(const cli_command *command, const cli_option *option, const char *value,
                            void *field)
{
    double number = 0;
    const bool is_integer = option->kind == CLI_INTEGER;
    if (!cli_number(value, &number) || isnan(number) || (is_integer && floor(number) != number)) {
        return cli_misuse(command, "--%s: \"%.80s\" is not %s", option->name, value,
                          is_integer ? "a whole number" : "a number");
    }
    if (number < option->least || number > option->most) {
        return cli_misuse(command, "--%s: %.80s is out of range, %.15g to %.15g is possible",
                          option->name, value, option->least, option->most);
    }
    if (is_integer) {
        *(int64_t *)field = (int64_t)number;
    } else {
        *(double *)field = number;
    }
    return CLI_DONE;
}

static cli_exit read_choice(const cli_command *command, const cli_option *option, const char *given,
                            int *field)
{
    const char *value = given != NULL ? given : "";
    CLI_TEXT_SCOPED known = {NULL, 0, 0};
    size_t count = 0;
    for (; option->choices[count] != NULL; count++) {
        if (strcmp(option->choices[count], value) == 0) {
            *field = (int)count;
            return CLI_DONE;
        }
        cli_text_printf(&known, "%s%s", count > 0 ? ", " : "", option->choices[count]);
    }
    const char *closest = cli_closest(value, option->choices, count);
    return closest != NULL ? cli_misuse(command, "--%s: there is no \"%.80s\"; did you mean %s?",
                                        option->name, value, closest)
                           : cli_misuse(command, "--%s: there is no \"%.80s\"; there are %s",
                                        option->name, value, known.data);
}

cli_exit cli_look_at_output(const char *path)
{
    struct stat found;
    const char *slash = strrchr(path, '/');
    CLI_TEXT_SCOPED folder = {0};
    cli_text_printf(&folder, "%.*s", slash != NULL ? (int)(slash + 1 - path) : 1,
                    slash != NULL ? path : ".");
    const bool exists = stat(path, &found) == 0;
    const bool folder_takes = exists || access(folder.data, W_OK | X_OK) == 0;
    const char *why = exists && S_ISDIR(found.st_mode) ? "a directory is in its place"
                      : folder_takes                   ? NULL
                                                       : strerror(errno);
    if (why != NULL) {
        cli_error("\"%s\": it cannot be created: %s", path, why);
    }
    return why == NULL ? CLI_DONE : CLI_FAILED;
}

cli_exit cli_option_read(const cli_command *command, const cli_option *option, const char *value,
                         void *field)
{
    cli_list *list = field;
    switch (option->kind) {
        case CLI_FLAG: *(bool *)field = true; break;
        case CLI_COUNT: *(int *)field += 1; break;
        case CLI_TEXT: *(const char **)field = value; break;
        case CLI_OUTPUT:
        case CLI_CHANGED: *(const char **)field = value; return cli_look_at_output(value);
        case CLI_INTEGER:
        case CLI_REAL: return read_number(command, option, value, field);
        case CLI_CHOICE: return read_choice(command, option, value, field);
        case CLI_LIST:
            list->items = cli_grow(list->items, (list->count + 1) * sizeof *list->items);
            list->items[list->count++] = value;
            break;
        case CLI_BUILD: /* handled in cli_rows.c */
        case CLI_ROWS: break;
    }
    return CLI_DONE;
}
