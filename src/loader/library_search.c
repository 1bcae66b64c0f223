/* SPDX-License-Identifier: Apache-2.0 */
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "library_record.h"

/* Where Python packages lie; `variable` (or nothing) goes before `path`. */
static const struct site {
    const char *variable;
    const char *path;
} sites[] = {
    {"VIRTUAL_ENV", "/lib/python3*/site-packages"},
    {"CONDA_PREFIX", "/lib/python3*/site-packages"},
    {"HOME", "/.local/lib/python3*/site-packages"},
    {NULL, "/usr/local/lib/python3*/site-packages"},
    {NULL, "/usr/local/lib/python3*/dist-packages"},
    {NULL, "/usr/lib/python3/dist-packages"},
};

/* Where wildcards were met: a file of libraries, or folders with them. */
typedef bool (*visit)(kln_library *library, const char *path, void *table);

static bool is_folder(const char *path)
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

/* Puts `text` into `pattern` at `used` so that glob takes it literally; the new length, or 0 where
 * it does not fit. */
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

/* Calls `each` for what matches `root` (literal) followed by `tail` ("*" allowed), newest version
 * first, until one opens. Where nothing matches, that is one line. */
static bool expand(kln_library *library, const char *root, const char *tail, visit each,
                   void *table)
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
    if (!is_folder(folder)) {
        kln_record_place(library, folder, "no such folder");
        return false;
    }
    bool opened = false;
    for (const char *const *file = library->spec->files; *file != NULL && !opened; file++) {
        char tail[NAME_MAX + 2];
        (void)snprintf(tail, sizeof tail, "/%s", *file);
        opened = expand(library, folder, tail, kln_library_try_path, table);
    }
    return opened;
}

static bool search_packages(kln_library *library, const struct site *site, void *table)
{
    const char *root = "";
    if (site->variable != NULL) {
        root = kln_getenv(site->variable);
        if (root == NULL || root[0] != '/') {
            return false;
        }
    }
    bool opened = false;
    for (const char *const *package = library->spec->packages; *package != NULL && !opened;
         package++) {
        char tail[PATH_MAX];
        (void)snprintf(tail, sizeof tail, "%s/%s", site->path, *package);
        opened = expand(library, root, tail, kln_library_search_folder, table);
    }
    return opened;
}

static bool search_names(kln_library *library, void *table)
{
    bool opened = false;
    for (const char *const *file = library->spec->files; *file != NULL && !opened; file++) {
        opened = strchr(*file, '*') == NULL && kln_library_try_name(library, *file, table);
    }
    return opened;
}

bool kln_library_search(kln_library *library, void *table)
{
    const kln_library_spec *spec = library->spec;
    bool opened = kln_library_search_loaded(library, table) ||
                  (spec->system_first && search_names(library, table)) ||
                  kln_library_search_runpath(library, table);
    for (size_t i = 0; spec->packages != NULL && i < KLN_ARRAY_LENGTH(sites) && !opened; i++) {
        opened = search_packages(library, &sites[i], table);
    }
    for (size_t i = 0; spec->folders != NULL && spec->folders[i] != NULL && !opened; i++) {
        opened = expand(library, "", spec->folders[i], kln_library_search_folder, table);
    }
    return opened || (!spec->system_first && search_names(library, table));
}

bool kln_library_search_path(kln_library *library, const char *path, void *table)
{
    static const char *const below[] = {"", "/lib", "/lib64"};
    if (!is_folder(path)) {
        return kln_library_try_path(library, path, table);
    }
    bool opened = false;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(below) && !opened; i++) {
        char folder[PATH_MAX];
        (void)snprintf(folder, sizeof folder, "%s%s", path, below[i]);
        if (i == 0 || is_folder(folder)) {
            opened = kln_library_search_folder(library, folder, table);
        }
    }
    return opened;
}
