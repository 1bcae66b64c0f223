/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_write.h"

/* --- bytes --- */

static kiln_status flush(kln_onnx_writer *writer)
{
    const size_t size = writer->buffered;
    writer->buffered = 0;
    return kln_output_write(writer->file, writer->buffer, size);
}

/* Writes bytes of the message, or only counts them. */
static kiln_status put(kln_onnx_writer *writer, const void *data, size_t size)
{
    writer->total += size;
    if (writer->measures || size == 0) {
        return KILN_OK;
    }
    if (writer->text != NULL) {
        return kln_text_append(writer->text, data, size);
    }
    if (size > KLN_WRITER_BUFFER - writer->buffered) {
        KLN_RETURN_IF_ERROR(flush(writer));
    }
    if (size >= KLN_WRITER_BUFFER) {
        return kln_output_write(writer->file, data, size);
    }
    memcpy(writer->buffer + writer->buffered, data, size);
    writer->buffered += size;
    return KILN_OK;
}

kiln_status kln_onnx_put_varint(kln_onnx_writer *writer, uint64_t value)
{
    uint8_t bytes[KLN_WIRE_VARINT_BYTES];
    return put(writer, bytes, kln_wire_put_varint(bytes, value));
}

kiln_status kln_onnx_put_tag(kln_onnx_writer *writer, uint32_t number, kln_wire_type type)
{
    return kln_onnx_put_varint(writer, (uint64_t)number << 3 | (uint64_t)type);
}

kiln_status kln_onnx_put_bytes(kln_onnx_writer *writer, uint32_t number, kiln_span bytes)
{
    KLN_RETURN_IF_ERROR(kln_onnx_put_tag(writer, number, KLN_WIRE_BYTES));
    KLN_RETURN_IF_ERROR(kln_onnx_put_varint(writer, bytes.size));
    return put(writer, bytes.data, bytes.size);
}

static kiln_status put_string(kln_onnx_writer *writer, uint32_t number, const char *string)
{
    const char *text = string != NULL ? string : "";
    return kln_onnx_put_bytes(writer, number, (kiln_span){text, strlen(text)});
}

/* --- lengths --- */

static kiln_status add_length(kln_onnx_writer *writer)
{
    KLN_RETURN_IF_ERROR(
        KLN_GROW(NULL, writer->lengths, writer->length_count, writer->length_capacity));
    writer->length_count++;
    return KILN_OK;
}

kiln_status kln_onnx_keep_length(kln_onnx_writer *writer, uint64_t *length)
{
    if (writer->measures) {
        KLN_RETURN_IF_ERROR(add_length(writer));
        writer->lengths[writer->length_count - 1] = *length;
    } else {
        *length = writer->lengths[writer->length_next++];
    }
    return KILN_OK;
}

/* --- fields --- */

static size_t count_at(const void *base, const kln_field *field)
{
    size_t count = 0;
    memcpy(&count, (const unsigned char *)base + field->count, sizeof count);
    return count;
}

static const void *pointer_at(const void *place)
{
    const void *pointer = NULL;
    memcpy(&pointer, place, sizeof pointer);
    return pointer;
}

static kiln_status put_number(kln_onnx_writer *writer, uint32_t number, int64_t value)
{
    KLN_RETURN_IF_ERROR(kln_onnx_put_tag(writer, number, KLN_WIRE_VARINT));
    return kln_onnx_put_varint(writer, (uint64_t)value);
}

static kiln_status put_float(kln_onnx_writer *writer, uint32_t number, const void *place)
{
    KLN_RETURN_IF_ERROR(kln_onnx_put_tag(writer, number, KLN_WIRE_FIXED32));
    return put(writer, place, sizeof(float));
}

static kiln_status write_dtype(kln_onnx_writer *writer, const kln_field *field, uint32_t number,
                               const unsigned char *base, bool present)
{
    int32_t wire = 0;
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    memcpy(&wire, base + field->offset, sizeof wire);
    memcpy(&dtype, base + field->count, sizeof dtype);
    /* Callers that change a type set `dtype`; the wire type only counts for types without a
     * kiln_dtype. */
    wire = dtype != KILN_DTYPE_UNDEFINED ? kln_onnx_wire_dtype(dtype) : wire;
    return present || wire != 0 ? put_number(writer, number, wire) : KILN_OK;
}

static kiln_status write_number(kln_onnx_writer *writer, const kln_field *field, uint32_t number,
                                const unsigned char *base, bool present)
{
    const unsigned char *place = base + field->offset;
    int64_t value = 0;
    int32_t small = 0;
    switch (field->kind) {
        case KLN_FIELD_INT64:
            memcpy(&value, place, sizeof value);
            return present || value != field->initial ? put_number(writer, number, value) : KILN_OK;
        case KLN_FIELD_INT32:
            memcpy(&small, place, sizeof small);
            return present || small != 0 ? put_number(writer, number, small) : KILN_OK;
        case KLN_FIELD_FLOAT:
            memcpy(&small, place, sizeof small);
            return present || small != 0 ? put_float(writer, number, place) : KILN_OK;
        default: return write_dtype(writer, field, number, base, present);
    }
}

static kiln_status write_single(kln_onnx_writer *writer, const kln_field *field, uint32_t number,
                                const unsigned char *base, bool present)
{
    const unsigned char *place = base + field->offset;
    const char *string = NULL;
    kiln_span span;
    switch (field->kind) {
        case KLN_FIELD_STRING:
            string = pointer_at(place);
            present = present || (string != NULL && string[0] != '\0');
            return present ? put_string(writer, number, string) : KILN_OK;
        case KLN_FIELD_STRING_OR_NULL:
            string = pointer_at(place);
            return string != NULL ? put_string(writer, number, string) : KILN_OK;
        case KLN_FIELD_BYTES:
            memcpy(&span, place, sizeof span);
            return present || span.size != 0 ? kln_onnx_put_bytes(writer, number, span) : KILN_OK;
        case KLN_FIELD_MESSAGE: return kln_onnx_put_message(writer, number, field->message, place);
        case KLN_FIELD_MESSAGE_POINTER:
            return pointer_at(place) != NULL
                       ? kln_onnx_put_message(writer, number, field->message, pointer_at(place))
                       : KILN_OK;
        default: return write_number(writer, field, number, base, present);
    }
}

static kiln_status write_element(kln_onnx_writer *writer, const kln_field *field, uint32_t number,
                                 const unsigned char *array, size_t i)
{
    kiln_span span;
    int64_t value = 0;
    switch (field->kind) {
        case KLN_FIELD_STRINGS:
            return put_string(writer, number, pointer_at(array + i * sizeof(char *)));
        case KLN_FIELD_SPANS:
            memcpy(&span, array + i * sizeof span, sizeof span);
            return kln_onnx_put_bytes(writer, number, span);
        case KLN_FIELD_INT64S:
            memcpy(&value, array + i * sizeof value, sizeof value);
            return put_number(writer, number, value);
        case KLN_FIELD_FLOATS: return put_float(writer, number, array + i * sizeof(float));
        case KLN_FIELD_MESSAGES:
            return kln_onnx_put_message(writer, number, field->message,
                                        array + i * field->message->size);
        default:
            return kln_onnx_put_message(writer, number, field->message,
                                        pointer_at(array + i * sizeof(void *)));
    }
}

static bool is_tensor_field(const kln_layout *layout, uint32_t number)
{
    return layout == &kln_layout_tensor &&
           (layout->fields[number].kind == KLN_FIELD_DATA || number == KLN_TENSOR_EXTERNAL_DATA);
}

static kiln_status write_field(kln_onnx_writer *writer, const kln_layout *layout, uint32_t number,
                               const unsigned char *base, bool present)
{
    const kln_field *field = &layout->fields[number];
    if (is_tensor_field(layout, number)) {
        return writer->tensor_field(writer, number, (const void *)base);
    }
    if (field->kind < KLN_FIELD_STRINGS) {
        return write_single(writer, field, number, base, present);
    }
    const size_t count = count_at(base, field);
    const unsigned char *array = pointer_at(base + field->offset);
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(write_element(writer, field, number, array, i));
    }
    return KILN_OK;
}

static kiln_status write_fields(kln_onnx_writer *writer, const kln_layout *layout,
                                const void *message)
{
    const unsigned char *base = message;
    uint32_t present = 0;
    if (layout->present != SIZE_MAX) {
        memcpy(&present, base + layout->present, sizeof present);
    }
    for (uint32_t i = 1; i < layout->field_count; i++) {
        if (layout->fields[i].kind != KLN_FIELD_UNKNOWN &&
            (layout->holds == NULL || layout->holds(message, i))) {
            KLN_RETURN_IF_ERROR(
                write_field(writer, layout, i, base, (present & UINT32_C(1) << i) != 0));
        }
    }
    if (layout->unknown == SIZE_MAX) {
        return KILN_OK;
    }
    kln_onnx_unknown unknown;
    memcpy(&unknown, base + layout->unknown, sizeof unknown);
    for (size_t i = 0; i < unknown.count; i++) {
        KLN_RETURN_IF_ERROR(put(writer, unknown.fields[i].data, unknown.fields[i].size));
    }
    return KILN_OK;
}

static kiln_status measure(kln_onnx_writer *writer, const kln_layout *layout, const void *message)
{
    const size_t place = writer->length_count;
    const uint64_t before = writer->total;
    KLN_RETURN_IF_ERROR(add_length(writer));
    KLN_RETURN_IF_ERROR(write_fields(writer, layout, message));
    const uint64_t length = writer->total - before;
    writer->lengths[place] = length;
    writer->total += kln_wire_varint_size(length);
    return KILN_OK;
}

kiln_status kln_onnx_put_message(kln_onnx_writer *writer, uint32_t number, const kln_layout *layout,
                                 const void *message)
{
    const bool is_graph = layout == &kln_layout_graph;
    const bool is_attribute = layout == &kln_layout_attribute;
    KLN_RETURN_IF(is_graph && writer->graphs == KLN_ONNX_MAX_GRAPH_DEPTH, KILN_ERROR_LIMIT,
                  "a graph lies inside %u others; that is the limit", writer->graphs);
    KLN_RETURN_IF_ERROR(kln_onnx_put_tag(writer, number, KLN_WIRE_BYTES));
    writer->graphs += is_graph;
    writer->attributes += is_attribute;
    if (writer->measures) {
        KLN_RETURN_IF_ERROR(measure(writer, layout, message));
    } else {
        uint64_t length = 0;
        KLN_RETURN_IF_ERROR(kln_onnx_keep_length(writer, &length));
        KLN_RETURN_IF_ERROR(kln_onnx_put_varint(writer, length));
        KLN_RETURN_IF_ERROR(write_fields(writer, layout, message));
    }
    writer->graphs -= is_graph;
    writer->attributes -= is_attribute;
    return KILN_OK;
}

kiln_status kln_onnx_put_model(kln_onnx_writer *writer, const kln_onnx_model *model)
{
    KLN_RETURN_IF_ERROR(write_fields(writer, &kln_layout_model, model));
    return writer->measures || writer->file == NULL ? KILN_OK : flush(writer);
}
