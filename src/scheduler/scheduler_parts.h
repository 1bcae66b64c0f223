/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the files of this module.
 *
 * `lock` guards everything in a scheduler except its rules, which never change, and the blocks.
 * Only the scheduler changes a waiting or running request, under the lock; an answered request no
 * longer changes. */
#ifndef KLN_SCHEDULER_PARTS_H
#define KLN_SCHEDULER_PARTS_H

#include <semaphore.h>
#include <stdatomic.h>

#include <kiln/build.h>
#include <kiln/scheduler.h>

#include "base/kln_base.h"
#include "engine/kln_engine.h"
#include "tensor/kln_tensor.h"

#define LEVELS (KILN_MAX_PRIORITY + 1)
#define FIGURES (KILN_SCHEDULER_BATCH_ROWS + 1)
#define MOST_CONTEXTS 64
#define MOST_SIZES 64
#define BLOCK_CLASSES 48
#define NOT_IN_HEAP SIZE_MAX

/* --- what can be joined, and how (schedule_rules.c) --- */

/* How an input is filled up, or an output cut, along a dimension whose length differs. */
typedef struct length_rule {
    int32_t axis;           /* -1: it is not */
    unsigned char value[8]; /* an element to fill up with */
} length_rule;

typedef struct schedule_rules {
    kln_arena arena;
    kiln_binding *bindings; /* copies in the arena, with their names: inputs, then outputs, */
    kiln_binding *outputs;  /* from here on */
    bool *follows;          /* outputs that surely have the rows of the inputs */
    length_rule *lengthy;   /* of inputs, then outputs */
    bool has_lengths;       /* any of them */
    size_t input_count;
    size_t output_count;
    int32_t axis;         /* along which requests are joined, -1: they are not */
    bool fixed;           /* the engine takes batches of one size alone, */
    int64_t fixed_rows;   /* this */
    int64_t max_rows;     /* of a batch; 1 where they are not joined */
    int64_t join_rows;    /* of one of several requests, */
    bool join_measured;   /* or fewer, by what was measured */
    const int64_t *asked; /* batch_sizes */
    size_t asked_count;
    const int64_t *lengths; /* that are filled up to; none: powers of two */
    size_t length_count;
} schedule_rules;

KILN_MUST_CHECK kiln_status schedule_rules_make(kiln_engine *const *engines, size_t count,
                                                const kiln_scheduler_options *options,
                                                schedule_rules *rules);
/* INVALID_ARGUMENT where the engine's inputs and outputs are others. */
KILN_MUST_CHECK kiln_status schedule_rules_check(const schedule_rules *rules,
                                                 const kiln_engine *engine);

/* --- what differs in length (length_rules.c) --- */

KILN_MUST_CHECK kiln_status length_rules_make(const kiln_scheduler_options *options,
                                              schedule_rules *rules);
/* What a length is filled up to. */
int64_t length_rules_fill_up(const schedule_rules *rules, int64_t length);

/* --- how many rows (batch_sizes.c) --- */

typedef struct batch_sizes {
    int64_t rows[MOST_SIZES]; /* that a batch may have, rising */
    size_t count;             /* 0: any */
} batch_sizes;

/* INVALID_ARGUMENT where profiles have no room for what was asked. */
KILN_MUST_CHECK kiln_status batch_sizes_make(const schedule_rules *rules,
                                             kiln_engine *const *engines, size_t count,
                                             batch_sizes *sizes);
/* The most rows that a profile of the engine has, 0 where none says. */
int64_t batch_sizes_most(const kiln_engine *engine, int32_t axis);
/* The rows that a batch of so many has when it is filled up. */
int64_t batch_sizes_fill_up(const batch_sizes *sizes, int64_t rows);

/* --- memory of results (result_block.c) --- */

/* Counted by the requests that show a part of it. */
typedef struct result_block {
    struct result_block *next;
    atomic_size_t references;
    size_t kind;    /* 2 to the power of this bytes */
    int32_t device; /* pinned for, or -1: ordinary memory */
    unsigned char *memory;
} result_block;

typedef struct block_list {
    pthread_mutex_t lock;
    result_block *free[BLOCK_CLASSES];
    result_block *pinned[BLOCK_CLASSES];
} block_list;

/* With one reference, or NULL where memory is short; pinned where `device` is not -1. */
result_block *result_block_take(block_list *list, size_t bytes, int32_t device);
void result_block_release(block_list *list, result_block *block);
/* Whether `data` lies in it. NULL is allowed. */
bool result_block_holds(const result_block *block, const void *data);
void block_list_finish(block_list *list);

/* --- requests --- */

struct kiln_request {
    kiln_request *next; /* of its level, of what is collected, or of what is free */
    kiln_request *previous;
    kiln_scheduler *scheduler;
    atomic_int
        references;   /* the caller's, the scheduler's, and that of its list of the collected */
    atomic_int state; /* kiln_request_state */
    kiln_request_options options;
    atomic_bool cancelled; /* while it runs */
    atomic_int sleepers;   /* threads that wait for it */
    bool rings;            /* the scheduler's event, when it is told */
    int64_t rows;
    int64_t length;    /* of what differs in length, 0: nothing does */
    uint64_t likeness; /* of requests that may share a batch; equal for equal ones */
    uint64_t submitted;
    uint64_t begun;
    size_t place;          /* in the heap of deadlines */
    struct seat *ahead_at; /* a free one that its rows were sent to while it waits, or NULL; */
    int64_t ahead_row;     /* from this row of the batch on */
    kiln_tensor *inputs;
    kiln_shape *shapes;      /* of inputs, filled up in length */
    kiln_tensor *outputs;    /* as the caller gave them, or data NULL; results once it is done */
    result_block *blocks[2]; /* that results lie in: of its batch, and of its own; or NULL */
    sem_t answered;
    kiln_status status;
    char sentence[KLN_MESSAGE_SIZE / 2];
};

/* Checks a request and makes it, counted by the caller alone. */
KILN_MUST_CHECK kiln_status request_make(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                                         size_t input_count, const kiln_named_tensor *outputs,
                                         size_t output_count, const kiln_request_options *options,
                                         kiln_request **request);
void request_retain(kiln_request *request);
/* Without the lock. */
void request_release(kiln_request *request);
/* Wakes whoever waits and calls back, without the lock; the scheduler's reference goes. */
void request_tell(kiln_request *request);
/* The same of a list by `previous`. */
void request_tell_all(kiln_request *first);

/* --- profiles (batch_profile.c) --- */

/* The most rows of a batch of requests like this one. */
int64_t batch_profile_most(const schedule_rules *rules, const kiln_engine *engine,
                           const kiln_request *request);
/* The profile in which such requests run as so many rows, `current` where that does; -1: none. */
int32_t batch_profile_find(const schedule_rules *rules, const kiln_engine *engine,
                           const kiln_request *request, int64_t rows, int32_t current);
/* As batch_sizes_fill_up, to a size that a profile has for requests like this one. */
int64_t batch_profile_fill_up(const schedule_rules *rules, const batch_sizes *sizes,
                              const kiln_engine *engine, const kiln_request *request, int64_t rows);

/* --- what waits (request_queue.c); all with the lock --- */

typedef struct request_queue {
    struct {
        kiln_request *first, *last;
    } levels[LEVELS];
    size_t count;
    size_t limit;
    int64_t rows;
    size_t urgent;            /* that wait for a context alone */
    kiln_request **deadlines; /* a heap, the earliest first */
    size_t deadline_count;
} request_queue;

KILN_MUST_CHECK kiln_status request_queue_init(request_queue *queue, size_t limit);
void request_queue_finish(request_queue *queue);
void request_queue_push(request_queue *queue, kiln_request *request);
void request_queue_remove(request_queue *queue, kiln_request *request);
/* The first in order of priority, or NULL. */
kiln_request *request_queue_first(const request_queue *queue);
/* The one behind it. */
kiln_request *request_queue_next(const request_queue *queue, const kiln_request *request);
/* Has the earliest deadline, or NULL. */
kiln_request *request_queue_earliest(const request_queue *queue);

/* --- contexts and their batches --- */

/* --- rows of a batch (batch_copy.c) --- */

/* Bytes of one row within one index of the dimensions before it, and how many of those there are.
 */
size_t row_bytes(const kiln_tensor_desc *desc, int32_t axis, size_t *outer);

/* One end of a copy of rows. */
typedef struct row_place {
    unsigned char *data; /* NULL: zeros */
    int64_t rows;        /* of the whole tensor */
    int64_t at;
} row_place;

void copy_rows(const kiln_tensor_desc *desc, int32_t axis, row_place to, row_place from,
               int64_t rows);

/* A request whose length is not the batch's. */
typedef struct length_copy {
    kiln_dtype dtype;
    unsigned char *batch;
    const kiln_shape *whole;
    unsigned char *own;
    const kiln_shape *part;
    int32_t axis, length;       /* dimensions of rows and of what differs */
    int64_t row;                /* where its rows begin */
    const unsigned char *value; /* an element that what is missing is filled with; NULL: out of the
                                   batch */
} length_copy;

void copy_lengths(const length_copy *copy);

/* --- threads that help (crew.c) --- */

#define CREW_HELPERS 7                 /* at most: a quarter of the processors */
#define CREW_BYTES ((size_t)256 << 10) /* of a tensor, for which they are woken */

typedef struct helper_crew {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct crew_task *tasks;
    pthread_t threads[CREW_HELPERS];
    size_t count;
    bool started; /* by the first who needs them */
    bool ends;
} helper_crew;

void crew_init(helper_crew *crew);
/* Calls `part` for each index below `count`, in this thread and those of the crew; all have
 * returned when it does. Several threads may call it. */
void crew_run(helper_crew *crew, void (*part)(void *user, size_t index), void *user, size_t count);
void crew_finish(helper_crew *crew);

struct engine_pool;

typedef struct seat {
    kiln_context *context;
    kiln_engine *engine;
    struct engine_pool *pool;
    size_t number; /* of its engine */
    int32_t device;
    int32_t profile; /* of its last batch, -1: none yet */
    bool busy;
    bool switched;           /* its batch is of another profile than the one before */
    bool timed;              /* its batch is measured (joined_times) */
    uint64_t begun;          /* its batch */
    int64_t filled;          /* rows of its batch, with those of zeros */
    kiln_buffer **inputs;    /* memory of the host where inputs are joined, each grows */
    kiln_buffer **rows;      /* memory of the device for inputs and outputs of large rows */
    kln_cuda_piece *pieces;  /* of these, as many as a batch may have rows, and one */
    bool unbound;            /* outputs did not come out as they were expected there */
    kiln_request **requests; /* of the batch, as many as a batch may have rows */
    size_t request_count;
    bool sends_ahead;         /* rows may be sent before their batch is whole */
    size_t ahead;             /* requests whose rows were; of its batch until these are joined */
    bool warm;                /* in the warmup under way */
    bool wanted;              /* by a warmup, before any batch */
    bool apart;               /* its batch is not filled up: outputs could not be taken apart */
    kiln_named_tensor *named; /* inputs, then outputs, for a run */
    uint64_t graph_hits, graph_misses; /* of its context, when they were last looked at */
} seat;

/* Nanoseconds, a mean that follows what changes. */
typedef struct mean_time {
    uint64_t mean;
    uint32_t count;
} mean_time;

#define JOINED_SIZES 8
#define JOINED_TIMES 8

/* What batches of 1, 2, 4, ... rows took of the processor of the thread that ran them, on the CPU,
 * where rows are computed one after the other and more of them may fit into a cache less well. Of
 * a size the least of the last few: whatever else the machine does makes a run longer. */
typedef struct joined_times {
    uint64_t likeness; /* of the requests of the first, and of all that are measured */
    uint64_t batches;
    uint32_t quick; /* batches that are not measured, after one that was over at once */
    uint64_t took[JOINED_SIZES][JOINED_TIMES];
    uint32_t seen[JOINED_SIZES];
} joined_times;

/* Of an engine's contexts on a GPU so many compute at once, each on a stream; others are put behind
 * them, and copy meanwhile. Two fill an H200: ResNet-50 and BERT-base in float16 gave less on four
 * streams (bench/gpu_throughput.py). Context k goes to stream k % LANES. */
#define LANES 2

/* The engines in use, which kiln_scheduler_replace changes as a whole (engine_pool.c). */
typedef struct engine_pool {
    seat **seats;
    size_t count;
    size_t contexts;     /* of each engine; they stand beside each other */
    kiln_stream **lanes; /* likewise; NULL where there is none */
    size_t lane_count;
    kiln_scheduler_engine_counters *counters; /* of each engine */
    batch_sizes sizes;
    mean_time runs[MOST_SIZES]; /* of each size */
    mean_time switching;        /* how much longer the first run in another profile took */
    joined_times joined;
} engine_pool;

KILN_MUST_CHECK kiln_status engine_pool_make(const kiln_scheduler *scheduler,
                                             kiln_engine *const *engines, size_t count,
                                             engine_pool **pool);
/* NULL is allowed. */
void engine_pool_drop(const kiln_scheduler *scheduler, engine_pool *pool);
/* Whether a batch is under way. With the lock. */
bool engine_pool_is_busy(const engine_pool *pool);

KILN_MUST_CHECK kiln_status seat_make(const kiln_scheduler *scheduler, engine_pool *pool,
                                      size_t number, kiln_engine *engine,
                                      const kiln_context_options *options, seat *made);
void seat_finish(const kiln_scheduler *scheduler, seat *gone);
/* What came of a batch beside its requests' own. */
typedef struct batch_outcome {
    uint64_t runs;
    int64_t padding;
    bool retried;         /* it failed, and each request ran again by itself */
    bool apart;           /* its outputs cannot be taken apart */
    int64_t padded;       /* of lengths */
    uint64_t copied, ran; /* nanoseconds */
    uint64_t processor;   /* of the thread, where the batch is timed */
    uint64_t graph_hits, graph_misses;
} batch_outcome;

/* A batch: some of a seat's requests. */
typedef struct batch {
    kiln_scheduler *scheduler;
    seat *at;
    kiln_request **requests;
    size_t count;
    int64_t rows;
    int64_t filled;      /* with rows of zeros */
    result_block *block; /* that the run wrote outputs to, or NULL */
    batch_outcome *outcome;
} batch;

bool batch_is_direct(const batch *one);
/* Whether the rows of input or output `tensor` (outputs come behind inputs) travel to or from a GPU
 * one by one. The same for all batches of a size, which so have one graph. */
bool batch_goes_by_rows(const batch *one, size_t tensor, const kiln_tensor_desc *desc);
/* Of the first so many. */
int64_t count_rows(kiln_request *const *requests, size_t count);
/* `*buffer`, with room for the largest batch, so that it stays where it is; as a tensor. */
KILN_MUST_CHECK kiln_status batch_make_room(const batch *one, const kiln_tensor_desc *desc,
                                            kiln_location location, kiln_buffer **buffer,
                                            kiln_tensor *tensor);
/* Puts what the run reads into the seat's `named`; batch_inputs.c. */
KILN_MUST_CHECK kiln_status batch_join_inputs(batch *one);
/* Sends what lies in pinned memory of a batch that still gathers, in its order; with the lock. */
void batch_send_ahead(const batch *one);
/* Where the run writes; batch_outputs.c. */
KILN_MUST_CHECK kiln_status batch_prepare_outputs(batch *one);
/* After the run: has each output the rows and lengths of the batch? What stays where the run wrote
 * it is shown, what the caller has memory for is written there, and the rest goes to a block of the
 * request's own. */
KILN_MUST_CHECK kiln_status batch_give_outputs(batch *one);

/* Waits for what was sent there ahead, and takes none of it to have been. With the lock. */
void seat_forget_ahead(kiln_scheduler *scheduler, seat *at);
/* Runs what the seat has, without the lock; each request gets its status. */
void seat_run(kiln_scheduler *scheduler, seat *at, batch_outcome *outcome);

/* Runs every size of a batch, made of the request again and again. */
KILN_MUST_CHECK kiln_status seat_warm_up(kiln_scheduler *scheduler, seat *at, kiln_request *request,
                                         uint64_t milliseconds);

/* --- what a batch becomes, from what was measured (batch_choice.c); with the lock --- */

/* Of the batch that a free seat was given: how many of its requests run now, in which seat, and
 * filled up to how many rows. NULL where it is to wait until `*due` for one that is busy. */
seat *batch_choose(const kiln_scheduler *scheduler, seat *at, uint64_t now, uint64_t *due);
/* The rows that requests like this one are joined to now. */
int64_t batch_join_rows(const kiln_scheduler *scheduler, const kiln_request *like);
/* Keeps what a batch took. */
void batch_measure(const kiln_scheduler *scheduler, const seat *at, const batch_outcome *outcome);

/* Time that somebody plays. A scheduler with such a clock has no threads: whoever plays it calls
 * scheduler_take, scheduler_finish and scheduler_expire as time goes on. */
typedef struct played_clock {
    uint64_t (*now)(void *user);
    void *user;
} played_clock;

/* kiln_scheduler_create, with a clock (NULL: the real one) that outlives the scheduler. */
KILN_MUST_CHECK kiln_status scheduler_create_with(kiln_engine *const *engines, size_t count,
                                                  const kiln_scheduler_options *options,
                                                  const played_clock *clock,
                                                  kiln_scheduler **scheduler);

/* A build whose engine is to take over (scheduler_follow.c). */
typedef struct build_follower {
    kiln_build *build; /* NULL: there is none, and no thread */
    pthread_t thread;
    kiln_replaced_function replaced;
    void *user;
    bool done;    /* its thread ends by itself; with the lock */
    bool claimed; /* somebody is about to begin */
} build_follower;

/* Cancels it and waits for its thread. */
void scheduler_follow_end(kiln_scheduler *scheduler);

struct kiln_scheduler {
    atomic_size_t references; /* the owner's, and one of each request */
    schedule_rules rules;
    kiln_schedule schedule;
    uint64_t delay;
    kiln_context_options context_options;
    int32_t contexts;          /* of an engine, 0: as its device has it */
    const played_clock *clock; /* NULL: kln_now */
    unsigned forks;            /* kln_forks when it was made */
    block_list blocks;
    pthread_mutex_t lock;
    pthread_cond_t work;  /* something to do for a worker */
    pthread_cond_t timer; /* an earlier deadline for the keeper */
    pthread_cond_t rest;  /* something was answered, or a seat became free */
    request_queue queue;
    kiln_request *free;      /* answered and released ones, to be used again */
    kiln_request *collected; /* for kiln_scheduler_next, a list with its end */
    kiln_request *collected_last;
    int event; /* -1: nobody asked */
    engine_pool *pool;
    kiln_request *sample; /* what it was warmed up with, or NULL */
    uint64_t sample_milliseconds;
    bool replacing;
    build_follower follower;
    helper_crew crew;

    int64_t ahead_rows; /* that waited when rows were last sent ahead of a batch */
    bool apart;      /* outputs were seen that cannot be taken apart: nothing is joined any more */
    bool has_leader; /* a worker waits for a batch to fill, or for its delay to pass */
    atomic_bool closed;   /* takes no more requests */
    atomic_size_t untold; /* answered ones whose callers were not told yet */
    bool ends;            /* the threads shall */
    pthread_t *workers;
    size_t worker_count;
    pthread_t keeper; /* of deadlines */
    bool has_keeper;
    kiln_scheduler_counters counters;
    kiln_histogram *figures[FIGURES];
};

uint64_t scheduler_now(const kiln_scheduler *scheduler);
/* Takes what waits into the batch of a free seat, if it is due; else when it will be, in
 * nanoseconds of the clock, or UINT64_MAX, goes to `*due`. With the lock. */
seat *scheduler_take(kiln_scheduler *scheduler, uint64_t *due);
/* Rows of a batch that gathers are under way while it does. With the lock. */
void scheduler_send_ahead(kiln_scheduler *scheduler);
/* Takes a request that waits out of the queue, to be answered. With the lock. */
void scheduler_withdraw(kiln_scheduler *scheduler, kiln_request *request);
/* Ends what is past its deadline; when the next of those that wait will be, or UINT64_MAX. With the
 * lock, which it gives up in between. */
uint64_t scheduler_expire(kiln_scheduler *scheduler);
/* Answers what a batch came to. Without the lock. */
void scheduler_finish(kiln_scheduler *scheduler, seat *at, const batch_outcome *outcome);
/* Both: runs a batch and answers it. */
void scheduler_serve(kiln_scheduler *scheduler, seat *at);
/* Lets somebody look after what waits. With the lock. */
void scheduler_wake(kiln_scheduler *scheduler);
/* Answers a request that is in no list any more; request_tell is to follow. With the lock. */
void scheduler_answer(kiln_scheduler *scheduler, kiln_request *request, kiln_request_state state,
                      kiln_status status, const char *sentence, uint64_t now);
/* Once nobody has it and its requests any more, their memory goes (scheduler_memory.c). */
void scheduler_release(kiln_scheduler *scheduler);

/* request_make in this process, of tensors that are there. */
KILN_MUST_CHECK kiln_status scheduler_make_request(
    kiln_scheduler *scheduler, const char *function, const kiln_named_tensor *inputs,
    size_t input_count, const kiln_named_tensor *outputs, size_t output_count,
    const kiln_request_options *options, kiln_request **request);

/* --- engines (scheduler_engines.c) --- */

KILN_MUST_CHECK kiln_status scheduler_check_engines(const char *function,
                                                    kiln_engine *const *engines, size_t count);
/* So many workers, if there are fewer. */
KILN_MUST_CHECK kiln_status scheduler_start_threads(kiln_scheduler *scheduler, size_t count);

/* The bodies of its threads. */
void *scheduler_worker(void *user);
void *scheduler_keeper(void *user);

#endif
