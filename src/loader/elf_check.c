/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "library_record.h"

static bool read_at(int descriptor, void *data, size_t size, uint64_t offset)
{
    return pread(descriptor, data, size, (off_t)offset) == (ssize_t)size;
}

static bool segments_are_inside(int descriptor, const ElfW(Ehdr) * header, uint64_t file_size,
                                char reason[KLN_LIBRARY_REASON])
{
    for (size_t i = 0; i < header->e_phnum; i++) {
        ElfW(Phdr) segment;
        if (!read_at(descriptor, &segment, sizeof segment, header->e_phoff + i * sizeof segment)) {
            (void)snprintf(reason, KLN_LIBRARY_REASON,
                           "the file is cut short inside its program headers");
            return false;
        }
        uint64_t end = 0;
        if (segment.p_type == PT_LOAD &&
            (__builtin_add_overflow(segment.p_offset, segment.p_filesz, &end) || end > file_size)) {
            (void)snprintf(reason, KLN_LIBRARY_REASON,
                           "the file is cut short: it has %llu bytes, its headers speak of %llu",
                           (unsigned long long)file_size, (unsigned long long)end);
            return false;
        }
    }
    return true;
}

static bool is_whole(int descriptor, char reason[KLN_LIBRARY_REASON])
{
    struct stat facts;
    ElfW(Ehdr) header;
    if (fstat(descriptor, &facts) != 0) {
        (void)snprintf(reason, KLN_LIBRARY_REASON, "%s", strerror(errno));
        return false;
    }
    if (!S_ISREG(facts.st_mode)) {
        (void)snprintf(reason, KLN_LIBRARY_REASON, "not a regular file");
        return false;
    }
    if (!read_at(descriptor, &header, sizeof header, 0) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
        (void)snprintf(reason, KLN_LIBRARY_REASON, "not a library: it has no ELF header");
        return false;
    }
    if (header.e_phentsize != sizeof(ElfW(Phdr))) {
        /* Another word size: the dynamic linker rejects it with a clear message. */
        return true;
    }
    return segments_are_inside(descriptor, &header, (uint64_t)facts.st_size, reason);
}

bool kln_is_shortage(int reason)
{
    return reason == ENOMEM || reason == EMFILE || reason == ENFILE || reason == EAGAIN;
}

kiln_status kln_elf_check(const char *path, char reason[KLN_LIBRARY_REASON])
{
    /* O_NONBLOCK, because opening a named pipe would wait for the other end. */
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        const int found = errno;
        (void)snprintf(reason, KLN_LIBRARY_REASON, "it cannot be read: %s", strerror(found));
        return kln_is_shortage(found) ? KILN_ERROR_OUT_OF_MEMORY : KILN_ERROR_LIBRARY_BROKEN;
    }
    const bool whole = is_whole(descriptor, reason);
    (void)close(descriptor);
    return whole ? KILN_OK : KILN_ERROR_LIBRARY_BROKEN;
}

/* --- what a library needs --- */

/* The file offset of the byte that is loaded at `address`. */
static bool offset_of(int descriptor, const ElfW(Ehdr) * header, uint64_t address, uint64_t *offset)
{
    for (size_t i = 0; i < header->e_phnum; i++) {
        ElfW(Phdr) segment;
        if (!read_at(descriptor, &segment, sizeof segment, header->e_phoff + i * sizeof segment)) {
            return false;
        }
        if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
            address - segment.p_vaddr < segment.p_filesz) {
            *offset = segment.p_offset + (address - segment.p_vaddr);
            return true;
        }
    }
    return false;
}

static bool find_dynamic(int descriptor, const ElfW(Ehdr) * header, ElfW(Phdr) * dynamic)
{
    for (size_t i = 0; i < header->e_phnum; i++) {
        if (!read_at(descriptor, dynamic, sizeof *dynamic, header->e_phoff + i * sizeof *dynamic)) {
            return false;
        }
        if (dynamic->p_type == PT_DYNAMIC) {
            return true;
        }
    }
    return false;
}

static bool string_is(int descriptor, uint64_t offset, const char *name)
{
    char text[NAME_MAX + 1];
    const size_t size = strlen(name) + 1;
    return size <= sizeof text && read_at(descriptor, text, size, offset) &&
           memcmp(text, name, size) == 0;
}

static bool needs(int descriptor, const char *name)
{
    ElfW(Ehdr) header;
    ElfW(Phdr) dynamic;
    uint64_t strings = 0;
    bool found = false;
    if (!read_at(descriptor, &header, sizeof header, 0) ||
        !find_dynamic(descriptor, &header, &dynamic)) {
        return false;
    }
    const size_t count = dynamic.p_filesz / sizeof(ElfW(Dyn));
    ElfW(Dyn) entry = {.d_tag = DT_NEEDED};
    for (size_t i = 0; i < count && entry.d_tag != DT_NULL; i++) {
        if (!read_at(descriptor, &entry, sizeof entry, dynamic.p_offset + i * sizeof entry)) {
            return false;
        }
        if (entry.d_tag == DT_STRTAB &&
            !offset_of(descriptor, &header, entry.d_un.d_ptr, &strings)) {
            return false;
        }
    }
    entry.d_tag = DT_NEEDED;
    for (size_t i = 0; i < count && entry.d_tag != DT_NULL && !found; i++) {
        found = read_at(descriptor, &entry, sizeof entry, dynamic.p_offset + i * sizeof entry) &&
                entry.d_tag == DT_NEEDED && string_is(descriptor, strings + entry.d_un.d_val, name);
    }
    return found;
}

bool kln_library_needs(const char *path, const char *name)
{
    char reason[KLN_LIBRARY_REASON];
    if (kln_elf_check(path, reason) != KILN_OK) {
        return false;
    }
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return false;
    }
    const bool found = needs(descriptor, name);
    (void)close(descriptor);
    return found;
}
