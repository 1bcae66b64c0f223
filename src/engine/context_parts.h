/*
 * context_parts.h - what a context is made of, inside this room.
 *
 * context.c has names, checks and bindings; context_run.c the calls that run; context_queue.c the
 * work on a GPU: one entry for each set of bindings, with memory that the device reaches and, once
 * it was captured (context_capture.c), a graph.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_CONTEXT_PARTS_H
#define KLN_CONTEXT_PARTS_H

#include "cuda/kln_cuda.h"
#include "kln_engine.h"
#include "memory/kln_memory.h"

/* What a binding of a context is bound to. */
typedef enum slot_state {
    SLOT_EMPTY,  /* an input without data; an output that the backend finds memory for */
    SLOT_CALLER, /* the caller's memory */
    SLOT_OWNED   /* the context's own memory (inputs only): pinned where the engine is on a GPU */
} slot_state;

typedef struct context_slot {
    slot_state state;
    bool pending; /* the backend does not know it yet */
    kiln_tensor tensor;
    void *owned;
    size_t owned_bytes;
    kiln_fill_function fill; /* writes the input before each run, or NULL */
    void *fill_user;
} context_slot;

/* What of a binding an entry depends on. Ordinary host memory may move: it is staged. */
typedef struct binding_key {
    slot_state state;
    kiln_location location;
    const void *address; /* NULL for ordinary host memory */
    kiln_shape shape;    /* rank -1 for an output that nobody bound */
} binding_key;

/* How a side's bytes get from `host` to the device, or back. */
typedef enum side_way {
    SIDE_MAPPED,   /* not at all: the device works on `host`, or on the caller's memory, itself */
    SIDE_COPIED,   /* by a copy of its own, a part of what is captured */
    SIDE_AHEAD,    /* by a copy of its own that is enqueued before the graph: inputs only */
    SIDE_GATHERED, /* by one kernel with all others of its direction, a part of what is captured */
    SIDE_WAYS
} side_way;

/* One binding of an entry. */
typedef struct graph_side {
    size_t bytes;
    kiln_tensor tensor; /* as the backend is told it: always DEVICE */
    void *host;         /* pinned memory that the host's bytes are in; NULL: the caller's is the
                           device's */
    void *staging;      /* `host` where it is the entry's own */
    void *device;       /* device memory of the entry, where it has some */
    side_way way;       /* between `host` and `device` */
} graph_side;

typedef enum entry_mode {
    ENTRY_NEW,   /* not decided yet */
    ENTRY_PLAIN, /* no graph, now and later */
    ENTRY_GRAPH
} entry_mode;

typedef struct graph_entry {
    entry_mode mode;
    bool has_sides;
    uint64_t last_used; /* by the queue's clock; 0: the place is free */
    uint64_t uses;
    binding_key *keys; /* one for each slot */
    graph_side *sides; /* likewise */
    kiln_graph *graph;
} graph_entry;

typedef struct context_queue {
    int32_t device;
    kiln_graph_policy policy;
    kiln_graph_policy asked; /* for, by the options; `policy` is OFF while layers are measured */
    unsigned long refits;    /* of the engine, when the entries were made */
    kiln_stream *work;       /* where the work goes */
    bool owns_work;          /* it is this context's */
    bool shared;             /* it is the engine's: under its lock */
    kiln_stream *caller;     /* of the options, or NULL */
    kiln_event *before;      /* orders the work behind another stream */
    kiln_event *after;       /* the end of an enqueued run */
    graph_entry *entries;
    size_t entry_count;
    binding_key *keys;
    graph_side *sides;
    graph_entry *current; /* of what is bound now; NULL: to be looked for */
    graph_entry *bound;   /* to whose memory the backend is bound; NULL: to something else */
    graph_entry *shown;   /* whose memory has the last run's outputs; NULL: the backend's has */
    kiln_stream *target;  /* of the run under way */
    bool is_under_way;    /* an enqueued run was not waited for */
    bool has_event;       /* `after` stands behind it */
    uint64_t clock;
    uint64_t hits;
    uint64_t misses;
    uint64_t captures;
    uint64_t failures;
    uint64_t evictions;
    uint64_t graphs;
    uint64_t staging_bytes;
    char reason[512];
} context_queue;

struct kiln_context {
    atomic_bool busy;
    kiln_engine *engine;
    void *state;         /* the backend's */
    context_slot *slots; /* one for each binding of the engine, in its order */
    size_t slot_count;
    context_queue *queue; /* NULL: the engine is on the CPU */
    bool ready;           /* every input has data and nothing is pending */
    bool has_results;     /* of a run with what is bound now */
    size_t fill_count;    /* slots with `fill` */
    uint64_t runs;
    uint64_t failed_runs;
    uint64_t binds;
    uint64_t bytes_owned;
};

/* --- one thread at a time (context.c) --- */

/* Takes the context, and waits for an enqueued run; on an error it is given back. */
KILN_MUST_CHECK kiln_status context_enter(kiln_context *context, const char *function);
/* Gives it back and returns `status`. */
kiln_status context_leave(kiln_context *context, kiln_status status);

const kiln_binding *context_binding(const kiln_context *context, size_t index);
KILN_MUST_CHECK kiln_status context_find_input(const kiln_context *context, const char *name,
                                               size_t *index);
KILN_MUST_CHECK kiln_status context_find_output(const kiln_context *context, const char *name,
                                                size_t *index);
KILN_MUST_CHECK kiln_status context_check_tensor(const kiln_context *context, size_t index,
                                                 const kiln_tensor *tensor);

/* The tensor was checked. */
void context_set_caller(kiln_context *context, size_t index, const kiln_tensor *tensor);
void context_set_empty(kiln_context *context, size_t index);
KILN_MUST_CHECK kiln_status context_show_output(kiln_context *context, size_t index,
                                                kiln_tensor *tensor);

/* --- running (context_run.c) --- */

KILN_MUST_CHECK kiln_status context_check_all_bound(const kiln_context *context);
/* Tells the backend what it does not know yet, and lets it run. */
KILN_MUST_CHECK kiln_status context_run_plainly(kiln_context *context);

/* --- on a GPU (context_queue.c) --- */

/* Makes the queue; does nothing where the engine is on the CPU. */
KILN_MUST_CHECK kiln_status context_queue_create(kiln_context *context,
                                                 const kiln_context_options *options);
/* Waits for what is under way. NULL in `queue` is allowed. */
void context_queue_destroy(kiln_context *context);

/* One run ordered into `stream` (NULL: the context's), waited for or not. */
KILN_MUST_CHECK kiln_status context_queue_run(kiln_context *context, kiln_stream *stream,
                                              bool waits);
/* Waits for an enqueued run and brings its outputs to the host. */
KILN_MUST_CHECK kiln_status context_queue_finish(kiln_context *context);
/* Memory of an entry that has a result: false where the backend has it. */
bool context_queue_output(const kiln_context *context, size_t index, kiln_tensor *tensor);
/* Drops every entry: what was captured is of old weights or of another profile. With `graphs`
 * false, nothing is captured from now on. */
void context_queue_forget(kiln_context *context, bool graphs);
/* What entries of this address hold will not be used again. */
void context_queue_drop_address(kiln_context *context, const void *address);

/* Memory for the sides of an entry, from what is bound and, for outputs that are not, from the
 * shapes of the run just made. */
KILN_MUST_CHECK kiln_status context_make_sides(kiln_context *context, graph_entry *entry);
void context_drop_sides(kiln_context *context, graph_entry *entry);
/* Those copies of inputs that are not part of what is captured. */
KILN_MUST_CHECK kiln_status context_enqueue_ahead(const kiln_context *context,
                                                  const graph_entry *entry, kiln_stream *stream);
/* The other copies to the device, the backend's work, copies back, all on `stream`. */
KILN_MUST_CHECK kiln_status context_enqueue_sides(kiln_context *context, graph_entry *entry,
                                                  kiln_stream *stream);
/* Tells the backend the memory of these sides instead of what is bound. */
KILN_MUST_CHECK kiln_status context_bind_sides(kiln_context *context, graph_entry *entry);
/* The bytes of bound host memory to an entry's inputs. */
void context_copy_in(const kiln_context *context, const graph_entry *entry);

/* --- capture (context_capture.c) --- */

/* After a plain run: measures the forms a run can have, keeps the fastest as a graph that gives the
 * same outputs, and makes the entry GRAPH; or PLAIN, with the reason in the queue. Fails where a
 * graph is required. Afterwards the backend is bound to nothing that may be used. */
KILN_MUST_CHECK kiln_status context_capture(kiln_context *context, graph_entry *entry);

#endif
