/* SPDX-License-Identifier: Apache-2.0 */
#include "build_layer.h"

void kln_layer_fail(kln_layer *layer, kiln_status status, const char *format, ...)
{
    if (layer->status != KILN_OK) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    status = kln_fail_v(status, format, arguments);
    va_end(arguments);
    if (layer->name != NULL) {
        status = kln_fail_within(status, "layer \"%s\"", layer->name);
    }
    /* The issue names the layer, not the call that reported it. */
    layer->status = kln_network_collects(layer->network, status)
                        ? status
                        : kln_fail_within(status, "%s", layer->function);
}

void kln_layer_refuse(kln_layer *layer, const char *format, ...)
{
    if (layer->status != KILN_OK) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    const kiln_status status = kln_fail_v(KILN_ERROR_INVALID_ARGUMENT, format, arguments);
    va_end(arguments);
    kln_layer_fail(layer, status, "%s", kiln_error_message());
}

kln_arena *kln_layer_arena(kln_layer *layer)
{
    return &layer->network->model->arena;
}

void kln_layer_no_memory(kln_layer *layer)
{
    kln_layer_fail(layer, KILN_ERROR_OUT_OF_MEMORY, "memory for the layer is exhausted");
}

void *kln_layer_copy(kln_layer *layer, const void *values, size_t size)
{
    void *copy = layer->status == KILN_OK ? kln_arena_alloc(kln_layer_arena(layer), size) : NULL;
    if (copy == NULL) {
        kln_layer_no_memory(layer);
    } else if (size != 0) {
        memcpy(copy, values, size);
    }
    return copy;
}

/* --- begin and end --- */

static void take_name(kln_layer *layer, const char *name)
{
    kiln_network *root = layer->network->root;
    if (name != NULL) {
        kln_layer_need(layer, name[0] != '\0', "its name is empty");
        layer->hash = kln_names_hash(name);
        if (kln_names_get_hashed(&root->names, name, layer->hash) != KLN_NAMES_NONE) {
            kln_layer_fail(layer, KILN_ERROR_NAME, "the name \"%s\" is in use", name);
            return;
        }
        layer->name = kln_arena_strdup(kln_layer_arena(layer), name);
    } else {
        do {
            layer->name =
                kln_arena_printf(kln_layer_arena(layer), "%s.%u", layer->op_type, ++root->unnamed);
            layer->hash = layer->name != NULL ? kln_names_hash(layer->name) : 0;
        } while (layer->name != NULL &&
                 kln_names_get_hashed(&root->names, layer->name, layer->hash) != KLN_NAMES_NONE);
    }
    if (layer->name == NULL) {
        kln_layer_no_memory(layer);
    }
}

void kln_layer_open(kln_layer *layer, kiln_network *network, const char *function, const char *name,
                    const char *what)
{
    memset(layer, 0, offsetof(kln_layer, few)); /* the lists have counts */
    layer->function = function;
    kln_layer_operator(layer, what);
    if (network == NULL) {
        layer->status = kln_fail_null(function, "network");
        return;
    }
    layer->network = network;
    network->is_known = false;
    layer->node_mark = network->graph->node_count;
    layer->initializer_mark = network->graph->initializer_count;
    layer->tensor_mark = network->tensor_count;
    layer->opset_mark = network->model->opset_count;
    if (network->is_used) {
        kln_layer_fail(layer, KILN_ERROR_STATE,
                       "the branch is part of an If or Loop already and takes no layer any more");
        return;
    }
    take_name(layer, name);
}

void kln_layer_begin(kln_layer *layer, kiln_network *network, const char *function,
                     const char *name, const char *op_type)
{
    const bool is_known = network == NULL || network->is_known;
    kln_layer_open(layer, network, function, name, op_type);
    const kiln_status known = is_known ? KILN_OK : kln_network_know(network);
    if (network != NULL && known == KILN_OK) {
        layer->mark = kln_infer_mark_of(network->root->inference, network->known);
        layer->is_marked = true;
    } else if (layer->status == KILN_OK) {
        layer->status = known;
    }
}

void kln_layer_begin_kind(kln_layer *layer, kiln_network *network, const char *function,
                          const char *name, const char *const *op_types, size_t count, size_t kind,
                          const char *enumeration)
{
    kln_layer_begin(layer, network, function, name, op_types[kind < count ? kind : 0]);
    kln_layer_need(layer, kind < count, "kind is %d, which is none of %s", (int)kind, enumeration);
}

/* Frees the names of what is taken back. */
static void take_back(kln_layer *layer)
{
    kiln_network *network = layer->network;
    kln_inference *inference = network->root->inference;
    if (network->model->opset_count != layer->opset_mark) {
        kln_network_forget(network);
    } else if (inference != NULL && layer->is_marked) {
        kln_infer_take_back(inference, network->known, &layer->mark);
    }
    for (size_t i = layer->tensor_mark; i < network->tensor_count; i++) {
        kln_names_forget(&network->root->names, network->tensors[i].name);
    }
    network->tensor_count = layer->tensor_mark;
    network->graph->node_count = layer->node_mark;
    network->graph->initializer_count = layer->initializer_mark;
    network->model->opset_count = layer->opset_mark;
}

/* --- inputs --- */

const kln_built_tensor *kln_layer_find(kln_layer *layer, kiln_tensor_id id)
{
    if (layer->status != KILN_OK) {
        return NULL;
    }
    const kln_built_tensor *tensor = kln_network_tensor(layer->network, id);
    if (tensor == NULL) {
        kln_layer_fail(layer, KILN_ERROR_INVALID_ARGUMENT,
                       id == KILN_NO_TENSOR ? "a tensor is required, KILN_NO_TENSOR (%d) was given"
                                            : "%d is no tensor of this network or branch",
                       (int)id);
        return NULL;
    }
    if (tensor->value != NULL) {
        return tensor;
    }
    if (tensor->is_refused && !layer->network->root->collects) {
        kln_layer_fail(layer, KILN_ERROR_INVALID_ARGUMENT,
                       "\"%s\" is of a call that was refused; the network's issues say why",
                       tensor->name);
    }
    layer->is_refused |= tensor->is_refused;
    if (layer->status == KILN_OK && !layer->is_refused) {
        const kln_value *value = NULL; /* it stays with the tensor */
        layer->status = kln_network_value(layer->network, id, &value);
    }
    return tensor;
}

kln_known kln_layer_tensor(kln_layer *layer, kiln_tensor_id id)
{
    const kln_built_tensor *tensor = kln_layer_find(layer, id);
    return tensor != NULL ? kln_known_of(tensor->name, tensor->value) : kln_known_of("", NULL);
}

kln_known kln_layer_ranked(kln_layer *layer, kiln_tensor_id id, int32_t least, int32_t most)
{
    const kln_known known = kln_layer_tensor(layer, id);
    if (layer->status != KILN_OK || layer->is_refused ||
        (known.rank >= least && known.rank <= most)) {
        return known;
    }
    const char *needed = KLN_PRINTED(least == most ? "%d" : "%d to %d", (int)least, (int)most);
    if (known.rank < 0) {
        kln_layer_fail(layer, KILN_ERROR_RANK, "the rank of \"%s\" is not known, but must be (%s)",
                       known.name, needed);
    } else {
        kln_layer_fail(layer, KILN_ERROR_RANK, "\"%s\" has rank %d, but rank %s is needed",
                       known.name, (int)known.rank, needed);
    }
    return known;
}

/* --- nodes --- */

void kln_layer_operator(kln_layer *layer, const char *op_type)
{
    layer->op_type = op_type;
    layer->domain = "";
    layer->inputs = layer->few;
    layer->input_capacity = KLN_LAYER_INPUTS;
    layer->input_count = 0;
    layer->attribute_count = 0;
}

/* The errors of a node: what the operator is comes before what it does, which is then no news. Of
 * one that reads a refused tensor, only those that are about its attributes and values. */
static bool is_told(const kln_layer *layer, const kiln_issue_list *issues, const kiln_issue *issue)
{
    bool of_operators = false;
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        of_operators |= kln_issue_is_of_operator(kiln_issue_list_get(issues, i));
    }
    return issue->severity == KILN_SEVERITY_ERROR &&
           (!of_operators || kln_issue_is_of_operator(issue)) &&
           (!layer->is_refused || issue->kind == KILN_ISSUE_ATTRIBUTE ||
            issue->kind == KILN_ISSUE_OPSET || issue->kind == KILN_ISSUE_VALUE);
}

static void fail_with_issue(kln_layer *layer, const kiln_issue_list *issues)
{
    for (size_t i = 0; i < kiln_issue_list_count(issues) && layer->status == KILN_OK; i++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, i);
        if (is_told(layer, issues, issue)) {
            layer->status =
                kln_fail(kln_issue_status(issue->kind), "%s: %s", layer->function, issue->sentence);
        }
    }
}

static void infer_node(kln_layer *layer, uint32_t index)
{
    kln_inference *inference = layer->network->root->inference;
    inference->hashed_name = layer->name;
    inference->hash = layer->hash;
    inference->placed_node = &layer->network->graph->nodes[index];
    inference->places = layer->places;
    inference->place_count = layer->input_count <= KLN_LAYER_INPUTS ? layer->input_count : 0;
    layer->status = kln_network_know(layer->network);
    if (layer->status != KILN_OK) {
        return; /* together with what was inferred */
    }
    inference->placed_node = NULL;
    layer->status = kln_validate_added(inference, layer->network->known, index);
    if (layer->status == KILN_OK && kiln_issue_list_errors(inference->issues) > 0) {
        fail_with_issue(layer, inference->issues);
    }
}

/* Puts the operator into the graph; `outputs` is in the arena. */
static void add_node(kln_layer *layer, const char *name, const char **outputs, size_t count)
{
    kln_onnx_graph *graph = layer->network->graph;
    while (layer->input_count > 0 && layer->inputs[layer->input_count - 1][0] == '\0') {
        layer->input_count--; /* trailing omitted inputs are dropped */
    }
    kln_onnx_node node = {.name = name, .op_type = layer->op_type, .domain = layer->domain};
    node.overload = "";
    node.doc = "";
    node.outputs = outputs;
    node.output_count = count;
    node.input_count = layer->input_count;
    node.inputs = kln_layer_copy(layer, layer->inputs, layer->input_count * sizeof *layer->inputs);
    node.attribute_count = layer->attribute_count;
    node.attributes = kln_layer_copy(layer, layer->attributes,
                                     layer->attribute_count * sizeof *layer->attributes);
    if (layer->status == KILN_OK) {
        layer->status = kln_onnx_add_node(kln_layer_arena(layer), graph, &node);
    }
    if (layer->status == KILN_OK) {
        infer_node(layer, (uint32_t)graph->node_count - 1);
    }
}

kiln_tensor_id kln_layer_emit(kln_layer *layer, const char *suffix)
{
    kiln_tensor_id id = KILN_NO_TENSOR;
    if (layer->status != KILN_OK) {
        return id;
    }
    char *name = kln_arena_printf(kln_layer_arena(layer), "%s%s%s", layer->name,
                                  suffix[0] == ':' ? "" : "/", suffix);
    const char **outputs = kln_arena_alloc(kln_layer_arena(layer), sizeof *outputs);
    if (name == NULL || outputs == NULL) {
        kln_layer_no_memory(layer);
        return id;
    }
    outputs[0] = name;
    layer->status =
        kln_network_register(layer->network, name, kln_names_hash(name), layer->is_refused, &id);
    if (layer->status == KILN_OK) {
        add_node(layer, name, outputs, 1);
    }
    return id;
}

/* --- the end --- */

/* Where a layer's outputs go: to the places in `each`, or one after the other from `all` on. */
typedef struct targets {
    kiln_tensor_id *const *each;
    kiln_tensor_id *all;
    size_t count;
} targets;

static kiln_tensor_id *target(const targets *to, size_t index)
{
    return to->each != NULL ? to->each[index] : &to->all[index];
}

/* The name of output `index`, in the arena. */
static const char *output_name(kln_layer *layer, size_t index)
{
    return index == 0 ? layer->name
                      : kln_arena_printf(kln_layer_arena(layer), "%s:%zu", layer->name, index);
}

static void name_outputs(kln_layer *layer, const targets *to, const char **names,
                         kiln_tensor_id *ids)
{
    for (size_t i = 0; i < to->count && layer->status == KILN_OK; i++) {
        names[i] = target(to, i) == NULL ? "" : output_name(layer, i);
        if (names[i] == NULL) {
            kln_layer_no_memory(layer);
        } else if (target(to, i) != NULL) {
            const uint32_t hash = i == 0 ? layer->hash : kln_names_hash(names[i]);
            layer->status = kln_network_register(layer->network, names[i], hash, false, &ids[i]);
        }
    }
}

static kiln_status collect(kln_layer *layer)
{
    kiln_network *root = layer->network->root;
    const kiln_issue_list *found = root->inference != NULL ? root->inference->issues : NULL;
    bool told = false;
    for (size_t i = 0; i < kiln_issue_list_count(found); i++) {
        const kiln_issue *issue = kiln_issue_list_get(found, i);
        if (is_told(layer, found, issue)) {
            told = true;
            KLN_RETURN_IF_ERROR(kln_issues_add(root->issues, issue));
        }
    }
    return told ? KILN_OK : kln_network_refuse(root, layer->status, layer->name, "");
}

/* Refused tensors for the outputs, of the layer's names where those are free. */
static kiln_status refused_outputs(kln_layer *layer, const targets *to)
{
    kiln_network *root = layer->network->root;
    for (size_t i = 0; i < to->count; i++) {
        const char *name = layer->name != NULL ? output_name(layer, i) : "refused";
        while (name != NULL && kln_names_get(&root->names, name) != KLN_NAMES_NONE) {
            name = kln_arena_printf(kln_layer_arena(layer), "refused.%u", ++root->unnamed);
        }
        KLN_RETURN_IF_NO_MEMORY(name, 1, "the name of a tensor");
        if (target(to, i) != NULL) {
            KLN_RETURN_IF_ERROR(kln_network_register(layer->network, name, kln_names_hash(name),
                                                     true, target(to, i)));
        }
    }
    return KILN_OK;
}

/* Takes everything back; what can be collected is, and the layer is refused instead of failing. */
static kiln_status give_up(kln_layer *layer, const targets *to)
{
    if (layer->network == NULL) {
        return layer->status;
    }
    const bool told = layer->status == KILN_OK; /* if the tensor it reads was refused */
    const bool collects = told || kln_network_collects(layer->network, layer->status);
    const kiln_status status = !collects ? layer->status : told ? KILN_OK : collect(layer);
    take_back(layer);
    return status == KILN_OK ? refused_outputs(layer, to) : status;
}

/* What was inferred of output `index` of the last node, so that nobody has to look for its name. */
static void tell_value(const kln_layer *layer, size_t index, kiln_tensor_id id)
{
    const kln_graph_inference *known = layer->network->known;
    const uint32_t place = known->nodes[known->node_count - 1].outputs[index];
    if (place != KLN_NO_VALUE) {
        kln_built_tensor *tensor = kln_network_tensor(layer->network, id);
        tensor->value = known->values[place];
        tensor->place = place;
    }
}

static kiln_status finish(kln_layer *layer, const targets *to)
{
    if (layer->status != KILN_OK) {
        return give_up(layer, to);
    }
    kiln_tensor_id few[4] = {0};
    const char **names = kln_arena_alloc(kln_layer_arena(layer), to->count * sizeof *names);
    kiln_tensor_id *ids = to->count <= KLN_ARRAY_LENGTH(few)
                              ? few
                              : kln_arena_alloc(kln_layer_arena(layer), to->count * sizeof *ids);
    if (names == NULL || ids == NULL) {
        kln_layer_no_memory(layer);
        return give_up(layer, to);
    }
    name_outputs(layer, to, names, ids);
    size_t count = to->count;
    while (layer->status == KILN_OK && count > 0 && target(to, count - 1) == NULL) {
        count--;
    }
    if (layer->status == KILN_OK) {
        add_node(layer, layer->name, names, count);
    }
    if (layer->status != KILN_OK || layer->is_refused) {
        return give_up(layer, to);
    }
    layer->network->is_known = layer->network->parent == NULL;
    kln_issues_cut(layer->network->root->inference->issues, 0);
    kln_issues_cut(layer->network->root->inference->doubts, 0);
    for (size_t i = 0; i < count; i++) {
        if (target(to, i) != NULL) {
            *target(to, i) = ids[i];
            tell_value(layer, i, ids[i]);
        }
    }
    return KILN_OK;
}

kiln_status kln_layer_finish(kln_layer *layer, kiln_tensor_id *const *outputs, size_t count)
{
    const targets to = {outputs, NULL, count};
    return finish(layer, &to);
}

kiln_status kln_layer_finish_all(kln_layer *layer, kiln_tensor_id *outputs, size_t count)
{
    targets to = {.each = NULL, .count = count};
    to.all = outputs;
    return finish(layer, &to);
}

kiln_status kln_layer_finish_one(kln_layer *layer, kiln_tensor_id *output)
{
    if (output == NULL && layer->status == KILN_OK) {
        layer->status = kln_fail_null(layer->function, "output");
    }
    return kln_layer_finish(layer, &output, 1);
}

kiln_status kln_layer_close(kln_layer *layer, kiln_tensor_id *output)
{
    const targets to = {NULL, output, 1};
    kiln_tensor_id id = KILN_NO_TENSOR;
    if (layer->status == KILN_OK) {
        layer->status = kln_network_register(layer->network, layer->name, layer->hash, false, &id);
    }
    if (layer->status != KILN_OK) {
        return give_up(layer, &to);
    }
    *output = id;
    return KILN_OK;
}
