#!/usr/bin/env python3
"""A server under everything at once, for long: each request is answered exactly once or its
connection closed, what /metrics says adds up, and memory stays flat.

    tests/server/soak.py KILN [REQUESTS [SECONDS]]

So many requests (20,000), or as many as there is time for: inferences as JSON and binary, texts in
one piece and as events, bad bodies and paths, models that fail, clients that hang up in the middle
of a head, a body, a run and an answer, pipelined ones, and the same by gRPC (soak_rpc.py); beside
them loads, reloads and unloads, logs that are rotated, and a look at the metrics. None is
overtaken by more than MOST_OVERTAKEN others, however slow the machine is; who waits longer than
LOST seconds waits in vain. SEED (1), and PROCESSES (1) that have such clients, are the
environment's.

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import contextlib
import json
import os
import pickle
import random
import re
import signal
import statistics
import subprocess
import sys
import time
import types

import numpy

from serve_process import (VOCABULARY, Server, binary_request, continued, language, linear,
                           scratch_for, slow, write)

try:
    from soak_rpc import RpcClient
except ImportError as error:
    print("without gRPC, for there is no tritonclient[grpc] here:", error, file=sys.stderr)
    RpcClient = None

KILN = os.path.abspath(sys.argv[1])
WANTED = int(sys.argv[2]) if len(sys.argv) > 2 else 20000
SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 1e9
SEED = int(os.environ.get("SEED", "1"))
PROCESSES = int(os.environ.get("PROCESSES", "1"))
PORTS = os.environ.get("PORTS")  # of the server, where this is a process of clients
CLIENTS = 24
RPC_CLIENTS = 8
GONE = (404, 503)  # of a model that is being unloaded, or was
MOST_OVERTAKEN = 50000
LOST = 600


class Tally:
    """What came of the requests to each model."""

    def __init__(self):
        self.sent = self.closed = 0
        self.answers = {}  # model: {status: count}
        self.left = {}     # model: requests whose client did not wait
        self.tokens = self.bursts = 0
        self.ended = 0      # answered or left
        self.overtaken = {} # what was asked: others that ended while one waited, at most

    def answered(self, model, status, count=1):
        found = self.answers.setdefault(model, {})
        found[status] = found.get(status, 0) + count
        self.ended += count

    def leave(self, model, count=1):
        self.left[model] = self.left.get(model, 0) + count
        self.ended += count

    @contextlib.asynccontextmanager
    async def waiting(self, what):
        """Who waits is not overtaken by too many; a slow machine lets all of them wait."""
        ended = self.ended
        try:
            async with asyncio.timeout(LOST):
                yield
        except TimeoutError:
            raise AssertionError(f"{what}: no answer in {LOST} s, and {self.ended - ended} others "
                                 "were answered meanwhile") from None
        others = self.ended - ended
        self.overtaken[what] = max(self.overtaken.get(what, 0), others)
        assert others <= MOST_OVERTAKEN, f"{what}: {others} others were answered meanwhile"

    def add(self, other):
        """The sums of another process's clients."""
        for name in ("sent", "closed", "tokens", "bursts"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for model, answers in other.answers.items():
            for status, count in answers.items():
                self.answered(model, status, count)
        for model, count in other.left.items():
            self.leave(model, count)
        for what, count in other.overtaken.items():
            self.overtaken[what] = max(self.overtaken.get(what, 0), count)


def head_of(method, path, body, headers=None):
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def infer_body(data, shape, **more):
    given = {"name": "x", "shape": shape, "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [given], **more}).encode()


THREE = numpy.arange(12, dtype="<f4").reshape(3, 4)
BURSTS = [(infer_body([1, 2, 3, 4], [1, 4]), {}, b"[3.0,6.0,9.0,12.0]"),
          (*binary_request([("x", "FP32", THREE)]), (THREE * 3).tobytes())]


async def read_answer(reader):
    """(status, body) of one; None where the connection was closed before."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    status = int(head.split(b" ", 2)[1])
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    if length:
        return status, await reader.readexactly(int(length.group(1)))
    assert b"chunked" in head, head
    body = b""
    while size := int((await reader.readuntil(b"\r\n")), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return status, body


class Client:
    """One connection after the other."""

    def __init__(self, server, tally, chance):
        self.server, self.tally, self.chance = server, tally, chance
        self.reader = self.writer = None

    async def open(self):
        if self.writer is None or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self.server.port, limit=1 << 22)

    def drop(self):
        if self.writer is not None:
            if self.chance.random() < 0.5:
                self.writer.transport.abort()
            else:
                self.writer.close()
        self.writer = None

    async def ask(self, model, request, expected, check=None):
        """Sends one, or leaves in the middle; what comes must be one of those expected."""
        await self.open()
        self.tally.sent += 1
        if self.chance.random() < 0.06:
            await self.leave(model, request)
            return
        async with self.tally.waiting(model):
            self.writer.write(request)
            found = await read_answer(self.reader)
        if found is None:
            self.tally.closed += 1
            raise AssertionError(f"closed without an answer: {request[:200]}")
        status, body = found
        assert status in expected, (request[:300], status, body[:300])
        self.tally.answered(model, status)
        if check and status == 200:
            check(body)
        if self.chance.random() < 0.05:
            self.drop()

    async def leave(self, model, request):
        part = request if self.chance.random() < 0.6 else \
            request[:self.chance.randrange(len(request))]
        self.tally.leave(model)
        self.writer.write(part)
        try:
            await self.writer.drain()
            await asyncio.sleep(self.chance.choice((0, 0.001, 0.03)))
            if self.chance.random() < 0.3:
                await asyncio.wait_for(self.reader.read(100), 0.05)
        except (OSError, asyncio.TimeoutError):
            pass
        self.drop()

    # --- what is asked ---

    async def infer(self):
        rows = self.chance.randint(1, 6)
        array = numpy.array([[self.chance.randint(-50, 50) for _ in range(4)]
                             for _ in range(rows)], "<f4")
        if self.chance.random() < 0.5:
            body, headers = binary_request([("x", "FP32", array)])

            def check(answer):
                assert answer.endswith((array * 3).tobytes()), answer[:200]
        else:
            headers = {}
            body = infer_body(array.ravel().tolist(), [rows, 4])

            def check(answer):
                found = json.loads(answer)["outputs"][0]["data"]
                assert found == (array * 3).ravel().tolist(), (found, array)
        await self.ask("linear", head_of("POST", "/v2/models/linear/infer", body, headers),
                       (200,), check)

    async def text(self):
        prompt = [self.chance.randrange(VOCABULARY) for _ in range(self.chance.randint(1, 20))]
        count, streams = self.chance.randint(1, 30), self.chance.random() < 0.6
        expected = continued(prompt, count)

        def check(answer):
            events = re.findall(rb'"output_ids":\[([0-9,]*)\]', answer)
            found = [int(token) for event in events for token in event.split(b",")]
            assert found == expected and answer.count(b"finish_reason") == 1, (found, expected)
            self.tally.tokens += len(found)

        body = json.dumps({"input_ids": prompt, "max_tokens": count}).encode()
        path = "/v2/models/lm/generate" + ("_stream" if streams else "")
        await self.ask("lm", head_of("POST", path, body), (200,), check)

    async def failing(self):
        """A run that fails at once or on its way."""
        streams = self.chance.random() < 0.5
        body = json.dumps({"input_ids": [1] * self.chance.choice((5, 12)),
                           "max_tokens": 9}).encode()

        def check(answer):
            assert streams and answer.count(b'"error"') == 1, answer

        path = "/v2/models/short/generate" + ("_stream" if streams else "")
        await self.ask("short", head_of("POST", path, body), (200, 400, 500), check)

    async def slow(self):
        body = infer_body([1.0], [1], parameters={"timeout": self.chance.choice((0, 1, 2000))})
        await self.ask("slow", head_of("POST", "/v2/models/slow/infer", body), (200, 504))

    async def coming(self):
        """A model that is loaded and unloaded all the time."""
        body = infer_body([1, 2, 3, 4], [1, 4])
        await self.ask("coming", head_of("POST", "/v2/models/coming/infer", body), (200, *GONE))

    async def bad(self):
        method, path, body = self.chance.choice((
            ("POST", "/v2/models/linear/infer", b'{"inputs":[{"name":"x"}]}'),
            ("POST", "/v2/models/linear/infer", b"{" * 500),
            ("POST", "/v2/models/linear/infer", b""),
            ("POST", "/v2/models/linear/infer", b'{"inputs":[{"name":"x","shape":[1,4],"datatype":'
             b'"FP32","data":[1,2,3]}]}'),
            ("POST", "/v2/models/linear/infer", b'{"inputs":[{"name":"x","shape":[1,4],"datatype":'
             b'"FP32","data":[1,2,3,NaN]}]}'),
            ("POST", "/v2/models/lm/generate", b'{"input_ids":[1000]}'),
            ("POST", "/v2/models/lm/generate_stream", b'{"input_ids":[1],"top_p":2}'),
            ("GET", "/v2/models/%2e%2e/ready", b""), ("POST", "/v2/nothing", b"x" * 1000),
            ("DELETE", "/v2/models/linear/infer", b"")))
        model = path.split("/")[3] if method == "POST" and path.startswith("/v2/models") else "none"
        await self.ask(model, head_of(method, path, body), (400, 404, 405))

    async def pipelined(self):
        body = infer_body([1, 2, 3, 4], [1, 4])
        count = self.chance.randint(2, 6)
        await self.open()
        self.tally.sent += count
        self.writer.write(head_of("POST", "/v2/models/linear/infer", body) * count)
        for _ in range(count):
            async with self.tally.waiting("pipelined"):
                found = await read_answer(self.reader)
            assert found is not None and found[0] == 200, found
            assert b"[3.0,6.0,9.0,12.0]" in found[1], found
            self.tally.answered("linear", 200)

    async def burst(self):
        """Many at once, whose answers are of one size; some clients do not wait for the rest."""
        body, headers, expected = self.chance.choice(BURSTS)
        request = head_of("POST", "/v2/models/linear/infer", body, headers)
        count = self.chance.randint(50, 400)
        await self.open()
        self.tally.sent += count
        self.tally.bursts += count
        self.writer.write(request * count)
        waits = count if self.chance.random() < 0.8 else self.chance.randint(1, count)
        async with self.tally.waiting("burst"):
            head = await self.reader.readuntil(b"\r\n\r\n")
            size = int(re.search(rb"\r\nContent-Length: (\d+)", head).group(1))
            first = head + await self.reader.readexactly(size)
            rest = await self.reader.readexactly(len(first) * (waits - 1))
        assert first.startswith(b"HTTP/1.1 200 ") and expected in first, first
        for found in (b"HTTP/1.1 200 ", first[len(head):]):  # and each of them is as the first
            assert rest.count(found) == waits - 1, (waits, rest)
        self.tally.answered("linear", 200, waits)
        if waits < count:
            self.tally.leave("linear", count - waits)
            self.drop()

    async def control(self):
        action, model = self.chance.choice((
            ("load", "coming"), ("unload", "coming"), ("load", "linear"), ("load", "lm"),
            ("load", "nothing"), ("load", "broken")))
        expected = {"nothing": (404,), "broken": (400, 500, 503)}.get(model, (200,))
        await self.ask("none", head_of("POST", f"/v2/repository/models/{model}/{action}", b"{}"),
                       expected)

    async def look(self):
        await self.ask("none", head_of("GET", self.chance.choice(
            ("/metrics", "/", "/v2", "/v2/models/lm", "/v2/models/stats",
             "/v2/models/linear/config", "/v2/health/ready")), b""), (200,))

    async def go_on(self, wanted, end):
        kinds = [(self.infer, 40), (self.text, 16), (self.bad, 12), (self.pipelined, 5),
                 (self.burst, 5),
                 (self.failing, 4), (self.coming, 8), (self.slow, 1), (self.look, 3),
                 (self.control, 0.3)]
        weights = [weight for _, weight in kinds]
        while self.tally.sent < wanted and time.monotonic() < end:
            await self.chance.choices(kinds, weights)[0][0]()
        self.drop()


def resident(server):
    with open(f"/proc/{server.process.pid}/status", encoding="utf-8") as file:
        return int(re.search(r"^RssAnon:\s+(\d+)", file.read(), re.M).group(1)) / 1024


async def ask_all():
    """What one process's clients do."""
    tally, end = Tally(), time.monotonic() + SECONDS
    server = types.SimpleNamespace(**dict(zip(("port", "grpc_port"), map(int, PORTS.split()))))
    clients = [Client(server, tally, random.Random(SEED * 1000 + i)) for i in range(CLIENTS)]
    if RpcClient:
        clients += [RpcClient(server, tally, random.Random(SEED * 1000 + 500 + i))
                    for i in range(RPC_CLIENTS)]
    await asyncio.gather(*[client.go_on(WANTED, end) for client in clients])
    return tally


def watch(server, crowd):
    """MiB, until the crowd has gone."""
    memory = []
    while any(process.poll() is None for process in crowd) and \
            not any(process.poll() for process in crowd):
        memory.append(resident(server))
        if len(memory) % 20 == 0:
            server.process.send_signal(signal.SIGHUP)
        if len(memory) % 120 == 0:
            print(f"   {figures(server)['nv_inference_request_success', 'linear']} inferences, "
                  f"{memory[-1]:.1f} MiB", flush=True)
        time.sleep(0.25)
    return memory


def run_all(server, folder):
    """(the sum of all, MiB)"""
    crowd, tally = [], Tally()
    try:
        for number in range(PROCESSES):
            with open(os.path.join(folder, f"tally{number}"), "wb") as file:
                crowd.append(subprocess.Popen(
                    [sys.executable, __file__, KILN, str(WANTED // PROCESSES), str(SECONDS)],
                    stdout=file, env={**os.environ, "SEED": str(SEED + 100 * number),
                                      "PORTS": f"{server.port} {server.grpc_port or 0}"}))
        memory = watch(server, crowd)
        assert all(process.poll() == 0 for process in crowd), "a client failed"
    finally:
        for process in crowd:
            process.kill()
            process.wait()
    for number in range(PROCESSES):
        with open(os.path.join(folder, f"tally{number}"), "rb") as file:
            tally.add(pickle.load(file))
    return tally, memory


def figures(server):
    text = server.request("GET", "/metrics")[2].decode()
    return {(name, model): int(value) for name, model, value in re.findall(
        r'^(\w+)(?:\{model="([^"]*)",version="1"\})? (\d+)$', text, re.M)}


def settled(server):
    for _ in range(200):
        found = figures(server)
        gauges = [value for (name, _), value in found.items() if name in
                  ("serve_running_texts", "nv_inference_pending_request_count", "serve_body_bytes")]
        if not any(gauges) and found["serve_requests", ""] == 1 and \
                found["serve_connections", ""] <= 2:
            return found
        time.sleep(0.05)
    raise AssertionError(f"something stays: {found}")


def check_counters(server, tally):
    """Who did not wait may have been counted or not; all others were, once."""
    found = settled(server)
    for model in ("linear", "lm", "short", "slow", "coming"):
        success, failure = (found[f"nv_inference_request_{what}", model]
                            for what in ("success", "failure"))
        answers, left = tally.answers.get(model, {}), tally.left.get(model, 0)
        good = answers.get(200, 0)
        counted = sum(count for status, count in answers.items()
                      if status not in (404, 405) and not (model == "coming" and status == 503))
        if model == "short":  # an error among events is a failure behind 200
            good = 0
        assert good <= success <= good + left, (model, success, good, left)
        assert counted <= success + failure <= counted + left, \
            (model, success, failure, counted, left)
    assert found["serve_tokens", "lm"] >= tally.tokens, found


def check_memory(memory):
    """The second fifth and the last, of what had time to fill."""
    fifth = len(memory) // 5
    early, late = (statistics.median(part) for part in (memory[fifth:2 * fifth], memory[-fifth:]))
    print(f"resident: {early:.1f} MiB in the second fifth, {late:.1f} in the last, "
          f"{max(memory):.1f} at most")
    assert late < early * 1.05 + 8, memory[::max(1, len(memory) // 40)]


def make_repository(folder):
    for name, make in (("linear", lambda path: linear(path, 3.0)),
                       ("coming", lambda path: linear(path, 3.0)), ("lm", language),
                       ("slow", lambda path: slow(path, 4)),
                       ("short", lambda path: language(path, positions=10))):
        make(os.path.join(folder, name + ".onnx"))
    write(os.path.join(folder, "broken.onnx"), b"no model")


def main():
    if PORTS:
        pickle.dump(asyncio.run(ask_all()), sys.stdout.buffer)
        return
    with scratch_for(KILN) as folder:
        make_repository(folder)
        arguments = [folder, "--lenient", "--max-length", "256", "--access-log",
                     os.path.join(folder, "log"), *(["--grpc-port", "0"] if RpcClient else [])]
        with Server(KILN, arguments) as server:
            begin = time.monotonic()
            tally, memory = run_all(server, folder)
            print(f"{tally.sent} requests in {time.monotonic() - begin:.0f} s, {tally.bursts} of "
                  f"them in bursts, {sum(tally.left.values())} left, {tally.closed} closed, seed "
                  f"{SEED}; overtaken by at most {dict(sorted(tally.overtaken.items()))}")
            for model, answers in sorted(tally.answers.items()):
                print(f"   {model}: {dict(sorted(answers.items()))}")
            check_counters(server, tally)
            check_memory(memory)


main()
