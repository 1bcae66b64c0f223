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

/* Of weights that a refit may replace (weight_shapes.c). */
typedef struct kln_weight_shape {
    const char *name;
    kiln_shape shape;
    bool has_nan, has_infinity;
} kln_weight_shape;

struct kiln_engine {
    atomic_size_t references;
    unsigned forks;           /* kln_forks when it was made */
    kln_shared shared;        /* the backend's engine, and what its contexts share */
    kiln_build_options built; /* what it was built with, but for texts and lists */
    const char *source;       /* the file it came from, or "" */
    kln_arena arena;
    pthread_mutex_t refitting; /* one refit at a time */
    struct kln_cached *cached; /* where it lies in a cache (engine_cache.h), or NULL */
    kln_names inputs;          /* name -> index of the binding */
    kln_names outputs;         /* likewise; a tensor may be both, and is one binding each */
    const char *
        *profile_names; /* of the profiles it was built with, NULL for one without; or NULL */
    size_t profile_name_count;
    kln_weight_shape *weight_shapes; /* where the backend does not know them */
    size_t weight_shape_count;
    kln_names weight_places;
    pthread_mutex_t inspecting;
    char *inspection;                        /* JSON, once somebody asked */
    struct kiln_precision_report *precision; /* of a build with one, or NULL */
};

/* One thread's seat at an engine: names, and one thread at a time; what it does is `exec`. */
struct kiln_context {
    atomic_bool busy;
    kiln_engine *engine;
    kln_exec *exec;
    kln_message error; /* of the last call; "" where it worked */
    /* Of the call of kiln_context_run_tensors under way, one for each binding. */
    uint32_t *found; /* bindings in the order in which it names them */
    uint64_t *named; /* the last call that named each */
    uint64_t calls;
};

/* Takes the context for one thread, and waits for an enqueued run; on an error it is given back.
 * STATE while a run that was left is under way. */
KILN_MUST_CHECK kiln_status kln_context_enter(kiln_context *context, const char *function);
/* Waits for that one, too. */
KILN_MUST_CHECK kiln_status kln_context_enter_at_last(kiln_context *context, const char *function);
/* Gives it back and returns `status`. */
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

/* The binding of a name. NAME with those there are. */
typedef enum kln_sought { KLN_INPUT, KLN_OUTPUT, KLN_INPUT_FIRST, KLN_OUTPUT_FIRST } kln_sought;
KILN_MUST_CHECK kiln_status kln_context_find(const kiln_context *context, const char *name,
                                             kln_sought sought, size_t *index);

/* Whether the engine was made before this process was forked, and cannot work in it: then nothing
 * of the backend's may be touched, not even to release it. */
bool kln_engine_is_left_behind(const kiln_engine *engine);
KILN_MUST_CHECK kiln_status kln_engine_fail_process(const kiln_engine *engine,
                                                    const char *function);
/* STATE where it is. */
KILN_MUST_CHECK kiln_status kln_engine_check_process(const kiln_engine *engine,
                                                     const char *function);

/* Takes over `state`, an engine of `backend`, describes and indexes it. On an error `state` is
 * destroyed. */
KILN_MUST_CHECK kiln_status kln_engine_adopt(const kiln_backend *backend,
                                             const kiln_backend_info *info, void *state,
                                             const kiln_build_options *options, const char *source,
                                             kiln_engine **engine);

/* Builds or loads with the backend that the options name. */
KILN_MUST_CHECK kiln_status kln_engine_make(const kiln_model *asked,
                                            const kiln_build_options *options, bool load,
                                            const kiln_monitor *monitor, kiln_engine **engine);

/* The same with this backend, whatever lies in a cache. */
KILN_MUST_CHECK kiln_status kln_engine_make_anew(const kiln_backend *backend,
                                                 const kiln_backend_info *info,
                                                 const kiln_model *model,
                                                 const kiln_build_options *options, bool load,
                                                 const kiln_monitor *monitor, kiln_engine **engine);

/* After something was measured: into the manifest of the engine's entry in a cache, if it has one.
 * What goes wrong is a warning. */
void kln_engine_cache_note(kiln_engine *engine);

/* kiln_engine_load with options that were read. */
KILN_MUST_CHECK kiln_status kln_engine_load_path(const char *path,
                                                 const kiln_build_options *options,
                                                 const kiln_monitor *monitor, kiln_engine **engine);
/* The same of a file that is open already. */
KILN_MUST_CHECK kiln_status kln_engine_load(const kiln_model *model,
                                            const kiln_build_options *options,
                                            kiln_engine **engine);

/* All problems of a model, as kiln_check_file tells them; for a build with `provider`. */
KILN_MUST_CHECK kiln_status kln_check_model(const struct kln_onnx_model *model,
                                            const kiln_check_options *options,
                                            kiln_provider provider, kiln_issue_list **issues);

/* After `backend` failed with `status`, where the options ask for issues: puts the list there, with
 * what the backend put there already, if the failure lies in the model. Gives `status` and its
 * sentence back. */
KILN_MUST_CHECK kiln_status kln_engine_explain(kiln_status status, const kiln_model *model,
                                               const kiln_build_options *options,
                                               const kiln_backend *backend);

/* --- names of profiles, and shape hints (profile_names.c) --- */

struct cJSON;

KILN_MUST_CHECK kiln_status kln_profile_names_keep(kiln_engine *engine,
                                                   const kiln_profile *profiles, size_t count);
bool kln_profile_names_write(const kiln_engine *engine, struct cJSON *root);
/* Each with a line feed behind it. */
KILN_MUST_CHECK kiln_status kln_profile_names_read(const struct cJSON *root,
                                                   char names[KLN_PROFILE_NAMES]);
/* Takes `names` apart. */
KILN_MUST_CHECK kiln_status kln_profile_names_restore(kiln_engine *engine,
                                                      char names[KLN_PROFILE_NAMES]);
/* The profile of shape_hints or profile_rows, in the arena. */
KILN_MUST_CHECK kiln_status kln_profile_expected(const kiln_model *model,
                                                 const kiln_build_options *options,
                                                 kln_arena *arena, kiln_profile *profile);

/* --- shapes of weights, for a refit (weight_shapes.c) --- */

/* Whether elements in the order of one shape are in another than the other's: shapes that differ by
 * more than dimensions of 1, and of which neither is a list. */
bool kln_weight_shapes_differ(const kiln_shape *one, const kiln_shape *other);
/* Those of the model, where the engine was built so that its weights can be replaced. */
KILN_MUST_CHECK kiln_status kln_weight_shapes_keep(kiln_engine *engine,
                                                   const struct kln_onnx_model *model);
/* What was kept of weights, or NULL: of others with more than one dimension nothing is known. */
const kln_weight_shape *kln_weight_shapes_find(const kiln_engine *engine, const char *name);
/* Fills in the shape where it is not known and was kept. */
void kln_weight_shapes_tell(const kiln_engine *engine, kiln_refit_weight *weight);
bool kln_weight_shapes_write(const kiln_engine *engine, struct cJSON *root);
/* Of a manifest's object, or NULL. MALFORMED. */
KILN_MUST_CHECK kiln_status kln_weight_shapes_restore(kiln_engine *engine,
                                                      const struct cJSON *object);

/* --- how bindings are quantized (engine_quantization.c) --- */

/* What the model that it was built of says of bindings and weights; a plan says nothing.
 * OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_engine_read_model(kiln_engine *engine, const kiln_model *model);
bool kln_quantization_write(const kiln_engine *engine, struct cJSON *root);
/* Of a manifest's list, or NULL, into the engine. MALFORMED, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_quantization_restore(kiln_engine *engine, const struct cJSON *list);

/* --- the manifest: how a saved engine was made (manifest.c, manifest_load.c) --- */

#define KLN_MANIFEST_SUFFIX ".json"
#define KLN_MANIFEST_QUANTIZATION "quantization"
#define KLN_MANIFEST_WEIGHT_SHAPES "weight_shapes"
/* How a sentence ends that refuses one. */
#define KLN_MANIFEST_ADVICE "; delete the manifest to load without it"

typedef struct kln_manifest {
    char backend[32]; /* "" when there is no manifest */
    char backend_version[64];
    uint64_t size;                   /* of the file it stands beside, in bytes */
    uint64_t hash;                   /* kln_hash_bytes of the file */
    uint64_t found_size, found_hash; /* of the file that was found beside it */
    bool is_plan;                    /* in the backend's own format */
    char gpu[128];          /* the model of the GPU that it was built on; "" where not said */
    int32_t gpu_capability; /* and its compute capability, 90 for 9.0; 0 where not said */
    /* What the engine was built with, but for texts and lists. */
    kiln_build_options options;
    measured_variants measured;
    char profile_names[KLN_PROFILE_NAMES]; /* see kln_profile_names_read */
    struct cJSON *quantization;            /* of the bindings, or NULL; for kln_manifest_finish */
    struct cJSON *weight_shapes;           /* likewise */
} kln_manifest;

/* What a manifest says of bindings and weights, for an engine that was loaded. MALFORMED. */
KILN_MUST_CHECK kiln_status kln_manifest_restore(const kln_manifest *manifest, kiln_engine *engine);

/* Releases what a manifest that was read holds; once more does no harm. */
void kln_manifest_finish(kln_manifest *manifest);

/* Commits `file`, which was opened for `path` and has these bytes, together with `path`.json: at
 * every moment there is a file with a manifest that speaks of it, the old ones or the new. */
KILN_MUST_CHECK kiln_status kln_manifest_place(const char *path, const kiln_engine *engine,
                                               kiln_span bytes, kln_output *file);

/* Reads `path`.json for the file that has `bytes`; a zeroed manifest where there is none. For
 * kln_manifest_finish. MALFORMED, and zeroed. */
KILN_MUST_CHECK kiln_status kln_manifest_read(const char *path, kiln_span bytes,
                                              kln_manifest *manifest);

/* Parses a manifest's text. Where it speaks of two files, because a save goes on, the entry of
 * `bytes` is taken. MALFORMED, LIMIT. */
KILN_MUST_CHECK kiln_status kln_manifest_parse(kiln_span text, kiln_span bytes,
                                               kln_manifest *manifest);

/* The manifest of an engine that serializes to `bytes` in memory; free it with kln_free.
 * OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_manifest_write(const kiln_engine *engine, kiln_span bytes,
                                               char **text);

/* The manifest of what builds on GPU `device` measured, likewise. */
KILN_MUST_CHECK kiln_status kln_manifest_write_timings(const kiln_backend_info *info,
                                                       int32_t device, kiln_span bytes,
                                                       char **text);

/* What a manifest's text says of its file, for lists: "" where it says nothing. */
typedef struct kln_manifest_facts {
    char format[16], source[256], backend[32], version[64], gpu[128];
} kln_manifest_facts;
void kln_manifest_look(kiln_span text, kln_manifest_facts *facts);

/* Whether the file, or what is in memory where `path` is NULL, is what the manifest speaks of.
 * MISMATCH with expected and found. */
KILN_MUST_CHECK kiln_status kln_manifest_check_file(const kln_manifest *manifest, const char *path);

/* After a plan failed to load: MISMATCH, with what its manifest says of the versions and GPUs it is
 * for, where that is not what is here; else `status` and its sentence as they are. */
KILN_MUST_CHECK kiln_status kln_manifest_explain(kiln_status status, const kln_manifest *manifest,
                                                 const kiln_build_options *options);

/* Gives each option that a load left at its default the value that the engine was built with, where
 * it is one that is saved. Where the load asks for the CPU by name, what belongs to a GPU stays
 * out. */
void kln_manifest_apply(const kln_manifest *manifest, kiln_build_options *options);

/* Sets what the manifest decides: the backend, where `options` name none, and the options that are
 * saved. MISMATCH where it is of another model, version or machine. */
KILN_MUST_CHECK kiln_status kln_manifest_obey(const kln_manifest *manifest, const kiln_model *model,
                                              kiln_build_options *options);

/* The model in the precision that the options ask for, to be built in its place; NULL where they
 * ask for none. Errors as kiln_network_convert's. (engine_precision.c) */
KILN_MUST_CHECK kiln_status kln_engine_convert(const kiln_model *model,
                                               const kiln_build_options *options,
                                               struct kln_onnx_model **converted,
                                               struct kiln_precision_report **report);
/* Takes the report over, with what the engine's layers compute in. UNSUPPORTED where it is to be
 * strict, and some compute in something else, or do not tell. */
KILN_MUST_CHECK kiln_status kln_engine_achieve(kiln_engine *engine,
                                               struct kiln_precision_report *report, bool strict);

#endif
