/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread wakes up ten times a second and draws one line, while the work goes on in the others.
 * `guard` protects everything except the fraction, and keeps messages and the line from being
 * mixed.
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
#define LEAST_BAR_COLUMNS 4
#define WHAT_COLUMNS 30
#define USUAL_COLUMNS 80
/* The maximum number of bytes of text in a line. */
#define MOST_BYTES 1024

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended;
static pthread_t thread;
static bool is_running;
static bool is_drawn;
static char label[MOST_BYTES];
static char phase[MOST_BYTES];
static uint64_t begun;
static uint64_t phase_begun;
static unsigned ticks;
/* In thousandths; negative if unknown. */
static atomic_int done = -1;

static void erase(void)
{
    if (is_drawn) {
        (void)fputs("\r\x1b[K", stderr);
        (void)fflush(stderr);
        is_drawn = false;
    }
}

/* Shortens the text to the remaining columns and subtracts its own; if there are too few to be
 * useful, the text is left out. */
static void fit(char *text, int *room)
{
    if ((int)cli_columns(text) > *room) {
        if (*room < 8) {
            *text = '\0';
        } else {
            cli_shorten(text, (size_t)*room);
        }
    }
    *room -= (int)cli_columns(text);
}

/* Draws the bar and the percentage. */
static void draw_bar(int thousandths, int columns)
{
    const bool unicode = cli_has_unicode();
    for (int i = 0; i < columns; i++) {
        const bool full = i * 1000 < thousandths * columns;
        (void)fprintf(stderr, "%s%s", i == 0 ? "  " : "",
                      unicode ? (full ? "\u2588" : "\u2591") : (full ? "#" : "."));
    }
    (void)fprintf(stderr, " %3d %%", thousandths / 10);
}

/* Draws what is being done, a bar if the progress is known, the time, and the phase with its own
 * time; the phase gets what the others leave of the line. */
static void draw(void)
{
    static const char *const spinner[2][4] = {{"|", "/", "-", "\\"},
                                              {"\u25d0", "\u25d3", "\u25d1", "\u25d2"}};
    const uint64_t now = kiln_clock_now();
    const int thousandths = atomic_load_explicit(&done, memory_order_relaxed);
    const size_t terminal = cli_terminal_columns(STDERR_FILENO);
    char what[sizeof label];
    char name[sizeof phase];
    char time[32];
    char phase_time[32] = "";
    (void)snprintf(time, sizeof time, "  %.1f s", (double)(now - begun) / 1e9);
    (void)snprintf(what, sizeof what, "%s", label);
    (void)snprintf(name, sizeof name, "%s", phase);
    /* The last column stays empty: some terminals move to the next line after it. */
    int room = (terminal > 0 ? (int)terminal : USUAL_COLUMNS) - 1 - 2 - (int)strlen(time);
    room -= thousandths >= 0 ? 6 : 0;
    fit(what, &room);
    int bar = name[0] != '\0' ? BAR_COLUMNS / 2 : BAR_COLUMNS;
    bar = bar < room - 2 ? bar : room - 2;
    bar = thousandths < 0 || bar < LEAST_BAR_COLUMNS ? 0 : bar;
    room -= bar > 0 ? bar + 2 : 0;
    if (now - phase_begun >= QUIET_NANOSECONDS) {
        (void)snprintf(phase_time, sizeof phase_time, " %llu s",
                       (unsigned long long)((now - phase_begun) / 1000000000));
    }
    room -= 2 + (int)strlen(phase_time);
    fit(name, &room);

    (void)fprintf(stderr, "\r\x1b[K%s %s", spinner[cli_has_unicode() ? 1 : 0][ticks++ % 4], what);
    if (thousandths >= 0) {
        draw_bar(thousandths, bar);
    }
    (void)fputs(time, stderr);
    if (name[0] != '\0') {
        (void)fprintf(stderr, "  %s%s", name, phase_time);
    }
    (void)fflush(stderr);
    is_drawn = true;
}

static void *tick(void *unused)
{
    (void)unused;
    (void)pthread_mutex_lock(&guard);
    while (is_running) {
        const uint64_t at = kiln_clock_now() + TICK_NANOSECONDS;
        const struct timespec next = {.tv_sec = (time_t)(at / 1000000000),
                                      .tv_nsec = (long)(at % 1000000000)};
        (void)pthread_cond_timedwait(&ended, &guard, &next);
        if (is_running && kiln_clock_now() - begun > QUIET_NANOSECONDS) {
            draw();
        }
    }
    erase();
    (void)pthread_mutex_unlock(&guard);
    return NULL;
}

/* `target` has MOST_BYTES bytes, which is always enough for `columns` characters. */
static void take_text(char *target, const char *source, size_t columns)
{
    SCOPED_HEAP char *printable = cli_printable(source);
    cli_shorten(printable, columns);
    (void)snprintf(target, MOST_BYTES, "%s", printable);
}

static bool is_forbidden;

void cli_progress_forbid(void)
{
    is_forbidden = true;
}

void cli_progress_begin(const char *what)
{
    const char *terminal = getenv("TERM");
    if (is_forbidden || isatty(STDERR_FILENO) == 0 || terminal == NULL ||
        strcmp(terminal, "dumb") == 0) {
        return;
    }
    take_text(label, what, WHAT_COLUMNS);
    phase[0] = '\0';
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&ended, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    begun = kiln_clock_now();
    ticks = 0;
    atomic_store(&done, -1);
    is_running = true;
    /* Without a thread there is no progress display, which is not an error. */
    if (pthread_create(&thread, NULL, tick, NULL) != 0) {
        is_running = false;
    }
}

void cli_progress_set(double fraction)
{
    const double bounded = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    atomic_store_explicit(&done, (int)(bounded * 1000), memory_order_relaxed);
}

void cli_progress_phase(const char *name)
{
    char text[MOST_BYTES];
    take_text(text, name, MOST_BYTES / 4 - 1);
    (void)pthread_mutex_lock(&guard);
    if (strcmp(text, phase) != 0) {
        (void)snprintf(phase, sizeof phase, "%s", text);
        phase_begun = kiln_clock_now();
    }
    (void)pthread_mutex_unlock(&guard);
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
