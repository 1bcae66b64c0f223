/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_engine.h"

/* --- metadata: what a plan reports about itself --- */

typedef struct lines {
    kln_arena *arena;
    kiln_metadata *list;
    size_t count;
    size_t limit;
} lines;

static kiln_status add_line(lines *to, const char *key, const char *value)
{
    if (to->count == to->limit) {
        return KILN_OK;
    }
    char *copy = kln_arena_strdup(to->arena, value);
    KLN_RETURN_IF_NO_MEMORY(copy, strlen(value), "an engine's metadata");
    to->list[to->count++] = (kiln_metadata){key, copy};
    return KILN_OK;
}

static kiln_status add_number(lines *to, const char *key, long long value)
{
    return add_line(to, key, KLN_PRINTED("%lld", value));
}

static kiln_status engine_lines(trt_engine *engine, lines *to)
{
    const trt_abi *abi = &engine->library->abi;
    trt_CudaEngine *e = engine->engine;
    const char *name = trt_CudaEngine_getName(abi, e);
    KLN_RETURN_IF_ERROR(add_line(to, "graph", name != NULL ? name : ""));
    KLN_RETURN_IF_ERROR(add_number(to, "tensorrt.layers", trt_CudaEngine_getNbLayers(abi, e)));
    KLN_RETURN_IF_ERROR(
        add_number(to, "tensorrt.profiles", trt_CudaEngine_getNbOptimizationProfiles(abi, e)));
    KLN_RETURN_IF_ERROR(add_line(to, "tensorrt.refittable",
                                 trt_CudaEngine_isRefittable(abi, e) ? "true" : "false"));
    const bool newer = trt_has(abi, TRT_M_CudaEngine_getDeviceMemorySizeV2);
    KLN_RETURN_IF_ERROR(add_number(to, "tensorrt.device_memory",
                                   newer ? (long long)trt_CudaEngine_getDeviceMemorySizeV2(abi, e)
                                         : (long long)trt_CudaEngine_getDeviceMemorySize(abi, e)));
    KLN_RETURN_IF_ERROR(add_number(to, "tensorrt.streamable_weights",
                                   trt_CudaEngine_getStreamableWeightsSize(abi, e)));
    return add_number(to, "tensorrt.auxiliary_streams", trt_CudaEngine_getNbAuxStreams(abi, e));
}

/* Keeps the model's metadata, which its plan does not store, for an engine that was built here. */
static kiln_status keep_lines(trt_engine *engine, const kln_onnx_model *model)
{
    kiln_description *built = &engine->built;
    KLN_ARENA_NEW(&engine->arena, built->metadata, model->metadata_count, "an engine's metadata");
    for (size_t i = 0; i < model->metadata_count; i++) {
        const kln_onnx_entry *entry = &model->metadata[i];
        kiln_metadata *line = &built->metadata[i];
        line->key = kln_arena_printf(&engine->arena, "metadata.%s", entry->key);
        line->value = kln_arena_strdup(&engine->arena, entry->value);
        KLN_FAIL_IF(line->key == NULL || line->value == NULL,
                    kln_fail_memory(strlen(entry->value), "an engine's metadata"));
        built->metadata_count++;
    }
    return KILN_OK;
}

kiln_status trt_keep_metadata(trt_engine *engine, const kiln_model *model)
{
    kln_onnx_model *read = NULL;
    kiln_status status = model->graph != NULL ? KILN_OK : kln_model_read(model, &read);
    const kln_onnx_model *given = model->graph != NULL ? model->graph : read;
    if (status == KILN_OK && given->metadata_count != 0) {
        status = keep_lines(engine, given);
    }
    kln_onnx_model_destroy(read);
    /* TensorRT accepted the model; missing metadata is no reason to fail. */
    return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
}

static kiln_status describe_metadata(trt_engine *engine, kiln_description *description)
{
    const kiln_description *built = &engine->built;
    lines to = {.arena = description->arena, .limit = 12 + built->metadata_count};
    KLN_ARENA_NEW(description->arena, to.list, to.limit, "an engine's metadata");
    KLN_RETURN_IF_ERROR(add_line(&to, "producer", engine->library->name));
    KLN_RETURN_IF_ERROR(add_number(&to, "tensorrt.plan_bytes", (long long)engine->plan.size));
    if (engine->engine != NULL) {
        KLN_RETURN_IF_ERROR(engine_lines(engine, &to));
    }
    for (size_t i = 0; i < built->metadata_count; i++) {
        /* The key is in the engine's arena, which lives as long as the description. */
        KLN_RETURN_IF_ERROR(add_line(&to, built->metadata[i].key, built->metadata[i].value));
    }
    description->metadata = to.list;
    description->metadata_count = to.count;
    return KILN_OK;
}

/* --- bindings --- */

static kiln_status copy_text(kln_arena *arena, const char *text, const char **copy)
{
    *copy = text != NULL ? kln_arena_strdup(arena, text) : NULL;
    return text == NULL || *copy != NULL ? KILN_OK
                                         : kln_fail_memory(strlen(text), "the name of a binding");
}

/* A plan stores no dimension names; they come from the network if that is known. */
static kiln_status describe_built(const trt_engine *engine, kiln_description *description)
{
    const kiln_description *built = &engine->built;
    const size_t count = built->input_count + built->output_count;
    description->input_count = built->input_count;
    description->output_count = built->output_count;
    KLN_ARENA_NEW(description->arena, description->bindings, count, "the bindings of an engine");
    for (size_t i = 0; i < count; i++) {
        description->bindings[i] = built->bindings[i];
        KLN_RETURN_IF_ERROR(kln_binding_own_names(description->arena, &description->bindings[i]));
    }
    return KILN_OK;
}

static kiln_status describe_plan(trt_engine *engine, kiln_description *description)
{
    const trt_abi *abi = &engine->library->abi;
    const int32_t count = trt_CudaEngine_getNbIOTensors(abi, engine->engine);
    const int32_t input = trt_value(abi, TRT_V_TensorIOMode_INPUT);
    KLN_ARENA_NEW(description->arena, description->bindings, (size_t)count,
                  "the bindings of an engine");
    size_t next = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < count; i++) {
            const char *name = trt_CudaEngine_getIOTensorName(abi, engine->engine, i);
            const bool is_input =
                trt_CudaEngine_getTensorIOMode(abi, engine->engine, name) == input;
            if (is_input != (pass == 0)) {
                continue;
            }
            const trt_Dims dims = trt_CudaEngine_getTensorShape(abi, engine->engine, name);
            kiln_binding *binding = &description->bindings[next++];
            *binding = (kiln_binding){
                .struct_size = sizeof *binding,
                .is_input = is_input,
                .dtype = trt_dtype(trt_CudaEngine_getTensorDataType(abi, engine->engine, name)),
                .shape = trt_shape(&dims)};
            KLN_RETURN_IF_ERROR(copy_text(description->arena, name, &binding->name));
        }
        if (pass == 0) {
            description->input_count = next;
        }
    }
    description->output_count = next - description->input_count;
    return KILN_OK;
}

static kiln_status name_dims(kln_arena *arena, const kln_onnx_value *input, kiln_binding *binding)
{
    for (int32_t d = 0; d < binding->shape.rank && (size_t)d < input->type.rank; d++) {
        const char *name = input->type.dims[d].parameter;
        if (binding->shape.dims[d] == KILN_DYNAMIC && kln_onnx_names_dim(name)) {
            KLN_RETURN_IF_ERROR(copy_text(arena, name, &binding->dim_names[d]));
        }
    }
    return KILN_OK;
}

kiln_status trt_keep_names(trt_engine *engine, const kln_onnx_model *model)
{
    kiln_description *built = &engine->built;
    built->arena = &engine->arena;
    KLN_RETURN_IF_ERROR(describe_plan(engine, built));
    for (size_t i = 0; i < built->input_count; i++) {
        for (size_t k = 0; k < model->graph.input_count; k++) {
            const kln_onnx_value *input = &model->graph.inputs[k];
            if (strcmp(input->name, built->bindings[i].name) == 0) {
                KLN_RETURN_IF_ERROR(name_dims(built->arena, input, &built->bindings[i]));
            }
        }
    }
    return model->metadata_count != 0 ? keep_lines(engine, model) : KILN_OK;
}

/* --- profiles --- */

static kiln_status copy_values(trt_engine *engine, const char *name, int32_t profile,
                               int32_t selector, size_t count, kln_arena *arena,
                               const int64_t **values)
{
    const trt_abi *abi = &engine->library->abi;
    int64_t *copy = kln_arena_alloc_zeroed(arena, count, sizeof *copy);
    KLN_RETURN_IF_NO_MEMORY(copy, count * sizeof *copy, "the values of a profile");
    *values = copy;
    /* Before getProfileTensorValuesV2, values had 32 bits. */
    if (trt_has(abi, TRT_M_CudaEngine_getProfileTensorValuesV2)) {
        const int64_t *wide =
            trt_CudaEngine_getProfileTensorValuesV2(abi, engine->engine, name, profile, selector);
        for (size_t i = 0; i < count && wide != NULL; i++) {
            copy[i] = wide[i];
        }
        return KILN_OK;
    }
    const int32_t *narrow =
        trt_CudaEngine_getProfileTensorValues(abi, engine->engine, name, profile, selector);
    for (size_t i = 0; i < count && narrow != NULL; i++) {
        copy[i] = narrow[i];
    }
    return KILN_OK;
}

static kiln_status describe_range(trt_engine *engine, const kiln_binding *binding, int32_t profile,
                                  kln_arena *arena, kiln_profile_input *input)
{
    static const trt_enumerator selectors[3] = {
        TRT_V_OptProfileSelector_MIN, TRT_V_OptProfileSelector_OPT, TRT_V_OptProfileSelector_MAX};
    const trt_abi *abi = &engine->library->abi;
    kiln_shape *shapes[3] = {&input->min, &input->opt, &input->max};
    const int64_t **values[3] = {&input->min_values, &input->opt_values, &input->max_values};
    const bool on_host = trt_CudaEngine_getTensorLocation(abi, engine->engine, binding->name) ==
                         trt_value(abi, TRT_V_TensorLocation_HOST);
    input->name = binding->name;
    for (size_t i = 0; i < 3; i++) {
        const int32_t selector = trt_value(abi, selectors[i]);
        const trt_Dims dims =
            trt_CudaEngine_getProfileShape(abi, engine->engine, binding->name, profile, selector);
        *shapes[i] = trt_shape(&dims);
        int64_t count = 0;
        if (on_host && kiln_shape_elements(shapes[i], &count) == KILN_OK && count > 0) {
            input->value_count = (size_t)count;
            KLN_RETURN_IF_ERROR(copy_values(engine, binding->name, profile, selector,
                                            input->value_count, arena, values[i]));
        }
    }
    return KILN_OK;
}

static bool has_range(trt_engine *engine, const kiln_binding *binding)
{
    const trt_abi *abi = &engine->library->abi;
    return !kiln_shape_is_static(&binding->shape) ||
           trt_CudaEngine_getTensorLocation(abi, engine->engine, binding->name) ==
               trt_value(abi, TRT_V_TensorLocation_HOST);
}

static kiln_status describe_profile(trt_engine *engine, int32_t index,
                                    const kiln_description *description, kiln_profile *profile)
{
    kiln_profile_input *inputs = NULL;
    KLN_ARENA_NEW(description->arena, inputs, description->input_count, "a profile");
    profile->inputs = inputs;
    for (size_t i = 0; i < description->input_count; i++) {
        const kiln_binding *binding = &description->bindings[i];
        if (has_range(engine, binding)) {
            KLN_RETURN_IF_ERROR(describe_range(engine, binding, index, description->arena,
                                               &inputs[profile->input_count]));
            profile->input_count++;
        }
    }
    return KILN_OK;
}

static kiln_status describe_profiles(trt_engine *engine, kiln_description *description)
{
    const int32_t count =
        trt_CudaEngine_getNbOptimizationProfiles(&engine->library->abi, engine->engine);
    bool is_open = false;
    for (size_t i = 0; i < description->input_count; i++) {
        is_open = is_open || has_range(engine, &description->bindings[i]);
    }
    if (!is_open || count <= 0) {
        return KILN_OK;
    }
    KLN_ARENA_NEW(description->arena, description->profiles, (size_t)count, "the profiles");
    description->profile_count = (size_t)count;
    for (int32_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(describe_profile(engine, i, description, &description->profiles[i]));
    }
    return KILN_OK;
}

kiln_status trt_describe(void *state, kiln_description *description)
{
    trt_engine *engine = state;
    KLN_RETURN_IF_ERROR(engine->built.bindings != NULL ? describe_built(engine, description)
                                                       : describe_plan(engine, description));
    if (engine->engine != NULL) {
        KLN_RETURN_IF_ERROR(describe_profiles(engine, description));
    }
    return describe_metadata(engine, description);
}

/* --- layers --- */

kiln_status trt_engine_inspect(trt_engine *engine, int32_t index, char **json)
{
    *json = NULL;
    KLN_RETURN_IF(engine->engine == NULL, KILN_ERROR_STATE,
                  "the layers of a plan can be read where it was loaded; this one was only "
                  "built, ahead of time");
    const trt_abi *abi = &engine->library->abi;
    const int32_t layers = trt_CudaEngine_getNbLayers(abi, engine->engine);
    KLN_RETURN_IF(index < -1 || index >= layers, KILN_ERROR_INVALID_ARGUMENT,
                  "layer %d was asked for, there are %d", index, layers);
    TRT_ENTER(engine->device); /* compiled layers query the current GPU of this thread */
    trt_logged_clear();
    trt_error_recorder_clear(&engine->recorder);
    trt_EngineInspector *inspector = trt_CudaEngine_createEngineInspector(abi, engine->engine);
    KLN_FAIL_IF(trt_is_null(inspector),
                trt_fail(KILN_ERROR_BACKEND, &engine->recorder, "an engine inspector"));
    const int32_t format = trt_value(abi, TRT_V_LayerInformationFormat_JSON);
    const char *text = index < 0
                           ? trt_EngineInspector_getEngineInformation(abi, inspector, format)
                           : trt_EngineInspector_getLayerInformation(abi, inspector, index, format);
    kiln_status status = KILN_OK;
    if (trt_is_null(text) || text[0] == '\0') {
        status = trt_fail(KILN_ERROR_BACKEND, &engine->recorder, "the layers of an engine");
    } else {
        *json = kln_strdup(text);
        status = *json != NULL ? KILN_OK : kln_fail_memory(strlen(text), "the layers of an engine");
    }
    trt_EngineInspector_destroy(inspector);
    return status;
}
