/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kln_base.h"

#define FIRST_CAPACITY ((size_t)16)

/* Open addressing with linear probing; at most three quarters full. */
typedef struct kln_names_slot {
    const char *key; /* NULL: free */
    uint32_t hash;
    uint32_t value;
} kln_names_slot;

static uint32_t hash_key(const char *key)
{
    const uint64_t hash = kln_hash_key(key, strlen(key));
    return (uint32_t)(hash ^ (hash >> 32));
}

void kln_names_init(kln_names *names)
{
    *names = (kln_names){.slots = NULL, .capacity = 0, .count = 0};
}

void kln_names_finish(kln_names *names)
{
    kln_free(names->slots);
    kln_names_init(names);
}

/* The slot of `key`, or the free one where it belongs. */
static kln_names_slot *find(kln_names_slot *slots, size_t capacity, const char *key, uint32_t hash)
{
    size_t index = hash & (capacity - 1);
    while (slots[index].key != NULL &&
           (slots[index].hash != hash || strcmp(slots[index].key, key) != 0)) {
        index = (index + 1) & (capacity - 1);
    }
    return &slots[index];
}

static kiln_status grow(kln_names *names)
{
    const size_t capacity = names->capacity == 0 ? FIRST_CAPACITY : names->capacity * 2;
    kln_names_slot *slots = kln_alloc_zeroed(capacity, sizeof *slots);
    if (slots == NULL) {
        return kln_fail_memory(capacity * sizeof *slots, "a table of names");
    }
    for (size_t i = 0; i < names->capacity; i++) {
        const kln_names_slot *old = &names->slots[i];
        if (old->key != NULL) {
            *find(slots, capacity, old->key, old->hash) = *old;
        }
    }
    kln_free(names->slots);
    names->slots = slots;
    names->capacity = capacity;
    return KILN_OK;
}

kiln_status kln_names_swap(kln_names *names, const char *key, uint32_t value, uint32_t *before)
{
    if ((names->count + 1) * 4 > names->capacity * 3) {
        KLN_RETURN_IF_ERROR(grow(names));
    }
    const uint32_t hash = hash_key(key);
    kln_names_slot *slot = find(names->slots, names->capacity, key, hash);
    *before = KLN_NAMES_NONE;
    if (slot->key == NULL) {
        names->count++;
    } else {
        *before = slot->value;
    }
    *slot = (kln_names_slot){.key = key, .hash = hash, .value = value};
    return KILN_OK;
}

kiln_status kln_names_set(kln_names *names, const char *key, uint32_t value)
{
    uint32_t before = 0;
    return kln_names_swap(names, key, value, &before);
}

uint32_t kln_names_get(const kln_names *names, const char *key)
{
    if (names->count == 0) {
        return KLN_NAMES_NONE;
    }
    const kln_names_slot *slot = find(names->slots, names->capacity, key, hash_key(key));
    return slot->key != NULL ? slot->value : KLN_NAMES_NONE;
}

void kln_names_forget(kln_names *names, const char *key)
{
    if (names->count > 0) {
        kln_names_slot *slot = find(names->slots, names->capacity, key, hash_key(key));
        if (slot->key != NULL) {
            slot->value = KLN_NAMES_NONE;
        }
    }
}
