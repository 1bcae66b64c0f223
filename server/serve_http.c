/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "serve_http.h"

#define ALIGNMENT ((size_t)64)
#define FIRST_BODY ((size_t)64 << 10)   /* of a body whose length is not known */
#define TRUSTED_BODY ((size_t)16 << 20) /* that is taken at once for a length that is announced */
#define KEPT_BODY ((size_t)256 << 10)   /* memory that stays with an idle connection */
#define READ_AWAY ((uint64_t)1 << 20)   /* of a refused request, whose client then sees why */

void serve_enter_phase(serve_connection *at, serve_phase phase)
{
    atomic_store(&at->since, kiln_clock_now());
    atomic_store(&at->phase, phase);
}

/* --- answers --- */

enum MHD_Result serve_answer_response(serve_connection *at, int code, const char *type,
                                      size_t head_size, struct MHD_Response *response, size_t size)
{
    const serve_mhd *mhd = at->server->mhd;
    (void)mhd->add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (head_size != SIZE_MAX) {
        char number[24];
        (void)snprintf(number, sizeof number, "%zu", head_size);
        (void)mhd->add_response_header(response, "Inference-Header-Content-Length", number);
    }
    if (code == 401) {
        (void)mhd->add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    }
    if (at->closes || atomic_load(&at->server->stopping)) {
        (void)mhd->add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    at->code = code;
    at->answer_size = size;
    const enum MHD_Result queued = mhd->queue_response(at->connection, (unsigned)code, response);
    mhd->destroy_response(response);
    if (queued == MHD_YES) {
        serve_enter_phase(at, SERVE_ANSWER);
    }
    return queued;
}

enum MHD_Result serve_answer_text(serve_connection *at, int code, const char *type,
                                  serve_text *text)
{
    struct MHD_Response *response = text->failed
                                        ? NULL
                                        : at->server->mhd->create_response_from_buffer(
                                              text->size, text->data, MHD_RESPMEM_MUST_FREE);
    const size_t size = text->size;
    if (response == NULL) {
        serve_text_finish(text);
        return MHD_NO; /* the connection is closed */
    }
    *text = (serve_text){.data = NULL};
    return serve_answer_response(at, code, type, SIZE_MAX, response, size);
}

enum MHD_Result serve_answer_problem(serve_connection *at)
{
    serve_text text = {.data = NULL};
    serve_text_string(&text, "{\"error\":");
    serve_text_json(&text, at->problem.sentence);
    serve_text_string(&text, "}");
    return serve_answer_text(at, at->problem.code, "application/json", &text);
}

/* --- between threads --- */

bool serve_sleep(serve_connection *at)
{
    int pending = SERVE_PENDING;
    at->server->mhd->suspend_connection(at->connection);
    if (atomic_compare_exchange_strong(&at->progress, &pending, SERVE_SUSPENDED)) {
        return true;
    }
    at->server->mhd->resume_connection(at->connection);
    return true; /* it was answered meanwhile, and is called again */
}

void serve_wake(serve_connection *at)
{
    if (atomic_exchange(&at->progress, SERVE_ANSWERED) == SERVE_SUSPENDED) {
        at->server->mhd->resume_connection(at->connection);
    }
}

/* --- the body --- */

static bool take_memory(serve_connection *at, size_t size)
{
    serve *server = at->server;
    if (size <= at->body_capacity) {
        return true;
    }
    const unsigned long long more = size - at->body_capacity;
    if (atomic_fetch_add(&server->body_bytes, more) + more >
        (unsigned long long)server->options->memory_limit) {
        (void)atomic_fetch_sub(&server->body_bytes, more);
        return serve_refuse(&at->problem, 503,
                            "the bodies of all requests take more than %lld bytes now; try again",
                            (long long)server->options->memory_limit);
    }
    /* The first binary tensor is aligned, wherever the JSON before it ends. */
    const size_t shift = at->head_size == SIZE_MAX ? 0 : (0 - at->head_size) % ALIGNMENT;
    const size_t room = (size + shift + 2 * ALIGNMENT) & ~(ALIGNMENT - 1);
    if (room > at->block_size) {
        char *block = aligned_alloc(ALIGNMENT, room);
        if (block == NULL) {
            (void)atomic_fetch_sub(&server->body_bytes, more);
            return serve_refuse(&at->problem, 503, "memory is short");
        }
        if (at->body_size != 0) {
            memcpy(block + shift, at->body, at->body_size);
        }
        free(at->block);
        at->block = block;
        at->block_size = room;
    }
    at->body = at->block + shift;
    at->body_capacity = size;
    return true;
}

static void drop_body(serve_connection *at)
{
    (void)atomic_fetch_sub(&at->server->body_bytes, at->body_capacity);
    at->body_capacity = 0;
    at->body_size = 0;
    if (at->block_size > KEPT_BODY) {
        free(at->block);
        at->block = NULL;
        at->block_size = 0;
    }
}

static bool take_body(serve_connection *at, const char *data, size_t size)
{
    const size_t limit = (size_t)at->server->options->body_limit;
    if (size > limit - at->body_size) {
        return serve_refuse(&at->problem, 413, "a body is larger than %zu bytes (--max-body)",
                            limit);
    }
    const size_t needed = at->body_size + size;
    if (needed > at->body_capacity) {
        const size_t doubled = 2 * at->body_capacity < limit ? 2 * at->body_capacity : limit;
        if (!take_memory(at, doubled > needed ? doubled : needed)) {
            return false;
        }
    }
    memcpy(at->body + at->body_size, data, size);
    at->body_size = needed;
    return true;
}

/* --- a request --- */

static const char *known_method(const char *method)
{
    static const char *const methods[] = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < SERVE_LENGTH(methods); i++) {
        if (strcmp(methods[i], method) == 0) {
            return methods[i];
        }
    }
    return "OTHER";
}

static enum MHD_Result refuse_early(serve_connection *at, uint64_t size)
{
    if (at->closes || size > READ_AWAY) {
        return serve_answer_problem(at); /* libmicrohttpd closes the connection then */
    }
    at->discards = true;
    return MHD_YES;
}

/* All headers are there. */
static enum MHD_Result begin(serve_connection *at, const char *uri, const char *method)
{
    uint64_t size = 0;
    at->begun = kiln_clock_now();
    at->began = true;
    (void)atomic_fetch_add(&at->server->requests, 1);
    at->problem.code = 0;
    at->discards = false;
    at->closes = false;
    at->late = false;
    atomic_store(&at->gone, false);
    at->head_size = SIZE_MAX;
    at->method = known_method(method);
    if (atomic_load(&at->server->ended)) { /* none may sleep when libmicrohttpd stops */
        at->closes = true;
        (void)serve_refuse(&at->problem, 503, "the server is stopping");
        return serve_answer_problem(at);
    }
    const size_t length = strlen(uri) + 1;
    at->uri = serve_arena_take(&at->arena, length);
    if (at->uri == NULL) {
        return MHD_NO;
    }
    memcpy(at->uri, uri, length);
    serve_enter_phase(at, SERVE_BODY);
    at->route = serve_route_find(at);
    if (!serve_check_head(at, &at->problem, &size)) {
        (void)atomic_fetch_add(&at->server->refused, 1);
        return refuse_early(at, size);
    }
    const size_t first = size == UINT64_MAX ? FIRST_BODY : (size_t)size;
    if (size != 0 && !take_memory(at, first < TRUSTED_BODY ? first : TRUSTED_BODY)) {
        return refuse_early(at, size);
    }
    return MHD_YES;
}

static enum MHD_Result more(serve_connection *at, const char *data, size_t *size)
{
    if (at->discards) {
        at->body_size += *size;
        *size = 0;
        return at->body_size <= READ_AWAY ? MHD_YES : MHD_NO;
    }
    if (take_body(at, data, *size)) {
        *size = 0;
        return MHD_YES;
    }
    /* An answer cannot be queued between two parts of a body: a little more is read and thrown
     * away, and the answer follows. */
    at->discards = true;
    drop_body(at);
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result conclude(serve_connection *at, serve_result result)
{
    if (result == SERVE_REFUSED) {
        return serve_answer_problem(at);
    }
    /* Where no answer could be made, for want of memory, the connection is closed. */
    return result == SERVE_WAITS || atomic_load(&at->phase) == SERVE_ANSWER ? MHD_YES : MHD_NO;
}

static enum MHD_Result handle(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **state)
{
    serve *server = user;
    (void)version;
    if (*state == NULL) {
        const union MHD_ConnectionInfo *info =
            server->mhd->get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        if (info == NULL || info->socket_context == NULL) {
            return MHD_NO;
        }
        *state = info->socket_context;
        return begin(*state, url, method);
    }
    serve_connection *at = *state;
    if (atomic_load(&at->phase) == SERVE_ANSWER) {
        return MHD_NO; /* libmicrohttpd, which is being stopped, did not take the answer */
    }
    if (*size != 0) {
        return more(at, data, size);
    }
    if (at->discards) {
        return serve_answer_problem(at);
    }
    if (atomic_load(&at->phase) == SERVE_WORK) { /* it was resumed */
        return conclude(at, at->route->again(at));
    }
    at->received = kiln_clock_now();
    serve_enter_phase(at, SERVE_WORK);
    return conclude(at, at->route->run(at));
}

static void completed(void *user, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode why)
{
    serve_connection *at = *state;
    serve *server = user;
    (void)connection;
    (void)why;
    if (at == NULL || !at->began) {
        return;
    }
    if (server->options->access_log != NULL) {
        serve_log_line(at);
    }
    serve_infer_finish(at);
    serve_generate_finish(at);
    drop_body(at);
    serve_arena_reset(&at->arena);
    at->uri = NULL;
    at->route = NULL;
    at->began = false;
    at->code = 0;
    at->answer_size = 0;
    *state = NULL;
    serve_enter_phase(at, SERVE_IDLE);
    (void)atomic_fetch_sub(&server->requests, 1);
}

/* --- connections --- */

static void name_client(serve_connection *at, const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (address != NULL && address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        (void)inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
        port = ntohs(v4.sin_port);
    } else if (address != NULL && address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        (void)inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
        port = ntohs(v6.sin6_port);
    }
    (void)snprintf(at->client, sizeof at->client, "%s:%u", text, port);
}

static serve_connection *open_connection(serve *server, struct MHD_Connection *connection)
{
    serve_connection *at = calloc(1, sizeof *at);
    if (at == NULL || pthread_mutex_init(&at->lock, NULL) != 0) {
        free(at);
        return NULL;
    }
    const union MHD_ConnectionInfo *info =
        server->mhd->get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    at->socket = info != NULL ? info->connect_fd : -1;
    info = server->mhd->get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    name_client(at, info != NULL ? info->client_addr : NULL);
    at->server = server;
    at->connection = connection;
    serve_enter_phase(at, SERVE_IDLE);
    (void)pthread_mutex_lock(&server->connection_lock);
    at->next = server->connections;
    if (at->next != NULL) {
        at->next->previous = at;
    }
    server->connections = at;
    (void)pthread_mutex_unlock(&server->connection_lock);
    (void)atomic_fetch_add(&server->sockets, 1);
    return at;
}

static void close_connection(serve_connection *at)
{
    serve *server = at->server;
    (void)pthread_mutex_lock(&server->connection_lock);
    if (at->previous != NULL) {
        at->previous->next = at->next;
    } else {
        server->connections = at->next;
    }
    if (at->next != NULL) {
        at->next->previous = at->previous;
    }
    (void)pthread_mutex_unlock(&server->connection_lock);
    (void)atomic_fetch_sub(&server->sockets, 1);
    serve_arena_finish(&at->arena);
    (void)pthread_mutex_destroy(&at->lock);
    free(at->block);
    free(at);
}

/* libmicrohttpd closes the socket after this, so that the keeper never sees another's. */
static void notify(void *user, struct MHD_Connection *connection, void **context,
                   enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = open_connection(user, connection);
    } else if (*context != NULL) {
        close_connection(*context);
        *context = NULL;
    }
}

/* Paths are decoded segment by segment, when they were divided. */
static size_t leave_escaped(void *user, struct MHD_Connection *connection, char *text)
{
    (void)user;
    (void)connection;
    return strlen(text);
}

/* --- the daemon --- */

static unsigned thread_count(const serve_options *options)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const long usual = processors / 2 < 1 ? 1 : processors / 2 > 8 ? 8 : processors / 2;
    return (unsigned)(options->threads > 0 ? options->threads : usual);
}

bool serve_http_start(serve *server, serve_problem *problem)
{
    const serve_options *options = server->options;
    const bool tls = server->tls_key != NULL;
    const unsigned threads = thread_count(options);
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_LISTEN_SOCKET, server->socket, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)completed, server},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)notify, server},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escaped, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)options->connections, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)64 << 10, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem secrets[] = {
        {tls ? MHD_OPTION_HTTPS_MEM_KEY : MHD_OPTION_END, 0, server->tls_key},
        {MHD_OPTION_HTTPS_MEM_CERT, 0, server->tls_certificate},
        {MHD_OPTION_END, 0, NULL},
    };
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                           MHD_USE_TURBO | (tls ? (unsigned)MHD_USE_TLS : 0);
    if (tls && server->mhd->is_feature_supported(MHD_FEATURE_TLS) != MHD_YES) {
        return serve_refuse(problem, 500, "libmicrohttpd %s here was built without TLS",
                            server->mhd->get_version());
    }
    server->daemon =
        server->mhd->start_daemon(flags, 0, NULL, NULL, handle, server, MHD_OPTION_ARRAY, items,
                                  MHD_OPTION_ARRAY, secrets, MHD_OPTION_END);
    return server->daemon != NULL ||
           serve_refuse(problem, 500, "libmicrohttpd %s cannot serve%s", server->mhd->get_version(),
                        tls ? ": are the key and the certificate in PEM form, and a pair?" : "");
}
