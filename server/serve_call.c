/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <strings.h>

#include "serve_grpc.h"
#include "serve_inflate.h"

/* --- a request --- */

static void conclude(serve_call *call, serve_result result)
{
    if (result == SERVE_REFUSED) {
        serve_call_fail(call);
    } else if (result == SERVE_DONE && call->part_count == 0 && call->works && call->read == NULL) {
        (void)serve_no_memory(&call->at.problem); /* no answer could be made */
        serve_call_fail(call);
    }
}

/* Finds the model and version of a request, and its raw tensors. */
static bool look(serve_call *call, serve_proto_span message, char *name, char *version)
{
    const serve_grpc_method *method = call->method;
    const serve_proto_span begin = message;
    serve_proto_value value;
    const char *reason = NULL;
    size_t count = 0;
    serve_slice *items = NULL;
    while (serve_proto_next(&message, &value, &reason)) {
        char *into = value.number == method->name      ? name
                     : value.number == method->version ? version
                                                       : NULL;
        count += value.number == SERVE_GRPC_RAW_INPUT;
        if (into == NULL || value.type != 2) {
            continue;
        }
        if (value.bytes.size >= SERVE_NAME ||
            memchr(value.bytes.at, '\0', value.bytes.size) != NULL) {
            return serve_refuse(&call->at.problem, 404, "no model has such a name");
        }
        memcpy(into, value.bytes.at, value.bytes.size);
        into[value.bytes.size] = '\0';
    }
    if (reason != NULL) {
        return serve_refuse(&call->at.problem, 400, "the request's message: %s", reason);
    }
    if ((method->flags & SERVE_GRPC_INFERS) == 0) {
        return true;
    }
    items = serve_arena_take(&call->at.arena, (count + 1) * sizeof *items);
    if (items == NULL) {
        return serve_no_memory(&call->at.problem);
    }
    call->tensors = (serve_tensors){items, 0};
    call->at.tensors = &call->tensors;
    for (message = begin; serve_proto_next(&message, &value, &reason);) {
        if (value.number == SERVE_GRPC_RAW_INPUT && value.type == 2) {
            items[call->tensors.count++] =
                (serve_slice){(const char *)value.bytes.at, value.bytes.size};
        }
    }
    return true;
}

static void add_segment(serve_connection *at, const char *text, size_t length)
{
    char *segment = at->segments[at->segment_count++];
    memcpy(segment, text, length);
    segment[length] = '\0';
}

/* Fills in the endpoint's path, with the model and any version that is asked for. */
static bool find_route(serve_call *call, const char *pattern, const char *name, const char *version)
{
    serve_connection *at = &call->at;
    at->segment_count = 0;
    while (*pattern != '\0') {
        const size_t length = strcspn(pattern, "/");
        const bool any = *pattern == '*';
        if (any && name[0] == '\0' && (call->method->flags & SERVE_GRPC_ALL) == 0) {
            return serve_refuse(&at->problem, 400, "the request names no model");
        }
        if (!any) {
            add_segment(at, pattern, length);
        } else if (name[0] != '\0') {
            add_segment(at, name, strlen(name));
        }
        if (any && version[0] != '\0') {
            add_segment(at, "versions", 8);
            add_segment(at, version, strlen(version));
        }
        pattern += length + (pattern[length] == '/');
    }
    at->method = call->method->verb;
    at->route = serve_route_match(at);
    at->method = "POST";
    return at->route != NULL;
}

/* Runs a request whose message is complete. */
static void run(serve_call *call)
{
    serve_connection *at = &call->at;
    const serve_proto_span message = {(const uint8_t *)at->body, at->body_size};
    char name[SERVE_NAME] = "";
    char version[SERVE_NAME] = "";
    const char *reason = NULL;
    call->works = true;
    at->head_size = SIZE_MAX; /* everything that is read is JSON */
    at->received = serve_enter_phase(at, SERVE_WORK);
    if (!look(call, message, name, version)) {
        serve_call_fail(call);
        return;
    }
    if ((call->method->flags & SERVE_GRPC_WATCHES) != 0) {
        serve_call_watch(call, name);
        return;
    }
    if ((call->method->flags & SERVE_GRPC_HEALTH) != 0 && !serve_health_knows(name)) {
        (void)serve_refuse(&at->problem, 404, "there is no service \"%.200s\"", name);
        serve_call_fail(call);
        return;
    }
    const bool text = serve_call_is_text(call, message, name, version);
    if (!find_route(call, text ? "v2/models/*/generate_stream" : call->method->route, name,
                    version)) {
        serve_call_fail(call);
        return;
    }
    if (call->method->request != NULL) {
        if (!(text ? serve_call_text_json(call, message, &reason)
                   : serve_proto_to_json(call->method->request, message, &call->json, &reason))) {
            (void)serve_refuse(&at->problem, 400, "the request's message: %s", reason);
            serve_call_fail(call);
            return;
        }
        if (call->json.failed) {
            (void)serve_no_memory(&at->problem);
            serve_call_fail(call);
            return;
        }
        at->body = call->json.data;
        at->body_size = call->json.size;
    }
    conclude(call, at->route->run(at));
}

void serve_call_go_on(serve_call *call)
{
    call->asleep = false;
    if (call->link == NULL) {
        serve_call_close(call);
        return;
    }
    if (call->read != NULL) {
        serve_call_read_text(call);
        return;
    }
    if (call->works) {
        conclude(call, call->at.route->again(&call->at));
        return;
    }
    call->advances = false;
    serve_text waiting = call->waiting;
    call->waiting = (serve_text){.data = NULL};
    (void)atomic_fetch_sub(&call->worker->grpc->server->body_bytes, waiting.size);
    size_t taken = 0;
    while (taken < waiting.size && !call->works && !call->over) {
        taken += serve_call_feed(call, waiting.data + taken, waiting.size - taken);
    }
    (void)call->worker->grpc->h2->session_consume_stream(call->link->session, call->stream, taken);
    if (taken < waiting.size && !call->over) {
        (void)serve_call_feed(call, waiting.data + taken, waiting.size - taken);
    }
    serve_text_finish(&waiting);
    if (call->ended && !call->works && !call->over) {
        serve_call_end_input(call);
    }
}

/* --- incoming data --- */

static const serve_transport transport = {serve_call_answer, serve_call_stream, serve_call_suspend,
                                          serve_call_resume};

serve_call *serve_call_open(serve_link *link, int32_t stream)
{
    serve_call *call = calloc(1, sizeof *call);
    if (call == NULL || pthread_mutex_init(&call->at.lock, NULL) != 0) {
        free(call);
        return NULL;
    }
    call->worker = link->worker;
    call->link = link;
    call->stream = stream;
    call->at.server = link->worker->grpc->server;
    call->at.transport = &transport;
    call->at.socket = -1;
    memcpy(call->at.client, link->client, sizeof call->at.client);
    serve_enter_phase(&call->at, SERVE_BODY);
    call->next = link->calls;
    if (call->next != NULL) {
        call->next->previous = call;
    }
    link->calls = call;
    return call;
}

/* Parses "1500m"; the unit is hours, minutes, seconds, or smaller. */
static uint64_t timeout_of(const char *text)
{
    static const char units[] = "HMSmun";
    static const uint64_t nanoseconds[] = {3600000000000, 60000000000, 1000000000,
                                           1000000,       1000,        1};
    const size_t digits = strspn(text, "0123456789");
    const char *unit = text[digits] != '\0' ? strchr(units, text[digits]) : NULL;
    if (digits == 0 || digits > 8 || unit == NULL || text[digits + 1] != '\0') {
        return 0;
    }
    return kiln_clock_now() + strtoull(text, NULL, 10) * nanoseconds[unit - units];
}

void serve_call_header(serve_call *call, const char *name, const char *value)
{
    if (strcmp(name, ":path") == 0) {
        (void)snprintf(call->path, sizeof call->path, "%s", value);
    } else if (strcmp(name, ":method") == 0) {
        call->is_post = strcmp(value, "POST") == 0;
    } else if (strcmp(name, "content-type") == 0) {
        call->is_grpc =
            strncasecmp(value, "application/grpc", 16) == 0 &&
            (value[16] == '\0' || value[16] == ';' || strncasecmp(value + 16, "+proto", 6) == 0);
    } else if (strcmp(name, "grpc-timeout") == 0) {
        call->deadline = timeout_of(value);
    } else if (strcmp(name, "grpc-encoding") == 0) {
        (void)snprintf(call->coding, sizeof call->coding, "%s",
                       strcasecmp(value, "identity") != 0 ? value : "");
    } else if (strcmp(name, "authorization") == 0) {
        call->has_token = serve_tokens_let_in(call->at.server, value);
    }
}

/* Begins the next request of the call. */
static bool begin_request(serve_call *call)
{
    serve_connection *at = &call->at;
    const bool begun = serve_request_begin(at, "POST");
    at->deadline = call->deadline;
    at->uri = serve_arena_string(&at->arena, call->path);
    return begun && (at->uri != NULL || serve_no_memory(&at->problem));
}

static bool check_head(serve_call *call)
{
    serve_connection *at = &call->at;
    call->method = serve_grpc_method_of(call->path);
    if (!call->is_post || !call->is_grpc) {
        return serve_refuse(&at->problem, 415, "this port speaks gRPC: POST and application/grpc");
    }
    if (!call->has_token && !serve_tokens_let_in(at->server, NULL) &&
        (call->method == NULL || strncmp(call->method->route, "v2/health/", 10) != 0)) {
        return serve_refuse(&at->problem, 401,
                            "a token is needed: \"authorization: Bearer TOKEN\"");
    }
    return call->method != NULL ||
           serve_refuse(&at->problem, 501, "there is no method \"%s\"", call->path);
}

void serve_call_start(serve_call *call)
{
    if (!begin_request(call) || !check_head(call)) {
        (void)atomic_fetch_add(&call->at.server->refused, 1);
        serve_call_end(call, false);
    }
}

/* https://github.com/grpc/grpc/blob/master/doc/compression.md */
static bool open_compressed(serve_call *call)
{
    serve_connection *at = &call->at;
    if (call->prefix[0] != 1 || call->coding[0] == '\0') {
        return serve_refuse(&at->problem, 500,
                            call->prefix[0] == 1 ? "a message is compressed, and no grpc-encoding "
                                                   "says how"
                                                 : "the prefix of a message is broken");
    }
    if (!serve_inflate_knows(call->coding)) {
        return serve_refuse(&at->problem, 501,
                            "the grpc-encoding \"%s\" is not understood; gzip and deflate are",
                            call->coding);
    }
    at->inflater = serve_inflate_open(call->coding);
    return at->inflater != NULL || serve_no_memory(&at->problem);
}

/* Reads a message's length from its prefix. */
static bool open_message(serve_call *call)
{
    serve_connection *at = &call->at;
    const size_t limit = (size_t)at->server->options->body_limit;
    call->expected = 0;
    call->came = 0;
    for (unsigned i = 1; i < SERVE_GRPC_PREFIX; i++) {
        call->expected = call->expected << 8 | call->prefix[i];
    }
    if (!at->began && !begin_request(call)) {
        return false;
    }
    if (call->prefix[0] != 0 && !open_compressed(call)) {
        return false;
    }
    if (call->expected > limit) {
        return serve_refuse(&at->problem, 413,
                            "a message of %zu bytes is larger than %zu "
                            "(--max-body)",
                            call->expected, limit);
    }
    if (at->inflater != NULL) {
        return true; /* the decompressed size is not known */
    }
    at->head_size = call->expected; /* aligns the end and a last tensor of whole elements */
    return serve_body_reserve(
        at, call->expected < SERVE_TRUSTED_BODY ? call->expected : SERVE_TRUSTED_BODY);
}

/* Keeps bytes that arrive while a message is being processed; the stream's window bounds them. */
static size_t keep(serve_call *call, const char *data, size_t size)
{
    serve *server = call->at.server;
    const unsigned long long all = atomic_fetch_add(&server->body_bytes, size) + size;
    serve_text_append(&call->waiting, data, size);
    if (call->waiting.failed || all > (unsigned long long)server->options->memory_limit) {
        (void)serve_no_memory(&call->at.problem);
        call->link->broken = true;
    }
    return 0;
}

static bool take_piece(serve_connection *at, const char *data, size_t size)
{
    return at->inflater != NULL
               ? serve_inflate_take(at->inflater, at, data, size, serve_body_append)
               : serve_body_append(at, data, size);
}

size_t serve_call_feed(serve_call *call, const char *data, size_t size)
{
    serve_connection *at = &call->at;
    if (call->over || call->watches || (call->works && !serve_call_streams(call))) {
        return size; /* ignored */
    }
    if (call->works || call->advances || call->waiting.size != 0) {
        return keep(call, data, size);
    }
    size_t taken = 0;
    while (taken < size && call->prefix_size < SERVE_GRPC_PREFIX) {
        call->prefix[call->prefix_size++] = (uint8_t)data[taken++];
        if (call->prefix_size == SERVE_GRPC_PREFIX && !open_message(call)) {
            serve_call_end(call, false);
            return size;
        }
    }
    if (call->prefix_size < SERVE_GRPC_PREFIX) {
        return taken;
    }
    const size_t left = call->expected - call->came;
    const size_t piece = left < size - taken ? left : size - taken;
    atomic_store(&at->since, kiln_clock_now());
    call->came += piece;
    const bool whole = call->came == call->expected;
    if ((piece != 0 && !take_piece(at, data + taken, piece)) ||
        (whole && at->inflater != NULL && !serve_inflate_end(at->inflater, at))) {
        serve_call_end(call, false);
        return size;
    }
    if (whole) {
        call->prefix_size = 0;
        run(call);
    }
    return taken + piece;
}

void serve_call_end_input(serve_call *call)
{
    call->ended = true;
    if (call->works || call->advances || call->over || call->watches || call->waiting.size != 0) {
        return;
    }
    if (call->prefix_size != 0 || !serve_call_streams(call)) {
        (void)serve_refuse(&call->at.problem, 400,
                           call->prefix_size != 0 ? "the request's message is cut off"
                                                  : "the request has no message");
        serve_call_end(call, false);
    } else {
        serve_call_end(call, true);
    }
}

/* --- limits and closing --- */

void serve_call_check(serve_call *call, uint64_t now)
{
    serve_connection *at = &call->at;
    const serve *server = at->server;
    const uint64_t since = atomic_load(&at->since);
    const double seconds = now > since ? (double)(now - since) / 1e9 : 0;
    const bool expired = call->deadline != 0 && now >= call->deadline;
    const bool late = seconds >= server->options->request_seconds;
    const bool ended = atomic_load(&server->ended);
    if (call->watches && !call->over) {
        serve_call_tell_health(call);
        if (call->over) {
            return; /* and the end is yet to be sent */
        }
    }
    if (call->over || (call->replied && call->part_count != 0)) { /* the client does not read */
        call->link->broken |= late || ended;
    } else if (call->works) {
        if (expired || (late && at->generate == NULL) || ended) { /* texts have their own limit */
            (void)serve_cancel(at);
        }
    } else if (expired || (late && at->began) || (atomic_load(&server->stopping) && !at->began)) {
        (void)serve_refuse(&at->problem, atomic_load(&server->stopping) ? 503 : 504, "%s",
                           atomic_load(&server->stopping) ? "the server is stopping"
                           : expired                      ? "the time that the client gave is over"
                                                          : "the request did not come in time");
        serve_call_end(call, false);
    }
}

void serve_call_close(serve_call *call)
{
    if (call->link != NULL) {
        serve_call_drop_answer(call);
        *(call->previous != NULL ? &call->previous->next : &call->link->calls) = call->next;
        if (call->next != NULL) {
            call->next->previous = call->previous;
        }
        call->link = NULL;
    }
    if (call->asleep) { /* `resume` is still to come */
        atomic_store(&call->at.gone, true);
        (void)serve_cancel(&call->at);
        return;
    }
    serve_call_stop_text(call);
    if (call->at.began) {
        serve_request_finish(&call->at);
    }
    serve_call_drop_answer(call);
    (void)atomic_fetch_sub(&call->at.server->body_bytes, call->waiting.size);
    serve_text_finish(&call->waiting);
    serve_text_finish(&call->json);
    serve_arena_finish(&call->at.arena);
    (void)pthread_mutex_destroy(&call->at.lock);
    free(call->at.block);
    free(call);
}
