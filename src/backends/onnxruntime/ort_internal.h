/*
 * ort_internal.h - shared between the files of this room.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_ORT_INTERNAL_H
#define KLN_ORT_INTERNAL_H

#include "backends/kln_backend.h"
#include "base/kln_base.h"
#include "loader/kln_loader.h"
#include "ort_api.h"

/* One libonnxruntime, found (or not) once and kept as long as the process lives: it starts threads
 * of its own that do not survive being unloaded. */
typedef struct ort_runtime {
    struct ort_runtime *next;
    const char *requested; /* the path that was asked for, "" for the usual places */
    kln_library *library;
    kiln_status status; /* of looking for it */
    char reason[512];   /* why it can or cannot be used, one sentence */
    ort_api api;
    OrtEnv *environment;     /* made with the first session */
    OrtMemoryInfo *cpu;      /* where host tensors lie */
    OrtAllocator *allocator; /* ONNX Runtime's own, for what it hands out */
} ort_runtime;

/* The runtime for `path` (NULL: KILN_ONNXRUNTIME or the usual places). Its `status` says whether it
 * can be used. OUT_OF_MEMORY. Any thread. */
KILN_MUST_CHECK kiln_status ort_runtime_find(const char *path, const ort_runtime **runtime);

/* The same, usable and with an environment, or the reason why not. */
KILN_MUST_CHECK kiln_status ort_runtime_open(const char *path, const ort_runtime **runtime);

/* Turns a status of ONNX Runtime into one of Kiln, with its own words after "what: ", and releases
 * it. NULL is success. */
KILN_MUST_CHECK kiln_status ort_check(const ort_api *api, OrtStatus *status, const char *what);

/* Between ONNXTensorElementDataType and kiln_dtype; UNDEFINED and 0 where there is no match. */
kiln_dtype ort_dtype(unsigned element_type);
unsigned ort_element_type(kiln_dtype dtype);

typedef struct ort_engine {
    const ort_runtime *runtime;
    OrtSession *session;
    kln_mapping mapping;    /* the file it was built from, for kiln_engine_save */
    void *copy;             /* or a copy of the caller's bytes */
    kiln_span model;        /* either of them */
    kiln_binding *bindings; /* of the description: inputs, then outputs */
    size_t input_count;
    size_t output_count;
} ort_engine;

kiln_status ort_describe(void *state, kln_description *description);
kiln_status ort_context_create(void *state, const kiln_context_options *options, void **context);
void ort_context_destroy(void *context);
kiln_status ort_context_bind(void *context, size_t index, const kiln_tensor *tensor);
kiln_status ort_context_run(void *context);
kiln_status ort_context_output(void *context, size_t index, kiln_tensor *tensor);

#endif
