#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Known architectures (architecture_models.py, detector_models.py) exported from PyTorch with
random weights, built and run through Kiln and TensorRT in float32 and float16: the outputs are
PyTorch's.

    architectures.py FEED [--out FOLDER] [--workers 6] [--seconds 600] [--only NAME,...]
                     [--backend NAME] [--precision fp32,fp16] [--level 1]

FEED is the module tests/gpu/kiln_feed.so; KILN_TENSORRT names the library. They are built at level
1, which tries few kernels against each other. An output passes where
every element has |found - expected| <= relative * |expected| + absolute * max |expected|: float32
with TF32 off on both sides 1e-3 and 1e-4; float16 2e-2 and 2e-2, for both round after every layer
but not after the same ones. Of a detector every box must have its like among those that were found.
torchvision's own detectors (detector_models.WHOLE) are built where --only names them.

What the library refuses is built through NVIDIA's bindings too, where they are here: "neither" is
what does not build there either.

OUT/architectures.jsonl gets a line for each as soon as it is known, OUT/architectures.json the
table. The exit status is 1 where one does not pass, 77 where there is no GPU or no library.
"""
import argparse
import json
import os
import sys
import tempfile
import time
import warnings

import workers

MODEL_SECONDS = 150
TOLERANCES = {"fp32": (1e-3, 1e-4), "fp16": (2e-2, 2e-2)}
OPSET = 17


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("feed")
    parser.add_argument("--out", default=".")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--only", default="")
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--precision", default="fp32,fp16")
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- a worker ---


def settle(module, inputs):
    """What batch normalization makes of random weights without statistics vanishes or grows from
    layer to layer, beyond what float16 holds: one look at the inputs gives it some."""
    import torch

    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average of what is seen
        norm.train()
    with torch.no_grad():
        module(*inputs.values())
    module.eval()


def prepare(name, precision, device):
    """The module, its inputs and what PyTorch makes of them."""
    import torch
    from architecture_models import ALL
    from detector_models import SMALL, WHOLE

    torch.manual_seed(0)
    module, inputs = {**ALL, **SMALL, **WHOLE}[name]()
    module = module.eval().to(device)
    inputs = {key: value.to(device) for key, value in inputs.items()}
    settle(module, inputs)
    if precision == "fp16":
        module = module.half()
        inputs = {key: value.half() if value.is_floating_point() else value
                  for key, value in inputs.items()}
    with torch.no_grad():
        found = module(*inputs.values())
    outputs = [found] if isinstance(found, torch.Tensor) else list(found)
    return module, inputs, [value.detach().cpu().numpy() for value in outputs]


def export(module, inputs, count, path):
    """By tracing, or where that fails by the newer exporter: which."""
    import torch

    names = {"input_names": list(inputs), "output_names": [f"y{i}" for i in range(count)]}
    first = None
    for way, more in (("trace", {"dynamo": False, "opset_version": OPSET}),
                      ("dynamo", {"dynamo": True, "verbose": False})):
        try:
            with torch.no_grad():
                torch.onnx.export(module, tuple(inputs.values()), path, **names, **more)
            return way
        except Exception as error:
            first = first or error
    raise first


def unlike(expected, found, precision):
    """How many elements differ, and by how much at most, in parts of the largest."""
    import numpy

    a = expected.astype(numpy.float64)
    b = found.astype(numpy.float64)
    if a.shape != b.shape:
        return a.size, f"shape {b.shape}, expected {a.shape}"
    if a.size == 0:
        return 0, 0.0
    if expected.dtype.kind not in "f":
        return int(numpy.sum(a != b)), 0.0
    relative, absolute = TOLERANCES[precision]
    largest = float(numpy.max(numpy.abs(a)))
    far = numpy.abs(a - b)
    bad = ~(far <= relative * numpy.abs(a) + absolute * largest)
    return int(numpy.sum(bad)), float(numpy.max(far) / (largest or 1.0))


def unlike_boxes(expected, found, precision):
    """The same for a detector's boxes, scores and labels, in whatever order."""
    import numpy

    relative, absolute = TOLERANCES[precision]
    lost = 0
    worst = 0.0
    side = float(numpy.max(expected[0], initial=1.0))
    for box, score, label in zip(*expected):
        far = numpy.max(numpy.abs(found[0].astype(float) - box), axis=1, initial=0.0) / side
        far = numpy.maximum(far, numpy.abs(found[1].astype(float) - score))
        far = far[found[2] == label]
        best = float(numpy.min(far, initial=1.0))
        lost += best > relative + absolute
        worst = max(worst, best)
    return lost + abs(len(found[1]) - len(expected[1])), worst


def check(kiln, name, precision, device, level):
    import detector_models

    answer = {"name": name, "precision": precision}
    begin = time.monotonic()
    module, inputs, expected = prepare(name, precision, device)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{name}.onnx")
        print("export", flush=True)
        answer["exporter"] = export(module, inputs, len(expected), path)
        answer["export_seconds"] = round(time.monotonic() - begin, 2)
        print("build", flush=True)
        begin = time.monotonic()
        on_tensorrt = kiln.backend == b"tensorrt"
        try:
            engine = kiln.build(path, tf32=not on_tensorrt, level=level if on_tensorrt else None)
        except Exception as error:
            answer["why"] = f"{error}"[:500]
            answer["is"] = "failed" if nvidia_builds(path, level) else "neither"
            return answer
        answer["build_seconds"] = round(time.monotonic() - begin, 2)
    print("run", flush=True)
    feeds = {key: value.cpu().numpy() for key, value in inputs.items()}
    names = [binding[0] for binding in engine.bindings(True)]
    answer["unused"] = [key for key in feeds if key not in names]
    found = engine.run({key: feeds[key] for key in names}, runs=3)
    engine.release()
    found = [found[f"y{i}"] for i in range(len(expected))]
    if name in detector_models.SMALL or name in detector_models.WHOLE:
        results = [unlike_boxes(expected, found, precision)]
    else:
        results = [unlike(a, b, precision) for a, b in zip(expected, found)]
    answer["different"] = sum(r[0] for r in results)
    answer["elements"] = sum(int(a.size) for a in expected)
    answer["largest"] = [r[1] for r in results][:4]
    answer["is"] = "equal" if answer["different"] == 0 else "different"
    return answer


def nvidia_builds(path, level):
    """Whether NVIDIA's own bindings, where they are here, build what Kiln does not."""
    try:
        import nvidia_bindings
    except ImportError:
        return True
    print("build by the bindings", flush=True)
    nvidia = nvidia_bindings.Bindings()
    for strongly_typed in (True, False):
        try:
            nvidia.build(path, {}, strongly_typed, level)
            return True
        except nvidia_bindings.Failure:
            pass
    return False


def worker(args):
    import kiln_feed
    import torch

    warnings.simplefilter("ignore")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    library = os.environ.get("KILN_TENSORRT") if args.backend == "tensorrt" else None
    kiln = kiln_feed.Kiln(args.feed, args.backend, library)
    print("ready", flush=True)
    for line in sys.stdin:
        name, precision = line.split()
        try:
            answer = check(kiln, name, precision, device, args.level)
        except Exception as error:
            answer = {"name": name, "precision": precision, "is": "failed",
                      "why": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


# --- the parent ---


def ask(worker_, task):
    found, at, word = worker_.ask(" ".join(task), MODEL_SECONDS)
    if found is None and at is None:
        return None
    return found or {"name": task[0], "precision": task[1], "is": word, "why": f"in {at}"}


def report(args, answers, left):
    workers.write_rows(os.path.join(args.out, "architectures.json"),
                       {"not reached": left, "tolerances": TOLERANCES,
                        "all": sorted(answers, key=lambda a: (a["name"], a["precision"]))})
    for answer in sorted(answers, key=lambda a: (a["name"], a["precision"])):
        more = answer.get("why") or (f"{answer['different']} of {answer['elements']} differ,"
                                     f" largest {answer['largest']}, {answer['exporter']},"
                                     f" built in {answer['build_seconds']} s")
        print(f"{answer['name']:16} {answer['precision']} {answer['is']:10} {more}"[:300])
    counts = {}
    for answer in answers:
        counts[answer["is"]] = counts.get(answer["is"], 0) + 1
    print(f"{len(answers)} of {len(answers) + left} reached: {counts}")
    return 0 if set(counts) <= {"equal", "neither"} and left == 0 else 1


def main():
    args = arguments()
    if args.worker:
        return worker(args)
    if args.backend == "tensorrt" and not (os.path.exists("/dev/nvidiactl") and
                                           os.environ.get("KILN_TENSORRT")):
        print("skipped: there is no GPU here, or KILN_TENSORRT names no library")
        return 77
    from architecture_models import ALL
    from detector_models import SMALL

    os.makedirs(args.out, exist_ok=True)
    names = args.only.split(",") if args.only else [*ALL, *SMALL]
    tasks = [(name, precision) for name in names for precision in args.precision.split(",")]
    command = [sys.executable, os.path.abspath(__file__), args.feed, "--backend", args.backend,
               "--level", str(args.level), "--worker"]
    answers, left = workers.run_all(tasks, command, ask, args.workers, args.seconds, args.out,
                                    "architectures")
    return report(args, answers, left)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status or 0)  # threads may still wait for a worker
