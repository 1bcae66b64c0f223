/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this module share.
 *
 * `lock` guards everything of a scheduler but its rules, which never change, and the blocks. A
 * request that waits or runs is the scheduler's to change, under the lock; an answered one changes
 * no more. */
#ifndef KLN_SCHEDULER_PARTS_H
#define KLN_SCHEDULER_PARTS_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

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

typedef struct schedule_rules {
    kln_arena arena;
    kiln_binding *inputs; /* copies in the arena, with their names */
    kiln_binding *outputs;
    bool *follows; /* outputs that surely have the rows of the inputs */
    size_t input_count;
    size_t output_count;
    int32_t device;            /* of the first engine, -1: the CPU */
    int32_t axis;              /* along which requests are joined, -1: they are not */
    bool fixed;                /* the engine takes batches of one size alone */
    int64_t max_rows;          /* of a batch; 1 where they are not joined */
    int64_t sizes[MOST_SIZES]; /* that a batch may have, rising */
    size_t size_count;         /* 0: any */
} schedule_rules;

KILN_MUST_CHECK kiln_status schedule_rules_make(kiln_engine *const *engines, size_t count,
                                                const kiln_scheduler_options *options,
                                                schedule_rules *rules);
/* INVALID_ARGUMENT where the engine's inputs and outputs are others, or its profile has no room for
 * the rows. */
KILN_MUST_CHECK kiln_status schedule_rules_check(const schedule_rules *rules,
                                                 const kiln_engine *engine);
/* The rows that a batch of so many has when it is filled up. */
int64_t schedule_rules_fill_up(const schedule_rules *rules, int64_t rows);

/* --- memory of results (result_block.c) --- */

/* Counted by the requests that show a part of it. */
typedef struct result_block {
    struct result_block *next;
    atomic_size_t references;
    size_t kind; /* 2 to the power of this bytes */
    unsigned char *memory;
} result_block;

typedef struct block_list {
    pthread_mutex_t lock;
    result_block *free[BLOCK_CLASSES];
} block_list;

/* With one reference, or NULL where memory is short. */
result_block *result_block_take(block_list *list, size_t bytes);
void result_block_release(block_list *list, result_block *block);
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
    bool rings;            /* the scheduler's event, when it is told */
    int64_t rows;
    uint64_t likeness; /* of requests that may share a batch; equal for equal ones */
    uint64_t submitted;
    uint64_t begun;
    size_t place; /* in the heap of deadlines */
    kiln_tensor *inputs;
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

typedef struct seat {
    kiln_context *context;
    kiln_engine *engine;
    int32_t device;
    bool busy;
    kiln_buffer **inputs;    /* memory where inputs are joined, each grows */
    kiln_request **requests; /* of the batch, as many as a batch may have rows */
    size_t request_count;
    bool warm;                /* in the warmup under way */
    bool wanted;              /* by a warmup, before any batch */
    bool apart;               /* its batch is not filled up: outputs could not be taken apart */
    kiln_named_tensor *named; /* inputs, then outputs, for a run */
} seat;

KILN_MUST_CHECK kiln_status seat_make(const kiln_scheduler *scheduler, kiln_engine *engine,
                                      seat *made);
void seat_finish(const kiln_scheduler *scheduler, seat *gone);
/* What came of a batch beside its requests' own. */
typedef struct batch_outcome {
    uint64_t runs;
    int64_t padding;
    bool retried;         /* it failed, and each request ran again by itself */
    bool apart;           /* its outputs cannot be taken apart */
    uint64_t copied, ran; /* nanoseconds */
} batch_outcome;

/* Runs what the seat has, without the lock; each request gets its status. */
void seat_run(kiln_scheduler *scheduler, seat *at, batch_outcome *outcome);

/* Runs every size of a batch, made of the request again and again. */
KILN_MUST_CHECK kiln_status seat_warm_up(kiln_scheduler *scheduler, seat *at, kiln_request *request,
                                         uint64_t milliseconds);

struct kiln_scheduler {
    atomic_size_t references; /* the owner's, and one of each request */
    schedule_rules rules;
    kiln_schedule schedule;
    uint64_t delay;
    kiln_context_options context_options;
    size_t contexts; /* of an engine */
    unsigned forks;  /* kln_forks when it was made */
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
    seat **seats;
    size_t seat_count;
    bool replacing;
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

/* STATE in a process that was forked from that where the scheduler was made. */
KILN_MUST_CHECK kiln_status scheduler_check_process(const kiln_scheduler *scheduler,
                                                    const char *function);
/* Takes what waits into the batch of a free seat, if it is due; else when it will be, in
 * nanoseconds of the clock, or UINT64_MAX, goes to `*due`. With the lock. */
seat *scheduler_take(kiln_scheduler *scheduler, uint64_t *due);
/* Runs a batch and answers it. Without the lock. */
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
/* As many contexts as there are to be of each engine, those of one engine beside each other. */
KILN_MUST_CHECK kiln_status scheduler_make_seats(const kiln_scheduler *scheduler,
                                                 kiln_engine *const *engines, size_t count,
                                                 seat ***seats);
void scheduler_drop_seats(const kiln_scheduler *scheduler, seat **seats, size_t count);
/* So many workers, if there are fewer. */
KILN_MUST_CHECK kiln_status scheduler_start_threads(kiln_scheduler *scheduler, size_t count);

/* The bodies of its threads. */
void *scheduler_worker(void *user);
void *scheduler_keeper(void *user);

#endif
