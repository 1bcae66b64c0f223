/* SPDX-License-Identifier: Apache-2.0 */
/* Conversion of constants to a half type. */
#include <math.h>

#include "precise_parts.h"

static uint16_t narrow(const precise_pass *pass, float value)
{
    return pass->half == KILN_DTYPE_FLOAT16 ? kln_half_from_float(value)
                                            : kln_bfloat16_from_float(value);
}

/* Values beyond the type saturate: a mask of -3e38 has to remain a very negative number, where
 * -infinity could turn a whole row into NaN. Infinities stay infinite. */
static void convert(precise_pass *pass, const void *from, size_t count, uint16_t *to)
{
    kiln_precision_summary *totals = kln_precision_report_totals(pass->report);
    const float most = (float)pass->half_most;
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, (const char *)from + i * sizeof value, sizeof value);
        if (fabsf(value) > most && isfinite(value)) {
            value = copysignf(most, value);
            totals->saturated++;
        }
        to[i] = narrow(pass, value);
        totals->vanished += value != 0 && (to[i] & 0x7fffU) == 0;
    }
}

bool precise_is_beyond(const precise_pass *pass, precise_value *value)
{
    const kln_onnx_tensor *tensor = value->initializer != NULL ? value->initializer
                                    : value->known != NULL     ? value->known->initializer
                                                               : NULL;
    if (value->was_scanned || !value->is_single || tensor == NULL || tensor->data.data == NULL) {
        return value->is_beyond;
    }
    const size_t count = tensor->data.size / sizeof(float);
    value->was_scanned = true;
    for (size_t i = 0; count > 1 && i < count && !value->is_beyond; i++) {
        float number;
        memcpy(&number, (const char *)tensor->data.data + i * sizeof number, sizeof number);
        value->is_beyond = fabsf(number) > (float)pass->half_most && isfinite(number);
    }
    return value->is_beyond;
}

kln_onnx_tensor *precise_convert(precise_pass *pass, const kln_onnx_tensor *tensor,
                                 const char *name)
{
    kln_arena *arena = &pass->model->arena;
    const size_t count = tensor->data.size / sizeof(float);
    kln_onnx_tensor *made = kln_arena_alloc_zeroed(arena, 1, sizeof *made);
    uint16_t *data = kln_arena_alloc(arena, count * sizeof *data);
    if (made == NULL || data == NULL) {
        return NULL;
    }
    convert(pass, tensor->data.data, count, data);
    *made = (kln_onnx_tensor){.name = name,
                              .dtype = pass->half,
                              .wire_dtype = pass->half_wire,
                              .rank = tensor->rank,
                              .dims = tensor->dims,
                              .data = {data, count * sizeof *data},
                              .doc = tensor->doc,
                              .metadata = tensor->metadata,
                              .metadata_count = tensor->metadata_count};
    return made;
}
