/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* Resolves an index that may count from the end. */
static kiln_status in_range(int64_t index, int64_t limit, int64_t *result)
{
    *result = index < 0 ? index + limit : index;
    KLN_RETURN_IF(*result < 0 || *result >= limit, KILN_ERROR_INVALID_NETWORK,
                  "index %lld is outside a dimension of %lld", (long long)index, (long long)limit);
    return KILN_OK;
}

static kiln_status ref_op_gather(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *indices = ref_input(call, 1);
    ref_tensor *y = NULL;
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), x->rank, &axis));
    const int rank = x->rank - 1 + indices->rank;
    int64_t dims[2 * REF_RANK];
    memcpy(dims, x->dims, (size_t)axis * sizeof *dims);
    memcpy(dims + axis, indices->dims, (size_t)indices->rank * sizeof *dims);
    memcpy(dims + axis + indices->rank, x->dims + axis + 1,
           (size_t)(x->rank - axis - 1) * sizeof *dims);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, rank, dims, &y));
    const int64_t size = (int64_t)ref_element_size(x->dtype);
    const int64_t inner = ref_product(x->dims, axis + 1, x->rank) * size;
    const int64_t outer = ref_product(x->dims, 0, axis);
    int64_t *places = NULL;
    KLN_RETURN_IF_ERROR(ref_ints(call, indices, &places));
    for (int64_t j = 0; y->count > 0 && j < indices->count; j++) {
        KLN_RETURN_IF_ERROR(in_range(places[j], x->dims[axis], &places[j]));
    }
    for (int64_t i = 0; y->count > 0 && i < outer; i++) {
        ref_take_slices((size_t)size, (size_t)inner, indices->count,
                        (char *)y->data + i * indices->count * inner,
                        (const char *)x->data + i * x->dims[axis] * inner, places);
    }
    return KILN_OK;
}

/* Walks over the indices, and over the elements of `x` that they select, ignoring `axis`. */
static ref_walk walk_elements(const ref_tensor *x, const ref_tensor *indices, int axis)
{
    ref_walk walk;
    int64_t strides[REF_RANK];
    ref_walk_init(&walk, x->rank, indices->dims);
    ref_dense_strides(x->rank, indices->dims, strides);
    ref_walk_add(&walk, strides);
    ref_dense_strides(x->rank, x->dims, strides);
    strides[axis] = 0;
    ref_walk_add(&walk, strides);
    ref_walk_begin(&walk);
    return walk;
}

/* The offsets in `x` of the elements that indices `i` to `i` + n - 1 of the walk's row select. */
static kiln_status find_places(const ref_walk *walk, const ref_tensor *x, const ref_tensor *indices,
                               int axis, int64_t i, int64_t n, int64_t places[REF_CHUNK])
{
    const int64_t stride = ref_product(x->dims, axis + 1, x->rank);
    ref_load_int(indices, walk->offset[0] + i, 1, n, places);
    for (int64_t k = 0; k < n; k++) {
        KLN_RETURN_IF_ERROR(in_range(places[k], x->dims[axis], &places[k]));
        places[k] = places[k] * stride + walk->offset[1] + (i + k) * walk->step[1];
    }
    return KILN_OK;
}

static kiln_status need_elements(const ref_call *call, const ref_tensor **x,
                                 const ref_tensor **indices, int *axis)
{
    KLN_RETURN_IF_ERROR(ref_need(call, 0, x));
    KLN_RETURN_IF_ERROR(ref_need_number(call, 1, indices));
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), (*x)->rank, axis));
    bool fits = (*x)->rank == (*indices)->rank;
    for (int i = 0; fits && i < (*x)->rank; i++) {
        fits = i == *axis || (*indices)->dims[i] <= (*x)->dims[i];
    }
    return fits ? KILN_OK
                : kln_fail(KILN_ERROR_SHAPE,
                           "the indices need the data's rank, and no dimension longer than its but "
                           "along the axis");
}

static kiln_status ref_op_gather_elements(ref_call *call)
{
    const ref_tensor *x = NULL;
    const ref_tensor *indices = NULL;
    ref_tensor *y = NULL;
    int axis = 0;
    int64_t places[REF_CHUNK];
    KLN_RETURN_IF_ERROR(need_elements(call, &x, &indices, &axis));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, indices->dims, &y));
    const size_t size = ref_element_size(x->dtype);
    ref_walk walk = walk_elements(x, indices, axis);
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i += REF_CHUNK) {
            const int64_t n = walk.length - i < REF_CHUNK ? walk.length - i : REF_CHUNK;
            KLN_RETURN_IF_ERROR(find_places(&walk, x, indices, axis, i, n, places));
            ref_take_elements(size, n, (char *)y->data + (size_t)(walk.offset[0] + i) * size,
                              x->data, places);
        }
    }
    return KILN_OK;
}

/* --- scattering --- */

/* Updates an element by `reduction`: none, add, mul, max or min. */
static void put(ref_tensor *y, int64_t to, const ref_tensor *updates, int64_t from, char how)
{
    const size_t size = ref_element_size(y->dtype);
    if (how == 'n') {
        memcpy((char *)y->data + (size_t)to * size,
               (const char *)updates->data + (size_t)from * size, size);
    } else if (ref_domain_of(y->dtype) == REF_DOMAIN_FLOAT) {
        const double a = ref_get_float(y, to);
        const double b = ref_get_float(updates, from);
        ref_put_float(y, to,
                      how == 'a'   ? a + b
                      : how == '*' ? a * b
                      : how == '>' ? ref_greater(a, b)
                                   : -ref_greater(-a, -b));
    } else {
        const int64_t a = ref_get_int(y, to);
        const int64_t b = ref_get_int(updates, from);
        const bool greater =
            ref_domain_of(y->dtype) == REF_DOMAIN_UNSIGNED ? (uint64_t)b > (uint64_t)a : b > a;
        ref_put_int(y, to,
                    how == 'a'   ? (int64_t)((uint64_t)a + (uint64_t)b)
                    : how == '*' ? (int64_t)((uint64_t)a * (uint64_t)b)
                                 : (greater == (how == '>') ? b : a));
    }
}

static kiln_status read_reduction(const ref_call *call, kiln_dtype dtype, char *how)
{
    static const char *const names[5] = {"none", "add", "mul", "max", "min"};
    const char *name = ref_attribute_string(call, "reduction", "none");
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) == 0) {
            *how = "na*><"[i];
            return i > 0 && ref_domain_of(dtype) == REF_DOMAIN_NONE ? ref_fail_dtype(call, dtype)
                                                                    : KILN_OK;
        }
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED, "the reduction \"%s\" is not known", name);
}

/* Copies input 0 to output 0, which is then updated; input 2 holds the updates. */
static kiln_status begin_scatter(ref_call *call, const ref_tensor **updates, char *how,
                                 ref_tensor **y)
{
    const ref_tensor *x = NULL;
    KLN_RETURN_IF_ERROR(ref_need(call, 0, &x));
    KLN_RETURN_IF_ERROR(ref_need(call, 2, updates));
    KLN_RETURN_IF_ERROR(read_reduction(call, x->dtype, how));
    KLN_RETURN_IF((*updates)->dtype != x->dtype, KILN_ERROR_INVALID_NETWORK,
                  "updates are %s, the data is %s", kiln_dtype_name((*updates)->dtype),
                  kiln_dtype_name(x->dtype));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, y));
    ref_copy_elements(ref_element_size(x->dtype), x->count, (*y)->data, 1, x->data, 1);
    return KILN_OK;
}

static kiln_status ref_op_scatter_elements(ref_call *call)
{
    const ref_tensor *x = NULL;
    const ref_tensor *indices = NULL;
    const ref_tensor *updates = NULL;
    ref_tensor *y = NULL;
    int axis = 0;
    char how = 'n';
    int64_t places[REF_CHUNK];
    KLN_RETURN_IF_ERROR(need_elements(call, &x, &indices, &axis));
    KLN_RETURN_IF_ERROR(begin_scatter(call, &updates, &how, &y));
    KLN_RETURN_IF(!ref_same_shape(updates, indices), KILN_ERROR_SHAPE,
                  "each index needs an update");
    ref_walk walk = walk_elements(x, indices, axis);
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i += REF_CHUNK) {
            const int64_t n = walk.length - i < REF_CHUNK ? walk.length - i : REF_CHUNK;
            KLN_RETURN_IF_ERROR(find_places(&walk, x, indices, axis, i, n, places));
            for (int64_t k = 0; k < n; k++) {
                put(y, places[k], updates, walk.offset[0] + i + k, how);
            }
        }
    }
    return KILN_OK;
}

/* --- GatherND and ScatterND: rows of indices select slices --- */

typedef struct slices {
    int batch;     /* leading dimensions shared by data and indices */
    int depth;     /* numbers per row */
    int64_t rows;  /* rows of indices */
    int64_t inner; /* elements per slice */
    int64_t batches;
} slices;

static kiln_status read_slices(const ref_tensor *x, const ref_tensor *indices, int64_t batch,
                               slices *s)
{
    const int64_t depth = indices->rank > 0 ? indices->dims[indices->rank - 1] : 0;
    KLN_RETURN_IF(
        indices->rank < 1 || batch < 0 || batch >= indices->rank || batch + depth > x->rank ||
            depth < 1 || memcmp(x->dims, indices->dims, (size_t)batch * sizeof(int64_t)) != 0,
        KILN_ERROR_SHAPE,
        "rows of %lld indices behind %lld batch dimensions do not fit data of %d dimensions",
        (long long)depth, (long long)batch, x->rank);
    s->batch = (int)batch;
    s->depth = (int)depth;
    s->rows = indices->count / depth;
    s->inner = ref_product(x->dims, s->batch + s->depth, x->rank);
    s->batches = ref_product(x->dims, 0, s->batch);
    return KILN_OK;
}

static kiln_status slice_at(const ref_tensor *x, const ref_tensor *indices, const slices *s,
                            int64_t row, int64_t *offset)
{
    *offset = s->batches > 0 ? row / (s->rows / s->batches) : 0;
    for (int i = 0; i < s->depth; i++) {
        int64_t at = 0;
        const int64_t dim = x->dims[s->batch + i];
        KLN_RETURN_IF_ERROR(in_range(ref_get_int(indices, row * s->depth + i), dim, &at));
        *offset = *offset * dim + at;
    }
    *offset *= s->inner;
    return KILN_OK;
}

static kiln_status ref_op_gather_nd(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *indices = ref_input(call, 1);
    ref_tensor *y = NULL;
    slices s = {0};
    KLN_RETURN_IF_ERROR(read_slices(x, indices, ref_attribute_int(call, "batch_dims", 0), &s));
    int64_t dims[2 * REF_RANK];
    const int lead = indices->rank - 1;
    const int tail = x->rank - s.batch - s.depth;
    memcpy(dims, indices->dims, (size_t)lead * sizeof *dims);
    memcpy(dims + lead, x->dims + s.batch + s.depth, (size_t)tail * sizeof *dims);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, lead + tail, dims, &y));
    const size_t size = (size_t)s.inner * ref_element_size(x->dtype);
    for (int64_t i = 0; y->count > 0 && i < s.rows; i++) {
        int64_t from = 0;
        KLN_RETURN_IF_ERROR(slice_at(x, indices, &s, i, &from));
        memcpy((char *)y->data + (size_t)i * size,
               (const char *)x->data + (size_t)from * ref_element_size(x->dtype), size);
    }
    return KILN_OK;
}

static kiln_status ref_op_scatter_nd(ref_call *call)
{
    const ref_tensor *indices = ref_input(call, 1);
    const ref_tensor *updates = NULL;
    ref_tensor *y = NULL;
    slices s = {0};
    char how = 'n';
    KLN_RETURN_IF_ERROR(begin_scatter(call, &updates, &how, &y));
    KLN_RETURN_IF_ERROR(read_slices(y, indices, 0, &s));
    KLN_RETURN_IF(updates->count != s.rows * s.inner, KILN_ERROR_SHAPE,
                  "%lld updates are given for %lld slices of %lld", (long long)updates->count,
                  (long long)s.rows, (long long)s.inner);
    const size_t size = s.inner > 0 ? ref_element_size(y->dtype) : 0;
    const ref_lean_function function = ref_lean_binary(how == 'a'   ? REF_BINARY_Add
                                                       : how == '*' ? REF_BINARY_Mul
                                                       : how == '>' ? REF_BINARY_Max
                                                                    : REF_BINARY_Min,
                                                       y->dtype);
    for (int64_t i = 0; i < s.rows; i++) {
        int64_t to = 0;
        KLN_RETURN_IF_ERROR(slice_at(y, indices, &s, i, &to));
        if (how == 'n' && size > 0) {
            memcpy((char *)y->data + (size_t)to * size,
                   (const char *)updates->data + (size_t)(i * s.inner) * size,
                   (size_t)s.inner * size);
        }
        if (how != 'n' && function != NULL && size > 0) {
            void *slice = (char *)y->data + (size_t)to * size;
            function(s.inner, slice, 1, (const char *)updates->data + (size_t)(i * s.inner) * size,
                     1, slice);
        }
        for (int64_t j = 0; how != 'n' && function == NULL && j < s.inner; j++) {
            put(y, to + j, updates, i * s.inner + j, how);
        }
    }
    return KILN_OK;
}

/* Writes rows of updates into a cache along `axis`, at positions given for each batch. */
static kiln_status ref_op_tensor_scatter(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *update = ref_input(call, 1);
    const ref_tensor *places = ref_input(call, 2);
    ref_tensor *y = NULL;
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", -2), x->rank, &axis));
    const bool circular = strcmp(ref_attribute_string(call, "mode", "linear"), "circular") == 0;
    bool fits = axis > 0 && update->rank == x->rank && update->dtype == x->dtype &&
                (places == NULL || places->count == x->dims[0]);
    for (int i = 0; fits && i < x->rank; i++) {
        fits = i == axis || x->dims[i] == update->dims[i];
    }
    KLN_RETURN_IF(
        !fits, KILN_ERROR_SHAPE,
        "the update needs the cache's type and its dimensions but along the axis, and a place for "
        "each batch");
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const size_t size = ref_element_size(x->dtype);
    ref_copy_elements(size, x->count, y->data, 1, x->data, 1);
    const int64_t inner = ref_product(x->dims, axis + 1, x->rank);
    const int64_t middle = ref_product(x->dims, 1, axis);
    const int64_t length = update->dims[axis];
    for (int64_t i = 0; inner > 0 && i < update->count / inner; i++) {
        const int64_t batch = i / (length * middle);
        int64_t at = i % length + (places != NULL ? ref_get_int(places, batch) : 0);
        at = circular && x->dims[axis] > 0 ? at % x->dims[axis] : at;
        KLN_RETURN_IF_ERROR(in_range(at, x->dims[axis], &at));
        memcpy((char *)y->data + (size_t)((i / length * x->dims[axis] + at) * inner) * size,
               (const char *)update->data + (size_t)(i * inner) * size, (size_t)inner * size);
    }
    return KILN_OK;
}

static kiln_status ref_op_nonzero(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int last = x->rank - 1;
    ref_tensor *y = NULL;
    int64_t *found = NULL; /* non-zero elements */
    int64_t dims[2] = {x->rank, 0};
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)x->count + 1, sizeof *found, &found));
    for (int64_t at = 0; at < x->count; at += REF_CHUNK) {
        const int64_t n = x->count - at < REF_CHUNK ? x->count - at : REF_CHUNK;
        double values[REF_CHUNK];
        ref_load_float(x, at, 1, n, values);
        for (int64_t i = 0; i < n; i++) {
            found[dims[1]] = at + i;
            dims[1] += values[i] != 0.0;
        }
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT64, 2, dims, &y));
    int64_t index[REF_RANK] = {0};
    int64_t row = 0; /* offset of the row of x that `index` selects */
    for (int64_t i = 0; x->rank > 0 && i < dims[1]; i++) {
        for (; found[i] - row >= x->dims[last]; row += x->dims[last]) {
            for (int j = last - 1; j >= 0 && ++index[j] == x->dims[j]; j--) {
                index[j] = 0;
            }
        }
        for (int j = 0; j < last; j++) {
            ((int64_t *)y->data)[j * dims[1] + i] = index[j];
        }
        ((int64_t *)y->data)[last * dims[1] + i] = found[i] - row;
    }
    return KILN_OK;
}

static kiln_status ref_op_one_hot(ref_call *call)
{
    const ref_tensor *indices = ref_input(call, 0);
    const ref_tensor *depth = ref_input(call, 1);
    const ref_tensor *values = ref_input(call, 2);
    ref_tensor *y = NULL;
    int axis = 0;
    KLN_RETURN_IF_ERROR(
        ref_axis(call, ref_attribute_int(call, "axis", -1), indices->rank + 1, &axis));
    KLN_RETURN_IF(values->count != 2, KILN_ERROR_INVALID_NETWORK,
                  "%lld values are given; two are needed", (long long)values->count);
    const int64_t n = ref_get_int(depth, 0);
    int64_t dims[REF_RANK + 1];
    memcpy(dims, indices->dims, (size_t)axis * sizeof *dims);
    dims[axis] = n;
    memcpy(dims + axis + 1, indices->dims + axis, (size_t)(indices->rank - axis) * sizeof *dims);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, values->dtype, indices->rank + 1, dims, &y));
    const size_t size = ref_element_size(values->dtype);
    const int64_t inner = ref_product(indices->dims, axis, indices->rank);
    ref_copy_elements(size, y->count, y->data, 1, values->data, 0);
    for (int64_t i = 0; y->count > 0 && i < indices->count; i++) {
        int64_t hot = ref_get_int(indices, i);
        hot = hot < 0 ? hot + n : hot;
        if (hot >= 0 && hot < n) {
            const int64_t at = (i / inner * n + hot) * inner + i % inner;
            memcpy((char *)y->data + (size_t)at * size, (const char *)values->data + size, size);
        }
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_gather[] = {
    REF_OP("Gather", 1, gather, 0, "tn"),
    REF_OP("GatherElements", 11, gather_elements, 0),
    REF_OP("GatherND", 11, gather_nd, 0, "tn"),
    REF_OP("Scatter", 9, scatter_elements, 0),
    REF_OP("ScatterElements", 11, scatter_elements, 0),
    REF_OP("ScatterND", 11, scatter_nd, 0, "-n"),
    REF_OP("TensorScatter", 24, tensor_scatter, 0, "tt"),
    REF_OP("NonZero", 9, nonzero, 0, "n"),
    REF_OP("OneHot", 9, one_hot, 0, "n1t"),
    REF_KERNELS_END
};
/* clang-format on */
