/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_long.h"
#include "ref_ops.h"

/* In C, division by zero, and of the smallest integer by -1, is undefined. */
static int64_t divide(int64_t x, int64_t y)
{
    return y == 0 ? 0 : y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y;
}

/* The result has the divisor's sign, as in Python. */
static int64_t modulo(int64_t x, int64_t y)
{
    if (y == 0 || y == -1) {
        return 0;
    }
    const int64_t rest = x % y;
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}

static double modulo_float(double x, double y)
{
    const double rest = fmod(x, y);
    return rest != 0.0 && (rest < 0.0) != (y < 0.0) ? rest + y : rest;
}

typedef union row {
    double floats[REF_CHUNK];
    int64_t ints[REF_CHUNK];
} row;

/* Computes a row of up to REF_CHUNK elements in the domain's own type; `left` receives the
 * result. */
typedef void (*row_function)(ref_domain domain, int64_t n, row *left, const row *right);

#define DEFINE_ROW(name, of_float, of_signed, of_unsigned)                                     \
    REF_WIDE static void row_##name(ref_domain domain, int64_t n, row *left, const row *right) \
    {                                                                                          \
        double *xf = left->floats;                                                             \
        const double *yf = right->floats;                                                      \
        int64_t *xi = left->ints;                                                              \
        const int64_t *yi = right->ints;                                                       \
        for (int64_t i = 0; domain == REF_DOMAIN_FLOAT && i < n; i++) {                        \
            const double x = xf[i];                                                            \
            const double y = yf[i];                                                            \
            xf[i] = (of_float);                                                                \
        }                                                                                      \
        for (int64_t i = 0; domain == REF_DOMAIN_SIGNED && i < n; i++) {                       \
            const int64_t x = xi[i];                                                           \
            const int64_t y = yi[i];                                                           \
            xi[i] = (of_signed);                                                               \
            (void)y;                                                                           \
        }                                                                                      \
        for (int64_t i = 0; domain == REF_DOMAIN_UNSIGNED && i < n; i++) {                     \
            const uint64_t x = (uint64_t)xi[i];                                                \
            const uint64_t y = (uint64_t)yi[i];                                                \
            xi[i] = (int64_t)(of_unsigned);                                                    \
            (void)y;                                                                           \
        }                                                                                      \
    }
#define DEFINE_BINARY(name, since, f, s, u) DEFINE_ROW(name, f, s, u)
REF_BINARY_LIST(DEFINE_BINARY)
#define DEFINE_COMPARE(name, since, expression) DEFINE_ROW(name, expression, expression, expression)
REF_COMPARE_LIST(DEFINE_COMPARE)

static const row_function binary_rows[] = {
#define LIST_BINARY(name, since, f, s, u) [REF_BINARY_##name] = row_##name,
    REF_BINARY_LIST(LIST_BINARY)};

static const row_function compare_rows[] = {
#define LIST_COMPARE(name, since, expression) [REF_COMPARE_##name] = row_##name,
    REF_COMPARE_LIST(LIST_COMPARE)};

/* Quotients and remainders in double, truncated: if all operands are below 2^51, no quotient rounds
 * to a different integer. */
REF_WIDE static bool divide_short(ref_binary kind, bool is_signed, int64_t n, int64_t *restrict x,
                                  const int64_t *restrict y)
{
    uint64_t large = 0;
    for (int64_t i = 0; i < n; i++) {
        large |= ref_is_long((uint64_t)x[i], is_signed) | ref_is_long((uint64_t)y[i], is_signed);
    }
    for (int64_t i = 0; large == 0 && i < n; i++) {
        const double dividend = ref_double_of((uint64_t)x[i]);
        const double divisor = ref_double_of((uint64_t)y[i]);
        const double quotient = divisor == 0.0 ? 0.0 : trunc(dividend / divisor);
        const double rest = divisor == 0.0 ? 0.0 : dividend - quotient * divisor;
        const double turned = rest * divisor < 0.0 ? rest + divisor : rest;
        const double found = kind == REF_BINARY_Mod ? turned : rest;
        x[i] = (int64_t)ref_long_of(kind == REF_BINARY_Div ? quotient : found);
    }
    return large == 0;
}

/* The operation, in two forms. */
typedef struct pair_function {
    row_function row;
    int variant;
    bool compares;
} pair_function;

static pair_function binary_pair(int variant)
{
    return (pair_function){binary_rows[variant], variant, false};
}

static void apply(const pair_function *pair, ref_domain domain, int64_t n, row *left,
                  const row *right)
{
    const ref_binary kind = (ref_binary)pair->variant;
    const bool divides =
        !pair->compares && domain != REF_DOMAIN_FLOAT &&
        (kind == REF_BINARY_Div || kind == REF_BINARY_Mod || kind == REF_BINARY_Fmod);
    if (!divides || !divide_short(kind, domain == REF_DOMAIN_SIGNED, n, left->ints, right->ints)) {
        pair->row(domain, n, left, right);
    }
}

/* Computes everything in the type itself, if possible; else returns false. */
static bool combine_lean(const ref_walk *walk, const ref_tensor *a, const ref_tensor *b,
                         const pair_function *pair, ref_tensor *y)
{
    const int64_t a_step = walk->step[1];
    const int64_t b_step = walk->step[2];
    const ref_lean_function function = pair->compares ? ref_lean_compare(pair->variant, a->dtype)
                                                      : ref_lean_binary(pair->variant, a->dtype);
    if (function == NULL || a->dtype != b->dtype || (!pair->compares && y->dtype != a->dtype) ||
        walk->step[0] != 1 || (a_step != 0 && a_step != 1) || (b_step != 0 && b_step != 1)) {
        return false;
    }
    const int64_t size = (int64_t)ref_element_size(a->dtype);
    function(walk->length, (const char *)a->data + walk->offset[1] * size, a_step,
             (const char *)b->data + walk->offset[2] * size, b_step,
             (char *)y->data + walk->offset[0] * (pair->compares ? 1 : size));
    return true;
}

static void load(ref_domain domain, const ref_tensor *tensor, int64_t start, int64_t step,
                 int64_t n, row *out)
{
    if (domain == REF_DOMAIN_FLOAT) {
        ref_load_float(tensor, start, step, n, out->floats);
    } else {
        ref_load_int(tensor, start, step, n, out->ints);
    }
}

static void store(ref_domain domain, const row *in, int64_t start, int64_t step, int64_t n,
                  ref_tensor *tensor)
{
    if (domain == REF_DOMAIN_FLOAT) {
        ref_store_float(tensor, start, step, n, in->floats);
    } else {
        ref_store_int(tensor, start, step, n, in->ints);
    }
}

/* `y` may be one of the inputs, because each row is read before it is written. */
static void combine(ref_domain domain, const ref_tensor *a, const ref_tensor *b,
                    pair_function function, ref_tensor *y)
{
    ref_walk walk;
    ref_walk_init(&walk, y->rank, y->dims);
    ref_walk_add_broadcast(&walk, y);
    ref_walk_add_broadcast(&walk, a);
    ref_walk_add_broadcast(&walk, b);
    ref_walk_begin(&walk);
    row left;
    row right;
    while (ref_walk_next(&walk)) {
        if (combine_lean(&walk, a, b, &function, y)) {
            continue;
        }
        for (int64_t i = 0; i < walk.length; i += REF_CHUNK) {
            const int64_t n = walk.length - i < REF_CHUNK ? walk.length - i : REF_CHUNK;
            load(domain, a, walk.offset[1] + i * walk.step[1], walk.step[1], n, &left);
            load(domain, b, walk.offset[2] + i * walk.step[2], walk.step[2], n, &right);
            apply(&function, domain, n, &left, &right);
            store(domain, &left, walk.offset[0] + i * walk.step[0], walk.step[0], n, y);
        }
    }
}

static kiln_status ref_op_binary(ref_call *call);

ref_tensor ref_aligned(const ref_call *call, const ref_tensor *a, const ref_tensor *b)
{
    ref_tensor moved = *b;
    const bool slopes =
        call->variant == REF_BINARY_PRelu && call->node->kernel->function == ref_op_binary;
    const int64_t axis = slopes ? 1 : ref_attribute_int(call, "axis", -1);
    const int behind = a->rank - b->rank - (int)(axis < 0 || axis > a->rank ? 0 : axis);
    if (call->node->version < 7 && (slopes || ref_attribute_int(call, "broadcast", 0) != 0) &&
        axis >= 0 && behind > 0) {
        for (int i = 0; i < behind; i++) {
            moved.dims[moved.rank++] = 1;
        }
    }
    return moved;
}

static kiln_status two_inputs(ref_call *call, const ref_tensor **a, const ref_tensor **b)
{
    KLN_RETURN_IF_ERROR(ref_need_number(call, 0, a));
    KLN_RETURN_IF_ERROR(ref_need_number(call, 1, b));
    KLN_RETURN_IF((*a)->dtype != (*b)->dtype, KILN_ERROR_INVALID_NETWORK,
                  "the operands are %s and %s; one type is needed", kiln_dtype_name((*a)->dtype),
                  kiln_dtype_name((*b)->dtype));
    return KILN_OK;
}

static kiln_status run_binary(ref_call *call, pair_function function, bool compares)
{
    const ref_tensor *a = NULL;
    const ref_tensor *b = NULL;
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(two_inputs(call, &a, &b));
    const ref_tensor right = ref_aligned(call, a, b);
    int rank = 0;
    int64_t dims[REF_RANK];
    KLN_RETURN_IF_ERROR(ref_broadcast(call, a->rank, a->dims, right.rank, right.dims, &rank, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, compares ? KILN_DTYPE_BOOL : a->dtype, rank, dims, &y));
    combine(ref_domain_of(a->dtype), a, &right, function, y);
    return KILN_OK;
}

static kiln_status ref_op_binary(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    const bool bits =
        call->variant >= REF_BINARY_BitwiseAnd && call->variant <= REF_BINARY_BitwiseXor;
    KLN_FAIL_IF(bits && a != NULL && ref_domain_of(a->dtype) == REF_DOMAIN_FLOAT,
                ref_fail_dtype(call, a->dtype));
    return run_binary(call, binary_pair(call->variant), false);
}

static kiln_status ref_op_shift(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    KLN_FAIL_IF(ref_domain_of(a->dtype) == REF_DOMAIN_FLOAT, ref_fail_dtype(call, a->dtype));
    const bool right = strcmp(ref_attribute_string(call, "direction", ""), "RIGHT") == 0;
    return run_binary(call, binary_pair(right ? REF_BINARY_BitShiftRight : REF_BINARY_BitShiftLeft),
                      false);
}

static kiln_status ref_op_mod(ref_call *call)
{
    const bool fmod_wanted = ref_attribute_int(call, "fmod", 0) != 0;
    return run_binary(call, binary_pair(fmod_wanted ? REF_BINARY_Fmod : REF_BINARY_Mod), false);
}

static bool same_text(const kiln_span *a, const kiln_span *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

static kiln_status compare_strings(ref_call *call, const ref_tensor *a, const ref_tensor *b)
{
    int rank = 0;
    int64_t dims[REF_RANK];
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_broadcast(call, a->rank, a->dims, b->rank, b->dims, &rank, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_BOOL, rank, dims, &y));
    ref_walk walk;
    ref_walk_init(&walk, rank, dims);
    ref_walk_add_broadcast(&walk, y);
    ref_walk_add_broadcast(&walk, a);
    ref_walk_add_broadcast(&walk, b);
    ref_walk_begin(&walk);
    const kiln_span *left = a->data;
    const kiln_span *right = b->data;
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i++) {
            ((uint8_t *)y->data)[walk.offset[0] + i * walk.step[0]] =
                same_text(&left[walk.offset[1] + i * walk.step[1]],
                          &right[walk.offset[2] + i * walk.step[2]]);
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_compare(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    const ref_tensor *b = ref_input(call, 1);
    if (call->variant == REF_COMPARE_Equal && a != NULL && b != NULL &&
        a->dtype == KILN_DTYPE_STRING && b->dtype == KILN_DTYPE_STRING) {
        return compare_strings(call, a, b);
    }
    const pair_function function = {compare_rows[call->variant], call->variant, true};
    return run_binary(call, function, true);
}

REF_WIDE static void add_terms(const float *x, int64_t n, double *sums)
{
    for (int64_t i = 0; i < n; i++) {
        sums[i] += (double)x[i];
    }
}

/* The sum of two floats equals that of doubles, rounded. It starts from 0, so that it is never
 * -0. */
REF_WIDE static void add_two(const float *a, const float *b, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = (0.0F + a[i]) + b[i];
    }
}

REF_WIDE static void add_zero(int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] += 0.0F;
    }
}

REF_WIDE static void share_floats(const double *sums, int64_t n, double share, float *y)
{
    for (int64_t i = 0; share <= 2.0 && i < n; i++) {
        y[i] = (float)(sums[i] * (share == 2.0 ? 0.5 : 1.0));
    }
    for (int64_t i = 0; share > 2.0 && i < n; i++) {
        y[i] = (float)(sums[i] / share);
    }
}

/* The same for float32 without broadcasting, in pieces; false if that does not apply. */
static bool sum_alike(const ref_call *call, const ref_tensor *y, double share)
{
    bool alike = y->dtype == KILN_DTYPE_FLOAT32;
    for (size_t i = 0; i < call->node->input_count; i++) {
        alike = alike && ref_input(call, i)->count == y->count;
    }
    if (alike && share == 1.0 && call->node->input_count == 2) {
        add_two(ref_input(call, 0)->data, ref_input(call, 1)->data, y->count, y->data);
        return true;
    }
    for (int64_t at = 0; alike && at < y->count; at += REF_CHUNK) {
        const int64_t n = y->count - at < REF_CHUNK ? y->count - at : REF_CHUNK;
        double sums[REF_CHUNK] = {0};
        for (size_t i = 0; i < call->node->input_count; i++) {
            add_terms((const float *)ref_input(call, i)->data + at, n, sums);
        }
        share_floats(sums, n, share, (float *)y->data + at);
    }
    return alike;
}

/* Sums in double, to round to the dtype only once. */
static kiln_status sum_floats(ref_call *call, const ref_tensor *y)
{
    const double share = call->variant == REF_BINARY_Mean ? (double)call->node->input_count : 1.0;
    double *sum = NULL;
    if (sum_alike(call, y, share)) {
        return KILN_OK;
    }
    if (y->dtype == KILN_DTYPE_FLOAT32 && share == 1.0 && call->node->input_count == 2) {
        ref_tensor both = *y;
        combine(REF_DOMAIN_FLOAT, ref_input(call, 0), ref_input(call, 1),
                binary_pair(REF_BINARY_Add), &both);
        add_zero(y->count, y->data);
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)y->count, sizeof *sum, &sum));
    memset(sum, 0, (size_t)y->count * sizeof *sum);
    ref_tensor wide = *y;
    wide.dtype = KILN_DTYPE_FLOAT64;
    wide.data = sum;
    for (size_t i = 0; i < call->node->input_count; i++) {
        combine(REF_DOMAIN_FLOAT, &wide, ref_input(call, i), binary_pair(REF_BINARY_Add), &wide);
    }
    for (int64_t i = 0; i < y->count; i++) {
        sum[i] /= share;
    }
    ref_tensor out = *y;
    ref_store_float(&out, 0, 1, y->count, sum);
    return KILN_OK;
}

/* Max, Min, Mean and Sum of any number of tensors. */
static kiln_status ref_op_variadic(ref_call *call)
{
    const ref_tensor *first = ref_input(call, 0);
    const size_t count = call->node->input_count;
    ref_tensor *y = NULL;
    int rank = first->rank;
    int64_t dims[REF_RANK];
    memcpy(dims, first->dims, sizeof dims);
    for (size_t i = 1; i < count; i++) {
        const ref_tensor *next = NULL;
        KLN_RETURN_IF_ERROR(ref_need(call, i, &next));
        KLN_RETURN_IF(next->dtype != first->dtype, KILN_ERROR_INVALID_NETWORK,
                      "input %zu is %s, the first is %s", i, kiln_dtype_name(next->dtype),
                      kiln_dtype_name(first->dtype));
        KLN_RETURN_IF_ERROR(ref_broadcast(call, rank, dims, next->rank, next->dims, &rank, dims));
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, first->dtype, rank, dims, &y));
    const ref_domain domain = ref_domain_of(first->dtype);
    const bool adds = call->variant == REF_BINARY_Mean || call->variant == REF_BINARY_Add;
    if (adds && domain == REF_DOMAIN_FLOAT) {
        return sum_floats(call, y);
    }
    for (size_t i = 1; i < count; i++) {
        combine(domain, i == 1 ? first : y, ref_input(call, i), binary_pair(call->variant), y);
    }
    if (count == 1 && y->count > 0) {
        memcpy(y->data, first->data, (size_t)y->count * ref_element_size(y->dtype));
    }
    return KILN_OK;
}

/* clang-format off */
#define COMPARE_ENTRY(name, since, expression) REF_OP(#name, since, compare, REF_COMPARE_##name),
const ref_kernel ref_kernels_binary[] = {
    REF_COMPARE_LIST(COMPARE_ENTRY)
    REF_OP("Add", 1, binary, REF_BINARY_Add),
    REF_OP("Sub", 1, binary, REF_BINARY_Sub),
    REF_OP("Mul", 1, binary, REF_BINARY_Mul),
    REF_OP("Div", 1, binary, REF_BINARY_Div),
    REF_OP("PRelu", 6, binary, REF_BINARY_PRelu),
    REF_OP("BitwiseAnd", 18, binary, REF_BINARY_BitwiseAnd),
    REF_OP("BitwiseOr", 18, binary, REF_BINARY_BitwiseOr),
    REF_OP("BitwiseXor", 18, binary, REF_BINARY_BitwiseXor),
    REF_OP("Max", 1, variadic, REF_BINARY_Max, "n"),
    REF_OP("Min", 1, variadic, REF_BINARY_Min, "n"),
    REF_OP("Mean", 1, variadic, REF_BINARY_Mean, "n"),
    REF_OP("Sum", 1, variadic, REF_BINARY_Add, "n"),
    REF_OP("BitShift", 11, shift, 0, "t"),
    REF_OP("Mod", 10, mod, 0),
    REF_KERNELS_END
};
/* clang-format on */
