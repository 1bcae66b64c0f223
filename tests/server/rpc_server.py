#!/usr/bin/env python3
"""gRPC of servers of their own: tokens and limits, texts of language models, a stop.

    tests/server/rpc_server.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import os
import random
import signal
import struct
import sys
import threading
import time

import numpy

import serve_process
from rpc_client import ask, grpc, refused, target, tensor, triton
from serve_process import (Server, continued, in_threads, language, linear, run_tests, scratch_for,
                           slow, until, write)

try:
    from grpc_health.v1 import health_pb2 as health, health_pb2_grpc as health_rpc
except ImportError:
    health = None  # its bytes are looked at all the same

KILN = os.path.abspath(sys.argv[1])


def test_limits(folder):
    tokens = os.path.join(folder, "tokens")
    write(tokens, "secret\n")
    with Server(KILN, [os.path.join(folder, "m"), "--grpc-port", "0", "--tokens", tokens,
                       "--max-body", "0.01", "--no-control"]) as server:
        with triton.InferenceServerClient(target(server)) as client:
            headers = {"authorization": "Bearer secret"}
            assert client.is_server_ready()
            refused("UNAUTHENTICATED", lambda: ask(client, [[1, 2, 3, 4]]))
            refused("UNAUTHENTICATED", lambda: ask(client, [[1, 2, 3, 4]],
                                                   headers={"authorization": "Bearer secre"}))
            ask(client, [[1, 2, 3, 4]], headers=headers)
            refused("RESOURCE_EXHAUSTED",
                    lambda: ask(client, numpy.zeros((1000, 4)), headers=headers))
            refused("PERMISSION_DENIED", lambda: client.unload_model("linear", headers=headers))
            # Other tokens, and a file that has none.
            for text, token in (("other\n", "other"), ("# none\n", "other")):
                write(tokens, text)
                server.process.send_signal(signal.SIGHUP)
                headers = {"authorization": "Bearer " + token}
                until(lambda: server.request("GET", "/v2", None, headers)[0] == 200 and (
                    text[0] != "#" or "stay as they were" in server.said[-1]), server.said)
                ask(client, [[1, 2, 3, 4]], headers=headers)
                refused("UNAUTHENTICATED", lambda: ask(
                    client, [[1, 2, 3, 4]], headers={"authorization": "Bearer secret"}))
                assert server.request("GET", "/v2")[0] == 401


def test_texts(folder):
    """Tokens of a language model come one by one; texts of several streams share a batch."""
    path = os.path.join(folder, "lm.onnx")
    language(path, rounds=2)
    with Server(KILN, [path, "--grpc-port", "0", "--sequences", "4", "--max-length",
                       "4096"]) as server:
        def texts(client, prompts, count, cancels=False):
            found, done = [[] for _ in prompts], threading.Event()

            def told(result, error):
                answer = result.get_response() if error is None else None
                number = int(answer.id) if answer else len(prompts) - 1
                found[number].append(answer or str(error))
                ended = answer is None or "finish_reason" in answer.parameters
                if (ended and number == len(prompts) - 1) or (cancels and len(found[0]) == 5):
                    done.set()
            client.start_stream(told)
            for number, prompt in enumerate(prompts):
                kind = ("INT64", "<i8") if number % 2 else ("INT32", "<i4")
                client.async_stream_infer(
                    "lm", [tensor("input_ids", kind[0], numpy.array([prompt], kind[1]))],
                    request_id=str(number), parameters={"max_tokens": count},
                    enable_empty_final_response=number == 1)
            assert done.wait(60), found
            client.stop_stream(cancel_requests=cancels)
            return found

        def one(seed):
            chance = random.Random(seed)
            prompts = [[chance.randrange(61) for _ in range(chance.randint(1, 9))]
                       for _ in range(4)]
            with triton.InferenceServerClient(target(server)) as client:
                for prompt, answers in zip(prompts, texts(client, prompts, 12)):
                    tokens = [struct.unpack("<q", answer.raw_output_contents[0])[0]
                              for answer in answers]
                    assert tokens == continued(prompt, 12), (prompt, tokens)
                    assert answers[-1].parameters["finish_reason"].string_param == "length"
                    assert [answer.parameters["triton_final_response"].bool_param
                            for answer in answers] == [False] * 11 + [True], answers
        in_threads(8, one)
        with triton.InferenceServerClient(target(server)) as client:
            assert "max_tokens" in texts(client, [[1, 2]], 0)[0][0]
            texts(client, [[1, 2]], 4000, cancels=True)
        until(lambda: server.metric("serve_running_texts", "lm") == 0,
              "the text of a client that left goes on")


def test_stop(folder):
    """What is under way is answered; streams that wait for nothing are ended."""
    with Server(KILN, [os.path.join(folder, "m"), "--grpc-port", "0"]) as server:
        with triton.InferenceServerClient(target(server)) as client:
            found, streamed = [], []
            client.start_stream(lambda result, error: streamed.append(error))
            client.async_stream_infer("linear", [tensor("x", "FP32", numpy.ones((1, 4), "f4"))])
            client.async_infer("brief", [tensor("x", "FP32", numpy.ones(1, "f4"))],
                               lambda result, error: found.append((result, error)))
            until(lambda: streamed and server.metric("serve_requests") > 1,  # one of them asks
                  lambda: streamed)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0
            until(lambda: found and len(streamed) > 1, lambda: (found, streamed))
            assert found and found[0][1] is None, [str(error) for _, error in found]
            assert streamed[0] is None and "stopping" in str(streamed[1]), streamed


WARM = """model_warmup [ { name: "w" count: 3 inputs { key: "x" value: {
    data_type: TYPE_FP32 dims: [ 1 ] random_data: true } } } ]"""


def test_health(folder):
    """Who watches is told of each change, is no request under way, and delays no stop."""
    models = os.path.join(folder, "warm")
    slow(os.path.join(models, "late", "1", "model.onnx"), 10, 1000)
    write(os.path.join(models, "late", "config.pbtxt"), WARM)
    found, unknown = [], []
    path = "/grpc.health.v1.Health/"

    def watch(channel, name, into):
        try:
            for answer in channel.unary_stream(path + "Watch")(name):
                into.append(answer[1])
        except grpc.RpcError as failure:
            into.append(failure.code())

    with Server(KILN, [models, "--grpc-port", "0"], ready=False) as server, \
            grpc.insecure_channel(target(server)) as channel:
        threads = [threading.Thread(target=watch, args=(channel, name, into))
                   for name, into in ((b"", found), (b"\x0a\x04late", unknown))]
        for thread in threads:
            thread.start()
        until(lambda: len(found) > 1 and unknown, lambda: (found, unknown), 60)
        assert found == [2, 1] and unknown == [3], (found, unknown)
        assert channel.unary_unary(path + "Check")(b"") == b"\x08\x01"
        if health is not None:
            stub = health_rpc.HealthStub(channel)
            assert stub.Check(health.HealthCheckRequest()).status == 1
            service = "inference.GRPCInferenceService"
            watched = stub.Watch(health.HealthCheckRequest(service=service))
            assert next(watched).status == 1
            watched.cancel()
        assert server.metric("serve_requests") == 1  # the one that asks
        short = channel.unary_stream(path + "Watch")(b"", timeout=0.3)
        assert next(short) == b"\x08\x01"
        serve_process.refused(grpc.RpcError, "DEADLINE_EXCEEDED", lambda: next(short))
        begin = time.monotonic()
        assert server.stop() == 0 and time.monotonic() - begin < 20  # --drain-time is 25
        for thread in threads:
            thread.join(20)
        assert found == [2, 1, 2, grpc.StatusCode.UNAVAILABLE], found
        assert unknown == [3, grpc.StatusCode.UNAVAILABLE], unknown


def main():
    with scratch_for(KILN) as folder:
        models = os.path.join(folder, "m")
        linear(os.path.join(models, "linear.onnx"), 2.0)
        slow(os.path.join(models, "brief.onnx"), 20, 1000)
        run_tests((test_limits, test_health, test_texts, test_stop), folder)


main()
