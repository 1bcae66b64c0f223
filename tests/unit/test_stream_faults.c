/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that fail or are refused, engines of fixed sizes, memory that is short. */
#include "stream_test.h"

/* Engines of fixed sizes: prompts are filled up, behind a past of one column that counts for
 * nothing; rows too. */
TEST(engines_of_fixed_sizes_are_filled_up)
{
    for (int i = 0; i < 2; i++) {
        played prompts = PLAYED(.puts_out_new = i == 1, .rows = 3, .length = 9, .past = 1);
        played steps = PLAYED(.puts_out_new = i == 1, .rows = 5, .length = 1);
        owned_engine prefill = NULL;
        assert_ok(played_engine_of(&prompts, &prefill));
        owned_generator generator = played_generator(
            &steps, KILN_GENERATOR_OPTIONS(.prefill = prefill, .max_batch = 5, .max_length = 24));
        kiln_sequence *all[14];
        kiln_sequence *refused = NULL;
        const int64_t prompt[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
        for (size_t k = 0; k < 14; k++) {
            const kiln_sequence_options how =
                KILN_SEQUENCE_OPTIONS(.max_tokens = 1 + (int64_t)(k * 5 % 15));
            assert_ok(kiln_generator_submit(generator, prompt, 1 + k % 9, &how, &all[k]));
        }
        assert_fails(KILN_ERROR_LIMIT, kiln_generator_submit(generator, prompt, 10, NULL, &refused),
                     "up to 9");
        for (size_t k = 0; k < 14; k++) {
            check_played(all[k], prompt, 1 + k % 9, 1 + k * 5 % 15);
            kiln_sequence_release(all[k]);
        }
    }
}

/* A prompt that is longer than all before it, between steps that are alike. */
TEST(memory_that_grows_is_bound_anew)
{
    played prompts = PLAYED(.puts_out_new = true);
    played steps = PLAYED(.puts_out_new = true, .rows = 5, .length = 1);
    owned_engine prefill = NULL;
    assert_ok(played_engine_of(&prompts, &prefill));
    owned_generator generator = played_generator(
        &steps, KILN_GENERATOR_OPTIONS(.prefill = prefill, .max_batch = 5, .max_length = 30));
    const int64_t prompt[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
    const size_t lengths[] = {3, 8};
    kiln_sequence *both[2];
    size_t active = 0;
    for (size_t i = 0; i < 2; i++) {
        const kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.max_tokens = 15);
        assert_ok(kiln_generator_submit(generator, prompt, lengths[i], &how, &both[i]));
        for (int k = 0; k < 7; k++) {
            assert_ok(kiln_generator_step(generator, &active));
        }
    }
    for (size_t i = 0; i < 2; i++) {
        check_played(both[i], prompt, lengths[i], 15);
        kiln_sequence_release(both[i]);
    }
}

/* --- what fails --- */

TEST(a_sequence_that_fails_spoils_no_other)
{
    for (int i = 0; i < 4; i++) {
        played self = PLAYED(.puts_out_new = i % 2 == 1);
        owned_generator generator =
            played_generator(&self, KILN_GENERATOR_OPTIONS(.max_batch = 4, .preallocate = i == 3));
        kiln_sequence *all[12];
        int64_t prompts[12][4];
        *(i < 2 ? &self.poison : &self.fails) = 9;
        for (size_t k = 0; k < 12; k++) {
            for (size_t t = 0; t < 4; t++) {
                prompts[k][t] = (int64_t)((k * 3 + t) % 8);
            }
            if (k % 4 == 1) {
                prompts[k][3] = 9;
            }
            const kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.max_tokens = 1);
            assert_ok(kiln_generator_submit(generator, prompts[k], 4, &how, &all[k]));
        }
        for (size_t k = 0; k < 12; k++) {
            if (k % 4 == 1) {
                assert_fails(i < 2 ? KILN_ERROR_INVALID_ARGUMENT : KILN_ERROR_BACKEND,
                             kiln_sequence_wait(all[k], -1), i < 2 ? "not a number" : "bad token");
            } else {
                check_played(all[k], prompts[k], 4, 1);
            }
            kiln_sequence_release(all[k]);
        }
        assert_true(counted(generator).failed == 3);
        /* Rows that come where such a one was. */
        for (int again = 0; again < 3; again++) {
            const int64_t other[] = {2, 4};
            const int64_t nine = 9;
            const kiln_sequence_options how =
                KILN_SEQUENCE_OPTIONS(.stop_tokens = &nine, .stop_token_count = 1);
            int64_t tokens[MOST_PLAYED] = {2, 4};
            size_t count = 2;
            do {
                tokens[count] = next_token(tokens, count);
            } while (tokens[count++] != 9 && count < 40);
            owned_sequence sequence = submitted_text(generator, other, 2, &how);
            check_played(sequence, other, 2, count - 2);
        }
    }
}

static kiln_status choose_badly(void *user, const float *logits, size_t vocabulary,
                                const int64_t *tokens, size_t token_count, int64_t *token)
{
    assert_int_equal(vocabulary, TOKENS);
    *token = *(const int64_t *)user;
    return token_count < 4 ? KILN_OK : KILN_ERROR_LIMIT;
}

TEST(a_sampler_of_the_callers_may_fail)
{
    played self = PLAYED(.puts_out_new = false);
    owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    int64_t chosen[] = {3, 16, -1};
    for (size_t i = 0; i < 3; i++) {
        const int64_t prompt[] = {1, 2};
        const kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.sample = choose_badly, .sample_user = &chosen[i]);
        owned_sequence sequence = submitted_text(generator, prompt, 2, &how);
        assert_fails(i == 0 ? KILN_ERROR_LIMIT : KILN_ERROR_INVALID_ARGUMENT,
                     kiln_sequence_wait(sequence, -1), "`sample`");
        const kiln_sequence_result result = sequence_result(sequence);
        assert_int_equal(result.count, i == 0 ? 2 : 0);
    }
}

typedef struct refusal {
    kiln_status status;
    const char *words;
    kiln_sequence_options how;
    size_t prompt_count;
    int64_t first; /* token of the prompt */
} refusal;

TEST(what_is_refused_is_refused_at_once)
{
    static const char *const empty[] = {"x", ""};
    const kiln_sampling hot = KILN_SAMPLING(.temperature = -1);
    const kiln_sequence_options plain = KILN_SEQUENCE_OPTIONS_INIT;
    const refusal refused[] = {
        {KILN_ERROR_INVALID_ARGUMENT, "the prompt is empty", plain, 0, 0},
        {KILN_ERROR_INVALID_ARGUMENT, "token 0 of the prompt is 16", plain, 1, 16},
        {KILN_ERROR_LIMIT, "the prompt has 40 tokens, this generator takes up to 39", plain, 40, 0},
        {KILN_ERROR_LIMIT, "room for 1 to 38", KILN_SEQUENCE_OPTIONS(.max_tokens = 39), 2, 0},
        {KILN_ERROR_INVALID_ARGUMENT, "max_tokens is -1", KILN_SEQUENCE_OPTIONS(.max_tokens = -1),
         2, 0},
        {KILN_ERROR_INVALID_ARGUMENT, "needs `detokenize`",
         KILN_SEQUENCE_OPTIONS(.stop_strings = empty, .stop_string_count = 1), 2, 0},
        {KILN_ERROR_INVALID_ARGUMENT, "stop string 1 is empty",
         KILN_SEQUENCE_OPTIONS(.stop_strings = empty, .stop_string_count = 2, .detokenize = spell),
         2, 0},
        {KILN_ERROR_NULL_ARGUMENT, "stop_tokens", KILN_SEQUENCE_OPTIONS(.stop_token_count = 1), 2,
         0},
        {KILN_ERROR_INVALID_ARGUMENT, "temperature", KILN_SEQUENCE_OPTIONS(.sampling = &hot), 2, 0},
    };
    played self = PLAYED(.puts_out_new = false);
    owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int64_t prompt[40] = {refused[i].first};
        kiln_sequence *sequence = NULL;
        assert_fails(refused[i].status,
                     kiln_generator_submit(generator, prompt, refused[i].prompt_count,
                                           &refused[i].how, &sequence),
                     refused[i].words);
        assert_null(sequence);
    }
    assert_int_equal(counted(generator).refused, sizeof refused / sizeof *refused);
}

/* --- memory --- */

static kiln_status live_and_die(void *user)
{
    played self = PLAYED(.puts_out_new = *(bool *)user);
    owned_engine engine = NULL;
    owned_generator generator = NULL;
    kiln_sequence *all[3] = {NULL};
    static const char *const stops[] = {"zzz"};
    const int64_t prompt[] = {1, 2, 3};
    /* Of several that come together each is tried again by itself. */
    const kiln_generator_options options = KILN_GENERATOR_OPTIONS(.max_batch = 1, .max_length = 12);
    kiln_status status = played_engine_of(&self, &engine);
    if (status == KILN_OK) {
        status = kiln_generator_create(engine, &options, &generator);
    }
    for (size_t i = 0; status == KILN_OK && i < 3; i++) {
        const kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.max_tokens = 4 + (int64_t)i, .stop_strings = stops,
                                  .stop_string_count = 1, .detokenize = spell);
        status = kiln_generator_submit(generator, prompt, 1 + i, &how, &all[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        if (all[i] != NULL) {
            const kiln_status ended = kiln_sequence_wait(all[i], -1);
            status = status == KILN_OK ? ended : status;
        }
        kiln_sequence_release(all[i]);
    }
    return status;
}

TEST(every_allocation_may_fail)
{
    bool puts_out_new = false;
    kiln_test_each_allocation(live_and_die, &puts_out_new);
    puts_out_new = true;
    kiln_test_each_allocation(live_and_die, &puts_out_new);
}

TEST(steps_allocate_nothing)
{
    for (int i = 0; i < 2; i++) {
        played self = PLAYED(.puts_out_new = i == 1);
        owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
        kiln_sequence *all[8];
        const int64_t prompt[] = {1, 2, 3, 4};
        uint64_t before = 0;
        for (int round = 0; round < 2; round++) {
            for (size_t k = 0; k < 8; k++) {
                const kiln_sequence_options how =
                    KILN_SEQUENCE_OPTIONS(.max_tokens = 5 + 3 * (int64_t)k, .detokenize = spell);
                assert_ok(kiln_generator_submit(generator, prompt, 1 + k % 4, &how, &all[k]));
            }
            before = kiln_test_allocations();
            size_t active = 0;
            do {
                assert_ok(kiln_generator_step(generator, &active));
            } while (active != 0);
            assert_true(round == 0 || kiln_test_allocations() == before);
            for (size_t k = 0; k < 8; k++) {
                check_played(all[k], prompt, 1 + k % 4, 5 + 3 * k);
                kiln_sequence_release(all[k]);
            }
        }
    }
}
