"""The reference executor against onnx.reference, operator by operator, in processor time with one
thread each: the fastest of some runs of a model of one node, three times in turns, in shapes as
images and texts have them (reference_cases.py).

    reference_operators.py BENCH_REFERENCE [--double] [--library] [WORD|MODEL...]

WORDs choose the operators whose names contain one; a MODEL ends in .onnx, and is measured whole.
With --double a line also says what onnx.reference takes for the same numbers as doubles, of which
OpenBLAS's dgemm is a part: what the reference can be held to that computes in double. With
--library it says of functions of doubles what a loop of calls of the C library's takes, whose
results the reference's are.
Results lie in memory of their own: where NumPy's is a view of the input, a copy is part of the
time. Fails where one is slower than its peer
that docs/reference.md does not list with the reason.

SPDX-License-Identifier: Apache-2.0
"""

import copy
import os
import re
import subprocess
import sys
import tempfile
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy  # noqa: E402
import onnx  # noqa: E402
import onnx.reference  # noqa: E402

import reference_cases  # noqa: E402

# Slower here, by docs/reference.md, and why: what takes doubles, half as many at a time as floats;
# what takes one element at a time, calls the C library for each, or goes by 64 bits.
IN_DOUBLE = ("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Einsum", "Gemm",
             "Log", "MatMul", "Pow, of floats", "Sin", "Sinh", "Tan", "Tanh")
ONE_BY_ONE = ("Pow, negative numbers", "Softmax, float64")
BY_TYPE = re.compile("Cast float64 to int|Reduce(Sum|Prod|LogSumExp), first|ReduceSum, all|"
                     "ArgMax, float64|Round, float64|Mod$|Slice, steps|Softsign|"
                     "(Elu|Exp|Log|Tanh|Sigmoid|Sin|Tan|Asin|Atan|Sinh|Cosh|Asinh), float64")


def reason_of(name):
    for names, reason in ((IN_DOUBLE, "in double"), (ONE_BY_ONE, "one by one")):
        if (name + ",").startswith(tuple(one + "," for one in names)):
            return reason
    return "by its type" if BY_TYPE.match(name) else "slower"


def feed_of(made, limits):
    """Random numbers for each input that no initializer gives a value."""
    given = {tensor.name for tensor in made.graph.initializer}
    random = numpy.random.RandomState(1)
    feed = {}
    for value in made.graph.input:
        if value.name not in given:
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            shape = [dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim]
            feed[value.name] = (random.uniform(*limits, shape) if kind.kind == "f" else
                                random.randint(0, 2 if kind == bool else 100, shape)).astype(kind)
    return feed


def own(output, feed):
    """The output in memory of its own, its elements in their order."""
    if isinstance(output, list):  # what an optional or a sequence holds
        return [own(one, feed) for one in output]
    if not isinstance(output, numpy.ndarray):
        return output
    shared = any(numpy.may_share_memory(output, value) for value in feed.values())
    return output.copy() if shared else numpy.ascontiguousarray(output)


def in_double(made):
    """The same model of float64 where it is one of float32."""
    made = copy.deepcopy(made)
    for tensor in made.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(numpy.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*made.graph.input, *made.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return made


def time_of_peer(made, feed):
    """Milliseconds; NaN where it cannot."""
    best, total, runs = float("inf"), 0.0, 0
    try:
        session = onnx.reference.ReferenceEvaluator(made)
        while runs < 2 or (total < 0.3 and runs < 200):
            begin = time.thread_time()
            for output in session.run(None, feed):
                own(output, feed)
            took = time.thread_time() - begin
            best, total, runs = min(best, took), total + took, runs + 1
            if total > 0.6:
                break
    except Exception as error:  # whatever it fails with
        print(f"onnx.reference: {type(error).__name__}: {str(error)[:90]}", file=sys.stderr)
        return float("nan")
    return best * 1e3


def times_of(program, path, limits):
    """Milliseconds of the reference executor and of ONNX Runtime; NaN where it cannot."""
    ran = subprocess.run([program, "--range", *map(str, limits), path], capture_output=True,
                         text=True)
    words = ran.stdout.split()
    if len(words) <= 5:
        print(ran.stderr.strip(), file=sys.stderr)
        return (float("nan"),) * 2
    return float(words[2]), float(words[5])


# What is called for each element of these, where it has another name than the operator.
CALLED = {"Elu": "expm1", "Sigmoid": "exp", "Softmax": "exp"}


def time_of_library(program, name, feed, limits):
    """Milliseconds of a loop over as many doubles; NaN of what is no function of doubles."""
    operator, _, kind = name.partition(", ")
    if kind != "float64":
        return float("nan")
    count = sum(value.size for value in feed.values())
    ran = subprocess.run([program, "--range", *map(str, limits), "--library",
                          CALLED.get(operator, operator.lower()), str(count)],
                         capture_output=True, text=True)
    return float(ran.stdout)


def measure(program, path, name, made, limits, double, library):
    """Prints a line; whether it is slower than it should be."""
    feed = feed_of(made, limits)
    rounds = [(*times_of(program, path, limits), time_of_peer(made, feed)) for _ in range(3)]
    mine, runtime, peer = (min(column) for column in zip(*rounds))
    slower = mine > peer
    note = "   " + reason_of(name) if slower else ""
    floor = ""
    if double:
        wide = in_double(made)
        best = min(time_of_peer(wide, feed_of(wide, limits)) for _ in range(3))
        floor = f"   in double {best:9.3f} ms   ratio {mine / best:5.2f}"
    if library:
        best = min(time_of_library(program, name, feed, limits) for _ in range(3))
        floor += f"   C library {best:9.3f} ms   ratio {mine / best:5.2f}"
    print(f"{name:26} reference {mine:9.3f} ms   onnx.reference {peer:9.3f} ms   "
          f"ratio {mine / peer:5.2f}   onnxruntime {runtime:8.3f} ms   "
          f"ratio {mine / runtime:6.1f}{floor}{note}", flush=True)
    return note


def main():
    double = "--double" in sys.argv
    library = "--library" in sys.argv
    program, *words = [word for word in sys.argv[1:] if word not in ("--double", "--library")]
    models = [word for word in words if word.endswith(".onnx")]
    words = [word.lower() for word in words if word not in models]
    notes = []
    for path in models:
        measure(program, path, os.path.basename(path), onnx.load(path), (-1, 1), double, library)
    chosen = [case for case in reference_cases.all_cases()
              if (not words and not models) or any(word in case[0].lower() for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "one.onnx")
        for name, made, limits in chosen:
            onnx.save(made, path)
            notes.append(measure(program, path, name, made, limits, double, library))
    slower = [note for note in notes if note.endswith("slower")]
    print(f"{len(chosen)} operators, {len(chosen) - notes.count('')} slower than onnx.reference, "
          f"{len(slower)} of them without a reason")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
