#!/usr/bin/env python3
"""What no other tool checks: names, lengths, words that do not belong, the licence line.

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import sys

from tree import every, read

COLUMNS = 100
WIDE_COLUMNS = 120  # build files
FILE_LINES = 500  # of code, wherever it stands
CODE = (".c", ".h", ".inc", ".cu")
WRITTEN = CODE + (".cpp", ".hpp", ".py", ".sh")
TEXT = CODE + (".cpp", ".hpp", ".py", ".sh", ".cmake", ".txt", ".yml", ".json", ".in")
# Names that many folders have.
SHARED_NAMES = {"CMakeLists.txt", "README.md", ".gitignore"}

# Heap, ends of the process, output and unbounded text in the library.
BANNED = re.compile(
    r"\b(malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|posix_memalign|alloca|abort|"
    r"exit|_exit|quick_exit|printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror|sprintf|"
    r"vsprintf|strcpy|strcat|gets|strtok|system|assert|getenv|setenv|putenv|umask|chdir|setlocale|"
    r"signal|sigaction)\s*\(")
# The one file that reaches the C library's heap.
HEAP = "src/base/heap.c"
SELF = "scripts/check_style.py"
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
PRIVATE = re.compile(r"graph_side|side_way|run_form|turned_product|merge_product", re.I)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')


# Functions of several builds, one for each kind of processor: `static` and of one name.
CLONES = re.compile(r"^(?:REF_WIDE|KLN_CLONES\([^)]*\))\s+(static\b)?[^;{=#]*?\b(\w+)\(", re.M)


def blank(match):
    """Spaces in place of the text, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", match.group())


def code_only(text):
    return STRING.sub(blank, COMMENT.sub(blank, text))


def check_lines(path, text, problems):
    columns = WIDE_COLUMNS if path.endswith((".txt", ".cmake", ".inc")) else COLUMNS
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > columns and "://" not in line:
            problems.append(f"{path}:{number}: {len(line)} columns, {columns} are allowed")
        if line != line.rstrip():
            problems.append(f"{path}:{number}: space at the end of the line")
        if path.endswith(CODE) and "\t" in line:
            problems.append(f"{path}:{number}: a tab")
        if UNDONE.search(line) and path != SELF:
            problems.append(f"{path}:{number}: {UNDONE.search(line).group()}: do it or leave it")
        if PRIVATE.search(line) and path != SELF:
            problems.append(f"{path}:{number}: {PRIVATE.search(line).group()}: a private word")


def check_code(path, text, problems):
    if not path.startswith("src/") or path == HEAP:
        return
    for number, line in enumerate(code_only(text).split("\n"), 1):
        match = BANNED.search(line)
        if match and not re.search(r"(->|\.)\s*$", line[:match.start()]):
            problems.append(f"{path}:{number}: {match.group(1)} is not for the library")


def check_clones(path, text, clones, problems):
    """Clang 14 gives the function that chooses among clones a symbol that other files see."""
    for match in CLONES.finditer(code_only(text)):
        is_static, name = match.groups()
        if not is_static:
            problems.append(f"{path}: {name} has clones, and other files call it")
        if name in clones:
            problems.append(f"{path}: {name} has clones, as in {clones[name]}: another name")
        clones[name] = path


def main():
    problems = []
    clones = {}
    names = {}
    files = 0
    for path in every():
        name = os.path.basename(path)
        if name in names and name not in SHARED_NAMES and path.endswith(CODE + (".py", ".sh")):
            problems.append(f"{path}: another file has this name: {names[name]}")
        names.setdefault(name, path)
        if not path.endswith(TEXT) and name not in ("Makefile",):
            continue
        try:
            text = read(path)
        except UnicodeDecodeError:
            problems.append(f"{path}: not UTF-8")
            continue
        lines = text.count("\n")
        if lines > FILE_LINES and path.endswith(WRITTEN):
            problems.append(f"{path}: {lines} lines, {FILE_LINES} are allowed: divide it")
        data = path.startswith("tests/") and not path.endswith(CODE + (".py", ".sh"))
        if data and name != "CMakeLists.txt":
            continue
        files += 1
        if not path.endswith((".json", ".in")) and "_packages.txt" not in path:
            if "SPDX-License-Identifier: Apache-2.0" not in text[:4000]:
                problems.append(f"{path}: no line \"SPDX-License-Identifier: Apache-2.0\"")
        if not path.endswith(".json"):
            check_lines(path, text, problems)
        if path.endswith(CODE):
            check_code(path, text, problems)
        if path.startswith("src/") and path.endswith(".c"):
            check_clones(path, text, clones, problems)
    print("\n".join(problems) if problems else f"{files} files")
    return 1 if problems else 0


sys.exit(main())
