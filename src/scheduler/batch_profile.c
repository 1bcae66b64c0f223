/* SPDX-License-Identifier: Apache-2.0 */
/* Optimization profiles: which of them fits a batch. */
#include "scheduler_parts.h"

/* Whether a batch of requests like `request` fits a profile with `rows` rows (0: any number).
 * `*most` is the most rows it allows. */
static bool fits(const schedule_rules *rules, const kiln_profile *profile,
                 const kiln_request *request, int64_t rows, int64_t *most)
{
    bool fit = true;
    *most = INT64_MAX;
    for (size_t i = 0; fit && i < rules->input_count; i++) {
        const kiln_profile_input *range = NULL;
        const kiln_shape *shape = &request->shapes[i];
        for (size_t k = 0; k < profile->input_count && range == NULL; k++) {
            range = strcmp(profile->inputs[k].name, rules->bindings[i].name) == 0
                        ? &profile->inputs[k]
                        : NULL;
        }
        const bool is_range = range != NULL && range->value_count == 0;
        for (int32_t d = 0; is_range && fit && d < shape->rank && d < range->max.rank; d++) {
            const int64_t size = d == rules->axis ? rows : shape->dims[d];
            fit = (d == rules->axis && rows == 0) ||
                  (size >= range->min.dims[d] && size <= range->max.dims[d]);
            *most = d == rules->axis && range->max.dims[d] < *most ? range->max.dims[d] : *most;
        }
    }
    return fit;
}

int64_t batch_profile_most(const schedule_rules *rules, const kiln_engine *engine,
                           const kiln_request *request)
{
    const kiln_description *description = &engine->shared.description;
    int64_t found = 0;
    for (size_t i = 0; description->profile_count > 1 && i < description->profile_count; i++) {
        int64_t most = 0;
        if (fits(rules, &description->profiles[i], request, 0, &most) && most > found) {
            found = most;
        }
    }
    return found > 0 && found < rules->max_rows ? found : rules->max_rows;
}

int32_t batch_profile_find(const schedule_rules *rules, const kiln_engine *engine,
                           const kiln_request *request, int64_t rows, int32_t current)
{
    const kiln_description *description = &engine->shared.description;
    const int32_t count = (int32_t)description->profile_count;
    int64_t most = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t candidate = (i + (current > 0 ? current : 0)) % count;
        if (fits(rules, &description->profiles[candidate], request, rows, &most)) {
            return candidate;
        }
    }
    return -1;
}

int64_t batch_profile_fill_up(const schedule_rules *rules, const batch_sizes *sizes,
                              const kiln_engine *engine, const kiln_request *request, int64_t rows)
{
    const int64_t least = batch_sizes_fill_up(sizes, rows);
    if (engine->shared.description.profile_count < 2) {
        return least;
    }
    for (size_t i = 0; i < sizes->count; i++) {
        if (sizes->rows[i] >= rows &&
            batch_profile_find(rules, engine, request, sizes->rows[i], 0) >= 0) {
            return sizes->rows[i];
        }
    }
    return least;
}
