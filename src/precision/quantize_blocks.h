/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in blocks that share a scale. Private to this module. */
#ifndef QUANTIZE_BLOCKS_H
#define QUANTIZE_BLOCKS_H

#include "quantize_parts.h"

/* A tensor as rows: `outer` times `size` along the axis times `inner`. */
typedef struct quantize_view {
    const char *data; /* may be unaligned */
    size_t outer, size, inner;
} quantize_view;

static inline float quantize_number_at(const quantize_view *view, size_t outer, size_t at,
                                       size_t inner)
{
    float number;
    memcpy(&number, view->data + ((outer * view->size + at) * view->inner + inner) * sizeof number,
           sizeof number);
    return number;
}

typedef struct quantize_blocks {
    const quantize_format *format;
    const kln_products *products; /* of what the weights are multiplied by, or NULL */
    quantize_view view;
    size_t block; /* numbers of one, along the axis */
    /* To be filled in. Those of four bits lie packed, and are zeros before; `zeros` may be NULL. */
    float *scales;
    unsigned char *zeros, *to;
} quantize_blocks;

/* OUT_OF_MEMORY. (quantize_blocks.c) */
KILN_MUST_CHECK kiln_status quantize_fill_blocks(const quantize_blocks *of);

#endif
