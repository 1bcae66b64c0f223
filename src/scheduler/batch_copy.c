/* SPDX-License-Identifier: Apache-2.0 */
/* Copies rows of requests into the tensors of a batch, and out of them. */
#include "scheduler_parts.h"

size_t row_bytes(const kiln_tensor_desc *desc, int32_t axis, size_t *outer)
{
    size_t bytes = kln_dtype_bytes(desc->dtype);
    *outer = 1;
    for (int32_t d = 0; d < desc->shape.rank; d++) {
        *(d < axis ? outer : &bytes) *= d == axis ? 1 : (size_t)desc->shape.dims[d];
    }
    return bytes;
}

void copy_rows(const kiln_tensor_desc *desc, int32_t axis, row_place to, row_place from,
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

/* A batch and one request's part of it as five dimensions, two of which differ in size: outer x low
 * x between x high x inner, in bytes. */
typedef struct two_axes {
    size_t outer, between, inner;
    size_t whole[2]; /* low and high, of the batch */
    size_t part[2];  /* of the request */
    size_t at[2];    /* where its part starts */
    bool low_is_length;
} two_axes;

static two_axes look_at(const kiln_shape *whole, const kiln_shape *part, int32_t axis,
                        int32_t length, int64_t row, size_t element)
{
    const int32_t low = axis < length ? axis : length;
    const int32_t high = axis < length ? length : axis;
    two_axes found = {.outer = 1,
                      .between = 1,
                      .inner = element,
                      .whole = {(size_t)whole->dims[low], (size_t)whole->dims[high]},
                      .part = {(size_t)part->dims[low], (size_t)part->dims[high]},
                      .low_is_length = length < axis};
    found.at[axis == low ? 0 : 1] = (size_t)row;
    for (int32_t d = 0; d < whole->rank; d++) {
        if (d != low && d != high) {
            *(d < low    ? &found.outer
              : d < high ? &found.between
                         : &found.inner) *= (size_t)whole->dims[d];
        }
    }
    return found;
}

static void fill(unsigned char *at, size_t bytes, const unsigned char *value, size_t element)
{
    for (size_t i = 0; i < bytes; i += element) {
        memcpy(at + i, value, element);
    }
}

void copy_lengths(const length_copy *copy)
{
    const size_t element = kln_dtype_bytes(copy->dtype);
    const two_axes two =
        look_at(copy->whole, copy->part, copy->axis, copy->length, copy->row, element);
    const size_t low = two.low_is_length && copy->value != NULL ? two.whole[0] : two.part[0];
    const size_t run = two.part[1] * two.inner;
    for (size_t k = 0; k < two.outer * low * two.between; k++) {
        const size_t b = k % two.between;
        const size_t i = k / two.between % low;
        const size_t o = k / two.between / low;
        unsigned char *whole =
            copy->batch +
            (((o * two.whole[0] + i + two.at[0]) * two.between + b) * two.whole[1] + two.at[1]) *
                two.inner;
        unsigned char *own = copy->own + ((o * two.part[0] + i) * two.between + b) * run;
        if (copy->value == NULL) {
            memcpy(own, whole, run);
        } else if (i >= two.part[0]) {
            fill(whole, run, copy->value, element);
        } else {
            memcpy(whole, own, run);
            if (!two.low_is_length) {
                fill(whole + run, (two.whole[1] - two.part[1]) * two.inner, copy->value, element);
            }
        }
    }
}

/* Whether the run reads the request's own memory. On a GPU a CUDA graph is tied to the pinned
 * memory that it was captured with, so only pageable memory can be bound; and requests of several
 * rows go through the batch's memory like joined ones, so that each size has one graph. */
bool batch_is_direct(const batch *one)
{
    const bool on_cpu = one->at->device < 0;
    const kiln_request *first = one->requests[0];
    bool direct = one->count == 1 && one->filled == one->rows && (on_cpu || one->rows == 1);
    for (size_t i = 0; direct && i < one->scheduler->rules.input_count; i++) {
        direct = kiln_shape_equal(&first->shapes[i], &first->inputs[i].desc.shape);
    }
    for (size_t i = 0; direct && !on_cpu && i < one->scheduler->rules.input_count; i++) {
        direct = first->inputs[i].desc.location == KILN_LOCATION_HOST;
    }
    return direct;
}
