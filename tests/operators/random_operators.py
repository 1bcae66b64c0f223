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
import copy
import re
import subprocess
import sys

import generate_control  # noqa: F401  pylint: disable=unused-import
import generate_elements  # noqa: F401  pylint: disable=unused-import
import generate_microsoft  # noqa: F401  pylint: disable=unused-import
import generate_moves  # noqa: F401  pylint: disable=unused-import
import generate_spatial  # noqa: F401  pylint: disable=unused-import
import generate_transformer  # noqa: F401  pylint: disable=unused-import
import generate_trees  # noqa: F401  pylint: disable=unused-import
import definitions
import definitions_microsoft  # noqa: F401  pylint: disable=unused-import
import definitions_moves  # noqa: F401  pylint: disable=unused-import
import definitions_resize  # noqa: F401  pylint: disable=unused-import
import definitions_spatial  # noqa: F401  pylint: disable=unused-import
import definitions_trees  # noqa: F401  pylint: disable=unused-import
import onnx
import settled
import settled_rules  # noqa: F401  pylint: disable=unused-import
from executors import (Kiln, Refusal, differences, run_onnxruntime, run_reference, run_single)
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


class Verdict:
    """What came out of a case, and what is not as it should be."""

    def __init__(self, case, answer):
        self.case, self.answer = case, answer
        self.theirs = {}  # who: outputs
        self.words = {}   # who: what was said instead
        self.found = []   # (kind, detail); a kind of `theirs` has a Difference as its detail

    def state(self):
        return "".join(who[0] for who in self.theirs) or "-"


def ask_others(case, verdict):
    if case.expected is not None:
        verdict.theirs["definition"] = case.expected
        return
    for who, run in (("onnxruntime", run_onnxruntime), ("reference", run_reference)):
        outputs, words = attempt(run, case)
        if outputs is None and who == "onnxruntime" and LACKING.search(words):
            outputs, _ = attempt(run_single, case)
            single = outputs is not None and all(t != H for t in case.types.values())
            if single and D in case.types.values():
                case.bound = (2e-4, 2e-5)
        if outputs is None:
            verdict.words[who] = words
        else:
            verdict.theirs[who] = outputs
    outputs = definitions.outputs_of(case)
    if outputs is not None:
        verdict.theirs["definition"] = outputs


def closed(case):
    """The case with all its inputs constant: what a run refuses, the check can know of it."""
    other = copy.copy(case)
    other.constants, other.inputs = {**case.constants, **case.inputs}, {}
    return other


def judge(case, kiln):
    answer = kiln.run(case)
    verdict = Verdict(case, answer)
    ask_others(case, verdict)
    found, known = verdict.found, bool(verdict.theirs)
    if answer.outputs is None:
        if known and verdict.state() != "d":
            found.append(("refused", f"{answer.sentence} (check: {answer.errors})"))
        elif answer.errors == 0 and kiln.run(closed(case)).errors == 0:
            found.append(("approved", answer.sentence))
        return verdict
    shape_fault = contradiction(case, answer, answer.outputs)
    if shape_fault:
        found.append(("inferred", shape_fault))
    if answer.errors and known:
        found.append(("check", answer.issue))
    if not known and answer.errors == 0 and not LACKING.search(verdict.words["onnxruntime"]):
        found.append(("alone", " ".join(f"{w}: {t}" for w, t in verdict.words.items())))
    apart = {who: differences(case, answer.outputs, outputs)
             for who, outputs in verdict.theirs.items()}
    # What the specification leaves open is no disagreement.
    rules = settled.fitting(case)
    backed = any(all(settled.find(rules, case, "definition", one) for one in several)
                 for several in apart.values())
    for who, several in apart.items():
        for one in several:
            # Against one of the others alone there must be somebody who agrees with Kiln.
            found.append((who if backed else f"{who} alone", one))
    return verdict


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
            verdict = judge(case, kiln)
        except RuntimeError as error:
            print(f"F\tended\t\t{error}\nE\t-", flush=True)
            continue
        rules = settled.fitting(case)
        print("R\t" + " ".join(map(str, rules)))
        for kind, detail in verdict.found:
            used = " ".join(map(str, settled.find(rules, case, kind, detail)))
            print(f"F\t{kind}\t{used}\t{' '.join(str(detail).split())}", flush=True)
        print(f"E\t{verdict.state()}", flush=True)
    kiln.stop()


class Tally:
    def __init__(self):
        self.models = collections.Counter()
        self.compared = collections.Counter()
        self.states = collections.Counter()
        self.fitting = collections.Counter()  # models that a rule's condition fits, by its number
        self.settled = collections.Counter()  # models of which it settled a difference
        self.open = []
        self.unfit = 0
        self.died = []

    def end(self, op, state, rules):
        self.models[op] += 1
        self.states[state] += 1
        self.compared[op] += state != "-"
        self.settled.update(rules)

    def print_all(self):
        for op in sorted(self.models):
            print(f"{op}: {self.models[op]} models, {self.compared[op]} compared, "
                  f"{sum(1 for one in self.open if one[1] == op)} differences")
        for number, rule in enumerate(settled.RULES):
            print(f"settled {self.settled[number]} of {self.fitting[number]}: {rule}")
        print(f"{sum(self.models.values())} models of {len(self.models)} operators, "
              f"{sum(self.compared.values())} compared, {len(self.open)} differences, "
              f"{len(self.died)} ended an executor, {self.unfit} numbers without a model, "
              f"{dict(self.states)}")


class Model:
    """What a worker says of one model."""

    def __init__(self, parts):
        self.number, self.op, self.opset = int(parts[1]), parts[2], parts[3]
        self.rules = set()
        self.done = False

    def read(self, parts, tally, report):
        if parts[0] == "R":
            tally.fitting.update(int(r) for r in parts[1].split())
        elif parts[0] == "F" and parts[2]:
            self.rules.update(int(r) for r in parts[2].split())
        elif parts[0] == "F":
            tally.open.append((self.number, self.op))
            print(f"{self.number}\t{self.op} {self.opset}\t{parts[1]}\t{parts[3]}", file=report,
                  flush=True)
        elif parts[0] in "UE":
            tally.unfit += parts[0] == "U"
            if parts[0] == "E":
                tally.end(self.op, parts[1], self.rules)
            self.done = True


def collect(arguments, tally, report):
    """Runs workers until all numbers are done."""
    first, end = arguments.first, arguments.first + arguments.count
    while first < end:
        command = [sys.executable, "-W", "ignore", __file__, arguments.program, "--worker",
                   "--first", str(first), "--count", str(min(end - first, 5000)),
                   "--seed", str(arguments.seed), "--operators", arguments.operators]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.DEVNULL)
        model = None
        for line in process.stdout:
            parts = line.rstrip("\n").split("\t")
            if parts[0] == "B":
                model = Model(parts)
            else:
                model.read(parts, tally, report)
        process.wait()
        if model is None:
            raise RuntimeError(f"a worker ended with {process.returncode} before its first model")
        if not model.done:
            tally.died.append((model.number, model.op))
            print(f"{model.number}\t{model.op} {model.opset}\tdied\tthe process ended with "
                  f"{process.returncode}", file=report, flush=True)
        first = model.number + 1


def show(arguments):
    names = operators_of(arguments.operators)
    op = names[arguments.show % len(names)]
    case = draw_case(arguments.seed, arguments.show, op)
    if case is None:
        print("the number makes no model")
        return
    model = case.model()
    if arguments.save:
        onnx.save(model, arguments.save)
    print(onnx.printer.to_text(model))
    for name, array in list(case.inputs.items()) + list(case.constants.items()):
        print(f"{name} = {array.dtype}{list(array.shape)}\n{array}")
    kiln = Kiln(arguments.program)
    verdict = judge(case, kiln)
    kiln.stop()
    answer = verdict.answer
    print("Kiln:", answer.stage, answer.sentence, answer.errors, answer.issue, answer.inferred,
          answer.outputs, sep="\n")
    for who, outputs in {**verdict.words, **verdict.theirs}.items():
        print(f"{who}: {outputs}")
    rules = settled.fitting(case)
    for kind, detail in verdict.found:
        used = settled.find(rules, case, kind, detail)
        print(kind, "|", *(settled.RULES[r] for r in used), "|", detail)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operators", default="")
    parser.add_argument("--report")
    parser.add_argument("--show", type=int)
    parser.add_argument("--save")
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
    tally.print_all()
    return 1 if tally.open or tally.died else 0


if __name__ == "__main__":
    sys.exit(main())
