/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <kiln/build.h>

#include "kln_engine.h"

/* Minimum interval between memory checks, each of which reads a file. */
#define MEMORY_EVERY (UINT64_C(20) * 1000000)

/* `lock` guards the members below it. Only the thread writes `engine` and `status`, before it sets
 * `ended`. */
struct kiln_build {
    kln_arena arena;
    kiln_build_options options; /* copied into the arena */
    kiln_build_limits limits;
    const char *path; /* or NULL */
    bool loads;       /* by kiln_engine_load_path, which opens the file itself */
    kln_mapping mapping;
    kiln_span bytes;
    pthread_t thread;
    unsigned forks; /* kln_forks at the start */
    uint64_t begin;
    uint64_t resident_at_begin;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    kiln_status stop; /* KILN_OK, or why the build is to stop: CANCELLED, TIMEOUT or LIMIT */
    bool ended;
    bool taken;
    kiln_status status;
    char sentence[1024];
    kiln_engine *engine;
    kiln_issue_list *issues;        /* of a failed build, until kiln_build_wait hands them out */
    kiln_issue_list **issues_place; /* the caller's, or NULL */
    uint64_t end;
    kiln_build_progress progress;
    uint64_t memory_looked; /* the time of the last check */
};

/* --- memory --- */

/* Resident bytes of this process, or 0 if the system does not report them. */
static uint64_t resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    char line[128] = "";
    if (file != NULL) {
        (void)fgets(line, sizeof line, file);
        (void)fclose(file);
    }
    /* The second number of the line. */
    const char *second = strchr(line, ' ');
    const unsigned long long pages = second != NULL ? strtoull(second, NULL, 10) : 0;
    return pages * kln_page_size();
}

static void note_memory(kiln_build *build)
{
    const uint64_t now = resident();
    const uint64_t grown = now > build->resident_at_begin ? now - build->resident_at_begin : 0;
    KLN_LOCKED(&build->lock);
    if (grown > build->progress.memory_bytes) {
        build->progress.memory_bytes = grown;
    }
    if (build->limits.memory_bytes > 0 && grown > build->limits.memory_bytes &&
        build->stop == KILN_OK) {
        build->stop = KILN_ERROR_LIMIT;
    }
}

/* --- progress --- */

/* Called with the lock held. */
static void note_deadline(kiln_build *build, uint64_t now)
{
    if (build->limits.milliseconds > 0 && build->stop == KILN_OK &&
        (now - build->begin) / 1000000 >= build->limits.milliseconds) {
        build->stop = KILN_ERROR_TIMEOUT;
    }
}

static bool on_progress(void *user, const kiln_phase *report)
{
    kiln_build *build = user;
    const uint64_t now = kln_now();
    (void)pthread_mutex_lock(&build->lock);
    kiln_build_progress *progress = &build->progress;
    (void)snprintf(progress->phase, sizeof progress->phase, "%s", report->phase);
    progress->depth = report->depth;
    progress->step = report->step;
    progress->steps = report->steps;
    progress->reports++;
    if (report->fraction > progress->fraction) {
        progress->fraction = report->fraction < 1.0 ? report->fraction : 1.0;
    }
    note_deadline(build, now);
    const bool look = now - build->memory_looked >= MEMORY_EVERY;
    build->memory_looked = look ? now : build->memory_looked;
    bool go_on = build->stop == KILN_OK;
    (void)pthread_mutex_unlock(&build->lock);
    if (look && go_on) {
        note_memory(build);
        (void)pthread_mutex_lock(&build->lock);
        go_on = build->stop == KILN_OK;
        (void)pthread_mutex_unlock(&build->lock);
    }
    return go_on;
}

/* --- the thread --- */

static kiln_status fail_stop(const kiln_build *build)
{
    const char *source = build->path != NULL ? build->path : "a model in memory";
    switch (build->stop) {
        case KILN_ERROR_TIMEOUT:
            return kln_fail(KILN_ERROR_TIMEOUT,
                            "%s: the build was stopped after %llu ms, %llu are allowed", source,
                            (unsigned long long)((build->end - build->begin) / 1000000),
                            (unsigned long long)build->limits.milliseconds);
        case KILN_ERROR_LIMIT:
            return kln_fail(
                KILN_ERROR_LIMIT,
                "%s: the build was stopped when memory had grown by %llu bytes, %llu are allowed",
                source, (unsigned long long)build->progress.memory_bytes,
                (unsigned long long)build->limits.memory_bytes);
        default: return kln_fail(KILN_ERROR_CANCELLED, "%s: the build was cancelled", source);
    }
}

static void *work(void *user)
{
    kiln_build *build = user;
    const kiln_monitor monitor = {build, on_progress};
    const kiln_model model = {.path = build->path,
                              .file = build->path != NULL ? &build->mapping : NULL,
                              .bytes = build->bytes};
    kiln_engine *engine = NULL;
    kiln_status status = build->loads
                             ? kln_engine_load_path(build->path, &build->options, &monitor, &engine)
                             : kln_engine_make(&model, &build->options, false, &monitor, &engine);
    note_memory(build);
    KLN_LOCKED(&build->lock);
    build->end = kln_now();
    note_deadline(build, build->end);
    /* An engine that was finished too late, or over the memory limit, is discarded. */
    if (build->stop != KILN_OK && (status == KILN_OK || status == KILN_ERROR_CANCELLED)) {
        kiln_engine_release(engine);
        engine = NULL;
        status = fail_stop(build);
    }
    build->status = status;
    build->engine = engine;
    if (status != KILN_OK) {
        (void)snprintf(build->sentence, sizeof build->sentence, "%s", kiln_error_message());
    } else {
        build->progress.fraction = 1.0;
    }
    build->ended = true;
    (void)pthread_cond_broadcast(&build->changed);
    return NULL;
}

/* --- start --- */

static void release(kiln_build *build)
{
    kln_mapping_close(&build->mapping);
    kln_arena_finish(&build->arena);
    kln_free(build);
}

static kiln_status set_up(kiln_build *build, const char *path, kiln_span bytes,
                          const kiln_build_options *options, const kiln_build_limits *limits)
{
    build->limits = KILN_BUILD_LIMITS_INIT;
    KLN_RETURN_IF_ERROR(
        kln_options_read("kiln_build_limits", limits, &build->limits, sizeof build->limits));
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &build->options));
    KLN_RETURN_IF_ERROR(kln_build_options_copy(&build->arena, &build->options));
    build->issues_place = build->options.issues;
    build->options.issues = build->issues_place != NULL ? &build->issues : NULL;
    build->bytes = bytes;
    if (path != NULL) {
        char absolute[PATH_MAX]; /* the process may change its working directory before the thread
                                  * runs */
        KLN_RETURN_IF_ERROR(kln_path_absolute(path, absolute));
        build->path = kln_arena_strdup(&build->arena, absolute);
        KLN_RETURN_IF_NO_MEMORY(build->path, strlen(absolute), "a path");
        KLN_RETURN_IF_ERROR(kln_mapping_open_as(path, build->options.copy_file, &build->mapping));
        build->bytes = build->mapping.bytes;
    }
    if (build->loads) { /* the thread opens the plan and its manifest together, because they have to
                         * match */
        kln_mapping_close(&build->mapping);
    }
    return KILN_OK;
}

static kiln_status start_thread(kiln_build *build)
{
    (void)pthread_mutex_init(&build->lock, NULL);
    kln_condition_init(&build->changed);
    build->begin = kln_now();
    build->resident_at_begin = resident();
    build->forks = kln_forks_begin();
    const int error = kln_thread_start(&build->thread, work, build);
    if (error != 0) {
        (void)pthread_cond_destroy(&build->changed);
        (void)pthread_mutex_destroy(&build->lock);
        return kln_fail(KILN_ERROR_OUT_OF_MEMORY, "a thread for a build cannot be made: %s",
                        strerror(error));
    }
    return KILN_OK;
}

KLN_SCOPED_POINTER(kiln_build, release)

static kiln_status start(const char *path, bool loads, kiln_span bytes,
                         const kiln_build_options *options, const kiln_build_limits *limits,
                         kiln_build **out)
{
    KLN_SCOPED(release_at) kiln_build *build = kln_alloc_zeroed(1, sizeof *build);
    KLN_RETURN_IF_NO_MEMORY(build, sizeof *build, "a build");
    build->loads = loads;
    KLN_RETURN_IF_ERROR(set_up(build, path, bytes, options, limits));
    KLN_RETURN_IF_ERROR(start_thread(build));
    *out = KLN_TAKE(build);
    return KILN_OK;
}

kiln_status kiln_build_start_file(const char *path, const kiln_build_options *options,
                                  const kiln_build_limits *limits, kiln_build **build)
{
    KLN_RETURN_IF_NULL_RESULT(build, path);
    return start(path, false, (kiln_span){NULL, 0}, options, limits, build);
}

kiln_status kiln_build_start_load(const char *path, const kiln_build_options *options,
                                  const kiln_build_limits *limits, kiln_build **build)
{
    KLN_RETURN_IF_NULL_RESULT(build, path);
    return start(path, true, (kiln_span){NULL, 0}, options, limits, build);
}

kiln_status kiln_build_start_bytes(kiln_span model, const kiln_build_options *options,
                                   const kiln_build_limits *limits, kiln_build **build)
{
    KLN_RETURN_IF_NULL_RESULT(build);
    KLN_RETURN_IF(model.size == 0, KILN_ERROR_EMPTY,
                  "kiln_build_start_bytes: the model has 0 bytes");
    KLN_FAIL_IF(model.data == NULL, kln_fail_null(__func__, "model.data"));
    return start(NULL, false, model, options, limits, build);
}

/* --- calls on a running build --- */

kiln_status kiln_build_get_progress(kiln_build *build, kiln_build_progress *progress)
{
    KLN_RETURN_IF_NULL(build, progress);
    KLN_RETURN_IF_ERROR(kln_forks_check(build->forks, __func__, "build"));
    (void)pthread_mutex_lock(&build->lock);
    kiln_build_progress now = build->progress;
    now.nanoseconds = (build->ended ? build->end : kln_now()) - build->begin;
    now.state = !build->ended ? build->stop == KILN_OK ? KILN_BUILD_RUNNING : KILN_BUILD_STOPPING
                : build->status == KILN_OK ? KILN_BUILD_DONE
                                           : KILN_BUILD_FAILED;
    (void)pthread_mutex_unlock(&build->lock);
    now.struct_size = sizeof now;
    return kln_info_write(__func__, progress, &now, sizeof now);
}

void kiln_build_cancel(kiln_build *build)
{
    if (build != NULL && build->forks == kln_forks()) {
        (void)pthread_mutex_lock(&build->lock);
        if (build->stop == KILN_OK && !build->ended) {
            build->stop = KILN_ERROR_CANCELLED;
        }
        (void)pthread_mutex_unlock(&build->lock);
    }
}

/* Called with the lock held. */
static void wait_until(kiln_build *build, uint64_t milliseconds)
{
    const struct timespec until = kln_timespec(kln_deadline((int64_t)milliseconds));
    int error = 0;
    while (!build->ended && error != ETIMEDOUT) {
        error = pthread_cond_timedwait(&build->changed, &build->lock, &until);
    }
}

kiln_status kiln_build_wait(kiln_build *build, uint64_t milliseconds, kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine, build);
    KLN_RETURN_IF_ERROR(kln_forks_check(build->forks, __func__, "build"));
    KLN_LOCKED(&build->lock);
    wait_until(build, milliseconds);
    kiln_status status = build->status;
    if (!build->ended) {
        status = kln_fail(KILN_ERROR_BUSY, "the build has not ended yet; wait for it or cancel it");
    } else if (status != KILN_OK) {
        if (build->issues_place != NULL && build->issues != NULL) {
            *build->issues_place = build->issues;
            build->issues = NULL;
        }
        status = kln_fail(status, "%s", build->sentence);
    } else if (build->taken) {
        status = kln_fail(KILN_ERROR_STATE,
                          "the engine of this build was taken already; it is given once");
    } else {
        *engine = build->engine;
        build->engine = NULL;
        build->taken = true;
    }
    return status;
}

const char *kiln_build_error_message(kiln_build *build)
{
    if (build == NULL || build->forks != kln_forks()) {
        return "";
    }
    KLN_LOCKED(&build->lock);
    const char *sentence = build->ended ? build->sentence : ""; /* it no longer changes then */
    return sentence;
}

size_t kiln_build_release_builders(void)
{
    size_t count = 0;
    const kiln_backend *backend = NULL;
    for (size_t i = 0; (backend = kln_backend_at(i)) != NULL; i++) {
        count += backend->release_builders != NULL ? backend->release_builders() : 0;
    }
    return count;
}

void kiln_build_destroy(kiln_build *build)
{
    if (build == NULL || build->forks != kln_forks()) {
        return;
    }
    kiln_build_cancel(build);
    (void)pthread_join(build->thread, NULL);
    kiln_engine_release(build->engine);
    kiln_issue_list_destroy(build->issues);
    (void)pthread_cond_destroy(&build->changed);
    (void)pthread_mutex_destroy(&build->lock);
    release(build);
}
