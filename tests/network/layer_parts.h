/* SPDX-License-Identifier: Apache-2.0 */
/* What layer_cases.c and layer_variants.c share. */
#ifndef LAYER_PARTS_H
#define LAYER_PARTS_H

#include "layer_cases.h"

#define TRY(call)                      \
    do {                               \
        const kiln_status s_ = (call); \
        if (s_ != KILN_OK) {           \
            return s_;                 \
        }                              \
    } while (0)
/* A layer of `n` whose result, `y`, is an output. */
#define OUTPUT(call)                         \
    do {                                     \
        TRY(call);                           \
        TRY(kiln_network_mark_output(n, y)); \
    } while (0)
#define F KILN_DTYPE_FLOAT32
#define I KILN_DTYPE_INT64
#define NONE KILN_NO_TENSOR

/* What weights are made of: not equal, not large, of both signs; the second all above 0. */
extern const float layer_numbers[512];
extern const float layer_positive[8];

kiln_status layer_input(kiln_network *n, const char *name, kiln_dtype dtype, kiln_shape shape,
                        kiln_tensor_id *id);
kiln_status layer_weights(kiln_network *n, const char *name, kiln_dtype dtype, kiln_shape shape,
                          const void *data, kiln_tensor_id *id);

/* --- layer_variants.c --- */

kiln_status layer_convolution_windows(kiln_network *n);
kiln_status layer_deconvolution_windows(kiln_network *n);
kiln_status layer_max_windows(kiln_network *n);
kiln_status layer_average_windows(kiln_network *n);
kiln_status layer_lp_windows(kiln_network *n);
kiln_status layer_reduced_axes(kiln_network *n);
kiln_status layer_quantized_types(kiln_network *n);
kiln_status layer_quantized_blocks(kiln_network *n);
kiln_status layer_attention(kiln_network *n);
kiln_status layer_attention_grouped(kiln_network *n);
kiln_status layer_attention_with_past(kiln_network *n);
kiln_status layer_recurrent(kiln_network *n);
kiln_status layer_attention_seen(kiln_network *n);
kiln_status layer_recurrent_lengths(kiln_network *n);
kiln_status layer_half_type(kiln_network *n);
kiln_status layer_whole_types(kiln_network *n);

#endif
