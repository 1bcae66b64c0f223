/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ops/kln_schema.h"
#include "ref_plan.h"

#define MOST_NODES ((size_t)1 << 20)
#define DEEPEST_FUNCTION 32
#define CONSTANT_FLAG UINT32_C(0x80000000)
#define KEPT SIZE_MAX
#define MISSING_LISTED 12

typedef struct scope {
    struct scope *outer;
    const ref_environment *environment;
    ref_plan *plan;
    kln_names names; /* to a slot, or to a constant if flagged */
    ref_value *constants;
    size_t constant_count;
    size_t *last_use; /* for each slot: a node, or KEPT */
} scope;

typedef struct maker {
    ref_engine *engine;
    kln_onnx_index index;
    size_t nodes;
    const kln_onnx_node *missing[MISSING_LISTED];
    uint32_t missing_at[MISSING_LISTED]; /* their indices in their graphs */
    size_t missing_count;                /* of distinct operators; may exceed the list */
} maker;

static kiln_status define(scope *where, const char *name, uint32_t index)
{
    KLN_RETURN_IF(kln_names_get(&where->names, name) != KLN_NAMES_NONE, KILN_ERROR_INVALID_NETWORK,
                  "the value \"%s\" is defined twice", name);
    return kln_names_set(&where->names, name, index);
}

static kiln_status define_slot(scope *where, const char *name, size_t producer, uint32_t *slot)
{
    *slot = (uint32_t)where->plan->slot_count;
    KLN_RETURN_IF_ERROR(define(where, name, *slot));
    where->last_use[where->plan->slot_count++] = producer;
    return KILN_OK;
}

static kiln_status define_constant(scope *where, const char *name, ref_value **value)
{
    KLN_RETURN_IF_ERROR(define(where, name, (uint32_t)where->constant_count | CONSTANT_FLAG));
    *value = &where->constants[where->constant_count++];
    return KILN_OK;
}

/* Looks `name` up here and in enclosing scopes; a slot that is found lives at least until each
 * scope's current node. */
static bool resolve(scope *where, const char *name, ref_source *source)
{
    *source = (ref_source){.constant = NULL, .level = 0, .slot = REF_SLOT_NONE};
    if (name == NULL || name[0] == '\0') {
        return true;
    }
    for (; where != NULL; where = where->outer, source->level++) {
        const uint32_t index = kln_names_get(&where->names, name);
        if (index == KLN_NAMES_NONE) {
            continue;
        }
        if ((index & CONSTANT_FLAG) != 0) {
            source->constant = &where->constants[index & ~CONSTANT_FLAG];
        } else {
            source->slot = index;
            if (where->last_use[index] != KEPT) {
                where->last_use[index] = where->plan->node_count;
            }
        }
        return true;
    }
    return false;
}

/* --- nodes --- */

static void note_missing(maker *make, const kln_onnx_node *node, uint32_t index)
{
    const size_t listed =
        make->missing_count < MISSING_LISTED ? make->missing_count : MISSING_LISTED;
    for (size_t i = 0; i < listed; i++) {
        if (strcmp(make->missing[i]->op_type, node->op_type) == 0 &&
            strcmp(make->missing[i]->domain, node->domain) == 0) {
            return;
        }
    }
    if (listed < MISSING_LISTED) {
        make->missing[listed] = node;
        make->missing_at[listed] = index;
    }
    make->missing_count++;
}

static kiln_status fail_missing(const maker *make)
{
    char text[768] = "";
    size_t used = 0;
    for (size_t i = 0; i < make->missing_count && i < MISSING_LISTED && used < sizeof text; i++) {
        const kln_onnx_node *node = make->missing[i];
        const char *domain = kln_onnx_plain_domain(node->domain);
        const int length =
            snprintf(text + used, sizeof text - used, "%s%s of %s (node \"%s\")", i > 0 ? ", " : "",
                     node->op_type, domain[0] != '\0' ? domain : "ai.onnx",
                     KLN_NODE_LABEL(node, make->missing_at[i]));
        used += length > 0 ? (size_t)length : 0;
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "the reference backend lacks %zu operator%s of this network: %s%s",
                    make->missing_count, make->missing_count == 1 ? "" : "s", text,
                    make->missing_count > MISSING_LISTED ? ", ..." : "");
}

static kiln_status make_plan(maker *make, scope *outer, const ref_environment *around,
                             const kln_onnx_graph *graph, const kln_onnx_function *function,
                             ref_plan **plan);

static kiln_status make_bodies(maker *make, scope *where, ref_node *node,
                               const kln_onnx_function *function)
{
    if (function != NULL) {
        const ref_environment inside = {
            .call = node, .function = function, .depth = where->environment->depth + 1};
        KLN_RETURN_IF(inside.depth > DEEPEST_FUNCTION, KILN_ERROR_LIMIT,
                      "function \"%s\": functions call each other deeper than %d", function->name,
                      DEEPEST_FUNCTION);
        return make_plan(make, NULL, &inside, &function->body, function, &node->bodies[0]);
    }
    for (size_t i = 0; i < node->attribute_count; i++) {
        if (node->attributes[i]->type == KLN_ONNX_ATTRIBUTE_GRAPH &&
            node->attributes[i]->graph != NULL) {
            KLN_RETURN_IF_ERROR(make_plan(make, where, where->environment,
                                          node->attributes[i]->graph, NULL, &node->bodies[i]));
        }
    }
    return KILN_OK;
}

static const char *label(const ref_node *node, char text[KLN_WHAT_TEXT])
{
    return kln_node_labelled(node->node, node->index, text);
}
#define LABEL(node) label((node), (char[KLN_WHAT_TEXT]){0})

static kiln_status fail_unresolved(const ref_node *node, const char *name)
{
    return kln_fail(KILN_ERROR_INVALID_NETWORK,
                    "node \"%s\" (%s) reads \"%s\", which no input, initializer or earlier node "
                    "gives; nodes must stand in the order they run",
                    LABEL(node), node->node->op_type, name);
}

static kiln_status link_node(maker *make, scope *where, ref_node *node)
{
    const kln_onnx_node *from = node->node;
    kln_arena *arena = &make->engine->arena;
    node->inputs = kln_arena_alloc_zeroed(arena, from->input_count + 1, sizeof(ref_source));
    node->outputs = kln_arena_alloc_zeroed(arena, from->output_count + 1, sizeof(uint32_t));
    KLN_FAIL_IF(node->inputs == NULL || node->outputs == NULL, ref_fail_arena());
    for (size_t i = 0; i < from->input_count; i++) {
        KLN_FAIL_IF(!resolve(where, from->inputs[i], &node->inputs[i]),
                    fail_unresolved(node, from->inputs[i]));
    }
    node->input_count = from->input_count;
    node->output_count = from->output_count;
    return KILN_OK;
}

static kiln_status link_outputs(scope *where, ref_node *node)
{
    for (size_t i = 0; i < node->output_count; i++) {
        const char *name = node->node->outputs[i];
        node->outputs[i] = REF_SLOT_NONE;
        if (name[0] != '\0') {
            KLN_RETURN_IF_ERROR(
                define_slot(where, name, where->plan->node_count, &node->outputs[i]));
        }
    }
    return KILN_OK;
}

static kiln_status make_constant(maker *make, scope *where, const ref_node *node)
{
    KLN_RETURN_IF(node->node->output_count == 0 || node->attribute_count == 0,
                  KILN_ERROR_INVALID_NETWORK, "node \"%s\" (Constant) has no output or no value",
                  LABEL(node));
    ref_value *value = NULL;
    KLN_RETURN_IF_ERROR(define_constant(where, node->node->outputs[0], &value));
    const kiln_status status =
        ref_constant_attribute(&make->engine->weights, node->attributes[0], value);
    return status == KILN_OK ? status
                             : kln_fail_within(status, "node \"%s\" (Constant)", LABEL(node));
}

static kiln_status check_version(const ref_node *node, const char *domain)
{
    KLN_RETURN_IF(domain[0] == '\0' && node->version > REF_NEWEST_OPSET, KILN_ERROR_UNSUPPORTED,
                  "the network uses operator set %lld; the reference backend knows the "
                  "operators up to version %d",
                  (long long)node->version, REF_NEWEST_OPSET);
    KLN_RETURN_IF(node->version < node->kernel->since, KILN_ERROR_UNSUPPORTED,
                  "node \"%s\" (%s) is of operator set %lld; the reference backend knows "
                  "this operator from version %d on: convert the model",
                  LABEL(node), node->node->op_type, (long long)node->version, node->kernel->since);
    return KILN_OK;
}

/* Kernels rely on attributes having the operator's types. */
static kiln_status check_attributes(const ref_node *node, const char *domain)
{
    const kln_operator *row = node->attribute_count != 0
                                  ? kln_operator_find(domain, node->node->op_type, node->version)
                                  : NULL;
    for (size_t i = 0; row != NULL && i < node->attribute_count; i++) {
        const kln_onnx_attribute *given = node->attributes[i];
        const kln_onnx_attribute_type type = kln_operator_attribute(row, given->name);
        KLN_RETURN_IF(type != KLN_ONNX_ATTRIBUTE_UNDEFINED && type != given->type,
                      KILN_ERROR_INVALID_NETWORK,
                      "node \"%s\" (%s): attribute \"%.100s\" is %s, but must be %s", LABEL(node),
                      node->node->op_type, given->name, kln_attribute_type_name(given->type),
                      kln_attribute_type_name(type));
    }
    return KILN_OK;
}

/* Checks a type that an attribute names, such as that of a Cast. */
static kiln_status check_types(const ref_node *node)
{
    static const char *const names[] = {"to", "dtype", "output_dtype", "output_datatype"};
    for (size_t i = 0; i < node->attribute_count; i++) {
        const kln_onnx_attribute *attribute = node->attributes[i];
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(names); k++) {
            if (attribute->type != KLN_ONNX_ATTRIBUTE_INT ||
                strcmp(attribute->name, names[k]) != 0 || attribute->i <= 0 ||
                attribute->i > INT32_MAX ||
                kln_onnx_dtype((int32_t)attribute->i) != KILN_DTYPE_UNDEFINED) {
                continue;
            }
            return kln_fail(KILN_ERROR_UNSUPPORTED,
                            "node \"%s\" (%s) gives %s, a type that the reference backend does "
                            "not compute with",
                            LABEL(node), node->node->op_type,
                            kln_onnx_dtype_name((int32_t)attribute->i));
        }
    }
    return KILN_OK;
}

static kiln_status make_node(maker *make, scope *where, const kln_onnx_node *from)
{
    ref_node *node = &where->plan->nodes[where->plan->node_count];
    *node = (ref_node){.node = from, .index = (uint32_t)(from - where->plan->graph->nodes)};
    KLN_RETURN_IF(++make->nodes > MOST_NODES, KILN_ERROR_LIMIT,
                  "the network has more than %zu nodes once its functions "
                  "stand in place of their calls",
                  MOST_NODES);
    const char *domain = kln_onnx_plain_domain(from->domain);
    const kln_onnx_function *function = kln_onnx_index_function(&make->index, from);
    node->version = kln_onnx_index_opset(&make->index, where->environment->function, domain);
    KLN_RETURN_IF_ERROR(ref_resolve_attributes(&make->engine->arena, where->environment, node));
    if (function == NULL && domain[0] == '\0' && strcmp(from->op_type, "Constant") == 0) {
        return make_constant(make, where, node);
    }
    if (function == NULL) {
        node->kernel = ref_kernel_find(domain, from->op_type);
        if (node->kernel == NULL) {
            note_missing(make, from, node->index);
        } else {
            KLN_RETURN_IF_ERROR(check_version(node, domain));
            KLN_RETURN_IF_ERROR(check_attributes(node, domain));
            KLN_RETURN_IF_ERROR(check_types(node));
        }
    }
    KLN_RETURN_IF_ERROR(link_node(make, where, node));
    KLN_RETURN_IF_ERROR(make_bodies(make, where, node, function));
    KLN_RETURN_IF_ERROR(link_outputs(where, node));
    where->plan->node_count++;
    return KILN_OK;
}

/* --- lifetimes --- */

static kiln_status list_dead(maker *make, scope *where)
{
    ref_plan *plan = where->plan;
    for (size_t slot = 0; slot < plan->slot_count; slot++) {
        if (where->last_use[slot] < plan->node_count) {
            plan->nodes[where->last_use[slot]].dead_count++;
        }
    }
    for (size_t i = 0; i < plan->node_count; i++) {
        plan->nodes[i].dead = kln_arena_alloc_zeroed(
            &make->engine->arena, plan->nodes[i].dead_count + 1, sizeof(uint32_t));
        KLN_FAIL_IF(plan->nodes[i].dead == NULL, ref_fail_arena());
        plan->nodes[i].dead_count = 0;
    }
    for (size_t slot = 0; slot < plan->slot_count; slot++) {
        if (where->last_use[slot] < plan->node_count) {
            ref_node *node = &plan->nodes[where->last_use[slot]];
            node->dead[node->dead_count++] = (uint32_t)slot;
        }
    }
    return KILN_OK;
}

/* --- graphs --- */

static kiln_status define_input(scope *where, const char *name)
{
    ref_plan *plan = where->plan;
    plan->input_names[plan->input_count] = name;
    KLN_RETURN_IF_ERROR(define_slot(where, name, KEPT, &plan->inputs[plan->input_count]));
    plan->input_count++;
    return KILN_OK;
}

static kiln_status define_initializers(maker *make, scope *where, const kln_onnx_graph *graph)
{
    KLN_RETURN_IF(graph->sparse_initializer_count > 0, KILN_ERROR_UNSUPPORTED,
                  "the network has %zu sparse initializer%s; the reference backend takes "
                  "dense ones only",
                  graph->sparse_initializer_count, KLN_S(graph->sparse_initializer_count));
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kln_onnx_tensor *tensor = &graph->initializers[i];
        if (kln_names_get(&where->names, tensor->name) != KLN_NAMES_NONE) {
            continue; /* a body's input of the same name takes precedence */
        }
        ref_value *value = NULL;
        KLN_RETURN_IF_ERROR(define_constant(where, tensor->name, &value));
        KLN_RETURN_WITHIN(ref_constant(&make->engine->weights, tensor, value), "initializer \"%s\"",
                          tensor->name);
    }
    return KILN_OK;
}

static kiln_status define_optional(maker *make, scope *where, const kln_onnx_tensor *tensor,
                                   ref_value *values)
{
    ref_plan *plan = where->plan;
    KLN_RETURN_IF_ERROR(define_input(where, tensor->name));
    const kiln_status status =
        ref_constant(&make->engine->weights, tensor, &values[plan->optional_count++]);
    return status == KILN_OK ? status : kln_fail_within(status, "initializer \"%s\"", tensor->name);
}

static kiln_status split_inputs(maker *make, scope *where, const kln_onnx_graph *graph,
                                const kln_names *weights)
{
    ref_value *values =
        kln_arena_alloc_zeroed(&make->engine->arena, graph->input_count + 1, sizeof *values);
    KLN_FAIL_IF(values == NULL, ref_fail_arena());
    where->plan->optional = values;
    for (size_t i = 0; i < graph->input_count; i++) {
        if (kln_names_get(weights, graph->inputs[i].name) == KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(define_input(where, graph->inputs[i].name));
        }
    }
    for (size_t i = 0; i < graph->input_count &&
                       make->engine->model->ir_version >= KLN_ONNX_IR_OF_OPTIONAL_INPUTS;
         i++) {
        const uint32_t place = kln_names_get(weights, graph->inputs[i].name);
        if (place != KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(define_optional(make, where, &graph->initializers[place], values));
        }
    }
    return KILN_OK;
}

static kiln_status define_model_inputs(maker *make, scope *where, const kln_onnx_graph *graph)
{
    KLN_SCOPED(kln_names_finish) kln_names weights = {0};
    KLN_RETURN_IF_ERROR(kln_onnx_name_initializers(graph, &weights));
    return split_inputs(make, where, graph, &weights);
}

static kiln_status define_sources(maker *make, scope *where, const kln_onnx_graph *graph,
                                  const kln_onnx_function *function)
{
    if (function != NULL) {
        for (size_t i = 0; i < function->input_count; i++) {
            KLN_RETURN_IF_ERROR(define_input(where, function->inputs[i]));
        }
        return KILN_OK;
    }
    if (where->outer == NULL) {
        KLN_RETURN_IF_ERROR(define_model_inputs(make, where, graph));
    }
    for (size_t i = 0; where->outer != NULL && i < graph->input_count; i++) {
        KLN_RETURN_IF_ERROR(define_input(where, graph->inputs[i].name));
    }
    return define_initializers(make, where, graph);
}

static kiln_status resolve_outputs(scope *where, const kln_onnx_graph *graph,
                                   const kln_onnx_function *function)
{
    ref_plan *plan = where->plan;
    const size_t count = function != NULL ? function->output_count : graph->output_count;
    for (size_t i = 0; i < count; i++) {
        const char *name = function != NULL ? function->outputs[i] : graph->outputs[i].name;
        KLN_RETURN_IF(!resolve(where, name, &plan->outputs[i]), KILN_ERROR_INVALID_NETWORK,
                      "no node gives the output \"%s\" of \"%s\"", name,
                      function != NULL ? function->name : graph->name);
        if (plan->outputs[i].slot != REF_SLOT_NONE && plan->outputs[i].level == 0) {
            where->last_use[plan->outputs[i].slot] = KEPT;
        }
    }
    plan->output_count = count;
    return KILN_OK;
}

static kiln_status make_room(maker *make, scope *where, const kln_onnx_graph *graph,
                             const kln_onnx_function *function)
{
    kln_arena *arena = &make->engine->arena;
    const size_t inputs = function != NULL ? function->input_count : graph->input_count;
    const size_t outputs = function != NULL ? function->output_count : graph->output_count;
    size_t slots = inputs;
    for (size_t i = 0; i < graph->node_count; i++) {
        slots += graph->nodes[i].output_count;
    }
    const size_t constants = graph->initializer_count + graph->node_count;
    ref_plan *plan = where->plan;
    where->last_use = kln_arena_alloc_zeroed(arena, slots + 1, sizeof(size_t));
    where->constants = kln_arena_alloc_zeroed(arena, constants + 1, sizeof(ref_value));
    plan->input_names = kln_arena_alloc_zeroed(arena, inputs + 1, sizeof(char *));
    plan->inputs = kln_arena_alloc_zeroed(arena, inputs + 1, sizeof(uint32_t));
    plan->outputs = kln_arena_alloc_zeroed(arena, outputs + 1, sizeof(ref_source));
    plan->nodes = kln_arena_alloc_zeroed(arena, graph->node_count + 1, sizeof(ref_node));
    return where->last_use == NULL || where->constants == NULL || plan->input_names == NULL ||
                   plan->inputs == NULL || plan->outputs == NULL || plan->nodes == NULL
               ? ref_fail_arena()
               : KILN_OK;
}

static kiln_status fill_plan(maker *make, scope *where, const kln_onnx_graph *graph,
                             const kln_onnx_function *function)
{
    KLN_RETURN_IF_ERROR(make_room(make, where, graph, function));
    KLN_RETURN_IF_ERROR(define_sources(make, where, graph, function));
    for (size_t i = 0; i < graph->node_count; i++) {
        KLN_RETURN_IF_ERROR(make_node(make, where, &graph->nodes[i]));
    }
    KLN_RETURN_IF_ERROR(resolve_outputs(where, graph, function));
    return list_dead(make, where);
}

static kiln_status make_plan(maker *make, scope *outer, const ref_environment *around,
                             const kln_onnx_graph *graph, const kln_onnx_function *function,
                             ref_plan **plan)
{
    *plan = kln_arena_alloc_zeroed(&make->engine->arena, 1, sizeof **plan);
    KLN_FAIL_IF(*plan == NULL, ref_fail_arena());
    (*plan)->graph = graph;
    scope where = {.outer = outer, .environment = around, .plan = *plan};
    const kiln_status status = fill_plan(make, &where, graph, function);
    kln_names_finish(&where.names);
    return status;
}

kiln_status ref_plan_make(ref_engine *engine)
{
    const kln_onnx_model *model = engine->model;
    maker make = {.engine = engine, .index = {.model = model}};
    const ref_environment around = {.call = NULL};

    kiln_status status = kln_onnx_index_update(&make.index);
    KLN_THEN(status, make_plan(&make, NULL, &around, &model->graph, NULL, &engine->plan));
    kln_onnx_index_finish(&make.index);
    return status == KILN_OK && make.missing_count > 0 ? fail_missing(&make) : status;
}
