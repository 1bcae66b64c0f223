/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a context of this backend. */
#ifndef ORT_CONTEXT_H
#define ORT_CONTEXT_H

#include "ort_engine.h"
#include "ort_feed.h"

/* Alignment of memory that a context provides: what ONNX Runtime gives its own tensors. */
#define OUTPUT_ALIGNMENT 64

/* An output. ONNX Runtime keeps what a run allocated for an output and takes it for the caller's
 * memory in the next one, which then fails where the shape is another. So an output of fixed shape
 * gets memory once, and one whose shape may change is bound anew before each run. */
typedef struct output_slot {
    uint32_t passed;    /* the input that this output is, or ORT_NO_INPUT */
    kiln_tensor tensor; /* the memory that runs write to, unless `changing` and not of strings */
    void *owned;        /* memory of the context that `tensor` may lie in, or the last strings */
    size_t owned_bytes; /* of strings */
    size_t position;    /* among the outputs that ONNX Runtime knows; NOT_BOUND at first */
    bool changing;      /* bound anew before each run, in memory that ONNX Runtime finds */
} output_slot;

#define NOT_BOUND SIZE_MAX

/* An input of strings. */
typedef struct ort_strings {
    OrtValue *value; /* what each run copies them to; NULL: nothing is bound */
    kiln_tensor given;
} ort_strings;

typedef struct ort_context {
    const ort_engine *engine;
    OrtIoBinding *binding;
    ort_feed *feed; /* NULL: the binding is told at once, as on a GPU */
    OrtRunOptions *run_options;
    OrtRunOptions *enqueue_options; /* do not wait for the GPU; NULL on the CPU */
    output_slot *outputs;
    kiln_tensor *inputs;   /* what is bound, for outputs that are inputs, and on a GPU; or NULL */
    size_t bound_count;    /* outputs that ONNX Runtime knows */
    size_t changing_count; /* outputs that are bound anew before each run */
    /* The values of the last run, once somebody asked for one that ONNX Runtime allocated. */
    OrtValue **values;
    size_t value_count;
    ort_strings *strings;    /* one for each binding, where any is of strings; or NULL */
    kln_input_shape *shapes; /* of what is bound, where the engine is risky; or NULL */
    bool is_doubtful;        /* an input without elements was bound since the last run */
    bool has_optional;       /* an initializer that is an input too is bound */
    bool is_timed;
    uint64_t timed_runs; /* since that was switched on */
} ort_context;

/* --- binding (ort_bind.c) --- */

bool ort_is_devices(const kiln_tensor *tensor);
/* Values that were asked for after the last run. */
void ort_release_values(ort_context *context);
/* Whether the output is bound anew before each run. */
void ort_set_changing(ort_context *context, output_slot *slot, bool changing);
/* Its place among those that ONNX Runtime knows, once it is bound. */
void ort_set_position(ort_context *context, output_slot *slot);
KILN_MUST_CHECK kiln_status ort_bind_input(ort_context *context, const kiln_binding *binding,
                                           const kiln_tensor *tensor);

/* --- strings (ort_strings.c): none of these does anything where no binding is of them --- */

KILN_MUST_CHECK kiln_status ort_strings_create(ort_context *context);
void ort_strings_destroy(ort_context *context);
KILN_MUST_CHECK kiln_status ort_strings_bind(ort_context *context, size_t index,
                                             const kiln_tensor *tensor);
/* Input `index` is bound no more. */
void ort_strings_forget(ort_context *context, size_t index);
/* Before a run. */
KILN_MUST_CHECK kiln_status ort_strings_copy_in(const ort_context *context);
/* The strings of a value, where they lie in it. */
KILN_MUST_CHECK kiln_status ort_strings_read(const ort_context *context,
                                             const kiln_binding *binding, OrtValue *value,
                                             size_t count, kiln_span *spans);

#endif
