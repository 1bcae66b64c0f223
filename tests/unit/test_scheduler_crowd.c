/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads before a GPU: who sleeps is woken, and memory stays flat. */
#include "scheduler_rows_test.h"

static kiln_scheduler *watched;

static kiln_status run_once_all_sleep(void *user, kiln_mock_run *run, char message[1024])
{
    const seat *at = watched->pool->seats[0];
    for (size_t i = 0; i < at->request_count;) {
        if (atomic_load(&at->requests[i]->sleepers) != 0) {
            i++;
        } else {
            (void)sched_yield();
        }
    }
    return compute_rows(user, run, message);
}

static void *run_and_wait(void *user)
{
    rows one;
    make_rows(&one, KILN_LOCATION_PINNED, 1, 7);
    assert_ok(kiln_scheduler_run(user, &one.x, 1, &one.y, 1, NULL));
    check_rows(&one);
    free_rows(&one);
    return NULL;
}

FAKE_TEST(many_who_sleep_are_woken_by_several_threads)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    const kiln_context_options plain = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
    handler_of_rows = run_once_all_sleep;
    owned_scheduler scheduler =
        open_rows(&how,
                  (kiln_scheduler_options){.schedule = KILN_SCHEDULE_THROUGHPUT,
                                           .delay_nanoseconds = UINT64_C(60000000000),
                                           .context = &plain},
                  &engine);
    handler_of_rows = compute_rows;
    watched = scheduler;
    kiln_test_in_threads(MOST_ROWS, run_and_wait, scheduler, 0);
    assert_true(scheduler->crew.started);
    assert_ok(kiln_scheduler_drain(scheduler, -1)); /* when all were told */
}

typedef struct wanderer {
    kiln_scheduler *scheduler;
    unsigned seed;
    unsigned long count;
} wanderer;

static void run_one(kiln_scheduler *scheduler, rows *all, unsigned chance)
{
    rows *one = &all[chance % 2];
    const bool given = chance & 2;
    owned_request request = NULL;
    kiln_tensor seen = one->y.tensor;
    memset(one->y.tensor.data, 0, one->y.tensor.bytes);
    assert_ok(kiln_scheduler_submit(scheduler, &one->x, 1, given ? &one->y : NULL, given, NULL,
                                    &request));
    if ((chance & 28) == 0) {
        const kiln_status cancelled = kiln_request_cancel(request);
        assert_true(cancelled == KILN_OK || cancelled == KILN_ERROR_STATE);
    }
    const kiln_status status = kiln_request_wait(request, -1);
    assert_true(status == KILN_OK || status == KILN_ERROR_CANCELLED);
    if (status == KILN_OK) {
        assert_ok(kiln_request_output(request, "y", &seen));
        if (!given) {
            memcpy(one->y.tensor.data, seen.data, seen.bytes);
        }
        check_rows(one);
    }
}

static void *wander(void *user)
{
    wanderer *self = user;
    rows all[2];
    make_rows(&all[0], KILN_LOCATION_HOST, 1 + self->seed % 3, (float)self->seed);
    make_rows(&all[1], KILN_LOCATION_PINNED, 1 + self->seed % 3, (float)self->seed + 1);
    for (unsigned long i = 0; i < self->count; i++) {
        self->seed = self->seed * 1664525U + 1013904223U;
        run_one(self->scheduler, all, self->seed >> 16);
    }
    free_rows(&all[0]);
    free_rows(&all[1]);
    return NULL;
}

static void wander_together(kiln_scheduler *scheduler, unsigned long count)
{
    enum { THREADS = 6 };
    wanderer all[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        all[i] = (wanderer){scheduler, i, count / THREADS};
    }
    kiln_test_in_threads(THREADS, wander, all, sizeof *all);
}

/* KILN_SOAK_REQUESTS of the environment: how many, 240 without. */
FAKE_TEST(memory_stays_flat_whatever_comes)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    const char *asked = getenv("KILN_SOAK_REQUESTS");
    const unsigned long count = asked != NULL ? strtoul(asked, NULL, 10) : 240;
    kiln_scheduler_options options = GATHERS;
    options.delay_nanoseconds = 300000;
    owned_scheduler scheduler = open_rows(&how, options, &engine);
    wander_together(scheduler, count / 2);
    const unsigned long bytes = fake_number("fake_cuda_bytes", "");
    wander_together(scheduler, count / 2);
    const unsigned long block = (unsigned long)MOST_ROWS * COLUMNS * sizeof(float);
    assert_true(fake_number("fake_cuda_bytes", "") <= bytes + 6 * block);
    const kiln_scheduler_counters counters = scheduler_counters(scheduler);
    assert_int_equal(counters.submitted, count / 2 / 6 * 12);
    assert_int_equal(counters.done + counters.cancelled, counters.submitted);
}
