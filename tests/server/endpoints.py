#!/usr/bin/env python3
"""The protocol, request by request, with Python's own HTTP client.

    tests/server/endpoints.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import shutil
import sys
import threading

import numpy

from serve_process import (TYPES, Server, binary_answer, binary_request, identities, in_threads,
                           linear, run_tests, scratch_for, slow, until, write)

KILN = os.path.abspath(sys.argv[1])


def values(numpy_type, count):
    """Numbers that the type holds exactly, its ends among them."""
    kind = numpy.dtype(numpy_type)
    if kind.kind == "b":
        return numpy.arange(count) % 2 == 1
    if kind.kind == "f":
        return numpy.array([(-1) ** i * (0.5 + i) for i in range(count)], kind)
    ends = numpy.iinfo(kind)
    return numpy.array([ends.min, ends.max, 1, 0, 7, 100][:count], kind)


def test_server(server):
    assert server.json("GET", "/v2/health/live") == (200, {"live": True})
    assert server.json("GET", "/v2/health/ready") == (200, {"ready": True})
    status, about = server.json("GET", "/v2")
    assert status == 200 and about["name"] == "kiln" and about["version"], about
    assert "binary_tensor_data" in about["extensions"], about
    status, headers, page = server.request("GET", "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html"), headers
    assert b"linear" in page and b"READY" in page, page
    assert server.request("HEAD", "/v2/health/live")[0] == 200


def test_model(server):
    status, about = server.json("GET", "/v2/models/linear")
    assert status == 200 and about == {
        "name": "linear", "versions": ["3"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]}, about
    assert server.json("GET", "/v2/models/linear/versions/3")[1] == about
    assert server.json("GET", "/v2/models/linear/ready") == \
        (200, {"name": "linear", "ready": True})
    assert server.json("GET", "/v2/models/linear/versions/2/ready")[0] == 404
    status, config = server.json("GET", "/v2/models/linear/config")
    assert status == 200 and config["input"] == \
        [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]}], config
    assert server.json("GET", "/v2/models/other")[0] == 404
    status, index = server.json("POST", "/v2/repository/index", {})
    assert ({entry["name"] for entry in index}, status) == \
        ({"linear", "types", "slow"}, 200), index


def test_json(server):
    status, found = server.infer("linear", [[1, 2, 3, 4], [5.5, -6, 7e2, 8]], id="ä \"quoted\"\n")
    assert status == 200 and found == {
        "model_name": "linear", "model_version": "3", "id": "ä \"quoted\"\n",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 4],
                     "data": [3, 6, 9, 12, 16.5, -18, 2100, 24]}]}, found
    # Lists in lists, members in another order, and some that nobody knows.
    status, found = server.json("POST", "/v2/models/linear/versions/3/infer", {
        "new": [{"a": [1, {"b": None}]}], "outputs": [{"name": "y"}],
        "inputs": [{"data": [[0.1] * 4, [1] * 4], "datatype": "FP32", "shape": [2, 4], "name": "x",
                    "parameters": {"some": 1}}]})
    found = found["outputs"][0]["data"]
    assert status == 200 and numpy.allclose(found, [0.3] * 4 + [3] * 4), found
    assert numpy.float32(found[0]) == numpy.float32(0.1) * numpy.float32(3), found


def test_types_json(server):
    given = {name: values(kind, 6) for name, _, kind in TYPES if name != "BF16"}
    given["BF16"] = numpy.array([-2.5, 3.0, 1.0, 0.0, 7.0, 100.0])
    status, found = server.json("POST", "/v2/models/types/infer", {
        "inputs": [{"name": "in_" + name, "datatype": name, "shape": [2, 3],
                    "data": array.tolist()} for name, array in given.items()]})
    assert status == 200, found
    for output in found["outputs"]:
        name = output["datatype"]
        assert output["name"] == "out_" + name and output["shape"] == [2, 3], output
        assert output["data"] == given[name].tolist(), (output, given[name])


def test_types_binary(server):
    given = [("in_" + name, name, values(kind, 6).reshape(2, 3)) for name, _, kind in TYPES]
    body, headers = binary_request(given)
    for _ in range(3):
        status, headers_back, answer = server.request("POST", "/v2/models/types/infer", body,
                                                      headers)
        assert status == 200, answer
        _, found = binary_answer(headers_back, answer)
        assert len(found) == len(TYPES)
        for name, datatype, array in given:
            output, data = found["out_" + name[3:]]
            assert (output["datatype"], data) == (datatype, array.tobytes()), (name, output)
    # Mixed: inputs in JSON between binary ones, one output in JSON, one binary, no others.
    head = {"inputs": [], "outputs": [{"name": "out_INT64"},
                                      {"name": "out_FP64", "parameters": {"binary_data": True}}]}
    data = b""
    for i, (name, datatype, array) in enumerate(given):
        entry = {"name": name, "datatype": datatype, "shape": [2, 3]}
        if i % 2 == 0 and datatype != "BF16":
            entry["data"] = array.tolist()
        else:
            entry["parameters"] = {"binary_data_size": array.nbytes}
            data += array.tobytes()
        head["inputs"].append(entry)
    text = json.dumps(head).encode()
    status, headers_back, answer = server.request(
        "POST", "/v2/models/types/infer", text + data,
        {"Inference-Header-Content-Length": str(len(text))})
    assert status == 200, answer
    head = json.loads(answer[:int(headers_back["Inference-Header-Content-Length"])])
    assert [output["name"] for output in head["outputs"]] == ["out_INT64", "out_FP64"], head
    assert head["outputs"][0]["data"] == values("<i8", 6).tolist()
    assert answer.endswith(values("<f8", 6).tobytes())


def test_large(server):
    """Past what is sent in one piece, and past the memory of a connection; outputs that follow each
    other where they are sent from, and others that cannot, or come in another order."""
    array = numpy.arange(128, dtype="<f4").reshape(32, 4)
    body, headers = binary_request([("x", "FP32", array)])
    status, back, answer = server.request("POST", "/v2/models/linear/infer", body, headers)
    assert status == 200 and binary_answer(back, answer)[1]["y"][1] == (array * 3).tobytes(), \
        answer[:200]
    for rows in (16384, 1001, 2048, 1):
        given = [("in_" + name, name, numpy.full((rows, 3), 1, kind)) for name, _, kind in TYPES]
        given[0][2][...] = numpy.arange(rows * 3).reshape(rows, 3)
        names = ["out_" + g[1] for g in given]
        for asked in (None, names[:1], names[:4], names[::-1], names[2:3]):
            body, headers = binary_request(given, asked and [{"name": name} for name in asked])
            for _ in range(3):
                status, back, answer = server.request("POST", "/v2/models/types/infer", body,
                                                      headers)
                assert status == 200, answer[:300]
                found = binary_answer(back, answer)[1]
                assert list(found) == (asked or names), (rows, asked, list(found))
                assert all(found["out_" + g[1]][1] == g[2].tobytes() for g in given
                           if "out_" + g[1] in found), (rows, asked)


def test_classification(server):
    array = numpy.array([[0.1, 0.7, 0.2, -1], [4, 3, 2, 9]], "<f4")
    for binary in (True, False):
        wish = [{"name": "y", "parameters": {"classification": 2, "binary_data": binary}}]
        body, headers = binary_request([("x", "FP32", array)], wish, {})
        status, back, answer = server.request("POST", "/v2/models/linear/infer", body, headers)
        assert status == 200, answer
        expected = ["2.100000:1", "0.600000:2", "27.000000:3", "12.000000:0"]
        if not binary:
            output = json.loads(answer)["outputs"][0]
            assert output == {"name": "y", "datatype": "BYTES", "shape": [2, 2],
                              "data": expected}, output
            continue
        output, data = binary_answer(back, answer)[1]["y"]
        assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2]), output
        assert data == b"".join(len(e).to_bytes(4, "little") + e.encode() for e in expected), data


def text_of(more="", after="", **members):
    """A request as text, in which members are other than they should be."""
    given = {"name": '"x"', "shape": "[1,4]", "datatype": '"FP32"', "data": "[1,2,3,4]", **members}
    return '{"inputs":[{' + ",".join(f'"{key}":{value}' for key, value in given.items() if value) \
        + more + "}]" + after


BAD = [
    ("no JSON at all", "JSON, byte 0"),
    ('{"inputs":[]}', 'does not bring input "x"'),
    (text_of(name='"z"') + "}", 'no input "z"'),
    (text_of(datatype='"INT32"') + "}", "needs FP32"),
    (text_of(datatype='"BYTES"', data='["a"]') + "}", "needs FP32"),
    (text_of(shape="[1,5]", data="[1,2,3,4,5]") + "}", "1x5"),
    (text_of(shape="[4]") + "}", "4"),
    (text_of(data="[1,2,3]") + "}", "3 elements"),
    (text_of(data="[1,2,3,4,5]") + "}", "more than 4"),
    (text_of(data="[1,2,3,NaN]") + "}", "byte"),
    (text_of(data='[1,2,3,"4"]') + "}", "element 3"),
    (text_of(shape="[-1,4]", data="[]") + "}", "-1"),
    (text_of(shape="[1e30,4]", data="[]") + "}", "shape"),
    (text_of(shape="[4611686018427387904,4]", data="[]") + "}", "too large"),
    (text_of(shape="[1000000000,4]", data="[1]") + "}", "fewer"),
    (text_of(data="") + "}", "neither"),
    (text_of(after=',"inputs":[]}'), "more than once"),
    (text_of(more=',"name":"x"') + "}", "more than once"),
    (text_of(after=',"outputs":[{"name":"q"}]}'), 'no output "q"'),
    (text_of(data="", more=',"parameters":{"shared_memory_region":"r"}') + "}", "shared memory"),
    (text_of() + "} x", "follows"),
    ("[" * 100000, "object"),
    ('{"a":' + "[" * 100000, "64 levels"),
    ('{"id":"\\ud800"}', "escape"),
]


def test_refused(server):
    def refused(words, body, headers=None, model="linear", expected=400):
        status, _, answer = server.request("POST", f"/v2/models/{model}/infer", body, headers)
        sentence = json.loads(answer)["error"]
        assert status == expected and words in sentence, (body[:200], status, sentence)

    for body, words in BAD:
        refused(words, body)
    body, headers = binary_request([("x", "FP32", numpy.ones((1, 4), "<f4"))])
    refused("belong to no input", body + b"abcd", headers)
    refused("left of the body", body[:-1], headers)
    for length in ("-1", "1e3", "", "99999", "0x10"):
        refused("Inference-Header", body, {"Inference-Header-Content-Length": length})
    flags = [("in_" + n, n, numpy.zeros((1, 3), k)) for n, _, k in TYPES]
    flags[4] = ("in_BOOL", "BOOL", numpy.full((1, 3), 2, "u1"))
    refused("BOOL", *binary_request(flags), model="types")
    # What JSON cannot say is not said otherwise.
    refused("infinite", *binary_request([("x", "FP32", numpy.full((1, 4), numpy.inf, "<f4"))],
                                        None, {}), expected=500)
    for method, path, allowed in (("GET", "/v2/models/linear/infer", "POST"),
                                  ("OPTIONS", "/v2/models/linear/infer", "POST"),
                                  ("POST", "/v2/models/linear", "GET, HEAD"),
                                  ("DELETE", "/v2/cudasharedmemory/status", "GET, HEAD")):
        status, headers, answer = server.request(method, path)
        assert (status, headers["Allow"]) == (405, allowed), (method, path, headers)
        assert json.loads(answer)["error"] == "this path takes " + allowed, answer
    for target in ("http://a/v2", "HTTP://a:80/v2", "https://b/v2"):  # as to a proxy
        answer = server.raw(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                            .encode())
        assert b" 200 OK" in answer[:20] and b"binary_tensor_data" in answer, answer
    assert b" 200 " in server.raw(b"GET http://a HTTP/1.0\r\n\r\n")[:20]
    assert server.json("POST", "/v2/models/linear")[0] == 405
    assert server.json("GET", "/v2/nothing")[0] == 404
    assert server.json("POST", "/v2/models/other/infer", {})[0] == 404


def test_timeout(server):
    found = in_threads(6, lambda _: server.infer("slow", [1], parameters={"timeout": 1000}))
    late = [answer for status, answer in found if status == 504]
    assert late and all("error" in answer for answer in late), found
    assert {status for status, _ in found} <= {200, 504}, found


def test_counted(server):
    names = ["nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count",
             "nv_inference_exec_count"]
    before = [server.metric(name, "linear") for name in names]
    for _ in range(5):
        assert server.infer("linear", [[1] * 4] * 3)[0] == 200
    assert server.json("POST", "/v2/models/linear/infer", {"inputs": []})[0] == 400
    after = [server.metric(name, "linear") for name in names]
    assert [b - a for a, b in zip(before, after)] == [5, 1, 15, 5], (before, after)
    for name in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        assert server.metric(f"nv_inference_{name}_duration_us", "linear") >= 0
    assert server.metric("nv_inference_pending_request_count", "linear") == 0
    status, found = server.json("GET", "/v2/models/linear/stats")
    stats = found["model_stats"][0]
    assert status == 200 and stats["inference_count"] == after[2], stats
    assert stats["inference_stats"]["success"]["count"] == after[0], stats
    assert len(server.json("GET", "/v2/models/stats")[1]["model_stats"]) == 3


def test_control(server, folder):
    answers = []
    go_on = threading.Event()

    def ask():
        while not go_on.is_set():
            answers.append(server.infer("linear", [[1] * 4]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: answers, "nothing is answered")
    newest = os.path.join(folder, "linear", "10", "model.onnx")
    linear(newest, 5.0)
    status, _ = server.json("POST", "/v2/repository/models/linear/load", {})
    until(lambda: answers[-1][1]["outputs"][0]["data"][0] == 5.0, "the new one never answers")
    go_on.set()
    for thread in threads:
        thread.join()
    assert status == 200 and all(status == 200 for status, _ in answers), answers[:3]
    assert {answer["outputs"][0]["data"][0] for _, answer in answers} == {3.0, 5.0}
    assert server.json("GET", "/v2/models/linear")[1]["versions"] == ["10"]
    assert server.json("GET", "/v2/models/linear/versions/3/ready")[0] == 503
    assert server.json("POST", "/v2/repository/models/linear/unload")[0] == 200
    status, answer = server.json("GET", "/v2/models/linear/ready")
    assert status == 503 and "unloaded" in answer["error"], answer
    write(newest, "broken")
    status, answer = server.json("POST", "/v2/repository/models/linear/load")
    assert status >= 400 and answer["error"], (status, answer)
    shutil.rmtree(os.path.dirname(newest))
    assert server.json("POST", "/v2/repository/models/linear/load")[0] == 200
    assert server.json("GET", "/v2/models/linear")[1]["versions"] == ["3"]
    assert server.json("POST", "/v2/repository/models/nothing/load")[0] == 404
    assert server.json("POST", "/v2/repository/models/linear/load",
                       {"parameters": {"config": "{}"}})[0] == 400


def main():
    with scratch_for(KILN) as folder:
        for version in (2, 3):
            linear(os.path.join(folder, "linear", str(version), "model.onnx"), float(version))
        identities(os.path.join(folder, "types.onnx"), ["batch", 3])
        slow(os.path.join(folder, "slow", "model.onnx"), 40)
        with Server(KILN, [folder]) as server:
            run_tests((test_server, test_model, test_json, test_types_json, test_types_binary,
                       test_large, test_classification, test_refused, test_timeout, test_counted),
                      server)
            run_tests((test_control,), server, folder)


main()
