#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Changes what Kiln says of TensorRT's binary interface, and sees whether the check notices.

    tests/tensorrt/mutate_abi.py HEADER_DIR...

A change must be noticed with the headers of one version at least: what RTX alone has, only RTX's
show. Each cell and type of the tables is changed by the check itself, at run time. Here are the
changes that need a compiler: of structs, of exported functions, of the versions that a layout has,
and of the files of the tables. Exits with 1 where one goes unnoticed.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = "src/backends/tensorrt"
TYPES, SLOTS, VALUES = "trt_types.h", "trt_slots.inc", "trt_values.inc"

CHANGES = [
    (TYPES, "int32_t nbDims;", "int64_t nbDims;"),
    (TYPES, "int64_t d[TRT_MAX_DIMS];", "int32_t d[TRT_MAX_DIMS];"),
    (TYPES, "#define TRT_MAX_DIMS 8", "#define TRT_MAX_DIMS 9"),
    (TYPES, "    int32_t nbDims;\n    int64_t d[TRT_MAX_DIMS];",
     "    int64_t d[TRT_MAX_DIMS];\n    int32_t nbDims;"),
    (TYPES, "    int32_t type;\n    const void *values;",
     "    int64_t type;\n    const void *values;"),
    (TYPES, "    int32_t type;\n    const void *values;",
     "    const void *values;\n    int32_t type;"),
    (TYPES, "    int64_t count;", "    int32_t count;"),
    (TYPES, "    int32_t major;\n    int32_t minor;", "    int32_t minor;\n    int32_t major;"),
    (TYPES, "    const char *kind;\n    int32_t major;",
     "    int32_t major;\n    const char *kind;"),
    (TYPES, "        const trt_slot *vtable;     \\\n        struct trt_##name##_impl {  \\",
     "        const trt_slot *vtable; void *more; \\\n        struct trt_##name##_impl {  \\"),
    (TYPES, "FUNCTION(getInferLibVersion, int32_t, (void))",
     "FUNCTION(getInferLibVersion, int64_t, (void))"),
    (TYPES, "FUNCTION(createInferRuntime_INTERNAL, void *, (void *logger, int32_t version))",
     "FUNCTION(createInferRuntime_INTERNAL, void *, (void *logger, int64_t version))"),
    (TYPES, "(void *engine, void *logger, int32_t version)", "(void *engine, int32_t version)"),
    (TYPES, "FUNCTION(getPluginRegistry, trt_PluginRegistry *, (void))",
     "FUNCTION(getPluginRegistry, int32_t, (void))"),
    (TYPES, "FUNCTION(initLibNvInferPlugins, bool,", "FUNCTION(initLibNvInferPlugins, int32_t,"),
    (TYPES, "static inline trt_layout trt_layout_find(bool is_rtx, int32_t version)\n{\n"
     "    int layout = 0;",
     "static inline trt_layout trt_layout_find(bool is_rtx, int32_t version)\n{\n"
     "    int layout = 3;"),
]


def next_of(number):
    """One up; of a version the next minor one, for not every patch has headers."""
    return str(number + (100 if number >= 10000 else 1))


def lines_of(file):
    """A change to every 40th line of a table: its numbers up."""
    text = open(f"{ROOT}/{FOLDER}/{file}", encoding="utf-8").read()
    rows = [r for r in re.findall(r"^(?:METHOD|VOID|VALUE)\w*\(.*$", text, re.M)
            if not r.startswith("METHOD0(c")]
    for row in rows[::40]:
        found = re.match(r"(\w+\(\w+, \w+, )(.*)$", row)
        cells = re.sub(r"(?<![\w(])\d+(?=[,)])", lambda m: next_of(int(m[0])), found[2])
        if cells != found[2]:
            yield file, row, found[1] + cells


def noticed(headers, file, old, new):
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(f"{ROOT}/{FOLDER}", f"{scratch}/{FOLDER}")
        path = f"{scratch}/{FOLDER}/{file}"
        text = open(path, encoding="utf-8").read()
        if text.count(old) < 1:
            sys.exit(f"{file} has no {old!r}")
        with open(path, "w", encoding="utf-8") as changed:
            changed.write(text.replace(old, new, 1))
        environment = os.environ | {"KILN_ABI_SOURCE": f"{scratch}/src"}
        return any(subprocess.run([f"{ROOT}/scripts/check_tensorrt_abi.sh", folder],
                                  env=environment, capture_output=True, check=False).returncode
                   for folder in headers)


def main():
    headers = sys.argv[1:]
    changes = CHANGES + list(lines_of(SLOTS)) + list(lines_of(VALUES))
    missed = 0
    for file, old, new in changes:
        if not noticed(headers, file, old, new):
            missed += 1
            print(f"not noticed: {file}: {old!r} -> {new!r}", flush=True)
    print(f"{len(changes)} changes, {missed} unnoticed")
    return 1 if missed else 0


sys.exit(main())
