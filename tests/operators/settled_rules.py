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
     "an integer result, one apart",
     "how the real result becomes whole is left open; Kiln cuts off what is behind the point, as "
     "Cast does", whole_out, one_apart)
rule(OPEN, "Resize Upsample", "integers of more than 22 bits, within the last bits of a float32",
     "the precision of the interpolation is left open; Kiln's is double, ONNX Runtime's single",
     past(22), lambda case, detail: apart(detail) <= 2.0 ** -19 * largest(case))
rule(OPEN, "Hardmax ArgMax ArgMin TopK", "NaN among the elements along the axis",
     "which of two is greater when one is NaN is left open; Kiln takes NaN, the first of several, "
     "for the greatest and the least", nan_in, nan_lanes)
rule(OPEN, "DynamicQuantizeLinear", "an element that NaN or an infinity goes into",
     "there is no range to quantize to", special)
rule(OPEN, "QuantizeLinear", "an element that is NaN or an infinity",
     "no integer stands for it; Kiln takes the least one for NaN", special, same_place)
rule(OPEN, "DynamicQuantizeLinear", "all elements are 0",
     "the range is empty, and what a scale of 0 gives is left open; Kiln's scale stays 0",
     lambda case: not np.any(array(case, 0)))
rule(OPEN, "AveragePool", "a window that lies in the padding alone",
     "it has no average; Kiln gives 0", empty_window, in_empty_windows)
rule(OPEN, "MaxPool AveragePool LpPool", "VALID and ceil_mode, and a rest behind the last window",
     "the operator's text has the last window left out, its shape inference in the onnx package "
     "in; Kiln does as the latter and ONNX Runtime",
     valid_ceil)
rule(OPEN, "Det", "an infinity goes in",
     "whether it is met by another in a difference depends on the order of elimination", special,
     not_finite)
rule(OPEN, "Resize Upsample", "an infinity among the elements",
     "it may be a term of the sum with either sign, where the edge is repeated", special,
     not_finite)
rule(OPEN, "MaxPool", "a window that lies in the padding alone",
     "it has no greatest element; Kiln gives the least value of the type, ONNX Runtime the least "
     "finite one and onnx.reference 0", empty_window, in_empty_windows)
rule(OPEN, "HannWindow HammingWindow BlackmanWindow", "one element, not periodic, of integers",
     "0 / 0 is no integer", lambda case: whole_out(case) and array(case, 0) == 1)
rule(OPEN, "ReduceLogSum ReduceLogSumExp ReduceMean Pow Cast CastLike Gemm Resize Upsample",
     "an integer result past the type's ends",
     "no conversion is defined for it; Kiln's becomes the nearest end of 64 bits and wraps to "
     "fewer", whole_out, past_ends)

rule(OPEN, "com.microsoft.GroupQueryAttention",
     "a window with a softcap or a sink, and tokens behind the last one of their sequence",
     "whether the window of what is padding ends with the token, as in Kiln and where there is "
     "neither, or with the sequence", narrow_windows, in_padding)
rule(OPEN, "ReduceMean", "integers, and no elements", "0 / 0 is no integer",
     lambda case: whole_in(case) and 0 in array(case, 0).shape)

# --- ONNX Runtime ---

rule(ORT, REDUCTIONS + " ArgMax ArgMin", "an empty input, and axes that go or become 1",
     "the dimensions of the reduced axes are kept; the specification drops them or makes them 1, "
     "and says what a reduction of no elements gives", empty_reduction)
rule(ORT, " ".join("com.microsoft." + name for name in (
    "QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool "
    "QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere").split()),
     "8 bits, one apart",
     "scales are divided by each other in single precision first; the schemas' formulas, as reals "
     "that are rounded once, are Kiln's", lambda case: case.outputs[0][1] != F, one_apart)
rule(ORT, "ConvInteger MatMulInteger QLinearConv QLinearMatMul",
     "signed bytes, on x86 without VNNI, where two products may pass 16 bits",
     "what neighbouring products add up to is cut off there (onnxruntime.md)", cut_here, cut_sums)
rule(ORT, "ai.onnx.ml.TreeEnsemble", "a post_transform",
     "SOFTMAX and LOGISTIC are taken for each other, and of one target nothing is transformed; "
     "\"'NONE' (0), 'SOFTMAX' (1), 'LOGISTIC' (2)\"", attr("post_transform", 1, 2, 3))
rule(ORT, "com.microsoft.MatMulNBits", "within the last bits of a float32 of the terms",
     "sums in single precision lose what Kiln's double keeps", elements=off_by_blocks)
rule(ORT, "MatMul MatMulInteger Gemm QLinearMatMul", "a product of matrices of no terms",
     "what the memory held is given instead of 0", zero_products)
rule(ORT, "NonZero", "a scalar",
     "1xN comes out; the specification asks for one row a dimension: 0xN",
     lambda case: array(case, 0).ndim == 0)
rule(ORT, "Dropout", "the mask of versions before 12",
     "it is all false in inference; \"this operator ... would simply copy the input\" means that "
     "all are kept, as later versions say", lambda case: case.opset < 12 and len(case.outputs) > 1,
     last_output)
rule(ORT, "AffineGrid", "align_corners of 1, and a spatial dimension of 1",
     "another grid; the operator's definition as a function begins at -1",
     lambda case: case.attributes.get("align_corners") == 1 and 1 in array(case, 1)[2:])
rule(ORT, "AffineGrid", "float16", "the places are found in the narrow type", narrow, off_by_places)
rule(ORT, "Col2Im", "one or three spatial dimensions, and a dilation that matters",
     "elements are added at wrong places; \"dilation value along each spatial axis\"",
     dilated_blocks)
rule(ORT, "MaxPool AveragePool LpPool",
     "SAME padding and a dilation of more than one element",
     "the dilated kernel shortens the output; \"output_spatial_shape[i] = "
     "ceil(input_spatial_shape[i] / strides_spatial_shape[i])\"",
     lambda case: same_mode(case) and dilated(case))
rule(ORT, "MaxPool AveragePool LpPool",
     "SAME padding and a kernel so much shorter than the stride that the padding is negative",
     "elements are cut off for it; \"pads ... can take any value greater than or equal to 0\"",
     lambda case: same_mode(case) and negative_padding(case))
rule(ORT, "ConvTranspose", "SAME padding and windows that do not reach the length asked for",
     "the output is shorter; \"output_shape[i] = input_shape[i] * strides[i]\"",
     lambda case: same_mode(case) and unreached(case))
rule(ORT,
     "MaxPool GlobalMaxPool ReduceMax ReduceMin Sign MaxRoiPool Relu Max Min Clip ScatterElements "
     "ScatterND", "an element that NaN goes into",
     "NaN is passed over, or is not, as it stands first or not; in Kiln what is no number stays so",
     nan_in, tainted)
rule(ORT, "MaxPool MaxRoiPool GlobalMaxPool", "an element that minus infinity goes into",
     "the search begins with the least finite number", special, tainted)
rule(ORT,
     "Conv ConvTranspose LRN InstanceNormalization GroupNormalization Resize Upsample GridSample "
     "DFT STFT ReduceLogSumExp LogSoftmax Softmax Col2Im RMSNormalization AveragePool LpPool "
     "MeanVarianceNormalization BatchNormalization RoiAlign",
     "an element of which NaN or an infinity is a term, or is told from padding by a factor 0",
     "inner zeros, running sums and transforms carry NaN and infinities to and from where the "
     "definition has them", special, not_finite)
rule(ORT, "DeformConv", "NaN or an infinity among weights, offsets or the mask",
     "0 times it is NaN where the definition has no term", special, not_finite)
rule(ORT, "Gemm", "a factor beta of 0, and NaN or an infinity in C",
     "C is not read; the formula \"alpha * A' * B' + beta * C\" makes NaN of 0 times an infinity",
     lambda case: case.attributes.get("beta") == 0 and special_c(case), not_finite)
rule(ORT, "DFT STFT", "float32 and float64, within the last bits of a float32 of the terms",
     "factors and sums in single precision lose what Kiln's double ones keep",
     lambda case: case.outputs[0][1] in (F, D), off_by_signal)
rule(ORT, "GridSample",
     "cubic, padding of border or reflection, and one of the 16 elements outside",
     "the padding acts on each of the 16 elements; \"border ... for outside grid locations\" is "
     "of the location",
     padded_cubic, cubic_outside)
rule(ORT, "Attention", "is_causal of 1, and past keys",
     "the mask is aligned to the last key; the definition as a function aligns it to the first one",
     past_keys)
rule(ORT, "MeanVarianceNormalization", "elements that are all alike along the axes",
     "0 / 0; the operator's definition as a function adds 1e-9 to the deviation",
     lambda case: True, pairs(lambda a, b: (a == 0) & ~np.isfinite(b)))
rule(ORT, "Pow Mod Shrink ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceProd ReduceSumSquare "
     "ReduceLogSumExp ReduceLogSum CumSum Resize Upsample Mean Einsum",
     "integers past 24 bits, or whose sums or powers are",
     "they go through a float32 or a float64, which round; integers of the definition are whole",
     whole_in, past_digits)
rule(ORT, "Resize", "negative int8 and antialias",
     "the filter is one of uint8: what is negative becomes 0",
     lambda case: case.attributes.get("antialias") == 1 and case.types["x"] == INT8 and
     bool((array(case, 0) < 0).any()))
rule(ORT, "Clip", "float64, an infinity, and a limit that is left out",
     "where it has no kernel it is asked in single precision, whose limits are others",
     missing_limit,
     pairs(lambda a, b: np.abs(b) == float(np.finfo(np.float32).max)))
rule(ORT, "Cast CastLike", "a real with something behind the point, to 4 bits",
     "it is rounded; the other integers' and the specification's \"truncated\" cuts off what is "
     "behind the point", lambda case: case.outputs[0][1] in FOUR_BITS and not whole_in(case),
     fraction_in)
rule(ORT, "Slice", "a negative step and an end of the greatest integer of 32 or 64 bits",
     "it means the beginning; \"clamped to ... [-1, dims[axes[i]]-1] for negative stepping\"",
     greatest_end)
rule(ORT, "Resize", "align_corners, and scales that give a fraction of an element",
     "the whole length counts; ONNX's own test data takes the length times the scale",
     aligned_fraction)
rule(ORT, "Resize", "nearest, on a coordinate that is halfway, or whole, but for the last bit",
     "single precision falls to the other side",
     lambda case: case.attributes.get( "mode", "nearest") == "nearest", halfway)
rule(ORT, "Resize", "tf_crop_and_resize of an axis but the last two, or of one whose length stays",
     "only the last axes are cropped, and those that become longer or shorter; \"roi ... [start1, "
     "..., startN, end1, ..., endN], where N is the rank\"", cropped_unseen)
rule(ORT, "Pad", "wrap, and a negative pad",
     "it is cut off after wrapping around on one side only",
     lambda case: case.attributes.get("mode") == "wrap" and negative_pad(case))
rule(ORT, "GroupNormalization InstanceNormalization LayerNormalization",
     "elements that are large beside their deviation",
     "single precision inside loses what Kiln's double keeps", lambda case: True, cancels)

# --- onnx.reference ---

rule(REF, "RNN GRU LSTM",
     "clip, lengths of sequences that are shorter than the input, or coupled gates (input_forget)",
     "they are not looked at; \"specifying lengths of the sequences\", \"applied to the input of "
     "activations\"",
     unseen_gates)
rule(REF, "BatchNormalization", "versions 9 to 13",
     "the moments of the batch are mixed in, as in training, though only one output is asked for; "
     "\"Output case #2: Y (test mode)\"", lambda case: 9 <= case.opset < 14, moments_mixed)
rule(REF, "GlobalMaxPool", "a rank other than 4",
     "always two axes are reduced; \"kernel size equal to the spatial dimension\"",
     lambda case: array(case, 0).ndim != 4)
rule(REF, "Softmax LogSoftmax Hardmax", "versions before 13, and elements behind the axis",
     "the input is not taken as a matrix; \"coerced into a 2-dimensional tensor\"",
     lambda case: case.opset < 13 and behind_axis(case))
rule(REF, "Softmax LogSoftmax Hardmax", "versions before 13, and no axis",
     "the last axis is taken; \"axis (default is 1)\"",
     lambda case: case.opset < 13 and "axis" not in case.attributes and array(case, 0).ndim != 2)
rule(REF, "LRN", "more channels than batches, and one whose number is no batch's",
     "the batch is counted as channels; \"min(C - 1, c + ceil((size - 1) / 2))\"",
     lambda case: array(case, 0).shape[0] < array(case, 0).shape[1], past_batches)
rule(REF, "LpNormalization", "p of 1, and negative elements",
     "elements are summed, not their sizes; \"Lp_norm(input, axis)\"",
     attr("p", 1), negative_lanes)
rule(REF, "LpNormalization", "float16, and an element whose square is below the least number",
     "the norm comes out as 0, and so does the result", lambda case: H in case.types.values(),
     pairs(lambda a, b: (a != 0) & (b == 0)))
rule(REF, "LpPool", "a window that is not whole: padding, ceil mode or dilation",
     "the average of what is there counts for all of the kernel", lambda case: True, parted)
rule(REF, "AveragePool LpPool", "an element that NaN goes into",
     "NaN marks padding and is left out of averages", nan_in, tainted)
rule(REF, "AveragePool LpPool", "SAME or VALID padding and a dilation of more than one element",
     "the dilation is left out",
     lambda case: case.attributes.get("auto_pad", "NOTSET") != "NOTSET" and dilated(case))
rule(REF, "AveragePool LpPool", "ceil_mode, and a window that ends behind the input",
     "all windows are laid out in another order",
     lambda case: case.attributes.get("ceil_mode") == 1 and reaches_past(case))
rule(REF, "MaxPool", "indices, with strides and dilations of 1",
     "they are counted in the output's shape, and in one image",
     lambda case: len(case.outputs) > 1 and plain_steps(case),
     lambda case, detail: np.full(detail.wrong.shape, detail.name == "y1"))
rule(REF, "MaxPool",
     "strides and dilations of 1, and pads other than in two dimensions alike, or with ceil_mode",
     "pads are read in another order, or not at all",
     lambda case: plain_steps(case) and uneven_pads(case))
rule(REF, "MaxPool", "SAME_LOWER, or SAME padding that is negative or of one or three dimensions",
     "the length is rounded down and the odd element put behind; other ranks are padded as two",
     lower_or_not_two)
rule(REF, "MaxPool GlobalMaxPool ScatterElements Relu Clip",
     "an element that NaN or an infinity goes into", "NaN is passed over, or marks padding",
     special, tainted)
rule(REF, "ConvTranspose",
     "more than one group, of more than one channel each in or out, or with a bias",
     "each group but the first is read and written at another one's place, with the first one's "
     "bias", wide_groups)
rule(REF, "ConvInteger",
     "a zero point for each channel, and weights of other than two spatial dimensions",
     "it is laid along another axis",
     points_by_channel)
rule(REF, "QLinearConv",
     "a scale for each channel, and weights of other than two spatial dimensions",
     "it is laid along another axis",
     lambda case: array(case, 4).size > 1 and array(case, 3).ndim != 4)
rule(REF, "QLinearConv QLinearMatMul", "a result that lies halfway",
     "the zero point is added before it is rounded to even; \"(x / y_scale) + y_zero_point. For "
     "(x / y_scale), it is rounding to nearest ties to even\"", lambda case: True, halves)
rule(REF, "QLinearMatMul", "an operand of float8 with something behind the point",
     "its elements are cut off to integers", parts_of_float8)
rule(REF, "QuantizeLinear", "a quotient that 32 bits do not hold",
     "it wraps before it is saturated; \"saturate((x / y_scale) + y_zero_point)\"",
     lambda case: True, past_32_bits)
rule(REF, "ai.onnx.ml.TreeEnsemble", "a post_transform", "it is left out",
     attr("post_transform", 1, 2, 3))
rule(REF, "ai.onnx.ml.TreeEnsemble", "the least or greatest weight of a target without a leaf",
     "it is the greatest finite number or the least one; 0 is given of a sum",
     attr("aggregate_function", 2, 3), pairs(lambda a, b: (a == 0) & (np.abs(b) > 1e38)))
rule(REF, "DeformConv", "NaN or an infinity among weights, offsets or the mask",
     "0 times it is NaN where the definition has no term", special, not_finite)
rule(REF, "DeformConv GridSample", "float64", "places and weights are in single precision",
     lambda case: D in case.types.values(), pairs(lambda a, b: np.abs(a - b) <= 1e-4))
rule(REF, "MeanVarianceNormalization", "a variance that is small beside the square of the mean",
     "it is the difference of two means, which cancel", lambda case: True, squares_cancel)
rule(REF, "RoiAlign", "versions before 16",
     "regions are shifted by half a pixel, which is from version 16 on; "
     "\"'output_half_pixel' to omit the pixel shift ... a backward-compatible behavior\"",
     lambda case: case.opset < 16)
rule(REF, "SequenceInsert", "the position behind the last one",
     "it becomes the first one; \"in [-n, n]\", \"counting positions from the back\" only where "
     "negative",
     lambda case: inserted_last(case))
rule(REF, "Shape", "a start or an end past the ends",
     "end before start gives what NumPy's negative indices give; both are \"clamped to the range "
     "[0, r]\"", clamped_shape)
rule(REF, "Slice", "a negative step and a start before the first element",
     "NumPy's own slices; \"starts ... clamped to ... [0, dims[axes[i]]-1] for negative stepping\"",
     clamped_start)
rule(REF, "Unique", "sorted of 0, and elements that do not come sorted, a matrix or an axis",
     "elements are taken along the first axis, and alone stay sorted; \"in the order of the first "
     "occurrence\"", first_come)
rule(REF, "Unsqueeze", "versions before 13, and axes that are not in order or count from the end",
     "each is inserted by itself; they are axes of the output",
     lambda case: case.opset < 13 and unordered_axes(case))
rule(REF, "Resize", "tf_crop_and_resize, and a length times its scale that is not whole",
     "that counts, not the whole length; \"length_resized\"", fraction_of_a_length)
rule(REF, "Resize", "half_pixel_symmetric, and a keep_aspect_ratio_policy",
     "the length asked for stands for the one that comes out; \"output_width_int\"",
     lambda case: case.attributes.get("coordinate_transformation_mode") == "half_pixel_symmetric"
     and case.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch")
rule(REF, "Resize", "float64", "the weights of cubic interpolation are in single precision",
     lambda case: case.attributes.get("mode") == "cubic" and D in case.types.values(),
     lambda case, detail: apart(detail) <= 2.0 ** -20 * np.abs(array(case, 0)).max())
rule(REF, "RMSNormalization", "float16 and bfloat16, and more elements than a last bit's worth",
     "the sum of squares is rounded at each step, and stops growing", stalled_squares,
     pairs(lambda a, b: (np.sign(a) == np.sign(b)) & (np.abs(b) >= np.abs(a))))
rule(REF, "Resize", "pytorch_half_pixel and a length of 1",
     "the coordinate is -0.5; \"length_resized > 1 ? ... : 0\"",
     to_one)
rule(REF, "ReduceMean", "integers whose sum their type does not hold, or a mean past 53 bits",
     "the sum wraps in the narrow type; the quotient is a float64's", whole_in, sum_wraps)
rule(REF, "OneHot PRelu AffineGrid", "an infinity among the values",
     "a product with 0 is taken though another value was chosen", special, not_finite)
rule(REF, "Gemm", "integers past 53 bits", "factors make a float64 of them, also where they are 1",
     lambda case: whole_in(case) and magnitude(case) > 2 ** 53)
rule(REF, "LogSoftmax", "a probability that is below the least normal number",
     "the logarithm is taken of the rounded one", lambda case: True, pairs(lambda a, b: a < -87))
rule(REF, "Gemm", "a factor beta of 0, and NaN or an infinity in C", "as in ONNX Runtime",
     lambda case: case.attributes.get("beta") == 0 and special_c(case), not_finite)
rule(REF, "BatchNormalization Conv ConvTranspose DFT Gemm GridSample InstanceNormalization LRN "
     "LogSoftmax LpNormalization LpPool MatMul ReduceLogSumExp Resize RoiAlign STFT "
     "Softmax Upsample",
     "an element of which NaN or an infinity is a term, or is told from padding by a factor 0",
     "as in ONNX Runtime; fast transforms spread them over all elements", special, not_finite)
rule(REF, "Conv ConvTranspose ReduceMean ReduceSum ReduceSumSquare ReduceL1 ReduceL2 ReduceProd "
     "ReduceLogSum ReduceLogSumExp",
     "float16 and bfloat16", "sums are rounded at each step", narrow, off_by_terms)
rule(REF, "GroupNormalization InstanceNormalization LayerNormalization",
     "elements that are large beside their deviation",
     "the narrow type inside loses what Kiln's double keeps", lambda case: True, cancels)
