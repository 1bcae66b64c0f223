/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_progress.h"

#include <stdio.h>

#include "backends/tensorrt/trt_callback_tables.h"

#define PAUSE (UINT64_C(2) * 1000000)

/* The step counts that TensorRT reports do not reflect how long steps take: in a build of
 * ResNet-50, "Timing graph nodes" takes 95 % of the time. So these phases have fixed shares, and
 * those around them do not count. */
#define TIMING "Timing graph nodes"
#define WHOLE "Building engine"
static const struct {
    const char *name;
    double begin, end;
} parts[] = {{TIMING, 0.01, 0.95},
             {"Timing tensor reformats", 0.95, 0.98},
             {"Determining refit engines", 0.98, 1.0}};

/* Finds the latest phase of that name, or -1: several threads may be in phases of the same name.
 * Called with the lock held, like all of these. */
static int find_phase(const trt_progress_monitor *progress, const char *name)
{
    for (size_t i = progress->count; name != NULL && i > 0; i--) {
        const struct trt_phase *phase = &progress->phases[i - 1];
        if (strncmp(phase->name, name, sizeof phase->name - 1) == 0) {
            return (int)i - 1;
        }
    }
    return -1;
}

/* The fraction of the stage that is complete at this point of a phase; profiles are timed one after
 * the other. */
static double place(const trt_progress_monitor *progress, double begin, double end, double inner)
{
    const double rounds = progress->rounds > 1 ? (double)progress->rounds : 1.0;
    const double before = progress->round > 1 ? (double)(progress->round - 1) : 0.0;
    const double fraction = (before + begin + (end - begin) * inner) / rounds;
    return fraction < 1.0 ? fraction : 1.0;
}

/* Each phase fills part of a step of its parent phase. */
static double fraction_at(const trt_progress_monitor *progress, int at)
{
    double inner = 0.0;
    for (; at >= 0; at = progress->phases[at].parent) {
        const struct trt_phase *phase = &progress->phases[at];
        const double steps = phase->steps > 0 ? (double)phase->steps : 1.0;
        inner = ((double)phase->done + inner) / steps;
        inner = inner < 1.0 ? inner : 1.0;
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(parts); i++) {
            if (strcmp(phase->name, parts[i].name) == 0) {
                return place(progress, parts[i].begin, parts[i].end, inner);
            }
        }
        if (phase->parent < 0 && strcmp(phase->name, WHOLE) == 0) {
            return 0.0;
        }
    }
    return inner;
}

static bool is_due(trt_progress_monitor *progress, uint64_t now)
{
    if (progress->passed_on >= TRT_FIRST_REPORTS && now < progress->next) {
        return false;
    }
    progress->passed_on++;
    progress->next = now + progress->pause;
    return true;
}

/* Called without the lock, because the listener may take long. Returns false to stop. */
static bool pass_on(trt_progress_monitor *progress, const kiln_phase *now)
{
    if (progress->monitor != NULL && !atomic_load(&progress->stopped) &&
        !progress->monitor->progress(progress->monitor->user, now)) {
        atomic_store(&progress->stopped, true);
    }
    return !atomic_load(&progress->stopped);
}

/* Releases the lock while the listener runs. */
static bool report(trt_progress_monitor *progress, const char *name, int at)
{
    const struct trt_phase *phase = at >= 0 ? &progress->phases[at] : NULL;
    const double fraction = progress->begin + progress->share * fraction_at(progress, at);
    progress->fraction = fraction > progress->fraction ? fraction : progress->fraction;
    const kiln_phase now = {.phase = name,
                            .depth = phase != NULL ? phase->depth : 0,
                            .step = phase != NULL ? phase->done : 0,
                            .steps = phase != NULL ? phase->steps : 0,
                            .fraction = progress->fraction};
    const bool due = is_due(progress, kln_now());
    (void)pthread_mutex_unlock(&progress->lock);
    const bool goes_on = due ? pass_on(progress, &now) : !atomic_load(&progress->stopped);
    (void)pthread_mutex_lock(&progress->lock);
    return goes_on;
}

static void phase_start(void *self, const char *name, const char *parent, int32_t steps)
{
    trt_progress_monitor *progress = self;
    name = name != NULL ? name : "";
    KLN_LOCKED(&progress->lock);
    int at = -1;
    if (progress->count < TRT_PHASES) {
        const int around = find_phase(progress, parent);
        at = (int)progress->count++;
        struct trt_phase *phase = &progress->phases[at];
        *phase = (struct trt_phase){.parent = around, .steps = steps > 0 ? steps : 0};
        phase->depth = around >= 0 ? progress->phases[around].depth + 1 : 0;
        (void)snprintf(phase->name, sizeof phase->name, "%s", name);
    }
    progress->round += strcmp(name, TIMING) == 0 ? 1 : 0;
    (void)report(progress, name, at);
}

static bool step_complete(void *self, const char *name, int32_t step)
{
    trt_progress_monitor *progress = self;
    name = name != NULL ? name : "";
    KLN_LOCKED(&progress->lock);
    const int at = find_phase(progress, name);
    if (at >= 0 && step < INT32_MAX && step + 1 > progress->phases[at].done) {
        struct trt_phase *phase = &progress->phases[at];
        phase->done = phase->steps == 0 || step < phase->steps ? step + 1 : phase->steps;
    }
    return report(progress, name, at);
}

static void phase_finish(void *self, const char *name)
{
    trt_progress_monitor *progress = self;
    KLN_LOCKED(&progress->lock);
    const int at = find_phase(progress, name);
    if (at >= 0) {
        const int around = progress->phases[at].parent;
        progress->count--;
        memmove(&progress->phases[at], &progress->phases[at + 1],
                (progress->count - (size_t)at) * sizeof progress->phases[0]);
        for (size_t i = 0; i < progress->count; i++) {
            int *parent = &progress->phases[i].parent;
            *parent = *parent == at ? around : *parent > at ? *parent - 1 : *parent;
        }
    }
}

void trt_fill_progress_monitor(trt_tables *tables, const trt_abi *abi)
{
    trt_table *table = &tables->progress_monitor;
    TRT_PUT(table, ProgressMonitor, phaseStart, phase_start);
    TRT_PUT(table, ProgressMonitor, stepComplete, step_complete);
    TRT_PUT(table, ProgressMonitor, phaseFinish, phase_finish);
}

bool trt_progress_stage(trt_progress_monitor *progress, const char *name, double share)
{
    KLN_LOCKED(&progress->lock);
    progress->begin += progress->share;
    progress->share = share;
    progress->count = 0;
    progress->next = 0;
    return report(progress, name, -1);
}

void trt_progress_monitor_init(trt_progress_monitor *progress, const trt_tables *tables,
                               const kiln_monitor *monitor)
{
    *progress = (trt_progress_monitor){.monitor = monitor, .pause = PAUSE};
    progress->object.vtable = trt_table_point(&tables->progress_monitor);
    atomic_init(&progress->stopped, false);
    (void)pthread_mutex_init(&progress->lock, NULL);
}

void trt_progress_monitor_finish(trt_progress_monitor *progress)
{
    (void)pthread_mutex_destroy(&progress->lock);
}
