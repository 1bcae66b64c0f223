/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the convolution algorithms. */
#ifndef REF_CONV_H
#define REF_CONV_H

#include "ref_ops.h"

/* Three spatial dimensions; fewer have ones in front, and so has a last one that is trivial, for
 * rows as long as they can be. */
typedef struct geometry {
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], begin[3];
} geometry;

/* Scratch memory of one node, made by the first group. */
typedef struct ref_conv_room {
    bool exact; /* each product: see ref_sum_kernels */
    double *padded, *tiles;
    int64_t *places;
} ref_conv_room;

#define REF_CONV_MAPS 8 /* of a group, from which on they are computed side by side */

/* Whether the forms below give what the products one by one give: of all `maps` output channels
 * and their bias (or NULL). */
bool ref_conv_may_pad(int64_t weights, const double *w, int64_t maps, const double *bias);
/* `maps` output channels of one group, side by side; `out` holds the bias. */
KILN_MUST_CHECK kiln_status ref_conv_panels(ref_call *call, const geometry *g, int64_t channels,
                                            int64_t maps, ref_conv_room *room, const double *w,
                                            const double *x, double *out);
/* The same one after the other, pixels of a row side by side. */
KILN_MUST_CHECK kiln_status ref_conv_rows(ref_call *call, const geometry *g, int64_t channels,
                                          int64_t maps, ref_conv_room *room, const double *w,
                                          const double *x, double *out);

#endif
