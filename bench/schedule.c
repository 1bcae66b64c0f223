/* SPDX-License-Identifier: Apache-2.0 */
/* What a scheduler costs beside the bare engine, and what it gives: one request at a time against
 * kiln_context_run, and many at once against the best that runs of full batches reach.
 *
 *     bench_schedule BACKEND LIBRARY|- MODEL SECONDS BATCH[,BATCH]... AT_ONCE NAME=DIMS...
 *
 * MODEL is an ONNX file or a .plan; DIMS as Nx3x224x224, N for the batch. AT_ONCE requests of one
 * row are kept outstanding, each submitted anew by its answer; with 0 the second part is left out.
 * Each side first looks for its best among the batches and numbers of contexts; then both are
 * measured in turns, and the ratio is of the same round.
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
#define MOST_CONTEXTS 6
#define MOST_BATCHES 8
#define BRIEF 3 /* a look for the best takes such a part of a measurement */

typedef struct scene {
    kiln_engine *engine;
    char **shapes;
    size_t shape_count;
    int64_t batches[MOST_BATCHES];
    size_t batch_count;
    size_t at_once;
    kiln_location place; /* of memory that a bare run reads and writes */
    double seconds;      /* of one measurement */
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

/* A request's tensors, in memory of the host. */
typedef struct one_request {
    feed fed;
    kiln_named_tensor inputs[FEED_MOST];
    kiln_named_tensor outputs[FEED_MOST];
} one_request;

static void open_request(const scene *self, one_request *made)
{
    feed_open(&made->fed, self->engine, KILN_LOCATION_HOST, 1, self->shapes, self->shape_count);
    feed_require(kiln_context_run(made->fed.context));
    for (size_t i = 0; i < made->fed.input_count; i++) {
        made->inputs[i] = (kiln_named_tensor){made->fed.inputs[i].name, made->fed.inputs[i].tensor};
    }
    for (size_t i = 0; i < made->fed.output_count; i++) {
        made->outputs[i] =
            (kiln_named_tensor){made->fed.outputs[i].name, made->fed.outputs[i].tensor};
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
    (void)printf("\"latency\": {\"bare_us\": %.3f, \"scheduler_us\": %.3f, \"added_us\": %.3f}",
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

/* Requests that are submitted anew as soon as they are answered, in the thread that answers. */
typedef struct circle {
    kiln_scheduler *scheduler;
    const one_request *request;
    atomic_bool ends;
    atomic_ullong answered;
    atomic_size_t outstanding;
} circle;

static void submit_again(void *user, kiln_request *done);

static void submit(circle *self)
{
    const kiln_request_options options =
        KILN_REQUEST_OPTIONS(.answered = submit_again, .user = self);
    kiln_request *made = NULL;
    feed_require(kiln_scheduler_submit(self->scheduler, self->request->inputs,
                                       self->request->fed.input_count, NULL, 0, &options, &made));
    kiln_request_release(made);
}

static void submit_again(void *user, kiln_request *done)
{
    circle *self = user;
    if (kiln_request_get_state(done) != KILN_REQUEST_DONE) {
        (void)fprintf(stderr, "a request was not done\n");
        exit(1);
    }
    (void)atomic_fetch_add(&self->answered, 1);
    if (atomic_load(&self->ends)) {
        (void)atomic_fetch_sub(&self->outstanding, 1);
    } else {
        submit(self);
    }
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
    circle round = {.scheduler = scheduler, .request = request, .outstanding = self->at_once};
    for (size_t i = 0; i < self->at_once; i++) {
        submit(&round);
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
    return (double)answered / took;
}

static kiln_scheduler *open_warm(const scene *self, const one_request *request, setting how)
{
    kiln_scheduler *scheduler = open_scheduler(self, KILN_SCHEDULE_THROUGHPUT, how);
    feed_require(kiln_scheduler_warmup(scheduler, request->inputs, request->fed.input_count, 300));
    return scheduler;
}

/* The best of one side: bare, or where `request` is given of a scheduler. */
static setting find_best(const scene *self, const one_request *request)
{
    enum { COUNTS = 4 };
    static const size_t counts[COUNTS] = {1, 2, 4, MOST_CONTEXTS};
    setting best = {.batch = 0};
    for (size_t i = 0; i < self->batch_count * COUNTS; i++) {
        setting how = {self->batches[i / COUNTS], counts[i % COUNTS], 0};
        if (request == NULL) {
            how.rows = bare_rows(self, how, self->seconds / BRIEF);
        } else {
            kiln_scheduler *scheduler = open_warm(self, request, how);
            how.rows = scheduled_rows(self, scheduler, request, self->seconds / BRIEF);
            kiln_scheduler_destroy(scheduler);
        }
        (void)fprintf(stderr, "  %s, batches of %lld, %zu contexts: %.0f rows/s\n",
                      request == NULL ? "bare" : "scheduler", (long long)how.batch, how.contexts,
                      how.rows);
        best = how.rows > best.rows ? how : best;
    }
    return best;
}

static void many_at_once(const scene *self, const one_request *request)
{
    double rows[2][ROUNDS];
    double ratio[ROUNDS];
    const setting bare = find_best(self, NULL);
    const setting own = find_best(self, request);
    kiln_scheduler *scheduler = open_warm(self, request, own);
    for (int r = 0; r < ROUNDS; r++) {
        rows[0][r] = bare_rows(self, bare, self->seconds);
        rows[1][r] = scheduled_rows(self, scheduler, request, self->seconds);
        ratio[r] = rows[1][r] / rows[0][r];
    }
    kiln_scheduler_counters counted = {.struct_size = sizeof counted};
    feed_require(kiln_scheduler_get_counters(scheduler, &counted));
    kiln_scheduler_destroy(scheduler);
    const double middle_ratio = bench_median(ratio, ROUNDS);
    (void)printf(
        ", \"throughput\": {\"bare\": {\"batch\": %lld, \"contexts\": %zu, \"rows\": "
        "%.0f}, \"scheduler\": {\"batch\": %lld, \"contexts\": %zu, \"rows\": %.0f}, "
        "\"ratio\": [%.4f, %.4f, %.4f], \"rows_of_a_batch\": %.2f}",
        (long long)bare.batch, bare.contexts, bench_median(rows[0], ROUNDS), (long long)own.batch,
        own.contexts, bench_median(rows[1], ROUNDS), ratio[0], middle_ratio, ratio[ROUNDS - 1],
        (double)counted.rows / (double)counted.batches);
}

static void read_batches(scene *self, const char *text)
{
    char *end = NULL;
    for (; *text != '\0' && self->batch_count < MOST_BATCHES; text = *end == ',' ? end + 1 : end) {
        self->batches[self->batch_count++] = strtoll(text, &end, 10);
        if (end == text) {
            (void)fprintf(stderr, "batches are numbers: %s\n", text);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 8) {
        (void)fprintf(
            stderr,
            "usage: %s BACKEND LIBRARY|- MODEL SECONDS BATCH[,BATCH]... AT_ONCE NAME=DIMS...\n",
            argv[0]);
        return 2;
    }
    scene self = {.shapes = argv + 7,
                  .shape_count = (size_t)argc - 7,
                  .seconds = strtod(argv[4], NULL) / (ROUNDS * 6),
                  .at_once = strtoull(argv[6], NULL, 10)};
    one_request request;
    read_batches(&self, argv[5]);
    const size_t length = strlen(argv[3]);
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = argv[1],
                           .library = strcmp(argv[2], "-") != 0 ? argv[2] : NULL);
    feed_require(length > 5 && strcmp(argv[3] + length - 5, ".plan") == 0
                     ? kiln_engine_load(argv[3], &options, &self.engine)
                     : kiln_engine_build_file(argv[3], &options, &self.engine));
    self.place = kiln_engine_device(self.engine) >= 0 ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST;
    open_request(&self, &request);
    (void)printf("{\"bench\": \"schedule\", \"model\": \"%s\", \"backend\": \"%s\", ", argv[3],
                 argv[1]);
    one_at_a_time(&self, &request);
    if (self.at_once != 0) {
        many_at_once(&self, &request);
    }
    (void)printf("}\n");
    feed_close(&request.fed);
    kiln_engine_release(self.engine);
    return 0;
}
