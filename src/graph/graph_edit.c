/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "kln_graph.h"

/* A node that is added. Those before the same node keep the order in which they came. */
typedef struct kln_graph_addition {
    size_t before;
    size_t turn;
    kln_onnx_node node;
} kln_graph_addition;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "a rewritten graph");
}

bool kln_graph_has(const kln_onnx_graph *graph, const char *op)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        if (kln_onnx_node_is(&graph->nodes[i], op)) {
            return true;
        }
    }
    return false;
}

bool kln_graph_edit_suits(const kln_onnx_model *model)
{
    const kln_onnx_graph *graph = &model->graph;
    for (size_t i = 0; i < graph->node_count; i++) {
        if (kln_onnx_holds_graphs(&graph->nodes[i])) {
            return false;
        }
    }
    return graph->node_count != 0;
}

const kln_graph_inference *kln_inference_inside(const kln_node_inference *known,
                                                const kln_onnx_graph *graph)
{
    const kln_graph_inference *found = NULL;
    for (size_t i = 0; known != NULL && i < known->graph_count; i++) {
        if (known->graphs[i] != NULL && known->graphs[i]->graph == graph) {
            found = known->graphs[i];
        }
    }
    return found;
}

/* --- the index --- */

static kiln_status count_reader(kln_names *readers, const char *name)
{
    const uint32_t before = kln_names_get(readers, name);
    return kln_names_set(readers, name, before == KLN_NAMES_NONE ? 1 : before + 1);
}

/* What these nodes and the graph's outputs read. */
static kiln_status count_readers(const kln_onnx_graph *graph, const kln_onnx_node *nodes,
                                 size_t count, kln_names *readers)
{
    for (size_t i = 0; i < graph->output_count; i++) {
        KLN_RETURN_IF_ERROR(count_reader(readers, graph->outputs[i].name));
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < nodes[i].input_count; k++) {
            KLN_RETURN_IF_ERROR(count_reader(readers, nodes[i].inputs[k]));
        }
    }
    return KILN_OK;
}

static kiln_status index_node(kln_graph_index *index, size_t place)
{
    const kln_onnx_node *node = &index->graph->nodes[place];
    for (size_t k = 0; k < node->input_count; k++) {
        KLN_RETURN_IF_ERROR(kln_names_set(&index->consumers, node->inputs[k], (uint32_t)place));
    }
    for (size_t k = 0; k < node->output_count; k++) {
        KLN_RETURN_IF_ERROR(kln_names_set(&index->producers, node->outputs[k], (uint32_t)place));
    }
    return KILN_OK;
}

kiln_status kln_graph_index_make(const kln_onnx_graph *graph, kln_graph_index *index)
{
    *index = (kln_graph_index){.graph = graph};
    KLN_RETURN_IF_ERROR(kln_onnx_name_initializers(graph, &index->constants));
    /* An initializer that is also an input is a default, which a caller may replace. */
    for (size_t i = 0; i < graph->input_count; i++) {
        KLN_RETURN_IF_ERROR(
            kln_names_set(&index->constants, graph->inputs[i].name, KLN_NAMES_NONE));
    }
    KLN_RETURN_IF_ERROR(count_readers(graph, graph->nodes, graph->node_count, &index->readers));
    for (size_t i = 0; i < graph->node_count; i++) {
        KLN_RETURN_IF_ERROR(index_node(index, i));
    }
    return KILN_OK;
}

void kln_graph_index_finish(kln_graph_index *index)
{
    kln_names_finish(&index->consumers);
    kln_names_finish(&index->producers);
    kln_names_finish(&index->readers);
    kln_names_finish(&index->constants);
}

const kln_onnx_tensor *kln_graph_index_constant(const kln_graph_index *index, const char *name)
{
    const uint32_t place =
        name[0] != '\0' ? kln_names_get(&index->constants, name) : KLN_NAMES_NONE;
    return place != KLN_NAMES_NONE ? &index->graph->initializers[place] : NULL;
}

const kln_onnx_node *kln_graph_index_node(const kln_graph_index *index, const kln_names *list,
                                          const char *name)
{
    const uint32_t place = name[0] != '\0' ? kln_names_get(list, name) : KLN_NAMES_NONE;
    return place != KLN_NAMES_NONE ? &index->graph->nodes[place] : NULL;
}

kiln_status kln_graph_edit_begin(kln_onnx_model *model, kln_graph_edit *edit)
{
    *edit = (kln_graph_edit){.model = model, .graph = &model->graph};
    edit->dropped = kln_alloc_zeroed(model->graph.node_count, sizeof *edit->dropped);
    return edit->dropped != NULL ? kln_graph_index_make(edit->graph, &edit->index) : no_memory();
}

void kln_graph_edit_end(kln_graph_edit *edit)
{
    kln_free(edit->weights);
    kln_free(edit->additions);
    kln_free(edit->dropped);
    kln_graph_index_finish(&edit->index);
}

const kln_onnx_tensor *kln_graph_edit_constant(const kln_graph_edit *edit, const char *name,
                                               size_t rank)
{
    const kln_onnx_tensor *tensor = kln_graph_index_constant(&edit->index, name);
    const bool fits = tensor != NULL && tensor->rank == rank && tensor->data.data != NULL &&
                      tensor->data.size != 0 && kiln_dtype_bits(tensor->dtype) >= 8;
    return fits ? tensor : NULL;
}

size_t kln_graph_edit_readers(const kln_graph_edit *edit, const char *name)
{
    const uint32_t count = kln_names_get(&edit->index.readers, name);
    return count == KLN_NAMES_NONE ? 0 : count;
}

const kln_onnx_node *kln_graph_edit_producer(const kln_graph_edit *edit, const char *name,
                                             const char *op, size_t *index)
{
    const kln_onnx_node *node = kln_graph_index_node(&edit->index, &edit->index.producers, name);
    if (node == NULL || (op != NULL && !kln_onnx_node_is(node, op))) {
        return NULL;
    }
    *index = (size_t)(node - edit->graph->nodes);
    return node;
}

const kln_onnx_node *kln_graph_edit_consumer(const kln_graph_edit *edit, const char *name,
                                             const char *op, size_t *index)
{
    const kln_onnx_node *node = kln_graph_index_node(&edit->index, &edit->index.consumers, name);
    if (node == NULL || kln_graph_edit_readers(edit, name) != 1 || !kln_onnx_node_is(node, op)) {
        return NULL;
    }
    *index = (size_t)(node - edit->graph->nodes);
    return node;
}

/* --- collecting changes --- */

void kln_graph_edit_import(kln_graph_edit *edit, const char *domain, int64_t version)
{
    edit->domain = domain;
    edit->domain_version = version;
}

void kln_graph_edit_drop(kln_graph_edit *edit, size_t index)
{
    edit->dropped[index] = true;
}

kln_onnx_node *kln_graph_edit_add_node(kln_graph_edit *edit, size_t before, const char *domain,
                                       const char *op, const char *const *inputs,
                                       size_t input_count, const char *const *outputs,
                                       size_t output_count)
{
    if (KLN_GROW(NULL, edit->additions, edit->addition_count, edit->addition_capacity) != KILN_OK) {
        return NULL;
    }
    kln_graph_addition *made = &edit->additions[edit->addition_count];
    *made = (kln_graph_addition){.before = before, .turn = edit->addition_count};
    if (kln_onnx_make_node(&edit->model->arena, op, inputs, input_count, outputs, output_count,
                           KLN_GRAPH_EDIT_ATTRIBUTES, &made->node) != KILN_OK) {
        return NULL;
    }
    made->node.domain = domain;
    edit->addition_count++;
    return &made->node;
}

void kln_graph_edit_set_int(kln_onnx_node *node, const char *name, int64_t value)
{
    node->attributes[node->attribute_count++] =
        (kln_onnx_attribute){.name = name, .type = KLN_ONNX_ATTRIBUTE_INT, .i = value};
}

void kln_graph_edit_set_float(kln_onnx_node *node, const char *name, float value)
{
    node->attributes[node->attribute_count++] =
        (kln_onnx_attribute){.name = name, .type = KLN_ONNX_ATTRIBUTE_FLOAT, .f = value};
}

kln_onnx_tensor *kln_graph_edit_add_weights(kln_graph_edit *edit, const char *stem,
                                            const char *what, kiln_dtype dtype, size_t rank,
                                            const int64_t *dims)
{
    kln_arena *arena = &edit->model->arena;
    size_t bytes = kiln_dtype_bits(dtype) / 8;
    kln_onnx_tensor *made = kln_arena_alloc_zeroed(arena, 1, sizeof *made);
    if (made == NULL ||
        KLN_GROW(NULL, edit->weights, edit->weight_count, edit->weight_capacity) != KILN_OK) {
        return NULL;
    }
    *made = (kln_onnx_tensor){.dtype = dtype,
                              .wire_dtype = kln_onnx_wire_dtype(dtype),
                              .rank = rank,
                              .name = kln_arena_printf(arena, "%s/%s", stem, what),
                              .dims = kln_arena_alloc_zeroed(arena, rank, sizeof(int64_t))};
    if (made->name == NULL || made->dims == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < rank; i++) {
        made->dims[i] = dims[i];
        bytes *= (size_t)dims[i];
    }
    made->data = (kiln_span){kln_arena_alloc(arena, bytes), bytes};
    if (made->data.data == NULL) {
        return NULL;
    }
    edit->weights[edit->weight_count++] = made;
    return made;
}

/* --- committing --- */

static int compare_additions(const void *left, const void *right)
{
    const kln_graph_addition *a = left;
    const kln_graph_addition *b = right;
    if (a->before != b->before) {
        return a->before < b->before ? -1 : 1;
    }
    return a->turn < b->turn ? -1 : a->turn > b->turn;
}

static void place_nodes(kln_graph_edit *edit, kln_onnx_node *nodes, size_t *count)
{
    size_t next = 0;
    qsort(edit->additions, edit->addition_count, sizeof *edit->additions, compare_additions);
    *count = 0;
    for (size_t i = 0; i < edit->graph->node_count; i++) {
        while (next < edit->addition_count && edit->additions[next].before <= i) {
            nodes[(*count)++] = edit->additions[next++].node;
        }
        if (!edit->dropped[i]) {
            nodes[(*count)++] = edit->graph->nodes[i];
        }
    }
    while (next < edit->addition_count) {
        nodes[(*count)++] = edit->additions[next++].node;
    }
}

/* Leaves out constants that only dropped nodes read. */
static void place_constants(const kln_graph_edit *edit, const kln_names *readers,
                            kln_onnx_tensor *constants, size_t *count)
{
    const kln_onnx_graph *graph = edit->graph;
    *count = 0;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const char *name = graph->initializers[i].name;
        if (kln_names_get(readers, name) != KLN_NAMES_NONE ||
            kln_names_get(&edit->index.readers, name) == KLN_NAMES_NONE) {
            constants[(*count)++] = graph->initializers[i];
        }
    }
    for (size_t i = 0; i < edit->weight_count; i++) {
        constants[(*count)++] = *edit->weights[i];
    }
}

kiln_status kln_graph_edit_commit(kln_graph_edit *edit)
{
    kln_onnx_graph *graph = edit->graph;
    kln_arena *arena = &edit->model->arena;
    const size_t most_nodes = graph->node_count + edit->addition_count;
    const size_t most_constants = graph->initializer_count + edit->weight_count;
    size_t node_count = 0;
    size_t constant_count = 0;
    KLN_SCOPED(kln_names_finish) kln_names readers = {0};
    kln_onnx_node *nodes = kln_arena_alloc_zeroed(arena, most_nodes, sizeof *nodes);
    kln_onnx_tensor *constants = kln_arena_alloc_zeroed(arena, most_constants, sizeof *constants);
    KLN_FAIL_IF(nodes == NULL || constants == NULL, no_memory());
    place_nodes(edit, nodes, &node_count);
    KLN_RETURN_IF_ERROR(count_readers(graph, nodes, node_count, &readers));
    place_constants(edit, &readers, constants, &constant_count);
    if (edit->domain != NULL) {
        KLN_RETURN_IF_ERROR(kln_onnx_import(edit->model, edit->domain, edit->domain_version));
    }
    graph->nodes = nodes;
    graph->node_count = node_count;
    graph->node_capacity = most_nodes;
    graph->initializers = constants;
    graph->initializer_count = constant_count;
    graph->initializer_capacity = most_constants;
    return KILN_OK;
}
