/* SPDX-License-Identifier: Apache-2.0 */
/* Searches what the dynamic linker has already loaded: the runpath of the object that contains
 * Kiln, and libraries that others opened. */
#include <dlfcn.h>
#include <fnmatch.h>
#include <link.h>
#include <stdio.h>
#include <sys/mman.h>

#include "library_record.h"

/* --- an object's dynamic section --- */

typedef struct dynamic {
    const char *strings;
    const ElfW(Sym) * symbols;
    const ElfW(Rela) * jumps; /* relocations of functions */
    size_t jump_count;
    const ElfW(Rela) * others;
    size_t other_count;
    const char *runpath; /* or NULL */
} dynamic;

/* glibc relocates these entries to addresses if the section is writable; otherwise they are still
 * offsets. */
static const void *address(const struct link_map *map, ElfW(Addr) value)
{
    const ElfW(Addr) base = map->l_addr;
    return (const void *)(uintptr_t)(value < base ? value + base : value);
}

static dynamic read_dynamic(const struct link_map *map)
{
    dynamic found = {.strings = NULL};
    ElfW(Xword) runpath = 0;
    bool has_runpath = false;
    bool is_rela = false;
    for (const ElfW(Dyn) *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
        switch (entry->d_tag) {
            case DT_STRTAB: found.strings = address(map, entry->d_un.d_ptr); break;
            case DT_SYMTAB: found.symbols = address(map, entry->d_un.d_ptr); break;
            case DT_JMPREL: found.jumps = address(map, entry->d_un.d_ptr); break;
            case DT_PLTRELSZ: found.jump_count = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
            case DT_PLTREL: is_rela = entry->d_un.d_val == DT_RELA; break;
            case DT_RELA: found.others = address(map, entry->d_un.d_ptr); break;
            case DT_RELASZ: found.other_count = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
            case DT_RPATH:
            case DT_RUNPATH:
                runpath = entry->d_un.d_val;
                has_runpath = true;
                break;
            default: break;
        }
    }
    found.jump_count = is_rela && found.jumps != NULL ? found.jump_count : 0;
    found.other_count = found.others != NULL ? found.other_count : 0;
    found.runpath = has_runpath && found.strings != NULL ? found.strings + runpath : NULL;
    return found;
}

/* --- the runpath of Kiln itself --- */

bool kln_library_search_runpath(kln_library *library, void *table)
{
    Dl_info where;
    void *map = NULL;
    union {
        bool (*function)(kln_library *library, void *table);
        const void *address;
    } here = {.function = kln_library_search_runpath};
    if (dladdr1(here.address, &where, &map, RTLD_DL_LINKMAP) == 0 || map == NULL) {
        return false;
    }
    const char *rest = read_dynamic(map).runpath;
    bool opened = false;
    while (rest != NULL && *rest != '\0' && !opened) {
        char folder[PATH_MAX];
        const size_t length = strcspn(rest, ":");
        if (rest[0] == '/' && length < sizeof folder) {
            (void)snprintf(folder, sizeof folder, "%.*s", (int)length, rest);
            opened = kln_library_search_folder(library, folder, table);
        }
        rest += length;
        rest += *rest == ':';
    }
    return opened;
}

/* --- libraries that others opened --- */

/* Stores paths in the record, because nothing may be opened during dl_iterate_phdr. */
static int note_match(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size;
    kln_library *library = user;
    const char *slash = info->dlpi_name != NULL ? strrchr(info->dlpi_name, '/') : NULL;
    if (slash == NULL || strlen(info->dlpi_name) >= PATH_MAX) {
        return 0;
    }
    for (const char *const *file = library->spec->files; *file != NULL; file++) {
        if (library->loaded_count < KLN_LOADED_LIMIT && fnmatch(*file, slash + 1, 0) == 0) {
            (void)snprintf(library->loaded[library->loaded_count++], PATH_MAX, "%s",
                           info->dlpi_name);
            return 0;
        }
    }
    return 0;
}

bool kln_library_search_loaded(kln_library *library, void *table)
{
    bool opened = false;
    library->loaded_count = 0;
    (void)dl_iterate_phdr(note_match, library);
    for (size_t i = 0; i < library->loaded_count && !opened; i++) {
        opened = kln_library_is_loaded(library->loaded[i]) &&
                 kln_library_try_path(library, library->loaded[i], table);
    }
    return opened;
}

/* --- redirecting an import --- */

static const ElfW(Rela) *
    find_import(const dynamic *object, const ElfW(Rela) * list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        const size_t symbol = list[i].r_info >> 32;
        if (symbol != 0 && list[i].r_addend == 0 &&
            strcmp(object->strings + object->symbols[symbol].st_name, name) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

/* Whether the linker made the page of `slot` read-only after relocation (RELRO). */
typedef struct protection {
    ElfW(Addr) base, slot;
    bool is_read_only;
} protection;

static int note_protection(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size;
    protection *asked = user;
    for (size_t i = 0; info->dlpi_addr == asked->base && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        const ElfW(Addr) begin = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_GNU_RELRO && asked->slot >= begin &&
            asked->slot < begin + segment->p_memsz) {
            asked->is_read_only = true;
        }
    }
    return 0;
}

static bool write_slot(const struct link_map *map, ElfW(Addr) slot, const void *value)
{
    protection asked = {.base = map->l_addr, .slot = slot};
    const size_t page = kln_page_size();
    (void)dl_iterate_phdr(note_protection, &asked);
    void *begin = (void *)(slot & ~((uintptr_t)page - 1));
    if (asked.is_read_only && mprotect(begin, page, PROT_READ | PROT_WRITE) != 0) {
        return false;
    }
    memcpy((void *)slot, &value, sizeof value);
    if (asked.is_read_only) {
        (void)mprotect(begin, page, PROT_READ);
    }
    return true;
}

bool kln_library_redirect(const kln_library *library, const char *import, const void *function)
{
    struct link_map *map = NULL;
    if (sizeof(void *) != 8 || library->handle == NULL || !library->is_own ||
        dlinfo(library->handle, RTLD_DI_LINKMAP, &map) != 0) {
        return false;
    }
    const dynamic object = read_dynamic(map);
    if (object.strings == NULL || object.symbols == NULL) {
        return false;
    }
    const ElfW(Rela) *found = find_import(&object, object.jumps, object.jump_count, import);
    if (found == NULL) {
        found = find_import(&object, object.others, object.other_count, import);
    }
    return found != NULL && write_slot(map, map->l_addr + found->r_offset, function);
}
