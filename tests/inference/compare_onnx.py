#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares what Kiln infers and validates with what the onnx package says of the same models.

    compare_onnx.py INFER_DUMP DIFFERENCES [--bare] [FOLDER_OR_MODEL ...]

Wherever onnx.shape_inference (strict, with data propagation) gives an answer, Kiln must give the
same; a dimension that onnx only names itself (unk__7) counts as not known. A model that
onnx.checker accepts must have no errors; one that onnx refuses has one, or a warning of a declared
shape that contradicts, which every backend runs. Each difference is an error, unless a line of
DIFFERENCES has its model, tensor and the reason, divided by tabs. With no folders, the models of
Debian's libonnx-testdata and the node tests that the onnx package makes are taken.

With --bare, what the models declare of computed tensors is taken out first, so that only what
follows from the rules is left to compare."""
import json
import os
import re
import subprocess
import sys
import tempfile

import onnx
import onnx.checker
import onnx.shape_inference

UNKNOWN = re.compile(r"^(unk__\d+|\?|)$")


def type_of(t):
    """A TypeProto in the form that infer_dump prints."""
    which = t.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        inner = getattr(t, which)
        out = {"k": 1 if which == "tensor_type" else 2, "t": inner.elem_type}
        if inner.HasField("shape"):
            out["s"] = [(d.dim_value if d.dim_value >= 0 else None) if d.HasField("dim_value")
                        else d.dim_param if not UNKNOWN.match(d.dim_param) else None
                        for d in inner.shape.dim]
        return out
    if which == "sequence_type":
        return {"k": 3, "t": 0, "e": type_of(t.sequence_type.elem_type)}
    if which == "optional_type":
        return {"k": 4, "t": 0, "e": type_of(t.optional_type.elem_type)}
    return {"k": 0, "t": 0}


def known_dim(d):
    return d is not None and not (isinstance(d, str) and UNKNOWN.match(d))


def differences(theirs, ours, declared):
    """What onnx knows and Kiln does not say the same of."""
    if theirs["k"] == 0 or not ours:
        return ["Kiln has no such tensor"] if theirs["k"] and not ours else []
    if theirs["k"] != ours["k"]:
        return ["kind %s, Kiln %s" % (theirs["k"], ours["k"])]
    if "e" in theirs:
        return differences(theirs["e"], ours.get("e"), declared) if theirs["e"]["k"] else []
    out = []
    if theirs["t"] and theirs["t"] != ours["t"]:
        out.append("dtype %s, Kiln %s" % (theirs["t"], ours["t"]))
    if "s" in theirs:
        if "s" not in ours:
            out.append("shape %s, Kiln none" % (theirs["s"],))
        elif len(theirs["s"]) != len(ours["s"]):
            out.append("shape %s, Kiln %s" % (theirs["s"], ours["s"]))
        else:
            for i, (a, b) in enumerate(zip(theirs["s"], ours["s"])):
                if not known_dim(a) or a == b:
                    continue
                # A name the model gives to a dimension that Kiln computes is no contradiction.
                if isinstance(a, str) and a in declared and known_dim(b):
                    continue
                out.append("dimension %d of %s, Kiln %s" % (i, theirs["s"], ours["s"]))
    return out


def declared_names(graph, names):
    """Names of dimensions that are declared for what is computed, rather than for inputs."""
    for v in list(graph.value_info) + list(graph.output):
        for d in v.type.tensor_type.shape.dim:
            if d.dim_param:
                names.add(d.dim_param)
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                declared_names(a.g, names)
    return names


def walk(graph, ours, report, names):
    # Quantizers leave declarations of tensors behind that nothing makes any more.
    made = {name for node in graph.node for name in node.output}
    made.update(v.name for v in list(graph.input) + list(graph.output))
    made.update(t.name for t in graph.initializer)
    for v in list(graph.value_info) + list(graph.output) + list(graph.input):
        if not v.HasField("type") or v.name not in made:
            continue
        for d in differences(type_of(v.type), ours["values"].get(v.name), names):
            report.append((v.name, d))
    for n, node in enumerate(graph.node):
        k = 0
        for name in ("then_branch", "else_branch", "body"):
            for a in node.attribute:
                if a.name == name and a.type == onnx.AttributeProto.GRAPH:
                    inner = ours["inner"].get("%d.%d" % (n, k))
                    k += 1
                    if inner is not None:
                        walk(a.g, inner, report, names)


def onnx_infers(model):
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True), None
    except Exception as e:  # the package raises several types
        return None, str(e)


def find_models(arguments, folder):
    paths = []
    for a in arguments or ["/usr/share/libonnx-testdata/data"]:
        if os.path.isdir(a):
            paths += [os.path.join(d, f) for d, _, files in os.walk(a) for f in files
                      if f.endswith(".onnx")]
        else:
            paths.append(a)
    if not arguments:
        import onnx.backend.test.case.node as node_cases
        for case in node_cases.collect_testcases(None):
            if case.model is not None:
                path = os.path.join(folder, case.name + ".onnx")
                onnx.save(case.model, path)
                paths.append(path)
        light = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light")
        paths += [os.path.join(light, f) for f in os.listdir(light) if f.endswith(".onnx")]
    return sorted(paths)


def bare_graph(graph):
    del graph.value_info[:]
    for v in graph.output:
        v.ClearField("type")
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                bare_graph(a.g)


def make_bare(paths, folder):
    """Copies without declarations; a folder for each keeps equal names apart."""
    out = []
    for i, path in enumerate(paths):
        model = onnx.load(path, load_external_data=False)
        bare_graph(model.graph)
        copy = os.path.join(folder, str(i), name_of(path) + ".onnx")
        os.makedirs(os.path.dirname(copy))
        onnx.save(model, copy)
        out.append(copy)
    return out


def read_reasons(path):
    reasons = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                model, tensor, _ = line.rstrip("\n").split("\t", 2)
                reasons[(model, tensor)] = False
    return reasons


def name_of(path):
    base = os.path.basename(path)
    return os.path.basename(os.path.dirname(path)) if base == "model.onnx" else base[:-5]


def main():
    tool, reason_path, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    bare = arguments[:1] == ["--bare"]
    arguments = arguments[1:] if bare else arguments
    reasons = read_reasons(reason_path)
    failures = models = answers = refused = more = 0
    with tempfile.TemporaryDirectory() as folder:
        paths = find_models(arguments, folder)
        if bare:
            paths = make_bare(paths, os.path.join(folder, "bare"))
        out = subprocess.run([tool], input="\n".join(paths), capture_output=True, text=True,
                             check=True).stdout
        for line in out.splitlines():
            ours = json.loads(line)
            path = ours["path"]
            model = onnx.load(path, load_external_data=False)
            models += 1
            report = []
            inferred, refusal = onnx_infers(model)
            try:
                onnx.checker.check_model(model, full_check=False)
                accepted = True
            except Exception:
                accepted = False
            if "error" in ours:
                report.append(("", "Kiln: " + ours["error"]))
            elif inferred is None:
                refused += 1
                # Without declarations, "no output type" is a refusal that means nothing.
                if not bare and not any(i["severity"] == 2 or " is declared as " in i["sentence"]
                                        for i in ours["issues"]):
                    report.append(("", "onnx refuses, Kiln has no error: " + refusal[:300]))
            else:
                names = declared_names(model.graph, set())
                walk(inferred.graph, ours["graph"], report, names)
                answers += len(inferred.graph.value_info) + len(inferred.graph.output)
                if accepted:
                    for i in ours["issues"]:
                        if i["severity"] == 2:
                            report.append(("", "onnx accepts, Kiln: " + i["sentence"]))
                before = {v.name: type_of(v.type) for v in
                          list(inferred.graph.value_info) + list(inferred.graph.output)}
                for name, value in ours["graph"]["values"].items():
                    for i, d in enumerate(value.get("s", [])):
                        b = before.get(name, {}).get("s")
                        if known_dim(d) and name in before and (
                                b is None or (len(b) == len(value["s"]) and not known_dim(b[i]))):
                            more += 1
            for tensor, words in report:
                key = (name_of(path), tensor)
                if key in reasons:
                    reasons[key] = True
                    continue
                failures += 1
                print("%s\t%s\t%s" % (name_of(path), tensor, words))
    whole = not arguments and not bare
    stale = [k for k, used in reasons.items() if not used] if whole else []
    for k in stale:
        print("%s\t%s\tis listed, but there is no difference" % k)
    print("onnx %s: %d models, %d tensors; onnx refuses %d models; Kiln knows %d dimensions more; "
          "%d listed differences, %d others" % (onnx.__version__, models, answers, refused, more,
                                                len(reasons) - len(stale), failures))
    return 1 if failures or stale else 0


if __name__ == "__main__":
    sys.exit(main())
