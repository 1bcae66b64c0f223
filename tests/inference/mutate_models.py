#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks models in one place each and checks that Kiln's validation finds it.

    mutate_models.py INFER_DUMP FOLDER...

Each kind of fault must be found in every model it is put into. Where a changed type, shape or
attribute still makes a valid model (an elementwise operator takes any shape), the onnx package
decides: what its checker or its strict inference refuses, Kiln must refuse. A declared shape that
contradicts what a node computes must be warned of: every backend runs it."""
import copy
import json
import os
import subprocess
import sys
import tempfile

import onnx
import onnx.checker
import onnx.shape_inference


def drop_producer(m):
    if len(m.graph.node) == 1:
        del m.graph.node[0]
        return True
    return False


def rename_input(m):
    for node in m.graph.node:
        for i, name in enumerate(node.input):
            if name:
                node.input[i] = name + "_gone"
                return True
    return False


def rename_output(m):
    m.graph.output[0].name += "_gone"
    return True


def duplicate_node(m):
    m.graph.node.append(m.graph.node[0])
    return any(m.graph.node[0].output)


def self_cycle(m):
    node = m.graph.node[0]
    for i, name in enumerate(node.input):
        if name and node.output[0]:
            node.input[i] = node.output[0]
            return True
    return False


def strange_attribute(m):
    m.graph.node[0].attribute.append(onnx.helper.make_attribute("kiln_was_here", 1))
    return True


def strange_operator(m):
    m.graph.node[0].op_type = "NoSuchOperator"
    return True


def too_many_inputs(m):
    node = m.graph.node[0]
    schema = onnx.defs.get_schema(node.op_type, m.opset_import[0].version, node.domain)
    if schema.max_input > 100 or not m.graph.input:
        return False
    while len(node.input) <= schema.max_input:
        node.input.append(m.graph.input[0].name)
    return True


def no_opset(m):
    version = m.opset_import[0].version
    del m.opset_import[:]
    return version > 0


def other_dtype(m):
    for v in m.graph.output:
        if v.type.HasField("tensor_type"):
            was = v.type.tensor_type.elem_type
            v.type.tensor_type.elem_type = 7 if was != 7 else 1
            return True
    return False


def other_input_dtype(m):
    for v in m.graph.input:
        if v.type.HasField("tensor_type"):
            v.type.tensor_type.elem_type = 8 if v.type.tensor_type.elem_type != 8 else 1
            return True
    return False


def other_rank(m):
    for v in m.graph.output:
        if v.type.HasField("tensor_type") and v.type.tensor_type.HasField("shape"):
            v.type.tensor_type.shape.dim.add().dim_value = 3
            return True
    return False


def other_dimension(m):
    for v in m.graph.output:
        for d in v.type.tensor_type.shape.dim:
            if d.HasField("dim_value"):
                d.dim_value += 1
                return True
    return False


def other_input_rank(m):
    for v in m.graph.input:
        if v.type.HasField("tensor_type") and v.type.tensor_type.HasField("shape"):
            v.type.tensor_type.shape.dim.add().dim_value = 3
            return True
    return False


def open_outputs(m):
    """Nothing is declared of outputs, so that only the operator's own rule can find a fault."""
    for v in m.graph.output:
        if v.type.HasField("tensor_type"):
            v.type.tensor_type.ClearField("shape")


def other_inputs(m):
    """Every input with another rank, and with each dimension changed in turn."""
    open_outputs(m)
    for i, v in enumerate(m.graph.input):
        if not v.type.HasField("tensor_type") or not v.type.tensor_type.HasField("shape"):
            continue
        dims = v.type.tensor_type.shape.dim
        for k in range(len(dims)):
            if dims[k].HasField("dim_value"):
                for other in (dims[k].dim_value + 1, 0):
                    mutant = copy.deepcopy(m)
                    mutant.graph.input[i].type.tensor_type.shape.dim[k].dim_value = other
                    yield "input_dimension", mutant
        for rank in {0, 1, len(dims) - 1, len(dims) + 1} - {-1, len(dims)}:
            mutant = copy.deepcopy(m)
            changed = mutant.graph.input[i].type.tensor_type.shape.dim
            del changed[rank:]
            while len(changed) < rank:
                changed.add().dim_value = 3
            yield "input_rank", mutant


def other_attributes(m):
    """Every number among the attributes of the first node changed in turn."""
    open_outputs(m)
    for i, a in enumerate(m.graph.node[0].attribute):
        for other in (a.i + 1, -1, 0, 1000) if a.type == onnx.AttributeProto.INT else ():
            mutant = copy.deepcopy(m)
            mutant.graph.node[0].attribute[i].i = other
            yield "attribute_value", mutant
        for k in range(len(a.ints)):
            for other in (a.ints[k] + 1, -1, 0, 1000):
                mutant = copy.deepcopy(m)
                mutant.graph.node[0].attribute[i].ints[k] = other
                yield "attribute_list", mutant
        if a.type == onnx.AttributeProto.INTS:
            mutant = copy.deepcopy(m)
            mutant.graph.node[0].attribute[i].ints.append(1)
            yield "attribute_list", mutant


ALWAYS = (drop_producer, rename_input, rename_output, duplicate_node, self_cycle,
          strange_attribute, strange_operator, too_many_inputs, no_opset)
DECLARED = ("other_rank", "other_dimension", "other_input_rank")
AS_ONNX = (other_dtype, other_input_dtype, other_rank, other_dimension, other_input_rank)


def onnx_refuses(model, whole=True):
    """`whole`: by the checker too, which wants a shape of every output."""
    try:
        if whole:
            onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception:  # the package raises several types
        return True
    return False


def main():
    tool, *folders = sys.argv[1:]
    counts = {}
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        wanted = {}
        for folder, name in sorted((f, n) for f in folders for n in os.listdir(f)):
            path = os.path.join(folder, name, "model.onnx")
            if not os.path.exists(path):
                continue
            model = onnx.load(path)
            if not model.graph.node or onnx_refuses(model):
                continue
            for mutate in ALWAYS + AS_ONNX:
                mutant = copy.deepcopy(model)
                if not mutate(mutant):
                    continue
                must = mutate in ALWAYS or onnx_refuses(mutant)
                if not must:
                    continue
                out = os.path.join(scratch, "%d.%s.%s.onnx" % (len(wanted), name, mutate.__name__))
                onnx.save(mutant, out)
                wanted[out] = mutate.__name__
            for many in (other_inputs, other_attributes):
                for kind, mutant in many(copy.deepcopy(model)):
                    if onnx_refuses(mutant, whole=False):
                        out = os.path.join(scratch, "%d.%s.%s.onnx" % (len(wanted), name, kind))
                        onnx.save(mutant, out)
                        wanted[out] = kind
        result = subprocess.run([tool], input="\n".join(wanted), capture_output=True, text=True,
                                check=True).stdout
        for line in result.splitlines():
            ours = json.loads(line)
            kind = wanted[ours["path"]]
            found = "error" in ours or any(
                i["severity"] == 2 or (kind in DECLARED and " is declared as " in i["sentence"])
                for i in ours["issues"])
            counts.setdefault(kind, [0, 0])[0] += 1
            counts[kind][1] += found
            if not found:
                failures += 1
                print("%s: nothing was found" % os.path.basename(ours["path"]))
    for kind, (total, found) in counts.items():
        print("%-20s %4d of %4d found" % (kind, found, total))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
