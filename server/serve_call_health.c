/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1.Health, for the server and its single service. */
#include "serve_grpc.h"

enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 }; /* of HealthCheckResponse */

bool serve_health_knows(const char *service)
{
    return service[0] == '\0' || strcmp(service, "inference.GRPCInferenceService") == 0 ||
           strcmp(service, "grpc.health.v1.Health") == 0;
}

/* From here on it does not count as a request in flight, since it may last as long as the
 * client. */
void serve_call_watch(serve_call *call, const char *service)
{
    call->watches = true;
    call->is_known = serve_health_knows(service);
    call->works = false;
    call->at.code = 200;
    serve_request_finish(&call->at);
    serve_call_tell_health(call);
}

void serve_call_tell_health(serve_call *call)
{
    const serve *server = call->at.server;
    const bool stops = atomic_load(&server->stopping);
    const int status = !call->is_known          ? SERVICE_UNKNOWN
                       : serve_is_ready(server) ? SERVING
                                                : NOT_SERVING;
    const char message[] = {0, 0, 0, 0, 2, 1 << 3, (char)status}; /* prefix, and field 1 */
    if (call->part_count == 0 && call->told != status) {
        call->told = status;
        serve_arena_reset(&call->at.arena);
        serve_text_append(&call->out, message, sizeof message);
        if (!serve_call_send_out(call)) {
            (void)serve_no_memory(&call->at.problem);
            serve_call_end(call, false);
            return;
        }
    }
    if (stops) {
        (void)serve_refuse(&call->at.problem, 503, "the server is stopping");
        serve_call_end(call, false);
    }
}
