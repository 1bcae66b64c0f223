/* SPDX-License-Identifier: Apache-2.0 */
/* A server in the process of a test, so that a sanitizer sees all of it, and its client. */
#ifndef SERVE_HERE_H
#define SERVE_HERE_H

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "kiln_test.h"
#include "language_model.h"
#include "serve.h"

static inline void say_nothing(const char *sentence)
{
}

/* Of one place, on any port. */
static inline serve_options here_options(const char *const *place, const kiln_build_options *build)
{
    return (serve_options){.places = place,
                           .place_count = 1,
                           .grpc_port = -1,
                           .host = "127.0.0.1",
                           .threads = 1,
                           .connections = 64,
                           .body_limit = 1 << 20,
                           .memory_limit = 1 << 24,
                           .request_seconds = 60,
                           .idle_seconds = 60,
                           .drain_seconds = 10,
                           .generate_seconds = 100,
                           .sequences = 3,
                           .max_length = POSITIONS,
                           .build = build,
                           .say = say_nothing};
}

static inline int here_port(const serve *server)
{
    return (int)strtol(strrchr(serve_address(server), ':') + 1, NULL, 10);
}

/* Sends a request; the socket, or -1. */
static inline int here_ask(int port, const char *request, size_t size)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (made >= 0 && (connect(made, (const struct sockaddr *)&address, sizeof address) != 0 ||
                      send(made, request, size, MSG_NOSIGNAL) != (ssize_t)size)) {
        (void)close(made);
        return -1;
    }
    return made;
}

/* All that comes until the server closes, ended by NUL; closes the socket. */
static inline size_t here_read(int client, char *answer, size_t room)
{
    size_t used = 0;
    ssize_t more = 0;
    while (client >= 0 && used + 1 < room &&
           (more = recv(client, answer + used, room - used - 1, 0)) > 0) {
        used += (size_t)more;
    }
    answer[used] = '\0';
    if (client >= 0) {
        (void)close(client);
    }
    return used;
}

/* A folder of the test's, with a language model in it where `lm` is said. */
static inline const char *here_folder(const char *name, bool lm)
{
    static char folder[4096];
    char path[4200];
    (void)snprintf(folder, sizeof folder, "%s", kiln_test_path(name));
    assert_int_equal(mkdir(folder, 0700), 0);
    if (lm) {
        kiln_network *network = language_network(&(language_options){.form = MODEL_GROWING});
        (void)snprintf(path, sizeof path, "%s/lm.onnx", folder);
        assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
        kiln_network_destroy(network);
    }
    return folder;
}

#endif
