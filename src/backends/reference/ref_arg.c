/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"
#include "ref_rows.h"

/* Whether element `a` of x replaces `b` as the extreme. NaN counts as the extreme. */
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

/* What is searched for, among `n` elements that are `inner` apart. */
typedef struct search {
    const ref_tensor *x;
    int64_t n, inner;
    bool most, last;
} search;

static int64_t place_slowly(const search *of, int64_t from)
{
    int64_t best = 0;
    for (int64_t j = 1; j < of->n; j++) {
        const int64_t at = from + j * of->inner;
        best = beats(of->x, at, from + best * of->inner, of->most, of->last) ? j : best;
    }
    return best;
}

/* Searches contiguous rows. Types without functions of their own are converted to doubles in
 * `wide`. */
static void place_rows(const search *of, int64_t count, double *wide, int64_t *places)
{
    const ref_extremes *ways = ref_extremes_of(wide != NULL ? KILN_DTYPE_FLOAT64 : of->x->dtype);
    const size_t size = ref_element_size(of->x->dtype);
    for (int64_t i = 0; i < count; i++) {
        const void *row = (const char *)of->x->data + (size_t)(i * of->n) * size;
        double extreme = 0.0; /* large enough for any type */
        if (wide != NULL) {
            ref_load_float(of->x, i * of->n, 1, of->n, wide);
            row = wide;
        }
        places[i] = ways == NULL || ways->find[of->most](row, of->n, &extreme)
                        ? place_slowly(of, i * of->n)
                        : ways->equal[of->last](row, of->n, &extreme);
    }
}

/* Searches several columns at a time. */
static void place_columns(const search *of, int64_t count, int64_t *places)
{
    const size_t size = ref_element_size(of->x->dtype);
    const bool typed = ref_extremes_of(of->x->dtype) != NULL && of->n <= INT32_MAX;
    for (int64_t i = 0; i < count;) {
        const int64_t left = of->inner - i % of->inner;
        const int64_t columns = left < REF_COLUMNS ? left : REF_COLUMNS;
        const int64_t from = i / of->inner * of->n * of->inner + i % of->inner;
        int32_t found[REF_COLUMNS];
        if (typed) {
            ref_place_columns(of->x->dtype, (const char *)of->x->data + (size_t)from * size,
                              of->inner, of->n, columns, of->most, of->last, found);
        }
        for (int64_t k = 0; k < columns; k++) {
            places[i + k] = typed && found[k] >= 0 ? found[k] : place_slowly(of, from + k);
        }
        i += columns;
    }
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
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = 1;
    memmove(dims + axis + keep, dims + axis + 1, (size_t)(x->rank - axis - 1) * sizeof *dims);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT64, x->rank - 1 + keep, dims, &y));
    const int64_t n = x->dims[axis];
    const int64_t inner = ref_product(x->dims, axis + 1, x->rank);
    KLN_RETURN_IF(n == 0 && y->count > 0, KILN_ERROR_SHAPE, "axis %d is empty", axis);
    const search of = {x, n, inner, call->variant == 1,
                       ref_attribute_int(call, "select_last_index", 0) != 0};
    double *wide = NULL; /* a row of floats of a type without functions of its own */
    if (ref_extremes_of(x->dtype) == NULL && ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT &&
        inner == 1) {
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *wide, &wide));
    }
    if (inner == 1) {
        place_rows(&of, y->count, wide, y->data);
    } else {
        place_columns(&of, y->count, y->data);
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
