/* SPDX-License-Identifier: Apache-2.0 */
/* Helper threads for work that would keep a GPU waiting if one thread did it: joining a large
 * batch, and waking the many threads that wait for one. */
#include <sched.h>
#include <unistd.h>

#include "scheduler_parts.h"

/* The work of one caller, on its stack. */
typedef struct crew_task {
    struct crew_task *next;
    void (*part)(void *user, size_t index);
    void *user;
    size_t count;
    atomic_size_t taken;
    atomic_size_t helpers; /* working on it */
} crew_task;

static void work_on(crew_task *task)
{
    size_t index = 0;
    while ((index = atomic_fetch_add(&task->taken, 1)) < task->count) {
        task->part(task->user, index);
    }
}

/* Called with the lock held. */
static void unlink_task(helper_crew *crew, const crew_task *task)
{
    crew_task **at = &crew->tasks;
    while (*at != NULL && *at != task) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = task->next;
    }
}

static void *help(void *user)
{
    helper_crew *crew = user;
    (void)pthread_mutex_lock(&crew->lock);
    while (!crew->ends) {
        crew_task *task = crew->tasks;
        if (task == NULL) {
            (void)pthread_cond_wait(&crew->work, &crew->lock);
            continue;
        }
        (void)atomic_fetch_add(&task->helpers, 1);
        (void)pthread_mutex_unlock(&crew->lock);
        work_on(task);
        (void)pthread_mutex_lock(&crew->lock);
        unlink_task(crew, task);
        (void)atomic_fetch_sub(&task->helpers, 1);
    }
    (void)pthread_mutex_unlock(&crew->lock);
    return NULL;
}

void crew_init(helper_crew *crew)
{
    (void)pthread_mutex_init(&crew->lock, NULL);
    (void)pthread_cond_init(&crew->work, NULL);
}

/* Starts as many helpers as the system allows. Called with the lock held. */
static void start(helper_crew *crew)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const long share = processors / 4 > 1 ? processors / 4 : 1;
    const size_t most = share < CREW_HELPERS ? (size_t)share : CREW_HELPERS;
    crew->started = true;
    while (crew->count < most && kln_thread_start(&crew->threads[crew->count], help, crew) == 0) {
        crew->count++;
    }
}

static void link_task(helper_crew *crew, crew_task *task)
{
    task->next = crew->tasks;
    crew->tasks = task;
}

void crew_run(helper_crew *crew, void (*part)(void *user, size_t index), void *user, size_t count)
{
    crew_task task = {.part = part, .user = user, .count = count};
    (void)pthread_mutex_lock(&crew->lock);
    if (!crew->started) {
        start(crew);
    }
    link_task(crew, &task);
    (void)pthread_cond_broadcast(&crew->work);
    (void)pthread_mutex_unlock(&crew->lock);
    work_on(&task);
    (void)pthread_mutex_lock(&crew->lock);
    unlink_task(crew, &task);
    (void)pthread_mutex_unlock(&crew->lock);
    /* Each helper is on its last part. */
    while (atomic_load(&task.helpers) != 0) {
        (void)sched_yield();
    }
}

void crew_finish(helper_crew *crew)
{
    (void)pthread_mutex_lock(&crew->lock);
    crew->ends = true;
    (void)pthread_cond_broadcast(&crew->work);
    (void)pthread_mutex_unlock(&crew->lock);
    for (size_t i = 0; i < crew->count; i++) {
        (void)pthread_join(crew->threads[i], NULL);
    }
    (void)pthread_cond_destroy(&crew->work);
    (void)pthread_mutex_destroy(&crew->lock);
}
