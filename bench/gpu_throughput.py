#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Throughput of a plan: kiln bench against trtexec, each at its best number of streams, in turns.

    bench/gpu_throughput.py KILN TRTEXEC PLAN SECONDS BATCHES [NAME=DIMS]...

DIMS as Nx3x224x224, N for the batch. First each side looks for its best: 1, 2, 4 and 8 streams
(BENCH_STREAMS), for Kiln also with one and two runs ahead on each, whose copies then pass under
kernels, and with a thread for each (BENCH_WAYS, as 1/1,2/1: ahead and threads); then both run in
turns (BENCH_TURNS, 3), SECONDS each. What is the only candidate is not tried. Where BENCH_ROOM
seconds are too few for that, each side looks at fewer, and there are fewer turns.
trtexec captures CUDA graphs (--useCudaGraph) and copies from and to the host, as Kiln does. Prints
JSON, inferences in a second.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import time

STREAMS = tuple(map(int, os.environ.get("BENCH_STREAMS", "1,2,4,8").split(",")))
WAYS = os.environ.get("BENCH_WAYS", f"1/1,2/1,0/{max(STREAMS)},1/{max(STREAMS)}")
WAYS = [tuple(map(int, way.split("/"))) for way in WAYS.split(",")]
ROUNDS = int(os.environ.get("BENCH_TURNS", "3"))
END = time.monotonic() + float(os.environ.get("BENCH_ROOM", "inf"))


def while_time(items, share):
    """The items while this share of the time that is left lasts, the first one at least."""
    begin = time.monotonic()
    end = begin + (END - begin) * share
    longest = 0.0
    for item in items:
        if longest and time.monotonic() + longest > end:
            return
        at = time.monotonic()
        yield item
        longest = max(longest, time.monotonic() - at)


def call(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.returncode}: {(done.stderr + done.stdout)[-600:]}")
    return done.stdout


def kiln(program, plan, shapes, seconds, streams, ahead, callers):
    command = [program, "bench", plan, "-b", "tensorrt", "--json", "--duration", str(seconds),
               "--warmup", "200", "--streams", ",".join(map(str, streams)), "--ahead", str(ahead),
               "--callers", str(callers)]
    for shape in shapes:
        command += ["-s", shape]
    return json.loads(call(command))["points"]


def trtexec(program, plan, shapes, seconds, streams, *options):
    command = [program, f"--loadEngine={plan}", "--useCudaGraph", f"--infStreams={streams}",
               f"--duration={seconds}", "--warmUp=200", "--iterations=10", *options]
    if shapes:
        command.append("--shapes=" + ",".join(s.replace("=", ":") for s in shapes))
    return float(re.search(r"Throughput: ([0-9.e+]+) qps", call(command)).group(1))


def compare(programs, plan, seconds, shapes, share):
    """`share` of the time that is left, two fifths of it for each side to look for its best."""
    own, theirs = programs
    brief = max(0.3, seconds / 3)
    tried, peers = {}, {}
    for ahead, callers in while_time(WAYS if len(WAYS) * len(STREAMS) > 1 else (), 0.4 * share):
        for point in kiln(own, plan, shapes, brief, STREAMS, ahead, callers):
            tried[point["streams"], ahead, callers] = point["inferences_per_second"]
    best = max(tried, key=tried.get, default=(STREAMS[0], *WAYS[0]))
    # Two streams are seldom beaten: they come first.
    for n in while_time(sorted(STREAMS, key=lambda n: n != 2) if STREAMS[1:] else (), 0.5 * share):
        peers[n] = trtexec(theirs, plan, shapes, brief, n)
    streams = max(peers, key=peers.get, default=STREAMS[0])
    rates = {"kiln": [], "trtexec": []}
    for turn in while_time(range(ROUNDS), share):
        for side in sorted(rates, reverse=turn % 2 == 1):
            if side == "kiln":
                point = kiln(own, plan, shapes, seconds, best[:1], *best[1:])[0]
                rates[side].append(point["inferences_per_second"])
            else:
                rates[side].append(trtexec(theirs, plan, shapes, seconds, streams))
    ratios = [a / b for a, b in zip(rates["kiln"], rates["trtexec"])]
    return {"kiln": {"streams": best[0], "ahead": best[1], "callers": best[2],
                     "per_second": statistics.median(rates["kiln"]),
                     "tried": {"/".join(map(str, key)): round(v, 1) for key, v in tried.items()}},
            "trtexec": {"streams": streams, "per_second": statistics.median(rates["trtexec"]),
                        "tried": {n: round(rate, 1) for n, rate in peers.items()}},
            "ratio": [min(ratios), statistics.median(ratios), max(ratios)]}


def main():
    own, theirs, plan, seconds, batches, *shapes = sys.argv[1:]
    name = os.path.basename(plan).removesuffix(".plan")
    print(f'{{"bench": "gpu_throughput", "plan": "{name}", "results": [')
    batches = batches.split(",")
    for index, batch in enumerate(batches):
        sized = [shape.replace("N", batch) for shape in shapes]
        found = {"batch": int(batch), **compare((own, theirs), plan, float(seconds), sized,
                                                1 / (len(batches) - index))}
        print(f"{name} batch {batch}: kiln {found['kiln']['per_second']:.1f}, trtexec "
              f"{found['trtexec']['per_second']:.1f}, ratio {found['ratio'][1]:.3f}",
              file=sys.stderr)
        print(("," if index else "") + json.dumps(found), flush=True)
    print("]}")


if __name__ == "__main__":
    main()
