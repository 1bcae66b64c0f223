/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_exp.h"
#include "ref_ops.h"
#include "ref_product.h"
#include "ref_rows.h"

/* Q, K or V as [batch, heads, length, size], read from that layout or from [batch, length, heads *
 * size]. */
typedef struct heads {
    int64_t batch, heads, length, size;
    const float *floats; /* the input itself, if it has this layout; else NULL */
    double *values;
} heads;

typedef struct attention {
    heads q, k, v;
    const ref_tensor *mask;
    const ref_tensor *lengths; /* number of keys without padding, by batch */
    int64_t past;              /* keys in the cache */
    int64_t group;             /* query heads that share a key head */
    double scale, softcap;
    bool causal;
    int64_t left, right; /* of a sliding window; -1: none */
    int64_t mode;        /* of the scores output */
    bool is_exact;       /* a double represents each product of a query and a key exactly */
    bool is_near;        /* approximate results are allowed if their error bound is small enough */
    double *scores, *weights; /* for QUERIES rows and each key */
    double *bias;             /* for one row */
    double *out;              /* for QUERIES rows */
    ref_tensor *kept, *y;
} attention;

#define QUERIES 64                  /* of one head, at a time */
#define FARTHEST (INT64_C(1) << 40) /* longer than any sequence */

/* `in_place`: uses the input's memory if it already has the needed layout. */
static kiln_status read_heads(ref_call *call, size_t index, int64_t count, bool in_place, heads *h)
{
    const ref_tensor *x = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, index, &x));
    if (in_place && x->rank == 4 && x->dtype == KILN_DTYPE_FLOAT32) {
        h->floats = x->data;
    } else {
        KLN_RETURN_IF_ERROR(ref_doubles(call, x, &h->values));
    }
    h->batch = x->rank > 0 ? x->dims[0] : 0;
    if (x->rank == 4) {
        h->heads = x->dims[1];
        h->length = x->dims[2];
        h->size = x->dims[3];
        return KILN_OK;
    }
    KLN_RETURN_IF(x->rank != 3 || count <= 0 || x->dims[2] < count || x->dims[2] % count != 0,
                  KILN_ERROR_SHAPE, "input %zu does not fall into %lld heads", index,
                  (long long)count);
    h->heads = count;
    h->length = x->dims[1];
    h->size = x->dims[2] / count;
    double *turned = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)x->count, sizeof *turned, &turned));
    const int64_t dims[4] = {h->batch, h->heads, h->length, h->size};
    const int64_t from[4] = {h->length * x->dims[2], h->size, x->dims[2], 1};
    int64_t to[4];
    ref_dense_strides(4, dims, to);
    ref_copy_strided(sizeof(double), 4, dims, turned, to, h->values, from);
    h->values = turned;
    return KILN_OK;
}

/* Joins keys or values to those of the cache, and writes both to the output. */
static kiln_status read_joined(ref_call *call, size_t past_index, size_t output, int64_t count,
                               heads *h, int64_t *past)
{
    const ref_tensor *cache = ref_input(call, past_index);
    const bool in_place = cache == NULL && !ref_wants(call, output);
    KLN_RETURN_IF_ERROR(read_heads(call, output, count, in_place, h));
    const kiln_dtype dtype = ref_input(call, output)->dtype;
    if (cache != NULL) {
        KLN_RETURN_IF(cache->rank != 4 || cache->dims[0] != h->batch ||
                          cache->dims[1] != h->heads || cache->dims[3] != h->size,
                      KILN_ERROR_SHAPE, "input %zu does not fit what it is joined with",
                      past_index);
        *past = cache->dims[2];
        const int64_t length = *past + h->length;
        double *joined = NULL;
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(h->batch * h->heads * length * h->size),
                                        sizeof *joined, &joined));
        const int64_t old_row = *past * h->size;
        const int64_t new_row = h->length * h->size;
        for (int64_t i = 0; i < h->batch * h->heads; i++) {
            double *to = joined + i * length * h->size;
            ref_load_float(cache, i * old_row, 1, old_row, to);
            memcpy(to + old_row, h->values + i * new_row, (size_t)new_row * sizeof *to);
        }
        h->values = joined;
        h->length = length;
    }
    if (ref_wants(call, output)) {
        const int64_t dims[4] = {h->batch, h->heads, h->length, h->size};
        ref_tensor *present = NULL;
        KLN_RETURN_IF_ERROR(ref_output(call, output, dtype, 4, dims, &present));
        ref_store_float(present, 0, 1, present->count, h->values);
    }
    return KILN_OK;
}

/* The offset of a row of the mask. */
static int64_t mask_row(const ref_tensor *mask, const int64_t place[3])
{
    int64_t at = 0;
    for (int i = 0; i < mask->rank; i++) {
        const int64_t p = i == mask->rank - 1 ? 0 : place[4 - mask->rank + i];
        at = at * mask->dims[i] + (mask->dims[i] == 1 ? 0 : p);
    }
    return at;
}

/* The bias that is added to the scores of a query. */
typedef enum bias_kind { BIAS_NONE, BIAS_SOME, BIAS_HIDES_ALL } bias_kind;

static bias_kind find_bias(const attention *a, int64_t batch, int64_t head, int64_t query,
                           double *bias)
{
    const ref_tensor *m = a->mask;
    const int64_t keys = a->k.length;
    const int64_t given = a->lengths != NULL ? ref_get_int(a->lengths, batch) : keys;
    const int64_t valid = ref_clamp_int(given, -FARTHEST, FARTHEST);
    const int64_t offset = a->lengths != NULL && a->past == 0 ? valid - a->q.length : a->past;
    const int64_t place[3] = {batch, head, query};
    int64_t known = keys; /* keys that the mask covers */
    if (m != NULL) {
        const int64_t last = m->dims[m->rank - 1];
        known = last == 1 || last > keys ? keys : last;
        ref_load_float(m, mask_row(m, place), last == 1 ? 0 : 1, known, bias);
    }
    int64_t begin = a->left >= 0 ? query + offset - a->left : 0;
    int64_t end = known < valid ? known : valid;
    end = a->causal && query + offset + 1 < end ? query + offset + 1 : end;
    end =
        a->right >= 0 && query + offset + a->right + 1 < end ? query + offset + a->right + 1 : end;
    begin = begin < 0 ? 0 : begin;
    if (m == NULL && begin == 0 && end == keys) {
        return BIAS_NONE;
    }
    bool seen = false;
    for (int64_t i = 0; i < keys; i++) {
        if (i < begin || i >= end || m == NULL) {
            bias[i] = i < begin || i >= end ? -HUGE_VAL : 0.0;
        } else if (m->dtype == KILN_DTYPE_BOOL) {
            bias[i] = bias[i] != 0.0 ? 0.0 : -HUGE_VAL;
        }
        seen = seen || bias[i] != -HUGE_VAL;
    }
    return seen ? BIAS_SOME : BIAS_HIDES_ALL;
}

static void keep(const attention *a, int64_t row, int64_t mode, const double *scores)
{
    if (a->kept != NULL && a->mode == mode) {
        ref_store_float(a->kept, row * a->k.length, 1, a->k.length, scores);
    }
}

/* --- exact computation --- */

/* Softmax; a row with all keys masked becomes 0. */
static void soften(int64_t n, const double *scores, bool masked, double *weights)
{
    double most = -HUGE_VAL;
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        most = scores[i] > most || isnan(scores[i]) ? scores[i] : most;
    }
    for (int64_t i = 0; i < n; i++) {
        weights[i] = masked ? 0.0 : exp(scores[i] - most);
        sum += weights[i];
    }
    for (int64_t i = 0; i < n && !masked; i++) {
        weights[i] /= sum;
    }
}

/* Sums values by their weights. A value that is not finite is skipped if its weight is 0. */
static void add_values(const attention *a, const double *weights, const ref_matrix *values,
                       bool finite, double *out)
{
    const int64_t size = a->v.size;
    memset(out, 0, (size_t)size * sizeof *out);
    if (finite) {
        ref_matrix rounded = *values;
        rounded.exact = false;
        ref_multiply_matrix(1, a->k.length, size, weights, a->k.length, &rounded, out, size);
        return;
    }
    for (int64_t i = 0; i < a->k.length * size; i++) {
        const double v = values->floats != NULL ? (double)values->floats[i] : values->doubles[i];
        out[i % size] += weights[i / size] != 0.0 ? weights[i / size] * v : 0.0;
    }
}

/* --- queries of one head --- */

#define PARTS 16

/* The maximum; NaNs are skipped. */
REF_WIDE static double greatest_score(int64_t n, const double *values)
{
    double most[PARTS];
    for (int k = 0; k < PARTS; k++) {
        most[k] = -HUGE_VAL;
    }
    for (int64_t i = 0; i + PARTS <= n; i += PARTS) {
        for (int k = 0; k < PARTS; k++) {
            most[k] = values[i + k] > most[k] ? values[i + k] : most[k];
        }
    }
    for (int64_t i = n - n % PARTS; i < n; i++) {
        most[0] = values[i] > most[0] ? values[i] : most[0];
    }
    for (int k = 1; k < PARTS; k++) {
        most[0] = most[k] > most[0] ? most[k] : most[0];
    }
    return most[0];
}

REF_WIDE static void multiply_scores(int64_t n, double factor, double *values)
{
    for (int64_t i = 0; i < n; i++) {
        values[i] *= factor;
    }
}

/* Softmax weights of a row, each with a relative error of at most 2^-47 + 2^-52 n; false if that
 * cannot be guaranteed. */
static bool soften_near(int64_t n, const double *scores, double *weights)
{
    const double most = greatest_score(n, scores);
    if (isfinite(most)) {
        multiply_scores(n, 1.0 / ref_exp_row_of_doubles(n, scores, most, weights), weights);
    }
    return isfinite(most);
}

/* The largest magnitude of `count` values; not finite if one of them is not. */
static double greatest_value(const ref_matrix *values, int64_t count)
{
    float least = 0.0F;
    float most = 0.0F;
    double found = 0.0;
    if (values->floats != NULL && count > 0) {
        return ref_find_extreme(values->floats, count, true, &most) &&
                       ref_find_extreme(values->floats, count, false, &least)
                   ? fmax((double)most, -(double)least)
                   : (double)NAN;
    }
    for (int64_t i = 0; i < count; i++) {
        found = ref_greater(found, fabs(values->doubles[i]));
    }
    return found;
}

static ref_matrix matrix_of(const heads *h, int64_t head, int64_t row, int64_t column, bool exact)
{
    const int64_t at = head * h->length * h->size;
    return (ref_matrix){.floats = h->floats != NULL ? h->floats + at : NULL,
                        .doubles = h->floats != NULL ? NULL : h->values + at,
                        .row = row,
                        .column = column,
                        .exact = exact};
}

/* The scores of `rows` queries, from row `first` of all on, before the softmax; `seen`: whether
 * each sees a key. */
static void find_scores(const attention *a, int64_t first, int64_t rows, const ref_matrix *keys,
                        bool seen[QUERIES])
{
    const int64_t n = a->k.length;
    memset(a->scores, 0, (size_t)(rows * n) * sizeof *a->scores);
    ref_multiply_matrix(rows, a->q.size, n, a->q.values + first * a->q.size, a->q.size, keys,
                        a->scores, n);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = first + r;
        const int64_t head = row / a->q.length;
        double *s = a->scores + r * n;
        multiply_scores(n, a->scale, s);
        keep(a, row, 0, s);
        for (int64_t i = 0; a->softcap > 0.0 && i < n; i++) {
            s[i] = a->softcap * tanh(s[i] / a->softcap);
        }
        keep(a, row, 1, s);
        const bias_kind bias =
            find_bias(a, head / a->q.heads, head % a->q.heads, row % a->q.length, a->bias);
        seen[r] = bias != BIAS_HIDES_ALL;
        for (int64_t i = 0; (bias != BIAS_NONE || a->kept != NULL) && i < n; i++) {
            s[i] += bias != BIAS_NONE ? a->bias[i] : 0.0; /* also turns -0 into 0 */
        }
        keep(a, row, 2, s);
    }
}

/* Computes `rows` queries of one head, from row `first` of all on; where[r] is the offset of each
 * result in y. */
static void attend(const attention *a, int64_t first, int64_t rows, const int64_t *where)
{
    const int64_t n = a->k.length;
    const int64_t size = a->v.size;
    const int64_t head = first / a->q.length;
    const int64_t shared = head / a->q.heads * a->k.heads + head % a->q.heads / a->group;
    const ref_matrix keys = matrix_of(&a->k, shared, 1, a->k.size, a->is_exact);
    const ref_matrix values = matrix_of(&a->v, shared, size, 1, true);
    const double most = greatest_value(&values, n * size);
    double doubts[REF_DOUBTS];
    bool seen[QUERIES];
    bool sure[QUERIES] = {false};
    find_scores(a, first, rows, &keys, seen);
    for (int64_t r = 0; r < rows && a->is_near; r++) {
        sure[r] = seen[r] && soften_near(n, a->scores + r * n, a->weights + r * n);
    }
    if (a->is_near) {
        memset(a->out, 0, (size_t)(rows * size) * sizeof *a->out);
        ref_multiply_matrix(rows, n, size, a->weights, n, &values, a->out, size);
        for (int i = 0; i < REF_DOUBTS; i++) {
            /* Errors of the weights and of the sums, and weights below e^-150, which count as
             * that. */
            doubts[i] = most * (0x1p-46 + (double)n * 0x1p-51);
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        double *weights = a->weights + r * n;
        double *out = a->out + r * size;
        if (sure[r] && ref_round_within(size, out, doubts, 1.0, (float *)a->y->data + where[r])) {
            continue;
        }
        soften(n, a->scores + r * n, !seen[r], weights);
        keep(a, first + r, 3, weights);
        add_values(a, weights, &values, isfinite(most), out);
        ref_store_float(a->y, where[r], 1, size, out);
    }
}

static kiln_status check_mask(const attention *a)
{
    const int64_t dims[4] = {a->q.batch, a->q.heads, a->q.length, a->k.length};
    bool fits = a->mask == NULL || (a->mask->rank >= 1 && a->mask->rank <= 4);
    for (int i = 0; fits && a->mask != NULL && i < a->mask->rank; i++) {
        const int64_t dim = a->mask->dims[i];
        const int64_t full = dims[4 - a->mask->rank + i];
        fits = dim == full || dim == 1 || (i == a->mask->rank - 1 && dim < full);
    }
    return fits ? KILN_OK
                : kln_fail(KILN_ERROR_SHAPE,
                           "the mask must broadcast to batches x heads x queries x keys");
}

static kiln_status read_attention(ref_call *call, attention *a)
{
    const int64_t q_heads = ref_attribute_int(call, "q_num_heads", 0);
    const int64_t kv_heads = ref_attribute_int(call, "kv_num_heads", 0);
    int64_t past_values = 0;
    KLN_RETURN_IF_ERROR(read_heads(call, 0, q_heads, false, &a->q));
    KLN_RETURN_IF_ERROR(read_joined(call, 4, 1, kv_heads, &a->k, &a->past));
    KLN_RETURN_IF_ERROR(read_joined(call, 5, 2, kv_heads, &a->v, &past_values));
    a->mask = ref_input(call, 3);
    a->lengths = ref_input(call, 6);
    KLN_RETURN_IF(
        a->k.heads <= 0 || a->q.heads % a->k.heads != 0 || a->k.heads != a->v.heads ||
            a->q.size != a->k.size || a->k.length != a->v.length || a->q.batch != a->k.batch ||
            a->q.batch != a->v.batch || (a->lengths != NULL && a->lengths->count != a->q.batch),
        KILN_ERROR_SHAPE,
        "queries, keys and values need the same batches, queries and keys the same head size, "
        "keys and values the same heads and length, and queries a multiple of their heads");
    a->group = a->q.heads / a->k.heads;
    a->scale = ref_attribute_float(call, "scale", 1.0 / sqrt((double)a->q.size));
    a->softcap = ref_attribute_float(call, "softcap", 0.0);
    a->causal = ref_attribute_int(call, "is_causal", 0) != 0;
    a->left = ref_clamp_int(ref_attribute_int(call, "left_window_size", -1), -1, FARTHEST);
    a->right = ref_clamp_int(ref_attribute_int(call, "right_window_size", -1), -1, FARTHEST);
    a->mode = ref_attribute_int(call, "qk_matmul_output_mode", 0);
    return check_mask(a);
}

static kiln_status ref_op_attention(ref_call *call)
{
    attention a = {.past = 0};
    KLN_RETURN_IF_ERROR(read_attention(call, &a));
    const ref_tensor *q = ref_input(call, 0);
    const heads *v = &a.v;
    const int64_t four[4] = {a.q.batch, a.q.heads, a.q.length, v->size};
    const int64_t three[3] = {a.q.batch, a.q.length, a.q.heads * v->size};
    const int64_t kept[4] = {a.q.batch, a.q.heads, a.q.length, a.k.length};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, q->dtype, q->rank, q->rank == 4 ? four : three, &a.y));
    if (ref_wants(call, 3)) {
        KLN_RETURN_IF_ERROR(ref_output(call, 3, q->dtype, 4, kept, &a.kept));
    }
    const int64_t rows = a.q.batch * a.q.heads * a.q.length;
    const int64_t dims[2] = {QUERIES, 2 * a.k.length + v->size + 1};
    int64_t room = 0;
    KLN_RETURN_IF_ERROR(ref_count(2, dims, &room));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)room, sizeof *a.scores, &a.scores));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)a.k.length, sizeof *a.bias, &a.bias));
    a.weights = a.scores + QUERIES * a.k.length;
    a.out = a.weights + QUERIES * a.k.length;
    a.is_near = q->dtype == KILN_DTYPE_FLOAT32 && (a.kept == NULL || a.mode != 3);
    a.is_exact = ref_is_exact(q->dtype, ref_input(call, 1)->dtype) &&
                 ref_is_exact(q->dtype, ref_input(call, 2)->dtype);
    KLN_RETURN_IF_ERROR(
        ref_spend(call, (double)rows * (double)a.k.length * (double)(a.q.size + v->size + 1)));
    int64_t count = 0;
    for (int64_t i = 0; i < rows; i += count) {
        const int64_t head = i / a.q.length;
        const int64_t left = (head + 1) * a.q.length - i;
        int64_t where[QUERIES];
        count = left < QUERIES ? left : QUERIES;
        for (int64_t r = 0; r < count; r++) {
            const int64_t place = (head / a.q.heads * a.q.length + (i + r) % a.q.length);
            where[r] = (q->rank == 4 ? i + r : place * a.q.heads + head % a.q.heads) * v->size;
        }
        KLN_RETURN_IF_ERROR(ref_spend(call, 0));
        attend(&a, i, count, where);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_attention[] = {
    REF_OP("Attention", 23, attention, 0),
    REF_KERNELS_END
};
/* clang-format on */
