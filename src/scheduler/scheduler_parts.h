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

/* How an input is padded, or an output cut back, along a dimension whose length varies. */
typedef struct length_rule {
    int32_t axis;           /* -1: not at all */
    unsigned char value[8]; /* the padding element */
} length_rule;

typedef struct schedule_rules {
    kln_arena arena;
    kiln_binding *bindings; /* copies in the arena, names included: inputs, then outputs, */
    kiln_binding *outputs;  /* which start here */
    bool *follows;          /* outputs that certainly have the rows of the inputs */
    length_rule *lengthy;   /* for inputs, then outputs */
    bool has_lengths;       /* whether there are any */
    size_t input_count;
    size_t output_count;
    int32_t axis;         /* along which requests are joined; -1: no batching */
    bool fixed;           /* the engine accepts only batches of one size, */
    int64_t fixed_rows;   /* which is this */
    int64_t max_rows;     /* in a batch; 1 without batching */
    int64_t join_rows;    /* in a batch of several requests, */
    bool join_measured;   /* or fewer, depending on measurements */
    const int64_t *asked; /* batch_sizes */
    size_t asked_count;
    const int64_t *lengths; /* lengths to pad to; none: powers of two */
    size_t length_count;
} schedule_rules;

KILN_MUST_CHECK kiln_status schedule_rules_make(kiln_engine *const *engines, size_t count,
                                                const kiln_scheduler_options *options,
                                                schedule_rules *rules);
/* INVALID_ARGUMENT if the engine has other inputs or outputs. */
KILN_MUST_CHECK kiln_status schedule_rules_check(const schedule_rules *rules,
                                                 const kiln_engine *engine);

/* --- varying lengths (length_rules.c) --- */

KILN_MUST_CHECK kiln_status length_rules_make(const kiln_scheduler_options *options,
                                              schedule_rules *rules);
/* The length that `length` is padded to. */
int64_t length_rules_fill_up(const schedule_rules *rules, int64_t length);

/* --- batch sizes (batch_sizes.c) --- */

typedef struct batch_sizes {
    int64_t rows[MOST_SIZES]; /* allowed batch sizes, ascending */
    size_t count;             /* 0: any size */
} batch_sizes;

/* INVALID_ARGUMENT if the requested sizes do not fit the profiles. */
KILN_MUST_CHECK kiln_status batch_sizes_make(const schedule_rules *rules,
                                             kiln_engine *const *engines, size_t count,
                                             batch_sizes *sizes);
/* The most rows in any profile of the engine; 0 if none says. */
int64_t batch_sizes_most(const kiln_engine *engine, int32_t axis);
/* The batch size that this many rows are padded to. */
int64_t batch_sizes_fill_up(const batch_sizes *sizes, int64_t rows);

/* --- memory of results (result_block.c) --- */

/* Reference-counted by the requests that show a part of it. */
typedef struct result_block {
    struct result_block *next;
    atomic_size_t references;
    size_t kind;    /* its size in bytes is 2 to this power */
    int32_t device; /* device that it is pinned for; -1: ordinary memory */
    unsigned char *memory;
} result_block;

typedef struct block_list {
    pthread_mutex_t lock;
    result_block *free[BLOCK_CLASSES];
    result_block *pinned[BLOCK_CLASSES];
} block_list;

/* Gives a block with one reference, or NULL if memory is short; pinned if `device` is not -1. */
result_block *result_block_take(block_list *list, size_t bytes, int32_t device);
void result_block_release(block_list *list, result_block *block);
/* Whether `data` is inside the block. NULL is allowed. */
bool result_block_holds(const result_block *block, const void *data);
void block_list_finish(block_list *list);

/* --- requests --- */

struct kiln_request {
    kiln_request *next; /* in its priority level, in the collected list, or in the free list */
    kiln_request *previous;
    kiln_scheduler *scheduler;
    atomic_int references; /* the caller's, the scheduler's, and that of the collected list */
    atomic_int state;      /* kiln_request_state */
    kiln_request_options options;
    atomic_bool cancelled; /* while it runs */
    atomic_int sleepers;   /* threads waiting for it */
    bool rings;            /* signal the scheduler's event when reporting it */
    int64_t rows;
    int64_t length;    /* length of its varying inputs; 0: none varies */
    uint64_t likeness; /* equal for requests that may share a batch */
    uint64_t submitted;
    uint64_t begun;
    size_t place;          /* position in the heap of deadlines */
    struct seat *ahead_at; /* a free seat that received its rows while it waits, or NULL; */
    int64_t ahead_row;     /* starting at this row of the batch */
    kiln_tensor *inputs;
    kiln_shape *shapes;      /* of inputs, padded */
    kiln_tensor *outputs;    /* as the caller gave them, or data NULL; when done, the results */
    result_block *blocks[2]; /* memory of the results: the batch's and its own; or NULL */
    sem_t answered;
    kiln_status status;
    char sentence[KLN_MESSAGE_SIZE / 2];
};

/* Checks and creates a request; only the caller holds a reference. */
KILN_MUST_CHECK kiln_status request_make(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                                         size_t input_count, const kiln_named_tensor *outputs,
                                         size_t output_count, const kiln_request_options *options,
                                         kiln_request **request);
void request_retain(kiln_request *request);
/* Without the lock. */
void request_release(kiln_request *request);
/* Wakes the waiting threads and calls back, without the lock; drops the scheduler's reference. */
void request_tell(kiln_request *request);
/* The same for a list linked by `previous`. */
void request_tell_all(kiln_request *first);

/* --- profiles (batch_profile.c) --- */

/* The most rows in a batch of requests like this one. */
int64_t batch_profile_most(const schedule_rules *rules, const kiln_engine *engine,
                           const kiln_request *request);
/* The profile in which such requests run with this many rows; `current` if possible; -1: none. */
int32_t batch_profile_find(const schedule_rules *rules, const kiln_engine *engine,
                           const kiln_request *request, int64_t rows, int32_t current);
/* Like batch_sizes_fill_up, to a size that a profile has for requests like this one. */
int64_t batch_profile_fill_up(const schedule_rules *rules, const batch_sizes *sizes,
                              const kiln_engine *engine, const kiln_request *request, int64_t rows);

/* --- the queue (request_queue.c); all calls with the lock --- */

typedef struct request_queue {
    struct {
        kiln_request *first, *last;
    } levels[LEVELS];
    size_t count;
    size_t limit;
    int64_t rows;
    size_t urgent;            /* requests that wait only for a context */
    kiln_request **deadlines; /* a heap, the earliest deadline first */
    size_t deadline_count;
} request_queue;

KILN_MUST_CHECK kiln_status request_queue_init(request_queue *queue, size_t limit);
void request_queue_finish(request_queue *queue);
void request_queue_push(request_queue *queue, kiln_request *request);
void request_queue_remove(request_queue *queue, kiln_request *request);
/* The first request in priority order, or NULL. */
kiln_request *request_queue_first(const request_queue *queue);
/* The next one after it. */
kiln_request *request_queue_next(const request_queue *queue, const kiln_request *request);
/* The request with the earliest deadline, or NULL. */
kiln_request *request_queue_earliest(const request_queue *queue);

/* --- contexts and their batches --- */

/* --- rows of a batch (batch_copy.c) --- */

/* Bytes of one row within one index of the dimensions before it, and the number of such indices. */
size_t row_bytes(const kiln_tensor_desc *desc, int32_t axis, size_t *outer);

/* Source or target of a copy of rows. */
typedef struct row_place {
    unsigned char *data; /* NULL: zeros */
    int64_t rows;        /* in the whole tensor */
    int64_t at;
} row_place;

void copy_rows(const kiln_tensor_desc *desc, int32_t axis, row_place to, row_place from,
               int64_t rows);

/* A request whose length is not that of the batch. */
typedef struct length_copy {
    kiln_dtype dtype;
    unsigned char *batch;
    const kiln_shape *whole;
    unsigned char *own;
    const kiln_shape *part;
    int32_t axis, length;       /* dimensions of the rows and of the varying length */
    int64_t row;                /* first of its rows */
    const unsigned char *value; /* the padding element; NULL: copy out of the batch */
} length_copy;

void copy_lengths(const length_copy *copy);

/* --- helper threads (crew.c) --- */

#define CREW_HELPERS 7                 /* maximum; also at most a quarter of the processors */
#define CREW_BYTES ((size_t)256 << 10) /* smallest tensor for which they are woken */

typedef struct helper_crew {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct crew_task *tasks;
    pthread_t threads[CREW_HELPERS];
    size_t count;
    bool started; /* by the first thread that needs them */
    bool ends;
} helper_crew;

void crew_init(helper_crew *crew);
/* Calls `part` for each index below `count`, in this thread and those of the crew, and returns when
 * all calls have. Several threads may call it. */
void crew_run(helper_crew *crew, void (*part)(void *user, size_t index), void *user, size_t count);
void crew_finish(helper_crew *crew);

struct engine_pool;

typedef struct seat {
    kiln_context *context;
    kiln_engine *engine;
    struct engine_pool *pool;
    size_t number; /* in its engine */
    int32_t device;
    int32_t profile; /* of its last batch; -1: none yet */
    bool busy;
    bool switched;           /* its batch uses another profile than the previous one */
    bool timed;              /* its batch is measured (joined_times) */
    uint64_t begun;          /* start time of its batch */
    int64_t filled;          /* rows of its batch, padding included */
    kiln_buffer **inputs;    /* host memory in which inputs are joined; grows as needed */
    kiln_buffer **rows;      /* device memory for inputs and outputs with large rows */
    kln_cuda_piece *pieces;  /* of these, as many as the most rows in a batch, and one more */
    bool unbound;            /* outputs did not have the expected form there */
    kiln_request **requests; /* of the batch, up to its most rows */
    size_t request_count;
    bool sends_ahead;         /* rows may be sent before the batch is complete */
    size_t ahead;             /* requests whose rows were sent ahead; in its batch until they are
                                 joined */
    bool warm;                /* in the current warmup */
    bool wanted;              /* by a warmup, before any batch */
    bool apart;               /* do not pad its batch: outputs could not be split */
    kiln_named_tensor *named; /* inputs, then outputs, of a run */
    uint64_t graph_hits, graph_misses; /* of its context, as last read */
} seat;

/* A moving average in nanoseconds. */
typedef struct mean_time {
    uint64_t mean;
    uint32_t count;
} mean_time;

#define JOINED_SIZES 8
#define JOINED_TIMES 8

/* Processor time that batches of 1, 2, 4, ... rows took in the thread that ran them, on the CPU,
 * where rows are computed one after the other and larger batches may fit a cache less well. For
 * each size, the minimum of the last few: other load on the machine only makes runs longer. */
typedef struct joined_times {
    uint64_t likeness; /* of the requests of the first batch, and of all that are measured */
    uint64_t batches;
    uint32_t quick; /* batches that are not measured, after a very short one */
    uint64_t took[JOINED_SIZES][JOINED_TIMES];
    uint32_t seen[JOINED_SIZES];
} joined_times;

/* The number of an engine's contexts that compute at once on a GPU, each on a stream; others queue
 * behind them and overlap their copies. Two fill an H200: ResNet-50 and BERT-base in float16 had
 * less throughput on four streams (bench/gpu_throughput.py). Context k uses stream k % LANES. */
#define LANES 2

/* The engines in use, which kiln_scheduler_replace replaces as a whole (engine_pool.c). */
typedef struct engine_pool {
    seat **seats;
    size_t count;
    size_t contexts;     /* of each engine, next to each other */
    kiln_stream **lanes; /* likewise; NULL if there is none */
    size_t lane_count;
    kiln_scheduler_engine_counters *counters; /* of each engine */
    batch_sizes sizes;
    mean_time runs[MOST_SIZES]; /* of each size */
    mean_time switching;        /* additional time of the first run in another profile */
    joined_times joined;
} engine_pool;

KILN_MUST_CHECK kiln_status engine_pool_make(const kiln_scheduler *scheduler,
                                             kiln_engine *const *engines, size_t count,
                                             engine_pool **pool);
/* NULL is allowed. */
void engine_pool_drop(const kiln_scheduler *scheduler, engine_pool *pool);
/* Whether a batch is running. With the lock. */
bool engine_pool_is_busy(const engine_pool *pool);

KILN_MUST_CHECK kiln_status seat_make(const kiln_scheduler *scheduler, engine_pool *pool,
                                      size_t number, kiln_engine *engine,
                                      const kiln_context_options *options, seat *made);
void seat_finish(const kiln_scheduler *scheduler, seat *gone);
/* The outcome of a batch, apart from those of its requests. */
typedef struct batch_outcome {
    uint64_t runs;
    int64_t padding;
    bool retried;         /* it failed, and each request ran again on its own */
    bool apart;           /* its outputs cannot be split */
    int64_t padded;       /* total padding of lengths */
    uint64_t copied, ran; /* nanoseconds */
    uint64_t processor;   /* processor time of the thread, if the batch is timed */
    uint64_t graph_hits, graph_misses;
} batch_outcome;

/* A batch: some of the requests of a seat. */
typedef struct batch {
    kiln_scheduler *scheduler;
    seat *at;
    kiln_request **requests;
    size_t count;
    int64_t rows;
    int64_t filled;      /* padding included */
    result_block *block; /* that the run wrote outputs to, or NULL */
    batch_outcome *outcome;
} batch;

bool batch_is_direct(const batch *one);
/* Whether the rows of input or output `tensor` (outputs follow inputs) are copied to or from a GPU
 * one by one. The same for all batches of a size, which therefore have one graph. */
bool batch_goes_by_rows(const batch *one, size_t tensor, const kiln_tensor_desc *desc);
/* Total rows of the first `count` requests. */
int64_t count_rows(kiln_request *const *requests, size_t count);
/* Makes `*buffer` large enough for the largest batch, so that its address stays; gives it as a
 * tensor. */
KILN_MUST_CHECK kiln_status batch_make_room(const batch *one, const kiln_tensor_desc *desc,
                                            kiln_location location, kiln_buffer **buffer,
                                            kiln_tensor *tensor);
/* Sets the seat's `named` to the inputs of the run; batch_inputs.c. */
KILN_MUST_CHECK kiln_status batch_join_inputs(batch *one);
/* Copies pinned inputs of a batch that is still being collected, in its order; with the lock. */
void batch_send_ahead(const batch *one);
/* Sets the outputs of the run; batch_outputs.c. */
KILN_MUST_CHECK kiln_status batch_prepare_outputs(batch *one);
/* After the run: checks that each output has the rows and lengths of the batch. Outputs are shown
 * in place, written to the caller's memory, or copied to a block of the request's own. */
KILN_MUST_CHECK kiln_status batch_give_outputs(batch *one);

/* Waits for rows that were sent ahead to the seat, and discards them. With the lock. */
void seat_forget_ahead(kiln_scheduler *scheduler, seat *at);
/* Runs the seat's batch, without the lock; sets the status of each request. */
void seat_run(kiln_scheduler *scheduler, seat *at, batch_outcome *outcome);

/* Runs every batch size, with batches made of repetitions of the request. */
KILN_MUST_CHECK kiln_status seat_warm_up(kiln_scheduler *scheduler, seat *at, kiln_request *request,
                                         uint64_t milliseconds);

/* --- choosing a batch by measurements (batch_choice.c); with the lock --- */

/* For the batch given to a free seat: how many of its requests run now, in which seat, and padded
 * to how many rows. NULL if it should wait until `*due` for a busy seat. */
seat *batch_choose(const kiln_scheduler *scheduler, seat *at, uint64_t now, uint64_t *due);
/* The number of rows that requests like this one are joined to at present. */
int64_t batch_join_rows(const kiln_scheduler *scheduler, const kiln_request *like);
/* Records the times of a batch. */
void batch_measure(const kiln_scheduler *scheduler, const seat *at, const batch_outcome *outcome);

/* A simulated clock. A scheduler with such a clock has no threads: its driver calls scheduler_take,
 * scheduler_finish and scheduler_expire as time advances. */
typedef struct played_clock {
    uint64_t (*now)(void *user);
    void *user;
} played_clock;

/* kiln_scheduler_create with a clock (NULL: the real one) that outlives the scheduler. */
KILN_MUST_CHECK kiln_status scheduler_create_with(kiln_engine *const *engines, size_t count,
                                                  const kiln_scheduler_options *options,
                                                  const played_clock *clock,
                                                  kiln_scheduler **scheduler);

/* A build whose engine will replace the ones in use (scheduler_follow.c). */
typedef struct build_follower {
    kiln_build *build; /* NULL: none, and no thread */
    pthread_t thread;
    kiln_replaced_function replaced;
    void *user;
    bool done;    /* its thread is about to end; with the lock */
    bool claimed; /* a caller is about to start one */
} build_follower;

/* Cancels it and waits for its thread. */
void scheduler_follow_end(kiln_scheduler *scheduler);

struct kiln_scheduler {
    atomic_size_t references; /* the owner's, and one for each request */
    schedule_rules rules;
    kiln_schedule schedule;
    uint64_t delay;
    kiln_context_options context_options;
    int32_t contexts;          /* of each engine; 0: by its device */
    const played_clock *clock; /* NULL: kln_now */
    unsigned forks;            /* kln_forks when it was created */
    block_list blocks;
    pthread_mutex_t lock;
    pthread_cond_t work;  /* work for a worker */
    pthread_cond_t timer; /* an earlier deadline for the keeper */
    pthread_cond_t rest;  /* a request was answered, or a seat became free */
    request_queue queue;
    kiln_request *free;      /* answered and released requests, for reuse */
    kiln_request *collected; /* for kiln_scheduler_next, a list with its end */
    kiln_request *collected_last;
    int event; /* -1: not requested */
    engine_pool *pool;
    kiln_request *sample; /* the request of its warmup, or NULL */
    uint64_t sample_milliseconds;
    bool replacing;
    build_follower follower;
    helper_crew crew;

    int64_t ahead_rows;   /* rows that waited when rows were last sent ahead of a batch */
    bool apart;           /* outputs turned out not to be splittable: no batching any more */
    bool has_leader;      /* a worker waits for a batch to fill, or for its delay to pass */
    atomic_bool closed;   /* accepts no more requests */
    atomic_size_t untold; /* answered requests whose callers have not been notified yet */
    bool ends;            /* the threads should end */
    pthread_t *workers;
    size_t worker_count;
    pthread_t keeper; /* watches deadlines */
    bool has_keeper;
    kiln_scheduler_counters counters;
    kiln_histogram *figures[FIGURES];
};

uint64_t scheduler_now(const kiln_scheduler *scheduler);
/* Moves waiting requests into the batch of a free seat, if it is due. Otherwise sets `*due` to the
 * time at which it will be, in nanoseconds of the clock, or UINT64_MAX. With the lock. */
seat *scheduler_take(kiln_scheduler *scheduler, uint64_t *due);
/* Sends rows of a batch ahead while it is still being collected. With the lock. */
void scheduler_send_ahead(kiln_scheduler *scheduler);
/* Removes a waiting request from the queue, to be answered. With the lock. */
void scheduler_withdraw(kiln_scheduler *scheduler, kiln_request *request);
/* Expires requests past their deadline; returns the next deadline, or UINT64_MAX. With the lock,
 * which it releases in between. */
uint64_t scheduler_expire(kiln_scheduler *scheduler);
/* Answers the requests of a batch. Without the lock. */
void scheduler_finish(kiln_scheduler *scheduler, seat *at, const batch_outcome *outcome);
/* Runs a batch and answers it. */
void scheduler_serve(kiln_scheduler *scheduler, seat *at);
/* Makes some thread look at the waiting requests. With the lock. */
void scheduler_wake(kiln_scheduler *scheduler);
/* Answers a request that is in no list any more; call request_tell next. With the lock. */
void scheduler_answer(kiln_scheduler *scheduler, kiln_request *request, kiln_request_state state,
                      kiln_status status, const char *sentence, uint64_t now);
/* Frees its memory once nobody holds it or its requests (scheduler_memory.c). */
void scheduler_release(kiln_scheduler *scheduler);

/* request_make in this process, from existing tensors. */
KILN_MUST_CHECK kiln_status scheduler_make_request(
    kiln_scheduler *scheduler, const char *function, const kiln_named_tensor *inputs,
    size_t input_count, const kiln_named_tensor *outputs, size_t output_count,
    const kiln_request_options *options, kiln_request **request);

/* --- engines (scheduler_engines.c) --- */

KILN_MUST_CHECK kiln_status scheduler_check_engines(const char *function,
                                                    kiln_engine *const *engines, size_t count);
/* Starts workers until there are this many. */
KILN_MUST_CHECK kiln_status scheduler_start_threads(kiln_scheduler *scheduler, size_t count);

/* The bodies of its threads. */
void *scheduler_worker(void *user);
void *scheduler_keeper(void *user);

#endif
