/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "serve_inflate.h"

#define LONGEST_TOKEN 4096
#define MOMENT 0.2 /* seconds in a phase before a connection is checked */

/* --- tokens --- */

bool serve_tokens_read(const char *path, serve_tokens *tokens, serve_problem *problem)
{
    FILE *file = serve_file_open(path, false);
    char line[LONGEST_TOKEN + 2];
    bool read = file != NULL ||
                serve_refuse(problem, 400, "\"%.300s\" cannot be read: %s", path, strerror(errno));
    while (read && fgets(line, sizeof line, file) != NULL) {
        const size_t length = strcspn(line, "\r\n");
        if (line[length] == '\0' && length > LONGEST_TOKEN) {
            read = serve_refuse(problem, 400, "\"%.300s\": a token has more than %d bytes", path,
                                LONGEST_TOKEN);
        }
        line[length] = '\0';
        if (!read || length == 0 || line[0] == '#') {
            continue;
        }
        char **grown = realloc(tokens->items, (tokens->count + 1) * sizeof *grown);
        tokens->items = grown != NULL ? grown : tokens->items;
        char *copy = grown != NULL ? strdup(line) : NULL;
        if (copy == NULL) {
            read = serve_no_memory(problem);
        } else {
            tokens->items[tokens->count++] = copy;
        }
    }
    if (read && ferror(file) != 0) {
        read = serve_refuse(problem, 400, "\"%.300s\" cannot be read: %s", path, strerror(errno));
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return read &&
           (tokens->count != 0 ||
            serve_refuse(problem, 400, "\"%.300s\" holds no token: one on each line", path));
}

void serve_tokens_finish(serve_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++) {
        free(tokens->items[i]);
    }
    free(tokens->items);
    *tokens = (serve_tokens){.items = NULL};
}

static bool have(const serve_tokens *tokens, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    unsigned found = 0;
    const bool bears =
        authorization != NULL && strncasecmp(authorization, scheme, sizeof scheme - 1) == 0;
    const char *given = bears ? authorization + sizeof scheme - 1 : "";
    const size_t length = strlen(given);
    for (size_t i = 0; i < tokens->count; i++) {
        const size_t own = strlen(tokens->items[i]);
        unsigned differ = own != length;
        for (size_t k = 0; k < own; k++) {
            const char other = k < length ? given[k] : (char)0;
            differ |= (unsigned)(unsigned char)(tokens->items[i][k] ^ other);
        }
        found |= differ == 0;
    }
    return bears && found != 0;
}

bool serve_tokens_let_in(serve *server, const char *authorization)
{
    (void)pthread_rwlock_rdlock(&server->token_lock);
    const bool in = server->tokens.count == 0 || have(&server->tokens, authorization);
    (void)pthread_rwlock_unlock(&server->token_lock);
    return in;
}

/* --- headers --- */

typedef struct head {
    unsigned lengths, encodings, codings; /* number of occurrences */
    bool chunked, misnamed;
    uint64_t length;
    const char *encoding; /* of the content */
    const char *authorization;
    const char *json_length;
    unsigned json_lengths;
} head;

static bool is_header(const char *key, size_t size, const char *name)
{
    return size == strlen(name) && strncasecmp(key, name, size) == 0;
}

/* Whether a name is a valid token; "Content-Length " is not: RFC 9112, section 5.1. */
static bool is_token(const char *key, size_t size)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    bool token = size > 0;
    for (size_t i = 0; token && i < size; i++) {
        const char c = key[i];
        token = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                (c >= '0' && c <= '9') || (c != '\0' && strchr(marks, c) != NULL);
    }
    return token;
}

static enum MHD_Result look(void *user, enum MHD_ValueKind kind, const char *key, size_t key_size,
                            const char *value, size_t value_size)
{
    head *found = user;
    (void)kind;
    (void)value_size;
    value = value != NULL ? value : "";
    found->misnamed = found->misnamed || !is_token(key, key_size);
    if (is_header(key, key_size, MHD_HTTP_HEADER_CONTENT_LENGTH)) {
        found->lengths++;
        found->length = strtoull(value, NULL, 10);
    } else if (is_header(key, key_size, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
        found->encodings++;
        found->chunked = strcasecmp(value, "chunked") == 0;
    } else if (is_header(key, key_size, MHD_HTTP_HEADER_CONTENT_ENCODING)) {
        found->codings++;
        found->encoding = value;
    } else if (is_header(key, key_size, MHD_HTTP_HEADER_AUTHORIZATION)) {
        found->authorization = value;
    } else if (is_header(key, key_size, "Inference-Header-Content-Length")) {
        found->json_lengths++;
        found->json_length = value;
    }
    return MHD_YES;
}

static bool read_json_length(const head *found, size_t *size, serve_problem *problem)
{
    *size = SIZE_MAX;
    if (found->json_lengths == 0) {
        return true;
    }
    const char *text = found->json_length;
    const size_t digits = strspn(text, "0123456789");
    const uint64_t value = strtoull(text, NULL, 10);
    if (found->json_lengths > 1 || digits == 0 || digits > 18 || text[digits] != '\0') {
        return serve_refuse(problem, 400,
                            "Inference-Header-Content-Length is no number: \"%.40s\"%s", text,
                            found->json_lengths > 1 ? ", given more than once" : "");
    }
    if (!found->chunked && found->encoding == NULL && value > found->length) {
        return serve_refuse(problem, 400,
                            "Inference-Header-Content-Length is %llu, more than the body's %llu "
                            "bytes",
                            (unsigned long long)value, (unsigned long long)found->length);
    }
    *size = (size_t)value;
    return true;
}

/* The length of a compressed body is not known in advance. */
static bool read_coding(head *found, serve_connection *at, serve_problem *problem,
                        uint64_t *body_size)
{
    if (found->encoding == NULL || strcasecmp(found->encoding, "identity") == 0) {
        found->encoding = NULL;
        return true;
    }
    if (found->codings > 1 || !serve_inflate_knows(found->encoding)) {
        return serve_refuse(problem, 415,
                            "the Content-Encoding \"%.60s\" is not understood; gzip and deflate "
                            "are, one of them",
                            found->encoding);
    }
    *body_size = UINT64_MAX;
    at->inflater = serve_inflate_open(found->encoding);
    return at->inflater != NULL || serve_no_memory(problem);
}

/* Refuses what two servers in a chain could interpret differently: RFC 9112, section 6.3. */
static bool check_framing(const head *found, serve_problem *problem)
{
    if (found->misnamed) {
        return serve_refuse(problem, 400,
                            "the name of a header has a character that no name may have");
    }
    if (found->encodings != 0 && found->lengths != 0) {
        return serve_refuse(problem, 400,
                            "a request has both Transfer-Encoding and Content-Length");
    }
    if (found->encodings > 1 || (found->encodings == 1 && !found->chunked)) {
        return serve_refuse(problem, 400, "the Transfer-Encoding of a request is not \"chunked\"");
    }
    return found->lengths <= 1 ||
           serve_refuse(problem, 400, "a request has more than one Content-Length");
}

bool serve_check_head(serve_connection *at, serve_problem *problem, uint64_t *body_size)
{
    serve *server = at->server;
    const serve_options *options = server->options;
    head found = {.lengths = 0};
    (void)server->mhd->get_connection_values_n(at->connection, MHD_HEADER_KIND, look, &found);
    *body_size = found.chunked ? UINT64_MAX : found.length;
    if (strcmp(at->method, "OTHER") == 0 || !check_framing(&found, problem)) {
        at->closes = true;
        return false;
    }
    if ((at->route == NULL || !at->route->open) &&
        !serve_tokens_let_in(server, found.authorization)) {
        return serve_refuse(problem, 401, "a token is needed: \"Authorization: Bearer TOKEN\"");
    }
    if (at->route == NULL) {
        return false; /* the problem is set already */
    }
    if (found.length > (uint64_t)options->body_limit) {
        return serve_refuse(problem, 413, "a body of %llu bytes is larger than %lld (--max-body)",
                            (unsigned long long)found.length, (long long)options->body_limit);
    }
    return read_coding(&found, at, problem, body_size) &&
           read_json_length(&found, &at->head_size, problem);
}

/* --- timeouts --- */

/* Seconds that a connection may stay in its phase. */
static double allowed(const serve *server, int phase)
{
    return phase == SERVE_IDLE ? server->options->idle_seconds : server->options->request_seconds;
}

/* libmicrohttpd 0.9.75 can miss the end of a connection that arrives with its last bytes: that is
 * one event, and it reads once. */
static bool is_gone(const serve_connection *at, int phase)
{
    char byte = 0;
    const ssize_t found = phase == SERVE_IDLE || phase == SERVE_BODY
                              ? recv(at->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
                              : 1;
    return found == 0 || (found < 0 && errno != EAGAIN && errno != EINTR);
}

/* Whether a client that waits for a text has stopped reading, or writing, which a proxy takes for a
 * hang-up as well. */
static bool has_hung_up(const serve_connection *at)
{
    struct pollfd look = {.fd = at->socket, .events = POLLRDHUP};
    return poll(&look, 1, 0) == 1 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static bool writes_text(serve_connection *at)
{
    (void)pthread_mutex_lock(&at->lock);
    const bool writes = at->generate != NULL;
    (void)pthread_mutex_unlock(&at->lock);
    return writes;
}

bool serve_cancel(serve_connection *at)
{
    (void)pthread_mutex_lock(&at->lock);
    if (at->request != NULL && !at->late) {
        at->late = true;
        (void)!kiln_request_cancel(at->request);
    }
    const bool writes = at->generate != NULL;
    (void)serve_generate_cancel(at);
    (void)pthread_mutex_unlock(&at->lock);
    return writes;
}

static void check_connection(serve *server, serve_connection *at, uint64_t now)
{
    const int phase = atomic_load(&at->phase);
    const uint64_t since = atomic_load(&at->since);
    const double seconds = now > since ? (double)(now - since) / 1e9 : 0;
    if (phase == SERVE_WORK && writes_text(at)) { /* its sequence has its own limit */
        if (!atomic_load(&at->gone) && has_hung_up(at)) {
            atomic_store(&at->gone, true);
            (void)serve_cancel(at);
        }
        return;
    }
    if (seconds < allowed(server, phase) && !(seconds > MOMENT && is_gone(at, phase))) {
        return;
    }
    if (phase != SERVE_WORK) {
        (void)shutdown(at->socket, SHUT_RDWR);
        return;
    }
    (void)serve_cancel(at);
}

static bool wait_a_moment(serve *server)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&server->work_lock);
    if (!server->ends) {
        (void)pthread_cond_clockwait(&server->rest, &server->work_lock, CLOCK_MONOTONIC, &until);
    }
    const bool goes_on = !server->ends;
    (void)pthread_mutex_unlock(&server->work_lock);
    return goes_on;
}

void *serve_keeper(void *user)
{
    serve *server = user;
    while (wait_a_moment(server)) {
        const uint64_t now = kiln_clock_now();
        (void)pthread_mutex_lock(&server->connection_lock);
        for (serve_connection *at = server->connections; at != NULL; at = at->next) {
            check_connection(server, at, now);
        }
        (void)pthread_mutex_unlock(&server->connection_lock);
    }
    return NULL;
}
