/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_expression.h"
#include "kln_ops.h"

/* The extent that a window covers, from its first to its last element, at that dilation. */
static kln_dim reach_of(kln_expressions *pool, const kln_window *w, kln_dim kernel)
{
    return kln_dim_plus(pool, kln_dim_times(pool, kln_dim_plus(pool, kernel, -1), w->dilation), 1);
}

/* Numbers with which the arithmetic here cannot overflow. */
#define IS_SMALL(number) ((number) >= 0 && (number) <= INT32_MAX)

static bool is_plain(const kln_window *w, kln_dim in, kln_dim kernel)
{
    return !w->same && !w->up && in.kind == KLN_DIM_NUMBER && kernel.kind == KLN_DIM_NUMBER &&
           IS_SMALL(in.of.number) && IS_SMALL(kernel.of.number) && kernel.of.number > 0 &&
           IS_SMALL(w->before) && IS_SMALL(w->after) && IS_SMALL(w->stride) && w->stride > 0 &&
           IS_SMALL(w->dilation);
}

kln_dim kln_window_places(kln_expressions *pool, const kln_window *w, kln_dim in, kln_dim kernel)
{
    const kln_dim step = KLN_DIM_OF_NUMBER(w->stride);
    if (is_plain(w, in, kernel)) { /* as below, without expressions */
        const int64_t reach = (kernel.of.number - 1) * w->dilation + 1;
        const int64_t left = in.of.number + w->before + w->after - reach;
        return KLN_DIM_OF_NUMBER(left < 0 ? -1 : left / w->stride + 1);
    }
    if (w->same) {
        return kln_dim_ceil_divide(pool, in, step);
    }
    const kln_dim padded = kln_dim_plus(pool, kln_dim_plus(pool, in, w->before), w->after);
    const kln_dim room = kln_dim_subtract(pool, padded, reach_of(pool, w, kernel));
    /* In ceil mode, a window larger than the padded input may still start inside it. */
    if (room.kind == KLN_DIM_NUMBER && room.of.number < (w->up ? 1 - 2 * w->stride : 0)) {
        return KLN_DIM_OF_NUMBER(-1);
    }
    if (!w->up) {
        return kln_dim_plus(pool, kln_dim_floor_divide(pool, room, step), 1);
    }
    kln_dim places = kln_dim_plus(pool, kln_dim_ceil_divide(pool, room, step), 1);
    if (places.kind != KLN_DIM_NUMBER || in.kind != KLN_DIM_NUMBER) {
        return w->stride == 1 ? places : (kln_dim){.kind = KLN_DIM_UNKNOWN};
    }
    /* A last window that would start in the padding after the end is left out. */
    if ((places.of.number - 1) * w->stride >= in.of.number + w->before) {
        places.of.number--;
    }
    return places;
}

kln_dim kln_window_span(kln_expressions *pool, const kln_window *w, kln_dim in, kln_dim kernel)
{
    if (w->same) {
        return kln_dim_times(pool, in, w->stride);
    }
    kln_dim span = kln_dim_times(pool, kln_dim_plus(pool, in, -1), w->stride);
    span = kln_dim_add(pool, span, reach_of(pool, w, kernel));
    return kln_dim_plus(pool, kln_dim_plus(pool, span, -w->before), -w->after);
}
