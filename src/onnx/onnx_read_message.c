/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_read.h"

/* What a message holds, counted before memory is allocated for it. On the heap and reused, because
 * messages are nested and threads may have small stacks. */
typedef struct kln_tally {
    struct kln_tally *next;           /* in the list of free ones */
    size_t counts[KLN_LAYOUT_FIELDS]; /* elements of each repeated field */
    size_t filled[KLN_LAYOUT_FIELDS]; /* elements that the second pass has stored */
    size_t unknown;
    uint32_t taken; /* bit set of fields that are known and kept. Fixed before the first value is
                     * set, because the field that decides may occur twice */
} tally;

/* Counts entries against the limit; fails with LIMIT. */
static kiln_status count_entries(kln_onnx_reader *reader, size_t more)
{
    KLN_RETURN_IF(more > KLN_ONNX_MAX_ENTRIES - reader->entries, KILN_ERROR_LIMIT,
                  "the model holds more than %d messages and strings; that is the limit",
                  KLN_ONNX_MAX_ENTRIES);
    reader->entries += more;
    return KILN_OK;
}

kiln_status kln_onnx_count_numbers(kln_onnx_reader *reader, size_t more)
{
    KLN_RETURN_IF(more > KLN_ONNX_MAX_NUMBERS - reader->numbers, KILN_ERROR_LIMIT,
                  "the model holds more than %d numbers outside of raw_data and external "
                  "files; that is the limit",
                  KLN_ONNX_MAX_NUMBERS);
    reader->numbers += more;
    return KILN_OK;
}

kiln_status kln_onnx_read_string(kln_onnx_reader *reader, const kln_layout *layout,
                                 const kln_field *field, kiln_span bytes, const char **string)
{
    if (bytes.size == 0) {
        *string = "";
        return KILN_OK;
    }
    const uint8_t *zero = memchr(bytes.data, 0, bytes.size);
    KLN_RETURN_IF(zero != NULL, KILN_ERROR_MALFORMED, "byte %zu, %s.%s: a text holds a zero byte",
                  kln_onnx_byte(reader, zero), layout->name, field->name);
    *string = kln_arena_strndup(reader->arena, bytes.data, bytes.size);
    return *string != NULL ? KILN_OK : kln_fail_memory(bytes.size, "a text of the model");
}

/* --- first pass: counting --- */

static kiln_status fail_type(const kln_onnx_reader *reader, const kln_layout *layout,
                             const kln_wire_field *field, const char *needed)
{
    return kln_fail(KILN_ERROR_MALFORMED,
                    "byte %zu, %s.%s (field %u): its wire type is %d, %s is needed",
                    kln_onnx_byte(reader, field->start), layout->name,
                    kln_onnx_field_name(layout, field->number), (unsigned)field->number,
                    (int)field->type, needed);
}

/* Counts the numbers in a repeated field, which may be packed. */
static kiln_status count_numbers(const kln_onnx_reader *reader, const kln_layout *layout,
                                 const kln_field *known, const kln_wire_field *field, size_t *count)
{
    const bool is_float = known->kind == KLN_FIELD_FLOATS;
    *count = 1;
    if (field->type != KLN_WIRE_BYTES) {
        const kln_wire_type alone = is_float ? KLN_WIRE_FIXED32 : KLN_WIRE_VARINT;
        return field->type == alone
                   ? KILN_OK
                   : fail_type(reader, layout, field, is_float ? "2 or 5" : "0 or 2");
    }
    *count = is_float ? field->bytes.size / sizeof(float) : kln_wire_count_varints(field->bytes);
    KLN_RETURN_IF(*count == SIZE_MAX || (is_float && field->bytes.size % sizeof(float) != 0),
                  KILN_ERROR_MALFORMED, "byte %zu, %s.%s: the last packed number is cut off",
                  kln_onnx_byte(reader, field->start), layout->name, known->name);
    return KILN_OK;
}

static kiln_status check_wire_type(const kln_onnx_reader *reader, const kln_layout *layout,
                                   const kln_field *known, const kln_wire_field *field)
{
    switch (known->kind) {
        case KLN_FIELD_DATA:
        case KLN_FIELD_UNKNOWN:
        case KLN_FIELD_INT64S:
        case KLN_FIELD_FLOATS: return KILN_OK;
        case KLN_FIELD_INT64:
        case KLN_FIELD_DTYPE:
        case KLN_FIELD_INT32:
            return field->type == KLN_WIRE_VARINT ? KILN_OK : fail_type(reader, layout, field, "0");
        case KLN_FIELD_FLOAT:
            return field->type == KLN_WIRE_FIXED32 ? KILN_OK
                                                   : fail_type(reader, layout, field, "5");
        default: break;
    }
    return field->type == KLN_WIRE_BYTES ? KILN_OK : fail_type(reader, layout, field, "2");
}

static bool is_repeated(kln_field_kind kind)
{
    return kind >= KLN_FIELD_STRINGS && kind != KLN_FIELD_DATA;
}

static kiln_status tally_field(const kln_onnx_reader *reader, const kln_layout *layout,
                               const kln_field *known, const kln_wire_field *field, tally *found)
{
    size_t *count = &found->counts[field->number];
    size_t more = 1;
    KLN_RETURN_IF_ERROR(check_wire_type(reader, layout, known, field));
    if (known->kind == KLN_FIELD_INT64S || known->kind == KLN_FIELD_FLOATS) {
        KLN_RETURN_IF_ERROR(count_numbers(reader, layout, known, field, &more));
    } else if ((known->kind == KLN_FIELD_MESSAGE || known->kind == KLN_FIELD_MESSAGE_POINTER) &&
               *count != 0) {
        /* Protobuf would merge the two. The model is rejected instead, because two readers might
         * see different graphs. */
        return kln_fail(KILN_ERROR_MALFORMED, "byte %zu, %s.%s (field %u): it is given twice",
                        kln_onnx_byte(reader, field->start), layout->name, known->name,
                        (unsigned)field->number);
    }
    *count += more;
    return KILN_OK;
}

static uint32_t taken_fields(const kln_layout *layout, const void *message)
{
    uint32_t taken = 0;
    for (uint32_t i = 1; i < layout->field_count; i++) {
        if (kln_layout_field(layout, i) != NULL &&
            (layout->takes == NULL || layout->takes(message, i))) {
            taken |= UINT32_C(1) << i;
        }
    }
    return taken;
}

static const kln_field *taken_field(const kln_layout *layout, const tally *found, uint32_t number)
{
    return number < KLN_LAYOUT_FIELDS && (found->taken & UINT32_C(1) << number) != 0
               ? &layout->fields[number]
               : NULL;
}

static kiln_status take_tally(const kln_onnx_reader *reader, const kln_layout *layout,
                              kln_wire wire, const void *message, tally *found)
{
    memset(found, 0, sizeof *found);
    found->taken = taken_fields(layout, message);
    while (wire.at != wire.end) {
        kln_wire_field field;
        KLN_RETURN_IF_ERROR(kln_onnx_next(reader, layout, &wire, &field));
        const kln_field *known = taken_field(layout, found, field.number);
        if (known == NULL) {
            found->unknown++;
        } else {
            KLN_RETURN_IF_ERROR(tally_field(reader, layout, known, &field, found));
        }
    }
    return KILN_OK;
}

/* --- allocation --- */

static size_t element_size(const kln_field *field)
{
    switch (field->kind) {
        case KLN_FIELD_STRINGS: return sizeof(const char *);
        case KLN_FIELD_SPANS: return sizeof(kiln_span);
        case KLN_FIELD_INT64S: return sizeof(int64_t);
        case KLN_FIELD_FLOATS: return sizeof(float);
        case KLN_FIELD_MESSAGES: return field->message->size;
        default: return sizeof(void *);
    }
}

static kiln_status make_array(kln_onnx_reader *reader, const kln_field *field, size_t count,
                              unsigned char *base)
{
    const bool is_number = field->kind == KLN_FIELD_INT64S || field->kind == KLN_FIELD_FLOATS;
    KLN_RETURN_IF_ERROR(is_number ? kln_onnx_count_numbers(reader, count)
                                  : count_entries(reader, count));
    void *array = kln_arena_alloc_zeroed(reader->arena, count, element_size(field));
    KLN_RETURN_IF_NO_MEMORY(array, count * element_size(field), field->name);
    memcpy(base + field->offset, &array, sizeof array);
    memcpy(base + field->count, &count, sizeof count);
    return KILN_OK;
}

static kiln_status make_room(kln_onnx_reader *reader, const kln_layout *layout, const tally *found,
                             unsigned char *base)
{
    for (uint32_t i = 1; i < layout->field_count; i++) {
        if (found->counts[i] != 0 && is_repeated(layout->fields[i].kind)) {
            KLN_RETURN_IF_ERROR(make_array(reader, &layout->fields[i], found->counts[i], base));
        }
    }
    if (found->unknown != 0 && layout->unknown != SIZE_MAX) {
        kln_onnx_unknown unknown = {NULL, 0};
        KLN_RETURN_IF_ERROR(count_entries(reader, found->unknown));
        unknown.fields = kln_arena_alloc_zeroed(reader->arena, found->unknown, sizeof(kiln_span));
        KLN_RETURN_IF_NO_MEMORY(unknown.fields, found->unknown * sizeof(kiln_span),
                                "unknown fields");
        memcpy(base + layout->unknown, &unknown, sizeof unknown);
    }
    return KILN_OK;
}

/* --- second pass: values --- */

/* Returns false if a packed number has more than 64 bits. */
static bool set_numbers(const kln_field *known, const kln_wire_field *field, unsigned char *array,
                        size_t *filled)
{
    if (known->kind == KLN_FIELD_FLOATS) {
        const uint32_t bits = (uint32_t)field->value;
        const bool packed = field->type == KLN_WIRE_BYTES;
        const size_t size = packed ? field->bytes.size : sizeof bits;
        if (size != 0) {
            memcpy(array + *filled * sizeof(float), packed ? field->bytes.data : &bits, size);
        }
        *filled += size / sizeof(float);
        return true;
    }
    int64_t *numbers = (int64_t *)(void *)array;
    if (field->type != KLN_WIRE_BYTES) {
        numbers[(*filled)++] = (int64_t)field->value;
        return true;
    }
    kln_wire packed = {field->bytes.data, (const uint8_t *)field->bytes.data + field->bytes.size};
    uint64_t value = 0;
    while (packed.at != packed.end && kln_wire_varint(&packed, &value)) {
        numbers[(*filled)++] = (int64_t)value;
    }
    return packed.at == packed.end;
}

static kiln_status read_pointed(kln_onnx_reader *reader, const kln_layout *layout, kiln_span bytes,
                                void **pointer)
{
    KLN_RETURN_IF_ERROR(count_entries(reader, 1));
    void *message = kln_arena_alloc_zeroed(reader->arena, 1, layout->size);
    KLN_RETURN_IF_NO_MEMORY(message, layout->size, layout->name);
    memcpy(pointer, &message, sizeof message);
    kln_layout_init(layout, message);
    return kln_onnx_read_message(reader, layout, bytes, message);
}

/* Stores a value at index `*filled` of a repeated field. */
static kiln_status set_repeated(kln_onnx_reader *reader, const kln_layout *layout,
                                const kln_field *known, const kln_wire_field *field,
                                unsigned char *base, size_t *filled)
{
    unsigned char *array = NULL;
    memcpy(&array, base + known->offset, sizeof array);
    if (known->kind == KLN_FIELD_INT64S || known->kind == KLN_FIELD_FLOATS) {
        return set_numbers(known, field, array, filled)
                   ? KILN_OK
                   : kln_fail(KILN_ERROR_MALFORMED,
                              "byte %zu, %s.%s: a packed number has more than 64 bits",
                              kln_onnx_byte(reader, field->start), layout->name, known->name);
    }
    unsigned char *place = array + *filled * element_size(known);
    (*filled)++;
    switch (known->kind) {
        case KLN_FIELD_STRINGS:
            return kln_onnx_read_string(reader, layout, known, field->bytes,
                                        (const char **)(void *)place);
        case KLN_FIELD_SPANS: memcpy(place, &field->bytes, sizeof field->bytes); return KILN_OK;
        case KLN_FIELD_MESSAGES:
            kln_layout_init(known->message, place);
            return kln_onnx_read_message(reader, known->message, field->bytes, place);
        default: return read_pointed(reader, known->message, field->bytes, (void **)(void *)place);
    }
}

static kiln_status set_single(kln_onnx_reader *reader, const kln_layout *layout,
                              const kln_field *known, const kln_wire_field *field,
                              unsigned char *base)
{
    unsigned char *place = base + known->offset;
    const int64_t number = (int64_t)field->value;
    const int32_t small = (int32_t)(uint32_t)field->value;
    const kiln_dtype dtype = kln_onnx_dtype(small);
    switch (known->kind) {
        case KLN_FIELD_STRING:
        case KLN_FIELD_STRING_OR_NULL:
            KLN_RETURN_IF_ERROR(count_entries(reader, 1));
            return kln_onnx_read_string(reader, layout, known, field->bytes,
                                        (const char **)(void *)place);
        case KLN_FIELD_BYTES: memcpy(place, &field->bytes, sizeof field->bytes); break;
        case KLN_FIELD_INT64: memcpy(place, &number, sizeof number); break;
        case KLN_FIELD_DTYPE:
            memcpy(place, &small, sizeof small);
            memcpy(base + known->count, &dtype, sizeof dtype);
            break;
        case KLN_FIELD_INT32: /* both take four bytes */
        case KLN_FIELD_FLOAT: memcpy(place, &small, sizeof small); break;
        case KLN_FIELD_MESSAGE:
            return kln_onnx_read_message(reader, known->message, field->bytes, place);
        case KLN_FIELD_MESSAGE_POINTER:
            return read_pointed(reader, known->message, field->bytes, (void **)(void *)place);
        default: break;
    }
    return KILN_OK;
}

static void keep_unknown(const kln_layout *layout, const kln_wire *wire,
                         const kln_wire_field *field, unsigned char *base)
{
    if (layout->unknown != SIZE_MAX) {
        kln_onnx_unknown unknown;
        memcpy(&unknown, base + layout->unknown, sizeof unknown);
        unknown.fields[unknown.count++] =
            (kiln_span){field->start, (size_t)(wire->at - field->start)};
        memcpy(base + layout->unknown, &unknown, sizeof unknown);
    }
}

static kiln_status fill(kln_onnx_reader *reader, const kln_layout *layout, kln_wire wire,
                        tally *found, void *message)
{
    unsigned char *base = message;
    uint32_t present = 0;
    while (wire.at != wire.end) {
        kln_wire_field field;
        KLN_RETURN_IF_ERROR(kln_onnx_next(reader, layout, &wire, &field));
        const kln_field *known = taken_field(layout, found, field.number);
        if (known == NULL) {
            keep_unknown(layout, &wire, &field, base);
        } else if (is_repeated(known->kind)) {
            KLN_RETURN_IF_ERROR(
                set_repeated(reader, layout, known, &field, base, &found->filled[field.number]));
        } else {
            KLN_RETURN_IF_ERROR(set_single(reader, layout, known, &field, base));
            present |= UINT32_C(1) << field.number;
            if (layout->present != SIZE_MAX) {
                memcpy(base + layout->present, &present, sizeof present);
            }
            if (layout->after != NULL) {
                layout->after(message, field.number);
                if (layout->present != SIZE_MAX) {
                    memcpy(&present, base + layout->present, sizeof present);
                }
            }
        }
    }
    return KILN_OK;
}

static tally *take_scratch(kln_onnx_reader *reader)
{
    tally *found = reader->scratch;
    if (found == NULL) {
        return kln_alloc(sizeof *found);
    }
    reader->scratch = found->next;
    return found;
}

void kln_onnx_release_scratch(kln_onnx_reader *reader)
{
    while (reader->scratch != NULL) {
        tally *next = reader->scratch->next;
        kln_free(reader->scratch);
        reader->scratch = next;
    }
}

static kiln_status read_inside(kln_onnx_reader *reader, const kln_layout *layout, kiln_span bytes,
                               void *message)
{
    /* An empty message may have no address. */
    static const uint8_t nothing[1];
    const uint8_t *begin = bytes.size != 0 ? bytes.data : nothing;
    const kln_wire wire = {begin, begin + bytes.size};
    const kln_read_finish finish = reader->finish[layout->hooks];
    if (layout->prepare != NULL) {
        KLN_RETURN_IF_ERROR(layout->prepare(reader, wire, message));
    }
    tally *found = take_scratch(reader);
    KLN_RETURN_IF_NO_MEMORY(found, sizeof *found, "a message of the model");
    kiln_status status = take_tally(reader, layout, wire, message, found);
    KLN_THEN(status, make_room(reader, layout, found, message));
    KLN_THEN(status, fill(reader, layout, wire, found, message));
    found->next = reader->scratch;
    reader->scratch = found;
    return status == KILN_OK && finish != NULL ? finish(reader, wire, message) : status;
}

kiln_status kln_onnx_read_message(kln_onnx_reader *reader, const kln_layout *layout,
                                  kiln_span bytes, void *message)
{
    if (layout->nesting == KLN_NESTS_NOT) {
        return read_inside(reader, layout, bytes, message);
    }
    const bool is_graph = layout->nesting == KLN_NESTS_GRAPH;
    unsigned *depth = is_graph ? &reader->graphs : &reader->types;
    const unsigned limit = is_graph ? KLN_ONNX_MAX_GRAPH_DEPTH : KLN_ONNX_MAX_TYPE_DEPTH;
    KLN_RETURN_IF(*depth == limit, KILN_ERROR_LIMIT,
                  "byte %zu: a %s lies inside %u others; that is the limit",
                  kln_onnx_byte(reader, bytes.data), layout->name, limit);
    KLN_RETURN_IF(
        is_graph && *depth >= KLN_STACK_GRAPHS && kln_stack_left() < KLN_STACK_FOR_A_GRAPH,
        KILN_ERROR_LIMIT,
        "byte %zu: a %s lies inside %u others, and this thread has %zu bytes of "
        "stack left for it, %zu are needed; read it in a thread with more",
        kln_onnx_byte(reader, bytes.data), layout->name, *depth, kln_stack_left(),
        KLN_STACK_FOR_A_GRAPH);
    (*depth)++;
    const kiln_status status = read_inside(reader, layout, bytes, message);
    (*depth)--;
    return status;
}
