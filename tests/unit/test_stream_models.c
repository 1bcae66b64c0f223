/* SPDX-License-Identifier: Apache-2.0 */
/* Encoder-decoder models; models that are not as exporters make them; and what is refused. */
#include "language_model.h"
#include "stream_test.h"

static kiln_engine *build_form(const language_options *model, const char *backend)
{
    owned_network network = language_network(model);
    kiln_build_options options = backend_options(backend);
    options.threads = 1;
    return built_network(network, &options);
}

/* --- encoder and decoder --- */

/* One sequence's features, and the logits that its tokens were chosen of. */
typedef struct heard_voice {
    float features[ENCODED * WIDTH];
    int64_t length;
    int64_t prompt[3];
    size_t prompt_count;
    float logits[12][VOCABULARY];
    size_t count;
    kiln_sequence *sequence;
} heard_voice;

static kiln_status keep_logits(void *user, const float *logits, size_t vocabulary,
                               const int64_t *tokens, size_t token_count, int64_t *token)
{
    heard_voice *self = user;
    memcpy(self->logits[self->count++], logits, vocabulary * sizeof *logits);
    *token = 0;
    for (size_t i = 1; i < vocabulary; i++) {
        *token = logits[i] > logits[*token] ? (int64_t)i : *token;
    }
    return KILN_OK;
}

static kiln_tensor features_of(heard_voice *voice)
{
    return KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, voice->length, WIDTH),
                            voice->features, (size_t)voice->length * WIDTH * sizeof(float));
}

/* The encoder, and the decoder without a past over all tokens. */
static void check_voice(kiln_context *encoder, kiln_context *first, heard_voice *voice)
{
    static float logits[16][VOCABULARY];
    int64_t all[16];
    assert_ok(kiln_sequence_wait(voice->sequence, -1));
    const kiln_sequence_result result = sequence_result(voice->sequence);
    assert_int_equal(result.count, voice->count);
    memcpy(all, voice->prompt, voice->prompt_count * sizeof *all);
    memcpy(all + voice->prompt_count, result.tokens, result.count * sizeof *all);
    const int64_t count = (int64_t)(voice->prompt_count + result.count);
    const kiln_named_tensor features = {"input_features", features_of(voice)};
    kiln_named_tensor hidden = {.name = "last_hidden_state"};
    assert_ok(kiln_context_run_tensors(encoder, &features, 1, &hidden, 1));
    const kiln_named_tensor inputs[] = {
        {"input_ids",
         KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(1, count), all, (size_t)count * 8)},
        {"encoder_hidden_states", hidden.tensor}};
    kiln_named_tensor output = {
        "logits", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, count, VOCABULARY), logits,
                                   (size_t)count * sizeof logits[0])};
    assert_ok(kiln_context_run_once(first, inputs, 2, &output, 1));
    for (size_t i = 0; i < voice->count; i++) {
        for (size_t v = 0; v < VOCABULARY; v++) {
            assert_true(fabsf(voice->logits[i][v] - logits[voice->prompt_count + i - 1][v]) <
                        2e-4F);
        }
    }
}

/* Sequences of several lengths, of which those that are alike run together. */
static void run_voices(kiln_generator *generator, kiln_context *encoder, kiln_context *first)
{
    enum { VOICES = 24 };
    static heard_voice voices[VOICES];
    memset(voices, 0, sizeof voices);
    for (size_t i = 0; i < VOICES; i++) {
        heard_voice *voice = &voices[i];
        voice->length = 3 + (int64_t)(i / 2 % 3);
        voice->prompt_count = 1 + i % 2;
        for (size_t k = 0; k < (size_t)voice->length * WIDTH; k++) {
            voice->features[k] = sinf((float)(i * 100 + k));
        }
        voice->prompt[0] = 1;
        voice->prompt[1] = (int64_t)i;
        const kiln_named_tensor features = {"input_features", features_of(voice)};
        const kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.max_tokens = 1 + (int64_t)(i * 5 % 9), .sample = keep_logits,
                                  .sample_user = voice, .inputs = &features, .input_count = 1);
        assert_ok(kiln_generator_submit(generator, voice->prompt, voice->prompt_count, &how,
                                        &voice->sequence));
    }
    for (size_t i = 0; i < VOICES; i++) {
        check_voice(encoder, first, &voices[i]);
        kiln_sequence_release(voices[i].sequence);
    }
}

TEST(an_encoder_decoder_model_keeps_what_was_encoded)
{
    static const char *const backends[] = {"onnxruntime", "reference"};
    for (size_t b = 0; b < 2; b++) {
        owned_engine encoder = build_form(&(language_options){.form = MODEL_ENCODER}, backends[b]);
        owned_engine first = build_form(&(language_options){.form = MODEL_FIRST}, backends[b]);
        owned_engine cross = build_form(&(language_options){.form = MODEL_CROSS}, backends[b]);
        owned_context encodes = context_on(encoder);
        owned_context decodes = context_on(first);
        for (int64_t batch = 1; batch <= 5; batch += 2) {
            kiln_generator_info info = {.struct_size = sizeof info};
            kiln_generator_options options =
                KILN_GENERATOR_OPTIONS(.max_batch = batch, .max_length = 16, .prefill = first,
                                       .encoder = encoder);
            options.vocabulary = b == 1 ? VOCABULARY : 0;
            options.logits_bytes = batch == 5 ? 1500 : 0; /* several prefills for a group */
            owned_generator generator = generator_on(cross, &options);
            assert_ok(kiln_generator_get_info(generator, &info));
            assert_true(!info.ragged && info.pair_count == 4 * (size_t)LAYERS);
            run_voices(generator, encodes, decodes);
            const int64_t prompt = 1;
            kiln_sequence *none = NULL;
            assert_fails(KILN_ERROR_NOT_BOUND,
                         kiln_generator_submit(generator, &prompt, 1, NULL, &none),
                         "brings \"input_features\" along");
        }
    }
}

TEST(a_decoder_may_have_a_branch_for_each)
{
    static const char *const backends[] = {"onnxruntime", "reference"};
    for (size_t b = 0; b < 2; b++) {
        owned_engine encoder = build_form(&(language_options){.form = MODEL_ENCODER}, backends[b]);
        owned_engine first = build_form(&(language_options){.form = MODEL_FIRST}, backends[b]);
        owned_engine merged = build_form(&(language_options){.form = MODEL_MERGED}, backends[b]);
        owned_context encodes = context_on(encoder);
        owned_context decodes = context_on(first);
        const kiln_generator_options options =
            KILN_GENERATOR_OPTIONS(.max_batch = 3, .max_length = 16, .encoder = encoder,
                                   .vocabulary = b == 1 ? VOCABULARY : 0);
        owned_generator generator = generator_on(merged, &options);
        run_voices(generator, encodes, decodes);
    }
}

/* Without an encoder, callers bring what it would have put out. */
TEST(callers_bring_what_was_encoded)
{
    owned_engine first = build_form(&(language_options){.form = MODEL_FIRST}, "onnxruntime");
    owned_engine cross = build_form(&(language_options){.form = MODEL_CROSS}, "onnxruntime");
    owned_engine encoder = build_form(&(language_options){.form = MODEL_ENCODER}, "onnxruntime");
    owned_context encodes = context_on(encoder);
    owned_context decodes = context_on(first);
    heard_voice voice = {.length = 4, .prompt = {2}, .prompt_count = 1};
    const kiln_generator_options options =
        KILN_GENERATOR_OPTIONS(.max_batch = 2, .max_length = 16, .prefill = first);
    for (size_t i = 0; i < 4 * WIDTH; i++) {
        voice.features[i] = cosf((float)i);
    }
    const kiln_named_tensor features = {"input_features", features_of(&voice)};
    kiln_named_tensor hidden = {.name = "last_hidden_state"};
    assert_ok(kiln_context_run_tensors(encodes, &features, 1, &hidden, 1));
    owned_generator generator = generator_on(cross, &options);
    kiln_named_tensor given = {"encoder_hidden_states", hidden.tensor};
    kiln_sequence_options how =
        KILN_SEQUENCE_OPTIONS(.max_tokens = 8, .sample = keep_logits, .sample_user = &voice,
                              .inputs = &given, .input_count = 1);
    assert_ok(kiln_generator_submit(generator, voice.prompt, 1, &how, &voice.sequence));
    check_voice(encodes, decodes, &voice);
    kiln_sequence_release(voice.sequence);
    static const struct {
        kiln_status status;
        const char *name, *words;
        kiln_dtype dtype;
        kiln_shape shape;
        size_t bytes;
    } wrong[] = {
        {KILN_ERROR_NAME,
         "other",
         "no input \"other\"",
         KILN_DTYPE_FLOAT32,
         {3, {1, 4, WIDTH}},
         512},
        {KILN_ERROR_DTYPE,
         "encoder_hidden_states",
         "of type int32",
         KILN_DTYPE_INT32,
         {3, {1, 4, WIDTH}},
         512},
        {KILN_ERROR_RANK,
         "encoder_hidden_states",
         "2 dimensions",
         KILN_DTYPE_FLOAT32,
         {2, {4, WIDTH}},
         512},
        {KILN_ERROR_SHAPE,
         "encoder_hidden_states",
         "is 2x2x32",
         KILN_DTYPE_FLOAT32,
         {3, {2, 2, WIDTH}},
         512},
        {KILN_ERROR_SIZE,
         "encoder_hidden_states",
         "512 bytes",
         KILN_DTYPE_FLOAT32,
         {3, {1, 4, WIDTH}},
         511},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        kiln_sequence *sequence = NULL;
        given = (kiln_named_tensor){
            wrong[i].name,
            KILN_HOST_TENSOR(wrong[i].dtype, wrong[i].shape, voice.features, wrong[i].bytes)};
        assert_fails(wrong[i].status,
                     kiln_generator_submit(generator, voice.prompt, 1, &how, &sequence),
                     wrong[i].words);
    }
}

/* --- models without all that lets sequences of different lengths share a batch --- */

TEST(a_model_without_positions_takes_those_that_begin_together)
{
    static const language_options models[] = {
        {.form = MODEL_GROWING, .no_positions = true},
        {.form = MODEL_GROWING, .no_positions = true, .no_mask = true},
        {.form = MODEL_WHOLE, .no_positions = true, .no_mask = true}};
    owned_engine plain = build_form(&(language_options){.form = MODEL_GROWING}, "onnxruntime");
    for (size_t m = 0; m < 3; m++) {
        owned_engine engine = build_form(&models[m], "onnxruntime");
        kiln_sequence *all[2][12];
        kiln_generator_info info = {.struct_size = sizeof info};
        const kiln_generator_options options =
            KILN_GENERATOR_OPTIONS(.max_batch = 3, .max_length = 30);
        owned_generator generator = generator_on(engine, &options);
        owned_generator full = generator_on(plain, &options);
        assert_ok(kiln_generator_get_info(generator, &info));
        assert_false(info.ragged);
        for (size_t i = 0; i < 12; i++) {
            const int64_t prompt[] = {(int64_t)i, 3, 7, 9};
            const kiln_sequence_options how =
                KILN_SEQUENCE_OPTIONS(.max_tokens = 1 + (int64_t)(i * 7 % 11));
            assert_ok(kiln_generator_submit(generator, prompt, 1 + i % 4, &how, &all[0][i]));
            assert_ok(kiln_generator_submit(full, prompt, 1 + i % 4, &how, &all[1][i]));
        }
        for (size_t i = 0; i < 12; i++) {
            assert_ok(kiln_sequence_wait(all[0][i], -1));
            assert_ok(kiln_sequence_wait(all[1][i], -1));
            const kiln_sequence_result a = sequence_result(all[0][i]);
            const kiln_sequence_result b = sequence_result(all[1][i]);
            assert_int_equal(a.count, b.count);
            assert_memory_equal(a.tokens, b.tokens, a.count * sizeof *a.tokens);
            kiln_sequence_release(all[0][i]);
            kiln_sequence_release(all[1][i]);
        }
    }
}

/* --- wrong models, each with a sentence --- */

typedef struct wrong_model {
    kiln_status status;
    const char *words;
    kiln_binding inputs[4], outputs[3];
    kiln_generator_options options;
} wrong_model;

#define END(name, dtype, ...)            \
    binding_of(name, KILN_DTYPE_##dtype, \
               (kiln_shape){sizeof((int64_t[]){__VA_ARGS__}) / 8, {__VA_ARGS__}}, NULL)
#define IDS END("input_ids", INT64, -1, -1)
#define MASK END("attention_mask", INT64, -1, -1)
#define PAST END("past_key_values.0.key", FLOAT32, -1, 2, -1, 4)
#define PRESENT END("present.0.key", FLOAT32, -1, 2, -1, 4)
#define LOGITS END("logits", FLOAT32, -1, -1, 16)
#define ENDS(...)   \
    {               \
        __VA_ARGS__ \
    }
#define PLAIN KILN_GENERATOR_OPTIONS(.max_length = 20)

static kiln_status try_model(const wrong_model *model)
{
    played self = PLAYED(.on_gpu = false);
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = model->inputs, .outputs = model->outputs, .handler = play_now,
                          .user = &self);
    owned_generator generator = NULL;
    while (options.input_count < 4 && model->inputs[options.input_count].name != NULL) {
        options.input_count++;
    }
    while (options.output_count < 3 && model->outputs[options.output_count].name != NULL) {
        options.output_count++;
    }
    owned_engine engine = new_mock(&options);
    const kiln_status status = kiln_generator_create(engine, &model->options, &generator);
    return status;
}

TEST(a_wrong_model_is_refused_with_what_it_lacks)
{
    static const kiln_cache_pair no_past = {"x", "present.0.key", false};
    static const kiln_cache_pair no_present = {"past_key_values.0.key", "y", false};
    const wrong_model models[] = {
        {KILN_OK, "", ENDS(IDS, MASK, PAST), ENDS(LOGITS, PRESENT), PLAIN},
        {KILN_ERROR_UNSUPPORTED, "no input for tokens", ENDS(MASK, PAST), ENDS(LOGITS, PRESENT),
         PLAIN},
        {KILN_ERROR_NAME, "no input \"ids\"", ENDS(IDS, PAST), ENDS(LOGITS, PRESENT),
         KILN_GENERATOR_OPTIONS(.max_length = 20, .tokens = "ids")},
        {KILN_ERROR_DTYPE, "\"input_ids\" is of type float32",
         ENDS(END("input_ids", FLOAT32, -1, -1), PAST), ENDS(LOGITS, PRESENT), PLAIN},
        {KILN_ERROR_RANK, "\"attention_mask\" has the shape ?x1x?x?",
         ENDS(IDS, END("attention_mask", INT64, -1, 1, -1, -1), PAST), ENDS(LOGITS, PRESENT),
         PLAIN},
        {KILN_ERROR_UNSUPPORTED, "the engine has no cache", ENDS(IDS, MASK), ENDS(LOGITS), PLAIN},
        {KILN_ERROR_UNSUPPORTED, "\"past_key_values.0.key\" has no output to go with it",
         ENDS(IDS, PAST), ENDS(LOGITS), PLAIN},
        {KILN_ERROR_DTYPE, "of type float16", ENDS(IDS, PAST),
         ENDS(LOGITS, END("present.0.key", FLOAT16, -1, 2, -1, 4)), PLAIN},
        {KILN_ERROR_SHAPE, "is ?x3x?x4", ENDS(IDS, PAST),
         ENDS(LOGITS, END("present.0.key", FLOAT32, -1, 3, -1, 4)), PLAIN},
        {KILN_ERROR_UNSUPPORTED, "one dimension behind that of the batch has to be dynamic",
         ENDS(IDS, END("past_key_values.0.key", FLOAT32, -1, -1, -1, 4)), ENDS(LOGITS, PRESENT),
         PLAIN},
        {KILN_ERROR_UNSUPPORTED, "no output \"logits\"", ENDS(IDS, PAST), ENDS(PRESENT), PLAIN},
        {KILN_ERROR_SHAPE, "has the shape ?x?x?; rows, positions and a vocabulary", ENDS(IDS, PAST),
         ENDS(END("logits", FLOAT32, -1, -1, -1), PRESENT), PLAIN},
        {KILN_ERROR_DTYPE, "logits are float32", ENDS(IDS, PAST),
         ENDS(END("logits", INT64, -1, -1, 16), PRESENT), PLAIN},
        {KILN_ERROR_INVALID_ARGUMENT, "the longest sequence has to be stated", ENDS(IDS, PAST),
         ENDS(LOGITS, PRESENT), KILN_GENERATOR_OPTIONS_INIT},
        {KILN_ERROR_LIMIT, "max_length is 33",
         ENDS(IDS, MASK, END("past_key_values.0.key", FLOAT32, -1, 2, 32, 4)),
         ENDS(LOGITS, END("present.0.key", FLOAT32, -1, 2, 32, 4)),
         KILN_GENERATOR_OPTIONS(.max_length = 33)},
        {KILN_ERROR_LIMIT, "max_batch is 5", ENDS(END("input_ids", INT64, 4, -1), PAST),
         ENDS(LOGITS, PRESENT), KILN_GENERATOR_OPTIONS(.max_length = 20, .max_batch = 5)},
        {KILN_ERROR_UNSUPPORTED, "attention_mask or cache_position",
         ENDS(IDS, END("past_key_values.0.key", FLOAT32, -1, 2, 32, 4)),
         ENDS(LOGITS, END("present.0.key", FLOAT32, -1, 2, 32, 4)), PLAIN},
        {KILN_ERROR_UNSUPPORTED, "an input attention_mask", ENDS(IDS, PAST),
         ENDS(LOGITS, END("new.present.0.key", FLOAT32, -1, 2, -1, 4)), PLAIN},
        {KILN_ERROR_UNSUPPORTED, "an input position_ids", ENDS(IDS, MASK, PAST),
         ENDS(LOGITS, END("new.present.0.key", FLOAT32, -1, 2, -1, 4)), PLAIN},
        {KILN_ERROR_SHAPE, "only KILN_CACHE_WHOLE has one",
         ENDS(IDS, MASK, PAST, END("past_key_values.1.key", FLOAT32, -1, 2, 8, 4)),
         ENDS(LOGITS, PRESENT, END("present.1.key", FLOAT32, -1, 2, 8, 4)), PLAIN},
        {KILN_ERROR_NAME, "no input \"x\"", ENDS(IDS, PAST), ENDS(LOGITS, PRESENT),
         KILN_GENERATOR_OPTIONS(.max_length = 20, .pairs = &no_past, .pair_count = 1)},
        {KILN_ERROR_NAME, "no output \"y\"", ENDS(IDS, PAST), ENDS(LOGITS, PRESENT),
         KILN_GENERATOR_OPTIONS(.max_length = 20, .pairs = &no_present, .pair_count = 1)},
        {KILN_ERROR_INVALID_ARGUMENT, "layout is 7", ENDS(IDS, PAST), ENDS(LOGITS, PRESENT),
         KILN_GENERATOR_OPTIONS(.max_length = 20, .layout = (kiln_cache_layout)7)},
        {KILN_ERROR_UNSUPPORTED, "preallocate is for models", ENDS(IDS, PAST),
         ENDS(LOGITS, PRESENT), KILN_GENERATOR_OPTIONS(.max_length = 20, .preallocate = true)},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (models[i].status == KILN_OK) {
            assert_ok(try_model(&models[i]));
        } else {
            assert_fails(models[i].status, try_model(&models[i]), models[i].words);
        }
    }
}

/* By order, where types and shapes leave no doubt. */
TEST(pairs_are_found_by_their_shapes)
{
    wrong_model model = {
        KILN_OK,
        "",
        {IDS, END("k", FLOAT32, -1, 2, -1, 4), END("v", FLOAT16, -1, 3, -1, 8)},
        {LOGITS, END("k2", FLOAT32, -1, 2, -1, 4), END("v2", FLOAT16, -1, 3, -1, 8)},
        PLAIN};
    assert_ok(try_model(&model));
    model.outputs[1].name = "v2";
    model.outputs[2].name = "k2";
    assert_ok(try_model(&model));
    model.outputs[1].dtype = KILN_DTYPE_FLOAT16;
    model.outputs[2].dtype = KILN_DTYPE_FLOAT32;
    assert_fails(KILN_ERROR_UNSUPPORTED, try_model(&model), "no cache", "pairs");
}

/* Names of the caller's. */
TEST(pairs_and_names_may_be_stated)
{
    static const kiln_cache_pair pair = {"state_in", "state_out", false};
    const wrong_model model = {
        KILN_OK,
        "",
        {END("ids", INT64, -1, -1), END("state_in", FLOAT32, -1, 2, -1, 4)},
        {END("scores", FLOAT32, -1, -1, 16), END("state_out", FLOAT32, -1, 2, -1, 4)},
        KILN_GENERATOR_OPTIONS(.max_length = 20, .pairs = &pair, .pair_count = 1, .tokens = "ids",
                               .logits = "scores")};
    assert_ok(try_model(&model));
}

/* --- preparing a network --- */

TEST(a_network_that_cannot_be_prepared_stays_as_it_is)
{
    const language_options whole = {.form = MODEL_WHOLE};
    owned_network network = language_network(&whole);
    const size_t layers = kiln_network_layer_count(network);
    kiln_stream_network_options options = KILN_STREAM_NETWORK_OPTIONS_INIT;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_network_prepare_stream(network, &options),
                 "not made by a Concat", "keep_present");
    options.logits = "scores";
    assert_fails(KILN_ERROR_NAME, kiln_network_prepare_stream(network, &options),
                 "no output \"scores\"");
    options.candidates = 257;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_network_prepare_stream(network, &options),
                 "candidates is 257");
    assert_int_equal(kiln_network_layer_count(network), layers);
    options = KILN_STREAM_NETWORK_OPTIONS(.keep_present = true, .candidates = 4);
    assert_ok(kiln_network_prepare_stream(network, &options));
    assert_int_equal(kiln_network_output_count(network), 2 * LAYERS + 3);
}

/* Whatever it was that failed. */
static kiln_status read_and_prepare(void *user)
{
    const kiln_stream_network_options options = KILN_STREAM_NETWORK_OPTIONS(.candidates = 4);
    owned_network network = NULL;
    kiln_status status = kiln_network_from_onnx(user, &network);
    if (status != KILN_OK) {
        return status;
    }
    const size_t layers = kiln_network_layer_count(network);
    status = kiln_network_prepare_stream(network, &options);
    const bool fails = status != KILN_OK;
    kiln_tensor_id id = KILN_NO_TENSOR;
    assert_int_equal(kiln_network_output_count(network), 2 * LAYERS + (fails ? 1 : 3));
    assert_true(!fails || kiln_network_layer_count(network) == layers);
    assert_true((kiln_network_find(network, "top_tokens", &id) == KILN_OK) != fails);
    return status;
}

TEST(a_network_stays_as_it_is_where_memory_is_short)
{
    const language_options growing = {.form = MODEL_GROWING};
    owned_network network = language_network(&growing);
    const char *path = kiln_test_path("growing.onnx");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    network = NULL;
    kiln_test_each_allocation(read_and_prepare, (void *)(uintptr_t)path);
}
