/* SPDX-License-Identifier: Apache-2.0 */
/* Files kept between processes: a folder of entries, found by key, shared by any number of threads
 * and processes, and bounded in bytes.
 *
 * An entry is a folder named after its key, with "data", its manifest "data.json", and "lock". The
 * writer of an entry holds its lock, and others that want the same entry wait for it; the lock of a
 * killed process is released with it. Readers take no lock. Each file appears whole or not at all,
 * and the manifest has the hash of the data, so files that do not belong together are not an entry.
 * The caller decides what the files hold. */
#ifndef KLN_CACHE_H
#define KLN_CACHE_H

#include "base/kln_base.h"

/* 128 bits in hexadecimal digits, and a NUL. */
#define KLN_CACHE_KEY 33

/* The value of kiln_build_options.cache for the default folder. */
#define KLN_CACHE_DEFAULT "default"
/* The default limit of the size of all entries. */
#define KLN_CACHE_LIMIT (UINT64_C(8) << 30)

typedef struct kln_cache {
    char folder[PATH_MAX - 64]; /* shorter than a path, so that the paths of entries fit */
} kln_cache;

/* An entry as found. */
typedef struct kln_cache_row {
    char key[KLN_CACHE_KEY];
    uint64_t bytes; /* of all its files */
    uint64_t used;  /* time of the last use, in nanoseconds since 1970 */
    bool is_whole;  /* data and manifest exist */
} kln_cache_row;

/* Gives the folder: `asked`, or the default folder for KLN_CACHE_DEFAULT. NOT_FOUND if neither
 * XDG_CACHE_HOME nor HOME gives one; LIMIT. */
KILN_MUST_CHECK kiln_status kln_cache_find(const char *asked, kln_cache *cache);
/* The same, and creates the folder if necessary. IO; STATE for a folder that is world-writable, or
 * belongs to another user: a plan is as powerful as a program. */
KILN_MUST_CHECK kiln_status kln_cache_open(const char *asked, kln_cache *cache);

/* The path of an entry's data; its manifest is that and ".json". */
void kln_cache_path(const kln_cache *cache, const char *key, char path[PATH_MAX]);

/* Locks an entry, which need not exist yet. Waits for the holder of the lock, and calls `goes_on`
 * (or NULL) meanwhile. Release `*lock` with kln_folder_unlock; it is -1 if the file system has no
 * locks. BUSY if it is held and `waits` is false; CANCELLED; IO. */
typedef bool (*kln_cache_goes_on)(void *user);
KILN_MUST_CHECK kiln_status kln_cache_lock(const kln_cache *cache, const char *key, bool waits,
                                           kln_cache_goes_on goes_on, void *user, int *lock);

/* Writes an entry whose lock is held, whole or not at all: on an error there is none. IO. */
KILN_MUST_CHECK kiln_status kln_cache_put(const kln_cache *cache, const char *key, kiln_span data,
                                          kiln_span manifest);
/* Records that the entry was used now; without effect in a folder that cannot be written to. */
void kln_cache_touch(const kln_cache *cache, const char *key);

/* The entries, the most recently used one first, for kln_free; none if there is no folder. IO,
 * OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_cache_list(const kln_cache *cache, kln_cache_row **rows,
                                           size_t *count);
/* Whether there is a folder of that key; false for an invalid key. */
bool kln_cache_has(const kln_cache *cache, const char *key);
/* Removes an entry, unless it is being written. BUSY, IO. */
KILN_MUST_CHECK kiln_status kln_cache_remove(const kln_cache *cache, const char *key);
/* Removes the least recently used entries until `most` bytes are left, but neither that of `spared`
 * (or NULL) nor one that is being written. Adds the bytes freed to `*freed`. */
KILN_MUST_CHECK kiln_status kln_cache_trim(const kln_cache *cache, uint64_t most,
                                           const char *spared, uint64_t *freed);

#endif
