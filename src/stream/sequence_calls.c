/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's functions for a sequence. */
#include "stream_parts.h"

/* Called with the lock held. */
static bool has_next(const kiln_sequence *sequence)
{
    return sequence->read < sequence->count - sequence->prompt_count ||
           (sequence->state == SEQUENCE_ENDED && !sequence->read_end);
}

static kiln_status show_next(kiln_sequence *sequence, kiln_token *token)
{
    const size_t generated = sequence->count - sequence->prompt_count;
    const bool more = sequence->read < generated;
    const bool ended = sequence->state == SEQUENCE_ENDED;
    const size_t from = sequence->read > 0 ? sequence->ends[sequence->read - 1] : 0;
    kiln_token next = {.struct_size = sizeof next, .token = -1, .index = sequence->read};
    size_t to = sequence->certain;
    /* A sequence that ended without a further token reports its end separately. */
    const bool is_last = ended && sequence->read + 1 == generated + sequence->adds_end;
    if (more) {
        next.token = sequence->tokens[sequence->prompt_count + sequence->read];
        to = sequence->ends[sequence->read];
    }
    if (sequence->options.detokenize != NULL) {
        sequence->shown.size = 0;
        KLN_RETURN_IF_ERROR(
            kln_text_append(&sequence->shown, sequence->text.data + from, to - from));
        next.text = sequence->shown.data;
        next.text_size = to - from;
    }
    if (is_last) {
        next.finish = sequence->finish;
        sequence->read_end = true;
    }
    sequence->read += more;
    return kln_info_write("kiln_token", token, &next, sizeof next);
}

kiln_status kiln_sequence_next(kiln_sequence *sequence, int64_t milliseconds, kiln_token *token)
{
    KLN_RETURN_IF_NULL(sequence, token);
    kiln_generator *generator = sequence->generator;
    KLN_RETURN_IF_ERROR(kln_forks_check(generator->forks, __func__, "generator"));
    const uint64_t until = kln_deadline(milliseconds);
    kiln_status status = KILN_OK;
    (void)pthread_mutex_lock(&sequence->generator->lock);
    bool waits = milliseconds != 0;
    while (!has_next(sequence) && !sequence->read_end && waits) {
        waits = generator_wait(generator, until);
    }
    if (sequence->read_end) {
        status = kln_fail(KILN_ERROR_STATE,
                          "kiln_sequence_next: the sequence has ended, and its last token, which "
                          "had a `finish`, was given");
    } else if (!has_next(sequence)) {
        status = kln_fail(KILN_ERROR_BUSY, "kiln_sequence_next: there is no further token yet");
    } else {
        status = show_next(sequence, token);
    }
    (void)pthread_mutex_unlock(&generator->lock);
    return status;
}

kiln_status kiln_sequence_wait(kiln_sequence *sequence, int64_t milliseconds)
{
    KLN_RETURN_IF_NULL(sequence);
    kiln_generator *generator = sequence->generator;
    KLN_RETURN_IF_ERROR(kln_forks_check(generator->forks, __func__, "generator"));
    const uint64_t until = kln_deadline(milliseconds);
    (void)pthread_mutex_lock(&sequence->generator->lock);
    bool waits = milliseconds != 0;
    while (sequence->state != SEQUENCE_ENDED && waits) {
        waits = generator_wait(generator, until);
    }
    const bool ended = sequence->state == SEQUENCE_ENDED;
    const kiln_status status = sequence->status;
    (void)pthread_mutex_unlock(&generator->lock);
    KLN_RETURN_IF(!ended, KILN_ERROR_BUSY, "kiln_sequence_wait: the sequence goes on");
    return status == KILN_OK ? KILN_OK : kln_fail(status, "%s", sequence->sentence);
}

kiln_status kiln_sequence_get_result(kiln_sequence *sequence, kiln_sequence_result *result)
{
    KLN_RETURN_IF_NULL(sequence, result);
    kln_text *text = &sequence->text;
    kiln_sequence_result found = {.struct_size = sizeof found, .text = ""};
    (void)pthread_mutex_lock(&sequence->generator->lock);
    const bool ended = sequence->state == SEQUENCE_ENDED;
    if (ended && text->data != NULL) {
        text->size = sequence->certain;
        text->data[text->size] = '\0';
        found.text = text->data;
        found.text_size = text->size;
    }
    found.finish = sequence->finish;
    found.tokens = sequence->tokens + sequence->prompt_count;
    found.count = sequence->count - sequence->prompt_count;
    (void)pthread_mutex_unlock(&sequence->generator->lock);
    return ended ? kln_info_write("kiln_sequence_result", result, &found, sizeof found)
                 : kln_fail(KILN_ERROR_STATE,
                            "kiln_sequence_get_result: the sequence goes on; wait for its end "
                            "(kiln_sequence_wait)");
}

void kiln_sequence_release(kiln_sequence *sequence)
{
    if (sequence != NULL && sequence->generator->forks == kln_forks()) {
        sequence_release(sequence);
    }
}
