/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_internal.h"

kiln_status ref_spend(const ref_call *call, double amount)
{
    ref_context *context = call->context;
    KLN_RETURN_IF(atomic_load_explicit(&context->stopped, memory_order_relaxed),
                  KILN_ERROR_CANCELLED, "the run was stopped");
    KLN_RETURN_IF(amount > context->work_left, KILN_ERROR_LIMIT,
                  "the run needs more than the %.0f steps it may take", context->work_limit);
    context->work_left -= amount;
    return KILN_OK;
}

const ref_tensor *ref_input(const ref_call *call, size_t index)
{
    if (index >= call->node->input_count || call->inputs[index] == NULL ||
        call->inputs[index]->kind != REF_TENSOR) {
        return NULL;
    }
    return &call->inputs[index]->tensor;
}

kiln_status ref_need(const ref_call *call, size_t index, const ref_tensor **tensor)
{
    *tensor = ref_input(call, index);
    if (*tensor != NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(index < call->node->input_count && call->inputs[index] != NULL &&
                      call->inputs[index]->kind == REF_SEQUENCE,
                  KILN_ERROR_INVALID_NETWORK, "input %zu is a sequence; a tensor is needed there",
                  index);
    return kln_fail(KILN_ERROR_INVALID_NETWORK, "input %zu is required but left out", index);
}

kiln_status ref_fail_dtype(const ref_call *call, kiln_dtype dtype)
{
    return kln_fail(KILN_ERROR_UNSUPPORTED, "%s on %s is not defined or not computed here",
                    call->node->node->op_type, kiln_dtype_name(dtype));
}

kiln_status ref_need_number(const ref_call *call, size_t index, const ref_tensor **tensor)
{
    KLN_RETURN_IF_ERROR(ref_need(call, index, tensor));
    KLN_FAIL_IF(ref_domain_of((*tensor)->dtype) == REF_DOMAIN_NONE,
                ref_fail_dtype(call, (*tensor)->dtype));
    return KILN_OK;
}

kiln_status ref_need_float(const ref_call *call, size_t index, const ref_tensor **tensor)
{
    KLN_RETURN_IF_ERROR(ref_need(call, index, tensor));
    KLN_FAIL_IF(ref_domain_of((*tensor)->dtype) != REF_DOMAIN_FLOAT,
                ref_fail_dtype(call, (*tensor)->dtype));
    return KILN_OK;
}

/* Checks for a single number. */
static kiln_status need_one(const ref_call *call, size_t index, const ref_tensor **tensor)
{
    KLN_RETURN_IF_ERROR(ref_need_number(call, index, tensor));
    KLN_RETURN_IF((*tensor)->count != 1, KILN_ERROR_SHAPE,
                  "input %zu has %lld elements; one is needed", index, (long long)(*tensor)->count);
    return KILN_OK;
}

static kiln_status need_strings(const ref_call *call, size_t index, const ref_tensor **tensor)
{
    KLN_RETURN_IF_ERROR(ref_need(call, index, tensor));
    return (*tensor)->dtype == KILN_DTYPE_STRING ? KILN_OK : ref_fail_dtype(call, (*tensor)->dtype);
}

kiln_status ref_need_inputs(const ref_call *call)
{
    const char *needs = call->node->kernel->needs;
    const size_t count = needs != NULL ? strlen(needs) : 0;
    const size_t all =
        count > 0 && strchr("nf1o", needs[count - 1]) != NULL ? call->node->input_count : count;
    for (size_t i = 0; i < count || i < all; i++) {
        const char need = i < count ? needs[i] : 'o';
        const bool may_lack = need == '?' || need == 'o';
        const ref_tensor *tensor = NULL;
        if (need != '-' && (!may_lack || ref_input(call, i) != NULL)) {
            KLN_RETURN_IF_ERROR(need == 'f'                  ? ref_need_float(call, i, &tensor)
                                : need == 'n' || need == 'o' ? ref_need_number(call, i, &tensor)
                                : need == 's'                ? need_strings(call, i, &tensor)
                                : need == 't'                ? ref_need(call, i, &tensor)
                                                             : need_one(call, i, &tensor));
        }
    }
    return KILN_OK;
}

bool ref_wants(const ref_call *call, size_t output)
{
    return output < call->node->output_count && call->node->outputs[output] != REF_SLOT_NONE;
}

kiln_status ref_count(int rank, const int64_t *dims, int64_t *count)
{
    int64_t product = 1;
    bool empty = false;
    KLN_RETURN_IF(rank > REF_RANK, KILN_ERROR_RANK,
                  "a tensor of %d dimensions is past the limit of %d", rank, REF_RANK);
    for (int i = 0; i < rank; i++) {
        KLN_RETURN_IF(dims[i] < 0, KILN_ERROR_SHAPE, "dimension %d would be %lld", i,
                      (long long)dims[i]);
        empty = empty || dims[i] == 0;
        KLN_RETURN_IF(dims[i] != 0 && __builtin_mul_overflow(product, dims[i], &product),
                      KILN_ERROR_LIMIT, "a shape has more elements than can be counted");
    }
    KLN_RETURN_IF(product > INT64_MAX / 64, KILN_ERROR_LIMIT,
                  "a tensor of %lld elements is beyond any memory", (long long)product);
    *count = empty ? 0 : product;
    return KILN_OK;
}

static void shape_into(ref_tensor *tensor, kiln_dtype dtype, int rank, const int64_t *dims,
                       int64_t count)
{
    tensor->dtype = dtype;
    tensor->rank = rank;
    for (int i = 0; i < rank; i++) {
        tensor->dims[i] = dims[i];
    }
    tensor->count = count;
}

/* The caller's memory for this output, if the kernel may write to it directly. */
static void *bound_memory(const ref_call *call, size_t index, const ref_tensor *tensor)
{
    const ref_context *context = call->context;
    if (call->frame->outer != NULL || call->frame->plan != context->engine->plan ||
        !ref_wants(call, index)) {
        return NULL;
    }
    const ref_plan *plan = call->frame->plan;
    for (size_t i = 0; i < plan->output_count; i++) {
        const kiln_tensor *bound = &context->bound[plan->input_count + i];
        if (plan->outputs[i].constant != NULL || !context->direct[i] ||
            plan->outputs[i].slot != call->node->outputs[index]) {
            continue;
        }
        if (bound->desc.dtype != tensor->dtype || bound->desc.shape.rank != tensor->rank ||
            memcmp(bound->desc.shape.dims, tensor->dims, (size_t)tensor->rank * sizeof(int64_t)) !=
                0 ||
            bound->bytes / ref_element_size(tensor->dtype) < (size_t)tensor->count) {
            return NULL;
        }
        return bound->data;
    }
    return NULL;
}

kiln_status ref_output_value(ref_call *call, size_t index, ref_value **value)
{
    KLN_RETURN_IF(index >= call->node->output_count, KILN_ERROR_INVALID_NETWORK,
                  "%zu outputs are given, but %zu are needed", call->node->output_count, index + 1);
    *value = &call->outputs[index];
    ref_value_release(&call->context->memory, *value);
    return KILN_OK;
}

kiln_status ref_output(ref_call *call, size_t index, kiln_dtype dtype, int rank,
                       const int64_t *dims, ref_tensor **tensor)
{
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(ref_count(rank, dims, &count));
    ref_value *value = NULL;
    KLN_RETURN_IF_ERROR(ref_output_value(call, index, &value));
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)count));
    shape_into(&value->tensor, dtype, rank, dims, count);
    value->tensor.data = bound_memory(call, index, &value->tensor);
    if (value->tensor.data == NULL) {
        KLN_RETURN_IF_ERROR(ref_memory_take(
            &call->context->memory, (size_t)count * ref_element_size(dtype), &value->buffer));
        value->tensor.data = ref_buffer_data(value->buffer);
    }
    value->kind = REF_TENSOR;
    *tensor = &value->tensor;
    return KILN_OK;
}

kiln_status ref_output_view(ref_call *call, size_t index, size_t input, int rank,
                            const int64_t *dims)
{
    int64_t count = 0;
    const ref_tensor *from = NULL;
    KLN_RETURN_IF_ERROR(ref_need(call, input, &from));
    KLN_RETURN_IF_ERROR(ref_count(rank, dims, &count));
    KLN_RETURN_IF(count != from->count, KILN_ERROR_SHAPE,
                  "%lld elements cannot take a shape that holds %lld of them",
                  (long long)from->count, (long long)count);
    ref_value *value = NULL;
    KLN_RETURN_IF_ERROR(ref_output_value(call, index, &value));
    ref_value_copy(value, call->inputs[input]);
    shape_into(&value->tensor, from->dtype, rank, dims, count);
    return KILN_OK;
}

kiln_status ref_scratch(ref_call *call, size_t count, size_t size, void *memory)
{
    size_t bytes = 0;
    KLN_RETURN_IF(call->scratch_count == REF_SCRATCH, KILN_ERROR_INTERNAL,
                  "more than %d pieces of scratch memory", REF_SCRATCH);
    KLN_RETURN_IF(__builtin_mul_overflow(count, size, &bytes), KILN_ERROR_LIMIT,
                  "%zu elements are beyond any memory", count);
    ref_buffer *buffer = NULL;
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)count));
    KLN_RETURN_IF_ERROR(ref_memory_take(&call->context->memory, bytes, &buffer));
    call->scratch[call->scratch_count++] = buffer;
    void *data = ref_buffer_data(buffer);
    memcpy(memory, &data, sizeof data);
    return KILN_OK;
}

void ref_call_finish(ref_call *call)
{
    for (size_t i = 0; i < call->step_count; i++) {
        ref_value_release(&call->context->memory, &call->steps[i]);
    }
    for (size_t i = 0; i < call->scratch_count; i++) {
        ref_buffer_release(&call->context->memory, call->scratch[i]);
    }
}

kiln_status ref_doubles(ref_call *call, const ref_tensor *tensor, double **values)
{
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)tensor->count, sizeof(double), values));
    ref_load_float(tensor, 0, 1, tensor->count, *values);
    return KILN_OK;
}

kiln_status ref_ints(ref_call *call, const ref_tensor *tensor, int64_t **values)
{
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)tensor->count, sizeof(int64_t), values));
    ref_load_int(tensor, 0, 1, tensor->count, *values);
    return KILN_OK;
}

static const kln_onnx_attribute *attribute_of(const ref_call *call, const char *name,
                                              kln_onnx_attribute_type type)
{
    const kln_onnx_attribute *attribute = ref_attribute(call, name);
    return attribute != NULL && attribute->type == type ? attribute : NULL;
}

const kln_onnx_attribute *ref_attribute(const ref_call *call, const char *name)
{
    const ref_node *node = call->node;
    for (size_t i = 0; i < node->attribute_count; i++) {
        if (strcmp(node->attributes[i]->name, name) == 0) {
            return node->attributes[i];
        }
    }
    return NULL;
}

int64_t ref_attribute_int(const ref_call *call, const char *name, int64_t otherwise)
{
    const kln_onnx_attribute *found = attribute_of(call, name, KLN_ONNX_ATTRIBUTE_INT);
    return found != NULL ? found->i : otherwise;
}

double ref_attribute_float(const ref_call *call, const char *name, double otherwise)
{
    const kln_onnx_attribute *found = attribute_of(call, name, KLN_ONNX_ATTRIBUTE_FLOAT);
    return found != NULL ? (double)found->f : otherwise;
}

const char *ref_attribute_string(const ref_call *call, const char *name, const char *otherwise)
{
    const kln_onnx_attribute *found = attribute_of(call, name, KLN_ONNX_ATTRIBUTE_STRING);
    return found != NULL && found->s.data != NULL ? (const char *)found->s.data : otherwise;
}

const int64_t *ref_attribute_ints(const ref_call *call, const char *name, size_t *count)
{
    const kln_onnx_attribute *found = attribute_of(call, name, KLN_ONNX_ATTRIBUTE_INTS);
    *count = found != NULL ? found->count : 0;
    return found != NULL ? found->ints : NULL;
}

const ref_plan *ref_attribute_plan(const ref_call *call, const char *name)
{
    const ref_node *node = call->node;
    for (size_t i = 0; i < node->attribute_count; i++) {
        if (node->bodies[i] != NULL && strcmp(node->attributes[i]->name, name) == 0) {
            return node->bodies[i];
        }
    }
    return NULL;
}

kiln_status ref_int_list(ref_call *call, size_t index, const char *name, const int64_t **values,
                         size_t *count)
{
    const ref_tensor *tensor = ref_input(call, index);
    *values = NULL;
    *count = 0;
    if (tensor == NULL) {
        if (name != NULL) {
            *values = ref_attribute_ints(call, name, count);
        }
        return KILN_OK;
    }
    KLN_RETURN_IF(tensor->rank > 1 || ref_domain_of(tensor->dtype) == REF_DOMAIN_NONE,
                  KILN_ERROR_INVALID_NETWORK,
                  "input %zu must be a list of integers, but it is a %s of rank %d", index,
                  kiln_dtype_name(tensor->dtype), tensor->rank);
    int64_t *copy = NULL;
    KLN_RETURN_IF_ERROR(ref_ints(call, tensor, &copy));
    *values = copy;
    *count = (size_t)tensor->count;
    return KILN_OK;
}

kiln_status ref_axis(const ref_call *call, int64_t axis, int rank, int *result)
{
    (void)call;
    const int64_t from_front = axis < 0 ? axis + rank : axis;
    KLN_RETURN_IF(from_front < 0 || from_front >= rank, KILN_ERROR_INVALID_NETWORK,
                  "axis %lld is outside a tensor of %d dimensions", (long long)axis, rank);
    *result = (int)from_front;
    return KILN_OK;
}

kiln_status ref_axes(const ref_call *call, const int64_t *axes, size_t count, int rank,
                     uint32_t *mask)
{
    *mask = 0;
    for (size_t i = 0; i < count; i++) {
        int axis = 0;
        KLN_RETURN_IF_ERROR(ref_axis(call, axes[i], rank, &axis));
        *mask |= UINT32_C(1) << axis;
    }
    return KILN_OK;
}

kiln_status ref_broadcast(const ref_call *call, int a_rank, const int64_t *a_dims, int b_rank,
                          const int64_t *b_dims, int *rank, int64_t *dims)
{
    (void)call;
    const int most = a_rank > b_rank ? a_rank : b_rank;
    int64_t result[REF_RANK] = {0};
    for (int i = 0; i < most; i++) {
        const int64_t a = i < most - a_rank ? 1 : a_dims[i - (most - a_rank)];
        const int64_t b = i < most - b_rank ? 1 : b_dims[i - (most - b_rank)];
        KLN_RETURN_IF(a != b && a != 1 && b != 1, KILN_ERROR_SHAPE,
                      "dimensions %lld and %lld cannot be broadcast", (long long)a, (long long)b);
        result[i] = a == 1 ? b : a;
    }
    memcpy(dims, result, (size_t)most * sizeof(int64_t));
    *rank = most;
    return KILN_OK;
}

bool ref_same_shape(const ref_tensor *a, const ref_tensor *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof(int64_t)) == 0;
}
