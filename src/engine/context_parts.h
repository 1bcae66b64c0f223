/*
 * context_parts.h - what a context is made of, inside this module.
 *
 * context.c has a context's life and names; context_bind.c what is bound; context_overlap.c memory
 * that a run reads and writes; context_run.c the calls that run; context_gpu.c a run on a GPU;
 * transfer.c how bytes get to the device and back; graph_cache.c one entry for each set of
 * bindings, and which of them keep a graph; graph_capture.c makes a graph; graph_search.c finds the
 * fastest variant of it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_CONTEXT_PARTS_H
#define KLN_CONTEXT_PARTS_H

#include "cuda/kln_cuda.h"
#include "graph_variants.h"
#include "kln_engine.h"
#include "memory/kln_memory.h"

/* What a binding of a context is bound to. */
typedef enum slot_state {
    SLOT_EMPTY,  /* an input without data; an output that the backend finds memory for */
    SLOT_CALLER, /* the caller's memory */
    SLOT_OWNED   /* the context's own memory (inputs only): pinned where the engine is on a GPU */
} slot_state;

/* Where an input is read from instead, because the run would overwrite it (context_overlap.c). */
typedef enum slot_detour {
    DETOUR_NONE,
    DETOUR_EACH_RUN, /* from a copy that each run takes */
    DETOUR_FED,      /* from a copy of a result that was taken when it was bound, for one run */
    DETOUR_SPENT     /* that run was made */
} slot_detour;

typedef struct memory_range {
    uintptr_t begin;
    uintptr_t end;
    uint32_t index; /* of the binding */
} memory_range;

typedef struct context_slot {
    slot_state state;
    bool pending; /* the backend does not know it yet */
    kiln_tensor tensor;
    void *owned;
    size_t owned_bytes;
    kiln_fill_function fill; /* writes the input before each run, or NULL */
    void *fill_user;
    uint64_t named; /* the last call of kiln_context_run_tensors that named it */
    slot_detour detour;
    kiln_tensor original; /* with a detour: what `tensor` is a copy of */
    uint32_t fed_by;      /* the output, with DETOUR_FED and DETOUR_SPENT */
    void *copy;           /* its memory, which stays for the next detour */
    size_t copy_bytes;
    kiln_location copy_location;
} context_slot;

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
    bool works_outside;     /* the host or the driver copies beside the graph */
    bool searched;          /* its variant is the measured one */
    uint64_t last_used;     /* by the cache's clock */
    uint64_t uses;          /* runs, halved from time to time */
    uint64_t bytes;         /* staging buffers, device memory and graph, as counted in the cache */
    uint64_t staging_bytes; /* of these, those of buffers and device memory */
    bool counts_graph;      /* in the cache */
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

/* What a context over an engine on a GPU has beside its slots. */
typedef struct context_gpu {
    int32_t device;
    kiln_graph_policy policy;
    kiln_graph_policy asked; /* for, by the options; `policy` is OFF while layers are measured */
    unsigned long refits;    /* of the engine, when the entries were made */
    kiln_stream *work;       /* where the work goes */
    bool owns_work;          /* it is this context's */
    bool shared;             /* it is the engine's, or orders memory that contexts share: nothing
                                goes to another one, and work is enqueued under the engine's lock */
    kiln_stream *caller;     /* of the options, or NULL */
    kiln_stream *recording;  /* where graphs are captured if `work` is the caller's, on which other
                                threads may be at work; NULL: `work` */
    kiln_stream *copies;     /* with overlap_copies: where the copies go; otherwise NULL */
    kiln_event *before;      /* orders the work behind another stream */
    kiln_event *computed;    /* with overlap_copies: the copies of outputs go behind it */
    kiln_event *after;       /* the end of an enqueued run */
    graph_cache cache;
    graph_entry *current; /* of what is bound now; NULL: to be looked for */
    graph_entry *bound;   /* to whose memory the backend is bound; NULL: to something else */
    graph_entry *shown;   /* whose memory has the last run's outputs; NULL: the backend's has */
    kiln_stream *target;  /* of the run under way */
    bool leaves;          /* a run that is told to stop is not waited for any more */
    bool left;            /* the run under way was told to, and has no results */
    bool is_under_way;    /* an enqueued run was not waited for */
    bool has_event;       /* `after` stands behind it */
    bool is_waited_for;   /* it was launched by a call that waits for its end */
    bool replayed;        /* the last run was a graph's */
    uint64_t hits;
    uint64_t captures;
    uint64_t failures;
    char reason[512];
} context_gpu;

typedef struct context_watch context_watch;

/* A run is UNDER_WAY from its begin to its end. Who stops it makes that STOPPING, tells the
 * backend, and makes it STOPPED; the end of a run waits for that, so that the backend is never told
 * of a run that has ended. */
enum { CONTEXT_RUN_NONE, CONTEXT_RUN_UNDER_WAY, CONTEXT_RUN_STOPPING, CONTEXT_RUN_STOPPED };

struct kiln_context {
    atomic_bool busy;
    atomic_int run_state;    /* whether a run is under way or being stopped (context_stop.c) */
    kiln_status stop_reason; /* of a run that was stopped */
    bool may_stop;           /* the backend can be told to */
    uint64_t run_milliseconds;
    context_watch *watch; /* NULL: runs may take any time */
    kiln_engine *engine;
    void *state;         /* the backend's */
    context_slot *slots; /* one for each binding of the engine, in its order */
    size_t slot_count;
    uint32_t *found;   /* slots in the order in which the call under way names them; one for each */
    uint64_t calls;    /* of kiln_context_run_tensors */
    context_gpu *gpu;  /* NULL: the engine is on the CPU */
    bool ready;        /* every input has data and nothing is pending */
    bool has_results;  /* of a run with what is bound now */
    size_t fill_count; /* slots with `fill` */
    bool settled;      /* nothing was bound since overlaps were looked for */
    bool retired;      /* some slot has memory of its own that is to go with the next run */
    bool has_spent;    /* some slot may be DETOUR_SPENT */
    bool results_changed;  /* `results` is of an earlier run */
    size_t copied_count;   /* slots that are DETOUR_EACH_RUN */
    size_t fed_count;      /* slots that are DETOUR_FED */
    memory_range *ranges;  /* room for one of each slot */
    memory_range *results; /* of the last run, in the backend's or an entry's memory; sorted */
    size_t result_count;
    uint64_t runs;
    uint64_t failed_runs;
    uint64_t binds;
    uint64_t bytes_owned;
};

/* --- one thread at a time (context.c) --- */

/* Takes the context, and waits for an enqueued run; on an error it is given back. STATE while a run
 * that was left is under way. */
KILN_MUST_CHECK kiln_status context_enter(kiln_context *context, const char *function);
/* Waits for that one, too. */
KILN_MUST_CHECK kiln_status context_enter_at_last(kiln_context *context, const char *function);
/* Gives it back and returns `status`. */
kiln_status context_leave(kiln_context *context, kiln_status status);

/* One past the last slot of an output; optional inputs follow. */
static inline size_t context_outputs_end(const kiln_context *context)
{
    return context->engine->description.input_count + context->engine->description.output_count;
}

const kiln_binding *context_binding(const kiln_context *context, size_t index);
KILN_MUST_CHECK kiln_status context_find_input(const kiln_context *context, const char *name,
                                               size_t *index);
KILN_MUST_CHECK kiln_status context_find_output(const kiln_context *context, const char *name,
                                                size_t *index);
/* An input if `inputs_first`, else an output, of that name; or else the other. */
KILN_MUST_CHECK kiln_status context_find_any(const kiln_context *context, const char *name,
                                             bool inputs_first, size_t *index);
KILN_MUST_CHECK kiln_status context_check_tensor(const kiln_context *context, size_t index,
                                                 const kiln_tensor *tensor);

/* The tensor was checked. OUT_OF_MEMORY, INVALID_ARGUMENT. */
KILN_MUST_CHECK kiln_status context_set_caller(kiln_context *context, size_t index,
                                               const kiln_tensor *tensor);
/* The slot's tensor is this one, and nothing else of it changes. */
void context_move(kiln_context *context, size_t index, const kiln_tensor *tensor);
void context_set_empty(kiln_context *context, size_t index);
void context_release_owned(kiln_context *context, context_slot *slot);
/* Frees what the context's own inputs were in before something else was bound. */
void context_drop_retired(kiln_context *context);
KILN_MUST_CHECK kiln_status context_show_output(kiln_context *context, size_t index,
                                                kiln_tensor *tensor);

/* --- stopping a run (context_stop.c) --- */

/* After the backend's state and the GPU's part are there. */
KILN_MUST_CHECK kiln_status context_stop_create(kiln_context *context,
                                                const kiln_context_options *options);
/* Before the backend's state goes. */
void context_stop_destroy(kiln_context *context);
/* Around everything that the backend computes. */
void context_run_begins(kiln_context *context);
kiln_status context_run_ends(kiln_context *context, kiln_status status);
/* Whether the run under way was told to stop. */
static inline bool context_is_stopped(kiln_context *context)
{
    return atomic_load_explicit(&context->run_state, memory_order_relaxed) >= CONTEXT_RUN_STOPPING;
}

/* --- running (context_run.c) --- */

KILN_MUST_CHECK kiln_status context_check_all_bound(const kiln_context *context);
/* Tells the backend what it does not know yet, and lets it run. */
KILN_MUST_CHECK kiln_status context_run_plainly(kiln_context *context);

/* --- memory that is read and written (context_overlap.c) --- */

/* Where `tensor` lies in the last results, an input gets a copy, and `*fed` is true; an output is
 * refused. */
KILN_MUST_CHECK kiln_status context_overlap_bind(kiln_context *context, size_t index,
                                                 const kiln_tensor *tensor, bool *fed);
/* The slot is bound to something else. Its copy's memory stays, until it is released. */
void context_overlap_forget(kiln_context *context, context_slot *slot);
void context_overlap_release(kiln_context *context, context_slot *slot);
/* Before a run, where something was bound since the last one: finds the inputs that it would
 * overwrite. INVALID_ARGUMENT where it would write two outputs to one place. */
KILN_MUST_CHECK kiln_status context_overlap_settle(kiln_context *context);
/* Takes the copies of those inputs, ordered into `stream` (NULL: the context's). */
KILN_MUST_CHECK kiln_status context_overlap_copy(kiln_context *context, kiln_stream *stream);
/* What was fed has been used. */
void context_overlap_spend(kiln_context *context);
/* STATE where an input is bound to a result that is gone. */
KILN_MUST_CHECK kiln_status context_overlap_check(kiln_context *context);

/* --- on a GPU (context_gpu.c) --- */

/* Makes context->gpu; does nothing where the engine is on the CPU. */
KILN_MUST_CHECK kiln_status context_gpu_create(kiln_context *context,
                                               const kiln_context_options *options);
/* Waits for what is under way. NULL in `gpu` is allowed. The stream that it returns, or NULL, is to
 * be destroyed once the backend's state, which works on it, is gone. */
kiln_stream *context_gpu_destroy(kiln_context *context);

/* One run ordered into `stream` (NULL: the context's), waited for or not. */
KILN_MUST_CHECK kiln_status context_gpu_run(kiln_context *context, kiln_stream *stream, bool waits);
/* Waits for an enqueued run and brings its outputs to the host. */
KILN_MUST_CHECK kiln_status context_gpu_finish(kiln_context *context);
/* Of a run that was left: STATE while it is under way, unless it is `waited` for. */
KILN_MUST_CHECK kiln_status context_gpu_end_left(kiln_context *context, bool waited);
/* Memory of an entry that has a result: false where the backend has it. */
bool context_gpu_output(const kiln_context *context, size_t index, kiln_tensor *tensor);
/* Drops every entry: what was captured is of old weights or of another profile. With `graphs`
 * false, nothing is captured from now on. */
void context_gpu_forget(kiln_context *context, bool graphs);
/* Keeps the fastest variant of the graph of what is bound, as found within `nanoseconds`. Does
 * nothing where there is no graph, or one that was searched for. */
KILN_MUST_CHECK kiln_status context_gpu_search(kiln_context *context, uint64_t nanoseconds);

/* --- to the device and back (transfer.c) --- */

/* Staging buffers and device memory for an entry, from what is bound and, for outputs that are not,
 * from the shapes of the run just made. */
KILN_MUST_CHECK kiln_status transfers_make(kiln_context *context, graph_entry *entry);
void transfers_drop(kiln_context *context, graph_entry *entry);
/* What of the inputs, or of the outputs, travels in one mode or another. */
transfer_load transfers_load(const kiln_context *context, const graph_entry *entry, bool inputs);
void transfers_set(const kiln_context *context, graph_entry *entry, graph_variant variant);
/* Device memory for every variant, and back: that of what is not copied. */
KILN_MUST_CHECK kiln_status transfers_complete(const kiln_context *context, graph_entry *entry);
void transfers_trim(const kiln_context *context, graph_entry *entry);
/* Tells the backend the memory of these transfers instead of what is bound. */
KILN_MUST_CHECK kiln_status transfers_bind(kiln_context *context, graph_entry *entry);
/* The bytes of bound host memory to the staging buffers of inputs, and back from those of outputs,
 * but for those that a run which is waited for leaves to the driver. */
void transfers_copy_in(const kiln_context *context, const graph_entry *entry, bool waits);
void transfers_copy_out(const kiln_context *context, const graph_entry *entry, bool waits);
/* Those copies of inputs that are not part of what is captured. */
KILN_MUST_CHECK kiln_status transfers_enqueue_ahead(const kiln_context *context,
                                                    const graph_entry *entry, kiln_stream *stream,
                                                    bool waits);
/* Likewise of outputs, behind it. */
KILN_MUST_CHECK kiln_status transfers_enqueue_behind(const kiln_context *context,
                                                     const graph_entry *entry, kiln_stream *stream,
                                                     bool waits);
/* The other copies to the device, the backend's work, copies back, all on `stream`. */
KILN_MUST_CHECK kiln_status transfers_enqueue_all(kiln_context *context, graph_entry *entry,
                                                  kiln_stream *stream);

/* --- entries (graph_cache.c) --- */

void graph_cache_init(graph_cache *cache, uint64_t most_bytes);
void graph_cache_finish(kiln_context *context);
/* The entry of what is bound now, a new one where there is none. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status graph_cache_find(kiln_context *context, graph_entry **entry);
/* Counts a run of it. */
void graph_cache_use(graph_cache *cache, graph_entry *entry);
/* After a plain run: makes room for the staging buffers and the graph of `entry`, at the cost of
 * entries that are used far less. False, with a reason, where others are used as often, or the room
 * is too small for it alone. */
KILN_MUST_CHECK kiln_status graph_cache_admit(kiln_context *context, graph_entry *entry,
                                              bool *admitted);
/* Counts what the entry holds now. */
void graph_cache_count(kiln_context *context, graph_entry *entry);
/* A hash of the shapes of the inputs and of the kind of memory that each binding is in, the same in
 * every process. */
uint64_t graph_cache_shapes(const kiln_context *context);
/* What the entry holds goes; the entry itself stays. */
void graph_cache_drop(kiln_context *context, graph_entry *entry);
void graph_cache_drop_all(kiln_context *context);
/* What entries of this address hold will not be used again. */
void graph_cache_drop_address(kiln_context *context, const void *address);

/* --- capture (graph_capture.c) --- */

/* What is being tried. */
typedef struct capture_trial {
    kiln_context *context;
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

/* After a plain run: captures the variant that was measured for such bindings before, or else one
 * by rule, and makes the entry GRAPH, with the results of this run in its memory; or PLAIN, with
 * the reason in the context. Fails where a graph is required. Afterwards the backend is bound to
 * nothing that may be used. */
KILN_MUST_CHECK kiln_status context_capture(kiln_context *context, graph_entry *entry);

/* --- search (graph_search.c) --- */

/* Measures the variants that a graph of the entry can have, in turns, until one is the fastest for
 * certain or the time is over; keeps the one that was measured fastest, whose memory then has
 * the results, and writes it down for the engine. */
KILN_MUST_CHECK kiln_status graph_search(kiln_context *context, graph_entry *entry,
                                         uint64_t nanoseconds);

#endif
