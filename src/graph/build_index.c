/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that read or write by index. */
#include "build_layer.h"

kiln_status kiln_network_add_gather(kiln_network *network, const char *name, kiln_tensor_id input,
                                    kiln_tensor_id indices, int64_t axis, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Gather", input, indices);
    kln_layer_int(&layer, "axis", axis);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_gather_elements(kiln_network *network, const char *name,
                                             kiln_tensor_id input, kiln_tensor_id indices,
                                             int64_t axis, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "GatherElements", input, indices);
    kln_layer_int(&layer, "axis", axis);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_gather_nd(kiln_network *network, const char *name,
                                       kiln_tensor_id input, kiln_tensor_id indices,
                                       int64_t batch_dims, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "GatherND", input, indices);
    kln_layer_int(&layer, "batch_dims", batch_dims);
    return kln_layer_finish_one(&layer, output);
}

static void put_scatter(kln_layer *layer, kiln_scatter how)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    kln_layer_choice(layer, "reduction", "how", KLN_NAMES(names), (size_t)how, "kiln_scatter");
}

kiln_status kiln_network_add_scatter_elements(kiln_network *network, const char *name,
                                              kiln_tensor_id input, kiln_tensor_id indices,
                                              kiln_tensor_id updates, int64_t axis,
                                              kiln_scatter how, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "ScatterElements", input, indices, updates);
    kln_layer_int(&layer, "axis", axis);
    put_scatter(&layer, how);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_scatter_nd(kiln_network *network, const char *name,
                                        kiln_tensor_id input, kiln_tensor_id indices,
                                        kiln_tensor_id updates, kiln_scatter how,
                                        kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "ScatterND", input, indices, updates);
    put_scatter(&layer, how);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_one_hot(kiln_network *network, const char *name,
                                     kiln_tensor_id indices, int64_t depth, kiln_tensor_id values,
                                     int64_t axis, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "OneHot", indices);
    kln_layer_input_ints(&layer, "depth", &depth, 1, true);
    kln_layer_input(&layer, values);
    kln_layer_int(&layer, "axis", axis);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_nms(kiln_network *network, const char *name, kiln_tensor_id boxes,
                                 kiln_tensor_id scores, const kiln_nms_options *options,
                                 kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(options);
    kiln_nms_options read = KILN_NMS_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_nms_options", options, &read, sizeof read));
    KLN_LAYER(layer, network, name, "NonMaxSuppression", boxes, scores);
    kln_layer_need(&layer, read.max_boxes > 0, "max_boxes is %lld; none would be chosen",
                   (long long)read.max_boxes);
    kln_layer_need(&layer, read.iou_threshold >= 0.0F && read.iou_threshold <= 1.0F,
                   "iou_threshold is %g, 0 to 1 is needed", (double)read.iou_threshold);
    kln_layer_input_ints(&layer, "max_boxes", &read.max_boxes, 1, true);
    kln_layer_input_floats(&layer, "iou_threshold", &read.iou_threshold, 1, true);
    kln_layer_input_floats(&layer, "score_threshold", &read.score_threshold, 1, true);
    kln_layer_int(&layer, "center_point_box", read.center_boxes);
    return kln_layer_finish_one(&layer, output);
}
