#!/usr/bin/env python3
"""`kiln serve` beside a bare libmicrohttpd, and beside other servers with the same model and body.

    bench/serve.py BUILD echo                 what a request costs beyond an echo of its body
    bench/serve.py BUILD peers MODELS VENVS   answers a second, p50, p99 at 1, 8, 64 connections
    bench/serve.py BUILD rpc                  a request by gRPC beside the same over HTTP, binary,
                                              and with its tensors in shared memory
    bench/serve.py BUILD all MODELS VENVS     all of it, in 7 minutes with SERVE_SECONDS=1

MODELS is the folder of the magika and rapidocr models. VENVS is a folder of virtual environments,
each with onnxruntime, numpy and a server: fastapi (with uvicorn), mlserver, litserve, bentoml, ray
(ray[serve]); one that is not there is left out. The client is bench_serve_client for all, the body
is JSON for all, and for Kiln binary too; each model runs on one thread for a request.
SERVE_SECONDS (2) is the time of a measurement, SERVE_ROUNDS (3) their number; medians are shown.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "server"))
from http2 import PREFACE, frame, head, infer_message, message  # noqa: E402
from serve_process import Server, binary_request  # noqa: E402
from onnx import TensorProto, helper, save  # noqa: E402

BUILD = os.path.abspath(sys.argv[1])
KILN = os.path.join(BUILD, "bin", "kiln")
SECONDS = os.environ.get("SERVE_SECONDS", "2")
ROUNDS = int(os.environ.get("SERVE_ROUNDS", "3"))
PEERS = ("fastapi", "mlserver", "litserve", "bentoml", "ray")


def write_request(path, model, body, headers=None):
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n" \
           f"Content-Length: {len(body)}\r\n"
    headers = headers or {"Content-Type": "application/json"}
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with open(path, "wb") as file:
        file.write(head.encode() + b"\r\n" + body)
    return path


def load(port, request, connections, seconds=SECONDS):
    """Answers a second, p50, p90, p99 in microseconds; None where one was no 200 or none came."""
    done = subprocess.run([os.path.join(BUILD, "bench", "bench_serve_client"), str(port), request,
                           str(connections), str(seconds)], capture_output=True, text=True,
                          timeout=120, check=False)
    figures = [float(word) for word in done.stdout.split()]
    return figures[:4] if done.returncode == 0 and figures[4] == 0 else None


def json_request(inputs):
    return json.dumps({"inputs": [
        {"name": name, "datatype": datatype, "shape": list(array.shape),
         "data": array.ravel().tolist()} for name, datatype, array in inputs]}).encode()


# --- beside an echo ---

def identity(path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "identity",
        [value("x", TensorProto.FLOAT, ["rows", 64])],
        [value("y", TensorProto.FLOAT, ["rows", 64])])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)


def alone(path, rows):
    """Microseconds of a run of the model by `kiln bench`, whose memory stays in the cache."""
    done = subprocess.run([KILN, "bench", path, "--shape", f"x={rows}x64", "--threads", "1",
                           "--json"], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)["latency_ms"]["median"] * 1e3


def run_times(server):
    """(requests, nanoseconds of their runs)"""
    stats = server.json("GET", "/v2/models/identity/stats")[1]["model_stats"][0]["inference_stats"]
    return stats["compute_infer"]["count"], stats["compute_infer"]["ns"]


def echo():
    with tempfile.TemporaryDirectory() as folder, \
            subprocess.Popen([os.path.join(BUILD, "bench", "bench_serve_echo")],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bare:
        bare_port = int(bare.stdout.readline())
        path = os.path.join(folder, "identity.onnx")
        identity(path)
        with Server(KILN, [folder, "--max-batch", "4096"]) as server:
            print("body, bytes   echo p50, us   kiln p50, us   difference of medians, us   "
                  "the model's run beside it, us: by the server's statistics, by kiln bench")
            for rows in (1, 16, 256, 2048):
                array = numpy.ones((rows, 64), "<f4")
                request = write_request(os.path.join(folder, "request"), "identity",
                                        *binary_request([("x", "FP32", array)]))
                pairs, runs = [], []
                for _ in range(15):
                    other = load(bare_port, request, 1, 0.4)
                    before = run_times(server)
                    pairs.append((other, load(server.port, request, 1, 0.4)))
                    count, nanoseconds = (b - a for a, b in zip(before, run_times(server)))
                    runs.append(nanoseconds / count / 1e3)
                medians = [statistics.median(side[1] for side in sides)
                           for sides in zip(*pairs)]
                print(f"{array.nbytes:11d} {medians[0]:14.1f} {medians[1]:14.1f} "
                      f"{medians[1] - medians[0]:27.1f} {statistics.median(runs):35.1f} "
                      f"{alone(path, rows):22.1f}")
        bare.stdin.close()


# --- gRPC beside HTTP ---

def exactly(link, size):
    data = bytearray(size)
    view, have = memoryview(data), 0
    while have < size:
        more = link.recv_into(view[have:])
        assert more, "the server has closed the connection"
        have += more
    return data


def by_http(link, request):
    link.sendall(request)
    found = link.recv(65536)
    size = int(re.search(rb"\r\nContent-Length: (\d+)", found).group(1))
    exactly(link, size + found.index(b"\r\n\r\n") + 4 - len(found))


class RpcRequest:
    """Its frames, in which the number of the stream alone changes."""

    def __init__(self, body):
        pieces = [body[i:i + 16384] for i in range(0, len(body), 16384)]
        frames = [head(1), *(frame(0, i == len(pieces) - 1, 1, piece)
                             for i, piece in enumerate(pieces))]
        frames.append(frame(8, 0, 0, len(body).to_bytes(4, "big")))  # room for the answer
        self.data = bytearray(b"".join(frames))
        self.places = [sum(map(len, frames[:i])) + 5 for i in range(len(frames) - 1)]
        self.found = memoryview(bytearray(2 * len(body) + 65536))

    def ask(self, link, stream):
        for place in self.places:
            self.data[place:place + 4] = stream.to_bytes(4, "big")
        link.sendall(self.data)
        have = at = 0
        while True:
            have += link.recv_into(self.found[have:])
            while have - at >= 9:
                size = int.from_bytes(self.found[at:at + 3], "big") + 9
                if size > have - at:
                    break
                if self.found[at + 3] == 1 and self.found[at + 4] & 1:  # the trailers
                    return
                at += size


class SharedMemory:
    """That the server is told of, as "r"."""

    def __init__(self, server, size):
        self.key = f"/kiln_bench_{os.getpid()}"
        with open("/dev/shm" + self.key, "wb") as file:
            file.truncate(size)
        assert server.json("POST", "/v2/systemsharedmemory/region/r/register",
                           {"key": self.key, "byte_size": size})[0] == 200

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.remove("/dev/shm" + self.key)


def shared_request(array):
    def place(offset):
        return {"shared_memory_region": "r", "shared_memory_byte_size": array.nbytes,
                "shared_memory_offset": offset}
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": list(array.shape),
                                   "parameters": place(0)}],
                       "outputs": [{"name": "y", "parameters": place(1 << 19)}]}).encode()
    return b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: localhost\r\n" \
        b"Content-Length: %d\r\n\r\n" % len(body) + body


def rpc():
    """Both clients are sockets of Python's that read each answer to its end."""
    with tempfile.TemporaryDirectory() as folder:
        identity(os.path.join(folder, "identity.onnx"))
        with Server(KILN, [folder, "--max-batch", "4096", "--grpc-port", "0",
                           "--shared-memory"]) as server, SharedMemory(server, 1 << 20), \
                socket.create_connection(("127.0.0.1", server.port)) as http, \
                socket.create_connection(("127.0.0.1", server.grpc_port)) as link:
            wide = frame(4, 0, 0, b"\0\4\x7f\xff\xff\xff") + frame(8, 0, 0, b"\x7f\0\0\0")
            link.sendall(PREFACE + wide)
            exactly(link, int.from_bytes(exactly(link, 9)[:3], "big"))  # its settings
            link.sendall(frame(4, 1, 0))
            stream = 1
            print("body, bytes   http p50, us   gRPC p50, us   shared memory p50, us   "
                  "processor of the server, us: http  gRPC  shared memory")
            for rows in (1, 16, 256, 2048):
                array = numpy.ones((rows, 64), "<f4")
                path = write_request(os.path.join(folder, "request"), "identity",
                                     *binary_request([("x", "FP32", array)]))
                with open(path, "rb") as file:
                    request = file.read()
                request_rpc = RpcRequest(message(infer_message("identity", "x", array)))
                shared = shared_request(array)
                times = {"http": [], "rpc": [], "shared": []}
                used = dict.fromkeys(times, 0)
                for _ in range(20):
                    for kind in times:
                        before = server.processor_seconds()
                        for _ in range(200):
                            begin = time.perf_counter()
                            if kind == "http":
                                by_http(http, request)
                            elif kind == "shared":
                                by_http(http, shared)
                            else:
                                request_rpc.ask(link, stream)
                                stream += 2
                            times[kind].append((time.perf_counter() - begin) * 1e6)
                        used[kind] += (server.processor_seconds() - before) * 1e6 / 4000
                print(f"{array.nbytes:11d} {statistics.median(times['http']):14.1f} "
                      f"{statistics.median(times['rpc']):14.1f} "
                      f"{statistics.median(times['shared']):23.1f} {used['http']:33.1f} "
                      f"{used['rpc']:5.1f} {used['shared']:14.1f}")


# --- beside others ---

class Peer:
    """Another server, in a process group of its own."""

    def __init__(self, kind, venv, model, folder):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        binary = os.path.join(venv, "bin")
        environment = {**os.environ, "PATH": binary + ":" + os.environ["PATH"],
                       "PYTHONPATH": HERE, "PEER_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
        command = [os.path.join(binary, "python"), os.path.join(HERE, "serve_peers.py"), kind,
                   model, str(self.port), "1"]
        if kind == "mlserver":
            settings = {"model-settings.json": {
                "name": "model", "implementation": "serve_peers.MlserverModel",
                "parameters": {"uri": model}},
                "settings.json": {"host": "127.0.0.1", "http_port": self.port, "grpc_port": 0,
                                  "metrics_port": self.port + 1, "debug": False,
                                  "metrics_endpoint": None, "parallel_workers": 0}}
            for name, document in settings.items():
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    json.dump(document, file)
            command = [os.path.join(binary, "mlserver"), "start", folder]
        self.log = open(os.path.join(folder, "log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(command, env=environment, cwd=folder, stdout=self.log,
                                        stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self, request):
        end = time.monotonic() + 90
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if load(self.port, request, 1, 0.2) is not None:
                    return True
            except (OSError, IndexError, subprocess.TimeoutExpired):
                pass
            time.sleep(0.5)
        return False

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(15)
                break
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        self.log.close()


def show(name, figures):
    cells = []
    for connections in (1, 8, 64):
        found = [figure for figure in figures[connections] if figure is not None]
        cells.append("-" if not found else "{:.0f} {:.2f} {:.2f}".format(
            statistics.median(figure[0] for figure in found),
            statistics.median(figure[1] for figure in found) / 1e3,
            statistics.median(figure[3] for figure in found) / 1e3))
    print(f"{name:14}" + " ".join(f"{cell:>24}" for cell in cells), flush=True)


def bare(path, inputs):
    """The most rows a second that two contexts run on their own: no server answers more."""
    name, _, array = inputs[0]
    shape = f"{name}=N" + "".join(f"x{dim}" for dim in array.shape[1:])
    done = subprocess.run([KILN, "bench", path, "--shape", shape, "--batches", "1,2,4,8",
                           "--contexts", "2", "--threads", "1", "--duration", SECONDS, "--json"],
                          capture_output=True, text=True, timeout=120, check=True)
    best = max(json.loads(done.stdout)["points"], key=lambda point: point["items_per_second"])
    print(f"the model alone, batches of {best['batch']}: {best['items_per_second']:.0f} rows/s",
          flush=True)


def measure(port, request):
    figures = {}
    for connections in (1, 8, 64):
        load(port, request, connections, 0.5)
        figures[connections] = [load(port, request, connections) for _ in range(ROUNDS)]
    return figures


def peers(models, venvs):
    random = numpy.random.default_rng(1)
    cases = [
        ("identity", None, [("x", "FP32", random.normal(size=(1, 64)).astype("<f4"))]),
        ("magika", os.path.join(models, "magika", "model.onnx"),
         [("bytes", "INT32", random.integers(0, 256, (1, 2048)).astype("<i4"))]),
        ("rapidocr cls", os.path.join(models, "rapidocr", "cls.onnx"),
         [("x", "FP32", random.normal(size=(1, 3, 48, 192)).astype("<f4"))])]
    for name, path, inputs in cases:
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(folder, "model.onnx")
            identity(model) if path is None else os.symlink(path, model)
            texts = write_request(os.path.join(folder, "json"), "model", json_request(inputs))
            binary = write_request(os.path.join(folder, "binary"), "model",
                                   *binary_request(inputs))
            print(f"\n{name}: answers/s, p50 ms, p99 ms at 1, 8, 64 connections; JSON of "
                  f"{os.path.getsize(texts)} bytes")
            bare(model, inputs)
            with Server(KILN, [model, "--threads", "1", "--contexts", "2"]) as server:
                show("kiln, JSON", measure(server.port, texts))
                show("kiln, binary", measure(server.port, binary))
            for kind in PEERS:
                venv = os.path.join(venvs, kind)
                if not os.path.exists(os.path.join(venv, "bin", "python")):
                    continue
                with tempfile.TemporaryDirectory() as scratch:
                    peer = Peer(kind, venv, os.path.realpath(model), scratch)
                    try:
                        if peer.wait(texts):
                            show(kind, measure(peer.port, texts))
                        else:
                            with open(peer.log.name, encoding="utf-8") as log:
                                print(f"{kind}: it does not answer: {log.read()[-600:]}")
                    finally:
                        peer.stop()


if sys.argv[2] in ("echo", "all"):
    echo()
if sys.argv[2] in ("rpc", "all"):
    rpc()
if sys.argv[2] not in ("echo", "rpc"):
    peers(os.path.abspath(sys.argv[3]), os.path.abspath(sys.argv[4]) if len(sys.argv) > 4 else "")
