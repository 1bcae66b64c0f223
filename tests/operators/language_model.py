#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small Llama of random weights, with the operators that onnxruntime-genai exports: a prompt and
the token behind it come out of the reference backend as of ONNX Runtime, and what a token with a
past gives is what it gives in the prompt.

    language_model.py KILN FOLDER"""
import pathlib
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64, I32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
LAYERS, HEADS, KV_HEADS, SIZE, WORDS, INNER, BLOCK, LONGEST = 2, 4, 2, 16, 50, 96, 32, 32
WIDTH = HEADS * SIZE


class Llama:
    def __init__(self, packed):
        self.random = np.random.default_rng(5)
        self.packed = packed  # queries, keys and values are one product
        self.nodes, self.weights = [], []
        self.inputs = [helper.make_tensor_value_info(name, I64, ["batch", length]) for name, length
                       in (("input_ids", "tokens"), ("attention_mask", "total"))]
        self.outputs = [helper.make_tensor_value_info("logits", F, ["batch", "tokens", WORDS])]

    def weight(self, name, array):
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def norm(self, name):
        return self.weight(name, self.random.uniform(0.5, 1.5, WIDTH).astype(np.float32))

    def add(self, op, inputs, *outputs, own=False, **attributes):
        outputs = outputs or (f"v{len(self.nodes)}",)
        self.nodes.append(helper.make_node(op, inputs, outputs, **attributes,
                                           domain="com.microsoft" if own else ""))
        return outputs[0]

    def product(self, x, rows, columns, name, *outputs):
        """Weights of 4 bits in blocks."""
        blocks = -(-rows // BLOCK)
        packed = self.random.integers(0, 256, (columns, blocks, BLOCK // 2), dtype=np.uint8)
        scales = self.random.uniform(0.01, 0.03, columns * blocks).astype(np.float32)
        return self.add("MatMulNBits", [x, self.weight(name, packed),
                                        self.weight(name + ".scales", scales)], *outputs, own=True,
                        K=rows, N=columns, bits=4, block_size=BLOCK)

    def lengths(self):
        """As onnxruntime-genai finds them, from the mask."""
        total = self.add("ReduceSum", ["attention_mask", self.weight("axis", np.array([1]))])
        last = self.add("Sub", [total, self.weight("one", np.array([1]))])
        shape = self.add("Shape", ["attention_mask"])
        longest = self.add("Gather", [shape, self.weight("second", np.array(1))])
        return self.add("Cast", [last], to=I32), self.add("Cast", [longest], to=I32)

    def attention(self, x, layer, lengths, tables):
        of_kv = KV_HEADS * SIZE
        if self.packed:
            sides = [self.product(x, WIDTH, WIDTH + 2 * of_kv, f"{layer}.qkv"), "", ""]
        else:
            sides = [self.product(x, WIDTH, width, f"{layer}.{side}")
                     for side, width in (("q", WIDTH), ("k", of_kv), ("v", of_kv))]
        names = []
        for side in ("key", "value"):
            for values, kind, length in ((self.inputs, "past_key_values", "past"),
                                         (self.outputs, "present", "total")):
                names.append(f"{kind}.{layer}.{side}")
                values.append(helper.make_tensor_value_info(
                    names[-1], F, ["batch", KV_HEADS, length, SIZE]))
        y = self.add("GroupQueryAttention", [*sides, names[0], names[2], *lengths, *tables],
                     f"attention.{layer}", names[1], names[3], own=True, num_heads=HEADS,
                     kv_num_heads=KV_HEADS, do_rotary=1, local_window_size=5 if layer else -1)
        return self.product(y, WIDTH, WIDTH, f"{layer}.o")

    def mlp(self, x, layer):
        gate, up = (self.product(x, WIDTH, INNER, f"{layer}.{name}") for name in ("gate", "up"))
        gate = self.add("Mul", [gate, self.add("Sigmoid", [gate])])
        return self.product(self.add("Mul", [gate, up]), INNER, WIDTH, f"{layer}.down")

    def skip(self, x, more, name):
        return self.add("SkipSimplifiedLayerNormalization", [x, more, self.norm(name)], name + ".y",
                        "", "", name + ".sum", own=True, epsilon=1e-5), name + ".sum"

    def model(self):
        angles = np.outer(np.arange(LONGEST), 1e4 ** (-np.arange(SIZE // 2) / (SIZE // 2)))
        tables = [self.weight("cosines", np.cos(angles).astype(np.float32)),
                  self.weight("sines", np.sin(angles).astype(np.float32))]
        words = self.random.normal(0, 1, (WORDS, WIDTH)).astype(np.float32)
        rest = self.add("Gather", [self.weight("words", words), "input_ids"])
        x = self.add("SimplifiedLayerNormalization", [rest, self.norm("first")], axis=-1,
                     epsilon=1e-5, stash_type=1)
        lengths = self.lengths()
        for layer in range(LAYERS):
            x, rest = self.skip(rest, self.attention(x, layer, lengths, tables), f"{layer}.middle")
            x, rest = self.skip(rest, self.mlp(x, layer), f"{layer}.last")
        self.product(x, WIDTH, WORDS, "head", "logits")
        graph = helper.make_graph(self.nodes, "llama", self.inputs, self.outputs, self.weights)
        return helper.make_model(graph, ir_version=10, opset_imports=[
            helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])


class Runner:
    def __init__(self, kiln, folder, model):
        self.kiln, self.folder, self.path = kiln, folder, folder / "llama.onnx"
        onnx.save(model, self.path)

    def ask(self, feeds, label):
        """The outputs of the reference backend, which are ONNX Runtime's."""
        given = []
        for name, array in feeds.items():
            np.save(self.folder / f"{name}.npy", array)
            given += ["-i", f"{name}={self.folder / name}.npy"]
        results = self.folder / label
        for command in (["compare", self.path, "-b", "reference,onnxruntime", "--atol", "1e-4",
                         "--rtol", "1e-4", *given],
                        ["run", self.path, "-b", "reference", "-o", results, *given]):
            done = subprocess.run([self.kiln, *command], capture_output=True, text=True,
                                  check=False)
            if done.returncode:
                raise SystemExit(f"{label}: kiln {command[0]} ended with {done.returncode}:\n"
                                 f"{done.stdout}{done.stderr}")
        return {path.stem: np.load(path) for path in results.glob("*.npy")}


def feeds_of(tokens, past, before):
    mask = np.ones((1, before + tokens.shape[1]), np.int64)
    feeds = {"input_ids": tokens, "attention_mask": mask}
    empty = np.zeros((1, KV_HEADS, 0, SIZE), np.float32)
    for layer in range(LAYERS):
        for side in ("key", "value"):
            feeds[f"past_key_values.{layer}.{side}"] = past.get(f"present.{layer}.{side}", empty)
    return feeds


def check(runner, tokens):
    prompt = runner.ask(feeds_of(tokens[:, :-1], {}, 0), "prompt")
    token = runner.ask(feeds_of(tokens[:, -1:], prompt, tokens.shape[1] - 1), "token")
    part = runner.ask(feeds_of(tokens[:, :3], {}, 0), "part")
    more = runner.ask(feeds_of(tokens[:, 3:], part, 3), "rest")
    whole = runner.ask(feeds_of(tokens, {}, 0), "whole")
    for name in whole:
        length = token[name].shape[1] if name == "logits" else whole[name].shape[2]
        rest = slice(-more[name].shape[1], None)
        for found, rows in ((token, slice(-length, None)), (more, rest)):
            wanted = whole[name][:, rows] if name == "logits" else whole[name]
            np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-4, err_msg=name)


def main():
    folder = pathlib.Path(sys.argv[2])
    tokens = np.random.default_rng(1).integers(0, WORDS, (1, 9))
    for packed in (False, True):
        (folder / str(packed)).mkdir(parents=True, exist_ok=True)
        check(Runner(sys.argv[1], folder / str(packed), Llama(packed).model()), tokens)
    return 0


if __name__ == "__main__":
    sys.exit(main())
