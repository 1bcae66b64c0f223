/*
 * cache.h - plans that are kept from one process to the next, so that a model is built once.
 *
 *     kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
 *     options.cache = "default";               // or a folder
 *     kiln_engine_build_file("model.onnx", &options, &engine);
 *     if (kiln_engine_cache_use(engine) == KILN_CACHE_FOUND) { ... }   // nothing was built
 *
 * Nothing is kept unless kiln_build_options.cache asks for it; the program kiln asks for "default".
 * Only builds that become plans (TensorRT's) are kept: for the others a build is a load.
 *
 * An entry is found by the model's content (external weights too), by every option that shapes the
 * plan, by Kiln's and the backend's version, and by the GPU's model and compute capability. Any
 * number of threads and processes share a folder: those that want the same plan at once build it
 * once, and who waits can be cancelled; one that is killed leaves nothing that another would take.
 * An entry whose bytes are not what its manifest says is built anew. Where the folder cannot be
 * written to, or the disk is full, the engine is built all the same, and a warning is logged.
 * Past kiln_build_options.cache_bytes what was not used for longest goes. What builds measured for
 * a GPU (TensorRT's timing cache) is an entry too, and what kiln_context_warmup measured stands in
 * the manifest of its plan.
 *
 * Not kept: plans with layers of plugins (`plugins`), plans that would run code of their own
 * (`version_compatible`, unless allow_host_code is set or exclude_lean_runtime), and those that
 * cannot be run here.
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

/* What the cache had to do with an engine. */
typedef enum kiln_cache_use {
    KILN_CACHE_NONE = 0,      /* it was not asked for, or does not keep such an engine */
    KILN_CACHE_FOUND = 1,     /* loaded from there; nothing was built */
    KILN_CACHE_STORED = 2,    /* built, and put there */
    KILN_CACHE_NOT_STORED = 3 /* built, and a warning said why it was not put there */
} kiln_cache_use;

/* KILN_CACHE_NONE for NULL. Any thread. Since 0.1. */
KILN_API kiln_cache_use kiln_engine_cache_use(const kiln_engine *engine);

/* The folder of a cache: what `cache` names, or the usual place for "default". Writes at
 * most `size` bytes to `text`, always with a NUL at the end, and to `*length` how long the whole is
 * without it; a `size` of 0 only asks (`text` may be NULL then). It need not exist. Errors:
 * NULL_ARGUMENT; NOT_FOUND where the environment names no usual place, or may not be trusted
 * (setuid); LIMIT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_folder(const char *cache, char *text, size_t size,
                                                       size_t *length);

/* What lay in a cache when it was looked at. */
typedef struct kiln_cache_list kiln_cache_list;

typedef struct kiln_cache_entry {
    size_t struct_size;    /* sizeof(kiln_cache_entry), set by the caller */
    const char *key;       /* 32 hexadecimal digits; all text is the list's */
    const char *kind;      /* "plan"; "timings": what builds measured; "": not known */
    const char *source;    /* the model's file name, or "" */
    const char *backend;   /* "tensorrt", or "" */
    const char *version;   /* of the backend, or "" */
    const char *gpu;       /* its model, or "" */
    uint64_t bytes;        /* of all its files */
    uint64_t used_seconds; /* when it was last used, since 1970 */
    const char *problem;   /* why it will be built anew; NULL: nothing is known against it */
} kiln_cache_entry;

/* Lists a cache (named as kiln_cache_folder does), the entry used last first; no folder is an empty
 * cache. With `verify` the bytes of each are hashed and compared with its manifest. An entry of
 * which another process has written a part so far has a problem, too. For kiln_cache_list_destroy.
 * Errors: NULL_ARGUMENT; as kiln_cache_folder; IO; OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_list_create(const char *cache, bool verify,
                                                            kiln_cache_list **list);

/* 0 for NULL. Since 0.1. */
KILN_API size_t kiln_cache_list_count(const kiln_cache_list *list);

/* Entry `index`, from 0. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end or for a struct_size
 * that is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_list_get(const kiln_cache_list *list, size_t index,
                                                         kiln_cache_entry *entry);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_cache_list_destroy(kiln_cache_list *list);

/* Removes the entry `key`, unless it is just being written. Engines that were loaded from it go on.
 * Errors: NULL_ARGUMENT; NAME for what is no key; BUSY; IO. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_remove(const char *cache, const char *key);

/* Removes what was not used for longest until at most `bytes` are left; 0: everything but what is
 * just being written. `*freed` (or NULL) is set to the bytes that went. Errors: as
 * kiln_cache_list_create. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_cache_clear(const char *cache, uint64_t bytes,
                                                      uint64_t *freed);

#ifdef __cplusplus
}
#endif

#endif
