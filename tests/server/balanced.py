#!/usr/bin/env python3
"""Three servers with one repository behind HAProxy, as docs/deploy/haproxy.cfg has it: one is
killed, one loads its model anew, one is stopped and started while tritonclient asks by HTTP and
gRPC.

    tests/server/balanced.py KILN

No request may be lost. Skipped where HAProxy or tritonclient is not here.

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import numpy

from serve_process import Server, linear, scratch_for, until, write

try:
    import tritonclient.grpc as rpc
    import tritonclient.http as web
except ImportError as error:
    print("skipped: no tritonclient here:", error)
    sys.exit(77)

KILN = os.path.abspath(sys.argv[1])
RECIPE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "deploy",
                      "haproxy.cfg")
ROWS = numpy.arange(8, dtype="<f4").reshape(2, 4)


def free_ports(count):
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def start(folder, ports):
    server = Server(KILN, [folder, "--port", str(ports[0]), "--grpc-port", str(ports[1])])
    assert server.port == ports[0], server.said
    return server


class Client(threading.Thread):
    """Asks again and again, and keeps what went wrong."""

    def __init__(self, library, port):
        super().__init__()
        self.library, self.port = library, port
        self.answered, self.failures, self.ends = 0, [], False

    def run(self):
        with self.library.InferenceServerClient(f"127.0.0.1:{self.port}") as client:
            given = self.library.InferInput("x", ROWS.shape, "FP32")
            given.set_data_from_numpy(ROWS)
            while not self.ends:
                try:
                    answer = client.infer("linear", [given]).as_numpy("y")
                    if self.answered == 0:
                        self.expected = answer
                    if not numpy.array_equal(answer, self.expected):
                        self.failures.append(answer)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                    self.failures.append(error)
                self.answered += 1


def write_recipe(path, pairs, front, front_rpc):
    with open(RECIPE, encoding="utf-8") as file:
        text = file.read().replace(":8000", f":{front}").replace(":9000", f":{front_rpc}")
    for i, (port, port_rpc) in enumerate(pairs):
        text = re.sub(rf"\b800{i + 1}\b", str(port), text)
        text = re.sub(rf"\b900{i + 1}\b", str(port_rpc), text)
    write(path, text)


def harm(folder, pairs, servers, served):
    """What happens to a replica in its life, while clients ask."""
    served()
    servers[0].stop(signal.SIGKILL)
    served()
    assert servers[1].json("POST", "/v2/repository/models/linear/load", {})[0] == 200
    served()
    servers[0] = start(folder, pairs[0])
    served()
    assert servers[2].stop() == 0
    served()
    servers[2] = start(folder, pairs[2])
    served()


def ask_through(front, front_rpc, harms):
    clients = [Client(web, front) for _ in range(4)] + [Client(rpc, front_rpc) for _ in range(2)]

    def served():
        goals = [client.answered + 30 for client in clients]
        until(lambda: all(client.answered >= goal for client, goal in zip(clients, goals)),
              lambda: [(client.answered, client.failures[:2]) for client in clients])

    for client in clients:
        client.start()
    try:
        harms(served)
    finally:
        for client in clients:
            client.ends = True
            client.join()
    for client in clients:
        print(client.library.__name__, client.answered, "answers,", len(client.failures),
              "failures", [str(failure) for failure in client.failures[:3]], flush=True)
    assert not any(client.failures for client in clients)


def main():
    if shutil.which("haproxy") is None:
        print("skipped: no haproxy here")
        sys.exit(77)
    with scratch_for(KILN) as scratch:
        folder, recipe = os.path.join(scratch, "models"), os.path.join(scratch, "haproxy.cfg")
        linear(os.path.join(folder, "linear", "1", "model.onnx"), 3.0)
        *ports, front, front_rpc = free_ports(8)
        pairs = [ports[0:2], ports[2:4], ports[4:6]]
        write_recipe(recipe, pairs, front, front_rpc)
        servers = [start(folder, pair) for pair in pairs]
        with subprocess.Popen(["haproxy", "-db", "-f", recipe]) as balancer:
            try:
                until(lambda: socket.socket().connect_ex(("127.0.0.1", front)) == 0, "no balancer")
                ask_through(front, front_rpc, lambda served: harm(folder, pairs, servers, served))
            finally:
                balancer.terminate()
                ends = [server.stop() for server in servers]
        assert ends == [0, 0, 0], ends


main()
