/* SPDX-License-Identifier: Apache-2.0 */
/* What a scheduler costs beside the bare engine, and what it gives: one request at a time against
 * kiln_context_run, and many at once against the best that runs of full batches reach.
 *
 *     bench_schedule [--pinned] [--callers] [--contexts=N,N...] [--no-latency] [--bare-device]
 *                    [--search]
 *                    BACKEND LIBRARY|- MODEL SECONDS BATCH[,BATCH]... AT_ONCE NAME=DIMS...
 *
 * MODEL is an ONNX file or a .plan; DIMS as Nx3x224x224, N for the batch. AT_ONCE requests of one
 * row are kept outstanding, each submitted anew by its answer, or with --callers by a thread of its
 * own that waits for it; with 0 the second part is left out. They lie in ordinary memory, or with
 * --pinned in pinned memory as the bare runs' do. Each side first looks for its best among the
 * batches and numbers of contexts, the bare one also for its best with no more rows outstanding
 * than AT_ONCE, from and to pinned memory or with --bare-device that of the device; then all are
 * measured in turns, and a ratio is of the same round. With --search the looking is all.
 */
#include <kiln/kiln.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_times.h"
#include "plan_feed.h"

#define ROUNDS 7
#define MOST_CONTEXTS 8
#define MOST_BATCHES 8
#define BRIEF 3 /* a look for the best takes such a part of a measurement */

typedef struct scene {
    kiln_engine *engine;
    char **shapes;
    size_t shape_count;
    int64_t batches[MOST_BATCHES];
    size_t batch_count;
    int64_t contexts[MOST_BATCHES];
    size_t context_count;
    size_t at_once;
    bool has_callers;
    bool skips_latency;
    bool bare_device;
    bool only_searches;
    kiln_location place;    /* of memory that a bare run reads and writes */
    kiln_location requests; /* of a request's */
    double seconds;         /* of one measurement */
} scene;

/* How one side runs. */
typedef struct setting {
    int64_t batch;
    size_t contexts;
    double rows; /* a second */
} setting;

static kiln_scheduler *open_scheduler(const scene *self, kiln_schedule schedule, setting how)
{
    kiln_scheduler *scheduler = NULL;
    kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.schedule = schedule, .max_batch = how.batch,
                               .contexts = (int32_t)how.contexts);
    feed_require(kiln_scheduler_create(&self->engine, 1, &options, &scheduler));
    return scheduler;
}

/* A request's tensors. */
typedef struct one_request {
    feed fed;
    kiln_named_tensor inputs[FEED_MOST];
    kiln_named_tensor outputs[FEED_MOST];
} one_request;

static void open_request(const scene *self, one_request *made)
{
    feed_open(&made->fed, self->engine, self->requests, 1, self->shapes, self->shape_count);
    feed_require(kiln_context_run(made->fed.context));
    for (size_t i = 0; i < made->fed.input_count; i++) {
        made->inputs[i] = (kiln_named_tensor){made->fed.inputs[i].name, made->fed.inputs[i].tensor};
    }
    for (size_t i = 0; i < made->fed.output_count; i++) {
        made->outputs[i] =
            (kiln_named_tensor){made->fed.outputs[i].name, made->fed.outputs[i].tensor};
    }
}

static void open_side(const scene *self, const kiln_named_tensor *from, feed_side *side,
                      kiln_named_tensor *named)
{
    const kiln_span content = {from->tensor.data, from->tensor.bytes};
    feed_require(kiln_buffer_create(self->requests, 0, content.size, &side->buffer));
    feed_require(kiln_buffer_write(side->buffer, 0, content, NULL));
    feed_require(kiln_buffer_tensor(side->buffer, 0, from->tensor.desc.dtype,
                                    &from->tensor.desc.shape, &side->tensor));
    *named = (kiln_named_tensor){from->name, side->tensor};
}

/* Like another one, in memory of its own; without a context. */
static void open_like(const scene *self, const one_request *like, one_request *made)
{
    made->fed =
        (feed){.input_count = like->fed.input_count, .output_count = like->fed.output_count};
    for (size_t i = 0; i < like->fed.input_count; i++) {
        open_side(self, &like->inputs[i], &made->fed.inputs[i], &made->inputs[i]);
    }
    for (size_t i = 0; i < like->fed.output_count; i++) {
        open_side(self, &like->outputs[i], &made->fed.outputs[i], &made->outputs[i]);
    }
}

/* --- one at a time --- */

static double median_of(kiln_status (*run)(void *user), void *user, double seconds)
{
    kiln_histogram *times = NULL;
    kiln_histogram_summary found = {.struct_size = sizeof found};
    feed_require(kiln_histogram_create(&times));
    const double end = bench_milliseconds() + seconds * 1e3;
    while (bench_milliseconds() < end) {
        const uint64_t begin = kiln_clock_now();
        feed_require(run(user));
        kiln_histogram_record(times, kiln_clock_now() - begin);
    }
    feed_require(kiln_histogram_summarize(times, &found));
    kiln_histogram_destroy(times);
    return found.median / 1e3;
}

static kiln_status run_bare(void *user)
{
    return kiln_context_run(user);
}

typedef struct single {
    kiln_scheduler *scheduler;
    one_request *request;
} single;

static kiln_status run_single(void *user)
{
    const single *self = user;
    return kiln_scheduler_run(self->scheduler, self->request->inputs,
                              self->request->fed.input_count, self->request->outputs,
                              self->request->fed.output_count, NULL);
}

static void one_at_a_time(const scene *self, one_request *request)
{
    feed bare;
    double direct[ROUNDS];
    double scheduled[ROUNDS];
    double added[ROUNDS];
    const setting how = {.batch = 1, .contexts = 1};
    single one = {open_scheduler(self, KILN_SCHEDULE_LATENCY, how), request};
    feed_open(&bare, self->engine, KILN_LOCATION_HOST, 1, self->shapes, self->shape_count);
    feed_require(kiln_context_warmup(bare.context, 20, 1000, NULL));
    /* Both sides look for the fastest way of their graph. */
    feed_require(
        kiln_scheduler_warmup(one.scheduler, request->inputs, request->fed.input_count, 1000));
    for (int r = 0; r < ROUNDS; r++) {
        direct[r] = median_of(run_bare, bare.context, self->seconds);
        scheduled[r] = median_of(run_single, &one, self->seconds);
        added[r] = scheduled[r] - direct[r];
    }
    kiln_scheduler_destroy(one.scheduler);
    feed_close(&bare);
    (void)printf(", \"latency\": {\"bare_us\": %.3f, \"scheduler_us\": %.3f, \"added_us\": %.3f}",
                 bench_median(direct, ROUNDS), bench_median(scheduled, ROUNDS),
                 bench_median(added, ROUNDS));
}

/* --- many at once --- */

typedef struct runner {
    kiln_context *context;
    double end;
    uint64_t runs;
} runner;

static void *run_on(void *user)
{
    runner *self = user;
    while (bench_milliseconds() < self->end) {
        feed_require(kiln_context_run(self->context));
        self->runs++;
    }
    return NULL;
}

/* Rows a second of full batches on so many contexts, a thread each. */
static double bare_rows(const scene *self, setting how, double seconds)
{
    const size_t contexts = how.contexts;
    runner runners[MOST_CONTEXTS];
    feed feeds[MOST_CONTEXTS];
    pthread_t threads[MOST_CONTEXTS];
    uint64_t runs = 0;
    for (size_t i = 0; i < contexts; i++) {
        feed_open(&feeds[i], self->engine, self->place, how.batch, self->shapes, self->shape_count);
        feed_require(kiln_context_warmup(feeds[i].context, 10, 0, NULL));
    }
    const double begin = bench_milliseconds();
    for (size_t i = 0; i < contexts; i++) {
        runners[i] = (runner){feeds[i].context, begin + seconds * 1e3, 0};
        if (pthread_create(&threads[i], NULL, run_on, &runners[i]) != 0) {
            exit(1);
        }
    }
    for (size_t i = 0; i < contexts; i++) {
        (void)pthread_join(threads[i], NULL);
        runs += runners[i].runs;
    }
    const double took = (bench_milliseconds() - begin) / 1e3;
    for (size_t i = 0; i < contexts; i++) {
        feed_close(&feeds[i]);
    }
    return (double)runs * (double)how.batch / took;
}

typedef struct circle {
    kiln_scheduler *scheduler;
    atomic_bool ends;
    atomic_ullong answered;
    atomic_size_t outstanding;
} circle;

/* A request that is submitted anew as soon as it is answered, in the thread that answers. */
typedef struct caller {
    circle *round;
    one_request request;
    pthread_t thread;
} caller;

static void submit_again(void *user, kiln_request *done);

static void submit(caller *self)
{
    const kiln_request_options options =
        KILN_REQUEST_OPTIONS(.answered = submit_again, .user = self);
    kiln_request *made = NULL;
    feed_require(kiln_scheduler_submit(self->round->scheduler, self->request.inputs,
                                       self->request.fed.input_count, NULL, 0, &options, &made));
    kiln_request_release(made);
}

static void submit_again(void *user, kiln_request *done)
{
    caller *self = user;
    if (kiln_request_get_state(done) != KILN_REQUEST_DONE) {
        (void)fprintf(stderr, "a request was not done\n");
        exit(1);
    }
    (void)atomic_fetch_add(&self->round->answered, 1);
    if (atomic_load(&self->round->ends)) {
        (void)atomic_fetch_sub(&self->round->outstanding, 1);
    } else {
        submit(self);
    }
}

/* With a thread that waits for its answer. */
static void *call_again(void *user)
{
    caller *self = user;
    while (!atomic_load(&self->round->ends)) {
        feed_require(kiln_scheduler_run(self->round->scheduler, self->request.inputs,
                                        self->request.fed.input_count, self->request.outputs,
                                        self->request.fed.output_count, NULL));
        (void)atomic_fetch_add(&self->round->answered, 1);
    }
    (void)atomic_fetch_sub(&self->round->outstanding, 1);
    return NULL;
}

static void sleep_for(double seconds)
{
    const struct timespec time = {.tv_sec = (time_t)seconds,
                                  .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&time, NULL);
}

static double scheduled_rows(const scene *self, kiln_scheduler *scheduler,
                             const one_request *request, double seconds)
{
    circle round = {.scheduler = scheduler, .outstanding = self->at_once};
    caller *callers = feed_allocate(self->at_once * sizeof *callers);
    for (size_t i = 0; i < self->at_once; i++) {
        callers[i].round = &round;
        open_like(self, request, &callers[i].request);
    }
    for (size_t i = 0; i < self->at_once; i++) {
        if (!self->has_callers) {
            submit(&callers[i]);
        } else if (pthread_create(&callers[i].thread, NULL, call_again, &callers[i]) != 0) {
            exit(1);
        }
    }
    sleep_for(seconds / 2);
    const unsigned long long before = atomic_load(&round.answered);
    const double begin = bench_milliseconds();
    sleep_for(seconds);
    const unsigned long long answered = atomic_load(&round.answered) - before;
    const double took = (bench_milliseconds() - begin) / 1e3;
    atomic_store(&round.ends, true);
    while (atomic_load(&round.outstanding) != 0) {
        sleep_for(0.001);
    }
    for (size_t i = 0; i < self->at_once; i++) {
        if (self->has_callers) {
            (void)pthread_join(callers[i].thread, NULL);
        }
        feed_close(&callers[i].request.fed);
    }
    free(callers);
    return (double)answered / took;
}

static kiln_scheduler *open_warm(const scene *self, const one_request *request, setting how)
{
    kiln_scheduler *scheduler = open_scheduler(self, KILN_SCHEDULE_THROUGHPUT, how);
    feed_require(kiln_scheduler_warmup(scheduler, request->inputs, request->fed.input_count, 300));
    return scheduler;
}

/* What it measured of itself, medians. */
static void print_figures(kiln_scheduler *scheduler)
{
    static const char *const names[] = {"queue", "copy", "run", "total"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        kiln_histogram *times = NULL;
        kiln_histogram_summary found = {.struct_size = sizeof found};
        feed_require(kiln_histogram_create(&times));
        feed_require(kiln_scheduler_get_figure(scheduler, (kiln_scheduler_figure)i, times));
        feed_require(kiln_histogram_summarize(times, &found));
        (void)fprintf(stderr, " %s %.0f us", names[i], found.median / 1e3);
        kiln_histogram_destroy(times);
    }
}

static double try_setting(const scene *self, const one_request *request, setting how)
{
    const double seconds = self->seconds / BRIEF;
    (void)fprintf(stderr, "  %s, %lld rows, %zu contexts:", request == NULL ? "bare" : "scheduler",
                  (long long)how.batch, how.contexts);
    if (request == NULL) {
        how.rows = bare_rows(self, how, seconds);
    } else {
        kiln_scheduler *scheduler = open_warm(self, request, how);
        how.rows = scheduled_rows(self, scheduler, request, seconds);
        print_figures(scheduler);
        kiln_scheduler_destroy(scheduler);
    }
    (void)fprintf(stderr, " %.0f rows/s\n", how.rows);
    return how.rows;
}

/* The best of one side: bare, or where `request` is given of a scheduler; `within` is the best with
 * no more rows outstanding than AT_ONCE. */
static setting find_best(const scene *self, const one_request *request, setting *within)
{
    setting best = {.batch = 0};
    for (size_t i = 0; i < self->batch_count * self->context_count; i++) {
        setting how = {self->batches[i / self->context_count],
                       (size_t)self->contexts[i % self->context_count], 0};
        how.rows = try_setting(self, request, how);
        best = how.rows > best.rows ? how : best;
        if ((size_t)how.batch * how.contexts <= self->at_once && how.rows > within->rows) {
            *within = how;
        }
    }
    return best;
}

static void print_setting(const char *name, setting how, double *rows)
{
    (void)printf("\"%s\": {\"batch\": %lld, \"contexts\": %zu, \"rows\": %.0f}, ", name,
                 (long long)how.batch, how.contexts, bench_median(rows, ROUNDS));
}

static void print_ratio(const char *name, double *ratio)
{
    const double middle = bench_median(ratio, ROUNDS);
    (void)printf("\"%s\": [%.4f, %.4f, %.4f], ", name, ratio[0], middle, ratio[ROUNDS - 1]);
}

static void many_at_once(const scene *self, const one_request *request)
{
    enum { BARE, WITHIN, OWN, SIDES };
    double rows[SIDES][ROUNDS];
    double ratio[SIDES][ROUNDS];
    setting how[SIDES] = {{.batch = 0}};
    setting unused = {.batch = 0};
    how[BARE] = find_best(self, NULL, &how[WITHIN]);
    how[OWN] = find_best(self, request, &unused);
    how[WITHIN] = how[WITHIN].batch != 0 ? how[WITHIN] : how[BARE];
    if (self->only_searches) {
        return;
    }
    kiln_scheduler *scheduler = open_warm(self, request, how[OWN]);
    for (int r = 0; r < ROUNDS; r++) {
        rows[BARE][r] = bare_rows(self, how[BARE], self->seconds);
        rows[OWN][r] = scheduled_rows(self, scheduler, request, self->seconds);
        rows[WITHIN][r] = bare_rows(self, how[WITHIN], self->seconds);
        ratio[BARE][r] = rows[OWN][r] / rows[BARE][r];
        ratio[WITHIN][r] = rows[OWN][r] / rows[WITHIN][r];
    }
    kiln_scheduler_counters counted = {.struct_size = sizeof counted};
    feed_require(kiln_scheduler_get_counters(scheduler, &counted));
    kiln_scheduler_destroy(scheduler);
    (void)printf(", \"throughput\": {");
    print_setting("bare", how[BARE], rows[BARE]);
    print_setting("bare_within", how[WITHIN], rows[WITHIN]);
    print_setting("scheduler", how[OWN], rows[OWN]);
    print_ratio("ratio", ratio[BARE]);
    print_ratio("ratio_within", ratio[WITHIN]);
    (void)printf("\"rows_of_a_batch\": %.2f}", (double)counted.rows / (double)counted.batches);
}

static size_t read_numbers(const char *text, int64_t *numbers)
{
    char *end = NULL;
    size_t count = 0;
    for (; *text != '\0' && count < MOST_BATCHES; text = *end == ',' ? end + 1 : end) {
        numbers[count++] = strtoll(text, &end, 10);
        if (end == text) {
            (void)fprintf(stderr, "numbers are needed: %s\n", text);
            exit(2);
        }
    }
    return count;
}

static int read_switches(scene *self, int argc, char **argv)
{
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strncmp(argv[at], "--contexts=", 11) == 0) {
            self->context_count = read_numbers(argv[at] + 11, self->contexts);
        }
        self->requests = strcmp(argv[at], "--pinned") == 0 ? KILN_LOCATION_PINNED : self->requests;
        self->has_callers |= strcmp(argv[at], "--callers") == 0;
        self->skips_latency |= strcmp(argv[at], "--no-latency") == 0;
        self->only_searches |= strcmp(argv[at], "--search") == 0;
        self->bare_device |= strcmp(argv[at], "--bare-device") == 0;
    }
    return at - 1;
}

int main(int argc, char **argv)
{
    scene self = {.contexts = {1, 2, 4, 6}, .context_count = 4, .requests = KILN_LOCATION_HOST};
    const int skipped = read_switches(&self, argc, argv);
    if (argc - skipped < 8) {
        (void)fprintf(stderr,
                      "usage: %s [SWITCH]... BACKEND LIBRARY|- MODEL SECONDS BATCH[,BATCH]... "
                      "AT_ONCE NAME=DIMS...\n",
                      argv[0]);
        return 2;
    }
    argv += skipped;
    one_request request;
    self.shapes = argv + 7;
    self.shape_count = (size_t)(argc - skipped) - 7;
    self.seconds = strtod(argv[4], NULL) / (ROUNDS * 6);
    self.at_once = strtoull(argv[6], NULL, 10);
    self.batch_count = read_numbers(argv[5], self.batches);
    const size_t length = strlen(argv[3]);
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = argv[1],
                           .library = strcmp(argv[2], "-") != 0 ? argv[2] : NULL);
    feed_require(length > 5 && strcmp(argv[3] + length - 5, ".plan") == 0
                     ? kiln_engine_load(argv[3], &options, &self.engine)
                     : kiln_engine_build_file(argv[3], &options, &self.engine));
    self.place = kiln_engine_device(self.engine) < 0 ? KILN_LOCATION_HOST
                 : self.bare_device                  ? KILN_LOCATION_DEVICE
                                                     : KILN_LOCATION_PINNED;
    open_request(&self, &request);
    (void)printf("{\"bench\": \"schedule\", \"model\": \"%s\", \"backend\": \"%s\"", argv[3],
                 argv[1]);
    if (!self.skips_latency) {
        one_at_a_time(&self, &request);
    }
    if (self.at_once != 0) {
        many_at_once(&self, &request);
    }
    (void)printf("}\n");
    feed_close(&request.fed);
    kiln_engine_release(self.engine);
    return 0;
}
