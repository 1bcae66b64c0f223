/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>

#include "kln_tensor.h"

#define BLOCK 256

bool kln_quantized_limits(kiln_dtype dtype, double *least, double *most)
{
    if (kln_integer_range(dtype, least, most)) {
        *most -= 1;
        return dtype != KILN_DTYPE_BOOL && kiln_dtype_bits(dtype) <= 16;
    }
    const double limit = dtype == KILN_DTYPE_FLOAT8E4M3   ? 448
                         : dtype == KILN_DTYPE_FLOAT8E5M2 ? 57344
                                                          : 0;
    *least = -limit;
    *most = limit;
    return limit > 0;
}

bool kln_quantization_equal(const kiln_quantization *a, const kiln_quantization *b)
{
    bool alike = a->storage == b->storage && a->axis == b->axis && a->block_size == b->block_size &&
                 a->count == b->count;
    for (int64_t i = 0; alike && i < a->count; i++) {
        const int32_t zero = a->zero_points != NULL ? a->zero_points[i] : 0;
        alike = !(a->scales[i] < b->scales[i]) && !(a->scales[i] > b->scales[i]) &&
                zero == (b->zero_points != NULL ? b->zero_points[i] : 0);
    }
    return alike;
}

/* Maps the elements of a tensor to their scales. */
typedef struct steps {
    const kiln_quantization *how;
    double least, most;
    int64_t size, inner, block, blocks; /* along the axis, after it, per scale; number of blocks */
} steps;

static kiln_status check(const char *function, const kiln_tensor *real,
                         const kiln_quantization *how, const kiln_tensor *stored, steps *s)
{
    const kiln_shape *shape = &stored->desc.shape;
    const kiln_dtype type = real->desc.dtype;
    *s = (steps){.how = how, .size = 1, .inner = 1, .block = 1, .blocks = 1};
    KLN_RETURN_IF(stored->desc.dtype != how->storage ||
                      !kln_quantized_limits(how->storage, &s->least, &s->most) ||
                      (type != KILN_DTYPE_FLOAT32 && type != KILN_DTYPE_FLOAT16 &&
                       type != KILN_DTYPE_BFLOAT16 && type != KILN_DTYPE_FLOAT64),
                  KILN_ERROR_DTYPE,
                  "%s: tensors of %s and %s were given, for numbers stored as %s; a "
                  "floating-point type and that one are needed",
                  function, kiln_dtype_name(type), kiln_dtype_name(stored->desc.dtype),
                  kiln_dtype_name(how->storage));
    KLN_RETURN_IF(!kiln_shape_equal(&real->desc.shape, shape), KILN_ERROR_SHAPE,
                  "%s: the tensors have different shapes", function);
    int64_t needed = 1;
    if (how->count != 1 || how->block_size > 0) {
        KLN_RETURN_IF(how->axis < 0 || how->axis >= shape->rank || how->block_size < 0,
                      KILN_ERROR_INVALID_ARGUMENT,
                      "%s: scales along axis %d of a tensor with %d dimensions", function,
                      (int)how->axis, (int)shape->rank);
        s->size = shape->dims[how->axis];
        for (int32_t i = how->axis + 1; i < shape->rank; i++) {
            s->inner *= shape->dims[i];
        }
        s->block = how->block_size > 0 ? how->block_size : 1;
        s->blocks = (s->size + s->block - 1) / s->block;
        needed = s->blocks;
        for (int32_t i = 0; how->block_size > 0 && i < shape->rank; i++) {
            needed *= i != how->axis ? shape->dims[i] : 1;
        }
    }
    KLN_RETURN_IF(how->scales == NULL || how->count != needed, KILN_ERROR_INVALID_ARGUMENT,
                  "%s: %" PRId64 " scales were given, %" PRId64 " are needed", function,
                  how->scales != NULL ? how->count : 0, needed);
    return KILN_OK;
}

/* The index of an element's scale. */
static int64_t scale_at(const steps *s, int64_t element)
{
    if (s->how->count == 1) {
        return 0;
    }
    const int64_t at = element / s->inner % s->size / s->block;
    return s->how->block_size > 0
               ? (element / s->inner / s->size * s->blocks + at) * s->inner + element % s->inner
               : at;
}

/* As QuantizeLinear: a float division, rounded half to even, then clipped. */
static double quantized(const steps *s, double number, int64_t element)
{
    const int64_t at = scale_at(s, element);
    const double zero = s->how->zero_points != NULL ? s->how->zero_points[at] : 0;
    const double ratio = (double)((float)number / s->how->scales[at]);
    const bool is_float =
        s->how->storage == KILN_DTYPE_FLOAT8E4M3 || s->how->storage == KILN_DTYPE_FLOAT8E5M2;
    const double rounded = isnan(ratio) ? zero : is_float ? ratio : rint(ratio) + zero;
    return fmin(s->most, fmax(s->least, rounded));
}

static double dequantized(const steps *s, double number, int64_t element)
{
    const int64_t at = scale_at(s, element);
    const double zero = s->how->zero_points != NULL ? s->how->zero_points[at] : 0;
    return (double)((float)(number - zero) * s->how->scales[at]);
}

static kiln_status convert(const steps *s, const kiln_tensor *from, const kiln_tensor *to,
                           double (*number_of)(const steps *s, double number, int64_t element))
{
    int64_t count = 0;
    double numbers[BLOCK];
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&from->desc.shape, &count));
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const size_t size = count - begin < BLOCK ? (size_t)(count - begin) : BLOCK;
        KLN_RETURN_IF_ERROR(kiln_tensor_read(from, begin, size, numbers));
        for (size_t i = 0; i < size; i++) {
            numbers[i] = number_of(s, numbers[i], begin + (int64_t)i);
        }
        KLN_RETURN_IF_ERROR(kiln_tensor_write(to, begin, size, numbers));
    }
    return KILN_OK;
}

kiln_status kiln_tensor_quantize(const kiln_tensor *real, const kiln_quantization *how,
                                 const kiln_tensor *stored)
{
    steps s;
    KLN_RETURN_IF_NULL(real, how, stored);
    KLN_RETURN_IF_ERROR(check(__func__, real, how, stored, &s));
    return convert(&s, real, stored, quantized);
}

kiln_status kiln_tensor_dequantize(const kiln_tensor *stored, const kiln_quantization *how,
                                   const kiln_tensor *real)
{
    steps s;
    KLN_RETURN_IF_NULL(stored, how, real);
    KLN_RETURN_IF_ERROR(check(__func__, real, how, stored, &s));
    return convert(&s, stored, real, dequantized);
}
