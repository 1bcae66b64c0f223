/* SPDX-License-Identifier: Apache-2.0 */
/* The quantization that a caller asks for on inputs and outputs, and the ranges that follow from
 * it. */
#include <math.h>

#include "quantize_parts.h"
#include "tensor/kln_tensor.h"

kiln_dtype quantize_binding_storage(const kiln_precision_options *options,
                                    const kiln_binding_quantization *asked)
{
    return asked->quantization.storage != KILN_DTYPE_UNDEFINED ? asked->quantization.storage
           : options->precision == KILN_PRECISION_FP8          ? KILN_DTYPE_FLOAT8E4M3
                                                               : KILN_DTYPE_INT8;
}

static kiln_status check(const kiln_precision_options *options,
                         const kiln_binding_quantization *asked)
{
    const kiln_quantization *how = &asked->quantization;
    const kiln_dtype storage = quantize_binding_storage(options, asked);
    const bool is_float = storage == KILN_DTYPE_FLOAT8E4M3 || storage == KILN_DTYPE_FLOAT8E5M2;
    double least = 0;
    double most = 0;
    KLN_RETURN_IF_NULL(asked->name);
    KLN_RETURN_IF(!kln_quantized_limits(storage, &least, &most), KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_options.bindings: \"%s\" is to be %s; an integer of 4, 8 or 16 "
                  "bits or float8 is needed",
                  asked->name, kiln_dtype_name(how->storage));
    KLN_RETURN_IF((how->scales == NULL) != (how->count == 0) || how->count < 0 ||
                      (how->scales == NULL && how->zero_points != NULL) || how->block_size < 0 ||
                      (how->count != 1 && how->axis < 0 && how->scales != NULL),
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_options.bindings: \"%s\" has %lld scales along axis %d in blocks "
                  "of %lld; one scale, or an "
                  "axis and as many as it takes, are needed, or none at all",
                  asked->name, (long long)how->count, (int)how->axis, (long long)how->block_size);
    for (int64_t i = 0; i < how->count; i++) {
        const double zero = how->zero_points != NULL ? how->zero_points[i] : 0;
        KLN_RETURN_IF(!(how->scales[i] > 0) || !isfinite(how->scales[i]) || zero < least ||
                          zero > most || (is_float && zero != 0),
                      KILN_ERROR_INVALID_ARGUMENT,
                      "kiln_precision_options.bindings: \"%s\" has scale %g and zero point %g; a "
                      "finite one above 0, and one "
                      "that %s holds (float8: 0), are needed",
                      asked->name, (double)how->scales[i], zero, kiln_dtype_name(storage));
    }
    return KILN_OK;
}

/* The interval that the scales represent. Signed integers without a zero point start at -127, as is
 * usual in quantized networks. */
static void range_of(const kiln_quantization *how, kiln_dtype storage, kiln_range *range)
{
    double least = 0;
    double most = 0;
    (void)kln_quantized_limits(storage, &least, &most);
    for (int64_t i = 0; i < how->count; i++) {
        const double scale = (double)how->scales[i];
        const double zero = how->zero_points != NULL ? how->zero_points[i] : 0;
        const double lowest = zero == 0 && least < 0 ? -most : least;
        range->low = fmin(range->low, (lowest - zero) * scale);
        range->high = fmax(range->high, (most - zero) * scale);
    }
}

kiln_status quantize_binding_ranges(const kiln_precision_options *options,
                                    kiln_range_table **ranges)
{
    *ranges = NULL;
    if (options->binding_count != 0) {
        KLN_RETURN_IF_NULL(options->bindings);
    }
    for (size_t i = 0; i < options->binding_count; i++) {
        KLN_RETURN_IF_ERROR(check(options, &options->bindings[i]));
    }
    if (options->binding_count == 0) {
        return KILN_OK;
    }
    KLN_SCOPED(kiln_range_table_destroy_at) kiln_range_table *made = NULL;
    KLN_RETURN_IF_ERROR(kiln_range_table_create(&made));
    if (options->ranges != NULL) {
        KLN_RETURN_IF_ERROR(kiln_range_table_merge(made, options->ranges));
    }
    for (size_t i = 0; i < options->binding_count; i++) {
        const kiln_binding_quantization *asked = &options->bindings[i];
        const kiln_range *known = kiln_range_table_find(made, asked->name);
        kiln_range range = known != NULL ? *known : KILN_RANGE(.name = asked->name);
        if (asked->quantization.count > 0) {
            range.name = asked->name;
            range.low = range.high = 0;
            range_of(&asked->quantization, quantize_binding_storage(options, asked), &range);
            KLN_RETURN_IF_ERROR(kiln_range_table_put(made, &range));
        }
    }
    *ranges = KLN_TAKE(made);
    return KILN_OK;
}
