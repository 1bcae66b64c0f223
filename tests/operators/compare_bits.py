#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether two builds of the reference executor give the same of random models, to the bit.

    compare_bits.py OPERATOR_RUN OTHER_OPERATOR_RUN [--count N] [--seed S] [--operators A,B]

The models are those of random_operators.py. Prints each that differs, and ends with 1 where one
does."""
import argparse
import collections
import sys

import random_operators
from executors import Kiln
from generate import draw_case


def same(ours, theirs):
    if ours.outputs is None or theirs.outputs is None:
        return ours.outputs is theirs.outputs and ours.sentence == theirs.sentence
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
               for a, b in zip(ours.outputs, theirs.outputs))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", nargs=2)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operators", default="")
    arguments = parser.parse_args()
    builds = [Kiln(program) for program in arguments.programs]
    names = random_operators.operators_of(arguments.operators)
    models, differ = 0, collections.Counter()
    for number in range(arguments.count):
        op = names[number % len(names)]
        case = draw_case(arguments.seed, number, op)
        if case is None:
            continue
        models += 1
        answers = [build.run(case) for build in builds]
        if not same(*answers):
            differ[op] += 1
            print(f"{number}\t{op}\t" + "\t".join(
                str(answer.outputs or answer.sentence).replace("\n", " ") for answer in answers))
    print(f"{models} models, {sum(differ.values())} differ: {dict(differ)}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
