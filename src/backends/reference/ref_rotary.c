/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* The tables of com.microsoft's operator cover all positions; it also accepts a single position,
 * from which the others count up. */
enum { ONNX, MICROSOFT };

typedef struct rotation {
    const ref_tensor *x, *cosine, *sine, *places;
    int64_t batch, heads, length, size; /* of x */
    int64_t half;                       /* half of the numbers that are rotated */
    bool interleaved;
} rotation;

static kiln_status read_rotation(ref_call *call, rotation *r)
{
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &r->x));
    const bool own = call->variant == MICROSOFT;
    KLN_RETURN_IF_ERROR(ref_need_float(call, own ? 2 : 1, &r->cosine));
    KLN_RETURN_IF_ERROR(ref_need_float(call, own ? 3 : 2, &r->sine));
    r->places = ref_input(call, own ? 1 : 3);
    const int64_t turned = ref_attribute_int(call, "rotary_embedding_dim", 0);
    const int64_t columns = r->cosine->rank > 0 ? r->cosine->dims[r->cosine->rank - 1] : 0;
    const int64_t usual =
        own && r->x->rank == 3 && turned == 0 && columns > 0 ? r->x->dims[2] / 2 / columns : 0;
    const int64_t *d = r->x->dims;
    r->heads = r->x->rank == 4 ? d[1] : ref_attribute_int(call, "num_heads", 0);
    r->heads = r->heads == 0 ? usual : r->heads;
    KLN_RETURN_IF(r->x->rank < 3 || r->x->rank > 4 || r->heads <= 0 ||
                      (r->x->rank == 3 && (d[2] < r->heads || d[2] % r->heads != 0)),
                  KILN_ERROR_SHAPE, "the input does not fall into %lld heads", (long long)r->heads);
    r->batch = d[0];
    r->length = r->x->rank == 4 ? d[2] : d[1];
    r->size = r->x->rank == 4 ? d[3] : d[2] / r->heads;
    r->half = (turned > 0 ? turned : r->size) / 2;
    r->interleaved = ref_attribute_int(call, "interleaved", 0) != 0;
    const int64_t rows = r->half > 0 ? r->cosine->count / r->half : 0;
    KLN_RETURN_IF(
        2 * r->half > r->size || !ref_same_shape(r->cosine, r->sine) || columns != r->half ||
            (own && r->cosine->rank != 2) ||
            (r->places == NULL
                 ? rows != r->batch * r->length
                 : r->places->count != r->batch * r->length && !(own && r->places->count == 1)),
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
        row = r->places->count == r->batch * r->length
                  ? ref_get_int(r->places, row)
                  : ref_clamp_int(ref_get_int(r->places, 0), -1, r->cosine->count) + step;
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
    KLN_RETURN_IF(
        call->variant == MICROSOFT && (ref_attribute_int(call, "is_packed_batching", 0) != 0 ||
                                       ref_attribute_float(call, "scale", 1.0) != 1.0),
        KILN_ERROR_UNSUPPORTED, "is_packed_batching and scale are not computed here");
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
const ref_kernel ref_kernels_rotary[] = {
    REF_OP("RotaryEmbedding", 23, rotary, ONNX),
    REF_OP_MS("RotaryEmbedding", rotary, MICROSOFT, "fnff"),
    REF_KERNELS_END
};
/* clang-format on */
