/* SPDX-License-Identifier: Apache-2.0 */
#include <fenv.h>

#include "ref_ops.h"
#include "ref_rows.h"

double ref_quantized(double scaled, double zero_point, kiln_dtype dtype)
{
    if (ref_domain_of(dtype) == REF_DOMAIN_FLOAT) {
        return scaled + zero_point; /* rounded and saturated when it is stored */
    }
    const double value = ref_round_even(scaled) + zero_point;
    const double low = ref_least(dtype);
    const double high = ref_greatest(dtype);
    return isnan(value) || value < low ? low : value > high ? high : value;
}

/* Which scale belongs to which element: one for the whole tensor, one per index along an axis, or
 * one per block. */
typedef struct scales {
    const ref_tensor *x;
    const ref_tensor *scale;
    const ref_tensor *zero; /* or NULL */
    int axis;
    int64_t block; /* 0: not blocked */
} scales;

static kiln_status check_scales(const scales *s)
{
    const ref_tensor *x = s->x;
    const ref_tensor *scale = s->scale;
    bool fits = scale->count == 1 ||
                (s->block == 0 && scale->rank == 1 && scale->count == x->dims[s->axis]) ||
                (s->block > 0 && scale->rank == x->rank);
    for (int i = 0; fits && s->block > 0 && i < x->rank; i++) {
        const int64_t blocks = x->dims[i] / s->block + (x->dims[i] % s->block != 0);
        fits = scale->dims[i] == (i == s->axis ? blocks : x->dims[i]);
    }
    KLN_RETURN_IF(!fits || (s->zero != NULL && s->zero->count != scale->count), KILN_ERROR_SHAPE,
                  "%lld scales and %lld zero points do not fit the elements along axis %d",
                  (long long)scale->count,
                  (long long)(s->zero != NULL ? s->zero->count : scale->count), s->axis);
    return KILN_OK;
}

static kiln_status read_scales(const ref_call *call, scales *s)
{
    KLN_RETURN_IF_ERROR(ref_need_number(call, 0, &s->x));
    KLN_RETURN_IF_ERROR(ref_need_number(call, 1, &s->scale));
    s->zero = ref_input(call, 2);
    s->block = ref_attribute_int(call, "block_size", 0);
    s->axis = 0;
    KLN_RETURN_IF(s->block < 0, KILN_ERROR_INVALID_NETWORK, "blocks of %lld elements",
                  (long long)s->block);
    if (s->scale->count != 1 || s->block > 0) {
        KLN_RETURN_IF_ERROR(
            ref_axis(call, ref_attribute_int(call, "axis", 1), s->x->rank, &s->axis));
    }
    return check_scales(s);
}

static int64_t scale_index(const scales *s, int64_t i)
{
    if (s->scale->count == 1) {
        return 0;
    }
    const int64_t inner = ref_product(s->x->dims, s->axis + 1, s->x->rank);
    const int64_t place = i / inner % s->x->dims[s->axis];
    if (s->block == 0) {
        return place;
    }
    const int64_t outer = i / inner / s->x->dims[s->axis];
    return (outer * s->scale->dims[s->axis] + place / s->block) * inner + i % inner;
}

/* Some consecutive elements, each with its scale and zero point. */
typedef struct piece {
    double values[REF_CHUNK], scales[REF_CHUNK], zeros[REF_CHUNK];
} piece;

static void load_piece(const scales *s, int64_t start, int64_t n, piece *p)
{
    const int64_t inner =
        s->scale->count == 1 ? INT64_MAX : ref_product(s->x->dims, s->axis + 1, s->x->rank);
    ref_load_float(s->x, start, 1, n, p->values);
    /* Without blocks, each run of `inner` elements shares one scale. */
    for (int64_t i = 0, end = 0; i < n; i = end) {
        const int64_t at = scale_index(s, start + i);
        const int64_t left = s->block > 0 ? 1 : inner - (start + i) % inner;
        const double scale = ref_get_float(s->scale, at);
        const double zero = s->zero != NULL ? ref_get_float(s->zero, at) : 0.0;
        for (end = i; end < n && end - i < left; end++) {
            p->scales[end] = scale;
            p->zeros[end] = zero;
        }
    }
}

typedef struct target {
    double low, high;
    bool to_float, saturate;
} target;

static bool is_short_float(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_FLOAT32 || dtype == KILN_DTYPE_FLOAT16 ||
           dtype == KILN_DTYPE_BFLOAT16;
}

REF_WIDE static void divide_piece(const scales *s, piece *p, int64_t n)
{
    /* The quotient is computed in the input's own precision, so that ties are the same
     * everywhere. */
    if (is_short_float(s->x->dtype) && is_short_float(s->scale->dtype)) {
        for (int64_t i = 0; i < n; i++) {
            p->values[i] = (double)((float)p->values[i] / (float)p->scales[i]);
        }
        return;
    }
    const bool is_double = s->x->dtype == KILN_DTYPE_FLOAT64;
    for (int64_t i = 0; i < n; i++) {
        const double scaled = p->values[i] / p->scales[i];
        p->values[i] = is_double ? scaled : (double)(float)scaled;
    }
}

/* A number of at least this magnitude is out of range for every 32-bit type, whatever zero point is
 * added. */
#define FAR 1099511627776.0
/* Adding and then subtracting this rounds a smaller number to the nearest whole number, provided
 * that the machine's rounding mode is to nearest. */
#define WHOLE 6755399441055744.0
#define WHOLE_FLOAT 12582912.0F

REF_WIDE static void round_piece(const target *t, piece *p, int64_t n)
{
    const bool is_short = t->low >= -2147483648.0 && t->high <= 4294967295.0;
    if (!is_short || fegetround() != FE_TONEAREST) {
        for (int64_t i = 0; i < n; i++) {
            const double value = ref_round_even(p->values[i]) + p->zeros[i];
            p->values[i] = isnan(value) || value < t->low ? t->low
                           : value > t->high              ? t->high
                                                          : value;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double value = p->values[i];
        value = value > -FAR ? value : -FAR; /* also turns NaN into -FAR */
        value = value < FAR ? value : FAR;
        value = (value + WHOLE) - WHOLE + p->zeros[i];
        value = value > t->low ? value : t->low;
        p->values[i] = value < t->high ? value : t->high;
    }
}

/* Stores the byte types directly, without examining each element. */
REF_WIDE static void store_piece(ref_tensor *y, int64_t start, int64_t n, const piece *p)
{
    if (y->dtype == KILN_DTYPE_UINT8) {
        uint8_t *to = (uint8_t *)y->data + start;
        for (int64_t i = 0; i < n; i++) {
            to[i] = (uint8_t)(int32_t)p->values[i];
        }
    } else if (y->dtype == KILN_DTYPE_INT8) {
        int8_t *to = (int8_t *)y->data + start;
        for (int64_t i = 0; i < n; i++) {
            to[i] = (int8_t)(int32_t)p->values[i];
        }
    } else {
        ref_store_float(y, start, 1, n, p->values);
    }
}

static void quantize_piece(const scales *s, const target *t, piece *p, int64_t n)
{
    divide_piece(s, p, n);
    if (!t->to_float) {
        round_piece(t, p, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        p->values[i] += p->zeros[i];
    }
}

void ref_put_quantized(ref_tensor *y, int64_t start, int64_t n, const double *scaled,
                       double zero_point)
{
    const target t = {.low = ref_least(y->dtype), .high = ref_greatest(y->dtype)};
    const bool to_float = ref_domain_of(y->dtype) == REF_DOMAIN_FLOAT;
    for (int64_t i = 0; i < n; i += REF_CHUNK) {
        const int64_t count = n - i < REF_CHUNK ? n - i : REF_CHUNK;
        piece p;
        for (int64_t k = 0; k < count; k++) {
            p.values[k] = to_float ? scaled[i + k] + zero_point : scaled[i + k];
            p.zeros[k] = zero_point;
        }
        if (!to_float) {
            round_piece(&t, &p, count);
        }
        store_piece(y, start + i, count, &p);
    }
}

/* Quantizes floats to bytes with one scale. All is computed in float, where the whole numbers that
 * a byte can hold are exact. */
REF_WIDE static void quantize_floats(const float *x, int64_t n, float scale, const target *t,
                                     double zero, uint8_t *y)
{
    const float low = (float)(t->low - zero);
    const float high = (float)(t->high - zero);
    const int32_t added = (int32_t)zero;
    for (int64_t i = 0; i < n; i++) {
        float value = x[i] / scale;
        value = value > low ? value : low; /* NaN becomes `low` too */
        value = value < high ? value : high;
        y[i] = (uint8_t)((int32_t)((value + WHOLE_FLOAT) - WHOLE_FLOAT) + added);
    }
}

bool ref_is_byte(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_UINT8 || dtype == KILN_DTYPE_INT8;
}

static bool is_lean(const scales *s, const ref_tensor *floats, const ref_tensor *bytes)
{
    return floats->dtype == KILN_DTYPE_FLOAT32 && s->scale->dtype == KILN_DTYPE_FLOAT32 &&
           s->block == 0 && ref_is_byte(bytes->dtype) && fegetround() == FE_TONEAREST;
}

/* The number of consecutive elements that share a scale. */
static int64_t run_of(const scales *s)
{
    return s->scale->count == 1 ? s->x->count : ref_product(s->x->dims, s->axis + 1, s->x->rank);
}

static void quantize_lean(const scales *s, const target *t, ref_tensor *y)
{
    const int64_t run = run_of(s);
    for (int64_t i = 0; i < y->count; i += run) {
        const int64_t at = scale_index(s, i);
        quantize_floats((const float *)s->x->data + i, run, ((const float *)s->scale->data)[at], t,
                        s->zero != NULL ? ref_get_float(s->zero, at) : 0.0, (uint8_t *)y->data + i);
    }
}

static kiln_status ref_op_quantize(ref_call *call)
{
    scales s = {0};
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(read_scales(call, &s));
    const int64_t wanted = ref_attribute_int(call, "output_dtype", 0);
    const kiln_dtype dtype = s.zero != NULL                ? s.zero->dtype
                             : wanted > 0 && wanted < 1000 ? kln_onnx_dtype((int32_t)wanted)
                                                           : KILN_DTYPE_UINT8;
    KLN_FAIL_IF(ref_domain_of(dtype) == REF_DOMAIN_NONE, ref_fail_dtype(call, dtype));
    const target t = {.low = ref_least(dtype),
                      .high = ref_greatest(dtype),
                      .to_float = ref_domain_of(dtype) == REF_DOMAIN_FLOAT,
                      .saturate = ref_attribute_int(call, "saturate", 1) != 0};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, s.x->rank, s.x->dims, &y));
    if (is_lean(&s, s.x, y)) {
        quantize_lean(&s, &t, y);
        return KILN_OK;
    }
    for (int64_t i = 0; i < y->count; i += REF_CHUNK) {
        const int64_t n = y->count - i < REF_CHUNK ? y->count - i : REF_CHUNK;
        piece p;
        load_piece(&s, i, n, &p);
        quantize_piece(&s, &t, &p, n);
        if (!t.to_float || !ref_is_float8(dtype)) {
            store_piece(y, i, n, &p);
            continue;
        }
        for (int64_t k = 0; k < n; k++) {
            ref_put_float8(y, i + k, p.values[k], t.saturate);
        }
    }
    return KILN_OK;
}

/* A byte minus its zero point is exact in float, so that the product with the scale is rounded only
 * once. */
#define DEFINE_DEQUANTIZE(name, type)                                                        \
    REF_WIDE static void name(const type *x, int64_t n, float scale, int32_t zero, float *y) \
    {                                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                    \
            y[i] = (float)((int32_t)x[i] - zero) * scale;                                    \
        }                                                                                    \
    }
DEFINE_DEQUANTIZE(dequantize_unsigned, uint8_t)
DEFINE_DEQUANTIZE(dequantize_signed, int8_t)

static void dequantize_lean(const scales *s, ref_tensor *y)
{
    const int64_t run = run_of(s);
    for (int64_t i = 0; i < y->count; i += run) {
        const int64_t at = scale_index(s, i);
        const float scale = ((const float *)s->scale->data)[at];
        const int32_t zero = s->zero != NULL ? (int32_t)ref_get_int(s->zero, at) : 0;
        if (s->x->dtype == KILN_DTYPE_UINT8) {
            dequantize_unsigned((const uint8_t *)s->x->data + i, run, scale, zero,
                                (float *)y->data + i);
        } else {
            dequantize_signed((const int8_t *)s->x->data + i, run, scale, zero,
                              (float *)y->data + i);
        }
    }
}

static kiln_status ref_op_dequantize(ref_call *call)
{
    scales s = {0};
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(read_scales(call, &s));
    const int64_t wanted = ref_attribute_int(call, "output_dtype", 0);
    const kiln_dtype dtype =
        wanted > 0 && wanted < 1000 ? kln_onnx_dtype((int32_t)wanted) : s.scale->dtype;
    KLN_FAIL_IF(ref_domain_of(dtype) != REF_DOMAIN_FLOAT, ref_fail_dtype(call, dtype));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, s.x->rank, s.x->dims, &y));
    if (is_lean(&s, y, s.x) && (s.zero == NULL || ref_is_byte(s.zero->dtype))) {
        dequantize_lean(&s, y);
        return KILN_OK;
    }
    for (int64_t i = 0; i < y->count; i += REF_CHUNK) {
        const int64_t n = y->count - i < REF_CHUNK ? y->count - i : REF_CHUNK;
        piece p;
        load_piece(&s, i, n, &p);
        for (int64_t k = 0; k < n; k++) {
            p.values[k] = (p.values[k] - p.zeros[k]) * p.scales[k];
        }
        ref_store_float(y, i, 1, n, p.values);
    }
    return KILN_OK;
}

/* Extends the range to include all elements; NaN is ignored. */
REF_WIDE static void widen_range(const double *x, int64_t n, float *low, float *high)
{
    enum { LANES = 32 };
    float least[LANES];
    float most[LANES];
    for (int k = 0; k < LANES; k++) {
        least[k] = *low;
        most[k] = *high;
    }
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t width = n - i < LANES ? n - i : LANES;
        for (int64_t k = 0; k < width; k++) {
            const float v = (float)x[i + k];
            least[k] = v < least[k] ? v : least[k];
            most[k] = v > most[k] ? v : most[k];
        }
    }
    for (int k = 0; k < LANES; k++) {
        *low = least[k] < *low ? least[k] : *low;
        *high = most[k] > *high ? most[k] : *high;
    }
}

/* The range from the smallest to the largest element, extended to include 0. */
static void find_range(const ref_tensor *x, float *low, float *high)
{
    float least = 0.0F;
    float most = 0.0F;
    double chunk[REF_CHUNK];
    if (x->dtype == KILN_DTYPE_FLOAT32 && x->count > 0 &&
        ref_find_extreme(x->data, x->count, false, &least) &&
        ref_find_extreme(x->data, x->count, true, &most)) {
        *low = least < 0.0F ? least : 0.0F;
        *high = most > 0.0F ? most : 0.0F;
        return;
    }
    for (int64_t i = 0; i < x->count; i += REF_CHUNK) {
        const int64_t n = x->count - i < REF_CHUNK ? x->count - i : REF_CHUNK;
        ref_load_float(x, i, 1, n, chunk);
        widen_range(chunk, n, low, high);
    }
}

/* The step between neighbouring 8-bit values that cover low to high; `*origin` is the value that
 * stands for 0. */
static float step_of(float low, float high, double *origin)
{
    const float step = (high - low) / 255.0F;
    *origin = step > 0.0F ? ref_quantized((double)(0.0F - low / step), 0.0, KILN_DTYPE_UINT8) : 0.0;
    return step;
}

double ref_quantize_row(int64_t n, const double *x, double *y)
{
    float low = 0.0F;
    float high = 0.0F;
    double origin = 0.0;
    widen_range(x, n, &low, &high);
    const float step = step_of(low, high, &origin);
    for (int64_t i = 0; i < n; i++) {
        const float scaled = step > 0.0F ? (float)x[i] / step : 0.0F;
        y[i] = ref_quantized((double)scaled, origin, KILN_DTYPE_UINT8) - origin;
    }
    return (double)step;
}

static kiln_status ref_op_dynamic_quantize(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    ref_tensor *scale = NULL;
    ref_tensor *zero = NULL;
    KLN_RETURN_IF(call->node->output_count < 3, KILN_ERROR_INVALID_NETWORK,
                  "three outputs are needed");
    float low = 0.0F;
    float high = 0.0F;
    find_range(x, &low, &high);
    double origin = 0.0;
    const float step = step_of(low, high, &origin);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_UINT8, x->rank, x->dims, &y));
    KLN_RETURN_IF_ERROR(ref_output(call, 1, x->dtype, 0, NULL, &scale));
    KLN_RETURN_IF_ERROR(ref_output(call, 2, KILN_DTYPE_UINT8, 0, NULL, &zero));
    ref_put_float(scale, 0, (double)step);
    ref_put_float(zero, 0, origin);
    const target bytes = {.low = 0.0, .high = 255.0};
    if (step > 0.0F && x->dtype == KILN_DTYPE_FLOAT32 && fegetround() == FE_TONEAREST) {
        quantize_floats(x->data, x->count, step, &bytes, origin, y->data);
        return KILN_OK;
    }
    for (int64_t i = 0; i < x->count; i++) {
        const float scaled = step > 0.0F ? (float)ref_get_float(x, i) / step : 0.0F;
        ref_put_float(y, i, ref_quantized((double)scaled, origin, KILN_DTYPE_UINT8));
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_quantize[] = {
    REF_OP("QuantizeLinear", 10, quantize, 0),
    REF_OP("DequantizeLinear", 10, dequantize, 0),
    REF_OP_MS("QuantizeLinear", quantize, 0),
    REF_OP_MS("DequantizeLinear", dequantize, 0),
    REF_OP("DynamicQuantizeLinear", 11, dynamic_quantize, 0, "f"),
    REF_KERNELS_END
};
/* clang-format on */
