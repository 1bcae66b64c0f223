/* SPDX-License-Identifier: Apache-2.0 */
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

/* Letters to change, add, take away or swap with a neighbour to turn one word into the other. */
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
    /* A third of the letters may be wrong; more is another word. */
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

/* --- the options of a command --- */

const cli_group cli_common_group = {
    "Everywhere",
    (const cli_option[]){
        {"verbose", 'v', NULL, CLI_COUNT, 0, 0, 0, NULL,
         "Say on standard error what is done: which library was found, which backend was chosen. "
         "Given twice, also each step and every message of the backend's library."},
        {"quiet", 'q', NULL, CLI_FLAG, 0, 0, 0, NULL,
         "Print errors only, and JSON where it is asked for; the exit status tells the result."},
        {"help", 'h', NULL, CLI_FLAG, 0, 0, 0, NULL, "Show this help and stop."},
        {0},
    },
    0};

/* What is being read. */
typedef struct reading {
    const cli_command *command;
    char *settings;
    int verbosity;
    bool wants_help;
    bool wants_quiet;
} reading;

/* The group after `group` of a command, the common one last; NULL at the end, and before the first.
 */
static const cli_group *next_group(const cli_command *command, const cli_group *group)
{
    const cli_group *next = group == NULL ? command->groups : group + 1;
    return group == &cli_common_group            ? NULL
           : next == NULL || next->title == NULL ? &cli_common_group
                                                 : next;
}

/* Option `name` of `length` letters, or `letter`; its group through `group`. */
static bool find(const cli_command *command, const char *name, size_t length, char letter,
                 const cli_group **group, cli_option *option)
{
    *group = NULL;
    while ((*group = next_group(command, *group)) != NULL) {
        cli_position at = {0, 0};
        while (cli_option_next((*group)->options, &at, option)) {
            if (name == NULL
                    ? option->letter == letter && letter != 0
                    : strlen(option->name) == length && strncmp(option->name, name, length) == 0) {
                return true;
            }
        }
    }
    return false;
}

static cli_exit misuse_unknown(const cli_command *command, const char *argument)
{
    const char *names[128];
    size_t count = 0;
    cli_option option;
    for (const cli_group *at = NULL; (at = next_group(command, at)) != NULL;) {
        cli_position place = {0, 0};
        while (count < CLI_ARRAY_LENGTH(names) && cli_option_next(at->options, &place, &option)) {
            names[count++] = option.name;
        }
    }
    char word[WORD_LIMIT];
    const size_t dashes = strspn(argument, "-");
    (void)snprintf(word, sizeof word, "%.*s", (int)strcspn(argument + dashes, "="),
                   argument + dashes);
    const char *counterpart = cli_trtexec(word);
    if (counterpart != NULL) {
        return cli_misuse(command, "there is no option %.80s; for trtexec's --%s there is %s",
                          argument, word, counterpart);
    }
    const char *closest = strlen(word) > 1 ? cli_closest(word, names, count) : NULL;
    if (closest != NULL) {
        return cli_misuse(command, "there is no option %.80s; did you mean --%s?", argument,
                          closest);
    }
    return cli_misuse(command, "there is no option %.80s", argument);
}

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
    cli_text known = {NULL, 0, 0};
    size_t count = 0;
    for (; option->choices[count] != NULL; count++) {
        if (strcmp(option->choices[count], value) == 0) {
            *field = (int)count;
            cli_text_finish(&known);
            return CLI_DONE;
        }
        cli_text_printf(&known, "%s%s", count > 0 ? ", " : "", option->choices[count]);
    }
    const char *closest = cli_closest(value, option->choices, count);
    (void)(closest != NULL ? cli_misuse(command, "--%s: there is no \"%.80s\"; did you mean %s?",
                                        option->name, value, closest)
                           : cli_misuse(command, "--%s: there is no \"%.80s\"; there are %s",
                                        option->name, value, known.data));
    cli_text_finish(&known);
    return CLI_MISUSED;
}

/* Whether a file could be written there: better known before an hour's build than behind it. */
static cli_exit read_output(const char *path, const char **field)
{
    struct stat found;
    const char *slash = strrchr(path, '/');
    cli_text folder = {0};
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
    cli_text_finish(&folder);
    *field = path;
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
        case CLI_OUTPUT: return read_output(value, field);
        case CLI_INTEGER:
        case CLI_REAL: return read_number(command, option, value, field);
        case CLI_CHOICE: return read_choice(command, option, value, field);
        case CLI_LIST:
            list->items = cli_grow(list->items, (list->count + 1) * sizeof *list->items);
            list->items[list->count++] = value;
            break;
        case CLI_BUILD: return cli_row_store(command, option, value, field);
        case CLI_ROWS: break;
    }
    return CLI_DONE;
}

static cli_exit store(reading *state, const cli_group *group, const cli_option *option,
                      const char *value)
{
    if (group == &cli_common_group) {
        state->verbosity += option->kind == CLI_COUNT;
        state->wants_help = state->wants_help || option->letter == 'h';
        state->wants_quiet = state->wants_quiet || option->letter == 'q';
        return CLI_DONE;
    }
    return cli_option_read(state->command, option, value,
                           state->settings + group->base + option->offset);
}

/* One option at `arguments[*index]`; moves on past a value of its own. */
static cli_exit read_option(reading *state, int count, char **arguments, int *index)
{
    const char *argument = arguments[*index];
    const cli_group *group = NULL;
    cli_option option;
    const char *value = NULL;
    bool found = false;
    if (argument[1] == '-') {
        const size_t length = strcspn(argument + 2, "=");
        found = find(state->command, argument + 2, length, 0, &group, &option);
        value = argument[2 + length] == '=' ? argument + 2 + length + 1 : NULL;
    } else {
        found = find(state->command, NULL, 0, argument[1], &group, &option);
        if (found && option.value == NULL && argument[2] != '\0') {
            /* Several letters together: this one, then the rest. */
            for (const char *letter = argument + 1; *letter != '\0'; letter++) {
                if (!find(state->command, NULL, 0, *letter, &group, &option) ||
                    option.value != NULL) {
                    return misuse_unknown(state->command, argument);
                }
                (void)store(state, group, &option, NULL);
            }
            return CLI_DONE;
        }
        value = found && argument[2] != '\0' ? argument + 2 : NULL;
    }
    if (!found) {
        return misuse_unknown(state->command, argument);
    }
    if (option.value == NULL && value != NULL) {
        return cli_misuse(state->command, "--%s takes no value", option.name);
    }
    if (option.value != NULL && value == NULL) {
        if (*index + 1 >= count) {
            return cli_misuse(state->command, "--%s needs a value, %s", option.name, option.value);
        }
        value = arguments[++*index];
    }
    return store(state, group, &option, value);
}

static cli_exit read_all(reading *state, int count, char **arguments, const char **operands)
{
    const cli_command *command = state->command;
    size_t found = 0;
    bool only_operands = false;
    for (int i = 0; i < count; i++) {
        const char *argument = arguments[i];
        if (!only_operands && strcmp(argument, "--") == 0) {
            only_operands = true;
        } else if (!only_operands && argument[0] == '-' && argument[1] != '\0') {
            CLI_RETURN_UNLESS_DONE(read_option(state, count, arguments, &i));
        } else if (found == command->most) {
            return cli_misuse(command, "\"%.80s\" is one argument too many: kiln %s takes %s",
                              argument, command->name,
                              command->most == 0 ? "options only" : command->operands);
        } else {
            operands[found++] = argument;
        }
    }
    if (found < command->least && !state->wants_help) {
        return cli_misuse(command, "kiln %s needs %s", command->name, command->operands);
    }
    return CLI_DONE;
}

static bool wants_json(const reading *state)
{
    const cli_group *group = NULL;
    cli_option option;
    return find(state->command, "json", strlen("json"), 0, &group, &option) &&
           option.kind == CLI_FLAG &&
           *(const bool *)(state->settings + group->base + option.offset);
}

static void finish(const cli_command *command, void *settings)
{
    for (const cli_group *group = command->groups; group != NULL && group->title != NULL; group++) {
        for (const cli_option *option = group->options; option->name != NULL; option++) {
            void *field = (char *)settings + group->base + option->offset;
            if (option->kind == CLI_LIST) {
                free(((cli_list *)field)->items);
                *(cli_list *)field = (cli_list){NULL, 0};
            } else if (option->kind == CLI_ROWS) {
                kiln_build_options_destroy(*(kiln_build_options **)field);
                *(kiln_build_options **)field = NULL;
            }
        }
    }
}

static cli_exit run(reading *state, int count, char **arguments, const char **operands)
{
    const cli_exit result = read_all(state, count, arguments, operands);
    if (result == CLI_DONE && state->wants_help) {
        cli_help_command(state->command);
    }
    if (result != CLI_DONE || state->wants_help) {
        return result;
    }
    cli_log_begin(state->verbosity);
    if (state->wants_quiet) {
        cli_quiet_begin(!state->command->tells_errors && !wants_json(state));
    }
    return state->command->run(state->command, state->settings, operands);
}

cli_exit cli_run_command(const cli_command *command, int count, char **arguments)
{
    reading state = {.command = command, .settings = cli_allocate(command->size)};
    const char **operands = cli_allocate((command->most + 1) * sizeof *operands);
    memcpy(state.settings, command->defaults, command->size);
    for (size_t i = 0; i <= command->most; i++) {
        operands[i] = NULL;
    }
    const cli_exit result = run(&state, count, arguments, operands);
    finish(command, state.settings);
    free(state.settings);
    free(operands);
    return result;
}
