/* SPDX-License-Identifier: Apache-2.0 */
/* Runs with values passed directly, instead of through ONNX Runtime's IO binding.
 *
 * Setting a value in an IO binding costs several times as much as creating a value, and pays off
 * only if the next run uses it again. Values that change between runs are therefore passed to Run
 * directly. They go into the IO binding once a run finds everything unchanged since the last one.
 *
 * Creating a value costs as much as half of a small run, so the last few values of each binding are
 * kept in a ring, for programs that rotate through several memories or shapes. A small input whose
 * memory changes has one value over memory of the feed, into which each run copies the input: that
 * is cheaper than looking up a value, and far cheaper than creating one. */
#ifndef KLN_ORT_FEED_H
#define KLN_ORT_FEED_H

#include "ort_engine.h"

/* The memory and shape of a value. */
typedef struct ort_feed_view {
    const void *data; /* NULL: no value, or one over nothing */
    kiln_shape shape;
} ort_feed_view;

/* Inputs up to this size are copied: four cache lines, a small part of the cost of a value. */
#define ORT_FEED_COPIED ((size_t)256)

/* A copied input. */
typedef struct ort_feed_copy {
    OrtValue *value;       /* over `memory`; NULL: none yet */
    kiln_shape shape;      /* of the value */
    unsigned char *memory; /* ORT_FEED_COPIED bytes; NULL: none yet */
    const void *source;    /* the caller's */
    size_t bytes;
    size_t unused; /* binds of the input with other shapes since its last use */
} ort_feed_copy;

/* Values kept for each input and output. */
#define ORT_FEED_KEPT ((size_t)8)

typedef struct ort_feed_ring {
    OrtValue *values[ORT_FEED_KEPT]; /* NULL: none yet */
    ort_feed_view views[ORT_FEED_KEPT];
    size_t at; /* the most recently used one; the oldest follows */
} ort_feed_ring;

typedef struct ort_feed {
    size_t count;          /* inputs and outputs */
    const char **names;    /* inputs, then outputs; owned by the engine */
    OrtValue **values;     /* likewise, in `rings` or `copies`; NULL for an output that ONNX Runtime
                              allocates */
    ort_feed_ring *rings;  /* likewise */
    ort_feed_copy *copies; /* of the inputs */
    bool has_copies;       /* whether there are any */
    OrtValue **results;    /* of the outputs, from the last Run; NULL if there are none */
    bool *stale;           /* not passed to the IO binding yet; inputs, then outputs */
    bool changed;          /* something was bound since the last run */
    bool bound_once;       /* the binding has run */
    bool has_results;      /* the last run was a Run */
} ort_feed;

KILN_MUST_CHECK kiln_status ort_feed_create(const ort_engine *engine, ort_feed **feed);
void ort_feed_destroy(const ort_engine *engine, ort_feed *feed); /* NULL is allowed */

/* Releases the oldest value of input or output `index`, so that the next one, for ort_feed_set, is
 * made in its memory. */
void ort_feed_make_room(const ort_engine *engine, ort_feed *feed, size_t index);
/* Sets its value, made over `tensor`; takes ownership. */
void ort_feed_set(ort_feed *feed, size_t index, OrtValue *value, const kiln_tensor *tensor);
/* The same for a value that the caller owns, until it is set to another one. */
void ort_feed_lend(ort_feed *feed, size_t index, OrtValue *value);
/* Lets ONNX Runtime allocate its memory. */
void ort_feed_leave_open(ort_feed *feed, size_t index);
/* Sets it to a kept value made over this memory in this shape; false if there is none. */
bool ort_feed_return(ort_feed *feed, size_t index, const kiln_tensor *tensor);
/* Makes input `index` a copy from this memory; false if it has no value for that. */
bool ort_feed_take_copy(ort_feed *feed, size_t index, const kiln_tensor *tensor);
/* Whether its memory changes and it should get such a value: ort_feed_set_copy takes `value`, made
 * over `memory`, which ort_feed_copy_memory gives (NULL if there is none). */
bool ort_feed_moves(const ort_engine *engine, const ort_feed *feed, size_t index,
                    const kiln_tensor *tensor);
void *ort_feed_copy_memory(const ort_engine *engine, ort_feed *feed, size_t index);
void ort_feed_set_copy(ort_feed *feed, size_t index, OrtValue *value, const kiln_tensor *tensor);
/* Before each run. */
void ort_feed_copy_all(const ort_engine *engine, const ort_feed *feed);
/* Whether the next run should use ort_feed_run rather than the binding. */
bool ort_feed_is_due(const ort_feed *feed);
OrtStatus *ort_feed_run(const ort_engine *engine, ort_feed *feed, const OrtRunOptions *options);
/* Frees outputs that ONNX Runtime allocated in the last Run. */
void ort_feed_release_results(const ort_engine *engine, ort_feed *feed);

#endif
