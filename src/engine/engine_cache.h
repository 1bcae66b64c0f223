/* SPDX-License-Identifier: Apache-2.0 */
/* Engines loaded from a cache instead of built (kln_cache.h). */
#ifndef ENGINE_CACHE_H
#define ENGINE_CACHE_H

#include <kiln/cache.h>

#include "cache/kln_cache.h"
#include "kln_engine.h"

/* Where an engine lies in a cache. */
struct kln_cached {
    kiln_cache_use use;
    kln_cache cache;
    char key[KLN_CACHE_KEY];
    measured_variants written; /* as its manifest has them */
};

/* What a plan of `model` is found by, whose ONNX was read as `read` (NULL for a network). */
KILN_MUST_CHECK kiln_status kln_engine_cache_key(const kiln_backend_info *info,
                                                 const kiln_model *model,
                                                 const struct kln_onnx_model *read,
                                                 const kiln_build_options *options,
                                                 char key[KLN_CACHE_KEY]);
/* And what builds for a GPU measured. */
KILN_MUST_CHECK kiln_status kln_engine_timings_key(const kiln_backend_info *info, int32_t device,
                                                   char key[KLN_CACHE_KEY]);

/* The data of an entry and its manifest, which fit together; NOT_FOUND where there is none,
 * MALFORMED or MISMATCH for a damaged one. */
KILN_MUST_CHECK kiln_status kln_engine_cache_read(const kln_cache *cache, const char *key,
                                                  kln_mapping *data, kln_manifest *manifest);

/* Whether engines as these options ask for are kept. */
bool kln_engine_cache_takes(const kiln_backend *backend, const kiln_model *model,
                            const kiln_build_options *options);

/* Finds the engine, or makes it and keeps it; what goes wrong with the cache is a warning. */
KILN_MUST_CHECK kiln_status kln_engine_make_cached(const kiln_backend *backend,
                                                   const kiln_backend_info *info,
                                                   const kiln_model *model,
                                                   const kiln_build_options *options, bool load,
                                                   const kiln_monitor *monitor,
                                                   kiln_engine **engine);

#endif
