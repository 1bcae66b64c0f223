/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "kln_look.h"
#include "onnx_read.h"

/* Where external files may be: the folder itself and, if the model is a symbolic link (as in the
 * cache of a model hub), the folder of its target. Both are resolved paths. */
typedef struct places {
    const char *folder; /* as given by the caller */
    char roots[2][PATH_MAX];
    size_t count;
} places;

/* Maps each file once, by location. */
typedef struct files {
    kln_names by_location; /* to an index of the model's mappings */
    size_t capacity;
    bool copies;          /* files are copied, because the model is a copy, too */
    kln_names by_missing; /* locations that cannot be used, to an index of the model's list */
    size_t missing_capacity;
} files;

/* Whether a location is below the folder: relative, and without "..". */
static bool stays_below(const char *location)
{
    if (location[0] == '\0' || location[0] == '/') {
        return false;
    }
    for (const char *part = location; part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        const size_t length = strcspn(part, "/");
        if (length == 2 && part[0] == '.' && part[1] == '.') {
            return false;
        }
    }
    return true;
}

static kiln_status find_places(const char *folder, const char *model_path, places *found)
{
    found->folder = folder;
    found->count = 0;
    KLN_RETURN_IF(realpath(folder, found->roots[0]) == NULL, KILN_ERROR_NOT_FOUND,
                  "the model's folder \"%s\" cannot be found: %s", folder, strerror(errno));
    found->count = 1;
    if (model_path != NULL && realpath(model_path, found->roots[1]) != NULL) {
        char *slash = strrchr(found->roots[1], '/');
        slash[slash == found->roots[1]] = '\0';
        found->count = 2;
    }
    return KILN_OK;
}

static bool lies_in(const char *path, const char *root)
{
    const size_t length = strlen(root);
    return strcmp(root, "/") == 0 || (strncmp(path, root, length) == 0 && path[length] == '/');
}

static kiln_status check_location(const places *where, const kln_onnx_tensor *tensor,
                                  char path[PATH_MAX])
{
    char real[PATH_MAX];
    KLN_RETURN_IF(
        !stays_below(tensor->location), KILN_ERROR_MALFORMED,
        "tensor \"%s\": its external file \"%s\" is not below the model's folder; move it "
        "there and save the model with its name alone",
        tensor->name, tensor->location);
    const int length = snprintf(path, PATH_MAX, "%s/%s", where->folder, tensor->location);
    KLN_RETURN_IF(length < 0 || length >= PATH_MAX, KILN_ERROR_LIMIT,
                  "tensor \"%s\": the path of its external file has %d bytes, %d are the limit",
                  tensor->name, length, PATH_MAX - 1);
    KLN_RETURN_IF(realpath(path, real) == NULL,
                  errno == ENOENT || errno == ENOTDIR ? KILN_ERROR_NOT_FOUND : KILN_ERROR_IO,
                  "tensor \"%s\": its external file \"%s\" cannot be found: %s; it belongs to the "
                  "model, copy both",
                  tensor->name, path, strerror(errno));
    for (size_t i = 0; i < where->count; i++) {
        if (lies_in(real, where->roots[i])) {
            /* Open the path that was checked, whatever the link points to later. */
            memcpy(path, real, strlen(real) + 1);
            return KILN_OK;
        }
    }
    return kln_fail(KILN_ERROR_MALFORMED,
                    "tensor \"%s\": its external file \"%s\" is a link to \"%s\", out of the "
                    "model's folder; copy "
                    "the file there",
                    tensor->name, tensor->location, real);
}

static kiln_status add_mapping(kln_onnx_model *model, files *known, const kln_mapping *mapping)
{
    KLN_RETURN_IF_ERROR(KLN_GROW(NULL, model->mappings, model->mapping_count, known->capacity));
    model->mappings[model->mapping_count++] = *mapping;
    return KILN_OK;
}

/* Gets the bytes of the tensor's file; maps it unless it was mapped for another tensor. */
static kiln_status map_file(kln_onnx_model *model, const places *where,
                            const kln_onnx_tensor *tensor, files *known, kiln_span *bytes)
{
    char path[PATH_MAX];
    const uint32_t index = kln_names_get(&known->by_location, tensor->location);
    if (index != KLN_NAMES_NONE) {
        *bytes = model->mappings[index].bytes;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(check_location(where, tensor, path));
    kln_mapping mapping;
    KLN_RETURN_WITHIN(kln_mapping_open_as(path, known->copies, &mapping), "tensor \"%s\"",
                      tensor->name);
    const kiln_status added = add_mapping(model, known, &mapping);
    if (added != KILN_OK) {
        kln_mapping_close(&mapping);
        return added;
    }
    *bytes = mapping.bytes;
    return kln_names_set(&known->by_location, tensor->location,
                         (uint32_t)(model->mapping_count - 1));
}

/* Takes the tensor's part of its file. */
static kiln_status take_part(kln_onnx_tensor *tensor, kiln_span file, uint64_t needed,
                             bool is_known)
{
    const uint64_t offset = tensor->external_offset;
    KLN_RETURN_IF(tensor->external_length != 0 && is_known && tensor->external_length != needed,
                  KILN_ERROR_MALFORMED,
                  "tensor \"%s\": its type %s and %zu dimensions need %llu bytes, its external "
                  "length is %llu",
                  tensor->name, kiln_dtype_name(tensor->dtype), tensor->rank,
                  (unsigned long long)needed, (unsigned long long)tensor->external_length);
    const uint64_t length =
        tensor->external_length != 0 || !is_known ? tensor->external_length : needed;
    KLN_RETURN_IF(
        offset > file.size || length > file.size - offset, KILN_ERROR_MALFORMED,
        "tensor \"%s\": bytes %llu to %llu of \"%s\" are needed, the file has %zu: it was "
        "cut short or is of another export; copy it again",
        tensor->name, (unsigned long long)offset, (unsigned long long)(offset + length),
        tensor->location, file.size);
    tensor->data = (kiln_span){(const uint8_t *)file.data + offset, (size_t)length};
    return KILN_OK;
}

static kiln_status map_tensor(kln_onnx_model *model, const places *where, kln_onnx_tensor *tensor,
                              files *known)
{
    size_t needed = 0;
    const unsigned bits = kln_onnx_wire_bits(tensor->wire_dtype);
    KLN_RETURN_IF(tensor->dtype == KILN_DTYPE_STRING, KILN_ERROR_MALFORMED,
                  "tensor \"%s\": strings cannot lie in an external file", tensor->name);
    KLN_RETURN_IF(!kln_onnx_tensor_bytes(tensor, bits, &needed), KILN_ERROR_MALFORMED,
                  "tensor \"%s\": a dimension is negative, or their product has more than 64 bits",
                  tensor->name);
    if (needed == 0 && bits != 0) {
        return KILN_OK;
    }
    kiln_span file = {NULL, 0};
    KLN_RETURN_IF_ERROR(map_file(model, where, tensor, known, &file));
    return take_part(tensor, file, needed, bits != 0);
}

/* Records why the tensor has no data, once for each file. */
static kiln_status note_missing(kln_onnx_model *model, files *known, const kln_onnx_tensor *tensor)
{
    const uint32_t index = kln_names_get(&known->by_missing, tensor->location);
    if (index != KLN_NAMES_NONE) {
        model->missing[index].tensors++;
        return KILN_OK;
    }
    const char *reason = kln_arena_strdup(&model->arena, kiln_error_message());
    KLN_RETURN_IF_NO_MEMORY(reason, 1, "what is missing of a model");
    KLN_RETURN_IF_ERROR(
        KLN_GROW(&model->arena, model->missing, model->missing_count, known->missing_capacity));
    model->missing[model->missing_count] =
        (kln_onnx_missing){tensor->location, tensor->name, 1, reason};
    return kln_names_set(&known->by_missing, tensor->location, (uint32_t)model->missing_count++);
}

kiln_status kln_onnx_map_externals(kln_onnx_reader *reader, const char *folder,
                                   const char *model_path)
{
    const kln_onnx_model *model = reader->model;
    files known = {.capacity = model->mapping_count,
                   .copies = model->mapping_count > 0 && kln_mapping_is_copy(&model->mappings[0])};
    KLN_SCOPED_FREE places *where = kln_alloc(sizeof *where);
    KLN_RETURN_IF_NO_MEMORY(where, sizeof *where, "the paths of external files");
    kiln_status status = find_places(folder, model_path, where);
    for (kln_external *each = reader->externals; each != NULL && status == KILN_OK;
         each = each->next) {
        status = map_tensor(reader->model, where, each->tensor, &known);
        if (status != KILN_OK && status != KILN_ERROR_OUT_OF_MEMORY && reader->is_partial) {
            status = note_missing(reader->model, &known, each->tensor);
        }
    }
    kln_names_finish(&known.by_location);
    kln_names_finish(&known.by_missing);
    return status;
}
