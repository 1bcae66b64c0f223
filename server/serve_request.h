/* SPDX-License-Identifier: Apache-2.0 */
/* How the body of a request for an inference is read: of serve_request.c, serve_parameters.c,
 * serve_input.c and serve_stream.c alone. The reading may stop among the numbers of a tensor and go
 * on when more of the body is there. */
#ifndef KILN_SERVE_REQUEST_H
#define KILN_SERVE_REQUEST_H

#include "serve_data.h"
#include "serve_infer.h"

#define SERVE_LONGEST_NAME 1024

/* What comes next. */
typedef enum serve_level {
    SERVE_BEGIN = 0,   /* the brace of the whole */
    SERVE_TOP = 1,     /* a member of it */
    SERVE_LIST = 2,    /* an entry of "inputs" or "outputs" */
    SERVE_ENTRY = 3,   /* a member of one */
    SERVE_NUMBERS = 4, /* of an input */
    SERVE_END = 5
} serve_level;

/* What was read of an entry of "inputs" or "outputs". */
typedef struct serve_entry {
    char name[SERVE_LONGEST_NAME];
    char datatype[16];
    kiln_shape shape;
    serve_slice data; /* that stands before what must be known of it */
    bool has_name, has_shape, has_datatype, has_data;
    int64_t binary_size; /* -1: not given */
    bool binary, has_binary;
    int64_t classes;
    serve_place place;
    kiln_named_tensor input; /* what it becomes, once its name is not NULL */
} serve_entry;

/* Where the reading is. */
typedef struct serve_reader {
    serve_json json;
    serve_level level;
    const char *list; /* that is read, by its name */
    serve_entry entry;
    serve_numbers numbers;
    serve_arena *arena;
    serve_infer *infer;
    serve_problem *problem;
    char *body;
    size_t size;
    size_t at; /* of the binary tensors that were not taken yet */
    const serve_tensors *tensors;
    size_t taken;  /* of them */
    size_t before; /* bytes of the request before the JSON that is here */
    size_t behind; /* and behind it */
} serve_reader;

/* Reads on where it was; false with the problem where that is broken. Where the JSON here is open,
 * it returns once it has come to its end among numbers, or to the end of numbers. */
bool serve_read_on(serve_reader *self);
/* Reads the rest. */
bool serve_read_finish(serve_reader *self);
/* What is wrong with the JSON, as the problem; false. */
bool serve_read_broken(serve_reader *self, const char *where);
/* Steps over a value. */
bool serve_read_skip(serve_reader *self);
/* Of an entry, or of the request where `of` is NULL; what nobody knows is stepped over, as the
 * protocol has it. */
bool serve_read_parameters(serve_reader *self, serve_entry *of);
const serve_binding *serve_binding_find(const serve_binding *bindings, size_t count,
                                        const char *name, size_t guess);

/* --- an input (serve_input.c) --- */

/* What must be known before its data. */
bool serve_input_prepare(serve_reader *self);
/* Memory for numbers, which come next in `json`. */
bool serve_input_begin(serve_reader *self, serve_json *json);
bool serve_input_go_on(serve_reader *self, serve_json *json);
/* What is left to be done once all of its entry was read. */
bool serve_input_take(serve_reader *self);

#endif
