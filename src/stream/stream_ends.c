/* SPDX-License-Identifier: Apache-2.0 */
/* Finds an engine's inputs and outputs by name, either the usual ones of exporters or those that
 * the caller states; and the inputs that are filled in for each run. */
#include "stream_parts.h"

static kiln_status read_end(const stream_part *part, size_t index, kiln_binding *binding)
{
    *binding = (kiln_binding){.struct_size = sizeof *binding};
    return index < part->input_count
               ? kiln_engine_input(part->engine, index, binding)
               : kiln_engine_output(part->engine, index - part->input_count, binding);
}

kiln_status stream_open_part(stream_model *model, kiln_engine *engine, stream_part *part)
{
    part->engine = kiln_engine_retain(engine);
    part->input_count = kiln_engine_input_count(engine);
    part->count = part->input_count + kiln_engine_output_count(engine);
    KLN_ARENA_NEW(&model->arena, part->ends, part->count, "a model's inputs and outputs");
    for (size_t i = 0; i < part->count; i++) {
        KLN_RETURN_IF_ERROR(read_end(part, i, &part->ends[i].binding));
    }
    if (kiln_engine_device(engine) != model->device) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_generator_create: one engine computes on device %d, another on %d "
                        "(-1: the CPU); all are on one",
                        model->device, kiln_engine_device(engine));
    }
    return KILN_OK;
}

/* The input or output of that name, or NULL. */
stream_end *stream_find_end(const stream_part *part, bool input, const char *name)
{
    const size_t end = input ? part->input_count : part->count;
    for (size_t i = input ? 0 : part->input_count; name != NULL && i < end; i++) {
        if (strcmp(part->ends[i].binding.name, name) == 0) {
            return &part->ends[i];
        }
    }
    return NULL;
}

/* A name stated by the caller has to exist; otherwise the first of the usual names is taken, if
 * any. */
kiln_status stream_find_usual(const stream_part *part, bool input, const char *stated,
                              const char *const *usual, stream_end **found)
{
    *found = stream_find_end(part, input, stated);
    KLN_RETURN_IF(stated != NULL && *found == NULL, KILN_ERROR_NAME,
                  "kiln_generator_options: the engine has no %s \"%s\"", input ? "input" : "output",
                  stated);
    for (size_t i = 0; *found == NULL && usual[i] != NULL; i++) {
        *found = stream_find_end(part, input, usual[i]);
    }
    return KILN_OK;
}

/* --- inputs that are filled in for each run --- */

typedef struct usual_input {
    stream_role role;
    int32_t rank;
    bool is_number; /* int64 or int32; if not, bool and float32 are allowed too */
    const char *names[3];
} usual_input;

static const usual_input usual_inputs[] = {
    {ROLE_TOKENS, 2, true, {"decoder_input_ids", "input_ids"}},
    {ROLE_MASK, 2, false, {"decoder_attention_mask", "attention_mask"}},
    {ROLE_POSITIONS, 2, true, {"position_ids"}},
    {ROLE_COLUMNS, 1, true, {"cache_position"}},
    {ROLE_BRANCH, 1, false, {"use_cache_branch"}},
};

static const char *stated_name(const kiln_generator_options *options, stream_role role)
{
    return role == ROLE_TOKENS      ? options->tokens
           : role == ROLE_MASK      ? options->mask
           : role == ROLE_POSITIONS ? options->positions
                                    : NULL;
}

static kiln_status check_usual(const stream_end *end, const usual_input *usual)
{
    const kiln_binding *binding = &end->binding;
    const bool number = binding->dtype == KILN_DTYPE_INT64 || binding->dtype == KILN_DTYPE_INT32;
    const bool other = binding->dtype == KILN_DTYPE_BOOL || binding->dtype == KILN_DTYPE_FLOAT32;
    char shape[KLN_SHAPE_TEXT];
    if (!number && (usual->is_number || !other)) {
        return kln_fail(KILN_ERROR_DTYPE,
                        "kiln_generator_create: input \"%s\" is of type %s; int64 or int32%s is "
                        "filled in",
                        binding->name, kiln_dtype_name(binding->dtype),
                        usual->is_number ? "" : ", bool or float32");
    }
    if (binding->shape.rank != usual->rank) {
        (void)kiln_shape_format(&binding->shape, shape, sizeof shape);
        return kln_fail(KILN_ERROR_RANK,
                        "kiln_generator_create: input \"%s\" has the shape %s; %s is filled in",
                        binding->name, shape,
                        usual->rank == 2 ? "one row for each sequence (rank 2)" : "rank 1");
    }
    return KILN_OK;
}

kiln_status stream_find_usual_inputs(const stream_part *part, const kiln_generator_options *options)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(usual_inputs); i++) {
        const usual_input *usual = &usual_inputs[i];
        stream_end *end = NULL;
        KLN_RETURN_IF_ERROR(
            stream_find_usual(part, true, stated_name(options, usual->role), usual->names, &end));
        if (end != NULL) {
            KLN_RETURN_IF_ERROR(check_usual(end, usual));
            end->role = usual->role;
        } else if (usual->role == ROLE_TOKENS) {
            return kln_fail(KILN_ERROR_UNSUPPORTED,
                            "kiln_generator_create: the engine has no input for tokens: none is "
                            "called input_ids or decoder_input_ids; state its name "
                            "(kiln_generator_options.tokens)");
        }
    }
    return KILN_OK;
}

bool stream_has_role(const stream_part *part, stream_role role)
{
    bool has = false;
    for (size_t i = 0; i < part->count; i++) {
        has |= part->ends[i].role == role;
    }
    return has;
}
