# SPDX-License-Identifier: Apache-2.0
"""Definitions of operators over windows, of normalization, recurrences, resizing and signals."""
import itertools
import math

import numpy as np

from definitions import define, point, requantized
from generate import numpy_type


class Window:
    """Kernel, strides, dilations, pads and output lengths of a sliding window."""

    def __init__(self, g, sizes, kernel):
        d = len(sizes)
        self.kernel, self.sizes = kernel, sizes
        self.strides = g.attr("strides") or [1] * d
        self.dilations = g.attr("dilations") or [1] * d
        self.extent = [self.dilations[i] * (kernel[i] - 1) + 1 for i in range(d)]
        self.auto = g.attr("auto_pad", "NOTSET")
        pads = g.attr("pads") or [0] * 2 * d
        self.begin, self.end = list(pads[:d]), list(pads[d:])
        self.ceils = bool(g.attr("ceil_mode", 0))
        self.out = [self.length(i) for i in range(d)]

    def length(self, i):
        n, s = self.sizes[i], self.strides[i]
        if self.auto.startswith("SAME"):
            out = -(-n // s)
            total = max(0, (out - 1) * s + self.extent[i] - n)
            self.begin[i] = total // 2 if self.auto == "SAME_UPPER" else total - total // 2
            self.end[i] = total - self.begin[i]
            return out
        if self.auto == "VALID":
            self.begin[i] = self.end[i] = 0
        room = n + self.begin[i] + self.end[i] - self.extent[i]
        out = (-(-room // s) if self.ceils else room // s) + 1
        # "Sliding windows that would start in the right padded region are ignored."
        if self.ceils and (out - 1) * s >= n + self.begin[i]:
            out -= 1
        return max(out, 0)

    def offsets(self):
        return itertools.product(*(range(k) for k in self.kernel))

    def places(self):
        return itertools.product(*(range(n) for n in self.out))

    def slices(self, offset):
        """Where the element at that offset of each window lies, for the windows that have it in
        the input: (slices of the output, slices of the input)."""
        outs, ins = [], []
        for i, o in enumerate(offset):
            hits = [t for t in range(self.out[i])
                    if 0 <= t * self.strides[i] + o * self.dilations[i] - self.begin[i]
                    < self.sizes[i]]
            if not hits:
                return None
            first = hits[0] * self.strides[i] + o * self.dilations[i] - self.begin[i]
            outs.append(slice(hits[0], hits[-1] + 1))
            ins.append(slice(first, first + (len(hits) - 1) * self.strides[i] + 1,
                             self.strides[i]))
        return tuple(outs), tuple(ins)

    def padded_count(self, place):
        """Elements of a window that lie in the input or its padding."""
        count = 1
        for i, t in enumerate(place):
            at = [t * self.strides[i] + o * self.dilations[i] for o in range(self.kernel[i])]
            count *= sum(a < self.sizes[i] + self.begin[i] + self.end[i] for a in at)
        return count


@define("MaxPool", "AveragePool", "LpPool")
def pool(g):
    x = g.real(0) if g.raw(0).dtype.kind not in "iu" else g.whole(0)
    window = Window(g, x.shape[2:], g.attr("kernel_shape"))
    shape = x.shape[:2] + tuple(window.out)
    best = np.zeros(shape, x.dtype)
    taken, index = np.zeros(shape, bool), np.zeros(shape, np.int64)
    count = np.zeros(shape)
    p = g.attr("p", 2)
    column = g.attr("storage_order", 0)
    numbers = np.arange(x.size).reshape(x.shape)
    if column:
        d = x.ndim - 2
        numbers = np.arange(x.size).reshape(x.shape[:2] + x.shape[2:][::-1]).transpose(
            [0, 1] + list(range(d + 1, 1, -1)))
    for offset in window.offsets():
        found = window.slices(offset)
        if found is None:
            continue
        to, of = ((slice(None), slice(None)) + part for part in found)
        count[to] += 1
        if g.op == "MaxPool":
            better = ~taken[to] | (x[of] > best[to]) | (np.isnan(x[of]) & ~np.isnan(best[to])) \
                if x.dtype.kind == "f" else ~taken[to] | (x[of] > best[to])
            index[to] = np.where(better, numbers[of], index[to])
            best[to] = np.where(better, x[of], best[to])
            taken[to] = True
        else:
            best[to] += x[of] if g.op == "AveragePool" else np.abs(x[of]) ** p
    if g.op == "MaxPool":
        # A window in the padding alone has no greatest element: what is less than all others.
        least = -np.inf if x.dtype.kind == "f" else np.iinfo(numpy_type(g.out[0])).min
        return [np.where(taken, best, least), index]
    if g.op == "LpPool":
        return [best ** (1 / p)]
    if g.attr("count_include_pad", 0):
        for place in window.places():
            count[(slice(None), slice(None)) + place] = window.padded_count(place)
    return [np.where(count > 0, best / count, 0)]


@define("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(g):
    x = g.real(0)
    axes = tuple(range(2, x.ndim))
    if g.op == "GlobalAveragePool":
        return [np.mean(x, axes, keepdims=True)]
    if g.op == "GlobalMaxPool":
        return [np.max(x, axes, keepdims=True)]
    p = g.attr("p", 2)
    return [np.sum(np.abs(x) ** p, axes, keepdims=True) ** (1 / p)]


@define("MaxRoiPool")
def roi_pool(g):
    x, rois = g.real(0), g.real(1)
    scale = g.attr("spatial_scale", 1.0)
    height, width = g.attr("pooled_shape")
    y = np.zeros((rois.shape[0], x.shape[1], height, width))
    for r, roi in enumerate(rois):
        left, top, right, bottom = (int(math.floor(v * scale + 0.5)) for v in roi[1:])
        tall, wide = max(bottom - top + 1, 1) / height, max(right - left + 1, 1) / width
        for i, j in np.ndindex(height, width):
            rows = [min(max(v + top, 0), x.shape[2])
                    for v in (math.floor(i * tall), math.ceil((i + 1) * tall))]
            cols = [min(max(v + left, 0), x.shape[3])
                    for v in (math.floor(j * wide), math.ceil((j + 1) * wide))]
            part = x[int(roi[0]), :, rows[0]:rows[1], cols[0]:cols[1]]
            y[r, :, i, j] = part.max((1, 2)) if part.size else 0
    return [y]


def bilinear(image, row, col):
    """(weight, value of each channel) of the four elements around a place."""
    height, width = image.shape[1:]
    if row < -1 or row > height or col < -1 or col > width:
        return [(0.0, np.zeros(image.shape[0]))] * 4
    row, col = max(row, 0), max(col, 0)
    y0, x0 = int(row), int(col)
    if y0 >= height - 1:
        row = y0 = height - 1
    if x0 >= width - 1:
        col = x0 = width - 1
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    ly, lx = row - y0, col - x0
    return [((1 - ly) * (1 - lx), image[:, y0, x0]), ((1 - ly) * lx, image[:, y0, x1]),
            (ly * (1 - lx), image[:, y1, x0]), (ly * lx, image[:, y1, x1])]


@define("RoiAlign")
def roi_align(g):
    x, rois, batch = g.real(0), g.real(1), g.raw(2)
    half = g.opset >= 16 and g.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    scale, ratio = g.attr("spatial_scale", 1.0), g.attr("sampling_ratio", 0)
    height, width = g.attr("output_height", 1), g.attr("output_width", 1)
    y = np.zeros((rois.shape[0], x.shape[1], height, width))
    for r, roi in enumerate(rois):
        left, top, right, bottom = (v * scale - (0.5 if half else 0) for v in roi)
        wide, tall = right - left, bottom - top
        if not half:
            wide, tall = max(wide, 1.0), max(tall, 1.0)
        rows = ratio if ratio > 0 else math.ceil(tall / height)
        cols = ratio if ratio > 0 else math.ceil(wide / width)
        for i, j in np.ndindex(height, width):
            parts = []
            for a, b in np.ndindex(rows, cols):
                parts.append(bilinear(x[int(batch[r])],
                                      top + tall / height * (i + (a + 0.5) / rows),
                                      left + wide / width * (j + (b + 0.5) / cols)))
            if not parts:
                continue
            if g.attr("mode", "avg") == "avg":
                y[r, :, i, j] = sum(w * v for four in parts for w, v in four) / len(parts)
            else:
                y[r, :, i, j] = np.max([np.max([w * v for w, v in four], 0) for four in parts], 0)
    return [y]


# --- convolution ---


def convolve(x, w, window, group):
    """The sum of the products that lie in the input, for each output channel."""
    y = np.zeros((x.shape[0], w.shape[0]) + tuple(window.out), x.dtype)
    inner, outer = w.shape[1], w.shape[0] // group
    for offset in window.offsets():
        found = window.slices(offset)
        if found is None:
            continue
        to, of = ((slice(None),) + part for part in found)
        for o in range(w.shape[0]):
            first = o // outer * inner
            for c in range(inner):
                y[:, o][to] += x[:, first + c][of] * w[(o, c) + offset]
    return y


@define("Conv")
def conv(g):
    x, w = g.real(0), g.real(1)
    y = convolve(x, w, Window(g, x.shape[2:], list(w.shape[2:])), g.attr("group", 1))
    return [y if g.raw(2) is None else y + point(g.real(2), y.shape, 1)]


@define("ConvInteger")
def conv_integer(g):
    x, w = g.whole(0), g.whole(1)
    x, w = x - point(g.whole(2), x.shape, 1), w - point(g.whole(3), w.shape, 0)
    return [convolve(x, w, Window(g, x.shape[2:], list(w.shape[2:])), g.attr("group", 1))]


@define("QLinearConv")
def qlinear_conv(g):
    x, w = g.whole(0) - g.whole(2), g.whole(3)
    w = w - point(g.whole(5), w.shape, 0)
    y = convolve(x, w, Window(g, x.shape[2:], list(w.shape[2:])), g.attr("group", 1))
    y = y if g.raw(8) is None else y + point(g.whole(8), y.shape, 1)
    scale = g.real(1) * point(g.real(4), y.shape, 1) / g.real(6)
    return [requantized(y, scale, g.whole(7), g.out[0])]


@define("ConvTranspose")
def conv_transpose(g):
    x, w = g.real(0), g.real(1)
    d, group = x.ndim - 2, g.attr("group", 1)
    strides, dilations = g.attr("strides") or [1] * d, g.attr("dilations") or [1] * d
    extra = g.attr("output_padding") or [0] * d
    pads = list(g.attr("pads") or [0] * 2 * d)
    auto = g.attr("auto_pad", "NOTSET")
    full = [strides[i] * (x.shape[i + 2] - 1) + extra[i] + dilations[i] * (w.shape[i + 2] - 1) + 1
            for i in range(d)]
    if auto.startswith("SAME"):
        for i in range(d):
            # "output_shape[i] = input_shape[i] * strides[i]"; total_padding = full - output_shape
            total = full[i] - x.shape[i + 2] * strides[i]
            half = total // 2
            pads[i] = half if auto == "SAME_UPPER" else total - half
            pads[i + d] = total - pads[i]
    elif auto == "VALID":
        pads = [0] * 2 * d
    out = [full[i] - pads[i] - pads[i + d] for i in range(d)]
    outer = w.shape[1]
    y = np.zeros((x.shape[0], outer * group, *out))
    for place in itertools.product(*(range(n) for n in x.shape[2:])):
        for offset in itertools.product(*(range(n) for n in w.shape[2:])):
            at = tuple(place[i] * strides[i] + offset[i] * dilations[i] - pads[i] for i in range(d))
            if not all(0 <= a < out[i] for i, a in enumerate(at)):
                continue
            for c in range(w.shape[0]):
                first = c // (w.shape[0] // group) * outer
                for o in range(outer):
                    y[(slice(None), first + o) + at] += x[(slice(None), c) + place] * \
                        w[(c, o) + offset]
    return [y if g.raw(2) is None else y + point(g.real(2), y.shape, 1)]


# --- normalization ---


def normalized(x, axes, epsilon):
    mean = np.mean(x, axes, keepdims=True)
    return (x - mean) / np.sqrt(np.mean((x - mean) ** 2, axes, keepdims=True) + epsilon)


@define("BatchNormalization")
def batch_norm(g):
    x = g.real(0)
    scale, bias, mean, variance = (point(g.real(i), x.shape, 1) for i in range(1, 5))
    return [(x - mean) / np.sqrt(variance + g.attr("epsilon", 1e-5)) * scale + bias]


@define("LayerNormalization", "RMSNormalization")
def layer_norm(g):
    x = g.real(0)
    axes = tuple(range(g.attr("axis", -1) % x.ndim, x.ndim))
    epsilon = g.attr("epsilon", 1e-5)
    if g.op == "LayerNormalization":
        y = normalized(x, axes, epsilon) * g.real(1)
    else:
        y = x / np.sqrt(np.mean(x * x, axes, keepdims=True) + epsilon) * g.real(1)
    return [y if g.raw(2) is None else y + g.real(2)]


@define("InstanceNormalization", "GroupNormalization")
def group_norm(g):
    x = g.real(0)
    epsilon = g.attr("epsilon", 1e-5)
    if g.op == "InstanceNormalization":
        y = normalized(x, tuple(range(2, x.ndim)), epsilon)
        return [y * point(g.real(1), x.shape, 1) + point(g.real(2), x.shape, 1)]
    groups = g.attr("num_groups")
    parts = x.reshape(x.shape[0], groups, -1)
    y = normalized(parts, (2,), epsilon)
    scale, bias = g.real(1), g.real(2)
    if g.opset < 21:
        scale, bias = (np.repeat(v, x.shape[1] // groups) for v in (scale, bias))
    y = y.reshape(x.shape)
    shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
    return [y * scale.reshape(shape) + bias.reshape(shape)]


@define("MeanVarianceNormalization")
def mean_variance(g):
    x = g.real(0)
    axes = tuple(g.attr("axes", [0, 2, 3]))
    mean = np.mean(x, axes, keepdims=True)
    spread = np.mean((x - mean) ** 2, axes, keepdims=True)
    return [(x - mean) / (np.sqrt(spread) + 1e-9)]


@define("LRN")
def lrn(g):
    x, size = g.real(0), g.attr("size")
    channels = x.shape[1]
    total = np.zeros(x.shape)
    for c in range(channels):
        low = max(0, c - (size - 1) // 2)
        high = min(channels - 1, c + -(-(size - 1) // 2))
        total[:, c] = np.sum(x[:, low:high + 1] ** 2, 1)
    alpha, beta = g.attr("alpha", 1e-4), g.attr("beta", 0.75)
    return [x / (g.attr("bias", 1.0) + alpha / size * total) ** beta]


@define("LpNormalization")
def lp_norm(g):
    x, axis, p = g.real(0), g.attr("axis", -1), g.attr("p", 2)
    norm = np.sum(np.abs(x), axis, keepdims=True) if p == 1 else \
        np.sqrt(np.sum(x * x, axis, keepdims=True))
    return [np.where(norm == 0, 0, x / norm)]


# --- recurrences ---


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step_rnn(x, w, r, bias, state, g):
    h = state[0]
    size = h.shape[-1]
    return [np.tanh(clipped(x @ w.T + h @ r.T + bias[:size] + bias[size:], g))]


def clipped(x, g):
    limit = g.attr("clip")
    return x if limit is None else np.clip(x, -limit, limit)


def step_gru(x, w, r, bias, state, g):
    h = state[0]
    n = h.shape[-1]
    wb, rb = bias[:3 * n], bias[3 * n:]
    a, b = x @ w.T + wb, h @ r.T
    z = sigmoid(clipped(a[:, :n] + b[:, :n] + rb[:n], g))
    reset = sigmoid(clipped(a[:, n:2 * n] + b[:, n:2 * n] + rb[n:2 * n], g))
    if g.attr("linear_before_reset", 0):
        inner = reset * (b[:, 2 * n:] + rb[2 * n:])
    else:
        inner = (reset * h) @ r[2 * n:].T + rb[2 * n:]
    new = np.tanh(clipped(a[:, 2 * n:] + inner, g))
    return [(1 - z) * new + z * h]


def step_lstm(x, w, r, bias, state, g, peep):
    h, c = state
    n = h.shape[-1]
    a = x @ w.T + h @ r.T + bias[:4 * n] + bias[4 * n:]
    pi, po, pf = peep[:n], peep[n:2 * n], peep[2 * n:]
    i = sigmoid(clipped(a[:, :n] + pi * c, g))
    f = 1 - i if g.attr("input_forget", 0) else sigmoid(clipped(a[:, 2 * n:3 * n] + pf * c, g))
    c = f * c + i * np.tanh(clipped(a[:, 3 * n:], g))
    o = sigmoid(clipped(a[:, n:2 * n] + po * c, g))
    return [o * np.tanh(c), c]


@define("RNN", "GRU", "LSTM")
def recurrent(g):
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[g.op]
    x, w, r = g.real(0), g.real(1), g.real(2)
    layout, n = g.attr("layout", 0), g.attr("hidden_size")
    x = np.swapaxes(x, 0, 1) if layout else x
    steps, batch, d = x.shape[0], x.shape[1], w.shape[0]
    bias = np.zeros((d, 2 * gates * n)) if g.raw(3) is None else g.real(3)
    lengths = np.full(batch, steps) if g.raw(4) is None else g.raw(4)
    count = 2 if g.op == "LSTM" else 1
    peep = np.zeros((d, 3 * n)) if g.op != "LSTM" or g.raw(7) is None else g.real(7)
    y = np.zeros((steps, d, batch, n))
    last = np.zeros((count, d, batch, n))
    for way in range(d):
        states = []
        for k in range(count):
            given = g.real(5 + k)
            given = np.zeros((d, batch, n)) if given is None else \
                np.swapaxes(given, 0, 1) if layout else given
            states.append(given[way])
        back = way == 1 or g.attr("direction", "forward") == "reverse"
        for b in range(batch):
            state = [s[b:b + 1] for s in states]
            order = range(int(lengths[b]))
            for t in reversed(order) if back else order:
                one = {"RNN": step_rnn, "GRU": step_gru, "LSTM": step_lstm}[g.op]
                more = (peep[way],) if g.op == "LSTM" else ()
                state = one(x[t, b:b + 1], w[way], r[way], bias[way], state, g, *more)
                y[t, way, b] = state[0][0]
            for k in range(count):
                last[k, way, b] = state[k][0]
    if layout:
        return [y.transpose(2, 0, 1, 3)] + [np.swapaxes(one, 0, 1) for one in last]
    return [y] + list(last)


# --- signals ---


def transform(x, length, inverse):
    """DFT over the second axis of (batch, time, real and imaginary part)."""
    x = x[:, :length]
    real = x[..., 0]
    imaginary = x[..., 1] if x.shape[-1] == 2 else np.zeros(real.shape)
    out = np.zeros((x.shape[0], length, 2))
    for k in range(length):
        angle = (2 if inverse else -2) * np.pi * (k * np.arange(x.shape[1]) % length) / length
        c, s = np.cos(angle), np.sin(angle)
        if x.shape[-1] == 1:
            out[:, k] = np.stack([(real * c).sum(1), (real * s).sum(1)], -1)
        else:
            out[:, k] = np.stack([(real * c - imaginary * s).sum(1),
                                  (real * s + imaginary * c).sum(1)], -1)
    return out / length if inverse else out


@define("DFT")
def dft(g):
    x = g.real(0)
    axis = g.attr("axis", 1) if g.opset < 20 else -2 if g.raw(2) is None else int(g.raw(2))
    x = np.moveaxis(x, axis, -2)
    length = x.shape[-2] if g.raw(1) is None else int(g.raw(1))
    y = transform(x.reshape(-1, *x.shape[-2:]), length, g.attr("inverse", 0))
    y = y[:, :length // 2 + 1] if g.attr("onesided", 0) else y
    return [np.moveaxis(y.reshape(*x.shape[:-2], *y.shape[1:]), -2, axis)]


@define("STFT")
def stft(g):
    x, step, window = g.real(0), int(g.raw(1)), g.real(2)
    frame = int(g.raw(3)) if g.raw(3) is not None else window.size
    window = np.ones(frame) if window is None else window
    parts = []
    for first in range(0, x.shape[1] - frame + 1, step):
        y = transform(x[:, first:first + frame] * window[None, :, None], frame, 0)
        parts.append(y[:, :frame // 2 + 1] if g.attr("onesided", 1) else y)
    return [np.stack(parts, 1)]


@define("AffineGrid")
def affine_grid(g):
    """Places from -1 to 1, or the middles of equal parts, x first, times theta."""
    theta, size = g.real(0), g.raw(1).tolist()[2:]
    places = [(2 * np.arange(n) + 1) / n - 1 if g.attr("align_corners", 0) == 0 else
              2 * np.arange(n) / max(n - 1, 1) - 1 for n in size]
    grid = [*reversed(np.meshgrid(*places, indexing="ij")), np.ones(size)]
    return [sum(theta[(slice(None), slice(None), k) + (None,) * len(size)] * one
                for k, one in enumerate(grid)).transpose(0, *range(2, len(size) + 2), 1)]
