#!/usr/bin/env python3
"""What documents say against what is there: statuses, environment variables, links, names, files,
options; and every measurement and script is named somewhere.

    scripts/check_docs.py            says what differs
    scripts/check_docs.py --update   writes the generated table of docs/errors.md

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import subprocess
import sys

from tree import ROOT, files, read

ERRORS = "docs/errors.md"
# Names of the build and of tests.
ELSEWHERE = ("kiln_test_", "kiln_add_test_needing", "kiln_feed")
# Has columns of such names, and what there was before.
HISTORY = ("bench/results/README.md", "CHANGELOG.md")
# Of cmake, ctest and pkg-config.
OF_TOOLS = ("preset", "build", "test-dir", "output-on-failure", "cflags", "libs")
BEGIN, END = "<!-- statuses: scripts/check_docs.py --update -->", "<!-- end -->"


def statuses():
    """(name, value, text) of KILN_STATUS_LIST."""
    return re.findall(r'X\((KILN_\w+),\s*(\d+),\s*"([^"]*)"\)', read("include/kiln/status.h"))


def status_table():
    rows = ["| value | name | in general |", "| --- | --- | --- |"]
    rows += [f"| {value} | `{name}` | {text} |" for name, value, text in statuses()]
    return "\n".join(rows)


def errors_page():
    page = read(ERRORS)
    before, rest = page.split(BEGIN, 1)
    return before + BEGIN + "\n" + status_table() + "\n" + END + rest.split(END, 1)[1]


def check_errors(problems):
    if read(ERRORS) != errors_page():
        problems.append(f"{ERRORS} differs from KILN_STATUS_LIST (scripts/check_docs.py --update)")
    page = read(ERRORS).split(END, 1)[1]
    for name, _, _ in statuses():
        if name != "KILN_OK" and f"`{name}`" not in page:
            problems.append(f"{ERRORS} does not explain {name}")


def check_variables(problems):
    """Every environment variable that the sources read stands in docs/env_vars.md."""
    page = read("docs/env_vars.md")
    read_ones = set()
    for path in files(".c", ".h", ".sh", "CMakeLists.txt", ".cmake"):
        if path.startswith("tests/"):
            continue
        text = read(path)
        read_ones.update(re.findall(r'getenv\(\s*"(\w+)"', text))
        read_ones.update(re.findall(r"\$\{(KILN_\w+):[-?]", text))
        read_ones.update(re.findall(r"\$ENV\{(KILN_\w+)\}", text))
        read_ones.update(re.findall(r'(?:\.environment =|ENVIRONMENT|\.variable =) "(\w+)"', text))
    for name in sorted(read_ones):
        if f"`{name}`" not in page:
            problems.append(f"docs/env_vars.md does not tell of {name}")


def check_names(problems):
    """What documents, headers and examples call kiln_something is declared under that name."""
    comments = re.compile(r"/\*.*?\*/", re.S)
    declared = set(re.findall(r"\bkiln_\w+", comments.sub("", "\n".join(
        read(path) for path in files(".h", ".inc") if path.startswith("include/kiln/")))))
    for path in files(".md", ".h", ".c"):
        is_read = path.endswith(".md") or path.startswith(("include/kiln/", "examples/"))
        if path in HISTORY or not is_read:
            continue
        for name in sorted(set(re.findall(r"\bkiln_\w+(?!\w|[*.])", read(path)))):
            if name not in declared and not name.startswith(ELSEWHERE):
                problems.append(f"{path}: {name} is declared in no public header")


def check_trtexec(problems):
    """Each option that trtexec has too has a row in docs/tensorrt.md, with Kiln's name for it."""
    section = read("docs/tensorrt.md").split("## From trtexec to kiln")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `--")]
    for option in read("include/kiln/build_options.inc").split("\nKILN_OPTION(")[1:]:
        name = option.split(",")[2].strip()
        found = re.search(r'TRTEXEC\([^,]+, "([\w-]+)", [^,]+, "(\w+)', option)
        if found and not any(f"--{found[1]}" in row and f"`{name}`" in row for row in rows
                             if re.search(rf"`--{found[2]}\b", row)):
            problems.append(f"docs/tensorrt.md has no row of trtexec's --{found[2]} with "
                            f"--{found[1]} and `{name}`")
    known = set(" ".join(re.findall(r'"trtexec",\s*"([^"]*)"',
                                    read("cli/cli_counterparts.c"))).split())
    known.update(("threads", "verbose"))  # kiln's own
    known.update(re.findall(r'TRTEXEC\([^,]+, "[\w-]+", [^,]+, "(\w+)',
                            read("include/kiln/build_options.inc")))
    for row in rows:
        names, here = row.split("|")[1:3]
        if "`" not in here or "not offered" in here:
            continue
        for name in re.findall(r"`--(\w+)[=`]", names):
            if name not in known and not re.search(rf"`[^`]*--{name}\b", here):
                problems.append(f"cli/cli_counterparts.c does not know trtexec's --{name}")


def check_links(problems):
    for path in files(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(path)):
            if re.match(r"[a-z]+:", target):
                continue
            if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), target)):
                problems.append(f"{path}: link to {target}, which is not there")


def check_paths(problems):
    """What a document calls `folder/file` is there, and a folder of build/ has a preset."""
    presets = set(re.findall(r'"name": "(\w+)"', read("CMakePresets.json")))
    tops = {path.split("/")[0] for path in files("") if "/" in path} - {".github"}
    every = files("")
    for path in files(".md"):
        if path in HISTORY:
            continue
        for name in re.findall(r"\bbuild/(\w+)/", read(path)):
            if name not in presets | {"deps", "docs"}:
                problems.append(f"{path} names build/{name}, which no preset makes")
        for name in re.findall(r"`([\w.-]+/[\w./*<>-]+)`", read(path)):
            pattern = re.compile(re.sub(r"\\\*|<\w+>", "[^/]*", re.escape(name.rstrip("/"))) +
                                 r"(\.c)?(/|$)")
            if name.split("/")[0] in tops and not any(map(pattern.match, every)):
                problems.append(f"{path} names {name}, which is not there")


def check_tests(problems):
    """`unit.test_base` and `cli.run` in a document are tests."""
    every = " ".join(files(".c", ".sh"))
    for path in files(".md"):
        names = set(re.findall(r"`(?:unit\.(test_\w+)|cli\.(\w\w+))`", read(path)))
        for unit, cli in names if path not in HISTORY else ():
            if f"/{unit}.c" not in every and f"tests/cli/cases/{cli}.sh" not in every:
                problems.append(f"{path} names the test {unit or cli}, which is not there")


def check_options(problems):
    """An option in a document is one of kiln's, of a script here, or of a tool that the scripts
    call; those of trtexec have capitals in them, or begin a row of their table."""
    sources = "\n".join(read(path) for path in files(".c") if path.startswith("cli/"))
    sources += re.sub(r"(?:CLI|TRTEXEC)\([^,]*, ", "{", read("include/kiln/build_options.inc"))
    known = set(re.findall(r'\{"(?:--)?([a-z0-9-]+)"', sources))
    known.update(OF_TOOLS, *(re.findall(r"(?<![\w-])--([a-z0-9-]+)", read(path))
                             for path in files(".sh", ".py", "bench/reference.c")))
    for path in files(".md"):
        text = re.sub(r"^\| (`--.*?) \|", "", read(path), flags=re.M)
        for option in sorted(set(re.findall(r"(?<![\w-])--([a-z][a-zA-Z0-9-]*)", text))):
            if path not in HISTORY and option == option.lower() and option not in known:
                problems.append(f"{path} names --{option}, which nothing has")


def check_named(problems):
    """Every measurement and every script is named by a document, by another script or by the
    build; that the build makes a program of bench/ says nothing about what it is for."""
    texts = {path: read(path) for path in files(".md", ".txt", ".sh", ".py", ".json", ".yml", ".in",
                                                ".cmake", "Makefile", "Doxyfile")}
    for path in files(".py", ".sh", ".c", ".cpp"):
        if not path.startswith(("bench/", "scripts/")) or path == "bench/gpu_peer.c":
            continue
        stem = os.path.basename(path).rsplit(".", 1)[0]
        is_program = path.endswith(".c") and "int main(" in read(path)
        named = re.compile(rf"\b(bench_)?{stem}\b" if is_program else
                           rf"\b{re.escape(os.path.basename(path))}\b|import {stem}\b|from {stem} ")
        if not any(named.search(text) for other, text in texts.items()
                   if other not in (path, "CHANGELOG.md")
                   and not (is_program and other.endswith("CMakeLists.txt"))):
            problems.append(f"{path} is named nowhere: say in a document what it is for")


def check_reference(problems):
    """The reference shows every build option as a member."""
    shown = subprocess.run(
        [sys.executable, os.path.join(ROOT, "scripts/doxygen_filter.py"),
         os.path.join(ROOT, "include/kiln/options.h")], capture_output=True, text=True,
        check=True).stdout
    rows = re.findall(r"^KILN_OPTION(?:_LIST)?\(\w+, [^,]+, (\w+),",
                      read("include/kiln/build_options.inc"), re.M)
    for name in rows:
        if not re.search(rf"^/\*\* .*\*/\n.*\b{name};", shown, re.M):
            problems.append(f"scripts/doxygen_filter.py does not show {name}")
    if not rows:
        problems.append("include/kiln/build_options.inc has no rows")


def main():
    if sys.argv[1:] == ["--update"]:
        page = errors_page()
        with open(os.path.join(ROOT, ERRORS), "w", encoding="utf-8") as file:
            file.write(page)
        return 0
    problems = []
    check_errors(problems)
    check_variables(problems)
    check_links(problems)
    check_names(problems)
    check_trtexec(problems)
    check_paths(problems)
    check_tests(problems)
    check_options(problems)
    check_named(problems)
    check_reference(problems)
    print("\n".join(problems) if problems else
          f"{len(statuses())} statuses, links, variables, names, files and options")
    return 1 if problems else 0


sys.exit(main())
