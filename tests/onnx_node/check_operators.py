#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What docs/reference.md and README.md say is missing is what the reference backend lacks.

    check_operators.py NODE_TEST PAGE            says whether it is
    check_operators.py NODE_TEST PAGE --update   writes it

ONNX's operators are those of src/ops/op_rows_*.inc."""
import pathlib
import re
import subprocess
import sys
import textwrap

BEGIN, END = "<!-- operators: tests/onnx_node/check_operators.py -->", "<!-- end -->"
ROOT = pathlib.Path(__file__).resolve().parents[2]
OPS = ROOT / "src/ops"


def missing(program):
    out = subprocess.run([program, "operators"], capture_output=True, text=True, check=True)
    kernels = {name: int(since) for name, since in map(str.split, out.stdout.splitlines())}
    versions = {}
    for file in sorted(OPS.glob("op_rows_*.inc")):
        for row in re.finditer(r'[{(]"", "(\w+)", (\d+),([^})]*)[})]', file.read_text()):
            versions.setdefault(row[1], []).append((int(row[2]), row[3].endswith("true")))
    del versions["Constant"]  # becomes a constant when a network is built
    del versions["SimplifiedLayerNormalization"]  # ONNX Runtime's, which has it in ONNX's domain
    absent = [name for name, rows in versions.items() if name not in kernels and not rows[-1][1]]
    late = [f"{name} {kernels[name]}" for name, rows in versions.items()
            if kernels.get(name, 0) > rows[0][0]]
    text = (f"Not there, of {len(versions)}: {', '.join(absent)}. From the version on that "
            f"is named, and not before: {', '.join(late)}.")
    counted = f"lacks {len(absent)} of ONNX's {len(versions)} operators"
    return "\n".join(textwrap.wrap(text, 110)), counted


def main():
    program, path = sys.argv[1], pathlib.Path(sys.argv[2])
    page = path.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN, 1)
    listed, counted = missing(program)
    wanted = f"{before}{BEGIN}\n{listed}\n{END}{rest.split(END, 1)[1]}"
    if page != wanted and "--update" in sys.argv:
        path.write_text(wanted, encoding="utf-8")
    elif page != wanted:
        print(f"{path} differs from the kernels (check_operators.py {program} {path} --update)")
        return 1
    if counted not in (ROOT / "README.md").read_text(encoding="utf-8"):
        print(f"README.md does not say that the reference executor {counted}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
