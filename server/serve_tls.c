/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/gnutls.h>

#include "serve_library.h"
#include "serve_parts.h"

#define FUNCTIONS(X)                    \
    X(alert_send_appropriate)           \
    X(alpn_set_protocols)               \
    X(bye)                              \
    X(certificate_allocate_credentials) \
    X(certificate_free_credentials)     \
    X(certificate_set_x509_key_mem)     \
    X(credentials_set)                  \
    X(deinit)                           \
    X(error_is_fatal)                   \
    X(handshake)                        \
    X(init)                             \
    X(priority_deinit)                  \
    X(priority_init)                    \
    X(priority_set)                     \
    X(record_get_direction)             \
    X(record_recv)                      \
    X(record_send)                      \
    X(strerror)                         \
    X(transport_set_int2)

typedef struct functions {
#define MEMBER(name) __typeof__(gnutls_##name) *name;
    FUNCTIONS(MEMBER)
#undef MEMBER
} functions;

struct serve_tls {
    const functions *gnutls;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priorities;
};

struct serve_secure {
    const functions *gnutls;
    gnutls_session_t session;
    bool shaken; /* the handshake is done */
};

static const functions *open_library(char *sentence, size_t size)
{
    static functions table;
    static const serve_symbol symbols[] = {
#define ROW(name) {"gnutls_" #name, offsetof(functions, name)},
        FUNCTIONS(ROW)
#undef ROW
    };
    static const serve_library library = {"libgnutls.so.30",
                                          "gRPC over TLS",
                                          "GnuTLS",
                                          "3.6",
                                          "libgnutls30",
                                          symbols,
                                          sizeof symbols / sizeof symbols[0]};
    return serve_library_open(&library, &table, sentence, size) ? &table : NULL;
}

static gnutls_datum_t datum(const char *text)
{
    return (gnutls_datum_t){(unsigned char *)(uintptr_t)text, (unsigned)strlen(text)};
}

serve_tls *serve_tls_open(const char *key, const char *certificate, serve_problem *problem)
{
    const gnutls_datum_t secret = datum(key);
    const gnutls_datum_t shown = datum(certificate);
    const functions *gnutls = open_library(problem->sentence, sizeof problem->sentence);
    serve_tls *tls = gnutls != NULL ? calloc(1, sizeof *tls) : NULL;
    if (tls == NULL) {
        problem->code = 501;
        if (gnutls != NULL) {
            (void)serve_no_memory(problem);
        }
        return NULL;
    }
    tls->gnutls = gnutls;
    int error = gnutls->priority_init(&tls->priorities, SERVE_TLS_PRIORITIES, NULL);
    error = error != 0 ? error : gnutls->certificate_allocate_credentials(&tls->credentials);
    error = error != 0 ? error
                       : gnutls->certificate_set_x509_key_mem(tls->credentials, &shown, &secret,
                                                              GNUTLS_X509_FMT_PEM);
    if (error < 0) {
        (void)serve_refuse(problem, 400,
                           "the key and the certificate cannot be used: %s (both in PEM form, and "
                           "a pair, the key without a password)",
                           gnutls->strerror(error));
        serve_tls_close(tls);
        return NULL;
    }
    return tls;
}

void serve_tls_close(serve_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    if (tls->credentials != NULL) {
        tls->gnutls->certificate_free_credentials(tls->credentials);
    }
    if (tls->priorities != NULL) {
        tls->gnutls->priority_deinit(tls->priorities);
    }
    free(tls);
}

/* --- a connection --- */

serve_secure *serve_secure_open(const serve_tls *tls, int socket)
{
    static const gnutls_datum_t h2 = {(unsigned char *)(uintptr_t) "h2", 2};
    const functions *gnutls = tls->gnutls;
    serve_secure *secure = calloc(1, sizeof *secure);
    if (secure == NULL) {
        return NULL;
    }
    secure->gnutls = gnutls;
    if (gnutls->init(&secure->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0) {
        free(secure);
        return NULL;
    }
    if (gnutls->priority_set(secure->session, tls->priorities) != 0 ||
        gnutls->credentials_set(secure->session, GNUTLS_CRD_CERTIFICATE, tls->credentials) != 0 ||
        gnutls->alpn_set_protocols(secure->session, &h2, 1, GNUTLS_ALPN_MANDATORY) != 0) {
        serve_secure_close(secure);
        return NULL;
    }
    gnutls->transport_set_int2(secure->session, socket, socket);
    return secure;
}

/* Translates GnuTLS results to those of recv and send. A client that asks for another handshake is
 * cut off (RFC 9113, 9.2.1). */
static ssize_t result_of(const serve_secure *secure, ssize_t result)
{
    if (result >= 0) {
        return result;
    }
    const bool goes_on =
        result != GNUTLS_E_REHANDSHAKE && secure->gnutls->error_is_fatal((int)result) == 0;
    errno = result == GNUTLS_E_INTERRUPTED ? EINTR : goes_on ? EAGAIN : EPROTO;
    return -1;
}

static bool shake(serve_secure *secure)
{
    if (secure->shaken) {
        return true;
    }
    const int result = secure->gnutls->handshake(secure->session);
    secure->shaken = result == 0;
    if (result < 0 && result_of(secure, result) < 0 && errno == EPROTO) {
        (void)secure->gnutls->alert_send_appropriate(secure->session, result);
        errno = EPROTO;
    }
    return secure->shaken;
}

ssize_t serve_secure_receive(serve_secure *secure, void *buffer, size_t size)
{
    return shake(secure)
               ? result_of(secure, secure->gnutls->record_recv(secure->session, buffer, size))
               : -1;
}

/* GnuTLS requires that an unfinished send is repeated with the same bytes. */
ssize_t serve_secure_send(serve_secure *secure, const void *data, size_t size)
{
    return shake(secure)
               ? result_of(secure, secure->gnutls->record_send(secure->session, data, size))
               : -1;
}

bool serve_secure_wants_out(const serve_secure *secure, bool waits)
{
    return secure->shaken ? waits : secure->gnutls->record_get_direction(secure->session) == 1;
}

void serve_secure_close(serve_secure *secure)
{
    if (secure->shaken) {
        (void)secure->gnutls->bye(secure->session, GNUTLS_SHUT_WR);
    }
    secure->gnutls->deinit(secure->session);
    free(secure);
}
