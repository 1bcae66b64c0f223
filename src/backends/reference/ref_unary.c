/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_exp.h"
#include "ref_ops.h"

double ref_sigmoid(double x)
{
    const double power = exp(x >= 0.0 ? -x : x);
    return (x >= 0.0 ? 1.0 : power) / (1.0 + power);
}

double ref_softplus(double x)
{
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

/* Rounds to the nearest whole number, ties to even, independent of the rounding mode. */
static inline double to_even(double x)
{
    const double size = fabs(x);
    const double down = floor(size);
    const double rest = size - down;
    const int odd = down * 0.5 != floor(down * 0.5);
    return copysign(down + (double)((rest > 0.5) | ((rest == 0.5) & odd)), x);
}

#define sigmoid ref_sigmoid
#define softplus ref_softplus

#define DEFINE_FUNCTION(name, type, expression)                                   \
    static void name(const ref_parameters *p, int64_t n, const type *v, type *to) \
    {                                                                             \
        const double a = p->a;                                                    \
        const double b = p->b;                                                    \
        const double g = p->g;                                                    \
        (void)a;                                                                  \
        (void)b;                                                                  \
        (void)g;                                                                  \
        for (int64_t i = 0; i < n; i++) {                                         \
            const double x = (double)v[i];                                        \
            to[i] = (type)(expression);                                           \
        }                                                                         \
    }
#define DEFINE_UNARY(name, since, expression) DEFINE_FUNCTION(chunk_##name, double, expression)
#define DEFINE_PLAIN(name, since, expression) REF_WIDE DEFINE_UNARY(name, since, expression)
REF_CALLED_LIST(DEFINE_UNARY)
REF_PLAIN_LIST(DEFINE_PLAIN)
DEFINE_UNARY(Gelu, 20, 0.5 * x * (1.0 + erf(x * 0.70710678118654752440)))
DEFINE_UNARY(GeluTanh, 20,
             0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))))
DEFINE_UNARY(QuickGelu, 1, (x * ref_sigmoid(a * x)))
DEFINE_UNARY(Shrink, 9, x<-a ? x + b : x> a ? x - b : 0.0)

static const ref_row_function unary_functions[] = {
#define LIST_UNARY(name, since, expression) [REF_UNARY_##name] = chunk_##name,
    REF_UNARY_LIST(LIST_UNARY)[REF_UNARY_Gelu] = chunk_Gelu, [REF_UNARY_GeluTanh] = chunk_GeluTanh};

REF_WIDE static void share_powers(int64_t n, const double *v, const double *power, double *to)
{
    for (int64_t i = 0; i < n; i++) {
        to[i] = (v[i] >= 0.0 ? 1.0 : power[i]) / (1.0 + power[i]);
    }
}

/* The same as ref_sigmoid, except that several quotients are computed at a time. */
static void sigmoid_doubles(const ref_parameters *p, int64_t n, const double *v, double *to)
{
    (void)p;
    for (int64_t at = 0; at < n; at += REF_CHUNK) {
        const int64_t left = n - at < REF_CHUNK ? n - at : REF_CHUNK;
        double power[REF_CHUNK];
        for (int64_t i = 0; i < left; i++) {
            power[i] = exp(v[at + i] >= 0.0 ? -v[at + i] : v[at + i]);
        }
        share_powers(left, v + at, power, to + at);
    }
}

static kiln_status apply(ref_call *call, ref_row_function function, const ref_parameters *p)
{
    const ref_tensor *x = NULL;
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_need_number(call, 0, &x));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    if (x->dtype == KILN_DTYPE_FLOAT64) {
        (function == chunk_Sigmoid ? sigmoid_doubles : function)(p, x->count, x->data, y->data);
        return KILN_OK;
    }
    return ref_apply(call->context, function, p, x, y);
}

/* Reads the attributes, with the defaults of the standard. */
static ref_parameters read_parameters(const ref_call *call)
{
    double alpha = 1.0;
    switch ((ref_unary)call->variant) {
        case REF_UNARY_LeakyRelu: alpha = (double)0.01F; break;
        case REF_UNARY_HardSigmoid: alpha = (double)0.2F; break;
        case REF_UNARY_Selu: alpha = 1.67326319217681884765625; break;
        default: break;
    }
    return (ref_parameters){.a = ref_attribute_float(call, "alpha", alpha),
                            .b = ref_attribute_float(call, "beta", 0.5),
                            .g = ref_attribute_float(call, "gamma", 1.05070102214813232421875)};
}

/* Each step of to_even is exact in float too. */
static inline float float_to_even(float x)
{
    const float size = fabsf(x);
    const float down = floorf(size);
    const float rest = size - down;
    const int odd = down * 0.5F != floorf(down * 0.5F);
    return copysignf(down + (float)((rest > 0.5F) | ((rest == 0.5F) & odd)), x);
}
#define to_even(x) (double)float_to_even((float)(x))

/* The functions for float32 without conversion to rows of doubles, several elements at a time. */
#define DEFINE_LEAN(name, since, expression) \
    REF_WIDE DEFINE_FUNCTION(lean_##name, float, expression)
REF_PLAIN_LIST(DEFINE_LEAN)

/* A double has so many more digits that rounding the root of a float a second time would change
 * nothing, so sqrtf gives the same. */
REF_WIDE static void lean_Root(const ref_parameters *p, int64_t n, const float *v, float *to)
{
    (void)p;
    for (int64_t i = 0; i < n; i++) {
        to[i] = sqrtf(v[i]);
    }
}

#define DEFINE_ROW(name, function)                                                         \
    static void lean_##name(const ref_parameters *p, int64_t n, const float *v, float *to) \
    {                                                                                      \
        (void)p;                                                                           \
        function(n, v, to);                                                                \
    }
DEFINE_ROW(Exp, ref_exp_floats)
DEFINE_ROW(Sigmoid, ref_logistic_floats)
DEFINE_ROW(Tanh, ref_tanh_floats)

typedef void (*lean_function)(const ref_parameters *p, int64_t n, const float *v, float *to);

static const lean_function lean_functions[REF_UNARY_COUNT] = {
#define LIST_LEAN(name, since, expression) [REF_UNARY_##name] = lean_##name,
    REF_PLAIN_LIST(LIST_LEAN)[REF_UNARY_Sqrt] = lean_Root, [REF_UNARY_Exp] = lean_Exp,
    [REF_UNARY_Sigmoid] = lean_Sigmoid, [REF_UNARY_Tanh] = lean_Tanh};

/* Results that are not certain are computed one by one. */
static void apply_near(int variant, const ref_parameters *p, int64_t n, const float *x, float *y)
{
    for (int64_t at = 0; at < n; at += REF_CHUNK) {
        const int64_t left = n - at < REF_CHUNK ? n - at : REF_CHUNK;
        uint8_t unsure[REF_CHUNK];
        const int64_t count = ref_near(variant, p->a, p->g, left, x + at, x + at, y + at, unsure);
        for (int64_t i = 0; i < count; i++) {
            double value = (double)x[at + unsure[i]];
            unary_functions[variant](p, 1, &value, &value);
            y[at + unsure[i]] = (float)value;
        }
    }
}

static kiln_status ref_op_unary(ref_call *call)
{
    const ref_parameters p = read_parameters(call);
    const lean_function lean = lean_functions[call->variant];
    const ref_tensor *x = ref_input(call, 0);
    const bool near = ref_has_near(call->variant);
    if ((lean == NULL && !near) || x == NULL || x->dtype != KILN_DTYPE_FLOAT32) {
        return apply(call, unary_functions[call->variant], &p);
    }
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    if (near) {
        apply_near(call->variant, &p, x->count, x->data, y->data);
    } else {
        lean(&p, x->count, x->data, y->data);
    }
    return KILN_OK;
}

static kiln_status ref_op_gelu(ref_call *call)
{
    const ref_parameters p = {0};
    const bool approximate = strcmp(ref_attribute_string(call, "approximate", "none"), "tanh") == 0;
    return apply(call, approximate ? chunk_GeluTanh : chunk_Gelu, &p);
}

static kiln_status ref_op_quick_gelu(ref_call *call)
{
    const ref_parameters p = {.a = ref_attribute_float(call, "alpha", (double)1.702F)};
    return apply(call, chunk_QuickGelu, &p);
}

static kiln_status ref_op_swiglu(ref_call *call)
{
    const ref_tensor *gate = ref_input(call, 0);
    const ref_tensor *linear = ref_input(call, 1);
    ref_tensor *y = NULL;
    KLN_RETURN_IF(!ref_same_shape(gate, linear), KILN_ERROR_SHAPE,
                  "gate and value have different shapes");
    KLN_RETURN_IF_ERROR(ref_output(call, 0, gate->dtype, gate->rank, gate->dims, &y));
    const double alpha = ref_attribute_float(call, "alpha", 1.0);
    const bool floats = y->dtype == KILN_DTYPE_FLOAT32 && linear->dtype == KILN_DTYPE_FLOAT32;
    for (int64_t at = 0; at < y->count; at += REF_CHUNK) {
        const int64_t n = y->count - at < REF_CHUNK ? y->count - at : REF_CHUNK;
        uint8_t unsure[REF_CHUNK];
        const int64_t count =
            floats ? ref_near(REF_UNARY_SwiGLU, alpha, 0.0, n, (const float *)gate->data + at,
                              (const float *)linear->data + at, (float *)y->data + at, unsure)
                   : n;
        for (int64_t i = 0; i < count; i++) {
            const int64_t place = at + (floats ? unsure[i] : i);
            const double a = ref_get_float(gate, place);
            ref_put_float(y, place, a * ref_sigmoid(alpha * a) * ref_get_float(linear, place));
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_shrink(ref_call *call)
{
    const ref_parameters p = {.a = ref_attribute_float(call, "lambd", 0.5),
                              .b = ref_attribute_float(call, "bias", 0.0)};
    return apply(call, chunk_Shrink, &p);
}

#define DEFINE_NUMERIC(name, since, of_float, of_signed, of_unsigned)                        \
    REF_WIDE static void numeric_##name(ref_domain domain, int64_t n, double *f, int64_t *v) \
    {                                                                                        \
        for (int64_t i = 0; domain == REF_DOMAIN_FLOAT && i < n; i++) {                      \
            const double x = f[i];                                                           \
            f[i] = (of_float);                                                               \
        }                                                                                    \
        for (int64_t i = 0; domain == REF_DOMAIN_SIGNED && i < n; i++) {                     \
            const int64_t x = v[i];                                                          \
            v[i] = (of_signed);                                                              \
        }                                                                                    \
        for (int64_t i = 0; domain == REF_DOMAIN_UNSIGNED && i < n; i++) {                   \
            const uint64_t x = (uint64_t)v[i];                                               \
            v[i] = (int64_t)(of_unsigned);                                                   \
        }                                                                                    \
    }
REF_NUMERIC_LIST(DEFINE_NUMERIC)

typedef void (*numeric_function)(ref_domain domain, int64_t n, double *f, int64_t *v);

static const numeric_function numeric_functions[] = {
#define LIST_NUMERIC(name, since, f, s, u) [REF_NUMERIC_##name] = numeric_##name,
    REF_NUMERIC_LIST(LIST_NUMERIC)};

/* Functions that compute in the type itself. */
#define DEFINE_TYPED(name, type, expression)                                      \
    REF_WIDE static void type##_##name(const void *from, int64_t n, void *result) \
    {                                                                             \
        type *to = result;                                                        \
        for (int64_t i = 0; i < n; i++) {                                         \
            const type x = ((const type *)from)[i];                               \
            to[i] = (type)(expression);                                           \
        }                                                                         \
    }
#define FLOAT_LIST(X, type)             \
    X(Abs, type, (type)fabs((double)x)) \
    X(Neg, type, -x)                    \
    X(Relu, type, x < 0 ? 0 : x)        \
    X(Sign, type, x > 0 ? 1 : x < 0 ? -1 : x)
#define INT_LIST(X, type)                               \
    X(Abs, type, x < 0 ? 0 - (uint64_t)x : (uint64_t)x) \
    X(Neg, type, 0 - (uint64_t)x)                       \
    X(Relu, type, x < 0 ? 0 : x)                        \
    X(Sign, type, (x > 0) - (x < 0))                    \
    X(BitwiseNot, type, ~x)
#define FLOATS(X) X(KILN_DTYPE_FLOAT32, float) X(KILN_DTYPE_FLOAT64, double)
#define INTS(X)                  \
    X(KILN_DTYPE_INT8, int8_t)   \
    X(KILN_DTYPE_INT16, int16_t) \
    X(KILN_DTYPE_INT32, int32_t) \
    X(KILN_DTYPE_INT64, int64_t)
/* The unsigned types; their magnitude is a copy. */
#define UNSIGNED_LIST(X, type)    \
    X(Abs, type, x)               \
    X(Neg, type, 0 - (uint64_t)x) \
    X(Relu, type, x)              \
    X(Sign, type, x != 0)         \
    X(BitwiseNot, type, ~(uint64_t)x)
#define UNSIGNED_INTS(X)           \
    X(KILN_DTYPE_UINT8, uint8_t)   \
    X(KILN_DTYPE_UINT16, uint16_t) \
    X(KILN_DTYPE_UINT32, uint32_t) \
    X(KILN_DTYPE_UINT64, uint64_t)
#define DEFINE_ONE(name, type, expression) DEFINE_TYPED(name, type, expression)
#define DEFINE_FLOATS(dtype, type) FLOAT_LIST(DEFINE_ONE, type)
#define DEFINE_INTS(dtype, type) INT_LIST(DEFINE_ONE, type)
FLOATS(DEFINE_FLOATS)
INTS(DEFINE_INTS)
#define DEFINE_UNSIGNED(dtype, type) UNSIGNED_LIST(DEFINE_ONE, type)
UNSIGNED_INTS(DEFINE_UNSIGNED)

typedef void (*typed_function)(const void *from, int64_t n, void *result);

/* The function for a type; NULL if there is none. */
static typed_function typed_of(kiln_dtype dtype, int variant)
{
#define LIST_ONE(name, type, expression) [REF_NUMERIC_##name] = type##_##name,
#define LIST_FLOATS(dtype, type) [dtype] = {FLOAT_LIST(LIST_ONE, type)},
#define LIST_INTS(dtype, type) [dtype] = {INT_LIST(LIST_ONE, type)},
#define LIST_UNSIGNED(dtype, type) [dtype] = {UNSIGNED_LIST(LIST_ONE, type)},
    static const typed_function typed[][REF_NUMERIC_COUNT] = {FLOATS(LIST_FLOATS) INTS(LIST_INTS)
                                                                  UNSIGNED_INTS(LIST_UNSIGNED)};
    return (size_t)dtype < KLN_ARRAY_LENGTH(typed) ? typed[dtype][variant] : NULL;
}

static kiln_status ref_op_numeric(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    const ref_domain domain = ref_domain_of(x->dtype);
    KLN_FAIL_IF(domain == REF_DOMAIN_FLOAT && call->variant == REF_NUMERIC_BitwiseNot,
                ref_fail_dtype(call, x->dtype));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const typed_function typed = typed_of(x->dtype, call->variant);
    if (typed != NULL) {
        typed(x->data, x->count, y->data);
        return KILN_OK;
    }
    double floats[REF_CHUNK];
    int64_t ints[REF_CHUNK];
    for (int64_t i = 0; i < x->count; i += REF_CHUNK) {
        const int64_t n = x->count - i < REF_CHUNK ? x->count - i : REF_CHUNK;
        if (domain == REF_DOMAIN_FLOAT) {
            ref_load_float(x, i, 1, n, floats);
        } else {
            ref_load_int(x, i, 1, n, ints);
        }
        numeric_functions[call->variant](domain, n, floats, ints);
        if (domain == REF_DOMAIN_FLOAT) {
            ref_store_float(y, i, 1, n, floats);
        } else {
            ref_store_int(y, i, 1, n, ints);
        }
    }
    return KILN_OK;
}

REF_WIDE static void deny(const uint8_t *x, int64_t n, uint8_t *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = x[i] == 0;
    }
}

REF_WIDE static void answer_chunk(int question, const double *x, int64_t n, bool below, bool above,
                                  uint8_t *y)
{
    const double low = below ? -HUGE_VAL : HUGE_VAL;
    const double high = above ? HUGE_VAL : -HUGE_VAL;
    for (int64_t i = 0; question == 0 && i < n; i++) {
        y[i] = x[i] == 0.0; /* Not */
    }
    for (int64_t i = 0; question == 1 && i < n; i++) {
        y[i] = x[i] != x[i];
    }
    for (int64_t i = 0; question == 2 && (below || above) && i < n; i++) {
        y[i] = x[i] == low || x[i] == high;
    }
    if (question == 2 && !below && !above) {
        memset(y, 0, (size_t)n);
    }
}

/* Tests the bits: an infinity has an all-zero mantissa. */
REF_WIDE static void answer_floats(const void *x, int64_t n, bool nan, bool below, bool above,
                                   uint8_t *y)
{
    const uint32_t *words = x;
    const uint32_t infinite = 0x7f800000U;
    const uint32_t low = below ? infinite | 0x80000000U : infinite;
    const uint32_t high = above ? infinite : low;
    const bool some = below || above;
    for (int64_t i = 0; nan && i < n; i++) {
        y[i] = (words[i] & 0x7fffffffU) > infinite;
    }
    for (int64_t i = 0; !nan && i < n; i++) {
        y[i] = some & ((words[i] == low) | (words[i] == high));
    }
}

/* Not, and IsNaN and IsInf as variants 1 and 2. */
static kiln_status ref_op_answer(ref_call *call)
{
    const int question = call->variant;
    const ref_tensor *x = NULL;
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_need_number(call, 0, &x));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_BOOL, x->rank, x->dims, &y));
    const int64_t below = ref_attribute_int(call, "detect_negative", 1);
    const int64_t above = ref_attribute_int(call, "detect_positive", 1);
    if (x->dtype == KILN_DTYPE_BOOL && question == 0) {
        deny(x->data, x->count, y->data);
        return KILN_OK;
    }
    if (x->dtype == KILN_DTYPE_FLOAT32 && question != 0) {
        answer_floats(x->data, x->count, question == 1, below != 0, above != 0, y->data);
        return KILN_OK;
    }
    double chunk[REF_CHUNK];
    for (int64_t i = 0; i < x->count; i += REF_CHUNK) {
        const int64_t n = x->count - i < REF_CHUNK ? x->count - i : REF_CHUNK;
        ref_load_float(x, i, 1, n, chunk);
        answer_chunk(question, chunk, n, below != 0, above != 0, (uint8_t *)y->data + i);
    }
    return KILN_OK;
}

/* clang-format off */
#define UNARY_ENTRY(name, since, expression) REF_OP(#name, since, unary, REF_UNARY_##name),
#define NUMERIC_ENTRY(name, since, f, s, u) REF_OP(#name, since, numeric, REF_NUMERIC_##name, "n"),
const ref_kernel ref_kernels_unary[] = {
    REF_UNARY_LIST(UNARY_ENTRY)
    REF_NUMERIC_LIST(NUMERIC_ENTRY)
    REF_OP("SwiGLU", 28, swiglu, 0, "ff"),
    REF_OP("Gelu", 20, gelu, 0),
    REF_OP_MS("QuickGelu", quick_gelu, 0),
    REF_OP("Shrink", 9, shrink, 0),
    REF_OP("Not", 1, answer, 0),
    REF_OP("IsNaN", 9, answer, 1),
    REF_OP("IsInf", 10, answer, 2),
    REF_KERNELS_END
};
/* clang-format on */
