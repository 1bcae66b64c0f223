/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"
#include "ref_rows.h"

/* Whether element `a` of x takes the place of `b`. NaN counts as the extreme. */
static bool beats(const ref_tensor *x, int64_t a, int64_t b, bool most, bool last)
{
    if (ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT) {
        const double va = ref_get_float(x, a);
        const double vb = ref_get_float(x, b);
        if (isnan(vb) || isnan(va)) {
            return isnan(va) && (!isnan(vb) || last);
        }
        return (most ? va > vb : va < vb) || (last && va == vb);
    }
    const int64_t va = ref_get_int(x, a);
    const int64_t vb = ref_get_int(x, b);
    const bool greater =
        ref_domain_of(x->dtype) == REF_DOMAIN_UNSIGNED ? (uint64_t)va > (uint64_t)vb : va > vb;
    return va == vb ? last : greater == most;
}

/* Where the extreme of a row is; -1 where one is no number. */
static int64_t place_in_row(kiln_dtype dtype, const void *x, int64_t n, bool most, bool last)
{
    const ref_extremes *of = ref_extremes_of(dtype);
    double extreme = 0.0; /* of any type */
    return of->find[most](x, n, &extreme) ? -1 : of->equal[last](x, n, &extreme);
}

/* ArgMax (variant 1) and ArgMin. */
static kiln_status ref_op_arg(ref_call *call)
{
    const ref_tensor *x = NULL;
    ref_tensor *y = NULL;
    int axis = 0;
    int64_t dims[REF_RANK];
    KLN_RETURN_IF_ERROR(ref_need_number(call, 0, &x));
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), x->rank, &axis));
    const int keep = ref_attribute_int(call, "keepdims", 1) != 0 ? 1 : 0;
    const bool last = ref_attribute_int(call, "select_last_index", 0) != 0;
    const bool most = call->variant == 1;
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = 1;
    memmove(dims + axis + keep, dims + axis + 1, (size_t)(x->rank - axis - 1) * sizeof *dims);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT64, x->rank - 1 + keep, dims, &y));
    const int64_t n = x->dims[axis];
    const int64_t inner = ref_product(x->dims, axis + 1, x->rank);
    KLN_RETURN_IF(n == 0 && y->count > 0, KILN_ERROR_SHAPE, "axis %d is empty", axis);
    double *wide = NULL; /* a row of floats that have no functions of their own */
    if (ref_extremes_of(x->dtype) == NULL && ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT &&
        inner == 1) {
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *wide, &wide));
    }
    for (int64_t i = 0; i < y->count;) {
        const int64_t left = inner - i % inner;
        const int64_t columns = left < REF_COLUMNS ? left : REF_COLUMNS;
        const int64_t from = i / inner * n * inner + i % inner;
        const void *row = (const char *)x->data + (size_t)from * ref_element_size(x->dtype);
        const bool typed = ref_extremes_of(x->dtype) != NULL && n <= INT32_MAX;
        int32_t places[REF_COLUMNS];
        if (typed && inner > 1) {
            ref_place_columns(x->dtype, row, inner, n, columns, most, last, places);
        }
        for (int64_t k = 0; k < columns; k++) {
            int64_t best = -1;
            if (wide != NULL) {
                ref_load_float(x, from, 1, n, wide);
                best = place_in_row(KILN_DTYPE_FLOAT64, wide, n, most, last);
            } else if (typed) {
                best = inner > 1 ? places[k] : place_in_row(x->dtype, row, n, most, last);
            }
            for (int64_t j = best < 0 ? 0 : n; j < n; j++) {
                const int64_t at = from + k + j * inner;
                best = best < 0 || beats(x, at, from + k + best * inner, most, last) ? j : best;
            }
            ((int64_t *)y->data)[i + k] = best;
        }
        i += columns;
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_arg[] = {
    REF_OP("ArgMax", 1, arg, 1),
    REF_OP("ArgMin", 1, arg, 0),
    REF_KERNELS_END
};
/* clang-format on */
