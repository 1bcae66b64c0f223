/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on two expressions that cannot be done term by term: quotient, maximum and minimum. */
#include "infer_expression.h"

/* Removes the factors of `by` from `term`; false if one is missing. */
static bool divide_term(const kln_term *term, const kln_term *by, kln_term *quotient)
{
    if (term->coefficient % by->coefficient != 0) {
        return false;
    }
    *quotient = (kln_term){.coefficient = term->coefficient / by->coefficient};
    size_t k = 0;
    for (size_t i = 0; i < term->count; i++) {
        if (k < by->count && term->factors[i] == by->factors[k]) {
            k++;
        } else {
            quotient->factors[quotient->count++] = term->factors[i];
        }
    }
    return k == by->count;
}

/* a / b if b is a single term that divides every term of a, or equals a. */
static kln_dim divide_exactly(kln_expressions *pool, kln_dim a, kln_dim b)
{
    if (kln_dim_equal(a, b)) {
        return KLN_DIM_OF_NUMBER(1);
    }
    if (a.kind != KLN_DIM_EXPRESSION || b.of.expression->count != 1) {
        return KLN_UNKNOWN_DIM;
    }
    kln_draft quotient = {.count = 0};
    for (size_t i = 0; i < a.of.expression->count; i++) {
        kln_term term = {.coefficient = 0};
        if (!divide_term(&a.of.expression->terms[i], &b.of.expression->terms[0], &term)) {
            return KLN_UNKNOWN_DIM;
        }
        kln_draft_add(&quotient, &term);
    }
    return kln_dim_intern(pool, &quotient);
}

static int64_t floor_of(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

/* floor((q*n + r)/n) is q + floor(r/n): multiples of n are taken out. */
static kln_dim floor_by_number(kln_expressions *pool, const kln_expression *a, int64_t n)
{
    kln_draft whole = {.count = 0};
    kln_draft rest = {.count = 0};
    for (size_t i = 0; i < a->count; i++) {
        kln_term outside = a->terms[i];
        kln_term inside = a->terms[i];
        outside.coefficient = floor_of(a->terms[i].coefficient, n);
        inside.coefficient = a->terms[i].coefficient - outside.coefficient * n;
        if (inside.count != 0 && inside.coefficient != 0) {
            outside.coefficient = 0;
            inside.coefficient = a->terms[i].coefficient;
        }
        if (outside.coefficient != 0) {
            kln_draft_add(&whole, &outside);
        }
        if (inside.coefficient != 0) {
            kln_draft_add(&rest, &inside);
        }
    }
    const kln_dim inner = kln_dim_intern(pool, &rest);
    const kln_dim outer = kln_dim_intern(pool, &whole);
    if (inner.kind == KLN_DIM_NUMBER) {
        return kln_dim_plus(pool, outer, floor_of(inner.of.number, n));
    }
    if (inner.kind == KLN_DIM_UNKNOWN || outer.kind == KLN_DIM_UNKNOWN) {
        return KLN_UNKNOWN_DIM;
    }
    const kln_factor wanted = {.kind = KLN_FACTOR_FLOOR,
                               .size = inner.of.expression->size + 2,
                               .not_negative = inner.of.expression->not_negative,
                               .a = inner,
                               .divisor = n};
    return kln_dim_add(pool, outer, kln_dim_of_factor(pool, kln_factor_intern(pool, &wanted)));
}

kln_dim kln_dim_floor_divide(kln_expressions *pool, kln_dim a, kln_dim b)
{
    if (!kln_dim_is_exact(a) || !kln_dim_is_exact(b)) {
        return KLN_UNKNOWN_DIM;
    }
    if (b.kind == KLN_DIM_EXPRESSION) {
        return divide_exactly(pool, a, b);
    }
    if (b.of.number <= 0) {
        return KLN_UNKNOWN_DIM;
    }
    if (a.kind == KLN_DIM_NUMBER) {
        return KLN_DIM_OF_NUMBER(floor_of(a.of.number, b.of.number));
    }
    return floor_by_number(pool, a.of.expression, b.of.number);
}

kln_dim kln_dim_ceil_divide(kln_expressions *pool, kln_dim a, kln_dim b)
{
    if (b.kind != KLN_DIM_NUMBER) {
        return kln_dim_floor_divide(pool, a, b);
    }
    return kln_dim_floor_divide(pool, kln_dim_plus(pool, a, b.of.number - 1), b);
}

static kln_dim extreme(kln_expressions *pool, kln_dim a, kln_dim b, kln_factor_kind kind)
{
    if (!kln_dim_is_exact(a) || !kln_dim_is_exact(b)) {
        return KLN_UNKNOWN_DIM;
    }
    const kln_dim difference = kln_dim_subtract(pool, a, b);
    const kln_dim opposite = kln_dim_subtract(pool, b, a);
    if (kln_dim_not_negative(difference)) {
        return kind == KLN_FACTOR_MAX ? a : b;
    }
    if (kln_dim_not_negative(opposite)) {
        return kind == KLN_FACTOR_MAX ? b : a;
    }
    const bool swap = a.kind == KLN_DIM_NUMBER ||
                      (b.kind == KLN_DIM_EXPRESSION && a.of.expression->id > b.of.expression->id);
    const bool both = kln_dim_not_negative(a) && kln_dim_not_negative(b);
    const bool either = kln_dim_not_negative(a) || kln_dim_not_negative(b);
    const kln_factor wanted = {.kind = kind,
                               .size = kln_dim_size(a) + kln_dim_size(b) + 1,
                               .not_negative = kind == KLN_FACTOR_MAX ? either : both,
                               .a = swap ? b : a,
                               .b = swap ? a : b};
    return kln_dim_of_factor(pool, kln_factor_intern(pool, &wanted));
}

kln_dim kln_dim_max(kln_expressions *pool, kln_dim a, kln_dim b)
{
    return extreme(pool, a, b, KLN_FACTOR_MAX);
}

kln_dim kln_dim_min(kln_expressions *pool, kln_dim a, kln_dim b)
{
    return extreme(pool, a, b, KLN_FACTOR_MIN);
}
