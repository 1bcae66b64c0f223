/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "kln_base.h"

static atomic_uint forks;
static pthread_once_t listening = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
    (void)atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

static void listen(void)
{
    /* Where there is no memory for it, forks are not noticed: that is all. */
    (void)pthread_atfork(NULL, NULL, count_fork);
}

unsigned kln_forks_begin(void)
{
    (void)pthread_once(&listening, listen);
    return kln_forks();
}

unsigned kln_forks(void)
{
    return atomic_load_explicit(&forks, memory_order_relaxed);
}

int kln_thread_start(pthread_t *thread, void *(*body)(void *user), void *user)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked;
    sigset_t before;
    (void)sigfillset(&blocked);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(faults); i++) {
        (void)sigdelset(&blocked, faults[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, &blocked, &before);
    const int error = pthread_create(thread, NULL, body, user);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}
