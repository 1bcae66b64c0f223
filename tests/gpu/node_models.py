#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ONNX's node models on a GPU, built and run through Kiln and through NVIDIA's own Python bindings
in one process, each compared with the outputs that ONNX expects.

    node_models.py FEED [--models FOLDER]... [--out FOLDER] [--workers 8] [--seconds 600]
                   [--match TEXT] [--every N] [--known FILE] [--level 0]
                   [--alone BACKEND]

FEED is the module tests/gpu/kiln_feed.so; KILN_TENSORRT names the library, which LD_LIBRARY_PATH
must let the module tensorrt_bindings find too. Without --models the cases are those that Python's
onnx package generates. Both sides build with TF32 off and at the same optimization level (0, which
tries no kernels against each other: this is about what is right), NVIDIA's side with strong typing
and, where that is not right, without.

OUT/nodes.jsonl gets a line for each model as soon as it is known; OUT/nodes.json the table: the
numbers of models that both have right, only NVIDIA's bindings, these with a weakly typed network
alone (Kiln's are strongly typed), only Kiln, neither. FILE lists those that neither has right, and
those that need weak types. The exit status is 1 where a model is right through the bindings and not
through Kiln, or is not right and not listed; 77 where there is no GPU or no library.

With --alone a backend of Kiln's that needs no GPU runs them, without the bindings: for a test of
this script. It fails where less than three quarters are right.
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys
import time
import warnings

import workers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "onnx_node"))
from listed import read_listed, shortest  # noqa: E402  pylint: disable=wrong-import-position

MODEL_SECONDS = 30


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("feed")
    parser.add_argument("--models", action="append", default=[])
    parser.add_argument("--out", default=".")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--match", default="")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--known", default="")
    parser.add_argument("--level", type=int, default=0)
    parser.add_argument("--alone", default="")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- a worker: one process, both sides, one kept builder ---


def read_proto(path):
    import onnx
    from onnx import numpy_helper

    tensor = onnx.TensorProto()
    with open(path, "rb") as file:
        tensor.ParseFromString(file.read())
    return numpy_helper.to_array(tensor)


def case_of(folder):
    """Feeds and expected outputs of the first data set, or why there are none."""
    import onnx

    model = onnx.load(os.path.join(folder, "model.onnx"))
    known = {i.name for i in model.graph.initializer}
    data = os.path.join(folder, "test_data_set_0")
    values = []
    for kind, infos in (("input", [i for i in model.graph.input if i.name not in known]),
                        ("output", model.graph.output)):
        found = {}
        for index, info in enumerate(infos):
            if not info.type.HasField("tensor_type"):
                raise ValueError(f"the {kind} {info.name} is a sequence, an optional or a map")
            if info.type.tensor_type.elem_type == onnx.TensorProto.STRING:
                raise ValueError(f"the {kind} {info.name} is of strings")
            found[info.name] = read_proto(os.path.join(data, f"{kind}_{index}.pb"))
        values.append(found)
    return values


def difference(expected, found):
    """Empty where the outputs are right. A library that has no float64 gives float32."""
    import numpy

    for name, right in expected.items():
        if name not in found:
            return f"{name} is missing"
        value = found[name]
        if value.shape != right.shape:
            return f"{name} has the shape {value.shape}, {right.shape} is expected"
        if value.dtype != right.dtype and {str(value.dtype), str(right.dtype)} != {"float32",
                                                                                  "float64"}:
            return f"{name} is of {value.dtype}, {right.dtype} is expected"
        if value.dtype.kind in "fV" or "float" in str(value.dtype):
            narrow = right.dtype.itemsize < 4
            bound = {"bfloat16": 2e-2, "float16": 4e-3}.get(str(right.dtype), 1e-3)
            a, b = right.astype(numpy.float64), value.astype(numpy.float64)
            good = numpy.isclose(b, a, rtol=bound, atol=1e-3 if narrow else 1e-5, equal_nan=True)
        else:
            good = right == value
        if not numpy.all(good):
            at = numpy.unravel_index(numpy.argmin(good), right.shape) if right.shape else ()
            return f"{name}{list(map(int, at))} is {value[at]}, {right[at]} is expected"
    return ""


def judge(act, expected):
    """[word, detail] of one side."""
    try:
        detail = difference(expected, act())
        return ["wrong", detail] if detail else ["right", ""]
    except Exception as error:  # theirs and ours
        return ["failed", str(error)[:400]]


def as_bound(engine, feeds):
    """The arrays in the types that the engine says it takes."""
    return {name: feeds[name] if dtype is None else feeds[name].astype(dtype)
            for name, dtype, _ in engine.bindings(True)}


def through_kiln(kiln, path, ranges, feeds, level):
    on_tensorrt = kiln.backend == b"tensorrt"
    engine = kiln.build(path, ranges, tf32=not on_tensorrt, level=level if on_tensorrt else None)
    try:
        return engine.run(as_bound(engine, feeds))
    finally:
        engine.release()


def worker(args):
    import numpy

    import kiln_feed
    import nvidia_bindings

    warnings.simplefilter("ignore")
    numpy.seterr(all="ignore")
    if args.alone:
        theirs = None
        ours = kiln_feed.Kiln(args.feed, args.alone)
    else:
        theirs = nvidia_bindings.Bindings()
        ours = kiln_feed.Kiln(args.feed, library=os.environ["KILN_TENSORRT"])
    print("ready", flush=True)
    for line in sys.stdin:
        folder, _, sides = line.rstrip("\n").partition("\t")
        answer = {"name": os.path.basename(folder)}
        try:
            feeds, expected = case_of(folder)
        except Exception as error:  # whatever the package cannot read
            answer["excuse"] = str(error)[:200]
            print(json.dumps(answer), flush=True)
            continue
        try_sides(answer, sides.split(","), os.path.join(folder, "model.onnx"),
                  (theirs, ours, feeds, expected, args.level))
        print(json.dumps(answer), flush=True)


def try_sides(answer, sides, path, case):
    theirs, ours, feeds, expected, level = case
    ranges = {}

    def bindings(typed):
        plan, found = theirs.build(path, feeds, typed, level)
        ranges.update(found)
        return theirs.run(plan, feeds)

    acts = {"nvidia": lambda: bindings(True), "nvidia_weak": lambda: bindings(False),
            "kiln": lambda: through_kiln(ours, path, ranges, feeds, level)}
    for side in sides:
        if side == "nvidia_weak" and answer.get("nvidia", [""])[0] == "right":
            continue
        print(side, flush=True)  # whose fault it is if nothing follows
        begin = time.monotonic()
        answer[side] = judge(acts[side], expected)
        answer[side].append(round(time.monotonic() - begin, 3))


# --- the parent ---


def ask(worker, task):
    """The answer. A side that ends the process is noted, and the others are asked again."""
    folder, sides = task[0], list(task[1])
    answer = {"name": os.path.basename(folder)}
    while sides:
        found, culprit, word = worker.ask(f"{folder}\t{','.join(sides)}", MODEL_SECONDS)
        if found is None and culprit is None:
            return None
        if found is not None:
            answer.update(found)
            break
        if culprit not in sides:
            answer["excuse"] = f"{word} while it was read"
            break
        answer[culprit] = [word, "", 0]
        sides.remove(culprit)
    answer["is"] = category(answer)
    return answer


def category(answer):
    if "excuse" in answer:
        return "no data"
    theirs, weak, ours = (answer.get(s, [""])[0] == "right"
                          for s in ("nvidia", "nvidia_weak", "kiln"))
    if weak and not ours:
        return "only weakly typed"
    theirs = theirs or weak
    return {(True, True): "both", (True, False): "only nvidia", (False, True): "only kiln",
            (False, False): "neither"}[(theirs, ours)]


def why_not(answer):
    for side in ("kiln", "nvidia", "nvidia_weak"):
        if side in answer and answer[side][0] != "right":
            text = " ".join(f"{answer[side][0]}: {answer[side][1]}".split())
            return re.sub(r"\S+/model\.onnx: ", "", text)
    return answer.get("excuse", "")


def report(args, answers, left):
    table = {}
    for answer in answers:
        table.setdefault(answer["is"], []).append(answer["name"])
    counts = {kind: len(names) for kind, names in sorted(table.items())}
    seconds = {side: round(sum(a[side][2] for a in answers if side in a), 1)
               for side in ("nvidia", "nvidia_weak", "kiln")}
    known = read_listed(args.known) if args.known else lambda name: "no list"
    listed = ("neither", "only weakly typed")
    new = [a for a in answers if a["is"] in listed and not known(a["name"])]
    with open(os.path.join(args.out, "nodes.json"), "w", encoding="utf-8") as file:
        json.dump({"models": len(answers), "not reached": left, "counts": counts,
                   "seconds": seconds, "only nvidia": table.get("only nvidia", []),
                   "not listed": [a["name"] for a in new]}, file, indent=1)
    with open(os.path.join(args.out, "neither.tsv"), "w", encoding="utf-8") as file:
        file.writelines(f"{pattern}\t{why}\n" for pattern, why in shortest(
            {a["name"]: why_not(a)[:110] if a["is"] in listed else "right"
             for a in sorted(answers, key=lambda a: a["name"])}))
    for answer in answers:
        if answer["is"] == "only nvidia":
            print(f"only NVIDIA's bindings: {answer['name']}: {why_not(answer)[:300]}")
    for answer in new:
        print(f"{answer['is']}, and not listed: {answer['name']}: {why_not(answer)[:200]}")
    for answer in answers:
        if args.known and known(answer["name"]) and answer["is"] in ("both", "only kiln"):
            print(f"listed, and right now: {answer['name']}")
    print(f"{len(answers)} models, {left} not reached, {counts}, seconds {seconds}")
    return 1 if table.get("only nvidia") or new else 0


def models(args):
    folders = args.models
    if not folders:
        folders = [os.path.join(args.out, "cases")]
        script = os.path.join(HERE, "..", "onnx_node", "write_cases.py")
        subprocess.run([sys.executable, script, folders[0]], check=True)
    found = sorted(p for folder in folders for p in glob.glob(f"{folder}/*")
                   if os.path.exists(f"{p}/model.onnx") and args.match in p)
    return found[::args.every]


def main():
    args = arguments()
    if args.worker:
        return worker(args)
    if not args.alone and not (os.path.exists("/dev/nvidiactl") and
                               os.environ.get("KILN_TENSORRT")):
        print("skipped: there is no GPU here, or KILN_TENSORRT names no library")
        return 77
    os.makedirs(args.out, exist_ok=True)
    command = [sys.executable, os.path.abspath(__file__), args.feed, "--worker", "--level",
               str(args.level)]
    sides = ["kiln"] if args.alone else ["nvidia", "nvidia_weak", "kiln"]
    if args.alone:
        command += ["--alone", args.alone]
    answers, left = workers.run_all([(path, sides) for path in models(args)], command, ask,
                                    args.workers, args.seconds, args.out, "nodes")
    if args.alone:
        right = sum(answer["is"] == "only kiln" for answer in answers)
        print(f"{right} of {len(answers)} right, {left} not reached")
        return 0 if left == 0 and right * 4 > len(answers) * 3 else 1
    return report(args, answers, left)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status or 0)  # threads may still wait for a worker
