#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints src/network/op_rows.inc: one row for each version of each operator, read from the schemas of
the installed onnx package (pip install onnx). Run: scripts/make_op_table.py > src/network/op_rows.inc

The letters of a type are listed in src/network/op_schema.c."""
import sys
import textwrap

import onnx.defs

LETTERS = {
    "float": "f", "float16": "h", "double": "d", "bfloat16": "g", "int8": "b", "uint8": "B", "int16": "w",
    "uint16": "W", "int32": "i", "uint32": "I", "int64": "l", "uint64": "L", "bool": "t", "string": "s",
    "complex64": "c", "complex128": "C", "int4": "n", "uint4": "N", "int2": "k", "uint2": "K",
    "float8e4m3fn": "e", "float8e4m3fnuz": "E", "float8e5m2": "x", "float8e5m2fnuz": "X",
    "float8e8m0": "y", "float4e2m1": "q", "float6e2m3": "p", "float6e3m2": "P",
}
FORMS = ("tensor(%s)", "seq(tensor(%s))", "optional(tensor(%s))", "optional(seq(tensor(%s)))")
KINDS = {
    "INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "SPARSE_TENSOR": "p",
    "TYPE_PROTO": "y", "INTS": "I", "FLOATS": "F", "STRINGS": "S", "TENSORS": "T", "GRAPHS": "G",
    "SPARSE_TENSORS": "P", "TYPE_PROTOS": "Y",
}


def types(names):
    """Letters of plain tensors / sequences / optionals / optional sequences / m for maps."""
    names = set(names)
    groups = ["".join(c for n, c in LETTERS.items() if form % n in names) for form in FORMS]
    groups.append("m" if any("map(" in n for n in names) else "")
    while groups and not groups[-1]:
        groups.pop()
    return "/".join(groups)


def parameters(formals, variables):
    words = []
    for p in formals:
        kind = p.option.name if hasattr(p.option, "name") else str(p.option).rsplit(".", 1)[-1]
        word = p.name + (":" + p.type_str if p.type_str in variables else "=" + types([p.type_str]))
        if kind == "Optional":
            word += "?"
        elif kind == "Variadic":
            word += "*" if p.is_homogeneous else "**"
        words.append(word)
    return " ".join(words)


def quoted(text):
    lines = textwrap.wrap(text, 88, break_long_words=True, break_on_hyphens=False) or [""]
    return "\n     ".join('"%s%s"' % (l, " " if i + 1 < len(lines) and len(l) < 88 else "")
                          for i, l in enumerate(lines))


def number(n):
    return "INT_MAX" if n >= 2**31 - 1 else str(n)


def main():
    print("/* Made by scripts/make_op_table.py from the schemas of the onnx package %s."
          % onnx.__version__)
    print(" * SPDX-License-Identifier: Apache-2.0 */")
    schemas = sorted(onnx.defs.get_all_schemas_with_history(),
                     key=lambda s: (s.domain, s.name, s.since_version))
    for s in schemas:
        variables = {t.type_param_str for t in s.type_constraints}
        attributes = " ".join(
            "%s:%s%s" % (n, KINDS[a.type.name if hasattr(a.type, "name") else str(a.type).rsplit(".", 1)[-1]],
                         "!" if a.required else "")
            for n, a in sorted(s.attributes.items()))
        constraints = " ".join("%s=%s" % (t.type_param_str, types(t.allowed_type_strs))
                               for t in s.type_constraints)
        print('    {"%s", "%s", %d, %s, %s, %s, %s,\n     %s,\n     %s,\n     %s,\n     %s, %s},' % (
            s.domain, s.name, s.since_version, number(s.min_input), number(s.max_input),
            number(s.min_output), number(s.max_output), quoted(parameters(s.inputs, variables)),
            quoted(parameters(s.outputs, variables)), quoted(attributes), quoted(constraints),
            "true" if s.deprecated else "false"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
