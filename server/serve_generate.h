/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of language models, a token at a time: the protocol's generate and generate_stream. */
#ifndef KILN_SERVE_GENERATE_H
#define KILN_SERVE_GENERATE_H

#include "serve_config.h"
#include "serve_parts.h"

/* What a request asks for; all of it lies in the arena. */
typedef struct serve_prompt {
    char *id; /* or NULL */
    int64_t *tokens;
    size_t count;
    int64_t *stops; /* tokens that end the text */
    size_t stop_count;
    int64_t max_tokens; /* 0: as many as there is room for */
    int64_t timeout;    /* microseconds, 0: none */
    int64_t top_k, seed;
    double temperature, top_p, repetition_penalty;
    bool has_seed;
} serve_prompt;

/* Reads the body of a request to a model that takes up to `length` tokens. Fuzzed. */
bool serve_prompt_read(const char *body, size_t size, int64_t length, serve_arena *arena,
                       serve_prompt *prompt, serve_problem *problem);

/* Makes the generators of an instance, if its model is written in steps, or is said to be. */
bool serve_language_open(serve_instance *instance, const serve_tuning *tuning,
                         serve_problem *problem);
void serve_language_close(serve_instance *instance);
/* That of its generators which has the fewest sequences. */
kiln_generator *serve_language_choose(const serve_instance *instance);

#endif
