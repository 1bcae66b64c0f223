/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that choose elements by their places. */
#include "random_parts.h"

/* Each a place in a dimension of `size`. */
static kiln_tensor_id places(random_network *r, kiln_shape shape, int64_t size)
{
    return random_constant(r, KILN_DTYPE_INT64, shape,
                           (size > 2 ? random_indices : random_ends) + random_upto(r, 1024));
}

/* The smallest of the first `count` dimensions from `from` on. */
static int64_t smallest(const kiln_shape *shape, int64_t from, int64_t count)
{
    int64_t least = shape->dims[from];
    for (int64_t i = from; i < from + count; i++) {
        least = shape->dims[i] < least ? shape->dims[i] : least;
    }
    return least;
}

bool random_gathering(random_network *r, const random_tensor *t)
{
    kiln_tensor_id y = 0;
    const int32_t rank = t->shape.rank;
    if (random_upto(r, 2) == 0) {
        const int64_t axis = random_upto(r, rank);
        kiln_shape shape = t->shape;
        shape.dims[axis] = 1 + random_upto(r, 4);
        const kiln_tensor_id where = places(r, shape, t->shape.dims[axis]);
        DO(kiln_network_add_gather_elements(r->network, NULL, t->id, where, axis, &y));
    } else {
        const int64_t batch = rank > 1 ? random_upto(r, 2) : 0;
        const int64_t depth = 1 + random_upto(r, rank - batch);
        kiln_shape shape = {(int32_t)batch + 2, {t->shape.dims[0]}};
        shape.dims[batch] = 1 + random_upto(r, 3);
        shape.dims[batch + 1] = depth;
        const kiln_tensor_id where = places(r, shape, smallest(&t->shape, batch, depth));
        DO(kiln_network_add_gather_nd(r->network, NULL, t->id, where, batch, &y));
    }
    random_add(r, y, t->most, t->error);
    return true;
}

/* Numbers that go where indices say: at most 2 and exact. */
static kiln_tensor_id updates_like(random_network *r, const random_tensor *t, kiln_shape shape)
{
    return t->dtype == F ? random_weights(r, shape)
                         : random_constant(r, KILN_DTYPE_INT64, shape, random_indices);
}

/* Which of several updates of one place stays is nobody's promise, so each place is given once
 * where they replace. */
bool random_scattering(random_network *r, const random_tensor *t)
{
    kiln_tensor_id y = 0;
    const int32_t rank = t->shape.rank;
    const kiln_scatter how = (kiln_scatter)random_upto(r, KILN_SCATTER_MIN + 1);
    const int64_t times = how == KILN_SCATTER_REPLACE ? 1 : 1 + random_upto(r, 3);
    if (random_upto(r, 2) == 0) {
        const int64_t axis = random_upto(r, rank);
        kiln_shape shape = t->shape;
        shape.dims[axis] = times;
        const kiln_tensor_id where = places(r, shape, t->shape.dims[axis]);
        const kiln_tensor_id updates = updates_like(r, t, shape);
        DO(kiln_network_add_scatter_elements(r->network, NULL, t->id, where, updates, axis, how,
                                             &y));
    } else {
        const int64_t depth = 1 + random_upto(r, rank);
        kiln_shape shape = {rank - (int32_t)depth + 1, {times}};
        for (int32_t i = 1; i < shape.rank; i++) {
            shape.dims[i] = t->shape.dims[depth + i - 1];
        }
        const kiln_tensor_id where =
            places(r, KILN_SHAPE(times, depth), smallest(&t->shape, 0, depth));
        const kiln_tensor_id updates = updates_like(r, t, shape);
        DO(kiln_network_add_scatter_nd(r->network, NULL, t->id, where, updates, how, &y));
    }
    const double most = 8 * t->most + 8;
    random_add(r, y, most, t->error + (t->dtype == F ? 4 * 0x1p-23 * most : 0));
    return true;
}

bool random_one_hot(random_network *r, const random_tensor *t)
{
    static const float off_on[] = {0.25F, 1.5F};
    kiln_tensor_id y = 0;
    const kiln_tensor_id values = random_constant(r, F, KILN_SHAPE(2), off_on);
    DO(kiln_network_add_one_hot(r->network, NULL, t->id, 1 + random_upto(r, 4), values,
                                random_upto(r, t->shape.rank + 2) - 1, &y));
    random_add(r, y, 1.5, 0);
    return true;
}

bool random_suppression(random_network *r, const random_tensor *t)
{
    kiln_tensor_id scores = 0;
    kiln_tensor_id y = 0;
    kiln_nms_options options = KILN_NMS_OPTIONS_INIT;
    const int64_t count = random_elements(t);
    const int64_t classes = count % 2 == 0 ? 1 + random_upto(r, 2) : 1;
    options.max_boxes = 1 + random_upto(r, 4);
    options.iou_threshold = 0.25F * (float)random_upto(r, 4);
    options.score_threshold = 0.5F * (float)(random_upto(r, 3) - 1);
    options.center_boxes = random_upto(r, 2) == 0;
    kiln_tensor_id boxes = random_weights(r, KILN_SHAPE(1, count / classes, 4));
    if (options.center_boxes) { /* widths are not negative */
        DO(kiln_network_add_unary(r->network, NULL, KILN_UNARY_ABS, boxes, &boxes));
    }
    DO(kiln_network_add_reshape(r->network, NULL, t->id, &KILN_SHAPE(1, classes, count / classes),
                                &scores));
    DO(kiln_network_add_nms(r->network, NULL, boxes, scores, &options, &y));
    random_add(r, y, 64, 0);
    return true;
}
