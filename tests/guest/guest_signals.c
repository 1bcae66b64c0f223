/* SPDX-License-Identifier: Apache-2.0 */
/* A host whose main thread waits for signals: no thread that a build made takes them away. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <kiln/kiln.h>

static atomic_int taken;

static void take(int signal)
{
    (void)signal;
    (void)atomic_fetch_add(&taken, 1);
}

static int fail(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, kiln_error_message());
    return 1;
}

int main(int count, char **arguments)
{
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGCHLD};
    const size_t kinds = sizeof signals / sizeof signals[0];
    kiln_build *job = NULL;
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    sigset_t mask;
    sigset_t before;
    sigset_t after;
    /* With threads that stay as long as the engine does. */
    options.backend = "onnxruntime";
    options.threads = 3;
    if (count != 2) {
        return fail("a model is needed");
    }
    (void)pthread_sigmask(SIG_SETMASK, NULL, &before);
    if (kiln_build_start_file(arguments[1], &options, NULL, &job) != KILN_OK ||
        kiln_build_wait(job, UINT64_MAX, &engine) != KILN_OK) {
        return fail("building");
    }
    (void)pthread_sigmask(SIG_SETMASK, NULL, &after);
    (void)sigemptyset(&mask);
    for (size_t i = 0; i < kinds; i++) {
        if (sigismember(&before, signals[i]) != sigismember(&after, signals[i])) {
            return fail("the caller's own mask changed");
        }
        (void)sigaddset(&mask, signals[i]);
        const struct sigaction action = {.sa_handler = take};
        (void)sigaction(signals[i], &action, NULL);
    }
    (void)pthread_sigmask(SIG_BLOCK, &mask, NULL);
    for (size_t i = 0; i < kinds; i++) {
        (void)kill(getpid(), signals[i]);
    }
    (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    if (atomic_load(&taken) != 0) {
        return fail("a signal of the host was taken by a thread of Kiln's");
    }
    (void)sigpending(&after);
    for (size_t i = 0; i < kinds; i++) {
        if (!sigismember(&after, signals[i])) {
            return fail("a signal is gone");
        }
    }
    kiln_engine_release(engine);
    kiln_build_destroy(job);
    puts("every signal waits for the host");
    return 0;
}
