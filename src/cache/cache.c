/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kln_cache.h"

#define DATA "data"
#define MANIFEST ".json" /* appended to DATA */
#define LOCK "lock"

/* Delay between two attempts to get a lock. */
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
    /* The XDG Base Directory Specification says that a relative path in the variable must be
     * ignored. */
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

/* Creates the folders with mode 0700, as the specification requires; returns 0 or the errno. */
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

/* Opens the lock file and creates it if it does not exist; -1 and errno on failure. */
static int open_lock(const kln_cache *cache, const char *key, char path[PATH_MAX])
{
    char folder[PATH_MAX];
    path_in(cache, key, LOCK, path);
    path_in(cache, key, "", folder);
    for (int tries = 0;; tries++) {
        const int opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
        /* Removing an entry removes its folder, too. */
        if (opened >= 0 || errno != ENOENT || tries == 100 ||
            (mkdir(folder, S_IRWXU) != 0 && errno != EEXIST)) {
            return opened;
        }
    }
}

/* Whether the locked file is still the one at `path`, which others lock. */
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
            return KILN_OK; /* the file system does not support locks */
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

/* --- entries --- */

void kln_cache_touch(const kln_cache *cache, const char *key)
{
    char path[PATH_MAX];
    struct timespec now[2];
    path_in(cache, key, DATA, path);
    /* Timestamps that the system sets itself have a resolution of some milliseconds. */
    if (clock_gettime(CLOCK_REALTIME, &now[0]) == 0) {
        now[1] = now[0];
        (void)utimensat(AT_FDCWD, path, now, 0);
    }
}

/* The folder may contain files that are not the cache's. */
static bool is_key(const char *name)
{
    return strspn(name, "0123456789abcdef") == KLN_CACHE_KEY - 1 && name[KLN_CACHE_KEY - 1] == '\0';
}

/* Calls `visit` for each name in a folder except "." and ".."; false if the folder cannot be
 * read. */
static bool each_name(const char *folder, void (*visit)(void *user, int folder, const char *name),
                      void *user)
{
    DIR *open = opendir(folder);
    if (open == NULL) {
        return false;
    }
    for (const struct dirent *found = readdir(open); found != NULL; found = readdir(open)) {
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0) {
            visit(user, dirfd(open), found->d_name);
        }
    }
    (void)closedir(open);
    return true;
}

/* --- reading one entry --- */

typedef struct entry_walk {
    kln_cache_row *row;
    bool has_data, has_manifest;
} entry_walk;

static void add_file(void *user, int folder, const char *name)
{
    entry_walk *walk = user;
    struct stat facts;
    if (fstatat(folder, name, &facts, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(facts.st_mode)) {
        return;
    }
    const bool is_data = strcmp(name, DATA) == 0;
    walk->row->bytes += (uint64_t)facts.st_size;
    walk->has_data = walk->has_data || is_data;
    walk->has_manifest = walk->has_manifest || strcmp(name, DATA MANIFEST) == 0;
    if (is_data || walk->row->used == 0) {
        walk->row->used =
            (uint64_t)facts.st_mtim.tv_sec * UINT64_C(1000000000) + (uint64_t)facts.st_mtim.tv_nsec;
    }
}

static void read_entry(const kln_cache *cache, const char *key, kln_cache_row *row)
{
    char folder[PATH_MAX];
    entry_walk walk = {.row = row};
    *row = (kln_cache_row){.bytes = 0};
    memcpy(row->key, key, sizeof row->key);
    path_in(cache, key, "", folder);
    (void)each_name(folder, add_file, &walk);
    row->is_whole = walk.has_data && walk.has_manifest;
}

/* --- listing all entries --- */

typedef struct list_walk {
    const kln_cache *cache;
    kln_cache_row *rows;
    size_t count, room;
    bool failed;
} list_walk;

static void add_entry(void *user, int folder, const char *name)
{
    list_walk *walk = user;
    (void)folder;
    if (!is_key(name) || walk->failed) {
        return;
    }
    if (KLN_GROW(NULL, walk->rows, walk->count, walk->room) != KILN_OK) {
        walk->failed = true;
        return;
    }
    read_entry(walk->cache, name, &walk->rows[walk->count++]);
}

static int by_use(const void *a, const void *b)
{
    const kln_cache_row *one = a;
    const kln_cache_row *other = b;
    return one->used != other->used ? (one->used < other->used ? 1 : -1)
                                    : strcmp(one->key, other->key);
}

kiln_status kln_cache_list(const kln_cache *cache, kln_cache_row **rows, size_t *count)
{
    list_walk walk = {.cache = cache};
    *rows = NULL;
    *count = 0;
    const bool is_read = each_name(cache->folder, add_entry, &walk);
    const int reason = errno;
    if (walk.failed) {
        kln_free(walk.rows);
        return kln_fail_memory(walk.room * sizeof *walk.rows, "the entries of the engine cache");
    }
    KLN_RETURN_IF(!is_read && reason != ENOENT, KILN_ERROR_IO,
                  "the engine cache \"%s\" cannot be read: %s", cache->folder, strerror(reason));
    if (walk.count > 0) {
        qsort(walk.rows, walk.count, sizeof *walk.rows, by_use);
    }
    *rows = walk.rows;
    *count = walk.count;
    return KILN_OK;
}

/* --- removing --- */

static void remove_file(void *user, int folder, const char *name)
{
    (void)user;
    if (strcmp(name, LOCK) != 0) {
        (void)unlinkat(folder, name, 0);
    }
}

/* Removes everything from an entry whose lock is held, including what a killed process left
 * there. */
static void clean(const kln_cache *cache, const char *key)
{
    char folder[PATH_MAX];
    path_in(cache, key, "", folder);
    (void)each_name(folder, remove_file, NULL);
}

kiln_status kln_cache_put(const kln_cache *cache, const char *key, kiln_span data,
                          kiln_span manifest)
{
    char path[PATH_MAX];
    clean(cache, key);
    path_in(cache, key, DATA MANIFEST, path);
    kiln_status status = kln_file_write(path, &manifest, 1, false);
    kln_cache_path(cache, key, path);
    KLN_THEN(status, kln_file_write(path, &data, 1, false));
    if (status == KILN_OK) {
        kln_cache_touch(cache, key);
    } else {
        clean(cache, key);
    }
    return status;
}

bool kln_cache_has(const kln_cache *cache, const char *key)
{
    char folder[PATH_MAX];
    struct stat facts;
    if (!is_key(key)) {
        return false;
    }
    path_in(cache, key, "", folder);
    return stat(folder, &facts) == 0 && S_ISDIR(facts.st_mode);
}

kiln_status kln_cache_remove(const kln_cache *cache, const char *key)
{
    char folder[PATH_MAX];
    char path[PATH_MAX];
    int lock = -1;
    KLN_RETURN_IF_ERROR(kln_cache_lock(cache, key, false, NULL, NULL, &lock));
    clean(cache, key);
    /* The lock file is removed last: after that, another process may own the folder and create the
     * entry again. */
    path_in(cache, key, "", folder);
    path_in(cache, key, LOCK, path);
    (void)unlink(path);
    const int reason = rmdir(folder) == 0 ? 0 : errno;
    kln_folder_unlock(lock);
    return reason == 0 || reason == ENOENT || reason == ENOTEMPTY
               ? KILN_OK
               : kln_fail(KILN_ERROR_IO, "\"%s\": it cannot be removed: %s", folder,
                          strerror(reason));
}

kiln_status kln_cache_trim(const kln_cache *cache, uint64_t most, const char *spared,
                           uint64_t *freed)
{
    KLN_SCOPED_FREE kln_cache_row *rows = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    KLN_RETURN_IF_ERROR(kln_cache_list(cache, &rows, &count));
    KLN_MESSAGE_STAYS;
    for (size_t i = 0; i < count; i++) {
        bytes += rows[i].bytes;
    }
    for (size_t i = count; i > 0 && (bytes > most || most == 0); i--) {
        const kln_cache_row *row = &rows[i - 1];
        if ((spared == NULL || strcmp(row->key, spared) != 0) &&
            kln_cache_remove(cache, row->key) == KILN_OK) {
            bytes -= row->bytes;
            *freed += row->bytes;
        }
    }
    return KILN_OK;
}
