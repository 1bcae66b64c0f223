/* SPDX-License-Identifier: Apache-2.0 */
/* Exact arithmetic on named dimensions. Private to this module.
 *
 * An expression is a polynomial with integer coefficients over factors; a factor is a name,
 * floor(e/n), max(a,b) or min(a,b). Both are unique in their pool, so equal expressions are the
 * same pointer. A result that exceeds a limit below, or overflows, is unknown, never wrong. */
#ifndef KLN_INFER_EXPRESSION_H
#define KLN_INFER_EXPRESSION_H

#include "kln_ops.h"

#define KLN_TERMS_MOST 8
#define KLN_FACTORS_MOST 4
/* Names, numbers and signs in one expression, so that nesting cannot grow without end. */
#define KLN_EXPRESSION_SIZE 48

#define KLN_UNKNOWN_DIM ((kln_dim){.kind = KLN_DIM_UNKNOWN, .of.number = 0})

typedef enum kln_factor_kind {
    KLN_FACTOR_NAME,
    KLN_FACTOR_FLOOR, /* floor(a / divisor) */
    KLN_FACTOR_MAX,
    KLN_FACTOR_MIN
} kln_factor_kind;

typedef struct kln_factor {
    struct kln_factor *next; /* in its bucket */
    kln_factor_kind kind;
    uint32_t id; /* in order of creation: the order inside a term */
    uint32_t hash;
    uint32_t size;
    bool not_negative;
    const char *name;
    kln_dim a, b;
    int64_t divisor;
} kln_factor;

typedef struct kln_term {
    int64_t coefficient; /* never 0 */
    uint32_t count;      /* 0: the constant term, which is the last */
    const kln_factor *factors[KLN_FACTORS_MOST];
} kln_term;

struct kln_expression {
    struct kln_expression *next;
    uint32_t id; /* in order of creation; no order may come from a hash, which has a secret */
    uint32_t hash;
    uint32_t size;
    bool not_negative; /* for all values that dimensions can have */
    uint32_t count;
    kln_term terms[];
};

struct kln_expressions {
    kln_arena *arena;
    kln_expression **buckets;
    kln_factor **factor_buckets;
    size_t bucket_count; /* of each; a power of two or 0 */
    size_t expression_count, factor_count;
    bool failed; /* memory ran out; what was asked for then is unknown */
};

/* --- for infer_divide.c --- */

/* A polynomial in the making: unordered until it is interned. */
typedef struct kln_draft {
    size_t count;
    bool overflow;
    kln_term terms[KLN_TERMS_MOST * KLN_TERMS_MOST + 2];
} kln_draft;

void kln_draft_add(kln_draft *sum, const kln_term *term);
kln_dim kln_dim_intern(kln_expressions *pool, const kln_draft *d);
const kln_factor *kln_factor_intern(kln_expressions *pool, const kln_factor *wanted);
kln_dim kln_dim_of_factor(kln_expressions *pool, const kln_factor *factor);
bool kln_dim_is_exact(kln_dim dim);
uint32_t kln_dim_size(kln_dim dim);

/* --- for everybody --- */

void kln_expressions_init(kln_expressions *pool, kln_arena *arena);

/* The name must stay as long as the pool. */
kln_dim kln_dim_of_name(kln_expressions *pool, const char *name);
kln_dim kln_dim_add(kln_expressions *pool, kln_dim a, kln_dim b);
kln_dim kln_dim_subtract(kln_expressions *pool, kln_dim a, kln_dim b);
kln_dim kln_dim_multiply(kln_expressions *pool, kln_dim a, kln_dim b);
/* Rounded down; unknown unless b is a positive number or divides a exactly. */
kln_dim kln_dim_floor_divide(kln_expressions *pool, kln_dim a, kln_dim b);
/* Rounded up, likewise. */
kln_dim kln_dim_ceil_divide(kln_expressions *pool, kln_dim a, kln_dim b);
kln_dim kln_dim_max(kln_expressions *pool, kln_dim a, kln_dim b);
kln_dim kln_dim_min(kln_expressions *pool, kln_dim a, kln_dim b);
/* Whether it is known never to be below 0. */
bool kln_dim_not_negative(kln_dim dim);

/* x op y for numbers and expressions alike, with a number as the second. */
kln_dim kln_dim_plus(kln_expressions *pool, kln_dim a, int64_t b);
kln_dim kln_dim_times(kln_expressions *pool, kln_dim a, int64_t b);

#endif
