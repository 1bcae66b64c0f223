/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to calls. */
#include <unistd.h>

#include "serve_grpc.h"

#define HEAD_ROOM 16   /* for a message's prefix and the head of what wraps it */
#define STREAMED 2     /* field infer_response of ModelStreamInfer's answer */
#define STREAM_ERROR 1 /* and its field error_message */

static const serve_nghttp2 *h2_of(const serve_call *call)
{
    return call->worker->grpc->h2;
}

bool serve_call_streams(const serve_call *call)
{
    return call->method != NULL && (call->method->flags & SERVE_GRPC_STREAMS) != 0;
}

void serve_call_suspend(serve_connection *at)
{
    ((serve_call *)at)->asleep = true;
}

void serve_call_resume(serve_connection *at)
{
    serve_call *call = (serve_call *)at;
    serve_worker *worker = call->worker;
    const uint64_t one = 1;
    call->next_ready = NULL;
    (void)pthread_mutex_lock(&worker->lock);
    *(worker->ready != NULL ? &worker->last_ready->next_ready : &worker->ready) = call;
    worker->last_ready = call;
    (void)pthread_mutex_unlock(&worker->lock);
    (void)!write(worker->event, &one, sizeof one);
}

/* --- sending --- */

/* https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
static int status_of(int code)
{
    static const int statuses[][2] = {{200, 0}, {400, 3},  {401, 16}, {403, 7},
                                      {404, 5}, {405, 12}, {413, 8},  {415, 12},
                                      {499, 1}, {501, 12}, {503, 14}, {504, 4}};
    for (size_t i = 0; i < SERVE_LENGTH(statuses); i++) {
        if (statuses[i][0] == code) {
            return statuses[i][1];
        }
    }
    return 13;
}

static nghttp2_nv field(const char *name, const char *value, size_t size)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), size,
                        NGHTTP2_NV_FLAG_NONE};
}

/* The status, and the error message percent-encoded as gRPC requires. */
static size_t make_trailers(serve_call *call, nghttp2_nv *fields, char *number, char *sentence)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t used = 0;
    (void)snprintf(number, 8, "%d", call->status);
    for (const char *from = call->at.problem.sentence; call->status != 0 && *from != '\0'; from++) {
        const unsigned char c = (unsigned char)*from;
        if (c >= 0x20 && c < 0x7f && c != '%') {
            sentence[used++] = (char)c;
        } else {
            sentence[used++] = '%';
            sentence[used++] = digits[c >> 4];
            sentence[used++] = digits[c & 15];
        }
    }
    fields[0] = field("grpc-status", number, strlen(number));
    fields[1] = field("grpc-message", sentence, used);
    return used != 0 ? 2 : 1;
}

void serve_call_drop_answer(serve_call *call)
{
    serve_link_spend(call->link, call, (serve_spent){call->reply, call->out});
    call->reply = NULL;
    call->out = (serve_text){.data = NULL};
    call->part_count = 0;
    call->part = 0;
    call->part_sent = 0;
}

/* Called once a whole message has been passed on. */
static void message_sent(serve_call *call)
{
    serve_call_drop_answer(call);
    if (call->read != NULL) { /* the rest is read once nghttp2 has returned */
        call->asleep = true;
        serve_call_resume(&call->at);
    } else if (serve_call_streams(call)) {
        serve_call_finish_request(call);
    } else {
        call->works = false;
    }
}

void serve_call_finish_request(serve_call *call)
{
    serve_request_finish(&call->at);
    serve_text_finish(&call->json);
    call->at.problem.code = 0;
    call->works = false;
    call->asleep = true;
    call->advances = true;
    serve_call_resume(&call->at);
}

/* Advances by at most `length` bytes, which are queued on `link` unless it is NULL. Returns how
 * many. */
static size_t walk_parts(const serve_call *call, size_t *part, size_t *sent, size_t length,
                         serve_link *link, bool *lent)
{
    size_t used = 0;
    size_t count = 0;
    while (*part < call->part_count) {
        const struct MHD_IoVec *at = &call->parts[*part];
        const size_t left = at->iov_len - *sent;
        const size_t piece = left < length - used ? left : length - used;
        if (left != 0 && (piece == 0 || count == SERVE_FRAME_PARTS)) {
            break;
        }
        if (piece != 0 && link != NULL) {
            *lent |= serve_link_put(link, (const char *)at->iov_base + *sent, piece, true);
        }
        count += piece != 0;
        used += piece;
        *sent += piece;
        if (*sent == at->iov_len) {
            ++*part;
            *sent = 0;
        }
    }
    return used;
}

/* Plans the content of the next frame. */
static ssize_t plan_frame(nghttp2_session *session, int32_t stream,
                          uint8_t *buffer /* NOLINT(readability-non-const-parameter) */,
                          size_t length, uint32_t *flags, nghttp2_data_source *source, void *user)
{
    serve_call *call = source->ptr;
    size_t part = call->part;
    size_t sent = call->part_sent;
    const size_t used = walk_parts(call, &part, &sent, length, NULL, NULL);
    (void)buffer, (void)user;
    atomic_store(&call->at.since, kiln_clock_now());
    *flags |= used != 0 ? NGHTTP2_DATA_FLAG_NO_COPY : 0;
    if (call->over && part == call->part_count) {
        nghttp2_nv fields[2];
        char number[8];
        char sentence[3 * SERVE_SENTENCE];
        const size_t count = make_trailers(call, fields, number, sentence);
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        return h2_of(call)->submit_trailer(session, stream, fields, count) == 0
                   ? (ssize_t)used
                   : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return used != 0 ? (ssize_t)used : NGHTTP2_ERR_DEFERRED;
}

int serve_call_put_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t size, nghttp2_data_source *source, void *user)
{
    serve_call *call = source->ptr;
    serve_link *link = user;
    bool lent = false;
    (void)session, (void)frame;
    if (!serve_link_has_room(link)) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    (void)serve_link_put(link, head, SERVE_FRAME_HEAD, false);
    (void)walk_parts(call, &call->part, &call->part_sent, size, link, &lent);
    call->lent = lent ? link->round : call->lent;
    if (call->part == call->part_count) {
        message_sent(call);
    }
    return 0;
}

/* Sends what is ready; a status without anything else goes out as a single frame. */
static void send_on(serve_call *call)
{
    nghttp2_nv fields[5] = {field(":status", "200", 3),
                            field("content-type", "application/grpc", 16),
                            field("grpc-accept-encoding", "identity,deflate,gzip", 21)};
    size_t count = 3;
    char number[8];
    char sentence[3 * SERVE_SENTENCE];
    const nghttp2_data_provider from = {.source.ptr = call, .read_callback = plan_frame};
    if (call->link == NULL) {
        return;
    }
    serve_enter_phase(&call->at, SERVE_ANSWER);
    if (call->replied) {
        (void)h2_of(call)->session_resume_data(call->link->session, call->stream);
        return;
    }
    const bool bare = call->over && call->part_count == 0;
    count += bare ? make_trailers(call, fields + count, number, sentence) : 0;
    call->replied = true;
    if (h2_of(call)->submit_response(call->link->session, call->stream, fields, count,
                                     bare ? NULL : &from) != 0) {
        call->link->broken = true;
    }
}

bool serve_call_send_out(serve_call *call)
{
    call->parts = serve_arena_take(&call->at.arena, sizeof *call->parts);
    if (call->parts == NULL || call->out.failed) {
        return false;
    }
    *call->parts = (struct MHD_IoVec){call->out.data, call->out.size};
    call->part_count = 1;
    call->at.answer_size += call->out.size;
    send_on(call);
    return true;
}

void serve_call_end(serve_call *call, bool well)
{
    call->over = true;
    call->works = false;
    call->status = well ? 0 : status_of(call->at.problem.code);
    call->at.code = well ? 200 : call->at.problem.code;
    send_on(call);
}

/* --- answers --- */

static serve_text transcode(const serve_call *call, int code, const serve_text *text)
{
    const serve_grpc_method *method = call->method;
    serve_text whole = {.data = NULL};
    serve_text message = {.data = NULL};
    serve_json json;
    const serve_text *from = text;
    serve_text_append(&message, "................", HEAD_ROOM);
    if ((method->flags & SERVE_GRPC_HEALTH) != 0) {
        serve_text_printf(&whole, "{\"status\":\"%sSERVING\"}", code == 200 ? "" : "NOT_");
        from = &whole;
    } else if (method->member != NULL) {
        serve_text_printf(&whole, "{\"%s\":", method->member);
        serve_text_append(&whole, text->data, text->size);
        serve_text_string(&whole, "}");
        from = &whole;
    }
    serve_json_init(&json, from->data, from->size);
    message.failed |=
        whole.failed || text->failed || !serve_proto_from_json(method->answer, &json, &message);
    serve_text_finish(&whole);
    return message;
}

/* Puts a message's prefix before it: the message starts in `out` after HEAD_ROOM bytes, and `more`
 * bytes follow it. Returns where the prefix starts. */
static size_t put_prefix(serve_call *call, uint32_t wrapped, uint64_t more)
{
    serve_text head = {.data = NULL};
    const uint64_t inner = call->out.size - HEAD_ROOM + more;
    if (wrapped != 0) {
        serve_proto_put_head(&head, wrapped, inner);
    }
    const uint64_t size = inner + head.size;
    const size_t begin = HEAD_ROOM - SERVE_GRPC_PREFIX - head.size;
    if (!head.failed && size <= UINT32_MAX) {
        for (unsigned i = 0; i < 4; i++) {
            call->out.data[begin + 1 + i] = (char)(size >> (24 - 8 * i));
        }
        call->out.data[begin] = 0;
        if (head.size != 0) {
            memcpy(call->out.data + begin + SERVE_GRPC_PREFIX, head.data, head.size);
        }
    }
    call->out.failed |= head.failed || size > UINT32_MAX;
    serve_text_finish(&head);
    return begin;
}

/* Sends the message in `out`, followed by tensors, each after its own head. */
static bool send_message(serve_call *call, uint32_t wrapped, const struct MHD_IoVec *tensors,
                         size_t count)
{
    const size_t message = call->out.size;
    uint64_t bytes = 0;
    call->parts = serve_arena_take(&call->at.arena, (2 * count + 1) * sizeof *call->parts);
    if (call->parts == NULL || call->out.failed) {
        return false;
    }
    for (size_t i = 0; i < count; i++) { /* heads get their addresses once all are written */
        const size_t before = call->out.size;
        serve_proto_put_head(&call->out, SERVE_GRPC_RAW_OUTPUT, tensors[i].iov_len);
        call->parts[2 * i] = (struct MHD_IoVec){NULL, call->out.size - before};
        call->parts[2 * i + 1] = tensors[i];
        bytes += tensors[i].iov_len;
    }
    call->parts[2 * count] = (struct MHD_IoVec){NULL, 0};
    size_t from = put_prefix(call, wrapped, bytes);
    if (call->out.failed) {
        return false;
    }
    size_t to = message;
    for (size_t i = 0; i <= count; i++) {
        to += call->parts[2 * i].iov_len;
        call->parts[2 * i] = (struct MHD_IoVec){call->out.data + from, to - from};
        from = to;
    }
    call->part_count = 2 * count + 1;
    call->at.answer_size += (size_t)bytes + call->out.size;
    call->over |= !serve_call_streams(call);
    send_on(call);
    return true;
}

void serve_call_put_final(serve_text *into, bool is_final)
{
    static const char entry[] = "\x22\x1b\x0a\x15triton_final_response\x12\x02\x08";
    serve_text_append(into, entry, sizeof entry - 1);
    serve_text_append(into, is_final ? "\1" : "\0", 1);
}

bool serve_call_answer(serve_connection *at, int code, const char *type, serve_reply *reply)
{
    serve_call *call = (serve_call *)at;
    const size_t count = reply->count > 1 ? reply->count - 1 : 0;
    (void)type;
    at->code = code;
    call->status = 0;
    call->out = transcode(call, code, &reply->text);
    if (serve_call_streams(call)) {
        serve_call_put_final(&call->out, true);
    }
    if (count != 0) {
        call->reply = reply;
    } else {
        serve_reply_release(reply);
    }
    return send_message(call, serve_call_streams(call) ? STREAMED : 0,
                        count != 0 ? reply->pieces + 1 : NULL, count) ||
           serve_no_memory(&at->problem);
}

void serve_call_fail(serve_call *call)
{
    const int code = call->at.problem.code;
    const bool absent = code == 404 || code == 503;
    serve_call_drop_answer(call);
    if (serve_call_streams(call) && call->at.began &&
        !atomic_load(&call->worker->grpc->server->stopping)) {
        serve_text_append(&call->out, "................", HEAD_ROOM);
        serve_proto_put_head(&call->out, STREAM_ERROR, strlen(call->at.problem.sentence));
        serve_text_string(&call->out, call->at.problem.sentence);
        call->at.code = code;
        if (send_message(call, 0, NULL, 0)) {
            return;
        }
    } else if (absent && (call->method->flags & SERVE_GRPC_ASKS) != 0) {
        serve_text_append(&call->out, "................", HEAD_ROOM);
        call->status = 0;
        if (send_message(call, 0, NULL, 0)) {
            return;
        }
    }
    serve_call_end(call, false);
}
