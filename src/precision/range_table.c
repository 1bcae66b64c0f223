/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <math.h>

#include "kln_precision.h"

struct kiln_range_table {
    kln_arena arena; /* names, and lists that have been outgrown */
    kiln_range *ranges;
    size_t count, capacity;
    kln_names names;
    const char *header;
    kln_products *products;
};

kiln_status kiln_range_table_create(kiln_range_table **table)
{
    KLN_RETURN_IF_NULL(table);
    KLN_NEW(*table, 1, "a table of ranges");
    (*table)->header = KILN_CACHE_HEADER;
    return KILN_OK;
}

void kiln_range_table_destroy(kiln_range_table *table)
{
    if (table != NULL) {
        while (table->products != NULL) {
            kln_products *next = table->products->next;
            kln_products_destroy(table->products);
            table->products = next;
        }
        kln_names_finish(&table->names);
        kln_arena_finish(&table->arena);
        kln_free(table);
    }
}

static kiln_status check(const kiln_range *range)
{
    KLN_RETURN_IF(range->name[0] == '\0', KILN_ERROR_NAME, "a range needs the name of a tensor");
    if (!isfinite(range->low) || !isfinite(range->high) || range->low > range->high ||
        !isfinite(range->least) || !isfinite(range->greatest) || range->least > range->greatest) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "tensor \"%s\": a range is two finite numbers, the lower one first; this "
                        "is %g to %g, seen %g to %g",
                        range->name, range->low, range->high, range->least, range->greatest);
    }
    for (size_t i = 0; i < range->channel_count; i++) {
        const kiln_channel *c = &range->channels[i];
        if (!isfinite(c->least) || !isfinite(c->greatest) || c->least > c->greatest ||
            !isfinite(c->mean) || !isfinite(c->deviation) || c->deviation < 0) {
            return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                            "tensor \"%s\": channel %zu goes from %g to %g, with a mean of %g and "
                            "a deviation of %g; finite numbers are needed",
                            range->name, i, c->least, c->greatest, c->mean, c->deviation);
        }
    }
    return KILN_OK;
}

static kiln_status copy_channels(kiln_range_table *table, const kiln_range *from,
                                 kiln_channel **made)
{
    KLN_ARENA_NEW(&table->arena, *made, from->channel_count, "the channels of a range");
    memcpy(*made, from->channels, from->channel_count * sizeof **made);
    return KILN_OK;
}

kiln_status kiln_range_table_put(kiln_range_table *table, const kiln_range *range)
{
    KLN_RETURN_IF_NULL(table, range);
    kiln_range copy;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_range", range, &copy, sizeof copy));
    KLN_RETURN_IF_NULL(range->name);
    if (range->channel_count != 0) {
        KLN_RETURN_IF_NULL(range->channels);
    }
    KLN_RETURN_IF_ERROR(check(range));
    uint32_t index = kln_names_get(&table->names, range->name);
    kiln_channel *channels = NULL;
    if (range->channel_count != 0) {
        KLN_RETURN_IF_ERROR(copy_channels(table, range, &channels));
    }
    copy.channels = channels;
    if (table->ranges == NULL || index >= table->count) {
        index = (uint32_t)table->count;
        KLN_RETURN_IF_ERROR(KLN_GROW(&table->arena, table->ranges, table->count, table->capacity));
        copy.name = kln_arena_strdup(&table->arena, range->name);
        KLN_RETURN_IF_NO_MEMORY(copy.name, strlen(range->name), "the name of a range");
        KLN_RETURN_IF_ERROR(kln_names_set(&table->names, copy.name, index));
        table->count++;
    } else {
        copy.name = table->ranges[index].name;
    }
    table->ranges[index] = copy;
    return KILN_OK;
}

kiln_status kiln_range_table_set(kiln_range_table *table, const char *name, double low, double high)
{
    KLN_RETURN_IF_NULL(table, name);
    const kiln_range range =
        KILN_RANGE(.name = name, .low = low, .high = high, .least = low, .greatest = high);
    return kiln_range_table_put(table, &range);
}

const kiln_range *kiln_range_table_find(const kiln_range_table *table, const char *name)
{
    const uint32_t index =
        table != NULL && name != NULL ? kln_names_get(&table->names, name) : KLN_NAMES_NONE;
    return index != KLN_NAMES_NONE ? &table->ranges[index] : NULL;
}

size_t kiln_range_table_count(const kiln_range_table *table)
{
    return table != NULL ? table->count : 0;
}

const kiln_range *kiln_range_table_at(const kiln_range_table *table, size_t index)
{
    return index < kiln_range_table_count(table) ? &table->ranges[index] : NULL;
}

bool kln_ranges_have_channels(const kiln_range_table *table)
{
    bool found = false;
    for (size_t i = 0; !found && i < kiln_range_table_count(table); i++) {
        found = table->ranges[i].channel_count != 0;
    }
    return found;
}

kiln_status kln_ranges_take_products(kiln_range_table *table, kln_products *products)
{
    const char *name = kln_arena_strdup(&table->arena, products->patch.input);
    if (name == NULL) {
        return kln_fail_memory(strlen(products->patch.input), "the name of a tensor");
    }
    products->patch.input = name;
    products->next = table->products;
    table->products = products;
    return KILN_OK;
}

const kln_products *kln_ranges_products(const kiln_range_table *table, const kln_patch *patch)
{
    const kln_products *found = table != NULL ? table->products : NULL;
    while (found != NULL && !kln_patch_equals(&found->patch, patch)) {
        found = found->next;
    }
    return found;
}

/* Combines the mean and deviation of two samples into those of one. */
static void merge_channel(kiln_channel *into, uint64_t count, const kiln_channel *other,
                          uint64_t other_count)
{
    const double share = (double)other_count / ((double)count + (double)other_count);
    const double apart = other->mean - into->mean;
    const double square = into->deviation * into->deviation * (1 - share) +
                          other->deviation * other->deviation * share +
                          apart * apart * share * (1 - share);
    into->least = fmin(into->least, other->least);
    into->greatest = fmax(into->greatest, other->greatest);
    into->mean += apart * share;
    into->deviation = sqrt(square);
}

static kiln_status merge_channels(kiln_range_table *table, const kiln_range *mine,
                                  kiln_range *merged)
{
    if (mine->channel_count == 0 || merged->channel_count == 0) {
        merged->channels = merged->channel_count == 0 ? mine->channels : merged->channels;
        merged->channel_count =
            merged->channel_count == 0 ? mine->channel_count : merged->channel_count;
        return KILN_OK;
    }
    if (mine->channel_count != merged->channel_count || mine->count == 0 || merged->count == 0) {
        return KILN_OK;
    }
    const kiln_channel *other = merged->channels;
    kiln_channel *into = NULL;
    KLN_RETURN_IF_ERROR(copy_channels(table, mine, &into));
    merged->channels = into;
    for (size_t i = 0; i < merged->channel_count; i++) {
        merge_channel(&into[i], mine->count, &other[i], merged->count);
    }
    return KILN_OK;
}

kiln_status kiln_range_table_merge(kiln_range_table *table, const kiln_range_table *other)
{
    KLN_RETURN_IF_NULL(table, other);
    for (size_t i = 0; i < other->count; i++) {
        kiln_range merged = other->ranges[i];
        const kiln_range *mine = kiln_range_table_find(table, merged.name);
        if (mine != NULL) {
            merged.low = fmin(merged.low, mine->low);
            merged.high = fmax(merged.high, mine->high);
            merged.least = fmin(merged.least, mine->least);
            merged.greatest = fmax(merged.greatest, mine->greatest);
            KLN_RETURN_IF_ERROR(merge_channels(table, mine, &merged));
            merged.count += mine->count;
            merged.nans += mine->nans;
            merged.infinities += mine->infinities;
        }
        KLN_RETURN_IF_ERROR(kiln_range_table_put(table, &merged));
    }
    return KILN_OK;
}

/* --- the header --- */

const char *kiln_range_table_header(const kiln_range_table *table)
{
    return table != NULL ? table->header : NULL;
}

/* "TRT-", digits, "-", letters and digits. */
static bool is_header(const char *text)
{
    const char *at = text + 4;
    if (strncmp(text, "TRT-", 4) != 0 || !isdigit((unsigned char)*at)) {
        return false;
    }
    while (isdigit((unsigned char)*at)) {
        at++;
    }
    if (*at != '-' || at[1] == '\0') {
        return false;
    }
    do {
        at++;
    } while (isalnum((unsigned char)*at));
    return *at == '\0' && at - text < 128;
}

kiln_status kiln_range_table_set_header(kiln_range_table *table, const char *header)
{
    KLN_RETURN_IF_NULL(table, header);
    KLN_RETURN_IF(!is_header(header), KILN_ERROR_INVALID_ARGUMENT,
                  "the header of a calibration cache is like " KILN_CACHE_HEADER
                  ", this is \"%.100s\"",
                  header);
    const char *copy = kln_arena_strdup(&table->arena, header);
    KLN_RETURN_IF_NO_MEMORY(copy, strlen(header), "the header of a calibration cache");
    table->header = copy;
    return KILN_OK;
}

/* --- files --- */
