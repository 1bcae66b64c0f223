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

/* What a binding of a context is bound to. */
typedef enum slot_state {
    SLOT_EMPTY,  /* an input without data; an output that the backend finds memory for */
    SLOT_CALLER, /* the caller's memory */
    SLOT_OWNED   /* the context's own memory (inputs only): pinned where the engine is on a GPU */
} slot_state;

/* Where an input is read from instead, because the run would overwrite it (exec_overlap.c). */
typedef enum slot_detour {
    DETOUR_NONE,
    DETOUR_EACH_RUN, /* from a copy that each run takes */
    DETOUR_FED,      /* from a copy of a result that was taken when it was bound, for one run */
    DETOUR_SPENT     /* that run was made */
} slot_detour;

typedef struct exec_strings exec_strings;

typedef struct memory_range {
    uintptr_t begin;
    uintptr_t end;
    uint32_t index; /* of the binding */
} memory_range;

typedef struct exec_slot {
    slot_state state;
    bool pending; /* the backend does not know it yet */
    kiln_tensor tensor;
    void *owned;
    size_t owned_bytes;
    kiln_fill_function fill; /* writes the input before each run, or NULL */
    void *fill_user;
    slot_detour detour;
    kiln_tensor original; /* with a detour: what `tensor` is a copy of */
    uint32_t fed_by;      /* the output, with DETOUR_FED and DETOUR_SPENT */
    void *copy;           /* its memory, which stays for the next detour */
    size_t copy_bytes;
    kiln_location copy_location;
    exec_strings *strings; /* of an output of strings, what it is; else NULL */
} exec_slot;

/* What of a binding an entry depends on. Ordinary host memory may move: it is staged. */
typedef struct binding_key {
    slot_state state;
    kiln_location location;
    const void *address; /* NULL for ordinary host memory */
    kiln_shape shape;    /* rank -1 for an output that nobody bound */
} binding_key;

/* How one binding of an entry travels. */
typedef struct transfer {
    size_t bytes;
    kiln_tensor tensor; /* as the backend is told it: always DEVICE */
    void *host;         /* pinned memory that the host's bytes are in; NULL: the caller's is the
                           device's */
    void *staging;      /* the staging buffer: `host` where it is the entry's own */
    void *device;       /* device memory of the entry, where it has some */
    transfer_mode mode; /* between `host` and `device` */
} transfer;

/* How long runs of an entry take, so that who waits for one can sleep for most of it. */
typedef struct run_pace {
    uint64_t shortest; /* of the last runs, in nanoseconds; 0: none was timed */
    uint32_t untimed;  /* short runs since the last one that was timed */
} run_pace;

typedef enum entry_mode {
    ENTRY_NEW,   /* no graph yet: not used often enough, or no room beside those used more */
    ENTRY_PLAIN, /* no graph, now and later */
    ENTRY_GRAPH
} entry_mode;

typedef struct graph_entry {
    struct graph_entry *next; /* of the same bucket */
    uint64_t hash;
    entry_mode mode;
    bool has_transfers;
    graph_variant variant;  /* of the graph */
    bool stages;            /* the host copies to or from staging buffers */
    bool ahead;             /* the driver copies inputs before it */
    bool behind;            /* and outputs behind it */
    bool searched;          /* its variant is the measured one */
    bool fenced;            /* the graph ends with a write to the context's fence */
    uint64_t last_used;     /* by the cache's clock */
    uint64_t uses;          /* runs, halved from time to time */
    uint64_t bytes;         /* staging buffers, device memory and graph, as counted in the cache */
    uint64_t staging_bytes; /* of these, those of buffers and device memory */
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
    uint64_t clock;      /* runs so far */
    uint64_t halved;     /* the clock when `uses` were halved last */
    uint64_t most_bytes; /* that entries may hold together */
    uint64_t bytes;      /* that they hold */
    uint64_t staging_bytes;
    uint64_t graph_bytes; /* estimate of one graph of this engine, from the last one made */
    uint64_t graphs;
    uint64_t evictions;
} graph_cache;

/* What a run on a GPU needs beside the slots. */
typedef struct exec_gpu {
    int32_t device;
    kiln_graph_policy policy;
    kiln_graph_policy asked; /* for, by the options; `policy` is OFF while layers are measured */
    unsigned long refits;    /* of the engine, when the entries were made */
    kiln_stream *work;       /* where the work goes */
    bool owns_work;          /* it is this context's */
    bool takes_turns;        /* it is the engine's, or orders memory that contexts share: nothing
                                goes to another one, and work is enqueued under the engine's lock */
    kiln_stream *caller;     /* of the options, or NULL */
    kln_lane *lane;          /* with overlap_copies: where the copies go; otherwise NULL */
    kiln_event *before;      /* orders the work behind another stream */
    kiln_event *computed;    /* with overlap_copies: the copies of outputs go behind it */
    kiln_event *after;       /* the end of an enqueued run */
    kiln_event *copied;      /* behind copies that were asked for beside runs */
    bool has_copies;         /* and there are some */
    graph_cache cache;
    graph_entry *current; /* of what is bound now; NULL: to be looked for */
    graph_entry *bound;   /* to whose memory the backend is bound; NULL: to something else */
    graph_entry *shown;   /* whose memory has the last run's outputs; NULL: the backend's has */
    kiln_stream *target;  /* of the run under way */
    bool leaves;          /* a run that is told to stop is not waited for any more */
    bool left;            /* the run under way was told to, and has no results */
    bool is_under_way;    /* an enqueued run was not waited for */
    kln_fence fence;      /* in graphs that nothing is enqueued behind */
    bool refuses_fence;   /* the driver does */
    bool has_event;       /* `after` stands behind the run under way */
    bool has_fence;       /* it ends with a write to `fence` */
    bool is_waited_for;   /* it was launched by a call that waits for its end */
    uint64_t begun;       /* when the run under way was, if it is timed; else 0 */
    bool replayed;        /* the last run was a graph's */
    uint64_t hits;
    uint64_t captures;
    uint64_t failures;
    char reason[512];
} exec_gpu;

typedef struct exec_watch exec_watch;

/* A run is UNDER_WAY from its begin to its end. Who stops it makes that STOPPING, tells the
 * backend, and makes it STOPPED; the end of a run waits for that, so that the backend is never told
 * of a run that has ended. */
enum { EXEC_RUN_NONE, EXEC_RUN_UNDER_WAY, EXEC_RUN_STOPPING, EXEC_RUN_STOPPED };

struct kln_exec {
    kln_shared *shared;
    void *state;                  /* the backend's context */
    void *engine;                 /* the backend's engine that it is of */
    kiln_context_options options; /* what it was made with */
    exec_slot *slots;             /* one for each binding, in the order of the description */
    size_t slot_count;
    exec_gpu *gpu;      /* NULL: on the CPU */
    bool holds_weights; /* while it runs: a refit changes them where they are */

    bool ready;        /* every input has data and nothing is pending */
    bool has_results;  /* of a run with what is bound now */
    size_t fill_count; /* slots with `fill` */
    bool has_strings;  /* some binding is of them */
    bool retired;      /* some slot has memory of its own that is to go with the next run */

    bool settled;          /* nothing was bound since overlaps were looked for */
    bool has_spent;        /* some slot may be DETOUR_SPENT */
    bool results_changed;  /* `results` is of an earlier run */
    size_t copied_count;   /* slots that are DETOUR_EACH_RUN */
    size_t fed_count;      /* slots that are DETOUR_FED */
    memory_range *ranges;  /* room for one of each slot */
    memory_range *results; /* of the last run, in the backend's or an entry's memory; sorted */
    size_t result_count;

    atomic_int run_state;    /* whether a run is under way or being stopped */
    kiln_status stop_reason; /* of a run that was stopped */
    bool may_stop;           /* the backend can be told to */
    uint64_t run_milliseconds;
    exec_watch *watch; /* NULL: runs may take any time */

    uint64_t runs;
    uint64_t failed_runs;
    uint64_t binds;
    uint64_t bytes_owned;
};

/* --- what is bound (binding_check.c) --- */

static inline const kiln_binding *exec_binding(const kln_exec *exec, size_t index)
{
    return &exec->shared->description.bindings[index];
}

/* One past the last slot of an output; optional inputs follow. */
static inline size_t exec_outputs_end(const kln_exec *exec)
{
    return exec->shared->description.input_count + exec->shared->description.output_count;
}

/* The first slot from `index` on of an input, those that are optional behind the others, or of an
 * output; slot_count where there is none. */
static inline size_t exec_slot_from(const kln_exec *exec, bool inputs, size_t index)
{
    const size_t input_count = exec->shared->description.input_count;
    const size_t end = exec_outputs_end(exec);
    if (inputs) {
        return index < input_count || index >= end ? index : end;
    }
    return index >= end ? exec->slot_count : index < input_count ? input_count : index;
}

/* All slots of one direction, in their order. */
#define EXEC_EACH_SLOT(i, exec, inputs)             \
    size_t i = exec_slot_from((exec), (inputs), 0); \
    i < (exec)->slot_count;                         \
    i = exec_slot_from((exec), (inputs), i + 1)

/* Whether the slot is that of an optional input which keeps its own value. */
static inline bool exec_has_own_value(const kln_exec *exec, size_t index)
{
    return index >= exec_outputs_end(exec) && exec->slots[index].state == SLOT_EMPTY;
}

/* What the caller bound. */
static inline const kiln_tensor *exec_given(const exec_slot *slot)
{
    return slot->detour == DETOUR_NONE ? &slot->tensor : &slot->original;
}

/* The slot's tensor is another one: the backend does not know it, and what was run is not of it. */
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

/* DTYPE for a type that no memory can be bound to. */
KILN_MUST_CHECK kiln_status exec_check_dtype(const kiln_binding *binding);

/* --- strings (exec_strings.c) --- */

KILN_MUST_CHECK kiln_status exec_strings_create(kln_exec *exec);
void exec_strings_destroy(kln_exec *exec);
/* Before a run: whether every string of an input has an address. */
KILN_MUST_CHECK kiln_status exec_strings_check(const kln_exec *exec);
/* After a run that went well: copies what the strings of outputs are, so that they stay as they are
 * to the end of the next run. OUT_OF_MEMORY, NULL_ARGUMENT. */
KILN_MUST_CHECK kiln_status exec_strings_keep(kln_exec *exec);
/* The output that was kept. */
const kiln_tensor *exec_strings_shown(const kln_exec *exec, size_t index);

/* --- a run that ends before its time (exec_stop.c) --- */

/* After the backend's state and the GPU's part are there. */
KILN_MUST_CHECK kiln_status exec_stop_create(kln_exec *exec, const kiln_context_options *options);
/* Before the backend's state goes. */
void exec_stop_destroy(kln_exec *exec);
/* Around everything that the backend computes. */
void exec_run_begins(kln_exec *exec);
kiln_status exec_run_ends(kln_exec *exec, kiln_status status);
/* Whether the run under way was told to stop. */
static inline bool exec_is_stopped(kln_exec *exec)
{
    return atomic_load_explicit(&exec->run_state, memory_order_relaxed) >= EXEC_RUN_STOPPING;
}

/* --- an engine in the place of another (exec_state.c) --- */

void exec_states_init(kln_shared *shared);
void exec_states_finish(kln_shared *shared);
/* Makes the backend's context of the engine that there is now. */
KILN_MUST_CHECK kiln_status exec_state_create(kln_exec *exec);
void exec_state_destroy(kln_exec *exec);
/* Where another engine took the place of the context's, goes over to it. */
KILN_MUST_CHECK kiln_status exec_state_go_over(kln_exec *exec);
static inline kiln_status exec_state_follow(kln_exec *exec)
{
    return exec->engine == exec->shared->state ? KILN_OK : exec_state_go_over(exec);
}

/* --- memory that is read and written (exec_overlap.c) --- */

/* Asks where the last results lie, if nobody did since the run. */
void exec_overlap_know_results(kln_exec *exec);
/* Where `tensor` lies in the last results, an input gets a copy, and `*fed` is true; an output is
 * refused. */
KILN_MUST_CHECK kiln_status exec_overlap_bind(kln_exec *exec, size_t index,
                                              const kiln_tensor *tensor, bool *fed);
/* The slot is bound to something else. Its copy's memory stays, until it is released. */
void exec_overlap_forget(kln_exec *exec, exec_slot *slot);
void exec_overlap_release(kln_exec *exec, exec_slot *slot);
/* Before a run, where something was bound since the last one: finds the inputs that it would
 * overwrite. INVALID_ARGUMENT where it would write two outputs to one place. */
KILN_MUST_CHECK kiln_status exec_overlap_settle(kln_exec *exec);
/* Takes the copies of those inputs, ordered into `stream` (NULL: the context's). */
KILN_MUST_CHECK kiln_status exec_overlap_copy(kln_exec *exec, kiln_stream *stream);
/* STATE where an input is bound to a result that is gone. */
KILN_MUST_CHECK kiln_status exec_overlap_check(kln_exec *exec);

/* --- memory of the context's own (exec_bind.c) --- */

void exec_release_owned(kln_exec *exec, exec_slot *slot);
/* Frees what inputs were in before something else was bound. */
void exec_drop_retired(kln_exec *exec);

/* --- on a GPU (exec_gpu.c) --- */

/* Makes exec->gpu; does nothing where the engine is on the CPU. */
KILN_MUST_CHECK kiln_status exec_gpu_create(kln_exec *exec, const kiln_context_options *options);
/* Waits for what is under way. NULL in `gpu` is allowed. The stream that it returns, or NULL, is to
 * be destroyed once the backend's state, which works on it, is gone. */
kiln_stream *exec_gpu_destroy(kln_exec *exec);
/* Work on a stream that the engine shares is enqueued, captured and timed by one thread. */
void exec_gpu_lock(kln_exec *exec);
void exec_gpu_unlock(kln_exec *exec);

/* --- the end of a run on a GPU (exec_wait.c) --- */

/* `later` goes on once `earlier` has come to where it is now. */
KILN_MUST_CHECK kiln_status exec_order(kiln_event *event, kiln_stream *earlier, kiln_stream *later);
/* Runs that a call leaves on the GPU are counted, for whoever changes what they read. */
void exec_begin_under_way(kln_exec *exec, bool waits);
void exec_end_under_way(kln_exec *exec);
/* Whether the next run is to be timed: each of those that are long, and some of the others, which a
 * look at the clock would make slower. */
bool run_pace_times(run_pace *pace);
/* For how many nanoseconds nobody need look for the end of a run that begins now. */
uint64_t run_pace_sleep(const run_pace *pace);
/* One took so long; `overslept`: it was over when the sleep ended, nobody knows how long. */
void run_pace_note(run_pace *pace, uint64_t took, bool overslept);
/* Waits for what was launched, and brings its outputs to the host. The device is the thread's. */
KILN_MUST_CHECK kiln_status exec_finish(kln_exec *exec);
/* The same, unless the run is told to stop meanwhile. */
KILN_MUST_CHECK kiln_status exec_finish_or_leave(kln_exec *exec);

/* --- to the device and back (transfer.c) --- */

/* Staging buffers and device memory for an entry, from what is bound and, for outputs that are not,
 * from the shapes of the run just made. */
KILN_MUST_CHECK kiln_status transfers_make(kln_exec *exec, graph_entry *entry);
void transfers_drop(kln_exec *exec, graph_entry *entry);
/* Memory of an entry that has output `index` of the last run: false where the backend has it. */
bool transfers_output(const kln_exec *exec, size_t index, kiln_tensor *tensor);
/* What of the inputs, or of the outputs, travels in one mode or another. */
transfer_load transfers_load(const kln_exec *exec, const graph_entry *entry, bool inputs);
void transfers_set(const kln_exec *exec, graph_entry *entry, graph_variant variant);
/* Device memory for every variant, and back: that of what is not copied. */
KILN_MUST_CHECK kiln_status transfers_complete(const kln_exec *exec, graph_entry *entry);
void transfers_trim(const kln_exec *exec, graph_entry *entry);
/* Tells the backend the memory of these transfers instead of what is bound. */
KILN_MUST_CHECK kiln_status transfers_bind(kln_exec *exec, graph_entry *entry);
/* The bytes of bound host memory to the staging buffers of inputs, and back from those of outputs,
 * but for those that a run which is waited for leaves to the driver. */
void transfers_copy_in(const kln_exec *exec, const graph_entry *entry, bool waits);
void transfers_copy_out(const kln_exec *exec, const graph_entry *entry, bool waits);
/* Those copies of inputs that are not part of what is captured. */
KILN_MUST_CHECK kiln_status transfers_enqueue_ahead(const kln_exec *exec, const graph_entry *entry,
                                                    kiln_stream *stream, bool waits);
/* Likewise of outputs, behind it. */
KILN_MUST_CHECK kiln_status transfers_enqueue_behind(const kln_exec *exec, const graph_entry *entry,
                                                     kiln_stream *stream, bool waits);
/* The other copies to the device, the backend's work, copies back, all on `stream`. */
KILN_MUST_CHECK kiln_status transfers_enqueue_all(kln_exec *exec, graph_entry *entry,
                                                  kiln_stream *stream);

/* --- entries (graph_cache.c) --- */

void graph_cache_init(graph_cache *cache, uint64_t most_bytes);
void graph_cache_finish(kln_exec *exec);
/* The entry of what is bound now, a new one where there is none. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status graph_cache_find(kln_exec *exec, graph_entry **entry);
/* Counts a run of it. */
void graph_cache_use(graph_cache *cache, graph_entry *entry);
/* After a plain run: makes room for the staging buffers and the graph of `entry`, at the cost of
 * entries that are used far less. False, with a reason, where others are used as often, or the room
 * is too small for it alone. */
KILN_MUST_CHECK kiln_status graph_cache_admit(kln_exec *exec, graph_entry *entry, bool *admitted);
/* Counts what the entry holds now. */
void graph_cache_count(kln_exec *exec, graph_entry *entry);
/* A hash of the shapes of the inputs and of the kind of memory that each binding is in, the same in
 * every process. */
uint64_t graph_cache_shapes(const kln_exec *exec);
/* What the entry holds goes; the entry itself stays. */
void graph_cache_drop(kln_exec *exec, graph_entry *entry);
void graph_cache_drop_all(kln_exec *exec);
/* What entries of this address hold will not be used again. */
void graph_cache_drop_address(kln_exec *exec, const void *address);

/* --- which variant is used (graph_variants.c) --- */

/* With copies that overlap, large ones outside and small ones inside; else the one that
 * graph_search.c measured for such bindings; else one by rule. */
graph_variant graph_variant_choose(kln_exec *exec, const graph_entry *entry);

/* --- capture (graph_capture.c) --- */

/* What is being tried. */
typedef struct capture_trial {
    kln_exec *exec;
    graph_entry *entry;
    void **expected; /* one for each output: what a run gave that was not captured */
} capture_trial;

/* A graph of the entry in this variant, which gives the same outputs as a run that is not captured.
 * The trial's `expected` is filled in where it is empty. */
KILN_MUST_CHECK kiln_status capture_variant(capture_trial *trial, graph_variant variant,
                                            kiln_graph **graph);
void capture_finish(capture_trial *trial);
/* One run by a graph, or without one where it is NULL, waited for. */
KILN_MUST_CHECK kiln_status capture_run(const capture_trial *trial, kiln_graph *graph);

/* After a plain run: captures the variant of graph_variant_choose, or else the one with all copies
 * inside, and makes the entry GRAPH, with the results of this run in its memory; or PLAIN, with
 * the reason in the context. Fails where a graph is required. Afterwards the backend is bound to
 * nothing that may be used. */
KILN_MUST_CHECK kiln_status graph_capture(kln_exec *exec, graph_entry *entry);

#endif
