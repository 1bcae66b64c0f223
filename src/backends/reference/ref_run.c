/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_internal.h"

static bool overlap(const kiln_tensor *a, const kiln_tensor *b)
{
    const uintptr_t a_begin = (uintptr_t)a->data;
    const uintptr_t b_begin = (uintptr_t)b->data;
    return a->data != NULL && b->data != NULL && a_begin < b_begin + b->bytes &&
           b_begin < a_begin + a->bytes;
}

/* A kernel may write directly to the caller's output only if no other bound tensor overlaps it: a
 * state that is bound to both an input and an output must stay intact until the end. */
static void find_direct(ref_context *context)
{
    const ref_plan *plan = context->engine->plan;
    for (size_t i = 0; i < plan->output_count; i++) {
        const size_t self = plan->input_count + i;
        const kiln_tensor *bound = &context->bound[self];
        context->direct[i] = bound->data != NULL && !ref_is_packed(bound->desc.dtype);
        for (size_t j = 0; j < plan->input_count + plan->output_count; j++) {
            if (j != self && overlap(bound, &context->bound[j])) {
                context->direct[i] = false;
            }
        }
    }
}

static kiln_status make_input(ref_context *context, const kiln_tensor *bound, ref_value *value)
{
    *value = (ref_value){.kind = REF_TENSOR, .buffer = NULL};
    ref_tensor *tensor = &value->tensor;
    tensor->dtype = bound->desc.dtype;
    tensor->rank = bound->desc.shape.rank;
    memcpy(tensor->dims, bound->desc.shape.dims, (size_t)tensor->rank * sizeof(int64_t));
    KLN_RETURN_IF_ERROR(ref_count(tensor->rank, tensor->dims, &tensor->count));
    tensor->data = bound->data;
    if (ref_is_packed(tensor->dtype) || tensor->data == NULL) {
        KLN_RETURN_IF_ERROR(
            ref_memory_take(&context->memory, (size_t)tensor->count, &value->buffer));
        tensor->data = ref_buffer_data(value->buffer);
        if (tensor->count > 0) {
            ref_unpack(tensor->dtype, bound->data, tensor->count, tensor->data);
        }
    }
    return KILN_OK;
}

static kiln_status fail_output(const ref_tensor *found, const kiln_tensor *bound, size_t index)
{
    kiln_shape shape = {.rank = found->rank};
    memcpy(shape.dims, found->dims, (size_t)found->rank * sizeof(int64_t));
    const bool dtype = found->dtype != bound->desc.dtype;
    return kln_fail(dtype ? KILN_ERROR_DTYPE : KILN_ERROR_SHAPE,
                    "output %zu came out as %s %s, but the memory bound to it is for %s %s", index,
                    kiln_dtype_name(found->dtype), KLN_SHAPE_PRINTED(&shape),
                    kiln_dtype_name(bound->desc.dtype), KLN_SHAPE_PRINTED(&bound->desc.shape));
}

static kiln_status write_bound(const ref_tensor *tensor, const kiln_tensor *bound, size_t index)
{
    const size_t bytes = (size_t)tensor->count * ref_element_size(tensor->dtype);
    KLN_FAIL_IF(tensor->dtype != bound->desc.dtype || tensor->rank != bound->desc.shape.rank ||
                    memcmp(tensor->dims, bound->desc.shape.dims,
                           (size_t)tensor->rank * sizeof(int64_t)) != 0,
                fail_output(tensor, bound, index));
    if (ref_is_packed(tensor->dtype)) {
        ref_pack(tensor->data, tensor->count, bound->data);
    } else if (tensor->data != bound->data && bytes > 0) {
        memmove(bound->data, tensor->data, bytes);
    }
    return KILN_OK;
}

/* Keeps a result until the next run: bytes that belong to the model or the caller are copied, and
 * packed types are packed. */
static kiln_status keep_result(ref_context *context, const ref_value *value, ref_value *result)
{
    const ref_tensor *tensor = &value->tensor;
    if (value->buffer != NULL && !ref_is_packed(tensor->dtype)) {
        ref_value_copy(result, value);
        return KILN_OK;
    }
    const size_t bytes = (size_t)tensor->count * ref_element_size(tensor->dtype);
    *result = (ref_value){.kind = REF_NONE, .tensor = *tensor, .buffer = NULL};
    KLN_RETURN_IF_ERROR(ref_memory_take(&context->memory, bytes, &result->buffer));
    result->tensor.data = ref_buffer_data(result->buffer);
    result->kind = REF_TENSOR;
    if (ref_is_packed(tensor->dtype)) {
        ref_pack(tensor->data, tensor->count, result->tensor.data);
    } else if (bytes > 0) {
        memcpy(result->tensor.data, tensor->data, bytes);
    }
    return KILN_OK;
}

static kiln_status deliver(ref_context *context, const ref_value *values)
{
    const ref_plan *plan = context->engine->plan;
    for (size_t i = 0; i < plan->output_count; i++) {
        const kiln_tensor *bound = &context->bound[plan->input_count + i];
        KLN_RETURN_IF(values[i].kind != REF_TENSOR, KILN_ERROR_UNSUPPORTED,
                      "output %zu came out as a %s, which no memory can be bound to", i,
                      values[i].kind == REF_SEQUENCE ? "sequence" : "missing optional value");
        KLN_RETURN_IF_ERROR(bound->data != NULL
                                ? write_bound(&values[i].tensor, bound, i)
                                : keep_result(context, &values[i], &context->results[i]));
    }
    return KILN_OK;
}

static kiln_status run_values(ref_context *context, ref_value *inputs, ref_value *outputs)
{
    const ref_plan *plan = context->engine->plan;
    const size_t required = plan->input_count - plan->optional_count;
    for (size_t i = 0; i < plan->input_count; i++) {
        if (i >= required && context->bound[i].desc.dtype == KILN_DTYPE_UNDEFINED) {
            ref_value_copy(&inputs[i], &plan->optional[i - required]);
        } else {
            KLN_RETURN_IF_ERROR(make_input(context, &context->bound[i], &inputs[i]));
        }
    }
    find_direct(context);
    KLN_RETURN_IF_ERROR(ref_execute(context, plan, NULL, inputs, plan->input_count, outputs));
    return deliver(context, outputs);
}

kiln_status ref_run(void *opaque)
{
    ref_context *context = opaque;
    const ref_plan *plan = context->engine->plan;
    KLN_RETURN_IF_ERROR(kln_onnx_check_files(context->engine->model));
    for (size_t i = 0; i < plan->output_count; i++) {
        ref_value_release(&context->memory, &context->results[i]);
    }
    ref_text_release(context);
    const size_t count = plan->input_count + plan->output_count;
    ref_buffer *room = NULL;
    KLN_RETURN_IF_ERROR(ref_memory_take(&context->memory, count * sizeof(ref_value), &room));
    ref_value *values = ref_buffer_data(room);
    memset(values, 0, count * sizeof *values);
    context->depth = 0;
    context->work_left = context->work_limit;
    const kiln_status status = run_values(context, values, values + plan->input_count);
    for (size_t i = 0; i < count; i++) {
        ref_value_release(&context->memory, &values[i]);
    }
    ref_buffer_release(&context->memory, room);
    return status;
}
