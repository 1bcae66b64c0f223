/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kln_base.h"

/* The kernel's limit, too. */
#define MOST_LINKS 40

/* The name of a file until it is complete: this prefix and 16 digits of a random number. */
#define BESIDE ".kiln-"
#define BESIDE_SIZE (sizeof BESIDE + 16)

static const kln_output closed = {.descriptor = -1};

/* The length of the folder part of `path`, including the slash; 0 for a bare name. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? (size_t)(slash - path) + 1 : 0;
}

static void copy_folder(const char *path, char folder[PATH_MAX])
{
    const size_t length = folder_length(path);
    (void)snprintf(folder, PATH_MAX, "%.*s", length > 0 ? (int)length : 1, length > 0 ? path : ".");
}

/* A descriptor of the folder of `path`, or -1 if it cannot be read. */
static int open_folder(const char *path)
{
    char folder[PATH_MAX];
    copy_folder(path, folder);
    return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static kiln_status fail_create(const char *path, int reason)
{
    return kln_fail(reason == ENOENT ? KILN_ERROR_NOT_FOUND : KILN_ERROR_IO,
                    "\"%s\": it cannot be created: %s", path, strerror(reason));
}

/* --- what is at a path --- */

/* A link in /proc refers to an open file whatever its text says; /dev/stdout leads to one. */
static bool is_magic(const char *link)
{
    char folder[PATH_MAX];
    struct statfs facts;
    copy_folder(link, folder);
    return statfs(folder, &facts) == 0 && facts.f_type == PROC_SUPER_MAGIC;
}

/* Follows `place` while it is a link, so that the target is replaced and not the link. Stops at a
 * link that only opening can follow. Returns 0 or an errno. */
static int follow_links(char place[PATH_MAX])
{
    for (int links = 0; links < MOST_LINKS; links++) {
        char target[PATH_MAX];
        const ssize_t length = readlink(place, target, sizeof target);
        if (length < 0 || is_magic(place)) {
            return 0;
        }
        const size_t folder = target[0] == '/' ? 0 : folder_length(place);
        if (folder + (size_t)length >= PATH_MAX) {
            return ENAMETOOLONG;
        }
        memcpy(place + folder, target, (size_t)length);
        place[folder + (size_t)length] = '\0';
    }
    return ELOOP;
}

/* --- opening --- */

/* Does not unlink: a name that was never created may be somebody else's file. */
static void forget_names(kln_output *output)
{
    kln_free(output->temporary);
    kln_free(output->place);
    kln_free(output->path);
    *output = closed;
}

/* Creates a file in the folder of `place`, under a random name that is not in use. */
static int create_beside(const char *place, char *temporary, mode_t mode)
{
    const size_t folder = folder_length(place);
    memcpy(temporary, place, folder);
    for (int tries = 0; tries < 100; tries++) {
        uint64_t random = 0;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
            return -1;
        }
        (void)snprintf(temporary + folder, BESIDE_SIZE, BESIDE "%016" PRIx64, random);
        /* The kernel applies the umask, and the folder's default ACL. */
        const int descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (descriptor >= 0 || errno != EEXIST) {
            return descriptor;
        }
    }
    return -1;
}

/* A file that replaces another gets its permissions and, if the system allows it, its owner. */
static void take_after(int descriptor, const struct stat *old)
{
    if (fchown(descriptor, old->st_uid, old->st_gid) != 0) {
        (void)fchown(descriptor, (uid_t)-1, old->st_gid);
    }
    (void)fchmod(descriptor, old->st_mode & (mode_t)07777);
}

static kiln_status open_beside(kln_output *output, const struct stat *old)
{
    output->temporary = kln_alloc(folder_length(output->place) + BESIDE_SIZE);
    KLN_RETURN_IF_NO_MEMORY(output->temporary, strlen(output->place), "a path");
    output->descriptor =
        create_beside(output->place, output->temporary, old != NULL ? (mode_t)0600 : (mode_t)0666);
    if (output->descriptor < 0) {
        const int reason = errno;
        kln_free(output->temporary);
        output->temporary = NULL;
        return fail_create(output->path, reason);
    }
    if (old != NULL) {
        take_after(output->descriptor, old);
    }
    return KILN_OK;
}

static kiln_status open_place(kln_output *output)
{
    struct stat facts;
    char link;
    const bool is_there = stat(output->place, &facts) == 0;
    const bool is_link = readlink(output->place, &link, 1) >= 0;
    if (!is_link && (!is_there || S_ISREG(facts.st_mode))) {
        return open_beside(output, is_there ? &facts : NULL);
    }
    KLN_RETURN_IF(is_there && S_ISDIR(facts.st_mode), KILN_ERROR_IO,
                  "\"%s\": it cannot be created: a directory is in its place", output->path);
    /* A device, pipe or terminal is written to directly; it cannot be replaced. */
    output->descriptor = open(output->place, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    return output->descriptor >= 0 ? KILN_OK : fail_create(output->path, errno);
}

kiln_status kln_output_open(const char *path, kln_output *output)
{
    char place[PATH_MAX];
    *output = closed;
    const size_t length = strlen(path);
    KLN_FAIL_IF(length >= sizeof place, fail_create(path, ENAMETOOLONG));
    memcpy(place, path, length + 1);
    const int reason = follow_links(place);
    KLN_FAIL_IF(reason != 0, fail_create(path, reason));
    output->path = kln_strdup(path);
    output->place = kln_strdup(place);
    kiln_status status = output->path != NULL && output->place != NULL
                             ? open_place(output)
                             : kln_fail_memory(length, "a path");
    if (status != KILN_OK) {
        forget_names(output);
    }
    return status;
}

bool kln_output_replaces(const kln_output *output)
{
    return output->temporary != NULL;
}

void kln_output_take_after(const kln_output *output, const char *path)
{
    struct stat facts;
    if (kln_output_replaces(output) && stat(path, &facts) == 0 && S_ISREG(facts.st_mode)) {
        take_after(output->descriptor, &facts);
    }
}

/* --- writing --- */

kiln_status kln_output_write(kln_output *output, const void *data, size_t size)
{
    const unsigned char *rest = data;
    while (size > 0) {
        const ssize_t written = write(output->descriptor, rest, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        KLN_RETURN_IF(written <= 0, KILN_ERROR_IO, "\"%s\": writing failed: %s", output->path,
                      strerror(errno));
        rest += written;
        size -= (size_t)written;
    }
    return KILN_OK;
}

kiln_status kln_output_flush(kln_output *output)
{
    KLN_RETURN_IF(kln_output_replaces(output) && fsync(output->descriptor) != 0, KILN_ERROR_IO,
                  "\"%s\": writing failed: %s", output->path, strerror(errno));
    output->flushed = true;
    return KILN_OK;
}

/* Syncing the folder makes a rename survive a power loss. If that fails, there is no better way. */
static void flush_folder(const char *place)
{
    const int descriptor = open_folder(place);
    if (descriptor >= 0) {
        (void)fsync(descriptor);
        (void)close(descriptor);
    }
}

kiln_status kln_output_commit(kln_output *output)
{
    kiln_status status = KILN_OK;
    const bool replaces = kln_output_replaces(output);
    const int ended = close(output->descriptor);
    output->descriptor = -1;
    if (ended != 0 || (replaces && rename(output->temporary, output->place) != 0)) {
        status = kln_fail(KILN_ERROR_IO, "\"%s\": it cannot be put in its place: %s", output->path,
                          strerror(errno));
    } else if (replaces) {
        kln_free(output->temporary);
        output->temporary = NULL;
        if (output->flushed) {
            flush_folder(output->place);
        }
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

kiln_status kln_file_write(const char *path, const kiln_span *parts, size_t count, bool flush)
{
    KLN_SCOPED(kln_output_discard) kln_output output = {.descriptor = -1};
    KLN_RETURN_IF_ERROR(kln_output_open(path, &output));
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(kln_output_write(&output, parts[i].data, parts[i].size));
    }
    if (flush) {
        KLN_RETURN_IF_ERROR(kln_output_flush(&output));
    }
    return kln_output_commit(&output);
}

/* --- several files at once --- */

#define LOCK_MILLISECONDS 10000

kiln_status kln_folder_lock(const char *path, int *lock)
{
    *lock = open_folder(path);
    if (*lock < 0) {
        return KILN_OK;
    }
    for (int waited = 0; flock(*lock, LOCK_EX | LOCK_NB) != 0; waited++) {
        const int reason = errno;
        if ((reason == EWOULDBLOCK && waited < LOCK_MILLISECONDS) || reason == EINTR) {
            (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        (void)close(*lock);
        *lock = -1;
        return reason != EWOULDBLOCK ? KILN_OK
                                     : kln_fail(KILN_ERROR_BUSY,
                                                "\"%s\": its folder has been locked by somebody "
                                                "for %d seconds; try again when they are done",
                                                path, LOCK_MILLISECONDS / 1000);
    }
    return KILN_OK;
}

void kln_folder_unlock(int lock)
{
    if (lock >= 0) {
        /* Unlocks explicitly, because a child that was forked in the meantime holds the descriptor,
         * too. */
        (void)flock(lock, LOCK_UN);
        (void)close(lock);
    }
}
