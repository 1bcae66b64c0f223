/* SPDX-License-Identifier: Apache-2.0 */
/* How the body of a request for an inference is read: of serve_request.c and serve_parameters.c
 * alone. */
#ifndef KILN_SERVE_REQUEST_H
#define KILN_SERVE_REQUEST_H

#include "serve_infer.h"

#define SERVE_LONGEST_NAME 1024

/* Where the reading is. */
typedef struct serve_reader {
    serve_json json;
    serve_arena *arena;
    serve_infer *infer;
    serve_problem *problem;
    char *body;
    size_t size;
    size_t at; /* of the binary tensors that were not taken yet */
    const serve_tensors *tensors;
    size_t taken; /* of them */
} serve_reader;

/* What was read of an entry of "inputs" or "outputs". */
typedef struct serve_entry {
    char name[SERVE_LONGEST_NAME];
    char datatype[16];
    kiln_shape shape;
    serve_slice data;
    bool has_name, has_shape, has_datatype, has_data;
    int64_t binary_size; /* -1: not given */
    bool binary, has_binary;
    int64_t classes;
    bool is_input;
    kiln_named_tensor input; /* what it becomes, once its name is not NULL */
} serve_entry;

/* What is wrong with the JSON, as the problem; false. */
bool serve_read_broken(serve_reader *self, const char *where);
/* Steps over a value. */
bool serve_read_skip(serve_reader *self);
/* Of an entry, or of the request where `of` is NULL; what nobody knows is stepped over, as the
 * protocol has it. */
bool serve_read_parameters(serve_reader *self, serve_entry *of);

#endif
