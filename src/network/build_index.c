/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that read or write by index. */
#include "build_layer.h"

static void need_index_dtype(kln_layer *layer, kiln_tensor_id id)
{
    const kln_built_tensor t = kln_layer_tensor(layer, id);
    if (t.dtype != KILN_DTYPE_UNDEFINED && t.dtype != KILN_DTYPE_INT64 &&
        t.dtype != KILN_DTYPE_INT32) {
        kln_layer_fail(layer, KILN_ERROR_DTYPE,
                       "the indices \"%s\" are of type %s, int64 or int32 is needed", t.name,
                       kiln_dtype_name(t.dtype));
    }
}

kiln_status kiln_network_add_gather(kiln_network *network, const char *name, kiln_tensor_id input,
                                    kiln_tensor_id indices, int64_t axis, kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "Gather");
    kln_layer_input(&layer, input);
    kln_layer_input(&layer, indices);
    need_index_dtype(&layer, indices);
    kln_layer_axis(&layer, input, axis);
    kln_layer_int(&layer, "axis", axis);
    const kln_built_tensor t = kln_layer_tensor(&layer, input);
    const kln_built_tensor where = kln_layer_tensor(&layer, indices);
    const int32_t rank = t.rank < 0 || where.rank < 0 ? KLN_RANK_OPEN : t.rank + where.rank - 1;
    return kln_layer_finish_one(&layer, t.dtype, rank, output);
}

kiln_status kiln_network_add_gather_elements(kiln_network *network, const char *name,
                                             kiln_tensor_id input, kiln_tensor_id indices,
                                             int64_t axis, kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "GatherElements");
    const kln_built_tensor t = kln_layer_tensor(&layer, input);
    kln_layer_input(&layer, input);
    kln_layer_input(&layer, indices);
    need_index_dtype(&layer, indices);
    if (t.rank >= 0) {
        kln_layer_rank(&layer, indices, t.rank, t.rank);
    }
    kln_layer_axis(&layer, input, axis);
    kln_layer_int(&layer, "axis", axis);
    return kln_layer_finish_one(&layer, t.dtype, t.rank, output);
}

static void need_int64(kln_layer *layer, kiln_tensor_id id)
{
    const kln_built_tensor t = kln_layer_tensor(layer, id);
    if (t.dtype != KILN_DTYPE_UNDEFINED && t.dtype != KILN_DTYPE_INT64) {
        kln_layer_fail(layer, KILN_ERROR_DTYPE,
                       "the indices \"%s\" are of type %s, int64 is needed", t.name,
                       kiln_dtype_name(t.dtype));
    }
}

kiln_status kiln_network_add_gather_nd(kiln_network *network, const char *name,
                                       kiln_tensor_id input, kiln_tensor_id indices,
                                       int64_t batch_dims, kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "GatherND");
    const kln_built_tensor t = kln_layer_tensor(&layer, input);
    kln_layer_input(&layer, input);
    kln_layer_input(&layer, indices);
    need_int64(&layer, indices);
    kln_layer_need(&layer, batch_dims >= 0 && (t.rank < 0 || batch_dims < t.rank),
                   "batch_dims is %lld; 0 to the rank less 1 is needed", (long long)batch_dims);
    kln_layer_int(&layer, "batch_dims", batch_dims);
    return kln_layer_finish_one(&layer, t.dtype, KLN_RANK_OPEN, output);
}

static void put_scatter(kln_layer *layer, kiln_scatter how)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    kln_layer_need(layer, (size_t)how < KLN_ARRAY_LENGTH(names),
                   "how is %d, which is none of kiln_scatter", (int)how);
    if (layer->status == KILN_OK) {
        kln_layer_string(layer, "reduction", names[how]);
    }
}

kiln_status kiln_network_add_scatter_elements(kiln_network *network, const char *name,
                                              kiln_tensor_id input, kiln_tensor_id indices,
                                              kiln_tensor_id updates, int64_t axis,
                                              kiln_scatter how, kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "ScatterElements");
    kln_layer_input(&layer, input);
    kln_layer_input(&layer, indices);
    kln_layer_input(&layer, updates);
    need_index_dtype(&layer, indices);
    kln_layer_axis(&layer, input, axis);
    kln_layer_int(&layer, "axis", axis);
    put_scatter(&layer, how);
    const kln_built_tensor t = kln_layer_tensor(&layer, input);
    return kln_layer_finish_one(&layer, t.dtype, t.rank, output);
}

kiln_status kiln_network_add_scatter_nd(kiln_network *network, const char *name,
                                        kiln_tensor_id input, kiln_tensor_id indices,
                                        kiln_tensor_id updates, kiln_scatter how,
                                        kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "ScatterND");
    kln_layer_input(&layer, input);
    kln_layer_input(&layer, indices);
    kln_layer_input(&layer, updates);
    need_int64(&layer, indices);
    put_scatter(&layer, how);
    const kln_built_tensor t = kln_layer_tensor(&layer, input);
    return kln_layer_finish_one(&layer, t.dtype, t.rank, output);
}

kiln_status kiln_network_add_one_hot(kiln_network *network, const char *name,
                                     kiln_tensor_id indices, int64_t depth, kiln_tensor_id values,
                                     int64_t axis, kiln_tensor_id *output)
{
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "OneHot");
    kln_layer_input(&layer, indices);
    kln_layer_rank(&layer, indices, 1, KILN_MAX_RANK - 1);
    kln_layer_need(&layer, depth > 0, "the depth is %lld; 1 or more is needed", (long long)depth);
    kln_layer_input_ints(&layer, "depth", &depth, 1, true);
    kln_layer_input(&layer, values);
    kln_layer_rank(&layer, values, 1, 1);
    const int32_t rank = kln_layer_tensor(&layer, indices).rank;
    const int64_t limit = rank >= 0 ? rank + 1 : KILN_MAX_RANK;
    kln_layer_need(&layer, axis >= -limit && axis < limit,
                   "axis %lld is not in an output of rank "
                   "%lld",
                   (long long)axis, (long long)limit);
    kln_layer_int(&layer, "axis", axis);
    return kln_layer_finish_one(&layer, kln_layer_tensor(&layer, values).dtype,
                                rank >= 0 ? rank + 1 : KLN_RANK_OPEN, output);
}

kiln_status kiln_network_add_nms(kiln_network *network, const char *name, kiln_tensor_id boxes,
                                 kiln_tensor_id scores, const kiln_nms_options *options,
                                 kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(options);
    kln_layer layer;
    kiln_nms_options read = KILN_NMS_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(
        kln_options_read("kiln_nms_options", options, sizeof read, &read, sizeof read));
    kln_layer_begin(&layer, network, __func__, name, "NonMaxSuppression");
    kln_layer_input(&layer, boxes);
    kln_layer_input(&layer, scores);
    kln_layer_rank(&layer, boxes, 3, 3);
    kln_layer_rank(&layer, scores, 3, 3);
    kln_layer_need(&layer, read.max_boxes > 0, "max_boxes is %lld; none would be chosen",
                   (long long)read.max_boxes);
    kln_layer_need(&layer, read.iou_threshold >= 0.0F && read.iou_threshold <= 1.0F,
                   "iou_threshold is %g, 0 to 1 is needed", (double)read.iou_threshold);
    kln_layer_input_ints(&layer, "max_boxes", &read.max_boxes, 1, true);
    kln_layer_input_floats(&layer, "iou_threshold", &read.iou_threshold, 1, true);
    kln_layer_input_floats(&layer, "score_threshold", &read.score_threshold, 1, true);
    kln_layer_int(&layer, "center_point_box", read.center_boxes);
    return kln_layer_finish_one(&layer, KILN_DTYPE_INT64, 2, output);
}
