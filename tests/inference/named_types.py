#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every attribute that names a data type, of every operator and version that the onnx package has:
a number that is none is an error of the check.

    named_types.py INFER_DUMP"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import onnx
from onnx import TensorProto, helper

# Of a number whose description speaks of data types, and which names none.
OTHERS = {"saturate", "qk_matmul_output_mode"}
WRONG = (9999, -1, TensorProto.UNDEFINED)


def named():
    """(schema, attribute): all that may name one."""
    for schema in onnx.defs.get_all_schemas_with_history():
        for name, attribute in sorted(schema.attributes.items()):
            text = f"{name} {attribute.description}"
            if attribute.type == onnx.defs.OpSchema.AttrType.INT and name not in OTHERS and \
                    not schema.deprecated and re.search(r"type|precision", text, re.IGNORECASE):
                yield schema, name


def model(schema, attributes):
    """A node of it, with the inputs that it needs."""
    infos, shape = [], [] if re.search(r"Window|Mel|Range", schema.name) else [2, 2]
    for i in range(schema.min_input):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        kinds = sorted(t[7:-1] for t in formal.types if t.startswith("tensor("))
        kind = "float" if "float" in kinds else kinds[0]
        infos.append(helper.make_tensor_value_info(
            f"i{i}", TensorProto.DataType.Value(kind.upper()), shape))
    node = helper.make_node(schema.name, [i.name for i in infos], ["y"], domain=schema.domain,
                            **attributes)
    graph = helper.make_graph([node], "named", infos, [onnx.ValueInfoProto(name="y")])
    return helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid(schema.domain, schema.since_version)])


def required(schema):
    """Some value for each other attribute that must be there."""
    values = {"INT": 1, "FLOAT": 1.0, "STRING": "a", "INTS": [2], "FLOATS": [1.0]}
    return {name: values[a.type.name] for name, a in schema.attributes.items()
            if a.required and a.type.name in values}


def issues(program, folder, made):
    paths = []
    for number, one in enumerate(made):
        paths.append(folder / f"{number}.onnx")
        onnx.save(one, paths[-1])
    done = subprocess.run([program], input="".join(f"{p}\n" for p in paths), text=True,
                          capture_output=True, check=True)
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        yield [i["sentence"] for i in answer.get("issues", []) + answer.get("inference", [])
               if i["severity"] == 2] or [answer.get("error", "")]


def main():
    labels, made = [], []
    for schema, name in named():
        for value in WRONG:
            # Where 0 is the default, it names none.
            default = schema.attributes[name].default_value
            if value == 0 and default.HasField("i") and default.i == 0:
                continue
            labels.append((f"{schema.name} {schema.since_version}", name, value))
            made.append(model(schema, {**required(schema), name: value}))
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for label, found in zip(labels, issues(sys.argv[1], pathlib.Path(folder), made)):
            if not any(f'"{label[1]}"' in sentence for sentence in found):
                failures += 1
                print(f"{label[0]}: \"{label[1]}\" of {label[2]} is taken; {found}")
    print(f"{len({label[:2] for label in labels})} attributes, {failures} failures")
    return 1 if failures or not labels else 0


if __name__ == "__main__":
    sys.exit(main())
