/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rule.h"
#include "onnx/kln_look.h"

#define FEW 8

/* --- resolving the operator --- */

static int64_t opset_of(const kln_infer_state *state, const kln_onnx_function *function,
                        const char *domain)
{
    const int64_t version = kln_onnx_index_opset(&state->index, function, domain);
    /* Models older than operator sets use the first one. */
    const bool old = function == NULL && state->inference->model->ir_version < 3;
    return version == 0 && old && domain[0] == '\0' ? 1 : version;
}

static kln_key operator_key(const kln_onnx_node *node, int64_t opset)
{
    return (kln_key){
        .text = {node->domain, node->op_type, node->overload != NULL ? node->overload : ""},
        .number = opset};
}

static kln_resolved *make_resolved(kln_infer_state *state, const kln_onnx_node *node, int64_t opset)
{
    kln_resolved *resolved = kln_arena_alloc_zeroed(state->arena, 1, sizeof *resolved);
    if (resolved == NULL) {
        kln_state_check(state, false);
        return NULL;
    }
    resolved->domain = node->domain;
    resolved->opset = opset;
    resolved->function = kln_onnx_index_function(&state->index, node);
    const kln_operator *row =
        resolved->function == NULL ? kln_operator_find(node->domain, node->op_type, opset) : NULL;
    if (row != NULL) {
        resolved->schema = kln_schema_parse(row, state->arena);
        kln_state_check(state, resolved->schema != NULL);
        if (resolved->schema != NULL) {
            kln_rule_lookup(row->domain, row->name, resolved);
        }
    }
    return state->status == KILN_OK ? resolved : NULL;
}

static const kln_resolved *look_up(kln_infer_state *state, const kln_scope *scope,
                                   const kln_onnx_node *node)
{
    const int64_t opset = opset_of(state, scope->function, node->domain);
    const kln_key key = operator_key(node, opset);
    const uint32_t place = kln_keys_get(&state->operators, &key);
    if (place != KLN_NAMES_NONE) {
        return state->resolved[place];
    }
    kln_resolved *resolved = make_resolved(state, node, opset);
    if (resolved == NULL) {
        return NULL;
    }
    kiln_status status =
        KLN_GROW(state->arena, state->resolved, state->resolved_count, state->resolved_capacity);
    KLN_THEN(status, kln_keys_set(&state->operators, &key, (uint32_t)state->resolved_count));
    if (status != KILN_OK) {
        state->status = state->status == KILN_OK ? status : state->status;
        return NULL;
    }
    state->resolved[state->resolved_count++] = resolved;
    return resolved;
}

static const kln_resolved *resolve(kln_infer_state *state, const kln_scope *scope,
                                   const kln_onnx_node *node)
{
    const size_t place = ((uintptr_t)node->op_type >> 3) % KLN_RECENT;
    const bool plain = node->overload == NULL || node->overload[0] == '\0';
    if (plain && state->recent[place].op_type == node->op_type &&
        state->recent[place].domain == node->domain &&
        state->recent[place].function == scope->function) {
        return state->recent[place].resolved;
    }
    const kln_resolved *resolved = look_up(state, scope, node);
    if (plain && resolved != NULL && resolved->opset != 0) {
        state->recent[place].op_type = node->op_type;
        state->recent[place].domain = node->domain;
        state->recent[place].function = scope->function;
        state->recent[place].resolved = resolved;
    }
    return resolved;
}

/* --- types of inputs --- */

static bool in_set(const kln_value *value, const kln_type_set *set)
{
    const kln_value *element = value->element;
    const int32_t of = element != NULL ? element->wire_dtype : 0;
    switch (value->kind) {
        case KLN_ONNX_KIND_TENSOR:
        case KLN_ONNX_KIND_SPARSE_TENSOR:
            return value->wire_dtype == 0 ? set->tensor != 0
                                          : kln_type_is_among(set->tensor, value->wire_dtype);
        case KLN_ONNX_KIND_SEQUENCE:
            return (element != NULL && element->kind == KLN_ONNX_KIND_MAP && set->map) ||
                   (of == 0 ? set->sequence != 0 : kln_type_is_among(set->sequence, of));
        case KLN_ONNX_KIND_OPTIONAL:
            if (element != NULL && element->kind == KLN_ONNX_KIND_SEQUENCE) {
                return set->optional_sequence != 0;
            }
            return of == 0 ? (set->optional | set->optional_sequence) != 0
                           : kln_type_is_among(set->optional, of);
        case KLN_ONNX_KIND_MAP: return set->map;
        case KLN_ONNX_KIND_NONE:
        case KLN_ONNX_KIND_OPAQUE: break;
    }
    return true;
}

/* In its own stack frame: see infer_flat. */
__attribute__((noinline)) static void bind_types(kln_rule *rule)
{
    const kln_schema *schema = rule->resolved->schema;
    const char *first[KLN_VARIABLES_MOST]; /* the input that determined a type */
    for (size_t i = 0; i < rule->in_count; i++) {
        const kln_value *value = rule->in[i];
        const kln_schema_parameter *parameter = kln_schema_input(schema, i);
        if (value == NULL || parameter == NULL || value->kind == KLN_ONNX_KIND_NONE) {
            continue;
        }
        if (!in_set(value, &parameter->types)) {
            kln_rule_wrong_type(rule, false, i, value->wire_dtype, rule->node->inputs[i],
                                KLN_PRINTED("input %zu, \"%.60s\",", i, rule->node->inputs[i]),
                                KLN_VALUE_PRINTED(value));
            continue;
        }
        if (parameter->variable < 0 || parameter->mixed || value->kind != KLN_ONNX_KIND_TENSOR ||
            value->wire_dtype == 0) {
            continue;
        }
        int32_t *bound = &rule->bound[parameter->variable];
        if (*bound != 0 && *bound != value->wire_dtype) {
            kln_rule_fault(rule, KILN_ISSUE_DTYPE, rule->node->inputs[i],
                           kln_onnx_dtype_name(*bound), kln_onnx_dtype_name(value->wire_dtype),
                           "input %zu, \"%.80s\", is %s, but \"%.80s\" is %s; they must be of one "
                           "type, so cast one",
                           i, rule->node->inputs[i], kln_onnx_dtype_name(value->wire_dtype),
                           first[parameter->variable], kln_onnx_dtype_name(*bound));
        } else if (*bound == 0) {
            *bound = value->wire_dtype;
            first[parameter->variable] = rule->node->inputs[i];
        }
    }
}

static void output_types(kln_rule *rule)
{
    const kln_schema *schema = rule->resolved->schema;
    for (size_t i = 0; i < rule->out_count; i++) {
        const kln_schema_parameter *parameter = kln_schema_output(schema, i);
        if (parameter == NULL || parameter->mixed) {
            continue;
        }
        int32_t type = parameter->variable >= 0 ? rule->bound[parameter->variable] : 0;
        const kln_type_set *set = &parameter->types;
        const bool tensors_only =
            set->sequence == 0 && set->optional == 0 && set->optional_sequence == 0 && !set->map;
        if (type == 0 && tensors_only) {
            type = kln_type_set_single(set->tensor);
        }
        if (type != 0 || (tensors_only && set->tensor != 0)) {
            rule->out[i].kind = KLN_ONNX_KIND_TENSOR;
            rule->out[i].wire_dtype = type;
        }
    }
}

/* --- one node --- */

static bool is_size(kln_dim dim)
{
    return dim.kind != KLN_DIM_REAL && (dim.kind != KLN_DIM_NUMBER || dim.of.number >= 0);
}

/* Whatever attributes and contents a rule computed with, a dimension is never negative. */
static void repair_shape(kln_rule *rule, size_t output)
{
    kln_value *value = &rule->out[output];
    size_t bad = 0;
    if (rule->in_count > 0 && rule->in[0] != NULL && rule->in[0]->dims == value->dims) {
        return; /* it was checked when that input was inferred */
    }
    while (value->has_shape && bad < value->rank && is_size(value->dims[bad])) {
        bad++;
    }
    if (!value->has_shape || bad == value->rank) {
        return;
    }
    char found[40]; /* in the stack frame that recurs from graph to graph */
    (void)kln_dim_format(value->dims[bad], found, sizeof found);
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, value->name, "a size", found,
                   "dimension %zu of its output \"%.100s\" would be %s", bad, value->name, found);
    kln_dim *dims = kln_rule_alloc(rule, value->rank, sizeof *dims);
    for (size_t i = 0; dims != NULL && i < value->rank; i++) {
        dims[i] = is_size(value->dims[i]) ? value->dims[i] : KLN_UNKNOWN_DIM;
    }
    value->has_shape = dims != NULL;
    value->dims = dims;
}

static void apply(kln_rule *rule, kln_graph_walk *walk, bool constant)
{
    const kln_node_inference *known = &rule->graph->nodes[rule->index];
    for (size_t i = 0; i < rule->out_count; i++) {
        kln_value *inferred = &rule->out[i];
        if (known->outputs[i] == KLN_NO_VALUE) {
            continue;
        }
        kln_value *value = rule->graph->values[known->outputs[i]];
        if (value != inferred) {
            kln_walk_merge(rule, walk, value, inferred);
            kln_value_copy_type(value, inferred, true);
            value->contents = inferred->contents;
            value->content_count = inferred->content_count;
            value->initializer = inferred->initializer;
            value->quantization = inferred->quantization;
        }
        value->dtype = kln_onnx_dtype(value->wire_dtype);
        value->is_constant = constant;
    }
}

static bool all_constant(const kln_rule *rule)
{
    if (rule->resolved->schema == NULL || rule->resolved->random ||
        rule->graph->nodes[rule->index].graph_count > 0) {
        return false;
    }
    for (size_t i = 0; i < rule->node->input_count; i++) {
        if (rule->node->inputs[i][0] != '\0' &&
            (rule->in[i] == NULL || !rule->in[i]->is_constant)) {
            return false;
        }
    }
    return true;
}

static void run_rule(kln_rule *rule, kln_graph_walk *walk)
{
    const kln_resolved *resolved = rule->resolved;
    kln_infer_state *state = rule->state;
    if (resolved->schema != NULL) {
        rule->since = resolved->schema->row->since;
        bind_types(rule);
        output_types(rule);
        kln_rule_check_precisions(rule);
        if (resolved->rule != NULL &&
            (resolved->form == NULL || kln_form_fits(rule, resolved->form)) &&
            (resolved->fit == NULL || resolved->fit(rule)) &&
            (!resolved->ranked || kln_rule_ranked(rule, 0))) {
            resolved->rule(rule);
        }
        for (size_t i = 0; i < rule->out_count && state->status == KILN_OK; i++) {
            repair_shape(rule, i);
        }
        if (resolved->fold != NULL && state->status == KILN_OK) {
            resolved->fold(rule);
        }
    } else if (resolved->function != NULL) {
        kln_infer_call(rule, resolved->function);
    }
    kln_state_check(state, !state->pool.failed);
    if (state->status == KILN_OK) {
        apply(rule, walk, all_constant(rule));
    }
}

static void infer_with(kln_rule *rule, kln_graph_walk *walk, kln_value **in, kln_value *out,
                       bool is_own)
{
    const kln_node_inference *known = &walk->inference.nodes[rule->index];
    rule->in = in;
    rule->out = out;
    if (in == NULL || out == NULL) {
        return;
    }
    for (size_t i = 0; i < rule->in_count; i++) {
        in[i] = known->inputs[i] != KLN_NO_VALUE ? walk->inference.values[known->inputs[i]] : NULL;
    }
    for (size_t i = 0; i < rule->out_count && !is_own; i++) {
        out[i] = (kln_value){.name = rule->node->outputs[i]};
    }
    run_rule(rule, walk);
}

/* The value of a single output if it can be filled in in place, because it is new and no
 * declaration could contradict it; else NULL. */
static kln_value *own_output(const kln_rule *rule, const kln_graph_walk *walk)
{
    const uint32_t place =
        rule->out_count == 1 ? walk->inference.nodes[rule->index].outputs[0] : KLN_NO_VALUE;
    return place != KLN_NO_VALUE && walk->declared.count == 0 ? walk->inference.values[place]
                                                              : NULL;
}

/* In its own stack frame, which nested graphs do without. */
__attribute__((noinline)) static void infer_flat(kln_rule *rule, kln_graph_walk *walk)
{
    kln_value *few_inputs[FEW];
    kln_value few_outputs[FEW];
    kln_value *own = own_output(rule, walk);
    infer_with(rule, walk,
               rule->in_count <= FEW ? few_inputs
                                     : kln_rule_alloc(rule, rule->in_count, sizeof(kln_value *)),
               own != NULL              ? own
               : rule->out_count <= FEW ? few_outputs
                                        : kln_rule_alloc(rule, rule->out_count, sizeof(kln_value)),
               own != NULL);
    rule->in = NULL;
    rule->out = NULL;
}

void kln_infer_node(kln_infer_state *state, kln_graph_walk *walk, uint32_t index)
{
    kln_graph_inference *graph = &walk->inference;
    const kln_onnx_node *node = &graph->graph->nodes[index];
    kln_node_inference *known = &graph->nodes[index];
    const bool called = walk->scope->function != NULL;
    if (called && state->nodes_left == 0) {
        state->status = kln_fail(KILN_ERROR_LIMIT,
                                 "the model's functions call each other until more than %zu nodes "
                                 "would have to be looked at",
                                 KLN_NODES_MOST);
        return;
    }
    state->nodes_left -= called ? 1 : 0;
    const kln_resolved *resolved = resolve(state, walk->scope, node);
    if (resolved == NULL) {
        return;
    }
    known->resolved = resolved;
    kln_rule rule = {.state = state,
                     .graph = graph,
                     .scope = walk->scope,
                     .node = node,
                     .index = index,
                     .resolved = resolved,
                     .in_count = node->input_count,
                     .out_count = node->output_count};
    if (resolved->function != NULL || kln_onnx_holds_graphs(node)) {
        infer_with(&rule, walk, kln_rule_alloc(&rule, node->input_count, sizeof(kln_value *)),
                   kln_rule_alloc(&rule, node->output_count, sizeof(kln_value)), false);
    } else {
        infer_flat(&rule, walk);
    }
}
