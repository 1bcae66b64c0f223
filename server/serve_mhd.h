/* SPDX-License-Identifier: Apache-2.0 */
/* The library libmicrohttpd, opened when a server starts: `kiln run` has nothing of it in its
 * process, and works where it is not installed. */
#ifndef KILN_SERVE_MHD_H
#define KILN_SERVE_MHD_H

#include <microhttpd.h>

#define SERVE_MHD_FUNCTIONS(X)                            \
    X(start_daemon)                                       \
    X(stop_daemon)                                        \
    X(queue_response)                                     \
    X(destroy_response)                                   \
    X(add_response_header)                                \
    X(create_response_from_buffer)                        \
    X(create_response_from_buffer_with_free_callback_cls) \
    X(create_response_from_iovec)                         \
    X(create_response_from_callback)                      \
    X(suspend_connection)                                 \
    X(resume_connection)                                  \
    X(get_connection_info)                                \
    X(get_connection_values_n)                            \
    X(get_version)                                        \
    X(is_feature_supported)

typedef struct serve_mhd {
#define SERVE_MHD_MEMBER_(name) __typeof__(MHD_##name) *name;
    SERVE_MHD_FUNCTIONS(SERVE_MHD_MEMBER_)
#undef SERVE_MHD_MEMBER_
} serve_mhd;

/* NULL with `sentence` where it cannot be had. It stays open. */
const serve_mhd *serve_mhd_open(char *sentence, size_t size);

#endif
