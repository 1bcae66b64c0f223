#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a call of every public function with NULL for each pointer in turn, and for all at once.

    make_null_calls.py HEADER_FOLDER OUTPUT

The other arguments are right ones: objects that null_calls.c makes, options as their initialisers
leave them. So a function is reached whatever a later release adds to the headers.
"""
import pathlib
import re
import sys

OPAQUE = {"batch_folder", "buffer", "buffer_plan", "build", "cache_list", "comparison", "context",
          "engine", "event", "generator", "graph", "histogram", "inspection", "issue_list",
          "network", "pipeline", "pool", "precision_report", "range_table", "request", "scheduler",
          "sequence", "stream", "system_report"}
FUNCTIONS = {"kiln_fill_function": "fill_nothing", "kiln_log_sink": "log_nothing",
             "function": "call_nothing"}
# What a right argument is where its type alone does not say it.
SPECIAL = {
    "kiln_shape": "kiln_shape {v} = KILN_SHAPE(1);",
    "kiln_tensor": "kiln_tensor {v} = right_tensor();",
    "kiln_named_tensor": "kiln_named_tensor {v} = {{\"x\", right_tensor()}};",
    "kiln_batch_source": "kiln_batch_source {v} = {{no_batch, NULL}};",
    "kiln_mock_options": "kiln_mock_options {v} = right_mock();",
    "kiln_buffer_request": "kiln_buffer_request {v} = right_buffer_request();",
    "kiln_attribute": "kiln_attribute {v} = right_attribute();",
    "kiln_weights": "kiln_weights {v} = right_weights();",
    "kiln_precision_options": "kiln_precision_options {v} = right_precision();",
}


def declarations(folder):
    """The text of the headers without comments, and (result, name, parameters) of each function."""
    text = ""
    for path in sorted(pathlib.Path(folder).glob("*.h")):
        text += re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
    found = []
    for match in re.finditer(r"^KILN_API\s([^;{]+?)\b(kiln_\w+)\(([^;]*?)\);", text, re.M | re.S):
        result = match[1].replace("KILN_MUST_CHECK", "").strip()
        found.append((result, match[2], re.sub(r"\s+", " ", match[3])))
    return text, found


def parameters(text):
    """(type, name) of each, the type of a function pointer in the place of a name."""
    if text == "void":
        return []
    text = re.sub(r"void \(\*(\w+)\)\(void \*user\)", r"function \1", text)
    return [re.fullmatch(r"(.*?)(\w+)", part.strip()).groups() for part in text.split(",")]


class Call:
    """One argument list in the making, and what releases the objects that the call made."""

    def __init__(self, headers):
        self.headers = headers
        self.lines = []
        self.releases = []

    def variable(self, declaration):
        name = f"v{len(self.lines)}"
        self.lines.append(declaration.format(v=name))
        return name

    def right(self, kind, name):
        plain = kind.replace("const", "").replace(" ", "")
        base = plain.rstrip("*")
        stars = len(plain) - len(base)
        if base in FUNCTIONS:
            return FUNCTIONS[base]
        if stars == 0:
            return self.value(base, name)
        if stars == 2:
            if base == "char":
                return "right_names"
            return self.given(base) if "const" in kind else self.made(base)
        if base == "char":
            return "right_text" if "const" in kind else "room"
        if base == "void":
            return "room"
        if base.removeprefix("kiln_") in OPAQUE:
            return f"right_{base.removeprefix('kiln_')}()"
        return self.pointer(base)

    def given(self, base):
        return "&" + self.variable(f"{base} *{{v}} = right_{base.removeprefix('kiln_')}();")

    def made(self, base):
        made = self.variable(f"{base} *{{v}} = NULL;")
        for ends in (f"{base}_destroy", f"{base}_release"):
            if f"KILN_API void {ends}({base} *" in self.headers:
                self.releases.append(f"{ends}({made});")
        return "&" + made

    def value(self, base, name):
        if base in ("kiln_span", "kiln_mutable_span"):
            return f"({base}){{right_bytes, sizeof right_bytes}}"
        if base == "kiln_dtype":
            return "KILN_DTYPE_FLOAT32"
        if name == "device" or name == "index":
            return "0"
        return "1" if base == "size_t" else f"({base})0"

    def pointer(self, base):
        if base in SPECIAL:
            return "&" + self.variable(SPECIAL[base])
        initialiser = base.upper() + "_INIT"
        if not base.startswith("kiln_") or base == "kiln_tensor_id":
            return self.variable(f"{base} {{v}}[8] = {{{{0}}}};")
        if re.search(rf"#define {initialiser}\b", self.headers):
            return "&" + self.variable(f"{base} {{v}} = {initialiser};")
        body = re.search(rf"typedef struct {base} \{{(.*?)\n\}} {base};", self.headers, re.S)
        name = self.variable(f"{base} {{v}};\n    memset(&{{v}}, 0, sizeof {{v}});")
        if body and "size_t struct_size" in body[1]:
            self.lines[-1] += f"\n    {name}.struct_size = sizeof {name};"
        return "&" + name


def nullable(kind):
    plain = kind.strip()
    return plain.endswith("*") or plain in FUNCTIONS or plain in ("kiln_span", "kiln_mutable_span")


def null_of(kind):
    plain = kind.strip()
    return f"({plain}){{NULL, 4}}" if plain in ("kiln_span", "kiln_mutable_span") else "NULL"


def write_case(out, headers, function, which):
    """The call with NULL for parameter `which`, -1 for all; its row of the table."""
    result, name, listed = function
    call = Call(headers)
    arguments = [null_of(kind) if nullable(kind) and which in (-1, at) else call.right(kind, word)
                 for at, (kind, word) in enumerate(listed)]
    word = listed[which][1] if which >= 0 else "*"
    label = f"{name}_{word}" if which >= 0 else f"{name}_all"
    out.append(f"static int case_{label}(void)\n{{")
    out += ["    " + line for line in call.lines]
    expression = f"{name}({', '.join(arguments)})"
    if result == "kiln_status":
        out.append(f"    const int status = (int){expression};")
        out += ["    " + line for line in call.releases]
        out.append("    return status;\n}")
    else:
        out.append(f"    (void){expression};\n    return 0;\n}}")
    gives = "true" if result == "kiln_status" else "false"
    return f'    {{"{name}", "{word}", case_{label}, {gives}}},'


def main():
    folder, output = sys.argv[1:]
    headers, found = declarations(folder)
    out, rows = [], []
    for result, name, text in found:
        listed = parameters(text)
        pointers = [at for at, (kind, _) in enumerate(listed) if nullable(kind)]
        for which in pointers + ([-1] if len(pointers) > 1 else []):
            rows.append(write_case(out, headers, (result, name, listed), which))
    out.append("static const null_case cases[] = {\n" + "\n".join(rows) + "\n};")
    out.append(f"#define PUBLIC_FUNCTIONS {len(found)}")
    pathlib.Path(output).write_text("\n".join(out) + "\n", encoding="utf-8")


main()
