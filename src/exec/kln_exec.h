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

/* A backend's engine that was replaced, kept until nobody runs it any more. */
typedef struct kln_former {
    struct kln_former *next;
    void *state;
    size_t users;
} kln_former;

/* The streams for the copies of contexts that overlap them and work on one stream. There are two,
 * so that inputs do not wait for the outputs of the previous run. */
typedef struct kln_lane {
    struct kln_lane *next;
    const kiln_stream *work;
    kiln_stream *in;
    kiln_stream *out;
    size_t users;
} kln_lane;

/* What all users of one engine share. */
typedef struct kln_shared {
    const kiln_backend *backend;
    void *_Atomic state;    /* the backend's engine; replaced by a refit */
    pthread_mutex_t states; /* guards the next two */
    size_t users;           /* contexts of `state` */
    kln_former *former;
    kiln_backend_info info; /* as probed, with the capabilities of this engine */
    kiln_description description;
    int32_t device;        /* GPU of the engine, or -1 */
    kiln_stream *stream;   /* the one stream for all its work, or NULL: each context has its own */
    kiln_stream *sharing;  /* of contexts that share device memory and have no stream of the
                              caller's, or NULL */
    kln_lane *lanes;       /* guarded by `order` */
    pthread_mutex_t order; /* held while work is enqueued on, captured from or run on `stream` */
    pthread_rwlock_t weights;  /* held for writing by a refit; for reading by saves, and by runs if
                                  a refit changes `state` itself */
    atomic_size_t under_way;   /* runs on the GPU that calls have left there */
    atomic_ulong refits;       /* refits done: graphs captured before the last one have old
                                  weights */
    char gpu[64];              /* name of the GPU, or "" */
    shared_variants *measured; /* the fastest variants of its captured runs */
} kln_shared;

/* Initializes a zeroed struct with its backend, state and info, except for `description`. Call
 * kln_shared_finish after an error too. DEVICE, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_shared_init(kln_shared *shared);
/* Does not destroy the backend's state. */
void kln_shared_finish(kln_shared *shared);

/* Locks the weights for writing: no more runs are enqueued, and enqueued ones have finished.
 * DEVICE. */
KILN_MUST_CHECK kiln_status kln_shared_lock_weights(kln_shared *shared);
/* Releases the lock: runs use the present weights, and capture again. */
void kln_shared_unlock_weights(kln_shared *shared);
/* Keeps the weights and the state from changing; a lock for reading, so several may hold it. */
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

/* Replaces the state by `state`, which has the same description, while the weights are locked;
 * later runs move to it. On OUT_OF_MEMORY the caller keeps it. */
KILN_MUST_CHECK kiln_status kln_shared_replace(kln_shared *shared, void *state);

/* One user of an engine. One thread at a time, except for kln_exec_cancel. */
typedef struct kln_exec kln_exec;

KILN_MUST_CHECK kiln_status kln_exec_create(kln_shared *shared, const kiln_context_options *options,
                                            kln_exec **exec);
/* Waits for the runs in flight. NULL is allowed. With `left_behind`, in a forked process, it only
 * frees memory. */
void kln_exec_destroy(kln_exec *exec, bool left_behind);

/* The backend's context. */
void *kln_exec_state(const kln_exec *exec);
/* Whether it has a thread of its own. */
bool kln_exec_has_thread(const kln_exec *exec);
/* The stream for its work, or NULL. */
kiln_stream *kln_exec_stream(const kln_exec *exec);

/* --- bindings: `index` as kiln_description lists them --- */

/* Whether a tensor of this shape can be bound. RANK, SHAPE. */
KILN_MUST_CHECK kiln_status kln_exec_check_shape(const kiln_binding *binding,
                                                 const kiln_shape *shape);
/* Whether `tensor` can be bound: DTYPE, RANK, SHAPE, INVALID_ARGUMENT, SIZE, ALIGNMENT,
 * UNSUPPORTED. */
KILN_MUST_CHECK kiln_status kln_exec_check(const kln_exec *exec, size_t index,
                                           const kiln_tensor *tensor);
/* Binds a checked tensor. OUT_OF_MEMORY, INVALID_ARGUMENT. */
KILN_MUST_CHECK kiln_status kln_exec_bind(kln_exec *exec, size_t index, const kiln_tensor *tensor);
void kln_exec_unbind(kln_exec *exec, size_t index);
/* Gives an input of this shape its own memory, which `fill` (or NULL) writes before each run. */
KILN_MUST_CHECK kiln_status kln_exec_reshape(kln_exec *exec, size_t index, const kiln_shape *shape,
                                             kiln_fill_function fill, void *user);
/* Shows where the bytes of a binding are: NOT_BOUND, STATE, DTYPE. */
KILN_MUST_CHECK kiln_status kln_exec_show(kln_exec *exec, size_t index, kiln_tensor *tensor);

/* --- runs --- */

/* Runs once, ordered into `stream` (NULL: its own), and waits or not. An input bound to a result of
 * the previous run stays bound to it until kln_exec_spend. */
KILN_MUST_CHECK kiln_status kln_exec_run(kln_exec *exec, kiln_stream *stream, bool waits);
/* Copies pieces (kln_cuda_copy_pieces) to device memory that this thread's next run reads, or from
 * memory that the last one wrote, in the order of its work and without waiting. Several threads may
 * do so at once, but not during a run. Call kln_exec_end_copies after the last copy. Pinned memory
 * must stay valid until kln_exec_wait_copies, or until a later run has ended successfully.
 * DEVICE. */
KILN_MUST_CHECK kiln_status kln_exec_copy(kln_exec *exec, const kln_cuda_piece *pieces,
                                          size_t count);
KILN_MUST_CHECK kiln_status kln_exec_end_copies(kln_exec *exec);
/* Waits for the copies only. */
KILN_MUST_CHECK kiln_status kln_exec_wait_copies(kln_exec *exec);
/* Marks results that were fed to the last run as used. */
void kln_exec_spend(kln_exec *exec);
/* Counts a requested run that failed before kln_exec_run. */
void kln_exec_count_failure(kln_exec *exec);
/* Waits for an enqueued run and copies its outputs to the host. For an abandoned run: STATE while
 * it is in flight, unless it is to be waited for too. */
KILN_MUST_CHECK kiln_status kln_exec_wait(kln_exec *exec, bool also_left);
/* The library's own call only, with the bindings of the last run. */
KILN_MUST_CHECK kiln_status kln_exec_run_raw(kln_exec *exec, uint64_t *nanoseconds);
/* Ends the run in progress in another thread. UNSUPPORTED. Any thread. */
KILN_MUST_CHECK kiln_status kln_exec_cancel(kln_exec *exec);
/* Measures the variants that the graph for the current bindings can have against each other, until
 * one is certainly the fastest or `nanoseconds` have passed; uses that one, and records it for the
 * engine. Does nothing without a graph, or after an earlier search. */
KILN_MUST_CHECK kiln_status kln_exec_search(kln_exec *exec, uint64_t nanoseconds);
/* Drops every graph, because they were captured with another profile. */
void kln_exec_forget(kln_exec *exec);
/* The same; with `allowed` false, nothing is captured from now on. */
void kln_exec_allow_graphs(kln_exec *exec, bool allowed);
void kln_exec_get_counters(const kln_exec *exec, kiln_context_counters *counters);

#endif
