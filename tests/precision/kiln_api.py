# SPDX-License-Identifier: Apache-2.0
"""As much of libkiln as the precision tests and benchmarks call, through ctypes."""
import ctypes
import enum
import platform

import numpy

try:
    from ml_dtypes import bfloat16
except ImportError:  # where no bfloat16 comes out either
    bfloat16 = numpy.void

# kiln_dtype's values, of what NumPy has.
DTYPES = {1: numpy.float32, 2: numpy.float16, 3: bfloat16, 4: numpy.float64,
          5: numpy.int8, 6: numpy.uint8, 7: numpy.int16, 8: numpy.uint16, 9: numpy.int32,
          10: numpy.uint32, 11: numpy.int64, 12: numpy.uint64, 13: numpy.bool_}


def sums_are_cut_off():
    """Whether ONNX Runtime's fused products of 8 bits saturate here (docs/onnxruntime.md)."""
    if platform.machine() != "x86_64":
        return False
    with open("/proc/cpuinfo", encoding="utf-8") as facts:
        return "vnni" not in facts.read()


class Precision(enum.IntEnum):
    """kiln_precision."""
    FP16 = 1
    BF16 = 2
    INT8 = 3
    FP8 = 4
    INT4 = 5


class Options(ctypes.Structure):
    """kiln_precision_options."""
    _fields_ = [("struct_size", ctypes.c_size_t), ("precision", ctypes.c_int),
                ("keep_operators", ctypes.POINTER(ctypes.c_char_p)),
                ("keep_operator_count", ctypes.c_size_t),
                ("keep_nodes", ctypes.POINTER(ctypes.c_char_p)),
                ("keep_node_count", ctypes.c_size_t), ("ranges", ctypes.c_void_p),
                ("block_size", ctypes.c_int32), ("zero_points", ctypes.c_bool),
                ("rest", ctypes.c_int), ("convert_bindings", ctypes.c_bool),
                ("bindings", ctypes.c_void_p), ("binding_count", ctypes.c_size_t),
                ("reduce_range", ctypes.c_bool)]


class Summary(ctypes.Structure):
    """kiln_precision_summary."""
    _fields_ = [("struct_size", ctypes.c_size_t), ("precision", ctypes.c_int),
                ("node_count", ctypes.c_size_t), ("converted_count", ctypes.c_size_t),
                ("rest_count", ctypes.c_size_t), ("kept_count", ctypes.c_size_t),
                ("cast_count", ctypes.c_size_t),
                ("bytes_before", ctypes.c_uint64), ("bytes_after", ctypes.c_uint64),
                ("saturated", ctypes.c_uint64), ("vanished", ctypes.c_uint64),
                ("achieved_count", ctypes.c_size_t), ("missed_count", ctypes.c_size_t),
                ("multiplications", ctypes.c_uint64),
                ("converted_multiplications", ctypes.c_uint64)]


class BuildLimits(ctypes.Structure):
    """kiln_build_limits."""
    _fields_ = [("struct_size", ctypes.c_size_t), ("milliseconds", ctypes.c_uint64),
                ("memory_bytes", ctypes.c_uint64)]


class Node(ctypes.Structure):
    """kiln_precision_node."""
    _fields_ = [("struct_size", ctypes.c_size_t), ("name", ctypes.c_char_p),
                ("operator_type", ctypes.c_char_p), ("graph", ctypes.c_char_p),
                ("output", ctypes.c_char_p), ("dtype", ctypes.c_int), ("reason", ctypes.c_int),
                ("detail", ctypes.c_char_p), ("achieved", ctypes.c_int), ("layer", ctypes.c_char_p),
                ("multiplications", ctypes.c_uint64)]


class Dims(ctypes.Structure):
    """kiln_shape, kiln_strides."""
    _fields_ = [("rank", ctypes.c_int32), ("dims", ctypes.c_int64 * 8)]


class Tensor(ctypes.Structure):
    """kiln_named_tensor."""
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_int), ("format", ctypes.c_int),
                ("location", ctypes.c_int), ("device", ctypes.c_int32), ("shape", Dims),
                ("strides", Dims), ("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]

    @staticmethod
    def of(name, array):
        """A view of a contiguous array, which must stay."""
        dtype = next(key for key, value in DTYPES.items() if numpy.dtype(value) == array.dtype)
        shape = Dims(array.ndim, (ctypes.c_int64 * 8)(*array.shape))
        return Tensor(name=name.encode(), dtype=dtype, shape=shape, data=array.ctypes.data,
                      bytes=array.nbytes)

    def array(self):
        """A copy of what it shows."""
        shape = tuple(self.shape.dims[:self.shape.rank])
        kind = numpy.dtype(DTYPES[self.dtype])
        count = int(numpy.prod(shape, dtype=numpy.int64))
        data = ctypes.string_at(self.data, count * kind.itemsize) if count else b""
        return numpy.frombuffer(data, kind).reshape(shape)


class Refused(Exception):
    """A call that gave no KILN_OK: its status and sentence."""

    def __init__(self, status, sentence):
        super().__init__(sentence)
        self.status = status


class Kiln:
    """The library at `path`."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.kiln_error_message.restype = ctypes.c_char_p
        for name in ("kiln_network_destroy", "kiln_precision_report_destroy",
                     "kiln_range_table_destroy", "kiln_build_options_destroy",
                     "kiln_engine_release", "kiln_context_destroy", "kiln_build_destroy"):
            getattr(self.lib, name).argtypes = [ctypes.c_void_p]
            getattr(self.lib, name).restype = None

    def check(self, status):
        """Raises where a call failed."""
        if status != 0:
            raise Refused(status, self.lib.kiln_error_message().decode())

    def convert(self, source, target, precision, ranges=None, **members):
        """Converts the file `source`, writes `target`, and gives the summary. `ranges`: low and
        high of tensors by name."""
        network = ctypes.c_void_p()
        report = ctypes.c_void_p()
        table = ctypes.c_void_p()
        if ranges is not None:
            self.check(self.lib.kiln_range_table_create(ctypes.byref(table)))
            for name, (low, high) in ranges.items():
                self.check(self.lib.kiln_range_table_set(table, name.encode(),
                                                         ctypes.c_double(low),
                                                         ctypes.c_double(high)))
            members["ranges"] = table
        options = Options(struct_size=ctypes.sizeof(Options), precision=int(precision), **members)
        summary = Summary(struct_size=ctypes.sizeof(Summary))
        try:
            self.check(self.lib.kiln_network_from_onnx(source.encode(), ctypes.byref(network)))
            self.check(self.lib.kiln_network_convert(network, ctypes.byref(options),
                                                     ctypes.byref(report)))
            self.check(self.lib.kiln_precision_report_summary(report, ctypes.byref(summary)))
            self.check(self.lib.kiln_network_save_onnx(network, target.encode(), 0))
        finally:
            self.lib.kiln_precision_report_destroy(report)
            self.lib.kiln_network_destroy(network)
            self.lib.kiln_range_table_destroy(table)
        return summary

    def build(self, model, plan, seconds=0, **options):
        """Builds the file `model` with options by name, in `seconds` at most unless they are 0, and
        saves it. With a precision: how many nodes compute in what was asked for, and those that do
        not."""
        made = ctypes.c_void_p()
        job = ctypes.c_void_p()
        engine = ctypes.c_void_p()
        limits = BuildLimits(ctypes.sizeof(BuildLimits), int(max(seconds, 0) * 1000))
        try:
            self.check(self.lib.kiln_build_options_create(ctypes.byref(made)))
            for name, value in options.items():
                self.check(self.lib.kiln_build_options_set(made, name.encode(),
                                                           str(value).encode()))
            self.check(self.lib.kiln_build_start_file(model.encode(), made, ctypes.byref(limits),
                                                      ctypes.byref(job)))
            self.check(self.lib.kiln_build_wait(job, ctypes.c_uint64(2 ** 64 - 1),
                                                ctypes.byref(engine)))
            self.check(self.lib.kiln_engine_save(engine, plan.encode()))
            return self.achieved(engine)
        finally:
            self.lib.kiln_build_destroy(job)
            self.lib.kiln_engine_release(engine)
            self.lib.kiln_build_options_destroy(made)

    def achieved(self, engine):
        """Of an engine that was built with a precision."""
        self.lib.kiln_engine_precision.restype = ctypes.c_void_p
        report = ctypes.c_void_p(self.lib.kiln_engine_precision(engine))
        summary = Summary(struct_size=ctypes.sizeof(Summary))
        node = Node(struct_size=ctypes.sizeof(Node))
        if not report:
            return None
        self.check(self.lib.kiln_precision_report_summary(report, ctypes.byref(summary)))
        missed = []
        for index in range(summary.node_count):
            self.check(self.lib.kiln_precision_report_node(report, ctypes.c_size_t(index),
                                                           ctypes.byref(node)))
            if node.achieved not in (0, node.dtype):
                missed.append([node.name.decode(), node.dtype, node.achieved, node.layer.decode()])
        return {"converted": summary.converted_count, "rest": summary.rest_count,
                "kept": summary.kept_count, "achieved": summary.achieved_count,
                "missed": summary.missed_count, "nodes": missed}

    def run(self, model, inputs, outputs, load=False, **options):
        """Builds the file `model`, or loads it, runs it once with a dict of arrays, and gives the
        named outputs."""
        set_options = ctypes.c_void_p()
        engine = ctypes.c_void_p()
        context = ctypes.c_void_p()
        arrays = {name: numpy.ascontiguousarray(array).reshape(array.shape)
                  for name, array in inputs.items()}
        given = (Tensor * max(len(arrays), 1))(*[Tensor.of(*item) for item in arrays.items()])
        taken = (Tensor * len(outputs))(*[Tensor(name=name.encode()) for name in outputs])
        try:
            self.check(self.lib.kiln_build_options_create(ctypes.byref(set_options)))
            for name, value in options.items():
                self.check(self.lib.kiln_build_options_set(set_options, name.encode(),
                                                           str(value).encode()))
            make = self.lib.kiln_engine_load if load else self.lib.kiln_engine_build_file
            self.check(make(model.encode(), set_options, ctypes.byref(engine)))
            self.check(self.lib.kiln_context_create(engine, None, ctypes.byref(context)))
            self.check(self.lib.kiln_context_run_tensors(
                context, given, ctypes.c_size_t(len(arrays)), taken,
                ctypes.c_size_t(len(outputs))))
            return [tensor.array() for tensor in taken]
        finally:
            self.lib.kiln_context_destroy(context)
            self.lib.kiln_engine_release(engine)
            self.lib.kiln_build_options_destroy(set_options)
