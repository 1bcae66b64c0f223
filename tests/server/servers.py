#!/usr/bin/env python3
"""Servers of their own: what they are started with, who may ask, and how they end.

    tests/server/servers.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import contextlib
import http.client
import os
import re
import signal
import ssl
import sys
import threading
import time

import numpy

from serve_process import (TYPES, Server, binary_answer, binary_request, fails, identities,
                           in_threads, make_certificate, run_tests, scratch_for, slow, until,
                           write)

KILN = os.path.abspath(sys.argv[1])


def test_stop(folder):
    """What is under way is answered before the server ends."""
    with Server(KILN, [folder]) as server:
        def last(number):
            if number < 3:
                return server.infer("slow", [1])[0]
            until(lambda: server.metric("nv_inference_request_success", "slow") +
                  server.metric("serve_requests") > 3, "they do not come")  # one of them asks
            return server.stop()
        assert in_threads(4, last) == [200, 200, 200, 0]


def test_stop_twice(folder):
    """Who does not want to wait asks again."""
    path = os.path.join(folder, ".apart", "endless.onnx")  # where the other tests do not look
    slow(path, 400, 1200)
    server = Server(KILN, [path, "--drain-time", "60"])

    def ask():
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.infer("endless", [1])
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: server.metric("serve_requests") == 2, "nothing runs")
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):  # as one that is passed on twice
        server.process.send_signal(number)
    time.sleep(0.7)
    assert server.process.poll() is None

    def ended():  # a busy machine may take up the first ones late
        server.process.send_signal(signal.SIGINT)
        return server.process.poll() is not None
    until(ended, "it goes on", 60)
    assert server.stop() == 1
    assert any("a second time" in line for line in server.said), server.said
    thread.join()


def test_arguments(folder):
    fails(KILN, [os.path.join(folder, "nothing")], "cannot be opened")
    broken = os.path.join(folder, "broken.onnx")
    write(broken, "no model")
    both = [broken, os.path.join(folder, "types.onnx")]
    fails(KILN, both, "broken")
    with Server(KILN, both + ["--lenient", "--no-control"]) as server:
        assert server.json("GET", "/v2/models/types/ready")[0] == 200
        assert server.json("GET", "/v2/models/broken/ready")[0] == 503
        assert server.json("POST", "/v2/repository/models/types/unload")[0] == 403
        fails(KILN, [both[1], "--host", "127.0.0.1", "--access-log", "/nowhere/log"],
              "/nowhere/log")
    os.remove(broken)
    with Server(KILN, both[1:]) as server:
        for more, words in ((["--port", str(server.port)], "choose another port"),
                            (["--grpc-port", str(server.port)], "choose another port"),
                            (["--port", "999", "--grpc-port", "999"], "each needs its own")):
            fails(KILN, [both[1], *more], words, codes=(1, 2))
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
        until(lambda: os.path.exists(log), "no new log")
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
    write(tokens, "# who may\nfirst-token\n\nsecond\n")
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
    fails(KILN, [os.path.join(folder, "types.onnx"), "--tls-key", certificate,
                 "--tls-certificate", key], "PEM")
    fails(KILN, [os.path.join(folder, "types.onnx"), *pair[:2]], "which is not given", codes=(2,))


def test_pipes(folder):
    """A pipe that nobody writes to, or reads, is not waited for."""
    pipe = os.path.join(folder, "pipe")
    os.mkfifo(pipe)
    for arguments, words in ((["--tokens", pipe], "holds no token"),
                             (["--tls-key", pipe, "--tls-certificate", pipe], "it is empty"),
                             (["--access-log", pipe], "cannot be written")):
        fails(KILN, [os.path.join(folder, "types.onnx"), *arguments], words)


def main():
    with scratch_for(KILN) as folder:
        identities(os.path.join(folder, "types.onnx"), ["batch", 3])
        slow(os.path.join(folder, "slow", "1", "model.onnx"), 40)
        run_tests((test_stop, test_stop_twice, test_arguments, test_full_disk, test_tokens,
                   test_tls, test_pipes), folder)


main()
