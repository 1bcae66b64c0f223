/* SPDX-License-Identifier: Apache-2.0 */
/* Reads numbers while the body arrives, directly from libmicrohttpd's buffer: a long JSON tensor is
 * never stored, and is read while it is still in the cache. */
#include <string.h>

#include "serve_request.h"

#define LEAST ((uint64_t)64 << 10) /* the smallest body that is worth it */

typedef struct serve_stream {
    serve_reader reader;
    bool looks;  /* for numbers in arriving data */
    bool failed; /* the rest is ignored */
} serve_stream;

static serve_stream *open_stream(serve_connection *at)
{
    serve_stream *self = serve_arena_take(&at->arena, sizeof *self);
    if (self == NULL || !serve_infer_open(at)) {
        at->problem.code = 0; /* reported once the whole body has arrived */
        return NULL;
    }
    *self = (serve_stream){.looks = true};
    self->reader = (serve_reader){.arena = &at->arena, .infer = at->infer, .problem = &at->problem};
    return self;
}

/* Reads text that is followed by a comma, as far as possible; returns how much was read. */
static size_t read_on(serve_stream *self, serve_connection *at, const char *text, size_t size)
{
    serve_reader *reader = &self->reader;
    serve_json *json = &reader->json;
    json->begin = json->at = text;
    json->end = text + size;
    json->open = true;
    reader->body = at->body;
    reader->behind = (size_t)at->announced - reader->before - size;
    do {
        const serve_reader kept = *reader;
        const serve_infer kept_infer = *at->infer;
        if (!serve_read_on(reader) || reader->level == SERVE_END) {
            self->looks = false;
            self->failed = kept.level == SERVE_NUMBERS;
            if (!self->failed) { /* the rest is missing, or it will fail again */
                *reader = kept;
                *at->infer = kept_infer;
                at->problem.code = 0;
            }
        }
    } while (self->looks && reader->level != SERVE_NUMBERS);
    const size_t read = (size_t)(json->at - text);
    reader->before += read;
    at->taken += read;
    return read;
}

static bool take(serve_connection *at, const char *data, size_t size)
{
    if (at->stream == NULL && at->body_size == 0 && at->taken == 0) {
        at->stream = open_stream(at);
    }
    serve_stream *self = at->stream;
    const char *last = self != NULL && self->looks ? memrchr(data, ',', size) : NULL;
    if (last != NULL && at->body_size != 0) {
        /* Completes the number at the end of the last piece. */
        const char *first = memchr(data, ',', size);
        if (!serve_body_append(at, data, (size_t)(first - data))) {
            return false;
        }
        const size_t read = read_on(self, at, at->body, at->body_size);
        at->body_size -= read;
        memmove(at->body, at->body + read, at->body_size);
        size -= (size_t)(first - data);
        data = first;
        last = self->looks && at->body_size == 0 ? last : NULL;
        self->looks = last != NULL;
    }
    if (last != NULL) {
        const size_t read = read_on(self, at, data, (size_t)(last - data));
        data += read;
        size -= read;
    }
    if (self != NULL && self->failed) {
        at->taken += size;
        return true;
    }
    return serve_body_append(at, data, size);
}

bool serve_stream_take(serve_connection *at, const char *data, size_t size)
{
    if (at->announced < LEAST || at->announced > SERVE_TRUSTED_BODY || at->head_size != SIZE_MAX) {
        return serve_body_append(at, data, size);
    }
    const uint64_t begin = kiln_clock_now();
    const bool taken = take(at, data, size);
    if (at->infer != NULL) {
        at->infer->reading += kiln_clock_now() - begin;
    }
    return taken;
}

bool serve_stream_finish(serve_connection *at)
{
    serve_stream *self = at->stream;
    if (self->failed) {
        return false;
    }
    self->reader.json.begin = self->reader.json.at = at->body;
    self->reader.json.end = at->body + at->body_size;
    self->reader.json.open = false;
    self->reader.body = at->body;
    self->reader.behind = 0;
    self->reader.size = self->reader.at = at->body_size;
    return serve_read_finish(&self->reader);
}
