# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements or make them out of shapes."""
import numpy as np
from onnx import helper

from generate import BOOL, D, F, FLOATS, H, I32, I64, Unfit, generator, make_tensor, numpy_type


def axes_of(r, rank, count=None, negative=True):
    count = r.upto(1, rank) if count is None else count
    axes = [int(a) for a in r.random.permutation(rank)[:count]]
    return [a - rank if negative and r.chance(0.3) else a for a in axes]


@generator("Reshape")
def reshape(r):
    shape = r.shape()
    count = int(np.prod(shape))
    allow = r.upto(0, 1) if "allowzero" in r.schema.attributes and r.chance(0.4) else None
    target = []
    rest = count
    while rest > 1 and len(target) < 3:
        part = r.pick([d for d in range(1, rest + 1) if rest % d == 0])
        target.append(part)
        rest //= part
    if count == 0:
        target = list(shape)
        r.random.shuffle(target)
    elif rest > 1 or r.chance(0.2):
        target.append(rest)
    if target and r.chance(0.4) and 0 not in target:
        target[r.upto(0, len(target) - 1)] = -1
    if not allow and count and r.chance(0.3):
        for i, d in enumerate(target):
            if i < len(shape) and shape[i] == d and d > 0:
                target[i] = 0
                break
    if count == 0 and not allow:
        if any(d == 0 and (i >= len(shape) or shape[i] != 0) for i, d in enumerate(target)):
            raise Unfit
    return r.finish([r.tensor("x", 0, shape), r.ints("shape", target)], allowzero=allow)


@generator("Flatten")
def flatten(r):
    shape = r.shape()
    axis = r.upto(-len(shape) if r.since >= 11 else 0, len(shape))
    return r.finish([r.tensor("x", 0, shape)], axis=axis)


@generator("Squeeze")
def squeeze(r):
    shape = [1 if r.chance(0.5) else d for d in r.shape(1)]
    ones = [i for i, d in enumerate(shape) if d == 1]
    axes = None
    if ones and r.chance(0.7):
        axes = [ones[i] for i in r.random.permutation(len(ones))[:r.upto(1, len(ones))]]
        axes = [int(a) - len(shape) if r.since >= 11 and r.chance(0.3) else int(a) for a in axes]
    x = r.tensor("x", 0, shape)
    if r.since < 13:
        return r.finish([x], axes=axes)
    return r.finish([x, r.ints("axes", axes) if axes is not None else ""])


@generator("Unsqueeze")
def unsqueeze(r):
    shape = r.shape(0, 3)
    count = r.upto(1, 3)
    rank = len(shape) + count
    axes = axes_of(r, rank, count, r.since >= 11)
    x = r.tensor("x", 0, shape)
    if r.since < 13:
        return r.finish([x], axes=sorted(axes) if r.since < 11 else axes)
    return r.finish([x, r.ints("axes", axes)])


@generator("Shape", "Size")
def shape_of(r):
    more = {}
    if r.since >= 15 and r.op == "Shape":
        more = r.maybe(start=r.upto(-5, 5), end=r.upto(-5, 5))
    return r.finish([r.tensor("x", 0, r.shape())], [I64], **more)


@generator("Transpose")
def transpose(r):
    shape = r.shape(0, 5)
    perm = [int(i) for i in r.random.permutation(len(shape))] if r.chance(0.8) and shape else None
    return r.finish([r.tensor("x", 0, shape)], perm=perm)


@generator("Concat")
def concat(r):
    shape = list(r.shape(1))
    axis = r.upto(-len(shape) if r.since >= 11 else 0, len(shape) - 1)
    dtype = r.dtype(0)
    names = []
    for i in range(r.upto(1, 4)):
        shape[axis] = r.dim()
        names.append(r.tensor(f"x{i}", 0, tuple(shape), dtype=dtype))
    return r.finish(names, axis=axis)


@generator("Split")
def split(r):
    shape = list(r.shape(1))
    axis = r.upto(-len(shape) if r.since >= 11 else 0, len(shape) - 1)
    parts = r.upto(1, 4)
    equal = r.chance(0.4)
    sizes = [r.dim() for _ in range(parts)]
    more = {}
    inputs = []
    if equal and r.since >= 18:
        if r.chance(0.4):
            # The last part is smaller, or not there at all.
            each = -(-shape[axis] // parts)
            if each * (parts - 1) > shape[axis]:
                raise Unfit
        else:
            shape[axis] = parts * r.dim()
        more["num_outputs"] = parts
    elif equal:
        shape[axis] = parts * r.dim()
    else:
        shape[axis] = sum(sizes)
        if r.since < 13:
            more["split"] = sizes
        else:
            inputs = [r.ints("split", sizes)]
    x = r.tensor("x", 0, tuple(shape))
    return r.finish([x] + inputs, [r.type_of(x)] * parts, axis=axis, **more)


@generator("Slice")
def slice_(r):
    shape = r.shape(1)
    axes = axes_of(r, len(shape), negative=r.since >= 10)
    named = r.chance(0.8)
    if not named:
        axes = list(range(len(axes)))
    edge = [-2 ** 63, 2 ** 63 - 1, 2 ** 31 - 1, -2 ** 31]
    starts = [r.pick(edge) if r.chance(0.1) else r.upto(-8, 8) for _ in axes]
    ends = [r.pick(edge) if r.chance(0.2) else r.upto(-8, 8) for _ in axes]
    x = r.tensor("x", 0, shape)
    if r.since < 10:
        return r.finish([x], starts=starts, ends=ends, axes=axes if named else None)
    dtype = r.pick([I64, I64, I32])
    if dtype == I32:
        starts = [max(-2 ** 31, min(2 ** 31 - 1, v)) for v in starts]
        ends = [max(-2 ** 31, min(2 ** 31 - 1, v)) for v in ends]
    steps = [r.pick([1, 2, -1, -2, 3, -3]) for _ in axes]
    stepped = r.chance(0.7)
    return r.finish([x, r.ints("starts", starts, dtype), r.ints("ends", ends, dtype),
                     r.ints("axes", axes, dtype) if named else "",
                     r.ints("steps", steps, dtype) if stepped else ""])


@generator("Tile")
def tile(r):
    shape = r.shape(0, 4)
    return r.finish([r.tensor("x", 0, shape), r.ints("repeats", [r.upto(0, 3) for _ in shape])])


@generator("Expand")
def expand(r):
    shape = r.shape(0, 4)
    return r.finish([r.tensor("x", 0, shape), r.ints("shape", list(r.broadcast(shape)))])


@generator("DepthToSpace", "SpaceToDepth")
def depth(r):
    b = r.upto(1, 3)
    n, c, h, w = (r.dim() for _ in range(4))
    shape = (n, c * b * b, h, w) if r.op == "DepthToSpace" else (n, c, h * b, w * b)
    return r.finish([r.tensor("x", 0, shape)], blocksize=b, **r.maybe(mode=r.pick(["DCR", "CRD"])))


@generator("Pad")
def pad(r):
    shape = r.shape(1)
    mode = r.pick(["constant", "reflect", "edge"] + (["wrap"] if r.since >= 19 else []))
    axes = list(range(len(shape)))
    named = r.since >= 18 and r.chance(0.4)
    if named:
        axes = axes_of(r, len(shape))
    def amount(axis):
        n = shape[axis]
        most = {"constant": 3, "reflect": max(n - 1, 0), "edge": 3 if n else 0,
                "wrap": n}[mode]
        low = -min(2, n // 2) if r.chance(0.2) and n and mode != "reflect" else 0
        return r.upto(low, min(3, most))
    pads = [amount(a) for a in axes] + [amount(a) for a in axes]
    if any(shape[a] + pads[i] + pads[i + len(axes)] < 0 for i, a in enumerate(axes)):
        raise Unfit
    x = r.tensor("x", 0, shape)
    mode = None if mode == "constant" and r.chance(0.5) else mode
    if r.since < 11:
        return r.finish([x], pads=pads, mode=mode, **r.maybe(value=1.5))
    value = ""
    if r.chance(0.5):
        value = r.tensor("value", 2, (), dtype=r.type_of(x))
    return r.finish([x, r.ints("pads", pads), value, r.ints("axes", axes) if named else ""],
                    mode=mode)


@generator("CenterCropPad")
def center(r):
    shape = r.shape(1)
    axes = axes_of(r, len(shape)) if r.chance(0.5) else None
    count = len(axes) if axes is not None else len(shape)
    return r.finish([r.tensor("x", 0, shape), r.ints("shape", [r.dim() for _ in range(count)])],
                    axes=axes)


@generator("Trilu")
def trilu(r):
    x = r.tensor("x", 0, r.shape(2, 4))
    k = r.scalar("k", I64, r.upto(-4, 4)) if r.chance(0.6) else ""
    return r.finish([x, k], **r.maybe(upper=r.upto(0, 1)))


@generator("ReverseSequence")
def reverse(r):
    shape = r.shape(2, 4, empty=False)
    time = r.upto(0, 1)
    lengths = [r.upto(1, shape[time]) for _ in range(shape[1 - time])]
    return r.finish([r.tensor("x", 0, shape), r.ints("lengths", lengths)], time_axis=time,
                    batch_axis=1 - time)


@generator("Compress")
def compress(r):
    shape = r.shape(1)
    axis = r.upto(-len(shape) if r.since >= 11 else 0, len(shape) - 1) if r.chance(0.7) else None
    count = shape[axis] if axis is not None else int(np.prod(shape))
    kept = r.upto(0, count)
    return r.finish([r.tensor("x", 0, shape), r.tensor("keep", 1, (kept,), dtype=BOOL)], axis=axis)


def indices(r, name, shape, size, negative=True, low=None):
    if size == 0 and int(np.prod(shape)) > 0:
        raise Unfit
    dtype = r.pick([I64, I64, I32])
    least = -size if negative else 0
    array = r.random.integers(least, max(size, least + 1), shape) if int(np.prod(shape)) else \
        np.zeros(shape)
    return r.add(name, dtype, np.asarray(array).astype(numpy_type(dtype)), r.chance(0.4))


@generator("Gather")
def gather(r):
    shape = r.shape(1)
    axis = r.upto(-len(shape) if r.since >= 11 else 0, len(shape) - 1)
    return r.finish([r.tensor("x", 0, shape),
                     indices(r, "i", r.shape(0, 2), shape[axis], r.since >= 11)], axis=axis)


@generator("GatherElements")
def gather_elements(r):
    shape = r.shape(1, 3)
    axis = r.upto(-len(shape), len(shape) - 1)
    wanted = [r.upto(0, d) for d in shape]
    wanted[axis] = r.dim()
    return r.finish([r.tensor("x", 0, shape), indices(r, "i", tuple(wanted), shape[axis])],
                    axis=axis)


@generator("GatherND")
def gather_nd(r):
    shape = r.shape(1, 4, empty=False)
    batch = r.upto(0, min(len(shape) - 1, 2)) if r.since >= 12 else 0
    last = r.upto(1, len(shape) - batch)
    outer = shape[:batch] + r.shape(0, 2)
    if batch == len(outer) and not outer:
        outer = ()
    parts = [r.random.integers(-d if r.since >= 11 else 0, d, outer) for d in
             shape[batch:batch + last]]
    array = np.stack(parts, axis=-1).astype(np.int64)
    return r.finish([r.tensor("x", 0, shape), r.add("i", I64, array, r.chance(0.3))],
                    batch_dims=batch if batch or r.chance(0.3) and r.since >= 12 else None)


@generator("ScatterElements", "Scatter")
def scatter_elements(r):
    shape = r.shape(1, 3)
    axis = r.upto(-len(shape) if r.since >= 11 else 0, len(shape) - 1)
    wanted = tuple(r.upto(0, d) for d in shape)
    size = shape[axis]
    dtype = r.dtype(0)
    mode = r.pick(["none", "add", "mul", "max", "min"])
    mode = mode if "reduction" in r.schema.attributes and r.chance(0.6) else None
    if mode in ("max", "min") and r.since < 18:
        mode = None
    if dtype == BOOL and mode in ("add", "mul", "max", "min"):
        mode = None
    place = np.zeros(wanted, np.int64)
    if place.size:
        if mode in (None, "none"):
            # Each place once: which of two wins is left open.
            order = np.stack([r.random.permutation(size)[:wanted[axis]]
                              for _ in range(place.size // max(wanted[axis], 1))])
            moved = np.moveaxis(place, axis, -1)
            moved[...] = order.reshape(moved.shape)
        else:
            place = r.random.integers(-size, size, wanted)
    return r.finish([r.tensor("x", 0, shape, dtype=dtype),
                     r.add("i", I64, place.astype(np.int64), r.chance(0.3)),
                     r.tensor("u", 2, wanted, dtype=dtype)], axis=axis, reduction=mode)


@generator("ScatterND")
def scatter_nd(r):
    shape = r.shape(1, 4, empty=False)
    last = r.upto(1, len(shape))
    dtype = r.dtype(0)
    mode = r.pick(["none", "add", "mul", "max", "min"])
    mode = mode if "reduction" in r.schema.attributes and r.chance(0.6) else None
    if (mode in ("max", "min") and r.since < 18) or dtype == BOOL:
        mode = None
    room = int(np.prod(shape[:last]))
    count = r.upto(0, min(room, 4))
    flat = r.random.permutation(room)[:count] if mode in (None, "none") else \
        r.random.integers(0, room, count)
    array = np.stack(np.unravel_index(flat, shape[:last]), axis=-1).astype(np.int64)
    if r.since >= 11 and r.chance(0.4) and array.size:
        array[..., 0] -= shape[0]
    return r.finish([r.tensor("x", 0, shape, dtype=dtype), r.add("i", I64, array, r.chance(0.3)),
                     r.tensor("u", 2, (count,) + shape[last:], dtype=dtype)], reduction=mode)


@generator("TensorScatter")
def tensor_scatter(r):
    shape = list(r.shape(3, 4, empty=False))
    axis = r.upto(1, len(shape) - 1)
    update = list(shape)
    update[axis] = r.upto(1, shape[axis])
    mode = r.pick([None, "linear", "circular"])
    high = shape[axis] - 1 if mode == "circular" else shape[axis] - update[axis]
    x = r.tensor("x", 0, tuple(shape))
    inputs = [x, r.tensor("u", 1, tuple(update), dtype=r.type_of(x))]
    if r.chance(0.7):
        inputs.append(r.ints("at", [r.upto(0, high) for _ in range(shape[0])]))
    return r.finish(inputs, axis=axis - len(shape) if r.chance(0.5) else axis, mode=mode)


@generator("OneHot")
def one_hot(r):
    kinds = [I64, I32, F]
    depth = r.upto(1, 6)
    shape = r.shape(1, 3)
    dtype = r.pick(kinds)
    values = r.dtype(2)
    place = r.add("i", dtype, r.random.integers(-depth, depth, shape).astype(numpy_type(dtype))
                  if r.since >= 11 else r.random.integers(0, depth,
                                                          shape).astype(numpy_type(dtype)))
    axis = r.upto(-len(shape) - 1 if r.since >= 11 else -1, len(shape))
    axis = -1 if r.since < 11 and axis < 0 else axis
    deep = r.pick([I64, I32, F])
    return r.finish([place, r.scalar("depth", deep, depth) if r.chance(0.5)
                     else r.add("depth", deep, np.array([depth]).astype(numpy_type(deep)), True),
                     r.tensor("values", 2, (2,), dtype=values)], [values], **r.maybe(axis=axis))


@generator("ConstantOfShape")
def constant_of_shape(r):
    dtype = r.pick(r.allowed(0, output=True))
    value = helper.make_tensor("v", F, [1], [2.5])
    if dtype == F and r.chance(0.5):
        value = None
    else:
        array = r.array(dtype, (1,), 0, 3)
        value = make_tensor("v", dtype, array)
    return r.finish([r.ints("shape", list(r.shape()))], [dtype], value=value)


@generator("Range")
def range_(r):
    dtype = r.dtype(0)
    real = dtype in FLOATS
    start = r.upto(-5, 5) + (0.5 if real and r.chance(0.5) else 0)
    step = r.pick([1, 2, 3, -1, -2]) * (0.25 if real and r.chance(0.5) else 1)
    end = r.upto(-9, 9)
    return r.finish([r.scalar("start", dtype, start), r.scalar("end", dtype, end),
                     r.scalar("step", dtype, step)])


@generator("EyeLike")
def eye(r):
    dtype = r.pick([None] + r.allowed(0, output=True))
    x = r.tensor("x", 0, r.shape(2, 2))
    return r.finish([x], [dtype or r.type_of(x)], dtype=dtype, **r.maybe(k=r.upto(-3, 3)))


@generator("HannWindow", "HammingWindow", "BlackmanWindow")
def window(r):
    dtype = r.pick([None] + r.allowed(0, output=True))
    return r.finish([r.scalar("n", r.pick([I64, I32]), r.upto(1, 20))], [dtype or F],
                    output_datatype=dtype, **r.maybe(periodic=r.upto(0, 1)))


@generator("NonZero")
def nonzero(r):
    return r.finish([r.tensor("x", 0, r.shape())], [I64])


@generator("Unique")
def unique(r):
    shape = r.shape(1, 3)
    axis = r.upto(-len(shape), len(shape) - 1) if r.chance(0.6) else None
    dtype = r.dtype(0)
    if 0 in shape:
        raise Unfit  # ONNX Runtime ends the process there
    x = r.tensor("x", 0, shape, dtype=dtype, low=0, high=3)
    outs = [dtype] + [I64] * r.upto(0, 3)
    return r.finish([x], outs, axis=axis, **r.maybe(sorted=r.upto(0, 1)))


@generator("AffineGrid")
def affine(r):
    spatial = r.upto(2, 3)
    n = r.dim(False)
    dtype = r.dtype(0, {F, D, H})
    size = [n, r.dim(False)] + [r.dim(False) for _ in range(spatial)]
    return r.finish([r.tensor("theta", 0, (n, spatial, spatial + 1), dtype=dtype),
                     r.ints("size", size)], **r.maybe(align_corners=r.upto(0, 1)))


@generator("Col2Im")
def col2im(r):
    kernel = [r.upto(1, 3) for _ in range(r.upto(1, 3))]
    strides = [r.upto(1, 2) for _ in kernel]
    dilations = [r.upto(1, 2) for _ in kernel]
    pads = [r.upto(0, 1) for _ in kernel * 2]
    image = [r.upto(1, 5) for _ in kernel]
    count = 1
    for i, k in enumerate(kernel):
        room = image[i] + pads[i] + pads[i + len(kernel)] - dilations[i] * (k - 1) - 1
        if room < 0:
            raise Unfit
        count *= room // strides[i] + 1
    channels = r.upto(1, 3) * int(np.prod(kernel))
    return r.finish([r.tensor("x", 0, (r.dim(), channels, count)), r.ints("image", image),
                     r.ints("block", kernel)], strides=strides, dilations=dilations, pads=pads)


@generator("RotaryEmbedding")
def rotary(r):
    b, h, s, d = r.upto(1, 2), r.upto(1, 3), r.upto(1, 4), 2 * r.upto(1, 4)
    dtype = r.dtype(0)
    flat = r.chance(0.4)
    part = 2 * r.upto(1, d // 2) if r.chance(0.3) else 0
    half = (part or d) // 2
    x = r.tensor("x", 0, (b, s, h * d) if flat else (b, h, s, d), dtype=dtype)
    placed = r.chance(0.5)
    table = (6, half) if placed else (b, s, half)
    inputs = [x, r.tensor("cos", 1, table, dtype=dtype), r.tensor("sin", 2, table, dtype=dtype)]
    if placed:
        inputs.append(r.ints("place", r.random.integers(0, 6, (b, s)).tolist()))
    return r.finish(inputs, num_heads=h if flat else None, rotary_embedding_dim=part or None,
                    **r.maybe(interleaved=r.upto(0, 1)))
