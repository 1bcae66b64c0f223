#!/usr/bin/env python3
"""Who may use whom: a module of src/ includes only modules above it, through their doors, and files
of one module do not use each other in a circle.

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Each module of src/ and what it may include besides itself: only modules above it.
FOR_BACKENDS = {"base", "loader", "tensor", "cuda", "onnx", "ops", "graph", "memory", "options",
                "precision"}
ALLOWED = {
    "base": set(),
    "options": {"base"},
    "loader": {"base"},
    "tensor": {"base"},
    "cuda": {"base", "loader", "tensor"},
    "onnx": {"base", "tensor"},
    "ops": {"base", "tensor", "onnx"},
    "graph": {"base", "tensor", "onnx", "ops"},
    "precision": {"base", "tensor", "onnx", "ops", "graph"},
    "memory": {"base", "tensor", "cuda"},
    "cache": {"base"},
    "seam": {"base", "loader", "tensor", "onnx", "options"},
    "backends": FOR_BACKENDS | {"seam"},
    "exec": {"base", "tensor", "cuda", "memory", "seam"},
    "engine": FOR_BACKENDS | {"seam", "backends", "exec", "cache"},
    "tools": FOR_BACKENDS | {"seam", "backends", "exec", "engine"},
    "scheduler": FOR_BACKENDS | {"seam", "backends", "exec", "engine"},
    "stream": FOR_BACKENDS | {"seam", "backends", "exec", "engine"},
}
# Programs stand outside: the public headers are all they see.
OUTSIDE = ("cli", "server", "examples", "bench")
# But a benchmark's peer calls the foreign library itself, through the list of its slots.
PEERS = {
    ("bench/raw_ort_open.h", "backends/onnxruntime/ort_api.h"),
    ("bench/raw_trt.c", "backends/tensorrt/trt_callbacks.h"),
    # and the simulation drives the parts of a scheduler under a clock of its own.
    ("bench/simulate.c", "scheduler/scheduler_parts.h"),
}
# What programs share with the library: how sentences count, and UTF-8 (kiln_words of server/), and
# what the processor has.
SHARED = ("base/words.h", "base/processor.h")
# A module's door is kln_<module>.h; these modules have a second one.
DOORS = {"onnx": {"onnx/kln_onnx.h", "onnx/kln_look.h"},
         "ops": {"ops/kln_ops.h", "ops/kln_schema.h"}}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def module_of(path):
    """The module of a path below src/, and for a backend the folder that is its own."""
    parts = path.split("/")
    if parts[0] == "backends" and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0]


def may_enter(user, path):
    """Why `user` (a module) may not include `path` (below src/), or None."""
    module = module_of(path)
    if module == user:
        return None
    top, user_top = module.split("/")[0], user.split("/")[0]
    if user_top not in ALLOWED:
        return f"module {user_top} is not in scripts/check_includes.py"
    if top != user_top and top not in ALLOWED[user_top]:
        return f"{top} does not stand above {user}"
    doors = DOORS.get(module, {f"{module}/kln_{module.split('/')[-1]}.h"})
    if path not in doors:
        return f"this is private to {module}, whose door is {', '.join(sorted(doors))}"
    # The backends are told apart by their registry alone.
    if user_top == "backends" and "/" in user and "/" in module:
        return "a backend does not know another"
    return None


def sources(folder):
    for place, folders, names in os.walk(os.path.join(ROOT, folder)):
        folders[:] = [name for name in folders if name != "build"]
        for name in sorted(names):
            if name.endswith((".c", ".h", ".inc")):
                yield os.path.relpath(os.path.join(place, name), ROOT)


def includes(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = INCLUDE.match(line)
            if match:
                yield number, match.group(1), match.group(2)


# Comments and strings; the definitions that others see; words.
NO_CODE = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
DEFINED = re.compile(r"^(?!typedef\b|extern\b|enum\b|union\b|KLN_|_Static|struct \w+ \{)"
                     r"[A-Za-z_][\w \*]*?\b(\w+)(?:\([^;{]*?\)\s*\{|(?:\[[^\]]*\])*\s*=)", re.M)
WORD = re.compile(r"[A-Za-z_]\w*")


def uses_inside():
    """For each file of src/ those of its module that it uses: what they define, or include."""
    texts = {path: NO_CODE.sub(" ", open(os.path.join(ROOT, path), encoding="utf-8").read())
             for path in sources("src") if not path.endswith(".inc")}
    module = {path: module_of(path[len("src/"):]) for path in texts}
    definer = {}
    for path, text in texts.items():
        for match in DEFINED.finditer(text):
            if path.endswith(".c") and "static" not in match.group(0).split(match.group(1))[0]:
                definer[match.group(1)] = path
    uses = {}
    for path, text in texts.items():
        used = set()
        if path.endswith(".c"):
            used = {definer[word] for word in set(WORD.findall(text)) if word in definer}
        else:
            for _, _, target in includes(path):
                beside = os.path.normpath(os.path.join(os.path.dirname(path), target))
                used |= {beside, os.path.join("src", target)} & set(texts)
        uses[path] = {other for other in used if other != path and module[other] == module[path]}
    return uses


def without_ends(uses):
    """The files of which each uses another one of them: circles, and what leads to them."""
    while True:
        left = {path: {other for other in used if other in uses} for path, used in uses.items()}
        left = {path: used for path, used in left.items() if used}
        if len(left) == len(uses):
            return left
        uses = left


def circles(uses):
    """One circle after the other, each taken away before the next is looked for."""
    found = []
    while uses := without_ends(uses):
        path, walked = min(uses), []
        while path not in walked:
            walked.append(path)
            path = min(uses[path])
        circle = walked[walked.index(path):]
        found.append(" -> ".join([*circle, path]))
        uses = {other: used for other, used in uses.items() if other not in circle}
    return found


def out_of_order():
    """Lists of the modules in documents that are not in the order of dependence."""
    problems = []
    for page, row in (("README.md", r"^src/(\w+)/ "), ("docs/overview.md", r"^\| `(\w+)` \| ")):
        with open(os.path.join(ROOT, page), encoding="utf-8") as file:
            listed = [name for name in re.findall(row, file.read(), re.M) if name in ALLOWED]
        there = [name for name in ALLOWED if os.path.isdir(os.path.join(ROOT, "src", name))]
        problems += [f"{page}: its list of modules lacks {name}" for name in there
                     if name not in listed]
        problems += [f"{page}: {name} stands above {user}, which it uses" for place, name in
                     enumerate(listed) for user in listed[place:] if user in ALLOWED[name]]
    return problems


def main():
    problems = [f"a circle of files: {circle}" for circle in circles(uses_inside())]
    problems += out_of_order()
    files = 0
    for path in sources("src"):
        files += 1
        inside = path[len("src/"):]
        user = module_of(inside)
        for number, mark, target in includes(path):
            where = f"{path}:{number}: \"{target}\": "
            if mark == "<":
                continue
            beside = os.path.normpath(os.path.join(os.path.dirname(inside), target))
            if "/" not in target and os.path.exists(os.path.join(ROOT, "src", beside)):
                continue
            if os.path.exists(os.path.join(ROOT, "src", target)):
                reason = may_enter(user, target)
                if reason:
                    problems.append(where + reason)
            elif target != "cJSON.h":
                problems.append(where + "neither beside it nor below src/")
    for path in (path for folder in ("include",) for path in sources(folder)):
        files += 1
        for number, mark, target in includes(path):
            if mark != "<":
                problems.append(f"{path}:{number}: \"{target}\": public headers use <kiln/...>")
    for path in (path for folder in OUTSIDE for path in sources(folder)):
        files += 1
        for number, mark, target in includes(path):
            beside = os.path.join(ROOT, os.path.dirname(path), target)
            if (path, target) in PEERS or target in SHARED:
                continue
            if mark == '"' and not os.path.exists(beside):
                problems.append(f"{path}:{number}: \"{target}\": {path.split('/')[0]}/ sees "
                                "<kiln/...> only")
            if mark == '"' and "src/" in os.path.relpath(os.path.realpath(beside), ROOT):
                problems.append(f"{path}:{number}: \"{target}\" lies in src/")
    print("\n".join(problems) if problems else
          f"{files} files keep to the graph, and none use each other in a circle")
    return 1 if problems else 0


sys.exit(main())
