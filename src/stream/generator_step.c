/* SPDX-License-Identifier: Apache-2.0 */
/* A step: sequences leave and join, and each gets a token. */
#include <stdio.h>

#include "stream_parts.h"

/* --- leaving --- */

/* Ends a sequence that was cancelled or has passed its deadline. */
static bool end_if_due(kiln_sequence *sequence, uint64_t now)
{
    const uint64_t deadline = sequence->options.deadline_nanoseconds;
    if (atomic_load(&sequence->cancelled)) {
        sequence_end(sequence, KILN_FINISH_CANCELLED, KILN_ERROR_CANCELLED,
                     "the sequence was cancelled");
        return true;
    }
    if (deadline != 0 && now >= deadline) {
        sequence_end(sequence, KILN_FINISH_EXPIRED, KILN_ERROR_TIMEOUT,
                     "the sequence's deadline passed");
        return true;
    }
    return false;
}

/* Removes the first waiting sequence whose deadline has passed; NULL if there is none. */
static kiln_sequence *take_expired(kiln_generator *self, uint64_t now)
{
    kiln_sequence *before = NULL;
    KLN_LOCKED(&self->lock);
    kiln_sequence *at = self->first;
    while (at != NULL &&
           (at->options.deadline_nanoseconds == 0 || now < at->options.deadline_nanoseconds)) {
        before = at;
        at = at->next;
    }
    if (at != NULL) {
        *(before != NULL ? &before->next : &self->first) = at->next;
        self->last_waiting = self->last_waiting == at ? before : self->last_waiting;
        at->next = NULL;
    }
    return at;
}

static void end_those_that_are_due(kiln_generator *self)
{
    const uint64_t now = kln_now();
    kiln_sequence *expired = NULL;
    while ((expired = take_expired(self, now)) != NULL) {
        (void)end_if_due(expired, now);
    }
    for (int64_t i = 0; i < self->row_count; i++) {
        if (self->rows[i] != NULL && end_if_due(self->rows[i], now)) {
            self->rows[i] = NULL;
        }
    }
}

static void fail_all(kiln_sequence **sequences, int64_t count, kiln_status status)
{
    char sentence[KLN_MESSAGE_SIZE];
    (void)snprintf(sentence, sizeof sentence, "%s", kiln_error_message());
    for (int64_t i = 0; i < count; i++) {
        if (sequences[i] != NULL) {
            sequence_end(sequences[i], KILN_FINISH_FAILED, status, sentence);
            sequences[i] = NULL;
        }
    }
}

static void fail_rows(kiln_generator *self, kiln_status status)
{
    fail_all(self->rows, self->row_count, status);
    self->row_count = 0;
}

static int64_t count_live(const kiln_generator *self)
{
    int64_t live = 0;
    for (int64_t i = 0; i < self->row_count; i++) {
        live += self->rows[i] != NULL;
    }
    return live;
}

/* Moves the last rows into the places of those that have left. */
static kiln_status close_gaps(kiln_generator *self)
{
    for (int64_t i = 0; i < self->row_count; i++) {
        while (self->row_count > 0 && self->rows[self->row_count - 1] == NULL) {
            self->row_count--;
        }
        if (i < self->row_count && self->rows[i] == NULL) {
            const int64_t last = self->row_count - 1;
            KLN_RETURN_IF_ERROR(stream_cache_move(self, last, i));
            self->rows[i] = self->rows[last];
            self->lengths[i] = self->lengths[last];
            self->rows[last] = NULL;
        }
    }
    return KILN_OK;
}

/* --- tokens --- */

/* Gives the sequence its next token, from row `row` of the last run; false if that ended it, and it
 * may have been freed. */
static bool give_token(kiln_generator *self, int64_t row, kiln_sequence *sequence)
{
    int64_t token = 0;
    const kiln_status status = stream_run_choose(self, row, sequence, &token);
    if (status != KILN_OK) {
        sequence_end(sequence, KILN_FINISH_FAILED, status, kiln_error_message());
        return false;
    }
    return sequence_add(sequence, token);
}

/* --- joining --- */

/* Takes waiting sequences, first come first served, that can join the batch. */
static int64_t take_waiting(kiln_generator *self, int64_t room)
{
    int64_t count = 0;
    kiln_sequence *before = NULL;
    KLN_LOCKED(&self->lock);
    kiln_sequence **at = &self->first;
    while (*at != NULL && count < room) {
        kiln_sequence *sequence = *at;
        if (count == 0 || self->model.ragged || stream_alike(self, self->group[0], sequence)) {
            *at = sequence->next;
            self->last_waiting = self->last_waiting == sequence ? before : self->last_waiting;
            sequence->next = NULL;
            sequence->state = SEQUENCE_RUNNING;
            self->group[count++] = sequence;
            self->counters.waiting--;
            self->counters.running++;
        } else {
            before = sequence;
            at = &sequence->next;
        }
    }
    return count;
}

/* Leaves out those that end before they start. */
static int64_t drop_due(kiln_sequence **group, int64_t count)
{
    const uint64_t now = kln_now();
    int64_t left = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!end_if_due(group[i], now)) {
            group[left++] = group[i];
        }
    }
    return left;
}

static void take_row(kiln_generator *self, int64_t row, kiln_sequence *sequence)
{
    self->rows[row] = sequence;
    self->lengths[row] = sequence != NULL ? (int64_t)sequence->prompt_count : 0;
    self->row_count = row < self->row_count ? self->row_count : row + 1;
}

static int64_t free_row(const kiln_generator *self)
{
    int64_t row = 0;
    while (row < self->row_count && self->rows[row] != NULL) {
        row++;
    }
    return row;
}

/* Assigns rows to the sequences that go on after their first token. Kept tensors stay in the row
 * where the run wrote them. */
static kiln_status seat_group(kiln_generator *self, kiln_sequence **group, int64_t count,
                              const stream_made *made, bool empty)
{
    const int64_t base = self->row_count;
    if (empty) {
        KLN_RETURN_IF_ERROR(stream_cache_adopt(self, made));
    }
    for (int64_t i = 0; i < count; i++) {
        const bool stays = empty || self->model.kept_count != 0;
        const int64_t row = stays ? base + i : free_row(self);
        if (group[i] != NULL && !empty) {
            KLN_RETURN_IF_ERROR(
                stream_cache_place(self, made, i, (int64_t)group[i]->prompt_count, row));
        }
        if (group[i] != NULL || stays) {
            take_row(self, row, group[i]);
            group[i] = NULL;
        }
    }
    return KILN_OK;
}

/* Zeroes unused rows after NaN or infinity appeared, before another sequence takes them. */
static kiln_status clear_poison(kiln_generator *self)
{
    if (!self->poisoned) {
        return KILN_OK;
    }
    self->poisoned = false;
    return stream_cache_clear(self);
}

/* Runs prompts together. On an error the caller still owns the sequences that are left in the
 * group. */
static kiln_status prefill(kiln_generator *self, kiln_sequence **group, int64_t count)
{
    stream_made made;
    const bool empty = count_live(self) == 0;
    self->row_count = empty ? 0 : self->row_count;
    KLN_RETURN_IF_ERROR(stream_run_prefill(self, group, count, &made));
    for (int64_t i = 0; i < count; i++) {
        group[i] = give_token(self, i, group[i]) ? group[i] : NULL;
    }
    KLN_RETURN_IF_ERROR(seat_group(self, group, count, &made, empty));
    return clear_poison(self);
}

/* If several fail together, each runs again alone, so that a bad one does not spoil the others. */
static void prefill_or_fail(kiln_generator *self, kiln_sequence **group, int64_t count)
{
    kiln_status status = prefill(self, group, count);
    if (status == KILN_OK) {
        return;
    }
    const int64_t each = count > 1 ? count : 0;
    if (each == 0) {
        fail_all(group, count, status);
    }
    for (int64_t i = 0; i < each; i++) {
        if (group[i] != NULL && (status = prefill(self, &group[i], 1)) != KILN_OK) {
            fail_all(&group[i], 1, status);
        }
    }
}

static void admit(kiln_generator *self)
{
    const int64_t live = count_live(self);
    const int64_t room = !self->model.ragged && live != 0 ? 0 : self->model.max_batch - live;
    const int64_t count = drop_due(self->group, take_waiting(self, room));
    if (count == 0) {
        return;
    }
    prompt_groups_sort(self->group, count);
    const int64_t fits = stream_run_fits(self, (int64_t)self->group[0]->prompt_count);
    prompt_groups_plan(&self->pace, &self->model.prefill.limits, self->group, count, fits,
                       self->cuts);
    for (int64_t i = 0; i < count; i = self->cuts[i].next) {
        prefill_or_fail(self, self->group + i, self->cuts[i].next - i);
    }
}

/* --- a step --- */

static kiln_status decode(kiln_generator *self)
{
    KLN_RETURN_IF_ERROR(close_gaps(self));
    if (self->row_count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(stream_cache_make_room(self));
    KLN_RETURN_IF_ERROR(stream_run_decode(self));
    KLN_RETURN_IF_ERROR(stream_cache_advance(self, self->row_count));
    const uint64_t begin = kln_now();
    const int64_t rows = self->row_count;
    for (int64_t i = 0; i < rows; i++) {
        self->lengths[i]++;
        self->rows[i] = give_token(self, i, self->rows[i]) ? self->rows[i] : NULL;
    }
    KLN_LOCKED(&self->lock);
    self->counters.rows += (uint64_t)rows;
    self->counters.sample_nanoseconds += kln_now() - begin;
    self->counters.moved_bytes = self->cache.moved;
    return KILN_OK;
}

void generator_make_step(kiln_generator *self)
{
    KLN_MESSAGE_STAYS; /* callers learn of failures through their sequences */
    end_those_that_are_due(self);
    admit(self);
    kiln_status status = decode(self);
    KLN_THEN(status, clear_poison(self));
    if (status != KILN_OK) {
        fail_rows(self, status);
    }
}
