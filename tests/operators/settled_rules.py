# SPDX-License-Identifier: Apache-2.0
"""The rules of settled.py, each with its condition in words and in code."""
import numpy as np

from generate import D, F, FOUR_BITS, H, NAMES
from settled import OPEN, ORT, REF, rule
from settled_conditions import (apart, array, attr, behind_axis, cancels, clamped_shape,
                                clamped_start, cut_here, cut_sums, empty_reduction, first_come,
                                fraction_in, greatest_end, in_padding, inserted_last, largest,
                                last_output, magnitude, missing_limit, moments_mixed, nan_in,
                                nan_lanes, narrow, narrow_windows, negative_lanes, negative_pad,
                                not_finite, off_by_blocks, off_by_places, off_by_signal,
                                off_by_terms, one_apart, pairs, parts_of_float8, past, past_32_bits,
                                past_batches, past_digits, past_ends, past_keys, points_by_channel,
                                same_place, special, special_c, squares_cancel, stalled_squares,
                                sum_wraps, tainted, unordered_axes, unseen_gates, whole, whole_in,
                                whole_out, zero_products)
from settled_places import (aligned_fraction, cropped_unseen, cubic_outside, dilated,
                            dilated_blocks, empty_window, fraction_of_a_length, halfway, halves,
                            in_empty_windows, lower_or_not_two, negative_padding, padded_cubic,
                            parted, plain_steps, reaches_past, same_mode, to_one, uneven_pads,
                            unreached, valid_ceil, wide_groups)

INT8 = NAMES["int8"]
REDUCTIONS = ("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
              "ReduceProd ReduceSum ReduceSumSquare")

# --- what the specification leaves open ---

rule(OPEN, "Resize Upsample Erf Mean ReduceMean ReduceL2 ReduceLogSum ReduceLogSumExp",
     "an integer result, off by one",
     "how the real result is converted to an integer is left open; Kiln truncates, as Cast does",
     whole_out, one_apart)
rule(OPEN, "Resize Upsample", "integers of more than 22 bits, within the last bits of a float32",
     "the precision of the interpolation is left open; Kiln uses double, ONNX Runtime single",
     past(22), lambda case, detail: apart(detail) <= 2.0 ** -19 * largest(case))
rule(OPEN, "Hardmax ArgMax ArgMin TopK", "NaN among the elements along the axis",
     "how NaN compares with other elements is left open; Kiln takes NaN (the first, if there are "
     "several) for both the greatest and the least", nan_in, nan_lanes)
rule(OPEN, "DynamicQuantizeLinear", "an element computed from NaN or an infinity",
     "there is no range to quantize to", special)
rule(OPEN, "QuantizeLinear", "an element that is NaN or an infinity",
     "no integer represents it; Kiln gives the least one for NaN", special, same_place)
rule(OPEN, "DynamicQuantizeLinear", "all elements are 0",
     "the range is empty, and the result of a scale of 0 is left open; Kiln's scale stays 0",
     lambda case: not np.any(array(case, 0)))
rule(OPEN, "AveragePool", "a window entirely in the padding", "it has no average; Kiln gives 0",
     empty_window, in_empty_windows)
rule(OPEN, "MaxPool AveragePool LpPool",
     "VALID and ceil_mode, with a remainder after the last whole window",
     "the operator's text omits the last window, its shape inference in the onnx package "
     "includes it; Kiln and ONNX Runtime do the latter", valid_ceil)
rule(OPEN, "Det", "an infinite element",
     "whether it meets another infinity in a difference depends on the order of elimination",
     special, not_finite)
rule(OPEN, "Resize Upsample", "an infinity among the elements",
     "it may be a term of the sum with either sign where the edge is repeated", special, not_finite)
rule(OPEN, "MaxPool", "a window entirely in the padding",
     "it has no greatest element; Kiln gives the least value of the type, ONNX Runtime the least "
     "finite one, and onnx.reference 0", empty_window, in_empty_windows)
rule(OPEN, "HannWindow HammingWindow BlackmanWindow",
     "one element, not periodic, of an integer type", "0 / 0 is not an integer",
     lambda case: whole_out(case) and array(case, 0) == 1)
rule(OPEN, "ReduceLogSum ReduceLogSumExp ReduceMean Pow Cast CastLike Gemm Resize Upsample",
     "an integer result outside the type's range",
     "no conversion is defined; Kiln saturates to 64 bits and wraps to narrower types", whole_out,
     past_ends)

rule(OPEN, "com.microsoft.GroupQueryAttention",
     "a window with a softcap or a sink, and tokens after the last one of their sequence",
     "left open is whether the window of a padding token ends with that token, as in Kiln and "
     "wherever there is neither softcap nor sink, or with the sequence", narrow_windows, in_padding)
rule(OPEN, "ReduceMean", "integers, and no elements", "0 / 0 is not an integer",
     lambda case: whole_in(case) and 0 in array(case, 0).shape)

# --- ONNX Runtime ---

rule(ORT, REDUCTIONS + " ArgMax ArgMin", "an empty input, and axes that are dropped or become 1",
     "the dimensions of the reduced axes are kept; the specification drops them or makes them 1, "
     "and defines the reduction of no elements", empty_reduction)
rule(ORT, " ".join("com.microsoft." + name for name in (
    "QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool "
    "QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere").split()),
     "8 bits, off by one",
     "scales are first divided by each other in single precision; Kiln computes the schemas' "
     "formulas in real numbers and rounds once", lambda case: case.outputs[0][1] != F, one_apart)
rule(ORT, "ConvInteger MatMulInteger QLinearConv QLinearMatMul",
     "signed bytes, on x86 without VNNI, if two products may exceed 16 bits",
     "sums of adjacent products saturate there (onnxruntime.md)", cut_here, cut_sums)
rule(ORT, "ai.onnx.ml.TreeEnsemble", "a post_transform",
     "SOFTMAX and LOGISTIC are confused, and with one target nothing is transformed; \"'NONE' "
     "(0), 'SOFTMAX' (1), 'LOGISTIC' (2)\"", attr("post_transform", 1, 2, 3))
rule(ORT, "com.microsoft.MatMulNBits", "within the last bits of a float32 of the terms",
     "single-precision sums lose what Kiln's double keeps", elements=off_by_blocks)
rule(ORT, "MatMul MatMulInteger Gemm QLinearMatMul", "a matrix product without terms",
     "uninitialized memory is returned instead of 0", zero_products)
rule(ORT, "NonZero", "a scalar",
     "the result is 1xN; the specification requires one row per dimension: 0xN",
     lambda case: array(case, 0).ndim == 0)
rule(ORT, "Dropout", "the mask of versions before 12",
     "it is all false in inference; \"this operator ... would simply copy the input\" means that "
     "all are kept, as later versions say", lambda case: case.opset < 12 and len(case.outputs) > 1,
     last_output)
rule(ORT, "AffineGrid", "align_corners of 1, and a spatial dimension of 1",
     "the grid differs; the operator's definition as a function begins at -1",
     lambda case: case.attributes.get("align_corners") == 1 and 1 in array(case, 1)[2:])
rule(ORT, "AffineGrid", "float16", "positions are computed in the narrow type", narrow,
     off_by_places)
rule(ORT, "Col2Im", "one or three spatial dimensions, and a dilation that matters",
     "elements are added at wrong positions; \"dilation value along each spatial axis\"",
     dilated_blocks)
rule(ORT, "MaxPool AveragePool LpPool",
     "SAME padding and a dilated kernel of more than one element",
     "the dilated kernel shortens the output; \"output_spatial_shape[i] = "
     "ceil(input_spatial_shape[i] / strides_spatial_shape[i])\"",
     lambda case: same_mode(case) and dilated(case))
rule(ORT, "MaxPool AveragePool LpPool",
     "SAME padding and a kernel so much shorter than the stride that the padding is negative",
     "elements are cut off; \"pads ... can take any value greater than or equal to 0\"",
     lambda case: same_mode(case) and negative_padding(case))
rule(ORT, "ConvTranspose", "SAME padding and windows that do not reach the requested length",
     "the output is shorter; \"output_shape[i] = input_shape[i] * strides[i]\"",
     lambda case: same_mode(case) and unreached(case))
rule(ORT,
     "MaxPool GlobalMaxPool ReduceMax ReduceMin Sign MaxRoiPool Relu Max Min Clip ScatterElements "
     "ScatterND", "an element computed from NaN",
     "whether NaN is ignored depends on whether it comes first; Kiln always preserves NaN", nan_in,
     tainted)
rule(ORT, "MaxPool MaxRoiPool GlobalMaxPool", "an element computed from minus infinity",
     "the search starts from the least finite number", special, tainted)
rule(ORT,
     "Conv ConvTranspose LRN InstanceNormalization GroupNormalization Resize Upsample GridSample "
     "DFT STFT ReduceLogSumExp LogSoftmax Softmax Col2Im RMSNormalization AveragePool LpPool "
     "MeanVarianceNormalization BatchNormalization RoiAlign",
     "an element that has NaN or an infinity as a term, or is told from padding by a factor 0",
     "zeros inside, running sums and transforms put NaN and infinities where the definition has "
     "none, and remove them where it has some", special, not_finite)
rule(ORT, "DeformConv", "NaN or an infinity among weights, offsets or the mask",
     "0 times it gives NaN where the definition has no term", special, not_finite)
rule(ORT, "Gemm", "a factor beta of 0, and NaN or an infinity in C",
     "C is not read; in the formula \"alpha * A' * B' + beta * C\", 0 times an infinity is NaN",
     lambda case: case.attributes.get("beta") == 0 and special_c(case), not_finite)
rule(ORT, "DFT STFT", "float32 and float64, within the last bits of a float32 of the terms",
     "single-precision factors and sums lose what Kiln's double keeps",
     lambda case: case.outputs[0][1] in (F, D), off_by_signal)
rule(ORT, "GridSample",
     "cubic, padding of border or reflection, and one of the 16 elements outside",
     "the padding applies to each of the 16 elements; \"border ... for outside grid locations\" "
     "is about the location", padded_cubic, cubic_outside)
rule(ORT, "Attention", "is_causal of 1, and past keys",
     "the mask is aligned to the last key; the definition as a function aligns it to the first "
     "one", past_keys)
rule(ORT, "MeanVarianceNormalization", "equal elements along the axes",
     "0 / 0; the operator's definition as a function adds 1e-9 to the deviation", lambda case: True,
     pairs(lambda a, b: (a == 0) & ~np.isfinite(b)))
rule(ORT,
     "Pow Mod Shrink ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceProd ReduceSumSquare "
     "ReduceLogSumExp ReduceLogSum CumSum Resize Upsample Mean Einsum",
     "integers past 24 bits, or with such sums or powers",
     "they go through float32 or float64, which round; the definition computes in integers",
     whole_in, past_digits)
rule(ORT, "Resize", "negative int8 and antialias",
     "the filter is for uint8: negative values become 0",
     lambda case: case.attributes.get("antialias") == 1 and case.types["x"] == INT8 and
     bool((array(case, 0) < 0).any()))
rule(ORT, "Clip", "float64, an infinity, and an omitted limit",
     "where there is no kernel, single precision is used, whose limits differ", missing_limit,
     pairs(lambda a, b: np.abs(b) == float(np.finfo(np.float32).max)))
rule(ORT, "Cast CastLike", "a real with a fractional part, to 4 bits",
     "it is rounded; other integer types, and \"truncated\" in the specification, drop the "
     "fraction", lambda case: case.outputs[0][1] in FOUR_BITS and not whole_in(case), fraction_in)
rule(ORT, "Slice", "a negative step, and the greatest integer of 32 or 64 bits as the end",
     "the end is taken for the beginning; \"clamped to ... [-1, dims[axes[i]]-1] for negative "
     "stepping\"", greatest_end)
rule(ORT, "Resize", "align_corners, and scales that give a fraction of an element",
     "the rounded length is used; ONNX's own test data uses the length times the scale",
     aligned_fraction)
rule(ORT, "Resize", "nearest, on a coordinate that is halfway or integral except for the last bit",
     "single precision falls to the other side",
     lambda case: case.attributes.get( "mode", "nearest") == "nearest", halfway)
rule(ORT, "Resize",
     "tf_crop_and_resize of an axis other than the last two, or of one whose length does not "
     "change",
     "only the last axes are cropped, and only those whose length changes; \"roi ... [start1, "
     "..., startN, end1, ..., endN], where N is the rank\"", cropped_unseen)
rule(ORT, "Pad", "wrap, and a negative pad", "one side is cropped only after wrapping around",
     lambda case: case.attributes.get("mode") == "wrap" and negative_pad(case))
rule(ORT, "GroupNormalization InstanceNormalization LayerNormalization",
     "elements that are large compared with their deviation",
     "single precision inside loses what Kiln's double keeps", lambda case: True, cancels)

# --- onnx.reference ---

rule(REF, "RNN GRU LSTM", "clip, sequences shorter than the input, or coupled gates (input_forget)",
     "these are ignored; \"specifying lengths of the sequences\", \"applied to the input of "
     "activations\"", unseen_gates)
rule(REF, "BatchNormalization", "versions 9 to 13",
     "the moments of the batch are mixed in, as in training, although only one output is "
     "requested; \"Output case #2: Y (test mode)\"", lambda case: 9 <= case.opset < 14,
     moments_mixed)
rule(REF, "GlobalMaxPool", "a rank other than 4",
     "two axes are reduced in any case; \"kernel size equal to the spatial dimension\"",
     lambda case: array(case, 0).ndim != 4)
rule(REF, "Softmax LogSoftmax Hardmax", "versions before 13, and elements after the axis",
     "the input is not treated as a matrix; \"coerced into a 2-dimensional tensor\"",
     lambda case: case.opset < 13 and behind_axis(case))
rule(REF, "Softmax LogSoftmax Hardmax", "versions before 13, and no axis",
     "the last axis is used; \"axis (default is 1)\"",
     lambda case: case.opset < 13 and "axis" not in case.attributes and array(case, 0).ndim != 2)
rule(REF, "LRN", "more channels than batches, in a channel whose number is not that of a batch",
     "the batch size is used as the number of channels; \"min(C - 1, c + ceil((size - 1) / 2))\"",
     lambda case: array(case, 0).shape[0] < array(case, 0).shape[1], past_batches)
rule(REF, "LpNormalization", "p of 1, and negative elements",
     "elements are summed instead of their absolute values; \"Lp_norm(input, axis)\"", attr("p", 1),
     negative_lanes)
rule(REF, "LpNormalization", "float16, and an element whose square underflows",
     "the norm is 0, and so is the result", lambda case: H in case.types.values(),
     pairs(lambda a, b: (a != 0) & (b == 0)))
rule(REF, "LpPool", "an incomplete window: padding, ceil mode or dilation",
     "the average of the elements present stands for the whole kernel", lambda case: True, parted)
rule(REF, "AveragePool LpPool", "an element computed from NaN",
     "NaN marks padding and is left out of averages", nan_in, tainted)
rule(REF, "AveragePool LpPool",
     "SAME or VALID padding and a dilated kernel of more than one element",
     "the dilation is ignored",
     lambda case: case.attributes.get("auto_pad", "NOTSET") != "NOTSET" and dilated(case))
rule(REF, "AveragePool LpPool", "ceil_mode, and a window that extends past the input",
     "all windows are laid out in another order",
     lambda case: case.attributes.get("ceil_mode") == 1 and reaches_past(case))
rule(REF, "MaxPool", "indices, with strides and dilations of 1",
     "they are counted in the output's shape, and within one image",
     lambda case: len(case.outputs) > 1 and plain_steps(case),
     lambda case, detail: np.full(detail.wrong.shape, detail.name == "y1"))
rule(REF, "MaxPool",
     "strides and dilations of 1, and pads that are not equal in two dimensions, or with "
     "ceil_mode", "pads are read in another order, or not at all",
     lambda case: plain_steps(case) and uneven_pads(case))
rule(REF, "MaxPool", "SAME_LOWER, or SAME padding that is negative or of one or three dimensions",
     "the length is rounded down and the odd element added at the end; other ranks are padded as "
     "two", lower_or_not_two)
rule(REF, "MaxPool GlobalMaxPool ScatterElements Relu Clip",
     "an element computed from NaN or an infinity", "NaN is ignored, or marks padding", special,
     tainted)
rule(REF, "ConvTranspose",
     "more than one group, with more than one channel each in or out, or with a bias",
     "every group but the first is read and written in another group's place, with the first "
     "one's bias", wide_groups)
rule(REF, "ConvInteger",
     "a zero point per channel, and weights of other than two spatial dimensions",
     "it is applied along another axis", points_by_channel)
rule(REF, "QLinearConv", "a scale per channel, and weights of other than two spatial dimensions",
     "it is applied along another axis",
     lambda case: array(case, 4).size > 1 and array(case, 3).ndim != 4)
rule(REF, "QLinearConv QLinearMatMul", "a result that lies halfway",
     "the zero point is added before rounding to even; \"(x / y_scale) + y_zero_point. For (x / "
     "y_scale), it is rounding to nearest ties to even\"", lambda case: True, halves)
rule(REF, "QLinearMatMul", "a float8 operand with a fractional part",
     "its elements are truncated to integers", parts_of_float8)
rule(REF, "QuantizeLinear", "a quotient that 32 bits cannot hold",
     "it wraps before it saturates; \"saturate((x / y_scale) + y_zero_point)\"", lambda case: True,
     past_32_bits)
rule(REF, "ai.onnx.ml.TreeEnsemble", "a post_transform", "it is ignored",
     attr("post_transform", 1, 2, 3))
rule(REF, "ai.onnx.ml.TreeEnsemble", "the least or greatest weight of a target without a leaf",
     "it is the greatest finite number or the least one; a sum gives 0",
     attr("aggregate_function", 2, 3), pairs(lambda a, b: (a == 0) & (np.abs(b) > 1e38)))
rule(REF, "DeformConv", "NaN or an infinity among weights, offsets or the mask",
     "0 times it gives NaN where the definition has no term", special, not_finite)
rule(REF, "DeformConv GridSample", "float64", "positions and weights are in single precision",
     lambda case: D in case.types.values(), pairs(lambda a, b: np.abs(a - b) <= 1e-4))
rule(REF, "MeanVarianceNormalization",
     "a variance that is small compared with the square of the mean",
     "it is computed as the difference of two means, which cancel", lambda case: True,
     squares_cancel)
rule(REF, "RoiAlign", "versions before 16",
     "regions are shifted by half a pixel, as only from version 16 on; \"'output_half_pixel' to "
     "omit the pixel shift ... a backward-compatible behavior\"", lambda case: case.opset < 16)
rule(REF, "SequenceInsert", "the position after the last one",
     "it becomes the first one; \"in [-n, n]\", \"counting positions from the back\" only if "
     "negative", lambda case: inserted_last(case))
rule(REF, "Shape", "a start or an end out of range, or an end before the start",
     "the result is that of NumPy's negative indices; both are \"clamped to the range [0, r]\"",
     clamped_shape)
rule(REF, "Slice", "a negative step, and a start before the first element",
     "it slices as NumPy does; \"starts ... clamped to ... [0, dims[axes[i]]-1] for negative "
     "stepping\"", clamped_start)
rule(REF, "Unique", "sorted of 0, and elements that do not come sorted, a matrix or an axis",
     "elements are taken along the first axis, or stay sorted if the values are the only output; "
     "\"in the order of the first occurrence\"", first_come)
rule(REF, "Unsqueeze", "versions before 13, and axes that are not in order or count from the end",
     "each is inserted separately; they are axes of the output",
     lambda case: case.opset < 13 and unordered_axes(case))
rule(REF, "Resize",
     "tf_crop_and_resize, and a length whose product with its scale is not an integer",
     "that product is used, not the integer length; \"length_resized\"", fraction_of_a_length)
rule(REF, "Resize", "half_pixel_symmetric, and a keep_aspect_ratio_policy",
     "the requested length is used instead of the resulting one; \"output_width_int\"",
     lambda case: case.attributes.get("coordinate_transformation_mode") == "half_pixel_symmetric"
     and case.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch")
rule(REF, "Resize", "float64", "the weights of cubic interpolation are in single precision",
     lambda case: case.attributes.get("mode") == "cubic" and D in case.types.values(),
     lambda case, detail: apart(detail) <= 2.0 ** -20 * np.abs(array(case, 0)).max())
rule(REF, "RMSNormalization",
     "float16 and bfloat16, and more elements than the precision can count",
     "the sum of squares is rounded at each step, and stops growing", stalled_squares,
     pairs(lambda a, b: (np.sign(a) == np.sign(b)) & (np.abs(b) >= np.abs(a))))
rule(REF, "Resize", "pytorch_half_pixel and a length of 1",
     "the coordinate is -0.5; \"length_resized > 1 ? ... : 0\"", to_one)
rule(REF, "ReduceMean", "integers with a sum that their type cannot hold, or a mean past 53 bits",
     "the sum wraps in the narrow type; the quotient is in float64", whole_in, sum_wraps)
rule(REF, "OneHot PRelu AffineGrid", "an infinity among the values",
     "a product with 0 is taken although another value was chosen", special, not_finite)
rule(REF, "Gemm", "integers past 53 bits",
     "the factors convert them to float64, even if they are 1",
     lambda case: whole_in(case) and magnitude(case) > 2 ** 53)
rule(REF, "LogSoftmax", "a probability below the least normal number",
     "the logarithm is taken of the rounded probability", lambda case: True,
     pairs(lambda a, b: a < -87))
rule(REF, "Gemm", "a factor beta of 0, and NaN or an infinity in C", "as in ONNX Runtime",
     lambda case: case.attributes.get("beta") == 0 and special_c(case), not_finite)
rule(REF,
     "BatchNormalization Conv ConvTranspose DFT Gemm GridSample InstanceNormalization LRN "
     "LogSoftmax LpNormalization LpPool MatMul ReduceLogSumExp Resize RoiAlign STFT "
     "Softmax Upsample",
     "an element that has NaN or an infinity as a term, or is told from padding by a factor 0",
     "as in ONNX Runtime; fast transforms spread them over all elements", special, not_finite)
rule(REF,
     "Conv ConvTranspose ReduceMean ReduceSum ReduceSumSquare ReduceL1 ReduceL2 ReduceProd "
     "ReduceLogSum ReduceLogSumExp", "float16 and bfloat16", "sums are rounded at each step",
     narrow, off_by_terms)
rule(REF, "GroupNormalization InstanceNormalization LayerNormalization",
     "elements that are large compared with their deviation",
     "the narrow type inside loses what Kiln's double keeps", lambda case: True, cancels)
