/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_inflate.h"

#include <stdlib.h>
#include <strings.h>

#include <zlib.h>

#define PIECE ((size_t)16 << 10)
#define GZIP (16 + MAX_WBITS) /* for inflateInit2 */

struct serve_inflater {
    z_stream stream;
    const char *name;
    bool again; /* another member may follow: RFC 1952, section 2.2 */
    bool ended;
    char piece[PIECE];
};

typedef struct coding {
    const char *name;
    int window;
} coding;

static const coding *coding_of(const char *name)
{
    static const coding codings[] = {
        {"gzip", GZIP}, {"x-gzip", GZIP}, {"deflate", MAX_WBITS}}; /* x-gzip: RFC 9110, 8.4.1.3 */
    for (size_t i = 0; i < SERVE_LENGTH(codings); i++) {
        if (strcasecmp(codings[i].name, name) == 0) {
            return &codings[i];
        }
    }
    return NULL;
}

bool serve_inflate_knows(const char *name)
{
    return coding_of(name) != NULL;
}

static void *take_memory(void *user, unsigned count, unsigned size)
{
    (void)user;
    return calloc(count, size);
}

static void give_memory(void *user, void *memory)
{
    (void)user;
    free(memory);
}

serve_inflater *serve_inflate_open(const char *name)
{
    const coding *found = coding_of(name);
    serve_inflater *self = found != NULL ? calloc(1, sizeof *self) : NULL;
    if (self == NULL) {
        return NULL;
    }
    self->name = found->name;
    self->again = found->window == GZIP;
    self->stream = (z_stream){.zalloc = take_memory, .zfree = give_memory};
    if (inflateInit2(&self->stream, found->window) != Z_OK) {
        free(self);
        return NULL;
    }
    return self;
}

static bool is_broken(const serve_inflater *self, serve_connection *at, const char *why)
{
    return serve_refuse(&at->problem, 400, "what came as %s cannot be inflated: %s", self->name,
                        why);
}

bool serve_inflate_take(serve_inflater *self, serve_connection *at, const char *data, size_t size,
                        bool (*take)(serve_connection *at, const char *data, size_t size))
{
    z_stream *stream = &self->stream;
    union {
        const char *from;
        unsigned char *to; /* zlib's type lacks const, but it does not write there */
    } in = {data};
    stream->next_in = in.to;
    while (size > 0) {
        if (self->ended && (!self->again || inflateReset(stream) != Z_OK)) {
            return is_broken(self, at, "something stands behind its end");
        }
        const unsigned given = size < PIECE ? (unsigned)size : (unsigned)PIECE;
        stream->avail_in = given;
        do {
            stream->next_out = (unsigned char *)self->piece;
            stream->avail_out = (unsigned)PIECE;
            const int result = inflate(stream, Z_NO_FLUSH);
            self->ended = result == Z_STREAM_END;
            if (result == Z_MEM_ERROR) {
                return serve_no_memory(&at->problem);
            }
            if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
                return is_broken(self, at, stream->msg != NULL ? stream->msg : "it needs a key");
            }
            const size_t made = PIECE - stream->avail_out;
            if (made != 0 && !take(at, self->piece, made)) {
                return false;
            }
        } while (!self->ended && stream->avail_out == 0);
        size -= given - stream->avail_in;
    }
    return true;
}

bool serve_inflate_end(const serve_inflater *self, serve_connection *at)
{
    return self->ended || is_broken(self, at, "it is cut off");
}

void serve_inflate_close(serve_inflater *self)
{
    if (self != NULL) {
        (void)inflateEnd(&self->stream);
        free(self);
    }
}
