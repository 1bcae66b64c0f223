#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the second `kiln run` of a model costs, whose plan lies in the cache: whole processes, in
turns, beside a run of the same plan as a file and trtexec's load of it.

    bench/second_start.py KILN MODEL SHAPE ROUNDS [TRTEXEC]

SHAPE is given to --shape ("x=1x3x224x224", or "-" for none). TensorRT is found as always
(KILN_TENSORRT). Prints JSON: seconds of the run that builds, medians of the others, and the ratio
of each to trtexec's of the same round (median, least, greatest); without TRTEXEC, to the bare
plan's.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def wall(command):
    begin = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    took = time.monotonic() - begin
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return took, done.stderr.decode()


def main():
    kiln, model, shape, rounds = sys.argv[1:5]
    trtexec = sys.argv[5] if len(sys.argv) > 5 else None
    shapes = [] if shape == "-" else ["--shape", shape]
    with tempfile.TemporaryDirectory() as folder:
        cache = os.path.join(folder, "cache")
        plan = os.path.join(folder, "model.plan")
        run = [kiln, "run", model, "-b", "tensorrt", "--cache", cache] + shapes
        first, _ = wall(run)
        said = wall(run + ["-v"])[1]
        assert "found in the cache" in said, said[-500:]
        kept = [os.path.join(place, "data") for place, _, names in os.walk(cache)
                if "data.json" in names
                and '"plan"' in open(os.path.join(place, "data.json"), encoding="utf-8").read()]
        assert len(kept) == 1, kept
        os.link(kept[0], plan)
        sides = {"cache": run, "plan": [kiln, "run", plan, "-b", "tensorrt"] + shapes}
        if trtexec:
            sides["trtexec"] = [trtexec, f"--loadEngine={plan}", "--iterations=1", "--duration=0",
                                "--warmUp=0", "--avgRuns=1"]
            if shapes:
                sides["trtexec"].append("--shapes=" + shape.replace("=", ":"))
        times = {name: [] for name in sides}
        for at in range(int(rounds)):
            names = list(sides)
            for name in names[at % len(names):] + names[:at % len(names)]:
                times[name].append(wall(sides[name])[0])
        beside = "trtexec" if trtexec else "plan"
        found = {"model": os.path.basename(model), "model_bytes": os.path.getsize(model),
                 "plan_bytes": os.path.getsize(plan), "built_seconds": round(first, 3),
                 "median_seconds": {name: round(statistics.median(each), 4)
                                    for name, each in times.items()}}
        for name in sides:
            if name != beside:
                ratios = [one / other for one, other in zip(times[name], times[beside])]
                found[f"{name} / {beside}"] = [round(value, 3) for value in (
                    statistics.median(ratios), min(ratios), max(ratios))]
        print(json.dumps(found), flush=True)


main()
