/* SPDX-License-Identifier: Apache-2.0 */
/* A decoded row of the operator table, and the resolution of a node's operator. */
#ifndef KLN_SCHEMA_H
#define KLN_SCHEMA_H

#include "kln_ops.h"

/* Bit n stands for TensorProto.DataType n. */
typedef struct kln_type_set {
    uint32_t tensor;
    uint32_t sequence; /* of tensors */
    uint32_t optional; /* tensors */
    uint32_t optional_sequence;
    bool map; /* maps, and sequences of maps */
} kln_type_set;

/* Whether `types`, one of the four above, has the type, which may be none that ONNX knows. */
static inline bool kln_type_is_among(uint32_t types, int32_t type)
{
    return type > 0 && type < 32 && (types >> type & 1U) != 0;
}

typedef struct kln_schema_parameter { /* an input or output */
    const char *name;
    int variable; /* index of the type variable, or -1: `types` holds */
    kln_type_set types;
    bool optional;
    bool repeated;
    bool mixed; /* repeated, and each of a type of its own */
} kln_schema_parameter;

typedef struct kln_schema_attribute {
    const char *name;
    kln_onnx_attribute_type type;
    bool required;
} kln_schema_attribute;

typedef struct kln_schema_variable {
    const char *name;
    kln_type_set types;
} kln_schema_variable;

#define KLN_VARIABLES_MOST 8

typedef struct kln_schema {
    const kln_operator *row, *form;
    kln_schema_parameter *inputs, *outputs;
    size_t input_count, output_count;
    kln_schema_attribute *attributes;
    size_t attribute_count;
    kln_schema_variable variables[KLN_VARIABLES_MOST];
    size_t variable_count;
} kln_schema;

/* NULL when memory runs out. */
kln_schema *kln_schema_parse(const kln_operator *row, kln_arena *arena);

/* The parameter of position `index`; the last one where that repeats; NULL past the end. */
const kln_schema_parameter *kln_schema_input(const kln_schema *schema, size_t index);
const kln_schema_parameter *kln_schema_output(const kln_schema *schema, size_t index);

const char *kln_attribute_type_name(kln_onnx_attribute_type type);
/* Writes "float16, float32 or float64". */
void kln_type_set_format(const kln_type_set *types, char *text, size_t size);
/* The letter of a TensorProto.DataType in the table's texts, and back; 0: there is none. */
char kln_type_letter(int32_t wire_dtype);
int32_t kln_type_of_letter(char letter);
/* The one type in the set, or 0. */
int32_t kln_type_set_single(uint32_t set);

struct kln_rule;
typedef void (*kln_rule_function)(struct kln_rule *rule);
typedef bool (*kln_rule_question)(struct kln_rule *rule);

/* What an operator type comes to in a scope; looked up once. */
typedef struct kln_resolved {
    const char *domain;
    int64_t opset;                     /* of its domain; 0: not imported */
    const kln_schema *schema;          /* NULL: not in the table */
    const kln_onnx_function *function; /* model-local, or NULL */
    kln_rule_function rule;            /* or NULL */
    kln_rule_function fold;            /* or NULL */
    const char *form;                  /* of its inputs' shapes (kln_op_rule), or NULL */
    kln_rule_question fit;             /* whether they go together, or NULL */
    bool ranked, random;               /* as kln_op_rule has them */
} kln_resolved;

#endif
