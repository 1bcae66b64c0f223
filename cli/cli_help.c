/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define WIDTH 79
#define OPTION_COLUMN 26

/* Returns the next paragraph of a description; the caller frees the copy. */
static char *next_paragraph(const char **at)
{
    const char *begin = *at;
    if (*begin == '\0') {
        return NULL;
    }
    const char *end = strstr(begin, "\n\n");
    const size_t length = end != NULL ? (size_t)(end - begin) : strlen(begin);
    char *paragraph = cli_allocate(length + 1);
    memcpy(paragraph, begin, length);
    paragraph[length] = '\0';
    *at = end != NULL ? end + 2 : begin + length;
    return paragraph;
}

const cli_group cli_common_group = {
    "Everywhere",
    (const cli_option[]){
        {"verbose", 'v', NULL, CLI_COUNT, 0, 0, 0, NULL,
         "Log to standard error which library was found and which backend was chosen. Given "
         "twice, also each step and every message of the backend's library."},
        {"quiet", 'q', NULL, CLI_FLAG, 0, 0, 0, NULL,
         "Print only errors, and JSON if requested; the exit status tells the result."},
        {"help", 'h', NULL, CLI_FLAG, 0, 0, 0, NULL, "Show this help and exit."},
        {0},
    },
    0};

static void option_label(const cli_option *option, cli_text *label)
{
    if (option->letter != 0) {
        cli_text_printf(label, "-%c, ", option->letter);
    } else {
        cli_text_append(label, "    ", 4);
    }
    cli_text_printf(label, "--%s%s%s", option->name, option->value != NULL ? " " : "",
                    option->value != NULL ? option->value : "");
}

static void print_options(const cli_group *group)
{
    CLI_TEXT_SCOPED text = {NULL, 0, 0};
    cli_position at = {0, 0};
    cli_option option;
    cli_text_printf(&text, "\n%s:\n", group->title);
    while (cli_option_next(group->options, &at, &option)) {
        CLI_TEXT_SCOPED label = {NULL, 0, 0};
        option_label(&option, &label);
        cli_text_printf(&text, "  %s", label.data);
        if (label.size + 4 > OPTION_COLUMN) {
            cli_text_printf(&text, "\n%*s", OPTION_COLUMN, "");
        } else {
            cli_text_printf(&text, "%*s", (int)(OPTION_COLUMN - 2 - label.size), "");
        }
        cli_text_wrap(&text, option.help, OPTION_COLUMN, WIDTH);
        cli_text_append(&text, "\n", 1);
    }
    (void)fputs(text.data, stdout);
}

void cli_help_command(const cli_command *command)
{
    CLI_TEXT_SCOPED text = {NULL, 0, 0};
    cli_text_printf(&text, "kiln %s - %s\n\nUsage: kiln %s%s%s [OPTION]...\n", command->name,
                    command->summary, command->name, command->operands[0] != '\0' ? " " : "",
                    command->operands);
    const char *at = command->description;
    for (char *paragraph; (paragraph = next_paragraph(&at)) != NULL;) {
        cli_text_append(&text, "\n", 1);
        if (paragraph[0] == ' ') {
            cli_text_add(&text, paragraph);
        } else {
            cli_text_wrap(&text, paragraph, 0, WIDTH);
        }
        cli_text_append(&text, "\n", 1);
        free(paragraph);
    }
    (void)fputs(text.data, stdout);
    for (const cli_group *group = command->groups; group != NULL && group->title != NULL; group++) {
        print_options(group);
    }
    print_options(&cli_common_group);
    if (command->examples != NULL) {
        (void)puts("\nExamples:");
    }
    for (const cli_example *example = command->examples; example != NULL && example->line != NULL;
         example++) {
        (void)printf("  %s\n      %s\n", example->line, example->what);
    }
}

static const char about[] =
    "Runs neural networks from ONNX files and TensorRT plans: on TensorRT if it is installed, "
    "else on ONNX Runtime, else on a small built-in executor.";

void cli_help_overview(const cli_command *const *commands, bool to_errors)
{
    CLI_TEXT_SCOPED text = {NULL, 0, 0};
    cli_text_append(&text, "Usage: kiln COMMAND [ARGUMENT]...\n\n", 35);
    cli_text_wrap(&text, about, 0, WIDTH);
    cli_text_append(&text, "\n\nCommands:\n", 12);
    for (size_t i = 0; commands[i] != NULL; i++) {
        cli_text_printf(&text, "  %-10s%s\n", commands[i]->name, commands[i]->summary);
    }
    cli_text_printf(
        &text,
        "\n\"kiln COMMAND --help\" explains a command; \"kiln --version\" prints the version.\n");
    (void)fputs(text.data, to_errors ? stderr : stdout);
}

/* --- manual pages --- */

/* Prints text for troff: hyphens that can be copied from the page, and no line that could be taken
 * for a request. */
static void roff(const char *source)
{
    bool at_line_start = true;
    for (; *source != '\0'; source++) {
        if (at_line_start && (*source == '.' || *source == '\'')) {
            (void)fputs("\\&", stdout);
        }
        if (*source == '-') {
            (void)fputs("\\-", stdout);
        } else if (*source == '\\') {
            (void)fputs("\\e", stdout);
        } else {
            (void)putchar(*source);
        }
        at_line_start = *source == '\n';
    }
}

static void roff_line(const char *before, const char *source, const char *after)
{
    (void)fputs(before, stdout);
    roff(source);
    (void)fputs(after, stdout);
}

static void roff_head(const char *name, const char *summary)
{
    CLI_TEXT_SCOPED upper = {NULL, 0, 0};
    for (const char *at = name; *at != '\0'; at++) {
        const char letter = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
        cli_text_append(&upper, &letter, 1);
    }
    (void)printf(".\\\" Made by \"kiln help --man\".\n");
    (void)printf(".TH \"%s\" \"1\" \"\" \"kiln %s\" \"Kiln\"\n", upper.data, kiln_version_string());
    roff_line(".SH NAME\n", name, " \\- ");
    roff_line("", summary, "\n");
}

static void roff_options(const cli_group *group)
{
    cli_position at = {0, 0};
    cli_option option;
    roff_line(".SS \"", group->title, "\"\n");
    while (cli_option_next(group->options, &at, &option)) {
        (void)fputs(".TP\n", stdout);
        if (option.letter != 0) {
            (void)printf("\\fB\\-%c\\fR, ", option.letter);
        }
        roff_line("\\fB\\-\\-", option.name, "\\fR");
        if (option.value != NULL) {
            roff_line(" \\fI", option.value, "\\fR");
        }
        roff_line("\n", option.help, "\n");
    }
}

static void roff_status(void)
{
    (void)fputs(
        ".SH EXIT STATUS\n.TP\n0\nSuccess.\n.TP\n1\nIt failed, or a comparison found a difference; "
        "the reason is on standard error.\n.TP\n2\nWrong use: an unknown command, option, value or "
        "name.\n",
        stdout);
}

void cli_manual_command(const cli_command *command)
{
    char name[64];
    (void)snprintf(name, sizeof name, "kiln-%s", command->name);
    roff_head(name, command->summary);
    (void)printf(".SH SYNOPSIS\n\\fBkiln %s\\fR \\fI%s\\fR [\\fIOPTION\\fR]...\n.SH DESCRIPTION\n",
                 command->name, command->operands);
    const char *at = command->description;
    bool is_first = true;
    for (char *paragraph; (paragraph = next_paragraph(&at)) != NULL;) {
        const bool is_literal = paragraph[0] == ' ';
        (void)fputs(is_literal ? ".PP\n.nf\n" : is_first ? "" : ".PP\n", stdout);
        roff_line("", paragraph, is_literal ? "\n.fi\n" : "\n");
        is_first = false;
        free(paragraph);
    }
    (void)fputs(".SH OPTIONS\n", stdout);
    for (const cli_group *group = command->groups; group != NULL && group->title != NULL; group++) {
        roff_options(group);
    }
    roff_options(&cli_common_group);
    roff_status();
    if (command->examples != NULL) {
        (void)fputs(".SH EXAMPLES\n", stdout);
    }
    for (const cli_example *example = command->examples; example != NULL && example->line != NULL;
         example++) {
        roff_line(".TP\n.B ", example->line, "\n");
        roff_line("", example->what, "\n");
    }
    (void)fputs(".SH SEE ALSO\n.BR kiln (1)\n", stdout);
}

void cli_manual_overview(const cli_command *const *commands)
{
    roff_head("kiln", "run neural networks on TensorRT and ONNX Runtime");
    (void)fputs(
        ".SH SYNOPSIS\n\\fBkiln\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...\n.SH DESCRIPTION\n",
        stdout);
    roff_line("", about, "\n.SH COMMANDS\n");
    for (size_t i = 0; commands[i] != NULL; i++) {
        roff_line(".TP\n\\fB", commands[i]->name, "\\fR\n");
        roff_line("", commands[i]->summary, "\n");
    }
    roff_status();
    (void)fputs(".SH SEE ALSO\n", stdout);
    for (size_t i = 0; commands[i] != NULL; i++) {
        roff_line(".BR kiln\\-", commands[i]->name, " (1)");
        (void)puts(commands[i + 1] != NULL ? "," : "");
    }
}
