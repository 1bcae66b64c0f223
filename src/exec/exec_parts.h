/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a run. Private to this module.
 *
 * The files, from the bottom up:
 *
 * - binding_check.c: what can be bound
 * - transfer.c: how bytes get to the device and back
 * - graph_cache.c: one entry for each set of bindings, and which entries keep a graph
 * - graph_variants.c: which variant of a graph is used
 * - graph_capture.c: captures it
 * - graph_search.c: measures which variant is fastest
 * - exec_overlap.c: memory that a run both reads and writes
 * - exec_bind.c: binding
 * - exec_stop.c: stopping a run early
 * - exec_gpu.c: the streams and events of a run on a GPU
 * - exec_wait.c: the end of a run
 * - exec_state.c: the backend's context, and its replacement after a refit
 * - exec_strings.c: the strings of a run
 * - exec_run.c: a run, on one screen
 * - exec_create.c: creates everything */
#ifndef EXEC_PARTS_H
#define EXEC_PARTS_H

#include "cuda/kln_cuda.h"
#include "kln_exec.h"
#include "memory/kln_memory.h"

/* The state of a context's binding. */
typedef enum slot_state {
    SLOT_EMPTY,  /* an input without data; an output that the backend provides memory for */
    SLOT_CALLER, /* the caller's memory */
    SLOT_OWNED   /* the context's own memory (inputs only): pinned if the engine is on a GPU */
} slot_state;

/* Where an input is read from instead, because the run would overwrite it (exec_overlap.c). */
typedef enum slot_detour {
    DETOUR_NONE,
    DETOUR_EACH_RUN, /* a copy that each run takes */
    DETOUR_FED,      /* a copy of a result, taken when it was bound, for one run */
    DETOUR_SPENT     /* that run has been made */
} slot_detour;

typedef struct exec_strings exec_strings;

typedef struct memory_range {
    uintptr_t begin;
    uintptr_t end;
    uint32_t index; /* of the binding */
} memory_range;

typedef struct exec_slot {
    slot_state state;
    bool pending; /* not passed to the backend yet */
    kiln_tensor tensor;
    void *owned;
    size_t owned_bytes;
    kiln_fill_function fill; /* writes the input before each run, or NULL */
    void *fill_user;
    slot_detour detour;
    kiln_tensor original; /* with a detour: the original of `tensor` */
    uint32_t fed_by;      /* the output, with DETOUR_FED and DETOUR_SPENT */
    void *copy;           /* memory of the copy, which stays for the next detour */
    size_t copy_bytes;
    kiln_location copy_location;
    exec_strings *strings; /* for an output of strings, their contents; otherwise NULL */
} exec_slot;

/* The properties of a binding that an entry depends on. Ordinary host memory may move, because it
 * is staged. */
typedef struct binding_key {
    slot_state state;
    kiln_location location;
    const void *address; /* NULL for ordinary host memory */
    kiln_shape shape;    /* rank -1 for an unbound output */
} binding_key;

/* How one binding of an entry is transferred. */
typedef struct transfer {
    size_t bytes;
    kiln_tensor tensor; /* as passed to the backend: always DEVICE */
    void *host;         /* pinned memory with the host's bytes; NULL: the caller's memory is the
                           device's */
    void *staging;      /* staging buffer: `host` if that is the entry's own */
    void *device;       /* device memory of the entry, if it has some */
    transfer_mode mode; /* between `host` and `device` */
} transfer;

/* How long runs of an entry take, so that a waiting thread can sleep for most of the time. */
typedef struct run_pace {
    uint64_t shortest; /* of the last runs, in nanoseconds; 0: none was timed */
    uint32_t untimed;  /* short runs since the last timed one */
} run_pace;

typedef enum entry_mode {
    ENTRY_NEW,   /* no graph yet: not used often enough, or no room because others are used more */
    ENTRY_PLAIN, /* no graph, now or later */
    ENTRY_GRAPH
} entry_mode;

typedef struct graph_entry {
    struct graph_entry *next; /* in the same bucket */
    uint64_t hash;
    entry_mode mode;
    bool has_transfers;
    graph_variant variant;  /* of the graph */
    bool stages;            /* the host copies to or from staging buffers */
    bool ahead;             /* the driver copies inputs before the graph */
    bool behind;            /* and outputs after it */
    bool searched;          /* its variant is the measured one */
    bool fenced;            /* the graph ends with a write to the context's fence */
    uint64_t last_used;     /* time of the last use, by the cache's clock */
    uint64_t uses;          /* number of runs, halved from time to time */
    uint64_t bytes;         /* staging buffers, device memory and graph, as counted in the cache */
    uint64_t staging_bytes; /* of these, buffers and device memory */
    bool counts_graph;      /* in the cache */
    run_pace pace;          /* of runs that are waited for */
    kiln_graph *graph;
    transfer *transfers; /* one for each slot */
    binding_key *keys;   /* likewise; both in the entry's own memory */
} graph_entry;

#define GRAPH_BUCKETS 256

typedef struct graph_cache {
    graph_entry *buckets[GRAPH_BUCKETS];
    size_t count;
    uint64_t clock;      /* number of runs so far */
    uint64_t halved;     /* clock at the last halving of `uses` */
    uint64_t most_bytes; /* limit for all entries together */
    uint64_t bytes;      /* held by all entries */
    uint64_t staging_bytes;
    uint64_t graph_bytes; /* estimated size of a graph of this engine, from the last one made */
    uint64_t graphs;
    uint64_t evictions;
} graph_cache;

/* Additional state of runs on a GPU. */
typedef struct exec_gpu {
    int32_t device;
    kiln_graph_policy policy;
    kiln_graph_policy asked; /* from the options; `policy` is OFF while layers are measured */
    unsigned long refits;    /* of the engine, when the entries were made */
    kiln_stream *work;       /* stream of the work */
    bool owns_work;          /* it belongs to this context */
    bool takes_turns;        /* it is the engine's, or orders memory that contexts share: no work
                                goes to another stream, and work is enqueued under the engine's
                                lock */
    kiln_stream *caller;     /* from the options, or NULL */
    kln_lane *lane;          /* with overlap_copies: the streams of the copies; otherwise NULL */
    kiln_event *before;      /* orders the work after another stream */
    kiln_event *computed;    /* with overlap_copies: copies of outputs wait for it */
    kiln_event *after;       /* the end of an enqueued run */
    kiln_event *copied;      /* after copies that were requested outside of runs */
    bool has_copies;         /* whether there are such copies */
    graph_cache cache;
    graph_entry *current; /* for the present bindings; NULL: to be looked up */
    graph_entry *bound;   /* whose memory is bound to the backend; NULL: other memory */
    graph_entry *shown;   /* whose memory has the last run's outputs; NULL: the backend's has */
    kiln_stream *target;  /* of the run in flight */
    bool leaves;          /* do not wait any longer for a run that was told to stop */
    bool left;            /* the run in flight was abandoned and has no results */
    bool is_under_way;    /* an enqueued run has not been waited for */
    kln_fence fence;      /* in graphs that nothing is enqueued after */
    bool refuses_fence;   /* the driver refuses the fence */
    bool has_event;       /* `after` was recorded after the run in flight */
    bool has_fence;       /* the run ends with a write to `fence` */
    bool is_waited_for;   /* launched by a call that waits for its end */
    uint64_t begun;       /* start time of the run in flight if it is timed; otherwise 0 */
    bool replayed;        /* the last run replayed a graph */
    uint64_t hits;
    uint64_t captures;
    uint64_t failures;
    char reason[512];
} exec_gpu;

typedef struct exec_watch exec_watch;

/* A run is UNDER_WAY from its beginning to its end. A thread that stops it sets STOPPING, tells the
 * backend, and sets STOPPED; the end of the run waits for that, so that the backend is never told
 * to stop a run that has ended. */
enum { EXEC_RUN_NONE, EXEC_RUN_UNDER_WAY, EXEC_RUN_STOPPING, EXEC_RUN_STOPPED };

struct kln_exec {
    kln_shared *shared;
    void *state;                  /* the backend's context */
    void *engine;                 /* the backend's engine that it belongs to */
    kiln_context_options options; /* its options */
    exec_slot *slots;             /* one for each binding, in the order of the description */
    size_t slot_count;
    exec_gpu *gpu;      /* NULL: on the CPU */
    bool holds_weights; /* while it runs, because a refit changes them in place */

    bool ready;        /* every input has data, and nothing is pending */
    bool has_results;  /* of a run with the present bindings */
    size_t fill_count; /* slots with `fill` */
    bool has_strings;  /* some binding is of strings */
    bool retired;      /* some slot has memory of its own to be freed at the next run */

    bool settled;          /* nothing was bound since the last search for overlaps */
    bool has_spent;        /* some slot may be DETOUR_SPENT */
    bool results_changed;  /* `results` is that of an earlier run */
    size_t copied_count;   /* slots that are DETOUR_EACH_RUN */
    size_t fed_count;      /* slots that are DETOUR_FED */
    memory_range *ranges;  /* room for one range per slot */
    memory_range *results; /* of the last run, in the backend's or an entry's memory; sorted */
    size_t result_count;

    atomic_int run_state;    /* whether a run is in progress or being stopped */
    kiln_status stop_reason; /* of a stopped run */
    bool may_stop;           /* the backend can be told to stop */
    uint64_t run_milliseconds;
    exec_watch *watch; /* NULL: runs may take any time */

    uint64_t runs;
    uint64_t failed_runs;
    uint64_t binds;
    uint64_t bytes_owned;
};

/* --- bindings (binding_check.c) --- */

static inline const kiln_binding *exec_binding(const kln_exec *exec, size_t index)
{
    return &exec->shared->description.bindings[index];
}

/* One past the last slot of an output; optional inputs follow. */
static inline size_t exec_outputs_end(const kln_exec *exec)
{
    return exec->shared->description.input_count + exec->shared->description.output_count;
}

/* The first slot from `index` on of an input (optional inputs follow the others) or of an output;
 * slot_count if there is none. */
static inline size_t exec_slot_from(const kln_exec *exec, bool inputs, size_t index)
{
    const size_t input_count = exec->shared->description.input_count;
    const size_t end = exec_outputs_end(exec);
    if (inputs) {
        return index < input_count || index >= end ? index : end;
    }
    return index >= end ? exec->slot_count : index < input_count ? input_count : index;
}

/* All slots of one direction, in order. */
#define EXEC_EACH_SLOT(i, exec, inputs)             \
    size_t i = exec_slot_from((exec), (inputs), 0); \
    i < (exec)->slot_count;                         \
    i = exec_slot_from((exec), (inputs), i + 1)

/* Whether the slot is that of an optional input with its own value. */
static inline bool exec_has_own_value(const kln_exec *exec, size_t index)
{
    return index >= exec_outputs_end(exec) && exec->slots[index].state == SLOT_EMPTY;
}

/* What the caller bound. */
static inline const kiln_tensor *exec_given(const exec_slot *slot)
{
    return slot->detour == DETOUR_NONE ? &slot->tensor : &slot->original;
}

/* The slot's tensor has changed: the backend does not know it, and the results are not from it. */
static inline void exec_mark_pending(kln_exec *exec, exec_slot *slot)
{
    slot->pending = true;
    exec->ready = false;
    exec->settled = false;
    exec->has_results = false;
    if (exec->gpu != NULL) {
        exec->gpu->current = NULL;
    }
}

/* DTYPE for a type that memory cannot be bound to. */
KILN_MUST_CHECK kiln_status exec_check_dtype(const kiln_binding *binding);

/* --- strings (exec_strings.c) --- */

KILN_MUST_CHECK kiln_status exec_strings_create(kln_exec *exec);
void exec_strings_destroy(kln_exec *exec);
/* Before a run: whether every string of an input has an address. */
KILN_MUST_CHECK kiln_status exec_strings_check(const kln_exec *exec);
/* After a successful run: copies the strings of outputs, so that they stay valid until the end of
 * the next run. OUT_OF_MEMORY, NULL_ARGUMENT. */
KILN_MUST_CHECK kiln_status exec_strings_keep(kln_exec *exec);
/* The kept output. */
const kiln_tensor *exec_strings_shown(const kln_exec *exec, size_t index);

/* --- stopping a run early (exec_stop.c) --- */

/* After the backend's state and the GPU's part are created. */
KILN_MUST_CHECK kiln_status exec_stop_create(kln_exec *exec, const kiln_context_options *options);
/* Before the backend's state is destroyed. */
void exec_stop_destroy(kln_exec *exec);
/* Around everything that the backend computes. */
void exec_run_begins(kln_exec *exec);
kiln_status exec_run_ends(kln_exec *exec, kiln_status status);
/* Whether the run in progress was told to stop. */
static inline bool exec_is_stopped(kln_exec *exec)
{
    return atomic_load_explicit(&exec->run_state, memory_order_relaxed) >= EXEC_RUN_STOPPING;
}

/* --- replacing an engine (exec_state.c) --- */

void exec_states_init(kln_shared *shared);
void exec_states_finish(kln_shared *shared);
/* Creates the backend's context for the present engine. */
KILN_MUST_CHECK kiln_status exec_state_create(kln_exec *exec);
void exec_state_destroy(kln_exec *exec);
/* If the context's engine was replaced, moves to the new one. */
KILN_MUST_CHECK kiln_status exec_state_go_over(kln_exec *exec);
static inline kiln_status exec_state_follow(kln_exec *exec)
{
    return exec->engine == exec->shared->state ? KILN_OK : exec_state_go_over(exec);
}

/* --- memory that a run both reads and writes (exec_overlap.c) --- */

/* Asks where the last results are, unless that has been done since the run. */
void exec_overlap_know_results(kln_exec *exec);
/* If `tensor` is in the last results: an input gets a copy, and `*fed` is true; an output is
 * refused. */
KILN_MUST_CHECK kiln_status exec_overlap_bind(kln_exec *exec, size_t index,
                                              const kiln_tensor *tensor, bool *fed);
/* The slot is bound to something else. The memory of its copy stays until it is released. */
void exec_overlap_forget(kln_exec *exec, exec_slot *slot);
void exec_overlap_release(kln_exec *exec, exec_slot *slot);
/* Before a run, if something was bound since the last one: finds the inputs that it would
 * overwrite. INVALID_ARGUMENT if it would write two outputs to the same place. */
KILN_MUST_CHECK kiln_status exec_overlap_settle(kln_exec *exec);
/* Copies those inputs, ordered into `stream` (NULL: the context's). */
KILN_MUST_CHECK kiln_status exec_overlap_copy(kln_exec *exec, kiln_stream *stream);
/* STATE if an input is bound to a result that is gone. */
KILN_MUST_CHECK kiln_status exec_overlap_check(kln_exec *exec);

/* --- the context's own memory (exec_bind.c) --- */

void exec_release_owned(kln_exec *exec, exec_slot *slot);
/* Frees the memory of inputs that were bound to something else since. */
void exec_drop_retired(kln_exec *exec);

/* --- on a GPU (exec_gpu.c) --- */

/* Creates exec->gpu; does nothing if the engine is on the CPU. */
KILN_MUST_CHECK kiln_status exec_gpu_create(kln_exec *exec, const kiln_context_options *options);
/* Waits for the runs in flight. NULL in `gpu` is allowed. The returned stream, if not NULL, must be
 * destroyed after the backend's state, which works on it. */
kiln_stream *exec_gpu_destroy(kln_exec *exec);
/* One thread at a time enqueues, captures and times work on a stream that the engine shares. */
void exec_gpu_lock(kln_exec *exec);
void exec_gpu_unlock(kln_exec *exec);

/* --- the end of a run on a GPU (exec_wait.c) --- */

/* `later` continues when `earlier` has reached its present position. */
KILN_MUST_CHECK kiln_status exec_order(kiln_event *event, kiln_stream *earlier, kiln_stream *later);
/* Counts runs that a call leaves on the GPU, for code that changes what they read. */
void exec_begin_under_way(kln_exec *exec, bool waits);
void exec_end_under_way(kln_exec *exec);
/* Whether to time the next run: every long one, and some of the others, which reading the clock
 * would slow down. */
bool run_pace_times(run_pace *pace);
/* For how many nanoseconds nobody needs to check for the end of a run that begins now. */
uint64_t run_pace_sleep(const run_pace *pace);
/* Records the time of a run; `overslept`: it had ended when the sleep did, at an unknown time. */
void run_pace_note(run_pace *pace, uint64_t took, bool overslept);
/* Waits for the launched work, and copies its outputs to the host. The device is the thread's. */
KILN_MUST_CHECK kiln_status exec_finish(kln_exec *exec);
/* The same, unless the run is told to stop meanwhile. */
KILN_MUST_CHECK kiln_status exec_finish_or_leave(kln_exec *exec);

/* --- transfers (transfer.c) --- */

/* Makes staging buffers and device memory for an entry, from the bindings and, for unbound outputs,
 * from the shapes of the run just made. */
KILN_MUST_CHECK kiln_status transfers_make(kln_exec *exec, graph_entry *entry);
void transfers_drop(kln_exec *exec, graph_entry *entry);
/* The entry's memory with output `index` of the last run; false if the backend has it. */
bool transfers_output(const kln_exec *exec, size_t index, kiln_tensor *tensor);
/* The inputs, or the outputs, to be transferred in one mode or another. */
transfer_load transfers_load(const kln_exec *exec, const graph_entry *entry, bool inputs);
void transfers_set(const kln_exec *exec, graph_entry *entry, graph_variant variant);
/* Makes device memory for every variant, and frees the memory of tensors that are not copied. */
KILN_MUST_CHECK kiln_status transfers_complete(const kln_exec *exec, graph_entry *entry);
void transfers_trim(const kln_exec *exec, graph_entry *entry);
/* Binds the memory of these transfers to the backend, in place of the caller's. */
KILN_MUST_CHECK kiln_status transfers_bind(kln_exec *exec, graph_entry *entry);
/* Copies bound host memory to the staging buffers of inputs, and back from those of outputs, except
 * for the copies that a run which is waited for leaves to the driver. */
void transfers_copy_in(const kln_exec *exec, const graph_entry *entry, bool waits);
void transfers_copy_out(const kln_exec *exec, const graph_entry *entry, bool waits);
/* Enqueues the copies of inputs that are not part of the captured work. */
KILN_MUST_CHECK kiln_status transfers_enqueue_ahead(const kln_exec *exec, const graph_entry *entry,
                                                    kiln_stream *stream, bool waits);
/* Likewise for outputs, after it. */
KILN_MUST_CHECK kiln_status transfers_enqueue_behind(const kln_exec *exec, const graph_entry *entry,
                                                     kiln_stream *stream, bool waits);
/* Enqueues the other copies to the device, the backend's work, and copies back, all on `stream`. */
KILN_MUST_CHECK kiln_status transfers_enqueue_all(kln_exec *exec, graph_entry *entry,
                                                  kiln_stream *stream);

/* --- entries (graph_cache.c) --- */

void graph_cache_init(graph_cache *cache, uint64_t most_bytes);
void graph_cache_finish(kln_exec *exec);
/* The entry for the present bindings, a new one if there is none. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status graph_cache_find(kln_exec *exec, graph_entry **entry);
/* Counts a run of the entry. */
void graph_cache_use(graph_cache *cache, graph_entry *entry);
/* After a plain run: makes room for the staging buffers and the graph of `entry`, by evicting
 * entries that are used far less. False, with a reason, if others are used as often, or if it alone
 * exceeds the limit. */
KILN_MUST_CHECK kiln_status graph_cache_admit(kln_exec *exec, graph_entry *entry, bool *admitted);
/* Counts what the entry holds now. */
void graph_cache_count(kln_exec *exec, graph_entry *entry);
/* A hash of the input shapes and of the kind of memory of each binding, the same in every
 * process. */
uint64_t graph_cache_shapes(const kln_exec *exec);
/* Frees what the entry holds; the entry itself stays. */
void graph_cache_drop(kln_exec *exec, graph_entry *entry);
void graph_cache_drop_all(kln_exec *exec);
/* Frees what entries of this address hold, because it will not be used again. */
void graph_cache_drop_address(kln_exec *exec, const void *address);

/* --- choosing a variant (graph_variants.c) --- */

/* With overlapping copies, large ones outside and small ones inside. Otherwise the variant that
 * graph_search.c measured for such bindings, or else one by rule. */
graph_variant graph_variant_choose(kln_exec *exec, const graph_entry *entry);

/* --- capture (graph_capture.c) --- */

/* The state of a trial capture. */
typedef struct capture_trial {
    kln_exec *exec;
    graph_entry *entry;
    void **expected; /* one for each output: its value from a run without capture */
} capture_trial;

/* Captures a graph of the entry in this variant, which must give the same outputs as a run without
 * capture. The trial's `expected` is filled in if it is empty. */
KILN_MUST_CHECK kiln_status capture_variant(capture_trial *trial, graph_variant variant,
                                            kiln_graph **graph);
void capture_finish(capture_trial *trial);
/* Runs once with a graph, or without one if it is NULL, and waits. */
KILN_MUST_CHECK kiln_status capture_run(const capture_trial *trial, kiln_graph *graph);

/* After a plain run: captures the variant of graph_variant_choose, or else the one with all copies
 * inside. The entry becomes GRAPH, with the results of this run in its memory, or PLAIN, with the
 * reason in the context. Fails if a graph is required. Afterwards the backend is not bound to any
 * memory that may be used. */
KILN_MUST_CHECK kiln_status graph_capture(kln_exec *exec, graph_entry *entry);

#endif
