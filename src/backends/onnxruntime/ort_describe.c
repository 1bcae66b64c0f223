/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ort_internal.h"

/* ONNXTensorElementDataType: its numbers are those of TensorProto.DataType. */
static const kiln_dtype dtypes[] = {
    [1] = KILN_DTYPE_FLOAT32,   [2] = KILN_DTYPE_UINT8,       [3] = KILN_DTYPE_INT8,
    [4] = KILN_DTYPE_UINT16,    [5] = KILN_DTYPE_INT16,       [6] = KILN_DTYPE_INT32,
    [7] = KILN_DTYPE_INT64,     [8] = KILN_DTYPE_STRING,      [9] = KILN_DTYPE_BOOL,
    [10] = KILN_DTYPE_FLOAT16,  [11] = KILN_DTYPE_FLOAT64,    [12] = KILN_DTYPE_UINT32,
    [13] = KILN_DTYPE_UINT64,   [14] = KILN_DTYPE_COMPLEX64,  [15] = KILN_DTYPE_COMPLEX128,
    [16] = KILN_DTYPE_BFLOAT16, [17] = KILN_DTYPE_FLOAT8E4M3, [19] = KILN_DTYPE_FLOAT8E5M2,
    [21] = KILN_DTYPE_UINT4,    [22] = KILN_DTYPE_INT4,       [23] = KILN_DTYPE_FLOAT4E2M1,
};

kiln_dtype ort_dtype(unsigned element_type)
{
    return element_type < KLN_ARRAY_LENGTH(dtypes) ? dtypes[element_type] : KILN_DTYPE_UNDEFINED;
}

unsigned ort_element_type(kiln_dtype dtype)
{
    for (unsigned i = 1; i < KLN_ARRAY_LENGTH(dtypes); i++) {
        if (dtypes[i] == dtype) {
            return i;
        }
    }
    return 0;
}

/* --- bindings --- */

static kiln_status copy_text(kln_arena *arena, const char *text, const char **copy)
{
    *copy = kln_arena_strdup(arena, text);
    return *copy != NULL ? KILN_OK : kln_fail_memory(strlen(text) + 1, "a description");
}

/* Copies a string that ONNX Runtime allocated, and gives it back. */
static kiln_status take_text(const ort_runtime *runtime, kln_arena *arena, char *text,
                             const char **copy)
{
    const kiln_status status = copy_text(arena, text, copy);
    OrtStatus *freed = runtime->api.AllocatorFree(runtime->allocator, text);
    if (freed != NULL) {
        runtime->api.ReleaseStatus(freed);
    }
    return status;
}

static kiln_status describe_dims(const ort_api *api, const OrtTensorTypeAndShapeInfo *info,
                                 kln_arena *arena, kiln_binding *binding)
{
    size_t rank = 0;
    KLN_RETURN_IF_ERROR(ort_check(api, api->GetDimensionsCount(info, &rank), binding->name));
    if (rank > KILN_MAX_RANK) {
        return kln_fail(KILN_ERROR_RANK, "%s \"%s\" has %zu dimensions, at most %d can be bound",
                        binding->is_input ? "input" : "output", binding->name, rank, KILN_MAX_RANK);
    }
    const char *symbols[KILN_MAX_RANK] = {NULL};
    KLN_RETURN_IF_ERROR(
        ort_check(api, api->GetDimensions(info, binding->shape.dims, rank), binding->name));
    KLN_RETURN_IF_ERROR(
        ort_check(api, api->GetSymbolicDimensions(info, symbols, rank), binding->name));
    binding->shape.rank = (int32_t)rank;
    for (size_t i = 0; i < rank; i++) {
        if (binding->shape.dims[i] < 0) {
            binding->shape.dims[i] = KILN_DYNAMIC;
            if (symbols[i] != NULL && symbols[i][0] != '\0') {
                KLN_RETURN_IF_ERROR(copy_text(arena, symbols[i], &binding->dim_names[i]));
            }
        }
    }
    return KILN_OK;
}

static kiln_status describe_type(const ort_api *api, const OrtTypeInfo *type, kln_arena *arena,
                                 kiln_binding *binding)
{
    const OrtTensorTypeAndShapeInfo *info = NULL;
    KLN_RETURN_IF_ERROR(ort_check(api, api->CastTypeInfoToTensorInfo(type, &info), binding->name));
    if (info == NULL) {
        /* A sequence, map or optional: it is shown, and binding it is refused by its type. */
        binding->shape.rank = -1;
        return KILN_OK;
    }
    unsigned element_type = 0;
    KLN_RETURN_IF_ERROR(
        ort_check(api, api->GetTensorElementType(info, &element_type), binding->name));
    binding->dtype = ort_dtype(element_type);
    return describe_dims(api, info, arena, binding);
}

static kiln_status describe_binding(const ort_engine *engine, size_t index, kln_arena *arena,
                                    kiln_binding *binding)
{
    const ort_runtime *runtime = engine->runtime;
    const ort_api *api = &runtime->api;
    const bool is_input = index < engine->input_count;
    const size_t at = is_input ? index : index - engine->input_count;
    *binding = (kiln_binding){.struct_size = sizeof *binding, .is_input = is_input};
    char *name = NULL;
    OrtStatus *got =
        is_input ? api->SessionGetInputName(engine->session, at, runtime->allocator, &name)
                 : api->SessionGetOutputName(engine->session, at, runtime->allocator, &name);
    KLN_RETURN_IF_ERROR(ort_check(api, got, "a binding's name"));
    KLN_RETURN_IF_ERROR(take_text(runtime, arena, name, &binding->name));
    OrtTypeInfo *type = NULL;
    got = is_input ? api->SessionGetInputTypeInfo(engine->session, at, &type)
                   : api->SessionGetOutputTypeInfo(engine->session, at, &type);
    KLN_RETURN_IF_ERROR(ort_check(api, got, binding->name));
    const kiln_status status = describe_type(api, type, arena, binding);
    api->ReleaseTypeInfo(type);
    return status;
}

static kiln_status describe_bindings(ort_engine *engine, kln_description *description)
{
    const ort_api *api = &engine->runtime->api;
    KLN_RETURN_IF_ERROR(ort_check(
        api, api->SessionGetInputCount(engine->session, &engine->input_count), "the inputs"));
    KLN_RETURN_IF_ERROR(ort_check(
        api, api->SessionGetOutputCount(engine->session, &engine->output_count), "the outputs"));
    const size_t count = engine->input_count + engine->output_count;
    engine->bindings = kln_arena_alloc_zeroed(description->arena, count, sizeof *engine->bindings);
    if (engine->bindings == NULL) {
        return kln_fail_memory(count * sizeof *engine->bindings, "a description");
    }
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(describe_binding(engine, i, description->arena, &engine->bindings[i]));
    }
    description->bindings = engine->bindings;
    description->input_count = engine->input_count;
    description->output_count = engine->output_count;
    return KILN_OK;
}

/* --- metadata --- */

typedef OrtStatus *(*text_getter)(const OrtModelMetadata *, OrtAllocator *, char **);

static kiln_status add_line(kln_description *description, const char *key, const char *value)
{
    if (value[0] != '\0') {
        description->metadata[description->metadata_count++] = (kiln_metadata){key, value};
    }
    return KILN_OK;
}

static kiln_status add_text(const ort_runtime *runtime, const OrtModelMetadata *metadata,
                            kln_description *description, const char *key, text_getter get)
{
    char *text = NULL;
    const char *copy = NULL;
    KLN_RETURN_IF_ERROR(ort_check(&runtime->api, get(metadata, runtime->allocator, &text), key));
    KLN_RETURN_IF_ERROR(take_text(runtime, description->arena, text, &copy));
    return add_line(description, key, copy);
}

static kiln_status add_custom(const ort_runtime *runtime, const OrtModelMetadata *metadata,
                              kln_description *description, const char *custom)
{
    char *text = NULL;
    const char *copy = NULL;
    const char *key = kln_arena_printf(description->arena, "metadata.%s", custom);
    if (key == NULL) {
        return kln_fail_memory(strlen(custom), "a description");
    }
    KLN_RETURN_IF_ERROR(ort_check(&runtime->api,
                                  runtime->api.ModelMetadataLookupCustomMetadataMap(
                                      metadata, runtime->allocator, custom, &text),
                                  key));
    if (text == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(take_text(runtime, description->arena, text, &copy));
    return add_line(description, key, copy);
}

static void free_keys(const ort_runtime *runtime, char **keys, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        runtime->api.ReleaseStatus(runtime->api.AllocatorFree(runtime->allocator, keys[i]));
    }
    if (keys != NULL) {
        runtime->api.ReleaseStatus(runtime->api.AllocatorFree(runtime->allocator, keys));
    }
}

static kiln_status add_all(const ort_runtime *runtime, const OrtModelMetadata *metadata,
                           kln_description *description, char **keys, int64_t key_count)
{
    const ort_api *api = &runtime->api;
    const struct {
        const char *key;
        text_getter get;
    } texts[] = {{"producer", api->ModelMetadataGetProducerName},
                 {"graph", api->ModelMetadataGetGraphName},
                 {"domain", api->ModelMetadataGetDomain},
                 {"description", api->ModelMetadataGetDescription}};
    const size_t room = KLN_ARRAY_LENGTH(texts) + 1 + (size_t)key_count;
    description->metadata =
        kln_arena_alloc_zeroed(description->arena, room, sizeof *description->metadata);
    if (description->metadata == NULL) {
        return kln_fail_memory(room * sizeof *description->metadata, "a description");
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(texts); i++) {
        KLN_RETURN_IF_ERROR(add_text(runtime, metadata, description, texts[i].key, texts[i].get));
    }
    int64_t version = 0;
    KLN_RETURN_IF_ERROR(
        ort_check(api, api->ModelMetadataGetVersion(metadata, &version), "version"));
    /* INT64_MAX stands for a model that does not say. */
    const char *number =
        version != INT64_MAX ? kln_arena_printf(description->arena, "%" PRId64, version) : "";
    if (number == NULL) {
        return kln_fail_memory(32, "a description");
    }
    KLN_RETURN_IF_ERROR(add_line(description, "version", number));
    for (int64_t i = 0; i < key_count; i++) {
        KLN_RETURN_IF_ERROR(add_custom(runtime, metadata, description, keys[i]));
    }
    return KILN_OK;
}

kiln_status ort_describe(void *state, kln_description *description)
{
    ort_engine *engine = state;
    const ort_api *api = &engine->runtime->api;
    KLN_RETURN_IF_ERROR(describe_bindings(engine, description));
    OrtModelMetadata *metadata = NULL;
    KLN_RETURN_IF_ERROR(
        ort_check(api, api->SessionGetModelMetadata(engine->session, &metadata), "the metadata"));
    char **keys = NULL;
    int64_t key_count = 0;
    kiln_status status = ort_check(api,
                                   api->ModelMetadataGetCustomMetadataMapKeys(
                                       metadata, engine->runtime->allocator, &keys, &key_count),
                                   "the metadata");
    if (status == KILN_OK) {
        status = add_all(engine->runtime, metadata, description, keys, key_count);
        free_keys(engine->runtime, keys, key_count);
    }
    api->ReleaseModelMetadata(metadata);
    return status;
}
