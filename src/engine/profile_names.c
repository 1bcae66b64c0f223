/* SPDX-License-Identifier: Apache-2.0 */
/* Names of optimization profiles, which no plan holds: from the build options or the manifest. */
#include <cJSON.h>
#include <kiln/plan.h>
#include <stdio.h>

#include "kln_engine.h"

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

/* --- asking for one --- */

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

/* --- a profile of the shapes that somebody expects --- */

kiln_status kln_profile_of_hints(const kiln_build_options *options, kiln_profile *profile)
{
    const size_t count = options->shape_hint_count;
    kiln_profile_input *inputs = kln_alloc_zeroed(count, sizeof *inputs);
    *profile = (kiln_profile){.inputs = inputs, .input_count = count};
    KLN_RETURN_IF_NO_MEMORY(inputs, count * sizeof *inputs, "a profile of shape hints");
    for (size_t i = 0; i < count; i++) {
        const kiln_shape_hint *hint = &options->shape_hints[i];
        inputs[i] = (kiln_profile_input){
            .name = hint->name, .min = hint->shape, .opt = hint->shape, .max = hint->shape};
    }
    return KILN_OK;
}
