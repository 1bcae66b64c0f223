/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"

/* An unknown option is compared with options of up to this length. */
#define WORD_LIMIT 64
/* The maximum number of options of one command. */
#define OPTION_LIMIT 128

/* The state of reading the arguments. */
typedef struct reading {
    const cli_command *command;
    char *settings;
    int verbosity;
    bool wants_help;
    bool wants_quiet;
    struct {
        const char *name;
        const void *place; /* where its value is stored */
    } seen[OPTION_LIMIT];  /* the options that were given */
    size_t seen_count;
} reading;

/* The group after `group` of a command; the common group is the last. NULL stands for the end, and
 * for the position before the first. */
static const cli_group *next_group(const cli_command *command, const cli_group *group)
{
    const cli_group *next = group == NULL ? command->groups : group + 1;
    return group == &cli_common_group            ? NULL
           : next == NULL || next->title == NULL ? &cli_common_group
                                                 : next;
}

/* Finds the option `name` of `length` letters, or `letter`, and sets `*group` to its group. */
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
    const char *names[OPTION_LIMIT];
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
    const char *tool = NULL;
    const char *counterpart = cli_counterpart(word, &tool);
    if (counterpart != NULL) {
        return cli_misuse(command, "there is no option %.80s; for %s's --%s there is %s", argument,
                          tool, word, counterpart);
    }
    const char *closest = strlen(word) > 1 ? cli_closest(word, names, count) : NULL;
    if (closest != NULL) {
        return cli_misuse(command, "there is no option %.80s; did you mean --%s?", argument,
                          closest);
    }
    return cli_misuse(command, "there is no option %.80s", argument);
}

static bool has_one_value(const cli_option *option)
{
    kiln_build_option row = {.struct_size = sizeof row};
    return option->value != NULL && option->kind != CLI_LIST &&
           (option->kind != CLI_BUILD ||
            (cli_row_find(option->name, &row) && row.kind < KILN_OPTION_INTEGERS));
}

/* Records that an option was given; returns whether it takes one value and already had it. */
static bool is_repeated(reading *state, const cli_option *option, const void *field)
{
    /* Build options share one field. */
    const void *place = option->kind == CLI_BUILD ? option->help : field;
    for (size_t i = 0; i < state->seen_count; i++) {
        if (state->seen[i].place == place) {
            return has_one_value(option);
        }
    }
    if (state->seen_count < OPTION_LIMIT) {
        state->seen[state->seen_count].name = option->name;
        state->seen[state->seen_count++].place = place;
    }
    return false;
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
    void *field = state->settings + group->base + option->offset;
    if (is_repeated(state, option, field)) {
        return cli_misuse(state->command, "--%s is given twice; it has one value", option->name);
    }
    return option->kind == CLI_BUILD ? cli_row_store(state->command, option, value, field)
                                     : cli_option_read(state->command, option, value, field);
}

/* Reads one option at `arguments[*index]` and advances past its value, if it has one. */
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
            /* Several letters together: this one first, then the rest. */
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

static size_t most_operands(const cli_command *command)
{
    size_t words = 0;
    for (const char *at = command->operands; *at != '\0'; at += strspn(at, " ")) {
        at += strcspn(at, " ");
        words++;
    }
    return cli_ends_with(command->operands, "...") ? SIZE_MAX : words;
}

static cli_exit read_all(reading *state, int count, char **arguments, const char **operands)
{
    const cli_command *command = state->command;
    const size_t most = most_operands(command);
    const size_t least = command->operands[0] == '[' ? 0 : most == SIZE_MAX ? 1 : most;
    size_t found = 0;
    bool only_operands = false;
    for (int i = 0; i < count; i++) {
        const char *argument = arguments[i];
        if (!only_operands && strcmp(argument, "--") == 0) {
            only_operands = true;
        } else if (!only_operands && argument[0] == '-' && argument[1] != '\0') {
            CLI_RETURN_UNLESS_DONE(read_option(state, count, arguments, &i));
        } else if (found == most) {
            return cli_misuse(command, "\"%.80s\" is one argument too many: kiln %s takes %s",
                              argument, command->name,
                              most == 0 ? "options only" : command->operands);
        } else {
            operands[found++] = argument;
        }
    }
    if (found < least && !state->wants_help) {
        return cli_misuse(command, "kiln %s needs %s", command->name, command->operands);
    }
    return CLI_DONE;
}

/* Rejects an output file that is also an input, which would be overwritten. */
static cli_exit check_outputs(const reading *state, const char *const *operands)
{
    const cli_command *command = state->command;
    for (const cli_group *group = next_group(command, NULL); group != NULL;
         group = next_group(command, group)) {
        for (const cli_option *option = group->options; option->name != NULL; option++) {
            const char *path = NULL;
            struct stat written;
            struct stat read;
            if (option->kind == CLI_OUTPUT) {
                path = *(const char *const *)(state->settings + group->base + option->offset);
            }
            for (size_t i = 0; path != NULL && operands[i] != NULL; i++) {
                if (stat(path, &written) == 0 && stat(operands[i], &read) == 0 &&
                    S_ISREG(read.st_mode) && written.st_dev == read.st_dev &&
                    written.st_ino == read.st_ino) {
                    return cli_misuse(command,
                                      "--%s: \"%.200s\" is what is read, and would be lost; give "
                                      "another name",
                                      option->name, path);
                }
            }
        }
    }
    return CLI_DONE;
}

static bool is_given(const reading *state, const char *name)
{
    for (size_t i = 0; i < state->seen_count; i++) {
        if (strcmp(state->seen[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Rejects options that would be silently ignored. */
static cli_exit check_needs(const reading *state)
{
    const cli_need *need = state->command->needs;
    for (; need != NULL && need->option != NULL; need++) {
        if (is_given(state, need->option) && !is_given(state, need->other)) {
            return cli_misuse(state->command, "--%s goes with --%s, which is not given",
                              need->option, need->other);
        }
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
    CLI_RETURN_UNLESS_DONE(check_needs(state));
    CLI_RETURN_UNLESS_DONE(check_outputs(state, operands));
    cli_log_begin(state->verbosity);
    if (state->wants_quiet) {
        cli_quiet_begin(!state->command->tells_errors && !wants_json(state));
    }
    return state->command->run(state->command, state->settings, operands);
}

cli_exit cli_run_command(const cli_command *command, int count, char **arguments)
{
    reading state = {.command = command, .settings = cli_allocate(command->size)};
    SCOPED_HEAP const char **operands = cli_allocate(((size_t)count + 1) * sizeof *operands);
    memcpy(state.settings, command->defaults, command->size);
    const cli_exit result = run(&state, count, arguments, operands);
    finish(command, state.settings);
    free(state.settings);
    return result;
}
