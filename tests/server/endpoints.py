#!/usr/bin/env python3
"""The protocol, request by request, with Python's own HTTP client.

    tests/server/endpoints.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import contextlib
import http.client
import json
import os
import re
import signal
import shutil
import ssl
import sys
import tempfile
import threading
import time

import numpy

from serve_process import (TYPES, Server, binary_answer, binary_request, identities, linear,
                           make_certificate, skip_unless_built, slow)

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


def infer(server, model, document, version=None):
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
    return server.json("POST", path, document)


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
    status, found = infer(server, "linear", {
        "id": "ä \"quoted\"\n", "inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32",
                                            "data": [[1, 2, 3, 4], [5.5, -6, 7e2, 8]]}]})
    assert status == 200 and found == {
        "model_name": "linear", "model_version": "3", "id": "ä \"quoted\"\n",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 4],
                     "data": [3, 6, 9, 12, 16.5, -18, 2100, 24]}]}, found
    assert infer(server, "linear", {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
                                                "data": [1, 2, 3, 4]}]}, "3")[0] == 200
    # Members in another order, and some that nobody knows.
    status, found = infer(server, "linear", {
        "new": [{"a": [1, {"b": None}]}], "outputs": [{"name": "y"}],
        "inputs": [{"data": [0.1] * 4, "datatype": "FP32", "shape": [1, 4], "name": "x",
                    "parameters": {"some": 1}}]})
    assert status == 200 and numpy.allclose(found["outputs"][0]["data"], 0.3), found
    assert numpy.float32(found["outputs"][0]["data"][0]) == \
        numpy.float32(0.1) * numpy.float32(3), found


def test_types_json(server):
    given = {name: values(kind, 6) for name, _, kind in TYPES if name != "BF16"}
    given["BF16"] = numpy.array([-2.5, 3.0, 1.0, 0.0, 7.0, 100.0])
    status, found = infer(server, "types", {
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


BAD = [
    ("no JSON at all", 400, "JSON, byte 0"),
    ('{"inputs":[]}', 400, 'does not bring input "x"'),
    ('{"inputs":[{"name":"z","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}', 400,
     'no input "z"'),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"INT32","data":[1,2,3,4]}]}', 400,
     'needs FP32'),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"BYTES","data":["a"]}]}', 400, 'needs FP32'),
    ('{"inputs":[{"name":"x","shape":[1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}', 400, "1x5"),
    ('{"inputs":[{"name":"x","shape":[4],"datatype":"FP32","data":[1,2,3,4]}]}', 400, "4"),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3]}]}', 400,
     "3 elements"),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4,5]}]}', 400,
     "more than 4"),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,NaN]}]}', 400, "byte"),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,"4"]}]}', 400,
     "element 3"),
    ('{"inputs":[{"name":"x","shape":[-1,4],"datatype":"FP32","data":[]}]}', 400, "-1"),
    ('{"inputs":[{"name":"x","shape":[1e30,4],"datatype":"FP32","data":[]}]}', 400, "shape"),
    ('{"inputs":[{"name":"x","shape":[4611686018427387904,4],"datatype":"FP32","data":[]}]}', 400,
     "too large"),
    ('{"inputs":[{"name":"x","shape":[1000000000,4],"datatype":"FP32","data":[1]}]}', 400,
     "fewer"),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32"}]}', 400, "neither"),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}],"inputs":[]}', 400,
     "more than once"),
    ('{"inputs":[{"name":"x","name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}', 400,
     "more than once"),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}],'
     '"outputs":[{"name":"q"}]}', 400, 'no output "q"'),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32",'
     '"parameters":{"shared_memory_region":"r"}}]}', 400, "shared memory"),
    ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]} x', 400,
     "follows"),
    ("[" * 100000, 400, "object"),
    ('{"a":' + "[" * 100000, 400, "64 levels"),
    ('{"id":"\\ud800"}', 400, "escape"),
]


def test_refused(server):
    for body, expected, words in BAD:
        status, _, answer = server.request("POST", "/v2/models/linear/infer", body)
        sentence = json.loads(answer)["error"]
        assert status == expected and words in sentence, (body[:200], status, sentence)
    array = numpy.ones((1, 4), "<f4")
    body, headers = binary_request([("x", "FP32", array)])
    for changed, words in ((body + b"abcd", "belong to no input"), (body[:-1], "left of the body")):
        status, _, answer = server.request("POST", "/v2/models/linear/infer", changed, headers)
        assert status == 400 and words in json.loads(answer)["error"], answer
    for length in ("-1", "1e3", "", "99999", "0x10"):
        status, _, answer = server.request("POST", "/v2/models/linear/infer", body,
                                           {"Inference-Header-Content-Length": length})
        assert status == 400 and "Inference-Header" in json.loads(answer)["error"], answer
    flags = [("in_" + n, n, numpy.zeros((1, 3), k)) for n, _, k in TYPES]
    flags[4] = ("in_BOOL", "BOOL", numpy.full((1, 3), 2, "u1"))
    status, _, answer = server.request("POST", "/v2/models/types/infer", *binary_request(flags))
    assert status == 400 and "BOOL" in json.loads(answer)["error"], answer
    # What JSON cannot say is not said otherwise.
    body, headers = binary_request([("x", "FP32", numpy.full((1, 4), numpy.inf, "<f4"))], None, {})
    status, _, answer = server.request("POST", "/v2/models/linear/infer", body, headers)
    assert status == 500 and "infinite" in json.loads(answer)["error"], answer
    assert server.json("GET", "/v2/models/linear/infer")[0] == 405
    assert server.json("POST", "/v2/models/linear")[0] == 405
    assert server.json("GET", "/v2/nothing")[0] == 404
    assert server.json("POST", "/v2/models/other/infer", {})[0] == 404


def test_timeout(server):
    document = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}],
                "parameters": {"timeout": 1000}}
    found = []
    threads = [threading.Thread(target=lambda: found.append(infer(server, "slow", document)))
               for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = [answer for status, answer in found if status == 504]
    assert late and all("error" in answer for answer in late), found
    assert {status for status, _ in found} <= {200, 504}, found


def metric(server, name, model):
    _, _, text = server.request("GET", "/metrics")
    return int(re.search(rf'^{name}{{model="{model}",version="\d+"}} (\d+)$', text.decode(),
                         re.M).group(1))


def test_counted(server):
    document = {"inputs": [{"name": "x", "shape": [3, 4], "datatype": "FP32", "data": [1] * 12}]}
    names = ["nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count",
             "nv_inference_exec_count"]
    before = [metric(server, name, "linear") for name in names]
    for _ in range(5):
        assert infer(server, "linear", document)[0] == 200
    assert infer(server, "linear", {"inputs": []})[0] == 400
    after = [metric(server, name, "linear") for name in names]
    assert [b - a for a, b in zip(before, after)] == [5, 1, 15, 5], (before, after)
    for name in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        assert metric(server, f"nv_inference_{name}_duration_us", "linear") >= 0
    assert metric(server, "nv_inference_pending_request_count", "linear") == 0
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
            answers.append(infer(server, "linear", {
                "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1] * 4}]}))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    os.makedirs(os.path.join(folder, "linear", "10"))
    linear(os.path.join(folder, "linear", "10", "model.onnx"), 5.0)
    status, _ = server.json("POST", "/v2/repository/models/linear/load", {})
    time.sleep(0.1)
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
    with open(os.path.join(folder, "linear", "10", "model.onnx"), "wb") as file:
        file.write(b"broken")
    status, answer = server.json("POST", "/v2/repository/models/linear/load")
    assert status >= 400 and answer["error"], (status, answer)
    shutil.rmtree(os.path.join(folder, "linear", "10"))
    assert server.json("POST", "/v2/repository/models/linear/load")[0] == 200
    assert server.json("GET", "/v2/models/linear")[1]["versions"] == ["3"]
    assert server.json("POST", "/v2/repository/models/nothing/load")[0] == 404
    assert server.json("POST", "/v2/repository/models/linear/load",
                       {"parameters": {"config": "{}"}})[0] == 400


def test_stop(folder):
    """What is under way is answered before the server ends."""
    with Server(KILN, [folder]) as server:
        found = []
        document = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
        threads = [threading.Thread(target=lambda: found.append(infer(server, "slow", document)))
                   for _ in range(3)]
        for thread in threads:
            thread.start()
        while metric(server, "nv_inference_exec_count", "slow") == 0 and not found:
            time.sleep(0.01)
        assert server.stop() == 0
        for thread in threads:
            thread.join()
        assert [status for status, _ in found] == [200, 200, 200], found


def test_stop_twice(folder):
    """Who does not want to wait asks again."""
    path = os.path.join(folder, ".apart", "endless.onnx")  # where the other tests do not look
    os.mkdir(os.path.dirname(path))
    slow(path, 400, 1200)
    server = Server(KILN, [path, "--drain-time", "60"])
    document = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}

    def ask():
        with contextlib.suppress(OSError, http.client.HTTPException):
            infer(server, "endless", document)
    thread = threading.Thread(target=ask)
    thread.start()
    while "serve_requests 2" not in server.request("GET", "/metrics")[2].decode():
        time.sleep(0.01)
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):  # as one that is passed on twice
        server.process.send_signal(number)
    time.sleep(0.7)
    assert server.process.poll() is None
    assert server.stop(signal.SIGINT) == 1
    assert any("a second time" in line for line in server.said), server.said
    thread.join()


def test_arguments(folder):
    bad = Server(KILN, [os.path.join(folder, "nothing")])
    assert bad.process.returncode == 1 and "cannot be opened" in "".join(bad.said), bad.said
    broken = os.path.join(folder, "broken.onnx")
    with open(broken, "wb") as file:
        file.write(b"no model")
    both = [broken, os.path.join(folder, "types.onnx")]
    bad = Server(KILN, both)
    assert bad.process.returncode == 1 and "broken" in "".join(bad.said), bad.said
    with Server(KILN, both + ["--lenient", "--no-control"]) as server:
        assert server.json("GET", "/v2/models/types/ready")[0] == 200
        assert server.json("GET", "/v2/models/broken/ready")[0] == 503
        assert server.json("POST", "/v2/repository/models/types/unload")[0] == 403
        log = Server(KILN, [both[1], "--host", "127.0.0.1", "--access-log", "/nowhere/log"])
        assert log.process.returncode == 1 and "/nowhere/log" in "".join(log.said), log.said
    os.remove(broken)
    with Server(KILN, both[1:]) as server:
        for more, words in ((["--port", str(server.port)], "choose another port"),
                            (["--grpc-port", str(server.port)], "choose another port"),
                            (["--port", "999", "--grpc-port", "999"], "each needs its own")):
            taken = Server(KILN, [both[1], *more])
            assert taken.process.returncode in (1, 2) and words in "".join(taken.said), taken.said
    with Server(KILN, [both[1], "--host", "::1"]) as server:
        assert server.said[0].startswith("listening on http://[::1]:"), server.said


def test_full_disk(folder):
    """Lines that cannot be written are lost, which is said once, and counted."""
    log = os.path.join(folder, "log")
    os.symlink("/dev/full", log)
    with Server(KILN, [os.path.join(folder, "types.onnx"), "--access-log", log]) as server:
        for _ in range(3):
            assert server.request("GET", "/v2")[0] == 200
        os.remove(log)
        server.process.send_signal(signal.SIGHUP)
        while not os.path.exists(log):
            time.sleep(0.01)
        assert server.request("GET", "/v2/health/live")[0] == 200
    said = [line for line in server.said if "access log" in line]
    assert len(said) == 2 and "No space left" in said[0], said
    lost = int(re.search(r"(\d+) lines were lost", said[1]).group(1))
    with open(log, encoding="utf-8") as file:  # a line may come after its answer
        lines = file.readlines()
    assert lost + len(lines) == 4 and "/v2/health/live" in "".join(lines), (said, lines)


def test_tokens(folder):
    tokens = os.path.join(folder, "tokens.txt")
    log = os.path.join(folder, "access.txt")
    with open(tokens, "w", encoding="utf-8") as file:
        file.write("# who may\nfirst-token\n\nsecond\n")
    with Server(KILN, [folder, "--tokens", tokens, "--access-log", log]) as server:
        assert server.request("GET", "/v2/health/ready")[0] == 200
        assert server.request("GET", "/v2")[0] == 401
        assert server.request("GET", "/v2/nothing")[0] == 401
        for value, expected in (("Bearer second", 200), ("bearer first-token", 200),
                                ("Bearer secon", 401), ("Bearer seconds", 401), ("second", 401),
                                ("Bearer ", 401), ("Bearer # who may", 401)):
            status, headers, _ = server.request("GET", "/v2", None, {"Authorization": value})
            assert status == expected, (value, status)
            assert (status == 401) == ("WWW-Authenticate" in headers)
    with open(log, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert len(lines) == 10 and all(re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z 127\.0\.0\.1:\d+ "GET /v2\S*" \d{3} 0 \d+ \d+',
        line) for line in lines), lines
    assert "second" not in "".join(lines)


def test_tls(folder):
    made = make_certificate(folder)
    if made is None:
        print("   left out: openssl, which makes a certificate, is not here")
        return
    key, certificate = made
    pair = ["--tls-key", key, "--tls-certificate", certificate]
    with Server(KILN, [os.path.join(folder, "types.onnx"), *pair]) as server:
        assert server.tls, server.said
        given = [("in_" + name, name, numpy.zeros((4000, 3), kind)) for name, _, kind in TYPES]
        given[0][2][...] = numpy.arange(12000).reshape(4000, 3)
        body, headers = binary_request(given)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=60,
            context=ssl.create_default_context(cafile=certificate))
        for _ in range(3):
            connection.request("POST", "/v2/models/types/infer", body, headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
            assert status == 200, text[:300]
            found = binary_answer(answer.headers, text)[1]
            assert all(found["out_" + g[1]][1] == g[2].tobytes() for g in given)
        connection.close()
        # Plain HTTP gets nothing out of it.
        assert b"200" not in server.raw(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n", timeout=5)
    wrong = Server(KILN, [os.path.join(folder, "types.onnx"), "--tls-key", certificate,
                          "--tls-certificate", key])
    assert wrong.process.returncode == 1 and "PEM" in "".join(wrong.said), wrong.said
    alone = Server(KILN, [os.path.join(folder, "types.onnx"), *pair[:2]])
    assert alone.process.returncode == 2 and "belong together" in "".join(alone.said), alone.said


def main():
    skip_unless_built(KILN)
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "linear", "3"))
        os.makedirs(os.path.join(folder, "linear", "2"))
        linear(os.path.join(folder, "linear", "3", "model.onnx"), 3.0)
        linear(os.path.join(folder, "linear", "2", "model.onnx"), 2.0)
        identities(os.path.join(folder, "types.onnx"), ["batch", 3])
        os.makedirs(os.path.join(folder, "slow"))
        slow(os.path.join(folder, "slow", "model.onnx"), 40)
        with Server(KILN, [folder]) as server:
            for test in (test_server, test_model, test_json, test_types_json, test_types_binary,
                         test_large, test_classification, test_refused, test_timeout,
                         test_counted):
                test(server)
                print("ok", test.__name__, flush=True)
            test_control(server, folder)
        for test in (test_stop, test_stop_twice, test_arguments, test_full_disk, test_tokens,
                     test_tls):
            test(folder)
            print("ok", test.__name__, flush=True)


main()
