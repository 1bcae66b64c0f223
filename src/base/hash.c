/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/auxv.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kln_base.h"

uint64_t kln_hash(const void *data, size_t size, uint64_t seed)
{
    const unsigned char *byte = data;
    uint64_t hash = seed;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

/* Reads a little-endian word. */
static uint64_t word_at(const unsigned char *byte)
{
    uint64_t word = 0;
    memcpy(&word, byte, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* --- hashes of files --- */

uint64_t kln_hash_bytes(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

struct kln_hasher {
    XXH3_state_t state;
};

kln_hasher *kln_hasher_create(void)
{
    kln_hasher *hasher = kln_alloc_aligned(sizeof *hasher, _Alignof(kln_hasher));
    if (hasher != NULL) {
        (void)XXH3_64bits_reset(&hasher->state);
    }
    return hasher;
}

void kln_hasher_add(kln_hasher *hasher, const void *data, size_t size)
{
    (void)XXH3_64bits_update(&hasher->state, data, size);
}

uint64_t kln_hasher_value(const kln_hasher *hasher)
{
    return XXH3_64bits_digest(&hasher->state);
}

void kln_hasher_digest(const kln_hasher *hasher, uint64_t digest[2])
{
    const XXH128_hash_t hash = XXH3_128bits_digest(&hasher->state);
    digest[0] = hash.high64;
    digest[1] = hash.low64;
}

/* --- hashes of keys --- */

static uint64_t secret[2];
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

/* Shortly after boot there may be no randomness yet, and a sandbox may forbid the call; but the
 * kernel gives every process 16 random bytes at its start. */
static void make_secret(void)
{
    if (getrandom(secret, sizeof secret, GRND_NONBLOCK) == (ssize_t)sizeof secret) {
        return;
    }
    const unsigned char *given = (const unsigned char *)(uintptr_t)getauxval(AT_RANDOM);
    static const unsigned char nothing[16] = {0};
    const uint64_t salt[2] = {kln_now(), (uint64_t)(uintptr_t)&secret_once};
    const unsigned char *from = given != NULL ? given : nothing;
    for (size_t i = 0; i < 2; i++) {
        uint64_t key[2] = {salt[i], i};
        secret[i] = kln_siphash(key, from, 16);
    }
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t kln_siphash(const uint64_t key[2], const void *data, size_t size)
{
    uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                     key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
    const unsigned char *byte = data;
    const size_t whole = size - size % 8;
    for (size_t i = 0; i < whole; i += 8) {
        const uint64_t word = word_at(byte + i);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)size << 56;
    for (size_t i = whole; i < size; i++) {
        last |= (uint64_t)byte[i] << (i - whole) * 8;
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t kln_hash_key(const void *data, size_t size)
{
    (void)pthread_once(&secret_once, make_secret);
    return kln_siphash(secret, data, size);
}
