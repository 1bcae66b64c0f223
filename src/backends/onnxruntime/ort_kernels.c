/* Which types ONNX Runtime's CPU provider has kernels for.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ort_limits.h"

/* A range of opset versions, and for each type variable the allowed types, in the letters of the
 * operator table: tensor types, and after a '/' element types of sequences. */
typedef struct kernel_row {
    const char *domain, *name;
    int first, last;
    const char *types;
    bool is_function; /* ONNX's function body, which ONNX Runtime runs in place of a missing
                       * kernel */
} kernel_row;

static const kernel_row rows[] = {
#include "ort_kernels_a_g.inc"
#include "ort_kernels_h_q.inc"
#include "ort_kernels_r_z.inc"
};

static bool has_letter(const char *types, size_t length, char letter, bool sequence)
{
    const char *end = types + length;
    const char *slash = memchr(types, '/', length);
    const char *first = !sequence ? types : slash != NULL ? slash + 1 : end;
    const char *last = !sequence && slash != NULL ? slash : end;
    return memchr(first, letter, (size_t)(last - first)) != NULL;
}

static bool reads_half(const kln_node_view *view)
{
    for (size_t i = 0; i < view->node->input_count; i++) {
        if (kln_view_type(view, i) == FLOAT16) {
            return true;
        }
    }
    return false;
}

/* If only float32 has a kernel, ONNX Runtime casts float16 inputs to float32, and outputs back. */
static bool takes(const kernel_row *row, const kln_node_view *view)
{
    for (const char *word = row->types; *word != '\0';) {
        const size_t length = strcspn(word, " ");
        const size_t name = strcspn(word, "=");
        const char *types = word + name + 1;
        bool sequence = false;
        const char letter = kln_view_variable(view, word, name, &sequence);
        const bool cast = letter == 'h' && !row->is_function && reads_half(view) && !sequence;
        if (letter != '\0' && !has_letter(types, length - name - 1, letter, sequence) &&
            !(cast && has_letter(types, length - name - 1, 'f', false))) {
            return false;
        }
        word += length + (word[length] == ' ' ? 1 : 0);
    }
    return true;
}

static bool is_of(const kernel_row *row, const char *domain, const kln_onnx_node *node,
                  int64_t opset)
{
    return strcmp(row->name, node->op_type) == 0 && strcmp(row->domain, domain) == 0 &&
           opset >= row->first && opset <= row->last;
}

/* Names the actual types of the variables: "float32, int64". */
static void name_types(const kln_node_view *view, char *text, size_t size)
{
    const kln_schema *schema = view->known->resolved->schema;
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < schema->variable_count && used < size; i++) {
        bool sequence = false;
        const char *name = schema->variables[i].name;
        const char letter = kln_view_variable(view, name, strlen(name), &sequence);
        if (letter != '\0') {
            const int length = snprintf(text + used, size - used, "%s%s%s", used == 0 ? "" : ", ",
                                        sequence ? "a sequence of " : "",
                                        kln_onnx_dtype_name(kln_type_of_letter(letter)));
            used += length > 0 ? (size_t)length : 0;
        }
    }
}

/* Lists the types that the rows allow, if they have only one type variable. */
static void name_choices(const char *domain, const kln_onnx_node *node, int64_t opset, char *text,
                         size_t size)
{
    kln_type_set set = {.tensor = 0};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rows); i++) {
        if (!is_of(&rows[i], domain, node, opset)) {
            continue;
        }
        if (strchr(rows[i].types, ' ') != NULL) {
            return;
        }
        for (const char *c = strchr(rows[i].types, '='); c != NULL && *c != '\0' && *c != '/';
             c++) {
            set.tensor |= UINT32_C(1) << kln_type_of_letter(*c);
        }
    }
    set.tensor &= ~UINT32_C(1);
    if (set.tensor != 0) {
        char list[96];
        kln_type_set_format(&set, list, sizeof list);
        (void)snprintf(text, size, ", but for %s", list);
    }
}

kln_lack ort_lacks_kernel(const kln_node_view *view, char *why, size_t size)
{
    const kln_onnx_node *node = view->node;
    const kln_resolved *resolved = view->known->resolved;
    const char *domain = strcmp(node->domain, "ai.onnx") == 0 ? "" : node->domain;
    bool known = false;
    if (strncmp(domain, "ai.onnx.preview", 15) == 0) {
        (void)snprintf(why, size,
                       "ONNX Runtime " ORT_LACKS_RELEASE
                       " does not know the operators of \"%.60s\"; name another backend",
                       domain);
        return KLN_LACK_BUILD;
    }
    /* The Shape of a known shape is folded and does not run. */
    if (resolved->schema == NULL || strcmp(node->op_type, "Constant") == 0 ||
        (strcmp(node->op_type, "Shape") == 0 && kln_view_count(view, 0) >= 0) ||
        (domain[0] != '\0' && strcmp(domain, "ai.onnx.ml") != 0)) {
        return KLN_LACK_NONE;
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rows); i++) {
        if (is_of(&rows[i], domain, node, resolved->opset)) {
            if (takes(&rows[i], view)) {
                return KLN_LACK_NONE;
            }
            known = true;
        }
    }
    char types[64] = "";
    char choices[112] = "";
    name_types(view, types, sizeof types);
    if (known) {
        name_choices(domain, node, resolved->opset, choices, sizeof choices);
        (void)snprintf(why, size,
                       "ONNX Runtime " ORT_LACKS_RELEASE
                       " has no kernel for %s in version %lld%s; cast, or name another backend",
                       types, (long long)resolved->opset, choices);
    } else {
        (void)snprintf(why, size,
                       "ONNX Runtime " ORT_LACKS_RELEASE
                       " has no kernel of it in version %lld; name another backend",
                       (long long)resolved->opset);
    }
    return KLN_LACK_BUILD;
}
