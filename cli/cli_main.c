/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "cli_list.h"

/* Terminated by NULL. */
#define ROW(name) &cli_command_##name,
static const cli_command *const commands[] = {CLI_COMMAND_LIST(ROW) NULL};

static const cli_command *find_command(const char *name)
{
    for (size_t i = 0; commands[i] != NULL; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

/* Reports that there is no such command or, with a dash, no such option of `kiln` itself. */
static cli_exit misuse_command(const char *name)
{
    const char *names[64];
    size_t count = 0;
    if (name[0] == '-') {
        names[count++] = "--version";
        names[count++] = "--help";
    }
    for (size_t i = 0; name[0] != '-' && commands[i] != NULL; i++) {
        names[count++] = commands[i]->name;
    }
    const char *closest = cli_closest(name, names, count);
    const char *what = name[0] == '-' ? "option" : "command";
    const char *tool = NULL;
    const char *here = name[0] == '-' ? NULL : cli_counterpart(name, &tool);
    if (here != NULL) {
        return cli_misuse(NULL, "there is no command \"%.80s\"; for %s's there is %s", name, tool,
                          here);
    }
    if (closest != NULL) {
        return cli_misuse(NULL, "there is no %s \"%.80s\"; did you mean \"%s\"?", what, name,
                          closest);
    }
    return cli_misuse(NULL, "there is no %s \"%.80s\"", what, name);
}

/* --- kiln help --- */

typedef struct help_settings {
    bool man;
} help_settings;

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    (void)self;
    help_settings *settings = given;
    if (operands[0] == NULL) {
        if (settings->man) {
            cli_manual_overview(commands);
        } else {
            cli_help_overview(commands, false);
        }
        return CLI_DONE;
    }
    const cli_command *command = find_command(operands[0]);
    if (command == NULL) {
        return misuse_command(operands[0]);
    }
    if (settings->man) {
        cli_manual_command(command);
    } else {
        cli_help_command(command);
    }
    return CLI_DONE;
}

static const cli_option options[] = {
    {"man", 0, NULL, CLI_FLAG, offsetof(help_settings, man), 0, 0, NULL,
     "Write it as a manual page, in the form that man(1) reads."},
    {0},
};

static const cli_group groups[] = {{"Output", options, 0}, {0}};

static const cli_example examples[] = {
    {"kiln help run", "what \"kiln run --help\" shows too"},
    {"kiln help --man run | man -l -", "the same as a manual page"},
    {0},
};

const cli_command cli_command_help = {
    .name = "help",
    .operands = "[COMMAND]",
    .summary = "explain the commands",
    .description = "Lists the commands, or says what one of them does and which options it has.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(help_settings, .man = false),
    .run = run,
};

/* --- all commands --- */

static cli_exit dispatch(int count, char **arguments)
{
    if (count < 2) {
        cli_help_overview(commands, true);
        return CLI_MISUSED;
    }
    const char *name = arguments[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        (void)printf("kiln %s\n", kiln_version_string());
        return CLI_DONE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        cli_help_overview(commands, false);
        return CLI_DONE;
    }
    const cli_command *command = find_command(name);
    return command != NULL ? cli_run_command(command, count - 2, arguments + 2)
                           : misuse_command(name);
}

int main(int count, char **arguments)
{
    /* A file larger than the limit of `ulimit -f` is then reported as a write error. */
    (void)signal(SIGXFSZ, SIG_IGN);
    cli_exit result = dispatch(count, arguments);
    /* Output that did not reach the disk or the pipe counts as a failure. */
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        cli_error("standard output cannot be written");
        result = result == CLI_DONE ? CLI_FAILED : result;
    }
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    return (int)result;
}
