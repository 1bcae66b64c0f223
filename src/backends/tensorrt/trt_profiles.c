/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "backends/tensorrt/trt_builder.h"

static const trt_enumerator selectors[3] = {
    TRT_V_OptProfileSelector_MIN, TRT_V_OptProfileSelector_OPT, TRT_V_OptProfileSelector_MAX};
static const char *const selector_names[3] = {"min", "opt", "max"};

kiln_shape trt_shape(const trt_Dims *dims)
{
    kiln_shape shape = {.rank = dims->nbDims};
    for (int32_t i = 0; i < dims->nbDims && i < KILN_MAX_RANK; i++) {
        shape.dims[i] = dims->d[i] < 0 ? KILN_DYNAMIC : dims->d[i];
    }
    return shape;
}

trt_Dims trt_dims(const kiln_shape *shape)
{
    trt_Dims dims = {.nbDims = shape->rank};
    for (int32_t i = 0; i < shape->rank && i < TRT_MAX_DIMS; i++) {
        dims.d[i] = shape->dims[i];
    }
    return dims;
}

static kiln_status set_shapes(trt_build *build, trt_OptimizationProfile *profile, size_t index,
                              const kiln_profile_input *input)
{
    const trt_abi *abi = &build->library->abi;
    const kiln_shape *shapes[3] = {&input->min, &input->opt, &input->max};
    for (size_t i = 0; i < 3; i++) {
        const trt_Dims value = trt_dims(shapes[i]);
        KLN_FAIL_IF(!trt_OptimizationProfile_setDimensions(abi, profile, input->name,
                                                           trt_value(abi, selectors[i]), &value),
                    trt_fail(KILN_ERROR_SHAPE, &build->recorder,
                             "profile %zu, input \"%s\": %s was not accepted", index, input->name,
                             selector_names[i]));
    }
    return KILN_OK;
}

/* Before setShapeValuesV2 values were of 32 bits. */
static bool set_values(const trt_abi *abi, trt_OptimizationProfile *profile, const char *name,
                       int32_t selector, const int64_t *values, size_t count)
{
    if (trt_has(abi, TRT_M_OptimizationProfile_setShapeValuesV2)) {
        return trt_OptimizationProfile_setShapeValuesV2(abi, profile, name, selector, values,
                                                        (int32_t)count);
    }
    int32_t narrow[64];
    if (count > KLN_ARRAY_LENGTH(narrow)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (values[i] < INT32_MIN || values[i] > INT32_MAX) {
            return false;
        }
        narrow[i] = (int32_t)values[i];
    }
    return trt_OptimizationProfile_setShapeValues(abi, profile, name, selector, narrow,
                                                  (int32_t)count);
}

static kiln_status set_all_values(trt_build *build, trt_OptimizationProfile *profile, size_t index,
                                  const kiln_profile_input *input)
{
    const trt_abi *abi = &build->library->abi;
    const int64_t *lists[3] = {input->min_values, input->opt_values, input->max_values};
    for (size_t i = 0; i < 3; i++) {
        KLN_FAIL_IF(!set_values(abi, profile, input->name, trt_value(abi, selectors[i]), lists[i],
                                input->value_count),
                    trt_fail(KILN_ERROR_SHAPE, &build->recorder,
                             "profile %zu, input \"%s\": %s values were not accepted", index,
                             input->name, selector_names[i]));
    }
    return KILN_OK;
}

/* Every dynamic input must be in every profile: the library would say so only after a while,
 * and not by which option. */
static kiln_status check_complete(trt_build *build, size_t index, const kiln_profile *profile)
{
    const trt_abi *abi = &build->library->abi;
    const int32_t count = trt_NetworkDefinition_getNbInputs(abi, build->network);
    for (int32_t i = 0; i < count; i++) {
        trt_Tensor *tensor = trt_NetworkDefinition_getInput(abi, build->network, i);
        const trt_Dims dims = trt_Tensor_getDimensions(abi, tensor);
        const kiln_shape shape = trt_shape(&dims);
        const bool values = trt_Tensor_isShapeTensor(abi, tensor);
        bool given = kiln_shape_is_static(&shape) && !values;
        for (size_t k = 0; profile != NULL && k < profile->input_count && !given; k++) {
            given = strcmp(profile->inputs[k].name, trt_Tensor_getName(abi, tensor)) == 0;
        }
        if (!given) {
            char text[192];
            (void)kiln_shape_format(&shape, text, sizeof text);
            const char *kind = values ? ", a shape tensor: its values" : "";
            KLN_RETURN_IF(profile != NULL, KILN_ERROR_INVALID_ARGUMENT,
                          "%s: input \"%s\" (%s%s) is missing in optimization profile %zu",
                          build->source, trt_Tensor_getName(abi, tensor), text, kind, index);
            return kln_fail(
                KILN_ERROR_INVALID_ARGUMENT,
                values ? "%s: input \"%s\" (%s%s) needs a range: give an optimization profile with "
                         "its min, opt and max values (kiln_build_options.profiles)"
                       : "%s: input \"%s\" (%s%s) has a dynamic dimension: give an optimization "
                         "profile with its min, opt and max (kiln_build_options.profiles), or the "
                         "shape it will have (shape_hints)",
                build->source, trt_Tensor_getName(abi, tensor), text, kind);
        }
    }
    return KILN_OK;
}

static kiln_status add_profile(trt_build *build, size_t index, const kiln_profile *wanted)
{
    const trt_abi *abi = &build->library->abi;
    trt_OptimizationProfile *profile = trt_Builder_createOptimizationProfile(abi, build->builder);
    KLN_FAIL_IF(trt_is_null(profile),
                trt_fail(KILN_ERROR_BACKEND, &build->recorder, "an optimization profile"));
    for (size_t i = 0; i < wanted->input_count; i++) {
        const kiln_profile_input *input = &wanted->inputs[i];
        KLN_RETURN_IF_ERROR(input->value_count > 0 ? set_all_values(build, profile, index, input)
                                                   : set_shapes(build, profile, index, input));
    }
    KLN_RETURN_IF_ERROR(check_complete(build, index, wanted));
    KLN_FAIL_IF(!trt_OptimizationProfile_isValid(abi, profile) ||
                    trt_BuilderConfig_addOptimizationProfile(abi, build->config, profile) < 0,
                trt_fail(KILN_ERROR_SHAPE, &build->recorder,
                         "%s: optimization profile %zu was not accepted", build->source, index));
    return KILN_OK;
}

static kiln_status check_profiles(const trt_build *build)
{
    const trt_abi *abi = &build->library->abi;
    const size_t count = (size_t)trt_NetworkDefinition_getNbInputs(abi, build->network);
    KLN_SCOPED_FREE kiln_binding *inputs = kln_alloc_zeroed(count + 1, sizeof *inputs);
    KLN_RETURN_IF_NO_MEMORY(inputs, (count + 1) * sizeof *inputs, "the inputs of a network");
    for (size_t i = 0; i < count; i++) {
        trt_Tensor *tensor = trt_NetworkDefinition_getInput(abi, build->network, (int32_t)i);
        const trt_Dims dims = trt_Tensor_getDimensions(abi, tensor);
        inputs[i].is_input = true;
        inputs[i].name = trt_Tensor_getName(abi, tensor);
        inputs[i].shape = trt_shape(&dims);
    }
    return kln_profiles_check(build->options, inputs, count);
}

kiln_status trt_apply_profiles(trt_build *build)
{
    const kiln_build_options *options = build->options;
    if (options->profile_count == 0) {
        return check_complete(build, 0, NULL);
    }
    KLN_RETURN_IF_ERROR(check_profiles(build));
    for (size_t i = 0; i < options->profile_count; i++) {
        KLN_RETURN_IF_ERROR(add_profile(build, i, &options->profiles[i]));
    }
    return KILN_OK;
}

kiln_status trt_apply_weights(trt_build *build)
{
    const kiln_build_options *options = build->options;
    const trt_abi *abi = &build->library->abi;
    if (options->refit_weight_count > 0) {
        KLN_RETURN_IF_ERROR(trt_need(build->library, TRT_M_NetworkDefinition_markWeightsRefittable,
                                     "refit_weights"));
    }
    for (size_t i = 0; i < options->refit_weight_count; i++) {
        const char *name = options->refit_weights[i];
        KLN_FAIL_IF(!trt_NetworkDefinition_markWeightsRefittable(abi, build->network, name),
                    trt_fail(KILN_ERROR_NAME, &build->recorder,
                             "refit_weights: the network has no weights \"%s\" to mark", name));
    }
    return KILN_OK;
}
