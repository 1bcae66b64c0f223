/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_layout.h"

#include "onnx_read.h"

#define AT(type, member) offsetof(kln_onnx_##type, member)
#define ONE(name_, kind_, type, member)                                        \
    {                                                                          \
        .name = (name_), .kind = KLN_FIELD_##kind_, .offset = AT(type, member) \
    }
#define SUB(name_, kind_, type, member, layout)                                 \
    {                                                                           \
        .name = (name_), .kind = KLN_FIELD_##kind_, .offset = AT(type, member), \
        .message = &kln_layout_##layout                                         \
    }
#define MANY(name_, kind_, type, member, count_)                                \
    {                                                                           \
        .name = (name_), .kind = KLN_FIELD_##kind_, .offset = AT(type, member), \
        .count = AT(type, count_)                                               \
    }
#define SUBS(name_, kind_, type, member, count_, layout)                        \
    {                                                                           \
        .name = (name_), .kind = KLN_FIELD_##kind_, .offset = AT(type, member), \
        .count = AT(type, count_), .message = &kln_layout_##layout              \
    }
#define DATA(name_)                             \
    {                                           \
        .name = (name_), .kind = KLN_FIELD_DATA \
    }
#define FIELDS(table) .fields = (table), .field_count = KLN_ARRAY_LENGTH(table)
/* A message with its own struct. */
#define MESSAGE(title, type)                                                        \
    .name = (title), .size = sizeof(kln_onnx_##type), .present = AT(type, present), \
    .unknown = AT(type, unknown), FIELDS(type##_fields)

/* --- entries, opsets --- */

static const kln_field entry_fields[] = {
    [1] = ONE("key", STRING, entry, key),
    [2] = ONE("value", STRING, entry, value),
};

const kln_layout kln_layout_entry = {
    MESSAGE("StringStringEntryProto", entry),
};

static const kln_field opset_fields[] = {
    [1] = ONE("domain", STRING, opset, domain),
    [2] = ONE("version", INT64, opset, version),
};

static const kln_layout kln_layout_opset = {
    MESSAGE("OperatorSetIdProto", opset),
};

/* --- types --- */

static void dim_after(void *message, uint32_t number)
{
    kln_onnx_dim *dim = message;
    if (number == 1) {
        dim->parameter = NULL;
        dim->present &= ~(UINT32_C(1) << 2);
    } else if (number == 2) {
        dim->value = KILN_DYNAMIC;
        dim->present &= ~(UINT32_C(1) << 1);
    }
}

static bool dim_holds(const void *message, uint32_t number)
{
    const kln_onnx_dim *dim = message;
    return number != 1 || dim->parameter == NULL;
}

static const kln_field dim_fields[] = {
    [1] = {.name = "dim_value",
           .kind = KLN_FIELD_INT64,
           .offset = AT(dim, value),
           .initial = KILN_DYNAMIC},
    [2] = ONE("dim_param", STRING_OR_NULL, dim, parameter),
    [3] = ONE("denotation", STRING_OR_NULL, dim, denotation),
};

static const kln_layout kln_layout_dim = {
    MESSAGE("TensorShapeProto.Dimension", dim),
    .after = dim_after,
    .holds = dim_holds,
};

static const kln_field shape_fields[] = {
    [1] = SUBS("dim", MESSAGES, type, dims, rank, dim),
};

/* The messages inside a TypeProto share its struct, so their offsets are relative to that. */
static const kln_layout kln_layout_shape = {
    .name = "TensorShapeProto",
    .size = sizeof(kln_onnx_type),
    .present = SIZE_MAX,
    .unknown = AT(type, shape_unknown),
    FIELDS(shape_fields),
};

#define SELF(name_, layout)                                                                      \
    {                                                                                            \
        .name = (name_), .kind = KLN_FIELD_MESSAGE, .offset = 0, .message = &kln_layout_##layout \
    }
#define INNER(title, table)                                                       \
    .name = (title), .size = sizeof(kln_onnx_type), .present = AT(type, present), \
    .unknown = AT(type, inner_unknown), FIELDS(table)

static void tensor_type_after(void *message, uint32_t number)
{
    kln_onnx_type *type = message;
    if (number == 2) {
        type->has_shape = true;
    }
}

static bool tensor_type_holds(const void *message, uint32_t number)
{
    const kln_onnx_type *type = message;
    return number != 2 || type->has_shape;
}

static const kln_field tensor_type_fields[] = {
    [1] = MANY("elem_type", DTYPE, type, wire_dtype, dtype),
    [2] = SELF("shape", shape),
};

static const kln_layout kln_layout_tensor_type = {
    INNER("TypeProto.Tensor", tensor_type_fields),
    .after = tensor_type_after,
    .holds = tensor_type_holds,
};

static const kln_layout kln_layout_sparse_tensor_type = {
    INNER("TypeProto.SparseTensor", tensor_type_fields),
    .after = tensor_type_after,
    .holds = tensor_type_holds,
};

static const kln_field element_fields[] = {
    [1] = SUB("elem_type", MESSAGE_POINTER, type, element, type),
};

static const kln_layout kln_layout_sequence_type = {
    INNER("TypeProto.Sequence", element_fields),
};

static const kln_layout kln_layout_optional_type = {
    INNER("TypeProto.Optional", element_fields),
};

static const kln_field map_fields[] = {
    [1] = MANY("key_type", DTYPE, type, wire_dtype, dtype),
    [2] = SUB("value_type", MESSAGE_POINTER, type, element, type),
};

static const kln_layout kln_layout_map_type = {
    INNER("TypeProto.Map", map_fields),
};

/* TypeProto's oneof: the field number of each kind. */
static const uint32_t kind_numbers[] = {
    [KLN_ONNX_KIND_NONE] = 0,     [KLN_ONNX_KIND_TENSOR] = 1,   [KLN_ONNX_KIND_SPARSE_TENSOR] = 8,
    [KLN_ONNX_KIND_SEQUENCE] = 4, [KLN_ONNX_KIND_OPTIONAL] = 9, [KLN_ONNX_KIND_MAP] = 5,
    [KLN_ONNX_KIND_OPAQUE] = 7,
};

/* Two members of the oneof are rejected: protobuf takes the last one, other readers may take
 * either. */
static kiln_status type_prepare(const struct kln_onnx_reader *reader, kln_wire wire, void *message)
{
    kln_onnx_type *type = message;
    while (wire.at != wire.end) {
        kln_wire_field field;
        KLN_RETURN_IF_ERROR(kln_onnx_next(reader, &kln_layout_type, &wire, &field));
        for (size_t i = 1; i < KLN_ARRAY_LENGTH(kind_numbers); i++) {
            if (kind_numbers[i] != field.number) {
                continue;
            }
            KLN_RETURN_IF(type->kind != KLN_ONNX_KIND_NONE && type->kind != (kln_onnx_kind)i,
                          KILN_ERROR_MALFORMED,
                          "byte %zu, TypeProto: it is said to be of two kinds",
                          kln_onnx_byte(reader, field.start));
            type->kind = (kln_onnx_kind)i;
        }
    }
    return KILN_OK;
}

static bool type_holds(const void *message, uint32_t number)
{
    const kln_onnx_type *type = message;
    return number == 6 || kind_numbers[type->kind] == number;
}

static const kln_field type_fields[] = {
    [1] = SELF("tensor_type", tensor_type),
    [4] = SELF("sequence_type", sequence_type),
    [5] = SELF("map_type", map_type),
    [6] = ONE("denotation", STRING_OR_NULL, type, denotation),
    [7] = ONE("opaque_type", BYTES, type, opaque),
    [8] = SELF("sparse_tensor_type", sparse_tensor_type),
    [9] = SELF("optional_type", optional_type),
};

const kln_layout kln_layout_type = {
    .name = "TypeProto",
    .size = sizeof(kln_onnx_type),
    .present = SIZE_MAX,
    .unknown = AT(type, unknown),
    .nesting = KLN_NESTS_TYPE,
    FIELDS(type_fields),
    .prepare = type_prepare,
    .takes = type_holds,
    .holds = type_holds,
};

static const kln_field value_fields[] = {
    [1] = ONE("name", STRING, value, name),
    [2] = SUB("type", MESSAGE, value, type, type),
    [3] = ONE("doc_string", STRING, value, doc),
    [4] = SUBS("metadata_props", MESSAGES, value, metadata, metadata_count, entry),
};

static bool value_holds(const void *message, uint32_t number)
{
    const kln_onnx_value *value = message;
    return number != 2 || value->type.kind != KLN_ONNX_KIND_NONE ||
           (value->present & UINT32_C(1) << 2) != 0;
}

const kln_layout kln_layout_value = {
    MESSAGE("ValueInfoProto", value),
    .holds = value_holds,
};

/* --- tensors --- */

static const kln_field tensor_fields[] = {
    [1] = MANY("dims", INT64S, tensor, dims, rank),
    [KLN_TENSOR_DATA_TYPE] = MANY("data_type", DTYPE, tensor, wire_dtype, dtype),
    [KLN_TENSOR_FLOAT_DATA] = DATA("float_data"),
    [KLN_TENSOR_INT32_DATA] = DATA("int32_data"),
    [KLN_TENSOR_STRING_DATA] = MANY("string_data", SPANS, tensor, strings, string_count),
    [KLN_TENSOR_INT64_DATA] = DATA("int64_data"),
    [KLN_TENSOR_NAME] = ONE("name", STRING, tensor, name),
    [KLN_TENSOR_RAW_DATA] = DATA("raw_data"),
    [KLN_TENSOR_DOUBLE_DATA] = DATA("double_data"),
    [KLN_TENSOR_UINT64_DATA] = DATA("uint64_data"),
    [12] = ONE("doc_string", STRING, tensor, doc),
    [KLN_TENSOR_EXTERNAL_DATA] =
        SUBS("external_data", MESSAGES, tensor, external_others, external_other_count, entry),
    [KLN_TENSOR_DATA_LOCATION] = DATA("data_location"),
    [16] = SUBS("metadata_props", MESSAGES, tensor, metadata, metadata_count, entry),
};

bool kln_onnx_is_number_field(uint32_t number)
{
    return number == KLN_TENSOR_FLOAT_DATA || number == KLN_TENSOR_INT32_DATA ||
           number == KLN_TENSOR_INT64_DATA || number == KLN_TENSOR_DOUBLE_DATA ||
           number == KLN_TENSOR_UINT64_DATA;
}

/* The type must be known before the numbers are read, wherever its field is. */
static kiln_status tensor_prepare(const kln_onnx_reader *reader, kln_wire wire, void *message)
{
    kln_onnx_tensor *tensor = message;
    while (wire.at != wire.end) {
        kln_wire_field field;
        KLN_RETURN_IF_ERROR(kln_onnx_next(reader, &kln_layout_tensor, &wire, &field));
        if (field.number == KLN_TENSOR_DATA_TYPE && field.type == KLN_WIRE_VARINT) {
            tensor->wire_dtype = (int32_t)(uint32_t)field.value;
        } else if (field.number == KLN_TENSOR_SEGMENT) {
            return kln_fail(KILN_ERROR_UNSUPPORTED,
                            "byte %zu, TensorProto.segment: tensors in segments are not read",
                            kln_onnx_byte(reader, field.start));
        }
    }
    tensor->dtype = kln_onnx_dtype(tensor->wire_dtype);
    return KILN_OK;
}

/* If the type has no kiln_dtype, its numbers stay unknown fields. */
static bool tensor_takes(const void *message, uint32_t number)
{
    const kln_onnx_tensor *tensor = message;
    return tensor->dtype != KILN_DTYPE_UNDEFINED || !kln_onnx_is_number_field(number);
}

const kln_layout kln_layout_tensor = {
    MESSAGE("TensorProto", tensor),
    .prepare = tensor_prepare,
    .takes = tensor_takes,
    .hooks = KLN_HOOKS_TENSOR,
};

/* --- attributes and nodes --- */

/* The field that holds the value for each attribute type; 0: the value stays an unknown field. */
static const uint32_t payload_numbers[] = {
    [KLN_ONNX_ATTRIBUTE_FLOAT] = 2,    [KLN_ONNX_ATTRIBUTE_INT] = 3,
    [KLN_ONNX_ATTRIBUTE_STRING] = 4,   [KLN_ONNX_ATTRIBUTE_TENSOR] = 5,
    [KLN_ONNX_ATTRIBUTE_GRAPH] = 6,    [KLN_ONNX_ATTRIBUTE_FLOATS] = 7,
    [KLN_ONNX_ATTRIBUTE_INTS] = 8,     [KLN_ONNX_ATTRIBUTE_STRINGS] = 9,
    [KLN_ONNX_ATTRIBUTE_TENSORS] = 10, [KLN_ONNX_ATTRIBUTE_GRAPHS] = 11,
    [KLN_ONNX_ATTRIBUTE_TYPE] = 14,    [KLN_ONNX_ATTRIBUTE_TYPES] = 15,
};

static kiln_status attribute_prepare(const struct kln_onnx_reader *reader, kln_wire wire,
                                     void *message)
{
    kln_onnx_attribute *attribute = message;
    kln_onnx_attribute_type guess = KLN_ONNX_ATTRIBUTE_UNDEFINED;
    bool is_given = false;
    while (wire.at != wire.end) {
        kln_wire_field field;
        KLN_RETURN_IF_ERROR(kln_onnx_next(reader, &kln_layout_attribute, &wire, &field));
        if (field.number == KLN_ATTRIBUTE_TYPE && field.type == KLN_WIRE_VARINT) {
            attribute->type = (kln_onnx_attribute_type)(uint32_t)field.value;
            is_given = true;
        }
        for (unsigned i = 1; i < KLN_ARRAY_LENGTH(payload_numbers); i++) {
            if (payload_numbers[i] == field.number) {
                guess = (kln_onnx_attribute_type)i;
            }
        }
    }
    /* Early ONNX files have no type; it follows from the value. */
    if (!is_given) {
        attribute->type = guess;
    }
    return KILN_OK;
}

static bool attribute_holds(const void *message, uint32_t number)
{
    const kln_onnx_attribute *attribute = message;
    if (number == 1 || number == 13 || number == KLN_ATTRIBUTE_TYPE || number == 21) {
        return true;
    }
    const size_t type = (size_t)attribute->type;
    return type < KLN_ARRAY_LENGTH(payload_numbers) && payload_numbers[type] == number;
}

static const kln_field attribute_fields[] = {
    [1] = ONE("name", STRING, attribute, name),
    [2] = ONE("f", FLOAT, attribute, f),
    [3] = ONE("i", INT64, attribute, i),
    [4] = ONE("s", BYTES, attribute, s),
    [5] = SUB("t", MESSAGE_POINTER, attribute, tensor, tensor),
    [6] = SUB("g", MESSAGE_POINTER, attribute, graph, graph),
    [7] = MANY("floats", FLOATS, attribute, floats, count),
    [8] = MANY("ints", INT64S, attribute, ints, count),
    [9] = MANY("strings", SPANS, attribute, strings, count),
    [10] = SUBS("tensors", MESSAGES, attribute, tensors, count, tensor),
    [11] = SUBS("graphs", MESSAGE_POINTERS, attribute, graphs, count, graph),
    [13] = ONE("doc_string", STRING, attribute, doc),
    [14] = SUB("tp", MESSAGE_POINTER, attribute, types, type),
    [15] = SUBS("type_protos", MESSAGES, attribute, types, count, type),
    [KLN_ATTRIBUTE_TYPE] = ONE("type", INT32, attribute, type),
    [21] = ONE("ref_attr_name", STRING_OR_NULL, attribute, reference),
};

const kln_layout kln_layout_attribute = {
    MESSAGE("AttributeProto", attribute),
    .prepare = attribute_prepare,
    .takes = attribute_holds,
    .holds = attribute_holds,
};

static const kln_field node_fields[] = {
    [1] = MANY("input", STRINGS, node, inputs, input_count),
    [2] = MANY("output", STRINGS, node, outputs, output_count),
    [3] = ONE("name", STRING, node, name),
    [4] = ONE("op_type", STRING, node, op_type),
    [5] = SUBS("attribute", MESSAGES, node, attributes, attribute_count, attribute),
    [6] = ONE("doc_string", STRING, node, doc),
    [7] = ONE("domain", STRING, node, domain),
    [8] = ONE("overload", STRING, node, overload),
    [9] = SUBS("metadata_props", MESSAGES, node, metadata, metadata_count, entry),
};

const kln_layout kln_layout_node = {
    MESSAGE("NodeProto", node),
};

/* --- graphs, functions, the model --- */

static const kln_field graph_fields[] = {
    [1] = SUBS("node", MESSAGES, graph, nodes, node_count, node),
    [2] = ONE("name", STRING, graph, name),
    [5] = SUBS("initializer", MESSAGES, graph, initializers, initializer_count, tensor),
    [10] = ONE("doc_string", STRING, graph, doc),
    [11] = SUBS("input", MESSAGES, graph, inputs, input_count, value),
    [12] = SUBS("output", MESSAGES, graph, outputs, output_count, value),
    [13] = SUBS("value_info", MESSAGES, graph, values, value_count, value),
    [14] = MANY("quantization_annotation", SPANS, graph, quantization_annotations,
                quantization_annotation_count),
    [15] = MANY("sparse_initializer", SPANS, graph, sparse_initializers, sparse_initializer_count),
    [16] = SUBS("metadata_props", MESSAGES, graph, metadata, metadata_count, entry),
};

const kln_layout kln_layout_graph = {
    MESSAGE("GraphProto", graph),
    .nesting = KLN_NESTS_GRAPH,
    .hooks = KLN_HOOKS_GRAPH,
};

static const kln_field function_fields[] = {
    [1] = ONE("name", STRING, function, name),
    [4] = MANY("input", STRINGS, function, inputs, input_count),
    [5] = MANY("output", STRINGS, function, outputs, output_count),
    [6] = MANY("attribute", STRINGS, function, attribute_names, attribute_name_count),
    [7] = SUBS("node", MESSAGES, function, body.nodes, body.node_count, node),
    [8] = ONE("doc_string", STRING, function, doc),
    [9] = SUBS("opset_import", MESSAGES, function, opsets, opset_count, opset),
    [10] = ONE("domain", STRING, function, domain),
    [11] = SUBS("attribute_proto", MESSAGES, function, attributes, attribute_count, attribute),
    [12] = SUBS("value_info", MESSAGES, function, body.values, body.value_count, value),
    [13] = ONE("overload", STRING, function, overload),
    [14] = SUBS("metadata_props", MESSAGES, function, metadata, metadata_count, entry),
};

static const kln_layout kln_layout_function = {
    MESSAGE("FunctionProto", function),
    .hooks = KLN_HOOKS_FUNCTION,
};

static const kln_field model_fields[] = {
    [1] = ONE("ir_version", INT64, model, ir_version),
    [2] = ONE("producer_name", STRING, model, producer_name),
    [3] = ONE("producer_version", STRING, model, producer_version),
    [4] = ONE("domain", STRING, model, domain),
    [5] = ONE("model_version", INT64, model, model_version),
    [6] = ONE("doc_string", STRING, model, doc),
    [7] = SUB("graph", MESSAGE, model, graph, graph),
    [8] = SUBS("opset_import", MESSAGES, model, opsets, opset_count, opset),
    [14] = SUBS("metadata_props", MESSAGES, model, metadata, metadata_count, entry),
    [25] = SUBS("functions", MESSAGES, model, functions, function_count, function),
};

const kln_layout kln_layout_model = {
    MESSAGE("ModelProto", model),
    .hooks = KLN_HOOKS_MODEL,
};
