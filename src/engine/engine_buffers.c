/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_engine.h"

static const kiln_profile_input *find_in_profile(const kiln_profile *profile, const char *name)
{
    for (size_t i = 0; profile != NULL && i < profile->input_count; i++) {
        /* The values of a shape tensor say nothing about its size. */
        if (strcmp(profile->inputs[i].name, name) == 0 && profile->inputs[i].value_count == 0) {
            return &profile->inputs[i];
        }
    }
    return NULL;
}

static kiln_status check_profile(const kiln_engine *engine, const kiln_profile *profile)
{
    if (profile == NULL || profile->input_count == 0) {
        return KILN_OK;
    }
    KLN_FAIL_IF(profile->inputs == NULL,
                kln_fail_null("kiln_engine_plan_buffers", "profile->inputs"));
    for (size_t i = 0; i < profile->input_count; i++) {
        const char *name = profile->inputs[i].name;
        KLN_FAIL_IF(name == NULL, kln_fail_null("kiln_engine_plan_buffers", "name"));
        KLN_RETURN_IF(kln_names_get(&engine->inputs, name) == KLN_NAMES_NONE &&
                          kln_names_get(&engine->outputs, name) == KLN_NAMES_NONE,
                      KILN_ERROR_NAME, "kiln_engine_plan_buffers: the engine has no binding \"%s\"",
                      name);
    }
    return KILN_OK;
}

/* Takes the maximum shape from the profile. */
static kiln_status take_given(const kiln_binding *binding, const kiln_shape *most,
                              kiln_shape *shape)
{
    KLN_RETURN_IF(binding->shape.rank >= 0 && binding->shape.rank != most->rank, KILN_ERROR_RANK,
                  "binding \"%s\" has %d dimensions, and the profile gives it %d", binding->name,
                  binding->shape.rank, most->rank);
    for (int32_t d = 0; d < binding->shape.rank; d++) {
        const int64_t fixed = binding->shape.dims[d];
        KLN_RETURN_IF(fixed >= 0 && fixed != most->dims[d], KILN_ERROR_SHAPE,
                      "binding \"%s\": dimension %d is %lld, and the profile gives it %lld",
                      binding->name, d, (long long)fixed, (long long)most->dims[d]);
    }
    *shape = *most;
    return KILN_OK;
}

/* The maximum size that the profile gives, in any input, to the dimension of this name; otherwise
 * KILN_DYNAMIC. */
static int64_t find_dimension(const kiln_engine *engine, const kiln_profile *profile,
                              const char *name)
{
    for (size_t i = 0; name != NULL && i < engine->shared.description.input_count; i++) {
        const kiln_binding *input = &engine->shared.description.bindings[i];
        const kiln_profile_input *given = find_in_profile(profile, input->name);
        for (int32_t d = 0; given != NULL && d < input->shape.rank && d < given->max.rank; d++) {
            if (input->dim_names[d] != NULL && strcmp(input->dim_names[d], name) == 0) {
                return given->max.dims[d];
            }
        }
    }
    return KILN_DYNAMIC;
}

static kiln_status resolve(const kiln_engine *engine, const kiln_profile *profile,
                           const kiln_binding *binding, kiln_shape *shape)
{
    const kiln_profile_input *given = find_in_profile(profile, binding->name);
    if (given != NULL) {
        return take_given(binding, &given->max, shape);
    }
    *shape = binding->shape;
    for (int32_t d = 0; d < shape->rank; d++) {
        if (shape->dims[d] == KILN_DYNAMIC) {
            shape->dims[d] = find_dimension(engine, profile, binding->dim_names[d]);
        }
    }
    if (shape->rank < 0 || !kiln_shape_is_static(shape)) {
        char text[KLN_SHAPE_TEXT] = "of any rank";
        if (shape->rank >= 0) {
            (void)kiln_shape_format(shape, text, sizeof text);
        }
        return kln_fail(KILN_ERROR_SHAPE,
                        "binding \"%s\" is %s: the profile must give its largest shape",
                        binding->name, text);
    }
    return KILN_OK;
}

kiln_status kiln_engine_plan_buffers(const kiln_engine *engine, const kiln_profile *profile,
                                     const kiln_buffer_plan_options *options,
                                     kiln_buffer_plan **plan)
{
    KLN_RETURN_IF_NULL(engine, plan);
    *plan = NULL;
    KLN_RETURN_IF_ERROR(check_profile(engine, profile));
    const kiln_description *description = &engine->shared.description;
    const size_t count = description->input_count + description->output_count;
    KLN_SCOPED_FREE kiln_buffer_request *requests = kln_alloc_zeroed(count, sizeof *requests);
    KLN_RETURN_IF_NO_MEMORY(requests, count * sizeof *requests, "a buffer plan");
    for (size_t i = 0; i < count; i++) {
        requests[i].name = description->bindings[i].name;
        requests[i].dtype = description->bindings[i].dtype;
        KLN_RETURN_IF_ERROR(
            resolve(engine, profile, &description->bindings[i], &requests[i].shape));
    }
    return kiln_buffer_plan_create(requests, count, options, plan);
}
