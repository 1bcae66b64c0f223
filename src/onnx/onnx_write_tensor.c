/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "onnx_read.h"
#include "onnx_write.h"

/* From this size on, elements go to the file of weights; onnx.save has the same threshold. */
#define WORTH_A_FILE ((size_t)1024)
/* The specification recommends page alignment for mapping; smaller tensors need at most that of a
 * cache line. */
#define PAGE ((uint64_t)4096)
#define LINE ((uint64_t)64)

/* Where a tensor's elements are written. */
typedef enum place { PLACE_INLINE, PLACE_FILE, PLACE_LEFT_OUT, PLACE_AS_IT_IS } place;

bool kln_onnx_is_left_out(const kln_onnx_tensor *tensor)
{
    return tensor->data.size >= WORTH_A_FILE;
}

void kln_onnx_left_out_location(size_t index, char location[KLN_ONNX_LEFT_OUT_TEXT])
{
    (void)snprintf(location, KLN_ONNX_LEFT_OUT_TEXT, "left-out.%zu", index);
}

static place place_of(const kln_onnx_writer *writer, const kln_onnx_tensor *tensor)
{
    if (tensor->is_external && tensor->data.data == NULL) {
        return PLACE_AS_IT_IS;
    }
    /* Attribute values are usually small, and few readers support external data for them. */
    const bool is_initializer = writer->attributes + 1 == writer->graphs;
    if (tensor->data.size < WORTH_A_FILE || !is_initializer) {
        return PLACE_INLINE;
    }
    if (writer->weights == KLN_ONNX_WEIGHTS_EXTERNAL) {
        return PLACE_FILE;
    }
    /* The receiver gets these weights by name, and names are unique only in the main graph. */
    return writer->weights == KLN_ONNX_WEIGHTS_LEFT_OUT && writer->graphs == 1 ? PLACE_LEFT_OUT
                                                                               : PLACE_INLINE;
}

/* The field of the tensor's original storage, or raw_data if that no longer fits its type. */
static uint32_t number_of(const kln_onnx_tensor *tensor)
{
    static const uint32_t numbers[] = {
        [KLN_ONNX_STORAGE_RAW] = KLN_TENSOR_RAW_DATA,
        [KLN_ONNX_STORAGE_FLOAT] = KLN_TENSOR_FLOAT_DATA,
        [KLN_ONNX_STORAGE_INT32] = KLN_TENSOR_INT32_DATA,
        [KLN_ONNX_STORAGE_INT64] = KLN_TENSOR_INT64_DATA,
        [KLN_ONNX_STORAGE_DOUBLE] = KLN_TENSOR_DOUBLE_DATA,
        [KLN_ONNX_STORAGE_UINT64] = KLN_TENSOR_UINT64_DATA,
    };
    const uint32_t number = numbers[tensor->storage];
    return number == kln_onnx_data_field(tensor->dtype) ? number : KLN_TENSOR_RAW_DATA;
}

/* --- elements in the message --- */

/* Element `i` as the number in the wire field. */
static uint64_t number_at(const kln_onnx_tensor *tensor, size_t width, size_t i)
{
    uint64_t bits = 0;
    memcpy(&bits, (const uint8_t *)tensor->data.data + i * width, width);
    switch (tensor->dtype) {
        case KILN_DTYPE_INT8: return (uint64_t)(int64_t)(int8_t)(uint8_t)bits;
        case KILN_DTYPE_INT16: return (uint64_t)(int64_t)(int16_t)(uint16_t)bits;
        case KILN_DTYPE_INT32: return (uint64_t)(int64_t)(int32_t)(uint32_t)bits;
        default: return bits;
    }
}

static kiln_status write_varints(kln_onnx_writer *writer, uint32_t number,
                                 const kln_onnx_tensor *tensor)
{
    const unsigned bits = kiln_dtype_bits(tensor->dtype);
    const size_t width = bits < 8 ? 1 : bits / 8;
    const size_t count = tensor->data.size / width;
    uint64_t length = 0;
    for (size_t i = 0; i < count && writer->measures; i++) {
        length += kln_wire_varint_size(number_at(tensor, width, i));
    }
    KLN_RETURN_IF_ERROR(kln_onnx_keep_length(writer, &length));
    KLN_RETURN_IF_ERROR(kln_onnx_put_tag(writer, number, KLN_WIRE_BYTES));
    KLN_RETURN_IF_ERROR(kln_onnx_put_varint(writer, length));
    if (writer->measures) {
        writer->total += length;
        return KILN_OK;
    }
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(kln_onnx_put_varint(writer, number_at(tensor, width, i)));
    }
    return KILN_OK;
}

static kiln_status write_elements(kln_onnx_writer *writer, uint32_t number,
                                  const kln_onnx_tensor *tensor)
{
    const bool present = !tensor->is_external && (tensor->present & UINT32_C(1) << number) != 0;
    if (number != number_of(tensor) || (tensor->data.size == 0 && !present) ||
        place_of(writer, tensor) != PLACE_INLINE) {
        return KILN_OK;
    }
    if (number == KLN_TENSOR_INT32_DATA || number == KLN_TENSOR_INT64_DATA ||
        number == KLN_TENSOR_UINT64_DATA) {
        return write_varints(writer, number, tensor);
    }
    return kln_onnx_put_bytes(writer, number, tensor->data);
}

/* --- external data --- */

static kiln_status write_entry(kln_onnx_writer *writer, const char *key, const char *value)
{
    const kln_onnx_entry entry = {.key = key, .value = value};
    return kln_onnx_put_message(writer, KLN_TENSOR_EXTERNAL_DATA, &kln_layout_entry, &entry);
}

static kiln_status write_place(kln_onnx_writer *writer, const char *location, uint64_t offset,
                               uint64_t length)
{
    char text[24];
    KLN_RETURN_IF_ERROR(write_entry(writer, "location", location));
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)offset);
    KLN_RETURN_IF_ERROR(write_entry(writer, "offset", text));
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)length);
    return length != 0 ? write_entry(writer, "length", text) : KILN_OK;
}

/* Appends the elements to the file of weights, aligned. */
static kiln_status write_weights(kln_onnx_writer *writer, const kln_onnx_tensor *tensor,
                                 uint64_t *offset)
{
    static const uint8_t zeros[PAGE];
    const uint64_t step = tensor->data.size >= PAGE ? PAGE : LINE;
    const uint64_t gap = (step - writer->data_offset % step) % step;
    *offset = writer->data_offset + gap;
    writer->data_offset = *offset + tensor->data.size;
    if (writer->measures) {
        kln_hasher_add(writer->hasher, zeros, (size_t)gap);
        kln_hasher_add(writer->hasher, tensor->data.data, tensor->data.size);
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_output_write(writer->data, zeros, (size_t)gap));
    return kln_output_write(writer->data, tensor->data.data, tensor->data.size);
}

static kiln_status write_external(kln_onnx_writer *writer, const kln_onnx_tensor *tensor)
{
    uint64_t offset = 0;
    char left_out[KLN_ONNX_LEFT_OUT_TEXT];
    switch (place_of(writer, tensor)) {
        case PLACE_FILE:
            KLN_RETURN_IF_ERROR(write_weights(writer, tensor, &offset));
            return write_place(writer, writer->location, offset, tensor->data.size);
        case PLACE_LEFT_OUT:
            kln_onnx_left_out_location(writer->left_out++, left_out);
            return write_place(writer, left_out, 0, tensor->data.size);
        case PLACE_AS_IT_IS:
            writer->refers = true;
            KLN_RETURN_IF_ERROR(write_place(writer, tensor->location, tensor->external_offset,
                                            tensor->external_length));
            break;
        case PLACE_INLINE:
            if (tensor->is_external) {
                return KILN_OK;
            }
            break;
    }
    for (size_t i = 0; i < tensor->external_other_count; i++) {
        KLN_RETURN_IF_ERROR(kln_onnx_put_message(writer, KLN_TENSOR_EXTERNAL_DATA,
                                                 &kln_layout_entry, &tensor->external_others[i]));
    }
    return KILN_OK;
}

static kiln_status write_location(kln_onnx_writer *writer, const kln_onnx_tensor *tensor)
{
    const bool is_external = place_of(writer, tensor) != PLACE_INLINE;
    const bool present = (tensor->present & UINT32_C(1) << KLN_TENSOR_DATA_LOCATION) != 0;
    if (!is_external && (!present || tensor->is_external)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_onnx_put_tag(writer, KLN_TENSOR_DATA_LOCATION, KLN_WIRE_VARINT));
    return kln_onnx_put_varint(writer, is_external);
}

kiln_status kln_onnx_write_tensor_field(kln_onnx_writer *writer, uint32_t number,
                                        const kln_onnx_tensor *tensor)
{
    switch (number) {
        case KLN_TENSOR_EXTERNAL_DATA: return write_external(writer, tensor);
        case KLN_TENSOR_DATA_LOCATION: return write_location(writer, tensor);
        default: return write_elements(writer, number, tensor);
    }
}
