#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Throughput of a plan: kiln bench against trtexec, each at its best number of streams, in turns.

    bench/gpu_throughput.py KILN TRTEXEC PLAN SECONDS BATCHES [NAME=DIMS]...

DIMS as Nx3x224x224, N for the batch. First each side looks for its best: 1, 2, 4 and 8 streams
(BENCH_STREAMS), for Kiln also with one and two runs ahead on each, whose copies then pass under
kernels, with a thread for each, and with every second stream a step more urgent (BENCH_WAYS, as
1/1,2/1/stagger: ahead and threads). What comes within a fiftieth of a side's best, three at most,
then runs in turns with the other side's (BENCH_TURNS, 3), SECONDS each, and the better median of
each side counts. What is the only candidate is not tried. Where BENCH_ROOM
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
WAYS = os.environ.get("BENCH_WAYS", f"1/1,1/1/stagger,1/{max(STREAMS)},1/{max(STREAMS)}/stagger,"
                                    f"2/1,0/{max(STREAMS)}")
WAYS = [(*map(int, way.split("/")[:2]), way.endswith("/stagger")) for way in WAYS.split(",")]
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


def kiln(program, plan, shapes, seconds, streams, ahead, callers, stagger):
    command = [program, "bench", plan, "-b", "tensorrt", "--json", "--duration", str(seconds),
               "--warmup", "200", "--streams", ",".join(map(str, streams)), "--ahead", str(ahead),
               "--callers", str(callers), *["--stagger"] * stagger]
    for shape in shapes:
        command += ["-s", shape]
    return json.loads(call(command))["points"]


def trtexec(program, plan, shapes, seconds, streams, *options):
    command = [program, f"--loadEngine={plan}", "--useCudaGraph", f"--infStreams={streams}",
               f"--duration={seconds}", "--warmUp=200", "--iterations=10", *options]
    if shapes:
        command.append("--shapes=" + ",".join(s.replace("=", ":") for s in shapes))
    return float(re.search(r"Throughput: ([0-9.e+]+) qps", call(command)).group(1))


def foremost(tried):
    """The keys of the three largest, of those that are within a fiftieth of the largest."""
    keys = sorted(tried, key=tried.get, reverse=True)[:3]
    return [key for key in keys if tried[key] >= 0.98 * tried[keys[0]]]


def named(way):
    return "/".join(map(str, way[:3])) + "/stagger" * way[3]


def compare(programs, plan, seconds, shapes, share):
    """`share` of the time that is left, two fifths of it for each side to look for its best."""
    own, theirs = programs
    brief = max(0.3, seconds / 3)
    tried, peers = {}, {}
    for way in while_time(WAYS if len(WAYS) * len(STREAMS) > 1 else (), 0.4 * share):
        for point in kiln(own, plan, shapes, brief, STREAMS, *way):
            tried[point["streams"], *way] = point["inferences_per_second"]
    # Two streams are seldom beaten: they come first.
    for n in while_time(sorted(STREAMS, key=lambda n: n != 2) if STREAMS[1:] else (), 0.5 * share):
        peers[n] = trtexec(theirs, plan, shapes, brief, n)
    ways = {way: [] for way in foremost(tried) or [(STREAMS[0], *WAYS[0])]}
    streams = {n: [] for n in foremost(peers) or STREAMS[:1]}
    for turn in while_time(range(ROUNDS), share):
        for side in (ways, streams) if turn % 2 == 0 else (streams, ways):
            for key, rates in side.items():
                rates.append(trtexec(theirs, plan, shapes, seconds, key) if side is streams else
                             kiln(own, plan, shapes, seconds, key[:1],
                                  *key[1:])[0]["inferences_per_second"])
    best = max(ways, key=lambda way: statistics.median(ways[way]))
    peer = max(streams, key=lambda n: statistics.median(streams[n]))
    ratios = [a / b for a, b in zip(ways[best], streams[peer])]
    return {"kiln": {"streams": best[0], "ahead": best[1], "callers": best[2], "staggered": best[3],
                     "per_second": statistics.median(ways[best]),
                     "tried": {named(key): round(rate, 1) for key, rate in tried.items()},
                     "turns": {named(key): rates for key, rates in ways.items()}},
            "trtexec": {"streams": peer, "per_second": statistics.median(streams[peer]),
                        "tried": {n: round(rate, 1) for n, rate in peers.items()},
                        "turns": streams},
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
