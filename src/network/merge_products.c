/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kln_network.h"

/* Split takes its sizes as an input from here on. */
#define FIRST_OPSET 13

/* A product of `x` with a matrix of constants, and the bias that is added to it, if any. */
typedef struct product {
    uint32_t node;
    uint32_t add; /* KLN_NO_NODE: there is no bias */
    const char *x;
    const char *output;
    const kln_onnx_tensor *matrix;
    const kln_onnx_tensor *bias; /* or NULL */
    bool merged;
} product;

typedef struct merger {
    kln_onnx_model *model;
    kln_onnx_graph *graph;
    kln_names constants; /* by name, the initializer's index */
    kln_names readers;   /* by name, how many read it */
    kln_names adders;    /* by name, the last Add that reads it */
    product *products;
    size_t count;
    kln_onnx_node *nodes; /* the new list */
    size_t node_count;
    bool *dropped;    /* for each node of the old list */
    const char *name; /* of the group that is being merged: its first output */
    size_t groups;
} merger;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(product), "products in one");
}

static bool is_op(const kln_onnx_node *node, const char *op)
{
    return strcmp(node->op_type, op) == 0 &&
           (node->domain[0] == '\0' || strcmp(node->domain, "ai.onnx") == 0);
}

/* Whether names inside other graphs can refer to this one's. */
static bool has_inner_graphs(const kln_onnx_graph *graph)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        for (size_t k = 0; k < graph->nodes[i].attribute_count; k++) {
            const kln_onnx_attribute_type type = graph->nodes[i].attributes[k].type;
            if (type == KLN_ONNX_ATTRIBUTE_GRAPH || type == KLN_ONNX_ATTRIBUTE_GRAPHS) {
                return true;
            }
        }
    }
    return false;
}

static kiln_status count_reader(merger *m, const char *name)
{
    const uint32_t before = kln_names_get(&m->readers, name);
    return kln_names_set(&m->readers, name, before == KLN_NAMES_NONE ? 1 : before + 1);
}

static kiln_status index_graph(merger *m)
{
    const kln_onnx_graph *graph = m->graph;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(&m->constants, graph->initializers[i].name, (uint32_t)i));
    }
    /* An initializer that is an input too is a default, which a caller may replace. */
    for (size_t i = 0; i < graph->input_count; i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(&m->constants, graph->inputs[i].name, KLN_NAMES_NONE));
    }
    for (size_t i = 0; i < graph->output_count; i++) {
        KLN_RETURN_IF_ERROR(count_reader(m, graph->outputs[i].name));
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            KLN_RETURN_IF_ERROR(count_reader(m, node->inputs[k]));
            if (is_op(node, "Add")) {
                KLN_RETURN_IF_ERROR(kln_names_set(&m->adders, node->inputs[k], (uint32_t)i));
            }
        }
    }
    return KILN_OK;
}

/* The constant of that name with so many dimensions, its elements whole bytes that lie in memory;
 * or NULL. */
static const kln_onnx_tensor *constant_of(const merger *m, const char *name, size_t rank)
{
    const uint32_t index = kln_names_get(&m->constants, name);
    if (index == KLN_NAMES_NONE) {
        return NULL;
    }
    const kln_onnx_tensor *tensor = &m->graph->initializers[index];
    const bool fits = tensor->rank == rank && tensor->data.data != NULL && tensor->data.size != 0 &&
                      kiln_dtype_bits(tensor->dtype) >= 8;
    return fits ? tensor : NULL;
}

/* The bias of a product that nothing but an Add reads. */
static void find_bias(const merger *m, product *found)
{
    const uint32_t index = kln_names_get(&m->adders, found->output);
    if (index == KLN_NAMES_NONE || kln_names_get(&m->readers, found->output) != 1) {
        return;
    }
    const kln_onnx_node *add = &m->graph->nodes[index];
    if (add->input_count != 2 || add->output_count != 1) {
        return;
    }
    const size_t other = strcmp(add->inputs[0], found->output) == 0 ? 1 : 0;
    const kln_onnx_tensor *bias = constant_of(m, add->inputs[other], 1);
    if (bias != NULL && bias->dtype == found->matrix->dtype &&
        bias->dims[0] == found->matrix->dims[1]) {
        found->bias = bias;
        found->add = index;
        found->output = add->outputs[0];
    }
}

static void find_products(merger *m)
{
    for (size_t i = 0; i < m->graph->node_count; i++) {
        const kln_onnx_node *node = &m->graph->nodes[i];
        if (!is_op(node, "MatMul") || node->input_count != 2 || node->output_count != 1) {
            continue;
        }
        const kln_onnx_tensor *matrix = constant_of(m, node->inputs[1], 2);
        if (matrix == NULL) {
            continue;
        }
        product *found = &m->products[m->count++];
        *found = (product){.node = (uint32_t)i,
                           .add = KLN_NO_NODE,
                           .x = node->inputs[0],
                           .output = node->outputs[0],
                           .matrix = matrix};
        find_bias(m, found);
    }
}

static bool go_together(const product *a, const product *b)
{
    return !b->merged && strcmp(a->x, b->x) == 0 && a->matrix->dtype == b->matrix->dtype &&
           a->matrix->dims[0] == b->matrix->dims[0] && (a->bias == NULL) == (b->bias == NULL);
}

/* --- the new weights and nodes --- */

static kln_onnx_tensor *add_constant(merger *m, const char *what, kiln_dtype dtype, size_t rank,
                                     size_t bytes)
{
    kln_onnx_graph *graph = m->graph;
    kln_arena *arena = &m->model->arena;
    kln_onnx_tensor *made = &graph->initializers[graph->initializer_count];
    *made = (kln_onnx_tensor){.dtype = dtype,
                              .wire_dtype = kln_onnx_wire_dtype(dtype),
                              .rank = rank,
                              .name = kln_arena_printf(arena, "%s/merged_%s", m->name, what),
                              .dims = kln_arena_alloc_zeroed(arena, rank, sizeof(int64_t)),
                              .data = {kln_arena_alloc(arena, bytes), bytes}};
    if (made->name == NULL || made->dims == NULL || made->data.data == NULL) {
        return NULL;
    }
    graph->initializer_count++;
    return made;
}

static kln_onnx_node *add_node(merger *m, const char *op, const char *first, const char *second,
                               size_t output_count)
{
    kln_arena *arena = &m->model->arena;
    kln_onnx_node *made = &m->nodes[m->node_count];
    *made = (kln_onnx_node){.op_type = op,
                            .domain = "",
                            .overload = "",
                            .name = kln_arena_printf(arena, "%s/merged_%s", m->name, op),
                            .inputs = kln_arena_alloc_zeroed(arena, 2, sizeof(char *)),
                            .input_count = 2,
                            .outputs = kln_arena_alloc_zeroed(arena, output_count, sizeof(char *)),
                            .output_count = output_count};
    if (made->name == NULL || made->inputs == NULL || made->outputs == NULL) {
        return NULL;
    }
    made->inputs[0] = first;
    made->inputs[1] = second;
    made->outputs[0] = made->name;
    m->node_count++;
    return made;
}

/* Row by row, one matrix beside the other. A bias has one row. */
static void copy_columns(const kln_onnx_tensor *from, size_t rows, size_t width, size_t *column,
                         const kln_onnx_tensor *to)
{
    unsigned char *target = (unsigned char *)(uintptr_t)to->data.data;
    const unsigned char *source = from->data.data;
    const size_t own = from->data.size / rows;
    for (size_t r = 0; r < rows; r++) {
        memcpy(target + r * width + *column, source + r * own, own);
    }
    *column += own;
}

static kiln_status add_weights(merger *m, product *const *group, size_t count, int64_t columns,
                               kln_onnx_tensor *made[3])
{
    const kln_onnx_tensor *first = group[0]->matrix;
    const size_t element = kiln_dtype_bits(first->dtype) / 8;
    const size_t rows = (size_t)first->dims[0];
    const size_t width = (size_t)columns * element;
    made[0] = add_constant(m, "matrix", first->dtype, 2, rows * width);
    made[1] = group[0]->bias != NULL ? add_constant(m, "bias", first->dtype, 1, width) : NULL;
    made[2] = add_constant(m, "sizes", KILN_DTYPE_INT64, 1, count * sizeof(int64_t));
    if (made[0] == NULL || made[2] == NULL || (made[1] == NULL && group[0]->bias != NULL)) {
        return no_memory();
    }
    size_t matrix_column = 0;
    size_t bias_column = 0;
    int64_t *sizes = (int64_t *)(uintptr_t)made[2]->data.data;
    for (size_t i = 0; i < count; i++) {
        sizes[i] = group[i]->matrix->dims[1];
        copy_columns(group[i]->matrix, rows, width, &matrix_column, made[0]);
        if (made[1] != NULL) {
            copy_columns(group[i]->bias, 1, width, &bias_column, made[1]);
        }
    }
    made[0]->dims[0] = first->dims[0];
    made[0]->dims[1] = columns;
    made[2]->dims[0] = (int64_t)count;
    if (made[1] != NULL) {
        made[1]->dims[0] = columns;
    }
    return KILN_OK;
}

static kiln_status add_split(merger *m, product *const *group, size_t count, const char *whole,
                             const char *sizes)
{
    kln_onnx_node *split = add_node(m, "Split", whole, sizes, count);
    kln_onnx_attribute *axis = kln_arena_alloc_zeroed(&m->model->arena, 1, sizeof *axis);
    if (split == NULL || axis == NULL) {
        return no_memory();
    }
    *axis = (kln_onnx_attribute){.name = "axis", .type = KLN_ONNX_ATTRIBUTE_INT, .i = -1};
    split->attributes = axis;
    split->attribute_count = 1;
    for (size_t i = 0; i < count; i++) {
        split->outputs[i] = group[i]->output;
    }
    return KILN_OK;
}

static kiln_status merge_group(merger *m, product *const *group, size_t count)
{
    kln_onnx_tensor *made[3];
    int64_t columns = 0;
    m->name = group[0]->output;
    for (size_t i = 0; i < count; i++) {
        columns += group[i]->matrix->dims[1];
        group[i]->merged = true;
        m->dropped[group[i]->node] = true;
        if (group[i]->add != KLN_NO_NODE) {
            m->dropped[group[i]->add] = true;
        }
    }
    KLN_RETURN_IF_ERROR(add_weights(m, group, count, columns, made));
    const kln_onnx_node *last = add_node(m, "MatMul", group[0]->x, made[0]->name, 1);
    if (last != NULL && made[1] != NULL) {
        last = add_node(m, "Add", last->name, made[1]->name, 1);
    }
    if (last == NULL) {
        return no_memory();
    }
    KLN_RETURN_IF_ERROR(add_split(m, group, count, last->name, made[2]->name));
    m->groups++;
    return KILN_OK;
}

/* The products that begin at `first`, as one; itself where it stands alone. */
static kiln_status merge_from(merger *m, size_t first, product **group)
{
    size_t count = 0;
    for (size_t i = first; i < m->count; i++) {
        if (go_together(&m->products[first], &m->products[i])) {
            group[count++] = &m->products[i];
        }
    }
    return count > 1 ? merge_group(m, group, count) : KILN_OK;
}

static kiln_status rewrite(merger *m, product **group)
{
    const kln_onnx_graph *graph = m->graph;
    size_t next = 0;
    for (size_t i = 0; i < graph->node_count; i++) {
        if (next < m->count && m->products[next].node == i) {
            if (!m->products[next].merged) {
                KLN_RETURN_IF_ERROR(merge_from(m, next, group));
            }
            next++;
        }
        if (!m->dropped[i]) {
            m->nodes[m->node_count++] = graph->nodes[i];
        }
    }
    return KILN_OK;
}

/* Constants that only the old products read would be handed on for nothing. */
static kiln_status drop_constants(merger *m)
{
    kln_onnx_graph *graph = m->graph;
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++) {
        const kln_onnx_tensor *const old[] = {m->products[i].matrix, m->products[i].bias};
        for (size_t k = 0; m->products[i].merged && k < KLN_ARRAY_LENGTH(old); k++) {
            if (old[k] != NULL && kln_names_get(&m->readers, old[k]->name) != KLN_NAMES_NONE) {
                KLN_RETURN_IF_ERROR(kln_names_set(&m->readers, old[k]->name,
                                                  kln_names_get(&m->readers, old[k]->name) - 1));
            }
        }
    }
    for (size_t i = 0; i < graph->initializer_count; i++) {
        if (kln_names_get(&m->readers, graph->initializers[i].name) != 0) {
            graph->initializers[kept++] = graph->initializers[i];
        }
    }
    graph->initializer_count = kept;
    return KILN_OK;
}

static kiln_status merge(merger *m, product **group)
{
    kln_onnx_graph *graph = m->graph;
    kln_arena *arena = &m->model->arena;
    KLN_RETURN_IF_ERROR(index_graph(m));
    find_products(m);
    /* Three nodes and three constants at most take the place of two products at least. */
    const size_t nodes = graph->node_count + 2 * m->count;
    const size_t constants = graph->initializer_count + 2 * m->count;
    m->nodes = kln_arena_alloc_zeroed(arena, nodes, sizeof *m->nodes);
    kln_onnx_tensor *initializers = kln_arena_alloc_zeroed(arena, constants, sizeof *initializers);
    if (m->nodes == NULL || initializers == NULL) {
        return no_memory();
    }
    /* What points to the old list goes on doing so: it stays as it is. */
    memcpy(initializers, graph->initializers, graph->initializer_count * sizeof *initializers);
    const kln_onnx_graph before = *graph;
    graph->initializers = initializers;
    graph->initializer_capacity = constants;
    const kiln_status status = rewrite(m, group);
    if (status != KILN_OK || m->groups == 0) {
        *graph = before;
        return status;
    }
    graph->nodes = m->nodes;
    graph->node_count = m->node_count;
    graph->node_capacity = nodes;
    return drop_constants(m);
}

kiln_status kln_merge_products(kln_onnx_model *model, size_t *merged)
{
    kln_onnx_graph *graph = &model->graph;
    merger m = {.model = model, .graph = graph};
    *merged = 0;
    if (kln_onnx_opset_version(model, "") < FIRST_OPSET || graph->node_count == 0 ||
        graph->initializer_count == 0 || has_inner_graphs(graph)) {
        return KILN_OK;
    }
    kln_names_init(&m.constants);
    kln_names_init(&m.readers);
    kln_names_init(&m.adders);
    m.products = kln_alloc_zeroed(graph->node_count, sizeof *m.products);
    m.dropped = kln_alloc_zeroed(graph->node_count, sizeof *m.dropped);
    product **group = kln_alloc_zeroed(graph->node_count, sizeof *group);
    const kiln_status status =
        m.products != NULL && m.dropped != NULL && group != NULL ? merge(&m, group) : no_memory();
    *merged = status == KILN_OK ? m.groups : 0;
    kln_free(group);
    kln_free(m.dropped);
    kln_free(m.products);
    kln_names_finish(&m.adders);
    kln_names_finish(&m.readers);
    kln_names_finish(&m.constants);
    return status;
}
