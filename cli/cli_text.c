/* SPDX-License-Identifier: Apache-2.0 */
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"

void cli_text_append(cli_text *text, const char *data, size_t size)
{
    if (text->size + size + 1 > text->capacity) {
        text->capacity = (text->size + size + 1) * 2;
        text->data = cli_grow(text->data, text->capacity);
    }
    if (size > 0) {
        memcpy(text->data + text->size, data, size);
    }
    text->size += size;
    text->data[text->size] = '\0';
}

void cli_text_printf(cli_text *text, const char *format, ...)
{
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length > 0) {
        SCOPED_HEAP char *piece = cli_allocate((size_t)length + 1);
        (void)vsnprintf(piece, (size_t)length + 1, format, again);
        cli_text_append(text, piece, (size_t)length);
    }
    va_end(again);
}

void cli_text_add(cli_text *text, const char *string)
{
    cli_text_append(text, string, strlen(string));
}

void cli_text_escaped(cli_text *text, const char *string)
{
    for (; *string != '\0'; string++) {
        switch (*string) {
            case '&': cli_text_add(text, "&amp;"); break;
            case '<': cli_text_add(text, "&lt;"); break;
            case '>': cli_text_add(text, "&gt;"); break;
            case '"': cli_text_add(text, "&quot;"); break;
            default: cli_text_append(text, (unsigned char)*string < 0x20 ? "?" : string, 1);
        }
    }
}

void cli_text_finish(cli_text *text)
{
    free(text->data);
    *text = (cli_text){NULL, 0, 0};
}

size_t cli_utf8_length(const char *text)
{
    uint32_t point = 0;
    /* No byte after the terminator is read, because the terminator never continues a character. */
    return text[0] == '\0' ? 0 : kln_utf8_read(text, 4, &point);
}

size_t cli_utf8_cut(const char *text, size_t size, size_t most)
{
    size_t kept = size < most ? size : most;
    while (kept < size && kept > 0 && ((unsigned char)text[kept] & 0xc0) == 0x80) {
        kept--;
    }
    return kept;
}

/* U+0080 to U+009F control a terminal like the codes below U+0020 and U+007F. */
static bool is_control(const char *text)
{
    const unsigned char first = (unsigned char)text[0];
    return first < 0x20 || first == 0x7f || (first == 0xc2 && (unsigned char)text[1] < 0xa0);
}

char *cli_printable(const char *source)
{
    cli_text text = {NULL, 0, 0};
    cli_text_append(&text, "", 0);
    while (*source != '\0') {
        const size_t length = cli_utf8_length(source);
        if (length > 0 && !is_control(source)) {
            cli_text_append(&text, source, length);
        } else if (*source == '\n') {
            cli_text_append(&text, "\\n", 2);
        } else {
            for (size_t i = 0; i < (length > 0 ? length : 1); i++) {
                cli_text_printf(&text, "\\x%02x", (unsigned char)source[i]);
            }
        }
        source += length > 0 ? length : 1;
    }
    return text.data;
}

size_t cli_columns(const char *text)
{
    size_t columns = 0;
    for (const char *at = text; *at != '\0'; at++) {
        columns += ((unsigned char)*at & 0xc0) != 0x80;
    }
    return columns;
}

void cli_shorten(char *text, size_t columns)
{
    const size_t length = strlen(text);
    if (cli_columns(text) <= columns || columns < 8) {
        return;
    }
    /* Cut only at the starts of characters. */
    const size_t head = (columns - 3 + 1) / 2;
    const size_t tail = columns - 3 - head;
    size_t head_end = 0;
    for (size_t seen = 0; head_end < length; head_end++) {
        seen += ((unsigned char)text[head_end] & 0xc0) != 0x80;
        if (seen > head) {
            break;
        }
    }
    size_t tail_begin = length;
    for (size_t seen = 0; seen < tail && tail_begin > 0;) {
        tail_begin--;
        seen += ((unsigned char)text[tail_begin] & 0xc0) != 0x80;
    }
    memmove(text + head_end + 3, text + tail_begin, length - tail_begin + 1);
    memcpy(text + head_end, "...", 3);
}

bool cli_has_unicode(void)
{
    static int known = -1;
    if (known < 0) {
        (void)setlocale(LC_CTYPE, "");
        known = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    }
    return known == 1;
}

size_t cli_terminal_columns(int stream)
{
    struct winsize size;
    if (isatty(stream) == 0 || ioctl(stream, TIOCGWINSZ, &size) != 0) {
        return 0;
    }
    return size.ws_col;
}

void cli_text_wrap(cli_text *text, const char *source, size_t indent, size_t width)
{
    size_t column = indent;
    bool is_first = true;
    for (const char *at = source; *at != '\0';) {
        const size_t spaces = strspn(at, " \n");
        at += spaces;
        const size_t length = strcspn(at, " \n");
        if (length == 0) {
            break;
        }
        if (!is_first && column + 1 + length > width) {
            cli_text_printf(text, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!is_first) {
            cli_text_append(text, " ", 1);
            column++;
        }
        cli_text_append(text, at, length);
        column += length;
        is_first = false;
        at += length;
    }
}
