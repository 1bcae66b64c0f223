/* SPDX-License-Identifier: Apache-2.0 */
/* Names of optimization profiles. A plan does not store them; they come from the build options or
 * the manifest. */
#include <cJSON.h>
#include <kiln/plan.h>
#include <stdio.h>

#include "kln_engine.h"
#include "onnx/kln_look.h"

#define KEY "profile_names"

kiln_status kln_profile_names_keep(kiln_engine *engine, const kiln_profile *profiles, size_t count)
{
    if (profiles == NULL || count == 0) {
        return KILN_OK;
    }
    const char **names = kln_arena_alloc_zeroed(&engine->arena, count, sizeof *names);
    KLN_RETURN_IF_NO_MEMORY(names, count * sizeof *names, "the names of profiles");
    for (size_t i = 0; i < count; i++) {
        if (profiles[i].name != NULL) {
            names[i] = kln_arena_strdup(&engine->arena, profiles[i].name);
            KLN_RETURN_IF_NO_MEMORY(names[i], strlen(profiles[i].name), "the name of a profile");
        }
    }
    engine->profile_names = names;
    engine->profile_name_count = count;
    for (size_t i = 0; i < count && count == engine->shared.description.profile_count; i++) {
        engine->shared.description.profiles[i].name = names[i];
    }
    return KILN_OK;
}

/* --- in the manifest --- */

bool kln_profile_names_write(const kiln_engine *engine, cJSON *root)
{
    bool any = false;
    for (size_t i = 0; i < engine->profile_name_count; i++) {
        any = any || engine->profile_names[i] != NULL;
    }
    if (!any) {
        return true;
    }
    cJSON *array = cJSON_AddArrayToObject(root, KEY);
    for (size_t i = 0; array != NULL && i < engine->profile_name_count; i++) {
        const char *name = engine->profile_names[i] != NULL ? engine->profile_names[i] : "";
        cJSON *item = cJSON_CreateString(name);
        if (item == NULL || cJSON_AddItemToArray(array, item) == 0) {
            cJSON_Delete(item);
            return false;
        }
    }
    return array != NULL;
}

kiln_status kln_profile_names_read(const cJSON *root, char names[KLN_PROFILE_NAMES])
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(root, KEY);
    const cJSON *item = NULL;
    size_t used = 0;
    names[0] = '\0';
    if (array == NULL) {
        return KILN_OK;
    }
    bool sense = cJSON_IsArray(array) != 0;
    cJSON_ArrayForEach(item, array)
    {
        const char *name = cJSON_IsString(item) ? item->valuestring : NULL;
        sense = sense && name != NULL && used + strlen(name) + 2 <= KLN_PROFILE_NAMES &&
                strpbrk(name, "\n") == NULL;
        if (sense) {
            used += (size_t)snprintf(names + used, KLN_PROFILE_NAMES - used, "%s\n", name);
        }
    }
    return sense ? KILN_OK
                 : kln_fail(KILN_ERROR_MALFORMED,
                            "\"" KEY
                            "\" must be a list of texts of less than %d bytes; delete the "
                            "manifest to load without it",
                            KLN_PROFILE_NAMES);
}

kiln_status kln_profile_names_restore(kiln_engine *engine, char names[KLN_PROFILE_NAMES])
{
    size_t count = 0;
    for (const char *at = names; *at != '\0'; at++) {
        count += *at == '\n';
    }
    if (count == 0 || engine->profile_names != NULL) {
        return KILN_OK;
    }
    KLN_SCOPED_FREE kiln_profile *profiles = kln_alloc_zeroed(count, sizeof *profiles);
    KLN_RETURN_IF_NO_MEMORY(profiles, count * sizeof *profiles, "the names of profiles");
    char *at = names;
    for (size_t i = 0; i < count; i++) {
        char *end = strchr(at, '\n');
        *end = '\0';
        profiles[i].name = at[0] != '\0' ? at : NULL;
        at = end + 1;
    }
    return kln_profile_names_keep(engine, profiles, count);
}

/* --- finding a profile --- */

static const char *profile_name(const void *from, size_t index)
{
    return ((const kiln_profile *)from)[index].name;
}

kiln_status kiln_engine_find_profile(const kiln_engine *engine, const char *name, int32_t *profile)
{
    KLN_RETURN_IF_NULL(profile);
    *profile = -1;
    KLN_RETURN_IF_NULL(engine, name);
    const kiln_description *description = &engine->shared.description;
    for (size_t i = 0; i < description->profile_count; i++) {
        const char *other = description->profiles[i].name;
        if (other != NULL && strcmp(other, name) == 0) {
            *profile = (int32_t)i;
            return KILN_OK;
        }
    }
    char known[600];
    return kln_fail(KILN_ERROR_NAME, "no optimization profile has the name \"%s\"; %s", name,
                    kln_there_are(known, sizeof known, description->profile_count, profile_name,
                                  description->profiles));
}

/* --- a profile from announced shapes --- */

static const kiln_shape_hint *find_hint(const kiln_build_options *options, const char *name)
{
    for (size_t i = 0; i < options->shape_hint_count; i++) {
        if (strcmp(options->shape_hints[i].name, name) == 0) {
            return &options->shape_hints[i];
        }
    }
    return NULL;
}

static kiln_status range_rows(const char *name, const kiln_shape *declared,
                              const kiln_shape_hint *hint, int32_t rows, kiln_profile_input *range)
{
    *range = (kiln_profile_input){.min = *declared, .max = *declared};
    for (int32_t d = 0; d < declared->rank; d++) {
        int64_t size = declared->dims[d];
        if (size < 0 && d > 0 && hint != NULL && hint->shape.rank == declared->rank) {
            size = hint->shape.dims[d];
        }
        if (size < 0 && d > 0) {
            char text[KLN_SHAPE_TEXT];
            (void)kiln_shape_format(declared, text, sizeof text);
            return kln_fail(KILN_ERROR_SHAPE,
                            "input \"%.200s\" is %s: the size of dimension %d is not known, which "
                            "profile_rows needs; give a profile, or its shape (shape_hints)",
                            name, text, d);
        }
        range->min.dims[d] = size >= 0 ? size : 1;
        range->max.dims[d] = size >= 0 ? size : rows;
    }
    range->opt = range->max;
    return KILN_OK;
}

/* Gets the shape of an input; true if it is a tensor of known rank with a dynamic dimension. */
static bool is_dynamic(const kln_onnx_type *type, kiln_shape *shape)
{
    *shape = (kiln_shape){.rank = (int32_t)type->rank};
    if (type->kind != KLN_ONNX_KIND_TENSOR || !type->has_shape || type->rank > KILN_MAX_RANK) {
        return false;
    }
    for (size_t d = 0; d < type->rank; d++) {
        shape->dims[d] = type->dims[d].value >= 0 ? type->dims[d].value : KILN_DYNAMIC;
    }
    return !kiln_shape_is_static(shape);
}

static kiln_status profile_of_rows(const kiln_model *model, const kiln_build_options *options,
                                   kln_arena *arena, kiln_profile *profile)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *read = NULL;
    kiln_profile_input *inputs = NULL;
    if (model->graph == NULL) {
        KLN_RETURN_IF_ERROR(kln_model_read(model, &read));
    }
    const kln_onnx_graph *graph = model->graph != NULL ? &model->graph->graph : &read->graph;
    KLN_ARENA_NEW(arena, inputs, graph->input_count, "a profile");
    *profile = (kiln_profile){.inputs = inputs};
    for (size_t i = 0; i < graph->input_count; i++) {
        const kln_onnx_value *input = &graph->inputs[i];
        const kiln_shape_hint *hint = find_hint(options, input->name);
        kiln_shape shape;
        if (is_dynamic(&input->type, &shape) &&
            (hint != NULL || kln_onnx_find_initializer(graph, input->name) == NULL)) {
            kiln_profile_input *range = &inputs[profile->input_count++];
            KLN_RETURN_IF_ERROR(
                range_rows(input->name, &shape, hint, options->profile_rows, range));
            range->name = kln_arena_strdup(arena, input->name);
            KLN_RETURN_IF_NO_MEMORY(range->name, strlen(input->name), "a profile");
        }
    }
    return KILN_OK;
}

kiln_status kln_profile_expected(const kiln_model *model, const kiln_build_options *options,
                                 kln_arena *arena, kiln_profile *profile)
{
    const size_t count = options->shape_hint_count;
    if (options->profile_rows > 0) {
        return profile_of_rows(model, options, arena, profile);
    }
    kiln_profile_input *inputs = NULL;
    KLN_ARENA_NEW(arena, inputs, count, "a profile of shape hints");
    *profile = (kiln_profile){.inputs = inputs, .input_count = count};
    for (size_t i = 0; i < count; i++) {
        const kiln_shape_hint *hint = &options->shape_hints[i];
        inputs[i] = (kiln_profile_input){
            .name = hint->name, .min = hint->shape, .opt = hint->shape, .max = hint->shape};
    }
    return KILN_OK;
}
