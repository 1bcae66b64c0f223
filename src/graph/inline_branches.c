/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces an If by the nodes of one branch:
 *
 * - if its condition is known before a run, by the branch that is taken;
 * - if its condition only asks whether a tensor is empty, and the branch for that case produces no
 *   elements, by the other branch, provided that inference finds that it too produces no elements
 *   from an empty tensor. All detectors of torchvision guard non-maximum suppression this way.
 *
 * Names inside a branch stay as they are unless another graph of the model uses them too.
 */
#include "inline_nodes.h"

typedef struct branches {
    const kln_onnx_model *model;
    kln_inference *inference;
    kln_graph_index index; /* of the main graph */
    kln_names made;        /* tensor names, to how many graphs define them */
} branches;

/* --- the names of all graphs --- */

static kiln_status count_name(kln_names *made, const char *name)
{
    const uint32_t before = kln_names_get(made, name);
    return name[0] == '\0' ? KILN_OK
                           : kln_names_set(made, name, before == KLN_NAMES_NONE ? 1 : before + 1);
}

static kiln_status count_names(kln_names *made, const kln_onnx_graph *graph)
{
    for (size_t i = 0; i < graph->input_count; i++) {
        KLN_RETURN_IF_ERROR(count_name(made, graph->inputs[i].name));
    }
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(count_name(made, graph->initializers[i].name));
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t k = 0; k < node->output_count; k++) {
            KLN_RETURN_IF_ERROR(count_name(made, node->outputs[k]));
        }
        for (size_t a = 0; a < node->attribute_count; a++) {
            kln_onnx_graph *const *inner = NULL;
            const size_t count = kln_onnx_graphs_of(&node->attributes[a], &inner);
            for (size_t k = 0; k < count; k++) {
                KLN_RETURN_IF_ERROR(count_names(made, inner[k]));
            }
        }
    }
    return KILN_OK;
}

/* --- conditions --- */

/* Nodes that a condition is followed through; a damaged model may be a circle. */
#define STEPS_MOST 8

/* The node that computes the value, skipping casts and copies. */
static const kln_onnx_node *maker_of(const branches *of, const char *name)
{
    const kln_onnx_node *node = kln_graph_index_node(&of->index, &of->index.producers, name);
    for (int steps = 0; steps < STEPS_MOST && node != NULL && node->input_count == 1 &&
                        (kln_onnx_node_is(node, "Cast") || kln_onnx_node_is(node, "Identity"));
         steps++) {
        node = kln_graph_index_node(&of->index, &of->index.producers, node->inputs[0]);
    }
    return node;
}

/* Whether the value is known to be a single number, and which. */
static bool is_number(const branches *of, const char *name, int64_t *number)
{
    size_t count = 0;
    kln_value *value = kln_inference_find(of->inference->graph, name);
    const kln_dim *contents =
        value != NULL ? kln_value_contents(of->inference, value, &count) : NULL;
    if (contents == NULL || count != 1 || contents->kind != KLN_DIM_NUMBER) {
        return false;
    }
    *number = contents->of.number;
    return true;
}

/* The tensor whose elements Size, or ReduceProd of Shape, counts; or NULL. */
static const char *counted_by(const branches *of, const char *name)
{
    const kln_onnx_node *node = maker_of(of, name);
    if (node != NULL && kln_onnx_node_is(node, "ReduceProd") && node->input_count == 1 &&
        kln_onnx_find_attribute(node, "axes") == NULL &&
        kln_onnx_find_attribute(node, "noop_with_empty_axes") == NULL) {
        node = maker_of(of, node->inputs[0]);
        return node != NULL && kln_onnx_node_is(node, "Shape") && node->input_count == 1 &&
                       node->attribute_count == 0
                   ? node->inputs[0]
                   : NULL;
    }
    return node != NULL && kln_onnx_node_is(node, "Size") && node->input_count == 1
               ? node->inputs[0]
               : NULL;
}

/* The tensor that the condition tests for emptiness, or NULL; `*empty`: the condition's value if it
 * is empty. */
static const char *asked_for(const branches *of, const char *condition, bool *empty)
{
    const kln_onnx_node *node = maker_of(of, condition);
    *empty = true;
    for (int steps = 0; steps < STEPS_MOST && node != NULL && kln_onnx_node_is(node, "Not") &&
                        node->input_count == 1;
         steps++) {
        node = maker_of(of, node->inputs[0]);
        *empty = !*empty;
    }
    if (node == NULL || node->input_count != 2) {
        return NULL;
    }
    const bool is_greater = kln_onnx_node_is(node, "Greater");
    int64_t zero = 1;
    for (size_t i = 0; i < 2 && (is_greater || kln_onnx_node_is(node, "Equal")); i++) {
        if ((i == 0 || !is_greater) && is_number(of, node->inputs[1 - i], &zero) && zero == 0) {
            *empty = *empty != is_greater;
            return counted_by(of, node->inputs[i]);
        }
    }
    return NULL;
}

/* --- what a branch computes from an empty tensor --- */

static bool has_no_elements(const kln_value *value)
{
    for (size_t d = 0; value != NULL && value->has_shape && d < value->rank; d++) {
        if (value->dims[d].kind == KLN_DIM_NUMBER && value->dims[d].of.number == 0) {
            return true;
        }
    }
    return false;
}

static bool gives_nothing(const kln_graph_inference *known)
{
    for (size_t i = 0; known != NULL && i < known->output_count; i++) {
        if (known->outputs[i] == KLN_NO_VALUE ||
            !has_no_elements(known->values[known->outputs[i]])) {
            return false;
        }
    }
    return known != NULL;
}

/* Declares an outer value as an input of the isolated branch, with 0 for dimension `none`. */
static kiln_status declare(kln_arena *arena, const kln_value *value, const char *name, size_t none,
                           kln_onnx_value *input)
{
    kln_onnx_dim *dims = kln_arena_alloc_zeroed(arena, value->rank + 1, sizeof *dims);
    KLN_FAIL_IF(dims == NULL, inline_no_memory());
    for (size_t d = 0; d < value->rank; d++) {
        const bool is_known = value->dims[d].kind == KLN_DIM_NUMBER;
        dims[d].value = d == none ? 0 : is_known ? value->dims[d].of.number : KILN_DYNAMIC;
    }
    *input = (kln_onnx_value){.name = name,
                              .type = {.kind = KLN_ONNX_KIND_TENSOR,
                                       .dtype = value->dtype,
                                       .wire_dtype = value->wire_dtype,
                                       .has_shape = value->has_shape,
                                       .rank = value->rank,
                                       .dims = dims}};
    return KILN_OK;
}

/* Outer values that the branch reads become its inputs, and outer constants its constants. */
static kiln_status add_around(const branches *of, kln_arena *arena, kln_onnx_graph *alone,
                              kln_names *seen, const char *name, const char *tensor, size_t none)
{
    const kln_value *value = name[0] != '\0' && kln_names_get(seen, name) == KLN_NAMES_NONE
                                 ? kln_inference_find(of->inference->graph, name)
                                 : NULL;
    if (value == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_names_set(seen, name, 0));
    if (value->initializer != NULL && value->is_constant) {
        kln_onnx_tensor constant = *value->initializer;
        constant.name = name;
        return kln_onnx_add_initializer(arena, alone, &constant);
    }
    return declare(arena, value, name, strcmp(name, tensor) == 0 ? none : SIZE_MAX,
                   &alone->inputs[alone->input_count++]);
}

static kiln_status isolate(const branches *of, kln_arena *arena, const kln_onnx_graph *branch,
                           const char *tensor, size_t none, kln_onnx_graph *alone)
{
    size_t reads = 0;
    for (size_t i = 0; i < branch->node_count; i++) {
        reads += branch->nodes[i].input_count;
    }
    *alone = *branch;
    alone->values = NULL;
    alone->value_count = alone->value_capacity = 0;
    alone->initializer_capacity = alone->initializer_count;
    alone->inputs = kln_arena_alloc_zeroed(arena, reads + 1, sizeof *alone->inputs);
    KLN_FAIL_IF(alone->inputs == NULL, inline_no_memory());
    KLN_SCOPED(kln_names_finish) kln_names seen = {0};
    KLN_RETURN_IF_ERROR(count_names(&seen, branch));
    for (size_t i = 0; i < branch->node_count; i++) {
        for (size_t k = 0; k < branch->nodes[i].input_count; k++) {
            KLN_RETURN_IF_ERROR(
                add_around(of, arena, alone, &seen, branch->nodes[i].inputs[k], tensor, none));
        }
    }
    return KILN_OK;
}

/* Whether inference finds no fault and no elements in the branch's outputs if dimension `none` of
 * the tensor is 0. */
static kiln_status vanishes(const branches *of, const kln_onnx_graph *branch, const char *tensor,
                            size_t none, bool *is_nothing)
{
    kln_onnx_model alone = *of->model;
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    KLN_SCOPED(kln_arena_finish) kln_arena arena = {0};
    KLN_RETURN_IF_ERROR(isolate(of, &arena, branch, tensor, none, &alone.graph));
    KLN_RETURN_IF_ERROR(kln_infer(&alone, NULL, &inference));
    *is_nothing = kiln_issue_list_count(inference->issues) == 0 && gives_nothing(inference->graph);
    return KILN_OK;
}

/* The same for each dimension of the tensor that may be 0. */
static kiln_status gives_nothing_of(const branches *of, const kln_onnx_graph *branch,
                                    const char *tensor, bool *is_nothing)
{
    const kln_value *value = kln_inference_find(of->inference->graph, tensor);
    bool all = value != NULL && value->has_shape;
    size_t asked = 0;
    for (size_t i = 0; all && i < branch->node_count; i++) {
        all = !kln_onnx_holds_graphs(&branch->nodes[i]);
    }
    for (size_t d = 0; all && d < value->rank; d++) {
        if (value->dims[d].kind != KLN_DIM_NUMBER) {
            KLN_RETURN_IF_ERROR(vanishes(of, branch, tensor, d, &all));
            asked++;
        }
    }
    *is_nothing = all && asked != 0;
    return KILN_OK;
}

/* --- which branch --- */

static const kln_onnx_graph *branch_of(const kln_onnx_node *node, bool condition)
{
    const kln_onnx_attribute *found =
        kln_onnx_find_attribute(node, condition ? "then_branch" : "else_branch");
    return found != NULL ? found->graph : NULL;
}

/* The branch that replaces the If; NULL: none. */
static kiln_status choose(const branches *of, size_t index, const kln_onnx_graph **branch)
{
    const kln_onnx_node *node = &of->model->graph.nodes[index];
    const kln_graph_inference *main = of->inference->graph;
    int64_t condition = 0;
    bool empty = false;
    *branch = NULL;
    if (!kln_onnx_node_is(node, "If") || node->input_count != 1 || index >= main->node_count ||
        branch_of(node, true) == NULL || branch_of(node, false) == NULL) {
        return KILN_OK;
    }
    if (is_number(of, node->inputs[0], &condition)) {
        *branch = branch_of(node, condition != 0);
        return KILN_OK;
    }
    const char *tensor = asked_for(of, node->inputs[0], &empty);
    if (tensor == NULL ||
        !gives_nothing(kln_inference_inside(&main->nodes[index], branch_of(node, empty)))) {
        return KILN_OK;
    }
    bool is_nothing = false;
    KLN_RETURN_IF_ERROR(gives_nothing_of(of, branch_of(node, !empty), tensor, &is_nothing));
    *branch = is_nothing ? branch_of(node, !empty) : NULL;
    return KILN_OK;
}

/* --- its nodes --- */

/* A name of the branch stays if no other graph defines it. */
static kiln_status bind_own(inliner *in, inline_frame *inner, const char *name, const char *prefix,
                            size_t *count)
{
    const branches *of = in->user;
    if (name[0] == '\0' || kln_names_get(&inner->formal, name) != KLN_NAMES_NONE) {
        return KILN_OK;
    }
    const bool is_alone = kln_names_get(&of->made, name) == 1;
    const char *actual = is_alone ? name : kln_arena_printf(in->arena, "%s%s", prefix, name);
    KLN_FAIL_IF(actual == NULL, inline_no_memory());
    return inline_bind(inner, name, actual, count);
}

/* An output that the branch only passes on, or has twice, becomes an Identity (add_branch). */
static kiln_status bind_branch(inliner *in, inline_frame *inner, const kln_onnx_graph *branch,
                               const kln_onnx_node *node, const char *prefix)
{
    size_t most = branch->output_count + branch->initializer_count;
    size_t count = 0;
    KLN_SCOPED(kln_names_finish) kln_names own = {0};
    KLN_RETURN_IF_ERROR(count_names(&own, branch));
    for (size_t i = 0; i < branch->node_count; i++) {
        most += branch->nodes[i].output_count;
    }
    KLN_RETURN_IF_ERROR(inline_begin_names(in, inner, most));
    for (size_t i = 0; i < branch->output_count && i < node->output_count; i++) {
        const char *name = branch->outputs[i].name;
        if (node->outputs[i][0] != '\0' && kln_names_get(&own, name) != KLN_NAMES_NONE &&
            kln_names_get(&inner->formal, name) == KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(inline_bind(inner, name, node->outputs[i], &count));
        }
    }
    for (size_t i = 0; i < branch->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(bind_own(in, inner, branch->initializers[i].name, prefix, &count));
    }
    for (size_t i = 0; i < branch->node_count; i++) {
        for (size_t k = 0; k < branch->nodes[i].output_count; k++) {
            KLN_RETURN_IF_ERROR(bind_own(in, inner, branch->nodes[i].outputs[k], prefix, &count));
        }
    }
    return KILN_OK;
}

static kiln_status add_branch(inliner *in, inline_frame *inner, const kln_onnx_graph *branch,
                              const kln_onnx_node *node)
{
    for (size_t i = 0; i < branch->initializer_count; i++) {
        kln_onnx_tensor weights = branch->initializers[i];
        weights.name = inline_name(in, inner, weights.name);
        KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(in->arena, in->made, &weights));
    }
    KLN_RETURN_IF_ERROR(inline_nodes(in, inner, branch->nodes, branch->node_count));
    for (size_t i = 0; i < branch->output_count && i < node->output_count; i++) {
        const char *made = inline_name(in, inner, branch->outputs[i].name);
        if (node->outputs[i][0] != '\0' && strcmp(made, node->outputs[i]) != 0) {
            KLN_RETURN_IF_ERROR(inline_identity(in, made, node->outputs[i]));
        }
    }
    return KILN_OK;
}

static kiln_status replace_if(inliner *in, const inline_frame *frame, size_t index,
                              const kln_onnx_node *node, bool *replaced)
{
    const kln_onnx_graph *branch = NULL;
    if (frame->depth != 0 || in->made != in->main) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(choose(in->user, index, &branch));
    if (branch == NULL) {
        return KILN_OK;
    }
    *replaced = true;
    inline_frame inner = {.depth = 1};
    const char *prefix = inline_prefix(in, node);
    KLN_FAIL_IF(prefix == NULL, inline_no_memory());
    kiln_status status = bind_branch(in, &inner, branch, node, prefix);
    KLN_THEN(status, add_branch(in, &inner, branch, node));
    kln_names_finish(&inner.formal);
    return status;
}

/* One pass over the main graph. */
static kiln_status inline_once(kln_onnx_model *model, size_t *inlined)
{
    branches of = {.model = model};
    inliner in = {.model = model, .arena = &model->arena, .replace = replace_if, .user = &of};
    kiln_status status = kln_infer(model, NULL, &of.inference);
    KLN_THEN(status, kln_graph_index_make(&model->graph, &of.index));
    KLN_THEN(status, count_names(&of.made, &model->graph));
    KLN_THEN(status, inline_model(&in));
    kln_names_finish(&of.made);
    kln_graph_index_finish(&of.index);
    kln_inference_destroy(of.inference);
    *inlined = status == KILN_OK ? in.count : 0;
    return status;
}

kiln_status kln_inline_branches(kln_onnx_model *model, size_t *inlined)
{
    const kln_onnx_graph before = model->graph;
    size_t once = 1;
    *inlined = 0;
    /* Branches inside an inlined branch are in the main graph by the next pass. */
    while (once != 0 && kln_graph_has(&model->graph, "If")) {
        const kiln_status status = inline_once(model, &once);
        if (status != KILN_OK) {
            model->graph = before;
            *inlined = 0;
            return status;
        }
        *inlined += once;
    }
    return KILN_OK;
}
