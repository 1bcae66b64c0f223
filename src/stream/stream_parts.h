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

/* --- what a model is made of (stream_model.c) --- */

/* Of an input or output of one of the engines. */
typedef enum stream_role {
    ROLE_NONE,      /* an output that nobody needs */
    ROLE_TOKENS,    /* batch, length */
    ROLE_MASK,      /* batch, past and length */
    ROLE_POSITIONS, /* batch, length */
    ROLE_COLUMNS,   /* length: where in the cache a run writes */
    ROLE_BRANCH,    /* whether there is a past */
    ROLE_PAST,      /* `index` of a pair, and so the three below */
    ROLE_PRESENT,
    ROLE_KEPT,  /* `index` of what is kept: an input that reads it, or an output that makes it */
    ROLE_GIVEN, /* `index` of what a sequence brings along, for the encoder */
    ROLE_LOGITS,
    ROLE_TOP_TOKENS, /* batch, candidates: the largest logits, by a model that was prepared */
    ROLE_TOP_LOGITS
} stream_role;

typedef struct stream_end {
    stream_role role;
    size_t index;
    kiln_binding binding;
} stream_end;

/* What a run of an engine may have. */
typedef struct stream_limits {
    int32_t profile; /* -1: none to choose */
    int64_t least_rows, most_rows;
    int64_t least_tokens, most_tokens; /* of a row */
    int64_t least_past, most_past;
    int64_t best_past; /* that the profile is made for */
} stream_limits;

/* One of the engines, and what its inputs and outputs are for. */
typedef struct stream_part {
    kiln_engine *engine;
    kiln_context *context; /* NULL: of steps, which have their own */
    stream_end *ends;      /* inputs, then outputs */
    size_t input_count, count;
    stream_limits limits;
    bool last_only;       /* logits are of the last position alone */
    size_t candidates;    /* that a prepared model puts out for each row; 0: none */
    bool wide_candidates; /* as int64, not int32 */
} stream_part;

/* Where the logits of a run are. */
typedef struct stream_logits {
    const stream_part *part;
    const unsigned char *first; /* of row 0, in memory of the host; NULL: in the buffer `logits` */
    size_t step;                /* from row to row, in bytes */
    size_t skipped;             /* before row 0's in the buffer */
} stream_logits;

/* What a context of steps has bound, which no prefill changes. */
typedef struct stream_bound {
    int64_t rows, past, mask_width; /* rows 0: anything */
    size_t side;                    /* of the cache */
    stream_logits shown;
} stream_bound;

/* Steps by one of the profiles that take them. */
typedef struct stream_step {
    stream_limits limits;
    kiln_context *context;
    stream_bound bound;
} stream_step;

/* A key or value: rows x outer x columns x inner. */
typedef struct stream_pair {
    const char *past, *present;
    kiln_dtype dtype;
    kiln_shape shape; /* of the past, as the engine has it */
    int32_t axis;     /* of the columns */
    size_t outer;     /* elements between rows and columns */
    size_t inner;     /* bytes of one column */
    size_t offset;    /* in a side of the cache, in bytes */
    size_t fresh;     /* in the memory of new columns */
    size_t before;    /* bytes of one column of one row in the pairs before it */
} stream_pair;

/* Where what is kept comes from. */
typedef enum stream_source {
    SOURCE_SEQUENCE, /* it brings it along: `index` of what is given */
    SOURCE_ENCODER,  /* an output of the encoder */
    SOURCE_PREFILL   /* an output of the first run */
} stream_source;

/* A tensor that stays as it is while its sequences run; its first dimension is the rows. */
typedef struct stream_kept {
    const char *name; /* of the input that reads it */
    const char *from; /* of the output, or of what is given */
    stream_source source;
    size_t index;
    kiln_dtype dtype;
    kiln_shape asked; /* as the engine has it */
    kiln_shape shape; /* of the group that runs */
    size_t row_bytes;
    bool bound; /* before the run that makes it */
    kiln_buffer *memory;
} stream_kept;

typedef struct stream_model {
    kln_arena arena;
    stream_part encoder, prefill, decode; /* engine NULL: there is none; prefill may be decode */
    stream_step *steps; /* by each profile of `decode` that is of use, the longest past first */
    size_t step_count;
    stream_pair *pairs;
    size_t pair_count;
    stream_kept *kept;
    size_t kept_count;
    size_t kept_pairs;   /* of those, that a prefill makes */
    kiln_binding *given; /* inputs that a sequence has to bring */
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
/* One that the caller names has to be there; else the first of the usual names, if any. */
KILN_MUST_CHECK kiln_status stream_find_usual(const stream_part *part, bool input,
                                              const char *stated, const char *const *usual,
                                              stream_end **found);
KILN_MUST_CHECK kiln_status stream_find_usual_inputs(const stream_part *part,
                                                     const kiln_generator_options *options);

/* Pairs, and what is kept (stream_pairs.c). */
KILN_MUST_CHECK kiln_status stream_add_given(stream_model *model, const kiln_binding *binding,
                                             size_t *index);
/* Where no input has the name of a past: pairs by their order, if each fits in type and shape. */
KILN_MUST_CHECK kiln_status stream_pair_by_shape(stream_model *model,
                                                 kiln_generator_options *options);
KILN_MUST_CHECK kiln_status stream_check_stated_pairs(const stream_model *model,
                                                      const kiln_generator_options *options);
/* Inputs of a part that nothing was found for yet. */
KILN_MUST_CHECK kiln_status stream_find_other_inputs(stream_model *model, stream_part *part,
                                                     const kiln_generator_options *options);
/* Which pair, or what is kept, an end belongs to. */
void stream_index_ends(const stream_model *model, stream_part *part);

/* What runs of a part may have (stream_limits.c). */
KILN_MUST_CHECK kiln_status stream_find_limits(stream_model *model,
                                               const kiln_generator_options *options);
KILN_MUST_CHECK kiln_status stream_find_layout(stream_model *model,
                                               const kiln_generator_options *options);
/* The least width of a past, of so many columns at least, that steps take. */
int64_t stream_width_taken(const stream_model *model, int64_t columns);
/* What steps with a past of this width run by: the profile that is made for the nearest. */
stream_step *stream_step_for(const stream_model *model, int64_t width);

/* Whether a sequence's tensor fits what is asked for. */
KILN_MUST_CHECK kiln_status stream_check_given(const kiln_binding *given,
                                               const kiln_tensor *tensor);

/* Names that kiln_network_prepare_stream gives, by which its models are known. */
#define STREAM_NEW_PREFIX "new."
#define STREAM_TOP_TOKENS "top_tokens"
#define STREAM_TOP_LOGITS "top_logits"
#define STREAM_MOST_CANDIDATES 256

/* The `count` largest of `logits`, as outputs of those names (stream_candidates.c). */
KILN_MUST_CHECK kiln_status stream_add_candidates(kiln_network *network, const char *logits,
                                                  int64_t count);

/* --- keys and values (stream_cache.c) --- */

/* Two sides take turns. The columns of a row end at `head`, whatever it has: rows that are shorter
 * begin later. A row's columns before its first are any finite numbers, and masked. */
typedef struct stream_cache {
    kiln_buffer *sides[2]; /* one alone where it is preallocated */
    kiln_buffer *fresh;    /* KILN_CACHE_NEW: what a step has made */
    kiln_buffer *scratch;  /* of a prefill, where there is one side alone */
    kln_cuda_rows *pieces; /* of a copy, one for each pair */
    size_t current;        /* side */
    int64_t head;          /* columns up to here are in use */
    int64_t width;         /* of the tensors that are bound as past */
    int64_t most_width;
    int64_t wasted; /* columns that steps went through in vain since they were moved last */
    uint64_t moved; /* bytes, so far */
} stream_cache;

KILN_MUST_CHECK kiln_status stream_cache_make(kiln_generator *self, bool preallocate);
void stream_cache_finish(kiln_generator *self);
/* Pair `index` as a run reads it: so many rows and columns. */
kiln_tensor stream_cache_past(const kiln_generator *self, size_t index, int64_t rows,
                              int64_t columns);
/* Where a run of so many tokens puts it, behind `past` columns. */
KILN_MUST_CHECK kiln_status stream_cache_present(kiln_generator *self, size_t index, int64_t rows,
                                                 int64_t tokens, int64_t past, bool prefill,
                                                 kiln_tensor *tensor);
/* Before a prefill of prompts up to this length: rows that are there end at it, at least. */
KILN_MUST_CHECK kiln_status stream_cache_reach(kiln_generator *self, int64_t length);
/* What a prefill has made, of `rows` rows: row `from` of it becomes row `to`. */
typedef struct stream_made {
    int64_t rows, tokens, past;
} stream_made;
KILN_MUST_CHECK kiln_status stream_cache_place(kiln_generator *self, const stream_made *made,
                                               int64_t from, int64_t length, int64_t to);
/* Or, while no row is in use, all of it is the cache. */
KILN_MUST_CHECK kiln_status stream_cache_adopt(kiln_generator *self, const stream_made *made);
/* Row `from` becomes row `to`, also in what is kept. */
KILN_MUST_CHECK kiln_status stream_cache_move(kiln_generator *self, int64_t from, int64_t to);
/* Before a step: room for one more column, and none that are long of no use. */
KILN_MUST_CHECK kiln_status stream_cache_make_room(kiln_generator *self);
/* After it. */
KILN_MUST_CHECK kiln_status stream_cache_advance(kiln_generator *self, int64_t rows);
/* Zeros wherever no row is, after values that were no numbers: they would spoil what comes there.
 */
KILN_MUST_CHECK kiln_status stream_cache_clear(kiln_generator *self);

/* --- choosing (sampler.c) --- */

/* Memory for one row. */
typedef struct sampler {
    float *scores;                /* of each token */
    struct candidate *candidates; /* that are looked at, in order once they are sorted */
    double *weights;
    uint32_t *seen; /* the last stamp that a token was seen with */
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
/* A row of logits, of float32, float16 or bfloat16, becomes the scores (sampler_load.c). */
void sampler_load(sampler *self, kiln_dtype dtype, const void *logits);
/* Of `self->scores`, which it changes. */
KILN_MUST_CHECK kiln_status sampler_choose(sampler *self, const int64_t *tokens, size_t token_count,
                                           const kiln_sampling *sampling, uint64_t index,
                                           int64_t *token);
/* Of the `count` largest logits alone, in falling order: false where those do not tell. */
bool sampler_choose_of(sampler *self, const candidate *largest, size_t count, const int64_t *tokens,
                       size_t token_count, const kiln_sampling *sampling, uint64_t index,
                       int64_t *token);

/* --- sequences (sequence.c, stop_strings.c) --- */

/* Text as it grows, and what ends it. */
typedef struct stop_strings {
    const char **strings;
    size_t count;
    size_t longest;
} stop_strings;

/* How much of the text is certain after `size` bytes, of which the last `added` are new; `*found`:
 * it ends there. */
size_t stop_strings_look(const stop_strings *stops, const char *text, size_t size, size_t added,
                         bool *found);

typedef enum sequence_state { SEQUENCE_WAITING, SEQUENCE_RUNNING, SEQUENCE_ENDED } sequence_state;

struct kiln_sequence {
    kiln_sequence *next; /* that waits */
    kiln_generator *generator;
    atomic_int references; /* the caller's, and the generator's until it has ended */
    kln_arena arena;
    sequence_state state;
    atomic_bool cancelled; /* while it runs */
    kiln_sequence_options options;
    kiln_sampling sampling;
    int64_t *tokens; /* the prompt, then what was generated */
    size_t prompt_count, count, most;
    size_t *ends; /* of the certain text after each generated token */
    stop_strings stops;
    kln_text text;
    size_t certain; /* bytes of it */
    size_t read;    /* generated tokens that kiln_sequence_next gave */
    bool read_end;
    bool adds_end; /* it ended without one more token */
    kln_text shown;
    kiln_named_tensor *inputs; /* as the model's `given` has them */
    kiln_finish finish;
    kiln_status status;
    char sentence[KLN_MESSAGE_SIZE / 2];
};

KILN_MUST_CHECK kiln_status sequence_make(kiln_generator *generator, const int64_t *prompt,
                                          size_t count, const kiln_sequence_options *options,
                                          kiln_sequence **sequence);
/* Without the lock. */
void sequence_release(kiln_sequence *sequence);
/* One more token, told; false: it has ended by it, and may be gone. Without the lock. */
bool sequence_add(kiln_sequence *sequence, int64_t token);
/* It ends without one more. Without the lock. */
void sequence_end(kiln_sequence *sequence, kiln_finish how, kiln_status status,
                  const char *sentence);

/* --- prompts that run together (prompt_groups.c) --- */

/* What runs take at best, in nanoseconds; 0: none was measured. */
typedef struct prompt_pace {
    double step;
    double token; /* of a prompt, or filled up, beyond a step */
} prompt_pace;

/* Of the sequences from one on: where the next run begins, and what all of them cost, in tokens. */
typedef struct prompt_cut {
    int64_t next;
    double cost;
} prompt_cut;

/* The longest prompt first. */
void prompt_groups_sort(kiln_sequence **group, int64_t count);
/* A run of so many tokens, or a step where they are 0, took so long. */
void prompt_groups_note(prompt_pace *pace, int64_t prompt_tokens, uint64_t nanoseconds);
/* Fills in `cuts`, one more than there are sequences: `cuts[i].next` is where the run that begins
 * with sequence i ends. All take the least time so, by what is known; as many as fit, `most`, run
 * together where nothing is. The group is sorted. */
void prompt_groups_plan(const prompt_pace *pace, const stream_limits *limits,
                        kiln_sequence *const *group, int64_t count, int64_t most, prompt_cut *cuts);

/* --- the generator --- */

/* What the mask has, so that a step writes what is new. */
typedef struct stream_masked_row {
    int64_t first, end, also; /* first < 0: anything */
} stream_masked_row;

typedef struct stream_masked {
    const stream_part *part;
    int64_t width;
    stream_masked_row *rows;
} stream_masked;

struct kiln_generator {
    atomic_size_t references; /* the owner's, and one of each sequence */
    stream_model model;
    stream_cache cache;
    sampler sampler;
    kiln_stream *stream; /* of all its work, or NULL on the CPU */
    unsigned forks;
    /* The batch: rows up to `row_count` have a sequence, or NULL for a moment. */
    kiln_sequence **rows;
    int64_t *lengths; /* columns of each */
    int64_t row_count;
    kiln_sequence **group; /* that comes in */
    prompt_cut *cuts;      /* of it, one more */
    prompt_pace pace;
    kiln_buffer *tokens, *mask, *positions, *columns, *branch; /* inputs as a run reads them */
    stream_masked masked;
    kiln_buffer *logits, *last; /* where runs put them, and those that are looked at */
    kiln_buffer *top_tokens, *top_logits;
    kiln_buffer **given; /* inputs of the encoder */
    uint64_t logits_bytes;
    pthread_mutex_t lock;
    pthread_cond_t work; /* for the thread */
    pthread_cond_t news; /* a sequence has one more token, or ended; a step is over */
    kiln_sequence *first, *last_waiting;
    size_t waiting_limit;
    bool stepping, closed, ends, has_thread;
    bool poisoned;       /* a row of the last run was no numbers */
    stream_logits shown; /* of the last run */
    pthread_t thread;
    kiln_generator_counters counters;
};

/* A step, by whoever is `stepping` (generator_step.c). */
void generator_make_step(kiln_generator *self);
/* Waits for news until `until` (kln_now), or makes steps. With the lock; false: too late. */
bool generator_wait(kiln_generator *self, uint64_t until);
void generator_release(kiln_generator *self);
/* `*buffer` has so many bytes at least. */
KILN_MUST_CHECK kiln_status generator_grow(kiln_generator *self, kiln_buffer **buffer,
                                           kiln_location location, size_t bytes);

/* --- runs (stream_run.c) --- */

/* Both leave the logits of each row for stream_run_choose. */
KILN_MUST_CHECK kiln_status stream_run_prefill(kiln_generator *self, kiln_sequence *const *group,
                                               int64_t count, stream_made *made);
KILN_MUST_CHECK kiln_status stream_run_decode(kiln_generator *self);
/* How many of prompts up to this length fit one prefill, 1 at least. */
int64_t stream_run_fits(const kiln_generator *self, int64_t tokens);
/* The token of row `row` of the last run. */
KILN_MUST_CHECK kiln_status stream_run_choose(kiln_generator *self, int64_t row,
                                              const kiln_sequence *sequence, int64_t *token);

/* --- what is kept (stream_encoder.c) --- */

/* What the encoder makes of what the sequences brought along, for rows from the first free one on.
 */
KILN_MUST_CHECK kiln_status stream_encode(kiln_generator *self, kiln_sequence *const *group,
                                          int64_t count, int64_t rows);
/* Where a run of the encoder, or a prefill, puts what is kept; in memory of the context's where its
 * shape is not known yet. */
KILN_MUST_CHECK kiln_status stream_bind_kept(kiln_generator *self, const stream_part *part,
                                             const stream_end *end, const kiln_sequence *sequence,
                                             int64_t rows);
/* From there it is copied after the run. */
KILN_MUST_CHECK kiln_status stream_keep(kiln_generator *self, const stream_part *part,
                                        int64_t rows);
/* An input that this run does not read. */
KILN_MUST_CHECK kiln_status stream_bind_nothing(const stream_part *part, const stream_end *end,
                                                int64_t rows);
/* Whether two may begin together. */
bool stream_alike(const kiln_generator *self, const kiln_sequence *a, const kiln_sequence *b);

#endif
