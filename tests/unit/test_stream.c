/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that come and go share a batch, and each gets what it would get by itself. */
#include "language_model.h"

#define MOST_LENGTH 48
#define TOLERANCE 2e-4F

typedef struct form {
    const char *name;
    language_options model;
    kiln_cache_layout layout;
    bool preallocate;
    int32_t prepare; /* candidates of kiln_network_prepare_stream; -1: without it */
} form;

static const form forms[] = {
    {"growing", {.form = MODEL_GROWING}, KILN_CACHE_GROWING, false, -1},
    {"new", {.form = MODEL_NEW, .last_only = true}, KILN_CACHE_NEW, false, -1},
    {"new, in one buffer", {.form = MODEL_NEW}, KILN_CACHE_NEW, true, -1},
    {"whole", {.form = MODEL_WHOLE}, KILN_CACHE_WHOLE, false, -1},
    {"other types",
     {.form = MODEL_GROWING, .tokens = KILN_DTYPE_INT32, .mask = KILN_DTYPE_FLOAT32},
     KILN_CACHE_GROWING,
     false,
     -1},
    {"prepared", {.form = MODEL_GROWING}, KILN_CACHE_NEW, false, 0},
    {"prepared, with candidates", {.form = MODEL_GROWING}, KILN_CACHE_NEW, false, 5},
};

static const char *const backends[] = {"onnxruntime", "reference"};

/* `prepare` as a form has it. */
static kiln_engine *engine_of(const language_options *model, const char *backend, int32_t prepare)
{
    owned_network network = language_network(model);
    kiln_stream_network_options ready = KILN_STREAM_NETWORK_OPTIONS(.candidates = prepare);
    if (prepare >= 0) {
        assert_ok(kiln_network_prepare_stream(network, &ready));
    }
    kiln_engine *engine = NULL;
    kiln_build_options options = backend_options(backend);
    options.threads = 1;
    assert_ok(kiln_engine_build(network, &options, &engine));
    return engine;
}

/* --- what a sequence would get by itself --- */

/* The logits behind each of the tokens, computed from nothing: MOST_LENGTH x VOCABULARY. */
static void recompute(kiln_context *context, const int64_t *tokens, int64_t count, float *logits)
{
    static int64_t ones[MOST_LENGTH];
    static int64_t positions[MOST_LENGTH];
    kiln_named_tensor inputs[3 + 2 * LAYERS];
    char names[2 * LAYERS][32];
    static float nothing;
    size_t used = 0;
    const kiln_shape shape = KILN_SHAPE(1, count);
    const size_t bytes = (size_t)count * sizeof(int64_t);
    for (int64_t i = 0; i < count; i++) {
        ones[i] = 1;
        positions[i] = i;
    }
    const kiln_named_tensor first[] = {
        {"input_ids", KILN_HOST_TENSOR(KILN_DTYPE_INT64, shape, (void *)(uintptr_t)tokens, bytes)},
        {"attention_mask", KILN_HOST_TENSOR(KILN_DTYPE_INT64, shape, ones, bytes)},
        {"position_ids", KILN_HOST_TENSOR(KILN_DTYPE_INT64, shape, positions, bytes)}};
    for (; used < 3; used++) {
        inputs[used] = first[used];
    }
    for (size_t i = 0; i < 2 * (size_t)LAYERS; i++) {
        (void)snprintf(names[i], sizeof names[i], "past_key_values.%zu.%s", i / 2,
                       i % 2 == 0 ? "key" : "value");
        inputs[used++] = (kiln_named_tensor){
            names[i],
            KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, HEADS, 0, HEAD), &nothing, 0)};
    }
    kiln_named_tensor output = {
        "logits", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, count, VOCABULARY), logits,
                                   (size_t)count * VOCABULARY * sizeof *logits)};
    assert_ok(kiln_context_run_once(context, inputs, used, &output, 1));
}

/* --- many at once --- */

/* Keeps the logits that a sequence's tokens were chosen of; takes the largest. */
typedef struct watched {
    kiln_sequence *sequence;
    int64_t prompt[MOST_LENGTH];
    size_t prompt_count;
    int64_t wanted; /* tokens */
    float logits[MOST_LENGTH][VOCABULARY];
    size_t count;
    size_t told;
    bool cancels;
} watched;

static kiln_status watch(void *user, const float *logits, size_t vocabulary, const int64_t *tokens,
                         size_t token_count, int64_t *token)
{
    watched *self = user;
    assert_int_equal(vocabulary, VOCABULARY);
    assert_int_equal(token_count, self->prompt_count + self->count);
    assert_memory_equal(tokens, self->prompt, self->prompt_count * sizeof *tokens);
    memcpy(self->logits[self->count++], logits, sizeof self->logits[0]);
    *token = 0;
    for (size_t i = 1; i < vocabulary; i++) {
        *token = logits[i] > logits[*token] ? (int64_t)i : *token;
    }
    return KILN_OK;
}

static void note(void *user, kiln_sequence *sequence, const kiln_token *token)
{
    watched *self = user;
    assert_int_equal(token->index, self->told);
    assert_true(token->token >= 0 || token->finish != KILN_FINISH_NONE);
    self->told += token->token >= 0;
}

static unsigned next_random(unsigned *state, unsigned below)
{
    *state = *state * 1664525U + 1013904223U;
    return (*state >> 8) % below;
}

static void submit(kiln_generator *generator, watched *one, unsigned *random)
{
    kiln_sequence_options how = KILN_SEQUENCE_OPTIONS_INIT;
    one->prompt_count = 1 + next_random(random, 18);
    one->wanted = 1 + next_random(random, 24);
    for (size_t i = 0; i < one->prompt_count; i++) {
        one->prompt[i] = next_random(random, VOCABULARY);
    }
    how.max_tokens = one->wanted;
    how.sample = watch;
    how.sample_user = one;
    how.told = note;
    how.told_user = one;
    assert_ok(
        kiln_generator_submit(generator, one->prompt, one->prompt_count, &how, &one->sequence));
}

/* Each token's logits are those of a run over all that came before. */
static void check(kiln_context *alone, watched *one)
{
    static float logits[MOST_LENGTH][VOCABULARY];
    static int64_t all[MOST_LENGTH];
    kiln_sequence_result result = {.struct_size = sizeof result};
    assert_ok(kiln_sequence_get_result(one->sequence, &result));
    const int64_t *tokens = result.tokens;
    const size_t count = result.count;
    const kiln_finish finish = result.finish;
    assert_int_equal(count, one->count);
    assert_int_equal(one->told, count);
    if (finish == KILN_FINISH_LENGTH) {
        assert_int_equal(count, one->wanted);
    } else {
        assert_status(KILN_ERROR_CANCELLED, kiln_sequence_wait(one->sequence, 0));
        assert_int_equal(finish, KILN_FINISH_CANCELLED);
        assert_true(one->cancels);
    }
    if (count == 0) {
        return;
    }
    memcpy(all, one->prompt, one->prompt_count * sizeof *all);
    memcpy(all + one->prompt_count, tokens, count * sizeof *all);
    recompute(alone, all, (int64_t)(one->prompt_count + count), &logits[0][0]);
    for (size_t i = 0; i < count; i++) {
        for (size_t v = 0; v < VOCABULARY; v++) {
            const float expected = logits[one->prompt_count + i - 1][v];
            if (!(fabsf(one->logits[i][v] - expected) < TOLERANCE)) {
                fail_msg("token %zu of %zu behind %zu, logit %zu: %g instead of %g", i, count,
                         one->prompt_count, v, (double)one->logits[i][v], (double)expected);
            }
        }
    }
}

static void run_many(kiln_generator *generator, kiln_context *alone, size_t total, unsigned seed)
{
    watched *all = calloc(total, sizeof *all);
    size_t submitted = 0;
    size_t active = 0;
    unsigned random = seed;
    assert_non_null(all);
    do {
        for (unsigned n = next_random(&random, 5); n > 0 && submitted < total; n--) {
            submit(generator, &all[submitted++], &random);
        }
        if (submitted > 0 && next_random(&random, 12) == 0) {
            watched *one = &all[next_random(&random, (unsigned)submitted)];
            one->cancels |= kiln_sequence_cancel(one->sequence) == KILN_OK;
        }
        assert_ok(kiln_generator_step(generator, &active));
    } while (active != 0 || submitted < total);
    for (size_t i = 0; i < total; i++) {
        check(alone, &all[i]);
        kiln_sequence_release(all[i].sequence);
    }
    free(all);
}

TEST(sequences_that_come_and_go_get_what_they_would_alone)
{
    const language_options plain = {.form = MODEL_GROWING};
    for (size_t b = 0; b < 2; b++) {
        owned_engine whole = engine_of(&plain, backends[b], -1);
        owned_context alone = context_on(whole);
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            owned_engine engine = engine_of(&forms[f].model, backends[b], forms[f].prepare);
            kiln_generator_options options = KILN_GENERATOR_OPTIONS_INIT;
            owned_generator generator = NULL;
            kiln_generator_info info = {.struct_size = sizeof info};
            kiln_generator_counters counters = {.struct_size = sizeof counters};
            options.max_batch = 7;
            options.max_length = MOST_LENGTH;
            options.preallocate = forms[f].preallocate;
            if (b == 1) { /* which tells no shapes of outputs */
                options.vocabulary = VOCABULARY;
                options.last_logits = forms[f].model.last_only || forms[f].prepare >= 0;
            }
            print_message("%s, %s\n", backends[b], forms[f].name);
            assert_ok(kiln_generator_create(engine, &options, &generator));
            assert_ok(kiln_generator_get_info(generator, &info));
            assert_int_equal(info.layout, forms[f].layout);
            assert_true(info.ragged && info.pair_count == 2 * (size_t)LAYERS);
            assert_int_equal(info.vocabulary, VOCABULARY);
            run_many(generator, alone, b == 0 ? 64 : 12, 7 + (unsigned)f);
            assert_ok(kiln_generator_get_counters(generator, &counters));
            assert_true(counters.submitted == (b == 0 ? 64 : 12) && counters.running == 0);
            assert_int_equal(counters.submitted, counters.done + counters.cancelled);
            assert_true(counters.rows > counters.steps && counters.moved_bytes > 0);
        }
    }
}
