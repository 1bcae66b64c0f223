/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers over libmicrohttpd. */
#ifndef KILN_SERVE_HTTP_H
#define KILN_SERVE_HTTP_H

#include <unistd.h>

#include "serve_parts.h"

/* Answers what comes over server->socket from now on. */
bool serve_http_start(serve *server, serve_problem *problem);

#endif
