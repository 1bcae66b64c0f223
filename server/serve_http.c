/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "serve_http.h"
#include "serve_inflate.h"
#include "serve_tls.h"

/* Copying up to this many bytes is faster than sending the head of an answer separately. */
#define ONE_PIECE ((size_t)1 << 20)
#define FIRST_BODY ((size_t)64 << 10) /* initial capacity for a body of unknown length */
#define READ_AWAY ((uint64_t)1 << 20) /* of a refused request, so that its client sees why */

/* --- answers --- */

static bool answer_response(serve_connection *at, int code, const char *type, size_t head_size,
                            struct MHD_Response *response, size_t size)
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
    if (code == 405) {
        (void)mhd->add_response_header(response, MHD_HTTP_HEADER_ALLOW, at->allowed);
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
    return queued == MHD_YES;
}

/* A reply in one piece is sent together with the head of the answer: if its text fits before the
 * tensors, or if it is small. Otherwise each tensor is sent from its own memory. */
static struct MHD_Response *make_response(const serve_mhd *mhd, serve_reply *reply, size_t size)
{
    struct MHD_Response *response = NULL;
    unsigned used = 1;
    if (reply->count > 1 && reply->headroom >= reply->text.size) {
        char *begin = reply->tensors - reply->text.size;
        memcpy(begin, reply->text.data, reply->text.size);
        response = mhd->create_response_from_buffer_with_free_callback_cls(size, begin,
                                                                           reply->release, reply);
        if (response == NULL) {
            serve_reply_release(reply);
        }
        return response;
    }
    if (size > ONE_PIECE && reply->count > 1) {
        reply->pieces[0] = (struct MHD_IoVec){reply->text.data, reply->text.size};
        for (unsigned i = 1; i < reply->count; i++) {
            reply->pieces[used] = reply->pieces[i];
            used += reply->pieces[i].iov_len != 0;
        }
        response = mhd->create_response_from_iovec(reply->pieces, used, reply->release, reply);
        if (response == NULL) {
            serve_reply_release(reply);
        }
        return response;
    }
    for (unsigned i = 1; i < reply->count; i++) {
        serve_text_append(&reply->text, reply->pieces[i].iov_base, reply->pieces[i].iov_len);
    }
    if (!reply->text.failed) {
        response = mhd->create_response_from_buffer(reply->text.size, reply->text.data,
                                                    MHD_RESPMEM_MUST_FREE);
        reply->text = response != NULL ? (serve_text){.data = NULL} : reply->text;
    }
    serve_reply_release(reply);
    return response;
}

static bool answer(serve_connection *at, int code, const char *type, serve_reply *reply)
{
    const size_t head_size = reply->count > 1 ? reply->text.size : SIZE_MAX;
    size_t size = reply->text.size;
    for (unsigned i = 1; i < reply->count; i++) {
        size += reply->pieces[i].iov_len;
    }
    struct MHD_Response *response = make_response(at->server->mhd, reply, size);
    return response != NULL && answer_response(at, code, type, head_size, response, size);
}

static enum MHD_Result answer_problem(serve_connection *at)
{
    serve_text text = {.data = NULL};
    serve_text_string(&text, "{\"error\":");
    serve_text_json(&text, at->problem.sentence);
    serve_text_string(&text, "}");
    return serve_answer_text(at, at->problem.code, "application/json", &text) ? MHD_YES : MHD_NO;
}

static bool stream(serve_connection *at,
                   ssize_t (*read)(void *user, uint64_t position, char *buffer, size_t size),
                   void (*release)(void *user), void *user)
{
    const serve_mhd *mhd = at->server->mhd;
    struct MHD_Response *response =
        mhd->create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read, user, release);
    if (response == NULL) {
        return false;
    }
    (void)mhd->add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    (void)answer_response(at, 200, "text/event-stream; charset=utf-8", SIZE_MAX, response, 0);
    return true;
}

static void suspend(serve_connection *at)
{
    at->server->mhd->suspend_connection(at->connection);
}

static void resume(serve_connection *at)
{
    at->server->mhd->resume_connection(at->connection);
}

static const serve_transport http = {answer, stream, suspend, resume};

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
        return answer_problem(at); /* libmicrohttpd then closes the connection */
    }
    at->discards = true;
    return MHD_YES;
}

/* Called when all headers have arrived. */
static enum MHD_Result begin(serve_connection *at, const char *uri, const char *method)
{
    uint64_t size = 0;
    if (!serve_request_begin(at, known_method(method))) {
        return answer_problem(at);
    }
    at->uri = serve_arena_string(&at->arena, uri);
    if (at->uri == NULL) {
        return MHD_NO;
    }
    at->route = serve_route_find(at);
    if (!serve_check_head(at, &at->problem, &size)) {
        (void)atomic_fetch_add(&at->server->refused, 1);
        return refuse_early(at, size);
    }
    at->announced = size;
    const size_t first = size == UINT64_MAX ? FIRST_BODY : (size_t)size;
    if (size != 0 &&
        !serve_body_reserve(at, first < SERVE_TRUSTED_BODY ? first : SERVE_TRUSTED_BODY)) {
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
    bool (*const take)(serve_connection *, const char *, size_t) =
        at->route->run == serve_infer_run ? serve_stream_take : serve_body_append;
    if (at->inflater != NULL ? serve_inflate_take(at->inflater, at, data, *size, take)
                             : take(at, data, *size)) {
        *size = 0;
        return MHD_YES;
    }
    /* An answer cannot be queued between two parts of a body: some more is read and discarded, and
     * the answer follows. */
    at->discards = true;
    serve_body_drop(at);
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result conclude(serve_connection *at, serve_result result)
{
    if (result == SERVE_REFUSED) {
        return answer_problem(at);
    }
    /* If there was no memory for an answer, the connection is closed. */
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
        return MHD_NO; /* libmicrohttpd is stopping and did not take the answer */
    }
    if (*size != 0) {
        return more(at, data, size);
    }
    if (at->discards) {
        return answer_problem(at);
    }
    if (atomic_load(&at->phase) == SERVE_WORK) { /* resumed */
        return conclude(at, at->route->again(at));
    }
    if (at->inflater != NULL && !serve_inflate_end(at->inflater, at)) {
        return answer_problem(at);
    }
    at->received = serve_enter_phase(at, SERVE_WORK);
    return conclude(at, at->route->run(at));
}

static void completed(void *user, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode why)
{
    serve_connection *at = *state;
    (void)user;
    (void)connection;
    (void)why;
    if (at == NULL || !at->began) {
        return;
    }
    serve_request_finish(at);
    *state = NULL;
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
    at->transport = &http;
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

/* libmicrohttpd closes the socket after this, so the keeper never sees a reused descriptor. */
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

/* Leaves paths escaped: each segment is decoded after the path is split. */
static size_t leave_escaped(void *user, struct MHD_Connection *connection, char *text)
{
    (void)user;
    (void)connection;
    return strlen(text);
}

/* --- the daemon --- */

/* Whether a new connection is accepted. MHD_quiesce_daemon is no alternative: it and a thread with
 * epoll both remove the listening socket, and the one that comes second ends the process ("Failed
 * to remove listen FD from epoll set"). */
static enum MHD_Result admit(void *user, const struct sockaddr *from, socklen_t size)
{
    const serve *server = user;
    (void)from;
    (void)size;
    return atomic_load(&server->stopping) ? MHD_NO : MHD_YES;
}

bool serve_http_start(serve *server, serve_problem *problem)
{
    const serve_options *options = server->options;
    const bool tls = server->tls_key != NULL;
    const unsigned threads = server->threads;
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
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)SERVE_TLS_PRIORITIES},
        {MHD_OPTION_END, 0, NULL},
    };
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                           MHD_USE_TURBO | (tls ? (unsigned)MHD_USE_TLS : 0);
    if (tls && server->mhd->is_feature_supported(MHD_FEATURE_TLS) != MHD_YES) {
        return serve_refuse(problem, 500, "libmicrohttpd %s here was built without TLS",
                            server->mhd->get_version());
    }
    server->daemon =
        server->mhd->start_daemon(flags, 0, admit, server, handle, server, MHD_OPTION_ARRAY, items,
                                  MHD_OPTION_ARRAY, secrets, MHD_OPTION_END);
    if (server->daemon != NULL) {
        server->socket = -1; /* the daemon closes it */
        return true;
    }
    return serve_refuse(problem, 500, "libmicrohttpd %s cannot serve%s", server->mhd->get_version(),
                        tls ? ": are the key and the certificate in PEM form, and a pair?" : "");
}
