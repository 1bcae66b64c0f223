/* Kernels that select elements by position: padding, cropping, triangles, sequences.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* The source index of an element outside [0, size); -1 for the constant. */
static int64_t reflected(int64_t at, int64_t size, char mode)
{
    if (at >= 0 && at < size) {
        return at;
    }
    if (mode == 'e') {
        return at < 0 ? 0 : size - 1;
    }
    if (mode == 'w') {
        return (at % size + size) % size;
    }
    if (mode == 'r') {
        const int64_t period = size > 1 ? 2 * (size - 1) : 1;
        at = (at % period + period) % period;
        return at < size ? at : period - at;
    }
    return -1;
}

static int64_t clamp(int64_t at, int64_t size)
{
    return at < 0 ? 0 : at < size ? at : size;
}

static int64_t saturated_sum(int64_t a, int64_t b)
{
    int64_t sum = 0;
    return __builtin_add_overflow(a, b, &sum) ? (a < 0 ? INT64_MIN : INT64_MAX) : sum;
}

/* y[i] = x[i - before] in every dimension; elements outside follow `mode`, with `fill` for 'c'. */
static kiln_status shift(ref_call *call, const ref_tensor *x, const int64_t *before,
                         const int64_t *dims, char mode, const void *fill)
{
    ref_tensor *y = NULL;
    int64_t strides[REF_RANK];
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    ref_dense_strides(x->rank, x->dims, strides);
    for (int i = 0; mode != 'c' && y->count > 0 && i < x->rank; i++) {
        KLN_RETURN_IF(x->dims[i] == 0, KILN_ERROR_SHAPE,
                      "dimension %d is empty and cannot be extended", i);
    }
    const size_t size = ref_element_size(x->dtype);
    const int last = x->rank - 1;
    const int64_t length = x->rank > 0 ? dims[last] : 1;
    const int64_t start = x->rank > 0 ? clamp(before[last], length) : 0;
    const int64_t end = x->rank > 0 ? clamp(saturated_sum(before[last], x->dims[last]), length) : 1;
    const int64_t begin = start < end ? start : end; /* of the part inside */
    const int64_t place = x->rank > 0 ? begin - before[last] : 0;
    int64_t index[REF_RANK] = {0};
    for (int64_t i = 0; i < y->count; i += length) {
        int64_t from = 0;
        for (int j = 0; j < last && from >= 0; j++) {
            const int64_t at = reflected(index[j] - before[j], x->dims[j], mode);
            from = at < 0 ? -1 : from + at * strides[j];
        }
        char *row = (char *)y->data + (size_t)i * size;
        if (from < 0) {
            ref_copy_elements(size, length, row, 1, fill, 0);
        } else if (mode == 'c') {
            ref_copy_elements(size, begin, row, 1, fill, 0);
            ref_copy_elements(size, length - end, row + (size_t)end * size, 1, fill, 0);
        }
        for (int64_t k = begin == 0 ? end : 0; from >= 0 && mode != 'c' && k < length;
             k = k + 1 == begin ? end : k + 1) {
            const int64_t at = reflected(k - before[last], x->dims[last], mode);
            memcpy(row + (size_t)k * size, (const char *)x->data + (size_t)(from + at) * size,
                   size);
        }
        if (from >= 0 && begin < end) {
            memcpy(row + (size_t)begin * size,
                   (const char *)x->data + (size_t)(from + place) * size,
                   (size_t)(end - begin) * size);
        }
        for (int j = last - 1; j >= 0 && ++index[j] == dims[j]; j--) {
            index[j] = 0;
        }
    }
    return KILN_OK;
}

/* The padding value, as bytes of x's dtype. */
static kiln_status read_fill(const ref_call *call, const ref_tensor *x, uint8_t fill[16])
{
    const ref_tensor *value = ref_input(call, 2);
    memset(fill, 0, 16);
    ref_tensor one = {.dtype = x->dtype, .count = 1, .data = fill};
    if (value != NULL) {
        KLN_RETURN_IF(value->count != 1, KILN_ERROR_SHAPE,
                      "input 2 has %lld elements; one is needed", (long long)value->count);
        KLN_RETURN_IF(value->dtype != x->dtype, KILN_ERROR_INVALID_NETWORK,
                      "%s cannot be padded with %s", kiln_dtype_name(x->dtype),
                      kiln_dtype_name(value->dtype));
        memcpy(fill, value->data, ref_element_size(x->dtype));
    } else if (ref_domain_of(x->dtype) != REF_DOMAIN_NONE) {
        ref_put_float(&one, 0, ref_attribute_float(call, "value", 0.0));
    }
    return KILN_OK;
}

static kiln_status ref_op_pad(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t *pads = NULL;
    const int64_t *axes = NULL;
    size_t count = 0;
    size_t axis_count = 0;
    _Alignas(16) uint8_t fill[16];
    KLN_RETURN_IF_ERROR(ref_int_list(
        call, 1, ref_attribute(call, "paddings") != NULL ? "paddings" : "pads", &pads, &count));
    KLN_RETURN_IF_ERROR(ref_int_list(call, 3, NULL, &axes, &axis_count));
    KLN_RETURN_IF_ERROR(read_fill(call, x, fill));
    const size_t named = axes != NULL ? axis_count : (size_t)x->rank;
    KLN_RETURN_IF(count != 2 * named, KILN_ERROR_INVALID_NETWORK,
                  "%zu pads are given for %zu dimensions", count, named);
    int64_t before[REF_RANK] = {0};
    int64_t dims[REF_RANK];
    memcpy(dims, x->dims, sizeof dims);
    for (size_t i = 0; i < named; i++) {
        int axis = 0;
        KLN_RETURN_IF_ERROR(ref_axis(call, axes != NULL ? axes[i] : (int64_t)i, x->rank, &axis));
        before[axis] = pads[i];
        KLN_RETURN_IF(__builtin_add_overflow(dims[axis], pads[i], &dims[axis]) ||
                          __builtin_add_overflow(dims[axis], pads[i + named], &dims[axis]),
                      KILN_ERROR_LIMIT, "the pads of dimension %d overflow", axis);
    }
    return shift(call, x, before, dims, ref_attribute_string(call, "mode", "constant")[0], fill);
}

static kiln_status ref_op_center_crop_pad(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t *sizes = NULL;
    size_t count = 0;
    size_t axis_count = 0;
    const uint8_t fill[16] = {0};
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, NULL, &sizes, &count));
    const int64_t *axes = ref_attribute_ints(call, "axes", &axis_count);
    KLN_RETURN_IF(count != (axes != NULL ? axis_count : (size_t)x->rank),
                  KILN_ERROR_INVALID_NETWORK, "%zu sizes are given; one for each axis is needed",
                  count);
    int64_t before[REF_RANK] = {0};
    int64_t dims[REF_RANK];
    memcpy(dims, x->dims, sizeof dims);
    for (size_t i = 0; i < count; i++) {
        int axis = 0;
        KLN_RETURN_IF_ERROR(ref_axis(call, axes != NULL ? axes[i] : (int64_t)i, x->rank, &axis));
        const int64_t more = sizes[i] - dims[axis];
        before[axis] = more >= 0 ? more / 2 : -((-more) / 2);
        dims[axis] = sizes[i];
    }
    return shift(call, x, before, dims, 'c', fill);
}

static kiln_status ref_op_trilu(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *diagonal = ref_input(call, 1);
    ref_tensor *y = NULL;
    KLN_RETURN_IF(x->rank < 2, KILN_ERROR_RANK, "a matrix is needed");
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const bool upper = ref_attribute_int(call, "upper", 1) != 0;
    const int64_t k = diagonal != NULL ? ref_get_int(diagonal, 0) : 0;
    const int64_t columns = x->dims[x->rank - 1];
    const int64_t rows = x->dims[x->rank - 2];
    const size_t size = ref_element_size(x->dtype);
    for (int64_t i = 0; x->count > 0 && i < x->count / columns; i++) {
        /* The row's first column on or right of the diagonal, and the first one beyond it. */
        const int64_t row = i % rows;
        const int64_t on = k < -row ? 0 : k > columns - row ? columns : row + k;
        const int64_t past = on < columns && on == row + k ? on + 1 : on;
        const size_t cut = (size_t)(upper ? on : past) * size;
        const size_t all = (size_t)columns * size;
        char *to = (char *)y->data + (size_t)i * all;
        const char *from = (const char *)x->data + (size_t)i * all;
        memset(upper ? to : to + cut, 0, upper ? cut : all - cut);
        memcpy(upper ? to + cut : to, upper ? from + cut : from, upper ? all - cut : cut);
    }
    return KILN_OK;
}

static kiln_status ref_op_reverse_sequence(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *lengths = ref_input(call, 1);
    ref_tensor *y = NULL;
    const int64_t batch_axis = ref_attribute_int(call, "batch_axis", 1);
    const int64_t time_axis = ref_attribute_int(call, "time_axis", 0);
    KLN_RETURN_IF(x->rank < 2 || batch_axis < 0 || batch_axis > 1 || time_axis != 1 - batch_axis ||
                      lengths->count != x->dims[batch_axis],
                  KILN_ERROR_INVALID_NETWORK,
                  "the first two dimensions must be time and batch, with a length for each");
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const size_t inner = (size_t)ref_product(x->dims, 2, x->rank) * ref_element_size(x->dtype);
    for (int64_t i = 0; inner > 0 && i < x->dims[0] * x->dims[1]; i++) {
        const int64_t place[2] = {i / x->dims[1], i % x->dims[1]};
        const int64_t length = ref_get_int(lengths, place[batch_axis]);
        KLN_RETURN_IF(length < 0 || length > x->dims[time_axis], KILN_ERROR_INVALID_NETWORK,
                      "a length of %lld in %lld steps", (long long)length,
                      (long long)x->dims[time_axis]);
        int64_t from[2] = {place[0], place[1]};
        if (place[time_axis] < length) {
            from[time_axis] = length - 1 - place[time_axis];
        }
        memcpy((char *)y->data + (size_t)i * inner,
               (const char *)x->data + (size_t)(from[0] * x->dims[1] + from[1]) * inner, inner);
    }
    return KILN_OK;
}

static kiln_status ref_op_compress(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *condition = ref_input(call, 1);
    ref_tensor *y = NULL;
    int axis = 0;
    const bool flat = ref_attribute(call, "axis") == NULL;
    if (!flat) {
        KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), x->rank, &axis));
    }
    const int64_t length = flat ? x->count : x->dims[axis];
    const int64_t looked = condition->count < length ? condition->count : length;
    int64_t dims[REF_RANK];
    memcpy(dims, x->dims, sizeof dims);
    int64_t *places = NULL;
    int64_t found = 0;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)looked + 1, sizeof *places, &places));
    for (int64_t at = 0; at < looked; at += REF_CHUNK) {
        const int64_t n = looked - at < REF_CHUNK ? looked - at : REF_CHUNK;
        int64_t chosen[REF_CHUNK];
        ref_load_int(condition, at, 1, n, chosen);
        for (int64_t i = 0; i < n; i++) {
            places[found] = at + i;
            found += chosen[i] != 0;
        }
    }
    dims[flat ? 0 : axis] = found;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, flat ? 1 : x->rank, dims, &y));
    const size_t size = ref_element_size(x->dtype);
    const size_t inner = (flat ? 1 : (size_t)ref_product(x->dims, axis + 1, x->rank)) * size;
    const int64_t outer = flat ? 1 : ref_product(x->dims, 0, axis);
    for (int64_t i = 0; y->count > 0 && i < outer; i++) {
        ref_take_slices(size, inner, found, (char *)y->data + (size_t)(i * found) * inner,
                        (const char *)x->data + (size_t)(i * length) * inner, places);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_edges[] = {
    REF_OP("Pad", 1, pad, 0, "t"),
    REF_OP("CenterCropPad", 18, center_crop_pad, 0, "t"),
    REF_OP("Trilu", 14, trilu, 0, "t?"),
    REF_OP("ReverseSequence", 10, reverse_sequence, 0, "tn"),
    REF_OP("Compress", 9, compress, 0, "tn"),
    REF_KERNELS_END
};
/* clang-format on */
