/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_look.h"
#include "onnx_read.h"

_Static_assert(sizeof(float) == 4 && sizeof(double) == 8 && CHAR_BIT == 8, "IEEE 754 is needed");
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "elements are handed on as they lie in the file, which is little-endian"
#endif

/* Where a tensor's message holds its elements. */
typedef struct data_fields {
    uint32_t number; /* of the field that holds the elements; 0 if none does */
    size_t pieces;   /* number of fields with that number that hold elements */
    size_t elements; /* in all of them */
    kiln_span whole; /* the payload, if there is one packed piece */
    bool has_raw;
} data_fields;

unsigned kln_onnx_wire_bits(int32_t wire_dtype)
{
    switch (wire_dtype) {
        case 18:           /* FLOAT8E4M3FNUZ */
        case 20:           /* FLOAT8E5M2FNUZ */
        case 24: return 8; /* FLOAT8E8M0 */
        case 25:           /* UINT2 */
        case 26: return 2; /* INT2 */
        case 27:           /* FLOAT6E2M3 */
        case 28: return 6; /* FLOAT6E3M2 */
        default: return kiln_dtype_bits(kln_onnx_dtype(wire_dtype));
    }
}

bool kln_onnx_tensor_bytes(const kln_onnx_tensor *tensor, unsigned bits, size_t *bytes)
{
    size_t elements = 1;
    bool is_empty = false;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] < 0) {
            return false;
        }
        is_empty = is_empty || tensor->dims[i] == 0;
    }
    for (size_t i = 0; i < tensor->rank && !is_empty; i++) {
        if (__builtin_mul_overflow(elements, (uint64_t)tensor->dims[i], &elements)) {
            return false;
        }
    }
    size_t total = 0;
    if (__builtin_mul_overflow(elements, (size_t)bits, &total) || total > SIZE_MAX - 7) {
        return false;
    }
    *bytes = is_empty ? 0 : (total + 7) / 8;
    return true;
}

/* --- finding the field --- */

uint32_t kln_onnx_data_field(kiln_dtype dtype)
{
    switch (dtype) {
        case KILN_DTYPE_FLOAT32:
        case KILN_DTYPE_COMPLEX64: return KLN_TENSOR_FLOAT_DATA;
        case KILN_DTYPE_FLOAT64:
        case KILN_DTYPE_COMPLEX128: return KLN_TENSOR_DOUBLE_DATA;
        case KILN_DTYPE_INT64: return KLN_TENSOR_INT64_DATA;
        case KILN_DTYPE_UINT32:
        case KILN_DTYPE_UINT64: return KLN_TENSOR_UINT64_DATA;
        case KILN_DTYPE_STRING:
        case KILN_DTYPE_UNDEFINED: return 0;
        default: return KLN_TENSOR_INT32_DATA;
    }
}

/* The size of one number of that field on the wire; 0 for varints. */
static size_t fixed_size(uint32_t number)
{
    return number == KLN_TENSOR_FLOAT_DATA ? 4 : number == KLN_TENSOR_DOUBLE_DATA ? 8 : 0;
}

static const char *data_name(uint32_t number)
{
    return kln_layout_field(&kln_layout_tensor, number)->name;
}

static kiln_status fail_data(const kln_onnx_reader *reader, const kln_onnx_tensor *tensor,
                             const kln_wire_field *field, const char *wrong)
{
    return kln_fail(KILN_ERROR_MALFORMED, "byte %zu, TensorProto.%s of \"%s\": %s",
                    kln_onnx_byte(reader, field->start), data_name(field->number), tensor->name,
                    wrong);
}

/* Adds the numbers of one field to `found`. */
static kiln_status note_numbers(const kln_onnx_reader *reader, const kln_onnx_tensor *tensor,
                                const kln_wire_field *field, data_fields *found)
{
    const size_t fixed = fixed_size(field->number);
    size_t count = 1;
    if (field->type == KLN_WIRE_BYTES) {
        count = fixed != 0 ? field->bytes.size / fixed : kln_wire_count_varints(field->bytes);
        KLN_FAIL_IF(count == SIZE_MAX || (fixed != 0 && field->bytes.size % fixed != 0),
                    fail_data(reader, tensor, field, "the last packed number is cut off"));
    } else if (field->type != (fixed == 4   ? KLN_WIRE_FIXED32
                               : fixed == 8 ? KLN_WIRE_FIXED64
                                            : KLN_WIRE_VARINT)) {
        return fail_data(reader, tensor, field, "its wire type does not fit");
    }
    if (count == 0) {
        return KILN_OK;
    }
    KLN_FAIL_IF(found->number != 0 && found->number != field->number,
                fail_data(reader, tensor, field, "another field holds elements too"));
    found->number = field->number;
    found->whole = field->bytes;
    found->pieces += field->type == KLN_WIRE_BYTES ? 1 : 2; /* 2: not usable as a span */
    found->elements += count;
    return KILN_OK;
}

static kiln_status note_field(const kln_onnx_reader *reader, kln_onnx_tensor *tensor,
                              const kln_wire_field *field, data_fields *found)
{
    if (field->number == KLN_TENSOR_RAW_DATA) {
        KLN_FAIL_IF(field->type != KLN_WIRE_BYTES,
                    fail_data(reader, tensor, field, "its wire type does not fit"));
        found->has_raw = true;
        tensor->data = field->bytes;
        return KILN_OK;
    }
    if (field->number == KLN_TENSOR_DATA_LOCATION) {
        KLN_FAIL_IF(
            field->type != KLN_WIRE_VARINT || field->value > 1,
            fail_data(reader, tensor, field, "0 (in the message) or 1 (external) is needed"));
        tensor->is_external = field->value == 1;
        return KILN_OK;
    }
    return kln_onnx_is_number_field(field->number) && tensor->dtype != KILN_DTYPE_UNDEFINED
               ? note_numbers(reader, tensor, field, found)
               : KILN_OK;
}

static kiln_status find_data(const kln_onnx_reader *reader, kln_wire wire, kln_onnx_tensor *tensor,
                             data_fields *found)
{
    memset(found, 0, sizeof *found);
    while (wire.at != wire.end) {
        kln_wire_field field;
        KLN_RETURN_IF_ERROR(kln_onnx_next(reader, &kln_layout_tensor, &wire, &field));
        KLN_RETURN_IF_ERROR(note_field(reader, tensor, &field, found));
        KLN_FAIL_IF(found->has_raw && found->number != 0 && tensor->data.size != 0,
                    fail_data(reader, tensor, &field, "raw_data and another field hold elements"));
    }
    return KILN_OK;
}

/* --- converting numbers to elements --- */

/* The size of one element in `data`; two 4-bit elements share a number and a byte. */
static size_t element_width(kiln_dtype dtype)
{
    const unsigned bits = kiln_dtype_bits(dtype);
    return bits < 8 ? 1 : bits / 8;
}

/* Whether an element of `width` bytes, signed or unsigned, can hold the number. */
static bool fits(uint64_t number, size_t width, uint32_t field)
{
    if (field == KLN_TENSOR_UINT64_DATA) {
        return width == 8 || number <= UINT32_MAX;
    }
    if (width >= 4) {
        return true;
    }
    const int64_t value = (int32_t)(uint32_t)number;
    const int64_t half = INT64_C(1) << (width * 8 - 1);
    return value >= -half && value < 2 * half;
}

static kiln_status put_number(const kln_onnx_reader *reader, const kln_onnx_tensor *tensor,
                              const kln_wire_field *field, uint64_t number, uint8_t **place)
{
    const size_t width = element_width(tensor->dtype);
    if (tensor->dtype == KILN_DTYPE_BOOL) {
        number = number != 0;
    } else if (!fits(number, width, field->number)) {
        return fail_data(reader, tensor, field, "a number does not fit the tensor's data type");
    }
    memcpy(*place, &number, width);
    *place += width;
    return KILN_OK;
}

static kiln_status put_field(const kln_onnx_reader *reader, const kln_onnx_tensor *tensor,
                             const kln_wire_field *field, uint8_t **place)
{
    const size_t fixed = fixed_size(field->number);
    if (field->type != KLN_WIRE_BYTES) {
        if (fixed == 0) {
            return put_number(reader, tensor, field, field->value, place);
        }
        memcpy(*place, &field->value, fixed);
        *place += fixed;
        return KILN_OK;
    }
    if (fixed != 0) {
        if (field->bytes.size != 0) {
            memcpy(*place, field->bytes.data, field->bytes.size);
        }
        *place += field->bytes.size;
        return KILN_OK;
    }
    kln_wire packed = {field->bytes.data, (const uint8_t *)field->bytes.data + field->bytes.size};
    while (packed.at != packed.end) {
        uint64_t number = 0;
        KLN_FAIL_IF(!kln_wire_varint(&packed, &number),
                    fail_data(reader, tensor, field, "a packed number has more than 64 bits"));
        KLN_RETURN_IF_ERROR(put_number(reader, tensor, field, number, place));
    }
    return KILN_OK;
}

static kiln_status decode(kln_onnx_reader *reader, kln_wire wire, kln_onnx_tensor *tensor,
                          const data_fields *found)
{
    const size_t fixed = fixed_size(found->number);
    const size_t size = found->elements * (fixed != 0 ? fixed : element_width(tensor->dtype));
    KLN_RETURN_IF_ERROR(kln_onnx_count_numbers(reader, found->elements));
    uint8_t *place = kln_arena_alloc(reader->arena, size);
    KLN_RETURN_IF_NO_MEMORY(place, size, "a tensor's elements");
    tensor->data = (kiln_span){place, size};
    while (wire.at != wire.end) {
        kln_wire_field field;
        KLN_RETURN_IF_ERROR(kln_onnx_next(reader, &kln_layout_tensor, &wire, &field));
        if (field.number == found->number) {
            KLN_RETURN_IF_ERROR(put_field(reader, tensor, &field, &place));
        }
    }
    return KILN_OK;
}

static kln_onnx_storage storage_of(uint32_t number)
{
    switch (number) {
        case KLN_TENSOR_FLOAT_DATA: return KLN_ONNX_STORAGE_FLOAT;
        case KLN_TENSOR_INT32_DATA: return KLN_ONNX_STORAGE_INT32;
        case KLN_TENSOR_INT64_DATA: return KLN_ONNX_STORAGE_INT64;
        case KLN_TENSOR_DOUBLE_DATA: return KLN_ONNX_STORAGE_DOUBLE;
        case KLN_TENSOR_UINT64_DATA: return KLN_ONNX_STORAGE_UINT64;
        default: return KLN_ONNX_STORAGE_RAW;
    }
}

static kiln_status take_data(kln_onnx_reader *reader, kln_wire wire, kln_onnx_tensor *tensor,
                             const data_fields *found)
{
    if (found->number == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF(kln_onnx_data_field(tensor->dtype) != found->number, KILN_ERROR_MALFORMED,
                  "byte %zu, tensor \"%s\": %s cannot hold elements of type %s",
                  kln_onnx_byte(reader, wire.at), tensor->name, data_name(found->number),
                  kiln_dtype_name(tensor->dtype));
    tensor->storage = storage_of(found->number);
    if (fixed_size(found->number) != 0 && found->pieces == 1) {
        tensor->data = found->whole;
        return KILN_OK;
    }
    return decode(reader, wire, tensor, found);
}

/* --- external data --- */

static kiln_status parse_number(const kln_onnx_reader *reader, const kln_wire *wire,
                                const kln_onnx_tensor *tensor, const kln_onnx_entry *entry,
                                uint64_t *number)
{
    uint64_t value = 0;
    const char *digit = entry->value;
    do {
        KLN_RETURN_IF(
            *digit < '0' || *digit > '9' || __builtin_mul_overflow(value, UINT64_C(10), &value) ||
                __builtin_add_overflow(value, (uint64_t)(*digit - '0'), &value),
            KILN_ERROR_MALFORMED,
            "byte %zu, TensorProto.external_data of \"%s\": %s \"%s\" is no number of bytes",
            kln_onnx_byte(reader, wire->at), tensor->name, entry->key, entry->value);
        digit++;
    } while (*digit != '\0');
    *number = value;
    return KILN_OK;
}

/* Extracts location, offset and length from the entries. */
static kiln_status take_external(kln_onnx_reader *reader, const kln_wire *wire,
                                 kln_onnx_tensor *tensor)
{
    size_t kept = 0;
    tensor->location = "";
    for (size_t i = 0; i < tensor->external_other_count; i++) {
        const kln_onnx_entry *entry = &tensor->external_others[i];
        if (strcmp(entry->key, "location") == 0) {
            tensor->location = entry->value;
        } else if (strcmp(entry->key, "offset") == 0) {
            KLN_RETURN_IF_ERROR(
                parse_number(reader, wire, tensor, entry, &tensor->external_offset));
        } else if (strcmp(entry->key, "length") == 0) {
            KLN_RETURN_IF_ERROR(
                parse_number(reader, wire, tensor, entry, &tensor->external_length));
        } else {
            tensor->external_others[kept++] = *entry;
        }
    }
    tensor->external_other_count = kept;
    kln_external *external = kln_arena_alloc(reader->arena, sizeof *external);
    KLN_RETURN_IF_NO_MEMORY(external, sizeof *external, "an external tensor");
    *external = (kln_external){.tensor = tensor, .next = NULL};
    *reader->externals_end = external;
    reader->externals_end = &external->next;
    return KILN_OK;
}

/* --- the whole tensor --- */

static kiln_status fail_size(const kln_onnx_reader *reader, const kln_wire *wire,
                             const kln_onnx_tensor *tensor, size_t needed)
{
    return kln_fail(
        KILN_ERROR_MALFORMED,
        "byte %zu, tensor \"%s\": its type %s and %zu dimensions need %zu bytes, its data has %zu",
        kln_onnx_byte(reader, wire->at), tensor->name, kiln_dtype_name(tensor->dtype), tensor->rank,
        needed, tensor->data.size);
}

static kiln_status check_size(const kln_onnx_reader *reader, const kln_wire *wire,
                              const kln_onnx_tensor *tensor)
{
    size_t needed = 0;
    const bool is_string = tensor->dtype == KILN_DTYPE_STRING;
    const unsigned bits = is_string ? 8 : kln_onnx_wire_bits(tensor->wire_dtype);
    KLN_RETURN_IF(
        !kln_onnx_tensor_bytes(tensor, bits, &needed), KILN_ERROR_MALFORMED,
        "byte %zu, tensor \"%s\": a dimension is negative, or their product has more than 64 bits",
        kln_onnx_byte(reader, wire->at), tensor->name);
    if (is_string) {
        return tensor->is_external || tensor->string_count == needed
                   ? KILN_OK
                   : kln_fail(
                         KILN_ERROR_MALFORMED,
                         "byte %zu, tensor \"%s\": its dimensions need %zu strings, it has %zu",
                         kln_onnx_byte(reader, wire->at), tensor->name, needed,
                         tensor->string_count);
    }
    const bool is_checkable =
        tensor->dtype != KILN_DTYPE_UNDEFINED || (bits != 0 && tensor->data.size != 0);
    return tensor->is_external || !is_checkable || tensor->data.size == needed
               ? KILN_OK
               : fail_size(reader, wire, tensor, needed);
}

kiln_status kln_onnx_finish_tensor(kln_onnx_reader *reader, kln_wire wire, void *message)
{
    kln_onnx_tensor *tensor = message;
    data_fields found;
    KLN_RETURN_IF_ERROR(find_data(reader, wire, tensor, &found));
    if (tensor->is_external) {
        KLN_RETURN_IF(found.number != 0 || tensor->data.size != 0, KILN_ERROR_MALFORMED,
                      "byte %zu, tensor \"%s\": it is external, but holds elements too",
                      kln_onnx_byte(reader, wire.at), tensor->name);
        tensor->data = (kiln_span){NULL, 0};
        KLN_RETURN_IF_ERROR(take_external(reader, &wire, tensor));
    } else {
        KLN_RETURN_IF_ERROR(take_data(reader, wire, tensor, &found));
    }
    return check_size(reader, &wire, tensor);
}
