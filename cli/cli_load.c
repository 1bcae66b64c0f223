/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cli_statistics.h"

/* Runs of each context alone before all run together: kernels are chosen and graphs captured in
 * them. */
#define FIRST_RUNS 3

typedef struct seat {
    kiln_context *context;
    uint64_t begun;
    bool under_way;
} seat;

/* Data shared by all callers. */
typedef struct crew {
    seat *seats;
    size_t seat_count;
    kiln_stream **streams;
    size_t stream_count;
    bool enqueues;       /* runs are in progress on a GPU while the caller continues */
    bool shares_streams; /* a stream has several contexts: one copies while another computes */
    bool records;
    double seconds;
    uint64_t least;
    pthread_barrier_t start;
    atomic_ullong done;
    atomic_bool failed;
} crew;

typedef struct caller {
    crew *all;
    pthread_t thread;
    seat *seats;
    size_t count;
    kiln_histogram *times;
    uint64_t first; /* when its first run began */
    uint64_t last;  /* when its last run ended */
    char message[1024];
} caller;

static int32_t priority_of(const cli_load *load, size_t place)
{
    return load->staggered && place % 2 == 0 ? -1 : 0;
}

/* --- contexts --- */

static kiln_status copy_input(kiln_context *from, kiln_context *to, const char *name)
{
    kiln_tensor source;
    kiln_tensor target;
    KLN_RETURN_IF_ERROR(kiln_context_tensor(from, name, &source));
    KLN_RETURN_IF_ERROR(kiln_context_reshape(to, name, &source.desc.shape));
    KLN_RETURN_IF_ERROR(kiln_context_tensor(to, name, &target));
    if (source.bytes != 0) {
        memcpy(target.data, source.data, source.bytes < target.bytes ? source.bytes : target.bytes);
    }
    return KILN_OK;
}

static kiln_status open_seat(crew *all, seat *made, kiln_engine *engine, kiln_context *bound,
                             kiln_graph_policy graphs, kiln_stream *stream)
{
    kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.graphs = graphs, .stream = stream,
                             .overlap_copies = stream != NULL && all->shares_streams);
    options.share_device_memory = options.overlap_copies;
    kiln_status status = kiln_context_create(engine, &options, &made->context);
    if (status == KILN_ERROR_UNSUPPORTED && options.share_device_memory) {
        options.share_device_memory = false; /* fall back to the library's own choice */
        status = kiln_context_create(engine, &options, &made->context);
    }
    KLN_RETURN_IF_ERROR(status);
    all->seat_count++;
    for (size_t i = 0; i < kiln_engine_input_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        KLN_RETURN_IF_ERROR(kiln_engine_input(engine, i, &binding));
        KLN_RETURN_IF_ERROR(copy_input(bound, made->context, binding.name));
    }
    return kiln_context_warmup(made->context, FIRST_RUNS, 0, NULL);
}

static kiln_status open_crew(crew *all, kiln_engine *engine, kiln_context *bound,
                             kiln_graph_policy graphs, const cli_load *load)
{
    all->enqueues = load->streams != 0;
    all->shares_streams = load->contexts > load->streams;
    all->seats = cli_allocate(load->contexts * sizeof *all->seats);
    all->streams = cli_allocate(load->streams * sizeof(kiln_stream *));
    const int32_t device = kiln_engine_device(engine);
    for (; all->stream_count < load->streams; all->stream_count++) {
        const int32_t priority = priority_of(load, all->stream_count);
        KLN_RETURN_IF_ERROR(kiln_stream_create(device, priority, &all->streams[all->stream_count]));
    }
    for (size_t i = 0; i < load->contexts; i++) {
        kiln_stream *stream = load->streams != 0 ? all->streams[i % load->streams] : NULL;
        KLN_RETURN_IF_ERROR(open_seat(all, &all->seats[i], engine, bound, graphs, stream));
        cli_progress_set((double)(i + 1) / (double)load->contexts);
    }
    return KILN_OK;
}

static void close_crew(crew *all)
{
    for (size_t i = 0; i < all->seat_count; i++) {
        kiln_context_destroy(all->seats[i].context);
    }
    for (size_t i = 0; i < all->stream_count; i++) {
        kiln_stream_destroy(all->streams[i]);
    }
    free(all->seats);
    free(all->streams);
}

/* --- a caller --- */

static kiln_status finish_run(caller *self, seat *which)
{
    const kiln_status status = which->under_way ? kiln_context_wait(which->context) : KILN_OK;
    self->last = kiln_clock_now();
    which->under_way = false;
    if (status == KILN_OK) {
        if (self->all->records) {
            kiln_histogram_record(self->times, self->last - which->begun);
        }
        (void)atomic_fetch_add_explicit(&self->all->done, 1, memory_order_relaxed);
    }
    return status;
}

/* With a single context there is nothing else to do but wait for it. */
static kiln_status start_run(caller *self, seat *which)
{
    which->begun = kiln_clock_now();
    if (self->all->enqueues && self->count > 1) {
        which->under_way = true;
        return kiln_context_enqueue(which->context, NULL);
    }
    const kiln_status status = kiln_context_run(which->context);
    return status == KILN_OK ? finish_run(self, which) : status;
}

static bool is_over(const caller *self)
{
    crew *all = self->all;
    const uint64_t done = atomic_load_explicit(&all->done, memory_order_relaxed);
    return atomic_load_explicit(&all->failed, memory_order_relaxed) ||
           (done >= all->least && (double)(kiln_clock_now() - self->first) >= all->seconds * 1e9);
}

/* Waits for the oldest run in progress, and then starts the next one of its context. */
static void *work(void *user)
{
    caller *self = user;
    kiln_status status = KILN_OK;
    size_t at = 0;
    (void)pthread_barrier_wait(&self->all->start);
    self->first = kiln_clock_now();
    self->last = self->first;
    for (; status == KILN_OK && !is_over(self); at = (at + 1) % self->count) {
        seat *which = &self->seats[at];
        status = which->under_way ? finish_run(self, which) : KILN_OK;
        status = status == KILN_OK ? start_run(self, which) : status;
    }
    for (size_t i = 0; i < self->count; i++, at = (at + 1) % self->count) {
        seat *which = &self->seats[at];
        const kiln_status ended = which->under_way ? finish_run(self, which) : KILN_OK;
        status = status == KILN_OK ? ended : status;
    }
    if (status != KILN_OK) {
        (void)snprintf(self->message, sizeof self->message, "%s", kiln_error_message());
        atomic_store(&self->all->failed, true);
    }
    return NULL;
}

/* --- all callers together --- */

/* Distributes the contexts as evenly as possible. Consecutive ones go to the same caller, so that
 * its contexts are on different streams if there are several. */
static void deal(crew *all, caller *callers, size_t count)
{
    size_t next = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t share = all->seat_count / count + (i < all->seat_count % count ? 1 : 0);
        callers[i] = (caller){.all = all, .seats = all->seats + next, .count = share};
        callers[i].times = cli_times_create();
        next += share;
    }
}

static void gather(const caller *callers, size_t count, cli_load_result *found)
{
    uint64_t first = callers[0].first;
    uint64_t last = callers[0].last;
    for (size_t i = 0; i < count; i++) {
        first = callers[i].first < first ? callers[i].first : first;
        last = callers[i].last > last ? callers[i].last : last;
        if (kiln_histogram_add(found->latency, callers[i].times) != KILN_OK) {
            (void)cli_fail();
        }
    }
    found->wall = last - first;
    found->count = cli_times_summarize(found->latency).count;
}

/* Runs all callers, from a common start to the end. */
static cli_exit run_crew(crew *all, const char *what, size_t count, cli_load_result *found)
{
    SCOPED_HEAP caller *callers = cli_allocate(count * sizeof *callers);
    size_t started = 0;
    deal(all, callers, count);
    cli_progress_begin(what);
    atomic_store(&all->done, 0);
    (void)pthread_barrier_init(&all->start, NULL, (unsigned)count);
    for (; started < count; started++) {
        if (pthread_create(&callers[started].thread, NULL, work, &callers[started]) != 0) {
            cli_error("thread %zu of %zu cannot be started", started + 1, count);
            exit(CLI_FAILED);
        }
    }
    for (size_t i = 0; i < count; i++) {
        (void)pthread_join(callers[i].thread, NULL);
    }
    (void)pthread_barrier_destroy(&all->start);
    cli_progress_end();
    cli_exit result = CLI_DONE;
    for (size_t i = 0; i < count && result == CLI_DONE; i++) {
        if (callers[i].message[0] != '\0') {
            cli_error("%s", callers[i].message);
            result = CLI_FAILED;
        }
    }
    gather(callers, count, found);
    for (size_t i = 0; i < count; i++) {
        kiln_histogram_destroy(callers[i].times);
    }
    return result;
}

cli_exit cli_load_measure(kiln_engine *engine, kiln_context *bound, kiln_graph_policy graphs,
                          const cli_load *load, double warmup, double seconds, uint64_t least,
                          cli_load_result *found)
{
    SCOPED(close_crew) crew all = {.least = 1, .seconds = warmup / 1e3};
    found->latency = cli_times_create();
    cli_progress_begin("opening contexts");
    const kiln_status status = open_crew(&all, engine, bound, graphs, load);
    cli_progress_end();
    CLI_FAIL_IF_ERROR(status);
    CLI_RETURN_UNLESS_DONE(run_crew(&all, "warming up", load->callers, found));
    kiln_histogram_clear(found->latency);
    all.records = true;
    all.seconds = seconds;
    all.least = least;
    return run_crew(&all, "measuring", load->callers, found);
}

void cli_load_finish(cli_load_result *found)
{
    kiln_histogram_destroy(found->latency);
    *found = (cli_load_result){.latency = NULL};
}
