#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/ops/op_rows_*.inc: one row for each version of each operator, read from the
schemas of the installed onnx package (pip install onnx), and for those of ONNX Runtime's own
that Kiln has rules of (MICROSOFT, and in ONNX's domain OWN), from the installed onnxruntime.

The letters of a type are listed in src/ops/op_schema.c."""
import os
import sys
import textwrap

import onnx.defs
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

LETTERS = {
    "float": "f", "float16": "h", "double": "d", "bfloat16": "g", "int8": "b", "uint8": "B",
    "int16": "w", "uint16": "W", "int32": "i", "uint32": "I", "int64": "l", "uint64": "L",
    "bool": "t", "string": "s", "complex64": "c", "complex128": "C", "int4": "n", "uint4": "N",
    "int2": "k", "uint2": "K", "float8e4m3fn": "e", "float8e4m3fnuz": "E", "float8e5m2": "x",
    "float8e5m2fnuz": "X", "float8e8m0": "y", "float4e2m1": "q", "float6e2m3": "p",
    "float6e3m2": "P",
}
# Divided by first letter, so that no file is too long to be read; "~": other domains.
FILES = (("op_rows_a_c.inc", "A", "C"), ("op_rows_d_h.inc", "D", "H"),
         ("op_rows_i_p.inc", "I", "P"), ("op_rows_q_r.inc", "Q", "R"),
         ("op_rows_s_z.inc", "S", "~"))
MICROSOFT = (
    "Attention BiasGelu DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul "
    "EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul Gelu GroupQueryAttention "
    "MatMulIntegerToFloat MatMulNBits MultiHeadAttention QAttention QGemm QLinearAdd "
    "QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul "
    "QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu "
    "RotaryEmbedding SkipLayerNormalization SkipSimplifiedLayerNormalization "
    "TransposeMatMul").split()
OWN = ("SimplifiedLayerNormalization",)
FORMS = ("tensor(%s)", "seq(tensor(%s))", "optional(tensor(%s))", "optional(seq(tensor(%s)))")
KINDS = {
    "INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "SPARSE_TENSOR": "p",
    "TYPE_PROTO": "y", "INTS": "I", "FLOATS": "F", "STRINGS": "S", "TENSORS": "T", "GRAPHS": "G",
    "SPARSE_TENSORS": "P", "TYPE_PROTOS": "Y",
}


def own_schemas(domain, names):
    """ONNX Runtime's, in the order of the names."""
    schemas = {s.name: s for s in runtime.get_all_operator_schema() if s.domain == domain}
    return [schemas[name] for name in names]


def type_of(parameter):
    """The two packages spell it in two ways."""
    return getattr(parameter, "type_str", None) or parameter.typeStr


def enum_name(value):
    return value.name if hasattr(value, "name") else str(value).rsplit(".", 1)[-1]


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
        kind = enum_name(p.option)
        of = type_of(p)
        alike = p.is_homogeneous if hasattr(p, "is_homogeneous") else p.isHomogeneous
        word = p.name + (":" + of if of in variables else "=" + types([of]))
        if kind == "Optional":
            word += "?"
        elif kind == "Variadic":
            word += "*" if alike else "**"
        words.append(word)
    return " ".join(words)


def pieces(text):
    """The text as string literals of at most 100 columns."""
    lines = textwrap.wrap(text, 100, break_long_words=True, break_on_hyphens=False) or [""]
    # Blanks are lost where a line was divided at one.
    return ['"%s%s"' % (line, " " if i + 1 < len(lines) and len(line) < 100 else "")
            for i, line in enumerate(lines)]


def number(n):
    return "INT_MAX" if n >= 2**31 - 1 else str(n)


def row(s, before=None):
    """One version of an operator; a NEXT has all but the types as `before`."""
    variables = {t.type_param_str for t in s.type_constraints}
    attributes = " ".join(
        "%s:%s%s" % (n, KINDS[enum_name(a.type)], "!" if a.required else "")
        for n, a in sorted(s.attributes.items()))
    constraints = " ".join("%s=%s" % (t.type_param_str, types(t.allowed_type_strs))
                           for t in s.type_constraints)
    words = ['"%s",' % s.domain, '"%s",' % s.name, "%d," % s.since_version]
    form = [number(n) + "," for n in (s.min_input, s.max_input, s.min_output, s.max_output)]
    for text in (parameters(s.inputs, variables), parameters(s.outputs, variables), attributes):
        form += pieces(text)
        form[-1] += ","
    is_next = before is not None and before[0] == words[:2] and before[1] == form
    opening, closing = ("    NEXT(", ")") if is_next and not s.deprecated else ("    {", "}")
    all_words = words + (form if closing == "}" else []) + pieces(constraints)
    if closing == "}":
        all_words[-1] += ","
        all_words.append("true" if s.deprecated else "false")
    lines = [opening]
    for word in all_words:
        if len(lines[-1]) + 1 + len(word) > 114:
            lines.append("     " + word)
        else:
            lines[-1] += ("" if lines[-1].endswith(opening) else " ") + word
    return "\n".join(lines) + closing + ",\n", (words[:2], form)


def main():
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                          "src", "ops")
    schemas = sorted(onnx.defs.get_all_schemas_with_history() + own_schemas("", OWN),
                     key=lambda s: (s.domain, s.name, s.since_version))
    head = ("/* Made by scripts/make_op_table.py from the schemas of the onnx package %s.\n"
            " * SPDX-License-Identifier: Apache-2.0 */\n" % onnx.__version__)
    for name, first, last in FILES:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(head)
            before = None
            for s in schemas:
                key = s.name[0] if s.domain == "" else "~"
                if first <= key <= last:
                    text, before = row(s, before)
                    f.write(text)
    write_microsoft(os.path.join(folder, "op_rows_microsoft.inc"))
    return 0


def write_microsoft(path):
    with open(path, "w", encoding="utf-8") as f:
        f.write("/* Made by scripts/make_op_table.py from the schemas of ONNX Runtime %s.\n"
                " * SPDX-License-Identifier: Apache-2.0 */\n" % onnxruntime.__version__)
        f.writelines(row(s)[0] for s in own_schemas("com.microsoft", MICROSOFT))


if __name__ == "__main__":
    sys.exit(main())
