#!/usr/bin/env python3
"""gRPC of the protocol: PyPI tritonclient[grpc], and what clients do that means no good.

    tests/server/rpc.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import concurrent.futures
import os
import random
import re
import socket
import struct
import sys
import threading
import time

import numpy

from http2 import PREFACE, SERVICE, STATUS, frame, head, message
from rpc_client import CODE, ask, grpc, refused, target, tensor, triton
from serve_process import (TYPES_AND_TEXT, Server, identities, in_threads, linear, run_tests, same,
                           sample, scratch_for, slow, until)

import tritonclient.grpc.aio as triton_aio  # after rpc_client, which looks whether it is here
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

KILN = os.path.abspath(sys.argv[1])


def raw_call(server, method, message, timeout=20):
    """(status code, sentence or answer), of bytes that need not be a message."""
    with grpc.insecure_channel(target(server)) as channel:
        try:
            return CODE.OK, channel.unary_unary(method)(message, timeout=timeout)
        except grpc.RpcError as failure:
            return failure.code(), failure.details()


def test_about(server, client, _):
    """Each answer is what HTTP has."""
    def same(message, path, method="GET", member=None):
        expected = server.json(method, path)[1]
        found = MessageToDict(message, preserving_proto_field_name=True)
        found = found[member] if member else found

        def plain(value):  # protobuf writes 64 bits as a string, and leaves out what is zero
            if isinstance(value, dict):
                kept = {key: plain(item) for key, item in value.items()}
                return {key: item for key, item in kept.items()
                        if item not in ("", [], {}, "0", "False")}
            if isinstance(value, list):
                return [plain(item) for item in value]
            return str(value)
        assert plain(found) == plain(expected), (found, expected)

    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("linear") and client.is_model_ready("linear", "1")
    assert not client.is_model_ready("nothing") and not client.is_model_ready("linear", "2")
    ask(client, [[1, 2, 3, 4]])
    same(client.get_server_metadata(), "/v2")
    same(client.get_model_metadata("types"), "/v2/models/types")
    same(client.get_model_metadata("linear", "1"), "/v2/models/linear/versions/1")
    same(client.get_model_config("types"), "/v2/models/types/config", member="config")
    same(client.get_inference_statistics("linear"), "/v2/models/linear/stats")
    same(client.get_inference_statistics(), "/v2/models/stats")
    same(client.get_model_repository_index(), "/v2/repository/index", "POST", "models")
    client.unload_model("linear")
    assert not client.is_model_ready("linear")
    client.load_model("linear")
    ask(client, [[1, 2, 3, 4]])
    health = "/grpc.health.v1.Health/Check"
    for name in (b"", b"inference.GRPCInferenceService", b"grpc.health.v1.Health"):
        assert raw_call(server, health, b"\x0a" + bytes([len(name)]) + name) == \
            (CODE.OK, b"\x08\x01")
    assert raw_call(server, health, b"") == (CODE.OK, b"\x08\x01")
    assert raw_call(server, health, b"\x0a\x01x") == (CODE.NOT_FOUND,
                                                    'there is no service "x"')


def test_types(_, client, stub):
    contents = {"BOOL": "bool_contents", "UINT64": "uint64_contents", "INT64": "int64_contents",
                "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}
    inputs, expected = [], {}
    request = messages.ModelInferRequest(model_name="types")
    for name, _, kind in TYPES_AND_TEXT:
        data = sample(name, kind)
        inputs.append(tensor("in_" + name, name, data))
        expected["out_" + name] = data
        given = request.inputs.add(name="in_" + name, datatype=name, shape=data.shape)
        field = contents.get(name, ("u" if name[0] == "U" else "") + "int_contents")
        values = data.astype("f8") if name in ("FP16", "BF16") else data
        if name == "BYTES":
            values = numpy.array([one.encode() for one in data.ravel()], object)
        getattr(given.contents, "fp32_contents" if name in ("FP16", "BF16") else field).extend(
            values.ravel().tolist())
    for result in (client.infer("types", inputs), triton.InferResult(stub.ModelInfer(request))):
        for name, data in expected.items():
            found = result.as_numpy(name)
            assert same(name, found, data), (name, found, data)
    some = client.infer("types", inputs, outputs=[triton.InferRequestedOutput("out_INT8")])
    assert [output.name for output in some.get_response().outputs] == ["out_INT8"]
    ranked = client.infer("types", inputs, outputs=[
        triton.InferRequestedOutput("out_FP32", class_count=2)]).as_numpy("out_FP32")
    assert ranked.tolist() == [[b"0.000000:2", b"-0.500000:1"],
                               [b"1.500000:2", b"1.000000:1"]], ranked


def test_sizes(_, client, __):
    for rows in (1, 3, 1000, 65536):
        ask(client, numpy.arange(rows * 4).reshape(rows, 4), request_id=str(rows))
    ask(client, numpy.arange(2000 * 1000).reshape(2000, 1000), "wide")  # more than a window
    odd = ask(client, [[1, 2, 3, 4]], request_id="näme \"x\"", priority=1, timeout=5000000)
    assert odd.get_response().id == "näme \"x\""
    assert odd.get_response().model_version == "1"


def test_errors(server, client, stub):
    """Sentences are those of HTTP."""
    def ends_with(code, words, **changed):
        request = messages.ModelInferRequest(model_name="linear")
        request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        request.raw_input_contents.append(b"0123456789abcdef")
        for key, value in changed.items():
            if key in ("name", "datatype"):
                setattr(request.inputs[0], key, value)
            elif key == "shape":
                request.inputs[0].shape[:] = value
            elif key == "raw":
                request.raw_input_contents[:] = value
            elif key == "contents":
                request.inputs[0].contents.fp32_contents.extend(value)
            elif key == "parameters":
                request.parameters[value].int64_param = 1
            elif key == "output":
                request.outputs.add(name=value)
            else:
                setattr(request, key, value)
        try:
            stub.ModelInfer(request, timeout=20)
        except grpc.RpcError as failure:
            assert failure.code() == code and re.search(words, failure.details()), failure
        else:
            raise AssertionError(f"{words}: it was not refused")

    ends_with(CODE.NOT_FOUND, 'there is no model "nothing"', model_name="nothing")
    ends_with(CODE.NOT_FOUND, "version", model_version="9")
    ends_with(CODE.NOT_FOUND, "name", model_name="n" * 300)
    ends_with(CODE.INVALID_ARGUMENT, "names no model", model_name="")
    ends_with(CODE.INVALID_ARGUMENT, 'no input "z"', name="z")
    ends_with(CODE.INVALID_ARGUMENT, 'no output "z"', output="z")
    ends_with(CODE.INVALID_ARGUMENT, "needs FP32", datatype="INT32")
    ends_with(CODE.INVALID_ARGUMENT, "the model needs", shape=[1, 5])
    ends_with(CODE.INVALID_ARGUMENT, "-1", shape=[-1, 4])
    ends_with(CODE.INVALID_ARGUMENT, "too large|take", shape=[1 << 62, 4])
    ends_with(CODE.INVALID_ARGUMENT, "raw contents is 8, .* take 16", raw=[b"01234567"])
    ends_with(CODE.INVALID_ARGUMENT, "2 raw contents are given for 1", raw=[b"0" * 16] * 2)
    ends_with(CODE.INVALID_ARGUMENT, "both contents and raw", contents=[1, 2, 3, 4])
    ends_with(CODE.INVALID_ARGUMENT, "neither", raw=[])
    ends_with(CODE.INVALID_ARGUMENT, "3 elements", raw=[], contents=[1, 2, 3])
    ends_with(CODE.INVALID_ARGUMENT, "sequence", parameters="sequence_id")
    code, words = raw_call(server, SERVICE + "RepositoryModelLoad", b"\x12\x07nothing")
    assert code == CODE.NOT_FOUND, words
    for method, words in (("Nothing", "Nothing"), ("TraceSetting", "no trace"),
                          ("CudaSharedMemoryRegister", "GPU")):
        found = raw_call(server, SERVICE + method, b"\x0a\x01s")
        assert found[0] == CODE.UNIMPLEMENTED and words in found[1], found
    ask(client, [[1, 2, 3, 4]])


def test_compressed(server, *_):
    with triton.InferenceServerClient(target(server)) as client:
        for way in ("gzip", "deflate"):
            for rows in (1, 1000, 65536):
                ask(client, numpy.ones((rows, 4)), compression_algorithm=way)


def test_many(server, *_):
    """64 connections, and many calls at once on one."""
    def one(number):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with triton.InferenceServerClient(target(server), channel_args=options) as client:
            for k in range(30):
                ask(client, numpy.full((1 + k % 3, 4), number * 100 + k))
    in_threads(64, one)

    async def at_once():
        async with triton_aio.InferenceServerClient(target(server)) as client:
            async def call(number):
                data = numpy.full((1, 4), number, "f4")
                result = await client.infer("linear", [tensor("x", "FP32", data)])
                assert numpy.array_equal(result.as_numpy("y"), data * 2)
            await asyncio.gather(*map(call, range(500)))
    asyncio.run(at_once())


def test_stream(server, *_):
    """Each request of a stream is answered, in order, whether it fails or not."""
    found, done = [], threading.Event()

    def told(result, error):
        found.append(str(error) if error else result.get_response())
        if len(found) == 200:
            done.set()
    with triton.InferenceServerClient(target(server)) as client:
        client.start_stream(told)
        for number in range(200):
            data = numpy.full((1 + number % 2 * 30000, 4), number, "f4")
            client.async_stream_infer("linear" if number % 10 else "nothing",
                                      [tensor("x", "FP32", data)], request_id=str(number))
        assert done.wait(60), len(found)
        client.stop_stream()
    for number, answer in enumerate(found):
        if number % 10:
            assert answer.id == str(number), (number, answer)
            assert answer.parameters["triton_final_response"].bool_param, answer
            assert struct.unpack("<f", answer.raw_output_contents[0][:4]) == (number * 2,)
        else:
            assert "there is no model" in answer, answer


def test_time(server, client, _):
    """A deadline ends the run; so does a client that cancels; others never notice."""
    x = tensor("x", "FP32", numpy.ones(1, "f4"))
    refused("Deadline", lambda: client.infer("slow", [x], client_timeout=0.3))
    done = threading.Event()
    call = client.async_infer("slow", [x], lambda result, error: done.set())
    time.sleep(0.2)
    call.cancel()
    ask(client, [[1, 2, 3, 4]])
    assert done.wait(20)
    code, words = raw_call(server, SERVICE + "ModelInfer", messages.ModelInferRequest(
        model_name="slow", inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}],
        raw_input_contents=[b"\0\0\x80?"]).SerializeToString(), timeout=0.2)
    assert code == CODE.DEADLINE_EXCEEDED, (code, words)
    until(lambda: server.metric("serve_requests") == 1 and
          server.metric("serve_body_bytes") == 0, "something is still under way", 30)


# --- HTTP/2 by hand ---

def exchange(server, *parts, timeout=60, wait=True):
    """What comes back until the server closes, or a frame that ends stream 1 does."""
    found = b""
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=timeout) as link:
        try:
            for part in parts:
                link.sendall(part)
            while wait:
                piece = link.recv(65536)
                found += piece
                if not piece or STATUS in found[:-2]:
                    break
        except OSError:
            pass
    return found


def test_hostile(server, client, _):
    hello = PREFACE + frame(4, 0, 0)
    good = messages.ModelInferRequest(
        model_name="linear", inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 4]}],
        raw_input_contents=[b"0123456789abcdef"]).SerializeToString()

    def status(*parts):
        found = exchange(server, hello, *parts)
        at = found.find(STATUS) + len(STATUS)
        assert at >= len(STATUS), found
        return int(found[at + 1:at + 1 + found[at]])
    assert status(head(1), frame(0, 1, 1, message(good))) == 0
    assert status(head(1), *(frame(0, 0, 1, message(good)[i:i + 1]) for i in range(9)),
                  frame(0, 1, 1, message(good)[9:])) == 0
    assert status(head(1), frame(0, 1, 1, message(good, compressed=1))) == 13
    assert status(head(1), frame(0, 1, 1, message(good, compressed=7))) == 13
    assert status(head(1), frame(0, 1, 1, message(good, size=len(good) + 1))) == 3
    assert status(head(1), frame(0, 1, 1, message(good, size=len(good) - 1))) in (0, 3)
    assert status(head(1), frame(0, 1, 1, message(good)[:3])) == 3
    assert status(head(1), frame(0, 0, 1, message(b"", size=0xffffffff))) == 8
    assert status(head(1, end=True)) == 3
    assert status(head(1, "Nothing", end=True)) == 12
    assert status(head(1, content="application/json", end=True)) == 12
    assert status(head(1, method="GET", end=True)) == 12
    assert status(head(1, more=[("grpc-timeout", "1n")]), frame(0, 1, 1, message(good))) == 4
    odds = (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\0" * 100, PREFACE + b"\xff" * 100,
                hello + frame(1, 4, 1, b"\xff" * 50), hello + frame(0, 1, 2, b"x"),
                hello + frame(4, 0, 0, b"123"), hello + frame(8, 0, 0, b"\0" * 4),
                hello + frame(9, 4, 1, b"x"), hello + head(2))
    with concurrent.futures.ThreadPoolExecutor(len(odds)) as pool:
        list(pool.map(lambda odd: exchange(server, odd, timeout=1), odds))
    # Streams that are opened and taken back, heads that end nothing, settings and pings: floods.
    exchange(server, hello, *(head(i) + frame(3, 0, i, b"\0\0\0\x08") for i in range(1, 4001, 2)),
             wait=False)
    exchange(server, hello, *(head(i) for i in range(1, 4001, 2)), wait=False)
    exchange(server, hello, frame(4, 0, 0) * 5000, frame(6, 0, 0, b"12345678") * 5000, wait=False)
    exchange(server, hello, head(1, "ModelStreamInfer"), frame(0, 0, 1, message(good)) * 200,
             wait=False)  # whose answers nobody reads
    chance = random.Random(1)
    with grpc.insecure_channel(target(server)) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        for _ in range(300):
            broken = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            try:
                call(bytes(broken), timeout=20)
            except grpc.RpcError as failure:
                assert failure.code() in (CODE.INVALID_ARGUMENT, CODE.NOT_FOUND), failure
    ask(client, [[1, 2, 3, 4]])


def main():
    with scratch_for(KILN) as folder:
        models = os.path.join(folder, "m")
        linear(os.path.join(models, "linear.onnx"), 2.0)
        linear(os.path.join(models, "wide.onnx"), 2.0, 1000)
        identities(os.path.join(models, "types.onnx"), ["n", 3], TYPES_AND_TEXT)
        slow(os.path.join(models, "slow.onnx"), 150, 1200)
        with Server(KILN, [models, "--grpc-port", "0", "--threads", "2"]) as server, \
                triton.InferenceServerClient(target(server)) as client, \
                grpc.insecure_channel(target(server)) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            run_tests((test_about, test_types, test_sizes, test_errors, test_compressed, test_many,
                       test_stream, test_hostile, test_time), server, client, stub)


main()
