/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static const kln_onnx_graph *inner(kln_rule *rule, const char *name)
{
    const kln_onnx_attribute *attribute = kln_rule_attribute(rule, name);
    return attribute != NULL && attribute->type == KLN_ONNX_ATTRIBUTE_GRAPH ? attribute->graph
                                                                            : NULL;
}

static const kln_value *output_of(const kln_graph_inference *graph, size_t index)
{
    return graph != NULL && index < graph->output_count && graph->outputs[index] != KLN_NO_VALUE
               ? graph->values[graph->outputs[index]]
               : NULL;
}

static void wrong_count(kln_rule *rule, const char *which, size_t expected, size_t found)
{
    kln_rule_fault(rule, KILN_ISSUE_ARITY, which, "as many outputs as the node needs",
                   "another number", "\"%s\" gives %zu outputs, but %zu are needed", which, found,
                   expected);
}

static kln_branch branch_of(bool known, bool runs)
{
    return !known ? KLN_BRANCH_MAY_RUN : runs ? KLN_BRANCH_RUNS : KLN_BRANCH_IS_DEAD;
}

/* What is known of output `index`: of the branch taken, or of both if the condition is unknown. */
static void if_output(kln_rule *rule, size_t index, const kln_value *taken, const kln_value *other)
{
    kln_value *out = &rule->out[index];
    kln_value_copy_type(out, taken, true);
    if (other != NULL) {
        kln_value_union(rule->state, out, other);
    } else {
        out->contents = taken->contents;
        out->content_count = taken->content_count;
    }
}

static void rule_if(kln_rule *rule)
{
    int64_t holds = 0;
    const bool known = kln_rule_single(rule, 0, &holds);
    const kln_graph_inference *then_graph =
        kln_infer_subgraph(rule, inner(rule, "then_branch"), branch_of(known, holds != 0), NULL, 0);
    const kln_graph_inference *else_graph =
        kln_infer_subgraph(rule, inner(rule, "else_branch"), branch_of(known, holds == 0), NULL, 0);
    if (then_graph == NULL || else_graph == NULL) {
        return;
    }
    if (then_graph->output_count != rule->out_count) {
        wrong_count(rule, "then_branch", rule->out_count, then_graph->output_count);
    }
    if (else_graph->output_count != rule->out_count) {
        wrong_count(rule, "else_branch", rule->out_count, else_graph->output_count);
    }
    for (size_t i = 0; i < rule->out_count; i++) {
        const kln_value *a = output_of(then_graph, i);
        const kln_value *b = output_of(else_graph, i);
        if (a == NULL || b == NULL || !kln_rule_wants(rule, i) || a->kind == KLN_ONNX_KIND_NONE ||
            b->kind == KLN_ONNX_KIND_NONE) {
            continue;
        }
        if (a->kind != b->kind ||
            (a->wire_dtype != b->wire_dtype && a->wire_dtype != 0 && b->wire_dtype != 0)) {
            const char *expected = KLN_VALUE_PRINTED(a);
            const char *found = KLN_VALUE_PRINTED(b);
            kln_rule_fault(rule, KILN_ISSUE_DTYPE, rule->node->outputs[i], expected, found,
                           "output %zu is %.100s in one branch and %.100s in the other", i,
                           expected, found);
            continue;
        }
        if_output(rule, i, known && holds == 0 ? b : a, known ? NULL : b);
    }
}

/* The condition of an If has one element, whatever its rank. */
static bool has_one(kln_rule *rule, size_t input, const char *what)
{
    for (size_t i = 0; i < kln_rule_rank(rule, input); i++) {
        if (!kln_fit_dim(rule, input, i, KLN_DIM_OF_NUMBER(1), what)) {
            return false;
        }
    }
    return true;
}

static bool fit_condition(kln_rule *rule)
{
    return has_one(rule, 0, "the dimensions of a condition and 1");
}

static bool fit_loop(kln_rule *rule)
{
    return has_one(rule, 0, "the dimensions of a number of trips and 1") &&
           has_one(rule, 1, "the dimensions of a condition and 1");
}

/* A copy of the type without its shape, which may change between iterations. */
static kln_value *without_shape(kln_rule *rule, const kln_value *value, size_t depth)
{
    kln_value *copy = kln_rule_alloc(rule, 1, sizeof *copy);
    if (copy == NULL) {
        return NULL;
    }
    copy->name = "";
    copy->producer = KLN_NO_NODE;
    kln_value_copy_type(copy, value, false);
    if (value->element != NULL && depth < 8) {
        copy->element = without_shape(rule, value->element, depth + 1);
    }
    return copy;
}

static void loop_state(kln_rule *rule, size_t output, const kln_value *start,
                       const kln_value *after)
{
    kln_value *out = &rule->out[output];
    if (start->kind == KLN_ONNX_KIND_OPTIONAL && after->kind != KLN_ONNX_KIND_OPTIONAL) {
        /* It may start out empty; the iterations produce a plain value. */
        kln_value_copy_type(out, after, false);
        if (out->element != NULL) {
            out->element = without_shape(rule, out->element, 0);
        }
        return;
    }
    kln_value_copy_type(out, start->kind != KLN_ONNX_KIND_NONE ? start : after, false);
    if (start->kind != KLN_ONNX_KIND_NONE && after->kind != KLN_ONNX_KIND_NONE &&
        (start->kind != after->kind || (start->wire_dtype != after->wire_dtype &&
                                        start->wire_dtype != 0 && after->wire_dtype != 0))) {
        const char *expected = KLN_VALUE_PRINTED(start);
        const char *found = KLN_VALUE_PRINTED(after);
        kln_rule_fault(rule, KILN_ISSUE_DTYPE, out->name, expected, found,
                       "the loop begins with %.100s, but each turn gives %.100s", expected, found);
        return;
    }
    if (out->element != NULL) {
        out->element = without_shape(rule, out->element, 0);
    } else if (start->has_shape && after->has_shape) {
        /* Without an iteration the output is the initial value; otherwise it is what the body
         * produces for any input. */
        kln_value_copy_shape(out, start);
        kln_value_union(rule->state, out, after);
    }
}

static void stacked(kln_rule *rule, size_t output, const kln_value *each, kln_dim count,
                    size_t axis)
{
    kln_rule_set_dtype(rule, output, each->wire_dtype);
    kln_dim *dims = each->has_shape ? kln_rule_new_shape(rule, output, each->rank + 1) : NULL;
    for (size_t i = 0; dims != NULL && i < each->rank + 1; i++) {
        dims[i] = i == axis ? count : each->dims[i < axis ? i : i - 1];
    }
}

/* Whether it is known that there is no iteration. If it is unknown, the body is assumed to run. */
static bool no_turn(kln_rule *rule)
{
    int64_t number = 0;
    return (kln_rule_single(rule, 0, &number) && number <= 0) ||
           (kln_rule_single(rule, 1, &number) && number == 0);
}

static void rule_loop(kln_rule *rule)
{
    const kln_onnx_graph *body = inner(rule, "body");
    if (body == NULL || rule->in_count < 2) {
        return;
    }
    const size_t states = rule->in_count - 2;
    const kln_value **bound = kln_rule_alloc(rule, rule->in_count, sizeof(kln_value *));
    kln_value *counter = kln_rule_alloc(rule, 1, sizeof *counter);
    if (bound == NULL || counter == NULL) {
        return;
    }
    *counter = (kln_value){.name = "",
                           .kind = KLN_ONNX_KIND_TENSOR,
                           .dtype = KILN_DTYPE_INT64,
                           .wire_dtype = KLN_WIRE_INT64,
                           .has_shape = false};
    bound[0] = counter;
    bound[1] = rule->in[1];
    for (size_t i = 2; i < rule->in_count; i++) {
        bound[i] = rule->in[i] != NULL ? without_shape(rule, rule->in[i], 0) : NULL;
    }
    const kln_graph_inference *graph =
        kln_infer_subgraph(rule, body, branch_of(true, !no_turn(rule)), bound, rule->in_count);
    if (graph == NULL) {
        return;
    }
    if (graph->output_count != rule->out_count + 1) {
        wrong_count(rule, "body", rule->out_count + 1, graph->output_count);
    }
    for (size_t i = 0; i < rule->out_count; i++) {
        const kln_value *after = output_of(graph, i + 1);
        if (after == NULL || !kln_rule_wants(rule, i)) {
            continue;
        }
        if (i >= states) {
            stacked(rule, i, after, KLN_UNKNOWN_DIM, 0);
        } else if (rule->in[i + 2] != NULL) {
            loop_state(rule, i, rule->in[i + 2], after);
        }
    }
}

typedef struct scan_plan {
    size_t skip; /* 1 in version 8, where the sequence lengths come first */
    size_t lead; /* 1 in version 8, where everything has a leading batch dimension */
    size_t states, inputs, outputs;
    const int64_t *in_axes, *out_axes;
    size_t in_axes_count, out_axes_count;
    kln_dim steps, batch;
} scan_plan;

static bool plan_scan(kln_rule *rule, scan_plan *plan)
{
    const int64_t inputs = kln_rule_int(rule, "num_scan_inputs", 0);
    plan->skip = rule->since < 9 ? 1 : 0;
    plan->lead = plan->skip;
    plan->steps = KLN_UNKNOWN_DIM;
    plan->batch = KLN_UNKNOWN_DIM;
    if (inputs < 1 || rule->in_count < plan->skip + (size_t)inputs) {
        const char *found = KLN_PRINTED("%lld", (long long)inputs);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "num_scan_inputs", "1 to the number of inputs",
                       found, "attribute \"num_scan_inputs\" is %s; there are %zu inputs", found,
                       rule->in_count - plan->skip);
        return false;
    }
    plan->inputs = (size_t)inputs;
    plan->states = rule->in_count - plan->skip - plan->inputs;
    if (rule->out_count < plan->states) {
        return false;
    }
    plan->outputs = rule->out_count - plan->states;
    plan->in_axes = kln_rule_ints(rule, "scan_input_axes", &plan->in_axes_count);
    plan->out_axes = kln_rule_ints(rule, "scan_output_axes", &plan->out_axes_count);
    return true;
}

/* The type of an input as the body sees it: without the batch and the scanned axis. */
static kln_value *scan_input(kln_rule *rule, scan_plan *plan, size_t index)
{
    const kln_value *value = rule->in[index + plan->skip];
    const bool scanned = index >= plan->states;
    const size_t gone = plan->lead + (scanned ? 1 : 0);
    kln_value *copy = value != NULL ? without_shape(rule, value, 0) : NULL;
    if (copy == NULL || !value->has_shape) {
        return copy;
    }
    if (value->rank < gone) {
        (void)kln_rule_need_rank(rule, index + plan->skip, gone, SIZE_MAX);
        return copy;
    }
    if (plan->lead > 0) {
        plan->batch = kln_rule_unify(rule, plan->batch, value->dims[0], "the batches");
    }
    size_t axis = plan->lead;
    if (scanned && plan->in_axes != NULL && index - plan->states < plan->in_axes_count &&
        !kln_rule_axis(rule, plan->in_axes[index - plan->states], value->rank, &axis)) {
        return copy;
    }
    kln_dim *dims = kln_rule_alloc(rule, value->rank, sizeof *dims);
    if (dims == NULL) {
        return copy;
    }
    copy->has_shape = true;
    copy->rank = value->rank - gone;
    for (size_t i = plan->lead, place = 0; i < value->rank; i++) {
        if (!scanned || i != axis) {
            dims[place++] = value->dims[i];
        } else {
            plan->steps =
                kln_rule_unify(rule, plan->steps, value->dims[i], "the lengths that are scanned");
        }
    }
    copy->dims = dims;
    return copy;
}

static void scan_output(kln_rule *rule, const scan_plan *plan, size_t index, const kln_value *each)
{
    size_t axis = 0;
    const size_t output = index - plan->states;
    if (plan->out_axes != NULL && output < plan->out_axes_count && each->has_shape &&
        !kln_rule_axis(rule, plan->out_axes[output], each->rank + 1, &axis)) {
        return;
    }
    if (plan->lead == 0) {
        stacked(rule, index, each, plan->steps, axis);
        return;
    }
    kln_rule_set_dtype(rule, index, each->wire_dtype);
    kln_dim *dims = each->has_shape ? kln_rule_new_shape(rule, index, each->rank + 2) : NULL;
    if (dims != NULL) {
        dims[0] = kln_rule_dim(rule, plan->skip, 0);
        dims[1] = plan->steps;
        for (size_t i = 0; i < each->rank; i++) {
            dims[i + 2] = each->dims[i];
        }
    }
}

static void rule_scan(kln_rule *rule)
{
    scan_plan plan = {.skip = 0};
    const kln_onnx_graph *body = inner(rule, "body");
    if (body == NULL || !plan_scan(rule, &plan)) {
        return;
    }
    const size_t count = plan.states + plan.inputs;
    const kln_value **bound = kln_rule_alloc(rule, count, sizeof(kln_value *));
    if (bound == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bound[i] = scan_input(rule, &plan, i);
    }
    const kln_graph_inference *graph =
        kln_infer_subgraph(rule, body, branch_of(true, !kln_rule_is(plan.steps, 0)), bound, count);
    if (graph == NULL) {
        return;
    }
    if (graph->output_count != rule->out_count) {
        wrong_count(rule, "body", rule->out_count, graph->output_count);
    }
    for (size_t i = 0; i < rule->out_count; i++) {
        const kln_value *each = output_of(graph, i);
        if (i < plan.states) {
            kln_rule_same_type(rule, i + plan.skip, i);
            kln_rule_same_shape(rule, i + plan.skip, i);
        } else if (each != NULL) {
            scan_output(rule, &plan, i, each);
        }
    }
}

const kln_op_rule kln_rules_control[] = {OP("If", rule_if, .form = "1: -", .fit = fit_condition),
                                         OP("Loop", rule_loop, .form = "1: -", .fit = fit_loop),
                                         OP("Scan", rule_scan), OP_END};
