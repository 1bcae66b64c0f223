/* SPDX-License-Identifier: Apache-2.0 */
/* Messages for clients and operators. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "serve_parts.h"

bool serve_refuse(serve_problem *problem, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    problem->code = code;
    (void)vsnprintf(problem->sentence, sizeof problem->sentence, format, arguments);
    va_end(arguments);
    kln_agree(problem->sentence);
    return false;
}

bool serve_no_memory(serve_problem *problem)
{
    return serve_refuse(problem, 503, "memory is short");
}

bool serve_refuse_json(serve_problem *problem, const serve_json *json, size_t before,
                       const char *where)
{
    return serve_refuse(problem, 400, "the request's JSON, byte %zu: %s%s%s",
                        before + (size_t)(json->at - json->begin),
                        json->reason != NULL ? json->reason : "it is broken",
                        where[0] != '\0' ? ", in " : "", where);
}

bool serve_refuse_status(serve_problem *problem, kiln_status status, const char *sentence)
{
    int code = 400; /* the request does not suit the model */
    switch (status) {
        case KILN_ERROR_QUEUE_FULL:
        case KILN_ERROR_OUT_OF_MEMORY:
        case KILN_ERROR_STATE:
        case KILN_ERROR_CANCELLED: code = 503; break;
        case KILN_ERROR_TIMEOUT: code = 504; break;
        case KILN_ERROR_BACKEND:
        case KILN_ERROR_DEVICE:
        case KILN_ERROR_IO: code = 500; break;
        default: break;
    }
    /* The name of the library's function means nothing to a client. */
    const size_t function = strspn(sentence, "abcdefghijklmnopqrstuvwxyz_");
    const bool named =
        strncmp(sentence, "kiln_", 5) == 0 && strncmp(sentence + function, ": ", 2) == 0;
    return serve_refuse(problem, code, "%s", sentence + (named ? function + 2 : 0));
}

/* A single failure may be the request's own fault. */
#define LOST 3

void serve_note_run(serve *server, const serve_instance *model, kiln_status status)
{
    if (!model->on_gpu || (status == KILN_OK && atomic_load(&server->device_failures) == 0)) {
        return;
    }
    if (status == KILN_OK) {
        atomic_store(&server->device_failures, 0);
    } else if (status == KILN_ERROR_DEVICE &&
               atomic_fetch_add(&server->device_failures, 1) + 1 == LOST) {
        serve_say(
            server,
            "%d runs in a row failed on a GPU, the last of model %s: %s; until one works this "
            "server is neither live nor ready, so that it is started anew",
            LOST, model->name, kiln_error_message());
    }
}

bool serve_is_lost(const serve *server)
{
    return atomic_load(&server->device_failures) >= LOST;
}

bool serve_is_ready(const serve *server)
{
    return atomic_load(&server->models.loaded) && !atomic_load(&server->stopping) &&
           !serve_is_lost(server);
}

void serve_say(const serve *server, const char *format, ...)
{
    char sentence[2 * SERVE_SENTENCE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    kln_agree(sentence);
    if (server->options->say != NULL) {
        server->options->say(sentence);
    }
}
