#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A scheduler on a plan: against the bare engine (bench_schedule), then trtexec at the batch at
which the scheduler was best.

    bench/gpu_schedule.py DRIVER LIBRARY TRTEXEC PLAN SECONDS BATCHES AT_ONCE [NAME=DIMS]...

DRIVER is bench_schedule; DIMS as Nx3x224x224, N for the batch. trtexec looks for its best number
of streams first (BENCH_STREAMS), then runs BENCH_TURNS times; it reads and writes pinned memory,
where the scheduler's requests come in ordinary memory. Prints JSON.
"""
import json
import statistics
import subprocess
import sys

from gpu_throughput import ROUNDS, STREAMS, trtexec


def main():
    driver, library, program, plan, seconds, batches, at_once, *shapes = sys.argv[1:]
    done = subprocess.run([driver, "tensorrt", library, plan, seconds, batches, at_once, *shapes],
                          stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{driver}: {done.returncode}")
    found = json.loads(done.stdout)
    if at_once == "0":
        print(json.dumps(found))
        return
    own = found["throughput"]["scheduler"]
    sized = [shape.replace("N", str(own["batch"])) for shape in shapes]
    brief = max(0.3, float(seconds) / 60)
    tried = {n: trtexec(program, plan, sized, brief, n) for n in STREAMS}
    best = max(tried, key=tried.get)
    rows = [trtexec(program, plan, sized, brief * 2, best) * own["batch"] for _ in range(ROUNDS)]
    found["trtexec"] = {"batch": own["batch"], "streams": best, "rows": statistics.median(rows),
                        "tried": {n: round(rate, 1) for n, rate in tried.items()}}
    found["by_trtexec"] = own["rows"] / found["trtexec"]["rows"]
    print(json.dumps(found))


main()
