/* SPDX-License-Identifier: Apache-2.0 */
/* Inspection of a network: bindings, metadata, and nodes with their inferred types. */
#include <kiln/inspect.h>

#include "kln_graph.h"

struct kiln_inspection {
    kln_onnx_model *model; /* of a file; NULL: the network has it */
    kiln_issue_list *issues;
    kln_inference *inference; /* its arena owns everything below */
    kiln_inspection_info info;
    kiln_binding *inputs;
    kiln_binding *outputs;
    kiln_metadata *metadata;
    kiln_inspection_node *nodes; /* NULL: not asked for */
    size_t node_capacity;
};

/* --- metadata --- */

static kiln_status add_metadata(kln_arena *arena, const char *prefix, const char *key,
                                const char *value, kiln_metadata *lines, size_t *count)
{
    if (value == NULL || value[0] == '\0') {
        return KILN_OK;
    }
    const kiln_metadata line = {kln_arena_printf(arena, "%s%s", prefix, key),
                                kln_arena_strdup(arena, value)};
    KLN_FAIL_IF(line.key == NULL || line.value == NULL,
                kln_fail_memory(strlen(value), "the metadata of a network"));
    lines[(*count)++] = line;
    return KILN_OK;
}

kiln_status kln_model_metadata(const kln_onnx_model *model, kln_arena *arena, kiln_metadata **lines,
                               size_t *count)
{
    char *version = kln_arena_printf(arena, "%lld", (long long)model->model_version);
    *count = 0;
    *lines = kln_arena_alloc_zeroed(arena, model->metadata_count + KLN_MODEL_METADATA_MORE,
                                    sizeof **lines);
    KLN_FAIL_IF(
        *lines == NULL || version == NULL,
        kln_fail_memory(model->metadata_count * sizeof **lines, "the metadata of a network"));
    const char *const known[][2] = {{"producer", model->producer_name},
                                    {"graph", model->graph.name},
                                    {"domain", model->domain},
                                    {"description", model->doc},
                                    {"version", model->model_version != 0 ? version : NULL}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(known); i++) {
        KLN_RETURN_IF_ERROR(add_metadata(arena, "", known[i][0], known[i][1], *lines, count));
    }
    for (size_t i = 0; i < model->metadata_count; i++) {
        KLN_RETURN_IF_ERROR(add_metadata(arena, "metadata.", model->metadata[i].key,
                                         model->metadata[i].value, *lines, count));
    }
    return KILN_OK;
}

/* --- inputs and outputs --- */

static void bind_value(const kln_value *value, kiln_binding *binding)
{
    if (value == NULL || value->kind != KLN_ONNX_KIND_TENSOR) {
        return;
    }
    binding->dtype = value->dtype;
    if (!kln_value_shape(value, &binding->shape)) {
        return;
    }
    for (size_t i = 0; i < value->rank; i++) {
        binding->dim_names[i] = kln_dim_name(value->dims[i]);
    }
}

static kiln_status bind(kiln_inspection *self, bool is_input, kiln_binding **bindings,
                        size_t *bound)
{
    const kln_graph_inference *inferred = self->inference->graph;
    const kln_onnx_graph *graph = &self->inference->model->graph;
    const kln_onnx_value *declared = is_input ? graph->inputs : graph->outputs;
    const size_t count = is_input ? graph->input_count : graph->output_count;
    KLN_ARENA_NEW(&self->inference->arena, *bindings, count + 1,
                  "the inputs and outputs of a network");
    for (size_t i = 0; i < count; i++) {
        const kln_value *value = kln_inference_find(inferred, declared[i].name);
        if (is_input && value != NULL && value->initializer != NULL) {
            continue;
        }
        kiln_binding *binding = &(*bindings)[(*bound)++];
        *binding = (kiln_binding){.struct_size = sizeof *binding,
                                  .name = declared[i].name,
                                  .is_input = is_input,
                                  .shape = {.rank = -1}};
        bind_value(value, binding);
    }
    return kln_graph_read_quantization(graph, &self->inference->arena, *bindings, *bound);
}

/* --- graphs --- */

/* The bytes of an initializer, even if its external file is missing. */
static uint64_t bytes_of(const kln_onnx_tensor *tensor)
{
    if (tensor->data.data != NULL || !tensor->is_external || tensor->external_length != 0) {
        return tensor->data.data != NULL ? tensor->data.size : tensor->external_length;
    }
    kiln_shape shape = {.rank = (int32_t)tensor->rank};
    size_t bytes = 0;
    if (tensor->rank > KILN_MAX_RANK) {
        return 0;
    }
    memcpy(shape.dims, tensor->dims, tensor->rank * sizeof *tensor->dims);
    return kiln_tensor_bytes(tensor->dtype, &shape, &bytes) == KILN_OK ? bytes : 0;
}

static void count_initializers(const kln_onnx_graph *graph, kiln_inspection_info *info)
{
    info->initializer_count += graph->initializer_count + graph->sparse_initializer_count;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kln_onnx_tensor *tensor = &graph->initializers[i];
        info->initializer_bytes += bytes_of(tensor);
        for (size_t k = 0; k < tensor->string_count; k++) {
            info->initializer_bytes += tensor->strings[k].size;
        }
    }
    for (size_t i = 0; i < graph->sparse_initializer_count; i++) {
        info->initializer_bytes += graph->sparse_initializers[i].size;
    }
}

static const char *type_of(kln_arena *arena, const kln_graph_inference *inferred, const char *name)
{
    const kln_value *value = inferred != NULL ? kln_inference_find(inferred, name) : NULL;
    if (name[0] == '\0' || value == NULL) {
        return name[0] == '\0' ? "" : "?";
    }
    const size_t length = kln_value_format(value, NULL, 0);
    char *text = kln_arena_alloc(arena, length + 1);
    if (text != NULL) {
        (void)kln_value_format(value, text, length + 1);
    }
    return text;
}

static kiln_status add_types(kln_arena *arena, const kln_graph_inference *inferred,
                             const char *const *names, size_t count, const char *const **types)
{
    const char **made = kln_arena_alloc_zeroed(arena, count + 1, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i] = type_of(arena, inferred, names[i]);
        if (made[i] == NULL) {
            made = NULL;
        }
    }
    *types = made;
    return made != NULL ? KILN_OK : kln_fail_memory(count * sizeof *made, "the types of a node");
}

/* One graph of those that lie inside one another. */
typedef struct graph_place {
    const kln_onnx_graph *graph;
    const kln_graph_inference *inferred; /* NULL: nothing is known of it */
    const char *attribute;
    size_t depth;
} graph_place;

static kiln_status add_node(kiln_inspection *self, const graph_place *place,
                            const kln_onnx_node *node)
{
    kln_arena *arena = &self->inference->arena;
    KLN_RETURN_IF_ERROR(KLN_GROW(arena, self->nodes, self->info.node_count, self->node_capacity));
    kiln_inspection_node *to = &self->nodes[self->info.node_count];
    *to = (kiln_inspection_node){.struct_size = sizeof *to,
                                 .name = node->name,
                                 .domain = kln_onnx_plain_domain(node->domain),
                                 .operator_type = node->op_type,
                                 .graph = place->attribute,
                                 .depth = place->depth,
                                 .input_count = node->input_count,
                                 .output_count = node->output_count,
                                 .inputs = node->inputs,
                                 .outputs = node->outputs};
    KLN_RETURN_IF_ERROR(
        add_types(arena, place->inferred, to->inputs, to->input_count, &to->input_types));
    return add_types(arena, place->inferred, to->outputs, to->output_count, &to->output_types);
}

static kiln_status walk(kiln_inspection *self, const graph_place *place, bool with_nodes);

static kiln_status walk_inside(kiln_inspection *self, const graph_place *place, size_t index,
                               bool with_nodes)
{
    const kln_onnx_node *node = &place->graph->nodes[index];
    const kln_node_inference *inferred =
        place->inferred != NULL && index < place->inferred->node_count
            ? &place->inferred->nodes[index]
            : NULL;
    for (size_t i = 0; i < node->attribute_count; i++) {
        const kln_onnx_attribute *attribute = &node->attributes[i];
        kln_onnx_graph *const *graphs = NULL;
        const size_t count = kln_onnx_graphs_of(attribute, &graphs);
        for (size_t k = 0; k < count; k++) {
            const graph_place inner = {.graph = graphs[k],
                                       .inferred = kln_inference_inside(inferred, graphs[k]),
                                       .attribute = attribute->name,
                                       .depth = place->depth + 1};
            KLN_RETURN_IF_ERROR(walk(self, &inner, with_nodes));
        }
    }
    return KILN_OK;
}

/* As deep as the reader let graphs lie inside one another. */
static kiln_status walk(kiln_inspection *self, const graph_place *place, bool with_nodes)
{
    count_initializers(place->graph, &self->info);
    for (size_t i = 0; i < place->graph->node_count; i++) {
        if (with_nodes) {
            KLN_RETURN_IF_ERROR(add_node(self, place, &place->graph->nodes[i]));
        }
        self->info.node_count++;
        KLN_RETURN_IF_ERROR(walk_inside(self, place, i, with_nodes));
    }
    return KILN_OK;
}

/* --- the whole --- */

static kiln_status fill(kiln_inspection *self, bool with_nodes)
{
    const kln_onnx_model *model = self->inference->model;
    kln_arena *arena = &self->inference->arena;
    self->info = (kiln_inspection_info){.struct_size = sizeof self->info,
                                        .ir_version = model->ir_version,
                                        .function_count = model->function_count,
                                        .opset_count = model->opset_count};
    KLN_RETURN_IF_ERROR(bind(self, true, &self->inputs, &self->info.input_count));
    KLN_RETURN_IF_ERROR(bind(self, false, &self->outputs, &self->info.output_count));
    KLN_RETURN_IF_ERROR(
        kln_model_metadata(model, arena, &self->metadata, &self->info.metadata_count));
    const graph_place main_graph = {
        .graph = &model->graph, .inferred = self->inference->graph, .attribute = ""};
    KLN_RETURN_IF_ERROR(with_nodes ? KLN_GROW(arena, self->nodes, 0, self->node_capacity)
                                   : KILN_OK);
    return walk(self, &main_graph, with_nodes);
}

/* Takes `own` over, unless it is NULL. */
KLN_SCOPED_POINTER(kiln_inspection, kiln_inspection_destroy)

static kiln_status inspect(const kln_onnx_model *model, kln_onnx_model *own, bool with_nodes,
                           kiln_inspection **inspection)
{
    KLN_SCOPED(kiln_inspection_destroy_at)
    kiln_inspection *made = kln_alloc_zeroed(1, sizeof *made);
    if (made == NULL) {
        kln_onnx_model_destroy(own);
        return kln_fail_memory(sizeof *made, "an inspection");
    }
    made->model = own;
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &made->inference));
    KLN_RETURN_IF_ERROR(fill(made, with_nodes));
    if (model->missing_count > 0) {
        KLN_RETURN_IF_ERROR(kln_issues_create(&made->issues));
        KLN_RETURN_IF_ERROR(kln_issues_add_missing(made->issues, model));
    }
    *inspection = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kiln_network_inspect(const kiln_network *network, bool with_nodes,
                                 kiln_inspection **inspection)
{
    KLN_RETURN_IF_NULL_RESULT(inspection, network);
    const kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_network_model(network, &model));
    KLN_RETURN_IF_ERROR(kln_network_whole(network));
    return inspect(model, NULL, with_nodes, inspection);
}

kiln_status kiln_inspect_file(const char *path, bool with_nodes, kiln_inspection **inspection)
{
    KLN_RETURN_IF_NULL_RESULT(inspection, path);
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_partly(path, &model));
    return inspect(model, model, with_nodes, inspection);
}

const kiln_issue_list *kiln_inspection_issues(const kiln_inspection *inspection)
{
    return inspection != NULL ? inspection->issues : NULL;
}

void kiln_inspection_destroy(kiln_inspection *inspection)
{
    if (inspection != NULL) {
        kln_inference_destroy(inspection->inference);
        kiln_issue_list_destroy(inspection->issues);
        kln_onnx_model_destroy(inspection->model);
        kln_free(inspection);
    }
}

/* --- looking --- */

static kiln_status check_index(const char *function, size_t index, size_t count)
{
    return index < count ? KILN_OK
                         : kln_fail(KILN_ERROR_INVALID_ARGUMENT, "%s: index is %zu, there are %zu",
                                    function, index, count);
}

kiln_status kiln_inspection_summary(const kiln_inspection *inspection, kiln_inspection_info *info)
{
    KLN_RETURN_IF_NULL(inspection, info);
    return kln_info_write(__func__, info, &inspection->info, sizeof *info);
}

static kiln_status write_binding(const char *function, const kiln_binding *bindings, size_t index,
                                 size_t count, kiln_binding *binding)
{
    KLN_RETURN_IF_ERROR(check_index(function, index, count));
    return kln_info_write(function, binding, &bindings[index], sizeof *binding);
}

kiln_status kiln_inspection_get_input(const kiln_inspection *inspection, size_t index,
                                      kiln_binding *input)
{
    KLN_RETURN_IF_NULL(inspection, input);
    return write_binding(__func__, inspection->inputs, index, inspection->info.input_count, input);
}

kiln_status kiln_inspection_get_output(const kiln_inspection *inspection, size_t index,
                                       kiln_binding *output)
{
    KLN_RETURN_IF_NULL(inspection, output);
    return write_binding(__func__, inspection->outputs, index, inspection->info.output_count,
                         output);
}

kiln_status kiln_inspection_get_opset(const kiln_inspection *inspection, size_t index,
                                      kiln_inspection_opset *opset)
{
    KLN_RETURN_IF_NULL(inspection, opset);
    KLN_RETURN_IF_ERROR(check_index(__func__, index, inspection->info.opset_count));
    const kln_onnx_opset *import = &inspection->inference->model->opsets[index];
    const char *domain = kln_onnx_plain_domain(import->domain);
    const kiln_inspection_opset found = {sizeof found, domain[0] != '\0' ? domain : "ai.onnx",
                                         import->version};
    return kln_info_write(__func__, opset, &found, sizeof found);
}

kiln_status kiln_inspection_get_metadata(const kiln_inspection *inspection, size_t index,
                                         kiln_metadata *metadata)
{
    KLN_RETURN_IF_NULL(inspection, metadata);
    KLN_RETURN_IF_ERROR(check_index(__func__, index, inspection->info.metadata_count));
    *metadata = inspection->metadata[index];
    return KILN_OK;
}

kiln_status kiln_inspection_get_node(const kiln_inspection *inspection, size_t index,
                                     kiln_inspection_node *node)
{
    KLN_RETURN_IF_NULL(inspection, node);
    KLN_RETURN_IF(inspection->nodes == NULL, KILN_ERROR_STATE,
                  "kiln_inspection_get_node: nodes were not asked for; call "
                  "kiln_network_inspect with with_nodes");
    KLN_RETURN_IF_ERROR(check_index(__func__, index, inspection->info.node_count));
    return kln_info_write(__func__, node, &inspection->nodes[index], sizeof *node);
}
