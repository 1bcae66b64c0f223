# SPDX-License-Identifier: Apache-2.0
"""Where another executor does not agree with Kiln, and why Kiln does as it does.

    settled.py [--update] DOCUMENT

A rule: the operators, which of the others differs, when it applies, and the reason.
"onnxruntime": onnx.reference agrees with Kiln, or is not there; "reference": the other way round;
"wrong": neither agrees; "alone": neither runs the model; "approved": the check passes what a run
refuses. The document, docs/differences.md, lists the rules; as a program this holds it to that."""
import pathlib
import re
import sys
import textwrap

import numpy as np

from generate import FLOATS, FOUR_BITS, numpy_type

RULES = []
ORT, REF, BOTH, ALONE = {"onnxruntime"}, {"reference"}, {"onnxruntime", "reference",
                                                         "wrong"}, {"alone"}


def find(case, kind, detail, answer, theirs, reference):
    """The reason that settles a difference, or None."""
    for operators, kinds, applies, reason in RULES:
        if kind == "wrong" and "wrong" not in kinds:
            # One of the two may be absent: then the other one's rule decides.
            here = ("onnxruntime" if reference is None else
                    "reference" if theirs is None else "wrong")
        else:
            here = kind
        if (operators is None or case.op in operators) and here in kinds and \
                applies(case, detail, answer, theirs, reference):
            return reason
    return None


def rule(names, kinds, reason, applies=lambda *_: True):
    RULES.append((set(names.split()) if names else None, kinds, applies, reason))


def arrays(case):
    return {**case.inputs, **case.constants}


def is_whole(case, name):
    return np.dtype(numpy_type(case.types[name])).kind in "iu"


def has_special(case, *_):
    """NaN or an infinity among what goes in."""
    return any(case.types[n] in FLOATS and not np.isfinite(a.astype(np.float64)).all()
               for n, a in arrays(case).items())


def has_nan(case, *_):
    return any(case.types[n] in FLOATS and np.isnan(a.astype(np.float64)).any()
               for n, a in arrays(case).items())


def has_empty(case, *_):
    return any(a.size == 0 for a in arrays(case).values())


def has_large(case, *_):
    """Integers that single or double precision does not hold, or whose sums wrap."""
    return any(is_whole(case, n) and a.size and np.abs(a.astype(np.float64)).max() > 100
               for n, a in arrays(case).items())


def whole_output(case, *_):
    return case.outputs and np.dtype(numpy_type(case.outputs[0][1])).kind in "iub"


def narrow(case, *_):
    return any(t in FLOATS and t != 11 and t != 1 for t in case.types.values())


def attribute(name, *values):
    return lambda case, *_: case.attributes.get(name) in values


def given(name):
    return lambda case, *_: name in case.attributes


def before(version):
    return lambda case, *_: case.opset < version


REDUCTIONS = ("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
              "ReduceProd ReduceSum ReduceSumSquare")

# --- numbers that the specification says nothing about ---

rule(REDUCTIONS + " Shrink Einsum Mod Gemm MatMul Range CumSum CumProd Mul Pow Add Sub Sum Mean",
     BOTH,
     "integers past what the other's floating-point arithmetic or narrower sum holds exactly; "
     "Kiln's are exact and wrap", has_large)
rule("ReduceLogSum ReduceLogSumExp ReduceMean ReduceL2 Pow Reciprocal Cast CastLike Div Mod", BOTH,
     "a real that an integer cannot hold (infinite, no number, too large) has no defined "
     "conversion; Kiln's becomes the nearest end, and 0 for what is no number", whole_output)
rule("Erf Resize Upsample Mean", BOTH,
     "integers: how the real result is rounded is left open; Kiln cuts off, as Cast does",
     whole_output)
rule("GlobalMaxPool MaxPool ReduceMax ReduceMin Max Min ArgMax ArgMin TopK Hardmax Sign Clip "
     "ScatterElements ScatterND Scatter MaxRoiPool RoiAlign Unique Relu", BOTH,
     "what is no number: which of two is greater when one is no number is left open; in Kiln what "
     "is no number stays so", has_nan)
rule("AveragePool GlobalAveragePool LpPool GlobalLpPool Conv ConvTranspose DeformConv DFT STFT LRN "
     "Softmax LogSoftmax GridSample Resize Upsample MeanVarianceNormalization LpNormalization "
     "InstanceNormalization GroupNormalization LayerNormalization RMSNormalization "
     "BatchNormalization Col2Im Gemm MatMul Einsum Attention RotaryEmbedding DynamicQuantizeLinear "
     "QuantizeLinear ReduceMean ReduceLogSumExp ReduceLogSum GRU LSTM RNN "
     "Det RoiAlign Softplus Mish "
     "Gelu Swish SwiGLU HardSwish Celu Elu Selu", BOTH,
     "NaN and infinities spread over what shares a sum, a transform or a padding with them, each "
     "executor in its own way; Kiln computes the definition term by term", has_special)

# --- ONNX Runtime ---

rule(REDUCTIONS + " ArgMax ArgMin", ORT | {"wrong"},
     "ONNX Runtime: a reduction over an empty tensor keeps the dimension of the reduced axes",
     has_empty)
rule("NonZero", ORT, "ONNX Runtime: a scalar gives 1xN; the specification asks for 0xN",
     lambda case, *_: any(a.ndim == 0 for a in arrays(case).values()))
rule("Slice", ORT, "ONNX Runtime: with a negative step the greatest integer as an end means the "
     "beginning; the specification clamps it to the last element",
     lambda case, *_: any(a.size and a.dtype.kind == "i" and abs(a.astype(float)).max() > 2 ** 30
                          for a in arrays(case).values()) or given("ends")(case))
rule("MaxPool AveragePool LpPool", ORT | {"wrong"},
     "ONNX Runtime: the dilation counts when the output's length in SAME mode is computed; the "
     "specification divides the input by the stride",
     lambda case, *_: str(case.attributes.get("auto_pad", "")).startswith("SAME") and
     max(case.attributes.get("dilations", [1])) > 1)
rule("MaxPool AveragePool LpPool", ORT | {"wrong"},
     "ONNX Runtime: in SAME mode the padding is negative where the kernel is shorter than the "
     "stride; a padding is at least 0 in the specification",
     lambda case, *_: str(case.attributes.get("auto_pad", "")).startswith("SAME") and
     any(k < s for k, s in zip(case.attributes["kernel_shape"],
                               case.attributes.get("strides", case.attributes["kernel_shape"]))))
rule("MatMulInteger MatMul Gemm QLinearMatMul", ORT | {"wrong"},
     "ONNX Runtime: a product over no elements is left as the memory was, instead of 0", has_empty)
rule("MeanVarianceNormalization", ORT,
     "ONNX Runtime: without the 1e-9 of the operator's definition, 0/0 where all are alike")
rule("MeanVarianceNormalization", ALONE, "both others follow a definition that fits float32 alone")
rule("Dropout", ORT, "ONNX Runtime: before version 12 the mask of inference is false; the "
     "specification's later versions and onnx.reference keep every element", before(12))
rule("AffineGrid", ORT, "ONNX Runtime: another grid where a dimension is 1 or corners are aligned; "
     "Kiln follows the operator's definition")
rule("GridSample", ORT, "ONNX Runtime: border and reflection act on each of the 16 elements of "
     "cubic interpolation; the specification's act on the location of the grid",
     attribute("mode", "cubic", "bicubic"))
rule("Attention", ORT, "ONNX Runtime: a causal mask beside past keys is aligned to the last one; "
     "the specification aligns it to the first", attribute("is_causal", 1))
rule("Resize Upsample", ORT | {"wrong"},
     "nearest: a coordinate that is whole but for the last bit falls to either side of it",
     lambda case, *_: case.opset > 10 and case.attributes.get("mode", "nearest") == "nearest")
rule("Resize", BOTH,
     "tf_crop_and_resize: ONNX Runtime and onnx.reference extrapolate along some axes "
     "only, each along others",
     attribute("coordinate_transformation_mode", "tf_crop_and_resize"))
rule("MaxPool GlobalMaxPool", BOTH, "ONNX Runtime and onnx.reference begin with the least finite "
     "number, which is not less than minus infinity", has_special)
rule("MaxPool", BOTH, "a window that lies in the padding alone has no greatest element",
     lambda case, *_: max(case.attributes.get("pads", [0])) > 0)
rule("GroupNormalization InstanceNormalization LayerNormalization", BOTH,
     "single precision inside the other: the mean of what is large takes digits from the rest",
     lambda case, detail, *_: True)
rule("Resize", ORT, "ONNX Runtime: in align_corners the length of the output is the rounded one; "
     "ONNX's own test data takes the length times the scale",
     attribute("coordinate_transformation_mode", "align_corners"))
rule("Pad", BOTH, "negative pads beside wrapping or reflection: what is cut off first is left open",
     attribute("mode", "wrap", "reflect"))
rule("ConvInteger", REF, "onnx.reference: a zero point for each channel is laid along another axis")
rule("Unsqueeze", REF, "onnx.reference: negative axes count in the shape before all are inserted")
rule("PRelu OneHot AffineGrid", BOTH, "an infinity times 0 is no number, where a product is taken "
     "though another value was chosen", has_special)
rule("ReduceSumSquare ReduceMean ReduceSum ReduceL1 ReduceL2 ReduceProd LogSoftmax ConvTranspose "
     "Conv", REF,
     "onnx.reference: sums in half precision", narrow)
rule("ConvInteger", ALONE, "ONNX Runtime takes one zero point of weights; the specification has "
     "one a channel, too")
rule("Pad", ALONE, "negative pads beside reflection: the others refuse them where an axis is "
     "short, and ONNX Runtime wraps in some types only",
     attribute("mode", "reflect", "wrap"))
rule("Resize Upsample", ALONE, "ONNX Runtime resizes linearly in 2 or 3 dimensions only")

rule("ConvTranspose", BOTH,
     "ONNX Runtime and onnx.reference: in SAME mode another length where "
     "the kernel is shorter than "
     "the stride; the specification's is the input's length times the stride",
     lambda case, *_: str(case.attributes.get("auto_pad", "")).startswith("SAME"))
rule("Col2Im", ORT | {"wrong"}, "ONNX Runtime: Col2Im of one dimension, or of three, goes wrong")
rule("QuantizeLinear", BOTH, "int32 past what a float32 holds", has_large)
rule("HannWindow HammingWindow BlackmanWindow", BOTH,
     "the symmetric window of one element is no number, and no integer",
     whole_output)
rule("Cast CastLike", ORT,
     "ONNX Runtime: to 4 bits it rounds; the specification cuts off what lies "
     "behind the point", lambda case, *_: case.outputs[0][1] in FOUR_BITS)
rule("DeformConv", REF, "onnx.reference: interpolation in the narrow type")
rule("Slice", BOTH, "see the two lines on Slice: the others differ from each other as well",
     lambda case, *_: any(a.size and a.dtype.kind == "i" and abs(a.astype(float)).max() > 2 ** 30
                          for a in arrays(case).values()))
rule("DynamicQuantizeLinear", BOTH, "all elements alike: the range is empty, and what a scale of 0 "
     "gives is left open; Kiln's stays 0",
     lambda case, *_: float(np.ptp(np.append(next(iter(arrays(case).values())), 0))) == 0)
rule("STFT DFT", ORT | {"wrong"}, "ONNX Runtime: twiddle factors in single precision",
     lambda case, detail, *_: True)
rule(None, {"approved"}, "a shape that is dynamic when the model is checked",
     lambda case, *_: any(isinstance(d, str) for dims in case.dims.values() for d in dims))
rule("Slice Reshape Expand Tile Pad Unsqueeze Squeeze", {"approved"},
     "a list that is an input", lambda case, *_: len(case.inputs) > 1)

# --- onnx.reference ---

rule("GRU LSTM RNN", REF, "onnx.reference: no sequence lengths, no clipping, no second direction "
     "with its own state, no coupled gates; its states mix where the layout is 1")
rule("BatchNormalization", REF, "onnx.reference: versions 9 to 13 use epsilon's default",
     before(14))
rule("GlobalMaxPool", BOTH, "onnx.reference: one axis too few is reduced")
rule("Softmax LogSoftmax Hardmax", REF, "onnx.reference: before version 13 the input is not taken "
     "as a matrix", before(13))
rule("LRN", REF, "onnx.reference: the batch is counted as channels")
rule("LRN", ALONE, "ONNX Runtime takes odd sizes only, and onnx.reference counts the batch as "
     "channels")
rule("LpNormalization", REF, "onnx.reference: the norm of signed sums where p is 1")
rule("LpPool", REF, "onnx.reference: padding is raised to the power of p as the elements are not")
rule("MaxPool", REF, "onnx.reference: pads that are not even, auto_pad, dilations, and indices")
rule("AveragePool", REF, "onnx.reference: auto_pad with dilations, and ceil mode",
     lambda case, *_: "auto_pad" in case.attributes or len(case.outputs) > 1 or
     case.attributes.get("ceil_mode") == 1 or "dilations" in case.attributes)
rule("AveragePool", ALONE, "auto_pad with dilations: the others get negative padding or none",
     given("auto_pad"))
rule("ConvTranspose", REF, "onnx.reference: groups are not told apart",
     lambda case, *_: case.attributes.get("group", 1) > 1)
rule("ConvTranspose Conv", ALONE, "onnx.reference: groups and three dimensions do not go together",
     narrow)
rule("QLinearConv QLinearMatMul", REF, "onnx.reference: zero points, batches and rounding of "
     "quantized products in the narrow type")
rule("RoiAlign", REF, "onnx.reference: the mode, the sampling ratio and the half pixel of versions "
     "before 16")
rule("SequenceInsert", REF, "onnx.reference: a position that is given is not the one used")
rule("SequenceEmpty SequenceConstruct SequenceErase SequenceAt", REF,
     "onnx.reference: as in SequenceInsert")
rule("Slice", REF, "onnx.reference: NumPy's slices, which do not clamp as the specification does, "
     "where the step is negative")
rule("Shape", REF, "onnx.reference: start past end is not clamped", given("start"))
rule("Shape", REF, "onnx.reference: end before the beginning is not clamped", given("end"))
rule("Unique", REF, "onnx.reference: with an axis, the order and the indices of the unsorted form")
rule("Unique", ALONE, "onnx.reference: indices of the unsorted form with an axis")
rule("InstanceNormalization BatchNormalization LayerNormalization GroupNormalization "
     "MeanVarianceNormalization LpNormalization", BOTH,
     "half precision inside the other: its sums lose what Kiln's keep", narrow)
rule("Resize", REF, "onnx.reference: the region of tf_crop_and_resize with named axes, and "
     "antialiasing of narrow inputs", lambda case, *_: True)
rule("Hardmax TopK ArgMax ArgMin", REF | ORT, "equal elements after rounding", narrow)


# --- the document ---

BEGIN, END = "<!-- settled: tests/operators/settled.py -->", "<!-- end -->"


def listed():
    """The rules as a list in Markdown, in their order."""
    lines = []
    for operators, _, _, reason in RULES:
        names = ", ".join(sorted(operators)) if operators else "Any operator"
        lines += textwrap.wrap(f"- {names}: {reason}.", 112, subsequent_indent="  ",
                               break_on_hyphens=False)
    return "\n".join(lines)


def main():
    path = pathlib.Path(sys.argv[-1])
    text = path.read_text(encoding="utf-8")
    wanted = f"{BEGIN}\n{listed()}\n{END}"
    now = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: wanted, text, flags=re.S)
    if "--update" in sys.argv:
        path.write_text(now, encoding="utf-8")
    elif now != text or BEGIN not in text:
        print(f"{path} does not list the rules of settled.py; settled.py --update {path}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
