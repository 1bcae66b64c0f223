/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "library_record.h"

/* Where Python packages are installed; the value of `variable`, if there is one, goes before
 * `path`. */
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
        opened = kln_library_expand(library, root, tail, kln_library_search_folder, table);
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
        opened =
            kln_library_expand(library, "", spec->folders[i], kln_library_search_folder, table);
    }
    return opened || (!spec->system_first && search_names(library, table));
}

bool kln_library_search_path(kln_library *library, const char *path, void *table)
{
    static const char *const below[] = {"", "/lib", "/lib64"};
    if (!kln_library_is_folder(path)) {
        return kln_library_try_path(library, path, table);
    }
    bool opened = false;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(below) && !opened; i++) {
        char folder[PATH_MAX];
        (void)snprintf(folder, sizeof folder, "%s%s", path, below[i]);
        if (i == 0 || kln_library_is_folder(folder)) {
            opened = kln_library_search_folder(library, folder, table);
        }
    }
    return opened;
}
