/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* Q, K or V as [batch, heads, length, size], from that form or from [batch, length, heads * size].
 */
typedef struct heads {
    int64_t batch, heads, length, size;
    double *values;
} heads;

typedef struct attention {
    heads q, k, v;
    const ref_tensor *mask;
    const ref_tensor *lengths; /* of keys that are no padding, by batch */
    int64_t past;              /* keys of the cache */
    int64_t group;             /* query heads that share a key head */
    double scale, softcap;
    bool causal;
    int64_t left, right; /* of a sliding window, or -1 */
    int64_t mode;        /* of the output of scores */
    double *scores;      /* of one query */
    ref_tensor *kept;
} attention;

static kiln_status read_heads(ref_call *call, size_t index, int64_t count, heads *h)
{
    const ref_tensor *x = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, index, &x));
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &h->values));
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

/* Puts the cache in front of the keys or values, and writes both out. */
static kiln_status join_cache(ref_call *call, size_t past_index, size_t output, heads *h,
                              int64_t *past)
{
    const ref_tensor *cache = ref_input(call, past_index);
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

/* What the mask adds for one pair of query and key. */
static double mask_at(const attention *a, int64_t batch, int64_t head, int64_t query, int64_t key)
{
    const ref_tensor *m = a->mask;
    const int64_t place[4] = {batch, head, query, key};
    int64_t at = 0;
    for (int i = 0; i < m->rank; i++) {
        const int64_t p = place[4 - m->rank + i];
        if (i == m->rank - 1 && p >= m->dims[i] && m->dims[i] != 1) {
            return -HUGE_VAL;
        }
        at = at * m->dims[i] + (m->dims[i] == 1 ? 0 : p);
    }
    if (m->dtype == KILN_DTYPE_BOOL) {
        return ref_get_int(m, at) != 0 ? 0.0 : -HUGE_VAL;
    }
    return ref_get_float(m, at);
}

static double bias_at(const attention *a, int64_t batch, int64_t head, int64_t query, int64_t key)
{
    const int64_t valid = a->lengths != NULL ? ref_get_int(a->lengths, batch) : a->k.length;
    const int64_t offset = a->lengths != NULL && a->past == 0 ? valid - a->q.length : a->past;
    const int64_t ahead = key - (query + offset);
    if ((a->causal && ahead > 0) || (a->left >= 0 && -ahead > a->left) ||
        (a->right >= 0 && ahead > a->right) || key >= valid) {
        return -HUGE_VAL;
    }
    return a->mask != NULL ? mask_at(a, batch, head, query, key) : 0.0;
}

static void keep(const attention *a, int64_t row, int64_t mode, const double *scores)
{
    if (a->kept != NULL && a->mode == mode) {
        ref_store_float(a->kept, row * a->k.length, 1, a->k.length, scores);
    }
}

/* A row whose every key is masked is 0. */
static void soften(const attention *a, bool masked)
{
    const int64_t n = a->k.length;
    double most = -HUGE_VAL;
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        most = a->scores[i] > most || isnan(a->scores[i]) ? a->scores[i] : most;
    }
    for (int64_t i = 0; i < n; i++) {
        a->scores[i] = masked ? 0.0 : exp(a->scores[i] - most);
        sum += a->scores[i];
    }
    for (int64_t i = 0; i < n && !masked; i++) {
        a->scores[i] /= sum;
    }
}

#define KEYS 8 /* at once, so that no sum waits for itself */

/* The products of a query with each key, scaled. */
static void score(const attention *a, const double *q, const double *keys, double *s)
{
    const int64_t size = a->q.size;
    int64_t i = 0;
    for (; i + KEYS <= a->k.length; i += KEYS) {
        const double *k = keys + i * size;
        double sums[KEYS] = {0};
        for (int64_t j = 0; j < size; j++) {
            for (int64_t u = 0; u < KEYS; u++) {
                sums[u] += q[j] * k[u * size + j];
            }
        }
        for (int64_t u = 0; u < KEYS; u++) {
            s[i + u] = sums[u] * a->scale;
        }
    }
    for (; i < a->k.length; i++) {
        s[i] = 0.0;
        for (int64_t j = 0; j < size; j++) {
            s[i] += q[j] * keys[i * size + j];
        }
        s[i] *= a->scale;
    }
}

REF_WIDE static void add_weighted(double weight, const double *v, int64_t n, double *out)
{
    for (int64_t j = 0; j < n; j++) {
        out[j] += weight * v[j];
    }
}

static void attend(const attention *a, int64_t batch, int64_t head, int64_t query, double *out)
{
    const int64_t row = (batch * a->q.heads + head) * a->q.length + query;
    const int64_t shared = batch * a->k.heads + head / a->group;
    const double *q = a->q.values + row * a->q.size;
    bool masked = true;
    double *s = a->scores;
    score(a, q, a->k.values + shared * a->k.length * a->k.size, s);
    keep(a, row, 0, s);
    for (int64_t i = 0; a->softcap > 0.0 && i < a->k.length; i++) {
        s[i] = a->softcap * tanh(s[i] / a->softcap);
    }
    keep(a, row, 1, s);
    for (int64_t i = 0; i < a->k.length; i++) {
        const double bias = bias_at(a, batch, head, query, i);
        masked = masked && bias == -HUGE_VAL;
        s[i] += bias;
    }
    keep(a, row, 2, s);
    soften(a, masked);
    keep(a, row, 3, s);
    memset(out, 0, (size_t)a->v.size * sizeof *out);
    for (int64_t i = 0; i < a->k.length; i++) {
        const double *v = a->v.values + (shared * a->v.length + i) * a->v.size;
        if (s[i] != 0.0) {
            add_weighted(s[i], v, a->v.size, out);
        }
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
    KLN_RETURN_IF_ERROR(read_heads(call, 0, q_heads, &a->q));
    KLN_RETURN_IF_ERROR(read_heads(call, 1, kv_heads, &a->k));
    KLN_RETURN_IF_ERROR(read_heads(call, 2, kv_heads, &a->v));
    KLN_RETURN_IF_ERROR(join_cache(call, 4, 1, &a->k, &a->past));
    KLN_RETURN_IF_ERROR(join_cache(call, 5, 2, &a->v, &past_values));
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
    a->left = ref_attribute_int(call, "left_window_size", -1);
    a->right = ref_attribute_int(call, "right_window_size", -1);
    a->mode = ref_attribute_int(call, "qk_matmul_output_mode", 0);
    return check_mask(a);
}

static kiln_status ref_op_attention(ref_call *call)
{
    attention a = {.past = 0};
    ref_tensor *y = NULL;
    double *out = NULL;
    KLN_RETURN_IF_ERROR(read_attention(call, &a));
    const ref_tensor *q = ref_input(call, 0);
    const heads *v = &a.v;
    const int64_t four[4] = {a.q.batch, a.q.heads, a.q.length, v->size};
    const int64_t three[3] = {a.q.batch, a.q.length, a.q.heads * v->size};
    const int64_t kept[4] = {a.q.batch, a.q.heads, a.q.length, a.k.length};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, q->dtype, q->rank, q->rank == 4 ? four : three, &y));
    if (ref_wants(call, 3)) {
        KLN_RETURN_IF_ERROR(ref_output(call, 3, q->dtype, 4, kept, &a.kept));
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)a.k.length, sizeof *a.scores, &a.scores));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)v->size, sizeof *out, &out));
    const int64_t rows = a.q.batch * a.q.heads * a.q.length;
    KLN_RETURN_IF_ERROR(
        ref_spend(call, (double)rows * (double)a.k.length * (double)(a.q.size + v->size + 1)));
    for (int64_t i = 0; i < rows; i++) {
        const int64_t batch = i / a.q.length / a.q.heads;
        const int64_t head = i / a.q.length % a.q.heads;
        const int64_t query = i % a.q.length;
        attend(&a, batch, head, query, out);
        const int64_t to = q->rank == 4 ? i : (batch * a.q.length + query) * a.q.heads + head;
        ref_store_float(y, to * v->size, 1, v->size, out);
    }
    return KILN_OK;
}

/* --- RotaryEmbedding --- */

typedef struct rotation {
    const ref_tensor *x, *cosine, *sine, *places;
    int64_t batch, heads, length, size; /* of x */
    int64_t half;                       /* of the numbers that turn */
    bool interleaved;
} rotation;

static kiln_status read_rotation(ref_call *call, rotation *r)
{
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &r->x));
    KLN_RETURN_IF_ERROR(ref_need_float(call, 1, &r->cosine));
    KLN_RETURN_IF_ERROR(ref_need_float(call, 2, &r->sine));
    r->places = ref_input(call, 3);
    const int64_t *d = r->x->dims;
    r->heads = r->x->rank == 4 ? d[1] : ref_attribute_int(call, "num_heads", 0);
    KLN_RETURN_IF(r->x->rank < 3 || r->x->rank > 4 || r->heads <= 0 ||
                      (r->x->rank == 3 && (d[2] < r->heads || d[2] % r->heads != 0)),
                  KILN_ERROR_SHAPE, "the input does not fall into %lld heads", (long long)r->heads);
    r->batch = d[0];
    r->length = r->x->rank == 4 ? d[2] : d[1];
    r->size = r->x->rank == 4 ? d[3] : d[2] / r->heads;
    const int64_t turned = ref_attribute_int(call, "rotary_embedding_dim", 0);
    r->half = (turned > 0 ? turned : r->size) / 2;
    r->interleaved = ref_attribute_int(call, "interleaved", 0) != 0;
    const int64_t rows = r->half > 0 ? r->cosine->count / r->half : 0;
    KLN_RETURN_IF(
        2 * r->half > r->size || r->cosine->count != r->sine->count || r->cosine->rank < 1 ||
            r->cosine->dims[r->cosine->rank - 1] != r->half ||
            (r->places == NULL ? rows != r->batch * r->length
                               : r->places->count != r->batch * r->length),
        KILN_ERROR_SHAPE,
        "cosines and sines need a row for each position and half the rotated size as columns");
    return KILN_OK;
}

REF_WIDE static void turn_pairs(int64_t n, const double *c, const double *s, int64_t step,
                                double *restrict a, double *restrict b)
{
    for (int64_t i = 0; i < n; i++) {
        const double re = c[i] * a[i * step] - s[i] * b[i * step];
        b[i * step] = s[i] * a[i * step] + c[i] * b[i * step];
        a[i * step] = re;
    }
}

static kiln_status rotate(const rotation *r, int64_t batch, int64_t step, double *v)
{
    int64_t row = batch * r->length + step;
    if (r->places != NULL) {
        row = ref_get_int(r->places, row);
        KLN_RETURN_IF(row < 0 || row >= r->cosine->count / r->half, KILN_ERROR_INVALID_NETWORK,
                      "position %lld lies outside the cache", (long long)row);
    }
    for (int64_t i = 0; i < r->half; i += REF_CHUNK) {
        const int64_t n = r->half - i < REF_CHUNK ? r->half - i : REF_CHUNK;
        double c[REF_CHUNK];
        double s[REF_CHUNK];
        ref_load_float(r->cosine, row * r->half + i, 1, n, c);
        ref_load_float(r->sine, row * r->half + i, 1, n, s);
        if (r->interleaved) {
            turn_pairs(n, c, s, 2, v + 2 * i, v + 2 * i + 1);
        } else {
            turn_pairs(n, c, s, 1, v + i, v + i + r->half);
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_rotary(ref_call *call)
{
    rotation r = {.x = NULL};
    ref_tensor *y = NULL;
    double *v = NULL;
    KLN_RETURN_IF_ERROR(read_rotation(call, &r));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, r.x->dtype, r.x->rank, r.x->dims, &y));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)r.size, sizeof *v, &v));
    for (int64_t i = 0; i < r.batch * r.heads * r.length; i++) {
        const bool four = r.x->rank == 4;
        const int64_t batch = i / (r.heads * r.length);
        const int64_t step = four ? i % r.length : i / r.heads % r.length;
        ref_load_float(r.x, i * r.size, 1, r.size, v);
        KLN_RETURN_IF_ERROR(rotate(&r, batch, step, v));
        ref_store_float(y, i * r.size, 1, r.size, v);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_attention[] = {
    REF_OP("Attention", 23, attention, 0),
    REF_OP("RotaryEmbedding", 23, rotary, 0),
    REF_KERNELS_END
};
/* clang-format on */
