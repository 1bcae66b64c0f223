#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A scheduler on a plan: against the bare engine (bench_schedule), then trtexec at the batch at
which the scheduler was best.

    bench/gpu_schedule.py [SWITCH]... DRIVER LIBRARY TRTEXEC PLAN SECONDS BATCHES AT_ONCE
                          [NAME=DIMS]...

DRIVER is bench_schedule, which gets the switches (--pinned); DIMS as Nx3x224x224, N for the batch.
trtexec looks for its best number of streams first (BENCH_STREAMS), then runs BENCH_TURNS times; it
reads and writes pinned memory. It keeps two batches of each stream outstanding, one copied while
the other is computed; "trtexec_within" is its best with no more rows outstanding than AT_ONCE: one
batch of a stream at a time (--exposeDMA). Prints JSON.
"""
import json
import statistics
import subprocess
import sys

from gpu_throughput import ROUNDS, STREAMS, trtexec, while_time


def best_of(run, streams, brief, batch):
    tried = {n: run(brief, n) for n in while_time(sorted(streams, key=lambda n: n != 2), 0.3)}
    best = max(tried, key=tried.get)
    rows = [run(brief * 2, best) * batch for _ in while_time(range(ROUNDS), 0.5)]
    return {"batch": batch, "streams": best, "rows": statistics.median(rows),
            "tried": {n: round(rate, 1) for n, rate in tried.items()}}


def main():
    switches = [word for word in sys.argv[1:] if word.startswith("--")]
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    driver, library, program, plan, seconds, batches, at_once, *shapes = words
    done = subprocess.run([driver, *switches, "tensorrt", library, plan, seconds, batches, at_once,
                           *shapes], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{driver}: {done.returncode}")
    found = json.loads(done.stdout)
    if at_once == "0":
        print(json.dumps(found))
        return
    own = found["throughput"]["scheduler"]
    sized = [shape.replace("N", str(own["batch"])) for shape in shapes]
    brief = max(0.3, float(seconds) / 60)

    def run(*options):
        return lambda duration, n: trtexec(program, plan, sized, duration, n, *options)

    few = [n for n in STREAMS if n * own["batch"] <= int(at_once)]
    found["trtexec"] = best_of(run(), STREAMS, brief, own["batch"])
    found["by_trtexec"] = own["rows"] / found["trtexec"]["rows"]
    if few:
        found["trtexec_within"] = best_of(run("--exposeDMA"), few, brief, own["batch"])
        found["by_trtexec_within"] = own["rows"] / found["trtexec_within"]["rows"]
    print(json.dumps(found))


main()
