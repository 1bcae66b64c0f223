/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

static void release_all(ref_call *call, size_t count, ref_value *values)
{
    for (size_t i = 0; i < count; i++) {
        ref_value_release(&call->context->memory, &values[i]);
    }
}

static kiln_status need_plan(const ref_call *call, const char *name, const ref_plan **plan)
{
    *plan = ref_attribute_plan(call, name);
    return *plan != NULL ? KILN_OK
                         : kln_fail(KILN_ERROR_INVALID_NETWORK, "the graph `%s` is missing", name);
}

/* Zeroed values in scratch memory. */
static kiln_status room_for(ref_call *call, size_t count, ref_value **values)
{
    KLN_RETURN_IF_ERROR(ref_scratch(call, count + 1, sizeof **values, values));
    memset(*values, 0, (count + 1) * sizeof **values);
    return KILN_OK;
}

static kiln_status ref_op_if(ref_call *call)
{
    const ref_tensor *condition = ref_input(call, 0);
    const ref_plan *plan = NULL;
    const bool yes = ref_get_int(condition, 0) != 0;
    KLN_RETURN_IF_ERROR(need_plan(call, yes ? "then_branch" : "else_branch", &plan));
    KLN_RETURN_IF(plan->output_count != call->node->output_count || plan->input_count != 0,
                  KILN_ERROR_INVALID_NETWORK, "the branch gives %zu outputs, the node has %zu",
                  plan->output_count, call->node->output_count);
    return ref_execute(call->context, plan, call->frame, NULL, 0, call->outputs);
}

/* --- collecting the results of iterations --- */

/* A growing list of values in memory that it owns. */
typedef struct gathered {
    ref_buffer *buffer;
    size_t count;
    size_t capacity;
} gathered;

static kiln_status gather_value(ref_call *call, gathered *list, ref_value *value)
{
    if (list->count == list->capacity) {
        ref_buffer *larger = NULL;
        const size_t capacity = list->capacity * 2 + 8;
        KLN_RETURN_IF_ERROR(
            ref_memory_take(&call->context->memory, capacity * sizeof(ref_value), &larger));
        if (list->buffer != NULL) {
            memcpy(ref_buffer_data(larger), ref_buffer_data(list->buffer),
                   list->count * sizeof(ref_value));
        }
        ref_buffer_release(&call->context->memory, list->buffer);
        list->buffer = larger;
        list->capacity = capacity;
    }
    ((ref_value *)ref_buffer_data(list->buffer))[list->count++] = *value;
    *value = (ref_value){.kind = REF_NONE, .buffer = NULL};
    return KILN_OK;
}

static void release_gathered(ref_call *call, gathered *list)
{
    if (list->buffer != NULL) {
        release_all(call, list->count, ref_buffer_data(list->buffer));
        ref_buffer_release(&call->context->memory, list->buffer);
    }
}

/* Stacks the collected values, of which there is at least one, along a new dimension `axis` into
 * output `index`. */
static kiln_status stack(ref_call *call, size_t index, const gathered *list, int64_t axis,
                         bool reverse)
{
    const ref_value *values = ref_buffer_data(list->buffer);
    const ref_tensor *first = &values[0].tensor;
    int at = 0;
    KLN_RETURN_IF_ERROR(ref_axis(call, axis, first->rank + 1, &at));
    int64_t dims[REF_RANK + 1];
    memcpy(dims, first->dims, (size_t)at * sizeof *dims);
    dims[at] = (int64_t)list->count;
    memcpy(dims + at + 1, first->dims + at, (size_t)(first->rank - at) * sizeof *dims);
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, index, first->dtype, first->rank + 1, dims, &y));
    const int64_t outer = ref_product(first->dims, 0, at);
    const size_t inner =
        (size_t)ref_product(first->dims, at, first->rank) * ref_element_size(first->dtype);
    for (size_t i = 0; i < list->count; i++) {
        const ref_tensor *from = &values[i].tensor;
        KLN_RETURN_IF(values[i].kind != REF_TENSOR || from->dtype != first->dtype ||
                          !ref_same_shape(from, first),
                      KILN_ERROR_SHAPE, "iteration %zu gives another type or shape than the first",
                      i);
        const size_t place = reverse ? list->count - 1 - i : i;
        for (int64_t j = 0; j < outer && inner > 0; j++) {
            memcpy((char *)y->data + ((size_t)j * list->count + place) * inner,
                   (const char *)from->data + (size_t)j * inner, inner);
        }
    }
    return KILN_OK;
}

/* --- Loop --- */

static ref_value scalar_value(kiln_dtype dtype, void *data)
{
    ref_value value = {.kind = REF_TENSOR, .buffer = NULL};
    value.tensor.dtype = dtype;
    value.tensor.count = 1;
    value.tensor.data = data;
    return value;
}

typedef struct looping {
    const ref_plan *plan;
    size_t carried;
    size_t scans;
    ref_value *state;   /* loop-carried values */
    ref_value *inputs;  /* iteration number, condition, carried values */
    ref_value *outputs; /* condition, carried values, scans */
    gathered *lists;
} looping;

static kiln_status iterate(ref_call *call, looping *loop, int64_t number, uint8_t *go_on)
{
    /* Values that a body captures or passes through must outlive this stack frame. */
    int64_t *count = NULL;
    ref_buffer *room = NULL;
    KLN_RETURN_IF_ERROR(ref_memory_take(&call->context->memory, 2 * sizeof *count, &room));
    count = ref_buffer_data(room);
    count[0] = number;
    memcpy(count + 1, go_on, 1);
    loop->inputs[0] = scalar_value(KILN_DTYPE_INT64, count);
    loop->inputs[0].buffer = room;
    loop->inputs[1] = scalar_value(KILN_DTYPE_BOOL, count + 1);
    loop->inputs[1].buffer = room;
    memcpy(loop->inputs + 2, loop->state, loop->carried * sizeof(ref_value));
    kiln_status status = ref_execute(call->context, loop->plan, call->frame, loop->inputs,
                                     loop->carried + 2, loop->outputs);
    ref_buffer_release(&call->context->memory, room);
    if (status != KILN_OK) {
        return status;
    }
    if (loop->outputs[0].kind != REF_TENSOR || loop->outputs[0].tensor.count != 1) {
        status = kln_fail(KILN_ERROR_INVALID_NETWORK,
                          "the body's first output must be one bool, whether to go on");
    } else {
        *go_on = ref_get_int(&loop->outputs[0].tensor, 0) != 0;
    }
    ref_value_release(&call->context->memory, &loop->outputs[0]);
    for (size_t i = 0; i < loop->carried; i++) {
        ref_value_release(&call->context->memory, &loop->state[i]);
        loop->state[i] = loop->outputs[i + 1];
        loop->outputs[i + 1] = (ref_value){.kind = REF_NONE, .buffer = NULL};
    }
    for (size_t i = 0; status == KILN_OK && i < loop->scans; i++) {
        status = gather_value(call, &loop->lists[i], &loop->outputs[loop->carried + 1 + i]);
    }
    return status;
}

/* A scan output of a loop without iterations, inferred from the first iteration's inputs. */
static kiln_status stack_no_turn(ref_call *call, looping *loop, size_t scan)
{
    int64_t number = 0;
    uint8_t go_on = 1;
    loop->inputs[0] = scalar_value(KILN_DTYPE_INT64, &number);
    loop->inputs[1] = scalar_value(KILN_DTYPE_BOOL, &go_on);
    memcpy(loop->inputs + 2, loop->state, loop->carried * sizeof(ref_value));
    return ref_stack_nothing(call, loop->carried + scan, loop->plan, loop->carried + 1 + scan, 0,
                             loop->inputs, loop->carried + 2);
}

static kiln_status run_loop(ref_call *call, looping *loop)
{
    const ref_tensor *most = ref_input(call, 0);
    const ref_tensor *condition = ref_input(call, 1);
    const int64_t limit = most != NULL ? ref_get_int(most, 0) : INT64_MAX;
    uint8_t go_on = condition == NULL || ref_get_int(condition, 0) != 0;
    for (int64_t i = 0; i < limit && go_on != 0; i++) {
        KLN_RETURN_IF_ERROR(ref_spend(call, 1));
        KLN_RETURN_IF_ERROR(iterate(call, loop, i, &go_on));
    }
    for (size_t i = 0; i < loop->scans; i++) {
        KLN_RETURN_IF_ERROR(loop->lists[i].count > 0
                                ? stack(call, loop->carried + i, &loop->lists[i], 0, false)
                                : stack_no_turn(call, loop, i));
    }
    for (size_t i = 0; i < loop->carried; i++) {
        call->outputs[i] = loop->state[i];
        loop->state[i] = (ref_value){.kind = REF_NONE, .buffer = NULL};
    }
    return KILN_OK;
}

static kiln_status ref_op_loop(ref_call *call)
{
    looping loop = {.plan = NULL};
    const size_t given = call->node->input_count;
    KLN_RETURN_IF_ERROR(need_plan(call, "body", &loop.plan));
    loop.carried = given > 2 ? given - 2 : 0;
    KLN_RETURN_IF(
        loop.plan->input_count != loop.carried + 2 || loop.plan->output_count < loop.carried + 1 ||
            call->node->output_count != loop.plan->output_count - 1,
        KILN_ERROR_INVALID_NETWORK,
        "a body of %zu inputs and %zu outputs does not fit %zu carried values and %zu outputs",
        loop.plan->input_count, loop.plan->output_count, loop.carried, call->node->output_count);
    loop.scans = loop.plan->output_count - 1 - loop.carried;
    KLN_RETURN_IF_ERROR(room_for(call, loop.carried, &loop.state));
    KLN_RETURN_IF_ERROR(room_for(call, loop.carried + 2, &loop.inputs));
    KLN_RETURN_IF_ERROR(room_for(call, loop.plan->output_count, &loop.outputs));
    KLN_RETURN_IF_ERROR(ref_scratch(call, loop.scans + 1, sizeof *loop.lists, &loop.lists));
    memset(loop.lists, 0, (loop.scans + 1) * sizeof *loop.lists);
    for (size_t i = 0; i < loop.carried; i++) {
        if (call->inputs[i + 2] != NULL) {
            ref_value_copy(&loop.state[i], call->inputs[i + 2]);
        }
    }
    const kiln_status status = run_loop(call, &loop);
    release_all(call, loop.carried, loop.state);
    release_all(call, loop.plan->output_count, loop.outputs);
    for (size_t i = 0; i < loop.scans; i++) {
        release_gathered(call, &loop.lists[i]);
    }
    return status;
}

/* --- Scan --- */

typedef struct scanning {
    const ref_plan *plan;
    size_t states, scans, results;
    int64_t length;
    ref_value *state;
    ref_value *inputs;
    ref_value *outputs;
    gathered *lists;
} scanning;

static int64_t list_entry(const ref_call *call, const char *name, size_t index)
{
    size_t count = 0;
    const int64_t *values = ref_attribute_ints(call, name, &count);
    return index < count ? values[index] : 0;
}

static kiln_status scan_length(ref_call *call, scanning *scan)
{
    scan->length = -1;
    for (size_t i = 0; i < scan->scans; i++) {
        const ref_tensor *x = NULL;
        int axis = 0;
        KLN_RETURN_IF_ERROR(ref_need(call, scan->states + i, &x));
        KLN_RETURN_IF_ERROR(ref_axis(call, list_entry(call, "scan_input_axes", i), x->rank, &axis));
        KLN_RETURN_IF(scan->length >= 0 && x->dims[axis] != scan->length, KILN_ERROR_SHAPE,
                      "scan inputs have lengths %lld and %lld", (long long)scan->length,
                      (long long)x->dims[axis]);
        scan->length = x->dims[axis];
    }
    return KILN_OK;
}

static kiln_status take_step(ref_call *call, scanning *scan, int64_t step)
{
    for (size_t i = 0; i < scan->scans; i++) {
        const ref_value *x = call->inputs[scan->states + i];
        int axis = 0;
        KLN_RETURN_IF_ERROR(
            ref_axis(call, list_entry(call, "scan_input_axes", i), x->tensor.rank, &axis));
        const bool back = list_entry(call, "scan_input_directions", i) != 0;
        const int64_t at = back ? scan->length - 1 - step : step;
        KLN_RETURN_IF_ERROR(
            ref_cut(call, x, axis, at, at + 1, false, &scan->inputs[scan->states + i]));
    }
    for (size_t i = 0; i < scan->states; i++) {
        scan->inputs[i] = scan->state[i];
        scan->state[i] = (ref_value){.kind = REF_NONE, .buffer = NULL};
    }
    KLN_RETURN_IF_ERROR(ref_execute(call->context, scan->plan, call->frame, scan->inputs,
                                    scan->states + scan->scans, scan->outputs));
    for (size_t i = 0; i < scan->states; i++) {
        scan->state[i] = scan->outputs[i];
        scan->outputs[i] = (ref_value){.kind = REF_NONE, .buffer = NULL};
    }
    for (size_t i = 0; i < scan->results; i++) {
        KLN_RETURN_IF_ERROR(gather_value(call, &scan->lists[i], &scan->outputs[scan->states + i]));
    }
    return KILN_OK;
}

static kiln_status scan_step(ref_call *call, scanning *scan, int64_t step)
{
    const kiln_status status = take_step(call, scan, step);
    release_all(call, scan->states + scan->scans, scan->inputs);
    return status;
}

/* A result of a scan over nothing, inferred from the first step's inputs: slices without content,
 * but of a known shape. */
static kiln_status stack_no_step(ref_call *call, scanning *scan, size_t result, int64_t result_axis)
{
    memcpy(scan->inputs, scan->state, scan->states * sizeof(ref_value));
    for (size_t i = 0; i < scan->scans; i++) {
        const ref_tensor *x = ref_input(call, scan->states + i);
        ref_value *slice = &scan->inputs[scan->states + i];
        int axis = 0;
        KLN_RETURN_IF_ERROR(ref_axis(call, list_entry(call, "scan_input_axes", i), x->rank, &axis));
        slice->kind = REF_TENSOR;
        slice->tensor = *x;
        slice->tensor.rank--;
        memmove(slice->tensor.dims + axis, x->dims + axis + 1,
                (size_t)(x->rank - axis - 1) * sizeof *x->dims);
        slice->tensor.count = INT64_MAX; /* no content */
        slice->tensor.data = NULL;
    }
    const kiln_status status =
        ref_stack_nothing(call, scan->states + result, scan->plan, scan->states + result,
                          result_axis, scan->inputs, scan->states + scan->scans);
    memset(scan->inputs, 0, (scan->states + scan->scans) * sizeof(ref_value));
    return status;
}

static kiln_status run_scan(ref_call *call, scanning *scan)
{
    KLN_RETURN_IF_ERROR(scan_length(call, scan));
    for (size_t i = 0; i < scan->states; i++) {
        if (call->inputs[i] != NULL) {
            ref_value_copy(&scan->state[i], call->inputs[i]);
        }
    }
    for (int64_t i = 0; i < scan->length; i++) {
        KLN_RETURN_IF_ERROR(ref_spend(call, 1));
        KLN_RETURN_IF_ERROR(scan_step(call, scan, i));
    }
    for (size_t i = 0; i < scan->results; i++) {
        const int64_t axis = list_entry(call, "scan_output_axes", i);
        KLN_RETURN_IF_ERROR(scan->length > 0
                                ? stack(call, scan->states + i, &scan->lists[i], axis,
                                        list_entry(call, "scan_output_directions", i) != 0)
                                : stack_no_step(call, scan, i, axis));
    }
    for (size_t i = 0; i < scan->states; i++) {
        call->outputs[i] = scan->state[i];
        scan->state[i] = (ref_value){.kind = REF_NONE, .buffer = NULL};
    }
    return KILN_OK;
}

static kiln_status ref_op_scan(ref_call *call)
{
    scanning scan = {.plan = NULL};
    KLN_RETURN_IF_ERROR(need_plan(call, "body", &scan.plan));
    const int64_t scans = ref_attribute_int(call, "num_scan_inputs", 0);
    const size_t given = call->node->input_count;
    KLN_RETURN_IF(scans < 1 || (size_t)scans > given || scan.plan->input_count != given ||
                      scan.plan->output_count != call->node->output_count ||
                      given - (size_t)scans > scan.plan->output_count,
                  KILN_ERROR_INVALID_NETWORK,
                  "a body of %zu inputs and %zu outputs does not fit %zu inputs of which %lld are "
                  "scanned, and %zu outputs",
                  scan.plan->input_count, scan.plan->output_count, given, (long long)scans,
                  call->node->output_count);
    scan.scans = (size_t)scans;
    scan.states = given - scan.scans;
    scan.results = scan.plan->output_count - scan.states;
    KLN_RETURN_IF_ERROR(room_for(call, scan.states, &scan.state));
    KLN_RETURN_IF_ERROR(room_for(call, given, &scan.inputs));
    KLN_RETURN_IF_ERROR(room_for(call, scan.plan->output_count, &scan.outputs));
    KLN_RETURN_IF_ERROR(ref_scratch(call, scan.results + 1, sizeof *scan.lists, &scan.lists));
    memset(scan.lists, 0, (scan.results + 1) * sizeof *scan.lists);
    const kiln_status status = run_scan(call, &scan);
    release_all(call, scan.states, scan.state);
    release_all(call, scan.plan->output_count, scan.outputs);
    for (size_t i = 0; i < scan.results; i++) {
        release_gathered(call, &scan.lists[i]);
    }
    return status;
}

/* clang-format off */
const ref_kernel ref_kernels_control[] = {
    REF_OP("If", 1, if, 0, "1"),
    REF_OP("Loop", 1, loop, 0, "??"),
    REF_OP("Scan", 9, scan, 0),
    REF_KERNELS_END
};
/* clang-format on */
