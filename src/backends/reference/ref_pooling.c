/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"
#include "ref_rows.h"

kiln_status ref_per_dimension(const ref_call *call, const char *name, int rank, int64_t otherwise,
                              int64_t *values)
{
    size_t count = 0;
    const int64_t *given = ref_attribute_ints(call, name, &count);
    KLN_RETURN_IF(given != NULL && count != (size_t)rank, KILN_ERROR_INVALID_NETWORK,
                  "%s has %zu entries, %d are needed", name, count, rank);
    for (int i = 0; i < rank; i++) {
        values[i] = given != NULL ? given[i] : otherwise;
        KLN_RETURN_IF(values[i] > REF_LARGEST || values[i] < -REF_LARGEST, KILN_ERROR_LIMIT,
                      "%s: %lld is past what is computed here", name, (long long)values[i]);
    }
    return KILN_OK;
}

static kiln_status check_window(const ref_window_shape *w)
{
    for (int i = 0; i < w->rank; i++) {
        KLN_RETURN_IF(w->kernel[i] <= 0 || w->stride[i] <= 0 || w->dilation[i] <= 0 ||
                          w->begin[i] < 0 || w->end[i] < 0 || w->kernel[i] > REF_LARGEST ||
                          w->input[i] > REF_LARGEST,
                      KILN_ERROR_INVALID_NETWORK,
                      "spatial dimension %d: a kernel of %lld, stride %lld, dilation %lld and "
                      "padding %lld and %lld make no window",
                      i, (long long)w->kernel[i], (long long)w->stride[i],
                      (long long)w->dilation[i], (long long)w->begin[i], (long long)w->end[i]);
    }
    return KILN_OK;
}

/* Dimension `i` of the window, without auto_pad and ceil_mode. */
static kln_window along_axis(const ref_window_shape *w, int i)
{
    return (kln_window){.stride = w->stride[i],
                        .dilation = w->dilation[i],
                        .before = w->begin[i],
                        .after = w->end[i]};
}

static void place_window(ref_window_shape *w, int i, const char *pad, bool up)
{
    kln_window one = along_axis(w, i);
    const bool lower = strcmp(pad, "SAME_LOWER") == 0;
    one.same = lower || strcmp(pad, "SAME_UPPER") == 0;
    one.up = up;
    const kln_dim places = kln_window_places(NULL, &one, KLN_DIM_OF_NUMBER(w->input[i]),
                                             KLN_DIM_OF_NUMBER(w->kernel[i]));
    w->output[i] = places.of.number > 0 ? places.of.number : 0;
    if (one.same) {
        const int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
        int64_t total = (w->output[i] - 1) * w->stride[i] + reach - w->input[i];
        total = total < 0 ? 0 : total;
        w->begin[i] = lower ? total - total / 2 : total / 2;
        w->end[i] = total - w->begin[i];
    }
}

kiln_status ref_window_read(const ref_call *call, const ref_tensor *x, const int64_t *kernel,
                            ref_window_shape *w)
{
    int64_t pads[2 * REF_RANK];
    w->rank = x->rank - 2;
    KLN_RETURN_IF(w->rank < 1, KILN_ERROR_RANK,
                  "a batch, channels and a spatial dimension are needed; "
                  "the input has %d dimensions",
                  x->rank);
    for (int i = 0; i < w->rank; i++) {
        w->input[i] = x->dims[i + 2];
        w->kernel[i] = kernel != NULL ? kernel[i] : 0;
    }
    if (kernel == NULL) {
        KLN_RETURN_IF_ERROR(ref_per_dimension(call, "kernel_shape", w->rank, 0, w->kernel));
    }
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "strides", w->rank, 1, w->stride));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "dilations", w->rank, 1, w->dilation));
    const char *automatic = ref_attribute_string(call, "auto_pad", "NOTSET");
    memset(pads, 0, sizeof pads);
    if (strcmp(automatic, "VALID") != 0) {
        KLN_RETURN_IF_ERROR(ref_per_dimension(call, "pads", 2 * w->rank, 0, pads));
    }
    memcpy(w->begin, pads, (size_t)w->rank * sizeof *pads);
    memcpy(w->end, pads + w->rank, (size_t)w->rank * sizeof *pads);
    KLN_RETURN_IF_ERROR(check_window(w));
    for (int i = 0; i < w->rank; i++) {
        place_window(w, i, automatic, ref_attribute_int(call, "ceil_mode", 0) != 0);
    }
    return KILN_OK;
}

typedef struct pooling {
    const ref_call *call;
    ref_window_shape window;
    ref_pool kind;
    double p;           /* for Lp */
    bool count_padding; /* Average: padding counts as zeros */
    bool column_major;  /* Max: order of the indices */
    int64_t in_size;
    int64_t out_size;
} pooling;

/* The offset of a window element, or -1 in the padding. `*counted`: it belongs to the padded input,
 * beyond which a last window in ceil_mode may reach. */
static int64_t place_element(const pooling *pool, int64_t output, int64_t element,
                             int64_t *column_major, bool *counted)
{
    const ref_window_shape *w = &pool->window;
    int64_t offset = 0;
    int64_t step = 1;
    bool inside = true;
    int64_t place[REF_RANK] = {0};
    *counted = true;
    for (int i = w->rank - 1; i >= 0; i--) {
        place[i] = output % w->output[i] * w->stride[i] - w->begin[i] +
                   element % w->kernel[i] * w->dilation[i];
        output /= w->output[i];
        element /= w->kernel[i];
        inside = inside && place[i] >= 0 && place[i] < w->input[i];
        *counted = *counted && place[i] < w->input[i] + w->end[i];
        offset += place[i] * step;
        step *= w->input[i];
    }
    *column_major = 0;
    step = 1;
    for (int i = 0; i < w->rank; i++) {
        *column_major += place[i] * step;
        step *= w->input[i];
    }
    return inside ? offset : -1;
}

typedef struct pooled {
    double value;
    int64_t count;
    int64_t best;
    int64_t index;
} pooled;

static void finish_window(const pooling *pool, const ref_tensor *x, pooled *result)
{
    if (pool->kind == REF_POOL_AVERAGE) {
        result->value = result->count > 0 ? result->value / (double)result->count : 0.0;
    } else if (pool->kind == REF_POOL_LP) {
        result->value = pow(result->value, 1.0 / pool->p);
    } else if (result->best < 0) {
        result->value =
            ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT ? -HUGE_VAL : ref_least(x->dtype);
    }
}

/* Adds the element at `at` of a window; returns whether it is the largest so far. */
static inline bool take(const pooling *pool, double v, int64_t at, pooled *result)
{
    if (pool->kind == REF_POOL_AVERAGE) {
        result->value += v;
    } else if (pool->kind == REF_POOL_LP) {
        result->value += pool->p == 2.0 ? v * v : pow(fabs(v), pool->p);
    } else if (result->best < 0 || v > result->value || (isnan(v) && !isnan(result->value))) {
        result->value = v;
        result->best = at;
        return true;
    }
    return false;
}

static void pool_window(const pooling *pool, const ref_tensor *x, int64_t plane, int64_t output,
                        pooled *result)
{
    const int64_t volume = ref_product(pool->window.kernel, 0, pool->window.rank);
    *result = (pooled){.value = 0.0, .best = -1};
    for (int64_t k = 0; k < volume; k++) {
        int64_t column_major = 0;
        bool counted = false;
        const int64_t at = place_element(pool, output, k, &column_major, &counted);
        result->count += at >= 0 || (pool->count_padding && counted);
        if (at < 0) {
            continue;
        }
        if (take(pool, ref_get_float(x, plane * pool->in_size + at), at, result)) {
            result->index = plane * pool->in_size + (pool->column_major ? column_major : at);
        }
    }
    finish_window(pool, x, result);
}

/* --- up to three spatial dimensions: finds elements without division --- */

typedef struct span {
    int64_t first, end; /* kernel elements inside the input */
    int64_t at;         /* of element 0, in the input */
    int64_t counted;    /* elements inside the padded input */
} span;

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static span make_span(const ref_window_shape *w, int i, int64_t output)
{
    span s = {.at = output * w->stride[i] - w->begin[i]};
    const int64_t step = w->dilation[i];
    const int64_t inside = w->input[i] - s.at;
    const int64_t padded = inside + w->end[i];
    s.first = s.at < 0 ? divide_up(-s.at, step) : 0;
    s.end = inside > 0 ? divide_up(inside, step) : 0;
    s.end = s.end < w->kernel[i] ? s.end : w->kernel[i];
    s.counted = padded > 0 ? divide_up(padded, step) : 0;
    s.counted = s.counted < w->kernel[i] ? s.counted : w->kernel[i];
    return s;
}

/* The window with three dimensions; missing leading ones are 1. */
static ref_window_shape in_space(const ref_window_shape *w)
{
    ref_window_shape three = {.rank = 3};
    for (int i = 0; i < 3; i++) {
        const int j = i - (3 - w->rank);
        three.input[i] = j < 0 ? 1 : w->input[j];
        three.output[i] = j < 0 ? 1 : w->output[j];
        three.kernel[i] = j < 0 ? 1 : w->kernel[j];
        three.stride[i] = j < 0 ? 1 : w->stride[j];
        three.dilation[i] = j < 0 ? 1 : w->dilation[j];
        three.begin[i] = j < 0 ? 0 : w->begin[j];
        three.end[i] = j < 0 ? 0 : w->end[j];
    }
    return three;
}

static void pool_row(const pooling *pool, const double *row, int64_t at, const span *x,
                     int64_t step, pooled *result)
{
    for (int64_t k = x->first; k < x->end; k++) {
        const int64_t place = x->at + k * step;
        (void)take(pool, row[place], at + place, result);
    }
}

static void pool_in_space(const pooling *pool, const ref_window_shape *w, const double *plane,
                          const span *z, const span *y, const span *x, pooled *result)
{
    *result = (pooled){.value = 0.0, .best = -1};
    for (int64_t i = z->first; i < z->end; i++) {
        for (int64_t j = y->first; j < y->end; j++) {
            const int64_t at =
                ((z->at + i * w->dilation[0]) * w->input[1] + y->at + j * w->dilation[1]) *
                w->input[2];
            pool_row(pool, plane + at, at, x, w->dilation[2], result);
        }
    }
    const span *const spans[3] = {z, y, x};
    result->count = 1;
    for (int i = 0; i < 3; i++) {
        const int64_t inside = spans[i]->end - spans[i]->first;
        result->count *= pool->count_padding ? spans[i]->counted : inside > 0 ? inside : 0;
    }
}

/* The index that MaxPool gives for the element at offset `best` of a plane. */
static int64_t index_in_plane(const pooling *pool, const ref_window_shape *w, int64_t best)
{
    if (!pool->column_major) {
        return best;
    }
    const int64_t x = best % w->input[2];
    const int64_t y = best / w->input[2] % w->input[1];
    const int64_t z = best / w->input[2] / w->input[1];
    return z + w->input[0] * (y + w->input[1] * x);
}

static kiln_status pool_planes(ref_call *call, const pooling *pool, const ref_tensor *x,
                               ref_tensor *y, ref_tensor *indices)
{
    const ref_window_shape w = in_space(&pool->window);
    double *plane = NULL;
    double *row = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)pool->in_size, sizeof *plane, &plane));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)w.output[2], sizeof *row, &row));
    for (int64_t i = 0; i < y->count; i += w.output[2]) {
        const int64_t of = i / pool->out_size;
        const int64_t line = i % pool->out_size / w.output[2];
        if (line == 0) {
            KLN_RETURN_IF_ERROR(ref_spend(call, 0));
            ref_load_float(x, of * pool->in_size, 1, pool->in_size, plane);
        }
        const span z = make_span(&w, 0, line / w.output[1]);
        const span s = make_span(&w, 1, line % w.output[1]);
        for (int64_t k = 0; k < w.output[2]; k++) {
            const span last = make_span(&w, 2, k);
            pooled result;
            pool_in_space(pool, &w, plane, &z, &s, &last, &result);
            const int64_t best = result.best;
            finish_window(pool, x, &result);
            row[k] = result.value;
            if (indices != NULL) {
                ref_put_int(indices, i + k,
                            best >= 0 ? of * pool->in_size + index_in_plane(pool, &w, best) : 0);
            }
        }
        ref_store_float(y, i, 1, w.output[2], row);
    }
    return KILN_OK;
}

static kiln_status ref_op_pool(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    ref_tensor *indices = NULL;
    pooling pool = {.call = call, .kind = (ref_pool)call->variant};
    KLN_RETURN_IF_ERROR(ref_window_read(call, x, NULL, &pool.window));
    pool.p = ref_attribute(call, "p") != NULL &&
                     ref_attribute(call, "p")->type == KLN_ONNX_ATTRIBUTE_FLOAT
                 ? ref_attribute_float(call, "p", 2.0)
                 : (double)ref_attribute_int(call, "p", 2);
    pool.count_padding = ref_attribute_int(call, "count_include_pad", 0) != 0;
    pool.column_major = ref_attribute_int(call, "storage_order", 0) != 0;
    int64_t dims[REF_RANK] = {x->dims[0], x->dims[1]};
    memcpy(dims + 2, pool.window.output, (size_t)pool.window.rank * sizeof *dims);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    if (ref_wants(call, 1)) {
        KLN_RETURN_IF_ERROR(ref_output(call, 1, KILN_DTYPE_INT64, x->rank, dims, &indices));
    }
    double work = (double)y->count;
    for (int i = 0; i < pool.window.rank; i++) {
        work *= (double)pool.window.kernel[i];
    }
    KLN_RETURN_IF_ERROR(ref_spend(call, work));
    pool.in_size = ref_product(x->dims, 2, x->rank);
    pool.out_size = ref_product(dims, 2, x->rank);
    if (pool.window.rank <= 3) {
        return pool_planes(call, &pool, x, y, indices);
    }
    for (int64_t i = 0; i < y->count; i++) {
        pooled result;
        pool_window(&pool, x, i / pool.out_size, i % pool.out_size, &result);
        ref_put_float(y, i, result.value);
        if (indices != NULL) {
            ref_put_int(indices, i, result.index);
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_global_pool(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    KLN_RETURN_IF(x->rank < 2, KILN_ERROR_RANK,
                  "2 dimensions or more are needed, batch and channels");
    int64_t dims[REF_RANK] = {x->dims[0], x->dims[1], 1, 1, 1, 1, 1, 1};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    const int64_t n = ref_product(x->dims, 2, x->rank);
    const double p = (double)ref_attribute_int(call, "p", 2);
    double *row = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *row, &row));
    for (int64_t i = 0; call->variant == REF_POOL_AVERAGE && i < y->count; i += REF_BESIDE) {
        const int64_t rows = y->count - i < REF_BESIDE ? y->count - i : REF_BESIDE;
        double sums[REF_BESIDE];
        ref_sum_rows(x, i * n, n, rows, n, NULL, sums);
        for (int64_t r = 0; r < rows; r++) {
            ref_put_float(y, i + r, n > 0 ? sums[r] / (double)n : 0.0);
        }
    }
    const float *floats = x->dtype == KILN_DTYPE_FLOAT32 ? x->data : NULL;
    for (int64_t i = 0; call->variant != REF_POOL_AVERAGE && i < y->count; i++) {
        float most = 0.0F;
        if (call->variant == REF_POOL_MAX && floats != NULL && n > 0 &&
            ref_find_extreme(floats + i * n, n, true, &most)) {
            /* The first of several zeros. */
            const int64_t at = most == 0.0F ? ref_find_equal(floats + i * n, n, most) : 0;
            ((float *)y->data)[i] = most == 0.0F ? floats[i * n + at] : most;
            continue;
        }
        ref_load_float(x, i * n, 1, n, row);
        double sum = call->variant == REF_POOL_MAX && n > 0 ? row[0] : 0.0;
        for (int64_t j = 0; j < n; j++) {
            sum = call->variant == REF_POOL_LP    ? sum + pow(fabs(row[j]), p)
                  : row[j] > sum || isnan(row[j]) ? row[j]
                                                  : sum;
        }
        ref_put_float(y, i, call->variant == REF_POOL_LP ? pow(sum, 1.0 / p) : sum);
    }
    return KILN_OK;
}

/* The spatial size that was pooled by a MaxPool with these attributes, unless a third input gives
 * it. */
static kiln_status unpooled_dims(ref_call *call, const ref_tensor *x, int64_t *dims)
{
    const int64_t *given = NULL;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 2, NULL, &given, &count));
    if (given != NULL) {
        KLN_RETURN_IF(count != (size_t)x->rank, KILN_ERROR_SHAPE,
                      "the output shape has %zu dimensions, not %d", count, x->rank);
        memcpy(dims, given, count * sizeof *dims);
        return KILN_OK;
    }
    ref_window_shape w = {.rank = x->rank - 2};
    int64_t pads[2 * REF_RANK];
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "kernel_shape", w.rank, 1, w.kernel));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "strides", w.rank, 1, w.stride));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "pads", 2 * w.rank, 0, pads));
    memcpy(dims, x->dims, 2 * sizeof *dims);
    for (int i = 0; i < w.rank; i++) {
        w.dilation[i] = 1;
        w.begin[i] = pads[i];
        w.end[i] = pads[i + w.rank];
        const kln_window one = along_axis(&w, i);
        dims[i + 2] = kln_window_span(NULL, &one, KLN_DIM_OF_NUMBER(x->dims[i + 2]),
                                      KLN_DIM_OF_NUMBER(w.kernel[i]))
                          .of.number;
    }
    return KILN_OK;
}

static kiln_status ref_op_max_unpool(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *indices = ref_input(call, 1);
    ref_tensor *y = NULL;
    int64_t dims[REF_RANK];
    KLN_RETURN_IF(x->rank < 3 || indices->count != x->count, KILN_ERROR_SHAPE,
                  "each element needs an index");
    KLN_RETURN_IF_ERROR(unpooled_dims(call, x, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    memset(y->data, 0, (size_t)y->count * ref_element_size(y->dtype));
    /* Indices refer to the tensor that was pooled; a given shape may only be larger. */
    int64_t pooled_dims[REF_RANK];
    ref_call without = *call;
    ref_node node = *call->node;
    node.input_count = 2;
    without.node = &node;
    KLN_RETURN_IF_ERROR(unpooled_dims(&without, x, pooled_dims));
    int64_t strides[REF_RANK];
    ref_dense_strides(x->rank, dims, strides);
    for (int64_t i = 0; i < x->count; i++) {
        int64_t index = ref_get_int(indices, i);
        int64_t to = 0;
        for (int j = x->rank - 1; j >= 0; j--) {
            const int64_t size = pooled_dims[j] > 0 ? pooled_dims[j] : 1;
            to += index % size * strides[j];
            index /= size;
        }
        KLN_RETURN_IF(to < 0 || to >= y->count || index != 0, KILN_ERROR_INVALID_NETWORK,
                      "index %lld lies outside the output", (long long)ref_get_int(indices, i));
        ref_put_float(y, to, ref_get_float(x, i));
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_pooling[] = {
    REF_OP("MaxPool", 1, pool, REF_POOL_MAX, "n"),
    REF_OP("AveragePool", 1, pool, REF_POOL_AVERAGE, "n"),
    REF_OP("LpPool", 2, pool, REF_POOL_LP, "n"),
    REF_OP("GlobalMaxPool", 1, global_pool, REF_POOL_MAX, "f"),
    REF_OP("GlobalAveragePool", 1, global_pool, REF_POOL_AVERAGE, "f"),
    REF_OP("GlobalLpPool", 2, global_pool, REF_POOL_LP, "f"),
    REF_OP("MaxUnpool", 9, max_unpool, 0, "fn"),
    REF_KERNELS_END
};
/* clang-format on */
