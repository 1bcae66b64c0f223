/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes, and names that were chosen to collide. */
#include "base/kln_base.h"
#include "kiln_test.h"

/* As hash(bytes) of CPython 3.11 and later gives them with PYTHONHASHSEED=0. */
TEST(siphash_is_what_others_compute)
{
    static const struct {
        const char *text;
        uint64_t hash;
    } known[] = {{"a", UINT64_C(0x407448d2b89b1813)},
                 {"ab", UINT64_C(0x555508cbc6add439)},
                 {"abcdefg", UINT64_C(0x6db12aae9070f506)},
                 {"abcdefgh", UINT64_C(0x3f7b849c0b8e35ea)},
                 {"hello, this is a longer name", UINT64_C(0x3cf08eff2c07aa97)}};
    static const uint64_t zero[2] = {0, 0};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(known); i++) {
        assert_true(known[i].hash == kln_siphash(zero, known[i].text, strlen(known[i].text)));
    }
}

TEST(each_process_has_its_own_hash)
{
    char self[512] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof self - 16) > 0);
    (void)strcat(self, " hash");
    FILE *other = popen(self, "r");
    assert_non_null(other);
    char line[64] = "";
    assert_non_null(fgets(line, sizeof line, other));
    assert_int_equal(0, pclose(other));
    char own[64];
    (void)snprintf(own, sizeof own, "%016llx\n", (unsigned long long)kln_hash_key("x", 1));
    assert_int_equal(strlen(own), strlen(line));
    assert_string_not_equal(own, line);
    assert_true(kln_hash_key("x", 1) == kln_hash_key("x", 1));
}

/* --- names that were chosen to collide --- */

#define MOST_GROWTH 9.0 /* as in test_growth.c */
#define CHOSEN 4000
#define CHOSEN_BITS 13 /* of a table that holds as many */

static uint32_t folded(const char *name)
{
    const uint64_t hash = kln_hash(name, strlen(name), KLN_HASH_SEED);
    return (uint32_t)(hash ^ (hash >> 32)) & ((1U << CHOSEN_BITS) - 1);
}

static void choose_names(char (*names)[16], bool colliding)
{
    unsigned trial = 0;
    for (size_t i = 0; i < CHOSEN; i++) {
        do {
            (void)memcpy(names[i], "n00000000", 10);
            unsigned digits = trial++;
            for (size_t k = 8; k > 0; k--, digits >>= 4) {
                names[i][k] = (char)('a' + (digits & 15U));
            }
        } while (colliding && folded(names[i]) != 0);
    }
}

static double time_of_names(char (*names)[16])
{
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        const double start = kiln_test_seconds();
        kln_names table = {0};
        for (uint32_t i = 0; i < CHOSEN; i++) {
            assert_ok(kln_names_set(&table, names[i], i));
        }
        for (uint32_t i = 0; i < CHOSEN; i++) {
            assert_int_equal(i, kln_names_get(&table, names[i]));
        }
        kln_names_finish(&table);
        best = kiln_test_seconds() - start < best ? kiln_test_seconds() - start : best;
    }
    return best;
}

TEST(chosen_names_cost_no_more)
{
    static char plain[CHOSEN][16];
    static char chosen[CHOSEN][16];
    choose_names(plain, false);
    choose_names(chosen, true);
    const double usual = time_of_names(plain);
    const double collided = time_of_names(chosen);
    if (collided > usual * MOST_GROWTH) {
        fail_msg("names chosen to collide took %.1f ms, others %.1f ms", collided * 1e3,
                 usual * 1e3);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "hash") == 0) {
        printf("%016llx\n", (unsigned long long)kln_hash_key("x", 1));
        return 0;
    }
    return kiln_test_run();
}
