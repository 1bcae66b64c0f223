/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kln_base.h"

#define FIRST_CAPACITY ((size_t)16)

/* Open addressing with linear probing; at most three quarters full. */
typedef struct kln_keys_slot {
    kln_key key; /* text[0] is NULL where the slot is free */
    uint64_t hash;
    uint32_t value;
} kln_keys_slot;

static uint64_t hash_key(const kln_key *key)
{
    uint64_t parts[KLN_KEY_TEXTS + 1];
    for (size_t i = 0; i < KLN_KEY_TEXTS; i++) {
        parts[i] = kln_hash_key(key->text[i], strlen(key->text[i]));
    }
    memcpy(&parts[KLN_KEY_TEXTS], &key->number, sizeof key->number);
    return kln_hash_key(parts, sizeof parts);
}

static bool same(const kln_key *a, const kln_key *b)
{
    bool equal = a->number == b->number;
    for (size_t i = 0; i < KLN_KEY_TEXTS && equal; i++) {
        equal = a->text[i] == b->text[i] || strcmp(a->text[i], b->text[i]) == 0;
    }
    return equal;
}

void kln_keys_init(kln_keys *keys)
{
    *keys = (kln_keys){.slots = NULL, .capacity = 0, .count = 0};
}

void kln_keys_finish(kln_keys *keys)
{
    kln_free(keys->slots);
    kln_keys_init(keys);
}

/* The slot of `key`, or the free one where it belongs. */
static kln_keys_slot *find(kln_keys_slot *slots, size_t capacity, const kln_key *key, uint64_t hash)
{
    size_t index = (size_t)hash & (capacity - 1);
    while (slots[index].key.text[0] != NULL &&
           (slots[index].hash != hash || !same(&slots[index].key, key))) {
        index = (index + 1) & (capacity - 1);
    }
    return &slots[index];
}

static kiln_status grow(kln_keys *keys)
{
    const size_t capacity = keys->capacity == 0 ? FIRST_CAPACITY : keys->capacity * 2;
    kln_keys_slot *slots = kln_alloc_zeroed(capacity, sizeof *slots);
    if (slots == NULL) {
        return kln_fail_memory(capacity * sizeof *slots, "a table of names");
    }
    for (size_t i = 0; i < keys->capacity; i++) {
        const kln_keys_slot *old = &keys->slots[i];
        if (old->key.text[0] != NULL) {
            *find(slots, capacity, &old->key, old->hash) = *old;
        }
    }
    kln_free(keys->slots);
    keys->slots = slots;
    keys->capacity = capacity;
    return KILN_OK;
}

kiln_status kln_keys_set(kln_keys *keys, const kln_key *key, uint32_t value)
{
    if ((keys->count + 1) * 4 > keys->capacity * 3) {
        KLN_RETURN_IF_ERROR(grow(keys));
    }
    const uint64_t hash = hash_key(key);
    kln_keys_slot *slot = find(keys->slots, keys->capacity, key, hash);
    keys->count += slot->key.text[0] == NULL ? 1 : 0;
    *slot = (kln_keys_slot){.key = *key, .hash = hash, .value = value};
    return KILN_OK;
}

uint32_t kln_keys_get(const kln_keys *keys, const kln_key *key)
{
    if (keys->count == 0) {
        return KLN_NAMES_NONE;
    }
    const kln_keys_slot *slot = find(keys->slots, keys->capacity, key, hash_key(key));
    return slot->key.text[0] != NULL ? slot->value : KLN_NAMES_NONE;
}
