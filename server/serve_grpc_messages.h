/* SPDX-License-Identifier: Apache-2.0 */
/* The methods of gRPC, and the tables of their messages. */
#ifndef KILN_SERVE_GRPC_MESSAGES_H
#define KILN_SERVE_GRPC_MESSAGES_H

#include "serve_proto.h"

#define SERVE_GRPC_RAW_INPUT 7
#define SERVE_GRPC_RAW_OUTPUT 6

typedef enum serve_grpc_flag {
    SERVE_GRPC_INFERS = 1,  /* has tensors */
    SERVE_GRPC_STREAMS = 2, /* message after message, each of which is a request */
    SERVE_GRPC_ASKS = 4,    /* a model that is not there is no error, but an answer */
    SERVE_GRPC_ALL = 8,     /* a name may be left out */
    SERVE_GRPC_HEALTH = 16, /* of a service, whose name stands where others have a model's */
    SERVE_GRPC_WATCHES = 32
} serve_grpc_flag;

/* Which endpoint a method is. */
typedef struct serve_grpc_method {
    const char *path;                   /* of gRPC */
    const char *verb, *route;           /* of HTTP; "*" is a model */
    uint32_t name, version;             /* fields of the request that say which; 0: none */
    const serve_proto_message *request; /* NULL: the endpoint takes no body */
    const serve_proto_message *answer;
    const char *member; /* of the answer, which the endpoint's is the value of; NULL: it is all */
    unsigned flags;
} serve_grpc_method;

extern const serve_proto_message *const serve_grpc_text_request, *const serve_grpc_infer_answer;

/* NULL where there is none. */
const serve_grpc_method *serve_grpc_method_of(const char *path);

#endif
