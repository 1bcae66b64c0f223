/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "library_record.h"

/* Reports the result of a search that opened nothing. */
static kiln_status fail_search(kln_library *library, const char *only, const char *origin,
                               bool is_named)
{
    const kln_library_spec *spec = library->spec;
    char where[PATH_MAX + 128];
    if (only != NULL) {
        (void)snprintf(where, sizeof where, " (only \"%s\" was looked at, %s%s%s)", only,
                       is_named ? "because " : "where ", origin, is_named ? " names it" : " lies");
    } else {
        where[0] = '\0';
    }
    if (library->failure != KILN_OK) {
        library->state = library->failure == KILN_ERROR_LIBRARY_VERSION ? KILN_LIBRARY_REFUSED
                                                                        : KILN_LIBRARY_BROKEN;
        return kln_fail(library->failure, "%s: %s%s", spec->name, library->failure_line, where);
    }
    library->state = KILN_LIBRARY_ABSENT;
    KLN_RETURN_IF(only != NULL, KILN_ERROR_LIBRARY_ABSENT, "%s: it is not at \"%s\", %s%s%s",
                  spec->name, only, is_named ? "which " : "where ", origin,
                  is_named ? " names" : " lies");
    return kln_fail(KILN_ERROR_LIBRARY_ABSENT,
                    "%s is not installed: it is in none of %zu places; %s", spec->name,
                    library->place_count, spec->advice);
}

static kiln_status begin_record(const kln_library_spec *spec, kln_library **library)
{
    *library = NULL;
    kln_library *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    KLN_FAIL_IF(made == MAP_FAILED, kln_fail_memory(sizeof *made, "the record of a library"));
    made->spec = spec;
    made->path = "";
    made->version = "";
    made->state = KILN_LIBRARY_ABSENT;
    *library = made;
    return KILN_OK;
}

/* Without free file descriptors, every file would seem to be missing. */
static bool can_open_files(void)
{
    const int descriptor = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return !kln_is_shortage(errno);
    }
    (void)close(descriptor);
    return true;
}

kiln_status kln_library_open(const kln_library_spec *spec, const char *explicit_path, void *table,
                             kln_library **library)
{
    return kln_library_open_for(spec, explicit_path, "kiln_build_options.library", true, table,
                                library);
}

kiln_status kln_library_open_for(const kln_library_spec *spec, const char *explicit_path,
                                 const char *origin, bool is_named, void *table,
                                 kln_library **library)
{
    memset(table, 0, spec->table_size);
    KLN_RETURN_IF_ERROR(begin_record(spec, library));
    kln_library *made = *library;
    const char *only = explicit_path;
    if ((only == NULL || only[0] == '\0') && spec->environment != NULL) {
        only = kln_getenv(spec->environment);
        origin = spec->environment;
        is_named = true;
    }
    only = only != NULL && only[0] != '\0' ? only : NULL;
    const bool opened =
        only != NULL ? kln_library_search_path(made, only, table) : kln_library_search(made, table);
    if (opened) {
        return KILN_OK;
    }
    return can_open_files() ? fail_search(made, only, origin, is_named)
                            : kln_fail(KILN_ERROR_OUT_OF_MEMORY,
                                       "%s: it cannot be looked for, because this process can open "
                                       "no more files",
                                       spec->name);
}

kiln_status kln_library_look(const kln_library_spec *spec, const char *folder,
                             kln_library **library)
{
    KLN_RETURN_IF_ERROR(begin_record(spec, library));
    if (folder == NULL) {
        kln_record_place(*library, spec->files[0], "not looked for");
        return KILN_OK;
    }
    for (size_t i = 0; spec->files[i] != NULL && (*library)->state == KILN_LIBRARY_ABSENT; i++) {
        char path[PATH_MAX];
        char reason[KLN_LIBRARY_REASON] = "";
        const int length = snprintf(path, sizeof path, "%s/%s", folder, spec->files[i]);
        struct stat facts;
        if (length < 0 || (size_t)length >= sizeof path || lstat(path, &facts) != 0) {
            kln_record_place(*library, path, "not there");
        } else if (kln_elf_check(path, reason) == KILN_OK) {
            (*library)->state = KILN_LIBRARY_FOUND;
            (*library)->path = kln_record_keep(*library, path);
            kln_record_place(*library, path, "there");
        } else {
            (*library)->state = KILN_LIBRARY_BROKEN;
            kln_record_place(*library, path, reason);
        }
    }
    return KILN_OK;
}

void kln_library_forget(kln_library *library)
{
    if (library != NULL) {
        (void)munmap(library, sizeof *library);
    }
}

void kln_library_close(kln_library *library)
{
    if (library != NULL && library->handle != NULL) {
        (void)dlclose(library->handle);
    }
    kln_library_forget(library);
}

bool kln_library_is_own(const kln_library *library)
{
    return library->is_own;
}

const char *kln_library_path(const kln_library *library)
{
    return library->path;
}

const char *kln_library_version(const kln_library *library)
{
    return library->version;
}

kiln_library_state kln_library_state(const kln_library *library)
{
    return library->state;
}

size_t kln_library_place_count(const kln_library *library)
{
    return library->place_count;
}

const char *kln_library_place(const kln_library *library, size_t index)
{
    return index < library->place_count ? library->places[index] : NULL;
}

void kln_library_refuse(kln_library *library, const char *reason)
{
    kln_record_place(library, library->path, reason);
    library->state = KILN_LIBRARY_REFUSED;
}
