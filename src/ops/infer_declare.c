/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rule.h"

/* --- names to values --- */

kln_graph_walk *kln_walk_create(kln_infer_state *state, const kln_onnx_graph *graph,
                                kln_graph_inference *parent, const kln_scope *scope)
{
    kln_graph_walk *walk = kln_arena_alloc_zeroed(state->arena, 1, sizeof *walk);
    if (walk == NULL) {
        kln_state_check(state, false);
        return NULL;
    }
    walk->inference.graph = graph;
    walk->inference.parent = parent;
    walk->scope = scope;
    walk->next = state->walks;
    state->walks = walk;
    return walk;
}

static uint32_t *recent_of(kln_graph_walk *walk, const char *name)
{
    return &walk->recent[((uintptr_t)name >> 4) % KLN_RECENT_VALUES];
}

kln_value *kln_walk_value(kln_infer_state *state, kln_graph_walk *walk, const char *name,
                          uint32_t *index, uint32_t *before)
{
    uint32_t other = KLN_NAMES_NONE;
    kln_graph_inference *graph = &walk->inference;
    kln_value *value = kln_arena_alloc_zeroed(state->arena, 1, sizeof *value);
    if (value == NULL || KLN_GROW(state->arena, graph->values, graph->value_count,
                                  graph->value_capacity) != KILN_OK) {
        kln_state_check(state, false);
        return NULL;
    }
    *index = (uint32_t)graph->value_count;
    const uint32_t hash =
        name == state->inference->hashed_name ? state->inference->hash : kln_names_hash(name);
    kln_state_status(state, kln_names_swap_hashed(&graph->names, name, hash, *index, &other));
    if (state->status != KILN_OK) {
        return NULL;
    }
    if (before != NULL) {
        *before = other;
    }
    value->name = name;
    value->producer = KLN_NO_NODE;
    graph->values[graph->value_count++] = value;
    *recent_of(walk, name) = *index;
    return value;
}

uint32_t kln_walk_resolve(kln_infer_state *state, kln_graph_walk *walk, const char *name)
{
    const uint32_t recent = *recent_of(walk, name);
    if (recent < walk->inference.value_count && walk->inference.values[recent]->name == name) {
        return recent;
    }
    const uint32_t own = kln_names_get(&walk->inference.names, name);
    if (own != KLN_NAMES_NONE) {
        *recent_of(walk, name) = own;
        return own;
    }
    kln_value *outer = kln_inference_find(walk->inference.parent, name);
    if (outer == NULL) {
        return KLN_NO_VALUE;
    }
    /* A value of an outer graph gets its own index here. */
    uint32_t index = 0;
    if (kln_walk_value(state, walk, name, &index, NULL) == NULL) {
        return KLN_NO_VALUE;
    }
    walk->inference.values[index] = outer;
    return index;
}

/* --- types --- */

kln_dim kln_state_named_dim(kln_infer_state *state, const char *name)
{
    const uint32_t alias = kln_names_get(&state->aliases, name);
    return alias != KLN_NAMES_NONE ? state->alias_dims[alias] : kln_dim_of_name(&state->pool, name);
}

void kln_state_set_alias(kln_infer_state *state, const char *name, kln_dim dim)
{
    if (KLN_GROW(state->arena, state->alias_dims, state->alias_count, state->alias_capacity) !=
        KILN_OK) {
        kln_state_check(state, false);
        return;
    }
    state->alias_dims[state->alias_count] = dim;
    kln_state_status(state, kln_names_set(&state->aliases, name, (uint32_t)state->alias_count++));
}

static kln_dim declared_dim(kln_infer_state *state, const kln_onnx_dim *dim)
{
    if (dim->value >= 0) {
        return KLN_DIM_OF_NUMBER(dim->value);
    }
    return kln_onnx_names_dim(dim->parameter) ? kln_state_named_dim(state, dim->parameter)
                                              : KLN_UNKNOWN_DIM;
}

static void from_type(kln_infer_state *state, kln_value *value, const kln_onnx_type *type,
                      size_t depth)
{
    value->kind = type->kind;
    value->wire_dtype = type->wire_dtype;
    value->dtype = type->dtype;
    if (type->element != NULL && depth < KLN_GRAPHS_DEEP) {
        kln_value *element = kln_arena_alloc_zeroed(state->arena, 1, sizeof *element);
        kln_state_check(state, element != NULL);
        if (element != NULL) {
            element->name = "";
            element->producer = KLN_NO_NODE;
            from_type(state, element, type->element, depth + 1);
            value->element = element;
        }
    }
    if (!type->has_shape) {
        return;
    }
    kln_dim *dims = kln_arena_alloc_zeroed(state->arena, type->rank, sizeof *dims);
    kln_state_check(state, dims != NULL);
    if (dims != NULL) {
        for (size_t i = 0; i < type->rank; i++) {
            dims[i] = declared_dim(state, &type->dims[i]);
        }
        value->has_shape = true;
        value->rank = type->rank;
        value->dims = dims;
    }
}

void kln_value_from_type(kln_infer_state *state, kln_value *value, const kln_onnx_type *type)
{
    from_type(state, value, type, 0);
}

/* --- declarations of the model --- */

void kln_walk_declare(kln_infer_state *state, kln_graph_walk *walk)
{
    const kln_onnx_graph *graph = walk->inference.graph;
    if (!state->options.ignore_declared) {
        for (size_t i = walk->values_done; i < graph->value_count; i++) {
            kln_state_status(state,
                             kln_names_set(&walk->declared, graph->values[i].name, (uint32_t)i));
        }
    }
    walk->values_done = graph->value_count;
    for (size_t i = walk->outputs_declared; i < graph->output_count; i++) {
        kln_state_status(state, kln_names_set(&walk->declared, graph->outputs[i].name,
                                              (uint32_t)i | KLN_DECLARED_OUTPUT));
    }
    walk->outputs_declared = graph->output_count;
}

static void input_shape_option(kln_infer_state *state, kln_value *value)
{
    for (size_t i = 0; i < state->options.input_count; i++) {
        const kln_input_shape *given = &state->options.inputs[i];
        if (strcmp(given->name, value->name) != 0) {
            continue;
        }
        const size_t rank = (size_t)given->shape.rank;
        kln_dim *dims = kln_arena_alloc_zeroed(state->arena, rank, sizeof *dims);
        kln_state_check(state, dims != NULL);
        for (size_t k = 0; dims != NULL && k < rank; k++) {
            const kln_dim before = value->has_shape ? value->dims[k] : KLN_UNKNOWN_DIM;
            dims[k] = given->shape.dims[k] >= 0 ? KLN_DIM_OF_NUMBER(given->shape.dims[k]) : before;
        }
        value->has_shape = dims != NULL;
        value->rank = rank;
        value->dims = dims;
    }
}

static void duplicate(kln_infer_state *state, const char *what, const char *name)
{
    kln_state_issue(state, KILN_SEVERITY_ERROR, KILN_ISSUE_DUPLICATE_NAME, "", name, "one", "two",
                    "%s \"%.200s\" has a name that another tensor of the graph has too", what,
                    name);
}

/* The shape of `to`, with unknown dimensions taken from `from`. */
static void complete_shape(kln_infer_state *state, kln_value *to, const kln_value *from)
{
    if (!to->has_shape) {
        kln_value_copy_shape(to, from);
        return;
    }
    if (!from->has_shape || from->rank != to->rank) {
        return;
    }
    kln_dim *dims = kln_arena_alloc_zeroed(state->arena, to->rank, sizeof *dims);
    kln_state_check(state, dims != NULL);
    for (size_t i = 0; dims != NULL && i < to->rank; i++) {
        dims[i] = to->dims[i].kind != KLN_DIM_UNKNOWN ? to->dims[i] : from->dims[i];
    }
    to->dims = dims != NULL ? dims : to->dims;
}

/* The depth of nesting was limited when types were read. */
const kln_value *kln_value_complete(kln_infer_state *state, const kln_value *inferred,
                                    const kln_value *declared)
{
    if (inferred == NULL || declared == NULL) {
        return inferred != NULL ? inferred : declared;
    }
    if (inferred->kind != declared->kind) {
        return inferred;
    }
    kln_value *copy = kln_arena_alloc(state->arena, sizeof *copy);
    kln_state_check(state, copy != NULL);
    if (copy == NULL) {
        return inferred;
    }
    *copy = *inferred;
    copy->element = kln_value_complete(state, inferred->element, declared->element);
    complete_shape(state, copy, declared);
    return copy;
}

/* A subgraph has to accept what is bound to its inputs. */
static void check_binding(kln_infer_state *state, const kln_value *declared, const kln_value *bound)
{
    kiln_issue_kind kind = KILN_ISSUE_DTYPE;
    bool fits =
        declared->kind == KLN_ONNX_KIND_NONE || bound->kind == KLN_ONNX_KIND_NONE ||
        (declared->kind == bound->kind && (declared->wire_dtype == 0 || bound->wire_dtype == 0 ||
                                           declared->wire_dtype == bound->wire_dtype));
    if (fits && declared->has_shape && bound->has_shape) {
        kind = declared->rank != bound->rank ? KILN_ISSUE_RANK : KILN_ISSUE_SHAPE;
        fits = declared->rank == bound->rank;
        for (size_t i = 0; fits && i < declared->rank; i++) {
            fits = declared->dims[i].kind != KLN_DIM_NUMBER ||
                   bound->dims[i].kind != KLN_DIM_NUMBER ||
                   declared->dims[i].of.number == bound->dims[i].of.number;
        }
    }
    if (!fits) {
        const char *expected = KLN_VALUE_PRINTED(declared);
        const char *found = KLN_VALUE_PRINTED(bound);
        kln_state_issue(state, KILN_SEVERITY_ERROR, kind, "", declared->name, expected, found,
                        "input \"%.120s\" of a subgraph is declared as %.150s, but is given %.150s",
                        declared->name, expected, found);
    }
}

/* Gives a subgraph's input the type bound to it, completed by its declaration. */
static void bind_input(kln_infer_state *state, kln_value *value, const kln_value *bound)
{
    const kln_value declared = *value;
    check_binding(state, value, bound);
    if (bound->kind == KLN_ONNX_KIND_NONE ||
        (bound->has_shape && declared.has_shape && bound->rank != declared.rank)) {
        return;
    }
    kln_value_copy_type(value, bound, bound->has_shape);
    value->element = kln_value_complete(state, bound->element, declared.element);
    complete_shape(state, value, &declared);
}

static void shape_of_tensor(kln_infer_state *state, kln_value *value, const kln_onnx_tensor *tensor)
{
    kln_dim *dims = kln_arena_alloc_zeroed(state->arena, tensor->rank, sizeof *dims);
    kln_state_check(state, dims != NULL);
    for (size_t i = 0; dims != NULL && i < tensor->rank; i++) {
        dims[i] = tensor->dims[i] >= 0 ? KLN_DIM_OF_NUMBER(tensor->dims[i]) : KLN_UNKNOWN_DIM;
    }
    value->has_shape = dims != NULL;
    value->rank = tensor->rank;
    value->dims = dims;
}

static void open_dims(kln_infer_state *state, kln_value *value)
{
    kln_dim *dims = kln_arena_alloc_zeroed(state->arena, value->rank, sizeof *dims);
    kln_state_check(state, dims != NULL);
    value->has_shape &= dims != NULL;
    value->dims = dims;
}

static void add_input(kln_infer_state *state, kln_graph_walk *walk, size_t index,
                      const kln_value *bound)
{
    const kln_onnx_value *declared = &walk->inference.graph->inputs[index];
    uint32_t place = 0;
    uint32_t before = KLN_NAMES_NONE;
    kln_value *value = kln_walk_value(state, walk, declared->name, &place, &before);
    if (value == NULL) {
        return;
    }
    if (before != KLN_NAMES_NONE) {
        duplicate(state, "input", declared->name);
    }
    walk->inference.inputs[index] = place;
    if (walk->inference.parent == NULL && walk->scope->function == NULL) {
        for (size_t i = 0; declared->type.has_shape && i < declared->type.rank; i++) {
            const char *name = declared->type.dims[i].parameter;
            if (kln_onnx_names_dim(name)) {
                kln_state_status(state, kln_names_set(&state->input_names, name, 0));
            }
        }
    }
    kln_value_from_type(state, value, &declared->type);
    if (bound != NULL) {
        bind_input(state, value, bound);
    }
    if (walk->inference.parent == NULL && walk->scope->function == NULL) {
        if (state->options.open_inputs) {
            open_dims(state, value);
        }
        input_shape_option(state, value);
    }
}

static void add_initializer(kln_infer_state *state, kln_graph_walk *walk,
                            const kln_onnx_tensor *tensor)
{
    kln_graph_inference *graph = &walk->inference;
    uint32_t place = kln_names_get(&graph->names, tensor->name);
    const bool is_input = place != KLN_NAMES_NONE;
    kln_value *value = is_input ? graph->values[place] : NULL;
    if (is_input && value->initializer != NULL) {
        duplicate(state, "initializer", tensor->name);
        return;
    }
    if (!is_input) {
        value = kln_walk_value(state, walk, tensor->name, &place, NULL);
        if (value == NULL) {
            return;
        }
        value->kind = KLN_ONNX_KIND_TENSOR;
        value->dtype = tensor->dtype;
        value->wire_dtype = tensor->wire_dtype;
    }
    if (!is_input || state->options.open_inputs) {
        shape_of_tensor(state, value, tensor);
    }
    value->initializer = tensor;
    value->is_constant = !is_input || state->inference->model->ir_version < 4;
}

/* Sparse initializers are only known by name; their contents stay in the message. */
static void add_sparse(kln_infer_state *state, kln_graph_walk *walk)
{
    const kln_onnx_graph *graph = walk->inference.graph;
    for (size_t i = walk->sparse_done;
         i < graph->sparse_initializer_count && state->status == KILN_OK; i++) {
        const char *name = graph->sparse_initializer_names[i];
        uint32_t place = 0;
        if (name[0] != '\0' && kln_names_get(&walk->inference.names, name) == KLN_NAMES_NONE) {
            (void)kln_walk_value(state, walk, name, &place, NULL);
        }
    }
    walk->sparse_done = graph->sparse_initializer_count;
}

void kln_walk_inputs(kln_infer_state *state, kln_graph_walk *walk, const kln_value *const *bound,
                     size_t bound_count)
{
    kln_graph_inference *inference = &walk->inference;
    const kln_onnx_graph *graph = inference->graph;
    for (size_t i = walk->inputs_done; i < graph->input_count && state->status == KILN_OK; i++) {
        kln_state_status(state, KLN_GROW(state->arena, inference->inputs, i, walk->input_capacity));
        if (state->status == KILN_OK) {
            inference->input_count = i + 1;
            add_input(state, walk, i, i < bound_count ? bound[i] : NULL);
        }
    }
    walk->inputs_done = graph->input_count;
    for (size_t i = walk->initializers_done;
         i < graph->initializer_count && state->status == KILN_OK; i++) {
        if (graph->initializers[i].name[0] != '\0') {
            add_initializer(state, walk, &graph->initializers[i]);
        }
    }
    walk->initializers_done = graph->initializer_count;
    add_sparse(state, walk);
}
