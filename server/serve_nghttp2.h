/* SPDX-License-Identifier: Apache-2.0 */
/* libnghttp2, opened when a server that speaks gRPC starts. */
#ifndef KILN_SERVE_NGHTTP2_H
#define KILN_SERVE_NGHTTP2_H

#include <stddef.h>

#include <nghttp2/nghttp2.h>

#define SERVE_NGHTTP2_FUNCTIONS(X)                       \
    X(option_del)                                        \
    X(option_new)                                        \
    X(option_set_no_auto_window_update)                  \
    X(session_callbacks_del)                             \
    X(session_callbacks_new)                             \
    X(session_callbacks_set_on_begin_headers_callback)   \
    X(session_callbacks_set_on_data_chunk_recv_callback) \
    X(session_callbacks_set_on_frame_recv_callback)      \
    X(session_callbacks_set_on_header_callback)          \
    X(session_callbacks_set_on_stream_close_callback)    \
    X(session_callbacks_set_send_data_callback)          \
    X(session_consume_connection)                        \
    X(session_consume_stream)                            \
    X(session_del)                                       \
    X(session_get_last_proc_stream_id)                   \
    X(session_get_stream_user_data)                      \
    X(session_mem_recv)                                  \
    X(session_mem_send)                                  \
    X(session_resume_data)                               \
    X(session_server_new2)                               \
    X(session_set_local_window_size)                     \
    X(session_set_stream_user_data)                      \
    X(session_want_read)                                 \
    X(session_want_write)                                \
    X(submit_goaway)                                     \
    X(submit_response)                                   \
    X(submit_rst_stream)                                 \
    X(submit_settings)                                   \
    X(submit_trailer)

typedef struct serve_nghttp2 {
#define SERVE_NGHTTP2_MEMBER_(name) __typeof__(nghttp2_##name) *name;
    SERVE_NGHTTP2_FUNCTIONS(SERVE_NGHTTP2_MEMBER_)
#undef SERVE_NGHTTP2_MEMBER_
} serve_nghttp2;

/* NULL and a sentence where it is not here, or too old. One thread at a time. */
const serve_nghttp2 *serve_nghttp2_open(char *sentence, size_t size);

#endif
