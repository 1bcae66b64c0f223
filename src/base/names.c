/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_base.h"

#define FIRST_CAPACITY ((size_t)16)

/* Open addressing with linear probing; at most three quarters full. */
typedef struct kln_names_slot {
    const void *key; /* a string or a kln_key; NULL if the slot is free */
    uint32_t hash;
    uint32_t value;
} kln_names_slot;

/* --- one table for both kinds of keys --- */

typedef bool same_key(const void *a, const void *b);

static uint32_t fold(uint64_t hash)
{
    return (uint32_t)(hash ^ (hash >> 32));
}

/* The slot of `key`, or the free slot where it would go. */
static inline kln_names_slot *find(const kln_names *names, const void *key, uint32_t hash,
                                   same_key *same)
{
    size_t index = hash & (names->capacity - 1);
    while (names->slots[index].key != NULL &&
           (names->slots[index].hash != hash || !same(names->slots[index].key, key))) {
        index = (index + 1) & (names->capacity - 1);
    }
    return &names->slots[index];
}

static bool never_same(const void *a, const void *b)
{
    (void)a;
    (void)b;
    return false;
}

static kiln_status grow(kln_names *names)
{
    kln_names grown = {.capacity = names->capacity == 0 ? FIRST_CAPACITY : names->capacity * 2,
                       .count = names->count};
    KLN_NEW(grown.slots, grown.capacity, "a table of names");
    for (size_t i = 0; i < names->capacity; i++) {
        const kln_names_slot *old = &names->slots[i];
        if (old->key != NULL) {
            *find(&grown, old->key, old->hash, never_same) = *old;
        }
    }
    kln_free(names->slots);
    *names = grown;
    return KILN_OK;
}

static inline kiln_status make_room(kln_names *names)
{
    return (names->count + 1) * 4 <= names->capacity * 3 ? KILN_OK : grow(names);
}

/* --- strings --- */

static bool same_name(const void *a, const void *b)
{
    return a == b || strcmp(a, b) == 0;
}

uint32_t kln_names_hash(const char *key)
{
    return fold(kln_hash_key(key, strlen(key)));
}

void kln_names_finish(kln_names *names)
{
    kln_free(names->slots);
    *names = (kln_names){.slots = NULL};
}

kiln_status kln_names_swap_hashed(kln_names *names, const char *key, uint32_t hash, uint32_t value,
                                  uint32_t *before)
{
    KLN_RETURN_IF_ERROR(make_room(names));
    kln_names_slot *slot = find(names, key, hash, same_name);
    *before = slot->key != NULL ? slot->value : KLN_NAMES_NONE;
    names->count += slot->key == NULL ? 1 : 0;
    *slot = (kln_names_slot){.key = key, .hash = hash, .value = value};
    return KILN_OK;
}

kiln_status kln_names_swap(kln_names *names, const char *key, uint32_t value, uint32_t *before)
{
    return kln_names_swap_hashed(names, key, kln_names_hash(key), value, before);
}

kiln_status kln_names_set(kln_names *names, const char *key, uint32_t value)
{
    uint32_t before = 0;
    return kln_names_swap(names, key, value, &before);
}

uint32_t kln_names_get_hashed(const kln_names *names, const char *key, uint32_t hash)
{
    if (names->count == 0) {
        return KLN_NAMES_NONE;
    }
    const kln_names_slot *slot = find(names, key, hash, same_name);
    return slot->key != NULL ? slot->value : KLN_NAMES_NONE;
}

uint32_t kln_names_get(const kln_names *names, const char *key)
{
    return names->count == 0 ? KLN_NAMES_NONE
                             : kln_names_get_hashed(names, key, kln_names_hash(key));
}

void kln_names_forget(kln_names *names, const char *key)
{
    if (names->count > 0) {
        kln_names_slot *slot = find(names, key, kln_names_hash(key), same_name);
        if (slot->key != NULL) {
            slot->value = KLN_NAMES_NONE;
        }
    }
}

/* --- several strings and a number --- */

static uint32_t hash_parts(const kln_key *key)
{
    uint64_t parts[KLN_KEY_TEXTS + 1];
    for (size_t i = 0; i < KLN_KEY_TEXTS; i++) {
        parts[i] = kln_hash_key(key->text[i], strlen(key->text[i]));
    }
    memcpy(&parts[KLN_KEY_TEXTS], &key->number, sizeof key->number);
    return fold(kln_hash_key(parts, sizeof parts));
}

static bool same_parts(const void *a, const void *b)
{
    const kln_key *one = a;
    const kln_key *other = b;
    bool equal = one->number == other->number;
    for (size_t i = 0; i < KLN_KEY_TEXTS && equal; i++) {
        equal = same_name(one->text[i], other->text[i]);
    }
    return equal;
}

void kln_keys_finish(kln_keys *keys)
{
    kln_names_finish(&keys->table);
    kln_arena_finish(&keys->arena);
}

kiln_status kln_keys_set(kln_keys *keys, const kln_key *key, uint32_t value)
{
    KLN_RETURN_IF_ERROR(make_room(&keys->table));
    const uint32_t hash = hash_parts(key);
    kln_names_slot *slot = find(&keys->table, key, hash, same_parts);
    if (slot->key == NULL) {
        kln_key *kept = kln_arena_alloc(&keys->arena, sizeof *kept);
        KLN_RETURN_IF_NO_MEMORY(kept, sizeof *kept, "a key");
        *kept = *key;
        *slot = (kln_names_slot){.key = kept, .hash = hash};
        keys->table.count++;
    }
    slot->value = value;
    return KILN_OK;
}

uint32_t kln_keys_get(const kln_keys *keys, const kln_key *key)
{
    if (keys->table.count == 0) {
        return KLN_NAMES_NONE;
    }
    const kln_names_slot *slot = find(&keys->table, key, hash_parts(key), same_parts);
    return slot->key != NULL ? slot->value : KLN_NAMES_NONE;
}
