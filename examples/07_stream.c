/* SPDX-License-Identifier: Apache-2.0 */
/* A language model, a token at a time: three texts grow in one batch.
 *
 *     07_stream [SEED]
 *
 * The lesson: a generator keeps a model's keys and values from step to step, takes sequences in
 * while others run, and tells each token as it comes. The model is made here, layer by layer, of
 * what letter follows which in a few lines of text: its attention looks one letter back, through
 * the cache. A text ends at its full stop. Each is what it would be alone: the program ends with 1
 * if it is not. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kiln/kiln.h>

enum { LETTERS = 128, PAIRS = LETTERS * LETTERS, TEXTS = 3, LONGEST = 120 };

static const char lines[] =
    "the miller drove his cart to the mill. the mill ground the corn to flour. the flour went to "
    "the baker. the baker made the bread. the bread went to the market. the market was full of "
    "children. the children ate the bread and went to the river. the river drove the mill.";

/* The logarithm of how often a letter follows another one: at once, and after one more. */
static float follows[2][PAIRS];
static float letters[PAIRS]; /* one row for each, 1 at its own place */

static void learn(void)
{
    for (size_t far = 0; far < 2; far++) {
        for (size_t i = 0; i < PAIRS; i++) {
            follows[far][i] = 0.0001F;
        }
        for (size_t i = 0; i + far + 1 < sizeof lines - 1; i++) {
            follows[far][lines[i] * LETTERS + lines[i + far + 1]] += 1;
        }
        for (size_t i = 0; i < PAIRS; i++) {
            follows[far][i] = logf(follows[far][i]);
        }
    }
    for (size_t i = 0; i < LETTERS; i++) {
        letters[i * LETTERS + i] = 1;
    }
}

/* --- the model --- */

typedef struct maker {
    kiln_network *network;
    kiln_status status;
} maker;

static kiln_tensor_id add(maker *self, const char *name, const char *op, kiln_tensor_id a,
                          kiln_tensor_id b, int64_t axis)
{
    const kiln_tensor_id inputs[] = {a, b};
    const kiln_attribute along = KILN_ATTRIBUTE(.name = "axis", .i = axis);
    kiln_tensor_id output = KILN_NO_TENSOR;
    if (self->status == KILN_OK) {
        self->status =
            kiln_network_add_node(self->network, name, NULL, 0, op, inputs,
                                  b == KILN_NO_TENSOR ? 1 : 2, &along, axis != 9, &output, 1);
    }
    return output;
}

static kiln_tensor_id constant(maker *self, kiln_dtype dtype, kiln_shape shape, const void *data,
                               size_t bytes)
{
    const kiln_weights weights = {dtype, shape, {data, bytes}};
    kiln_tensor_id output = KILN_NO_TENSOR;
    if (self->status == KILN_OK) {
        self->status = kiln_network_add_constant(self->network, NULL, &weights, &output);
    }
    return output;
}

static kiln_tensor_id number(maker *self, const float *value)
{
    return constant(self, KILN_DTYPE_FLOAT32, KILN_SHAPE_SCALAR, value, sizeof *value);
}

static kiln_tensor_id table(maker *self, const float *values)
{
    return constant(self, KILN_DTYPE_FLOAT32, KILN_SHAPE(LETTERS, LETTERS), values, sizeof letters);
}

static kiln_tensor_id reshape(maker *self, kiln_tensor_id x, const int64_t *shape, int64_t rank)
{
    return add(
        self, NULL, "Reshape", x,
        constant(self, KILN_DTYPE_INT64, KILN_SHAPE(rank), shape, (size_t)rank * sizeof *shape), 9);
}

static kiln_tensor_id input(maker *self, const char *name, kiln_dtype dtype, kiln_shape shape)
{
    kiln_tensor_id output = KILN_NO_TENSOR;
    if (self->status == KILN_OK) {
        self->status = kiln_network_add_input(self->network, name, dtype, &shape, NULL, &output);
    }
    return output;
}

static kiln_tensor_id cast(maker *self, kiln_tensor_id x)
{
    kiln_tensor_id output = KILN_NO_TENSOR;
    if (self->status == KILN_OK) {
        self->status = kiln_network_add_cast(self->network, NULL, x, KILN_DTYPE_FLOAT32, &output);
    }
    return output;
}

static void mark_output(maker *self, kiln_tensor_id tensor)
{
    if (self->status == KILN_OK) {
        self->status = kiln_network_mark_output(self->network, tensor);
    }
}

/* How far each position of the past is from one letter back, as scores: 0 there, else far below. */
static kiln_tensor_id look_back(maker *self, kiln_tensor_id place, kiln_tensor_id keys,
                                kiln_tensor_id mask)
{
    static const float one = 1;
    static const float far = -1000;
    static const int64_t flat[] = {0, 1, 1, -1};
    const kiln_tensor_id wanted = add(self, NULL, "Sub", place, number(self, &one), 9);
    const kiln_tensor_id apart = add(self, NULL, "Sub", reshape(self, keys, flat, 4), wanted, 9);
    const kiln_tensor_id missing =
        add(self, NULL, "Sub", number(self, &one), reshape(self, cast(self, mask), flat, 4), 9);
    const kiln_tensor_id squared = add(self, NULL, "Mul", apart, apart, 9);
    static const float very_far = 1000000;
    const kiln_tensor_id hidden = add(self, NULL, "Mul", missing, number(self, &very_far), 9);
    return add(self, NULL, "Mul", add(self, NULL, "Add", squared, hidden, 9), number(self, &far),
               9);
}

static void make_model(maker *self)
{
    static const int64_t as_keys[] = {0, 1, -1, 1};
    static const int64_t as_values[] = {0, 1, -1, LETTERS};
    static const int64_t as_logits[] = {0, -1, LETTERS};
    const kiln_shape two = KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC);
    const kiln_tensor_id ids = input(self, "input_ids", KILN_DTYPE_INT64, two);
    const kiln_tensor_id mask = input(self, "attention_mask", KILN_DTYPE_INT64, two);
    const kiln_tensor_id positions = input(self, "position_ids", KILN_DTYPE_INT64, two);
    const kiln_tensor_id past_keys = input(self, "past_key_values.0.key", KILN_DTYPE_FLOAT32,
                                           KILN_SHAPE(KILN_DYNAMIC, 1, KILN_DYNAMIC, 1));
    const kiln_tensor_id past_values = input(self, "past_key_values.0.value", KILN_DTYPE_FLOAT32,
                                             KILN_SHAPE(KILN_DYNAMIC, 1, KILN_DYNAMIC, LETTERS));
    const kiln_tensor_id place = reshape(self, cast(self, positions), as_keys, 4);
    const kiln_tensor_id letter = add(self, NULL, "Gather", table(self, letters), ids, 0);
    const kiln_tensor_id keys = add(self, "present.0.key", "Concat", past_keys, place, 2);
    const kiln_tensor_id values =
        add(self, "present.0.value", "Concat", past_values, reshape(self, letter, as_values, 4), 2);
    const kiln_tensor_id weights =
        add(self, NULL, "Softmax", look_back(self, place, keys, mask), KILN_NO_TENSOR, -1);
    const kiln_tensor_id before = add(self, NULL, "MatMul", weights, values, 9);
    const kiln_tensor_id by_last = add(self, NULL, "Gather", table(self, follows[0]), ids, 0);
    const kiln_tensor_id by_other =
        add(self, NULL, "MatMul", reshape(self, before, as_logits, 3), table(self, follows[1]), 9);
    mark_output(self, add(self, "logits", "Add", by_last, by_other, 9));
    mark_output(self, keys);
    mark_output(self, values);
}

/* --- texts --- */

static size_t spell(void *user, const int64_t *tokens, size_t count, char *text, size_t size)
{
    (void)user;
    if (size > 0) {
        text[0] = (char)tokens[count - 1];
    }
    return 1;
}

/* Each text in its own column of the terminal, a line when it is done. */
static void show(void *user, kiln_sequence *sequence, const kiln_token *token)
{
    (void)sequence;
    if (token->finish != KILN_FINISH_NONE) {
        printf("text %d is done after %llu letters\n", *(const int *)user,
               (unsigned long long)token->index + 1);
    }
}

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, kiln_error_message());
    return 1;
}

static kiln_status write_texts(kiln_engine *engine, int64_t batch, uint64_t seed,
                               char texts[TEXTS][LONGEST + 1])
{
    static const char *const beginnings[TEXTS] = {"the m", "a", "the river w"};
    static const char *const full_stop[] = {"."};
    static const int numbers[TEXTS] = {1, 2, 3};
    const kiln_generator_options options =
        KILN_GENERATOR_OPTIONS(.max_batch = batch, .max_length = LONGEST, .vocabulary = LETTERS);
    kiln_generator *generator = NULL;
    kiln_sequence *sequences[TEXTS] = {NULL};
    kiln_status status = kiln_generator_create(engine, &options, &generator);
    for (size_t i = 0; status == KILN_OK && i < TEXTS; i++) {
        int64_t prompt[16];
        const size_t length = strlen(beginnings[i]);
        const kiln_sampling sampling =
            KILN_SAMPLING(.temperature = 0.7F, .top_k = 4, .seed = seed + i);
        kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.sampling = &sampling, .stop_strings = full_stop,
                                  .stop_string_count = 1, .detokenize = spell,
                                  .max_tokens = LONGEST - 20);
        how.told = batch > 1 ? show : NULL;
        how.told_user = (void *)(uintptr_t)&numbers[i];
        for (size_t k = 0; k < length; k++) {
            prompt[k] = (unsigned char)beginnings[i][k];
        }
        status = kiln_generator_submit(generator, prompt, length, &how, &sequences[i]);
    }
    for (size_t i = 0; status == KILN_OK && i < TEXTS; i++) {
        kiln_sequence_result result = {.struct_size = sizeof result};
        status = kiln_sequence_wait(sequences[i], -1); /* this thread makes the steps */
        if (status == KILN_OK) {
            status = kiln_sequence_get_result(sequences[i], &result);
        }
        if (status == KILN_OK) {
            (void)snprintf(texts[i], sizeof texts[i], "%s%s", beginnings[i], result.text);
        }
    }
    for (size_t i = 0; i < TEXTS; i++) {
        kiln_sequence_release(sequences[i]);
    }
    kiln_generator_destroy(generator);
    return status;
}

/* TensorRT, where it is, wants to know how many texts there are, how long a prompt is and how much
 * lies behind it; the other backends run any. */
static kiln_status build(const kiln_network *network, kiln_engine **engine)
{
    static const char ranges[] =
        "input_ids=1x1:3x1:3x16 position_ids=1x1:3x1:3x16 "
        "attention_mask=1x2:3x40:3x136 "
        "past_key_values.0.key=1x1x1x1:3x1x39x1:3x1x120x1 "
        "past_key_values.0.value=1x1x1x128:3x1x39x128:3x1x120x128";
    kiln_build_options *options = NULL;
    kiln_status status = kiln_build_options_create(&options);
    status = status == KILN_OK ? kiln_build_options_set(options, "profiles", ranges) : status;
    status = status == KILN_OK ? kiln_engine_build(network, options, engine) : status;
    kiln_build_options_destroy(options);
    return status;
}

int main(int count, char **arguments)
{
    static char together[TEXTS][LONGEST + 1];
    static char alone[TEXTS][LONGEST + 1];
    const uint64_t seed = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    maker self = {.status = KILN_OK};
    kiln_engine *engine = NULL;
    learn();
    self.status = kiln_network_create(NULL, &self.network);
    make_model(&self);
    if (self.status != KILN_OK || build(self.network, &engine) != KILN_OK) {
        kiln_network_destroy(self.network);
        return fail("the model");
    }
    int ended = write_texts(engine, TEXTS, seed, together) == KILN_OK &&
                        write_texts(engine, 1, seed, alone) == KILN_OK
                    ? 0
                    : fail("the texts");
    for (size_t i = 0; ended == 0 && i < TEXTS; i++) {
        printf("%s.\n", together[i]);
        ended = strcmp(together[i], alone[i]) == 0 ? 0 : 1;
    }
    kiln_engine_release(engine);
    kiln_network_destroy(self.network);
    return ended;
}
