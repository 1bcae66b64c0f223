/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "infer_rules.h"

/* Follows the contents of values through the operators that compute shapes: integers, exact
 * expressions and small floating-point constants. An unknown element stays unknown alone; the
 * others are still followed. */

/* --- elements --- */

bool kln_fold_is_static(const kln_value *value)
{
    for (size_t i = 0; value != NULL && value->has_shape && i < value->rank; i++) {
        if (value->dims[i].kind != KLN_DIM_NUMBER) {
            return false;
        }
    }
    return value != NULL && value->has_shape;
}

size_t kln_fold_elements(const kln_value *value)
{
    size_t product = 1;
    for (size_t i = 0; i < value->rank; i++) {
        if (__builtin_mul_overflow(product, (size_t)value->dims[i].of.number, &product)) {
            return SIZE_MAX;
        }
    }
    return product;
}

/* The contents of an input if they are known for all elements of a static shape, else NULL. */
const kln_dim *kln_fold_whole(kln_rule *rule, size_t input)
{
    size_t count = 0;
    const kln_dim *found = kln_rule_contents(rule, input, &count);
    return found != NULL && kln_fold_is_static(rule->in[input]) &&
                   kln_fold_elements(rule->in[input]) == count
               ? found
               : NULL;
}

kln_dim *kln_fold_start(kln_rule *rule, size_t output, size_t *count)
{
    return kln_rule_wants(rule, output) && kln_rule_elements(rule, output, count)
               ? kln_rule_fill(rule, output, *count)
               : NULL;
}

size_t kln_fold_dim(const kln_value *value, size_t axis)
{
    return (size_t)value->dims[axis].of.number;
}

/* The product of dims [first, last). */
size_t kln_fold_span(const kln_value *value, size_t first, size_t last)
{
    size_t product = 1;
    for (size_t i = first; i < last; i++) {
        product *= kln_fold_dim(value, i);
    }
    return product;
}

bool kln_fold_axis(const kln_rule *rule, int64_t otherwise, const kln_value *value, size_t *axis)
{
    int64_t given = kln_rule_int(rule, "axis", otherwise);
    given = given < 0 ? given + (int64_t)value->rank : given;
    *axis = (size_t)given;
    return given >= 0 && given < (int64_t)value->rank;
}

/* The index of element `i` of a tensor of shape `out` along each axis. */
void kln_fold_unravel(const kln_value *out, size_t element, size_t *index)
{
    for (size_t k = out->rank; k-- > 0;) {
        const size_t dim = kln_fold_dim(out, k);
        index[k] = dim > 0 ? element % dim : 0;
        element = dim > 0 ? element / dim : 0;
    }
}

/* --- numbers --- */

static bool is_float(int32_t wire)
{
    return wire == KLN_WIRE_FLOAT || wire == KLN_WIRE_FLOAT16 || wire == KLN_WIRE_DOUBLE ||
           wire == KLN_WIRE_BFLOAT16;
}

static kln_dim real_of(kln_dim dim)
{
    return dim.kind == KLN_DIM_NUMBER
               ? (kln_dim){.kind = KLN_DIM_REAL, .of.real = (double)dim.of.number}
               : dim;
}

static kln_dim finite_or_unknown(double real)
{
    return isfinite(real) ? (kln_dim){.kind = KLN_DIM_REAL, .of.real = real} : KLN_UNKNOWN_DIM;
}

/* Converts a real that is an integer back to one. */
static kln_dim whole_of(kln_dim dim)
{
    if (dim.kind != KLN_DIM_REAL) {
        return dim;
    }
    const double value = trunc(dim.of.real);
    return value > -9e15 && value < 9e15 ? KLN_DIM_OF_NUMBER((int64_t)value) : KLN_UNKNOWN_DIM;
}

static bool is_whole(double value)
{
    return !(value < trunc(value)) && !(value > trunc(value)) && fabs(value) < 9e15;
}

/* --- moving elements --- */

/* Identity, Reshape, Squeeze, Unsqueeze, Flatten: the same elements in the same order. */
void kln_fold_copy(kln_rule *rule)
{
    if (rule->in_count == 0 || rule->in[0] == NULL || !kln_rule_wants(rule, 0)) {
        return;
    }
    kln_value *out = &rule->out[0];
    const kln_value *in = rule->in[0];
    if (out->initializer != NULL && in->contents == NULL) {
        return;
    }
    if (in->contents == NULL && in->initializer != NULL && out->has_shape) {
        size_t count = 0;
        (void)kln_rule_contents(rule, 0, &count);
    }
    out->contents = in->contents;
    out->content_count = in->content_count;
}

/* The element of a broadcast input for element `at` of the output. */
static kln_dim element(const kln_rule *rule, const kln_dim *const *operands, size_t input,
                       size_t at)
{
    const kln_value *out = &rule->out[0];
    const kln_value *in = rule->in[input];
    const size_t pad = out->rank - in->rank;
    size_t place = 0;
    size_t step = 1;
    for (size_t i = out->rank; i-- > pad;) {
        const size_t dim = kln_fold_dim(out, i);
        const size_t index = dim > 0 ? at % dim : 0;
        const size_t in_dim = kln_fold_dim(in, i - pad);
        at = dim > 0 ? at / dim : 0;
        place += in_dim == 1 ? 0 : index * step;
        step *= in_dim;
    }
    return operands[input][place];
}

/* The contents of an input that broadcasts. */
static const kln_dim *operand(kln_rule *rule, size_t input)
{
    const kln_dim *found = kln_fold_whole(rule, input);
    return found != NULL && rule->in[input]->rank <= rule->out[0].rank ? found : NULL;
}

/* --- arithmetic --- */

static kln_dim real_binary(const char *op, double a, double b)
{
    return finite_or_unknown(strcmp(op, "Add") == 0   ? a + b
                             : strcmp(op, "Sub") == 0 ? a - b
                             : strcmp(op, "Mul") == 0 ? a * b
                             : strcmp(op, "Div") == 0 ? a / b
                             : strcmp(op, "Pow") == 0 ? pow(a, b)
                             : strcmp(op, "Max") == 0 ? fmax(a, b)
                             : strcmp(op, "Min") == 0 ? fmin(a, b)
                                                      : (double)NAN);
}

/* Integer division truncates; that equals floor only if neither operand is negative. */
static kln_dim divide(kln_expressions *pool, kln_dim a, kln_dim b)
{
    if (a.kind == KLN_DIM_NUMBER && b.kind == KLN_DIM_NUMBER) {
        const bool bad = b.of.number == 0 || (a.of.number == INT64_MIN && b.of.number == -1);
        return bad ? KLN_UNKNOWN_DIM : KLN_DIM_OF_NUMBER(a.of.number / b.of.number);
    }
    const bool floors = kln_dim_not_negative(a) && kln_dim_not_negative(b);
    const kln_dim exact = kln_dim_floor_divide(pool, a, b);
    return floors || kln_dim_equal(kln_dim_multiply(pool, exact, b), a) ? exact : KLN_UNKNOWN_DIM;
}

static kln_dim modulo(kln_rule *rule, kln_dim a, kln_dim b)
{
    kln_expressions *pool = &rule->state->pool;
    if (b.kind != KLN_DIM_NUMBER || b.of.number <= 0 || !kln_dim_not_negative(a)) {
        return KLN_UNKNOWN_DIM;
    }
    return kln_dim_subtract(pool, a, kln_dim_multiply(pool, kln_dim_floor_divide(pool, a, b), b));
}

static kln_dim integer_power(kln_rule *rule, kln_dim a, kln_dim b)
{
    if (b.kind != KLN_DIM_NUMBER || b.of.number < 0 || b.of.number > 8) {
        return KLN_UNKNOWN_DIM;
    }
    kln_dim power = KLN_DIM_OF_NUMBER(1);
    for (int64_t i = 0; i < b.of.number; i++) {
        power = kln_dim_multiply(&rule->state->pool, power, a);
    }
    return power;
}

/* Applies `op` to an expression and a real, if the result is an exact expression. */
static kln_dim expression_by_real(kln_expressions *pool, const char *op, kln_dim a, double b)
{
    const bool multiplied = strcmp(op, "Mul") == 0;
    if (strcmp(op, "Div") == 0 || multiplied) {
        const double factor = multiplied ? b : 1.0 / b;
        if (is_whole(factor)) {
            return kln_dim_times(pool, a, (int64_t)factor);
        }
        const double divisor = multiplied ? 1.0 / b : b;
        if (is_whole(divisor) && divisor >= 1.0) {
            const kln_dim by = KLN_DIM_OF_NUMBER((int64_t)divisor);
            const kln_dim exact = kln_dim_floor_divide(pool, a, by);
            return kln_dim_equal(kln_dim_multiply(pool, exact, by), a) ? exact : KLN_UNKNOWN_DIM;
        }
        return KLN_UNKNOWN_DIM;
    }
    if (!is_whole(b)) {
        return KLN_UNKNOWN_DIM;
    }
    if (strcmp(op, "Add") == 0 || strcmp(op, "Sub") == 0) {
        return kln_dim_plus(pool, a, strcmp(op, "Add") == 0 ? (int64_t)b : -(int64_t)b);
    }
    return KLN_UNKNOWN_DIM;
}

static kln_dim arithmetic(kln_rule *rule, const char *op, kln_dim a, kln_dim b)
{
    kln_expressions *pool = &rule->state->pool;
    if (a.kind == KLN_DIM_REAL && b.kind == KLN_DIM_REAL) {
        return real_binary(op, a.of.real, b.of.real);
    }
    if (a.kind == KLN_DIM_EXPRESSION && b.kind == KLN_DIM_REAL) {
        return expression_by_real(pool, op, a, b.of.real);
    }
    if (a.kind == KLN_DIM_REAL && b.kind == KLN_DIM_EXPRESSION) {
        const bool commutes = strcmp(op, "Mul") == 0 || strcmp(op, "Add") == 0;
        return commutes ? expression_by_real(pool, op, b, a.of.real) : KLN_UNKNOWN_DIM;
    }
    if (a.kind == KLN_DIM_REAL || b.kind == KLN_DIM_REAL) {
        return real_binary(op, real_of(a).of.real, real_of(b).of.real);
    }
    if (a.kind == KLN_DIM_UNKNOWN || b.kind == KLN_DIM_UNKNOWN) {
        return strcmp(op, "Mul") == 0 ? kln_dim_multiply(pool, a, b) : KLN_UNKNOWN_DIM;
    }
    switch (op[0]) {
        case 'A': return kln_dim_add(pool, a, b);
        case 'S': return op[2] == 'b' ? kln_dim_subtract(pool, a, b) : kln_dim_add(pool, a, b);
        case 'D': return divide(pool, a, b);
        case 'P': return integer_power(rule, a, b);
        case 'M': break;
        default: return KLN_UNKNOWN_DIM;
    }
    return strcmp(op, "Mul") == 0   ? kln_dim_multiply(pool, a, b)
           : strcmp(op, "Mod") == 0 ? modulo(rule, a, b)
           : strcmp(op, "Max") == 0 ? kln_dim_max(pool, a, b)
                                    : kln_dim_min(pool, a, b);
}

/* Limits to the range of the output's type; an integer that wraps around becomes unknown. */
static kln_dim in_range(kln_dim dim, int32_t wire)
{
    const bool wraps = dim.kind == KLN_DIM_NUMBER && wire == KLN_WIRE_INT32 &&
                       (dim.of.number > INT32_MAX || dim.of.number < INT32_MIN);
    return wraps ? KLN_UNKNOWN_DIM : dim;
}

/* Starts an output if the first `inputs` inputs are known; the caller then fills it in. */
static kln_dim *begin(kln_rule *rule, size_t inputs, const kln_dim **operands, size_t *count)
{
    for (size_t i = 0; i < inputs; i++) {
        if (!kln_rule_may_know(rule, i)) {
            return NULL;
        }
    }
    if (!kln_rule_wants(rule, 0) || !kln_rule_elements(rule, 0, count) ||
        *count > rule->state->options.content_limit) {
        return NULL;
    }
    for (size_t i = 0; i < inputs; i++) {
        operands[i] = operand(rule, i);
        if (operands[i] == NULL) {
            return NULL;
        }
    }
    return kln_rule_fill(rule, 0, *count);
}

void kln_fold_binary(kln_rule *rule)
{
    const kln_dim *in[2];
    size_t count = 0;
    if (rule->since < 7) {
        return;
    }
    kln_dim *out = begin(rule, 2, in, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        const kln_dim a = element(rule, in, 0, i);
        const kln_dim b = element(rule, in, 1, i);
        const bool fmod_asked =
            strcmp(rule->node->op_type, "Mod") == 0 && kln_rule_int(rule, "fmod", 0) != 0;
        out[i] = fmod_asked ? KLN_UNKNOWN_DIM
                            : in_range(arithmetic(rule, rule->node->op_type, a, b),
                                       rule->out[0].wire_dtype);
    }
}

void kln_fold_variadic(kln_rule *rule)
{
    const kln_dim *in[8];
    size_t count = 0;
    const size_t in_count = rule->in_count;
    if (in_count == 0 || in_count > KLN_ARRAY_LENGTH(in) || rule->since < 8) {
        return;
    }
    kln_dim *out = begin(rule, in_count, in, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        out[i] = element(rule, in, 0, i);
        for (size_t k = 1; k < in_count; k++) {
            out[i] = arithmetic(rule, rule->node->op_type, out[i], element(rule, in, k, i));
        }
    }
}

static kln_dim truth(bool value)
{
    return KLN_DIM_OF_NUMBER(value ? 1 : 0);
}

/* -1, 0 or 1; 2 if unknown. */
static int order_of(kln_rule *rule, kln_dim a, kln_dim b)
{
    if (a.kind == KLN_DIM_REAL || b.kind == KLN_DIM_REAL) {
        a = real_of(a);
        b = real_of(b);
        if (a.kind != KLN_DIM_REAL || b.kind != KLN_DIM_REAL) {
            return 2;
        }
        return a.of.real < b.of.real ? -1 : a.of.real > b.of.real ? 1 : 0;
    }
    const kln_dim difference = kln_dim_subtract(&rule->state->pool, a, b);
    if (difference.kind == KLN_DIM_NUMBER) {
        return difference.of.number < 0 ? -1 : difference.of.number > 0 ? 1 : 0;
    }
    /* A dimension is never negative: `batch` is not -1. */
    if (b.kind == KLN_DIM_NUMBER && b.of.number < 0 && kln_dim_not_negative(a)) {
        return 1;
    }
    return a.kind == KLN_DIM_NUMBER && a.of.number < 0 && kln_dim_not_negative(b) ? -1 : 2;
}

static kln_dim compared(kln_rule *rule, const char *op, kln_dim a, kln_dim b)
{
    const bool known = a.kind == KLN_DIM_NUMBER && b.kind == KLN_DIM_NUMBER;
    if (strcmp(op, "And") == 0 || strcmp(op, "Or") == 0 || strcmp(op, "Xor") == 0) {
        if (!known) {
            return KLN_UNKNOWN_DIM;
        }
        const bool x = a.of.number != 0;
        const bool y = b.of.number != 0;
        return truth(op[0] == 'A' ? x && y : op[0] == 'O' ? x || y : x != y);
    }
    const int order = order_of(rule, a, b);
    if (order == 2) {
        return KLN_UNKNOWN_DIM;
    }
    const bool or_equal = strstr(op, "OrEqual") != NULL;
    return op[0] == 'E'   ? truth(order == 0)
           : op[0] == 'L' ? truth(order < 0 || (or_equal && order == 0))
                          : truth(order > 0 || (or_equal && order == 0));
}

void kln_fold_compare(kln_rule *rule)
{
    const kln_dim *in[2];
    size_t count = 0;
    if (rule->since < 7) {
        return;
    }
    kln_dim *out = begin(rule, 2, in, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        out[i] =
            compared(rule, rule->node->op_type, element(rule, in, 0, i), element(rule, in, 1, i));
    }
}

void kln_fold_where(kln_rule *rule)
{
    const kln_dim *in[3];
    size_t count = 0;
    kln_dim *out = begin(rule, 3, in, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        const kln_dim which = element(rule, in, 0, i);
        const kln_dim a = element(rule, in, 1, i);
        const kln_dim b = element(rule, in, 2, i);
        const bool is_a = which.kind == KLN_DIM_NUMBER ? which.of.number != 0 : kln_dim_equal(a, b);
        out[i] = is_a ? a : which.kind == KLN_DIM_NUMBER ? b : KLN_UNKNOWN_DIM;
    }
}

static kln_dim unary(kln_rule *rule, const char *op, kln_dim a)
{
    kln_expressions *pool = &rule->state->pool;
    if (a.kind == KLN_DIM_REAL) {
        const double x = a.of.real;
        const double y = strcmp(op, "Floor") == 0   ? floor(x)
                         : strcmp(op, "Ceil") == 0  ? ceil(x)
                         : strcmp(op, "Round") == 0 ? nearbyint(x)
                         : strcmp(op, "Neg") == 0   ? -x
                         : strcmp(op, "Abs") == 0   ? fabs(x)
                         : strcmp(op, "Sqrt") == 0  ? sqrt(x)
                                                    : (double)NAN;
        return finite_or_unknown(y);
    }
    if (strcmp(op, "Neg") == 0) {
        return kln_dim_subtract(pool, KLN_DIM_OF_NUMBER(0), a);
    }
    if (strcmp(op, "Not") == 0) {
        return a.kind == KLN_DIM_NUMBER ? truth(a.of.number == 0) : KLN_UNKNOWN_DIM;
    }
    if (strcmp(op, "Abs") == 0 && !kln_dim_not_negative(a)) {
        const bool number = a.kind == KLN_DIM_NUMBER;
        return number ? kln_dim_subtract(pool, KLN_DIM_OF_NUMBER(0), a) : KLN_UNKNOWN_DIM;
    }
    return strcmp(op, "Sqrt") == 0 ? KLN_UNKNOWN_DIM : a;
}

void kln_fold_unary(kln_rule *rule)
{
    const kln_dim *in[1];
    size_t count = 0;
    kln_dim *out = begin(rule, 1, in, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        out[i] = unary(rule, rule->node->op_type, in[0][i]);
    }
}

void kln_fold_cast(kln_rule *rule)
{
    const kln_dim *in[1];
    size_t count = 0;
    const int32_t to = rule->out_count > 0 ? rule->out[0].wire_dtype : 0;
    const bool integer = to == KLN_WIRE_INT64 || to == KLN_WIRE_INT32;
    if (!integer && !is_float(to) && to != KLN_WIRE_BOOL) {
        return;
    }
    kln_dim *out = begin(rule, 1, in, &count);
    for (size_t i = 0; out != NULL && i < count; i++) {
        const kln_dim a = in[0][i];
        if (to == KLN_WIRE_BOOL) {
            out[i] = a.kind == KLN_DIM_NUMBER ? truth(a.of.number != 0)
                     : a.kind == KLN_DIM_REAL ? truth(a.of.real < 0.0 || a.of.real > 0.0)
                                              : KLN_UNKNOWN_DIM;
        } else if (integer) {
            out[i] = in_range(whole_of(a), to);
        } else {
            out[i] = to == KLN_WIRE_FLOAT && a.kind == KLN_DIM_NUMBER
                         ? (kln_dim){.kind = KLN_DIM_REAL, .of.real = (double)(float)a.of.number}
                         : real_of(a);
        }
    }
}
