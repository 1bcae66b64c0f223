/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread wakes ten times a second and draws one line; the work goes on beside it. `guard`
 * protects all but the fraction, and is what keeps a message and the line from being mixed.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

#define TICK_NANOSECONDS 100000000
#define QUIET_NANOSECONDS UINT64_C(1000000000)
#define BAR_COLUMNS 24
#define WHAT_COLUMNS 30

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended;
static pthread_t thread;
static bool is_running;
static bool is_drawn;
static char label[WHAT_COLUMNS + 4];
static uint64_t begun;
static unsigned ticks;
/* In thousandths; negative: not known. */
static atomic_int done = -1;

uint64_t cli_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void erase(void)
{
    if (is_drawn) {
        (void)fputs("\r\x1b[K", stderr);
        (void)fflush(stderr);
        is_drawn = false;
    }
}

static void draw(void)
{
    static const char *const spinner[2][4] = {{"|", "/", "-", "\\"},
                                              {"\u25d0", "\u25d3", "\u25d1", "\u25d2"}};
    const bool unicode = cli_has_unicode();
    const double seconds = (double)(cli_now() - begun) / 1e9;
    const int thousandths = atomic_load_explicit(&done, memory_order_relaxed);
    if (thousandths < 0) {
        (void)fprintf(stderr, "\r\x1b[K%s %s  %.1f s", spinner[unicode ? 1 : 0][ticks++ % 4], label,
                      seconds);
    } else {
        char bar[BAR_COLUMNS * 3 + 1] = "";
        for (int i = 0; i < BAR_COLUMNS; i++) {
            const bool full = i * 1000 < thousandths * BAR_COLUMNS;
            strcat(bar, unicode ? (full ? "\u2588" : "\u2591") : (full ? "#" : "."));
        }
        (void)fprintf(stderr, "\r\x1b[K%s  %s %3d %%  %.1f s", label, bar, thousandths / 10,
                      seconds);
    }
    (void)fflush(stderr);
    is_drawn = true;
}

static void *tick(void *unused)
{
    (void)unused;
    (void)pthread_mutex_lock(&guard);
    while (is_running) {
        struct timespec next;
        (void)clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_nsec += TICK_NANOSECONDS;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        (void)pthread_cond_timedwait(&ended, &guard, &next);
        if (is_running && cli_now() - begun > QUIET_NANOSECONDS) {
            draw();
        }
    }
    erase();
    (void)pthread_mutex_unlock(&guard);
    return NULL;
}

void cli_progress_begin(const char *what)
{
    const char *terminal = getenv("TERM");
    if (isatty(STDERR_FILENO) == 0 || terminal == NULL || strcmp(terminal, "dumb") == 0) {
        return;
    }
    char *printable = cli_printable(what);
    (void)snprintf(label, sizeof label, cli_columns(printable) > WHAT_COLUMNS ? "%.27s..." : "%s",
                   printable);
    free(printable);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&ended, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    begun = cli_now();
    ticks = 0;
    atomic_store(&done, -1);
    is_running = true;
    /* Without a thread there is no progress to be seen, and that is all. */
    if (pthread_create(&thread, NULL, tick, NULL) != 0) {
        is_running = false;
    }
}

void cli_progress_set(double fraction)
{
    const double bounded = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    atomic_store_explicit(&done, (int)(bounded * 1000), memory_order_relaxed);
}

void cli_progress_end(void)
{
    (void)pthread_mutex_lock(&guard);
    const bool was_running = is_running;
    is_running = false;
    if (was_running) {
        (void)pthread_cond_signal(&ended);
    }
    (void)pthread_mutex_unlock(&guard);
    if (was_running) {
        (void)pthread_join(thread, NULL);
        (void)pthread_cond_destroy(&ended);
    }
}

void cli_progress_hide(void)
{
    (void)pthread_mutex_lock(&guard);
    erase();
    (void)pthread_mutex_unlock(&guard);
}
