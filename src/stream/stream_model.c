/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the description of a model from its engines. */
#include "stream_parts.h"

/* --- logits --- */

/* Checks the shape: rows, positions if there are several, and a vocabulary. */
static kiln_status check_logits(const kiln_binding *binding, const kiln_generator_options *options,
                                int64_t *vocabulary)
{
    const int32_t rank = binding->shape.rank;
    char shape[KLN_SHAPE_TEXT];
    *vocabulary = rank == 2 || rank == 3 ? binding->shape.dims[rank - 1] : 0;
    if (*vocabulary < 0) {
        *vocabulary = options->vocabulary;
    }
    if (*vocabulary > 0 && *vocabulary < INT32_MAX &&
        (options->vocabulary == 0 || options->vocabulary == *vocabulary)) {
        return KILN_OK;
    }
    (void)kiln_shape_format(&binding->shape, shape, sizeof shape);
    return kln_fail(KILN_ERROR_SHAPE,
                    "kiln_generator_create: output \"%s\" has the shape %s; rows, positions and a "
                    "vocabulary of fixed size are needed (kiln_generator_options.vocabulary, here "
                    "%lld, states one that the shape does not tell)",
                    binding->name, shape, (long long)options->vocabulary);
}

/* Finds the candidates that a prepared model outputs for each row. */
static void find_candidates(stream_part *part, stream_end *tokens, stream_end *logits)
{
    if (tokens == NULL || logits == NULL || !part->last_only) {
        return;
    }
    const kiln_shape *shape = &tokens->binding.shape;
    const int64_t count = shape->rank > 1 ? shape->dims[shape->rank - 1] : 0;
    const kiln_dtype dtype = tokens->binding.dtype;
    if (count > 0 && count <= STREAM_MOST_CANDIDATES &&
        (dtype == KILN_DTYPE_INT64 || dtype == KILN_DTYPE_INT32)) {
        tokens->role = ROLE_TOP_TOKENS;
        logits->role = ROLE_TOP_LOGITS;
        part->candidates = (size_t)count;
        part->wide_candidates = dtype == KILN_DTYPE_INT64;
    }
}

static kiln_status find_logits(stream_model *model, stream_part *part,
                               const kiln_generator_options *options)
{
    static const char *const usual[] = {"logits", NULL};
    static const char *const top_tokens[] = {STREAM_TOP_TOKENS, NULL};
    static const char *const top_logits[] = {STREAM_TOP_LOGITS, NULL};
    stream_end *logits = NULL;
    stream_end *tokens = NULL;
    stream_end *tops = NULL;
    int64_t vocabulary = 0;
    KLN_RETURN_IF_ERROR(stream_find_usual(part, false, options->logits, usual, &logits));
    KLN_RETURN_IF_ERROR(stream_find_usual(part, false, NULL, top_tokens, &tokens));
    KLN_RETURN_IF_ERROR(stream_find_usual(part, false, NULL, top_logits, &tops));
    size_t left = 0;
    for (size_t i = part->input_count; logits == NULL && i < part->count; i++) {
        if (part->ends[i].role == ROLE_NONE) {
            logits = &part->ends[i];
            left++;
        }
    }
    const kiln_binding *binding = logits != NULL ? &logits->binding : NULL;
    if (binding == NULL || left > 1) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_generator_create: the engine has no output \"logits\"; state its "
                        "name (kiln_generator_options.logits)");
    }
    KLN_RETURN_IF_ERROR(check_logits(binding, options, &vocabulary));
    if (binding->dtype != KILN_DTYPE_FLOAT32 && binding->dtype != KILN_DTYPE_FLOAT16 &&
        binding->dtype != KILN_DTYPE_BFLOAT16) {
        return kln_fail(KILN_ERROR_DTYPE,
                        "kiln_generator_create: output \"%s\" is of type %s; logits are float32, "
                        "float16 or bfloat16",
                        binding->name, kiln_dtype_name(binding->dtype));
    }
    const bool is_decode = part == &model->decode;
    const bool last_only = binding->shape.rank == 2 || binding->shape.dims[1] == 1 ||
                           (binding->shape.dims[1] < 0 && options->last_logits);
    KLN_RETURN_IF(
        !is_decode && (model->vocabulary != vocabulary || model->logits_dtype != binding->dtype),
        KILN_ERROR_SHAPE,
        "kiln_generator_create: the logits of the prefill model have %lld tokens "
        "of %s, and those of the engine %lld of %s",
        (long long)vocabulary, kiln_dtype_name(binding->dtype), (long long)model->vocabulary,
        kiln_dtype_name(model->logits_dtype));
    model->vocabulary = vocabulary;
    model->logits_dtype = binding->dtype;
    part->last_only = last_only;
    logits->role = ROLE_LOGITS;
    find_candidates(part, tokens, tops);
    return KILN_OK;
}

/* --- the whole model --- */

/* Inputs that come from sequences and that no decoder reads: the encoder's own. */
static kiln_status find_given(stream_model *model)
{
    stream_part *encoder = &model->encoder;
    for (size_t i = 0; i < encoder->input_count; i++) {
        KLN_RETURN_IF_ERROR(
            stream_add_given(model, &encoder->ends[i].binding, &encoder->ends[i].index));
        encoder->ends[i].role = ROLE_GIVEN;
    }
    return KILN_OK;
}

static kiln_status allocate_lists(stream_model *model)
{
    const size_t inputs =
        model->decode.input_count + model->prefill.input_count + model->encoder.input_count;
    model->pairs = kln_arena_alloc_zeroed(&model->arena, inputs, sizeof *model->pairs);
    model->kept = kln_arena_alloc_zeroed(&model->arena, inputs, sizeof *model->kept);
    model->given = kln_arena_alloc_zeroed(&model->arena, inputs, sizeof *model->given);
    return model->pairs != NULL && model->kept != NULL && model->given != NULL
               ? KILN_OK
               : kln_fail_memory(inputs * sizeof *model->pairs, "a model's inputs and outputs");
}

static kiln_status find_roles(stream_model *model, kiln_generator_options *options)
{
    KLN_RETURN_IF_ERROR(stream_find_usual_inputs(&model->decode, options));
    KLN_RETURN_IF_ERROR(stream_find_usual_inputs(&model->prefill, options));
    KLN_RETURN_IF_ERROR(stream_pair_by_shape(model, options));
    KLN_RETURN_IF_ERROR(find_given(model));
    KLN_RETURN_IF_ERROR(stream_check_stated_pairs(model, options));
    KLN_RETURN_IF_ERROR(stream_find_other_inputs(model, &model->decode, options));
    KLN_RETURN_IF_ERROR(stream_find_other_inputs(model, &model->prefill, options));
    if (model->pair_count == 0) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_generator_create: the engine has no cache: no input is called past.. "
                        "or past_key_values..; export the model with its cache (use_cache), or "
                        "state the pairs (kiln_generator_options.pairs)");
    }
    stream_index_ends(model, &model->decode);
    stream_index_ends(model, &model->prefill);
    stream_index_ends(model, &model->encoder);
    KLN_RETURN_IF_ERROR(find_logits(model, &model->decode, options));
    return find_logits(model, &model->prefill, options);
}

kiln_status stream_model_make(kiln_engine *engine, const kiln_generator_options *asked,
                              stream_model *model)
{
    kiln_generator_options own = *asked;
    kiln_generator_options *options = &own;
    model->device = kiln_engine_device(engine);
    KLN_FAIL_IF(options->pairs == NULL && options->pair_count != 0,
                kln_fail_null("kiln_generator_create", "pairs"));
    KLN_RETURN_IF_ERROR(stream_open_part(model, engine, &model->decode));
    KLN_RETURN_IF_ERROR(stream_open_part(
        model, options->prefill != NULL ? options->prefill : engine, &model->prefill));
    if (options->encoder != NULL) {
        KLN_RETURN_IF_ERROR(stream_open_part(model, options->encoder, &model->encoder));
    }
    KLN_RETURN_IF_ERROR(allocate_lists(model));
    KLN_RETURN_IF_ERROR(find_roles(model, options));
    KLN_RETURN_IF_ERROR(stream_find_layout(model, options));
    return stream_find_limits(model, options);
}

void stream_model_finish(stream_model *model)
{
    stream_part *const parts[] = {&model->decode, &model->prefill, &model->encoder};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(parts); i++) {
        kiln_context_destroy(parts[i]->context);
        kiln_engine_release(parts[i]->engine);
    }
    for (size_t i = 0; i < model->step_count; i++) {
        kiln_context_destroy(model->steps[i].context);
    }
    for (size_t i = 0; i < model->kept_count; i++) {
        kiln_buffer_destroy(model->kept[i].memory);
    }
    kln_arena_finish(&model->arena);
}
