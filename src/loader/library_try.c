/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "library_record.h"

/* Copies `text` into the record, truncated if that is full. */
const char *kln_record_keep(kln_library *library, const char *text)
{
    const size_t room = KLN_PLACE_TEXT - library->text_used;
    if (room < 2) {
        return "";
    }
    char *copy = library->text + library->text_used;
    const int length = snprintf(copy, room, "%s", text);
    library->text_used += (size_t)length < room ? (size_t)length + 1 : room;
    return copy;
}

void kln_record_place(kln_library *library, const char *place, const char *words)
{
    char line[PATH_MAX + KLN_LIBRARY_REASON + 8];
    (void)snprintf(line, sizeof line, "%s: %s", place, words);
    kln_log(KILN_LOG_DEBUG, "loader", "%s: %s", library->spec->name, line);
    if (library->place_count < KLN_PLACE_LIMIT && library->text_used < KLN_PLACE_TEXT) {
        library->places[library->place_count++] = kln_record_keep(library, line);
    }
}

/* Records a file that exists but does not work, and remembers the first of them. */
static void record_failure(kln_library *library, kiln_status failure, const char *place,
                           const char *words)
{
    const size_t before = library->place_count;
    kln_record_place(library, place, words);
    if (library->failure == KILN_OK) {
        library->failure = failure;
        library->failure_line =
            library->place_count > before ? library->places[before] : "(the record is full)";
    }
}

/* Whether there is no address space for the file at `path`: if the linker could not map it, it does
 * not say whether that or a system policy was the reason. */
static bool is_room_short(const char *path)
{
    struct stat facts;
    if (stat(path, &facts) != 0 || facts.st_size <= 0) {
        return false;
    }
    void *room = mmap(NULL, (size_t)facts.st_size, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        return true;
    }
    (void)munmap(room, (size_t)facts.st_size);
    return false;
}

/* The dynamic linker reports it only in words. */
static bool is_shortage(const char *path, const char *linker)
{
    static const int reasons[] = {ENOMEM, EMFILE, ENFILE};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(reasons); i++) {
        if (strstr(linker, strerror(reasons[i])) != NULL) {
            return true;
        }
    }
    return strstr(linker, "cannot allocate") != NULL ||
           (strstr(linker, "failed to map") != NULL && is_room_short(path));
}

/* The dynamic linker names the file that it did not find: if that is not the one asked for, the
 * library exists, but one of its dependencies is missing. */
static kiln_status explain_linker(const char *asked, const char *linker,
                                  char reason[KLN_LIBRARY_REASON])
{
    linker = linker != NULL ? linker : "no reason was given";
    static const char missing[] = ": cannot open shared object file: No such file or directory";
    const size_t length = strlen(linker);
    const size_t tail = sizeof missing - 1;
    if (length > tail && strcmp(linker + length - tail, missing) == 0 &&
        strncmp(linker, asked, strlen(asked)) != 0) {
        (void)snprintf(reason, KLN_LIBRARY_REASON, "it needs %.*s, which is not there",
                       (int)(length - tail), linker);
        return KILN_ERROR_LIBRARY_BROKEN;
    }
    const size_t skip = strncmp(linker, asked, strlen(asked)) == 0 ? strlen(asked) : 0;
    const char *rest = linker + skip;
    rest += strncmp(rest, ": ", 2) == 0 ? 2 : 0;
    (void)snprintf(reason, KLN_LIBRARY_REASON, "it cannot be opened: %s", rest);
    return is_shortage(asked, linker) ? KILN_ERROR_OUT_OF_MEMORY : KILN_ERROR_LIBRARY_BROKEN;
}

static const char *fill_table(const kln_library_spec *spec, void *handle, void *table)
{
    memset(table, 0, spec->table_size);
    for (const kln_symbol *symbol = spec->symbols; symbol->name != NULL; symbol++) {
        void *address = dlsym(handle, symbol->name);
        if (address == NULL && symbol->feature == NULL) {
            return symbol->name;
        }
        if (address == NULL) {
            kln_log(KILN_LOG_DEBUG, "loader", "%s lacks %s: %s is off", spec->name, symbol->name,
                    symbol->feature);
        }
        memcpy((unsigned char *)table + symbol->offset, &address, sizeof address);
    }
    return NULL;
}

/* The path of the opened library, with links resolved. */
static const char *real_path(kln_library *library, void *handle)
{
    struct link_map *map = NULL;
    char resolved[PATH_MAX];
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || realpath(map->l_name, resolved) == NULL) {
        return "";
    }
    return kln_record_keep(library, resolved);
}

static void keep(kln_library *library, const char *place, void *handle, const char *version)
{
    char words[KLN_LIBRARY_VERSION + 32];
    (void)snprintf(words, sizeof words, "opened%s%s", version[0] != '\0' ? ", version " : "",
                   version);
    library->path = real_path(library, handle);
    library->version = kln_record_keep(library, version);
    library->handle = handle;
    library->state = KILN_LIBRARY_FOUND;
    kln_record_place(library, place, words);
    kln_log(KILN_LOG_INFO, "loader", "%s: %s: %s", library->spec->name, library->path, words);
}

/* Accepts an opened file as the library, or closes it and records the reason. */
static bool adopt(kln_library *library, const char *place, void *handle, bool is_own, void *table)
{
    const kln_library_spec *spec = library->spec;
    char version[KLN_LIBRARY_VERSION] = "";
    char reason[KLN_LIBRARY_REASON] = "Kiln cannot use it";
    const char *lacking = fill_table(spec, handle, table);
    if (lacking != NULL) {
        (void)snprintf(reason, sizeof reason, "it lacks the function %s", lacking);
        record_failure(library, KILN_ERROR_LIBRARY_SYMBOL, place, reason);
    } else if (spec->accept != NULL && !spec->accept(table, version, reason)) {
        record_failure(library, KILN_ERROR_LIBRARY_VERSION, place, reason);
    } else {
        keep(library, place, handle, version);
        library->is_own = is_own;
        if (is_own) {
            kln_library_remember_own(handle);
        }
        return true;
    }
    memset(table, 0, spec->table_size);
    (void)dlclose(handle);
    return false;
}

bool kln_library_try_path(kln_library *library, const char *path, void *table)
{
    char reason[KLN_LIBRARY_REASON] = "";
    char resolved[PATH_MAX];
    if (realpath(path, resolved) == NULL) {
        const int found = errno;
        struct stat facts;
        if (found != ENOENT && found != ENOTDIR) {
            (void)snprintf(reason, sizeof reason, "it cannot be reached: %s", strerror(found));
        } else if (lstat(path, &facts) == 0) {
            (void)snprintf(reason, sizeof reason, "a link to something that is not there");
        } else {
            kln_record_place(library, path, "not there");
            return false;
        }
        record_failure(library, KILN_ERROR_LIBRARY_BROKEN, path, reason);
        return false;
    }
    const kiln_status status = kln_elf_check(resolved, reason);
    if (status != KILN_OK) {
        record_failure(library, status, path, reason);
        return false;
    }
    if (!kln_library_is_safe(resolved, reason)) {
        record_failure(library, KILN_ERROR_LIBRARY_BROKEN, path, reason);
        return false;
    }
    const bool is_loaded = kln_library_is_loaded(resolved);
    void *handle = dlopen(resolved, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        record_failure(library, explain_linker(resolved, dlerror(), reason), path, reason);
        return false;
    }
    return adopt(library, path, handle, !is_loaded, table);
}

bool kln_library_try_name(kln_library *library, const char *name, void *table)
{
    char place[NAME_MAX + 64];
    (void)snprintf(place, sizeof place, "%s (the system's own search)", name);
    const bool is_loaded = kln_library_is_loaded(name);
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle != NULL) {
        return adopt(library, place, handle, !is_loaded, table);
    }
    const char *linker = dlerror();
    char absent[NAME_MAX + 128];
    (void)snprintf(absent, sizeof absent,
                   "%s: cannot open shared object file: No such file or directory", name);
    if (linker == NULL || strcmp(linker, absent) == 0) {
        kln_record_place(library, place, "not there");
        return false;
    }
    char reason[KLN_LIBRARY_REASON];
    record_failure(library, explain_linker(name, linker, reason), place, reason);
    return false;
}
