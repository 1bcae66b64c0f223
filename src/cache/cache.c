/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kln_cache.h"

#define DATA "data"
#define LOCK "lock"

/* Between two tries to get a lock. */
#define WAIT_NANOSECONDS 5000000L

/* --- the folder --- */

static kiln_status name_folder(kln_cache *cache, const char *first, const char *rest)
{
    const int length =
        snprintf(cache->folder, sizeof cache->folder, "%s%s", first, rest != NULL ? rest : "");
    KLN_RETURN_IF(length < 0 || (size_t)length >= sizeof cache->folder, KILN_ERROR_LIMIT,
                  "the engine cache: the path \"%.80s...\" has %d bytes, %zu are the limit", first,
                  length, sizeof cache->folder - 1);
    return KILN_OK;
}

kiln_status kln_cache_find(const char *asked, kln_cache *cache)
{
    if (strcmp(asked, KLN_CACHE_DEFAULT) != 0) {
        char absolute[PATH_MAX];
        KLN_RETURN_IF_ERROR(kln_path_absolute(asked, absolute));
        return name_folder(cache, absolute, NULL);
    }
    /* The XDG Base Directory Specification: a relative path in the variable is to be ignored. */
    const char *place = kln_getenv("XDG_CACHE_HOME");
    if (place != NULL && place[0] == '/') {
        return name_folder(cache, place, "/kiln");
    }
    place = kln_getenv("HOME");
    if (place != NULL && place[0] == '/') {
        return name_folder(cache, place, "/.cache/kiln");
    }
    return kln_fail(KILN_ERROR_NOT_FOUND,
                    "the engine cache has no usual place: neither XDG_CACHE_HOME nor HOME is an "
                    "absolute path that this process may go by; name a folder");
}

/* 0700, as the specification wants it; 0, or the errno. */
static int make_folders(const char *folder)
{
    char part[PATH_MAX];
    struct stat facts;
    if (stat(folder, &facts) == 0) {
        return S_ISDIR(facts.st_mode) ? 0 : ENOTDIR;
    }
    for (const char *end = strchr(folder + 1, '/');; end = strchr(end + 1, '/')) {
        const size_t length = end != NULL ? (size_t)(end - folder) : strlen(folder);
        (void)snprintf(part, sizeof part, "%.*s", (int)length, folder);
        if (mkdir(part, S_IRWXU) != 0 && errno != EEXIST &&
            (end == NULL || stat(part, &facts) != 0)) {
            return errno;
        }
        if (end == NULL) {
            return stat(folder, &facts) != 0 ? errno : S_ISDIR(facts.st_mode) ? 0 : ENOTDIR;
        }
    }
}

kiln_status kln_cache_open(const char *asked, kln_cache *cache)
{
    struct stat facts;
    KLN_RETURN_IF_ERROR(kln_cache_find(asked, cache));
    const int reason = make_folders(cache->folder);
    KLN_RETURN_IF(reason != 0 || stat(cache->folder, &facts) != 0, KILN_ERROR_IO,
                  "the engine cache \"%s\" cannot be made: %s", cache->folder,
                  strerror(reason != 0 ? reason : errno));
    const bool is_ours = facts.st_uid == geteuid() || facts.st_uid == 0;
    KLN_RETURN_IF(
        !is_ours || (facts.st_mode & S_IWOTH) != 0, KILN_ERROR_STATE,
        "the engine cache \"%s\" is not used: %s, and a plan from it would run in this process; %s",
        cache->folder, is_ours ? "everybody may write to it" : "it belongs to another user",
        is_ours ? "take that right away (chmod o-w)" : "name a folder of yours");
    return KILN_OK;
}

static void path_in(const kln_cache *cache, const char *key, const char *name, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%s/%.32s%s%s", cache->folder, key, name[0] != '\0' ? "/" : "",
                   name);
}

void kln_cache_path(const kln_cache *cache, const char *key, char path[PATH_MAX])
{
    path_in(cache, key, DATA, path);
}

/* --- locks --- */

/* The file of the lock, made where it is not there; -1 and errno. */
static int open_lock(const kln_cache *cache, const char *key, char path[PATH_MAX])
{
    char folder[PATH_MAX];
    path_in(cache, key, LOCK, path);
    path_in(cache, key, "", folder);
    for (int tries = 0;; tries++) {
        const int opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
        /* The folder goes with an entry that is removed. */
        if (opened >= 0 || errno != ENOENT || tries == 100 ||
            (mkdir(folder, S_IRWXU) != 0 && errno != EEXIST)) {
            return opened;
        }
    }
}

/* Whether the lock that was got is still the one that others try to get. */
static bool is_at(int descriptor, const char *path)
{
    struct stat held;
    struct stat there;
    return fstat(descriptor, &held) == 0 && stat(path, &there) == 0 &&
           held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

kiln_status kln_cache_lock(const kln_cache *cache, const char *key, bool waits,
                           kln_cache_goes_on goes_on, void *user, int *lock)
{
    char path[PATH_MAX];
    *lock = -1;
    for (;;) {
        const int opened = open_lock(cache, key, path);
        KLN_RETURN_IF(opened < 0, KILN_ERROR_IO, "\"%s\": it cannot be created: %s", path,
                      strerror(errno));
        const int reason = flock(opened, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
        if (reason == 0 && is_at(opened, path)) {
            *lock = opened;
            return KILN_OK;
        }
        (void)close(opened);
        if (reason != 0 && reason != EWOULDBLOCK && reason != EINTR) {
            return KILN_OK; /* a file system without locks */
        }
        KLN_RETURN_IF(reason == EWOULDBLOCK && !waits, KILN_ERROR_BUSY,
                      "\"%s\" is held by another process", path);
        KLN_RETURN_IF(goes_on != NULL && !goes_on(user), KILN_ERROR_CANCELLED,
                      "waiting for \"%s\" was stopped", path);
        if (reason == EWOULDBLOCK) {
            (void)nanosleep(&(struct timespec){.tv_nsec = WAIT_NANOSECONDS}, NULL);
        }
    }
}

void kln_cache_unlock(int lock)
{
    kln_folder_unlock(lock);
}

/* --- entries --- */

void kln_cache_touch(const kln_cache *cache, const char *key)
{
    char path[PATH_MAX];
    struct timespec now[2];
    path_in(cache, key, DATA, path);
    /* The system's own stamps come in steps of some milliseconds. */
    if (clock_gettime(CLOCK_REALTIME, &now[0]) == 0) {
        now[1] = now[0];
        (void)utimensat(AT_FDCWD, path, now, 0);
    }
}
