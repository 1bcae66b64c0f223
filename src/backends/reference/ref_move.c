/* Kernels that rearrange elements: all are strided copies.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* Copies a view of `x` to one of `y`, each from the given element on. */
static void copy(const ref_tensor *x, int64_t from, const int64_t *from_strides, ref_tensor *y,
                 int64_t to, const int64_t *to_strides, int rank, const int64_t *dims)
{
    const int64_t size = (int64_t)ref_element_size(x->dtype);
    ref_copy_strided((size_t)size, rank, dims, (char *)y->data + to * size, to_strides,
                     (const char *)x->data + from * size, from_strides);
}

static kiln_status ref_op_transpose(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    size_t count = 0;
    const int64_t *order = ref_attribute_ints(call, "perm", &count);
    KLN_RETURN_IF(order != NULL && count != (size_t)x->rank, KILN_ERROR_INVALID_NETWORK,
                  "perm has %zu entries for %d dimensions", count, x->rank);
    uint32_t seen = 0;
    int64_t dims[REF_RANK];
    int64_t dense[REF_RANK];
    int64_t from[REF_RANK];
    int64_t to[REF_RANK];
    ref_dense_strides(x->rank, x->dims, dense);
    for (int i = 0; i < x->rank; i++) {
        int axis = x->rank - 1 - i;
        if (order != NULL) {
            KLN_RETURN_IF_ERROR(ref_axis(call, order[i], x->rank, &axis));
        }
        seen |= UINT32_C(1) << axis;
        dims[i] = x->dims[axis];
        from[i] = dense[axis];
    }
    KLN_RETURN_IF(seen != (UINT32_C(1) << x->rank) - 1, KILN_ERROR_INVALID_NETWORK,
                  "perm does not name each dimension once");
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    ref_dense_strides(x->rank, dims, to);
    copy(x, 0, from, y, 0, to, x->rank, dims);
    return KILN_OK;
}

static kiln_status concat_shape(const ref_call *call, size_t count, const ref_tensor *const *parts,
                                int axis, int64_t *dims)
{
    (void)call;
    memcpy(dims, parts[0]->dims, REF_RANK * sizeof(int64_t));
    for (size_t i = 1; i < count; i++) {
        for (int j = 0; j < parts[0]->rank; j++) {
            KLN_RETURN_IF(parts[i]->rank != parts[0]->rank || parts[i]->dtype != parts[0]->dtype ||
                              (j != axis && parts[i]->dims[j] != dims[j]),
                          KILN_ERROR_SHAPE,
                          "part %zu does not fit the first: type, rank and every dimension "
                          "but %d must be the same",
                          i, axis);
        }
        KLN_RETURN_IF(parts[i]->rank != parts[0]->rank || parts[i]->dtype != parts[0]->dtype,
                      KILN_ERROR_SHAPE, "part %zu has another type or rank than the first", i);
        dims[axis] += parts[i]->dims[axis];
    }
    return KILN_OK;
}

kiln_status ref_concat(ref_call *call, size_t count, const ref_tensor *const *parts, int axis)
{
    int64_t dims[REF_RANK];
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(concat_shape(call, count, parts, axis, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, parts[0]->dtype, parts[0]->rank, dims, &y));
    int64_t to[REF_RANK];
    int64_t from[REF_RANK];
    ref_dense_strides(y->rank, y->dims, to);
    int64_t place = 0;
    for (size_t i = 0; i < count; i++) {
        ref_dense_strides(parts[i]->rank, parts[i]->dims, from);
        copy(parts[i], 0, from, y, place, to, y->rank, parts[i]->dims);
        place += parts[i]->dims[axis] * to[axis];
    }
    return KILN_OK;
}

static kiln_status ref_op_concat(ref_call *call)
{
    const ref_tensor **parts = NULL;
    const size_t count = call->node->input_count;
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_scratch(call, count + 1, sizeof(void *), &parts));
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(ref_need(call, i, &parts[i]));
    }
    KLN_RETURN_IF(count == 0, KILN_ERROR_INVALID_NETWORK, "there is nothing to join");
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 1), parts[0]->rank, &axis));
    return ref_concat(call, count, parts, axis);
}

/* The sizes into which an axis of `length` is split. */
static kiln_status split_sizes(ref_call *call, int64_t length, int64_t **sizes)
{
    const int64_t *given = NULL;
    size_t count = 0;
    const size_t parts = call->node->output_count;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, "split", &given, &count));
    KLN_RETURN_IF_ERROR(ref_scratch(call, parts + 1, sizeof **sizes, sizes));
    KLN_RETURN_IF(parts == 0 || (given != NULL && count != parts), KILN_ERROR_INVALID_NETWORK,
                  "%zu sizes are given for %zu outputs", count, parts);
    const int64_t each = (length + (int64_t)parts - 1) / (int64_t)parts;
    int64_t left = length;
    for (size_t i = 0; i < parts; i++) {
        (*sizes)[i] = given != NULL ? given[i] : each < left ? each : left;
        KLN_RETURN_IF((*sizes)[i] < 0 || (*sizes)[i] > left, KILN_ERROR_SHAPE,
                      "the parts do not fit into a dimension of %lld", (long long)length);
        left -= (*sizes)[i];
    }
    return left == 0 ? KILN_OK
                     : kln_fail(KILN_ERROR_SHAPE, "%lld of %lld elements are in no part",
                                (long long)left, (long long)length);
}

static kiln_status ref_op_split(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    int axis = 0;
    int64_t *sizes = NULL;
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), x->rank, &axis));
    KLN_RETURN_IF_ERROR(split_sizes(call, x->dims[axis], &sizes));
    int64_t from[REF_RANK];
    int64_t to[REF_RANK];
    int64_t dims[REF_RANK];
    memcpy(dims, x->dims, sizeof dims);
    ref_dense_strides(x->rank, x->dims, from);
    int64_t place = 0;
    for (size_t i = 0; i < call->node->output_count; i++) {
        ref_tensor *y = NULL;
        dims[axis] = sizes[i];
        KLN_RETURN_IF_ERROR(ref_output(call, i, x->dtype, x->rank, dims, &y));
        ref_dense_strides(x->rank, dims, to);
        copy(x, place, from, y, 0, to, x->rank, dims);
        place += sizes[i] * from[axis];
    }
    return KILN_OK;
}

/* --- Slice --- */

/* Start and length along an axis by Python's rules; `*begin` is a valid index. */
static void slice_axis(int64_t dim, int64_t start, int64_t end, int64_t step, int64_t *begin,
                       int64_t *length)
{
    start += start < 0 ? dim : 0;
    end += end < 0 ? dim : 0;
    if (step > 0) {
        start = ref_clamp_int(start, 0, dim);
        end = ref_clamp_int(end, 0, dim);
        *length = end > start ? (end - start - 1) / step + 1 : 0;
    } else {
        start = ref_clamp_int(start, 0, dim - 1);
        end = ref_clamp_int(end, -1, dim - 1);
        *length = dim > 0 && start > end
                      ? (start - end - 1) / -(step < -INT64_MAX ? -INT64_MAX : step) + 1
                      : 0;
    }
    *begin = *length > 0 ? start : 0;
}

typedef struct slice_lists {
    const int64_t *starts, *ends, *axes, *steps;
    size_t count, end_count, axis_count, step_count;
} slice_lists;

static kiln_status read_slice(ref_call *call, slice_lists *lists)
{
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, "starts", &lists->starts, &lists->count));
    KLN_RETURN_IF_ERROR(ref_int_list(call, 2, "ends", &lists->ends, &lists->end_count));
    KLN_RETURN_IF_ERROR(ref_int_list(call, 3, "axes", &lists->axes, &lists->axis_count));
    KLN_RETURN_IF_ERROR(ref_int_list(call, 4, NULL, &lists->steps, &lists->step_count));
    KLN_RETURN_IF(lists->end_count != lists->count ||
                      (lists->axes != NULL && lists->axis_count != lists->count) ||
                      (lists->steps != NULL && lists->step_count != lists->count),
                  KILN_ERROR_INVALID_NETWORK,
                  "%zu starts, %zu ends, %zu axes and %zu steps do not go together", lists->count,
                  lists->end_count, lists->axis_count, lists->step_count);
    return KILN_OK;
}

static kiln_status ref_op_slice(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    slice_lists lists = {0};
    KLN_RETURN_IF_ERROR(read_slice(call, &lists));
    int64_t dims[REF_RANK];
    int64_t from[REF_RANK];
    int64_t to[REF_RANK];
    int64_t place = 0;
    memcpy(dims, x->dims, sizeof dims);
    ref_dense_strides(x->rank, x->dims, from);
    for (size_t i = 0; i < lists.count; i++) {
        int axis = 0;
        int64_t begin = 0;
        const int64_t step = lists.steps != NULL ? lists.steps[i] : 1;
        KLN_RETURN_IF_ERROR(
            ref_axis(call, lists.axes != NULL ? lists.axes[i] : (int64_t)i, x->rank, &axis));
        KLN_RETURN_IF(step == 0, KILN_ERROR_INVALID_NETWORK, "a step of 0 along axis %d", axis);
        slice_axis(x->dims[axis], lists.starts[i], lists.ends[i], step, &begin, &dims[axis]);
        place += begin * from[axis];
        from[axis] = dims[axis] > 1 ? from[axis] * step : from[axis];
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    ref_dense_strides(x->rank, dims, to);
    if (y->count > 0) {
        copy(x, place, from, y, 0, to, x->rank, dims);
    }
    return KILN_OK;
}

/* --- repetition --- */

static kiln_status ref_op_expand(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    const int64_t *shape = NULL;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, NULL, &shape, &count));
    KLN_RETURN_IF(count > REF_RANK, KILN_ERROR_RANK, "%zu dimensions are past the limit of %d",
                  count, REF_RANK);
    int rank = 0;
    int64_t dims[REF_RANK];
    KLN_RETURN_IF_ERROR(ref_broadcast(call, x->rank, x->dims, (int)count, shape, &rank, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, rank, dims, &y));
    int64_t dense[REF_RANK];
    int64_t from[REF_RANK] = {0};
    int64_t to[REF_RANK];
    ref_dense_strides(x->rank, x->dims, dense);
    for (int i = 0; i < x->rank; i++) {
        from[i + rank - x->rank] = x->dims[i] == 1 ? 0 : dense[i];
    }
    ref_dense_strides(rank, dims, to);
    copy(x, 0, from, y, 0, to, rank, dims);
    return KILN_OK;
}

/* Repeats `count` blocks of `block` bytes, which are `times` blocks apart. */
static void repeat_blocks(char *to, int64_t count, int64_t times, size_t block)
{
    for (int64_t i = 0; i < count; i++, to += (size_t)times * block) {
        for (int64_t k = 1; k < times; k++) {
            memcpy(to + (size_t)k * block, to, block);
        }
    }
}

#define LONG_BLOCK 256 /* bytes that are worth a separate copy */

/* Makes a single copy from a view in which repetitions are additional dimensions; false if there
 * are too many. Along the first repeated dimension the output itself is copied. */
static bool tile_at_once(const ref_tensor *x, const int64_t *repeats, ref_tensor *y)
{
    int64_t dense[REF_RANK];
    int64_t wide[REF_RANK];
    int64_t dims[2 * REF_RANK];
    int64_t from[2 * REF_RANK];
    int64_t to[2 * REF_RANK];
    int rank = 0;
    int first = 0;
    ref_dense_strides(x->rank, x->dims, dense);
    ref_dense_strides(y->rank, y->dims, wide);
    while (first < x->rank && repeats[first] == 1) {
        first++;
    }
    const size_t block =
        first < x->rank ? (size_t)(x->dims[first] * wide[first]) * ref_element_size(x->dtype) : 0;
    for (int i = 0; i < x->rank; i++) {
        if (repeats[i] != 1 && (i != first || block < LONG_BLOCK)) {
            dims[rank] = repeats[i];
            from[rank] = 0;
            to[rank++] = wide[i] * x->dims[i];
        }
        if (x->dims[i] != 1) {
            dims[rank] = x->dims[i];
            from[rank] = dense[i];
            to[rank++] = wide[i];
        }
    }
    if (rank > REF_RANK || y->count == 0) {
        return y->count == 0;
    }
    copy(x, 0, from, y, 0, to, rank, dims);
    if (block >= LONG_BLOCK) {
        repeat_blocks(y->data, ref_product(x->dims, 0, first), repeats[first], block);
    }
    return true;
}

static kiln_status ref_op_tile(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    const int64_t *repeats = NULL;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, NULL, &repeats, &count));
    KLN_RETURN_IF(count != (size_t)x->rank, KILN_ERROR_INVALID_NETWORK,
                  "%zu repeats are given for %d dimensions", count, x->rank);
    int64_t dims[REF_RANK];
    for (int i = 0; i < x->rank; i++) {
        KLN_RETURN_IF(repeats[i] < 0 || __builtin_mul_overflow(x->dims[i], repeats[i], &dims[i]),
                      KILN_ERROR_SHAPE, "dimension %d is repeated %lld times", i,
                      (long long)repeats[i]);
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    if (tile_at_once(x, repeats, y)) {
        return KILN_OK;
    }
    int64_t from[REF_RANK];
    int64_t to[REF_RANK];
    ref_dense_strides(x->rank, x->dims, from);
    ref_dense_strides(x->rank, dims, to);
    ref_walk walk; /* over the copies */
    int64_t steps[REF_RANK];
    for (int i = 0; i < x->rank; i++) {
        steps[i] = to[i] * x->dims[i];
    }
    ref_walk_init(&walk, x->rank, repeats);
    ref_walk_add(&walk, steps);
    ref_walk_begin(&walk);
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i++) {
            copy(x, 0, from, y, walk.offset[0] + i * walk.step[0], to, x->rank, x->dims);
        }
    }
    return KILN_OK;
}

/* --- blocks of images --- */

/* Views x with 4 dimensions as the 6 of `split`, and writes them in the order of `order`. */
static kiln_status regroup(ref_call *call, const ref_tensor *x, const int64_t *split,
                           const int *order, const int64_t *dims)
{
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, 4, dims, &y));
    int64_t dense[6];
    int64_t from[6];
    int64_t to[6];
    int64_t moved[6];
    ref_dense_strides(6, split, dense);
    for (int i = 0; i < 6; i++) {
        moved[i] = split[order[i]];
        from[i] = dense[order[i]];
    }
    ref_dense_strides(6, moved, to);
    copy(x, 0, from, y, 0, to, 6, moved);
    return KILN_OK;
}

static kiln_status read_blocks(const ref_call *call, const ref_tensor **x, int64_t *block)
{
    KLN_RETURN_IF_ERROR(ref_need(call, 0, x));
    *block = ref_attribute_int(call, "blocksize", 0);
    KLN_RETURN_IF((*x)->rank != 4 || *block <= 0 || *block > 65536, KILN_ERROR_INVALID_NETWORK,
                  "4 dimensions and a block size are needed, found %d and %lld", (*x)->rank,
                  (long long)*block);
    return KILN_OK;
}

static kiln_status ref_op_depth_to_space(ref_call *call)
{
    const ref_tensor *x = NULL;
    int64_t b = 0;
    KLN_RETURN_IF_ERROR(read_blocks(call, &x, &b));
    const int64_t *d = x->dims;
    KLN_RETURN_IF(d[1] % (b * b) != 0, KILN_ERROR_SHAPE,
                  "%lld channels do not make blocks of %lld x %lld", (long long)d[1], (long long)b,
                  (long long)b);
    const int64_t depth = d[1] / (b * b);
    const bool crd = strcmp(ref_attribute_string(call, "mode", "DCR"), "CRD") == 0;
    const int64_t dcr_split[6] = {d[0], b, b, depth, d[2], d[3]};
    const int64_t crd_split[6] = {d[0], depth, b, b, d[2], d[3]};
    static const int dcr_order[6] = {0, 3, 4, 1, 5, 2};
    static const int crd_order[6] = {0, 1, 4, 2, 5, 3};
    const int64_t dims[4] = {d[0], depth, d[2] * b, d[3] * b};
    return regroup(call, x, crd ? crd_split : dcr_split, crd ? crd_order : dcr_order, dims);
}

static kiln_status ref_op_space_to_depth(ref_call *call)
{
    const ref_tensor *x = NULL;
    int64_t b = 0;
    KLN_RETURN_IF_ERROR(read_blocks(call, &x, &b));
    const int64_t *d = x->dims;
    KLN_RETURN_IF(d[2] % b != 0 || d[3] % b != 0, KILN_ERROR_SHAPE,
                  "%lld x %lld does not fall into blocks of %lld", (long long)d[2], (long long)d[3],
                  (long long)b);
    const int64_t split[6] = {d[0], d[1], d[2] / b, b, d[3] / b, b};
    static const int dcr_order[6] = {0, 3, 5, 1, 2, 4};
    static const int crd_order[6] = {0, 1, 3, 5, 2, 4};
    const bool crd = strcmp(ref_attribute_string(call, "mode", "DCR"), "CRD") == 0;
    const int64_t dims[4] = {d[0], d[1] * b * b, d[2] / b, d[3] / b};
    return regroup(call, x, split, crd ? crd_order : dcr_order, dims);
}

/* clang-format off */
const ref_kernel ref_kernels_move[] = {
    REF_OP("Transpose", 1, transpose, 0, "t"),
    REF_OP("Concat", 1, concat, 0),
    REF_OP("Split", 2, split, 0, "t"),
    REF_OP("Slice", 1, slice, 0, "t"),
    REF_OP("Expand", 8, expand, 0, "t"),
    REF_OP("Tile", 6, tile, 0, "t"),
    REF_OP("DepthToSpace", 1, depth_to_space, 0),
    REF_OP("SpaceToDepth", 1, space_to_depth, 0),
    REF_KERNELS_END
};
/* clang-format on */
