# SPDX-License-Identifier: Apache-2.0
"""Definitions of operators that choose, move and order elements."""
import itertools

import numpy as np

from definitions import WHOLE, define


@define("NonZero")
def nonzero(g):
    x = g.value(0)
    if x.ndim == 0:
        return [np.zeros((0, int(x != 0)), np.int64)]
    return [np.stack([p.astype(np.int64) for p in np.nonzero(x)])]


@define("OneHot")
def one_hot(g):
    places = g.raw(0).astype(np.int64)
    depth = int(g.raw(1).ravel()[0])
    off, on = g.value(2)
    axis = g.attr("axis", -1) % (places.ndim + 1)
    hits = np.stack([places % depth == d if g.opset >= 11 else places == d for d in range(depth)],
                    axis)
    inside = np.expand_dims((places >= -depth) & (places < depth), axis)
    return [np.where(hits & inside, on, off)]


@define("Slice")
def slice_(g):
    x = g.raw(0)
    lists = [g.attr(n) for n in ("starts", "ends", "axes")] + [None]
    if g.opset >= 10:
        lists = [None if g.raw(i) is None else g.raw(i).tolist() for i in range(1, 5)]
    starts, ends, axes, steps = lists
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps):
        n = x.shape[axis]
        start, end = (v + n if v < 0 else v for v in (start, end))
        # "clamped to [0, dims] for positive stepping and [0, dims-1] for negative stepping", the
        # end to [-1, dims-1]
        start = min(max(start, 0), n if step > 0 else n - 1)
        end = min(max(end, 0), n) if step > 0 else min(max(end, -1), n - 1)
        x = np.take(x, list(range(start, end, step)) if n else [], axis)
    return [x]


@define("Shape")
def shape_of(g):
    dims = np.array(g.raw(0).shape, np.int64)
    ends = []
    for name, default in (("start", 0), ("end", dims.size)):
        v = g.attr(name, default)
        ends.append(min(max(v + dims.size if v < 0 else v, 0), dims.size))
    return [dims[ends[0]:max(ends[1], ends[0])]]


@define("Unsqueeze")
def unsqueeze(g):
    x = g.raw(0)
    axes = g.attr("axes") if g.opset < 13 else g.raw(1).tolist()
    rank = x.ndim + len(axes)
    new = {a % rank for a in axes}
    rest = iter(x.shape)
    return [x.reshape([1 if i in new else next(rest) for i in range(rank)])]


@define("Pad")
def pad(g):
    x = g.raw(0)
    pads = g.attr("pads") if g.opset < 11 else g.raw(1).tolist()
    axes = list(range(x.ndim))
    if g.opset >= 18 and g.raw(3) is not None:
        axes = [a % x.ndim for a in g.raw(3).tolist()]
    mode = g.attr("mode", "constant")
    fill = g.attr("value", 0.0) if g.opset < 11 else 0
    if g.opset >= 11 and g.raw(2) is not None:
        fill = g.raw(2).ravel()[0]
    for i, axis in enumerate(axes):
        before, after = pads[i], pads[i + len(axes)]
        n = x.shape[axis]
        places = range(-before, n + after)
        if mode == "constant":
            x = np.moveaxis(x, axis, 0)
            rows = [x[p] if 0 <= p < n else np.full(x.shape[1:], fill).astype(x.dtype)
                    for p in places]
            x = np.moveaxis(np.stack(rows) if rows else x[:0], 0, axis)
            continue
        if mode == "edge":
            places = [min(max(p, 0), n - 1) for p in places]
        elif mode == "wrap":
            places = [p % n for p in places]
        else:
            around = max(2 * (n - 1), 1)
            places = [min(p % around, around - p % around) if n > 1 else 0 for p in places]
        x = np.take(x, places, axis)
    return [x]


@define("Unique")
def unique(g):
    x = g.raw(0)
    axis = g.attr("axis")
    rows = x.reshape(-1, 1) if axis is None else np.moveaxis(x, axis, 0)
    keys = [tuple(r.ravel().astype(np.float64)) if x.dtype.kind not in WHOLE
            else tuple(r.ravel().tolist()) for r in rows]
    order = list(dict.fromkeys(keys))
    if g.attr("sorted", 1):
        order.sort()
    index = [keys.index(k) for k in order]
    found = np.stack([rows[i] for i in index])
    found = found.ravel() if axis is None else np.moveaxis(found, 0, axis)
    return [found, np.array(index), np.array([order.index(k) for k in keys]),
            np.array([keys.count(k) for k in order])]


@define("TopK")
def top_k(g):
    x = g.raw(0)
    axis = g.attr("axis", -1) % x.ndim
    k = g.attr("k") if g.opset < 10 else int(g.raw(1).ravel()[0])
    values = np.moveaxis(x, axis, -1)
    keys = values.astype(np.float64) if x.dtype.kind not in WHOLE else values.astype(object)
    keys = keys if g.attr("largest", 1) == 0 else -keys
    if x.dtype.kind not in WHOLE and g.attr("largest", 1):
        keys = np.where(np.isnan(keys), -np.inf, keys)  # the greatest of all, as NumPy sorts
        keys = np.where((keys == -np.inf) & ~np.isnan(values.astype(np.float64)), -1.7e308, keys)
    order = np.argsort(keys, axis=-1, kind="stable")[..., :k].astype(np.int64)
    best = np.take_along_axis(values, order, -1)
    return [np.moveaxis(best, -1, axis), np.moveaxis(order, -1, axis)]


@define("Scatter", "ScatterElements", "ScatterND")
def scatter(g):
    x = g.value(0).copy()
    places, updates = g.raw(1).astype(np.int64), g.value(2)
    combine = {"add": np.add, "mul": np.multiply, "max": np.maximum,
               "min": np.minimum}.get(g.attr("reduction", "none"))
    if g.op == "ScatterND":
        last = places.shape[-1]
        for where in np.ndindex(places.shape[:-1]):
            at = tuple(int(p) % x.shape[i] for i, p in enumerate(places[where]))
            x[at] = updates[where] if combine is None else combine(x[at], updates[where])
        assert last <= x.ndim
        return [x]
    axis = g.attr("axis", 0) % x.ndim
    for where in np.ndindex(places.shape):
        at = list(where)
        at[axis] = int(places[where]) % x.shape[axis]
        at = tuple(at)
        x[at] = updates[where] if combine is None else combine(x[at], updates[where])
    return [x]


@define("Col2Im")
def col2im(g):
    x = g.value(0)
    image, block = g.raw(1).tolist(), g.raw(2).tolist()
    d = len(image)
    strides, dilations = g.attr("strides", [1] * d), g.attr("dilations", [1] * d)
    pads = g.attr("pads", [0] * 2 * d)
    counts = [(image[i] + pads[i] + pads[i + d] - dilations[i] * (block[i] - 1) - 1) // strides[i]
              + 1 for i in range(d)]
    area = int(np.prod(block))
    y = np.zeros((x.shape[0], x.shape[1] // area, *image), x.dtype)
    for k, offset in enumerate(itertools.product(*(range(b) for b in block))):
        for w, start in enumerate(itertools.product(*(range(c) for c in counts))):
            at = [start[i] * strides[i] + offset[i] * dilations[i] - pads[i] for i in range(d)]
            if all(0 <= a < image[i] for i, a in enumerate(at)):
                y[(slice(None), slice(None), *at)] += x[:, k::area, w]
    return [y]


@define("Dropout")
def dropout(g):
    return [g.value(0), np.ones(g.raw(0).shape, bool)]


@define("SequenceInsert")
def sequence_insert(g):
    """How many items there are then, and one of them."""
    nodes = {n.op_type: n for n in g.case.nodes}
    values = {**g.case.inputs, **g.case.constants}
    items = [values[name] for name in nodes["SequenceConstruct"].input]
    _, extra, *place = nodes["SequenceInsert"].input
    items.insert(int(values[place[0]]) if place else len(items), values[extra])
    return [np.array(len(items)), items[int(values[nodes["SequenceAt"].input[1]])]]
