/* SPDX-License-Identifier: Apache-2.0 */
/* A server of the Open Inference Protocol (KServe v2) over HTTP, for the program.
 *
 * It uses include/kiln and libmicrohttpd, which is opened when a server starts and not before. It
 * handles no signal and ends no process: whoever runs it does. */
#ifndef KILN_SERVE_H
#define KILN_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/kiln.h>

typedef struct serve serve;

#define SERVE_SENTENCE 600

/* What failed, and as which status of HTTP a client would see it. */
typedef struct serve_problem {
    int code; /* 0: nothing */
    char sentence[SERVE_SENTENCE];
} serve_problem;

typedef struct serve_options {
    const char *const *places; /* folders of models, or models */
    size_t place_count;
    const char *host;            /* an address or name to listen on */
    int64_t port;                /* 0: any */
    int64_t grpc_port;           /* likewise; -1: no gRPC */
    int64_t threads;             /* that speak HTTP; 0: one for each processor, at most 8 */
    int64_t connections;         /* at once */
    int64_t body_limit;          /* bytes of a request's body */
    int64_t memory_limit;        /* bytes of all bodies at once */
    double request_seconds;      /* for a request to arrive, to be computed, to be fetched: each */
    double idle_seconds;         /* for which a connection may be without a request */
    double drain_seconds;        /* for requests under way when the server is stopped */
    double generate_seconds;     /* for a text, from its request to its last token */
    const char *access_log;      /* a file, "-" for standard output, or NULL */
    const char *tls_certificate; /* PEM; with tls_key, or both NULL */
    const char *tls_key;
    const char *tokens;       /* a file with a bearer token on each line; or NULL */
    const char *const *loads; /* models that are loaded at the start; none: all */
    size_t load_count;
    double poll_seconds; /* between two looks at the places, for what has changed; 0: none */
    bool shared_memory;  /* of clients on this machine is read and written */
    bool no_control;     /* models are neither loaded nor unloaded by requests */
    const kiln_build_options *build; /* how models are loaded; or NULL */
    kiln_graph_policy graphs;
    int64_t contexts;    /* of kiln_scheduler_options, for every model */
    int64_t max_batch;   /* likewise; 1: requests are not joined */
    int64_t queue_limit; /* likewise */
    double delay;        /* milliseconds to wait for others to share a batch with; 0: none */
    int64_t sequences;   /* max_batch of kiln_generator_options */
    int64_t max_length;  /* likewise; 0: what the model tells, else 1024 */
    int64_t max_tokens;  /* that a request may have generated; 0: no limit but max_length */
    void (*say)(const char *sentence); /* what happens, from any thread */
} serve_options;

/* Whether this program can serve at all: it was built where libmicrohttpd's header was. */
bool serve_is_built(void);

/* Opens libmicrohttpd, listens and answers; no model is ready yet. `options` and what it points to
 * must outlive the server. NULL and `*problem` where that fails. */
serve *serve_start(const serve_options *options, serve_problem *problem);

/* Loads every model of the places. False and the first problem where one fails; the others are
 * loaded all the same. */
bool serve_load_all(serve *server, serve_problem *problem);

/* "http://127.0.0.1:8000" */
const char *serve_address(const serve *server);
/* "127.0.0.1:8001"; "" without gRPC. */
const char *serve_grpc_address(const serve *server);
size_t serve_ready_count(serve *server);

/* Opens the access log anew, after it was moved away, and reads the tokens again; where that fails,
 * those there were stay. */
void serve_reload(serve *server);

/* Takes no new connections, answers what is under way, for drain_seconds at most, and ends. */
void serve_stop(serve *server);

#endif
