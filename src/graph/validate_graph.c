/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ops/kln_schema.h"
#include "validate_rules.h"

/* --- the model's own header --- */

void kln_validate_header(kln_validation *v)
{
    const kln_onnx_model *model = v->model;
    const char *found = KLN_PRINTED("%lld", (long long)model->ir_version);
    if (model->ir_version < 1) {
        kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_MODEL, "", "ir_version", "at least 1",
                           found, "the model says IR version %s; every model has one from 1 on",
                           found);
    } else if (v->options->newest_ir > 0 && model->ir_version > v->options->newest_ir) {
        const char *known = KLN_PRINTED("at most %lld", (long long)v->options->newest_ir);
        kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_UNSUPPORTED, "", "ir_version", known,
                           found,
                           "the model has IR version %s, but the %.40s backend reads versions up "
                           "to %lld; save it with an older one",
                           found, v->options->backend, (long long)v->options->newest_ir);
    } else if (model->ir_version > KLN_ONNX_IR_NEWEST) {
        const char *known = KLN_PRINTED("at most %d", KLN_ONNX_IR_NEWEST);
        kln_validate_issue(v, KILN_SEVERITY_WARNING, KILN_ISSUE_MODEL, "", "ir_version", known,
                           found, "the model has IR version %s; Kiln knows those up to %d", found,
                           KLN_ONNX_IR_NEWEST);
    }
    if (model->ir_version >= 3 && model->opset_count == 0) {
        kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_OPSET, "", "opset_import",
                           "an operator set", "none",
                           "the model imports no operator set, so its operators have no meaning");
    }
    for (size_t i = 0; i < model->opset_count; i++) {
        const kln_onnx_opset *opset = &model->opsets[i];
        const int64_t newest = kln_operator_newest(opset->domain);
        const char *given = KLN_PRINTED("%lld", (long long)opset->version);
        if (opset->version < 1) {
            kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_OPSET, "", opset->domain,
                               "at least 1", given, "operator set \"%.100s\" has version %s",
                               opset->domain, given);
        } else if (newest > 0 && opset->version > newest) {
            const char *known = KLN_PRINTED("%lld", (long long)newest);
            kln_validate_issue(v, KILN_SEVERITY_WARNING, KILN_ISSUE_OPSET, "", opset->domain, known,
                               given,
                               "operator set \"%.100s\" has version %s; Kiln knows versions up "
                               "to %s and reads the operators as they stand there",
                               opset->domain, given, known);
        }
    }
}

/* --- weights --- */

static void check_weights(kln_validation *v, const kln_onnx_tensor *tensor)
{
    const char *name = tensor->name;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] < 0) {
            kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_WEIGHTS, "", name,
                               "dimensions from 0 on", "a negative one",
                               "weights \"%.200s\" have a negative dimension, %lld", name,
                               (long long)tensor->dims[i]);
            return;
        }
    }
    if (tensor->dtype == KILN_DTYPE_STRING) {
        return;
    }
    const unsigned bits = kln_onnx_wire_bits(tensor->wire_dtype);
    if (bits == 0) {
        const char *found = KLN_PRINTED("%d", (int)tensor->wire_dtype);
        kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_DTYPE, "", name, "a data type", found,
                           "weights \"%.200s\" have data type %s, which is none", name, found);
        return;
    }
    size_t bytes = SIZE_MAX;
    const bool is_elsewhere = tensor->is_external && tensor->data.data == NULL;
    const bool fits = kln_onnx_tensor_bytes(tensor, bits, &bytes);
    if (!is_elsewhere && (!fits || tensor->data.size != bytes)) {
        const char *expected = KLN_PRINTED("%zu bytes", bytes);
        const char *found = KLN_PRINTED("%zu bytes", tensor->data.size);
        kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_WEIGHTS, "", name, expected, found,
                           "weights \"%.200s\" have %s, but their type and shape need %s", name,
                           found, expected);
    }
}

static void check_declared_weights(kln_validation *v, const kln_value *value,
                                   const kln_onnx_tensor *tensor)
{
    if (tensor->wire_dtype != value->wire_dtype && value->wire_dtype != 0) {
        kln_validate_issue(
            v, KILN_SEVERITY_ERROR, KILN_ISSUE_DTYPE, "", tensor->name,
            kln_onnx_dtype_name(value->wire_dtype), kln_onnx_dtype_name(tensor->wire_dtype),
            "\"%.200s\" is declared as %s, but its weights are %s", tensor->name,
            kln_onnx_dtype_name(value->wire_dtype), kln_onnx_dtype_name(tensor->wire_dtype));
    }
    bool same = !value->has_shape || value->rank == tensor->rank;
    for (size_t i = 0; same && value->has_shape && i < value->rank; i++) {
        same = value->dims[i].kind != KLN_DIM_NUMBER || value->dims[i].of.number == tensor->dims[i];
    }
    if (!same) {
        const char *expected = KLN_VALUE_PRINTED(value);
        kln_validate_issue(v, KILN_SEVERITY_ERROR,
                           value->rank == tensor->rank ? KILN_ISSUE_SHAPE : KILN_ISSUE_RANK, "",
                           tensor->name, expected, "another shape",
                           "\"%.150s\" is declared as %.100s, but its weights have another shape",
                           tensor->name, expected);
    }
}

static void check_initializers(kln_validation *v, const kln_graph_inference *graph)
{
    for (size_t i = 0; i < graph->graph->initializer_count && v->status == KILN_OK; i++) {
        const kln_onnx_tensor *tensor = &graph->graph->initializers[i];
        if (tensor->name[0] == '\0') {
            kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_NAME, "", "", "a name", "none",
                               "initializer %zu has no name", i);
            continue;
        }
        check_weights(v, tensor);
        const uint32_t place = kln_names_get(&graph->names, tensor->name);
        const kln_value *value = place != KLN_NAMES_NONE ? graph->values[place] : NULL;
        if (value != NULL && value->initializer == tensor) {
            check_declared_weights(v, value, tensor);
        }
        if (value != NULL && value->consumers == 0) {
            kln_validate_issue(v, KILN_SEVERITY_WARNING, KILN_ISSUE_UNUSED, "", tensor->name,
                               "a reader", "none", "weights \"%.200s\" are never read",
                               tensor->name);
        }
    }
}

static void check_sparse(kln_validation *v, const kln_onnx_graph *graph)
{
    for (size_t i = 0; v->options->dense_only && i < graph->sparse_initializer_count; i++) {
        const char *name = graph->sparse_initializer_names[i];
        kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_UNSUPPORTED, "", name,
                           "dense weights", "sparse ones",
                           "weights \"%.200s\" are sparse, and the %.40s backend takes dense ones "
                           "only; save the model with dense initializers",
                           name, v->options->backend);
    }
}

/* --- inputs and outputs --- */

/* Callers bind the engine's type, which differs from the model's. */
static void check_bound(kln_validation *v, const char *kind, const char *name, int32_t wire_dtype)
{
    const kln_validate_options *options = v->options;
    const kiln_dtype dtype = kln_onnx_dtype(wire_dtype);
    const kiln_dtype bound = options->bound_as != NULL ? options->bound_as(dtype) : dtype;
    if (bound != dtype) {
        kln_validate_issue(v, KILN_SEVERITY_WARNING, KILN_ISSUE_DTYPE, "", name,
                           kiln_dtype_name(bound), kiln_dtype_name(dtype),
                           "%s \"%.200s\" is %s in the model, and %s where the backend %s runs it: "
                           "bind that, and expect its precision",
                           kind, name, kiln_dtype_name(dtype), kiln_dtype_name(bound),
                           options->backend);
    }
}

/* The scores of nearly every classifier that skl2onnx converts as it is used without options. */
#define ZIPMAP                                                                           \
    " (scores that ZipMap made maps of are a tensor where skl2onnx is given the option " \
    "zipmap=False)"

/* Backends bind tensors only, some of them also tensors of strings. */
static void check_border(kln_validation *v, const kln_onnx_value *value, const char *what)
{
    const kln_onnx_type *type = &value->type;
    const bool tensor = type->kind == KLN_ONNX_KIND_TENSOR;
    if (v->options->backend == NULL || type->kind == KLN_ONNX_KIND_NONE ||
        (tensor && (type->wire_dtype == 0 || kiln_dtype_bits(type->dtype) > 0 ||
                    (type->dtype == KILN_DTYPE_STRING && v->options->binds_strings)))) {
        return;
    }
    const char *found = tensor ? kln_onnx_dtype_name(type->wire_dtype)
                        : type->kind == KLN_ONNX_KIND_SEQUENCE ? "sequence"
                        : type->kind == KLN_ONNX_KIND_OPTIONAL ? "optional"
                                                               : "map or sparse tensor";
    kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_UNSUPPORTED, "", value->name, "a tensor",
                       found, "%s \"%.200s\" is of type %s%s%s%s", what, value->name, found,
                       tensor ? ", which the backend " : "; Kiln binds tensors",
                       tensor ? v->options->backend : "",
                       tensor                                 ? " has no tensors of"
                       : type->kind == KLN_ONNX_KIND_SEQUENCE ? ZIPMAP
                                                              : "");
}

static void check_inputs(kln_validation *v, const kln_graph_inference *graph, bool outermost)
{
    for (size_t i = 0; i < graph->input_count && v->status == KILN_OK; i++) {
        const kln_onnx_value *input = &graph->graph->inputs[i];
        const kln_value *value = graph->values[graph->inputs[i]];
        if (input->name[0] == '\0') {
            kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_NAME, "", "", "a name", "none",
                               "input %zu has no name", i);
            continue;
        }
        const bool tensor = input->type.kind == KLN_ONNX_KIND_TENSOR;
        if (outermost) {
            check_border(v, input, "input");
        }
        if (outermost &&
            (input->type.kind == KLN_ONNX_KIND_NONE || (tensor && input->type.wire_dtype == 0))) {
            kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_DTYPE, "", input->name, "a type",
                               "none", "input \"%.200s\" has no data type", input->name);
        }
        if (outermost && tensor && value->initializer == NULL) {
            check_bound(v, "input", input->name, input->type.wire_dtype);
        }
        if (outermost && tensor && input->type.has_shape && input->type.rank > KILN_MAX_RANK) {
            kln_validate_issue(v, KILN_SEVERITY_WARNING, KILN_ISSUE_RANK, "", input->name,
                               "at most 8 dimensions", "more",
                               "input \"%.200s\" has %zu dimensions; Kiln binds at most %d",
                               input->name, input->type.rank, KILN_MAX_RANK);
        }
        if (outermost && value->consumers == 0 && value->initializer == NULL) {
            kln_validate_issue(v, KILN_SEVERITY_WARNING, KILN_ISSUE_UNUSED, "", input->name,
                               "a reader", "none", "input \"%.200s\" is never read", input->name);
        }
    }
}

static bool has_range(const kln_validation *v, const char *name)
{
    for (size_t i = 0; i < v->options->range_count; i++) {
        if (strcmp(v->options->ranges[i].input, name) == 0) {
            return true;
        }
    }
    return false;
}

/* One issue for all: many exporters list every weight among the inputs. */
static void check_fed(kln_validation *v, const kln_graph_inference *graph)
{
    const char *first = NULL;
    size_t count = 0;
    if (!v->options->initializers_are_weights ||
        v->model->ir_version < KLN_ONNX_IR_OF_OPTIONAL_INPUTS) {
        return;
    }
    for (size_t i = 0; i < graph->input_count; i++) {
        const kln_onnx_value *input = &graph->graph->inputs[i];
        if (graph->values[graph->inputs[i]]->initializer != NULL && !has_range(v, input->name)) {
            first = first != NULL ? first : input->name;
            count++;
        }
    }
    if (count > 0) {
        kln_validate_issue(
            v, KILN_SEVERITY_WARNING, KILN_ISSUE_UNSUPPORTED, "", first, "inputs without a value",
            "initializers",
            "%zu input%s of the model %s a value in it too, \"%.200s\"%s; for the %s backend that "
            "is a weight, which nobody feeds: give its shape (kiln_build_options.shape_hints) or a "
            "profile that names it, and it is an input of the engine",
            count, count == 1 ? "" : "s", count == 1 ? "has" : "have", first,
            count == 1 ? "" : " the first", v->options->backend);
    }
}

static void check_outputs(kln_validation *v, const kln_graph_inference *graph)
{
    if (graph->graph->output_count == 0) {
        kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_NO_OUTPUTS, "", "",
                           "at least one output", "none",
                           "the network has no output, so there is nothing to compute");
    }
    for (size_t i = 0; i < graph->graph->output_count && v->status == KILN_OK; i++) {
        const char *name = graph->graph->outputs[i].name;
        if (name[0] == '\0') {
            kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_NAME, "", "", "a name", "none",
                               "output %zu has no name", i);
        }
        check_border(v, &graph->graph->outputs[i], "output");
        const uint32_t place = graph->outputs[i];
        const kln_value *value = place != KLN_NO_VALUE ? graph->values[place] : NULL;
        const kln_onnx_type *type = &graph->graph->outputs[i].type;
        if (type->kind == KLN_ONNX_KIND_TENSOR) {
            check_bound(v, "output", name, type->wire_dtype);
        }
        if (value == NULL || value->producer != KLN_NO_NODE || type->kind == KLN_ONNX_KIND_NONE) {
            continue;
        }
        /* Inference compared what nodes compute, but not an input that is passed through. */
        if (value->kind != KLN_ONNX_KIND_NONE &&
            (value->kind != type->kind ||
             (value->wire_dtype != 0 && type->wire_dtype != 0 &&
              type->kind == KLN_ONNX_KIND_TENSOR && value->wire_dtype != type->wire_dtype))) {
            kln_validate_issue(
                v, KILN_SEVERITY_ERROR, KILN_ISSUE_DTYPE, "", name,
                kln_onnx_dtype_name(value->wire_dtype), kln_onnx_dtype_name(type->wire_dtype),
                "output \"%.200s\" is declared as %s, but is %s", name,
                kln_onnx_dtype_name(type->wire_dtype), kln_onnx_dtype_name(value->wire_dtype));
        }
    }
}

/* --- nodes --- */

static void check_unused(kln_validation *v, const kln_graph_inference *graph, uint32_t index)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    const kln_node_inference *known = &graph->nodes[index];
    bool read = node->output_count == 0;
    const char *first = "";
    for (size_t i = 0; i < node->output_count; i++) {
        if (known->outputs[i] != KLN_NO_VALUE) {
            read |= graph->values[known->outputs[i]]->consumers > 0 ||
                    kln_names_get(&graph->names, node->outputs[i]) != known->outputs[i];
            first = first[0] == '\0' ? node->outputs[i] : first;
        }
    }
    if (!read) {
        const char *label = KLN_NODE_LABEL(node, index);
        kln_validate_issue(v, KILN_SEVERITY_WARNING, KILN_ISSUE_UNUSED, label, first, "a reader",
                           "none", "node \"%.120s\" (%.60s): nothing reads what it computes", label,
                           node->op_type);
    }
}

/* Names that stand twice: of outputs, which are told apart by them, and of nodes, for which the
 * specification asks it and some backends insist. */
static void check_names(kln_validation *v, const kln_graph_inference *graph, bool outermost)
{
    const kln_onnx_graph *names = graph->graph;
    KLN_SCOPED(kln_names_finish) kln_names seen = {0};
    for (size_t i = 0; outermost && i < names->output_count && v->status == KILN_OK; i++) {
        const char *name = names->outputs[i].name;
        if (kln_names_get(&seen, name) != KLN_NAMES_NONE) {
            kln_validate_issue(v, KILN_SEVERITY_ERROR, KILN_ISSUE_DUPLICATE_NAME, "", name,
                               "one output", "two",
                               "\"%.200s\" is listed twice among the graph's outputs", name);
        }
        v->status = v->status == KILN_OK ? kln_names_set(&seen, name, (uint32_t)i) : v->status;
    }
    kln_names_finish(&seen);
    for (size_t i = 0; i < names->node_count && v->status == KILN_OK; i++) {
        const char *name = names->nodes[i].name;
        if (name[0] == '\0') {
            continue;
        }
        const uint32_t first = kln_names_get(&seen, name);
        if (first != KLN_NAMES_NONE) {
            kln_validate_issue(
                v, v->options->unique_node_names ? KILN_SEVERITY_ERROR : KILN_SEVERITY_WARNING,
                KILN_ISSUE_DUPLICATE_NAME, name, "", "a name of its own", "that of another node",
                "node \"%.120s\" (%.60s) has the name of an earlier node (%.60s); names of nodes "
                "must be unique",
                name, names->nodes[i].op_type, names->nodes[first].op_type);
        } else {
            v->status = kln_names_set(&seen, name, (uint32_t)i);
        }
    }
}

/* Whether this is the first call of the function: one represents all. */
static bool first_call(kln_validation *v, const kln_onnx_function *called)
{
    bool *seen = &v->functions[called - v->model->functions];
    const bool first = !*seen;
    *seen = true;
    return first;
}

void kln_validate_graph(kln_validation *v, const kln_graph_inference *graph,
                        const kln_onnx_function *function)
{
    const bool outermost = graph == v->inference->graph;
    if (outermost && graph->graph->name[0] == '\0') {
        kln_validate_issue(v, KILN_SEVERITY_WARNING, KILN_ISSUE_NAME, "", "", "a name", "none",
                           "the graph has no name, which the specification asks for");
    }
    if (function == NULL) {
        check_inputs(v, graph, outermost);
        if (outermost) {
            check_fed(v, graph);
        }
        check_initializers(v, graph);
        check_sparse(v, graph->graph);
    }
    if (outermost) {
        check_outputs(v, graph);
    }
    check_names(v, graph, outermost);
    for (size_t i = 0; i < graph->node_count && v->status == KILN_OK; i++) {
        kln_validate_node(v, graph, (uint32_t)i);
        check_unused(v, graph, (uint32_t)i);
        const kln_node_inference *known = &graph->nodes[i];
        for (size_t k = 0; k < known->graph_count && v->status == KILN_OK; k++) {
            const kln_onnx_function *called = function;
            if (known->resolved->schema == NULL) {
                called = known->resolved->function;
                if (called == NULL || !first_call(v, called)) {
                    continue;
                }
            }
            if (v->status == KILN_OK) {
                kln_validate_graph(v, known->graphs[k], called);
            }
        }
    }
}
