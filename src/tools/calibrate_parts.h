/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a calibration. Private to this module. */
#ifndef KLN_CALIBRATE_PARTS_H
#define KLN_CALIBRATE_PARTS_H

#include <kiln/calibrate.h>
#include <kiln/context.h>
#include <kiln/system.h>

#include "base/kln_base.h"
#include "engine/kln_engine.h"
#include "graph/kln_graph.h"
#include "onnx/kln_onnx.h"
#include "ops/kln_ops.h"
#include "precision/kln_precision.h"
#include "seam/kln_seam.h"

typedef struct kln_observed {
    const char *name;
    uint32_t value;     /* of the inference */
    uint64_t bytes;     /* of the batch's shapes */
    kiln_tensor tensor; /* likewise; rank -1 where its shape is not known */
    kln_observer observer;
    kln_channel_observer *channels; /* or NULL */
    size_t channel_count;
    bool channels_are_last;
    kln_products *products; /* or NULL; a list, of each window that reads it */
    int64_t next_run;       /* that is to be counted, of runs at the same time */
} kln_observed;

/* Memory of the device, where tensors of a part are counted; all NULL until some are. */
typedef struct kln_calibration_gpu {
    int32_t device;
    kiln_stream *stream;
    void *memory; /* of the tensors */
    uint64_t room;
    void *counts, *read; /* of `tensors` tensors, on the device and in pinned memory */
    size_t tensors;
} kln_calibration_gpu;

/* Runs at the same time; all 0 where there is one after the other. */
typedef struct kln_runner kln_runner;
typedef struct kln_crowd {
    kln_runner *runners;
    size_t count, width; /* width: as many may be at work, for what they take */
    kln_watch watch;
    const char *run_name; /* of the input that says which run it is */
    pthread_mutex_t lock; /* everything below, and what is said to be */
    pthread_cond_t changed;
    int64_t last; /* run that goes on */
    bool is_over;
} kln_crowd;

typedef struct kln_calibration {
    kiln_calibrate_options options;
    kiln_build_options build;
    kln_onnx_model *model;
    kln_onnx_graph whole; /* the model's graph but while an engine is built */
    kln_arena arena;      /* what lives as long as this */
    kln_inference *inference;
    kln_observed *observed; /* inputs of the graph first, then in an order the nodes can run in */
    size_t count, input_count;
    kln_names wanted; /* where only some tensors are; 1: is observed */
    bool wants_some;
    uint64_t *bins;
    kln_onnx_value *outputs; /* of a part's graph */
    /* Tensors from part_begins[i] to before part_begins[i + 1] are observed in one run. */
    size_t *part_begins;
    size_t part_count;
    kiln_engine **engines; /* of the parts; NULL: not built yet */
    kiln_context *context; /* over the engine of a single part */
    /* The batch that is run. */
    kiln_named_tensor *bound;
    size_t bound_count;
    kln_input_shape *shapes; /* of the inputs, that the parts were planned for */
    size_t shape_count;
    kiln_shape_hint *hints;
    kln_observer_scratch **scratches;
    size_t thread_count;
    kln_calibration_gpu gpu;
    kln_crowd crowd;
    uint64_t begin;            /* of all, in nanoseconds */
    uint64_t started, batches; /* that are under way or done, and done */
    uint64_t source_batch;     /* of the source, from 1 on, for sentences */
} kln_calibration;

/* --- which tensors, in which parts (calibrate_graph.c) --- */

/* Lists the tensors and makes their observers. NAME, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_calibration_list(kln_calibration *of);
/* Plans the parts for the shapes of what is bound; engines that no longer fit are let go. LIMIT. */
KILN_MUST_CHECK kiln_status kln_calibration_plan(kln_calibration *of);
KILN_MUST_CHECK kiln_status kln_calibration_build(kln_calibration *of, size_t part);
void kln_calibration_release_engines(kln_calibration *of);
/* Of ONNX Runtime, whose layouts for convolutions are undone for each tensor that is looked at:
 * where all are and convolutions are many, it keeps the model's. */
kiln_optimization kln_calibration_optimization(const kln_calibration *of);

/* How many batches run at the same time; 0: none does, or the backend cannot show tensors on the
 * way. */
size_t kln_calibration_crowd(const kln_calibration *of);
size_t kln_calibration_threads(const kln_calibration *of); /* that count, or run */

/* The network with nodes that show what is observed (kln_watch), for kln_onnx_model_destroy.
 * (calibrate_watch.c) */
KILN_MUST_CHECK kiln_status kln_calibration_watch(kln_calibration *of, kln_onnx_model **watched);

/* --- runs at the same time (calibrate_crowd.c) --- */

KILN_MUST_CHECK kiln_status kln_calibration_gather(kln_calibration *of, size_t count);
/* Copies what is bound and lets it run; waits where all are busy. Errors: also of runs before. */
KILN_MUST_CHECK kiln_status kln_calibration_start_run(kln_calibration *of);
KILN_MUST_CHECK kiln_status kln_calibration_finish_runs(kln_calibration *of);
void kln_calibration_disperse(kln_calibration *of); /* ends those under way */

/* --- counting, in threads (calibrate_observe.c) --- */

/* One tensor. */
KILN_MUST_CHECK kiln_status kln_calibration_count(kln_observed *observed, const kiln_tensor *tensor,
                                                  kln_observer_scratch *scratch);

KILN_MUST_CHECK kiln_status kln_calibration_start(kln_calibration *of);
/* tensors[i] are of of->observed[first + i]. */
KILN_MUST_CHECK kiln_status kln_calibration_observe(kln_calibration *of, size_t first,
                                                    const kiln_tensor *tensors, size_t count);
void kln_calibration_stop(kln_calibration *of);
/* A batch is done: tells the caller. CANCELLED. */
KILN_MUST_CHECK kiln_status kln_calibration_tell(kln_calibration *of);

/* --- counting on the GPU that computes (calibrate_gpu.c) --- */

/* Whether the tensors of a part, whose engine is built, are counted there: float32 all of them, in
 * shapes that are known. */
bool kln_calibration_is_on_gpu(const kln_calibration *of, size_t part);
/* Before a run: gives them memory of the device. */
KILN_MUST_CHECK kiln_status kln_calibration_bind_on_gpu(kln_calibration *of, size_t part,
                                                        kiln_context *context);
/* After it. */
KILN_MUST_CHECK kiln_status kln_calibration_observe_on_gpu(kln_calibration *of, size_t part);
void kln_calibration_leave_gpu(kln_calibration *of);

#endif
