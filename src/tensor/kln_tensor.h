/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor functions for the modules above, beyond the public <kiln/tensor.h>. */
#ifndef KLN_TENSOR_H
#define KLN_TENSOR_H

#include <kiln/tensor.h>

#include "base/kln_base.h"

/* Enough for any shape that kiln_shape_format writes. */
#define KLN_SHAPE_TEXT 192
/* The text it writes, in memory that lasts as long as the block. */
#define KLN_SHAPE_PRINTED(shape) kln_shape_printed((shape), (char[KLN_SHAPE_TEXT]){0})
static inline const char *kln_shape_printed(const kiln_shape *shape, char text[KLN_SHAPE_TEXT])
{
    (void)kiln_shape_format(shape, text, KLN_SHAPE_TEXT);
    return text;
}

/* Whether a tensor of this type can be bound: its elements have a fixed size, or are strings. */
static inline bool kln_dtype_is_bindable(kiln_dtype dtype)
{
    return kiln_dtype_bits(dtype) != 0 || dtype == KILN_DTYPE_STRING;
}

/* Bytes of one element, for a string of its span; 0 for undefined and for types smaller than a
 * byte. */
static inline size_t kln_dtype_bytes(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_STRING ? sizeof(kiln_span) : kiln_dtype_bits(dtype) / 8;
}

/* Whether strides are absent or describe a dense tensor of this shape. */
bool kln_strides_are_dense(const kiln_shape *shape, const kiln_strides *strides);

/* Checks the requirements of any view: a known dtype with a size, rank and dimensions in range and
 * static, data not NULL and aligned unless empty, enough bytes. `what` ("input \"x\"") begins the
 * sentence. DTYPE, RANK, SHAPE, SIZE, ALIGNMENT, NULL_ARGUMENT; INVALID_ARGUMENT for a location or
 * format that does not exist. */
KILN_MUST_CHECK kiln_status kln_tensor_check(const char *what, const kiln_tensor *tensor);
/* A fast check that kln_tensor_check would certainly pass; also false for rare valid tensors, such
 * as an empty one. */
bool kln_tensor_is_sound(const kiln_tensor *tensor);

/* kiln_tensor_load_npy from bytes in memory, which are needed during the call only. MALFORMED,
 * UNSUPPORTED, RANK, LIMIT, OUT_OF_MEMORY; `tensor` is then unchanged. */
KILN_MUST_CHECK kiln_status kln_npy_read(kiln_span file, kiln_tensor *tensor);

/* kiln_tensors_load_npz from bytes in memory, likewise. */
KILN_MUST_CHECK kiln_status kln_npz_read(kiln_span file, kiln_named_tensor **tensors,
                                         size_t *count);

/* Whether these bytes begin like a .safetensors file, which no ONNX model does. */
bool kln_safetensors_is(kiln_span file);
/* Its tensors, in the order of their bytes, which are used in place in `file` and not always
 * aligned; everything else is in the arena. MALFORMED, UNSUPPORTED (a type), RANK, LIMIT,
 * OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_safetensors_read(kiln_span file, kln_arena *arena,
                                                 kiln_named_tensor **tensors, size_t *count);

/* Conversions of one element, rounding to nearest even, as in IEEE 754 and the ONNX
 * specification. */
float kln_float_from_half(uint16_t bits);
uint16_t kln_half_from_float(float value);
float kln_float_from_bfloat16(uint16_t bits);
uint16_t kln_bfloat16_from_float(float value);
float kln_float_from_e4m3(uint8_t bits);
uint8_t kln_e4m3_from_float(float value, bool saturate);
float kln_float_from_e5m2(uint8_t bits);
uint8_t kln_e5m2_from_float(float value, bool saturate);
/* From a key, which orders like the finite float32 that it stands for: the bits, all but the sign
 * inverted if it is negative. -0 is 0. */
float kln_float_of_key(int32_t key);
/* Elements that are not finite numbers. */
typedef struct kln_odd {
    uint64_t nans, infinities;
} kln_odd;
/* Among `count` elements at any address; none if the type has no such numbers. */
kln_odd kln_odd_numbers(kiln_dtype dtype, const void *data, size_t count);
/* Four bits, without infinity and NaN: values beyond the largest, and NaN, become the largest. */
float kln_float_from_e2m1(uint8_t bits);
uint8_t kln_e2m1_from_float(float value);

/* The integers that a type holds: from `low` up to but not including `end`. False for a type with
 * fractions. (tensor_values.c) */
bool kln_integer_range(kiln_dtype dtype, double *low, double *end);
/* The smallest and largest number of a type for quantized tensors; false for any other type.
 * (tensor_quantize.c) */
bool kln_quantized_limits(kiln_dtype dtype, double *least, double *most);
/* Whether integers represent the same numbers with both. */
bool kln_quantization_equal(const kiln_quantization *a, const kiln_quantization *b);

#endif
