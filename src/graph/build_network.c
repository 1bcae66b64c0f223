/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/version.h>

#include "build_layer.h"

/* In the table of names: taken, but not by a tensor that can be looked up. */
#define USED_NAME (KLN_NAMES_NONE - 1)

/* --- tensors and names --- */

kiln_status kln_network_room(kiln_network *network)
{
    KLN_RETURN_IF(network->tensor_count > (size_t)KLN_ID_MASK, KILN_ERROR_LIMIT,
                  "a network of more than %d tensors was refused", (int)KLN_ID_MASK);
    return KLN_GROW(NULL, network->tensors, network->tensor_count, network->tensor_capacity);
}

kiln_status kln_network_register(kiln_network *network, const char *name, uint32_t hash,
                                 bool is_refused, kiln_tensor_id *id)
{
    uint32_t before = KLN_NAMES_NONE;
    KLN_RETURN_IF_ERROR(kln_network_room(network));
    *id = network->number << KLN_ID_BITS | (kiln_tensor_id)network->tensor_count;
    KLN_RETURN_IF_ERROR(
        kln_names_swap_hashed(&network->root->names, name, hash, (uint32_t)*id, &before));
    if (before != KLN_NAMES_NONE) {
        KLN_RETURN_IF_ERROR(kln_names_set(&network->root->names, name, before));
        return kln_fail(KILN_ERROR_NAME, "the name \"%s\" is in use", name);
    }
    network->tensors[network->tensor_count++] =
        (kln_built_tensor){.name = name, .is_refused = is_refused};
    return KILN_OK;
}

kiln_status kln_network_import(kiln_network *network, const char *domain, int64_t version)
{
    kln_onnx_model *model = network->model;
    kiln_network *root = network->root;
    const char *plain = kln_onnx_plain_domain(domain);
    const uint32_t place = kln_names_get(&root->imports, plain);
    /* A failed layer undoes its import. */
    if (place < model->opset_count &&
        strcmp(kln_onnx_plain_domain(model->opsets[place].domain), plain) == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(
        KLN_GROW(&model->arena, model->opsets, model->opset_count, root->import_capacity));
    KLN_RETURN_IF_ERROR(kln_names_set(&root->imports, plain, (uint32_t)model->opset_count));
    model->opsets[model->opset_count++] =
        (kln_onnx_opset){.domain = domain, .version = version, .present = 2};
    return KILN_OK;
}

int64_t kln_network_opset_of(const kiln_network *network)
{
    return kln_onnx_opset_version(network->model, "");
}

/* --- creating and destroying --- */

static kiln_status make(kln_onnx_model *model, kiln_network **result)
{
    kiln_network *network = kln_alloc_zeroed(1, sizeof *network);
    KLN_RETURN_IF_NO_MEMORY(network, sizeof *network, "a network");
    network->model = model;
    network->graph = &model->graph;
    network->root = network;
    network->branch_count = 1;
    *result = network;
    return KILN_OK;
}

static void finish(kiln_network *network)
{
    kln_free(network->tensors);
    kln_names_finish(&network->names);
    kln_names_finish(&network->imports);
    kln_free(network);
}

void kiln_network_destroy(kiln_network *network)
{
    if (network == NULL || network->root != network) {
        return;
    }
    kiln_network *branch = network->branches;
    while (branch != NULL) {
        kiln_network *next = branch->next;
        finish(branch);
        branch = next;
    }
    kln_inference_destroy(network->inference);
    kiln_issue_list_destroy(network->issues);
    kln_onnx_model_destroy(network->model);
    finish(network);
}

static kiln_status fill(kiln_network *network, const kiln_network_options *options)
{
    kln_onnx_model *model = network->model;
    const int32_t opset = options->opset != 0 ? options->opset : KILN_OPSET_DEFAULT;
    model->graph.name =
        kln_arena_strdup(&model->arena, options->name != NULL ? options->name : "network");
    model->producer_name = "kiln";
    model->producer_version = kiln_version_string();
    model->ir_version = kln_onnx_ir_of_opset(opset);
    KLN_RETURN_IF_NO_MEMORY(model->graph.name, 1, "a network's name");
    return kln_network_import(network, "", opset);
}

/* A network that owns the model. On an error the model is destroyed. */
static kiln_status make_over(kln_onnx_model *model, kiln_network **network)
{
    const kiln_status status = make(model, network);
    if (status != KILN_OK) {
        kln_onnx_model_destroy(model);
    }
    return status;
}

kiln_status kiln_network_create(const kiln_network_options *options, kiln_network **network)
{
    KLN_RETURN_IF_NULL_RESULT(network);
    kiln_network_options read = KILN_NETWORK_OPTIONS_INIT;
    kln_onnx_model *model = NULL;
    KLN_SCOPED(kiln_network_destroy_at) kiln_network *made = NULL;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_network_options", options, &read, sizeof read));
    KLN_RETURN_IF(
        read.opset != 0 && (read.opset < KILN_OPSET_OLDEST || read.opset > KILN_OPSET_NEWEST),
        KILN_ERROR_INVALID_ARGUMENT, "kiln_network_options: opset is %d, %d to %d can be built in",
        read.opset, KILN_OPSET_OLDEST, KILN_OPSET_NEWEST);
    KLN_RETURN_IF_ERROR(kln_onnx_model_create(&model));
    KLN_RETURN_IF_ERROR(make_over(model, &made));
    KLN_RETURN_IF_ERROR(fill(made, &read));
    *network = KLN_TAKE(made);
    return KILN_OK;
}

/* --- from ONNX --- */

/* A name of the file's: two tensors of one name are for the validation, the first one is found. */
static kiln_status take_tensor(kiln_network *network, const char *name)
{
    kiln_tensor_id id = KILN_NO_TENSOR;
    if (name[0] == '\0' || kln_names_get(&network->names, name) != KLN_NAMES_NONE) {
        return KILN_OK;
    }
    return kln_network_register(network, name, kln_names_hash(name), false, &id);
}

static kiln_status use_name(kiln_network *network, const char *name)
{
    return name[0] == '\0' || kln_names_get(&network->names, name) != KLN_NAMES_NONE
               ? KILN_OK
               : kln_names_set(&network->names, name, USED_NAME);
}

/* The names of tensors that the graph itself has. */
static kiln_status each_tensor(kiln_network *network, const kln_onnx_graph *graph,
                               kiln_status (*take)(kiln_network *network, const char *name))
{
    for (size_t i = 0; i < graph->input_count; i++) {
        KLN_RETURN_IF_ERROR(take(network, graph->inputs[i].name));
    }
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(take(network, graph->initializers[i].name));
    }
    for (size_t i = 0; i < graph->sparse_initializer_count; i++) {
        KLN_RETURN_IF_ERROR(take(network, graph->sparse_initializer_names[i]));
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        for (size_t k = 0; k < graph->nodes[i].output_count; k++) {
            KLN_RETURN_IF_ERROR(take(network, graph->nodes[i].outputs[k]));
        }
    }
    return KILN_OK;
}

/* Of nodes, and of all that lies in them. As deep as the reader let graphs lie inside one another.
 */
static kiln_status use_names_of_nodes(kiln_network *network, const kln_onnx_graph *graph)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        KLN_RETURN_IF_ERROR(use_name(network, node->name));
        for (size_t a = 0; a < node->attribute_count; a++) {
            kln_onnx_graph *const *inner = NULL;
            const size_t count = kln_onnx_graphs_of(&node->attributes[a], &inner);
            for (size_t k = 0; k < count; k++) {
                KLN_RETURN_IF_ERROR(each_tensor(network, inner[k], use_name));
                KLN_RETURN_IF_ERROR(use_names_of_nodes(network, inner[k]));
            }
        }
    }
    return KILN_OK;
}

static kiln_status take_names(kiln_network *network)
{
    const kln_onnx_graph *graph = network->graph;
    KLN_RETURN_IF_ERROR(each_tensor(network, graph, take_tensor));
    KLN_RETURN_IF_ERROR(use_names_of_nodes(network, graph));
    for (size_t i = 0; i < graph->output_count; i++) {
        const uint32_t id = kln_names_get(&network->names, graph->outputs[i].name);
        kln_built_tensor *tensor =
            id < USED_NAME ? kln_network_tensor(network, (kiln_tensor_id)id) : NULL;
        if (tensor != NULL) {
            tensor->is_output = true;
        }
    }
    return KILN_OK;
}

/* Takes the model over, on an error too. */
static kiln_status take_model(kln_onnx_model *model, kiln_network **network)
{
    KLN_SCOPED(kiln_network_destroy_at) kiln_network *made = NULL;
    KLN_RETURN_IF_ERROR(make_over(model, &made));
    KLN_RETURN_IF_ERROR(take_names(made));
    *network = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kiln_network_from_onnx(const char *path, kiln_network **network)
{
    KLN_RETURN_IF_NULL_RESULT(network, path);
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_file(path, &model));
    return take_model(model, network);
}

kiln_status kiln_network_from_bytes(kiln_span bytes, const char *folder, kiln_network **network)
{
    KLN_RETURN_IF_NULL_RESULT(network);
    if (bytes.size > 0) {
        KLN_RETURN_IF_NULL(bytes.data);
    }
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_bytes(bytes, folder, &model));
    return take_model(model, network);
}

kiln_status kiln_network_save_onnx(const kiln_network *network, const char *path,
                                   kiln_weights_place weights)
{
    KLN_RETURN_IF_NULL(network, path);
    KLN_RETURN_IF(network->root != network, KILN_ERROR_STATE,
                  "kiln_network_save_onnx: a branch is saved with its network");
    KLN_RETURN_IF(weights != KILN_WEIGHTS_INLINE && weights != KILN_WEIGHTS_EXTERNAL,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_network_save_onnx: weights is %d, 0 (inline) or 1 (external) is needed",
                  (int)weights);
    KLN_RETURN_IF_ERROR(kln_network_whole(network));
    return kln_network_write(
        network, path,
        weights == KILN_WEIGHTS_INLINE ? KLN_ONNX_WEIGHTS_INLINE : KLN_ONNX_WEIGHTS_EXTERNAL);
}

kiln_status kln_network_model(const kiln_network *network, const kln_onnx_model **model)
{
    KLN_RETURN_IF(network->root != network, KILN_ERROR_STATE, "a branch is built with its network");
    *model = network->model;
    return KILN_OK;
}

kiln_status kln_network_rewrite(kiln_network *network, kln_onnx_model **model)
{
    KLN_RETURN_IF_ERROR(kln_network_edit(network, model));
    return network->branches == NULL ? KILN_OK
                                     : kln_fail(KILN_ERROR_STATE,
                                                "a network with branches that were built here is "
                                                "rewritten after it was saved and read again");
}

/* Takes over the tensors and names of `made`, which is consumed. */
static void take_tables(kiln_network *network, kiln_network *made)
{
    kln_network_forget(network);
    kln_free(network->tensors);
    kln_names_finish(&network->names);
    kln_names_finish(&network->imports);
    network->tensors = made->tensors;
    network->tensor_count = made->tensor_count;
    network->tensor_capacity = made->tensor_capacity;
    network->names = made->names;
    network->imports = made->imports;
    network->import_capacity = made->import_capacity;
    kln_free(made);
}

kiln_status kln_network_rewritten(kiln_network *network)
{
    kiln_network *made = NULL;
    KLN_RETURN_IF_ERROR(make(network->model, &made));
    const kiln_status status = take_names(made);
    if (status != KILN_OK) {
        finish(made);
        return status;
    }
    take_tables(network, made);
    return KILN_OK;
}

kiln_status kln_network_fork(kiln_network *network, kiln_network **changed)
{
    kln_onnx_model *model = NULL;
    kln_onnx_model *shared = NULL;
    KLN_RETURN_IF_ERROR(kln_network_rewrite(network, &model));
    KLN_RETURN_IF_ERROR(kln_onnx_model_share(model, &shared));
    return take_model(shared, changed);
}

void kln_network_take(kiln_network *network, kiln_network *changed)
{
    kln_network_forget(changed);
    kln_onnx_model_destroy(network->model);
    network->model = changed->model;
    network->graph = &changed->model->graph;
    take_tables(network, changed);
}

/* --- looking --- */

int32_t kiln_network_opset(const kiln_network *network)
{
    return network != NULL ? (int32_t)kln_network_opset_of(network) : 0;
}

size_t kiln_network_input_count(const kiln_network *network)
{
    return network != NULL ? network->graph->input_count : 0;
}

size_t kiln_network_output_count(const kiln_network *network)
{
    return network != NULL ? network->graph->output_count : 0;
}

size_t kiln_network_layer_count(const kiln_network *network)
{
    return network != NULL ? network->graph->node_count : 0;
}

const char *kiln_network_tensor_name(const kiln_network *network, kiln_tensor_id tensor)
{
    const kln_built_tensor *built = network != NULL ? kln_network_tensor(network, tensor) : NULL;
    return built != NULL ? built->name : NULL;
}

kiln_status kiln_network_find(kiln_network *network, const char *name, kiln_tensor_id *tensor)
{
    KLN_RETURN_IF_NULL(network, name, tensor);
    const uint32_t id = kln_names_get(&network->root->names, name);
    KLN_RETURN_IF(id >= USED_NAME || (id >> KLN_ID_BITS) != (uint32_t)network->number,
                  KILN_ERROR_NAME, "kiln_network_find: no tensor is called \"%s\"", name);
    *tensor = (kiln_tensor_id)id;
    return KILN_OK;
}

static kiln_status find_value(kiln_network *network, const char *function,
                              const kln_onnx_value *values, size_t count, size_t index,
                              kiln_tensor_id *tensor)
{
    KLN_RETURN_IF(index >= count, KILN_ERROR_INVALID_ARGUMENT, "%s: index is %zu, there are %zu",
                  function, index, count);
    return kiln_network_find(network, values[index].name, tensor);
}

kiln_status kiln_network_input(kiln_network *network, size_t index, kiln_tensor_id *tensor)
{
    KLN_RETURN_IF_NULL(network, tensor);
    return find_value(network, __func__, network->graph->inputs, network->graph->input_count, index,
                      tensor);
}

kiln_status kiln_network_output(kiln_network *network, size_t index, kiln_tensor_id *tensor)
{
    KLN_RETURN_IF_NULL(network, tensor);
    return find_value(network, __func__, network->graph->outputs, network->graph->output_count,
                      index, tensor);
}

const char *kiln_network_metadata(const kiln_network *network, const char *key)
{
    for (size_t i = 0; network != NULL && key != NULL && i < network->model->metadata_count; i++) {
        if (strcmp(network->model->metadata[i].key, key) == 0) {
            return network->model->metadata[i].value;
        }
    }
    return NULL;
}

kiln_status kiln_network_set_metadata(kiln_network *network, const char *key, const char *value)
{
    KLN_RETURN_IF_NULL(network, key, value);
    kln_onnx_model *model = network->model;
    const char *copy = kln_arena_strdup(&model->arena, value);
    for (size_t i = 0; copy != NULL && i < model->metadata_count; i++) {
        if (strcmp(model->metadata[i].key, key) == 0) {
            model->metadata[i].value = copy;
            return KILN_OK;
        }
    }
    const size_t count = model->metadata_count;
    kln_onnx_entry *entries = kln_arena_alloc_zeroed(&model->arena, count + 1, sizeof *entries);
    const char *name = kln_arena_strdup(&model->arena, key);
    KLN_FAIL_IF(copy == NULL || entries == NULL || name == NULL,
                kln_fail_memory(strlen(key) + strlen(value), "metadata"));
    if (count != 0) {
        memcpy(entries, model->metadata, count * sizeof *entries);
    }
    entries[count] = (kln_onnx_entry){.key = name, .value = copy, .present = 4};
    model->metadata = entries;
    model->metadata_count = count + 1;
    return KILN_OK;
}

kiln_status kln_network_edit(kiln_network *network, kln_onnx_model **model)
{
    const kln_onnx_model *same = NULL;
    KLN_RETURN_IF_ERROR(kln_network_model(network, &same));
    kln_network_forget(network);
    *model = network->model;
    return KILN_OK;
}
