/* SPDX-License-Identifier: Apache-2.0 */
/* TLS of gRPC's connections, by GnuTLS, which is opened when it is needed. HTTP's is
 * libmicrohttpd's own, with the same library. */
#ifndef KILN_SERVE_TLS_H
#define KILN_SERVE_TLS_H

#include <sys/types.h>

#include "serve.h"

/* Of both ports. HTTP/2 needs TLS 1.2 (RFC 9113, 9.2), and RFC 8996 ends what was before it. */
#define SERVE_TLS_PRIORITIES "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1"

typedef struct serve_tls serve_tls;       /* a key and its certificate; of all threads */
typedef struct serve_secure serve_secure; /* a connection; of one thread at a time */

/* Both in PEM form. NULL and the problem where they are no pair, or GnuTLS is not here. */
serve_tls *serve_tls_open(const char *key, const char *certificate, serve_problem *problem);
/* NULL is allowed. */
void serve_tls_close(serve_tls *tls);

/* Over a socket that does not block, and stays its caller's. NULL where memory is short. */
serve_secure *serve_secure_open(const serve_tls *tls, int socket);
/* As recv and send; both do what the handshake needs first, and set errno to EAGAIN until it is
 * over. */
ssize_t serve_secure_receive(serve_secure *secure, void *buffer, size_t size);
ssize_t serve_secure_send(serve_secure *secure, const void *data, size_t size);
/* Whether it goes on once the socket takes more, with `waits` to be sent. */
bool serve_secure_wants_out(const serve_secure *secure, bool waits);
/* Tells the client, if that does not block. */
void serve_secure_close(serve_secure *secure);

#endif
