/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of model-local functions become the nodes of their bodies. Names of a body get a prefix
 * that no other call has; attributes that refer to those of the call get their values.
 */
#include "inline_nodes.h"

/* As deep as inference follows calls of calls. */
#define CALLS_DEEP ((size_t)48)

typedef struct calls {
    kln_onnx_index index;
    bool left; /* a call that stays */
} calls;

/* Whether the body means the same under the model's operator sets; imports what they lack. */
static kiln_status agrees(inliner *in, const kln_onnx_function *function, bool *same)
{
    kln_onnx_model *model = in->model;
    *same = true;
    for (size_t i = 0; i < function->opset_count; i++) {
        const kln_onnx_opset *opset = &function->opsets[i];
        const int64_t version = kln_onnx_opset_version(model, opset->domain);
        if (version == 0) {
            KLN_RETURN_IF_ERROR(kln_onnx_import(model, opset->domain, opset->version));
        }
        for (size_t n = 0;
             version != 0 && version != opset->version && *same && n < function->body.node_count;
             n++) {
            const kln_onnx_node *node = &function->body.nodes[n];
            const char *domain = kln_onnx_plain_domain(node->domain);
            *same = !kln_onnx_holds_graphs(node) &&
                    (strcmp(domain, kln_onnx_plain_domain(opset->domain)) != 0 ||
                     kln_operator_find(domain, node->op_type, opset->version) ==
                         kln_operator_find(domain, node->op_type, version));
        }
    }
    return KILN_OK;
}

/* The body's names for what the call gives and takes. An output that is an input of the function
 * too is that input by another name. */
static kiln_status bind_all(inliner *in, inline_frame *inner, const kln_onnx_node *call)
{
    const kln_onnx_function *f = inner->function;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(inline_begin_names(in, inner, f->input_count + f->output_count));
    for (size_t i = 0; i < f->input_count; i++) {
        KLN_RETURN_IF_ERROR(
            inline_bind(inner, f->inputs[i], i < call->input_count ? call->inputs[i] : "", &count));
    }
    for (size_t i = 0; i < f->output_count && i < call->output_count; i++) {
        const uint32_t before = kln_names_get(&inner->formal, f->outputs[i]);
        if (call->outputs[i][0] == '\0') {
            continue;
        }
        if (before != KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(inline_identity(in, inner->actual[before], call->outputs[i]));
        } else {
            KLN_RETURN_IF_ERROR(inline_bind(inner, f->outputs[i], call->outputs[i], &count));
        }
    }
    return KILN_OK;
}

static kiln_status add_call(inliner *in, const inline_frame *frame, const kln_onnx_node *call,
                            const kln_onnx_function *function)
{
    inline_frame inner = {.function = function, .call = call, .depth = frame->depth + 1};
    inner.prefix = inline_prefix(in, call);
    KLN_FAIL_IF(inner.prefix == NULL, inline_no_memory());
    KLN_RETURN_IF(inner.depth > CALLS_DEEP, KILN_ERROR_LIMIT,
                  "function \"%s\": functions call each other more than %zu deep", function->name,
                  CALLS_DEEP);
    kiln_status status = bind_all(in, &inner, call);
    KLN_THEN(status, inline_nodes(in, &inner, function->body.nodes, function->body.node_count));
    kln_names_finish(&inner.formal);
    return status;
}

static kiln_status replace_call(inliner *in, const inline_frame *frame, size_t index,
                                const kln_onnx_node *node, bool *replaced)
{
    calls *of = in->user;
    const kln_onnx_function *function = kln_onnx_index_function(&of->index, node);
    (void)index;
    if (function == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(agrees(in, function, replaced));
    of->left = of->left || !*replaced;
    return *replaced ? add_call(in, frame, node, function) : KILN_OK;
}

kiln_status kln_inline_functions(kln_onnx_model *model, size_t *inlined)
{
    calls of = {.index = {.model = model}};
    inliner in = {.model = model, .arena = &model->arena, .replace = replace_call, .user = &of};
    kln_onnx_opset *opsets = model->opsets;
    const size_t opset_count = model->opset_count;
    *inlined = 0;
    if (model->function_count == 0) {
        return KILN_OK;
    }
    kiln_status status = kln_onnx_index_update(&of.index);
    KLN_THEN(status, inline_model(&in));
    kln_onnx_index_finish(&of.index);
    if (status != KILN_OK) {
        model->opsets = opsets;
        model->opset_count = opset_count;
        return status;
    }
    model->function_count = of.left ? model->function_count : 0;
    *inlined = in.count;
    return KILN_OK;
}
