/* SPDX-License-Identifier: Apache-2.0 */
/* Converts half-precision logits to float, a row at a time: a step of a large batch has millions of
 * them. */
#include "stream_parts.h"

/* Like kln_float_from_half, but without branches, so that it vectorizes. */
static inline float widen(uint16_t half)
{
    const uint32_t magnitude = (uint32_t)(half & 0x7fffU) << 13;
    const uint32_t sign = (uint32_t)(half & 0x8000U) << 16;
    uint32_t bits = 0;
    float value = 0;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112F; /* the exponent biases, 127 and 15, differ by 112 */
    memcpy(&bits, &value, sizeof bits);
    bits = (half & 0x7c00U) == 0x7c00U ? magnitude | 0x7f800000U : bits;
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

KLN_CLONES("avx2", "default")
static void widen_all(const uint16_t *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = widen(from[i]);
    }
}

static void widen_brain(const uint16_t *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

void sampler_load(sampler *self, kiln_dtype dtype, const void *logits)
{
    switch (dtype) {
        case KILN_DTYPE_FLOAT32:
            memcpy(self->scores, logits, self->vocabulary * sizeof *self->scores);
            break;
        case KILN_DTYPE_FLOAT16: widen_all(logits, self->vocabulary, self->scores); break;
        default: widen_brain(logits, self->vocabulary, self->scores);
    }
}
