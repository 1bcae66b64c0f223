# SPDX-License-Identifier: Apache-2.0
"""TensorRT in this process through NVIDIA's own Python bindings, as their samples call it, with the
CUDA driver's functions for memory: a model and NumPy arrays in, NumPy arrays out."""
import ctypes

import ml_dtypes
import numpy


class Failure(Exception):
    """Where it stopped, and what TensorRT logged."""


class Driver:
    """Just enough of libcuda."""

    def __init__(self):
        self.cuda = ctypes.CDLL("libcuda.so.1")
        self.check(self.cuda.cuInit(0))
        device = ctypes.c_int()
        context = ctypes.c_void_p()
        self.check(self.cuda.cuDeviceGet(ctypes.byref(device), 0))
        self.check(self.cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
        self.check(self.cuda.cuCtxSetCurrent(context))
        self.stream = ctypes.c_void_p()
        self.check(self.cuda.cuStreamCreate(ctypes.byref(self.stream), 0))

    def check(self, status):
        if status != 0:
            raise Failure(f"CUDA error {status}")

    def allocate(self, size):
        address = ctypes.c_uint64()
        self.check(self.cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(max(1, size))))
        return address.value

    def release(self, address):
        self.cuda.cuMemFree_v2(ctypes.c_uint64(address))

    def write(self, address, array):
        self.check(self.cuda.cuMemcpyHtoD_v2(ctypes.c_uint64(address),
                                             ctypes.c_void_p(array.ctypes.data),
                                             ctypes.c_size_t(array.nbytes)))

    def read(self, array, address):
        self.check(self.cuda.cuMemcpyDtoH_v2(ctypes.c_void_p(array.ctypes.data),
                                             ctypes.c_uint64(address),
                                             ctypes.c_size_t(array.nbytes)))

    def wait(self):
        self.check(self.cuda.cuStreamSynchronize(self.stream))


def dtype_of(trt, dtype):
    table = {trt.float32: numpy.float32, trt.float16: numpy.float16, trt.int8: numpy.int8,
             trt.bfloat16: ml_dtypes.bfloat16, trt.fp8: ml_dtypes.float8_e4m3fn,
             trt.uint8: numpy.uint8, trt.int32: numpy.int32, trt.int64: numpy.int64,
             trt.bool: numpy.bool_}
    return numpy.dtype(table[dtype]) if dtype in table else None


class Bindings:
    """One builder is kept, for the first one of a process takes seconds."""

    def __init__(self, builder=True):
        import tensorrt_bindings as trt

        class Log(trt.ILogger):
            def __init__(self):
                trt.ILogger.__init__(self)
                self.lines = []

            def log(self, severity, message):
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    self.lines.append(message)

        class Outputs(trt.IOutputAllocator):
            def __init__(self, driver):
                trt.IOutputAllocator.__init__(self)
                self.driver = driver
                self.address = 0
                self.room = 0
                self.shape = None

            def reallocate_output(self, name, memory, size, alignment):
                if size > self.room or self.address == 0:
                    if self.address:
                        self.driver.release(self.address)
                    self.address = self.driver.allocate(size)
                    self.room = size
                return self.address

            def reallocate_output_async(self, name, memory, size, alignment, stream):
                return self.reallocate_output(name, memory, size, alignment)

            def notify_shape(self, name, shape):
                self.shape = tuple(shape)

        self.trt = trt
        self.outputs = Outputs
        self.logger = Log()
        self.driver = Driver()
        trt.init_libnvinfer_plugins(self.logger, "")
        self.builder = trt.Builder(self.logger) if builder else None
        self.runtime = trt.Runtime(self.logger)

    def fail(self, where):
        raise Failure(f"{where}: " + " / ".join(self.logger.lines[:2])[:300])

    def ranges(self, network, feeds):
        """What must be in a profile: {name: (min, opt, max) or [values]}."""
        found = {}
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            value = feeds.get(tensor.name)
            if value is None:
                continue
            if tensor.is_shape_tensor:
                found[tensor.name] = [int(v) for v in numpy.ravel(value)]
            elif -1 in tuple(tensor.shape):
                found[tensor.name] = (value.shape, value.shape, value.shape)
        return found

    def build(self, path, feeds, strongly_typed, level):
        """The plan, and the ranges of its profile."""
        trt = self.trt
        self.logger.lines.clear()
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if strongly_typed else 0
        network = self.builder.create_network(flags)
        parser = trt.OnnxParser(network, self.logger)
        if not parser.parse_from_file(path):
            self.fail("parse")
        config = self.builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        config.builder_optimization_level = level
        ranges = self.ranges(network, feeds)
        if ranges:
            profile = self.builder.create_optimization_profile()
            for name, range_of in ranges.items():
                if isinstance(range_of, list):
                    profile.set_shape_input(name, range_of, range_of, range_of)
                else:
                    profile.set_shape(name, *range_of)
            config.add_optimization_profile(profile)
        plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            self.fail("build")
        return plan, ranges

    def run(self, plan, feeds):
        trt = self.trt
        self.logger.lines.clear()
        engine = self.runtime.deserialize_cuda_engine(plan)
        context = engine.create_execution_context() if engine is not None else None
        if context is None:
            self.fail("load")
        held = []
        hosts = {}
        try:
            names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
            inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
            for name in inputs:
                self.give(engine, context, name, feeds[name], held, hosts)
            allocators = {}
            for name in names:
                if name not in inputs:
                    allocators[name] = self.take(engine, context, name, held, hosts)
            if not context.execute_async_v3(self.driver.stream.value):
                self.fail("run")
            self.driver.wait()
            return {n: self.fetch(engine, context, n, a, hosts) for n, a in allocators.items()}
        finally:
            for address in held:
                self.driver.release(address)

    def give(self, engine, context, name, value, held, hosts):
        dtype = dtype_of(self.trt, engine.get_tensor_dtype(name))
        if dtype is None:
            self.fail(f"the input {name} is of {engine.get_tensor_dtype(name)}")
        value = numpy.asarray(value, dtype=dtype, order="C")
        if -1 in tuple(engine.get_tensor_shape(name)):
            if not context.set_input_shape(name, value.shape):
                self.fail(f"the shape of {name}")
        if engine.get_tensor_location(name) == self.trt.TensorLocation.HOST:
            hosts[name] = value
            context.set_tensor_address(name, value.ctypes.data)
            return
        address = self.driver.allocate(value.nbytes)
        held.append(address)
        if value.nbytes:
            self.driver.write(address, value)
        context.set_tensor_address(name, address)

    def take(self, engine, context, name, held, hosts):
        if engine.get_tensor_location(name) == self.trt.TensorLocation.HOST:
            count = max(1, int(context.get_max_output_size(name)))
            hosts[name] = numpy.zeros(count, numpy.uint8)
            context.set_tensor_address(name, hosts[name].ctypes.data)
            return None
        allocator = self.outputs(self.driver)
        context.set_output_allocator(name, allocator)
        return allocator

    def fetch(self, engine, context, name, allocator, hosts):
        dtype = dtype_of(self.trt, engine.get_tensor_dtype(name))
        if dtype is None:
            self.fail(f"the output {name} is of {engine.get_tensor_dtype(name)}")
        shape = tuple(context.get_tensor_shape(name)) if allocator is None else allocator.shape
        result = numpy.zeros(shape, dtype)
        if allocator is None:
            if result.nbytes:
                result = hosts[name][:result.nbytes].view(dtype).reshape(shape).copy()
        else:
            if result.nbytes:
                self.driver.read(result, allocator.address)
            self.driver.release(allocator.address)
        return result
