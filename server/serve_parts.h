/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the server share.
 *
 * Threads: those of libmicrohttpd speak HTTP, and each connection is always served by the same one;
 * those of the schedulers run models; one loads and unloads models; one keeps limits of time. A
 * request lives in its connection. While a model works on it the connection is suspended, and the
 * scheduler's answer resumes it. */
#ifndef KILN_SERVE_PARTS_H
#define KILN_SERVE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "serve.h"
#include "serve_json.h"
#include "serve_mhd.h"
#include "serve_text.h"

#define SERVE_NAME 256   /* of a model, with its NUL */
#define SERVE_SEGMENTS 8 /* of a path */

/* Fills `problem`; false, for its caller to return. */
bool serve_refuse(serve_problem *problem, int code, const char *format, ...) SERVE_PRINTF(3, 4);
bool serve_no_memory(serve_problem *problem);
/* What is broken in a request's JSON, `before` bytes of which came in earlier pieces. */
bool serve_refuse_json(serve_problem *problem, const serve_json *json, size_t before,
                       const char *where);
/* The library's own sentence, with the code that fits its status. */
bool serve_refuse_status(serve_problem *problem, kiln_status status, const char *sentence);

/* --- models (serve_models.c, serve_repository.c) --- */

/* An input or output as the protocol shows it. */
typedef struct serve_binding {
    const char *name; /* the engine's */
    kiln_dtype dtype;
    kiln_shape shape;
} serve_binding;

/* What the classes of an output are called. */
typedef struct serve_labels {
    char **items; /* in `text` */
    size_t count;
    char *text;
} serve_labels;

#define SERVE_DEVICES 32

/* Sums of what was measured by the server itself; the scheduler counts the rest. */
typedef struct serve_counts {
    atomic_ullong success, failure;
    atomic_ullong success_ns, failure_ns; /* from the last byte of a request to its answer */
    atomic_ullong rows;                   /* of requests that were answered */
    atomic_ullong input_ns, output_ns;    /* reading requests and writing answers */
    atomic_ullong last;                   /* milliseconds of the epoch */
    atomic_ullong first_tokens, first_ns; /* of texts, from their request on */
    /* of schedulers and generators that are gone */
    atomic_ullong executions, queue_ns, infer_ns;
    atomic_ullong tokens, prompt_tokens, cancelled;
} serve_counts;

/* A version of a model that can be run. Whoever looked it up holds a reference. */
typedef struct serve_instance {
    atomic_int references;
    struct serve *server;
    struct serve_instance *next; /* of those that are to be destroyed */
    char name[SERVE_NAME];
    char version[24];
    kiln_engine *engines[SERVE_DEVICES]; /* one for each device */
    size_t engine_count;
    kiln_scheduler *scheduler;
    kiln_generator *generators[SERVE_DEVICES]; /* of a language model, one for each device */
    size_t generator_count;
    kiln_generator_info language;
    serve_binding *inputs, *outputs;
    serve_labels *labels; /* of each output, or NULL */
    size_t input_count, output_count;
    int64_t row_limit;         /* of a request: max_batch_size of config.pbtxt; 0: none */
    uint64_t timeout;          /* microseconds, of requests that give none; 0: none */
    bool keeps_timeout;        /* and no request's own counts */
    serve_text version_policy; /* of the configuration, as JSON */
    bool decoupled;            /* likewise: requests have several answers */
    uint64_t delay;            /* nanoseconds that requests wait for others; 0: they do not */
    int32_t contexts;          /* of each engine */
    int64_t max_batch;         /* rows that are joined; 0: requests are not */
    bool on_gpu;
    char backend[80];     /* "onnxruntime 1.23.0" */
    const char *platform; /* in the words of the protocol's servers */
    atomic_ullong run_ns; /* of a request that met no other, lately; 0: unknown */
    serve_counts *counts; /* the version's, which outlive a reload */
} serve_instance;

typedef enum serve_state {
    SERVE_UNAVAILABLE = 0,
    SERVE_LOADING = 1,
    SERVE_READY = 2,
    SERVE_UNLOADING = 3
} serve_state;

/* What clients are told of each. */
extern const char *const serve_states[];

typedef struct serve_version {
    struct serve_version *next;
    char version[24];
    char *file;   /* that is loaded */
    bool present; /* at the last walk */
    serve_state state;
    char reason[SERVE_SENTENCE]; /* why it is UNAVAILABLE */
    serve_instance *instance;    /* NULL unless it is READY */
    serve_counts counts;
} serve_version;

/* Never removed: a model that vanished from the repository stays as UNAVAILABLE. */
typedef struct serve_model {
    struct serve_model *next;
    char name[SERVE_NAME];
    char *place;             /* file or folder */
    char *root;              /* the repository, or NULL for a file by itself */
    serve_version *versions; /* the newest first */
    uint64_t stamp, seen;    /* of what lay there when it was loaded, and at the last look (--poll);
                                with the load_lock */
} serve_model;

typedef struct serve_models {
    pthread_rwlock_t lock; /* of the lists and of what they hold */
    serve_model *first;
    atomic_bool loaded; /* serve_load_all is over */
    bool blind; /* memory was short in a walk, so that what it did not see may be there; with the
                   load_lock */
    bool poll_failed;          /* the last look; with the load_lock */
    bool looks_again;          /* what is left out was said before; likewise */
    pthread_mutex_t load_lock; /* one is loaded after the other */
    pthread_mutex_t dying_lock;
    serve_instance *dying;
} serve_models;

bool serve_models_init(serve_models *models);
void serve_models_finish(serve_models *models);

/* Of the list, with its lock; or NULL. */
serve_model *serve_model_find(serve_models *models, const char *name);
/* Looks at the places again; models and versions that are new are added as UNAVAILABLE. With the
 * thread that loads alone. (serve_load.c) */
bool serve_models_scan(struct serve *server, serve_problem *problem);
/* Loads the newest version of a model, or what changed of it; the one before is served until then.
 */
bool serve_model_load(struct serve *server, const char *name, serve_problem *problem);
bool serve_model_unload(struct serve *server, const char *name, serve_problem *problem);
/* Every version that the last walk found. With the load_lock. */
bool serve_model_load_found(struct serve *server, serve_model *model, serve_problem *problem);
void serve_model_take_away(struct serve *server, serve_model *model, const char *reason);
/* Loads and unloads what has changed since the last call. In the thread that loads. (serve_poll.c)
 */
void serve_models_poll(struct serve *server);
/* A version that is ready, with a reference; number NULL: the newest. NULL and the problem where
 * there is none. */
serve_instance *serve_find(struct serve *server, const char *name, const char *number,
                           serve_problem *problem);
void serve_instance_release(serve_instance *instance);
/* The versions of its model that are ready, the oldest first: "1","2". */
void serve_versions_put(serve_text *text, const serve_instance *instance);
/* Destroys what nobody has any more. */
void serve_models_bury(serve_models *models);
serve_instance *serve_instance_open(struct serve *server, const serve_model *model,
                                    serve_version *version, serve_problem *problem);
void serve_instance_close(serve_instance *instance);
/* Files found for a model of the repository (serve_repository.c). */
bool serve_repository_walk(struct serve *server, const char *place, serve_problem *problem);
/* Adds what was found. */
bool serve_models_found(struct serve *server, const char *name, const char *root, const char *place,
                        const char *version, const char *file);

/* --- files (serve_file.c) --- */

/* fopen's for reading or appending, but a pipe that nobody has at its other end is not waited for:
 * signals are blocked here. */
FILE *serve_file_open(const char *path, bool appends);

/* The bytes of a file, at most `limit`, with a NUL behind them; the caller's to free. `what` is
 * what sentences call it. NULL and the problem where it cannot be read; `path` may be NULL. */
char *serve_file_read(const char *path, const char *what, size_t limit, size_t *size,
                      serve_problem *problem);
/* A file beside a model; `*lost`: there was no memory to look for it. */
char *serve_file_beside(serve *server, const char *root, const char *folder, const char *name,
                        bool *lost);
/* `folder`/`name` without links where it lies below `root` and is of that kind, else NULL; the
 * caller's to free. */
char *serve_file_inside(struct serve *server, const char *root, const char *folder,
                        const char *name, mode_t kind);
/* Changes with a file, or with those of a folder; 0: it is not there. */
uint64_t serve_file_stamp(const char *path);

/* --- a connection and its request (serve_http.c) --- */

typedef enum serve_phase {
    SERVE_IDLE = 0,   /* no request, or not all of its head */
    SERVE_BODY = 1,   /* the body is coming */
    SERVE_WORK = 2,   /* it is being computed */
    SERVE_ANSWER = 3, /* the answer is being fetched */
} serve_phase;

struct serve_route;
typedef struct serve_generate serve_generate;
typedef struct serve_region serve_region;
typedef struct serve_connection serve_connection;

/* What a request is answered with: text, and tensors behind it. */
typedef struct serve_reply {
    serve_text text;
    struct MHD_IoVec *pieces;     /* of the answer; the first is kept free for the text */
    unsigned count;               /* of them all; 0: the text alone */
    char *tensors;                /* where they follow each other; or NULL */
    size_t headroom;              /* bytes before that, in which the text may be put */
    void (*release)(void *reply); /* NULL: only the text is to be given back */
} serve_reply;

void serve_reply_release(serve_reply *reply);

/* How a request came, and its answer goes (serve_http.c, serve_grpc.c). */
typedef struct serve_transport {
    /* Takes the reply. False where memory is short; the reply is gone then, too. */
    bool (*answer)(serve_connection *at, int code, const char *type, serve_reply *reply);
    /* What `read` gives, until that says that it is over (MHD_ContentReaderCallback), and then
     * `release`. False where memory is short, and nothing is released. */
    bool (*stream)(serve_connection *at,
                   ssize_t (*read)(void *user, uint64_t position, char *buffer, size_t size),
                   void (*release)(void *user), void *user);
    /* Nothing is done for it until it is resumed, which any thread may do. */
    void (*suspend)(serve_connection *at);
    void (*resume)(serve_connection *at);
} serve_transport;

/* Binary tensors that are no part of the body, one for each input. */
typedef struct serve_tensors {
    const serve_slice *items;
    size_t count;
} serve_tensors;

struct serve_connection {
    struct serve_connection *next, *previous; /* with the server's connection_lock */
    struct serve *server;
    const serve_transport *transport;
    struct MHD_Connection *connection;
    int socket;
    atomic_int phase;
    atomic_ullong since; /* when the phase began */
    char client[64];
    /* the request */
    char *uri; /* as it came, in the arena */
    char segments[SERVE_SEGMENTS][SERVE_NAME];
    size_t segment_count;
    const struct serve_route *route;
    const char *method;
    const char *allowed; /* methods, of a path that does not take it */
    uint64_t begun;
    uint64_t received; /* all of it */
    uint64_t deadline; /* that its client gives up at; 0: none */
    char *block;       /* memory of the body */
    size_t block_size;
    char *body; /* in the block */
    size_t body_size, body_capacity;
    uint64_t announced;              /* bytes of the body; UINT64_MAX: not known */
    size_t taken;                    /* of them, that were read as they came and are not kept */
    size_t head_size;                /* bytes of JSON before binary tensors; SIZE_MAX: all of it */
    const serve_tensors *tensors;    /* or NULL: they are in the body, if there are any */
    struct serve_inflater *inflater; /* of a body that comes compressed, or NULL */
    bool discards;                   /* the body is read and thrown away, for the answer is known */
    bool closes; /* the connection, once it is answered: nobody knows where its next request begins
                  */
    bool began;  /* it is among the server's requests under way */
    serve_problem problem;
    serve_arena arena;
    struct serve_infer *infer;
    struct serve_stream *stream; /* NULL: the body is read once all of it is there */
    serve_instance *writes;      /* a text; with a reference */
    /* the answer of another thread */
    atomic_int progress;  /* serve_progress */
    pthread_mutex_t lock; /* of `request` and `generate`, for the one that cancels them */
    kiln_request *request;
    serve_generate *generate;
    atomic_bool gone; /* its client was seen to be */
    bool late;        /* it was cancelled for its time */
    int code;         /* what was answered */
    size_t answer_size;
};

typedef enum serve_progress {
    SERVE_PENDING = 0,
    SERVE_ANSWERED = 1,
    SERVE_SUSPENDED = 2,
} serve_progress;

/* Answers with JSON or other text, which it takes. False where it could not. */
bool serve_answer_text(serve_connection *at, int code, const char *type, serve_text *text);
/* Now. */
uint64_t serve_enter_phase(serve_connection *at, serve_phase phase);
/* A request's head is there; `false`: the server takes none any more. */
bool serve_request_begin(serve_connection *at, const char *method);
/* It is answered, or its client has gone. */
void serve_request_finish(serve_connection *at);
/* Of a body, that is taken at once for a length that is announced. */
#define SERVE_TRUSTED_BODY ((size_t)16 << 20)
/* Room for so many bytes of a body, so that what is behind its `head_size` is aligned. */
bool serve_body_reserve(serve_connection *at, size_t size);
bool serve_body_append(serve_connection *at, const char *data, size_t size);
void serve_body_drop(serve_connection *at);
/* The connection sleeps until serve_wake, if that has not been called yet: true then. */
bool serve_sleep(serve_connection *at);
void serve_wake(serve_connection *at);

/* --- endpoints (serve_routes.c) --- */

typedef enum serve_result {
    SERVE_DONE,   /* the answer is queued */
    SERVE_WAITS,  /* `again` is called once serve_wake was */
    SERVE_REFUSED /* at->problem says why */
} serve_result;

typedef struct serve_route {
    const char *method;
    const char *path; /* "*" stands for a name */
    bool open;        /* needs no token */
    serve_result (*run)(serve_connection *at);
    serve_result (*again)(serve_connection *at);
    void (*finish)(serve_connection *at); /* the request is over; NULL: nothing is kept for it */
} serve_route;

/* The route of at->uri, which it divides; NULL and at->problem where there is none. */
const serve_route *serve_route_find(serve_connection *at);
/* That of at->segments. */
const serve_route *serve_route_match(serve_connection *at);

serve_result serve_infer_run(serve_connection *at);
serve_result serve_infer_again(serve_connection *at);
/* Takes a part of the body, of which numbers are read at once and are not kept (serve_stream.c). */
bool serve_stream_take(serve_connection *at, const char *data, size_t size);
/* Reads what was kept. */
bool serve_stream_finish(serve_connection *at);
void serve_infer_finish(serve_connection *at);
serve_result serve_generate_run(serve_connection *at);
serve_result serve_generate_again(serve_connection *at);
void serve_generate_finish(serve_connection *at);
/* Ends a text under way; false where there is none. With at->lock. */
bool serve_generate_cancel(serve_connection *at);
/* A request to a version was answered, or failed, which has no rows. */
void serve_count(const serve_connection *at, serve_counts *counts, bool succeeded,
                 unsigned long long rows);
serve_result serve_metrics_run(serve_connection *at);
serve_result serve_page_run(serve_connection *at);
serve_result serve_statistics_run(serve_connection *at);

/* What a version and its scheduler counted. */
typedef struct serve_figures {
    unsigned long long success, failure, success_ns, failure_ns, rows, last;
    unsigned long long executions, queue_ns, input_ns, infer_ns, output_ns, pending;
    unsigned long long tokens, prompt_tokens, cancelled, first_tokens, first_ns;
    unsigned long long running, cache_bytes;
    bool is_language;
    double median_ns, p99_ns; /* of a run */
} serve_figures;

void serve_figures_read(const serve_version *version, serve_figures *figures);
/* Keeps what the scheduler and generators of an instance counted, which are about to go. */
void serve_figures_keep(serve_instance *instance);

/* --- limits (serve_limits.c) --- */

typedef struct serve_tokens {
    char **items;
    size_t count;
} serve_tokens;

bool serve_tokens_read(const char *path, serve_tokens *tokens, serve_problem *problem);
void serve_tokens_finish(serve_tokens *tokens);
/* Whether no token is needed, or "Bearer TOKEN" has one; takes as long whatever it is. */
bool serve_tokens_let_in(serve *server, const char *authorization);
/* What of the head of a request is refused before its body is read. */
bool serve_check_head(serve_connection *at, serve_problem *problem, uint64_t *body_size);
/* Ends what a model works on for it. Whether it is a text. With the connection_lock. */
bool serve_cancel(serve_connection *at);
void *serve_keeper(void *user);

/* --- the access log (serve_log.c) --- */

bool serve_open_log(serve *server, serve_problem *problem);
void serve_close_log(serve *server);
void serve_reopen_log(serve *server);
void serve_log_line(serve_connection *at);

/* --- the server --- */

/* What the thread that loads is asked to do. */
typedef struct serve_job {
    struct serve_job *next;
    serve_connection *at;
    bool unloads;
    char name[SERVE_NAME];
} serve_job;

struct serve {
    const serve_options *options;
    unsigned threads; /* that speak to clients */
    const serve_mhd *mhd;
    struct MHD_Daemon *daemon;
    int socket;
    char address[128];
    struct serve_grpc *grpc; /* or NULL */
    char grpc_address[128];
    serve_tokens tokens; /* none: nobody needs one */
    pthread_rwlock_t token_lock;
    char *tls_key, *tls_certificate;
    FILE *log;
    pthread_mutex_t log_lock;
    unsigned long long lost_lines; /* of the log, since it could be written last; with log_lock */
    serve_models models;
    atomic_bool stopping;   /* connections are closed when they were answered */
    atomic_bool ended;      /* and no request is begun any more */
    atomic_size_t requests; /* under way */
    atomic_size_t sockets;
    atomic_ullong body_bytes;    /* of all bodies */
    atomic_ullong refused;       /* requests that came to no model */
    atomic_uint device_failures; /* runs that a GPU failed since the last that worked on one */
    uint64_t started;
    pthread_mutex_t connection_lock;
    serve_connection *connections;
    pthread_mutex_t work_lock;
    pthread_cond_t work; /* something for the loader */
    pthread_cond_t rest; /* the keeper sleeps on it */
    serve_job *jobs;
    serve_region *regions; /* shared memory of clients (serve_shared.c) */
    pthread_mutex_t shared_lock;
    bool ends;
    uint64_t poll_at; /* when repositories are looked at again; of the loader */
    pthread_t loader, keeper;
    bool has_loader, has_keeper;
};

/* Hands `at` to the loader, which wakes it; its problem has code 0 if that worked. */
serve_result serve_control(serve_connection *at, bool unloads);
/* The thread that loads and destroys, of a server. (serve_loader.c) */
void *serve_loader(void *user);
#define SERVE_GRPC_MOMENT 100 /* milliseconds between two looks at its connections */
/* Calls of gRPC, from now on, over a socket, which it takes (serve_grpc.c). NULL and the problem
 * where that fails. */
struct serve_grpc *serve_grpc_start(serve *server, int listening, serve_problem *problem);
/* No request is under way any more. NULL is allowed. */
void serve_grpc_stop(struct serve_grpc *grpc);
/* Keeps whether GPUs work, by what a run on one came to. */
void serve_note_run(serve *server, const serve_instance *model, kiln_status status);
/* Whether runs fail one after the other for want of a GPU: a device that was lost does not come
 * back to this process. */
bool serve_is_lost(const serve *server);
/* Whether clients shall come. */
bool serve_is_ready(const serve *server);
void serve_say(const serve *server, const char *format, ...) SERVE_PRINTF(2, 3);

#endif
