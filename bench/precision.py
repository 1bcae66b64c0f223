#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What smaller types cost, on the CPU: Kiln's passes against the Python tools for the same, on the
same batches and held-out inputs.

    bench/precision.py BUILD MODELS [LIGHT_RESNET50]

BUILD has bin/kiln; MODELS is build/deps/models. Prints a table: for each model and type the signal
to noise of the worst output by Kiln and by the peers, in decibels, on each of four sets of 32
held-out inputs, in brackets what half of all these inputs reach alone, and how much of each set's
noise one input has (with int4 also of what magika's softmax reads, on all of them); then how many
characters the text recogniser reads as it does in float32, on 200 generated pictures. Peers are
onnxconverter-common (fp16), onnxruntime.quantization's quantize_static (int8, per channel, with
symmetric activations as TensorRT wants them, and with its default) and MatMulNBitsQuantizer (int4,
blocks of 32, symmetric as TensorRT wants it, and with its default, zero points, in blocks of 16
too); what one of them fails with stands in its place. Needs Pillow, which draws the pictures.

PRECISION_MODELS="magika rec" and PRECISION_KINDS="int4" leave the others out; PRECISION_SETS says
how many sets, PRECISION_INPUTS of how many inputs, PRECISION_SEEDS="5000 6000" which pictures are
read (5000). PRECISION_FUSED=1 lets ONNX Runtime cut off sums of products of 8 bits where the
processor makes it do so (docs/onnxruntime.md); else it is kept from that. PRECISION_MODELOPT is a
Python that has nvidia-modelopt[onnx] and its torch: its int8 then is a peer too.

What computes: ONNX Runtime on the CPU, which has no kernels for bfloat16 and few for float16, and
leaves casts between two nodes out where it computes in float32 instead. So a half type is emulated,
by casts there and back behind every node, which is what the reference executor does as well; a GPU
fuses nodes and rounds less often.
"""
import logging
import os
import random
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests",
                                "precision"))
from kiln_api import sums_are_cut_off

onnxruntime.set_default_logger_severity(4)
logging.disable()  # a line for each node
PICTURES = 200
CALIBRATION = 32
FEW = 8
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def session(path):
    """ONNX Runtime's on the CPU; where it cuts off sums of products of 8 bits, without what makes
    such products of what stands between quantized tensors (docs/onnxruntime.md)."""
    options = onnxruntime.SessionOptions()
    if sums_are_cut_off() and "PRECISION_FUSED" not in os.environ:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def rounding(path):
    """ONNX Runtime's on the CPU; of a model in a half type, one in float32 that rounds what each
    node gives."""
    import ml_dtypes
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    types = {TensorProto.BFLOAT16: ml_dtypes.bfloat16, TensorProto.FLOAT16: numpy.float16}
    model = onnx.load(path)
    known = shape_inference.infer_shapes(model).graph
    halves = {value.name: value.type.tensor_type.elem_type
              for value in [*known.value_info, *known.output, *known.input]
              if value.type.tensor_type.elem_type in types}
    if not halves:
        return session(path)
    constants = [tensor for tensor in model.graph.initializer] + [
        attribute.t for node in model.graph.node for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"]
    names = {tensor.name for tensor in constants if tensor.data_type in types}
    for value in model.graph.input:  # old models list initializers there too
        if value.name in names:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in constants:
        if tensor.data_type in types:
            numbers = numpy_helper.to_array(tensor).astype(numpy.float32)
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "Constant":
            continue
        if node.op_type == "Cast" and node.attribute[0].i in types:
            node.op_type = "Identity"
            del node.attribute[:]
        for place, name in enumerate(node.output):
            if name in halves:
                node.output[place] = name + "/exact"
                nodes.append(helper.make_node("Cast", [name + "/exact"], [name + "/half"],
                                              to=halves[name]))
                nodes.append(helper.make_node("Cast", [name + "/half"], [name],
                                              to=TensorProto.FLOAT))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                        providers=["CPUExecutionProvider"])


def picture(seed, height, width, lines):
    """Words in a font, on a ground that is not quite even; as the models take it."""
    draw_from = random.Random(seed)
    ground = draw_from.randrange(170, 256)
    image = Image.new("RGB", (width, height), (ground,) * 3)
    draw = ImageDraw.Draw(image)
    size = height / lines * 0.62
    for line in range(lines):
        words = ["".join(draw_from.choice(ALPHABET) for _ in range(draw_from.randrange(3, 8)))
                 for _ in range(2)]
        text = " ".join(words)
        draw.text((draw_from.randrange(2, 12), line * height / lines + size * 0.2), text,
                  fill=(draw_from.randrange(0, 90),) * 3,
                  font=ImageFont.load_default(size * draw_from.uniform(0.85, 1.1)))
    array = numpy.asarray(image, dtype=numpy.float32)
    array += numpy.random.default_rng(seed).normal(0, 4, array.shape)
    return ((array / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None].astype(numpy.float32)


def feed_of(name, seed):
    """Inputs of a model, other ones for each seed."""
    if name == "magika":
        files = sorted(os.path.join(folder, file) for folder, _, files in os.walk("src")
                       for file in files)
        with open(files[seed * 37 % len(files)], "rb") as file:
            data = file.read()
        begin, end = data[:1024], data[-1024:]
        values = list(begin) + [256] * (1024 - len(begin)) + [256] * (1024 - len(end)) + list(end)
        return {"bytes": numpy.array([values], dtype=numpy.int32)}
    if name == "det":
        return {"x": picture(seed, 160, 320, 4)}
    if name == "rec":
        return {"x": picture(seed, 48, 320, 1)}
    noise = numpy.random.default_rng(seed).normal(0, 1, (1, 3, 224, 224))
    return {"gpu_0/data_0": noise.astype(numpy.float32)}


# What the softmax at a model's end reads: behind it one input that is in doubt decides over a set.
LOGITS = {"magika": "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/Dense_1/AddV2:0"}


def logits(name, path, feeds):
    """Of a model that LOGITS names, what its softmax reads, less the mean of each input's."""
    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_tensor_value_info(LOGITS[name], 1, None))
    run = onnxruntime.InferenceSession(model.SerializeToString(),
                                       providers=["CPUExecutionProvider"])
    rows = numpy.concatenate([run.run([LOGITS[name]], feed)[0] for feed in feeds]).astype(float)
    return rows - rows.mean(axis=1, keepdims=True)


def snr(before, after, sets):
    """Signal to noise of the worst output on each set and, in brackets, on half of all inputs, in
    decibels; and how much of each set's noise one of its inputs has."""
    rows = [[energies(before, after, feed) for feed in feeds] for feeds in sets]
    found = " / ".join(f"{decibels(numpy.sum(of, axis=0)):.1f}" for of in rows)
    middle = numpy.median([decibels(row) for of in rows for row in of])
    noises = [numpy.array(of)[:, :, 1].sum(axis=1) for of in rows]
    shares = [100 * noise.max() / noise.sum() for noise in noises if noise.sum() > 0]
    worst = f"; one input has {' / '.join(f'{share:.0f}' for share in shares)} % of the noise"
    return f"{found} dB ({middle:.1f}){worst if shares else ''}"


def energies(before, after, feed):
    """Of each output, the squares of its numbers and of the differences."""
    feed = dict(zip([value.name for value in before.get_inputs()], feed.values()))
    return numpy.array([(numpy.sum(a.astype(float) ** 2), numpy.sum((a.astype(float) - b) ** 2))
                        for a, b in zip(before.run(None, feed), after.run(None, feed))])


def decibels(rows):
    """The worst of some outputs."""
    return min(10 * numpy.log10(a / b) if b > 0 else numpy.inf for a, b in rows)


def by_kiln(kiln, source, target, *words):
    """kiln quantize; raises what it says."""
    done = subprocess.run([kiln, "quantize", source, "-o", target, *words], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())


class Batches:
    """A CalibrationDataReader."""

    def __init__(self, feeds):
        self.left = iter(feeds)

    def get_next(self):
        """The next batch, or None."""
        return next(self.left, None)


def by_converter(source, target, _feeds):
    """fp16 by onnxconverter-common."""
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def by_static(symmetric):
    """int8 by onnxruntime.quantization, which wants a newer operator set for channels."""
    def quantize(source, target, feeds):
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        model = onnx.load(source)
        if model.opset_import[0].version < 13:
            from onnx import version_converter
            onnx.save(version_converter.convert_version(model, 13), target + ".13.onnx")
            source = target + ".13.onnx"
        quantize_static(source, target, Batches(feeds), quant_format=QuantFormat.QDQ,
                        per_channel=True, weight_type=QuantType.QInt8,
                        activation_type=QuantType.QInt8,
                        extra_options={"ActivationSymmetric": symmetric})
    return quantize


def by_nbits(symmetric, block=32):
    """int4 by onnxruntime.quantization."""
    def quantize(source, target, _feeds):
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        model = onnx.load(source)
        for node in model.graph.node:  # it takes weights from initializers alone
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                model.graph.initializer.append(node.attribute[0].t)
                model.graph.initializer[-1].name = node.output[0]
        kept = [node for node in model.graph.node
                if node.op_type != "Constant" or node.attribute[0].name != "value"]
        del model.graph.node[:]
        model.graph.node.extend(kept)
        quantizer = MatMulNBitsQuantizer(model, block_size=block, is_symmetric=symmetric)
        quantizer.process()
        onnx.save(quantizer.model.model if hasattr(quantizer.model, "model") else quantizer.model,
                  target)
    return quantize


MODELOPT = """
import sys, numpy, modelopt.onnx.quantization as quantization
quantization.quantize(sys.argv[1], quantize_mode="int8", calibration_eps=["cpu"],
                      calibration_data=dict(numpy.load(sys.argv[2])), output_path=sys.argv[3],
                      high_precision_dtype="fp32")
"""


def by_modelopt(source, target, feeds):
    """int8 by nvidia-modelopt, with its defaults, on the CPU."""
    name = next(iter(feeds[0]))
    numpy.savez(target + ".npz", **{name: numpy.concatenate([feed[name] for feed in feeds])})
    done = subprocess.run([os.environ["PRECISION_MODELOPT"], "-c", MODELOPT, source,
                           target + ".npz", target], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


# Words of Kiln's, batches that it calibrates with, and peers.
KINDS = [("fp16", ["-p", "fp16"], 0, [("onnxconverter-common", by_converter)]),
         ("fp16, calibrated", ["-p", "fp16"], FEW, []),
         ("fp16, to 60 dB", ["-p", "fp16", "--target", "60"], FEW, []),
         ("int8", ["-p", "int8"], CALIBRATION,
          [("quantize_static, symmetric", by_static(True)), ("its default", by_static(False))] +
          ([("nvidia-modelopt", by_modelopt)] if "PRECISION_MODELOPT" in os.environ else [])),
         ("int8, every node", ["-p", "int8", "--target", "0"], CALIBRATION, []),
         ("int8, every node, seven bits", ["-p", "int8", "--target", "0", "--reduce-range"],
          CALIBRATION, []),
         ("int4", ["-p", "int4", "--block", "32"], 0,
          [("MatMulNBitsQuantizer, symmetric", by_nbits(True)), ("its default", by_nbits(False))]),
         ("int4, calibrated", ["-p", "int4", "--block", "32"], CALIBRATION, []),
         ("int4, zero points", ["-p", "int4", "--block", "32", "--zero-points"], 0, []),
         ("int4, zero points, calibrated", ["-p", "int4", "--block", "32", "--zero-points"],
          CALIBRATION, []),
         ("int4, zero points, calibrated, blocks of 16",
          ["-p", "int4", "--block", "16", "--zero-points"], CALIBRATION,
          [("MatMulNBitsQuantizer's default", by_nbits(False, 16))])]


def is_asked(variable, name):
    """Whether the environment leaves it out."""
    return name in os.environ.get(variable, name).replace(",", " ").split()


def table(kiln, models, scratch):
    """The rows of every model and type."""
    print("| model | type | by | signal to noise |\n| --- | --- | --- | --- |")
    for name, path in models.items():
        feeds = [feed_of(name, seed) for seed in range(CALIBRATION)]
        held_out = [[feed_of(name, 1000 * (1 + which) + seed)
                     for seed in range(int(os.environ.get("PRECISION_INPUTS", "32")))]
                    for which in range(int(os.environ.get("PRECISION_SETS", "4")))]
        for count in (FEW, CALIBRATION):
            os.makedirs(os.path.join(scratch, f"{name}{count}"))
            for index, feed in enumerate(feeds[:count]):
                numpy.savez(os.path.join(scratch, f"{name}{count}", f"{index}.npz"), **feed)
        before = session(path)
        for kind, words, count, peers in KINDS:
            if not is_asked("PRECISION_KINDS", kind.split(",")[0]):
                continue
            target = os.path.join(scratch, f"{name}.onnx")
            words = [*words, *(["-c", os.path.join(scratch, f"{name}{count}")] if count else [])]
            makers = [("Kiln", lambda: by_kiln(kiln, path, target, *words))]
            makers += [(peer, lambda convert=convert: convert(path, target, feeds))
                       for peer, convert in peers]
            for maker, make in makers:
                try:
                    make()
                    found = snr(before, rounding(target), held_out)
                    if name in LOGITS and kind.startswith("int4"):
                        every = [feed for feeds_of in held_out for feed in feeds_of]
                        a, b = (logits(name, of, every) for of in (path, target))
                        noise = decibels([(numpy.sum(a ** 2), numpy.sum((a - b) ** 2))])
                        found += f"; before the softmax {noise:.1f}"
                except Exception as failure:  # whatever a peer fails with is its own
                    line = (str(failure).splitlines() or [""])[0]
                    found = f"{type(failure).__name__}: {line[:60]}"
                print(f"| {name} | {kind} | {maker} | {found} |", flush=True)


def characters(logits):
    """What greedy CTC decoding reads: indices without repetitions and blanks."""
    best = logits[0].argmax(-1)
    return [int(c) for index, c in enumerate(best)
            if c != 0 and (index == 0 or c != best[index - 1])]


def distance(a, b):
    """Levenshtein's."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        last, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            last, row[j + 1] = row[j + 1], min(last + (x != y), row[j] + 1, row[j + 1] + 1)
    return row[-1]


def recognise(kiln, path, scratch):
    """How many characters stay: as it comes, and with nodes that stay for so many decibels, chosen
    on other pictures."""
    before = session(path)
    name = before.get_inputs()[0].name
    few, many = (os.path.join(scratch, f"rec{count}") for count in (FEW, CALIBRATION))
    for label, words in (
            ("fp16", ["-p", "fp16"]), ("bf16", ["-p", "bf16"]),
            ("fp16, calibrated", ["-p", "fp16", "-c", few]),
            ("fp16, to 60 dB", ["-p", "fp16", "-c", few, "--target", "60"]),
            ("bf16, calibrated", ["-p", "bf16", "-c", few]),
            ("bf16, to 53 dB", ["-p", "bf16", "-c", few, "--target", "53"]),
            ("int8", ["-p", "int8", "-c", many]),
            ("int8, seven bits", ["-p", "int8", "-c", many, "--reduce-range"])):
        if not is_asked("PRECISION_KINDS", label[:4]):
            continue
        target = os.path.join(scratch, "read.onnx")
        by_kiln(kiln, path, target, *words)
        after = rounding(target)
        for seed in os.environ.get("PRECISION_SEEDS", "5000").split():
            wrong = total = 0
            for index in range(PICTURES):
                feed = {name: picture(int(seed) + index, 48, 320, 1)}
                expected = characters(before.run(None, feed)[0])
                found = characters(after.run(None, feed)[0].astype(numpy.float32))
                wrong += distance(expected, found)
                total += len(expected)
            print(f"{label}: {total - wrong} of {total} characters on {PICTURES} pictures from "
                  f"{seed} on are read as in float32, {100 * (total - wrong) / total:.2f} %",
                  flush=True)


def main():
    kiln = os.path.join(sys.argv[1], "bin", "kiln")
    rapidocr = os.path.join(sys.argv[2], "rapidocr")
    models = {"magika": os.path.join(sys.argv[2], "magika", "model.onnx"),
              "det": os.path.join(rapidocr, "det.onnx"), "rec": os.path.join(rapidocr, "rec.onnx")}
    if len(sys.argv) > 3:
        models["light_resnet50"] = sys.argv[3]
    models = {name: path for name, path in models.items() if is_asked("PRECISION_MODELS", name)}
    with tempfile.TemporaryDirectory() as scratch:
        table(kiln, models, scratch)
        if "rec" in models:
            recognise(kiln, models["rec"], scratch)


main()
