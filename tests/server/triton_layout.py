#!/usr/bin/env python3
"""Repositories as Triton has them: config.pbtxt is read as it is, or refused by the line.

    tests/server/triton_layout.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import os
import sys

from serve_process import (Server, in_threads, linear, run_tests, save_model, scratch_for,
                           write)

KILN = os.path.abspath(sys.argv[1])
TENSORS = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] %s } ]
"""
BATCHED = 'name: "%s"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 4\n'
WHOLE = TENSORS.replace("[ 4 ]", "[ -1, 4 ]") % ""


def warmup(data, name="x", kind="FP32", dims="4", more=""):
    return 'model_warmup [ { name: "w" %s inputs { key: "%s" value: { data_type: TYPE_%s ' \
        'dims: [ %s ] %s } } } ]\n' % (more, name, kind, dims, data)


GOOD = {
    "warm": ([1], BATCHED % "warm" + TENSORS % "" + "dynamic_batching { }\n" +
             warmup("zero_data: true", more="batch_size: 3 count: 4") +
             warmup("random_data: true") + warmup('input_data_file: "row"', more="batch_size: 4")),
    "plain": ([1, 2], None),
    "all": ([1, 2, 10], BATCHED % "all" + TENSORS % "" + "version_policy { all { } }"),
    "latest": ([1, 2, 10], BATCHED % "latest" + TENSORS % "" +
               "version_policy: { latest: { num_versions: 2 } }"),
    "specific": ([1, 2, 10], BATCHED % "specific" + TENSORS % "" +
                 "version_policy { specific { versions: [ 1, 10, 77 ] } }"),
    "labelled": ([1], BATCHED % "labelled" + TENSORS % 'label_filename: "labels.txt"' +
                 "dynamic_batching { max_queue_delay_microseconds: 20000 }\n"
                 "instance_group [ { count: 2 kind: KIND_CPU } ]"),
    "unbatched": ([1], 'backend: "onnxruntime"\n' + WHOLE),
    "short": ([1], BATCHED % "short"),
    "named": ([1], BATCHED % "named" + TENSORS % "" + 'default_model_filename: "net.onnx"'),
    "bom": ([1], "\ufeff" + BATCHED % "bom"),
    "both": ([1], BATCHED % "both"),  # and a plan beside it
    "inner": ([1], BATCHED % "inner"),  # in a folder model.onnx
    "left": ([1], BATCHED % "left" + (TENSORS % "").replace("[ 4 ]", "[ 4 ] optional: true", 1) +
             """
        dynamic_batching { preferred_batch_size: [ 4 ] preserve_ordering: true priority_levels: 2
            default_priority_level: 1 default_queue_policy { timeout_action: DELAY }
            priority_queue_policy { key: 1 value { max_queue_size: 3 } } }
        instance_group [ { kind: KIND_CPU passive: true } ]
        optimization { priority: PRIORITY_MAX eager_batching: true graph { level: 1 }
            execution_accelerators { gpu_execution_accelerator [ { name: "tensorrt" } ] } }
        parameters { key: "intra_op_thread_count" value: { string_value: "2" } }"""),
    "silent": ([1], BATCHED % "silent" + """
        dynamic_batching { preserve_ordering: false }
        instance_group [ { kind: KIND_CPU passive: false host_policy: "" } ]
        optimization { input_pinned_memory { enable: true } graph { } execution_accelerators { } }
        """),
}
# Of strings.
WORDS = {
    "warm_words": ([1], BATCHED % "warm_words" + warmup("zero_data: true", kind="STRING") +
                   warmup("random_data: true", kind="STRING", more="batch_size: 2")),
}
BAD = {
    "syntax": ("max_batch_size: \n\n}", "line 3"),
    "dims": (BATCHED % "dims" + (TENSORS % "").replace("[ 4 ]", "[ 5 ]", 1), 'input "x"'),
    "rank": ((BATCHED % "rank").replace("4", "0") + TENSORS % "", "dims"),
    "type": (BATCHED % "type" + (TENSORS % "").replace("FP32", "INT32", 1), "INT32"),
    "input": (BATCHED % "input" + (TENSORS % "").replace('"x"', '"z"'), 'no input "z"'),
    "output": (BATCHED % "output" + (TENSORS % "").replace('"y"', '"z"'), 'no output "z"'),
    "backend": ('backend: "pytorch"\n', "pytorch"),
    "folder": (BATCHED % "another", "another"),
    "reshape": (BATCHED % "reshape" + (TENSORS % "").replace(
        "[ 4 ]", "[ 4 ] reshape { shape: [ 4 ] }", 1), "reshape"),
    "labels": (BATCHED % "labels" + TENSORS % 'label_filename: "../../labels.txt"', "labels"),
    "warm_name": (BATCHED % "warm_name" + warmup("zero_data: true", name="z"), "none of the"),
    "warm_type": (BATCHED % "warm_type" + warmup("zero_data: true", kind="INT8"), "another type"),
    "warm_dims": (BATCHED % "warm_dims" + warmup("zero_data: true", dims="-1"), "a dim of -1"),
    "warm_shape": (BATCHED % "warm_shape" + warmup("zero_data: true", dims="5"), "failed"),
    "warm_rows": (BATCHED % "warm_rows" + warmup("zero_data: true", more="batch_size: 5"),
                  "more rows"),
    "warm_data": (BATCHED % "warm_data" + warmup(""), "no data"),
    "warm_both": (BATCHED % "warm_both" + warmup("zero_data: true random_data: true"),
                  "random_data"),
    "warm_file": (BATCHED % "warm_file" + warmup('input_data_file: "gone"'), "warmup/gone"),
    "warm_size": (BATCHED % "warm_size" + warmup('input_data_file: "row"'), "another size"),
    "warm_out": (BATCHED % "warm_out" + warmup('input_data_file: "../../../labels.txt"'),
                 "cannot be read"),
    "warm_words_file": (BATCHED % "warm_words_file" +
                        warmup('input_data_file: "row"', kind="STRING"), "strings"),
    "ragged": (BATCHED % "ragged" + (TENSORS % "").replace(
        "[ 4 ]", "[ 4 ] allow_ragged_batch: true", 1), "ragged"),
    "threads": (BATCHED % "threads" + 'parameters { key: "intra_op_thread_count" value: '
                '{ string_value: "two" } }', "a number is needed"),
    "sequence": (BATCHED % "sequence" + "sequence_batching { }", "sequence"),
}
# Without a model's file.
ABSENT = {
    "ensemble": ('platform: "ensemble"\n', "ensemble"),
    "python": ('backend: "python"\n', "python"),
    "gone": (BATCHED % "gone" + TENSORS % "", "there is no such file"),
}


def save(path, factor):
    if "warm_words" in path:
        save_model(path, "words (string[batch,4] x) => (string[batch,4] y) { y = Identity (x) }")
    else:
        linear(path, factor)


def make(folder):
    for name, (versions, text) in (GOOD | WORDS).items():
        place = os.path.join(folder, name)
        for version in versions:
            save(os.path.join(place, str(version), {"named": "net.onnx", "inner": os.path.join(
                "model.onnx", "model.onnx")}.get(name, "model.onnx")), float(version))
        if text is not None:
            write(os.path.join(place, "config.pbtxt"), text)
    write(os.path.join(folder, "both", "1", "model.plan"), b"ftrt and no more")
    write(os.path.join(folder, "labelled", "labels.txt"), "cat\ndog\nowl\nfox\n")
    write(os.path.join(folder, "..", "labels.txt"), "outside\n")
    for name, rows in (("warm", 16), ("warm_size", 15), ("warm_words_file", 64)):
        write(os.path.join(folder, name, "warmup", "row"), b"\0" * rows)
    for name, (text, _) in (BAD | ABSENT).items():
        os.makedirs(os.path.join(folder, name, "1"), exist_ok=True)
        if name in BAD:
            save(os.path.join(folder, name, "1", "model.onnx"), 1.0)
        write(os.path.join(folder, name, "config.pbtxt"), text)


def test_versions(server):
    served = {"plain": [2], "all": [1, 2, 10], "latest": [2, 10], "specific": [1, 10],
              **{name: [1] for name, (versions, _) in GOOD.items() if versions == [1]}}
    for name, versions in served.items():
        for version in GOOD[name][0]:
            status, answer = server.infer(name, [[0, 1, 2, 3]], version=version)
            assert (status == 200) == (version in versions), (name, version, answer)
            if status == 200:
                assert answer["outputs"][0]["data"][1] == version, answer
        assert server.infer(name, [[0, 1, 2, 3]])[1]["model_version"] == str(max(versions))


def test_shapes(server):
    for name in ("all", "short", "labelled"):
        about = server.json("GET", f"/v2/models/{name}")[1]
        assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], about
        config = server.json("GET", f"/v2/models/{name}/config")[1]
        assert config["max_batch_size"] == 4, config
        assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}], config
        assert server.infer(name, [[1] * 4] * 4)[0] == 200
        status, answer = server.infer(name, [[1] * 4] * 5)
        assert status == 400 and "max_batch_size" in answer["error"], answer
    for name, policy in (("all", {"all": {}}), ("latest", {"latest": {"num_versions": 2}}),
                         ("specific", {"specific": {"versions": [1, 10, 77]}}),
                         ("plain", {"latest": {"num_versions": 1}})):
        assert server.json("GET", f"/v2/models/{name}/config")[1]["version_policy"] == policy
    assert server.json("GET", "/v2/models/unbatched/config")[1]["max_batch_size"] == 0
    config = server.json("GET", "/v2/models/labelled/config")[1]
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": 20000}, config
    assert config["instance_group"] == [{"name": "labelled", "kind": "KIND_CPU", "count": 2}]
    assert "dynamic_batching" not in server.json("GET", "/v2/models/all/config")[1]
    for path in ("all", "all/versions/2"):
        assert server.json("GET", f"/v2/models/{path}")[1]["versions"] == ["1", "2", "10"]
    assert server.infer("unbatched", [[1] * 4] * 9)[0] == 200


def test_labels(server):
    wish = [{"name": "y", "parameters": {"classification": 2}}]
    assert server.infer("labelled", [[0, 1, 2, 3]], outputs=wish)[1]["outputs"][0]["data"] == \
        ["3.000000:3:fox", "2.000000:2:owl"]


def test_batches(server):
    """With a delay, requests share runs; where none was asked for, each has its own."""
    for name, shares in (("labelled", True), ("all", False)):
        before = server.json("GET", f"/v2/models/{name}/stats")[1]["model_stats"][0]
        in_threads(16, lambda _, name=name: server.infer(name, [[1] * 4]))
        after = server.json("GET", f"/v2/models/{name}/stats")[1]["model_stats"][0]
        runs = after["execution_count"] - before["execution_count"]
        assert after["inference_count"] - before["inference_count"] == 16, (before, after)
        assert runs < 16 if shares else runs == 16, (name, runs)
        stats = after["inference_stats"]  # each has every request once
        assert len({stats[part]["count"] for part in (
            "success", "queue", "compute_input", "compute_infer", "compute_output")}) == 1, stats


def test_warm(server):
    """What warms a model up is no request of anybody's."""
    stats = server.json("GET", "/v2/models/warm/stats")[1]["model_stats"][0]
    assert stats["inference_count"] == stats["execution_count"] == 0, stats
    assert server.infer("warm_words", [list("abcd")], datatype="BYTES")[0] == 200
    assert not any("warmup" in line for line in server.said if line.startswith("kiln: warm,"))


def test_left_alone(server):
    """What is asked for and not done is told of; what is as it is anyway is not."""
    for words in ("preferred_batch_size", "preserve_ordering", "priority_queue_policy", "DELAY",
                  "graph { level }", "priority of optimization", "eager_batching", "passive",
                  "execution_accelerators", "optional"):
        assert sum(line.startswith("kiln: left, config.pbtxt: ") and words in line
                   for line in server.said) == 1, (words, server.said)
    assert not any("silent, config" in line for line in server.said), server.said


def test_refused(server):
    index = server.json("POST", "/v2/repository/index")[1]
    for name, (_, words) in (BAD | ABSENT).items():
        found = [entry for entry in index if entry["name"] == name]
        assert len(found) == 1 and found[0]["state"] == "UNAVAILABLE", (name, found)
        assert words in found[0]["reason"], (name, found)


def main():
    with scratch_for(KILN) as scratch:
        folder = os.path.join(scratch, "models")
        make(folder)
        with Server(KILN, [folder, "--lenient"]) as server:
            run_tests((test_warm, test_versions, test_shapes, test_labels, test_batches,
                       test_left_alone, test_refused), server)


main()
