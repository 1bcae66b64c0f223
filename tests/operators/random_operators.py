#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random models of every operator: the reference executor and shape inference against ONNX Runtime
and onnx.reference.

    random_operators.py OPERATOR_RUN [--count N] [--seed S] [--first N] [--operators A,B]
                        [--report FILE] [--show N]

A model has one operator (or a few, where its values are sequences), drawn with its version, types,
attributes and shapes of 0, 1 and many, its inputs fed or constant, their dimensions numbers or
names. Each must come out as both others have it, or as the one that runs it; where the two do not
agree, settled.py says by the specification's text who is right, and what matches no line there is
a difference. Further: what inference says of each output holds of what came out; what the check
passes is built and runs; what the check refuses, the others refuse too.

The models are numbered: the same seed and number give the same one. A worker goes through them, and
where an executor ends the process, the next worker goes on behind that number."""
import argparse
import collections
import re
import subprocess
import sys

import generate_control  # noqa: F401  pylint: disable=unused-import
import generate_elements  # noqa: F401  pylint: disable=unused-import
import generate_moves  # noqa: F401  pylint: disable=unused-import
import generate_spatial  # noqa: F401  pylint: disable=unused-import
import onnx
import settled
from executors import (Kiln, Refusal, first_difference, run_onnxruntime, run_reference,
                       run_single)
from generate import D, GENERATORS, H, draw_case

# What ONNX Runtime says of an operator, a version or a type that it has no kernel for.
LACKING = re.compile(r"NOT_IMPLEMENTED|guarantees\* support|cannot be fed|Unsupported|"
                     r"not supported|"
                     r"INVALID_GRAPH.*_inlfunc_")


def attempt(run, case):
    try:
        return run(case), ""
    except Refusal as refusal:
        return None, str(refusal)


def known_size(text, case):
    """A dimension that inference gave, as a number where the declared names tell it."""
    if text == "":
        return None
    if text.lstrip("-").isdigit():
        return int(text)
    names = {str(d): n for name, dims in case.dims.items()
             for d, n in zip(dims, case.inputs[name].shape)}
    try:
        words = re.sub(r"[A-Za-z_]\w*",
                       lambda m: m.group() if m.group() in ("floor", "max", "min")
                       else str(names[m.group()]), text)
    except KeyError:
        return None
    return eval(words.replace("/", "//"), {"__builtins__": {}},
                {"floor": lambda x: x, "max": max, "min": min})


def contradiction(case, answer, outputs):
    """What inference says that is not so."""
    for (name, dtype), (wire, dims), array in zip(case.outputs, answer.inferred, outputs):
        if wire not in (0, dtype):
            return f"{name} is inferred as type {wire}, not {dtype}"
        if dims is None:
            continue
        sizes = [known_size(d, case) for d in dims]
        if len(sizes) != array.ndim or any(s not in (None, n) for s, n in zip(sizes, array.shape)):
            return f"{name} is inferred as {dims}, not {list(array.shape)}"
    return None


def judge(case, kiln):
    """(kind, detail) of everything that is not as it should be."""
    answer = kiln.run(case)
    if case.expected is not None:
        theirs, ort_words, reference, reference_words = case.expected, "", None, "not asked"
    else:
        theirs, ort_words = attempt(run_onnxruntime, case)
        reference, reference_words = attempt(run_reference, case)
    if theirs is None and LACKING.search(ort_words):
        theirs, _ = attempt(run_single, case)
        single = theirs is not None and all(t != H for t in case.types.values())
        case.bound = (2e-4, 2e-5) if single and D in case.types.values() else case.bound
    found = []
    known = theirs if theirs is not None else reference
    if answer.outputs is None:
        if known is not None:
            found.append(("refused", f"{answer.sentence} (check: {answer.errors})"))
        elif answer.errors == 0:
            found.append(("approved", answer.sentence))
        return found, answer, theirs, reference, (ort_words, reference_words)
    shape_fault = contradiction(case, answer, answer.outputs)
    if shape_fault:
        found.append(("inferred", shape_fault))
    if answer.errors and known is not None:
        found.append(("check", answer.issue))
    if known is None:
        if answer.errors == 0 and not LACKING.search(ort_words):
            found.append(("alone", f"ONNX Runtime: {ort_words}; onnx.reference: {reference_words}"))
        return found, answer, theirs, reference, (ort_words, reference_words)
    apart = [first_difference(case, answer.outputs, o) if o is not None else None
             for o in (theirs, reference)]
    if apart[0] and apart[1]:
        found.append(("wrong", f"ONNX Runtime: {apart[0]}; onnx.reference: {apart[1]}"))
    elif apart[0]:
        found.append(("onnxruntime" if reference is not None else "wrong", apart[0]))
    elif apart[1]:
        found.append(("reference" if theirs is not None else "wrong", apart[1]))
    return found, answer, theirs, reference, (ort_words, reference_words)


def operators_of(text):
    names = text.split(",") if text else sorted(GENERATORS)
    return [n for n in names if n in GENERATORS]


def work(arguments):
    """Prints a line for each model: its number, operator and what was found."""
    kiln = Kiln(arguments.program)
    names = operators_of(arguments.operators)
    for number in range(arguments.first, arguments.first + arguments.count):
        op = names[number % len(names)]
        case = draw_case(arguments.seed, number, op)
        print(f"B\t{number}\t{op}\t{getattr(case, 'opset', 0)}", flush=True)
        if case is None:
            print("U", flush=True)
            continue
        try:
            found, answer, theirs, reference, words = judge(case, kiln)
        except RuntimeError as error:
            found, answer, theirs, reference, words = [("ended",
                                                        str(error))], None, None, None, None
        state = f"{'-' if theirs is None else 'o'}{'-' if reference is None else 'r'}"
        for kind, detail in found:
            why = settled.find(case, kind, detail, answer, theirs, reference)
            detail = " ".join(detail.split())
            print(f"F\t{kind}\t{why or ''}\t{detail}", flush=True)
        print(f"E\t{state}", flush=True)
    kiln.stop()


class Tally:
    def __init__(self):
        self.models = collections.Counter()
        self.compared = collections.Counter()
        self.states = collections.Counter()
        self.settled = collections.Counter()
        self.open = []
        self.unfit = 0
        self.died = []


def collect(arguments, tally, report):
    """Runs workers until all numbers are done."""
    first, end = arguments.first, arguments.first + arguments.count
    while first < end:
        command = [sys.executable, "-W", "ignore", __file__, arguments.program, "--worker",
                   "--first", str(first), "--count", str(min(end - first, 5000)),
                   "--seed", str(arguments.seed), "--operators", arguments.operators]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.DEVNULL)
        number, op, opset, done = first, "", "", True
        for line in process.stdout:
            parts = line.rstrip("\n").split("\t")
            if parts[0] == "B":
                number, op, opset, done = int(parts[1]), parts[2], parts[3], False
            elif parts[0] == "U":
                tally.unfit += 1
                done = True
            elif parts[0] == "E":
                tally.models[op] += 1
                tally.states[parts[1]] += 1
                tally.compared[op] += parts[1] != "--"
                done = True
            elif parts[0] == "F" and parts[2]:
                tally.settled[parts[2]] += 1
            elif parts[0] == "F":
                tally.open.append((number, op, parts[1], parts[3]))
                print(f"{number}\t{op} {opset}\t{parts[1]}\t{parts[3]}", file=report, flush=True)
        process.wait()
        if not done:
            tally.died.append((number, op))
            print(f"{number}\t{op} {opset}\tdied\tthe process ended with {process.returncode}",
                  file=report, flush=True)
        elif process.returncode != 0:
            print(f"{number}\t{op}\tworker\tended with {process.returncode}", file=report,
                  flush=True)
        first = number + 1


def show(arguments):
    names = operators_of(arguments.operators)
    op = names[arguments.show % len(names)]
    case = draw_case(arguments.seed, arguments.show, op)
    model = case.model()
    onnx.save(model, "/tmp/case.onnx") if arguments.save else None
    print(onnx.printer.to_text(model))
    for name, array in list(case.inputs.items()) + list(case.constants.items()):
        print(f"{name} = {array.dtype}{list(array.shape)}\n{array}")
    kiln = Kiln(arguments.program)
    found, answer, theirs, reference, words = judge(case, kiln)
    kiln.stop()
    print("Kiln:", answer.stage, answer.sentence, answer.errors, answer.issue, answer.inferred,
          answer.outputs, sep="\n")
    print("ONNX Runtime:", theirs, words[0], sep="\n")
    print("onnx.reference:", reference, words[1], sep="\n")
    for kind, detail in found:
        print(kind, "|", settled.find(case, kind, detail, answer, theirs, reference), "|", detail)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operators", default="")
    parser.add_argument("--report")
    parser.add_argument("--show", type=int)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--worker", action="store_true")
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return 0
    if arguments.show is not None:
        show(arguments)
        return 0
    tally = Tally()
    if arguments.report:
        with open(arguments.report, "w", encoding="utf-8") as report:
            collect(arguments, tally, report)
    else:
        collect(arguments, tally, sys.stdout)
    for op in sorted(tally.models):
        print(f"{op}: {tally.models[op]} models, {tally.compared[op]} compared")
    for why, count in sorted(tally.settled.items()):
        print(f"settled {count}: {why}")
    print(f"{sum(tally.models.values())} models of {len(tally.models)} operators, "
          f"{sum(tally.compared.values())} compared, {len(tally.open)} differences, "
          f"{len(tally.died)} ended an executor, {tally.unfit} numbers without a model, "
          f"{dict(tally.states)}")
    return 1 if tally.open or tally.died else 0


if __name__ == "__main__":
    sys.exit(main())
