/*
 * stream.h - text generation with language models.
 *
 * A generator runs a model that was exported with past and present keys and values. It keeps this
 * cache where the engine computes, from one step to the next. It generates many sequences at once
 * (continuous batching): sequences join and leave the batch at any time.
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
 * docs/stream.md says what a model must have, how it is recognized, and what its cache costs.
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

/* --- sampling --- */

/* How the next token is sampled from the logits. The steps and their order are those of Hugging
 * Face's generate: repetition penalty, temperature, the `top_k` largest, the smallest set of these
 * that reaches `top_p`, and a random choice by probability. Among equal logits the smaller token id
 * ranks first. */
typedef struct kiln_sampling {
    size_t struct_size;       /* set by KILN_SAMPLING_INIT */
    float temperature;        /* 0: greedy, the largest logit, without randomness */
    int32_t top_k;            /* 0: all tokens */
    float top_p;              /* 0 to 1; 0 and 1: all tokens */
    float repetition_penalty; /* divides positive logits, and multiplies others, of tokens that the
                                 sequence already has, prompt included; 0 and 1: none (Keskar et
                                 al., CTRL, 2019) */
    uint64_t seed;            /* the random number of a token depends only on this and on the
                                 token's index among the generated ones */
} kiln_sampling;

#define KILN_SAMPLING(...) KILN_INIT_OF_(kiln_sampling, __VA_ARGS__)
#define KILN_SAMPLING_INIT KILN_INIT_(kiln_sampling)

/* Samples the generated token `index`, from 0, with `sampling` (NULL: greedy). `logits` has
 * `vocabulary` numbers in host memory. `tokens` are the tokens that the sequence has so far. The
 * same arguments give the same token on every machine.
 *
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT (a value out of range, an empty vocabulary, a token
 * outside the vocabulary, NaN in the logits, or all logits minus infinity); OUT_OF_MEMORY. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sample(const float *logits, size_t vocabulary,
                                                 const int64_t *tokens, size_t token_count,
                                                 const kiln_sampling *sampling, uint64_t index,
                                                 int64_t *token);

/* --- generators --- */

typedef struct kiln_generator kiln_generator;
typedef struct kiln_sequence kiln_sequence;

/* How an output `present` relates to its input `past`. */
typedef enum kiln_cache_layout {
    KILN_CACHE_AUTOMATIC = 0, /* from the names and dimensions of the two */
    KILN_CACHE_GROWING = 1,   /* the past followed by the positions of this run; two buffers
                                 alternate, nothing is copied */
    KILN_CACHE_NEW = 2,       /* the positions of this run only, as kiln_network_prepare_stream
                                 rewrites a model; they are copied into a buffer whose length is one
                                 of few, so that CUDA graphs can be replayed */
    KILN_CACHE_WHOLE = 3      /* a past of fixed length into which the model has written; two
                                 buffers alternate */
} kiln_cache_layout;

/* A pair of tensors: the output of one run is the input of the next. */
typedef struct kiln_cache_pair {
    const char *past;    /* an input of the model */
    const char *present; /* an output; if `kept`, one of the prefill model */
    bool kept; /* cross-attention: computed by the first run of a sequence, constant afterwards */
} kiln_cache_pair;

typedef struct kiln_generator_options {
    size_t struct_size;    /* set by KILN_GENERATOR_OPTIONS_INIT */
    int64_t max_batch;     /* most sequences in a step; 0: the largest in the engine's profiles or
                              fixed shapes, or 8 */
    int64_t max_length;    /* most tokens in a sequence, prompt included; 0: what the profiles or
                              fixed shapes allow. Required if they do not say */
    size_t queue_limit;    /* most sequences waiting for a place in the batch; 0: 1,024 */
    kiln_engine *prefill;  /* the same model without a past, which computes the first one; NULL: the
                              engine itself, with a past of length 0 */
    kiln_engine *encoder;  /* the encoder of an encoder-decoder model; NULL: there is none, or
                              callers provide its outputs */
    bool thread;           /* run the steps in a thread of the generator; otherwise they run in the
                              thread that calls kiln_generator_step or waits for a sequence */
    bool preallocate;      /* KILN_CACHE_NEW: allocate one buffer of max_length at once, instead of
                              using two up to a length that grows */
    uint64_t logits_bytes; /* most bytes of logits in one prefill; 0: 256 MiB. Prompts that need
                              more are run in several runs */
    kiln_cache_layout layout;
    const kiln_cache_pair *pairs; /* NULL: by name, such as past_key_values.0.key and present.0.key,
                                     or by order if the shapes are unambiguous */
    size_t pair_count;
    /* Names of inputs and outputs, if they are not the usual ones. */
    const char *tokens;    /* NULL: input_ids or decoder_input_ids */
    const char *mask;      /* NULL: attention_mask or decoder_attention_mask, if there is one */
    const char *positions; /* NULL: position_ids, if there is one */
    const char *logits;    /* NULL: logits, or the only remaining output */
    bool relative; /* positions follow from the mask, or from the distance between cache columns:
                      even without position_ids, prompts of different lengths share a batch */
    int64_t vocabulary; /* size of the logits, if the engine does not tell their shape; otherwise
                           0 */
    bool last_logits;   /* likewise: the logits are those of the last position only */
    const kiln_context_options *context; /* of its contexts, without a stream; NULL: the defaults of
                                            kiln_context_create */
} kiln_generator_options;

#define KILN_GENERATOR_OPTIONS(...) KILN_INIT_OF_(kiln_generator_options, __VA_ARGS__)
#define KILN_GENERATOR_OPTIONS_INIT KILN_INIT_(kiln_generator_options)

/* Creates a generator over `engine`, holds a reference to it, and allocates the cache. On an error
 * `*generator` is NULL. Errors: NULL_ARGUMENT; INVALID_ARGUMENT; NAME for a name that is no input
 * or output; UNSUPPORTED for a model that cannot be run in steps, with what it lacks; SHAPE, DTYPE
 * if past and present do not match; LIMIT beyond what the profiles cover; those of
 * kiln_context_create and kiln_buffer_create. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_create(kiln_engine *engine,
                                                           const kiln_generator_options *options,
                                                           kiln_generator **generator);

/* Cancels all sequences and frees the generator. Sequences stay valid, ended, until they are
 * released. No other call on the generator may be in progress or follow. NULL is allowed. In a
 * process forked since the generator was created, this does nothing and every other call fails with
 * STATE. Since 0.1. */
KILN_API void kiln_generator_destroy(kiln_generator *generator);

/* Why a sequence ended. */
typedef enum kiln_finish {
    KILN_FINISH_NONE = 0,      /* the sequence continues */
    KILN_FINISH_TOKEN = 1,     /* a stop token, which is its last token */
    KILN_FINISH_TEXT = 2,      /* a stop string; its text ends before it */
    KILN_FINISH_LENGTH = 3,    /* max_tokens was reached */
    KILN_FINISH_CANCELLED = 4, /* by kiln_sequence_cancel, or the generator was destroyed */
    KILN_FINISH_EXPIRED = 5,   /* past its deadline */
    KILN_FINISH_FAILED = 6     /* kiln_sequence_wait returns the status */
} kiln_finish;

/* One generated token. */
typedef struct kiln_token {
    size_t struct_size; /* sizeof(kiln_token), set by the caller */
    int64_t token;      /* -1 if the sequence ended without another token */
    uint64_t index;     /* index among the generated tokens, from 0 */
    const char *text;   /* text that became certain since the previous token; not NUL-terminated.
                           Text that may be the start of a stop string is held back, and comes later
                           or never. NULL without a detokenizer */
    size_t text_size;
    kiln_finish finish;
} kiln_token;

/* Called for each token, in the thread that runs the step; the last call has a `finish`.
 * kiln_sequence_cancel and kiln_generator_destroy call it too. It may cancel and submit sequences.
 * It should be quick, because the batch waits for it. */
typedef void (*kiln_token_function)(void *user, kiln_sequence *sequence, const kiln_token *token);

/* Writes the bytes that the last of `tokens` adds to the text of the ones before it, at most `size`
 * of them, and returns how many there are. If that is more than `size`, it is called again with
 * more room. Only generated tokens are passed; parts of a character may be written as they come.
 * Called in the thread that runs the step. */
typedef size_t (*kiln_detokenize_function)(void *user, const int64_t *tokens, size_t count,
                                           char *text, size_t size);

/* Chooses the next token. `logits` are the model's, in float32; `tokens` are those of the sequence
 * so far, its prompt first. A return value other than KILN_OK fails the sequence with that status.
 * Called in the thread that runs the step, which waits for it. */
typedef kiln_status (*kiln_sample_function)(void *user, const float *logits, size_t vocabulary,
                                            const int64_t *tokens, size_t token_count,
                                            int64_t *token);

typedef struct kiln_sequence_options {
    size_t struct_size;            /* set by KILN_SEQUENCE_OPTIONS_INIT */
    int64_t max_tokens;            /* most tokens to generate; 0: up to the generator's
                                      max_length */
    const kiln_sampling *sampling; /* NULL: greedy */
    kiln_sample_function sample;   /* used instead of `sampling`, or NULL */
    void *sample_user;
    const int64_t *stop_tokens;
    size_t stop_token_count;
    const char *const *stop_strings; /* require `detokenize` */
    size_t stop_string_count;
    kiln_detokenize_function detokenize; /* or NULL */
    void *detokenize_user;
    kiln_token_function told; /* or NULL */
    void *told_user;
    uint64_t deadline_nanoseconds;   /* time of kiln_clock_now at which the sequence expires; 0:
                                        none */
    const kiln_named_tensor *inputs; /* for an encoder-decoder model: the encoder's inputs, or its
                                        outputs if the generator has no encoder; their first
                                        dimension is 1. Read until the sequence runs */
    size_t input_count;
} kiln_sequence_options;

#define KILN_SEQUENCE_OPTIONS(...) KILN_INIT_OF_(kiln_sequence_options, __VA_ARGS__)
#define KILN_SEQUENCE_OPTIONS_INIT KILN_INIT_(kiln_sequence_options)

/* Submits a sequence and returns at once. The prompt, of at least one token, and everything in the
 * options except `inputs` are copied. `options` may be NULL.
 *
 * A bad sequence is refused at once: NULL_ARGUMENT; INVALID_ARGUMENT (also for a token outside the
 * vocabulary); LIMIT for more tokens than max_length, or a prompt longer than the profiles cover;
 * NAME, NOT_BOUND, DTYPE, RANK, SHAPE for inputs; QUEUE_FULL; STATE if the generator was stopped;
 * OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_submit(kiln_generator *generator,
                                                           const int64_t *prompt, size_t count,
                                                           const kiln_sequence_options *options,
                                                           kiln_sequence **sequence);

/* Runs one step: waiting sequences join the batch if it has room, and each sequence in it gets a
 * token. `*active`, which may be NULL, is the number of sequences afterwards, waiting ones
 * included. Without sequences nothing runs. A run that fails ends its sequences, but not the step.
 * Errors: NULL_ARGUMENT; BUSY while another thread runs a step, or if the generator has its own
 * thread; STATE. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_step(kiln_generator *generator, size_t *active);

/* Gives the next token of the sequence that has not been given yet. Waits for at most
 * `milliseconds` (negative: no limit). If the generator has no thread and `milliseconds` is not 0,
 * the calling thread runs steps meanwhile. `token->text` is valid until the sequence is released.
 * Errors: NULL_ARGUMENT; BUSY if there is none yet; STATE after the last token, which had a
 * `finish`. One thread at a time for one sequence. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sequence_next(kiln_sequence *sequence,
                                                        int64_t milliseconds, kiln_token *token);

/* Waits like kiln_sequence_next until the sequence has ended, and returns its outcome: OK,
 * CANCELLED, TIMEOUT if it expired, or its error. BUSY if it has not ended yet. Errors:
 * NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sequence_wait(kiln_sequence *sequence,
                                                        int64_t milliseconds);

/* The result of a sequence. */
typedef struct kiln_sequence_result {
    size_t struct_size; /* sizeof(kiln_sequence_result), set by the caller */
    kiln_finish finish;
    const int64_t *tokens; /* generated tokens, a stop token included; valid until the sequence is
                              released */
    size_t count;
    const char *text; /* NUL-terminated, without a stop string; "" without a detokenizer; valid
                         likewise */
    size_t text_size;
} kiln_sequence_result;

/* Gives the result of a sequence that has ended. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if
 * struct_size is too small; STATE if it has not ended. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sequence_get_result(kiln_sequence *sequence,
                                                              kiln_sequence_result *result);

/* Ends a sequence as CANCELLED: at once if it waits, otherwise before its next token. Errors:
 * NULL_ARGUMENT; STATE if it has ended. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_sequence_cancel(kiln_sequence *sequence);

/* Releases a sequence. If it has not ended, it continues. NULL is allowed. Any thread. Since
 * 0.1. */
KILN_API void kiln_sequence_release(kiln_sequence *sequence);

/* At any time, submitted = done + cancelled + expired + failed + waiting + running. */
typedef struct kiln_generator_counters {
    size_t struct_size; /* sizeof(kiln_generator_counters), set by the caller */
    uint64_t submitted; /* sequences accepted */
    uint64_t refused;   /* sequences refused */
    uint64_t done;      /* ended by a stop token, a stop string or their length */
    uint64_t cancelled;
    uint64_t expired;
    uint64_t failed;
    uint64_t waiting;            /* at present */
    uint64_t running;            /* at present */
    uint64_t prefills;           /* runs over prompts */
    uint64_t steps;              /* runs of one token per sequence */
    uint64_t prompt_tokens;      /* prompt tokens in prefills */
    uint64_t tokens;             /* tokens generated */
    uint64_t rows;               /* rows of steps with a sequence that got a token */
    uint64_t padding;            /* rows of steps without a sequence, to fill up a batch size */
    uint64_t moved_bytes;        /* bytes of the cache copied because sequences came or went or the
                                    cache grew */
    uint64_t cache_bytes;        /* bytes that the cache holds */
    uint64_t run_nanoseconds;    /* time in runs of the model */
    uint64_t sample_nanoseconds; /* time to sample tokens and report them */
} kiln_generator_counters;

/* Reads the counters. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too small. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_get_counters(kiln_generator *generator,
                                                                 kiln_generator_counters *counters);

/* What the generator recognized in the model. */
typedef struct kiln_generator_info {
    size_t struct_size; /* sizeof(kiln_generator_info), set by the caller */
    kiln_cache_layout layout;
    size_t pair_count; /* pairs of past and present, `kept` ones included */
    int64_t max_batch;
    int64_t max_length;
    int64_t vocabulary;
    bool ragged; /* sequences of different lengths share a batch: the model has a mask, in its
                    prefill too, has position ids or is `relative`, and no pair is `kept`. If false,
                    only sequences that begin together, with prompts of one length, share a batch;
                    later ones wait until these end */
} kiln_generator_info;

/* Describes the generator's model. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too
 * small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_generator_get_info(const kiln_generator *generator,
                                                             kiln_generator_info *info);

/* --- preparing a model --- */

typedef struct kiln_stream_network_options {
    size_t struct_size;   /* set by KILN_STREAM_NETWORK_OPTIONS_INIT */
    bool keep_present;    /* do not reduce the outputs `present` to the new positions */
    bool keep_all_logits; /* do not reduce the logits to the last position */
    int32_t candidates;   /* add the outputs "top_logits" and "top_tokens" with this many of the
                             largest logits, 1 to 256. Greedy sampling, and sampling with a top_k up
                             to this many, then use only these, and the rest stays on the GPU. 0:
                             none */
    const char *logits;   /* name of the logits; NULL: logits */
} kiln_stream_network_options;

#define KILN_STREAM_NETWORK_OPTIONS(...) KILN_INIT_OF_(kiln_stream_network_options, __VA_ARGS__)
#define KILN_STREAM_NETWORK_OPTIONS_INIT KILN_INIT_(kiln_stream_network_options)

/* Rewrites a decoder that was exported with its cache so that steps cost less. An output
 * "present.." that concatenates a past with new positions (Concat) is replaced by "new.present.."
 * (KILN_CACHE_NEW). The product that computes the logits (MatMul) is restricted to the last
 * position. The model itself finds the largest logits. Its results stay the same.
 *
 * `options` may be NULL. Errors: NULL_ARGUMENT; INVALID_ARGUMENT; NAME; UNSUPPORTED for a model of
 * another form, with the output; STATE for a branch; OUT_OF_MEMORY. On an error the network is
 * unchanged. One thread at a time. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_prepare_stream(kiln_network *network, const kiln_stream_network_options *options);

#ifdef __cplusplus
}
#endif

#endif
