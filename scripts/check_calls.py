#!/usr/bin/env python3
"""Who calls whom, by the object files of a build: no two files of src/, cli/ or server/ call each
other in a circle, be it through a header that both include, and a function that only its own file
calls is static.

    scripts/check_calls.py BUILD

BUILD is a folder with all targets built, tests too, which may call what nobody else does.

SPDX-License-Identifier: Apache-2.0
"""
import collections
import os
import re
import subprocess
import sys

OWN = re.compile(r"(src|cli|server)/CMakeFiles/(?:kiln_objects|kiln_cli|kiln_server|"
                   r"kiln_config_pbtxt)\.dir/(.*)\.o$")


def read_objects(build):
    """Of each object file: what it defines, by kind, and what it takes from others."""
    objects = [os.path.join(folder, name) for folder, _, names in os.walk(build)
               for name in names if name.endswith(".o")]
    defined, taken = collections.defaultdict(dict), collections.defaultdict(set)
    for at in range(0, len(objects), 500):
        lines = subprocess.run(["nm", "-A", "-g", *objects[at:at + 500]], check=True,
                               capture_output=True, text=True).stdout.splitlines()
        for path, _, rest in (line.partition(":") for line in lines):
            kind, name = rest.split()[-2:]
            if kind == "U":
                taken[path].add(name)
            else:
                defined[path][name] = kind
    return defined, taken


def place(path, build):
    """The source of an object file of ours; None of another, and where it was left behind."""
    found = OWN.match(os.path.relpath(path, build))
    source = os.path.join(*found.groups()) if found else ""
    return source if os.path.exists(source) else None


def calls_of(defined, taken, build):
    """Of each file of ours, those it calls, and what of them."""
    maker = {name: path for path, names in defined.items() if place(path, build) for name in names}
    calls = collections.defaultdict(lambda: collections.defaultdict(list))
    for path, names in taken.items():
        for name in sorted(names & maker.keys()):
            if place(path, build):
                calls[place(path, build)][place(maker[name], build)].append(name)
    return calls


def reach(calls, start):
    seen, left = set(), [start]
    while left:
        for file in calls.get(left.pop(), ()):
            if file not in seen:
                seen.add(file)
                left.append(file)
    return seen


def circles(calls):
    reached = {file: reach(calls, file) for file in calls}
    for file in sorted(calls):
        for called, names in sorted(calls[file].items()):
            if file in reached.get(called, ()):
                yield (f"{file} calls {', '.join(names)} of {called}, which comes back to it: move "
                       "what both need to where neither is called from")


def shared_for_nothing(defined, taken, build):
    called = set().union(*taken.values())
    for path, names in sorted(defined.items()):
        if place(path, build):
            for name, kind in sorted(names.items()):
                if kind == "T" and name not in called and not re.match(r"kiln_|main$|_", name):
                    yield f"{place(path, build)}: nobody else calls {name}: make it static"


def main():
    build = sys.argv[1]
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    defined, taken = read_objects(os.path.abspath(build))
    build = os.path.abspath(build)
    calls = calls_of(defined, taken, build)
    problems = [*circles(calls), *shared_for_nothing(defined, taken, build)]
    print("\n".join(problems) if problems else
          f"{len(calls)} files, and none call each other in a circle")
    return 1 if problems else 0


sys.exit(main())
