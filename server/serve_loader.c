/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that loads and unloads models, at a request or when a repository changes, and that
 * destroys them. */
#include <stdlib.h>
#include <time.h>

#include "serve_parts.h"

static void add_job(serve *server, serve_job *job)
{
    serve_job **end = &server->jobs;
    (void)pthread_mutex_lock(&server->work_lock);
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = job;
    (void)pthread_cond_signal(&server->work);
    (void)pthread_mutex_unlock(&server->work_lock);
}

/* Called with work_lock held. */
static void wait_for_work(serve *server)
{
    const struct timespec until = {(time_t)(server->poll_at / 1000000000),
                                   (long)(server->poll_at % 1000000000)};
    if (server->options->poll_seconds <= 0) {
        (void)pthread_cond_wait(&server->work, &server->work_lock);
    } else {
        (void)pthread_cond_clockwait(&server->work, &server->work_lock, CLOCK_MONOTONIC, &until);
    }
}

/* Polls the repositories when it is time, but only after the initial load. */
static void poll(serve *server)
{
    const double seconds = server->options->poll_seconds;
    const uint64_t now = kiln_clock_now();
    if (seconds > 0 && now >= server->poll_at) {
        if (atomic_load(&server->models.loaded) && !atomic_load(&server->stopping)) {
            serve_models_poll(server);
        }
        server->poll_at = kiln_clock_now() + (uint64_t)(seconds * 1e9);
    }
}

static serve_job *next_job(serve *server, bool *ends)
{
    (void)pthread_mutex_lock(&server->work_lock);
    (void)pthread_mutex_lock(&server->models.dying_lock);
    const bool dying = server->models.dying != NULL;
    (void)pthread_mutex_unlock(&server->models.dying_lock);
    if (server->jobs == NULL && !server->ends && !dying) {
        wait_for_work(server);
    }
    serve_job *job = server->jobs;
    server->jobs = job != NULL ? job->next : NULL;
    *ends = job == NULL && server->ends;
    (void)pthread_mutex_unlock(&server->work_lock);
    return job;
}

void *serve_loader(void *user)
{
    serve *server = user;
    bool ends = false;
    while (!ends) {
        serve_job *job = next_job(server, &ends);
        serve_models_bury(&server->models);
        poll(server);
        if (job == NULL) {
            continue;
        }
        serve_problem problem = {.code = 0};
        const bool worked = job->unloads ? serve_model_unload(server, job->name, &problem)
                                         : serve_model_load(server, job->name, &problem);
        job->at->problem = problem;
        if (worked) {
            job->at->problem.code = 0;
        }
        serve_wake(job->at);
        free(job);
    }
    return NULL;
}

serve_result serve_control(serve_connection *at, bool unloads)
{
    serve_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        (void)serve_no_memory(&at->problem);
        return SERVE_REFUSED;
    }
    job->at = at;
    job->unloads = unloads;
    (void)snprintf(job->name, sizeof job->name, "%s", at->segments[3]);
    atomic_store(&at->progress, SERVE_PENDING);
    add_job(at->server, job);
    (void)serve_sleep(at);
    return SERVE_WAITS;
}
