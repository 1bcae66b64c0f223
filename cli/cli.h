/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of `kiln` share: the command and option tables, errors, text, tables, JSON,
 * progress.
 *
 * A command is one const cli_command at the end of its own file, listed in cli_main.c. Its
 * options, help text and manual page all come from that table. */
#ifndef KILN_CLI_H
#define KILN_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <kiln/kiln.h>

#include "../server/scoped.h"
#include "base/words.h"

#define CLI_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#define CLI_ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
/* Behind a noun, for "%s": "1 node", "2 nodes". */
#define CLI_S(count) ((count) == 1 ? "" : "s")
#define CLI_ES(count) ((count) == 1 ? "" : "es")
#define CLI_MIB 1048576.0

/* What the program ends with. */
typedef enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1, /* it failed, or a comparison found a difference */
    CLI_MISUSED = 2 /* an unknown command, option, value or name */
} cli_exit;

/* Returns where a call of the library fails, with the failure said. */
#define CLI_FAIL_IF_ERROR(expression)  \
    do {                               \
        if ((expression) != KILN_OK) { \
            return cli_fail();         \
        }                              \
    } while (0)
#define CLI_RETURN_UNLESS_DONE(expression)       \
    do {                                         \
        const cli_exit cli_exit_ = (expression); \
        if (cli_exit_ != CLI_DONE) {             \
            return cli_exit_;                    \
        }                                        \
    } while (0)

/* --- what ends with its scope --- */

/* An object of the library's: CLI_OWNED(engine) engine = NULL; */
#define CLI_OWNED(type) SCOPED(cli_end_##type) kiln_##type *
#define CLI_ENDS(type, end)                                \
    static inline void cli_end_##type(kiln_##type **owned) \
    {                                                      \
        end(*owned);                                       \
    }
CLI_ENDS(batch_folder, kiln_batch_folder_close)
CLI_ENDS(build, kiln_build_destroy)
CLI_ENDS(cache_list, kiln_cache_list_destroy)
CLI_ENDS(comparison, kiln_comparison_destroy)
CLI_ENDS(context, kiln_context_destroy)
CLI_ENDS(engine, kiln_engine_release)
CLI_ENDS(issue_list, kiln_issue_list_destroy)
CLI_ENDS(network, kiln_network_destroy)

/* --- options (cli_options.c) --- */

/* How the value of an option is read, and the type of its field in the settings. */
typedef enum cli_kind {
    CLI_FLAG,    /* bool */
    CLI_COUNT,   /* int: how often it was given */
    CLI_TEXT,    /* const char *: the argument itself */
    CLI_OUTPUT,  /* const char *: a file that is written when all is done, so looked at first */
    CLI_CHANGED, /* the same, where it may take the place of what is read */
    CLI_INTEGER, /* int64_t within least and most */
    CLI_REAL,    /* double within least and most */
    CLI_CHOICE,  /* int: index into choices */
    CLI_LIST,    /* cli_list: may be given several times */
    CLI_BUILD, /* kiln_build_options *, made when it is first needed: an option of the library's */
    CLI_ROWS   /* stands for those of the library's options that `name` tells: CLI_LOADS, the
                  title of a group (but for those), or names divided by blanks; without the letters
                  of `value`, which the command has for others */
} cli_kind;

/* Those that matter wherever a model is opened. */
#define CLI_LOADS "*"
#define CLI_ROWS_OF(rows, offset)                           \
    {                                                       \
        rows, 0, NULL, CLI_ROWS, (offset), 0, 0, NULL, NULL \
    }

typedef struct cli_list {
    const char **items; /* the arguments themselves */
    size_t count;
} cli_list;

typedef struct cli_option {
    const char *name;  /* "threads" for --threads */
    char letter;       /* 't' for -t, or 0 */
    const char *value; /* "N" as the help calls the value; NULL for flags */
    cli_kind kind;
    size_t offset; /* of the field in the group's part of the settings */
    double least;
    double most;
    const char *const *choices; /* ended by NULL */
    const char *help;           /* one paragraph */
} cli_option;

/* Options that several commands share have a struct of their own inside each command's settings. */
typedef struct cli_group {
    const char *title;         /* NULL ends the list of groups */
    const cli_option *options; /* ended by a NULL name */
    size_t base;               /* of the group's part in the settings */
} cli_group;

/* An option that says nothing without another. */
typedef struct cli_need {
    const char *option; /* NULL ends the list */
    const char *other;
} cli_need;

typedef struct cli_example {
    const char *line; /* NULL ends the list */
    const char *what;
} cli_example;

typedef struct cli_command {
    const char *name;
    const char *operands;    /* "MODEL", "MODEL...", "[COMMAND]" for one that may be left out, "" */
    const char *summary;     /* a few words */
    const char *description; /* paragraphs, divided by "\n\n"; one that begins with spaces is
                                printed as it stands */
    const cli_group *groups;
    const cli_need *needs; /* NULL for none */
    const cli_example *examples;
    size_t size;          /* of its settings, which begin as */
    const void *defaults; /* this (CLI_SETTINGS) */
    /* With the settings read, and operands that end with NULL. */
    cli_exit (*run)(const struct cli_command *self, void *settings, const char **operands);
    bool tells_errors; /* its text is a list of errors, which --quiet leaves */
} cli_command;

/* The settings of a command and what they are where nothing is given. */
#define CLI_SETTINGS(type, ...)                     \
    .size = sizeof(type), .defaults = &(const type) \
    {                                               \
        __VA_ARGS__                                 \
    }

/* Every command understands these as well. */
extern const cli_group cli_common_group;

/* Reads what follows the command's name, and runs it. */
cli_exit cli_run_command(const cli_command *command, int count, char **arguments);

/* Where a walk over options is; begin with a zeroed one. */
typedef struct cli_position {
    size_t own, row;
} cli_position;

/* The next of the options, with the rows of the library in place of CLI_ROWS; false at the end. */
bool cli_option_next(const cli_option *options, cli_position *at, cli_option *option);

/* The library's option of this name in a shell; false where there is none (cli_rows.c). */
bool cli_row_find(const char *flag, kiln_build_option *row);

/* Reads the value of an option of the library's (cli_rows.c). */
cli_exit cli_row_store(const cli_command *command, const cli_option *option, const char *value,
                       kiln_build_options **options);

/* What an option of another tool (trtexec, polygraphy), without its dashes, is called here, or
 * NULL. */
const char *cli_counterpart(const char *word, const char **tool);

/* --- values (cli_value.c) --- */

/* Whether a file could be written there, with what speaks against it: better known before an hour's
 * build than behind it. */
cli_exit cli_look_at_output(const char *path);

/* Reads the value of an option of a command's own into its field. */
cli_exit cli_option_read(const cli_command *command, const cli_option *option, const char *value,
                         void *field);
/* Whether the word, "" never, is one of `words` with blanks between them. */
bool cli_has_word(const char *words, const char *word);
bool cli_ends_with(const char *text, const char *ending);
/* The last name of a path. */
const char *cli_file_name(const char *path);
/* A number that fills all of `text`. */
bool cli_number(const char *text, double *number);
/* "A" or "A:B": how many numbers that is; 0: it is of another form. */
int cli_numbers_read(const char *text, double numbers[2]);
/* The candidate that `word` was probably meant to be, or NULL. */
const char *cli_closest(const char *word, const char *const *candidates, size_t count);

/* --- help (cli_help.c) --- */

/* `commands` are ended by NULL. */
void cli_help_overview(const cli_command *const *commands, bool to_errors);
void cli_help_command(const cli_command *command);
void cli_manual_overview(const cli_command *const *commands);
void cli_manual_command(const cli_command *command);

/* --- memory (cli_memory.c) --- */

/* End the program with CLI_FAILED when memory is exhausted. What is allocated is zeroed. */
void *cli_allocate(size_t size);
void *cli_grow(void *memory, size_t size);

/* --- the library's words (cli_terms.c) --- */

/* A copy of a sentence of the library's that speaks of the options of this program instead of
 * functions and members. The caller frees it. */
char *cli_in_shell(const char *sentence);

/* --- errors and the log (cli_report.c) --- */

/* "kiln: " and the sentence on standard error. Bytes that could steer a terminal are written as
 * \xNN. */
void cli_error(const char *format, ...) CLI_PRINTF(1, 2);

/* The library's own sentence; returns CLI_FAILED. */
cli_exit cli_fail(void);

/* One line: severity, kind and sentence. */
void cli_issue_print(FILE *file, const kiln_issue *issue);

/* cli_fail, and below it the errors of the list that say more than the sentence. NULL is allowed.
 */
cli_exit cli_fail_issues(const kiln_issue_list *issues);

/* A sentence about wrong use and where the help is; returns CLI_MISUSED. */
cli_exit cli_misuse(const cli_command *command, const char *format, ...) CLI_PRINTF(2, 3);

/* From now on warnings go to standard error; with `verbosity` 1 also what Kiln does, with 2
 * everything. */
void cli_log_begin(int verbosity);

/* Whether --quiet was given. */
bool cli_is_quiet(void);
/* From now on warnings are left out, there is no progress, and with `nothing` standard output goes
 * nowhere. */
void cli_quiet_begin(bool nothing);

/* --- text (cli_text.c) --- */

typedef struct cli_text {
    char *data; /* terminated; NULL while empty */
    size_t size;
    size_t capacity;
} cli_text;

/* One that ends with its scope. */
#define CLI_TEXT_SCOPED SCOPED(cli_text_finish) cli_text
void cli_text_append(cli_text *text, const char *data, size_t size);
void cli_text_printf(cli_text *text, const char *format, ...) CLI_PRINTF(2, 3);
void cli_text_add(cli_text *text, const char *string);
/* Adds it with the letters that HTML and XML have a use for written out. */
void cli_text_escaped(cli_text *text, const char *string);
void cli_text_finish(cli_text *text);
/* Writes it to a file, whole or not at all; says why not. (cli_save.c) */
cli_exit cli_text_save(const cli_text *text, const char *path);

/* Bytes of the well-formed UTF-8 sequence at `text`; 0 at the end, or when there is none. */
size_t cli_utf8_length(const char *text);

/* How many of `size` bytes are left where at most `most` are kept, and no character is cut. */
size_t cli_utf8_cut(const char *text, size_t size, size_t most);

/* `source` with bytes that are not printable UTF-8 written as \xNN, and line ends as \n. The caller
 * frees it. */
char *cli_printable(const char *source);

/* Columns that printable text takes. */
size_t cli_columns(const char *text);

/* Takes the middle out of printable text, so that `columns` (8 or more) are left. */
void cli_shorten(char *text, size_t columns);

/* Whether the locale's encoding is UTF-8. */
bool cli_has_unicode(void);

/* Columns of the terminal that a stream is, STDOUT_FILENO for instance; 0 when it is none. */
size_t cli_terminal_columns(int stream);

/* Appends `source` in lines of at most `width` columns, each but the first after `indent` spaces.
 * The first begins where the caller is, at column `indent`. */
void cli_text_wrap(cli_text *text, const char *source, size_t indent, size_t width);

/* --- tables (cli_table.c) --- */

#define CLI_TABLE_COLUMNS 12

/* Cells of text in columns that are as wide as their widest cell. */
typedef struct cli_table {
    size_t columns;
    size_t rows;
    char **cells;          /* rows * columns, row by row; the table's */
    const char *alignment; /* one letter a column: 'l' or 'r' */
    size_t filled;         /* cells so far */
} cli_table;

/* `headings` has one string for each letter of `alignment`; NULL: none. Both are static. */
void cli_table_init(cli_table *table, const char *alignment, const char *const *headings);
void cli_table_add(cli_table *table, const char *cell);
/* Several. */
#define CLI_TABLE_ADD(table, ...) \
    cli_table_add_all((table), (const char *const[]){__VA_ARGS__, NULL})
void cli_table_add_all(cli_table *table, const char *const *cells);
void cli_table_printf(cli_table *table, const char *format, ...) CLI_PRINTF(2, 3);
/* Prints it `indent` columns in, and frees it. On a terminal that is too narrow, the widest column
 * of text is shortened. */
void cli_table_print(cli_table *table, size_t indent);
void cli_table_finish(cli_table *table); /* without printing it */

/* --- JSON (cli_json.c) --- */

struct cJSON;

/* The string with bytes that are not UTF-8 replaced by U+FFFD; JSON has no way to write them. */
struct cJSON *cli_json_text(const char *text);
void cli_json_add_text(struct cJSON *object, const char *key, const char *text);
/* Dimensions as numbers, null for one that is not known. */
struct cJSON *cli_json_shape(const kiln_shape *shape);
/* The library that an engine or this machine offers. */
struct cJSON *cli_json_backend(const kiln_backend_info *info);
/* Prints the document and deletes it. */
cli_exit cli_json_print(struct cJSON *document);

/* --- progress (cli_progress.c) --- */

/* Says on standard error what is going on once it takes more than a second, if that is a terminal.
 * One at a time. */
void cli_progress_begin(const char *what);
/* There will be none. */
void cli_progress_forbid(void);
/* How much is done, 0 to 1; without it only the time is shown. Cheap; any thread. */
void cli_progress_set(double fraction);
/* What of it is going on; shown with the seconds since it was first said, so that a line which
 * stands still is seen to be at work. From the thread that began. */
void cli_progress_phase(const char *name);
void cli_progress_end(void);
/* Runs `call` meanwhile; returns where it fails, the status. */
#define CLI_WITH_PROGRESS(what, call)                  \
    do {                                               \
        cli_progress_begin(what);                      \
        const kiln_status cli_status_within_ = (call); \
        cli_progress_end();                            \
        KLN_RETURN_IF_ERROR(cli_status_within_);       \
    } while (0)
/* Takes the line off the terminal for a message; the next tick draws it again. */
void cli_progress_hide(void);

#endif
