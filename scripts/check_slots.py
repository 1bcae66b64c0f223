#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every slot of ONNX Runtime's table that Kiln uses is called by its tests.

    check_slots.py

Reads the list in src/backends/onnxruntime/ort_api.h, and looks for a call of each name in
tests/unit/test_onnxruntime_abi.c, test_onnxruntime_slots.c and ort_abi_test.h; the environment,
which is one for the process, is made by src/backends/onnxruntime/ort_runtime.c.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FROM_THE_RUNTIME = {"CreateEnvWithCustomLogger"}
TESTS = ("test_onnxruntime_abi.c", "test_onnxruntime_slots.c", "ort_abi_test.h")


def main():
    table = (ROOT / "src/backends/onnxruntime/ort_api.h").read_text(encoding="utf-8")
    tests = "".join((ROOT / "tests/unit" / name).read_text(encoding="utf-8") for name in TESTS)
    names = re.findall(r"X\(\d+, \d+, [^,]+, (\w+),", table)
    called = set(re.findall(r"api->(\w+)\(", tests)) | FROM_THE_RUNTIME
    missing = [name for name in names if name not in called]
    for name in missing:
        print(f"no test calls {name}", file=sys.stderr)
    if len(names) < 50:
        sys.exit(f"only {len(names)} slots were read from ort_api.h")
    if missing:
        sys.exit(1)
    print(f"{len(names)} slots, each is called by a test")


main()
