/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of rows that a batch may have: those asked for, on a GPU those that get a graph, and
 * within an optimization profile of every engine. */
#include "scheduler_parts.h"

/* --- profiles --- */

/* The range of rows of a profile; a static dimension does not limit it. */
static void rows_of_profile(const kiln_profile *profile, int32_t axis, int64_t *least,
                            int64_t *most)
{
    *least = 1;
    *most = INT64_MAX;
    for (size_t i = 0; i < profile->input_count; i++) {
        const kiln_profile_input *input = &profile->inputs[i];
        if (input->value_count == 0 && input->max.rank > axis && input->min.rank > axis) {
            *least = input->min.dims[axis] > *least ? input->min.dims[axis] : *least;
            *most = input->max.dims[axis] < *most ? input->max.dims[axis] : *most;
        }
    }
}

static bool covers(const kiln_engine *engine, int32_t axis, int64_t rows)
{
    const kiln_description *description = &engine->shared.description;
    bool covered = description->profile_count == 0;
    for (size_t i = 0; !covered && i < description->profile_count; i++) {
        int64_t least = 0;
        int64_t most = 0;
        rows_of_profile(&description->profiles[i], axis, &least, &most);
        covered = rows >= least && rows <= most;
    }
    return covered;
}

/* The most rows that any profile of the engine has, or 0. */
int64_t batch_sizes_most(const kiln_engine *engine, int32_t axis)
{
    const kiln_description *description = &engine->shared.description;
    int64_t found = 0;
    for (size_t i = 0; i < description->profile_count; i++) {
        int64_t least = 0;
        int64_t most = 0;
        rows_of_profile(&description->profiles[i], axis, &least, &most);
        found = most != INT64_MAX && most > found ? most : found;
    }
    return found;
}

int64_t batch_sizes_fill_up(const batch_sizes *sizes, int64_t rows)
{
    for (size_t i = 0; i < sizes->count; i++) {
        if (sizes->rows[i] >= rows) {
            return sizes->rows[i];
        }
    }
    return rows;
}

/* --- available sizes --- */

/* Inserts a size in order, unless it is already there or an engine does not support it. */
static void add(kiln_engine *const *engines, size_t count, int32_t axis, int64_t rows,
                batch_sizes *sizes)
{
    size_t at = 0;
    bool taken = rows >= 1 && sizes->count < MOST_SIZES;
    for (size_t i = 0; taken && i < count; i++) {
        taken = covers(engines[i], axis, rows);
    }
    while (at < sizes->count && sizes->rows[at] < rows) {
        at++;
    }
    if (taken && (at == sizes->count || sizes->rows[at] != rows)) {
        memmove(&sizes->rows[at + 1], &sizes->rows[at],
                (sizes->count - at) * sizeof sizes->rows[0]);
        sizes->rows[at] = rows;
        sizes->count++;
    }
}

/* On a GPU every size has its own graph. The limits of profiles are sizes as well. */
static void choose(const schedule_rules *rules, kiln_engine *const *engines, size_t count,
                   batch_sizes *sizes)
{
    const kiln_description *description = &engines[0]->shared.description;
    const bool on_gpu = engines[0]->shared.device >= 0;
    if (!on_gpu && description->profile_count == 0) {
        return;
    }
    add(engines, count, rules->axis, rules->max_rows, sizes);
    for (int64_t size = 1; size < rules->max_rows; size *= 2) {
        add(engines, count, rules->axis, size, sizes);
    }
    for (size_t i = 0; i < description->profile_count; i++) {
        int64_t ends[2];
        rows_of_profile(&description->profiles[i], rules->axis, &ends[0], &ends[1]);
        for (size_t k = 0; k < 2; k++) {
            const bool is_last =
                sizes->count == 0 || sizes->rows[sizes->count - 1] < rules->max_rows;
            if (ends[k] < rules->max_rows || is_last) {
                add(engines, count, rules->axis, ends[k], sizes);
            }
        }
    }
}

static kiln_status take_asked(const schedule_rules *rules, kiln_engine *const *engines,
                              size_t count, batch_sizes *sizes)
{
    for (size_t i = 0; i < rules->asked_count; i++) {
        const size_t before = sizes->count;
        add(engines, count, rules->axis, rules->asked[i], sizes);
        KLN_RETURN_IF(sizes->count == before, KILN_ERROR_INVALID_ARGUMENT,
                      "kiln_scheduler_options: batches of %lld rows were asked for, and %s",
                      (long long)rules->asked[i],
                      "not every engine has an optimization profile for them");
    }
    return KILN_OK;
}

kiln_status batch_sizes_make(const schedule_rules *rules, kiln_engine *const *engines, size_t count,
                             batch_sizes *sizes)
{
    *sizes = (batch_sizes){.count = 0};
    if (rules->axis < 0) {
        return KILN_OK;
    }
    if (rules->fixed) {
        sizes->rows[sizes->count++] = rules->fixed_rows;
        return KILN_OK;
    }
    if (rules->asked_count != 0) {
        return take_asked(rules, engines, count, sizes);
    }
    choose(rules, engines, count, sizes);
    for (size_t i = 0; i < count; i++) {
        const int64_t most = batch_sizes_most(engines[i], rules->axis);
        KLN_RETURN_IF(
            most != 0 && (sizes->count == 0 || sizes->rows[sizes->count - 1] < rules->max_rows),
            KILN_ERROR_INVALID_ARGUMENT,
            "kiln_scheduler_options: batches of %lld rows were asked for, and the "
            "engine's profile has %lld at most",
            (long long)rules->max_rows, (long long)most);
    }
    return KILN_OK;
}
