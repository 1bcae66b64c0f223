/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_read.h"

const kln_field *kln_layout_field(const kln_layout *layout, uint32_t number)
{
    if (number >= layout->field_count || layout->fields[number].kind == KLN_FIELD_UNKNOWN) {
        return NULL;
    }
    return &layout->fields[number];
}

void kln_layout_init(const kln_layout *layout, void *message)
{
    unsigned char *base = message;
    for (uint32_t i = 1; i < layout->field_count; i++) {
        const kln_field *field = &layout->fields[i];
        if (field->kind == KLN_FIELD_STRING) {
            *(const char **)(void *)(base + field->offset) = "";
        } else if (field->kind == KLN_FIELD_INT64) {
            memcpy(base + field->offset, &field->initial, sizeof field->initial);
        } else if (field->kind == KLN_FIELD_MESSAGE && field->offset != 0) {
            kln_layout_init(field->message, base + field->offset);
        }
    }
}

size_t kln_onnx_byte(const kln_onnx_reader *reader, const void *at)
{
    return (size_t)((const uint8_t *)at - reader->base);
}

const char *kln_onnx_field_name(const kln_layout *layout, uint32_t number)
{
    const kln_field *field = kln_layout_field(layout, number);
    return field != NULL ? field->name : "a field that is not known";
}

kiln_status kln_onnx_fail_field(const kln_onnx_reader *reader, const kln_layout *layout,
                                const kln_wire_field *field, const char *wrong)
{
    static const char advice[] =
        "the file was cut short or is damaged, copy or export it again; or "
        "it is no ONNX model";
    KLN_RETURN_IF(field->number == 0, KILN_ERROR_MALFORMED, "byte %zu, in %s: %s: %s",
                  kln_onnx_byte(reader, field->start), layout->name, wrong, advice);
    return kln_fail(KILN_ERROR_MALFORMED, "byte %zu, %s.%s (field %u): %s: %s",
                    kln_onnx_byte(reader, field->start), layout->name,
                    kln_onnx_field_name(layout, field->number), (unsigned)field->number, wrong,
                    advice);
}
