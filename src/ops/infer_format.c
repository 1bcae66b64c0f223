/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "infer_expression.h"
#include "kln_schema.h"

/* Text that is counted in full, but written only as far as there is room. */
typedef struct sink {
    char *text;
    size_t size;
    size_t length;
} sink;

static void put(sink *s, const char *word)
{
    const size_t length = strlen(word);
    for (size_t i = 0; i < length; i++) {
        if (s->length + i + 1 < s->size) {
            s->text[s->length + i] = word[i];
            s->text[s->length + i + 1] = '\0';
        }
    }
    s->length += length;
}

static void put_number(sink *s, int64_t number)
{
    put(s, KLN_PRINTED("%lld", (long long)number));
}

static void put_dim(sink *s, kln_dim dim);

/* The recursion ends because a factor is smaller than what contains it (KLN_EXPRESSION_SIZE). */
static void put_factor(sink *s, const kln_factor *factor)
{
    switch (factor->kind) {
        case KLN_FACTOR_NAME: put(s, factor->name); return;
        case KLN_FACTOR_FLOOR: {
            const kln_expression *a = factor->a.of.expression;
            const bool several = a->count > 1;
            put(s, several ? "floor((" : "floor(");
            put_dim(s, factor->a);
            put(s, several ? ")/" : "/");
            put_number(s, factor->divisor);
            put(s, ")");
            return;
        }
        case KLN_FACTOR_MAX:
        case KLN_FACTOR_MIN:
            put(s, factor->kind == KLN_FACTOR_MAX ? "max(" : "min(");
            put_dim(s, factor->a);
            put(s, ",");
            put_dim(s, factor->b);
            put(s, ")");
            return;
    }
}

static void put_term(sink *s, const kln_term *term, bool first)
{
    if (term->coefficient > 0 && !first) {
        put(s, "+");
    }
    if (term->count == 0) {
        put_number(s, term->coefficient);
        return;
    }
    if (term->coefficient == -1) {
        put(s, "-");
    } else if (term->coefficient != 1) {
        put_number(s, term->coefficient);
        put(s, "*");
    }
    for (size_t i = 0; i < term->count; i++) {
        if (i > 0) {
            put(s, "*");
        }
        put_factor(s, term->factors[i]);
    }
}

static void put_dim(sink *s, kln_dim dim)
{
    switch (dim.kind) {
        case KLN_DIM_UNKNOWN: put(s, "?"); return;
        case KLN_DIM_NUMBER: put_number(s, dim.of.number); return;
        case KLN_DIM_REAL: put(s, KLN_PRINTED("%.17g", dim.of.real)); return;
        case KLN_DIM_EXPRESSION:
            for (size_t i = 0; i < dim.of.expression->count; i++) {
                put_term(s, &dim.of.expression->terms[i], i == 0);
            }
            return;
    }
}

size_t kln_dim_format(kln_dim dim, char *text, size_t size)
{
    sink s = {text, size, 0};
    if (size > 0) {
        text[0] = '\0';
    }
    put_dim(&s, dim);
    return s.length;
}

#define ELEMENTS_DEEP 4

static void put_value(sink *s, const kln_value *value, int depth)
{
    if (value->kind == KLN_ONNX_KIND_SEQUENCE || value->kind == KLN_ONNX_KIND_OPTIONAL) {
        put(s, value->kind == KLN_ONNX_KIND_SEQUENCE ? "sequence(" : "optional(");
        if (value->element != NULL && depth < ELEMENTS_DEEP) {
            put_value(s, value->element, depth + 1);
        } else {
            put(s, "?");
        }
        put(s, ")");
        return;
    }
    if (value->kind == KLN_ONNX_KIND_MAP || value->kind == KLN_ONNX_KIND_OPAQUE) {
        put(s, value->kind == KLN_ONNX_KIND_MAP ? "map" : "opaque");
        return;
    }
    if (value->kind == KLN_ONNX_KIND_SPARSE_TENSOR) {
        put(s, "sparse ");
    }
    put(s, value->wire_dtype != 0 ? kln_onnx_dtype_name(value->wire_dtype) : "?");
    if (!value->has_shape) {
        return;
    }
    put(s, "[");
    for (size_t i = 0; i < value->rank; i++) {
        if (i > 0) {
            put(s, ",");
        }
        put_dim(s, value->dims[i]);
    }
    put(s, "]");
}

size_t kln_value_format(const kln_value *value, char *text, size_t size)
{
    sink s = {text, size, 0};
    if (size > 0) {
        text[0] = '\0';
    }
    put_value(&s, value, 0);
    return s.length;
}

const char *kln_dim_printed(kln_dim dim, char text[KLN_WHAT_TEXT])
{
    (void)kln_dim_format(dim, text, KLN_WHAT_TEXT);
    return text;
}

const char *kln_value_printed(const kln_value *value, char text[KLN_WHAT_TEXT])
{
    (void)kln_value_format(value, text, KLN_WHAT_TEXT);
    return text;
}

const char *kln_node_labelled(const kln_onnx_node *node, uint32_t index, char text[KLN_WHAT_TEXT])
{
    const bool is_named = node->name != NULL && node->name[0] != '\0';
    (void)(is_named ? snprintf(text, KLN_WHAT_TEXT, "%s", node->name)
                    : snprintf(text, KLN_WHAT_TEXT, "#%u %s", (unsigned)index, node->op_type));
    return text;
}
