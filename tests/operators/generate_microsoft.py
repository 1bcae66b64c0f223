# SPDX-License-Identifier: Apache-2.0
"""Operators of ONNX Runtime's own domain that its quantizer and optimizer leave in models."""
import numpy as np

from generate import BOOL, F, I32, NAMES, Unfit, generator, numpy_type

INT8, UINT8 = NAMES["int8"], NAMES["uint8"]


def ms(*names):
    return generator(*("com.microsoft." + name for name in names))


def bytes_type(r):
    return r.pick([INT8, UINT8])


def quantized(r, name, dtype, shape):
    info = np.iinfo(numpy_type(dtype))
    return r.tensor(name, 0, shape, dtype=dtype, low=info.min, high=info.max)


def weights_of(r, name, dtype, shape):
    """Of 7 bits where they are signed: what ONNX Runtime adds to past that, some processors cut."""
    return r.tensor(name, 0, shape, dtype=dtype, low=-60 if dtype == INT8 else 0,
                    high=60 if dtype == INT8 else 255)


def scale(r, name, low=0.005, high=0.2):
    return r.scalar(name, F, float(np.float32(r.random.uniform(low, high))), constant=True)


def zero(r, name, dtype):
    info = np.iinfo(numpy_type(dtype))
    return r.scalar(name, dtype, r.upto(info.min, info.max), constant=True)


def affine(r, name, dtype):
    return [scale(r, name + "_scale"), zero(r, name + "_zero", dtype)]


@ms("QLinearAdd", "QLinearMul")
def qlinear_binary(r):
    dtype, shape = bytes_type(r), r.shape(1)
    a = quantized(r, "a", dtype, shape)
    b = quantized(r, "b", dtype, r.broadcast(shape))
    return r.finish([a, *affine(r, "a", dtype), b, *affine(r, "b", dtype),
                     *affine(r, "c", dtype)], [dtype])


@ms("QLinearSigmoid", "QLinearLeakyRelu")
def qlinear_unary(r):
    dtype = bytes_type(r)
    x = quantized(r, "x", dtype, r.shape(1))
    more = {"alpha": float(np.float32(r.random.uniform(0, 1)))} if "Leaky" in r.op else {}
    return r.finish([x, *affine(r, "x", dtype), *affine(r, "y", dtype)], [dtype],
                    **more)


@ms("QLinearConcat")
def qlinear_concat(r):
    dtype, shape = bytes_type(r), list(r.shape(1, empty=False))
    axis = r.upto(-len(shape), len(shape) - 1)
    names = affine(r, "y", dtype)
    for i in range(r.upto(1, 4)):
        shape[axis] = r.dim()
        names += [quantized(r, f"x{i}", dtype, shape), *affine(r, f"x{i}", dtype)]
    return r.finish(names, [dtype], axis=axis)


@ms("QLinearWhere")
def qlinear_where(r):
    dtype, shape = bytes_type(r), r.shape(1)
    return r.finish([r.tensor("c", 0, shape, dtype=BOOL),
                     quantized(r, "x", dtype, shape), *affine(r, "x", dtype),
                     quantized(r, "y", dtype, r.broadcast(shape)), *affine(r, "y", dtype),
                     *affine(r, "z", dtype)], [dtype])


@ms("QLinearGlobalAveragePool")
def qlinear_global_pool(r):
    dtype = bytes_type(r)
    x = quantized(r, "x", dtype, r.shape(4, 4, empty=False))
    return r.finish([x, *affine(r, "x", dtype), *affine(r, "y", dtype)], [dtype],
                    channels_last=r.upto(0, 1))


@ms("QLinearAveragePool")
def qlinear_pool(r):
    spatial = r.upto(1, 3)
    shape = [r.dim(False), r.dim(False)] + [r.upto(4, 9) for _ in range(spatial)]
    last = r.upto(0, 1)
    if last:
        shape.append(shape.pop(1))
    dtype = UINT8 if last else bytes_type(r)
    kernel = [r.upto(1, 3) for _ in range(spatial)]
    x = quantized(r, "x", dtype, shape)
    return r.finish([x, *affine(r, "x", dtype), *affine(r, "y", dtype)], [dtype],
                    kernel_shape=kernel, strides=[r.upto(1, 2) for _ in range(spatial)],
                    pads=[r.upto(0, k // 2) for k in kernel * 2], channels_last=last,
                    count_include_pad=r.upto(0, 1))


@ms("QLinearSoftmax")
def qlinear_softmax(r):
    dtype, shape = bytes_type(r), r.shape(1, empty=False)
    axis = r.upto(-len(shape), len(shape) - 1)
    if shape[axis] == 1:  # whose share is not 1 in ONNX Runtime
        raise Unfit
    x = quantized(r, "x", dtype, shape)
    least = np.iinfo(numpy_type(dtype)).min  # past the ends ONNX Runtime wraps
    return r.finish([x, *affine(r, "x", dtype), scale(r, "ys", 0.005, 0.01),
                     r.scalar("yz", dtype, least, constant=True)], [dtype], axis=axis, opset=13)


@ms("QGemm")
def qgemm(r):
    a, b = bytes_type(r), bytes_type(r)
    if (a, b) == (INT8, UINT8):
        b = INT8
    m, k, n = r.dim(False), r.dim(False), r.dim(False)
    turn_a, turn_b = r.upto(0, 1), r.upto(0, 1)
    columns = r.chance(0.4)
    real = r.chance(0.4)
    b_zero = zero(r, "bz", b)
    b_scale = scale(r, "bs")
    if columns:
        b_scale = r.add("bs", F, r.random.uniform(0.005, 0.2, n).astype(np.float32), True)
        b_zero = r.add("bz", b, np.full(n, r.value_of("bz")), True)
    names = [quantized(r, "a", a, (k, m) if turn_a else (m, k)), *affine(r, "a", a),
             weights_of(r, "b", b, (n, k) if turn_b else (k, n)), b_scale, b_zero,
             r.tensor("c", 0, r.pick([(n,), (m, n), (1, n)]), dtype=I32, low=-900, high=900)
             if r.chance(0.6) else ""]
    if not real:
        names += [scale(r, "ys", 0.05, 2.0), zero(r, "yz", a)]
    return r.finish(names, [F if real else a], transA=turn_a, transB=turn_b,
                    alpha=float(np.float32(r.random.uniform(0.5, 2))))


def right_operand(r, n, dtype, plain=False):
    """The scales and zero points of the columns."""
    if plain or r.chance(0.5):
        return [scale(r, "bs"), zero(r, "bz", dtype)]
    zeros = r.array(dtype, (n,), low=-5 if dtype == INT8 else 0, high=5)
    return [r.add("bs", F, r.random.uniform(0.005, 0.2, n).astype(np.float32), True),
            r.add("bz", dtype, zeros, True)]


def operand_shapes(r):
    m, k, n = r.dim(False), r.dim(False), r.dim(False)
    batch = list(r.shape(0, 2, empty=False))
    return batch + [m, k], (batch if r.chance(0.3) else []) + [k, n]


@ms("MatMulIntegerToFloat")
def matmul_integer_to_float(r):
    a, b = bytes_type(r), bytes_type(r)
    if (a, b) == (INT8, UINT8):
        b = INT8
    left, right = operand_shapes(r)
    b_scale, b_zero = right_operand(r, right[-1], b, len(right) > 2)
    return r.finish([quantized(r, "a", a, left), weights_of(r, "b", b, right), scale(r, "as"),
                     b_scale, zero(r, "az", a) if r.chance(0.8) else "", b_zero,
                     r.tensor("bias", 0, (right[-1],), dtype=F) if r.chance(0.5) else ""], [F])


@ms("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(r):
    b = bytes_type(r)
    left, right = operand_shapes(r)
    r.special = False
    b_scale, b_zero = right_operand(r, right[-1], b, len(right) > 2)
    return r.finish([r.tensor("a", 0, left, dtype=F), weights_of(r, "b", b, right), b_scale, b_zero,
                     r.tensor("bias", 0, (right[-1],), dtype=F) if r.chance(0.5) else ""], [F])


@ms("MatMulNBits")
def matmul_nbits(r):
    bits, block = r.pick([4, 4, 8]), r.pick([16, 32, 64])
    k, n = r.upto(1, 100), r.upto(1, 20)
    blocks = -(-k // block)
    shape = list(r.shape(1, 2, empty=False)) + [k]
    r.special = False
    names = [r.tensor("a", 0, shape, dtype=F),
             r.add("b", UINT8, r.random.integers(0, 256, (n, blocks, block * bits // 8),
                                                 dtype=np.uint8), True),
             r.add("s", F, r.random.uniform(0.01, 0.2, n * blocks).astype(np.float32), True)]
    if r.chance(0.5):
        packed = r.random.integers(0, 256, n * -(-blocks * bits // 8), dtype=np.uint8)
        names.append(r.add("z", UINT8, packed, True))
    return r.finish(names, [F], K=k, N=n, bits=bits, block_size=block)


@ms("FusedMatMul")
def fused_matmul(r):
    batch = list(r.shape(0, 2, empty=False))
    m, k, n = r.dim(False), r.dim(False), r.dim(False)
    turn = [r.upto(0, 1), r.upto(0, 1)]
    first = [r.upto(0, 1) if batch else 0, 0]
    shapes = [batch + ([k, m] if turn[0] else [m, k]), batch + ([n, k] if turn[1] else [k, n])]
    if first[0]:  # the row dimension (or the other one) stands before those of the batch
        shape = batch + [m, k]
        turn[0], shapes[0] = 0, [shape[-2]] + shape[:-2] + shape[-1:]
    return r.finish([r.tensor("a", 0, shapes[0], dtype=F), r.tensor("b", 0, shapes[1], dtype=F)],
                    [F], transA=turn[0], transB=turn[1], transBatchA=first[0], transBatchB=0,
                    alpha=float(np.float32(r.random.uniform(0.2, 2))))


ACTIVATIONS = {"Relu": [], "Sigmoid": [], "Tanh": [], "LeakyRelu": [0.2], "Clip": [-0.5, 1.5],
               "HardSigmoid": [0.3, 0.4]}


@ms("FusedConv")
def fused_conv(r):
    spatial = r.upto(1, 2)
    groups = r.upto(1, 2)
    maps, channels = groups * r.upto(1, 3), groups * r.upto(1, 3)
    kernel = [r.upto(1, 3) for _ in range(spatial)]
    shape = [r.dim(False), channels] + [r.upto(4, 8) for _ in range(spatial)]
    name = r.pick(sorted(ACTIVATIONS))
    r.special = False
    names = [r.tensor("x", 0, shape, dtype=F),
             r.tensor("w", 0, [maps, channels // groups, *kernel], dtype=F),
             r.tensor("b", 0, [maps], dtype=F) if r.chance(0.6) else ""]
    if r.chance(0.4):
        out = [i - k + 1 for i, k in zip(shape[2:], kernel)]
        names.append(r.tensor("z", 0, [shape[0], maps, *out], dtype=F))
    more = {"activation_params": ACTIVATIONS[name]} if ACTIVATIONS[name] else {}
    return r.finish(names, [F], activation=name, group=groups, **more)


@ms("FusedGemm")
def fused_gemm(r):
    m, k, n = r.dim(False), r.dim(False), r.dim(False)
    turn = r.upto(0, 1)
    name = r.pick(["Relu", "Sigmoid", "Tanh", "LeakyRelu"])
    more = {"activation_alpha": 0.25} if name == "LeakyRelu" else {}
    r.special = False
    return r.finish([r.tensor("a", 0, (m, k), dtype=F),
                     r.tensor("b", 0, (n, k) if turn else (k, n), dtype=F),
                     r.tensor("c", 0, (n,), dtype=F)], [F], activation=name, transB=turn,
                    alpha=float(np.float32(r.random.uniform(0.5, 2))), beta=0.5, **more)


@ms("Gelu", "FastGelu", "BiasGelu", "QuickGelu")
def gelu(r):
    shape = r.shape(1, empty=False)
    r.special = False
    names = [r.tensor("x", 0, shape, dtype=F)]
    if "Bias" in r.op or ("Fast" in r.op and r.chance(0.5)):
        names.append(r.tensor("b", 0, shape[-1:], dtype=F))
    more = {"alpha": float(np.float32(r.random.uniform(0.5, 2)))} if "Quick" in r.op else {}
    return r.finish(names, [F], **more)


@ms("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_norm(r):
    shape = r.shape(3, 3, empty=False)
    rms = "Simplified" in r.op
    r.special = False
    names = [r.tensor("x", 0, shape, dtype=F), r.tensor("skip", 0, shape, dtype=F),
             r.tensor("gamma", 0, shape[-1:], dtype=F)]
    if not rms:
        names.append(r.tensor("beta", 0, shape[-1:], dtype=F) if r.chance(0.7) else "")
    names.append(r.tensor("bias", 0, shape[-1:], dtype=F) if r.chance(0.5) else "")
    outputs = [F, 0, 0, F] if r.chance(0.5) else [F]
    return r.finish(names, outputs, epsilon=1e-3)


@ms("QuantizeLinear")
def quantize(r):
    dtype = r.pick([INT8, UINT8, NAMES["int16"], NAMES["uint16"]])
    x = r.tensor("x", 0, r.shape(1), dtype=F, low=-9, high=9)
    return r.finish([x, scale(r, "s"), zero(r, "z", dtype)], [dtype])


@ms("DequantizeLinear")
def dequantize(r):
    dtype = r.pick([INT8, UINT8, NAMES["int16"], NAMES["uint16"]])
    return r.finish([quantized(r, "x", dtype, r.shape(1)), scale(r, "s"), zero(r, "z", dtype)],
                    [F])


@ms("DynamicQuantizeLSTM")
def dynamic_quantize_lstm(r):
    way = r.pick(["forward", "reverse", "bidirectional"])
    ways = 2 if way == "bidirectional" else 1
    steps, batch = r.upto(1, 6), r.upto(1, 4)
    width, hidden = r.upto(1, 8), r.upto(1, 8)
    dtype, gates = bytes_type(r), 4 * hidden
    r.special = False

    span = (-60, 60) if dtype == INT8 else (0, 255)

    def optional(name, shape, low=-1.0, high=1.0):
        return r.tensor(name, 0, shape, dtype=F, low=low, high=high) if r.chance(0.5) else ""

    def weights(name, inner):
        each = (ways, gates) if r.chance(0.5) else (ways,)
        zeros = np.full(each, 0 if dtype == INT8 else r.upto(100, 150))
        return (r.add(name, dtype, r.array(dtype, (ways, inner, gates), *span), True),
                r.add(name + "s", F, r.random.uniform(0.002, 0.01, each).astype(np.float32), True),
                r.add(name + "z", dtype, zeros.astype(numpy_type(dtype)), True))

    w, w_scale, w_zero = weights("w", width)
    other, r_scale, r_zero = weights("r", hidden)
    lengths = r.ints("lengths", [r.upto(1, steps) for _ in range(batch)], I32) \
        if r.chance(0.5) else ""
    names = [r.tensor("x", 0, (steps, batch, width), dtype=F, low=-2.0, high=2.0), w, other,
             optional("b", (ways, 2 * gates)), lengths, optional("h", (ways, batch, hidden)),
             optional("c", (ways, batch, hidden)), optional("p", (ways, 3 * hidden)),
             w_scale, w_zero, r_scale, r_zero]
    outputs = r.pick([[F, F, F], [F], [0, F, F], [F, F]])
    r.case.bound = (2e-2, 2e-2)  # a state may round to the next of its 256 numbers
    more = {"clip": 1.5} if r.chance(0.2) else {}
    return r.finish(names, outputs, direction=way, hidden_size=hidden,
                    input_forget=r.upto(0, 1) if r.chance(0.3) else None, **more)
