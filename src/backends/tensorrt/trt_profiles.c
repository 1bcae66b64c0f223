/* SPDX-License-Identifier: Apache-2.0 */
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

/* Before setShapeValuesV2, values had 32 bits. */
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

/* The inputs, and which of them are shape tensors; only a parsed network tells that. */
typedef struct profiled {
    kiln_binding *inputs;
    bool *are_values;
    size_t count;
} profiled;

/* Every profile needs every dynamic input. The library would report a missing one late, without the
 * option to set. */
static kiln_status check_complete(const trt_build *build, const profiled *of, size_t index,
                                  const kiln_profile *profile)
{
    for (size_t i = 0; i < of->count; i++) {
        const kiln_binding *input = &of->inputs[i];
        const bool values = of->are_values[i];
        bool given = (input->shape.rank < 0 || kiln_shape_is_static(&input->shape)) && !values;
        for (size_t k = 0; profile != NULL && k < profile->input_count && !given; k++) {
            given = strcmp(profile->inputs[k].name, input->name) == 0;
        }
        if (!given) {
            char text[192];
            (void)kiln_shape_format(&input->shape, text, sizeof text);
            const char *kind = values ? ", a shape tensor: its values" : "";
            KLN_RETURN_IF(profile != NULL, KILN_ERROR_INVALID_ARGUMENT,
                          "%s: input \"%s\" (%s%s) is missing in optimization profile %zu",
                          build->source, input->name, text, kind, index);
            return kln_fail(
                KILN_ERROR_INVALID_ARGUMENT,
                values ? "%s: input \"%s\" (%s%s) needs a range: give an optimization profile with "
                         "its min, opt and max values (kiln_build_options.profiles)"
                       : "%s: input \"%s\" (%s%s) has a dynamic dimension: give an optimization "
                         "profile with its min, opt and max (kiln_build_options.profiles), or the "
                         "shape it will have (shape_hints)",
                build->source, input->name, text, kind);
        }
    }
    return KILN_OK;
}

static kiln_status check_profiles(const trt_build *build, const profiled *of)
{
    const kiln_build_options *options = build->options;
    KLN_RETURN_IF_ERROR(kln_profiles_check(options, of->inputs, of->count));
    if (options->profile_count == 0) {
        return check_complete(build, of, 0, NULL);
    }
    for (size_t i = 0; i < options->profile_count; i++) {
        KLN_RETURN_IF_ERROR(check_complete(build, of, i, &options->profiles[i]));
    }
    return KILN_OK;
}

static void profiled_finish(profiled *of)
{
    kln_free(of->inputs);
    kln_free(of->are_values);
}

static kiln_status profiled_begin(profiled *of, size_t count)
{
    of->inputs = kln_alloc_zeroed(count + 1, sizeof *of->inputs);
    of->are_values = kln_alloc_zeroed(count + 1, sizeof *of->are_values);
    return of->inputs != NULL && of->are_values != NULL
               ? KILN_OK
               : kln_fail_memory((count + 1) * sizeof *of->inputs, "the inputs of a network");
}

/* An initializer counts as an input if a profile names it. */
static kiln_status list_inputs(const kiln_build_options *options, const kln_onnx_graph *graph,
                               kln_names *initializers, kln_names *named, profiled *of)
{
    KLN_RETURN_IF_ERROR(profiled_begin(of, graph->input_count));
    KLN_RETURN_IF_ERROR(trt_profile_names(options, named));
    KLN_RETURN_IF_ERROR(kln_onnx_name_initializers(graph, initializers));
    for (size_t i = 0; i < graph->input_count; i++) {
        const kln_onnx_value *value = &graph->inputs[i];
        const bool known = value->type.has_shape && value->type.rank <= KILN_MAX_RANK;
        kiln_binding *input = &of->inputs[of->count];
        if (kln_names_get(initializers, value->name) != KLN_NAMES_NONE &&
            kln_names_get(named, value->name) == KLN_NAMES_NONE) {
            continue;
        }
        *input = (kiln_binding){.name = value->name, .is_input = true};
        input->shape.rank = known ? (int32_t)value->type.rank : -1;
        for (size_t d = 0; known && d < value->type.rank; d++) {
            const int64_t size = value->type.dims[d].value;
            input->shape.dims[d] = size >= 0 ? size : KILN_DYNAMIC;
        }
        of->count++;
    }
    return KILN_OK;
}

/* TensorRT does not support sequences and similar inputs, and that must be reported first. */
static bool has_tensors_alone(const kln_onnx_graph *graph)
{
    for (size_t i = 0; i < graph->input_count; i++) {
        if (graph->inputs[i].type.kind != KLN_ONNX_KIND_TENSOR) {
            return false;
        }
    }
    return true;
}

kiln_status trt_check_profiles(const trt_build *build)
{
    kln_onnx_model *read = NULL;
    KLN_SCOPED(kln_names_finish) kln_names initializers = {0};
    KLN_SCOPED(kln_names_finish) kln_names named = {0};
    KLN_SCOPED(profiled_finish) profiled of = {.count = 0};
    kiln_status status =
        build->model->graph != NULL ? KILN_OK : kln_model_read(build->model, &read);
    if (status != KILN_OK) {
        /* The library may read models that Kiln does not. */
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    const kln_onnx_model *model = build->model->graph != NULL ? build->model->graph : read;
    if (has_tensors_alone(&model->graph)) {
        status = list_inputs(build->options, &model->graph, &initializers, &named, &of);
        KLN_THEN(status, check_profiles(build, &of));
    }
    kln_onnx_model_destroy(read);
    return status;
}

/* Repeats the check on the parsed network, which tells shape tensors apart. */
static kiln_status check_network(const trt_build *build)
{
    const trt_abi *abi = &build->library->abi;
    KLN_SCOPED(profiled_finish) profiled of = {.count = 0};
    const size_t count = (size_t)trt_NetworkDefinition_getNbInputs(abi, build->network);
    KLN_RETURN_IF_ERROR(profiled_begin(&of, count));
    for (; of.count < count; of.count++) {
        trt_Tensor *tensor = trt_NetworkDefinition_getInput(abi, build->network, (int32_t)of.count);
        const trt_Dims dims = trt_Tensor_getDimensions(abi, tensor);
        of.inputs[of.count].is_input = true;
        of.inputs[of.count].name = trt_Tensor_getName(abi, tensor);
        of.inputs[of.count].shape = trt_shape(&dims);
        of.are_values[of.count] = trt_Tensor_isShapeTensor(abi, tensor);
    }
    return check_profiles(build, &of);
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
    KLN_FAIL_IF(!trt_OptimizationProfile_isValid(abi, profile) ||
                    trt_BuilderConfig_addOptimizationProfile(abi, build->config, profile) < 0,
                trt_fail(KILN_ERROR_SHAPE, &build->recorder,
                         "%s: optimization profile %zu was not accepted", build->source, index));
    return KILN_OK;
}

kiln_status trt_apply_profiles(trt_build *build)
{
    const kiln_build_options *options = build->options;
    KLN_RETURN_IF_ERROR(check_network(build));
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
