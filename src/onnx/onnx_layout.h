/* SPDX-License-Identifier: Apache-2.0 */
/* Where the fields of each ONNX message are in the structs of kln_onnx.h.
 *
 * One table for each message serves the reader, the sizer and the writer, so that they cannot
 * disagree. What a table cannot express (which member of a oneof counts) is in a few functions next
 * to it. */
#ifndef ONNX_LAYOUT_H
#define ONNX_LAYOUT_H

#include "kln_onnx.h"
#include "onnx_wire.h"

/* Field numbers that the code beside the tables names. */
enum {
    KLN_TENSOR_DATA_TYPE = 2,
    KLN_TENSOR_SEGMENT = 3,
    KLN_TENSOR_FLOAT_DATA = 4,
    KLN_TENSOR_INT32_DATA = 5,
    KLN_TENSOR_STRING_DATA = 6,
    KLN_TENSOR_INT64_DATA = 7,
    KLN_TENSOR_NAME = 8,
    KLN_TENSOR_RAW_DATA = 9,
    KLN_TENSOR_DOUBLE_DATA = 10,
    KLN_TENSOR_UINT64_DATA = 11,
    KLN_TENSOR_EXTERNAL_DATA = 13,
    KLN_TENSOR_DATA_LOCATION = 14,
    KLN_ATTRIBUTE_TYPE = 20
};

/* No message of ONNX has a field number past this. */
#define KLN_LAYOUT_FIELDS 32

typedef enum kln_field_kind {
    KLN_FIELD_UNKNOWN = 0,
    KLN_FIELD_STRING,           /* const char *, "" when absent */
    KLN_FIELD_STRING_OR_NULL,   /* const char *, NULL when absent */
    KLN_FIELD_BYTES,            /* kiln_span */
    KLN_FIELD_INT64,            /* int64_t */
    KLN_FIELD_INT32,            /* int32_t or an enum */
    KLN_FIELD_FLOAT,            /* float */
    KLN_FIELD_DTYPE,            /* int32_t, and at `count` the kiln_dtype it stands for */
    KLN_FIELD_MESSAGE,          /* a struct inside this one */
    KLN_FIELD_MESSAGE_POINTER,  /* a pointer to a struct */
    KLN_FIELD_STRINGS,          /* the rest are an array and its size_t count */
    KLN_FIELD_SPANS,            /* of kiln_span */
    KLN_FIELD_INT64S,           /* of int64_t */
    KLN_FIELD_FLOATS,           /* of float */
    KLN_FIELD_MESSAGES,         /* of structs */
    KLN_FIELD_MESSAGE_POINTERS, /* of pointers to structs */
    KLN_FIELD_DATA              /* a tensor's elements: onnx_read_tensor.c, onnx_write_tensor.c */
} kln_field_kind;

typedef struct kln_layout kln_layout;

typedef struct kln_field {
    const char *name; /* as in onnx.proto */
    kln_field_kind kind;
    size_t offset;
    size_t count;    /* offset of the count, or of the kiln_dtype */
    int64_t initial; /* INT64: what stands for absent */
    const kln_layout *message;
} kln_field;

typedef enum kln_nesting { KLN_NESTS_NOT, KLN_NESTS_GRAPH, KLN_NESTS_TYPE } kln_nesting;

/* Messages of which a reader does more than the tables say (onnx_read.c). */
typedef enum kln_hooks {
    KLN_HOOKS_NONE,
    KLN_HOOKS_TENSOR,
    KLN_HOOKS_GRAPH,
    KLN_HOOKS_FUNCTION,
    KLN_HOOKS_MODEL,
    KLN_HOOKS_COUNT
} kln_hooks;

struct kln_onnx_reader;

struct kln_layout {
    const char *name;
    size_t size;
    size_t present; /* offset of the uint32_t; SIZE_MAX: none */
    size_t unknown; /* offset of the kln_onnx_unknown; SIZE_MAX: unknown fields are dropped */
    kln_nesting nesting;
    const kln_field *fields; /* by number */
    uint32_t field_count;
    /* Optional. While reading: looks at the message's fields before the others do. */
    kiln_status (*prepare)(const struct kln_onnx_reader *reader, kln_wire wire, void *message);
    /* Optional. While reading: false sends a field to the unknown ones. */
    bool (*takes)(const void *message, uint32_t number);
    /* Optional. While reading: a field that is not repeated was set. */
    void (*after)(void *message, uint32_t number);
    /* Which of the reader's hooks. */
    kln_hooks hooks;
    /* Optional. While writing: false leaves the field out. */
    bool (*holds)(const void *message, uint32_t number);
};

extern const kln_layout kln_layout_model;
extern const kln_layout kln_layout_graph;
extern const kln_layout kln_layout_node;
extern const kln_layout kln_layout_attribute;
extern const kln_layout kln_layout_tensor;
extern const kln_layout kln_layout_type;
extern const kln_layout kln_layout_value;
extern const kln_layout kln_layout_entry;

/* The field of that number, or NULL when it is not known. */
const kln_field *kln_layout_field(const kln_layout *layout, uint32_t number);

/* Whether that field of TensorProto holds numbers one by one. */
bool kln_onnx_is_number_field(uint32_t number);

/* Sets what is not zero when absent: strings to "", dimensions to KILN_DYNAMIC. */
void kln_layout_init(const kln_layout *layout, void *message);

#endif
