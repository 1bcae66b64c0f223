/* SPDX-License-Identifier: Apache-2.0 */
/* The cache on a GPU that the fake driver plays. */
#include "fake_cuda_test.h"
#include "stream/stream_parts.h"
#include "stream_test.h"

#define POISON 9

static unsigned next_random(unsigned *state, unsigned below)
{
    *state = *state * 1664525U + 1013904223U;
    return (*state >> 8) % below;
}

/* Sequences that come at random; how many rows a step had. */
static void run_many(kiln_generator *generator, unsigned seed)
{
    kiln_sequence *all[48];
    int64_t prompts[48][16];
    size_t lengths[48];
    size_t wanted[48];
    size_t count = 0;
    size_t active = 0;
    do {
        for (unsigned n = next_random(&seed, 4); n > 0 && count < KLN_ARRAY_LENGTH(all); n--) {
            lengths[count] = 1 + next_random(&seed, 12);
            wanted[count] = 1 + next_random(&seed, 24);
            for (size_t i = 0; i < lengths[count]; i++) {
                prompts[count][i] = next_random(&seed, TOKENS);
            }
            const kiln_sequence_options how =
                KILN_SEQUENCE_OPTIONS(.max_tokens = (int64_t)wanted[count]);
            assert_ok(kiln_generator_submit(generator, prompts[count], lengths[count], &how,
                                            &all[count]));
            count++;
        }
        assert_ok(kiln_generator_step(generator, &active));
    } while (active != 0 || count < KLN_ARRAY_LENGTH(all));
    for (size_t i = 0; i < count; i++) {
        check_played(all[i], prompts[i], lengths[i], wanted[i]);
        kiln_sequence_release(all[i]);
    }
}

static void run_each_layout(void)
{
    for (int i = 0; i < 3; i++) {
        played self = PLAYED(.on_gpu = true, .puts_out_new = i > 0);
        later_count = 0;
        owned_generator generator =
            played_generator(&self, KILN_GENERATOR_OPTIONS(.max_batch = 5, .preallocate = i == 2));
        kiln_generator_counters counters = {.struct_size = sizeof counters};
        run_many(generator, 11 + (unsigned)i);
        assert_ok(kiln_generator_get_counters(generator, &counters));
        assert_true(counters.done == 48 && counters.moved_bytes > 0);
        assert_true(i == 0 ? counters.padding == 0 : counters.padding > 0);
    }
}

FAKE_TEST(keys_and_values_stay_on_the_device)
{
    run_each_layout();
}

FAKE_TEST(a_driver_without_kernels_copies_row_by_row)
{
    kln_cuda_close();
    set("KILN_CUDA_DRIVER", FAKE_CUDA_PLAIN);
    assert_ok(kln_cuda_open());
    run_each_layout();
}

/* All of it is read at each step, and all that is in use is moved when a width is full. */
FAKE_TEST(a_past_is_little_wider_than_what_it_has)
{
    static const int64_t prompt[4] = {1, 2, 3, 4};
    const size_t steps = 240;
    played self = PLAYED(.on_gpu = true, .puts_out_new = true);
    later_count = 0;
    owned_generator generator =
        played_generator(&self, KILN_GENERATOR_OPTIONS(.max_batch = 1, .max_length = 250));
    kiln_sequence *sequence = NULL;
    const kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.max_tokens = (int64_t)steps);
    assert_ok(kiln_generator_submit(generator, prompt, 4, &how, &sequence));
    check_played(sequence, prompt, 4, steps);
    kiln_sequence_release(sequence);
    assert_in_range(self.in_vain, 1, 32);
    const uint64_t column = 2 * 4 * sizeof(float); /* of two heads */
    assert_true(counted(generator).moved_bytes <= 8 * 250 * column);
}

/* As a profile for steps may want it. */
FAKE_TEST(a_past_is_no_narrower_than_the_engine_takes)
{
    static const int64_t prompt[4] = {1, 2, 3, 4};
    played self = PLAYED(.on_gpu = true, .puts_out_new = true);
    later_count = 0;
    owned_generator generator =
        played_generator(&self, KILN_GENERATOR_OPTIONS(.max_batch = 1, .max_length = 250));
    kiln_sequence *sequence = NULL;
    const kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.max_tokens = 3);
    generator->model.steps[0].limits.least_past = 48;
    assert_ok(kiln_generator_submit(generator, prompt, 4, &how, &sequence));
    check_played(sequence, prompt, 4, 3);
    kiln_sequence_release(sequence);
    assert_int_equal(self.in_vain, 48 - 4);
}

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
        played self = PLAYED(.on_gpu = true, .puts_out_new = i % 3 != 0, .poison = POISON);
        int64_t prompts[8][4];
        kiln_sequence *all[8];
        later_count = 0;
        owned_generator generator =
            played_generator(&self, KILN_GENERATOR_OPTIONS(.preallocate = i % 3 == 1));
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

FAKE_TEST(rows_are_copied_at_any_alignment)
{
    static unsigned char from[4096];
    static unsigned char to[4096];
    owned_stream stream = stream_on(0);
    for (size_t i = 0; i < sizeof from; i++) {
        from[i] = (unsigned char)(i * 31 + i / 256);
    }
    for (size_t bytes = 1; bytes <= 48; bytes++) {
        kln_cuda_rows blocks[40];
        memset(to, 0, sizeof to);
        for (size_t b = 0; b < KLN_ARRAY_LENGTH(blocks); b++) {
            blocks[b] = (kln_cuda_rows){.to = to + b * 100,
                                        .from = from + b * 96,
                                        .to_step = 50,
                                        .from_step = 48,
                                        .bytes = b == 7 ? 0 : bytes,
                                        .count = b == 9 ? 0 : 2};
        }
        assert_ok(kln_cuda_copy_rows(stream, blocks, KLN_ARRAY_LENGTH(blocks)));
        assert_ok(kiln_stream_synchronize(stream));
        for (size_t b = 0; b < KLN_ARRAY_LENGTH(blocks); b++) {
            const size_t copied = b == 7 || b == 9 ? 0 : bytes;
            for (size_t i = 0; i < 100; i++) {
                const bool is = i % 50 < copied;
                assert_int_equal(to[b * 100 + i], is ? from[b * 96 + i / 50 * 48 + i % 50] : 0);
            }
        }
    }
    const kln_cuda_rows large = {to, from, 0, 0, 1, SIZE_MAX / 2};
    assert_fails(KILN_ERROR_SIZE, kln_cuda_copy_rows(stream, &large, 1), "rows of 1 byte");
}
