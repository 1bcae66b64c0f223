/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_schema.h"

#include <stdio.h>

/* The letter of TensorProto.DataType n is at n. */
static const char type_letters[] = "-fBbWwilsthdILcCgeExXNnqyKkpP";

char kln_type_letter(int32_t wire_dtype)
{
    return wire_dtype > 0 && wire_dtype < (int32_t)sizeof type_letters - 1
               ? type_letters[wire_dtype]
               : '\0';
}

int32_t kln_type_of_letter(char letter)
{
    const char *found = letter != '\0' ? strchr(type_letters, letter) : NULL;
    return found != NULL ? (int32_t)(found - type_letters) : 0;
}

static const struct {
    char letter;
    kln_onnx_attribute_type type;
} attribute_letters[] = {
    {'f', KLN_ONNX_ATTRIBUTE_FLOAT},         {'i', KLN_ONNX_ATTRIBUTE_INT},
    {'s', KLN_ONNX_ATTRIBUTE_STRING},        {'t', KLN_ONNX_ATTRIBUTE_TENSOR},
    {'g', KLN_ONNX_ATTRIBUTE_GRAPH},         {'F', KLN_ONNX_ATTRIBUTE_FLOATS},
    {'I', KLN_ONNX_ATTRIBUTE_INTS},          {'S', KLN_ONNX_ATTRIBUTE_STRINGS},
    {'T', KLN_ONNX_ATTRIBUTE_TENSORS},       {'G', KLN_ONNX_ATTRIBUTE_GRAPHS},
    {'p', KLN_ONNX_ATTRIBUTE_SPARSE_TENSOR}, {'P', KLN_ONNX_ATTRIBUTE_SPARSE_TENSORS},
    {'y', KLN_ONNX_ATTRIBUTE_TYPE},          {'Y', KLN_ONNX_ATTRIBUTE_TYPES},
};

/* A word of the row's texts; `text` moves past it. */
static size_t next_word(const char **text, const char **word)
{
    *text += strspn(*text, " ");
    *word = *text;
    const size_t length = strcspn(*text, " ");
    *text += length;
    return length;
}

static size_t count_words(const char *text)
{
    const char *word = NULL;
    size_t count = 0;
    while (next_word(&text, &word) > 0) {
        count++;
    }
    return count;
}

static kln_type_set parse_types(const char *text, size_t length)
{
    kln_type_set set = {.tensor = 0};
    uint32_t *const groups[] = {&set.tensor, &set.sequence, &set.optional, &set.optional_sequence};
    size_t group = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '/') {
            group++;
        } else if (group == KLN_ARRAY_LENGTH(groups)) {
            set.map = true;
        } else {
            const char *letter = strchr(type_letters, text[i]);
            if (letter != NULL) {
                *groups[group] |= UINT32_C(1) << (letter - type_letters);
            }
        }
    }
    return set;
}

static bool parse_variables(kln_schema *schema, kln_arena *arena)
{
    const char *text = schema->row->types;
    const char *word = NULL;
    for (size_t length; (length = next_word(&text, &word)) > 0;) {
        if (schema->variable_count == KLN_VARIABLES_MOST) {
            break;
        }
        const size_t name = strcspn(word, "=");
        kln_schema_variable *variable = &schema->variables[schema->variable_count++];
        variable->name = kln_arena_strndup(arena, word, name);
        if (variable->name == NULL) {
            return false;
        }
        variable->types = parse_types(word + name + 1, length - name - 1);
    }
    return true;
}

static int find_variable(const kln_schema *schema, const char *name, size_t length)
{
    for (size_t i = 0; i < schema->variable_count; i++) {
        if (strlen(schema->variables[i].name) == length &&
            memcmp(schema->variables[i].name, name, length) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static kln_schema_parameter *parse_parameters(const kln_schema *schema, const char *text,
                                              size_t *count, kln_arena *arena)
{
    *count = count_words(text);
    kln_schema_parameter *parameters = kln_arena_alloc_zeroed(arena, *count, sizeof *parameters);
    if (parameters == NULL) {
        return NULL;
    }
    const char *word = NULL;
    for (size_t i = 0; i < *count; i++) {
        size_t length = next_word(&text, &word);
        kln_schema_parameter *p = &parameters[i];
        p->optional = word[length - 1] == '?';
        p->repeated = word[length - 1] == '*';
        p->mixed = p->repeated && word[length - 2] == '*';
        length -= p->mixed ? 2U : p->optional || p->repeated ? 1U : 0U;
        const size_t name = strcspn(word, ":=");
        p->name = kln_arena_strndup(arena, word, name);
        if (p->name == NULL) {
            return NULL;
        }
        const char *type = word + name + 1;
        const size_t type_length = length - name - 1;
        p->variable = word[name] == ':' ? find_variable(schema, type, type_length) : -1;
        p->types = p->variable >= 0 ? schema->variables[p->variable].types
                                    : parse_types(type, type_length);
    }
    return parameters;
}

static kln_onnx_attribute_type attribute_type(char letter)
{
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(attribute_letters); k++) {
        if (attribute_letters[k].letter == letter) {
            return attribute_letters[k].type;
        }
    }
    return KLN_ONNX_ATTRIBUTE_UNDEFINED;
}

kln_onnx_attribute_type kln_operator_attribute(const kln_operator *row, const char *name)
{
    const char *text = kln_operator_form(row)->attributes;
    const char *word = NULL;
    while (next_word(&text, &word) > 0) {
        const size_t length = strcspn(word, ":");
        if (strncmp(word, name, length) == 0 && name[length] == '\0') {
            return attribute_type(word[length + 1]);
        }
    }
    return KLN_ONNX_ATTRIBUTE_UNDEFINED;
}

static bool parse_attributes(kln_schema *schema, kln_arena *arena)
{
    const char *text = schema->form->attributes;
    const char *word = NULL;
    schema->attribute_count = count_words(text);
    schema->attributes =
        kln_arena_alloc_zeroed(arena, schema->attribute_count, sizeof *schema->attributes);
    if (schema->attributes == NULL) {
        return false;
    }
    for (size_t i = 0; i < schema->attribute_count; i++) {
        const size_t length = next_word(&text, &word);
        kln_schema_attribute *a = &schema->attributes[i];
        const size_t name = strcspn(word, ":");
        a->name = kln_arena_strndup(arena, word, name);
        a->required = word[length - 1] == '!';
        a->type = attribute_type(word[name + 1]);
        if (a->name == NULL) {
            return false;
        }
    }
    return true;
}

kln_schema *kln_schema_parse(const kln_operator *row, kln_arena *arena)
{
    kln_schema *schema = kln_arena_alloc_zeroed(arena, 1, sizeof *schema);
    if (schema == NULL) {
        return NULL;
    }
    schema->row = row;
    schema->form = kln_operator_form(row);
    if (!parse_variables(schema, arena) || !parse_attributes(schema, arena)) {
        return NULL;
    }
    schema->inputs = parse_parameters(schema, schema->form->inputs, &schema->input_count, arena);
    schema->outputs = parse_parameters(schema, schema->form->outputs, &schema->output_count, arena);
    return schema->inputs != NULL && schema->outputs != NULL ? schema : NULL;
}

static const kln_schema_parameter *at(const kln_schema_parameter *parameters, size_t count,
                                      size_t index)
{
    if (index < count) {
        return &parameters[index];
    }
    return count > 0 && parameters[count - 1].repeated ? &parameters[count - 1] : NULL;
}

const kln_schema_parameter *kln_schema_input(const kln_schema *schema, size_t index)
{
    return at(schema->inputs, schema->input_count, index);
}

const kln_schema_parameter *kln_schema_output(const kln_schema *schema, size_t index)
{
    return at(schema->outputs, schema->output_count, index);
}

const char *kln_attribute_type_name(kln_onnx_attribute_type type)
{
    static const char *const names[] = {"undefined",
                                        "a float",
                                        "an integer",
                                        "a string",
                                        "a tensor",
                                        "a graph",
                                        "a list of floats",
                                        "a list of integers",
                                        "a list of strings",
                                        "a list of tensors",
                                        "a list of graphs",
                                        "a sparse tensor",
                                        "a list of sparse tensors",
                                        "a type",
                                        "a list of types"};
    return (size_t)type < KLN_ARRAY_LENGTH(names) ? names[type] : "of an unknown type";
}

static size_t append(char *text, size_t size, size_t used, const char *word)
{
    const int length = snprintf(text + used, size - used, "%s", word);
    return length > 0 && (size_t)length < size - used ? used + (size_t)length : size - 1;
}

static size_t append_set(char *text, size_t size, size_t used, uint32_t set, const char *form)
{
    for (uint32_t left = set; left != 0; left &= left - 1) {
        const int32_t type = (int32_t)__builtin_ctz(left);
        used =
            append(text, size, used,
                   KLN_PRINTED("%s%s%s", used == 0 ? "" : ", ", form, kln_onnx_dtype_name(type)));
    }
    return used;
}

void kln_type_set_format(const kln_type_set *types, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    used = append_set(text, size, used, types->tensor, "");
    if (types->sequence != 0) {
        used = append(text, size, used, used == 0 ? "a sequence" : ", a sequence");
    }
    if (types->optional != 0 || types->optional_sequence != 0) {
        used = append(text, size, used, used == 0 ? "an optional" : ", an optional");
    }
    if (types->map) {
        (void)append(text, size, used, used == 0 ? "a map" : ", a map");
    }
}

int32_t kln_type_set_single(uint32_t set)
{
    return set != 0 && (set & (set - 1)) == 0 ? (int32_t)__builtin_ctz(set) : 0;
}
