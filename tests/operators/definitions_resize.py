# SPDX-License-Identifier: Apache-2.0
"""Definitions of Resize and Upsample, one axis after the other, and of what samples an image at
places between its elements."""
import itertools
import math

import numpy as np

from definitions import define



class Axis:
    """One axis that is resized."""

    def __init__(self, length, scale, wanted, roi):
        self.length, self.scale, self.wanted, self.roi = length, scale, wanted, roi

    def original(self, mode, i):
        """x_original of x_resized, as the specification writes it."""
        out = self.scale * self.length
        if mode == "align_corners":
            return 0.0 if out == 1 else i * (self.length - 1) / (out - 1)
        if mode == "asymmetric":
            return i / self.scale
        if mode == "tf_crop_and_resize":
            begin, end = self.roi
            if self.wanted > 1:
                return begin * (self.length - 1) + \
                    i * (end - begin) * (self.length - 1) / (self.wanted - 1)
            return 0.5 * (begin + end) * (self.length - 1)
        if mode == "pytorch_half_pixel" and self.wanted <= 1:
            return 0.0
        if mode == "tf_half_pixel_for_nn":
            return (i + 0.5) / self.scale
        shift = self.length / 2 * (1 - self.wanted / out) if mode == "half_pixel_symmetric" else 0.0
        return shift + (i + 0.5) / self.scale - 0.5


def triangle(x):
    return max(0.0, 1 - abs(x))


def cubic(a):
    def weight(x):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x ** 3 - (a + 3) * x ** 2 + 1
        return a * x ** 3 - 5 * a * x ** 2 + 8 * a * x - 4 * a if x < 2 else 0.0
    return weight


def nearest(g, x, scale):
    if g.opset < 11:
        # Version 10 takes the element behind where it shrinks, as ONNX's test of it has it.
        return math.ceil(x) if g.opset == 10 and scale < 1 else math.floor(x)
    return {"floor": math.floor(x), "ceil": math.ceil(x), "round_prefer_ceil": math.floor(x + 0.5),
            "round_prefer_floor": math.ceil(x - 0.5)}[g.attr("nearest_mode", "round_prefer_floor")]


def taken(g, axis, x):
    """The element that is nearest to x."""
    return min(max(nearest(g, x, axis.scale), 0), axis.length - 1)


def weights(g, axis, x):
    """What each element counts; those outside count for the outermost ones."""
    row = [0.0] * axis.length
    mode = g.attr("mode", "nearest")
    if mode == "nearest":
        row[taken(g, axis, x)] = 1.0
        return row
    form = triangle if mode == "linear" else cubic(g.attr("cubic_coeff_a", -0.75))
    narrow = min(axis.scale, 1.0) if g.attr("antialias", 0) else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / narrow)
    total = 0.0
    for at in range(math.floor(x) - reach, math.floor(x) + reach + 2):
        one = form((at - x) * narrow)
        if g.attr("exclude_outside", 0) and not 0 <= at < axis.length:
            continue
        row[min(max(at, 0), axis.length - 1)] += one
        total += one
    return [w / total for w in row]


def axes_of(g, shape):
    """The axes by number."""
    rank = len(shape)
    named = [a % rank for a in g.attr("axes", range(rank))]
    modern = g.opset >= 11 and g.op == "Resize"
    roi = g.real(1) if modern else None
    scales = g.attr("scales") if g.raw(2 if modern else 1) is None else g.real(2 if modern else 1)
    sizes = g.raw(3) if modern else None
    sizes = None if sizes is None or sizes.size == 0 else sizes.tolist()
    policy = g.attr("keep_aspect_ratio_policy", "stretch")
    if sizes is not None:
        scales = [s / shape[a] for s, a in zip(sizes, named)]
        if policy != "stretch":
            common = (min if policy == "not_larger" else max)(scales)
            scales = [common] * len(named)
            sizes = [math.floor(common * shape[a] + 0.5) for a in named]
    found = {}
    for i, a in enumerate(named):
        part = (roi[i], roi[i + len(named)]) if roi is not None and roi.size else (0.0, 1.0)
        wanted = sizes[i] if sizes is not None else math.floor(shape[a] * scales[i] + 1e-9)
        found[a] = Axis(shape[a], float(scales[i]), wanted, part)
    return found


def mode_of(g):
    modern = g.opset >= 11
    return g.attr("coordinate_transformation_mode", "half_pixel") if modern else "asymmetric"


def axes_resized(g, shape):
    """The number of each axis that is resized, the axis, and where its new elements lie."""
    mode = mode_of(g)
    for number, axis in axes_of(g, shape).items():
        # What keeps its length is not resized, wherever the mode would have it begin.
        if axis.wanted != axis.length or axis.scale != 1 or mode == "tf_crop_and_resize":
            yield number, axis, [axis.original(mode, i) for i in range(axis.wanted)]


@define("Resize", "Upsample")
def resize(g):
    x = g.value(0) if g.attr("mode", "nearest") == "nearest" else g.real(0)
    outside = np.zeros((1,) * x.ndim, bool)
    for number, axis, places in axes_resized(g, x.shape):
        table = np.array([weights(g, axis, p) for p in places]).reshape(axis.wanted, axis.length)
        x = np.moveaxis(contracted(table, np.moveaxis(x, number, 0)), 0, number)
        gone = np.array([p < 0 or p > axis.length - 1 for p in places], bool)
        outside = outside | gone.reshape([-1 if i == number else 1 for i in range(x.ndim)])
    if mode_of(g) == "tf_crop_and_resize":
        x = np.where(outside, g.attr("extrapolation_value", 0.0), x)
    return [x]


def contracted(table, x):
    """Sums of the elements that count for something: an infinity that does not stays out."""
    rows = []
    for row in table:
        terms = [x[i] if w == 1 else w * x[i] for i, w in enumerate(row) if w]
        rows.append(sum(terms[1:], terms[0]) if terms else np.zeros(x.shape[1:]))
    return np.stack(rows) if rows else np.zeros((0,) + x.shape[1:], x.dtype)


# --- sampling ---


def reflected(x, low, high):
    """A coordinate mirrored at both ends until it lies between them."""
    span = high - low
    if span == 0:
        return low
    away = abs(x - low) % (2 * span)
    return low + min(away, 2 * span - away)


class Sampler:
    """One image of GridSample, and how what is outside of it is met."""

    def __init__(self, g, image):
        self.image, self.sizes = image, image.shape
        self.padding = g.attr("padding_mode", "zeros")
        self.corners = bool(g.attr("align_corners", 0))
        self.mode = {"bilinear": "linear", "bicubic": "cubic"}.get(
            g.attr("mode", "linear"), g.attr("mode", "linear"))

    def edges(self, axis):
        n = self.sizes[axis]
        return (0, n - 1) if self.corners else (-0.5, n - 0.5)

    def place(self, x, axis):
        n = self.sizes[axis]
        x = (x + 1) / 2 * (n - 1) if self.corners else ((x + 1) * n - 1) / 2
        low, high = self.edges(axis)
        if low <= x <= high or self.padding == "zeros":
            return x
        return min(max(x, 0), n - 1) if self.padding == "border" else reflected(x, low, high)

    def element(self, at):
        inside = []
        for axis, i in enumerate(at):
            n = self.sizes[axis]
            if not 0 <= i < n:
                if self.padding == "zeros":
                    return 0.0
                if self.padding == "reflection":
                    i = int(reflected(i, *self.edges(axis)))
                i = min(max(i, 0), n - 1)
            inside.append(i)
        return self.image[tuple(inside)]

    def at(self, place):
        """`place`: coordinates in the order of the image's axes."""
        places = [self.place(x, axis) for axis, x in enumerate(place)]
        if self.mode == "nearest":
            return self.element([round(p) for p in places])
        reach, form = (0, triangle) if self.mode == "linear" else (1, cubic(-0.75))
        total = 0.0
        taps = [range(math.floor(p) - reach, math.floor(p) + reach + 2) for p in places]
        for at in itertools.product(*taps):
            weight = math.prod(form(i - p) for i, p in zip(at, places))
            total += weight * self.element(at) if weight else 0.0
        return total


@define("GridSample")
def grid_sample(g):
    x, grid = g.real(0), g.real(1)
    y = np.zeros(x.shape[:2] + grid.shape[1:-1])
    if not np.isfinite(grid).all():
        return None
    for n, c in np.ndindex(x.shape[:2]):
        sampler = Sampler(g, x[n, c])
        for where in np.ndindex(grid.shape[1:-1]):
            y[(n, c) + where] = sampler.at(grid[(n,) + where][::-1])
    return [y]


def deformed(image, row, col):
    """Bilinear, where elements outside count as 0."""
    height, width = image.shape
    if not (-1 < row < height and -1 < col < width):  # NaN too
        return 0.0
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(col), math.floor(col) + 1):
            weight = (1 - abs(row - i)) * (1 - abs(col - j))
            if weight and 0 <= i < height and 0 <= j < width:
                total += weight * image[i, j]
    return total


@define("DeformConv")
def deform_conv(g):
    x, w, offset, mask = g.real(0), g.real(1), g.real(2), g.real(4)
    height, width = w.shape[2:]
    strides, pads = g.attr("strides", [1, 1]), g.attr("pads", [0] * 4)
    dilations, groups = g.attr("dilations", [1, 1]), g.attr("offset_group", 1)
    y = np.zeros((x.shape[0], w.shape[0]) + offset.shape[2:])
    per_group, per_offset = w.shape[0] // g.attr("group", 1), x.shape[1] // groups
    for n, o, i, j in np.ndindex(y.shape):
        for c, a, b in np.ndindex(w.shape[1:]):
            channel = o // per_group * w.shape[1] + c
            k = (channel // per_offset * height + a) * width + b
            row = i * strides[0] - pads[0] + a * dilations[0] + offset[n, 2 * k, i, j]
            col = j * strides[1] - pads[1] + b * dilations[1] + offset[n, 2 * k + 1, i, j]
            one = w[o, c, a, b] * deformed(x[n, channel], row, col)
            y[n, o, i, j] += one if mask is None else one * mask[n, k, i, j]
    return [y if g.raw(3) is None else y + g.real(3).reshape(1, -1, 1, 1)]
