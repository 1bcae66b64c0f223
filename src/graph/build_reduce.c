/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products, reductions, and ArgMax and TopK along an axis. */
#include "build_layer.h"

kiln_status kiln_network_add_matrix_multiply(kiln_network *network, const char *name,
                                             kiln_tensor_id a, kiln_tensor_id b,
                                             kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "MatMul", a, b);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_gemm(kiln_network *network, const char *name, kiln_tensor_id a,
                                  kiln_tensor_id b, kiln_tensor_id c,
                                  const kiln_gemm_options *options, kiln_tensor_id *output)
{
    kiln_gemm_options read = KILN_GEMM_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_gemm_options", options, &read, sizeof read));
    KLN_LAYER(layer, network, name, "Gemm", a, b);
    kln_layer_optional(&layer, c);
    kln_layer_float(&layer, "alpha", read.alpha);
    kln_layer_float(&layer, "beta", read.beta);
    kln_layer_int(&layer, "transA", read.transpose_a);
    kln_layer_int(&layer, "transB", read.transpose_b);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_einsum(kiln_network *network, const char *name, const char *equation,
                                    const kiln_tensor_id *inputs, size_t count,
                                    kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(equation, inputs);
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "Einsum");
    kln_layer_list(&layer, inputs, count);
    kln_layer_string(&layer, "equation", equation);
    return kln_layer_finish_one(&layer, output);
}

/* Some executors reduce an axis that is given twice only once, others refuse it. */
static void need_each_once(kln_layer *layer, kiln_tensor_id input, const int64_t *axes,
                           size_t count)
{
    const int64_t rank = kln_layer_tensor(layer, input).rank;
    uint32_t seen = 0;
    for (size_t i = 0; i < count && rank >= 0; i++) {
        const int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank) {
            return; /* inference reports it */
        }
        kln_layer_need(layer, (seen & UINT32_C(1) << axis) == 0, "axis %lld is given twice",
                       (long long)axes[i]);
        seen |= UINT32_C(1) << axis;
    }
}

kiln_status kiln_network_add_reduce(kiln_network *network, const char *name, kiln_reduction kind,
                                    kiln_tensor_id input, const int64_t *axes, size_t count,
                                    bool keep_dims, kiln_tensor_id *output)
{
    static const char *const names[] = {
        [KILN_REDUCE_SUM] = "ReduceSum",
        [KILN_REDUCE_MEAN] = "ReduceMean",
        [KILN_REDUCE_MAX] = "ReduceMax",
        [KILN_REDUCE_MIN] = "ReduceMin",
        [KILN_REDUCE_PROD] = "ReduceProd",
        [KILN_REDUCE_L1] = "ReduceL1",
        [KILN_REDUCE_L2] = "ReduceL2",
        [KILN_REDUCE_LOG_SUM] = "ReduceLogSum",
        [KILN_REDUCE_LOG_SUM_EXP] = "ReduceLogSumExp",
        [KILN_REDUCE_SUM_SQUARE] = "ReduceSumSquare",
    };
    kln_layer layer;
    kln_layer_begin_kind(&layer, network, __func__, name, KLN_NAMES(names), (size_t)kind,
                         "kiln_reduction");
    kln_layer_input(&layer, input);
    if (count != 0) {
        kln_layer_input_ints(&layer, "axes", axes, count, false);
        if (layer.status == KILN_OK) {
            need_each_once(&layer, input, axes, count);
        }
    }
    kln_layer_int(&layer, "keepdims", keep_dims);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_arg(kiln_network *network, const char *name, kiln_tensor_id input,
                                 int64_t axis, bool largest, bool keep_dims, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, largest ? "ArgMax" : "ArgMin", input);
    kln_layer_int(&layer, "axis", axis);
    kln_layer_int(&layer, "keepdims", keep_dims);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_top_k(kiln_network *network, const char *name, kiln_tensor_id input,
                                   int64_t k, int64_t axis, bool largest, kiln_tensor_id *values,
                                   kiln_tensor_id *indices)
{
    KLN_RETURN_IF_NULL(values, indices);
    KLN_LAYER(layer, network, name, "TopK", input);
    kln_layer_input_ints(&layer, "k", &k, 1, false);
    kln_layer_int(&layer, "axis", axis);
    kln_layer_int(&layer, "largest", largest);
    kiln_tensor_id *const outputs[] = {values, indices};
    return kln_layer_finish(&layer, outputs, 2);
}
