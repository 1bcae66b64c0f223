/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_wire.h"

#define LARGEST_NUMBER ((UINT64_C(1) << 29) - 1)

bool kln_wire_varint(kln_wire *wire, uint64_t *value)
{
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (wire->at == wire->end) {
            return false;
        }
        const uint8_t byte = *wire->at++;
        if (shift == 63 && byte > 1) {
            return false;
        }
        result |= (uint64_t)(byte & 0x7FU) << shift;
        if (byte < 0x80) {
            *value = result;
            return true;
        }
    }
    return false;
}

/* Reads `size` bytes, least significant first. */
static bool take_fixed(kln_wire *wire, size_t size, uint64_t *value)
{
    if ((size_t)(wire->end - wire->at) < size) {
        return false;
    }
    uint64_t result = 0;
    for (size_t i = size; i > 0; i--) {
        result = result << 8 | wire->at[i - 1];
    }
    wire->at += size;
    *value = result;
    return true;
}

static const char *take_bytes(kln_wire *wire, kiln_span *bytes)
{
    uint64_t size = 0;
    if (!kln_wire_varint(wire, &size)) {
        return "its length is cut off or has more than 64 bits";
    }
    if (size > (uint64_t)(wire->end - wire->at)) {
        return "it is longer than the message around it";
    }
    *bytes = (kiln_span){wire->at, (size_t)size};
    wire->at += size;
    return NULL;
}

const char *kln_wire_next(kln_wire *wire, kln_wire_field *field)
{
    *field = (kln_wire_field){.number = 0, .start = wire->at};
    uint64_t tag = 0;
    if (!kln_wire_varint(wire, &tag)) {
        return "a field's tag is cut off or has more than 64 bits";
    }
    if (tag >> 3 == 0 || tag >> 3 > LARGEST_NUMBER) {
        return "a field's number is 0 or has more than 29 bits";
    }
    field->number = (uint32_t)(tag >> 3);
    field->type = (kln_wire_type)(tag & 7);
    switch (tag & 7) {
        case KLN_WIRE_VARINT:
            return kln_wire_varint(wire, &field->value)
                       ? NULL
                       : "its number is cut off or has more than 64 bits";
        case KLN_WIRE_FIXED64: return take_fixed(wire, 8, &field->value) ? NULL : "it is cut off";
        case KLN_WIRE_FIXED32: return take_fixed(wire, 4, &field->value) ? NULL : "it is cut off";
        case KLN_WIRE_BYTES: return take_bytes(wire, &field->bytes);
        default: return "its wire type is neither 0, 1, 2 nor 5";
    }
}

size_t kln_wire_count_varints(kiln_span packed)
{
    const uint8_t *byte = packed.data;
    size_t count = 0;
    for (size_t i = 0; i < packed.size; i++) {
        count += byte[i] < 0x80;
    }
    return packed.size != 0 && byte[packed.size - 1] >= 0x80 ? SIZE_MAX : count;
}

size_t kln_wire_put_varint(uint8_t *bytes, uint64_t value)
{
    size_t size = 0;
    while (value >= 0x80) {
        bytes[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[size++] = (uint8_t)value;
    return size;
}

size_t kln_wire_varint_size(uint64_t value)
{
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}
