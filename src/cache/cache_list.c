/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in a cache, and what goes of it. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kln_cache.h"

/* Others' files in the folder are none of ours. */
static bool is_key(const char *name)
{
    return strspn(name, "0123456789abcdef") == KLN_CACHE_KEY - 1 && name[KLN_CACHE_KEY - 1] == '\0';
}

/* Calls `visit` for each name in a folder but "." and ".."; false where it cannot be read. */
static bool each_name(const char *folder, void (*visit)(void *user, const char *name), void *user)
{
    DIR *open = opendir(folder);
    if (open == NULL) {
        return false;
    }
    for (const struct dirent *found = readdir(open); found != NULL; found = readdir(open)) {
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0) {
            visit(user, found->d_name);
        }
    }
    (void)closedir(open);
    return true;
}

/* --- one entry --- */

typedef struct entry_walk {
    char folder[PATH_MAX];
    kln_cache_row *row;
    bool has_data, has_manifest;
} entry_walk;

static void path_of(const char *folder, const char *name, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX - 300, folder, name);
}

static void add_file(void *user, const char *name)
{
    entry_walk *walk = user;
    char path[PATH_MAX];
    struct stat facts;
    path_of(walk->folder, name, path);
    if (lstat(path, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        return;
    }
    const bool is_data = strcmp(name, "data") == 0;
    walk->row->bytes += (uint64_t)facts.st_size;
    walk->has_data = walk->has_data || is_data;
    walk->has_manifest = walk->has_manifest || strcmp(name, "data.json") == 0;
    if (is_data || walk->row->used == 0) {
        walk->row->used =
            (uint64_t)facts.st_mtim.tv_sec * UINT64_C(1000000000) + (uint64_t)facts.st_mtim.tv_nsec;
    }
}

static void read_entry(const kln_cache *cache, const char *key, kln_cache_row *row)
{
    entry_walk walk = {.row = row};
    *row = (kln_cache_row){.bytes = 0};
    memcpy(row->key, key, sizeof row->key);
    path_of(cache->folder, key, walk.folder);
    (void)each_name(walk.folder, add_file, &walk);
    row->is_whole = walk.has_data && walk.has_manifest;
}

/* --- all of them --- */

typedef struct list_walk {
    const kln_cache *cache;
    kln_cache_row *rows;
    size_t count, room;
    bool failed;
} list_walk;

static void add_entry(void *user, const char *name)
{
    list_walk *walk = user;
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

static void remove_file(void *user, const char *name)
{
    char path[PATH_MAX];
    if (strcmp(name, "lock") != 0) {
        path_of(user, name, path);
        (void)unlink(path);
    }
}

/* Takes everything out of an entry whose lock is held, what a killed process left of it too. */
static void clean(const kln_cache *cache, const char *key)
{
    char folder[PATH_MAX];
    path_of(cache->folder, key, folder);
    (void)each_name(folder, remove_file, folder);
}

kiln_status kln_cache_put(const kln_cache *cache, const char *key, kiln_span data,
                          kiln_span manifest)
{
    char path[PATH_MAX];
    clean(cache, key);
    kln_cache_path(cache, key, path);
    const size_t length = strlen(path);
    (void)snprintf(path + length, sizeof path - length, ".json");
    kiln_status status = kln_file_write(path, &manifest, 1, false);
    if (status == KILN_OK) {
        path[length] = '\0';
        status = kln_file_write(path, &data, 1, false);
    }
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
    path_of(cache->folder, key, folder);
    return stat(folder, &facts) == 0 && S_ISDIR(facts.st_mode);
}

kiln_status kln_cache_remove(const kln_cache *cache, const char *key)
{
    char folder[PATH_MAX];
    char path[PATH_MAX];
    int lock = -1;
    KLN_RETURN_IF_ERROR(kln_cache_lock(cache, key, false, NULL, NULL, &lock));
    clean(cache, key);
    /* The lock goes last: from then on the folder may be another one's, who makes the entry anew.
     */
    path_of(cache->folder, key, folder);
    path_of(folder, "lock", path);
    (void)unlink(path);
    const int reason = rmdir(folder) == 0 ? 0 : errno;
    kln_cache_unlock(lock);
    return reason == 0 || reason == ENOENT || reason == ENOTEMPTY
               ? KILN_OK
               : kln_fail(KILN_ERROR_IO, "\"%s\": it cannot be removed: %s", folder,
                          strerror(reason));
}

kiln_status kln_cache_trim(const kln_cache *cache, uint64_t most, const char *spared,
                           uint64_t *freed)
{
    kln_cache_row *rows = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    kln_message before;
    KLN_RETURN_IF_ERROR(kln_cache_list(cache, &rows, &count));
    kln_message_keep(&before);
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
    kln_free(rows);
    kln_message_restore(&before);
    return KILN_OK;
}
