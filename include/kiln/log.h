/*
 * log.h - log messages of Kiln and of the libraries it uses.
 *
 * Kiln never prints. Messages go to a single sink, and there is none until the program sets it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LOG_H
#define KILN_LOG_H

#include <kiln/export.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kiln_log_level {
    KILN_LOG_OFF = 0,     /* no messages */
    KILN_LOG_ERROR = 1,   /* something failed; the failing call reports it too */
    KILN_LOG_WARNING = 2, /* works, but not as well as it could */
    KILN_LOG_INFO = 3,    /* which library, which backend, what was built */
    KILN_LOG_DEBUG = 4    /* each step, and every message of the libraries */
} kiln_log_level;

/* Receives one message. `component` names the module it comes from ("loader", "onnxruntime",
 * "tensorrt"); `message` is one line of UTF-8 without a line break. Both are valid only during the
 * call. The sink may be called from any thread, including the backends' own, and from several at
 * once. It must not call into Kiln. */
typedef void (*kiln_log_sink)(void *user, kiln_log_level level, const char *component,
                              const char *message);

/* Sends messages up to `level` to `sink`; NULL, the initial state, discards them. `user` is passed
 * to each call and must outlive the use of the sink.
 *
 * When this returns, the old sink no longer runs in any thread, because the call waits for it. In a
 * language whose functions run in one thread only, as in JavaScript, a running sink waits for that
 * thread; there, set and remove it only while no other thread is inside Kiln. Any thread. Since
 * 0.1. */
KILN_API void kiln_log_set_sink(kiln_log_sink sink, void *user, kiln_log_level level);

#ifdef __cplusplus
}
#endif

#endif
