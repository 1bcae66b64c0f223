/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ref_internal.h"

/* The limit for nested bodies, functions included. */
#define DEEPEST 128

const ref_value *ref_find_source(ref_frame *frame, const ref_source *source)
{
    if (source->constant != NULL) {
        return source->constant;
    }
    if (source->slot == REF_SLOT_NONE) {
        return NULL;
    }
    /* The plan counted the enclosing frames: there are `level` of them. */
    for (uint32_t i = 0; i < source->level; i++) {
        frame = frame->outer; /* NOLINT(clang-analyzer-core.NullDereference) */
    }
    return &frame->values[source->slot]; /* NOLINT(clang-analyzer-core.NullDereference) */
}

/* Runs a function's body as a plan of its own; inputs that the caller omits are NONE inside. */
static kiln_status run_function(ref_call *call)
{
    const ref_plan *plan = call->node->bodies[0];
    ref_value *arguments = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, plan->input_count + 1, sizeof *arguments, &arguments));
    for (size_t i = 0; i < plan->input_count; i++) {
        const bool given = i < call->node->input_count && call->inputs[i] != NULL;
        arguments[i] = given ? *call->inputs[i] : (ref_value){.kind = REF_NONE, .buffer = NULL};
    }
    ref_value *results = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, plan->output_count + 1, sizeof *results, &results));
    KLN_RETURN_IF_ERROR(
        ref_execute(call->context, plan, NULL, arguments, plan->input_count, results));
    for (size_t i = 0; i < plan->output_count; i++) {
        if (i < call->node->output_count) {
            call->outputs[i] = results[i];
        } else {
            ref_value_release(&call->context->memory, &results[i]);
        }
    }
    return KILN_OK;
}

#define NODE_WORK 64.0

/* A node may read all of its inputs, and in a loop does so in every iteration. */
static kiln_status spend_inputs(const ref_call *call)
{
    double work = NODE_WORK;
    for (size_t i = 0; i < call->node->input_count; i++) {
        work += call->inputs[i] != NULL ? (double)call->inputs[i]->tensor.count : 0.0;
    }
    return ref_spend(call, work);
}

/* " of float32 2x3, int64 4, -": the inputs of a node, as far as there is room. */
static void describe_inputs(const ref_call *call, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < call->node->input_count && used < size; i++) {
        const ref_value *input = call->inputs[i];
        char shape[KLN_SHAPE_TEXT] = "";
        const char *type = input == NULL                 ? "-"
                           : input->kind == REF_SEQUENCE ? "a sequence"
                           : input->kind != REF_TENSOR   ? "nothing"
                                                         : kiln_dtype_name(input->tensor.dtype);
        if (input != NULL && input->kind == REF_TENSOR && input->tensor.rank <= KILN_MAX_RANK) {
            kiln_shape of = {.rank = input->tensor.rank};
            memcpy(of.dims, input->tensor.dims, (size_t)of.rank * sizeof of.dims[0]);
            (void)kiln_shape_format(&of, shape, sizeof shape);
        }
        const int length = snprintf(text + used, size - used, "%s%s%s%s", i == 0 ? " of " : ", ",
                                    type, shape[0] != '\0' ? " " : "", shape);
        used += length > 0 ? (size_t)length : 0;
    }
}

/* In its own stack frame, because nested nodes would each keep room for its texts. */
__attribute__((noinline)) static kiln_status fail_node(const ref_call *call, kiln_status status)
{
    const kln_onnx_node *of = call->node->node;
    char inputs[400];
    describe_inputs(call, inputs, sizeof inputs);
    return kln_fail_within(status, "node \"%s\" (%s%s)", KLN_NODE_LABEL(of, call->node->index),
                           of->op_type, inputs);
}

static kiln_status call_kernel(ref_call *call)
{
    const ref_node *node = call->node;
    kiln_status status = spend_inputs(call);
    if (node->kernel != NULL) {
        KLN_THEN(status, ref_need_inputs(call));
    }
    KLN_THEN(status, node->kernel != NULL ? node->kernel->function(call) : run_function(call));
    return status == KILN_OK ? status : fail_node(call, status);
}

static void finish_call(ref_call *call, bool keep)
{
    ref_memory *memory = &call->context->memory;
    for (size_t i = 0; i < call->node->output_count; i++) {
        const uint32_t slot = call->node->outputs[i];
        if (keep && slot != REF_SLOT_NONE) {
            ref_value_release(memory, &call->frame->values[slot]);
            call->frame->values[slot] = call->outputs[i];
        } else {
            ref_value_release(memory, &call->outputs[i]);
        }
    }
    ref_call_finish(call);
}

static kiln_status run_node(ref_context *context, ref_frame *frame, const ref_node *node)
{
    ref_call call = {.context = context, .frame = frame, .node = node};
    call.variant = node->kernel != NULL ? node->kernel->variant : 0;
    ref_buffer *room = NULL;
    const size_t inputs = node->input_count * sizeof(const ref_value *);
    KLN_RETURN_IF_ERROR(
        ref_memory_take(&context->memory, node->output_count * sizeof(ref_value) + inputs, &room));
    call.outputs = ref_buffer_data(room);
    memset(call.outputs, 0, node->output_count * sizeof(ref_value));
    call.inputs = (const ref_value **)(void *)(call.outputs + node->output_count);
    for (size_t i = 0; i < node->input_count; i++) {
        call.inputs[i] = ref_find_source(frame, &node->inputs[i]);
    }
    const kiln_status status = call_kernel(&call);
    finish_call(&call, status == KILN_OK);
    ref_buffer_release(&context->memory, room);
    if (status == KILN_OK) {
        for (size_t i = 0; i < node->dead_count; i++) {
            ref_value_release(&context->memory, &frame->values[node->dead[i]]);
        }
    }
    return status;
}

static kiln_status run_frame(ref_context *context, ref_frame *frame, const ref_value *inputs,
                             size_t input_count, ref_value *outputs)
{
    const ref_plan *plan = frame->plan;
    for (size_t i = 0; i < plan->input_count && i < input_count; i++) {
        ref_value_copy(&frame->values[plan->inputs[i]], &inputs[i]);
    }
    const bool is_timed = context->is_timed && plan == context->engine->plan;
    for (size_t i = 0; i < plan->node_count; i++) {
        const uint64_t begin = is_timed ? kln_now() : 0;
        KLN_RETURN_IF_ERROR(run_node(context, frame, &plan->nodes[i]));
        if (is_timed) {
            context->times[i].nanoseconds += kln_now() - begin;
            context->times[i].runs++;
        }
    }
    for (size_t i = 0; i < plan->output_count; i++) {
        const ref_value *value = ref_find_source(frame, &plan->outputs[i]);
        if (value != NULL) {
            ref_value_copy(&outputs[i], value);
        } else {
            outputs[i] = (ref_value){.kind = REF_NONE, .buffer = NULL};
        }
    }
    return KILN_OK;
}

kiln_status ref_execute(ref_context *context, const ref_plan *plan, ref_frame *outer,
                        const ref_value *inputs, size_t input_count, ref_value *outputs)
{
    KLN_RETURN_IF(context->depth >= DEEPEST, KILN_ERROR_LIMIT, "graphs are nested deeper than %d",
                  DEEPEST);
    ref_buffer *room = NULL;
    KLN_RETURN_IF_ERROR(
        ref_memory_take(&context->memory, plan->slot_count * sizeof(ref_value), &room));
    ref_frame frame = {.outer = outer, .plan = plan, .values = ref_buffer_data(room)};
    memset(frame.values, 0, plan->slot_count * sizeof(ref_value));
    context->depth++;
    const kiln_status status = run_frame(context, &frame, inputs, input_count, outputs);
    context->depth--;
    for (size_t i = 0; i < plan->slot_count; i++) {
        ref_value_release(&context->memory, &frame.values[i]);
    }
    ref_buffer_release(&context->memory, room);
    return status;
}
