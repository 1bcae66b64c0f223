"""A `kiln serve` of a test: started on a free port of the loopback, stopped with SIGTERM.

SPDX-License-Identifier: Apache-2.0
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import ml_dtypes
import numpy
from onnx import TensorProto, helper, save

# The protocol's name of each type, ONNX's, NumPy's (uint16 stands for bfloat16).
TYPES = [("FP32", "FLOAT", "<f4"), ("FP64", "DOUBLE", "<f8"), ("FP16", "FLOAT16", "<f2"),
         ("BF16", "BFLOAT16", "<u2"), ("BOOL", "BOOL", "?"), ("INT8", "INT8", "i1"),
         ("INT16", "INT16", "<i2"), ("INT32", "INT32", "<i4"), ("INT64", "INT64", "<i8"),
         ("UINT8", "UINT8", "u1"), ("UINT16", "UINT16", "<u2"), ("UINT32", "UINT32", "<u4"),
         ("UINT64", "UINT64", "<u8")]
TYPES_AND_TEXT = TYPES + [("BYTES", "STRING", "O")]


def sample(name, kind, rows=2):
    """What tritonclient takes for a type."""
    shape = (rows, 3)
    if name == "BYTES":
        return numpy.array([["a, b", "", "gr\u00fcn \U0001f600"], ["\"x\"\n", "\\", "n\0l"]] *
                           (rows // 2), object)
    if name in ("BF16", "FP16", "FP32", "FP64"):
        return (numpy.arange(rows * 3).reshape(shape) * 0.5 - 1).astype(
            ml_dtypes.bfloat16 if name == "BF16" else kind)
    if name == "BOOL":
        return numpy.arange(rows * 3).reshape(shape) % 2 == 0
    ends = numpy.iinfo(kind)
    return numpy.array([[ends.min, ends.max, 1], [0, 2, 3]] * (rows // 2), kind)


def identities(path, shape, types=TYPES):
    """A model that hands out what it is given, in each type."""
    def value(prefix, name, onnx):
        return helper.make_tensor_value_info(prefix + name, getattr(TensorProto, onnx), shape)

    graph = helper.make_graph(
        [helper.make_node("Identity", ["in_" + name], ["out_" + name]) for name, _, _ in types],
        "identities", [value("in_", name, onnx) for name, onnx, _ in types],
        [value("out_", name, onnx) for name, onnx, _ in types])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)


def linear(path, factor, width=4, axis="batch"):
    """y = x * factor, rows apart."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])], "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [axis, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [axis, width])],
        initializer=[helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)


def slow(path, rounds, width=400):
    """Takes its time: rounds products of matrices."""
    nodes = [helper.make_node("MatMul", ["w" if i == 0 else f"t{i - 1}", "w"], [f"t{i}"])
             for i in range(rounds)]
    weights = numpy.full((width, width), 1.0 / width, numpy.float32)
    nodes += [helper.make_node("ReduceSum", [f"t{rounds - 1}"], ["s"], keepdims=0),
              helper.make_node("Add", ["x", "s"], ["y"])]
    nodes[0].input[0] = "scaled"
    nodes.insert(0, helper.make_node("ReduceSum", ["x"], ["one"], keepdims=0))
    nodes.insert(1, helper.make_node("Mul", ["w", "one"], ["scaled"]))
    graph = helper.make_graph(
        nodes, "slow", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        initializer=[helper.make_tensor("w", TensorProto.FLOAT, [width, width],
                                        weights.tobytes(), raw=True)])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)


VOCABULARY = 61


def next_token(tokens):
    """What the model of `language` writes behind these."""
    return (5 + sum(token * (i * 7 + 3) for i, token in enumerate(tokens))) % VOCABULARY


def continued(prompt, count, stops=()):
    """So many tokens behind a prompt, or up to one that ends it."""
    tokens = list(prompt)
    while len(tokens) - len(prompt) < count and not (len(tokens) > len(prompt) and
                                                     tokens[-1] in stops):
        tokens.append(next_token(tokens))
    return tokens[len(prompt):]


def language(path, rounds=0, width=300, positions=0):
    """A language model with a past: each token follows from all before it, which it reads in its
    cache alone. `rounds` products of matrices make a step slow; past `positions` a run fails."""
    nodes = []

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(name, value, kind):
        weights.append(helper.make_tensor(
            name, kind, value.shape, value.tobytes(), raw=True))
        return name

    weights = []
    integer, real = TensorProto.INT64, TensorProto.FLOAT
    node("Cast", ["input_ids"], "tokens", to=real)
    node("Cast", ["position_ids"], "places", to=real)
    node("Mul", ["places", constant("seven", numpy.array(7, "<f4"), real)], "places7")
    node("Add", ["places7", constant("three", numpy.array(3, "<f4"), real)], "factors")
    node("Mul", ["tokens", "factors"], "values")
    node("Unsqueeze", ["values", constant("heads", numpy.array([1, 3], "<i8"), integer)], "new")
    node("Concat", ["past_key_values.0.key", "new"], "present.0.key", axis=2)
    node("Squeeze", ["present.0.key", "heads"], "all")
    node("Cast", ["attention_mask"], "used", to=real)
    node("Mul", ["all", "used"], "summands")
    node("ReduceSum", ["summands", constant("last", numpy.array([1], "<i8"), integer)], "sum",
         keepdims=1)
    node("Cast", ["sum"], "whole", to=integer)
    node("Add", ["whole", constant("five", numpy.array(5, "<i8"), integer)], "whole5")
    node("Mod", ["whole5", constant("size", numpy.array(VOCABULARY, "<i8"), integer)], "next")
    node("Cast", ["next"], "right", to=real)
    node("Unsqueeze", ["right", "last"], "right3")
    node("Sub", [constant("words", numpy.arange(VOCABULARY, dtype="<f4"), real), "right3"], "off")
    node("Abs", ["off"], "far")
    node("Neg", ["far"], "scores")
    node("Mul", ["tokens", constant("zero", numpy.array(0, "<f4"), real)], "zeros")
    if rounds:
        constant("w", numpy.full((width, width), 1.0 / width, "<f4"), real)
        node("ReduceSum", ["factors"], "one", keepdims=0)
        node("Mul", ["w", "one"], "t0")
        for i in range(rounds):
            node("MatMul", [f"t{i}", "w"], f"t{i + 1}")
        node("ReduceSum", [f"t{rounds}"], "effort", keepdims=0)
        node("Mul", ["effort", "zero"], "nothing")
        node("Add", ["zeros", "nothing"], "zeros2")
    if positions:
        constant("embedding", numpy.zeros(positions, "<f4"), real)
        node("Gather", ["embedding", "position_ids"], "embedded")
        node("Add", ["zeros", "embedded"], "zeros2")
    node("Unsqueeze", ["zeros2" if rounds or positions else "zeros",
                       constant("end", numpy.array([2], "<i8"), integer)], "zeros3")
    node("Add", ["scores", "zeros3"], "logits")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "language",
        [value("input_ids", integer, ["batch", "length"]),
         value("attention_mask", integer, ["batch", "total"]),
         value("position_ids", integer, ["batch", "length"]),
         value("past_key_values.0.key", real, ["batch", 1, "past", 1])],
        [value("logits", real, ["batch", "length", VOCABULARY]),
         value("present.0.key", real, ["batch", 1, "total", 1])], initializer=weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)


def make_certificate(folder, name="pair"):
    """(key, certificate): files in PEM form, of this machine's address; None without openssl."""
    if shutil.which("openssl") is None:
        return None
    key, certificate = (os.path.join(folder, f"{name}.{kind}") for kind in ("key", "pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "1", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return key, certificate


def skip_unless_built(kiln):
    """Ends with 77 where this kiln has no server in it, or libmicrohttpd is not here."""
    said = subprocess.run([kiln, "serve", "/nowhere", "--port", "0"], capture_output=True,
                          text=True, timeout=60, check=False).stderr
    if "libmicrohttpd" in said:
        print("skipped:", said.strip())
        sys.exit(77)


class Server:
    """`with Server(kiln, arguments) as server`; `server.said` has what it wrote."""

    def __init__(self, kiln, arguments, ready=True, environment=None):
        self.process = subprocess.Popen(
            [kiln, "serve", "--port", "0", *arguments], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env={**os.environ, **(environment or {})})
        self.said = []
        self.port = None
        while True:
            line = self.process.stdout.readline()
            self.said.append(line)
            if line.startswith("listening on "):
                self.port = int(line.rsplit(":", 1)[1])
                self.tls = line.split()[2].startswith("https")
                if "--grpc-port" in arguments:
                    self.said.append(self.process.stdout.readline())
                    self.grpc_port = int(self.said[-1].rsplit(":", 1)[1])
                if not ready:
                    break
            if not line or " ready\n" in line and line[0].isdigit():
                break
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if not line:
            self.process.wait(60)

    def _read(self):
        for line in self.process.stdout:
            self.said.append(line)

    def __enter__(self):
        assert self.port is not None, "".join(self.said)
        return self

    def __exit__(self, *_):
        code = self.stop()
        assert code == 0, f"kiln serve ended with {code}: {''.join(self.said)}"

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.reader.join(5)
        return code

    def processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def request(self, method, path, body=None, headers=None):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method, path, document=None):
        body = None if document is None else json.dumps(document)
        status, _, answer = self.request(method, path, body)
        return status, json.loads(answer) if answer else None

    def raw(self, data, timeout=20, half_close=False):
        """All that comes back for these bytes until the server closes or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as client:
            try:
                client.sendall(data)
                if half_close:
                    client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            found = b""
            try:
                while chunk := client.recv(65536):
                    found += chunk
            except OSError:
                pass
            return found


def same(name, found, expected):
    """Strings come as bytes or as text, as the client likes."""
    if name.endswith("BYTES"):
        found = numpy.array([one.decode() if isinstance(one, bytes) else one
                             for one in found.ravel()], object).reshape(found.shape)
    return found.shape == expected.shape and numpy.array_equal(found, expected)


def pack(strings):
    """Strings as the binary extension has them."""
    return b"".join(len(one).to_bytes(4, "little") + one for one in strings)


def binary_request(tensors, outputs=None, parameters=None):
    """(body, headers) of a request with the binary extension: tensors are (name, type, array)."""
    head = {"inputs": [{"name": name, "datatype": datatype, "shape": list(array.shape),
                        "parameters": {"binary_data_size": array.nbytes}}
                       for name, datatype, array in tensors]}
    if outputs is not None:
        head["outputs"] = outputs
    head["parameters"] = {"binary_data_output": True} if parameters is None else parameters
    text = json.dumps(head).encode()
    return (text + b"".join(array.tobytes() for _, _, array in tensors),
            {"Inference-Header-Content-Length": str(len(text)),
             "Content-Type": "application/octet-stream"})


def binary_answer(headers, body):
    """The outputs, by name: their descriptions and bytes."""
    length = int(headers["Inference-Header-Content-Length"])
    head = json.loads(body[:length])
    at = length
    found = {}
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = (output, body[at:at + size])
        at += size
    assert at == len(body)
    return head, found
