#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The JSON files that scripts/bench_tensorrt.sh left in a folder as Markdown.

    bench/tensorrt_table.py FOLDER > table.md
"""
import glob
import json
import os
import sys


def load(folder, kind):
    for path in sorted(glob.glob(f"{folder}/{kind}_*.json")):
        try:
            with open(path, encoding="utf-8") as file:
                yield os.path.basename(path)[len(kind) + 1 : -5], json.load(file)
        except ValueError:
            print(f"\n{os.path.basename(path)} is not whole.")


def print_table(title, text, headings, rows):
    if rows:
        print(f"\n## {title}\n\n{text}\n")
        print("| " + " | ".join(headings) + " |")
        print("| " + " | ".join("---" for _ in headings) + " |")
        for row in rows:
            print("| " + " | ".join(row) + " |")


def spread(ratio):
    return f"{ratio[1]:.3f} ({ratio[0]:.3f} to {ratio[2]:.3f})"


def latency(folder):
    forms = ("pinned", "copies", "mapped", "mapped_in", "mapped_out")
    rows = []
    for name, found in load(folder, "latency"):
        for result in found["results"]:
            best = result["best_direct"]
            rows.append([name, result["what"].removeprefix("batch "),
                         f"{result['kiln_pinned_us']:.1f}", f"{result[best + '_us']:.1f}",
                         best.removeprefix("raw_"), spread(result["ratio"]),
                         *(f"{result[f'raw_{form}_us']:.1f}" for form in forms),
                         f"{result['kiln_host_us']:.1f}", f"{result['raw_pageable_us']:.1f}",
                         f"{result['kiln_device_us']:.1f}", f"{result['raw_device_us']:.1f}"])
    print_table("Latency", "Microseconds of one inference, from and to memory of the host. "
                "The ratio is Kiln's by the best direct form's, within a round: median, least and "
                "most. `host` is ordinary memory, the rest pinned; `device` copies nothing.",
                ["model", "batch", "Kiln", "best direct", "form", "ratio",
                 *(form.replace("_", " ") for form in forms), "Kiln, host", "direct, host",
                 "Kiln, device", "direct, device"], rows)


def first(folder):
    rows = [[name, str(found["batch"]), f"{found['kiln_ms']:.2f}", f"{found['direct_ms']:.2f}",
             spread(found["ratio"]), f"{found['kiln_loaded_ms']:.2f}",
             f"{found['kiln_ready_ms']:.2f}",
             *(f"{found[f'{way}_loaded_ms']:.2f}" for way in ("direct", "mapped"))]
            for name, found in load(folder, "first")]
    print_table("From a plan's file to the first answer", "Milliseconds from the beginning on.",
                ["model", "batch", "Kiln", "direct calls", "ratio", "Kiln: an engine",
                 "a context", "direct: an engine", "from the mapped file"], rows)


def throughput(folder):
    rows = []
    for name, found in load(folder, "throughput"):
        for result in found["results"]:
            own, theirs = result["kiln"], result["trtexec"]
            rows.append([name, str(result["batch"]), f"{own['per_second']:.0f}",
                         f"{own['streams']} / {own['ahead']} / {own['callers']}"
                         + (", staggered" if own.get("staggered") else ""),
                         f"{theirs['per_second']:.0f}", str(theirs["streams"]),
                         spread(result["ratio"])])
    print_table("Throughput", "Inferences in a second, each side at its best of the "
                "streams that were tried. More is better.",
                ["model", "batch", "Kiln", "streams / ahead / callers", "trtexec", "streams",
                 "ratio"], rows)


def build(folder):
    # Whose builds, and which of them, beside which of the bindings'.
    kinds = {"first": ("kiln", 0, 0), "second": ("kiln", 1, 1), "second_cached": ("cached", 0, 1)}
    rows = []
    for name, found in load(folder, "build"):
        for what, (own, place, other) in kinds.items():
            seconds = (", ".join(f"{times[at][0] / 1e3:.2f}" for times in found["ms"][side])
                       for side, at in ((own, place), ("bindings", other)))
            rows.append([name, what, *seconds, spread(found["ratio"][what]),
                         spread(found["ratio"]["second_own"]) if what == "second" else "-"])
    print_table("Building", "Seconds until there is an engine, in a fresh process each; cached: "
                "with Kiln's cache of engines.",
                ["model", "build", "Kiln", "NVIDIA's bindings", "ratio",
                 "of it TensorRT's own call"], rows)


def peers(folder):
    kinds = ("eager", "compile", "ort_cuda", "ort_tensorrt")
    rows, absent = [], {}
    found_all = sorted((found for _, found in load(folder, "peers")),
                       key=lambda found: (found["model"], found["batch"]))
    for found in found_all:
        ways = found["ways"]
        if "kiln" not in ways:
            continue
        row = [found["model"], str(found["batch"]), f"{ways['kiln']['us']:.1f}"]
        for kind in kinds:
            row.append(f"{ways[kind]['us']:.1f} ({ways[kind]['kiln_by_it']:.3f})"
                       if kind in ways else "-")
        fastest = min(ways, key=lambda way: ways[way]["us"])
        rows.append([*row, fastest])
        absent.update(found["absent"])
    print_table("What one would pick instead", "Microseconds of one inference, from and to memory "
                "of the host; in brackets Kiln's time by it, so that below 1 Kiln is faster.",
                ["model", "batch", "Kiln", "PyTorch", "torch.compile", "ONNX Runtime, CUDA",
                 "ONNX Runtime, TensorRT", "fastest"], rows)
    for kind, reason in absent.items():
        print(f"\n{kind} was not there: {reason}")


def main():
    folder = sys.argv[1]
    print("# TensorRT on a GPU\n\nWritten by `scripts/bench_tensorrt.sh`.")
    for part in (latency, throughput, first, build, peers):
        part(folder)
    left_out = os.path.join(folder, "left_out.txt")
    if os.path.exists(left_out):
        print("\n" + open(left_out, encoding="utf-8").read())


main()
