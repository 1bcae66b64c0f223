/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_expression.h"

#define FIRST_BUCKETS ((size_t)256)

void kln_expressions_init(kln_expressions *pool, kln_arena *arena)
{
    *pool = (kln_expressions){.arena = arena};
}

static uint32_t mix(uint32_t hash, uint64_t value)
{
    const uint64_t words[2] = {hash, value};
    return (uint32_t)kln_hash_key(words, sizeof words);
}

static bool grow(kln_expressions *pool)
{
    const size_t most =
        pool->expression_count > pool->factor_count ? pool->expression_count : pool->factor_count;
    if (most < pool->bucket_count) {
        return true;
    }
    const size_t count = pool->bucket_count == 0 ? FIRST_BUCKETS : pool->bucket_count * 2;
    kln_expression **buckets = kln_arena_alloc_zeroed(pool->arena, count, sizeof(kln_expression *));
    kln_factor **factors = kln_arena_alloc_zeroed(pool->arena, count, sizeof(kln_factor *));
    if (buckets == NULL || factors == NULL) {
        pool->failed = true;
        return false;
    }
    for (size_t i = 0; i < pool->bucket_count; i++) {
        for (kln_expression *e = pool->buckets[i], *next = NULL; e != NULL; e = next) {
            next = e->next;
            e->next = buckets[e->hash & (count - 1)];
            buckets[e->hash & (count - 1)] = e;
        }
        for (kln_factor *f = pool->factor_buckets[i], *next = NULL; f != NULL; f = next) {
            next = f->next;
            f->next = factors[f->hash & (count - 1)];
            factors[f->hash & (count - 1)] = f;
        }
    }
    pool->buckets = buckets;
    pool->factor_buckets = factors;
    pool->bucket_count = count;
    return true;
}

bool kln_dim_equal(kln_dim a, kln_dim b)
{
    if (a.kind != b.kind) {
        return false;
    }
    switch (a.kind) {
        case KLN_DIM_UNKNOWN: return false;
        case KLN_DIM_NUMBER: return a.of.number == b.of.number;
        case KLN_DIM_REAL: return !(a.of.real < b.of.real) && !(a.of.real > b.of.real);
        case KLN_DIM_EXPRESSION: return a.of.expression == b.of.expression;
    }
    return false;
}

const char *kln_dim_name(kln_dim dim)
{
    if (dim.kind != KLN_DIM_EXPRESSION || dim.of.expression->count != 1) {
        return NULL;
    }
    const kln_term *term = &dim.of.expression->terms[0];
    const bool single = term->coefficient == 1 && term->count == 1;
    return single && term->factors[0]->kind == KLN_FACTOR_NAME ? term->factors[0]->name : NULL;
}

bool kln_dim_not_negative(kln_dim dim)
{
    return (dim.kind == KLN_DIM_NUMBER && dim.of.number >= 0) ||
           (dim.kind == KLN_DIM_EXPRESSION && dim.of.expression->not_negative);
}

/* --- factors --- */

static uint32_t hash_dim(uint32_t hash, kln_dim dim)
{
    hash = mix(hash, (uint64_t)dim.kind);
    switch (dim.kind) {
        case KLN_DIM_NUMBER: return mix(hash, (uint64_t)dim.of.number);
        case KLN_DIM_EXPRESSION: return mix(hash, dim.of.expression->hash);
        case KLN_DIM_REAL:
        case KLN_DIM_UNKNOWN: break;
    }
    return hash;
}

static bool same_operand(kln_dim a, kln_dim b)
{
    return (a.kind == KLN_DIM_UNKNOWN && b.kind == KLN_DIM_UNKNOWN) || kln_dim_equal(a, b);
}

static bool same_name(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

const kln_factor *kln_factor_intern(kln_expressions *pool, const kln_factor *wanted)
{
    if (!grow(pool)) {
        return NULL;
    }
    uint32_t hash = mix((uint32_t)wanted->kind, (uint64_t)wanted->divisor);
    if (wanted->name != NULL) {
        hash = mix(hash, kln_hash_key(wanted->name, strlen(wanted->name)));
    }
    hash = hash_dim(hash_dim(hash, wanted->a), wanted->b);
    kln_factor **bucket = &pool->factor_buckets[hash & (pool->bucket_count - 1)];
    for (const kln_factor *f = *bucket; f != NULL; f = f->next) {
        if (f->hash == hash && f->kind == wanted->kind && f->divisor == wanted->divisor &&
            same_operand(f->a, wanted->a) && same_operand(f->b, wanted->b) &&
            same_name(f->name, wanted->name)) {
            return f;
        }
    }
    kln_factor *factor = kln_arena_alloc(pool->arena, sizeof *factor);
    if (factor == NULL) {
        pool->failed = true;
        return NULL;
    }
    *factor = *wanted;
    factor->hash = hash;
    factor->id = (uint32_t)pool->factor_count++;
    factor->next = *bucket;
    *bucket = factor;
    return factor;
}

uint32_t kln_dim_size(kln_dim dim)
{
    return dim.kind == KLN_DIM_EXPRESSION ? dim.of.expression->size : 1;
}

/* --- terms --- */

/* Terms with more factors come first, then by the order in which factors were created. */
static int compare_terms(const kln_term *a, const kln_term *b)
{
    if (a->count != b->count) {
        return a->count > b->count ? -1 : 1;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (a->factors[i] != b->factors[i]) {
            return a->factors[i]->id < b->factors[i]->id ? -1 : 1;
        }
    }
    return 0;
}

/* Adds a term to a like one, or inserts it in order. */
void kln_draft_add(kln_draft *sum, const kln_term *term)
{
    size_t place = 0;
    int order = 1;
    while (place < sum->count && (order = compare_terms(&sum->terms[place], term)) < 0) {
        place++;
    }
    if (place < sum->count && order == 0) {
        kln_term *like = &sum->terms[place];
        sum->overflow |=
            __builtin_add_overflow(like->coefficient, term->coefficient, &like->coefficient);
        if (like->coefficient == 0) {
            sum->count--;
            memmove(like, like + 1, (sum->count - place) * sizeof *like);
        }
        return;
    }
    if (sum->count == KLN_ARRAY_LENGTH(sum->terms)) {
        sum->overflow = true;
        return;
    }
    memmove(&sum->terms[place + 1], &sum->terms[place], (sum->count - place) * sizeof *term);
    sum->terms[place] = *term;
    sum->count++;
}

static void draft_add_dim(kln_draft *sum, kln_dim dim, int64_t times)
{
    kln_term one = {.coefficient = dim.of.number, .count = 0};
    const kln_term *terms = &one;
    size_t count = dim.of.number != 0 ? 1 : 0;
    if (dim.kind == KLN_DIM_EXPRESSION) {
        terms = dim.of.expression->terms;
        count = dim.of.expression->count;
    }
    for (size_t i = 0; i < count; i++) {
        kln_term term = terms[i];
        sum->overflow |= __builtin_mul_overflow(term.coefficient, times, &term.coefficient);
        kln_draft_add(sum, &term);
    }
}

static bool same_terms(const kln_expression *e, const kln_draft *d)
{
    if (e->count != d->count) {
        return false;
    }
    for (size_t i = 0; i < d->count; i++) {
        if (e->terms[i].coefficient != d->terms[i].coefficient ||
            compare_terms(&e->terms[i], &d->terms[i]) != 0) {
            return false;
        }
    }
    return true;
}

/* Sets hash, size and sign; false beyond the limits. */
static bool measure(const kln_draft *d, kln_expression *e)
{
    e->hash = 1;
    e->size = 0;
    e->not_negative = true;
    for (size_t i = 0; i < d->count; i++) {
        const kln_term *term = &d->terms[i];
        e->hash = mix(e->hash, (uint64_t)term->coefficient);
        e->not_negative &= term->coefficient > 0;
        e->size++;
        for (size_t k = 0; k < term->count; k++) {
            e->hash = mix(e->hash, term->factors[k]->hash + k);
            e->size += term->factors[k]->size;
            e->not_negative &= term->factors[k]->not_negative;
        }
    }
    return e->size <= KLN_EXPRESSION_SIZE;
}

kln_dim kln_dim_intern(kln_expressions *pool, const kln_draft *d)
{
    if (d->overflow || d->count > KLN_TERMS_MOST) {
        return KLN_UNKNOWN_DIM;
    }
    if (d->count == 0) {
        return KLN_DIM_OF_NUMBER(0);
    }
    if (d->count == 1 && d->terms[0].count == 0) {
        return KLN_DIM_OF_NUMBER(d->terms[0].coefficient);
    }
    kln_expression head = {.count = (uint32_t)d->count};
    if (!measure(d, &head) || !grow(pool)) {
        return KLN_UNKNOWN_DIM;
    }
    kln_expression **bucket = &pool->buckets[head.hash & (pool->bucket_count - 1)];
    for (const kln_expression *e = *bucket; e != NULL; e = e->next) {
        if (e->hash == head.hash && same_terms(e, d)) {
            return (kln_dim){.kind = KLN_DIM_EXPRESSION, .of.expression = e};
        }
    }
    const size_t bytes = d->count * sizeof d->terms[0];
    kln_expression *e = kln_arena_alloc(pool->arena, sizeof *e + bytes);
    if (e == NULL) {
        pool->failed = true;
        return KLN_UNKNOWN_DIM;
    }
    *e = head;
    memcpy(e->terms, d->terms, bytes);
    e->id = (uint32_t)pool->expression_count++;
    e->next = *bucket;
    *bucket = e;
    return (kln_dim){.kind = KLN_DIM_EXPRESSION, .of.expression = e};
}

kln_dim kln_dim_of_factor(kln_expressions *pool, const kln_factor *factor)
{
    if (factor == NULL) {
        return KLN_UNKNOWN_DIM;
    }
    kln_draft d = {.count = 1};
    d.terms[0] = (kln_term){.coefficient = 1, .count = 1, .factors = {factor}};
    return kln_dim_intern(pool, &d);
}

/* --- arithmetic --- */

bool kln_dim_is_exact(kln_dim dim)
{
    return dim.kind == KLN_DIM_NUMBER || dim.kind == KLN_DIM_EXPRESSION;
}

kln_dim kln_dim_of_name(kln_expressions *pool, const char *name)
{
    const kln_factor wanted = {
        .kind = KLN_FACTOR_NAME, .size = 1, .not_negative = true, .name = name};
    return kln_dim_of_factor(pool, kln_factor_intern(pool, &wanted));
}

static kln_dim combine(kln_expressions *pool, kln_dim a, kln_dim b, int64_t times)
{
    if (!kln_dim_is_exact(a) || !kln_dim_is_exact(b)) {
        return KLN_UNKNOWN_DIM;
    }
    int64_t number = b.of.number;
    if (a.kind == KLN_DIM_NUMBER && b.kind == KLN_DIM_NUMBER) {
        const bool fits = !__builtin_mul_overflow(number, times, &number) &&
                          !__builtin_add_overflow(a.of.number, number, &number);
        return fits ? KLN_DIM_OF_NUMBER(number) : KLN_UNKNOWN_DIM;
    }
    kln_draft sum = {.count = 0};
    draft_add_dim(&sum, a, 1);
    draft_add_dim(&sum, b, times);
    return kln_dim_intern(pool, &sum);
}

kln_dim kln_dim_add(kln_expressions *pool, kln_dim a, kln_dim b)
{
    return combine(pool, a, b, 1);
}

kln_dim kln_dim_subtract(kln_expressions *pool, kln_dim a, kln_dim b)
{
    return combine(pool, a, b, -1);
}

kln_dim kln_dim_plus(kln_expressions *pool, kln_dim a, int64_t b)
{
    return combine(pool, a, KLN_DIM_OF_NUMBER(b), 1);
}

kln_dim kln_dim_times(kln_expressions *pool, kln_dim a, int64_t b)
{
    return kln_dim_multiply(pool, a, KLN_DIM_OF_NUMBER(b));
}

static bool multiply_terms(const kln_term *a, const kln_term *b, kln_term *product)
{
    if (a->count + b->count > KLN_FACTORS_MOST ||
        __builtin_mul_overflow(a->coefficient, b->coefficient, &product->coefficient)) {
        return false;
    }
    product->count = a->count + b->count;
    size_t i = 0;
    size_t k = 0;
    for (size_t n = 0; n < product->count; n++) {
        const bool left = k == b->count || (i < a->count && a->factors[i]->id <= b->factors[k]->id);
        product->factors[n] = left ? a->factors[i++] : b->factors[k++];
    }
    return true;
}

kln_dim kln_dim_multiply(kln_expressions *pool, kln_dim a, kln_dim b)
{
    if (!kln_dim_is_exact(a) || !kln_dim_is_exact(b)) {
        /* 0 elements stay 0, whatever the other dimension is. */
        const bool nothing = (a.kind == KLN_DIM_NUMBER && a.of.number == 0) ||
                             (b.kind == KLN_DIM_NUMBER && b.of.number == 0);
        return nothing ? KLN_DIM_OF_NUMBER(0) : KLN_UNKNOWN_DIM;
    }
    int64_t number = 0;
    if (a.kind == KLN_DIM_NUMBER && b.kind == KLN_DIM_NUMBER) {
        return __builtin_mul_overflow(a.of.number, b.of.number, &number)
                   ? KLN_UNKNOWN_DIM
                   : KLN_DIM_OF_NUMBER(number);
    }
    kln_draft product = {.count = 0};
    if (a.kind == KLN_DIM_NUMBER || b.kind == KLN_DIM_NUMBER) {
        const bool swap = a.kind == KLN_DIM_NUMBER;
        const int64_t times = swap ? a.of.number : b.of.number;
        if (times != 0) {
            draft_add_dim(&product, swap ? b : a, times);
        }
        return kln_dim_intern(pool, &product);
    }
    for (size_t i = 0; i < a.of.expression->count; i++) {
        for (size_t k = 0; k < b.of.expression->count; k++) {
            kln_term term = {.coefficient = 0};
            if (!multiply_terms(&a.of.expression->terms[i], &b.of.expression->terms[k], &term)) {
                return KLN_UNKNOWN_DIM;
            }
            kln_draft_add(&product, &term);
        }
    }
    return kln_dim_intern(pool, &product);
}
