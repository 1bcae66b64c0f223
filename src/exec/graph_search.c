/* SPDX-License-Identifier: Apache-2.0 */
#include "exec_parts.h"

/* Every pair of modes; outputs are not copied outside the graph, where
 * that gains nothing. */
#define MOST_VARIANTS 20
/* The kept graph, those, and the best with its end told in the other way. */
#define MOST_CANDIDATES (MOST_VARIANTS + 2)

/* A round has a turn of each candidate, and a turn so many runs, or one where that is long: what a
 * device does in the meantime moves a time by more than variants differ, and what is compared is
 * what was measured side by side. Before them so many go by, or as many as end within so long: a
 * copy engine that rested takes some runs to be as quick as it stays afterwards. */
#define MOST_ROUNDS 48
#define RUNS_IN_A_TURN 5
#define RUNS_AHEAD 20
#define AHEAD_NANOSECONDS UINT64_C(1000000)
#define LONG_NANOSECONDS UINT64_C(2000000)

/* The order of two is certain after two rounds where one is a quarter slower, and from the sixth
 * on where it lost so many more rounds than it won that chance does that in 1 case of 40 (the sign
 * test: two standard deviations of a fair coin). */
#define ROUNDS_TO_TELL_FAR 2
#define FAR 1.25
#define ROUNDS_TO_TELL 6

typedef struct candidate {
    graph_variant variant;
    kiln_graph *graph;
    bool is_out;
    uint64_t turns[MOST_ROUNDS]; /* the median of each, in nanoseconds */
    uint64_t median;             /* of `turns` */
} candidate;

typedef struct search {
    capture_trial trial;
    uint64_t begin; /* by kln_now */
    uint64_t end;
    candidate candidates[MOST_CANDIDATES];
    size_t count;
    size_t rounds;
} search;

/* --- candidates --- */

static void add(search *self, graph_variant variant)
{
    candidate *made = &self->candidates[self->count];
    *made = (candidate){.variant = variant};
    if (capture_variant(&self->trial, variant, &made->graph) == KILN_OK) {
        self->count++;
    }
}

/* The likely ones first: where runs are long, the time does not reach for all. */
static const struct {
    transfer_mode in, out;
} in_order[MOST_VARIANTS] = {
    {TRANSFER_COPIED, TRANSFER_COPIED},    {TRANSFER_GATHERED, TRANSFER_GATHERED},
    {TRANSFER_MAPPED, TRANSFER_MAPPED},    {TRANSFER_DIRECT, TRANSFER_COPIED},
    {TRANSFER_OUTSIDE, TRANSFER_COPIED},   {TRANSFER_COPIED, TRANSFER_MAPPED},
    {TRANSFER_GATHERED, TRANSFER_MAPPED},  {TRANSFER_DIRECT, TRANSFER_MAPPED},
    {TRANSFER_DIRECT, TRANSFER_DIRECT},    {TRANSFER_COPIED, TRANSFER_GATHERED},
    {TRANSFER_OUTSIDE, TRANSFER_MAPPED},   {TRANSFER_DIRECT, TRANSFER_GATHERED},
    {TRANSFER_OUTSIDE, TRANSFER_GATHERED}, {TRANSFER_GATHERED, TRANSFER_COPIED},
    {TRANSFER_MAPPED, TRANSFER_GATHERED},  {TRANSFER_MAPPED, TRANSFER_COPIED},
    {TRANSFER_COPIED, TRANSFER_DIRECT},    {TRANSFER_OUTSIDE, TRANSFER_DIRECT},
    {TRANSFER_GATHERED, TRANSFER_DIRECT},  {TRANSFER_MAPPED, TRANSFER_DIRECT},
};

/* The kept graph is the first. Making the others takes half of the time at most. */
static void add_all(search *self, uint64_t nanoseconds)
{
    const graph_entry *entry = self->trial.entry;
    const graph_variant kept = self->candidates[0].variant;
    const transfer_load in = transfers_load(self->trial.exec, entry, true);
    const transfer_load out = transfers_load(self->trial.exec, entry, false);
    const uint64_t half = self->begin + nanoseconds / 2;
    for (size_t i = 0; i < MOST_VARIANTS && kln_now() < half; i++) {
        const graph_variant variant = {.in = in_order[i].in, .out = in_order[i].out};
        if (transfer_mode_is_worth_trying(variant.in, in, true) &&
            transfer_mode_is_worth_trying(variant.out, out, false) &&
            (variant.in != kept.in || variant.out != kept.out)) {
            add(self, variant);
        }
    }
}

/* --- in turns --- */

static kiln_status take_turn(search *self, candidate *one)
{
    uint64_t times[RUNS_IN_A_TURN];
    size_t count = 0;
    transfers_set(self->trial.exec, self->trial.entry, one->variant);
    const uint64_t ahead = kln_now();
    for (size_t i = 0; i < RUNS_AHEAD && kln_now() - ahead < AHEAD_NANOSECONDS; i++) {
        KLN_RETURN_IF_ERROR(capture_run(&self->trial, one->graph));
    }
    do {
        const uint64_t begin = kln_now();
        KLN_RETURN_IF_ERROR(capture_run(&self->trial, one->graph));
        times[count] = kln_now() - begin;
    } while (times[count++] < LONG_NANOSECONDS && count < RUNS_IN_A_TURN);
    one->turns[self->rounds] = kln_median(times, count);
    return KILN_OK;
}

static const candidate *best_of(const search *self)
{
    const candidate *best = NULL;
    for (size_t i = 0; i < self->count; i++) {
        const candidate *one = &self->candidates[i];
        best = !one->is_out && (best == NULL || one->median < best->median) ? one : best;
    }
    return best;
}

static bool is_slower_for_certain(const search *self, const candidate *one, const candidate *best)
{
    size_t lost = 0;
    for (size_t r = 0; r < self->rounds; r++) {
        lost += one->turns[r] > best->turns[r];
    }
    if (self->rounds < ROUNDS_TO_TELL) {
        return self->rounds >= ROUNDS_TO_TELL_FAR && lost == self->rounds &&
               (double)one->median > (double)best->median * FAR;
    }
    const size_t won = self->rounds - lost;
    return lost > won && (lost - won) * (lost - won) >= 4 * self->rounds;
}

/* How many are left. */
static size_t sort_out(search *self)
{
    size_t left = 0;
    for (size_t i = 0; i < self->count; i++) {
        candidate *one = &self->candidates[i];
        uint64_t turns[MOST_ROUNDS];
        if (!one->is_out) {
            memcpy(turns, one->turns, self->rounds * sizeof *turns);
            one->median = kln_median(turns, self->rounds);
        }
    }
    const candidate *best = best_of(self);
    for (size_t i = 0; i < self->count; i++) {
        candidate *one = &self->candidates[i];
        one->is_out = one->is_out || (one != best && is_slower_for_certain(self, one, best));
        left += !one->is_out;
    }
    return left;
}

static kiln_status race(search *self)
{
    size_t left = self->count;
    while (left > 1 && self->rounds < MOST_ROUNDS && (self->rounds == 0 || kln_now() < self->end)) {
        for (size_t i = 0; i < self->count; i++) {
            /* Who begins changes, so that nobody always follows the same one. */
            candidate *one = &self->candidates[(i + self->rounds) % self->count];
            if (!one->is_out) {
                KLN_RETURN_IF_ERROR(take_turn(self, one));
            }
        }
        self->rounds++;
        left = sort_out(self);
    }
    return KILN_OK;
}

/* Where memory can tell of the end of the best one, that costs the device a microsecond, and the
 * driver's way the host one or two: once more, against the same in the other way. */
static kiln_status race_fences(search *self)
{
    const candidate *best = best_of(self);
    graph_variant other = best->variant;
    const size_t place = self->count;
    transfers_set(self->trial.exec, self->trial.entry, other);
    const bool fenced = self->trial.entry->fenced;
    other.unfenced = fenced;
    transfers_set(self->trial.exec, self->trial.entry, other);
    if (self->rounds == 0 || self->trial.entry->fenced == fenced) {
        return KILN_OK;
    }
    add(self, other);
    for (size_t i = 0; self->count > place && i < place; i++) {
        self->candidates[i].is_out = &self->candidates[i] != best;
    }
    self->rounds = self->count > place ? 0 : self->rounds;
    return self->count > place ? race(self) : KILN_OK;
}

/* --- the result --- */

static void note(const search *self, const candidate *best)
{
    kln_shared *shared = self->trial.exec->shared;
    measured_variant row = {.bindings = graph_cache_shapes(self->trial.exec),
                            .variant = best->variant,
                            .nanoseconds = best->median};
    memcpy(row.gpu, shared->gpu, sizeof row.gpu);
    (void)pthread_mutex_lock(&shared->measured->mutex);
    measured_variants_put(&shared->measured->variants, &row);
    (void)pthread_mutex_unlock(&shared->measured->mutex);
    for (size_t i = 0; i < self->count; i++) {
        const candidate *one = &self->candidates[i];
        kln_log(KILN_LOG_DEBUG, "engine", "inputs %s, outputs %s: %.1f us%s%s",
                transfer_mode_name(one->variant.in), transfer_mode_name(one->variant.out),
                (double)one->median / 1e3, one->variant.unfenced ? " without a fence" : "",
                one == best   ? ", kept"
                : one->is_out ? ", slower"
                              : ", not told apart");
    }
}

/* Gives the graphs back but the best one, whose memory then has the results. */
static kiln_status conclude(search *self)
{
    graph_entry *entry = self->trial.entry;
    const candidate *best = best_of(self);
    if (self->rounds != 0) {
        note(self, best);
    }
    entry->graph = best->graph;
    for (size_t i = 0; i < self->count; i++) {
        if (&self->candidates[i] != best) {
            kiln_graph_destroy(self->candidates[i].graph);
        }
    }
    transfers_set(self->trial.exec, entry, best->variant);
    return capture_run(&self->trial, entry->graph);
}

static kiln_status search_variants(kln_exec *exec, graph_entry *entry, uint64_t nanoseconds)
{
    const graph_variant kept = entry->variant;
    KLN_SCOPED_FREE search *self = kln_alloc_zeroed(1, sizeof *self);
    KLN_RETURN_IF_NO_MEMORY(self, sizeof *self, "a search");
    self->trial = (capture_trial){.exec = exec, .entry = entry};
    self->begin = kln_now();
    self->end = self->begin + nanoseconds / 4 * 3; /* and the rest for the two ends */
    self->candidates[0] = (candidate){.variant = kept, .graph = entry->graph};
    self->count = 1;
    entry->searched = true;
    /* Memory that an earlier capture gave back, for variants that copy. Without it there is nothing
     * to compare. */
    kiln_status status = KILN_OK;
    if (transfers_complete(exec, entry) == KILN_OK) {
        add_all(self, nanoseconds);
        status = race(self);
        self->end = self->begin + nanoseconds;
        KLN_THEN(status, race_fences(self));
    }
    const kiln_status concluded = conclude(self);
    transfers_trim(exec, entry);
    graph_cache_count(exec, entry);
    capture_finish(&self->trial);
    /* The backend is bound to the last candidate's memory, some of which is gone. */
    exec->gpu->bound = NULL;
    exec->gpu->shown = entry;
    return status != KILN_OK ? status : concluded;
}

static kiln_status search_on_gpu(kln_exec *exec, uint64_t nanoseconds)
{
    KLN_CUDA_ENTER(exec->gpu->device);
    exec_gpu_lock(exec);
    const kiln_status status = search_variants(exec, exec->gpu->current, nanoseconds);
    exec_gpu_unlock(exec);
    if (status == KILN_OK) {
        transfers_copy_out(exec, exec->gpu->current, true);
    }
    return status;
}

kiln_status kln_exec_search(kln_exec *exec, uint64_t nanoseconds)
{
    const exec_gpu *gpu = exec->gpu;
    if (gpu == NULL || gpu->lane != NULL || gpu->current == NULL ||
        gpu->current->mode != ENTRY_GRAPH || gpu->current->searched) {
        return KILN_OK;
    }
    kln_shared_hold_weights(exec->shared);
    const kiln_status status = search_on_gpu(exec, nanoseconds);
    kln_shared_let_weights_go(exec->shared);
    return status;
}
