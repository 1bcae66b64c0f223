/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

static bool write_to(FILE *file, const cli_text *text)
{
    const bool is_written =
        file != NULL && fwrite(text->data, 1, text->size, file) == text->size && fflush(file) == 0;
    const int reason = errno;
    const bool is_closed = file != NULL && fclose(file) == 0;
    errno = is_written ? errno : reason;
    return is_written && is_closed;
}

cli_exit cli_text_save(const cli_text *text, const char *path)
{
    struct stat found;
    CLI_TEXT_SCOPED part = {NULL, 0, 0};
    const bool is_file = stat(path, &found) != 0 || S_ISREG(found.st_mode);
    cli_text_printf(&part, "%s.%ld.part", path, (long)getpid());
    bool is_saved = write_to(fopen(is_file ? part.data : path, is_file ? "wbx" : "wb"), text);
    if (is_saved && is_file) {
        is_saved = rename(part.data, path) == 0;
    }
    if (!is_saved) {
        cli_error("\"%s\": writing failed: %s", path, strerror(errno));
        if (is_file) {
            (void)remove(part.data);
        }
    }
    return is_saved ? CLI_DONE : CLI_FAILED;
}
