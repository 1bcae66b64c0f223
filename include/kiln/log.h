/*
 * log.h - what Kiln and the libraries under it report while they work.
 *
 * Kiln never prints. Messages go to one sink, and there is none until the program sets it.
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
    KILN_LOG_ERROR = 1,   /* something failed; the failing call says so too */
    KILN_LOG_WARNING = 2, /* it works, but not as well as it could */
    KILN_LOG_INFO = 3,    /* which library, which backend, what was built */
    KILN_LOG_DEBUG = 4    /* each step, and every message of the libraries */
} kiln_log_level;

/* Receives one message. `component` names the module it comes from ("loader", "onnxruntime",
 * "tensorrt"); `message` is one line of UTF-8 without a line end. Both are valid only during the
 * call. It may be called from any thread, the backends' own ones too, and from several at once; it
 * must not call into Kiln. */
typedef void (*kiln_log_sink)(void *user, kiln_log_level level, const char *component,
                              const char *message);

/* Sends messages up to `level` to `sink`; NULL sends them nowhere, which is how a process starts.
 * `user` is handed to each call and must outlive the sink's use. When this returns, the old sink is
 * no longer running in any thread, which it waits for: where the functions of a language run in one
 * thread alone, as JavaScript's do, a sink written in it waits for that thread, so set and end it
 * there only while no other thread is inside Kiln. Any thread. Since 0.1. */
KILN_API void kiln_log_set_sink(kiln_log_sink sink, void *user, kiln_log_level level);

#ifdef __cplusplus
}
#endif

#endif
