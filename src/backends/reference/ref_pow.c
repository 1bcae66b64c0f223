/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

static int64_t int_power(int64_t base, int64_t exponent)
{
    if (exponent < 0) {
        return base == 1 ? 1 : base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0;
    }
    uint64_t result = 1;
    for (uint64_t factor = (uint64_t)base; exponent > 0; exponent /= 2, factor *= factor) {
        result *= exponent % 2 != 0 ? factor : 1;
    }
    return (int64_t)result;
}

/* Computes a row of squares in its own type, which is the most accurate; false if the exponent is
 * not 2. */
static bool square_row(const ref_walk *walk, const ref_tensor *x, const ref_tensor *y,
                       ref_tensor *z)
{
    const ref_lean_function multiply = ref_lean_binary(REF_BINARY_Mul, x->dtype);
    if (multiply == NULL || z->dtype != x->dtype || walk->step[0] != 1 || walk->step[1] != 1 ||
        walk->step[2] != 0 || ref_get_float(y, walk->offset[2]) != 2.0) {
        return false;
    }
    const size_t size = ref_element_size(x->dtype);
    const char *from = (const char *)x->data + (size_t)walk->offset[1] * size;
    multiply(walk->length, from, 1, from, 1, (char *)z->data + (size_t)walk->offset[0] * size);
    return true;
}

/* `n` floats, copied to `room` if they are not contiguous. */
static const float *floats_at(const ref_tensor *x, int64_t start, int64_t step, int64_t n,
                              float room[REF_CHUNK])
{
    const float *from = (const float *)x->data + start;
    for (int64_t i = 0; step != 1 && i < n; i++) {
        room[i] = from[i * step];
    }
    return step == 1 ? from : room;
}

/* Computes a row of float powers; false if they are not floats. */
static bool power_row(const ref_walk *walk, const ref_tensor *x, const ref_tensor *y, ref_tensor *z)
{
    if (x->dtype != KILN_DTYPE_FLOAT32 || y->dtype != KILN_DTYPE_FLOAT32 || walk->step[0] != 1) {
        return false;
    }
    for (int64_t at = 0; at < walk->length; at += REF_CHUNK) {
        const int64_t n = walk->length - at < REF_CHUNK ? walk->length - at : REF_CHUNK;
        const int64_t step[2] = {walk->step[1], walk->step[2]};
        float room[2][REF_CHUNK];
        uint8_t unsure[REF_CHUNK];
        const float *v = floats_at(x, walk->offset[1] + at * step[0], step[0], n, room[0]);
        const float *w = floats_at(y, walk->offset[2] + at * step[1], step[1], n, room[1]);
        float *to = (float *)z->data + walk->offset[0] + at;
        const int64_t count = ref_near(REF_UNARY_Pow, 0.0, 0.0, n, v, w, to, unsure);
        for (int64_t i = 0; i < count; i++) {
            to[unsure[i]] = (float)pow((double)v[unsure[i]], (double)w[unsure[i]]);
        }
    }
    return true;
}

static kiln_status ref_op_pow(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *given = ref_input(call, 1);
    ref_tensor *z = NULL;
    const ref_tensor y = ref_aligned(call, x, given);
    int rank = 0;
    int64_t dims[REF_RANK];
    KLN_RETURN_IF_ERROR(ref_broadcast(call, x->rank, x->dims, y.rank, y.dims, &rank, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, rank, dims, &z));
    const bool whole =
        ref_domain_of(x->dtype) != REF_DOMAIN_FLOAT && ref_domain_of(y.dtype) != REF_DOMAIN_FLOAT;
    const bool same = whole || ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT;
    ref_walk walk;
    ref_walk_init(&walk, rank, dims);
    ref_walk_add_broadcast(&walk, z);
    ref_walk_add_broadcast(&walk, x);
    ref_walk_add_broadcast(&walk, &y);
    ref_walk_begin(&walk);
    while (ref_walk_next(&walk)) {
        if ((same && square_row(&walk, x, &y, z)) || (!whole && power_row(&walk, x, &y, z))) {
            continue;
        }
        for (int64_t at = 0; at < walk.length; at += REF_CHUNK) {
            const int64_t n = walk.length - at < REF_CHUNK ? walk.length - at : REF_CHUNK;
            const int64_t start[3] = {walk.offset[0] + at * walk.step[0],
                                      walk.offset[1] + at * walk.step[1],
                                      walk.offset[2] + at * walk.step[2]};
            if (whole) {
                int64_t ints[2][REF_CHUNK];
                ref_load_int(x, start[1], walk.step[1], n, ints[0]);
                ref_load_int(&y, start[2], walk.step[2], n, ints[1]);
                for (int64_t i = 0; i < n; i++) {
                    ints[0][i] = int_power(ints[0][i], ints[1][i]);
                }
                ref_store_int(z, start[0], walk.step[0], n, ints[0]);
                continue;
            }
            double floats[2][REF_CHUNK];
            ref_load_float(x, start[1], walk.step[1], n, floats[0]);
            ref_load_float(&y, start[2], walk.step[2], n, floats[1]);
            for (int64_t i = 0; i < n; i++) {
                floats[0][i] = pow(floats[0][i], floats[1][i]);
            }
            ref_store_float(z, start[0], walk.step[0], n, floats[0]);
        }
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_pow[] = {
    REF_OP("Pow", 1, pow, 0, "nn"),
    REF_KERNELS_END
};
/* clang-format on */
