/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "ref_ops.h"

#define UNARY_ENTRY(name, since, expression) {#name, "", since, ref_op_unary, REF_UNARY_##name},
#define NUMERIC_ENTRY(name, since, f, s, u) {#name, "", since, ref_op_numeric, REF_NUMERIC_##name},
#define COMPARE_ENTRY(name, since, expression) \
    {#name, "", since, ref_op_compare, REF_COMPARE_##name},
#define BINARY(name, since)                                \
    {                                                      \
#name, "", since, ref_op_binary, REF_BINARY_##name \
    }
#define VARIADIC(name, variant)               \
    {                                         \
        name, "", 1, ref_op_variadic, variant \
    }
#define OP(name, since, function)             \
    {                                         \
        name, "", since, ref_op_##function, 0 \
    }
#define OPV(name, since, function, variant)         \
    {                                               \
        name, "", since, ref_op_##function, variant \
    }

static const ref_kernel kernels[] = {
    REF_UNARY_LIST(UNARY_ENTRY) REF_NUMERIC_LIST(NUMERIC_ENTRY) REF_COMPARE_LIST(COMPARE_ENTRY)
        BINARY(Add, 1),
    BINARY(Sub, 1),
    BINARY(Mul, 1),
    BINARY(Div, 1),
    BINARY(PRelu, 6),
    BINARY(BitwiseAnd, 18),
    BINARY(BitwiseOr, 18),
    BINARY(BitwiseXor, 18),
    VARIADIC("Max", REF_BINARY_Max),
    VARIADIC("Min", REF_BINARY_Min),
    VARIADIC("Mean", REF_BINARY_Mean),
    VARIADIC("Sum", REF_BINARY_Add),
    OP("BitShift", 11, shift),
    OP("Mod", 10, mod),
    OP("Pow", 1, pow),
    OP("Where", 9, where),
    OP("SwiGLU", 28, swiglu),
    OP("Gelu", 20, gelu),
    OP("Shrink", 9, shrink),
    OP("Clip", 1, clip),
    OP("Not", 1, not ),
    OP("IsNaN", 9, isnan),
    OP("IsInf", 10, isinf),
    OP("Identity", 1, identity),
    OP("Reshape", 1, reshape),
    OP("Flatten", 1, flatten),
    OP("Squeeze", 1, squeeze),
    OP("Unsqueeze", 1, unsqueeze),
    OP("Shape", 1, shape),
    OP("Size", 1, size),
    OP("Dropout", 1, dropout),
    OP("Transpose", 1, transpose),
    OP("Concat", 1, concat),
    OP("Split", 2, split),
    OP("Slice", 1, slice),
    OP("Expand", 8, expand),
    OP("Tile", 6, tile),
    OP("DepthToSpace", 1, depth_to_space),
    OP("SpaceToDepth", 1, space_to_depth),
    OP("Gather", 1, gather),
    OP("GatherElements", 11, gather_elements),
    OP("GatherND", 11, gather_nd),
    OP("Scatter", 9, scatter_elements),
    OP("ScatterElements", 11, scatter_elements),
    OP("ScatterND", 11, scatter_nd),
    OP("TensorScatter", 24, tensor_scatter),
    OP("OneHot", 9, one_hot),
    OP("Cast", 6, cast),
    OP("CastLike", 15, cast_like),
    OP("BitCast", 26, bit_cast),
    OP("ConstantOfShape", 9, constant_of_shape),
    OP("Range", 11, range),
    OP("EyeLike", 9, eye_like),
    OPV("ReduceSum", 1, reduce, REF_REDUCE_SUM),
    OPV("ReduceMean", 1, reduce, REF_REDUCE_MEAN),
    OPV("ReduceMax", 1, reduce, REF_REDUCE_MAX),
    OPV("ReduceMin", 1, reduce, REF_REDUCE_MIN),
    OPV("ReduceProd", 1, reduce, REF_REDUCE_PROD),
    OPV("ReduceL1", 1, reduce, REF_REDUCE_L1),
    OPV("ReduceL2", 1, reduce, REF_REDUCE_L2),
    OPV("ReduceSumSquare", 1, reduce, REF_REDUCE_SUM_SQUARE),
    OPV("ReduceLogSum", 1, reduce, REF_REDUCE_LOG_SUM),
    OPV("ReduceLogSumExp", 1, reduce, REF_REDUCE_LOG_SUM_EXP),
    OPV("ArgMax", 1, arg, 1),
    OPV("ArgMin", 1, arg, 0),
    OPV("Softmax", 1, softmax, REF_SOFTMAX),
    OPV("LogSoftmax", 1, softmax, REF_LOG_SOFTMAX),
    OPV("Hardmax", 1, softmax, REF_HARDMAX),
    OPV("CumSum", 11, cumulate, 0),
    OPV("CumProd", 26, cumulate, 1),
    OP("MatMul", 1, matmul),
    OP("Gemm", 1, gemm),
    OP("MatMulInteger", 10, matmul_integer),
    OP("QLinearMatMul", 10, qlinear_matmul),
    OP("Conv", 1, conv),
    OP("ConvInteger", 10, conv_integer),
    OP("QLinearConv", 10, qlinear_conv),
    OPV("MaxPool", 1, pool, REF_POOL_MAX),
    OPV("AveragePool", 1, pool, REF_POOL_AVERAGE),
    OPV("LpPool", 2, pool, REF_POOL_LP),
    OPV("GlobalMaxPool", 1, global_pool, REF_POOL_MAX),
    OPV("GlobalAveragePool", 1, global_pool, REF_POOL_AVERAGE),
    OPV("GlobalLpPool", 2, global_pool, REF_POOL_LP),
    OP("MaxUnpool", 9, max_unpool),
    OP("BatchNormalization", 6, batch_normalization),
    OP("LayerNormalization", 17, layer_normalization),
    OP("RMSNormalization", 23, rms_normalization),
    OP("GroupNormalization", 18, group_normalization),
    OP("InstanceNormalization", 6, instance_normalization),
    OP("MeanVarianceNormalization", 9, mean_variance),
    OP("LRN", 1, lrn),
    OP("LpNormalization", 1, lp_normalization),
    OP("QuantizeLinear", 10, quantize),
    OP("DequantizeLinear", 10, dequantize),
    OP("DynamicQuantizeLinear", 11, dynamic_quantize),
    OP("If", 1, if),
    OP("Loop", 1, loop),
    OP("Scan", 9, scan),
    OP("Pad", 1, pad),
    OP("CenterCropPad", 18, center_crop_pad),
    OP("Trilu", 14, trilu),
    OP("ReverseSequence", 10, reverse_sequence),
    OP("Compress", 9, compress),
    OP("TopK", 1, top_k),
    OP("Unique", 11, unique),
    OP("NonZero", 9, nonzero),
    OP("NonMaxSuppression", 10, nms),
    OPV("RNN", 7, recurrent, REF_CELL_RNN),
    OPV("GRU", 7, recurrent, REF_CELL_GRU),
    OPV("LSTM", 7, recurrent, REF_CELL_LSTM),
    OP("ConvTranspose", 1, conv_transpose),
    OP("DeformConv", 19, deform_conv),
    OP("Col2Im", 18, col2im),
    OPV("Resize", 10, resize, 0),
    OPV("Upsample", 7, resize, 1),
    OP("Einsum", 12, einsum),
    OP("GridSample", 16, grid_sample),
    OP("AffineGrid", 20, affine_grid),
    OP("Det", 11, det),
    OP("RoiAlign", 10, roi_align),
    OP("MaxRoiPool", 1, max_roi_pool),
    OP("Attention", 23, attention),
    OP("RotaryEmbedding", 23, rotary),
    OP("DFT", 17, dft),
    OP("STFT", 17, stft),
    OP("MelWeightMatrix", 17, mel),
    OPV("HannWindow", 17, window, REF_WINDOW_HANN),
    OPV("HammingWindow", 17, window, REF_WINDOW_HAMMING),
    OPV("BlackmanWindow", 17, window, REF_WINDOW_BLACKMAN),
    OP("NegativeLogLikelihoodLoss", 12, nll_loss),
    OP("SoftmaxCrossEntropyLoss", 12, cross_entropy),
    OP("TfIdfVectorizer", 9, ngrams),
    OP("SequenceConstruct", 11, sequence_construct),
    OP("SequenceEmpty", 11, sequence_empty),
    OP("SequenceAt", 11, sequence_at),
    OP("SequenceInsert", 11, sequence_insert),
    OP("SequenceErase", 11, sequence_erase),
    OP("SequenceLength", 11, sequence_length),
    OP("SplitToSequence", 11, split_to_sequence),
    OP("ConcatFromSequence", 11, concat_from_sequence),
    OP("SequenceMap", 17, sequence_map),
    OP("Optional", 15, optional),
    OP("OptionalGetElement", 15, optional_get),
    OP("OptionalHasElement", 15, optional_has),
};

size_t ref_kernel_count(void)
{
    return KLN_ARRAY_LENGTH(kernels);
}

const ref_kernel *ref_kernel_get(size_t index)
{
    return index < KLN_ARRAY_LENGTH(kernels) ? &kernels[index] : NULL;
}

const ref_kernel *ref_kernel_find(const char *domain, const char *op)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(kernels); i++) {
        if (strcmp(kernels[i].op, op) == 0 && strcmp(kernels[i].domain, domain) == 0) {
            return &kernels[i];
        }
    }
    return NULL;
}
