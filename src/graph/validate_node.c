/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ops/kln_schema.h"
#include "validate_rules.h"

void kln_validate_issue(kln_validation *v, kiln_severity severity, kiln_issue_kind kind,
                        const char *node, const char *tensor, const char *expected,
                        const char *found, const char *format, ...)
{
    char sentence[KLN_ISSUE_TEXT];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    const kiln_issue issue = {severity, kind, node, tensor, expected, found, sentence};
    const kiln_status status = kln_issues_add(v->inference->issues, &issue);
    if (status != KILN_OK && v->status == KILN_OK) {
        v->status = status;
    }
}

typedef struct node_check {
    kln_validation *v;
    const kln_onnx_node *node;
    const kln_resolved *resolved;
    uint32_t index;
} node_check;

static void complain(const node_check *c, kiln_issue_kind kind, const char *tensor,
                     const char *expected, const char *found, const char *format, ...)
    KLN_PRINTF(6, 7);

static void complain(const node_check *c, kiln_issue_kind kind, const char *tensor,
                     const char *expected, const char *found, const char *format, ...)
{
    char words[320];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    const char *label = KLN_NODE_LABEL(c->node, c->index);
    kln_validate_issue(c->v, KILN_SEVERITY_ERROR, kind, label, tensor, expected, found,
                       "node \"%.120s\" (%.60s): %.300s", label, c->node->op_type, words);
}

/* --- numbers of inputs and outputs --- */

static void check_count(const node_check *c, const char *what, size_t count, int least, int most)
{
    if (count >= (size_t)least && count <= (size_t)most) {
        return;
    }
    char expected[64];
    if (least == most) {
        (void)snprintf(expected, sizeof expected, "%d", least);
    } else if (most == INT_MAX) {
        (void)snprintf(expected, sizeof expected, "at least %d", least);
    } else {
        (void)snprintf(expected, sizeof expected, "%d to %d", least, most);
    }
    const char *found = KLN_PRINTED("%zu", count);
    complain(c, KILN_ISSUE_ARITY, "", expected, found, "it has %s %s, but takes %s", found, what,
             expected);
}

static void check_required(const node_check *c, const kln_schema *schema)
{
    for (size_t i = 0; i < c->node->input_count; i++) {
        const kln_schema_parameter *parameter = kln_schema_input(schema, i);
        /* None of a repeated input may be left out either. */
        if (c->node->inputs[i][0] == '\0' && parameter != NULL && !parameter->optional) {
            complain(c, KILN_ISSUE_ARITY, parameter->name, "an input", "none",
                     "input %zu, \"%s\", is required, but left out", i, parameter->name);
        }
    }
    for (size_t i = 0; i < c->node->output_count; i++) {
        const kln_schema_parameter *parameter = kln_schema_output(schema, i);
        if (c->node->outputs[i][0] == '\0' && parameter != NULL && !parameter->optional &&
            !parameter->repeated) {
            complain(c, KILN_ISSUE_ARITY, parameter->name, "an output", "none",
                     "output %zu, \"%s\", is required, but has no name", i, parameter->name);
        }
    }
}

/* --- attributes --- */

static const kln_schema_attribute *find_attribute(const kln_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->attribute_count; i++) {
        const char *own = schema->attributes[i].name;
        if (own[0] == name[0] && strcmp(own, name) == 0) {
            return &schema->attributes[i];
        }
    }
    return NULL;
}

static void check_attribute(const node_check *c, const kln_schema *schema,
                            const kln_onnx_attribute *attribute)
{
    const kln_schema_attribute *known = find_attribute(schema, attribute->name);
    const bool refers = attribute->reference != NULL && attribute->reference[0] != '\0';
    if (known == NULL) {
        /* Names with this prefix are reserved for tools. */
        if (strncmp(attribute->name, "__", 2) != 0) {
            const kln_operator *later = kln_operator_next(schema->row);
            while (later != NULL &&
                   kln_operator_attribute(later, attribute->name) == KLN_ONNX_ATTRIBUTE_UNDEFINED) {
                later = kln_operator_next(later);
            }
            complain(c, later != NULL ? KILN_ISSUE_OPSET : KILN_ISSUE_ATTRIBUTE, attribute->name,
                     "an attribute of the operator", "another",
                     "it has no attribute \"%.100s\" in version %d%s", attribute->name,
                     schema->row->since,
                     later != NULL ? KLN_PRINTED(", but in %d", later->since) : "");
        }
        return;
    }
    if (!refers && attribute->type != known->type) {
        complain(c, KILN_ISSUE_ATTRIBUTE, attribute->name, kln_attribute_type_name(known->type),
                 kln_attribute_type_name(attribute->type),
                 "attribute \"%.100s\" is %s, but must be %s", attribute->name,
                 kln_attribute_type_name(attribute->type), kln_attribute_type_name(known->type));
    }
}

/* No operator has as many; a file with a million of them shall not take a million squared steps. */
#define ATTRIBUTES_COMPARED 64

static void check_attributes(const node_check *c, const kln_schema *schema)
{
    const kln_onnx_node *node = c->node;
    for (size_t i = 0; i < node->attribute_count; i++) {
        check_attribute(c, schema, &node->attributes[i]);
        for (size_t k = 0; k < i && k < ATTRIBUTES_COMPARED; k++) {
            if (node->attributes[k].name[0] == node->attributes[i].name[0] &&
                strcmp(node->attributes[k].name, node->attributes[i].name) == 0) {
                complain(c, KILN_ISSUE_ATTRIBUTE, node->attributes[i].name, "one", "two",
                         "attribute \"%.100s\" is given twice", node->attributes[i].name);
                break;
            }
        }
    }
    for (size_t i = 0; i < schema->attribute_count; i++) {
        const kln_schema_attribute *known = &schema->attributes[i];
        if (known->required && kln_onnx_find_attribute(node, known->name) == NULL) {
            complain(c, KILN_ISSUE_ATTRIBUTE, known->name, kln_attribute_type_name(known->type),
                     "none", "attribute \"%s\" is required, but missing", known->name);
        }
    }
}

/* --- the operator itself --- */

static void check_known(const node_check *c)
{
    const kln_onnx_node *node = c->node;
    const bool ours = kln_operator_newest(node->domain) > 0;
    const char *label = KLN_NODE_LABEL(node, c->index);
    const char *found = KLN_PRINTED("version %lld", (long long)c->resolved->opset);
    if (c->resolved->opset == 0) {
        complain(c, KILN_ISSUE_OPSET, node->domain, "an imported operator set", "none",
                 "the model does not import operator set \"%.100s\"", node->domain);
    } else if (!ours) {
        kln_validate_issue(c->v, KILN_SEVERITY_WARNING, KILN_ISSUE_UNKNOWN_OPERATOR, label, "",
                           "an operator of ONNX", node->op_type,
                           "node \"%.120s\": %.60s of \"%.60s\" is not an operator of ONNX; what "
                           "it gives is not inferred",
                           label, node->op_type, node->domain);
    } else if (kln_operator_known(node->domain, node->op_type)) {
        complain(c, KILN_ISSUE_UNKNOWN_OPERATOR, "", "a later version", found,
                 "this operator is not in %s of its operator set yet", found);
    } else if (c->v->options->plugins) {
        kln_validate_issue(c->v, KILN_SEVERITY_WARNING, KILN_ISSUE_UNKNOWN_OPERATOR, label, "",
                           "an operator of ONNX", node->op_type,
                           "node \"%.120s\" (%.60s): ONNX has no operator of this name; a plugin "
                           "must have it, and what it gives is not inferred",
                           label, node->op_type);
    } else {
        complain(c, KILN_ISSUE_UNKNOWN_OPERATOR, "", "an operator of ONNX", node->op_type,
                 "there is no operator of this name");
    }
}

static void check_supported(const node_check *c, const kln_graph_inference *graph, uint32_t index)
{
    const kln_validate_options *options = c->v->options;
    if (options->supports == NULL || c->resolved->function != NULL) {
        return;
    }
    const kln_node_inference *known = &graph->nodes[index];
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    for (size_t i = 0; i < c->node->input_count && dtype == KILN_DTYPE_UNDEFINED; i++) {
        if (known->inputs[i] != KLN_NO_VALUE) {
            dtype = graph->values[known->inputs[i]]->dtype;
        }
    }
    if (!options->supports(c->node->domain, c->node->op_type, c->resolved->opset, dtype)) {
        const char *backend = options->backend != NULL ? options->backend : "chosen";
        complain(c, KILN_ISSUE_UNSUPPORTED, "", "an operator the backend has",
                 kiln_dtype_name(dtype), "the %.40s backend does not run it for %s in version %lld",
                 backend, kiln_dtype_name(dtype), (long long)c->resolved->opset);
    }
}

static void check_lacks(const node_check *c, const kln_graph_inference *graph, uint32_t index)
{
    const kln_validate_options *options = c->v->options;
    if (options->lacks == NULL || c->resolved->function != NULL) {
        return;
    }
    char why[256];
    kln_node_view view = kln_view_of(c->v->inference, graph, index);
    view.on_gpu = options->on_gpu;
    const kln_lack lack = options->lacks(&view, why, sizeof why);
    if (lack == KLN_LACK_NONE) {
        return;
    }
    /* A branch that would fail may never run. */
    const bool may_run = lack == KLN_LACK_RUN && graph->parent != NULL;
    const char *label = KLN_NODE_LABEL(c->node, c->index);
    kln_validate_issue(c->v, may_run ? KILN_SEVERITY_WARNING : KILN_SEVERITY_ERROR,
                       KILN_ISSUE_UNSUPPORTED, label, "", "what the backend runs",
                       options->backend != NULL ? options->backend : "",
                       "node \"%.120s\" (%.60s): %.250s", label, c->node->op_type, why);
}

/* A type that the backend does not compute with, of what the node reads or gives. */
static void check_held(const node_check *c, const kln_graph_inference *graph, uint32_t index)
{
    const kln_validate_options *options = c->v->options;
    if (options->holds == NULL) {
        return;
    }
    const kln_node_inference *known = &graph->nodes[index];
    const size_t count = c->node->input_count + c->node->output_count;
    for (size_t i = 0; i < count; i++) {
        const uint32_t place =
            i < c->node->input_count ? known->inputs[i] : known->outputs[i - c->node->input_count];
        const kln_value *value = place != KLN_NO_VALUE ? graph->values[place] : NULL;
        if (value == NULL || value->wire_dtype == 0 || options->holds(value->wire_dtype)) {
            continue;
        }
        complain(c, KILN_ISSUE_UNSUPPORTED, value->name, "a type the backend has",
                 kln_onnx_dtype_name(value->wire_dtype),
                 "\"%.100s\" is %s, which the %.40s backend does not compute with", value->name,
                 kln_onnx_dtype_name(value->wire_dtype),
                 options->backend != NULL ? options->backend : "chosen");
        return;
    }
}

static void check_dense(const node_check *c)
{
    for (size_t i = 0; c->v->options->dense_only && i < c->node->attribute_count; i++) {
        const kln_onnx_attribute_type type = c->node->attributes[i].type;
        if (type == KLN_ONNX_ATTRIBUTE_SPARSE_TENSOR || type == KLN_ONNX_ATTRIBUTE_SPARSE_TENSORS) {
            complain(c, KILN_ISSUE_UNSUPPORTED, c->node->attributes[i].name, "a dense tensor",
                     "a sparse one",
                     "attribute \"%.100s\" is sparse; this backend takes dense tensors only",
                     c->node->attributes[i].name);
        }
    }
}

void kln_validate_node(kln_validation *v, const kln_graph_inference *graph, uint32_t index)
{
    node_check c = {.v = v, .node = &graph->graph->nodes[index], .index = index};
    c.resolved = graph->nodes[index].resolved;
    if (c.node->op_type[0] == '\0') {
        complain(&c, KILN_ISSUE_NAME, "", "an operator", "none", "it names no operator");
        return;
    }
    if (c.resolved == NULL) {
        return;
    }
    if (c.node->input_count == 0 && c.node->output_count == 0) {
        complain(&c, KILN_ISSUE_ARITY, "", "an input or output", "neither",
                 "it has neither inputs nor outputs");
    }
    const kln_schema *schema = c.resolved->schema;
    /* For operators outside ONNX, see below. */
    if (schema != NULL || kln_operator_newest(c.node->domain) == 0) {
        check_supported(&c, graph, index);
        check_lacks(&c, graph, index);
    }
    check_held(&c, graph, index);
    check_dense(&c);
    if (schema == NULL) {
        if (c.resolved->function == NULL) {
            check_known(&c);
        }
        return;
    }
    if (schema->row->deprecated) {
        complain(&c, KILN_ISSUE_UNKNOWN_OPERATOR, "", "an operator in use", "deprecated",
                 "this operator is deprecated since version %d", schema->row->since);
        return;
    }
    check_count(&c, "inputs", c.node->input_count, schema->form->min_inputs,
                schema->form->max_inputs);
    check_count(&c, "outputs", c.node->output_count, schema->form->min_outputs,
                schema->form->max_outputs);
    check_required(&c, schema);
    check_attributes(&c, schema);
}

kiln_status kln_validate_added(kln_inference *inference, const kln_graph_inference *graph,
                               uint32_t index)
{
    static const kln_validate_options any_backend = {.plugins = true};
    kln_validation v = {.inference = inference, .model = inference->model, .options = &any_backend};
    kln_validate_node(&v, graph, index);
    return v.status;
}
