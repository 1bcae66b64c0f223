/*
 * stream.h - language models, a token at a time.
 *
 * A generator stands before a model that was exported with past and present keys and values. It
 * keeps them where the engine computes, from one step to the next, and writes many sequences at
 * once: they begin and end when they like, and share one batch meanwhile.
 *
 *     kiln_generator_options options = KILN_GENERATOR_OPTIONS_INIT;
 *     options.max_batch = 64;
 *     options.max_length = 1024;
 *     kiln_generator *generator = NULL;
 *     kiln_generator_create(engine, &options, &generator);
 *
 *     kiln_sequence_options how = KILN_SEQUENCE_OPTIONS_INIT;
 *     how.max_tokens = 100;
 *     kiln_sequence *sequence = NULL;
 *     kiln_generator_submit(generator, prompt, prompt_length, &how, &sequence);
 *     kiln_token token = {.struct_size = sizeof token};
 *     do {
 *         kiln_sequence_next(sequence, -1, &token);          // tokens as they come
 *     } while (token.finish == KILN_FINISH_NONE);
 *     kiln_sequence_release(sequence);
 *
 * What a model must have, how it is recognized, and what its cache costs: docs/stream.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_STREAM_H
#define KILN_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/context.h>
#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/network.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- choosing a token --- */

/* How the next token is chosen of the logits. In this order, as in Hugging Face's generate: the
 * penalty, the temperature, the `top_k` largest, the fewest of these that reach `top_p`, and a
 * random one of them by its probability. Of equal logits the token with the smaller number is the
 * larger one. */
typedef struct kiln_sampling {
    size_t struct_size;       /* set by KILN_SAMPLING_INIT */
    float temperature;        /* 0: the largest logit, nothing is random */
    int32_t top_k;            /* 0: all */
    float top_p;              /* 0 to 1; 0 and 1: all */
    float repetition_penalty; /* logits of tokens that the sequence has, its prompt's too, are
                                 divided by it where they are positive and else multiplied; 0 and 1:
                                 none (Keskar et al., CTRL, 2019) */
    uint64_t seed;            /* the random number of a token is a function of this and of its index
                                 among the generated ones, and of nothing else */
} kiln_sampling;

#define KILN_SAMPLING(...) KILN_INIT_OF_(kiln_sampling, __VA_ARGS__)
#define KILN_SAMPLING_INIT KILN_INIT_(kiln_sampling)

/* The token that `sampling` (NULL: the largest logit) chooses as number `index`, from 0, of the
 * generated ones. `logits` has `vocabulary` numbers, in memory of the host; `tokens` are those that
 * the sequence has. The same arguments give the same token on every machine. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT (a value out of its range, no vocabulary, a token that is not in it; logits that
 * are not a number, or all of them minus infinity); OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sample(const float *logits, size_t vocabulary,
                                                 const int64_t *tokens, size_t token_count,
                                                 const kiln_sampling *sampling, uint64_t index,
                                                 int64_t *token);

/* --- generators --- */

typedef struct kiln_generator kiln_generator;
typedef struct kiln_sequence kiln_sequence;

/* What an output `present` is to its input `past`. */
typedef enum kiln_cache_layout {
    KILN_CACHE_AUTOMATIC = 0, /* by the names and dimensions of the two */
    KILN_CACHE_GROWING = 1,   /* the past, and behind it the positions of this run: two buffers take
                                 turns, nothing is copied */
    KILN_CACHE_NEW = 2,       /* the positions of this run alone (kiln_network_prepare_stream makes
                                 a model so): they are copied into a buffer whose length is one of
                                 few, so that CUDA graphs can be replayed */
    KILN_CACHE_WHOLE = 3      /* a past of one fixed length, into which the model has written; two
                                 buffers take turns */
} kiln_cache_layout;

/* Two names of which one run's output is the next run's input. */
typedef struct kiln_cache_pair {
    const char *past;    /* an input of the model */
    const char *present; /* an output; of one that is `kept`, of the prefill model */
    bool kept; /* cross-attention: made by the first run of a sequence, the same from then on */
} kiln_cache_pair;

typedef struct kiln_generator_options {
    size_t struct_size;   /* set by KILN_GENERATOR_OPTIONS_INIT */
    int64_t max_batch;    /* sequences in a step; 0: the largest that the engine's profiles or fixed
                             shapes have, or 8 */
    int64_t max_length;   /* tokens of a sequence, its prompt among them; 0: what the profiles or
                             fixed shapes allow, and needed where they do not tell */
    size_t queue_limit;   /* sequences that may wait for a place in the batch; 0: 1,024 */
    kiln_engine *prefill; /* the same model without a past, which makes the first; NULL: the engine
                             itself, with a past of length 0 */
    kiln_engine *encoder; /* of an encoder-decoder model; NULL: there is none, or callers give what
                             it would have put out */
    bool thread;          /* a thread of the generator's makes the steps; else whoever calls
                             kiln_generator_step or waits for a sequence */
    bool preallocate;     /* KILN_CACHE_NEW: one buffer of max_length at once, instead of two that
                             are used up to a length that grows */
    uint64_t logits_bytes; /* of a prefill's logits at once; 0: 256 MiB. Prompts are run in several
                              runs where more would be needed */
    kiln_cache_layout layout;
    const kiln_cache_pair *pairs; /* NULL: by names: past_key_values.0.key and present.0.key, or by
                                     order where the shapes leave no doubt */
    size_t pair_count;
    /* Names, where they are not the usual ones. */
    const char *tokens;    /* NULL: input_ids or decoder_input_ids */
    const char *mask;      /* NULL: attention_mask or decoder_attention_mask, if there is one */
    const char *positions; /* NULL: position_ids, if there is one */
    const char *logits;    /* NULL: logits, or the only output that is left */
    bool relative; /* positions follow from the mask, or from the distance between columns of the
                      cache: without position_ids, prompts of different lengths share a batch */
    int64_t vocabulary; /* of the logits, where the engine does not tell their shape; 0 elsewhere */
    bool last_logits;   /* likewise: they are of the last position alone */
    const kiln_context_options *context; /* how its contexts are made; without a stream. NULL: as
                                            kiln_context_create has it */
} kiln_generator_options;

#define KILN_GENERATOR_OPTIONS(...) KILN_INIT_OF_(kiln_generator_options, __VA_ARGS__)
#define KILN_GENERATOR_OPTIONS_INIT KILN_INIT_(kiln_generator_options)

/* Makes one over `engine`, which it keeps alive, and allocates its cache. On an error `*generator`
 * is NULL. Errors: NULL_ARGUMENT; INVALID_ARGUMENT; NAME for one that is no input or output;
 * UNSUPPORTED for a model that cannot be run in steps, with what it lacks; SHAPE, DTYPE where past
 * and present do not fit each other; LIMIT past what the profiles take; those of
 * kiln_context_create and kiln_buffer_create. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_create(kiln_engine *engine,
                                                           const kiln_generator_options *options,
                                                           kiln_generator **generator);

/* Cancels what it has and gives everything back. Sequences stay, ended, until they are released. No
 * other call on the generator may be under way or come. NULL is allowed. In a process that was
 * forked since, it does nothing and every other call fails with STATE. Since 0.1. */
KILN_API void kiln_generator_destroy(kiln_generator *generator);

/* Why a sequence ended. */
typedef enum kiln_finish {
    KILN_FINISH_NONE = 0,      /* it goes on */
    KILN_FINISH_TOKEN = 1,     /* a stop token, which is its last one */
    KILN_FINISH_TEXT = 2,      /* a stop string, which its text ends before */
    KILN_FINISH_LENGTH = 3,    /* max_tokens */
    KILN_FINISH_CANCELLED = 4, /* kiln_sequence_cancel, or the generator's end */
    KILN_FINISH_EXPIRED = 5,   /* its deadline */
    KILN_FINISH_FAILED = 6     /* kiln_sequence_wait has the status */
} kiln_finish;

/* One token as it came. */
typedef struct kiln_token {
    size_t struct_size; /* sizeof(kiln_token), set by the caller */
    int64_t token;      /* -1 where the sequence ended without one more */
    uint64_t index;     /* among the generated ones, from 0 */
    const char *text;   /* what is certain of the text since the token before; not terminated. What
                           may be the beginning of a stop string comes later, or never. NULL without
                           a detokenizer */
    size_t text_size;
    kiln_finish finish;
} kiln_token;

/* Called for each token, in the thread that makes the step, and once with a `finish`, the last
 * time; from kiln_sequence_cancel and kiln_generator_destroy too. It may cancel and submit
 * sequences, and should be quick: the batch waits. */
typedef void (*kiln_token_function)(void *user, kiln_sequence *sequence, const kiln_token *token);

/* Writes the bytes that the last of `tokens` adds to the text of those before it, at most `size` of
 * them, and returns how many it has: called again with more room where that was not enough. Only
 * generated tokens are given; parts of a character may be given out as they come. Called in the
 * thread that makes the step. */
typedef size_t (*kiln_detokenize_function)(void *user, const int64_t *tokens, size_t count,
                                           char *text, size_t size);

/* Chooses the next token: `logits` are the model's, in float32, `sequence` those that the sequence
 * has, its prompt first. What it returns, if not KILN_OK, the sequence fails with. Called in the
 * thread that makes the step, which waits for it. */
typedef kiln_status (*kiln_sample_function)(void *user, const float *logits, size_t vocabulary,
                                            const int64_t *tokens, size_t token_count,
                                            int64_t *token);

typedef struct kiln_sequence_options {
    size_t struct_size;            /* set by KILN_SEQUENCE_OPTIONS_INIT */
    int64_t max_tokens;            /* to be generated; 0: up to the generator's max_length */
    const kiln_sampling *sampling; /* NULL: the largest logit */
    kiln_sample_function sample;   /* instead of `sampling`, or NULL */
    void *sample_user;
    const int64_t *stop_tokens;
    size_t stop_token_count;
    const char *const *stop_strings; /* need `detokenize` */
    size_t stop_string_count;
    kiln_detokenize_function detokenize; /* or NULL */
    void *detokenize_user;
    kiln_token_function told; /* or NULL */
    void *told_user;
    uint64_t deadline_nanoseconds;   /* by kiln_clock_now: it expires then; 0: none */
    const kiln_named_tensor *inputs; /* of an encoder-decoder model: the encoder's inputs, or its
                                        outputs where the generator has none; their first dimension
                                        is 1. Read until the sequence runs */
    size_t input_count;
} kiln_sequence_options;

#define KILN_SEQUENCE_OPTIONS(...) KILN_INIT_OF_(kiln_sequence_options, __VA_ARGS__)
#define KILN_SEQUENCE_OPTIONS_INIT KILN_INIT_(kiln_sequence_options)

/* Hands a sequence over and returns at once. The prompt, of one token at least, and what the
 * options name but `inputs` are copied. `options` may be NULL. What is refused is refused at once:
 * NULL_ARGUMENT; INVALID_ARGUMENT (also for a token that is not in the vocabulary); LIMIT for more
 * tokens than max_length, or a prompt longer than the profiles take; NAME, NOT_BOUND, DTYPE, RANK,
 * SHAPE of inputs; QUEUE_FULL; STATE for a generator that was stopped; OUT_OF_MEMORY. Any thread.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_submit(kiln_generator *generator,
                                                           const int64_t *prompt, size_t count,
                                                           const kiln_sequence_options *options,
                                                           kiln_sequence **sequence);

/* One step: sequences that wait are taken into the batch where it has room, and each in it gets a
 * token. `*active`, which may be NULL, is how many there are afterwards, those that wait among
 * them; with none before it is no step. A run that fails fails its sequences, not the step. Errors:
 * NULL_ARGUMENT; BUSY while another thread makes one, or where the generator has a thread; STATE.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_step(kiln_generator *generator, size_t *active);

/* The next token of a sequence that was not given yet. Waits at most so many milliseconds, or
 * as long as it takes where that is negative; without a thread of the generator's, and unless
 * `milliseconds` is 0, the calling thread makes steps meanwhile. `token->text` is valid until the
 * sequence is released. Errors: NULL_ARGUMENT; BUSY where there is none yet; STATE after the last
 * one, which had a `finish`. One thread at a time for one sequence. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sequence_next(kiln_sequence *sequence,
                                                        int64_t milliseconds, kiln_token *token);

/* Waits, as kiln_sequence_next does, until the sequence has ended, and returns what it came to: OK,
 * CANCELLED, TIMEOUT for one that expired, or what it failed with. BUSY while it goes on. Errors:
 * NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sequence_wait(kiln_sequence *sequence,
                                                        int64_t milliseconds);

/* What a sequence came to. */
typedef struct kiln_sequence_result {
    size_t struct_size; /* sizeof(kiln_sequence_result), set by the caller */
    kiln_finish finish;
    const int64_t *tokens; /* generated, a stop token among them; valid until it is released */
    size_t count;
    const char *text; /* terminated, without a stop string; "" without a detokenizer; likewise */
    size_t text_size;
} kiln_sequence_result;

/* Of a sequence that ended. Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too
 * small; STATE while it goes on. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sequence_get_result(kiln_sequence *sequence,
                                                              kiln_sequence_result *result);

/* Ends a sequence as CANCELLED: at once while it waits, else before its next token. Errors:
 * NULL_ARGUMENT; STATE where it has ended. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sequence_cancel(kiln_sequence *sequence);

/* Releases a sequence. One that has not ended goes on. NULL is allowed. Any
 * thread. Since 0.1. */
KILN_API void kiln_sequence_release(kiln_sequence *sequence);

/* submitted = done + cancelled + expired + failed + waiting + running, at any time. */
typedef struct kiln_generator_counters {
    size_t struct_size; /* sizeof(kiln_generator_counters), set by the caller */
    uint64_t submitted; /* sequences that were taken */
    uint64_t refused;   /* that were not */
    uint64_t done;      /* by a stop token, a stop string or their length */
    uint64_t cancelled;
    uint64_t expired;
    uint64_t failed;
    uint64_t waiting;         /* now */
    uint64_t running;         /* now */
    uint64_t prefills;        /* runs of prompts */
    uint64_t steps;           /* runs of one token for each sequence */
    uint64_t prompt_tokens;   /* in prefills */
    uint64_t tokens;          /* generated */
    uint64_t rows;            /* of steps: sequences that got a token */
    uint64_t padding;         /* of steps: rows without a sequence, to fill a size up */
    uint64_t moved_bytes;     /* of the cache, copied because sequences came or went or it grew */
    uint64_t cache_bytes;     /* that it holds */
    uint64_t run_nanoseconds; /* in runs of the model */
    uint64_t sample_nanoseconds; /* choosing tokens and telling them */
} kiln_generator_counters;

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_get_counters(kiln_generator *generator,
                                                                 kiln_generator_counters *counters);

/* What was recognized of the model. */
typedef struct kiln_generator_info {
    size_t struct_size; /* sizeof(kiln_generator_info), set by the caller */
    kiln_cache_layout layout;
    size_t pair_count; /* of past and present, those that are kept among them */
    int64_t max_batch;
    int64_t max_length;
    int64_t vocabulary;
    bool ragged; /* sequences of different lengths share a batch: the model has a mask, and position
                    ids or none that count. Else only those that begin together, with prompts of
                    one length; later ones wait for the end of these */
} kiln_generator_info;

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_get_info(const kiln_generator *generator,
                                                             kiln_generator_info *info);

/* --- making a model ready --- */

typedef struct kiln_stream_network_options {
    size_t struct_size;   /* set by KILN_STREAM_NETWORK_OPTIONS_INIT */
    bool keep_present;    /* do not make outputs `present` those of the new positions alone */
    bool keep_all_logits; /* do not make logits those of the last position alone */
    int32_t candidates;   /* so many of the largest logits, 1 to 256, are outputs of their own,
                             "top_logits" and "top_tokens": greedy choices, and those of a top_k
                             up to this many, are made of them; a GPU keeps the rest. 0: none */
    const char *logits;   /* NULL: logits */
} kiln_stream_network_options;

#define KILN_STREAM_NETWORK_OPTIONS(...) KILN_INIT_OF_(kiln_stream_network_options, __VA_ARGS__)
#define KILN_STREAM_NETWORK_OPTIONS_INIT KILN_INIT_(kiln_stream_network_options)

/* Rewrites a decoder that was exported with its cache so that steps cost less: an output
 * "present.." that joins a past to new positions (Concat) gives way to "new.present.."
 * (KILN_CACHE_NEW), the product that makes logits (MatMul) is of the last position, and the largest
 * logits are found by the model. What it computes is the same. `options` may be NULL. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT; NAME; UNSUPPORTED for a model of another form, with the output;
 * STATE for a branch; OUT_OF_MEMORY. The network is as it was then. One thread at a time. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_prepare_stream(kiln_network *network, const kiln_stream_network_options *options);

#ifdef __cplusplus
}
#endif

#endif
