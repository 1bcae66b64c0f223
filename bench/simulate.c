/* SPDX-License-Identifier: Apache-2.0 */
/* Many replicas behind a load balancer, played: the scheduler is the library's own, driven without
 * its threads under a clock that jumps from event to event; engines take the time that a formula
 * says; requests come as a shape of traffic has it. docs/deploy/simulation.md tells what is
 * assumed.
 *
 *     bench_simulate SHAPE REPLICAS POLICY BALANCER LOAD [SECONDS [NAME=VALUE]...]
 *
 * SHAPE: steady, diurnal, bursts, flash, heavy. POLICY: latency, throughput. BALANCER: robin, two.
 * LOAD: the mean, of what all replicas can do with full batches; SECONDS (1) that requests come
 * for. NAME: run, row, copy (microseconds of a batch, of each of its rows, of the copy of a row),
 * delay, deadline (microseconds), batch, contexts, seed, slow (the part of the replicas whose runs
 * take twice as long). Prints a line of JSON.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kiln/kiln.h>

#include "bench_times.h"
#include "scheduler/scheduler_parts.h"

#define MICROSECOND 1000.0

typedef struct settings {
    double run, row, copy, delay, deadline, batch, contexts, seed, slow;
} settings;

typedef enum event_kind { RUN_ENDS, BATCH_IS_DUE, DEADLINE } event_kind;

typedef struct event {
    uint64_t at;
    event_kind kind;
    uint32_t replica;
    seat *seat;
    batch_outcome outcome;
} event;

typedef struct replica {
    kiln_scheduler *scheduler;
    uint64_t gpu_free; /* kernels of its batches come one after the other */
    uint64_t due;      /* of an event that is under way, UINT64_MAX: none is */
    uint64_t busy;     /* nanoseconds of kernels */
    uint32_t outstanding;
} replica;

typedef struct simulation {
    settings set;
    uint64_t now;
    uint64_t last; /* a run ended */
    uint64_t end;  /* no request comes later */
    double rate;   /* requests a nanosecond, the mean */
    double peak;   /* of the shape, the mean is 1 */
    const char *shape;
    bool high;     /* bursts: in one */
    double turns;  /* bursts: when that changes */
    bool by_turns; /* balancer */
    uint32_t next;
    uint64_t random;
    event *events;
    size_t event_count, event_room;
    replica *replicas;
    uint32_t replica_count;
    kiln_histogram *latencies;
    uint64_t outcomes[KILN_REQUEST_EXPIRED + 1];
    uint64_t refused;
} simulation;

/* Whose it is: where an answer is counted. */
typedef struct call {
    struct call *next;
    simulation *in;
    uint64_t begun;
    uint32_t replica;
} call;

static call *spare_calls;

static void require(bool holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "bench_simulate: %s: %s\n", what, kiln_error_message());
        exit(1);
    }
}

static uint64_t now_of(void *user)
{
    return ((const simulation *)user)->now;
}

/* Above 0 and below 1. */
static double draw(simulation *self)
{
    return ((double)(bench_random(&self->random) >> 11) + 0.5) / 9007199254740992.0;
}

/* --- events: a heap --- */

static void put_event(simulation *self, event what)
{
    if (self->event_count == self->event_room) {
        self->event_room = self->event_room * 2 + 1024;
        self->events = realloc(self->events, self->event_room * sizeof *self->events);
        require(self->events != NULL, "memory");
    }
    size_t at = self->event_count++;
    while (at > 0 && self->events[(at - 1) / 2].at > what.at) {
        self->events[at] = self->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    self->events[at] = what;
}

static event take_event(simulation *self)
{
    const event first = self->events[0];
    const event last = self->events[--self->event_count];
    size_t at = 0;
    for (size_t child = 1; child < self->event_count; child = 2 * at + 1) {
        child +=
            child + 1 < self->event_count && self->events[child + 1].at < self->events[child].at;
        if (self->events[child].at >= last.at) {
            break;
        }
        self->events[at] = self->events[child];
        at = child;
    }
    self->events[at] = last;
    return first;
}

/* --- traffic --- */

/* How much of the mean comes at `t`, from 0 to 1 of the whole. */
static double level(simulation *self, double t)
{
    if (strcmp(self->shape, "diurnal") == 0) {
        return 1 + 0.6 * sin(2 * 3.14159265358979 * t);
    }
    if (strcmp(self->shape, "flash") == 0) {
        /* A crowd comes within a fiftieth of the time, stays a fifth of it, and goes slowly. */
        const double crowd = t < 0.40   ? 0
                             : t < 0.42 ? (t - 0.40) / 0.02
                             : t < 0.60 ? 1
                                        : exp(-(t - 0.60) / 0.05);
        return (1 + 1.8 * crowd) / (1 + 1.8 * 0.24);
    }
    if (strcmp(self->shape, "bursts") == 0) {
        while (t >= self->turns) {
            /* On average 1 of 5 of the time, at three times what comes between. */
            self->high = !self->high;
            self->turns -= log(draw(self)) * (self->high ? 0.004 : 0.016);
        }
        return self->high ? 3 / 1.4 : 1 / 1.4;
    }
    return 1;
}

/* When the next request comes. Poisson by thinning; heavy: gaps of Pareto, exponent 1.5. */
static uint64_t next_arrival(simulation *self, uint64_t from)
{
    double at = (double)from;
    if (strcmp(self->shape, "heavy") == 0) {
        return (uint64_t)(at + pow(draw(self), -1 / 1.5) / (3 * self->rate)) + 1;
    }
    do {
        at -= log(draw(self)) / (self->rate * self->peak);
    } while (draw(self) * self->peak > level(self, at / (double)self->end) &&
             at < (double)self->end);
    return (uint64_t)at + 1;
}

/* --- replicas --- */

static void note_answer(void *user, kiln_request *request)
{
    call *one = user;
    simulation *self = one->in;
    const kiln_request_state state = kiln_request_get_state(request);
    self->outcomes[state]++;
    self->replicas[one->replica].outstanding--;
    if (state == KILN_REQUEST_DONE) {
        kiln_histogram_record(self->latencies, self->now - one->begun);
    }
    one->next = spare_calls;
    spare_calls = one;
}

/* Copies pass beside the kernels of other contexts; kernels come one after the other. */
static void begin_batch(simulation *self, uint32_t index, seat *at)
{
    replica *here = &self->replicas[index];
    int64_t rows = 0;
    for (size_t i = 0; i < at->request_count; i++) {
        rows += at->requests[i]->rows;
    }
    const uint64_t copied = (uint64_t)(self->set.copy * (double)rows);
    const bool is_slow = index < self->set.slow * self->replica_count;
    const uint64_t kernels =
        (uint64_t)((is_slow ? 2 : 1) * (self->set.run + self->set.row * (double)at->filled));
    const uint64_t ready = self->now + copied;
    const uint64_t begin = ready > here->gpu_free ? ready : here->gpu_free;
    here->gpu_free = begin + kernels;
    here->busy += kernels;
    put_event(self, (event){.at = here->gpu_free,
                            .kind = RUN_ENDS,
                            .replica = index,
                            .seat = at,
                            .outcome = {.runs = 1,
                                        .padding = at->filled - rows,
                                        .copied = copied,
                                        .ran = here->gpu_free - ready}});
}

/* Begins every batch that is due; comes back when the next will be. */
static void go_on(simulation *self, uint32_t index)
{
    replica *here = &self->replicas[index];
    uint64_t due = UINT64_MAX;
    seat *at = NULL;
    (void)pthread_mutex_lock(&here->scheduler->lock);
    while ((at = scheduler_take(here->scheduler, &due)) != NULL) {
        begin_batch(self, index, at);
    }
    (void)pthread_mutex_unlock(&here->scheduler->lock);
    if (due < here->due) {
        here->due = due;
        put_event(self, (event){.at = due, .kind = BATCH_IS_DUE, .replica = index});
    }
}

static void expire(simulation *self, uint32_t index)
{
    kiln_scheduler *scheduler = self->replicas[index].scheduler;
    (void)pthread_mutex_lock(&scheduler->lock);
    (void)scheduler_expire(scheduler);
    (void)pthread_mutex_unlock(&scheduler->lock);
}

static void happen(simulation *self, event what)
{
    self->now = what.at;
    if (what.kind == RUN_ENDS) {
        self->last = what.at;
        scheduler_finish(self->replicas[what.replica].scheduler, what.seat, &what.outcome);
    } else if (what.kind == BATCH_IS_DUE) {
        self->replicas[what.replica].due = UINT64_MAX;
    } else {
        expire(self, what.replica);
    }
    go_on(self, what.replica);
}

/* The next in turn, or the one of two drawn that has less to do. */
static uint32_t balance(simulation *self)
{
    if (self->by_turns) {
        return self->next++ % self->replica_count;
    }
    const uint32_t a = (uint32_t)(draw(self) * self->replica_count);
    const uint32_t b = (uint32_t)(draw(self) * self->replica_count);
    return self->replicas[a].outstanding <= self->replicas[b].outstanding ? a : b;
}

static void arrive(simulation *self)
{
    static float number;
    call *one = spare_calls != NULL ? spare_calls : bench_allocate(sizeof *one);
    kiln_request *request = NULL;
    const kiln_named_tensor x = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 1), &number, sizeof number)};
    spare_calls = one == spare_calls ? one->next : spare_calls;
    *one = (call){.in = self, .begun = self->now, .replica = balance(self)};
    replica *here = &self->replicas[one->replica];
    const uint64_t deadline = self->set.deadline > 0 ? self->now + (uint64_t)self->set.deadline : 0;
    const kiln_request_options options = KILN_REQUEST_OPTIONS(.answered = note_answer, .user = one,
                                                              .deadline_nanoseconds = deadline);
    const uint32_t index = one->replica;
    if (kiln_scheduler_submit(here->scheduler, &x, 1, NULL, 0, &options, &request) != KILN_OK) {
        self->refused++;
        one->next = spare_calls;
        spare_calls = one;
        return;
    }
    here->outstanding++;
    go_on(self, index);
    if (deadline != 0 && kiln_request_get_state(request) == KILN_REQUEST_WAITING) {
        put_event(self, (event){.at = deadline, .kind = DEADLINE, .replica = index});
    }
    kiln_request_release(request);
}

/* --- the whole --- */

static kiln_status run_nothing(void *user, kiln_mock_run *run, char message[1024])
{
    (void)user;
    (void)run;
    (void)message;
    return KILN_OK;
}

static kiln_engine *make_engine(void)
{
    const kiln_binding x = {.struct_size = sizeof x,
                            .name = "x",
                            .dtype = KILN_DTYPE_FLOAT32,
                            .shape = KILN_SHAPE(KILN_DYNAMIC, 1),
                            .dim_names = {"n"}};
    kiln_binding y = x;
    kiln_engine *engine = NULL;
    y.name = "y";
    const kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = &x, .input_count = 1, .outputs = &y, .output_count = 1,
                          .handler = run_nothing);
    require(kiln_engine_create_mock(&options, &engine) == KILN_OK, "an engine");
    return engine;
}

static void open_replicas(simulation *self, const played_clock *clock, kiln_schedule schedule)
{
    int64_t sizes[16];
    size_t count = 0;
    for (int64_t size = 1; size < (int64_t)self->set.batch && count < 15; size *= 2) {
        sizes[count++] = size;
    }
    sizes[count++] = (int64_t)self->set.batch;
    kiln_engine *engine = make_engine();
    const kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.schedule = schedule, .contexts = (int32_t)self->set.contexts,
                               .batch_sizes = sizes, .batch_size_count = count,
                               .delay_nanoseconds = (uint64_t)self->set.delay);
    self->replicas = bench_allocate(self->replica_count * sizeof *self->replicas);
    for (uint32_t i = 0; i < self->replica_count; i++) {
        self->replicas[i].due = UINT64_MAX;
        require(scheduler_create_with(&engine, 1, &options, clock, &self->replicas[i].scheduler) ==
                    KILN_OK,
                "a scheduler");
    }
    kiln_engine_release(engine);
}

static void play(simulation *self)
{
    uint64_t arrival = next_arrival(self, 0);
    while (arrival < self->end || self->event_count != 0) {
        if (arrival < self->end && (self->event_count == 0 || arrival <= self->events[0].at)) {
            self->now = arrival;
            arrive(self);
            arrival = next_arrival(self, arrival);
        } else {
            happen(self, take_event(self));
        }
    }
}

static void report(const simulation *self, char **arguments)
{
    kiln_histogram_summary found = {.struct_size = sizeof found};
    uint64_t batches = 0;
    uint64_t rows = 0;
    uint64_t padding = 0;
    uint64_t busy = 0;
    for (uint32_t i = 0; i < self->replica_count; i++) {
        kiln_scheduler_counters counters = {.struct_size = sizeof counters};
        require(kiln_scheduler_get_counters(self->replicas[i].scheduler, &counters) == KILN_OK,
                "counters");
        require(counters.submitted == counters.done + counters.expired, "each answered once");
        batches += counters.batches;
        rows += counters.rows;
        padding += counters.padding;
        busy += self->replicas[i].busy;
        kiln_scheduler_destroy(self->replicas[i].scheduler);
    }
    require(kiln_histogram_summarize(self->latencies, &found) == KILN_OK, "latencies");
    const double span = (double)(self->last > self->end ? self->last : self->end);
    const double all = span * self->replica_count;
    const uint64_t done = self->outcomes[KILN_REQUEST_DONE];
    (void)printf(
        "{\"shape\": \"%s\", \"replicas\": %u, \"policy\": \"%s\", \"balancer\": \"%s\", "
        "\"load\": %s, \"seconds\": %.3f, \"done\": %llu, \"expired\": %llu, \"refused\": "
        "%llu, ",
        arguments[1], self->replica_count, arguments[3], arguments[4], arguments[5], span / 1e9,
        (unsigned long long)done, (unsigned long long)self->outcomes[KILN_REQUEST_EXPIRED],
        (unsigned long long)self->refused);
    (void)printf(
        "\"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, "
        "\"rows_of_a_batch\": %.2f, \"padding\": %.4f, \"busy\": %.4f, "
        "\"gpu_seconds_per_million\": %.1f}\n",
        found.median / 1e6, found.p90 / 1e6, found.p99 / 1e6, found.p999 / 1e6,
        (double)rows / (double)(batches != 0 ? batches : 1),
        (double)padding / (double)(rows + padding != 0 ? rows + padding : 1), (double)busy / all,
        all / 1e9 / ((double)done / 1e6));
}

static void read_setting(settings *set, const char *text)
{
    const struct {
        const char *name;
        double *value;
        double scale;
    } known[] = {{"run", &set->run, MICROSECOND},
                 {"row", &set->row, MICROSECOND},
                 {"copy", &set->copy, MICROSECOND},
                 {"delay", &set->delay, MICROSECOND},
                 {"batch", &set->batch, 1},
                 {"contexts", &set->contexts, 1},
                 {"deadline", &set->deadline, MICROSECOND},
                 {"seed", &set->seed, 1},
                 {"slow", &set->slow, 1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const size_t length = strlen(known[i].name);
        if (strncmp(text, known[i].name, length) == 0 && text[length] == '=') {
            *known[i].value = strtod(text + length + 1, NULL) * known[i].scale;
            return;
        }
    }
    (void)fprintf(stderr, "bench_simulate: no setting: %s\n", text);
    exit(2);
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        (void)fprintf(stderr,
                      "usage: %s steady|diurnal|bursts|flash|heavy REPLICAS "
                      "latency|throughput robin|two LOAD [SECONDS [NAME=VALUE]...]\n",
                      argv[0]);
        return 2;
    }
    simulation self = {.set = {2e6, 250e3, 20e3, 5e6, 250e6, 32, 2, 1, 0},
                       .shape = argv[1],
                       .replica_count = (uint32_t)strtoul(argv[2], NULL, 10),
                       .by_turns = strcmp(argv[4], "robin") == 0};
    for (int i = 7; i < argc; i++) {
        read_setting(&self.set, argv[i]);
    }
    const double capacity =
        self.set.batch / (self.set.run + self.set.row * self.set.batch) * self.replica_count;
    const played_clock clock = {now_of, &self};
    self.rate = capacity * strtod(argv[5], NULL);
    self.peak = strcmp(argv[1], "diurnal") == 0  ? 1.6
                : strcmp(argv[1], "bursts") == 0 ? 3 / 1.4
                : strcmp(argv[1], "flash") == 0  ? 2.8
                                                 : 1;
    self.end = (uint64_t)((argc > 6 ? strtod(argv[6], NULL) : 1.0) * 1e9);
    self.random = (uint64_t)self.set.seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    require(kiln_histogram_create(&self.latencies) == KILN_OK, "a histogram");
    open_replicas(
        &self, &clock,
        strcmp(argv[3], "latency") == 0 ? KILN_SCHEDULE_LATENCY : KILN_SCHEDULE_THROUGHPUT);
    play(&self);
    report(&self, argv);
    kiln_histogram_destroy(self.latencies);
    free(self.replicas);
    free(self.events);
    while (spare_calls != NULL) {
        call *one = spare_calls;
        spare_calls = one->next;
        free(one);
    }
    return 0;
}
