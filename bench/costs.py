#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a layer, a run, reading and checking cost in one version of Kiln, by another: the processor
time of each call, measured in turns over both libraries, and with --instructions what valgrind
counts of it.

    costs.py TREE TREE [--rounds N] [--instructions] [--only WHAT,...]

TREE is a source tree with a release build in build/release, or a commit, which is built beside this
tree (build/costs/COMMIT) first. Ratios are the first's by the second's. Each round runs every
program once, in changing order; said are the medians, and the median of the rounds' ratios, which a
machine that has other things to do disturbs least. Exits with 1 where a ratio is above --most.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(HERE)
LAYERS = ("unary", "activation", "chain", "elementwise", "cast", "convolution", "matmul", "softmax",
          "gather", "join", "shape", "reshape", "transpose")
RUNS = ("run", "bind", "tensors")
# Of "rep movsb" and "rep stosb" valgrind counts each byte as an instruction.
COUNTED = ":".join("glibc.cpu.x86_rep_%s_threshold=0x7fffffff" % what
                   for what in ("movsb", "stosb"))


def tree_of(name):
    """A source tree with a build."""
    if os.path.isdir(name):
        return os.path.realpath(name)
    commit = subprocess.run(["git", "-C", TOP, "rev-parse", "--short", name + "^{commit}"],
                            check=True, capture_output=True, text=True).stdout.strip()
    tree = os.path.join(TOP, "build", "costs", commit)
    if not os.path.isdir(tree):
        subprocess.run(["git", "-C", TOP, "worktree", "add", "--detach", tree, commit], check=True,
                       capture_output=True)
        os.makedirs(os.path.join(tree, "build"))
        os.symlink(os.path.join(TOP, "build", "deps"), os.path.join(tree, "build", "deps"))
    subprocess.run(["cmake", "--preset", "release"], cwd=tree, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", "build/release", "--target", "kiln"], cwd=tree, check=True,
                   capture_output=True)
    return tree


def compile_for(tree, folder, number):
    library = os.path.join(tree, "build", "release", "src")
    program = os.path.join(folder, "costs%d" % number)
    subprocess.run(["cc", "-O2", "-I" + os.path.join(tree, "include"), "-I" + HERE,
                    os.path.join(HERE, "costs.c"), os.path.join(HERE, "bench_times.c"),
                    os.path.join(library, "libkiln.so"), "-Wl,-rpath," + library, "-o", program],
                   check=True)
    return program


def run(program, words):
    out = subprocess.run([program] + words, check=True, capture_output=True, text=True).stdout
    return float(out.split()[0])


def count(program, words):
    """Instructions of what is measured."""
    text = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                           "--toggle-collect=measured", program] + words, check=True,
                          env=dict(os.environ, GLIBC_TUNABLES=COUNTED), capture_output=True,
                          text=True).stderr
    return int(text.split("Collected : ")[1].split()[0])


def instructions(program, words, few, many):
    """Of each call; what only the first ones do is left out."""
    def at(times):
        return count(program, [words[0], str(times)] + words[2:])
    return (at(many) - at(few)) / (many - few)


def onnx_load(path):
    """Processor nanoseconds of onnx.load, or None where the package is not there."""
    try:
        import onnx
    except ImportError:
        return None
    best = None
    for _ in range(5):
        begin = time.process_time()
        onnx.load(path)
        spent = (time.process_time() - begin) * 1e9
        best = spent if best is None else min(best, spent)
    return best


def rows_of(arguments, folder):
    """What is measured: a title, the program's words, and what to count with (None: nothing)."""
    chain = os.path.join(folder, "chain.onnx")
    rows = [("layer " + kind, [kind, "2000"], (200, 2200)) for kind in LAYERS]
    rows += [("build", ["build", "1"], None)]
    for backend in ("reference", "onnxruntime"):
        rows += [("%s, %s" % (what, backend), [what, "20000", backend], (200, 1200))
                 for what in RUNS]
    rows += [(what + " chain", [what, "20000", chain], None) for what in ("read", "check")]
    rows += [("%s %s" % (what, os.path.basename(model)), [what, "0", model], None)
             for model in arguments.models for what in ("read", "check")]
    only = arguments.only.split(",") if arguments.only else None
    return [row for row in rows if only is None or row[1][0] in only]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("trees", nargs=2)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--only", help="names of what is measured, divided by commas")
    parser.add_argument("--models", nargs="*", default=[], help="files to read and check too")
    parser.add_argument("--most", type=float, default=0, help="the largest ratio that is good")
    arguments = parser.parse_args()
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        programs = [compile_for(tree_of(tree), folder, number)
                    for number, tree in enumerate(arguments.trees)]
        unit = "instructions" if arguments.instructions else "processor time"
        print("%s, %s by %s" % (unit, *arguments.trees))
        for title, words, few_and_many in rows_of(arguments, folder):
            if arguments.instructions:
                if few_and_many is None:
                    continue
                found = [instructions(program, words, *few_and_many) for program in programs]
                ratio = found[0] / found[1]
            else:
                times = [[], []]
                for i in range(arguments.rounds):
                    for number in ((0, 1) if i % 2 == 0 else (1, 0)):
                        times[number].append(run(programs[number], words))
                found = [statistics.median(each) for each in times]
                ratio = statistics.median(one / other for one, other in zip(*times))
            worst = max(worst, ratio)
            line = "%-24s %12.1f %12.1f   %.3f" % (title, *found, ratio)
            spent = onnx_load(words[2]) if words[0] == "read" else None
            if spent is not None and not arguments.instructions:
                whole = found[0] * (int(words[1]) or 1)
                line += "   onnx.load: %.1f times" % (spent / whole)
            print(line, flush=True)
    return 1 if arguments.most and worst > arguments.most else 0


if __name__ == "__main__":
    sys.exit(main())
