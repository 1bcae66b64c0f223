/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "serve_parts.h"

/* Replaces gRPC if libnghttp2's header was not found. */

struct serve_grpc *serve_grpc_start(serve *server, int listening, serve_problem *problem)
{
    (void)server;
    (void)close(listening);
    (void)serve_refuse(problem, 501,
                       "this kiln was built without libnghttp2 and speaks no gRPC; install the "
                       "package libnghttp2-dev and build it again");
    return NULL;
}

void serve_grpc_stop(struct serve_grpc *grpc)
{
    (void)grpc;
}
