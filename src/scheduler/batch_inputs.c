/* SPDX-License-Identifier: Apache-2.0 */
/* What a run reads: the memory of its one request, or the rows of several joined. Large rows of a
 * GPU's batch go to the device one by one: straight from where they lie if that is pinned, else by
 * way of pinned memory, each while the next one is copied there. */
#include <string.h>

#include "scheduler_parts.h"

#define LARGE_ROW ((size_t)32 << 10) /* below, a copy of its own costs more than joining */

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
        kiln_buffer_destroy(*buffer);
        *buffer = NULL;
        KLN_RETURN_IF_ERROR(kiln_buffer_create(location, one->at->device >= 0 ? one->at->device : 0,
                                               bytes != 0 ? bytes : 1, buffer));
    }
    KLN_RETURN_IF_ERROR(kiln_buffer_tensor(*buffer, 0, desc->dtype, &desc->shape, tensor));
    return kiln_tensor_bytes(desc->dtype, &desc->shape, &tensor->bytes);
}

int64_t batch_rows_before(const batch *one, size_t index)
{
    int64_t rows = 0;
    for (size_t i = 0; i < index; i++) {
        rows += one->requests[i]->rows;
    }
    return rows;
}

bool batch_goes_by_rows(const batch *one, size_t tensor, const kiln_tensor_desc *desc)
{
    const schedule_rules *rules = &one->scheduler->rules;
    size_t outer = 1;
    return one->at->device >= 0 && rules->axis >= 0 && one->filled > 1 &&
           rules->lengthy[tensor].axis < 0 && row_bytes(desc, rules->axis, &outer) >= LARGE_ROW &&
           outer == 1;
}

/* An input of a batch that is being joined. */
typedef struct joining {
    const batch *one;
    size_t input;
    const kiln_tensor *tensor;
    unsigned char *device; /* where its rows go one by one, or NULL */
    atomic_int status;     /* of the last copy that failed */
} joining;

static void send(joining *self, const kln_cuda_piece *pieces, size_t count)
{
    const kiln_status status = kln_exec_copy(self->one->at->context->exec, pieces, count);
    if (status != KILN_OK) {
        atomic_store(&self->status, (int)status);
    }
}

/* Whether the device reads a request's rows where they lie. */
static bool is_sent_from_there(const kiln_request *request, size_t input)
{
    return request->inputs[input].desc.location == KILN_LOCATION_PINNED;
}

static void join_request(void *user, size_t index)
{
    joining *self = user;
    const schedule_rules *rules = &self->one->scheduler->rules;
    const kiln_request *request = self->one->requests[index];
    const kiln_tensor *from = &request->inputs[self->input];
    const kiln_tensor_desc *whole = &self->tensor->desc;
    row_place to = {self->tensor->data, self->one->filled, batch_rows_before(self->one, index)};
    if (self->device != NULL && is_sent_from_there(request, self->input)) {
        return;
    }
    if (kiln_shape_equal(&from->desc.shape, &request->shapes[self->input])) {
        copy_rows(whole, rules->axis, to, (row_place){from->data, request->rows, 0}, request->rows);
    } else {
        const length_rule *rule = &rules->lengthy[self->input];
        copy_lengths(&(length_copy){whole->dtype, self->tensor->data, &whole->shape, from->data,
                                    &from->desc.shape, rules->axis, rule->axis, to.at,
                                    rule->value});
    }
    if (self->device != NULL) {
        size_t outer = 1;
        const size_t offset = (size_t)to.at * row_bytes(whole, rules->axis, &outer);
        send(self, &(kln_cuda_piece){self->device + offset, to.data + offset, from->bytes}, 1);
    }
}

static void join_requests(joining *work, bool by_crew)
{
    const batch *one = work->one;
    if (by_crew) {
        crew_run(&one->scheduler->crew, join_request, work, one->count);
    } else {
        for (size_t i = 0; i < one->count; i++) {
            join_request(work, i);
        }
    }
}

/* Whatever needs no hand of the host's: rows that lie in pinned memory, and zeros. Whether that is
 * all. */
static bool send_from_there(joining *self, size_t bytes)
{
    const batch *one = self->one;
    kln_cuda_piece *pieces = one->at->pieces;
    unsigned char *to = self->device;
    size_t count = 0;
    bool all = true;
    for (size_t i = 0; i < one->count; i++) {
        const kiln_request *request = one->requests[i];
        const size_t part = (size_t)request->rows * bytes;
        if (is_sent_from_there(request, self->input)) {
            pieces[count++] = (kln_cuda_piece){to, request->inputs[self->input].data, part};
        } else {
            all = false;
        }
        to += part;
    }
    pieces[count++] = (kln_cuda_piece){to, NULL, (size_t)(one->filled - one->rows) * bytes};
    send(self, pieces, count);
    return all;
}

static kiln_status send_rows(const batch *one, size_t input, const kiln_tensor_desc *desc,
                             kiln_tensor *tensor)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_tensor staging = {.desc = *desc};
    size_t outer = 1;
    KLN_RETURN_IF_ERROR(
        batch_make_room(one, desc, KILN_LOCATION_DEVICE, &one->at->rows[input], tensor));
    joining work = {one, input, &staging, tensor->data, KILN_OK};
    kiln_status status = KILN_OK;
    if (!send_from_there(&work, row_bytes(desc, rules->axis, &outer))) {
        status =
            batch_make_room(one, desc, KILN_LOCATION_PINNED, &one->at->inputs[input], &staging);
        if (status == KILN_OK) {
            join_requests(&work, one->count > 1);
        }
    }
    const kiln_status ended = kln_exec_end_copies(one->at->context->exec);
    KLN_RETURN_IF_ERROR(status);
    return atomic_load(&work.status) == KILN_OK
               ? ended
               : kln_fail((kiln_status)atomic_load(&work.status),
                          "rows of input \"%s\" could not be copied to device %d",
                          rules->inputs[input].name, one->at->device);
}

static kiln_status join_rows(const batch *one, size_t input, const kiln_tensor_desc *desc,
                             kiln_tensor *tensor)
{
    const int32_t axis = one->scheduler->rules.axis;
    const bool on_gpu = one->at->device >= 0;
    KLN_RETURN_IF_ERROR(batch_make_room(one, desc,
                                        on_gpu ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST,
                                        &one->at->inputs[input], tensor));
    if (axis < 0) {
        if (tensor->bytes != 0) {
            memcpy(tensor->data, one->requests[0]->inputs[input].data, tensor->bytes);
        }
        return KILN_OK;
    }
    joining work = {one, input, tensor, NULL, KILN_OK};
    join_requests(&work, on_gpu && one->count > 1 && tensor->bytes >= CREW_BYTES);
    copy_rows(&tensor->desc, axis, (row_place){tensor->data, one->filled, one->rows},
              (row_place){NULL, 0, 0}, one->filled - one->rows);
    return KILN_OK;
}

static kiln_status join_input(const batch *one, size_t input)
{
    const schedule_rules *rules = &one->scheduler->rules;
    kiln_tensor *tensor = &one->at->named[input].tensor;
    kiln_tensor_desc desc = {.dtype = rules->inputs[input].dtype,
                             .shape = one->requests[0]->shapes[input]};
    if (rules->axis >= 0) {
        desc.shape.dims[rules->axis] = one->filled;
    }
    return batch_goes_by_rows(one, input, &desc) ? send_rows(one, input, &desc, tensor)
                                                 : join_rows(one, input, &desc, tensor);
}

kiln_status batch_join_inputs(batch *one)
{
    const bool direct = batch_is_direct(one);
    for (size_t i = 0; i < one->scheduler->rules.input_count; i++) {
        if (direct) {
            one->at->named[i].tensor = one->requests[0]->inputs[i];
        } else {
            KLN_RETURN_IF_ERROR(join_input(one, i));
        }
    }
    return KILN_OK;
}
