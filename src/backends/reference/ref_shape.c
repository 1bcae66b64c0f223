/* Kernels that change or read a shape and leave the elements unchanged.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

kiln_status ref_op_identity(ref_call *call)
{
    ref_value *value = NULL;
    KLN_RETURN_IF_ERROR(ref_output_value(call, 0, &value));
    if (call->node->input_count > 0 && call->inputs[0] != NULL) {
        ref_value_copy(value, call->inputs[0]);
    }
    return KILN_OK;
}

static kiln_status fail_reshape(const ref_tensor *x, const int64_t *dims, int rank)
{
    kiln_shape shape = {.rank = x->rank};
    memcpy(shape.dims, x->dims, (size_t)x->rank * sizeof(int64_t));
    shape.rank = rank;
    for (int i = 0; i < rank; i++) {
        shape.dims[i] = dims[i];
    }
    return kln_fail(KILN_ERROR_SHAPE, "%s cannot take the shape %s", KLN_SHAPE_PRINTED(&shape),
                    KLN_SHAPE_PRINTED(&shape));
}

static kiln_status ref_op_reshape(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t *wanted = NULL;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, "shape", &wanted, &count));
    KLN_RETURN_IF(count > REF_RANK, KILN_ERROR_RANK, "%zu dimensions are past the limit of %d",
                  count, REF_RANK);
    const bool allow_zero = ref_attribute_int(call, "allowzero", 0) != 0;
    int64_t dims[REF_RANK];
    int open = -1;
    for (int i = 0; i < (int)count; i++) {
        dims[i] = wanted[i];
        if (wanted[i] == 0 && !allow_zero) {
            dims[i] = i < x->rank ? x->dims[i] : 0;
        } else if (wanted[i] == -1) {
            open = i;
            dims[i] = 1;
        }
    }
    int64_t known = 0;
    KLN_RETURN_IF_ERROR(ref_count((int)count, dims, &known));
    if (open >= 0) {
        dims[open] = known == 0 ? 0 : x->count / known;
    }
    int64_t total = 0;
    KLN_RETURN_IF_ERROR(ref_count((int)count, dims, &total));
    KLN_FAIL_IF(total != x->count, fail_reshape(x, wanted, (int)count));
    return ref_output_view(call, 0, 0, (int)count, dims);
}

static kiln_status ref_op_flatten(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    int64_t axis = ref_attribute_int(call, "axis", 1);
    axis += axis < 0 ? x->rank : 0;
    KLN_RETURN_IF(axis < 0 || axis > x->rank, KILN_ERROR_INVALID_NETWORK,
                  "axis %lld is outside %d dimensions", (long long)axis, x->rank);
    const int64_t dims[2] = {ref_product(x->dims, 0, (int)axis),
                             ref_product(x->dims, (int)axis, x->rank)};
    return ref_output_view(call, 0, 0, 2, dims);
}

static kiln_status ref_op_squeeze(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t *axes = NULL;
    size_t count = 0;
    uint32_t mask = 0;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, "axes", &axes, &count));
    KLN_RETURN_IF_ERROR(ref_axes(call, axes, count, x->rank, &mask));
    int64_t dims[REF_RANK];
    int rank = 0;
    for (int i = 0; i < x->rank; i++) {
        const bool named = (mask >> i & 1U) != 0;
        KLN_RETURN_IF(named && x->dims[i] != 1, KILN_ERROR_SHAPE,
                      "dimension %d is %lld, but only a 1 can be removed", i,
                      (long long)x->dims[i]);
        if (!named && (axes != NULL || x->dims[i] != 1)) {
            dims[rank++] = x->dims[i];
        }
    }
    return ref_output_view(call, 0, 0, rank, dims);
}

static kiln_status ref_op_unsqueeze(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t *axes = NULL;
    size_t count = 0;
    uint32_t mask = 0;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, "axes", &axes, &count));
    KLN_RETURN_IF(count > (size_t)(REF_RANK - x->rank), KILN_ERROR_RANK,
                  "%zu more dimensions are past the limit of %d", count, REF_RANK);
    const int rank = x->rank + (int)count;
    KLN_RETURN_IF_ERROR(ref_axes(call, axes, count, rank, &mask));
    KLN_RETURN_IF(__builtin_popcount(mask) != (int)count, KILN_ERROR_INVALID_NETWORK,
                  "an axis is named twice");
    int64_t dims[REF_RANK];
    int next = 0;
    for (int i = 0; i < rank; i++) {
        dims[i] = (mask >> i & 1U) != 0 ? 1 : x->dims[next++];
    }
    return ref_output_view(call, 0, 0, rank, dims);
}

static kiln_status ref_op_shape(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    int64_t begin = ref_attribute_int(call, "start", 0);
    int64_t end = ref_attribute_int(call, "end", x->rank);
    begin = ref_clamp_int(begin < 0 ? begin + x->rank : begin, 0, x->rank);
    end = ref_clamp_int(end < 0 ? end + x->rank : end, 0, x->rank);
    const int64_t dims[1] = {end > begin ? end - begin : 0};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT64, 1, dims, &y));
    ref_store_int(y, 0, 1, dims[0], x->dims + begin);
    return KILN_OK;
}

static kiln_status ref_op_size(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT64, 0, NULL, &y));
    ref_put_int(y, 0, x->count);
    return KILN_OK;
}

/* Inference only: in training mode elements would be dropped at random. */
static kiln_status ref_op_dropout(ref_call *call)
{
    const ref_tensor *training = ref_input(call, 2);
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *ratio = ref_input(call, 1);
    KLN_RETURN_IF(training != NULL && ref_get_int(training, 0) != 0 &&
                      (ratio == NULL || ref_get_float(ratio, 0) != 0.0),
                  KILN_ERROR_UNSUPPORTED,
                  "training mode drops elements at random; only inference is computed here");
    KLN_RETURN_IF_ERROR(ref_op_identity(call));
    if (call->node->output_count > 1) {
        ref_tensor *mask = NULL;
        const kiln_dtype dtype = call->node->version < 10 ? x->dtype : KILN_DTYPE_BOOL;
        KLN_RETURN_IF_ERROR(ref_output(call, 1, dtype, x->rank, x->dims, &mask));
        for (int64_t i = 0; i < mask->count; i++) {
            ref_put_int(mask, i, 1);
        }
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_shape[] = {
    REF_OP("Identity", 1, identity, 0),
    REF_OP("Reshape", 1, reshape, 0, "t"),
    REF_OP("Flatten", 1, flatten, 0, "t"),
    REF_OP("Squeeze", 1, squeeze, 0, "t"),
    REF_OP("Unsqueeze", 1, unsqueeze, 0, "t"),
    REF_OP("Shape", 1, shape, 0, "t"),
    REF_OP("Size", 1, size, 0, "t"),
    REF_OP("Dropout", 1, dropout, 0, "n??"),
    REF_KERNELS_END
};
/* clang-format on */
