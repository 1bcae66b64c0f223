/* SPDX-License-Identifier: Apache-2.0 */
/* Running an engine's state: bindings, transfers to the device and back, CUDA graphs. Knows a
 * backend's state and its bindings, but neither kiln_engine nor kiln_context. */
#ifndef KLN_EXEC_H
#define KLN_EXEC_H

#include <stdatomic.h>

#include <kiln/context.h>

#include "cuda/kln_cuda.h"
#include "graph_variants.h"
#include "seam/kln_seam.h"

/* A backend's engine that another one has taken the place of, until nobody runs it any more. */
typedef struct kln_former {
    struct kln_former *next;
    void *state;
    size_t users;
} kln_former;

/* Where the copies of those contexts go that overlap them and work on one stream. Two, so that
 * inputs do not wait for the outputs of the run before. */
typedef struct kln_lane {
    struct kln_lane *next;
    const kiln_stream *work;
    kiln_stream *in;
    kiln_stream *out;
    size_t users;
} kln_lane;

/* What all who run one engine share. */
typedef struct kln_shared {
    const kiln_backend *backend;
    void *_Atomic state;    /* the backend's engine; another one after a refit */
    pthread_mutex_t states; /* guards the two below */
    size_t users;           /* contexts of `state` */
    kln_former *former;
    kiln_backend_info info; /* as it was probed, with what this engine can do */
    kiln_description description;
    int32_t device;        /* the GPU it works on, or -1 */
    kiln_stream *stream;   /* the one that all its work goes to, or NULL: each has its own */
    kiln_stream *sharing;  /* of those that share device memory and were given no stream, or NULL */
    kln_lane *lanes;       /* guarded by `order` */
    pthread_mutex_t order; /* held while something is enqueued on, captured from or run on it */
    pthread_rwlock_t weights;  /* held for writing by a refit; for reading by who saves, and by runs
                                  where a refit changes `state` itself */
    atomic_size_t under_way;   /* runs on the GPU that a call has left there */
    atomic_ulong refits;       /* done: graphs that were captured before are of old weights */
    char gpu[64];              /* its name, or "" */
    shared_variants *measured; /* how its captured runs are fastest */
} kln_shared;

/* Of a zeroed struct with its backend, state and info: the rest but for `description`. To be
 * finished also after an error. DEVICE, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_shared_init(kln_shared *shared);
/* Not the backend's state. */
void kln_shared_finish(kln_shared *shared);

/* Takes the weights for writing: no run is enqueued from now on, and what was enqueued has come to
 * its end. DEVICE. */
KILN_MUST_CHECK kiln_status kln_shared_lock_weights(kln_shared *shared);
/* Runs take the weights as they are now, and capture anew. */
void kln_shared_unlock_weights(kln_shared *shared);
/* Keeps the weights, and the state, as they are; for reading, so several may. */
static inline void kln_shared_hold_weights(kln_shared *shared)
{
    if (shared->backend->refit != NULL) {
        (void)pthread_rwlock_rdlock(&shared->weights);
    }
}

static inline void kln_shared_let_weights_go(kln_shared *shared)
{
    if (shared->backend->refit != NULL) {
        (void)pthread_rwlock_unlock(&shared->weights);
    }
}

/* Puts `state`, which is of the same description, in the place of the one that there is, with the
 * weights locked: runs from then on move to it. OUT_OF_MEMORY, and then it is the caller's. */
KILN_MUST_CHECK kiln_status kln_shared_replace(kln_shared *shared, void *state);

/* One user of an engine. One thread at a time, but for kln_exec_cancel. */
typedef struct kln_exec kln_exec;

KILN_MUST_CHECK kiln_status kln_exec_create(kln_shared *shared, const kiln_context_options *options,
                                            kln_exec **exec);
/* Waits for what is under way. NULL is allowed. With `left_behind` in another process, where
 * nothing but memory is given back. */
void kln_exec_destroy(kln_exec *exec, bool left_behind);

/* The backend's context. */
void *kln_exec_state(const kln_exec *exec);
/* Whether a thread of its own belongs to it. */
bool kln_exec_has_thread(const kln_exec *exec);
/* The stream where its work goes, or NULL. */
kiln_stream *kln_exec_stream(const kln_exec *exec);

/* --- bindings: `index` as kiln_description lists them --- */

/* Whether a tensor of this shape fits a binding. RANK, SHAPE. */
KILN_MUST_CHECK kiln_status kln_exec_check_shape(const kiln_binding *binding,
                                                 const kiln_shape *shape);
/* Whether `tensor` can be bound: DTYPE, RANK, SHAPE, INVALID_ARGUMENT, SIZE, ALIGNMENT,
 * UNSUPPORTED. */
KILN_MUST_CHECK kiln_status kln_exec_check(const kln_exec *exec, size_t index,
                                           const kiln_tensor *tensor);
/* Binds what was checked. OUT_OF_MEMORY, INVALID_ARGUMENT. */
KILN_MUST_CHECK kiln_status kln_exec_bind(kln_exec *exec, size_t index, const kiln_tensor *tensor);
void kln_exec_unbind(kln_exec *exec, size_t index);
/* Memory of its own for an input of this shape, which `fill` (or NULL) writes before each run. */
KILN_MUST_CHECK kiln_status kln_exec_reshape(kln_exec *exec, size_t index, const kiln_shape *shape,
                                             kiln_fill_function fill, void *user);
/* Where the bytes of a binding are: NOT_BOUND, STATE, DTYPE. */
KILN_MUST_CHECK kiln_status kln_exec_show(kln_exec *exec, size_t index, kiln_tensor *tensor);

/* --- runs --- */

/* One run ordered into `stream` (NULL: its own), waited for or not. What is bound to a result of
 * the run before stays that until kln_exec_spend. */
KILN_MUST_CHECK kiln_status kln_exec_run(kln_exec *exec, kiln_stream *stream, bool waits);
/* Copies pieces (kln_cuda_copy_pieces) to or from memory of the device that the next run of this
 * thread's reads, or that the last one wrote, in the order of its work and without waiting. Several
 * threads may at once, none beside a run. kln_exec_end_copies comes behind the last of them, and
 * pinned memory must stay until kln_exec_wait_copies, or until a run behind it has ended well.
 * DEVICE. */
KILN_MUST_CHECK kiln_status kln_exec_copy(kln_exec *exec, const kln_cuda_piece *pieces,
                                          size_t count);
KILN_MUST_CHECK kiln_status kln_exec_end_copies(kln_exec *exec);
/* Waits for the copies alone. */
KILN_MUST_CHECK kiln_status kln_exec_wait_copies(kln_exec *exec);
/* What was fed to the last run has been used. */
void kln_exec_spend(kln_exec *exec);
/* A run that was asked for and came to nothing before kln_exec_run. */
void kln_exec_count_failure(kln_exec *exec);
/* Waits for an enqueued run and brings its outputs to the host. Of a run that was left: STATE while
 * it is under way, unless it is waited for as well. */
KILN_MUST_CHECK kiln_status kln_exec_wait(kln_exec *exec, bool also_left);
/* The library's own call alone, with what the last run bound. */
KILN_MUST_CHECK kiln_status kln_exec_run_raw(kln_exec *exec, uint64_t *nanoseconds);
/* Ends the run that is under way in another thread. UNSUPPORTED. Any thread. */
KILN_MUST_CHECK kiln_status kln_exec_cancel(kln_exec *exec);
/* Measures the variants that the graph of what is bound can have, in turns, until one is the
 * fastest for certain or `nanoseconds` are over; keeps it, and writes it down for the engine. Does
 * nothing where there is no graph, or one that was searched for. */
KILN_MUST_CHECK kiln_status kln_exec_search(kln_exec *exec, uint64_t nanoseconds);
/* Drops every graph: what was captured is of another profile. */
void kln_exec_forget(kln_exec *exec);
/* The same, and with `allowed` false nothing is captured from now on. */
void kln_exec_allow_graphs(kln_exec *exec, bool allowed);
void kln_exec_get_counters(const kln_exec *exec, kiln_context_counters *counters);

#endif
