/* SPDX-License-Identifier: Apache-2.0 */
/* The names that the options keep from conversion: sorted once, then searched. */
#include <fnmatch.h>
#include <stdlib.h>

#include "quantize_parts.h"

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

typedef struct part {
    const char *text;
    size_t length;
} part;

static int compare_part(const void *key, const void *item)
{
    const part *sought = key;
    const char *name = *(const char *const *)item;
    const int order = strncmp(sought->text, name, sought->length);
    return order == 0 && name[sought->length] != '\0' ? -1 : order;
}

static bool has(const char *const *sorted, size_t count, const char *name, size_t length)
{
    const part sought = {name, length};
    return count != 0 && bsearch(&sought, sorted, count, sizeof *sorted, compare_part) != NULL;
}

static size_t first_length(const char *name)
{
    static const char *const made[] = {QUANTIZE_EVENED, QUANTIZE_PIXEL};
    const size_t length = strlen(name);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(made); i++) {
        const size_t end = strlen(made[i]);
        if (length > end && strcmp(name + length - end, made[i]) == 0) {
            return length - end;
        }
    }
    return length;
}

const char *quantize_first_name(kln_arena *arena, const char *name)
{
    const size_t length = first_length(name);
    const char *first =
        name[length] != '\0' ? kln_arena_printf(arena, "%.*s", (int)length, name) : NULL;
    return first != NULL ? first : name;
}

bool quantize_is_added(const kln_onnx_node *node)
{
    if (node->input_count == 0 || node->output_count == 0) {
        return false;
    }
    const char *input = node->inputs[0];
    const size_t length = first_length(input);
    return input[length] != '\0' && strlen(node->outputs[0]) == length &&
           strncmp(input, node->outputs[0], length) == 0;
}

bool quantize_is_kept(const kiln_precision_options *o, const kln_onnx_node *node)
{
    bool is_kept =
        has(o->keep_operators, o->keep_operator_count, node->op_type, strlen(node->op_type)) ||
        has(o->keep_nodes, o->keep_node_count, node->name, strlen(node->name));
    for (size_t i = 0; !is_kept && i < node->output_count; i++) {
        const char *name = node->outputs[i];
        is_kept = has(o->keep_nodes, o->keep_node_count, name, strlen(name)) ||
                  has(o->keep_nodes, o->keep_node_count, name, first_length(name));
    }
    return is_kept;
}

/* Collects the operators and the names of nodes and of their outputs, including those in
 * subgraphs. */
static kiln_status list_names(const kln_onnx_graph *graph, kln_names *nodes, kln_names *operators)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        KLN_RETURN_IF_ERROR(kln_names_set(operators, node->op_type, 0));
        KLN_RETURN_IF_ERROR(kln_names_set(nodes, node->name, 0));
        for (size_t k = 0; k < node->output_count; k++) {
            KLN_RETURN_IF_ERROR(kln_names_set(nodes, node->outputs[k], 0));
        }
        for (size_t k = 0; k < node->attribute_count; k++) {
            const kln_onnx_attribute *a = &node->attributes[k];
            if (a->graph != NULL) {
                KLN_RETURN_IF_ERROR(list_names(a->graph, nodes, operators));
            }
            for (size_t g = 0; a->graphs != NULL && g < a->count; g++) {
                KLN_RETURN_IF_ERROR(list_names(a->graphs[g], nodes, operators));
            }
        }
    }
    return KILN_OK;
}

typedef struct kept_list {
    kln_arena *arena;
    const char **names;
    size_t count, capacity;
} kept_list;

static kiln_status add_kept(kept_list *kept, const char *name)
{
    KLN_RETURN_IF_ERROR(KLN_GROW(kept->arena, kept->names, kept->count, kept->capacity));
    kept->names[kept->count++] = name;
    return KILN_OK;
}

/* Adds the names that match a pattern, in which * stands for any text. */
static kiln_status add_matching(kept_list *kept, const kln_onnx_graph *graph, const char *pattern)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        if (fnmatch(pattern, node->name, FNM_NOESCAPE) == 0) {
            KLN_RETURN_IF_ERROR(add_kept(kept, node->name));
        }
        for (size_t k = 0; k < node->output_count; k++) {
            if (fnmatch(pattern, node->outputs[k], FNM_NOESCAPE) == 0) {
                KLN_RETURN_IF_ERROR(add_kept(kept, node->outputs[k]));
            }
        }
        for (size_t k = 0; k < node->attribute_count; k++) {
            const kln_onnx_attribute *a = &node->attributes[k];
            if (a->graph != NULL) {
                KLN_RETURN_IF_ERROR(add_matching(kept, a->graph, pattern));
            }
            for (size_t g = 0; a->graphs != NULL && g < a->count; g++) {
                KLN_RETURN_IF_ERROR(add_matching(kept, a->graphs[g], pattern));
            }
        }
    }
    return KILN_OK;
}

/* A name that exists in the model is not treated as a pattern. */
static kiln_status find_kept(const kln_onnx_graph *graph, const kln_names *nodes, const char *name,
                             kept_list *kept)
{
    const size_t before = kept->count;
    if (kln_names_get(nodes, name) != KLN_NAMES_NONE) {
        return add_kept(kept, name);
    }
    if (strchr(name, '*') != NULL) {
        KLN_RETURN_IF_ERROR(add_matching(kept, graph, name));
    }
    return kept->count > before
               ? KILN_OK
               : kln_fail(KILN_ERROR_NAME,
                          "kiln_precision_options: \"%s\" is to stay, but the model has no such "
                          "node and no such tensor",
                          name);
}

kiln_status quantize_sort_kept(kln_arena *arena, const char *const **list, size_t count)
{
    const char **sorted;
    KLN_ARENA_NEW(arena, sorted, count + 1, "names to be kept");
    for (size_t i = 0; i < count; i++) {
        sorted[i] = (*list)[i];
    }
    qsort(sorted, count, sizeof *sorted, compare);
    *list = sorted;
    return KILN_OK;
}

/* An operator that this model lacks does no harm; one that no model has is a typing error, and so
 * is a node that does not exist. */
kiln_status quantize_keep(kln_onnx_model *model, kiln_precision_options *o)
{
    KLN_SCOPED(kln_names_finish) kln_names nodes = {0};
    KLN_SCOPED(kln_names_finish) kln_names operators = {0};
    if (o->keep_operator_count + o->keep_node_count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(list_names(&model->graph, &nodes, &operators));
    for (size_t i = 0; i < o->keep_operator_count; i++) {
        const char *name = o->keep_operators[i];
        KLN_RETURN_IF_NULL(name);
        KLN_RETURN_IF(
            kln_names_get(&operators, name) == KLN_NAMES_NONE && !kln_operator_known("", name),
            KILN_ERROR_NAME,
            "kiln_precision_options: \"%s\" is to stay, but ONNX and the model have no "
            "such operator",
            name);
    }
    kept_list kept = {.arena = &model->arena};
    for (size_t i = 0; i < o->keep_node_count; i++) {
        KLN_RETURN_IF_NULL(o->keep_nodes[i]);
        KLN_RETURN_IF_ERROR(find_kept(&model->graph, &nodes, o->keep_nodes[i], &kept));
    }
    o->keep_nodes = kept.names;
    o->keep_node_count = kept.count;
    KLN_RETURN_IF_ERROR(
        quantize_sort_kept(&model->arena, &o->keep_operators, o->keep_operator_count));
    return quantize_sort_kept(&model->arena, &o->keep_nodes, o->keep_node_count);
}
