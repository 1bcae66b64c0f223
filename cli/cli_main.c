/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "cli_list.h"

const cli_command *const cli_commands[] = {
    &cli_command_run,       &cli_command_bench,
    &cli_command_build,     &cli_command_inspect,
    &cli_command_check,     &cli_command_compare,
    &cli_command_calibrate, &cli_command_quantize,
    &cli_command_refit,     &cli_command_cache,
    &cli_command_serve,     &cli_command_doctor,
    &cli_command_help,      NULL,
};

cli_exit cli_misuse_command(const char *name)
{
    const char *names[64];
    size_t count = 0;
    if (name[0] == '-') {
        names[count++] = "--version";
        names[count++] = "--help";
    }
    for (size_t i = 0; name[0] != '-' && cli_commands[i] != NULL; i++) {
        names[count++] = cli_commands[i]->name;
    }
    const char *closest = cli_closest(name, names, count);
    const char *what = name[0] == '-' ? "option" : "command";
    if (closest != NULL) {
        return cli_misuse(NULL, "there is no %s \"%.80s\"; did you mean \"%s\"?", what, name,
                          closest);
    }
    return cli_misuse(NULL, "there is no %s \"%.80s\"", what, name);
}

static cli_exit dispatch(int count, char **arguments)
{
    if (count < 2) {
        cli_help_overview(true);
        return CLI_MISUSED;
    }
    const char *name = arguments[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        (void)printf("kiln %s\n", kiln_version_string());
        return CLI_DONE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        cli_help_overview(false);
        return CLI_DONE;
    }
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        if (strcmp(cli_commands[i]->name, name) == 0) {
            return cli_run_command(cli_commands[i], count - 2, arguments + 2);
        }
    }
    return cli_misuse_command(name);
}

int main(int count, char **arguments)
{
    /* A file past the limit of `ulimit -f` is then an error of the write, with its sentence. */
    (void)signal(SIGXFSZ, SIG_IGN);
    cli_exit result = dispatch(count, arguments);
    /* What did not reach the disk or the pipe was not done. */
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        cli_error("standard output cannot be written");
        result = result == CLI_DONE ? CLI_FAILED : result;
    }
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    return (int)result;
}
