/* SPDX-License-Identifier: Apache-2.0 */
/* What the ways of computing a convolution share. */
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
    double *padded;
    int64_t *places;
} ref_conv_room;

/* Whether ref_conv_panels gives what the products one by one give, and is worth it. `all_maps` are
 * those of all groups, to which `w` and `bias` (or NULL) belong. */
bool ref_conv_panels_fit(const geometry *g, int64_t channels, int64_t maps, int64_t all_maps,
                         const double *w, const double *bias);
/* `maps` output channels of one group; `out` holds the bias. */
KILN_MUST_CHECK kiln_status ref_conv_panels(ref_call *call, const geometry *g, int64_t channels,
                                            int64_t maps, ref_conv_room *room, const double *w,
                                            const double *x, double *out);

#endif
