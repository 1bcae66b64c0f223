#!/usr/bin/env python3
"""Texts of language models: generate and generate_stream, with clients of several hands.

    tests/server/texts.py KILN

Python's own HTTP client and bare sockets; curl and PyPI sseclient-py where they are there.

SPDX-License-Identifier: Apache-2.0
"""
import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

from serve_process import (VOCABULARY, Server, continued, in_threads, language, linear, run_tests,
                           scratch_for, until, write)

try:
    import sseclient
except ImportError:
    sseclient = None

KILN = os.path.abspath(sys.argv[1])


def body_of(prompt, count=None, **more):
    return json.dumps({"input_ids": prompt, **({"max_tokens": count} if count else {}), **more})


def path_of(model, streams, version=None):
    return f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + \
        ("/generate_stream" if streams else "/generate")


def events_of(text):
    """The events of a stream, which is nothing else."""
    assert text.endswith("\n\n") or not text, text
    blocks = text.split("\n\n")[:-1]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks), blocks
    return [json.loads(block[6:]) for block in blocks]


def tokens_of(events):
    """What they add up to; each has the index that follows, and the last one a reason."""
    assert [event["index"] for event in events] == list(range(len(events))), events
    assert ["finish_reason" in event for event in events] == \
        [False] * (len(events) - 1) + [True], events
    return [token for event in events for token in event["output_ids"]]


def generate(server, model, body, streams=False, version=None):
    """(status, tokens, reason or sentence)"""
    status, headers, answer = server.request("POST", path_of(model, streams, version), body)
    if status == 200 and streams:
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8", headers
        events = events_of(answer.decode())
        return status, tokens_of(events), events[-1]["finish_reason"]
    assert headers["Content-Type"] == "application/json", headers
    found = json.loads(answer)
    return status, found.get("output_ids"), found.get("finish_reason", found.get("error"))


class Asked(socket.socket):
    """A socket that has asked, and all that has come: a slow client may find a whole text there
    where it looks for the first event."""

    def __init__(self, server, path, body, version="1.1"):
        super().__init__()
        self.found = b""
        self.settimeout(60)
        self.connect(("127.0.0.1", server.port))
        self.sendall(f"POST {path} HTTP/{version}\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
                     .encode() + body.encode())

    def read_until(self, what, begin=0):
        """All from `begin` on, once this is in it."""
        while what not in self.found[begin:]:
            piece = self.recv(65536)
            assert piece, self.found
            self.found += piece
        return self.found[begin:]


# --- what is answered ---

def answers(server):
    for streams in (False, True):
        for prompt, count in (([1], 1), ([1, 2, 3], 5), (list(range(40)), 20), ([7] * 100, 60)):
            expected = continued(prompt, count)
            assert generate(server, "lm", body_of(prompt, count), streams) == \
                (200, expected, "length")
        expected = continued([1, 2, 3], 50)
        stop = expected[7]
        cut = expected[:expected.index(stop) + 1]
        for more in ({"stop_token_ids": [stop]}, {"parameters": {"stop_token_ids": [stop, 99]}}):
            assert generate(server, "lm", body_of([1, 2, 3], 50, **more), streams, "1") == \
                (200, cut, "stop")
        # As many as there is room for.
        assert generate(server, "lm", body_of([5] * 200), streams) == \
            (200, continued([5] * 200, 56), "length")
        # One choice is left to a sampler, and equal seeds make equal choices.
        one = body_of([4, 5], 9, temperature=2.0, top_k=1, seed=3)
        assert generate(server, "lm", one, streams)[1] == continued([4, 5], 9)
        many = {"temperature": 9.0, "top_p": 0.9, "repetition_penalty": 1.3}
        texts = [generate(server, "lm", body_of([4, 5], 40, **many, seed=seed), streams)[1]
                 for seed in (1, 1, 2)] + \
                [generate(server, "lm", body_of([4, 5], 40, **many), streams)[1] for _ in range(2)]
        assert texts[0] == texts[1] and len({tuple(text) for text in texts}) == 4, texts
    status, _, answer = server.request(
        "POST", path_of("lm", True), body_of([1], 2, id="ä\"\n", stream=True))
    assert status == 200 and [event["id"] for event in events_of(answer.decode())] == ["ä\"\n"] * 2
    status, found = server.json("POST", path_of("lm", False), {"input_ids": [1], "max_tokens": 1,
                                                               "id": "x"})
    assert found == {"model_name": "lm", "model_version": "1", "id": "x",
                     "output_ids": continued([1], 1), "finish_reason": "length"}, found
    assert "generate" in server.json("GET", "/v2")[1]["extensions"]


def framing(server):
    """Each event is a chunk of HTTP/1.1, and comes by itself; the connection goes on after the
    last. HTTP/1.0 has no chunks, and an end."""
    body = body_of([1, 2], 20)
    with Asked(server, path_of("slow", True), body) as client:
        found = client.read_until(b"0\r\n\r\n")
        chunks = found.split(b"\r\n\r\n", 1)[1]
        events = []
        while chunks:
            size, rest = chunks.split(b"\r\n", 1)
            events.append(rest[:int(size, 16)])
            assert rest[int(size, 16):int(size, 16) + 2] == b"\r\n", rest
            chunks = rest[int(size, 16) + 2:]
        assert events[-1] == b"" and tokens_of(events_of(b"".join(events).decode())) == \
            continued([1, 2], 20), events
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.read_until(b"true}", len(found)).startswith(b"HTTP/1.1 200")
    with Asked(server, path_of("lm", True), body, "1.0") as client:
        found = b""
        while piece := client.recv(65536):
            found += piece
        assert b"chunked" not in found, found
        text = found.split(b"\r\n\r\n", 1)[1].decode()
        assert tokens_of(events_of(text)) == continued([1, 2], 20), found


def other_clients(server):
    body, expected = body_of([3, 1, 4], 12), continued([3, 1, 4], 12)
    url = f"http://127.0.0.1:{server.port}{path_of('lm', True)}"
    if shutil.which("curl"):
        done = subprocess.run(["curl", "-sSN", "--fail", "-d", body, url], capture_output=True,
                              text=True, timeout=60, check=True)
        assert tokens_of(events_of(done.stdout)) == expected, done.stdout
    if sseclient is not None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", path_of("lm", True), body)
        answer = connection.getresponse()
        events = [json.loads(event.data) for event in sseclient.SSEClient(answer).events()]
        connection.close()
        assert tokens_of(events) == expected, events
    print("   clients:", "curl " if shutil.which("curl") else "",
          "sseclient-py" if sseclient is not None else "")


def many(server):
    """In random order, of random lengths, by both ways: each gets its own tokens."""
    chance = random.Random(7)
    wanted = [([chance.randrange(VOCABULARY) for _ in range(chance.randint(1, 60))],
               chance.randint(1, 80), chance.random() < 0.7) for _ in range(240)]
    made = server.metric("serve_tokens", "lm")

    def one(index):
        for prompt, count, streams in wanted[index::24]:
            found = generate(server, "lm", body_of(prompt, count), streams)
            assert found == (200, continued(prompt, count), "length"), (prompt, streams, found)
    in_threads(24, one)
    made = server.metric("serve_tokens", "lm") - made
    assert made == sum(count for _, count, _ in wanted), made


# --- what is refused ---

def refused(server):
    cases = [
        ("{", "key"), ("[]", "object"), ("", "object"), ("{}", "input_ids"),
        ('{"input_ids":[]}', "at least"), ('{"input_ids":1}', "array"),
        ('{"input_ids":[[1]]}', "integer"), ('{"input_ids":[1.5]}', "integer"),
        ('{"input_ids":["a"]}', "integer"), ('{"input_ids":[-1]}', "vocabulary"),
        ('{"input_ids":[61]}', "vocabulary"), ('{"input_ids":[1e30]}', "integer"),
        ('{"input_ids":[1],"input_ids":[2]}', "more than once"),
        ('{"input_ids":[1],"max_tokens":1,"parameters":{"max_tokens":1}}', "more than once"),
        ('{"input_ids":[1],"parameters":{"parameters":{}}}', "not known"),
        ('{"input_ids":[1],"parameters":[]}', "object"), ('{"input_ids":[1],"nonsense":1}',
                                                          "not known"),
        ('{"input_ids":[1],"temperature":"hot"}', "number"), ('{"input_ids":[1],"top_p":1.1}',
                                                              "0 to 1 "),
        ('{"input_ids":[1],"top_k":-1}', "possible"), ('{"input_ids":[1],"temperature":NaN}',
                                                       "value"),
        ('{"input_ids":[1],"max_tokens":0}', "possible"), ('{"input_ids":[1],"max_tokens":1000}',
                                                           "room"),
        ('{"input_ids":[1],"seed":1.5}', "integer"), ('{"input_ids":[1],"seed":1e99}', "possible"),
        ('{"text_input":"once"}', "tokenizer"), ('{"input_ids":[1],"stop":["x"]}', "tokenizer"),
        ('{"input_ids":[1],"id":7}', "string"), ('{"input_ids":[1],"id":"' + "a" * 5000 + '"}',
                                                 "too long"),
        ('{"input_ids":[' + "1," * 255 + "1]}", "prompt"),
        ('{"input_ids":[' + "1," * 300 + "1]}", "more tokens"),
        ('{"input_ids":[1],"stop_token_ids":[' + "1," * 300 + "1]}", "more tokens"),
        ('{"input_ids":' + "[" * 100000, "integer"), ('{"input_ids":[1]} x', "follows"),
        ('{"input_ids":[1],"parameters":{"top_k":' + '{"a":' * 100000, "number")]
    for text, word in cases:
        for streams in (False, True):
            status, _, sentence = generate(server, "lm", text, streams)
            assert status == 400 and word in sentence, (text[:60], status, sentence)
    assert generate(server, "linear", body_of([1]))[0] == 400
    assert generate(server, "nothing", body_of([1]))[0] == 404
    assert generate(server, "lm", body_of([1]), version="2")[0] == 404
    assert server.request("GET", path_of("lm", True))[0] == 405


def failing(server):
    """A model that fails at once, and one that fails on its way, as the last event says."""
    status, _, sentence = generate(server, "short", body_of([1] * 12, 3), True)
    assert status in (400, 500) and sentence, sentence  # as the backend has it
    assert generate(server, "short", body_of([1] * 5, 3))[0] == 200
    assert generate(server, "short", body_of([1] * 5, 9))[0] == status
    status, _, answer = server.request("POST", path_of("short", True), body_of([1] * 5, 9))
    events = events_of(answer.decode())
    assert status == 200 and len(events) == 7 and set(events[-1]) == {"error"}, events
    assert [event["output_ids"][0] for event in events[:-1]] == continued([1] * 5, 6)


# --- clients that go ---

def is_idle(server, model):
    return not any(server.metrics("serve_running_texts", "nv_inference_pending_request_count",
                                  model=model))


def together(server):
    """A step makes a token of each text."""
    names = "serve_tokens", "nv_inference_exec_count"
    begin = server.metrics(*names, model="slow")
    until(lambda: server.metric(names[0], "slow") > begin[0] + 40, "no tokens are made")
    made, runs = (now - then for now, then in zip(server.metrics(*names, model="slow"), begin))
    assert made > 1.5 * runs, (made, runs)


def hang_ups(server):
    """Each way to go frees the row, and those that wait for it come in."""
    long = body_of([1, 2, 3])
    for how in ("close", "reset", "half"):
        cancelled = server.metric("serve_cancelled_texts", "slow")
        clients = []
        for gauge in ("serve_running_texts", "nv_inference_pending_request_count"):
            clients += [Asked(server, path_of("slow", streams), long) for streams in (True, False)]
            until(lambda: server.metric(gauge, "slow") == 2, gauge)
        assert b"finish_reason" not in clients[0].read_until(b"data: ")
        if how == "close":
            together(server)
        for client in clients:
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.shutdown(socket.SHUT_WR) if how == "half" else client.close()
        until(lambda: is_idle(server, "slow"), f"{how}: a row is not freed")
        assert server.metric("serve_cancelled_texts", "slow") == cancelled + 4
        for client in clients:
            client.close()
        assert generate(server, "slow", body_of([1], 2))[1] == continued([1], 2)
    until(lambda: server.metric("serve_requests") == 1, "requests stay")


LIMITED = ["--max-length", "8192", "--sequences", "1", "--queue", "1", "--request-time", "0.5"]


def limits(folder):
    """Of those that wait, and of who does not read."""
    with Server(KILN, [folder, *LIMITED, "--max-tokens", "8000"]) as server:
        assert generate(server, "lm", body_of([1], 8001))[0] == 400
        with Asked(server, path_of("slow", True), body_of([1])) as first:
            first.read_until(b"data: ")
            with Asked(server, path_of("slow", True), body_of([1])):
                until(lambda: server.metric("nv_inference_pending_request_count", "slow") == 1,
                      "none waits")
                status, _, sentence = generate(server, "slow", body_of([1]), True)
                assert status == 503 and "wait" in sentence, sentence
        # One that does not read: what fits the socket is written, then it is cut off.
        with socket.socket() as sleeper:
            sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sleeper.connect(("127.0.0.1", server.port))
            body = body_of([1], 8000, id="x" * 1000)
            head = f"POST {path_of('lm', True)} HTTP/1.1\r\nHost: a\r\n" \
                f"Content-Length: {len(body)}\r\n"
            sleeper.sendall(head.encode() + b"\r\n" + body.encode())
            until(lambda: server.metric("serve_tokens", "lm") > 0, "it does not begin")
            until(lambda: server.metric("serve_requests") == 1, "it is never cut off")
            until(lambda: is_idle(server, "lm"), "its row is not freed")


def times(folder):
    """A text's own limit ends it, running or waiting; that of other requests does not."""
    with Server(KILN, [folder, *LIMITED, "--generate-time", "1.5"]) as server:
        begin = time.monotonic()
        with Asked(server, path_of("slow", True), body_of([1])) as first:
            first.read_until(b"data: ")
            for limit in (1, 1000):
                status, _, sentence = generate(server, "slow", body_of([1], timeout=limit))
                assert status == 504 and "time is over" in sentence, sentence
            found = first.read_until(b"0\r\n\r\n")
            assert b'"error":"the text\'s time is over' in found, found[-300:]
            assert time.monotonic() - begin > 1.4


def stops(folder):
    """A text under way is written to its end, or its client is told that there is none."""
    for drain, count, whole in (("30", 40, True), ("0", 4000, False)):
        with Server(KILN, [folder, "--max-length", "4096", "--drain-time", drain]) as server, \
                Asked(server, path_of("slow", True), body_of([1], count)) as client, \
                Asked(server, path_of("slow", False), body_of([1], count)) as waiting:
            client.read_until(b'"index":2')
            until(lambda: server.metric("serve_prompt_tokens", "slow") == 2, "the other one waits")
            server.process.send_signal(signal.SIGTERM)
            found = client.read_until(b"0\r\n\r\n")
            assert (b"finish_reason" in found) == whole, found
            assert (b'"error":"the server is stopping"' in found) != whole, found
            answer = waiting.read_until(b"}")
            assert (b"200 OK" if whole else b"503") in answer[:30], answer


def reloads(server):
    """A text goes on with the model that it began with, and others begin with the new one."""
    for action in ("load", "unload"):
        with Asked(server, path_of("slow", True), body_of([1], 100)) as client:
            client.read_until(b"data: ")
            assert server.request("POST", f"/v2/repository/models/slow/{action}", b"{}")[0] == 200
            status = generate(server, "slow", body_of([1], 2))[0]
            assert status == (200 if action == "load" else 503), status
            assert b'"finish_reason":"length"' in client.read_until(b"0\r\n\r\n")
    assert server.request("POST", "/v2/repository/models/slow/load", b"{}")[0] == 200
    assert generate(server, "slow", body_of([1], 2))[1] == continued([1], 2)
    assert server.metric("serve_tokens", "slow") > 200  # of those that are gone too


def configurations(folder):
    """What config.pbtxt says of a language model."""
    generates = 'parameters { key: "generate" value { string_value: "%s" } }\n'
    length = 'parameters { key: "max_length" value { string_value: "%s" } }\n'
    cases = [("decoupled", language, 'model_transaction_policy { decoupled: true }', 200),
             ("said", language, generates % "true" + length % "32", 200),
             ("off", language, generates % "false", 400),
             ("batched", language, "max_batch_size: 3", 200),
             ("wrong", lambda path: linear(path, 2.0), generates % "true", 503),
             ("split", lambda path: linear(path, 2.0),
              "model_transaction_policy { decoupled: true }", 503),
             ("odd", language, generates % "maybe", 503),
             ("negative", language, length % "-4", 503)]
    for name, make, text, _ in cases:
        make(os.path.join(folder, name, "1", "model.onnx"))
        write(os.path.join(folder, name, "config.pbtxt"), text)
    with Server(KILN, [folder, "--lenient"]) as server:
        for name, _, text, expected in cases:
            status, tokens, why = generate(server, name, body_of([1], 4))
            assert status == expected, (name, status, why)
            assert status != 200 or tokens == continued([1], 4), name
        assert generate(server, "said", body_of([1], 32))[0] == 400
        assert len(generate(server, "decoupled", body_of([1]))[1]) == 1023


def main():
    with scratch_for(KILN) as folder, scratch_for(KILN) as configured:
        language(os.path.join(folder, "lm.onnx"))
        language(os.path.join(folder, "slow.onnx"), 6, 200)
        language(os.path.join(folder, "short.onnx"), positions=10)
        linear(os.path.join(folder, "linear.onnx"), 3.0)
        cases = [(["--max-length", "256"], (answers, framing, other_clients, many, refused,
                                            failing, reloads)),
                 (["--max-length", "4096", "--sequences", "2"], (hang_ups,))]
        for arguments, tests in cases:
            with Server(KILN, [folder, *arguments]) as server:
                run_tests(tests, server)
                until(lambda: server.metric("serve_requests") == 1, "a request stays")
                assert server.metric("serve_body_bytes") == 0
        run_tests((limits, times, stops), folder)
        run_tests((configurations,), configured)


main()
