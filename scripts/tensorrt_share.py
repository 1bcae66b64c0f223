#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which of ONNX's node models TensorRT-RTX takes through Kiln, and which through NVIDIA's own
Python bindings.

    scripts/tensorrt_share.py DRIVER DEPS_DIR [--models FOLDER] [--match TEXT]

DRIVER is the program tests/tensorrt/tensorrt_share_driver. Both get the same models, the same
compute capability and the same optimization profile, made of the shapes and values of the model's
own test data. Every model that one of them parses or builds and the other does not is printed; the
exit status is 0 where there is none, 77 where a library is missing.
"""
import argparse
import glob
import os
import subprocess
import sys

VERSION = "1.7.1.116"
CAPABILITY = 89


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("driver")
    parser.add_argument("deps")
    parser.add_argument("--models", default="/usr/share/libonnx-testdata/data/node")
    parser.add_argument("--match", default="")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- NVIDIA's side, in a process of its own: a model that ends it must not end the comparison ---


def test_values(path):
    """The arrays of the model's first data set, by input name."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    known = {i.name for i in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in known]
    values = {}
    for index, name in enumerate(names):
        file = os.path.join(os.path.dirname(path), "test_data_set_0", f"input_{index}.pb")
        try:
            tensor = onnx.TensorProto()
            with open(file, "rb") as data:
                tensor.ParseFromString(data.read())
            values[name] = numpy_helper.to_array(tensor)
        except Exception:  # a sequence, an optional, or nothing
            pass
    return values


def build_in_python(trt, logger, path):
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    with open(path, "rb") as data:
        if not parser.parse(data.read(), path):
            return "refused", []
    values = test_values(path)
    profile = builder.create_optimization_profile()
    given = []
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        value = values.get(tensor.name)
        if value is None or not (tensor.is_shape_tensor or -1 in tuple(tensor.shape)):
            continue
        if tensor.is_shape_tensor:
            flat = [int(v) for v in value.flatten()]
            profile.set_shape_input(tensor.name, flat, flat, flat)
            given.append(f"{tensor.name}=v" + ",".join(map(str, flat)))
        else:
            profile.set_shape(tensor.name, value.shape, value.shape, value.shape)
            given.append(f"{tensor.name}=" + "x".join(map(str, value.shape)))
    if given:
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return ("built" if plan is not None else "parsed"), given


def worker(deps):
    sys.path[:0] = [f"{deps}/tensorrt/bindings-{VERSION}", f"{deps}/tensorrt/rtx-{VERSION}"]
    import tensorrt_rtx_bindings as trt

    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    for line in sys.stdin:
        path = line.strip()
        try:
            word, given = build_in_python(trt, logger, path)
        except Exception as error:
            word, given = "parsed", []
            print(f"{path}: {error}", file=sys.stderr)
        print("\t".join([path, word, *given]), flush=True)


# --- both ---


def feed(command, requests):
    """One answer for each request; the program is started anew after one that ends it."""
    answers = []
    while len(answers) < len(requests):
        left = requests[len(answers):]
        done = subprocess.run(command, input="\n".join(left) + "\n", capture_output=True, text=True,
                              errors="replace")
        lines = done.stdout.splitlines()[:len(left)]
        answers += [line.split("\t") for line in lines]
        if len(lines) < len(left):
            if done.returncode > 0:
                sys.exit(f"{command[0]}: {done.stderr[-2000:]}")
            answers.append([left[len(lines)].split("\t")[0], "crashed"])
    return answers


def main():
    args = arguments()
    if args.worker:
        return worker(args.deps)
    library = f"{args.deps}/tensorrt/rtx-{VERSION}/tensorrt_rtx_libs"
    if not os.path.isdir(library) or not os.path.isdir(f"{args.deps}/tensorrt/bindings-{VERSION}"):
        print("skipped: TensorRT-RTX or its bindings are missing (install_deps.sh tensorrt)")
        return 77
    models = sorted(p for p in glob.glob(f"{args.models}/*/model.onnx") if args.match in p)
    if not models:
        print(f"skipped: there are no models in {args.models}")
        return 77
    theirs = feed([sys.executable, __file__, args.driver, args.deps, "--worker"], models)
    requests = ["\t".join([answer[0], *answer[2:]]) for answer in theirs]
    ours = feed([args.driver, library, str(CAPABILITY)], requests)
    differences = 0
    for a, b in zip(theirs, ours):
        if a[1] != b[1]:
            differences += 1
            print(f"{a[0]}: Python {a[1]}, Kiln {b[1]}: {b[2] if len(b) > 2 else ''}")
    for who, answers in (("Python", theirs), ("Kiln", ours)):
        words = [answer[1] for answer in answers]
        built = words.count("built")
        print(f"{who}: {len(words)} models, {built + words.count('parsed')} parsed, {built} built,"
              f" {words.count('crashed')} crashed")
    print(f"{differences} differences")
    return 1 if differences else 0


sys.exit(main())
