/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_grpc.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_CALLS 16384 /* for the whole server */

/* --- nghttp2's callbacks --- */

static int began(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    serve_link *link = user;
    const serve_grpc *grpc = link->worker->grpc;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    const bool takes =
        atomic_load(&grpc->server->requests) < MOST_CALLS && !atomic_load(&grpc->server->ended);
    serve_call *call = takes ? serve_call_open(link, frame->hd.stream_id) : NULL;
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

/* nghttp2 ends names and values with a NUL. */
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
    while (taken < size) { /* a frame may contain several messages */
        const size_t more = serve_call_feed(call, (const char *)data + taken, size - taken);
        if (more == 0) {
            break; /* the rest is kept, and its window stays closed until it is used */
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

static void take_connection(serve_worker *worker)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    const int made = accept4(worker->grpc->socket, (struct sockaddr *)&address, &size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (made >= 0) {
        serve_link_open(worker, made, &address, size);
    } else if (errno == EMFILE || errno == ENFILE) { /* found again next time */
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
    const bool waits = link->piece < link->piece_count;
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
    serve_link_flush(link);
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
            serve_link_flush(link);
        }
        call = next;
    }
}

static void *work(void *user)
{
    serve_worker *worker = user;
    serve_grpc *grpc = worker->grpc;
    static _Thread_local uint8_t buffer[SERVE_LINK_READ];
    uint64_t checked = 0;
    bool listens = true;
    while (!atomic_load(&grpc->ends)) {
        struct epoll_event events[64];
        const int count = epoll_wait(worker->epoll, events, 64, SERVE_GRPC_MOMENT);
        bool ready = false;
        for (int i = 0; i < count; i++) {
            void *which = events[i].data.ptr;
            if (which == worker) {
                ready = true;
            } else if (which == grpc) {
                take_connection(worker);
            } else if ((events[i].events & EPOLLOUT) != 0) {
                serve_link_flush(which);
            } else {
                serve_link_receive(which, buffer);
            }
        }
        if (ready) { /* last, because it may close links that have events */
            go_on(worker);
        }
        const uint64_t now = kiln_clock_now();
        if (now - checked < (uint64_t)SERVE_GRPC_MOMENT * 1000000) {
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
    for (serve_link *link = worker->links, *next = NULL; link != NULL; link = next) {
        next = link->next;
        check_link(link, kiln_clock_now()); /* tells clients that only wait */
    }
    while (worker->links != NULL) {
        serve_link_close(worker->links); /* NOLINT(clang-analyzer-unix.Malloc): likewise */
    }
    go_on(worker); /* releases calls that no longer have a link */
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
    h2->session_callbacks_set_send_data_callback(grpc->callbacks, serve_call_put_data);
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
    serve_tls_close(grpc->tls);
    free(grpc->workers);
    free(grpc);
}

serve_grpc *serve_grpc_start(serve *server, int listening, serve_problem *problem)
{
    const unsigned threads = server->threads;
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
    if (server->tls_key != NULL) {
        grpc->tls = serve_tls_open(server->tls_key, server->tls_certificate, problem);
        if (grpc->tls == NULL) {
            serve_grpc_stop(grpc);
            return NULL;
        }
    }
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
