#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the check passes for a backend is built there and runs.

    check_holds.py OPERATOR_RUN CASES [--share N] [--seed S] [--backends A,B]
    check_holds.py OPERATOR_RUN --drawn N [--first N] [--seed S] [--operators A,B] [--mutants]
    check_holds.py OPERATOR_RUN --trees [--share N] [--seed S]

Of each of ONNX's node tests below the folder CASES, the model and mutants of it (every rank and
dimension of the inputs, every number among the attributes, types, names, inputs left out) are
checked, built and run on both backends, in a process of its own. A model that the check finds no
error in must run, unless the check finds one where the inputs are constants: then values or
dimensions told it that a run alone knows. What not even then is looked at is in VALUES, by what is
said. And what it refuses for what a backend lacks must fail there. --drawn: the same of that many
of random_operators.py's models, of which nothing is excused; with --mutants of these too. --trees:
of tree_models.py's, of which ONNX Runtime also must run nothing that the check refuses. --share:
every Nth mutant, at random."""
import argparse
import collections
import copy
import pathlib
import re
import sys

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "inference"))
import mutate_models  # noqa: E402  pylint: disable=wrong-import-position
import random_operators  # noqa: E402  pylint: disable=wrong-import-position
import tree_models  # noqa: E402  pylint: disable=wrong-import-position
from executors import Kiln  # noqa: E402  pylint: disable=wrong-import-position
from generate import (  # noqa: E402  pylint: disable=wrong-import-position
    FOUR_BITS, GENERATORS, draw_case, make_tensor)

# What values tell that the check does not look at, where they are known: the elements of indices
# and targets, and an If's, Loop's or Dropout's choice; and masks that a GPU alone takes.
VALUES = [r"index -?\d+ is outside", r"position -?\d+ lies outside the cache",
          r"the last key of sequence \d+ is",
          r"a mask of .* is needed, in 1 to 3", r"places of .* tokens? (is|are) needed",
          r"packed_batching and scale are not computed", r"share_buffer are not computed",
          r"which is not computed here; 0 is", r"a total length of \d+ is neither",
          r"tokens each continue a past",
          r"Out of range value in index|invalid index found",
          r"target -?\d+ of \d+ classes", r"training mode",
          r"a range from .* has no end|delta in Range operator can not be zero",
          r"division by zero",
          r"indices? element out of (data )?bounds|out of bounds|must be within",
          r"bytes for a tensor .* could not be allocated|bad_alloc|Failed to allocate memory"]
# How the check says that a backend lacks something.
LACKING = [r"ONNX Runtime \d\.\d+ ", r"the \w+ backend ", r"would end the process"]


def read_inputs(model, folder):
    """Arrays by name, where the test has all of them."""
    values = {}
    for index, value in enumerate(model.graph.input):
        path = folder / f"input_{index}.pb"
        if not path.exists():
            return None
        proto = onnx.TensorProto()
        proto.ParseFromString(path.read_bytes())
        values[value.name] = numpy_helper.to_array(proto)
    return values


def drawn(random, value):
    """An array for an input whose declaration was changed."""
    dtype = value.type.tensor_type.elem_type
    dims = value.type.tensor_type.shape.dim
    shape = [d.dim_value if d.HasField("dim_value") else 2 for d in dims]
    if int(np.prod(shape)) > 1 << 16:
        return None
    kind = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    return random.integers(0, 2, shape).astype(kind)


def feeds_of(model, given, random):
    """(type, array) of each input, or None where one cannot be bound."""
    feeds = []
    for value in model.graph.input:
        kind = value.type
        if not kind.HasField("tensor_type") or kind.tensor_type.elem_type in (
                TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            return None
        dtype = kind.tensor_type.elem_type
        array = given.get(value.name)
        shape = [d.dim_value if d.HasField("dim_value") else None
                 for d in kind.tensor_type.shape.dim]
        fits = array is not None and (
            not kind.tensor_type.HasField("shape") or len(shape) == array.ndim and all(
                s in (None, n) for s, n in zip(shape, array.shape)))
        if fits and onnx.helper.tensor_dtype_to_np_dtype(dtype) != array.dtype:
            fits = False
        array = array if fits else drawn(random, value)
        if array is None:
            return None
        feeds.append((dtype, np.asarray(array)))
    return feeds


def leave_out(model):
    """The node without one of its inputs; a Loop that nothing ends takes all memory."""
    if model.graph.node[0].op_type == "Loop":
        return
    for place in range(len(model.graph.node[0].input)):
        mutant = copy.deepcopy(model)
        mutant.graph.node[0].input[place] = ""
        yield "left_out", mutant
    mutant = copy.deepcopy(model)
    if len(mutant.graph.node[0].input) > 1:
        del mutant.graph.node[0].input[-1]
        yield "shorter", mutant


def other_types(model):
    """An input, and what is declared of the outputs, of another type."""
    for place, value in enumerate(model.graph.input):
        if not value.type.HasField("tensor_type"):
            continue
        for dtype in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT16,
                      TensorProto.UINT8, TensorProto.FLOAT8E4M3FNUZ, TensorProto.INT4):
            mutant = copy.deepcopy(model)
            mutant.graph.input[place].type.tensor_type.elem_type = dtype
            for output in mutant.graph.output:
                if output.type.tensor_type.elem_type == value.type.tensor_type.elem_type:
                    output.type.tensor_type.elem_type = dtype
            yield "type", mutant


def twice(model):
    """Names that stand twice."""
    mutant = copy.deepcopy(model)
    mutant.graph.output.append(mutant.graph.output[0])
    yield "output_twice", mutant
    mutant = copy.deepcopy(model)
    mutant.graph.node[0].name = "n"
    extra = mutant.graph.node.add()
    extra.CopyFrom(onnx.helper.make_node("Identity", [mutant.graph.node[0].output[0]], ["extra"],
                                         name="n"))
    yield "node_twice", mutant


def mutants(model):
    yield "itself", model
    for many in (mutate_models.other_inputs, mutate_models.other_attributes, leave_out, other_types,
                 twice):
        if model.graph.node:
            yield from many(copy.deepcopy(model))


def excused(patterns, sentence):
    return any(re.search(words, sentence, re.IGNORECASE) for words in patterns)


def closed(model, feeds):
    """The model with its inputs constant: what a run refuses, the check can know of it."""
    other = copy.deepcopy(model)
    for value, (dtype, array) in zip(model.graph.input, feeds):
        other.graph.initializer.append(make_tensor(value.name, dtype, array))
    del other.graph.input[:]
    return other.SerializeToString()


class Tally:
    def __init__(self):
        self.kinds = collections.Counter()
        self.passed = collections.Counter()
        self.excused = collections.Counter()
        self.failures = []
        self.ended = 0
        self.is_strict = False
        self.must_run = None  # the backend that runs nothing of what the check refuses

    def fail(self, line):
        self.failures.append(line)
        print(line, flush=True)


def checked(kilns, backend, data, feeds):
    """Whether the check finds an error, without building what may end the process."""
    checker = kilns.setdefault(f"check:{backend}",
                               Kiln(kilns[backend].command[0], f"check:{backend}"))
    return checker.ask(data, feeds).errors > 0


def hold(kilns, model, feeds, label, tally):
    data = model.SerializeToString()
    for backend, kiln in list(kilns.items()):
        if backend.startswith("check:"):
            continue
        try:
            answer = kiln.ask(data, feeds)
        except (RuntimeError, BrokenPipeError) as error:
            kiln.process = None
            tally.ended += 1
            if not checked(kilns, backend, data, feeds):
                tally.fail(f"{label} on {backend}: {error}")
            continue
        if answer.errors:
            if answer.stage == 0 and (tally.must_run == backend or excused(LACKING, answer.issue)
                                      and checked(kilns, backend, closed(model, feeds), [])):
                tally.fail(f"{label} on {backend} runs, though the check says: {answer.issue}")
            continue
        tally.passed[backend] += 1
        if answer.stage == 0:
            continue
        words = f"{label} on {backend}: {' '.join(answer.sentence.split())[:700]}"
        if checked(kilns, backend, closed(model, feeds), []) or (
                not tally.is_strict and excused(VALUES, answer.sentence)):
            tally.excused[backend] += 1
        else:
            tally.fail(words)


def hold_drawn(kilns, arguments, tally):
    names = random_operators.operators_of(",".join(arguments.operators))
    assert arguments.operators or len(names) == len(GENERATORS)
    random = np.random.default_rng(arguments.seed)
    for number in range(arguments.first, arguments.first + arguments.drawn):
        op = names[number % len(names)]
        case = draw_case(arguments.seed, number, op)
        if case is None:
            continue
        drawn_ones = [("drawn", case.model())]
        for kind, mutant in mutants(case.model()) if arguments.mutants else drawn_ones:
            if kind in ("itself", "drawn"):
                feeds = [(case.types[name], array) for name, array in case.inputs.items()]
            else:
                feeds = feeds_of(mutant, case.inputs, random)
            if feeds is not None:
                tally.kinds[kind] += 1
                hold(kilns, mutant, feeds, f"{number} {op} {case.opset} {kind}", tally)


def hold_trees(kilns, arguments, tally):
    random = np.random.default_rng(arguments.seed)
    for name, dtype, model in tree_models.models():
        if arguments.share == 1 or name.endswith("itself") or not random.integers(arguments.share):
            tally.kinds["trees"] += 1
            hold(kilns, model, [(dtype, tree_models.values(dtype))], name, tally)


def hold_cases(kilns, arguments, tally):
    random = np.random.default_rng(arguments.seed)
    for path in sorted(arguments.cases.glob("test_*/model.onnx")):
        model = onnx.load(path)
        given = read_inputs(model, path.parent / "test_data_set_0")
        if given is None or any(i.type.tensor_type.elem_type in FOUR_BITS
                                for i in model.graph.input):
            continue
        for kind, mutant in mutants(model):
            if arguments.share > 1 and kind != "itself" and random.integers(arguments.share):
                continue
            feeds = feeds_of(mutant, given, random)
            if feeds is not None:
                tally.kinds[kind] += 1
                hold(kilns, mutant, feeds, f"{path.parent.name} {kind}", tally)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("cases", type=pathlib.Path, nargs="?")
    parser.add_argument("--drawn", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--share", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backends", default="reference,onnxruntime")
    parser.add_argument("--trees", action="store_true")
    parser.add_argument("--operators", action="append", default=[])
    parser.add_argument("--mutants", action="store_true")
    arguments = parser.parse_args()
    tally = Tally()
    tally.must_run = "onnxruntime" if arguments.trees else None
    tally.is_strict = (arguments.drawn > 0 and not arguments.mutants) or arguments.trees
    kilns = {name: Kiln(arguments.program, name) for name in arguments.backends.split(",")}
    if arguments.trees:
        hold_trees(kilns, arguments, tally)
    elif arguments.drawn:
        hold_drawn(kilns, arguments, tally)
    else:
        hold_cases(kilns, arguments, tally)
    for kiln in kilns.values():
        kiln.stop()
    print(f"{sum(tally.kinds.values())} models ({dict(tally.kinds)}), the check passes "
          f"{dict(tally.passed)}, of these fail for what only a run tells {dict(tally.excused)}; "
          f"{tally.ended} ended the process, "
          f"{len(tally.failures)} failures")
    return 1 if tally.failures or not tally.kinds else 0


if __name__ == "__main__":
    sys.exit(main())
