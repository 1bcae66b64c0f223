/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* With this many lines about a model, the first sentence is still on the screen. */
#define MOST_ISSUES 20

static void print_error(const char *prefix, const char *sentence)
{
    SCOPED_HEAP char *shown = cli_in_shell(sentence);
    SCOPED_HEAP char *printable = cli_printable(shown);
    cli_progress_hide();
    (void)fprintf(stderr, "%s%s\n", prefix, printable);
}

static void CLI_PRINTF(1, 0) print_error_v(const char *format, va_list arguments)
{
    char sentence[2048];
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    print_error("kiln: ", sentence);
}

void cli_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_error_v(format, arguments);
    va_end(arguments);
}

cli_exit cli_fail(void)
{
    print_error("kiln: ", kiln_error_message());
    return CLI_FAILED;
}

void cli_issue_print(FILE *file, const kiln_issue *issue)
{
    SCOPED_HEAP char *shown = cli_in_shell(issue->sentence);
    SCOPED_HEAP char *sentence = cli_printable(shown);
    (void)fprintf(file, "%s: %s: %s\n",
                  issue->severity == KILN_SEVERITY_ERROR ? "error" : "warning",
                  kiln_issue_kind_name(issue->kind), sentence);
}

cli_exit cli_fail_issues(const kiln_issue_list *issues)
{
    const size_t errors = kiln_issue_list_errors(issues);
    const cli_exit result = cli_fail();
    if (errors == 1 &&
        strstr(kiln_error_message(), kiln_issue_list_get(issues, 0)->sentence) != NULL) {
        return result;
    }
    for (size_t i = 0; i < errors && i < MOST_ISSUES; i++) {
        (void)fputs("  ", stderr);
        cli_issue_print(stderr, kiln_issue_list_get(issues, i));
    }
    if (errors > MOST_ISSUES) {
        (void)fprintf(stderr, "  and %zu more; kiln check shows all\n", errors - MOST_ISSUES);
    }
    return result;
}

cli_exit cli_misuse(const cli_command *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_error_v(format, arguments);
    va_end(arguments);
    if (command == NULL) {
        (void)fputs("kiln: \"kiln help\" lists the commands\n", stderr);
    } else {
        (void)fprintf(stderr, "kiln: \"kiln %s --help\" says more\n", command->name);
    }
    return CLI_MISUSED;
}

/* Whether --verbose was given. */
static bool is_verbose;

static void log_line(void *user, kiln_log_level level, const char *component, const char *message)
{
    static const char *const names[] = {"", "error", "warning", "info", "debug"};
    char prefix[96];
    const bool known = (int)level >= 0 && (size_t)level < CLI_ARRAY_LENGTH(names);
    (void)user;
    if (level == KILN_LOG_ERROR && !is_verbose) {
        return; /* the failing call reports it too */
    }
    (void)snprintf(prefix, sizeof prefix, "kiln: %s: %s: ", known ? names[level] : "?", component);
    print_error(prefix, message);
}

static bool is_quiet;

bool cli_is_quiet(void)
{
    return is_quiet;
}

void cli_quiet_begin(bool nothing)
{
    is_quiet = true;
    cli_progress_forbid();
    if (!is_verbose) {
        kiln_log_set_sink(log_line, NULL, KILN_LOG_ERROR);
    }
    if (nothing && freopen("/dev/null", "w", stdout) == NULL) {
        cli_error("--quiet: /dev/null cannot be opened");
    }
}

void cli_log_begin(int verbosity)
{
    is_verbose = verbosity > 0;
    kiln_log_set_sink(log_line, NULL,
                      verbosity >= 2   ? KILN_LOG_DEBUG
                      : verbosity == 1 ? KILN_LOG_INFO
                                       : KILN_LOG_WARNING);
}
