#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a model in a smaller type goes, layer by layer: Kiln's passes against trtexec's
flags for the same type.

    gpu_layers.py BUILD TRTEXEC FOLDER build|measure MODEL:KIND...

Models, kinds, files in FOLDER and PRECISION_LEVEL are those of gpu_precision.py. `build` builds
both plans of each case with one timing cache, so that both have chosen by the same timings.
`measure` has trtexec run both plans, captured and without transfers, in turns (LAYERS_TURNS, 3):
the median of the GPU's time, the best of the turns; and profile both. Layers of the two sides that
share a node of the model, directly or through others, are compared as one group; what belongs to no
node, as a reformat, counts with the layer that reads it. Prints the groups by what Kiln's layers
take more; FOLDER/MODEL.KIND.layers.json has all of them.
"""
import json
import os
import re
import subprocess
import sys

import numpy
import onnx

import gpu_precision as bench

SIDES = ("kiln", "trtexec")
TURNS = int(os.environ.get("LAYERS_TURNS", "3"))


def call(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: "
                           f"{(done.stderr + done.stdout)[-600:]}")
    return done.stdout


def joined(shape):
    return "x".join(map(str, shape))


class Case:
    """A model in a type, by both sides."""

    def __init__(self, build, trtexec, folder, case):
        self.name, self.kind = case.split(":")
        self.kiln, self.trtexec, self.folder = f"{build}/bin/kiln", trtexec, folder
        self.model = bench.Model(build, folder, self.name)
        self.level = str(bench.level_of(self.name) or 3)
        self.timings = f"{folder}/{self.name}.{self.kind}.timings"

    def plan(self, side):
        return f"{self.folder}/{self.name}.{self.kind}.{side}.plan"

    def build_kiln(self):
        profile = " ".join(f"{key}=" + ":".join(map(joined, shapes))
                           for key, *shapes in self.model.ranges())
        kind, _, rest = self.kind.partition("+")
        words = ["--precision", kind, *(["--rest", rest] if rest else [])]
        if kind == "int8":
            words += ["--ranges", f"{self.folder}/{self.name}.ranges.json"]
        return call([self.kiln, "build", self.model.path, "-b", "tensorrt", "-o",
                     self.plan("kiln"), "-p", profile, "--level", self.level, "--verbosity",
                     "detailed", "--timing-cache", self.timings, *words])

    def build_trtexec(self):
        words = [f"--{flag.lower()}" for flag in bench.KINDS[self.kind][1]]
        if "--int8" in words:
            words.append(f"--calib={self.folder}/{self.name}.cache")
        for place, which in enumerate(("min", "opt", "max"), 1):
            words.append(f"--{which}Shapes=" + ",".join(
                f"{row[0]}:{joined(row[place])}" for row in self.model.ranges()))
        return call([self.trtexec, f"--onnx={self.model.path}", "--skipInference",
                     f"--saveEngine={self.plan('trtexec')}", "--profilingVerbosity=detailed",
                     f"--builderOptimizationLevel={self.level}",
                     f"--timingCacheFile={self.timings}", *words])

    def run(self, side, batch, *words):
        shapes = ",".join(f"{key}:{joined((batch, *shape))}"
                          for key, shape in self.model.inputs.items())
        return call([self.trtexec, f"--loadEngine={self.plan(side)}", f"--shapes={shapes}",
                     "--noDataTransfers", "--useSpinWait", "--warmUp=200", *words])

    def milliseconds(self, batch):
        """Of each side."""
        best = dict.fromkeys(SIDES, float("inf"))
        for turn in range(TURNS):
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                said = self.run(side, batch, "--useCudaGraph", "--duration=1", "--iterations=100")
                found = re.search(r"GPU Compute Time:.*median = ([0-9.e+-]+) ms", said)
                best[side] = min(best[side], float(found[1]))
        return best

    def layers(self, side, batch):
        """[(name, nodes, what it reads, what it writes, milliseconds)] in their order."""
        path = f"{self.plan(side)}.{batch}"
        self.run(side, batch, "--duration=0", "--iterations=30", "--dumpProfile",
                 f"--exportProfile={path}.times.json", f"--exportLayerInfo={path}.layers.json")
        with open(f"{path}.times.json", encoding="utf-8") as file:
            times = {row["name"]: row.get("medianMs", row.get("averageMs"))
                     for row in json.load(file) if "name" in row}
        with open(f"{path}.layers.json", encoding="utf-8") as file:
            said = json.load(file)["Layers"]
        return [(layer["Name"], re.findall(r"\[ONNX Layer: ([^\]]*)\]", layer.get("Metadata", "")),
                 *[[tensor["Name"] for tensor in layer.get(what, [])]
                   for what in ("Inputs", "Outputs")], times.get(layer["Name"], 0.0))
                for layer in said]

    def error(self, side):
        """Of the output of eight rows, from float32's."""
        words = []
        for key, value in bench.feed(self.name, 8, 8).items():
            numpy.save(f"{self.folder}/{self.name}.{key}.npy", value)
            words += ["-i", f"{key}={self.folder}/{self.name}.{key}.npy"]
        into = f"{self.plan(side)}.outputs"
        call([self.kiln, "run", self.plan(side), "-b", "tensorrt", "-o", into, *words])
        expected = numpy.load(f"{self.folder}/{self.name}.expected.npy").astype(float)
        return bench.error_of(numpy.load(f"{into}/y.npy"), expected)


def groups_of(known, sides):
    """[(milliseconds by side, names of layers by side)] of two lists of layers."""
    parent = {}

    def root(item):
        parent.setdefault(item, item)
        while parent[item] != item:
            item = parent[item]
        return item

    places = {}
    for side, layers in sides.items():
        heirs = {name: index for index, layer in reversed(list(enumerate(layers)))
                 for name in layer[2]}
        for index in reversed(range(len(layers))):
            _, nodes, _, outputs, _ = layers[index]
            mine = [node for node in nodes if node in known]
            heir = min((heirs[name] for name in outputs if heirs.get(name, -1) > index),
                       default=None)
            if not mine and heir is not None:
                mine = [places[side, heir]]
            place = mine[0] if mine else (side, index)
            places[side, index] = place
            for node in mine:
                parent[root(node)] = root(place)
    found = {}
    for (side, index), place in sorted(places.items()):
        group = found.setdefault(root(place), ({key: 0.0 for key in sides},
                                               {key: [] for key in sides}))
        group[0][side] += sides[side][index][4]
        group[1][side].append(sides[side][index][0])
    return list(found.values())


def behind(group):
    return group[0]["kiln"] - group[0]["trtexec"]


def say_groups(title, groups):
    more = sum(max(behind(group), 0) for group in groups)
    less = sum(min(behind(group), 0) for group in groups)
    print(f"{title}, {len(groups)} groups: +{more:.4f} ms, {less:.4f} ms")
    for group in groups[:6]:
        print(f"   {behind(group):+.4f} ms: kiln {group[0]['kiln']:.4f} "
              f"{' | '.join(group[1]['kiln'])[:300]}; trtexec {group[0]['trtexec']:.4f} "
              f"{' | '.join(group[1]['trtexec'])[:300]}", flush=True)


def measure(case):
    """The largest batch first, and each told at once: who stops it has what came before."""
    known = {node.name for node in onnx.load(case.model.path).graph.node}
    found = {"model": case.name, "kind": case.kind, "level": case.level, "ms": {}, "groups": {}}
    for batch in reversed(bench.BATCHES):
        title = f"{case.name} {case.kind} batch {batch}"
        groups = groups_of(known, {side: case.layers(side, batch) for side in SIDES})
        found["groups"][batch] = sorted(groups, key=behind, reverse=True)
        say_groups(title, found["groups"][batch])
        took = found["ms"][batch] = case.milliseconds(batch)
        print(f"{title}: kiln {took['kiln']:.4f} ms, trtexec {took['trtexec']:.4f}, "
              f"{took['kiln'] / took['trtexec']:.3f}", flush=True)
    found["error"] = {side: case.error(side) for side in SIDES}
    print("   error", ", ".join(f"{side} {error:.4f}" for side, error in found["error"].items()))
    with open(f"{case.folder}/{case.name}.{case.kind}.layers.json", "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)


def main():
    build, trtexec, folder, what, *cases = sys.argv[1:]
    for case in cases:
        one = Case(build, trtexec, folder, case)
        if what == "build":
            print(one.build_kiln(), flush=True)
            one.build_trtexec()
        else:
            measure(one)


if __name__ == "__main__":
    main()
