/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kln_base.h"

static kiln_status fail_open(const char *path)
{
    KLN_RETURN_IF(errno == ENOENT || errno == ENOTDIR, KILN_ERROR_NOT_FOUND,
                  "\"%s\": there is no such file", path);
    return kln_fail(KILN_ERROR_IO, "\"%s\": it cannot be opened: %s", path, strerror(errno));
}

/* Shared by all references to one mapping. */
struct kln_mapped {
    atomic_size_t shares;
    dev_t device;
    ino_t inode;
    bool is_copy;
};

/* Reads the whole file into private memory; false if the file ends early. */
static bool read_whole(int descriptor, unsigned char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        const ssize_t got = read(descriptor, data + done, size - done);
        if (got <= 0 && !(got < 0 && errno == EINTR)) {
            return false;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return true;
}

/* Maps the file, or a copy of it; MAP_FAILED on failure. */
static void *place_file(int descriptor, size_t size, bool copy)
{
    if (!copy) {
        return mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    }
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data != MAP_FAILED &&
        (!read_whole(descriptor, data, size) || mprotect(data, size, PROT_READ) != 0)) {
        const int reason = errno != 0 ? errno : EIO;
        (void)munmap(data, size);
        errno = reason;
        return MAP_FAILED;
    }
    return data;
}

/* From this size on, check that the file was written at all: a sparse one, such as a download that
 * reserved its length, would be read and hashed as zeros for hours. */
#define LARGE (INT64_C(64) << 30)
#define LEAST_WRITTEN 64 /* 1/64; a file system that compresses does not get that low */
#define MOST_PIECES 4096

/* Counts the bytes outside holes, up to `enough`. A file system without holes reports the whole
 * file. */
static int64_t bytes_written(int descriptor, int64_t size, int64_t enough)
{
    int64_t written = 0;
    off_t end = 0;
    for (int i = 0; i < MOST_PIECES && written < enough; i++) {
        const off_t begin = lseek(descriptor, end, SEEK_DATA);
        end = begin >= 0 ? lseek(descriptor, begin, SEEK_HOLE) : -1;
        if (begin < 0 || end < 0) {
            return begin < 0 && errno == ENXIO ? written : size;
        }
        written += end - begin;
    }
    return written;
}

static kiln_status check_written(const char *path, int descriptor, const struct stat *facts)
{
    const int64_t size = facts->st_size;
    const int64_t enough = size / LEAST_WRITTEN;
    if (size <= LARGE || (int64_t)facts->st_blocks * 512 >= enough) {
        return KILN_OK;
    }
    const int64_t written = bytes_written(descriptor, size, enough);
    return written >= enough ? KILN_OK
                             : kln_fail(KILN_ERROR_LIMIT,
                                        "\"%s\": it is %lld bytes long, but only %lld of them were "
                                        "ever written: the file is not whole, copy it again",
                                        path, (long long)size, (long long)written);
}

static kiln_status map_descriptor(const char *path, int descriptor, bool copy, kln_mapping *mapping)
{
    struct stat facts;
    KLN_RETURN_IF(fstat(descriptor, &facts) != 0, KILN_ERROR_IO, "\"%s\": %s", path,
                  strerror(errno));
    KLN_RETURN_IF(!S_ISREG(facts.st_mode), KILN_ERROR_NOT_A_FILE,
                  "\"%s\": a file is needed, this is %s", path,
                  S_ISDIR(facts.st_mode) ? "a directory" : "a device, pipe or socket");
    KLN_RETURN_IF(facts.st_size == 0, KILN_ERROR_EMPTY, "\"%s\": the file is empty", path);
    KLN_RETURN_IF_ERROR(check_written(path, descriptor, &facts));
    const size_t size = (size_t)facts.st_size;
    struct kln_mapped *mapped = kln_alloc(sizeof *mapped);
    KLN_RETURN_IF_NO_MEMORY(mapped, sizeof *mapped, "a mapping");
    errno = 0;
    void *data = place_file(descriptor, size, copy);
    if (data == MAP_FAILED) {
        kln_free(mapped);
        return kln_fail(errno == ENOMEM ? KILN_ERROR_OUT_OF_MEMORY : KILN_ERROR_IO,
                        "\"%s\": %zu bytes cannot be %s: %s", path, size, copy ? "read" : "mapped",
                        strerror(errno));
    }
    atomic_init(&mapped->shares, 1);
    mapped->device = facts.st_dev;
    mapped->inode = facts.st_ino;
    mapped->is_copy = copy;
    *mapping = (kln_mapping){.bytes = {data, size}, .mapped = mapped};
    return KILN_OK;
}

kiln_status kln_mapping_open(const char *path, kln_mapping *mapping)
{
    return kln_mapping_open_as(path, false, mapping);
}

kiln_status kln_mapping_open_as(const char *path, bool copy, kln_mapping *mapping)
{
    *mapping = (kln_mapping){.mapped = NULL};
    /* O_NONBLOCK, because opening a named pipe would wait for the other end. */
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    KLN_FAIL_IF(descriptor < 0, fail_open(path));
    const kiln_status status = map_descriptor(path, descriptor, copy, mapping);
    (void)close(descriptor);
    return status;
}

kln_mapping kln_mapping_share(const kln_mapping *mapping)
{
    if (mapping->mapped != NULL) {
        atomic_fetch_add_explicit(&mapping->mapped->shares, 1, memory_order_relaxed);
    }
    return *mapping;
}

void kln_mapping_close(kln_mapping *mapping)
{
    struct kln_mapped *mapped = mapping->mapped;
    if (mapped != NULL &&
        atomic_fetch_sub_explicit(&mapped->shares, 1, memory_order_acq_rel) == 1) {
        (void)munmap((void *)(uintptr_t)mapping->bytes.data, mapping->bytes.size);
        kln_free(mapped);
    }
    *mapping = (kln_mapping){.mapped = NULL};
}

void kln_mapping_rest(const kln_mapping *mapping)
{
    if (mapping->bytes.data != NULL && !mapping->mapped->is_copy) {
        (void)madvise((void *)(uintptr_t)mapping->bytes.data, mapping->bytes.size, MADV_DONTNEED);
    }
}

bool kln_mapping_is_at(const kln_mapping *mapping, const char *path)
{
    struct stat facts;
    return mapping->mapped != NULL && stat(path, &facts) == 0 &&
           facts.st_dev == mapping->mapped->device && facts.st_ino == mapping->mapped->inode;
}

bool kln_mapping_was_replaced(const kln_mapping *mapping, const char *path)
{
    return mapping->mapped != NULL && kln_file_exists(path) && !kln_mapping_is_at(mapping, path);
}

bool kln_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool kln_is_path(const char *text)
{
    return strchr(text, '/') != NULL || (strchr(text, '.') != NULL && kln_file_exists(text));
}

kiln_status kln_path_absolute(const char *path, char absolute[PATH_MAX])
{
    char folder[PATH_MAX] = "";
    KLN_RETURN_IF(path[0] != '/' && getcwd(folder, sizeof folder) == NULL, KILN_ERROR_IO,
                  "\"%s\": the folder that it is relative to is not known: %s", path,
                  strerror(errno));
    const int length = snprintf(absolute, PATH_MAX, "%s%s%s", folder,
                                path[0] != '/' && folder[1] != '\0' ? "/" : "", path);
    return length >= 0 && length < PATH_MAX
               ? KILN_OK
               : kln_fail(KILN_ERROR_LIMIT,
                          "\"%s\": its path from the root has %d bytes, %d are possible", path,
                          length, PATH_MAX - 1);
}

bool kln_mapping_is_copy(const kln_mapping *mapping)
{
    return mapping->mapped != NULL && mapping->mapped->is_copy;
}

size_t kln_page_size(void)
{
    static atomic_size_t known; /* 0: not read yet */
    size_t size = atomic_load_explicit(&known, memory_order_relaxed);
    if (size == 0) {
        const long asked = sysconf(_SC_PAGESIZE);
        size = asked > 0 ? (size_t)asked : 4096;
        atomic_store_explicit(&known, size, memory_order_relaxed);
    }
    return size;
}

kiln_status kln_bytes_check(kiln_span bytes, const char *what)
{
#ifdef MADV_POPULATE_READ
    const size_t page = kln_page_size();
    if (bytes.size == 0) {
        return KILN_OK;
    }
    const uintptr_t last = (uintptr_t)bytes.data + bytes.size - 1;
    void *begin = (void *)(last & ~((uintptr_t)page - 1));
    KLN_RETURN_IF(madvise(begin, page, MADV_POPULATE_READ) != 0 && errno == EFAULT, KILN_ERROR_IO,
                  "%s: its file was cut short since it was opened, and what was cut off is needed; "
                  "restore the file, or set kiln_build_options.copy_file",
                  what);
#else
    (void)bytes;
    (void)what;
#endif
    return KILN_OK;
}
