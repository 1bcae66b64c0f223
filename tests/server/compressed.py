#!/usr/bin/env python3
"""Bodies of HTTP and messages of gRPC that come compressed, whole, in pieces, broken, and as bombs.

    tests/server/compressed.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import gzip
import json
import os
import socket
import sys
import zlib

import numpy

from http2 import PREFACE, STATUS, frame, head, infer_message, message
from serve_process import (Server, binary_answer, binary_request, linear, run_tests, scratch_for,
                           until)

KILN = os.path.abspath(sys.argv[1])
PATH = "/v2/models/linear/infer"
GOOD = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
                               "data": [1, 2, 3, 4]}]}).encode()
RAW = zlib.compressobj(wbits=-15)
# Content-Encoding, body, status, words of the sentence
CASES = [
    ("gzip", gzip.compress(GOOD), 200, ""), ("GZIP", gzip.compress(GOOD, 1), 200, ""),
    ("x-gzip", gzip.compress(GOOD), 200, ""), ("deflate", zlib.compress(GOOD), 200, ""),
    ("identity", GOOD, 200, ""),
    ("gzip", gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:]), 200, ""),  # members
    ("gzip", gzip.compress(GOOD + b" " * 90000), 200, ""),
    ("br", GOOD, 415, "br"), ("gzip, gzip", gzip.compress(gzip.compress(GOOD)), 415, "gzip, gzip"),
    ("", GOOD, 415, "not understood"),
    ("gzip", GOOD, 400, "incorrect header"), ("deflate", gzip.compress(GOOD), 400, "incorrect"),
    ("deflate", RAW.compress(GOOD) + RAW.flush(), 400, "inflated"), ("gzip", b"", 400, "cut off"),
    ("gzip", gzip.compress(GOOD)[:-1], 400, "cut off"),
    ("gzip", gzip.compress(GOOD)[:30], 400, "cut off"),
    ("gzip", gzip.compress(GOOD)[:-8] + b"\0" * 8, 400, "incorrect data check"),
    ("gzip", gzip.compress(GOOD) + b"x", 400, "cut off"),
    ("gzip", gzip.compress(GOOD) + b"xx" * 20, 400, "incorrect header"),
    ("deflate", zlib.compress(GOOD) + b"x", 400, "behind its end"),
    ("gzip", gzip.compress(b"{" * 900000), 400, "JSON"),
    ("gzip", gzip.compress(b" " * (1 << 26)), 413, "--max-body"),  # 65 KB become 64 MiB
    ("deflate", zlib.compress(gzip.compress(GOOD)), 400, "JSON"),
]


def test_bodies(server):
    for coding, body, expected, words in CASES:
        status, _, answer = server.request("POST", PATH, body, {"Content-Encoding": coding})
        found = json.loads(answer)
        assert status == expected, (coding, body[:40], status, found)
        assert words in found.get("error", ""), (coding, body[:40], words, found)
        if status == 200:
            assert found["outputs"][0]["data"] == [2, 4, 6, 8], found
    status, _, answer = server.request("POST", "/v2/repository/index", gzip.compress(b"{}"),
                                       {"Content-Encoding": "gzip"})
    assert status == 200 and json.loads(answer)[0]["name"] == "linear", answer
    twice = b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" \
        b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
    assert b" 415 " in server.raw(twice)[:20]


def test_binary(server):
    """The length of the JSON is that of the body before it was compressed; pieces end anywhere."""
    array = numpy.random.default_rng(1).integers(0, 9, (5000, 4)).astype("<f4")
    body, headers = binary_request([("x", "FP32", array)])
    for name, squeeze in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        packed = squeeze(body)
        for given in (packed, (packed[i:i + 999] for i in range(0, len(packed), 999))):
            status, found, answer = server.request("POST", PATH, given,
                                                   {**headers, "Content-Encoding": name})
            assert status == 200, answer
            _, outputs = binary_answer(found, answer)
            assert outputs["y"][1] == (array * 2).tobytes()
    longer = {**headers, "Inference-Header-Content-Length": str(len(body) + 1)}
    status, _, answer = server.request("POST", PATH, gzip.compress(body),
                                       {**longer, "Content-Encoding": "gzip"})
    assert status == 400 and "left of the body" in json.loads(answer)["error"], answer


def test_messages(server):
    """(grpc-encoding, bytes of messages, gRPC's status)"""
    good = infer_message("linear", "x", numpy.ones((700, 4), "<f4"))
    packed = gzip.compress(good)

    def status(coding, *parts):
        more = [("grpc-encoding", coding)] if coding else []
        found = b""
        with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=20) as link:
            link.sendall(PREFACE + frame(4, 0, 0) + head(1, more=more))
            frames = [part[at:at + 16384] for part in parts for at in range(0, len(part), 16384)]
            for i, part in enumerate(frames):
                link.sendall(frame(0, i == len(frames) - 1, 1, part))
            while STATUS not in found[:-2]:
                piece = link.recv(65536)
                assert piece, found
                found += piece
        at = found.find(STATUS) + len(STATUS)
        return int(found[at + 1:at + 1 + found[at]])
    whole = message(packed, 1)
    for expected, coding, *parts in (
            (0, "gzip", whole), (0, "deflate", message(zlib.compress(good), 1)),
            (0, "gzip", *(whole[i:i + 7] for i in range(0, len(whole), 7))),
            (0, "gzip", message(good)),  # it need not be
            (0, "identity", message(good)), (13, "identity", whole), (13, "", whole),
            (13, "gzip", message(packed, 2)), (12, "snappy", whole), (3, "deflate", whole),
            (3, "gzip", message(packed[:-9], 1)), (3, "gzip", message(b"", 1)),
            (3, "gzip", message(gzip.compress(b"\xff" * 99), 1)),
            (8, "gzip", message(gzip.compress(b"\0" * (1 << 26)), 1))):
        assert status(coding, *parts) == expected, (coding, parts[0][:30], expected)


def main():
    with scratch_for(KILN) as folder:
        linear(os.path.join(folder, "linear.onnx"), 2.0)
        with Server(KILN, [folder, "--grpc-port", "0", "--max-body", "1"]) as server:
            run_tests((test_bodies, test_binary, test_messages), server)
            until(lambda: server.metric("serve_body_bytes") == 0 and
                  server.metric("serve_requests") == 1, "a body stays")


main()
