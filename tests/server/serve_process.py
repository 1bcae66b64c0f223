"""A `kiln serve` of a test: started on a free port of the loopback, stopped with SIGTERM.

SPDX-License-Identifier: Apache-2.0
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import ml_dtypes
import numpy
from onnx import parser, save

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


def save_model(path, text, opset=19):
    """A model of ONNX's text form."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save(parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> {text}'), path)


def identities(path, shape, types=TYPES):
    """A model that hands out what it is given, in each type."""
    dims = ",".join(map(str, shape))
    inputs, outputs = (", ".join(f"{onnx.lower()}[{dims}] {way}_{name}" for name, onnx, _ in types)
                       for way in ("in", "out"))
    save_model(path, f"identities ({inputs}) => ({outputs}) {{" + " ".join(
        f"out_{name} = Identity (in_{name})" for name, _, _ in types) + "}")


def linear(path, factor, width=4, axis="batch"):
    """y = x * factor, rows apart."""
    save_model(path, f"""linear (float[{axis},{width}] x) => (float[{axis},{width}] y)
        <float factor = {{{factor}}}> {{ y = Mul (x, factor) }}""")


def slow(path, rounds, width=400):
    """Takes its time: rounds products of matrices."""
    products = "".join(f"t{i + 1} = MatMul (t{i}, w) " for i in range(rounds))
    save_model(path, f"""slow (float[1] x) => (float[1] y) <int64[2] size = {{{width}, {width}}}> {{
        w = ConstantOfShape <value = float[1] {{{1 / width}}}> (size)
        one = ReduceSum <keepdims = 0> (x)
        t0 = Mul (w, one) {products}
        sum = ReduceSum <keepdims = 0> (t{rounds})
        y = Add (x, sum) }}""")


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
    nothing = """zero = Constant <value_float = 0.0> ()
        zeros = Mul (tokens, zero)"""
    if rounds:
        nothing = f"""size = Constant <value_ints = [{width}, {width}]> ()
            w = ConstantOfShape <value = float[1] {{{1 / width}}}> (size)
            one = ReduceSum <keepdims = 0> (factors)
            t0 = Mul (w, one) """ + "".join(
                f"t{i + 1} = MatMul (t{i}, w) " for i in range(rounds)) + f"""
            effort = ReduceSum <keepdims = 0> (t{rounds})
            zero = Constant <value_float = 0.0> ()
            counted = Add (tokens, effort)
            zeros = Mul (counted, zero)"""
    elif positions:
        nothing = f"""room = Constant <value_ints = [{positions}]> ()
            embedding = ConstantOfShape <value = float[1] {{0}}> (room)
            zeros = Gather (embedding, position_ids)"""
    save_model(path, f"""language (
            int64[batch,length] input_ids, int64[batch,total] attention_mask,
            int64[batch,length] position_ids, float[batch,1,past,1] "past_key_values.0.key")
        => (float[batch,length,{VOCABULARY}] logits, float[batch,1,total,1] "present.0.key")
        <float seven = {{7}}, float three = {{3}}, int64[2] heads = {{1, 3}}, int64[1] last = {{1}},
         int64 five = {{5}}, int64 size_of = {{{VOCABULARY}}}, int64[1] end = {{2}},
         float[{VOCABULARY}] words = {{{", ".join(map(str, range(VOCABULARY)))}}}> {{
        tokens = Cast <to = 1> (input_ids)
        places = Cast <to = 1> (position_ids)
        places7 = Mul (places, seven)
        factors = Add (places7, three)
        values = Mul (tokens, factors)
        new = Unsqueeze (values, heads)
        "present.0.key" = Concat <axis = 2> ("past_key_values.0.key", new)
        all = Squeeze ("present.0.key", heads)
        used = Cast <to = 1> (attention_mask)
        summands = Mul (all, used)
        sum = ReduceSum <keepdims = 1> (summands, last)
        whole = Cast <to = 7> (sum)
        whole5 = Add (whole, five)
        next = Mod (whole5, size_of)
        right = Cast <to = 1> (next)
        right3 = Unsqueeze (right, last)
        off = Sub (words, right3)
        far = Abs (off)
        scores = Neg (far)
        {nothing}
        zeros3 = Unsqueeze (zeros, end)
        logits = Add (scores, zeros3) }}""")


def write(path, text):
    """A file of this text or these bytes, and its folder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def in_threads(count, body):
    """What body(0) to body(count - 1) return, each in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(body, range(count)))


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.01)


def run_tests(tests, *arguments):
    for test in tests:
        begin = time.monotonic()
        test(*arguments)
        print(f"ok {test.__name__} {time.monotonic() - begin:.1f} s", flush=True)


@contextlib.contextmanager
def scratch_for(kiln):
    """A folder, where this kiln has a server in it; otherwise the test ends as skipped."""
    skip_unless_built(kiln)
    with tempfile.TemporaryDirectory() as folder:
        yield folder


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


def fails(kiln, arguments, words, codes=(1,)):
    """A server that ends at once, and says why."""
    server = Server(kiln, arguments)
    assert server.process.returncode in codes and words in "".join(server.said), server.said


class Server:
    """`with Server(kiln, arguments) as server`; `server.said` has what it wrote."""

    def __init__(self, kiln, arguments, ready=True, environment=None):
        self.process = subprocess.Popen(
            [kiln, "serve", *([] if "--port" in arguments else ["--port", "0"]), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **(environment or {})})
        self.said = []
        self.port = self.grpc_port = None
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

    def lines(self, words):
        """How many of what it wrote have these words, once there is one: its answers may be here
        before its lines are read."""
        until(lambda: any(words in line for line in self.said), lambda: (words, self.said))
        return sum(words in line for line in self.said)

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

    def infer(self, model, data, shape=None, name="x", datatype="FP32", version=None, **more):
        """(status, answer) of a request of one input, as JSON; `more` of its members."""
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        given = {"name": name, "shape": list(shape or numpy.shape(data)), "datatype": datatype,
                 "data": numpy.ravel(data).tolist()}
        return self.json("POST", f"{path}/infer", {"inputs": [given], **more})

    def metrics(self, *names, model=None):
        """As they stand at one time."""
        labels = rf'\{{model="{model}",version="\d+"\}}' if model else ""
        text = self.request("GET", "/metrics")[2].decode()
        return [int(re.search(rf"^{name}{labels} (\d+)$", text, re.M).group(1)) for name in names]

    def metric(self, name, model=None):
        return self.metrics(name, model=model)[0]

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


def refused(failure, words, call):
    """The call fails in this way, of which the sentence has these words."""
    try:
        call()
    except failure as problem:
        assert words in str(problem), (words, problem)
    else:
        raise AssertionError(f"{words}: it was not refused")


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
