/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request for an inference. */
#ifndef KILN_SERVE_INFER_H
#define KILN_SERVE_INFER_H

#include "serve_shared.h"

/* An output that was asked for. */
typedef struct serve_wish {
    size_t index;      /* of the model's outputs */
    bool says_binary;  /* `binary` was given with it */
    bool binary;       /* behind the JSON, not in it */
    int64_t classes;   /* so many of the largest, as text; 0: the tensor itself */
    serve_place place; /* of the client's, that it is written to */
} serve_wish;

typedef struct serve_infer {
    serve_instance *instance;
    char *id; /* or NULL */
    kiln_named_tensor *inputs;
    size_t input_count;
    serve_wish *wishes;
    size_t wish_count;
    bool binary;     /* what an output is that says nothing of it */
    int64_t timeout; /* microseconds, 0: none */
    int32_t priority;
    bool alone;       /* no other request was under way when it was submitted */
    uint64_t reading; /* nanoseconds, before the last of the body was there */
    uint64_t submitted;
    char *room; /* that outputs are written to, behind what is free for the text; or NULL */
    kiln_named_tensor *outputs;
    size_t output_count;
} serve_infer;

/* Reads `size` bytes, of which the first `head_size` are JSON and the others binary tensors; with
 * `tensors`, which may be none, these are the binary ones, of the inputs in their order, and all
 * outputs are. The inputs then point into them where they are aligned. All else lies in the arena.
 * Fuzzed. */
bool serve_infer_read(char *body, size_t size, size_t head_size, const serve_tensors *tensors,
                      serve_arena *arena, serve_infer *infer, serve_problem *problem);

/* at->infer with an instance of the model that is called, if it is not there yet. */
bool serve_infer_open(serve_connection *at);

#endif
