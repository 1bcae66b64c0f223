/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC of the same protocol: calls over HTTP/2 that become the requests of serve_routes.c.
 *
 * serve_grpc.c has threads, serve_link.c connections of HTTP/2, serve_call.c a call and its
 * messages, and serve_grpc_messages.c their tables. A message's JSON form goes through the
 * endpoints of HTTP, raw tensors stay where they came. Workers are threads with an epoll each; a
 * link and its calls belong to one of them, and only `resume` is called by others. */
#ifndef KILN_SERVE_GRPC_H
#define KILN_SERVE_GRPC_H

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "serve_grpc_messages.h"
#include "serve_nghttp2.h"
#include "serve_parts.h"
#include "serve_tls.h"

#define SERVE_GRPC_PREFIX 5 /* bytes before a message: whether it is compressed, and its size */

typedef struct serve_worker serve_worker;
typedef struct serve_call serve_call;

#define SERVE_LINK_PIECES 64
#define SERVE_FRAME_PARTS ((size_t)4) /* of messages, in a frame */
#define SERVE_FRAME_HEAD ((size_t)9)

/* An answer that a call is done with while its link still sends it. */
typedef struct serve_spent {
    serve_reply *reply; /* or NULL */
    serve_text out;
} serve_spent;

/* A connection of HTTP/2. */
typedef struct serve_link {
    struct serve_link *next, *previous;
    serve_worker *worker;
    serve_call *calls;
    nghttp2_session *session;
    serve_secure *secure; /* TLS, or NULL */
    int socket;
    uint32_t watched; /* events of epoll; 0: none yet */
    bool leaves;      /* it was told to open no calls any more */
    bool broken;
    char client[64];
    /* What is to be sent: frames in `out`, and tensors between them where the model wrote them. */
    char *out;
    size_t out_size;
    struct iovec pieces[SERVE_LINK_PIECES];
    size_t piece_count, piece; /* and the first that was not sent whole, without what was sent */
    uint64_t round;            /* of pieces, which are sent before others are written */
    serve_spent spent[SERVE_LINK_PIECES];
    size_t spent_count;
    uint64_t since; /* when something was sent or came, last */
} serve_link;

struct serve_worker {
    struct serve_grpc *grpc;
    pthread_t thread;
    int epoll, event;
    serve_link *links;
    pthread_mutex_t lock;
    serve_call *ready, *last_ready; /* to be gone on with; with the lock */
};

/* One call; its stream may be gone while a model still works on it. */
struct serve_call {
    serve_connection at;         /* the request under way; first, for `transport` */
    serve_call *next, *previous; /* of the link */
    serve_call *next_ready;
    serve_worker *worker;
    serve_link *link; /* NULL: nobody waits for the answer any more */
    int32_t stream;
    const serve_grpc_method *method;
    char path[128];
    bool is_grpc, is_post, has_token;
    char coding[16];   /* of messages that are compressed; "": none was named */
    uint64_t deadline; /* 0: none */
    bool asleep;       /* until `resume` */
    bool works;        /* a message is complete, and its answer not sent yet */
    bool advances;     /* it is sent, and what came since is about to be read */
    bool ended;        /* no message will come */
    bool replied;      /* the head of the answer is sent */
    bool over;         /* and `status` with it */
    bool watches;      /* the server's health, of which it is told when that changes */
    bool is_known;     /* what it asks the health of */
    int told;          /* what it was told last; 0: nothing */
    int status;        /* of gRPC */
    uint8_t prefix[5];
    size_t prefix_size;
    size_t expected, came; /* bytes of a message, as it comes */
    serve_text waiting;    /* what came before the message before it was answered */
    serve_text json;       /* the request's */
    serve_tensors tensors;
    serve_text out; /* the answer but for its tensors */
    serve_reply *reply;
    struct MHD_IoVec *parts; /* of the answer, in the arena */
    size_t part_count, part, part_sent;
    uint64_t lent; /* the link's last round that had pieces of the answer */
    /* of a text: where its events come from, and what of them was not turned yet */
    ssize_t (*read)(void *user, uint64_t position, char *buffer, size_t size);
    void (*read_release)(void *user);
    void *read_user;
    serve_text events;
};

typedef struct serve_grpc {
    serve *server;
    const serve_nghttp2 *h2;
    serve_tls *tls; /* or NULL */
    int socket;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    serve_worker *workers;
    size_t worker_count;
    atomic_bool ends;
} serve_grpc;

/* --- what a connection is to send (serve_link_send.c), in its worker's thread --- */

#define SERVE_LINK_FRAMES ((size_t)128 << 10) /* that are sent at once */
#define SERVE_LINK_FRAME ((size_t)16384 + SERVE_FRAME_HEAD)

/* Whether a frame of SERVE_FRAME_PARTS parts at most may be put. */
bool serve_link_has_room(const serve_link *link);
/* Bytes that `stay` are sent from where they are, unless they are few or TLS needs a copy; true
 * then. */
bool serve_link_put(serve_link *link, const void *data, size_t size, bool stay);
/* Releases what a call was answered with, once nothing of it is to be sent any more. */
void serve_link_spend(serve_link *link, const serve_call *call, serve_spent spent);
/* Sends what there is. False where the socket takes no more. */
bool serve_link_drain(serve_link *link);
/* All pieces were sent, or will not be. */
void serve_link_begin_round(serve_link *link);

/* --- a connection (serve_link.c), likewise --- */

#define SERVE_LINK_READ ((size_t)64 << 10)

/* Takes the socket; where that fails, closes it. */
void serve_link_open(serve_worker *worker, int made, const struct sockaddr_storage *address,
                     socklen_t size);
/* Lets nghttp2 write its frames, many at once, and closes the link where it is at its end. */
void serve_link_flush(serve_link *link);
/* Reads what came, with SERVE_LINK_READ bytes of room, and answers. */
void serve_link_receive(serve_link *link, uint8_t *buffer);
void serve_link_close(serve_link *link);

/* --- a call (serve_call.c), in its worker's thread --- */

serve_call *serve_call_open(serve_link *link, int32_t stream);
void serve_call_header(serve_call *call, const char *name, const char *value);
/* The head is complete. */
void serve_call_start(serve_call *call);
/* Bytes of messages; how many were taken, and may be followed by others. */
size_t serve_call_feed(serve_call *call, const char *data, size_t size);
void serve_call_end_input(serve_call *call);
/* After `resume`. */
void serve_call_go_on(serve_call *call);
/* Looks at its times, and at the server's end. */
void serve_call_check(serve_call *call, uint64_t now);
/* The stream is gone; the call as soon as nothing works on it. */
void serve_call_close(serve_call *call);

/* --- its answer (serve_call_answer.c) --- */

/* Whether it has message after message. */
bool serve_call_streams(const serve_call *call);
/* Ends it with at.problem, or well. */
void serve_call_end(serve_call *call, bool well);
/* Its request failed: its end, but not that of a call which has others. */
void serve_call_fail(serve_call *call);
/* A frame of DATA, of which nghttp2 knows the size (nghttp2_send_data_callback). */
int serve_call_put_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t size, nghttp2_data_source *source, void *user);
/* Gives back what it was answered with. */
void serve_call_drop_answer(serve_call *call);
/* Sends what `out` has, messages with their prefixes. False where memory is short. */
bool serve_call_send_out(serve_call *call);
/* A parameter of an answer of ModelStreamInfer: whether it is the last one to its request, as
 * Triton's clients count them. */
void serve_call_put_final(serve_text *into, bool is_final);
/* As a serve_transport has them. */
bool serve_call_answer(serve_connection *at, int code, const char *type, serve_reply *reply);
void serve_call_suspend(serve_connection *at);
void serve_call_resume(serve_connection *at);
/* A request of several is answered. */
void serve_call_finish_request(serve_call *call);

/* --- health (serve_call_health.c) --- */

bool serve_health_knows(const char *service);
/* Its client is told of a service's health now, and whenever that changes. */
void serve_call_watch(serve_call *call, const char *service);
void serve_call_tell_health(serve_call *call);

/* --- texts (serve_call_text.c) --- */

/* Whether a request is for a text: tokens alone, to a model that goes on with them. */
bool serve_call_is_text(serve_call *call, serve_proto_span message, const char *name,
                        const char *version);
/* call->json as generate_stream reads it; as serve_proto_to_json. */
bool serve_call_text_json(serve_call *call, serve_proto_span message, const char **reason);
/* Sends the tokens that are there. */
void serve_call_read_text(serve_call *call);
void serve_call_stop_text(serve_call *call);
/* As a serve_transport has it. */
bool serve_call_stream(serve_connection *at,
                       ssize_t (*read)(void *user, uint64_t position, char *buffer, size_t size),
                       void (*release)(void *user), void *user);

#endif
