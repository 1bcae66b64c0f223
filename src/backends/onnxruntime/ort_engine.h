/*
 * ort_engine.h - an engine and a context over ONNX Runtime, inside this folder.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_ORT_ENGINE_H
#define KLN_ORT_ENGINE_H

#include <pthread.h>

#include "ort_handover.h"
#include "ort_runtime.h"

/* A session and what it was made of. Not changed after it was built, but for `serialize`. */
typedef struct ort_engine {
    const ort_runtime *runtime;
    OrtSession *session;
    kln_arena arena;
    kiln_binding *bindings; /* inputs, then outputs; strings in the arena */
    size_t input_count;
    size_t output_count;
    /* For each output the input of the same name, which it then is, or ORT_NO_INPUT. */
    uint32_t *passed_inputs;
    size_t passed_count;
    /* The model as it was given: the file stays mapped, which costs address space only, until
     * somebody saves the engine; bytes of a caller are copied, because they go away. */
    kln_mapping file;
    kiln_span bytes;
    /* A network in memory instead: its weights stay where they are, and its bytes are written when
     * somebody saves the engine. */
    ort_handover handover;
    pthread_mutex_t writing; /* guards `written` */
    kln_text written;
} ort_engine;

/* What one protobuf message can hold. ONNX Runtime's own sentence about it does not say so. */
#define ORT_MESSAGE_LIMIT ((size_t)INT32_MAX)

#define ORT_NO_INPUT UINT32_MAX

/* Reads names, types and shapes of the session's inputs and outputs into the engine. */
KILN_MUST_CHECK kiln_status ort_read_bindings(ort_engine *engine);

kiln_status ort_serialize(void *engine, kiln_span *bytes);
kiln_status ort_describe(void *engine, kln_description *description);

kiln_status ort_context_create(void *engine, const kiln_context_options *options, void **context);
void ort_context_destroy(void *context);
kiln_status ort_context_bind(void *context, size_t index, const kiln_tensor *tensor);
kiln_status ort_context_run(void *context);
kiln_status ort_context_output(void *context, size_t index, kiln_tensor *tensor);

#endif
