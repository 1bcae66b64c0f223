#!/usr/bin/env python3
"""KServe's own clients (PyPI kserve) of the protocol: REST as JSON and binary, gRPC raw and typed.

    tests/server/kserve_sdk.py KILN

Skipped where the package is not here.

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import os
import sys

import numpy

from serve_process import TYPES, Server, identities, linear, scratch_for

try:
    import httpx
    from kserve import (InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest,
                        RESTConfig)
except ImportError as error:
    print("skipped: no kserve here:", error)
    sys.exit(77)

KILN = os.path.abspath(sys.argv[1])
ROWS = numpy.arange(8, dtype="<f4").reshape(2, 4)


def request(model, name, kind, array, binary=True, **more):
    given = InferInput(name=name, shape=list(array.shape), datatype=kind)
    given.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[given], **more)


async def test_rest(client, base):
    assert await client.is_server_live(base) and await client.is_server_ready(base)
    assert await client.is_model_ready(base, "linear")

    async def ask(*arguments, binary=True):
        made = request(*arguments, binary=binary, parameters={"binary_data_output": binary})
        answer = await client.infer(base, made, model_name=made.model_name)
        return answer.outputs[0].as_numpy()
    for binary in (True, False):
        found = await ask("linear", "x", "FP32", ROWS, binary=binary)
        assert numpy.array_equal(found, ROWS * 2), found
    for name, _, kind in TYPES:
        if name != "BF16":  # which the SDK has no word for
            array = numpy.array([[0, 1, 1]]).astype(kind)
            found = await ask(name, "in_" + name, name, array)
            assert found.dtype == array.dtype and numpy.array_equal(found, array), (name, found)
    words = numpy.array([["a", "gr\u00fcn", ""]], object)
    assert (await ask("BYTES", "in_BYTES", "BYTES", words, binary=False)).tolist() == words.tolist()
    try:
        await ask("linear", "y", "FP32", ROWS)
        raise AssertionError("it was not refused")
    except httpx.HTTPStatusError as failure:
        assert 'no input "y"' in str(failure), failure


async def test_grpc(client):
    assert await client.is_server_live() and await client.is_server_ready()
    assert await client.is_model_ready("linear")
    typed = InferInput(name="x", shape=[2, 4], datatype="FP32", data=ROWS.ravel().tolist())
    for made in (request("linear", "x", "FP32", ROWS),
                 InferRequest(model_name="linear", infer_inputs=[typed])):
        found = (await client.infer(made)).outputs[0].as_numpy()
        assert numpy.array_equal(found, ROWS * 2), found


async def run(server):
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=1, timeout=30))
    rpc = InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}")
    await test_rest(rest, f"http://127.0.0.1:{server.port}")
    await test_grpc(rpc)
    await rest.close()
    await rpc.close()
    print("ok")


def main():
    with scratch_for(KILN) as folder:
        linear(os.path.join(folder, "linear.onnx"), 2.0)
        for kind in (*TYPES, ("BYTES", "STRING", "O")):
            identities(os.path.join(folder, kind[0] + ".onnx"), ["n", 3], [kind])
        with Server(KILN, [folder, "--grpc-port", "0"]) as server:
            asyncio.run(run(server))


main()
