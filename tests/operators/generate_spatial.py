# SPDX-License-Identifier: Apache-2.0
"""Windows over images, resizing, normalization, recurrences, signals and losses."""
import numpy as np

from generate import (
    B16, BOOL, D, F, FLOATS, H, I32, I64, NAMES, Unfit, generator, numpy_type)

MODES = ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]


def windows(r, spatial, kernel=None, dilated=True, small=True):
    """Attributes of a window, which fits into what it slides over most of the time."""
    kernel = [r.upto(1, 3) for _ in range(spatial)] if kernel is None else kernel
    more = r.maybe(strides=[r.upto(1, 3) for _ in kernel],
                   dilations=[r.upto(1, 2) for _ in kernel] if dilated else [1] * spatial,
                   auto_pad=r.pick(MODES) if r.chance(0.5) else "NOTSET")
    if more.get("auto_pad", "NOTSET") == "NOTSET" and r.chance(0.6):
        more["pads"] = [min(r.upto(0, 2), k - 1) for k in kernel + kernel]
    return kernel, more


def fits(sizes, kernel, more, slack=0):
    spatial = len(kernel)
    pads = more.get("pads", [0] * 2 * spatial)
    dilations = more.get("dilations", [1] * spatial)
    strides = more.get("strides", [1] * spatial)
    return all(n + pads[i] + pads[i + spatial] + slack * (strides[i] - 1) >=
               dilations[i] * (kernel[i] - 1) + 1 for i, n in enumerate(sizes))


@generator("MaxPool", "AveragePool", "LpPool")
def pool(r):
    spatial = r.upto(1, 3)
    sizes = [r.upto(1, 7) for _ in range(spatial)]
    kernel, more = windows(r, spatial)
    ceil = r.upto(0, 1) if "ceil_mode" in r.schema.attributes and r.chance(0.6) else None
    if "dilations" not in r.schema.attributes:
        more.pop("dilations", None)
    same = more.get("auto_pad", "").startswith("SAME")
    if not same and not fits(sizes, kernel, more, 1 if ceil else 0):
        raise Unfit
    x = r.tensor("x", 0, tuple([r.dim(), r.dim(False)] + sizes))
    more.update(r.maybe(count_include_pad=r.upto(0, 1), storage_order=r.upto(0, 1), p=r.upto(1, 3)))
    outs = [r.type_of(x)]
    if r.op == "MaxPool" and r.since >= 8 and r.chance(0.4):
        outs.append(I64)
    return r.finish([x], outs, kernel_shape=kernel, ceil_mode=ceil, **more)


@generator("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(r):
    x = r.tensor("x", 0, tuple(r.dim(False) for _ in range(r.upto(3, 5))))
    return r.finish([x], **r.maybe(p=r.upto(1, 3)))


@generator("MaxUnpool")
def unpool(r):
    h, w = r.upto(1, 3), r.upto(1, 3)
    n, c = r.upto(1, 2), r.upto(1, 2)
    area = 4 * h * w
    places = np.stack([r.random.permutation(area)[:h * w] + p * area for p in range(n * c)])
    return r.finish([r.tensor("x", 0, (n, c, h, w)),
                     r.add("i", I64, places.reshape(n, c, h, w).astype(np.int64))],
                    kernel_shape=[2, 2], strides=[2, 2])


@generator("MaxRoiPool")
def roi_pool(r):
    count = r.upto(1, 3)
    rois = np.zeros((count, 5))
    for i in range(count):
        a, b = sorted(r.upto(0, 5) for _ in range(2))
        c, d = sorted(r.upto(0, 5) for _ in range(2))
        rois[i] = [r.upto(0, 1), a, c, b, d]
    dtype = F
    return r.finish([r.tensor("x", 0, (2, 2, 6, 6), dtype=dtype),
                     r.add("rois", dtype, rois.astype(np.float32))],
                    pooled_shape=[r.upto(1, 3), r.upto(1, 3)], spatial_scale=r.pick([1.0, 0.5]))


@generator("RoiAlign")
def roi_align(r):
    count = r.upto(0, 3)
    rois = np.sort(r.random.uniform(0, 6, (count, 2, 2)), axis=1).reshape(count, 4)
    dtype = r.dtype(0, {F, D})
    return r.finish([r.tensor("x", 0, (2, 2, 6, 6), dtype=dtype),
                     r.add("rois", dtype, rois.astype(numpy_type(dtype))),
                     r.ints("batch", r.random.integers(0, 2, count).tolist())],
                    **r.maybe(mode=r.pick(["avg", "max"]), output_height=r.upto(1, 3),
                              output_width=r.upto(1, 3), sampling_ratio=r.upto(0, 3),
                              spatial_scale=0.5,
                              coordinate_transformation_mode=r.pick(
                                  ["half_pixel", "output_half_pixel"])))


def convolved(r, transposed=False):
    spatial = r.upto(1, 3)
    group = r.pick([1, 1, 2, 3])
    inner, outer = group * r.upto(1, 3), group * r.upto(1, 3)
    sizes = [r.upto(1, 7) for _ in range(spatial)]
    kernel, more = windows(r, spatial)
    return spatial, group, inner, outer, sizes, kernel, more


@generator("Conv")
def conv(r):
    _, group, inner, outer, sizes, kernel, more = convolved(r)
    if not more.get("auto_pad", "").startswith("SAME") and not fits(sizes, kernel, more):
        raise Unfit
    dtype = r.dtype(0)
    x = r.tensor("x", 0, tuple([r.dim(False), inner] + sizes), dtype=dtype)
    w = r.tensor("w", 1, tuple([outer, inner // group] + kernel), dtype=dtype)
    b = r.tensor("b", 2, (outer,), dtype=dtype) if r.chance(0.5) else ""
    return r.finish([x, w, b], group=group if group > 1 or r.chance(0.5) else None,
                    kernel_shape=kernel if r.chance(0.5) else None, **more)


@generator("ConvInteger", "QLinearConv")
def conv_integer(r):
    _, group, inner, outer, sizes, kernel, more = convolved(r)
    if not more.get("auto_pad", "").startswith("SAME") and not fits(sizes, kernel, more):
        raise Unfit
    more.update(group=group, kernel_shape=kernel if r.chance(0.5) else None)
    linear = r.op == "QLinearConv"
    x_type, w_type = r.dtype(0), r.dtype(3 if linear else 1)
    x = r.tensor("x", 0, tuple([r.dim(False), inner] + sizes), dtype=x_type)
    w = r.tensor("w", 1, tuple([outer, inner // group] + kernel), dtype=w_type)
    xz = r.tensor("xz", 2, (), dtype=x_type, low=-3, high=3)
    each = r.chance(0.4)
    wz = r.tensor("wz", 3, (outer,) if each else (), dtype=w_type, low=0 if each else -3, high=3)
    if not linear:
        return r.finish([x, w] + ([xz, wz] if r.chance(0.7) else []), **more)
    from generate_elements import scale
    y_type = r.dtype(7)
    inputs = [x, scale(r, "xs", ()), xz, w, scale(r, "ws", (outer,) if each else ()), wz,
              scale(r, "ys", ()), r.tensor("yz", 7, (), dtype=y_type, low=-3, high=3)]
    if r.chance(0.5):
        inputs.append(r.tensor("b", 8, (outer,), dtype=I32))
    return r.finish(inputs, [y_type], **more)


@generator("ConvTranspose")
def conv_transpose(r):
    spatial, group, inner, outer, sizes, kernel, more = convolved(r)
    dtype = r.dtype(0)
    x = r.tensor("x", 0, tuple([r.dim(False), inner] + sizes), dtype=dtype)
    w = r.tensor("w", 1, tuple([inner, outer // group] + kernel), dtype=dtype)
    b = r.tensor("b", 2, (outer,), dtype=dtype) if r.chance(0.5) else ""
    strides = more.get("strides", [1] * spatial)
    if r.chance(0.3):
        more["output_padding"] = [r.upto(0, s - 1) for s in strides]
    dilations = more.get("dilations", [1] * spatial)
    for i in range(spatial):
        pads = more.get("pads", [0] * 2 * spatial)
        extra = more.get("output_padding", [0] * spatial)[i]
        if (sizes[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 + extra \
                - pads[i] - pads[i + spatial] < 1:
            raise Unfit
    return r.finish([x, w, b], group=group if group > 1 or r.chance(0.5) else None,
                    kernel_shape=kernel if r.chance(0.5) else None, **more)


@generator("DeformConv")
def deform(r):
    group, outer_group = r.pick([1, 2]), r.pick([1, 2])
    inner, outer = group * outer_group * r.upto(1, 2), group * r.upto(1, 2)
    sizes = [r.upto(2, 5) for _ in range(2)]
    kernel = [r.upto(1, 2) for _ in range(2)]
    strides = [r.upto(1, 2) for _ in range(2)]
    pads = [r.upto(0, 1) for _ in range(4)]
    out = [(n + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, n in enumerate(sizes)]
    n = r.upto(1, 2)
    area = kernel[0] * kernel[1]
    dtype = r.dtype(0, {F, D})
    inputs = [r.tensor("x", 0, (n, inner, *sizes), dtype=dtype),
              r.tensor("w", 1, (outer, inner // group, *kernel), dtype=dtype),
              r.tensor("o", 2, (n, outer_group * area * 2, *out), dtype=dtype),
              r.tensor("b", 3, (outer,), dtype=dtype) if r.chance(0.5) else "",
              r.tensor("m", 4, (n, outer_group * area, *out), dtype=dtype) if r.chance(0.5) else ""]
    return r.finish(inputs, group=group, offset_group=outer_group, strides=strides, pads=pads,
                    kernel_shape=kernel)


# --- resizing ---


@generator("Resize", "Upsample")
def resize(r):
    rank = r.upto(1, 4)
    shape = tuple(r.upto(1, 6) if i >= rank - 2 else r.upto(1, 2) for i in range(rank))
    mode = r.pick(["nearest", "linear", "cubic"])
    last = list(range(max(0, rank - 2), rank))
    if r.since < 11:
        mode = r.pick(["nearest", "linear"])
        shape = (1, 1) + shape[-2:] if mode == "linear" and rank >= 2 else shape
        rank = len(shape)
        last = list(range(max(0, rank - 2), rank))
    scales = [float(np.float32(r.pick([0.5, 1, 2, 0.6, 1.5, 0.3, 2.3, 3]))) if i in last else 1.0
              for i in range(rank)]
    if r.op == "Upsample":
        scales = [max(1.0, s) for s in scales]
    more = {"mode": mode}
    if r.since >= 11:
        places = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
        places += ["half_pixel_symmetric"] if r.since >= 19 else []
        places += ["tf_half_pixel_for_nn"] if r.since < 13 else []
        places += ["tf_crop_and_resize"]
        more.update(r.maybe(coordinate_transformation_mode=r.pick(places),
                            nearest_mode=r.pick(["round_prefer_floor", "round_prefer_ceil", "floor",
                                                 "ceil"]), exclude_outside=r.upto(0, 1),
                            cubic_coeff_a=-0.5, extrapolation_value=1.5,
                            antialias=r.upto(0, 1)))
        if mode == "nearest":
            more.pop("antialias", None)
        if mode != "cubic":
            more.pop("exclude_outside", None)
    x = r.tensor("x", 0, shape)
    if r.since < 9 and r.op == "Upsample":
        return r.finish([x], scales=scales, **more)
    if r.since < 11:
        return r.finish([x, r.add("scales", F, np.array(scales, np.float32), r.chance(0.7))],
                        **more)
    roi = ""
    if more.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        low, high = r.random.uniform(0, 0.4, rank), r.random.uniform(0.5, 1.2, rank)
        low[:max(0, rank - 2)], high[:max(0, rank - 2)] = 0, 1
        roi = r.add("roi", F, np.concatenate([low, high]).astype(np.float32), r.chance(0.7))
        more.pop("antialias", None)
    if roi == "" and 11 <= r.since < 13:
        roi = r.add("roi", F, np.zeros(0, np.float32), True)
    axes = None
    if "axes" in r.schema.attributes and r.chance(0.3) and roi != "roi":
        axes = last
        scales = [scales[i] for i in axes]
    if r.chance(0.5) or 11 <= r.since < 13:
        return r.finish([x, roi, r.add("scales", F, np.array(scales, np.float32), r.chance(0.7))],
                        axes=axes, **more)
    sizes = [max(1, int(shape[(axes or range(rank))[i]] * s)) for i, s in enumerate(scales)]
    if "keep_aspect_ratio_policy" in r.schema.attributes:
        more.update(r.maybe(keep_aspect_ratio_policy=r.pick(["stretch", "not_larger",
                                                             "not_smaller"])))
        if more.get("keep_aspect_ratio_policy", "stretch") != "stretch" and axes is None:
            more.pop("keep_aspect_ratio_policy")
    return r.finish([x, roi, "", r.ints("sizes", sizes)], axes=axes, **more)


@generator("GridSample")
def grid_sample(r):
    spatial = 2 if r.since < 20 or r.chance(0.6) else 3
    modes = ["bilinear", "nearest", "bicubic"] if r.since < 20 else ["linear", "nearest", "cubic"]
    modes = modes[:2] if spatial == 3 else modes
    n = r.upto(1, 2)
    x = r.tensor("x", 0, tuple([n, r.upto(1, 2)] + [r.upto(1, 5) for _ in range(spatial)]),
                 among={F, D, H})
    grid = r.tensor("g", 1, tuple([n] + [r.upto(1, 3) for _ in range(spatial)] + [spatial]),
                    dtype=F if r.type_of(x) == F else r.dtype(1, {F, D}), low=-1.5, high=1.5)
    return r.finish([x, grid], **r.maybe(mode=r.pick(modes), align_corners=r.upto(0, 1),
                                         padding_mode=r.pick(["zeros", "border", "reflection"])))


# --- normalization ---


@generator("BatchNormalization")
def batch_norm(r):
    c = r.dim(False)
    shape = tuple([r.dim(False), c] + [r.dim(False) for _ in range(r.upto(0, 3))])
    dtype = r.dtype(0)
    names = [r.tensor("x", 0, shape, dtype=dtype)]
    for i, name in enumerate(["scale", "bias", "mean", "variance"]):
        names.append(r.tensor(name, i + 1, (c,), dtype=dtype, low=0.1, high=2))
    return r.finish(names, [dtype], **r.maybe(epsilon=1e-3))


@generator("LayerNormalization", "RMSNormalization")
def layer_norm(r):
    shape = r.shape(1, 4, empty=False)
    axis = r.upto(-len(shape), len(shape) - 1)
    dtype = r.dtype(0)
    x = r.tensor("x", 0, shape, dtype=dtype)
    centred = r.op == "LayerNormalization"
    of_scale = r.dtype(1) if dtype == F and not centred else dtype
    names = [x, r.tensor("scale", 1, shape[axis:], dtype=of_scale)]
    if centred and r.chance(0.6):
        names.append(r.tensor("bias", 2, shape[axis:], dtype=dtype))
    stash = B16 if centred and r.chance(0.1) else None
    kept = [stash or F] * 2 if centred and not r.special and r.chance(0.2) else []
    return r.finish(names, [of_scale, *kept], axis=axis, stash_type=stash,
                    **r.maybe(epsilon=1e-3))


@generator("GroupNormalization", "InstanceNormalization")
def group_norm(r):
    groups = r.upto(1, 3)
    c = groups * r.upto(1, 3)
    shape = tuple([r.dim(False), c] + [r.dim(False) for _ in range(r.upto(1, 2))])
    dtype = r.dtype(0)
    x = r.tensor("x", 0, shape, dtype=dtype)
    one = r.op == "GroupNormalization"
    size = groups if one and r.since < 21 else c
    return r.finish([x, r.tensor("scale", 1, (size,), dtype=dtype),
                     r.tensor("bias", 2, (size,), dtype=dtype)],
                    num_groups=groups if one else None, **r.maybe(epsilon=1e-3))


@generator("MeanVarianceNormalization")
def mean_variance(r):
    shape = tuple(r.dim(False) for _ in range(4))
    return r.finish([r.tensor("x", 0, shape)], **r.maybe(axes=r.pick([[0, 2, 3], [1, 2], [0, 1, 2,
                                                                                          3]])))


@generator("LRN")
def lrn(r):
    shape = tuple(r.dim(False) for _ in range(4))
    return r.finish([r.tensor("x", 0, shape)], size=r.pick([1, 3, 5, 2]),
                    **r.maybe(alpha=0.01, beta=0.5, bias=2.0))


@generator("LpNormalization")
def lp_norm(r):
    shape = r.shape(1, 4, empty=False)
    return r.finish([r.tensor("x", 0, shape)],
                    **r.maybe(axis=r.upto(-len(shape), len(shape) - 1), p=r.upto(1, 2)))


# --- recurrences ---


@generator("RNN", "GRU", "LSTM")
def recurrent(r):
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[r.op]
    direction = r.pick(["forward", "reverse", "bidirectional"])
    d = 2 if direction == "bidirectional" else 1
    layout = r.upto(0, 1) if "layout" in r.schema.attributes and r.chance(0.2) else 0
    t, b, i, h = r.upto(1, 4), r.upto(1, 3), r.upto(1, 3), r.upto(1, 3)
    dtype = r.dtype(0, {F, D, H})
    def part(name, index, shape):
        return r.tensor(name, index, shape, dtype=dtype, low=-1, high=1)
    state = (b, d, h) if layout else (d, b, h)
    inputs = [part("x", 0, (b, t, i) if layout else (t, b, i)), part("w", 1, (d, gates * h, i)),
              part("r", 2, (d, gates * h, h)),
              part("b", 3, (d, 2 * gates * h)) if r.chance(0.6) else "",
              r.add("lens", I32, r.random.integers(1, t + 1, b).astype(np.int32))
              if r.chance(0.3) else "",
              part("h0", 5, state) if r.chance(0.5) else ""]
    more = r.maybe(clip=0.5)
    if r.op == "LSTM":
        inputs.append(part("c0", 6, state) if r.chance(0.5) else "")
        inputs.append(part("p", 7, (d, 3 * h)) if r.chance(0.3) else "")
        more.update(r.maybe(input_forget=r.upto(0, 1)))
    if r.op == "GRU":
        more.update(r.maybe(linear_before_reset=r.upto(0, 1)))
    outs = [dtype] * (3 if r.op == "LSTM" else 2)
    return r.finish(inputs, outs, hidden_size=h, direction=direction, layout=layout or None, **more)


@generator("Attention")
def attention(r):
    b, q_heads, kv = r.upto(1, 2), r.pick([1, 2, 4]), 1
    kv = r.pick([k for k in (1, 2, 4) if q_heads % k == 0])
    s, t, d, v = r.upto(1, 4), r.upto(1, 5), r.upto(1, 4), r.upto(1, 4)
    dtype = r.dtype(0, {F, D, H})
    flat = r.chance(0.4)
    def part(name, heads, length, size):
        shape = (b, length, heads * size) if flat else (b, heads, length, size)
        return r.tensor(name, 0, shape, dtype=dtype, low=-1, high=1)
    inputs = [part("q", q_heads, s, d), part("k", kv, t, d), part("v", kv, t, v)]
    mask = ""
    past = r.pick([0, 0, 2])
    if r.chance(0.4):
        kind = r.pick([BOOL, dtype])
        shape = r.pick([(s, t + past), (b, 1, s, t + past), (1, q_heads, s, t + past)])
        array = r.array(kind, shape, -2, 2)
        if kind == BOOL:
            array[..., 0] = True
        mask = r.add("mask", kind, array)
    inputs.append(mask)
    outs = [dtype]
    if past:
        inputs += [r.tensor("pk", 0, (b, kv, past, d), dtype=dtype, low=-1, high=1),
                   r.tensor("pv", 0, (b, kv, past, v), dtype=dtype, low=-1, high=1)]
        outs = [dtype] * 3
    return r.finish(inputs, outs, q_num_heads=q_heads if flat else None,
                    kv_num_heads=kv if flat else None,
                    **r.maybe(is_causal=r.upto(0, 1), scale=0.5, softcap=2.0))


# --- signals, choices, losses ---


@generator("DFT")
def dft(r):
    shape = list(r.shape(2, 4, empty=False)) + [r.upto(1, 2)]
    dtype = r.dtype(0, {F, D})
    axis = r.upto(1, len(shape) - 2)
    one_sided = r.upto(0, 1)
    inverse = 0 if one_sided or shape[-1] == 1 else r.upto(0, 1)
    if one_sided:
        shape[-1] = 1
    length = r.scalar("n", I64, r.upto(1, 6)) if r.chance(0.3) else ""
    more = {"onesided": one_sided or None, "inverse": inverse or None}
    x = r.tensor("x", 0, tuple(shape), dtype=dtype)
    if r.since < 20:
        return r.finish([x, length], axis=axis, **more)
    return r.finish([x, length, r.scalar("axis", I64, axis)], **more)


@generator("STFT")
def stft(r):
    length, frame, step = r.upto(6, 20), r.upto(2, 6), r.upto(1, 4)
    dtype = r.dtype(0, {F, D})
    x = r.tensor("x", 0, (r.upto(1, 2), length, 1), dtype=dtype)
    form = r.upto(0, 2)
    return r.finish([x, r.scalar("step", I64, step),
                     r.tensor("window", 2, (frame,), dtype=dtype) if form else "",
                     r.scalar("frame", I64, frame) if form != 1 else ""],
                    **r.maybe(onesided=r.upto(0, 1)))


@generator("MelWeightMatrix")
def mel(r):
    dtype = r.pick([None, F, D])
    return r.finish([r.scalar("bins", I64, r.upto(1, 6)), r.scalar("dft", I64, r.pick([8, 16, 32])),
                     r.scalar("rate", I64, r.pick([8000, 16000])), r.scalar("low", F, 0.0),
                     r.scalar("high", F, r.pick([2000.0, 4000.0]))], [dtype or F],
                    output_datatype=dtype)


@generator("NonMaxSuppression")
def nms(r):
    n, boxes, classes = r.upto(1, 2), r.upto(0, 6), r.upto(1, 3)
    corners = np.sort(r.random.uniform(0, 4, (n, boxes, 2, 2)), axis=2).reshape(n, boxes, 4)
    inputs = [r.add("boxes", F, corners.astype(np.float32)),
              r.tensor("scores", 1, (n, classes, boxes), low=0, high=1)]
    inputs.append(r.scalar("most", I64, r.upto(0, 4)) if r.chance(0.8) else "")
    inputs.append(r.scalar("iou", F, r.pick([0.0, 0.3, 0.5, 1.0])) if r.chance(0.7) else "")
    inputs.append(r.scalar("least", F, r.pick([0.0, 0.4])) if r.chance(0.6) else "")
    return r.finish(inputs, [I64], **r.maybe(center_point_box=r.upto(0, 1)))


@generator("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(r):
    c = r.upto(1, 4)
    n = r.upto(1, 3)
    rest = r.shape(0, 2, empty=False)
    dtype = r.dtype(0, {F, D, H})
    x = r.tensor("x", 0, (n, c) + rest, dtype=dtype, low=-3, high=0)
    t = r.add("t", r.pick([I64, I32]), r.random.integers(0, c, (n,) + rest))
    array = r.case.inputs["t"].astype(numpy_type(r.type_of("t")))
    r.case.inputs["t"] = array
    inputs = [x, t]
    if r.chance(0.5):
        inputs.append(r.tensor("w", 2, (c,), dtype=dtype, low=0.1, high=2))
    return r.finish(inputs, [dtype], **r.maybe(reduction=r.pick(["none", "sum", "mean"]),
                                               ignore_index=r.upto(0, c - 1)))


@generator("TfIdfVectorizer")
def ngrams(r):
    pairs = r.random.permutation(16)[:3]
    pool = list(range(4)) + [int(v) for p in pairs for v in (p // 4, p % 4)]
    return r.finish([r.add("x", I64, r.random.integers(0, 4, r.pick([(6,), (2, 5)])))], [F],
                    max_gram_length=2, min_gram_length=r.upto(1, 2), max_skip_count=r.upto(0, 2),
                    mode=r.pick(["TF", "IDF", "TFIDF"]), ngram_counts=[0, 4],
                    ngram_indexes=list(range(7)), pool_int64s=pool,
                    **({"weights": [1.0, 2, 3, 0.5, 1, 2, 1]} if r.chance(0.5) else {}))
