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

/* Layers of whole tensors (random_wide.c); each returns false when nothing fits. */
bool random_convolution(random_network *r);
bool random_pooling(random_network *r);
bool random_reduction(random_network *r);
bool random_normalization(random_network *r);
bool random_moving(random_network *r);
bool random_filling(random_network *r);
bool random_quantization(random_network *r);
bool random_sequence(random_network *r);
bool random_branch(random_network *r);

/* Layers that choose elements (random_indexed.c). */
bool random_gathering(random_network *r);
bool random_scattering(random_network *r);
bool random_one_hot(random_network *r);
bool random_suppression(random_network *r);

/* Loops, einsum and other layers of their own kind (random_special.c). */
bool random_loop(random_network *r);
bool random_einsum(random_network *r);
bool random_making(random_network *r);
bool random_scaling(random_network *r);
bool random_integers(random_network *r);
bool random_storage(random_network *r);
bool random_attention(random_network *r);

#endif
