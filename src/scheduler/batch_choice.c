/* SPDX-License-Identifier: Apache-2.0 */
/* Decides whether a batch runs whole, padded to the next size, or split into a smaller size now and
 * the rest afterwards; in which context; and whether a busy context with the right profile is worth
 * waiting for. The decisions rest on measured times, each a moving mean in which the last run
 * counts an eighth. A time without enough measurements decides nothing. */
#include "scheduler_parts.h"

#define WEIGHT 8
#define ENOUGH 4 /* measurements */

/* For the measured number of joined rows: every LOOK_AGAIN batches one of the sizes is measured
 * again, in rotation. A larger size wins if each of its rows takes at most a twentieth longer,
 * because fewer batches then answer the requests. */
#define LOOK_AGAIN 32
#define TOLERANCE 20
/* In nanoseconds: for shorter runs the number of rows is not measured, as the overhead around them
 * takes longer. */
#define QUICK 200000

static void add_time(mean_time *time, uint64_t nanoseconds)
{
    const int64_t difference = (int64_t)(nanoseconds - time->mean);
    const int64_t weight = time->count < WEIGHT ? (int64_t)time->count + 1 : WEIGHT;
    time->mean = (uint64_t)((int64_t)time->mean + difference / weight);
    time->count += time->count < UINT32_MAX;
}

static const mean_time *time_of(const engine_pool *pool, int64_t rows)
{
    static const mean_time unknown = {0, 0};
    for (size_t i = 0; i < pool->sizes.count; i++) {
        if (pool->sizes.rows[i] == rows) {
            return &pool->runs[i];
        }
    }
    return &unknown;
}

/* The least time measured, per row. */
static uint64_t least_of(const joined_times *joined, size_t size)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < JOINED_TIMES && i < joined->seen[size]; i++) {
        least = joined->took[size][i] < least ? joined->took[size][i] : least;
    }
    return least >> size;
}

int64_t batch_join_rows(const kiln_scheduler *scheduler, const kiln_request *like)
{
    const joined_times *joined = &scheduler->pool->joined;
    const int64_t most = scheduler->rules.join_rows;
    uint64_t least = UINT64_MAX;
    size_t count = 0;
    if (!scheduler->rules.join_measured || joined->quick != 0 ||
        (joined->batches != 0 && like->likeness != joined->likeness)) {
        return most;
    }
    for (; count < JOINED_SIZES && INT64_C(1) << count <= most; count++) {
        if (joined->seen[count] < ENOUGH) {
            return INT64_C(1) << count;
        }
        const uint64_t own = least_of(joined, count);
        least = own < least ? own : least;
    }
    size_t best = count - 1;
    while (least_of(joined, best) > least + least / TOLERANCE) {
        best--;
    }
    const bool looks = joined->batches % LOOK_AGAIN == 0;
    return INT64_C(1) << (looks ? joined->batches / LOOK_AGAIN % count : best);
}

static void measure_joined(joined_times *joined, const seat *at, const batch_outcome *outcome)
{
    const int64_t rows = count_rows(at->requests, at->request_count);
    const uint64_t likeness = at->requests[0]->likeness;
    joined->quick = outcome->ran < QUICK ? LOOK_AGAIN : joined->quick - (joined->quick != 0);
    if (joined->quick != 0 || !at->timed) {
        return;
    }
    joined->likeness = joined->batches == 0 ? likeness : joined->likeness;
    for (size_t k = 0; k < JOINED_SIZES && likeness == joined->likeness; k++) {
        if (rows == INT64_C(1) << k) {
            joined->took[k][joined->seen[k]++ % JOINED_TIMES] = outcome->processor;
            joined->batches++;
        }
    }
}

void batch_measure(const kiln_scheduler *scheduler, const seat *at, const batch_outcome *outcome)
{
    /* Engines that have been replaced are no longer measured. */
    engine_pool *pool = scheduler->pool;
    const bool whole = outcome->runs == 1 && !outcome->retried;
    if (whole && at->pool == pool && scheduler->rules.join_measured) {
        measure_joined(&pool->joined, at, outcome);
    }
    for (size_t i = 0; whole && at->pool == pool && i < pool->sizes.count; i++) {
        mean_time *run = &pool->runs[i];
        if (pool->sizes.rows[i] != at->filled) {
            continue;
        }
        if (!at->switched) {
            add_time(run, outcome->ran);
        } else if (run->count >= ENOUGH) {
            add_time(&pool->switching, outcome->ran > run->mean ? outcome->ran - run->mean : 0);
        }
    }
}

/* --- how many rows --- */

/* The largest size below `rows` that the first requests fill exactly, or 0. */
static int64_t full_size_below(const seat *at, int64_t rows, size_t *count)
{
    const batch_sizes *sizes = &at->pool->sizes;
    int64_t here = 0;
    int64_t found = 0;
    for (size_t i = 0; i < at->request_count; i++) {
        here += at->requests[i]->rows;
        if (here < rows && batch_sizes_fill_up(sizes, here) == here) {
            found = here;
            *count = i + 1;
        }
    }
    return found;
}

/* Splits off one full run if it and a run of the rest take less time than a padded one. */
static void split(seat *at, int64_t rows)
{
    size_t count = 0;
    const engine_pool *pool = at->pool;
    const int64_t part = at->filled > rows ? full_size_below(at, rows, &count) : 0;
    if (part == 0) {
        return;
    }
    const mean_time *whole = time_of(pool, at->filled);
    const mean_time *first = time_of(pool, part);
    const mean_time *rest = time_of(pool, batch_sizes_fill_up(&pool->sizes, rows - part));
    if (whole->count >= ENOUGH && first->count >= ENOUGH && rest->count >= ENOUGH &&
        first->mean + rest->mean < whole->mean) {
        at->request_count = count;
        at->filled = part;
    }
}

/* --- which context --- */

/* A free context of the same engine that has the profile, else one that has no profile yet.
 * `*ends`: when the first busy one with the profile is expected to end. */
static seat *find_other(const seat *at, int32_t profile, uint64_t now, uint64_t *ends)
{
    const engine_pool *pool = at->pool;
    seat *fresh = NULL;
    *ends = UINT64_MAX;
    for (size_t i = 0; i < pool->count; i++) {
        seat *other = pool->seats[i];
        const bool is_free = !other->busy && !other->wanted && other->engine == at->engine;
        fresh = is_free && other->profile < 0 ? other : fresh;
        if (other->engine != at->engine || other->profile != profile || other->wanted) {
            continue;
        }
        if (is_free) {
            return other;
        }
        const mean_time *run = time_of(pool, other->filled);
        const uint64_t end = other->begun + run->mean;
        if (run->count >= ENOUGH && end > now && end < *ends) {
            *ends = end;
        }
    }
    return fresh;
}

static seat *move(seat *from, seat *to)
{
    for (size_t i = 0; i < from->request_count; i++) {
        to->requests[i] = from->requests[i];
    }
    to->request_count = from->request_count;
    to->filled = from->filled;
    from->request_count = 0;
    return to;
}

static seat *choose_context(const kiln_scheduler *scheduler, seat *at, uint64_t now, uint64_t *due)
{
    const mean_time *switching = &at->pool->switching;
    uint64_t ends = UINT64_MAX;
    if (at->engine->shared.description.profile_count < 2) {
        return at;
    }
    const int32_t profile =
        batch_profile_find(&scheduler->rules, at->engine, at->requests[0], at->filled, at->profile);
    if (profile < 0 || profile == at->profile || at->profile < 0) {
        at->switched = false;
        at->profile = profile >= 0 ? profile : at->profile;
        return at;
    }
    seat *other = find_other(at, profile, now, &ends);
    if (other != NULL) {
        other->switched = false;
        other->profile = profile;
        return move(at, other);
    }
    if (switching->count >= ENOUGH && ends != UINT64_MAX && ends - now < switching->mean) {
        *due = ends;
        return NULL;
    }
    at->switched = true;
    at->profile = profile;
    return at;
}

seat *batch_choose(const kiln_scheduler *scheduler, seat *at, uint64_t now, uint64_t *due)
{
    const schedule_rules *rules = &scheduler->rules;
    const engine_pool *pool = at->pool;
    const int64_t rows = count_rows(at->requests, at->request_count);
    const bool apart = scheduler->apart && !rules->fixed;
    at->switched = false;
    at->filled =
        apart ? rows
              : batch_profile_fill_up(rules, &pool->sizes, at->engine, at->requests[0], rows);
    if (!apart && at->request_count > 1) {
        split(at, rows);
    }
    return choose_context(scheduler, at, now, due);
}
