/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "serve.h"

/* Replaces the server if libmicrohttpd's header was not found. */

bool serve_is_built(void)
{
    return false;
}

serve *serve_start(const serve_options *options, serve_problem *problem)
{
    (void)options;
    problem->code = 501;
    (void)snprintf(problem->sentence, sizeof problem->sentence,
                   "this kiln was built without libmicrohttpd and cannot serve; install the "
                   "package libmicrohttpd-dev and build it again");
    return NULL;
}

bool serve_load_all(serve *server, serve_problem *problem)
{
    (void)server;
    (void)problem;
    return false;
}

const char *serve_address(const serve *server)
{
    (void)server;
    return "";
}

const char *serve_grpc_address(const serve *server)
{
    (void)server;
    return "";
}

size_t serve_ready_count(serve *server)
{
    (void)server;
    return 0;
}

void serve_reload(serve *server)
{
    (void)server;
}

void serve_stop(serve *server)
{
    (void)server;
}
