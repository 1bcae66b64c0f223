/* SPDX-License-Identifier: Apache-2.0 */
/* A bare libmicrohttpd that gives every body back: what any server on it costs. serve_echo
 * [THREADS], which prints its port and serves until its standard input ends. */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct upload {
    char *data;
    size_t size, capacity;
} upload;

static enum MHD_Result handle(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **state)
{
    (void)user;
    (void)url;
    (void)method;
    (void)version;
    upload *body = *state;
    if (body == NULL) {
        const char *length =
            MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
        body = calloc(1, sizeof *body);
        if (body == NULL) {
            return MHD_NO;
        }
        body->capacity = length != NULL ? strtoul(length, NULL, 10) : 0;
        body->data = malloc(body->capacity + 1);
        *state = body;
        return body->data != NULL ? MHD_YES : MHD_NO;
    }
    if (*size != 0) {
        const size_t taken =
            *size < body->capacity - body->size ? *size : body->capacity - body->size;
        memcpy(body->data + body->size, data, taken);
        body->size += taken;
        *size = 0;
        return MHD_YES;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body->size, body->data, MHD_RESPMEM_MUST_FREE);
    body->data = NULL;
    (void)MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    const enum MHD_Result queued = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return queued;
}

static void completed(void *user, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode why)
{
    (void)user;
    (void)connection;
    (void)why;
    upload *body = *state;
    if (body != NULL) {
        free(body->data);
        free(body);
    }
    *state = NULL;
}

int main(int count, char **arguments)
{
    const unsigned threads = count > 1 ? (unsigned)strtoul(arguments[1], NULL, 10) : 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)completed, NULL},
        {MHD_OPTION_SOCK_ADDR, 0, &address},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)64 << 10, NULL},
        {threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_TURBO, 0, NULL, NULL, handle, NULL,
                         MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (daemon == NULL) {
        (void)fprintf(stderr, "libmicrohttpd cannot serve\n");
        return 1;
    }
    (void)printf("%u\n", (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    (void)fflush(stdout);
    while (getchar() != EOF) {
    }
    MHD_stop_daemon(daemon);
    return 0;
}
