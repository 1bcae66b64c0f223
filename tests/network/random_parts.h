/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of random layers share. */
#ifndef RANDOM_PARTS_H
#define RANDOM_PARTS_H

#include "random_layers.h"

#define F KILN_DTYPE_FLOAT32

#define DO(call)                    \
    do {                            \
        if (r->status == KILN_OK) { \
            r->status = (call);     \
        }                           \
    } while (0)

extern int64_t random_indices[4096]; /* 0 to 2 */
extern int64_t random_ends[4096];    /* -1 and 0: in a dimension of any size */
extern float random_scales[4096];    /* powers of two from 1/8 to 2 */

/* A number from 0 to before `limit`. */
int64_t random_upto(random_network *r, int64_t limit);
int64_t random_elements(const random_tensor *t);

/* Something of the pool that fits, or NULL. */
typedef bool (*random_fits)(const random_tensor *t);
random_tensor *random_pick(random_network *r, random_fits wanted);

static inline bool random_is_float(kiln_dtype dtype)
{
    return dtype == F || dtype == KILN_DTYPE_FLOAT64 || dtype == KILN_DTYPE_FLOAT16;
}
static inline bool random_is_int(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_INT32 || dtype == KILN_DTYPE_INT64;
}

/* What layers ask for. uint8 is what was quantized, and goes into a dequantization only. */
static inline bool random_any(const random_tensor *t)
{
    return t->dtype != KILN_DTYPE_UINT8;
}
static inline bool random_any_ranked(const random_tensor *t)
{
    return random_any(t) && t->shape.rank > 0;
}
static inline bool random_f32(const random_tensor *t)
{
    return t->dtype == F;
}
static inline bool random_f32_ranked(const random_tensor *t)
{
    return t->dtype == F && t->shape.rank > 0;
}
static inline bool random_f32_exact(const random_tensor *t)
{
    return random_f32_ranked(t) && t->error == 0;
}
static inline bool random_f32_tame(const random_tensor *t)
{
    return random_f32_ranked(t) && t->most <= 64;
}
static inline bool random_number(const random_tensor *t)
{
    return t->dtype == F || t->dtype == KILN_DTYPE_FLOAT64 || random_is_int(t->dtype);
}
static inline bool random_matrix(const random_tensor *t)
{
    return (t->dtype == F || t->dtype == KILN_DTYPE_FLOAT64) && t->shape.rank >= 2;
}
static inline bool random_image(const random_tensor *t)
{
    return t->dtype == F && t->shape.rank >= 3 && t->shape.rank <= 5;
}
static inline bool random_tame_image(const random_tensor *t)
{
    return random_image(t) && t->most <= 64;
}

static inline bool random_boolean(const random_tensor *t)
{
    return t->dtype == KILN_DTYPE_BOOL;
}
static inline bool random_loopable(const random_tensor *t)
{
    return random_number(t) && random_elements(t) <= 512;
}
static inline bool random_contracted(const random_tensor *t)
{
    return random_matrix(t) && t->shape.rank <= 4 && t->most <= 4096;
}
static inline bool random_storable(const random_tensor *t)
{
    return random_f32_exact(t) && random_elements(t) <= 1024;
}
static inline bool random_heads(const random_tensor *t)
{
    return t->dtype == F && t->shape.rank == 4 && t->most <= 16;
}
static inline bool random_small(const random_tensor *t)
{
    return random_any_ranked(t) && random_elements(t) <= 512;
}
static inline bool random_small_number(const random_tensor *t)
{
    return random_small(t) && (t->dtype == F || t->dtype == KILN_DTYPE_INT64);
}
static inline bool random_index_like(const random_tensor *t)
{
    return t->dtype == KILN_DTYPE_INT64 && t->shape.rank > 0 && t->shape.rank < 5 &&
           random_elements(t) <= 512;
}
static inline bool random_few_scores(const random_tensor *t)
{
    return random_f32_exact(t) && random_elements(t) <= 48;
}

/* Twice half a unit in the last place of 1. */
static inline double random_unit(kiln_dtype dtype)
{
    return dtype == F ? 0x1p-23 : dtype == KILN_DTYPE_FLOAT64 ? 0x1p-52 : 0x1p-10;
}

/* Takes a new tensor in, as inference says it is; one without a fixed shape is used no more. */
void random_add(random_network *r, kiln_tensor_id id, double most, double error);
kiln_tensor_id random_constant(random_network *r, kiln_dtype dtype, kiln_shape shape,
                               const void *data);
kiln_tensor_id random_weights(random_network *r, kiln_shape shape);

/* The layers, and what each of them takes (random_wide.c: whole tensors, random_indexed.c: elements
 * by their places, random_special.c: loops, einsum and others of their own kind); NULL: it looks
 * for that itself. Each returns false where nothing fits. */
#define RANDOM_LAYERS(X)                \
    X(activation, random_f32)           \
    X(unary, NULL)                      \
    X(narrow, random_f32)               \
    X(arithmetic, NULL)                 \
    X(moving, random_any_ranked)        \
    X(logic, random_boolean)            \
    X(cast, random_any)                 \
    X(product, random_matrix)           \
    X(convolution, random_image)        \
    X(pooling, random_image)            \
    X(reduction, random_f32_tame)       \
    X(normalization, random_tame_image) \
    X(arithmetic, NULL)                 \
    X(moving, random_any_ranked)        \
    X(filling, random_f32_ranked)       \
    X(quantization, NULL)               \
    X(sequence, random_tame_image)      \
    X(branch, random_number)            \
    X(gathering, random_small)          \
    X(scattering, random_small_number)  \
    X(one_hot, random_index_like)       \
    X(suppression, random_few_scores)   \
    X(loop, random_loopable)            \
    X(einsum, random_contracted)        \
    X(making, random_any)               \
    X(scaling, random_image)            \
    X(integers, NULL)                   \
    X(storage, random_storable)         \
    X(attention, random_heads)
#define RANDOM_DECLARED(name, fits) bool random_##name(random_network *r, const random_tensor *t);
RANDOM_LAYERS(RANDOM_DECLARED)
#pragma GCC diagnostic ignored "-Wunused-parameter"

#endif
