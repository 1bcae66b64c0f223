/* SPDX-License-Identifier: Apache-2.0 */
/* How sequences end, and who is told. */
#include "stream_test.h"

/* The text of what follows a prompt, without an end. */
static size_t whole_text(int64_t prompt, size_t count, char *text)
{
    int64_t all[MOST_PLAYED] = {prompt};
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        all[1 + i] = next_token(all, 1 + i);
        size += (size_t)sprintf(text + size, "%s", pieces[all[1 + i]]);
    }
    return size;
}

/* What was told of a sequence. */
typedef struct heard {
    char text[1024];
    size_t size, tokens, ends;
    kiln_finish finish;
} heard;

static void hear(void *user, kiln_sequence *sequence, const kiln_token *token)
{
    heard *self = user;
    assert_int_equal(self->ends, 0);
    assert_true(self->size + token->text_size < sizeof self->text);
    if (token->text_size != 0) {
        memcpy(self->text + self->size, token->text, token->text_size);
    }
    self->size += token->text_size;
    self->tokens += token->token >= 0;
    self->ends += token->finish != KILN_FINISH_NONE;
    self->finish = token->finish;
}

/* Stop strings of every length at every place, across borders of tokens: the text ends before the
 * first of them, and nothing of it was told before. */
TEST(a_stop_string_is_found_across_tokens)
{
    enum { COUNT = 24 };
    char text[256];
    played self = PLAYED(.puts_out_new = false);
    owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    const int64_t prompt = 3;
    const size_t size = whole_text(prompt, COUNT, text);
    for (size_t length = 1; length <= 7; length++) {
        for (size_t at = 0; at + length <= size; at += 2) {
            char stop[8] = {0};
            memcpy(stop, text + at, length);
            const char *const stops[] = {"no such text", stop, "b\n\n"};
            heard told = {.size = 0};
            const kiln_sequence_options how =
                KILN_SEQUENCE_OPTIONS(.max_tokens = COUNT, .stop_strings = stops,
                                      .stop_string_count = 3, .detokenize = spell, .told = hear,
                                      .told_user = &told);
            owned_sequence sequence = submitted_text(generator, &prompt, 1, &how);
            assert_ok(kiln_sequence_wait(sequence, -1));
            const kiln_sequence_result result = sequence_result(sequence);
            const size_t first = (size_t)(strstr(text, stop) - text);
            assert_int_equal(result.finish, KILN_FINISH_TEXT);
            assert_int_equal(result.text_size, first);
            assert_memory_equal(result.text, text, first);
            assert_int_equal(result.text[first], '\0');
            assert_int_equal(told.size, first);
            assert_memory_equal(told.text, text, first);
            assert_true(told.ends == 1 && told.finish == KILN_FINISH_TEXT);
            assert_int_equal(told.tokens, result.count);
        }
    }
}

/* What might have begun a stop string and did not comes with the token that shows it; at the end
 * all of it does. */
TEST(text_that_may_be_the_beginning_of_a_stop_string_waits)
{
    char text[256];
    size_t repeats = 300; /* more than a first look has room for */
    played self = PLAYED(.puts_out_new = false);
    owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    const int64_t prompt = 1;
    const size_t size = whole_text(prompt, 10, text);
    char last[3] = {text[size - 1], '#', '\0'};
    const char *const stops[] = {last};
    for (int i = 0; i < 2; i++) {
        kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.max_tokens = i == 0 ? 10 : 3, .stop_strings = stops,
                                  .stop_string_count = 1, .detokenize = spell);
        how.detokenize_user = i == 0 ? NULL : &repeats;
        owned_sequence sequence = submitted_text(generator, &prompt, 1, &how);
        size_t seen = 0;
        kiln_token token = {.struct_size = sizeof token};
        do {
            assert_ok(kiln_sequence_next(sequence, -1, &token));
            if (i == 0) {
                assert_memory_equal(token.text, text + seen, token.text_size);
            }
            seen += token.text_size;
        } while (token.finish == KILN_FINISH_NONE);
        const kiln_sequence_result result = sequence_result(sequence);
        assert_int_equal(seen, result.text_size);
        assert_int_equal(token.finish, KILN_FINISH_LENGTH);
        assert_true(i == 0 ? seen == size : seen >= 900);
        assert_fails(KILN_ERROR_STATE, kiln_sequence_next(sequence, 0, &token), "has ended");
    }
}

TEST(a_stop_token_ends_a_sequence_and_is_its_last)
{
    played self = PLAYED(.puts_out_new = true);
    owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    int64_t all[MOST_PLAYED] = {7};
    for (size_t i = 1; i < 20; i++) {
        all[i] = next_token(all, i);
    }
    for (int64_t stop = 0; stop < TOKENS; stop++) {
        const int64_t stops[] = {-1, stop};
        const kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.max_tokens = 19, .stop_tokens = stops, .stop_token_count = 2,
                                  .detokenize = spell);
        size_t count = 1;
        while (count < 19 && all[count] != stop) {
            count++;
        }
        const bool found = all[count] == stop;
        owned_sequence sequence = submitted_text(generator, all, 1, &how);
        check_played(sequence, all, 1, count);
        const kiln_sequence_result result = sequence_result(sequence);
        assert_int_equal(result.finish, found ? KILN_FINISH_TOKEN : KILN_FINISH_LENGTH);
        assert_true(!found || strlen(pieces[stop]) <= 3);
    }
}

/* --- cancel, deadlines, the end of a generator --- */

static void cancel_at_third(void *user, kiln_sequence *sequence, const kiln_token *token)
{
    hear(user, sequence, token);
    if (token->index == 2 && token->finish == KILN_FINISH_NONE) {
        assert_ok(kiln_sequence_cancel(sequence));
    }
}

TEST(sequences_are_cancelled_while_they_wait_and_while_they_run)
{
    played self = PLAYED(.puts_out_new = false);
    owned_generator generator =
        played_generator(&self, KILN_GENERATOR_OPTIONS(.max_batch = 2, .queue_limit = 3));
    heard told[4] = {{.size = 0}};
    kiln_sequence *all[4] = {NULL};
    size_t active = 0;
    const int64_t prompt[] = {1, 2, 3};
    for (size_t i = 0; i < 3; i++) {
        const kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.max_tokens = 6, .told = i == 1 ? cancel_at_third : hear,
                                  .told_user = &told[i]);
        assert_ok(kiln_generator_submit(generator, prompt, 1 + i, &how, &all[i]));
    }
    assert_fails(KILN_ERROR_QUEUE_FULL, kiln_generator_submit(generator, prompt, 1, NULL, &all[3]),
                 "3 sequences wait");
    assert_fails(KILN_ERROR_BUSY, kiln_sequence_wait(all[0], 0), "goes on");
    assert_ok(kiln_sequence_cancel(all[2]));
    assert_true(told[2].ends == 1 && told[2].finish == KILN_FINISH_CANCELLED);
    assert_fails(KILN_ERROR_STATE, kiln_sequence_cancel(all[2]), "has ended");
    do {
        assert_ok(kiln_generator_step(generator, &active));
    } while (active != 0);
    check_played(all[0], prompt, 1, 6);
    assert_fails(KILN_ERROR_CANCELLED, kiln_sequence_wait(all[1], -1), "cancelled");
    assert_true(told[1].tokens == 3 && told[1].ends == 1);
    const kiln_generator_counters counters = counted(generator);
    assert_true(counters.done == 1 && counters.cancelled == 2 && counters.refused == 1);
    for (size_t i = 0; i < 3; i++) {
        kiln_sequence_release(all[i]);
    }
}

TEST(a_deadline_ends_a_sequence_with_what_it_has)
{
    played self = PLAYED(.puts_out_new = false);
    owned_generator generator = played_generator(&self, KILN_GENERATOR_OPTIONS_INIT);
    const int64_t prompt = 5;
    kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.deadline_nanoseconds = 1);
    owned_sequence late = submitted_text(generator, &prompt, 1, &how);
    how.deadline_nanoseconds = UINT64_MAX;
    owned_sequence sequence = submitted_text(generator, &prompt, 1, &how);
    assert_fails(KILN_ERROR_TIMEOUT, kiln_sequence_wait(late, -1), "deadline");
    check_played(sequence, &prompt, 1, 39);
    assert_true(counted(generator).expired == 1);
    /* Also while there is no room for it. */
    owned_generator full = played_generator(&self, KILN_GENERATOR_OPTIONS(.max_batch = 1));
    how.deadline_nanoseconds = 0;
    owned_sequence first = submitted_text(full, &prompt, 1, &how);
    assert_ok(kiln_generator_step(full, NULL));
    how.deadline_nanoseconds = 1;
    owned_sequence waits = submitted_text(full, &prompt, 1, &how);
    assert_ok(kiln_generator_step(full, NULL));
    assert_fails(KILN_ERROR_TIMEOUT, kiln_sequence_wait(waits, 0), "deadline");
    assert_true(counted(full).running == 1);
}

TEST(sequences_outlive_their_generator)
{
    played self = PLAYED(.puts_out_new = true);
    for (int steps = 0; steps < 3; steps++) {
        heard told[2] = {{.size = 0}};
        kiln_sequence *all[2] = {NULL};
        const int64_t prompt = 5;
        kiln_generator *generator = played_generator(&self, KILN_GENERATOR_OPTIONS(.max_batch = 1));
        for (size_t i = 0; i < 2; i++) {
            const kiln_sequence_options how =
                KILN_SEQUENCE_OPTIONS(.told = hear, .told_user = &told[i]);
            assert_ok(kiln_generator_submit(generator, &prompt, 1, &how, &all[i]));
        }
        for (int i = 0; i < steps; i++) {
            assert_ok(kiln_generator_step(generator, NULL));
        }
        kiln_generator_destroy(generator);
        for (size_t i = 0; i < 2; i++) {
            assert_true(told[i].ends == 1 && told[i].finish == KILN_FINISH_CANCELLED);
            const kiln_sequence_result result = sequence_result(all[i]);
            assert_int_equal(result.count, i == 0 && steps != 0 ? steps + 1 : 0);
            assert_fails(KILN_ERROR_CANCELLED, kiln_sequence_wait(all[i], -1), "destroyed");
            kiln_sequence_release(all[i]);
        }
    }
}

/* --- threads --- */

typedef struct caller {
    kiln_generator *generator;
    unsigned seed;
} caller;

static void *call(void *user)
{
    caller *self = user;
    for (int round = 0; round < 12; round++) {
        const int64_t prompt[] = {(int64_t)self->seed % TOKENS, round % TOKENS, 3};
        const size_t count = 1 + (self->seed + (unsigned)round) % 3;
        const kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.max_tokens = 2 + round, .detokenize = spell);
        owned_sequence sequence = submitted_text(self->generator, prompt, count, &how);
        if (round % 4 == 3) {
            const bool ended = kiln_sequence_cancel(sequence) != KILN_OK;
            const kiln_status came = kiln_sequence_wait(sequence, -1);
            assert_true(came == (ended ? KILN_OK : KILN_ERROR_CANCELLED) || came == KILN_OK);
        } else if (round % 2 == 0) {
            kiln_token token = {.struct_size = sizeof token};
            int64_t tokens = 0;
            do {
                assert_ok(kiln_sequence_next(sequence, 10000, &token));
                tokens++;
            } while (token.finish == KILN_FINISH_NONE);
            assert_int_equal(tokens, 2 + round);
            check_played(sequence, prompt, count, (size_t)(2 + round));
        } else {
            check_played(sequence, prompt, count, (size_t)(2 + round));
        }
    }
    return NULL;
}

TEST(many_threads_share_a_generator)
{
    for (int i = 0; i < 2; i++) { /* with a thread of its own, and by those who wait */
        played self = PLAYED(.puts_out_new = i == 1);
        owned_generator generator =
            played_generator(&self, KILN_GENERATOR_OPTIONS(.thread = i == 0));
        caller callers[6];
        for (unsigned k = 0; k < 6; k++) {
            callers[k] = (caller){generator, k};
        }
        kiln_test_in_threads(6, call, callers, sizeof *callers);
        const kiln_generator_counters counters = counted(generator);
        assert_true(counters.submitted == 72 && counters.failed == 0);
        if (i == 0) {
            assert_fails(KILN_ERROR_BUSY, kiln_generator_step(generator, NULL), "thread");
        }
    }
}
