/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/2 connection: passes received data to nghttp2, and sends what it writes. */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "serve_grpc.h"

#define STREAMS 128             /* concurrent, per connection */
#define STREAM_WINDOW (1 << 20) /* bytes that a client may send ahead */
#define CONNECTION_WINDOW (16 << 20)

/* Waits for the socket to become writable if there is data to send, else for input. */
static void watch(serve_link *link)
{
    const bool waits = link->piece < link->piece_count;
    const bool out = link->secure != NULL ? serve_secure_wants_out(link->secure, waits) : waits;
    struct epoll_event event = {.events = out ? EPOLLOUT : EPOLLIN, .data.ptr = link};
    if (event.events != link->watched) {
        (void)epoll_ctl(link->worker->epoll, link->watched != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                        link->socket, &event);
        link->watched = event.events;
    }
}

static void discard(serve_link *link, const serve_grpc *grpc)
{
    serve_link_begin_round(link);
    if (link->session != NULL) {
        grpc->h2->session_del(link->session);
    }
    if (link->secure != NULL) {
        serve_secure_close(link->secure);
    }
    free(link->out);
    free(link);
}

void serve_link_close(serve_link *link)
{
    serve_worker *worker = link->worker;
    while (link->calls != NULL) {
        serve_call_close(link->calls);
    }
    if (link->previous != NULL) {
        link->previous->next = link->next;
    } else {
        worker->links = link->next;
    }
    if (link->next != NULL) {
        link->next->previous = link->previous;
    }
    (void)atomic_fetch_sub(&worker->grpc->server->sockets, 1);
    const int socket = link->socket;
    discard(link, worker->grpc);
    (void)close(socket);
}

/* Lets nghttp2 write its frames, many at a time. */
void serve_link_flush(serve_link *link)
{
    const serve_nghttp2 *h2 = link->worker->grpc->h2;
    bool more = true;
    while (more && !link->broken && serve_link_drain(link)) {
        const uint8_t *frame = NULL;
        ssize_t size = 1;
        while (size > 0 && serve_link_has_room(link)) {
            size = h2->session_mem_send(link->session, &frame);
            if (size > (ssize_t)SERVE_LINK_FRAME) {
                size = -1;
            } else if (size > 0) {
                (void)serve_link_put(link, frame, (size_t)size, false);
            }
        }
        link->broken |= size < 0;
        more = link->piece_count != 0;
    }
    const bool waits = link->piece < link->piece_count;
    if (link->broken || (!waits && !h2->session_want_read(link->session) &&
                         !h2->session_want_write(link->session))) {
        serve_link_close(link);
    } else {
        watch(link);
    }
}

/* A TLS record may be shorter than the data available. */
void serve_link_receive(serve_link *link, uint8_t *buffer)
{
    const serve_nghttp2 *h2 = link->worker->grpc->h2;
    for (int i = 0; i < 16 && !link->broken; i++) {
        const ssize_t size = link->secure != NULL
                                 ? serve_secure_receive(link->secure, buffer, SERVE_LINK_READ)
                                 : recv(link->socket, buffer, SERVE_LINK_READ, 0);
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        link->since = kiln_clock_now();
        link->broken = size <= 0 || h2->session_mem_recv(link->session, buffer, (size_t)size) < 0;
        if (size < (ssize_t)SERVE_LINK_READ && link->secure == NULL) {
            break;
        }
    }
    serve_link_flush(link);
}

/* First announces the limits for the client. */
static bool greet(serve_link *link)
{
    const serve_grpc *grpc = link->worker->grpc;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 16384}};
    return grpc->h2->session_server_new2(&link->session, grpc->callbacks, link, grpc->option) ==
               0 &&
           grpc->h2->submit_settings(link->session, NGHTTP2_FLAG_NONE, settings,
                                     SERVE_LENGTH(settings)) == 0 &&
           grpc->h2->session_set_local_window_size(link->session, NGHTTP2_FLAG_NONE, 0,
                                                   CONNECTION_WINDOW) == 0;
}

static void name_client(serve_link *link, const struct sockaddr_storage *address, socklen_t size)
{
    char host[48] = "?";
    char port[8] = "0";
    (void)getnameinfo((const struct sockaddr *)address, size, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
    (void)snprintf(link->client, sizeof link->client, "%s:%s", host, port);
}

void serve_link_open(serve_worker *worker, int made, const struct sockaddr_storage *address,
                     socklen_t size)
{
    const serve_grpc *grpc = worker->grpc;
    serve *server = grpc->server;
    const int one = 1;
    serve_link *link = calloc(1, sizeof *link);
    bool opened = atomic_fetch_add(&server->sockets, 1) < (size_t)server->options->connections &&
                  link != NULL && (link->out = malloc(SERVE_LINK_FRAMES)) != NULL;
    if (opened) {
        link->worker = worker;
        link->socket = made;
        link->since = kiln_clock_now();
        link->secure = grpc->tls != NULL ? serve_secure_open(grpc->tls, made) : NULL;
        opened = (grpc->tls == NULL || link->secure != NULL) && greet(link);
    }
    if (!opened) {
        (void)atomic_fetch_sub(&server->sockets, 1);
        if (link != NULL) {
            discard(link, grpc);
        }
        (void)close(made);
        return;
    }
    name_client(link, address, size);
    (void)setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(made, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    link->next = worker->links;
    if (link->next != NULL) {
        link->next->previous = link;
    }
    worker->links = link;
    serve_link_flush(link);
}
