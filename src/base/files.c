/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kln_base.h"

static kiln_status fail_open(const char *path)
{
    if (errno == ENOENT || errno == ENOTDIR) {
        return kln_fail(KILN_ERROR_NOT_FOUND, "\"%s\": there is no such file", path);
    }
    return kln_fail(KILN_ERROR_IO, "\"%s\": it cannot be opened: %s", path, strerror(errno));
}

static kiln_status map_descriptor(const char *path, int descriptor, kln_mapping *mapping)
{
    struct stat facts;
    if (fstat(descriptor, &facts) != 0) {
        return kln_fail(KILN_ERROR_IO, "\"%s\": %s", path, strerror(errno));
    }
    if (!S_ISREG(facts.st_mode)) {
        return kln_fail(KILN_ERROR_NOT_A_FILE, "\"%s\": a file is needed, this is %s", path,
                        S_ISDIR(facts.st_mode) ? "a directory" : "a device, pipe or socket");
    }
    if (facts.st_size == 0) {
        return kln_fail(KILN_ERROR_EMPTY, "\"%s\": the file is empty", path);
    }
    const size_t size = (size_t)facts.st_size;
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED) {
        return kln_fail(errno == ENOMEM ? KILN_ERROR_OUT_OF_MEMORY : KILN_ERROR_IO,
                        "\"%s\": %zu bytes cannot be mapped: %s", path, size, strerror(errno));
    }
    mapping->bytes = (kiln_span){data, size};
    return KILN_OK;
}

kiln_status kln_mapping_open(const char *path, kln_mapping *mapping)
{
    *mapping = (kln_mapping){{NULL, 0}};
    /* Not blocking, because opening a named pipe would wait for its other end. */
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return fail_open(path);
    }
    const kiln_status status = map_descriptor(path, descriptor, mapping);
    (void)close(descriptor);
    return status;
}

void kln_mapping_close(kln_mapping *mapping)
{
    if (mapping->bytes.data != NULL) {
        (void)munmap((void *)(uintptr_t)mapping->bytes.data, mapping->bytes.size);
    }
    *mapping = (kln_mapping){{NULL, 0}};
}

void kln_mapping_rest(const kln_mapping *mapping)
{
    if (mapping->bytes.data != NULL) {
        (void)madvise((void *)(uintptr_t)mapping->bytes.data, mapping->bytes.size, MADV_DONTNEED);
    }
}

/* A name that was never created is not to be deleted: it may be somebody else's file. */
static void forget_names(kln_output *output)
{
    kln_free(output->temporary);
    kln_free(output->path);
    *output = (kln_output){.descriptor = -1, .path = NULL, .temporary = NULL};
}

kiln_status kln_output_open(const char *path, kln_output *output)
{
    *output = (kln_output){.descriptor = -1, .path = NULL, .temporary = NULL};
    const size_t length = strlen(path);
    static const char suffix[] = ".XXXXXX";
    output->path = kln_strdup(path);
    output->temporary = kln_alloc(length + sizeof suffix);
    if (output->path == NULL || output->temporary == NULL) {
        forget_names(output);
        return kln_fail_memory(length, "a path");
    }
    memcpy(output->temporary, path, length);
    memcpy(output->temporary + length, suffix, sizeof suffix);
    output->descriptor = mkstemp(output->temporary);
    if (output->descriptor < 0) {
        const int reason = errno;
        forget_names(output);
        return kln_fail(reason == ENOENT ? KILN_ERROR_NOT_FOUND : KILN_ERROR_IO,
                        "\"%s\": it cannot be created: %s", path, strerror(reason));
    }
    /* mkstemp keeps others out; a result file follows the umask like any other. */
    const mode_t mask = umask(0);
    (void)umask(mask);
    (void)fchmod(output->descriptor, (mode_t)0666 & ~mask);
    return KILN_OK;
}

kiln_status kln_output_write(kln_output *output, const void *data, size_t size)
{
    const unsigned char *rest = data;
    while (size > 0) {
        const ssize_t written = write(output->descriptor, rest, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return kln_fail(KILN_ERROR_IO, "\"%s\": writing failed: %s", output->path,
                            strerror(errno));
        }
        rest += written;
        size -= (size_t)written;
    }
    return KILN_OK;
}

kiln_status kln_output_commit(kln_output *output)
{
    kiln_status status = KILN_OK;
    const int closed = close(output->descriptor);
    output->descriptor = -1;
    if (closed != 0 || rename(output->temporary, output->path) != 0) {
        status = kln_fail(KILN_ERROR_IO, "\"%s\": it cannot be put in its place: %s", output->path,
                          strerror(errno));
    } else {
        kln_free(output->temporary);
        output->temporary = NULL;
    }
    kln_output_discard(output);
    return status;
}

void kln_output_discard(kln_output *output)
{
    if (output->path != NULL && output->descriptor >= 0) {
        (void)close(output->descriptor);
    }
    if (output->temporary != NULL) {
        (void)unlink(output->temporary);
    }
    forget_names(output);
}

bool kln_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
