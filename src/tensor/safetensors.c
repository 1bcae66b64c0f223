/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weights by name in one file: https://huggingface.co/docs/safetensors
 *
 * Eight bytes with the length of the header as an unsigned little-endian number; the header, a JSON
 * object with the type, shape and byte range of each tensor; then the tensors' bytes, one after the
 * other, without gaps.
 */
#include <cJSON.h>
#include <inttypes.h>
#include <stdlib.h>

#include "kln_tensor.h"

/* The limit of the format's reference reader (MAX_HEADER_SIZE). */
#define LARGEST_HEADER ((uint64_t)100000000)
#define LENGTH_BYTES ((size_t)8)
/* The entry that does not describe a tensor. */
#define METADATA "__metadata__"

static const struct {
    const char *name;
    kiln_dtype dtype;
} types[] = {{"F64", KILN_DTYPE_FLOAT64},        {"F32", KILN_DTYPE_FLOAT32},
             {"F16", KILN_DTYPE_FLOAT16},        {"BF16", KILN_DTYPE_BFLOAT16},
             {"F8_E4M3", KILN_DTYPE_FLOAT8E4M3}, {"F8_E5M2", KILN_DTYPE_FLOAT8E5M2},
             {"I64", KILN_DTYPE_INT64},          {"I32", KILN_DTYPE_INT32},
             {"I16", KILN_DTYPE_INT16},          {"I8", KILN_DTYPE_INT8},
             {"U64", KILN_DTYPE_UINT64},         {"U32", KILN_DTYPE_UINT32},
             {"U16", KILN_DTYPE_UINT16},         {"U8", KILN_DTYPE_UINT8},
             {"BOOL", KILN_DTYPE_BOOL}};

static uint64_t header_length(kiln_span file)
{
    const unsigned char *byte = file.data;
    uint64_t length = 0;
    for (size_t i = LENGTH_BYTES; i > 0; i--) {
        length = length << 8 | byte[i - 1];
    }
    return length;
}

bool kln_safetensors_is(kiln_span file)
{
    return file.size > LENGTH_BYTES && ((const char *)file.data)[LENGTH_BYTES] == '{' &&
           header_length(file) <= file.size - LENGTH_BYTES;
}

/* Reads a non-negative integer; false if it is anything else. */
static bool is_count(const cJSON *item, int64_t *count)
{
    const double number = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(number >= 0) || number > KLN_JSON_LARGEST_INTEGER || number != (double)(int64_t)number) {
        return false;
    }
    *count = (int64_t)number;
    return true;
}

static kiln_status read_dtype(const cJSON *entry, const char *name, kiln_dtype *dtype)
{
    const char *word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "dtype"));
    KLN_RETURN_IF(word == NULL, KILN_ERROR_MALFORMED, "tensor \"%s\": there is no \"dtype\"", name);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        if (strcmp(types[i].name, word) == 0) {
            *dtype = types[i].dtype;
            return KILN_OK;
        }
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED, "tensor \"%s\": the type \"%.40s\" is not known here",
                    name, word);
}

static kiln_status read_shape(const cJSON *entry, const char *name, kiln_shape *shape)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(entry, "shape");
    *shape = KILN_SHAPE_SCALAR;
    KLN_RETURN_IF(!cJSON_IsArray(list), KILN_ERROR_MALFORMED,
                  "tensor \"%s\": there is no \"shape\"", name);
    for (const cJSON *item = list->child; item != NULL; item = item->next) {
        KLN_RETURN_IF(shape->rank == KILN_MAX_RANK, KILN_ERROR_RANK,
                      "tensor \"%s\" has more than %d dimensions", name, KILN_MAX_RANK);
        KLN_RETURN_IF(!is_count(item, &shape->dims[shape->rank++]), KILN_ERROR_MALFORMED,
                      "tensor \"%s\": dimension %d is no length", name, shape->rank - 1);
    }
    return KILN_OK;
}

static kiln_status read_bytes(const cJSON *entry, const char *name, kiln_span data,
                              kiln_tensor *tensor)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    int64_t ends[2] = {0, 0};
    size_t bytes = 0;
    KLN_RETURN_IF(cJSON_GetArraySize(list) != 2 || !is_count(list->child, &ends[0]) ||
                      !is_count(list->child->next, &ends[1]) || ends[0] > ends[1] ||
                      (uint64_t)ends[1] > data.size,
                  KILN_ERROR_MALFORMED,
                  "tensor \"%s\": its \"data_offsets\" are not two places, in order, in the "
                  "%zu bytes behind the header; the file may be cut short",
                  name, data.size);
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &bytes));
    KLN_RETURN_IF(bytes != (uint64_t)(ends[1] - ends[0]), KILN_ERROR_MALFORMED,
                  "tensor \"%s\": its type and shape take %zu bytes, its \"data_offsets\" "
                  "leave %" PRId64,
                  name, bytes, ends[1] - ends[0]);
    tensor->data = (unsigned char *)(uintptr_t)data.data + ends[0];
    tensor->bytes = bytes;
    return KILN_OK;
}

static kiln_status read_tensor(const cJSON *entry, kiln_span data, kln_arena *arena,
                               kiln_named_tensor *tensor)
{
    *tensor = (kiln_named_tensor){.name = kln_arena_strdup(arena, entry->string)};
    KLN_RETURN_IF_NO_MEMORY(tensor->name, strlen(entry->string), "the name of a tensor");
    KLN_RETURN_IF(!cJSON_IsObject(entry), KILN_ERROR_MALFORMED,
                  "tensor \"%s\": it is no JSON object", tensor->name);
    KLN_RETURN_IF_ERROR(read_dtype(entry, tensor->name, &tensor->tensor.desc.dtype));
    KLN_RETURN_IF_ERROR(read_shape(entry, tensor->name, &tensor->tensor.desc.shape));
    return read_bytes(entry, tensor->name, data, &tensor->tensor);
}

static int by_place(const void *a, const void *b)
{
    const kiln_named_tensor *one = a;
    const kiln_named_tensor *other = b;
    const uintptr_t places[2] = {(uintptr_t)one->tensor.data, (uintptr_t)other->tensor.data};
    return places[0] != places[1] ? (places[0] < places[1] ? -1 : 1)
           : one->tensor.bytes != other->tensor.bytes
               ? (one->tensor.bytes < other->tensor.bytes ? -1 : 1)
               : 0;
}

/* The format requires that every byte belongs to exactly one tensor; a file with overlaps may be
 * crafted. */
static kiln_status check_places(kiln_span data, kiln_named_tensor *tensors, size_t count)
{
    const unsigned char *next = data.data;
    if (count > 0) {
        qsort(tensors, count, sizeof *tensors, by_place);
    }
    for (size_t i = 0; i < count; i++) {
        const unsigned char *begin = tensors[i].tensor.data;
        KLN_RETURN_IF(begin != next, KILN_ERROR_MALFORMED,
                      "tensor \"%s\": its bytes %s those of another tensor", tensors[i].name,
                      begin < next ? "overlap" : "do not follow on");
        next += tensors[i].tensor.bytes;
    }
    const unsigned char *end = (const unsigned char *)data.data + data.size;
    return next == end
               ? KILN_OK
               : kln_fail(KILN_ERROR_MALFORMED, "%td bytes at the end are no tensor's", end - next);
}

static kiln_status check_names(const kiln_named_tensor *tensors, size_t count)
{
    KLN_SCOPED(kln_names_finish) kln_names names = {0};
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(
            kln_names_get(&names, tensors[i].name) == KLN_NAMES_NONE
                ? kln_names_set(&names, tensors[i].name, (uint32_t)i)
                : kln_fail(KILN_ERROR_MALFORMED, "tensor \"%s\" is there twice", tensors[i].name));
    }
    return KILN_OK;
}

static kiln_status read_all(const cJSON *root, kiln_span data, kln_arena *arena,
                            kiln_named_tensor **tensors, size_t *count)
{
    KLN_RETURN_IF(!cJSON_IsObject(root), KILN_ERROR_MALFORMED, "the header is no JSON object");
    const size_t most = (size_t)cJSON_GetArraySize(root) + 1;
    KLN_ARENA_NEW(arena, *tensors, most, "the list of tensors");
    for (const cJSON *entry = root->child; entry != NULL; entry = entry->next) {
        if (strcmp(entry->string, METADATA) != 0) {
            KLN_RETURN_IF_ERROR(read_tensor(entry, data, arena, &(*tensors)[*count]));
            (*count)++;
        }
    }
    KLN_RETURN_IF_ERROR(check_names(*tensors, *count));
    return check_places(data, *tensors, *count);
}

kiln_status kln_safetensors_read(kiln_span file, kln_arena *arena, kiln_named_tensor **tensors,
                                 size_t *count)
{
    cJSON *root = NULL;
    *tensors = NULL;
    *count = 0;
    const uint64_t length = file.size >= LENGTH_BYTES ? header_length(file) : 0;
    KLN_RETURN_IF(length == 0 || length > file.size - LENGTH_BYTES, KILN_ERROR_MALFORMED,
                  "%zu bytes are no .safetensors file: a header of %" PRIu64
                  " bytes was announced; the file may be cut short",
                  file.size, length);
    const char *text = (const char *)file.data + LENGTH_BYTES;
    const size_t behind = LENGTH_BYTES + (size_t)length;
    const kiln_span data = {(const unsigned char *)file.data + behind, file.size - behind};
    kiln_status status = kln_json_parse((kiln_span){text, (size_t)length}, LARGEST_HEADER,
                                        "the header of a .safetensors file", "", &root);
    KLN_THEN(status, read_all(root, data, arena, tensors, count));
    cJSON_Delete(root);
    if (status != KILN_OK) {
        *tensors = NULL;
        *count = 0;
    }
    return status;
}
