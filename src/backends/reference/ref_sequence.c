/* Sequences and optional values.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* Makes output `index` a sequence of `count` items, which are empty (REF_NONE) for now. */
static kiln_status make_sequence(ref_call *call, size_t index, int64_t count, ref_value **items)
{
    ref_value *value = NULL;
    KLN_RETURN_IF_ERROR(ref_output_value(call, index, &value));
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)count));
    KLN_RETURN_IF_ERROR(ref_memory_take(&call->context->memory,
                                        (size_t)(count + 1) * sizeof **items, &value->buffer));
    *items = ref_buffer_data(value->buffer);
    memset(*items, 0, (size_t)(count + 1) * sizeof **items);
    value->tensor.data = *items;
    value->tensor.count = count;
    value->kind = REF_SEQUENCE;
    return KILN_OK;
}

static kiln_status need_sequence(const ref_call *call, size_t index, const ref_value **sequence)
{
    *sequence = index < call->node->input_count ? call->inputs[index] : NULL;
    return *sequence != NULL && (*sequence)->kind == REF_SEQUENCE
               ? KILN_OK
               : kln_fail(KILN_ERROR_INVALID_NETWORK, "input %zu must be a sequence", index);
}

static const ref_value *item_of(const ref_value *sequence, int64_t index)
{
    return (const ref_value *)sequence->tensor.data + index;
}

/* Reads a position in `count` items. A negative one counts from the end; the position is at most
 * `last`, which is also the default. */
static kiln_status read_place(const ref_call *call, size_t index, int64_t count, int64_t last,
                              int64_t *place)
{
    const ref_tensor *given = ref_input(call, index);
    *place = given != NULL ? ref_get_int(given, 0) : last;
    const int64_t asked = *place;
    *place += *place < 0 ? count : 0;
    return *place >= 0 && *place <= last
               ? KILN_OK
               : kln_fail(KILN_ERROR_INVALID_NETWORK, "position %lld in a sequence of %lld",
                          (long long)asked, (long long)count);
}

static kiln_status ref_op_sequence_construct(ref_call *call)
{
    ref_value *items = NULL;
    const size_t count = call->node->input_count;
    KLN_RETURN_IF_ERROR(make_sequence(call, 0, (int64_t)count, &items));
    for (size_t i = 0; i < count; i++) {
        const ref_tensor *tensor = NULL;
        KLN_RETURN_IF_ERROR(ref_need(call, i, &tensor));
        ref_value_copy(&items[i], call->inputs[i]);
    }
    return KILN_OK;
}

static kiln_status ref_op_sequence_empty(ref_call *call)
{
    ref_value *items = NULL;
    return make_sequence(call, 0, 0, &items);
}

static kiln_status ref_op_sequence_at(ref_call *call)
{
    const ref_value *sequence = NULL;
    int64_t place = 0;
    KLN_RETURN_IF_ERROR(need_sequence(call, 0, &sequence));
    const int64_t count = sequence->tensor.count;
    KLN_RETURN_IF_ERROR(read_place(call, 1, count, count - 1, &place));
    ref_value *value = NULL;
    KLN_RETURN_IF_ERROR(ref_output_value(call, 0, &value));
    ref_value_copy(value, item_of(sequence, place));
    return KILN_OK;
}

static kiln_status ref_op_sequence_insert(ref_call *call)
{
    const ref_value *sequence = NULL;
    ref_value *items = NULL;
    int64_t place = 0;
    KLN_RETURN_IF_ERROR(need_sequence(call, 0, &sequence));
    const int64_t count = sequence->tensor.count;
    KLN_RETURN_IF_ERROR(read_place(call, 2, count, count, &place));
    KLN_RETURN_IF_ERROR(make_sequence(call, 0, count + 1, &items));
    for (int64_t i = 0; i <= count; i++) {
        ref_value_copy(&items[i],
                       i == place ? call->inputs[1] : item_of(sequence, i > place ? i - 1 : i));
    }
    return KILN_OK;
}

static kiln_status ref_op_sequence_erase(ref_call *call)
{
    const ref_value *sequence = NULL;
    ref_value *items = NULL;
    int64_t place = 0;
    KLN_RETURN_IF_ERROR(need_sequence(call, 0, &sequence));
    const int64_t count = sequence->tensor.count;
    KLN_RETURN_IF_ERROR(read_place(call, 1, count, count - 1, &place));
    KLN_RETURN_IF_ERROR(make_sequence(call, 0, count - 1, &items));
    for (int64_t i = 0; i < count - 1; i++) {
        ref_value_copy(&items[i], item_of(sequence, i < place ? i : i + 1));
    }
    return KILN_OK;
}

static kiln_status ref_op_sequence_length(ref_call *call)
{
    const ref_value *sequence = NULL;
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(need_sequence(call, 0, &sequence));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT64, 0, NULL, &y));
    ref_put_int(y, 0, sequence->tensor.count);
    return KILN_OK;
}

kiln_status ref_cut(ref_call *call, const ref_value *from, int axis, int64_t begin, int64_t end,
                    bool keep, ref_value *value)
{
    const ref_tensor *x = &from->tensor;
    const size_t size = ref_element_size(x->dtype);
    const int64_t inner = ref_product(x->dims, axis + 1, x->rank);
    const int64_t outer = ref_product(x->dims, 0, axis);
    const int64_t row = (end - begin) * inner;
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)row * (double)outer));
    ref_tensor *tensor = &value->tensor;
    if (outer == 1) {
        ref_value_copy(value, from);
        *tensor = (ref_tensor){.data = (char *)x->data + (size_t)(begin * inner) * size};
    } else {
        KLN_RETURN_IF_ERROR(
            ref_memory_take(&call->context->memory, (size_t)(row * outer) * size, &value->buffer));
        value->kind = REF_TENSOR;
        *tensor = (ref_tensor){.data = ref_buffer_data(value->buffer)};
    }
    tensor->dtype = x->dtype;
    tensor->count = row * outer;
    for (int i = 0; i < x->rank; i++) {
        if (i != axis || keep) {
            tensor->dims[tensor->rank++] = i == axis ? end - begin : x->dims[i];
        }
    }
    for (int64_t i = 0; i < outer && row > 0 && outer > 1; i++) {
        memcpy((char *)tensor->data + (size_t)(i * row) * size,
               (const char *)x->data + (size_t)((i * x->dims[axis] + begin) * inner) * size,
               (size_t)row * size);
    }
    return KILN_OK;
}

/* Computes where each piece ends. */
static kiln_status read_ends(ref_call *call, int64_t length, int64_t **ends, int64_t *count)
{
    const ref_tensor *split = ref_input(call, 1);
    const bool listed = split != NULL && split->rank > 0;
    const int64_t each = split != NULL && !listed ? ref_get_int(split, 0) : 1;
    KLN_RETURN_IF(each <= 0, KILN_ERROR_INVALID_NETWORK, "pieces of %lld", (long long)each);
    *count = listed ? split->count : length / each + (length % each != 0 ? 1 : 0);
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)*count + 1, sizeof **ends, ends));
    int64_t end = 0;
    for (int64_t i = 0; i < *count; i++) {
        const int64_t piece = listed ? ref_get_int(split, i) : each;
        KLN_RETURN_IF(piece < 0 || (listed && piece > length - end), KILN_ERROR_SHAPE,
                      "the pieces do not fit %lld", (long long)length);
        end = piece < length - end ? end + piece : length;
        (*ends)[i] = end;
    }
    return KILN_OK;
}

static kiln_status ref_op_split_to_sequence(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_value *items = NULL;
    int64_t *ends = NULL;
    int64_t count = 0;
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), x->rank, &axis));
    KLN_RETURN_IF_ERROR(read_ends(call, x->dims[axis], &ends, &count));
    const bool keep = ref_input(call, 1) != NULL || ref_attribute_int(call, "keepdims", 1) != 0;
    KLN_RETURN_IF_ERROR(make_sequence(call, 0, count, &items));
    for (int64_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(ref_cut(call, call->inputs[0], axis, i > 0 ? ends[i - 1] : 0, ends[i],
                                    keep, &items[i]));
    }
    return KILN_OK;
}

static kiln_status ref_op_concat_from_sequence(ref_call *call)
{
    const ref_value *sequence = NULL;
    const ref_tensor **parts = NULL;
    ref_tensor *wider = NULL;
    int axis = 0;
    KLN_RETURN_IF_ERROR(need_sequence(call, 0, &sequence));
    const size_t count = (size_t)sequence->tensor.count;
    KLN_RETURN_IF(count == 0, KILN_ERROR_INVALID_NETWORK, "there is nothing to join");
    const bool fresh = ref_attribute_int(call, "new_axis", 0) != 0;
    const int rank = item_of(sequence, 0)->tensor.rank + (fresh ? 1 : 0);
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), rank, &axis));
    KLN_RETURN_IF_ERROR(ref_scratch(call, count, sizeof(void *), &parts));
    KLN_RETURN_IF_ERROR(ref_scratch(call, count, sizeof *wider, &wider));
    for (size_t i = 0; i < count; i++) {
        wider[i] = item_of(sequence, (int64_t)i)->tensor;
        parts[i] = &wider[i];
        KLN_RETURN_IF(fresh && (wider[i].rank >= REF_RANK || wider[i].rank != rank - 1),
                      KILN_ERROR_RANK, "the items cannot be stacked");
        for (int j = wider[i].rank; fresh && j > axis; j--) {
            wider[i].dims[j] = wider[i].dims[j - 1];
        }
        if (fresh) {
            wider[i].dims[axis] = 1;
            wider[i].rank++;
        }
    }
    return ref_concat(call, count, parts, axis);
}

/* Collects the inputs of the body for item `index`: the item of a sequence, or a tensor as it
 * is. */
static kiln_status gather_inputs(const ref_call *call, int64_t index, ref_value *inputs)
{
    for (size_t i = 0; i < call->node->input_count; i++) {
        const ref_value *given = call->inputs[i];
        if (given != NULL && given->kind == REF_SEQUENCE) {
            KLN_RETURN_IF(index >= given->tensor.count, KILN_ERROR_SHAPE,
                          "sequences of different lengths");
            inputs[i] = *item_of(given, index);
        } else if (given != NULL) {
            inputs[i] = *given;
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_sequence_map(ref_call *call)
{
    const ref_value *sequence = NULL;
    ref_value *inputs = NULL;
    ref_value *outputs = NULL;
    ref_value **items = NULL;
    const struct ref_plan *plan = ref_attribute_plan(call, "body");
    KLN_RETURN_IF_ERROR(need_sequence(call, 0, &sequence));
    const size_t given = call->node->input_count;
    const size_t count = call->node->output_count;
    KLN_RETURN_IF(
        plan == NULL || plan->input_count != given || plan->output_count != count,
        KILN_ERROR_INVALID_NETWORK,
        "the body needs an input for each of the node's and an output for each of its outputs");
    KLN_RETURN_IF_ERROR(ref_scratch(call, given + 1, sizeof *inputs, &inputs));
    KLN_RETURN_IF_ERROR(ref_scratch(call, count + 1, sizeof *outputs, &outputs));
    KLN_RETURN_IF_ERROR(ref_scratch(call, count + 1, sizeof(void *), &items));
    memset(inputs, 0, (given + 1) * sizeof *inputs);
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(make_sequence(call, i, sequence->tensor.count, &items[i]));
    }
    for (int64_t i = 0; i < sequence->tensor.count; i++) {
        KLN_RETURN_IF_ERROR(gather_inputs(call, i, inputs));
        KLN_RETURN_IF_ERROR(ref_execute(call->context, plan, call->frame, inputs, given, outputs));
        bool tensors = true;
        for (size_t j = 0; j < count; j++) {
            tensors = tensors && outputs[j].kind == REF_TENSOR;
            items[j][i] = outputs[j];
        }
        KLN_RETURN_IF(!tensors, KILN_ERROR_INVALID_NETWORK, "the body gives something but tensors");
    }
    return KILN_OK;
}

static kiln_status ref_op_optional(ref_call *call)
{
    return ref_op_identity(call);
}

static kiln_status ref_op_optional_get(ref_call *call)
{
    KLN_RETURN_IF(call->node->input_count == 0 || call->inputs[0] == NULL ||
                      call->inputs[0]->kind == REF_NONE,
                  KILN_ERROR_INVALID_NETWORK, "the optional value holds nothing");
    return ref_op_identity(call);
}

static kiln_status ref_op_optional_has(ref_call *call)
{
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_BOOL, 0, NULL, &y));
    ref_put_int(y, 0,
                call->node->input_count > 0 && call->inputs[0] != NULL &&
                    call->inputs[0]->kind != REF_NONE);
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_sequence[] = {
    REF_OP("SequenceConstruct", 11, sequence_construct, 0),
    REF_OP("SequenceEmpty", 11, sequence_empty, 0),
    REF_OP("SequenceAt", 11, sequence_at, 0, "-1"),
    REF_OP("SequenceInsert", 11, sequence_insert, 0, "-t?"),
    REF_OP("SequenceErase", 11, sequence_erase, 0, "-?"),
    REF_OP("SequenceLength", 11, sequence_length, 0),
    REF_OP("SplitToSequence", 11, split_to_sequence, 0, "t"),
    REF_OP("ConcatFromSequence", 11, concat_from_sequence, 0),
    REF_OP("SequenceMap", 17, sequence_map, 0),
    REF_OP("Optional", 15, optional, 0),
    REF_OP("OptionalGetElement", 15, optional_get, 0),
    REF_OP("OptionalHasElement", 15, optional_has, 0),
    REF_KERNELS_END
};
/* clang-format on */
