/* SPDX-License-Identifier: Apache-2.0 */
/* Runs with values of their own, beside ONNX Runtime's IO binding.
 *
 * Telling an IO binding a value costs several times what a value costs, and pays only when the
 * next run uses it again. So what changes from run to run is handed to Run as it is; the binding
 * hears of it when a run finds everything as the last one left it. Making a value costs as much as
 * half of a small run, so the last few of each binding are kept, in a ring: programs that go
 * through several memories or shapes in turn come back to the one that follows. */
#ifndef KLN_ORT_FEED_H
#define KLN_ORT_FEED_H

#include "ort_engine.h"

/* What a value was made over. */
typedef struct ort_feed_view {
    const void *data; /* NULL: none was made, or over nothing */
    kiln_shape shape;
} ort_feed_view;

/* Values kept for each input and output. */
#define ORT_FEED_KEPT ((size_t)8)

typedef struct ort_feed_ring {
    OrtValue *values[ORT_FEED_KEPT]; /* NULL: none yet */
    ort_feed_view views[ORT_FEED_KEPT];
    size_t at; /* the one that was used last; the oldest follows */
} ort_feed_ring;

typedef struct ort_feed {
    size_t count;         /* inputs and outputs */
    const char **names;   /* inputs, then outputs; the engine's */
    OrtValue **values;    /* likewise, in `rings`; NULL for an output that ONNX Runtime finds memory
                           * for */
    ort_feed_ring *rings; /* likewise */
    OrtValue **results;   /* of the outputs, by the last Run; NULL where there are none */
    bool *stale;          /* the IO binding does not know it yet; inputs, then outputs */
    bool changed;         /* something did since the last run */
    bool bound_once;      /* the binding has run */
    bool has_results;     /* the last run was a Run */
} ort_feed;

KILN_MUST_CHECK kiln_status ort_feed_create(const ort_engine *engine, ort_feed **feed);
void ort_feed_destroy(const ort_engine *engine, ort_feed *feed); /* NULL is allowed */

/* Lets the oldest value of input or output `index` go, so that the next one, for ort_feed_set, is
 * made in its memory. */
void ort_feed_make_room(const ort_engine *engine, ort_feed *feed, size_t index);
/* It has this value now, made over `tensor`; takes it. */
void ort_feed_set(ort_feed *feed, size_t index, OrtValue *value, const kiln_tensor *tensor);
/* ONNX Runtime finds memory for it. */
void ort_feed_leave_open(ort_feed *feed, size_t index);
/* Whether it has a kept value now, because that was made over this memory in this shape. */
bool ort_feed_return(ort_feed *feed, size_t index, const kiln_tensor *tensor);
/* Whether the next run is better made by ort_feed_run than with the binding. */
bool ort_feed_is_due(const ort_feed *feed);
OrtStatus *ort_feed_run(const ort_engine *engine, ort_feed *feed, const OrtRunOptions *options);
/* What ONNX Runtime allocated for outputs in the last Run goes. */
void ort_feed_release_results(const ort_engine *engine, ort_feed *feed);

#endif
