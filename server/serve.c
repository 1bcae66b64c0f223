/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "serve_http.h"
#include "serve_shared.h"

#define LARGEST_PEM 1048576
#define PATIENCE 1000000000 /* nanoseconds that the last event of a text may take */

bool serve_is_built(void)
{
    return true;
}

/* --- listening --- */

static int listen_at(const struct addrinfo *found, int backlog)
{
    const int one = 1;
    const int made = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0) {
        return -1;
    }
    if (setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(made, found->ai_addr, found->ai_addrlen) != 0 || listen(made, backlog) != 0) {
        const int error = errno;
        (void)close(made);
        errno = error;
        return -1;
    }
    return made;
}

/* "SCHEME127.0.0.1:8000" */
static void name_address(int listening, const char *scheme, char *address, size_t room)
{
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char host[80] = "?";
    char port[16] = "?";
    if (getsockname(listening, (struct sockaddr *)&bound, &size) == 0) {
        (void)getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port,
                          NI_NUMERICHOST | NI_NUMERICSERV);
    }
    const bool v6 = strchr(host, ':') != NULL;
    (void)snprintf(address, room, "%s%s%s%s:%s", scheme, v6 ? "[" : "", host, v6 ? "]" : "", port);
}

/* Returns -1 and sets the problem if it cannot listen. */
static int open_socket(const char *host, int64_t number, serve_problem *problem)
{
    const struct addrinfo wanted = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                    .ai_family = AF_UNSPEC,
                                    .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port[24];
    int made = -1;
    (void)snprintf(port, sizeof port, "%lld", (long long)number);
    const int error = getaddrinfo(host, port, &wanted, &found);
    if (error != 0) {
        (void)serve_refuse(problem, 400, "the address \"%.200s\" is not known: %s", host,
                           gai_strerror(error));
        return -1;
    }
    errno = 0;
    for (const struct addrinfo *at = found; at != NULL && made < 0; at = at->ai_next) {
        made = listen_at(at, 4096);
    }
    const int reason = errno;
    freeaddrinfo(found);
    if (made < 0) {
        (void)serve_refuse(problem, 400, "%.200s, port %s cannot be listened on: %s%s", host, port,
                           strerror(reason),
                           reason == EADDRINUSE ? "; another program has it: choose another port"
                           : reason == EACCES
                               ? "; ports below 1024 are the system's: choose another port"
                               : "");
    }
    return made;
}

static bool listen_for_http(serve *server, serve_problem *problem)
{
    server->socket = open_socket(server->options->host, server->options->port, problem);
    name_address(server->socket, server->tls_key != NULL ? "https://" : "http://", server->address,
                 sizeof server->address);
    return server->socket >= 0;
}

static bool start_grpc(serve *server, serve_problem *problem)
{
    const serve_options *options = server->options;
    if (options->grpc_port < 0) {
        return true;
    }
    const int listening = open_socket(options->host, options->grpc_port, problem);
    if (listening < 0) {
        return false;
    }
    name_address(listening, server->tls_key != NULL ? "grpcs://" : "", server->grpc_address,
                 sizeof server->grpc_address);
    server->grpc = serve_grpc_start(server, listening, problem);
    return server->grpc != NULL;
}

static unsigned count_threads(const serve_options *options)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const long usual = processors < 1 ? 1 : processors > 8 ? 8 : processors;
    return (unsigned)(options->threads > 0 ? options->threads : usual);
}

/* --- files --- */

static char *read_pem(const char *path, serve_problem *problem)
{
    size_t size = 0;
    char *text = serve_file_read(path, path, LARGEST_PEM, &size, problem);
    if (text != NULL && size == 0) {
        free(text);
        (void)serve_refuse(problem, 400, "\"%.300s\" cannot be read: it is empty", path);
        return NULL;
    }
    return text;
}

static void read_tokens_anew(serve *server)
{
    serve_problem problem = {.code = 0};
    serve_tokens tokens = {.items = NULL};
    if (server->options->tokens == NULL) {
        return;
    }
    if (serve_tokens_read(server->options->tokens, &tokens, &problem)) {
        (void)pthread_rwlock_wrlock(&server->token_lock);
        const serve_tokens old = server->tokens;
        server->tokens = tokens;
        (void)pthread_rwlock_unlock(&server->token_lock);
        tokens = old;
    } else {
        serve_say(server, "the tokens stay as they were: %s", problem.sentence);
    }
    serve_tokens_finish(&tokens);
}

void serve_reload(serve *server)
{
    read_tokens_anew(server);
    serve_reopen_log(server);
}

static bool read_files(serve *server, serve_problem *problem)
{
    const serve_options *options = server->options;
    if ((options->tls_key == NULL) != (options->tls_certificate == NULL)) {
        return serve_refuse(problem, 400, "TLS needs a key and a certificate");
    }
    if (options->tls_key != NULL) {
        server->tls_key = read_pem(options->tls_key, problem);
        server->tls_certificate =
            server->tls_key != NULL ? read_pem(options->tls_certificate, problem) : NULL;
        if (server->tls_certificate == NULL) {
            return false;
        }
    }
    return (options->tokens == NULL ||
            serve_tokens_read(options->tokens, &server->tokens, problem)) &&
           serve_open_log(server, problem);
}

/* --- start and stop --- */

static bool start_threads(serve *server, serve_problem *problem)
{
    server->has_loader = pthread_create(&server->loader, NULL, serve_loader, server) == 0;
    server->has_keeper = pthread_create(&server->keeper, NULL, serve_keeper, server) == 0;
    return (server->has_loader && server->has_keeper) ||
           serve_refuse(problem, 503, "a thread cannot be started");
}

static void finish(serve *server)
{
    (void)pthread_mutex_lock(&server->work_lock);
    server->ends = true;
    (void)pthread_cond_broadcast(&server->work);
    (void)pthread_cond_broadcast(&server->rest);
    (void)pthread_mutex_unlock(&server->work_lock);
    if (server->has_keeper) {
        (void)pthread_join(server->keeper, NULL);
    }
    if (server->has_loader) {
        (void)pthread_join(server->loader, NULL);
    }
    serve_models_finish(&server->models);
    serve_shared_finish(server);
    serve_tokens_finish(&server->tokens);
    if (server->socket >= 0) {
        (void)close(server->socket);
    }
    serve_close_log(server);
    free(server->tls_key);
    free(server->tls_certificate);
    free(server);
}

serve *serve_start(const serve_options *options, serve_problem *problem)
{
    serve *server = calloc(1, sizeof *server);
    if (server == NULL || !serve_models_init(&server->models) ||
        pthread_mutex_init(&server->log_lock, NULL) != 0 ||
        pthread_mutex_init(&server->connection_lock, NULL) != 0 ||
        pthread_mutex_init(&server->shared_lock, NULL) != 0 ||
        pthread_rwlock_init(&server->token_lock, NULL) != 0 ||
        pthread_mutex_init(&server->work_lock, NULL) != 0 ||
        pthread_cond_init(&server->work, NULL) != 0 ||
        pthread_cond_init(&server->rest, NULL) != 0) {
        free(server);
        (void)serve_no_memory(problem);
        return NULL;
    }
    server->options = options;
    server->threads = count_threads(options);
    server->socket = -1;
    server->started = kiln_clock_now();
    server->mhd = serve_mhd_open(problem->sentence, sizeof problem->sentence);
    if (server->mhd == NULL || !read_files(server, problem) || !listen_for_http(server, problem) ||
        !start_threads(server, problem) || !start_grpc(server, problem) ||
        !serve_http_start(server, problem)) {
        serve_grpc_stop(server->grpc);
        finish(server);
        return NULL;
    }
    return server;
}

const char *serve_address(const serve *server)
{
    return server->address;
}

const char *serve_grpc_address(const serve *server)
{
    return server->grpc_address;
}

static void rest(long milliseconds)
{
    const struct timespec moment = {0, milliseconds * 1000000};
    (void)nanosleep(&moment, NULL);
}

/* Cancels what is still in flight, and cuts off slow clients. */
static void hurry(serve *server)
{
    (void)pthread_mutex_lock(&server->connection_lock);
    for (serve_connection *at = server->connections; at != NULL; at = at->next) {
        const bool writes = serve_cancel(at); /* a text, whose client is still told that it ended */
        const bool fresh = kiln_clock_now() - atomic_load(&at->since) < PATIENCE;
        if (atomic_load(&at->phase) != SERVE_WORK && !(writes && fresh)) {
            (void)shutdown(at->socket, SHUT_RDWR);
        }
    }
    (void)pthread_mutex_unlock(&server->connection_lock);
}

void serve_stop(serve *server)
{
    const uint64_t begin = kiln_clock_now();
    const double limit = server->options->drain_seconds * 1e9;
    atomic_store(&server->stopping, true);
    /* Idle gRPC connections are also told of the end before calls are refused. */
    const double least = server->grpc != NULL ? 2e6 * SERVE_GRPC_MOMENT : 0;
    double passed = 0;
    while ((atomic_load(&server->requests) != 0 || passed < least) && passed < limit) {
        rest(5);
        passed = (double)(kiln_clock_now() - begin);
    }
    atomic_store(&server->ended, true);
    while (atomic_load(&server->requests) != 0) {
        hurry(server);
        rest(20);
    }
    server->mhd->stop_daemon(server->daemon);
    serve_grpc_stop(server->grpc);
    finish(server);
}
