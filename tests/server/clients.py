#!/usr/bin/env python3
"""Clients that others wrote: PyPI tritonclient, its HTTP client and its client for asyncio.

    tests/server/clients.py KILN MODELS

MODELS is the folder of the magika and rapidocr models; where they are not there, what needs them is
left out, and where tritonclient is not, all is.

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import os
import subprocess
import sys
import tempfile

import numpy

import serve_process
from serve_process import TYPES_AND_TEXT, Server, identities, linear, same, sample, scratch_for

try:
    import tritonclient.http as triton
    import tritonclient.http.aio as triton_aio
    from tritonclient.utils import InferenceServerException
except ImportError as error:
    print("skipped: no tritonclient[http] here:", error)
    sys.exit(77)

KILN, MODELS = (os.path.abspath(path) for path in sys.argv[1:3])


def type_inputs(module, binary):
    inputs, expected = [], {}
    for name, _, kind in TYPES_AND_TEXT:
        data = sample(name, kind)
        tensor = module.InferInput("in_" + name, list(data.shape), name)
        # The client writes no JSON for these two.
        tensor.set_data_from_numpy(data, binary_data=binary or name in ("FP16", "BF16"))
        inputs.append(tensor)
        expected["out_" + name] = data
    return inputs, expected


def check_types(result, expected):
    for name, data in expected.items():
        found = result.as_numpy(name)
        assert same(name, found, data), (name, found, data)


def refused(words, function, *arguments, **options):
    serve_process.refused(InferenceServerException, words, lambda: function(*arguments, **options))


def test_about(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("linear") and client.is_model_ready("linear", "1")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "kiln"
    about = client.get_model_metadata("linear")
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], about
    assert client.get_model_config("linear")["max_batch_size"] == 0
    names = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert names["linear"] == "READY" and names["types"] == "READY", names
    client.unload_model("linear")
    assert not client.is_model_ready("linear")
    refused("not ready", client.get_model_metadata, "linear")
    client.load_model("linear")
    assert client.is_model_ready("linear")
    refused("[404]", client.load_model, "../../etc/passwd")


def test_sync(client):
    for binary in (True, False):
        inputs, expected = type_inputs(triton, binary)
        check_types(client.infer("types", inputs), expected)
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in expected]
        result = client.infer("types", inputs, outputs=outputs, request_id="r-1", priority=1,
                              timeout=30000000)
        check_types(result, expected)
        assert result.get_response()["id"] == "r-1"
    x = triton.InferInput("x", [2, 4], "FP32")
    scores = numpy.array([[1, 4, 2, 3], [9, 8, 7, 6]], numpy.float32)
    x.set_data_from_numpy(scores)
    for binary in (True, False):
        wish = triton.InferRequestedOutput("y", binary_data=binary, class_count=2)
        found = client.infer("linear", [x], outputs=[wish]).as_numpy("y")
        assert [value if isinstance(value, str) else value.decode() for value in found.ravel()] == \
            ["12.000000:1", "9.000000:3", "27.000000:0", "24.000000:1"], found
    words = triton.InferInput("x", [1, 4], "BYTES")
    words.set_data_from_numpy(numpy.array([[b"a", b"b", b"c", b"d"]], object))
    refused("needs FP32", client.infer, "linear", [words])
    for way in ("gzip", "deflate"):
        packed = client.infer("linear", [x], request_compression_algorithm=way,
                              response_compression_algorithm=way)  # which need not be kept to
        assert numpy.array_equal(packed.as_numpy("y"), scores * 3)
    pending = [client.async_infer("linear", [x]) for _ in range(32)]
    for one in pending:
        assert numpy.array_equal(one.get_result().as_numpy("y"), scores * 3)
    stats = client.get_inference_statistics("linear")["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] >= 34, stats


async def test_async(address):
    client = triton_aio.InferenceServerClient(address)
    try:
        assert await client.is_server_ready()

        async def one(binary):
            inputs, expected = type_inputs(triton_aio, binary)
            check_types(await client.infer("types", inputs), expected)

        await asyncio.gather(*[one(i % 2 == 0) for i in range(24)])
        try:
            await client.infer("nothing", [])
        except InferenceServerException as error:
            assert "there is no model" in str(error), error
        else:
            raise AssertionError("a model that is not there was run")
    finally:
        await client.close()


def same_as_run(client, name, path, feed):
    """What the server says is what `kiln run` says."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for key, array in feed.items():
            numpy.save(os.path.join(folder, key + ".npy"), array)
            arguments += ["-i", f"{key}={os.path.join(folder, key + '.npy')}"]
        done = subprocess.run([KILN, "run", path, *arguments, "-o", folder], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr
        about = client.get_model_metadata(name)
        inputs = []
        for entry in about["inputs"]:
            array = feed[entry["name"]]
            inputs.append(triton.InferInput(entry["name"], list(array.shape), entry["datatype"]))
            inputs[-1].set_data_from_numpy(array)
        for binary in (True, False):
            wishes = [triton.InferRequestedOutput(entry["name"], binary_data=binary)
                      for entry in about["outputs"]]
            result = client.infer(name, inputs, outputs=wishes)
            for entry in about["outputs"]:
                file = entry["name"].replace("/", "%2F") + ".npy"
                expected = numpy.load(os.path.join(folder, file))
                found = result.as_numpy(entry["name"])
                assert numpy.allclose(found, expected, rtol=1e-5, atol=1e-6), (found, expected)


def test_models():
    magika = os.path.join(MODELS, "magika", "model.onnx")
    cls = os.path.join(MODELS, "rapidocr", "cls.onnx")
    if not os.path.exists(magika) or not os.path.exists(cls):
        print("left out: magika and rapidocr are not in", MODELS)
        return
    random = numpy.random.default_rng(1)
    with Server(KILN, [os.path.dirname(magika), cls]) as server:
        client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
        for rows in (1, 3):
            same_as_run(client, "magika", magika,
                        {"bytes": random.integers(0, 256, (rows, 2048)).astype(numpy.int32)})
            same_as_run(client, "cls", cls,
                        {"x": random.normal(size=(rows, 3, 48, 192)).astype(numpy.float32)})
        client.close()


def main():
    with scratch_for(KILN) as folder:
        linear(os.path.join(folder, "linear.onnx"), 3.0)
        identities(os.path.join(folder, "types.onnx"), ["batch", 3], TYPES_AND_TEXT)
        with Server(KILN, [folder]) as server:
            address = f"127.0.0.1:{server.port}"
            client = triton.InferenceServerClient(address, concurrency=8)
            test_about(client)
            test_sync(client)
            client.close()
            asyncio.run(test_async(address))
    test_models()
    print("ok")


main()
