/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory of clients on this machine, as the protocol's extension has it.
 *
 * It is read and written as a file and never mapped: a client that cuts it short gets an error, and
 * the server no signal. Tensors are copied once, and no socket carries them. */
#ifndef KILN_SERVE_SHARED_H
#define KILN_SERVE_SHARED_H

#include "serve_parts.h"

/* A tensor's place in a region that was registered. */
typedef struct serve_place {
    const char *region; /* its name; NULL: it is in none */
    int64_t offset, size;
} serve_place;

/* Whether there is such a region that has room for the place. False and the problem. */
bool serve_place_check(serve *server, const serve_place *place, const char *tensor,
                       serve_problem *problem);
/* Copies the tensor from there, or there. Likewise. */
bool serve_place_read(serve *server, const serve_place *place, const char *tensor, void *data,
                      size_t size, serve_problem *problem);
bool serve_place_write(serve *server, const serve_place *place, const char *tensor,
                       const void *data, size_t size, serve_problem *problem);

serve_result serve_shared_show(serve_connection *at);
serve_result serve_shared_register(serve_connection *at);
serve_result serve_shared_unregister(serve_connection *at);
/* Of memory of a GPU, which takes no region: so Triton's clients begin and end. */
serve_result serve_shared_show_none(serve_connection *at);
serve_result serve_shared_drop_none(serve_connection *at);
/* Where such memory is asked for, and what else of Triton's protocol is not offered. */
serve_result serve_shared_refuse(serve_connection *at);
void serve_shared_finish(serve *server);

#endif
