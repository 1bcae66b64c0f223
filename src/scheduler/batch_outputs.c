/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run writes its outputs, and how each request gets its part of them. */
#include "scheduler_parts.h"

#define BLOCK_ALIGNMENT ((size_t)64)

/* The size in bytes of an output of this batch, if its shape is known before the run. */
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

/* Whether the run can write an output to memory of which requests then get views. */
static bool is_shown(const batch *one, size_t output, kiln_tensor_desc *desc, size_t *bytes)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_tensor *given = &one->requests[0]->outputs[output];
    const bool is_whole = one->count == 1 && one->filled == one->rows;
    return one->at->device < 0 && rules->outputs[output].dtype != KILN_DTYPE_STRING &&
           (rules->axis <= 0 || is_whole) && rules->lengthy[rules->input_count + output].axis < 0 &&
           (rules->axis < 0 || rules->follows[output]) && (one->count > 1 || given->data == NULL) &&
           known_bytes(one, output, desc, bytes);
}

/* Whether an output of the run stays on the GPU, from where its rows are copied to their
 * destinations. */
static bool is_fetched(const batch *one, size_t output, kiln_tensor_desc *desc, size_t *bytes)
{
    return one->at->device >= 0 && one->filled > 1 && !one->at->unbound &&
           known_bytes(one, output, desc, bytes) &&
           batch_goes_by_rows(one, one->scheduler->rules.input_count + output, desc);
}

/* Whether the device copies a fetched output directly to the caller's memory. */
static bool is_written_there(const kiln_request *request, size_t output)
{
    const kiln_tensor *given = &request->outputs[output];
    return given->data != NULL && given->desc.location == KILN_LOCATION_PINNED;
}

static size_t count_written_there(const batch *one, size_t output)
{
    size_t count = 0;
    for (size_t i = 0; i < one->count; i++) {
        count += is_written_there(one->requests[i], output);
    }
    return count;
}

static size_t aligned(size_t bytes)
{
    return (bytes + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
}

kiln_status batch_prepare_outputs(batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_named_tensor *named = one->at->named + rules->input_count;
    kiln_tensor_desc desc;
    size_t bytes = 0;
    size_t total = 0;
    for (size_t i = 0; i < rules->output_count; i++) {
        /* On a GPU always the context's own memory: each size then has one graph, whether callers
         * give memory or not. */
        named[i].tensor = batch_is_direct(one) && one->at->device < 0 ? one->requests[0]->outputs[i]
                                                                      : (kiln_tensor){.data = NULL};
        if (is_fetched(one, i, &desc, &bytes)) {
            KLN_RETURN_IF_ERROR(batch_make_room(one, &desc, KILN_LOCATION_DEVICE,
                                                &one->at->rows[rules->input_count + i],
                                                &named[i].tensor));
            total += count_written_there(one, i) < one->count ? aligned(bytes) : 0;
        } else {
            total += is_shown(one, i, &desc, &bytes) ? aligned(bytes) : 0;
        }
    }
    if (total == 0) {
        return KILN_OK;
    }
    one->block = result_block_take(&one->scheduler->blocks, total, one->at->device);
    KLN_RETURN_IF_NO_MEMORY(one->block, total, "the outputs of a batch");
    unsigned char *at = one->block->memory;
    for (size_t i = 0; i < rules->output_count; i++) {
        if (is_shown(one, i, &desc, &bytes)) {
            named[i].tensor = (kiln_tensor){.desc = desc, .data = at, .bytes = bytes};
            at += aligned(bytes);
        }
    }
    return KILN_OK;
}

/* Checks that each output of a joined batch has its rows. */
static kiln_status check_rows(const batch *one)
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

/* Checks that each output to be cut has the length that inputs were padded to. */
static kiln_status check_lengths(const batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_named_tensor *named = one->at->named + rules->input_count;
    const int64_t filled =
        rules->has_lengths ? length_rules_fill_up(rules, one->requests[0]->length) : 0;
    for (size_t i = 0; rules->has_lengths && i < rules->output_count; i++) {
        const int32_t axis = rules->lengthy[rules->input_count + i].axis;
        const kiln_shape *shape = &named[i].tensor.desc.shape;
        KLN_RETURN_IF(axis >= 0 && (shape->rank <= axis || shape->dims[axis] != filled),
                      KILN_ERROR_SHAPE,
                      "output \"%s\" is %lld long in dimension %d for inputs of %lld: its "
                      "length is not theirs, and it cannot be cut to a request's",
                      named[i].name, (long long)(shape->rank > axis ? shape->dims[axis] : 0), axis,
                      (long long)filled);
    }
    return KILN_OK;
}

/* --- from the GPU --- */

static kiln_status fetch_rows(const batch *one, size_t output, unsigned char *host)
{
    const kiln_tensor *device = &one->at->named[one->scheduler->rules.input_count + output].tensor;
    kln_cuda_piece *pieces = one->at->pieces;
    const unsigned char *from = device->data;
    size_t outer = 1;
    size_t count = 0;
    const size_t bytes = row_bytes(&device->desc, one->scheduler->rules.axis, &outer);
    if (count_written_there(one, output) == 0) {
        pieces[count++] = (kln_cuda_piece){host, from, (size_t)one->rows * bytes};
        return kln_exec_copy(one->at->context->exec, pieces, count);
    }
    for (size_t i = 0; i < one->count; i++) {
        const kiln_request *request = one->requests[i];
        const size_t part = (size_t)request->rows * bytes;
        void *to = is_written_there(request, output) ? request->outputs[output].data : host;
        pieces[count++] = (kln_cuda_piece){to, from, part};
        from += part;
        host = host != NULL ? host + part : NULL;
    }
    return kln_exec_copy(one->at->context->exec, pieces, count);
}

/* Copies to the callers' pinned memory, or to a block that requests get views of or copies from. */
static kiln_status fetch_outputs(const batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kln_exec *exec = one->at->context->exec;
    kiln_status status = KILN_OK;
    unsigned char *host = one->block != NULL ? one->block->memory : NULL;
    bool any = false;
    for (size_t i = 0; i < rules->output_count && status == KILN_OK; i++) {
        kiln_tensor view = {.data = NULL};
        if (!is_fetched(one, i, &view.desc, &view.bytes)) {
            continue;
        }
        any = true;
        view.data = count_written_there(one, i) < one->count ? host : NULL;
        status = fetch_rows(one, i, view.data);
        host = view.data != NULL ? host + aligned(view.bytes) : host;
        one->at->named[rules->input_count + i].tensor = view;
    }
    const kiln_status ended = any ? kln_exec_end_copies(exec) : KILN_OK;
    const kiln_status waited = ended == KILN_OK ? kln_exec_wait_copies(exec) : ended;
    return status == KILN_OK ? waited : status;
}

/* A request's part of output `i`. */
static kiln_tensor_desc part_of(const batch *one, size_t i, const kiln_request *request)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_tensor_desc desc = one->at->named[rules->input_count + i].tensor.desc;
    desc.location = KILN_LOCATION_HOST;
    desc.device = 0;
    const int32_t length = rules->lengthy[rules->input_count + i].axis;
    if (rules->axis >= 0 && one->filled > request->rows) {
        desc.shape.dims[rules->axis] = request->rows;
    }
    if (length >= 0 && length < desc.shape.rank) {
        desc.shape.dims[length] = request->length;
    }
    return desc;
}

static void copy_part(const batch *one, size_t i, int64_t at, const kiln_tensor *to)
{
    const int32_t axis = one->scheduler->rules.axis;
    const kiln_tensor *from = &one->at->named[one->scheduler->rules.input_count + i].tensor;
    if (axis < 0 || kiln_shape_equal(&from->desc.shape, &to->desc.shape)) {
        memcpy(to->data, from->data, to->bytes);
        return;
    }
    const int64_t rows = to->desc.shape.dims[axis];
    const int32_t length =
        one->scheduler->rules.lengthy[one->scheduler->rules.input_count + i].axis;
    if (length >= 0 && length < to->desc.shape.rank) {
        copy_lengths(&(length_copy){to->desc.dtype, from->data, &from->desc.shape, to->data,
                                    &to->desc.shape, axis, length, at, NULL});
        return;
    }
    copy_rows(&to->desc, axis, (row_place){to->data, rows, 0},
              (row_place){from->data, one->filled, at}, rows);
}

/* --- strings: their bytes are the context's until its next run, and are copied --- */

static size_t sum_sizes(const kiln_span *strings, size_t count)
{
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += strings[i].size;
    }
    return sum;
}

/* The size of a request's strings in output `i`, or an upper bound; 0 if it has none. */
static size_t text_bytes(const batch *one, size_t i, const kiln_tensor_desc *part, int64_t at)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_tensor *from = &one->at->named[rules->input_count + i].tensor;
    size_t outer = 1;
    size_t sum = 0;
    if (part->dtype != KILN_DTYPE_STRING) {
        return 0;
    }
    if (rules->axis < 0 || rules->lengthy[rules->input_count + i].axis >= 0) {
        return sum_sizes(from->data, from->bytes / sizeof(kiln_span));
    }
    const size_t row = row_bytes(part, rules->axis, &outer) / sizeof(kiln_span);
    const size_t rows = (size_t)from->desc.shape.dims[rules->axis];
    for (size_t o = 0; o < outer; o++) {
        sum += sum_sizes((const kiln_span *)from->data + (o * rows + (size_t)at) * row,
                         (size_t)part->shape.dims[rules->axis] * row);
    }
    return sum;
}

/* Returns how much of `next` was used. */
static size_t own_text(const kiln_tensor *strings, unsigned char *next)
{
    const unsigned char *begin = next;
    kiln_span *spans = strings->data;
    for (size_t i = 0; i < strings->bytes / sizeof *spans; i++) {
        if (spans[i].size != 0 && next != NULL) {
            memcpy(next, spans[i].data, spans[i].size);
            spans[i].data = next;
            next += spans[i].size;
        } else {
            spans[i].data = "";
        }
    }
    return aligned((size_t)(next - begin));
}

/* Returns how much of `next` was used. */
static size_t give_output(const batch *one, kiln_request *request, size_t i, int64_t at,
                          unsigned char *next)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_tensor *from = &one->at->named[rules->input_count + i].tensor;
    kiln_tensor *to = &request->outputs[i];
    kiln_tensor part = {.desc = part_of(one, i, request)};
    size_t outer = 1;
    if (kiln_tensor_bytes(part.desc.dtype, &part.desc.shape, &part.bytes) != KILN_OK) {
        return 0;
    }
    const bool is_text = part.desc.dtype == KILN_DTYPE_STRING;
    if (to->data != NULL && to->data == from->data) {
        part.data = to->data;
        return is_text ? own_text(&part, next) : 0;
    }
    if (to->data == NULL && result_block_holds(one->block, from->data)) {
        part.desc.location = one->block->device >= 0 ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST;
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
    kiln_tensor_desc desc;
    size_t unused = 0;
    const bool is_there = is_written_there(request, i) && is_fetched(one, i, &desc, &unused);
    part.data = is_own ? next : to->data;
    part.desc.location = is_own ? KILN_LOCATION_HOST : to->desc.location;
    *to = part;
    if (part.bytes != 0 && !is_there) {
        copy_part(one, i, at, to);
    }
    const size_t used = is_own ? aligned(part.bytes) : 0;
    return used + (is_text ? own_text(to, next + used) : 0);
}

/* Memory that the caller gives has to match the shape exactly. */
static kiln_status check_given(const kiln_binding *binding, const kiln_tensor *given,
                               const kiln_shape *shape)
{
    if (given->data == NULL || kiln_shape_equal(&given->desc.shape, shape)) {
        return KILN_OK;
    }
    return kln_fail(KILN_ERROR_SHAPE,
                    "output \"%s\" of a request came out as %s, and the memory given for it is for "
                    "%s",
                    binding->name, KLN_SHAPE_PRINTED(shape), KLN_SHAPE_PRINTED(&given->desc.shape));
}

static kiln_status give_request(const batch *one, kiln_request *request, int64_t at)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const kiln_named_tensor *named = one->at->named + rules->input_count;
    size_t own = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < rules->output_count; i++) {
        const kiln_tensor_desc part = part_of(one, i, request);
        KLN_RETURN_IF_ERROR(kiln_tensor_bytes(part.dtype, &part.shape, &bytes));
        KLN_RETURN_IF_ERROR(check_given(&rules->outputs[i], &request->outputs[i], &part.shape));
        if (request->outputs[i].data == NULL &&
            !result_block_holds(one->block, named[i].tensor.data)) {
            own += aligned(bytes);
        }
        own += aligned(text_bytes(one, i, &part, at));
    }
    result_block *block = own != 0 ? result_block_take(&one->scheduler->blocks, own, -1) : NULL;
    KLN_FAIL_IF(own != 0 && block == NULL, kln_fail_memory(own, "the outputs of a request"));
    unsigned char *next = block != NULL ? block->memory : NULL;
    request->blocks[1] = block != NULL ? block : request->blocks[1];
    for (size_t i = 0; i < rules->output_count; i++) {
        next += give_output(one, request, i, at, next);
    }
    return KILN_OK;
}

/* The outputs of a batch that are being handed out. */
typedef struct giving {
    const batch *one;
    atomic_size_t failed; /* one past the index of the last request that failed */
} giving;

static void give_one(void *user, size_t index)
{
    giving *self = user;
    const batch *one = self->one;
    if (give_request(one, one->requests[index], count_rows(one->requests, index)) != KILN_OK) {
        atomic_store(&self->failed, index + 1);
    }
}

/* Whether enough is copied to be worth waking other threads. */
static bool is_much(const batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    const bool may_be = one->at->device >= 0 && one->count > 1;
    size_t bytes = 0;
    for (size_t i = 0; may_be && i < rules->output_count; i++) {
        const kiln_tensor *output = &one->at->named[rules->input_count + i].tensor;
        bool copied = !result_block_holds(one->block, output->data);
        for (size_t k = 0; !copied && k < one->count; k++) {
            copied = one->requests[k]->outputs[i].data != NULL;
        }
        bytes += copied && output->data != NULL ? output->bytes : 0;
    }
    return may_be && bytes >= CREW_BYTES;
}

/* Shares the work with other threads. */
static kiln_status give_much(const batch *one)
{
    giving work = {one, 0};
    crew_run(&one->scheduler->crew, give_one, &work, one->count);
    const size_t failed = atomic_load(&work.failed);
    /* Repeated in this thread, to get the error message here. */
    return failed == 0 ? KILN_OK
                       : give_request(one, one->requests[failed - 1],
                                      count_rows(one->requests, failed - 1));
}

kiln_status batch_give_outputs(batch *one)
{
    int64_t row = 0;
    KLN_RETURN_IF_ERROR(check_rows(one));
    KLN_RETURN_IF_ERROR(check_lengths(one));
    KLN_RETURN_IF_ERROR(fetch_outputs(one));
    if (is_much(one)) {
        return give_much(one);
    }
    for (size_t i = 0; i < one->count; i++) {
        KLN_RETURN_IF_ERROR(give_request(one, one->requests[i], row));
        row += one->requests[i]->rows;
    }
    return KILN_OK;
}
