/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_tls.h"

#include "serve_parts.h"

/* Replaces TLS for gRPC if GnuTLS's header was not found: no connection is ever opened. */

serve_tls *serve_tls_open(const char *key, const char *certificate, serve_problem *problem)
{
    (void)key;
    (void)certificate;
    (void)serve_refuse(problem, 501,
                       "this kiln was built without GnuTLS and speaks gRPC without TLS alone; "
                       "install the package libgnutls28-dev and build it again");
    return NULL;
}

void serve_tls_close(serve_tls *tls)
{
    (void)tls;
}

serve_secure *serve_secure_open(const serve_tls *tls, int socket)
{
    (void)tls;
    (void)socket;
    return NULL;
}

ssize_t serve_secure_receive(serve_secure *secure, void *buffer, size_t size)
{
    (void)secure;
    (void)buffer;
    (void)size;
    return -1;
}

ssize_t serve_secure_send(serve_secure *secure, const void *data, size_t size)
{
    (void)secure;
    (void)data;
    (void)size;
    return -1;
}

bool serve_secure_wants_out(const serve_secure *secure, bool waits)
{
    (void)secure;
    return waits;
}

void serve_secure_close(serve_secure *secure)
{
    (void)secure;
}
