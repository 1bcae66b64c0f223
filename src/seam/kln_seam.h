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

/* An observer of tensors while a network runs, before their memory is reused: the tensors read by
 * nodes of type "Watch" in the domain KLN_WATCH_DOMAIN, in the thread that runs. Such a node reads
 * a tensor and an int64 number that identifies the run, has its position as the attribute "index",
 * and outputs an int64 scalar 0. If `see` returns a status other than KILN_OK, the run ends with
 * it. For ONNX Runtime on the CPU. */
#define KLN_WATCH_DOMAIN "kiln.watch"
typedef struct kln_watch {
    kiln_status (*see)(void *user, size_t index, int64_t run, const kiln_tensor *tensor);
    void *user;
} kln_watch;

/* The model to build or load: a file, bytes or a graph. Valid during the call only. A file is
 * already open and checked: code that keeps it shares `file`, and nobody opens `path` again,
 * because another file may be there by then. */
struct kiln_model {
    const char *path;        /* the file, for messages and to find external weights; NULL: in
                                memory */
    const char *name;        /* for messages, if it was made from another model; or NULL */
    const kln_mapping *file; /* with `path`: the mapping of `bytes`; otherwise NULL */
    const char *folder;      /* for a model in memory: folder of its external weights; NULL: "." */
    kiln_span bytes;         /* its content; empty if `graph` is given */
    const struct kln_onnx_model *graph; /* a network in memory (onnx/kln_onnx.h), or NULL */
    struct kln_onnx_model **read;       /* the model as first read, for the next reader; the
                                           caller's, or NULL */
    kln_text *written; /* where kiln_model_bytes writes a graph; the caller's, or NULL */
    const struct kln_onnx_model
        *origin;            /* for a plan: the model that it was built from, if that is at hand, for
                               the names that a plan does not keep; or NULL */
    const kln_watch *watch; /* for a graph with such nodes; lives as long as the engine; or NULL */
    kiln_span timings; /* measurements of other processes (kiln_backend.timings), for a build that
                          has none of its own; ignored if not recognized */
};

/* Its name in sentences. */
const char *kln_model_name(const kiln_model *model);

/* A path in the folder of the external weights, for a library that needs one: the model's own, one
 * composed in `made`, or NULL for the working directory. LIMIT. */
KILN_MUST_CHECK kiln_status kln_model_place(const kiln_model *model, char made[PATH_MAX],
                                            const char **path);

/* Gives the ONNX model of a file or of bytes. Bytes in memory must stay valid as long as `onnx`.
 * Release it with kln_onnx_model_destroy. It is shared (`read`), so it must not be changed. Errors
 * as kln_onnx_read_bytes. */
KILN_MUST_CHECK kiln_status kln_model_read(const kiln_model *model, struct kln_onnx_model **onnx);

/* The same, as a private copy that may be changed. */
KILN_MUST_CHECK kiln_status kln_model_read_anew(const kiln_model *model,
                                                struct kln_onnx_model **onnx);

/* For backends whose weights are a model's initializers: one of them as kiln_engine_refit_get
 * describes it, and kln_onnx_replace with what a refit provides. */
struct kln_onnx_tensor;
KILN_MUST_CHECK kiln_status kln_refit_weight_of(const struct kln_onnx_tensor *tensor,
                                                kiln_refit_weight *weight);
/* The elements of its `values` that are not finite. */
kln_odd kln_refit_weight_odd(const kiln_refit_weight *weight);
KILN_MUST_CHECK kiln_status kln_refit_replace(const struct kln_onnx_model *model,
                                              const kiln_named_tensor *weights, size_t count,
                                              struct kln_onnx_model **made);

/* Another way to build a model, with the same results up to rounding. */
typedef struct kln_variant {
    kiln_build_options options;   /* initially the requested ones, to be changed */
    struct kln_onnx_model *model; /* rewritten, for kln_onnx_model_destroy; NULL: unchanged */
    kiln_tune_result told;        /* the differences, without the times */
} kln_variant;

/* The time of one node's runs, for backends that keep such a list themselves. */
typedef struct kln_node_time {
    const char *name; /* not "" */
    const char *type; /* of its operator */
    uint64_t nanoseconds;
    uint64_t runs;
} kln_node_time;

/* Entry `index` of a list in the form of kiln_context_layer. */
KILN_MUST_CHECK kiln_status kln_node_time_show(const kln_node_time *times, size_t count,
                                               size_t index, kiln_layer_time *layer);

/* Checks that the profiles of the options name inputs among `bindings`, with ranges from min to opt
 * to max that these accept. Errors: NULL_ARGUMENT, INVALID_ARGUMENT, NAME, RANK, SHAPE. */
KILN_MUST_CHECK kiln_status kln_profiles_check(const kiln_build_options *options,
                                               const kiln_binding *bindings, size_t count);

/* Copies its names to the arena. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_binding_own_names(kln_arena *arena, kiln_binding *binding);

/* Checks that a table has every required operation; INTERNAL with the name of a missing one. */
KILN_MUST_CHECK kiln_status kln_backend_check(const kiln_backend *backend);

#endif
