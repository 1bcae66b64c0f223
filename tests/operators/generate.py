# SPDX-License-Identifier: Apache-2.0
"""Random models of one operator each: what they are made of.

A generator is a function of a Draw that makes a Case; `generator("Add", "Sub")` registers it for
those operators. The same seed and number give the same case."""
import functools

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

GENERATORS = {}
OPSETS = list(range(7, 29))
F, D, H, B16 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16
FLOATS = {F, D, H, B16}
I64, I32, BOOL = TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
# Types that a tensor of Kiln's can have: all but strings and complex numbers.
NAMES = {"float": F, "double": D, "float16": H, "bfloat16": B16, "int8": TensorProto.INT8,
         "int16": TensorProto.INT16, "int32": I32, "int64": I64, "uint8": TensorProto.UINT8,
         "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64,
         "bool": BOOL, "int4": TensorProto.INT4, "uint4": TensorProto.UINT4,
         "float8e4m3fn": TensorProto.FLOAT8E4M3FN, "float8e5m2": TensorProto.FLOAT8E5M2,
         "float4e2m1": TensorProto.FLOAT4E2M1}
FOUR_BITS = {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}
FLOAT8 = {TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2}


# Operators of ONNX Runtime's own in ONNX's domain.
OWN = {"SimplifiedLayerNormalization"}


class Unfit(Exception):
    """The numbers drawn make no case; another number does."""


def numpy_type(dtype):
    return np.dtype(helper.tensor_dtype_to_np_dtype(dtype))


def generator(*names):
    def register(function):
        for name in names:
            GENERATORS[name] = function
        return function
    return register


class Case:
    """One model with values for its inputs."""

    def __init__(self, op, opset):
        self.op = op  # with its domain in front, where that is not ONNX's
        self.opset = opset
        self.nodes = []
        self.inputs = {}      # name: array
        self.types = {}       # name: TensorProto.DataType
        self.constants = {}   # name: array
        self.dims = {}        # name: declared dimensions, numbers and names
        self.outputs = []     # (name, dtype)
        self.attributes = {}
        self.bound = None     # (relative, absolute) of floats, where the usual ones are too tight
        self.expected = None  # the outputs, where a generator knows them and the others do not

    def model(self):
        infos = [helper.make_tensor_value_info(n, self.types[n], self.dims[n]) for n in self.inputs]
        outputs = [helper.make_tensor_value_info(n, t, None) for n, t in self.outputs]
        constants = [make_tensor(n, self.types[n], a) for n, a in self.constants.items()]
        graph = helper.make_graph(self.nodes, "random", infos, outputs, constants)
        return helper.make_model(graph, ir_version=min(13, 8 if self.opset < 19 else 10),
                                 opset_imports=[helper.make_opsetid("", self.opset)] +
                                 [helper.make_opsetid(d, 5 if d == "ai.onnx.ml" else 1)
                                  for d in {n.domain for n in self.nodes} if d])


def make_tensor(name, dtype, array):
    if dtype in FOUR_BITS:
        return helper.make_tensor(name, dtype, array.shape, packed(array).tobytes(), raw=True)
    return helper.make_tensor(name, dtype, array.shape, array.tobytes(), raw=True)


def packed(array):
    """Two elements of 4 bits to a byte, the first in the low one."""
    flat = np.asarray(array, order="C").view(np.uint8).ravel() & 15
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return (flat[0::2] | flat[1::2] << 4).astype(np.uint8)


@functools.lru_cache(maxsize=None)
def first_version(op):
    return min(s.since_version for s in onnx.defs.get_all_schemas_with_history()
               if s.domain == "" and s.name == op and not s.deprecated)


class Draw:
    """Everything random about one case."""

    def __init__(self, seed, number, op):
        self.random = np.random.default_rng([seed, number])
        self.op = op
        self.domain, _, self.name = op.rpartition(".")
        self.schema = None
        if self.domain or op in OWN:
            self.opset = self.pick(OPSETS[6:15])
        else:
            self.choose_version(op)
        self.case = Case(op, self.opset)
        self.open_dims = self.chance(0.3)
        self.special = self.chance(0.08)

    def choose_version(self, op):
        first = first_version(op)
        fit = [v for v in OPSETS if v >= first]
        # Most in what ONNX Runtime knows.
        known = [v for v in fit if v <= 25] or fit
        self.opset = self.pick(known if self.chance(0.97) else fit)
        self.schema = onnx.defs.get_schema(op, self.opset, "")
        if self.schema.deprecated:
            known = [v for v in fit if not onnx.defs.get_schema(op, v, "").deprecated]
            self.opset = self.pick(known)
            self.schema = onnx.defs.get_schema(op, self.opset, "")
        self.since = self.schema.since_version

    # --- numbers ---

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, values):
        values = list(values)
        if not values:
            raise Unfit
        return values[int(self.random.integers(len(values)))]

    def upto(self, low, high):
        return int(self.random.integers(low, high + 1))

    def dim(self, empty=True):
        x = self.random.random()
        if x < 0.06:
            return 0 if empty else 1
        return 1 if x < 0.3 else self.upto(2, 5) if x < 0.95 else self.upto(6, 19)

    def shape(self, low=0, high=4, empty=True):
        return tuple(self.dim(empty) for _ in range(self.upto(low, high)))

    def broadcast(self, shape):
        """A shape that broadcasts together with `shape`."""
        part = list(shape[self.upto(0, len(shape)):]) if self.chance(0.5) else list(shape)
        part = [1 if self.chance(0.3) else d for d in part]
        if self.chance(0.15) and len(part) == len(shape) < 6:
            part = [self.dim()] + part
        return tuple(part)

    # --- types and arrays ---

    def allowed(self, index, output=False):
        formal = (self.schema.outputs if output else self.schema.inputs)
        formal = formal[min(index, len(formal) - 1)]
        names = [t[7:-1] for t in formal.types if t.startswith("tensor(")]
        return sorted(NAMES[n] for n in names if n in NAMES)

    def dtype(self, index=0, among=None):
        types = sorted(t for t in self.allowed(index) if among is None or t in among)
        if F in types and self.chance(0.35):
            return F
        return self.pick(types)

    def array(self, dtype, shape, low=None, high=None):
        """Values of a kind that any operator takes: small, with a few special ones at times."""
        count = int(np.prod(shape, dtype=np.int64))
        kind = numpy_type(dtype)
        if dtype == BOOL:
            flat = self.random.integers(0, 2, count).astype(bool)
        elif dtype in (TensorProto.INT4, TensorProto.UINT4):
            least = -8 if dtype == TensorProto.INT4 else 0
            flat = self.random.integers(max(least, low if low is not None else least),
                                        min(least + 15, high if high is not None else least + 15)
                                        + 1, count).astype(np.int8).astype(kind)
        elif dtype in FLOATS | FLOAT8 | {TensorProto.FLOAT4E2M1}:
            flat = self.reals(dtype, count, low, high).astype(kind)
        else:
            info = np.iinfo(kind)
            wide = self.special and low is None
            least = info.min if wide else max(info.min, -9 if low is None else low)
            most = info.max if wide else min(info.max, 9 if high is None else high)
            flat = self.random.integers(least, most, count, dtype=kind, endpoint=True)
        return flat.reshape(shape)

    def reals(self, dtype, count, low, high):
        if low is not None or high is not None:
            low = -1.0 if low is None else low
            high = low + 4.0 if high is None else high
            return self.random.uniform(low, high, count)
        flat = self.random.normal(0, 2, count)
        if self.chance(0.3):
            flat = np.round(flat * 2) / 2
        if self.special and count and dtype in FLOATS:
            few = self.random.integers(0, count, 1 + count // 4)
            flat[few] = self.random.choice([np.nan, np.inf, -np.inf, -0.0, 0.0, 100.0, 0.01, 0.5],
                                           few.size)
        return flat

    # --- building the case ---

    def add(self, name, dtype, array, constant=False):
        """A value that the node reads: an input of the graph, or an initializer."""
        array = np.asarray(array)
        self.case.types[name] = dtype
        if constant:
            self.case.constants[name] = array
        else:
            self.case.inputs[name] = array
            self.case.dims[name] = [f"{name}_{i}" if self.open_dims and self.chance(0.5) else d
                                    for i, d in enumerate(array.shape)]
        return name

    def tensor(self, name, index, shape, among=None, dtype=None, low=None, high=None,
               constant=None):
        dtype = self.dtype(index, among) if dtype is None else dtype
        constant = self.chance(0.1) if constant is None else constant
        return self.add(name, dtype, self.array(dtype, shape, low, high), constant)

    def ints(self, name, values, dtype=I64, constant=None):
        """Numbers that decide on shapes: constants most of the time."""
        array = np.array(values, numpy_type(dtype))
        return self.add(name, dtype, array, self.chance(0.7) if constant is None else constant)

    def scalar(self, name, dtype, value, constant=None):
        array = np.array(value).astype(numpy_type(dtype))
        return self.add(name, dtype, array, self.chance(0.5) if constant is None else constant)

    def type_of(self, name):
        return self.case.types[name]

    def value_of(self, name):
        return self.case.inputs[name] if name in self.case.inputs else self.case.constants[name]

    def shape_of(self, name):
        return self.value_of(name).shape

    def maybe(self, **values):
        """Each attribute with an even chance."""
        return {k: v for k, v in values.items() if k in self.schema.attributes and self.chance(0.5)}

    def finish(self, inputs, outputs=None, op=None, **attributes):
        """The node and the outputs of the graph; `outputs`: dtypes ("": not wanted), where the
        schema does not tell."""
        inputs = list(inputs)
        while inputs and not inputs[-1]:
            inputs.pop()
        dtypes = outputs if outputs is not None else [self.output_dtype(0, inputs)]
        names = [f"y{i}" if t else "" for i, t in enumerate(dtypes)]
        attributes = {k: v for k, v in attributes.items() if v is not None}
        self.case.nodes.append(helper.make_node(op or self.name, inputs, names, domain=self.domain,
                                                **attributes))
        self.case.attributes = attributes
        self.case.outputs = [(n, t) for n, t in zip(names, dtypes) if t]
        return self.case

    def output_dtype(self, index, inputs):
        formal = self.schema.outputs[min(index, len(self.schema.outputs) - 1)]
        for i, name in enumerate(inputs):
            given = self.schema.inputs[min(i, len(self.schema.inputs) - 1)]
            if name and given.type_str == formal.type_str:
                return self.case.types[name]
        types = self.allowed(index, output=True)
        if len(types) == 1:
            return types[0]
        raise AssertionError(f"{self.op}: the type of output {index} is not given")


def draw_case(seed, number, op):
    """The case of that number, or None."""
    draw = Draw(seed, number, op)
    try:
        return GENERATORS[op](draw)
    except Unfit:
        return None


def bits(array):
    return array.view(np.uint8) if array.dtype.itemsize == 1 else array


def bit_size(dtype):
    return 4 if dtype in FOUR_BITS else 8 * numpy_type(dtype).itemsize


HALF_TYPES = {np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)}
