/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that can happen to requests at once, in an order that a seed chooses: each is answered
 * exactly once and with its own result, the counters add up at every look, and memory stays flat.
 *
 *     KILN_SOAK_REQUESTS (20,000) and KILN_SOAK_SEED (1) of the environment
 */
#include <poll.h>

#include "scheduler_test.h"

#define CALLERS 4
#define OUTSTANDING 16 /* of each caller */
#define ROUNDS 4       /* after each, all threads have ended */
#define ENDS 4         /* done, failed, cancelled, expired */
#define UNCOLLECTED 64 /* at most, so that memory has a limit */
#define FLAT_BYTES (256 << 10)
#define FLAT_PAGES 512

typedef struct soak {
    kiln_scheduler *scheduler;
    play plays[2];
    atomic_bool ends;
    atomic_int wrong;
    atomic_ullong submitted, refused, collects, collected, ended[ENDS];
} soak;

static void note(soak *self, bool holds, const char *what)
{
    if (!holds && atomic_fetch_add(&self->wrong, 1) == 0) {
        print_error("soak: %s; %s\n", what, kiln_error_message());
    }
}
#define HOLDS(self, condition) note((self), (condition), #condition)

/* --- callers --- */

typedef struct slot {
    soak *self;
    kiln_request *request; /* NULL: there is none */
    bool is_called;
    atomic_int calls;
    rows_of data;
} slot;

typedef struct caller {
    soak *self;
    unsigned seed;
    unsigned long requests;
    slot slots[OUTSTANDING];
} caller;

static void count_call(void *user, kiln_request *request)
{
    slot *one = user;
    HOLDS(one->self, kiln_request_get_state(request) >= KILN_REQUEST_DONE);
    (void)atomic_fetch_add(&one->calls, 1);
}

/* All of one batch, and so of one engine. */
static void check_result(const slot *one)
{
    kiln_tensor y = {.data = NULL};
    soak *self = one->self;
    const kiln_tensor *x = &one->data.input.tensor;
    HOLDS(self, kiln_request_output(one->request, "y", &y) == KILN_OK);
    HOLDS(self, y.bytes == x->bytes && kiln_shape_equal(&y.desc.shape, &x->desc.shape));
    const float *found = y.data;
    const float factor = found[0] / one->data.x[0];
    HOLDS(self, factor == 2 || factor == 3);
    for (size_t i = 0; i < y.bytes / sizeof(float); i++) {
        HOLDS(self, found[i] == factor * one->data.x[i]);
    }
}

static void count_end(soak *self, kiln_request_state state)
{
    HOLDS(self, state >= KILN_REQUEST_DONE && state <= KILN_REQUEST_EXPIRED);
    (void)atomic_fetch_add(&self->ended[(state - KILN_REQUEST_DONE) % ENDS], 1);
}

static void end_slot(slot *one)
{
    static const kiln_status statuses[ENDS] = {KILN_OK, KILN_ERROR_BACKEND, KILN_ERROR_CANCELLED,
                                               KILN_ERROR_TIMEOUT};
    if (one->request == NULL) {
        return;
    }
    const kiln_status status = kiln_request_wait(one->request, -1);
    const kiln_request_state state = kiln_request_get_state(one->request);
    count_end(one->self, state);
    HOLDS(one->self, status == statuses[(state - KILN_REQUEST_DONE) % ENDS]);
    if (state == KILN_REQUEST_DONE) {
        check_result(one);
    }
    while (one->is_called && atomic_load(&one->calls) == 0) {
        (void)sched_yield();
    }
    HOLDS(one->self, atomic_load(&one->calls) == one->is_called);
    kiln_request_release(one->request);
    one->request = NULL;
}

static kiln_request_options random_options(caller *from, slot *one)
{
    static const uint64_t spans[] = {0, 20000, 200000, HOUR};
    kiln_request_options options =
        KILN_REQUEST_OPTIONS(.schedule = (kiln_schedule)(rand_r(&from->seed) % 3),
                             .priority = rand_r(&from->seed) % (KILN_MAX_PRIORITY + 1));
    if (rand_r(&from->seed) % 4 == 0) {
        options.deadline_nanoseconds = kiln_clock_now() + spans[rand_r(&from->seed) % 4];
    }
    one->is_called = rand_r(&from->seed) % 2 == 0;
    atomic_store(&one->calls, 0);
    options.answered = one->is_called ? count_call : NULL;
    options.user = one;
    return options;
}

static void refuse_one(caller *from, rows_of *data)
{
    kiln_request *request = NULL;
    kiln_named_tensor bad = data->input;
    const int kind = rand_r(&from->seed) % 3;
    bad.name = kind == 0 ? "z" : "x";
    bad.tensor.desc.dtype = kind == 1 ? KILN_DTYPE_INT32 : KILN_DTYPE_FLOAT32;
    bad.tensor.bytes -= kind == 2;
    HOLDS(from->self, kiln_scheduler_submit(from->self->scheduler, &bad, 1, NULL, 0, NULL,
                                            &request) != KILN_OK);
    (void)atomic_fetch_add(&from->self->refused, 1);
}

static void run_one(caller *from, slot *one, kiln_request_options options)
{
    soak *self = from->self;
    kiln_request_state state = KILN_REQUEST_DONE;
    options.answered = NULL;
    const kiln_status status =
        kiln_scheduler_run(self->scheduler, &one->data.input, 1, &one->data.output, 1, &options);
    if (status == KILN_OK) {
        const float factor = one->data.y[0] / one->data.x[0];
        HOLDS(self, factor == 2 || factor == 3);
    } else {
        state = status == KILN_ERROR_TIMEOUT ? KILN_REQUEST_EXPIRED : KILN_REQUEST_FAILED;
        HOLDS(self, status == KILN_ERROR_TIMEOUT || status == KILN_ERROR_BACKEND);
    }
    (void)atomic_fetch_add(&self->submitted, 1);
    count_end(self, state);
}

static void submit_one(caller *from, slot *one, kiln_request_options options)
{
    soak *self = from->self;
    options.collect =
        rand_r(&from->seed) % 4 == 0 && self->collects < self->collected + UNCOLLECTED;
    const kiln_status status =
        kiln_scheduler_submit(self->scheduler, &one->data.input, 1, &one->data.output,
                              (size_t)(rand_r(&from->seed) % 2), &options, &one->request);
    HOLDS(self, status == KILN_OK || status == KILN_ERROR_QUEUE_FULL);
    if (status != KILN_OK) {
        (void)atomic_fetch_add(&self->refused, 1);
        return;
    }
    (void)atomic_fetch_add(&self->submitted, 1);
    (void)atomic_fetch_add(&self->collects, options.collect);
    if (rand_r(&from->seed) % 8 == 0) {
        const kiln_status cancelled = kiln_request_cancel(one->request);
        HOLDS(self, cancelled == KILN_OK || cancelled == KILN_ERROR_STATE);
    }
}

static void *call(void *user)
{
    caller *from = user;
    for (unsigned long i = 0; i < from->requests; i++) {
        slot *one = &from->slots[rand_r(&from->seed) % OUTSTANDING];
        end_slot(one);
        one->self = from->self;
        fill_rows(&one->data, rand_r(&from->seed) % 5 + 1, rand_r(&from->seed) % 2 + 3,
                  (float)(rand_r(&from->seed) % 1000 + 1));
        const kiln_request_options options = random_options(from, one);
        const int kind = rand_r(&from->seed) % 20;
        if (kind == 0) {
            refuse_one(from, &one->data);
        } else if (kind < 5) {
            run_one(from, one, options);
        } else {
            submit_one(from, one, options);
        }
    }
    for (size_t i = 0; i < OUTSTANDING; i++) {
        end_slot(&from->slots[i]);
    }
    return NULL;
}

/* --- beside them --- */

static void *collect(void *user)
{
    soak *self = user;
    int event = -1;
    HOLDS(self, kiln_scheduler_event(self->scheduler, &event) == KILN_OK);
    while (!atomic_load(&self->ends) || self->collected < self->collects) {
        struct pollfd wait = {.fd = event, .events = POLLIN};
        uint64_t number = 0;
        kiln_request *request = NULL;
        if (poll(&wait, 1, 20) > 0) {
            HOLDS(self, read(event, &number, sizeof number) == sizeof number);
        } else if (!atomic_load(&self->ends)) {
            continue; /* what is not told now is told later */
        }
        while (kiln_scheduler_next(self->scheduler, &request) == KILN_OK && request != NULL) {
            HOLDS(self, kiln_request_get_state(request) >= KILN_REQUEST_DONE);
            kiln_request_release(request);
            (void)atomic_fetch_add(&self->collected, 1);
        }
    }
    return NULL;
}

static void *look(void *user)
{
    soak *self = user;
    while (!atomic_load(&self->ends)) {
        kiln_scheduler_counters now = {.struct_size = sizeof now};
        HOLDS(self, kiln_scheduler_get_counters(self->scheduler, &now) == KILN_OK);
        HOLDS(self, now.submitted == now.done + now.failed + now.cancelled + now.expired +
                                         now.waiting + now.running);
        (void)usleep(500);
    }
    return NULL;
}

static void *replace(void *user)
{
    soak *self = user;
    for (int i = 0; !atomic_load(&self->ends); i++) {
        kiln_engine *engines[2] = {engine_of(&self->plays[i % 2], KILN_DYNAMIC, KILN_DYNAMIC),
                                   engine_of(&self->plays[i % 2], KILN_DYNAMIC, KILN_DYNAMIC)};
        HOLDS(self, kiln_scheduler_replace(self->scheduler, engines, (size_t)(i % 3 == 0) + 1) ==
                        KILN_OK);
        kiln_engine_release(engines[0]);
        kiln_engine_release(engines[1]);
        rows_of data;
        fill_rows(&data, 2, COLUMNS, 1);
        const kiln_status status = kiln_scheduler_warmup(self->scheduler, &data.input, 1, 1);
        HOLDS(self, status == KILN_OK || status == KILN_ERROR_BACKEND);
        (void)usleep(2000);
    }
    return NULL;
}

/* --- a round --- */

static void round_of(soak *self, unsigned long requests, unsigned seed)
{
    static caller callers[CALLERS];
    static void *(*const others[])(void *) = {collect, look, replace};
    pthread_t threads[CALLERS];
    pthread_t beside[3];
    atomic_store(&self->ends, false);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&beside[i], NULL, others[i], self), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.self = self, .seed = seed * CALLERS + i, .requests = requests};
        assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    atomic_store(&self->ends, true);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(beside[i], NULL), 0);
    }
}

static long pages_resident(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    assert_int_equal(fclose(file), 0);
    return pages;
}

static void check_counters(soak *self)
{
    const kiln_scheduler_counters now = counted(self->scheduler);
    const uint64_t found[] = {now.submitted,
                              now.refused,
                              now.done,
                              now.failed,
                              now.cancelled,
                              now.expired,
                              now.waiting + now.running};
    const uint64_t wanted[] = {self->submitted,
                               self->refused,
                               self->ended[0],
                               self->ended[1],
                               self->ended[2],
                               self->ended[3],
                               0};
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        assert_int_equal(found[i], wanted[i]);
    }
    assert_int_equal(self->collected, self->collects);
    assert_int_equal(self->wrong, 0);
}

TEST(whatever_happens_each_request_is_answered_once)
{
    const char *count = getenv("KILN_SOAK_REQUESTS");
    const char *first = getenv("KILN_SOAK_SEED");
    const unsigned long requests = count != NULL ? strtoul(count, NULL, 10) : 20000;
    const unsigned seed = first != NULL ? (unsigned)strtoul(first, NULL, 10) : 1;
    static soak self = {.plays = {PLAY_INIT, PLAY_INIT}};
    kiln_allocation_counters settled;
    kiln_allocation_counters after;
    long pages = 0;
    self.plays[1].factor = 3;
    self.plays[0].fail_every = 97;
    self.plays[1].fail_every = 131;
    owned_engine engine = engine_of(&self.plays[0], KILN_DYNAMIC, KILN_DYNAMIC);
    kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.contexts = 2, .max_batch = 8, .delay_nanoseconds = 50000,
                               .queue_limit = CALLERS * OUTSTANDING - 8);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    self.scheduler = scheduler;
    for (unsigned i = 0; i < ROUNDS; i++) {
        round_of(&self, requests / ROUNDS / CALLERS, seed * ROUNDS + i);
        check_counters(&self);
        if (i == 0) {
            kiln_get_allocation_counters(&settled);
            pages = pages_resident();
        }
    }
    kiln_get_allocation_counters(&after);
    assert_true(after.bytes_in_use < settled.bytes_in_use + FLAT_BYTES);
    pages = pages_resident() - pages;
    print_message(
        "%lu requests, seed %u: %llu done, %llu failed, %llu cancelled, %llu expired, %llu "
        "refused, %llu collected; %zu bytes in use, %zu after the first round; %ld pages more\n",
        requests, seed, self.ended[0], self.ended[1], self.ended[2], self.ended[3], self.refused,
        self.collected, after.bytes_in_use, settled.bytes_in_use, pages);
    assert_true(count == NULL || pages < FLAT_PAGES); /* once there is something to be flat */
}
