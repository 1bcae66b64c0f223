/*
 * cache.h - the engine cache: plans kept between processes, so that a model is built once.
 *
 *     kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
 *     options.cache = "default";               // or a folder
 *     kiln_engine_build_file("model.onnx", &options, &engine);
 *     if (kiln_engine_cache_use(engine) == KILN_CACHE_FOUND) { ... }   // nothing was built
 *
 * The cache is off unless kiln_build_options.cache is set; the program kiln sets it to "default".
 * Only builds that produce plans (TensorRT's) are cached: for other backends a build is a load.
 *
 * Key: an entry is found by the model's content (external weights included), every option that
 * affects the plan, the versions of Kiln and of the backend, and the GPU's model and compute
 * capability. TensorRT's timing cache for a GPU is an entry too. The measurements of
 * kiln_context_warmup are in the manifest of their plan.
 *
 * Concurrency: any number of threads and processes share a folder. Those that want the same plan at
 * the same time build it once, and a waiting one can be cancelled. A process that is killed leaves
 * nothing that another would use.
 *
 * Failures: an entry whose bytes do not match its manifest is built again. If the folder cannot be
 * written to, or the disk is full, the engine is built all the same, and a warning is logged.
 *
 * Eviction: above kiln_build_options.cache_bytes, the least recently used entries are removed.
 *
 * Not cached: plans with plugin layers (`plugins`), plans that would run code of their own
 * (`version_compatible`, unless allow_host_code or exclude_lean_runtime is set), and plans that
 * cannot run here.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_CACHE_H
#define KILN_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How an engine used the cache. */
typedef enum kiln_cache_use {
    KILN_CACHE_NONE = 0,      /* not used: not requested, or such engines are not cached */
    KILN_CACHE_FOUND = 1,     /* loaded from the cache; nothing was built */
    KILN_CACHE_STORED = 2,    /* built, and stored in the cache */
    KILN_CACHE_NOT_STORED = 3 /* built, but not stored; a logged warning says why */
} kiln_cache_use;

/* How the engine used the cache; KILN_CACHE_NONE for NULL. Any thread. Since 0.1. */
KILN_API kiln_cache_use kiln_engine_cache_use(const kiln_engine *engine);

/* Gives the folder of a cache: `cache` itself, or the default folder for "default". Writes at most
 * `size` bytes to `text`, always NUL-terminated, and the full length without the NUL to `*length`.
 * With a `size` of 0 it only reports the length, and `text` may be NULL. The folder need not exist.
 * Errors: NULL_ARGUMENT; NOT_FOUND if the environment gives no default folder, or must not be
 * trusted (setuid); LIMIT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_folder(const char *cache, char *text, size_t size,
                                                       size_t *length);

/* The contents of a cache at one time. */
typedef struct kiln_cache_list kiln_cache_list;

typedef struct kiln_cache_entry {
    size_t struct_size;    /* sizeof(kiln_cache_entry), set by the caller */
    const char *key;       /* 32 hexadecimal digits; all strings are owned by the list */
    const char *kind;      /* "plan"; "timings": measurements of builds; "": not known */
    const char *source;    /* file name of the model, or "" */
    const char *backend;   /* "tensorrt", or "" */
    const char *version;   /* version of the backend, or "" */
    const char *gpu;       /* model of the GPU, or "" */
    uint64_t bytes;        /* total size of its files */
    uint64_t used_seconds; /* time of the last use, in seconds since 1970 */
    const char *problem;   /* why it will be built again; NULL: no known problem */
} kiln_cache_entry;

/* Lists a cache (given as for kiln_cache_folder), the most recently used entry first. A folder that
 * does not exist is an empty cache. With `verify`, the bytes of each entry are hashed and compared
 * with its manifest. An entry that another process is still writing has a problem, too. Destroy the
 * list with kiln_cache_list_destroy. Errors: NULL_ARGUMENT; as kiln_cache_folder; IO;
 * OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_list_create(const char *cache, bool verify,
                                                            kiln_cache_list **list);

/* The number of entries; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_cache_list_count(const kiln_cache_list *list);

/* Gives entry `index`, from 0. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if `index` is past the end
 * or struct_size is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_list_get(const kiln_cache_list *list, size_t index,
                                                         kiln_cache_entry *entry);

/* Destroys a list. NULL is allowed. Since 0.1. */
KILN_API void kiln_cache_list_destroy(kiln_cache_list *list);

/* Removes the entry `key`, unless it is being written. Engines loaded from it are not affected.
 * Errors: NULL_ARGUMENT; NAME for an invalid key; BUSY; IO. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_remove(const char *cache, const char *key);

/* Removes the least recently used entries until at most `bytes` are left; 0: everything except what
 * is being written. `*freed` (may be NULL) receives the bytes removed. Errors: as
 * kiln_cache_list_create. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_clear(const char *cache, uint64_t bytes,
                                                      uint64_t *freed);

#ifdef __cplusplus
}
#endif

#endif
