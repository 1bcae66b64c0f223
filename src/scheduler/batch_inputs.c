/* SPDX-License-Identifier: Apache-2.0 */
/* What a run reads: the memory of a single request, or the joined rows of several. On a GPU, large
 * rows are copied to the device one by one: directly if they are in pinned memory, else through a
 * pinned staging buffer, overlapping with the copies of the next rows into it. */
#include "scheduler_parts.h"

#define LARGE_ROW ((size_t)32 << 10) /* below, a separate copy costs more than joining */
#define JOIN_PARTS 8                 /* of a batch, each by one thread */

kiln_status batch_make_room(const batch *one, const kiln_tensor_desc *desc, kiln_location location,
                            kiln_buffer **buffer, kiln_tensor *tensor)
{
    const int32_t axis = one->scheduler->rules.axis;
    kiln_shape largest = desc->shape;
    size_t bytes = 0;
    if (axis >= 0) {
        const int64_t most =
            batch_profile_most(&one->scheduler->rules, one->at->engine, one->requests[0]);
        const int64_t rows = batch_sizes_fill_up(&one->at->pool->sizes, most);
        largest.dims[axis] = rows > one->filled ? rows : one->filled;
    }
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(desc->dtype, &largest, &bytes));
    if (*buffer == NULL || kiln_buffer_bytes(*buffer) < bytes) {
        one->at->ahead = 0; /* freeing device memory waits for the copies there */
        kiln_buffer_destroy(*buffer);
        *buffer = NULL;
        KLN_RETURN_IF_ERROR(kiln_buffer_create(location, one->at->device >= 0 ? one->at->device : 0,
                                               bytes != 0 ? bytes : 1, buffer));
    }
    KLN_RETURN_IF_ERROR(kiln_buffer_tensor(*buffer, 0, desc->dtype, &desc->shape, tensor));
    return kiln_tensor_bytes(desc->dtype, &desc->shape, &tensor->bytes);
}

int64_t count_rows(kiln_request *const *requests, size_t count)
{
    int64_t rows = 0;
    for (size_t i = 0; i < count; i++) {
        rows += requests[i]->rows;
    }
    return rows;
}

bool batch_goes_by_rows(const batch *one, size_t tensor, const kiln_tensor_desc *desc)
{
    const schedule_rules *rules = &one->scheduler->rules;
    size_t outer = 1;
    return one->at->device >= 0 && desc->dtype != KILN_DTYPE_STRING && rules->axis >= 0 &&
           one->filled > 1 && rules->lengthy[tensor].axis < 0 &&
           row_bytes(desc, rules->axis, &outer) >= LARGE_ROW && outer == 1;
}

/* An input of the batch being joined. */
typedef struct joining {
    const batch *one;
    size_t input;
    const kiln_tensor *tensor;
    unsigned char *device; /* destination if rows are sent one by one, else NULL */
    atomic_int status;     /* of the last copy that failed */
} joining;

static void send(joining *self, const kln_cuda_piece *pieces, size_t count)
{
    const kiln_status status = kln_exec_copy(self->one->at->context->exec, pieces, count);
    if (status != KILN_OK) {
        atomic_store(&self->status, (int)status);
    }
}

/* Whether the device reads a request's rows directly. */
static bool is_sent_from_there(const kiln_request *request, size_t input)
{
    return request->inputs[input].desc.location == KILN_LOCATION_PINNED;
}

/* Joins rows `first` to `end` of the batch, from a request whose rows start at `at`. Rows that
 * differ in length are copied all at once, together with the first one. */
static void join_request(const joining *self, const kiln_request *request, int64_t at,
                         int64_t first, int64_t end)
{
    const schedule_rules *rules = &self->one->scheduler->rules;
    const kiln_tensor *from = &request->inputs[self->input];
    const kiln_tensor_desc *whole = &self->tensor->desc;
    if (kiln_shape_equal(&from->desc.shape, &request->shapes[self->input])) {
        copy_rows(whole, rules->axis, (row_place){self->tensor->data, self->one->filled, first},
                  (row_place){from->data, request->rows, first - at}, end - first);
    } else if (first == at) {
        const length_rule *rule = &rules->lengthy[self->input];
        copy_lengths(&(length_copy){whole->dtype, self->tensor->data, &whole->shape, from->data,
                                    &from->desc.shape, rules->axis, rule->axis, at, rule->value});
    }
}

/* Sends rows that have been joined, if rows are sent one by one. */
static void send_joined(joining *self, int64_t first, int64_t end)
{
    size_t outer = 1;
    if (self->device != NULL && first < end) {
        const size_t bytes =
            row_bytes(&self->tensor->desc, self->one->scheduler->rules.axis, &outer);
        const size_t offset = (size_t)first * bytes;
        send(self,
             &(kln_cuda_piece){self->device + offset, (unsigned char *)self->tensor->data + offset,
                               (size_t)(end - first) * bytes},
             1);
    }
}

static void join_part(void *user, size_t index)
{
    joining *self = user;
    const batch *one = self->one;
    const int64_t begin = one->rows * (int64_t)index / JOIN_PARTS;
    const int64_t end = one->rows * ((int64_t)index + 1) / JOIN_PARTS;
    int64_t joined = begin; /* the first joined row that has not been sent */
    int64_t at = 0;
    for (size_t i = 0; i < one->count && at < end; at += one->requests[i++]->rows) {
        const int64_t behind = at + one->requests[i]->rows;
        const int64_t first = at > begin ? at : begin;
        const int64_t last = behind < end ? behind : end;
        if (first >= last) {
            continue;
        }
        if (self->device != NULL && is_sent_from_there(one->requests[i], self->input)) {
            send_joined(self, joined, first);
            joined = last;
        } else {
            join_request(self, one->requests[i], at, first, last);
        }
    }
    send_joined(self, joined, end);
}

static void join_requests(joining *work)
{
    const batch *one = work->one;
    if (one->at->device >= 0 && work->tensor->bytes >= CREW_BYTES) {
        crew_run(&one->scheduler->crew, join_part, work, JOIN_PARTS);
    } else {
        for (size_t i = 0; i < JOIN_PARTS; i++) {
            join_part(work, i);
        }
    }
}

static bool is_there(const batch *one, const kiln_request *request, int64_t row)
{
    return one->at->ahead != 0 && request->ahead_at == one->at && request->ahead_row == row;
}

/* Lists the rows of an input that are in pinned memory and have not been sent ahead. */
static size_t list_pinned(const batch *one, size_t input, unsigned char *to, size_t bytes,
                          kln_cuda_piece *pieces)
{
    size_t count = 0;
    int64_t row = 0;
    for (size_t i = 0; i < one->count; row += one->requests[i++]->rows) {
        const kiln_request *request = one->requests[i];
        if (is_sent_from_there(request, input) && !is_there(one, request, row)) {
            pieces[count++] =
                (kln_cuda_piece){to + (size_t)row * bytes, request->inputs[input].data,
                                 (size_t)request->rows * bytes};
        }
    }
    return count;
}

/* Sends what the host need not touch: rows in pinned memory, and zeros for padding. Returns whether
 * that covers all requests. */
static bool send_from_there(joining *self, size_t bytes)
{
    const batch *one = self->one;
    kln_cuda_piece *pieces = one->at->pieces;
    size_t count = list_pinned(one, self->input, self->device, bytes, pieces);
    bool all = true;
    for (size_t i = 0; i < one->count; i++) {
        all = all && is_sent_from_there(one->requests[i], self->input);
    }
    pieces[count++] = (kln_cuda_piece){self->device + (size_t)one->rows * bytes, NULL,
                                       (size_t)(one->filled - one->rows) * bytes};
    send(self, pieces, count);
    return all;
}

static kiln_status send_rows(const batch *one, size_t input, const kiln_tensor_desc *desc,
                             kiln_tensor *tensor)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_tensor staging = {.desc = *desc};
    size_t outer = 1;
    /* A run that was given up may still be reading it. */
    KLN_RETURN_IF_ERROR(kln_exec_wait(one->at->context->exec, false));
    KLN_RETURN_IF_ERROR(
        batch_make_room(one, desc, KILN_LOCATION_DEVICE, &one->at->rows[input], tensor));
    joining work = {one, input, &staging, tensor->data, KILN_OK};
    kiln_status status = KILN_OK;
    if (!send_from_there(&work, row_bytes(desc, rules->axis, &outer))) {
        status =
            batch_make_room(one, desc, KILN_LOCATION_PINNED, &one->at->inputs[input], &staging);
        if (status == KILN_OK) {
            join_requests(&work);
        }
    }
    const kiln_status ended = kln_exec_end_copies(one->at->context->exec);
    KLN_RETURN_IF_ERROR(status);
    return atomic_load(&work.status) == KILN_OK
               ? ended
               : kln_fail((kiln_status)atomic_load(&work.status),
                          "rows of input \"%s\" could not be copied to device %d",
                          rules->bindings[input].name, one->at->device);
}

static kiln_status join_rows(const batch *one, size_t input, const kiln_tensor_desc *desc,
                             kiln_tensor *tensor)
{
    const int32_t axis = one->scheduler->rules.axis;
    const bool reached = one->at->device >= 0 && desc->dtype != KILN_DTYPE_STRING;
    KLN_RETURN_IF_ERROR(batch_make_room(one, desc,
                                        reached ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST,
                                        &one->at->inputs[input], tensor));
    if (axis < 0) {
        if (tensor->bytes != 0) {
            memcpy(tensor->data, one->requests[0]->inputs[input].data, tensor->bytes);
        }
        return KILN_OK;
    }
    joining work = {one, input, tensor, NULL, KILN_OK};
    join_requests(&work);
    copy_rows(&tensor->desc, axis, (row_place){tensor->data, one->filled, one->rows},
              (row_place){NULL, 0, 0}, one->filled - one->rows);
    return KILN_OK;
}

/* The description of an input of the whole batch. */
static kiln_tensor_desc joined_desc(const batch *one, size_t input)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_tensor_desc desc = {.dtype = rules->bindings[input].dtype,
                             .shape = one->requests[0]->shapes[input]};
    if (rules->axis >= 0) {
        desc.shape.dims[rules->axis] = one->filled;
    }
    return desc;
}

static kiln_status join_input(const batch *one, size_t input)
{
    kiln_tensor *tensor = &one->at->named[input].tensor;
    const kiln_tensor_desc desc = joined_desc(one, input);
    return batch_goes_by_rows(one, input, &desc) ? send_rows(one, input, &desc, tensor)
                                                 : join_rows(one, input, &desc, tensor);
}

kiln_status batch_join_inputs(batch *one)
{
    const bool direct = batch_is_direct(one);
    kiln_status status = KILN_OK;
    for (size_t i = 0; status == KILN_OK && i < one->scheduler->rules.input_count; i++) {
        if (direct) {
            one->at->named[i].tensor = one->requests[0]->inputs[i];
        } else {
            status = join_input(one, i);
        }
    }
    one->at->ahead = 0; /* in case they are joined again */
    return status;
}

/* --- ahead of a batch --- */

/* Whether every input is sent by rows, to a buffer large enough for them. */
static bool can_go_ahead(const batch *one)
{
    bool can = true;
    for (size_t i = 0; can && i < one->scheduler->rules.input_count; i++) {
        const kiln_tensor_desc desc = joined_desc(one, i);
        size_t bytes = 0;
        can = batch_goes_by_rows(one, i, &desc) && one->at->rows[i] != NULL &&
              kiln_tensor_bytes(desc.dtype, &desc.shape, &bytes) == KILN_OK &&
              kiln_buffer_bytes(one->at->rows[i]) >= bytes;
    }
    return can;
}

static kiln_status copy_ahead(const batch *one)
{
    kln_cuda_piece *pieces = one->at->pieces;
    for (size_t i = 0; i < one->scheduler->rules.input_count; i++) {
        const kiln_tensor_desc desc = joined_desc(one, i);
        size_t outer = 1;
        const size_t bytes = row_bytes(&desc, one->scheduler->rules.axis, &outer);
        const size_t count = list_pinned(one, i, kiln_buffer_data(one->at->rows[i]), bytes, pieces);
        KLN_RETURN_IF_ERROR(kln_exec_copy(one->at->context->exec, pieces, count));
    }
    return KILN_OK;
}

static bool lies_pinned(const batch *one, const kiln_request *request)
{
    bool all = true;
    for (size_t i = 0; i < one->scheduler->rules.input_count; i++) {
        all = all && is_sent_from_there(request, i);
    }
    return all;
}

void batch_send_ahead(const batch *one)
{
    int64_t row = 0;
    if (!can_go_ahead(one)) {
        return;
    }
    KLN_MESSAGE_STAYS;
    one->at->sends_ahead = copy_ahead(one) == KILN_OK; /* else the batch will report the error */
    for (size_t i = 0; i < one->count; row += one->requests[i++]->rows) {
        kiln_request *request = one->requests[i];
        if (lies_pinned(one, request)) {
            one->at->ahead += request->ahead_at == NULL;
            request->ahead_at = one->at;
            request->ahead_row = one->at->sends_ahead ? row : -1;
        }
    }
}
