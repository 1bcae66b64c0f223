#!/usr/bin/env python3
"""What a client may do that means no good: each case ends with a 4xx that says why, or with a
closed connection, while another client is answered all along.

    tests/server/hostile.py KILN [CONNECTIONS]

With CONNECTIONS, only so many at once.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import re
import resource
import socket
import struct
import sys
import threading
import time

import numpy

from serve_process import (Server, binary_request, linear, run_tests, save_model, scratch_for,
                           until, write)

KILN = os.path.abspath(sys.argv[1])
GOOD = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
                               "data": [1, 2, 3, 4]}]}).encode()
INFER = b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: a\r\n"


def statuses(answer):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def length(body):
    return b"Content-Length: %d\r\n" % len(body)


class Bystander:
    """Asks for something ordinary all the time."""

    def __init__(self, server):
        self.server, self.over, self.found = server, threading.Event(), []
        self.thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self.over.is_set():
            self.found.append(self.server.request("POST", "/v2/models/linear/infer", GOOD)[0])
            time.sleep(0.01)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, what, *_):
        self.over.set()
        self.thread.join()
        if what is not None:
            return
        assert self.found and set(self.found) == {200}, self.found


HIDDEN = b"POST /v2/repository/models/linear/unload HTTP/1.1\r\nHost: a\r\n" \
         b"Content-Length: 0\r\n\r\n"


def framed_in_two_ways(server):
    """A body that hides a request from whoever reads the other length."""
    chunked = b"5\r\nabcde\r\n0\r\n\r\n"
    heads = [
        b"Content-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked,
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + chunked,
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked,
        b"Transfer-Encoding: chunked, chunked\r\n\r\n" + chunked,
        b"Transfer-Encoding: xchunked\r\n\r\n" + chunked,
        b"Transfer-Encoding: identity\r\n\r\n" + chunked,
        b"Transfer-Encoding:\x0bchunked\r\n\r\n" + chunked,
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
        b"Content-Length: +5\r\n\r\nabcde", b"Content-Length: 5 5\r\n\r\nabcde",
        b"Content-Length: 0x5\r\n\r\nabcde", b"Content-Length: -1\r\n\r\nabcde",
        b"Content-Length: 5,5\r\n\r\nabcde", b"Content-Length: \r\n\r\nabcde",
        b"Content-Length: 99999999999999999999999\r\n\r\nabcde",
        b"Content-Length : 5\r\n\r\nabcde", b"Content-Length\x00: 5\r\n\r\nabcde",
        b"X: y\r\n Content-Length: 5\r\n\r\nabcde",
    ]
    for head in heads:
        answer = server.raw(INFER + head + HIDDEN, timeout=5)
        codes = statuses(answer)
        # libmicrohttpd 0.9.75 writes the head of its own 400 twice.
        assert all(400 <= code < 500 for code in codes), (head, answer)
        assert server.request("GET", "/v2/models/linear/ready")[0] == 200, head


def chunked(server):
    def pieces(body, size):
        return b"".join(b"%x;why=not\r\n%s\r\n" % (len(body[i:i + size]), body[i:i + size])
                        for i in range(0, len(body), size)) + b"0\r\n\r\n"

    head = INFER + b"Transfer-Encoding: chunked\r\n"
    for size in (1, 7, 1000):
        answer = server.raw(head + b"Connection: close\r\n\r\n" + pieces(GOOD, size))
        assert statuses(answer) == [200], answer
    body, headers = binary_request([("x", "FP32", numpy.ones((1, 4), "<f4"))])
    fields = b"".join(b"%s: %s\r\n" % (k.encode(), v.encode()) for k, v in headers.items())
    answer = server.raw(head + fields + b"Connection: close\r\n\r\n" + pieces(body, 50))
    assert statuses(answer) == [200], answer
    for broken in (b"g\r\n", b"-1\r\nx\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"\r\n",
                   b"ffffffffffffffffff\r\nx"):
        codes = statuses(server.raw(head + b"\r\n" + broken + HIDDEN, timeout=3))
        assert len(codes) <= 1 and all(400 <= code < 500 for code in codes), (broken, codes)
    big = pieces(b" " * (3 << 20), 60000)
    codes = statuses(server.raw(head + b"\r\n" + big, timeout=5))
    assert codes in ([413], []), codes


def pipelined(server):
    one = INFER + length(GOOD) + b"\r\n" + GOOD
    last = INFER + length(GOOD) + b"Connection: close\r\n\r\n" + GOOD
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = server.raw(one * 20 + live * 20 + one + last)
    assert statuses(answer) == [200] * 42, statuses(answer)


def wrong_lengths(server):
    answer = server.raw(INFER + b"Content-Length: 5000\r\n\r\n" + GOOD, timeout=5, half_close=True)
    assert statuses(answer) in ([], [400]), answer
    answer = server.raw(INFER + b"Content-Length: 10\r\n\r\n" + GOOD, timeout=5, half_close=True)
    assert statuses(answer)[0] == 400 and 200 not in statuses(answer), answer
    answer = server.raw(INFER + b"Content-Length: 3000000\r\n\r\n" + b"x" * 3000000, timeout=5)
    assert statuses(answer) in ([413], []), answer
    answer = server.raw(INFER + b"Content-Length: 1500000\r\nExpect: 100-continue\r\n\r\n",
                        timeout=5)
    assert statuses(answer) == [413], answer


def heads(server):
    for data in (b"", b"\r\n" * 5, b"\x00" * 500, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
                 b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\x00x HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\n\r\n", b"POST http://a/v2 HTTP/1.1\r\nHost: a\r\n\r\n",
                 b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
                 b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
                 b"\xff" * 70000):
        codes = statuses(server.raw(data, timeout=2, half_close=True))
        assert all(400 <= code <= 505 for code in codes), (data[:60], codes)


def paths(server):
    for path in ("/v2/models/../../../../etc/passwd", "/../../etc/passwd", "//etc/passwd",
                 "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd/ready", "/v2/models/%2e%2e/ready",
                 "/v2/models/%00/ready", "/v2/models/linear%00/ready", "/v2/models/%/ready",
                 "/v2/models/%zz/ready", "/v2/models/%c0%ae%c0%ae/ready", "/v2/models//ready",
                 "/v2/models/linear/versions/../ready", "/v2/models/linear/versions/%2e%2e/ready",
                 "/v2/models/etc%2Fpasswd/ready", "/v2/models/\\..\\x/ready",
                 "/v2/models/" + "a" * 300 + "/ready", "/v2/models/link/ready",
                 "/v2/models/linked/ready", "/v2/models/passwd/ready"):
        answer = server.raw(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert statuses(answer)[0] in (400, 404, 503), (path, answer)
        assert b"root:" not in answer
    for name in ("..%2f..%2fetc", "%2e%2e", "/etc/passwd", "link", "linked", "%2Fetc%2Fpasswd",
                 "linear%2f1%2fmodel.onnx"):
        status, answer = server.json("POST", f"/v2/repository/models/{name}/load", {})
        assert status == 404, (name, answer)


def deep(server):
    for body in (b"[" * 1000000, b'{"a":' * 100000, b'{"inputs":' + b"[" * 900000,
                 b'{"inputs":[{"data":' + b"[" * 1000 + b"]" * 1000 + b"}]}",
                 b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":' + b"[" * 60 +
                 b"1,2,3,4" + b"]" * 60 + b"}" * 9 + b"]}", b'"' + b"\\" * 100001,
                 b'{"id":"' + b"a" * 900000 + b'"}', b"\xef\xbb\xbf{}", b"{}\x00"):
        status, _, answer = server.request("POST", "/v2/models/linear/infer", body)
        assert status == 400 and json.loads(answer)["error"], (body[:40], status, answer)


def resets(server):
    """Connections that go in the middle of a head, a body, a run and an answer."""
    whole = INFER + length(GOOD) + b"\r\n" + GOOD
    for i in range(300):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(whole[:1 + i * 7 % len(whole)] if i % 3 else whole * 3)
        if i % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


def slow(server):
    """One byte now and then, of a head and of a body; a reader that does not read."""
    begin = time.monotonic()
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    big, headers = binary_request([("x", "FP32", numpy.ones((60000, 4), "<f4"))])
    fields = b"".join(b"%s: %s\r\n" % (k.encode(), v.encode()) for k, v in headers.items())
    clients[1].sendall(INFER + b"Content-Length: 1000\r\n\r\n")
    reader = socket.create_connection(("127.0.0.1", server.port))
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(60)
    reader.sendall((INFER + fields + length(big) + b"\r\n" + big) * 8)
    alive = set(clients[:2])
    while alive and time.monotonic() - begin < 60:
        for client in list(alive):
            try:
                client.sendall(b"G" if client is clients[0] else b" ")
            except OSError:
                alive.discard(client)
        time.sleep(0.1)
    assert not alive, "a client that drips is never cut off"
    clients[2].settimeout(60)
    assert clients[2].recv(100) == b"", "an idle connection stays"
    for client in clients + [reader]:
        client.close()


def crowd(server, wanted):
    """Many connections, each with half a request; then they finish it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(wanted, (hard if hard >= 0 else wanted + 500) - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 400)), hard))
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n"
    clients = []
    for i in range(count):
        # One address has 28,000 ports; a second one is for machines that have just used them.
        client = socket.socket()
        client.bind((f"127.0.0.{2 + i % 8}", 0))
        client.connect(("127.0.0.1", server.port))
        clients.append(client)
        client.sendall(live)
    assert server.request("POST", "/v2/models/linear/infer", GOOD)[0] == 200
    for client in clients:
        client.sendall(b"\r\n")
    for client in clients:
        client.settimeout(20)
        assert client.recv(100).startswith(b"HTTP/1.1 200"), "one of many is not answered"
        client.close()
    print(f"   {count} connections at once")


def external(path, location):
    """A model whose weight is said to lie somewhere."""
    save_model(path, f"""external (float[4] x) => (float[4] y)
        <float[4] w = ["location": "{location}", "offset": "0", "length": "16"]>
        {{ y = Add (x, w) }}""")


def make_repository(folder):
    outside = os.path.join(folder, "outside")
    inside = os.path.join(folder, "models")
    linear(os.path.join(inside, "linear", "1", "model.onnx"), 3.0)
    linear(os.path.join(outside, "1", "model.onnx"), 4.0)
    write(os.path.join(outside, "secret.bin"), b"\x00" * 64)
    os.symlink("/etc/passwd", os.path.join(inside, "passwd.onnx"))
    os.symlink(outside, os.path.join(inside, "linked"))
    os.makedirs(os.path.join(inside, "link", "1"))
    os.symlink(os.path.join(outside, "1", "model.onnx"),
               os.path.join(inside, "link", "1", "model.onnx"))
    # A link that stays inside is one like any other.
    os.symlink("linear", os.path.join(inside, "alias"))
    secret = os.path.join(outside, "secret.bin")
    for i, location in enumerate(("../../../outside/secret.bin", secret, "secret.bin")):
        external(os.path.join(inside, f"external{i}", "1", "model.onnx"), location)
    os.symlink(secret, os.path.join(inside, "external2", "1", "secret.bin"))
    return inside


def main():
    with scratch_for(KILN) as folder:
        repository = make_repository(folder)
        if len(sys.argv) > 2:
            wanted = int(sys.argv[2])
            with Server(KILN, [repository, "--lenient", "--connections",
                               str(wanted + 100)]) as server:
                crowd(server, wanted)
            return
        with Server(KILN, [repository, "--lenient", "--max-body", "1"]) as server:
            said = "".join(server.said)
            assert said.count("leads out of") == 3, said
            _, index = server.json("POST", "/v2/repository/index", {})
            ready = {entry["name"] for entry in index if entry["state"] == "READY"}
            assert ready == {"alias", "linear"}, index
            for case in (framed_in_two_ways, chunked, pipelined, wrong_lengths, heads, paths, deep,
                         resets):
                with Bystander(server):
                    run_tests((case,), server)
            crowd(server, 500)
            until(lambda: server.metric("serve_requests") == 1, "a request stays")
            assert server.metric("serve_body_bytes") == 0
        with Server(KILN, [repository, "--lenient", "--request-time", "1", "--idle-time",
                           "1"]) as server, Bystander(server):
            run_tests((slow,), server)


main()
