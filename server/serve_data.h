/* SPDX-License-Identifier: Apache-2.0 */
/* Data types of the protocol, and tensors as JSON. */
#ifndef KILN_SERVE_DATA_H
#define KILN_SERVE_DATA_H

#include <kiln/kiln.h>

#include "serve_json.h"
#include "serve_text.h"

/* "FP32"; NULL for a type that the protocol has no name for. */
const char *serve_type_name(kiln_dtype dtype);
/* The type of a name, UNDEFINED where there is none; "BYTES" is STRING. */
kiln_dtype serve_type_of(const char *name);
/* "TYPE_FP32", as a model's configuration writes it. */
const char *serve_config_type(kiln_dtype dtype);

/* Where the reading of a tensor's numbers is. */
typedef struct serve_numbers {
    kiln_tensor tensor;
    serve_arena *arena;   /* of strings */
    int64_t index, count; /* elements that were read, and all */
    size_t depth;         /* brackets that are to be closed; 0: it has ended */
} serve_numbers;

/* Goes into the array that comes next, however it is nested, and reads a dense tensor of it. Where
 * the text is open it may come to its end before the array's, and goes on in another. False with
 * `sentence` where numbers are too few or many, or do not fit the type, and with json->reason alone
 * where it is no JSON. */
bool serve_numbers_begin(serve_numbers *self, serve_json *json, const kiln_tensor *tensor,
                         serve_arena *arena, char *sentence, size_t size);
bool serve_numbers_read(serve_numbers *self, serve_json *json, char *sentence, size_t size);

/* Writes them as one flat array. False with `sentence` for NaN and infinities, which JSON does not
 * have. */
bool serve_data_write(const kiln_tensor *tensor, serve_text *text, char *sentence, size_t size);

/* Strings that have their length before them as 4 bytes, of which `spans` then are parts: false
 * with `sentence` where they are not `count`, and all there is. Appends those of a tensor so; false
 * for one of 4 GiB or more. */
bool serve_data_unpack(serve_slice packed, size_t count, kiln_span *spans, char *sentence,
                       size_t size);
bool serve_data_pack(const kiln_tensor *tensor, serve_text *text);

/* Bytes that are no bool. */
bool serve_data_is_bool(const void *data, size_t size);

/* The `count` largest of a row of elements, as "VALUE:INDEX" or "VALUE:INDEX:LABEL", each with its
 * length before it (binary) or as strings of JSON, divided by commas. Appended to `text`. */
bool serve_data_classes(const kiln_tensor *tensor, int64_t first, int64_t length, int64_t count,
                        bool binary, char *const *labels, size_t label_count, serve_text *text);

#endif
