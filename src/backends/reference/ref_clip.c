/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>

#include "ref_ops.h"

/* An input since version 11, an attribute before that. */
static double clip_limit(const ref_call *call, size_t index, const char *name, double otherwise)
{
    const ref_tensor *limit = ref_input(call, index);
    return limit != NULL ? ref_get_float(limit, 0) : ref_attribute_float(call, name, otherwise);
}

static int64_t clip_int(const ref_call *call, size_t index, int64_t otherwise)
{
    const ref_tensor *limit = ref_input(call, index);
    return limit != NULL ? ref_get_int(limit, 0) : otherwise;
}

/* Computes in the type itself, if possible, in chunks that stay in the cache. */
static bool clip_lean(const ref_call *call, const ref_tensor *x, ref_tensor *y)
{
    const ref_tensor *low = ref_input(call, 1);
    const ref_tensor *high = ref_input(call, 2);
    const ref_lean_function raise = ref_lean_binary(REF_BINARY_Max, x->dtype);
    const ref_lean_function lower = ref_lean_binary(REF_BINARY_Min, x->dtype);
    if (low == NULL || low->dtype != x->dtype || high == NULL || high->dtype != x->dtype ||
        raise == NULL) {
        return false;
    }
    const size_t size = ref_element_size(x->dtype);
    for (int64_t i = 0; i < x->count; i += REF_CHUNK) {
        const int64_t n = x->count - i < REF_CHUNK ? x->count - i : REF_CHUNK;
        void *to = (char *)y->data + (size_t)i * size;
        raise(n, (const char *)x->data + (size_t)i * size, 1, low->data, 0, to);
        lower(n, to, 1, high->data, 0, to);
    }
    return true;
}

static void clip_ints(const ref_call *call, const ref_tensor *x, ref_tensor *y)
{
    if (clip_lean(call, x, y)) {
        return;
    }
    const bool is_unsigned = ref_domain_of(x->dtype) == REF_DOMAIN_UNSIGNED;
    const int64_t low = clip_int(call, 1, is_unsigned ? 0 : INT64_MIN);
    const int64_t high = clip_int(call, 2, is_unsigned ? -1 : INT64_MAX);
    for (int64_t i = 0; i < x->count; i++) {
        int64_t v = ref_get_int(x, i);
        if (is_unsigned) {
            v = (uint64_t)v < (uint64_t)low ? low : v;
            v = (uint64_t)v > (uint64_t)high ? high : v;
        } else {
            v = v < low ? low : v;
            v = v > high ? high : v;
        }
        ref_put_int(y, i, v);
    }
}

/* The largest finite number, the default limit, which also clips infinity. */
static double greatest_finite(const ref_call *call, kiln_dtype dtype)
{
    if (call->node->version < 11) {
        return (double)FLT_MAX; /* the attribute's default, for every type */
    }
    switch (dtype) {
        case KILN_DTYPE_FLOAT64: return DBL_MAX;
        case KILN_DTYPE_FLOAT16: return 65504.0;
        case KILN_DTYPE_BFLOAT16: return 0x1.FEp127;
        default: return (double)FLT_MAX;
    }
}

#define DEFINE_CLIP(type)                                                                       \
    REF_WIDE static void clip_##type##s(const type *x, int64_t n, type low, type high, type *y) \
    {                                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                       \
            const type raised = x[i] < low ? low : x[i];                                        \
            y[i] = raised > high ? high : raised;                                               \
        }                                                                                       \
    }
DEFINE_CLIP(float)
DEFINE_CLIP(double)

static kiln_status ref_op_clip(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    if (ref_domain_of(x->dtype) != REF_DOMAIN_FLOAT) {
        clip_ints(call, x, y);
        return KILN_OK;
    }
    const double limit = greatest_finite(call, x->dtype);
    const double low = clip_limit(call, 1, "min", -limit);
    const double high = clip_limit(call, 2, "max", limit);
    if (x->dtype == KILN_DTYPE_FLOAT32 && (double)(float)low == low &&
        (double)(float)high == high) {
        clip_floats(x->data, x->count, (float)low, (float)high, y->data);
        return KILN_OK;
    }
    if (x->dtype == KILN_DTYPE_FLOAT64) {
        clip_doubles(x->data, x->count, low, high, y->data);
        return KILN_OK;
    }
    double chunk[REF_CHUNK];
    for (int64_t i = 0; i < x->count; i += REF_CHUNK) {
        const int64_t n = x->count - i < REF_CHUNK ? x->count - i : REF_CHUNK;
        ref_load_float(x, i, 1, n, chunk);
        clip_doubles(chunk, n, low, high, chunk);
        ref_store_float(y, i, 1, n, chunk);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_clip[] = {
    REF_OP("Clip", 1, clip, 0, "n??"),
    REF_KERNELS_END
};
/* clang-format on */
