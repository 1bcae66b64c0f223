/* SPDX-License-Identifier: Apache-2.0 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "library_record.h"

bool kln_library_is_folder(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

static int newest_first(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;
    return strverscmp(*right, *left);
}

/* Appends `text` to `pattern` at `used`, escaped for glob; returns the new length, or 0 if it does
 * not fit. */
static size_t append_escaped(char pattern[PATH_MAX], size_t used, const char *text)
{
    for (; *text != '\0'; text++) {
        if (used + 3 > PATH_MAX) {
            return 0;
        }
        if (strchr("*?[]\\", *text) != NULL) {
            pattern[used++] = '\\';
        }
        pattern[used++] = *text;
    }
    pattern[used] = '\0';
    return used;
}

/* Calls `each` for everything that matches `root` (literal) followed by `tail` ("*" allowed),
 * newest version first, until one opens. If nothing matches, records that in one line. */
bool kln_library_expand(kln_library *library, const char *root, const char *tail,
                        kln_library_visit *each, void *table)
{
    char pattern[PATH_MAX] = "";
    char shown[PATH_MAX];
    const size_t used = append_escaped(pattern, 0, root);
    const size_t tail_size = strlen(tail) + 1;
    if ((used == 0 && root[0] != '\0') || used + tail_size > sizeof pattern) {
        kln_record_place(library, root, "the path is too long");
        return false;
    }
    memcpy(pattern + used, tail, tail_size);
    (void)snprintf(shown, sizeof shown, "%s%s", root, tail);
    if (strchr(tail, '*') == NULL) {
        return each(library, shown, table);
    }

    glob_t found;
    const int result = glob(pattern, GLOB_NOSORT, NULL, &found);
    if (result != 0) {
        kln_record_place(library, shown,
                         result == GLOB_NOMATCH ? "nothing matches" : "it cannot be listed");
        return false;
    }
    qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, newest_first);
    bool opened = false;
    for (size_t i = 0; i < found.gl_pathc && !opened; i++) {
        opened = each(library, found.gl_pathv[i], table);
    }
    globfree(&found);
    return opened;
}

bool kln_library_search_folder(kln_library *library, const char *folder, void *table)
{
    if (!kln_library_is_folder(folder)) {
        kln_record_place(library, folder, "no such folder");
        return false;
    }
    bool opened = false;
    for (const char *const *file = library->spec->files; *file != NULL && !opened; file++) {
        char tail[NAME_MAX + 2];
        (void)snprintf(tail, sizeof tail, "/%s", *file);
        opened = kln_library_expand(library, folder, tail, kln_library_try_path, table);
    }
    return opened;
}
