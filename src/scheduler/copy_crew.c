/* SPDX-License-Identifier: Apache-2.0 */
/* Large batches are joined by several threads: one cannot fill the memory of a GPU's next batch
 * while that computes the one before. */
#include <sched.h>

#include "scheduler_parts.h"

/* What one caller has to do, on its stack. */
typedef struct crew_task {
    struct crew_task *next;
    void (*part)(void *user, size_t index);
    void *user;
    size_t count;
    atomic_size_t taken;
    atomic_size_t helpers; /* that are at it */
} crew_task;

static void work_on(crew_task *task)
{
    size_t index = 0;
    while ((index = atomic_fetch_add(&task->taken, 1)) < task->count) {
        task->part(task->user, index);
    }
}

/* With the lock. */
static void unlink_task(copy_crew *crew, const crew_task *task)
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
    copy_crew *crew = user;
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

void copy_crew_init(copy_crew *crew)
{
    (void)pthread_mutex_init(&crew->lock, NULL);
    (void)pthread_cond_init(&crew->work, NULL);
}

/* As many as there are to be had. With the lock. */
static void start(copy_crew *crew)
{
    crew->started = true;
    while (crew->count < CREW_HELPERS &&
           kln_thread_start(&crew->threads[crew->count], help, crew) == 0) {
        crew->count++;
    }
}

void copy_crew_run(copy_crew *crew, void (*part)(void *user, size_t index), void *user,
                   size_t count)
{
    crew_task task = {.part = part, .user = user, .count = count};
    (void)pthread_mutex_lock(&crew->lock);
    if (!crew->started) {
        start(crew);
    }
    task.next = crew->tasks;
    crew->tasks = &task;
    (void)pthread_cond_broadcast(&crew->work);
    (void)pthread_mutex_unlock(&crew->lock);
    work_on(&task);
    (void)pthread_mutex_lock(&crew->lock);
    unlink_task(crew, &task);
    (void)pthread_mutex_unlock(&crew->lock);
    /* Each is at its last part. */
    while (atomic_load(&task.helpers) != 0) {
        (void)sched_yield();
    }
}

void copy_crew_finish(copy_crew *crew)
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
