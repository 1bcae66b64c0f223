/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_exp.h"
#include "ref_ops.h"
#include "ref_rows.h"

/* The index of the first maximum, or of the first NaN. */
static int64_t find_place(int64_t n, const double *v)
{
    const ref_extremes *of = ref_extremes_of(KILN_DTYPE_FLOAT64);
    double most = 0.0;
    int64_t place = 0;
    if (!of->find[1](v, n, &most)) {
        return of->equal[0](v, n, &most);
    }
    while (!isnan(v[place])) {
        place++;
    }
    return place;
}

REF_WIDE static void divide_row(int64_t n, double sum, double *v)
{
    for (int64_t i = 0; i < n; i++) {
        v[i] /= sum;
    }
}

static void soften(ref_softmax kind, int64_t n, double *v)
{
    const int64_t best = find_place(n, v);
    if (kind == REF_HARDMAX) {
        for (int64_t i = 0; i < n; i++) {
            v[i] = i == best;
        }
        return;
    }
    const double most = v[best];
    double sum = 0.0;
    if (kind == REF_SOFTMAX) {
        for (int64_t i = 0; i < n; i++) {
            v[i] = exp(v[i] - most);
            sum += v[i];
        }
        divide_row(n, sum, v);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        v[i] -= most;
        sum += exp(v[i]);
    }
    const double log_sum = sum > 0.0 || isnan(sum) ? log(sum) : 0.0; /* a row is never empty */
    for (int64_t i = 0; i < n; i++) {
        v[i] -= log_sum;
    }
}

/* --- floats, several at a time ---
 *
 * The result of soften is within `doubt` of what is computed here: the exponentials differ by at
 * most 2^-49, and their sum, in whatever order, by n 2^-52 more. If both ends of this range round
 * to the same float, that is the result; otherwise soften computes it. For more than LONGEST terms
 * the sum computed here is closer to the exact one than an in-order sum, and is used. */

#define WIDTH 64
#define LONGEST 4096

static double doubt_of(int64_t n)
{
    return n <= LONGEST ? 0x1p-47 + (double)n * 0x1p-52 : 0.0;
}

REF_WIDE static void scale_all(const double *e, int64_t n, double factor, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)(e[i] * factor);
    }
}

/* Computes y = e * low; returns false if e * high rounds to a different float anywhere. */
REF_WIDE static bool scale_row(const double *e, int64_t n, double low, double high, float *y)
{
    int32_t unsure = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)(e[i] * low);
        unsure |= y[i] != (float)(e[i] * high);
    }
    return unsure == 0;
}

REF_WIDE static bool lower_row(const float *x, int64_t n, double most, double low, double high,
                               float *y)
{
    int32_t unsure = 0;
    for (int64_t i = 0; i < n; i++) {
        const double rest = (double)x[i] - most;
        y[i] = (float)(rest - low);
        unsure |= y[i] != (float)(rest - high);
    }
    return unsure == 0;
}

static bool soften_floats(ref_softmax kind, const float *x, int64_t n, double *e, float *y)
{
    float most = 0.0F;
    if (!ref_find_extreme(x, n, true, &most) || !isfinite(most)) {
        return false;
    }
    const double doubt = doubt_of(n);
    const double sum = (n <= LONGEST ? ref_exp_row_near : ref_exp_row)(n, x, (double)most, e);
    if (kind == REF_SOFTMAX && n > LONGEST) {
        scale_all(e, n, 1.0 / sum, y);
        return true;
    }
    if (kind == REF_SOFTMAX) {
        return scale_row(e, n, (1.0 - doubt) / sum, (1.0 + doubt) / sum, y);
    }
    return lower_row(x, n, (double)most, log(sum) - doubt, log(sum) + doubt, y);
}

/* Adjacent columns, whose elements are `stride` apart. */
typedef struct columns {
    int64_t n, width, stride;
    double most[WIDTH], low[WIDTH], high[WIDTH];
    int32_t unsure[WIDTH];
} columns;

REF_WIDE static void find_most(columns *c, const float *x)
{
    float most[WIDTH];
    memcpy(most, x, (size_t)c->width * sizeof *x);
    for (int64_t i = 0; i < c->n; i++) {
        const float *row = x + i * c->stride;
        for (int64_t k = 0; k < c->width; k++) {
            most[k] = row[k] > most[k] ? row[k] : most[k];
            c->unsure[k] |= row[k] != row[k];
        }
    }
    for (int64_t k = 0; k < c->width; k++) {
        c->unsure[k] |= !isfinite(most[k]);
        c->most[k] = (double)most[k];
    }
}

static void grow_columns(columns *c, const float *x, double *e)
{
    void (*const grow)(int64_t, const float *, const double *, double *, double *) =
        c->n <= LONGEST ? ref_exp_each_near : ref_exp_each;
    for (int64_t i = 0; i < c->n; i++) {
        grow(c->width, x + i * c->stride, c->most, e + i * c->width, c->low);
    }
}

REF_WIDE static void scale_columns(columns *c, const double *e, float *y)
{
    for (int64_t i = 0; i < c->n; i++) {
        const double *row = e + i * c->width;
        float *to = y + i * c->stride;
        for (int64_t k = 0; k < c->width; k++) {
            to[k] = (float)(row[k] * c->low[k]);
            c->unsure[k] |= to[k] != (float)(row[k] * c->high[k]);
        }
    }
}

REF_WIDE static void lower_columns(columns *c, const float *x, float *y)
{
    for (int64_t i = 0; i < c->n; i++) {
        const float *row = x + i * c->stride;
        float *to = y + i * c->stride;
        for (int64_t k = 0; k < c->width; k++) {
            const double rest = (double)row[k] - c->most[k];
            to[k] = (float)(rest - c->low[k]);
            c->unsure[k] |= to[k] != (float)(rest - c->high[k]);
        }
    }
}

static void soften_columns(ref_softmax kind, columns *c, const float *x, double *e, float *y)
{
    const double doubt = doubt_of(c->n);
    find_most(c, x);
    grow_columns(c, x, e);
    for (int64_t k = 0; k < c->width; k++) {
        const double sum = c->low[k];
        c->low[k] = kind == REF_SOFTMAX ? (1.0 - doubt) / sum : log(sum) - doubt;
        c->high[k] = kind == REF_SOFTMAX ? (1.0 + doubt) / sum : log(sum) + doubt;
    }
    if (kind == REF_SOFTMAX) {
        scale_columns(c, e, y);
    } else {
        lower_columns(c, x, y);
    }
}

REF_WIDE static int32_t mark_equal(const float *x, int64_t n, float value, float *y)
{
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = x[i] == value ? 1.0F : 0.0F;
        count += x[i] == value;
    }
    return count;
}

/* Writes 1 at the only maximum of a row of floats; false if there are several, or if an element is
 * NaN. */
static bool mark_greatest(const float *x, int64_t n, float *y)
{
    float most = 0.0F;
    return ref_find_extreme(x, n, true, &most) && mark_equal(x, n, most, y) == 1;
}

static void mark_columns(columns *c, const float *x, float *y)
{
    int32_t places[REF_COLUMNS];
    ref_place_columns(KILN_DTYPE_FLOAT32, x, c->stride, c->n, c->width, true, false, places);
    for (int64_t i = 0; i < c->n; i++) {
        memset(y + i * c->stride, 0, (size_t)c->width * sizeof *y);
    }
    for (int64_t k = 0; k < c->width; k++) {
        c->unsure[k] = places[k] < 0;
        y[(places[k] < 0 ? 0 : places[k]) * c->stride + k] = 1.0F;
    }
}

static void soften_one(ref_softmax kind, const ref_tensor *x, int64_t start, int64_t n,
                       int64_t inner, double *room, ref_tensor *y)
{
    ref_load_float(x, start, inner, n, room);
    soften(kind, n, room);
    ref_store_float(y, start, inner, n, room);
}

/* Processes as many adjacent rows at a time as possible, starting at `start`, and returns how
 * many. */
static int64_t soften_some(ref_softmax kind, const ref_tensor *x, int64_t start, int64_t n,
                           int64_t inner, double *room, ref_tensor *y)
{
    const bool floats = x->dtype == KILN_DTYPE_FLOAT32;
    const bool hard = kind == REF_HARDMAX;
    const float *from = (const float *)x->data + (floats ? start : 0);
    float *to = (float *)y->data + (floats ? start : 0);
    if (!floats || inner == 1) {
        if (!floats ||
            !(hard ? mark_greatest(from, n, to) : soften_floats(kind, from, n, room, to))) {
            soften_one(kind, x, start, n, inner, room, y);
        }
        return 1;
    }
    const int64_t left = inner - start % inner;
    columns c = {.n = n, .width = left < WIDTH ? left : WIDTH, .stride = inner};
    if (hard) {
        mark_columns(&c, from, to);
    } else {
        soften_columns(kind, &c, from, room, to);
    }
    for (int64_t k = 0; k < c.width; k++) {
        if (c.unsure[k] != 0) {
            soften_one(kind, x, start + k, n, inner, room, y);
        }
    }
    return c.width;
}

static kiln_status ref_op_softmax(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    if (x->count == 0) {
        return KILN_OK;
    }
    /* Up to version 12 all dimensions from the axis on were treated as one row. */
    const bool flat = call->node->version < 13;
    const int64_t given = ref_attribute_int(call, "axis", flat ? 1 : -1);
    if (flat && given == x->rank) {
        axis = x->rank;
    } else {
        KLN_RETURN_IF_ERROR(ref_axis(call, given, x->rank, &axis));
    }
    const int64_t inner = flat ? 1 : ref_product(x->dims, axis + 1, x->rank);
    const int64_t n = flat ? ref_product(x->dims, axis, x->rank) : x->dims[axis];
    double *room = NULL;
    const size_t beside = inner < WIDTH ? (size_t)inner : WIDTH;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n * beside, sizeof *room, &room));
    for (int64_t i = 0; i < x->count / n;) {
        const int64_t start = i / inner * n * inner + i % inner;
        i += soften_some((ref_softmax)call->variant, x, start, n, inner, room, y);
    }
    return KILN_OK;
}

static void cumulate_row(const ref_tensor *x, ref_tensor *y, int64_t start, int64_t step, int64_t n,
                         bool exclusive, bool product)
{
    const bool is_float = ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT;
    double total = product ? 1.0 : 0.0;
    uint64_t whole = product ? 1 : 0;
    for (int64_t at = 0; at < n; at += REF_CHUNK) {
        const int64_t count = n - at < REF_CHUNK ? n - at : REF_CHUNK;
        double floats[REF_CHUNK];
        int64_t ints[REF_CHUNK];
        if (is_float) {
            ref_load_float(x, start + at * step, step, count, floats);
        } else {
            ref_load_int(x, start + at * step, step, count, ints);
        }
        for (int64_t i = 0; is_float && i < count; i++) {
            const double after = product ? total * floats[i] : total + floats[i];
            floats[i] = exclusive ? total : after;
            total = after;
        }
        for (int64_t i = 0; !is_float && i < count; i++) {
            const uint64_t v = (uint64_t)ints[i];
            const uint64_t after = product ? whole * v : whole + v;
            ints[i] = (int64_t)(exclusive ? whole : after);
            whole = after;
        }
        if (is_float) {
            ref_store_float(y, start + at * step, step, count, floats);
        } else {
            ref_store_int(y, start + at * step, step, count, ints);
        }
    }
}

/* Cumulative sums or products along an axis, of `inner` adjacent columns, in double. */
static kiln_status cumulate_columns(ref_call *call, const ref_tensor *x, ref_tensor *y, int64_t n,
                                    int64_t inner, bool exclusive, bool reverse)
{
    const bool product = call->variant == 1;
    double *totals = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)inner, sizeof *totals, &totals));
    for (int64_t start = 0; start < x->count; start += n * inner) {
        for (int64_t k = 0; k < inner; k++) {
            totals[k] = product ? 1.0 : 0.0;
        }
        for (int64_t i = 0; i < n; i++) {
            const int64_t at = start + (reverse ? n - 1 - i : i) * inner;
            const float *from = (const float *)x->data + at;
            float *to = (float *)y->data + at;
            for (int64_t k = 0; exclusive && k < inner; k++) {
                to[k] = (float)totals[k];
            }
            for (int64_t k = 0; !product && k < inner; k++) {
                totals[k] += (double)from[k];
            }
            for (int64_t k = 0; product && k < inner; k++) {
                totals[k] *= (double)from[k];
            }
            for (int64_t k = 0; !exclusive && k < inner; k++) {
                to[k] = (float)totals[k];
            }
        }
    }
    return KILN_OK;
}

/* Cumulative sums or products of a row of floats. */
static void cumulate_floats(const float *x, float *y, int64_t step, int64_t n, bool exclusive,
                            bool product)
{
    double total = product ? 1.0 : 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double v = (double)x[i * step];
        const double after = product ? total * v : total + v;
        y[i * step] = (float)(exclusive ? total : after);
        total = after;
    }
}

/* CumSum, and CumProd as variant 1. */
static kiln_status ref_op_cumulate(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *where = ref_input(call, 1);
    ref_tensor *y = NULL;
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_get_int(where, 0), x->rank, &axis));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const bool exclusive = ref_attribute_int(call, "exclusive", 0) != 0;
    const bool reverse = ref_attribute_int(call, "reverse", 0) != 0;
    const int64_t n = x->dims[axis];
    const int64_t inner = ref_product(x->dims, axis + 1, x->rank);
    const bool floats = x->dtype == KILN_DTYPE_FLOAT32;
    if (floats && inner >= 8) {
        return cumulate_columns(call, x, y, n, inner, exclusive, reverse);
    }
    for (int64_t i = 0; x->count > 0 && i < x->count / n; i++) {
        const int64_t start = i / inner * n * inner + i % inner;
        if (floats) {
            const int64_t first = reverse ? start + (n - 1) * inner : start;
            cumulate_floats((const float *)x->data + first, (float *)y->data + first,
                            reverse ? -inner : inner, n, exclusive, call->variant == 1);
            continue;
        }
        cumulate_row(x, y, reverse ? start + (n - 1) * inner : start, reverse ? -inner : inner, n,
                     exclusive, call->variant == 1);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_softmax[] = {
    REF_OP("Softmax", 1, softmax, REF_SOFTMAX, "f"),
    REF_OP("LogSoftmax", 1, softmax, REF_LOG_SOFTMAX, "f"),
    REF_OP("Hardmax", 1, softmax, REF_HARDMAX, "f"),
    REF_OP("CumSum", 11, cumulate, 0, "n1"),
    REF_OP("CumProd", 26, cumulate, 1, "n1"),
    REF_KERNELS_END
};
/* clang-format on */
