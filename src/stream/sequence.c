/* SPDX-License-Identifier: Apache-2.0 */
/* A sequence: its options, its tokens and text, and its callbacks. */
#include <stdio.h>

#include "stream_parts.h"

/* Rarely exceeded by a token's text; otherwise the buffer grows. */
#define BYTES_A_TOKEN 8
#define MOST_TEXT ((size_t)1 << 30)

/* --- options --- */

static kiln_status check_prompt(const kiln_generator *generator, const int64_t *prompt,
                                size_t count)
{
    const stream_model *model = &generator->model;
    if (count == 0) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_generator_submit: the prompt is empty; it has one token at least, "
                        "that with which the model's texts begin");
    }
    if (count > (size_t)model->max_prompt || count >= (size_t)model->max_length) {
        const long long most = model->max_prompt < model->max_length
                                   ? (long long)model->max_prompt
                                   : (long long)model->max_length - 1;
        return kln_fail(KILN_ERROR_LIMIT,
                        "kiln_generator_submit: the prompt has %zu tokens, this generator takes up "
                        "to %lld (max_length, or the engine's profiles)",
                        count, most);
    }
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF(prompt[i] < 0 || (model->vocabulary > 0 && prompt[i] >= model->vocabulary),
                      KILN_ERROR_INVALID_ARGUMENT,
                      "kiln_generator_submit: token %zu of the prompt is %lld, and the "
                      "vocabulary has %lld",
                      i, (long long)prompt[i], (long long)model->vocabulary);
    }
    return KILN_OK;
}

static kiln_status check_list(const char *name, const void *list, size_t count)
{
    return list == NULL && count != 0 ? kln_fail_null("kiln_generator_submit", name) : KILN_OK;
}

static kiln_status check_options(const kiln_generator *generator, size_t count,
                                 const kiln_sequence_options *options)
{
    const int64_t most = generator->model.max_length - (int64_t)count;
    KLN_RETURN_IF_ERROR(check_list("stop_tokens", options->stop_tokens, options->stop_token_count));
    KLN_RETURN_IF_ERROR(check_list("stop_strings", (const void *)options->stop_strings,
                                   options->stop_string_count));
    KLN_RETURN_IF_ERROR(check_list("inputs", options->inputs, options->input_count));
    if (options->max_tokens < 0 || options->max_tokens > most) {
        return kln_fail(options->max_tokens < 0 ? KILN_ERROR_INVALID_ARGUMENT : KILN_ERROR_LIMIT,
                        "kiln_generator_submit: max_tokens is %lld; behind a prompt of %zu this "
                        "generator has room for 1 to %lld (max_length %lld)",
                        (long long)options->max_tokens, count, (long long)most,
                        (long long)generator->model.max_length);
    }
    KLN_RETURN_IF(options->stop_string_count != 0 && options->detokenize == NULL,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_generator_submit: stop strings are looked for in text, which needs "
                  "`detokenize`");
    for (size_t i = 0; i < options->stop_string_count; i++) {
        KLN_RETURN_IF(options->stop_strings[i] == NULL || options->stop_strings[i][0] == '\0',
                      KILN_ERROR_INVALID_ARGUMENT, "kiln_generator_submit: stop string %zu is %s",
                      i, options->stop_strings[i] == NULL ? "NULL" : "empty");
    }
    return KILN_OK;
}

static void *keep(kiln_sequence *sequence, const void *list, size_t bytes)
{
    void *kept = kln_arena_alloc(&sequence->arena, bytes != 0 ? bytes : 1);
    if (kept != NULL && bytes != 0) {
        memcpy(kept, list, bytes);
    }
    return kept;
}

static kiln_status keep_stops(kiln_sequence *sequence)
{
    kiln_sequence_options *options = &sequence->options;
    stop_strings *stops = &sequence->stops;
    options->stop_tokens = keep(sequence, options->stop_tokens,
                                options->stop_token_count * sizeof *options->stop_tokens);
    stops->strings = kln_arena_alloc_zeroed(&sequence->arena, options->stop_string_count + 1,
                                            sizeof *stops->strings);
    bool kept = options->stop_tokens != NULL && stops->strings != NULL;
    for (size_t i = 0; kept && i < options->stop_string_count; i++) {
        stops->strings[i] = kln_arena_strdup(&sequence->arena, options->stop_strings[i]);
        kept = stops->strings[i] != NULL;
        stops->count += kept;
    }
    return kept ? KILN_OK : kln_fail_memory(options->stop_token_count, "what ends a sequence");
}

/* Keeps the inputs of a sequence, in the model's order. */
static kiln_status keep_inputs(const stream_model *model, kiln_sequence *sequence)
{
    const kiln_sequence_options *options = &sequence->options;
    KLN_ARENA_NEW(&sequence->arena, sequence->inputs, model->given_count + 1,
                  "a sequence's inputs");
    for (size_t i = 0; i < options->input_count; i++) {
        size_t at = 0;
        const char *name = options->inputs[i].name;
        while (at < model->given_count && name != NULL &&
               strcmp(model->given[at].name, name) != 0) {
            at++;
        }
        if (name == NULL || at == model->given_count) {
            return kln_fail(
                KILN_ERROR_NAME,
                "kiln_generator_submit: a sequence of this model has no input \"%s\"%s%s",
                name != NULL ? name : "", at != 0 ? "; the first it has is " : "",
                at != 0 ? model->given[0].name : "");
        }
        KLN_RETURN_IF_ERROR(stream_check_given(&model->given[at], &options->inputs[i].tensor));
        sequence->inputs[at] = options->inputs[i];
        sequence->inputs[at].name = model->given[at].name;
    }
    for (size_t i = 0; i < model->given_count; i++) {
        KLN_RETURN_IF(sequence->inputs[i].name == NULL, KILN_ERROR_NOT_BOUND,
                      "kiln_generator_submit: a sequence of this model brings \"%s\" along",
                      model->given[i].name);
    }
    return KILN_OK;
}

static kiln_status fill(kiln_sequence *sequence, const int64_t *prompt, size_t count,
                        const kiln_sequence_options *options)
{
    const stream_model *model = &sequence->generator->model;
    kiln_sequence_options *own = &sequence->options;
    *own = KILN_SEQUENCE_OPTIONS_INIT;
    sequence->sampling = KILN_SAMPLING_INIT;
    if (options != NULL) {
        KLN_RETURN_IF_ERROR(kln_options_read("kiln_sequence_options", options, own, sizeof *own));
    }
    if (own->sampling != NULL) {
        KLN_RETURN_IF_ERROR(kln_options_read("kiln_sampling", own->sampling, &sequence->sampling,
                                             sizeof sequence->sampling));
    }
    KLN_RETURN_IF_ERROR(sampler_check(&sequence->sampling));
    KLN_RETURN_IF_ERROR(check_prompt(sequence->generator, prompt, count));
    KLN_RETURN_IF_ERROR(check_options(sequence->generator, count, own));
    KLN_RETURN_IF_ERROR(keep_stops(sequence));
    KLN_RETURN_IF_ERROR(keep_inputs(model, sequence));
    const size_t generated =
        (size_t)(own->max_tokens != 0 ? own->max_tokens : model->max_length - (int64_t)count);
    sequence->most = count + generated;
    sequence->prompt_count = count;
    sequence->count = count;
    sequence->tokens = kln_arena_alloc(&sequence->arena, sequence->most * sizeof *prompt);
    sequence->ends = kln_arena_alloc(&sequence->arena, generated * sizeof *sequence->ends);
    KLN_FAIL_IF(sequence->tokens == NULL || sequence->ends == NULL,
                kln_fail_memory(sequence->most * sizeof *prompt, "the tokens of a sequence"));
    memcpy(sequence->tokens, prompt, count * sizeof *prompt);
    if (own->detokenize != NULL) { /* usually enough for the whole text */
        char *text = kln_alloc(generated * BYTES_A_TOKEN + 1);
        KLN_RETURN_IF_NO_MEMORY(text, generated * BYTES_A_TOKEN, "the text of a sequence");
        sequence->text.data = text;
        sequence->text.capacity = generated * BYTES_A_TOKEN + 1;
        text[0] = '\0';
    }
    return KILN_OK;
}

static void destroy(kiln_sequence *sequence)
{
    kiln_generator *generator = sequence->generator;
    kln_text_finish(&sequence->text);
    kln_text_finish(&sequence->shown);
    kln_arena_finish(&sequence->arena);
    kln_free(sequence);
    generator_release(generator);
}
KLN_SCOPED_POINTER(kiln_sequence, destroy)

void sequence_release(kiln_sequence *sequence)
{
    if (atomic_fetch_sub(&sequence->references, 1) == 1) {
        destroy(sequence);
    }
}

kiln_status sequence_make(kiln_generator *generator, const int64_t *prompt, size_t count,
                          const kiln_sequence_options *options, kiln_sequence **sequence)
{
    KLN_SCOPED(destroy_at) kiln_sequence *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a sequence");
    made->generator = generator;
    (void)atomic_fetch_add(&generator->references, 1);
    atomic_init(&made->references, 1);
    atomic_init(&made->cancelled, false);
    kln_text_init(&made->text, MOST_TEXT);
    kln_text_init(&made->shown, MOST_TEXT);
    KLN_RETURN_IF_ERROR(fill(made, prompt, count, options));
    *sequence = KLN_TAKE(made);
    return KILN_OK;
}

/* --- results --- */

static void tell(kiln_sequence *sequence, int64_t token, uint64_t index, size_t from)
{
    const kiln_sequence_options *options = &sequence->options;
    if (options->told != NULL) {
        const bool has_text = options->detokenize != NULL;
        const kiln_token told = {.struct_size = sizeof told,
                                 .token = token,
                                 .index = index,
                                 .text = has_text ? sequence->text.data + from : NULL,
                                 .text_size = has_text ? sequence->certain - from : 0,
                                 .finish = sequence->finish};
        options->told(options->told_user, sequence, &told);
    }
}

/* Called with the lock held. The generator's reference is dropped after the callback. */
static void finish(kiln_sequence *sequence, kiln_finish how, kiln_status status,
                   const char *sentence)
{
    kiln_generator_counters *counters = &sequence->generator->counters;
    uint64_t *outcome = how == KILN_FINISH_CANCELLED ? &counters->cancelled
                        : how == KILN_FINISH_EXPIRED ? &counters->expired
                        : how == KILN_FINISH_FAILED  ? &counters->failed
                                                     : &counters->done;
    *outcome += 1;
    counters->waiting -= sequence->state == SEQUENCE_WAITING;
    counters->running -= sequence->state == SEQUENCE_RUNNING;
    sequence->state = SEQUENCE_ENDED;
    sequence->finish = how;
    sequence->status = status;
    if (sentence != NULL) {
        (void)snprintf(sequence->sentence, sizeof sequence->sentence, "%s", sentence);
    }
}

static void lock(kiln_sequence *sequence)
{
    (void)pthread_mutex_lock(&sequence->generator->lock);
}

static void unlock_with_news(kiln_sequence *sequence)
{
    (void)pthread_cond_broadcast(&sequence->generator->news);
    (void)pthread_mutex_unlock(&sequence->generator->lock);
}

/* The text that a token adds: in `piece` if it fits, else in `*longer`, which the caller frees. */
static kiln_status detokenize(const kiln_sequence *sequence, size_t generated, char *piece,
                              size_t room, char **longer, size_t *size)
{
    const kiln_sequence_options *options = &sequence->options;
    const int64_t *tokens = sequence->tokens + sequence->prompt_count;
    *size = options->detokenize(options->detokenize_user, tokens, generated, piece, room);
    if (*size <= room) {
        return KILN_OK;
    }
    *longer = kln_alloc(*size);
    KLN_RETURN_IF_NO_MEMORY(*longer, *size, "the text of a token");
    const size_t again =
        options->detokenize(options->detokenize_user, tokens, generated, *longer, *size);
    return again == *size
               ? KILN_OK
               : kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                          "`detokenize` gave a token %zu bytes first and then %zu", *size, again);
}

static bool is_stop_token(const kiln_sequence *sequence, int64_t token)
{
    bool is = false;
    for (size_t i = 0; i < sequence->options.stop_token_count; i++) {
        is |= sequence->options.stop_tokens[i] == token;
    }
    return is;
}

bool sequence_add(kiln_sequence *sequence, int64_t token)
{
    const bool stops = is_stop_token(sequence, token);
    const uint64_t index = sequence->count - sequence->prompt_count;
    const size_t from = sequence->certain;
    char piece[256];
    char *longer = NULL;
    size_t added = 0;
    bool found = false;
    kiln_status status = KILN_OK;
    sequence->tokens[sequence->count] = token;
    if (sequence->options.detokenize != NULL && !stops) {
        status = detokenize(sequence, index + 1, piece, sizeof piece, &longer, &added);
    }
    lock(sequence);
    if (status == KILN_OK && added != 0) {
        status = kln_text_append(&sequence->text, longer != NULL ? longer : piece, added);
    }
    const kln_text *text = &sequence->text;
    const size_t certain = stop_strings_look(&sequence->stops, text->data, text->size,
                                             status == KILN_OK ? added : 0, &found);
    sequence->count++;
    const kiln_finish how = status != KILN_OK                   ? KILN_FINISH_FAILED
                            : stops                             ? KILN_FINISH_TOKEN
                            : found                             ? KILN_FINISH_TEXT
                            : sequence->count == sequence->most ? KILN_FINISH_LENGTH
                                                                : KILN_FINISH_NONE;
    sequence->certain = how == KILN_FINISH_NONE || how == KILN_FINISH_TEXT ? certain : text->size;
    sequence->ends[index] = sequence->certain;
    sequence->generator->counters.tokens++;
    if (how != KILN_FINISH_NONE) {
        finish(sequence, how, status, status != KILN_OK ? kiln_error_message() : NULL);
    }
    unlock_with_news(sequence);
    kln_free(longer);
    tell(sequence, token, index, from);
    if (how != KILN_FINISH_NONE) {
        sequence_release(sequence);
    }
    return how == KILN_FINISH_NONE;
}

void sequence_end(kiln_sequence *sequence, kiln_finish how, kiln_status status,
                  const char *sentence)
{
    lock(sequence);
    const size_t from = sequence->certain;
    const uint64_t index = sequence->count - sequence->prompt_count;
    sequence->certain = sequence->text.size;
    sequence->adds_end = true;
    finish(sequence, how, status, sentence);
    unlock_with_news(sequence);
    tell(sequence, -1, index, from);
    sequence_release(sequence);
}
