/* SPDX-License-Identifier: Apache-2.0 */
/* The structs of engines and contexts, for this module and those above. */
#ifndef KLN_ENGINE_H
#define KLN_ENGINE_H

#include <stdatomic.h>

#include <kiln/check.h>
#include <kiln/context.h>
#include <kiln/engine.h>

#include "backends/kln_backends.h"
#include "base/kln_base.h"
#include "exec/kln_exec.h"

KLN_SCOPED_POINTER(kiln_engine, kiln_engine_release)
KLN_SCOPED_POINTER(kiln_context, kiln_context_destroy)

/* The shape of weights that a refit may replace (weight_shapes.c). */
typedef struct kln_weight_shape {
    const char *name;
    kiln_shape shape;
    bool has_nan, has_infinity;
} kln_weight_shape;

struct kiln_engine {
    atomic_size_t references;
    unsigned forks;           /* kln_forks when it was made */
    kln_shared shared;        /* the backend's engine, and what its contexts share */
    kiln_build_options built; /* its build options, without texts and lists */
    const char *source;       /* the file it was made from, or "" */
    kln_arena arena;
    pthread_mutex_t refitting;  /* one refit at a time */
    struct kln_cached *cached;  /* its entry in a cache (engine_cache.h), or NULL */
    kln_names inputs;           /* name -> index of the binding */
    kln_names outputs;          /* likewise; a tensor that is both has two bindings */
    const char **profile_names; /* of its profiles, NULL for one without a name; or NULL */
    size_t profile_name_count;
    kln_weight_shape *weight_shapes; /* if the backend does not know them */
    size_t weight_shape_count;
    kln_names weight_places;
    pthread_mutex_t inspecting;
    char *inspection;                        /* JSON, once requested */
    struct kiln_precision_report *precision; /* of a build with a precision, or NULL */
};

/* A context: access by name, and by one thread at a time, to its `exec`. */
struct kiln_context {
    atomic_bool busy;
    kiln_engine *engine;
    kln_exec *exec;
    kln_message error; /* of the last call; "" if it succeeded */
    /* For the current call of kiln_context_run_tensors, one for each binding. */
    uint32_t *found; /* bindings in the order in which the call names them */
    uint64_t *named; /* the last call that named each */
    uint64_t calls;
};

/* Takes the context for one thread, and waits for an enqueued run; releases it on an error. STATE
 * while an abandoned run is in flight. */
KILN_MUST_CHECK kiln_status kln_context_enter(kiln_context *context, const char *function);
/* Waits for an abandoned run, too. */
KILN_MUST_CHECK kiln_status kln_context_enter_at_last(kiln_context *context, const char *function);
/* Releases the context and returns `status`. */
static inline kiln_status kln_context_leave(kiln_context *context, kiln_status status)
{
    if (status == KILN_OK) {
        context->error.text[0] = '\0';
    } else {
        kln_message_keep(&context->error);
    }
    atomic_store_explicit(&context->busy, false, memory_order_release);
    return status;
}

/* The binding of a name. NAME with the names that exist. */
typedef enum kln_sought { KLN_INPUT, KLN_OUTPUT, KLN_INPUT_FIRST, KLN_OUTPUT_FIRST } kln_sought;
KILN_MUST_CHECK kiln_status kln_context_find(const kiln_context *context, const char *name,
                                             kln_sought sought, size_t *index);

/* Whether the engine was made before this process was forked, and cannot work in it. If so, no
 * object of the backend may be touched, not even to release it. */
bool kln_engine_is_left_behind(const kiln_engine *engine);
KILN_MUST_CHECK kiln_status kln_engine_fail_process(const kiln_engine *engine,
                                                    const char *function);
/* STATE if it is. */
KILN_MUST_CHECK kiln_status kln_engine_check_process(const kiln_engine *engine,
                                                     const char *function);

/* Takes over `state`, an engine of `backend`; describes and indexes it. On an error `state` is
 * destroyed. */
KILN_MUST_CHECK kiln_status kln_engine_adopt(const kiln_backend *backend,
                                             const kiln_backend_info *info, void *state,
                                             const kiln_build_options *options, const char *source,
                                             kiln_engine **engine);

/* Builds or loads with the backend that the options name. */
KILN_MUST_CHECK kiln_status kln_engine_make(const kiln_model *asked,
                                            const kiln_build_options *options, bool load,
                                            const kiln_monitor *monitor, kiln_engine **engine);

/* The same with this backend, without a cache. */
KILN_MUST_CHECK kiln_status kln_engine_make_anew(const kiln_backend *backend,
                                                 const kiln_backend_info *info,
                                                 const kiln_model *model,
                                                 const kiln_build_options *options, bool load,
                                                 const kiln_monitor *monitor, kiln_engine **engine);

/* After a measurement: updates the manifest of the engine's entry in a cache, if it has one. Errors
 * become warnings. */
void kln_engine_cache_note(kiln_engine *engine);

/* kiln_engine_load with options that were already read. */
KILN_MUST_CHECK kiln_status kln_engine_load_path(const char *path,
                                                 const kiln_build_options *options,
                                                 const kiln_monitor *monitor, kiln_engine **engine);
/* The same for a file that is already open. */
KILN_MUST_CHECK kiln_status kln_engine_load(const kiln_model *model,
                                            const kiln_build_options *options,
                                            kiln_engine **engine);

/* All problems of a model, as kiln_check_file gives them; for a build with `provider`. */
KILN_MUST_CHECK kiln_status kln_check_model(const struct kln_onnx_model *model,
                                            const kiln_check_options *options,
                                            kiln_provider provider, kiln_issue_list **issues);

/* After `backend` failed with `status`, if the options request issues and the failure is about the
 * model: stores the list, with the issues that the backend has already stored. Returns `status`,
 * with its sentence. */
KILN_MUST_CHECK kiln_status kln_engine_explain(kiln_status status, const kiln_model *model,
                                               const kiln_build_options *options,
                                               const kiln_backend *backend);

/* --- names of profiles, and shape hints (profile_names.c) --- */

struct cJSON;

KILN_MUST_CHECK kiln_status kln_profile_names_keep(kiln_engine *engine,
                                                   const kiln_profile *profiles, size_t count);
bool kln_profile_names_write(const kiln_engine *engine, struct cJSON *root);
/* Each is followed by a line feed. */
KILN_MUST_CHECK kiln_status kln_profile_names_read(const struct cJSON *root,
                                                   char names[KLN_PROFILE_NAMES]);
/* Splits `names`. */
KILN_MUST_CHECK kiln_status kln_profile_names_restore(kiln_engine *engine,
                                                      char names[KLN_PROFILE_NAMES]);
/* The profile that follows from shape_hints or profile_rows, in the arena. */
KILN_MUST_CHECK kiln_status kln_profile_expected(const kiln_model *model,
                                                 const kiln_build_options *options,
                                                 kln_arena *arena, kiln_profile *profile);

/* --- shapes of weights for a refit (weight_shapes.c) --- */

/* Whether the two shapes imply different orders of elements: they differ by more than dimensions of
 * 1, and neither is flat. */
bool kln_weight_shapes_differ(const kiln_shape *one, const kiln_shape *other);
/* Keeps the model's, if the engine was built so that its weights can be replaced. */
KILN_MUST_CHECK kiln_status kln_weight_shapes_keep(kiln_engine *engine,
                                                   const struct kln_onnx_model *model);
/* The kept shape, or NULL: then nothing is known about weights with more than one dimension. */
const kln_weight_shape *kln_weight_shapes_find(const kiln_engine *engine, const char *name);
/* Sets the shape if it is not known but was kept. */
void kln_weight_shapes_tell(const kiln_engine *engine, kiln_refit_weight *weight);
bool kln_weight_shapes_write(const kiln_engine *engine, struct cJSON *root);
/* From an object of a manifest, or NULL. MALFORMED. */
KILN_MUST_CHECK kiln_status kln_weight_shapes_restore(kiln_engine *engine,
                                                      const struct cJSON *object);

/* --- quantization of bindings (engine_quantization.c) --- */

/* Reads what the model says about bindings and weights; a plan says nothing. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_engine_read_model(kiln_engine *engine, const kiln_model *model);
bool kln_quantization_write(const kiln_engine *engine, struct cJSON *root);
/* From a list of a manifest, or NULL, into the engine. MALFORMED, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_quantization_restore(kiln_engine *engine, const struct cJSON *list);

/* --- the manifest: how a saved engine was made (manifest.c, manifest_load.c) --- */

#define KLN_MANIFEST_SUFFIX ".json"
#define KLN_MANIFEST_QUANTIZATION "quantization"
#define KLN_MANIFEST_WEIGHT_SHAPES "weight_shapes"
/* The end of a sentence that refuses a manifest. */
#define KLN_MANIFEST_ADVICE "; delete the manifest to load without it"

typedef struct kln_manifest {
    char backend[32]; /* "" if there is no manifest */
    char backend_version[64];
    uint64_t size;                   /* of the file it belongs to, in bytes */
    uint64_t hash;                   /* kln_hash_bytes of that file */
    uint64_t found_size, found_hash; /* of the file found next to it */
    bool is_plan;                    /* the file is in the backend's own format */
    char gpu[128];                   /* model of the GPU it was built on; "" if not stated */
    int32_t gpu_capability;          /* its compute capability, 90 for 9.0; 0 if not stated */
    /* The engine's build options, without texts and lists. */
    kiln_build_options options;
    measured_variants measured;
    char profile_names[KLN_PROFILE_NAMES]; /* see kln_profile_names_read */
    struct cJSON *quantization;            /* of the bindings, or NULL; released by
                                              kln_manifest_finish */
    struct cJSON *weight_shapes;           /* likewise */
} kln_manifest;

/* Restores bindings and weights of a loaded engine from its manifest. MALFORMED. */
KILN_MUST_CHECK kiln_status kln_manifest_restore(const kln_manifest *manifest, kiln_engine *engine);

/* Releases what a read manifest holds; may be called again. */
void kln_manifest_finish(kln_manifest *manifest);

/* Commits `file`, which was opened for `path` and has these bytes, together with `path`.json: at
 * every moment the file has a manifest that describes it, the old pair or the new one. */
KILN_MUST_CHECK kiln_status kln_manifest_place(const char *path, const kiln_engine *engine,
                                               kiln_span bytes, kln_output *file);

/* Reads `path`.json for the file with `bytes`; gives a zeroed manifest if there is none. Call
 * kln_manifest_finish afterwards. MALFORMED, with a zeroed manifest. */
KILN_MUST_CHECK kiln_status kln_manifest_read(const char *path, kiln_span bytes,
                                              kln_manifest *manifest);

/* Parses a manifest. If it describes two files, because a save is in progress, the entry of `bytes`
 * is used. MALFORMED, LIMIT. */
KILN_MUST_CHECK kiln_status kln_manifest_parse(kiln_span text, kiln_span bytes,
                                               kln_manifest *manifest);

/* The manifest of an engine that serializes to `bytes`, in memory; free it with kln_free.
 * OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_manifest_write(const kiln_engine *engine, kiln_span bytes,
                                               char **text);

/* Likewise, the manifest of the measurements of builds on GPU `device`. */
KILN_MUST_CHECK kiln_status kln_manifest_write_timings(const kiln_backend_info *info,
                                                       int32_t device, kiln_span bytes,
                                                       char **text);

/* What a manifest says about its file, for lists; "" if it says nothing. */
typedef struct kln_manifest_facts {
    char format[16], source[256], backend[32], version[64], gpu[128];
} kln_manifest_facts;
void kln_manifest_look(kiln_span text, kln_manifest_facts *facts);

/* Checks that the file, or the bytes in memory if `path` is NULL, is the one that the manifest
 * describes. MISMATCH with expected and found. */
KILN_MUST_CHECK kiln_status kln_manifest_check_file(const kln_manifest *manifest, const char *path);

/* After a plan failed to load: MISMATCH with the versions and GPUs that its manifest states, if
 * these differ from the ones here; otherwise `status`, with its sentence unchanged. */
KILN_MUST_CHECK kiln_status kln_manifest_explain(kiln_status status, const kln_manifest *manifest,
                                                 const kiln_build_options *options);

/* Sets each saved option that a load left at its default to the value that the engine was built
 * with. If the load explicitly selects the CPU, options for a GPU are left out. */
void kln_manifest_apply(const kln_manifest *manifest, kiln_build_options *options);

/* Sets what the manifest decides: the backend, if `options` name none, and the saved options.
 * MISMATCH if it is for another model, version or machine. */
KILN_MUST_CHECK kiln_status kln_manifest_obey(const kln_manifest *manifest, const kiln_model *model,
                                              kiln_build_options *options);

/* Converts the model to the precision in the options, to be built in its place; NULL if they set
 * none. Errors as kiln_network_convert. (engine_precision.c) */
KILN_MUST_CHECK kiln_status kln_engine_convert(const kiln_model *model,
                                               const kiln_build_options *options,
                                               struct kln_onnx_model **converted,
                                               struct kiln_precision_report **report);
/* Takes over the report and adds the types that the engine's layers compute in. UNSUPPORTED in
 * strict mode, if some compute in another type, or do not report it. */
KILN_MUST_CHECK kiln_status kln_engine_achieve(kiln_engine *engine,
                                               struct kiln_precision_report *report, bool strict);

#endif
