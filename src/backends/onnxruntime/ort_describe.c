/* SPDX-License-Identifier: Apache-2.0 */
#include "ort_engine.h"

_Static_assert(ORT_NO_INPUT == KLN_NAMES_NONE, "a name that no input has means no input");

/* --- bindings --- */

static kiln_status read_shape(const ort_engine *engine, kln_arena *arena,
                              const OrtTensorTypeAndShapeInfo *info, kiln_binding *binding)
{
    const ort_runtime *runtime = engine->runtime;
    const ort_api *api = &runtime->api;
    size_t rank = 0;
    KLN_RETURN_IF_ERROR(ort_check(runtime, api->GetDimensionsCount(info, &rank), binding->name));
    /* Without TensorTypeAndShape_HasShape, a scalar and an unknown rank look the same; report the
     * latter, which promises less. */
    if (rank == 0 &&
        (api->TensorTypeAndShape_HasShape == NULL || !api->TensorTypeAndShape_HasShape(info))) {
        binding->shape.rank = -1;
        return KILN_OK;
    }
    KLN_RETURN_IF(rank > KILN_MAX_RANK, KILN_ERROR_LIMIT,
                  "\"%s\" has %zu dimensions, %d are possible", binding->name, rank, KILN_MAX_RANK);
    const char *names[KILN_MAX_RANK] = {NULL};
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, api->GetDimensions(info, binding->shape.dims, rank), binding->name));
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, api->GetSymbolicDimensions(info, names, rank), binding->name));
    binding->shape.rank = (int32_t)rank;
    for (size_t i = 0; i < rank; i++) {
        if (binding->shape.dims[i] >= 0) {
            continue;
        }
        binding->shape.dims[i] = KILN_DYNAMIC;
        if (names[i] != NULL && names[i][0] != '\0') {
            binding->dim_names[i] = kln_arena_strdup(arena, names[i]);
            KLN_RETURN_IF_NO_MEMORY(binding->dim_names[i], strlen(names[i]),
                                    "the name of a dimension");
        }
    }
    return KILN_OK;
}

static kiln_status read_type(const ort_engine *engine, kln_arena *arena, const OrtTypeInfo *type,
                             kiln_binding *binding)
{
    const ort_runtime *runtime = engine->runtime;
    const ort_api *api = &runtime->api;
    ort_value_type kind = 0;
    binding->dtype = KILN_DTYPE_UNDEFINED;
    binding->shape.rank = -1;
    KLN_RETURN_IF_ERROR(ort_check(runtime, api->GetOnnxTypeFromTypeInfo(type, &kind), "a type"));
    if (kind != ORT_VALUE_TENSOR) {
        return KILN_OK;
    }
    const OrtTensorTypeAndShapeInfo *info = NULL;
    KLN_RETURN_IF_ERROR(ort_check(runtime, api->CastTypeInfoToTensorInfo(type, &info), "a type"));
    ort_element_type element = 0;
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, api->GetTensorElementType(info, &element), binding->name));
    binding->dtype = ort_dtype(element);
    return read_shape(engine, arena, info, binding);
}

/* Moves a string that ONNX Runtime allocated into the arena; NULL if memory runs out. */
static const char *take_string(const ort_runtime *runtime, kln_arena *arena, char *text)
{
    const char *copy = kln_arena_strdup(arena, text != NULL ? text : "");
    ort_free(runtime, text);
    return copy;
}

static kiln_status read_binding(ort_engine *engine, size_t index)
{
    const ort_runtime *runtime = engine->runtime;
    const ort_api *api = &runtime->api;
    kiln_binding *binding = &engine->bindings[index];
    const bool is_input = index < engine->input_count;
    const size_t place = is_input ? index : index - engine->input_count;
    char *name = NULL;
    OrtTypeInfo *type = NULL;
    binding->struct_size = sizeof *binding;
    binding->is_input = is_input;
    KLN_RETURN_IF_ERROR(ort_check(
        runtime,
        is_input ? api->SessionGetInputName(engine->session, place, runtime->allocator, &name)
                 : api->SessionGetOutputName(engine->session, place, runtime->allocator, &name),
        "the name of a binding"));
    binding->name = take_string(runtime, &engine->arena, name);
    KLN_RETURN_IF_NO_MEMORY(binding->name, 1, "the name of a binding");
    KLN_RETURN_IF_ERROR(
        ort_check(runtime,
                  is_input ? api->SessionGetInputTypeInfo(engine->session, place, &type)
                           : api->SessionGetOutputTypeInfo(engine->session, place, &type),
                  binding->name));
    const kiln_status status = read_type(engine, &engine->arena, type, binding);
    api->ReleaseTypeInfo(type);
    return status;
}

static kiln_status match_outputs(ort_engine *engine)
{
    KLN_SCOPED(kln_names_finish) kln_names inputs = {0};
    KLN_SCOPED(kln_names_finish) kln_names outputs = {0};
    KLN_ARENA_NEW(&engine->arena, engine->passed_inputs, engine->output_count, "the outputs");
    KLN_RETURN_IF(engine->output_count == 0, KILN_ERROR_INVALID_NETWORK,
                  "the network has no output, so there is nothing to compute");
    for (size_t i = 0; i < engine->input_count; i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(&inputs, engine->bindings[i].name, (uint32_t)i));
    }
    for (size_t i = 0; i < engine->output_count; i++) {
        const char *name = engine->bindings[engine->input_count + i].name;
        /* Outputs are bound by name, so names must be unique. */
        KLN_RETURN_IF(kln_names_get(&outputs, name) != KLN_NAMES_NONE, KILN_ERROR_INVALID_NETWORK,
                      "two outputs are named \"%s\"", name);
        KLN_RETURN_IF_ERROR(kln_names_set(&outputs, name, (uint32_t)i));
        engine->passed_inputs[i] = kln_names_get(&inputs, name);
        engine->passed_count += engine->passed_inputs[i] != ORT_NO_INPUT;
    }
    return KILN_OK;
}

kiln_status ort_read_bindings(ort_engine *engine)
{
    const ort_runtime *runtime = engine->runtime;
    const ort_api *api = &runtime->api;
    KLN_RETURN_IF_ERROR(ort_check(
        runtime, api->SessionGetInputCount(engine->session, &engine->input_count), "the inputs"));
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, api->SessionGetOutputCount(engine->session, &engine->output_count),
                  "the outputs"));
    const size_t count = engine->input_count + engine->output_count;
    KLN_ARENA_NEW(&engine->arena, engine->bindings, count + engine->optional_count, "the bindings");
    if (engine->optional_count > 0) {
        memcpy(engine->bindings + count, engine->optional,
               engine->optional_count * sizeof *engine->optional);
    }
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(read_binding(engine, i));
    }
    return match_outputs(engine);
}

/* --- metadata --- */

typedef OrtStatus *(*metadata_getter)(const OrtModelMetadata *, OrtAllocator *, char **);

static kiln_status add(kiln_description *description, const char *key, const char *value)
{
    KLN_FAIL_IF(key == NULL || value == NULL, kln_fail_memory(1, "metadata"));
    if (value[0] != '\0') {
        description->metadata[description->metadata_count++] = (kiln_metadata){key, value};
    }
    return KILN_OK;
}

static kiln_status add_known(const ort_runtime *runtime, const OrtModelMetadata *metadata,
                             kiln_description *description)
{
    const struct {
        const char *key;
        metadata_getter get;
    } known[] = {
        {"producer", runtime->api.ModelMetadataGetProducerName},
        {"graph", runtime->api.ModelMetadataGetGraphName},
        {"domain", runtime->api.ModelMetadataGetDomain},
        {"description", runtime->api.ModelMetadataGetDescription},
        {"graph_description", runtime->api.ModelMetadataGetGraphDescription},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(known); i++) {
        char *text = NULL;
        KLN_RETURN_IF_ERROR(
            ort_check(runtime, known[i].get(metadata, runtime->allocator, &text), known[i].key));
        KLN_RETURN_IF_ERROR(
            add(description, known[i].key, take_string(runtime, description->arena, text)));
    }
    int64_t version = 0;
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, runtime->api.ModelMetadataGetVersion(metadata, &version), "version"));
    if (version == INT64_MAX) {
        /* ONNX Runtime's value for a model without a version. */
        return KILN_OK;
    }
    return add(description, "version",
               kln_arena_printf(description->arena, "%lld", (long long)version));
}

static kiln_status add_own(const ort_runtime *runtime, const OrtModelMetadata *metadata,
                           kiln_description *description, char **keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *value = NULL;
        KLN_RETURN_IF_ERROR(ort_check(runtime,
                                      runtime->api.ModelMetadataLookupCustomMetadataMap(
                                          metadata, runtime->allocator, keys[i], &value),
                                      keys[i]));
        KLN_RETURN_IF_ERROR(add(description,
                                kln_arena_printf(description->arena, "metadata.%s", keys[i]),
                                take_string(runtime, description->arena, value)));
    }
    return KILN_OK;
}

static void free_keys(const ort_runtime *runtime, char **keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ort_free(runtime, keys[i]);
    }
    ort_free(runtime, keys);
}

/* The maximum number of known keys. */
#define KNOWN_LINES 6

static kiln_status read_metadata(const ort_runtime *runtime, const OrtModelMetadata *metadata,
                                 kiln_description *description)
{
    char **keys = NULL;
    int64_t found = 0;
    KLN_RETURN_IF_ERROR(ort_check(runtime,
                                  runtime->api.ModelMetadataGetCustomMetadataMapKeys(
                                      metadata, runtime->allocator, &keys, &found),
                                  "metadata"));
    const size_t count = keys != NULL && found > 0 ? (size_t)found : 0;
    kiln_status status = KILN_OK;
    description->metadata = kln_arena_alloc_zeroed(description->arena, KNOWN_LINES + count,
                                                   sizeof *description->metadata);
    if (description->metadata == NULL) {
        status = kln_fail_memory(count * sizeof *description->metadata, "metadata");
    }
    KLN_THEN(status, add_known(runtime, metadata, description));
    KLN_THEN(status, add_own(runtime, metadata, description, keys, count));
    free_keys(runtime, keys, count);
    return status;
}

/* --- bindings and metadata --- */

kiln_status ort_describe(void *engine, kiln_description *description)
{
    const ort_engine *self = engine;
    const ort_runtime *runtime = self->runtime;
    const size_t count = ort_binding_count(self);
    KLN_ARENA_NEW(description->arena, description->bindings, count, "the bindings");
    description->input_count = self->input_count;
    description->output_count = self->output_count;
    description->optional_count = self->optional_count;
    description->host_nodes = self->host_nodes; /* owned by the engine, which outlives the
                                                 * description */
    description->host_node_count = self->host_node_count;
    for (size_t i = 0; i < count; i++) {
        description->bindings[i] = self->bindings[i];
        KLN_RETURN_IF_ERROR(kln_binding_own_names(description->arena, &description->bindings[i]));
    }
    OrtModelMetadata *metadata = NULL;
    KLN_RETURN_IF_ERROR(ort_check(
        runtime, runtime->api.SessionGetModelMetadata(self->session, &metadata), "metadata"));
    const kiln_status status = read_metadata(runtime, metadata, description);
    runtime->api.ReleaseModelMetadata(metadata);
    return status;
}
