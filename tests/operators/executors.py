# SPDX-License-Identifier: Apache-2.0
"""The three that run a case: ONNX Runtime, onnx.reference, and Kiln in a process of its own."""
import copy
import re
import struct
import subprocess
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from generate import B16, F, FLOAT8, FLOATS, FOUR_BITS, HALF_TYPES, numpy_type, packed

onnxruntime.set_default_logger_severity(4)
warnings.filterwarnings("ignore")
np.seterr(all="ignore")
MOST_MEMORY = 3 << 30
ODD = FOUR_BITS | FLOAT8 | {B16}


class Refusal(Exception):
    """What an executor says instead of a result."""


def brief(error):
    return re.sub(r"/\S*/", "", " ".join(str(error).split()))[:300]


def run_onnxruntime(case):
    """Arrays in the order of the outputs; types that NumPy lacks go in raw and come out cast."""
    model = case.model()
    feeds = {}
    for name, array in case.inputs.items():
        dtype = case.types[name]
        if dtype in FOUR_BITS:
            raise Refusal("inputs of 4 bits cannot be fed from Python")
        if dtype in ODD:
            raw = np.asarray(array, order="C").view(
                np.uint16 if array.dtype.itemsize == 2 else np.uint8)
            feeds[name] = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, dtype)
        else:
            feeds[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))
    wanted = []
    for i, (name, dtype) in enumerate(case.outputs):
        if dtype in ODD:
            model.graph.node.append(helper.make_node("Cast", [name], [f"plain{i}"],
                                                     to=TensorProto.FLOAT))
            wanted.append(f"plain{i}")
        else:
            wanted.append(name)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                               providers=["CPUExecutionProvider"])
        values = session.run_with_ort_values(wanted, feeds)
        return [v.numpy() for v in values]
    except Exception as error:  # pylint: disable=broad-except
        raise Refusal(brief(error)) from error


def run_single(case):
    """ONNX Runtime on the same case in single precision, for types that it has no kernel for."""
    other = copy.deepcopy(case)
    if not {case.types[n] for n in case.types} & (FLOATS - {F}) or "to" in case.attributes:
        raise Refusal("there is nothing to widen")
    for values in (other.inputs, other.constants):
        for name, array in values.items():
            if other.types[name] in FLOATS:
                values[name] = array.astype(np.float32)
    other.types = {n: F if t in FLOATS else t for n, t in case.types.items()}
    other.outputs = [(n, F if t in FLOATS else t) for n, t in case.outputs]
    values = run_onnxruntime(other)
    return [v.astype(numpy_type(t)) if t in FLOATS else v
            for v, (_, t) in zip(values, case.outputs)]


def run_reference(case):
    try:
        session = ReferenceEvaluator(case.model())
        values = [np.asarray(v) for v in session.run(None, copy.deepcopy(case.inputs))]
        # NumPy widens on its way; what is declared counts.
        kinds = HALF_TYPES | {np.dtype(np.float32), np.dtype(np.float64)}
        return [v if (v.dtype.kind not in "fiu" and not (v.dtype in kinds and t in FLOATS))
                or t in ODD else v.astype(numpy_type(t))
                for v, (_, t) in zip(values, case.outputs)]
    except Exception as error:  # pylint: disable=broad-except
        raise Refusal(brief(repr(error))) from error


class Answer:
    """What Kiln says of a case."""

    def __init__(self):
        self.stage = 0
        self.sentence = ""
        self.errors = 0
        self.issue = ""
        self.inferred = []  # (type, dimensions or None)
        self.outputs = None


class Kiln:
    def __init__(self, program, backend="reference"):
        self.command = [program, backend]
        self.process = None

    def start(self):
        # What a mutant would have takes all that there is: it is told that there is no more.
        # AddressSanitizer's own map is larger.
        with open(self.command[0], "rb") as program:
            limit = "" if b"__asan_init" in program.read() else f"ulimit -v {MOST_MEMORY >> 10} && "
        limit += "exec \"$0\" \"$@\""
        self.process = subprocess.Popen(["/bin/sh", "-c", limit, *self.command],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def stop(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None

    def number(self):
        data = self.process.stdout.read(8)
        if len(data) < 8:
            self.process.wait()
            code = self.process.returncode
            self.process = None
            raise RuntimeError(f"operator_run ended with {code}")
        return struct.unpack("<q", data)[0]

    def text(self):
        return self.process.stdout.read(self.number()).decode(errors="replace")

    def ask(self, model, inputs):
        """`inputs`: (type, array) in the order of the model's."""
        if self.process is None:
            self.start()
        def pack(value):
            return struct.pack("<q", value)
        out = [pack(len(model)), model, pack(len(inputs))]
        for dtype, array in inputs:
            data = packed(array) if dtype in FOUR_BITS else np.asarray(array, order="C")
            data = data.tobytes()
            out += [pack(dtype), pack(array.ndim)] + [pack(d) for d in array.shape]
            out += [pack(len(data)), data]
        self.process.stdin.write(b"".join(out))
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        answer = Answer()
        answer.stage = self.number()
        answer.sentence = self.text()
        answer.errors = self.number()
        answer.issue = self.text()
        for _ in range(self.number()):
            dtype, rank = self.number(), self.number()
            answer.inferred.append((dtype,
                                    None if rank < 0 else [self.text() for _ in range(rank)]))
        if answer.stage == 0:
            answer.outputs = [self.array() for _ in range(self.number())]
        return answer

    def array(self):
        dtype, rank = self.number(), self.number()
        shape = [self.number() for _ in range(rank)]
        data = self.process.stdout.read(self.number())
        kind = numpy_type(dtype)
        if dtype in FOUR_BITS:
            raw = np.frombuffer(data, np.uint8)
            flat = np.stack([raw & 15, raw >> 4], axis=-1).ravel()[:int(np.prod(shape))]
            if dtype == TensorProto.INT4:
                flat = (flat.astype(np.int8) ^ 8) - 8
                return flat.astype(np.int8).reshape(shape)
            return (flat.view(kind) if dtype == TensorProto.FLOAT4E2M1 else flat).reshape(shape)
        return np.frombuffer(data, kind).reshape(shape)

    def run(self, case):
        return self.ask(case.model().SerializeToString(),
                        [(case.types[n], a) for n, a in case.inputs.items()])


# --- comparing ---

BOUNDS = {np.dtype(np.float32): (2e-4, 2e-5), np.dtype(np.float64): (1e-5, 1e-6),
          np.dtype(np.float16): (8e-3, 8e-3)}


class Difference:
    """Where two arrays of an output are not the same. `wrong`: a mask, or None where they are not
    even of one shape or type."""

    def __init__(self, name, ours, theirs, wrong=None, words=""):
        self.name, self.ours, self.theirs, self.wrong = name, ours, theirs, wrong
        self.words = words
        if wrong is not None:
            at = tuple(np.argwhere(wrong)[0].tolist())
            self.words = (f"{int(wrong.sum())} of {ours.size} elements, at {list(at)} {ours[at]}, "
                          f"not {theirs[at]}")

    def __str__(self):
        return f"{self.name}: {self.words}"


def difference(name, ours, theirs, dtype, bound=None):
    """A Difference, or None. `dtype`: the output's declared one."""
    if ours.shape != theirs.shape:
        words = f"shape {list(ours.shape)}, not {list(theirs.shape)}"
        return Difference(name, ours, theirs, words=words)
    if dtype not in ODD and ours.dtype != theirs.dtype:
        return Difference(name, ours, theirs, words=f"type {ours.dtype}, not {theirs.dtype}")
    if ours.size == 0:
        return None
    kind = numpy_type(dtype)
    real = kind.kind == "f" or kind in HALF_TYPES or dtype in ODD
    if not real:
        wrong = ours != theirs
    else:
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        relative, absolute = bound or BOUNDS.get(kind, (4e-2, 4e-2))
        with np.errstate(all="ignore"):
            close = np.abs(a - b) <= absolute + relative * np.abs(b)
        wrong = ~(close | (a == b) | (np.isnan(a) & np.isnan(b)))
    return Difference(name, ours, theirs, wrong) if wrong.any() else None


def bound_of(case, ours):
    """Sums that cancel leave an error of the size of their terms, not of what is left."""
    if case.bound is None and case.op.endswith("Normalization") and ours.dtype == np.float32:
        return 2e-3, 2e-3
    return case.bound


def differences(case, ours, theirs):
    """Of the outputs that `theirs` has."""
    found = []
    for (name, dtype), a, b in zip(case.outputs, ours, theirs):
        if b is not None:
            found.append(difference(name, a, np.asarray(b), dtype, bound_of(case, a)))
    return [one for one in found if one is not None]
