/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of HTTP and messages of gRPC that come compressed. */
#ifndef KILN_SERVE_INFLATE_H
#define KILN_SERVE_INFLATE_H

#include "serve_parts.h"

typedef struct serve_inflater serve_inflater;

/* "gzip" or "deflate", which is zlib's format (RFC 9110, section 8.4.1). */
bool serve_inflate_knows(const char *name);
/* NULL where memory is short. */
serve_inflater *serve_inflate_open(const char *name);
/* Hands on what came, in pieces. False and at->problem where it is broken, or `take` fails. */
bool serve_inflate_take(serve_inflater *self, serve_connection *at, const char *data, size_t size,
                        bool (*take)(serve_connection *at, const char *data, size_t size));
/* All of it came: whether that was a whole one. */
bool serve_inflate_end(const serve_inflater *self, serve_connection *at);
/* NULL is allowed. */
void serve_inflate_close(serve_inflater *self);

#endif
