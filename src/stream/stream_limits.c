/* SPDX-License-Identifier: Apache-2.0 */
/* Determines the cache layout and the limits of runs, from static dimensions and optimization
 * profiles. */
#include "stream_parts.h"

#define DEFAULT_BATCH 8
#define MOST_BATCH 65536
#define NO_LIMIT (INT64_MAX / 4)

/* --- layout --- */

static const kiln_binding *binding_of(const stream_part *part, stream_role role, size_t index)
{
    for (size_t i = 0; i < part->count; i++) {
        if (part->ends[i].role == role && part->ends[i].index == index) {
            return &part->ends[i].binding;
        }
    }
    return NULL;
}

static kiln_cache_layout recognize(const stream_model *model, const stream_pair *pair)
{
    const kiln_binding *present = binding_of(&model->decode, ROLE_PRESENT, 0);
    const kiln_binding *tokens = binding_of(&model->decode, ROLE_TOKENS, 0);
    const int64_t past = pair->shape.dims[pair->axis];
    const int64_t made = present->shape.rank > 0 ? present->shape.dims[pair->axis] : KILN_DYNAMIC;
    const char *length = present->shape.rank > 0 ? present->dim_names[pair->axis] : NULL;
    if (past >= 0) {
        return KILN_CACHE_WHOLE;
    }
    const bool named =
        length != NULL && tokens->dim_names[1] != NULL && strcmp(length, tokens->dim_names[1]) == 0;
    const bool is_new =
        strncmp(pair->present, STREAM_NEW_PREFIX, sizeof STREAM_NEW_PREFIX - 1) == 0;
    return made == 1 || named || is_new ? KILN_CACHE_NEW : KILN_CACHE_GROWING;
}

kiln_status stream_find_layout(stream_model *model, const kiln_generator_options *options)
{
    const stream_pair *first = &model->pairs[0];
    const stream_part *decode = &model->decode;
    const bool mask = stream_has_role(decode, ROLE_MASK);
    const bool counts = stream_has_role(decode, ROLE_POSITIONS) || options->relative;
    model->layout =
        options->layout != KILN_CACHE_AUTOMATIC ? options->layout : recognize(model, first);
    model->ragged =
        mask && counts && model->kept_count == 0 && stream_has_role(&model->prefill, ROLE_MASK);
    KLN_RETURN_IF(model->layout < KILN_CACHE_GROWING || model->layout > KILN_CACHE_WHOLE,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_generator_options: layout is %d, one of kiln_cache_layout (0 to %d) "
                  "is needed",
                  (int)model->layout, KILN_CACHE_WHOLE);
    for (size_t i = 0; i < model->pair_count; i++) {
        const stream_pair *pair = &model->pairs[i];
        const int64_t length = pair->shape.dims[pair->axis];
        if ((length >= 0) != (model->layout == KILN_CACHE_WHOLE) ||
            length != first->shape.dims[first->axis]) {
            return kln_fail(KILN_ERROR_SHAPE,
                            "kiln_generator_create: input \"%s\" has a past of %s length%s; all "
                            "have one, that fits the layout",
                            pair->past, length >= 0 ? "a fixed" : "any",
                            length >= 0 && model->layout != KILN_CACHE_WHOLE
                                ? ", and only KILN_CACHE_WHOLE has one"
                                : "");
        }
    }
    KLN_RETURN_IF(model->layout == KILN_CACHE_NEW && (!mask || !counts), KILN_ERROR_UNSUPPORTED,
                  "kiln_generator_create: a past of the new positions alone is longer than "
                  "what is in use, so the model needs %s",
                  !mask ? "an input attention_mask"
                        : "an input position_ids, or positions that follow from the mask "
                          "(kiln_generator_options.relative)");
    KLN_RETURN_IF(
        model->layout == KILN_CACHE_WHOLE && !mask && !stream_has_role(decode, ROLE_COLUMNS),
        KILN_ERROR_UNSUPPORTED,
        "kiln_generator_create: a past of fixed length needs an input that tells "
        "what of it is in use: attention_mask or cache_position");
    return KILN_OK;
}

/* --- limits --- */

typedef struct range {
    int64_t least, best, most;
} range;

/* The sizes that dimension `axis` of an input may have, from a profile (NULL: none) or because it
 * is static. */
static range range_of(const kiln_profile *profile, const kiln_binding *binding, int32_t axis)
{
    if (binding->shape.dims[axis] >= 0) {
        const int64_t size = binding->shape.dims[axis];
        return (range){size, size, size};
    }
    for (size_t i = 0; profile != NULL && i < profile->input_count; i++) {
        const kiln_profile_input *input = &profile->inputs[i];
        if (strcmp(input->name, binding->name) == 0 && input->value_count == 0) {
            return (range){input->min.dims[axis], input->opt.dims[axis], input->max.dims[axis]};
        }
    }
    return (range){axis == 0, NO_LIMIT, NO_LIMIT};
}

/* Reads the limits of runs; returns whether they allow a step, or a prefill. */
static bool limits_of(const stream_model *model, const stream_part *part,
                      const kiln_profile *profile, bool prefill, stream_limits *limits)
{
    const kiln_binding *tokens = binding_of(part, ROLE_TOKENS, 0);
    const kiln_binding *past = binding_of(part, ROLE_PAST, 0);
    const int32_t axis = model->pairs[0].axis;
    const range rows = range_of(profile, tokens, 0);
    const range length = range_of(profile, tokens, 1);
    const range columns = past != NULL ? range_of(profile, past, axis) : (range){0, 0, 0};
    limits->least_rows = rows.least > 1 ? rows.least : 1;
    limits->most_rows = rows.most;
    limits->least_tokens = length.least > 1 ? length.least : 1;
    limits->most_tokens = length.most;
    limits->least_past = columns.least > 0 ? columns.least : 0;
    limits->most_past = columns.most;
    limits->best_past = columns.best;
    if (past == NULL && prefill && profile == NULL) {
        return true;
    }
    return prefill ? true : length.least <= 1 && length.most >= 1 && columns.most >= 1;
}

/* Among the profiles that fit: for steps the one with the longest past; for prefills the one with
 * the shortest past, then the longest prompt. */
static bool is_better(const stream_limits *a, const stream_limits *b, bool prefill)
{
    if (!prefill) {
        const int64_t wide = a->most_tokens - b->most_tokens; /* fewer tokens: made for steps */
        return a->most_past != b->most_past ? a->most_past > b->most_past : wide < 0;
    }
    return a->least_past != b->least_past ? a->least_past < b->least_past
                                          : a->most_tokens > b->most_tokens;
}

/* Reads profile `index`, or the engine's static shapes if it has none. */
static kiln_status read_limits(const stream_model *model, const stream_part *part, size_t index,
                               bool prefill, stream_limits *limits, bool *fits)
{
    kiln_profile profile;
    const bool has = index < kiln_engine_profile_count(part->engine);
    *limits = (stream_limits){.profile = has ? (int32_t)index : -1};
    if (has) {
        KLN_RETURN_IF_ERROR(kiln_engine_profile(part->engine, index, &profile));
    }
    *fits = limits_of(model, part, has ? &profile : NULL, prefill, limits);
    return KILN_OK;
}

static kiln_status find_part_limits(const stream_model *model, stream_part *part, bool prefill)
{
    const size_t count = kiln_engine_profile_count(part->engine);
    bool found = false;
    for (size_t i = 0; i == 0 || i < count; i++) {
        stream_limits limits;
        bool fits = false;
        KLN_RETURN_IF_ERROR(read_limits(model, part, i, prefill, &limits, &fits));
        if (fits && (!found || is_better(&limits, &part->limits, prefill))) {
            part->limits = limits;
            found = true;
        }
    }
    return found ? KILN_OK
                 : kln_fail(KILN_ERROR_SHAPE,
                            "kiln_generator_create: no profile of the engine takes a step: tokens "
                            "of the shape batch x 1 and a past of 1 or more");
}

/* --- several profiles for steps --- */

/* With KILN_CACHE_NEW, a profile that takes the same rows as the main one, and no more tokens, can
 * serve the widths that are closer to its opt shape. */
static bool is_of_use(const stream_model *model, const stream_limits *limits)
{
    const stream_limits *main = &model->decode.limits;
    return model->layout == KILN_CACHE_NEW && limits->profile != main->profile &&
           limits->least_rows <= main->least_rows && limits->most_rows >= main->most_rows &&
           limits->most_tokens <= main->most_tokens;
}

static kiln_status find_steps(stream_model *model)
{
    stream_part *part = &model->decode;
    const size_t count = kiln_engine_profile_count(part->engine);
    KLN_ARENA_NEW(&model->arena, model->steps, count + 1, "the profiles of steps");
    model->steps[model->step_count++].limits = part->limits;
    for (size_t i = 0; i < count; i++) {
        stream_limits limits;
        bool fits = false;
        KLN_RETURN_IF_ERROR(read_limits(model, part, i, false, &limits, &fits));
        if (fits && is_of_use(model, &limits)) {
            model->steps[model->step_count++].limits = limits;
        }
    }
    for (size_t i = 1; i < model->step_count; i++) {
        const int64_t least = model->steps[i].limits.least_past;
        part->limits.least_past = least < part->limits.least_past ? least : part->limits.least_past;
    }
    return KILN_OK;
}

int64_t stream_width_taken(const stream_model *model, int64_t columns)
{
    int64_t best = NO_LIMIT;
    for (size_t i = 0; i < model->step_count; i++) {
        const stream_limits *limits = &model->steps[i].limits;
        const int64_t width = columns > limits->least_past ? columns : limits->least_past;
        best = width <= limits->most_past && width < best ? width : best;
    }
    return best < NO_LIMIT ? best : model->decode.limits.most_past;
}

stream_step *stream_step_for(const stream_model *model, int64_t width)
{
    stream_step *best = &model->steps[0];
    int64_t nearest = NO_LIMIT;
    for (size_t i = 0; i < model->step_count; i++) {
        const stream_limits *limits = &model->steps[i].limits;
        const int64_t away =
            width > limits->best_past ? width - limits->best_past : limits->best_past - width;
        if (width >= limits->least_past && width <= limits->most_past && away < nearest) {
            best = &model->steps[i];
            nearest = away;
        }
    }
    return best;
}

/* --- all limits --- */

static kiln_status fail_past(const char *what, long long asked, long long most)
{
    return kln_fail(KILN_ERROR_LIMIT,
                    "kiln_generator_options: %s is %lld, the engine's shapes and profiles take up "
                    "to %lld",
                    what, asked, most);
}

static kiln_status choose_batch(stream_model *model, int64_t asked)
{
    const int64_t most = model->decode.limits.most_rows; /* prompts may take several runs */
    const int64_t least = model->decode.limits.least_rows > model->prefill.limits.least_rows
                              ? model->decode.limits.least_rows
                              : model->prefill.limits.least_rows;
    if (asked < 0 || asked > MOST_BATCH) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_generator_options: max_batch is %lld; it is 0 to %d",
                        (long long)asked, MOST_BATCH);
    }
    KLN_FAIL_IF(asked > most, fail_past("max_batch", (long long)asked, (long long)most));
    model->max_batch = asked != 0 ? asked : most < NO_LIMIT ? most : DEFAULT_BATCH;
    model->max_batch = model->max_batch > least ? model->max_batch : least;
    return KILN_OK;
}

static kiln_status choose_length(stream_model *model, int64_t asked)
{
    const stream_limits *decode = &model->decode.limits;
    const stream_limits *prefill = &model->prefill.limits;
    const bool whole = model->layout == KILN_CACHE_WHOLE;
    const int64_t most = whole ? decode->most_past : decode->most_past + 1;
    if (asked < 0 || (asked == 0 && most >= NO_LIMIT)) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_generator_options: max_length is %lld; the longest sequence has to "
                        "be stated, since the engine takes any",
                        (long long)asked);
    }
    KLN_FAIL_IF(asked > most || asked == 1 || most < 2,
                fail_past("max_length", (long long)asked, (long long)most));
    model->max_length = asked != 0 ? asked : most;
    model->max_prompt =
        prefill->most_tokens < model->max_length - 1 ? prefill->most_tokens : model->max_length - 1;
    const int64_t before = whole ? 0 : prefill->least_past;
    const int64_t columns = model->max_length + before > decode->least_past + 1
                                ? model->max_length + before
                                : decode->least_past + 1;
    const int64_t takes =
        model->layout == KILN_CACHE_GROWING ? decode->most_past + 1 : decode->most_past;
    const int64_t wide =
        model->layout == KILN_CACHE_NEW ? stream_width_taken(model, columns) : columns;
    model->most_columns = whole ? decode->most_past : wide < takes ? wide : takes;
    return KILN_OK;
}

kiln_status stream_find_limits(stream_model *model, const kiln_generator_options *options)
{
    model->encoder.limits.profile = -1;
    KLN_RETURN_IF_ERROR(find_part_limits(model, &model->decode, false));
    KLN_RETURN_IF_ERROR(find_steps(model));
    KLN_RETURN_IF_ERROR(find_part_limits(model, &model->prefill, true));
    KLN_RETURN_IF_ERROR(choose_batch(model, options->max_batch));
    return choose_length(model, options->max_length);
}
