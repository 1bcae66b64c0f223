/* Kernels that are composed of others.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_step.h"

#define STEPS 16 /* per call */

static kiln_status new_step(ref_call *call, ref_value **value)
{
    if (call->steps == NULL) {
        KLN_RETURN_IF_ERROR(ref_scratch(call, STEPS, sizeof *call->steps, &call->steps));
    }
    KLN_RETURN_IF(call->step_count == STEPS, KILN_ERROR_INTERNAL, "more than %d steps", STEPS);
    *value = &call->steps[call->step_count++];
    memset(*value, 0, sizeof **value);
    return KILN_OK;
}

/* The given attributes come before the node's own, and take precedence. */
static kiln_status join_attributes(ref_call *inner, const ref_operator *op, const ref_node *of,
                                   ref_node *node)
{
    const size_t count = op->attribute_count + of->attribute_count;
    KLN_RETURN_IF_ERROR(ref_scratch(inner, count + 1, sizeof(void *), &node->attributes));
    for (size_t i = 0; i < count; i++) {
        node->attributes[i] =
            i < op->attribute_count ? &op->attributes[i] : of->attributes[i - op->attribute_count];
    }
    node->attribute_count = count;
    return KILN_OK;
}

static kiln_status run(ref_call *inner, const ref_operator *op, const ref_node *of,
                       const ref_value *const *inputs, ref_node *node)
{
    KLN_RETURN_IF(node->kernel == NULL, KILN_ERROR_INTERNAL, "there is no operator %s", op->name);
    KLN_RETURN_IF_ERROR(join_attributes(inner, op, of, node));
    KLN_RETURN_IF_ERROR(ref_scratch(inner, node->input_count, sizeof(void *), &inner->inputs));
    memcpy(inner->inputs, inputs, node->input_count * sizeof(void *));
    inner->variant = node->kernel->variant;
    KLN_RETURN_IF_ERROR(ref_need_inputs(inner));
    return node->kernel->function(inner);
}

static const ref_kernel *find_kernel(const ref_context *context, const char *name)
{
    const ref_kernel *found = context->find("", name);
    return found != NULL ? found : context->find("com.microsoft", name);
}

kiln_status ref_step(ref_call *call, const ref_operator *op, const ref_value *const *inputs,
                     size_t count, const ref_value **result)
{
    ref_value *value = NULL;
    uint32_t slot = REF_SLOT_NONE - 1; /* not an output of the network */
    ref_node node = {.node = call->node->node,
                     .index = call->node->index,
                     .kernel = find_kernel(call->context, op->name),
                     .version = op->version != 0 ? op->version : REF_NEWEST_OPSET,
                     .input_count = count,
                     .outputs = &slot,
                     .output_count = 1};
    KLN_RETURN_IF_ERROR(new_step(call, &value));
    ref_call inner = {
        .context = call->context, .frame = call->frame, .node = &node, .outputs = value};
    const kiln_status status = run(&inner, op, call->node, inputs, &node);
    ref_call_finish(&inner);
    *result = value; /* may be the same as an input */
    return status;
}

kiln_status ref_step_tensor(ref_call *call, kiln_dtype dtype, int rank, const int64_t *dims,
                            ref_value **value)
{
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(ref_count(rank, dims, &count));
    KLN_RETURN_IF_ERROR(new_step(call, value));
    KLN_RETURN_IF_ERROR(ref_memory_take(
        &call->context->memory, (size_t)count * ref_element_size(dtype), &(*value)->buffer));
    ref_tensor *tensor = &(*value)->tensor;
    (*value)->kind = REF_TENSOR;
    *tensor = (ref_tensor){.dtype = dtype, .rank = rank, .count = count};
    tensor->data = ref_buffer_data((*value)->buffer);
    for (int i = 0; i < rank; i++) {
        tensor->dims[i] = dims[i];
    }
    return KILN_OK;
}

kiln_status ref_step_number(ref_call *call, kiln_dtype dtype, double number,
                            const ref_value **value)
{
    ref_value *made = NULL;
    KLN_RETURN_IF_ERROR(ref_step_tensor(call, dtype, 0, NULL, &made));
    ref_put_float(&made->tensor, 0, number);
    *value = made;
    return KILN_OK;
}

kiln_status ref_step_turn(ref_call *call, const int64_t *order, const ref_value **value)
{
    int64_t perm[REF_RANK];
    const int rank = (*value)->tensor.rank;
    memcpy(perm, order, (size_t)rank * sizeof *perm);
    const kln_onnx_attribute attribute = {
        .name = "perm", .type = KLN_ONNX_ATTRIBUTE_INTS, .ints = perm, .count = (size_t)rank};
    return ref_step(call, &(ref_operator){"Transpose", 0, &attribute, 1}, value, 1, value);
}

kiln_status ref_give(ref_call *call, size_t index, const ref_value *value)
{
    ref_value *output = NULL;
    KLN_RETURN_IF_ERROR(ref_output_value(call, index, &output));
    ref_value_copy(output, value);
    return KILN_OK;
}
