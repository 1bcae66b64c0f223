#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of operators in docs/reference.md is the reference backend's own.

    check_operators.py NODE_TEST PAGE            says whether it is
    check_operators.py NODE_TEST PAGE --update   writes it
"""
import subprocess
import sys

BEGIN, END = "<!-- operators: tests/onnx_node/check_operators.py -->", "<!-- end -->"


def table(program):
    out = subprocess.run([program, "operators"], capture_output=True, text=True, check=True)
    entries = sorted((line.split() for line in out.stdout.splitlines()),
                     key=lambda entry: entry[0].lower())
    rows = [f"{len(entries)} operators, each with the oldest version that is known",
            "(Constant nodes become constants when a network is built):", ""]
    line = ""
    for name, since in entries:
        entry = f"{name} {since}, "
        if len(line) + len(entry) > 98:
            rows.append(line.rstrip())
            line = ""
        line += entry
    rows.append(line.rstrip(", ") + ".")
    return "\n".join(rows)


def main():
    program, path = sys.argv[1], sys.argv[2]
    with open(path, encoding="utf-8") as file:
        page = file.read()
    before, rest = page.split(BEGIN, 1)
    wanted = before + BEGIN + "\n" + table(program) + "\n" + END + rest.split(END, 1)[1]
    if page == wanted:
        return 0
    if "--update" in sys.argv:
        with open(path, "w", encoding="utf-8") as file:
            file.write(wanted)
        return 0
    print(f"{path} differs from the kernel table (check_operators.py {program} {path} --update)")
    return 1


if __name__ == "__main__":
    sys.exit(main())
