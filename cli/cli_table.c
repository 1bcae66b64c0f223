/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

#define GAP 2

void cli_table_init(cli_table *table, const char *alignment, const char *const *headings)
{
    *table = (cli_table){strlen(alignment), 0, NULL, alignment, 0};
    for (size_t i = 0; headings != NULL && i < table->columns; i++) {
        cli_table_add(table, headings[i]);
    }
}

void cli_table_add(cli_table *table, const char *cell)
{
    if (table->filled % table->columns == 0) {
        table->rows++;
        table->cells = cli_grow(table->cells, table->rows * table->columns * sizeof(char *));
    }
    table->cells[table->filled++] = cli_printable(cell);
}

void cli_table_add_all(cli_table *table, const char *const *cells)
{
    for (; *cells != NULL; cells++) {
        cli_table_add(table, *cells);
    }
}

void cli_table_printf(cli_table *table, const char *format, ...)
{
    char cell[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(cell, sizeof cell, format, arguments);
    va_end(arguments);
    cli_table_add(table, cell);
}

static void measure(const cli_table *table, size_t widths[CLI_TABLE_COLUMNS])
{
    memset(widths, 0, CLI_TABLE_COLUMNS * sizeof *widths);
    for (size_t i = 0; i < table->filled; i++) {
        const size_t columns = cli_columns(table->cells[i]);
        if (columns > widths[i % table->columns]) {
            widths[i % table->columns] = columns;
        }
    }
}

/* Narrows the widest text column until the table fits the terminal. */
static void fit(cli_table *table, size_t indent, size_t widths[CLI_TABLE_COLUMNS])
{
    const size_t terminal = cli_terminal_columns(STDOUT_FILENO);
    size_t total = indent;
    size_t widest = 0;
    for (size_t i = 0; i < table->columns; i++) {
        total += widths[i] + (i > 0 ? GAP : 0);
        widest = table->alignment[i] == 'l' && widths[i] > widths[widest] ? i : widest;
    }
    if (terminal == 0 || total <= terminal || widths[widest] <= total - terminal + 8) {
        return;
    }
    const size_t columns = widths[widest] - (total - terminal);
    for (size_t row = 0; row < table->rows; row++) {
        cli_shorten(table->cells[row * table->columns + widest], columns);
    }
    widths[widest] = columns;
}

static void print_row(const cli_table *table, size_t row, size_t indent, const size_t *widths)
{
    CLI_TEXT_SCOPED line = {NULL, 0, 0};
    cli_text_printf(&line, "%*s", (int)indent, "");
    cli_text_append(&line, "", 0);
    for (size_t i = 0; i < table->columns; i++) {
        const char *cell = table->cells[row * table->columns + i];
        const int padding = (int)(widths[i] - cli_columns(cell));
        const bool is_right = table->alignment[i] == 'r';
        cli_text_printf(&line, "%s%*s%s%*s", i > 0 ? "  " : "", is_right ? padding : 0, "", cell,
                        is_right ? 0 : padding, "");
    }
    while (line.size > 0 && line.data[line.size - 1] == ' ') {
        line.data[--line.size] = '\0';
    }
    (void)puts(line.data);
}

void cli_table_finish(cli_table *table)
{
    for (size_t i = 0; i < table->filled; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (cli_table){0, 0, NULL, NULL, 0};
}

void cli_table_print(cli_table *table, size_t indent)
{
    size_t widths[CLI_TABLE_COLUMNS];
    while (table->filled < table->rows * table->columns) {
        cli_table_add(table, "");
    }
    measure(table, widths);
    fit(table, indent, widths);
    for (size_t row = 0; row < table->rows; row++) {
        print_row(table, row, indent, widths);
    }
    cli_table_finish(table);
}
