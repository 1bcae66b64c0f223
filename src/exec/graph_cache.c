/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "exec_parts.h"

/* The cache remembers entries even without their buffers and graphs, to count how often they are
 * used. Beyond this number, the least recently used entry is reused. */
#define MOST_ENTRIES 1024

/* `uses` is halved after LEAST_TO_HALVE runs plus RUNS_TO_HALVE for each entry, so that entries
 * that were used long ago give way. */
#define LEAST_TO_HALVE 1024
#define RUNS_TO_HALVE 16

/* An entry evicts another only if it is used this much more: making a graph costs as much as many
 * runs without one, and entries that are used equally often must not evict each other in turn. */
#define USED_FAR_MORE(uses, others) ((uses) > (others) + (others) / 2 + 1)

/* The estimate until the first graph has been captured. */
#define FIRST_GRAPH_BYTES ((uint64_t)256 << 10)

void graph_cache_init(graph_cache *cache, uint64_t most_bytes)
{
    *cache = (graph_cache){.most_bytes = most_bytes, .graph_bytes = FIRST_GRAPH_BYTES};
}

void graph_cache_finish(kln_exec *exec)
{
    graph_cache *cache = &exec->gpu->cache;
    graph_cache_drop_all(exec);
    for (size_t b = 0; b < GRAPH_BUCKETS; b++) {
        while (cache->buckets[b] != NULL) {
            graph_entry *entry = cache->buckets[b];
            cache->buckets[b] = entry->next;
            kln_free(entry);
        }
    }
    cache->count = 0;
}

/* --- what an entry holds --- */

void graph_cache_count(kln_exec *exec, graph_entry *entry)
{
    graph_cache *cache = &exec->gpu->cache;
    uint64_t staging = 0;
    for (size_t i = 0; entry->has_transfers && i < exec->slot_count; i++) {
        const transfer *way = &entry->transfers[i];
        staging += way->staging != NULL ? way->bytes : 0;
        staging += way->device != NULL ? way->bytes : 0;
    }
    cache->bytes -= entry->bytes;
    cache->staging_bytes -= entry->staging_bytes;
    cache->graphs -= entry->counts_graph;
    entry->staging_bytes = staging;
    entry->counts_graph = entry->graph != NULL;
    entry->bytes = staging;
    if (entry->graph != NULL) {
        cache->graph_bytes = kln_graph_bytes(entry->graph);
        entry->bytes += cache->graph_bytes;
    }
    cache->bytes += entry->bytes;
    cache->staging_bytes += staging;
    cache->graphs += entry->counts_graph;
}

void graph_cache_drop(kln_exec *exec, graph_entry *entry)
{
    exec_gpu *gpu = exec->gpu;
    kiln_graph_destroy(entry->graph);
    entry->graph = NULL;
    transfers_drop(exec, entry);
    graph_cache_count(exec, entry);
    entry->mode = ENTRY_NEW;
    entry->searched = false;
    gpu->bound = gpu->bound == entry ? NULL : gpu->bound;
    gpu->shown = gpu->shown == entry ? NULL : gpu->shown;
}

void graph_cache_drop_all(kln_exec *exec)
{
    graph_cache *cache = &exec->gpu->cache;
    for (size_t b = 0; b < GRAPH_BUCKETS; b++) {
        for (graph_entry *entry = cache->buckets[b]; entry != NULL; entry = entry->next) {
            graph_cache_drop(exec, entry);
        }
    }
}

/* --- finding --- */

static binding_key key_of(const exec_slot *slot)
{
    binding_key key = {.state = slot->state, .location = KILN_LOCATION_HOST, .shape = {.rank = -1}};
    if (slot->state != SLOT_EMPTY) {
        key.location = slot->tensor.desc.location;
        key.address = key.location != KILN_LOCATION_HOST ? slot->tensor.data : NULL;
        key.shape = slot->tensor.desc.shape;
    }
    return key;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash ^= value + UINT64_C(0x9e3779b97f4a7c15) + (hash << 6) + (hash >> 2);
    return hash * UINT64_C(0xff51afd7ed558ccd);
}

static uint64_t hash_of(const kln_exec *exec)
{
    uint64_t hash = exec->slot_count;
    for (size_t i = 0; i < exec->slot_count; i++) {
        const binding_key key = key_of(&exec->slots[i]);
        hash = mix(hash, (uint64_t)key.location);
        hash = mix(hash, (uint64_t)(uintptr_t)key.address);
        hash = mix(hash, (uint64_t)(int64_t)key.shape.rank);
        for (int32_t d = 0; d < key.shape.rank; d++) {
            hash = mix(hash, (uint64_t)key.shape.dims[d]);
        }
    }
    return hash ^ hash >> 32;
}

/* How a binding's bytes travel, as far as that affects the choice of variant: through pinned memory
 * (0), through a staging buffer that the driver can bypass (1), or not at all (2). An output that
 * is not bound is staged and stays in the staging buffer, which is pinned. */
static uint64_t travels_from(const exec_slot *slot)
{
    const kiln_location location = slot->tensor.desc.location;
    return slot->state == SLOT_EMPTY || location == KILN_LOCATION_PINNED ? 0
           : location == KILN_LOCATION_HOST                              ? 1
                                                                         : 2;
}

uint64_t graph_cache_shapes(const kln_exec *exec)
{
    uint64_t hash = exec->slot_count;
    for (size_t i = 0; i < exec->slot_count; i++) {
        const exec_slot *slot = &exec->slots[i];
        hash = mix(hash, travels_from(slot));
        const kiln_shape *shape = &slot->tensor.desc.shape;
        const bool is_input = exec_binding(exec, i)->is_input;
        for (int32_t d = 0; is_input && d < shape->rank; d++) {
            hash = mix(hash, (uint64_t)shape->dims[d]);
        }
    }
    return hash;
}

static bool fits(const kln_exec *exec, const graph_entry *entry)
{
    for (size_t i = 0; i < exec->slot_count; i++) {
        const binding_key key = key_of(&exec->slots[i]);
        const binding_key *kept = &entry->keys[i];
        if (kept->location != key.location || kept->address != key.address ||
            (kept->state == SLOT_EMPTY) != (key.state == SLOT_EMPTY) ||
            kept->shape.rank != key.shape.rank ||
            (key.shape.rank >= 0 && !kiln_shape_equal(&kept->shape, &key.shape))) {
            return false;
        }
    }
    return true;
}

static kiln_status make_entry(const kln_exec *exec, graph_entry **entry)
{
    const size_t count = exec->slot_count;
    const size_t transfers = sizeof(graph_entry);
    const size_t keys = transfers + count * sizeof(transfer);
    const size_t bytes = keys + count * sizeof(binding_key);
    graph_entry *made = kln_alloc_zeroed(1, bytes);
    KLN_RETURN_IF_NO_MEMORY(made, bytes, "a set of bindings");
    made->transfers = (void *)((unsigned char *)made + transfers);
    made->keys = (void *)((unsigned char *)made + keys);
    *entry = made;
    return KILN_OK;
}

/* Removes the least recently used entry from its bucket and empties it. */
static graph_entry *take_oldest(kln_exec *exec)
{
    graph_cache *cache = &exec->gpu->cache;
    graph_entry **oldest = NULL;
    for (size_t b = 0; b < GRAPH_BUCKETS; b++) {
        for (graph_entry **at = &cache->buckets[b]; *at != NULL; at = &(*at)->next) {
            oldest = oldest == NULL || (*at)->last_used < (*oldest)->last_used ? at : oldest;
        }
    }
    graph_entry *entry = *oldest;
    *oldest = entry->next;
    cache->count--;
    cache->evictions += entry->graph != NULL;
    graph_cache_drop(exec, entry);
    return entry;
}

kiln_status graph_cache_find(kln_exec *exec, graph_entry **found)
{
    graph_cache *cache = &exec->gpu->cache;
    const uint64_t hash = hash_of(exec);
    graph_entry **bucket = &cache->buckets[hash % GRAPH_BUCKETS];
    for (graph_entry *entry = *bucket; entry != NULL; entry = entry->next) {
        if (entry->hash == hash && fits(exec, entry)) {
            *found = entry;
            return KILN_OK;
        }
    }
    graph_entry *entry = NULL;
    if (cache->count < MOST_ENTRIES) {
        KLN_RETURN_IF_ERROR(make_entry(exec, &entry));
    } else {
        entry = take_oldest(exec);
    }
    entry->hash = hash;
    entry->uses = 0;
    for (size_t i = 0; i < exec->slot_count; i++) {
        entry->keys[i] = key_of(&exec->slots[i]);
    }
    entry->next = *bucket;
    *bucket = entry;
    cache->count++;
    *found = entry;
    return KILN_OK;
}

void graph_cache_drop_address(kln_exec *exec, const void *address)
{
    graph_cache *cache = &exec->gpu->cache;
    for (size_t b = 0; b < GRAPH_BUCKETS; b++) {
        for (graph_entry *entry = cache->buckets[b]; entry != NULL; entry = entry->next) {
            for (size_t i = 0; i < exec->slot_count; i++) {
                if (entry->keys[i].address == address) {
                    graph_cache_drop(exec, entry);
                    entry->uses = 0;
                    break;
                }
            }
        }
    }
}

/* --- use and eviction --- */

void graph_cache_use(graph_cache *cache, graph_entry *entry)
{
    entry->last_used = ++cache->clock;
    entry->uses++;
    if (cache->clock - cache->halved < LEAST_TO_HALVE + RUNS_TO_HALVE * cache->count) {
        return;
    }
    cache->halved = cache->clock;
    for (size_t b = 0; b < GRAPH_BUCKETS; b++) {
        for (graph_entry *other = cache->buckets[b]; other != NULL; other = other->next) {
            other->uses -= other->uses / 2;
        }
    }
}

/* Of the entries that hold memory, the least used one; among equals the least recently used. */
static graph_entry *find_victim(graph_cache *cache, const graph_entry *except)
{
    graph_entry *victim = NULL;
    for (size_t b = 0; b < GRAPH_BUCKETS; b++) {
        for (graph_entry *entry = cache->buckets[b]; entry != NULL; entry = entry->next) {
            if (entry != except && entry->bytes != 0 &&
                (victim == NULL || entry->uses < victim->uses ||
                 (entry->uses == victim->uses && entry->last_used < victim->last_used))) {
                victim = entry;
            }
        }
    }
    return victim;
}

/* Ordinary host memory counts twice, for the staging buffer and its counterpart on the device;
 * pinned memory counts once. The backend knows the size of outputs that are not bound. */
static kiln_status bytes_wanted(kln_exec *exec, uint64_t *wanted)
{
    *wanted = exec->gpu->cache.graph_bytes;
    for (size_t i = 0; i < exec->slot_count; i++) {
        const exec_slot *slot = &exec->slots[i];
        kiln_tensor tensor = slot->tensor;
        size_t bytes = 0;
        if (exec_has_own_value(exec, i)) {
            continue;
        }
        if (slot->state == SLOT_EMPTY) {
            KLN_RETURN_IF_ERROR(exec->shared->backend->context.output(exec->state, i, &tensor));
            tensor.desc.location = KILN_LOCATION_HOST;
        }
        KLN_RETURN_IF_ERROR(kiln_tensor_bytes(tensor.desc.dtype, &tensor.desc.shape, &bytes));
        *wanted += tensor.desc.location == KILN_LOCATION_HOST     ? 2 * (uint64_t)bytes
                   : tensor.desc.location == KILN_LOCATION_PINNED ? bytes
                                                                  : 0;
    }
    return KILN_OK;
}

kiln_status graph_cache_admit(kln_exec *exec, graph_entry *entry, bool *admitted)
{
    exec_gpu *gpu = exec->gpu;
    graph_cache *cache = &gpu->cache;
    uint64_t wanted = 0;
    *admitted = false;
    KLN_RETURN_IF_ERROR(bytes_wanted(exec, &wanted));
    if (wanted > cache->most_bytes) {
        (void)snprintf(gpu->reason, sizeof gpu->reason,
                       "staging buffers and a graph take %" PRIu64
                       " bytes, kiln_context_options.graph_bytes allows %" PRIu64,
                       wanted, cache->most_bytes);
        return KILN_OK;
    }
    while (cache->bytes - entry->bytes + wanted > cache->most_bytes) {
        graph_entry *victim = find_victim(cache, entry);
        if (victim == NULL || !USED_FAR_MORE(entry->uses, victim->uses)) {
            (void)snprintf(gpu->reason, sizeof gpu->reason,
                           "the graphs of other shapes, which are used as often, take the %" PRIu64
                           " bytes that kiln_context_options.graph_bytes allows",
                           cache->most_bytes);
            return KILN_OK;
        }
        graph_cache_drop(exec, victim);
        cache->evictions++;
    }
    *admitted = true;
    return KILN_OK;
}
