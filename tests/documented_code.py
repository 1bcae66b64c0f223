#!/usr/bin/env python3
"""Compiles every block of C in the documents and in headers' comments, and runs the README's on a
small model, so that none can rot. Blocks of anything else are named here with the reason.

    tests/documented_code.py ROOT COMPILER FLAG...

SPDX-License-Identifier: Apache-2.0
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper

WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
# In a header's comment: lines that stand further in.
INDENTED = re.compile(r"(?:^ \*     .*\n(?:^ \*\n(?= \*     ))?)+", re.M)

ENGINE = "kiln_engine *engine = NULL; "
OPTIONS = "kiln_build_options options = KILN_BUILD_OPTIONS_INIT; "
NETWORK = "kiln_network *network = NULL; "
PROMPT = "const int64_t prompt[] = {1}; const size_t prompt_length = 1; "
# What a block takes for granted, by its page or header: a reader knows it from what stands around.
BEFORE = {
    "build.h": OPTIONS,
    "cache.h": ENGINE,
    "context.h": ENGINE + "kiln_tensor image = {0};",
    "cuda.md": "kiln_buffer *buffer = NULL; const void *input = NULL; size_t bytes = 0;",
    "errors.md": "kiln_context *context = NULL; kiln_tensor image = {0};",
    "gpu.md": ENGINE + "kiln_context *context = NULL;",
    "inspect.h": "kiln_status status = KILN_OK;",
    "memory.md": ENGINE + "kiln_context *context = NULL; kiln_profile profile = {0};",
    "network.h": "kiln_status status = KILN_OK; static float data[16 * 3 * 3 * 3];",
    "network.md": ENGINE + NETWORK + "kiln_tensor_id x = {0}, y = {0};",
    "pipeline.h": """kiln_engine *engine = NULL; kiln_named_tensor batch[2] = {0}, scores = {0};
                     size_t n = 0, count = 2;""",
    "precision.h": "kiln_status status = KILN_OK;",
    "precision.md": ENGINE + NETWORK + """kiln_batch_folder *folder = NULL;
                    kiln_range_table *ranges = NULL;""",
    "refit.h": ENGINE + "kiln_named_tensor inputs[1] = {0}, answers[1] = {0};",
    "scheduler.h": ENGINE + """kiln_named_tensor image = {0}, scores = {0};
                   kiln_tensor tensor = {0};""",
    "scheduler.md": ENGINE + """kiln_build *build = NULL; kiln_replaced_function replaced = NULL;
                    kiln_scheduler *scheduler = NULL; kiln_scheduler_options options = {0};
                    kiln_build_options tensorrt = KILN_BUILD_OPTIONS_INIT;""",
    "stream.h": ENGINE + PROMPT,
    "stream.md": ENGINE + NETWORK + OPTIONS + PROMPT + """kiln_generator *generator = NULL;
                 kiln_sequence_options how = KILN_SEQUENCE_OPTIONS_INIT;
                 kiln_sequence *sequence = NULL; kiln_token token = {0};""",
    "tensorrt.md": ENGINE,
    "validation.md": ENGINE + OPTIONS,
}
# How a block begins that is neither C nor a command of `kiln` (tests/cli documented_runs).
OTHERS = {
    "make ": "goals of the Makefile",
    "pip install ": "a package and goals of the Makefile",
    "docker build ": "commands of a cluster",
    "curl -N ": "a client of a server; tests/server",
    "cmake --preset ": "presets and a corpus",
    "bench/simulate.py ": "a script and a program",
    "include/kiln/ ": "folders; scripts/check_includes.py",
    "waiting for a stream ": "a sentence of a GPU's",
    "inputs gathered": "a report of a GPU's",
    "/usr/local/lib/": "lines of a search",
    "model.onnx -->": "a drawing",
    "kiln_engine_build_file ": "a table of names; scripts/check_docs.py",
    "TRT-100600": "a file of TensorRT's",
    "NAME.onnx ": "a table of paths",
    "distributive_independence: ": "sentences; tests/unit",
}


def blocks(root):
    """(page, kind, text) of each block of a document and each example of a header."""
    pages = [os.path.join(root, name) for name in ("README.md", "TESTING.md", "CONTRIBUTING.md")]
    pages += sorted(glob.glob(os.path.join(root, "docs", "**", "*.md"), recursive=True))
    for path in pages + sorted(glob.glob(os.path.join(root, "include", "kiln", "*.h"))):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        name = os.path.relpath(path, root)
        if path.endswith(".md"):
            yield from ((name, *found) for found in BLOCK.findall(text))
            continue
        for found in INDENTED.findall(text):
            if re.search(r"\bkiln_.*[;{]$|KILN_", found, re.M):
                yield name, "c", re.sub(r"^ \* {0,5}", "", found, flags=re.M)


def program(page, text):
    """A file to compile: each paragraph in a scope of its own within that of the last."""
    if "int main(" in text:
        return text
    text = re.sub(r"my_kernel<<<.*;", "", text)
    text = re.sub(r"&& \.\.\.$", "&& true) {}", text, flags=re.M)
    text = re.sub(r"(?<![\w.])\.\.\.(?!\w)", "", text)
    headers = ["<stdio.h>", "<kiln/kiln.h>"]
    if "kln_" in text:
        headers += ['"onnx/kln_onnx.h"', '"ops/kln_ops.h"']
    paragraphs = [BEFORE.get(os.path.basename(page), "")] + text.split("\n\n")
    return "".join(f"#include {name}\n" for name in headers) + (
        "void block(void);\nvoid block(void)\n{\n" + "\n{\n".join(paragraphs) +
        "\n}" * len(paragraphs) + "\n")


def write_model(path, weights):
    """scores = softmax(mean of each channel of image times weights)."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes, "readme",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])],
        [onnx.numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def compile_all(root, command):
    """The README's program; the others are only compiled."""
    ours, unused, problems = None, set(OTHERS), []
    for page, kind, text in blocks(root):
        if kind != "c":
            begin = next((begin for begin in OTHERS if text.startswith(begin)), None)
            unused.discard(begin)
            if begin is None and not re.match(r"(\$ )?kiln ", text):
                problems.append(f"{page}: nothing is known of the block \"{text[:60]}\"")
            continue
        done = subprocess.run(
            command[:1] + WARNINGS + ["-Wno-unused", "-Wno-unused-result", "-D_GNU_SOURCE"] +
            [f"-I{root}/include", f"-I{root}/src", "-fsyntax-only", "-x", "c", "-"],
            input=program(page, text), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            problems.append(f"{page}: {text[:60]}\n{done.stderr}")
        ours = text if page == "README.md" else ours
    problems += [f"no block begins with \"{begin}\"" for begin in sorted(unused)]
    if problems:
        sys.exit("\n".join(problems))
    return ours


def run_example(code, command):
    """The README's program on a model and an image, and without them."""
    with tempfile.TemporaryDirectory() as folder:
        source, executable = os.path.join(folder, "readme.c"), os.path.join(folder, "readme")
        with open(source, "w", encoding="utf-8") as file:
            file.write(code)
        subprocess.run(command[:1] + WARNINGS + [source, "-o", executable] + command[1:],
                       check=True)
        rng = np.random.default_rng(7)
        weights = rng.standard_normal((3, 5)).astype(np.float32)
        image = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
        write_model(os.path.join(folder, "model.onnx"), weights)
        np.save(os.path.join(folder, "image.npy"), image)
        done = subprocess.run([executable], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"the example failed: {done.stderr}")
        logits = image.mean(axis=(2, 3)) @ weights
        scores = np.exp(logits) / np.exp(logits).sum()
        found = float(done.stdout.split()[-1])
        if abs(found - scores[0, 0]) > 1e-4:
            sys.exit(f"expected {scores[0, 0]}, found {done.stdout}")
        os.remove(os.path.join(folder, "model.onnx"))
        done = subprocess.run([executable], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 1 or "model.onnx" not in done.stderr:
            sys.exit(f"without a model: status {done.returncode}, {done.stderr}")
        print(f"first score {found}, as expected")


def main():
    root, command = sys.argv[1], sys.argv[2:]
    run_example(compile_all(root, command), command)


main()
