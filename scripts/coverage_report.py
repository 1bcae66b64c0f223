#!/usr/bin/env python3
"""Adds up what gcov counted in a build: lines of src/, by module.

    scripts/coverage_report.py BUILD MINIMUM [--lines]

SPDX-License-Identifier: Apache-2.0
"""
import collections
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = os.path.join(ROOT, "src") + os.sep


def counts(build):
    """{path below src/: {line: times}} over every object file."""
    notes = []
    for place, _, names in os.walk(os.path.join(build, "src")):
        notes += [os.path.join(place, name) for name in names if name.endswith(".gcno")]
    found = collections.defaultdict(lambda: collections.defaultdict(int))
    for begin in range(0, len(notes), 20):
        out = subprocess.run(["gcov", "--json-format", "--stdout"] + notes[begin:begin + 20],
                             check=True, capture_output=True, text=True).stdout
        for report in map(json.loads, out.splitlines()):
            for file in report["files"]:
                # Relative where a compiler cache made it so.
                path = os.path.normpath(os.path.join(report["current_working_directory"],
                                                     file["file"]))
                if path.startswith(SOURCES):
                    for line in file["lines"]:
                        found[path[len(SOURCES):]][line["line_number"]] += line["count"]
    return found


def share(ran, lines):
    return 100.0 * ran / lines if lines else 100.0


def main():
    build, minimum = os.path.abspath(sys.argv[1]), float(sys.argv[2])
    found = counts(build)
    modules = collections.defaultdict(lambda: [0, 0])
    for path, lines in sorted(found.items()):
        ran = sum(1 for times in lines.values() if times)
        parts = path.split("/")
        module = "/".join(parts[:2]) if parts[0] == "backends" and len(parts) > 2 else parts[0]
        for name in (module, "all"):
            modules[name][0] += ran
            modules[name][1] += len(lines)
        missed = [number for number, times in sorted(lines.items()) if not times]
        if "--lines" in sys.argv and missed:
            print(f"src/{path}: {', '.join(map(str, missed))}")
    total = modules.pop("all")
    for module, (ran, lines) in sorted(modules.items()):
        print(f"{share(ran, lines):6.1f} %  {ran:6d} of {lines:6d}  src/{module}")
    print(f"{share(*total):6.1f} %  {total[0]:6d} of {total[1]:6d}  lines of src/ were run, "
          f"{minimum:g} % are needed")
    return 0 if share(*total) >= minimum else 1


sys.exit(main())
