# SPDX-License-Identifier: Apache-2.0
"""Conditions of the rules in settled_rules.py: on a model, or a mask of the elements that they
settle."""
import copy
import pathlib
import sys

import numpy as np
import onnx

import definitions
from definitions_microsoft import block_weights
from generate import B16, D, F, FLOAT8, FLOATS, FOUR_BITS, H, numpy_type

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "precision"))
from kiln_api import sums_are_cut_off  # noqa: E402


def array(case, index):
    """An input of the case's operator, or None."""
    return definitions.Given(case).raw(index)


def arrays(case):
    return {**case.inputs, **case.constants}


def special(case):
    """NaN or an infinity goes in."""
    return any(case.types[n] in FLOATS and not np.isfinite(a.astype(np.float64)).all()
               for n, a in arrays(case).items())


def nan_in(case):
    return any(case.types[n] in FLOATS and np.isnan(a.astype(np.float64)).any()
               for n, a in arrays(case).items())


def special_c(case):
    """NaN or an infinity goes in at the third input."""
    c = array(case, 2)
    return c is not None and not np.isfinite(c.astype(np.float64)).all()


def tainted(case, detail):
    """The elements that change with what stands for NaN and the infinities: nothing else is at
    stake in them."""
    place = [n for n, _ in case.outputs].index(detail.name)
    results = []
    for values in ((0.5, -1.5, 2.5), (-2e3, 3e3, -4e3), (2.5e3, -3.5e3, 4.5e3)):
        other = copy.deepcopy(case)
        for kept in (other.inputs, other.constants):
            for name, one in kept.items():
                if other.types[name] in FLOATS:
                    wide = one.astype(np.float64)
                    for fault, value in zip((np.isnan(wide), wide == np.inf, wide == -np.inf),
                                            values):
                        wide[fault] = value
                    kept[name] = wide.astype(one.dtype)
        outputs = definitions.outputs_of(other)
        if outputs is None or outputs[place].shape != detail.wrong.shape:
            return False
        results.append(outputs[place])
    return (results[0] != results[1]) | (results[0] != results[2])


def narrow_windows(case):
    """Of a prompt, in ONNX Runtime's way that takes a softcap and a sink."""
    given = case.attributes
    slow = given.get("softcap", 0) or given.get("smooth_softmax") or array(case, 11) is not None
    return slow and given.get("local_window_size", -1) >= 0


def in_padding(case, detail):
    lasts, tokens = array(case, 5).ravel(), detail.wrong.shape[1]
    if detail.name != "y0" or array(case, 6).item() != tokens:
        return False
    padding = np.arange(tokens) > lasts[:, None]
    return np.broadcast_to(padding[:, :, None], detail.wrong.shape)


def same_place(case, detail):
    """The elements of which the input's element at the same place is NaN or an infinity."""
    x = array(case, 0)
    return x.shape == detail.wrong.shape and ~np.isfinite(x.astype(np.float64))


def nan_lanes(case, detail):
    """The elements that come out of a row with NaN in it."""
    bad = np.isnan(array(case, 0).astype(np.float64))
    axis = case.attributes.get("axis", 1 if case.opset < 13 and case.op == "Hardmax" else
                               -1 if case.op == "Hardmax" else 0) % bad.ndim
    if case.op == "TopK":
        axis = case.attributes.get("axis", -1) % bad.ndim
        return np.broadcast_to(bad.any(axis, keepdims=True), detail.wrong.shape)
    if case.op == "Hardmax":
        axes = tuple(range(axis, bad.ndim)) if case.opset < 13 else axis
        return np.broadcast_to(bad.any(axes, keepdims=True), bad.shape)
    return bad.any(axis, keepdims=bool(case.attributes.get("keepdims", 1)))


def reals(detail):
    with np.errstate(all="ignore"):
        return detail.ours.astype(np.float64), np.asarray(detail.theirs).astype(np.float64)


def apart(detail):
    ours, theirs = reals(detail)
    return np.abs(ours - theirs)


def whole(dtype):
    return np.dtype(numpy_type(dtype)).kind in "iu" or dtype in FOUR_BITS


def whole_out(case):
    return whole(case.outputs[0][1])


def whole_in(case):
    return whole(case.types[case.nodes[0].input[0]])


def pairs(condition):
    """The pairs of elements that meet the condition, as reals."""
    return lambda case, detail: condition(*reals(detail))


one_apart = pairs(lambda a, b: np.abs(a - b) <= 1)
not_finite = pairs(lambda a, b: ~np.isfinite(a) | ~np.isfinite(b))


def largest(case):
    """The largest size of a whole number that goes in."""
    sizes = [float(np.abs(a.astype(np.float64)).max()) for n, a in arrays(case).items()
             if whole(case.types[n]) and a.size]
    return max(sizes, default=0.0)


def past(bits):
    return lambda case: whole_in(case) and largest(case) > 2 ** bits


def attr(name, *values):
    return lambda case: case.attributes.get(name) in values


def narrow(case):
    return any(t in (H, B16) for t in case.types.values())


def definition_with(case, change):
    """The definition's outputs before they are stored, where `change` was made of each input of
    the type of the first."""
    other = copy.deepcopy(case)
    names = data_names(case)
    for kept in (other.inputs, other.constants):
        for name, one in kept.items():
            kept[name] = change(one) if name in names else one
    return definitions.unstored(other)


def data_names(case):
    """The inputs that are of the first one's kind, not axes, shapes or scales."""
    node = definitions.Given(case).node
    formal = onnx.defs.get_schema(case.op, case.opset, "").inputs
    kinds = [formal[min(i, len(formal) - 1)].type_str for i in range(len(node.input))]
    return {name for name, kind in zip(node.input, kinds) if kind == kinds[0]}


def sizes_only(one):
    return np.abs(one) if one.dtype.kind in "iuf" or one.dtype == numpy_type(B16) else one


def magnitude(case):
    """The largest number that goes in or comes out, where all terms are counted by their size."""
    outputs = definition_with(case, sizes_only)
    sizes = [largest(case)]
    for one in outputs or []:
        if one is not None and np.asarray(one).size:
            sizes.append(float(np.abs(np.asarray(one).astype(np.float64)).max()))
    return max(sizes)


def off_by_terms(case, detail):
    """The difference is what sums in the narrow type lose: half a last bit for each term, of the
    sum of the terms' sizes."""
    outputs = definition_with(case, sizes_only)
    if outputs is None:
        return False
    size = np.asarray(outputs[0]).astype(np.float64)
    terms = max(16, array(case, 0).size // max(size.size, 1))
    return apart(detail) <= terms * epsilon_of(case) * size


def off_by_places(case, detail):
    """The difference is what places from -1 to 1 lose in the narrow type, of the sum of the sizes
    of a row that they are multiplied with."""
    size = np.abs(array(case, 0).astype(np.float64)).sum(-1)
    between = [1] * (detail.wrong.ndim - 2)
    return apart(detail) <= 16 * epsilon_of(case) * size.reshape(len(size), *between, -1)


def off_by_blocks(case, detail):
    """The difference is half a last bit of a float32 for each term, of the sum of their sizes."""
    g = definitions.Given(case)
    sizes = np.abs(g.real(0)) @ np.abs(block_weights(g)).T
    return apart(detail) <= g.attr("K") * 2.0 ** -24 * sizes


# Of products of bytes: the factor that rows or channels of the result depend on, the other one, and
# which of them is the signed one that is multiplied with unsigned ones.
BYTES = {"ConvInteger": (1, 0, 0), "QLinearConv": (3, 0, 3), "MatMulInteger": (0, 1, 1),
         "QLinearMatMul": (0, 3, 3)}


def cut_here(case):
    """A signed factor of 8 bits where the processor has no other instruction for its products."""
    signed = array(case, BYTES[case.op][2])
    return sums_are_cut_off() and signed.dtype == np.int8 and signed.size > 0


def cut_sums(case, detail):
    """The elements of which two products of bytes may pass 16 bits together, where the unsigned
    factor is moved to what is not negative."""
    rows, other, signed = BYTES[case.op]
    sizes = [np.abs(wide) if i == signed else wide - np.iinfo(array(case, i).dtype).min
             for i in (rows, other) for wide in [array(case, i).astype(np.int64)]]
    by_channel = "Conv" in case.op
    lists = sizes[0].reshape(len(sizes[0]), -1) if by_channel else sizes[0]
    most = np.sort(lists, -1)[..., -2:].sum(-1) * sizes[1].max()
    between = [1] * (detail.wrong.ndim - 2 if by_channel else 1)
    return np.broadcast_to((most > 2 ** 15 - 1).reshape(*most.shape, *between), detail.wrong.shape)


def epsilon_of(case):
    """Half of an element's last bit, of the narrowest real type that goes in."""
    sizes = {B16: 2.0 ** -8, H: 2.0 ** -11, F: 2.0 ** -24}
    return max(sizes.get(t, 2.0 ** -24) for t in case.types.values() if t in FLOATS)


def cancels(case, detail):
    """The difference is no more than some last bits of the terms, of which the mean is taken."""
    g = definitions.Given(case)
    x = g.real(0)
    if case.op == "LayerNormalization":
        count = int(np.prod(x.shape[:g.attr("axis", -1) % x.ndim]))
    else:
        count = x.shape[0] * (g.attr("num_groups") or x.shape[1])
    rows = x.reshape(count, -1)
    deviation = np.sqrt(rows.var(1) + g.attr("epsilon", 1e-5))
    size = max(1.0, np.nanmax(np.abs(rows).max(1) / deviation))
    return apart(detail) <= 16 * epsilon_of(case) * size ** 2 * np.abs(g.real(1)).max()


def squares_cancel(case, detail):
    x = array(case, 0).astype(np.float64)
    axes = tuple(case.attributes.get("axes", [0, 2, 3]))
    lost = epsilon_of(case) * np.mean(x * x, axes, keepdims=True)
    share = 16 * lost / (x.var(axes, keepdims=True) + 1e-18)
    return np.broadcast_to(share, x.shape) * np.abs(detail.ours.astype(np.float64)) \
        >= apart(detail)


def past_ends(case, detail):
    """The definition's real result is no number of the integer type, where the two differ."""
    outputs = definitions.unstored(case)
    if outputs is None:
        return False
    least, most = definitions.ends(case.outputs[0][1])
    real = np.asarray(outputs[0])
    return ~np.array([least <= v <= most for v in real.ravel().tolist()]).reshape(real.shape)


def slice_lists(case):
    g = definitions.Given(case)
    if case.opset < 10:
        return []
    lists = [None if g.raw(i) is None else g.raw(i).tolist() for i in range(1, 5)]
    axes = lists[2] or list(range(len(lists[0])))
    steps = lists[3] or [1] * len(lists[0])
    return list(zip(lists[0], lists[1], [g.raw(0).shape[a] for a in axes], steps))


def greatest_end(case):
    return any(step < 0 and end in (2 ** 31 - 1, 2 ** 63 - 1)
               for _, end, _, step in slice_lists(case))


def clamped_start(case):
    return any(step < 0 and start < -n for start, _, n, step in slice_lists(case))


def off_by_signal(case, detail):
    """The difference is some last bits of a float32 of the terms."""
    size = 1.0
    for index in (0, 2):
        one = array(case, index)
        if one is not None and one.dtype.kind == "f" and one.size:
            size *= np.abs(np.where(np.isfinite(one), one, 0)).max()
    size *= array(case, 0).size
    return apart(detail) <= 2.0 ** -21 * size


def past_32_bits(case, detail):
    g = definitions.Given(case)
    x = g.real(0)
    scale = definitions.along(g.real(1), x.shape, g.attr("axis", 1) % max(x.ndim, 1),
                              g.attr("block_size", 0))
    return np.broadcast_to(np.abs(x / scale) >= 2.0 ** 31 - 256, detail.wrong.shape)


def negative_pad(case):
    pads = case.attributes.get("pads") if case.opset < 11 else array(case, 1)
    return min(pads) < 0


def short_sequences(case):
    lengths = array(case, 4)
    steps = array(case, 0).shape[1 if case.attributes.get("layout") else 0]
    return lengths is not None and bool((lengths < steps).any())


def behind_axis(case):
    shape = array(case, 0).shape
    return int(np.prod(shape[case.attributes.get("axis", 1) % len(shape) + 1:])) > 1


def last_output(case, detail):
    """The elements of the second output."""
    return np.full(detail.wrong.shape, detail.name == case.outputs[1][0])


def past_batches(case, detail):
    """The channels whose number is not that of a batch."""
    shape = detail.wrong.shape
    return np.broadcast_to(
        (np.arange(shape[1]) >= shape[0]).reshape(-1, *[1] * (len(shape) - 2)), shape)


def negative_lanes(case, detail):
    """The rows with a negative element."""
    x = array(case, 0)
    return np.broadcast_to((x < 0).any(case.attributes.get("axis", -1), keepdims=True), x.shape)


def moments_mixed(case, detail):
    """What mixing the moments of the batch in gives is what was found."""
    x, scale, bias, mean, var = (array(case, i).astype(np.float64) for i in range(5))
    axes = tuple(a for a in range(x.ndim) if a != 1)
    m = case.attributes.get("momentum", 0.9)
    shape = (-1,) + (1,) * (x.ndim - 2)
    mean, var = mean * m + x.mean(axes) * (1 - m), var * m + x.var(axes) * (1 - m)
    mixed = (x - mean.reshape(shape)) / np.sqrt(
        var.reshape(shape) + case.attributes.get("epsilon", 1e-5))
    mixed = mixed * scale.reshape(shape) + bias.reshape(shape)
    _, theirs = reals(detail)
    return np.isclose(theirs, mixed, 64 * epsilon_of(case), 64 * epsilon_of(case), True) | \
        ~np.isfinite(mixed)


def fraction_in(case, detail):
    """The elements of a real that has something behind the point."""
    with np.errstate(all="ignore"):
        return array(case, 0).astype(np.float64) % 1 != 0


def parts_of_float8(case):
    """An operand of a type with 8 bits that has something behind the point."""
    return any(case.types[n] in FLOAT8 and (a.astype(np.float64) % 1 != 0).any()
               for n, a in arrays(case).items())


def past_digits(case, detail):
    """The elements that are sums, powers or the like of numbers past 24 bits."""
    if largest(case) > 2 ** 24:
        return True
    place = [n for n, _ in case.outputs].index(detail.name)
    outputs = definition_with(case, sizes_only)
    return outputs is None or np.asarray(outputs[place]).astype(np.float64) > 2 ** 24


def sum_wraps(case, detail):
    """The elements of which the sum is no number of the type, or the mean none of a float64."""
    x = array(case, 0)
    mean = np.asarray(definition_with(case, sizes_only)[0]).astype(np.float64)
    terms = x.size // max(detail.wrong.size, 1)
    past_all = largest(case) * terms >= 2.0 ** 63  # where the mean itself has wrapped
    return (mean * terms + terms > np.iinfo(x.dtype).max) | (mean > 2 ** 53) | past_all


def first_come(case):
    """sorted of 0, where the order that elements come in is another one, or there is an axis."""
    x = array(case, 0)
    first = np.unique(x, return_index=True)[1]
    return case.attributes.get("sorted", 1) == 0 and \
        ("axis" in case.attributes or x.ndim != 1 or list(first) != sorted(first) or
         len(case.outputs) == 1)


def missing_limit(case):
    """Clip of float64 without one of its limits."""
    names = list(case.nodes[0].input) + [""] * 3
    given = [n for n in ("min", "max") if n in case.attributes]
    return D in case.types.values() and special(case) and \
        ("" in names[1:3] if case.opset >= 11 else len(given) < 2)


def past_keys(case):
    return case.attributes.get("is_causal") == 1 and "pk" in case.types and \
        arrays(case)["pk"].shape[2] > 0


def inserted_last(case):
    made = next(n for n in case.nodes if n.op_type == "SequenceConstruct")
    at = next(n for n in case.nodes if n.op_type == "SequenceInsert").input[2:]
    return bool(at) and int(arrays(case)[at[0]]) == len(made.input)


def clamped_shape(case):
    rank = array(case, 0).ndim
    start, end = case.attributes.get("start", 0), case.attributes.get("end", rank)
    inside = -rank <= start <= rank and -rank <= end <= rank
    return rank == 0 or not inside or start % rank > end % rank


def unordered_axes(case):
    axes = case.attributes.get("axes")
    return min(axes) < 0 or list(axes) != sorted(axes)


def empty_reduction(case):
    """Of no elements, and the shape changes: an axis goes, or becomes 1."""
    shape = array(case, 0).shape
    axes = array(case, 1) if not case.op.startswith("Arg") else [case.attributes.get("axis", 0)]
    axes = case.attributes.get("axes") if axes is None else np.asarray(axes).ravel().tolist()
    if not axes:
        axes = [] if case.attributes.get("noop_with_empty_axes") else range(len(shape))
    reduced = [shape[a] for a in axes]
    return 0 in shape and any(n != 1 or case.attributes.get("keepdims", 1) == 0 for n in reduced)


def zero_products(case):
    """A product of matrices that is a sum of no terms."""
    names = {"QLinearMatMul": (0, 3)}.get(case.op, (0, 1))
    a, b = (array(case, i) for i in names)
    inner = a.shape[0] if case.attributes.get("transA") else a.shape[-1]
    return inner == 0 and b.size == 0


def unseen_gates(case):
    """What onnx.reference leaves out of a recurrence."""
    return case.attributes.get("clip") is not None or \
        case.attributes.get("input_forget") == 1 or short_sequences(case)


def points_by_channel(case):
    """A zero point for each channel of weights that do not have two spatial dimensions."""
    points = array(case, 3)
    return points is not None and points.ndim == 1 and array(case, 1).ndim != 4


def stalled_squares(case):
    """So many squares of a narrow type that their sum may stop growing."""
    shape, axis = array(case, 0).shape, case.attributes.get("axis", -1)
    return narrow(case) and int(np.prod(shape[axis % len(shape):])) * epsilon_of(case) > 0.25
