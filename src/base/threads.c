/* SPDX-License-Identifier: Apache-2.0 */
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
    /* If there is no memory for it, forks go unnoticed, which is acceptable. */
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

kiln_status kln_forks_check(unsigned made_at, const char *function, const char *what)
{
    KLN_RETURN_IF(made_at != kln_forks(), KILN_ERROR_STATE,
                  "%s: this process was forked after the %s was made, and its threads did not come "
                  "along; make one after fork",
                  function, what);
    return KILN_OK;
}

void kln_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(condition, &attributes);
    (void)pthread_condattr_destroy(&attributes);
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

/* The end of this thread's stack; 0: not determined yet, 1: unknown. */
static _Thread_local uintptr_t stack_end;
static _Thread_local uintptr_t stack_begin;

static void ask_for_stack(void)
{
    pthread_attr_t attributes;
    void *end = NULL;
    size_t size = 0;
    size_t guard = 0;
    stack_end = 1;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return;
    }
    if (pthread_attr_getstack(&attributes, &end, &size) == 0 &&
        pthread_attr_getguardsize(&attributes, &guard) == 0) {
        stack_end = (uintptr_t)end + guard;
        stack_begin = (uintptr_t)end + size;
    }
    (void)pthread_attr_destroy(&attributes);
}

size_t kln_stack_left(void)
{
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (stack_end == 0) {
        ask_for_stack();
    }
    return stack_end != 1 && here > stack_end && here < stack_begin ? here - stack_end : SIZE_MAX;
}
