#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What smaller types cost, on the CPU: Kiln's passes against the Python tools for the same, on the
same batches and held-out inputs.

    bench/precision.py BUILD MODELS [LIGHT_RESNET50]

BUILD has bin/kiln; MODELS is build/deps/models. Prints a table: for each model and type the signal
to noise of the worst output by Kiln and by the peer, in decibels, and then how many characters the
text recogniser reads as it does in float32, on 200 generated pictures. Peers are
onnxconverter-common (fp16), onnxruntime.quantization's quantize_static (int8, per channel, with
symmetric activations as TensorRT wants them, and with its default) and MatMulNBitsQuantizer (int4,
blocks of 32); what one of them fails with stands in its place. Needs Pillow, which draws the
pictures.
"""
import os
import random
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

onnxruntime.set_default_logger_severity(4)
PICTURES = 200
CALIBRATION = 32
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def session(path):
    """ONNX Runtime's on the CPU."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


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


def snr(before, after, feeds):
    """Signal to noise of the worst output, in decibels."""
    names = [value.name for value in before.get_inputs()]
    sums = None
    for feed in feeds:
        feed = dict(zip(names, feed.values()))
        rows = [(numpy.sum(a.astype(float) ** 2), numpy.sum((a.astype(float) - b) ** 2))
                for a, b in zip(before.run(None, feed), after.run(None, feed))]
        sums = rows if sums is None else [(a + c, b + d) for (a, b), (c, d) in zip(sums, rows)]
    return min(10 * numpy.log10(a / b) if b > 0 else numpy.inf for a, b in sums)


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


def by_nbits(source, target, _feeds):
    """int4 by onnxruntime.quantization."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=True)
    quantizer.process()
    onnx.save(quantizer.model.model if hasattr(quantizer.model, "model") else quantizer.model,
              target)


KINDS = [("fp16", ["-p", "fp16"], [("onnxconverter-common", by_converter)]),
         ("int8", ["-p", "int8"],
          [("quantize_static, symmetric", by_static(True)), ("its default", by_static(False))]),
         ("int4", ["-p", "int4", "--block", "32"], [("MatMulNBitsQuantizer", by_nbits)])]


def table(kiln, models, scratch):
    """The rows of every model and type."""
    print("| model | type | Kiln | peer | |\n| --- | --- | --- | --- | --- |")
    for name, path in models.items():
        feeds = [feed_of(name, seed) for seed in range(CALIBRATION)]
        held_out = [feed_of(name, 1000 + seed) for seed in range(CALIBRATION)]
        batches = os.path.join(scratch, name)
        os.makedirs(batches, exist_ok=True)
        for index, feed in enumerate(feeds):
            numpy.savez(os.path.join(batches, f"{index}.npz"), **feed)
        before = session(path)
        for kind, words, peers in KINDS:
            target = os.path.join(scratch, f"{name}.{kind}.onnx")
            try:
                by_kiln(kiln, path, target, *words,
                        *(["-c", batches] if kind == "int8" else []))
                ours = f"{snr(before, session(target), held_out):.1f} dB"
            except RuntimeError as refusal:
                ours = str(refusal).splitlines()[0][:60]
            for peer, convert in peers:
                try:
                    convert(path, target + ".peer.onnx", feeds)
                    theirs = f"{snr(before, session(target + '.peer.onnx'), held_out):.1f} dB"
                except Exception as failure:  # whatever a peer fails with is its own
                    theirs = f"{type(failure).__name__}: {str(failure).splitlines()[0][:60]}"
                print(f"| {name} | {kind} | {ours} | {theirs} | {peer} |", flush=True)


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
    """How many characters stay, in fp16, bf16 (on the reference executor) and int8 as it comes:
    calibrated, and nodes chosen that stay, on other pictures."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tests",
                                    "precision"))
    from kiln_api import Kiln

    library = Kiln(os.path.join(os.path.dirname(kiln), os.pardir, "src", "libkiln.so"))
    before = session(path)
    name = before.get_inputs()[0].name
    outputs = [value.name for value in before.get_outputs()]
    pictures = [picture(5000 + seed, 48, 320, 1) for seed in range(PICTURES)]
    expected = [characters(before.run(None, {name: x})[0]) for x in pictures]
    total = sum(map(len, expected))
    for kind, words in (("fp16", ["-p", "fp16"]), ("bf16", ["-p", "bf16"]),
                        ("int8", ["-p", "int8", "-c", os.path.join(scratch, "rec")])):
        target = os.path.join(scratch, f"read.{kind}.onnx")
        by_kiln(kiln, path, target, *words)
        count = PICTURES if kind != "bf16" else int(os.environ.get("PRECISION_BF16", "20"))
        after = session(target) if kind != "bf16" else None
        wrong = 0
        for index in range(count):
            found = (after.run(None, {name: pictures[index]}) if after else
                     library.run(target, {name: pictures[index]}, outputs, backend="reference"))
            wrong += distance(expected[index], characters(found[0].astype(numpy.float32)))
        seen = total if count == PICTURES else sum(map(len, expected[:count]))
        print(f"{kind}: {seen - wrong} of {seen} characters on {count} pictures are read as in "
              f"float32, {100 * (seen - wrong) / seen:.2f} %", flush=True)


def main():
    kiln = os.path.join(sys.argv[1], "bin", "kiln")
    rapidocr = os.path.join(sys.argv[2], "rapidocr")
    models = {"magika": os.path.join(sys.argv[2], "magika", "model.onnx"),
              "det": os.path.join(rapidocr, "det.onnx"), "rec": os.path.join(rapidocr, "rec.onnx")}
    if len(sys.argv) > 3:
        models["light_resnet50"] = sys.argv[3]
    with tempfile.TemporaryDirectory() as scratch:
        table(kiln, models, scratch)
        recognise(kiln, models["rec"], scratch)


main()
