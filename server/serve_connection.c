/* SPDX-License-Identifier: Apache-2.0 */
/* A request, independent of its transport. */
#include <stdlib.h>
#include <string.h>

#include "serve_inflate.h"

#define ALIGNMENT ((size_t)64)
#define KEPT_BODY ((size_t)256 << 10) /* memory that an idle connection keeps */

uint64_t serve_enter_phase(serve_connection *at, serve_phase phase)
{
    const uint64_t now = kiln_clock_now();
    atomic_store(&at->since, now);
    atomic_store(&at->phase, phase);
    return now;
}

bool serve_request_begin(serve_connection *at, const char *method)
{
    at->begun = serve_enter_phase(at, SERVE_BODY);
    at->began = true;
    (void)atomic_fetch_add(&at->server->requests, 1);
    at->problem.code = 0;
    at->discards = false;
    at->closes = false;
    at->late = false;
    at->deadline = 0;
    at->tensors = NULL;
    atomic_store(&at->gone, false);
    at->head_size = SIZE_MAX;
    at->method = method;
    if (atomic_load(&at->server->ended)) { /* none may sleep when a transport stops */
        at->closes = true;
        return serve_refuse(&at->problem, 503, "the server is stopping");
    }
    return true;
}

void serve_request_finish(serve_connection *at)
{
    serve *server = at->server;
    if (server->options->access_log != NULL) {
        serve_log_line(at);
    }
    if (at->route != NULL && at->route->finish != NULL) {
        at->route->finish(at);
    }
    serve_body_drop(at);
    serve_inflate_close(at->inflater);
    at->inflater = NULL;
    serve_arena_reset(&at->arena);
    at->stream = NULL;
    at->uri = NULL;
    at->route = NULL;
    at->began = false;
    at->code = 0;
    at->answer_size = 0;
    serve_enter_phase(at, SERVE_IDLE);
    (void)atomic_fetch_sub(&server->requests, 1);
}

/* --- answers --- */

void serve_reply_release(serve_reply *reply)
{
    if (reply->release != NULL) {
        reply->release(reply);
    } else {
        serve_text_finish(&reply->text);
    }
}

bool serve_answer_text(serve_connection *at, int code, const char *type, serve_text *text)
{
    serve_reply reply = {.text = *text};
    *text = (serve_text){.data = NULL};
    return at->transport->answer(at, code, type, &reply);
}

/* --- between threads --- */

bool serve_sleep(serve_connection *at)
{
    int pending = SERVE_PENDING;
    at->transport->suspend(at);
    if (!atomic_compare_exchange_strong(&at->progress, &pending, SERVE_SUSPENDED)) {
        at->transport->resume(at); /* answered in the meantime: it will be called again */
    }
    return true;
}

void serve_wake(serve_connection *at)
{
    if (atomic_exchange(&at->progress, SERVE_ANSWERED) == SERVE_SUSPENDED) {
        at->transport->resume(at);
    }
}

/* --- the body --- */

bool serve_body_reserve(serve_connection *at, size_t size)
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
            return serve_no_memory(&at->problem);
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

void serve_body_drop(serve_connection *at)
{
    (void)atomic_fetch_sub(&at->server->body_bytes, at->body_capacity);
    at->body_capacity = 0;
    at->body_size = 0;
    at->taken = 0;
    if (at->block_size > KEPT_BODY) {
        free(at->block);
        at->block = NULL;
        at->block_size = 0;
    }
}

bool serve_body_append(serve_connection *at, const char *data, size_t size)
{
    const size_t limit = (size_t)at->server->options->body_limit;
    if (size > limit - at->body_size) {
        return serve_refuse(&at->problem, 413, "a body is larger than %zu bytes (--max-body)",
                            limit);
    }
    const size_t needed = at->body_size + size;
    if (needed > at->body_capacity) {
        const size_t doubled = 2 * at->body_capacity < limit ? 2 * at->body_capacity : limit;
        if (!serve_body_reserve(at, doubled > needed ? doubled : needed)) {
            return false;
        }
    }
    memcpy(at->body + at->body_size, data, size);
    at->body_size = needed;
    return true;
}
