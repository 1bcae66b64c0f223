/* SPDX-License-Identifier: Apache-2.0 */
/* Which outputs of a run become inputs of the next: pairs of past and present, and kept tensors. */
#include "stream_parts.h"

/* --- past and present --- */

static const char *behind(const char *name, const char *const prefixes[2])
{
    for (size_t i = 0; i < 2; i++) {
        const size_t length = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], length) == 0) {
            return name + length;
        }
    }
    return NULL;
}

static const char *past_key(const char *name)
{
    static const char *const prefixes[2] = {"past_key_values", "past"};
    return behind(name, prefixes);
}

static const char *present_key(const char *name)
{
    static const char *const prefixes[2] = {"present_key_values", "present"};
    const size_t skipped = strncmp(name, STREAM_NEW_PREFIX, sizeof STREAM_NEW_PREFIX - 1) == 0
                               ? sizeof STREAM_NEW_PREFIX - 1
                               : 0;
    return behind(name + skipped, prefixes);
}

/* The output that belongs to the input of that name, or NULL. */
static stream_end *find_present(const stream_part *part, const kiln_generator_options *options,
                                const char *past)
{
    for (size_t i = 0; i < options->pair_count; i++) {
        if (strcmp(options->pairs[i].past, past) == 0) {
            return stream_find_end(part, false, options->pairs[i].present);
        }
    }
    const char *key = past_key(past);
    for (size_t i = part->input_count; key != NULL && i < part->count; i++) {
        const char *other = present_key(part->ends[i].binding.name);
        if (other != NULL && strcmp(other, key) == 0) {
            return &part->ends[i];
        }
    }
    return NULL;
}

static bool is_kept(const stream_model *model, const kiln_generator_options *options,
                    const char *past)
{
    for (size_t i = 0; i < options->pair_count; i++) {
        if (strcmp(options->pairs[i].past, past) == 0) {
            return options->pairs[i].kept;
        }
    }
    return strstr(past, ".encoder.") != NULL || strstr(past, "cross") != NULL ||
           (model->prefill.engine != model->decode.engine &&
            find_present(&model->decode, options, past) == NULL &&
            find_present(&model->prefill, options, past) != NULL);
}

static bool is_past(const kiln_generator_options *options, const char *name)
{
    for (size_t i = 0; i < options->pair_count; i++) {
        if (strcmp(options->pairs[i].past, name) == 0) {
            return true;
        }
    }
    return options->pair_count == 0 && past_key(name) != NULL;
}

kiln_status stream_check_stated_pairs(const stream_model *model,
                                      const kiln_generator_options *options)
{
    for (size_t i = 0; i < options->pair_count; i++) {
        const kiln_cache_pair *pair = &options->pairs[i];
        const stream_part *part = pair->kept ? &model->prefill : &model->decode;
        KLN_FAIL_IF(pair->past == NULL || pair->present == NULL,
                    kln_fail_null("kiln_generator_create", "pairs[].past or .present"));
        const bool no_past = stream_find_end(&model->decode, true, pair->past) == NULL;
        KLN_RETURN_IF(no_past || stream_find_end(part, false, pair->present) == NULL,
                      KILN_ERROR_NAME,
                      "kiln_generator_options: pair %zu: the engine has no %s \"%s\"", i,
                      no_past ? "input" : "output", no_past ? pair->past : pair->present);
    }
    return KILN_OK;
}

/* The dimension of positions: the only dynamic one besides the rows or, in a static shape of four
 * dimensions, the last but one. */
static kiln_status find_axis(const kiln_binding *past, int32_t *axis)
{
    const kiln_shape *shape = &past->shape;
    int32_t dynamic = 0;
    for (int32_t d = 1; d < shape->rank; d++) {
        if (shape->dims[d] < 0) {
            dynamic++;
            *axis = d;
        }
    }
    if (dynamic == 0 && shape->rank == 4) {
        *axis = 2;
        return KILN_OK;
    }
    return dynamic == 1 ? KILN_OK
                        : kln_fail(KILN_ERROR_UNSUPPORTED,
                                   "kiln_generator_create: input \"%s\" has the shape %s; one "
                                   "dimension behind that of the batch has to be dynamic, that of "
                                   "the positions",
                                   past->name, KLN_SHAPE_PRINTED(shape));
}

static kiln_status check_pair(const kiln_binding *past, const kiln_binding *present, int32_t axis)
{
    const char *a = KLN_SHAPE_PRINTED(&past->shape);
    if (past->dtype != present->dtype) {
        return kln_fail(KILN_ERROR_DTYPE,
                        "kiln_generator_create: input \"%s\" is of type %s and output \"%s\" of "
                        "type %s; what a run puts out the next one reads",
                        past->name, kiln_dtype_name(past->dtype), present->name,
                        kiln_dtype_name(present->dtype));
    }
    bool fits = present->shape.rank < 0 || past->shape.rank == present->shape.rank;
    for (int32_t d = 1; fits && d < present->shape.rank; d++) {
        fits = d == axis || past->shape.dims[d] < 0 || present->shape.dims[d] < 0 ||
               past->shape.dims[d] == present->shape.dims[d];
    }
    return fits
               ? KILN_OK
               : kln_fail(KILN_ERROR_SHAPE,
                          "kiln_generator_create: input \"%s\" is %s and output \"%s\" is %s; what "
                          "a run puts out the next one reads",
                          past->name, a, present->name, KLN_SHAPE_PRINTED(&present->shape));
}

/* Whether it may hold keys or values: rows and at least two more dimensions. */
static bool may_be_cache(const stream_end *end, const char *logits)
{
    return end->role == ROLE_NONE && end->binding.shape.rank > 2 &&
           strcmp(end->binding.name, logits) != 0;
}

kiln_status stream_pair_by_shape(stream_model *model, kiln_generator_options *options)
{
    const stream_part *part = &model->decode;
    const char *logits = options->logits != NULL ? options->logits : "logits";
    kiln_cache_pair *pairs = kln_arena_alloc_zeroed(&model->arena, part->count, sizeof *pairs);
    size_t counts[2] = {0, 0};
    int32_t axis = 0;
    KLN_RETURN_IF_NO_MEMORY(pairs, part->count * sizeof *pairs, "pairs of past and present");
    for (size_t i = 0; i < part->count; i++) {
        const stream_end *end = &part->ends[i];
        const bool input = i < part->input_count;
        if (options->pair_count != 0 || (input && past_key(end->binding.name) != NULL)) {
            return KILN_OK; /* the names decide */
        }
        if (may_be_cache(end, logits)) {
            kiln_cache_pair *pair = &pairs[counts[input ? 0 : 1]++];
            *(input ? &pair->past : &pair->present) = end->binding.name;
        }
    }
    KLN_MESSAGE_STAYS; /* a mismatch is not an error */
    bool fits = counts[0] == counts[1] && counts[0] != 0;
    for (size_t i = 0; fits && i < counts[0]; i++) {
        const kiln_binding *past = &stream_find_end(part, true, pairs[i].past)->binding;
        const kiln_binding *present = &stream_find_end(part, false, pairs[i].present)->binding;
        fits = find_axis(past, &axis) == KILN_OK && check_pair(past, present, axis) == KILN_OK;
    }
    options->pairs = fits ? pairs : NULL;
    options->pair_count = fits ? counts[0] : 0;
    return KILN_OK;
}

static kiln_status fill_pair(const stream_end *past, const stream_end *present, stream_pair *pair)
{
    const kiln_shape *shape = &past->binding.shape;
    KLN_RETURN_IF_ERROR(find_axis(&past->binding, &pair->axis));
    KLN_RETURN_IF_ERROR(check_pair(&past->binding, &present->binding, pair->axis));
    pair->past = past->binding.name;
    pair->present = present->binding.name;
    pair->dtype = past->binding.dtype;
    pair->shape = *shape;
    size_t bits = kiln_dtype_bits(pair->dtype);
    pair->outer = 1;
    for (int32_t d = 1; d < shape->rank; d++) {
        pair->outer *= d < pair->axis ? (size_t)shape->dims[d] : 1;
        bits *= d > pair->axis ? (size_t)shape->dims[d] : 1;
    }
    pair->inner = bits / 8;
    return bits % 8 == 0 && bits != 0
               ? KILN_OK
               : kln_fail(KILN_ERROR_DTYPE,
                          "kiln_generator_create: input \"%s\" of type %s: a position is no whole "
                          "number of bytes",
                          pair->past, kiln_dtype_name(pair->dtype));
}

static kiln_status fail_without_present(const stream_end *past, const stream_part *part)
{
    return kln_fail(
        KILN_ERROR_UNSUPPORTED,
        "kiln_generator_create: input \"%s\" has no output to go with it (the engine's "
        "first is \"%s\"); export the model with its cache (use_cache), or state the "
        "pairs (kiln_generator_options.pairs)",
        past->binding.name,
        part->count > part->input_count ? part->ends[part->input_count].binding.name : "");
}

/* --- kept tensors and inputs of sequences --- */

kiln_status stream_add_given(stream_model *model, const kiln_binding *binding, size_t *index)
{
    for (size_t i = 0; i < model->given_count; i++) {
        if (strcmp(model->given[i].name, binding->name) == 0) {
            *index = i;
            return KILN_OK;
        }
    }
    model->given[model->given_count] = *binding;
    *index = model->given_count++;
    return KILN_OK;
}

/* The encoder's output that goes to an input of that name, or NULL. */
static const stream_end *find_encoder_output(const stream_model *model, const char *name)
{
    const stream_part *encoder = &model->encoder;
    static const char *const usual[] = {"last_hidden_state", "encoder_hidden_states", NULL};
    const stream_end *end = stream_find_end(encoder, false, name);
    for (size_t i = 0;
         end == NULL && strcmp(name, "encoder_hidden_states") == 0 && usual[i] != NULL; i++) {
        end = stream_find_end(encoder, false, usual[i]);
    }
    return end;
}

static kiln_status add_kept(stream_model *model, const kiln_binding *binding, const char *present,
                            size_t *index)
{
    for (size_t i = 0; i < model->kept_count; i++) {
        if (strcmp(model->kept[i].name, binding->name) == 0) {
            *index = i;
            return KILN_OK;
        }
    }
    stream_kept *kept = &model->kept[model->kept_count];
    *kept = (stream_kept){.name = binding->name, .dtype = binding->dtype, .asked = binding->shape};
    if (present != NULL) {
        kept->source = SOURCE_PREFILL;
        kept->from = present;
        model->kept_pairs++;
    } else if (model->encoder.engine != NULL) {
        const stream_end *output = find_encoder_output(model, binding->name);
        const char *mask = "encoder_attention_mask";
        const stream_end *given =
            stream_find_end(&model->encoder, true,
                            strcmp(binding->name, mask) == 0 ? "attention_mask" : binding->name);
        KLN_RETURN_IF(output == NULL && given == NULL, KILN_ERROR_UNSUPPORTED,
                      "kiln_generator_create: nothing is known of input \"%s\": no output of "
                      "the encoder has its name",
                      binding->name);
        kept->source = output != NULL ? SOURCE_ENCODER : SOURCE_SEQUENCE;
        kept->from = (output != NULL ? output : given)->binding.name;
        if (output == NULL) {
            KLN_RETURN_IF_ERROR(stream_add_given(model, &given->binding, &kept->index));
        }
    } else {
        kept->source = SOURCE_SEQUENCE;
        kept->from = kept->name;
        KLN_RETURN_IF_ERROR(stream_add_given(model, binding, &kept->index));
    }
    *index = model->kept_count++;
    return KILN_OK;
}

/* Assigns the remaining inputs of a part. */
kiln_status stream_find_other_inputs(stream_model *model, stream_part *part,
                                     const kiln_generator_options *options)
{
    for (size_t i = 0; i < part->input_count; i++) {
        stream_end *end = &part->ends[i];
        const char *name = end->binding.name;
        if (end->role != ROLE_NONE) {
            continue;
        }
        const bool past = is_past(options, name);
        if (past && !is_kept(model, options, name)) {
            stream_end *present = find_present(&model->decode, options, name);
            KLN_FAIL_IF(present == NULL, fail_without_present(end, &model->decode));
            if (part == &model->decode) {
                KLN_RETURN_IF_ERROR(fill_pair(end, present, &model->pairs[model->pair_count++]));
            }
            end->role = ROLE_PAST;
            continue;
        }
        const stream_end *made = past ? find_present(&model->prefill, options, name) : NULL;
        KLN_FAIL_IF(past && made == NULL, fail_without_present(end, &model->prefill));
        KLN_RETURN_IF_ERROR(
            add_kept(model, &end->binding, made != NULL ? made->binding.name : NULL, &end->index));
        end->role = ROLE_KEPT;
    }
    return KILN_OK;
}

/* Finds the pair or kept tensor that each input and output belongs to. */
void stream_index_ends(const stream_model *model, stream_part *part)
{
    for (size_t i = 0; i < part->count; i++) {
        stream_end *end = &part->ends[i];
        const char *name = end->binding.name;
        for (size_t k = 0; k < model->pair_count; k++) {
            const stream_pair *pair = &model->pairs[k];
            const bool past = end->role == ROLE_PAST && strcmp(pair->past, name) == 0;
            const bool present = i >= part->input_count && strcmp(pair->present, name) == 0;
            if (past || present) {
                end->role = past ? ROLE_PAST : ROLE_PRESENT;
                end->index = k;
            }
        }
        for (size_t k = 0; i >= part->input_count && k < model->kept_count; k++) {
            const stream_source source = part == &model->encoder ? SOURCE_ENCODER : SOURCE_PREFILL;
            if (model->kept[k].source == source && strcmp(model->kept[k].from, name) == 0) {
                end->role = ROLE_KEPT;
                end->index = k;
            }
        }
    }
}
