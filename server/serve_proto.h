/* SPDX-License-Identifier: Apache-2.0 */
/* Protobuf's messages as the JSON that the same endpoints read and write over HTTP, and back.
 *
 * A message is a table of its fields (serve_grpc_messages.c). What Triton's protocol says in JSON
 * is the JSON form of its messages, so that one walk over a table does each direction. Tensors are
 * not turned: raw contents are told where they lie. Sources: https://protobuf.dev, "Encoding" and
 * "ProtoJSON Format". */
#ifndef KILN_SERVE_PROTO_H
#define KILN_SERVE_PROTO_H

#include "serve_json.h"
#include "serve_text.h"

typedef enum serve_proto_kind {
    SERVE_PROTO_STRING,
    SERVE_PROTO_TEXT, /* of any length, with any character */
    SERVE_PROTO_BOOL,
    SERVE_PROTO_INT,     /* int32, int64 */
    SERVE_PROTO_UINT,    /* uint32, uint64 */
    SERVE_PROTO_FLOAT,   /* four bytes */
    SERVE_PROTO_DOUBLE,  /* eight */
    SERVE_PROTO_ENUM,    /* `of.words` */
    SERVE_PROTO_MESSAGE, /* `of.message` */
    SERVE_PROTO_MAP,     /* of strings to `of.message`, of whose fields one is set: its value */
    SERVE_PROTO_SELF,    /* a message of which one field is set: that one's value */
    SERVE_PROTO_RAW      /* bytes that are told, and not turned */
} serve_proto_kind;

typedef struct serve_proto_field {
    uint32_t number;
    serve_proto_kind kind;
    bool repeated;
    const char *name; /* in JSON */
    union {
        const struct serve_proto_message *message;
        const char *const *words; /* ended by NULL; a word's place is its number */
    } of;
} serve_proto_field;

typedef struct serve_proto_message {
    size_t count;
    const serve_proto_field *fields;
} serve_proto_message;

/* A part of a message. */
typedef struct serve_proto_span {
    const uint8_t *at;
    size_t size;
} serve_proto_span;

/* One field as it stands in a message. */
typedef struct serve_proto_value {
    uint32_t number;
    unsigned type; /* of the wire: 0, 1, 2 or 5 */
    uint64_t whole;
    serve_proto_span bytes; /* of type 2 */
} serve_proto_value;

/* Takes the next field off `message`. False at its end, and where it is broken: `*reason` then is
 * half a sentence. */
bool serve_proto_next(serve_proto_span *message, serve_proto_value *value, const char **reason);

/* Appends a message as JSON. Fields that the table lacks are stepped over, strings that are not
 * UTF-8 come out as JSON has to write them. False with `*reason` where it is no such message. */
bool serve_proto_to_json(const serve_proto_message *message, serve_proto_span span,
                         serve_text *json, const char **reason);

/* Appends the object that comes next in `json` as a message. Members that the table lacks are left
 * out. False where it does not fit the table. */
bool serve_proto_from_json(const serve_proto_message *message, serve_json *json, serve_text *into);

/* Appends what a field of type 2 begins with. */
void serve_proto_put_head(serve_text *into, uint32_t number, size_t size);

#endif
