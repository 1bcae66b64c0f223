/* SPDX-License-Identifier: Apache-2.0 */
#include "exec_parts.h"

/* Every pair of modes, except outputs copied outside the graph, which gains nothing. */
#define MOST_VARIANTS 20
/* Those, the graph in use, and the best one with the other way of signalling its end. */
#define MOST_CANDIDATES (MOST_VARIANTS + 2)

/* In each round, each candidate has a turn of this many runs, or one if that is long. Rounds are
 * needed because the device's own variation between measurements exceeds the differences between
 * variants; only times that were measured side by side can be compared. Each turn starts with some
 * untimed runs, RUNS_AHEAD or as many as end within AHEAD_NANOSECONDS: an idle copy engine takes
 * some runs to reach full speed. */
#define MOST_ROUNDS 48
#define RUNS_IN_A_TURN 5
#define RUNS_AHEAD 20
#define AHEAD_NANOSECONDS UINT64_C(1000000)
#define LONG_NANOSECONDS UINT64_C(2000000)

/* The order of two candidates is certain after two rounds if one is a quarter slower; from the
 * sixth round on if it lost so many more rounds than it won that the probability of chance is 1 in
 * 40 (sign test: two standard deviations of a fair coin). */
#define ROUNDS_TO_TELL_FAR 2
#define FAR 1.25
#define ROUNDS_TO_TELL 6

typedef struct candidate {
    graph_variant variant;
    kiln_graph *graph;
    bool is_out;
    uint64_t turns[MOST_ROUNDS]; /* the median of each turn, in nanoseconds */
    uint64_t median;             /* of `turns` */
} candidate;

typedef struct search {
    capture_trial trial;
    uint64_t begin; /* on kln_now's clock */
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

/* The most promising first: if runs are long, there is no time for all. */
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

/* The graph in use comes first. Capturing the others takes at most half of the time. */
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

/* --- the race --- */

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

/* Eliminates candidates that are certainly slower. Returns how many are left. */
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
            /* The first turn rotates, so that no candidate always follows the same one. */
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

/* Signalling the end through memory costs the device a microsecond; the driver's own way costs the
 * host one or two. So the best candidate races once more against itself with the other one. */
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

/* Destroys all graphs but the best, and runs that so that its memory holds the results. */
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
    self->end = self->begin + nanoseconds / 4 * 3; /* the rest is for race_fences */
    self->candidates[0] = (candidate){.variant = kept, .graph = entry->graph};
    self->count = 1;
    entry->searched = true;
    /* Variants that copy need the memory that an earlier capture released. Without it there is
     * nothing to compare. */
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
    /* The backend is bound to the last candidate's memory, part of which has been released. */
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
