/* SPDX-License-Identifier: Apache-2.0 */
/* What a scheduler costs beside the bare engine, and what it gives: one request at a time against
 * kiln_context_run, and many at once against the best that runs of full batches reach.
 *
 *     bench_schedule [--pinned] [--callers] [--contexts=N,N...] [--no-latency] [--bare-device]
 *                    [--search] [--devices=N,N...] [--check]
 *                    BACKEND LIBRARY|- MODEL SECONDS BATCH[,BATCH]... AT_ONCE NAME=DIMS...
 *
 * MODEL is an ONNX file or a .plan; DIMS as Nx3x224x224, N for the batch. AT_ONCE requests of one
 * row are kept outstanding, each submitted anew by its answer, or with --callers by a thread of its
 * own that waits for it; with 0 the second part is left out. They lie in ordinary memory, or with
 * --pinned in pinned memory as the bare runs' do. Each side first looks for its best among the
 * batches and numbers of contexts, the bare one also for its best with no more rows outstanding
 * than AT_ONCE, from and to pinned memory or with --bare-device that of the device; then all are
 * measured in turns, and a ratio is of the same round. With --search the looking is all.
 * --devices puts an engine on each of these GPUs behind the one scheduler, where bare runs are the
 * first one's; --check compares every answer with that of a bare run.
 */
#include <kiln/kiln.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"
#include "schedule_load.h"

#define ROUNDS 7
#define MOST_CONTEXTS 8
#define MOST_ENGINES 8
#define MOST_BATCHES 8
#define BRIEF 3 /* a look for the best takes such a part of a measurement */

typedef struct scene {
    kiln_engine *engines[MOST_ENGINES];
    int64_t devices[MOST_ENGINES];
    size_t engine_count;
    char **shapes;
    size_t shape_count;
    int64_t batches[MOST_BATCHES];
    size_t batch_count;
    int64_t contexts[MOST_BATCHES];
    size_t context_count;
    load load;
    bool skips_latency;
    bool bare_device;
    bool only_searches;
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
    bench_require(kiln_scheduler_create(self->engines, self->engine_count, &options, &scheduler));
    return scheduler;
}

/* --- one at a time --- */

static double median_of(kiln_status (*run)(void *user), void *user, double seconds)
{
    kiln_histogram *times = NULL;
    kiln_histogram_summary found = {.struct_size = sizeof found};
    bench_require(kiln_histogram_create(&times));
    const double end = bench_milliseconds() + seconds * 1e3;
    while (bench_milliseconds() < end) {
        const uint64_t begin = kiln_clock_now();
        bench_require(run(user));
        kiln_histogram_record(times, kiln_clock_now() - begin);
    }
    bench_require(kiln_histogram_summarize(times, &found));
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
    feed_open(&bare, self->engines[0], self->load.location, 1, self->shapes, self->shape_count);
    bench_require(kiln_context_warmup(bare.context, 20, 1000, NULL));
    /* Both sides look for the fastest way of their graph. */
    bench_require(
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
        bench_require(kiln_context_run(self->context));
        self->runs++;
    }
    return NULL;
}

/* Runs of full batches on so many contexts, a thread each. */
typedef struct bare {
    setting how;
    feed feeds[MOST_CONTEXTS];
} bare;

static void open_bare(const scene *self, setting how, bare *made)
{
    made->how = how;
    for (size_t i = 0; i < how.contexts; i++) {
        feed *fed = &made->feeds[i];
        feed_open(fed, self->engines[0], self->place, how.batch, self->shapes, self->shape_count);
        bench_require(kiln_context_warmup(fed->context, 10, 0, NULL));
    }
}

static void close_bare(bare *made)
{
    for (size_t i = 0; i < made->how.contexts; i++) {
        feed_close(&made->feeds[i]);
    }
}

/* Rows a second. */
static double bare_rows(const bare *self, double seconds)
{
    runner runners[MOST_CONTEXTS];
    pthread_t threads[MOST_CONTEXTS];
    const size_t contexts = self->how.contexts;
    uint64_t runs = 0;
    const double begin = bench_milliseconds();
    for (size_t i = 0; i < contexts; i++) {
        runners[i] = (runner){self->feeds[i].context, begin + seconds * 1e3, 0};
        if (pthread_create(&threads[i], NULL, run_on, &runners[i]) != 0) {
            exit(1);
        }
    }
    for (size_t i = 0; i < contexts; i++) {
        (void)pthread_join(threads[i], NULL);
        runs += runners[i].runs;
    }
    return (double)runs * (double)self->how.batch / ((bench_milliseconds() - begin) / 1e3);
}

static kiln_scheduler *open_warm(const scene *self, const one_request *request, setting how)
{
    kiln_scheduler *scheduler = open_scheduler(self, KILN_SCHEDULE_THROUGHPUT, how);
    bench_require(kiln_scheduler_warmup(scheduler, request->inputs, request->fed.input_count, 300));
    return scheduler;
}

static double try_setting(scene *self, const one_request *request, setting how)
{
    const double seconds = self->seconds / BRIEF;
    (void)fprintf(stderr, "  %s, %lld rows, %zu contexts:", request == NULL ? "bare" : "scheduler",
                  (long long)how.batch, how.contexts);
    if (request == NULL) {
        bare tried;
        open_bare(self, how, &tried);
        how.rows = bare_rows(&tried, seconds);
        close_bare(&tried);
    } else {
        kiln_scheduler *scheduler = open_warm(self, request, how);
        how.rows = load_rows(&self->load, scheduler, request, seconds);
        print_figures(scheduler);
        kiln_scheduler_destroy(scheduler);
    }
    (void)fprintf(stderr, " %.0f rows/s\n", how.rows);
    return how.rows;
}

/* The best of one side: bare, or where `request` is given of a scheduler; `within` is the best with
 * no more rows outstanding than AT_ONCE. */
static setting find_best(scene *self, const one_request *request, setting *within)
{
    setting best = {.batch = 0};
    for (size_t i = 0; i < self->batch_count * self->context_count; i++) {
        setting how = {self->batches[i / self->context_count],
                       (size_t)self->contexts[i % self->context_count], 0};
        how.rows = try_setting(self, request, how);
        best = how.rows > best.rows ? how : best;
        if ((size_t)how.batch * how.contexts <= self->load.at_once && how.rows > within->rows) {
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

/* How work spread. */
static void print_engines(const scene *self, kiln_scheduler *scheduler)
{
    (void)printf("\"engines\": [");
    for (size_t i = 0; i < self->engine_count; i++) {
        kiln_scheduler_engine_counters one = {.struct_size = sizeof one};
        bench_require(kiln_scheduler_get_engine_counters(scheduler, i, &one));
        (void)printf("%s{\"device\": %d, \"batches\": %llu, \"rows\": %llu}", i == 0 ? "" : ", ",
                     one.device, (unsigned long long)one.batches, (unsigned long long)one.rows);
    }
    (void)printf("], ");
}

static void many_at_once(scene *self, const one_request *request)
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
    bare best;
    bare within;
    kiln_scheduler *scheduler = open_warm(self, request, how[OWN]);
    open_bare(self, how[BARE], &best);
    open_bare(self, how[WITHIN], &within);
    for (int r = 0; r < ROUNDS; r++) {
        rows[BARE][r] = bare_rows(&best, self->seconds);
        rows[OWN][r] = load_rows(&self->load, scheduler, request, self->seconds);
        rows[WITHIN][r] = bare_rows(&within, self->seconds);
        ratio[BARE][r] = rows[OWN][r] / rows[BARE][r];
        ratio[WITHIN][r] = rows[OWN][r] / rows[WITHIN][r];
    }
    close_bare(&best);
    close_bare(&within);
    kiln_scheduler_counters counted = {.struct_size = sizeof counted};
    bench_require(kiln_scheduler_get_counters(scheduler, &counted));
    (void)printf(", \"throughput\": {");
    print_setting("bare", how[BARE], rows[BARE]);
    print_setting("bare_within", how[WITHIN], rows[WITHIN]);
    print_setting("scheduler", how[OWN], rows[OWN]);
    print_ratio("ratio", ratio[BARE]);
    print_ratio("ratio_within", ratio[WITHIN]);
    print_engines(self, scheduler);
    kiln_scheduler_destroy(scheduler);
    if (self->load.checks) {
        (void)printf("\"largest_difference\": %g, ", self->load.worst);
    }
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
        if (strncmp(argv[at], "--devices=", 10) == 0) {
            self->engine_count = read_numbers(argv[at] + 10, self->devices);
        }
        load *how = &self->load;
        how->location = strcmp(argv[at], "--pinned") == 0 ? KILN_LOCATION_PINNED : how->location;
        how->has_callers |= strcmp(argv[at], "--callers") == 0;
        how->checks |= strcmp(argv[at], "--check") == 0;
        self->skips_latency |= strcmp(argv[at], "--no-latency") == 0;
        self->only_searches |= strcmp(argv[at], "--search") == 0;
        self->bare_device |= strcmp(argv[at], "--bare-device") == 0;
    }
    return at - 1;
}

static kiln_engine *open_engine(char **argv, int32_t device)
{
    kiln_engine *engine = NULL;
    const size_t length = strlen(argv[3]);
    const kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = argv[1], .device = device,
                           .library = strcmp(argv[2], "-") != 0 ? argv[2] : NULL);
    bench_require(length > 5 && strcmp(argv[3] + length - 5, ".plan") == 0
                      ? kiln_engine_load(argv[3], &options, &engine)
                      : kiln_engine_build_file(argv[3], &options, &engine));
    return engine;
}

int main(int argc, char **argv)
{
    scene self = {.contexts = {1, 2, 4, 6},
                  .context_count = 4,
                  .engine_count = 1,
                  .load = {.location = KILN_LOCATION_HOST}};
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
    self.load.at_once = strtoull(argv[6], NULL, 10);
    self.batch_count = read_numbers(argv[5], self.batches);
    for (size_t i = 0; i < self.engine_count; i++) {
        self.engines[i] = open_engine(argv, (int32_t)self.devices[i]);
    }
    self.place = kiln_engine_device(self.engines[0]) < 0 ? KILN_LOCATION_HOST
                 : self.bare_device                      ? KILN_LOCATION_DEVICE
                                                         : KILN_LOCATION_PINNED;
    open_request(self.engines[0], self.load.location, self.shapes, self.shape_count, &request);
    (void)printf("{\"bench\": \"schedule\", \"model\": \"%s\", \"backend\": \"%s\"", argv[3],
                 argv[1]);
    if (!self.skips_latency) {
        one_at_a_time(&self, &request);
    }
    if (self.load.at_once != 0) {
        many_at_once(&self, &request);
    }
    (void)printf("}\n");
    feed_close(&request.fed);
    for (size_t i = 0; i < self.engine_count; i++) {
        kiln_engine_release(self.engines[i]);
    }
    return 0;
}
