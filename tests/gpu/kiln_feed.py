# SPDX-License-Identifier: Apache-2.0
"""Kiln in this process, through tests/gpu/feed.c: a model and NumPy arrays in, NumPy arrays out."""
import ctypes

import ml_dtypes
import numpy

MOST_DIMS = 8
DTYPES = {"float32": numpy.float32, "float16": numpy.float16, "bfloat16": ml_dtypes.bfloat16,
          "float64": numpy.float64, "int8": numpy.int8, "uint8": numpy.uint8,
          "int16": numpy.int16, "uint16": numpy.uint16, "int32": numpy.int32,
          "uint32": numpy.uint32, "int64": numpy.int64, "uint64": numpy.uint64,
          "bool": numpy.bool_, "float8e4m3fn": ml_dtypes.float8_e4m3fn,
          "float8e5m2": ml_dtypes.float8_e5m2}


class Tensor(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
                ("dims", ctypes.c_int64 * MOST_DIMS), ("data", ctypes.c_void_p),
                ("bytes", ctypes.c_uint64)]


class Range(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("rank", ctypes.c_int32),
                ("min", ctypes.c_int64 * MOST_DIMS), ("opt", ctypes.c_int64 * MOST_DIMS),
                ("max", ctypes.c_int64 * MOST_DIMS), ("values", ctypes.POINTER(ctypes.c_int64)),
                ("value_count", ctypes.c_uint64)]


class Failure(Exception):
    """What Kiln said."""


class Unbindable(Exception):
    """A type that no kiln_tensor has."""


class Kiln:
    def __init__(self, module, backend="tensorrt", library=None):
        self.calls = ctypes.CDLL(module)
        self.calls.feed_error.restype = ctypes.c_char_p
        self.calls.feed_count.restype = ctypes.c_uint64
        for name in ("feed_release", "feed_count", "feed_end", "feed_run"):
            getattr(self.calls, name).argtypes = [ctypes.c_void_p] + (
                [ctypes.c_int] if name == "feed_count" else [])
        self.calls.feed_binding.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64,
                                            ctypes.POINTER(Tensor)]
        self.calls.feed_context.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
        self.calls.feed_bind.argtypes = [ctypes.c_void_p, ctypes.POINTER(Tensor)]
        self.calls.feed_output.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(Tensor)]
        self.calls.feed_save.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.backend = backend.encode()
        self.library = library.encode() if library else None
        self.types = {}
        self.names = {}
        for name, dtype in DTYPES.items():
            number = self.calls.feed_dtype(name.encode())
            self.types[number] = numpy.dtype(dtype)
            self.names[numpy.dtype(dtype)] = number

    def check(self, status):
        if status != 0:
            raise Failure(self.calls.feed_error().decode(errors="replace"))

    def build(self, path, ranges=None, tf32=True, level=None):
        """`ranges`: {name: (min, opt, max)} of shapes, or {name: [values]} of a shape tensor.
        `level`: TensorRT's builder optimization level, from 0; None: its default."""
        items = []
        kept = []
        for name, range_of in (ranges or {}).items():
            item = Range(name=name.encode())
            if isinstance(range_of, list):
                values = (ctypes.c_int64 * max(1, len(range_of)))(*range_of)
                kept.append(values)
                item.values = ctypes.cast(values, ctypes.POINTER(ctypes.c_int64))
                item.value_count = len(range_of)
            else:
                item.rank = len(range_of[0])
                for field, shape in zip((item.min, item.opt, item.max), range_of):
                    for index, size in enumerate(shape):
                        field[index] = size
            items.append(item)
        engine = ctypes.c_void_p()
        self.check(self.calls.feed_build(self.backend, self.library, path.encode(),
                                         (Range * max(1, len(items)))(*items),
                                         ctypes.c_uint64(len(items)), int(tf32),
                                         {None: 0, 0: -1}.get(level, level),
                                         ctypes.byref(engine)))
        return Engine(self, engine)

    def load(self, path):
        engine = ctypes.c_void_p()
        self.check(self.calls.feed_load(self.backend, self.library, path.encode(),
                                        ctypes.byref(engine)))
        return Engine(self, engine)


class Engine:
    def __init__(self, kiln, handle):
        self.kiln = kiln
        self.handle = handle

    def bindings(self, is_input):
        """[(name, NumPy's type or None, dims)]"""
        found = []
        for index in range(self.kiln.calls.feed_count(self.handle, int(is_input))):
            tensor = Tensor()
            self.kiln.check(self.kiln.calls.feed_binding(self.handle, int(is_input), index,
                                                         ctypes.byref(tensor)))
            found.append((tensor.name.decode(), self.kiln.types.get(tensor.dtype),
                          tuple(tensor.dims[:max(0, tensor.rank)])))
        return found

    def save(self, path):
        self.kiln.check(self.kiln.calls.feed_save(self.handle, path.encode()))

    def release(self):
        self.kiln.calls.feed_release(self.handle)
        self.handle = None

    def run(self, feeds, runs=1):
        """The outputs of the last of `runs` runs, by name."""
        context = ctypes.c_void_p()
        self.kiln.check(self.kiln.calls.feed_context(self.handle, ctypes.byref(context)))
        kept = []
        try:
            for name, dtype, _ in self.bindings(True):
                if dtype is None:
                    raise Unbindable(f"the input {name}")
                value = numpy.ascontiguousarray(feeds[name])
                if value.ndim != numpy.ndim(feeds[name]):  # it makes a vector of a scalar
                    value = value.reshape(numpy.shape(feeds[name]))
                kept.append(value)
                self.bind(context, name, value)
            for _ in range(runs):
                self.kiln.check(self.kiln.calls.feed_run(context))
            return {name: self.output(context, name) for name, _, _ in self.bindings(False)}
        finally:
            self.kiln.calls.feed_end(context)

    def bind(self, context, name, value):
        if value.dtype not in self.kiln.names:
            raise Unbindable(f"{name} of {value.dtype}")
        if value.ndim > MOST_DIMS:
            raise Unbindable(f"{name} of rank {value.ndim}")
        tensor = Tensor(name=name.encode(), dtype=self.kiln.names[value.dtype], rank=value.ndim,
                        data=value.ctypes.data, bytes=value.nbytes)
        for index, size in enumerate(value.shape):
            tensor.dims[index] = size
        self.kiln.check(self.kiln.calls.feed_bind(context, ctypes.byref(tensor)))

    def output(self, context, name):
        tensor = Tensor()
        self.kiln.check(self.kiln.calls.feed_output(context, name.encode(), ctypes.byref(tensor)))
        dtype = self.kiln.types.get(tensor.dtype)
        if dtype is None:
            raise Unbindable(f"the output {name}")
        shape = tuple(tensor.dims[:tensor.rank])
        count = int(numpy.prod(shape, dtype=numpy.int64))
        if count == 0:
            return numpy.zeros(shape, dtype)
        data = ctypes.string_at(tensor.data, count * dtype.itemsize)
        return numpy.frombuffer(data, dtype).reshape(shape).copy()
