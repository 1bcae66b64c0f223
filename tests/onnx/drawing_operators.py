#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which models draw random numbers that nothing fixes: two runs of those cannot be compared.

Run by itself it tests itself: each operator that onnx or ONNX Runtime knows with a seed is known
here, and nodes in subgraphs, functions and with and without a seed are told apart.
"""
import sys

import onnx
import onnxruntime.capi.onnxruntime_pybind11_state as onnxruntime_state
from onnx import AttributeProto, TensorProto, helper

STANDARD = ("", "ai.onnx")
ALWAYS = {(domain, name) for domain in STANDARD for name in (
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike")} | {("com.microsoft", "Sampling")}
DROPOUTS = {("", "Dropout"), ("ai.onnx", "Dropout"), ("com.microsoft", "BitmaskDropout"),
            ("com.microsoft", "BiasDropout"), ("com.microsoft", "BitmaskBiasDropout")}
HASHES = {("com.microsoft", "MurmurHash3")}  # Their seed is a parameter; they draw nothing.


def is_seeded(node):
    """A seed given as a number: one that refers to an attribute of a function may be absent."""
    return any(a.name == "seed" and not a.ref_attr_name for a in node.attribute)


def is_false(name, constants):
    tensor = constants.get(name)
    return tensor is not None and not onnx.numpy_helper.to_array(tensor).any()


def drops(node, opset, constants):
    """Whether a Dropout may be in training mode: from opset 12 on an input says so, up to 6 a
    missing is_test, and in between it never is."""
    if node.op_type == "Dropout" and opset < 7:
        return not any(a.name == "is_test" and a.i for a in node.attribute)
    if node.op_type == "Dropout" and opset < 12:
        return False
    mode = node.input[4 if "Bias" in node.op_type else 2:]
    return bool(mode and mode[0]) and not is_false(mode[0], constants)


def subgraphs(node):
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def constants_of(nodes, initializers, outer):
    found = dict(outer)
    found.update((tensor.name, tensor) for tensor in initializers)
    for node in nodes:
        if node.op_type == "Constant" and node.domain in STANDARD and node.output:
            found.update((node.output[0], a.t) for a in node.attribute
                         if a.name == "value" and not a.ref_attr_name)
    return found


def drawing_nodes(nodes, opset, initializers=(), outer=()):
    constants = constants_of(nodes, initializers, outer)
    for node in nodes:
        kind = (node.domain, node.op_type)
        if kind in ALWAYS or kind in DROPOUTS and drops(node, opset, constants):
            if not is_seeded(node):
                yield node
        for graph in subgraphs(node):
            yield from drawing_nodes(graph.node, opset, graph.initializer, constants)


def opset_of(imports):
    return next((i.version for i in imports if i.domain in STANDARD), 1)


def drawing_operators(model):
    """The operators of the model, its subgraphs and its functions that draw without a seed."""
    nodes = list(drawing_nodes(model.graph.node, opset_of(model.opset_import),
                               model.graph.initializer))
    for function in model.functions:
        nodes += drawing_nodes(function.node, opset_of(function.opset_import))
    return sorted({node.op_type for node in nodes})


def drawing_operators_of_file(path):
    """[] for what is no model: whoever loads it says so."""
    try:
        return drawing_operators(onnx.load(str(path), load_external_data=False))
    except Exception:  # pylint: disable=broad-except
        return []


# --- the test of itself ---


def model_of(nodes, opset=22, functions=(), initializers=()):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [4])],
                              [value("y", TensorProto.FLOAT, [4])], initializer=initializers)
    return helper.make_model(graph, functions=functions, opset_imports=[
        helper.make_opsetid("", opset), helper.make_opsetid("own", 1)])


def check(label, model, expected):
    found = drawing_operators(model)
    if found != expected:
        print(f"{label}: {found} instead of {expected}")
    return found == expected


def unknown_operators():
    """Operators with a seed, by onnx or by ONNX Runtime, that are not in the lists above."""
    known = {("" if domain == "ai.onnx" else domain, name)
             for domain, name in ALWAYS | DROPOUTS | HASHES}
    schemas = onnx.defs.get_all_schemas_with_history()
    schemas += onnxruntime_state.get_all_operator_schema()
    return sorted({(s.domain, s.name) for s in schemas if "seed" in s.attributes} - known)


def dropout(*inputs, opset=22, **attributes):
    false = helper.make_tensor("false", TensorProto.BOOL, [], [False])
    node = helper.make_node("Dropout", ["x", *inputs], ["y"], **attributes)
    return model_of([node], opset, initializers=[false])


def main():
    node = helper.make_node
    draw = node("RandomNormalLike", ["x"], ["y"])
    then = helper.make_graph([draw], "then", [], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])])
    imports = [helper.make_opsetid("", 22)]
    noise = helper.make_function("own", "Noise", ["x"], ["y"], [draw], imports)
    nested = helper.make_function("own", "Noise", ["x"], ["y"], [
        node("If", ["x"], ["y"], then_branch=then, else_branch=then)], imports)
    referring = node("RandomUniformLike", ["x"], ["y"])
    referring.attribute.append(AttributeProto(name="seed", ref_attr_name="seed",
                                              type=AttributeProto.FLOAT))
    call = node("Noise", ["x"], ["y"], domain="own")
    good = [
        check("no draw", model_of([node("Relu", ["x"], ["y"])]), []),
        check("draw", model_of([draw]), ["RandomNormalLike"]),
        check("seed", model_of([node("Bernoulli", ["x"], ["y"], seed=1.0)]), []),
        check("seed of a function", model_of([referring]), ["RandomUniformLike"]),
        check("branch", model_of([node("If", ["x"], ["y"], then_branch=then, else_branch=then)]),
              ["RandomNormalLike"]),
        check("function", model_of([call], functions=[noise]), ["RandomNormalLike"]),
        check("branch in a function", model_of([call], functions=[nested]), ["RandomNormalLike"]),
        check("dropout", dropout(), []),
        check("dropout that trains", dropout("", "x"), ["Dropout"]),
        check("dropout that trains, with a seed", dropout("", "x", seed=3), []),
        check("dropout that does not train", dropout("", "false"), []),
        check("dropout of opset 7", dropout(opset=7), []),
        check("dropout of opset 6", dropout(opset=6), ["Dropout"]),
        check("dropout of opset 6 in a test", dropout(opset=6, is_test=1), []),
        not unknown_operators(),
    ]
    for domain, name in unknown_operators():
        print(f"{name} of \"{domain}\" has a seed and is not known")
    print(f"{sum(good)} of {len(good)} right")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
