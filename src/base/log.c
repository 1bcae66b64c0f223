/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdio.h>

#include "kln_base.h"

#define LINE_SIZE 2048

/* The level is read without the lock, so that a disabled log costs one load. The sink is used only
 * under the shared lock, so that kiln_log_set_sink can promise that the old one is no longer
 * running. */
static atomic_int wanted_level = KILN_LOG_OFF;
static pthread_rwlock_t sink_lock = PTHREAD_RWLOCK_INITIALIZER;
static kiln_log_sink current_sink;
static void *current_user;

void kiln_log_set_sink(kiln_log_sink sink, void *user, kiln_log_level level)
{
    pthread_rwlock_wrlock(&sink_lock);
    current_sink = sink;
    current_user = user;
    atomic_store(&wanted_level, sink != NULL ? (int)level : (int)KILN_LOG_OFF);
    pthread_rwlock_unlock(&sink_lock);
}

bool kln_log_wants(kiln_log_level level)
{
    return (int)level <= atomic_load_explicit(&wanted_level, memory_order_relaxed);
}

void kln_log(kiln_log_level level, const char *component, const char *format, ...)
{
    if (!kln_log_wants(level)) {
        return;
    }
    char line[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (char *at = line; *at != '\0'; at++) {
        if (*at == '\n' || *at == '\r') {
            *at = ' ';
        }
    }
    kln_utf8_clean(line);
    kln_agree(line);
    pthread_rwlock_rdlock(&sink_lock);
    if (current_sink != NULL) {
        current_sink(current_user, level, component, line);
    }
    pthread_rwlock_unlock(&sink_lock);
}
