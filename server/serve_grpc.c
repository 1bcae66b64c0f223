/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_grpc.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAMS 128             /* of a connection, at once */
#define MOST_CALLS 16384        /* of the server */
#define STREAM_WINDOW (1 << 20) /* bytes that a client may send ahead */
#define CONNECTION_WINDOW (16 << 20)
#define FRAMES ((size_t)128 << 10) /* that are sent at once */
#define LARGEST_FRAME ((size_t)16384 + 9)
#define READ_SIZE ((size_t)64 << 10)
#define MOMENT 100 /* milliseconds between two looks at the times of calls */

/* --- callbacks of nghttp2 --- */

static int began(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    serve_link *link = user;
    const serve_grpc *grpc = link->worker->grpc;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    serve_call *call = atomic_load(&grpc->server->requests) < MOST_CALLS
                           ? serve_call_open(link, frame->hd.stream_id)
                           : NULL;
    if (call == NULL) {
        (void)grpc->h2->submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                          NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    (void)grpc->h2->session_set_stream_user_data(session, frame->hd.stream_id, call);
    return 0;
}

static serve_call *call_of(const serve_link *link, int32_t stream)
{
    return link->worker->grpc->h2->session_get_stream_user_data(link->session, stream);
}

/* Names and values are ended by NUL. */
static int header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                  size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                  void *user)
{
    serve_call *call = call_of(user, frame->hd.stream_id);
    (void)session, (void)name_size, (void)value_size, (void)flags;
    if (call != NULL) {
        serve_call_header(call, (const char *)name, (const char *)value);
    }
    return 0;
}

static int frame_came(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    serve_call *call = call_of(user, frame->hd.stream_id);
    (void)session;
    if (call == NULL || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        serve_call_start(call);
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        serve_call_end_input(call);
    }
    return 0;
}

static int data_came(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                     size_t size, void *user)
{
    serve_link *link = user;
    const serve_nghttp2 *h2 = link->worker->grpc->h2;
    serve_call *call = call_of(link, stream);
    size_t taken = call == NULL ? size : 0;
    (void)flags;
    while (taken < size) { /* a frame may have several messages */
        const size_t more = serve_call_feed(call, (const char *)data + taken, size - taken);
        if (more == 0) {
            break; /* it is kept, and its window closed until it is used */
        }
        taken += more;
    }
    (void)h2->session_consume_connection(session, size);
    (void)h2->session_consume_stream(session, stream, taken);
    return 0;
}

static int closed(nghttp2_session *session, int32_t stream, uint32_t error, void *user)
{
    serve_call *call = call_of(user, stream);
    (void)session, (void)error;
    if (call != NULL) {
        (void)((serve_link *)user)
            ->worker->grpc->h2->session_set_stream_user_data(session, stream, NULL);
        serve_call_close(call);
    }
    return 0;
}

/* --- links --- */

static void watch(const serve_link *link, int operation)
{
    const bool waits = link->out_sent < link->out_size;
    struct epoll_event event = {.events = waits ? EPOLLOUT : EPOLLIN,
                                .data.ptr = (void *)(uintptr_t)link};
    (void)epoll_ctl(link->worker->epoll, operation, link->socket, &event);
}

static void close_link(serve_link *link)
{
    serve_worker *worker = link->worker;
    while (link->calls != NULL) {
        serve_call_close(link->calls);
    }
    worker->grpc->h2->session_del(link->session);
    (void)close(link->socket);
    if (link->previous != NULL) {
        link->previous->next = link->next;
    } else {
        worker->links = link->next;
    }
    if (link->next != NULL) {
        link->next->previous = link->previous;
    }
    (void)atomic_fetch_sub(&worker->grpc->server->sockets, 1);
    free(link->out);
    free(link);
}

/* Sends what `out` has. False where the socket takes no more. */
static bool drain(serve_link *link)
{
    while (link->out_sent < link->out_size) {
        const ssize_t sent = send(link->socket, link->out + link->out_sent,
                                  link->out_size - link->out_sent, MSG_NOSIGNAL);
        if (sent <= 0) {
            link->broken |= errno != EAGAIN && errno != EINTR;
            return false;
        }
        link->out_sent += (size_t)sent;
        link->since = kiln_clock_now();
    }
    link->out_size = 0;
    link->out_sent = 0;
    return true;
}

/* Lets nghttp2 write its frames, many at once. */
static void flush(serve_link *link)
{
    const serve_nghttp2 *h2 = link->worker->grpc->h2;
    const bool waited = link->out_sent < link->out_size;
    bool more = true;
    while (more && !link->broken && drain(link)) {
        const uint8_t *frame = NULL;
        ssize_t size = 1;
        while (size > 0 && link->out_size + LARGEST_FRAME <= FRAMES) {
            size = h2->session_mem_send(link->session, &frame);
            if (size > (ssize_t)LARGEST_FRAME) {
                size = -1;
            } else if (size > 0) {
                memcpy(link->out + link->out_size, frame, (size_t)size);
                link->out_size += (size_t)size;
            }
        }
        link->broken |= size < 0;
        more = link->out_size != 0;
    }
    const bool waits = link->out_sent < link->out_size;
    if (link->broken || (!waits && !h2->session_want_read(link->session) &&
                         !h2->session_want_write(link->session))) {
        close_link(link);
    } else if (waits != waited) {
        watch(link, EPOLL_CTL_MOD);
    }
}

static void receive(serve_link *link, uint8_t *buffer)
{
    const serve_nghttp2 *h2 = link->worker->grpc->h2;
    for (int i = 0; i < 16 && !link->broken; i++) {
        const ssize_t size = recv(link->socket, buffer, READ_SIZE, 0);
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        link->since = kiln_clock_now();
        link->broken = size <= 0 || h2->session_mem_recv(link->session, buffer, (size_t)size) < 0;
        if (size < (ssize_t)READ_SIZE) {
            break;
        }
    }
    flush(link);
}

/* What a client may do is told first. */
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

static void open_link(serve_worker *worker, int made, const struct sockaddr_storage *address,
                      socklen_t size)
{
    serve *server = worker->grpc->server;
    const int one = 1;
    serve_link *link = calloc(1, sizeof *link);
    const bool room = atomic_fetch_add(&server->sockets, 1) < (size_t)server->options->connections;
    if (link != NULL && room && (link->out = malloc(FRAMES)) != NULL) {
        link->worker = worker;
        link->socket = made;
        link->since = kiln_clock_now();
    }
    if (link == NULL || link->out == NULL || !greet(link)) {
        (void)atomic_fetch_sub(&server->sockets, 1);
        if (link != NULL && link->session != NULL) {
            worker->grpc->h2->session_del(link->session);
        }
        free(link != NULL ? link->out : NULL);
        free(link);
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
    watch(link, EPOLL_CTL_ADD);
    flush(link);
}

static void take_connection(serve_worker *worker)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    const int made = accept4(worker->grpc->socket, (struct sockaddr *)&address, &size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (made >= 0) {
        open_link(worker, made, &address, size);
    } else if (errno == EMFILE || errno == ENFILE) { /* the next look finds it again */
        (void)usleep(10000);
    }
}

/* --- a worker --- */

static void check_link(serve_link *link, uint64_t now)
{
    const serve *server = link->worker->grpc->server;
    const serve_nghttp2 *h2 = link->worker->grpc->h2;
    const double seconds = now > link->since ? (double)(now - link->since) / 1e9 : 0;
    const bool stops = atomic_load(&server->stopping);
    const bool waits = link->out_sent < link->out_size;
    for (serve_call *call = link->calls, *next = NULL; call != NULL; call = next) {
        next = call->next;
        serve_call_check(call, now);
    }
    if (!link->leaves &&
        (stops || (link->calls == NULL && seconds >= server->options->idle_seconds))) {
        link->leaves = true;
        (void)h2->submit_goaway(link->session, NGHTTP2_FLAG_NONE,
                                h2->session_get_last_proc_stream_id(link->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
    } else if (link->leaves && link->calls == NULL && !waits) {
        link->broken = true;
    }
    link->broken |= waits && seconds >= server->options->request_seconds;
    flush(link);
}

static void go_on(serve_worker *worker)
{
    uint64_t count = 0;
    (void)!read(worker->event, &count, sizeof count);
    (void)pthread_mutex_lock(&worker->lock);
    serve_call *call = worker->ready;
    worker->ready = NULL;
    (void)pthread_mutex_unlock(&worker->lock);
    while (call != NULL) {
        serve_call *next = call->next_ready;
        serve_link *link = call->link;
        serve_call_go_on(call);
        if (link != NULL) {
            flush(link);
        }
        call = next;
    }
}

static void *work(void *user)
{
    serve_worker *worker = user;
    serve_grpc *grpc = worker->grpc;
    static _Thread_local uint8_t buffer[READ_SIZE];
    uint64_t checked = 0;
    bool listens = true;
    while (!atomic_load(&grpc->ends)) {
        struct epoll_event events[64];
        const int count = epoll_wait(worker->epoll, events, 64, MOMENT);
        bool ready = false;
        for (int i = 0; i < count; i++) {
            void *which = events[i].data.ptr;
            if (which == worker) {
                ready = true;
            } else if (which == grpc) {
                take_connection(worker);
            } else if ((events[i].events & EPOLLOUT) != 0) {
                flush(which);
            } else {
                receive(which, buffer);
            }
        }
        if (ready) { /* last: it may close links that have events */
            go_on(worker);
        }
        const uint64_t now = kiln_clock_now();
        if (now - checked < (uint64_t)MOMENT * 1000000) {
            continue;
        }
        checked = now;
        if (listens && atomic_load(&grpc->server->stopping)) {
            listens = false;
            (void)epoll_ctl(worker->epoll, EPOLL_CTL_DEL, grpc->socket, NULL);
        }
        for (serve_link *link = worker->links, *next = NULL; link != NULL; link = next) {
            next = link->next; /* NOLINT(clang-analyzer-unix.Malloc): a closed link is in no list */
            check_link(link, now);
        }
    }
    while (worker->links != NULL) {
        close_link(worker->links); /* NOLINT(clang-analyzer-unix.Malloc): likewise */
    }
    go_on(worker); /* calls without a link, which are given back */
    return NULL;
}

/* --- start and stop --- */

static bool start_worker(serve_grpc *grpc, serve_worker *worker)
{
    worker->grpc = grpc;
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event woken = {.events = EPOLLIN, .data.ptr = worker};
    struct epoll_event listened = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = grpc};
    const bool started = pthread_mutex_init(&worker->lock, NULL) == 0 &&
                         epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->event, &woken) == 0 &&
                         epoll_ctl(worker->epoll, EPOLL_CTL_ADD, grpc->socket, &listened) == 0 &&
                         pthread_create(&worker->thread, NULL, work, worker) == 0;
    if (!started) {
        (void)close(worker->epoll);
        (void)close(worker->event);
    }
    return started;
}

static bool make_callbacks(serve_grpc *grpc)
{
    const serve_nghttp2 *h2 = grpc->h2;
    if (h2->session_callbacks_new(&grpc->callbacks) != 0 || h2->option_new(&grpc->option) != 0) {
        return false;
    }
    h2->session_callbacks_set_on_begin_headers_callback(grpc->callbacks, began);
    h2->session_callbacks_set_on_header_callback(grpc->callbacks, header);
    h2->session_callbacks_set_on_frame_recv_callback(grpc->callbacks, frame_came);
    h2->session_callbacks_set_on_data_chunk_recv_callback(grpc->callbacks, data_came);
    h2->session_callbacks_set_on_stream_close_callback(grpc->callbacks, closed);
    h2->option_set_no_auto_window_update(grpc->option, 1);
    return true;
}

void serve_grpc_stop(serve_grpc *grpc)
{
    if (grpc == NULL) {
        return;
    }
    atomic_store(&grpc->ends, true);
    for (size_t i = 0; i < grpc->worker_count; i++) {
        (void)pthread_join(grpc->workers[i].thread, NULL);
        (void)pthread_mutex_destroy(&grpc->workers[i].lock);
        (void)close(grpc->workers[i].epoll);
        (void)close(grpc->workers[i].event);
    }
    if (grpc->callbacks != NULL) {
        grpc->h2->session_callbacks_del(grpc->callbacks);
    }
    if (grpc->option != NULL) {
        grpc->h2->option_del(grpc->option);
    }
    (void)close(grpc->socket);
    free(grpc->workers);
    free(grpc);
}

serve_grpc *serve_grpc_start(serve *server, int listening, serve_problem *problem)
{
    const unsigned threads = serve_thread_count(server->options);
    serve_grpc *grpc = calloc(1, sizeof *grpc);
    const serve_nghttp2 *h2 = serve_nghttp2_open(problem->sentence, sizeof problem->sentence);
    if (grpc == NULL || h2 == NULL) {
        (void)close(listening);
        free(grpc);
        problem->code = 501;
        return NULL;
    }
    grpc->server = server;
    grpc->h2 = h2;
    grpc->socket = listening;
    grpc->workers = calloc(threads, sizeof *grpc->workers);
    bool started = grpc->workers != NULL && make_callbacks(grpc);
    while (started && grpc->worker_count < threads) {
        started = start_worker(grpc, &grpc->workers[grpc->worker_count]);
        grpc->worker_count += started;
    }
    if (!started) {
        (void)serve_refuse(problem, 503, "memory or threads are short");
        serve_grpc_stop(grpc);
        return NULL;
    }
    return grpc;
}
