#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A text recogniser in eight bits still reads what it read.

    tests/precision/read_words.py KILN MODEL FOLDER

words.npz has 28 generated pictures (of bench/precision.py; their noise is added here). 24
calibrate, four are read, in float32 and in int8, by ONNX Runtime: characters, and the signal to
noise of the probabilities. No node is kept, so that the passes alone are held to it; channels that
are not evened out are to lose more. Weights of seven bits are held to it as ONNX Runtime computes
them on any processor, others without what cuts off sums of them (docs/onnxruntime.md).
"""
import json
import os
import subprocess
import sys

import numpy
import onnxruntime

from kiln_api import sums_are_cut_off

kiln, model, folder = sys.argv[1:]
onnxruntime.set_default_logger_severity(4)
os.makedirs(os.path.join(folder, "words"), exist_ok=True)


def session(path, may_cut=False):
    options = onnxruntime.SessionOptions()
    if sums_are_cut_off() and not may_cut:  # without what fuses products of 8 bits
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def characters(rows):
    """Greedy CTC decoding: indices without repetitions and blanks."""
    best = rows[0].argmax(-1)
    return [int(c) for i, c in enumerate(best) if c and (i == 0 or c != best[i - 1])]


def run(*words):
    subprocess.run([kiln, *words], check=True, stdout=subprocess.DEVNULL)


with numpy.load(os.path.join(os.path.dirname(os.path.abspath(__file__)), "words.npz")) as file:
    gray = file["words"]
random = numpy.random.default_rng(1)
noise = random.normal(0, 4, (len(gray), 1, 3, *gray.shape[1:]))
pictures = [((g[None, None] + n) / 127.5 - 1).astype(numpy.float32) for g, n in zip(gray, noise)]
for index, picture in enumerate(pictures[:24]):
    numpy.save(os.path.join(folder, "words", f"{index}.npy"), picture)
ranges = os.path.join(folder, "words.json")
run("calibrate", model, "-d", os.path.join(folder, "words"), "-o", ranges, "-m", "mse")
with open(ranges, encoding="utf-8") as file:
    table = json.load(file)
for each in table["ranges"].values():
    each.pop("channels", None)
plain = os.path.join(folder, "plain.json")
with open(plain, "w", encoding="utf-8") as file:
    json.dump(table, file)
before = session(model)
name = before.get_inputs()[0].name
expected = [before.run(None, {name: picture})[0] for picture in pictures[24:]]
reached = {}
for kind, table, words in (("evened", ranges, []), ("plain", plain, []),
                           ("seven bits", ranges, ["--reduce-range"])):
    small = os.path.join(folder, f"words.{kind}.onnx")
    run("quantize", model, "-o", small, "-p", "int8", "-r", table, *words)
    after = session(small, may_cut=bool(words))
    found = [after.run(None, {name: picture})[0] for picture in pictures[24:]]
    noise = sum(numpy.sum((a.astype(float) - b) ** 2) for a, b in zip(expected, found))
    signal = sum(numpy.sum(a.astype(float) ** 2) for a in expected)
    alike = sum(sum(x == y for x, y in zip(characters(a), characters(b)))
                for a, b in zip(expected, found))
    total = sum(max(len(characters(a)), len(characters(b))) for a, b in zip(expected, found))
    reached[kind] = 10 * numpy.log10(signal / noise)
    print(f"{kind}: {alike} of {total} characters, {reached[kind]:.1f} dB")
    least = {"evened": 15, "seven bits": 13, "plain": 0}[kind]
    if alike < (0.95 * total if least else 0) or reached[kind] < least:
        sys.exit("int8 reads other characters than float32")
if reached["evened"] < reached["plain"] + 3:
    sys.exit("channels that are evened out lose no less")
