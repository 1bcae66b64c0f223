/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that are begun with tokens that the device chose, on a GPU that the fake driver plays. */
#include "fake_cuda_test.h"
#include "stream/stream_parts.h"
#include "stream_test.h"

#define SEQUENCES 40
#define POISON 9

static unsigned next_random(unsigned *state, unsigned below)
{
    *state = *state * 1664525U + 1013904223U;
    return (*state >> 8) % below;
}

typedef struct asked {
    kiln_sequence *sequence;
    int64_t prompt[12], stop;
    size_t length, wanted;
    size_t told;
} asked;

static void note(void *user, kiln_sequence *sequence, const kiln_token *token)
{
    asked *one = user;
    assert_int_equal(token->index, one->told);
    one->told += token->token >= 0;
}

static void submit(kiln_generator *generator, asked *one, unsigned *random)
{
    one->length = 1 + next_random(random, 12);
    one->wanted = 1 + next_random(random, 26);
    one->stop = (int64_t)next_random(random, TOKENS * 4); /* mostly none */
    for (size_t i = 0; i < one->length; i++) {
        one->prompt[i] = next_random(random, TOKENS);
    }
    const kiln_sequence_options how =
        KILN_SEQUENCE_OPTIONS(.max_tokens = (int64_t)one->wanted, .stop_tokens = &one->stop,
                              .stop_token_count = 1, .told = note, .told_user = one);
    assert_ok(kiln_generator_submit(generator, one->prompt, one->length, &how, &one->sequence));
}

/* A sequence has the tokens that the model says, up to its stop token, its length or its cancel. */
static void check(asked *one)
{
    const kiln_status status = kiln_sequence_wait(one->sequence, -1);
    const kiln_sequence_result result = sequence_result(one->sequence);
    int64_t all[MOST_PLAYED];
    size_t count = one->length;
    memcpy(all, one->prompt, count * sizeof *all);
    do {
        all[count] = next_token(all, count);
        count++;
    } while (all[count - 1] != one->stop && count < one->length + one->wanted);
    assert_true(status == KILN_OK || result.finish == KILN_FINISH_CANCELLED);
    assert_true(result.count <= count - one->length);
    assert_true(status != KILN_OK || result.count == count - one->length);
    assert_memory_equal(result.tokens, all + one->length, result.count * sizeof *all);
    assert_int_equal(one->told, result.count);
    kiln_sequence_release(one->sequence);
}

/* Sequences that come, stop and are cancelled at random; all of them, so that a generator of
 * `max_batch` rows is full now and then. */
static kiln_generator_counters run_many(kiln_generator *generator, unsigned seed)
{
    static asked all[SEQUENCES];
    size_t count = 0;
    size_t active = 0;
    memset(all, 0, sizeof all);
    do {
        if (next_random(&seed, 4) == 0) {
            for (unsigned n = next_random(&seed, 6); n > 0 && count < SEQUENCES; n--) {
                submit(generator, &all[count++], &seed);
            }
        }
        if (count > 0 && next_random(&seed, 30) == 0) {
            (void)!kiln_sequence_cancel(all[next_random(&seed, (unsigned)count)].sequence);
        }
        assert_ok(kiln_generator_step(generator, &active));
    } while (active != 0 || count < SEQUENCES);
    for (size_t i = 0; i < count; i++) {
        check(&all[i]);
    }
    return counted(generator);
}

FAKE_TEST(tokens_are_those_of_steps_that_wait)
{
    for (unsigned i = 0; i < 24; i++) {
        played self =
            PLAYED(.on_gpu = true, .puts_out_new = true, .candidates = 3, .ties = i % 3 == 2);
        const bool waits = i % 6 == 1;
        later_count = 0;
        owned_generator generator = played_generator(
            &self, KILN_GENERATOR_OPTIONS(.max_batch = 1 + i % 5, .preallocate = i % 2 == 1,
                                          .no_ahead = waits));
        const kiln_generator_counters counters = run_many(generator, 5 + i);
        assert_true(waits ? counters.ahead == 0 : counters.ahead > counters.steps / 4);
        assert_true(counters.rows + SEQUENCES >= counters.tokens);
    }
}

/* The step under way was begun with another token: it is made again. */
FAKE_TEST(a_tie_that_candidates_do_not_tell_is_told_by_the_logits)
{
    static const int64_t prompt[] = {1, 2, 3};
    played self = PLAYED(.on_gpu = true, .puts_out_new = true, .candidates = 2, .ties = true);
    later_count = 0;
    owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    kiln_sequence *sequence = NULL;
    const kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.max_tokens = 30);
    assert_ok(kiln_generator_submit(generator, prompt, 3, &how, &sequence));
    check_played(sequence, prompt, 3, 30);
    kiln_sequence_release(sequence);
    const kiln_generator_counters counters = counted(generator);
    assert_true(counters.ahead > 10 && counters.steps > 29);
    assert_int_equal(counters.rows, 29);
}

/* Nothing is begun ahead where the device does not know the tokens. */
FAKE_TEST(only_greedy_sequences_go_ahead)
{
    static const int64_t prompt[] = {1, 2, 3};
    const kiln_sampling samplings[] = {
        KILN_SAMPLING(.temperature = 0.01F, .top_k = 1),
        KILN_SAMPLING(.temperature = 0.01F, .top_k = 2),
        KILN_SAMPLING(.repetition_penalty = 1.01F),
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(samplings); i++) {
        played self = PLAYED(.on_gpu = true, .puts_out_new = true, .candidates = 3);
        later_count = 0;
        owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
        kiln_sequence *sequence = NULL;
        const kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.max_tokens = 12, .sampling = &samplings[i]);
        assert_ok(kiln_generator_submit(generator, prompt, 3, &how, &sequence));
        check_played(sequence, prompt, 3, 12);
        kiln_sequence_release(sequence);
        assert_int_equal(counted(generator).ahead, i == 0 ? 10 : 0);
    }
}

/* With a step under way: it is destroyed, a run fails, a row is no numbers. */
FAKE_TEST(what_is_under_way_ends_with_its_generator)
{
    static const int64_t prompt[] = {1, 2, 3};
    played self = PLAYED(.on_gpu = true, .puts_out_new = true, .candidates = 3);
    later_count = 0;
    kiln_generator *generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    kiln_sequence *sequence = NULL;
    assert_ok(kiln_generator_submit(generator, prompt, 3, NULL, &sequence));
    for (int i = 0; i < 3; i++) {
        assert_ok(kiln_generator_step(generator, NULL));
    }
    assert_int_equal(generator->under_way, 1);
    kiln_generator_destroy(generator);
    assert_status(KILN_ERROR_CANCELLED, kiln_sequence_wait(sequence, 0));
    kiln_sequence_release(sequence);
}

/* With a token whose keys are no numbers: one more where others follow it in the prompt, and else
 * up to it. */
static void check_poisoned(kiln_sequence *sequence, const int64_t *prompt, size_t length)
{
    int64_t all[MOST_PLAYED];
    size_t count = length;
    size_t most = 20;
    (void)!kiln_sequence_wait(sequence, -1);
    memcpy(all, prompt, length * sizeof *all);
    for (size_t i = 0; i < length; i++) {
        most = prompt[i] == POISON ? i + 1 < length : most;
    }
    while (count < length + most) {
        all[count] = next_token(all, count);
        most = all[count] == POISON ? count + 1 - length : most;
        count++;
    }
    const kiln_sequence_result result = sequence_result(sequence);
    assert_int_equal(result.count, most);
    assert_memory_equal(result.tokens, all + length, most * sizeof *all);
    assert_int_equal(result.finish, most == 20 ? KILN_FINISH_LENGTH : KILN_FINISH_FAILED);
    kiln_sequence_release(sequence);
}

FAKE_TEST(rows_that_are_no_numbers_spoil_no_other)
{
    for (unsigned i = 0; i < 24; i++) {
        played self =
            PLAYED(.on_gpu = true, .puts_out_new = true, .candidates = 3, .poison = POISON);
        int64_t prompts[8][4];
        kiln_sequence *all[8];
        later_count = 0;
        owned_generator generator = played_generator(
            &self, KILN_GENERATOR_OPTIONS(.preallocate = i % 2 == 1, .no_ahead = i % 4 > 1));
        for (size_t k = 0; k < 8; k++) {
            const kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.max_tokens = 20);
            for (size_t t = 0; t < 4; t++) {
                prompts[k][t] = (int64_t)((k * 5 + t * 3 + i) % 13);
            }
            assert_ok(kiln_generator_submit(generator, prompts[k], 4 - k % 3, &how, &all[k]));
        }
        for (size_t k = 0; k < 8; k++) {
            check_poisoned(all[k], prompts[k], 4 - k % 3);
        }
    }
}

FAKE_TEST(steps_ahead_allocate_nothing)
{
    static const int64_t prompt[] = {1, 2, 3, 4};
    played self = PLAYED(.on_gpu = true, .puts_out_new = true, .candidates = 3);
    later_count = 0;
    owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    for (int round = 0; round < 4; round++) {
        kiln_sequence *all[4];
        size_t active = 0;
        for (size_t k = 0; k < 4; k++) {
            const kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.max_tokens = 20);
            assert_ok(kiln_generator_submit(generator, prompt, 1 + k, &how, &all[k]));
        }
        assert_ok(kiln_generator_step(generator, &active)); /* prompts */
        const uint64_t before = kiln_test_allocations();
        while (active != 0) {
            assert_ok(kiln_generator_step(generator, &active));
        }
        assert_true(round < 3 || kiln_test_allocations() == before);
        for (size_t k = 0; k < 4; k++) {
            check_played(all[k], prompt, 1 + k, 20);
            kiln_sequence_release(all[k]);
        }
    }
}

/* --- profiles of steps --- */

TEST(steps_run_by_the_profile_that_is_made_for_the_nearest_width)
{
    stream_step steps[] = {
        {.limits = {.profile = 3, .least_past = 256, .best_past = 256, .most_past = 256}},
        {.limits = {.profile = 1, .least_past = 64, .best_past = 64, .most_past = 64}},
        {.limits = {.profile = 2, .least_past = 100, .best_past = 128, .most_past = 160}},
    };
    stream_model model = {.steps = steps, .step_count = 3};
    static const struct {
        int64_t columns, width;
        size_t step;
    } cases[] = {{1, 64, 1},    {64, 64, 1},   {65, 100, 2},
                 {160, 160, 2}, {161, 256, 0}, {256, 256, 0}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        assert_int_equal(stream_width_taken(&model, cases[i].columns), cases[i].width);
        assert_ptr_equal(stream_step_for(&model, cases[i].width), &steps[cases[i].step]);
    }
    steps[0].limits.least_past = 1; /* one for all, and two for some */
    assert_int_equal(stream_width_taken(&model, 65), 65);
    assert_ptr_equal(stream_step_for(&model, 65), &steps[0]);
    assert_ptr_equal(stream_step_for(&model, 129), &steps[2]);
}
