/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "scheduler_parts.h"

#define BLOCK_ALIGNMENT ((size_t)64)
#define WARM_RUNS 3 /* after one: the second of a graph's is the first replay */

kiln_status seat_make(const kiln_scheduler *scheduler, kiln_engine *engine, seat *made)
{
    const schedule_rules *rules = &scheduler->rules;
    const size_t tensors = rules->input_count + rules->output_count;
    made->engine = kiln_engine_retain(engine);
    made->device = engine->shared.device;
    made->inputs = kln_alloc_zeroed(rules->input_count + 1, sizeof(kiln_buffer *));
    made->requests = kln_alloc_zeroed((size_t)rules->max_rows, sizeof(kiln_request *));
    made->named = kln_alloc_zeroed(tensors + 1, sizeof *made->named);
    if (made->inputs == NULL || made->requests == NULL || made->named == NULL) {
        return kln_fail_memory((size_t)rules->max_rows * sizeof(kiln_request *), "a batch");
    }
    for (size_t i = 0; i < tensors; i++) {
        made->named[i].name = i < rules->input_count ? rules->inputs[i].name
                                                     : rules->outputs[i - rules->input_count].name;
    }
    return kiln_context_create(engine, &scheduler->context_options, &made->context);
}

void seat_finish(const kiln_scheduler *scheduler, seat *gone)
{
    kiln_context_destroy(gone->context);
    for (size_t i = 0; gone->inputs != NULL && i < scheduler->rules.input_count; i++) {
        kiln_buffer_destroy(gone->inputs[i]);
    }
    kln_free(gone->inputs);
    kln_free(gone->requests);
    kln_free(gone->named);
    kiln_engine_release(gone->engine);
}

/* --- rows --- */

/* A batch: some of a seat's requests. */
typedef struct batch {
    kiln_scheduler *scheduler;
    seat *at;
    kiln_request **requests;
    size_t count;
    int64_t rows;
    int64_t filled;      /* with rows of zeros */
    result_block *block; /* that the run wrote outputs to, or NULL */
    batch_outcome *outcome;
} batch;

/* Bytes of one row within one index of the dimensions before it, and how many of those there are.
 */
static size_t row_bytes(const kiln_tensor_desc *desc, int32_t axis, size_t *outer)
{
    size_t bytes = kiln_dtype_bits(desc->dtype) / 8;
    *outer = 1;
    for (int32_t d = 0; d < desc->shape.rank; d++) {
        *(d < axis ? outer : &bytes) *= d == axis ? 1 : (size_t)desc->shape.dims[d];
    }
    return bytes;
}

/* One end of a copy of rows. */
typedef struct row_place {
    unsigned char *data;
    int64_t rows; /* of the whole tensor */
    int64_t at;
} row_place;

static void copy_rows(const kiln_tensor_desc *desc, int32_t axis, row_place to, row_place from,
                      int64_t rows)
{
    size_t outer = 1;
    const size_t bytes = row_bytes(desc, axis, &outer);
    for (size_t o = 0; o < outer && bytes != 0; o++) {
        unsigned char *target = to.data + (o * (size_t)to.rows + (size_t)to.at) * bytes;
        if (from.data == NULL) {
            memset(target, 0, (size_t)rows * bytes);
        } else {
            memcpy(target, from.data + (o * (size_t)from.rows + (size_t)from.at) * bytes,
                   (size_t)rows * bytes);
        }
    }
}

/* --- inputs --- */

/* Whether the run reads the one request's memory itself. On a GPU a graph belongs to the pinned
 * memory that it was captured with, so that only ordinary memory can be bound, and a request of
 * several rows goes where joined ones do: each size has one graph. */
static bool is_direct(const batch *one)
{
    const bool on_cpu = one->at->device < 0;
    bool direct = one->count == 1 && one->filled == one->rows && (on_cpu || one->rows == 1);
    for (size_t i = 0; direct && !on_cpu && i < one->scheduler->rules.input_count; i++) {
        direct = one->requests[0]->inputs[i].desc.location == KILN_LOCATION_HOST;
    }
    return direct;
}

/* Room for the largest batch, so that it stays where it is. */
static kiln_status make_room(batch *one, size_t input, const kiln_shape *shape)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_buffer **buffer = &one->at->inputs[input];
    kiln_shape largest = *shape;
    size_t bytes = 0;
    if (rules->axis >= 0) {
        largest.dims[rules->axis] = schedule_rules_fill_up(rules, rules->max_rows);
    }
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(rules->inputs[input].dtype, &largest, &bytes));
    if (*buffer != NULL && kiln_buffer_bytes(*buffer) >= bytes) {
        return KILN_OK;
    }
    kiln_buffer_destroy(*buffer);
    *buffer = NULL;
    return kiln_buffer_create(one->at->device >= 0 ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST,
                              one->at->device >= 0 ? one->at->device : 0, bytes != 0 ? bytes : 1,
                              buffer);
}

static kiln_status join_input(batch *one, size_t input)
{
    const int32_t axis = one->scheduler->rules.axis;
    kiln_tensor *tensor = &one->at->named[input].tensor;
    if (is_direct(one)) {
        *tensor = one->requests[0]->inputs[input];
        return KILN_OK;
    }
    kiln_shape shape = one->requests[0]->inputs[input].desc.shape;
    if (axis >= 0) {
        shape.dims[axis] = one->filled;
    }
    const kiln_dtype dtype = one->scheduler->rules.inputs[input].dtype;
    KLN_RETURN_IF_ERROR(make_room(one, input, &shape));
    KLN_RETURN_IF_ERROR(kiln_buffer_tensor(one->at->inputs[input], 0, dtype, &shape, tensor));
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(dtype, &shape, &tensor->bytes));
    if (axis < 0) {
        if (tensor->bytes != 0) {
            memcpy(tensor->data, one->requests[0]->inputs[input].data, tensor->bytes);
        }
        return KILN_OK;
    }
    row_place to = {tensor->data, one->filled, 0};
    for (size_t i = 0; i < one->count; i++) {
        const kiln_request *request = one->requests[i];
        copy_rows(&tensor->desc, axis, to,
                  (row_place){request->inputs[input].data, request->rows, 0}, request->rows);
        to.at += request->rows;
    }
    copy_rows(&tensor->desc, axis, to, (row_place){NULL, 0, 0}, one->filled - one->rows);
    return KILN_OK;
}

/* --- outputs --- */

/* Bytes of an output of this batch, if its shape is known before the run. */
static bool known_bytes(const batch *one, size_t output, kiln_tensor_desc *desc, size_t *bytes)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_binding *binding = &rules->outputs[output];
    *desc = (kiln_tensor_desc){.dtype = binding->dtype, .shape = binding->shape};
    if (rules->axis >= 0) {
        desc->shape.dims[rules->axis] = one->filled;
    }
    return kiln_shape_is_static(&desc->shape) &&
           kiln_tensor_bytes(binding->dtype, &desc->shape, bytes) == KILN_OK;
}

/* Whether an output of the run can be memory that requests then show parts of. */
static bool is_shown(const batch *one, size_t output, kiln_tensor_desc *desc, size_t *bytes)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_tensor *given = &one->requests[0]->outputs[output];
    const bool is_whole = one->count == 1 && one->filled == one->rows;
    return one->at->device < 0 && (rules->axis <= 0 || is_whole) &&
           (rules->axis < 0 || rules->follows[output]) && (one->count > 1 || given->data == NULL) &&
           known_bytes(one, output, desc, bytes);
}

static size_t aligned(size_t bytes)
{
    return (bytes + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
}

static kiln_status prepare_outputs(batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_named_tensor *named = one->at->named + rules->input_count;
    kiln_tensor_desc desc;
    size_t bytes = 0;
    size_t total = 0;
    for (size_t i = 0; i < rules->output_count; i++) {
        /* On a GPU the context's own: given or not, a size then has one graph. */
        named[i].tensor = is_direct(one) && one->at->device < 0 ? one->requests[0]->outputs[i]
                                                                : (kiln_tensor){.data = NULL};
        total += is_shown(one, i, &desc, &bytes) ? aligned(bytes) : 0;
    }
    if (total == 0) {
        return KILN_OK;
    }
    one->block = result_block_take(&one->scheduler->blocks, total);
    if (one->block == NULL) {
        return kln_fail_memory(total, "the outputs of a batch");
    }
    unsigned char *at = one->block->memory;
    for (size_t i = 0; i < rules->output_count; i++) {
        if (is_shown(one, i, &desc, &bytes)) {
            named[i].tensor = (kiln_tensor){.desc = desc, .data = at, .bytes = bytes};
            at += aligned(bytes);
        }
    }
    return KILN_OK;
}

/* Of a joined batch: has each output its rows? */
static kiln_status check_outputs(const batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_named_tensor *named = one->at->named + rules->input_count;
    for (size_t i = 0; one->filled > one->requests[0]->rows && i < rules->output_count; i++) {
        const kiln_shape *shape = &named[i].tensor.desc.shape;
        if (shape->rank <= rules->axis || shape->dims[rules->axis] != one->filled) {
            one->outcome->apart = true;
            return kln_fail(
                KILN_ERROR_SHAPE,
                "output \"%s\" has %lld rows for a batch of %lld: its rows are not those "
                "of the inputs, and a scheduler for this model needs batch_axis -1",
                named[i].name,
                (long long)(shape->rank > rules->axis ? shape->dims[rules->axis] : 0),
                (long long)one->filled);
        }
    }
    return KILN_OK;
}

/* The part of output `i` that is a request's. */
static kiln_tensor_desc part_of(const batch *one, size_t i, const kiln_request *request)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_tensor_desc desc = one->at->named[rules->input_count + i].tensor.desc;
    desc.location = KILN_LOCATION_HOST;
    desc.device = 0;
    if (rules->axis >= 0 && one->filled > request->rows) {
        desc.shape.dims[rules->axis] = request->rows;
    }
    return desc;
}

static void copy_part(const batch *one, size_t i, int64_t at, const kiln_tensor *to)
{
    const int32_t axis = one->scheduler->rules.axis;
    const kiln_tensor *from = &one->at->named[one->scheduler->rules.input_count + i].tensor;
    if (axis < 0 || (one->count == 1 && one->filled == one->rows)) {
        memcpy(to->data, from->data, to->bytes);
        return;
    }
    const int64_t rows = to->desc.shape.dims[axis];
    copy_rows(&to->desc, axis, (row_place){to->data, rows, 0},
              (row_place){from->data, one->filled, at}, rows);
}

static bool lies_in(const result_block *block, const void *data)
{
    const unsigned char *at = data;
    return block != NULL && at >= block->memory && at < block->memory + ((size_t)1 << block->kind);
}

/* How much of `next` was used. */
static size_t give_output(const batch *one, kiln_request *request, size_t i, int64_t at,
                          unsigned char *next)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_tensor *from = &one->at->named[rules->input_count + i].tensor;
    kiln_tensor *to = &request->outputs[i];
    kiln_tensor part = {.desc = part_of(one, i, request)};
    size_t outer = 1;
    if (kiln_tensor_bytes(part.desc.dtype, &part.desc.shape, &part.bytes) != KILN_OK ||
        (to->data != NULL && to->data == from->data)) {
        return 0;
    }
    if (to->data == NULL && lies_in(one->block, from->data)) {
        part.data = (unsigned char *)from->data +
                    (rules->axis < 0 ? 0 : (size_t)at * row_bytes(&part.desc, rules->axis, &outer));
        if (request->blocks[0] == NULL) {
            request->blocks[0] = one->block;
            (void)atomic_fetch_add(&one->block->references, 1);
        }
        *to = part;
        return 0;
    }
    const bool is_own = to->data == NULL;
    part.data = is_own ? next : to->data;
    *to = part;
    if (part.bytes != 0) {
        copy_part(one, i, at, to);
    }
    return is_own ? aligned(part.bytes) : 0;
}

/* The caller's memory is of the very size. */
static kiln_status check_given(const kiln_binding *binding, const kiln_tensor *given,
                               const kiln_shape *shape)
{
    if (given->data == NULL || kiln_shape_equal(&given->desc.shape, shape)) {
        return KILN_OK;
    }
    char expected[KLN_SHAPE_TEXT];
    char found[KLN_SHAPE_TEXT];
    (void)kiln_shape_format(shape, expected, sizeof expected);
    (void)kiln_shape_format(&given->desc.shape, found, sizeof found);
    return kln_fail(KILN_ERROR_SHAPE,
                    "output \"%s\" of a request came out as %s, and the memory given for it is for "
                    "%s",
                    binding->name, expected, found);
}

/* What the run wrote where it stays is shown, what the caller has memory for is written there, and
 * the rest goes to a block of the request's own. */
static kiln_status give_outputs(const batch *one, kiln_request *request, int64_t at)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_named_tensor *named = one->at->named + rules->input_count;
    size_t own = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < rules->output_count; i++) {
        const kiln_tensor_desc part = part_of(one, i, request);
        KLN_RETURN_IF_ERROR(kiln_tensor_bytes(part.dtype, &part.shape, &bytes));
        KLN_RETURN_IF_ERROR(check_given(&rules->outputs[i], &request->outputs[i], &part.shape));
        if (request->outputs[i].data == NULL && !lies_in(one->block, named[i].tensor.data)) {
            own += aligned(bytes);
        }
    }
    result_block *block = own != 0 ? result_block_take(&one->scheduler->blocks, own) : NULL;
    if (own != 0 && block == NULL) {
        return kln_fail_memory(own, "the outputs of a request");
    }
    unsigned char *next = block != NULL ? block->memory : NULL;
    request->blocks[1] = block != NULL ? block : request->blocks[1];
    for (size_t i = 0; i < rules->output_count; i++) {
        next += give_output(one, request, i, at, next);
    }
    return KILN_OK;
}

/* --- the run --- */

static kiln_status run_inside(batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    seat *at = one->at;
    const uint64_t begin = kln_now();
    for (size_t i = 0; i < rules->input_count; i++) {
        KLN_RETURN_IF_ERROR(join_input(one, i));
    }
    KLN_RETURN_IF_ERROR(prepare_outputs(one));
    const uint64_t joined = kln_now();
    const kiln_status status =
        kiln_context_run_tensors(at->context, at->named, rules->input_count,
                                 at->named + rules->input_count, rules->output_count);
    const uint64_t ran = kln_now();
    one->outcome->runs++;
    one->outcome->ran += ran - joined;
    KLN_RETURN_IF_ERROR(status);
    KLN_RETURN_IF_ERROR(check_outputs(one));
    int64_t row = 0;
    for (size_t i = 0; i < one->count; i++) {
        KLN_RETURN_IF_ERROR(give_outputs(one, one->requests[i], row));
        row += one->requests[i]->rows;
    }
    one->outcome->copied += joined - begin + (kln_now() - ran);
    one->outcome->padding += one->filled - one->rows;
    return KILN_OK;
}

static kiln_status run_some(kiln_scheduler *scheduler, seat *at, kiln_request **requests,
                            size_t count, batch_outcome *outcome)
{
    batch one = {
        .scheduler = scheduler, .at = at, .requests = requests, .count = count, .outcome = outcome};
    for (size_t i = 0; i < count; i++) {
        one.rows += requests[i]->rows;
    }
    one.filled = (at->apart || outcome->apart) && !scheduler->rules.fixed
                     ? one.rows
                     : schedule_rules_fill_up(&scheduler->rules, one.rows);
    const kiln_status status = run_inside(&one);
    result_block_release(&scheduler->blocks, one.block);
    return status;
}

static void note(kiln_request *request, kiln_status status)
{
    request->status = status;
    if (status != KILN_OK) {
        (void)snprintf(request->sentence, sizeof request->sentence, "%s", kiln_error_message());
    }
}

/* What a failed batch left of its results. */
static void forget_outputs(kiln_scheduler *scheduler, kiln_request *request)
{
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(request->blocks); k++) {
        for (size_t i = 0; i < scheduler->rules.output_count; i++) {
            if (lies_in(request->blocks[k], request->outputs[i].data)) {
                request->outputs[i] = (kiln_tensor){.data = NULL};
            }
        }
        result_block_release(&scheduler->blocks, request->blocks[k]);
        request->blocks[k] = NULL;
    }
}

static kiln_status run_alone(kiln_scheduler *scheduler, seat *at, kiln_request **request,
                             batch_outcome *outcome)
{
    forget_outputs(scheduler, *request);
    if (atomic_load(&(*request)->cancelled)) {
        return KILN_ERROR_CANCELLED;
    }
    return run_some(scheduler, at, request, 1, outcome);
}

/* Also one request is run again where it was filled up in vain. */
void seat_run(kiln_scheduler *scheduler, seat *at, batch_outcome *outcome)
{
    *outcome = (batch_outcome){.runs = 0};
    const kiln_status status = run_some(scheduler, at, at->requests, at->request_count, outcome);
    const bool again = at->request_count > 1 || (outcome->apart && !scheduler->rules.fixed);
    outcome->retried = status != KILN_OK && again;
    for (size_t i = 0; i < at->request_count; i++) {
        note(at->requests[i],
             outcome->retried ? run_alone(scheduler, at, &at->requests[i], outcome) : status);
    }
}

/* --- before the first request --- */

static kiln_status warm_size(kiln_scheduler *scheduler, seat *at, kiln_request *request,
                             int64_t size, uint64_t milliseconds)
{
    const int64_t most = scheduler->rules.max_rows;
    batch_outcome outcome = {.runs = 0};
    batch one = {.scheduler = scheduler,
                 .at = at,
                 .requests = at->requests,
                 .filled = size,
                 .outcome = &outcome};
    do {
        at->requests[one.count++] = request;
        one.rows += request->rows;
    } while (one.rows + request->rows <= (size < most ? size : most));
    for (size_t i = 0; i < scheduler->rules.input_count; i++) {
        KLN_RETURN_IF_ERROR(join_input(&one, i));
    }
    kiln_status status = prepare_outputs(&one);
    if (status == KILN_OK) {
        status = kiln_context_run_tensors(at->context, at->named, scheduler->rules.input_count,
                                          at->named + scheduler->rules.input_count,
                                          scheduler->rules.output_count);
    }
    if (status == KILN_OK) {
        status = kiln_context_warmup(at->context, WARM_RUNS, milliseconds, NULL);
    }
    result_block_release(&scheduler->blocks, one.block);
    return status;
}

kiln_status seat_warm_up(kiln_scheduler *scheduler, seat *at, kiln_request *request,
                         uint64_t milliseconds)
{
    const schedule_rules *rules = &scheduler->rules;
    const int64_t most[] = {request->rows, rules->max_rows};
    const int64_t *sizes = rules->size_count != 0 ? rules->sizes : most;
    const size_t count = rules->size_count != 0 ? rules->size_count : rules->axis < 0 ? 1 : 2;
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < count && status == KILN_OK; i++) {
        if (sizes[i] >= request->rows) {
            status = warm_size(scheduler, at, request, sizes[i],
                               milliseconds != 0 ? milliseconds / count + 1 : 0);
        }
    }
    return status;
}
