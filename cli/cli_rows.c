/* SPDX-License-Identifier: Apache-2.0 */
/* The library's own list of build options, as options of a command. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

#define MIB 1048576
#define KIB 1024

static bool stands_in(const char *rows, const kiln_build_option *row)
{
    return row->flag != NULL &&
           (strcmp(rows, CLI_LOADS) == 0
                ? row->loads
                : (!row->loads && strcmp(rows, row->group) == 0) || cli_has_word(rows, row->name));
}

static int64_t unit_of(const char *value)
{
    return value == NULL               ? 1
           : strcmp(value, "MIB") == 0 ? MIB
           : strcmp(value, "KIB") == 0 ? KIB
                                       : 1;
}

/* The letters in `taken`, which may be NULL, have another meaning in the command. */
static cli_option option_of(const kiln_build_option *row, const char *taken, size_t offset)
{
    const bool is_taken = taken != NULL && row->letter != 0 && strchr(taken, row->letter) != NULL;
    const int64_t least = row->least / unit_of(row->value);
    const int64_t most = row->most / unit_of(row->value);
    cli_option option = {.name = row->flag,
                         .letter = is_taken ? 0 : row->letter,
                         .value = row->value,
                         .kind = CLI_BUILD,
                         .offset = offset,
                         .least = (double)least,
                         .most = (double)most,
                         .choices = row->choices,
                         .help = row->help};
    if (row->kind == KILN_OPTION_LEVEL) {
        option.least = 0;
    }
    return option;
}

bool cli_option_next(const cli_option *options, cli_position *at, cli_option *option)
{
    kiln_build_option row = {.struct_size = sizeof row};
    for (; options[at->own].name != NULL; at->own++, at->row = 0) {
        const cli_option *own = &options[at->own];
        if (own->kind != CLI_ROWS) {
            at->own++;
            *option = *own;
            return true;
        }
        while (at->row < kiln_build_option_count()) {
            if (kiln_build_option_get(at->row++, &row) == KILN_OK && stands_in(own->name, &row)) {
                *option = option_of(&row, own->value, own->offset);
                return true;
            }
        }
    }
    return false;
}

/* Converts a value to the form that the library expects. */
static cli_exit translate(const cli_command *command, const cli_option *option,
                          const kiln_build_option *row, const char *value, char text[32])
{
    cli_option one = *option;
    double real = 0;
    int64_t integer = 0;
    int choice = 0;
    switch (row->kind) {
        case KILN_OPTION_CHOICE:
            one.kind = CLI_CHOICE;
            (void)snprintf(text, 32, "%.31s", value);
            return cli_option_read(command, &one, value, &choice);
        case KILN_OPTION_INTEGER:
        case KILN_OPTION_LEVEL:
            one.kind = CLI_INTEGER;
            if (cli_option_read(command, &one, value, &integer) != CLI_DONE) {
                return CLI_MISUSED;
            }
            /* 0 means the default in the library. */
            integer = integer == 0 && row->kind == KILN_OPTION_LEVEL ? -1 : integer;
            (void)snprintf(text, 32, "%lld", (long long)integer);
            return CLI_DONE;
        default:
            one.kind = CLI_REAL;
            if (cli_option_read(command, &one, value, &real) != CLI_DONE) {
                return CLI_MISUSED;
            }
            (void)snprintf(text, 32, "%.0f", floor(real * (double)unit_of(row->value)));
            return CLI_DONE;
    }
}

bool cli_row_find(const char *flag, kiln_build_option *row)
{
    for (size_t i = 0; i < kiln_build_option_count(); i++) {
        if (kiln_build_option_get(i, row) == KILN_OK && row->flag != NULL &&
            strcmp(row->flag, flag) == 0) {
            return true;
        }
    }
    return false;
}

cli_exit cli_row_store(const cli_command *command, const cli_option *option, const char *value,
                       kiln_build_options **options)
{
    kiln_build_option row = {.struct_size = sizeof row};
    char text[32] = "true";
    (void)cli_row_find(option->name, &row);
    if (row.kind != KILN_OPTION_FLAG && row.kind < KILN_OPTION_TEXT &&
        translate(command, option, &row, value, text) != CLI_DONE) {
        return CLI_MISUSED;
    }
    if (*options == NULL && kiln_build_options_create(options) != KILN_OK) {
        return cli_fail();
    }
    if (kiln_build_options_set(*options, row.name, row.kind < KILN_OPTION_TEXT ? text : value) ==
        KILN_OK) {
        return CLI_DONE;
    }
    /* The message is "NAME: what is wrong". */
    const char *why = strstr(kiln_error_message(), ": ");
    return cli_misuse(command, "--%s%s", option->name, why != NULL ? why : "");
}
