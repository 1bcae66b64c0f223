/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_read.h"

/* A sparse initializer is not decoded, but the graph must know its name: that of its `values`. */
static kiln_status read_sparse_name(kln_onnx_reader *reader, kiln_span bytes, const char **name)
{
    static const kln_layout sparse = {.name = "SparseTensorProto"};
    static const uint32_t path[] = {1, KLN_TENSOR_NAME};
    for (size_t level = 0; level < KLN_ARRAY_LENGTH(path); level++) {
        const uint8_t *begin = bytes.data;
        kln_wire wire = {begin, begin + bytes.size};
        bytes = (kiln_span){begin, 0};
        while (wire.at != wire.end) {
            kln_wire_field field;
            KLN_RETURN_IF_ERROR(
                kln_onnx_next(reader, level == 0 ? &sparse : &kln_layout_tensor, &wire, &field));
            if (field.number == path[level] && field.type == KLN_WIRE_BYTES) {
                bytes = field.bytes;
            }
        }
    }
    return kln_onnx_read_string(reader, &kln_layout_tensor,
                                kln_layout_field(&kln_layout_tensor, KLN_TENSOR_NAME), bytes, name);
}

static kiln_status finish_graph(kln_onnx_reader *reader, kln_wire wire, void *message)
{
    (void)wire;
    kln_onnx_graph *graph = message;
    graph->node_capacity = graph->node_count;
    graph->initializer_capacity = graph->initializer_count;
    graph->input_capacity = graph->input_count;
    graph->output_capacity = graph->output_count;
    graph->value_capacity = graph->value_count;
    const size_t count = graph->sparse_initializer_count;
    if (count == 0) {
        return KILN_OK;
    }
    const char **names = kln_arena_alloc_zeroed(reader->arena, count, sizeof *names);
    KLN_RETURN_IF_NO_MEMORY(names, count * sizeof *names, "names of sparse initializers");
    graph->sparse_initializer_names = names;
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(read_sparse_name(reader, graph->sparse_initializers[i], &names[i]));
    }
    return KILN_OK;
}

static kiln_status finish_function(kln_onnx_reader *reader, kln_wire wire, void *message)
{
    (void)reader;
    (void)wire;
    kln_onnx_function *function = message;
    kln_layout_init(&kln_layout_graph, &function->body);
    function->body.node_capacity = function->body.node_count;
    function->body.value_capacity = function->body.value_count;
    return KILN_OK;
}

static kiln_status finish_model(kln_onnx_reader *reader, kln_wire wire, void *message)
{
    (void)reader;
    (void)wire;
    const kln_onnx_model *model = message;
    KLN_RETURN_IF(
        (model->present & UINT32_C(1) << 1) == 0 || (model->present & UINT32_C(1) << 7) == 0,
        KILN_ERROR_MALFORMED, "not an ONNX model: ModelProto.%s is missing",
        (model->present & UINT32_C(1) << 1) == 0 ? "ir_version" : "graph");
    KLN_RETURN_IF(model->ir_version < KLN_ONNX_IR_OLDEST || model->ir_version > KLN_ONNX_IR_NEWEST,
                  KILN_ERROR_UNSUPPORTED,
                  "the model has ONNX IR version %lld; versions %d to %d are read, so it must "
                  "be saved again with %s version of ONNX",
                  (long long)model->ir_version, KLN_ONNX_IR_OLDEST, KLN_ONNX_IR_NEWEST,
                  model->ir_version < KLN_ONNX_IR_OLDEST ? "a newer" : "an older");
    return KILN_OK;
}

static const kln_read_finish finishes[KLN_HOOKS_COUNT] = {
    [KLN_HOOKS_TENSOR] = kln_onnx_finish_tensor,
    [KLN_HOOKS_GRAPH] = finish_graph,
    [KLN_HOOKS_FUNCTION] = finish_function,
    [KLN_HOOKS_MODEL] = finish_model,
};

/* Hands the mapping, if there is one, to the model; closes it on failure. */
static kiln_status keep_mapping(kln_mapping *mapping, kln_onnx_model *model)
{
    if (mapping->bytes.data == NULL) {
        return KILN_OK;
    }
    model->mappings = kln_alloc(sizeof *mapping);
    if (model->mappings == NULL) {
        kln_mapping_close(mapping);
        return kln_fail_memory(sizeof *mapping, "a mapping");
    }
    model->mappings[0] = *mapping;
    model->mapping_count = 1;
    model->is_mapped = true;
    return KILN_OK;
}

/* Reads `bytes`. Takes ownership of `mapping`, even on failure. */
static kiln_status read_model(kiln_span bytes, const char *folder, const char *path, bool partly,
                              kln_mapping *mapping, kln_onnx_model **result)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *model = NULL;
    kiln_status status = kln_onnx_model_create(&model);
    if (status != KILN_OK) {
        kln_mapping_close(mapping);
        return status;
    }
    kln_onnx_reader reader = {.finish = finishes,
                              .model = model,
                              .arena = &model->arena,
                              .base = bytes.data,
                              .is_partial = partly};
    reader.externals_end = &reader.externals;
    KLN_RETURN_IF_ERROR(keep_mapping(mapping, model));
    status = kln_onnx_read_message(&reader, &kln_layout_model, bytes, model);
    kln_onnx_release_scratch(&reader);
    if (status != KILN_OK) {
        const char *foreign = status != KILN_ERROR_OUT_OF_MEMORY ? kln_onnx_foreign(bytes) : NULL;
        return foreign != NULL
                   ? kln_fail(KILN_ERROR_MALFORMED, "not an ONNX model: this is %s", foreign)
                   : status;
    }
    if (folder != NULL && reader.externals != NULL) {
        KLN_RETURN_IF_ERROR(kln_onnx_map_externals(&reader, folder, path));
    }
    *result = KLN_TAKE(model);
    return KILN_OK;
}

kiln_status kln_onnx_read_bytes(kiln_span bytes, const char *folder, kln_onnx_model **model)
{
    KLN_RETURN_IF_NULL_RESULT(model);
    KLN_RETURN_IF(bytes.size == 0, KILN_ERROR_EMPTY, "an ONNX model is needed, 0 bytes were given");
    KLN_RETURN_IF_NULL(bytes.data);
    kln_mapping none = {.mapped = NULL};
    return read_model(bytes, folder, NULL, false, &none, model);
}

/* Returns the folder of `path`; free with kln_free. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return kln_strdup(".");
    }
    char *folder = kln_strdup(path);
    if (folder != NULL) {
        folder[slash == path ? 1 : slash - path] = '\0';
    }
    return folder;
}

static kiln_status read_mapping(const kln_mapping *file, const char *path, bool partly,
                                kln_onnx_model **model)
{
    *model = NULL;
    char *folder = folder_of(path);
    KLN_RETURN_IF_NO_MEMORY(folder, strlen(path), "a path");
    kln_mapping share = kln_mapping_share(file);
    const kiln_status status = read_model(file->bytes, folder, path, partly, &share, model);
    kln_free(folder);
    return status == KILN_OK ? KILN_OK : kln_fail_within(status, "\"%s\"", path);
}

kiln_status kln_onnx_read_mapping(const kln_mapping *file, const char *path, kln_onnx_model **model)
{
    return read_mapping(file, path, false, model);
}

kiln_status kln_onnx_read_partly(const char *path, kln_onnx_model **model)
{
    KLN_SCOPED(kln_mapping_close) kln_mapping mapping = {0};
    *model = NULL;
    KLN_RETURN_IF_ERROR(kln_mapping_open(path, &mapping));
    return read_mapping(&mapping, path, true, model);
}

kiln_status kln_onnx_read_file(const char *path, kln_onnx_model **model)
{
    KLN_RETURN_IF_NULL(path, model);
    *model = NULL;
    for (int replaced = 0;; replaced++) {
        kln_mapping mapping;
        KLN_RETURN_IF_ERROR(kln_mapping_open(path, &mapping));
        const kiln_status status = kln_onnx_read_mapping(&mapping, path, model);
        const bool again = status == KILN_ERROR_NOT_FOUND && replaced < KLN_MOST_REPLACED &&
                           kln_mapping_was_replaced(&mapping, path);
        kln_mapping_close(&mapping);
        if (!again) {
            return status;
        }
    }
}

kiln_status kln_onnx_check_files(const kln_onnx_model *model)
{
    if (model != NULL && model->origin != NULL) {
        KLN_RETURN_IF_ERROR(kln_onnx_check_files(model->origin));
    }
    for (size_t i = 0; model != NULL && i < model->mapping_count; i++) {
        if (!kln_mapping_is_copy(&model->mappings[i])) {
            KLN_RETURN_IF_ERROR(kln_bytes_check(
                model->mappings[i].bytes, i == 0 ? "the model" : "a file of the model's weights"));
        }
    }
    return KILN_OK;
}
