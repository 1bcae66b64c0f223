/* SPDX-License-Identifier: Apache-2.0 */
/* A language model that the mock plays: a token follows from all before it, which the model reads
 * in its past alone. What is there twice, in the wrong place or not at all makes its logits no
 * numbers.
 */
#ifndef STREAM_TEST_H
#define STREAM_TEST_H

#include "kiln_test.h"

#define TOKENS 16
#define PLAYED_HEADS 2
#define PLAYED_HEAD 4
#define MOST_PLAYED 256

/* How it is played. */
typedef struct played {
    bool puts_out_new; /* KILN_CACHE_NEW */
    bool on_gpu;
    int64_t rows, length, past; /* of fixed size, where they are not 0 */
    int64_t poison;             /* a token, not 0, whose logits are no numbers */
    int64_t fails;              /* and one with which a run fails */
    bool holds;                 /* runs wait until it is false */
    int waiting, runs;
    int64_t in_vain; /* columns of the past, at most, that a step of a row read before its first */
    pthread_mutex_t lock;
    pthread_cond_t changed;
} played;

#define PLAYED(...)                                                                         \
    {                                                                                       \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, __VA_ARGS__ \
    }

/* What comes behind these tokens. */
static inline int64_t next_token(const int64_t *tokens, size_t count)
{
    int64_t sum = 5;
    for (size_t i = 0; i < count; i++) {
        sum += (tokens[i] + 1) * (int64_t)(i * 7 + 3);
    }
    return sum % TOKENS;
}

typedef struct played_run {
    played *self;
    kiln_tensor inputs[4], outputs[2];
} played_run;

/* Sums up a row's past; false where it is not what it should be. */
static inline bool read_past(const played_run *run, int64_t row, int64_t position, int64_t *sum)
{
    const kiln_tensor *past = &run->inputs[3];
    const int64_t columns = past->desc.shape.dims[2];
    const int64_t width = run->inputs[1].desc.shape.dims[1];
    const int64_t *mask = (const int64_t *)run->inputs[1].data + row * width;
    int seen[256] = {0}; /* heads, for each position */
    int64_t count = 0;
    bool good = true;
    for (int64_t i = 0; i < columns * PLAYED_HEADS; i++) {
        const int64_t head = i / columns;
        const float *cell =
            (const float *)past->data + (row * PLAYED_HEADS * columns + i) * PLAYED_HEAD;
        good &= !isnan(cell[0]); /* what is masked is multiplied by 0, and NaN stays NaN */
        if (mask[i % columns] != 0 && !isnan(cell[0])) {
            const int64_t place = cell[1] >= 0 && cell[1] < 256 ? (int64_t)cell[1] : 255;
            good &= cell[2] == (float)(head + 1) && cell[3] == 1 && place < position &&
                    seen[place]++ == head;
            *sum += head == 0 ? ((int64_t)cell[0] + 1) * (place * 7 + 3) : 0;
            count++;
        }
    }
    return good && count == position * PLAYED_HEADS;
}

static inline void play_row(const played_run *run, int64_t row)
{
    const int64_t length = run->inputs[0].desc.shape.dims[1];
    const int64_t past = run->inputs[3].desc.shape.dims[2];
    const int64_t *tokens = (const int64_t *)run->inputs[0].data + row * length;
    const int64_t *positions = (const int64_t *)run->inputs[2].data + row * length;
    const int64_t *mask = (const int64_t *)run->inputs[1].data + row * (past + length) + past;
    const int64_t columns = run->self->puts_out_new ? length : past + length;
    float *logits = (float *)run->outputs[0].data + row * length * TOKENS;
    float *present = (float *)run->outputs[1].data;
    int64_t first = 0;
    while (first + 1 < length && mask[first] == 0) {
        first++;
    }
    int64_t sum = 5;
    const bool good = read_past(run, row, positions[first], &sum);
    const int64_t in_vain = length == 1 && positions[0] != 0 ? past - positions[0] : 0;
    run->self->in_vain = in_vain > run->self->in_vain ? in_vain : run->self->in_vain;
    for (int64_t i = 0; i < length; i++) {
        sum += i >= first ? (tokens[i] + 1) * (positions[i] * 7 + 3) : 0;
        for (int64_t v = 0; v < TOKENS; v++) {
            const bool poisoned = tokens[i] != 0 && tokens[i] == run->self->poison;
            logits[i * TOKENS + v] = !good || poisoned ? NAN : (float)(v == sum % TOKENS);
        }
        for (int64_t h = 0; h < PLAYED_HEADS; h++) {
            float *cell =
                present + ((row * PLAYED_HEADS + h) * columns + columns - length + i) * PLAYED_HEAD;
            const bool poisoned = tokens[i] != 0 && tokens[i] == run->self->poison;
            cell[0] = poisoned ? NAN : (float)tokens[i];
            cell[1] = (float)positions[i];
            cell[2] = (float)(h + 1);
            cell[3] = mask[i] != 0;
        }
    }
}

static inline void play_run(void *user)
{
    const played_run *run = user;
    const kiln_shape *shape = &run->inputs[3].desc.shape;
    const int64_t length = run->inputs[0].desc.shape.dims[1];
    const int64_t cells = shape->dims[2] * PLAYED_HEAD;
    const int64_t more = length * PLAYED_HEAD;
    for (int64_t i = 0; !run->self->puts_out_new && i < shape->dims[0] * PLAYED_HEADS; i++) {
        memcpy((float *)run->outputs[1].data + i * (cells + more),
               (const float *)run->inputs[3].data + i * cells, (size_t)cells * sizeof(float));
    }
    for (int64_t row = 0; row < shape->dims[0]; row++) {
        play_row(run, row);
    }
}

static inline bool note_played(played *self, const kiln_tensor *tokens)
{
    const int64_t count = tokens->desc.shape.dims[0] * tokens->desc.shape.dims[1];
    bool fails = false;
    (void)pthread_mutex_lock(&self->lock);
    self->runs++;
    self->waiting++;
    (void)pthread_cond_broadcast(&self->changed);
    while (self->holds) {
        (void)pthread_cond_wait(&self->changed, &self->lock);
    }
    self->waiting--;
    (void)pthread_mutex_unlock(&self->lock);
    for (int64_t i = 0; i < count; i++) {
        fails |= self->fails != 0 && ((const int64_t *)tokens->data)[i] == self->fails;
    }
    return !fails;
}

static inline void set_run(played_run *made, played *self, const kiln_mock_run *run)
{
    *made = (played_run){.self = self};
    memcpy(made->inputs, run->inputs, sizeof made->inputs);
    memcpy(made->outputs, run->outputs, sizeof made->outputs);
}

static inline kiln_status play_now(void *user, kiln_mock_run *run, char message[1024])
{
    played_run made;
    set_run(&made, user, run);
    if (!note_played(user, &run->inputs[0])) {
        (void)snprintf(message, 1024, "a bad token");
        return KILN_ERROR_BACKEND;
    }
    play_run(&made);
    return KILN_OK;
}

/* Recorded in graphs, so they last. */
static played_run later_runs[1 << 12];
static size_t later_count;

static inline kiln_status play_later(void *user, kiln_mock_run *run, kiln_stream *stream,
                                     char message[1024])
{
    assert_true(later_count < sizeof later_runs / sizeof *later_runs);
    played_run *made = &later_runs[later_count++];
    set_run(made, user, run);
    return kiln_stream_call(stream, play_run, made);
}

static inline kiln_status played_engine_of(played *self, kiln_engine **engine)
{
    const int64_t rows = self->rows != 0 ? self->rows : KILN_DYNAMIC;
    const int64_t length = self->length != 0 ? self->length : KILN_DYNAMIC;
    const int64_t past = self->past != 0 ? self->past : KILN_DYNAMIC;
    const kiln_shape two = KILN_SHAPE(rows, length);
    const kiln_shape total = KILN_SHAPE(rows, KILN_DYNAMIC);
    const kiln_shape cache = KILN_SHAPE(rows, PLAYED_HEADS, past, PLAYED_HEAD);
    const kiln_shape made = KILN_SHAPE(rows, PLAYED_HEADS, KILN_DYNAMIC, PLAYED_HEAD);
    const kiln_binding inputs[] = {
        binding_of("input_ids", KILN_DTYPE_INT64, two, NULL),
        binding_of("attention_mask", KILN_DTYPE_INT64, total, NULL),
        binding_of("position_ids", KILN_DTYPE_INT64, two, NULL),
        binding_of("past_key_values.0.key", KILN_DTYPE_FLOAT32, cache, NULL)};
    const kiln_binding outputs[] = {
        binding_of("logits", KILN_DTYPE_FLOAT32, KILN_SHAPE(rows, length, TOKENS), NULL),
        binding_of(self->puts_out_new ? "new.present.0.key" : "present.0.key", KILN_DTYPE_FLOAT32,
                   made, NULL)};
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = inputs, .input_count = 4, .outputs = outputs, .output_count = 2,
                          .handler = play_now, .user = self);
    if (self->on_gpu) {
        options.enqueue = play_later;
    }
    return kiln_engine_create_mock(&options, engine);
}

static inline kiln_generator *played_generator(played *self, kiln_generator_options options)
{
    owned_engine engine = NULL;
    assert_ok(played_engine_of(self, &engine));
    options.max_batch = options.max_batch != 0 ? options.max_batch : 4;
    options.max_length = options.max_length != 0 ? options.max_length : 40;
    return generator_on(engine, &options);
}

/* What a sequence came to is what the tokens say. */
static inline void check_played(kiln_sequence *sequence, const int64_t *prompt, size_t count,
                                size_t generated)
{
    int64_t all[MOST_PLAYED];
    assert_ok(kiln_sequence_wait(sequence, -1));
    const kiln_sequence_result result = sequence_result(sequence);
    assert_int_equal(result.count, generated);
    memcpy(all, prompt, count * sizeof *all);
    for (size_t i = 0; i < generated; i++) {
        all[count + i] = next_token(all, count + i);
        assert_int_equal(result.tokens[i], all[count + i]);
    }
}

/* --- text: token t is "<t>" as a letter, or a longer piece --- */

__attribute__((unused)) static const char *const pieces[TOKENS] = {
    "a", "b", "cd", "e\n", "fg", "h", "ij", "k", "lm", "nop", "q", "rs", "t", "uv", "wx", "yz"};

static inline size_t spell(void *user, const int64_t *tokens, size_t count, char *text, size_t size)
{
    const char *piece = pieces[tokens[count - 1]];
    const size_t length = strlen(piece);
    const size_t *repeats = user; /* how often a token has its piece, to be long */
    const size_t times = repeats != NULL ? *repeats : 1;
    for (size_t i = 0; i < length * times && i < size; i++) {
        text[i] = piece[i % length];
    }
    return length * times;
}

static inline kiln_generator_counters counted(kiln_generator *generator)
{
    kiln_generator_counters counters = {.struct_size = sizeof counters};
    assert_ok(kiln_generator_get_counters(generator, &counters));
    assert_int_equal(counters.submitted, counters.done + counters.cancelled + counters.expired +
                                             counters.failed + counters.waiting + counters.running);
    return counters;
}

#endif
