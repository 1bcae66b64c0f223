/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* yes ? a : b, without a branch, which would be unpredictable. */
#define DEFINE_CHOOSE(type)                                                                   \
    REF_WIDE static void choose_##type(int64_t n, const uint8_t *yes, const void *a,          \
                                       const void *b, void *to)                               \
    {                                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                     \
            const type mask = (type)(0 - (type)(yes[i] != 0));                                \
            ((type *)to)[i] =                                                                 \
                (type)((((const type *)a)[i] & mask) | (((const type *)b)[i] & (type)~mask)); \
        }                                                                                     \
    }
DEFINE_CHOOSE(uint8_t)
DEFINE_CHOOSE(uint16_t)
DEFINE_CHOOSE(uint32_t)
DEFINE_CHOOSE(uint64_t)

/* `n` elements of a row, copied into `room` if they are not contiguous. */
static const void *neighbours(const ref_tensor *x, int64_t start, int64_t step, int64_t n,
                              void *room)
{
    const size_t size = ref_element_size(x->dtype);
    const char *from = (const char *)x->data + start * (int64_t)size;
    if (step == 1) {
        return from;
    }
    ref_copy_elements(size, n, room, 1, from, step);
    return room;
}

/* Handles a row if its elements have the size of an integer type; returns whether it does. */
static bool choose_row(const ref_walk *walk, const ref_tensor *condition, const ref_tensor *x,
                       const ref_tensor *y, ref_tensor *out)
{
    const size_t size = ref_element_size(x->dtype);
    if (size > sizeof(uint64_t) || walk->step[0] != 1) {
        return false;
    }
    for (int64_t at = 0; at < walk->length; at += REF_CHUNK) {
        const int64_t n = walk->length - at < REF_CHUNK ? walk->length - at : REF_CHUNK;
        const ref_tensor *operands[3] = {condition, x, y};
        uint64_t room[3][REF_CHUNK];
        const void *rows[3];
        for (int i = 0; i < 3; i++) {
            const int64_t step = walk->step[i + 1];
            rows[i] = neighbours(operands[i], walk->offset[i + 1] + at * step, step, n, room[i]);
        }
        (size == 1   ? choose_uint8_t
         : size == 2 ? choose_uint16_t
         : size == 4 ? choose_uint32_t
                     : choose_uint64_t)(n, rows[0], rows[1], rows[2],
                                        (char *)out->data + (walk->offset[0] + at) * (int64_t)size);
    }
    return true;
}

static kiln_status ref_op_where(ref_call *call)
{
    const ref_tensor *condition = ref_input(call, 0);
    const ref_tensor *x = ref_input(call, 1);
    const ref_tensor *y = ref_input(call, 2);
    ref_tensor *out = NULL;
    KLN_RETURN_IF(
        condition->dtype != KILN_DTYPE_BOOL || x->dtype != y->dtype, KILN_ERROR_INVALID_NETWORK,
        "a bool and twice one type are needed, found %s, %s and %s",
        kiln_dtype_name(condition->dtype), kiln_dtype_name(x->dtype), kiln_dtype_name(y->dtype));
    int rank = 0;
    int64_t dims[REF_RANK];
    KLN_RETURN_IF_ERROR(ref_broadcast(call, x->rank, x->dims, y->rank, y->dims, &rank, dims));
    KLN_RETURN_IF_ERROR(
        ref_broadcast(call, rank, dims, condition->rank, condition->dims, &rank, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, rank, dims, &out));
    const int64_t size = (int64_t)ref_element_size(x->dtype);
    ref_walk walk;
    ref_walk_init(&walk, rank, dims);
    ref_walk_add_broadcast(&walk, out);
    ref_walk_add_broadcast(&walk, condition);
    ref_walk_add_broadcast(&walk, x);
    ref_walk_add_broadcast(&walk, y);
    ref_walk_begin(&walk);
    while (ref_walk_next(&walk)) {
        if (choose_row(&walk, condition, x, y, out)) {
            continue;
        }
        for (int64_t i = 0; i < walk.length; i++) {
            const bool yes =
                ((const uint8_t *)condition->data)[walk.offset[1] + i * walk.step[1]] != 0;
            const int from = yes ? 2 : 3;
            memcpy((char *)out->data + (walk.offset[0] + i * walk.step[0]) * size,
                   (const char *)(yes ? x : y)->data +
                       (walk.offset[from] + i * walk.step[from]) * size,
                   (size_t)size);
        }
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_where[] = {
    REF_OP("Where", 9, where, 0, "ttt"),
    REF_KERNELS_END
};
/* clang-format on */
