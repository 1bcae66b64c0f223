#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same model by what one would pick instead: PyTorch as it comes, torch.compile (with its CUDA
graphs), ONNX Runtime's CUDA and TensorRT providers, beside Kiln; from and to memory of the host,
one inference after the other, in turns within one process.

    bench/torch_peers.py FOLDER NAME BATCH LIBRARY [PEER]...

FOLDER has NAME.onnx and NAME.plan (bench/export_models.py, kiln build); LIBRARY is the build's
bench_gpu_peer library. PEER: eager, compile, ort_cuda, ort_tensorrt; without any, all. One that is
not there, or fails, is named with its reason. float32 may use TF32, as TensorRT does. Prints JSON.

Preparing takes most of the time. Where BENCH_LOCK names a file, several of these that are started
at the same time prepare beside each other, and measure one after the other once all are ready.
"""
import ctypes
import fcntl
import json
import os
import statistics
import sys
import time

from export_models import feed, make

ROUNDS = 7
MILLISECONDS = 150
SHAPES = {"mlp": ["x=Nx128"], "resnet50": ["x=Nx3x224x224"], "bert": ["ids=Nx128", "mask=Nx128"]}


def through_kiln(folder, name, batch, library):
    peer = ctypes.CDLL(library)
    peer.peer_open.restype = ctypes.c_void_p
    peer.peer_run.argtypes = [ctypes.c_void_p]
    shapes = [shape.encode() for shape in SHAPES[name.removesuffix("_fp16")]]
    core = os.environ["KILN_TENSORRT"]
    opened = peer.peer_open(core.encode(), f"{folder}/{name}.plan".encode(), ctypes.c_int64(batch),
                            (ctypes.c_char_p * len(shapes))(*shapes), ctypes.c_size_t(len(shapes)))
    return lambda: peer.peer_run(opened)


def by_torch(name, batch, compiled):
    import torch

    module, _ = make(name)
    module = module.cuda()
    if compiled:
        module = torch.compile(module, mode="reduce-overhead")
    inputs = [value.cpu().pin_memory() for value in feed(name, batch, "cuda")]
    stream = torch.cuda.current_stream()
    with torch.inference_mode():
        shown = module(*[value.cuda() for value in inputs])
        output = torch.empty(shown.shape, dtype=shown.dtype, pin_memory=True)

    def run():
        with torch.inference_mode():
            output.copy_(module(*[v.cuda(non_blocking=True) for v in inputs]), non_blocking=True)
            stream.synchronize()

    for _ in range(5):
        run()
    return run


def by_onnxruntime(folder, name, batch, provider):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} is not there: {session.get_providers()}")
    values = {item.name: value.cpu().numpy()
              for item, value in zip(session.get_inputs(), feed(name, batch, "cuda"))}
    binding = session.io_binding()
    output = session.get_outputs()[0].name

    def run():
        for key, value in values.items():
            binding.bind_cpu_input(key, value)
        binding.bind_output(output, "cpu")
        session.run_with_iobinding(binding)

    for _ in range(5):
        run()
    return run


def gate(held, how):
    """With BENCH_LOCK: shared by those who prepare, held alone by the one who measures."""
    name = os.environ.get("BENCH_LOCK")
    if name:
        held = held or open(name, "w")
        fcntl.flock(held, how)
    return held


def measure(run):
    times = []
    end = time.perf_counter() + MILLISECONDS / 1e3
    for _ in range(3):
        run()
    while len(times) < 10 or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(times)


def main():
    folder, name, batch, library, *wanted = sys.argv[1:]
    batch = int(batch)
    held = gate(None, fcntl.LOCK_SH)
    import torch

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    ways = {
        "kiln": lambda: through_kiln(folder, name, batch, library),
        "eager": lambda: by_torch(name, batch, False),
        "compile": lambda: by_torch(name, batch, True),
        "ort_cuda": lambda: by_onnxruntime(folder, name, batch, "CUDAExecutionProvider"),
        "ort_tensorrt": lambda: by_onnxruntime(folder, name, batch, "TensorrtExecutionProvider"),
    }
    ready, absent, prepared = {}, {}, {}
    for way, prepare in ways.items():
        if way != "kiln" and wanted and way not in wanted:
            continue
        begin = time.perf_counter()
        try:
            ready[way] = prepare()
            prepared[way] = round(time.perf_counter() - begin, 2)
        except Exception as problem:  # whatever a peer lacks here is told, not hidden
            absent[way] = f"{type(problem).__name__}: {problem}"[:300]
        print(f"{name} {batch}: {way}: {prepared.get(way, absent.get(way))}", file=sys.stderr)
    gate(held, fcntl.LOCK_EX)
    times = {way: [] for way in ready}
    for turn in range(ROUNDS):
        order = list(ready)
        for way in order[turn % len(order):] + order[:turn % len(order)]:
            times[way].append(measure(ready[way]))
    gate(held, fcntl.LOCK_UN)
    found = {way: {"us": statistics.median(t), "low": min(t), "high": max(t),
                   "prepared_s": prepared[way],
                   "kiln_by_it": statistics.median(k / o for k, o in zip(times["kiln"], t))}
             for way, t in times.items()}
    print(json.dumps({"model": name, "batch": batch, "ways": found, "absent": absent}))


main()
