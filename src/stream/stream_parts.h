/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the files of this module.
 *
 * `lock` guards the queue, the counters and the visible state of a sequence. The thread that runs a
 * step (`stepping`) owns the batch, the cache and the contexts, without the lock. */
#ifndef KLN_STREAM_PARTS_H
#define KLN_STREAM_PARTS_H

#include <stdatomic.h>

#include <kiln/plan.h>
#include <kiln/stream.h>

#include "base/kln_base.h"
#include "cuda/kln_cuda.h"
#include "engine/kln_engine.h"
#include "tensor/kln_tensor.h"

/* --- the parts of a model (stream_model.c) --- */

/* The role of an input or output of one of the engines. */
typedef enum stream_role {
    ROLE_NONE,      /* an unused output */
    ROLE_TOKENS,    /* batch x length */
    ROLE_MASK,      /* batch x (past + length) */
    ROLE_POSITIONS, /* batch x length */
    ROLE_COLUMNS,   /* length: the cache columns that a run writes */
    ROLE_BRANCH,    /* whether there is a past */
    ROLE_PAST,      /* `index` of a pair, as for the next three roles */
    ROLE_PRESENT,
    ROLE_KEPT,  /* `index` of a kept tensor: an input that reads it, or an output that makes it */
    ROLE_GIVEN, /* `index` of a tensor that a sequence provides, for the encoder */
    ROLE_LOGITS,
    ROLE_TOP_TOKENS, /* batch x candidates: the largest logits, from a prepared model */
    ROLE_TOP_LOGITS
} stream_role;

typedef struct stream_end {
    stream_role role;
    size_t index;
    kiln_binding binding;
} stream_end;

/* Limits of a run of an engine. */
typedef struct stream_limits {
    int32_t profile; /* -1: no profile to choose */
    int64_t least_rows, most_rows;
    int64_t least_tokens, most_tokens; /* in a row */
    int64_t least_past, most_past;
    int64_t best_past; /* past that the profile is optimized for */
} stream_limits;

/* One of the engines, and the roles of its inputs and outputs. */
typedef struct stream_part {
    kiln_engine *engine;
    kiln_context *context; /* NULL for steps, which have their own */
    stream_end *ends;      /* inputs, then outputs */
    size_t input_count, count;
    stream_limits limits;
    bool last_only;       /* logits are those of the last position only */
    size_t candidates;    /* logits that a prepared model outputs for each row; 0: none */
    bool wide_candidates; /* int64, not int32 */
} stream_part;

/* The location of a run's logits. */
typedef struct stream_logits {
    const stream_part *part;
    const unsigned char *first; /* of row 0, in host memory; NULL: in the buffer `logits` */
    size_t step;                /* bytes from one row to the next */
    size_t skipped;             /* bytes in the buffer before row 0 */
} stream_logits;

/* What a context for steps has bound, which no prefill changes. */
typedef struct stream_bound {
    int64_t rows, past, mask_width; /* rows 0: unknown */
    size_t side;                    /* of the cache */
    stream_logits shown;
} stream_bound;

/* Steps that run with one of the profiles that accept them. */
typedef struct stream_step {
    stream_limits limits;
    kiln_context *context;
    stream_bound bound;
} stream_step;

/* A key or value: rows x outer x columns x inner. */
typedef struct stream_pair {
    const char *past, *present;
    kiln_dtype dtype;
    kiln_shape shape; /* of the past, in the engine */
    int32_t axis;     /* of the columns */
    size_t outer;     /* elements between rows and columns */
    size_t inner;     /* bytes of one column */
    size_t offset;    /* in a side of the cache, in bytes */
    size_t fresh;     /* offset in the memory of new columns */
    size_t before;    /* bytes of one column of one row in all earlier pairs */
} stream_pair;

/* The source of a kept tensor. */
typedef enum stream_source {
    SOURCE_SEQUENCE, /* the sequence: `index` of a given tensor */
    SOURCE_ENCODER,  /* an output of the encoder */
    SOURCE_PREFILL   /* an output of the first run */
} stream_source;

/* A tensor that stays constant while its sequences run; its first dimension is the rows. */
typedef struct stream_kept {
    const char *name; /* of the input that reads it */
    const char *from; /* name of the output or given tensor that it comes from */
    stream_source source;
    size_t index;
    kiln_dtype dtype;
    kiln_shape asked; /* in the engine */
    kiln_shape shape; /* for the group that runs */
    size_t row_bytes;
    bool bound; /* bound before the run that makes it */
    kiln_buffer *memory;
} stream_kept;

typedef struct stream_model {
    kln_arena arena;
    stream_part encoder, prefill, decode; /* engine NULL: none; prefill may be decode */
    stream_step *steps; /* for each useful profile of `decode`, the longest past first */
    size_t step_count;
    stream_pair *pairs;
    size_t pair_count;
    stream_kept *kept;
    size_t kept_count;
    size_t kept_pairs;   /* those of the pairs that a prefill makes */
    kiln_binding *given; /* inputs that a sequence has to provide */
    size_t given_count;
    kiln_cache_layout layout;
    bool ragged;
    kiln_dtype logits_dtype;
    int64_t vocabulary;
    int64_t max_batch, max_length, max_prompt;
    int64_t most_columns; /* of the cache */
    int32_t device;       /* -1: the CPU */
} stream_model;

KILN_MUST_CHECK kiln_status stream_model_make(kiln_engine *engine,
                                              const kiln_generator_options *options,
                                              stream_model *model);
void stream_model_finish(stream_model *model);

/* Inputs and outputs of one engine (stream_ends.c). */
KILN_MUST_CHECK kiln_status stream_open_part(stream_model *model, kiln_engine *engine,
                                             stream_part *part);
bool stream_has_role(const stream_part *part, stream_role role);
/* The input or output of that name, or NULL. */
stream_end *stream_find_end(const stream_part *part, bool input, const char *name);
/* A name given by the caller must exist; otherwise finds the first of the usual names, if any. */
KILN_MUST_CHECK kiln_status stream_find_usual(const stream_part *part, bool input,
                                              const char *stated, const char *const *usual,
                                              stream_end **found);
KILN_MUST_CHECK kiln_status stream_find_usual_inputs(const stream_part *part,
                                                     const kiln_generator_options *options);

/* Pairs and kept tensors (stream_pairs.c). */
KILN_MUST_CHECK kiln_status stream_add_given(stream_model *model, const kiln_binding *binding,
                                             size_t *index);
/* If no input has the name of a past: pairs by order, if each pair matches in type and shape. */
KILN_MUST_CHECK kiln_status stream_pair_by_shape(stream_model *model,
                                                 kiln_generator_options *options);
KILN_MUST_CHECK kiln_status stream_check_stated_pairs(const stream_model *model,
                                                      const kiln_generator_options *options);
/* Inputs of a part that have no role yet. */
KILN_MUST_CHECK kiln_status stream_find_other_inputs(stream_model *model, stream_part *part,
                                                     const kiln_generator_options *options);
/* Sets the pair, or kept tensor, that each end belongs to. */
void stream_index_ends(const stream_model *model, stream_part *part);

/* Finds the limits of a part's runs (stream_limits.c). */
KILN_MUST_CHECK kiln_status stream_find_limits(stream_model *model,
                                               const kiln_generator_options *options);
KILN_MUST_CHECK kiln_status stream_find_layout(stream_model *model,
                                               const kiln_generator_options *options);
/* The least width of a past, with at least this many columns, that steps accept. */
int64_t stream_width_taken(const stream_model *model, int64_t columns);
/* The step for a past of this width: the one whose profile is optimized for the nearest width. */
stream_step *stream_step_for(const stream_model *model, int64_t width);

/* Whether a sequence's tensor matches the required input. */
KILN_MUST_CHECK kiln_status stream_check_given(const kiln_binding *given,
                                               const kiln_tensor *tensor);

/* Names that kiln_network_prepare_stream gives, by which its models are recognized. */
#define STREAM_NEW_PREFIX "new."
#define STREAM_TOP_TOKENS "top_tokens"
#define STREAM_TOP_LOGITS "top_logits"
#define STREAM_MOST_CANDIDATES 256

/* Adds the `count` largest of `logits` as outputs of those names (stream_candidates.c). */
KILN_MUST_CHECK kiln_status stream_add_candidates(kiln_network *network, const char *logits,
                                                  int64_t count);

/* --- the cache of keys and values (stream_cache.c) --- */

/* Two sides alternate. The columns of every row end at `head`, so shorter rows begin later. The
 * columns before a row's first one hold arbitrary finite numbers and are masked. */
typedef struct stream_cache {
    kiln_buffer *sides[2]; /* only one if it is preallocated */
    kiln_buffer *fresh;    /* KILN_CACHE_NEW: the new columns of a step */
    kiln_buffer *scratch;  /* for a prefill, if there is only one side */
    kln_cuda_rows *pieces; /* of a copy, one for each pair */
    size_t current;        /* current side */
    int64_t head;          /* columns before this one are in use */
    int64_t width;         /* of the tensors bound as past */
    int64_t most_width;
    int64_t wasted; /* unused columns that steps have processed since the last move */
    uint64_t moved; /* total bytes moved */
} stream_cache;

KILN_MUST_CHECK kiln_status stream_cache_make(kiln_generator *self, bool preallocate);
void stream_cache_finish(kiln_generator *self);
/* Pair `index` as the past of a run, with this many rows and columns. */
kiln_tensor stream_cache_past(const kiln_generator *self, size_t index, int64_t rows,
                              int64_t columns);
/* Where a run of this many tokens puts its present, after `past` columns. */
KILN_MUST_CHECK kiln_status stream_cache_present(kiln_generator *self, size_t index, int64_t rows,
                                                 int64_t tokens, int64_t past, bool prefill,
                                                 kiln_tensor *tensor);
/* Before a prefill of prompts up to this length: makes existing rows end at it, or later. */
KILN_MUST_CHECK kiln_status stream_cache_reach(kiln_generator *self, int64_t length);
/* The result of a prefill of `rows` rows: row `from` of it becomes row `to`. */
typedef struct stream_made {
    int64_t rows, tokens, past;
} stream_made;
KILN_MUST_CHECK kiln_status stream_cache_place(kiln_generator *self, const stream_made *made,
                                               int64_t from, int64_t length, int64_t to);
/* While no row is in use, makes all of the result the cache. */
KILN_MUST_CHECK kiln_status stream_cache_adopt(kiln_generator *self, const stream_made *made);
/* Moves row `from` to row `to`, in kept tensors too. */
KILN_MUST_CHECK kiln_status stream_cache_move(kiln_generator *self, int64_t from, int64_t to);
/* Before a step: makes room for one more column, and removes columns that are no longer used. */
KILN_MUST_CHECK kiln_status stream_cache_make_room(kiln_generator *self);
/* After a step. */
KILN_MUST_CHECK kiln_status stream_cache_advance(kiln_generator *self, int64_t rows);
/* Zeros all unused rows, after values that were not numbers: these would spoil later rows. */
KILN_MUST_CHECK kiln_status stream_cache_clear(kiln_generator *self);

/* --- sampling (sampler.c) --- */

/* Working memory for one row. */
typedef struct sampler {
    float *scores;                /* of each token */
    struct candidate *candidates; /* considered tokens, ordered once they are sorted */
    double *weights;
    uint32_t *seen; /* the stamp with which each token was last seen */
    uint32_t stamp;
    size_t vocabulary;
} sampler;

typedef struct candidate {
    float score;
    uint32_t token;
} candidate;

KILN_MUST_CHECK kiln_status sampler_make(size_t vocabulary, sampler *made);
void sampler_finish(sampler *gone);
KILN_MUST_CHECK kiln_status sampler_check(const kiln_sampling *sampling);
/* Converts a row of logits, of float32, float16 or bfloat16, to scores (sampler_load.c). */
void sampler_load(sampler *self, kiln_dtype dtype, const void *logits);
/* Chooses from `self->scores`, which it changes. */
KILN_MUST_CHECK kiln_status sampler_choose(sampler *self, const int64_t *tokens, size_t token_count,
                                           const kiln_sampling *sampling, uint64_t index,
                                           int64_t *token);
/* Chooses from the `count` largest logits only, in descending order; false if they do not
 * suffice. */
bool sampler_choose_of(sampler *self, const candidate *largest, size_t count, const int64_t *tokens,
                       size_t token_count, const kiln_sampling *sampling, uint64_t index,
                       int64_t *token);

/* --- sequences (sequence.c, stop_strings.c) --- */

/* The text so far, and the strings that end it. */
typedef struct stop_strings {
    const char **strings;
    size_t count;
    size_t longest;
} stop_strings;

/* How much of the text is certain after `size` bytes, of which the last `added` are new. `*found`:
 * the text ends there. */
size_t stop_strings_look(const stop_strings *stops, const char *text, size_t size, size_t added,
                         bool *found);

typedef enum sequence_state { SEQUENCE_WAITING, SEQUENCE_RUNNING, SEQUENCE_ENDED } sequence_state;

struct kiln_sequence {
    kiln_sequence *next; /* in the queue */
    kiln_generator *generator;
    atomic_int references; /* the caller's, and the generator's until the sequence has ended */
    kln_arena arena;
    sequence_state state;
    atomic_bool cancelled; /* while it runs */
    kiln_sequence_options options;
    kiln_sampling sampling;
    int64_t *tokens; /* the prompt, then the generated tokens */
    size_t prompt_count, count, most;
    size_t *ends; /* end of the certain text after each generated token */
    stop_strings stops;
    kln_text text;
    size_t certain; /* bytes of certain text */
    size_t read;    /* generated tokens that kiln_sequence_next has given */
    bool read_end;
    bool adds_end; /* it ended without another token */
    kln_text shown;
    kiln_named_tensor *inputs; /* in the order of the model's `given` */
    kiln_finish finish;
    kiln_status status;
    char sentence[KLN_MESSAGE_SIZE / 2];
};

KILN_MUST_CHECK kiln_status sequence_make(kiln_generator *generator, const int64_t *prompt,
                                          size_t count, const kiln_sequence_options *options,
                                          kiln_sequence **sequence);
/* Without the lock. */
void sequence_release(kiln_sequence *sequence);
/* Adds and reports a token; false: the sequence has ended with it, and may be gone. Without the
 * lock. */
bool sequence_add(kiln_sequence *sequence, int64_t token);
/* Ends the sequence without another token. Without the lock. */
void sequence_end(kiln_sequence *sequence, kiln_finish how, kiln_status status,
                  const char *sentence);

/* --- grouping prompts into runs (prompt_groups.c) --- */

/* The least time of runs, in nanoseconds; 0: not measured. */
typedef struct prompt_pace {
    double step;
    double token; /* of a prompt token or padding, in addition to a step */
} prompt_pace;

/* For the sequences from this one on: where the next run begins, and the total cost in tokens. */
typedef struct prompt_cut {
    int64_t next;
    double cost;
} prompt_cut;

/* Sorts by length, the longest prompt first. */
void prompt_groups_sort(kiln_sequence **group, int64_t count);
/* Records the time of a run with this many tokens, or of a step if that is 0. */
void prompt_groups_note(prompt_pace *pace, int64_t prompt_tokens, uint64_t nanoseconds);
/* Fills in `cuts`, one more than there are sequences: `cuts[i].next` is the end of the run that
 * begins with sequence i. The plan minimizes the total time according to the measurements; without
 * measurements, as many as fit, `most`, run together. The group is sorted. */
void prompt_groups_plan(const prompt_pace *pace, const stream_limits *limits,
                        kiln_sequence *const *group, int64_t count, int64_t most, prompt_cut *cuts);

/* --- the generator --- */

/* The contents of the mask, so that a step writes only what is new. */
typedef struct stream_masked_row {
    int64_t first, end, also; /* first < 0: unknown */
} stream_masked_row;

typedef struct stream_masked {
    const stream_part *part;
    int64_t width;
    stream_masked_row *rows;
} stream_masked;

struct kiln_generator {
    atomic_size_t references; /* the owner's, and one for each sequence */
    stream_model model;
    stream_cache cache;
    sampler sampler;
    kiln_stream *stream; /* for all its work; NULL on the CPU */
    unsigned forks;
    /* The batch: rows below `row_count` have a sequence, or NULL for a moment. */
    kiln_sequence **rows;
    int64_t *lengths; /* columns of each row */
    int64_t row_count;
    kiln_sequence **group; /* sequences that join */
    prompt_cut *cuts;      /* for the group, and one more */
    prompt_pace pace;
    kiln_buffer *tokens, *mask, *positions, *columns, *branch; /* inputs of a run */
    stream_masked masked;
    kiln_buffer *logits, *last; /* outputs of runs, and the logits to sample from */
    kiln_buffer *top_tokens, *top_logits;
    kiln_buffer **given; /* inputs of the encoder */
    uint64_t logits_bytes;
    pthread_mutex_t lock;
    pthread_cond_t work; /* for the thread */
    pthread_cond_t news; /* a sequence has another token, or has ended; a step is over */
    kiln_sequence *first, *last_waiting;
    size_t waiting_limit;
    bool stepping, closed, ends, has_thread;
    bool poisoned;       /* a row of the last run was not numbers */
    stream_logits shown; /* of the last run */
    pthread_t thread;
    kiln_generator_counters counters;
};

/* Runs a step, in the thread that is `stepping` (generator_step.c). */
void generator_make_step(kiln_generator *self);
/* Waits for news until `until` (kln_now), or runs steps. With the lock; false: too late. */
bool generator_wait(kiln_generator *self, uint64_t until);
void generator_release(kiln_generator *self);
/* Makes `*buffer` at least this large. */
KILN_MUST_CHECK kiln_status generator_grow(kiln_generator *self, kiln_buffer **buffer,
                                           kiln_location location, size_t bytes);

/* --- runs (stream_run.c) --- */

/* Both leave the logits of each row for stream_run_choose. */
KILN_MUST_CHECK kiln_status stream_run_prefill(kiln_generator *self, kiln_sequence *const *group,
                                               int64_t count, stream_made *made);
KILN_MUST_CHECK kiln_status stream_run_decode(kiln_generator *self);
/* How many prompts up to this length fit into one prefill; at least 1. */
int64_t stream_run_fits(const kiln_generator *self, int64_t tokens);
/* Samples the token of row `row` of the last run. */
KILN_MUST_CHECK kiln_status stream_run_choose(kiln_generator *self, int64_t row,
                                              const kiln_sequence *sequence, int64_t *token);

/* --- kept tensors (stream_encoder.c) --- */

/* Runs the encoder on the given tensors of the sequences, for rows from the first free one on. */
KILN_MUST_CHECK kiln_status stream_encode(kiln_generator *self, kiln_sequence *const *group,
                                          int64_t count, int64_t rows);
/* Binds the outputs for kept tensors of a run of the encoder, or of a prefill; in the context's
 * memory if the shape is not known yet. */
KILN_MUST_CHECK kiln_status stream_bind_kept(kiln_generator *self, const stream_part *part,
                                             const stream_end *end, const kiln_sequence *sequence,
                                             int64_t rows);
/* Copies them from there after the run. */
KILN_MUST_CHECK kiln_status stream_keep(kiln_generator *self, const stream_part *part,
                                        int64_t rows);
/* Binds an input that this run does not read. */
KILN_MUST_CHECK kiln_status stream_bind_nothing(const stream_part *part, const stream_end *end,
                                                int64_t rows);
/* Whether two sequences may begin together. */
bool stream_alike(const kiln_generator *self, const kiln_sequence *a, const kiln_sequence *b);

#endif
