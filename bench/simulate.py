#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs bench_simulate for shapes of traffic, numbers of replicas, policies and load balancers, and
draws what came of it.

    bench/simulate.py DRIVER OUT [SECONDS]

Writes OUT/simulation.jsonl and OUT/simulation.svg: 99th percentile of latency, filled-up part of
batches and GPU time, by the number of replicas. Requests come for SECONDS (1) of played time; of
up to ten replicas several runs with other seeds are averaged.
"""
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SHAPES = ("steady", "diurnal", "bursts", "flash", "heavy")
REPLICAS = (1, 10, 100, 1000)
WAYS = (("throughput", "two", "#1f6feb"), ("latency", "two", "#d1481f"),
        ("throughput", "robin", "#7fb2ff"))
LOAD = 0.5
# What is drawn: key, title, scale, logarithmic.
ROWS = (("p99_ms", "99th percentile, ms", 1, True), ("padding", "filled-up rows, %", 100, False),
        ("busy", "GPU busy, %", 100, False))
WIDTH, HEIGHT, LEFT, TOP = 190, 150, 70, 56


def run_once(driver, seconds, case, seed):
    shape, replicas, (policy, balancer, _) = case
    done = subprocess.run([driver, shape, str(replicas), policy, balancer, str(LOAD), str(seconds),
                           f"seed={seed}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(done.args)}: {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def simulate(driver, seconds, case):
    runs = [run_once(driver, seconds, case, seed) for seed in range(1, 1 + max(1, 10 // case[1]))]
    return {key: value if isinstance(value, str) else statistics.fmean(run[key] for run in runs)
            for key, value in runs[0].items()}


def scale(value, low, high, logarithmic):
    import math

    if logarithmic:
        value, low, high = (math.log10(max(v, 1e-9)) for v in (value, low, high))
    return (value - low) / (high - low) if high > low else 0.5


def ticks(low, high, logarithmic):
    if logarithmic:
        marks = (m * 10 ** e for e in range(-1, 4) for m in (1, 1.5, 2, 3, 5, 7))
        return [mark for mark in marks if low <= mark <= high]
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50) if (high - low) / s <= 5)
    return [low + step * i for i in range(int((high - low) / step) + 1)]


def panel(found, shape, row, x, y, limits):
    key, _, factor, logarithmic = row
    low, high = limits
    out = [f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="none" '
           'stroke="#c8c8c8"/>']

    def place(replicas, value):
        return (x + 8 + (WIDTH - 16) * scale(replicas, REPLICAS[0], REPLICAS[-1], True),
                y + HEIGHT - HEIGHT * scale(value, low, high, logarithmic))

    for tick in ticks(low, high, logarithmic):
        at = place(1, tick)[1]
        out.append(f'<line x1="{x}" x2="{x + WIDTH}" y1="{at:.1f}" y2="{at:.1f}" '
                   'stroke="#ececec"/>')
        if shape == SHAPES[0]:
            out.append(f'<text x="{x - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for replicas in REPLICAS:
        at = place(replicas, low)[0]
        if key == ROWS[-1][0]:
            anchor = "end" if replicas == REPLICAS[-1] else "middle"
            out.append(f'<text x="{at + 8 * (anchor == "end"):.1f}" y="{y + HEIGHT + 15}" '
                       f'text-anchor="{anchor}">{replicas:,}</text>')
    for policy, balancer, colour in WAYS:
        points = [place(run["replicas"], run[key] * factor) for run in found
                  if (run["shape"], run["policy"], run["balancer"]) == (shape, policy, balancer)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return out


def draw(found):
    step_x, step_y = WIDTH + 14, HEIGHT + 30
    width, height = LEFT + step_x * len(SHAPES) + 6, TOP + step_y * len(ROWS) + 28
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for i, (policy, balancer, colour) in enumerate(WAYS):
        x = LEFT + i * 240
        text = policy + (", least of two" if balancer == "two" else ", round robin")
        out.append(f'<line x1="{x}" x2="{x + 24}" y1="14" y2="14" stroke="{colour}" '
                   f'stroke-width="3"/><text x="{x + 30}" y="18">{text}</text>')
    for r, row in enumerate(ROWS):
        key, title, factor, logarithmic = row
        values = [run[key] * factor for run in found]
        limits = (min(values) * 0.8, max(values) * 1.25) if logarithmic else (0, 100)
        if key == "padding":
            limits = (0, 10 * (int(max(values) / 10) + 1))
        y = TOP + r * step_y
        out.append(f'<text transform="translate(18 {y + HEIGHT / 2}) rotate(-90)" '
                   f'text-anchor="middle">{title}</text>')
        for s, shape in enumerate(SHAPES):
            x = LEFT + s * step_x
            if r == 0:
                out.append(f'<text x="{x + WIDTH / 2}" y="{TOP - 10}" text-anchor="middle" '
                           f'font-weight="bold">{shape}</text>')
            out += panel(found, shape, row, x, y, limits)
    out.append(f'<text x="{LEFT + step_x * len(SHAPES) / 2}" y="{height - 8}" '
               f'text-anchor="middle">replicas, at {LOAD:.0%} of what full batches would give'
               '</text></svg>')
    return "\n".join(out) + "\n"


def main():
    driver, folder = sys.argv[1:3]
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
    os.makedirs(folder, exist_ok=True)
    cases = [(shape, replicas, way) for shape in SHAPES for replicas in REPLICAS for way in WAYS]
    with ThreadPoolExecutor(max_workers=1) as pool:
        found = list(pool.map(lambda case: simulate(driver, seconds, case), cases))
    with open(os.path.join(folder, "simulation.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(json.dumps(run) + "\n" for run in found)
    with open(os.path.join(folder, "simulation.svg"), "w", encoding="utf-8") as file:
        file.write(draw(found))


if __name__ == "__main__":
    main()
