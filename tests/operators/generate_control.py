# SPDX-License-Identifier: Apache-2.0
"""Graphs inside nodes, sequences and optional values."""
import numpy as np
import onnx
from onnx import helper

from generate import BOOL, D, F, H, I32, I64, Unfit, generator

TYPES = [F, D, I64, I32, BOOL, H]


def body_value(r, name, dtype, shape):
    """The declaration of a body's value: whole, of its rank, of its type alone, or nothing."""
    form = r.upto(0, 3)
    if form == 0:
        return helper.make_tensor_value_info(name, dtype, list(shape))
    if form == 1:
        return helper.make_tensor_value_info(name, dtype, [None] * len(shape))
    return helper.make_tensor_value_info(name, dtype, None)


@generator("If")
def branch(r):
    dtype = r.pick(TYPES[:4])
    a = r.add("a", dtype, r.array(dtype, r.shape()))
    b = r.add("b", dtype, r.array(dtype, r.shape()))
    graphs = []
    for name, inner in (("then", a), ("else", b)):
        op = r.pick(["Identity", "Neg"])
        graphs.append(helper.make_graph([helper.make_node(op, [inner], [f"{name}_y"])], name, [],
                                        [body_value(r, f"{name}_y", dtype, r.shape_of(inner))]))
    chosen = r.scalar("c", BOOL, r.chance(0.5))
    return r.finish([chosen], [dtype], then_branch=graphs[0], else_branch=graphs[1])


@generator("Loop")
def loop(r):
    dtype = r.pick([F, D, I64, I32])
    shape = r.shape(0, 3)
    x = r.add("x", dtype, r.array(dtype, shape, -3, 3))
    outer = r.add("o", dtype, r.array(dtype, shape, -3, 3))
    form = r.pick(["add", "grow", "count"])
    nodes = [helper.make_node("Identity", ["cond"], ["cond_out"])]
    each = shape
    if form == "add":
        nodes.append(helper.make_node("Add", ["a", outer], ["a_out"]))
        nodes.append(helper.make_node("Identity", ["a_out"], ["s"]))
    elif form == "grow":
        if not shape:
            raise Unfit
        nodes.append(helper.make_node("Identity", ["a"], ["a_out"]))
        nodes.append(helper.make_node("Concat", ["a", outer], ["s"], axis=0))
        each = (2 * shape[0],) + shape[1:]
    else:
        nodes.append(helper.make_node("Identity", ["a"], ["a_out"]))
        nodes.append(helper.make_node("Cast", ["i"], ["s"], to=dtype))
        each = ()
    body = helper.make_graph(
        nodes, "body", [helper.make_tensor_value_info("i", I64, []),
                        helper.make_tensor_value_info("cond", BOOL, []),
                        body_value(r, "a", dtype, shape)],
        [helper.make_tensor_value_info("cond_out", BOOL, []), body_value(r, "a_out", dtype, shape),
         body_value(r, "s", dtype, each)])
    count = r.pick([0, 0, 1, 2, 3])
    trips = r.scalar("n", I64, count)
    goes = r.chance(0.8)
    start = r.scalar("go", BOOL, goes) if r.chance(0.5) else ""
    case = r.finish([trips, start, x], [dtype, dtype], body=body)
    count = count if goes or not start else 0
    case.expected = loop_results(form, r.value_of(x), r.value_of(outer), count, each)
    if r.chance(0.3):
        case.nodes.append(helper.make_node("Shape", ["y1"], ["z"]))
        case.outputs.append(("z", I64))
        case.expected.append(np.array(case.expected[1].shape, np.int64))
    return case


def loop_results(form, x, outer, count, each):
    stacked = np.zeros((0,) + each, x.dtype)
    for i in range(count):
        x = x + outer if form == "add" else x
        one = {"add": x, "count": np.array(i, x.dtype)}.get(form)
        one = np.concatenate([x, outer]) if one is None else one
        stacked = np.concatenate([stacked, one[None]])
    return [x, stacked]


@generator("Scan")
def scan(r):
    if r.since < 9:
        raise Unfit
    dtype = r.pick([F, D, I64, I32])
    inner = r.shape(0, 2)
    length = r.pick([0, 0, 1, 2, 3])
    axis = r.upto(0, len(inner))
    x = r.add("x", dtype, r.array(dtype, inner[:axis] + (length,) + inner[axis:], -3, 3))
    state = r.add("s", dtype, r.array(dtype, inner, -3, 3))
    out_axis = r.upto(0, len(inner))
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "e"], ["a_out"]), helper.make_node("Sub", ["a", "e"],
                                                                          ["t"])],
        "body", [body_value(r, "a", dtype, inner), body_value(r, "e", dtype, inner)],
        [body_value(r, "a_out", dtype, inner), body_value(r, "t", dtype, inner)])
    more = r.maybe(scan_input_directions=[r.upto(0, 1)], scan_output_directions=[r.upto(0, 1)])
    case = r.finish([state, x], [dtype, dtype], body=body, num_scan_inputs=1,
                    scan_input_axes=[axis] if axis or r.chance(0.3) else None,
                    scan_output_axes=[out_axis] if out_axis or r.chance(0.3) else None, **more)
    slices = np.moveaxis(r.value_of(x), axis, 0)
    slices = slices[::-1] if more.get("scan_input_directions") == [1] else slices
    total = r.value_of(state)
    results = []
    for one in slices:
        results.append(total - one)
        total = total + one
    results = results[::-1] if more.get("scan_output_directions") == [1] else results
    stacked = np.stack(results, axis=out_axis) if results else \
        np.zeros(inner[:out_axis] + (0,) + inner[out_axis:], total.dtype)
    case.expected = [total, stacked]
    return case


# --- sequences: made, changed and taken apart inside the graph ---


def made(r, count, same=False):
    """A sequence of `count` tensors, and their names."""
    dtype = r.pick([F, D, I64, I32])
    shape = r.shape(1, 3)
    names = []
    for i in range(count):
        names.append(r.add(f"x{i}", dtype, r.array(dtype, shape if same else
                                                   tuple(r.dim() for _ in shape), -3, 3)))
    if count:
        r.case.nodes.append(helper.make_node("SequenceConstruct", names, ["seq"]))
    else:
        r.case.nodes.append(helper.make_node("SequenceEmpty", [], ["seq"], dtype=dtype))
    return dtype, shape


def taken(r, nodes, outputs):
    r.case.nodes += nodes
    r.case.outputs = outputs
    return r.case


@generator("SequenceConstruct", "SequenceAt", "SequenceEmpty", "SequenceInsert", "SequenceErase",
           "SequenceLength", "ConcatFromSequence")
def sequence(r):
    count = r.upto(1, 4)
    joins = r.op == "ConcatFromSequence"
    dtype, shape = made(r, 0 if r.op == "SequenceEmpty" else count, joins)
    count = 0 if r.op == "SequenceEmpty" else count
    nodes = []
    name = "seq"
    if r.op in ("SequenceInsert", "SequenceEmpty"):
        extra = r.add("extra", dtype, r.array(dtype, shape, -3, 3))
        place = [r.scalar("at", I64, r.upto(-count, count))] if r.chance(0.6) else []
        nodes.append(helper.make_node("SequenceInsert", [name, extra] + place, ["longer"]))
        name, count = "longer", count + 1
    if r.op == "SequenceErase":
        place = [r.scalar("at", I64, r.upto(-count, count - 1))] if r.chance(0.6) else []
        nodes.append(helper.make_node("SequenceErase", [name] + place, ["shorter"]))
        name, count = "shorter", count - 1
    nodes.append(helper.make_node("SequenceLength", [name], ["length"]))
    outputs = [("length", I64)]
    if joins:
        new = r.upto(0, 1)
        axis = r.upto(-len(shape) - new, len(shape) - 1 + new)
        nodes.append(helper.make_node("ConcatFromSequence", [name], ["joined"], axis=axis,
                                      new_axis=new))
        outputs.append(("joined", dtype))
    elif count > 0:
        which = r.scalar("which", r.pick([I64, I32]), r.upto(-count, count - 1))
        nodes.append(helper.make_node("SequenceAt", [name, which], ["one"]))
        outputs.append(("one", dtype))
    return taken(r, nodes, outputs)


@generator("SplitToSequence")
def split_to_sequence(r):
    shape = r.shape(1, 3)
    axis = r.upto(-len(shape), len(shape) - 1)
    x = r.tensor("x", 0, shape, among=set(TYPES[:4]))
    inputs, keep = [x], None
    form = r.pick(["none", "scalar", "list"])
    if form == "none":
        keep = r.pick([None, 0, 1])
        count = shape[axis]
    elif form == "scalar":
        size = r.upto(1, 3)
        count = -(-shape[axis] // size)
        inputs.append(r.scalar("split", I64, size))
    else:
        parts = [r.upto(0, shape[axis])] if shape[axis] else [0]
        parts.append(shape[axis] - parts[0])
        count = 2
        inputs.append(r.ints("split", parts))
    r.case.nodes.append(helper.make_node("SplitToSequence", inputs, ["seq"], axis=axis,
                                         **({} if keep is None else {"keepdims": keep})))
    r.case.attributes = {"axis": axis, "keepdims": keep}
    nodes = [helper.make_node("SequenceLength", ["seq"], ["length"])]
    outputs = [("length", I64)]
    if count > 0:
        which = r.scalar("which", I64, r.upto(-count, count - 1))
        nodes.append(helper.make_node("SequenceAt", ["seq", which], ["one"]))
        outputs.append(("one", r.type_of(x)))
    return taken(r, nodes, outputs)


@generator("SequenceMap")
def sequence_map(r):
    dtype, shape = made(r, r.upto(0, 3))
    other = r.add("other", dtype, r.array(dtype, (), -3, 3))
    infos = [helper.make_tensor_value_info(n, dtype, None) for n in ("a", "b")]
    body = helper.make_graph([helper.make_node("Mul", ["a", "b"], ["c"])], "body", infos,
                             [helper.make_tensor_value_info("c", dtype, None)])
    nodes = [helper.make_node("SequenceMap", ["seq", other], ["mapped"], body=body),
             helper.make_node("SequenceLength", ["mapped"], ["length"])]
    outputs = [("length", I64)]
    if r.case.inputs.get("x0") is not None:
        zero = r.scalar("zero", I64, 0)
        nodes.append(helper.make_node("SequenceAt", ["mapped", zero], ["one"]))
        outputs.append(("one", dtype))
    return taken(r, nodes, outputs)


@generator("Optional", "OptionalHasElement", "OptionalGetElement")
def optional(r):
    dtype = r.pick([F, D, I64, I32])
    shape = r.shape()
    x = r.add("x", dtype, r.array(dtype, shape, -3, 3))
    kind = helper.make_tensor_type_proto(dtype, None)
    empty = r.op != "OptionalGetElement" and r.chance(0.4)
    made_node = helper.make_node("Optional", [] if empty else [x], ["maybe"],
                                 **({"type": kind} if empty else {}))
    nodes = [made_node, helper.make_node("OptionalHasElement", ["maybe"], ["has"]),
             helper.make_node("Identity", [x], ["same"])]
    outputs = [("has", BOOL), ("same", dtype)]
    r.case.expected = [np.array(not empty),
                       r.case.inputs[x]] + ([] if empty else [r.case.inputs[x]])
    if not empty:
        nodes.append(helper.make_node("OptionalGetElement", ["maybe"], ["got"]))
        outputs.append(("got", dtype))
    return taken(r, nodes, outputs)
