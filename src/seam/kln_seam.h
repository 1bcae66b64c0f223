/* SPDX-License-Identifier: Apache-2.0 */
/* The interface of a backend inside Kiln: the tables of <kiln/unstable/backend_table.h>, and what
 * only Kiln's own backends receive.
 *
 * A backend is a folder of src/backends with one table at the end of a file, and a line in
 * src/backends/kln_backends.h. */
#ifndef KLN_SEAM_H
#define KLN_SEAM_H

#define KILN_UNSTABLE_API
#include <kiln/unstable/backend_table.h>

#include "base/kln_base.h"
#include "loader/kln_loader.h"
#include "options/kln_options.h"
#include "tensor/kln_tensor.h"

struct kln_onnx_model;

/* Somebody who is shown tensors while a network runs, before their memory serves others: those that
 * nodes of the type "Watch" in the domain KLN_WATCH_DOMAIN read, on the thread that runs. The
 * operator reads a tensor and an int64 number, which is the run's, has its place as the attribute
 * "index", and gives an int64 0 without dimensions. What `see` returns, if not KILN_OK, ends the
 * run. Of ONNX Runtime on the CPU. */
#define KLN_WATCH_DOMAIN "kiln.watch"
typedef struct kln_watch {
    kiln_status (*see)(void *user, size_t index, int64_t run, const kiln_tensor *tensor);
    void *user;
} kln_watch;

/* What to build or load: a file, bytes or a graph. Lives during the call only. A file was opened
 * and looked at already: who keeps it takes a share of `file`, and nobody opens `path` again, where
 * another file may lie by then. */
struct kiln_model {
    const char *path;        /* the file, for messages and to find external weights; NULL: memory */
    const char *name;        /* for messages, where it was made of another; or NULL */
    const kln_mapping *file; /* with `path`: where `bytes` are mapped; else NULL */
    const char *folder;      /* of a model in memory: where external weights lie; NULL: "." */
    kiln_span bytes;         /* its content; empty where `graph` is given */
    const struct kln_onnx_model *graph; /* a network in memory (onnx/kln_onnx.h), or NULL */
    struct kln_onnx_model **read;       /* what was read of it first, for whoever reads it next; the
                                           caller's, or NULL */
    kln_text *written; /* where a graph is written for kiln_model_bytes; the caller's, or NULL */
    const struct kln_onnx_model
        *origin;            /* of a plan: what it was built from, where that is at
                               hand, for the names that a plan does not keep; or NULL */
    const kln_watch *watch; /* of a graph with such nodes; lives as long as the engine; or NULL */
    kiln_span timings; /* what other processes measured (kiln_backend.timings), for a build that has
                          nothing of its own to begin with; what is not understood is passed over */
};

/* What a sentence calls it. */
const char *kln_model_name(const kiln_model *model);

/* A path in the folder that external weights lie in, for a library that wants one: the model's own,
 * one made up in `made`, or NULL, which means the working directory. LIMIT. */
KILN_MUST_CHECK kiln_status kln_model_place(const kiln_model *model, char made[PATH_MAX],
                                            const char **path);

/* The ONNX model of a file or of bytes, which must stay as long as `onnx` does where they are in
 * memory; for kln_onnx_model_destroy. It is shared (`read`), so not to be changed. Errors as
 * kln_onnx_read_bytes. */
KILN_MUST_CHECK kiln_status kln_model_read(const kiln_model *model, struct kln_onnx_model **onnx);

/* The same, to be changed. */
KILN_MUST_CHECK kiln_status kln_model_read_anew(const kiln_model *model,
                                                struct kln_onnx_model **onnx);

/* For backends whose weights are a model's initializers: one as kiln_engine_refit_get tells of it,
 * and kln_onnx_replace of what a refit gives. */
struct kln_onnx_tensor;
KILN_MUST_CHECK kiln_status kln_refit_weight_of(const struct kln_onnx_tensor *tensor,
                                                kiln_refit_weight *weight);
/* What its `values` have that is not finite. */
kln_odd kln_refit_weight_odd(const kiln_refit_weight *weight);
KILN_MUST_CHECK kiln_status kln_refit_replace(const struct kln_onnx_model *model,
                                              const kiln_named_tensor *weights, size_t count,
                                              struct kln_onnx_model **made);

/* Another way to build a model than as it was asked for, with the same results but for rounding. */
typedef struct kln_variant {
    kiln_build_options options; /* the ones asked for at first, to be changed */
    struct kln_onnx_model
        *model;            /* rewritten, for kln_onnx_model_destroy; NULL: as it lies there */
    kiln_tune_result told; /* what is different, without the times */
} kln_variant;

/* What the runs of one node took, for backends that keep such a list themselves. */
typedef struct kln_node_time {
    const char *name; /* not "" */
    const char *type; /* of its operator */
    uint64_t nanoseconds;
    uint64_t runs;
} kln_node_time;

/* Number `index` of a list as kiln_context_layer shows it. */
KILN_MUST_CHECK kiln_status kln_node_time_show(const kln_node_time *times, size_t count,
                                               size_t index, kiln_layer_time *layer);

/* Whether the profiles of the options name inputs among `bindings` and hold what these can take,
 * min to opt to max. Errors: NULL_ARGUMENT, INVALID_ARGUMENT, NAME, RANK, SHAPE. */
KILN_MUST_CHECK kiln_status kln_profiles_check(const kiln_build_options *options,
                                               const kiln_binding *bindings, size_t count);

/* Its names become copies of the arena's. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_binding_own_names(kln_arena *arena, kiln_binding *binding);

/* Whether a table has every required operation; INTERNAL with the name of the one it lacks. */
KILN_MUST_CHECK kiln_status kln_backend_check(const kiln_backend *backend);

#endif
